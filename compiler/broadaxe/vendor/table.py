"""What a tool measured, beside the model, for rich to print."""

from __future__ import annotations

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from broadaxe.vendor.cosim import Outcome


class OutcomeTable:
    """Steps, co-simulation, resources, and the figures of each kernel that the model has as well."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        outcome, reports = self.outcome, self.outcome.reports
        yield f"{outcome.top}: {', '.join(outcome.steps) or 'reports'} passed"
        for row in reports.cosim:
            if row.passed:
                yield (
                    f"co-simulation ({row.rtl}): equals the reference; latency {_cycles(row.latency.hi)},"
                    f" interval {_cycles(row.interval.hi)}"
                )
        if reports.synthesis is not None:
            used, there = reports.synthesis.top.usage, reports.synthesis.available
            shares = [
                f"{name} {_share(a, b)}"
                for name, a, b in (
                    ("LUT", used.lut, there.lut),
                    ("FF", used.ff, there.ff),
                    ("DSP", used.dsp, there.dsp),
                    ("BRAM18", used.bram18, there.bram18),
                    ("URAM", used.uram, there.uram),
                )
                if a is not None
            ]
            yield (
                f"csynth ({reports.synthesis.version}, {reports.synthesis.part}): {', '.join(shares)}; clock"
                f" {reports.synthesis.top.estimated_ns} ns of {reports.synthesis.target_ns} ns"
            )
        if reports.implementation is not None:
            built = reports.implementation
            used = built.usage
            yield f"after {built.stage}: {used.lut} LUT, {used.ff} FF, {used.dsp} DSP; clock {built.achieved_ns} ns"
        if outcome.figures:
            table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
            table.add_column("kernel", no_wrap=True, overflow="ellipsis")
            for name in ("figure", "model", "measured", "ratio"):
                table.add_column(name, justify="left" if name == "figure" else "right", no_wrap=True)
            for d in outcome.figures:
                table.add_row(
                    d.kernel, d.figure, f"{d.model:,g}", f"{d.measured:,g}", "" if d.ratio is None else f"{d.ratio:.2f}"
                )
            yield table
        if outcome.slow:
            yield f"not at II = 1: {', '.join(outcome.slow)}"


def _cycles(value: int | None) -> str:
    return "not measured" if value is None else f"{value:,} cycles"


def _share(used: int, there: int | None) -> str:
    return f"{used:,} ({100 * used / there:.0f} %)" if there else f"{used:,}"
