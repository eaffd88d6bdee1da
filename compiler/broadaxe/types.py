"""Integer intervals and integer types: the vocabulary of every proof. Python integers only, so nothing overflows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """The integers lo, lo + 1, ..., hi (both ends included)."""

    lo: int
    hi: int

    def __post_init__(self) -> None:
        if self.lo > self.hi:
            raise ValueError(f"empty interval [{self.lo}, {self.hi}]")

    def __add__(self, other: Interval | int) -> Interval:
        other = _as_interval(other)
        return Interval(self.lo + other.lo, self.hi + other.hi)

    def __mul__(self, other: Interval | int) -> Interval:
        other = _as_interval(other)
        corners = (self.lo * other.lo, self.lo * other.hi, self.hi * other.lo, self.hi * other.hi)
        return Interval(min(corners), max(corners))

    def __or__(self, other: Interval | int) -> Interval:
        """The hull: the narrowest interval that contains both."""
        other = _as_interval(other)
        return Interval(min(self.lo, other.lo), max(self.hi, other.hi))

    def __contains__(self, other: Interval | int) -> bool:
        other = _as_interval(other)
        return self.lo <= other.lo and other.hi <= self.hi

    @property
    def span(self) -> int:
        """hi - lo, the number of steps from one end to the other."""
        return self.hi - self.lo

    @property
    def dtype(self) -> IntType:
        """The narrowest integer type that holds the interval: unsigned unless a value is negative."""
        if self.lo >= 0:
            return IntType(max(1, self.hi.bit_length()), signed=False)
        return self.signed_dtype

    @property
    def signed_dtype(self) -> IntType:
        """The narrowest two's-complement type that holds the interval."""
        return IntType(max(_signed_width(self.lo), _signed_width(self.hi)), signed=True)

    @property
    def offset_width(self) -> int:
        """Bits of the narrowest accumulator that holds the interval when it may start at any constant."""
        return max(1, self.span.bit_length())

    def __str__(self) -> str:
        return f"[{self.lo}, {self.hi}]"


def _as_interval(value: Interval | int) -> Interval:
    return Interval(value, value) if isinstance(value, int) else value


def _signed_width(value: int) -> int:
    """Bits that two's complement needs for one value: 1 for 0 and -1."""
    return (value if value >= 0 else ~value).bit_length() + 1


@dataclass(frozen=True, slots=True)
class IntType:
    """A two's-complement or unsigned integer of `width` bits."""

    width: int
    signed: bool

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"an integer type needs at least one bit, not {self.width}")

    @property
    def range(self) -> Interval:
        if self.signed:
            return Interval(-(1 << (self.width - 1)), (1 << (self.width - 1)) - 1)
        return Interval(0, (1 << self.width) - 1)

    def wrap(self, value: int) -> int:
        """The value modulo 2**width that the type represents: what hardware of this width would hold."""
        low = self.range.lo
        return ((value - low) & ((1 << self.width) - 1)) + low

    def __str__(self) -> str:
        return f"ap_{'' if self.signed else 'u'}int<{self.width}>"
