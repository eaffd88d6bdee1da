"""`broadaxe dataflow`: cycles, resources and FIFOs of a build."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from broadaxe.commands.options import BuildFolder
from broadaxe.commands.output import results, working
from broadaxe.errors import RequestError


def dataflow(
    build: BuildFolder,
    run: Annotated[
        bool, typer.Option("--run", help="Run the C++ with FIFOs of these depths, and compare cycles and results.")
    ] = False,
    least: Annotated[bool, typer.Option("--least", help="With --run: depths that are just deep enough.")] = False,
    depth: Annotated[
        Optional[list[str]], typer.Option("--depth", metavar="FIFO=N", help="With --run: another depth of a FIFO.")
    ] = None,
    frames: Annotated[int, typer.Option(help="With --run: frames, back to back.")] = 3,
    json: Annotated[bool, typer.Option("--json", help="Print the report, which holds both tables, as JSON.")] = False,
) -> None:
    """Show every kernel's cycles and resources and every FIFO's depths; --run runs the C++ that way.

    Example: broadaxe dataflow build --run --least --depth s_quant0=20
    """
    from broadaxe.reports.dataflow import DataflowTable
    from broadaxe.reports.reading import read_report

    content = read_report(build)
    if json and run:
        raise RequestError("--json: prints the report, --run what came of a run; give one of both")
    if (least or depth) and not run:
        raise RequestError("--least and --depth: change nothing without --run; add --run")
    if not run:
        if json:
            typer.echo(content.as_json(), nl=False)
        else:
            results().print(DataflowTable(content))
            typer.echo(f"next: broadaxe dataflow {build} --run")
        return
    from broadaxe.build import load
    from broadaxe.rehearsal import rehearse

    with working() as progress:
        result = rehearse(
            load(build),
            frames=frames,
            depths="least" if least else "declared",
            changed=dict(_depth(text) for text in depth or []),
            progress=progress,
        )
    typer.echo(str(result))
    if not result.passed:
        raise typer.Exit(1)
    typer.echo(f"next: broadaxe verify {build}")


def _depth(text: str) -> tuple[str, int]:
    name, _, count = text.rpartition("=")
    if not name or not count.isdecimal():
        raise RequestError(f"--depth {text}: is not FIFO=N; write for example s_quant0=20")
    return name, int(count)
