"""`broadaxe report`: the accumulators of a build."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from broadaxe.commands.options import DATA, BuildFolder, Json
from broadaxe.commands.output import give, say, show, typed, working
from broadaxe.errors import RequestError


def report(
    build: BuildFolder,
    data: Annotated[
        Optional[Path],
        typer.Option(metavar="DATA", help=f"Real inputs, to show the sums that they lead to: {DATA}."),
    ] = None,
    html: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE.html", help="Write one page with everything, which works without a network."),
    ] = None,
    sweep: Annotated[
        Optional[Path], typer.Option(metavar="SWEEP", help="With --html: plot the sweep in this folder, too.")
    ] = None,
    json: Json = False,
) -> None:
    """Show the accumulator of every layer, and why it is so wide.

    Bounds, proven width, margins, bits saved against the data types, and what it takes of the device. It is read from the
    build folder once its files are found unchanged; nothing is computed again but the sums of --data.
    The page of --html shows all of it: graph, channels, intervals, witnesses, dataflow, proofs; it needs no network.

    Examples:
        broadaxe report build
        broadaxe report build --data test.npz
        broadaxe report build --html report.html
        broadaxe report build --html report.html --sweep sweep
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

    if sweep is not None and html is None:
        raise RequestError("--sweep: changes nothing without --html; give --html FILE.html, too")
    content = read_report(build)
    if data is not None:
        from broadaxe.reports.model import report_of

        with working() as progress:
            content = report_of(build, data, progress=progress)
    if html is not None:
        from broadaxe.reports.html import write_html

        with working() as progress:
            size = write_html(build, html, content, sweep=sweep, progress=progress)
        say(f"wrote {html}: {size / 1e6:.1f} MB, certificate accepted; open it in a browser")
        if not json:
            return
    if json:
        give(content.as_json())
        return
    show(ReportTable(content, full=True))
    say(f"next: broadaxe verify {typed(build)}")
