"""Designs whose weights are loaded at run time: for all weights within the budgets, and for none outside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from models import Network

import broadaxe
from broadaxe import Build, csim
from broadaxe.csim import Mode, Simulator
from broadaxe.errors import BroadaxeError, RequestError, UnsupportedModelError, VerificationError
from broadaxe.ir import Graph, constant_array
from broadaxe.loading import load_parameters, write_parameters
from broadaxe.ops.budget import Budget, Budgeted
from broadaxe.ops.loadable_matvec import full_rows
from broadaxe.parameters import packed, parameters_of
from broadaxe.prove import checker
from broadaxe.reference import run as reference
from broadaxe.types import IntType

pytestmark = pytest.mark.usefixtures("unoptimised")
Once = Callable[[str, Callable[[Path], object]], Path]


def mlp(seed: int = 1, scale: float = 0.125, step: float = 0.1, **codes: Any) -> onnx.ModelProto:
    """Two layers of 4-bit weights with 3-bit codes in between."""
    net = Network(6, seed=seed)
    y = net.node("MatMul", net.quant("x", 1 / 8, bits=4), net.weights(6, 8, scale=scale))
    y = net.node("Add", y, net.rng.normal(size=8))
    y = net.quant(net.node("Relu", y), step, **({"bits": 3, "signed": 0} | codes))
    return net.finish(net.node("Gemm", y, net.weights(8, 4, scale=scale), net.rng.normal(size=4)), name="mlp")


def cnn(seed: int = 1, gammas: tuple[float, ...] = (1.0, -0.5, 0.25, 2.0)) -> onnx.ModelProto:
    """Padded, grouped and depthwise convolutions, a residual sum, pools, a layer in tiles, falling channels."""
    net = Network(2, 6, 6, seed=seed)
    y = net.conv(net.quant("x", 1 / 16, 3, bits=4, signed=0), (4, 2, 3, 3), pads=[1, 1, 1, 1])
    trunk = net.quant(net.node("Relu", net.norm(y, gammas)), 0.1, bits=3, signed=0)
    y = net.quant(net.norm(net.depthwise(trunk, 4, pads=[1, 1, 1, 1]), [-1.0, 1.5, 0.5, 1.0]), 0.1, bits=4)
    y = net.quant(net.node("Add", y, trunk), 0.2, bits=4)
    y = net.quant(net.conv(y, (4, 2, 2, 2), group=2), 0.5, bits=4)
    y = net.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    y = net.node("AveragePool", y, kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 1, 1])
    y = net.node("Flatten", net.quant(y, 0.11, bits=4, mode="FLOOR"))
    model = net.finish(net.node("MatMul", y, net.weights(16, 3), name="tiled"), name="cnn")
    tiled = next(node for node in model.graph.node if node.name == "tiled")
    for key, value in (("tile", "4"), ("inner_bits", "9"), ("outer_bits", "12")):
        tiled.metadata_props.add(key=f"broadaxe.{key}", value=value)
    return model


@pytest.fixture(scope="module")
def small(once: Once) -> Build:
    """The two layers in accumulators of 11 bits."""
    return broadaxe.load(
        once("runtime_mlp", lambda p: broadaxe.compile(mlp(), p, weights="runtime", accumulators={"*": 11}))
    )


@pytest.fixture(scope="module")
def large(once: Once) -> Build:
    return broadaxe.load(
        once("runtime_cnn", lambda p: broadaxe.compile(cnn(), p, weights="runtime", accumulators={"*": 14}))
    )


def layer(graph: Graph, name: str) -> Budgeted:
    op = graph.node(name).op
    assert isinstance(op, Budgeted)
    return op


def refusal(act: Callable[[], object], kind: type[BroadaxeError] = RequestError) -> str:
    with pytest.raises(kind) as refused:
        act()
    return str(refused.value)


# What is loaded is what runs


@pytest.mark.parametrize("model", [mlp(2), mlp(3, scale=0.25, step=0.7), mlp(1)], ids=["other", "scales", "own"])
def test_loaded_weights_run_bit_for_bit(small: Build, model: onnx.ModelProto) -> None:
    """Reference, integer ONNX and both C simulations of the new weights, float32 onnxruntime of the new model."""
    data = np.random.default_rng(4).normal(size=(20, 6)).astype(np.float32)
    loaded = load_parameters(small, model)
    assert loaded.graph.values.keys() == small.graph.values.keys()
    verified = broadaxe.verify(loaded, data)
    assert verified.ok, str(verified)
    assert verified.segments is not None
    fixed = broadaxe.simulate(loaded, data)
    (name,) = fixed
    session = broadaxe.verify(small, data)
    assert session.ok, str(session)
    want = reference(loaded.graph, loaded.codes(data))
    np.testing.assert_array_equal(fixed[name], loaded.host.reals(want)[name])


def test_convolutions_tiles_and_sums_are_loaded(large: Build, tmp_path: Path) -> None:
    data = np.random.default_rng(5).uniform(0, 1, size=(6, 2, 6, 6)).astype(np.float32)
    kinds = {node.op.kind for node in large.graph.nodes if node.op.loadable}
    assert kinds == {"loadable_matvec", "loadable_grouped", "loadable_requantize"}
    assert sorted(n.name for n in large.graph.nodes if isinstance(n.op, Budgeted)) == [
        "conv0",
        "conv1",
        "conv2",
        "matmul0",
    ]
    tiled = layer(large.graph, "matmul0")
    assert (tiled.budget.inner, tiled.budget.width) == (9, 14)
    for model in (cnn(7, (-1.0, 0.5, 2.0, 1.0)), cnn(1)):
        loaded = load_parameters(large, model)
        verified = broadaxe.verify(loaded, data)
        assert verified.ok, str(verified)
    assert broadaxe.verify(large, data).ok


def test_parameters_stay_until_others_are_loaded(small: Build) -> None:
    """Frames before the load have the old weights, frames behind it the new ones, in every later run without a load."""
    loaded, feeds = load_parameters(small, mlp(2)), {"input0": np.random.default_rng(6).integers(-8, 8, size=(9, 6))}
    old, new = reference(small.graph, feeds), reference(loaded.graph, feeds)
    assert any((old[name] != new[name]).any() for name in old)
    design = (small.path, small.top, small.graph, small.flow, Mode.NATIVE)
    plain = Simulator.of(*design)
    for parameters, expected in ((small.parameters, old), (loaded.parameters, new), (small.parameters, old)):
        Simulator.of(*design, parameters=parameters).run(feeds)
        for name, codes in plain.run(feeds).items():
            np.testing.assert_array_equal(codes, expected[name])


def test_fixed_and_loaded_designs_compute_the_same(small: Build, tmp_path: Path) -> None:
    feeds = {"input0": np.random.default_rng(8).integers(-8, 8, size=(30, 6))}
    model = mlp(2)
    fixed, loaded = broadaxe.compile(model, tmp_path / "fixed"), load_parameters(small, model)
    reals = [b.host.reals(reference(b.graph, feeds)) for b in (fixed, loaded)]
    for name in reals[0]:
        np.testing.assert_array_equal(reals[0][name], reals[1][name])


def test_the_certificate_is_for_all_weights_within_the_budgets(large: Build) -> None:
    content = json.loads((large.path / "certificate.json").read_text())
    entries = {entry["name"]: entry for entry in content["layers"]}
    assert entries["matmul0"]["budget"] == {"weights": [-8, 7], "sums": [-8192, 8191], "tiles": [-256, 255]}
    assert entries["conv0"]["budget"] == {"weights": [-8, 7], "sums": [-8192, 8191], "tiles": None}
    assert (
        "budget"
        not in entries[
            "averagepool0"
            if "averagepool0" in entries
            else next(iter(set(entries) - {n.name for n in large.graph.nodes if n.op.loadable}))
        ]
    )
    for node in large.graph.nodes:
        out = large.graph.values[node.output]
        if node.op.kind == "loadable_requantize":
            codes = node.op.quantizer  # type: ignore[attr-defined]
            assert {(b.lo, b.hi) for b in out.bounds} == {(codes.lo, codes.hi)}
        if isinstance(node.op, Budgeted):
            assert set(out.bounds) == {IntType(14, signed=True).range}


# The edge of a budget

WIDTH, DEPTH, ROWS = 8, 12, 4
FULL = 17
"""sum |w| of a row that takes 8 bits, whatever its signs: 17 * 15 = 255."""


def rows_as_model(rows: np.ndarray) -> onnx.ModelProto:
    """y = W x for codes x from 0 to 15, the accumulators going to the host."""
    net = Network(DEPTH)
    x = net.quant("x", 1.0, bits=4, signed=0)
    return net.finish(net.node("MatMul", x, net.quant(rows.T.astype(np.float32), 1.0, bits=4)), name="rows")


@pytest.fixture(scope="module")
def edge(once: Once) -> Build:
    rows = full_rows(np.random.default_rng(1), ROWS, DEPTH, FULL)

    def make(path: Path) -> None:
        broadaxe.compile(rows_as_model(rows), path, weights="runtime", accumulators={"*": WIDTH})

    return broadaxe.load(once("runtime_edge", make))


@examples(max_examples=15, phases=[Phase.generate])
@given(st.integers(0, 2**32 - 1))
def test_rows_at_the_edge_are_loaded_and_one_count_beyond_is_refused(edge: Build, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = np.array(full_rows(rng, ROWS, DEPTH, FULL))
    rows[:, rng.integers(DEPTH)] = np.where(rows[:, 0] % 2, rows[:, 0], 1)  # coprime rows: nothing is divided out
    rows = np.array([row if np.abs(row).sum() == FULL else full_rows(rng, 1, DEPTH, FULL)[0] for row in rows])
    loaded = load_parameters(edge, rows_as_model(rows))
    op = layer(loaded.graph, "matmul0")
    x = loaded.graph.values["input0"]
    for interval in op.attained(x):
        assert (interval.lo, interval.hi) == (-128, 127)
    for channel in range(ROWS):
        low, high = (np.ascontiguousarray(end[0])[None] for end in op.witnesses((x,), channel))
        got = simulated(edge, loaded.parameters, np.concatenate([low, high]))
        assert got[:, channel].tolist() == [-128, 127]
    beyond, channel = rows.copy(), int(rng.integers(ROWS))
    place = int(rng.choice(np.flatnonzero(np.abs(rows[channel]) < 7)))
    beyond[channel, place] += 1 if beyond[channel, place] >= 0 else -1
    assert refusal(lambda: load_parameters(edge, rows_as_model(beyond))) == (
        f"matmul0 channel {channel}, matmul1 (MatMul): 9 bits needed, the accumulator has 8; quantize to that budget, or"
        " compile with a larger one"
    )
    forced = forced_parameters(edge, loaded, beyond)
    line = refusal(lambda: checked(edge, forced), VerificationError)
    least = min(op.sums(x)[0].tolist()[channel], 0)
    assert line.startswith(f"parameters of matmul0: channel {channel}: sums from "), (line, least)
    low, high = (
        np.ascontiguousarray(end[0])[None]
        for end in replace(op, weights=constant_array(beyond)).witnesses((x,), channel)
    )
    got = simulated(edge, forced, np.concatenate([low, high]))[:, channel]
    true = np.concatenate([low, high]) @ beyond[channel] + op.start[channel]
    assert got.tolist() != true.tolist()
    assert got.tolist() == [IntType(WIDTH, signed=True).wrap(int(v)) for v in true]


def simulated(build: Build, parameters: np.ndarray | None, x: np.ndarray) -> np.ndarray:
    design = (build.path, build.top, build.graph, build.flow, Mode.NATIVE)
    (out,) = Simulator.of(*design, parameters=parameters).run({"input0": x}).values()
    return np.asarray(out)


def forced_parameters(build: Build, loaded: Build, rows: np.ndarray) -> np.ndarray:
    """The words of other rows, made without asking whether they fit."""
    node = loaded.graph.nodes[0]
    op = replace(layer(loaded.graph, node.name), weights=constant_array(rows))
    lanes = build.lanes[node.name]
    return op.parameters(loaded.graph.inputs_of(node), loaded.graph.values[node.output], lanes)


def checked(build: Build, words: np.ndarray) -> str:
    try:
        return checker.check_parameters(build.path, packed(words))
    except checker.CertificateError as error:
        raise VerificationError(str(error)) from None


# What the stand-alone checker refuses


def test_the_checker_passes_what_load_makes(large: Build) -> None:
    loaded = load_parameters(large, cnn(7))
    assert loaded.parameters is not None
    kernels = sum(node.op.loadable for node in large.graph.nodes)
    said = checked(large, loaded.parameters)
    assert said == f"parameters: {len(loaded.parameters):,} words for {kernels} kernels: all within their budgets"


def at(build: Build, name: str, memory: int) -> int:
    """Where the words of a kernel's memory begin: 0 is its first one."""
    position = 0
    for node in build.graph.nodes:
        if not node.op.loadable:
            continue
        inputs, out = build.graph.inputs_of(node), build.graph.values[node.output]
        context = node.op.template_context(inputs, out, build.lanes[node.name])
        names = ("weights", "start") if isinstance(node.op, Budgeted) else ("base", "direction", "thresholds")
        if node.name == name:
            return position + sum(np.array(context[key]).size for key in names[:memory])
        position += node.op.parameters(inputs, out, build.lanes[node.name]).size
    raise AssertionError(name)


