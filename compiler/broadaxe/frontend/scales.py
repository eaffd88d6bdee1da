"""Scales of activations from what was observed: largest magnitude, a percentile of magnitudes, or least squared error.

All members of a group share one scale. A member that needs a larger one gives it to the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, frexp, log2
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from broadaxe.frontend.calibrate import Observed

Array: TypeAlias = npt.NDArray[Any]
Ranges: TypeAlias = Literal["max", "percentile", "mse"]
Scales: TypeAlias = Literal["float", "pow2"]

SMALLEST = 2.0**-60
"""Far from float32's smallest numbers, so that dividing by a scale stays exact enough."""
FINEST_CLIP = 1 / 32
CANDIDATES = 121


@dataclass(frozen=True, eq=False)
class Member:
    """One quantized activation: what it was observed to be, and the codes it gets."""

    observed: Observed
    bits: int
    signed: bool

    @property
    def top(self) -> int:
        """The largest code; the most negative one of a signed type lies one step further from 0."""
        return (1 << self.bits - self.signed) - 1


def group_scale(members: Sequence[Member], ranges: Ranges, percentile: float, scales: Scales) -> float:
    """The scale [real units per step] that all members share, a float32 number; 1 where nothing but zeros was seen.

    With `pow2` it is a power of two: rounded up for `max` and `percentile`, the one of least error for `mse`.
    """
    if ranges == "percentile":
        needed = max(magnitude(member.observed, percentile) / member.top for member in members)
    else:
        needed = max(member.observed.largest / member.top for member in members)
    if needed == 0:
        return 1.0
    needed = max(needed, SMALLEST)
    if ranges != "mse":
        return _power_above(needed) if scales == "pow2" else _float32(needed)
    if scales == "pow2":
        most = _power_above(needed)
        choices = np.array([most * 2.0**-k for k in range(1 + ceil(log2(1 / FINEST_CLIP)))])
    else:
        choices = needed * np.geomspace(1, FINEST_CLIP, CANDIDATES)
    errors = [sum(squared_error(member, scale) for member in members) for scale in choices.tolist()]
    return _float32(float(choices[int(np.argmin(errors))]))


def magnitude(observed: Observed, percentile: float) -> float:
    """The smallest magnitude, to a bin, that at least `percentile` percent of the elements do not exceed."""
    edges = np.abs(observed.edges)
    outer = np.maximum(edges[:-1], edges[1:])  # (bins,)
    order = np.argsort(outer, kind="stable")
    covered = observed.zeros + np.cumsum(observed.counts[order])
    wanted = percentile / 100 * (observed.zeros + observed.counts.sum())
    if observed.zeros >= wanted:  # what is not zero is rare enough to be clipped, but a scale needs something
        return observed.largest
    return min(float(outer[order[int(np.searchsorted(covered, wanted))]]), observed.largest)


def squared_error(member: Member, scale: float) -> float:
    """Sum over all elements of (x - quantized x)^2, every bin taken at its centre; zeros cost nothing.

    Where bins are too wide to resolve the steps, rounding counts with its mean, scale^2 / 12, and only clipping exactly.
    """
    edges = member.observed.edges
    centres, width = (edges[:-1] + edges[1:]) / 2, edges[1] - edges[0]
    lo, hi = (-member.top - 1 if member.signed else 0), member.top
    clipped = np.clip(centres / scale, lo, hi)
    error = (centres - np.round(clipped) * scale) ** 2
    if width > scale / 4:
        error = np.where(clipped == centres / scale, scale**2 / 12, error)
    return float(error @ member.observed.counts)


def weight_scale(weight: Array, axis: int, bits: int) -> Array:
    """Scale per output channel, float32, of the weight's rank with 1 on every other axis.

    The largest magnitude meets the largest code, 2^(bits - 1) - 1. With one bit the codes are -1 and 1, and the mean
    magnitude has the least squared error. A channel of zeros gets 1.
    """
    others = tuple(a for a in range(weight.ndim) if a != axis)
    size = np.abs(weight.astype(np.float64))
    if bits == 1:
        scale = size.mean(axis=others, keepdims=True)
    else:
        scale = size.max(axis=others, keepdims=True) / ((1 << bits - 1) - 1)
    return np.where(scale == 0, 1.0, np.maximum(scale, SMALLEST)).astype(np.float32)


def _power_above(value: float) -> float:
    """The smallest power of two that is at least `value`."""
    mantissa, exponent = frexp(value)
    return float(2.0 ** (exponent - 1 if mantissa == 0.5 else exponent))


def _float32(value: float) -> float:
    return float(np.float32(value))
