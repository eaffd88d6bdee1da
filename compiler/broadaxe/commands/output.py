"""Where a command's words go: results to standard output, messages and progress to standard error.

Colours follow rich: only on a terminal that has them, never with NO_COLOR, in a pipe with FORCE_COLOR.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import typer

from broadaxe.commands import progress as stages
from broadaxe.errors import DataWarning, RequestError
from broadaxe.printing import WIDTH_OF_A_PIPE

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PROGRAM = "broadaxe"


@dataclass(frozen=True)
class Manner:
    """How much a command says.

    Attributes:
        quiet: errors, and the results that were asked for.
        verbose: a log of stages, versions and settings as well.
        json: results are one JSON document.
    """

    quiet: bool = False
    verbose: bool = False
    json: bool = False


_NORMAL = Manner()
_manner: ContextVar[Manner] = ContextVar("manner", default=_NORMAL)


def manner() -> Manner:
    """How much the command that runs says."""
    return _manner.get()


def begin(quiet: bool, verbose: bool, json: bool = False, more: bool = False) -> None:
    """Say so much from here on; `more`: on top of what was asked before."""
    before = manner() if more else _NORMAL
    wanted = replace(before, quiet=quiet or before.quiet, verbose=verbose or before.verbose, json=json)
    if wanted.quiet and wanted.verbose:
        raise RequestError(f"{PROGRAM}: --quiet and --verbose are opposites; give one of both")
    _manner.set(wanted)


def _console(stderr: bool) -> Console:
    from rich.console import Console

    class Stream(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    stream = sys.stderr if stderr else sys.stdout
    return Stream(
        stderr=stderr,
        width=None if stream.isatty() else WIDTH_OF_A_PIPE,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        # names in models are shown as they are
        highlight=False,
        markup=False,
        emoji=False,
    )


def _terminal(stderr: bool) -> bool:
    """Whether somebody watches who can see a line change; FORCE_COLOR makes no terminal of a pipe."""
    stream = sys.stderr if stderr else sys.stdout
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def watched() -> bool:
    """Whether somebody watches progress."""
    return _terminal(stderr=True) and not manner().verbose


def results() -> Console:
    """Where tables go: as wide as the terminal, wide enough where there is none."""
    return _console(stderr=False)


def messages() -> Console:
    """Where errors and progress go."""
    return _console(stderr=True)


def show(result: RenderableType) -> None:
    """A result that was asked for, for people."""
    results().print(result)


def give(document: str) -> None:
    """A result that was asked for, for machines: the only thing on standard output."""
    typer.echo(document, nl=not document.endswith("\n"))


def say(text: RenderableType) -> None:
    """What was done, what was written and what comes next: nothing that --quiet keeps, and no part of a JSON document."""
    if manner().quiet or manner().json:
        return
    if isinstance(text, str):
        typer.echo(text)
    else:
        show(text)


def warn(text: str) -> None:
    """What may be wrong with what was asked, on standard error."""
    from rich.text import Text

    if not manner().quiet:
        messages().print(Text.assemble(("warning:", "yellow"), f" {text}"), soft_wrap=True)


def print_error(text: str) -> None:
    """An error as one line."""
    from rich.text import Text

    messages().print(Text.assemble(("error:", "bold red"), f" {text}"), soft_wrap=True)


def typed(place: str | os.PathLike[str]) -> str:
    """A path in a command to type, as a shell takes it."""
    return shlex.quote(os.fspath(place))


def asked() -> str:
    """The command line, as a shell would take it again."""
    return shlex.join([PROGRAM, *sys.argv[1:]])


@contextmanager
def working() -> Iterator[Callable[[str], None]]:
    """What is being done, on standard error: a line that is rewritten or, where that is no terminal, a line a stage."""
    if manner().quiet:
        yield lambda _: None
    elif manner().verbose:
        with stages.lines(_line) as progress, stages.logged(progress) as both:
            yield both
    elif watched():
        with stages.live(messages()) as progress:
            yield progress
    else:
        with stages.lines(_line) as progress:
            yield progress


def _line(text: str) -> None:
    typer.echo(text, err=True)


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Warnings about data as lines of ours, each once; those of other packages are not for users of a command."""
    said: set[str] = set()

    def shown(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        if issubclass(category, DataWarning) and str(message) not in said:
            said.add(str(message))
            warn(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", DataWarning)
        warnings.showwarning = shown
        yield


@contextmanager
def logging_to_stderr() -> Iterator[None]:
    """The log of --verbose; without it nothing is logged."""
    if not manner().verbose:
        yield
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    stages.logger.addHandler(handler)
    before = stages.logger.level
    stages.logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        stages.logger.removeHandler(handler)
        stages.logger.setLevel(before)
