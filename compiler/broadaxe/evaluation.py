"""How good a network is on rows: accuracy where labels are known, else how close its outputs are to the float network's."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from broadaxe.data import LABELS, read_labelled
from broadaxe.errors import RequestError
from broadaxe.frontend.batch import symbolic_batch
from broadaxe.frontend.standard import expand_quant, session

Array: TypeAlias = npt.NDArray[Any]
Data: TypeAlias = (
    "str | os.PathLike[str] | Array | Mapping[str, Array] | tuple[Array | Mapping[str, Array], Array] | Rows"
)
Metric = Literal["accuracy", "fidelity"]
BATCH_ELEMENTS = 1 << 22
LARGEST_BATCH = 256


@dataclass(frozen=True, eq=False)
class Rows:
    """Samples with one role: to calibrate, to choose by (validation), or to report (test).

    Attributes:
        inputs: by input name, shape (samples, ...).
        labels: classes, integers of shape (samples,), or None.
        source: where they come from, for messages and records.
    """

    inputs: dict[str, Array]
    labels: Array | None = None
    source: str = "rows"

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    @property
    def digest(self) -> str:
        """SHA-256 of names, types, shapes and values: the same rows have the same, wherever they come from."""
        found = hashlib.sha256()
        for name, array in sorted(self.inputs.items()):
            found.update(f"{name} {array.dtype} {array.shape}\n".encode())
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    @property
    def metric(self) -> Metric:
        return "fidelity" if self.labels is None else "accuracy"


def input_names(model: onnx.ModelProto) -> list[str]:
    """Of the inputs that are no constants."""
    constants = {t.name for t in model.graph.initializer}
    return [i.name for i in model.graph.input if i.name not in constants]


def read_rows(path: Path, model: onnx.ModelProto) -> Rows:
    """Rows of a file for a model's inputs.

    Raises:
        RequestError: the file does not fit the model, or its labels are no classes.
    """
    from broadaxe.quantization.quantize import checked

    inputs, labels = read_labelled(path, input_names(model), strict=True)
    return rows_of(checked(model, inputs, what=str(path)), labels, str(path))


def rows_from(given: Data, model: onnx.ModelProto, role: str) -> Rows:
    """Rows of whatever a user gives: a file, inputs, (inputs, labels), or a mapping with an array `labels`."""
    from broadaxe.quantization.quantize import checked

    if isinstance(given, Rows):
        return given
    if isinstance(given, str | os.PathLike):
        return read_rows(Path(given), model)
    labels: Any = None
    inputs: Any = given
    if isinstance(given, tuple):
        if len(given) != 2:
            raise RequestError(f"{role}: is a tuple of {len(given)} parts; give two, (inputs, labels)")
        inputs, labels = given
    elif isinstance(given, Mapping) and LABELS in given and LABELS not in input_names(model):
        inputs, labels = {k: v for k, v in given.items() if k != LABELS}, given[LABELS]
    return rows_of(checked(model, inputs, what=role), labels, role)


def rows_of(inputs: Mapping[str, Array], labels: Array | None = None, source: str = "rows") -> Rows:
    """Rows with labels that are classes, one a sample."""
    count = len(next(iter(inputs.values())))
    if labels is not None:
        labels = np.asarray(labels)
        if labels.dtype.kind not in "iu" or labels.shape not in ((count,), (count, 1)):
            raise RequestError(
                f"{source}: labels have type {labels.dtype} and shape {labels.shape}; give one integer for each of the"
                f" {count} samples"
            )
        labels = labels.reshape(-1).astype(np.int64)
    return Rows(dict(inputs), labels, source)


class Judge:
    """Scores networks on rows, in percent: 100 is best.

    accuracy: share of samples whose largest output is at the label. fidelity: 100 * (1 - E|y - f|^2 / E|f|^2) with f the
    outputs of the reference network.

    Args:
        rows: what to score on.
        reference: the float network; needed without labels.
        threads: of onnxruntime; 0 for all cores.
    """

    def __init__(self, rows: Rows, reference: onnx.ModelProto, *, threads: int = 0) -> None:
        self.rows, self.threads = rows, threads
        self.metric: Metric = rows.metric
        self.wanted: list[Array] = []
        outputs = list(run(reference, rows.inputs, threads))
        first = outputs[0][0]
        self.outputs = first.reshape(len(first), -1).shape[1]
        if rows.labels is None:
            self.wanted = [np.concatenate([batch[k] for batch in outputs]) for k in range(len(outputs[0]))]
        elif self.outputs <= int(rows.labels.max()) or int(rows.labels.min()) < 0:
            raise RequestError(
                f"{rows.source}: labels go from {rows.labels.min()} to {rows.labels.max()}, the model has"
                f" {self.outputs} outputs; give classes 0 to {self.outputs - 1}"
            )
        self.float_score = self._score(iter(outputs))

    def __call__(self, model: onnx.ModelProto) -> float:
        """Of a QONNX or standard model, in percent."""
        return self._score(run(model, self.rows.inputs, self.threads))

    def _score(self, batches: Iterator[list[Array]]) -> float:
        at, right, lost = 0, 0, 0.0
        for outputs in batches:
            part = slice(at, at + len(outputs[0]))
            at = part.stop
            if self.rows.labels is not None:
                right += int((outputs[0].reshape(len(outputs[0]), -1).argmax(1) == self.rows.labels[part]).sum())
                continue
            for found, wanted in zip(outputs, self.wanted, strict=True):
                lost += float(((found.astype(np.float64) - wanted[part]) ** 2).sum())
        if self.rows.labels is not None:
            return 100 * right / len(self.rows)
        power = sum(float((w.astype(np.float64) ** 2).sum()) for w in self.wanted)
        return 100 * (1 - lost / power) if power else 100.0 * (not lost)


def run(model: onnx.ModelProto, inputs: Mapping[str, Array], threads: int = 0) -> Iterator[list[Array]]:
    """Outputs of a model, QONNX or standard, batch after batch."""
    opened = session(expand_quant(symbolic_batch(model)), threads=threads)
    names = [i.name for i in opened.get_inputs()]
    shape, count = opened.get_inputs()[0].shape, len(inputs[names[0]])
    widest = max(int(np.prod(inputs[name].shape[1:])) for name in names)
    size = shape[0] if isinstance(shape[0], int) else max(1, min(LARGEST_BATCH, BATCH_ELEMENTS // widest))
    for at in range(0, count, size):
        yield opened.run(None, {name: np.ascontiguousarray(inputs[name][at : at + size]) for name in names})


def shared_rows(rows: Mapping[str, Rows]) -> Iterator[str]:
    """What is wrong with pairs of roles (calib, val, test) that share rows."""
    meaning = {
        ("calib", "val"): "validation knows rows that weights were solved for",
        ("val", "test"): "test figures are not independent of the choice",
        ("calib", "test"): "test figures know rows that weights were solved for",
    }
    hashes = {role: _row_hashes(given) for role, given in rows.items()}
    for (one, other), text in meaning.items():
        if one not in hashes or other not in hashes:
            continue
        shared = sum(h in set(hashes[one]) for h in hashes[other])
        if shared:
            sources = [rows[role].source for role in (one, other)]
            same = " (one file)" if all(map(os.path.isfile, sources)) and os.path.samefile(*sources) else ""
            yield f"{one} and {other} share {shared} of the {len(hashes[other])} rows of {other}{same}: {text}"


def _row_hashes(rows: Rows) -> list[bytes]:
    arrays = [np.ascontiguousarray(array) for _, array in sorted(rows.inputs.items())]
    return [hashlib.sha256(b"".join(array[k].tobytes() for array in arrays)).digest() for k in range(len(rows))]