def word(value: int) -> np.uint64:
    return np.uint64(value % (1 << 64))


def test_bytes_outside_the_budgets_are_refused_whatever_made_them(small: Build) -> None:
    words = small.parameters
    assert words is not None
    start, thresholds = at(small, "matmul0", 1), at(small, "quant0", 2)
    base, direction = at(small, "quant0", 0), at(small, "quant0", 1)
    for place, value, expected in (
        (0, (1 << 64) - 1, "matmul0: matmul0_weights: a word does not fit"),
        (start, 1024, "matmul0: channel 0: start 1024 does not fit int11"),
        (start, 900, "matmul0: channel 0: sums from"),
        (base, 8, "quant0: channel 0: code 8 lies outside [0, 7]"),
        (base, 3, "quant0: channel 0: code "),
        (direction, 0, "quant0: channel 0: direction 0 is neither 1 nor -1"),
        (direction, -1, "quant0: channel 0: code -"),
        (thresholds, 2000, "quant0: channel 0: threshold [2000] lies outside [-1024, 1023]"),
        (thresholds, 1020, "quant0: channel 0: its thresholds are not sorted"),
    ):
        changed = words.copy()
        changed[place] = word(value)
        line = refusal(lambda changed=changed: checked(small, changed), VerificationError)  # type: ignore[misc]
        assert line.startswith(f"parameters of {expected}"), line
    assert refusal(lambda: checked(small, words[:-1]), VerificationError).startswith(
        "parameters of gemm0: gemm0_start: "
    )
    more = np.append(words, word(0))
    assert refusal(lambda: checked(small, more), VerificationError) == "parameters: 1 words are left over"
    with pytest.raises(checker.CertificateError, match="parameters: 7 bytes are not words of 8"):
        checker.check_parameters(small.path, bytes(7))


