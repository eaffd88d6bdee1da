"""Steps of a chain that are no straight lines: slopes, powers, transcendental functions, and two chains combined.

Some of them turn: they rise here and fall there. `direction_between` says what holds between two numbers. What is rational
is computed exactly, the rest enclosed (`broadaxe.enclosures`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from broadaxe import enclosures
from broadaxe.chain import (
    FIRST_PRECISION,
    HOST_UNIT,
    Affine,
    Chain,
    Exact,
    Floats,
    PerChannel,
    Reals,
    Signs,
    Step,
    course,
    direction_on,
    float_column,
    points,
    rationals,
    spread,
    take,
    then,
    turned,
)
from broadaxe.errors import ProofError, UnsupportedModelError
from broadaxe.types import Interval

Parts: TypeAlias = tuple[int, int, int]
"""lo, hi and a positive denominator."""
Scalar: TypeAlias = Callable[[int, int, int], Parts]
"""Encloses a function at num / den, given the precision."""
LONGEST_TABLE = 1 << 16
"""Entries of a channel's table."""
LARGEST_TABLE = 1 << 22
"""Entries of the tables of all channels."""
MOST_STEPS, HIGHEST_DEGREE = 512, 1 << 12
"""Of one chain: exact numbers have as many digits as the degree says."""


@dataclass(frozen=True)
class Leaky(Step):
    """y = x where x >= 0, else slope * x: LeakyRelu and PRelu; Abs has a slope of -1."""

    slope: PerChannel

    def exact(self, x: Reals, precision: int) -> Reals:
        num, den = rationals(self.slope)
        lo = np.where(x.lo >= 0, x.lo * den, x.lo * num)
        if x.exact:
            return Reals(lo, lo, x.den * den)
        hi = np.where(x.hi >= 0, x.hi * den, x.hi * num)
        low, high = np.minimum(lo, hi), np.maximum(lo, hi)
        return Reals(np.where((x.lo < 0) & (x.hi > 0), np.minimum(low, 0), low), high, x.den * den)

    def approximate(self, x: Floats) -> Floats:
        return np.where(x >= 0, x, float_column(self.slope) * x)

    def error(self, x: Floats, off: Floats) -> Floats:
        steepest = np.maximum(1, np.abs(float_column(self.slope)))
        return np.asarray(steepest * (off + HOST_UNIT * np.abs(x)))

    def direction(self) -> Signs:
        return tuple(1 if s >= 0 else None for s in self.slope)

    def direction_between(self, ends: Reals) -> Signs:
        sides = _sides(ends, Fraction(0), Fraction(0))
        slopes = self.slope * len(sides) if len(self.slope) == 1 else self.slope
        return tuple(1 if s >= 0 else side for s, side in zip(slopes, sides, strict=True))

    def select(self, rows: npt.NDArray[np.intp]) -> Leaky:
        return Leaky(take(self.slope, rows))


