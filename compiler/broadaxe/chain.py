"""Exact functions from integers through reals to integer codes: what stands between two integer tensors.

A `Chain` is a tuple of monotone steps that act on each channel alone: first the affine map that gives an integer its real
value, then whatever the model does before its next quantizer (bias, BatchNormalization, Relu, ...). A `Quantizer` ends it.

Everything is decided in exact arithmetic. A value is a rational num/den of Python integers; 1/sqrt(variance + eps), the one
irrational constant, is enclosed between two rationals 2**-precision apart, and `codes` doubles the precision until no
code is in doubt. Arrays are numpy object arrays of Python integers, shape (channels, points).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from math import isqrt, lcm
from typing import Any, TypeAlias

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

FIRST_PRECISION = 128
LAST_PRECISION = 1 << 13


@dataclass(frozen=True, slots=True)
class Reals:
    """Enclosures lo/den <= x <= hi/den; den > 0, shape (channels, 1); lo is hi where the value is known exactly."""

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


def _rationals(values: PerChannel) -> tuple[Exact, Exact]:
    return column([v.numerator for v in values]), column([v.denominator for v in values])


def _float_column(values: PerChannel) -> Floats:
    return np.array([float(v) for v in values], dtype=np.float64)[:, None]


@dataclass(frozen=True)
class Affine:
    """y = scale * x + shift."""

    scale: PerChannel
    shift: PerChannel

    def exact(self, x: Reals, precision: int) -> Reals:
        a, a_den = _rationals(self.scale)
        b, b_den = _rationals(self.shift)
        den = np.frompyfunc(lcm, 2, 1)(a_den, b_den)
        a, b = a * (den // a_den), b * (den // b_den) * x.den
        lo = a * x.lo + b
        if x.exact:
            return Reals(lo, lo, den * x.den)
        hi = a * x.hi + b
        return Reals(np.minimum(lo, hi), np.maximum(lo, hi), den * x.den)

    def approximate(self, x: Floats) -> Floats:
        return _float_column(self.scale) * x + _float_column(self.shift)

    def direction(self) -> tuple[int, ...]:
        return tuple((s > 0) - (s < 0) for s in self.scale)


@dataclass(frozen=True)
class Normalize:
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
        gain = _float_column(self.gamma) / np.sqrt(_float_column(self.variance))
        return gain * (x - _float_column(self.mean)) + _float_column(self.beta)

    def direction(self) -> tuple[int, ...]:
        return tuple((g > 0) - (g < 0) for g in self.gamma)


@dataclass(frozen=True)
class Clamp:
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

    def direction(self) -> tuple[int, ...]:
        return (1,)


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


def direction(chain: Chain, channels: int) -> tuple[int, ...]:
    """+1, 0 or -1 per channel: whether the chain rises, is constant, or falls."""
    total = [1] * channels
    for step in chain:
        signs = step.direction()
        total = [t * (signs[0] if len(signs) == 1 else signs[c]) for c, t in enumerate(total)]
    return tuple(total)


@dataclass(frozen=True)
class Snap:
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
        scale, zero = _float_column(self.scale), _float_column(self.zero_point)
        return scale * (_round_float(x / scale + zero, self.rounding) - zero)

    def direction(self) -> tuple[int, ...]:
        return (1,)


ROUNDINGS = ("ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN")
"""QONNX rounding modes; ROUND is half to even, UP and HALF_UP go away from zero, DOWN and HALF_DOWN towards it."""


Step: TypeAlias = Affine | Normalize | Clamp | Snap
Chain: TypeAlias = tuple[Step, ...]


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
    """Rounding in float64 that is right except near ties and, for UP and DOWN, for negative values."""
    shift = {"FLOOR": 0.0, "DOWN": 0.0, "CEIL": 1.0, "UP": 1.0}.get(rounding, 0.5)
    return np.asarray(np.floor(v + shift))


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
        v = x / _float_column(self.scale) + _float_column(self.zero_point)
        if self.bipolar:
            return np.asarray(v >= 0, dtype=np.float64)
        return np.clip(_round_float(v, self.rounding), self.lo, self.hi)


def codes(chain: Chain, quantizer: Quantizer, x: Exact) -> Ints:
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


def approximate_codes(chain: Chain, quantizer: Quantizer, x: Floats) -> Floats:
    """`codes` in float64: fast, almost always right, never to be relied on."""
    for step in chain:
        x = step.approximate(x)
    return quantizer.approximate(x)


def magnitudes(chain: Chain, x: Floats) -> Floats:
    """The chain on absolute values, in which nothing cancels: the sum of all that `approximate` adds up, without signs.

    For chains that round nowhere: those of outputs, no `Snap` among their steps.
    """
    for step in chain:
        match step:
            case Affine(scale, shift):
                x = Affine(_absolute(scale), _absolute(shift)).approximate(x)
            case Normalize(gamma, mean, variance, beta):
                below = tuple(-abs(v) for v in mean)
                x = Normalize(_absolute(gamma), below, variance, _absolute(beta)).approximate(x)
            case Clamp(lo, hi):
                x = np.maximum(x, max((abs(float(end)) for end in (lo, hi) if end is not None), default=0.0))
            case Snap():
                raise ValueError("a rounding has no bound of its error")
    return x


def _absolute(values: PerChannel) -> PerChannel:
    return tuple(abs(v) for v in values)


def _take(values: PerChannel, rows: npt.NDArray[np.intp]) -> PerChannel:
    return values if len(values) == 1 else tuple(values[r] for r in rows)


def _select(step: Step, rows: npt.NDArray[np.intp]) -> Step:
    """The step on some of the channels."""
    match step:
        case Affine(scale, shift):
            return Affine(_take(scale, rows), _take(shift, rows))
        case Normalize(gamma, mean, variance, beta):
            return Normalize(_take(gamma, rows), _take(mean, rows), _take(variance, rows), _take(beta, rows))
        case Clamp():
            return step
        case Snap(scale, zero_point, rounding):
            return Snap(_take(scale, rows), _take(zero_point, rows), rounding)


def on_channels(chain: Chain, rows: npt.NDArray[np.intp]) -> Chain:
    """The chain for a value whose channel i is channel rows[i] of the chain's own."""
    return tuple(_select(step, rows) for step in chain)


def narrowed(chain: Chain) -> Chain:
    """The chain with a single entry wherever a step has the same constants in all channels."""
    return tuple(_select(step, np.zeros(1, dtype=np.intp)) if _alike(step) else step for step in chain)


def _alike(step: Step) -> bool:
    """Whether a step's columns hold one value each."""
    columns = [getattr(step, field.name) for field in fields(step)]
    return all(all(v == column[0] for v in column) for column in columns if isinstance(column, tuple) and column)


def select(chain: Chain, quantizer: Quantizer, rows: npt.NDArray[np.intp]) -> tuple[Chain, Quantizer]:
    """The chain and its quantizer on some of the channels."""
    q = quantizer
    part = Quantizer(_take(q.scale, rows), _take(q.zero_point, rows), q.lo, q.hi, q.rounding, q.bipolar)
    return on_channels(chain, rows), part
