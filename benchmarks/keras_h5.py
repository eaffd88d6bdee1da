"""Keras .h5 files without TensorFlow: to float ONNX, and an independent forward pass to check that with.

Only numbers and the JSON in the file's attributes are read. Covered is what sequential and residual image and audio
networks are made of; any other layer or setting stops by name.

    keras                                    ONNX
    channels last, (N, H, W, C)              channels first, (N, C, H, W)
    Conv2D kernel (kh, kw, in, out)          (out, in, kh, kw)
    DepthwiseConv2D kernel (kh, kw, in, m)   (in * m, 1, kh, kw) in `in` groups, channel in * m + j
    padding "same"                           explicit pads, the odd one at the end
    Flatten of (H, W, C), then Dense         rows of the matrix in the order (C, H, W)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from broadaxe.frontend.standard import session

OPSET = 18


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of the file: its settings, what it reads, and its arrays by the last part of their names (`kernel`, `gamma`)."""

    kind: str
    name: str
    config: Mapping[str, Any]
    inputs: tuple[str, ...]
    arrays: Mapping[str, np.ndarray]

    def fail(self, what: str) -> ValueError:
        return ValueError(f"{self.name} ({self.kind}): {what}")


def read(source: Path | BinaryIO) -> list[Layer]:
    """The layers of a model with one input and one output, in the order of the file."""
    with h5py.File(source, "r") as file:
        config = json.loads(file.attrs["model_config"])["config"]
        layers = []
        for entry in config["layers"]:
            name, nodes = entry["config"]["name"], entry.get("inbound_nodes") or []
            if len(nodes) > 1:
                raise ValueError(f"{name} ({entry['class_name']}): is used {len(nodes)} times; only once is supported")
            group = file["model_weights"][name]
            stored = [n.decode() if isinstance(n, bytes) else n for n in group.attrs.get("weight_names", [])]
            arrays = {n.rpartition("/")[2].partition(":")[0]: np.asarray(group[n], dtype=np.float32) for n in stored}
            inputs = tuple(source[0] for source in nodes[0]) if nodes else ()
            layers.append(Layer(entry["class_name"], name, entry["config"], inputs, arrays))
    return layers


