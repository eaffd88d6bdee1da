"""`broadaxe compare`: two builds side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from broadaxe.commands.options import DATA, Json
from broadaxe.commands.output import give, show, working


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A build folder; changes count from it.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another build folder.")],
    data: Annotated[
        Optional[Path],
        typer.Option(metavar="DATA", help=f"Real inputs of both, with `labels` for accuracy: {DATA}."),
    ] = None,
    json: Json = False,
) -> None:
    """Show two builds side by side: bits, cycles, resources, accuracy.

    Settings that differ, every layer with its widths, cycles and resources, and the totals, B against A. It reads the two
    reports; with --data both designs run on the inputs, bit for bit, and outputs and accuracy are compared as well. That both
    are the same function is said only where it is proven.

    Examples:
        broadaxe compare build8 build12
        broadaxe compare build8 build12 --data test.npz
        broadaxe compare build8 build12 --json > comparison.json

    Exit codes:
        0 done, whatever differs
        1 a file of a build has changed since it was compiled
        2 there is no such build, or the data fit neither

    Next:
        broadaxe explain build8 conv1
    """
    from broadaxe.reports.compare import compare as run

    with working() as progress:
        found = run(a, b, data, progress=progress)
    if json:
        give(found.as_json())
        return
    from broadaxe.reports.comparison_table import ComparisonTable

    show(ComparisonTable(found))
