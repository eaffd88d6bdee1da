"""Several products in one DSP block: rows of a PE group share an input, so their weights can stand in one wide operand.

Lanes of L bits hold the rows' sums S_k side by side in the block's adder, as sum_k (S_k + 2**(L - 1)) * 2**(L*k). Where every
S_k, its start included, fits L bits in two's complement, every bracket lies in 0 .. 2**L - 1, so that the brackets are the
digits of that integer and each is read as it stands. Arithmetic modulo 2**(n*L) makes it from the products in any order:
a partial sum that leaves its lane comes back into it, and a proven width of the final sum is all that a lane needs.

What is left to prove is that the block's ports hold the operands: sum_k w_k * 2**(L*k) for all weights of the layer, which
lies between lo * R and hi * R with R = sum_k 2**(L*k), and the input.
"""

from __future__ import annotations

from dataclasses import dataclass

from broadaxe.hardware import Dsp
from broadaxe.types import Interval

MOST_PRODUCTS = 4


@dataclass(frozen=True)
class Packing:
    """`products` of a DSP block a cycle, in lanes of `lane` bits, which add up `chunk` inputs before they are read.

    A single product means that nothing packs. A chunk shorter than the sum needs accumulators of fabric behind the lanes.
    """

    products: int
    lane: int
    chunk: int

    def groups(self, pe: int) -> int:
        """Groups of rows that share blocks, of PE rows."""
        return -(-pe // self.products)

    def blocks(self, pe: int, simd: int) -> int:
        """DSP blocks that PE x SIMD products take."""
        return self.groups(pe) * simd


def operands_fit(weights: Interval, x: Interval, products: int, lane: int, dsp: Dsp) -> bool:
    """Whether the block holds every packed operand, every input and the lanes' sums."""
    ones = sum(1 << (lane * k) for k in range(products))
    wide, narrow = 1 << (dsp.wide - 1), 1 << (dsp.narrow - 1)
    return (
        products * lane <= dsp.accumulator
        and (products - 1) * lane < dsp.wide
        and Interval(min(weights.lo * ones, 0), max(weights.hi * ones, 0)) in Interval(-wide, wide - 1)
        and x in Interval(-narrow, narrow - 1)
    )


def most_products(weights: Interval, x: Interval, lane: int, dsp: Dsp, rows: int) -> int:
    """The most products of a block in lanes of `lane` bits, with `rows` rows a cycle; 1 where no two fit."""
    candidates = range(min(MOST_PRODUCTS, rows), 1, -1)
    return next((n for n in candidates if operands_fit(weights, x, n, lane, dsp)), 1)


def widest_lane(weights: Interval, x: Interval, products: int, dsp: Dsp) -> int:
    """The widest lanes that so many products leave; 0 where there are none."""
    candidates = range(dsp.accumulator // products, 0, -1)
    return next((lane for lane in candidates if operands_fit(weights, x, products, lane, dsp)), 0)
