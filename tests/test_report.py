"""report.json as a host reads it: the ports' entries alone say how reals become integers and integers reals."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import small_builds
from models import Network, design, f32, small_cnn

import broadaxe
from broadaxe.build import Build
from broadaxe.errors import RequestError, VerificationError
from broadaxe.frontend.standard import session
from broadaxe.reference import run
from broadaxe.reports.reading import read_report
from broadaxe.reports.schema import Port


def image() -> onnx.ModelProto:
    """A zero point per channel, an accumulator with a negative affine map and a Relu, and a transposed output."""
    net = Network(3, 4, 5, seed=1)
    y = net.quant("x", [[[0.1]], [[0.3]], [[0.1]]], np.array([2, -1, 0]).reshape(3, 1, 1), bits=5)
    y = net.depthwise(y, 3, pads=[1] * 4)
    out = net.node("Relu", net.node("Mul", y, np.array([-0.5, 2.0, 0.3]).reshape(3, 1, 1)))
    return net.finish(out, net.node("Transpose", y, perm=[0, 3, 1, 2]))


def bipolar() -> onnx.ModelProto:
    net = Network(4, seed=2)
    y = net.node("MatMul", net.bipolar("x"), net.weights(4, 3))
    return net.finish(net.node("Softmax", net.norm(y, [0.3, -1.0, 2.0]), axis=1))


def two_inputs() -> onnx.ModelProto:
    """The model's input through a head that transposes it, and the same tensor as integers of another quantizer."""
    net = Network(6, 2, seed=3)
    y = net.quant(net.node("Transpose", net.node("Mul", "x", 0.5), perm=[0, 2, 1]), 0.25, 8, 4, 0)
    z = net.quant("x", 0.1)
    return net.finish(net.node("MatMul", y, net.weights(6, 3)), net.node("MatMul", z, net.weights(2, 3)))


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "image": image,
    "bipolar": bipolar,
    "two inputs": two_inputs,
    "cnn": small_cnn,
}


@pytest.fixture(params=MODELS)
def build(request: pytest.FixtureRequest) -> Build:
    return design(MODELS[request.param]())


def data(build: Build) -> np.ndarray:
    shape = [d.dim_value for d in build.model.graph.input[0].type.tensor_type.shape.dim[1:]]
    return np.random.default_rng(0).normal(scale=1.5, size=(7, *shape)).astype(f32)


def placed(port: Port) -> np.ndarray:
    """Where in the stream each element of the tensor stands, of the tensor's shape."""
    count = int(np.prod(port.shape))
    if port.order == "channels-last":
        return np.arange(count).reshape(port.shape).transpose(2, 0, 1)
    return np.array(range(count) if port.index is None else port.index).reshape(port.tensor_shape)


def by_channel(values: object, step: str, name: str) -> object:
    """Rationals of a step: one, or one per channel."""
    assert values is not None, f"{step}: {name}"
    return np.array([float(Fraction(v)) for v in ([values] if isinstance(values, str) else values)])


def reals(port: Port, stream: np.ndarray) -> np.ndarray:
    y = np.array(port.scale) * stream + np.array(port.shift)
    for step in port.then:
        if step["is"] == "clamp":
            lo, hi = (np.inf if v is None else float(Fraction(v)) for v in (step["lo"], step["hi"]))
            y = np.clip(y, -lo if step["lo"] is None else lo, hi)
        elif step["is"] == "affine":
            y = y * by_channel(step["scale"], "affine", "scale") + by_channel(step["shift"], "affine", "shift")
        else:
            gamma, mean, variance, beta = (
                by_channel(step[name], step["is"], name) for name in ("gamma", "mean", "variance", "beta")
            )
            y = gamma * (y - mean) / np.sqrt(variance) + beta
    return y.reshape(len(stream), -1)[:, placed(port)]


