"""FINN's dialect: thresholds, integer weights, lowered and hardware operators, against plain numpy and onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from models import Network, design, f32, samples
from onnx import TensorProto, helper, numpy_helper

from broadaxe.build import Build
from broadaxe.chain import Affine, Quantizer, Thresholded, codes
from broadaxe.errors import RequestError, UnsupportedModelError
from broadaxe.frontend.batch import symbolic_batch
from broadaxe.frontend.standard import expand_quant, session
from broadaxe.ops import GroupedMatVec, MatVec, Requantize
from broadaxe.ops.forms import MultiplyShift
from broadaxe.reference import run
from broadaxe.segments import compare_segments
from broadaxe.staircase import staircase
from broadaxe.types import Interval, IntType

GENERAL = "finn.custom_op.general"
HARDWARE = "finn.custom_op.fpgadataflow"
Array = np.ndarray[Any, Any]


# Models


class Finn:
    """A model as FINN writes it: integers in float32, their types in annotations."""

    def __init__(self, shape: Sequence[int], kind: str = "UINT4", seed: int = 0, opset: int = 11) -> None:
        self.rng, self.opset = np.random.default_rng(seed), opset
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.annotations: list[onnx.TensorAnnotation] = []
        self.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *shape])]
        self.annotate("x", kind)

    def annotate(self, name: str, kind: str, key: str = "finn_datatype") -> None:
        entry = onnx.StringStringEntryProto(key=key, value=kind)
        self.annotations.append(onnx.TensorAnnotation(tensor_name=name, quant_parameter_tensor_names=[entry]))

    def constant(self, array: Any, kind: str | None = None) -> str:
        name = f"c{len(self.initializers)}"
        integers = isinstance(array, np.ndarray) and array.dtype == np.int64 and kind is None
        self.initializers.append(numpy_helper.from_array(np.asarray(array, np.int64 if integers else f32), name))
        if kind is not None:
            self.annotate(name, kind)
        return name

    def node(self, op_type: str, *inputs: Any, domain: str = "", outputs: int = 1, **attributes: Any) -> Any:
        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        number = len(self.nodes)
        made = [f"t{number}"] if outputs == 1 else [f"t{number}_{i}" for i in range(outputs)]
        name = f"{op_type.lower()}{number}"
        self.nodes.append(helper.make_node(op_type, names, made, name, domain=domain, **attributes))
        return made[0] if outputs == 1 else made

    def thresholds(self, x: str, rows: Any, domain: str = GENERAL, **attributes: Any) -> str:
        return str(self.node("MultiThreshold", x, np.asarray(rows, f32), domain=domain, **attributes))

    def finish(self, *outputs: str) -> onnx.ModelProto:
        """The last node is made the output `y` unless outputs are named."""
        graph = helper.make_graph(
            self.nodes,
            "finn",
            self.inputs,
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.initializers,
        )
        graph.quantization_annotation.extend(self.annotations)
        domains = {node.domain for node in self.nodes} - {""}
        imports = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(d, 1) for d in sorted(domains))]
        return helper.make_model(graph, opset_imports=imports, ir_version=7)


def counted(x: Array, rows: Any, axis: int = -1) -> Array:
    """How many thresholds of its channel each element reaches."""
    rows = np.asarray(rows, np.float64)
    rows = np.repeat(rows, x.shape[axis], axis=0) if len(rows) == 1 else rows
    moved = np.moveaxis(np.asarray(x, np.float64), axis, -1)
    out = np.zeros(moved.shape)
    for channel, row in enumerate(rows):
        for threshold in row:
            out[..., channel] += moved[..., channel] >= threshold
    return np.moveaxis(out, -1, axis)


def windows(
    x: Array, kernel: Sequence[int], stride: int, pads: Sequence[int], value: float = 0, dilation: int = 1
) -> Array:
    """Patches of an image (batch, height, width, channels), in the order (kernel height, kernel width, channels)."""
    padded = np.pad(x, ((0, 0), (pads[0], pads[2]), (pads[1], pads[3]), (0, 0)), constant_values=value)
    extent = [(k - 1) * dilation + 1 for k in kernel]
    rows = range(0, padded.shape[1] - extent[0] + 1, stride)
    columns = range(0, padded.shape[2] - extent[1] + 1, stride)
    out = np.zeros((len(x), len(rows), len(columns), kernel[0] * kernel[1] * x.shape[-1]))
    for i, top in enumerate(rows):
        for j, left in enumerate(columns):
            part = padded[:, top : top + extent[0] : dilation, left : left + extent[1] : dilation]
            out[:, i, j] = part.reshape(len(x), -1)
    return out


def equals(model: onnx.ModelProto, x: Array, expected: Array) -> Build:
    """The integer graph and the model in standard operators both give exactly what numpy gave."""
    build = design(model)
    feeds = {"x": np.asarray(x, f32)}
    ours = build.host.reals(run(build.graph, build.codes(feeds)))
    (name,) = ours
    np.testing.assert_array_equal(ours[name], expected)
    theirs = session(symbolic_batch(expand_quant(model))).run([name], feeds)[0]
    np.testing.assert_array_equal(theirs, expected)
    segments = compare_segments(build, feeds, build.codes(feeds))
    assert (segments.flips, segments.unexplained, segments.beyond, segments.differing) == (0, [], [], 0)
    return build


def integers(*shape: int, lo: int = 0, hi: int = 15, seed: int = 1) -> Array:
    return np.random.default_rng(seed).integers(lo, hi + 1, shape)


def refused(model: onnx.ModelProto) -> str:
    with pytest.raises(UnsupportedModelError) as error:
        design(model)
    return str(error.value)


# Thresholds in exact arithmetic


def test_codes_of_thresholds_are_counts() -> None:
    """Reached and passed thresholds in any order, equal ones among them, on falling and constant channels too."""
    rng = np.random.default_rng(3)

    def rows(count: int, length: int) -> tuple[tuple[Fraction, ...], ...]:
        return tuple(
            tuple(
                Fraction(int(n), int(d))
                for n, d in zip(rng.integers(-20, 20, length), rng.choice([1, 2, 3], length), strict=True)
            )
            for _ in range(count)
        )

    x = np.array([list(range(-30, 31))] * 3, dtype=object)
    for trial in range(60):
        end = Thresholded(rows((1, 3)[trial % 2], trial % 5), rows((3, 1)[trial % 2], trial % 3))
        step = Affine(tuple(Fraction(int(n), 3) for n in rng.integers(-5, 6, 3)), (Fraction(1, 2),))
        found = codes((step,), end, x)
        stairs = staircase((step,), end, [Interval(-30, 30)] * 3)
        for c in range(3):
            reached, passed = (r[c if len(r) > 1 else 0] for r in (end.reached, end.passed))
            reals = [step.scale[c] * v + step.shift[0] for v in x[c]]
            assert found[c].tolist() == [sum(r >= t for t in reached) + sum(r > t for t in passed) for r in reals]
            moved = (stairs.steps[c][None, :] <= np.arange(-30, 31)[:, None]).sum(axis=1)
            assert found[c].tolist() == (stairs.first[c] + stairs.direction[c] * moved).tolist()


LAYOUTS = {
    "NC": ((5,), "", 1),
    "NCHW": ((5, 3, 2), "", 1),
    "NCHW said": ((5, 3, 2), "NCHW", 1),
    "NHWC": ((3, 2, 5), "NHWC", 3),
    "NWC": ((4, 5), "", 2),
}


@pytest.mark.parametrize("opset", [9, 13])
@pytest.mark.parametrize("shared", [False, True], ids=["per channel", "one row"])
@pytest.mark.parametrize(("shape", "layout", "axis"), LAYOUTS.values(), ids=LAYOUTS)
def test_multithreshold(shape: tuple[int, ...], layout: str, axis: int, shared: bool, opset: int) -> None:
    """As the input's quantizer, and once more on its codes, thresholds not sorted."""
    net = Finn(shape, "FLOAT32", opset=opset)
    first = net.rng.normal(size=(1 if shared else 5, 7))
    second = net.rng.integers(-4, 10, (1 if shared else 5, 3))
    more = {"data_layout": layout} if layout else {}
    y = net.thresholds("x", first, out_dtype="INT4", out_bias=-3.0, **more)
    z = net.thresholds(net.node("Mul", y, 3.0), second, out_dtype="UINT2", out_scale=0.5, out_bias=0.25, **more)
    x = samples(16, *shape).astype(f32)
    expected = 0.25 + 0.5 * counted(3 * (counted(x, first.astype(f32), axis) - 3), second, axis)
    build = equals(net.finish(z), x, expected)
    (op,) = [node.op for node in build.graph.nodes if isinstance(node.op, Requantize)]
    assert isinstance(op.quantizer, Thresholded)


