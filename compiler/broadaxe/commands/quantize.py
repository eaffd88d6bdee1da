"""`broadaxe quantize`: weights under an accumulator budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from broadaxe.commands.options import (
    AccBits,
    ActBits,
    Calibration,
    InputBits,
    Json,
    Method,
    Preset,
    Scales,
    SettingsFile,
    Tile,
    WeightBits,
    opened_rows,
)
from broadaxe.commands.output import give, say, typed, working


def quantize(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A float ONNX model, or a QONNX or QDQ model.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT.onnx", help="Model to write; OUT.json says how.")
    ],
    calib: Calibration,
    acc_bits: AccBits = None,
    tile: Tile = None,
    weight_bits: WeightBits = None,
    act_bits: ActBits = None,
    input_bits: InputBits = None,
    preset: Preset = None,
    method: Method = None,
    scales: Scales = None,
    val: Annotated[
        Optional[Path],
        typer.Option(
            metavar="DATA", help="Rows to choose by, like --calib; with an array `labels` they are scored by accuracy."
        ),
    ] = None,
    search: Annotated[
        bool, typer.Option("--search", help="Choose weight and activation bits that lose least on --val.")
    ] = False,
    max_drop: Annotated[
        Optional[float],
        typer.Option(
            metavar="POINTS", help="Choose the cheapest bits that lose at most so many percent points on --val."
        ),
    ] = None,
    config: SettingsFile = None,
    json: Json = False,
) -> None:
    """Quantize weights so that no accumulator can overflow its bits.

    The result is a QONNX model whose weights are proven to fit, and beside it OUT.json, the record of what was asked, chosen
    and reached. A float model is quantized as a whole; one that has quantizers keeps them and gets new weights.

    Examples:
        broadaxe quantize float.onnx --calib c.npz --acc-bits 16 -o q.onnx
        broadaxe quantize float.onnx --calib c.npz --acc-bits 14 --tile 64 -o q.onnx
        broadaxe quantize float.onnx --calib c.npz --val v.npz --max-drop 1 -o q.onnx

    Exit codes:
        0 done
        2 no weights fit the budget, or the request is wrong
        3 torch is missing

    Next:
        broadaxe compile q.onnx -o build
        broadaxe diagnose float.onnx ... where the accuracy is not enough
    """
    from broadaxe.configuration.settings import configured
    from broadaxe.evaluation import read_rows
    from broadaxe.quantization.config import QuantConfig
    from broadaxe.quantization.quantize import check_target
    from broadaxe.quantization.quantize import quantize as run
    from broadaxe.quantization.table import RecordTable

    given = {
        "acc_bits": acc_bits,
        "tile": tile,
        "weight_bits": weight_bits,
        "act_bits": act_bits,
        "input_bits": input_bits,
        "preset": preset,
        "method": method,
        "scales": scales,
        "search": search or None,
        "max_drop": max_drop,
    }
    chosen = configured(QuantConfig, config, given)
    with working() as progress:
        progress("reading model and data")
        from broadaxe.evaluation import read_rows
        from broadaxe.quantization.quantize import check_target
        from broadaxe.quantization.quantize import quantize as run
        from broadaxe.quantization.table import RecordTable

        check_target(output)
        loaded, rows = opened_rows(model, calib)
        validation = read_rows(val, loaded) if val else None
        result = run(model, rows, chosen, validation=validation, progress=progress)
    result.save(output)
    if json:
        give(result.record.model_dump_json(indent=1))
    say(RecordTable(result.record))
    say(f"wrote {output} and {output.with_suffix('.json')}")
    say(f"next: broadaxe compile {typed(output)} -o build")
