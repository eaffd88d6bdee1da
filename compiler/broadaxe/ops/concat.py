"""Concat: two tensors of one scale, their channels one behind the other at every position."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from broadaxe.chain import Affine, PerChannel
from broadaxe.errors import GraphError
from broadaxe.ir import Bounds, Example, IntArray, Lanes, OnnxBuilder, Op, Shape, Value
from broadaxe.ops.importing import (
    GraphBuilder,
    ModelNode,
    Scaled,
    Tensor,
    channels_first,
    image,
    imports,
    per_image_channel,
)
from broadaxe.types import Interval, IntType


@dataclass(frozen=True)
class Concat(Op):
    """y = (a, b) on the last axis."""

    kind = "concat"

    def shape(self, *inputs: Value) -> Shape:
        a, b = inputs
        if a.shape[:-1] != b.shape[:-1]:
            raise GraphError(f"concat: positions {a.shape[:-1]} and {b.shape[:-1]} differ")
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

    def template_context(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Mapping[str, Any]:
        a, b = inputs
        return {"lanes": lanes.read, "channels": (a.channels, b.channels), "pixels": output.size // output.channels}

    def witnesses(self, inputs: Sequence[Value], channel: int) -> tuple[list[IntArray], list[IntArray]] | None:
        ends = [value.ends() for value in inputs]
        low = [np.broadcast_to(lo, v.shape) for (lo, _), v in zip(ends, inputs, strict=True)]
        return low, [np.broadcast_to(hi, v.shape) for (_, hi), v in zip(ends, inputs, strict=True)]

    @classmethod
    def examples(cls) -> Iterable[Example]:
        a = Value("a", (2, 2, 4), IntType(4, signed=True), tuple(Interval(-c, 7 - c) for c in range(4)))
        b = Value("b", (2, 2, 6), IntType(6, signed=False), (Interval(0, 63),) * 6)
        yield Example("4 and 6 channels", cls(), (a, b))


@imports("Concat")
def import_concat(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """Concat of images on the channel axis, or of vectors; parts may differ in scale, their readers may not take that."""
    parts = [node.scaled(position) for position in range(len(node.inputs))]
    axis = int(node.attribute("axis", 1)) % len(parts[0].shape)
    if axis != 1:
        raise node.fail(f"joins axis {axis}; only channels, axis 1, can be joined")
    out = parts[0]
    for part in parts[1:]:
        out = _join(graph, node, out, part)
    return out


def _affine(graph: GraphBuilder, node: ModelNode, part: Scaled) -> Affine:
    """The one affine step of a tensor that may be joined."""
    (first, *rest) = part.chain
    if rest or part.pools or not isinstance(first, Affine):
        raise node.fail(
            "joins a tensor that is not a plain scale of integers (a BatchNormalization, Relu or MaxPool comes between);"
            " put a Quant on every part"
        )
    if len(first.scale) > 1 or len(first.shift) > 1:
        per_image_channel(graph, node, part, part.shape[1])
    return first


def _join(graph: GraphBuilder, node: ModelNode, left: Scaled, right: Scaled) -> Scaled:
    first, second = _affine(graph, node, left), _affine(graph, node, right)
    if len(left.shape) == 4:
        a, b = image(graph, node, left), image(graph, node, right)
    else:
        a, b = graph.values[left.value], graph.values[right.value]
        if len(a.shape) != 1 or len(b.shape) != 1:
            raise node.fail("joins tensors that are neither images nor vectors; reshape them first")
    if a.shape[:-1] != b.shape[:-1]:
        raise node.fail(f"joins images of sizes {a.shape[:-1]} and {b.shape[:-1]}; make them alike")
    affine = Affine(
        _joined(first.scale, second.scale, a.channels, b.channels),
        _joined(first.shift, second.shift, a.channels, b.channels),
    )
    value = graph.add(graph.fresh("concat"), Concat(), [a.name, b.name], node.where, affine)
    index = np.concatenate([left.index, right.index + a.size], axis=1)
    if len(left.shape) == 4:
        index = channels_first(*value.shape)
    return Scaled(value.name, index, (affine,))


def _joined(left: PerChannel, right: PerChannel, first: int, second: int) -> PerChannel:
    """One column for the joined channels, a single entry where all are equal."""
    column = _wide(left, first) + _wide(right, second)
    return column[:1] if all(v == column[0] for v in column) else column


def _wide(column: PerChannel, channels: int) -> PerChannel:
    return column * channels if len(column) == 1 else column
