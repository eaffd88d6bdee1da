"""Runs what Markdown pages show: every command and every Python block, in order, compared with the output printed there.

The convention is in CONTRIBUTING.md. A page that starts with `<!-- needs: NAMES -->` is run: in a folder of its own that holds
what the names of page_inputs.PREPARED make. The commands of a page run one by one in bash, its Python blocks in one session.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).parent.parent
SECONDS = 900
"""Of one command."""
RUN = ("console", "sh", "bash", "python")
"""Languages of blocks that are run or exempt; sh and bash are run without a look at what they print."""
FENCE = re.compile(r"^(?P<mark>```+|~~~+) *(?P<language>[\w+-]*) *$")
COMMENT = re.compile(r"^<!-- *(?P<word>needs|not run|slow|printed|fails)(?:: *(?P<text>.*?))? *-->$")
LOOKS_RUN = re.compile(r"^(\$ |broadaxe |make |pip |python |git )")
STANDS_FOR = (("make demo", "broadaxe demo"),)
"""Commands of a page that need its repository's own .venv, and what is run for them."""
FLOAT32 = "in float32 every processor adds in an order of its own"
VARYING = (
    (re.compile(r"\b\d[\d,.]* s\b"), "# s", "seconds are those of the machine"),
    (re.compile(r"(?<=\bbroadaxe )\d+\.\d+\S*"), "#", "the version changes"),
    (re.compile(r"(?<=\bpython )3\.\d+\.\d+\S*", re.IGNORECASE), "#", "so does Python's"),
    (
        re.compile(r"\b(?=[0-9a-f]*[a-f])[0-9a-f]{12}\b"),
        "#",
        "digests of models have every last bit of their scales in them",
    ),
    (re.compile(r"(?<=float32 onnxruntime: )[\d,]+(?= of [\d,]+ activations)"), "#", FLOAT32),
    (re.compile(r"(?<=, )[\d,]+(?= explained; end to end)"), "#", FLOAT32),
    (re.compile(r"(?<=end to end )[\d,]+(?= of [\d,]+ inputs differ)"), "#", FLOAT32),
    (re.compile(r"(?<=the largest difference is )\S+(?= of its bound)"), "#", FLOAT32),
)
"""What may differ from the page: pattern, what stands for it in the comparison, why."""


class PageError(Exception):
    """A page breaks the convention; the text names file and line."""


@dataclass(frozen=True)
class Step:
    """A command of a console block, or a whole block of another language, and the output the page shows for it.

    Attributes:
        line: of the page, from 1 on.
        shown: lines of output on the page; None where it shows none and none is compared.
        at: where on the page the output is: first line and the line behind it, from 0 on.
        fails: whether the exit code may be other than 0 although no `error:` line is shown.
    """

    line: int
    language: str
    source: str
    shown: tuple[str, ...] | None
    at: tuple[int, int]
    fails: bool = False


@dataclass(frozen=True)
class Page:
    """A page of Markdown, taken apart.

    Attributes:
        needs: names in page_inputs.PREPARED; None where the page does not say, and is not run.
        steps: what is run, in order.
        exempt: (line, reason) of the blocks that are not run.
        slow: why its test is marked slow, or "".
    """

    path: Path
    lines: tuple[str, ...]
    needs: tuple[str, ...] | None
    steps: tuple[Step, ...]
    exempt: tuple[tuple[int, str], ...]
    slow: str = ""

    @property
    def name(self) -> str:
        return self.path.name if ROOT not in self.path.parents else self.path.relative_to(ROOT).as_posix()


@dataclass
class _Reading:
    """A page while it is read."""

    path: Path
    lines: list[str]
    steps: list[Step] = field(default_factory=list)
    exempt: list[tuple[int, str]] = field(default_factory=list)
    needs: tuple[str, ...] | None = None
    slow: str = ""
    notes: dict[str, str] = field(default_factory=dict)
    """Comments right before the next block, by their word."""

    def refused(self, at: int, what: str) -> PageError:
        return PageError(f"{self.path.name}:{at + 1}: {what}")

    def comment(self, at: int, word: str, text: str) -> None:
        if word == "needs":
            self.needs = tuple(name.strip() for name in text.split(",") if name.strip())
        elif word == "slow":
            self.slow = text
        elif word in ("not run", "fails") and not text:
            raise self.refused(at, f"{word}: gives no reason; write <!-- {word}: REASON -->")
        else:
            self.notes[word] = text

    def block(self, start: int, end: int, language: str) -> None:
        """Of the lines between the fences `start` and `end`."""
        notes, self.notes = self.notes, {}
        body = self.lines[start + 1 : end]
        if "printed" in notes:
            if not self.steps or self.steps[-1].language != "python":
                raise self.refused(start, "printed: no Python block stands before it; put it behind one")
            self.steps[-1] = replace(self.steps[-1], shown=tuple(body), at=(start + 1, end))
        elif "not run" in notes:
            self.exempt.append((start + 1, notes["not run"]))
        elif language == "console":
            self.steps.extend(self._commands(start + 1, end, "fails" in notes))
        elif language in RUN:
            self.steps.append(Step(start + 2, language, "\n".join(body), None, (end, end), "fails" in notes))
        elif any(map(LOOKS_RUN.match, body)):
            raise self.refused(
                start,
                f"a block of commands has the language {language!r}; use console or sh, or <!-- not run: REASON -->",
            )

    def _commands(self, start: int, end: int, fails: bool) -> Iterator[Step]:
        at = start
        while at < end:
            if not self.lines[at].startswith("$ "):
                raise self.refused(at, "console: output without a command; start the block with `$ command`")
            line, parts = at, [self.lines[at][2:]]
            while parts[-1].endswith("\\"):
                at += 1
                parts.append(self.lines[at])
            behind = next((i for i in range(at + 1, end) if self.lines[i].startswith("$ ")), end)
            shown = tuple(self.lines[at + 1 : behind])
            yield Step(line + 1, "console", "\n".join(parts), shown, (at + 1, behind), fails)
            at = behind


