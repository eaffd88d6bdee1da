"""Exact functions from integers through reals to integer codes: what stands between two integer tensors.

A `Chain` is a tuple of steps that act on each channel alone: first the affine map that gives an integer its real value, then
whatever the model does before its next quantizer (bias, BatchNormalization, Relu, Sigmoid, ...). A `Quantizer` or
`Thresholded` ends it. The steps of this file are monotone; `broadaxe.functions` has others.

Everything is decided in exact arithmetic. A value is a rational num/den of Python integers; what is irrational is enclosed
between two rationals about 2**-precision apart, and `codes` doubles the precision until no code is in doubt. Arrays are
numpy object arrays of Python integers, shape (channels, points).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from math import isqrt, lcm
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from broadaxe.errors import ProofError
from broadaxe.types import Interval, IntType

Exact: TypeAlias = npt.NDArray[Any]
"""Object array of Python integers, shape (channels, points)."""
Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
PerChannel: TypeAlias = tuple[Fraction, ...]
"""One rational per channel, or a single one for all channels."""

T = TypeVar("T")

FIRST_PRECISION = 128
LAST_PRECISION = 1 << 13
HOST_UNIT = 2.0**-49
"""What a step of a few float64 operations adds to an error: 16 roundings."""


@dataclass(frozen=True, slots=True)
class Reals:
    """Enclosures lo/den <= x <= hi/den; den > 0, shape (channels, 1 or points); lo is hi where all values are exact."""

    lo: Exact
    hi: Exact
    den: Exact

    @property
    def exact(self) -> bool:
        return self.lo is self.hi


def column(values: Sequence[int]) -> Exact:
    """Python integers as an object array of shape (len(values), 1)."""
    out = np.empty((len(values), 1), dtype=object)
    out[:, 0] = values
    return out


def rationals(values: PerChannel) -> tuple[Exact, Exact]:
    return column([v.numerator for v in values]), column([v.denominator for v in values])


def float_column(values: PerChannel) -> Floats:
    return np.array([float(v) for v in values], dtype=np.float64)[:, None]


Signs: TypeAlias = tuple[int | None, ...]
"""Per channel, or a single one for all: 1 where a function rises, -1 where it falls, 0 where it is constant, None where it
does none of these, or is not known to."""


class Step(ABC):
    """One function of a chain, on each channel alone. Subclasses are frozen dataclasses of rationals."""

    @abstractmethod
    def exact(self, x: Reals, precision: int) -> Reals:
        """Enclosures of the function, about 2**-precision wide where those of x are points."""

    @abstractmethod
    def approximate(self, x: Floats) -> Floats:
        """The function in float64."""

    @abstractmethod
    def error(self, x: Floats, off: Floats) -> Floats:
        """How far `approximate(x)` may be from the exact function of any number within `off` of x."""

    @abstractmethod
    def direction(self) -> Signs:
        """How the function moves on all reals that it is defined on."""

    def direction_between(self, ends: Reals) -> Signs:
        """The same between two numbers of each channel, `ends` of shape (channels, 2)."""
        return self.direction()

    @abstractmethod
    def select(self, rows: npt.NDArray[np.intp]) -> Step:
        """The step on some of the channels."""


@dataclass(frozen=True)
class Affine(Step):
    """y = scale * x + shift."""

    scale: PerChannel
    shift: PerChannel

    def exact(self, x: Reals, precision: int) -> Reals:
        a, a_den = rationals(self.scale)
        b, b_den = rationals(self.shift)
        den = np.frompyfunc(lcm, 2, 1)(a_den, b_den)
        a, b = a * (den // a_den), b * (den // b_den) * x.den
        lo = a * x.lo + b
        if x.exact:
            return Reals(lo, lo, den * x.den)
        hi = a * x.hi + b
        return Reals(np.minimum(lo, hi), np.maximum(lo, hi), den * x.den)

    def approximate(self, x: Floats) -> Floats:
        return float_column(self.scale) * x + float_column(self.shift)

    def error(self, x: Floats, off: Floats) -> Floats:
        gain = np.abs(float_column(self.scale))
        return np.asarray(gain * off + HOST_UNIT * (gain * (np.abs(x) + off) + np.abs(float_column(self.shift))))

    def direction(self) -> Signs:
        return tuple((s > 0) - (s < 0) for s in self.scale)

    def select(self, rows: npt.NDArray[np.intp]) -> Affine:
        return Affine(take(self.scale, rows), take(self.shift, rows))


@dataclass(frozen=True)
class Normalize(Step):
    """y = gamma * (x - mean) / sqrt(variance) + beta: BatchNormalization; variance includes eps and is positive."""

    gamma: PerChannel
    mean: PerChannel
    variance: PerChannel
    beta: PerChannel

    def exact(self, x: Reals, precision: int) -> Reals:
        centred = Affine(self.gamma, _products(self.gamma, self.mean, -1)).exact(x, precision)
        low, high, below = self._inverse_roots(precision)
        # the smaller product is a floor and the larger a ceiling, whatever the sign of what is scaled
        lo = np.where(centred.lo >= 0, centred.lo * low, centred.lo * high)
        hi = np.where(centred.hi >= 0, centred.hi * high, centred.hi * low)
        scaled = Reals(lo, hi, centred.den * below)
        return Affine((Fraction(1),), self.beta).exact(scaled, precision)

    def _inverse_roots(self, precision: int) -> tuple[Exact, Exact, Exact]:
        """low / den <= 1 / sqrt(variance) <= high / den; both ends are equal where the variance is a rational square."""
        low, high, den = [], [], []
        for v in self.variance:
            num_root, den_root = isqrt(v.numerator), isqrt(v.denominator)
            square = num_root * num_root == v.numerator and den_root * den_root == v.denominator
            floor = den_root if square else isqrt((v.denominator << (2 * precision)) // v.numerator)
            low.append(floor)
            high.append(floor if square else floor + 1)
            den.append(num_root if square else 1 << precision)
        return column(low), column(high), column(den)

    def approximate(self, x: Floats) -> Floats:
        gain = float_column(self.gamma) / np.sqrt(float_column(self.variance))
        return gain * (x - float_column(self.mean)) + float_column(self.beta)

    def error(self, x: Floats, off: Floats) -> Floats:
        gain = np.abs(float_column(self.gamma) / np.sqrt(float_column(self.variance)))
        size = gain * (np.abs(x) + off + np.abs(float_column(self.mean))) + np.abs(float_column(self.beta))
        return np.asarray(gain * off + HOST_UNIT * size)

    def direction(self) -> Signs:
        return tuple((g > 0) - (g < 0) for g in self.gamma)

    def select(self, rows: npt.NDArray[np.intp]) -> Normalize:
        return Normalize(*(take(v, rows) for v in (self.gamma, self.mean, self.variance, self.beta)))


@dataclass(frozen=True)
class Clamp(Step):
    """y = min(max(x, lo), hi); an end that is None does not clamp. Relu is Clamp(0, None)."""

    lo: Fraction | None
    hi: Fraction | None

    def exact(self, x: Reals, precision: int) -> Reals:
        lo, hi, den, exact = x.lo, x.hi, x.den, x.exact
        for bound, pick in ((self.lo, np.maximum), (self.hi, np.minimum)):
            if bound is None:
                continue
            lo, hi = lo * bound.denominator, lo * bound.denominator if exact else hi * bound.denominator
            den = den * bound.denominator
            edge = bound.numerator * (den // bound.denominator)
            lo, hi = pick(lo, edge), pick(hi, edge)
        return Reals(lo, lo if exact else hi, den)

    def approximate(self, x: Floats) -> Floats:
        lo = -np.inf if self.lo is None else float(self.lo)
        hi = np.inf if self.hi is None else float(self.hi)
        return np.clip(x, lo, hi)

    def error(self, x: Floats, off: Floats) -> Floats:
        reach = max((abs(float(end)) for end in (self.lo, self.hi) if end is not None), default=0.0)
        return np.asarray(off + HOST_UNIT * reach)

    def direction(self) -> Signs:
        return (1,)

    def select(self, rows: npt.NDArray[np.intp]) -> Clamp:
        return self


Chain: TypeAlias = tuple[Step, ...]


def _products(a: PerChannel, b: PerChannel, sign: int) -> PerChannel:
    a, b = spread(a, b)
    return tuple(sign * p * q for p, q in zip(a, b, strict=True))


def spread(*columns: PerChannel) -> tuple[PerChannel, ...]:
    """Repeat single entries so that all columns have one length."""
    length = max(len(c) for c in columns)
    return tuple(c * length if len(c) == 1 else c for c in columns)


def normalize(gamma: PerChannel, mean: PerChannel, variance: PerChannel, beta: PerChannel) -> Step:
    """BatchNormalization as an exact affine map where every 1/sqrt(variance) is rational, else as `Normalize`."""
    gamma, mean, variance, beta = spread(gamma, mean, variance, beta)
    gains = []
    for g, v in zip(gamma, variance, strict=True):
        num, den = isqrt(v.numerator), isqrt(v.denominator)
        if num * num != v.numerator or den * den != v.denominator:
            return Normalize(gamma, mean, variance, beta)
        gains.append(g * Fraction(den, num))
    return Affine(tuple(gains), tuple(b - a * m for a, m, b in zip(gains, mean, beta, strict=True)))


def then(chain: Chain, step: Step) -> Chain:
    """The chain followed by one more step; two affine maps in a row become one."""
    if chain and isinstance(step, Affine) and isinstance(chain[-1], Affine):
        a, b, c, d = spread(chain[-1].scale, chain[-1].shift, step.scale, step.shift)
        merged = Affine(
            tuple(p * r for p, r in zip(a, c, strict=True)),
            tuple(q * r + s for q, r, s in zip(b, c, d, strict=True)),
        )
        return (*chain[:-1], merged)
    return (*chain, step)


def read_as(chain: Chain, scale: PerChannel, shift: PerChannel) -> Chain:
    """The chain for integers y that stand for scale * y + shift: y -> chain(scale * y + shift)."""
    scale, shift = spread(scale, shift)
    out: Chain = (Affine(scale, shift),)
    for step in chain:
        out = then(out, step)
    return out


def moved(chain: Chain, offsets: Sequence[int]) -> Chain:
    """The chain for integers that carry an offset of each channel on top: x -> chain(x - offset)."""
    return read_as(chain, (Fraction(1),), tuple(Fraction(-int(v)) for v in offsets))


def direction(chain: Chain, channels: int) -> Signs:
    """How the chain moves on all integers, per channel."""
    total: Signs = (1,) * channels
    for step in chain:
        total = turned(total, step.direction())
    return total


def turned(before: Signs, after: Signs) -> Signs:
    """How a function moves whose argument moves itself: by channel of the argument."""
    wide = after * len(before) if len(after) == 1 else after
    return tuple(
        0 if 0 in (a, b) else None if a is None or b is None else a * b for a, b in zip(before, wide, strict=True)
    )


def course(chain: Chain, ends: Reals) -> tuple[Signs, Reals]:
    """How the chain moves between two numbers of each channel, `ends` of shape (channels, 2), and its values at both.

    Where a sign is not None, all values of the channel lie between those two.
    """
    total: Signs = (1,) * len(ends.lo)
    for step in chain:
        total = turned(total, step.direction_between(ends))
        ends = step.exact(ends, FIRST_PRECISION)
    return total, ends


def direction_on(chain: Chain, domain: Sequence[Interval]) -> Signs:
    """How the chain moves on its proven domain, one interval of integers per channel."""
    signs = direction(chain, len(domain))
    return course(chain, points([[d.lo, d.hi] for d in domain]))[0] if None in signs else signs


def points(rows: npt.ArrayLike) -> Reals:
    """Integers as exact reals, shape (channels, points)."""
    x = np.array(rows, dtype=object)
    return Reals(x, x, column([1] * len(x)))


@dataclass(frozen=True)
class Snap(Step):
    """y = scale * (round(x / scale + zero_point) - zero_point): one rounding inside a chain, no clamp."""

    scale: PerChannel
    zero_point: PerChannel
    rounding: str

    def exact(self, x: Reals, precision: int) -> Reals:
        scale, zero = spread(self.scale, self.zero_point)
        v = Affine(tuple(1 / s for s in scale), zero).exact(x, precision)
        lo = round_rational(v.lo, v.den, self.rounding)
        codes = Reals(lo, lo if v.exact else round_rational(v.hi, v.den, self.rounding), np.ones_like(v.den))
        return Affine(scale, tuple(-s * z for s, z in zip(scale, zero, strict=True))).exact(codes, precision)

    def approximate(self, x: Floats) -> Floats:
        scale, zero = float_column(self.scale), float_column(self.zero_point)
        return scale * (_round_float(x / scale + zero, self.rounding) - zero)

    def error(self, x: Floats, off: Floats) -> Floats:
        """The whole jump wherever one may lie in between."""
        scale, zero = float_column(self.scale), float_column(self.zero_point)
        wide = off + HOST_UNIT * (np.abs(x) + scale * np.abs(zero))
        low, high = self.approximate(x - wide), self.approximate(x + wide)
        return np.asarray(high - low + HOST_UNIT * (np.maximum(np.abs(low), np.abs(high)) + scale * np.abs(zero)))

    def direction(self) -> Signs:
        return (1,)

    def select(self, rows: npt.NDArray[np.intp]) -> Snap:
        return Snap(take(self.scale, rows), take(self.zero_point, rows), self.rounding)


ROUNDINGS = ("ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN")
"""QONNX rounding modes; ROUND is half to even, UP and HALF_UP go away from zero, DOWN and HALF_DOWN towards it."""


def round_rational(num: Exact, den: Exact, rounding: str) -> Exact:
    """num / den rounded to an integer, exactly; den > 0."""
    floor = num // den
    rest = num - floor * den
    ceil = floor + (rest != 0)
    negative = num < 0
    twice = 2 * rest
    nearest = np.where(twice > den, floor + 1, floor)
    match rounding:
        case "FLOOR":
            out = floor
        case "CEIL":
            out = ceil
        case "UP":
            out = np.where(negative, floor, ceil)
        case "DOWN":
            out = np.where(negative, ceil, floor)
        case "ROUND":
            out = np.where(twice == den, floor + floor % 2, nearest)
        case "HALF_UP":
            out = np.where(twice == den, np.where(negative, floor, floor + 1), nearest)
        case "HALF_DOWN":
            out = np.where(twice == den, np.where(negative, floor + 1, floor), nearest)
        case _:
            raise ValueError(f"unknown rounding mode {rounding!r}")
    return np.asarray(out, dtype=object)


def _round_float(v: Floats, rounding: str) -> Floats:
    """A float64 number rounded to an integer, as `round_rational` does."""
    size = np.abs(v)
    match rounding:
        case "FLOOR":
            return np.asarray(np.floor(v))
        case "CEIL":
            return np.asarray(np.ceil(v))
        case "ROUND":
            return np.asarray(np.rint(v))
        case "UP":
            size = np.ceil(size)
        case "DOWN":
            size = np.floor(size)
        case "HALF_UP":
            size = np.floor(size) + (size - np.floor(size) >= 0.5)
        case _:
            size = np.ceil(size) - (np.ceil(size) - size >= 0.5)
    return np.asarray(np.copysign(size, v))


@dataclass(frozen=True)
class Quantizer:
    """code = clamp(round(x / scale + zero_point), lo, hi); real = scale * (code - zero_point).

    A bipolar quantizer (signed 1-bit Quant, BipolarQuant) has code = (x / scale + zero_point >= 0), in {0, 1}, and
    real = scale * (2 * code - 1 - zero_point), whatever the rounding mode.
    """

    scale: PerChannel
    zero_point: PerChannel
    lo: int
    hi: int
    rounding: str = "ROUND"
    bipolar: bool = False

    @property
    def dtype(self) -> IntType:
        return Interval(self.lo, self.hi).dtype

    @property
    def affine(self) -> Affine:
        """The map from codes back to reals."""
        scale, zero = spread(self.scale, self.zero_point)
        if self.bipolar:
            return Affine(tuple(2 * s for s in scale), tuple(-s * (1 + z) for s, z in zip(scale, zero, strict=True)))
        return Affine(scale, tuple(-s * z for s, z in zip(scale, zero, strict=True)))

    def _scaled(self, x: Reals) -> Reals:
        scale, zero = spread(self.scale, self.zero_point)
        return Affine(tuple(1 / s for s in scale), zero).exact(x, 0)

    def exact(self, x: Reals) -> tuple[Exact, Exact]:
        """Codes at both ends of each enclosure; they are equal where the enclosure decides the code."""
        v = self._scaled(x)
        lo = self._round(v.lo, v.den)
        return lo, (lo if v.exact else self._round(v.hi, v.den))

    def _round(self, num: Exact, den: Exact) -> Exact:
        if self.bipolar:
            return np.where(num >= 0, 1, 0).astype(object)
        code = round_rational(num, den, self.rounding)
        return np.asarray(np.minimum(np.maximum(code, self.lo), self.hi), dtype=object)

    def approximate(self, x: Floats) -> Floats:
        """Codes in float64, only good for guessing where a step is."""
        v = x / float_column(self.scale) + float_column(self.zero_point)
        if self.bipolar:
            return np.asarray(v >= 0, dtype=np.float64)
        return np.clip(_round_float(v, self.rounding), self.lo, self.hi)

    def slopes(self) -> Floats | None:
        """Codes per unit of x where nothing clamps, one per channel or one for all; None where the codes are no line."""
        return None if self.bipolar else 1 / float_column(self.scale)[:, 0]

    def select(self, rows: npt.NDArray[np.intp]) -> Quantizer:
        """The quantizer of some of the channels."""
        return replace(self, scale=take(self.scale, rows), zero_point=take(self.zero_point, rows))


@dataclass(frozen=True)
class Thresholded:
    """code = #{t in reached[c] : x >= t} + #{t in passed[c] : x > t}; real = scale * code + shift.

    Both hold one row of thresholds per channel, in any order, or a single row for all channels; rows of one length.
    """

    reached: tuple[PerChannel, ...]
    passed: tuple[PerChannel, ...] = ((),)
    scale: Fraction = Fraction(1)
    shift: Fraction = Fraction(0)

    @property
    def lo(self) -> int:
        return 0

    @property
    def hi(self) -> int:
        return len(self.reached[0]) + len(self.passed[0])

    @property
    def dtype(self) -> IntType:
        return Interval(self.lo, self.hi).dtype

    @property
    def affine(self) -> Affine:
        """The map from codes back to reals."""
        return Affine((self.scale,), (self.shift,))

    def exact(self, x: Reals) -> tuple[Exact, Exact]:
        """Codes at both ends of each enclosure; they are equal where the enclosure decides the code."""
        lo = self._count(x.lo, x.den)
        return lo, (lo if x.exact else self._count(x.hi, x.den))

    def _count(self, num: Exact, den: Exact) -> Exact:
        """With n / d a threshold over a common denominator: x >= n / d iff floor(d*x) >= n, x > n / d iff ceil(d*x) > n."""
        out = np.zeros(num.shape, dtype=object)
        for rows, strict in ((self.reached, False), (self.passed, True)):
            sorted_rows = [_common(row) for row in rows]
            for channel, (values, below) in enumerate(zip(num, den[:, 0], strict=True)):
                ends, common = sorted_rows[channel if len(rows) > 1 else 0]
                if strict:
                    out[channel] += [bisect_left(ends, -(-common * n // below)) for n in values]
                else:
                    out[channel] += [bisect_right(ends, common * n // below) for n in values]
        return out

    def approximate(self, x: Floats) -> Floats:
        """Codes in float64, only good for guessing where a step is."""
        out = np.zeros(x.shape)
        for rows, side in ((self.reached, "right"), (self.passed, "left")):
            ends = [np.sort(np.array([float(t) for t in row], dtype=np.float64)) for row in rows]
            for channel, values in enumerate(x):
                out[channel] += np.searchsorted(ends[channel if len(rows) > 1 else 0], values, side)  # type: ignore[call-overload]
        return out

    def slopes(self) -> Floats | None:
        """Codes per unit of x between the lowest and the highest threshold; None where no channel has two apart."""
        out = []
        for channel in range(max(len(self.reached), len(self.passed))):
            row = [*self._row(self.reached, channel), *self._row(self.passed, channel)]
            span = max(row, default=Fraction(0)) - min(row, default=Fraction(0))
            out.append(float((len(row) - 1) / span) if span else 0.0)
        return np.array(out) if any(out) else None

    @staticmethod
    def _row(rows: tuple[PerChannel, ...], channel: int) -> PerChannel:
        return rows[channel if len(rows) > 1 else 0]

    def select(self, rows: npt.NDArray[np.intp]) -> Thresholded:
        """The thresholds of some of the channels."""
        return replace(self, reached=take(self.reached, rows), passed=take(self.passed, rows))


Ending: TypeAlias = Quantizer | Thresholded
"""What turns the reals of a chain into codes; codes rise with the reals."""


def _common(row: PerChannel) -> tuple[list[int], int]:
    """Rationals in ascending order as numerators over their common denominator."""
    common = lcm(*(t.denominator for t in row))
    return sorted(t.numerator * (common // t.denominator) for t in row), common


def codes(chain: Chain, quantizer: Ending, x: Exact) -> Ints:
    """The exact codes quantizer(chain(x)) of integers x, shape (channels, points)."""
    ones = column([1] * x.shape[0])
    out = np.zeros(x.shape, dtype=np.int64)
    todo = np.ones(x.shape[0], dtype=bool)
    precision = FIRST_PRECISION
    while todo.any():
        if precision > LAST_PRECISION:
            channel = int(np.flatnonzero(todo)[0])
            raise ProofError(
                f"channel {channel}: a value stays within 2**-{precision // 2} of a rounding boundary;"
                " change the scale or the normalization by one unit in the last place"
            )
        rows = np.flatnonzero(todo)
        points = x[rows]
        reals = Reals(points, points, ones[rows])
        steps, ending = select(chain, quantizer, rows)
        for step in steps:
            reals = step.exact(reals, precision)
        lo, hi = ending.exact(reals)
        undecided = np.zeros(len(rows), dtype=bool) if lo is hi else np.any(lo != hi, axis=1)
        done = rows[~undecided]
        out[done] = lo[~undecided].astype(np.int64)
        todo[done] = False
        precision *= 2
    return out


def approximate_codes(chain: Chain, quantizer: Ending, x: Floats) -> Floats:
    """`codes` in float64: fast, almost always right, never to be relied on."""
    for step in chain:
        x = step.approximate(x)
    return quantizer.approximate(x)


def take(values: tuple[T, ...], rows: npt.NDArray[np.intp]) -> tuple[T, ...]:
    return values if len(values) == 1 else tuple(values[r] for r in rows)


def on_channels(chain: Chain, rows: npt.NDArray[np.intp]) -> Chain:
    """The chain for a value whose channel i is channel rows[i] of the chain's own."""
    return tuple(step.select(rows) for step in chain)


def narrowed(chain: Chain) -> Chain:
    """The chain with a single entry wherever a step has the same constants in all channels."""
    return tuple(step.select(np.zeros(1, dtype=np.intp)) if _alike(step) else step for step in chain)


def _alike(step: Step) -> bool:
    """Whether a step's columns hold one value each; those of the chains that it combines, too."""
    columns = [column for field in fields(step) if isinstance(column := getattr(step, field.name), tuple)]  # type: ignore[arg-type]
    return all(
        all(_alike(v) for v in column) if isinstance(column[0], Step) else all(v == column[0] for v in column)
        for column in columns
        if column
    )


def select(chain: Chain, quantizer: Ending, rows: npt.NDArray[np.intp]) -> tuple[Chain, Ending]:
    """The chain and its quantizer on some of the channels."""
    return on_channels(chain, rows), quantizer.select(rows)
