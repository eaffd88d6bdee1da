"""Operators of residual and depthwise networks against exact rational evaluation and float32 onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import MODES, Network, check, designed, f32, samples
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes

import broadaxe
from broadaxe.build import random_codes
from broadaxe.csim import Mode, Simulator, ap_types
from broadaxe.errors import UnsupportedModelError
from broadaxe.lower import lower
from broadaxe.ops import Concat, GroupedMatVec, MatVec, Requantize, ScaledAdd, SlidingWindow
from broadaxe.reference import run
from broadaxe.schedule.folding import default_folding

# grouped and depthwise convolution

GROUPED = {
    "2 groups": (2, (6, 3, 3, 3), {}),
    "3 groups": (3, (6, 2, 2, 3), {"pads": [1, 0, 1, 2]}),
    "3 groups, fewer outputs": (3, (3, 2, 3, 3), {"strides": [2, 1], "pads": [1, 1, 1, 1]}),
    "2 groups of 1x1": (2, (4, 3, 1, 1), {}),
    "depthwise": (6, (6, 1, 3, 3), {"pads": [1, 1, 1, 1]}),
    "depthwise, dilated": (6, (6, 1, 2, 2), {"dilations": [2, 3], "strides": [1, 2]}),
    "depthwise 1x1": (6, (6, 1, 1, 1), {}),
    "depth multiplier 2": (6, (12, 1, 2, 2), {}),
}


@pytest.mark.parametrize(("groups", "shape", "attributes"), GROUPED.values(), ids=GROUPED)
def test_grouped_conv(groups: int, shape: tuple[int, ...], attributes: dict[str, object]) -> None:
    net = Network(6, 5, 4, seed=1)
    scale = 2.0 ** -net.rng.integers(1, 4, (shape[0], 1, 1, 1))
    y = net.conv(
        net.quant("x", 0.25, 1, 4),
        shape,
        weight=net.weights(*shape, scale=scale),
        bias=net.rng.integers(-8, 8, shape[0]) / 8,
        group=groups,
        **attributes,
    )
    done = check(net.finish(net.quant(y, 0.5, -1, 5)), samples(8, 6, 5, 4, step=0.125), dyadic=True)
    (op,) = done.ops(GroupedMatVec)
    assert (op.groups, op.outputs, done.ops(MatVec)) == (groups, shape[0], [])
    assert op.depthwise == (groups == shape[0] and shape[1] == 1)


@pytest.mark.parametrize("zero_point", [0, [1, 0, -2]], ids=["no zero point", "zero points"])
def test_depthwise_takes_a_scale_per_channel(zero_point: object) -> None:
    """No channels are added up, so each keeps its own step, zero point and code of padding."""
    net = Network(3, 5, 5, seed=2)
    scale = np.array([0.1, 0.37, 0.02]).reshape(1, 3, 1, 1)
    zero = np.array(zero_point).reshape(1, -1, 1, 1) if np.ndim(zero_point) else zero_point
    x = net.quant("x", scale, zero, 5)
    y = net.quant(net.depthwise(x, 3, pads=[1, 1, 1, 1], bias=[0.1, -0.3, 0.7]), scale * 2, 0, 5)
    done = check(net.finish(net.quant(net.depthwise(y, 3, (2, 2)), 0.3)), samples(8, 3, 5, 5))
    assert [op.depthwise for op in done.ops(GroupedMatVec)] == [True, True]


def test_a_depthwise_separable_block() -> None:
    net = Network(3, 6, 6, seed=3)
    y = net.quant(net.conv(net.quant("x", 0.1, 0, 6), (4, 3, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1]), 0.2)
    y = net.norm(net.depthwise(y, 4, pads=[1, 1, 1, 1]), [1.0, -0.5, 0.3, 2.0])
    y = net.quant(net.node("Relu", y), 0.3, 0, 4, 0)
    check(net.finish(net.quant(net.conv(y, (5, 4, 1, 1)), 0.5)), samples(8, 3, 6, 6))


# average pooling

AVERAGES = {
    "2x2": {"kernel_shape": [2, 2], "strides": [2, 2]},
    "3x3": {"kernel_shape": [3, 3]},
    "2x3, strides": {"kernel_shape": [2, 3], "strides": [2, 1]},
    "padding left out": {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
    "padding counted": {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    "uneven padding left out": {"kernel_shape": [3, 2], "pads": [2, 0, 0, 1], "strides": [2, 2]},
    "uneven padding counted": {"kernel_shape": [2, 4], "pads": [0, 3, 1, 1], "strides": [1, 2], "count_include_pad": 1},
    "SAME_UPPER": {"kernel_shape": [3, 2], "auto_pad": "SAME_UPPER", "strides": [2, 2]},
    "SAME_LOWER counted": {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER", "count_include_pad": 1},
}


@pytest.mark.parametrize("attributes", AVERAGES.values(), ids=AVERAGES)
@pytest.mark.parametrize(
    ("signed", "zero_point"),
    [(1, 0), (0, 0), (1, -3), (0, 5), (0, -2), (1, 20)],
    ids=["signed", "unsigned", "signed -3", "unsigned 5", "zero below the codes", "zero above the codes"],
)
def test_average_pool(signed: int, zero_point: int, attributes: dict[str, object]) -> None:
    net = Network(2, 5, 6, seed=4)
    y = net.node("AveragePool", net.quant("x", 0.25, zero_point, 4, signed), **attributes)
    done = check(net.finish(net.quant(y, 0.1, 1, 5)), samples(6, 2, 5, 6, spread=2))
    assert [op.depthwise for op in done.ops(GroupedMatVec)] == [True]


def test_average_pool_keeps_a_scale_per_channel_and_goes_on() -> None:
    net = Network(3, 5, 5, seed=5)
    y = net.quant("x", np.array([0.1, 0.3, 0.02]).reshape(1, 3, 1, 1), np.array([0, 2, -1]).reshape(1, 3, 1, 1), 4)
    y = net.node("AveragePool", y, kernel_shape=[2, 2], pads=[1, 1, 0, 0])
    y = net.norm(net.node("Mul", y, [[[1.5]], [[-0.5]], [[3.0]]]), [1.0, -1.0, 0.3])
    y = net.quant(net.node("Relu", y), 0.2, 0, 4, 0)
    check(net.finish(net.quant(net.conv(y, (2, 3, 2, 2)), 0.3)), samples(8, 3, 5, 5))


def test_what_may_follow_a_padded_average() -> None:
    """A divisor per position ends at the next quantizer: pools, sums and layers go on from there."""
    net = Network(2, 5, 5, seed=6)
    x = net.quant("x", 0.25, 3, 4, 0)
    y = net.node("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    y = net.quant(y, 0.1, 2, 6)
    z = net.quant(net.node("AveragePool", y, kernel_shape=[2, 2], pads=[1, 1, 0, 0]), 0.1, 2, 6)
    pooled = net.quant(net.node("MaxPool", y, kernel_shape=[2, 2]), 0.2)
    flat = net.quant(net.node("Gemm", net.node("Flatten", y), net.weights(50, 3)), 0.5)
    skipped = [net.quant(net.node("Add", z, other), 0.3) for other in (x, y)]
    check(net.finish(pooled, flat, *skipped), samples(8, 2, 5, 5, spread=2))


def test_average_pool_that_meets_ties() -> None:
    """A mean over 4 of steps of 1/4, quantized to steps of 1/4: every second value lies on a tie, exactly."""
    net = Network(2, 4, 4, seed=6)
    y = net.node("AveragePool", net.quant("x", 0.25, 1, 5), kernel_shape=[2, 2], strides=[2, 2])
    outputs = [net.quant(y, 0.5, 0, 4, 1, 0, mode) for mode in MODES]
    check(net.finish(*outputs), samples(40, 2, 4, 4, step=0.25), dyadic=True)


@pytest.mark.parametrize(("signed", "zero_point"), [(1, 0), (0, 3)])
def test_global_average_pool(signed: int, zero_point: int) -> None:
    net = Network(3, 5, 3, seed=7)
    y = net.quant(net.node("GlobalAveragePool", net.quant("x", 0.1, zero_point, 5, signed)), 0.05, -1, 6)
    y = net.node("Gemm", net.node("Flatten", y), net.weights(3, 4), [0.5, 0.0, -1.0, 0.25])
    done = check(net.finish(net.quant(y, 0.1)), samples(20, 3, 5, 3, spread=2))
    assert done.ops(SlidingWindow) == []


def test_global_average_pool_with_scales_per_channel_as_the_last_layer() -> None:
    net = Network(3, 4, 4, seed=8)
    y = net.quant("x", np.array([0.1, 0.37, 0.02]).reshape(1, 3, 1, 1), np.array([0, 1, -2]).reshape(1, 3, 1, 1), 5)
    check(net.finish(net.node("GlobalAveragePool", y)), samples(8, 3, 4, 4))


# sums of two tensors

SCALES = {
    "equal": (0.25, 0.25),
    "powers of two": (0.25, 0.0625),
    "three times": (0.75, 0.25),
    "float32": (0.0371, 0.1123),
    "per channel, one ratio": (np.array([0.1, 0.3, 0.7]), np.array([0.1, 0.3, 0.7], f32) * f32(0.25)),
}


@pytest.mark.parametrize("op_type", ["Add", "Sub"])
@pytest.mark.parametrize("zero_points", [(0, 0), (2, -3)], ids=["no zero points", "zero points"])
@pytest.mark.parametrize("scales", SCALES.values(), ids=SCALES)
def test_residual(op_type: str, zero_points: tuple[int, int], scales: tuple[object, object]) -> None:
    """A sum of two quantized branches, quantized again, behind a convolution."""
    net = Network(2, 5, 5, seed=9)
    left, right = (s.reshape(1, 3, 1, 1) if isinstance(s, np.ndarray) else s for s in scales)
    y = net.quant(net.conv(net.quant("x", 0.125, 0, 6), (3, 2, 1, 1)), left, zero_points[0], 4)
    z = net.quant(net.conv(y, None, weight=net.weights(3, 1, 3, 3), group=3, pads=[1] * 4), right, zero_points[1], 5)
    y = net.node(op_type, y, z)
    y = net.quant(net.node("Relu", y), 0.2, 0, 4, 0)
    done = check(net.finish(net.quant(net.conv(y, (2, 3, 2, 2)), 0.5)), samples(8, 2, 5, 5))
    (op,) = done.ops(ScaledAdd)
    if op_type == "Sub":
        assert op.factors[1] < 0
    if left is right:
        assert tuple(map(abs, op.factors)) == (1, 1)


def test_sums_of_power_of_two_scales_are_exact_in_float32_too() -> None:
    net = Network(4, seed=10)
    a, b = net.quant("x", 0.25, 1), net.quant("x", 1.0, -2, 3)
    sums = [net.node("Add", a, b), net.node("Sub", a, b), net.node("Sub", b, a), net.node("Add", a, a)]
    outputs = [net.quant(y, 0.5, 0, 6, mode=mode) for y in sums for mode in ("ROUND", "FLOOR")]
    done = check(net.finish(*outputs), samples(40, 4, step=0.125, spread=3), dyadic=True)
    assert [op.factors for op in done.ops(ScaledAdd)] == [
        (1, 4),
        (1, -4),
        (4, -1),
    ]  # a tensor and itself are twice the tensor


def test_a_sum_feeds_a_product_and_another_sum() -> None:
    """What a sum gives is a plain scale of integers: it needs no quantizer before a linear layer."""
    net = Network(4, seed=11)
    x = net.quant("x", 0.25)
    y = net.node("Add", x, net.quant(net.node("MatMul", x, net.weights(4, 4)), 0.5, 1))
    z = net.node("Sub", y, net.quant(net.node("MatMul", y, net.weights(4, 4)), 0.125))
    check(net.finish(net.node("MatMul", z, net.weights(4, 3)), y), samples(30, 4, step=0.125), dyadic=True)


def test_a_sum_of_two_accumulators() -> None:
    """Both products have one scale, so they add up before anything is rounded; their biases add up as well."""
    net = Network(4, seed=12)
    left = net.node("Gemm", net.quant("x", 0.25), net.weights(4, 3), [0.5, 0.0, -1.0])
    right = net.node("Gemm", net.quant("x", 0.5, 1), net.weights(4, 3), [0.25, 1.0, 0.0])
    done = check(net.finish(net.quant(net.node("Add", left, right), 0.5)), samples(40, 4, step=0.125), dyadic=True)
    assert [op.start.any() for op in done.ops(MatVec)] == [False, False]  # a sum cannot take an offset back out


# concatenation


def branches(
    net: Network, x: str, channels: tuple[int, ...], scale: object = 0.25, zero_point: object = 0
) -> list[str]:
    return [net.quant(net.conv(x, (c, 2, 1, 1), bias=net.rng.normal(size=c)), scale, zero_point) for c in channels]


@pytest.mark.parametrize("channels", [(3, 2), (1, 4, 2), (2, 2, 3)])
@pytest.mark.parametrize("zero_point", [0, 2])
def test_concat_of_images(channels: tuple[int, ...], zero_point: int) -> None:
    net = Network(2, 4, 5, seed=13)
    parts = branches(net, net.quant("x", 0.25), channels, zero_point=zero_point)
    y = net.node("Concat", *parts, axis=1)
    y = net.quant(net.conv(y, (3, sum(channels), 3, 3), pads=[1, 0, 1, 1]), 0.5)
    done = check(net.finish(y), samples(8, 2, 4, 5))
    assert len(done.ops(Concat)) == len(channels) - 1


def test_concat_is_quantized_again_with_a_scale_per_channel() -> None:
    net = Network(2, 4, 4, seed=14)
    y = net.node("Concat", *branches(net, net.quant("x", 0.25), (2, 3)), axis=1)
    y = net.quant(y, np.array([0.5, 0.1, 0.3, 0.7, 0.2]).reshape(1, 5, 1, 1), 0, 3)
    check(net.finish(net.quant(net.depthwise(y, 5), 0.3), net.node("Identity", y)), samples(8, 2, 4, 4))


@pytest.mark.parametrize("values", ["scales", "zero points"])
def test_concat_of_tensors_with_the_same_column_of_values(values: str) -> None:
    """Both parts have (a, b) per channel, so the whole has (a, b, a, b)."""
    net = Network(2, 3, 3, seed=15)
    column = np.array([0.25, 0.5]) if values == "scales" else np.array([1, -2])
    column = column.reshape(1, 2, 1, 1)
    parts = branches(
        net,
        net.quant("x", 0.25),
        (2, 2),
        scale=column if values == "scales" else 0.25,
        zero_point=column if values == "zero points" else 0,
    )
    y = net.node("Concat", *parts, axis=1)
    check(net.finish(net.quant(net.depthwise(y, 4, (2, 2)), 0.5)), samples(8, 2, 3, 3))


def test_concat_of_accumulators_waits_for_one_quantizer() -> None:
    net = Network(2, 3, 3, seed=16)
    x = net.quant("x", 0.25)
    y = net.node("Concat", net.conv(x, (2, 2, 1, 1)), net.conv(x, (3, 2, 1, 1)), axis=1)
    check(net.finish(net.quant(y, 0.5)), samples(8, 2, 3, 3, step=0.125), dyadic=True)


def test_concat_of_vectors() -> None:
    net = Network(5, seed=17)
    x = net.quant("x", 0.25)
    parts = [net.quant(net.node("MatMul", x, net.weights(5, n)), 0.5, 1) for n in (3, 1, 4)]
    y = net.node("Gemm", net.node("Concat", *parts, axis=-1), net.weights(8, 3), [1.0, 0.0, -0.5])
    check(net.finish(net.quant(y, 0.5)), samples(30, 5, step=0.125), dyadic=True)


def test_concat_of_signed_and_unsigned_codes_and_of_a_tensor_with_itself() -> None:
    net = Network(3, seed=19)
    a, b = net.quant("x", 0.25, 0, 4, 0), net.quant("x", 0.25, 0, 3, 1)
    y = net.node("Concat", a, b, a, axis=1)
    check(net.finish(net.quant(net.node("MatMul", y, net.weights(9, 2)), 0.5), y), samples(30, 3), dyadic=False)


# Trunc


def truncated(version: int, mode: str, zero_point: int, signed: int = 1) -> onnx.ModelProto:
    """A product of known scale, truncated by 3 bits; version 2 to 5 bits of their own scale."""
    net = Network(6, seed=20, batch=32)
    x = net.quant("x", 0.25, 0, 5)
    y = net.node("MatMul", x, net.weights(6, 4, scale=0.125))
    if version == 1:
        y = net.trunc(y, 1 / 32, zero_point, 12, 9, mode=mode)
    else:
        y = net.trunc(y, 1 / 32, zero_point, 12, 0.25, 5, mode=mode, signed=signed)
    model = net.finish(y)
    model.opset_import[1].version = version
    return model


@pytest.mark.parametrize("zero_point", [0, 8, -5])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("version", [1, 2])
def test_trunc(version: int, mode: str, zero_point: int) -> None:
    """Against exact evaluation, float32 and the qonnx package's own execution."""
    model = truncated(version, mode, zero_point)
    x = samples(32, 6, step=0.125, spread=2)
    check(model, x, dyadic=True)
    _, graph, host = designed(model)
    (mine,) = host.reals(run(graph, host.codes({"x": x}))).values()
    theirs = execute_onnx(ModelWrapper(model).transform(InferShapes()), {"x": x.astype(f32)})
    np.testing.assert_array_equal(mine, theirs[model.graph.output[0].name])


