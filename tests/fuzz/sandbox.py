"""One damaged file compiled in a process of its own limits, and everything that it may not do looked for."""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from .damage import MARK

MEMORY = 3 << 30
"""Address space of a worker."""
SECONDS = 20
"""Processor time that one file may take; the process ends there."""
BINARY = (".onnx", ".json")
"""Files of a build that may hold names of the model: the model itself, and quoted by json."""
BROKEN = ("GraphError", "VerificationError")
"""Errors of ours that a model file must not reach: they say that the compiler broke its own contract."""


@dataclass
class Answer:
    """What came of one file: compiled, refused (by the error's class), or wrong."""

    refused: str | None = None
    failure: str | None = None
    seconds: float = 0.0


def serve(pipe: Connection, folder: str) -> None:
    """Compile what comes through the pipe until it closes."""
    import broadaxe  # noqa: F401  before the limit: its libraries map more than they use

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # onnxruntime's warnings
    pipe.send("ready")
    while True:
        try:
            data = pipe.recv()
        except EOFError:
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        allowed = int(used.ru_utime + used.ru_stime) + 1 + SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (allowed, resource.RLIM_INFINITY))
        pipe.send(attempt(data, Path(folder)))


def attempt(data: bytes, folder: Path) -> Answer:
    """Compile, load and report one file in `folder`, which holds nothing else."""
    from broadaxe import BroadaxeError, compile, load, report

    shutil.rmtree(folder, ignore_errors=True)
    for name in ("in", "out", "cwd"):
        (folder / name).mkdir(parents=True)
    model, output = folder / "in" / "model.onnx", folder / "out" / "build"
    model.write_bytes(data)
    os.chdir(folder / "cwd")
    answer, began = Answer(), time.process_time()
    try:
        compile(model, output)
        report(load(output))
    except BroadaxeError as error:
        answer.refused = type(error).__name__
        answer.failure = _message(str(error), answer.refused)
    except BaseException as error:
        answer.failure = f"{type(error).__name__}: {str(error)[:200]!r}"
    answer.seconds = time.process_time() - began
    answer.failure = answer.failure or _traces(folder, data, output, answer.refused is None)
    return answer


def _message(text: str, kind: str) -> str | None:
    """What is wrong with an error's text."""
    if kind in BROKEN:
        return f"{kind}: {text}"
    if not text.isprintable():
        return f"the message is not one printable line: {text!r}"
    if len(text) > 2000:
        return f"the message has {len(text)} characters: {text[:200]!r}"
    if ": " not in text:
        return f"the message names no place: {text!r}"
    return None


def _traces(folder: Path, data: bytes, output: Path, compiled: bool) -> str | None:
    """Files that should not be there, an output that is not whole, text of the model in generated files."""
    if (folder / "in" / "model.onnx").read_bytes() != data:
        return "the model file was changed"
    found = {p for p in folder.rglob("*") if not p.is_dir()} - {folder / "in" / "model.onnx"}
    outside = [p for p in found if output not in p.parents]
    if outside:
        return f"wrote {outside[0].relative_to(folder)}"
    if not compiled:
        return f"left {output.name} behind" if any((folder / "out").iterdir()) else None
    listed = {*json.loads((output / "build.json").read_text())["files"], "build.json"}
    there = {p.relative_to(output).as_posix() for p in found}
    if listed != there:
        return f"the build lists {sorted(listed ^ there)[0]} or has it, not both"
    for path in found:
        text = path.read_bytes()
        if path.suffix not in BINARY and MARK.encode() in text:
            return f"text of the model in {path.relative_to(output)}"
        if path.suffix == ".json":
            json.loads(text)
    return None
