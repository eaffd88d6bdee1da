"""`broadaxe simulate`: the generated C++ on real inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadaxe.commands.options import BuildFolder, LoadedModel, filled
from broadaxe.commands.output import working


def simulate(
    build: BuildFolder,
    data: Annotated[Path, typer.Option(help=".npz, .npy or folder of .npy: real inputs, batch first.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT.npz", help="File for the outputs.")],
    exact: Annotated[
        bool, typer.Option("--exact", help="Use the vendor's ap_int headers: slower, same result.")
    ] = False,
    loaded: LoadedModel = None,
) -> None:
    """Run the generated C++ on real inputs.

    Example: broadaxe simulate build --data x.npz -o y.npz
    """
    from broadaxe.csim import Mode
    from broadaxe.data import read_data, write_data
    from broadaxe.verification import simulate as run

    design = filled(build, loaded)
    arrays = read_data(data, list(dict.fromkeys(i.tensor for i in design.lowered.inputs)))
    with working() as progress:
        progress("compiling and running the C simulation")
        outputs = run(design, arrays, mode=Mode.EXACT if exact else Mode.NATIVE)
    write_data(output, outputs)
    shapes = ", ".join(f"{name} {value.shape}" for name, value in outputs.items())
    typer.echo(f"wrote {output}: {shapes}")
    typer.echo(f"next: broadaxe report {build}")
