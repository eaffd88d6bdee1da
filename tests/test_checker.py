"""The certificate's checker: it passes what is right, and finds every change, also one whose digest and hashes were mended."""

from __future__ import annotations

import ast
import hashlib
import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from models import Network
from onnx import numpy_helper

import broadaxe
from broadaxe import emit
from broadaxe.chain import (
    ROUNDINGS,
    Affine,
    Chain,
    Clamp,
    Ending,
    Normalize,
    Quantizer,
    Snap,
    Thresholded,
    codes,
    direction_on,
)
from broadaxe.errors import ProofError
from broadaxe.functions import KINDS, Combined, Function, Leaky, Power
from broadaxe.ir import Graph, Node, infer
from broadaxe.manifest import sha256
from broadaxe.ops import OPS, Requantize
from broadaxe.ops.forms import Constant, Form, MultiplyShift, Shift, Table, Thresholds, ThresholdSearch
from broadaxe.ops.mac import Accumulating
from broadaxe.passes.choose_requantizers import examined
from broadaxe.passes.offset_accumulators import offset_accumulators
from broadaxe.prove import checker
from broadaxe.prove.certificate import certificate, seal
from broadaxe.prove.requantizers import prove
from broadaxe.schedule.folding import complete, lanes_of
from broadaxe.serialize import plain
from broadaxe.staircase import staircase
from broadaxe.types import Interval

SEED = 20
Edit = Callable[[dict[str, Any]], None]
Place = tuple[Any, int | str]


# Networks


def branches() -> onnx.ModelProto:
    """Negative gamma, depthwise layer, residual add of two scales, concat, max pool, padded average pool, view."""
    net = Network(2, 6, 6, seed=5)
    y = net.conv(net.quant("x", 1 / 16, 3, bits=4, signed=0), (4, 2, 3, 3), pads=[1, 1, 1, 1])
    y = net.node("Relu", net.norm(y, [1.0, -0.5, 0.25, 2.0]))
    trunk = net.quant(y, 0.1, bits=3, signed=0)
    y = net.norm(net.conv(trunk, (4, 1, 3, 3), group=4, pads=[1, 1, 1, 1]), [-1.0, 1.5, 0.5, 1.0])
    y = net.quant(net.node("Add", net.quant(y, 0.05, bits=4), trunk), 0.2, bits=4)
    y = net.node("Concat", y, net.quant(net.conv(y, (3, 4, 1, 1)), 0.2, bits=4), axis=1)
    y = net.node("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    y = net.node("AveragePool", y, kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 1, 1])
    y = net.node("Flatten", net.quant(y, 0.11, bits=4, mode="FLOOR"))
    return net.finish(net.node("Gemm", y, net.weights(63, 3), [0.5, -1.0, 0.0]), name="branches")


def ties() -> onnx.ModelProto:
    """Powers of two everywhere, so that every rounding boundary is met; a layer summed in tiles; bipolar codes and weights."""
    net = Network(24, seed=6)
    positive = net.quant(net.rng.uniform(0, 1, (24, 8)), 0.125, bits=4)
    y = net.node("MatMul", net.quant("x", 0.25, bits=4, signed=0), positive)
    y = net.quant(y, 0.5, bits=4)
    y = net.node("MatMul", y, net.weights(8, 6), name="tiled")
    y = net.bipolar(net.node("Add", y, net.rng.integers(-4, 5, 6) / 8.0))
    model = net.finish(net.node("MatMul", y, net.weights(6, 4, bits=1)), name="ties")
    node = next(node for node in model.graph.node if node.name == "tiled")
    for key, value in (("tile", "4"), ("order", "kh,kw,c")):
        node.metadata_props.add(key=f"broadaxe.{key}", value=value)
    return model


def moving() -> onnx.ModelProto:
    """Rearrangements: padded by a code, with channels exchanged, interleaved behind a transposed convolution."""
    net = Network(2, 4, 4, seed=7, batch=1)
    x = net.quant("x", 1 / 16, 3, bits=4, signed=0)
    y = net.node("Pad", x, np.array([0, 0, 1, 0, 0, 0, 0, 2]), mode="constant")
    y = net.quant(net.conv(net.node("Gather", y, np.array([1, 0, 1]), axis=1), (4, 3, 2, 2)), 0.25, bits=4)
    y = net.quant(net.node("ConvTranspose", y, net.weights(4, 2, 2, 2), strides=[2, 2]), 0.5, bits=4)
    return net.finish(net.quant(net.conv(y, (2, 2, 1, 1)), 0.5, bits=4), name="moving")


def counts() -> onnx.ModelProto:
    """Thresholds of the model's own, in any order, on rising and falling channels; a Sign that meets 0."""
    net = Network(12, seed=7)
    y = net.node("MatMul", net.quant("x", 0.25, bits=3), net.weights(12, 6))
    y = net.node("Mul", y, [1.0, -1.0, 0.5, 2.0, 1.0, -3.0])
    rows = net.rng.integers(-40, 40, (6, 5)) / 16
    more = {"domain": "finn.custom_op.general", "out_dtype": "INT3", "out_scale": 0.5, "out_bias": -1.0}
    y = net.node("Sign", net.node("MatMul", net.node("MultiThreshold", y, rows, **more), net.weights(6, 5)))
    return net.finish(net.node("MatMul", y, net.weights(5, 3)), name="counts")


def joints() -> onnx.ModelProto:
    """Products with zero codes, of two values and of one with itself; choices on one scale; a matrix product; rows by index."""
    net = Network(3, 4, seed=7)
    x = net.quant("x", 0.25, 1, bits=4)
    y = net.quant(net.node("MatMul", x, net.weights(4, 4)), 0.5, -2, bits=4)
    shuffled = net.node("Reshape", net.node("Transpose", y, perm=[0, 2, 1]), np.array([0, 3, 4]))
    product = net.quant(net.node("Mul", x, shuffled), 0.5, 1, bits=4)
    square = net.quant(net.node("Mul", y, y), 0.5, bits=5, signed=0)
    chosen = net.quant(net.node("Max", product, net.node("Neg", square)), 0.25, bits=4)
    scores = net.node("MatMul", chosen, net.node("Transpose", x, perm=[0, 2, 1]))
    scores = net.node("Add", net.quant(scores, 0.5, bits=5), [0.5, 0.25, -1.0])
    return net.finish(net.node("Gather", net.weights(3, 5), net.node("ArgMax", scores, axis=2)), name="joints")


def blocks() -> onnx.ModelProto:
    """Layers whose products share DSP blocks: whole sums in lanes, sums of tiles, and chunks of what lanes cannot hold."""
    net = Network(24, seed=8)
    y = net.quant(net.node("MatMul", net.quant("x", 0.25, bits=4, signed=0), net.weights(24, 6)), 0.5, bits=4)
    y = net.quant(net.node("MatMul", y, net.weights(6, 18), name="tiled"), 1 / 64, bits=8)
    model = net.finish(net.node("MatMul", y, net.weights(18, 4, bits=8)), name="blocks")
    node = next(node for node in model.graph.node if node.name == "tiled")
    for key, value in (("tile", "4"), ("order", "kh,kw,c")):
        node.metadata_props.add(key=f"broadaxe.{key}", value=value)
    return model


PACKED = {
    name: {"pe": pe, "simd": simd, "multiplier": "packed"}
    for name, pe, simd in (("matmul0", 3, 4), ("matmul1", 6, 2), ("matmul2", 4, 3))
}
NETWORKS: dict[str, tuple[Callable[[], onnx.ModelProto], dict[str, Any]]] = {
    "branches": (branches, {}),
    "thresholds": (branches, {"requantizers": {"*": "thresholds"}}),
    "search": (branches, {"requantizers": {"*": "threshold-search"}}),
    "table": (branches, {"requantizers": {"*": "table"}}),
    "ties": (ties, {}),
    "moving": (moving, {}),
    "counts": (counts, {}),
    "joints": (joints, {}),
    "runtime": (branches, {"weights": "runtime"}),
    "runtime_tiles": (ties, {"weights": "runtime", "requantizers": {"*": "threshold-search"}}),
    "blocks": (blocks, {"folding": PACKED}),
}


@pytest.fixture(scope="module", params=NETWORKS)
def built(request: pytest.FixtureRequest, once: Callable[..., Path]) -> Path:
    model, options = NETWORKS[request.param]
    return once(f"checker_{request.param}", lambda path: broadaxe.compile(model(), path, **options))


@pytest.fixture(scope="module")
def folder(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a build that tests break and mend."""
    return Path(shutil.copytree(built, tmp_path_factory.mktemp("broken") / "build"))


def content_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "certificate.json").read_text())
    del content["digest"]
    return content


def failure(folder: Path) -> str | None:
    """What the checker finds, None where everything holds."""
    try:
        checker.check(folder)
    except checker.CertificateError as error:
        line = str(error)
        assert len(line.splitlines()) == 1
        return line
    return None


class Changed:
    """A file of the folder with other content, for the length of a block."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path, self.data = path, data

    def __enter__(self) -> None:
        self.before = self.path.read_bytes()
        self.path.write_bytes(self.data)

    def __exit__(self, *error: object) -> None:
        self.path.write_bytes(self.before)


def resealed(folder: Path, content: dict[str, Any]) -> str | None:
    """What the checker finds when content stands in the certificate under a digest of its own."""
    with Changed(folder / "certificate.json", seal(content).encode()):
        return failure(folder)


# What is right


def test_a_build_holds(built: Path) -> None:
    content = content_of(built)
    steps = sum(entry["comparisons"] for entry in content["requantizers"])
    assert steps > 0
    said = checker.check(built)
    assert said.startswith(
        f"certificate: {len(content['layers'])} layers, {len(content['requantizers'])} requantizers, "
    )
    assert said.endswith(f", {len(content['files'])} files: all hold")
    loaded = broadaxe.load(built)
    assert (built / "certificate.json").read_text() == broadaxe.build.certificate_text(loaded)


def test_the_networks_hold_what_the_checker_can_check(once: Callable[..., Path]) -> None:
    operators, forms, steps, tiles, modes = set(), set(), set(), set(), set()
    for name, (model, options) in NETWORKS.items():
        path = once(f"checker_{name}", lambda path, m=model, o=options: broadaxe.compile(m(), path, **o))
        content = content_of(path)
        for node in content["graph"]["nodes"]:
            operators.add(node["operator"])
            forms |= {node["attributes"]["form"]["is"]} if node["operator"].endswith("requantize") else set()
            steps |= {step["is"] for step in node["attributes"].get("chain", [])}
        tiles |= {layer["tile"] for layer in content["layers"]}
        modes |= {layer["mode"] for layer in content["layers"]}
    assert operators == {op.kind for op in OPS}
    assert {"thresholds", "threshold-search", "table"} <= forms
    assert {"affine", "normalize", "clamp"} <= steps
    assert tiles == {None, 4}
    assert modes == {"offset", "two's complement", "loadable"}


def test_every_example_of_every_operator_holds(tmp_path: Path) -> None:
    """All of them in one graph, accumulators at the starts that the pass gives them."""
    values, nodes, folds = {}, [], {}
    for i, example in enumerate(example for op in OPS for example in op.examples()):
        op: Any = example.op
        folds |= {f"y{i}": example.fold} if example.fold else {}
        inputs = [replace(x, name=f"x{i}_{example.inputs.index(x)}") for x in example.inputs]
        if isinstance(op, Accumulating) and not op.loadable:
            op = replace(op, start=np.zeros_like(op.start))
        if isinstance(op, Requantize):
            examination, _ = examined(op, inputs[0].bounds)
            op = replace(op, comparisons=examination.prove(op.chosen()).comparisons)
        out = infer(f"y{i}", op, inputs)
        values |= {value.name: value for value in (*inputs, out)}
        nodes.append(Node(out.name, op, tuple(x.name for x in inputs), out.name, example.label))
    names = tuple(name for name in values if name.startswith("x"))
    graph = offset_accumulators(Graph("g", names, tuple(nodes), tuple(node.output for node in nodes), values))
    graph.check()
    lanes = lanes_of(graph, complete(graph, {}) | folds)
    flow = emit.dataflow(graph, lanes)
    texts = emit.firmware(graph, flow, lanes, "g_top", {"sideband": 0, "control": "s_axilite"})
    files = {name: text.encode() for name, text in texts.items()} | {"model.onnx": b"none"}
    for name, data in (files | {"certificate.json": certificate(graph, files, lanes).encode()}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    macs = sum(isinstance(node.op, Accumulating) for node in nodes)
    said = checker.check(tmp_path)
    assert said.startswith(
        f"certificate: {macs} layers, {sum(isinstance(n.op, Requantize) for n in nodes)} requantizers, "
    )


def test_the_checker_stands_alone(built: Path, tmp_path: Path) -> None:
    source = Path(checker.__file__).read_text()
    tree = ast.parse(source)
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    assert {name.partition(".")[0] for name in imported} <= set(sys.stdlib_module_names)
    assert len(source.splitlines()) < 1350
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, float)]
    assert not [
        n
        for n in ast.walk(tree)
        if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Div) and "folder" not in ast.unparse(n)
    ]
    copied = tmp_path / "copied.py"
    copied.write_text(source)
    right = subprocess.run([sys.executable, "-I", str(copied), str(built)], capture_output=True, text=True)
    assert (right.returncode, right.stdout, right.stderr) == (0, f"{checker.check(built)}\n", "")
    wrong = subprocess.run([sys.executable, "-I", str(copied), str(tmp_path)], capture_output=True, text=True)
    assert (wrong.returncode, wrong.stdout) == (1, "certificate.json: is missing or too large\n")


