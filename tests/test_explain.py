"""`broadaxe explain`: its figures against arithmetic of the tests' own, one bit less by brute force, and the C++."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Network, design

import broadaxe
from broadaxe import Build, alone
from broadaxe.errors import RequestError
from broadaxe.ir import constant_array
from broadaxe.ops.budget import words
from broadaxe.ops.dot import Dot
from broadaxe.ops.mac import Accumulating, Mac
from broadaxe.passes.offset_accumulators import absorbed
from broadaxe.prove.accumulators import accumulators
from broadaxe.reference import run as reference
from broadaxe.reports.explain import explain
from broadaxe.reports.explanation import Explanation
from broadaxe.reports.one_bit_less import fewest_steps

Once = Callable[[str, Callable[[Path], object]], Path]


# Networks with a layer of every kind


def image() -> onnx.ModelProto:
    """Convolutions of every kind, one of them read by an addition as it is, and pools."""
    net = Network(2, 6, 6, seed=4)
    x = net.quant("x", 1 / 16, 3, bits=4, signed=0)
    y = net.norm(net.conv(x, (4, 2, 3, 3), pads=[1] * 4), [1.0, -0.5, 0.25, 2.0])
    trunk = net.quant(net.node("Relu", y), 0.1, bits=3, signed=0)
    y = net.quant(net.conv(trunk, (4, 2, 3, 3), group=2, pads=[1] * 4), 0.5, bits=4)
    y = net.quant(net.depthwise(y, 4, pads=[1] * 4), 0.3, bits=4)
    y = net.quant(net.node("Add", net.conv(y, (4, 4, 1, 1)), trunk), 0.2, bits=4)
    y = net.node("AveragePool", y, kernel_shape=[2, 2], strides=[2, 2])
    return net.finish(net.node("GlobalAveragePool", net.quant(y, 0.11, bits=4)))


def attention() -> onnx.ModelProto:
    """A product of two activations, one of them with a zero code."""
    net = Network(3, 8, seed=5)
    x = net.quant("x", 0.25, bits=4)
    q = net.quant(net.node("MatMul", x, net.weights(8, 8)), 0.5, 3, bits=4, signed=0)
    k = net.quant(net.node("MatMul", x, net.weights(8, 8)), 0.25, 0, bits=3)
    return net.finish(net.quant(net.node("MatMul", q, net.node("Transpose", k, perm=[0, 2, 1])), 1.0, bits=6))


def rows() -> onnx.ModelProto:
    """A layer in tiles, and one behind it."""
    net = Network(16, seed=6)
    y = net.node("MatMul", net.quant("x", 0.25, bits=4, signed=0), net.weights(16, 12), name="tiled")
    y = net.quant(net.node("Relu", y), 0.5, bits=3, signed=0)
    model = net.finish(net.node("MatMul", y, net.weights(12, 4)), name="rows")
    tiled = next(node for node in model.graph.node if node.name == "tiled")
    for key, value in (("tile", "4"), ("inner_bits", "10"), ("outer_bits", "12")):
        tiled.metadata_props.add(key=f"broadaxe.{key}", value=value)
    return model


def signs() -> onnx.ModelProto:
    """Bipolar weights and inputs."""
    net = Network(9, seed=7)
    y = net.bipolar(net.node("MatMul", net.bipolar("x"), net.bipolar(net.rng.normal(size=(9, 6)))))
    return net.finish(net.node("MatMul", y, net.bipolar(net.rng.normal(size=(6, 3)))))


def tiny() -> onnx.ModelProto:
    """Three products: small enough to try every input."""
    net = Network(3, seed=8)
    weights = net.quant(np.array([[3, -1, 2], [2, 3, -3], [-2, 3, 0]]) / 8, 0.125, bits=4)
    y = net.quant(net.node("MatMul", net.quant("x", 0.25, bits=2, signed=0), weights, name="fc"), 0.5, bits=3)
    return net.finish(net.node("MatMul", y, net.weights(3, 2)), name="tiny")


RUNTIME: dict[str, Any] = {"weights": "runtime", "accumulators": {"*": 13}}
CASES: dict[str, tuple[Callable[[], onnx.ModelProto], dict[str, Any]]] = {
    "image": (image, {}),
    "attention": (attention, {"folding": {"matmul0": {"pe": 2, "simd": 1, "multiplier": "packed"}}}),
    "rows": (rows, {}),
    "loadable": (rows, RUNTIME),
    "signs": (signs, {}),
    "tiny": (tiny, {}),
}


@pytest.fixture(params=CASES)
def build(request: pytest.FixtureRequest) -> Build:
    model, options = CASES[request.param]
    return design(model(), **options)


def layers(build: Build) -> list[tuple[Any, Accumulating]]:
    return [(node, node.op) for node in build.graph.nodes if isinstance(node.op, Accumulating)]


def products(build: Build, node: Any, op: Accumulating, channel: int) -> list[tuple[int, int]]:
    """Least and largest of each product, one at a time in Python integers."""
    values = build.graph.inputs_of(node)
    if isinstance(op, Dot):
        pairs = [
            [(p - op.zeros[0]) * (q - op.zeros[1]) for p in (a.lo, a.hi) for q in (b.lo, b.hi)]
            for a, b in zip(values[0].bounds, values[1].bounds, strict=True)
        ]
        return [(min(corners), max(corners)) for corners in pairs]
    assert isinstance(op, Mac)
    index = op.operand_indices()
    index = index[channel if len(index) > 1 else 0]
    bounds = [values[0].bounds[i] for i in index]
    ends = [(int(w) * b.lo, int(w) * b.hi) for w, b in zip(op.weights[channel], bounds, strict=True)]
    return [(min(pair), max(pair)) for pair in ends]


def holds(lo: int, hi: int, bits: int, start: int | None) -> bool:
    """Whether an accumulator of so many bits holds an interval from a start, or from any where it is free."""
    half = 1 << (bits - 1)
    starts = range(-half - hi, half - lo + 1) if start is None else (start,)
    return any(-half <= lo + s and hi + s < half for s in starts)


def narrowest(lo: int, hi: int, start: int | None) -> int:
    return next(bits for bits in itertools.count(1) if holds(lo, hi, bits, start))


# Figures


def test_every_figure_of_every_channel(build: Build) -> None:
    """Ends, terms, shares, widths and what overflows one bit less, computed again one product at a time."""
    sizes = {a.name: a for a in accumulators(build.graph)}
    for node, op in layers(build):
        known = [products(build, node, op, c) for c in range(op.outputs)]
        ends = [(sum(p[0] for p in row), sum(p[1] for p in row)) for row in known]
        free = absorbed(build.graph, node)
        for channel in range(op.outputs):
            e = explain(build, node.name, channel)
            lo, hi = ends[channel]
            assert (e.least, e.most, e.depth, e.channels) == (lo, hi, op.depth, op.outputs)
            assert [sum(t.together[i] for t in e.terms) for i in range(2)] == [lo, hi]
            assert sum(t.count for t in e.terms) == e.positive.count + e.negative.count + e.zeros == op.depth
            assert e.positive.least + e.negative.least == lo
            assert e.positive.most + e.negative.most == hi
            assert (e.ladder.exact_bits, e.ladder.offset_bits) == (narrowest(lo, hi, 0), narrowest(lo, hi, None))
            assert e.ladder.datatype_bits == sizes[node.name].datatype_bits
            assert e.ladder.l1_bits <= sizes[node.name].l1_bits
            assert e.channel_bits == narrowest(lo, hi, int(op.start[channel]))
            assert e.width == build.graph.values[node.output].dtype.width
            prefix = [sum(f(p[i], 0) for p in known[channel]) + e.start for i, f in enumerate((min, max))]
            assert list(e.ladder.prefix) == prefix
            if e.less is None:
                assert e.width == 1
                continue
            over = [
                c for c, (a, b) in enumerate(ends) if not holds(a, b, e.width - 1, None if free else int(op.start[c]))
            ]
            assert (list(e.less.channels), e.less.bits, e.less.free_start) == (over, e.width - 1, free)
            assert {o.channel for o in e.less.worst} >= {*over[:1], *({channel} & set(over))}
            if isinstance(op, Mac) and not (op.weights == 1).all():
                check_changes(build, node, op, e, free)
        assert explain(build, node.name).widest


def check_changes(build: Build, node: Any, op: Mac, e: Explanation, free: bool) -> None:
    """The named changes are steps towards 0, as many as said, and with them the channel fits one bit less."""
    assert e.less is not None
    for over in e.less.worst:
        weights = op.weights.copy()
        for change in over.changes:
            assert weights[over.channel, change.product] == change.before
            assert abs(change.after) < abs(change.before)
            assert change.before * change.after >= 0
            weights[over.channel, change.product] = change.after
        assert over.steps == np.abs(op.weights - weights).sum() > 0
        changed: dict[str, Any] = {"weights": constant_array(weights)}
        ends = products(build, node, replace(op, **changed), over.channel)
        start = None if free else int(op.start[over.channel])
        assert holds(sum(p[0] for p in ends), sum(p[1] for p in ends), e.less.bits, start)


def test_l1_is_that_of_the_largest_row() -> None:
    build = design(image())
    sizes = {a.name: a.l1_bits for a in accumulators(build.graph)}
    for node, op in layers(build):
        assert max(explain(build, node.name, c).ladder.l1_bits for c in range(op.outputs)) == sizes[node.name]


@st.composite
def rows_to_shrink(draw: st.DrawFn) -> tuple[list[int], list[tuple[int, int]], list[int], bool]:
    count, free = draw(st.integers(1, 3)), draw(st.booleans())
    weights = draw(st.lists(st.integers(-3, 3), min_size=count, max_size=count))
    ends = [tuple(sorted(draw(st.tuples(st.integers(-4, 5), st.integers(-4, 5))))) for _ in range(count)]
    needs = [draw(st.integers(-3, 12)) for _ in range(1 if free else 2)]
    return weights, ends, needs, free  # type: ignore[return-value]


@settings(max_examples=1000)
@given(rows_to_shrink())
def test_fewest_steps_by_trying_all(case: tuple[list[int], list[tuple[int, int]], list[int], bool]) -> None:
    """Steps that are given do what is needed; where fewer are said not to, trying them all says so too."""
    weights, ends, needs, free = case
    lo, hi = (np.array(side) for side in zip(*ends, strict=True))

    def enough(steps: tuple[int, ...]) -> bool:
        before, after = (span(w) for w in (weights, [w - np.sign(w) * s for w, s in zip(weights, steps, strict=True)]))
        least, most = before[0] - after[0], before[1] - after[1]
        return most - least >= needs[0] if free else most >= needs[0] and -least >= needs[1]

    def span(row: list[int]) -> tuple[int, int]:
        pairs = [sorted((int(w) * a, int(w) * b)) for w, (a, b) in zip(row, ends, strict=True)]
        return sum(p[0] for p in pairs), sum(p[1] for p in pairs)

    taken, fewest = fewest_steps(np.array(weights), lo, hi, needs, free)
    known = [sum(s) for s in itertools.product(*(range(abs(w) + 1) for w in weights)) if enough(s)]
    if taken is None:
        assert not (known and free)
        return
    assert enough(tuple(taken.tolist()))
    assert taken.sum() >= min(known)
    assert not fewest or taken.sum() == min(known)
    assert fewest or not free


def test_one_bit_less_on_every_input() -> None:
    """Of three products of two bits, all 64 inputs: one bit less holds just the channels that are not named."""
    build = design(tiny())
    op = build.graph.node("matmul0").op
    assert isinstance(op, Mac)
    inputs = np.array(list(itertools.product(range(4), repeat=3)), dtype=np.uint8)
    sums = op.reference(inputs) - op.start
    e = explain(build, "matmul0")
    assert e.less is not None
    for channel in range(3):
        ends = int(sums[:, channel].min()), int(sums[:, channel].max())
        one = explain(build, "matmul0", channel)
        assert (one.least, one.most) == ends
        assert (channel in e.less.channels) == (not holds(*ends, e.width - 1, None))
    assert e.less.channels


# The text


def test_the_text() -> None:
    assert str(explain(design(tiny()), "fc", 1)) == TEXT.strip()


TEXT = """
matmul0, fc (MatMul): channel 1 of 3, among the widest, 5 bits

