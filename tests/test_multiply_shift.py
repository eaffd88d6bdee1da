"""The search for a multiply-shift, its proof, and every form of requantizer on demand."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Network, designed, samples

import broadaxe
from broadaxe.build import random_codes
from broadaxe.chain import Affine, Chain, Clamp, Quantizer, codes, normalize
from broadaxe.csim import Mode, Simulator
from broadaxe.errors import ProofError, RequestError
from broadaxe.ops import Requantize
from broadaxe.ops.forms import Form, MultiplyShift
from broadaxe.prove.multiply_shift import dyadic_candidate, multiply_shift_candidate
from broadaxe.prove.requantizers import Examination, prove
from broadaxe.reference import run
from broadaxe.staircase import staircase
from broadaxe.types import Interval

F = Fraction
ONE, ZERO = (F(1),), (F(0),)


def found(chain: Chain, quantizer: Quantizer, domain: tuple[Interval, ...]) -> list[MultiplyShift]:
    """The candidates that are proven."""
    stairs = staircase(chain, quantizer, domain)
    out = []
    for candidate in (multiply_shift_candidate, dyadic_candidate):
        form = candidate(chain, quantizer, stairs)
        if form is not None:
            try:
                prove(form, chain, quantizer, stairs)
            except ProofError:
                assert candidate is dyadic_candidate  # the other one is solved for, not guessed
                continue
            out.append(form)
    return out


def assert_exact(form: Form, chain: Chain, quantizer: Quantizer, domain: tuple[Interval, ...]) -> None:
    """Equal to the exact codes at every integer of every channel's domain."""
    for channel, interval in enumerate(domain):
        x = np.tile(np.arange(interval.lo, interval.hi + 1), (len(domain), 1))
        exact = codes(chain, quantizer, x.astype(object))[channel]
        np.testing.assert_array_equal(np.asarray(form.evaluate(x.T)).T[channel], exact)


# exact wherever it is proven

slopes = st.builds(F, st.integers(-40, 40), st.sampled_from([1, 2, 3, 7, 8, 16, 29, 64, 100]))
intervals = st.tuples(st.integers(-150, 150), st.integers(0, 120)).map(lambda t: Interval(t[0], t[0] + t[1]))


@st.composite
def problems(draw: st.DrawFn) -> tuple[Chain, Quantizer, tuple[Interval, ...]]:
    """One line per channel, of any sign or none, with or without a clamp, into codes of 1 to 6 bits."""
    channels = draw(st.integers(1, 3))

    def column(values: st.SearchStrategy[Fraction]) -> tuple[Fraction, ...]:
        return tuple(draw(values) for _ in range(channels))

    chain: Chain = (Affine(column(slopes), column(slopes)),)
    if draw(st.booleans()):
        chain = (*chain, Clamp(F(0), draw(st.sampled_from([None, F(6), F(50, 3)]))))
    bits, signed = draw(st.integers(1, 6)), draw(st.booleans())
    lo, hi = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    scale = column(st.sampled_from([F(1), F(1, 2), F(3, 2), F(4), F(2, 7)]))
    zero = draw(st.sampled_from([F(0), F(0), F(3), F(-2)]))
    rounding = draw(st.sampled_from(["ROUND", "ROUND", "FLOOR", "CEIL", "HALF_UP", "HALF_DOWN"]))
    return chain, Quantizer(scale, (zero,), lo, hi, rounding), tuple(draw(intervals) for _ in range(channels))


@settings(max_examples=250)
@given(problems())
def test_what_is_proven_is_exact_on_the_whole_domain(
    problem: tuple[Chain, Quantizer, tuple[Interval, ...]],
) -> None:
    for form in found(*problem):
        assert_exact(form, *problem)


@settings(max_examples=100)
@given(problems())
def test_a_wrong_factor_bias_or_shift_is_not_proven(problem: tuple[Chain, Quantizer, tuple[Interval, ...]]) -> None:
    """Whatever form the proof accepts is exact, however it came about."""
    chain, quantizer, domain = problem
    stairs = staircase(chain, quantizer, domain)
    for form in found(*problem):
        for change in ({"factor": form.factor + 1}, {"bias": form.bias - 1}, {"shift": form.shift + 1}):
            fields = {k: getattr(form, k) for k in ("factor", "bias", "shift", "half_even", "lo", "hi", "domain")}
            wrong = MultiplyShift(**(fields | change))
            try:
                prove(wrong, chain, quantizer, stairs)
            except ProofError:
                continue
            assert_exact(wrong, *problem)