def test_any_weight_that_leaves_its_budget_is_found(edge: Build) -> None:
    """Rows at the edge with each nibble of the bytes moved: refused exactly where the row, in integers, no longer fits."""
    words = edge.parameters
    assert words is not None
    op, x = layer(edge.graph, "matmul0"), edge.graph.values["input0"]
    context = op.template_context((x,), edge.graph.values["matmul0"], edge.lanes["matmul0"])
    assert (context["pe"], context["simd"]) == (ROWS, DEPTH)
    rows, seen = op.weights, set()
    for channel in range(ROWS):
        for place in range(DEPTH):
            for weight in range(-8, 8):
                changed = rows.copy()
                changed[channel, place] = weight
                fits = all(
                    (lo + s + 128) % 256 + hi - lo < 256
                    for lo, hi, s in zip(*replace(op, weights=changed).sums(x), op.start, strict=True)
                )
                made = words.copy()
                shift = np.uint64(4 * place)
                made[channel] = made[channel] & ~(np.uint64(15) << shift) | (word(weight & 15) << shift)
                try:
                    checked(edge, made)
                    held = True
                except VerificationError:
                    held = False
                assert held == fits, (channel, place, weight)
                seen.add(held)
    assert seen == {True, False}


# What is refused, and how


def test_models_that_do_not_fit_are_refused_in_one_line(small: Build, large: Build, tmp_path: Path) -> None:
    fixed = broadaxe.compile(mlp(), tmp_path / "fixed")
    assert refusal(lambda: load_parameters(fixed, mlp(2))) == (
        f"{tmp_path / 'fixed'}: its weights are fixed; compile it with weights: runtime to load others"
    )
    assert refusal(lambda: load_parameters(small, mlp(2, bits=4))) == (
        "quant0, quant3 (Quant): codes 0 to 15, the design has 0 to 7; quantize to the same type"
    )
    assert refusal(lambda: load_parameters(large, mlp())).startswith(
        "model: has matmul0 (matvec) of input0 where the design has"
    )
    assert refusal(lambda: load_parameters(small, cnn())).endswith(
        "; only a model of the same architecture can be loaded"
    )
    narrow = broadaxe.compile(mlp(), tmp_path / "narrow", weights="runtime")
    widest = mlp()
    codes = next(node for node in widest.graph.node if node.op_type == "Quant" and "MatMul" not in node.name)
    assert codes.op_type == "Quant"
    assert narrow.parameters is not None
    assert "bits needed, the accumulator has" in "".join(
        refusal_or_nothing(lambda seed=seed: load_parameters(narrow, mlp(seed)))
        for seed in range(2, 12)  # type: ignore[misc]
    )