@dataclass(frozen=True)
class Power(Step):
    """y = x ** exponent, the exponent neither 0 nor 1; x >= 0 unless it is an integer, and never 0 where it is negative."""

    exponent: Fraction

    def exact(self, x: Reals, precision: int) -> Reals:
        a, b = self.exponent.as_integer_ratio()
        if b == 1:
            return _powers(x, a)
        if (x.lo < 0).any() or (a < 0 and (x.lo == 0).any()):
            raise ProofError(f"x ** {self.exponent}: is taken of a number that may be too small; clip it before")

        def root(num: int, den: int, precision: int) -> Parts:
            common = math.gcd(num, den)  # perfect powers are perfect in lowest terms
            return enclosures.power(num // common, den // common, (a, b), precision)

        return _monotone(root, x, precision, a > 0)

    def approximate(self, x: Floats) -> Floats:
        with np.errstate(all="ignore"):
            return np.asarray(np.power(x, float(self.exponent)))

    def error(self, x: Floats, off: Floats) -> Floats:
        """From both ends, and from 0 where it lies between them."""
        y = self.approximate(x)
        with np.errstate(all="ignore"):
            whole = self.exponent.denominator == 1
            low = self.approximate(x - off if whole else np.maximum(x - off, 0))
            apart = np.maximum(np.abs(low - y), np.abs(self.approximate(x + off) - y))
            crossed = np.abs(y) if self.exponent > 0 else np.inf
            apart = np.where(np.abs(x) < off, np.maximum(apart, crossed), apart)
            size = 1 + abs(float(self.exponent))
            return np.asarray(np.nan_to_num(apart + HOST_UNIT * size * np.abs(y), nan=np.inf))

    def direction(self) -> Signs:
        a, b = self.exponent.as_integer_ratio()
        if b > 1 or (a > 0 and a % 2):
            return (1 if a > 0 else -1,)
        return (None,)

    def direction_between(self, ends: Reals) -> Signs:
        sign = self.direction()[0]
        if sign is not None:
            return (sign,)
        a = int(self.exponent)
        sides = _sides(ends, Fraction(0), Fraction(0))
        if a > 0:
            return sides
        return tuple(None if side is None else -1 if a % 2 else -side for side in sides)

    def select(self, rows: npt.NDArray[np.intp]) -> Power:
        return self


def _powers(x: Reals, a: int) -> Reals:
    """x ** a for an integer a."""
    lo, hi, den = x.lo, x.hi, x.den
    if a < 0:
        if ((lo <= 0) & (hi >= 0)).any():
            raise ProofError("division: its divisor may be 0; clip it before")
        if x.exact:
            sign = np.where(lo < 0, -1, 1).astype(object)
            den, lo = lo * sign, den * sign
            hi = lo
        else:
            lo, hi, den = den * np.minimum(lo, hi), den * np.maximum(lo, hi), lo * hi  # both of one sign
        a = -a
    low = lo**a
    if x.exact:
        return Reals(low, low, den**a)
    high = hi**a
    below, above = np.minimum(low, high), np.maximum(low, high)
    if a % 2 == 0:
        below = np.where((lo < 0) & (hi > 0), 0, below)
    return Reals(below, above, den**a)


@dataclass(frozen=True)
class Kind:
    """A function of one real without parameters.

    Attributes:
        enclose: lo, hi and a denominator at a rational.
        floats: the same in float64.
        steepest: its largest slope; None where it has none, for a function that rises.
        turn: two rationals between which it turns from falling to rising; None for a function that rises.
    """

    enclose: Scalar
    floats: Callable[[Floats], Floats]
    steepest: float | None = 1.0
    turn: tuple[Fraction, Fraction] | None = None


def _dyadic(enclose: enclosures.Enclosure) -> Scalar:
    return lambda num, den, precision: (*enclose(num, den, precision), 1 << precision)


def _softsign(num: int, den: int, precision: int) -> Parts:
    return num, num, den + abs(num)


def _sign(num: int, den: int, precision: int) -> Parts:
    return (num > 0) - (num < 0), (num > 0) - (num < 0), 1


def _elu(num: int, den: int, precision: int) -> Parts:
    """x where it is not negative, else e**x - 1."""
    if num >= 0:
        return num, num, den
    lo, hi = enclosures.exp(num, den, precision)
    return lo - (1 << precision), hi - (1 << precision), 1 << precision


def _hardswish(num: int, den: int, precision: int) -> Parts:
    """x * min(max(x / 6 + 1/2, 0), 1)."""
    y = num * min(max(num + 3 * den, 0), 6 * den)
    return y, y, 6 * den * den


_erf = np.vectorize(math.erf, otypes=[np.float64])
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _logistic_floats(x: Floats) -> Floats:
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, small) / (1 + small))


