"""The comparison with float32 onnxruntime: flips at rounding boundaries are explained, and nothing else ever is.

Most networks here have scales whose ratio is a power of two but for their rounding to float32, so that a good part of all
values lies within 2**-22 of a tie: exact arithmetic sees on which side, float32 does not.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import onnx
import pytest
from models import Network, design, evaluate, f32, samples

from broadaxe import verify
from broadaxe.build import Build
from broadaxe.chain import Affine, Chain, then
from broadaxe.chain import moved as moved_chain
from broadaxe.float_bound import FloatBound
from broadaxe.frontend.standard import expand_quant, session
from broadaxe.host import real, rounding
from broadaxe.ir import constant_array
from broadaxe.ops import MatVec, Requantize
from broadaxe.ops.forms import Thresholds
from broadaxe.passes.choose_requantizers import choose_requantizers
from broadaxe.reference import run
from broadaxe.segments import SegmentReport, compare_segments
from broadaxe.verification import Verification

LINE = re.compile(r"(\w+) \(([\d, ]+)\): our code is (-?\d+), float32 gives (\S+), exactly (\S+) before rounding")


def compare(build: Build, x: np.ndarray) -> SegmentReport:
    data = {"x": np.asarray(x, f32)}
    return compare_segments(build, data, build.codes(data))


def product(*scales: float, times: float = 1.0) -> float:
    """A scale near `times` the product of others: the nearest float32."""
    exact = times
    for scale in scales:
        exact *= float(f32(scale))
    return float(f32(exact))


def tied(seed: int = 0, modes: tuple[str, ...] = ("ROUND",)) -> onnx.ModelProto:
    """Two layers whose quantizers are twice as coarse as their accumulators, but for float32."""
    net = Network(2, seed=seed)
    y = net.node("MatMul", net.quant("x", 0.1, 0, 4), net.weights(2, 3, scale=0.3, bits=3))
    y = [net.quant(y, product(0.1, 0.3, times=2), 0, 6, mode=mode) for mode in modes]
    z = net.node("MatMul", y[0], net.weights(3, 2, scale=0.7, bits=3))
    return net.finish(*y, net.quant(z, product(0.1, 0.3, 2, 0.7, times=2), 1, 8))


def all_codes() -> np.ndarray:
    """Every pair of 4-bit codes, in the steps of `tied`."""
    return np.stack(np.meshgrid(np.arange(-8, 8), np.arange(-8, 8)), axis=-1).reshape(-1, 2) * f32(0.1)


# what is counted


def float_tensors(model: onnx.ModelProto, x: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    return dict(zip(names, session(expand_quant(model), outputs=names).run(names, {"x": x.astype(f32)}), strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_flips_and_differing_inputs_are_counted(seed: int) -> None:
    """The first layer's float segment is the float model itself; end to end every tensor counts."""
    model, x = tied(seed), all_codes()
    report = compare(design(model), x)
    exact, scaled = evaluate(model, {"x": x.astype(f32)})
    names = list(scaled)
    theirs = float_tensors(model, x, names)
    apart = {n: np.abs(theirs[n] - exact[n].astype(float)) > 0.01 for n in names}
    near = np.abs(scaled[names[0]] * 2 - np.round((scaled[names[0]] * 2).astype(float))).astype(float) < 2.0**-21
    assert near.mean() > 0.8
    assert apart[names[0]].any()
    assert report.flips >= apart[names[0]].sum()
    assert report.activations == sum(s.size for s in scaled.values())
    assert (report.inputs, report.differing) == (
        256,
        int(np.any([a.any(axis=1) for a in apart.values()], axis=0).sum()),
    )
    assert report.unexplained == []


def test_one_layer_has_as_many_flips_as_float32_has_other_codes() -> None:
    net = Network(2)
    y = net.node("MatMul", net.quant("x", 0.1, 0, 4), net.weights(2, 3, scale=0.3, bits=3))
    model = net.finish(net.quant(y, product(0.1, 0.3, times=2), 0, 6))
    x = all_codes()
    report = compare(design(model), x)
    exact, (name,) = (found := evaluate(model, {"x": x.astype(f32)}))[0], found[1]
    differ = np.abs(float_tensors(model, x, [name])[name] - exact[name].astype(float)) > 0.01
    assert 20 < report.flips == differ.sum()
    assert report.differing == differ.any(axis=1).sum()
    assert report.unexplained == []


