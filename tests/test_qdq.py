"""QDQ models as QONNX: each conversion runs in onnxruntime beside its model, on ends, ties and their neighbours."""

from __future__ import annotations

import os

import numpy as np
import onnx
import pytest
import qonnx
from models import exactly_same
from onnx import TensorProto, helper, numpy_helper, version_converter
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import broadaxe
from broadaxe.build import load_model
from broadaxe.errors import UnsupportedModelError
from broadaxe.frontend.qdq import quant_from_qdq
from broadaxe.frontend.standard import expand_quant, session
from broadaxe.lower import lower
from broadaxe.segments import compare_segments
from broadaxe.types import Interval

KINDS = {
    "int4": (TensorProto.INT4, -8, 7),
    "uint4": (TensorProto.UINT4, 0, 15),
    "int8": (TensorProto.INT8, -128, 127),
    "uint8": (TensorProto.UINT8, 0, 255),
    "int16": (TensorProto.INT16, -32768, 32767),
    "uint16": (TensorProto.UINT16, 0, 65535),
    "int32": (TensorProto.INT32, -(2**31), 2**31 - 1),
}


class Model:
    """A QDQ model in the making."""

    def __init__(self, *shape, opset=21, kind=TensorProto.FLOAT):
        self.nodes, self.constants, self.opset = [], [], opset
        self.inputs = [helper.make_tensor_value_info("x", kind, ["N", *shape])]

    def constant(self, value, kind="float32"):
        name = f"c{len(self.constants)}"
        number = KINDS[kind][0] if kind in KINDS else TensorProto.FLOAT
        values = np.asarray(value, dtype=np.float64 if number == TensorProto.FLOAT else np.int64)
        if number == TensorProto.FLOAT:
            self.constants.append(numpy_helper.from_array(values.astype(np.float32), name))
        else:
            numbers = values.astype(helper.tensor_dtype_to_np_dtype(number))
            self.constants.append(numpy_helper.from_array(numbers, name))
        return name

    def node(self, op, *inputs, out=None, **attributes):
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [out or f"{name}_out"], name=name, **attributes))
        return self.nodes[-1].output[0]

    def pair(self, x, scale, zero=0, kind="uint8", between=lambda y: y, **attributes):
        """QuantizeLinear, what `between` puts behind it, DequantizeLinear."""
        parameters = [self.constant(scale), self.constant(np.zeros(np.shape(scale)) + zero, kind)]
        q = between(self.node("QuantizeLinear", x, *parameters, **attributes))
        return self.node("DequantizeLinear", q, *parameters, **attributes)

    def stored(self, integers, scale, zero=0, kind="int8", **attributes):
        """DequantizeLinear on a constant."""
        zeros = self.constant(np.zeros(np.shape(scale)) + zero, kind)
        return self.node("DequantizeLinear", self.constant(integers, kind), self.constant(scale), zeros, **attributes)

    def finish(self, *outputs):
        infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
        for info in infos:
            info.type.tensor_type.ClearField("shape")
        graph = helper.make_graph(self.nodes, "qdq", self.inputs, infos, self.constants)
        imports = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=imports)


def both(model, x):
    """What a QDQ model and its QONNX conversion make of x, and the conversion."""
    model.ir_version = 10
    converted = quant_from_qdq(model)
    wanted, found = (session(m).run(None, {"x": x}) for m in (model, expand_quant(converted)))
    return wanted, found, converted


def operators(model):
    return [node.op_type for node in model.graph.node]


