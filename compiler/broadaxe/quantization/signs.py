"""Rows of signs that need the fewest accumulator bits: what a grid of -1 and 1, which has no zero, can fall back on.

With signs e_i and c_i = lo_i + hi_i, r_i = hi_i - lo_i,

    HI = (sum_i r_i + sum_i e_i * c_i) / 2        -LO = (sum_i r_i - sum_i e_i * c_i) / 2

so HI - LO is the same for all signs, and the widest end is least where sum_i e_i * c_i is nearest to zero, from below as LO
may reach -2**(P-1): a subset of the |c_i| whose sum is nearest to half of all.
"""

from __future__ import annotations

from collections import Counter
from math import gcd

TABLE_BITS = 1 << 32
"""Sums that a layer's tables may hold, half a gigabyte; above it signs come from a greedy walk."""


def balanced_signs(centres: list[int]) -> list[int]:
    """Signs e_i with sum_i e_i * c_i nearest to zero, below it if there are two; exact unless its tables grow too large."""
    counts = Counter(abs(c) for c in centres if c)
    total = sum(abs(c) for c in centres)
    unit = gcd(*counts) if counts else 1
    if total // unit * len(counts) > TABLE_BITS:
        return _walked(centres)
    chosen = _subset(Counter({v // unit: n for v, n in counts.items()}), total // unit)
    signs = []
    for c in centres:
        taken = chosen[abs(c) // unit] > 0
        chosen[abs(c) // unit] -= taken
        signs.append(1 if taken == (c > 0) else -1)
    return signs


def _subset(counts: Counter[int], total: int) -> Counter[int]:
    """How many of each value to take so that their sum is nearest to half of the total.

    Bit t of reached[k] tells whether the first k values make the sum t. The sums of all values are symmetric around half of
    their total.
    """
    reached = [1]
    for value, count in counts.items():
        sums, left, part = reached[-1], count, 1
        while left:
            part = min(part, left)
            sums |= sums << (value * part)
            left, part = left - part, 2 * part
        reached.append(sums)

    def below(t: int) -> int:
        """The largest sum up to t."""
        return (reached[-1] & ((1 << (t + 1)) - 1)).bit_length() - 1

    at = below(total // 2)
    chosen: Counter[int] = Counter()
    for (value, count), sums in zip(reversed(list(counts.items())), reached[-2::-1], strict=True):
        chosen[value] = next(n for n in range(count + 1) if at >= n * value and sums >> (at - n * value) & 1)
        at -= chosen[value] * value
    return chosen


def _walked(centres: list[int]) -> list[int]:
    """Largest first, each towards zero."""
    signs, at = [1] * len(centres), 0
    for i in sorted(range(len(centres)), key=lambda i: -abs(centres[i])):
        signs[i] = 1 if (at < 0) == (centres[i] >= 0) else -1
        at += signs[i] * centres[i]
    return signs
