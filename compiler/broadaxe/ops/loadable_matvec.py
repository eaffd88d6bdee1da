"""LoadableMatVec: MatVec in an accumulator that is sized to a budget, with weights and starts that are written at run time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from broadaxe.hardware import Resources
from broadaxe.ir import Example, IntArray, Lanes, Value, constant_array
from broadaxe.ops import costs
from broadaxe.ops.budget import Budget, Budgeted
from broadaxe.ops.matvec import MatVec
from broadaxe.types import Interval, IntType


@dataclass(frozen=True, eq=False)
class LoadableMatVec(Budgeted, MatVec):
    """MatVec for all weights within `budget`; see `broadaxe.ops.budget`."""

    kind = "loadable_matvec"
    budget: Budget = field(kw_only=True)

    @classmethod
    def within(cls, op: MatVec, budget: Budget) -> LoadableMatVec:
        return cls(op.weights, op.weight_dtype, op.start, op.tile, budget=budget)

    def tile_sums(self, *inputs: Value) -> Interval:
        inner = self.budget.inner_dtype
        return inner.range if inner else super().tile_sums(*inputs)

    def attained_tiles(self, *inputs: Value) -> Interval | None:
        return super().tile_sums(*inputs) if self.tile else None

    def _matches_bits(self, x: Value) -> bool:
        return False  # other weights may be others than -1 and +1

    def resources(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Resources:
        """Multipliers of two variables, whatever the folding, and memories that are written."""
        (x,) = inputs
        pe, simd, vectors = lanes.written, lanes.read, prod(output.shape[:-1])
        blocks, words = self.outputs // pe, self.depth // simd
        control = costs.counters(vectors * blocks * words, words, blocks, blocks * words)
        vector = costs.placed(simd * x.dtype.width, words) if blocks > 1 else Resources()
        memories = self.written_memories(simd, pe, blocks * words, blocks)
        inner = self.budget.inner or self.budget.width
        sums = costs.mac_array(pe, simd, x.dtype.width, self.weight_dtype.width, inner)
        outer = costs.times(costs.accumulator(self.budget.width), pe) if self.tile else Resources()
        return control + vector + memories + sums + outer + self.products(x, pe, simd, lanes.multiplier)

    @classmethod
    def examples(cls) -> Iterable[Example]:
        """Rows whose sums go from one end of their accumulators to the other: sum |w| * 15 = 255 takes exactly 8 bits."""
        rng, int4 = np.random.default_rng(17), IntType(4, signed=True)
        vector = Value("x", (12,), IntType(4, signed=False), (Interval(0, 15),) * 12)
        image = Value("x", (3, 2, 12), IntType(4, signed=True), (Interval(-8, 7),) * 12)
        for label, x, tile in (("a vector", vector, None), ("an image", image, None), ("tiles of 4", image, 4)):
            rows = full_rows(rng, 6, 12, 17)
            lo, _ = MatVec.of(rows, int4).sums(x)
            op = MatVec.of(rows, int4, -128 - lo, tile)
            yield Example(label, cls.within(op, Budget(8, tile and 10)), (x,))


def full_rows(rng: np.random.Generator, count: int, depth: int, norm: int) -> IntArray:
    """Random rows of integers between -7 and 7 with ||w||_1 = norm."""
    rows = np.zeros((count, depth), dtype=np.int64)
    signs = 1 - 2 * rng.integers(0, 2, size=rows.shape)
    for row in rows:
        while row.sum() < norm:
            row[rng.choice(np.flatnonzero(row < 7))] += 1
    return constant_array(rows * signs)