What it adds up
  3 products of int4 weights and uint2 inputs, in the order of the inputs.
  The inputs are those of the network's input x.
  Proven intervals of the inputs: 3 x 0 to 3.

  count  weight  input   each product  least  most
      2       3  0 to 3  0 to 9            0    18
      1      -1  0 to 3  -3 to 0          -3     0
      3  in all                           -3    18
  most  18 + 0 = 18: 2 positive with largest inputs, 1 negative with least
  least 0 - 3 = -3: 2 positive with least inputs, 1 negative with largest

Why 5 bits
  data type  8 bits  any values  3 x 2^5 = 96 <= 2^7 - 1
  l1         6 bits  any inputs  7 x 2^2 = 28 <= 2^5 - 1
  exact      6 bits  as proven   -2^5 <= -3, 18 <= 2^5 - 1
  offset     5 bits  best start  most - least = 21 <= 2^5 - 1
  5 bits from 0 would not do: 18 > 2^4 - 1 = 15. 5 bits are declared: the sum
    starts at -13 and so reaches -16 to 5, within -2^4 and 2^4 - 1. What reads
    it takes the start back out, exactly. The interval may grow by 10 counts
    before it leaves this accumulator.
  Partial sums, in any order, stay within -16 to 5 (5 bits); the adders wrap, so
    that only the whole sum has to fit.

