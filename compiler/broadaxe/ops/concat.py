"""Concat: two tensors of one scale, their channels one behind the other at every position."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from broadaxe.chain import Affine, PerChannel
from broadaxe.errors import GraphError
from broadaxe.hardware import Resources, Trace, repeated
from broadaxe.ir import Bounds, Example, IntArray, Lanes, OnnxBuilder, Op, Shape, Value
from broadaxe.ops import costs
from broadaxe.ops.importing import (
    GraphBuilder,
    ModelNode,
    Scaled,
    Tensor,
    arranged,
    imports,
    stream_axes,
)
from broadaxe.ops.window_max import settled
from broadaxe.types import Interval, IntType


@dataclass(frozen=True)
class Concat(Op):
    """y = (a, b) on the last axis."""

    kind = "concat"

    def shape(self, *inputs: Value) -> Shape:
        a, b = inputs
        if a.shape[:-1] != b.shape[:-1]:
            raise GraphError(f"concat: positions {a.shape[:-1]} and {b.shape[:-1]} differ; make them alike")
        return (*a.shape[:-1], a.channels + b.channels)

    def bounds(self, *inputs: Value) -> Bounds:
        return inputs[0].bounds + inputs[1].bounds

    def dtype(self, *inputs: Value) -> IntType:
        return (inputs[0].dtype.range | inputs[1].dtype.range).dtype

    def reference(self, *inputs: IntArray) -> IntArray:
        return np.concatenate(inputs, axis=-1)

    def render(self, builder: OnnxBuilder, inputs: Sequence[str], values: Sequence[Value]) -> str:
        kinds = [builder.kind(name) for name in inputs]
        kind = np.dtype(np.int64) if np.int64 in kinds else max(kinds)
        return builder.node("Concat", *(builder.cast(name, kind) for name in inputs), axis=-1)

    def cycles(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> int:
        return output.size // lanes.written

    def trace(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Trace:
        """A pixel's words of the first input, then those of the second."""
        words, pixels = output.channels // lanes.written, output.size // output.channels
        first = inputs[0].channels // lanes.read
        reads = (repeated(np.arange(first), words, pixels), repeated(np.arange(first, words), words, pixels))
        return Trace(pixels * words, reads, np.arange(pixels * words))

    def template_context(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Mapping[str, Any]:
        a, b = inputs
        return {"lanes": lanes.read, "channels": (a.channels, b.channels), "pixels": output.size // output.channels}

    def witnesses(self, inputs: Sequence[Value], channel: int) -> tuple[list[IntArray], list[IntArray]] | None:
        ends = [value.ends() for value in inputs]
        low = [np.broadcast_to(lo, v.shape) for (lo, _), v in zip(ends, inputs, strict=True)]
        return low, [np.broadcast_to(hi, v.shape) for (_, hi), v in zip(ends, inputs, strict=True)]

    def resources(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Resources:
        """A choice of one of two words."""
        bits = lanes.read * output.dtype.width
        return Resources(bits, bits) + costs.counters(output.size // lanes.written, output.channels // lanes.written)

    @classmethod
    def examples(cls) -> Iterable[Example]:
        a = Value("a", (2, 2, 4), IntType(4, signed=True), tuple(Interval(-c, 7 - c) for c in range(4)))
        b = Value("b", (2, 2, 6), IntType(6, signed=False), (Interval(0, 63),) * 6)
        yield Example("4 and 6 channels", cls(), (a, b))


@imports("Concat")
def import_concat(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """Concat on any axis but the batch; parts may differ in scale, their readers may not take that."""
    parts = [settled(graph, node, node.scaled(position)) for position in range(len(node.inputs))]
    axis, shape = int(node.attribute("axis", 1)), parts[0].shape
    if not -len(shape) <= axis < len(shape):
        raise node.fail(f"axis is {axis}; its inputs have {len(shape)} axes, repair the model")
    axis %= len(shape)
    if axis == 0:
        raise node.fail("joins the batch axis; keep the batch axis first")
    for part in parts[1:]:
        if len(part.shape) != len(shape) or any(
            a != b for i, (a, b) in enumerate(zip(part.shape, shape, strict=True)) if i != axis
        ):
            raise node.fail(
                f"joins tensors of shapes {list(shape)} and {list(part.shape)} on axis {axis}; make them alike"
            )
    out = parts[0]
    for part in parts[1:]:
        out = _join(graph, node, out, part, axis)
    return out


def _affine(node: ModelNode, part: Scaled) -> Affine:
    """The one affine step of a tensor that may be joined."""
    (first, *rest) = part.chain
    if rest or part.pools or not isinstance(first, Affine):
        raise node.fail(
            "joins a tensor that is not a plain scale of integers (a BatchNormalization, Relu or MaxPool comes between);"
            " put a Quant on every part"
        )
    return first


def _join(graph: GraphBuilder, node: ModelNode, left: Scaled, right: Scaled, axis: int) -> Scaled:
    """On the axis that streams fastest position by position, on any other one tensor behind the other."""
    _affine(node, left)
    _affine(node, right)
    order = [a + 1 for a in stream_axes(left.index[0])]
    fastest = order[-1] == axis
    if not fastest:
        order = [axis, *(a for a in order if a != axis)]
    wanted = [part.index.transpose(0, *order)[0] for part in (left, right)]
    shape = (*wanted[0].shape[:-1], -1) if fastest else (-1, *wanted[0].shape[1:])
    wanted = wanted if fastest else [w.reshape(-1) for w in wanted]
    a, b = (
        arranged(graph, node, part, w, np.arange(w.size).reshape(1, *w.shape))
        for part, w in zip((left, right), wanted, strict=True)
    )
    first, second = _affine(node, a), _affine(node, b)
    sizes = [w.shape[-1] for w in wanted]
    affine = Affine(_joined(first.scale, second.scale, *sizes), _joined(first.shift, second.shift, *sizes))
    value = graph.add(graph.fresh("concat"), Concat(), [a.value, b.value], node.where, affine)
    stream = np.arange(value.size).reshape(shape)
    joined = Scaled(value.name, stream[None], (affine,))
    return arranged(graph, node, joined, stream, stream.transpose(np.argsort(order))[None])


def _joined(left: PerChannel, right: PerChannel, first: int, second: int) -> PerChannel:
    """One column for the joined channels, a single entry where all are equal."""
    column = _wide(left, first) + _wide(right, second)
    return column[:1] if all(v == column[0] for v in column) else column


def _wide(column: PerChannel, channels: int) -> PerChannel:
    return column * channels if len(column) == 1 else column
