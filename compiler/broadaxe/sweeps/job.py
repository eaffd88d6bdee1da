"""One run of a sweep: a function of the material and the run alone, wherever it is computed."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from broadaxe.errors import BroadaxeError
from broadaxe.evaluation import Judge, Rows
from broadaxe.lower import lower
from broadaxe.passes import run_passes
from broadaxe.passes.divide_rows import divide_rows
from broadaxe.prove.accumulators import accumulators
from broadaxe.quantization.config import QuantConfig
from broadaxe.quantization.quantize import quantizer_settings, quantizes_activations, with_quantizers
from broadaxe.quantization.record import QuantizationRecord
from broadaxe.sweeps.config import Run, SweepConfig

PREPARED = 4
"""Models with quantizers that a worker keeps; runs of one (M, N) come in a row."""


@dataclass(frozen=True, eq=False)
class Material:
    """What every run needs; sent once to each worker.

    Attributes:
        model: float ONNX or QONNX, serialized.
        calibration: inputs by name.
        validation: rows that runs are scored on.
        config: of the sweep.
    """

    model: bytes
    calibration: dict[str, npt.NDArray[Any]]
    validation: Rows
    config: SweepConfig

    def bench(self) -> Bench:
        """For a worker: what takes time but once is done now."""
        from broadaxe.quantization import network  # noqa: F401

        made = Bench(self)
        _ = made.judge
        return made

    @property
    def digest(self) -> str:
        parts = (
            hashlib.sha256(self.model).hexdigest(),
            Rows(self.calibration).digest,
            self.validation.digest,
            labels_digest(self.validation) or "",
            self.config.model_dump_json(),
        )
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Result:
    """What a run gave: cells of its row by column, and the quantized model unless it was refused."""

    cells: dict[str, str]
    model: bytes | None


class Bench:
    """The state of a worker: the model read, its quantizers inserted, the float network's outputs known."""

    def __init__(self, material: Material) -> None:
        self.material = material
        self.model = onnx.load_from_string(material.model)
        self.floats = not has_quantizers(self.model)
        self._judge: Judge | None = None
        self._prepared: OrderedDict[str, onnx.ModelProto] = OrderedDict()

    @property
    def judge(self) -> Judge:
        if self._judge is None:
            self._judge = Judge(self.material.validation, self.model, threads=1)
        return self._judge

    def prepared(self, config: QuantConfig) -> onnx.ModelProto:
        """The model with quantizers for some settings; what the last few settings gave is kept."""
        if not self.floats:
            return self.model
        key = f"{quantizer_settings(config)} {config.held_out}"
        if key not in self._prepared:
            self._prepared[key] = with_quantizers(self.model, self.material.calibration, config)
        self._prepared.move_to_end(key)
        while len(self._prepared) > PREPARED:
            self._prepared.popitem(last=False)
        return self._prepared[key]

    def measure(self, run: Run) -> Result:
        """Quantize, prove and score. What goes wrong is a cell, not an exception."""
        start = time.perf_counter()
        with one_thread():
            try:
                cells, model = self._measured(run)
            except BroadaxeError as error:
                cells, model = {"error": one_line(str(error))}, None
            except Exception as error:
                cells, model = {"error": one_line(f"{type(error).__name__}: {error}")}, None
        return Result(cells | {"seconds": f"{time.perf_counter() - start:.2f}"}, model)

    def _measured(self, run: Run) -> tuple[dict[str, str], bytes]:
        from broadaxe.quantization.network import quantize_model

        config = self.material.config.of(run)
        model, record = quantize_model(self.prepared(config), self.material.calibration, config, own_bits=self.floats)
        found = accumulators(run_passes(lower(model).graph, (divide_rows,)))
        error = record.output_error
        cells = {
            "bits": str(declared_bits(record)),
            "offset_bits": str(max(a.offset_bits for a in found)),
            "signed_bits": str(max(a.exact_bits for a in found)),
            "validation": f"{self.judge(model):.4f}",
            "output_error": "" if error is None else f"{error:.5g}",
        }
        return cells, model.SerializeToString()


def declared_bits(record: QuantizationRecord) -> int:
    """Bits of the widest accumulator as the compiler declares it, in tiled layers of the widest tile's."""
    return max(layer.width if layer.inner_width is None else layer.inner_width for layer in record.layers)


def has_quantizers(model: onnx.ModelProto) -> bool:
    return quantizes_activations(model)


def labels_digest(rows: Rows) -> str | None:
    """SHA-256 of the labels."""
    return None if rows.labels is None else hashlib.sha256(np.ascontiguousarray(rows.labels).tobytes()).hexdigest()


def one_line(text: str) -> str:
    return " ".join(text.split())[:500]


@contextmanager
def one_thread() -> Iterator[None]:
    """torch and BLAS on one thread: figures do not depend on the machine's cores, and workers do not compete."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        try:
            from threadpoolctl import threadpool_limits
        except ModuleNotFoundError:  # local workers are started with one thread
            yield
            return
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