def quants(model):
    """(bits, signed, narrow) of every Quant."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type == "Quant":
            flags = {a.name: a.i for a in node.attribute}
            assert constants[node.input[2]] == 0
            found.append((int(constants[node.input[3]]), flags["signed"], flags["narrow"]))
    return found


def hard(scale, lo, hi):
    """Numbers where a quantizer of codes lo to hi (zero point taken off) may go wrong."""
    inner = np.linspace(lo, hi, 600).round() if hi - lo > 600 else np.arange(lo, hi + 1)
    steps = np.unique(np.concatenate([inner, [lo - 1, lo, hi, hi + 1, 0, 1, -1]]))
    ties = (np.concatenate([steps, steps + 0.5]) * np.float64(scale)).astype(np.float32)
    near = [np.nextafter(ties, np.float32(end)) for end in (-np.inf, np.inf)]
    far = np.float32([0.0, -0.0, 1e-45, -1e-45, 1e30, -1e30, 3.4e38, -3.4e38, np.inf, -np.inf])
    return np.concatenate([ties, *near, far])


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.1, 1 / 3, 2.0**-30, 37.7, 1e-6])
@pytest.mark.parametrize("kind", ["int4", "uint4", "int8", "uint8", "int16", "uint16"])
def test_a_pair_is_one_quant_bit_for_bit(kind, scale):
    _, lo, hi = KINDS[kind]
    middle = (lo + hi + 1) // 2
    zeros = (lo, middle) if kind.endswith("16") else (lo, lo + 1, lo + 3, middle - 1, middle, middle + 2, hi - 1, hi)
    for zero in zeros:
        model = Model()
        x = hard(np.float32(scale), lo - zero, hi - zero)
        wanted, found, converted = both(model.finish(model.pair("x", scale, zero, kind)), x)
        assert np.array_equal(wanted[0], found[0])
        assert len(np.unique(found[0])) > min(hi - lo, 600)  # all codes were met
        exact = zero in (lo, middle)
        assert operators(converted) == (["Quant"] if exact else ["Clip", "Quant"])
        bits = quants(converted)[0][0]
        assert bits == (hi - lo + 1).bit_length() - 1 + (not exact)


def test_an_odd_zero_point_does_not_turn_ties_round():
    """x / scale + zero_point rounds 0.5 to 0 + 1; a Quant with that zero point would give 2."""
    model = Model()
    wanted, found, _ = both(model.finish(model.pair("x", 1.0, 1)), np.float32([0.5, 1.5, -0.5, 2.5]))
    assert wanted[0].tolist() == found[0].tolist() == [0, 2, 0, 2]


def test_a_clip_on_integers_narrows_the_type():
    for lo, hi, expected in ((-8, 7, (4, 1, 0)), (-7, 7, (4, 1, 1)), (0, 3, (2, 0, 0)), (-2, 1, (2, 1, 0))):
        model = Model()
        ends = [model.constant(end, "int8") for end in (lo, hi)]
        y = model.pair("x", 0.25, 0, "int8", lambda q, m=model, e=ends: m.node("Clip", q, *e))
        wanted, found, converted = both(model.finish(y), hard(0.25, lo, hi))
        assert np.array_equal(wanted[0], found[0])
        assert np.ptp(found[0]) == (hi - lo) / 4
        assert (operators(converted), quants(converted)) == (["Quant"], [expected])


def test_a_clip_before_a_pair_narrows_the_type():
    """The Clip stays, and the Quant needs no more codes than it lets through."""
    model = Model()
    clipped = model.node("Clip", "x", model.constant(-1.0), model.constant(0.75))
    wanted, found, converted = both(model.finish(model.pair(clipped, 0.25, 0, "int8")), hard(0.25, -128, 127))
    assert np.array_equal(wanted[0], found[0])
    assert (operators(converted), quants(converted)) == (["Clip", "Quant"], [(3, 1, 0)])
    model = Model(1)
    y = model.pair(model.node("Clip", "x", model.constant(-1.0), model.constant(0.75)), 0.25, 0, "int8")
    lowered = lower(quant_from_qdq(model.finish(model.node("MatMul", y, model.stored([[3]], 0.5)))))
    assert lowered.graph.values["input0"].bounds[0] == Interval(-4, 3)


def test_input_codes_are_bounded_by_the_clip_of_a_zero_point():
    """Nine bits of the type, but the sums are those of 256 codes."""
    model = Model(2)
    y = model.pair("x", 0.1, 100)
    lowered = lower(quant_from_qdq(model.finish(model.node("MatMul", y, model.stored([[1], [2]], 0.5)))))
    value = lowered.graph.values["input0"]
    assert (value.dtype.width, value.bounds[0]) == (9, Interval(-100, 155))


MOVES = {
    "MaxPool": {"kernel_shape": [2, 2], "strides": [2, 2]},
    "Flatten": {},
    "Transpose": {"perm": [0, 2, 3, 1]},
    "Identity": {},
}


@pytest.mark.parametrize("op", MOVES)
@pytest.mark.parametrize("where", ["floats", "integers"])
def test_moving_between_pairs_of_one_scale_needs_one_quant(op, where):
    model = Model(2, 4, 4)
    if where == "integers":
        y = model.pair("x", 0.1, 3, between=lambda q: model.node(op, q, **MOVES[op]))
    else:
        y = model.pair(model.node(op, model.pair("x", 0.1, 3), **MOVES[op]), 0.1, 3)
    x = np.resize(hard(0.1, -3, 252), (30, 2, 4, 4))
    wanted, found, converted = both(model.finish(y), x)
    assert np.array_equal(wanted[0], found[0])
    assert operators(converted)[:3] == ["Clip", "Quant", op]
    assert operators(converted)[3:] in ([], ["Identity"])  # the output keeps its name


def test_a_pair_of_another_range_stays():
    model = Model()
    y = model.pair(model.pair("x", 0.1, 0, "uint8"), 0.1, 0, "int8")
    wanted, found, converted = both(model.finish(y), hard(0.1, -128, 256))
    assert np.array_equal(wanted[0], found[0])
    assert found[0].max() == np.float32(0.1) * 127
    assert quants(converted) == [(8, 0, 0), (8, 1, 0)]
    model = Model()
    y = model.pair(model.pair("x", 0.1), 0.2)
    wanted, found, converted = both(model.finish(y), hard(0.1, 0, 256))
    assert np.array_equal(wanted[0], found[0])
    assert len(quants(converted)) == 2


@pytest.mark.parametrize(("first", "second"), [("int8", "uint8"), ("uint8", "int8")])
def test_a_pair_that_cuts_one_end_off_stays(first, second):
    model = Model()
    y = model.pair(model.pair("x", 0.5, 0, first), 0.5, 0, second)
    wanted, found, converted = both(model.finish(y), hard(0.5, -128, 255))
    assert np.array_equal(wanted[0], found[0])
    assert (found[0].min(), found[0].max()) == (0, 63.5)
    assert len(quants(converted)) == 2


@pytest.mark.parametrize("ends", [(-1.0, 100.0), (-100.0, 1.0), (-100.0, 100.0)])
def test_a_clip_that_lets_more_through_than_the_type_holds(ends):
    model = Model()
    clipped = model.node("Clip", "x", *map(model.constant, ends))
    wanted, found, converted = both(model.finish(model.pair(clipped, 0.25, 0, "int8")), hard(0.25, -600, 600))
    assert np.array_equal(wanted[0], found[0])
    assert quants(converted) == [(8, 1, 0)]


def test_a_pair_twice_is_one_quant():
    model = Model()
    y = model.node("Neg", model.pair(model.pair("x", 0.3, 7), 0.3, 7))
    wanted, found, converted = both(model.finish(y), hard(0.3, -7, 248))
    assert np.array_equal(wanted[0], found[0])
    assert operators(converted) == ["Clip", "Quant", "Neg"]


def test_relu_between_pairs_of_one_scale_goes_into_the_range():
    for zero, expected in ((0, (7, 0, 0)), (-128, (8, 0, 0))):
        model = Model()
        y = model.pair(model.node("Relu", model.pair("x", 0.3, zero, "int8")), 0.3, zero, "int8")
        wanted, found, converted = both(model.finish(y), hard(0.3, -128, 256))
        assert np.array_equal(wanted[0], found[0])
        assert (operators(converted), quants(converted)) == (["Quant"], [expected])


def test_relu_stays_where_somebody_else_reads_what_is_before_it():
    model = Model()
    before = model.pair("x", 0.3, 0, "int8")
    y = model.pair(model.node("Relu", before), 0.3, 0, "int8")
    wanted, found, converted = both(model.finish(model.node("Add", y, before)), hard(0.3, -128, 128))
    assert np.array_equal(wanted[0], found[0])
    assert operators(converted) == ["Quant", "Relu", "Quant", "Add"]


def test_two_readers_of_one_quantizelinear():
    model = Model()
    scale, zero = model.constant(0.3), model.constant(9, "uint8")
    q = model.node("QuantizeLinear", "x", scale, zero)
    a, b = (model.node("DequantizeLinear", q, scale, zero) for _ in range(2))
    wanted, found, converted = both(model.finish(a, b, model.node("Neg", b)), hard(0.3, -9, 246))
    assert all(map(np.array_equal, wanted, found))
    assert operators(converted) == ["Clip", "Quant", "Identity", "Neg"]


def test_activations_with_a_scale_per_channel():
    model = Model(3, 2)
    scale = [0.1, 0.25, 3.0]
    wanted, found, converted = both(
        model.finish(model.pair("x", scale, 0, "int8", axis=1)),
        np.stack([np.resize(hard(s, -128, 127), 4000) for s in scale], 1).reshape(2000, 2, 3).transpose(0, 2, 1),
    )
    assert np.array_equal(wanted[0], found[0])
    assert quants(converted) == [(8, 1, 0)]


@pytest.mark.parametrize(
    ("kind", "zero", "expected"),
    [
        ("int8", 0, (8, 1, 0)),
        ("uint8", 128, (8, 1, 0)),
        ("uint8", 0, (8, 0, 0)),
        ("uint8", 100, (9, 1, 0)),
        ("int4", 0, (4, 1, 0)),
        ("uint4", 8, (4, 1, 0)),
        ("int16", 0, (16, 1, 0)),
    ],
)
def test_weights_stored_as_integers(kind, zero, expected):
    """Every code of the type, with a scale per column, is the float that DequantizeLinear gives, and keeps its integer."""
    _, lo, hi = KINDS[kind]
    codes = np.linspace(lo, hi, 512).round().astype(np.int64).reshape(4, 128)
    scale = np.float32(np.random.default_rng(0).uniform(1e-3, 1, 128))
    model = Model(4)
    x = model.pair("x", 1.0, 0, "int8")
    model.node("MatMul", x, model.stored(codes, scale, zero, kind, axis=1), out="y")
    eye = np.eye(4, dtype=np.float32)
    wanted, found, converted = both(model.finish("y"), eye)
    assert np.array_equal(wanted[0], found[0])
    assert np.array_equal(found[0], (codes - zero).astype(np.float32) * scale)
    assert quants(converted)[1] == expected
    (mac,) = [n for n in lower(converted).graph.nodes if n.op.folds]
    assert np.array_equal(mac.op.weights, (codes - zero).T)


def test_a_clip_on_stored_integers_narrows_weights():
    """As Brevitas exports them; the clip clips."""
    model = Model(2)
    ends = [model.constant(end, "int8") for end in (-3, 3)]
    parameters = [model.constant(0.3), model.constant(0, "int8")]
    clipped = model.node("Clip", model.constant([[-9, 3], [-3, 1]], "int8"), *ends)
    w = model.node("DequantizeLinear", clipped, *parameters)
    y = model.node("MatMul", model.pair("x", 1.0), w)
    wanted, found, converted = both(model.finish(y), np.eye(2, dtype=np.float32))
    assert np.array_equal(wanted[0], found[0])
    assert np.array_equal(found[0], np.float32([[-3, 3], [-3, 1]]) * np.float32(0.3))
    assert (operators(converted), quants(converted)) == (["Quant", "Quant", "MatMul"], [(3, 1, 1), (8, 0, 0)])


def test_constants_that_are_listed_as_inputs_are_none():
    """As Brevitas' QCDQ export writes its files: scales, zero points and weights are inputs with a default."""
    model = Model(2)
    y = model.node("MatMul", model.pair("x", 1.0), model.stored([[-3, 3], [-3, 1]], 0.3))
    plain = model.finish(y)
    listed = onnx.ModelProto()
    listed.CopyFrom(plain)
    for tensor in plain.graph.initializer:
        listed.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    graphs = [lower(quant_from_qdq(given)).graph for given in (plain, listed)]
    assert graphs[0].inputs == graphs[1].inputs == ("input0",)
    assert [n.name for n in graphs[0].nodes] == [n.name for n in graphs[1].nodes]