def test_power_of_two_networks_have_no_flips() -> None:
    net = Network(2, 5, 5, seed=1)
    y = net.quant(net.conv(net.quant("x", 0.25, 1), (4, 2, 3, 3), pads=[1] * 4), 0.5, 0, 4, 0)
    z = net.quant(net.depthwise(y, 4, pads=[1] * 4), 0.25)
    z = net.quant(net.node("Relu", net.node("Add", y, z)), 0.5, 0, 4, 0)
    z = net.node("MaxPool", net.node("Concat", z, y, axis=1), kernel_shape=[2, 2])
    z = net.quant(net.node("AveragePool", z, kernel_shape=[2, 2]), 0.25, 0, 6)
    z = net.quant(net.node("Gemm", net.node("Flatten", z), net.weights(72, 3), [0.5, 0.0, 1.0]), 0.5)
    report = compare(design(net.finish(z)), samples(70, 2, 5, 5, step=0.125))
    assert (report.flips, report.unexplained, report.inputs, report.differing) == (0, [], 70, 0)
    assert report.activations == 70 * (4 * 25 * 3 + 8 * 9 + 3)


def test_a_network_without_quantizers_behind_its_input_is_compared_at_its_output() -> None:
    net = Network(2)
    report = compare(design(net.finish(net.node("MatMul", net.quant("x"), net.weights(2, 3)))), samples(5, 2))
    assert report == SegmentReport(inputs=5, outputs=15)  # powers of two: no difference at all


# flips that need a good bound: each would look unexplained to a careless one


def explained(model: onnx.ModelProto, x: np.ndarray, least: int = 1, **options: object) -> SegmentReport:
    report = compare(design(model, **options), x)
    assert report.flips >= least
    assert report.unexplained == []
    return report


def around(net: Network, y: str, scale: object, bits: int) -> list[str]:
    """Quantizers whose scales differ by some 2**-20, so that values come to lie all around the ties, near and less near."""
    steps = (-9, -4, -2, -1, -1 / 8, -1 / 16, 0, 1 / 16, 1 / 8, 1, 2, 4, 9)
    return [net.quant(y, np.asarray(scale) * (1 + k * 2.0**-20), 0, bits) for k in steps]


@pytest.mark.parametrize("mode", ["HALF_UP", "HALF_DOWN", "FLOOR", "CEIL", "UP", "DOWN"])
def test_flips_of_every_rounding_mode(mode: str) -> None:
    net = Network(2)
    y = net.node("MatMul", net.quant("x", 0.1, 0, 4), net.weights(2, 3, scale=0.3, bits=3))
    explained(net.finish(net.quant(y, product(0.1, 0.3, times=2), 0, 6, mode=mode)), all_codes())


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0]])
@pytest.mark.parametrize("relu", [False, True], ids=["of accumulators", "of codes"])
def test_flips_before_a_max_pool(relu: bool, pads: list[int]) -> None:
    """The tap that float32 lifts is not always the first of the largest; padding, which comes first, explains nothing."""
    net = Network(1, 3, 2)
    y = net.conv(net.quant("x", 0.07, 0, 4), None, weight=net.quant(np.full((1, 1, 1, 1), 0.3), 0.3, 0, 3))
    y = net.node("MaxPool", net.node("Relu", y) if relu else y, kernel_shape=[2, 2], pads=pads)
    x = np.random.default_rng(0).integers(-8, 8, (200, 1, 3, 2)) * f32(0.07)
    explained(net.finish(*around(net, y, product(0.07, 0.3, times=2), 5)), x, least=40)


def test_cancelling_zero_points_of_a_window() -> None:
    """Codes near 0 stand for reals near -128 steps; products of hundreds cancel to a sum of a few steps."""
    net = Network(1, 5, 5, seed=2)
    weight = np.array([[[[7, -7], [-6, 6]]], [[[7, -7], [7, -7]]], [[[5, -6], [-6, 7]]]]) * f32(0.3)
    y = net.conv(net.quant("x", 0.1, 128, 8, 0), None, weight=net.quant(weight, 0.3, 0, 4))
    x = np.random.default_rng(0).integers(-128, -125, (60, 1, 5, 5)) * f32(0.1)
    explained(net.finish(*around(net, y, product(0.1, 0.3, times=2), 6)), x, least=20)


@pytest.mark.parametrize("zero_points", [[0, 100, -100], [90, -90, 90]])
def test_cancelling_zero_points_per_channel(zero_points: list[int]) -> None:
    net = Network(3, 4, 4, seed=3)
    zero = np.array(zero_points).reshape(1, 3, 1, 1)
    y = net.conv(net.quant("x", 0.1, zero, 8), (3, 3, 1, 1), weight=net.weights(3, 3, 1, 1, scale=0.3))
    x = np.random.default_rng(0).integers(-2, 3, (60, 3, 4, 4)) * f32(0.1) - zero * f32(0.1) * (zero == 100)
    explained(net.finish(*around(net, y, product(0.1, 0.3, times=2), 12)), x, least=20)


