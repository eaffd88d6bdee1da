"""`broadaxe dataflow`: cycles, resources and FIFOs of a build."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from broadaxe.commands import complete
from broadaxe.commands.options import BuildFolder, Json
from broadaxe.commands.output import give, say, show, typed, working
from broadaxe.errors import RequestError


def dataflow(
    build: BuildFolder,
    run: Annotated[
        bool, typer.Option("--run", help="Run the C++ with FIFOs of these depths, and compare cycles and results.")
    ] = False,
    least: Annotated[bool, typer.Option("--least", help="With --run: depths that are just deep enough.")] = False,
    depth: Annotated[
        Optional[list[str]],
        typer.Option(
            "--depth",
            metavar="FIFO=N",
            help="With --run: another depth of a FIFO; may be given again.",
            autocompletion=complete.depths,
        ),
    ] = None,
    frames: Annotated[int, typer.Option(metavar="N", help="With --run: frames, back to back.")] = 3,
    json: Json = False,
) -> None:
    """Show cycles, resources and FIFO depths; run the C++ with them.

    --run sends frames back to back through the generated C++ with FIFOs of these depths. Outputs are compared with the
    reference and cycles with the model; where a depth is too small, the circle of processes that wait is named.

    Examples:
        broadaxe dataflow build
        broadaxe dataflow build --run --frames 5
        broadaxe dataflow build --run --least --depth s_quant0=20

    Exit codes:
        0 done
        1 the run locked up, differs from the reference, or is later than promised
        3 g++ is missing

    Next:
        broadaxe verify build
    """
    from broadaxe.reports.dataflow import DataflowTable
    from broadaxe.reports.reading import read_report

    content = read_report(build)
    if (least or depth) and not run:
        raise RequestError("--least and --depth: change nothing without --run; add --run")
    if not run:
        if json:
            give(content.as_json())
        else:
            show(DataflowTable(content))
            say(f"next: broadaxe dataflow {typed(build)} --run")
        return
    from json import dumps

    from rich.text import Text

    from broadaxe.build import load
    from broadaxe.rehearsal import rehearse

    with working() as progress:
        result = rehearse(
            load(build, progress=progress),
            frames=frames,
            depths="least" if least else "declared",
            changed=dict(_depth(text) for text in depth or []),
            progress=progress,
        )
    if json:
        give(dumps(result.as_dict(), indent=1))
    else:
        show(Text(str(result), style="green" if result.passed else "bold red"))
    if not result.passed:
        raise typer.Exit(1)
    say(f"next: broadaxe verify {typed(build)}")


def _depth(text: str) -> tuple[str, int]:
    name, _, count = text.rpartition("=")
    if not name or not count.isdecimal():
        raise RequestError(f"--depth {text}: is not FIFO=N; write for example s_quant0=20")
    return name, int(count)
