"""Versions of what takes part in a compilation, without importing any of it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from broadaxe.version import __version__

PACKAGES = ("numpy", "onnx", "onnxruntime", "scipy")


def versions() -> dict[str, str]:
    """By name; a package that was not installed as one is left out."""
    found = {"broadaxe": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
