"""How far long work is: a line that is rewritten where somebody watches a terminal, else a line for what takes long.

Work calls progress with a text, such as `running 64 of 512 inputs, conv3 in numpy` or `csynth: a line of its log`. Texts that
count the same, or have the same in front of a colon, are one stage; `64 of 512` is how far it is.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from rich.console import Console

Progress: TypeAlias = Callable[[str], None]
LASTING = 2.0
"""Seconds after which a stage is worth a line."""
AGAIN = 60.0
"""Seconds after which a stage that goes on is told again, if it counts."""
_NUMBER = r"\d+(?:,\d{3})*"
_COUNTS = re.compile(rf"(?:\w+ )?({_NUMBER}) of (?:at most )?({_NUMBER})(?: \w+)?")
logger = logging.getLogger("broadaxe")


def stage_of(text: str) -> str:
    """What two texts of one stage have in common: what it counts, or else what stands before a colon."""
    found = _COUNTS.search(text)
    return re.sub(_NUMBER, "#", found[0] if found else text.partition(": ")[0])


def counts_in(text: str) -> tuple[int, int] | None:
    """How much is done, of how much."""
    found = _COUNTS.search(text)
    return (int(found[1].replace(",", "")), int(found[2].replace(",", ""))) if found else None


@contextmanager
def live(console: Console) -> Iterator[Progress]:
    """One line on a terminal: the stage, a bar where it counts, and the seconds since it began."""
    from rich.markup import escape
    from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    class CountColumn(ProgressColumn):
        """A bar, where there is something to count."""

        bar = BarColumn(bar_width=24)

        def render(self, task: Task) -> object:  # type: ignore[override]
            return Text("") if task.total is None else self.bar.render(task)

    columns = (SpinnerColumn("line"), TextColumn("{task.description}"), CountColumn(), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task, stage = bar.add_task("", total=None), ""

        def said(text: str) -> None:
            nonlocal stage
            done, total = counts_in(text) or (0, None)
            if stage_of(text) != stage:
                stage = stage_of(text)
                bar.reset(task, total=total)
                bar.tasks[0].total = total
            bar.update(task, description=escape(text), completed=done, total=total)

        yield said


@contextmanager
def lines(write: Callable[[str], None]) -> Iterator[Progress]:
    """A line for each stage that lasts, and again now and then while it goes on."""
    lock, ended = Lock(), Event()
    text, stage, told, due = "", "", "", float("inf")

    def tell() -> None:
        nonlocal told, due
        if text != told:
            write(f"{text} ...")
        told, due = text, time.monotonic() + AGAIN

    def watch() -> None:
        while not ended.wait(0.1):
            with lock:
                if time.monotonic() >= due:
                    tell()

    def said(new: str) -> None:
        nonlocal text, stage, due
        with lock:
            text = new
            if stage_of(new) != stage:
                stage, due = stage_of(new), time.monotonic() + LASTING
                if LASTING <= 0:
                    tell()

    watching = Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield said
    finally:
        ended.set()
        watching.join()


@contextmanager
def logged(progress: Progress) -> Iterator[Progress]:
    """The same, and when a stage ends how long it took goes to the log."""
    text, began = "", time.monotonic()

    def end() -> None:
        if text:
            logger.info("%s: %.2f s", text, time.monotonic() - began)

    def said(new: str) -> None:
        nonlocal text, began
        if stage_of(new) != stage_of(text):
            end()
            began = time.monotonic()
        text = new
        progress(new)

    try:
        yield said
    finally:
        end()
