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
    """Say what is installed, and how to get what is missing.

    Packages, compiler, ap_int headers, vendor's tools: what each of them gives.

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
