"""The frontier of a sweep as a table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from broadaxe.printing import plain
from broadaxe.sweeps.config import Run

if TYPE_CHECKING:
    from broadaxe.sweeps.sweep import Sweep


class FrontierTable:
    """A rich renderable: a line for each width, a column for each method."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        sweep = self.sweep
        tested = " / test" if sweep.test else ""
        chosen = ", chosen by validation" if sweep.test else ""
        yield (
            f"{sweep.metric} in % on validation{tested} rows, of the best run{chosen} whose widest accumulator is proven to"
            f" fit P bits"
        )
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
        table.add_column("P", justify="right")
        methods = list(dict.fromkeys(point.method for point in sweep.frontier))
        for method in methods:
            table.add_column(method, justify="right", no_wrap=True)
        cells: dict[tuple[int, str], str] = {}
        for point in sweep.frontier:
            scores = f"{point.validation:.2f}"
            if sweep.test:
                scores += f" / {sweep.test[point.run]:.2f}"
            cells[(point.p, point.method)] = f"{scores} {_bits(point.run)}".rstrip()
        for p in sorted({p for p, _ in cells}):
            table.add_row(str(p), *(cells.get((p, method), "-") for method in methods))
        yield table
        floats = " / ".join(f"{score:.2f}" for score in sweep.floats.values())
        refused = sum(bool(row["error"]) for row in sweep.rows)
        yield f"the model as given: {floats}; {len(sweep.rows)} runs" + (f", {refused} refused" if refused else "")
        for warning in sweep.warnings:
            yield f"warning: {warning}"


def _bits(run: Run) -> str:
    return "".join(f"{letter}{bits}" for letter, bits in (("W", run.m), ("A", run.n)) if bits is not None)


def text(sweep: Sweep) -> str:
    """The table as plain text."""
    return plain(FrontierTable(sweep))
