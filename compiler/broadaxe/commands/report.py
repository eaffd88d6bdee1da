"""`broadaxe report`: the accumulators of a build."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from broadaxe.commands.options import BuildFolder
from broadaxe.commands.output import results, working


def report(
    build: BuildFolder,
    data: Annotated[
        Optional[Path],
        typer.Option(help="Real inputs, .npz, .npy or a folder of .npy: show the sums that they lead to."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Show the accumulator of every layer: bounds, proven width, margins, bits saved, what it takes.

    Example: broadaxe report build --json
    """
    from broadaxe.reports.reading import read_report
    from broadaxe.reports.terminal import ReportTable

    content = read_report(build)
    if data is not None:
        from broadaxe.reports.model import report_of

        with working() as progress:
            content = report_of(build, data, progress=progress)
    if json:
        typer.echo(content.as_json(), nl=False)
        return
    results().print(ReportTable(content, full=True))
    typer.echo(f"next: broadaxe verify {build}")
