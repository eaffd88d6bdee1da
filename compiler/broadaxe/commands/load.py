"""`broadaxe load`: parameters of another model for a design."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadaxe.commands.options import BuildFolder, Json
from broadaxe.commands.output import give, say, typed, working


def load(
    build: BuildFolder,
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A QONNX model of the same architecture.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PARAMETERS.bin", help="File to write.")],
    json: Json = False,
) -> None:
    """Make the parameters that load another model into a design.

    The design is one that `broadaxe compile --weights runtime` made; the model is checked against its accumulator budgets
    first. PARAMETERS.bin fills the design's memories, and PARAMETERS.json beside it says what the integers of its ports mean
    then.

    Examples:
        broadaxe load build retrained.onnx -o parameters.bin
        broadaxe load build retrained.onnx -o parameters.bin --json

    Exit codes:
        0 done
        2 the model is of another architecture, or a layer is beyond its budget

    Next:
        broadaxe verify build --load retrained.onnx
        broadaxe simulate build --load retrained.onnx --data x.npz -o y.npz
    """
    from json import dumps

    from broadaxe.data import check_apart
    from broadaxe.loading import load_parameters, write_parameters

    check_apart(output, model)
    with working() as progress:
        loaded = load_parameters(build, model, progress=progress)
    beside = write_parameters(loaded, output)
    words = 0 if loaded.parameters is None else len(loaded.parameters)
    if json:
        give(dumps({"wrote": [str(output), str(beside)], "words": words}, indent=1))
    say(f"wrote {output}: {words:,} words of 64 bits, all within the budgets; {beside}: what the ports' integers mean")
    say(f"next: broadaxe simulate {typed(build)} --load {typed(model)} --data x.npz -o y.npz")
