"""The contract around passes, and what each pass promises."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadaxe.chain import Affine, Chain, Clamp, Quantizer, normalize
from broadaxe.errors import GraphError, ProofError
from broadaxe.ir import Graph, IntArray, Node, Op, Value, infer
from broadaxe.ops import MatVec, Requantize, SlidingWindow, View, WindowMax
from broadaxe.ops.forms import Constant
from broadaxe.passes import PIPELINE, run_passes
from broadaxe.passes.choose_requantizers import NOMINAL_LANES, choose_requantizers
from broadaxe.passes.offset_accumulators import offset_accumulators
from broadaxe.prove.requantizers import candidates, prove
from broadaxe.reference import run
from broadaxe.staircase import Staircase, staircase
from broadaxe.types import Interval, IntType

F = Fraction
ONE, ZERO = (F(1),), (F(0),)
CODES = Quantizer(ONE, ZERO, 0, 15)


def chain_graph(x: Value, *ops: Op, outputs: tuple[int, ...] = (-1,)) -> Graph:
    """Operators one after the other: values `x`, `v0`, `v1`, ...; those at `outputs` are the graph's."""
    values, nodes, at = {x.name: x}, [], x
    for i, op in enumerate(ops):
        at = infer(f"v{i}", op, [at])
        values[at.name] = at
        nodes.append(Node(f"n{i}", op, (list(values)[-2],), at.name, f"m{i} (Op)"))
    return Graph("g", (x.name,), tuple(nodes), tuple(nodes[i].output for i in outputs), values)


def value(*intervals: tuple[int, int], shape: tuple[int, ...] = ()) -> Value:
    bounds = tuple(Interval(lo, hi) for lo, hi in intervals)
    hull = Interval(min(b.lo for b in bounds), max(b.hi for b in bounds))
    return Value("x", (*shape, len(bounds)), hull.dtype, bounds)


def layer(weights: list[list[int]]) -> MatVec:
    return MatVec.of(np.array(weights))


QUARTER = F(1, 4)


def requantize(scale: Fraction = QUARTER, quantizer: Quantizer = CODES) -> Requantize:
    return Requantize((Affine((scale,), ZERO),), quantizer)


def small() -> Graph:
    """x -> n0 matvec -> n1 requantize."""
    return chain_graph(value((0, 3), (-2, 5)), layer([[1, -2], [3, 1]]), requantize())


def with_value(graph: Graph, name: str, **changes: object) -> Graph:
    return replace(graph, values={**graph.values, name: replace(graph.values[name], **changes)})  # type: ignore[arg-type]


# check()


def test_a_sound_graph_checks() -> None:
    small().check()


