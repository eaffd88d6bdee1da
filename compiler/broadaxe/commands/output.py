"""Where a command's words go: results to standard output, messages and progress to standard error."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

messages = Console(stderr=True, highlight=False)
PROGRAM = "broadaxe"
WIDTH_OF_A_PIPE = 130
"""Characters of a table that no terminal shows."""


def results() -> Console:
    """Where tables go: as wide as the terminal, wide enough where there is none."""
    return Console() if sys.stdout.isatty() else Console(width=WIDTH_OF_A_PIPE)


def asked() -> str:
    """The command line, as a shell would take it again."""
    return shlex.join([PROGRAM, *sys.argv[1:]])


@contextmanager
def working() -> Iterator[Callable[[str], None]]:
    """What is being done, on standard error: one line that is rewritten or, where that is no terminal, a line a stage."""
    if messages.is_terminal:
        with messages.status("") as status:
            yield lambda text: status.update(f"{text} ...")
        return
    last = ""

    def said(text: str) -> None:
        nonlocal last
        stage = re.sub(r"\d+", "#", text)  # counts that rise within a stage are left out
        if stage != last:
            typer.echo(f"{text} ...", err=True)
        last = stage

    yield said
