"""`broadaxe doctor`: what is installed, and what each missing piece would give. Imports nothing that can be missing."""

from __future__ import annotations

from typing import Annotated

import typer

from broadaxe.commands.output import give, show


def doctor(
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON, without names and folders of yours: for bug reports.")
    ] = False,
) -> None:
    """Say what is installed, and what each missing piece would give.

    Packages are asked for their versions and not imported; g++ compiles and runs a small program. What is missing or of a
    wrong version is named with the command that gets it.

    Examples:
        broadaxe doctor
        broadaxe doctor --json

    Exit codes:
        0 compile and verify can run
        3 they cannot; the table says what is missing

    Next:
        broadaxe demo
    """
    from broadaxe.doctor import examine
    from broadaxe.reports.doctor import DoctorTable

    diagnosis = examine()
    if json:
        give(diagnosis.as_json())
    else:
        show(DoctorTable(diagnosis))
    if diagnosis.lacking:
        raise typer.Exit(3)
