"""A verification for a terminal: what agrees, and in colour whether all of it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

if TYPE_CHECKING:
    from broadaxe.verification import Verification


class VerificationLines:
    """The lines of a verification, for rich to print; the last is the verdict."""

    def __init__(self, verification: Verification) -> None:
        self.verification = verification

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        *lines, verdict = str(self.verification).splitlines()
        for line in lines:
            yield Text(line)
        yield Text(verdict, style="green" if self.verification.ok else "bold red")
