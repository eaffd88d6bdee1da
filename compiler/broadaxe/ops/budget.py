"""Budgets: what a multiply-accumulate layer whose weights are loaded at run time has room for.

A design with loadable weights is sized for all of them at once. Its certificate says, of every layer,

    for all rows w on the grid of the weight type, starts s and inputs x_i in [lo_i, hi_i] with
        s + sum_i min(w_i * lo_i, w_i * hi_i) >= -2**(P - 1)      and
        s + sum_i max(w_i * lo_i, w_i * hi_i) <=  2**(P - 1) - 1  (and the same, without s, of each tile and its own width)
    the accumulator of P bits holds the sum.

Both sums are attained, so a row outside these inequalities does overflow on some input: the condition is exact. The intervals
of the inputs hold for every network that may be loaded: a quantizer's whole range of codes, and what the operators in
between make of it, pad codes included.

A start is stored in P bits. Adders wrap, so it counts modulo 2**P, and of the numbers it may stand for at most one puts the
sums where the accumulator holds them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from broadaxe.errors import GraphError
from broadaxe.hardware import Dsp, Resources
from broadaxe.ir import Bounds, Fold, IntArray, Lanes, Value
from broadaxe.ops import costs
from broadaxe.ops.mac import Mac
from broadaxe.ops.memories import SIGNED, UNSIGNED, builtin, by_lane
from broadaxe.ops.packing import Packing
from broadaxe.types import Interval, IntType

LOAD_CYCLES = 2
"""Of a word read outside a loop, or of a loop without trips (assumed)."""


@dataclass(frozen=True)
class Budget:
    """Bits of an accumulator that is there before its weights are; `inner` are those of a tile's, None without tiles."""

    width: int
    inner: int | None = None

    @property
    def outer_dtype(self) -> IntType:
        return IntType(self.width, signed=True)

    @property
    def inner_dtype(self) -> IntType | None:
        return None if self.inner is None else IntType(self.inner, signed=True)


class Budgeted(Mac):
    """A multiply-accumulate operator with loadable weights and starts: those it holds at first are one choice of many.

    Its bounds are the accumulator's whole range, and those of its tiles the inner one's, since that is what other weights
    may reach. `attained` and `attained_tiles` are what the present ones do.
    """

    loadable = True
    budget: Budget

    def starting_at(self, start: IntArray) -> Budgeted:
        return replace(self, start=start)

    def bounds(self, *inputs: Value) -> Bounds:
        held = self.budget.outer_dtype.range
        for channel, interval in enumerate(self.attained(*inputs)):
            if interval not in held:
                raise GraphError(
                    f"{self.kind}: channel {channel} reaches {interval}, its budget is {held}; give it more bits"
                )
        inner, tiles = self.budget.inner_dtype, self.attained_tiles(*inputs)
        if tiles is not None and (inner is None or tiles not in inner.range):
            budget = "nothing" if inner is None else inner.range
            raise GraphError(f"{self.kind}: a tile reaches {tiles}, its budget is {budget}; give it more bits")
        return (held,) * self.outputs

    def dtype(self, *inputs: Value) -> IntType:
        return self.budget.outer_dtype

    def packing(self, inputs: Sequence[Value], dsp: Dsp, fold: Fold | None = None) -> Packing:
        """Every product has a multiplier of its own: starts of lanes are sums over several rows, no words of one."""
        return Packing(1, self.budget.width, self.depth)

    def stages(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> int:
        return super().stages(inputs, output, lanes) + load_cycles(2)

    def attained_tiles(self, *inputs: Value) -> Interval | None:
        """What tiles of the present weights reach; None where there are no tiles."""
        return None

    def template_context(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Mapping[str, Any]:
        """As with fixed weights, but that the types of memories do not depend on what they hold."""
        held = self.budget.outer_dtype.range
        return {
            **super().template_context(inputs, output, lanes),
            "start": by_lane(self.held_start, lanes.written),
            "start_type": builtin(held.lo, held.hi),
        }

    def parameters(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> IntArray:
        """Weights, then starts, each memory in the order of its dimensions."""
        if lanes not in self._weight_words:
            self._weight_words[lanes] = words(super().template_context(inputs, output, lanes)["weights"])
        return np.concatenate([self._weight_words[lanes], words(by_lane(self.held_start, lanes.written))])

    @property
    def weight_bits(self) -> int:  # others than the present ones may differ
        return self.weight_dtype.width

    @property
    def start_bits(self) -> int:
        return self.budget.width

    def written_memories(self, simd: int, rows: int, steps: int, starts: int) -> Resources:
        """Memories of `rows` times `steps` words of `simd` weights and of `starts` starts a row, as wide as declared."""
        bits = self.weight_dtype.width
        size = next(size for size, _ in UNSIGNED if simd * bits <= size or size == 64)
        parts = -(-simd // (size // bits))
        start = next(size for size, _ in SIGNED if self.budget.width <= size)
        return costs.times(costs.placed(size, steps), rows * parts) + costs.times(costs.placed(start, starts), rows)

    @cached_property
    def _weight_words(self) -> dict[Lanes, IntArray]:
        """Weights as the words of their memory, for each folding that has been asked for."""
        return {}

    @property
    def held_start(self) -> IntArray:
        """Starts as the memory holds them, in the accumulator's bits."""
        return np.array([self.budget.outer_dtype.wrap(v) for v in self.start.tolist()], dtype=np.int64)


def load_cycles(memories: int) -> int:
    """What a kernel takes more in a frame that loads nothing: a word that says so, and a loop without trips for each memory."""
    return LOAD_CYCLES * (1 + memories)


def words(*memories: Any) -> IntArray:
    """Elements of nested lists in order, as 64-bit words; negative ones in two's complement."""
    return np.concatenate([_integers(memory).reshape(-1).astype(np.uint64) for memory in memories])


def _integers(memory: Any) -> IntArray:
    """An array of nested lists; numpy would make floats of integers on both sides of 2**63."""
    array = np.array(memory)
    return np.array(memory, dtype=np.uint64) if array.dtype.kind not in "iu" else array