VIOLATIONS: dict[str, tuple[Callable[[Graph], Graph], str]] = {
    "wrong shape": (
        lambda g: with_value(g, "v0", shape=(1, 2)),
        "n0 (matvec): shape is (1, 2), its inputs give (2,); infer it again",
    ),
    "bounds too tight above": (
        lambda g: with_value(g, "v0", bounds=(Interval(-10, 6), g.values["v0"].bounds[1])),
        "n0 (matvec): channel 0 is bounded by [-10, 6], its inputs allow [-10, 7]; infer it again",
    ),
    "bounds too tight below": (
        lambda g: with_value(g, "v0", bounds=(g.values["v0"].bounds[0], Interval(-1, 14))),
        "n0 (matvec): channel 1 is bounded by [-1, 14], its inputs allow [-2, 14]; infer it again",
    ),
    "type too narrow": (
        lambda g: with_value(g, "v0", dtype=IntType(4, signed=True)),
        "n0 (matvec): bounds [-10, 14] do not fit ap_int<4>; widen the type",
    ),
    "type without a sign": (
        lambda g: with_value(g, "v0", dtype=IntType(32, signed=False)),
        "n0 (matvec): bounds [-10, 14] do not fit ap_uint<32>; widen the type",
    ),
    "type too wide": (
        lambda g: with_value(g, "v0", dtype=IntType(63, signed=True)),
        "n0 (matvec): ap_int<63> is wider than 62 bits; quantize its inputs more coarsely",
    ),
    "input type too narrow": (
        lambda g: with_value(g, "x", dtype=IntType(3, signed=True)),
        "input x: bounds [-2, 5] do not fit ap_int<3>; widen the type",
    ),
    "too few bounds on an input": (
        lambda g: with_value(g, "x", bounds=(Interval(0, 1),)),
        "input x: 1 bounds for 2 channels; give one each",
    ),
    "wrong order": (
        lambda g: replace(g, nodes=g.nodes[::-1]),
        "n1 (requantize): reads v0 before it is computed; order the nodes",
    ),
    "missing producer": (
        lambda g: replace(g, nodes=g.nodes[1:]),
        "n1 (requantize): reads v0 before it is computed; order the nodes",
    ),
    "written twice": (
        lambda g: replace(g, nodes=(*g.nodes, replace(g.nodes[1], name="n2"))),
        "n2 (requantize): writes v1, which is written already; rename it",
    ),
    "an input written": (
        lambda g: replace(g, nodes=(replace(g.nodes[0], output="x"),)),
        "n0 (matvec): writes x, which is written already; rename it",
    ),
    "output never computed": (
        lambda g: replace(g, nodes=g.nodes[:1]),
        "output v1 is never computed; remove it",
    ),
    "scales for another number of channels": (
        lambda g: with_value(g, "v0", scale=(F(1),) * 3),
        "n0 (matvec): 3 entries of scale for 2 channels; give one each",
    ),
    "shifts for another number of channels": (
        lambda g: with_value(g, "v1", shift=(F(1),) * 5),
        "n1 (requantize): 5 entries of shift for 2 channels; give one each",
    ),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_check_finds_each_violation_and_names_the_pass(violation: str) -> None:
    break_it, message = VIOLATIONS[violation]

    def careless_pass(graph: Graph) -> Graph:
        return break_it(graph)

    with pytest.raises(GraphError) as error:
        run_passes(small(), [careless_pass])
    assert str(error.value) == f"after careless_pass: {message}"


@pytest.mark.parametrize(
    "broken",
    [
        lambda g: replace(g, values={n: v for n, v in g.values.items() if n != "v0"}),
        lambda g: replace(g, values={n: v for n, v in g.values.items() if n != "x"}),
        lambda g: with_value(g, "v0", bounds=(Interval(-10, 14),)),
    ],
    ids=["value of a node", "value of an input", "too few bounds"],
)
def test_check_names_missing_values_and_bounds(broken: Callable[[Graph], Graph]) -> None:
    with pytest.raises(GraphError, match=r"^after careless_pass: "):
        broken(small()).check("careless_pass")


def test_a_shape_that_does_not_fit_its_operator() -> None:
    graph = small()
    narrow = replace(graph, nodes=(replace(graph.nodes[0], op=layer([[1, 2, 3]])), *graph.nodes[1:]))
    with pytest.raises(
        GraphError, match=r"^after construction: n0 \(matvec\): 3 weights per output for vectors of 2; give as many$"
    ):
        narrow.check()


def test_bounds_may_shrink_the_type_but_never_the_proof() -> None:
    """Wider bounds than proven are sound; a type wider than the bounds is too."""
    graph = replace(small(), nodes=small().nodes[:1], outputs=("v0",))
    with_value(graph, "v0", bounds=(Interval(-100, 100),) * 2, dtype=IntType(20, signed=True)).check()


def test_a_failing_pass_is_named() -> None:
    def unlucky_pass(graph: Graph) -> Graph:
        raise ProofError("conv2 (Conv): no luck")

    with pytest.raises(ProofError, match=r"^unlucky_pass: conv2 \(Conv\): no luck$"):
        run_passes(small(), [unlucky_pass])


def test_the_pipeline_ends_in_proven_requantizers() -> None:
    assert [step.__name__ for step in PIPELINE][-2:] == ["offset_accumulators", "choose_requantizers"]
    graph = run_passes(small())
    assert all(node.op.form is not None for node in graph.nodes if isinstance(node.op, Requantize))


# offset_accumulators


def random_network(seed: int) -> Graph:
    """window -> matvec -> requantize -> view -> matvec -> requantize, gains of every sign, zero points, uneven bounds."""
    rng = np.random.default_rng(seed)
    channels = int(rng.integers(1, 4))
    lows = rng.integers(-6, 7, size=channels)
    x = value(*[(int(lo), int(lo + rng.integers(0, 9))) for lo in lows], shape=(3, 3))
    window = SlidingWindow((2, 2), pads=(1, 0, 0, 1), pad_codes=(int(rng.integers(-4, 5)),))

    def chain(outputs: int) -> Chain:
        gains = [
            F(int(n), int(d)) for n, d in zip(rng.integers(-5, 6, outputs), rng.choice([2, 4, 3], outputs), strict=True)
        ]
        steps: Chain = (Affine(tuple(gains), tuple(F(int(b), 2) for b in rng.integers(-9, 9, outputs))),)
        if rng.integers(2):
            steps = (
                *steps,
                normalize((F(1), F(-1, 2))[: min(2, outputs)] if outputs == 2 else ONE, ZERO, (F(2),), ZERO),
            )
        return (*steps, Clamp(F(0), None)) if rng.integers(2) else steps

    def quantizer() -> Quantizer:
        lo = int(rng.integers(-8, 1))
        return Quantizer((F(int(rng.integers(1, 5)), 2),), (F(int(rng.integers(-2, 3))),), lo, lo + 15)

    first = MatVec.of(rng.integers(-7, 8, size=(2, 4 * channels)))
    second = MatVec.of(rng.integers(-7, 8, size=(3, 18)))
    return chain_graph(
        x,
        window,
        first,
        Requantize(chain(2), quantizer()),
        View((18,)),
        second,
        Requantize(chain(3), quantizer()),
        outputs=(-1,),
    )


def samples(graph: Graph, count: int = 20) -> dict[str, IntArray]:
    rng = np.random.default_rng(5)
    feeds = {}
    for name in graph.inputs:
        lo, hi = graph.values[name].ends()
        x = rng.integers(lo, hi + 1, size=(count, *graph.values[name].shape))
        x[0], x[1] = lo, hi
        feeds[name] = x
    return feeds


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_offsets_keep_the_integer_function(seed: int) -> None:
    """Codes are equal, accumulators differ by their start, and every accumulator has the width of its widest channel."""
    graph = random_network(seed)
    graph.check()
    centred = offset_accumulators(graph)
    centred.check("offset_accumulators")
    feeds = samples(graph)
    before = run(choose_requantizers(graph), feeds, every_value=True)
    after = run(choose_requantizers(centred), feeds, every_value=True)
    for old, new in zip(graph.nodes, centred.nodes, strict=True):
        was, now = before[old.output], after[new.output]
        if isinstance(new.op, MatVec):
            np.testing.assert_array_equal(now, was + new.op.start)
            bounds, dtype = graph.values[old.output].bounds, centred.values[new.output].dtype
            assert dtype == IntType(max(max(1, (b.hi - b.lo).bit_length()) for b in bounds), signed=True)
            assert reals(centred, new.output, now) == reals(graph, old.output, was)
        else:
            np.testing.assert_array_equal(now, was)
            assert centred.values[new.output] == graph.values[old.output]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_the_whole_pipeline_keeps_every_code_and_every_real(seed: int) -> None:
    """Accumulators may be divided, moved and narrowed: codes stay, and so does what an accumulator stands for."""
    graph = random_network(seed)
    feeds = samples(graph)
    before, final = run(choose_requantizers(graph), feeds, every_value=True), run_passes(graph)
    after = run(final, feeds, every_value=True)
    for node in graph.nodes:
        name = node.output
        if isinstance(node.op, MatVec):
            assert reals(final, name, after[name]) == reals(graph, name, before[name])
            assert final.values[name].dtype.width <= graph.values[name].dtype.width
        else:
            np.testing.assert_array_equal(after[name], before[name])


def reals(graph: Graph, name: str, integers: IntArray) -> list[Fraction]:
    """What the first sample of a value stands for."""
    affine, row = graph.values[name].affine, integers[0].reshape(-1, integers.shape[-1])
    scale, shift = (c * row.shape[1] if len(c) == 1 else c for c in (affine.scale, affine.shift))
    return [a * int(v) + b for line in row for v, a, b in zip(line, scale, shift, strict=True)]


@pytest.mark.parametrize(
    ("bounds", "weights", "width", "starts"),
    [
        ([(0, 15)], [[1]], 4, [-8]),  # [0, 15]: 5 bits signed
        ([(0, 15)], [[-1]], 4, [7]),  # [-15, 0]
        ([(1000, 1003)], [[1]], 2, [-1002]),  # far away
        ([(0, 3), (0, 3)], [[1, 1], [1, -1]], 3, [-4, 0]),  # the second fits as it is
        ([(-8, 7)], [[1]], 4, [0]),  # nothing to win
        ([(5, 5)], [[1]], 1, [-6]),  # a constant row: one bit
        ([(0, 1)], [[3], [1], [0]], 2, [-2, 0, 0]),
    ],
)
def test_known_starts(bounds: list[tuple[int, int]], weights: list[list[int]], width: int, starts: list[int]) -> None:
    graph = offset_accumulators(chain_graph(value(*bounds), layer(weights), requantize()))
    graph.check()
    op = graph.nodes[0].op
    assert isinstance(op, MatVec)
    assert (graph.values["v0"].dtype, op.start.tolist()) == (IntType(width, signed=True), starts)


@pytest.mark.parametrize("reader", [View((2, 1)), WindowMax(2), layer([[1, 1]])], ids=lambda op: op.kind)
def test_what_cannot_absorb_an_offset_keeps_its_accumulator(reader: Op) -> None:
    graph = chain_graph(value((0, 15)), layer([[1], [1]]), reader, requantize())
    changed = offset_accumulators(graph)
    assert changed.nodes[0] is graph.nodes[0]
    assert changed.values["v0"] == graph.values["v0"]


def test_one_reader_that_cannot_absorb_is_enough() -> None:
    graph = chain_graph(value((0, 15)), layer([[1], [1]]), requantize())
    view = infer("w", View((2, 1)), [graph.values["v0"]])
    both = replace(
        graph,
        nodes=(*graph.nodes, Node("n9", View((2, 1)), ("v0",), "w")),
        values={**graph.values, "w": view},
        outputs=("v1", "w"),
    )
    both.check()
    assert offset_accumulators(both).nodes[0] is both.nodes[0]


def test_the_host_and_several_requantizers_absorb() -> None:
    """An accumulator that is an output as well as read by two requantizers: each takes the start back out."""
    graph = chain_graph(value((0, 15)), layer([[1], [-1]]), requantize())
    second = requantize(F(-1, 3), Quantizer(ONE, ZERO, -8, 7))
    graph = replace(
        graph,
        nodes=(*graph.nodes, Node("n9", second, ("v0",), "w")),
        values={**graph.values, "w": infer("w", second, [graph.values["v0"]])},
        outputs=("v0", "v1", "w"),
    )
    centred = offset_accumulators(graph)
    centred.check()
    assert centred.values["v0"].dtype.width == 4
    feeds = {"x": np.arange(16)[:, None]}
    before, after = run(choose_requantizers(graph), feeds), run(choose_requantizers(centred), feeds)
    for name in ("v1", "w"):
        np.testing.assert_array_equal(before[name], after[name])
    for x in range(16):
        assert reals(centred, "v0", after["v0"][x : x + 1]) == [x, -x] == reals(graph, "v0", before["v0"][x : x + 1])


def test_offsets_drop_forms_that_were_proven_for_other_inputs() -> None:
    graph = choose_requantizers(chain_graph(value((0, 15)), layer([[1]]), requantize()))
    moved = offset_accumulators(graph).nodes[1].op
    assert isinstance(moved, Requantize)
    assert (moved.form, moved.comparisons) == (None, 0)


# choose_requantizers


def chosen(scale: Fraction, quantizer: Quantizer, bounds: tuple[int, int] = (-40, 40)) -> Requantize:
    graph = choose_requantizers(chain_graph(value(bounds), requantize(scale, quantizer)))
    graph.check("choose_requantizers")
    op = graph.nodes[0].op
    assert isinstance(op, Requantize)
    return op


@pytest.mark.parametrize("scale", [F(1, 3), F(-1, 4), F(1, 4), F(3, 2), F(-9)])
@pytest.mark.parametrize("rounding", ["ROUND", "FLOOR"])
def test_the_cheapest_proven_form_wins(scale: Fraction, rounding: str) -> None:
    quantizer = Quantizer(ONE, ZERO, -8, 7, rounding)
    op = chosen(scale, quantizer)
    stairs = staircase(op.chain, quantizer, [Interval(-40, 40)])
    costs = {}
    for form in candidates(op.chain, quantizer, stairs):
        with suppress(ProofError):
            prove(form, op.chain, quantizer, stairs)
            costs[form.name] = form.luts(IntType(7, signed=True).width, NOMINAL_LANES)
    assert op.form is not None
    assert costs[op.form.name] == min(costs.values())
    assert "shift" in costs or (scale, rounding) != (F(1, 4), "FLOOR")


def test_a_staircase_without_steps_becomes_a_constant() -> None:
    assert isinstance(chosen(F(1, 1000), Quantizer(ONE, ZERO, -8, 7)).form, Constant)


def test_forms_come_with_the_comparisons_that_proved_them() -> None:
    op = chosen(F(1, 3), Quantizer(ONE, ZERO, -8, 7))
    assert op.comparisons == 2 * 15 + 2


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_chosen_forms_are_the_exact_codes(seed: int) -> None:
    graph = choose_requantizers(random_network(seed))
    for node in graph.nodes:
        if isinstance(node.op, Requantize):
            (x,) = graph.inputs_of(node)
            points = np.array([np.linspace(b.lo, b.hi, 50).astype(np.int64) for b in x.bounds])
            np.testing.assert_array_equal(node.op.reference(points.T).T, node.op.codes(points))


def test_no_form_is_an_error_that_names_the_requantizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates that are all wrong: the pass refuses, instead of taking one."""

    def wrong(chain: Chain, quantizer: Quantizer, stairs: Staircase) -> list[Constant]:
        return [Constant(np.array([99]))]

    monkeypatch.setattr(sys.modules[choose_requantizers.__module__], "candidates", wrong)
    graph = chain_graph(value((0, 9)), requantize())
    with pytest.raises(
        ProofError,
        match=r"^choose_requantizers: n0, m0 \(Op\): no form of requantizer could be proven; report this as a bug$",
    ):
        run_passes(graph, [choose_requantizers])


def test_an_unchosen_requantizer_cannot_run() -> None:
    with pytest.raises(GraphError, match=r"^requantize: no form has been chosen; run the pass choose_requantizers$"):
        run(small(), samples(small()))
