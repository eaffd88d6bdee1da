"""What is wrong with settings, as lines for a user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from broadaxe.errors import RequestError, one_line

KeyPath: TypeAlias = tuple[str | int, ...]
MOST_LINES = 20


@dataclass(frozen=True)
class Complaint:
    """One mistake.

    Attributes:
        path: keys from the outermost to the one that is wrong; none for a file as a whole.
        text: what is wrong, with the value; what is allowed.
        line: in the file, where it is not that of the key.
    """

    path: KeyPath
    text: str
    line: int | None = None


class SettingsError(RequestError):
    """Settings are wrong: as text the first mistake, `lines` has all of them."""

    def __init__(self, lines: Sequence[str], complaints: Sequence[Complaint] = ()) -> None:
        super().__init__(lines[0])
        kept = [one_line(line) for line in dict.fromkeys(lines)]
        if len(kept) > MOST_LINES:
            kept = [*kept[:MOST_LINES], f"... and {len(kept) - MOST_LINES} more mistakes; mend these first"]
        self._lines = tuple(kept)
        self.complaints = tuple(complaints)

    @property
    def lines(self) -> tuple[str, ...]:
        """A line for each mistake, the first of them the exception's text."""
        return self._lines
