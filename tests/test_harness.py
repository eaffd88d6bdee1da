"""Verification finds what it is there to find: each mutation of a built design makes a check fail, and the check names it.

Mutations are made in a copy of the folder and checked by running the C++ (testbench, witness harness, traced streams), never by
the file hashes, which would find any of them.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import Network
from onnx import TensorProto, helper, numpy_helper

import broadaxe
from broadaxe import Build
from broadaxe.build import random_codes
from broadaxe.chain import Chain, Quantizer
from broadaxe.csim import Mode, Simulator, ap_types, compile_sources, run_program
from broadaxe.manifest import sha256
from broadaxe.ops import Requantize
from broadaxe.ops.forms import Form, Shift, Thresholds
from broadaxe.passes.choose_requantizers import choose_requantizers
from broadaxe.prove.requantizers import shift_candidates
from broadaxe.reference import run
from broadaxe.reports.reading import read_report
from broadaxe.staircase import Staircase
from broadaxe.verification import Findings, _check_folder, _compare

MACS = ("conv0", "conv1", "gemm0")
FOLDING = {"conv0": {"pe": 2, "simd": 2}, "conv1": {"pe": 2, "simd": 4}, "gemm0": {"pe": 3, "simd": 4}}
Once = Callable[[str, Callable[[Path], object]], Path]


# The network


def network(power_of_two: bool) -> onnx.ModelProto:
    """Quant(zero point 3) - Conv 3x3 padded - BatchNorm of both signs - Relu - Quant - MaxPool - Conv 1x1 - Quant - Gemm.

    With powers of two everywhere, every rounding boundary can be met exactly.
    """
    rng = np.random.default_rng(2)
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []

    def constant(values: object) -> str:
        tensors.append(numpy_helper.from_array(np.asarray(values, dtype=np.float32), f"c{len(tensors)}"))
        return str(tensors[-1].name)

    def node(op_type: str, *inputs: str, **attributes: object) -> str:
        name = f"{op_type.lower()}_{len(nodes)}"
        domain = "qonnx.custom_op.general" if op_type == "Quant" else ""
        nodes.append(helper.make_node(op_type, list(inputs), [f"{name}_out"], name=name, domain=domain, **attributes))
        return f"{name}_out"

    def quant(x: str, scale: object, zero_point: float, bits: int, signed: int) -> str:
        rest = [constant(v) for v in (scale, zero_point, bits)]
        return node("Quant", x, *rest, signed=signed, narrow=0, rounding_mode="ROUND")

    def weight(*shape: int) -> str:
        scale = 1 / 8 if power_of_two else rng.uniform(0.05, 0.2, size=(shape[0], *[1] * (len(shape) - 1)))
        return quant(constant(rng.integers(-7, 8, size=shape) * scale), scale, 0, 4, 1)

    def free(exact: object, low: float, high: float) -> str:
        """The given numbers, or random ones."""
        return constant(exact if power_of_two else rng.uniform(low, high, size=np.shape(exact)))

    x = quant("x", 1 / 4 if power_of_two else 0.23, 3, 4, 0)
    x = node("Conv", x, weight(4, 2, 3, 3), free([1 / 8, 0, -1 / 4, 1 / 2], -1, 1), kernel_shape=[3, 3], pads=[1] * 4)
    gamma = constant([1, -1, 1 / 2, -2] if power_of_two else [0.9, -1.1, 0.4, -0.7])
    statistics = [free([1 / 4, -1 / 2, 0, 1 / 8], -1, 1), free([1 / 8, 0, -1 / 4, 0], -0.5, 0.5), free([1] * 4, 0.5, 2)]
    epsilon = 0.0 if power_of_two else 1e-5
    x = node("BatchNormalization", x, gamma, *statistics, epsilon=epsilon)
    x = quant(node("Relu", x), 1 / 4 if power_of_two else 0.21, 0, 4, 0)
    x = node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = node("Conv", x, weight(4, 4, 1, 1), free([1 / 4, 0, -1 / 2, 1 / 16], -1, 1), kernel_shape=[1, 1])
    x = quant(x, 1 / 2 if power_of_two else 0.37, 0, 4, 1)
    out = node("Gemm", node("Flatten", x), weight(3, 36), constant([0.5, -0.25, 1.0]), transB=1)
    graph = helper.make_graph(
        nodes,
        "harness",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 6, 6])],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, [1, 3])],
        tensors,
    )
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("qonnx.custom_op.general", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def images(count: int) -> np.ndarray:
    return np.random.default_rng(4).uniform(-1.5, 4, size=(count, 2, 6, 6)).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def two_forms(unoptimised: None) -> Iterator[None]:
    """Requantizers are shifts or thresholds here, whatever else would be cheaper: those are what the tests break."""

    def candidates(chain: Chain, quantizer: Quantizer, stairs: Staircase) -> list[Form]:
        return [*shift_candidates(chain, quantizer, stairs), Thresholds.of(stairs)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[choose_requantizers.__module__], "candidates", candidates)
        yield


@pytest.fixture(scope="module")
def build(once: Once, two_forms: None) -> Build:
    """The power-of-two network, compiled once; tests read it."""
    folder = once("harness", lambda path: broadaxe.compile(network(True), path, folding=FOLDING))
    return broadaxe.load(folder)


@pytest.fixture(scope="module")
def codes(build: Build) -> dict[str, np.ndarray]:
    return random_codes(build.graph, 24, seed=9)


@pytest.fixture
def copy(build: Build, tmp_path: Path) -> Path:
    """A copy of the folder, to be broken."""
    folder = tmp_path / "broken"
    shutil.copytree(build.path, folder, ignore=ignore_programs)
    return folder


def ignore_programs(folder: str, names: list[str]) -> set[str]:
    """What was compiled: BUILD/sim, not the headers in BUILD/tb/sim."""
    return {"sim"} if "firmware" in names else set()


# Running the checks


def witness(folder: Path, mode: Mode = Mode.NATIVE) -> tuple[int, str]:
    return run_program(compile_sources(folder, mode, ["tb/witness.cpp"], "witness"))


def mismatches(build: Build, folder: Path, codes: dict[str, np.ndarray], mode: Mode = Mode.NATIVE) -> list[str]:
    """What comparing every stream of the C simulation with the reference reports."""
    simulator = Simulator.of(folder, build.top, build.graph, build.flow, mode, traced=True)
    result = Findings()
    expected = run(build.graph, codes, every_value=True)
    traced = {name: x for name, x in simulator.trace(codes).items() if name in expected}
    _compare(build.graph, expected, traced, f"C simulation ({mode.value})", 0, result)
    return [str(m) for m in result.mismatches]


def assert_named(report: list[str], node: str) -> None:
    """One mismatch, which names the node, the model's node behind it, input, index and both values."""
    (line,) = report
    pattern = rf"{node}, \w+ \(\w+\): input \d+, index \([\d, ]+\): reference (-?\d+), C simulation \(native\) (-?\d+)"
    match = re.fullmatch(pattern, line)
    assert match, line
    assert match[1] != match[2]


