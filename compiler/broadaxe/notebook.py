"""Results in notebooks: the lines and tables that a result prints, as HTML; what prints text alone keeps its spacing.

What a result shows here is what it prints, so that there is one place that decides on it: its table for a terminal. Every
text is escaped, whatever a model's file put into it, and long tables are cut in the middle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleRenderable
from rich.table import Table
from rich.text import Text

from broadaxe.printing import plain
from broadaxe.templating import templates

ROWS = 200
"""Of a table; of a longer one the first and the last half of them."""
LINES = 100
LONGEST = 1000
"""Characters of a cell or line."""
WIDTH = 500
"""Characters of the console that a table is asked for: columns that a terminal has no room for are there."""


@dataclass(frozen=True)
class _Column:
    title: str
    number: bool


@dataclass(frozen=True)
class _Part:
    """Lines, `spaced` as they are or not, or a table; `left_out` rows are missing behind the first `before`."""

    lines: tuple[str, ...] = ()
    spaced: bool = False
    columns: tuple[_Column, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    left_out: int = 0
    before: int = 0


def html(result: object) -> str:
    """A result as HTML: of what rich can print its lines and tables, else the lines of its text."""
    if hasattr(result, "__rich_console__"):
        console = Console(width=WIDTH, color_system=None)
        parts = list(_parts(result.__rich_console__(console, console.options)))
    else:
        parts = [_Part(lines=_some_lines([_plain(line) for line in str(result).splitlines()]), spaced=True)]
    return templates().get_template("notebook/result.html.jinja").render(parts=parts)


def _parts(content: Iterable[object]) -> Iterator[_Part]:
    lines: list[str] = []
    for item in content:
        if isinstance(item, Table):
            if lines:
                yield _Part(lines=_some_lines(lines))
            lines = []
            yield _table(item)
        else:
            lines.extend(_plain(item).splitlines())
    if lines:
        yield _Part(lines=_some_lines(lines))


def _some_lines(lines: list[str]) -> tuple[str, ...]:
    if len(lines) <= LINES:
        return tuple(lines)
    return (*lines[: LINES - 1], f"{len(lines) - LINES + 1:,} more lines; print shows all of them")


def _table(table: Table) -> _Part:
    columns = tuple(_Column(_plain(c.header), c.justify == "right") for c in table.columns)
    rows = list(zip(*(map(_plain, column.cells) for column in table.columns), strict=True))
    left_out = max(0, len(rows) - ROWS)
    before = ROWS // 2
    kept = rows[:before] + rows[before + left_out :]
    return _Part(columns=columns, rows=tuple(kept), left_out=left_out, before=before)


def _plain(item: object) -> str:
    if isinstance(item, Text):
        text = item.plain
    elif isinstance(item, ConsoleRenderable):
        text = plain(item, WIDTH)
    else:
        text = str(item)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
