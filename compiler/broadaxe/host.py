"""The host's side of an accelerator: reals to input codes, output integers to reals.

Before the hardware: whatever the model does to its input up to and with the first quantizer. Behind it: the exact chain
from the last integers to reals, evaluated in float64, and any float operators that the model ends with.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper

from broadaxe.chain import Floats
from broadaxe.constants import run_float
from broadaxe.errors import DataWarning, RequestError, elements_of, said_by
from broadaxe.frontend.batch import symbolic_batch
from broadaxe.frontend.finn import qonnx_from_finn
from broadaxe.frontend.standard import expand_quant, session
from broadaxe.ir import Graph, IntArray, carrier
from broadaxe.lower import HostInput, HostOutput, Lowered, extract
from broadaxe.types import Interval

Array = npt.NDArray[Any]
CLIPPED = 0.05
"""Share of an input's values beyond its quantizer's range from which on a warning is due: calibration may clip a few."""


@dataclass(frozen=True, eq=False)
class Host:
    """Float arithmetic around an integer graph."""

    graph: Graph
    lowered: Lowered
    qonnx: onnx.ModelProto
    """The whole model in QONNX."""
    standard: onnx.ModelProto
    """The whole model in standard ONNX operators with an open batch axis."""

    @classmethod
    def of(cls, model: onnx.ModelProto, lowered: Lowered, graph: Graph) -> Host:
        qonnx = qonnx_from_finn(model)
        standard = symbolic_batch(expand_quant(qonnx))
        known = {info.name for info in (*standard.graph.value_info, *standard.graph.output)}
        for tensor in lowered.tensors:  # where the model can be cut, its parts need the types of what is not float32
            if tensor.kind != "float32" and tensor.tensor not in known:
                kind = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.kind))
                standard.graph.value_info.append(helper.make_tensor_value_info(tensor.tensor, kind, None))
        return cls(graph, lowered, qonnx, standard)

    @property
    def inputs(self) -> list[str]:
        """The model's inputs that its integers depend on."""
        return list(dict.fromkeys(i.tensor for i in self.lowered.inputs))

    def _input(self, tensor: str) -> onnx.ValueInfoProto:
        """A model input as the model declares it; a head may transpose it before the quantizer."""
        info: onnx.ValueInfoProto = next(i for i in self.standard.graph.input if i.name == tensor)
        return info

    @cached_property
    def head(self) -> onnx.ModelProto:
        """What leads from the model's inputs to its first quantized tensors, and nothing behind them."""
        quantized = {i.quantized: i.tensor for i in self.lowered.inputs if i.quantized is not None}
        return extract(self.standard, list(dict.fromkeys(quantized.values())), list(quantized))

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        return session(self.head)

    def feeds(self, data: Mapping[str, Array]) -> dict[str, Array]:
        """Data of the model's inputs, checked, in the element types that the model declares."""
        return {name: _checked(self._input(name), data) for name in self.inputs}

    def codes(self, data: Mapping[str, Array]) -> dict[str, IntArray]:
        """Integer inputs of the graph for the model's inputs, in stream order, shape (batch, *shape)."""
        reals = self.feeds(data)
        for host in self.lowered.inputs:
            if host.quantized is None:
                value = self.graph.values[host.value]
                (step,), (start,), codes = value.scale, value.shift, value.hull
                allowed = Interval(*(int(step * end + start) for end in (codes.lo, codes.hi)))
                _check_integers(host.tensor, reals[host.tensor], allowed, int(step))
        floats: dict[str, Array] = {}
        if any(i.quantized is not None for i in self.lowered.inputs):
            names = [o.name for o in self._session.get_outputs()]
            try:
                results = self._session.run(names, {i.name: reals[i.name] for i in self._session.get_inputs()})
            except Exception as error:  # onnxruntime's exceptions share no base of their own
                raise RequestError(
                    f"data: onnxruntime cannot compute the quantized inputs, {said_by(error)}; check the model"
                ) from None
            floats = dict(zip(names, results, strict=True))
        self._warn_of_clipped(reals)
        return {i.value: self._integers(i, floats.get(i.quantized or "", reals[i.tensor])) for i in self.lowered.inputs}

    def _warn_of_clipped(self, reals: Mapping[str, Array]) -> None:
        """Say which inputs go straight into a quantizer that clips many of their values."""
        quants = {n.output[0]: n.input[0] for n in self.qonnx.graph.node if n.op_type in ("Quant", "IntQuant")}
        for host in self.lowered.inputs:
            value, x = self.graph.values[host.value], reals[host.tensor]
            straight = host.quantized is not None and quants.get(host.quantized) == host.tensor
            if not straight or len({*value.scale}) > 1 or len({*value.shift}) > 1 or not x.size:
                continue
            step, shift = float(value.scale[0]), float(value.shift[0])
            low, high = sorted((step * value.hull.lo + shift, step * value.hull.hi + shift))
            share = float(np.mean((x < low - abs(step) / 2) | (x > high + abs(step) / 2)))
            if share > CLIPPED:
                warnings.warn(
                    f"input {host.tensor}: {share:.0%} of its values are beyond what its quantizer represents, {low:.4g} to"
                    f" {high:.4g}; scale data as for calibration",
                    DataWarning,
                    stacklevel=3,
                )

    def _integers(self, host: HostInput, x: Array) -> IntArray:
        value = self.graph.values[host.value]
        stream = np.empty((len(x), value.size), dtype=np.float64)
        stream[:, host.index.reshape(-1)] = x.reshape(len(x), -1)
        stream = stream.reshape(len(x), *value.shape)
        scale = np.array([float(s) for s in value.scale])
        shift = np.array([float(s) for s in value.shift])
        return np.asarray(np.rint((stream - shift) / scale), dtype=carrier(value.dtype))

    def reals(self, integers: Mapping[str, IntArray]) -> dict[str, Array]:
        """The model's outputs for the integer outputs of the graph, in the model's element types, batch first."""
        tensors = {o.tensor: real(o, integers[o.value]) for o in self.lowered.outputs}
        wanted = list(self.lowered.outputs_of_model)
        rest = [name for name in wanted if name not in tensors]
        if rest:
            tail = extract(self.standard, sorted(tensors), rest)
            kinds = {i.name: helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type) for i in tail.graph.input}
            tensors |= run_float(tail, {name: tensors[name].astype(kind) for name, kind in kinds.items()})
        return {name: tensors[name] for name in wanted}


