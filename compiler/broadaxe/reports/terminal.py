"""The report as a terminal table."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

if TYPE_CHECKING:
    from broadaxe.reports.model import Amounts, Report

NARROW = 90
LEFT_OUT = ("saved", "l1")
"""Columns that a narrow terminal goes without."""
COLUMNS = ("MACs", "K", "WxA", "type", "l1", "exact", "offset", "width", "saved", "fold", "cycles")


class ReportTable:
    """Accumulators of every layer, for rich to print."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        report = self.report
        rows = [
            (
                f"{layer.macs:,}",
                str(layer.depth),
                f"{layer.weight_bits}x{layer.input_bits}",
                *map(str, (layer.datatype_bits, layer.l1_bits, layer.exact_bits, layer.offset_bits)),
                str(layer.width) if layer.inner_bits is None else f"{layer.inner_bits}+{layer.width}",
                str(layer.saved_bits),
                f"{layer.pe}x{layer.simd}",
                f"{layer.cycles:,}",
            )
            for layer in report.layers
        ]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
        table.add_column("layer", no_wrap=True, overflow="ellipsis")
        narrow = options.max_width < NARROW
        for name, *column in zip(COLUMNS, *rows, strict=True):
            if not (narrow and name in LEFT_OUT):
                widest = max(len(text) for text in (name, *column))
                style = "bold" if name == "width" else None
                table.add_column(name, justify="right", no_wrap=True, min_width=widest, style=style)
        for layer, cells in zip(report.layers, rows, strict=True):
            shown = (text for name, text in zip(COLUMNS, cells, strict=True) if not (narrow and name in LEFT_OUT))
            table.add_row(layer.name, *shown)
        yield f"{report.top}: accumulator bits by bound, width as proven, fold PE x SIMD"
        yield table
        forms = Counter(r.form for r in report.requantizers)
        described = ", ".join(f"{count} x {form}" for form, count in forms.items()) or "none"
        checks = sum(r.comparisons for r in report.requantizers)
        saved = sum(layer.saved_bits for layer in report.layers)
        yield f"requantizers: {described}, proven by {checks:,} exact comparisons"
        yield f"{report.macs:,} MACs a sample; {saved} accumulator bits saved against the data-type bound"
        yield speed(report)
        words = sum(fifo.depth for fifo in report.fifos)
        yield f"{amounts(report.resources)}; {words:,} words in {len(report.fifos)} FIFOs (model)"


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
