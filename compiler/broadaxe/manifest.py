"""build.json, the list of what a build folder holds, and whether the folder still holds it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broadaxe.errors import RequestError, VerificationError
from broadaxe.version import __version__

if TYPE_CHECKING:
    from broadaxe.config import CompileSettings


def read_manifest(folder: Path) -> dict[str, Any]:
    """build.json of a build folder."""
    try:
        manifest = json.loads((folder / "build.json").read_text())
        match manifest:
            case {"top": str(), "settings": {}, "files": {**files}} if all(type(v) is str for v in files.values()):
                return dict(manifest)
    except (OSError, ValueError, RecursionError):
        pass
    raise RequestError(f"{folder}: is not a build folder; make one with `broadaxe compile`")


def check_files(folder: Path, names: Collection[str] | None = None) -> int:
    """Check that every file of a folder is as it was written, and that it lists `names`; returns how many there are.

    VerificationError names the first that is not.
    """
    files = read_manifest(folder)["files"]
    expected = set(files) if names is None else set(names)
    for name in sorted({*expected, *files}):
        if name not in files or name not in expected:
            place = "does not list" if name in expected else "lists"
            raise VerificationError(f"{folder / 'build.json'}: {place} {name}; compile again")
        check_file(folder, name, files)
    return len(files)


def check_file(folder: Path, name: str, files: Mapping[str, str]) -> None:
    """Check that one file is as it was written; `files` are those of the manifest."""
    if not (folder / name).is_file() or sha256(folder / name) != files.get(name):
        raise VerificationError(f"{folder / name}: is missing or was changed after compilation; compile again")


def settings_of(folder: Path, **changes: Any) -> CompileSettings:
    """What a folder was compiled with; RequestError where another version wrote settings that this one has not."""
    from broadaxe.config import settings

    manifest = read_manifest(folder)
    try:
        return settings(**{**manifest["settings"], **changes})
    except RequestError:
        written = manifest.get("broadaxe", "of no version")
        raise RequestError(
            f"{folder / 'build.json'}: was written by broadaxe {written}, and {__version__} cannot read its settings; compile"
            " again"
        ) from None


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
