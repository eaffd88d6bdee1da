"""Proofs of requantizer forms: right ones are accepted, wrong ones refused, and what is proven holds at every point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadaxe.chain import ROUNDINGS, Affine, Chain, Clamp, PerChannel, Quantizer, codes, normalize
from broadaxe.errors import ProofError
from broadaxe.ir import constant_array
from broadaxe.ops.forms import Constant, Form, MultiplyShift, Shift, Table, Thresholds
from broadaxe.prove.requantizers import RequantizerProof, candidates, check_points, prove, shift_candidates
from broadaxe.staircase import Staircase, staircase
from broadaxe.types import Interval

F = Fraction
ONE, ZERO = (F(1),), (F(0),)
DOMAIN = (Interval(-40, 40), Interval(-30, 45))

QUARTERS: Chain = (Affine((F(1, 4),), (F(1, 2), F(-3))),)
"""Slope 1/4 with offsets on the integers: every fourth input is a tie."""
CODES = Quantizer(ONE, ZERO, -8, 7)


def whole(form: Form, chain: Chain, quantizer: Quantizer, domain: Sequence[Interval]) -> bool:
    """Whether the form gives the exact code at every point of every channel's domain."""
    x = np.array([np.linspace(d.lo, d.hi, max(i.span for i in domain) + 1).round() for d in domain]).astype(np.int64)
    return np.array_equal(np.asarray(form.evaluate(x.T)).T, codes(chain, quantizer, x.astype(object)))


def check(form: Form, chain: Chain, quantizer: Quantizer, domain: Sequence[Interval] = DOMAIN) -> RequantizerProof:
    return prove(form, chain, quantizer, staircase(chain, quantizer, domain))


def changed(array: np.ndarray, index: tuple[int, ...] | int, by: int) -> np.ndarray:
    out = np.array(array)
    out[index] += by
    return constant_array(out)


def thresholds(chain: Chain = QUARTERS, quantizer: Quantizer = CODES) -> Thresholds:
    return Thresholds.of(staircase(chain, quantizer, DOMAIN))


HALF_EVEN = Shift(constant_array([2, -12]), 2, True, -8, 7, Interval(-40, 45))
DOWN = Quantizer(ONE, ZERO, -8, 7, "FLOOR")
FLOORED = replace(HALF_EVEN, half_even=False)


def test_right_forms_are_accepted() -> None:
    assert check(thresholds(), QUARTERS, CODES).form == "thresholds"
    assert check(HALF_EVEN, QUARTERS, CODES).form == "shift"
    assert check(FLOORED, QUARTERS, DOWN).form == "shift"
    flat = Quantizer((F(1000),), ZERO, -8, 7)
    assert check(Constant(constant_array([0, 0])), QUARTERS, flat).form == "constant"


@pytest.mark.parametrize("channel", [0, 1])
@pytest.mark.parametrize("by", [-1, 1])
def test_a_threshold_off_by_one_is_refused_wherever_it_is(channel: int, by: int) -> None:
    right = thresholds()
    for level in range(right.levels):
        wrong = replace(right, thresholds=constant_array(np.sort(changed(right.thresholds, (channel, level), by))))
        assert not whole(wrong, QUARTERS, CODES, DOMAIN)
        with pytest.raises(ProofError, match=rf"^thresholds requantizer: channel {channel}, input -?\d+: gives "):
            check(wrong, QUARTERS, CODES)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(thresholds(), base=changed(thresholds().base, 0, 1)),
        replace(thresholds(), base=changed(thresholds().base, 1, -1)),
        replace(thresholds(), direction=constant_array([1, -1])),
        replace(thresholds(), direction=constant_array([-1, 1])),
        replace(thresholds(), thresholds=thresholds().thresholds[::-1]),
        replace(thresholds(), thresholds=thresholds().thresholds[:, 1:]),
        replace(HALF_EVEN, half_even=False),
        replace(HALF_EVEN, bias=constant_array([4, -10]), half_even=False),  # half up instead of half to even
        replace(HALF_EVEN, bias=constant_array([3, -12])),
        replace(HALF_EVEN, bias=constant_array([2, -13])),
        replace(HALF_EVEN, bias=constant_array([-12, 2])),
        replace(HALF_EVEN, lo=-7),
        replace(HALF_EVEN, hi=6),
        replace(HALF_EVEN, lo=-9),
        replace(HALF_EVEN, hi=8),
        replace(HALF_EVEN, shift=3),
        replace(HALF_EVEN, shift=1),
        Constant(constant_array([0, 0])),
    ],
    ids=lambda form: form.name,
)
def test_wrong_forms_are_refused(wrong: Form) -> None:
    assert not whole(wrong, QUARTERS, CODES, DOMAIN)
    with pytest.raises(ProofError):
        check(wrong, QUARTERS, CODES)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(FLOORED, half_even=True),
        replace(FLOORED, bias=constant_array([1, -12])),
        replace(FLOORED, bias=constant_array([2, -11])),
        replace(FLOORED, lo=-9),
        replace(FLOORED, hi=6),
    ],
)
def test_wrong_floors_are_refused(wrong: Shift) -> None:
    with pytest.raises(ProofError):
        check(wrong, QUARTERS, DOWN)


