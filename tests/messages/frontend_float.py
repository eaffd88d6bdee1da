"""Float models and modules: export, calibration, where quantizers go."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import test_frontend_float
import torch
from models import Network
from onnx import TensorProto, helper
from test_frontend_float import DATA_ERRORS, MODEL_ERRORS, Branching, dense, linear_model, samples

from broadaxe.errors import MissingToolError, RequestError, UnsupportedModelError
from broadaxe.frontend.brevitas import export_brevitas
from broadaxe.frontend.calibrate import calibrate
from broadaxe.frontend.float32 import as_float32
from broadaxe.frontend.fold_batchnorm import fold_batchnorm
from broadaxe.frontend.insert_quantizers import LayerBits, QuantizerSettings, insert_quantizers
from broadaxe.frontend.torch_float import export_torch
from broadaxe.frontend.wiring import Wiring, prepared

from . import provokes

COVERS = (
    "frontend/brevitas.py",
    "frontend/calibrate.py",
    "frontend/exporting.py",
    "frontend/float32.py",
    "frontend/fold_batchnorm.py",
    "frontend/insert_quantizers.py",
    "frontend/placement.py",
    "frontend/torch_float.py",
    "frontend/wiring.py",
)
F32 = np.float32
DATA = samples((6,), 4)

# export


@provokes("export: not a torch.nn.Module, str; pass the trained module itself", RequestError)
def name_of_a_module(tmp: Path) -> None:
    export_torch("net", np.ones((1, 2), F32))


@provokes(
    "export: the example input needs a batch dimension and one sample, shape (4,); pass shape (1, ...), as the module takes"
    " it",
    RequestError,
)
def example_without_a_batch(tmp: Path) -> None:
    export_torch(torch.nn.ReLU(), np.ones(4, F32))


@provokes(
    "Branching: the ONNX export failed, {...}; check that the module runs on the example input and that torch.export can"
    " trace it",
    UnsupportedModelError,
)
def module_that_branches(tmp: Path) -> None:
    export_torch(Branching(), np.ones((1, 2), F32))


@provokes(
    "export: torch modules need a missing package, onnxscript; pip install 'broadaxe[brevitas]'", MissingToolError
)
def torch_exporter_missing(tmp: Path) -> None:
    with mock.patch.dict(sys.modules, {"onnxscript": None}):
        export_torch(torch.nn.ReLU(), np.ones((1, 4), F32))


@provokes(
    "export: Brevitas modules need a missing package, onnxoptimizer; pip install 'broadaxe[brevitas]'", MissingToolError
)
def brevitas_exporter_missing(tmp: Path) -> None:
    with mock.patch.dict(sys.modules, {"onnxoptimizer": None}):
        export_brevitas(torch.nn.ReLU(), np.ones((1, 4), F32))


# calibration data

for _label, (_data, _message) in DATA_ERRORS.items():
    provokes(_message, RequestError, f"data: {_label}")(lambda tmp, data=_data: insert_quantizers(linear_model(), data))


def two_inputs(kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    net = Network(6)
    net.inputs.append(helper.make_tensor_value_info("y", kind, ["N", 6]))
    return net.finish(net.node("Add", "x", "y", name="sum"))


@provokes("calibration: one array for 2 inputs; give a mapping with x, y", RequestError)
def one_array_for_two_inputs(tmp: Path) -> None:
    calibrate(two_inputs(), ["x"], DATA)


@provokes("calibration: inputs differ in their number of samples, x 4, y 3; give as many of each", RequestError)
def inputs_of_other_lengths(tmp: Path) -> None:
    calibrate(two_inputs(), ["x"], {"x": DATA, "y": DATA[:3]})


@provokes("calibration y: holds float32; the model takes int8, give integers of that type", RequestError)
def floats_for_integers(tmp: Path) -> None:
    calibrate(two_inputs(TensorProto.INT8), ["x"], {"x": DATA, "y": DATA})


@provokes("calibration: -1 bins; 0 to 1048576 are supported", RequestError)
def bins_below_zero(tmp: Path) -> None:
    calibrate(linear_model(), ["x"], DATA, bins=-1)


@provokes("part_out: holds no value; repair the model's shapes", UnsupportedModelError)
def tensor_of_nothing(tmp: Path) -> None:
    net = Network(6)
    ends = [np.array([n]) for n in (0, 0, 1)]
    model = net.finish(net.node("Slice", "x", *ends, name="part"))
    calibrate(model, ["part_out"], DATA)


@provokes("model: onnxruntime cannot run it on the calibration data, {...}; repair the model", UnsupportedModelError)
def model_that_does_not_run(tmp: Path) -> None:
    net = Network(6)
    model = net.finish(net.node("Gather", "x", np.array([9]), axis=1, name="part"))
    calibrate(model, ["part_out"], DATA)


# where quantizers go


def quantizing(message: str, error: type, **options: object) -> Callable[[Callable[[Network], str]], object]:
    """A case that inserts quantizers into what a function makes of a network with 6 inputs."""

    def enter(make: Callable[[Network], str]) -> object:
        def provoke(tmp: Path) -> None:
            net = Network(6)
            insert_quantizers(net.finish(make(net)), DATA * 1000, QuantizerSettings(**options))

        return provokes(message, error, make.__name__)(provoke)

    return enter


for _name in ("no_layer", "gate", "attention", "infinite", "overflow"):
    _make = getattr(test_frontend_float, _name)
    quantizing(MODEL_ERRORS[_make], UnsupportedModelError)(_make)


@quantizing(
    "unit (LpNormalization): operator LpNormalization cannot be compiled; replace it, or put it behind the last Conv, Gemm"
    " or MatMul",
    UnsupportedModelError,
)
def normalized(net: Network) -> str:
    return dense(net, net.node("LpNormalization", dense(net, "x", 6, 6), name="unit"), 6, 2)


@quantizing(
    "fc (MatMul): its weight 'w_out' is computed in a way that is not understood; store it as an initializer",
    UnsupportedModelError,
)
def computed_weights(net: Network) -> str:
    return net.node("MatMul", "x", net.node("Sin", np.ones((6, 2)), name="w"), name="fc")


@quantizing(
    "fc (MatMul): its weight has shape (1, 6, 2); a matrix, or a kernel of a convolution, is needed",
    UnsupportedModelError,
)
def stack_of_weights(net: Network) -> str:
    return net.node("MatMul", "x", net.constant(np.ones((1, 6, 2))), name="fc")


@quantizing("settings: weight_bits: 0 is not allowed; use 1 to 16 bits", RequestError, weight_bits=0)
def no_bits(net: Network) -> str:
    return dense(net, "x", 6, 2)


def settings(message: str, **options: object) -> None:
    provokes(message, RequestError, f"settings: {', '.join(options)}")(lambda tmp: QuantizerSettings(**options))


settings("settings: ranges: 'min' is not allowed; use one of max, percentile, mse", ranges="min")
settings("settings: percentile: 0 is not allowed; use a number above 0, up to 100", percentile=0)
settings("settings: layers: fc: 4 is not allowed; give LayerBits", layers={"fc": 4})


@quantizing(
    "settings: layers: conv*: no quantized node has such a name; linear ones are fc",
    RequestError,
    layers={"conv*": LayerBits(4)},
)
def layers_of_no_name(net: Network) -> str:
    return dense(net, "x", 6, 2, name="fc")


@quantizing(
    "settings: layers: sum: weight_bits is 4, but it matches no Conv, Gemm, MatMul; linear ones are left, right, fc",
    RequestError,
    layers={"sum": LayerBits(4)},
)
def bits_of_no_weights(net: Network) -> str:
    sides = [dense(net, "x", 6, 6, name=name) for name in ("left", "right")]
    return dense(net, net.node("Add", *sides, name="sum"), 6, 2, name="fc")


# models


@provokes(
    "batchnormalization1 (BatchNormalization): its statistics cannot be used, variance plus epsilon reaches -0.99999; finite"
    " numbers with a positive variance are needed",
    UnsupportedModelError,
)
def negative_variance(tmp: Path) -> None:
    net = Network(2, 5, 5)
    y = net.conv("x", None, weight=net.constant(np.ones((1, 2, 1, 1))))
    fold_batchnorm(net.finish(net.norm(y, [1.0], [0.0], [0.0], [-1.0])))


@provokes("initializer b: holds 0.1 in float64, which float32 cannot hold; store it as float32", UnsupportedModelError)
def double_precision(tmp: Path) -> None:
    as_float32(with_initializer(data_type=TensorProto.DOUBLE, dims=[1], double_data=[0.1]))


@provokes("initializer b: its data do not fit its shape and type (ValueError); repair the model", UnsupportedModelError)
def double_precision_cut_off(tmp: Path) -> None:
    as_float32(with_initializer(data_type=TensorProto.DOUBLE, dims=[3], raw_data=b"12345678"))


def with_initializer(**fields: object) -> onnx.ModelProto:
    """x + b."""
    net = Network(1)
    net.initializers.append(TensorProto(name="b", **fields))
    return net.finish(net.node("Add", "x", "b", name="sum"))


@provokes("initializer b: its data are in another file; load the model together with its data", UnsupportedModelError)
def data_elsewhere(tmp: Path) -> None:
    prepared(with_initializer(data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL))


@provokes("initializer b: has shape [-1]; at most 134217728 elements are supported", UnsupportedModelError)
def negative_shape(tmp: Path) -> None:
    prepared(with_initializer(data_type=TensorProto.FLOAT, dims=[-1]))


@provokes("initializer b: its data do not fit its shape and type (ValueError); repair the model", UnsupportedModelError)
def data_cut_off(tmp: Path) -> None:
    Wiring(with_initializer(data_type=TensorProto.FLOAT, dims=[3], raw_data=b"1234"))


def wiring(message: str) -> Callable[[Callable[[Network], str]], object]:
    """A case whose nodes are not wired as a graph's are."""

    def enter(make: Callable[[Network], str]) -> object:
        def provoke(tmp: Path) -> None:
            net = Network(6)
            insert_quantizers(net.finish(make(net)), DATA)

        return provokes(message, UnsupportedModelError, make.__name__)(provoke)

    return enter


@wiring("it (Relu): writes no tensor; repair the model")
def node_without_outputs(net: Network) -> str:
    net.nodes.append(helper.make_node("Relu", ["x"], [], name="it"))
    return dense(net, "x", 6, 2)


@wiring("it (Relu): reads 'later', which nothing before it computes; sort the model's nodes")
def node_before_its_input(net: Network) -> str:
    return dense(net, net.node("Relu", "later", name="it"), 6, 2)


@wiring("it (Relu): writes 'x', which is written already; give every tensor one writer")
def tensor_written_twice(net: Network) -> str:
    net.nodes.append(helper.make_node("Relu", ["x"], ["x"], name="it"))
    return dense(net, "x", 6, 2)


@provokes(
    "model: operator set 1 cannot be converted to 13 ({...}); export it with operator set 9 or newer",
    UnsupportedModelError,
)
def ancient_operators(tmp: Path) -> None:
    net = Network(6, opset=1)
    prepared(net.finish(net.node("Upsample", "x", name="it", mode="nearest", height_scale=2.0, width_scale=2.0)))
