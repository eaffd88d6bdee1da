"""The dataflow as tables: what each process does with its cycles and takes of the device, and what each FIFO holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from broadaxe.reports.terminal import amounts, speed

if TYPE_CHECKING:
    from broadaxe.reports.schema import Report


class DataflowTable:
    """Processes and FIFOs, for rich to print."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        report = self.report
        yield f"{report.top}: processes; LUT, FF, DSP and BRAM are models"
        rows = [
            (
                k.name,
                k.kind,
                *(f"{count:,}" for count in (k.trips, k.fill, k.start, k.end)),
                *(f"{count:,.0f}" for count in (k.resources.lut, k.resources.ff)),
                *(f"{count:,}" for count in (k.resources.dsp, k.resources.bram18)),
            )
            for k in report.kernels
        ]
        yield _table(("process", "kind", "trips", "fill", "start", "end", "LUT", "FF", "DSP", "BRAM18"), rows, 2)
        yield "FIFOs; words in a frame; least depth without deadlock; depth at full rate, as declared"
        fifos = [
            (f.name, f.reader, *(f"{count:,}" for count in (f.bits, f.words, f.least, f.depth))) for f in report.fifos
        ]
        yield _table(("FIFO", "reader", "bits", "words", "least", "depth"), fifos, 2)
        yield speed(report)
        yield f"{amounts(report.resources)} (model)"


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]], names: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    for position, column in enumerate(columns):
        if position < names:
            table.add_column(column, no_wrap=True, overflow="ellipsis")
        else:
            widest = max(len(text) for text in (column, *(row[position] for row in rows)))
            table.add_column(column, justify="right", no_wrap=True, min_width=widest)
    for row in rows:
        table.add_row(*row)
    return table
