"""Accumulator types as other tools declare them: FINN's data types and the fixed-point types of hls4ml.

Whatever its name, such a type holds the reals origin + step * n for integers n of an interval, in an adder of a certain width.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from broadaxe.chain import Exact, round_rational
from broadaxe.types import Interval, IntType

WIDEST_DECLARED = 1024
"""Bits; wider declarations are a mistake."""
_FINN = re.compile(r"(U?)INT([1-9][0-9]{0,3})")
_FINN_FIXED = re.compile(r"FIXED<\s*([1-9][0-9]{0,3})\s*,\s*(-?[0-9]{1,4})\s*>")
_HLS = re.compile(r"(?:(ap_)|(ac_))?(u?)(fixed|int)\s*<([^<>]*)>")
ROUNDINGS = ("TRN", "TRN_ZERO", "RND", "RND_ZERO", "RND_INF", "RND_MIN_INF", "RND_CONV")
AS_QONNX = {"TRN": "FLOOR", "TRN_ZERO": "DOWN", "RND_ZERO": "HALF_DOWN", "RND_INF": "HALF_UP", "RND_CONV": "ROUND"}
OVERFLOWS = ("WRAP", "SAT", "SAT_ZERO", "SAT_SYM")


@dataclass(frozen=True)
class AccumulatorType:
    """What a declared accumulator can hold: origin + step * n for every integer n in `allowed`.

    Attributes:
        text: the type as it is written.
        adder: the integer type in which n is added up; sums wrap in it.
        allowed: values of n; narrower than the adder's range for types such as TERNARY.
        step: real value of one unit of n, positive.
        origin: real value of n = 0.
        saturates: whether additions stop at the ends instead of wrapping.
        rounding: how a number between two units becomes one of them, by the names of ap_fixed.
    """

    text: str
    adder: IntType
    allowed: Interval
    step: Fraction = Fraction(1)
    origin: Fraction = Fraction(0)
    saturates: bool = False
    rounding: str = "TRN"

    def units(self, num: Exact, den: Exact) -> Exact:
        """num / den units rounded to whole ones, element by element, Python integers; den > 0."""
        match self.rounding:
            case "RND":  # ties up
                return np.asarray((2 * num + den) // (2 * den))
            case "RND_MIN_INF":  # ties down
                return np.asarray(-((den - 2 * num) // (2 * den)))
        return round_rational(num, den, AS_QONNX[self.rounding])

    def hold(self, n: int) -> int:
        """What the accumulator holds in place of n."""
        if self.saturates:
            return min(max(n, self.allowed.lo), self.allowed.hi)
        return self.adder.wrap(n)

    def narrowest(self, n: Interval) -> tuple[int, str]:
        """Width and name of the narrowest type with this step that holds an interval of n."""
        if n in self.allowed and self.adder.width == 1:
            return 1, self.text
        if self.origin:  # BIPOLAR: another origin than integers have
            reals = Interval(*(int(self.origin + self.step * end) for end in (n.lo, n.hi)))
            return reals.signed_dtype.width, f"INT{reals.signed_dtype.width}"
        signed = self.adder.signed or n.lo < 0
        if signed and self.allowed.lo == -self.allowed.hi and n.lo < 0:  # the lowest number is left out
            n = n | (n.lo - 1)
        width = n.signed_dtype.width if signed else n.dtype.width
        fraction = _log2(1 / self.step)
        if self.text.startswith("FIXED"):
            return width, f"FIXED<{width},{width - fraction}>"
        if self.text[:1].isupper():
            return width, f"{'' if signed else 'U'}INT{width}"
        return width, fixed_text(width, width - fraction, signed)


def fixed_text(width: int, integer: int, signed: bool = True) -> str:
    """A fixed-point type as hls4ml writes it: `width` bits, `integer` of them in front of the point."""
    return f"{'' if signed else 'u'}fixed<{width},{integer}>"


def integers(width: int, signed: bool, text: str) -> AccumulatorType:
    kind = IntType(width, signed)
    return AccumulatorType(text, kind, kind.range)


def finn_type(text: str) -> AccumulatorType | None:
    """A FINN data type such as INT10; None for FLOAT32, which declares nothing.

    Raises:
        ValueError: no FINN data type is written so.
    """
    match text:
        case "BIPOLAR":
            return AccumulatorType(text, IntType(1, False), Interval(0, 1), Fraction(2), Fraction(-1))
        case "TERNARY":
            return AccumulatorType(text, IntType(2, True), Interval(-1, 1))
        case "BINARY":
            return integers(1, False, text)
        case "FLOAT32" | "FLOAT16":
            return None
    if (match := _FINN.fullmatch(text)) and int(match[2]) <= WIDEST_DECLARED:
        return integers(int(match[2]), not match[1], text)
    if (match := _FINN_FIXED.fullmatch(text)) and int(match[1]) <= WIDEST_DECLARED:
        kind = IntType(int(match[1]), signed=True)
        return AccumulatorType(text, kind, kind.range, _power(int(match[2]) - int(match[1])))
    raise ValueError("is no data type of FINN; write one such as INT8, UINT8, FIXED<8,4>, BIPOLAR, TERNARY or BINARY")


def hls_type(text: str) -> AccumulatorType:
    """A fixed-point or integer type as hls4ml reads it: fixed<16,6,RND,SAT>, ap_ufixed<8,2>, int<12>, ac_fixed<16,6,true>.

    Raises:
        ValueError: it is none, or one that the accumulator semantics are not known of.
    """
    match = _HLS.fullmatch(text.strip())
    fields = [field.strip() for field in match[5].split(",")] if match else []
    try:
        if match is None:
            raise ValueError
        algorithmic, unsigned, kind = bool(match[2]), bool(match[3]), match[4]
        width, *rest = fields
        integer = rest.pop(0) if kind == "fixed" else width
        if algorithmic and rest:
            unsigned = rest.pop(0).lower() in ("false", "0")
        rounding = _mode(rest.pop(0) if rest else "TRN", ROUNDINGS)
        overflow = _mode(rest.pop(0) if rest else "WRAP", OVERFLOWS)
        if (rest and rest != ["0"]) or not 1 <= int(width) <= WIDEST_DECLARED:
            raise ValueError
        if abs(int(integer)) > WIDEST_DECLARED:
            raise ValueError
    except (ValueError, IndexError):
        raise ValueError(
            "is no fixed-point type; write one such as fixed<16,6>, ufixed<16,6,RND,SAT>, int<16> or auto"
        ) from None
    if overflow == "SAT_ZERO":
        raise ValueError("jumps to 0 on overflow (SAT_ZERO), which is not supported; use WRAP or SAT")
    adder = IntType(int(width), not unsigned)
    top = adder.range.hi
    allowed = Interval(-top, top) if overflow == "SAT_SYM" and adder.signed else adder.range
    step = _power(int(integer) - int(width))
    return AccumulatorType(text.strip(), adder, allowed, step, saturates=overflow != "WRAP", rounding=rounding)


def _mode(text: str, known: tuple[str, ...]) -> str:
    name = text.upper().removeprefix("AP_").removeprefix("AC_")
    if name not in known:
        raise ValueError
    return name


def _power(exponent: int) -> Fraction:
    return Fraction(1 << exponent) if exponent >= 0 else Fraction(1, 1 << -exponent)


def _log2(value: Fraction) -> int:
    """The exponent of a power of two."""
    return value.numerator.bit_length() - value.denominator.bit_length()


def power_of_two(value: Fraction) -> bool:
    """Whether a rational is 2**k for some integer k."""
    ends = (value.numerator, value.denominator)
    return value > 0 and all(end & (end - 1) == 0 for end in ends)


def fraction_bits(value: Fraction) -> int | None:
    """Bits behind the point that a rational needs; negative where it is a multiple of 2**k; None if no number is enough."""
    if value == 0:
        return None
    if value.denominator & (value.denominator - 1):
        return None
    if value.denominator > 1:
        return value.denominator.bit_length() - 1
    return 1 - (value.numerator & -value.numerator).bit_length()


def number(value: Fraction) -> str:
    """A rational for people: exact where it has a short decimal form."""
    if value.denominator == 1:
        return str(value.numerator)
    short = f"{float(value):.10g}"
    return short if Fraction(short) == value else f"{float(value):.6g}"
