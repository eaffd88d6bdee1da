"""Running a case: what it raises, from which places of the product the words come, and what it leaves behind."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

from broadaxe.configuration.complaints import Complaint
from broadaxe.errors import BroadaxeError

from . import Case
from .sites import PACKAGE, Site, makers, sites

_made: list[tuple[BroadaxeError, list[Site]]] = []
_complaints: list[tuple[Complaint, list[Site]]] = []


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        wrong: what differs from what the case says, None for nothing.
        reached: the places that the text comes from, those of errors that were caught and told again among them.
    """

    wrong: str | None
    reached: frozenset[Site] = frozenset()


def run(case: Case, tmp: Path) -> Outcome:
    """Run a case in an empty folder, which is the current one meanwhile."""
    with watched(), _inside(tmp), contextlib.redirect_stdout(io.StringIO()):
        try:
            case.provoke(tmp)
        except BroadaxeError as error:
            text = str(error)
            words = [(str(made), found) for made, found in _made] + [(c.text, found) for c, found in _complaints]
            reached = frozenset(site for made, found in words for site in found if _told(made, text))
            if not case.says(text, tmp):
                wrong: str | None = f"says   {text}\n  wanted {case.message.replace('{tmp}', str(tmp))}"
            elif type(error) is not case.error:
                wrong = f"raises {type(error).__name__}, not {case.error.__name__}"
            else:
                wrong = next((f"leaves {path.name}" for path in _left(tmp)), None)
            return Outcome(wrong, reached)
        except Exception:
            return Outcome(f"raises another error\n{traceback.format_exc()}")
    return Outcome("raises nothing")


def command(*arguments: object) -> None:
    """The command line: raises the error that it printed, once its exit code and its one line are right."""
    from broadaxe.cli import main

    said, code = io.StringIO(), None
    with mock.patch.object(sys, "argv", ["broadaxe", *map(str, arguments)]), contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    last = (said.getvalue().splitlines() or [""])[-1]
    for error, _ in reversed(_made):
        if last == f"error: {error}" and code == error.exit_code:
            raise error
    raise AssertionError(f"exit {code}: {said.getvalue()}")


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Note every error that is made, and the places of the product that make it."""
    initialise = BroadaxeError.__init__

    def noted(self: BroadaxeError, *given: str) -> None:
        initialise(self, *given)
        _made.append((self, _makes(sys._getframe(1))))

    complain = Complaint.__init__

    def complained(self: Complaint, *given: Any, **named: Any) -> None:
        complain(self, *given, **named)
        _complaints.append((self, _makes(sys._getframe(1))))

    _made.clear()
    _complaints.clear()
    with mock.patch.object(BroadaxeError, "__init__", noted), mock.patch.object(Complaint, "__init__", complained):
        yield


def _makes(frame: FrameType | None) -> list[Site]:
    """The call that makes an error, and the calls of functions that make it for others."""
    found = []
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        file = path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else ""
        if file not in ("errors.py", "configuration/complaints.py"):  # where the classes themselves stand
            found += [s for s in sites() if s.file == file and s.first <= frame.f_lineno <= s.last]
            if (file, frame.f_code.co_name) not in makers():
                break
        frame = frame.f_back
    return found


def _told(made: str, text: str) -> bool:
    """Whether a message is told: as it is, within another, or there with another place before it."""
    return made in text or (made.partition(": ")[2] or made) in text


def _left(tmp: Path) -> list[Path]:
    """What a refused command should not leave: its output, or a part of it under a hidden name."""
    return [path for path in tmp.iterdir() if path.name == "out" or path.name.startswith((".", "out."))]


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