# Breaking the sources


def rewrite(path: Path, pattern: str, replacement: str | Callable[[re.Match[str]], str]) -> None:
    text, count = re.subn(pattern, replacement, path.read_text(), count=1, flags=re.DOTALL)
    assert count == 1, f"{path.name}: {pattern}"
    path.write_text(text)


def rewrite_memory(path: Path, name: str, change: Callable[[list[int]], None]) -> None:
    """Change the integers of a read-only memory, in their flat order."""

    def changed(match: re.Match[str]) -> str:
        values = [int(v) for v in re.findall(r"-?\d+", match[2])]
        before = list(values)
        change(values)
        assert values != before
        numbers = iter(values)
        return match[1] + re.sub(r"-?\d+", lambda _: str(next(numbers)), match[2]) + "};"

    rewrite(path, rf"(\b{name}(?:\[\d+\])+ = \{{)(.*?)\}};", changed)


def narrow(folder: Path, value: str) -> int:
    """Take one bit off a value's type; returns the width it had."""
    widths: list[int] = []

    def less(match: re.Match[str]) -> str:
        widths.append(int(match[1]))
        return f"typedef ap_int<{widths[0] - 1}> {value}_t;"

    rewrite(folder / "firmware" / "types.hpp", rf"typedef ap_int<(\d+)> {value}_t;", less)
    return widths[0]