def test_thresholds_evenly_apart_may_become_a_multiplication() -> None:
    net = Finn((6,), "INT8")
    rows = np.arange(-126.5, 126, 1.0)[None, :] * 3
    y = net.thresholds(net.node("MatMul", "x", net.rng.integers(-3, 4, (6, 4)).astype(f32)), rows, out_dtype="UINT8")
    x = integers(20, 6, lo=-128, hi=127)
    weights = numpy_helper.to_array(net.initializers[0])
    build = equals(net.finish(y), x, counted(x @ weights, rows))
    (op,) = [node.op for node in build.graph.nodes if isinstance(node.op, Requantize)]
    assert isinstance(op.form, MultiplyShift)


def test_a_flip_at_a_threshold_is_explained_and_no_other() -> None:
    """A threshold where float32 rounds a value up to it: float32 reaches it, the exact value does not."""
    net = Network(1)
    x = net.quant("x", 1.0, 0, 6, signed=0)
    gain, divisor = f32(0.1), f32(0.7)
    floats = {v: f32(f32(v) * gain) / divisor for v in range(1, 64)}
    rounded_up = [
        v for v, y in floats.items() if Fraction(float(y)) > v * Fraction(float(gain)) / Fraction(float(divisor))
    ]
    rows = sorted(float(floats[v]) for v in rounded_up[:5])
    y = net.node("MatMul", x, np.ones((1, 1)))
    y = net.node("Div", net.node("Mul", y, gain), divisor)
    model = net.finish(net.node("MultiThreshold", y, np.asarray([rows]), domain=GENERAL, out_dtype="UINT3"))
    build = design(model)
    data = {"x": np.arange(64, dtype=f32)[:, None]}
    report = compare_segments(build, data, build.codes(data))
    assert (report.activations, report.flips, report.unexplained) == (64, 5, [])
    # a threshold that the model does not have is a mismatch, not a flip
    wrong = onnx.ModelProto.FromString(build.host.standard.SerializeToString())
    for tensor in wrong.graph.initializer:
        if numpy_helper.to_array(tensor).reshape(-1).tolist() == rows[:1]:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray([0.05], f32), tensor.name))
    object.__setattr__(build.host, "standard", wrong)
    assert len(compare_segments(build, data, build.codes(data)).unexplained) == rounded_up[0] - 1


def test_what_is_wrong_with_thresholds() -> None:
    def model(rows: Any, **attributes: Any) -> onnx.ModelProto:
        net = Finn((4,), "INT4")
        return net.finish(net.thresholds("x", rows, out_dtype="UINT2", **attributes))

    assert refused(model([[0.0], [1.0]])) == (
        "multithreshold0 (MultiThreshold): its thresholds of shape (2, 1) in data_layout 'NC' do not fit an input of shape"
        " (1, 4); give a row for each channel, or one for all"
    )
    assert refused(model([[0.0]], out_scale=0.0)) == (
        "multithreshold0 (MultiThreshold): its out_scale is 0, which makes all its outputs equal; repair the model"
    )
    assert refused(model([[np.inf]])) == (
        "multithreshold0 (MultiThreshold): its thresholds holds values that are not finite numbers; repair the model"
    )


# Sign


SIGNS = {  # kind, its ends, lowest weight, what is added, levels
    "0 is met": ("INT3", -4, 3, -1, 0.0, 3),
    "0 is never met": ("INT3", -4, 3, -1, 0.5, 2),
    "0 is the lowest": ("UINT2", 0, 3, 1, 0.0, 3),
    "0 is the highest": ("UINT2", 0, 3, 1, -18.0, 3),
    "always above 0": ("UINT2", 0, 3, 1, 1.0, 2),
}


