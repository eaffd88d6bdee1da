"""What operators that add up products share, and those among them with integer weights: exact intervals of sums, widths.

The accumulator of output o holds start[o] + sum_i weights[o, i] * x_i. With x_i anywhere in [lo_i, hi_i] the sum lies between
sum_i min(w*lo_i, w*hi_i) and sum_i max(w*lo_i, w*hi_i). Both ends are attained by a witness, so the width that holds the two is
the narrowest that is always right for these bounds.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from broadaxe.errors import GraphError
from broadaxe.hardware import DSP48E1, Dsp, Multiplier, Resources
from broadaxe.ir import WIDEST, WIDEST_WORD, Bounds, Fold, IntArray, Lanes, Op, Value, hull
from broadaxe.ops import costs
from broadaxe.ops.packing import Packing
from broadaxe.types import Interval, IntType

EXACT_FLOAT32 = 1 << 24
EXACT_FLOAT64 = 1 << 53


@dataclass(frozen=True)
class Sizes:
    """What is known of an accumulator without the proven intervals, in bits; `weight` is the right operand's."""

    weight: int
    input: int
    datatype: int
    l1: int


class Accumulating(Op):
    """An operator whose outputs are sums of products on the last axis: one accumulator per output, with a folding.

    `start` is where each accumulator starts, shape (outputs,).
    """

    folds = True
    accumulates = True
    start: IntArray

    @property
    @abstractmethod
    def depth(self) -> int:
        """K, the number of products in one sum."""

    @property
    def outputs(self) -> int:
        return len(self.start)

    @abstractmethod
    def starting_at(self, start: IntArray) -> Accumulating:
        """The same sums from other starts."""

    @abstractmethod
    def foldings(self) -> list[Fold]:
        """Every PE x SIMD that the operator's kernel can have."""

    @abstractmethod
    def lanes(self, fold: Fold) -> Lanes:
        """Elements read and written a cycle under a folding."""

    def multipliers(self, inputs: Sequence[Value], fold: Fold, dsp: Dsp = DSP48E1) -> tuple[Multiplier, ...]:
        """What can multiply under a folding: products are packed wherever two or more of them share a DSP block."""
        packs = self.packing(inputs, dsp, fold).products > 1
        return ("lut", "dsp", "packed") if packs else ("lut", "dsp")

    def variants(self, inputs: Sequence[Value], output: Value, dsp: Dsp = DSP48E1) -> Sequence[Lanes]:
        """The lanes of every folding with words of at most 4096 bits; two foldings may differ in what multiplies alone."""
        read = max(x.dtype.width for x in inputs)
        return [
            self.lanes(replace(fold, multiplier=multiplier, dsp=dsp))
            for fold in self.foldings()
            if self.lanes(fold).read * read <= WIDEST_WORD
            and self.lanes(fold).written * output.dtype.width <= WIDEST_WORD
            for multiplier in self.multipliers(inputs, fold, dsp)
        ]

    @abstractmethod
    def sums(self, *inputs: Value) -> tuple[IntArray, IntArray]:
        """Exact ends of each output's sum, int64, shape (outputs,); the start is not included."""

    @abstractmethod
    def prefix_hull(self, *inputs: Value) -> Bounds:
        """What every partial sum stays inside, whatever the order of the products; the start is not included."""

    @abstractmethod
    def sizes(self, *inputs: Value) -> Sizes:
        """Widths of the operands, and those that coarser bounds give."""

    @abstractmethod
    def factors(self, vectors: Sequence[IntArray], channel: int) -> tuple[IntArray, IntArray]:
        """The two factors of each product of a channel's sum, shape (K,) each, where inputs hold these vectors."""

    def stages(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> int:
        """Every level of the adder tree may be a stage of its own."""
        return 16 + (lanes.read - 1).bit_length()

    def tile_sums(self, *inputs: Value) -> Interval | None:
        """What the inner accumulator of a sum made in stages has to hold; None where there are no stages."""
        return None

    def packing(self, inputs: Sequence[Value], dsp: Dsp, fold: Fold | None = None) -> Packing:
        """How many products a DSP block makes where a layer packs them, at best or under a folding; 1 where it cannot."""
        return Packing(1, self.dtype(*inputs).width, self.depth)

    def packed(self, inputs: Sequence[Value], lanes: Lanes) -> Packing | None:
        """What a kernel with these lanes packs; None where each product has a multiplier of its own."""
        if lanes.multiplier != "packed":
            return None
        return self.packing(inputs, lanes.dsp, Fold(lanes.written, lanes.read))

    def pe_bits(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> tuple[int, ...] | None:
        """Bits at which each PE's accumulator wraps: the widest of the channels that share it. None: all at the declared."""
        return None

    def terms(self, lanes: Lanes) -> str:
        """What adds up in the kernel: products, bound to what multiplies."""
        return "broadaxe::in_dsp" if lanes.multiplier == "dsp" else "broadaxe::in_fabric"

    def bounds(self, *inputs: Value) -> Bounds:
        return self.attained(*inputs)

    def attained(self, *inputs: Value) -> Bounds:
        """Exact ends of each accumulator, its start included."""
        lo, hi = self.sums(*inputs)
        ends = zip((lo + self.start).tolist(), (hi + self.start).tolist(), strict=True)
        return tuple(Interval(a, b) for a, b in ends)

    def dtype(self, *inputs: Value) -> IntType:
        """The narrowest signed type that holds every channel: the accumulator as hardware declares it."""
        return hull(self.bounds(*inputs)).signed_dtype


@dataclass(frozen=True, eq=False)
class Mac(Accumulating):
    """A multiply-accumulate operator on the last axis, with constant weights.

    Attributes:
        weights: integers, shape (outputs, depth); a row holds the products of one sum in canonical order (kh, kw, c).
        weight_dtype: declared type of the weights, for the data-type bound and the weight memory.
        start: where each accumulator starts, shape (outputs,).
    """

    weights: IntArray
    weight_dtype: IntType
    start: IntArray

    @property
    def depth(self) -> int:
        return int(self.weights.shape[1])

    @abstractmethod
    def operand_indices(self) -> IntArray:
        """Which elements of the input vector each product takes, shape (outputs, depth) or (1, depth) for all rows alike."""

    def starting_at(self, start: IntArray) -> Mac:
        return replace(self, start=start)

    def factors(self, vectors: Sequence[IntArray], channel: int) -> tuple[IntArray, IntArray]:
        index = self.operand_indices()
        return vectors[0][index[channel if len(index) > 1 else 0]], self.weights[channel]

    def pe_bits(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> tuple[int, ...] | None:
        bits = [interval.signed_dtype.width for interval in output.bounds]
        return tuple(max(bits[pe :: lanes.written]) for pe in range(lanes.written))

    @cached_property
    def nonzero(self) -> int:
        """Weights that are not 0: those that a fully unrolled layer multiplies by."""
        return int(np.count_nonzero(self.weights))

    @cached_property
    def weight_ends(self) -> Interval:
        """The least and the largest weight."""
        return Interval(int(self.weights.min()), int(self.weights.max()))

    def sizes(self, *inputs: Value) -> Sizes:
        (x,) = inputs
        bits, weight, magnitude = x.dtype.width, self.weight_dtype.width, x.dtype.width - int(x.dtype.signed)
        datatype = (self.depth << (magnitude + weight - int(self.weight_dtype.signed))).bit_length() + 1
        return Sizes(weight, bits, datatype, (int(self.row_norms.max()) << magnitude).bit_length() + 1)

    def operands(self, x: Value) -> tuple[IntArray, IntArray]:
        """Ends of the input of every product, int64, shape (outputs, depth) or (1, depth)."""
        lo, hi = x.ends()
        index = self.operand_indices()
        return lo[index], hi[index]

    def sums(self, *inputs: Value) -> tuple[IntArray, IntArray]:
        (x,) = inputs
        self._guard(x)
        lo, hi = self.operands(x)
        return self._products(lo, hi).sum(axis=1), self._products(hi, lo).sum(axis=1)

    def prefix_hull(self, *inputs: Value) -> Bounds:
        (x,) = inputs
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

    @cached_property
    def weight_bits(self) -> int:
        """Bits of a weight that differ from one to the next; 0 where all weights are one constant."""
        return 0 if int(self.weights.min()) == int(self.weights.max()) else self.weight_dtype.width

    @cached_property
    def start_bits(self) -> int:
        """Bits that a start takes in its memory; 0 where all are alike."""
        lo, hi = int(self.start.min()), int(self.start.max())
        return 0 if lo == hi else Interval(lo, hi).signed_dtype.width

    def products(self, x: Value, pe: int, simd: int, multiplier: Multiplier) -> Resources:
        """Model: `pe` x `simd` multipliers of x with weights, by what multiplies. A constant weight takes adders."""
        if not self.weight_bits:
            constant = costs.constant_multiplier(x.dtype.width, int(self.weights.flat[0]))
            return Resources(lut=pe * simd * constant)
        return costs.products(pe, simd, x.dtype.width, x.dtype.signed, self.weight_dtype.width, multiplier)

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
