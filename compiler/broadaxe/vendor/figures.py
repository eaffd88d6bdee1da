"""Figures and tables as the tools print them. What is no figure is None or an error, never a number."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from broadaxe.errors import RequestError
from broadaxe.frontend.wiring import shown
from broadaxe.vendor.results import Span

LARGEST_REPORT = 64 << 20
"""Bytes. The summaries of the largest designs stay below a tenth of it."""
OPEN = frozenset(("", "-", "?", "undef", "NA", "N/A", "x"))
"""How the tools write that a figure is not known."""
MINUS_ONE = frozenset((2**32 - 1, 2**64 - 1))
"""What they write where they mean -1."""


def malformed(where: str, what: str) -> RequestError:
    """The error for a report that is not what the tool writes."""
    return RequestError(f"{where}: {what}; the file is damaged or of another tool, run the step again")


def text_of(path: Path) -> str:
    """A report's text; RequestError where it cannot be read or is too large to be one."""
    try:
        if path.stat().st_size > LARGEST_REPORT:
            raise malformed(str(path), f"holds {path.stat().st_size} bytes, no report has more than {LARGEST_REPORT}")
        return path.read_bytes().decode("utf-8", errors="replace").replace("\r\n", "\n")
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror}); name a report of the HLS tool") from None


def count(text: str, where: str) -> int | None:
    """A whole number, or None."""
    stripped = text.strip()
    if stripped in OPEN:
        return None
    if not re.fullmatch(r"[0-9]{1,20}", stripped):
        raise malformed(where, f"{shown(stripped)!r} is not a number")
    value = int(stripped)
    return None if value in MINUS_ONE else value


def span(text: str, where: str) -> Span:
    """`8`, or `1 ~ 256`."""
    lo, tilde, hi = text.partition("~")
    if not tilde:
        both = count(text, where)
        return Span(both, both)
    return ordered(Span(count(lo, where), count(hi, where)), where)


def ordered(found: Span, where: str) -> Span:
    """The same, if its ends are in order."""
    if found.lo is not None and found.hi is not None and found.lo > found.hi:
        raise malformed(where, f"least {found.lo} is above largest {found.hi}")
    return found


def nanoseconds(text: str, where: str) -> float | None:
    """`4.049 ns`, or `4.049`."""
    stripped = text.strip().removesuffix("ns").strip()
    if stripped in OPEN:
        return None
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", stripped):
        raise malformed(where, f"{shown(stripped)!r} is no period in ns")
    return float(stripped)


@dataclass(frozen=True)
class Table:
    """A table drawn with `+`, `-` and `|`; a column's name is the text of all header cells above it."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def column(self, name: str, where: str) -> int:
        """The position of a column."""
        if self.columns.count(name) != 1:
            raise malformed(where, f"the table has no column {name!r} but {shown(', '.join(self.columns))}")
        return self.columns.index(name)


def table(lines: list[str], start: int, where: str) -> tuple[Table, int]:
    """The table whose first border is at or below a line, and the line behind it. A table that does not end is an error."""
    at = start
    while at < len(lines) and not lines[at].strip():
        at += 1
    if at >= len(lines) or not _is_border(lines[at]):
        raise malformed(f"{where}, line {at + 1}", "a table should be here")
    first = at
    indent = len(lines[at]) - len(lines[at].lstrip())
    border = lines[at].rstrip()
    edges = [i for i, ch in enumerate(border) if ch == "+"]
    header: list[list[str]] = []
    body: list[tuple[str, ...]] = []
    at += 1
    while at < len(lines) and lines[at][indent : indent + 1] == "|":
        header.append(_spanning(lines[at], edges, f"{where}, line {at + 1}"))
        at += 1
    if at == len(lines) or lines[at].rstrip() != border or not header:
        raise malformed(f"{where}, line {at + 1}", "the table's header does not end")
    at += 1
    empty = at < len(lines) and not lines[at].strip()
    while at < len(lines) and not empty:
        line = lines[at].rstrip()
        if line == border:
            if at + 1 == len(lines) or lines[at + 1][indent : indent + 1] != "|":
                break
        else:
            body.append(_cells(line, edges, f"{where}, line {at + 1}"))
        at += 1
    if at == len(lines):
        raise malformed(f"{where}, line {len(lines)}", f"the table of line {first + 1} does not end")
    columns = tuple(" ".join(" ".join(level[i] for level in header).split()) for i in range(len(edges) - 1))
    return Table(columns, tuple(body)), at + 1


def _is_border(line: str) -> bool:
    return re.fullmatch(r"\s*\+(-+\+)+\s*", line) is not None


def _spanning(line: str, edges: list[int], where: str) -> list[str]:
    """For each column the text of the header cell above it, which may span several."""
    if len(line.rstrip()) != edges[-1] + 1 or line.rstrip()[-1:] != "|":
        raise malformed(where, "the table's row does not end where its border does")
    bars = [e for e in edges if line[e] == "|"]
    cells = []
    for left in edges[:-1]:
        lo = max(b for b in bars if b <= left)
        cells.append(line[lo + 1 : min(b for b in bars if b > left)].strip())
    return cells


def _cells(line: str, edges: list[int], where: str) -> tuple[str, ...]:
    if len(line) != edges[-1] + 1 or any(line[e] != "|" for e in edges):
        raise malformed(where, "the table's row does not fit its border")
    return tuple(line[a + 1 : b].strip() for a, b in pairwise(edges))