def requantizer(build: Build, form: type[Form]) -> str:
    return next(n.name for n in build.graph.nodes if isinstance(n.op, Requantize) and type(n.op.form) is form)


# The design as it is


def test_the_design_has_what_the_mutations_need(build: Build) -> None:
    forms = [node.op.form for node in build.graph.nodes if isinstance(node.op, Requantize)]
    assert [type(form) for form in forms] == [Thresholds, Shift]
    assert isinstance(forms[1], Shift)
    assert forms[1].half_even
    assert isinstance(forms[0], Thresholds)
    assert set(forms[0].direction.tolist()) == {1, -1}
    assert tuple(n.name for n in build.graph.nodes if n.name in MACS) == MACS


def test_an_untouched_design_passes_its_witnesses(build: Build) -> None:
    status, output = witness(build.path)
    assert status == 0, output
    assert [line.split(":")[0] for line in output.splitlines()] == list(MACS)
    assert all(line.endswith(", 0 mismatches") for line in output.splitlines())


@pytest.mark.parametrize("power_of_two", [True, False], ids=["powers of two", "float scales"])
def test_verify(power_of_two: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Native C simulation alone: the exact one has its test below."""
    monkeypatch.setenv("BROADAXE_AP_TYPES", os.devnull)
    design = broadaxe.compile(network(power_of_two), tmp_path / "build", folding=FOLDING)
    result = broadaxe.verify(design, images(12))
    assert result.ok, str(result)
    assert (result.witnesses, result.exact_inputs) == (3, 0)
    assert result.inputs == 16 + 12
    assert str(result).splitlines()[-1] == f"verified: 28 inputs, {len(design.graph.nodes)} nodes, 0 mismatches"


# Mutations


@pytest.mark.parametrize("layer", MACS)
def test_an_accumulator_one_bit_too_narrow_fails_its_witnesses(build: Build, copy: Path, layer: str) -> None:
    width = narrow(copy, layer)
    assert width == build.graph.values[layer].dtype.width
    status, output = witness(copy)
    assert status == 1
    assert re.search(rf"^{layer}\[\d+\]: got -?\d+, expected -?\d+$", output, flags=re.MULTILINE), output
    counts = dict(re.findall(r"^(\w+): \d+ bits, (\d+) mismatches$", output, flags=re.MULTILINE))
    assert list(counts) == list(MACS)
    assert [name for name, count in counts.items() if count != "0"] == [layer]


def test_an_accumulator_too_narrow_fails_in_the_exact_build_too(build: Build, copy: Path) -> None:
    if ap_types() is None:
        pytest.skip("exact build: ap_int headers are missing; pip install hls4ml==1.3.0 brings them")
    narrow(copy, "conv1")
    status, output = witness(copy, Mode.EXACT)
    assert status == 1
    assert "conv1[" in output
    assert re.search(r"^conv0: \d+ bits, 0 mismatches$", output, flags=re.MULTILINE), output


def test_a_pe_one_bit_too_narrow_fails_its_witnesses(once: Once, tmp_path: Path) -> None:
    """PEs wrap at the widest of the channels that share them; each width has its witness."""
    net = Network(12, seed=1)
    rows = net.rng.choice([-1, 1], size=(8, 12)) * np.array([[7], [3], [1], [1]] * 2)
    rows[3::4, 4:] = 0
    y = net.node("MatMul", net.quant("x", 0.25, 0, 4), net.quant(rows.T / 8, 0.125, 0, 4))
    model = net.finish(y)
    folder = once("widths", lambda path: broadaxe.compile(model, path, folding={"matmul0": {"pe": 4, "simd": 3}}))
    design = broadaxe.load(folder)
    (value,) = (design.graph.values[name] for name in design.graph.outputs)
    channels = [interval.signed_dtype.width for interval in value.bounds]
    widths = [max(channels[pe::4]) for pe in range(4)]
    assert read_report(folder).layers[0].pe_bits == tuple(widths)
    assert len(set(widths)) == 4
    assert max(widths) == value.dtype.width
    status, output = witness(folder)
    assert status == 0, output
    for pe in range(4):
        broken = tmp_path / f"pe{pe}"
        shutil.copytree(folder, broken, ignore=ignore_programs)

        def less(values: list[int], pe: int = pe) -> None:
            assert values == widths
            values[pe] -= 1

        rewrite_memory(broken / "firmware" / "matmul0.hpp", "matmul0_widths", less)
        status, output = witness(broken)
        assert status == 1
        first = re.search(r"^matmul0\[(\d+)\]: got -?\d+, expected -?\d+$", output, flags=re.MULTILINE)
        assert first, output
        assert int(first[1]) % 4 == pe


def test_a_threshold_off_by_one_is_found(build: Build, copy: Path, codes: dict[str, np.ndarray]) -> None:
    """A threshold raised that some accumulator of the test data lies just above."""
    name = requantizer(build, Thresholds)
    node = next(n for n in build.graph.nodes if n.name == name)
    assert isinstance(node.op, Requantize)
    assert isinstance(node.op.form, Thresholds)
    form, lanes = node.op.form, build.lanes[name].read
    seen = run(build.graph, codes, every_value=True)[node.inputs[0]]
    channel, level = next(
        (c, k)
        for c in range(len(form.base))
        for k, threshold in enumerate(form.thresholds[c])
        if (seen[..., c] == threshold + 1).any() and threshold < form.domain.hi
    )
    groups = len(form.base) // lanes
    at = ((channel % lanes) * groups + channel // lanes) * form.levels + level

    def off_by_one(values: list[int]) -> None:
        assert values[at] == form.thresholds[channel, level]
        values[at] += 1

    rewrite_memory(copy / "firmware" / f"{name}.hpp", f"{name}_thresholds", off_by_one)
    assert_named(mismatches(build, copy, codes), name)


def test_a_swapped_channel_is_found(build: Build, copy: Path, codes: dict[str, np.ndarray]) -> None:
    """The rows of the first two PEs change places."""

    def swap(values: list[int]) -> None:
        rows = len(values) // FOLDING["conv1"]["pe"]
        values[:rows], values[rows : 2 * rows] = values[rows : 2 * rows], values[:rows]

    rewrite_memory(copy / "firmware" / "conv1.hpp", "conv1_weights", swap)
    assert_named(mismatches(build, copy, codes), "conv1")


def test_a_flipped_rounding_at_a_tie_is_found(build: Build, copy: Path, codes: dict[str, np.ndarray]) -> None:
    """Half to even becomes rounding down, with the half in the bias: only ties differ."""
    name = requantizer(build, Shift)
    node = next(n for n in build.graph.nodes if n.name == name)
    assert isinstance(node.op, Requantize)
    assert isinstance(node.op.form, Shift)
    half = 1 << (node.op.form.shift - 1)
    header = copy / "firmware" / f"{name}.hpp"
    rewrite(header, r"(broadaxe::shift<[^>]*>?[^;]*?), true, ", r"\1, false, ")
    rewrite(header, rf"const (signed char|short|int) {name}_bias", rf"const long long {name}_bias")
    rewrite(header, r", (signed char|short|int)>\(", ", long long>(")

    def half_up(values: list[int]) -> None:
        values[:] = [v + half for v in values]

    rewrite_memory(header, f"{name}_bias", half_up)
    report = mismatches(build, copy, codes)
    assert_named(report, name)
    # what differs is a tie: the accumulator, bias included, is an odd multiple of half a step
    match = re.search(r"input (\d+), index \((.*)\):", report[0])
    assert match
    place = (int(match[1]), *map(int, match[2].split(", ")))
    accumulator = int(run(build.graph, codes, every_value=True)[node.inputs[0]][place])
    assert (accumulator + int(node.op.form.bias[place[-1]])) % (2 * half) == half


def test_a_dropped_zero_point_is_found(build: Build, copy: Path, codes: dict[str, np.ndarray]) -> None:
    """The first convolution pads with code 3, which stands for a real 0."""

    def drop(values: list[int]) -> None:
        assert set(values) == {3}
        values[:] = [0] * len(values)

    rewrite_memory(copy / "firmware" / "window0.hpp", "window0_pad", drop)
    assert_named(mismatches(build, copy, codes), "window0")


def test_verify_reports_every_check_that_fails(build: Build, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed start constant: its file's hash, the streams, the testbench and the witnesses all say so."""
    monkeypatch.setenv("BROADAXE_AP_TYPES", os.devnull)

    def off_by_one(values: list[int]) -> None:
        values[0] += 1

    rewrite_memory(copy / "firmware" / "gemm0.hpp", "gemm0_start", off_by_one)
    result = broadaxe.verify(replace(build, path=copy))
    assert not result.ok
    lines = [str(m) for m in result.mismatches]
    changed = copy / "firmware" / "gemm0.hpp"
    assert lines[0] == f"{changed}: is missing or was changed after compilation; compile again"
    assert_named(lines[1:2], "gemm0")
    assert lines[2].startswith("testbench (native): ")
    assert re.fullmatch(r"witness \(native\): gemm0\[0\]: got -?\d+, expected -?\d+", lines[3]), lines[3]
    assert str(result).splitlines()[-1].startswith("NOT verified: ")


# Tampering


def folder_report(build: Build, folder: Path) -> list[str]:
    result = Findings()
    _check_folder(replace(build, path=folder), result)
    return [str(m) for m in result.mismatches]


def test_an_untouched_folder_has_its_hashes_and_certificate(build: Build, copy: Path) -> None:
    assert folder_report(build, copy) == []


@pytest.mark.parametrize(
    "name", ["firmware/types.hpp", "firmware/broadaxe/matvec.hpp", "tb/vectors.dat", "tb/witness.cpp", "model.onnx"]
)
def test_a_changed_file_is_a_mismatch(build: Build, copy: Path, name: str) -> None:
    path = copy / name
    path.write_bytes(path.read_bytes() + b"\n")
    assert folder_report(build, copy) == [f"{path}: is missing or was changed after compilation; compile again"]


def test_a_missing_file_is_a_mismatch(build: Build, copy: Path) -> None:
    (copy / "firmware" / "quant0.hpp").unlink()
    (line,) = folder_report(build, copy)
    assert line == f"{copy / 'firmware' / 'quant0.hpp'}: is missing or was changed after compilation; compile again"


def test_a_changed_certificate_is_found_even_with_a_new_hash(build: Build, copy: Path) -> None:
    """A width lowered in the certificate, and its hash in the manifest brought in line."""
    certificate, manifest = copy / "certificate.json", copy / "build.json"
    old = sha256(certificate)
    rewrite(certificate, r'"exact_bits":(\d+)', lambda match: f'"exact_bits":{int(match[1]) - 1}')
    hashes = folder_report(build, copy)
    assert len(hashes) == 2
    manifest.write_text(manifest.read_text().replace(old, sha256(certificate)))
    digest, derived = folder_report(build, copy)
    assert digest == f"{copy}: certificate.json: digest: the text was changed after it was written"
    assert derived == f"{certificate}: is not what model.onnx gives; compile again"


@pytest.mark.usefixtures("unoptimised")
def test_a_network_of_a_quantizer_alone_verifies(tmp_path: Path) -> None:
    """The host quantizes, the hardware passes on: there is no node to compute."""
    net = Network(4)
    build = broadaxe.compile(net.finish(net.quant("x")), tmp_path / "build")
    assert not build.graph.nodes
    result = broadaxe.verify(build, np.random.default_rng(0).normal(size=(5, 4)))
    assert result.ok, str(result)
    assert (result.inputs, result.nodes) == (21, 0)


@pytest.mark.usefixtures("unoptimised")
def test_a_network_whose_sums_pass_53_bits_verifies(tmp_path: Path) -> None:
    net = Network(400, seed=3)
    y = net.node("MatMul", "x", net.quant(net.rng.uniform(-1024, 1024, size=(400, 2)), 2**-5, bits=16))
    outputs = net.quant(y, 2.0**30), net.quant(y, 3.1e9), y
    build = broadaxe.compile(net.finish(*outputs), tmp_path / "build", inputs={"x": "int32"})
    assert [n.op.chosen().name for n in build.graph.nodes if isinstance(n.op, Requantize)] == [
        "shift",
        "thresholds",
    ]
    assert max(value.dtype.width for value in build.graph.values.values()) > 53
    result = broadaxe.verify(build)
    assert result.ok, str(result)
