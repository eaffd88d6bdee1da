"""Accumulator bounds against enumeration of tiny layers, and widths against the published formulas."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadaxe.chain import Affine, Quantizer
from broadaxe.errors import GraphError
from broadaxe.ir import Graph, Node, Value, infer
from broadaxe.ops import MatVec, Requantize, SlidingWindow
from broadaxe.passes.offset_accumulators import offset_accumulators
from broadaxe.prove.accumulators import Accumulator, accumulators
from broadaxe.reference import run
from broadaxe.types import Interval, IntType

Row = tuple[int, ...]


def vector(bounds: Iterable[Interval], dtype: IntType | None = None) -> Value:
    bounds = tuple(bounds)
    hull = Interval(min(b.lo for b in bounds), max(b.hi for b in bounds))
    return Value("x", (len(bounds),), dtype or hull.dtype, bounds)


def graph_of(x: Value, *ops: MatVec | SlidingWindow) -> Graph:
    values, nodes, at = {x.name: x}, [], x
    for i, op in enumerate(ops):
        out = infer(f"v{i}", op, [at])
        nodes.append(Node(f"n{i}", op, (at.name,), out.name, f"fc{i} (Gemm)"))
        values[out.name], at = out, out
    return Graph("g", ("x",), tuple(nodes), (at.name,), values)


def only(x: Value, op: MatVec) -> Accumulator:
    (accumulator,) = accumulators(graph_of(x, op))
    return accumulator


def uniform(weights: list[Row], dtype: IntType, weight_dtype: IntType | None = None) -> Accumulator:
    """A layer whose inputs may be anything of their type."""
    return only(vector([dtype.range] * len(weights[0]), dtype), MatVec.of(np.array(weights), weight_dtype))


def inputs(bounds: Iterable[Interval]) -> list[Row]:
    return list(itertools.product(*(range(b.lo, b.hi + 1) for b in bounds)))


def holds(width: int, values: Iterable[int]) -> bool:
    dtype = IntType(width, signed=True)
    return all(dtype.wrap(v) == v for v in values)


def least_signed(values: Iterable[int]) -> int:
    values = list(values)
    return next(w for w in itertools.count(1) if holds(w, values))


small_bounds = st.tuples(st.integers(-5, 5), st.integers(0, 4)).map(lambda p: Interval(p[0], p[0] + p[1]))


@st.composite
def layers(draw: st.DrawFn) -> tuple[tuple[Interval, ...], list[Row], list[int]]:
    depth, outputs = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    weights = draw(st.lists(st.tuples(*[st.integers(-4, 4)] * depth), min_size=outputs, max_size=outputs))
    starts = draw(st.one_of(st.just([0] * outputs), st.lists(st.integers(-30, 30), min_size=outputs, max_size=outputs)))
    return draw(st.tuples(*[small_bounds] * depth)), weights, starts


@settings(max_examples=150, deadline=None)
@given(layers())
def test_intervals_are_those_of_all_inputs(layer: tuple[tuple[Interval, ...], list[Row], list[int]]) -> None:
    bounds, weights, starts = layer
    op = MatVec.of(np.array(weights), None, np.array(starts))
    got = only(vector(bounds), op)
    every = inputs(bounds)
    for c, (row, start) in enumerate(zip(weights, starts, strict=True)):
        sums = [sum(w * x for w, x in zip(row, xs, strict=True)) for xs in every]
        assert got.sums[c] == Interval(min(sums), max(sums))
        assert got.channel_bits[c] == least_signed(sums)
        assert op.bounds(vector(bounds))[c] == Interval(min(sums) + start, max(sums) + start)
    assert got.exact_bits == max(got.channel_bits)
    assert got.starts == tuple(starts)


@settings(max_examples=100, deadline=None)
@given(layers())
def test_prefix_hull_is_that_of_all_orders(layer: tuple[tuple[Interval, ...], list[Row], list[int]]) -> None:
    """Every partial sum in every order is the sum of a subset; the empty one is the start."""
    bounds, weights, _ = layer
    op = MatVec.of(np.array(weights))
    prefixes = op.prefix_hull(vector(bounds))
    widest = 1
    for row, prefix in zip(weights, prefixes, strict=True):
        partial = {
            sum(row[i] * xs[i] for i in order[:length])
            for xs in inputs(bounds)
            for order in itertools.permutations(range(len(row)))
            for length in range(len(row) + 1)
        }
        assert prefix == Interval(min(partial), max(partial))
        widest = max(widest, least_signed(partial))
    assert only(vector(bounds), op).prefix_bits == widest


@settings(max_examples=150, deadline=None)
@given(layers())
def test_the_proven_width_is_minimal(layer: tuple[tuple[Interval, ...], list[Row], list[int]]) -> None:
    """The declared width holds all sums, and at one bit less a witness of the widest channel wraps."""
    bounds, weights, _ = layer
    x, op = vector(bounds), MatVec.of(np.array(weights))
    ends = [[witness_sum(op, x, c, end) for end in (0, 1)] for c in range(op.outputs)]
    got = only(x, op)
    assert got.width == got.exact_bits
    assert all(holds(got.width, pair) for pair in ends)
    assert got.width == 1 or any(not holds(got.width - 1, pair) for pair in ends)


def witness_sum(op: MatVec, x: Value, channel: int, end: int) -> int:
    attained = op.witnesses([x], channel)
    assert attained is not None
    (inputs_at_end,) = attained[end]
    assert all(v in b for v, b in zip(inputs_at_end.tolist(), x.bounds, strict=True))
    return int(op.reference(np.array([inputs_at_end]))[0, channel])


@settings(max_examples=150, deadline=None)
@given(layers())
def test_the_offset_width_is_minimal_over_all_starts(
    layer: tuple[tuple[Interval, ...], list[Row], list[int]],
) -> None:
    bounds, weights, _ = layer
    graph = graph_of(vector(bounds), MatVec.of(np.array(weights)))
    (plain,), (centred,) = accumulators(graph), accumulators(offset_accumulators(graph))
    assert plain.offset_bits == centred.offset_bits == centred.width <= plain.width
    assert centred.sums == plain.sums
    assert centred.mode == ("offset" if any(centred.starts) else "two's complement")
    for interval, start in zip(centred.sums, centred.starts, strict=True):
        assert holds(centred.width, (interval.lo + start, interval.hi + start))
    # no start lets one bit less hold the channel with the widest interval
    widest = max(centred.sums, key=lambda s: s.span)
    if centred.width > 1:
        low = range(-(1 << centred.width) - widest.hi, (1 << centred.width) - widest.lo)
        assert not any(holds(centred.width - 1, (widest.lo + s, widest.hi + s)) for s in low)


@settings(max_examples=100, deadline=None)
@given(layers(), st.integers(0, 3))
def test_bounds_come_in_the_order_of_their_knowledge(
    layer: tuple[tuple[Interval, ...], list[Row], list[int]], spare: int
) -> None:
    """data type >= l1 >= exact >= offset, and prefix >= exact, with signed weights of any declared width."""
    bounds, weights, _ = layer
    hull = Interval(min(b.lo for b in bounds), max(b.hi for b in bounds))
    x = vector(bounds, hull.dtype)
    narrow = Interval(min(map(min, weights)), max(map(max, weights))).signed_dtype
    got = only(x, MatVec.of(np.array(weights), IntType(narrow.width + spare, signed=True)))
    assert got.datatype_bits >= got.l1_bits >= got.exact_bits >= got.offset_bits
    assert got.prefix_bits >= got.exact_bits
    assert (got.weight_bits, got.input_bits) == (narrow.width + spare, hull.dtype.width)


# Published formulas and counter-examples


@pytest.mark.parametrize(
    ("depth", "inputs_", "weight_bits", "expected"),
    [
        (64, IntType(8, signed=True), 4, 18),
        (256, IntType(8, signed=True), 4, 20),
        (256, IntType(8, signed=False), 8, 25),
        (576, IntType(4, signed=True), 4, 17),
        (576, IntType(8, signed=False), 8, 26),
        (1, IntType(1, signed=False), 1, 3),
    ],
)
def test_the_data_type_bound(depth: int, inputs_: IntType, weight_bits: int, expected: int) -> None:
    """The smallest P with 2**(P - 1) - 1 >= K * 2**(N + M - 1 - signed), whatever the weights are."""
    got = uniform([(0,) * depth], inputs_, IntType(weight_bits, signed=True))
    assert got.datatype_bits == expected
    worst = depth << (inputs_.width + weight_bits - 1 - inputs_.signed)
    assert 2 ** (expected - 1) - 1 >= worst > 2 ** (expected - 2) - 1


@pytest.mark.parametrize(
    ("row", "inputs_", "expected"),
    [
        ((1,) * 16, IntType(8, signed=False), 14),
        ((7,) * 64, IntType(8, signed=False), 18),
        ((7, -7) * 32, IntType(8, signed=True), 17),
        ((0,) * 9, IntType(4, signed=False), 1),
    ],
)
def test_the_l1_bound(row: Row, inputs_: IntType, expected: int) -> None:
    """The smallest P with ||w||_1 <= (2**(P - 1) - 1) * 2**(signed - N)."""
    assert uniform([row], inputs_).l1_bits == expected
    norm = sum(map(abs, row)) << (inputs_.width - inputs_.signed)
    assert 2 ** (expected - 1) - 1 >= norm
    assert expected == 1 or norm > 2 ** (expected - 2) - 1


def test_a_final_sum_is_narrower_than_its_prefixes() -> None:
    """Eight weights of +1 and eight of -1, inputs in [8, 15]: 7 bits hold the sum, its prefixes need 8."""
    x = vector([Interval(8, 15)] * 16)
    got = only(x, MatVec.of(np.array([[1] * 8 + [-1] * 8])))
    assert got.sums == (Interval(-56, 56),)
    assert MatVec.of(np.array([[1] * 8 + [-1] * 8])).prefix_hull(x) == (Interval(-120, 120),)
    assert (got.exact_bits, got.prefix_bits, got.offset_bits, got.width) == (7, 8, 7, 7)


def test_a_zero_centred_norm_is_no_certificate() -> None:
    """K = 256, W8A8: a row inside ||q||_1 <= (2**21 - 2)/(2**8 - 1) that does not sum to zero needs 22 bits."""
    row = (32,) * 224 + (33,) * 32
    assert sum(row) <= (2**21 - 2) / (2**8 - 1)
    assert uniform([row], IntType(8, signed=False)).exact_bits == 22


def test_widths_beyond_what_float_logarithms_decide() -> None:
    """Sums up to 2**52 and 2**52 - 1 differ in width; float64 log2 tells them apart no more."""
    x = vector([Interval(0, 1 << 26)])
    assert only(x, MatVec.of(np.array([[1 << 26]]))).exact_bits == 54
    assert only(vector([Interval(0, (1 << 52) - 1)]), MatVec.of(np.array([[1]]))).exact_bits == 53
    assert only(vector([Interval(0, (1 << 60) + 1)]), MatVec.of(np.array([[1]]))).exact_bits == 62
    assert only(vector([Interval(0, (1 << 60) - 1)]), MatVec.of(np.array([[1]]))).exact_bits == 61


def test_sums_that_int64_might_not_hold_are_refused() -> None:
    x = vector([Interval(0, 1 << 40)] * 4)
    with pytest.raises(GraphError) as error:
        MatVec.of(np.array([[1 << 20] * 4])).bounds(x)
    assert str(error.value) == "matvec: an accumulator may pass 62 bits; quantize its inputs more coarsely"


def test_the_data_type_bound_holds_for_unsigned_weights() -> None:
    got = uniform([(15,) * 7], IntType(8, signed=False), IntType(4, signed=False))
    assert got.exact_bits == 16
    assert got.datatype_bits >= got.l1_bits >= got.exact_bits


# Padding and zero points


@pytest.mark.parametrize("pad", [-3, 0, 2, 7])
@pytest.mark.parametrize("pads", [(0, 1, 0, 0), (1, 0, 0, 1), (1, 1, 1, 1), (0, 0, 0, 0)])
def test_padding_is_inside_the_bounds(pad: int, pads: tuple[int, int, int, int]) -> None:
    """All 3**4 images of codes 1..3 (zero point outside), with the code of a real zero around them."""
    image = Value("x", (2, 2, 1), IntType(2, signed=False), (Interval(1, 3),))
    window, op = SlidingWindow((2, 2), pads=pads, pad_codes=(pad,)), MatVec.of(np.array([[2, -1, 3, -2], [1, 1, 1, 1]]))
    graph = graph_of(image, window, op)
    graph.check()
    every = np.array(list(itertools.product((1, 2, 3), repeat=4))).reshape(-1, 2, 2, 1)
    values = run(graph, {"x": every}, every_value=True)
    for name in ("v0", "v1"):
        lo, hi = graph.values[name].ends()
        assert (values[name] >= lo).all()
        assert (values[name] <= hi).all()
    # the window's bounds are attained tap by tap
    taps = values["v0"].reshape(-1, 4)
    assert graph.values["v0"].bounds == tuple(Interval(int(t.min()), int(t.max())) for t in taps.T) or any(pads)
    for tap, bound in zip(taps.T, graph.values["v0"].bounds, strict=True):
        assert {bound.lo, bound.hi} <= set(tap.tolist())
    (accumulator,) = accumulators(graph)
    lows, highs = zip(*((b.lo, b.hi) for b in graph.values["v0"].bounds), strict=True)
    for row, interval in zip(op.weights.tolist(), accumulator.sums, strict=True):
        ends = [[min(w * a, w * b), max(w * a, w * b)] for w, a, b in zip(row, lows, highs, strict=True)]
        assert interval == Interval(sum(e[0] for e in ends), sum(e[1] for e in ends))


def test_bounds_shrink_along_the_network() -> None:
    """The second layer is sized from what the first requantizer can give, not from its type."""
    x = vector([Interval(0, 3)] * 2)
    first = MatVec.of(np.array([[1, 1], [1, -1]]))
    acc = infer("v0", first, [x])
    one, zero = (Fraction(1),), (Fraction(0),)
    chain, quantizer = (Affine(one, zero),), Quantizer(one, zero, 0, 255)
    codes = infer("v1", Requantize(chain, quantizer), [acc])
    assert codes.dtype == IntType(8, signed=False)
    assert codes.bounds == (Interval(0, 6), Interval(0, 3))
    second = infer("v2", MatVec.of(np.array([[1, 1]])), [codes])
    assert second.bounds == (Interval(0, 9),)
    assert second.dtype == IntType(5, signed=True)


def test_the_report_of_a_layer() -> None:
    got = uniform([(3, -4), (1, 2), (0, 0)], IntType(4, signed=False), IntType(4, signed=True))
    assert got == Accumulator(
        name="n0",
        origin="fc0 (Gemm)",
        op="Gemm",
        macs=6,
        depth=2,
        outputs=3,
        weight_bits=4,
        input_bits=4,
        datatype_bits=10,
        l1_bits=8,
        exact_bits=7,
        prefix_bits=7,
        offset_bits=7,
        width=7,
        mode="two's complement",
        sums=(Interval(-60, 45), Interval(0, 45), Interval(0, 0)),
        starts=(0, 0, 0),
        tile=None,
        inner=None,
    )
