"""`broadaxe audit`: the accumulators of a FINN or hls4ml design."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from broadaxe.commands.options import InputTypes, Json, typed_inputs
from broadaxe.commands.output import give, say, show, working


def audit(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A QONNX or FINN model.")],
    hls4ml: Annotated[
        Optional[Path],
        typer.Option(metavar="CONFIG.yml", help="hls4ml configuration; default: what the model declares."),
    ] = None,
    inputs: InputTypes = None,
    data: Annotated[
        Optional[Path], typer.Option(metavar="DATA", help="Real inputs that are tried first; as for verify.")
    ] = None,
    output: Annotated[
        Optional[Path], typer.Option("-o", "--output", metavar="WITNESS.npz", help="File for an input that overflows.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(metavar="N", min=0, help="Of the search for inputs, for each layer behind the first.")
    ] = 10.0,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of that search.")] = 0,
    json: Json = False,
) -> None:
    """Check the accumulators that a FINN or hls4ml design declares.

    Each is proven wide enough, or an input is shown that overflows it. Accumulators are those that the model declares, or with
    --hls4ml those of a configuration.

    Examples:
        broadaxe audit finn_model.onnx
        broadaxe audit model.onnx --hls4ml config.yml -o witness.npz
        broadaxe audit model.onnx --hls4ml config.yml --data test.npz --seconds 60

    Exit codes:
        0 every accumulator is proven
        1 one overflows or may overflow
        2 the request is wrong

    Next:
        broadaxe export model.onnx --finn -o sized.onnx
    """
    from json import dumps

    from broadaxe.auditing.audit import audit as run
    from broadaxe.auditing.table import AuditTable
    from broadaxe.data import check_output, write_data

    types = typed_inputs(inputs)
    if output is not None:
        check_output(output, data)
    with working() as progress:
        result = run(model, hls4ml, inputs=types, data=data, seconds=seconds, seed=seed, progress=progress)
    if output is not None and result.witness:
        write_data(output, result.witness)
    if json:
        give(dumps(result.as_dict(), indent=1))
    else:
        show(AuditTable(result))
        if output is not None:
            say(f"wrote {output}" if result.witness else f"{output} not written: no input is known to overflow")
    if not result.ok:
        raise typer.Exit(1)