def test_symmetric_weights_are_narrow():
    model = Model(2)
    y = model.node("MatMul", model.pair("x", 1.0), model.stored([[-127, 3], [5, 127]], 0.3))
    assert quants(quant_from_qdq(model.finish(y)))[-1] == (8, 1, 1)


def test_a_pair_on_a_float_constant_keeps_the_floats():
    """So that `quantize` starts from them, and yet compile sees the integers of the pair."""
    weights = np.float32(np.random.default_rng(1).normal(size=(3, 5)))
    for scale, kind, zero in ((0.05, "int8", 0), (0.02, "uint8", 100), (0.004, "int8", 3)):
        model = Model(3)
        w = model.pair(model.constant(weights), scale, zero, kind)
        model.node("MatMul", model.pair("x", 1.0, 0, "int8"), w, out="y")
        wanted, found, converted = both(model.finish("y"), np.eye(3, dtype=np.float32))
        assert np.array_equal(wanted[0], found[0])
        _, lo, hi = KINDS[kind]
        (mac,) = [n for n in lower(converted).graph.nodes if n.op.folds]
        codes = np.clip(np.rint(weights / np.float32(scale)) + zero, lo, hi) - zero
        assert np.array_equal(mac.op.weights, codes.T)
        stored = [numpy_helper.to_array(t) for t in converted.graph.initializer if list(t.dims) == [3, 5]]
        assert any(np.array_equal(s, weights) for s in stored) == (scale != 0.004)  # those saturate


