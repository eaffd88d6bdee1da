"""The examples' models: the committed Fashion-MNIST network and the one of the qonnx package, every execution equal.

The tests on real images need the data set (Debian or Ubuntu: apt-get install dataset-fashion-mnist).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import broadaxe
from broadaxe import reference
from broadaxe.build import random_codes
from broadaxe.csim import Mode, Simulator
from broadaxe.render import OnnxRun

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))

import fashion_mnist_cnn  # noqa: E402
import import_onnx  # noqa: E402


@pytest.fixture(scope="module")
def fashion(once):
    def make(folder):
        broadaxe.compile(fashion_mnist_cnn.MODEL, folder)

    return broadaxe.load(once("fashion", make))


@pytest.fixture(scope="module")
def test_images():
    try:
        return fashion_mnist_cnn.images("t10k")
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


def assert_all_equal(build, codes):
    """Reference, integer ONNX and native C simulation, on every value; returns the reference's."""
    expected = reference.run(build.graph, codes, every_value=True)
    for name, got in OnnxRun(build.graph)(codes).items():
        np.testing.assert_array_equal(got, expected[name], err_msg=f"integer ONNX at {name}")
    traced = Simulator.of(build.path, build.top, build.graph, build.flow, Mode.NATIVE, traced=True).trace(codes)
    assert len(traced) > len(build.graph.nodes) // 2
    for name in traced.keys() & expected.keys():
        np.testing.assert_array_equal(traced[name], expected[name], err_msg=f"C simulation at {name}")
    return expected


def accuracy(logits, labels):
    return float(np.mean(logits.argmax(axis=1) == labels))


def test_the_committed_model_is_small_and_names_no_machine():
    content = fashion_mnist_cnn.MODEL.read_bytes()
    assert len(content) < 1_000_000
    assert b"/home/" not in content
    assert b".py" not in content
    kinds = [node.op_type for node in onnx.load(fashion_mnist_cnn.MODEL).graph.node]
    assert kinds.count("Add") == 1, "the residual block"


def test_the_committed_model_has_depthwise_layers_and_a_proof(fashion):
    layers = {layer.name: layer for layer in broadaxe.report(fashion).layers}
    assert [name for name in layers if name.startswith("conv")] == [f"conv{i}" for i in range(7)]
    kinds = [node.op.kind for node in fashion.graph.nodes]
    assert kinds.count("scaled_add") == 1
    assert kinds.count("grouped_matvec") == 3, "two depthwise layers and the average"


def test_fashion_executions_agree_on_synthetic_images(fashion):
    assert_all_equal(fashion, random_codes(fashion.graph, 6, seed=3))


def test_fashion_executions_agree_on_200_real_images(fashion, test_images):
    x, y = (a[:200] for a in test_images)
    expected = assert_all_equal(fashion, fashion.codes(x))
    (logits,) = fashion.host.reals({name: expected[name] for name in fashion.graph.outputs}).values()
    assert accuracy(logits, y) > 0.85


@pytest.mark.slow
def test_fashion_hardware_equals_reference_and_integer_onnx_on_all_10000_images(fashion, test_images):
    x, y = test_images
    (output,) = fashion.graph.outputs
    codes = fashion.codes(x)
    expected = reference.run(fashion.graph, codes)[output]
    onnx_run = OnnxRun(fashion.graph, every_value=False)
    for at in range(0, len(x), 500):
        part = {name: c[at : at + 500] for name, c in codes.items()}
        np.testing.assert_array_equal(onnx_run(part)[output], expected[at : at + 500])
    simulator = Simulator.of(fashion.path, fashion.top, fashion.graph, fashion.flow, Mode.NATIVE)
    np.testing.assert_array_equal(simulator.run(codes)[output], expected)
    (logits,) = fashion.host.reals({output: expected}).values()
    assert accuracy(logits, y) >= 0.88


def test_a_missing_data_set_is_explained(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fashion_mnist_cnn.py", "--data", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        fashion_mnist_cnn.main()
    first, *rest = str(stop.value).splitlines()
    assert first == f"Fashion-MNIST: {tmp_path / 't10k-images-idx3-ubyte.gz'} is missing"
    assert rest[0] == "  Debian or Ubuntu: apt-get install dataset-fashion-mnist"


def test_the_network_of_the_qonnx_package_agrees(once):
    def make(folder):
        broadaxe.compile(import_onnx.network(8), folder)

    build = broadaxe.load(once("espcn", make))
    image = import_onnx.photograph()[:, :, 40:48, 40:48]
    expected = assert_all_equal(build, build.codes(np.concatenate([image, image[..., ::-1]])))
    outputs = build.host.reals({name: expected[name] for name in build.graph.outputs})
    assert [y.shape for y in outputs.values()] == [(2, 3, 16, 16)]
