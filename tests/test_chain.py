"""Exact chains, quantizers and staircases against an oracle of `Fraction` and 150-digit decimals, point by point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import broadaxe.staircase
from broadaxe.chain import (
    ROUNDINGS,
    Affine,
    Chain,
    Clamp,
    Ints,
    Normalize,
    PerChannel,
    Quantizer,
    Snap,
    Step,
    approximate_codes,
    codes,
    direction,
    moved,
    normalize,
    then,
)
from broadaxe.errors import ProofError
from broadaxe.staircase import Staircase, staircase
from broadaxe.types import Interval

F = Fraction
ONE, ZERO = (F(1),), (F(0),)


# The oracle: one number at a time, written from the definitions.


def pick(values: PerChannel, channel: int) -> Fraction:
    return values[0] if len(values) == 1 else values[channel]


def inverse_root(variance: Fraction) -> Fraction:
    """1/sqrt(variance): exact for a rational square, else to about 150 digits."""
    num, den = math.isqrt(variance.numerator), math.isqrt(variance.denominator)
    if num * num == variance.numerator and den * den == variance.denominator:
        return F(den, num)
    with localcontext() as context:
        context.prec = 160
        return F((Decimal(variance.denominator) / Decimal(variance.numerator)).sqrt())


def step_value(step: Step, x: Fraction, c: int) -> Fraction:
    if isinstance(step, Affine):
        return pick(step.scale, c) * x + pick(step.shift, c)
    if isinstance(step, Normalize):
        gain = pick(step.gamma, c) * inverse_root(pick(step.variance, c))
        return gain * (x - pick(step.mean, c)) + pick(step.beta, c)
    if isinstance(step, Snap):
        scale, zero = pick(step.scale, c), pick(step.zero_point, c)
        return scale * (ROUND[step.rounding](x / scale + zero) - zero)
    x = x if step.lo is None else max(x, step.lo)
    return x if step.hi is None else min(x, step.hi)


def away(x: Fraction, magnitude: int) -> int:
    return magnitude if x >= 0 else -magnitude


ROUND = {
    "ROUND": round,  # Python's, half to even
    "FLOOR": math.floor,
    "CEIL": math.ceil,
    "DOWN": math.trunc,
    "UP": lambda x: away(x, math.ceil(abs(x))),
    "HALF_UP": lambda x: away(x, math.floor(abs(x) + F(1, 2))),
    "HALF_DOWN": lambda x: away(x, math.ceil(abs(x) - F(1, 2))),
}


def code_of(chain: Chain, quantizer: Quantizer, x: int, c: int) -> int:
    value = F(x)
    for step in chain:
        value = step_value(step, value, c)
    scaled = value / pick(quantizer.scale, c) + pick(quantizer.zero_point, c)
    if quantizer.bipolar:
        return int(scaled >= 0)
    return min(max(ROUND[quantizer.rounding](scaled), quantizer.lo), quantizer.hi)


def oracle(chain: Chain, quantizer: Quantizer, rows: Sequence[Sequence[int]]) -> list[list[int]]:
    return [[code_of(chain, quantizer, x, c) for x in row] for c, row in enumerate(rows)]


def objects(rows: Sequence[Sequence[int]]) -> np.ndarray:
    return np.array([list(row) for row in rows], dtype=object)


def assert_codes(chain: Chain, quantizer: Quantizer, rows: Sequence[Sequence[int]]) -> None:
    assert codes(chain, quantizer, objects(rows)).tolist() == oracle(chain, quantizer, rows)


def evaluate(stairs: Staircase, channel: int, x: int) -> int:
    reached = int((stairs.steps[channel] <= x).sum())
    return int(stairs.first[channel] + stairs.direction[channel] * reached)


def assert_staircase(chain: Chain, quantizer: Quantizer, domain: Sequence[Interval]) -> Staircase:
    """The staircase equals the oracle at every point of its domain, and keeps its own invariants."""
    stairs = staircase(chain, quantizer, domain)
    for c, interval in enumerate(domain):
        row = range(interval.lo, interval.hi + 1)
        expected = [code_of(chain, quantizer, x, c) for x in row]
        assert [evaluate(stairs, c, x) for x in row] == expected
        assert stairs.codes[c] == Interval(min(expected), max(expected))
        assert stairs.counts[c] == max(expected) - min(expected)
        assert (np.diff(stairs.steps[c]) >= 0).all()
        assert (stairs.steps[c][stairs.counts[c] :] == interval.hi + 1).all()
    return stairs


# Random chains. Many dyadic constants, so that ties are met often.

rationals = st.builds(F, st.integers(-24, 24), st.sampled_from([1, 1, 2, 4, 8, 3, 7, 10]))
positive = st.builds(F, st.integers(1, 24), st.sampled_from([1, 2, 4, 8, 3, 7]))


def columns(values: st.SearchStrategy[Fraction], channels: int) -> st.SearchStrategy[PerChannel]:
    return st.one_of(st.tuples(values), st.lists(values, min_size=channels, max_size=channels).map(tuple))


def clamps() -> st.SearchStrategy[Clamp]:
    ends = st.tuples(rationals, rationals).map(sorted)
    return st.one_of(
        ends.map(lambda e: Clamp(*e)), rationals.map(lambda e: Clamp(e, None)), rationals.map(lambda e: Clamp(None, e))
    )


@st.composite
def problems(draw: st.DrawFn) -> tuple[Chain, Quantizer, tuple[Interval, ...]]:
    channels = draw(st.integers(1, 3))
    affine = st.builds(Affine, columns(rationals, channels), columns(rationals, channels))
    variances = draw(st.sampled_from([(F(1), F(4), F(9, 4)), (F(2), F(7, 3), F(1, 8), F(10), F(9, 2))]))
    norm = st.builds(
        normalize,
        columns(rationals, channels),
        columns(rationals, channels),
        columns(st.sampled_from(variances), channels),
        columns(rationals, channels),
    )
    snap = st.builds(Snap, columns(positive, channels), columns(rationals, channels), st.sampled_from(ROUNDINGS))
    steps = draw(st.lists(st.one_of(affine, clamps(), snap), max_size=2))
    if draw(st.booleans()):
        steps.insert(draw(st.integers(0, len(steps))), draw(norm))
    chain: Chain = (draw(affine),)
    for step in steps:
        chain = then(chain, step)
    bipolar = draw(st.booleans()) and draw(st.booleans())
    lo = draw(st.integers(-9, 0))
    quantizer = Quantizer(
        draw(columns(positive, channels)),
        draw(columns(st.one_of(st.just(F(0)), rationals), channels)),
        0 if bipolar else lo,
        1 if bipolar else lo + draw(st.integers(0, 15)),
        draw(st.sampled_from(ROUNDINGS)),
        bipolar,
    )
    starts = draw(st.lists(st.integers(-40, 30), min_size=channels, max_size=channels))
    domain = tuple(Interval(s, s + draw(st.integers(0, 40))) for s in starts)
    return chain, quantizer, domain


@settings(max_examples=200, deadline=None)
@given(problems())
def test_staircase_is_exact_on_the_whole_domain(problem: tuple[Chain, Quantizer, tuple[Interval, ...]]) -> None:
    chain, quantizer, domain = problem
    assert_staircase(chain, quantizer, domain)
    rows = [np.linspace(d.lo, d.hi, 5).astype(int).tolist() for d in domain]
    assert_codes(chain, quantizer, rows)


@settings(max_examples=80, deadline=None)
@given(problems())
def test_direction_tells_how_the_chain_moves(problem: tuple[Chain, Quantizer, tuple[Interval, ...]]) -> None:
    chain, _, domain = problem
    for c, (sign, interval) in enumerate(zip(direction(chain, len(domain)), domain, strict=True)):
        values = []
        for x in range(interval.lo, interval.hi + 1):
            value = F(x)
            for step in chain:
                value = step_value(step, value, c)
            values.append(value * (sign or 1))
        assert values == sorted(values)
        assert sign or len(set(values)) == 1


# Quantizers


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("zero_point", [F(0), F(3), F(-5), F(1, 2), F(-1, 4)])
def test_every_rounding_mode_at_every_quarter(rounding: str, zero_point: Fraction) -> None:
    quarters = (Affine((F(1, 4), F(-1, 4)), ZERO),)
    quantizer = Quantizer((F(1, 2),), (zero_point,), -8, 7, rounding)
    row = list(range(-41, 42))
    assert_codes(quarters, quantizer, [row, row])


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        ("ROUND", [-2, -2, 0, 0, 0, 2, 2]),
        ("CEIL", [-2, -1, 0, 0, 1, 2, 3]),
        ("FLOOR", [-3, -2, -1, 0, 0, 1, 2]),
        ("UP", [-3, -2, -1, 0, 1, 2, 3]),
        ("DOWN", [-2, -1, 0, 0, 0, 1, 2]),
        ("HALF_UP", [-3, -2, -1, 0, 1, 2, 3]),
        ("HALF_DOWN", [-2, -1, 0, 0, 0, 1, 2]),
    ],
)
def test_ties(rounding: str, expected: list[int]) -> None:
    """-5/2, -3/2, -1/2, 0, 1/2, 3/2, 5/2."""
    quantizer = Quantizer(ONE, ZERO, -8, 7, rounding)
    x = objects([[-5, -3, -1, 0, 1, 3, 5]])
    assert codes((Affine((F(1, 2),), ZERO),), quantizer, x).tolist() == [expected]


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_bipolar_is_a_comparison_with_zero_whatever_the_rounding(rounding: str) -> None:
    quantizer = Quantizer((F(3), F(1, 2)), (F(0), F(-1, 2)), 0, 1, rounding, bipolar=True)
    chain = (Affine((F(1, 4),), ZERO),)
    row = [-2, -1, 0, 1, 2]
    assert codes(chain, quantizer, objects([row, row])).tolist() == [[0, 0, 1, 1, 1], [0, 0, 0, 1, 1]]
    back = quantizer.affine
    assert [a + b for a, b in zip(back.scale, back.shift, strict=True)] == [F(3), F(1, 2) * F(3, 2)]
    assert list(back.shift) == [F(-3), F(1, 2) * F(-1, 2)]


def test_affine_takes_codes_back_to_reals() -> None:
    quantizer = Quantizer((F(1, 4),), (F(3), F(-2)), 0, 15)
    assert quantizer.affine == Affine((F(1, 4), F(1, 4)), (F(-3, 4), F(1, 2)))


@pytest.mark.parametrize(("lo", "hi", "dtype"), [(0, 15, "ap_uint<4>"), (-7, 7, "ap_int<4>"), (0, 1, "ap_uint<1>")])
def test_dtype_of_codes(lo: int, hi: int, dtype: str) -> None:
    assert str(Quantizer(ONE, ZERO, lo, hi).dtype) == dtype


def test_an_unknown_rounding_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^unknown rounding mode 'NEAREST'$"):
        codes((Affine(ONE, ZERO),), Quantizer(ONE, ZERO, 0, 1, "NEAREST"), objects([[0]]))


# Chains


def test_clamp_zero_and_negative_scale() -> None:
    chain = (Affine((F(1, 3), F(-1, 3), F(0)), (F(-1), F(2), F(7, 2))), Clamp(F(0), F(13, 2)))
    row = list(range(-30, 31))
    for rounding in ROUNDINGS:
        quantizer = Quantizer(ONE, ZERO, -2, 5, rounding)
        assert_codes(chain, quantizer, [row] * 3)
        assert_staircase(chain, quantizer, [Interval(-30, 30)] * 3)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.builds(F, st.integers(-(2**24), 2**24), st.just(2**20)), min_size=4, max_size=4),
    st.builds(F, st.integers(1, 2**30), st.sampled_from([2**30, 2**15, 3])),
    st.sampled_from(ROUNDINGS),
)
def test_normalize_of_float_like_constants(values: list[Fraction], variance: Fraction, rounding: str) -> None:
    gamma, mean, beta, _ = ((v,) for v in values)
    chain = (Affine((values[3],), ZERO), normalize(gamma, mean, (variance,), beta))
    assert_codes(chain, Quantizer((F(1, 8),), ZERO, -(2**15), 2**15 - 1, rounding), [list(range(-50, 51, 7))])


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("beta", [F(1, 2), F(3, 2), F(-1, 2), F(-5, 2), F(0), F(2)])
def test_a_mean_hit_exactly_leaves_beta_alone(rounding: str, beta: Fraction) -> None:
    """With an irrational root the value at the mean is beta exactly, here a tie or an integer; its neighbours are not."""
    chain = (normalize((F(1, 1000), F(-1, 1000)), (F(5),), (F(2),), (beta,)),)
    assert isinstance(chain[0], Normalize)
    assert_codes(chain, Quantizer(ONE, ZERO, -8, 7, rounding), [[4, 5, 6]] * 2)


def test_perfect_squares_become_affine() -> None:
    step = normalize((F(3), F(-1)), (F(2), F(1, 2)), (F(9, 4), F(1, 16)), (F(1),))
    assert step == Affine((F(2), F(-4)), (F(-3), F(3)))
    assert isinstance(normalize(ONE, ZERO, (F(4), F(2)), ZERO), Normalize)


def test_a_perfect_square_beside_an_irrational_root_is_exact_too() -> None:
    """Channel 0 divides by 2 and meets ties, channel 1 by sqrt(2), channel 2 by 3 and meets integers."""
    chain = (normalize(ONE, ZERO, (F(4), F(2), F(9)), ZERO),)
    row = list(range(-9, 10))
    for rounding in ROUNDINGS:
        assert_codes(chain, Quantizer(ONE, ZERO, -8, 7, rounding), [row] * 3)


def test_precision_rises_until_the_code_is_decided() -> None:
    """1/sqrt(1 + 2**-600) is below 1 by 2**-601: far under the first precision, but not 1."""
    near = Normalize(ONE, ZERO, (1 + F(1, 2**600),), ZERO)
    above = Normalize(ONE, ZERO, (1 - F(1, 2**600),), ZERO)
    for step, floors in ((near, [-3, -1, 0, 0, 2]), (above, [-4, -2, 0, 1, 3])):
        got = codes((step,), Quantizer(ONE, ZERO, -8, 7, "FLOOR"), objects([[-3, -1, 0, 1, 3]]))
        assert got.tolist() == [floors], step


def test_a_boundary_that_no_precision_decides_is_refused() -> None:
    step = Normalize(ONE, ZERO, (F(1), 1 + F(1, 2**40000)), ZERO)
    with pytest.raises(ProofError) as error:
        codes((step,), Quantizer(ONE, ZERO, -8, 7, "FLOOR"), objects([[0], [1]]))
    assert str(error.value) == (
        "channel 1: a value stays within 2**-8192 of a rounding boundary;"
        " change the scale or the normalization by one unit in the last place"
    )


@settings(max_examples=60, deadline=None)
@given(problems(), st.lists(st.integers(-500, 500), min_size=3, max_size=3))
def test_moved_undoes_an_offset(problem: tuple[Chain, Quantizer, tuple[Interval, ...]], offsets: list[int]) -> None:
    chain, quantizer, domain = problem
    offsets = offsets[: len(domain)]
    shifted = moved(chain, offsets)
    rows = objects([[d.lo, (d.lo + d.hi) // 2, d.hi] for d in domain])
    carried = rows + np.array(offsets, dtype=object)[:, None]
    assert codes(shifted, quantizer, carried).tolist() == codes(chain, quantizer, rows).tolist()


def test_affine_maps_in_a_row_become_one() -> None:
    chain = then(then((), Affine((F(2), F(3)), (F(1),))), Affine((F(-1, 2),), (F(0), F(5))))
    assert chain == (Affine((F(-1), F(-3, 2)), (F(-1, 2), F(9, 2))),)
    assert len(then(chain, Clamp(F(0), None))) == 2


def test_integers_beyond_64_bits_stay_exact() -> None:
    big = 2**90
    chain = (Affine((F(1, big), F(1)), (F(0), F(-(2**90)))),)
    quantizer = Quantizer(ONE, ZERO, -8, 7, "FLOOR")
    x = objects([[big - 1, big, 3 * big - 1, -1], [big - 1, big, big + 3, big + 2**80]])
    assert codes(chain, quantizer, x).tolist() == [[0, 1, 2, -1], [-1, 0, 3, 7]]


# Staircases


def test_shapes_of_staircases() -> None:
    """Rising, falling, constant and jumping by five codes per step, in one staircase."""
    chain = (Affine((F(1, 2), F(-2), F(0), F(5)), (F(0), F(3), F(9), F(0))),)
    stairs = assert_staircase(chain, Quantizer(ONE, ZERO, -8, 7), [Interval(-6, 6)] * 4)
    assert stairs.direction.tolist() == [1, -1, 1, 1]
    assert stairs.counts.tolist() == [6, 15, 0, 15]
    assert stairs.steps[3].tolist() == [-1] * 3 + [0] * 5 + [1] * 5 + [2] * 2
    assert stairs.first.tolist() == [-3, 7, 7, -8]


def test_a_constant_staircase_has_no_steps() -> None:
    stairs = assert_staircase((Affine((F(1, 1000),), ZERO),), Quantizer(ONE, ZERO, 0, 15), [Interval(-9, 9)])
    assert stairs.steps.shape == (1, 0)


def test_the_domain_of_one_point() -> None:
    assert_staircase((Affine(ONE, ZERO),), Quantizer(ONE, ZERO, -8, 7), [Interval(5, 5), Interval(-99, -99)])


def test_steps_where_float64_sees_none() -> None:
    """Inputs near 2**60, where float64 knows only multiples of 256."""
    base = 2**60
    chain = (Affine((F(1), F(-1)), (F(-base), F(base))),)
    domain = [Interval(base - 20, base + 20)] * 2
    blind = approximate_codes(chain, Quantizer(ONE, ZERO, -8, 7), np.array([[base + 3.0], [base + 3.0]]))
    assert not blind.any()
    stairs = assert_staircase(chain, Quantizer(ONE, ZERO, -8, 7), domain)
    assert stairs.steps.tolist() == [list(range(base - 7, base + 8)), list(range(base - 6, base + 9))]


def test_ratios_just_beside_a_tie() -> None:
    """(1/2)(1 +- 2**-70) x: float64 takes every odd x for a tie."""
    chain = (Affine((F(1, 2) + F(1, 2**71), F(1, 2) - F(1, 2**71), F(1, 2)), ZERO),)
    for rounding in ROUNDINGS:
        assert_staircase(chain, Quantizer(ONE, ZERO, -8, 7, rounding), [Interval(-20, 20)] * 3)


def test_the_widest_domain() -> None:
    """The 62-bit range, the widest a value may have: steps at known places, no overflow in the bisection."""
    ends = Interval(-(2**61), 2**61 - 1)
    stairs = staircase((Affine((F(1, 2**59), F(-1, 2**59)), ZERO),), Quantizer(ONE, ZERO, -8, 7, "FLOOR"), [ends] * 2)
    quarter = 2**59
    assert stairs.first.tolist() == [-4, 4]
    assert stairs.steps[0].tolist() == [k * quarter for k in range(-3, 4)] + [2**61]
    assert stairs.steps[1].tolist() == [k * quarter + 1 for k in range(-4, 4)]


def lying(kind: str) -> object:
    """A replacement for approximate_codes that is wrong in a way of its own."""
    rng = np.random.default_rng(3)

    def answer(chain: Chain, quantizer: Quantizer, x: np.ndarray) -> np.ndarray:
        true = approximate_codes(chain, quantizer, x)
        match kind:
            case "always high":
                return np.full(x.shape, 99.0)
            case "always low":
                return np.full(x.shape, -99.0)
            case "reversed":
                return -true
            case "one off":
                return true + 1
            case "nan":
                return np.full(x.shape, np.nan)
            case _:
                return rng.integers(-20, 20, size=true.shape).astype(float)

    return answer


@pytest.mark.parametrize("kind", ["always high", "always low", "reversed", "one off", "nan", "noise"])
def test_exact_search_repairs_every_wrong_guess(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(broadaxe.staircase, "approximate_codes", lying(kind))
    chain: Chain = (
        Affine((F(1, 2), F(-1, 3), F(0), F(4)), (F(1, 4),)),
        normalize(ONE, ONE, (F(2),), ZERO),
        Clamp(F(-3), None),
    )
    for rounding in ("ROUND", "FLOOR", "HALF_DOWN"):
        assert_staircase(chain, Quantizer((F(1, 2),), ZERO, -8, 7, rounding), [Interval(-25, 30)] * 4)


def test_only_channels_with_a_wrong_guess_are_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channel 1 sits where float64 is blind, channel 0 does not: the exact search sees channel 1 alone."""
    searched: list[list[int]] = []
    exact_rows = broadaxe.staircase._exact_rows

    def spy(chain: Chain, quantizer: Quantizer, ends: Ints, target: Ints, signs: Ints, rows: np.ndarray) -> Ints:
        searched.append(rows.tolist())
        return exact_rows(chain, quantizer, ends, target, signs, rows)

    monkeypatch.setattr(broadaxe.staircase, "_exact_rows", spy)
    base = 2**60
    chain = (Affine(ONE, (F(0), F(-base))),)
    assert_staircase(chain, Quantizer(ONE, ZERO, -8, 7), [Interval(-20, 20), Interval(base - 20, base + 20)])
    assert searched == [[1]]