One bit less
  With 4 bits 2 of 3 channels would overflow, from whatever start: 0, 1.
  Channel 1 is over by 6 counts: most - least = 21 > 2^4 - 1 = 15.
  Making 2 weights one step nearer to 0 would do, and fewer would not: 2 from 3
    to 2 (input 1, ...).
  Others are over as well: channel 0 by 6 (2 steps).
  It would save 9 LUT and 16 FF in the kernel, what reads it and FIFOs (model).

Inputs that attain both ends
  -3: inputs at their largest where the weight is negative, at their least
    elsewhere. 18: at their largest where it is positive. The layer reads the
    network's input itself, so that inputs of the network attain both.
"""


def test_many_channels_and_products_stay_readable() -> None:
    """1,000 channels, and 4,608 products, in under 60 lines of 80 characters."""
    for depth, outputs in ((16, 1000), (4608, 3)):
        net = Network(depth, seed=3)
        y = net.quant(net.node("MatMul", net.quant("x", 0.25, bits=8), net.weights(depth, outputs, bits=8)), 64.0)
        lines = str(explain(design(net.finish(y)), "matmul0")).splitlines()
        assert len(lines) < 60
        assert max(map(len, lines)) <= 80


def test_observed_sums_are_told() -> None:
    build = broadaxe.build.observing(design(tiny()), np.array([[0.0, 0.25, 0.75], [0.5, 0.5, 0.0]], dtype=np.float32))
    e = explain(build, "fc", 0)
    assert e.seen is not None
    assert (e.seen.samples, e.seen.least, e.seen.most) == (2, -4, 10)
    assert "Observed on 2 samples: -4 to 10, 67 % of the proven interval" in str(e).replace("\n    ", " ")


# The witness


def test_inputs_of_the_network_attain_both_ends(tmp_path: Path) -> None:
    """The file's rows, through the model's own quantizer, take the channel to both ends of its sum."""
    build = design(image())
    file = tmp_path / "ends.npz"
    for channel in range(4):
        e = explain(build, "conv0", channel, witness=file)
        arrays = dict(np.load(file))
        assert list(arrays) == ["x", "conv0.window0"]
        assert e.witness.arrays == ("x", "conv0.window0")
        assert e.witness.network == (e.least, e.most)
        sums = reference(build.graph, build.codes({"x": arrays["x"]}), every_value=True)["conv0"][..., channel]
        assert [int(sums[0].min()), int(sums[1].max())] == [e.least + e.start, e.most + e.start]
        op = build.graph.node("conv0").op
        assert (op.reference(arrays["conv0.window0"])[:, channel] - e.start).tolist() == [e.least, e.most]
        assert [e.witness.low.sum, e.witness.high.sum] == [e.least, e.most]


def test_a_head_before_the_quantizer_is_inverted(tmp_path: Path) -> None:
    net = Network(3, seed=2)
    y = net.node("MatMul", net.quant(net.node("Div", "x", 255.0), 1 / 255, bits=8, signed=0), net.weights(3, 2))
    build = design(net.finish(net.quant(y, 0.5)))
    e = explain(build, "matmul0", witness=tmp_path / "ends.npz")
    sums = reference(build.graph, build.codes({"x": np.load(tmp_path / "ends.npz")["x"]}), every_value=True)["matmul0"]
    assert e.witness.network == (e.least, e.most)
    assert (sums[:, e.channel] - e.start).tolist() == [e.least, e.most]


def test_where_every_window_holds_pad_codes_the_network_attains_less() -> None:
    """A 3 x 3 window on 2 x 2 pixels: five taps are always outside, others only sometimes."""
    net = Network(1, 2, 2, seed=9)
    y = net.conv(net.quant("x", 0.25, 3, bits=4, signed=0), (1, 1, 3, 3), pads=[1] * 4)
    build = design(net.finish(net.quant(y, 0.5)))
    e = explain(build, "conv0")
    assert e.witness.network is not None
    lo, hi = e.witness.network
    every = np.array(list(itertools.product((0, 15), repeat=4))).reshape(-1, 2, 2, 1)
    sums = reference(build.graph, {build.graph.inputs[0]: every}, every_value=True)["conv0"] - e.start
    assert (lo, hi) == (int(sums.min()), int(sums.max()))
    assert (e.least, e.most) != (lo, hi)
    assert f"and inputs of the network attain {lo} to {hi} at most" in str(e).replace("\n    ", " ")


def test_layers_behind_others_have_inputs_of_their_own(tmp_path: Path) -> None:
    e = explain(design(image()), "conv1", witness=tmp_path / "ends.npz")
    assert e.witness.network is None
    assert list(np.load(tmp_path / "ends.npz")) == ["conv1.window1"]


# The C++


@pytest.mark.usefixtures("unoptimised")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in ("image", "attention", "rows"))) for name in CASES]
)
def test_the_declared_kernel_holds_and_the_narrower_one_does_not(name: str, once: Once) -> None:
    """Every layer of every kind, its widest channel and its first."""
    model, options = CASES[name]
    build = broadaxe.load(once(f"explain_{name}", lambda path: broadaxe.compile(model(), path, **options)))
    for node, op in layers(build):
        for channel in {None, 0} if name in ("tiny", "signs") else {None}:
            e = explain(build, node.name, channel, run=True)
            assert e.run is not None
            assert e.run.holds
            assert (e.run.declared.low, e.run.declared.high) == e.run.expected
            if e.mode == "loadable":  # its budget's ends, not those of the present weights
                assert [end.sum for end in e.run.expected] == [-(1 << (e.width - 1)), (1 << (e.width - 1)) - 1]
            else:
                assert [end.sum for end in e.run.expected] == [e.least + e.start, e.most + e.start]
            if e.run.narrower is None:
                assert e.channel_bits == 1
                continue
            bits = e.run.narrower.bits
            assert bits == (e.width if e.mode == "loadable" else e.channel_bits) - 1
            for got, right in zip((e.run.narrower.low, e.run.narrower.high), e.run.expected, strict=True):
                assert -(1 << (bits - 1)) <= got.sum < 1 << (bits - 1)
                assert (got.sum - right.sum) % (1 << bits) == 0
        assert isinstance(op, Accumulating)


@pytest.mark.usefixtures("unoptimised")
def test_a_kernel_that_is_too_narrow_is_found(
    once: Once, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., tuple[int, str, str]]
) -> None:
    """A declared accumulator a bit too narrow: the command says so and exits with 1."""
    folder = tmp_path / "narrow"
    broadaxe.compile(tiny(), folder)
    header = folder / "firmware" / "types.hpp"
    text = header.read_text()
    declared = "typedef ap_int<5> matmul0_t;"
    assert declared in text
    header.write_text(text.replace(declared, declared.replace("5", "4")))
    code, _, err = run("explain", folder, "matmul0", "--run")
    assert code == 1
    assert err.endswith(f"error: {header}: is missing or was changed after compilation; compile again\n")
    monkeypatch.setattr(alone, "check_files", lambda folder: 0)
    code, out, _ = run("explain", folder, "matmul0", "--run")
    assert code == 1
    assert out.endswith("! differs: NOT as it should be.\n")


def test_words_on_both_sides_of_2_to_the_63() -> None:
    """As packed weights of a loadable layer may be; in one numpy array of float64 they would lose their last bits."""
    made = words([[(1 << 63) + 1, 1]], [-1])
    assert made.tolist() == [(1 << 63) + 1, 1, (1 << 64) - 1]


# The command


def test_command(tmp_path: Path, once: Once, run: Callable[..., tuple[int, str, str]]) -> None:
    folder = once("explain_tiny", lambda path: broadaxe.compile(tiny(), path))
    code, out, _ = run("explain", folder, "fc", "--channel", "1")
    assert (code, out) == (0, TEXT.lstrip("\n"))
    code, out, _ = run("explain", folder, "matmul0", "--json")
    assert code == 0
    assert Explanation.model_validate_json(out) == explain(folder, "matmul0")
    assert json.loads(out)["layer"] == "matmul0"
    file = tmp_path / "ends.npz"
    code, out, _ = run("explain", folder, "fc (MatMul)", "--witness", file)
    assert code == 0
    assert f"Written to {file}" in out.replace("\n    ", " ")
    code, _, _ = run("simulate", folder, "--data", file, "-o", tmp_path / "y.npz")
    assert code == 0


def test_refusals(tmp_path: Path, once: Once, run: Callable[..., tuple[int, str, str]]) -> None:
    folder = once("explain_tiny", lambda path: broadaxe.compile(tiny(), path))
    file = tmp_path / "ends.npz"
    for arguments, message in (
        (
            ["matmul7"],
            "layer matmul7: tiny_top has no multiply-accumulate layer of that name; did you mean matmul1 or matmul0?",
        ),
        (["zzz"], "layer zzz: tiny_top has no multiply-accumulate layer of that name; layers are matmul0, matmul1"),
        (["quant0"], "layer quant0: is a requantize, which has no accumulator; layers are matmul0, matmul1"),
        (["matmul0", "--channel", "3"], "matmul0: has no channel 3; its channels are 0 to 2"),
        (["matmul0", "--channel", "-1"], "matmul0: has no channel -1; its channels are 0 to 2"),
    ):
        code, out, err = run("explain", folder, *arguments, "--witness", file)
        assert (code, out) == (2, "")
        assert err.splitlines()[-1] == f"error: {message}"
        assert not file.exists()
        with pytest.raises(RequestError) as error:  # of a build in memory, which no report describes
            explain(broadaxe.load(folder), arguments[0], int(arguments[2]) if arguments[1:] else None)
        assert str(error.value) == message
    with pytest.raises(RequestError) as error:
        explain(folder, "matmul0", witness=tmp_path / "ends.txt")
    assert str(error.value) == f"{tmp_path / 'ends.txt'}: results are .npz files; name the output *.npz"


def test_weights_that_are_all_one_are_weights() -> None:
    """Unlike those of a pool."""
    net = Network(3)
    build = design(net.finish(net.node("MatMul", net.quant("x", bits=4, narrow=1), net.quant(np.ones((3, 1)), 1.0))))
    found = explain(build, "matmul0")
    assert (found.least, found.most, found.width) == (-21, 21, 6)
    assert found.less is not None
    (over,) = found.less.worst
    assert (over.excess, over.steps, over.fewest) == (11, 1, True)
    net = Network(1, 2, 2)
    pool = net.node("AveragePool", net.quant("x", bits=4), kernel_shape=[2, 2])
    less = explain(design(net.finish(pool)), "avgpool0").less
    assert less is not None
    assert [over.steps for over in less.worst] == [None]


def test_one_count_too_many_is_too_many() -> None:
    net = Network(4)
    ones = net.quant(np.ones((4, 1)), 1.0)
    found = explain(design(net.finish(net.node("MatMul", net.quant("x", 1.0, bits=1, signed=0), ones))), "matmul0")
    assert (found.least, found.most) == (0, 4)
    assert found.less is not None
    assert [(over.channel, over.excess, over.steps) for over in found.less.worst] == [(0, 1, 1)]
    assert found.less.channels == (0,)
