"""LoadableGroupedMatVec: grouped and depthwise convolution in accumulators that are sized to a budget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from broadaxe.hardware import Resources
from broadaxe.ir import Example, Lanes, Value
from broadaxe.ops.budget import Budget, Budgeted
from broadaxe.ops.grouped import GroupedMatVec
from broadaxe.ops.loadable_matvec import full_rows
from broadaxe.types import Interval, IntType


@dataclass(frozen=True, eq=False)
class LoadableGroupedMatVec(Budgeted, GroupedMatVec):
    """GroupedMatVec for all weights within `budget`; see `broadaxe.ops.budget`."""

    kind = "loadable_grouped"
    budget: Budget = field(kw_only=True)

    @classmethod
    def within(cls, op: GroupedMatVec, budget: Budget) -> LoadableGroupedMatVec:
        return cls(op.weights, op.weight_dtype, op.start, op.groups, op.taps, budget=budget)

    def resources(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Resources:
        """The kernel with its constants, and the memories that are written in their place: a little too much."""
        rows, simd = (1, lanes.read) if self.depthwise else (lanes.written, lanes.read)
        memories = self.written_memories(simd, rows, self.weights.size // (rows * simd), self.outputs // lanes.written)
        return super().resources(inputs, output, lanes) + memories

    @classmethod
    def examples(cls) -> Iterable[Example]:
        """Rows whose sums go from one end of their accumulators to the other: sum |w| * 15 = 255 takes exactly 8 bits."""
        rng, int4 = np.random.default_rng(18), IntType(4, signed=True)
        x = Value("x", (2, 3, 36), IntType(4, signed=True), (Interval(-8, 7),) * 36)
        for label, outputs, groups, taps in (("depthwise", 6, 6, 6), ("2 groups", 4, 2, 6), ("9 channels", 9, 9, 4)):
            rows = full_rows(rng, outputs, 36 // groups, 17)
            lo, _ = GroupedMatVec.of(rows, groups, taps, int4).sums(x)
            yield Example(label, cls.within(GroupedMatVec.of(rows, groups, taps, int4, -128 - lo), Budget(8)), (x,))