# Accidents: one change, nothing mended


def leaves(part: Any) -> Iterator[Place]:
    """Every number, string, truth value and null, by its holder and key."""
    for key, value in part.items() if isinstance(part, dict) else enumerate(part):
        if isinstance(value, dict | list):
            yield from leaves(value)
        else:
            yield part, key


def changed_leaf(rng: random.Random, value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return value + rng.choice((-1, 1))
    at = rng.randrange(len(value) + 1)
    return f"{value[:at]}{rng.choice('0123456789/abc-')}{value[at + rng.randint(0, 1) :]}" if value else "x"


def change_field(rng: random.Random, content: dict[str, Any]) -> str:
    holder, key = rng.choice(list(leaves(content)))
    holder[key] = changed_leaf(rng, holder[key])
    return f"certificate field {key}"


def change_list(rng: random.Random, content: dict[str, Any]) -> str:
    lists = [part for part in all_lists(content) if part]
    part = rng.choice(lists)
    at = rng.randrange(len(part))
    others = [i for i, value in enumerate(part) if value != part[at]]
    if others and rng.random() < 0.5:
        other = rng.choice(others)
        part[at], part[other] = part[other], part[at]
        return "certificate list swapped"
    del part[at]
    return "certificate list shortened"


def all_lists(part: Any) -> Iterator[list[Any]]:
    if isinstance(part, list):
        yield part
    for value in part.values() if isinstance(part, dict) else part if isinstance(part, list) else []:
        yield from all_lists(value)


def change_weight(rng: random.Random, content: dict[str, Any]) -> str:
    layers = [node["attributes"] for node in content["graph"]["nodes"] if "weights" in node["attributes"]]
    row = rng.choice(rng.choice(layers)["weights"])
    row[rng.randrange(len(row))] += rng.choice((-1, 1))
    return "weight in the certificate"


def changed_model(rng: random.Random, data: bytes) -> bytes:
    """One number of one weight tensor changed."""
    model = onnx.load_from_string(data)
    tensor = rng.choice([t for t in model.graph.initializer if len(t.dims) >= 2])
    values = numpy_helper.to_array(tensor).copy()
    at = rng.randrange(values.size)
    values.reshape(-1)[at] += rng.choice((-0.125, 0.125))
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return bytes(model.SerializeToString())


def changed_file(rng: random.Random, data: bytes) -> bytes:
    """One digit changed, or one byte inserted, removed or changed."""
    digits = [i for i, byte in enumerate(data) if 48 <= byte < 58]
    if digits and rng.random() < 0.5:
        at = rng.choice(digits)
        return data[:at] + bytes([48 + (data[at] - 48 + rng.randint(1, 9)) % 10]) + data[at + 1 :]
    at = rng.randrange(len(data))
    new = rng.choice((b"", bytes([(data[at] + rng.randint(1, 255)) % 256]), data[at : at + 1] + b" "))
    return data[:at] + new + data[at + 1 :]


def random_change(rng: random.Random, folder: Path) -> tuple[str, Path, bytes]:
    """What is changed, where, and the file's new content, which may happen to be the old."""
    what = rng.choice(("field", "list", "weight", "bytes", "model", "file", "file"))
    path = folder / "certificate.json"
    old = path.read_bytes()
    if what in ("field", "list", "weight"):
        content = json.loads(old)
        name = {"field": change_field, "list": change_list, "weight": change_weight}[what](rng, content)
        return name, path, f"{json.dumps(content, separators=(',', ':'))}\n".encode()
    if what == "bytes":
        return "certificate byte", path, changed_file(rng, old)
    if what == "model":
        path = folder / "model.onnx"
        return "weight in model.onnx", path, changed_model(rng, path.read_bytes())
    path = rng.choice(sorted(p for part in ("firmware", "tb") for p in (folder / part).rglob("*.*pp")))
    return f"firmware {path.name}", path, changed_file(rng, path.read_bytes())


def hunt(folder: Path, count: int, seed: int) -> None:
    rng = random.Random(seed)
    missed = []
    for number in range(count):
        what, path, data = random_change(rng, folder)
        while data == path.read_bytes():
            what, path, data = random_change(rng, folder)
        with Changed(path, data):
            if failure(folder) is None:
                missed.append((number, what))
    assert failure(folder) is None
    print(f"{count} random changes, seed {seed}: {count - len(missed)} caught, {len(missed)} missed")
    assert not missed


def test_random_single_changes_are_caught(folder: Path) -> None:
    """40 for each of five builds."""
    hunt(folder, 40, SEED)


@pytest.mark.slow
def test_a_thousand_random_single_changes_are_caught(folder: Path) -> None:
    hunt(folder, 1000, SEED + 1)


def test_files_may_neither_be_added_nor_lost(folder: Path) -> None:
    extra = folder / "firmware" / "more.hpp"
    extra.write_text("\n")
    assert failure(folder) == "files: firmware/more.hpp: is not of this build"
    extra.unlink()
    lost = folder / "tb" / "testbench.cpp"
    text = lost.read_text()
    lost.unlink()
    assert failure(folder) == "files: tb/testbench.cpp: is missing"
    lost.write_text(text)
    assert failure(folder) is None


# Forgeries: the digest and all hashes mended


def nodes(content: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [node["attributes"] for node in content["graph"]["nodes"] if node["operator"] == kind]


def macs(content: dict[str, Any]) -> list[dict[str, Any]]:
    return nodes(content, "matvec") + nodes(content, "grouped_matvec")


def value_of(content: dict[str, Any], kind: str) -> dict[str, Any]:
    node = next(node for node in content["graph"]["nodes"] if node["operator"] == kind)
    value: dict[str, Any] = content["graph"]["values"][node["output"]]
    return value


def narrower(content: dict[str, Any]) -> None:
    value = value_of(content, "matvec")
    value["dtype"] = f"int{int(value['dtype'][3:]) - 1}"


def wider(content: dict[str, Any]) -> None:
    value = value_of(content, "matvec")
    value["dtype"] = f"int{int(value['dtype'][3:]) + 1}"


def add(pick: Callable[[dict[str, Any]], tuple[Any, Any]], amount: int = 1) -> Edit:
    def edit(content: dict[str, Any]) -> None:
        holder, key = pick(content)
        holder[key] += amount

    return edit


def put(pick: Callable[[dict[str, Any]], tuple[Any, Any]], value: Any) -> Edit:
    def edit(content: dict[str, Any]) -> None:
        holder, key = pick(content)
        assert holder[key] != value
        holder[key] = value

    return edit


def first_chain(content: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(s for node in nodes(content, "requantize") for s in node["chain"] if s["is"] == kind)


FORGERIES: dict[str, tuple[str, Edit, str]] = {
    "one bit less": ("branches", narrower, "does not hold"),
    "one bit more": ("branches", wider, "type of conv0: stated as int"),
    "lower bound of an accumulator": (
        "branches",
        add(lambda c: (value_of(c, "matvec")["bounds"][1], 0)),
        "bounds of conv0[1]",
    ),
    "upper bound of codes": (
        "branches",
        add(lambda c: (value_of(c, "requantize")["bounds"][0], 1), -1),
        "bounds of quant",
    ),
    "bound of the input": (
        "branches",
        add(lambda c: (c["graph"]["values"]["input0"]["bounds"][0], 1), -1),
        "bounds of",
    ),
    "shape": ("branches", add(lambda c: (value_of(c, "window")["shape"], 0), 1), "shape of"),
    "weight": ("branches", add(lambda c: (macs(c)[0]["weights"][0], 3)), ""),
    "depthwise weight": ("branches", add(lambda c: (nodes(c, "grouped_matvec")[0]["weights"][0], 3)), ""),
    "start": ("ties", add(lambda c: (next(m for m in macs(c) if any(m["start"]))["start"], 0)), "bounds of"),
    "groups": ("branches", put(lambda c: (nodes(c, "grouped_matvec")[0], "groups"), 2), ""),
    "pad code": ("branches", put(lambda c: (nodes(c, "window")[0], "pad_codes"), [99]), "bounds of|type of"),
    "pad code inside the bounds": ("branches", put(lambda c: (nodes(c, "window")[0], "pad_codes"), [4]), "memory pad"),
    "padding": ("branches", put(lambda c: (nodes(c, "window")[0], "pads"), [1, 1, 1, 0]), "shape of"),
    "stride": ("branches", put(lambda c: (nodes(c, "window")[0], "stride"), [1, 2]), "shape of"),
    "taps of a maximum": ("branches", add(lambda c: (nodes(c, "window_max")[0], "taps")), "taps"),
    "factor of a sum": ("branches", add(lambda c: (nodes(c, "scaled_add")[0]["factors"], 0)), "bounds of|type of"),
    "gamma": ("branches", put(lambda c: (first_chain(c, "normalize")["gamma"], 1), "1/2"), "exactly"),
    "variance": ("branches", put(lambda c: (first_chain(c, "normalize")["variance"], 0), "-1"), "variance"),
    "clamp": ("branches", put(lambda c: (first_chain(c, "clamp"), "lo"), "1/3"), "exactly"),
    "scale of a chain": ("branches", put(lambda c: (first_chain(c, "affine")["scale"], 0), "7"), "exactly"),
    "scale of a quantizer": (
        "branches",
        put(lambda c: (nodes(c, "requantize")[0]["quantizer"], "scale"), ["3/7"]),
        "exactly",
    ),
    "zero point": ("branches", put(lambda c: (nodes(c, "requantize")[0]["quantizer"], "zero_point"), ["1"]), "exactly"),
    "largest code": ("branches", add(lambda c: (nodes(c, "requantize")[0]["quantizer"], "hi"), -1), "exactly"),
    "comparisons": ("branches", add(lambda c: (nodes(c, "requantize")[0], "comparisons")), "comparisons"),
    "comparisons in the summary": ("branches", add(lambda c: (c["requantizers"][0], "comparisons")), "its entry"),
    "threshold": ("thresholds", add(lambda c: (nodes(c, "requantize")[0]["form"]["thresholds"][0], 2)), "exactly"),
    "direction": ("thresholds", put(lambda c: (nodes(c, "requantize")[0]["form"]["direction"], 1), 1), "exactly"),
    "base": ("thresholds", add(lambda c: (nodes(c, "requantize")[0]["form"]["base"], 0)), "exactly"),
    "searched threshold": (
        "search",
        add(lambda c: (nodes(c, "requantize")[1]["form"]["thresholds"][2], 2), -1),
        "exactly",
    ),
    "unsorted thresholds": (
        "search",
        lambda c: nodes(c, "requantize")[0]["form"]["thresholds"][0].reverse(),
        "not sorted",
    ),
    "table": (
        "table",
        add(
            lambda c: (
                nodes(c, "requantize")[0]["form"]["rows"][0],
                len(nodes(c, "requantize")[0]["form"]["rows"][0]) // 2,
            )
        ),
        "exactly",
    ),
    "domain": ("table", add(lambda c: (nodes(c, "requantize")[0]["form"]["domain"], 1)), "form.domain"),
    "tile": ("ties", put(lambda c: (nodes(c, "matvec")[1], "tile"), 2), ""),
    "tile in the layer": ("ties", put(lambda c: (c["layers"][1], "tile"), 2), "tile"),
    "inner width": ("ties", add(lambda c: (c["layers"][1], "inner_bits"), -1), "inner_bits"),
    "inner sums": ("ties", add(lambda c: (c["layers"][1]["inner"], 0)), "inner"),
    "rounding mode": (
        "ties",
        put(lambda c: (nodes(c, "requantize")[0]["quantizer"], "rounding"), "HALF_UP"),
        "exactly",
    ),
    "unknown rounding": (
        "ties",
        put(lambda c: (nodes(c, "requantize")[0]["quantizer"], "rounding"), "NEAR"),
        "rounding",
    ),
    "half to even": ("ties", lambda c: shift_form(c).update(half_even=False), "exactly"),
    "bias": ("ties", lambda c: shift_form(c)["bias"].__setitem__(0, shift_form(c)["bias"][0] + 1), "exactly"),
    "shift": ("ties", lambda c: shift_form(c).update(shift=shift_form(c)["shift"] + 1), "exactly|sum_bits"),
    "clamp of a form": ("ties", lambda c: shift_form(c).update(lo=shift_form(c)["lo"] - 1), "exactly|parameters of"),
    "bipolar": ("ties", put(lambda c: (nodes(c, "requantize")[1]["quantizer"], "bipolar"), False), "exactly"),
    "products of a block": (
        "blocks",
        add(lambda c: (c["layers"][0]["packing"], "products"), -1),
        "packing.products|fit",
    ),
    "lane": ("blocks", add(lambda c: (c["layers"][0]["packing"], "lane"), -1), "packing"),
    "lane of a tile": ("blocks", add(lambda c: (c["layers"][1]["packing"], "lane")), "packing"),
    "lane of a chunk": ("blocks", add(lambda c: (c["layers"][2]["packing"], "lane"), -1), "packing"),
    "chunk": ("blocks", add(lambda c: (c["layers"][2]["packing"], "chunk"), -3), "parameters of"),
    "chunk that is no tile": ("blocks", add(lambda c: (c["layers"][1]["packing"], "chunk"), -2), "packing.chunk"),
    "block": ("blocks", put(lambda c: (c["layers"][0]["packing"], "dsp"), "DSP48E2"), "parameters of"),
    "multiplier": ("branches", put(lambda c: (c["layers"][0], "multiplier"), "dsp"), "but it is broadaxe::in_dsp"),
    "unknown multiplier": ("branches", put(lambda c: (c["layers"][0], "multiplier"), "any"), "multiplier"),
    "no packing": ("blocks", put(lambda c: (c["layers"][0], "packing"), None), "malformed"),
    "not packed": ("blocks", lambda c: c["layers"][1].update(multiplier="dsp", packing=None), "leaves over"),
    "output": ("ties", put(lambda c: (c["graph"]["outputs"], 0), "nothing"), "not those of nodes"),
    "missing layer": ("ties", lambda c: c["layers"].pop(), "its entry"),
    "second layer": ("ties", lambda c: c["layers"].append(c["layers"][0]), "belongs to no node"),
    "order of nodes": ("ties", lambda c: c["graph"]["nodes"].reverse(), "out of order"),
    "operator": ("ties", put(lambda c: (c["graph"]["nodes"][0], "operator"), "softmax"), "softmax"),
    "budget": ("runtime", add(lambda c: (nodes(c, "loadable_matvec")[0]["budget"], "width")), "type of conv0"),
    "narrow budget": (
        "runtime",
        add(lambda c: (nodes(c, "loadable_matvec")[0]["budget"], "width"), -1),
        "budget: |type of conv0",
    ),
    "budget of a tile": (
        "runtime_tiles",
        add(lambda c: (next(n for n in nodes(c, "loadable_matvec") if n["tile"])["budget"], "inner")),
        "inner",
    ),
    "stated budget": ("runtime", add(lambda c: (c["layers"][0]["budget"]["sums"], 1)), "budget"),
    "stated grid": ("runtime", add(lambda c: (c["layers"][0]["budget"]["weights"], 0)), "budget"),
    "stated tiles": (
        "runtime_tiles",
        add(lambda c: (next(e for e in c["layers"] if e["tile"])["budget"]["tiles"], 0)),
        "budget",
    ),
    "resident weight": ("runtime", add(lambda c: (nodes(c, "loadable_matvec")[0]["weights"][0], 3)), ""),
    "resident depthwise weight": ("runtime", add(lambda c: (nodes(c, "loadable_grouped")[0]["weights"][0], 3)), ""),
    "resident start": ("runtime", add(lambda c: (nodes(c, "loadable_matvec")[0]["start"], 0)), ""),
    "codes that other thresholds give": (
        "runtime",
        add(lambda c: (value_of(c, "loadable_requantize")["bounds"][1], 1), -1),
        "bounds of quant",
    ),
    "resident threshold": (
        "runtime",
        add(lambda c: (nodes(c, "loadable_requantize")[0]["form"]["thresholds"][0], 2)),
        "exactly",
    ),
    "threshold without use": (
        "runtime",
        lambda c: [row.pop() for row in nodes(c, "loadable_requantize")[0]["form"]["thresholds"]],
        "",
    ),
    "loadable weights said to be fixed": (
        "runtime",
        put(
            lambda c: (next(n for n in c["graph"]["nodes"] if n["operator"] == "loadable_matvec"), "operator"), "matvec"
        ),
        "",
    ),
    "firmware left out": ("ties", lambda c: c["files"].pop("firmware/quant0.hpp"), "is not of this build"),
} | {
    f"layer's {key}": ("branches", edit, key)
    for key, edit in {
        "sums": add(lambda c: (c["layers"][0]["sums"][1], 0), -1),
        "prefix": add(lambda c: (c["layers"][0]["prefix"][1], 1)),
        "inputs": add(lambda c: (c["layers"][0]["inputs"][1], 1)),
        "start": add(lambda c: (c["layers"][0]["start"], 0)),
        "mode": put(lambda c: (c["layers"][0], "mode"), "none"),
        "exact_bits": add(lambda c: (c["layers"][0], "exact_bits"), -1),
        "prefix_bits": add(lambda c: (c["layers"][0], "prefix_bits"), -1),
        "offset_bits": add(lambda c: (c["layers"][0], "offset_bits"), -1),
        "channel_bits": add(lambda c: (c["layers"][0]["channel_bits"], 2), -1),
        "width": add(lambda c: (c["layers"][0], "width"), -1),
        "pe_bits": add(lambda c: (c["layers"][0]["pe_bits"], 0), -1),
        "channel": add(lambda c: (c["layers"][0], "channel")),
        "low": add(lambda c: (c["layers"][0]["low"], 4)),
        "high": add(lambda c: (c["layers"][0]["high"], 4), -1),
    }.items()
}


def shift_form(content: dict[str, Any]) -> dict[str, Any]:
    form: dict[str, Any] = nodes(content, "requantize")[0]["form"]
    assert form["is"] in ("shift", "multiply-shift")
    assert form["half_even"]
    return form


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_caught_by_what_it_means(name: str, once: Callable[..., Path], tmp_path: Path) -> None:
    network, edit, expected = FORGERIES[name]
    model, options = NETWORKS[network]
    path = once(f"checker_{network}", lambda path: broadaxe.compile(model(), path, **options))
    copy = Path(shutil.copytree(path, tmp_path / "build"))
    content = content_of(copy)
    assert resealed(copy, content) is None
    edit(content)
    assert content != content_of(copy)
    line = resealed(copy, content)
    assert line is not None
    assert "digest" not in line
    assert any(part in line for part in expected.split("|")), line


def test_declared_types_are_read_in_the_sources(folder: Path, request: pytest.FixtureRequest) -> None:
    """A type narrowed in types.hpp or in a kernel's call, and the hash and the digest mended."""
    content = content_of(folder)
    out = next(node["output"] for node in content["graph"]["nodes"] if node["operator"].endswith("matvec"))
    bits = int(content["graph"]["values"][out]["dtype"][3:])
    changes = [("firmware/types.hpp", f"ap_int<{bits}> {out}_t", f"ap_int<{bits - 1}> {out}_t", "types[")]
    for layer in content["layers"]:
        if layer["tile"] and not layer["packing"]:
            inner = f"ap_int<{layer['inner_bits']}>, {layer['name']}"
            name = f"firmware/{layer['name']}.hpp"
            text = (folder / name).read_text()
            assert inner in text
            changes += [
                (name, inner, inner.replace(str(layer["inner_bits"]), str(layer["inner_bits"] - 1), 1), "parameters of")
            ]
            changes += [(name, "matvec_tiled<", "matvec<", "adds up tiles")]
    for name, old, new, expected in changes:
        text = (folder / name).read_text()
        assert old in text
        with Changed(folder / name, text.replace(old, new).encode()):
            content["files"][name] = sha256(folder / name)
            line = resealed(folder, content)
            assert line is not None
            assert expected in line
        content["files"][name] = sha256(folder / name)
    assert resealed(folder, content) is None


def test_lanes_are_read_in_the_sources(once: Callable[..., Path], tmp_path: Path) -> None:
    """Every number in the calls of packed kernels moved by one, but those that g++ holds against memories."""
    path = once("checker_blocks", lambda path: broadaxe.compile(blocks(), path, folding=PACKED))
    folder = Path(shutil.copytree(path, tmp_path / "build"))
    content, kernels = content_of(folder), []
    assert [(p["products"], p["chunk"]) for p in (layer["packing"] for layer in content["layers"])] == [
        (2, 24),
        (3, 4),
        (2, 6),
    ]
    for layer in content["layers"]:
        header = folder / "firmware" / f"{layer['name']}.hpp"
        text = header.read_text()
        kernel, call = re.findall(r"broadaxe::(\w+)<([^()]*)>\(", text)[0]
        kernels.append(kernel)
        stated = call.split(", ")
        for at, parameter in enumerate(stated[:-2]):
            if at == 5 or (at == 6 and kernel == "packed_matvec"):  # SIMD, and PE: the shapes of memories
                continue
            others = [re.sub(r"\d+(?=>?$)", lambda number: str(int(number[0]) + 1), parameter)]
            others += [re.sub(r"\d+(?=>?$)", lambda number: str(int(number[0]) - 1), parameter)]
            others = ["broadaxe::dsp58"] if "dsp" in parameter else [f"x{parameter}"] if "_t" in parameter else others
            for other in others:
                changed = text.replace(call, ", ".join([*stated[:at], other, *stated[at + 1 :]]))
                assert changed != text, parameter
                with Changed(header, changed.encode()):
                    content["files"][f"firmware/{header.name}"] = sha256(header)
                    assert resealed(folder, content) is not None, f"{kernel}: {parameter} as {other}"
                content["files"][f"firmware/{header.name}"] = sha256(header)
    assert kernels == ["packed_matvec", "packed_matvec_chunked", "packed_matvec_chunked"]
    assert resealed(folder, content) is None


FREE = {"multiply": (5, 6, 7, 8, 9), "select": (4, 5), "scaled_add": (3, 4), "dot": (9, 10, 13), "arg_max": (8, 9)}
FREE |= {"lookup": (6,)}
"""Parameters of the kernels of joints that a folding chooses, or that g++ holds against its memories."""


def test_parameters_of_joints_are_read_in_the_sources(once: Callable[..., Path], tmp_path: Path) -> None:
    """Each type and number in the calls of their kernels changed by one, the hash and the digest mended."""
    path = once("checker_joints", lambda path: broadaxe.compile(joints(), path))
    folder = Path(shutil.copytree(path, tmp_path / "build"))
    content, seen = content_of(folder), set()
    for header in sorted((folder / "firmware").glob("*.hpp")):
        text = header.read_text()
        call = re.search(r"broadaxe::(\w+)<([^()]*)>\(", text)
        if call is None or call[1] not in FREE:
            continue
        seen.add(call[1])
        stated = call[2].split(", ")
        for at, parameter in enumerate(stated):
            if at in FREE[call[1]]:
                continue
            other = {"true": "false", "false": "true", "broadaxe::in_fabric": "broadaxe::in_dsp"}.get(parameter)
            other = other or re.sub(r"-?\d+", lambda number: str(int(number[0]) + 1), parameter, count=1)
            changed = text.replace(call[2], ", ".join([*stated[:at], other, *stated[at + 1 :]]))
            assert changed != text, parameter
            with Changed(header, changed.encode()):
                content["files"][f"firmware/{header.name}"] = sha256(header)
                line = resealed(folder, content)
            assert line is not None, f"{call[0]}: {parameter}"
            assert f"parameters of {call[1]}" in line
        content["files"][f"firmware/{header.name}"] = sha256(header)
    assert seen == {"multiply", "select", "dot", "arg_max", "lookup"}
    assert resealed(folder, content) is None


def test_taps_of_a_word_are_read_in_the_sources(once: Callable[..., Path], tmp_path: Path) -> None:
    """Each number in the calls, words and memory shapes of kernels that read one tap a word, and several, moved by one."""
    folding = {"conv1": {"pe": 4, "simd": 3}, "avgpool0": {"pe": 7, "simd": 2}, "maxpool0": {"lanes": 21}}
    path = once("checker_taps", lambda path: broadaxe.compile(branches(), path, folding=folding))
    single = once("checker_branches", lambda path: broadaxe.compile(branches(), path))
    for number, made in enumerate((path, single)):
        folder = Path(shutil.copytree(made, tmp_path / str(number)))
        content, kernels = content_of(folder), []
        assert resealed(folder, content) is None
        for header in sorted((folder / "firmware").glob("*.hpp")):
            text, key = header.read_text(), f"firmware/{header.name}"
            call = re.search(r"broadaxe::(depthwise|window_max)<([^()]*)>\(", text)
            if call is None:
                continue
            kernels.append(call[1])
            places = [at.span() for at in re.finditer(r"(?<=[ ,])\d+(?=[,>])", text[: call.end()]) if at[0] in call[2]]
            places = [at for at in places if at[0] > call.start()]
            places += [at.span(1) for at in re.finditer(r"broadaxe::word<(\d+), ", text)]
            places += [at.span(1) for at in re.finditer(r"_weights\[(\d+)\]", text)]
            assert len(places) >= 7, (header.name, places)
            for start, end in places:
                for moved in (int(text[start:end]) - 1, int(text[start:end]) + 1):
                    with Changed(header, f"{text[:start]}{moved}{text[end:]}".encode()):
                        content["files"][key] = sha256(header)
                        assert resealed(folder, content) is not None, (call[0], start, moved)
                    content["files"][key] = sha256(header)
        assert kernels == ["depthwise", "depthwise", "window_max"]
        assert resealed(folder, content) is None


def test_trips_and_words_of_a_rearrangement_are_read_in_the_sources(once: Callable[..., Path], tmp_path: Path) -> None:
    """Sizes and trips of each moved by one, the ring cut down, the hash and the digest mended."""
    path = once("checker_moving", lambda path: broadaxe.compile(moving(), path))
    folder = Path(shutil.copytree(path, tmp_path / "build"))
    content, seen = content_of(folder), 0
    for header in sorted((folder / "firmware").glob("*.hpp")):
        call = re.search(r"broadaxe::rearrange<([^()]*)>\(", text := header.read_text())
        stated = call[1].split(", ") if call else []
        for at, parameter in [*enumerate(stated)][3:]:
            for other in (int(parameter) - 1, int(parameter) + 1) if at != 8 else (0, 1):
                changed = text.replace(
                    call[1] if call else "", ", ".join([*stated[:at], str(other), *stated[at + 1 :]])
                )
                with Changed(header, changed.encode()):
                    content["files"][f"firmware/{header.name}"] = sha256(header)
                    assert resealed(folder, content) is not None, (header.name, at, other)
                seen += 1
        content["files"][f"firmware/{header.name}"] = sha256(header)
    assert seen > 20
    assert resealed(folder, content) is None


MEMORY = re.compile(r"(?:const|static) [a-z ]+ (\w+)(?:\[\d+\])+ = \{([^;]*)\};")


def changed_memories(folder: Path) -> Iterator[tuple[str, Path, str]]:
    """Each memory of the kernels with one of its numbers moved by one: its name, its file and the file's new text."""
    rng = random.Random(SEED)
    for path in sorted((folder / "firmware").glob("*.hpp")):
        text = path.read_text()
        for memory in MEMORY.finditer(text):
            number = rng.choice(list(re.finditer(r"-?\d+", memory[2])))
            at, end = (memory.start(2) + edge for edge in number.span())
            moved = int(number[0]) + (rng.choice((-1, 1)) if int(number[0]) else 1)
            yield memory[1], path, f"{text[:at]}{moved}{text[end:]}"


def assert_memories_are_compared(folder: Path) -> set[str]:
    """Any number of any memory counts, though the hash of its file and the digest are mended; returns the memories' kinds."""
    content = content_of(folder)
    assert resealed(folder, content) is None
    kinds = set()
    for name, path, text in changed_memories(folder):
        key, before = f"firmware/{path.name}", path.read_bytes()
        with Changed(path, text.encode()):
            content["files"][key] = sha256(path)
            line = resealed(folder, content)
        content["files"][key] = hashlib.sha256(before).hexdigest()
        kind = name.removeprefix(f"{path.stem}_")
        assert line is not None, name
        assert f"{path.name}: memory {kind}[" in line, line
        kinds.add(kind)
    return kinds


def test_memories_are_read_in_the_sources(folder: Path) -> None:
    assert {"weights", "start"} < assert_memories_are_compared(folder)


def test_memories_of_every_folding_are_read(tmp_path: Path) -> None:
    """Words of several weights and steps of several words, in dense, grouped and depthwise layers; constant requantizers."""
    net = Network(18, 4, 4, seed=9)
    y = net.depthwise(net.quant("x", bits=3), 18, kernel=(2, 2), weight=net.weights(18, 1, 2, 2, bits=5))
    y = net.conv(net.quant(y, 0.5), (8, 9, 1, 1), group=2)
    y = net.conv(net.quant(y, 1000.0, bits=2), (4, 8, 1, 1), weight=net.weights(4, 8, 1, 1, bits=1, signed=0))
    y = net.node("Gemm", net.node("Flatten", net.quant(y, 0.5, 2)), net.weights(36, 6), net.rng.normal(size=6))
    folding = {"conv0": {"pe": 18, "simd": 2}, "conv1": {"pe": 2, "simd": 3}, "conv2": {"pe": 4, "simd": 2}}
    folding["gemm0"] = {"pe": 3, "simd": 36}
    broadaxe.compile(net.finish(y), tmp_path / "build", folding=folding)
    text = "".join(path.read_text() for path in (tmp_path / "build" / "firmware").glob("*.hpp"))
    assert re.search(r"gemm0_weights\[3\]\[2\]\[3\]", text)
    assert re.search(r"conv0_weights\[2\]\[3\]", text)
    assert "values" in assert_memories_are_compared(tmp_path / "build")


def test_memories_in_another_order_are_noticed(once: Callable[..., Path], tmp_path: Path) -> None:
    model, options = NETWORKS["search"]
    path = once("checker_search", lambda path: broadaxe.compile(model(), path, **options))
    copy = Path(shutil.copytree(path, tmp_path / "build"))
    header, content = copy / "firmware" / "quant0.hpp", content_of(copy)
    old, new = "quant0_stage0, quant0_stage1", "quant0_stage1, quant0_stage0"
    for before, after in ((old, new), (old, "quant0_stage0"), ("quant0_direction, ", "")):
        text = header.read_text()
        assert before in text
        with Changed(header, text.replace(before, after).encode()):
            content["files"]["firmware/quant0.hpp"] = sha256(header)
            line = resealed(copy, content)
        assert line is not None
        assert "quant0.hpp: memories" in line


LABELS = ("scale", "shift", "origin", "broadaxe")
"""Of values, nodes and the file: statements that no proof rests on."""


def test_every_number_of_the_proof_counts(folder: Path) -> None:
    """Random numbers moved by one, everything mended: caught, or a label, or a constant that changes no code."""
    rng = random.Random(SEED)
    original = content_of(folder)
    count, accepted = 60, []
    for _ in range(count):
        content = json.loads(json.dumps(original))
        parts = [content["graph"]["values"], content["layers"], content["requantizers"]]
        parts += [node["attributes"] for node in content["graph"]["nodes"]]
        places = [p for p in leaves(rng.choice(parts)) if type(p[0][p[1]]) is int]
        if not places:
            continue
        holder, key = rng.choice(places)
        holder[key] += rng.choice((-1, 1))
        if resealed(folder, content) is None:
            accepted.append(key)
            for before, after in zip(nodes(original, "requantize"), nodes(content, "requantize"), strict=True):
                assert before["chain"] == after["chain"]
            assert same_codes(original, content), key
            both = [json.loads(json.dumps(c)) for c in (original, content)]
            for c in both:
                for attributes in nodes(c, "requantize"):
                    attributes["form"] = None
            assert both[0] == both[1], "accepted, though it is no constant of a requantizer"
    print(f"{count} numbers moved by one, seed {SEED}: {count - len(accepted)} caught, {len(accepted)} change no code")


def test_every_rational_of_a_chain_counts(folder: Path) -> None:
    """A chain's constant moved: caught exactly where a code changes, by brute force over the whole domain."""
    rng = random.Random(SEED)
    original = content_of(folder)
    caught = 0
    for _ in range(20):
        content = json.loads(json.dumps(original))
        attributes = rng.choice(nodes(content, "requantize") + nodes(content, "loadable_requantize"))
        places = [(h, k) for h, k in leaves([attributes["chain"], attributes["quantizer"]]) if is_rational(h[k])]
        places = [(h, k) for h, k in places if k != "exponent"]  # powers of other degrees have other domains
        holder, key = rng.choice(places)
        moved = Fraction(holder[key]) * Fraction(rng.choice((999, 990, 1001, 1010, 1100)), 1000)
        holder[key] = str(moved if moved != Fraction(holder[key]) else Fraction(1, 100))
        line = resealed(folder, content)
        assert (line is None) == same_codes(original, content), line
        caught += line is not None
    print(f"20 rationals moved, seed {SEED}: {caught} change a code, all of them caught")


def is_rational(value: Any) -> bool:
    return isinstance(value, str) and value.lstrip("-").replace("/", "").isdecimal()


def same_codes(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether all requantizers of both compute one function, chain and form, on their whole domains."""
    for node in first["graph"]["nodes"]:
        if not node["operator"].endswith("requantize"):
            continue
        other = next(n for n in second["graph"]["nodes"] if n["name"] == node["name"])
        bounds = first["graph"]["values"][node["inputs"][0]]["bounds"]
        lo, hi = min(b[0] for b in bounds), max(b[1] for b in bounds)
        x = np.arange(lo, hi + 1)[:, None] * np.ones(len(bounds), dtype=np.int64)
        real = (x >= [b[0] for b in bounds]) & (x <= [b[1] for b in bounds])
        for codes_of in (form_codes, chain_codes):
            ours, theirs = (codes_of(n["attributes"], x) for n in (node, other))
            if ((ours != theirs) & real).any():
                return False
    return True


def form_codes(attributes: dict[str, Any], x: np.ndarray) -> np.ndarray:
    forms = {f.name: f for f in (Constant, Shift, MultiplyShift, Thresholds, ThresholdSearch, Table)}
    fields = {k: np.array(v) if isinstance(v, list) and k != "domain" else v for k, v in attributes["form"].items()}
    kind: type[Form] = forms[fields.pop("is")]
    if "domain" in fields:
        fields["domain"] = Interval(*fields["domain"])
    return kind(**fields).evaluate(x)


def chain_codes(attributes: dict[str, Any], x: np.ndarray) -> np.ndarray:
    kinds = {"affine": Affine, "normalize": Normalize, "clamp": Clamp, "snap": Snap, "power": Power}

    def read(value: Any) -> Any:
        return tuple(Fraction(v) for v in value) if isinstance(value, list) else value

    steps = []
    for step in attributes["chain"]:
        fields = {k: read(v) for k, v in step.items() if k != "is"}
        if step["is"] in ("clamp", "power"):
            fields = {k: None if v is None else Fraction(v) for k, v in fields.items()}
        steps.append(kinds[step["is"]](**fields))
    chain: Chain = tuple(steps)
    end = {k: v for k, v in attributes["quantizer"].items() if k != "is"}
    if attributes["quantizer"].get("is") == "thresholded":
        rows = {k: tuple(read(row) for row in end[k]) for k in ("reached", "passed")}
        return codes(chain, Thresholded(**rows), x.T.astype(object)).T
    return codes(chain, Quantizer(**{k: read(v) for k, v in end.items()}), x.T.astype(object)).T


def test_every_threshold_counts(once: Callable[..., Path], tmp_path: Path) -> None:
    """Each threshold of the model moved to the next value that an accumulator can have: caught, one by one."""
    source = once("checker_counts", lambda path: broadaxe.compile(counts(), path))
    folder = Path(shutil.copytree(source, tmp_path / "build"))
    original = content_of(folder)
    caught = moved = 0
    for position, node in enumerate(nodes(original, "requantize")):
        for kind in ("reached", "passed"):
            for c, row in enumerate(node["quantizer"].get(kind, [])):
                for k, threshold in enumerate(row):
                    for by in (Fraction(1, 16), Fraction(-1, 16)):
                        content = json.loads(json.dumps(original))
                        changed = nodes(content, "requantize")[position]["quantizer"][kind][c]
                        changed[k] = str(Fraction(threshold) + by)
                        line = resealed(folder, content)
                        assert (line is None) == same_codes(original, content), line
                        moved, caught = moved + 1, caught + (line is not None)
    assert moved == 2 * (30 + 2)
    assert caught > moved // 2


WIDE_FORMS = [  # factor or None, bias, shift; the domain is [-8, 7]
    (None, 0, 61),
    (None, (1 << 60) - 8, 0),
    (None, -(1 << 60) + 8, 3),
    (1 << 57, 0, 5),
    (-(1 << 57), -(1 << 57), 5),
    (None, 0, 62),
    (None, 0, 1023),
    (None, (1 << 61) - 8, 0),
    (1 << 58, 0, 5),
    (-(1 << 58), -(1 << 58), 0),
]


@pytest.mark.parametrize(("factor", "bias", "shift"), WIDE_FORMS)
def test_sums_of_shifters_are_as_wide_as_the_prover_lets_them_be(factor: int | None, bias: int, shift: int) -> None:
    """Both refuse the same forms, before anything else is looked at."""
    domain, one = Interval(-8, 7), Affine((Fraction(1),), (Fraction(0),))
    constants = {"bias": np.array([bias]), "shift": shift, "half_even": False, "lo": -1, "hi": 1, "domain": domain}
    form = Shift(**constants) if factor is None else MultiplyShift(factor=np.array([factor]), **constants)
    quantizer = Quantizer((Fraction(1),), (Fraction(0),), -1, 1)
    stairs = staircase((one,), quantizer, (domain,))
    prover = refusal(ProofError, lambda: prove(form, (one,), quantizer, stairs))
    ours = refusal(checker.CertificateError, lambda: checker.check_form(plain(form), [(-8, 7)]))
    width = form.sum_dtype.width
    assert ("its sum needs" in prover) == (max(width, shift) > 61)
    if shift > 61:
        assert ours == "form.shift, lo or hi: out of range"
    else:
        assert ours == (f"form: its sum needs {width} bits; 61 are possible" if width > 61 else "")


def refusal(kind: type[Exception], check: Callable[[], object]) -> str:
    try:
        check()
    except kind as error:
        return str(error)
    return ""


# Two implementations of one arithmetic


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_exact_chains_are_those_of_the_compiler(rounding: str) -> None:
    """Random chains of all steps, every rounding mode, ties and rational roots among them."""
    rng = random.Random(f"{SEED}{rounding}")

    def some(*choices: str, count: int = 3) -> tuple[Fraction, ...]:
        return tuple(Fraction(rng.choice(choices)) for _ in range(rng.choice((1, count))))

    def step() -> Any:
        gains, offsets = ("1/2", "-3/4", "1/3", "-1/8", "0", "5"), ("0", "1/4", "-7/2", "2/3")
        return rng.choice(
            (
                Affine(some(*gains), some(*offsets)),
                Normalize(some(*gains), some(*offsets), some("2", "1/4", "9/16", "3/7"), some(*offsets)),
                Clamp(rng.choice((None, Fraction(-3))), rng.choice((None, Fraction(17, 3)))),
                Snap(some("1/2", "1/4", "3/5"), some("0", "1", "-3"), rng.choice(ROUNDINGS)),
            )
        )

    x = np.array([list(range(-40, 41))] * 3, dtype=object)
    for _ in range(30):
        chain = tuple(step() for _ in range(rng.randint(1, 4)))
        bipolar = rng.random() < 0.2
        ends = (0, 1) if bipolar else (-rng.randint(0, 9), rng.randint(0, 9))
        quantizer: Ending = Quantizer(some("1/2", "1/4", "2", "3/5"), some("0", "1", "1/2"), *ends, rounding, bipolar)
        if rng.random() < 0.2:
            rows = [tuple(some("-7/2", "0", "1/3", "2", count=2) for _ in range(rng.choice((1, 3)))) for _ in range(2)]
            reached, passed = (tuple(row[:1] for row in part) for part in rows)
            quantizer = Thresholded(reached, passed, Fraction(-1, 2), Fraction(3))
        theirs = checker.Chain({"chain": plain(chain), "quantizer": plain(quantizer)}, 3)
        got = [[theirs.code(c, int(point)) for point in x[c]] for c in range(3)]
        assert got == codes(chain, quantizer, x).tolist()
        domain = [Interval(lo, hi) for lo, hi in ((-40, 40), (3, 40), (-9, 0))]
        turning = [theirs.turns(c, d.lo, d.hi) for c, d in enumerate(domain)]
        assert turning == [sign is None for sign in direction_on(chain, domain)]


FUNCTIONS = [Function(kind) for kind in KINDS if kind != "log"] + [
    Leaky((Fraction(1, 8), Fraction(-1), Fraction(0))),
    Leaky((Fraction(-2, 3),)),
    Power(Fraction(2)),
    Power(Fraction(3)),
    Combined("Mul", (), (Function("sigmoid"),)),
    Combined("Div", (Function("erf"),), (Function("exp"),)),
    Combined("Sub", (Function("tanh"), Leaky((Fraction(1, 2),))), (Power(Fraction(2)),)),
    Combined("Min", (Function("gelu"),), (Affine((Fraction(-1, 4),), (Fraction(1, 3),)), Function("softplus"))),
    Combined("Max", (Function("sign"),), (Function("elu"), Affine((Fraction(-2),), (Fraction(0),)))),
]
POSITIVE = [
    Function("log"),
    *(Power(Fraction(*e)) for e in ((1, 2), (-1, 2), (3, 4), (-1, 1), (-2, 1), (-5, 3), (11, 8))),
]


@pytest.mark.parametrize("step", [*FUNCTIONS, *POSITIVE], ids=lambda step: " ".join(str(plain(step)).split())[:60])
def test_functions_are_those_of_the_compiler(step: Any) -> None:
    """Two implementations of every function, of its direction and of the precision it takes; exact points among them."""
    rng = random.Random(SEED)
    domain = [Interval(1, 17), Interval(3, 19), Interval(2, 18)]
    if step in FUNCTIONS:
        domain = [Interval(-8, 8), Interval(0, 16), Interval(-16, 0)]
    x = np.array([range(d.lo, d.hi + 1) for d in domain], dtype=object)
    for scales in ((Fraction(1, 4),), (Fraction(1, 3), Fraction(1), Fraction(2, 9))):
        shift = (Fraction(0),) if step not in FUNCTIONS else (Fraction(0), Fraction(-1, 8), Fraction(0))
        for middle in ((), (Normalize((Fraction(1),), (Fraction(0),), (Fraction(2),), (Fraction(0),)),)):
            chain: Chain = (Affine(scales, shift), *middle, step)
            quantizer = Quantizer((Fraction(3, 50),), (Fraction(rng.choice((0, 3))),), -40, 40, rng.choice(ROUNDINGS))
            theirs = checker.Chain({"chain": plain(chain), "quantizer": plain(quantizer)}, 3)
            got = [[theirs.code(c, int(point)) for point in x[c]] for c in range(3)]
            assert got == codes(chain, quantizer, x).tolist()
            turning = [theirs.turns(c, d.lo, d.hi) for c, d in enumerate(domain)]
            assert turning == [sign is None for sign in direction_on(chain, domain)]


def functions() -> onnx.ModelProto:
    """Tables of chains that turn, and staircases of one that rises where it is read."""
    net = Network(3, seed=8)
    y = net.quant("x", 1 / 8, bits=4)
    for name in ("silu", "slopes", "square", "gelu"):
        y = net.node("MatMul", y, net.weights(3, 3, scale=0.3, bits=3))
        if name == "silu":
            y = net.node("Mul", y, net.node("Sigmoid", y))
        elif name == "slopes":
            y = net.node("PRelu", y, [0.2, -0.5, -1.0])
        elif name == "square":
            y = net.node("Pow", y, np.float32(2))
        else:
            y = net.node("Gelu", net.node("Relu", y))
        y = net.quant(y, 0.06, bits=4)
    return net.finish(y, name="functions")


def test_every_entry_and_parameter_of_a_function_counts(once: Callable[..., Path], tmp_path: Path) -> None:
    """Any entry of a table, and any other function, slope, exponent, operation or part of a combination, is found."""
    built = once("checker_functions", lambda path: broadaxe.compile(functions(), path))
    folder = Path(shutil.copytree(built, tmp_path / "build"))
    original = content_of(folder)
    assert failure(folder) is None
    forms = [node["form"]["is"] for node in nodes(original, "requantize")]
    assert forms[:3] == ["table"] * 3
    assert forms[3] != "table" or original["requantizers"][3]["comparisons"] < 100
    rng, found = random.Random(SEED), 0

    def caught(edit: Edit) -> None:
        nonlocal found
        content = json.loads(json.dumps(original))
        edit(content)
        assert resealed(folder, content) is not None
        found += 1

    values = original["graph"]["values"]
    requantizers = [node for node in original["graph"]["nodes"] if node["operator"] == "requantize"]
    for i, node in enumerate(requantizers[:3]):
        form, bounds = node["attributes"]["form"], values[node["inputs"][0]]["bounds"]
        for _ in range(12):
            c = rng.randrange(3)
            at = rng.randint(*bounds[c]) - form["domain"][0]

            def entry(
                content: dict[str, Any], i: int = i, c: int = c, at: int = at, by: int = rng.choice((-1, 1))
            ) -> None:
                nodes(content, "requantize")[i]["form"]["rows"][c][at] += by

            caught(entry)

    def step(i: int, kind: str, field: str, value: Any) -> Edit:
        def change(content: dict[str, Any]) -> None:
            chain = nodes(content, "requantize")[i]["chain"]
            (held,) = [s for s in chain if s["is"] == kind]
            assert held[field] != value
            held[field] = value

        return change

    tanh = [{"is": "function", "kind": "tanh"}]
    caught(step(0, "combined", "op", "Add"))
    caught(step(0, "combined", "op", "Pow"))
    caught(step(0, "combined", "right", tanh))
    caught(step(0, "combined", "left", tanh))
    caught(step(1, "leaky", "slope", ["1/5", "-1/2", "1"]))
    caught(step(1, "leaky", "slope", ["1/5", "1/2", "-1"]))
    caught(step(2, "power", "exponent", "3"))
    caught(step(2, "power", "exponent", "1/2"))
    caught(step(3, "function", "kind", "elu"))
    caught(step(3, "function", "kind", "cosine"))
    caught(lambda content: nodes(content, "requantize")[1].update(comparisons=7))
    print(f"{found} changes of functions, all caught")


# Whatever else


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        '{"format":1}',
        '{"format":2,"files":{}}',
        '{"format":1.0}',
        '{"format":NaN}',
        f'{{"format":{"9" * 5000}}}',
        "[" * 100000,
        '{"format":1,"files":{"model.onnx":"0","firmware/types.hpp":"0","../x":"0"}}',
        '{"format":1,"files":["model.onnx","firmware/types.hpp"]}',
        "\ud800",
    ],
    ids=range(13),
)
def test_what_is_no_certificate_is_one_line(folder: Path, text: str) -> None:
    body = text.encode(errors="surrogatepass")
    digest = hashlib.sha256(body).hexdigest()
    for data in (body, body[:-1] + f',"digest":"{digest}"}}\n'.encode()):
        with Changed(folder / "certificate.json", data):
            line = failure(folder)
            assert line is not None
            assert len(line.splitlines()) == 1
            assert len(line) < 300


def test_any_leaf_may_be_anything(folder: Path) -> None:
    """Values of a wrong kind or size, and missing keys, under a right digest: one line each, no traceback, no long wait."""
    rng = random.Random(SEED)
    original = json.dumps(content_of(folder))
    for value in (None, True, -1, 0, 10**30, "", "x", "9" * 50, [], {}, [[]], {"is": 1}, "1/0"):
        for _ in range(6):
            content = json.loads(original)
            holder, key = rng.choice(list(leaves(content["graph"])))
            holder[key] = value
            line = resealed(folder, content)
            assert line is None or len(line.splitlines()) == 1
    for _ in range(30):
        content = json.loads(original)
        holder, key = rng.choice([p for p in leaves(content) if isinstance(p[0], dict)])
        del holder[key]
        line = resealed(folder, content)
        assert key in LABELS or line is not None, key