def test_a_wrong_constant_is_refused() -> None:
    flat = Quantizer((F(1000),), (F(3),), -8, 7)
    assert check(Constant(constant_array([3, 3])), QUARTERS, flat).comparisons == 4
    with pytest.raises(ProofError) as error:
        check(Constant(constant_array([3, 4])), QUARTERS, flat)
    assert str(error.value) == "constant requantizer: channel 1, input -30: gives 4, exactly 3; choose another form"


def test_a_table_wrong_between_two_steps_is_refused() -> None:
    """x/4 rounds to 1 on [3, 5] and is checked there at 3 and 5; the entry in between is wrong."""
    chain: Chain = (Affine((F(1, 4),), ZERO),)
    domain = Interval(-8, 16)
    rows = codes(chain, CODES, np.array([range(-8, 17)], dtype=object))
    assert check(Table(constant_array(rows), domain), chain, CODES, [domain])
    wrong = Table(changed(rows, (0, 4 + 8), 1), domain)
    assert not whole(wrong, chain, CODES, [domain])
    with pytest.raises(ProofError):
        check(wrong, chain, CODES, [domain])


def test_the_error_names_channel_input_and_both_values() -> None:
    """(x + 2) / 4 at its first tie: x = 0 gives 1/2, exactly 0, and rounding half up makes it 1."""
    chain: Chain = (Affine((F(1, 4),), (F(1, 2),)),)
    half_up = Shift(constant_array([4]), 2, False, 0, 1, Interval(-1, 2))
    with pytest.raises(ProofError) as error:
        check(half_up, chain, CODES, [Interval(-1, 2)])
    assert str(error.value) == "shift requantizer: channel 0, input 0: gives 1, exactly 0; choose another form"


def test_flooring_is_enough_where_no_tie_can_be_met() -> None:
    """The same floor with an offset of a quarter LSB: no integer meets a tie, and the floor form is proven."""
    chain: Chain = (Affine((F(1, 4),), (F(1, 2) + F(1, 16), F(-3) + F(1, 16))),)
    forms = shift_candidates(chain, CODES, staircase(chain, CODES, DOMAIN))
    assert [form.half_even for form in forms] == [False]
    assert check(forms[0], chain, CODES)
    assert whole(forms[0], chain, CODES, DOMAIN)


def test_a_tie_outside_the_domain_does_not_count() -> None:
    """x/4 on [3, 5] meets no tie, so rounding half up is right there; on [3, 6] it meets 3/2 and 2 is right too; on [2, 5]
    it meets 1/2, and it is wrong."""
    chain: Chain = (Affine((F(1, 4),), ZERO),)
    half_up = Shift(constant_array([2]), 2, False, -8, 7, Interval(0, 9))
    assert check(half_up, chain, CODES, [Interval(3, 5)])
    assert check(half_up, chain, CODES, [Interval(3, 6)])
    with pytest.raises(ProofError):
        check(half_up, chain, CODES, [Interval(2, 5)])


