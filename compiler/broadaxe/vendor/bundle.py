"""Logs and reports as one file for a bug report, without the paths and names of the machine."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from broadaxe.errors import RequestError
from broadaxe.manifest import read_manifest

LARGEST_FILE = 4 << 20
LARGEST_BUNDLE = 32 << 20
"""Bytes before compression. Of a longer file the end is kept: that is where errors are."""
ENDINGS = (".rpt", ".log", ".xml", ".tcl", ".cfg", ".txt", ".yaml", ".json")
_BEFORE = r"(?:(?<![\w.:/])|(?<=-[ILB])|(?<=[\w.~]:)(?=/[^/])|(?<=file://))"
"""Not inside a path, and no address; but behind an option of g++, in a list with colons, and in an address of a file."""
_PATH = re.compile(_BEFORE + r"(?:[A-Za-z]:)?(?:[/\\][\w.+@%~-]+)*[/\\](?=[\w.+@%~-])")
_PERSON = re.compile(r"(?i)(for user |on host |host\s*: *)('[^']*'|[^\s']+)")


def bundle(folder: Path, target: Path) -> list[str]:
    """Write the logs and reports of a build folder's vendor/, its projects, build.json and report.json to a zip file.

    Returns the names inside. Absolute paths in texts lose their folders, users and hosts their names.
    """
    if target.suffix != ".zip":
        raise RequestError(f"{target}: does not end in .zip; name a .zip file")
    read_manifest(folder)
    chosen = [p for p in (folder / "build.json", folder / "report.json") if p.is_file()]
    below = folder / "vendor"
    chosen += sorted(
        p
        for p in below.rglob("*")
        if p.is_file()
        and not p.is_symlink()
        and p.suffix in ENDINGS
        and ".autopilot" not in p.parts
        and _wanted(p, below)
    )
    names: list[str] = []
    total = 0
    partial = target.with_name(f".{target.name}.partial")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in chosen:
                text = anonymous(_end_of(path))
                total += len(text)
                if total > LARGEST_BUNDLE:
                    break
                name = path.relative_to(folder).as_posix()
                entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, text)
                names.append(name)
        partial.replace(target)
    except OSError as error:
        raise RequestError(f"{target}: cannot be written ({error.strerror}); choose another file") from None
    finally:
        partial.unlink(missing_ok=True)
    return names


def _wanted(path: Path, below: Path) -> bool:
    """Our own projects, logs, and the reports of csim, csynth, cosim and export; not the tools' generated sources."""
    parts = path.relative_to(below).parts
    if len(parts) == 1 or path.suffix in (".log", ".yaml"):
        return True
    return path.suffix in (".rpt", ".xml") and ("report" in parts or "reports" in parts)


def _end_of(path: Path) -> str:
    with path.open("rb") as file:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            file.seek(size - LARGEST_FILE)
        text = file.read(LARGEST_FILE).decode("utf-8", errors="replace")
    return f"[the first {size - LARGEST_FILE} bytes are left out]\n{text}" if size > LARGEST_FILE else text


def anonymous(text: str) -> str:
    """The text with each absolute path cut to its last name, and users and hosts left out."""
    return _PATH.sub("", _PERSON.sub(r"\1...", text))
