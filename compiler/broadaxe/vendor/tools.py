"""Which HLS tool is on PATH, and of which version."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from broadaxe.errors import MissingToolError, RequestError
from broadaxe.vendor.project import NAMES, arguments
from broadaxe.vendor.versions import (
    FIRST_WITH_CONFIG,
    LAST_WITH_VITIS_HLS,
    PROGRAMS,
    VITIS_HLS,
    VIVADO_HLS,
    Tool,
    Version,
    said_version,
    version_of,
    written,
)

SECONDS_TO_SAY_ITS_VERSION = 120


@dataclass(frozen=True)
class HlsTool:
    """A tool that was found. `program` is what `broadaxe.vendor.project.arguments` takes; `version` None if it says none."""

    program: str
    path: Path
    version: Version | None

    def __str__(self) -> str:
        return f"{self.path.name} {written(self.version) if self.version else '(version unknown)'}"

    def commands(self, step: str) -> list[list[str]]:
        """The commands of a step, programs by their paths."""
        beside = {self.path.name: str(self.path), "v++": str(_beside(self.path, "v++") or "v++")}
        return [[beside[command[0]], *command[1:]] for command in arguments(self.program, step)]


def find_tool(tool: Tool, folder: Path, steps: Sequence[str]) -> HlsTool:
    """The first program on PATH that reads a build's sources.

    MissingToolError where there is none, with the commands to run elsewhere; RequestError where its version is too old.
    """
    for program, kind in PROGRAMS:
        path = shutil.which(program)
        if path is None or kind != tool:
            continue
        version = _version(Path(path))
        first = (VITIS_HLS if tool == "vitis" else VIVADO_HLS)[0]
        if version is not None and version < first:
            raise RequestError(
                f"{path}: is version {written(version)}; {NAMES[tool]} {written(first)} or newer is needed"
            )
        configured = program == "vitis-run" and (version is None or version >= FIRST_WITH_CONFIG)
        if program == "vitis-run" and not (configured and _beside(Path(path), "v++")):
            program = "vitis-run --tcl"
        return HlsTool(program, Path(path), version)
    wanted = [program for program, kind in PROGRAMS if kind == tool]
    other = next((program for program, kind in PROGRAMS if kind != tool and shutil.which(program)), None)
    if other:
        raise MissingToolError(
            f"{' and '.join(wanted)}: not found on PATH, {other} is, but this build is for {NAMES[tool]}; compile again with"
            f" --tool {'vivado' if tool == 'vitis' else 'vitis'}, or source the settings64.sh of {NAMES[tool]}"
        )
    raise MissingToolError(
        f"{' and '.join(wanted)}: not found on PATH; source the tool's settings64.sh, or run {by_hand(tool, folder, steps)}"
        f" where it is installed and read the results with `broadaxe cosim {folder} --read DIR`"
    )


def by_hand(tool: Tool, folder: Path, steps: Sequence[str]) -> str:
    """A shell command for a machine that has the tool; of Vitis also for those without vitis_hls."""
    program = "vivado_hls" if tool == "vivado" else "vitis_hls"
    first = f"`cd {folder / 'vendor'} && {_line(program, steps)}`"
    if tool == "vivado":
        return first
    return f"{first} (after {written(LAST_WITH_VITIS_HLS)} `{_line('vitis-run --tcl', steps)}`)"


def _line(program: str, steps: Sequence[str]) -> str:
    return " && ".join(" ".join(command) for step in steps for command in arguments(program, step))


def _beside(path: Path, name: str) -> Path | None:
    """A program in the folder of another, or on PATH."""
    found = shutil.which(name, path=f"{path.parent}{os.pathsep}{os.environ.get('PATH', '')}")
    return Path(found) if found else None


def _version(path: Path) -> Version | None:
    """What the program says, or else what its path does."""
    return said_version(path, SECONDS_TO_SAY_ITS_VERSION) or version_of(str(path.resolve()))
