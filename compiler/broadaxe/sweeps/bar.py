"""How far a sweep is: a bar on a terminal, a line for each run elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from broadaxe.sweeps.sweep import Status


@contextmanager
def watching(console: Console, *, live: bool, quiet: bool = False) -> Iterator[Callable[[Status], None]]:
    """What to call with each status; `live` where somebody watches who can see a line change."""
    if quiet:
        yield lambda _: None
        return
    if not live:
        yield lambda status: console.print(_plain(status), markup=False, soft_wrap=True)
        return
    columns = (
        *(BarColumn(bar_width=24), MofNCompleteColumn()),
        *(TextColumn("{task.fields[pace]}"), TextColumn("{task.description}")),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task, began = bar.add_task("", total=None, pace=""), time.monotonic()

        def show(status: Status) -> None:
            nonlocal began
            if status.done <= status.started_with:
                began = time.monotonic()
            pace = _pace(status, time.monotonic() - began)
            text = escape(status.text)
            bar.update(task, total=status.total or None, completed=status.done, description=text, pace=pace)

        yield show


def _plain(status: Status) -> str:
    return str(status) if status.done > status.started_with else f"{status} ..."


def _pace(status: Status, seconds: float) -> str:
    """Runs a minute, time left, runs refused."""
    new = status.done - status.started_with
    refused = f" {status.failed} refused" if status.failed else ""
    if new < 1 or seconds <= 0:
        return refused.strip()
    left = round((status.total - status.done) * seconds / new)
    clock = f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
    return f"{60 * new / seconds:.3g}/min {clock} left{refused}"