def refusal_or_nothing(act: Callable[[], object]) -> str:
    try:
        act()
    except RequestError as error:
        return str(error)
    return ""


def test_weights_off_the_grid_and_other_pad_codes_are_refused(tmp_path: Path) -> None:
    def net(bits: int = 3, zero: int = 0) -> onnx.ModelProto:
        made = Network(1, 3, 3, seed=2)
        weight = made.quant(np.array([[[[2.0 ** (bits - 1) - 1, 1], [0, -1]]]]), 1.0, bits=bits)
        x = made.quant("x", 1.0, zero, bits=4)
        return made.finish(made.conv(x, (1, 1, 2, 2), weight=weight, pads=[0, 0, 1, 1]), name="net")

    design = broadaxe.compile(net(), tmp_path / "design", weights="runtime", accumulators={"conv0": 12})
    assert refusal(lambda: load_parameters(design, net(bits=4))) == (
        "conv0 channel 0, conv1 (Conv): weight 7, memories hold -4 to 3; quantize to that budget, or compile with a larger one"
    )
    assert refusal(lambda: load_parameters(design, net(zero=1))).startswith(
        "window0, conv1 (Conv): pad_codes: [1], the design has [0]"
    )


def test_tiles_outside_their_budget_are_refused(tmp_path: Path) -> None:
    def net(*row: int) -> onnx.ModelProto:
        made = Network(4)
        weight = made.quant(np.array(row, np.float32)[:, None], 1.0, bits=4)
        model = made.finish(
            made.node("MatMul", made.quant("x", 1.0, bits=4, signed=0), weight, name="tiled"), name="net"
        )
        node = next(node for node in model.graph.node if node.name == "tiled")
        node.metadata_props.add(key="broadaxe.tile", value="2")
        return model

    design = broadaxe.compile(net(3, 4, -1, 2), tmp_path / "design", weights="runtime", accumulators={"*": 12})
    assert layer(design.graph, "matmul0").budget == Budget(12, 8)
    assert load_parameters(design, net(4, 4, 7, 1)).parameters is not None
    assert refusal(lambda: load_parameters(design, net(4, 5, 1, 1))) == (
        "matmul0 channel 0, tiled (MatMul): a tile needs 9 bits, the inner accumulator has 8; quantize to that budget, or"
        " compile with a larger one"
    )


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    def compiled(model: onnx.ModelProto, **options: Any) -> str:
        return refusal(lambda: broadaxe.compile(model, tmp_path / "no", **options), BroadaxeError)

    assert compiled(mlp(), weights="runtime", control="ap_ctrl_none") == (
        "settings: control: ap_ctrl_none has no register that starts a load; with weights runtime use s_axilite"
    )
    assert compiled(mlp(), accumulators={"*": 9}) == (
        "settings: accumulators: are sized to fixed weights; give weights runtime to choose their widths"
    )
    assert compiled(mlp(), weights="runtime", accumulators={"conv9": 9}) == (
        "accumulators: there is no 'conv9'; there are matmul0, gemm0"
    )
    assert compiled(mlp(), weights="runtime", requantizers={"*": "table"}) == (
        "quant0: a table requantizer cannot be loaded; use thresholds or threshold-search"
    )
    assert compiled(mlp(), weights="runtime", accumulators={"*": 5}).endswith(
        "bits needed, the accumulator has 5; quantize to that budget, or compile with a larger one"
    )
    net = Network(4, seed=1)
    y = net.node("Gelu", net.node("MatMul", net.quant("x", 0.25, bits=4), net.weights(4, 3)))
    turning = net.finish(net.quant(y, 0.125, bits=4), name="turning")
    assert compiled(turning, weights="runtime") == (
        "quant3 (Quant): with loadable weights: its function rises and falls, and thresholds hold monotone ones; put a Relu"
        " before its Quant"
    )
    assert not (tmp_path / "no").exists()
    assert issubclass(UnsupportedModelError, BroadaxeError)