def test_comparisons_are_both_sides_of_every_step_and_both_ends() -> None:
    stairs = staircase(QUARTERS, CODES, DOMAIN)
    proof = prove(Thresholds.of(stairs), QUARTERS, CODES, stairs)
    assert stairs.counts.tolist() == [15, 15]
    assert proof == RequantizerProof("thresholds", 2 * 30 + 2 * 2)
    points = check_points(stairs)
    for row, steps, domain in zip(points, stairs.steps, DOMAIN, strict=True):
        assert set(row.tolist()) == {domain.lo, domain.hi, *steps.tolist(), *(steps - 1).tolist()}


def test_check_points_stay_inside_a_channel_with_fewer_steps() -> None:
    chain: Chain = (Affine((F(1), F(0)), (F(0), F(2))),)
    domain = (Interval(-3, 3), Interval(50, 60))
    stairs = staircase(chain, CODES, domain)
    points = check_points(stairs)
    assert all(int(p) in d for row, d in zip(points, domain, strict=True) for p in row)
    assert prove(Thresholds.of(stairs), chain, CODES, stairs).comparisons == 2 * 6 + 2 * 2


@pytest.mark.parametrize("shift", [0, 1, 3, 9])
@pytest.mark.parametrize("rounding", ["ROUND", "FLOOR", "HALF_UP"])
@pytest.mark.parametrize("relu", [False, True])
def test_power_of_two_models_get_a_shift(shift: int, rounding: str, relu: bool) -> None:
    """Integer, half and odd offsets; HALF_UP goes away from zero, so that below zero only a Relu makes it a floor."""
    chain: Chain = (Affine((F(3, 2**shift),), (F(3), F(9, 2), F(-6))),)
    if relu:
        chain = (*chain, Clamp(F(0), None))
    quantizer = Quantizer((F(3),), ZERO, 0 if relu else -8, 15 if relu else 7, rounding)
    domain = (Interval(-9 << shift, (9 << shift) + 5),) * 3
    stairs = staircase(chain, quantizer, domain)
    proven = [f for f in shift_candidates(chain, quantizer, stairs) if accepted(f, chain, quantizer, stairs)]
    ties_below_zero = rounding == "HALF_UP" and not relu
    mixed = rounding == "ROUND" and shift == 0  # offset 3/2 meets ties that a shift by 0 cannot round
    assert bool(proven) == (not ties_below_zero and not mixed), [f.half_even for f in proven]
    for form in proven:
        assert whole(form, chain, quantizer, domain)


def accepted(form: Form, chain: Chain, quantizer: Quantizer, stairs: Staircase) -> bool:
    try:
        prove(form, chain, quantizer, stairs)
    except ProofError:
        return False
    return True


@pytest.mark.parametrize(
    ("chain", "quantizer"),
    [
        ((Affine((F(1, 3),), ZERO),), CODES),
        ((Affine((F(-1, 4),), ZERO),), CODES),
        ((Affine((F(0),), ZERO),), CODES),
        ((Affine((F(2),), ZERO),), CODES),
        ((Affine((F(1, 4), F(1, 2)), ZERO),), CODES),
        ((Affine((F(1, 4),), ZERO), normalize(ONE, ZERO, (F(2),), ZERO)), CODES),
        ((Affine((F(1, 4),), ZERO),), Quantizer(ONE, ZERO, 0, 1, bipolar=True)),
        ((Affine((F(1, 4),), ZERO),), Quantizer(ONE, ZERO, -8, 7, "CEIL")),
        ((Affine((F(1, 4),), (F(2**61),)),), CODES),
    ],
)
def test_no_shift_is_suggested_where_none_fits(chain: Chain, quantizer: Quantizer) -> None:
    stairs = staircase(chain, quantizer, DOMAIN)
    assert shift_candidates(chain, quantizer, stairs) == []
    general = Thresholds if stairs.counts.any() else Constant
    assert general in [type(form) for form in candidates(chain, quantizer, stairs)]


def test_a_staircase_without_steps_is_a_constant_first() -> None:
    flat = Quantizer((F(1000),), ZERO, -8, 7)
    forms = candidates(QUARTERS, flat, staircase(QUARTERS, flat, DOMAIN))
    assert forms[0].name == "constant"
    assert all(check(form, QUARTERS, flat).comparisons == 4 for form in forms)