@pytest.mark.parametrize(("kind", "lo", "hi", "least", "shift", "levels"), SIGNS.values(), ids=SIGNS)
def test_sign(kind: str, lo: int, hi: int, least: int, shift: float, levels: int) -> None:
    """Three levels; a layer whose sums never are 0 has one bit."""
    net = Finn((6,), kind)
    weights = net.rng.integers(least, 2, (6, 5)).astype(f32)
    y = net.node("Add", net.node("MatMul", "x", net.constant(weights)), shift)
    z = net.node("MatMul", net.node("Sign", y), net.constant(weights.T.copy()))
    x = np.concatenate([integers(30, 6, lo=lo, hi=hi), np.full((1, 6), lo), np.full((1, 6), hi)])
    build = equals(net.finish(z), x, np.sign(x @ weights + shift) @ weights.T)
    (op,) = [node.op for node in build.graph.nodes if isinstance(node.op, Requantize)]
    assert op.quantizer.hi + 1 == levels
    assert isinstance(op.quantizer, Quantizer if levels == 2 else Thresholded)


def test_sign_of_reals_is_sent_by_the_host() -> None:
    net = Finn((4,), "FLOAT32", opset=9)
    y = net.node("Sign", net.node("Sub", net.node("Mul", "x", 2.0), 1.0))
    weights = net.constant(np.array([[1, -1], [-1, -1], [1, 1], [-1, 1]], f32), "BIPOLAR")
    x = np.array([[0.5, 0.25, 0.75, 0.5], [1, 0, 1, 0]], f32)
    expected = np.sign(2 * x - 1) @ numpy_helper.to_array(net.initializers[-1])
    build = equals(net.finish(net.node("MatMul", y, weights)), x, expected)
    assert build.graph.values["input0"].dtype == IntType(2, signed=False)


# Declared integers


KINDS = {
    "UINT8": (0, 255, "ap_uint<8>"),
    "INT3": (-4, 3, "ap_int<3>"),
    "BINARY": (0, 1, "ap_uint<1>"),
    "TERNARY": (-1, 1, "ap_int<2>"),
    "BIPOLAR": (-1, 1, "ap_uint<1>"),
}


@pytest.mark.parametrize(("kind", "lo", "hi", "dtype"), [(k, *v) for k, v in KINDS.items()])
def test_an_annotated_input_holds_integers(kind: str, lo: int, hi: int, dtype: str) -> None:
    net = Finn((3,), kind)
    x = integers(12, 3, lo=lo, hi=hi)
    x = np.where(x == 0, 1, x) if kind == "BIPOLAR" else x
    weights = net.rng.integers(-8, 8, (3, 2)).astype(f32)
    model = net.finish(net.node("MatMul", "x", net.constant(weights, "INT4")))
    build = equals(model, x, x @ weights)
    assert str(build.graph.values["input0"].dtype) == dtype
    said = f"{lo} or {hi}" if kind == "BIPOLAR" else f"integers {lo} to {hi}"
    for wrong in (hi + 1, lo - 1, lo + 0.5, *([0] if kind == "BIPOLAR" else [])):
        with pytest.raises(RequestError) as error:
            build.codes(np.full((1, 3), wrong, f32))
        assert str(error.value) == (f"input x: holds {wrong:g}; it was declared to hold {said}, clip or round the data")


def test_the_user_has_the_last_word_on_inputs() -> None:
    net = Finn((3,), "UINT8")
    net.node("Mul", "x", 0.5)
    model = net.finish(net.thresholds("t0", [[0.0, 1.0]], out_dtype="UINT2"))
    assert [i.quantized for i in design(model).lowered.inputs] == [None]
    assert str(design(model, inputs={"x": "int4"}).graph.values["input0"].dtype) == "ap_int<4>"
    floats = design(model, inputs={"x": "float32"})
    assert [i.quantized for i in floats.lowered.inputs] == ["t1"]
    assert floats.codes(np.array([[-1, 0.1, 2.5]], f32))["input0"].tolist() == [[0, 1, 2]]


def test_integer_weights_need_no_quant() -> None:
    net = Finn((3, 4, 4), "INT4")
    kernel = net.rng.integers(-7, 8, (2, 3, 3, 3)).astype(f32)
    y = net.node("Conv", "x", net.constant(kernel), kernel_shape=[3, 3])
    x = integers(4, 3, 4, 4, lo=-8, hi=7)
    patches = windows(x.transpose(0, 2, 3, 1), (3, 3), 1, (0, 0, 0, 0))
    expected = (patches @ kernel.transpose(2, 3, 1, 0).reshape(27, 2)).transpose(0, 3, 1, 2)
    build = equals(net.finish(y), x, expected)
    (op,) = [node.op for node in build.graph.nodes if isinstance(node.op, MatVec)]
    assert op.weight_dtype == IntType(4, signed=True)


@pytest.mark.parametrize(("value", "why"), [(0.5, ""), (1 << 16, "")], ids=["a fraction", "too large"])
def test_other_weights_do(value: float, why: str) -> None:
    net = Finn((2,), "INT4")
    assert refused(net.finish(net.node("MatMul", "x", np.array([[1.0], [value]], f32)))) == (
        "matmul0 (MatMul): weights are not quantized; put a Quant on the weight input"
    )


def test_declared_weights_keep_their_type_and_are_checked() -> None:
    net = Finn((2,), "INT4")
    model = net.finish(net.node("MatMul", "x", net.constant([[1.0], [-1.0]], "INT6")))
    (op,) = [node.op for node in design(model).graph.nodes if isinstance(node.op, MatVec)]
    assert op.weight_dtype == IntType(6, signed=True)
    for kind, value in (("BIPOLAR", 0), ("TERNARY", 2), ("UINT4", -1), ("INT2", 3), ("INT2", 0.5)):
        net = Finn((2,), "INT4")
        assert refused(net.finish(net.node("MatMul", "x", net.constant([[1.0], [value]], kind)))) == (
            f"initializer c0: is annotated {kind} but holds {value:g}; correct the annotation or the values"
        )