def test_int32_biases_are_plain_floats():
    model = Model(2)
    w = model.stored([[3, -4], [5, 127]], 0.1)
    bias = model.stored([123456789, -2], 1e-7, 0, "int32")
    model.node("Gemm", model.pair("x", 0.5), w, bias, out="y")
    wanted, found, converted = both(model.finish("y"), np.float32([[1, 2], [3, 300]]))
    assert np.array_equal(wanted[0], found[0])
    assert operators(converted) == ["Quant", "Quant", "Gemm"]


def test_opset_10_and_an_input_of_integers():
    model = Model(2, opset=10)
    y = model.pair("x", 0.3, 9)
    wanted, found, _ = both(model.finish(y), np.resize(hard(0.3, -9, 246), (500, 2)))
    assert np.array_equal(wanted[0], found[0])
    model = Model(2, kind=TensorProto.UINT8)
    scale, zero = model.constant(0.3), model.constant(9, "uint8")
    y = model.node("DequantizeLinear", "x", scale, zero)
    model.node("MatMul", y, model.stored([[3], [5]], 0.1), out="y")
    x = np.stack([np.arange(256), np.arange(256)[::-1]], 1).astype(np.uint8)
    wanted, found, converted = both(model.finish("y"), x)
    assert np.array_equal(wanted[0], found[0])
    assert lower(converted).graph.values["input0"].bounds[0] == Interval(-9, 246)


