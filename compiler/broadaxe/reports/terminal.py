"""The report as a terminal table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Literal

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

if TYPE_CHECKING:
    from broadaxe.reports.schema import Amounts, Layer, Report

NARROW = 90
LEFT_OUT = ("saved", "l1")
"""Columns that a narrow terminal goes without."""
COLUMNS = ("MACs", "K", "WxA", "type", "l1", "exact", "offset", "asked", "width", "saved", "fold", "cycles")


class ReportTable:
    """Accumulators of every layer, for rich to print; `full` has shapes, intervals, margins and resources below."""

    def __init__(self, report: Report, full: bool = False) -> None:
        self.report, self.full = report, full

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        report = self.report
        left_out = {*LEFT_OUT} if options.max_width < NARROW else set()
        if all(layer.budget is None for layer in report.layers):
            left_out.add("asked")
        rows = [
            (
                f"{layer.macs:,}",
                str(layer.depth),
                f"{layer.weight_bits}x{layer.input_bits}",
                *map(str, (layer.datatype_bits, layer.l1_bits, layer.exact_bits, layer.offset_bits)),
                _asked(layer),
                str(layer.width) if layer.inner_bits is None else f"{layer.inner_bits}+{layer.width}",
                str(layer.saved_bits),
                f"{layer.pe}x{layer.simd}",
                f"{layer.cycles:,}",
            )
            for layer in report.layers
        ]
        yield f"{report.top}: accumulator bits by bound, width as proven, fold PE x SIMD"
        yield _table(report, COLUMNS, rows, left_out)
        if self.full:
            yield from self._sums(report)
        forms = Counter(r.form for r in report.requantizers)
        described = ", ".join(f"{count} x {form}" for form, count in forms.items()) or "none"
        checks = sum(r.comparisons for r in report.requantizers)
        yield f"requantizers: {described}, proven by {checks:,} exact comparisons"
        yield f"{report.macs:,} MACs a sample; {report.saved_bits} accumulator bits saved against the data-type bound"
        yield speed(report)
        words = sum(fifo.depth for fifo in report.fifos)
        yield f"{amounts(report.resources)}; {words:,} words in {len(report.fifos)} FIFOs (model)"

    def _sums(self, report: Report) -> RenderResult:
        """What sums reach, and what layers take."""
        rows = [
            (
                layer.op,
                "x".join(map(str, layer.shape)),
                interval(min(layer.lo), max(layer.hi)),
                interval(*layer.prefix),
                "" if layer.observed is None else interval(min(layer.observed.lo), max(layer.observed.hi)),
                "" if layer.tile is None or layer.inner is None else f"{layer.tile}: {interval(*layer.inner)}",
                "" if layer.margin_bits is None else str(layer.margin_bits),
                f"{layer.margin:,}",
                *(f"{count:,.0f}" for count in (layer.resources.lut, layer.resources.ff)),
                *(f"{count:,}" for count in (layer.resources.dsp, layer.resources.bram18)),
            )
            for layer in report.layers
        ]
        columns = ("op", "shape", "proven sum", "partial sums", "observed", "tile", "bits", "counts")
        empty = {name for name, *column in zip(columns, *rows, strict=False) if not any(column)} if rows else set()
        seen = report.calibration
        yield (
            "sums as proven, partial sums in any order from the start on"
            + (f", sums observed on {seen.samples:,} inputs of {seen.source}" if seen else "")
            + "; margin in bits below what was asked, and in counts up to the width"
        )
        yield _table(report, (*columns, "LUT", "FF", "DSP", "BRAM18"), rows, empty, left=("op", "shape"))
        if seen is None:
            yield "no observed sums: compile with --calib DATA, or give this report --data DATA"


def interval(lo: int, hi: int) -> str:
    return f"{lo:,} .. {hi:,}"


def _asked(layer: Layer) -> str:
    """Bits of the budget; of tiles with a + for the outer sum, which none asks for."""
    if layer.budget is None:
        return "-"
    return f"{layer.budget.bits}+" if layer.budget.of == "tile" else str(layer.budget.bits)


def _table(
    report: Report,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    left_out: Collection[str],
    left: Collection[str] = (),
) -> Table:
    """A row a layer; numbers to the right, the columns of `left` to the left."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column("layer", no_wrap=True, overflow="ellipsis")
    for name, *column in zip(columns, *rows, strict=True):
        if name not in left_out:
            widest = max(len(text) for text in (name, *column))
            style = "bold" if name == "width" else None
            justify: Literal["left", "right"] = "left" if name in left else "right"
            table.add_column(name, justify=justify, no_wrap=True, min_width=widest, style=style)
    for layer, cells in zip(report.layers, rows, strict=True):
        shown = (text for name, text in zip(columns, cells, strict=True) if name not in left_out)
        table.add_row(layer.name, *shown)
    return table


def speed(report: Report) -> str:
    """Interval, rate and latency, by model."""
    milliseconds = report.latency * report.clock_ns / 1e6
    return (
        f"{report.interval:,} cycles a frame, set by {report.slowest}: {report.frames_per_second:,.0f} frames/s at"
        f" {report.clock_ns:g} ns; latency {report.latency:,} cycles, {milliseconds:,.3g} ms (model)"
    )


def amounts(spent: Amounts) -> str:
    """LUT, FF, DSP, BRAM18 and URAM; blocks that are not there are left out."""
    blocks = {"DSP": spent.dsp, "BRAM18": spent.bram18, "URAM": spent.uram}
    some = [f"{count:,} {name}" for name, count in blocks.items() if count]
    return ", ".join([f"{spent.lut:,.0f} LUT", f"{spent.ff:,.0f} FF", *some])


def text(report: Report, width: int = 110) -> str:
    """The table as plain text."""
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(ReportTable(report))
    return capture.get().rstrip()
