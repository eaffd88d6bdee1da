"""The report as a terminal table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Literal

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from broadaxe.printing import plain

if TYPE_CHECKING:
    from broadaxe.reports.schema import Amounts, Layer, Report

COLUMNS = ("MACs", "K", "WxA", "type", "l1", "exact", "offset", "asked", "width", "saved", "fold", "cycles")
SUMS = ("op", "shape", "proven sum", "partial sums", "observed", "tile", "bits", "counts", "LUT", "FF", "DSP", "BRAM18")
DISPENSABLE = ("saved", "l1", "op", "BRAM18", "FF", "DSP", "partial sums", "shape", "LUT", "MACs", "tile")
"""Columns that a narrow terminal goes without, the first ones first."""


class ReportTable:
    """Accumulators of every layer, for rich to print; `full` has shapes, intervals, margins and resources below."""

    def __init__(self, report: Report, full: bool = False) -> None:
        self.report, self.full = report, full

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        report = self.report
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
        unasked = {"asked"} if all(layer.budget is None for layer in report.layers) else set()
        yield from _table(report, COLUMNS, rows, unasked, options.max_width)
        if self.full:
            yield from self._sums(report, options.max_width)
        forms = Counter(r.form for r in report.requantizers)
        described = ", ".join(f"{count} x {form}" for form, count in forms.items()) or "none"
        checks = sum(r.comparisons for r in report.requantizers)
        yield f"requantizers: {described}, proven by {checks:,} exact comparisons"
        yield f"{report.macs:,} MACs a sample; {report.saved_bits} accumulator bits saved against the data-type bound"
        yield speed(report)
        words = sum(fifo.depth for fifo in report.fifos)
        yield f"{amounts(report.resources)}; {words:,} words in {len(report.fifos)} FIFOs (model)"

    def _sums(self, report: Report, width: int) -> RenderResult:
        """What sums reach, and what layers take."""
        rows = [
            (
                layer.op,
                "x".join(map(str, layer.shape)),
                held(layer, layer.lo, layer.hi),
                interval(*layer.prefix),
                "" if layer.observed is None else held(layer, layer.observed.lo, layer.observed.hi),
                "" if layer.tile is None or layer.inner is None else f"{layer.tile}: {interval(*layer.inner)}",
                "" if layer.margin_bits is None else str(layer.margin_bits),
                f"{layer.margin:,}",
                *(f"{count:,.0f}" for count in (layer.resources.lut, layer.resources.ff)),
                *(f"{count:,}" for count in (layer.resources.dsp, layer.resources.bram18)),
            )
            for layer in report.layers
        ]
        optional = {"observed", "tile", "bits"}
        empty = {name for name, *cells in zip(SUMS, *rows, strict=False) if name in optional and not any(cells)}
        seen = report.calibration
        yield (
            "what accumulators hold, their starts included: sums as proven, partial sums in any order"
            + (f", sums observed on {seen.samples:,} inputs of {seen.source}" if seen else "")
            + "; margin in bits below what was asked, and in counts up to the width"
        )
        yield from _table(report, SUMS, rows, empty, width, left=("op", "shape"))
        if seen is None:
            yield "no observed sums: compile with --calib DATA, or give this report --data DATA"


def held(layer: Layer, lo: Sequence[int], hi: Sequence[int]) -> str:
    """From the least to the largest of all channels' accumulators, for sums between these ends."""
    return interval(
        min(a + start for a, start in zip(lo, layer.starts, strict=True)),
        max(b + start for b, start in zip(hi, layer.starts, strict=True)),
    )


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
    unused: Collection[str],
    width: int,
    left: Collection[str] = (),
) -> RenderResult:
    """A row a layer; numbers to the right, the columns of `left` to the left, without those that do not fit."""
    names = ("layer", *columns)
    cells = [(layer.name, *row) for layer, row in zip(report.layers, rows, strict=True)]
    widest = {name: max(map(len, (name, *(row[at] for row in cells)))) for at, name in enumerate(names)}
    shown = [name for name in names if name not in unused]
    dropped = []
    for name in DISPENSABLE:
        if name in shown and sum(widest[n] + 2 for n in shown) > width:
            shown.remove(name)
            dropped.append(name)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    for name in shown:
        justify: Literal["left", "right"] = "left" if name in ("layer", *left) else "right"
        style = "bold" if name == "width" else None
        if name == "layer":
            table.add_column(name, no_wrap=True, overflow="ellipsis")
        else:
            table.add_column(name, justify=justify, no_wrap=True, min_width=widest[name], style=style)
    for row in cells:
        table.add_row(*(text for name, text in zip(names, row, strict=True) if name in shown))
    yield table
    if dropped:
        yield f"left out for want of width: {', '.join(dropped)}"


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


def text(report: Report, full: bool = False) -> str:
    """The table as plain text."""
    return plain(ReportTable(report, full))
