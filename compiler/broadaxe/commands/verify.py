"""`broadaxe verify`: everything about a build, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from broadaxe.commands.options import BuildFolder, LoadedModel, filled
from broadaxe.commands.output import working


def verify(
    build: BuildFolder,
    data: Annotated[
        Optional[Path], typer.Option(help=".npz, .npy or folder of .npy: real inputs, batch first.")
    ] = None,
    loaded: LoadedModel = None,
) -> None:
    """Check proofs and certificate, then that reference, onnxruntime and C simulation agree bit for bit on every node.

    Example: broadaxe verify build --data test.npz
    """
    from broadaxe.data import read_data
    from broadaxe.verification import verify as run

    design = filled(build, loaded)
    arrays = read_data(data, list(dict.fromkeys(i.tensor for i in design.lowered.inputs))) if data else None
    with working() as progress:
        result = run(design, arrays, progress=progress)
    typer.echo(str(result))
    if not result.ok:
        raise typer.Exit(1)
    typer.echo(f"next: broadaxe simulate {build} --data x.npz -o y.npz")
