"""`broadaxe diagnose`: where a quantized model loses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
from broadaxe.commands.output import give, show, working


def diagnose(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="What `broadaxe quantize` takes.")],
    calib: Calibration,
    val: Annotated[Path, typer.Option(metavar="DATA", help="Rows to score on; with an array `labels` by accuracy.")],
    acc_bits: AccBits = None,
    weight_bits: WeightBits = None,
    act_bits: ActBits = None,
    input_bits: InputBits = None,
    tile: Tile = None,
    preset: Preset = None,
    method: Method = None,
    scales: Scales = None,
    config: SettingsFile = None,
    bits: Annotated[bool, typer.Option(help="Try one more bit of P, M and N in every layer.")] = True,
    json: Json = False,
) -> None:
    """Show where a quantized model loses accuracy, layer by layer.

    Noise and score of every layer, and what one more bit there would give. It takes what quantize takes, and rows to score
    on; nothing is written.

    Examples:
        broadaxe diagnose float.onnx --calib c.npz --val v.npz --acc-bits 12
        broadaxe diagnose float.onnx --calib c.npz --val v.npz --acc-bits 12 --no-bits
        broadaxe diagnose float.onnx --calib c.npz --val v.npz --json > loss.json

    Next:
        broadaxe quantize float.onnx ... with more bits where they help most
    """
    from broadaxe.configuration.settings import configured
    from broadaxe.quantization.config import QuantConfig

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
    chosen = configured(QuantConfig, config, given)
    with working() as progress:
        progress("reading model and data")
        from broadaxe.evaluation import read_rows
        from broadaxe.quantization.diagnose import diagnose as run
        from broadaxe.quantization.table import DiagnosisTable

        loaded, rows = opened_rows(model, calib)
        result = run(model, rows, read_rows(val, loaded), chosen, bits=bits, progress=progress)
    if json:
        give(result.model_dump_json(indent=1))
        return
    show(DiagnosisTable(result))