def test_other_models_are_returned_as_they_are():
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
    model = helper.make_model(graph)
    assert quant_from_qdq(model) is model


# refusals


def refused(message):
    def register(make):
        REFUSED[make.__name__] = (make, message)
        return make

    return register


REFUSED = {}


@refused("quantizelinear0 (QuantizeLinear): its scale holds 0; positive float32 numbers are needed")
def scale_of_zero(model):
    return model.pair("x", 0.0)


@refused("quantizelinear0 (QuantizeLinear): its scale holds nan; positive float32 numbers are needed")
def scale_of_nothing(model):
    return model.pair("x", np.nan)


@refused("quantizelinear1 (QuantizeLinear): its scale is no constant; store it as an initializer")
def scale_computed(model):
    return model.node("QuantizeLinear", "x", model.node("ReduceMax", "x"))


@refused(
    "quantizelinear0 (QuantizeLinear): its codes minus their zero point go from -42768 to 22767, 17 bits; at most 16 are"
    " supported, use a symmetric range or fewer bits"
)
def too_wide(model):
    return model.pair("x", 1.0, 10000, "int16")


@refused(
    "quantizelinear0 (QuantizeLinear): its zero points differ from channel to channel, 1 to 2; an activation needs one"
    " for all"
)
def zero_points_per_channel(model):
    return model.pair("x", [1.0, 2.0], [1, 2])


@refused(
    "quantizelinear0 (QuantizeLinear): has a scale per channel, and its codes minus their zero point go from -1 to 254,"
    " which is no integer type; use a zero point of 0"
)
def zero_point_with_scales_per_channel(model):
    return model.pair("x", [1.0, 2.0], 1)


@refused(
    "dequantizelinear1 (DequantizeLinear): its scale, zero point or type is not that of quantizelinear0 (QuantizeLinear);"
    " give both the same"
)
def other_scale(model):
    q = model.node("QuantizeLinear", "x", model.constant(1.0), model.constant(0, "uint8"))
    return model.node("DequantizeLinear", q, model.constant(2.0), model.constant(0, "uint8"))


@refused(
    "output quantizelinear0_out: holds integers of quantizelinear0 (QuantizeLinear); put a DequantizeLinear behind it"
)
def integer_output(model):
    return model.node("QuantizeLinear", "x", model.constant(1.0), model.constant(0, "uint8"))


@refused("cast1 (Cast): reads the integers of quantizelinear0 (QuantizeLinear); put a DequantizeLinear before it")
def integers_computed_with(model):
    q = model.node("QuantizeLinear", "x", model.constant(1.0), model.constant(0, "uint8"))
    return model.node("Cast", q, to=1)


@refused(
    "convinteger0 (ConvInteger): computes on integers (operator format), which cannot be read; export the model with"
    " QuantizeLinear and DequantizeLinear (QuantFormat.QDQ)"
)
def operator_format(model):
    return model.node("ConvInteger", "x", "x")


