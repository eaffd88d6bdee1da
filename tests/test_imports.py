"""benchmarks/imports.py: a Keras file, written here, becomes float ONNX, is quantized, and every accumulator is proven."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import broadaxe
from broadaxe.lower import lower
from broadaxe.passes import run_passes
from broadaxe.prove.accumulators import accumulators

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import keras_h5

PLAIN = {"data_format": "channels_last", "dilation_rate": [1, 1], "groups": 1, "activation": "linear"}
SAME = {**PLAIN, "padding": "same", "use_bias": True}


def entry(kind, name, reads, **config):
    return {"class_name": kind, "config": {"name": name, **config}, "inbound_nodes": [[[n, 0, 0, {}] for n in reads]]}


def keras_file(layers, arrays):
    """An .h5 file in memory, as Keras 2 writes them."""
    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        h5.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": {"layers": layers}})
        for layer in layers:
            name = layer["config"]["name"]
            group = h5.create_group(f"model_weights/{name}")
            own = {f"{name}/{key}:0": value for key, value in arrays.get(name, {}).items()}
            group.attrs["weight_names"] = [key.encode() for key in own]
            for key, value in own.items():
                group[key] = value.astype(np.float32)
    return file


@pytest.fixture(scope="module")
def network():
    """Strides of 2 on odd and even sizes, two depthwise channels per input, a residual sum, and images that are flattened."""
    rng = np.random.default_rng(5)

    def norm(channels):
        low = {"moving_variance": rng.uniform(0.01, 2, channels)}
        return low | {key: rng.normal(size=channels) for key in ("gamma", "beta", "moving_mean")}

    def weights(key, *shape):
        return {key: rng.normal(size=shape), "bias": rng.normal(size=shape[-1])}

    layers = [
        {
            "class_name": "InputLayer",
            "config": {"name": "image", "batch_input_shape": [None, 10, 7, 3]},
            "inbound_nodes": [],
        },
        entry("Conv2D", "first", ["image"], kernel_size=[3, 4], strides=[2, 2], **SAME),
        entry("BatchNormalization", "norm", ["first"], axis=[3], epsilon=0.001),
        entry("Activation", "relu", ["norm"], activation="relu"),
        entry("DepthwiseConv2D", "depthwise", ["relu"], kernel_size=[3, 3], strides=[1, 1], depth_multiplier=2, **SAME),
        entry("Conv2D", "wide", ["relu"], kernel_size=[1, 1], strides=[1, 1], **SAME),
        entry("Add", "add", ["wide", "depthwise"]),
        entry("Activation", "sum", ["add"], activation="relu"),
        entry("AveragePooling2D", "pool", ["sum"], pool_size=[2, 2], strides=[2, 2], padding="valid"),
        entry("Flatten", "flatten", ["pool"], data_format="channels_last"),
        entry("Dense", "dense", ["flatten"], units=5, activation="softmax", use_bias=True),
    ]
    depthwise = {"depthwise_kernel": rng.normal(size=(3, 3, 4, 2)), "bias": rng.normal(size=8)}
    arrays = {
        "first": weights("kernel", 3, 4, 3, 4),
        "norm": norm(4),
        "depthwise": depthwise,
        "wide": weights("kernel", 1, 1, 4, 8),
        "dense": weights("kernel", 2 * 2 * 8, 5),
    }
    return keras_h5.read(keras_file(layers, arrays))


def test_same_pads_are_those_of_tensorflow():
    assert keras_h5.same_pads(224, 3, 2) == (0, 1)
    assert keras_h5.same_pads(7, 3, 2) == (1, 1)
    assert keras_h5.same_pads(56, 5, 2) == (1, 2)
    assert keras_h5.same_pads(50, 10, 2) == (4, 4)
    assert keras_h5.same_pads(32, 1, 2) == (0, 0)


def test_every_converted_layer_is_what_keras_defines(network):
    images = np.random.default_rng(0).normal(size=(3, 10, 7, 3)).astype(np.float32)
    assert keras_h5.largest_difference(network, keras_h5.to_onnx(network, "tiny"), images) < 1e-5


def test_a_keras_network_is_quantized_and_proven(network):
    images = np.random.default_rng(1).normal(size=(32, 3, 10, 7)).astype(np.float32)
    settings = broadaxe.QuantConfig(
        preset="axe-search", weight_bits=4, acc_bits=12, layers={"dense": {"tile": 16}, "first": {"tile": 9}}
    )
    quantized = broadaxe.quantize(keras_h5.to_onnx(network, "tiny"), images, settings)
    found = {layer.name: layer for layer in quantized.record.layers}
    assert {name: layer.groups for name, layer in found.items()} == {"first": 1, "depthwise": 4, "wide": 1, "dense": 1}
    for accumulator in accumulators(run_passes(lower(quantized.model).graph)):
        layer = found.pop(accumulator.origin.partition(" ")[0], None)
        if layer is not None:
            assert (accumulator.inner_bits or accumulator.width) <= 12
            assert (accumulator.tile is None) == (layer.tile is None)
    assert not found


def test_what_is_not_supported_is_named():
    layers = [
        {
            "class_name": "InputLayer",
            "config": {"name": "x", "batch_input_shape": [None, 4, 4, 1]},
            "inbound_nodes": [],
        },
        entry("LSTM", "memory", ["x"]),
    ]
    with pytest.raises(
        ValueError, match=r"^memory \(LSTM\): is not supported; there are Conv2D, DepthwiseConv2D, Dense,"
    ):
        keras_h5.to_onnx(keras_h5.read(keras_file(layers, {})), "no")
