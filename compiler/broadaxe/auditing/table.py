"""The audit as a terminal table. Names from the model are shown as they are, never read as markup."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from broadaxe.auditing.declared import number
from broadaxe.ops.importing import printable
from broadaxe.printing import plain

if TYPE_CHECKING:
    from broadaxe.auditing.audit import Audit, AuditedAccumulator

STYLES = {"proven": "green", "overflows": "bold red", "may overflow": "yellow", "rounds": "yellow"}
COLUMNS = ("declared", "by", "sum", "needs", "spare", "verdict")


class AuditTable:
    """Declared accumulators and verdicts, for rich to print."""

    def __init__(self, audit: Audit) -> None:
        self.audit = audit

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        audit = self.audit
        yield Text(f"{audit.model}: accumulators as {audit.tool} declares them")
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
        table.add_column("layer", overflow="fold")
        for name in COLUMNS:
            table.add_column(name, overflow="fold", justify="right" if name == "spare" else "left")
        for entry in audit.accumulators:
            word = "rounds" if entry.verdict == "proven" and entry.rounds else entry.verdict
            cells = (
                entry.layer,
                printable(entry.declared),
                entry.where,
                f"[{number(entry.least)}, {number(entry.greatest)}]",
                entry.needed,
                str(entry.spare_bits),
            )
            table.add_row(*map(Text, cells), Text(word, style=STYLES[word]))
        yield table
        for entry in audit.accumulators:
            for line in explained(entry):
                yield Text(line)
        for layer, reason in audit.unjudged:
            yield Text(f"{layer}: not judged: {reason}")
        for layer in audit.undeclared:
            yield Text(f"{layer}: declares no accumulator")
        for name in audit.unknown:
            yield Text(f"{name}: is in the configuration, but nothing in the model or in hls4ml has this name")
        yield Text(summary(audit))


def explained(entry: AuditedAccumulator) -> Iterator[str]:
    """What was found, in sentences; nothing for an accumulator that is proven."""
    found = entry.overflow
    if found is not None:
        channel = f"channel {found.channel}" + (f" at {list(found.position)}" if found.position else "")
        sums = f"{channel}: the sum {number(found.true_sum)} becomes {number(found.held)}"
        if found.inputs:
            yield f"{entry.layer}: a network input overflows it. {sums}"
            if found.change is not None:
                change = found.change
                element = f"{printable(change.output)} {list(change.index)}"
                yield f"  output {element} becomes {change.becomes:.6g}, it was {change.was:.6g}"
            else:
                yield f"  outputs: {found.remark or 'none changes for this input'}"
        else:
            yield f"{entry.layer}: inputs inside the layer's proven bounds overflow it. {sums}"
            yield f"  no input of the network is known to do so{f': {found.remark}' if found.remark else ''}"
    if entry.rounds:
        yield f"{entry.layer}: {entry.rounds}"
    for note in entry.notes:
        yield f"{entry.layer}: {note}"


def summary(audit: Audit) -> str:
    """Counts of verdicts, and what could be saved."""
    proven = [entry for entry in audit.accumulators if entry.ok]
    spare = sum(entry.spare_bits for entry in proven)
    counts = {"overflow": "overflows", "may overflow": "may overflow"}
    parts = [f"{len(proven)} of {len(audit.accumulators)} accumulators proven, {spare} bits to spare in them"]
    for said, verdict in counts.items():
        number_of = sum(entry.verdict == verdict for entry in audit.accumulators)
        if number_of:
            parts.append(f"{number_of} {said}{'s' if number_of == 1 and said == 'overflow' else ''}")
    rounding = sum(entry.verdict == "proven" and bool(entry.rounds) for entry in audit.accumulators)
    if rounding:
        parts.append(f"{rounding} cannot overflow but round{'s' if rounding == 1 else ''}")
    if audit.unjudged:
        parts.append(f"{len(audit.unjudged)} not judged")
    return "; ".join(parts)


def text(audit: Audit) -> str:
    """The table as plain text."""
    return plain(AuditTable(audit))
