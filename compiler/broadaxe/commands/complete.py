"""What a shell offers when it completes a command line: choices, and names of what a build folder holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import typer

from broadaxe.commands.usage import not_allowed


def one_of(*names: str) -> dict[str, Any]:
    """What makes an option take one of some names: for `typer.Option(**one_of("vitis", "vivado"))`."""

    def check(context: typer.Context, parameter: typer.CallbackParam, value: Optional[str]) -> Optional[str]:
        if value is not None and value not in names and not context.resilient_parsing:
            raise not_allowed(max(parameter.opts, key=len), value, names)
        return value

    def offered(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return {"callback": check, "autocompletion": offered}


def _named(section: str) -> Callable[[typer.Context, str], list[str]]:
    """Names in a section of the report of the build that is already on the command line."""

    def offered(context: typer.Context, incomplete: str) -> list[str]:
        try:
            # where the option that is completed still has no value, no argument has been told from others
            given = [context.params.get("build"), *getattr(context, "args", [])]
            places = (Path(str(word)) / "report.json" for word in given)
            report = json.loads(next(place for place in places if place.is_file()).read_text())
            return [entry["name"] for entry in report[section] if entry["name"].startswith(incomplete)]
        except (OSError, ValueError, KeyError, TypeError, StopIteration):
            return []

    return offered


def parts(incomplete: str) -> list[str]:
    """Devices and boards; any part number of theirs is taken as well."""
    from broadaxe.schedule.devices import DEVICES

    names = (name for device in DEVICES for name in (device.name, *(board for board, _ in device.boards)))
    return [name for name in names if name.lower().startswith(incomplete.lower())]


layers = _named("layers")
"""Layers of the build."""
fifos = _named("fifos")
"""FIFOs of the build."""


def depths(context: typer.Context, incomplete: str) -> list[str]:
    """FIFOs of the build, up to the depth that is to follow."""
    return [f"{name}=" for name in fifos(context, incomplete)]