def test_trunc_of_unsigned_codes_clamps_at_zero() -> None:
    done = check(truncated(2, "ROUND", 0, signed=0), samples(60, 6, step=0.125, spread=4), dyadic=True)
    (op,) = done.ops(Requantize)
    assert (op.quantizer.lo, op.quantizer.hi) == (0, 31)


def test_trunc_rounds_twice() -> None:
    """Values between grid points go to the input's grid first, half to even, and only then down."""
    net = Network(1)
    y = net.trunc(net.node("Mul", "x", 0.25), 1.0, 0, 8, 6, mode="FLOOR")
    x = np.arange(-64, 64)[:, None]
    check(net.finish(y), x, integers={"x": "int7"}, dyadic=True)
    twice = {int(v): int(np.floor(np.round(v / 4) / 4)) for v in x[:, 0]}
    assert any(twice[v] != v // 16 for v in twice)


def test_trunc_sits_between_two_layers() -> None:
    net = Network(6, seed=21)
    y = net.trunc(net.node("MatMul", net.quant("x", 0.25), net.weights(6, 5)), 1 / 32, 4, 10, 0.125, 4, mode="HALF_UP")
    model = net.finish(net.quant(net.node("MatMul", y, net.weights(5, 3)), 0.5))
    model.opset_import[1].version = 2
    check(model, samples(40, 6, step=0.125), dyadic=True)


# rows of weights with a common divisor


def product(net: Network, x: str, rows: list[list[int]], **more: object) -> str:
    """MatMul with these integers as weights, in steps of 1/8."""
    weight = net.quant(np.array(rows).T / 8, 0.125, 0, 5, **more)
    return net.node("MatMul", x, weight)


ROWS = [[4, -8, 12, 0], [3, -9, 6, 15], [0, 0, 0, 0], [5, 2, -7, 1], [-10, 0, 0, 0]]


def test_rows_are_divided_by_what_they_share() -> None:
    net = Network(4, seed=22)
    y = product(net, net.quant("x", 0.25, 1), ROWS)
    outputs = [net.quant(y, 0.5), net.quant(net.node("Relu", y), 0.3, 0, 3, 0), net.quant(net.node("Neg", y), 1.0, 2)]
    done = check(net.finish(*outputs), samples(60, 4, step=0.125))
    (op,) = done.ops(MatVec)
    assert op.weights.tolist() == [[1, -2, 3, 0], [1, -3, 2, 5], [0, 0, 0, 0], [5, 2, -7, 1], [-1, 0, 0, 0]]


def test_rows_of_a_graph_output_keep_their_divisor() -> None:
    net = Network(4, seed=22)
    y = product(net, net.quant("x", 0.25, 1), ROWS)
    done = check(net.finish(net.quant(y, 0.5), y), samples(60, 4, step=0.125), dyadic=True)
    (op,) = done.ops(MatVec)
    assert op.weights.tolist() == ROWS


def test_rows_of_depthwise_and_grouped_layers_are_divided_too() -> None:
    net = Network(4, 3, 3, seed=23)
    x = net.quant("x", 0.25)
    thrice = net.quant(net.rng.integers(-2, 3, (4, 1, 2, 2)) * 3 / 8, 0.125, 0, 4)
    even = net.quant(net.rng.integers(-4, 4, (4, 2, 2, 2)) / 4, 0.125, 0, 4)
    y = net.quant(net.conv(x, None, weight=thrice, group=4, bias=[0.5, 1.0, 0.0, -0.5]), 0.5)
    check(net.finish(net.quant(net.conv(y, None, weight=even, group=2), 0.25)), samples(16, 4, 3, 3))
    _, graph, _ = designed(net.finish(net.quant(net.conv(y, None, weight=even, group=2), 0.25)))
    for node in graph.nodes:
        if isinstance(node.op, GroupedMatVec):
            assert set(np.gcd.reduce(node.op.weights, axis=1).tolist()) <= {0, 1}


def test_a_divided_accumulator_with_an_offset_and_several_readers() -> None:
    """Uneven bounds make an offset worth a bit; every reader takes it and the divisor back out."""
    net = Network(3, seed=24)
    y = product(net, net.quant("x", 0.5, 0, 3, 0), [[6, 4, 2], [9, 3, 3], [12, 12, 4]])
    outputs = [
        net.quant(y, s, z, 4, 0, 0, mode) for s, z, mode in ((0.5, 0, "ROUND"), (0.3, -2, "FLOOR"), (1, 1, "UP"))
    ]
    done = check(net.finish(*outputs), np.abs(samples(60, 3, spread=2)))
    (op,) = done.ops(MatVec)
    assert op.weights.tolist() == [[3, 2, 1], [3, 1, 1], [3, 3, 1]]
    assert (op.start < 0).all()


# branches


def test_a_value_with_three_consumers() -> None:
    net = Network(2, 4, 4, seed=25)
    x = net.quant(net.conv(net.quant("x", 0.25), (4, 2, 1, 1)), 0.25)
    a = net.quant(net.conv(x, (4, 4, 3, 3), pads=[1, 1, 1, 1]), 0.5)
    b = net.quant(net.depthwise(x, 4, pads=[1, 1, 1, 1]), 0.125)
    y = net.quant(net.node("Add", net.node("Add", a, b), x), 0.5)
    check(net.finish(y), samples(8, 2, 4, 4, step=0.125), dyadic=True)


def test_a_long_skip_over_a_pool_and_three_layers() -> None:
    net = Network(2, 6, 6, seed=26)
    x = net.quant(net.conv(net.quant("x", 0.25), (4, 2, 1, 1)), 0.25)
    y = net.quant(net.conv(x, (3, 4, 3, 3), pads=[1] * 4), 0.5)
    y = net.quant(net.conv(y, (3, 3, 3, 3), strides=[2, 2], pads=[1] * 4), 0.5)
    y = net.quant(net.norm(net.conv(y, (4, 3, 1, 1)), [1.0, -0.5, 0.3, 2.0]), 0.5)
    skip = net.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    y = net.quant(net.node("Relu", net.node("Add", y, skip)), 0.5, 0, 4, 0)
    check(net.finish(y), samples(8, 2, 6, 6))


def test_an_output_that_is_also_read_inside() -> None:
    net = Network(2, 4, 4, seed=27)
    a = net.quant(net.conv(net.quant("x", 0.25), (3, 2, 1, 1)), 0.25)
    b = net.quant(net.depthwise(a, 3, pads=[1] * 4), 0.25)
    total = net.node("Add", a, b)
    check(net.finish(a, total, net.quant(total, 0.5), b), samples(8, 2, 4, 4, step=0.125), dyadic=True)


def test_an_accumulator_read_by_a_sum_and_a_quantizer() -> None:
    """The sum cannot take an offset or a divisor back out, so neither is used."""
    net = Network(3, seed=28)
    y = product(net, net.quant("x", 0.5, 0, 3, 0), [[6, 4, 2], [9, 3, 3], [12, 12, 4]])
    z = product(net, net.quant("x", 0.5, 0, 3, 0), [[1, 2, 3], [0, 1, 0], [7, 7, 7]])
    done = check(net.finish(net.quant(y, 0.5), net.quant(net.node("Add", y, z), 0.5)), np.abs(samples(30, 3)))
    first = done.ops(MatVec)[0]
    assert first.weights.tolist() == [[6, 4, 2], [9, 3, 3], [12, 12, 4]]
    assert not first.start.any()


# refusals, by their whole message


def refusal(model: onnx.ModelProto) -> str:
    with pytest.raises(UnsupportedModelError) as error:
        lower(model)
    return str(error.value)


def two(net: Network, scales: tuple[object, object], zero_points: tuple[object, object] = (0, 0)) -> list[str]:
    """Two quantized convolutions of 2 channels."""
    x = net.quant("x", 0.25)
    return [net.quant(net.conv(x, (2, 2, 1, 1)), s, z) for s, z in zip(scales, zero_points, strict=True)]


def column(*values: float) -> np.ndarray:
    return np.array(values).reshape(1, -1, 1, 1)


def add_of_batch_norm(net: Network) -> str:
    a, b = two(net, (0.25, 0.25))
    return net.node("Add", a, net.norm(net.conv(b, (2, 2, 1, 1)), [1.0, 0.5]))


def add_of_relu(net: Network) -> str:
    a, b = two(net, (0.25, 0.25))
    return net.node("Sub", net.node("Relu", net.conv(b, (2, 2, 1, 1))), a)


def add_of_shapes(net: Network) -> str:
    a, b = two(net, (0.25, 0.25))
    return net.node("Add", a, net.node("MaxPool", b, kernel_shape=[2, 2], strides=[2, 2]))


def add_of_ratios(net: Network) -> str:
    return net.node("Add", *two(net, (column(0.25, 0.5), 0.25)))


def add_of_far_scales(net: Network) -> str:
    return net.node("Add", *two(net, (1.0, 2.0**-70)))


def concat_of_scales(net: Network) -> str:
    return net.node("Concat", *two(net, (0.25, 0.5)), axis=1)


def concat_of_zero_points(net: Network) -> str:
    return net.node("Concat", *two(net, (0.25, 0.25), (0, 1)), axis=1)


def concat_of_sizes(net: Network) -> str:
    a, b = two(net, (0.25, 0.25))
    return net.node("Concat", a, net.node("MaxPool", b, kernel_shape=[2, 2], strides=[2, 2]), axis=1)


def concat_with_constant(net: Network) -> str:
    return net.node("Concat", two(net, (0.25, 0.25))[0], np.zeros((1, 1, 4, 4)), axis=1)


def quotient_of_activations(net: Network) -> str:
    return net.node("Div", *two(net, (0.25, 0.25)))


def scale_per_channel_into_conv(net: Network) -> str:
    return net.conv(two(net, (column(0.25, 0.5), 0.25))[0], (2, 2, 1, 1))


def scale_per_channel_into_groups(net: Network) -> str:
    x = net.quant(net.conv(net.quant("x", 0.25), (4, 2, 1, 1)), column(0.25, 0.5, 1, 2))
    return net.conv(x, (4, 2, 1, 1), group=2)


def average_of_accumulators(net: Network) -> str:
    return net.node("AveragePool", net.conv(net.quant("x", 0.25), (2, 2, 1, 1)), kernel_shape=[2, 2])


def global_average_of_relu(net: Network) -> str:
    return net.node("GlobalAveragePool", net.node("Relu", two(net, (0.25, 0.25))[0]))


def average_of_padding(net: Network) -> str:
    return net.node("AveragePool", two(net, (0.25, 0.25))[0], kernel_shape=[2, 2], pads=[2, 0, 0, 0])


def max_of_padded_averages(net: Network) -> str:
    y = net.node("AveragePool", two(net, (0.25, 0.25))[0], kernel_shape=[2, 2], pads=[1, 1, 1, 1])
    return net.node("MaxPool", y, kernel_shape=[2, 2])


def concat_of_padded_averages(net: Network) -> str:
    y = net.node("AveragePool", two(net, (0.25, 0.25))[0], kernel_shape=[2, 2], pads=[1, 1, 1, 1])
    return net.node("Concat", y, y, axis=1)


def trunc_of_pool(net: Network) -> str:
    y = net.node("MaxPool", net.norm(net.conv(net.quant("x", 0.25), (2, 2, 1, 1)), [1.0, 0.5]), kernel_shape=[2, 2])
    return net.trunc(y, 0.25, 0, 8, 4)


def trunc_of_ratios(net: Network) -> str:
    y = net.conv(net.quant("x", 0.25), (2, 2, 1, 1))
    return net.trunc(y, 0.25, 0, 8, column(0.5, 2.0), 4)


NOT_QUANTIZED = "its input is not quantized; put a Quant between it and the operator before it"
NOT_PLAIN = (
    "adds a tensor that is not a plain scale of integers (a BatchNormalization, Relu or MaxPool comes between); put a Quant"
    " on both sides of the addition"
)
SCALE_PER_CHANNEL = (
    "its input has a scale per channel (its quantizer has, or a Concat joins tensors of different scales), which a sum over"
    " channels cannot take out; use one scale, or a Quant behind the Concat"
)


@pytest.mark.parametrize("build", [concat_of_scales, concat_of_zero_points], ids=lambda build: build.__name__)
def test_concat_of_different_scales_before_a_quantizer(build: Callable[[Network], str]) -> None:
    net = Network(2, 4, 4, seed=29)
    check(net.finish(net.quant(build(net))), samples(8, 2, 4, 4))


MIXED = (
    "brings elements of different scales or constants into one channel (per channel, or by an AveragePool with padding); put"
    " a Quant with one scale before it"
)
REFUSALS: dict[Callable[[Network], str], str] = {
    add_of_batch_norm: f"add1 (Add): {NOT_PLAIN}",
    add_of_relu: f"sub1 (Sub): {NOT_PLAIN}",
    add_of_shapes: "add1 (Add): adds tensors of shapes (1, 2, 4, 4) and (1, 2, 2, 2) in different orders; make them alike",
    add_of_ratios: "add1 (Add): adds tensors whose scales have no one ratio in all channels; put a Quant on both sides of it",
    add_of_far_scales: "add1 (Add): adds tensors whose scales need 76 bits together; use scales with a simpler ratio",
    concat_of_sizes: "concat1 (Concat): joins tensors of shapes [1, 2, 4, 4] and [1, 2, 2, 2] on axis 1; make them alike",
    concat_with_constant: (
        "concat1 (Concat): its input is a constant or missing; a tensor that depends on the input is needed"
    ),
    quotient_of_activations: "div1 (Div): divides two activations; only division by a constant is supported",
    scale_per_channel_into_conv: f"conv3 (Conv): {SCALE_PER_CHANNEL}",
    scale_per_channel_into_groups: f"conv2 (Conv): {SCALE_PER_CHANNEL}",
    average_of_accumulators: f"averagepool1 (AveragePool): {NOT_QUANTIZED}",
    global_average_of_relu: f"globalaveragepool1 (GlobalAveragePool): {NOT_QUANTIZED}",
    average_of_padding: "averagepool1 (AveragePool): a window lies in the padding alone; shrink the pads",
    max_of_padded_averages: f"maxpool1 (MaxPool): {MIXED}",
    concat_of_padded_averages: f"concat1 (Concat): {MIXED}",
    trunc_of_pool: "trunc1 (Trunc): follows a MaxPool that has no Quant; put a Quant in between",
    trunc_of_ratios: "trunc1 (Trunc): its scales have no one ratio; use one truncation for all channels",
}


@pytest.mark.parametrize("build", REFUSALS, ids=lambda build: build.__name__)
def test_refusals(build: Callable[[Network], str]) -> None:
    net = Network(2, 4, 4, seed=29)
    assert refusal(net.finish(net.quant(build(net)))) == REFUSALS[build]


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("tile", "4", "broadaxe.tile is 4; tiles are only supported without groups"),
        ("order", "c,kh,kw", "broadaxe.order is 'c,kh,kw'; hardware streams 'kh,kw,c', quantize in that order"),
        ("tile", "0", "broadaxe.tile is '0'; a positive integer is needed"),
        ("tile", "-3", "broadaxe.tile is '-3'; a positive integer is needed"),
        ("outer_bits", "four", "broadaxe.outer_bits is 'four'; a positive integer is needed"),
        ("outer_bits", "4", "broadaxe.outer_bits is 4, but sums reach [-1008, 1008], 11 bits; quantize again"),
    ],
)
def test_metadata_of_a_grouped_layer(key: str, text: str, message: str) -> None:
    net = Network(4, 4, 4, seed=30)
    weight = net.quant(np.tile([1.0, -1.0], 36).reshape(4, 2, 3, 3) * 0.875, 0.125, 0, 4)
    model = net.finish(net.quant(net.conv(net.quant("x", 0.25, 0, 4, narrow=1), None, weight=weight, group=2)))
    node = next(n for n in model.graph.node if n.op_type == "Conv")
    node.metadata_props.append(onnx.StringStringEntryProto(key=f"broadaxe.{key}", value=text))
    assert refusal(model) == f"conv1 (Conv): {message}".replace("[-1008, 1008]", "[-882, 882]")


