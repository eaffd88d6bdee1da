"""`broadaxe explain`: why one accumulator has the width it has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from broadaxe.commands import complete
from broadaxe.commands.options import BuildFolder, Json
from broadaxe.commands.output import give, show, working


def explain(
    build: BuildFolder,
    layer: Annotated[
        str,
        typer.Argument(
            metavar="LAYER",
            help="Its name in the report, such as conv0, or the model's node.",
            autocompletion=complete.layers,
        ),
    ],
    channel: Annotated[
        Optional[int], typer.Option(metavar="N", help="Output channel, from 0; default: the widest.")
    ] = None,
    witness: Annotated[
        Optional[Path],
        typer.Option(metavar="OUT.npz", help="File for inputs that take the channel to both ends of its sum."),
    ] = None,
    run: Annotated[
        bool, typer.Option("--run", help="Run the layer's C++ on them, as declared and with one bit less.")
    ] = False,
    json: Json = False,
) -> None:
    """Say why an accumulator has its width, in plain words.

    The sum term by term, every bound beside it, the inputs that take it to both ends, and what one bit less would cost.

    Examples:
        broadaxe explain build conv1
        broadaxe explain build conv1 --channel 3 --run
        broadaxe explain build conv1 --channel 3 --witness ends.npz

    Exit codes:
        0 done
        1 with --run: the C++ does not do what is said of it
        2 there is no such build, layer or channel
        3 with --run: g++ is missing

    Next:
        broadaxe report build
    """
    from rich.text import Text

    from broadaxe.reports.explain import explain as why

    with working() as progress:
        found = why(build, layer, channel, witness=witness, run=run, progress=progress)
    if json:
        give(found.as_json())
    else:
        show(Text(str(found)))
    if found.run is not None and not found.run.holds:
        raise typer.Exit(1)
