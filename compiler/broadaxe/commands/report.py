"""`broadaxe report`: the accumulators of a build."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from broadaxe.commands.options import DATA, BuildFolder, Json
from broadaxe.commands.output import give, say, show, working


def report(
    build: BuildFolder,
    data: Annotated[
        Optional[Path],
        typer.Option(metavar="DATA", help=f"Real inputs, to show the sums that they lead to: {DATA}."),
    ] = None,
    json: Json = False,
) -> None:
    """Show the accumulator of every layer, and why it is so wide.

    Bounds, proven width, margins, bits saved against the data types, and what it takes of the device. It is read from the
    build folder once its files are found unchanged; nothing is computed again but the sums of --data.

    Examples:
        broadaxe report build
        broadaxe report build --data test.npz
        broadaxe report build --json > report.json

    Exit codes:
        0 done
        1 a file of the build has changed since it was compiled
        2 there is no build

    Next:
        broadaxe verify build
        broadaxe dataflow build
    """
    from broadaxe.reports.reading import read_report
    from broadaxe.reports.terminal import ReportTable

    content = read_report(build)
    if data is not None:
        from broadaxe.reports.model import report_of

        with working() as progress:
            content = report_of(build, data, progress=progress)
    if json:
        give(content.as_json())
        return
    show(ReportTable(content, full=True))
    say(f"next: broadaxe verify {build}")