# Random chains, small domains: the proof decides exactly as the whole domain does.

rationals = st.builds(F, st.integers(-20, 20), st.sampled_from([1, 2, 4, 8, 3]))
offsets = st.builds(F, st.integers(-40, 40), st.sampled_from([1, 2, 8]))


def columns(values: st.SearchStrategy[Fraction]) -> st.SearchStrategy[PerChannel]:
    return st.one_of(st.tuples(values), st.tuples(values, values))


@st.composite
def problems(draw: st.DrawFn) -> tuple[Chain, Quantizer, tuple[Interval, ...]]:
    if draw(st.booleans()):  # power of two, ties within reach
        scale: PerChannel = (F(1, 2 ** draw(st.integers(0, 4))),)
    else:
        scale = draw(columns(rationals))
    chain: Chain = (Affine(scale, draw(columns(offsets))),)
    if draw(st.booleans()):
        chain = (*chain, Clamp(draw(st.sampled_from([F(0), F(-1, 2), F(-5)])), draw(st.sampled_from([None, F(6)]))))
    elif draw(st.booleans()):
        chain = (*chain, normalize(draw(columns(rationals)), draw(columns(offsets)), (F(2),), ZERO))
    lo = draw(st.integers(-8, 0))
    step = draw(st.sampled_from([F(1), F(2), F(1, 2), F(3, 2)]))
    quantizer = Quantizer((step,), ZERO, lo, lo + draw(st.integers(0, 15)), draw(st.sampled_from(ROUNDINGS)))
    starts = draw(st.tuples(*[st.integers(-40, 30)] * 2))
    return chain, quantizer, tuple(Interval(s, s + draw(st.integers(0, 60))) for s in starts)


@settings(max_examples=200, deadline=None)
@given(problems())
def test_a_proven_form_is_exact_on_the_whole_domain(problem: tuple[Chain, Quantizer, tuple[Interval, ...]]) -> None:
    chain, quantizer, domain = problem
    stairs = staircase(chain, quantizer, domain)
    for form in candidates(chain, quantizer, stairs):
        assert accepted(form, chain, quantizer, stairs) == whole(form, chain, quantizer, domain), form
    proof = prove(Thresholds.of(stairs), chain, quantizer, stairs)
    assert proof.comparisons == 2 * int(stairs.counts.sum()) + 2 * len(domain)


@settings(max_examples=200, deadline=None)
@given(problems(), st.data())
def test_a_changed_form_is_refused_exactly_where_it_is_wrong(
    problem: tuple[Chain, Quantizer, tuple[Interval, ...]], data: st.DataObject
) -> None:
    chain, quantizer, domain = problem
    stairs = staircase(chain, quantizer, domain)
    form = data.draw(st.sampled_from(candidates(chain, quantizer, stairs)))
    by, channel = data.draw(st.sampled_from([-2, -1, 1, 2])), data.draw(st.integers(0, 1))
    options: list[Form] = []
    match form:
        case Shift() | MultiplyShift():
            options = [
                replace(form, bias=changed(form.bias, channel, by)),
                replace(form, half_even=not form.half_even),
                replace(form, lo=min(form.hi, form.lo + by)),
                replace(form, hi=max(form.lo, form.hi + by)),
                replace(form, shift=form.shift + 1),
            ]
            if isinstance(form, MultiplyShift):
                options.append(replace(form, factor=changed(form.factor, channel, by)))
        case Constant():
            options = [Constant(changed(form.values, channel, by))]
        case Thresholds():
            options = [
                replace(form, base=changed(form.base, channel, by)),
                replace(form, direction=constant_array(-form.direction)),
            ]
            if form.levels:
                level = data.draw(st.integers(0, form.levels - 1))
                moved = np.sort(changed(form.thresholds, (channel, level), by), axis=1)
                options.append(replace(form, thresholds=constant_array(moved)))
        case Table():
            options = [replace(form, rows=changed(form.rows, (channel, 0), by))]
        case _:
            raise AssertionError(form)
    wrong = data.draw(st.sampled_from(options))
    assert accepted(wrong, chain, quantizer, stairs) == whole(wrong, chain, quantizer, domain), wrong
