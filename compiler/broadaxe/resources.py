"""Where templates and kernel headers are: inside an installed wheel, or beside compiler/ in a source tree."""

from __future__ import annotations

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