def test_widths_come_from_the_model_where_it_promises_them(tmp_path: Path) -> None:
    model = mlp()
    next(node for node in model.graph.node if node.op_type == "Gemm").metadata_props.add(
        key="broadaxe.outer_bits", value="13"
    )
    graph = broadaxe.compile(model, tmp_path / "build", weights="runtime").graph
    asked = layer(graph, "gemm0")
    needed = layer(graph, "matmul0")
    assert asked.budget.width == 13
    assert needed.budget.width == max(i.signed_dtype.width for i in needed.attained(graph.values["input0"]))


# The command


def test_load_writes_parameters_and_what_the_host_needs(
    small: Build, run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    model, words = tmp_path / "other.onnx", tmp_path / "parameters.bin"
    onnx.save(mlp(3, scale=0.25), model)
    code, out, _ = run("load", small.path, model, "-o", words)
    assert code == 0
    loaded = load_parameters(small, mlp(3, scale=0.25))
    assert words.read_bytes() == packed(parameters_of(loaded.graph, loaded.lanes))
    assert out.splitlines()[0] == (
        f"wrote {words}: {len(packed(loaded.parameters)) // 8} words of 64 bits, all within the budgets;"
        f" {tmp_path / 'parameters.json'}: what the ports' integers mean"
    )
    beside = json.loads((tmp_path / "parameters.json").read_text())
    assert set(beside) == {"design", "words", "sha256", "ports", "inputs", "outputs"}
    assert beside["outputs"][0]["scale"] != json.loads((small.path / "report.json").read_text())["outputs"][0]["scale"]
    assert checker.main([str(small.path), "--parameters", str(words)]) == 0
    words.write_bytes(words.read_bytes()[:-8])
    assert checker.main([str(small.path), "--parameters", str(words)]) == 1
    data = tmp_path / "x.npy"
    np.save(data, np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32))
    code, out, _ = run("simulate", small.path, "--load", model, "--data", data, "-o", tmp_path / "y.npz")
    assert code == 0, out
    got = np.load(tmp_path / "y.npz")
    for name, values in broadaxe.simulate(loaded, np.load(data)).items():
        np.testing.assert_array_equal(got[name], values)
    code, out, err = run("load", small.path, small.path / "model.onnx", "-o", tmp_path / "x.json")
    assert (code, err.splitlines()[-1]) == (
        2,
        f"error: {tmp_path / 'x.json'}: ends in .json, which describes the parameters; name a .bin file",
    )


def test_parameters_of_a_fixed_design_are_not_written(tmp_path: Path) -> None:
    fixed = broadaxe.compile(mlp(), tmp_path / "fixed")
    assert refusal(lambda: write_parameters(fixed, tmp_path / "p.bin")) == (
        f"{tmp_path / 'fixed'}: its weights are fixed, there are no parameters; compile it with weights: runtime"
    )
    assert not (fixed.path / "parameters.bin").exists()
    assert csim.compiler()
