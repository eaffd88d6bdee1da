"""Results as plain text, as commands print them where there is no terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDTH_OF_A_PIPE = 240
"""Characters of a table that no terminal shows: more than any has."""


def plain(content: RenderableType, width: int = WIDTH_OF_A_PIPE) -> str:
    """What a console without colours shows of a table; names in it are text, never markup."""
    from rich.console import Console

    console = Console(width=width, color_system=None, force_terminal=False, markup=False, highlight=False)
    with console.capture() as capture:
        console.print(content)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()).strip("\n")
