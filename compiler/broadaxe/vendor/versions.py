"""Versions of the HLS tools, which stand on one line: Vivado HLS up to 2020.1, Vitis HLS from 2020.2 on."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Literal, TypeAlias

Version: TypeAlias = tuple[int, int]
Tool: TypeAlias = Literal["vivado", "vitis"]

VIVADO_HLS: tuple[Version, ...] = ((2019, 2), (2020, 1))
VITIS_HLS: tuple[Version, ...] = (
    *((2020, 2), (2021, 1), (2021, 2), (2022, 1), (2022, 2), (2023, 1)),
    *((2023, 2), (2024, 1), (2024, 2), (2025, 1), (2025, 2)),
)
SUPPORTED = (*VIVADO_HLS, *VITIS_HLS)
FIRST, LAST = SUPPORTED[0], SUPPORTED[-1]
LAST_WITH_VITIS_HLS: Version = (2024, 1)
"""After it the program `vitis_hls` is deprecated, then gone: vitis-run runs the same Tcl."""
FIRST_WITH_CONFIG: Version = (2023, 2)
"""From it on vitis-run and v++ -c --mode hls take hls.cfg."""

PROGRAMS: tuple[tuple[str, Tool], ...] = (("vitis-run", "vitis"), ("vitis_hls", "vitis"), ("vivado_hls", "vivado"))
"""In the order in which they are looked for."""


def version_of(text: str) -> Version | None:
    """The version in a text such as `Vitis HLS v2023.2 (64-bit)`; None where there is none."""
    match = re.search(r"\b(20[12][0-9])\.([1-4])\b", text.replace("v20", " 20"))
    return (int(match[1]), int(match[2])) if match else None


def written(version: Version) -> str:
    """`2023.2`."""
    return f"{version[0]}.{version[1]}"


def tool_of(version: Version) -> Tool:
    """Which of the two tools a version is of."""
    return "vivado" if version <= VIVADO_HLS[-1] else "vitis"


def said_version(path: Path, seconds: float) -> Version | None:
    """What a program of the tools says its version is, within a time; None where it says none."""
    option = "--version" if path.name == "vitis-run" else "-version"
    try:
        done = subprocess.run(
            [str(path), option],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return version_of(done.stdout + done.stderr)