def test_a_host_needs_nothing_but_the_report(build: Build) -> None:
    """Integers of inputs and reals of outputs, made from the report's entries, are those of the library."""
    report, x = broadaxe.report(build), data(build)
    expected = build.codes(x)
    for port, value in zip(report.inputs, build.graph.inputs, strict=True):
        assert port.quantized is not None
        (quantized,) = session(build.host.standard, outputs=[port.quantized]).run([port.quantized], {"x": x})
        assert quantized.shape[1:] == port.tensor_shape
        stream = np.empty((len(x), int(np.prod(port.shape))))
        stream[:, placed(port).reshape(-1)] = quantized.reshape(len(x), -1)
        codes = np.rint((stream.reshape(len(x), *port.shape) - np.array(port.shift)) / np.array(port.scale))
        np.testing.assert_array_equal(codes, expected[value])
        assert port.lo <= codes.min() < codes.max() <= port.hi
    integers = run(build.graph, expected)
    theirs = {o.tensor: o for o in build.lowered.outputs}
    assert [port.tensor for port in report.outputs] == list(theirs)
    for port in report.outputs:
        ours = reals(port, integers[theirs[port.tensor].value])
        known = broadaxe.host.real(theirs[port.tensor], integers[theirs[port.tensor].value])
        np.testing.assert_allclose(ours, known, rtol=1e-6, atol=1e-7)
    assert report.outputs_of_model == tuple(o.name for o in build.model.graph.output)


def test_ports_are_those_of_the_top_level(build: Build) -> None:
    report = broadaxe.report(build)
    header = broadaxe.build.contents(build)[f"firmware/{build.top}.hpp"].decode()
    line = r"// (\w+): (\d+) beats a frame, each (\d+) x \d+ bits of \w+ \(ap_(u?int)<(\d+)>\) from bit 0, ([\dx ]+), last axis"
    found = [(m[0], int(m[1]), int(m[2]), m[3] + m[4], m[5]) for m in re.findall(line, header)]
    ports = (*report.inputs, *report.outputs)
    stated = [(p.name, p.beats, p.lanes, p.type, " x ".join(map(str, p.shape))) for p in ports]
    assert found == list(dict.fromkeys(stated))
    widths = set(re.findall(r"typedef ap_axiu<(\d+), 0, 0, 0> (\w+)_beat;", header))
    assert {(str(p.bits), p.name) for p in ports} == widths
    assert all(p.beats * p.lanes == np.prod(p.shape) == np.prod(p.tensor_shape) for p in ports)


def port_of(name: str) -> tuple[Port, ...]:
    report = broadaxe.report(design(MODELS[name]()))
    return (*report.inputs, *report.outputs)


def test_scales_zero_points_and_orders() -> None:
    first, relu, transposed = port_of("image")
    assert (first.tensor, first.quantized, first.type) == ("x", "quant1_out", "int5")
    assert first.order == relu.order == "channels-last"
    assert first.zero_point == (2, -1, 0)
    assert (first.lo, first.hi) == (-16, 15)
    assert first.scale == (float(f32(0.1)), float(f32(0.3)), float(f32(0.1)))
    assert first.then == ()
    assert [step["is"] for step in relu.then] == ["clamp"]
    assert len(relu.scale) == 3
    assert (transposed.order, transposed.tensor_shape, transposed.shape) == ("index", (5, 3, 4), (4, 5, 3))
    assert transposed.index is not None
    codes, out = port_of("bipolar")
    assert (codes.type, codes.scale, codes.shift, codes.zero_point) == ("uint1", (1.0,), (-0.5,), None)
    assert (codes.order, out.order, out.index) == ("tensor", "tensor", None)
    unsigned, signed, *_ = port_of("two inputs")
    assert (unsigned.type, unsigned.zero_point, unsigned.tensor_shape) == ("uint4", (8,), (2, 6))
    assert (signed.type, signed.zero_point, signed.tensor_shape) == ("int4", (0,), (6, 2))


