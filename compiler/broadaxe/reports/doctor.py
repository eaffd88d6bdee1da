"""What `broadaxe doctor` found, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from broadaxe.doctor import Check, Diagnosis

STYLES = {"ok": "green", "missing": "yellow", "wrong": "yellow"}


@dataclass(frozen=True)
class DoctorTable:
    """A table of everything, below it how to get what is missing, and whether compile and verify can run."""

    diagnosis: Diagnosis

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        table = Table(box=None, pad_edge=False)
        for heading in ("", "piece", "found", "for"):
            table.add_column(heading, no_wrap=heading in ("", "piece"), overflow="fold")
        for at, (_, checks) in enumerate(groupby(self.diagnosis.checks, key=lambda check: check.group)):
            if at:
                table.add_row()
            for check in checks:
                table.add_row(_state(check), Text(check.name), Text(check.found), Text(check.gives))
        yield table
        amiss = [check for check in self.diagnosis.checks if check.state != "ok"]
        if amiss:
            yield Text("\nTo get what is missing:")
        for get, names in _remedies(amiss):
            yield Text(f"  {names}: {get}", no_wrap=True, overflow="ignore")  # to be copied
        yield Text()
        yield _verdict(self.diagnosis.lacking)


def _remedies(amiss: list[Check]) -> list[tuple[str, str]]:
    """What to do, and for which pieces; packages that are needed are one command."""
    pip = "pip install "
    packages = [check for check in amiss if check.needed and check.get.startswith(pip)]
    together = pip + " ".join(check.get.removeprefix(pip) for check in packages)
    said = {check: together if check in packages else check.get for check in amiss}
    return [
        (get, ", ".join(check.name for check in amiss if said[check] == get)) for get in dict.fromkeys(said.values())
    ]


def _state(check: Check) -> Text:
    style = "bold red" if check.needed and check.state != "ok" else STYLES[check.state]
    return Text(check.state, style)


def _verdict(lacking: tuple[Check, ...]) -> Text:
    if not lacking:
        return Text("compile and verify have what they need", "green")
    names = ", ".join(check.name for check in lacking)
    return Text(f"compile and verify cannot run: {names} missing or wrong", "bold red")
