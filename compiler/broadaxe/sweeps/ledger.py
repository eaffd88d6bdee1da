"""The folder of a sweep: what was asked, the rows so far, the models of the frontier.

A run counts once its line in sweep.csv is complete. Lines are written whole and flushed to the disk one by one; what a killed
command has left of a line is cut off when the folder is opened again.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from broadaxe.errors import RequestError
from broadaxe.sweeps.config import Run

COLUMNS = (
    *("method", "M", "N", "P"),
    *("bits", "offset_bits", "signed_bits"),
    *("validation", "output_error", "seconds", "error"),
)
"""`bits`: the widest accumulator as the compiler declares it; `offset_bits`, `signed_bits`: the widest with a start constant
of each channel's own, and in two's complement from zero. All proven."""
Row = dict[str, str]
NAMES = {"csv": "sweep.csv", "json": "sweep.json", "models": "models"}


def line(cells: Iterable[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def replace_file(path: Path, content: bytes) -> None:
    """Write beside, flush, rename."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise RequestError(
            f"{path}: cannot be written ({error.strerror}); free some space, then run it again"
        ) from None
    finally:
        partial.unlink(missing_ok=True)


class Ledger:
    """An open folder; no other command writes to it meanwhile.

    Attributes:
        rows: by run, those on the disk.
    """

    def __init__(self, folder: Path, runs: Iterable[Run]) -> None:
        self.folder = folder
        self.csv, self.json, self.models = (folder / name for name in NAMES.values())
        import fcntl  # where there is none, the rest of the package still works

        self._lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise RequestError(
                f"{folder}: another sweep is at work there; wait for it, or choose another folder"
            ) from None
        for left in folder.rglob(".*.partial"):  # by a command that was killed
            left.unlink()
        self.order: dict[tuple[str, ...], Run] = {run.key: run for run in runs}
        try:
            self.rows: dict[Run, Row] = self._read(self.order)
        except RequestError:
            self.close()
            raise

    def close(self) -> None:
        os.close(self._lock)

    def _read(self, runs: Mapping[tuple[str, ...], Run]) -> dict[Run, Row]:
        try:
            content = self.csv.read_bytes()
        except FileNotFoundError:
            raise RequestError(f"{self.csv}: is missing; choose another folder, or delete this one") from None
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            os.truncate(self.csv, len(whole))
        rows: dict[Run, Row] = {}
        lines = list(csv.reader(io.StringIO(whole.decode(errors="replace"))))
        if not lines or tuple(lines[0]) != COLUMNS:
            raise RequestError(
                f"{self.csv}: line 1 is not what sweep writes; choose another folder, or delete this one"
            )
        for number, cells in enumerate(lines[1:], 2):
            run = runs.get(tuple(cells[:4]))
            if len(cells) != len(COLUMNS) or run is None or run in rows:
                wrong = "repeats a run" if run in rows else "is no run of this sweep"
                raise RequestError(f"{self.csv}: line {number} {wrong}; delete the line")
            rows[run] = dict(zip(COLUMNS, cells, strict=True))
            if not _sound(rows[run]):
                raise RequestError(f"{self.csv}: line {number} holds no result; delete the line")
        return rows

    def append(self, run: Run, cells: Mapping[str, str]) -> None:
        row = dict(zip(COLUMNS, run.key, strict=False)) | {name: cells.get(name, "") for name in COLUMNS[4:]}
        text = line(row[name] for name in COLUMNS)
        try:
            file = os.open(self.csv, os.O_WRONLY | os.O_APPEND)
            try:
                before = os.fstat(file).st_size
                if os.write(file, text) != len(text):
                    os.ftruncate(file, before)
                    raise OSError(28, "no space left on device")
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise RequestError(
                f"{self.csv}: cannot be written ({error.strerror}); free some space, then run it again"
            ) from None
        self.rows[run] = row

    def sort(self) -> None:
        """Rows in the order of the request, now that all are there."""
        rows = [self.rows[run] for run in self.order.values()]
        replace_file(self.csv, b"".join(line(cells) for cells in (COLUMNS, *(row.values() for row in rows))))

    def model_path(self, run: Run) -> Path:
        method, *bits = run.key
        parts = [letter + text for letter, text in zip("WAP", bits, strict=True) if text]
        return self.models / ("-".join((method, *parts)) + ".onnx")

    def keep(self, run: Run, model: bytes) -> None:
        """Save a model; before its row is written, so that a row on the frontier always has one."""
        self.models.mkdir(exist_ok=True)
        replace_file(self.model_path(run), model)

    def drop_models_but(self, runs: Iterable[Run]) -> None:
        kept = {self.model_path(run) for run in runs}
        for path in self.models.glob("*.onnx") if self.models.is_dir() else ():
            if path not in kept:
                path.unlink()

    def record(self) -> dict[str, Any]:
        return read_record(self.folder)

    def write_record(self, record: Mapping[str, Any]) -> None:
        replace_file(self.json, (json.dumps(record, indent=1) + "\n").encode())


def _sound(row: Row) -> bool:
    """Whether a row has a result, or the reason why there is none."""
    widths = all(row[name].isdecimal() for name in ("bits", "offset_bits", "signed_bits"))
    try:
        return bool(row["error"]) or (widths and isfinite(float(row["validation"])))
    except ValueError:
        return False


def read_record(folder: Path) -> dict[str, Any]:
    """sweep.json of a folder."""
    try:
        content = json.loads((folder / NAMES["json"]).read_text())
        if isinstance(content, dict) and {"broadaxe", "request", "sessions"} <= set(content):
            return content
    except (OSError, ValueError):
        pass
    raise RequestError(f"{folder}: exists, and sweep did not write it; choose another folder")


def check_folder(folder: Path, request: Mapping[str, Any]) -> bool:
    """Whether the folder has to be made; RequestError if it is someone else's or of another request."""
    if not folder.absolute().parent.is_dir():
        raise RequestError(f"{folder}: the folder that would hold it does not exist; create it first")
    if folder.resolve() == Path.cwd():
        raise RequestError(f"{folder}: is the current folder; name one in it, such as sweep")
    if folder.is_file():
        raise RequestError(f"{folder}: is a file; choose another folder")
    if not folder.exists() or not any(folder.iterdir()):
        return True
    held = read_record(folder)["request"]
    for name, value in request.items():
        before = held.get(name)
        if before == value or (name == "test" and before is None):
            continue
        shown = [_shown(before), _shown(value)]
        raise RequestError(
            f"{folder}: holds a sweep with {name} {shown[0]}, this one has {shown[1]}; choose another folder, or ask for"
            " the same"
        )
    return False


def _shown(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(v, int) for v in value):
        first, last = value[0], value[-1]
        return (
            f"{first}:{last}" if len(value) > 2 and value == list(range(first, last + 1)) else ",".join(map(str, value))
        )
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text[:12] + "..." if len(text) == 64 else text


def make_folder(folder: Path, record: Mapping[str, Any]) -> None:
    """A folder with its record and no rows; it is there whole or not at all."""
    partial = folder.absolute().with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir()
        (partial / NAMES["csv"]).write_bytes(line(COLUMNS))
        (partial / NAMES["json"]).write_text(json.dumps(record, indent=1) + "\n")
        partial.replace(folder)
    except OSError as error:
        raise RequestError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