def _gelu_tanh_floats(x: Floats) -> Floats:
    """x * logistic(2u), which is x / 2 * (1 + tanh(u)) without cancellation."""
    return x * _logistic_floats(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


KINDS: dict[str, Kind] = {
    "exp": Kind(_dyadic(enclosures.exp), np.exp, None),
    "log": Kind(_dyadic(enclosures.log), np.log, None),
    "erf": Kind(_dyadic(enclosures.erf), _erf, 1.13),
    "sigmoid": Kind(_dyadic(enclosures.logistic), _logistic_floats, 0.25),
    "tanh": Kind(_dyadic(enclosures.tanh), np.tanh),
    "softplus": Kind(_dyadic(enclosures.softplus), lambda x: np.logaddexp(0, x)),
    "softsign": Kind(_softsign, lambda x: x / (1 + np.abs(x))),
    "elu": Kind(_elu, lambda x: np.where(x >= 0, x, np.expm1(np.minimum(x, 0)))),
    "sign": Kind(_sign, np.sign, None),
    "hardswish": Kind(_hardswish, lambda x: x * np.clip(x / 6 + 0.5, 0, 1), 1.5, (Fraction(-3, 2), Fraction(-3, 2))),
    "gelu": Kind(
        _dyadic(enclosures.gelu),
        lambda x: x / 2 * _erfc(-x / math.sqrt(2)),
        1.13,
        (Fraction(-752, 1000), Fraction(-7517, 10000)),
    ),
    "gelu_tanh": Kind(
        _dyadic(enclosures.gelu_tanh), _gelu_tanh_floats, 1.13, (Fraction(-753, 1000), Fraction(-752, 1000))
    ),
}


@dataclass(frozen=True)
class Function(Step):
    """y = f(x) for a function of KINDS."""

    kind: str

    def exact(self, x: Reals, precision: int) -> Reals:
        if self.kind == "log" and (x.lo <= 0).any():
            raise ProofError("log: is taken of a number that may be 0; clip it before")
        known = KINDS[self.kind]
        if known.turn is None:
            return _monotone(known.enclose, x, precision, True)
        # it turns inside an enclosure, or does not: near its lower end it is, as far as the slope can take it
        y = _at(known.enclose, x.lo, x.den, precision)
        if x.exact:
            return y
        assert known.steepest is not None
        reach = (x.hi - x.lo) * math.ceil(known.steepest)
        return Reals(y.lo * x.den - reach * y.den, y.hi * x.den + reach * y.den, y.den * x.den)

    def approximate(self, x: Floats) -> Floats:
        with np.errstate(all="ignore"):
            return np.asarray(KINDS[self.kind].floats(x))

    def error(self, x: Floats, off: Floats) -> Floats:
        y, steepest = self.approximate(x), KINDS[self.kind].steepest
        if steepest is not None:
            return np.asarray(steepest * off + HOST_UNIT * (1 + np.abs(x) + np.abs(y)))
        apart = np.maximum(self.approximate(x + off) - y, y - self.approximate(x - off))
        return np.asarray(np.nan_to_num(apart + HOST_UNIT * (1 + np.abs(y)), nan=np.inf))

    def direction(self) -> Signs:
        return (1 if KINDS[self.kind].turn is None else None,)

    def direction_between(self, ends: Reals) -> Signs:
        turn = KINDS[self.kind].turn
        return (1,) if turn is None else _sides(ends, turn[0], turn[1])

    def select(self, rows: npt.NDArray[np.intp]) -> Function:
        return self


def _at(enclose: Scalar, num: Exact, den: Exact, precision: int) -> Reals:
    made: Any = np.frompyfunc(enclose, 3, 3)(num, den, precision)
    return Reals(made[0], made[1], made[2])


def _monotone(enclose: Scalar, x: Reals, precision: int, rises: bool) -> Reals:
    """A function that rises or falls, on enclosures."""
    first = _at(enclose, x.lo, x.den, precision)
    if x.exact:
        return first
    last = _at(enclose, x.hi, x.den, precision)
    low, high = (first, last) if rises else (last, first)
    return Reals(low.lo * high.den, high.hi * low.den, low.den * high.den)


def _sides(ends: Reals, left: Fraction, right: Fraction) -> Signs:
    """1 for a channel whose ends both lie above `right`, -1 where both lie below `left`, None for others."""
    above = np.all(ends.lo * right.denominator >= right.numerator * ends.den, axis=1)
    below = np.all(ends.hi * left.denominator <= left.numerator * ends.den, axis=1)
    return tuple(1 if a else -1 if b else None for a, b in zip(above.tolist(), below.tolist(), strict=True))


@dataclass(frozen=True)
class Combined(Step):
    """y = left(x) op right(x), two chains of one number; op is an ONNX operator of COMBINE."""

    op: str
    left: Chain
    right: Chain

    def exact(self, x: Reals, precision: int) -> Reals:
        a, b = x, x
        for step in self.left:
            a = step.exact(a, precision)
        for step in self.right:
            b = step.exact(b, precision)
        if self.op == "Div":
            b, op = _powers(b, -1), "Mul"
        else:
            op = self.op
        den = a.den * b.den
        if op == "Mul":
            corners = [a.lo * b.lo] if a.exact and b.exact else [p * q for p in (a.lo, a.hi) for q in (b.lo, b.hi)]
        elif a.exact and b.exact:
            corners = [COMBINED[op](a.lo * b.den, b.lo * a.den)]
        else:
            other = (b.hi, b.lo) if op == "Sub" else (b.lo, b.hi)
            corners = [COMBINED[op](p * b.den, q * a.den) for p, q in zip((a.lo, a.hi), other, strict=True)]
        lo = corners[0]
        if len(corners) == 1:
            return Reals(lo, lo, den)
        return Reals(np.minimum.reduce(corners), np.maximum.reduce(corners), den)

    def _floats(self, x: Floats, off: Floats) -> list[tuple[Floats, Floats]]:
        sides = []
        for chain in (self.left, self.right):
            y, error = x, off
            for step in chain:
                y, error = step.approximate(y), step.error(y, error)
            sides.append((y, error))
        return sides

    def approximate(self, x: Floats) -> Floats:
        sides = [x, x]
        for i, chain in enumerate((self.left, self.right)):
            for step in chain:
                sides[i] = step.approximate(sides[i])
        with np.errstate(all="ignore"):
            return np.asarray(COMBINED[self.op](*sides))

    def error(self, x: Floats, off: Floats) -> Floats:
        (a, left), (b, right) = self._floats(x, off)
        with np.errstate(all="ignore"):
            return combined_error(self.op, a, left, b, right, HOST_UNIT)

    def direction(self) -> Signs:
        return (None,)

    def direction_between(self, ends: Reals) -> Signs:
        """Known for sums, differences, minima and maxima of what moves alike, and for products and ratios of one sign."""
        (first, a), (second, b) = (course(chain, ends) for chain in (self.left, self.right))
        if self.op in ("Sub", "Div"):
            second = tuple(None if s is None else -s for s in second)
        if self.op in ("Mul", "Div"):
            # a product of non-negative factors moves with both; where a factor is negative the other one's part turns
            zero = Fraction(0)
            signs = [_sides(side, zero, zero) for side in (a, b)]
            first, second = turned(first, signs[1]), turned(second, signs[0])
        out: list[int | None] = []
        for s, t in zip(first, second, strict=True):
            if s is None or t is None or s * t < 0:
                out.append(None)
            else:
                out.append(s or t)
        return tuple(out)

    def select(self, rows: npt.NDArray[np.intp]) -> Combined:
        left, right = (tuple(step.select(rows) for step in chain) for chain in (self.left, self.right))
        return Combined(self.op, left, right)


COMBINED: dict[str, Callable[..., npt.NDArray[np.generic]]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.true_divide,
    "Min": np.minimum,
    "Max": np.maximum,
}


def combined_error(op: str, a: Floats, left: Floats, b: Floats, right: Floats, unit: float) -> Floats:
    """How far `a op b` may be from that of two numbers within `left` of a and `right` of b; `unit` for its rounding."""
    match op:
        case "Mul":
            off = np.abs(a) * right + np.abs(b) * left + left * right
            size = np.abs(a * b) + off
        case "Div":
            room = np.abs(b) - right
            off = np.where(room > 0, (left + np.abs(a / b) * right) / room, np.inf)
            size = np.abs(a / b) + off
        case "Add" | "Sub":
            off = left + right
            size = np.abs(a) + np.abs(b) + off
        case _:
            return np.asarray(np.maximum(left, right))
    return np.asarray(np.nan_to_num(off + unit * size, nan=np.inf))


def combine(op: str, left: Chain, right: Chain) -> Chain:
    """The chain of left op right, both of the same integers; a divisor never is 0.

    What both begin with is done once. Chains that differ in a last affine map alone add up to one such map.
    """
    if left == right and op in ("Min", "Max"):
        return left
    if op in ("Add", "Sub"):
        (body, first), (other, second) = _split(left), _split(right)
        if body == other:
            sign = 1 if op == "Add" else -1
            a, b, c, d = spread(first.scale, first.shift, second.scale, second.shift)
            scale, shift = (tuple(p + sign * q for p, q in zip(u, v, strict=True)) for u, v in ((a, c), (b, d)))
            return then(body, Affine(scale, shift))
    if left == right:
        one, zero = (Fraction(1),), (Fraction(0),)
        return then(left, Power(Fraction(2)) if op == "Mul" else Affine(zero, one))
    shared = 0
    while shared < min(len(left), len(right)) and left[shared] == right[shared]:
        shared += 1
    start = left[:shared] or (Affine((Fraction(1),), (Fraction(0),)),)
    return (*start, Combined(op, left[shared:], right[shared:]))


def work(chain: Chain) -> tuple[int, int]:
    """Steps of a chain, those of chains that it combines included, and the degree of its numbers in its input's."""
    steps, degree = 0, 1
    for step in chain:
        steps += 1
        if isinstance(step, Power):
            exponent = step.exponent
            degree *= max(abs(exponent.numerator), exponent.denominator)
        elif isinstance(step, Function) and step.kind not in ("elu", "hardswish", "softsign"):
            degree = 1  # enclosed to a precision, whatever its argument
        elif isinstance(step, Function) and step.kind == "hardswish":
            degree *= 2
        elif isinstance(step, Combined):
            (first, left), (second, right) = work(step.left), work(step.right)
            steps, degree = steps + first + second, degree * (left + right)
    return steps, degree


def _split(chain: Chain) -> tuple[Chain, Affine]:
    """A chain without the affine map at its end, and that map."""
    last = chain[-1] if chain else None
    if isinstance(last, Affine):
        return chain[:-1], last
    return chain, Affine((Fraction(1),), (Fraction(0),))


def by_channel(chain: Chain, channels: int) -> list[Chain]:
    """The chain of each channel alone; equal ones are equal."""
    return [tuple(step.select(np.array([c])) for step in chain) for c in range(channels)]


def check_tables(domain: Sequence[Interval]) -> None:
    """Refuse a domain that is too large to be tabulated."""
    longest = max(d.hi for d in domain) - min(d.lo for d in domain) + 1
    if longest > LONGEST_TABLE or longest * len(domain) > LARGEST_TABLE:
        raise UnsupportedModelError(
            f"the function before it rises and falls on its {longest} integers in {len(domain)} channels; a table holds at"
            f" most {LONGEST_TABLE} a channel and {LARGEST_TABLE} in all, put a Quant before the function so that it reads"
            " few codes"
        )


def reach(chain: Chain, domain: Sequence[Interval]) -> tuple[Fraction, Fraction]:
    """The least and the greatest value of a chain on its proven domain, enclosed, over all channels."""
    if None not in direction_on(chain, domain):
        return _extremes(course(chain, points([[d.lo, d.hi] for d in domain]))[1])
    check_tables(domain)
    found = []
    for part, interval in dict.fromkeys(zip(by_channel(chain, len(domain)), domain, strict=True)):
        reals = points([range(interval.lo, interval.hi + 1)])
        for step in part:
            reals = step.exact(reals, FIRST_PRECISION)
        found.append(_extremes(reals))
    return min(lo for lo, _ in found), max(hi for _, hi in found)


def _extremes(x: Reals) -> tuple[Fraction, Fraction]:
    den = np.broadcast_to(x.den, x.lo.shape).reshape(-1).tolist()
    lows = map(Fraction, x.lo.reshape(-1).tolist(), den)
    return min(lows), max(map(Fraction, x.hi.reshape(-1).tolist(), den))
