"""Select: the larger or the smaller of two integer tensors, element by element, on one scale: Max and Min.

With reals s1*a + t1 and s2*b + t2 the greatest rational s of which s1, s2 and t2 - t1 are multiples gives integers p*a and
q*b + r that mean the same on one scale, so their order is that of the reals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm
from typing import Any

import numpy as np

from broadaxe.chain import Affine, spread
from broadaxe.errors import GraphError
from broadaxe.hardware import Resources
from broadaxe.ir import WIDEST, Bounds, Example, IntArray, Lanes, OnnxBuilder, Op, Shape, Value, hull
from broadaxe.ops import costs
from broadaxe.ops.importing import Constant, GraphBuilder, ModelNode, Scaled, Tensor, extend, imports, per_channel
from broadaxe.ops.joining import operands
from broadaxe.ops.scaled_add import add_activations
from broadaxe.types import Interval, IntType


@dataclass(frozen=True)
class Select(Op):
    """y = max or min of factors[0] * a and factors[1] * b + offset, element by element.

    Attributes:
        largest: whether the larger one is taken.
    """

    kind = "select"
    largest: bool = True
    factors: tuple[int, int] = (1, 1)
    offset: int = 0

    def shape(self, *inputs: Value) -> Shape:
        a, b = inputs
        if a.shape != b.shape:
            raise GraphError(f"select: shapes {a.shape} and {b.shape} differ; make them alike")
        return a.shape

    def sides(self, *inputs: Value) -> tuple[Bounds, Bounds]:
        """Intervals of what is compared, per channel."""
        a, b = inputs
        return tuple(x * self.factors[0] for x in a.bounds), tuple(y * self.factors[1] + self.offset for y in b.bounds)

    def bounds(self, *inputs: Value) -> Bounds:
        pick = max if self.largest else min
        return tuple(Interval(pick(p.lo, q.lo), pick(p.hi, q.hi)) for p, q in zip(*self.sides(*inputs), strict=True))

    def reference(self, *inputs: IntArray) -> IntArray:
        a, b = (x.astype(np.int64) * factor for x, factor in zip(inputs, self.factors, strict=True))
        return np.asarray(np.maximum(a, b + self.offset) if self.largest else np.minimum(a, b + self.offset))

    def render(self, builder: OnnxBuilder, inputs: Sequence[str], values: Sequence[Value]) -> str:
        """In int64, which holds every width an integer graph may have."""
        parts = []
        for name, factor, offset in zip(inputs, self.factors, (0, self.offset), strict=True):
            wide = builder.cast(name, np.int64)
            scaled = builder.node("Mul", wide, builder.constant(np.array(factor, dtype=np.int64)))
            parts.append(builder.node("Add", scaled, builder.constant(np.array(offset, dtype=np.int64))))
        return builder.node("Max" if self.largest else "Min", *parts)

    def cycles(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> int:
        return output.size // lanes.written

    def template_context(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Mapping[str, Any]:
        left, right = self.sides(*inputs)
        return {
            "lanes": lanes.read,
            "count": output.size // lanes.read,
            "side_type": str(hull((*left, *right)).dtype),
            "largest": self.largest,
            "factors": self.factors,
            "offset": self.offset,
        }

    def witnesses(self, inputs: Sequence[Value], channel: int) -> tuple[list[IntArray], list[IntArray]] | None:
        low, high = [], []
        if inputs[0].name == inputs[1].name:
            return None
        for value, factor in zip(inputs, self.factors, strict=True):
            lo, hi = (np.broadcast_to(end, value.shape) for end in value.ends())
            low.append(lo if factor > 0 else hi)
            high.append(hi if factor > 0 else lo)
        return low, high

    def resources(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Resources:
        """Factors by adders, a comparison and a choice a lane."""
        left, right = self.sides(*inputs)
        wide = hull((*left, *right)).dtype.width
        scaled = sum(costs.constant_multiplier(x.dtype.width, f) for x, f in zip(inputs, self.factors, strict=True))
        added = wide if self.offset else 0
        lane = Resources(scaled + added + costs.comparator(wide) + output.dtype.width, 2 * wide + output.dtype.width)
        return costs.times(lane, lanes.read) + costs.counters(output.size // lanes.written)

    @classmethod
    def examples(cls) -> Iterable[Example]:
        a = Value("a", (2, 3, 4), IntType(4, signed=True), tuple(Interval(-c, 7 - c) for c in range(4)))
        b = Value("b", (2, 3, 4), IntType(6, signed=False), (Interval(0, 63), Interval(5, 9), *(Interval(0, 2),) * 2))
        yield Example("the larger", cls(), (a, b))
        yield Example("the smaller", cls(False), (a, b))
        yield Example("the larger on one scale", cls(True, (7, -2), 5), (a, b))
        yield Example("the smaller on one scale", cls(False, (3, 5), -30), (a, b))


def common_scale(*values: Fraction) -> Fraction:
    """The greatest rational of which all values are integer multiples; 1 where all are 0."""
    den = lcm(*(v.denominator for v in values))
    return Fraction(gcd(*(int(v * den) for v in values)), den) or Fraction(1)


def select_activations(graph: GraphBuilder, node: ModelNode, x: Scaled, y: Scaled, largest: bool) -> Scaled:
    """max(x, y) or min(x, y) of two quantized tensors, exact."""
    (a, b), index = operands(graph, node, "chooses from", "choice", x, y)
    columns = spread(a.affine.scale, a.affine.shift, b.affine.scale, b.affine.shift)
    steps, ratios = [], set()
    for s1, t1, s2, t2 in zip(*columns, strict=True):
        step = common_scale(s1, s2, t2 - t1) * (-1 if s1 < 0 else 1)
        steps.append(step)
        ratios.add((int(s1 / step), int(s2 / step), int((t2 - t1) / step), step > 0))
    if len(ratios) != 1:
        raise node.fail(
            "chooses from tensors whose scales have no one ratio in all channels; put a Quant on both sides of it"
        )
    p, q, r, rising = ratios.pop()
    op = Select(largest == rising, (p, q), r)
    left, right = op.sides(a.value, b.value)
    width = hull((*left, *right)).signed_dtype.width
    if width > WIDEST:
        raise node.fail(
            f"chooses from tensors whose scales need {width} bits together; use scales with a simpler ratio"
        )
    affine = Affine(tuple(steps), columns[1])
    out = graph.add(graph.fresh("select"), op, [a.value.name, b.value.name], node.where, affine)
    return Scaled(out.name, index, (affine,))


@imports("Sum", "Mean")
def import_sum(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """Sum and Mean of several tensors, pair by pair; constants shift the sum."""
    sides = [node.scaled(i) for i, t in enumerate(node.inputs) if not isinstance(t, Constant)]
    out = sides[0]
    for side in sides[1:]:
        out = add_activations(graph, node, out, side, 1)
    for position, tensor in enumerate(node.inputs):
        if isinstance(tensor, Constant):
            shift = per_channel(graph, node, out, node.floats(position, "constant"), "constant")
            out = extend(graph, node, out, Affine((Fraction(1),) * len(shift), shift))
    if node.op_type == "Mean":
        out = extend(graph, node, out, Affine((Fraction(1, len(node.inputs)),), (Fraction(0),)))
    return out