EDGES: dict[str, tuple[Chain, Quantizer, tuple[Interval, ...]]] = {
    "rising, falling and flat channels": (
        (Affine((F(3, 7), F(-3, 7), F(0)), (F(1, 3),)),),
        Quantizer(ONE, ZERO, -8, 7),
        (Interval(-30, 40), Interval(-40, 30), Interval(-5, 5)),
    ),
    "saturated at both ends": (
        (Affine((F(5, 3), F(-5, 3)), (F(1, 2),)),),
        Quantizer(ONE, ZERO, -4, 3),
        (Interval(-1000, 1000),) * 2,
    ),
    "saturated below in one channel, above in the other": (
        (Affine((F(1, 5), F(1, 5)), (F(-9), F(9))),),
        Quantizer(ONE, ZERO, -8, 7),
        (Interval(-60, 60),) * 2,
    ),
    "constant at different codes": (
        (Affine((F(1, 1000), F(1, 3), F(1, 1000)), (F(3), F(0), F(-2))),),
        Quantizer(ONE, ZERO, -8, 7),
        (Interval(-10, 10),) * 3,
    ),
    "relu": ((Affine((F(2, 9),), ZERO), Clamp(F(0), None)), Quantizer(ONE, ZERO, 0, 15), (Interval(-90, 90),)),
    "relu6 with a zero point": (
        (Affine((F(2, 9), F(-1, 9)), (F(1),)), Clamp(F(0), F(6))),
        Quantizer((F(1, 2),), (F(-5),), -8, 7),
        (Interval(-90, 90),) * 2,
    ),
    "jumps by several codes": (
        (Affine((F(17, 3), F(-41, 2)), (F(1, 4),)),),
        Quantizer(ONE, ZERO, -32, 31),
        (Interval(-9, 9), Interval(-3, 3)),
    ),
    "normalization": (
        (normalize((F(1, 2), F(-1, 3)), (F(3),), (F(2), F(5)), (F(1, 7),)),),
        Quantizer((F(3),), ZERO, -7, 7),
        (Interval(-80, 80),) * 2,
    ),
    "domains of very different size": (
        (Affine((F(1, 3), F(1, 3)), ZERO),),
        Quantizer(ONE, ZERO, -8, 7),
        (Interval(0, 1), Interval(-2000, 3000)),
    ),
}


@pytest.mark.parametrize("problem", EDGES.values(), ids=EDGES)
def test_edges(problem: tuple[Chain, Quantizer, tuple[Interval, ...]]) -> None:
    forms = found(*problem)
    assert forms
    for form in forms:
        assert_exact(form, *problem)


def test_ties_to_even_need_the_dyadic_form() -> None:
    """3/8 of every integer meets ties at both parities; no floor rounds those to even."""
    chain: Chain = (Affine((F(3, 8), F(-5, 8), F(0), F(1, 8)), (F(1, 4), F(1, 8), F(3), F(0))), Clamp(F(-6), None))
    quantizer, domain = Quantizer(ONE, ZERO, -16, 15), (Interval(-60, 60),) * 4
    assert multiply_shift_candidate(chain, quantizer, staircase(chain, quantizer, domain)) is None
    (form,) = found(chain, quantizer, domain)
    assert (form.half_even, form.shift, form.factor.tolist()) == (True, 3, [3, -5, 0, 1])
    assert_exact(form, chain, quantizer, domain)


@pytest.mark.parametrize(
    ("chain", "quantizer"),
    [
        ((Affine((F(1, 4),), ZERO),), Quantizer(ONE, ZERO, 0, 1, bipolar=True)),
        ((Affine((F(1, 3),), ZERO),), Quantizer(ONE, ZERO, -8, 7)),
        ((Affine((F(1, 4),), (F(1, 3),)),), Quantizer(ONE, ZERO, -8, 7)),
        ((Affine((F(1, 4),), ZERO),), Quantizer(ONE, ZERO, -8, 7, "FLOOR")),
        ((normalize(ONE, ZERO, (F(2),), ZERO),), Quantizer(ONE, ZERO, -8, 7)),
    ],
    ids=["bipolar", "slope of 1/3", "offset of 1/3", "another rounding", "irrational slope"],
)
def test_no_dyadic_form_is_suggested_where_none_fits(chain: Chain, quantizer: Quantizer) -> None:
    assert dyadic_candidate(chain, quantizer, staircase(chain, quantizer, (Interval(-40, 40),))) is None