@pytest.mark.parametrize("factor", [64.0, 2.0**-6])
def test_a_factor_behind_the_sum_scales_its_error(factor: float) -> None:
    """Large products that cancel, then a constant factor: the error of the sum grows or shrinks with it."""
    net = Network(4, seed=4)
    weight = np.tile([7, -7, 6, -6], (3, 1)).T + np.random.default_rng(0).integers(-1, 2, (4, 3))
    y = net.node("MatMul", net.quant("x", 0.1, 0, 8), net.quant(weight * f32(0.3), 0.3, 0, 5))
    y = net.node("Mul", y, factor)
    x = (np.random.default_rng(1).integers(100, 104, (200, 4))) * f32(0.1)
    explained(net.finish(*around(net, y, product(0.1, 0.3, times=2 * factor), 9)), x, least=20)


def test_constants_that_cancel_behind_the_sum() -> None:
    net = Network(2, seed=5)
    y = net.node("MatMul", net.quant("x", 0.1, 0, 4), net.weights(2, 3, scale=0.3, bits=3))
    y = net.node("Sub", net.node("Add", y, [100.0, 1000.0, 3000.0]), [100.0, 1000.0, 3000.0])
    explained(net.finish(*around(net, y, product(0.1, 0.3, times=2), 6)), all_codes(), least=40)


def test_a_normalization_with_a_mean_that_cancels_the_bias() -> None:
    net = Network(2, seed=6)
    mean = [10.0, 100.0, 500.0]
    y = net.node("Gemm", net.quant("x", 0.1, 0, 4), net.weights(2, 3, scale=0.3, bits=3), mean)
    y = net.norm(y, [0.1, -0.3, 0.7], [0.0] * 3, mean, [0.3, 0.7, 1.1], epsilon=0.0)
    step = product(0.1, 0.3) * np.array([0.1, 0.3, 0.7]) / np.sqrt([0.3, 0.7, 1.1]) * 2
    explained(net.finish(*around(net, y, step, 6)), all_codes(), least=20)


def test_large_averages_of_steps_above_one() -> None:
    net = Network(2, 4, 4, seed=7)
    y = net.quant("x", 30.1, 0, 8)
    outputs = around(net, net.node("GlobalAveragePool", y), product(30.1, times=0.125), 12)
    mean = net.node("ReduceMean", y, np.array([2, 3]), keepdims=0)
    outputs += around(net, mean, product(30.1, times=0.125), 12)
    for pads in ([0, 0, 0, 0], [1, 1, 0, 0]):
        outputs += around(net, net.node("AveragePool", y, kernel_shape=[2, 2], pads=pads), product(30.1, times=0.5), 10)
    x = np.random.default_rng(0).integers(-128, 128, (16, 2, 4, 4)) * f32(30.1)
    explained(net.finish(*outputs), x, least=40)


@pytest.mark.parametrize("op_type", ["Add", "Sub"])
def test_sums_of_activations_and_of_accumulators(op_type: str) -> None:
    """Two sums of opposite sign cancel before anything is rounded; a layer reads a sum that has cancelled too."""
    net = Network(4, seed=8)
    x = net.quant("x", 0.1, 0, 8)
    sign = -1 if op_type == "Add" else 1
    weight = np.tile([7, -7, 6, -6], (3, 1)).T
    near = sign * weight + np.eye(4, 3, dtype=int)
    parts = [net.node("MatMul", x, net.quant(w * f32(0.3), 0.3, 0, 5)) for w in (weight, near)]
    y = net.node(op_type, *parts)
    first = around(net, y, product(0.1, 0.3, times=2), 9)
    z = net.node("Sub", x, net.quant("x", product(0.1, times=1), 3, 8))
    second = around(net, net.node("MatMul", z, net.weights(4, 3, scale=0.3)), product(0.1, 0.3, times=2), 8)
    x = np.random.default_rng(1).integers(110, 126, (200, 4)) * f32(0.1)
    explained(net.finish(*first, *second), x, least=40)


def test_quantizers_in_a_row_and_of_integer_inputs() -> None:
    net = Network(3, seed=9)
    y = net.quant(net.node("Mul", "x", 0.1), product(0.1, times=2), 3, 6)
    z = net.quant(y, product(0.1, times=4), -1, 5)
    x = np.random.default_rng(1).integers(-32, 32, (100, 3))
    explained(net.finish(z, net.quant(net.node("Neg", y), product(0.1, times=4))), x, least=20, inputs={"x": "int6"})


