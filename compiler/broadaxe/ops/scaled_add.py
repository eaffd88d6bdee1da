"""ScaledAdd: two integer tensors summed with integer factors: what a residual connection is once both sides are integers.

With reals s1*a + t1 and s2*b + t2 and s1 : s2 = f1 : f2 in lowest terms, f1*a + f2*b is an integer and, times s1 / f1, plus
t1 + t2, it is the exact sum. Equal scales give factors of 1 and no multiplier.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from broadaxe.chain import Affine, spread
from broadaxe.errors import GraphError
from broadaxe.hardware import Resources
from broadaxe.ir import WIDEST, Bounds, Example, IntArray, Lanes, OnnxBuilder, Op, Shape, Value
from broadaxe.ops import costs
from broadaxe.ops.importing import GraphBuilder, ModelNode, Scaled, real_scales
from broadaxe.ops.joining import operands
from broadaxe.types import Interval, IntType


@dataclass(frozen=True)
class ScaledAdd(Op):
    """y = factors[0] * a + factors[1] * b, element by element."""

    kind = "scaled_add"
    factors: tuple[int, int] = (1, 1)

    def shape(self, *inputs: Value) -> Shape:
        a, b = inputs
        if a.shape != b.shape:
            raise GraphError(f"scaled_add: shapes {a.shape} and {b.shape} differ; make them alike")
        return a.shape

    def bounds(self, *inputs: Value) -> Bounds:
        """Both ends of each side; a value with itself is that value times the sum of the factors."""
        a, b = inputs
        left, right = self.factors
        if a.name == b.name:
            return tuple(p * (left + right) for p in a.bounds)
        return tuple(p * left + q * right for p, q in zip(a.bounds, b.bounds, strict=True))

    def reference(self, *inputs: IntArray) -> IntArray:
        a, b = inputs
        left, right = self.factors
        return a.astype(np.int64) * left + b.astype(np.int64) * right

    def render(self, builder: OnnxBuilder, inputs: Sequence[str], values: Sequence[Value]) -> str:
        """In int64, which holds every width an integer graph may have."""
        parts = []
        for name, factor in zip(inputs, self.factors, strict=True):
            wide = builder.cast(name, np.int64)
            parts.append(builder.node("Mul", wide, builder.constant(np.array(factor, dtype=np.int64))))
        return builder.node("Add", *parts)

    def cycles(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> int:
        return output.size // lanes.written

    def template_context(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Mapping[str, Any]:
        return {"lanes": lanes.read, "count": output.size // lanes.read, "factors": self.factors}

    def witnesses(self, inputs: Sequence[Value], channel: int) -> tuple[list[IntArray], list[IntArray]] | None:
        low, high = [], []
        same = inputs[0].name == inputs[1].name
        for value, factor in zip(inputs, (sum(self.factors),) * 2 if same else self.factors, strict=True):
            lo, hi = (np.broadcast_to(end, value.shape) for end in value.ends())
            low.append(lo if factor > 0 else hi)
            high.append(hi if factor > 0 else lo)
        return low, high

    def resources(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Resources:
        """Factors by adders, and a sum, a lane."""
        scaled = sum(costs.constant_multiplier(x.dtype.width, f) for x, f in zip(inputs, self.factors, strict=True))
        width = output.dtype.width
        registers = sum(x.dtype.width for x in inputs) + width
        lane = Resources(scaled + width, registers)
        return costs.times(lane, lanes.read) + costs.counters(output.size // lanes.written)

    @classmethod
    def examples(cls) -> Iterable[Example]:
        a = Value("a", (2, 3, 4), IntType(4, signed=True), tuple(Interval(-c, 7 - c) for c in range(4)))
        b = Value("b", (2, 3, 4), IntType(6, signed=False), (Interval(0, 63),) * 4)
        yield Example("equal scales", cls(), (a, b))
        yield Example("factors 3 and -5", cls((3, -5)), (a, b))
        yield Example("a value with itself", cls((3, -5)), (a, a))
        yield Example("a value from itself", cls((1, -1)), (a, a))


def add_activations(graph: GraphBuilder, node: ModelNode, x: Scaled, y: Scaled, sign: int) -> Scaled:
    """x + sign * y of two quantized tensors, exact."""
    (a, b), index = operands(graph, node, "adds", "addition", x, y)
    scales = real_scales(a.affine.scale, b.affine.scale)
    if scales is None:
        raise node.fail("adds tensors whose scales have no one ratio in all channels; put a Quant on both sides of it")
    factors = (scales[0], sign * scales[1])
    width = max(abs(f) for f in factors).bit_length() + max(a.value.dtype.width, b.value.dtype.width) + 1
    if width > WIDEST:
        raise node.fail(f"adds tensors whose scales need {width} bits together; use scales with a simpler ratio")
    step = tuple(s / scales[0] for s in a.affine.scale)
    s, p, q = spread(step, a.affine.shift, b.affine.shift)
    affine = Affine(s, tuple(u + sign * v for u, v in zip(p, q, strict=True)))
    out = graph.add(graph.fresh("add"), ScaledAdd(factors), [a.value.name, b.value.name], node.where, affine)
    return Scaled(out.name, index, (affine,))