def read(path: Path) -> Page:
    """Take a page apart; PageError where it breaks the convention."""
    reading = _Reading(path, path.read_text().splitlines())
    opened: tuple[int, str, str] | None = None
    for at, line in enumerate(reading.lines):
        fence = FENCE.match(line)
        if opened is not None:
            start, mark, language = opened
            if fence and not fence["language"] and fence["mark"].startswith(mark):
                opened = None
                reading.block(start, at, language)
        elif fence:
            opened = at, fence["mark"], fence["language"]
        elif comment := COMMENT.match(line):
            reading.comment(at, comment["word"], comment["text"] or "")
        elif line.strip():
            reading.notes.clear()
    if opened is not None:
        raise reading.refused(opened[0], "a block is not closed; close it")
    return Page(path, tuple(reading.lines), reading.needs, tuple(reading.steps), tuple(reading.exempt), reading.slow)


def plain(line: str) -> str:
    """A line as it is compared."""
    for pattern, stand_in, _ in VARYING:
        line = pattern.sub(stand_in, line)
    return line.rstrip()


def agree(shown: list[str], printed: list[str]) -> bool:
    """Whether output is what the page shows, where a line `...` stands for any lines."""
    if not shown:
        return not printed
    if shown[0] == "...":
        return any(agree(shown[1:], printed[at:]) for at in range(len(printed) + 1))
    return bool(printed) and plain(shown[0]) == plain(printed[0]) and agree(shown[1:], printed[1:])


def trimmed(lines: list[str]) -> list[str]:
    """Without empty lines at both ends and spaces at the ends of lines."""
    text = "\n".join(line.rstrip() for line in lines).strip("\n")
    return text.split("\n") if text else []


@dataclass(frozen=True)
class Ran:
    """What a step printed, and whether it failed: how, or ""."""

    printed: list[str]
    failed: str


class Runner:
    """Runs the steps of a page in a folder. `names` is Python source that its session starts with."""

    def __init__(self, folder: Path, names: str = "") -> None:
        programs = folder.parent / f"{folder.name}.bin"
        programs.mkdir()
        for name, rest in (("broadaxe", " -m broadaxe_command"), ("python", "")):
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{rest} "$@"\n')
            (programs / name).chmod(0o755)
        own = (str(programs), str(Path(sys.executable).parent), os.environ["PATH"])
        paths = (str(ROOT / "compiler"), str(ROOT / "tests"))
        more = {"PATH": os.pathsep.join(own), "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        unset = ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "BROADAXE_UPDATE_GOLDEN")
        self.environment = {k: v for k, v in os.environ.items() if k not in unset} | more
        self.folder, self.names = folder, names
        self._session: subprocess.Popen[str] | None = None

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        if self._session is not None:
            self._session.communicate()

    def run(self, step: Step) -> Ran:
        return self._python(step.source) if step.language == "python" else self._command(step.source)

    def _command(self, source: str) -> Ran:
        for said, run in STANDS_FOR:
            source = re.sub(rf"^{re.escape(said)}\b", run, source)
        command = ["bash", "-c", source]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=SECONDS
        )
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        failed = f"exit code {done.returncode}: {done.stderr.strip()[-500:]}" if done.returncode else ""
        return Ran([*done.stdout.splitlines(), *(errors if failed else [])], failed)

    def _python(self, source: str) -> Ran:
        if self._session is None:
            self._session = subprocess.Popen(
                [sys.executable, "-m", "page_session"],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            if self.names and (begun := self._answer(self.names)).failed:
                return begun
        return self._answer(source)

    def _answer(self, source: str) -> Ran:
        assert self._session is not None
        assert self._session.stdin is not None
        assert self._session.stdout is not None
        self._session.stdin.write(f"{json.dumps(source)}\n")
        self._session.stdin.flush()
        answer = self._session.stdout.readline()
        if not answer:
            return Ran([], "the Python session ended")
        got = json.loads(answer)
        return Ran(got["printed"].splitlines(), got["failed"])


def differences(page: Page, run: Callable[[Step], Ran]) -> tuple[list[str], str]:
    """Run a page: what differs from it, one text a step, and the page as it would have to be."""
    found, changes = [], list[tuple[tuple[int, int], list[str]]]()
    for step in page.steps:
        ran = run(step)
        printed, shown = trimmed(ran.printed), trimmed(list(step.shown or ()))
        where = f"{page.name}:{step.line}: {step.source.splitlines()[0] if step.source else 'an empty block'}"
        expected = step.fails or any(line.startswith("error: ") for line in shown)
        if ran.failed and not expected:
            found.append(f"{where}\n  failed: {ran.failed}")
        elif expected and not ran.failed:
            found.append(f"{where}\n  did not fail")
        if step.shown is not None and not agree(shown, printed):
            found.append("\n    ".join([f"{where}\n  the page has", *shown, "  printed was", *printed]))
            changes.append((step.at, printed))
    lines = list(page.lines)
    for (start, end), printed in reversed(changes):
        lines[start:end] = printed
    return found, "\n".join(lines) + "\n"