# the smallest shift


def multiplies(chain: Chain, quantizer: Quantizer, interval: Interval, shift: int, codes_: Interval) -> bool:
    """Whether any factor and bias at all compute one channel with this shift, by trying every factor that could.

    For a factor m, each x asks of the bias that v * 2**shift <= m * x + b < (v + 1) * 2**shift, one-sided at the clamps.
    """
    points = np.arange(interval.lo, interval.hi + 1)
    exact = codes(chain, quantizer, points[None].astype(object))[0].tolist()
    reach = (codes_.hi - codes_.lo + 1) << shift
    for m in range(-reach, reach + 1):
        low, high = -(1 << 60), 1 << 60
        for x, v in zip(points.tolist(), exact, strict=True):
            if v > codes_.lo:
                low = max(low, (v << shift) - m * x)
            if v < codes_.hi:
                high = min(high, ((v + 1) << shift) - 1 - m * x)
        if low <= high:
            return True
    return False


@settings(max_examples=60)
@given(
    st.builds(F, st.integers(-30, 30), st.sampled_from([3, 7, 8, 11, 16])),
    st.builds(F, st.integers(-20, 20), st.sampled_from([1, 2, 3, 7])),
    st.tuples(st.integers(-12, 4), st.integers(1, 16)).map(lambda t: Interval(t[0], t[0] + t[1])),
    st.sampled_from([(-4, 3), (0, 3), (-8, 7), (-1, 0)]),
)
def test_no_smaller_shift_will_do(slope: Fraction, offset: Fraction, interval: Interval, ends: tuple[int, int]) -> None:
    chain: Chain = (Affine((slope,), (offset,)),)
    quantizer = Quantizer(ONE, ZERO, *ends, "HALF_UP")
    stairs = staircase(chain, quantizer, (interval,))
    form = multiply_shift_candidate(chain, quantizer, stairs)
    if form is None or form.shift > 5:
        return
    hull = stairs.codes[0]
    for shift in range(form.shift):
        assert not multiplies(chain, quantizer, interval, shift, hull), f"shift {shift} does, {form.shift} was found"


# cost