def same_pads(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """What `same` puts before and after an axis: outputs are ceil(size / stride), the odd one comes last."""
    total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    return total // 2, total - total // 2


def _pads(layer: Layer, shape: tuple[int, ...], kernel: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    if layer.config["padding"] == "valid":
        return (0, 0), (0, 0)
    if layer.config["padding"] != "same":
        raise layer.fail(f"padding {layer.config['padding']!r} is not supported")
    rows, columns = (same_pads(n, k, s) for n, k, s in zip(shape, kernel, layer.config["strides"], strict=False))
    return rows, columns


def _check(layer: Layer) -> None:
    """Refuse settings that the conversion would ignore."""
    plain = {"data_format": "channels_last", "dilation_rate": [1, 1], "groups": 1}
    for key, value in plain.items():
        if layer.config.get(key, value) != value:
            raise layer.fail(f"{key} {layer.config[key]!r} is not supported, only {value!r}")


# To ONNX


class _Writer:
    """The ONNX graph so far. Tensors are named after the layers; `shapes` are those of Keras, without the batch."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.flattened: dict[str, tuple[int, ...]] = {}

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def linear(self, layer: Layer, op: str, weight: np.ndarray, **attributes: Any) -> None:
        """A Conv or Gemm with its bias and activation."""
        inputs = [layer.inputs[0], self.constant(f"{layer.name}.weight", weight)]
        if layer.config["use_bias"]:
            inputs.append(self.constant(f"{layer.name}.bias", layer.arrays["bias"]))
        activation = layer.config["activation"]
        out = layer.name if activation == "linear" else f"{layer.name}.linear"
        self.nodes.append(helper.make_node(op, inputs, [out], layer.name, **attributes))
        if activation != "linear":
            self.activation(layer, activation, out)

    def activation(self, layer: Layer, kind: str, source: str) -> None:
        if kind not in ("relu", "softmax"):
            raise layer.fail(f"activation {kind!r} is not supported")
        op, more = ("Relu", {}) if kind == "relu" else ("Softmax", {"axis": -1})
        name = layer.name if source == layer.inputs[0] else f"{layer.name}.{kind}"
        self.nodes.append(helper.make_node(op, [source], [layer.name], name, **more))


def to_onnx(layers: list[Layer], name: str) -> onnx.ModelProto:
    """Float ONNX of the network, with an open batch axis."""
    writer, inputs = _Writer(), []
    for layer in layers:
        _check(layer)
        if layer.kind == "InputLayer":
            shape = tuple(layer.config["batch_input_shape"][1:])
            writer.shapes[layer.name] = shape
            dims = ["N", *_first(shape)]
            inputs.append(helper.make_tensor_value_info(layer.name, TensorProto.FLOAT, dims))
            continue
        write = _WRITERS.get(layer.kind)
        if write is None:
            raise layer.fail(f"is not supported; there are {', '.join(_WRITERS)}")
        writer.shapes[layer.name] = write(writer, layer, writer.shapes[layer.inputs[0]])
    last = layers[-1].name
    dims = ["N", *_first(writer.shapes[last])]
    outputs = [helper.make_tensor_value_info(last, TensorProto.FLOAT, dims)]
    graph = helper.make_graph(writer.nodes, name, inputs, outputs, writer.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def _first(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A Keras shape with its channels first."""
    return (shape[-1], *shape[:-1])


def _conv(writer: _Writer, layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    if layer.kind == "Conv2D":
        kernel, groups = layer.arrays["kernel"], 1
        weight = kernel.transpose(3, 2, 0, 1)
    else:
        kernel, groups = layer.arrays["depthwise_kernel"], shape[2]
        weight = kernel.transpose(2, 3, 0, 1).reshape(-1, 1, *kernel.shape[:2])
    (top, bottom), (left, right) = _pads(layer, shape, kernel.shape[:2])
    strides = layer.config["strides"]
    writer.linear(layer, "Conv", weight, group=groups, strides=strides, pads=[top, left, bottom, right])
    rows = (shape[0] + top + bottom - kernel.shape[0]) // strides[0] + 1
    columns = (shape[1] + left + right - kernel.shape[1]) // strides[1] + 1
    return rows, columns, len(weight)


def _dense(writer: _Writer, layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) != 1:
        raise layer.fail(f"reads shape {shape}; only vectors are supported")
    kernel = layer.arrays["kernel"]
    before = writer.flattened.get(layer.inputs[0])
    if before is not None and len(before) == 3:
        kernel = kernel.reshape(*before, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
    writer.linear(layer, "Gemm", kernel.T, transB=1)
    return (kernel.shape[1],)


def _norm(writer: _Writer, layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    axis = layer.config["axis"]
    if axis not in ([len(shape)], len(shape), -1, [-1]):
        raise layer.fail(f"axis {axis!r} is not supported, only the last")
    names = [writer.constant(f"{layer.name}.{key}", value) for key, value in _statistics(layer, shape[-1]).items()]
    node = helper.make_node(
        "BatchNormalization", [layer.inputs[0], *names], [layer.name], layer.name, epsilon=layer.config["epsilon"]
    )
    writer.nodes.append(node)
    return shape


def _statistics(layer: Layer, channels: int) -> dict[str, np.ndarray]:
    """gamma, beta, mean and variance; a layer without scale or centre has ones or zeros."""
    ones, zeros = np.ones(channels, dtype=np.float32), np.zeros(channels, dtype=np.float32)
    defaults = {"gamma": ones, "beta": zeros, "moving_mean": zeros, "moving_variance": ones}
    return {key: layer.arrays.get(key, value) for key, value in defaults.items()}


def _activation(writer: _Writer, layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    writer.activation(layer, layer.config["activation"], layer.inputs[0])
    return shape


def _add(writer: _Writer, layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(layer.inputs) != 2:
        raise layer.fail(f"adds {len(layer.inputs)} tensors; only two are supported")
    writer.nodes.append(helper.make_node("Add", layer.inputs, [layer.name], layer.name))
    return shape


def _average(writer: _Writer, layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    if layer.kind == "GlobalAveragePooling2D":
        pooled = f"{layer.name}.pooled"
        writer.nodes.append(helper.make_node("GlobalAveragePool", layer.inputs, [pooled], layer.name))
        writer.nodes.append(helper.make_node("Flatten", [pooled], [layer.name], f"{layer.name}.flatten"))
        return (shape[2],)
    kernel, strides = layer.config["pool_size"], layer.config["strides"]
    if layer.config["padding"] != "valid":
        raise layer.fail("padding is not supported")
    attributes = {"kernel_shape": kernel, "strides": strides}
    writer.nodes.append(helper.make_node("AveragePool", layer.inputs, [layer.name], layer.name, **attributes))
    rows, columns = ((n - k) // s + 1 for n, k, s in zip(shape, kernel, strides, strict=False))
    return rows, columns, shape[2]


def _flatten(writer: _Writer, layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    writer.nodes.append(helper.make_node("Flatten", layer.inputs, [layer.name], layer.name))
    writer.flattened[layer.name] = shape
    return (int(np.prod(shape)),)


def _reshape(writer: _Writer, layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    target = tuple(layer.config["target_shape"])
    if len(shape) != 1 or target[-1] != 1:
        raise layer.fail(f"{shape} to {target} moves elements; only vectors to one channel are supported")
    to = writer.constant(f"{layer.name}.shape", np.array([0, *_first(target)], dtype=np.int64))
    writer.nodes.append(helper.make_node("Reshape", [layer.inputs[0], to], [layer.name], layer.name))
    return target


def _dropout(writer: _Writer, layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    writer.nodes.append(helper.make_node("Identity", layer.inputs, [layer.name], layer.name))
    return shape


_WRITERS: dict[str, Callable[[_Writer, Layer, tuple[int, ...]], tuple[int, ...]]] = {
    "Conv2D": _conv,
    "DepthwiseConv2D": _conv,
    "Dense": _dense,
    "BatchNormalization": _norm,
    "Activation": _activation,
    "Add": _add,
    "AveragePooling2D": _average,
    "GlobalAveragePooling2D": _average,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Dropout": _dropout,
}


# The independent forward pass


def forward(layers: list[Layer], x: np.ndarray) -> dict[str, np.ndarray]:
    """What every layer gives, as Keras defines it, in float64 and channels last; shares no arithmetic with `to_onnx`.

    Args:
        x: shape (samples, H, W, C).
    """
    values: dict[str, np.ndarray] = {}
    for layer in layers:
        given, a, c = [values[name] for name in layer.inputs], layer.arrays, layer.config
        match layer.kind:
            case "InputLayer":
                y = x.astype(np.float64)
            case "Conv2D":
                y = np.einsum("nhwcij,ijco->nhwo", _windows(given[0], c), a["kernel"], optimize=True)
            case "DepthwiseConv2D":
                y = np.einsum("nhwcij,ijcm->nhwcm", _windows(given[0], c), a["depthwise_kernel"], optimize=True)
                y = y.reshape(*y.shape[:3], -1)
            case "Dense":
                y = given[0] @ a["kernel"]
            case "BatchNormalization":
                y = (given[0] - a["moving_mean"]) / np.sqrt(a["moving_variance"].astype(np.float64) + c["epsilon"])
                y = y * a.get("gamma", 1) + a.get("beta", 0)
            case "Add":
                y = given[0] + given[1]
            case "AveragePooling2D":
                y = _windows(given[0], {**c, "kernel_size": c["pool_size"]}).mean((-1, -2))
            case "GlobalAveragePooling2D":
                y = given[0].mean((1, 2))
            case "Flatten":
                y = given[0].reshape(len(x), -1)
            case "Reshape":
                y = given[0].reshape(len(x), *c["target_shape"])
            case _:
                y = given[0]
        y = y + a["bias"] if "bias" in a else y
        kind = c.get("activation", "linear")
        if kind == "relu":
            y = np.maximum(y, 0)
        elif kind == "softmax":
            y = np.exp(y - y.max(-1, keepdims=True))
            y /= y.sum(-1, keepdims=True)
        values[layer.name] = y
    return values


def _windows(x: np.ndarray, config: Mapping[str, Any]) -> np.ndarray:
    """Every window, shape (N, H', W', C, kh, kw); `same` gives ceil(n / stride) of them, as TensorFlow defines it."""
    kernel, strides = config["kernel_size"], config["strides"]
    if config["padding"] == "same":
        ends = []
        for n, k, s in zip(x.shape[1:3], kernel, strides, strict=True):
            missing = max(k - s if n % s == 0 else k - n % s, 0)
            ends.append((missing // 2, missing - missing // 2))
        x = np.pad(x, ((0, 0), *ends, (0, 0)))
    every = np.lib.stride_tricks.sliding_window_view(x, kernel, (1, 2))
    return every[:, :: strides[0], :: strides[1]]


def largest_difference(layers: list[Layer], model: onnx.ModelProto, x: np.ndarray) -> float:
    """Between `forward` and onnxruntime on the converted model: of any layer, relative to that layer's largest output.

    What Flatten gives is compared behind the Dense that reads it: the order of its elements is another one by intent.

    Args:
        x: shape (samples, H, W, C).
    """
    compared = [layer.name for layer in layers if layer.kind not in ("InputLayer", "Flatten")]
    run, expected = session(model, outputs=compared), forward(layers, x)
    got = run.run(None, {layers[0].name: np.ascontiguousarray(np.moveaxis(x, -1, 1))})
    worst = 0.0
    for name, y in zip(compared, got, strict=True):
        y = np.moveaxis(y, 1, -1) if y.ndim == 4 else y
        worst = max(worst, float(np.abs(y - expected[name]).max() / np.abs(expected[name]).max()))
    return worst
