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
    Method,
    Preset,
    Scales,
    Tile,
    WeightBits,
    chosen_settings,
    opened_rows,
)
from broadaxe.commands.output import results, working


def quantize(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A QONNX model, or a float ONNX model.")],
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
        typer.Option(help="Rows to choose by, like --calib; with an array `labels` they are scored by accuracy."),
    ] = None,
    search: Annotated[
        bool, typer.Option("--search", help="Choose weight and activation bits that lose least on --val.")
    ] = False,
    max_drop: Annotated[
        Optional[float],
        typer.Option(help="Choose the cheapest bits that lose at most so many percent points on --val."),
    ] = None,
    config: Annotated[Optional[Path], typer.Option(help="YAML file with settings; options here go on top.")] = None,
) -> None:
    """Quantize weights so that no accumulator can overflow the bits it is given.

    Example: broadaxe quantize model.onnx --calib calib.npz --weight-bits 4 --acc-bits 14 -o model_q.onnx
    """
    from broadaxe.evaluation import read_rows
    from broadaxe.quantization.config import quant_config
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
    chosen = chosen_settings(quant_config, config, given)
    check_target(output)
    loaded, rows = opened_rows(model, calib)
    with working() as progress:
        validation = read_rows(val, loaded) if val else None
        result = run(model, rows, chosen, validation=validation, progress=progress)
    result.save(output)
    results().print(RecordTable(result.record))
    typer.echo(f"wrote {output} and {output.with_suffix('.json')}")
    typer.echo(f"next: broadaxe compile {output} -o build")
