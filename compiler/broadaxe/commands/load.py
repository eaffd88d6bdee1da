"""`broadaxe load`: parameters of another model for a design."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadaxe.commands.options import BuildFolder
from broadaxe.commands.output import working


def load(
    build: BuildFolder,
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A QONNX model of the same architecture.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PARAMETERS.bin", help="File to write.")],
) -> None:
    """Check another model against a design's budgets and write the parameters that load it.

    Example: broadaxe load build retrained.onnx -o parameters.bin
    """
    from broadaxe.loading import load_parameters, write_parameters

    with working() as progress:
        loaded = load_parameters(build, model, progress=progress)
    beside = write_parameters(loaded, output)
    words = 0 if loaded.parameters is None else len(loaded.parameters)
    typer.echo(
        f"wrote {output}: {words:,} words of 64 bits, all within the budgets; {beside}: what the ports' integers mean"
    )
    typer.echo(f"next: broadaxe simulate {build} --load {model} --data x.npz -o y.npz")