@refused(
    "dynamicquantizelinear0 (DynamicQuantizeLinear): chooses its scale from each input, which hardware cannot; quantize"
    " statically"
)
def dynamic(model):
    return model.node("DynamicQuantizeLinear", "x")


@refused(
    "dequantizelinear0 (DequantizeLinear): its scale varies within a channel (blocks); use one scale per channel or tensor"
)
def blocks(model):
    ints, scale = model.constant(np.zeros((4, 2)), "int4"), model.constant(np.ones((2, 2)))
    return model.node("DequantizeLinear", ints, scale, model.constant(np.zeros((2, 2)), "int4"), axis=0, block_size=2)


@refused(
    "dequantizelinear2 (DequantizeLinear): its weights minus their zero point need 17 bits; at most 16 are supported, use a"
    " zero point of 0"
)
def wide_weights(model):
    x = model.pair("x", 1.0)
    return model.node("MatMul", x, model.stored([[0, 65535], [1, 1]], 1.0, 30000, "uint16"))


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_quant_can_stand_for_is_refused(name, request):
    make, message = REFUSED[name]
    model = Model(2)
    with pytest.raises(UnsupportedModelError) as refusal:
        quant_from_qdq(model.finish(make(model)))
    assert str(refusal.value) == message


# whole networks


class Reader(CalibrationDataReader):
    def __init__(self, name, x):
        self.batches = iter([{name: x[i : i + 1]} for i in range(len(x))])

    def get_next(self):
        return next(self.batches, None)


def mnist_conv(path):
    """qonnx's MNIST network, which takes pixels from 0 to 255."""
    model = onnx.load(os.path.join(os.path.dirname(qonnx.__file__), "data/onnx/mnist-conv/model.onnx"))
    model = version_converter.convert_version(model, 13)
    constants = {t.name for t in model.graph.initializer}
    inputs = [info for info in model.graph.input if info.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = 10
    onnx.save(model, path)


def quantized_mnist_conv(activations, x, folder):
    """The network as onnxruntime's static quantizer writes it, with weights per channel; the place of the file."""
    source, path = folder / "float.onnx", folder / "qdq.onnx"
    mnist_conv(source)
    reader = Reader("Input3", x)
    kinds = {"activation_type": activations, "weight_type": QuantType.QInt8}
    quantize_static(source, path, reader, quant_format=QuantFormat.QDQ, per_channel=True, **kinds)
    return path


@pytest.mark.parametrize("activations", [QuantType.QUInt8, QuantType.QInt8], ids=["uint8", "int8"])
def test_what_onnxruntime_quantizes_compiles(activations, tmp_path):
    """The same numbers from both files, and every code of the integer path is float32's, or float32's error explains it."""
    x = np.random.default_rng(0).integers(0, 256, (6, 1, 28, 28)).astype(np.float32)
    path = quantized_mnist_conv(activations, x[:4], tmp_path)
    model, _ = load_model(path)
    theirs, ours = session(onnx.load(path)), session(expand_quant(model))
    for image in x:
        assert exactly_same(theirs, ours, {"Input3": image[None]})
    build = broadaxe.compile(path, tmp_path / "build")
    report = compare_segments(build, {"Input3": x[4:]}, build.codes(x[4:]))
    assert report.activations > 30_000
    assert report.unexplained == []
    assert report.uncompared == []
    assert report.beyond == []


@pytest.mark.slow
def test_what_onnxruntime_quantizes_verifies(tmp_path, unoptimised):
    x = np.random.default_rng(0).integers(0, 256, (6, 1, 28, 28)).astype(np.float32)
    path = quantized_mnist_conv(QuantType.QInt8, x[:4], tmp_path)
    result = broadaxe.verify(broadaxe.compile(path, tmp_path / "build"), x[4:])
    assert result.ok, str(result)


def test_a_qdq_network_is_quantized_anew(tmp_path):
    """Its activations keep their quantizers; its weights are solved for within the budget."""
    x = np.random.default_rng(0).integers(0, 256, (6, 1, 28, 28)).astype(np.float32)
    path = quantized_mnist_conv(QuantType.QUInt8, x, tmp_path)
    quantized = broadaxe.quantize(path, x, preset="project", weight_bits=4, acc_bits=18)
    assert [layer.weight_bits for layer in quantized.record.layers] == [4, 4, 4]
    assert all(layer.width <= 18 for layer in quantized.record.layers)
    assert "QuantizeLinear" not in operators(quantized.model)
