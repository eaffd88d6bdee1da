"""Where templates and headers are: our own in an installed wheel or beside compiler/ in a source tree, ap_int's elsewhere."""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from pathlib import Path

from broadaxe.errors import MissingToolError


@cache
def folder(name: str) -> Path:
    """The folder `templates` or `hw`."""
    package = Path(__file__).resolve().parent
    for candidate in (package / name, package.parent.parent / name):
        if candidate.is_dir():
            return candidate
    raise MissingToolError(f"{name}: the folder is missing from this installation; install broadaxe again")


def demo_script() -> Path:
    """The digits example, which `broadaxe demo` runs."""
    package = Path(__file__).resolve().parent
    for candidate in (package / "demos" / "digits_cnn.py", package.parent.parent / "examples" / "digits_cnn.py"):
        if candidate.is_file():
            return candidate
    raise MissingToolError("demo: the script is missing from this installation; install broadaxe again")


def ap_types() -> Path | None:
    """The folder of Xilinx's Apache-2.0 ap_int headers, or None: $BROADAXE_AP_TYPES, or the ones hls4ml installs."""
    named = os.environ.get("BROADAXE_AP_TYPES")
    if named:
        return Path(named) if (Path(named) / "ap_int.h").is_file() else None
    try:
        found = importlib.util.find_spec("hls4ml")
    except (ImportError, ValueError):
        found = None
    for root in (found.submodule_search_locations or []) if found else []:
        candidate = Path(root) / "templates" / "vivado" / "ap_types"
        if (candidate / "ap_int.h").is_file():
            return candidate
    return None
