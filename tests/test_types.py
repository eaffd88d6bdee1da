"""Intervals and integer types against enumeration, and beyond every built-in integer and float."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadaxe.types import Interval, IntType

small = st.integers(-40, 40)
huge = st.integers(-(1 << 200), 1 << 200)


def intervals(ends: st.SearchStrategy[int]) -> st.SearchStrategy[Interval]:
    return st.tuples(ends, ends).map(lambda pair: Interval(min(pair), max(pair)))


def members(interval: Interval) -> range:
    return range(interval.lo, interval.hi + 1)


def narrowest(interval: Interval, signed: bool) -> int:
    """The first width whose range, written out, holds both ends."""
    for width in itertools.count(1):
        low, high = (-(2 ** (width - 1)), 2 ** (width - 1) - 1) if signed else (0, 2**width - 1)
        if low <= interval.lo and interval.hi <= high:
            return width
    raise AssertionError


@given(intervals(small), intervals(small))
def test_sum_and_product_are_the_tightest_intervals(a: Interval, b: Interval) -> None:
    sums = [x + y for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
    assert a + b == Interval(min(sums), max(sums))
    products = {x * y for x in members(a) for y in members(b)}
    assert a * b == Interval(min(products), max(products))


@given(intervals(small), small)
def test_integers_stand_for_points(a: Interval, n: int) -> None:
    point = Interval(n, n)
    assert (a + n, a * n, a | n, n in a) == (a + point, a * point, a | point, point in a)
    assert (n in a) == (n in members(a))


@given(intervals(small), intervals(small))
def test_hull_and_containment(a: Interval, b: Interval) -> None:
    both = a | b
    assert a in both
    assert b in both
    assert both == Interval(min(a.lo, b.lo), max(a.hi, b.hi))
    assert (b in a) == (set(members(b)) <= set(members(a)))


@given(intervals(st.one_of(small, huge)))
def test_widths_are_minimal(a: Interval) -> None:
    assert a.span == a.hi - a.lo
    assert a.signed_dtype == IntType(narrowest(a, signed=True), signed=True)
    assert a.dtype == (IntType(narrowest(a, signed=False), signed=False) if a.lo >= 0 else a.signed_dtype)
    assert a in a.dtype.range
    assert a in a.signed_dtype.range


@given(intervals(st.one_of(small, huge)))
def test_offset_width_is_the_best_over_all_starts(a: Interval) -> None:
    width = a.offset_width
    centred = a + -(a.lo + 2 ** (width - 1))
    assert centred in IntType(width, signed=True).range
    assert width <= a.signed_dtype.width
    # one bit less has fewer values than the interval, so no start can help
    assert width == 1 or 2 ** (width - 1) < a.span + 1


@pytest.mark.parametrize(
    ("lo", "hi", "dtype", "signed", "offset"),
    [
        (0, 0, "ap_uint<1>", 1, 1),
        (-1, 0, "ap_int<1>", 1, 1),
        (0, 1, "ap_uint<1>", 2, 1),
        (-1, 1, "ap_int<2>", 2, 2),
        (-128, 127, "ap_int<8>", 8, 8),
        (-129, 127, "ap_int<9>", 9, 9),
        (-128, 128, "ap_int<9>", 9, 9),
        (0, 255, "ap_uint<8>", 9, 8),
        (0, 256, "ap_uint<9>", 10, 9),
        (1000, 1003, "ap_uint<10>", 11, 2),
        (-(2**61), 2**61 - 1, "ap_int<62>", 62, 62),
        (-(2**61) - 1, 0, "ap_int<63>", 63, 62),
        (0, 2**64, "ap_uint<65>", 66, 65),
        # float log2 rounds 2**60 - 1 and 2**60 + 1 to 60.0
        (0, 2**60 - 1, "ap_uint<60>", 61, 60),
        (0, 2**60, "ap_uint<61>", 62, 61),
        (-(2**60), 2**60, "ap_int<62>", 62, 62),
        (-(2**60) - 1, 0, "ap_int<62>", 62, 61),
    ],
)
def test_known_widths(lo: int, hi: int, dtype: str, signed: int, offset: int) -> None:
    interval = Interval(lo, hi)
    assert (str(interval.dtype), interval.signed_dtype.width, interval.offset_width) == (dtype, signed, offset)


@pytest.mark.parametrize(("width", "signed"), [*itertools.product(range(1, 7), (True, False))])
def test_wrap_is_the_representative_modulo_two_to_the_width(width: int, signed: bool) -> None:
    dtype = IntType(width, signed)
    assert dtype.range.span + 1 == 2**width
    for value in range(-200, 200):
        wrapped = dtype.wrap(value)
        assert wrapped in dtype.range
        assert (wrapped - value) % 2**width == 0


@given(huge, st.integers(1, 150), st.booleans())
def test_wrap_of_huge_integers(value: int, width: int, signed: bool) -> None:
    dtype = IntType(width, signed)
    assert dtype.wrap(value) in dtype.range
    assert (dtype.wrap(value) - value) % 2**width == 0
    assert (dtype.wrap(value) == value) == (value in dtype.range)


@given(intervals(huge), intervals(huge))
def test_huge_products_are_exact(a: Interval, b: Interval) -> None:
    product = a * b
    assert all(isinstance(end, int) for end in (product.lo, product.hi))
    corners = [x * y for x, y in itertools.product((a.lo, a.hi), (b.lo, b.hi))]
    assert (product.lo, product.hi) == (min(corners), max(corners))
    assert product.signed_dtype.width == narrowest(product, signed=True)


def test_invalid_ones_are_refused_whole() -> None:
    with pytest.raises(ValueError, match=r"^empty interval \[3, 2\]$"):
        Interval(3, 2)
    with pytest.raises(ValueError, match=r"^an integer type needs at least one bit, not 0$"):
        IntType(0, signed=True)


def test_text() -> None:
    assert str(Interval(-3, 7)) == "[-3, 7]"
    assert (str(IntType(5, True)), str(IntType(5, False))) == ("ap_int<5>", "ap_uint<5>")