# Weights behind other operators


def weights_through(net: Network, name: str) -> tuple[str, Array]:
    """Weights of shape (6, 4) behind an operator, and the integers behind them."""
    grid = net.rng.integers(-7, 8, (24,))
    scale = np.float32(0.3)

    def quant(shape: tuple[int, ...], integers: Array = grid) -> str:
        return str(net.quant(integers.reshape(shape) * scale, scale, bits=4))

    flat = grid.reshape(6, 4)
    match name:
        case "Reshape":
            return net.node("Reshape", quant((3, 8)), np.array([6, 4])), flat
        case "Flatten":
            return net.node("Flatten", quant((6, 2, 2))), flat
        case "Squeeze":
            return net.node("Squeeze", quant((6, 1, 4)), np.array([1])), flat
        case "Unsqueeze and Squeeze":
            return net.node("Squeeze", net.node("Unsqueeze", quant((6, 4)), np.array([0])), np.array([0])), flat
        case "Slice":
            wide = np.concatenate([flat, flat[:, ::-1]], axis=1)
            starts, ends, axes = (np.array([v]) for v in (7, 3, 1))
            return net.node("Slice", quant((6, 8), wide), starts, ends, axes, np.array([-1])), wide[:, 7:3:-1]
        case "Gather":
            return net.node("Gather", quant((4, 6)), np.array([3, 1, 1, 0]), axis=0), None
        case "Concat":
            return net.node("Concat", quant((2, 4), grid[:8]), quant((4, 4), grid[8:]), axis=0), flat
        case "Tile":
            return net.node("Tile", quant((6, 2), grid[:12]), np.array([1, 2])), np.tile(grid[:12].reshape(6, 2), 2)
        case "Expand":
            column = grid[:6].reshape(6, 1)
            return net.node("Expand", quant((6, 1), grid[:6]), np.array([6, 4])), np.broadcast_to(column, (6, 4))
        case "Cast":
            return net.node("Cast", quant((6, 4)), to=1), flat
        case "Identity":
            return net.node("Identity", quant((6, 4))), flat
        case "Neg":
            return net.node("Neg", quant((6, 4))), -flat
        case "Mul":
            return net.node("Mul", quant((6, 4)), np.array([0.3, 0.7, 1.9, 0.123], f32)), flat
        case "Div":
            return net.node("Div", quant((6, 4)), np.array([0.3, 0.7, -1.9, 0.123], f32)), flat * [1, 1, -1, 1]
        case "Quant of a Quant":
            return net.quant(quant((6, 4)), scale * 2, bits=3), None
    raise AssertionError(name)


@pytest.mark.parametrize(
    "name",
    [
        *("Reshape", "Flatten", "Squeeze", "Unsqueeze and Squeeze", "Slice", "Concat", "Tile", "Expand", "Cast"),
        *("Identity", "Neg", "Mul", "Div", "Quant of a Quant"),
    ],
)
def test_weights_behind_other_operators(name: str) -> None:
    """They keep their integers; sums stay within the float bound of the model."""
    net = Network(6, seed=4)
    weight, grid = weights_through(net, name)
    x = net.quant("x", 0.25, 3, 4, signed=0)
    model = net.finish(net.quant(net.node("MatMul", x, weight, name="product"), 0.2, 1, 6))
    data = {"x": samples(40, 6, spread=2).astype(f32)}
    build = design(model)
    array = session(expand_quant(model), ["product_out", weight]).run(None, data | {"x": data["x"][:1]})[1]
    lowered = next(node for node in build.lowered.graph.nodes if isinstance(node.op, MatVec))
    value = build.lowered.graph.values[lowered.output]
    rows = lowered.op.weights.T * np.array([float(s) for s in value.scale]) / 0.25
    np.testing.assert_allclose(rows, array, rtol=2.0**-23)
    if grid is not None:
        np.testing.assert_array_equal(lowered.op.weights.T, grid)
    report = compare_segments(build, data, build.codes(data))
    assert report.unexplained == []
    assert report.activations == 160


def test_split_weights() -> None:
    net = Finn((3,), "INT4", opset=11)
    weights = net.rng.integers(-4, 4, (3, 4)).astype(f32)
    first, second = net.node("Split", net.constant(weights, "INT3"), outputs=2, axis=1, split=[3, 1])
    y = net.node("Concat", net.node("MatMul", "x", first), net.node("MatMul", "x", second), axis=1)
    build = equals(
        net.finish(net.thresholds(y, [[-3.0, 0.5, 4.0]], out_dtype="UINT2")),
        x := integers(9, 3, lo=-8, hi=7),
        counted(x @ weights, [[-3.0, 0.5, 4.0]]),
    )
    assert [node.op.weight_dtype for node in build.graph.nodes if isinstance(node.op, MatVec)] == [IntType(3, True)] * 2


@pytest.mark.parametrize("zero_point", [0, 3])
def test_biases_with_and_without_quant(zero_point: int) -> None:
    net = Network(6, seed=5)
    x = net.quant("x", 0.25, 3, 4, signed=0)
    bias = net.rng.normal(size=4)
    plain = net.node("Gemm", x, net.weights(6, 4), bias)
    quantized = net.node("Gemm", x, net.weights(6, 4), net.quant(bias, 0.0625, zero_point, 8))
    model = net.finish(net.quant(plain, 0.3), net.quant(quantized, 0.3))
    data = {"x": samples(40, 6, spread=2).astype(f32)}
    build = design(model)
    report = compare_segments(build, data, build.codes(data))
    assert (report.unexplained, report.activations) == ([], 320)


# Lowered operators