def real(output: HostOutput, integers: IntArray) -> Array:
    """Reals of a model tensor from the integers of its value, in its element type, shape (batch, ...)."""
    x = _by_channel(integers)
    for step in output.chain:
        x = step.approximate(x)
    placed, kind = _placed(output, x, len(integers)), np.dtype(output.kind)
    return np.rint(placed).astype(kind) if kind.kind in "iu" else placed.astype(kind)


def rounding(output: HostOutput, integers: IntArray) -> Array:
    """How far `real` may be from the exact reals, float64: the steps of the chain in float64, then one float32 number."""
    x = _by_channel(integers)
    off = np.zeros_like(x)
    for step in output.chain:
        x, off = step.approximate(x), step.error(x, off)
    limits = np.finfo(np.float32)
    steps = _placed(output, off, len(integers))
    return np.asarray(limits.eps / 2 * np.abs(real(output, integers)) + steps + float(limits.smallest_subnormal))


def _by_channel(integers: IntArray) -> Floats:
    return np.asarray(integers.reshape(-1, integers.shape[-1]).T, dtype=np.float64)


def _placed(output: HostOutput, x: Floats, batch: int) -> Floats:
    """Elements by channel where the model's tensor has them, shape (batch, ...)."""
    picked = x.T.reshape(batch, -1)[:, output.index.reshape(-1)]
    return np.asarray(picked.reshape(batch, *output.index.shape[1:]))


def _checked(info: onnx.ValueInfoProto, data: Mapping[str, Array]) -> Array:
    name, declared = info.name, info.type.tensor_type
    if name not in data:
        raise RequestError(
            f"input {name}: is missing, the data hold {', '.join(sorted(map(str, data))) or 'nothing'}; name it"
        )
    x = np.asarray(data[name])
    shape = tuple(int(d.dim_value) for d in declared.shape.dim[1:])
    if x.dtype.kind not in "fiub":
        raise RequestError(f"input {name}: holds {elements_of(x.dtype)}; numbers are needed")
    if x.shape[1:] != shape or len(x) == 0:
        raise RequestError(f"input {name}: shape {x.shape}; give (samples, {', '.join(map(str, shape))})")
    kind = np.dtype(helper.tensor_dtype_to_np_dtype(declared.elem_type))
    if kind.kind in "iub":
        limits = Interval(0, 1) if kind.kind == "b" else Interval(int(np.iinfo(kind).min), int(np.iinfo(kind).max))
        _check_integers(name, x, limits)
        return x.astype(kind)
    with np.errstate(over="ignore"):
        typed = x.astype(kind)
    if not np.isfinite(typed).all():
        raise RequestError(f"input {name}: holds values that are not finite numbers; clean the data")
    return typed


def _check_integers(name: str, x: Array, allowed: Interval, step: int = 1) -> None:
    """Data for an input that the user or the model declares to be every `step`-th of the allowed integers."""
    known = np.isfinite(x) & (x >= allowed.lo) & (x <= allowed.hi) & (x == np.rint(x))
    if step > 1:
        known[known] = (x[known] - allowed.lo) % step == 0
    wrong = x[~known]
    if wrong.size:
        ends = f"integers {allowed.lo} to {allowed.hi}" if step == 1 else f"{allowed.lo} or {allowed.hi}"
        raise RequestError(
            f"input {name}: holds {wrong.flat[0]:g}; it was declared to hold {ends}, clip or round the data"
        )
