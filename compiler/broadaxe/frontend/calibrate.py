"""What values activations take on calibration data: extremes, and a histogram where one is asked for.

Data stream through onnxruntime in batches. The first pass finds each tensor's extremes, the second one counts into bins
between them; what is held at a time is one batch of the tensors asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from broadaxe.errors import RequestError, UnsupportedModelError, elements_of, said_by
from broadaxe.frontend.standard import expand_quant, session
from broadaxe.frontend.wiring import prepared, shown

Array: TypeAlias = npt.NDArray[Any]

BINS = 4096
BATCH = 256
HELD_ELEMENTS = 1 << 23
"""Elements of activations and inputs in one batch, 32 MiB of float32."""


@dataclass(frozen=True, eq=False)
class Observed:
    """Values that a tensor took.

    Attributes:
        lo, hi: extremes, 0 included.
        zeros: elements that are exactly 0.
        counts: all other elements, in equal bins between lo and hi; empty without a histogram.
    """

    lo: float
    hi: float
    zeros: int = 0
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return max(-self.lo, self.hi)

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """Edges of the bins, shape (bins + 1,), in real units."""
        return np.linspace(self.lo, self.hi, len(self.counts) + 1)


class Samples:
    """Calibration data, checked against the inputs of a model: right names, shapes and types, finite, at least one sample.

    Attributes:
        arrays: by input name, batch first, of one length.
        count: samples.
        lowest: the smallest value of each input.
    """

    def __init__(self, inputs: Mapping[str, onnx.ValueInfoProto], data: Mapping[str, Array] | Array) -> None:
        if not isinstance(data, Mapping):
            if len(inputs) != 1:
                raise RequestError(
                    f"calibration: one array for {len(inputs)} inputs; give a mapping with {_listed(inputs)}"
                )
            data = {next(iter(inputs)): data}
        unknown, missing = sorted(set(data) - set(inputs)), sorted(set(inputs) - set(data))
        if unknown:
            raise RequestError(
                f"calibration {shown(unknown[0])}: the model has no such input; it has {_listed(inputs)}"
            )
        if missing:
            raise RequestError(f"calibration {shown(missing[0])}: has no data; give samples for {_listed(inputs)}")
        self.arrays = {name: _checked(info, data[name]) for name, info in inputs.items()}
        lengths = {name: len(array) for name, array in self.arrays.items()}
        self.count = min(lengths.values(), default=0)
        if len(set(lengths.values())) > 1:
            held = ", ".join(f"{shown(name)} {length}" for name, length in lengths.items())
            raise RequestError(f"calibration: inputs differ in their number of samples, {held}; give as many of each")
        self.lowest = {name: _lowest(name, array) for name, array in self.arrays.items()}

    def batch(self, start: int, size: int) -> tuple[dict[str, Array], int]:
        """`size` samples from `start` on, and how many of them count: beyond the end the first samples fill up."""
        index = np.arange(start, start + size)
        real = min(size, self.count - start)
        return {name: np.ascontiguousarray(a[index % self.count]) for name, a in self.arrays.items()}, real


def calibrate(
    model: onnx.ModelProto, tensors: Sequence[str], data: Mapping[str, Array] | Array, *, bins: int = 0
) -> dict[str, Observed]:
    """Observe tensors of a model on calibration data.

    Args:
        model: float ONNX or QONNX.
        tensors: names of float tensors: inputs, or what a node writes.
        data: samples by input name, batch first; a single array for a single input.
        bins: of the histogram, 0 for extremes only.

    Raises:
        RequestError: the data do not fit the model, or are not finite.
        UnsupportedModelError: the model does not run, or a tensor is not finite.
    """
    result = prepared(model)
    samples = Samples({info.name: info for info in result.graph.input}, data)
    return observe(result, tensors, samples, bins=bins)


def observe(model: onnx.ModelProto, tensors: Sequence[str], samples: Samples, *, bins: int = 0) -> dict[str, Observed]:
    """`calibrate` for a prepared model and checked data."""
    if bins < 0 or bins > 1 << 20:
        raise RequestError(f"calibration: {bins} bins; 0 to {1 << 20} are supported")
    runner = _Runner(model, tensors, samples)
    ends = dict.fromkeys(tensors, (0.0, 0.0))
    for name, values in runner.values():
        if not values.size:
            raise UnsupportedModelError(f"{shown(name)}: holds no value; repair the model's shapes")
        if not np.isfinite(values).all():
            raise UnsupportedModelError(
                f"{shown(name)}: the float model computes values that are not finite numbers on the calibration data;"
                " repair the model or the data"
            )
        lo, hi = ends[name]
        ends[name] = (min(lo, float(values.min())), max(hi, float(values.max())))
    if not bins:
        return {name: Observed(lo, hi) for name, (lo, hi) in ends.items()}
    counts = {name: np.zeros(bins, dtype=np.int64) for name in tensors}
    zeros = dict.fromkeys(tensors, 0)
    for name, values in runner.values():
        lo, hi = ends[name]
        others = values[values != 0].astype(np.float64)
        zeros[name] += values.size - others.size
        if others.size:
            place = ((others - lo) * (bins / (hi - lo))).astype(np.int64)
            counts[name] += np.bincount(np.minimum(place, bins - 1), minlength=bins)
    return {name: Observed(lo, hi, zeros[name], counts[name]) for name, (lo, hi) in ends.items()}


class _Runner:
    """Runs a model over all samples, several times if need be."""

    def __init__(self, model: onnx.ModelProto, tensors: Sequence[str], samples: Samples) -> None:
        self.samples = samples
        self.computed = [name for name in tensors if name not in samples.arrays]
        self.given = [name for name in tensors if name in samples.arrays]
        self.session = session(expand_quant(model), outputs=self.computed) if self.computed else None
        fixed = {_fixed_batch(info) for info in model.graph.input} - {0}
        self.fixed = max(fixed, default=0)

    def values(self) -> Iterator[tuple[str, Array]]:
        """(tensor, its values on a batch), batch after batch; a model with a fixed batch runs with that."""
        start, size = 0, self.fixed or 1
        while start < self.samples.count:
            feeds, real = self.samples.batch(start, size)
            outputs = self._run(feeds)
            held = sum(array.size for array in (*outputs.values(), *feeds.values()))
            for name in self.given:
                yield name, feeds[name][:real]
            for name, array in outputs.items():
                yield name, array[:real] if array.ndim and len(array) == size else array
            start += size
            if not self.fixed:
                size = max(1, min(BATCH, HELD_ELEMENTS * size // max(held, 1), self.samples.count - start))

    def _run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        if self.session is None:
            return {}
        try:
            outputs = self.session.run(self.computed, {i.name: feeds[i.name] for i in self.session.get_inputs()})
        except Exception as error:  # onnxruntime's exceptions share no base
            raise UnsupportedModelError(
                f"model: onnxruntime cannot run it on the calibration data, {said_by(error)}; repair the model"
            ) from error
        return dict(zip(self.computed, outputs, strict=True))


def _checked(info: onnx.ValueInfoProto, data: Array) -> Array:
    """Samples of one input, in its type where that changes no value."""
    place = f"calibration {shown(info.name)}"
    array = np.asanyarray(data)
    if array.dtype.kind not in "fiub":
        raise RequestError(f"{place}: holds {elements_of(array.dtype)}; numbers are needed, give a numeric array")
    dims = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
    fits = array.ndim == len(dims) and all(d in (0, n) for d, n in zip(dims[1:], array.shape[1:], strict=True))
    if not fits or not dims:
        wanted = ", ".join(["samples", *(str(d or "any") for d in dims[1:])])
        raise RequestError(f"{place}: has shape {tuple(array.shape)}; the model takes ({wanted})")
    if not array.size:
        raise RequestError(f"{place}: holds no sample, shape {tuple(array.shape)}; give at least one")
    kind = np.dtype(helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type))
    if kind.kind in "iu" and array.dtype != kind:
        limits = np.iinfo(kind)
        if array.dtype.kind == "f" or array.min() < limits.min or array.max() > limits.max:
            raise RequestError(f"{place}: holds {array.dtype}; the model takes {kind}, give integers of that type")
    return array if array.dtype == kind else array.astype(kind)


def _lowest(name: str, array: Array) -> float:
    """The smallest value; RequestError where one is not finite."""
    lowest = np.inf
    for start in range(0, len(array), BATCH):
        block = np.asarray(array[start : start + BATCH])
        if block.dtype.kind == "f" and not np.isfinite(block).all():
            place = np.argwhere(~np.isfinite(block))[0]
            value = block[tuple(place)]
            index = tuple(int(n) for n in (start + place[0], *place[1:]))
            raise RequestError(f"calibration {shown(name)}: holds {value} at {index}; only finite numbers can be used")
        lowest = min(lowest, float(block.min()))
    return lowest


def _fixed_batch(info: onnx.ValueInfoProto) -> int:
    dims = info.type.tensor_type.shape.dim
    return int(dims[0].dim_value) if dims else 0


def _listed(inputs: Mapping[str, onnx.ValueInfoProto]) -> str:
    return ", ".join(shown(name) for name in inputs)
