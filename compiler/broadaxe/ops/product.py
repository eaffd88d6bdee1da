"""Product: two integer tensors multiplied element by element, each without its zero code: gates and attention masks.

With reals s1*(a - z1) and s2*(b - z2), the integer (a - z1)*(b - z2) times s1*s2 is the exact product.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from broadaxe.chain import Affine, spread
from broadaxe.errors import GraphError
from broadaxe.hardware import Resources
from broadaxe.ir import WIDEST, Bounds, Example, IntArray, Lanes, OnnxBuilder, Op, Shape, Value, hull
from broadaxe.ops import costs
from broadaxe.ops.importing import GraphBuilder, ModelNode, Scaled
from broadaxe.ops.joining import operands
from broadaxe.ops.memories import by_lane, fitting
from broadaxe.types import Interval, IntType


@dataclass(frozen=True)
class Product(Op):
    """y = (a - zeros_a) * (b - zeros_b); a zero code per channel, or one for all."""

    kind = "product"
    accumulates = True
    zeros_a: tuple[int, ...] = (0,)
    zeros_b: tuple[int, ...] = (0,)

    def shape(self, *inputs: Value) -> Shape:
        a, b = inputs
        if a.shape != b.shape:
            raise GraphError(f"product: shapes {a.shape} and {b.shape} differ; make them alike")
        for zeros in (self.zeros_a, self.zeros_b):
            if len(zeros) not in (1, a.channels):
                raise GraphError(
                    f"product: {len(zeros)} zero codes for {a.channels} channels; give one each, or one for all"
                )
        return a.shape

    def differences(self, *inputs: Value) -> tuple[Bounds, Bounds]:
        """Intervals of a - zeros_a and b - zeros_b, per channel."""
        a, b = inputs
        return (
            tuple(x + -z for x, z in zip(a.bounds, _wide(self.zeros_a, a.channels), strict=True)),
            tuple(x + -z for x, z in zip(b.bounds, _wide(self.zeros_b, b.channels), strict=True)),
        )

    def bounds(self, *inputs: Value) -> Bounds:
        """The four corners; of one value with itself, a parabola: both ends and the integers beside its vertex."""
        a, b = inputs
        if a.name != b.name:
            return tuple(p * q for p, q in zip(*self.differences(a, b), strict=True))
        found = (self._parabola(a, channel) for channel in range(a.channels))
        return tuple(Interval(min(values)[0], max(values)[0]) for values in found)

    def _parabola(self, x: Value, channel: int) -> list[tuple[int, int]]:
        """(y, x) where y = (x - za) * (x - zb) may be least or largest."""
        own = x.bounds[channel]
        za, zb = (_wide(zeros, x.channels)[channel] for zeros in (self.zeros_a, self.zeros_b))
        vertex = (za + zb) // 2
        points = {own.lo, own.hi, min(max(vertex, own.lo), own.hi)}
        return [((p - za) * (p - zb), p) for p in sorted(points)]

    def reference(self, *inputs: IntArray) -> IntArray:
        a, b = inputs
        left = a.astype(np.int64) - np.array(self.zeros_a, dtype=np.int64)
        return np.asarray(left * (b.astype(np.int64) - np.array(self.zeros_b, dtype=np.int64)))

    def render(self, builder: OnnxBuilder, inputs: Sequence[str], values: Sequence[Value]) -> str:
        """In int64, which holds every width an integer graph may have."""
        parts = []
        for name, zeros in zip(inputs, (self.zeros_a, self.zeros_b), strict=True):
            wide = builder.cast(name, np.int64)
            parts.append(builder.node("Sub", wide, builder.constant(np.array(zeros, dtype=np.int64))))
        return builder.node("Mul", *parts)

    def cycles(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> int:
        return output.size // lanes.written

    def template_context(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Mapping[str, Any]:
        zeros = [np.array(_wide(z, output.channels), dtype=np.int64) for z in (self.zeros_a, self.zeros_b)]
        return {
            "lanes": lanes.read,
            "groups": output.channels // lanes.read,
            "vectors": output.size // output.channels,
            "difference_types": [str(hull(part).dtype) for part in self.differences(*inputs)],
            "zeros": [by_lane(z, lanes.read) for z in zeros],
            "zero_types": [fitting(z) for z in zeros],
        }

    def witnesses(self, inputs: Sequence[Value], channel: int) -> tuple[list[IntArray], list[IntArray]] | None:
        a, b = inputs
        ends = []
        for pick in (min, max):
            rows = [np.array([v.lo for v in x.bounds], dtype=np.int64) for x in (a, b)]
            if a.name == b.name:
                found = pick(self._parabola(a, channel))[1]
                rows[0][channel] = rows[1][channel] = found
            else:
                za, zb = (_wide(zeros, a.channels)[channel] for zeros in (self.zeros_a, self.zeros_b))
                p, q = a.bounds[channel], b.bounds[channel]
                corners = [((x - za) * (y - zb), x, y) for x in (p.lo, p.hi) for y in (q.lo, q.hi)]
                _, rows[0][channel], rows[1][channel] = pick(corners)
            ends.append([np.broadcast_to(row, x.shape) for row, x in zip(rows, inputs, strict=True)])
        return ends[0], ends[1]

    def resources(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Resources:
        """A multiplier a lane, where a tool puts it, behind two subtractions of zero codes."""
        left, right = (hull(part).dtype.width for part in self.differences(*inputs))
        count, blocks = lanes.read, output.channels // lanes.read
        zeros = Resources(lut=sum(w for w, z in ((left, self.zeros_a), (right, self.zeros_b)) if any(z)))
        memories = costs.total(
            costs.placed(w, blocks, rom=True)
            for w, z in ((left, self.zeros_a), (right, self.zeros_b))
            if len(set(z)) > 1
        )
        lane = (
            zeros + memories + costs.unbound_product(left, right) + costs.registers(left + right + output.dtype.width)
        )
        return costs.times(lane, count) + costs.counters(output.size // count, blocks)

    @classmethod
    def examples(cls) -> Iterable[Example]:
        a = Value("a", (2, 3, 4), IntType(4, signed=True), tuple(Interval(-c, 7 - c) for c in range(4)))
        b = Value("b", (2, 3, 4), IntType(6, signed=False), (Interval(0, 63),) * 4)
        yield Example("no zero codes", cls(), (a, b))
        yield Example("a zero code and one per channel", cls((-3,), (5, 0, 70, -1)), (a, b))
        yield Example("one value with itself", cls((2, -9, 0, 1), (-1, 0, 1, 1)), (a, a))
        wide = Value("a", (4,), IntType(30, signed=True), (IntType(30, signed=True).range,) * 4)
        yield Example("wide", cls((0,), (1 << 20,)), (wide, wide))


def _wide(column: tuple[int, ...], channels: int) -> tuple[int, ...]:
    return column * channels if len(column) == 1 else column


def zero_codes_of(node: ModelNode, x: Affine) -> tuple[int, ...]:
    """The integers that mean 0, per channel or one for all; an operand that multiplies needs them."""
    if not all(x.scale):
        raise node.fail("multiplies an activation whose scale is 0; repair the model")
    scale, shift = spread(x.scale, x.shift)
    codes = [-t / s for s, t in zip(scale, shift, strict=True)]
    wrong = next((code for code in codes if code.denominator != 1), None)
    if wrong is not None:
        raise node.fail(
            f"multiplies an activation whose 0 is no integer code but {wrong}; use a quantizer with an integer zero point"
        )
    found = tuple(int(code) for code in codes)
    return found[:1] if len(set(found)) == 1 else found


def multiply_activations(graph: GraphBuilder, node: ModelNode, x: Scaled, y: Scaled) -> Scaled:
    """x * y of two quantized tensors, exact."""
    (a, b), index = operands(graph, node, "multiplies", "product", x, y)
    op = Product(zero_codes_of(node, a.affine), zero_codes_of(node, b.affine))
    width = sum(hull(part).signed_dtype.width for part in op.differences(a.value, b.value))
    if width > WIDEST:
        raise node.fail(
            f"multiplies activations of {width} bits together; at most {WIDEST} are possible, quantize them"
        )
    left, right = spread(a.affine.scale, b.affine.scale)
    scale = tuple(p * q for p, q in zip(left, right, strict=True))
    affine = Affine(scale, (Fraction(0),))
    out = graph.add(graph.fresh("product"), op, [a.value.name, b.value.name], node.where, affine)
    return Scaled(out.name, index, (affine,))