def counted(domain: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Exact evaluations in the proof of the same 15 steps over a domain of some size, and the comparisons reported."""
    chain: Chain = (Affine((F(1, 3) / domain, F(-1, 7) / domain), (F(1, 5),)),)
    quantizer = Quantizer((F(1, 40),), ZERO, -8, 7, "FLOOR")
    ends = (Interval(-domain, domain),) * 2
    stairs = staircase(chain, quantizer, ends)
    examination = Examination.of(chain, quantizer, stairs)
    form = multiply_shift_candidate(chain, quantizer, stairs)
    assert form is not None
    evaluated = []
    evaluate = MultiplyShift.evaluate
    monkeypatch.setattr(MultiplyShift, "evaluate", lambda self, x: evaluated.append(x.size) or evaluate(self, x))
    proof = examination.prove(form)
    assert proof.comparisons == examination.comparisons
    return sum(evaluated), proof.comparisons


def test_a_proof_costs_as_much_for_any_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {counted(domain, monkeypatch) for domain in (100, 1_000, 10_000, 100_000)}
    (cost,) = costs
    assert cost[0] <= 2 * (2 * 15 + 2)


def test_a_huge_domain_is_proven_at_its_steps_and_right_everywhere_else() -> None:
    """2**31 integers are never visited; samples of them agree with exact arithmetic."""
    chain: Chain = (Affine((F(5, 1 << 20), F(-3, 1 << 20)), (F(1, 3),)), Clamp(F(0), None))
    ends = 1 << 30
    quantizer, domain = Quantizer(ONE, ZERO, 0, 255, "FLOOR"), (Interval(-ends, ends),) * 2
    stairs = staircase(chain, quantizer, domain)
    (form,) = found(chain, quantizer, domain)
    rng = np.random.default_rng(0)
    around = stairs.steps[:, :, None] + np.arange(-3, 4)
    x = np.concatenate([rng.integers(-ends, ends, (2, 5000)), around.reshape(2, -1)], axis=1)
    np.testing.assert_array_equal(np.asarray(form.evaluate(x.T)).T, codes(chain, quantizer, x.astype(object)))
    assert Examination.of(chain, quantizer, stairs).comparisons == 2 * (2 * 255 + 2)


@pytest.mark.parametrize(
    ("slopes_", "span"),
    [((F(1 << 30), F(3, 10)), 1 << 15), ((F(1 << 20), F(1, 3 << 18)), 1 << 20), ((F(1 << 50),), 1 << 30)],
)
def test_steep_channels_beside_flat_ones_do_not_overflow(slopes_: tuple[Fraction, ...], span: int) -> None:
    """Either nothing is found or the product stays inside 62 bits."""
    chain: Chain = (Affine(slopes_, (F(1, 3),)),)
    quantizer, domain = Quantizer(ONE, ZERO, -128, 127), (Interval(-span, span),) * len(slopes_)
    for form in found(chain, quantizer, domain):
        assert form.sum_dtype.width <= 62
        assert int(np.abs(form.factor).max()) * span < 1 << 62


def test_domains_beyond_the_headroom_find_nothing() -> None:
    chain: Chain = (Affine((F(1, 3 << 50),), ZERO),)
    quantizer, domain = Quantizer((F(1, 10),), ZERO, -8, 7), (Interval(-(1 << 55), 1 << 55),)
    assert found(chain, quantizer, domain) == []


@settings(max_examples=60)
@given(problems())
def test_every_bias_is_exact_arithmetic(problem: tuple[Chain, Quantizer, tuple[Interval, ...]]) -> None:
    """The form's own integers, in Python's: floor or half even of (m * x + b) / 2**shift, clamped."""
    for form in found(*problem):
        for channel, interval in enumerate(problem[2]):
            m, b = int(form.factor[channel]), int(form.bias[channel])
            for x in range(interval.lo, interval.hi + 1, 7):
                t = F(m * x + b, 1 << form.shift)
                y = min(max(round(t) if form.half_even else floor(t), form.lo), form.hi)
                row = np.full((1, len(problem[2])), x)
                assert form.evaluate(row)[0, channel] == y
                assert form.sum_dtype.range.lo <= floor(t) <= ceil(t) <= form.sum_dtype.range.hi


# forms on demand

FORMS = ("shift", "multiply-shift", "thresholds", "threshold-search", "table")
FORCED = dict(zip([f"quant{i}" for i in range(6)], (*FORMS, "constant"), strict=True))


def dyadic() -> onnx.ModelProto:
    """One accumulator with six requantizers: five of slopes that every form computes, and one that is constant."""
    net = Network(6, seed=1)
    y = net.node("Gemm", net.quant("x", 0.25, 0, 4), net.weights(6, 4), [0.5, -0.25, 0.0, 1.0])
    return net.finish(*(net.quant(y, 0.25, k, 4) for k in range(5)), net.quant(y, 4096.0, 1, 4), name="forms")


def forms(model: onnx.ModelProto, wishes: dict[str, str]) -> dict[str, str]:
    build = broadaxe.build._design(
        Path("build"), model, broadaxe.config.settings(requantizers=wishes), "net", lambda _: None
    )
    return {n.name: n.op.chosen().name for n in build.graph.nodes if isinstance(n.op, Requantize)}


def test_each_node_gets_the_form_that_is_asked_for_and_all_run_in_cpp(tmp_path: Path, unoptimised: None) -> None:
    build = broadaxe.compile(dyadic(), tmp_path / "build", requantizers=FORCED)
    assert {n.name: n.op.form.name for n in build.graph.nodes if isinstance(n.op, Requantize)} == FORCED
    inputs = random_codes(build.graph, 200, seed=2)
    expected = run(build.graph, inputs, every_value=True)
    plain = run(designed(dyadic())[1], inputs)
    traced = Simulator.of(build.path, build.top, build.graph, build.flow, Mode.NATIVE, traced=True).trace(inputs)
    for name in FORCED:
        np.testing.assert_array_equal(expected[name], plain[name], err_msg=name)
        np.testing.assert_array_equal(traced[name], expected[name], err_msg=name)
        assert len(np.unique(expected[name])) == (1 if name == "quant5" else 16)


@pytest.mark.parametrize("wish", FORMS)
def test_one_form_for_all(wish: str) -> None:
    net = Network(6, seed=1)
    y = net.node("Gemm", net.quant("x", 0.25, 0, 4), net.weights(6, 4), [0.5, -0.25, 0.0, 1.0])
    model = net.finish(net.quant(y, 0.25), net.quant(y, 0.5, 3, 4, 0))
    assert forms(model, {"*": wish}) == {"quant0": wish, "quant1": wish}
    assert forms(model, {"*": wish, "quant1": "table"}) == {"quant0": wish, "quant1": "table"}


def ending(net: Network, kind: str) -> str:
    y = net.node("Gemm", net.quant("x", 0.25, 0, 4), net.weights(6, 4), [0.5, -0.25, 0.0, 1.0])
    match kind:
        case "bipolar":
            return net.bipolar(y)
        case "flat":
            return net.quant(y, 4096.0)
        case "third":
            return net.quant(y, 1 / 3)
        case _:
            return net.quant(net.node("Mul", y, [1.0, -1.0, 0.5, 0.0]), 0.25)


@pytest.mark.parametrize(
    ("kind", "wish", "proven"),
    [
        ("third", "shift", "multiply-shift, table, threshold-search, thresholds"),
        ("third", "constant", "multiply-shift, table, threshold-search, thresholds"),
        ("mixed", "shift", "multiply-shift, table, threshold-search, thresholds"),
        ("bipolar", "multiply-shift", "table, threshold-search, thresholds"),
    ],
)
@pytest.mark.parametrize("name", ["*", "quant0"])
def test_what_cannot_be_proven_is_refused(kind: str, wish: str, proven: str, name: str, tmp_path: Path) -> None:
    net = Network(6, seed=1)
    model = net.finish(ending(net, kind))
    origin = "bipolarquant1 (BipolarQuant)" if kind == "bipolar" else "quant3 (Quant)"
    with pytest.raises(RequestError) as error:
        broadaxe.compile(model, tmp_path / "build", requantizers={name: wish})
    assert str(error.value) == (f"quant0, {origin}: no {wish} requantizer equals it exactly; proven are {proven}")
    assert not (tmp_path / "build").exists()


def test_a_form_for_all_leaves_constants_alone() -> None:
    net = Network(6, seed=1)
    model = net.finish(ending(net, "flat"), ending(net, "third"))
    assert forms(model, {"*": "thresholds"}) == {"quant0": "constant", "quant1": "thresholds"}
    with pytest.raises(RequestError) as error:
        forms(model, {"*": "thresholds", "quant0": "thresholds"})
    assert (
        str(error.value) == "quant0, quant3 (Quant): no thresholds requantizer equals it exactly; proven are constant"
    )


def test_a_form_for_a_node_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError) as error:
        broadaxe.compile(dyadic(), tmp_path / "build", requantizers={"quant9": "table"})
    assert str(error.value) == (
        "requantizers: there is no requantizer 'quant9'; requantizers are quant0, quant1, quant2, quant3, quant4, quant5"
    )


def test_an_unknown_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError) as error:
        broadaxe.compile(dyadic(), tmp_path / "build", requantizers={"*": "lookup"})
    assert str(error.value) == (
        "settings: requantizers.*: 'lookup' is not allowed; use constant, shift, multiply-shift, thresholds,"
        " threshold-search or table"
    )


def test_a_forced_form_keeps_every_code() -> None:
    model = dyadic()
    _, graph, host = designed(model)
    x = samples(50, 6, step=0.125)
    expected = run(graph, host.codes({"x": x}))
    for wish in FORMS:
        wishes = {f"quant{i}": wish for i in range(5)}
        build = broadaxe.build._design(
            Path("build"), model, broadaxe.config.settings(requantizers=wishes), "net", lambda _: None
        )
        for name, values in run(build.graph, host.codes({"x": x})).items():
            np.testing.assert_array_equal(values, expected[name], err_msg=f"{wish}: {name}")
