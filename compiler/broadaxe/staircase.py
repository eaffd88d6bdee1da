"""Integer staircases: a monotone function of one integer per channel, kept as its first value and its steps.

`staircase` turns an exact chain and its quantizer into one. Float64 bisection proposes where each step is; exact
evaluation on both sides of every step decides, and what it rejects is searched again in exact arithmetic. A chain that turns
is evaluated exactly on its whole domain instead (`tabulate`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from broadaxe.chain import Chain, Ending, Ints, approximate_codes, codes, direction_on, select
from broadaxe.errors import ProofError, UnsupportedModelError
from broadaxe.functions import check_tables
from broadaxe.types import Interval

MOST_STEPS = 1 << 22
"""Steps of all channels: as many are searched, proven and stored."""
Hits: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Staircase:
    """f(x) = first[c] + direction[c] * #{k : steps[c, k] <= x} for x in domain[c].

    `steps` is sorted along its second axis, shape (channels, levels). Entries past a channel's own steps hold
    domain.hi + 1 and are never reached. A jump by several codes repeats its position.
    """

    domain: tuple[Interval, ...]
    first: Ints
    direction: Ints
    steps: Ints

    @property
    def counts(self) -> Ints:
        """Steps inside each channel's domain."""
        ends = np.array([d.hi for d in self.domain], dtype=np.int64)
        return np.asarray((self.steps <= ends[:, None]).sum(axis=1), dtype=np.int64)

    @property
    def codes(self) -> tuple[Interval, ...]:
        """The proven output interval of each channel."""
        last = self.first + self.direction * self.counts
        return tuple(Interval(min(a, b), max(a, b)) for a, b in zip(self.first.tolist(), last.tolist(), strict=True))


@lru_cache(maxsize=16)
def tabulate(chain: Chain, quantizer: Ending, domain: tuple[Interval, ...]) -> Ints:
    """The exact codes of every integer from the least to the greatest of all channels, shape (channels, span), read-only.

    Beyond a channel's own domain stands the code of its nearer end. UnsupportedModelError where it would be too large.
    """
    check_tables(domain)
    least, greatest = min(d.lo for d in domain), max(d.hi for d in domain)
    inputs = np.arange(least, greatest + 1)
    rows = np.empty((len(domain), len(inputs)), dtype=np.int64)
    known: dict[tuple[Chain, Ending, Interval], Ints] = {}
    for c, interval in enumerate(domain):
        part = (*select(chain, quantizer, np.array([c])), interval)
        if part not in known:
            inside = np.arange(interval.lo, interval.hi + 1)[None].astype(object)
            known[part] = codes(part[0], part[1], inside)[0]
        rows[c] = known[part][np.clip(inputs, interval.lo, interval.hi) - interval.lo]
    rows.setflags(write=False)
    return rows


def stairs_of(rows: Ints, domain: Sequence[Interval]) -> Staircase | None:
    """The staircase of tabulated codes; None where those of a channel rise and fall."""
    moves = np.diff(rows, axis=1)
    rising, falling = (moves > 0).any(axis=1), (moves < 0).any(axis=1)
    if (rising & falling).any():
        return None
    least = min(d.lo for d in domain)
    counts = np.abs(moves).sum(axis=1)
    steps = np.full((len(rows), int(counts.max(initial=0))), 0, dtype=np.int64)
    steps[:] = np.array([d.hi + 1 for d in domain], dtype=np.int64)[:, None]
    for c, row in enumerate(np.abs(moves)):
        steps[c, : counts[c]] = np.repeat(np.arange(least + 1, least + 1 + len(row)), row)
    direction = np.where(falling, -1, 1).astype(np.int64)
    return Staircase(tuple(domain), rows[:, 0].copy(), direction, steps)


def staircase(chain: Chain, quantizer: Ending, domain: Sequence[Interval]) -> Staircase:
    """The exact staircase of a chain that does not turn on a proven domain (one interval per channel; ends within 2**62)."""
    if None in direction_on(chain, domain):
        raise ProofError("staircase: its chain is not known to be monotone; tabulate it")
    ends = np.array([[d.lo, d.hi] for d in domain], dtype=np.int64)
    at_ends = codes(chain, quantizer, ends.astype(object))
    first, last = at_ends[:, 0], at_ends[:, 1]
    rising = last >= first
    levels = int(np.abs(last - first).max())
    if levels * len(domain) > MOST_STEPS:
        raise UnsupportedModelError(
            f"has {levels} steps in {len(domain)} channels; at most {MOST_STEPS} together are possible, quantize to fewer"
            " bits"
        )
    direction = np.where(rising, 1, -1).astype(np.int64)
    if levels == 0:
        return Staircase(tuple(domain), first, direction, np.zeros((len(domain), 0), dtype=np.int64))
    # step k of channel c is the smallest x whose code has moved at least k + 1 levels from the first
    moves = np.arange(1, levels + 1, dtype=np.int64)[None, :]
    real = moves <= np.abs(last - first)[:, None]
    target = first[:, None] + direction[:, None] * moves

    def reached_float(x: Ints) -> Hits:
        value = approximate_codes(chain, quantizer, x.astype(np.float64))
        return np.asarray(direction[:, None] * (value - target) >= 0)

    lo = np.broadcast_to(ends[:, :1], target.shape)
    hi = np.broadcast_to(ends[:, 1:], target.shape)
    guess = _bisect(lo, hi, reached_float)

    at, before = guess.astype(object), np.maximum(guess - 1, lo).astype(object)
    moved = direction[:, None] * (codes(chain, quantizer, at) - target) >= 0
    moved_before = (direction[:, None] * (codes(chain, quantizer, before) - target) >= 0) & (guess > lo)
    wrong = real & ~(moved & ~moved_before)
    if wrong.any():
        rows = np.flatnonzero(wrong.any(axis=1))
        guess[rows] = _exact_rows(chain, quantizer, ends, target, direction, rows)
    steps = np.where(real, guess, ends[:, 1:] + 1)
    return Staircase(tuple(domain), first, direction, steps)


def _exact_rows(
    chain: Chain, quantizer: Ending, ends: Ints, target: Ints, direction: Ints, rows: npt.NDArray[np.intp]
) -> Ints:
    """Bisection in exact arithmetic, for the channels where float64 guessed wrong."""
    part, ending = select(chain, quantizer, rows)

    def reached(x: Ints) -> Hits:
        return direction[rows, None] * (codes(part, ending, x.astype(object)) - target[rows]) >= 0

    shape = target[rows].shape
    return _bisect(np.broadcast_to(ends[rows, :1], shape), np.broadcast_to(ends[rows, 1:], shape), reached)


def _bisect(lo: Ints, hi: Ints, reached: Callable[[Ints], Hits]) -> Ints:
    """The smallest x in [lo, hi] with reached(x), where reached is monotone and reached(hi) holds."""
    lo, hi = lo.copy(), hi.copy()
    while (lo < hi).any():
        middle = lo + (hi - lo) // 2
        hit = reached(middle)
        hi = np.where(hit, middle, hi)
        lo = np.where(hit, lo, np.minimum(middle + 1, hi))
    return hi
