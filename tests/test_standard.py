"""The expansion of QONNX quantizers into standard ONNX against the qonnx package itself, bit for bit."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from qonnx.custom_op.general.bipolar_quant import binary_quant
from qonnx.custom_op.general.quant import quant
from qonnx.custom_op.general.trunc import trunc_v1, trunc_v2

from broadaxe.errors import UnsupportedModelError
from broadaxe.frontend.standard import ROUNDING_MODES, expand_quant, session

DOMAIN = "qonnx.custom_op.general"
f32 = np.float32


def one_node(
    op_type, x_shape, parameters, *, opset=20, domain=DOMAIN, domain_version=1, constant_nodes=False, **attributes
):
    """A model of one quantizer whose parameters are initializers, or Constant nodes."""
    names = [f"p{i}" for i in range(len(parameters))]
    node = helper.make_node(op_type, ["x", *names], ["y"], name="q", domain=domain, **attributes)
    tensors = [numpy_helper.from_array(np.asarray(p), name) for p, name in zip(parameters, names, strict=True)]
    nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in tensors] if constant_nodes else []
    graph = helper.make_graph(
        [*nodes, node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, x_shape)],
        [] if constant_nodes else tensors,
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(domain, domain_version)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def run(model, x):
    return session(expand_quant(model)).run(None, {"x": x})[0]


def assert_same_bits(got, expected):
    """Equal float32 numbers; the sign of a zero is free."""
    assert got.dtype == np.float32
    assert np.asarray(expected).dtype == np.float32
    np.testing.assert_array_equal((got + f32(0)).view(np.int32), (expected + f32(0)).view(np.int32))


def samples(scale, zero_point, low, high, seed=0):
    """Values per channel: codes and ties in and near the range, the floats next to them, far values, noise, zeros."""
    codes = np.arange(2 * max(low, -40) - 4, 2 * min(high, 40) + 5) / 2
    edges = np.asarray([low - 1.5, low - 0.5, low, high, high + 0.5, high + 1.5, 1e9, -1e9])
    codes = np.concatenate([codes, edges])[:, None]
    exact = ((codes - zero_point.reshape(1, -1)) * scale.reshape(1, -1)).astype(f32)
    around = [exact, np.nextafter(exact, f32(np.inf)), np.nextafter(exact, f32(-np.inf)), -exact]
    noise = np.random.default_rng(seed).normal(size=(64, exact.shape[1])) * (high - low + 1) * scale.reshape(1, -1)
    zeros = np.zeros((2, exact.shape[1])) * [[1.0], [-1.0]]
    return np.concatenate([*around, noise, zeros]).astype(f32)


SCALES = {
    "one": np.asarray(1, f32),
    "power of two": np.asarray(0.125, f32),
    "any": np.asarray(0.0371, f32),
    "per channel": np.asarray([[0.25, 0.0371, 3.0, 1 / 255]], f32),
}


def code_range(bits, signed, narrow):
    return (-(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1 - narrow)


@pytest.mark.parametrize("mode", ROUNDING_MODES)
@pytest.mark.parametrize(("signed", "narrow"), [(1, 0), (1, 1), (0, 0), (0, 1)])
def test_quant_has_the_bits_of_qonnx(mode, signed, narrow):
    for bits, (index, name) in itertools.product(range(1, 17), enumerate(SCALES)):
        scale, zero_point = SCALES[name], (0.0, 3.0, -1.5)[(bits + index) % 3]
        zero = np.asarray(zero_point, f32)
        width = np.asarray(bits, f32)
        x = samples(scale, zero, *code_range(bits, signed, narrow))
        expected = quant(x, scale, zero, width, bool(signed), bool(narrow), mode)
        model = one_node(
            "Quant", [None, x.shape[1]], [scale, zero, width], signed=signed, narrow=narrow, rounding_mode=mode
        )
        try:
            assert_same_bits(run(model, x), expected)
        except AssertionError as error:
            raise AssertionError(f"{bits} bits, scale {name}, zero point {zero_point}: {error}") from None


def test_the_samples_reach_ties_and_both_clamps():
    """Otherwise the comparison above would not tell the rounding modes apart."""
    zero, scale, width = np.asarray(0, f32), SCALES["power of two"], np.asarray(4, f32)
    x = samples(scale, zero, -8, 7)
    results = {mode: quant(x, scale, zero, width, True, False, mode).tobytes() for mode in ROUNDING_MODES}
    assert len(set(results.values())) == len(ROUNDING_MODES) - 1  # ROUND is HALF_EVEN
    codes = quant(x, scale, zero, width, True, False, "ROUND") / scale
    assert codes.min() == -8
    assert codes.max() == 7


def test_channels_have_their_own_zero_points_and_bit_widths():
    scale = SCALES["per channel"]
    zero, width = np.asarray([[0, 1, -2, 0.5]], f32), np.asarray([[2, 3, 5, 8]], f32)
    x = samples(scale, zero, -40, 40)
    model = one_node("Quant", [None, 4], [scale, zero, width], signed=1, narrow=0, rounding_mode="ROUND")
    columns = [  # qonnx itself takes one bit width at a time
        quant(x[:, c : c + 1], scale[:, c], zero[:, c], width[:, c], True, False, "ROUND") for c in range(4)
    ]
    assert_same_bits(run(model, x), np.concatenate(columns, axis=1))


@pytest.mark.parametrize("width", [3.5, 24.0, 32.0])
def test_bit_widths_that_are_fractional_or_wider_than_a_float(width):
    zero, scale, bits = np.asarray(0, f32), SCALES["any"], np.asarray(width, f32)
    x = np.concatenate([samples(scale, zero, -20, 20), np.asarray([[2.0**33], [-(2.0**33)]], f32)])
    model = one_node("Quant", [None, 1], [scale, zero, bits], signed=1, narrow=1, rounding_mode="ROUND")
    assert_same_bits(run(model, x), quant(x, scale, zero, bits, True, True, "ROUND"))


@pytest.mark.parametrize("opset", [9, 10, 11, 13, 17, 22])
@pytest.mark.parametrize("mode", ROUNDING_MODES)
def test_every_operator_set_from_9(opset, mode):
    zero, scale, width = np.asarray(1, f32), SCALES["per channel"], np.asarray(6, f32)
    x = samples(scale, zero, -32, 31)
    parameters = [scale, zero, width]
    model = one_node("Quant", [None, 4], parameters, opset=opset, signed=1, narrow=0, rounding_mode=mode)
    assert_same_bits(run(model, x), quant(x, scale, zero, width, True, False, mode))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-(2.0**31), 2.0**31, width=32), min_size=1, max_size=50))
def test_rounding_without_the_round_operator(values):
    x = np.asarray([values, np.round(values) + 0.5, np.nextafter(np.round(values) + f32(0.5), 0)], f32).reshape(1, -1)
    one, zero, width = np.asarray(1, f32), np.asarray(0, f32), np.asarray(40, f32)
    parameters = [one, zero, width]
    model = one_node("Quant", [1, None], parameters, opset=9, signed=1, narrow=0, rounding_mode="ROUND")
    assert_same_bits(run(model, x), np.round(x))


@pytest.mark.parametrize("domain", ["onnx.brevitas", "finn.custom_op.general"])
def test_other_domains_constant_nodes_and_lower_case_modes(domain):
    zero, scale, width = np.asarray(0, f32), SCALES["any"], np.asarray(4, f32)
    x = samples(scale, zero, -8, 7)
    for op_type in ("Quant", "IntQuant"):
        model = one_node(
            op_type,
            [None, 1],
            [scale, zero, width],
            domain=domain,
            constant_nodes=True,
            signed=1,
            narrow=0,
            rounding_mode="floor",
        )
        assert_same_bits(run(model, x), quant(x, scale, zero, width, True, False, "FLOOR"))


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_bipolar_quant(scale):
    x = samples(scale, np.asarray(0, f32), -3, 3)
    assert_same_bits(run(one_node("BipolarQuant", [None, x.shape[1]], [scale]), x), binary_quant(x, scale))


@pytest.mark.parametrize("mode", ROUNDING_MODES)
@pytest.mark.parametrize(("in_bits", "out_bits"), [(8, 4), (10, 8), (6, 6), (5, 1)])
def test_trunc_version_1(mode, in_bits, out_bits):
    for scale, zero_point in itertools.product(SCALES.values(), (0.0, 3.0)):
        parameters = [scale, *(np.asarray(v, f32) for v in (zero_point, in_bits, out_bits))]
        x = samples(scale, parameters[1], -40, 40)
        model = one_node("Trunc", [None, x.shape[1]], parameters, domain_version=1, rounding_mode=mode)
        assert_same_bits(run(model, x), trunc_v1(x, *parameters, mode))


@pytest.mark.parametrize("mode", ROUNDING_MODES)
@pytest.mark.parametrize(("signed", "narrow"), [(1, 0), (1, 1), (0, 0)])
def test_trunc_version_2(mode, signed, narrow):
    for scale, zero_point, factor in itertools.product(SCALES.values(), (0.0, 3.0), (1, 4, 15.9)):
        zero, in_bits, out_bits = (np.asarray(v, f32) for v in (zero_point, 8, 4))
        out_scale = np.asarray(scale * f32(factor), f32)
        x = samples(scale, zero, -140, 140)
        model = one_node(
            "Trunc",
            [None, x.shape[1]],
            [scale, zero, in_bits, out_scale, out_bits],
            domain_version=2,
            rounding_mode=mode,
            signed=signed,
            narrow=narrow,
        )
        expected = trunc_v2(x, scale, zero, in_bits, bool(narrow), bool(signed), out_scale, out_bits, mode)
        assert_same_bits(run(model, x), expected)


def two_quants():
    """x -> Quant -> Relu -> Quant, the second with a scale that the graph computes."""
    attributes = {"domain": DOMAIN, "signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
    nodes = [
        helper.make_node("Quant", ["x", "s", "z", "b"], ["mid"], name="first", **attributes),
        helper.make_node("Relu", ["mid"], ["relu"], name="relu"),
        helper.make_node("Mul", ["s", "two"], ["s2"], name="scale"),
        helper.make_node("Quant", ["relu", "s2", "z", "b"], ["y"], name="second", **attributes),
    ]
    constants = {"s": 0.1, "z": 0.0, "b": 4.0, "two": 2.0}
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.asarray(value, f32), name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 2)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def test_tensors_keep_their_names_and_the_model_is_left_alone():
    model = two_quants()
    before = model.SerializeToString()
    expanded = expand_quant(model)
    assert model.SerializeToString() == before
    onnx.checker.check_model(expanded, full_check=True)
    assert {entry.domain for entry in expanded.opset_import} == {""}
    written = [name for node in expanded.graph.node for name in node.output]
    assert len(written) == len(set(written))
    assert {"mid", "relu", "s2", "y"} <= set(written)


def test_a_session_returns_the_tensors_asked_for_in_their_order():
    x = np.linspace(-2, 2, 30, dtype=f32).reshape(10, 3)
    y, mid = session(expand_quant(two_quants()), ["y", "mid"]).run(None, {"x": x})
    s, z, bits = np.asarray(0.1, f32), np.asarray(0, f32), np.asarray(4, f32)
    expected_mid = quant(x, s, z, bits, True, False, "ROUND")
    assert_same_bits(mid, expected_mid)
    assert_same_bits(y, quant(np.maximum(expected_mid, 0), s * f32(2), z, bits, True, False, "ROUND"))


def test_expanding_twice_changes_nothing():
    expanded = expand_quant(two_quants())
    assert expand_quant(expanded).SerializeToString() == expanded.SerializeToString()


def quantizer_with(parameters=(0.1, 0.0, 4.0), op_type="Quant", version=1, opset=20, **attributes):
    attributes = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"} | attributes
    attributes = {name: value for name, value in attributes.items() if value is not None}
    arrays = [p if isinstance(p, np.ndarray) else np.asarray(p, f32) for p in parameters]
    return one_node(op_type, [None, 2], arrays, opset=opset, domain_version=version, **attributes)


def with_computed_bits():
    model = quantizer_with()
    model.graph.node[0].input[3] = "b2"
    model.graph.node.insert(0, helper.make_node("Neg", ["p2"], ["b2"]))
    return model


def within_if():
    model = quantizer_with()
    inner = model.graph.node[0]
    body = helper.make_graph([inner], "body", [], list(model.graph.output))
    outer = helper.make_node("If", ["c"], ["y"], name="branch", then_branch=body, else_branch=body)
    del model.graph.node[:]
    model.graph.node.append(outer)
    return model


MODES = "ROUND, HALF_EVEN, CEIL, FLOOR, UP, DOWN, HALF_UP, HALF_DOWN"
MALFORMED = {
    "rounding mode": (
        quantizer_with(rounding_mode="NEAREST"),
        f"q (Quant): rounding mode is unknown, NEAREST; use one of {MODES}",
    ),
    "no rounding mode": (
        quantizer_with((0.1, 0, 8, 4), "Trunc", rounding_mode=None, signed=None, narrow=None),
        f"q (Trunc): rounding mode is unknown, missing; use one of {MODES}",
    ),
    "no signed": (
        quantizer_with(signed=None),
        "q (Quant): attribute signed is neither 0 nor 1, missing; set one of them",
    ),
    "inputs": (
        quantizer_with((0.1, 0.0)),
        "q (Quant): wrong number of tensors, 3 inputs and 1 outputs; this version has 4 inputs and 1 output",
    ),
    "inputs of Trunc v2": (
        quantizer_with((0.1, 0, 8, 4), "Trunc", version=2),
        "q (Trunc): wrong number of tensors, 5 inputs and 1 outputs; this version has 6 inputs and 1 output",
    ),
    "zero bits": (
        quantizer_with((0.1, 0.0, 0.0)),
        "q (Quant): bit width is not a positive number, 0.0; give it 1 bit or more",
    ),
    "computed bits": (
        with_computed_bits(),
        "q (Quant): bit width is not a constant, b2; make it an initializer or a Constant",
    ),
    "mixed bipolar": (
        quantizer_with((0.1, 0.0, np.asarray([1, 4], f32))),
        "q (Quant): only some channels are bipolar, bit widths [1.0, 4.0]; give every channel 1 bit or none",
    ),
    "double scale": (
        quantizer_with((np.asarray(0.1), 0.0, 4.0)),
        "q (Quant): input 1 is not float32, float64; store p0 as float32",
    ),
    "subgraph": (
        within_if(),
        "branch (If): a quantizer stands in its subgraph, q (Quant); unroll the control flow",
    ),
    "old operator set": (
        quantizer_with(opset=8),
        "model: operator set too old, 8; convert it to 9 or newer with onnx.version_converter",
    ),
}


@pytest.mark.parametrize(("model", "message"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_quantizers_are_refused_by_name(model, message):
    with pytest.raises(UnsupportedModelError) as refusal:
        expand_quant(model)
    assert str(refusal.value) == message


def test_a_session_refuses_a_tensor_that_nobody_writes():
    with pytest.raises(UnsupportedModelError) as refusal:
        session(expand_quant(two_quants()), ["nowhere"])
    assert str(refusal.value) == "nowhere: no node writes this tensor; ask for the output of a node"


def test_a_session_refuses_an_unexpanded_model_in_one_line():
    with pytest.raises(UnsupportedModelError, match=r"model: onnxruntime does not load it, .*; every") as refusal:
        session(two_quants())
    assert "\n" not in str(refusal.value)