def test_the_largest_of_an_integer_input() -> None:
    net = Network(5)
    build = design(
        net.finish(net.node("ArgMax", "x", axis=1), net.quant(net.node("Neg", "x"), 3.0)), inputs={"x": "int4"}
    )
    x = np.random.default_rng(0).integers(-8, 8, (20, 5)).astype(f32)
    report = compare_segments(build, {"x": x}, build.codes(x))
    assert (report.inputs, report.unexplained, report.beyond) == (20, [], [])


def test_an_average_of_an_integer_input() -> None:
    net = Network(2, 3, 3)
    build = design(net.finish(net.quant(net.node("GlobalAveragePool", "x"), 0.3, 0, 6, 0)), inputs={"x": "uint4"})
    x = np.random.default_rng(0).integers(0, 16, (20, 2, 3, 3)).astype(f32)
    report = compare_segments(build, {"x": x}, build.codes(x))
    assert (report.activations, report.unexplained) == (40, [])


# networks at random


def random_network(seed: int) -> tuple[onnx.ModelProto, np.ndarray]:
    """Everything that may stand between two quantizers, with a scale near a multiple of the accumulator's step behind it."""
    net = Network(3, 4, 4, seed=seed)
    pick = net.rng.choice

    def quantizer(y: str, step: float) -> tuple[str, float]:
        scale = product(step, times=float(pick([0.5, 1.0, 2.0, 4.0])))
        mode = str(pick(["ROUND", "ROUND", "HALF_UP", "FLOOR"]))
        return net.quant(y, scale, int(pick([0, 0, 3, -7])), int(pick([4, 6, 8])), int(pick([0, 1])), 0, mode), scale

    scale = float(pick([0.1, 3.7, 0.013, 41.3]))
    x = net.rng.integers(-20, 20, (12, 3, 4, 4)) * f32(scale)
    y = net.quant("x", scale, int(pick([0, 5])), int(pick([4, 6])), int(pick([0, 1])))
    outputs = []  # reals that go into a MaxPool, too
    for _ in range(3):
        kind, skip = pick(["conv", "depthwise", "average", "sum", "norm"]), y
        w = float(pick([0.3, 0.07, 1.9]))
        step, pads = scale, [int(v) for v in pick([0, 1], 2)] * 2
        match kind:
            case "conv":
                y = net.conv(
                    y, None, weight=net.weights(3, 3, 2, 2, scale=w), pads=[1, 0, 0, 1], bias=net.rng.normal(size=3)
                )
                step = product(scale, w)
            case "depthwise":
                y = net.node("Mul", net.depthwise(y, 3, weight=net.weights(3, 1, 3, 3, scale=w), pads=[1] * 4), 0.3)
                step = product(scale, w, 0.3)
            case "average":
                y = net.node("AveragePool", y, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=int(pads[0]))
                step = product(scale, times=1 / 9)
            case "sum":
                other = net.quant(net.conv(y, (3, 3, 1, 1)), scale, int(pick([0, 2])), 6)
                y = net.node(str(pick(["Add", "Sub"])), y, other)
            case "norm":
                y = net.conv(y, None, weight=net.weights(3, 3, 1, 1, scale=w))
                y = net.norm(y, [0.7, -0.3, 1.1], variance=[0.49, 0.09, 1.21], mean=[5.0, -3.0, 0.0], epsilon=0.0)
                step = product(scale, w)
        if kind in ("conv", "depthwise", "norm") and pick([0, 1]):
            outputs.append(y)
            y = net.node("MaxPool", y, kernel_shape=[2, 2], pads=[1, 0, 0, 1])
        y, scale = quantizer(net.node("Relu", y) if pick([0, 1]) else y, step)
        assert skip != y
    return net.finish(y, *outputs), x


def test_no_difference_of_a_random_network_is_unexplained() -> None:
    flips, outputs = 0, 0
    for seed in range(40):
        model, x = random_network(seed)
        report = compare(design(model), x)
        assert (report.unexplained, report.beyond) == ([], []), f"seed {seed}"
        flips += report.flips
        outputs += report.outputs
    assert flips > 1000
    assert outputs > 1000


# bugs are no flips


def planted(build: Build, kind: type, change: object) -> Build:
    """The build with the first operator of a kind replaced by change(operator)."""
    at = next(i for i, node in enumerate(build.graph.nodes) if isinstance(node.op, kind))
    nodes = list(build.graph.nodes)
    nodes[at] = replace(nodes[at], op=change(nodes[at].op))
    return replace(build, graph=replace(build.graph, nodes=tuple(nodes)))


def moved(channel: int, level: int, by: int) -> object:
    def change(op: Requantize) -> Requantize:
        assert isinstance(op.form, Thresholds)
        thresholds = np.array(op.form.thresholds)
        thresholds[channel, level] += by
        return replace(op, form=replace(op.form, thresholds=constant_array(thresholds)))

    return change