@pytest.mark.parametrize("depthwise", [0, 1])
@pytest.mark.parametrize(
    ("kernel", "stride", "pads", "value", "dilation"),
    [
        ((3, 3), 1, (1, 1, 1, 1), 0, 1),
        ((2, 3), 2, (0, 1, 0, 2), 0, 1),
        ((2, 2), 1, (1, 0, 1, 0), -1, 2),
        ((1, 1), 2, (0,) * 4, 0, 1),
    ],
    ids=["padded", "uneven", "padded with -1, dilated", "every second pixel"],
)
def test_im2col(kernel: Any, stride: int, pads: Any, value: int, dilation: int, depthwise: int) -> None:
    net = Finn((5, 6, 3), "INT4")
    taps = kernel[0] * kernel[1]
    weights = net.rng.integers(-3, 4, (taps * 3, 3 if depthwise else 4)).astype(f32)
    if depthwise:
        weights *= np.tile(np.eye(3), (taps, 1))
    channels_first = net.node("Transpose", "x", perm=[0, 3, 1, 2])
    image = net.node("Transpose", channels_first, perm=[0, 2, 3, 1])
    patches = net.node(
        *("Im2Col", image),
        domain=GENERAL,
        kernel_size=list(kernel),
        stride=[stride, stride],
        pad_amount=list(pads),
        pad_value=value,
        dilations=[dilation, dilation],
        input_shape="(1,5,6,3)",
        depthwise=depthwise,
    )
    net.annotate("x", "['N', 'H', 'W', 'C']", "tensor_layout")
    y = net.node("MatMul", patches, net.constant(weights, "INT3"))
    x = integers(4, 5, 6, 3, lo=-8, hi=7)
    build = equals(net.finish(y), x, windows(x, kernel, stride, pads, value, dilation) @ weights)
    ops = [node.op for node in build.graph.nodes if isinstance(node.op, MatVec | GroupedMatVec)]
    assert [isinstance(op, GroupedMatVec) for op in ops] == [bool(depthwise)]


def test_patches_have_to_be_multiplied() -> None:
    net = Finn((5, 6, 3), "INT4")
    more = {"kernel_size": [2, 2], "stride": [1, 1], "input_shape": "(1,5,6,3)", "domain": GENERAL}
    net.thresholds(net.node("Im2Col", "x", **more), [[0.0]], out_dtype="BINARY")
    said = "im2col0 (Im2Col): is not read by a product, a pool or a sliding window alone; put one behind it"
    assert refused(net.finish("t1")) == said


def test_xnor_popcount() -> None:
    net = Finn((7,), "BINARY")
    weights = net.rng.integers(0, 2, (7, 4)).astype(f32)
    y = net.node("XnorPopcountMatMul", "x", net.constant(weights, "BINARY"), domain=GENERAL)
    x = integers(20, 7, hi=1)
    expected = (x[:, :, None] == weights[None]).sum(axis=1)
    build = equals(
        net.finish(net.thresholds(y, [[2.0, 4.0, 5.0]], out_dtype="UINT2")), x, counted(expected, [[2, 4, 5]])
    )
    (op,) = [node.op for node in build.graph.nodes if isinstance(node.op, MatVec)]
    assert set(np.unique(op.weights)) == {-1, 1}


