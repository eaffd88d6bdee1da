"""Files as they come: other float types, data in other files, every operator set, every kind of batch axis."""

from __future__ import annotations

import os

import ml_dtypes
import numpy as np
import onnx
import pytest
from models import small_cnn
from onnx import TensorProto, helper, numpy_helper, version_converter
from onnxruntime.transformers.float16 import convert_float_to_float16

import broadaxe
from broadaxe.build import load_model
from broadaxe.errors import RequestError, UnsupportedModelError
from broadaxe.frontend import files
from broadaxe.frontend.files import read_onnx
from broadaxe.frontend.float32 import as_float32
from broadaxe.frontend.standard import session
from broadaxe.reference import run

KINDS = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float64": np.float64}


def network(opset=13, batch="N", kind=np.float32, reshape="constant"):
    """A small network with something of everything that a float model may hold."""
    rng = np.random.default_rng(3)
    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    constants = []

    def constant(value, name):
        array = np.asarray(value)
        array = array if array.dtype == np.int64 else array.astype(np.float16).astype(kind)
        constants.append(numpy_helper.from_array(array, name))
        return name

    def weights(name, *shape):
        return constant(rng.normal(size=shape) / np.sqrt(np.prod(shape[1:])), name)

    def norm(name, count):
        values = [
            rng.uniform(0.5, 2, count),
            rng.normal(size=count),
            rng.normal(size=count),
            rng.uniform(0.5, 2, count),
        ]
        return [constant(v, f"{name}_{i}") for i, v in enumerate(values)]

    node = helper.make_node
    nodes = [
        node("Conv", ["x", weights("w1", 4, 2, 3, 3), weights("b1", 4)], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c1", *norm("n1", 4)], ["n1"], name="norm1"),
        node("Relu", ["n1"], ["r1"], name="relu1"),
        node("Conv", ["r1", weights("w2", 4, 4, 3, 3)], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        node("Add", ["c2", "r1"], ["a"], name="residual"),
        node("Relu", ["a"], ["r2"], name="relu2"),
        node("Concat", ["r1", "r2"], ["cat"], name="concat", axis=1),
        node("MaxPool", ["cat"], ["m"], name="maxpool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["m", weights("w3", 4, 8, 1, 1)], ["c3"], name="conv3"),
        node("AveragePool", ["c3"], ["p"], name="avgpool", kernel_shape=[2, 2], strides=[2, 2]),
    ]
    first = "p"
    if reshape == "constant":
        sizes = [batch if isinstance(batch, int) else -1, 16]
        nodes.append(node("Reshape", ["p", constant(np.array(sizes), "sizes")], ["v"], name="reshape"))
    elif reshape == "dynamic":  # as exporters write x.view(x.shape[0], -1)
        axes = constant(np.array([0]), "axes")
        nodes += [
            node("Shape", ["p"], ["shape"], name="shape"),
            node("Gather", ["shape", constant(np.array(0), "index")], ["n"], name="gather", axis=0),
            node("Unsqueeze", ["n"], ["n1d"], name="unsqueeze", axes=[0])
            if opset < 13
            else node("Unsqueeze", ["n", axes], ["n1d"], name="unsqueeze"),
            node("Concat", ["n1d", constant(np.array([-1]), "rest")], ["sizes"], name="sizes", axis=0),
            node("Reshape", ["p", "sizes"], ["v"], name="reshape"),
        ]
    else:
        nodes.append(node("Flatten", [first], ["v"], name="flatten"))
    nodes += [
        node("Gemm", ["v", weights("w4", 16, 12), weights("b4", 12)], ["g"], name="gemm1"),
        node("Relu", ["g"], ["r4"], name="relu4"),
        node("Gemm", ["r4", weights("w5", 3, 12), weights("b5", 3)], ["y"], name="gemm2", transB=1),
    ]
    inputs = [helper.make_tensor_value_info("x", number, [batch, 2, 8, 8])]
    outputs = [helper.make_tensor_value_info("y", number, [batch, 3])]
    graph = helper.make_graph(nodes, "network", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    return model


def data(count=24):
    return np.random.default_rng(4).normal(size=(count, 2, 8, 8)).astype(np.float32)


# float types


@pytest.mark.parametrize("kind", KINDS)
def test_other_float_types_become_float32(kind):
    """Every constant keeps its value, so the model is the one that holds them in float32."""
    wanted, found = network(), as_float32(network(kind=KINDS[kind]))
    if kind == "bfloat16":  # 8 bits of 11
        rounded = [numpy_helper.to_array(t) for t in wanted.graph.initializer]
        rounded = [a if a.dtype == np.int64 else a.astype(ml_dtypes.bfloat16).astype(np.float32) for a in rounded]
        for tensor, array in zip(wanted.graph.initializer, rounded, strict=True):
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    assert found == wanted


def test_float16_with_casts_at_the_ends():
    """What onnxruntime's converter writes: float32 outside, float16 inside."""
    model = convert_float_to_float16(network(), keep_io_types=True)
    assert sum(node.op_type == "Cast" for node in model.graph.node) == 2
    found = as_float32(model)
    assert [n.op_type for n in found.graph.node] == [n.op_type for n in network().graph.node]
    assert found.graph.node[-1].output[0] == found.graph.output[0].name
    x = data(3)
    feeds = {found.graph.input[0].name: x}
    wanted = session(network()).run(None, {"x": x})[0]  # whose constants are float16 numbers
    assert np.array_equal(session(found).run(None, feeds)[0], wanted)


@pytest.mark.parametrize("kind", ["float16", "float64"])
def test_a_model_of_another_float_type_is_quantized(kind, tmp_path):
    x = data()
    path = tmp_path / "model.onnx"
    onnx.save(network(kind=KINDS[kind]), path)
    quantized = broadaxe.quantize(path, x, preset="rtn")
    assert quantized.model == broadaxe.quantize(network(), x, preset="rtn").model


def test_a_float64_constant_has_to_be_a_float32_number():
    model = network(kind=np.float64)
    tensor = next(t for t in model.graph.initializer if t.name == "b1")
    tensor.CopyFrom(numpy_helper.from_array(np.array([0.5, 0.25, 0.1, 0.0]), "b1"))
    with pytest.raises(UnsupportedModelError) as refusal:
        as_float32(model)
    assert str(refusal.value) == (
        "initializer b1: holds 0.1 in float64, which float32 cannot hold; store it as float32"
    )


def test_casts_of_constants_round_before_they_go():
    """0.1 in float64, cast to float16: its float16 number, not float32's 0.1; and 1e-9 in float64 cast to float32 is fine."""
    node = helper.make_node
    nodes = [
        node("Cast", ["c"], ["half"], to=TensorProto.FLOAT16),
        node("Cast", ["half"], ["single"], to=TensorProto.FLOAT),
        node("Cast", ["d"], ["small"], to=TensorProto.FLOAT),
        node("Mul", ["x", "single"], ["z"]),
        node("Add", ["z", "small"], ["y"]),
    ]
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N"]) for n in "xy"]
    constants = [numpy_helper.from_array(np.array(v), n) for v, n in ((0.1, "c"), (1e-9, "d"))]
    model = helper.make_model(helper.make_graph(nodes, "g", infos[:1], infos[1:], constants))
    model.opset_import[0].version, model.ir_version = 13, 8
    found = as_float32(model)
    assert [n.op_type for n in found.graph.node] == ["Mul", "Add"]
    x = np.float32([1.0, 3.0, 1e-8])
    assert np.array_equal(*(session(m).run(None, {"x": x})[0] for m in (model, found)))


def test_float32_models_are_returned_as_they_are():
    model = network()
    assert as_float32(model) is model
    assert load_model(model)[0] is model


# data in other files


@pytest.fixture
def split(tmp_path):
    """A model with its data in another file."""
    path = tmp_path / "folder" / "model.onnx"
    path.parent.mkdir()
    onnx.save(network(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def test_data_in_another_file_of_the_folder(split, tmp_path):
    found = read_onnx(split)
    assert {t.name: numpy_helper.to_array(t).tobytes() for t in found.graph.initializer} == {
        t.name: numpy_helper.to_array(t).tobytes() for t in network().graph.initializer
    }
    assert not any(t.external_data for t in found.graph.initializer)
    x = data()
    wanted = broadaxe.quantize(network(), x, preset="rtn").model
    assert broadaxe.quantize(split, x, preset="rtn").model == wanted
    below = split.parent / "below"
    below.mkdir()
    (split.parent / "weights.bin").rename(below / "weights.bin")
    _change(split, location="below/weights.bin")
    assert read_onnx(split) == found


def test_constants_with_data_in_another_file(split):
    """A Constant node may keep its tensor outside, too."""
    model = onnx.load(split, load_external_data=False)
    tensor = model.graph.initializer[0]
    held = helper.make_node("Constant", [], [tensor.name], name="held", value=tensor)
    del model.graph.initializer[0]
    model.graph.node.insert(0, held)
    split.write_bytes(model.SerializeToString())
    found = read_onnx(split)
    array = numpy_helper.to_array(found.graph.node[0].attribute[0].t)
    assert array.tobytes() == numpy_helper.to_array(network().graph.initializer[0]).tobytes()


def _change(path, **entries):
    """Change what the first initializer says of its data."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key in entries:
                entry.value = entries[entry.key]
    path.write_bytes(model.SerializeToString())


HOSTILE = {
    "absolute": ({"location": "/etc/passwd"}, "its data are in '/etc/passwd'; only files in the model's own folder"),
    "above": ({"location": "../secret.bin"}, "its data are in '../secret.bin'; only files in the model's own folder"),
    "above, later": ({"location": "a/../../secret.bin"}, "its data are in 'a/../../secret.bin'; only files in the"),
    "Windows": ({"location": "..\\secret.bin"}, "its data are in '..\\\\secret.bin'; only files in the model's own"),
    "drive": ({"location": "C:\\secret.bin"}, "its data are in 'C:\\\\secret.bin'; only files in the model's own"),
    "no name": ({"location": ""}, "its data are in ''; only files in the model's own folder are read"),
    "NUL": ({"location": "weights.bin\0"}, "its data are in 'weights.bin?'; only files in the model's own folder"),
    "link": ({"location": "link.bin"}, "its data are in 'link.bin', a link out of the model's folder; copy the file"),
    "linked folder": (
        {"location": "up/secret.bin"},
        "its data are in 'up/secret.bin', a link out of the model's folder",
    ),
    "folder": ({"location": "below"}, "its data in below cannot be read (Is a directory); put the data file"),
    "pipe": ({"location": "pipe"}, "its data are in pipe, which is no file; put a file there"),
    "missing": (
        {"location": "none.bin"},
        "its data in none.bin cannot be read (No such file or directory); put the data",
    ),
    "offset": ({"offset": "99999999"}, "its data are bytes 99999999 to 100000287 of weights.bin, which has"),
    "negative": ({"offset": "-4"}, "offset of its data is '-4'; a number of bytes is needed, repair the model"),
    "no number": ({"offset": "0x10"}, "offset of its data is '0x10'; a number of bytes is needed, repair the model"),
    "endless": ({"offset": "9" * 400}, "offset of its data is '99999"),
    "length": ({"length": "4"}, "gives 4 bytes of data; its shape and type need 288, repair the model"),
    "long": ({"length": "999999999999"}, "gives 999999999999 bytes of data; its shape and type need 288, repair"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_data_files(case, split, tmp_path):
    (tmp_path / "secret.bin").write_bytes(b"\0" * 10_000)
    (split.parent / "link.bin").symlink_to(tmp_path / "secret.bin")
    (split.parent / "up").symlink_to(tmp_path)
    (split.parent / "below").mkdir()
    os.mkfifo(split.parent / "pipe")
    entries, message = HOSTILE[case]
    _change(split, **entries)
    with pytest.raises(RequestError) as refusal:
        broadaxe.compile(split, tmp_path / "build")
    assert str(refusal.value).startswith(f"{split}: initializer w1: {message}")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ([1 << 40], f"has shape [{1 << 40}]; at most {files.MAX_ELEMENTS} elements are supported"),
        ([-1], f"has shape [-1]; at most {files.MAX_ELEMENTS} elements are supported"),
        ([1 << 14, 1 << 14], f"has shape [16384, 16384]; at most {files.MAX_ELEMENTS} elements are supported"),
    ],
)
def test_data_of_absurd_shapes(dims, message, split):
    model = onnx.load(split, load_external_data=False)
    model.graph.initializer[0].dims[:] = dims
    split.write_bytes(model.SerializeToString())
    with pytest.raises(RequestError) as refusal:
        read_onnx(split)
    assert str(refusal.value) == f"{split}: initializer w1: {message}"


def test_many_tensors_of_one_file_are_bounded(split, monkeypatch):
    """One file may stand for many tensors: what they weigh together is bounded, too."""
    monkeypatch.setattr(files, "MAX_BYTES", 400)
    with pytest.raises(RequestError) as refusal:
        read_onnx(split)
    assert str(refusal.value) == f"{split}: has more than 400 bytes of data; only models below 2 GiB can be used"


def test_a_model_without_its_file(split, tmp_path):
    model = onnx.load(split, load_external_data=False)
    with pytest.raises(RequestError) as refusal:
        broadaxe.compile(model, tmp_path / "build")
    assert str(refusal.value) == (
        "model: initializer w1: its data are in another file; give the model's file, not what it holds"
    )


# operator sets and batches

BATCHES = {"one": 1, "four": 4, "symbolic": "N", "unnamed": None}
RESHAPES = ("flatten", "constant", "dynamic")


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    """The network at operator set 13 with a symbolic batch, quantized and compiled."""
    return compiled(network(), tmp_path_factory.mktemp("wanted"))


def compiled(model, folder):
    """Operators of the integer graph, and outputs for other data than it was calibrated on."""
    build = broadaxe.compile(broadaxe.quantize(model, data(), preset="rtn", bias_correction="off"), folder / "build")
    outputs = build.host.reals(run(build.graph, build.codes(data(30)[24:])))
    return [type(node.op) for node in build.graph.nodes], outputs["y"]


@pytest.mark.parametrize("opset", range(9, 21))
def test_every_operator_set(opset, wanted, tmp_path):
    base = network(9 if opset < 13 else 13, reshape=RESHAPES[opset % 3])
    model = version_converter.convert_version(base, opset)
    assert model.opset_import[0].version == opset
    same(model, wanted, tmp_path)


@pytest.mark.parametrize("reshape", RESHAPES)
@pytest.mark.parametrize("batch", BATCHES)
def test_every_kind_of_batch(batch, reshape, wanted, tmp_path):
    opset = {"one": 9, "four": 13, "symbolic": 17, "unnamed": 20}[batch]
    base = network(9 if opset < 13 else 13, BATCHES[batch], reshape=reshape)
    same(version_converter.convert_version(base, opset), wanted, tmp_path)


def same(model, wanted, folder):
    """The same operators and outputs, whatever the model was written in."""
    operators, outputs = compiled(model, folder)
    assert operators == wanted[0]
    assert np.array_equal(outputs, wanted[1])
    assert len(np.unique(outputs)) > 10


def test_a_qonnx_model_is_left_alone():
    model = small_cnn()
    assert load_model(model)[0] is model
