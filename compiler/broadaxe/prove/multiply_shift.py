"""Find the multiply-shift that computes a given staircase.

In a rising channel with steps T_1 <= T_2 <= ... to levels v_1, v_2, ..., floor((m*x + b) / 2**s) has these very steps iff

    m * T_i + b       >= v_i * 2**s          at every step the level is reached,
    m * (T_i - 1) + b <= v_i * 2**s - 1      and not one earlier,

and, at the ends, that the clamp hides whatever lies beyond. For a given m the first line bounds b from below and the second
from above, so a b exists iff the largest lower bound does not pass the smallest upper one: one vectorised comparison per shift,
with a cost that grows with the number of levels and not with the domain. A falling channel is a rising one in -x.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from broadaxe.chain import Affine, Chain, Clamp, Ending, Ints, Normalize, Quantizer, spread
from broadaxe.ir import constant_array, hull
from broadaxe.ops.forms import MultiplyShift
from broadaxe.staircase import Staircase

LARGEST_SHIFT = 40
HEADROOM = 60
"""m * x + b stays below 2**60, so int64 holds every bound."""


def multiply_shift_candidate(chain: Chain, quantizer: Ending, stairs: Staircase) -> MultiplyShift | None:
    """The multiply-shift with the smallest shift, rounding down; None if none up to LARGEST_SHIFT bits does."""
    channels, levels = stairs.steps.shape
    slope = None if levels == 0 else _slopes(chain, quantizer, channels)
    if slope is None:
        return None
    ends = np.array([[d.lo, d.hi] for d in stairs.domain], dtype=np.int64)
    counts = stairs.counts
    last = stairs.first + stairs.direction * counts
    falling = stairs.direction < 0
    inside = np.arange(levels)[None, :] < counts[:, None]
    # in the orientation where every channel rises: steps ascending, codes from low to high
    steps = np.where(falling[:, None], _mirrored(stairs.steps, counts), stairs.steps)
    low_end = np.where(falling, -ends[:, 1], ends[:, 0])
    high_end = np.where(falling, -ends[:, 0], ends[:, 1])
    first, top = np.minimum(stairs.first, last), np.maximum(stairs.first, last)
    values = first[:, None] + np.arange(1, levels + 1)[None, :]
    codes = hull(stairs.codes)
    widest = max(int(np.abs(ends).max()).bit_length() + 1, 2)
    steep = int(np.ceil(slope.max())).bit_length() if slope.max() < 1 << HEADROOM else HEADROOM
    for shift in range(min(LARGEST_SHIFT, HEADROOM - widest - max(steep, 8)) + 1):
        scale = 1 << shift
        factor = np.zeros(channels, dtype=np.int64)
        bias = np.zeros(channels, dtype=np.int64)
        solved = np.zeros(channels, dtype=bool)
        for candidate in _factors(slope, scale):
            m = candidate[:, None]
            lower = np.where(inside, values * scale - m * steps, np.iinfo(np.int64).min).max(axis=1)
            upper = np.where(inside, values * scale - 1 - m * (steps - 1), np.iinfo(np.int64).max).min(axis=1)
            at_low, at_high = first * scale - candidate * low_end, (top + 1) * scale - 1 - candidate * high_end
            lower = np.where(first > codes.lo, np.maximum(lower, at_low), lower)
            upper = np.where(top < codes.hi, np.minimum(upper, at_high), upper)
            flat = counts == 0
            lower, upper = np.where(flat, first * scale, lower), np.where(flat, first * scale, upper)
            good = (lower <= upper) & ~solved
            factor[good] = np.where(flat, 0, candidate)[good]
            bias[good] = _inside(lower, upper)[good]
            solved |= good
            if solved.all():
                signed = np.where(falling, -factor, factor)
                return MultiplyShift(
                    constant_array(signed), constant_array(bias), shift, False, codes.lo, codes.hi, hull(stairs.domain)
                )
    return None


def dyadic_candidate(chain: Chain, quantizer: Ending, stairs: Staircase) -> MultiplyShift | None:
    """factor / 2**shift equal to the chain's own slope, half to even; None unless slopes and offsets are dyadic.

    With codes = round((m*x + B) / 2**shift) and B an integer, x meets ties, which a floor cannot round to even.
    """
    affine = chain[0]
    if not isinstance(quantizer, Quantizer) or quantizer.bipolar:
        return None
    if quantizer.rounding != "ROUND" or not isinstance(affine, Affine):
        return None
    if not all(isinstance(step, Clamp) for step in chain[1:]):
        return None
    channels = len(stairs.domain)
    scale, offset, step, zero = spread(affine.scale, affine.shift, quantizer.scale, quantizer.zero_point)
    slopes = [a / s for a, s in zip(scale, step, strict=True)]
    shift = max(a.denominator for a in slopes).bit_length() - 1
    factors = [a * (1 << shift) for a in slopes]
    biases = [(b / s + z) * (1 << shift) for b, s, z in zip(offset, step, zero, strict=True)]
    if any(v.denominator != 1 for v in (*factors, *biases)):
        return None
    widest = max(abs(int(v)) for v in (*factors, *biases)).bit_length()
    domain, codes = hull(stairs.domain), hull(stairs.codes)
    if shift > LARGEST_SHIFT or widest + max(abs(domain.lo), abs(domain.hi)).bit_length() > HEADROOM:
        return None
    factors, biases = ((list(c) * channels if len(c) == 1 else list(c)) for c in (factors, biases))
    return MultiplyShift(
        constant_array([int(v) for v in factors]),
        constant_array([int(v) for v in biases]),
        shift,
        True,
        codes.lo,
        codes.hi,
        domain,
    )


def _mirrored(steps: Ints, counts: Ints) -> Ints:
    """Steps of falling channels in -x: x falls at T, so -x rises at 1 - T, in the opposite order."""
    out = steps.copy()
    for channel, count in enumerate(counts.tolist()):
        out[channel, :count] = 1 - steps[channel, :count][::-1]
    return np.asarray(out)


def _slopes(chain: Chain, quantizer: Ending, channels: int) -> npt.NDArray[np.float64] | None:
    """Codes per unit of x where nothing clamps, in float64; None for a chain that is not one straight line."""
    codes_per_unit = quantizer.slopes()
    if codes_per_unit is None:
        return None
    slope = np.ones((channels, 1))
    for step in chain:
        match step:
            case Affine() | Normalize():
                slope = slope * (step.approximate(np.ones((1, 1))) - step.approximate(np.zeros((1, 1))))
            case Clamp():
                pass
            case _:
                return None
    return np.asarray(np.abs(slope[:, 0] * codes_per_unit))


def _factors(slope: npt.NDArray[np.float64], scale: int) -> list[Ints]:
    """Integers near slope * scale, the nearest first."""
    exact = slope * scale
    nearest = np.rint(exact).astype(np.int64)
    return [nearest, np.floor(exact).astype(np.int64), np.ceil(exact).astype(np.int64)]


def _inside(lower: Ints, upper: Ints) -> Ints:
    """A point between two bounds that may be infinite: the middle of finite ones."""
    free_low, free_high = lower == np.iinfo(np.int64).min, upper == np.iinfo(np.int64).max
    middle = lower // 2 + upper // 2 + (lower % 2 + upper % 2) // 2
    return np.asarray(np.where(free_low, np.where(free_high, 0, upper), np.where(free_high, lower, middle)))
