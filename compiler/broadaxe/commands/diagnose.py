"""`broadaxe diagnose`: where a quantized model loses."""

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


def diagnose(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="What `broadaxe quantize` takes.")],
    calib: Calibration,
    val: Annotated[Path, typer.Option(help="Rows to score on; with an array `labels` by accuracy.")],
    acc_bits: AccBits = None,
    weight_bits: WeightBits = None,
    act_bits: ActBits = None,
    input_bits: InputBits = None,
    tile: Tile = None,
    preset: Preset = None,
    method: Method = None,
    scales: Scales = None,
    config: Annotated[Optional[Path], typer.Option(help="YAML file with settings of quantize.")] = None,
    bits: Annotated[bool, typer.Option(help="Try one more bit of P, M and N in every layer.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Quantize a model and show where it loses: noise and score of every layer, and what one more bit there gives.

    Example: broadaxe diagnose model.onnx --calib calib.npz --val val.npz --weight-bits 4 --acc-bits 12
    """
    from broadaxe.evaluation import read_rows
    from broadaxe.quantization.config import quant_config
    from broadaxe.quantization.diagnose import diagnose as run
    from broadaxe.quantization.table import DiagnosisTable

    given = {
        "acc_bits": acc_bits,
        "weight_bits": weight_bits,
        "act_bits": act_bits,
        "input_bits": input_bits,
        "tile": tile,
        "preset": preset,
        "method": method,
        "scales": scales,
    }
    chosen = chosen_settings(quant_config, config, given)
    loaded, rows = opened_rows(model, calib)
    with working() as progress:
        result = run(model, rows, read_rows(val, loaded), chosen, bits=bits, progress=progress)
    if json:
        typer.echo(result.model_dump_json(indent=1))
        return
    results().print(DiagnosisTable(result))