def lines(report: SegmentReport) -> list[tuple[str, tuple[int, ...], int, float, float]]:
    """Tensor, index, our code, float32's value and the exact one of every difference that has no explanation."""
    found = [LINE.fullmatch(line) for line in report.unexplained]
    assert all(found), report.unexplained
    return [(m[1], tuple(map(int, m[2].split(","))), int(m[3]), float(m[4]), float(m[5])) for m in found]


def ramp(ratio: float, mode: str = "ROUND") -> onnx.ModelProto:
    """x of steps 0.1, times `ratio` in codes of the output, on two channels."""
    net = Network(2)
    y = net.node("MatMul", net.quant("x", 0.1, 0, 5), net.quant(np.eye(2) * 0.3, 0.3, 0, 2))
    return net.finish(net.quant(y, product(0.1, 0.3, times=1 / ratio), 0, 5, mode=mode))


RAMP = np.arange(-16, 16)[:, None] * np.ones(2) * f32(0.1)


@pytest.mark.parametrize("by", [-1, 1])
def test_a_threshold_off_by_one_is_unexplained(by: int) -> None:
    build = design(ramp(0.4), requantizers={"*": "thresholds"})
    assert compare(build, RAMP).flips == 0
    for level in range(4):
        found = lines(compare(planted(build, Requantize, moved(1, level, by)), RAMP))
        ((tensor, (sample, channel), code, theirs, exact),) = found
        assert (tensor, channel) == ("quant3_out", 1)
        assert exact == pytest.approx((sample - 16) * 0.03)
        assert theirs == pytest.approx(round((sample - 16) * 0.4) * 0.075, rel=1e-5)
        assert code == round((sample - 16) * 0.4) - by


@pytest.mark.parametrize("by", [-1, 1])
def test_a_wrong_code_is_unexplained_even_on_a_tie(by: int) -> None:
    """Where float32 may round either way, our code still has to be the exact one."""
    build = design(ramp(0.5), requantizers={"*": "thresholds"})
    before = compare(build, RAMP)
    assert before.flips > 0
    assert before.unexplained == []
    form = next(node.op.form for node in build.graph.nodes if isinstance(node.op, Requantize))
    seen = 0
    for level in range(form.levels):
        report = compare(planted(build, Requantize, moved(0, level, by)), RAMP)
        apart = report.flips - before.flips
        assert apart in (-1, 1)  # our wrong code is float32's, or it is not
        found = lines(report)
        assert len(found) == max(apart, 0)
        seen += len(found)
    assert seen > 4


def test_the_message_names_tensor_index_and_three_values() -> None:
    build = design(ramp(0.4), requantizers={"*": "thresholds"})
    report = compare(planted(build, Requantize, moved(1, 0, 1)), RAMP)
    (line,) = report.unexplained
    assert line == "quant3_out (3, 1): our code is -6, float32 gives -0.375, exactly -0.390000021 before rounding"


@pytest.mark.parametrize("mode", ["ROUND", "FLOOR"])
@pytest.mark.parametrize("off", [1e-3, -1e-3, 1e-5, -1e-5])
def test_the_bound_is_not_vacuous(off: float, mode: str) -> None:
    """A value 1e-3 (or 1e-5) of a code off its rounding boundary is no excuse for a code off by one."""
    boundary = 0.5 if mode == "ROUND" else 1.0
    build = design(ramp(boundary + off, mode), requantizers={"*": "thresholds"})
    assert compare(build, RAMP[16:18]).flips == 0
    right = int(np.floor(boundary + off + (0.5 if mode == "ROUND" else 0)))
    form = next(node.op.form for node in build.graph.nodes if isinstance(node.op, Requantize))
    level = int(np.searchsorted(form.thresholds[0], 1)) - right  # the step that x = 1 lies on one side of
    wrong = planted(build, Requantize, moved(0, level, 1 if right else -1))
    ((_, index, code, theirs, exact),) = [line for line in lines(compare(wrong, RAMP[17:18])) if line[1][1] == 0]
    assert index == (0, 0)
    assert code == 1 - right
    assert theirs == pytest.approx(right * 0.03 / (boundary + off), rel=1e-5)
    assert exact == pytest.approx(0.03, rel=1e-6)


def test_a_wrong_weight_is_unexplained() -> None:
    build = design(ramp(0.4))

    def change(op: MatVec) -> MatVec:
        weights = np.array(op.weights)
        weights[0, 0] *= 2
        return replace(op, weights=constant_array(weights))

    found = lines(compare(planted(build, MatVec, change), RAMP / 2))
    assert {line[1][1] for line in found} == {0}
    assert len(found) >= 8