def test_max_pool_of_channels_last() -> None:
    net = Finn((4, 6, 3), "INT4")
    net.annotate("x", "['N', 'H', 'W', 'C']", "tensor_layout")
    y = net.node("MaxPoolNHWC", "x", domain=GENERAL, kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0])
    x = integers(5, 4, 6, 3, lo=-8, hi=7)
    equals(net.finish(y), x, x.reshape(5, 2, 2, 3, 2, 3).max(axis=(2, 4)))


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_truncated_averages(layout: str, signed: int) -> None:
    """Sums of 9 integers of 4 bits, of which the lowest bits are cut off."""
    shape = (4, 6, 3) if layout == "NHWC" else (3, 4, 6)
    net = Finn(shape, "INT4" if signed else "UINT4")
    if layout == "NHWC":
        net.annotate("x", "['N', 'H', 'W', 'C']", "tensor_layout")
    attributes = {"kernel": 3, "stride": 1, "ibits": 4, "obits": 5, "signed": signed, "data_layout": layout}
    y = net.node("QuantAvgPool2d", "x", domain=GENERAL, **attributes)
    x = integers(5, *shape, lo=-8 if signed else 0, hi=7 if signed else 15)
    last = x if layout == "NHWC" else x.transpose(0, 2, 3, 1)
    patches = windows(last, (3, 3), 1, (0, 0, 0, 0))
    shift = (15 * 9).bit_length() - 5
    expected = np.right_shift(patches.reshape(5, 2, 4, 9, 3).sum(axis=3).astype(int), shift)
    equals(net.finish(y), x, expected if layout == "NHWC" else expected.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("op_type", ["FloatQuant", "GenericPartition"])
def test_what_is_refused_by_name(op_type: str) -> None:
    net = Finn((4,), "INT4")
    said = refused(net.finish(net.node(op_type, "x", domain=GENERAL)))
    assert said.startswith(f"{op_type.lower()}0 ({op_type}): ")
    assert "; " in said
    assert len(said.splitlines()) == 1


# Hardware operators


def mvau(net: Finn, x: str, weights: Array, rows: Any = None, op_type: str = "MVAU_hls", **more: Any) -> str:
    domain = HARDWARE + {"_hls": ".hls", "_rtl": ".rtl"}.get(op_type[-4:], "")
    attributes = {"MW": weights.shape[0], "MH": weights.shape[1], "PE": 1, "SIMD": 1, "numInputVectors": [1]}
    attributes |= {
        "inputDataType": "UINT4",
        "weightDataType": "INT4",
        "outputDataType": "UINT2",
        "accDataType": "INT32",
    }
    attributes |= {"noActivation": int(rows is None), "binaryXnorMode": 0, "ActVal": 0, "backend": "fpgadataflow"}
    inputs = [x, net.constant(weights), *([] if rows is None else [np.asarray(rows, f32)])]
    return str(net.node(op_type, *inputs, domain=domain, **(attributes | more)))


MVAUS = ("MVAU", "MVAU_hls", "MVAU_rtl", "MatrixVectorActivation", "StreamingFCLayer_Batch")


@pytest.mark.parametrize("op_type", MVAUS)
def test_mvau(op_type: str) -> None:
    net = Finn((6,), "UINT4")
    weights, rows = net.rng.integers(-8, 8, (6, 5)).astype(f32), net.rng.integers(-60, 60, (5, 3))
    y = mvau(net, "x", weights, rows, op_type, ActVal=-2, outputDataType="INT2")
    z = mvau(net, y, net.rng.integers(-8, 8, (5, 3)).astype(f32), inputDataType="INT2", outputDataType="INT32")
    x = integers(20, 6)
    hidden = counted(x @ weights, rows) - 2
    build = equals(net.finish(z), x, hidden @ numpy_helper.to_array(net.initializers[-1]))
    origins = [node.origin for node in build.graph.nodes if isinstance(node.op, MatVec)]
    assert origins == [f"{op_type.lower()}0 (MatMul)", "mvau_hls1 (MatMul)"]


def test_mvau_of_images_and_its_bipolar_output() -> None:
    net = Finn((2, 3, 4), "UINT4")
    weights, rows = net.rng.integers(-8, 8, (4, 5)).astype(f32), net.rng.integers(-60, 60, (5, 1))
    y = mvau(net, "x", weights, rows, numInputVectors=[1, 2, 3], outputDataType="BIPOLAR")
    net.annotate("x", "['N', 'H', 'W', 'C']", "tensor_layout")
    x = integers(20, 2, 3, 4)
    equals(net.finish(y), x, 2 * counted(x @ weights, rows) - 1)


@pytest.mark.parametrize("mode", ["binaryXnorMode", "BIPOLAR"])
def test_mvau_that_counts_matches(mode: str) -> None:
    xnor = mode == "binaryXnorMode"
    net = Finn((6,), "BINARY" if xnor else "BIPOLAR")
    bits = net.rng.integers(0, 2, (6, 5))
    rows = net.rng.integers(1, 6, (5, 1))
    kinds = {} if xnor else {"inputDataType": "BIPOLAR", "weightDataType": "BIPOLAR"}
    weights = (bits if xnor else 2 * bits - 1).astype(f32)
    y = mvau(net, "x", weights, rows, binaryXnorMode=int(xnor), **kinds)
    x = integers(20, 6, hi=1)
    expected = counted((x[:, :, None] == bits[None]).sum(axis=1), rows)
    equals(net.finish(y), x if xnor else 2 * x - 1, expected)


def generator(net: Finn, x: str, kernel: int, size: Sequence[int], channels: int, stride: int = 1, **more: Any) -> str:
    attributes = {
        "ConvKernelDim": [kernel, kernel],
        "IFMDim": list(size),
        "Stride": [stride, stride],
        "Dilation": [1, 1],
    }
    attributes |= {"IFMChannels": channels, "SIMD": 1, "inputDataType": "UINT4", "outputDataType": "UINT4"}
    return str(net.node("ConvolutionInputGenerator_rtl", x, domain=f"{HARDWARE}.rtl", **(attributes | more)))


def image(shape: Sequence[int], kind: str = "UINT4") -> Finn:
    net = Finn(shape, kind)
    net.annotate("x", "['N', 'H', 'W', 'C']", "tensor_layout")
    return net


def test_a_convolution_in_hardware_operators() -> None:
    """Padding, sliding window, MVAU with thresholds, FIFO, pool, labels."""
    net = image((4, 4, 2))
    weights, rows = net.rng.integers(-4, 5, (18, 3)).astype(f32), net.rng.integers(-90, 90, (3, 3))
    padded = net.node(
        "FMPadding_rtl", "x", domain=f"{HARDWARE}.rtl", ImgDim=[4, 4], Padding=[1, 1, 1, 1], NumChannels=2
    )
    y = mvau(net, generator(net, padded, 3, (6, 6), 2), weights, rows, numInputVectors=[1, 4, 4])
    y = net.node("StreamingFIFO_rtl", y, domain=f"{HARDWARE}.rtl", depth=4)
    y = net.node("StreamingMaxPool_hls", y, domain=f"{HARDWARE}.hls", ImgDim=[4, 4], PoolDim=[2, 2], NumChannels=3)
    x = integers(6, 4, 4, 2)
    conv = counted(windows(x, (3, 3), 1, (1, 1, 1, 1)) @ weights, rows)
    build = equals(net.finish(y), x, conv.reshape(6, 2, 2, 2, 2, 3).max(axis=(2, 4)))
    assert [node.op.kind for node in build.graph.nodes] == ["window", "matvec", "requantize", "window", "window_max"]


def test_vvau() -> None:
    net = image((5, 5, 3))
    weights, rows = net.rng.integers(-4, 5, (3, 1, 2, 2)).astype(f32), net.rng.integers(-30, 30, (3, 3))
    patches = generator(net, "x", 2, (5, 5), 3, 1, depthwise=1)
    attributes = {"Channels": 3, "Dim": [4, 4], "Kernel": [2, 2], "inputDataType": "UINT4", "weightDataType": "INT4"}
    attributes |= {"outputDataType": "UINT2", "noActivation": 0, "ActVal": 0, "PE": 1}
    y = net.node(
        "VVAU_hls", patches, net.constant(weights), np.asarray(rows, f32), domain=f"{HARDWARE}.hls", **attributes
    )
    x = integers(6, 5, 5, 3)
    taps = windows(x, (2, 2), 1, (0, 0, 0, 0)).reshape(6, 4, 4, 4, 3)
    expected = counted((taps * weights.reshape(3, 4).T).sum(axis=3), rows)
    build = equals(net.finish(y), x, expected)
    assert [op.depthwise for op in (n.op for n in build.graph.nodes) if isinstance(op, GroupedMatVec)] == [True]


@pytest.mark.parametrize("op_type", ["Thresholding", "Thresholding_Batch", "Thresholding_hls", "Thresholding_rtl"])
@pytest.mark.parametrize("kind", ["INT3", "BIPOLAR"])
def test_thresholding(op_type: str, kind: str) -> None:
    net = image((2, 3, 4), "INT8")
    rows = net.rng.integers(-100, 100, (4, 1 if kind == "BIPOLAR" else 5))
    attributes = {"NumChannels": 4, "numInputVectors": [1, 2, 3], "outputDataType": kind, "PE": 1}
    attributes |= {"ActVal": 0 if kind == "BIPOLAR" else -3}
    y = net.node(op_type, "x", np.asarray(rows, f32), domain=HARDWARE, **attributes)
    x = integers(9, 2, 3, 4, lo=-128, hi=127)
    expected = 2 * counted(x, rows) - 1 if kind == "BIPOLAR" else counted(x, rows) - 3
    equals(net.finish(y), x, expected)


def test_streams_are_duplicated_and_added() -> None:
    net = Finn((4,), "UINT4")
    first, second = net.node("DuplicateStreams_hls", "x", domain=f"{HARDWARE}.hls", outputs=2, NumChannels=4)
    left = mvau(net, first, net.rng.integers(-4, 5, (4, 4)).astype(f32), [[-9.0, 3.0, 20.0]])
    right = net.node(
        "Thresholding_rtl", second, np.array([[3, 8, 9]], f32), domain=f"{HARDWARE}.rtl", outputDataType="UINT2"
    )
    y = net.node("AddStreams_hls", left, right, domain=f"{HARDWARE}.hls", NumChannels=4, inputDataType="UINT2")
    y = net.node(
        "ChannelwiseOp_hls", y, np.array([3, -2, 1, 5], f32), domain=f"{HARDWARE}.hls", Func="mul", NumChannels=4
    )
    weights = numpy_helper.to_array(net.initializers[0])
    x = integers(20, 4)
    expected = (counted(x @ weights, [[-9, 3, 20]]) + counted(x, [[3, 8, 9]])) * [3, -2, 1, 5]
    equals(net.finish(y), x, expected)


@pytest.mark.parametrize("function", ["MaxPool", "AccPool", "QuantAvgPool"])
def test_pools_behind_a_sliding_window(function: str) -> None:
    net = image((4, 4, 3))
    patches = generator(net, "x", 2, (4, 4), 3, 2, depthwise=1)
    attributes = {"Function": function, "KernelSize": [2, 2], "Channels": 3, "OutImgDims": [2, 2]}
    attributes |= {"InputDataType": "UINT4", "OutputDataType": "UINT4"}
    y = net.node("Pool_hls", patches, domain=f"{HARDWARE}.hls", **attributes)
    x = integers(6, 4, 4, 3)
    parts = x.reshape(6, 2, 2, 2, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(6, 2, 2, 4, 3)
    sums = parts.sum(axis=3)
    expected = {"MaxPool": parts.max(axis=3), "AccPool": sums, "QuantAvgPool": sums >> 2}[function]
    equals(net.finish(y), x, expected)


def test_sums_over_an_image() -> None:
    net = image((2, 4, 3))
    y = net.node("GlobalAccPool", "x", domain=HARDWARE, NumChannels=3, numInputVectors=[1, 2, 4])
    x = integers(6, 2, 4, 3)
    equals(net.finish(y), x, x.sum(axis=(1, 2), keepdims=True))


def test_labels() -> None:
    net = Finn((4,), "UINT4")
    y = mvau(net, "x", net.rng.integers(-8, 8, (4, 6)).astype(f32))
    model = net.finish(net.node("LabelSelect_hls", y, domain=f"{HARDWARE}.hls", Labels=6, K=2, PE=1))
    build = design(model)
    x = integers(20, 4)
    sums = x @ numpy_helper.to_array(net.initializers[0])
    ours = build.host.reals(run(build.graph, build.codes(x)))["t1"]
    np.testing.assert_array_equal(np.take_along_axis(sums, ours.astype(int), 1), -np.sort(-sums, axis=1)[:, :2])


HARD: dict[str, tuple[Callable[[Finn], str], str]] = {
    "unknown": (
        lambda net: net.node("Lookup", "x", domain=HARDWARE),
        "lookup0 (Lookup): FINN's operator Lookup is not supported; lower it to standard ONNX before the export",
    ),
    "weights": (
        lambda net: mvau(net, "x", np.ones((4, 2), f32), MW=5),
        "mvau_hls0 (MVAU_hls): its weights have shape (4, 2); MW and MH say (5, 2)",
    ),
    "folded": (
        lambda net: mvau(net, "x", np.ones((6, 2), f32)),
        "mvau_hls0 (MVAU_hls): its input has shape [1, 4], not [1, 6]; folded shapes are not supported",
    ),
    "no window": (
        lambda net: net.node("VVAU", "x", np.ones((4, 1, 1, 1), f32), domain=HARDWARE, Channels=4, Kernel=[1, 1]),
        "vvau0 (VVAU): is not behind a ConvolutionInputGenerator of kernel [1, 1]; put one before it",
    ),
    "attribute": (
        lambda net: net.node("MVAU", "x", np.ones((4, 2), f32), domain=HARDWARE, MW=4),
        "mvau0 (MVAU): its attribute MH is missing; a whole number is needed",
    ),
    "comparison": (
        lambda net: net.node("ChannelwiseOp", "x", np.ones(4, f32), domain=HARDWARE, Func="cmp_le"),
        "channelwiseop0 (ChannelwiseOp): its Func 'cmp_le' is not supported; only add and mul are, use Thresholding to"
        " compare",
    ),
}


@pytest.mark.parametrize(("make", "message"), HARD.values(), ids=HARD)
def test_hardware_operators_that_are_refused(make: Callable[[Finn], str], message: str) -> None:
    net = Finn((4,), "UINT4")
    said = refused(net.finish(make(net)))
    assert said.startswith(message)
    assert len(said.splitlines()) == 1


# Dialects of other exporters


def explained(model: onnx.ModelProto, x: Array) -> Build:
    """Every code is the exact one; float32 onnxruntime differs in none that its error does not explain."""
    build = design(model)
    data = {"x": np.asarray(x, f32)}
    report = compare_segments(build, data, build.codes(data))
    assert (report.unexplained, report.beyond) == ([], [])
    assert report.activations + report.outputs > 0
    return build


def test_channels_last_operators_of_qonnx() -> None:
    net, domain = image((5, 5, 2)), "qonnx.custom_op.channels_last"
    kernel = net.rng.integers(-4, 5, (3, 2, 2, 2)).astype(f32)
    y = net.node("Conv", "x", net.constant(kernel), domain=domain, kernel_shape=[2, 2])
    norm = [np.asarray(v, f32) for v in ([2, -1, 0.5], [1, 0, -3], [4, 2, 0], [4, 1, 16])]
    y = net.node("BatchNormalization", y, *norm, domain=domain, epsilon=0.0)
    y = net.thresholds(y, [[-9.0, 0.25, 30.0]], out_dtype="UINT2", data_layout="NHWC")
    y = net.node("MaxPool", y, domain=domain, kernel_shape=[2, 2], strides=[2, 2])
    x = integers(6, 5, 5, 2)
    conv = windows(x, (2, 2), 1, (0,) * 4) @ kernel.transpose(2, 3, 1, 0).reshape(8, 3)
    gamma, beta, mean, variance = (v.astype(np.float64) for v in norm)
    codes_ = counted((conv - mean) / np.sqrt(variance) * gamma + beta, [[-9.0, 0.25, 30.0]])
    equals(net.finish(y), x, codes_.reshape(6, 2, 2, 2, 2, 3).max(axis=(2, 4)))


def test_convolutions_that_qonnx_lowers() -> None:
    """qonnx's own transformation to Im2Col and MatMul changes nothing."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.infer_datatypes import InferDataTypes
    from qonnx.transformation.infer_shapes import InferShapes
    from qonnx.transformation.lower_convs_to_matmul import LowerConvsToMatMul

    net = Finn((4, 5, 5), "INT4")
    plain = {"strides": [1, 1], "dilations": [1, 1], "group": 1}
    window = {"kernel_shape": [2, 2], "pads": [0, 0, 0, 0], "strides": [1, 2], "group": 6}
    first, second = (net.rng.integers(-4, 4, shape).astype(f32) for shape in ((6, 4, 3, 3), (6, 1, 2, 2)))
    y = net.node("Conv", "x", net.constant(first, "INT3"), kernel_shape=[3, 3], pads=[1, 1, 1, 1], **plain)
    y = net.thresholds(y, net.rng.integers(-40, 40, (6, 3)), "qonnx.custom_op.general", out_dtype="UINT2")
    y = net.node("Conv", y, net.constant(second, "INT3"), **(plain | window))
    model = net.finish(y)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, 6, 4, 2]))
    wrapped = ModelWrapper(model).transform(InferShapes()).transform(InferDataTypes())
    lowered = wrapped.transform(LowerConvsToMatMul()).model
    assert [n.op_type for n in lowered.graph.node].count("Im2Col") == 2
    x = {"x": integers(6, 4, 5, 5, lo=-8, hi=7).astype(f32)}
    builds = [design(m) for m in (model, lowered)]
    ours = [next(iter(b.host.reals(run(b.graph, b.codes(x))).values())) for b in builds]
    np.testing.assert_array_equal(*ours)
    kinds = [[n.op.kind for n in b.graph.nodes if isinstance(n.op, MatVec | GroupedMatVec)] for b in builds]
    assert kinds == [["matvec", "grouped_matvec"]] * 2


def test_qkeras() -> None:
    """What qonnx's converter writes: Transposes around layers, narrow Quants, BatchNormalization as Mul and Add."""
    net = Network(6, 6, 2, seed=8, opset=11)
    y = net.node("Transpose", net.quant("x", 0.125, 0, 6), perm=[0, 3, 1, 2])
    weight = net.weights(4, 2, 3, 3, scale=0.0625, bits=4, narrow=1)
    y = net.conv(y, (4, 2, 3, 3), net.quant(net.rng.normal(size=4), 0.0625, bits=6, narrow=1), weight)
    y = net.node("Transpose", y, perm=[0, 2, 3, 1])
    y = net.node("Add", net.node("Mul", y, [0.7, -0.3, 1.1, 0.9]), [0.1, 0.2, -0.5, 0.0])
    y = net.quant(net.node("Relu", y), 0.125, 0, 4, signed=0)
    y = net.node("Reshape", y, np.array([1, -1]))
    y = net.node("MatMul", y, net.weights(64, 5, scale=0.125, narrow=1))
    y = net.node("Add", y, net.quant(net.rng.normal(size=5), 0.125, bits=6))
    model = net.finish(net.quant(y, 0.5, 0, 6, narrow=1))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    explained(model, samples(16, 6, 6, 2))


def test_brevitas_of_old() -> None:
    """Domain onnx.brevitas, operator set 9: Clip and Pad by attributes, Upsample."""
    net = Network(2, 6, 6, seed=9, opset=9)
    y = net.conv(net.quant("x", 0.125, 0, 6), (4, 2, 3, 3), pads=[1, 1, 1, 1])
    y = net.norm(y, [1.0, -0.5, 0.25, 2.0])
    y = net.quant(net.node("Clip", y, min=0.0, max=1.5), 0.1, bits=4, signed=0)
    y = net.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    y = net.node("Upsample", y, [1.0, 1.0, 2.0, 2.0], mode="nearest")
    y = net.conv(net.node("Pad", y, pads=[0, 0, 1, 0, 0, 0, 0, 1], mode="constant", value=0.0), (3, 4, 3, 3))
    y = net.node("Flatten", net.quant(y, 0.2), axis=1)
    y = net.node("Gemm", y, net.weights(5, 75), net.quant(net.rng.normal(size=5), 0.01, bits=8), transB=1)
    model = net.finish(net.quant(y, 0.5, bits=6))
    for node in model.graph.node:
        node.domain = "onnx.brevitas" if node.domain else ""
    model.opset_import[1].domain = "onnx.brevitas"
    explained(model, samples(16, 2, 6, 6))


# Published networks


def test_finns_golden_network() -> None:
    """Every output of the network is the one that FINN's own test expects."""
    folder = Path(__file__).parent.parent / "build" / "zoo" / "tests" / "example_data" / "build_dataflow"
    if not (folder / "model.onnx").is_file():
        pytest.skip("build/zoo holds no finn-plus-tests; fetch it with: python benchmarks/zoo_models.py")
    build = design(onnx.load(folder / "model.onnx"))
    data = {"global_in": np.load(folder / "input.npy")}
    ours = build.host.reals(run(build.graph, build.codes(data)))["global_out"]
    assert ours.reshape(-1).tolist() == np.load(folder / "expected_output.npy").reshape(-1).tolist()
    report = compare_segments(build, data, build.codes(data))
    assert (report.flips, report.unexplained, report.beyond) == (0, [], [])