# one design with everything, in C++

FOLDING = {
    "conv0": {"pe": 2, "simd": 9},
    "conv1": {"pe": 4, "simd": 1},
    "avgpool0": {"pe": 2, "simd": 1},
    "conv2": {"pe": 2, "simd": 1},
    "conv3": {"pe": 3, "simd": 4},
    "avgpool1": {"pe": 3, "simd": 1},
    "gemm0": {"pe": 1, "simd": 3},
}


def everything() -> onnx.ModelProto:
    """Residual sum with a depthwise branch, average pool, grouped convolution, concat, global average pool, Gemm."""
    net = Network(2, 6, 6, seed=31)
    x = net.quant(net.conv(net.quant("x", 0.25, 1), (4, 2, 3, 3), pads=[1] * 4), 0.25, 0, 4, 0)
    y = net.quant(net.norm(net.depthwise(x, 4, pads=[1] * 4), [1.0, -0.5, 0.3, 2.0]), 0.11, 0, 4)
    y = net.quant(net.node("Relu", net.node("Add", y, x)), 0.3, 0, 4, 0)
    pooled = net.quant(net.node("AveragePool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 0]), 0.2, 0, 4, 0)
    grouped = net.quant(net.conv(y, (4, 2, 2, 2), group=2, strides=[2, 2]), 0.2, 0, 4, 0)
    z = net.node("Concat", pooled, grouped, axis=1)
    z = net.quant(net.conv(z, (6, 8, 1, 1)), 0.4, 0, 5)
    z = net.quant(net.node("Add", z, z), 0.5, 0, 5)
    z = net.quant(net.node("GlobalAveragePool", z), 0.1, 0, 6)
    return net.finish(net.node("Gemm", net.node("Flatten", z), net.weights(6, 3), [0.5, -0.25, 1.0]), name="everything")


@pytest.mark.slow
def test_verify_of_all_operators_in_native_and_exact_builds(tmp_path: Path, unoptimised: None) -> None:
    if ap_types() is None:
        pytest.skip("exact build: ap_int headers are missing; pip install hls4ml==1.3.0 brings them")
    build = broadaxe.compile(everything(), tmp_path / "build")
    assert {"scaled_add", "concat", "grouped_matvec", "matvec", "window"} <= {
        node.op.kind for node in build.graph.nodes
    }
    result = broadaxe.verify(build, samples(8, 2, 6, 6))
    assert result.ok, str(result)
    assert (result.inputs, result.exact_inputs, result.witnesses) == (16 + 8, 4, len(FOLDING))


def test_every_stream_of_all_operators_under_another_folding(tmp_path: Path, unoptimised: None) -> None:
    build = broadaxe.compile(everything(), tmp_path / "build", folding=FOLDING)
    assert {name: {"pe": f.pe, "simd": f.simd} for name, f in build.folding.items()} == FOLDING
    assert build.folding != default_folding(build.graph)
    codes = random_codes(build.graph, 12, seed=3)
    expected = run(build.graph, codes, every_value=True)
    traced = Simulator.of(build.path, build.top, build.graph, build.flow, Mode.NATIVE, traced=True).trace(codes)
    assert {n.output for n in build.graph.nodes if n.op.hardware} <= set(traced)
    for name in expected.keys() & traced.keys():
        np.testing.assert_array_equal(traced[name], expected[name], err_msg=name)
