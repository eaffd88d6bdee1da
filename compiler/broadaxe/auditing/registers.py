"""What an accumulator register holds: an affine map of the layer's sum of integer products, and whether a type holds that.

With q the sum of products of codes, channel c of the register stands for gain[c] * q + offset[c]. A declared type holds the
reals origin + step * n, so n = (gain * q + offset - origin) / step has to be an integer, and inside the type.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

import numpy as np

from broadaxe.auditing.declared import AccumulatorType
from broadaxe.auditing.design import Layer
from broadaxe.chain import PerChannel, spread
from broadaxe.ir import Bounds
from broadaxe.types import Interval


@dataclass(frozen=True)
class Register:
    """Real value of a layer's accumulator, per channel: gain * q + offset."""

    gain: PerChannel
    offset: PerChannel

    @classmethod
    def of(cls, gain: PerChannel, offset: PerChannel, channels: int) -> Register:
        wide = (Fraction(0),) * channels
        gain, offset, _ = spread(gain, offset, wide)
        return cls(gain, offset)

    @classmethod
    def tensor(cls, layer: Layer) -> Register:
        """The reals of the layer's own product: what a tensor of the model holds."""
        return cls.of(layer.out.scale, layer.out.shift, layer.op.outputs)

    def content(self, declared: AccumulatorType, channel: int, q: int) -> Fraction:
        """n of a sum of products; no integer where the type cannot represent it."""
        return (self.gain[channel] * q + self.offset[channel] - declared.origin) / declared.step

    def spans(self, declared: AccumulatorType, sums: Bounds) -> Bounds:
        """Integers n that enclose each channel's content."""
        out = []
        for channel, interval in enumerate(sums):
            ends = sorted(self.content(declared, channel, q) for q in (interval.lo, interval.hi))
            out.append(Interval(floor(ends[0]), ceil(ends[1])))
        return tuple(out)

    def limits(self, declared: AccumulatorType, channel: int) -> tuple[int, int] | None:
        """The least and the greatest q that the type holds; None where the gain is 0."""
        gain = self.gain[channel]
        if gain == 0:
            return None
        at = sorted(
            (declared.origin + declared.step * n - self.offset[channel]) / gain
            for n in (declared.allowed.lo, declared.allowed.hi)
        )
        return ceil(at[0]), floor(at[1])


@dataclass(frozen=True)
class Declaration:
    """One declared accumulator.

    Attributes:
        type: what it can hold.
        where: what declares it, for people.
        register: what it stands for.
        notes: what is wrong with other parts of the declaration.
    """

    type: AccumulatorType
    where: str
    register: Register
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inexact:
    """The first thing that a type cannot represent: the product of an input, or (product None) the register's start."""

    channel: int
    product: int | None
    value: Fraction


def inexact(layer: Layer, register: Register, declared: AccumulatorType) -> Inexact | None:
    """The first product, or start, that is no multiple of the type's step; None if the type represents them all.

    Consecutive inputs make products that are gain * weight apart, so all of them are multiples of the step if that is one
    and one product is.
    """
    lo, hi = layer.op.operands(layer.x)
    for channel in range(layer.op.outputs):
        start = (register.offset[channel] - declared.origin) / declared.step
        if start.denominator != 1:
            return Inexact(channel, None, register.offset[channel])
    gains = [gain / declared.step for gain in register.gain]
    if all(gain.denominator == 1 for gain in gains):
        return None
    for channel, gain in enumerate(gains):
        row = channel if len(lo) > 1 else 0
        ends = zip(layer.op.weights[channel].tolist(), lo[row].tolist(), hi[row].tolist(), strict=True)
        for product, (weight, low, high) in enumerate(ends):
            # the value shown is that of the smallest input in magnitude whose product is not representable
            for code in (low,) if low == high else _by_magnitude(low, high):
                if (gain * weight * code).denominator != 1:
                    return Inexact(channel, product, register.gain[channel] * weight * code)
    return None


def _by_magnitude(low: int, high: int) -> tuple[int, ...]:
    """Two neighbours in the interval, and with them every residue that matters: the nearest to 0 first."""
    nearest = min(max(0, low), high)
    other = nearest + 1 if nearest < high else nearest - 1
    return nearest, other


def spans(layer: Layer, declared: Declaration, sums: Bounds, exact: bool) -> Bounds:
    """Ends of n per channel: of sums between the given ends where every product is exact, else of rounded products."""
    if exact:
        return declared.register.spans(declared.type, sums)
    return _rounded(layer, declared, partial=False)


def partial_spans(layer: Layer, declared: Declaration, exact: bool) -> Bounds:
    """Integers n that enclose every partial sum of a channel, in any order of its products."""
    if exact:
        return declared.register.spans(declared.type, layer.op.prefix_hull(layer.x))
    return _rounded(layer, declared, partial=True)


def _rounded(layer: Layer, declared: Declaration, *, partial: bool) -> Bounds:
    """Ends of n per channel when the start and every product are rounded to the step: rounding rises, so ends stay ends."""
    register, kind = declared.register, declared.type
    lo, hi = layer.op.operands(layer.x)
    out = []
    for channel in range(layer.op.outputs):
        row = channel if len(lo) > 1 else 0
        num, den = (register.gain[channel] / kind.step).as_integer_ratio()
        weights = layer.op.weights[channel].astype(object) * num
        products = np.stack([weights * lo[row].astype(object), weights * hi[row].astype(object)])
        units = kind.units(products, np.full_like(products, den))
        least, most = units.min(axis=0), units.max(axis=0)
        if partial:
            least, most = np.minimum(least, 0), np.maximum(most, 0)
        begin = start(declared, channel)
        out.append(Interval(begin + int(least.sum()), begin + int(most.sum())))
    return tuple(out)


def start(declared: Declaration, channel: int) -> int:
    """What the accumulator starts at, rounded to its step."""
    num, den = declared.register.content(declared.type, channel, 0).as_integer_ratio()
    return int(declared.type.units(np.array([num], dtype=object), np.array([den], dtype=object))[0])