def test_a_wrong_scale_is_unexplained() -> None:
    """The requantizer is proven, but for a chain that is not the model's."""
    build = design(ramp(0.4))

    def change(op: Requantize) -> Requantize:
        (affine,) = op.chain
        return replace(op, chain=(Affine(tuple(s * 9 / 8 for s in affine.scale), affine.shift),), form=None)

    wrong = planted(build, Requantize, change)
    found = lines(compare(replace(wrong, graph=choose_requantizers(wrong.graph)), RAMP))
    assert len(found) > 4
    assert all(abs(exact) > abs((index[0] - 16) * 0.03) for _, index, _, _, exact in found)


def test_a_bug_before_a_max_pool_is_unexplained() -> None:
    net = Network(1, 2, 2)
    y = net.conv(net.quant("x", 0.1, 0, 5), None, weight=net.quant(np.full((2, 1, 1, 1), 0.3), 0.3, 0, 2))
    y = net.quant(net.node("MaxPool", y, kernel_shape=[2, 2]), product(0.1, 0.3, times=2.5), 0, 5)
    build = design(net.finish(y), requantizers={"*": "thresholds"})
    x = np.random.default_rng(0).integers(-16, 16, (100, 1, 2, 2)) * f32(0.1)
    assert compare(build, x).flips == 0
    found = lines(compare(planted(build, Requantize, moved(1, 8, 1)), x))
    assert found
    assert {line[1][1] for line in found} == {1}
    largest = x.reshape(100, -1).max(axis=1)
    assert all(exact == pytest.approx(largest[index[0]] * 0.3) for _, index, _, _, exact in found)


def test_a_bug_in_a_truncation_by_one_bit_is_unexplained() -> None:
    net = Network(2)
    y = net.node("MatMul", net.quant("x", 0.1, 0, 5), net.quant(np.eye(2) * 0.3, 0.3, 0, 2))
    y = net.trunc(y, product(0.1, 0.3), 0, 6, product(0.1, 0.3, times=2), 5)
    model = net.finish(y)
    model.opset_import[1].version = 2
    build = design(model, requantizers={"*": "thresholds"})
    assert compare(build, RAMP).flips == 0
    found = lines(compare(planted(build, Requantize, moved(0, 4, 1)), RAMP))
    assert [line[1][1] for line in found] == [0]


# outputs in reals

BEYOND = re.compile(
    r"(\w+) \(([\d, ]+)\), (\w+ \(\w+\)): our integers give (\S+), float32 gives (\S+), apart by more than (\S+)"
)


def tails() -> dict[str, tuple[onnx.ModelProto, np.ndarray]]:
    """Float ends of networks: what no quantizer rounds, at scales that float32 cannot multiply exactly."""
    found = {}

    def add(name: str, net: Network, *outputs: str, x: object) -> None:
        found[name] = (net.finish(*outputs), np.asarray(x, f32))

    def layer(seed: int, scale: float = 0.3) -> tuple[Network, str]:
        net = Network(2, seed=seed)
        return net, net.node("MatMul", net.quant("x", 0.1, 3, 4), net.weights(2, 3, scale=scale, bits=3))

    net, y = layer(0)
    add("accumulator", net, y, x=all_codes())
    net, y = layer(1)
    y = net.node("Sub", net.node("Add", y, [100.0, -1000.0, 3000.0]), [100.1, -1000.0, 2999.9])
    add("constants that cancel", net, net.node("Div", net.node("Mul", y, [0.7, -3.1, 1e-3]), 0.7), x=all_codes())
    net, y = layer(2)
    y = net.norm(y, [0.1, -0.3, 0.7], mean=[10.0, 100.0, 0.0], variance=[1e-3, 0.7, 1.1])
    add(
        "normalization",
        net,
        net.node("Clip", y, f32(-0.4), f32(0.3)),
        net.node("Neg", net.node("Relu", y)),
        x=all_codes(),
    )
    net, y = layer(3)
    add("unsigned codes", net, net.node("Relu", net.quant(y, 0.17, 0, 8)), x=all_codes())
    net = Network(3, 4, 4, seed=4)
    y = net.quant("x", 30.1, 5, 8)
    means = [net.node("GlobalAveragePool", y), net.node("ReduceMean", y, np.array([2, 3]), keepdims=0)]
    windows = net.node("AveragePool", y, kernel_shape=[2, 2], pads=[1, 0, 1, 0])
    y = net.conv(y, (4, 3, 2, 2), bias=[1000.0, -0.1, 0.0, 7.0], pads=[1, 1, 0, 0])
    codes = np.random.default_rng(0).integers(-128, 128, (70, 3, 4, 4))
    add("image", net, *means, windows, net.node("Transpose", y, perm=[0, 2, 3, 1]), x=codes * f32(30.1))
    net, y = layer(5)
    z = net.node("MatMul", net.quant(y, 0.17, 0, 8), net.weights(3, 4, scale=0.7, bits=6))
    add("softmax", net, net.node("Softmax", net.node("Add", z, [0.1, 0.2, 0.3, 0.4]), axis=1), x=all_codes())
    return found


