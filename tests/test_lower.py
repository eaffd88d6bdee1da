"""Lowering against two judges: exact rational evaluation of the model, and float32 onnxruntime from quantizer to quantizer."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import MODES, QONNX, Network, check, designed, f32, samples
from onnx import TensorProto, helper, numpy_helper

from broadaxe.build import _design
from broadaxe.chain import Affine, Clamp
from broadaxe.config import settings as configured
from broadaxe.frontend.batch import symbolic_batch
from broadaxe.frontend.standard import expand_quant, session
from broadaxe.lower import lower
from broadaxe.ops import MatVec, Requantize, SlidingWindow, WindowMax
from broadaxe.reference import run
from broadaxe.segments import compare_segments
from broadaxe.types import IntType

KINDS = {"signed": (1, 0), "signed narrow": (1, 1), "unsigned": (0, 0), "unsigned narrow": (0, 1)}


# quantizers


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("signed", "narrow"), KINDS.values(), ids=KINDS)
def test_a_requantizer_has_every_rounding_mode_sign_and_width(mode, signed, narrow):
    """From integers, through a slope of 1/2 or -1/2 that meets ties, to 1 to 16 bits at three scales."""
    net = Network(4)
    y = net.node("Add", net.node("Mul", "x", [0.5, -0.5, 0.25, 1.0]), [0.0, 0.25, -3.0, 0.125])
    rows = np.concatenate([np.arange(-24, 25), [-512, -511, -200, 201, 510, 511]])[:, None] * np.ones(4)
    outputs = []
    for bits in range(1, 17):
        scale, zero = ((0.5, 0), (2.0, 3), ([1.0, 0.25, 4.0, 2.0], -2))[bits % 3]
        outputs.append(net.quant(y, scale, zero, bits, signed, narrow, mode))
    done = check(net.finish(*outputs), rows, integers={"x": "int10"}, dyadic=True)
    assert {op.quantizer.rounding for op in done.ops(Requantize)} <= {mode.replace("HALF_EVEN", "ROUND")}


@pytest.mark.parametrize("mode", MODES)
def test_scales_that_are_no_powers_of_two(mode):
    net = Network(3)
    y = net.node("Sub", net.node("Mul", "x", [0.0371, -1.1, 0.3]), [0.1, 0.2, 1 / 3])
    outputs = [
        net.quant(y, scale, zero, bits, bits % 2, 0, mode)
        for bits, scale, zero in ((2, 0.7, 0), (5, [0.1, 0.37, 1 / 255], 1), (8, 0.0371, -7), (16, 0.0013, 100))
    ]
    done = check(net.finish(*outputs), np.arange(-128, 128, 3)[:, None] * np.ones(3), integers={"x": "int8"})
    assert done.flips < 0.02 * done.codes


def test_a_zero_point_need_not_be_an_integer():
    net = Network(2)
    first = net.quant("x", 0.25, 0.5, 5, 1)
    second = net.quant(net.node("MatMul", first, net.weights(2, 3)), 0.5, -1.25, 4, 0)
    check(net.finish(second), samples(64, 2, step=0.125, spread=3), dyadic=True)


@pytest.mark.parametrize(("signed", "narrow"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_inputs_and_weights_of_every_width(bits, signed, narrow):
    """Input, weights and activations of one width; narrow unsigned codes of one bit are the constant 0."""
    net = Network(5, seed=bits)
    step = 2.0 ** (1 - bits)
    x = net.quant("x", step, 0, bits, signed, narrow)
    w = net.quant(net.rng.uniform(-1, 1, (5, 6)), step, 0, bits, signed, narrow)
    y = net.quant(net.node("MatMul", x, w), 2 * step, 0, min(bits, 8), signed, narrow)
    check(net.finish(y), samples(40, 5, step=step / 2), dyadic=bits < 16)


@pytest.mark.parametrize("mode", MODES)
def test_the_rounding_mode_of_input_and_weights(mode):
    net = Network(6, seed=3)
    w = net.quant(np.round(net.rng.uniform(-1, 1, (6, 4)) * 16) / 16, 0.125, bits=4, narrow=1, mode=mode)
    y = net.node("MatMul", net.quant("x", 0.25, 0, 4, mode=mode), w)
    check(net.finish(net.quant(y, 0.5, mode=mode)), samples(50, 6, step=0.125), dyadic=True)


def test_bipolar_input_weights_and_activations():
    net = Network(7, seed=4)
    w1 = net.bipolar(net.rng.normal(size=(7, 5)), 0.25)
    y = net.bipolar(net.node("MatMul", net.bipolar("x", 0.5), w1), 1.0)
    w2 = net.quant(net.rng.normal(size=(5, 3)), 0.5, 0, 1, signed=1, narrow=1)
    y = net.quant(net.node("Add", net.node("MatMul", y, w2), [0.0, 0.5, -0.5]), 0.25, 0, 1, signed=1)
    done = check(net.finish(y), samples(100, 7, step=0.25), dyadic=True)
    assert [op.quantizer.bipolar for op in done.ops(Requantize)] == [True, True]


@pytest.mark.parametrize("input_zero", [0, 3, -8])
@pytest.mark.parametrize("weight_zero", [0, 2, -5])
def test_zero_points_of_input_and_weights(input_zero, weight_zero):
    net = Network(2, 4, 4, seed=5)
    x = net.quant("x", 0.25, input_zero, 4)
    w = net.quant(net.rng.uniform(-1, 1, (3, 2, 2, 2)), 0.125, weight_zero, 4)
    y = net.quant(net.conv(x, None, weight=w, bias=[0.5, 0, -1]), 0.5, 1, 4)
    check(net.finish(y), samples(16, 2, 4, 4, step=0.125), dyadic=True)


def test_scales_per_channel_of_weights_and_activations():
    net = Network(3, 4, 4, seed=6)
    scale = np.array([0.1, 0.03, 0.25, 0.5]).reshape(4, 1, 1, 1)
    y = net.conv(net.quant("x", 0.1, 0, 6), (4, 3, 3, 3), weight=net.weights(4, 3, 3, 3, scale=scale))
    y = net.quant(y, np.array([0.2, 0.07, 0.4, 0.9]).reshape(1, 4, 1, 1), 0, 4)
    check(net.finish(net.node("Flatten", y)), samples(20, 3, 4, 4))


def test_zero_points_per_channel():
    net = Network(3, 3, 3, seed=6)
    x = net.quant("x", 0.25, np.array([1, -2, 0]).reshape(1, 3, 1, 1), 4)
    y = net.conv(x, (2, 3, 2, 2), pads=[1, 0, 0, 1])
    y = net.quant(y, 0.5, np.array([0, 2]).reshape(1, 2, 1, 1), 4)
    check(net.finish(net.node("Gemm", net.node("Flatten", y), net.weights(18, 2))), samples(20, 3, 3, 3), dyadic=True)


# products


def test_matmul_takes_weights_of_shape_inputs_by_outputs():
    net = Network(6)
    y = net.node("MatMul", net.quant("x"), net.weights(6, 4))
    done = check(net.finish(net.quant(y)), samples(50, 6, step=0.125), dyadic=True)
    assert [op.weights.shape for op in done.ops(MatVec)] == [(4, 6)]


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [None, [0.5, -0.25, 3.0, 0.0]])
def test_gemm(transposed, bias):
    net = Network(6)
    shape = (4, 6) if transposed else (6, 4)
    y = net.node("Gemm", net.quant("x"), net.weights(*shape), *([] if bias is None else [bias]), transB=transposed)
    check(net.finish(net.quant(y)), samples(50, 6, step=0.125), dyadic=True)


def test_matmul_with_transposed_weights():
    net = Network(6)
    w = net.node("Transpose", net.weights(4, 6, scale=np.array([[0.1], [0.2], [0.3], [0.7]])), perm=[1, 0])
    check(net.finish(net.quant(net.node("MatMul", net.quant("x"), w))), samples(50, 6))


def test_matmul_of_tokens():
    net = Network(5, 6)
    y = net.quant(net.node("Add", net.node("MatMul", net.quant("x"), net.weights(6, 4)), [0.5, 0.0, -0.5, 1.0]), 0.5)
    y = net.node("MatMul", y, net.weights(4, 3))
    check(net.finish(y), samples(20, 5, 6, step=0.125), dyadic=True)


def test_a_quantized_bias():
    net = Network(2, 4, 4, seed=8)
    x = net.quant("x", 0.1, bits=8, signed=0)
    bias = net.quant(net.rng.normal(size=3), 0.0125, bits=16)
    y = net.quant(net.conv(x, (3, 2, 3, 3), bias=bias), 0.2)
    bias = net.quant(net.rng.normal(size=2), 0.025, bits=16)
    check(net.finish(net.node("Gemm", net.node("Flatten", y), net.weights(12, 2), bias)), samples(20, 2, 4, 4))


CONVOLUTIONS = {
    "1x1": ((3, 2, 1, 1), {}),
    "1x1 strided": ((3, 2, 1, 1), {"strides": [2, 3]}),
    "3x3": ((3, 2, 3, 3), {}),
    "strides": ((3, 2, 3, 3), {"strides": [2, 1]}),
    "pads on every side": ((3, 2, 3, 3), {"pads": [1, 1, 1, 1]}),
    "four different pads": ((3, 2, 3, 2), {"pads": [2, 0, 1, 1], "strides": [2, 2]}),
    "padding wider than the kernel": ((2, 2, 2, 2), {"pads": [3, 2, 2, 3]}),
    "dilations": ((3, 2, 2, 3), {"dilations": [2, 1]}),
    "dilations, pads, strides": ((3, 2, 3, 3), {"dilations": [2, 2], "pads": [2, 2, 2, 2], "strides": [2, 2]}),
    "one row": ((3, 2, 1, 5), {"pads": [0, 2, 0, 2]}),
    "whole image": ((3, 2, 6, 5), {}),
    "SAME_UPPER": ((3, 2, 2, 4), {"auto_pad": "SAME_UPPER"}),
    "SAME_LOWER": ((3, 2, 2, 4), {"auto_pad": "SAME_LOWER"}),
    "SAME_UPPER, strides": ((3, 2, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "SAME_LOWER, strides": ((3, 2, 3, 2), {"auto_pad": "SAME_LOWER", "strides": [2, 3]}),
    "VALID": ((3, 2, 3, 3), {"auto_pad": "VALID", "strides": [2, 1]}),
    "kernel_shape": ((3, 2, 3, 3), {"kernel_shape": [3, 3], "group": 1}),
}


@pytest.mark.parametrize(("shape", "attributes"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_conv(shape, attributes):
    net = Network(2, 6, 5, seed=9)
    bias = net.rng.integers(-8, 8, shape[0]) / 8
    y = net.quant(net.conv(net.quant("x", 0.25, 1, 4), shape, bias=bias, **attributes), 0.25, bits=6)
    check(net.finish(y), samples(8, 2, 6, 5, step=0.125), dyadic=True)


def test_the_pad_code_may_lie_outside_the_codes():
    """Real zero is code -3 of an unsigned quantizer: the stream widens, and the bounds hold it."""
    net = Network(1, 4, 4)
    y = net.quant(net.conv(net.quant("x", 0.25, -3, 3, signed=0), (2, 1, 3, 3), pads=[1, 1, 1, 1]), 0.5)
    done = check(net.finish(y), samples(20, 1, 4, 4, step=0.125) + 2, dyadic=True)
    (window,) = done.ops(SlidingWindow)
    assert window.pad_codes == (-3,)
    assert done.graph.nodes[0].op is window
    assert done.graph.values[done.graph.nodes[0].output].dtype == IntType(4, True)


# steps between quantizers


def test_normalization_with_gamma_of_every_sign():
    net = Network(2, 5, 5, seed=10)
    y = net.conv(net.quant("x", 0.1, 0, 5), (5, 2, 3, 3), bias=net.rng.normal(size=5))
    y = net.node("Relu", net.norm(y, [1.1, -0.7, 0.0, 2.3, -0.05]))
    y = net.quant(y, 0.11, 0, 4, 0)
    y = net.norm(net.node("Gemm", net.node("Flatten", y), net.weights(45, 3)), [-1.0, 0.0, 0.3], epsilon=0.125)
    check(net.finish(net.quant(y, 0.05, 1, 6)), samples(12, 2, 5, 5))


def test_normalization_that_meets_ties():
    """1/sqrt(variance) is rational, so the values fall exactly onto ties, which only exact arithmetic sees."""
    net = Network(3)
    y = net.norm("x", [0.5, -3.0, 1.5], [0, 0.5, 0], [1, 0, 0.5], [0.25, 2.25, 9], epsilon=0.0)
    outputs = [net.quant(y, 1.0, 0, 8, 1, 0, mode) for mode in MODES]
    done = check(net.finish(*outputs), np.arange(-64, 64)[:, None] * np.ones(3), integers={"x": "int7"})
    assert all(isinstance(op.chain[0], Affine) for op in done.ops(Requantize))


SIDES = [(op_type, side) for op_type in ("Mul", "Add", "Sub", "Div") for side in ("left", "right")]


@pytest.mark.parametrize(("op_type", "side"), [pair for pair in SIDES if pair != ("Div", "left")])
@pytest.mark.parametrize("shape", [(), (3, 1, 1), (1, 3, 1, 1)])
def test_arithmetic_with_a_constant(op_type, side, shape):
    net = Network(3, 2, 2)
    values = np.array([-2.0, 0.5, 4.0]).reshape(shape) if shape else np.array(-0.5)
    operands = ["x_quantized", values] if side == "right" else [values, "x_quantized"]
    net.node("Identity", net.quant("x", 0.25, 2), output="x_quantized")
    y = net.quant(net.node(op_type, *operands), 0.5, 1, 5)
    check(net.finish(y), samples(30, 3, 2, 2, step=0.125), dyadic=True)


def test_a_long_chain_of_steps_is_one_requantizer():
    net = Network(4)
    y = net.node("MatMul", net.quant("x"), net.weights(4, 3))
    y = net.node("Add", net.node("Mul", y, [0.5, -2.0, 1.0]), [1.0, 0.25, -0.5])
    y = net.node("Neg", net.node("Relu", y))
    y = net.node("Clip", net.node("Div", y, 2.0), -1.5, 4.0)
    y = net.node("Sub", 0.25, y)
    done = check(net.finish(net.quant(y, 0.125, -2)), samples(60, 4, step=0.125), dyadic=True)
    assert [type(node.op) for node in done.graph.nodes] == [MatVec, Requantize]


def test_infinite_ends_of_a_clip_are_open():
    net = Network(4)
    y = net.node("MatMul", net.quant("x"), net.weights(4, 3))
    outputs = [net.quant(net.node("Clip", y, *ends)) for ends in ((-np.inf, 0.5), (-0.25, np.inf), (-np.inf, np.inf))]
    _, graph, _ = designed(net.finish(*outputs))
    chains = [node.op.chain for node in graph.nodes if isinstance(node.op, Requantize)]
    clamps = [step for chain in chains for step in chain if isinstance(step, Clamp)]
    assert [(c.lo, c.hi) for c in clamps] == [(None, Fraction(1, 2)), (Fraction(-1, 4), None), (None, None)]


def test_words_that_no_folding_can_narrow_get_the_widest_divisor():
    """Without a layer there is neither pe nor simd to lower."""
    net = Network(6000)
    model = net.finish(net.quant(net.node("Relu", net.quant("x"))))
    design = _design(Path("build"), model, configured(), "net", lambda _: None)
    assert {name: lanes.read for name, lanes in design.lanes.items()} == {"quant0": 1000}


def test_identity_and_dropout_change_nothing():
    net = Network(4)
    y = net.node("Dropout", net.node("Identity", net.quant(net.node("Identity", "x"))))
    done = check(net.finish(net.quant(net.node("Identity", net.node("MatMul", y, net.weights(4, 2))))), samples(20, 4))
    assert len(done.graph.nodes) == 2


def test_quantizers_in_a_row():
    net = Network(4)
    y = net.quant(net.quant(net.quant("x", 0.25, 0, 6), 0.5, 1, 4, mode="FLOOR"), 0.75, 0, 3)
    check(net.finish(y), samples(50, 4, step=0.125, spread=3))


# pooling

POOLS = {
    "2x2": {"kernel_shape": [2, 2], "strides": [2, 2]},
    "overlapping": {"kernel_shape": [3, 3], "strides": [1, 2]},
    "padded": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    "padded on two sides": {"kernel_shape": [3, 2], "pads": [2, 0, 0, 1]},
    "dilated": {"kernel_shape": [2, 2], "dilations": [2, 3]},
    "SAME_UPPER": {"kernel_shape": [2, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    "SAME_LOWER": {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
}


@pytest.mark.parametrize("attributes", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize(
    "where", ["behind the quantizer", "before the quantizer", "before Relu", "of falling channels"]
)
def test_max_pool(where, attributes):
    """Padding never wins: the images are negative, so padding with zero would show."""
    net = Network(2, 5, 5, seed=11)
    y = net.conv(net.quant("x", 0.25, 0, 4), (3, 2, 2, 2), bias=[-4.0, 0.0, -1.0])
    if where == "of falling channels":
        y = net.norm(y, [-1.0, 0.0, 0.5], [0.1, -3, 0.2], [0, 1, 2], [1, 2, 3])
    if where == "behind the quantizer":
        y = net.node("MaxPool", net.quant(y, 0.5, -1, 4), **attributes)
    else:
        y = net.node("MaxPool", y, **attributes)
        y = net.quant(net.node("Relu", y) if where == "before Relu" else y, 0.5, -1, 4)
    done = check(net.finish(net.quant(y, 1.0, 0, 3)), samples(10, 2, 5, 5, step=0.125))
    assert len(done.ops(WindowMax)) == 1


def test_two_pools_wait_for_one_quantizer():
    net = Network(2, 7, 7, seed=12)
    y = net.norm(net.conv(net.quant("x", 0.25), (3, 2, 2, 2)), [1.0, -1.0, 0.5])
    y = net.node("MaxPool", y, kernel_shape=[2, 2], strides=[1, 1])
    y = net.node("MaxPool", net.node("Mul", y, [[[0.5]], [[2.0]], [[1.0]]]), kernel_shape=[2, 2], strides=[2, 2])
    y = net.node("Gemm", net.node("Flatten", net.quant(y, 0.5)), net.weights(12, 2))
    done = check(net.finish(y), samples(10, 2, 7, 7))
    assert len(done.ops(WindowMax)) == 2


def test_two_quantizers_behind_one_waiting_pool():
    net = Network(2, 4, 4, seed=12)
    y = net.norm(net.conv(net.quant("x", 0.25), (3, 2, 1, 1)), [1.0, -1.0, 0.5])
    y = net.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    check(net.finish(net.quant(y, 0.5), net.quant(y, 0.3, 1, 3)), samples(10, 2, 4, 4))


def test_max_pool_of_quantized_input_and_of_accumulators():
    net = Network(2, 6, 6, seed=13)
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    y = net.conv(net.node("MaxPool", net.quant("x", 0.25, 3), **pool), (3, 2, 2, 2), bias=[0.5, -0.5, 1.0])
    check(net.finish(net.quant(net.node("MaxPool", y, kernel_shape=[2, 1]), 0.5)), samples(10, 2, 6, 6), dyadic=True)


# moving elements


def flat(net, y, how):
    """The ways in which exporters write a flatten; NHWC needs weights in another order."""
    match how:
        case "Flatten":
            return net.node("Flatten", y)
        case "Reshape":
            return net.node("Reshape", y, np.array([0, -1]))
        case "Reshape -1":
            return net.node("Reshape", y, np.array([-1, 36]))
        case "Reshape 1":
            return net.node("Reshape", y, np.array([1, 36]))
        case "channels last":
            return net.node("Flatten", net.node("Transpose", y, perm=[0, 2, 3, 1]))
        case "columns first":
            return net.node("Reshape", net.node("Transpose", y, perm=[0, 3, 1, 2]), np.array([0, -1]))
        case "detour":
            y = net.node("Transpose", net.node("Transpose", y, perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2])
            return net.node("Squeeze", net.node("Reshape", y, np.array([0, 1, 36])), np.array([1]))
        case "computed":
            batch = net.node("Gather", net.node("Shape", y), np.array(0), axis=0)
            shape = net.node("Concat", net.node("Unsqueeze", batch, np.array([0])), np.array([-1]), axis=0)
            return net.node("Reshape", y, shape)


FLATTENS = ["Flatten", "Reshape", "Reshape -1", "Reshape 1", "channels last", "columns first", "detour", "computed"]


# a shape that starts with 1 stands for a batch of 1 alone
EXPORTS = [(how, batch) for how in FLATTENS for batch in (1, 4, "N") if how != "Reshape 1" or batch == 1]


@pytest.mark.parametrize(("how", "batch"), EXPORTS)
def test_flatten(how, batch):
    net = Network(2, 4, 5, seed=14, batch=batch)
    y = net.quant(net.conv(net.quant("x", 0.25), (3, 2, 2, 2)), 0.5)
    y = net.node("Gemm", flat(net, y, how), net.weights(5, 36), [1.0, 0, 0, -1.0, 0.5], transB=1)
    check(net.finish(net.quant(y)), samples(4 if batch != 1 else 1, 2, 4, 5, step=0.125), dyadic=True)


@pytest.mark.parametrize("how", ["Reshape -1", "detour", "computed"])
def test_flatten_before_the_quantizer(how):
    """The waiting steps and the waiting pool keep their channels while their elements move."""
    net = Network(2, 6, 8, seed=15)
    y = net.norm(net.conv(net.quant("x", 0.25), (3, 2, 1, 1)), [1.0, -1.0, 0.5])
    y = net.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    y = net.quant(net.node("Relu", flat(net, y, how)), 0.25)
    check(net.finish(net.node("Gemm", y, net.weights(36, 2))), samples(6, 2, 6, 8))


def test_the_batch_may_be_read_from_the_input():
    """x.view(x.shape[0], -1) further down reads the shape of the float input, which the host knows too."""
    net = Network(2, 4, 4, seed=15)
    y = net.quant(net.conv(net.quant("x", 0.25), (3, 2, 2, 2)), 0.5)
    batch = net.node("Gather", net.node("Shape", "x"), np.array([0]), axis=0)
    y = net.node("Reshape", y, net.node("Concat", batch, np.array([-1]), axis=0))
    check(net.finish(net.node("Gemm", y, net.weights(27, 2))), samples(6, 2, 4, 4, step=0.125), dyadic=True)


def test_images_that_arrive_channels_last():
    net = Network(4, 4, 3, seed=16)
    y = net.quant(net.node("Transpose", "x", perm=[0, 3, 1, 2]), 0.25)
    check(net.finish(net.quant(net.conv(y, (2, 3, 2, 2)))), samples(10, 4, 4, 3, step=0.125), dyadic=True)


def test_tokens_made_from_an_image():
    """(batch, channels, h, w) -> (batch, h * w, channels), as transformers cut patches."""
    net = Network(3, 4, 4, seed=17)
    y = net.quant(net.conv(net.quant("x", 0.25), (5, 3, 2, 2), strides=[2, 2]), 0.5)
    y = net.node("Transpose", net.node("Reshape", y, np.array([0, 5, 4])), perm=[0, 2, 1])
    y = net.quant(net.node("MatMul", y, net.weights(5, 6)), 0.5)
    check(net.finish(y), samples(10, 3, 4, 4, step=0.125), dyadic=True)


# the host's side


def test_two_outputs_from_one_tensor():
    net = Network(6)
    y = net.quant(net.node("MatMul", net.quant("x"), net.weights(6, 4)), 0.5)
    left = net.quant(net.node("MatMul", y, net.weights(4, 2)), 0.5)
    right = net.node("Add", net.node("MatMul", y, net.weights(4, 3)), [1.0, 2.0, 3.0])
    done = check(net.finish(left, right, y), samples(40, 6, step=0.125), dyadic=True)
    assert len(done.graph.outputs) == 3


def test_an_accumulator_that_is_output_and_quantized():
    net = Network(6)
    y = net.node("MatMul", net.quant("x"), net.weights(6, 4))
    check(net.finish(y, net.quant(y, 0.5)), samples(40, 6, step=0.125), dyadic=True)


def test_a_float_tail_stays_with_the_host():
    net = Network(6)
    y = net.node("MatMul", net.quant("x"), net.weights(6, 4))
    y = net.node("Add", net.node("Mul", y, [0.3, 0.1, -0.2, 0.7]), [0.1, 0.2, 0.3, 0.4])
    done = check(net.finish(net.node("Softmax", y, axis=-1), y), samples(40, 6))
    assert [type(node.op) for node in done.graph.nodes] == [MatVec]


def test_a_float_head_stays_with_the_host():
    net = Network(3, 4, 4)
    mean, deviation = np.array([0.4, 0.5, 0.6]).reshape(3, 1, 1), np.array([0.2, 0.3, 0.25]).reshape(3, 1, 1)
    y = net.quant(net.node("Div", net.node("Sub", "x", mean), deviation), 0.02, 0, 8)
    done = check(net.finish(net.quant(net.conv(y, (2, 3, 3, 3)))), np.abs(samples(20, 3, 4, 4)))
    assert [i.quantized for i in done.lowered.inputs] == [y]


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.bool_, np.float16, np.float64])
def test_the_host_feeds_an_input_in_its_own_element_type(kind):
    net = Network(4)
    net.inputs[0].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    y = net.quant(net.node("Cast", "x", to=TensorProto.FLOAT), 0.5, 0, 9)
    model = net.finish(net.quant(net.node("MatMul", y, net.weights(4, 3))))
    x = np.array([[0, 1, 1, 0], [1, 0, 0, 1]], kind)
    design = _design(Path("build"), model, configured(), "net", lambda _: None)
    (codes,) = design.codes(x.astype(np.float64)).values()
    assert (codes == 2 * x.astype(int)).all()
    report = compare_segments(design, {"x": x}, design.codes(x))
    assert (report.activations, report.unexplained) == (6, [])


def test_the_host_computes_the_first_codes_and_nothing_behind_them():
    """An input that the integers do not depend on has to be neither given nor fed."""
    net = Network(4)
    net.inputs.append(helper.make_tensor_value_info("aside", TensorProto.FLOAT, ["N", 3]))
    net.quant("aside")
    model = net.finish(net.quant(net.node("MatMul", net.quant("x"), net.weights(4, 3))))
    design = _design(Path("build"), model, configured(), "net", lambda _: None)
    assert [node.op_type for node in design.host.head.graph.node] == ["Div", "Add", "Min", "Max", "Round", "Sub", "Mul"]
    report = compare_segments(design, {"x": samples(5, 4)}, design.codes({"x": samples(5, 4)}))
    assert (report.activations, report.unexplained) == (15, [])


def test_an_integer_input_needs_no_quantizer():
    """Its normalization is then part of the hardware: Div 255, Sub mean, Quant become one requantizer."""
    net = Network(3, 4, 4)
    y = net.node("Sub", net.node("Div", "x", 255.0), np.array([0.4, 0.5, 0.6]).reshape(3, 1, 1))
    y = net.quant(net.conv(net.quant(y, 0.01, 0, 8), (2, 3, 3, 3)), 0.25)
    x = np.random.default_rng(0).integers(0, 256, (12, 3, 4, 4))
    done = check(net.finish(y), x, integers={"x": "uint8"})
    assert [i.quantized for i in done.lowered.inputs] == [None]
    assert len(done.ops(Requantize)) == 2


def test_an_integer_input_feeds_a_product():
    net = Network(6)
    y = net.quant(net.node("MatMul", "x", net.weights(6, 3)), 2.0)
    x = np.random.default_rng(0).integers(-128, 128, (40, 6))
    check(net.finish(y), x, integers={"x": "int8"}, dyadic=True)


def test_two_inputs():
    net = Network(4)
    net.inputs.append(helper.make_tensor_value_info("side", TensorProto.FLOAT, ["N", 3]))
    left = net.quant(net.node("MatMul", net.quant("x"), net.weights(4, 2)))
    right = net.quant(net.node("MatMul", net.quant("side", 0.5), net.weights(3, 2)))
    check(net.finish(left, right), {"x": samples(20, 4), "side": samples(20, 3, seed=1)}, dyadic=True)


def test_one_input_with_two_quantizers():
    net = Network(4)
    left = net.node("MatMul", net.quant("x"), net.weights(4, 2))
    right = net.node("MatMul", net.quant("x", 0.5, 0, 2), net.weights(4, 2))
    check(net.finish(net.quant(left), net.quant(right)), samples(20, 4, step=0.125), dyadic=True)


@pytest.mark.parametrize("batch", [1, 4, "N"])
def test_the_batch_of_the_export_does_not_matter(batch):
    net = Network(2, 4, 4, batch=batch, seed=18)
    y = net.quant(net.conv(net.quant("x", 0.25), (3, 2, 2, 2)), 0.5)
    y = net.node("Softmax", net.node("Gemm", net.node("Flatten", y), net.weights(27, 3)), axis=1)
    model = net.finish(y)
    x = samples(7, 2, 4, 4, step=0.125)
    _, graph, host = designed(model)
    (mine,) = host.reals(run(graph, host.codes({"x": x}))).values()
    theirs = session(symbolic_batch(expand_quant(model))).run(None, {"x": x.astype(f32)})[0]
    np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_other_domains_constant_nodes_and_unnamed_nodes():
    net = Network(4)
    model = net.finish(net.quant(net.node("MatMul", net.quant("x"), net.weights(4, 2)), op_type="IntQuant"))
    for node in model.graph.node:
        node.name = ""
        node.domain = "onnx.brevitas" if node.domain == QONNX else ""
    tensors = list(model.graph.initializer)
    del model.graph.initializer[:]
    for tensor in reversed(tensors):
        model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    model.opset_import[1].domain = "onnx.brevitas"
    assert len(lower(model).graph.nodes) == 2


# networks at random


@st.composite
def networks(draw):
    """Small networks of one to three blocks: product, steps, pool, quantizer; and whether float32 computes them exactly."""
    dyadic = draw(st.booleans())
    net = Network(2, 5, 4, seed=draw(st.integers(0, 99)))

    def scale(low=-4, high=0):
        power = 2.0 ** draw(st.integers(low, high))
        return power if dyadic else power * draw(st.floats(0.5, 1, width=16))

    def quantizer(y, channels=None):
        bits, signed = draw(st.integers(1, 6)), draw(st.booleans())
        steps = np.array([scale(-2, 1) for _ in range(channels)]).reshape(1, -1, 1, 1) if channels else scale(-2, 1)
        zero = draw(st.integers(-3, 3)) if bits > 1 else 0
        return net.quant(y, steps, zero, bits, signed, draw(st.booleans()), draw(st.sampled_from(MODES)))

    def padding():  # a bipolar tensor has no code for zero
        bits = next(int(numpy_helper.to_array(t)) for t in net.initializers if t.name == net.nodes[-1].input[3])
        return draw(st.tuples(*[st.integers(0, 1)] * 4)) if bits > 1 else (0, 0, 0, 0)

    y, channels, size = quantizer("x"), 2, (5, 4)
    for _ in range(draw(st.integers(1, 2))):
        outputs = draw(st.integers(1, 4))
        kernel = draw(st.tuples(st.integers(1, min(3, size[0])), st.integers(1, min(3, size[1]))))
        stride, pads = draw(st.tuples(st.integers(1, 2), st.integers(1, 2))), padding()
        bits = draw(st.integers(1, 6))
        weight = net.weights(outputs, channels, *kernel, scale=scale(), bits=bits, narrow=draw(st.booleans()))
        bias = net.rng.integers(-8, 8, outputs) / 4 if draw(st.booleans()) else None
        y = net.conv(y, None, weight=weight, bias=bias, strides=list(stride), pads=list(pads))
        size = tuple((n + pads[a] + pads[a + 2] - kernel[a]) // stride[a] + 1 for a, n in enumerate(size))
        channels = outputs
        if draw(st.booleans()) and not dyadic:
            y = net.norm(y, [scale() * draw(st.sampled_from([-1, 0, 1])) for _ in range(outputs)])
        elif draw(st.booleans()):
            y = net.node(
                "Mul", y, np.array([scale(-1, 1) * draw(st.sampled_from([-1, 1]))] * outputs).reshape(-1, 1, 1)
            )
        if draw(st.booleans()) and min(size) >= 2:
            y = net.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 1])
            size = ((size[0] - 2) // 2 + 1, size[1] - 1)
        if draw(st.booleans()):
            y = net.node("Relu", y)
        y = quantizer(y)
    if draw(st.booleans()):
        y = net.node("Gemm", net.node("Flatten", y), net.weights(channels * size[0] * size[1], 2, scale=scale()))
    return net.finish(y), dyadic


def test_a_tail_of_an_input_that_is_stored_as_integers():
    net = Network(3)
    net.inputs[0] = helper.make_tensor_value_info("x", TensorProto.INT8, ["N", 3])
    model = net.finish(net.node("Softmax", net.node("Cast", "x", to=TensorProto.FLOAT)))
    _, _, host = designed(model, x="int8")
    x = np.array([[-3, 0, 2], [7, 7, -8]])
    (made,) = host.reals(host.codes({"x": x})).values()
    wanted = np.exp(x - x.max(axis=1, keepdims=True))
    np.testing.assert_allclose(made, wanted / wanted.sum(axis=1, keepdims=True), rtol=1e-6)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(networks(), st.integers(0, 9))
def test_networks_at_random(network, seed):
    model, dyadic = network
    check(model, samples(6, 2, 5, 4, seed=seed, step=0.125), dyadic=dyadic)
