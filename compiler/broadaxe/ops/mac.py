"""What multiply-accumulate operators share: integer weights, exact intervals of their sums, accumulator types.

The accumulator of output o holds start[o] + sum_i weights[o, i] * x_i. With x_i anywhere in [lo_i, hi_i] the sum lies between
sum_i min(w*lo_i, w*hi_i) and sum_i max(w*lo_i, w*hi_i). Both ends are attained by a witness, so the width that holds the two is
the narrowest that is always right for these bounds.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from broadaxe.errors import GraphError
from broadaxe.ir import WIDEST, Bounds, Fold, IntArray, Lanes, Op, Value, hull
from broadaxe.types import Interval, IntType

EXACT_FLOAT32 = 1 << 24
EXACT_FLOAT64 = 1 << 53


@dataclass(frozen=True, eq=False)
class Mac(Op):
    """A multiply-accumulate operator on the last axis.

    Attributes:
        weights: integers, shape (outputs, depth); a row holds the products of one sum in canonical order (kh, kw, c).
        weight_dtype: declared type of the weights, for the data-type bound and the weight memory.
        start: where each accumulator starts, shape (outputs,).
    """

    folds = True
    weights: IntArray
    weight_dtype: IntType
    start: IntArray

    @property
    def outputs(self) -> int:
        return int(self.weights.shape[0])

    @property
    def depth(self) -> int:
        """K, the number of products in one sum."""
        return int(self.weights.shape[1])

    @abstractmethod
    def operand_indices(self) -> IntArray:
        """Which elements of the input vector each product takes, shape (outputs, depth) or (1, depth) for all rows alike."""

    @abstractmethod
    def foldings(self) -> list[Fold]:
        """Every PE x SIMD that the operator's kernel can have."""

    @abstractmethod
    def lanes(self, fold: Fold) -> Lanes:
        """Elements read and written a cycle under a folding."""

    def bounds(self, *inputs: Value) -> Bounds:
        lo, hi = self.sums(inputs[0])
        ends = zip((lo + self.start).tolist(), (hi + self.start).tolist(), strict=True)
        return tuple(Interval(a, b) for a, b in ends)

    def dtype(self, *inputs: Value) -> IntType:
        """The narrowest signed type that holds every channel: the accumulator as hardware declares it."""
        return hull(self.bounds(*inputs)).signed_dtype

    def operands(self, x: Value) -> tuple[IntArray, IntArray]:
        """Ends of the input of every product, int64, shape (outputs, depth) or (1, depth)."""
        lo, hi = x.ends()
        index = self.operand_indices()
        return lo[index], hi[index]

    def sums(self, x: Value) -> tuple[IntArray, IntArray]:
        """Exact ends of each row's sum, int64, shape (outputs,); the start is not included."""
        self._guard(x)
        lo, hi = self.operands(x)
        return self._products(lo, hi).sum(axis=1), self._products(hi, lo).sum(axis=1)

    def prefix_hull(self, x: Value) -> Bounds:
        """What every partial sum stays inside, whatever the order of the products; the start is not included."""
        self._guard(x)
        lo, hi = self.operands(x)
        low, high = np.minimum(lo, 0), np.maximum(hi, 0)
        ends = (self._products(low, high).sum(axis=1), self._products(high, low).sum(axis=1))
        return tuple(Interval(a, b) for a, b in zip(ends[0].tolist(), ends[1].tolist(), strict=True))

    def _products(self, for_positive: IntArray, for_negative: IntArray) -> IntArray:
        """Each product with one operand for positive weights and another for negative ones."""
        return np.asarray(self.weights * np.where(self.weights > 0, for_positive, for_negative))

    def _guard(self, x: Value) -> None:
        """int64 sums cannot overflow: max over rows of ||w||_1 * max|x| + max|start| stays below 2**62."""
        if self.largest(x) >= 1 << WIDEST:
            raise GraphError(f"{self.kind}: an accumulator may pass {WIDEST} bits; quantize its inputs more coarsely")

    def largest(self, x: Value) -> int:
        """An integer that no partial sum passes in magnitude."""
        return int(self.row_norms.max()) * max(abs(x.hull.lo), abs(x.hull.hi), 1) + self.largest_start

    @cached_property
    def row_norms(self) -> IntArray:
        """||w||_1 of each row."""
        return np.asarray(np.abs(self.weights).sum(axis=1))

    @cached_property
    def largest_start(self) -> int:
        return int(np.abs(self.start).max())

    def witnesses(self, inputs: Sequence[Value], channel: int) -> tuple[list[IntArray], list[IntArray]] | None:
        """The canonical inputs that attain both ends; an input whose weight is 0, or has none, stays at its lower bound."""
        (x,) = inputs
        lo, hi = x.ends()
        index = self.operand_indices()
        index = index[channel if len(index) > 1 else 0]
        low, high = lo.copy(), lo.copy()
        row = self.weights[channel]
        low[index], high[index] = np.where(row < 0, hi[index], lo[index]), np.where(row > 0, hi[index], lo[index])
        return [np.broadcast_to(low, x.shape)], [np.broadcast_to(high, x.shape)]
