"""The host's side of an accelerator: reals to input codes, output integers to reals.

Before the hardware: whatever the model does to its input up to and with the first quantizer. Behind it: the exact chain
from the last integers to reals, evaluated in float64, and any float operators that the model ends with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from broadaxe.chain import Floats, magnitudes
from broadaxe.errors import RequestError
from broadaxe.frontend.batch import symbolic_batch
from broadaxe.frontend.standard import expand_quant, session
from broadaxe.ir import Graph, IntArray, carrier
from broadaxe.lower import HostInput, HostOutput, Lowered, extract, run_float
from broadaxe.types import Interval

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Host:
    """Float arithmetic around an integer graph."""

    graph: Graph
    lowered: Lowered
    standard: onnx.ModelProto
    """The whole model in standard ONNX operators with an open batch axis."""

    @classmethod
    def of(cls, model: onnx.ModelProto, lowered: Lowered, graph: Graph) -> Host:
        return cls(graph, lowered, symbolic_batch(expand_quant(model)))

    def _shape(self, tensor: str) -> tuple[int, ...]:
        """Shape of a model input without its batch axis; a head may transpose it before the quantizer."""
        info = next(i for i in self.standard.graph.input if i.name == tensor)
        return tuple(int(d.dim_value) for d in info.type.tensor_type.shape.dim[1:])

    def codes(self, data: Mapping[str, Array]) -> dict[str, IntArray]:
        """Integer inputs of the graph for the model's inputs, in stream order, shape (batch, *shape)."""
        reals = {i.tensor: _checked(i, self._shape(i.tensor), data) for i in self.lowered.inputs}
        for host in self.lowered.inputs:
            if host.quantized is None:
                _check_integers(host, reals[host.tensor], self.graph.values[host.value].dtype.range)
        quantized = [i.quantized for i in self.lowered.inputs if i.quantized is not None]
        floats: dict[str, Array] = {}
        if quantized:
            run = session(self.standard, outputs=quantized)
            feeds = {i.name: reals[i.name].astype(np.float32) for i in run.get_inputs() if i.name in reals}
            try:
                floats = dict(zip(quantized, run.run(quantized, feeds), strict=True))
            except Exception as error:  # onnxruntime's exceptions share no base of their own
                reason = str(error).splitlines()[0]
                raise RequestError(
                    f"data: onnxruntime cannot compute the quantized inputs: {reason}; check the model"
                ) from None
        return {i.value: self._integers(i, floats.get(i.quantized or "", reals[i.tensor])) for i in self.lowered.inputs}

    def _integers(self, host: HostInput, x: Array) -> IntArray:
        value = self.graph.values[host.value]
        stream = np.empty((len(x), value.size), dtype=np.float64)
        stream[:, host.index.reshape(-1)] = x.reshape(len(x), -1)
        stream = stream.reshape(len(x), *value.shape)
        scale = np.array([float(s) for s in value.scale])
        shift = np.array([float(s) for s in value.shift])
        return np.asarray(np.rint((stream - shift) / scale), dtype=carrier(value.dtype))

    def reals(self, integers: Mapping[str, IntArray]) -> dict[str, Array]:
        """The model's outputs for the integer outputs of the graph, float32, batch first."""
        tensors = {o.tensor: real(o, integers[o.value]) for o in self.lowered.outputs}
        wanted = list(self.lowered.outputs_of_model)
        rest = [name for name in wanted if name not in tensors]
        if rest:
            tail = extract(self.standard, sorted(tensors), rest)
            tensors |= run_float(tail, {i.name: tensors[i.name] for i in tail.graph.input})
        return {name: tensors[name] for name in wanted}


def real(output: HostOutput, integers: IntArray) -> Array:
    """Reals of a model tensor from the integers of its value, float32, shape (batch, ...)."""
    x = _by_channel(integers)
    for step in output.chain:
        x = step.approximate(x)
    return _placed(output, x, len(integers)).astype(np.float32)


def rounding(output: HostOutput, integers: IntArray) -> Array:
    """How far `real` may be from the exact reals, float64: the steps of the chain in float64, then one float32 number.

    A step rounds at most 9 times, constants included; 64 leave room for the second order and for this sum itself.
    """
    size = _placed(output, magnitudes(output.chain, np.abs(_by_channel(integers))), len(integers))
    limits = np.finfo(np.float32)
    steps = 64 * 2.0**-53 * len(output.chain) * size
    return np.asarray(limits.eps / 2 * np.abs(real(output, integers)) + steps + float(limits.smallest_subnormal))


def _by_channel(integers: IntArray) -> Floats:
    return np.asarray(integers.reshape(-1, integers.shape[-1]).T, dtype=np.float64)


def _placed(output: HostOutput, x: Floats, batch: int) -> Floats:
    """Elements by channel where the model's tensor has them, shape (batch, ...)."""
    picked = x.T.reshape(batch, -1)[:, output.index.reshape(-1)]
    return np.asarray(picked.reshape(batch, *output.index.shape[1:]))


def _checked(host: HostInput, shape: tuple[int, ...], data: Mapping[str, Array]) -> Array:
    if host.tensor not in data:
        raise RequestError(f"input {host.tensor}: missing; the data hold {', '.join(sorted(data)) or 'nothing'}")
    x = np.asarray(data[host.tensor])
    if x.dtype.kind not in "fiub":
        raise RequestError(f"input {host.tensor}: holds {x.dtype}; numbers are needed")
    if x.shape[1:] != shape or len(x) == 0:
        raise RequestError(f"input {host.tensor}: shape {x.shape}; give (samples, {', '.join(map(str, shape))})")
    if not np.isfinite(x).all():
        raise RequestError(f"input {host.tensor}: holds values that are not finite numbers; clean the data")
    return x


def _check_integers(host: HostInput, x: Array, allowed: Interval) -> None:
    """Data for an input that the user declared to be integer."""
    wrong = x[(x < allowed.lo) | (x > allowed.hi) | (x != np.rint(x))]
    if wrong.size:
        raise RequestError(
            f"input {host.tensor}: holds {wrong.flat[0]:g}; it was declared to hold integers {allowed.lo} to {allowed.hi},"
            " clip or round the data"
        )