TAILS = tails()


@pytest.mark.parametrize("name", TAILS)
def test_outputs_in_reals_lie_within_their_bounds(name: str) -> None:
    model, x = TAILS[name]
    build = design(model)
    report = compare(build, x)
    assert report.beyond == []
    assert report.outputs == sum(o.index.size for o in build.lowered.outputs) * len(x)
    assert report.largest < 1
    if name not in ("unsigned codes", "softmax"):
        assert report.largest > 0.01  # float32 does err, and the bound is of its size


@pytest.mark.parametrize("name", TAILS)
def test_our_reals_lie_within_their_own_rounding(name: str) -> None:
    """Against exact rationals: what the host may add to float32's error is neither too small nor out of proportion."""
    model, x = TAILS[name]
    build = design(model)
    codes = run(build.graph, build.codes({"x": x}))
    exact, _ = evaluate(model, {"x": x})
    parts = []
    for output in build.lowered.outputs:
        off = np.abs(real(output, codes[output.value]).astype(object) * Fraction(1) - exact[output.tensor])
        parts.append((off / rounding(output, codes[output.value]).astype(object)).astype(float).max())
    assert max(parts) < 1
    assert max(parts) > 0.1 or name == "unsigned codes"


def test_the_rounding_of_a_mean_that_cancels() -> None:
    """1e9 taken from 1e9 leaves float64 errors that float32 would show."""
    net = Network(2, seed=6)
    y = net.node("Gemm", net.quant("x", 0.1, 0, 4), net.weights(2, 3, scale=0.3, bits=3), [1e9] * 3)
    model = net.finish(net.norm(y, [0.1, -0.3, 0.7], [0.0] * 3, [1e9] * 3, [0.3, 0.7, 1.1]))
    build, x = design(model), all_codes()
    codes = run(build.graph, build.codes({"x": x}))
    (output,) = build.lowered.outputs
    exact = evaluate(model, {"x": x.astype(f32)})[0][output.tensor]
    off = np.abs(real(output, codes[output.value]).astype(object) * Fraction(1) - exact).astype(float)
    assert (off > np.abs(exact).astype(float) * 2.0**-24).any()
    assert (off <= rounding(output, codes[output.value])).all()


def test_a_mean_over_an_image_rounds_as_often_as_its_global_pool() -> None:
    net = Network(3, 4, 5)
    y = net.quant("x")
    means = [net.node("GlobalAveragePool", y), net.node("ReduceMean", y, np.array([2, 3]), keepdims=0)]
    bound = FloatBound.of(expand_quant(net.finish(*means)), [y], means, {y: (1, 3, 4, 5)})
    assert [bound.roundings[name] for name in means] == [1 + 2 + 20] * 2


def altered(build: Build, change: object) -> Build:
    """The build with another chain from the last integers to reals."""
    outputs = tuple(replace(o, chain=change(o.chain)) for o in build.lowered.outputs)
    return replace(build, lowered=replace(build.lowered, outputs=outputs))


@pytest.mark.parametrize("name", TAILS)
@pytest.mark.parametrize("by", [1, -1])
def test_a_tail_off_by_one_integer_step_is_found(name: str, by: int) -> None:
    """Everywhere, unless a Clip or a Relu hides the step."""
    model, x = TAILS[name]
    build = design(model)
    report = compare(altered(build, lambda chain: moved_chain(chain, [by])), x)
    assert report.flips == len(report.unexplained) == compare(build, x).flips == 0
    hidden = name in ("normalization", "unsigned codes")
    assert len(report.beyond) == report.outputs or (hidden and report.beyond)
    assert report.largest > 1


def test_a_flip_before_the_last_segment_does_not_reach_its_outputs() -> None:
    net = Network(2)
    y = net.node("MatMul", net.quant("x", 0.1, 0, 4), net.weights(2, 3, scale=0.3, bits=3))
    y = net.quant(y, product(0.1, 0.3, times=2), 0, 6)
    report = compare(design(net.finish(net.node("MatMul", y, net.weights(3, 2, scale=0.7, bits=3)))), all_codes())
    assert min(report.flips, report.differing) > 50
    assert (report.unexplained, report.beyond) == ([], [])


