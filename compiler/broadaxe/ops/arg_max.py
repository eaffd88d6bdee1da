"""ArgMax: the index of the largest element along the last axis: what a classifier answers with.

Integers of several channels compare as their reals do once all stand on one scale. With reals s[c]*x + t[c], the greatest
rational of which every s[c] and every t[c] - t[0] is a multiple gives integers factor[c]*x + bias[c] in the same order. Where
they would be too wide, or reals are no affine function of integers, the host decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np

from broadaxe.chain import Affine, spread
from broadaxe.errors import GraphError
from broadaxe.hardware import Resources, Trace, repeated
from broadaxe.ir import WIDEST, Bounds, Example, IntArray, Lanes, OnnxBuilder, Op, Shape, Value, hull
from broadaxe.ops import costs
from broadaxe.ops.importing import GraphBuilder, ModelNode, Scaled, Tail, Tensor, arrange, imports, refuse_waiting
from broadaxe.ops.joining import by_channel
from broadaxe.ops.memories import fitting
from broadaxe.ops.select import common_scale
from broadaxe.ops.window_max import WindowMax
from broadaxe.types import Interval, IntType

MOST_CHOICES = 1 << 16
"""Elements to choose from; their constants are brought to one scale. The host chooses from more."""


@dataclass(frozen=True)
class ArgMax(Op):
    """y = the c for which factor[c] * x[c] + bias[c] is largest, on the last axis.

    Attributes:
        factor, bias: integers per channel, or one of each for all.
        last: of equals the last wins, else the first.
    """

    kind = "arg_max"
    factor: tuple[int, ...] = (1,)
    bias: tuple[int, ...] = (0,)
    last: bool = False

    def shape(self, *inputs: Value) -> Shape:
        (x,) = inputs
        if len(self.factor) not in (1, x.channels) or len(self.bias) != len(self.factor):
            raise GraphError(
                f"arg_max: {len(self.factor)} factors, {len(self.bias)} biases for {x.channels} channels; give one each, or"
                " one for all"
            )
        return (*x.shape[:-1], 1)

    def keys(self, x: Value) -> Bounds:
        """Intervals of what is compared."""
        wide = x.channels // len(self.factor)
        scales = zip(self.factor * wide, self.bias * wide, strict=True)
        return tuple(own * f + b for own, (f, b) in zip(x.bounds, scales, strict=True))

    def winners(self, x: Value) -> list[int]:
        """Channels that can win: at its upper end each has to pass, or equal, every other one's lower end."""
        keys = self.keys(x)
        lows = [key.lo for key in keys]
        before = [None, *accumulate(lows, max)][:-1]
        after = [None, *accumulate(reversed(lows), max)][:-1][::-1]
        beaten, equal = (before, after) if not self.last else (after, before)
        return [
            c
            for c, (key, most, tied) in enumerate(zip(keys, beaten, equal, strict=True))
            if (most is None or most < key.hi) and (tied is None or tied <= key.hi)
        ]

    def bounds(self, *inputs: Value) -> Bounds:
        found = self.winners(inputs[0])
        return (Interval(found[0], found[-1]),)

    def reference(self, *inputs: IntArray) -> IntArray:
        keys = inputs[0].astype(np.int64) * np.array(self.factor, dtype=np.int64) + np.array(self.bias, dtype=np.int64)
        if self.last:
            return np.asarray(keys.shape[-1] - 1 - keys[..., ::-1].argmax(axis=-1, keepdims=True))
        return np.asarray(keys.argmax(axis=-1, keepdims=True))

    def render(self, builder: OnnxBuilder, inputs: Sequence[str], values: Sequence[Value]) -> str:
        """By where the largest key stands, since onnxruntime's ArgMax takes no int64."""
        factor, bias = (builder.constant(np.array(v, dtype=np.int64)) for v in (self.factor, self.bias))
        keys = builder.node("Add", builder.node("Mul", builder.cast(inputs[0], np.int64), factor), bias)
        most = builder.node("ReduceMax", keys, builder.constant(np.array([-1])), keepdims=1)
        largest = builder.cast(builder.node("GreaterOrEqual", keys, most), np.float32)
        return builder.node("ArgMax", largest, axis=-1, keepdims=1, select_last_index=int(self.last))

    def trace(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Trace:
        """A vector's last element writes."""
        channels, vectors = inputs[0].channels, output.size
        return Trace(vectors * channels, (np.arange(vectors * channels),), repeated([channels - 1], channels, vectors))

    def template_context(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Mapping[str, Any]:
        (x,) = inputs
        return {
            "channels": x.channels,
            "vectors": output.size,
            "last": self.last,
            "key_type": str(hull(self.keys(x)).dtype),
            "factor_type": str(Interval(min(self.factor), max(self.factor)).signed_dtype),
            "memories": {
                part: (fitting(np.array(column, dtype=np.int64)), [list(column)])
                for part, column in (("factor", self.factor), ("bias", self.bias))
            },
            "scales": len(self.factor),
        }

    def witnesses(self, inputs: Sequence[Value], channel: int) -> tuple[list[IntArray], list[IntArray]] | None:
        (x,) = inputs
        found, wide = self.winners(x), x.channels // len(self.factor)
        ends = []
        for winner in (found[0], found[-1]):
            up = [(f > 0) == (c == winner) for c, f in enumerate(self.factor * wide)]
            row = np.array([own.hi if high else own.lo for own, high in zip(x.bounds, up, strict=True)])
            ends.append([np.broadcast_to(row, x.shape)])
        return ends[0], ends[1]

    def resources(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Resources:
        """The key of an element, its comparison with the best so far, and the memories of factors and biases."""
        (x,) = inputs
        wide, at = hull(self.keys(x)).dtype.width, output.dtype.width
        factors, biases = (Interval(min(v), max(v)) for v in (self.factor, self.bias))
        key = Resources(lut=wide if biases.span or biases.lo else 0, ff=wide)
        if factors.span:
            key += costs.unbound_product(x.dtype.width, factors.signed_dtype.width)
        else:
            key += Resources(lut=costs.constant_multiplier(x.dtype.width, factors.lo))
        memories = costs.total(
            costs.placed(v.signed_dtype.width, len(self.factor), rom=True) for v in (factors, biases) if v.span
        )
        best = Resources(costs.comparator(wide), wide + at)
        return key + memories + best + costs.counters(x.size, x.channels)

    @classmethod
    def examples(cls) -> Iterable[Example]:
        kind = IntType(4, signed=True)
        vector = Value("x", (6,), kind, (kind.range,) * 6)
        yield Example("first of equals", cls(), (vector,))
        yield Example("last of equals", cls(last=True), (vector,))
        yield Example("least", cls((-1,), (0,)), (vector,))
        low = (Interval(-8, -3), Interval(-2, 1), Interval(-8, -1), Interval(0, 1), Interval(-8, 1), Interval(-8, 0))
        image = Value("x", (2, 3, 6), kind, low)
        yield Example("some never win", cls(), (image,))
        yield Example("some never win, last", cls(last=True), (image,))
        yield Example("one scale", cls((3, -2, 0, 7, 1, -1), (9, 0, 4, -5, 0, 1 << 30)), (vector,))
        yield Example("one channel", cls(), (Value("x", (2, 1), kind, (kind.range,)),))


def arg_max(graph: GraphBuilder, node: ModelNode, x: Scaled, axis: int, least: bool, last: bool) -> Scaled | None:
    """The index of x's largest or least element along an axis, which stays with one element; None if only the host can tell.

    Args:
        axis: of the model's tensor, from 1 up.
        last: of equals the last one.
    """
    refuse_waiting(node, x)
    wanted = np.moveaxis(x.index[0], axis - 1, -1)
    affine = _affine(graph, x, wanted) if len(x.chain) == 1 and wanted.shape[-1] <= MOST_CHOICES else None
    if affine is None:
        return None
    factor, bias = _keys(affine, -1 if least else 1)
    op = ArgMax(factor, bias, last)
    factors, biases = (Interval(min(column), max(column)) for column in (op.factor, op.bias))
    source = graph.values[x.value]
    width = max(factors.signed_dtype.width + source.dtype.width + 1, biases.signed_dtype.width) + 1
    if width > WIDEST:
        return None
    codes = replace(x, chain=(Affine((Fraction(1),), (Fraction(0),)),))  # keys stand for the reals
    value = arrange(graph, node, codes, wanted)
    out = graph.add(graph.fresh("argmax"), op, [value.name], node.where)
    kept = [n for i, n in enumerate(x.shape) if i not in (0, axis)]
    index = np.expand_dims(np.arange(prod(kept)).reshape(1, *kept), axis)
    return Scaled(out.name, index, (out.affine,), kind="int64")


def _affine(graph: GraphBuilder, x: Scaled, wanted: IntArray) -> Affine | None:
    """A map per element of the vectors that `wanted` has along its last axis, in which order they have their reals' order.

    A vector whose elements share one map needs none, so long as all vectors' maps rise, or all fall.
    """
    affine = by_channel(graph, x, wanted)
    turned = wanted.reshape(-1, wanted.shape[-1]).T
    across = by_channel(graph, x, turned) if affine is None else None
    if across is None:
        return affine
    signs = {(s > 0) - (s < 0) for s in across.scale}
    return Affine((Fraction(signs.pop()),), (Fraction(0),)) if len(signs) == 1 else None


def _keys(affine: Affine, sign: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Factor and bias of every channel: integers in the order of sign * (scale * x + shift), equals included.

    Where one scale s stands for all channels, x + t[c] / s is an integer and a fraction in [0, 1): of two sums with one integer
    part, the order is that of the fractions, so their ranks do for them, in few bits whatever the scale.
    """
    scale, shift = spread(affine.scale, affine.shift)
    if len(set(scale)) == 1 and scale[0]:
        offsets = [sign * t / abs(scale[0]) for t in shift]
        parts = [offset - (offset.numerator // offset.denominator) for offset in offsets]
        ranks = {part: rank for rank, part in enumerate(sorted(set(parts)))}
        whole = [int(offset - part) for offset, part in zip(offsets, parts, strict=True)]
        low = min(whole)
        factor = ((sign if scale[0] > 0 else -sign) * len(ranks),) * len(scale)
        bias = tuple((n - low) * len(ranks) + ranks[part] for n, part in zip(whole, parts, strict=True))
    else:
        step = common_scale(*scale, *(t - shift[0] for t in shift)) * sign
        factor, bias = tuple(int(s / step) for s in scale), tuple(int((t - shift[0]) / step) for t in shift)
    if len(set(factor)) == len(set(bias)) == 1:
        return factor[:1], bias[:1]
    return factor, bias


def _axis(node: ModelNode, x: Scaled, default: int) -> int:
    axis = int(node.attribute("axis", default))
    if not -len(x.shape) <= axis < len(x.shape):
        raise node.fail(f"axis is {axis}; its input has {len(x.shape)} axes, repair the model")
    if axis % len(x.shape) == 0:
        raise node.fail("axis is 0, which mixes the samples of a batch; keep the batch axis first")
    return axis % len(x.shape)


def _on_host(node: ModelNode, position: int = 0) -> Tail:
    return Tail(node.outputs[position], (node.input_names[0],), node.where)


@imports("ArgMax", "ArgMin")
def import_arg_max(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """ArgMax and ArgMin: exact on integers of one scale, else left to the host."""
    x = node.scaled(0)
    axis = _axis(node, x, 0)
    last = bool(node.attribute("select_last_index", 0))
    out = arg_max(graph, node, x, axis, node.op_type == "ArgMin", last)
    if out is None:
        return _on_host(node)
    if node.attribute("keepdims", 1):
        return out
    return Scaled(out.value, out.index.squeeze(axis), out.chain, kind=out.kind)


@imports("TopK")
def import_top_k(graph: GraphBuilder, node: ModelNode) -> tuple[Tensor | None, ...]:
    """TopK with k = 1: value and index of the largest or least element; any other k is left to the host."""
    x = node.scaled(0)
    axis, largest = _axis(node, x, -1), bool(node.attribute("largest", 1))
    k = node.floats(1, "k").reshape(-1) if len(node.inputs) > 1 else np.array([node.attribute("k", 0)])
    if k.size != 1 or not 1 <= k.item() <= x.shape[axis]:
        raise node.fail(f"its k is {k.tolist()}; one number from 1 to {x.shape[axis]} is possible, repair the model")
    hosts = tuple(_on_host(node, position) for position in range(len(node.outputs)))
    index = arg_max(graph, node, x, axis, not largest, False) if k.item() == 1 else None
    if index is None:
        return hosts
    affine = x.chain[0]
    assert isinstance(affine, Affine)
    if len(set(affine.scale)) > 1 or len(set(affine.shift)) > 1 or (affine.scale[0] > 0) != largest:
        return (hosts[0], index)
    if not node.outputs[0]:
        return (None, index)
    value = arrange(graph, node, x, np.moveaxis(x.index[0], axis - 1, -1))
    chain = (Affine(affine.scale[:1], affine.shift[:1]),)
    out = graph.add(graph.fresh("top"), WindowMax(value.channels), [value.name], node.where, chain[0])
    return (Scaled(out.name, index.index, chain, kind=x.kind), index)
