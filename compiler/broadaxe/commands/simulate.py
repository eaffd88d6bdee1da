"""`broadaxe simulate`: the generated C++ on real inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadaxe.commands.options import DATA, BuildFolder, Json, LoadedModel, filled
from broadaxe.commands.output import give, say, typed, working


def simulate(
    build: BuildFolder,
    data: Annotated[Path, typer.Option(metavar="DATA", help=f"Real inputs: {DATA}.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT.npz", help="File for the outputs.")],
    exact: Annotated[
        bool, typer.Option("--exact", help="Use the vendor's ap_int headers: slower, same result.")
    ] = False,
    loaded: LoadedModel = None,
    json: Json = False,
) -> None:
    """Run the generated C++ on real inputs.

    OUT.npz holds the model's outputs by their names, as the hardware would compute them, in the model's reals.

    Examples:
        broadaxe simulate build --data x.npz -o y.npz
        broadaxe simulate build --data x.npz -o y.npz --exact
        broadaxe simulate build --load retrained.onnx --data x.npz -o y.npz

    Exit codes:
        0 done
        1 a file of the build has changed since it was compiled
        3 g++ is missing

    Next:
        broadaxe report build
    """
    from json import dumps

    from broadaxe.data import check_output

    check_output(output, data, loaded)
    with working() as progress:
        progress("reading the build")
        from broadaxe.data import read_data, write_data
        from broadaxe.verification import simulate as run

        design = filled(build, loaded, progress)
        arrays = read_data(data, list(dict.fromkeys(i.tensor for i in design.lowered.inputs)))
        outputs = run(design, arrays, exact=exact, progress=progress)
    write_data(output, outputs)
    if json:
        made = {name: {"shape": value.shape, "type": str(value.dtype)} for name, value in outputs.items()}
        give(dumps({"wrote": str(output), "outputs": made}, indent=1))
    shapes = ", ".join(f"{name} {value.shape}" for name, value in outputs.items())
    say(f"wrote {output}: {shapes}")
    say(f"next: broadaxe report {typed(build)}")