def test_an_integer_input_has_scale_one() -> None:
    net = Network(3)
    model = net.finish(net.node("MatMul", "x", net.weights(3, 2)))
    (port,) = broadaxe.report(design(model, inputs={"x": "uint8"})).inputs
    assert (port.type, port.lo, port.hi, port.quantized) == ("uint8", 0, 255, None)
    assert (port.scale, port.shift, port.zero_point) == ((1.0,), (0.0,), (0,))


# folders that have changed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "build"
    broadaxe.compile(small_cnn(), path)
    return path


def test_the_report_of_a_folder_is_that_of_its_build(folder: Path) -> None:
    assert read_report(folder) == broadaxe.report(broadaxe.load(folder))


@pytest.mark.parametrize("name", ["firmware/conv0.hpp", "firmware/types.hpp", "report.json", "model.onnx"])
@pytest.mark.parametrize("lost", [False, True], ids=["changed", "lost"])
def test_a_changed_file_is_noticed(folder: Path, name: str, lost: bool) -> None:
    build, path = broadaxe.load(folder), folder / name
    before = path.read_bytes()
    try:
        if lost:
            path.unlink()
        else:
            path.write_bytes(before + b"\n")
        for read in (lambda: read_report(folder), lambda: broadaxe.simulate(build, np.ones((1, 2, 6, 6)))):
            with pytest.raises(VerificationError) as caught:
                read()
            assert str(caught.value) == f"{path}: is missing or was changed after compilation; compile again"
            assert caught.value.exit_code == 1
    finally:
        path.write_bytes(before)
    assert read_report(folder)


@pytest.mark.parametrize("text", ["{}", "[]", '{"top": "a_top", "settings": {}, "files": ["x"]}', "\0"])
def test_a_damaged_manifest_is_no_build_folder(tmp_path: Path, text: str) -> None:
    (tmp_path / "build.json").write_text(text)
    with pytest.raises(RequestError) as caught:
        read_report(tmp_path)
    assert str(caught.value) == f"{tmp_path}: is not a build folder; make one with `broadaxe compile`"


DAMAGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no number": lambda r: r["resources"].update(lut=float("nan")),
    "no end": lambda r: r["resources"].update(ff=float("inf")),
    "channels are missing": lambda r: r["layers"][0]["lo"].pop(),
    "no channels": lambda r: r["layers"][0].update(outputs=0, lo=[], hi=[], starts=[], channel_bits=[]),
    "products are missing": lambda r: r["layers"][0]["witness"]["low"]["operands"][1].pop(),
    "one factor": lambda r: r["layers"][0]["witness"]["low"]["operands"].pop(),
    "no such channel": lambda r: r["layers"][0]["witness"].update(channel=-1),
    "no bins": lambda r: r["layers"][0]["weights"].update(counts=[]),
    "no scale": lambda r: r["inputs"][0].update(scale=[]),
    "frames at once": lambda r: r.update(interval=0),
    "no clock": lambda r: r.update(clock_ns=0),
}


@pytest.mark.parametrize("damage", [*DAMAGED, "no text"])
def test_a_damaged_report_is_refused(tmp_path: Path, damage: str) -> None:
    """Though its hash is right: whoever shows it meets no figure that cannot be."""
    folder = small_builds.copied(tmp_path)
    report, manifest = (json.loads((folder / name).read_text()) for name in ("report.json", "build.json"))
    if damage in DAMAGED:
        DAMAGED[damage](report)
    content = json.dumps(report).encode() if damage in DAMAGED else b"\xff\xfe"
    (folder / "report.json").write_bytes(content)
    manifest["files"]["report.json"] = hashlib.sha256(content).hexdigest()
    (folder / "build.json").write_text(json.dumps(manifest))
    with pytest.raises(RequestError) as refused:
        read_report(folder)
    expected = f"{folder}/report.json: is missing, damaged or of another version of Broadaxe; compile again"
    assert str(refused.value) == expected