@pytest.mark.parametrize("factor", [1 + 2.0**-16, 1 - 2.0**-16])
def test_a_scale_that_is_slightly_wrong_is_found(factor: float) -> None:
    model, x = TAILS["accumulator"]

    def change(chain: Chain) -> Chain:
        return then(chain, Affine((Fraction(factor),), (Fraction(0),)))

    report = compare(altered(design(model), change), x)
    assert report.beyond
    assert report.unexplained == []


def test_a_wrong_shift_of_one_channel_is_found_there() -> None:
    model, x = TAILS["accumulator"]

    def change(chain: Chain) -> Chain:
        return then(chain, Affine((Fraction(1),), (Fraction(0), Fraction(3, 100), Fraction(0))))

    report = compare(altered(design(model), change), x)
    matches = [BEYOND.fullmatch(line) for line in report.beyond]
    assert all(matches)
    assert {(m[1], m[3]) for m in matches} == {("matmul1_out", "matmul1 (MatMul)")}
    assert [tuple(map(int, m[2].split(", "))) for m in matches] == [(i, 1) for i in range(256)]
    assert all(float(m[4]) - float(m[5]) == pytest.approx(0.03, rel=1e-3) for m in matches)


def test_a_wrong_last_layer_is_found() -> None:
    model, x = TAILS["softmax"]

    def change(op: MatVec) -> MatVec:
        weights = np.array(op.weights)
        weights[2, 1] += 1
        return replace(op, weights=constant_array(weights))

    build = design(model)
    nodes = list(build.graph.nodes)
    at = max(i for i, node in enumerate(nodes) if isinstance(node.op, MatVec))
    nodes[at] = replace(nodes[at], op=change(nodes[at].op))
    report = compare(replace(build, graph=replace(build.graph, nodes=tuple(nodes))), x)
    assert {BEYOND.fullmatch(line)[2].split(", ")[1] for line in report.beyond} == {"2"}
    assert report.unexplained == []


def test_not_a_number_is_beyond_every_bound() -> None:
    net = Network(1)
    y = net.node("Mul", net.node("Mul", net.quant("x", 1.0), 2.0**127), 2.0**127)
    report = compare(design(net.finish(net.node("Mul", net.node("Mul", y, 2.0**-127), 2.0**-127))), [[1.0], [0.0]])
    assert report.outputs == 2
    assert len(report.beyond) == 1  # 1 becomes infinite in float32, and stays so


def test_operators_without_a_bound_are_named() -> None:
    model, x = TAILS["softmax"]
    report = compare(design(model), x)
    line = "output softmax1_out: Softmax has no float32 bound; checked up to add1_out"
    assert report.uncompared == [line]
    for name in ("accumulator", "image"):
        model, x = TAILS[name]
        assert compare(design(model), x).uncompared == []


def test_verification_reports_what_is_unexplained(monkeypatch: pytest.MonkeyPatch) -> None:
    verification = sys.modules[Verification.__module__]
    for name in ("_simulators", "_check_folder"):  # nothing is compiled here, and nothing was written
        monkeypatch.setattr(verification, name, lambda *_: [])
    build = design(ramp(0.4), requantizers={"*": "thresholds"})
    assert verify(build, RAMP.astype(f32)).ok
    result = verify(planted(build, Requantize, moved(1, 0, 1)), RAMP.astype(f32))
    assert not result.ok
    assert [str(m) for m in result.mismatches] == [
        "float32 onnxruntime: quant3_out (3, 1): our code is -6, float32 gives -0.375, exactly -0.390000021 before rounding"
    ]
    seen = result.segments
    assert seen is not None
    text = "float32 onnxruntime: 1 of 64 activations round otherwise, 0 explained; end to end 1 of 32 inputs differ"
    assert text in str(result).splitlines()


def test_verification_reports_real_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    verification = sys.modules[Verification.__module__]
    for name in ("_simulators", "_check_folder"):
        monkeypatch.setattr(verification, name, lambda *_: [])
    model, x = TAILS["softmax"]
    build = design(model)
    result = verify(build, x)
    assert result.ok
    lines = str(result).splitlines()
    assert lines[0] == "output softmax1_out: Softmax has no float32 bound; checked up to add1_out"
    assert re.fullmatch(
        r"float32 onnxruntime: 1,024 outputs in reals, 1,024 within their error bounds; the largest difference is 0\.\d+ of"
        r" its bound",
        lines[-2],
    )
    wrong = verify(altered(build, lambda chain: moved_chain(chain, [1])), x)
    assert not wrong.ok
    assert len(wrong.mismatches) == 1024
    assert str(wrong.mismatches[0]).startswith("float32 onnxruntime: add1_out (0, 0), add1 (Add): our integers give ")
    assert "1,024 outputs in reals, 0 within their error bounds" in str(wrong)
