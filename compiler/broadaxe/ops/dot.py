"""Dot: the product of two matrices of activations, as attention computes its scores and its mixture of values.

With reals sa*(a - za) and sb*(b - zb), one scale and one integer zero code each, the sum of (a - za)*(b - zb) over k times
sa*sb is the exact element. One operand is kept, a matrix at a time; the rows of the other stream past it. The zero codes are
taken off before the products: that costs a bit an operand at most, where sums of rows would cost an accumulator each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from broadaxe.chain import Affine
from broadaxe.errors import GraphError
from broadaxe.hardware import Resources, Trace, repeated
from broadaxe.ir import (
    WIDEST,
    Bounds,
    Example,
    Fold,
    IntArray,
    Lanes,
    OnnxBuilder,
    Shape,
    Value,
    constant_array,
    divisors,
    hull,
)
from broadaxe.ops import costs
from broadaxe.ops.importing import GraphBuilder, ModelNode, Scaled, arrange, integers
from broadaxe.ops.mac import EXACT_FLOAT32, EXACT_FLOAT64, Accumulating, Sizes
from broadaxe.ops.memories import builtin, by_lane
from broadaxe.ops.product import zero_codes_of
from broadaxe.types import Interval, IntType


@dataclass(frozen=True, eq=False)
class Dot(Accumulating):
    """y[g, m, n] = start[n] + sum over k of (a[g, m, k] - zeros[0]) * (b[g, n, k] - zeros[1]).

    Inputs have shapes (G, M, K) and (G, N, K), the output (G, M, N).
    """

    kind = "dot"
    zeros: tuple[int, int]
    products: int
    start: IntArray

    @classmethod
    def of(cls, outputs: int, depth: int, zeros: tuple[int, int] = (0, 0), start: IntArray | None = None) -> Dot:
        return cls(zeros, depth, constant_array(np.zeros(outputs) if start is None else start))

    @property
    def depth(self) -> int:
        return self.products

    def starting_at(self, start: IntArray) -> Dot:
        return replace(self, start=start)

    def shape(self, *inputs: Value) -> Shape:
        a, b = inputs
        if len(a.shape) != 3 or len(b.shape) != 3 or a.shape[0] != b.shape[0] or a.channels != b.channels:
            raise GraphError(f"dot: shapes {a.shape} and {b.shape} are not (G, M, K) and (G, N, K); make G and K alike")
        if b.shape[1] != self.outputs or a.channels != self.depth:
            raise GraphError(
                f"dot: {self.outputs} outputs of {self.depth} products for {b.shape}; give as many as it has"
            )
        return (*a.shape[:-1], self.outputs)

    def differences(self, *inputs: Value) -> tuple[Bounds, Bounds]:
        """Intervals of both operands without their zero codes, per k."""
        a, b = inputs
        return tuple(x + -self.zeros[0] for x in a.bounds), tuple(y + -self.zeros[1] for y in b.bounds)

    def sums(self, *inputs: Value) -> tuple[IntArray, IntArray]:
        """The same for every output: bounds know nothing of rows."""
        self._guard(*inputs)
        parts = [p * q for p, q in zip(*self.differences(*inputs), strict=True)]
        return self._everywhere(sum(p.lo for p in parts)), self._everywhere(sum(p.hi for p in parts))

    def prefix_hull(self, *inputs: Value) -> Bounds:
        self._guard(*inputs)
        parts = [(p * q) | 0 for p, q in zip(*self.differences(*inputs), strict=True)]
        return (Interval(sum(p.lo for p in parts), sum(p.hi for p in parts)),) * self.outputs

    def _everywhere(self, value: int) -> IntArray:
        return np.full(self.outputs, value, dtype=np.int64)

    def _guard(self, *inputs: Value) -> None:
        if self.largest(*inputs) >= 1 << WIDEST:
            raise GraphError(f"dot: an accumulator may pass {WIDEST} bits; quantize its inputs more coarsely")

    def largest(self, *inputs: Value) -> int:
        """An integer that no partial sum passes in magnitude."""
        ends = [max(abs(hull(part).lo), abs(hull(part).hi), 1) for part in self.differences(*inputs)]
        return self.depth * ends[0] * ends[1] + int(np.abs(self.start).max())

    def sizes(self, *inputs: Value) -> Sizes:
        """Of the differences: what any operands of the inputs' types may need; and any left one with the proven right one."""
        a, b = inputs
        left, right = ((x.dtype.range + -zero).dtype for x, zero in zip((a, b), self.zeros, strict=True))
        magnitude = left.width - int(left.signed)
        datatype = (self.depth << (magnitude + right.width - int(right.signed))).bit_length() + 1
        norm = sum(max(abs(q.lo), abs(q.hi)) for q in self.differences(a, b)[1])
        return Sizes(b.dtype.width, a.dtype.width, datatype, (norm << magnitude).bit_length() + 1)

    def foldings(self) -> list[Fold]:
        """PE divides the outputs, SIMD the products."""
        return [Fold(pe, simd) for pe in divisors(self.outputs) for simd in divisors(self.depth)]

    def lanes(self, fold: Fold) -> Lanes:
        return Lanes(fold.simd, fold.pe, fold.multiplier, fold.dsp)

    def reference(self, *inputs: IntArray) -> IntArray:
        """BLAS where every partial sum is an integer that float64 holds, else int64."""
        a, b = (x.astype(np.int64) - zero for x, zero in zip(inputs, self.zeros, strict=True))
        b = b.swapaxes(-1, -2)
        if a.size and self.depth * int(np.abs(a).max()) * int(np.abs(b).max()) < EXACT_FLOAT64:
            sums = np.rint(a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)
        else:
            sums = a @ b
        return np.asarray(sums + self.start)

    def render(self, builder: OnnxBuilder, inputs: Sequence[str], values: Sequence[Value]) -> str:
        largest = self.largest(*values)
        kind = np.float32 if largest < EXACT_FLOAT32 else np.float64 if largest < EXACT_FLOAT64 else np.int64
        a, b = (
            builder.node("Sub", builder.cast(name, kind), builder.constant(np.array(zero, dtype=kind)))
            for name, zero in zip(inputs, self.zeros, strict=True)
        )
        product = builder.node("MatMul", a, builder.node("Transpose", b, perm=[0, 1, 3, 2]))
        return builder.node("Add", product, builder.constant(self.start.astype(kind)))

    def cycles(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> int:
        """Each matrix is filled in before its rows are read."""
        groups, rows, _ = output.shape
        words = self.depth // lanes.read
        return groups * words * (self.outputs + rows * (self.outputs // lanes.written))

    def trace(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Trace:
        """The right matrix first, then each row of the left one during its first block of outputs."""
        groups, rows, _ = output.shape
        words, blocks = self.depth // lanes.read, self.outputs // lanes.written
        fill = self.outputs * words
        matrix = fill + rows * blocks * words
        left = fill + repeated(np.arange(words), blocks * words, rows)
        writes = fill + repeated([words - 1], words, rows * blocks)
        reads = (repeated(left, matrix, groups), repeated(np.arange(fill), matrix, groups))
        return Trace(groups * matrix, reads, repeated(writes, matrix, groups))

    def template_context(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Mapping[str, Any]:
        groups, rows, _ = output.shape
        return {
            "depth": self.depth,
            "outputs": self.outputs,
            "rows": rows,
            "matrices": groups,
            "simd": lanes.read,
            "pe": lanes.written,
            "zeros": self.zeros,
            "difference_types": [str(hull(part).dtype) for part in self.differences(*inputs)],
            "start_type": builtin(int(self.start.min()), int(self.start.max())),
            "start": by_lane(self.start, lanes.written),
            "terms": self.terms(lanes),
        }

    def factors(self, vectors: Sequence[IntArray], channel: int) -> tuple[IntArray, IntArray]:
        """Zero codes are taken off both."""
        return vectors[0] - self.zeros[0], vectors[1] - self.zeros[1]

    def witnesses(self, inputs: Sequence[Value], channel: int) -> tuple[list[IntArray], list[IntArray]] | None:
        """All rows alike; of several pairs of ends that give the same product the one with the lower left, then right, end."""
        a, b = inputs
        ends = []
        for sign in (1, -1):
            rows = []
            for p, q in zip(a.bounds, b.bounds, strict=True):
                corners = [(x, y) for x in (p.lo, p.hi) for y in (q.lo, q.hi)]
                rows.append(min(corners, key=lambda c: (sign * (c[0] - self.zeros[0]) * (c[1] - self.zeros[1]), c)))
            columns = np.array(rows, dtype=np.int64).T
            ends.append([np.broadcast_to(row, x.shape) for row, x in zip(columns, inputs, strict=True)])
        return ends[0], ends[1]

    def resources(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Resources:
        """As a MatVec whose weights are the kept matrix, in memories that are written too."""
        left, right = (hull(part).dtype.width for part in self.differences(*inputs))
        pe, simd, width = lanes.written, lanes.read, output.dtype.width
        words, row_blocks = self.depth // simd, self.outputs // pe
        groups, rows, _ = output.shape
        control = costs.counters(groups * rows, pe, row_blocks, words, row_blocks * words)
        kept = costs.times(costs.placed(simd * right, row_blocks * words), pe)
        vector = costs.placed(simd * left, words) if row_blocks > 1 else Resources()
        starts = Interval(int(self.start.min()), int(self.start.max()))
        starting = costs.placed(starts.signed_dtype.width if starts.span else 0, row_blocks, rom=True)
        zeros = Resources(lut=simd * sum(bits for bits, zero in zip((left, right), self.zeros, strict=True) if zero))
        return (
            control
            + kept
            + vector
            + costs.times(starting, pe)
            + zeros
            + costs.mac_array(pe, simd, left, right, width)
            + costs.products(pe, simd, left, True, right, lanes.multiplier)
        )

    @classmethod
    def examples(cls) -> Iterable[Example]:
        signed, unsigned = IntType(4, signed=True), IntType(3, signed=False)
        a = Value("a", (2, 3, 6), signed, tuple(Interval(-k, 7 - k // 2) for k in range(6)))
        b = Value("b", (2, 4, 6), unsigned, tuple(Interval(k // 3, 7) for k in range(6)))
        yield Example("two heads", cls.of(4, 6), (a, b))
        yield Example("zero codes and a start", cls.of(4, 6, (-3, 9), np.array([5, -70, 0, 99])), (a, b))
        one = Value("a", (1, 1, 1), signed, (Interval(-8, 7),))
        yield Example("one product", cls.of(1, 1), (one, replace(one, name="b")))
        wide = IntType(24, signed=True)
        huge = Value("a", (1, 2, 4), wide, (wide.range,) * 4)
        yield Example("sums beyond 2**47", cls.of(2, 4), (huge, replace(huge, name="b")))


def multiply_matrices(graph: GraphBuilder, node: ModelNode, turned: bool = False) -> Scaled:
    """The matrix product of two quantized activations over their last axes, broadcast over those between the batch and them.

    Args:
        turned: the right operand is (N, K), not (K, N).
    """
    x, y = node.scaled(0), node.scaled(1)
    if len(x.shape) < 3 or len(x.shape) != len(y.shape):
        raise node.fail(
            f"multiplies activations of shapes {x.shape} and {y.shape}, where a batch axis would meet another axis; give"
            " both the axes (batch, ..., rows, columns)"
        )
    right = y.index if turned else y.index.swapaxes(-1, -2)
    try:
        leading = np.broadcast_shapes(x.shape[:-2], right.shape[:-2])
        if x.shape[-1] != right.shape[-1]:
            raise ValueError
    except ValueError:
        raise node.fail(f"multiplies activations of shapes {x.shape} and {y.shape}; repair the model") from None
    sides = [(x, x.index), (y, right)]
    affines, zeros, values = [], [], []
    for side, index in sides:
        affine = integers(graph, node, side)
        codes = zero_codes_of(node, affine)
        if len(codes) != 1:
            raise node.fail("multiplies activations with a zero point per channel; use one zero point per tensor")
        affines.append(affine)
        zeros.append(codes[0])
        wanted = np.broadcast_to(index, (*leading, *index.shape[-2:])).reshape(-1, *index.shape[-2:])
        values.append(arrange(graph, node, side, wanted))
    a, b = values
    op = Dot.of(b.shape[1], b.channels, (zeros[0], zeros[1]))
    affine = Affine((affines[0].scale[0] * affines[1].scale[0],), (Fraction(0),))
    out = graph.add(graph.fresh("dot"), op, [a.name, b.name], node.where, affine)
    return Scaled(out.name, np.arange(out.size).reshape(*leading, a.shape[1], b.shape[1]), (affine,))
