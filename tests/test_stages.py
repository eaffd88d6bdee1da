"""Accumulation in two stages, as a node's metadata ask for it: tiles of inputs, inner and outer accumulators."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Network, check, designed, samples

import broadaxe
from broadaxe.build import random_codes
from broadaxe.csim import Mode, Simulator, compile_sources, run_program
from broadaxe.errors import RequestError, UnsupportedModelError
from broadaxe.ir import Value
from broadaxe.lower import lower
from broadaxe.ops import MatVec
from broadaxe.prove.accumulators import accumulators
from broadaxe.reference import run
from broadaxe.reports.reading import read_report
from broadaxe.schedule.folding import default_folding
from broadaxe.types import Interval, IntType


def asked(model: onnx.ModelProto, **metadata: object) -> onnx.ModelProto:
    """The model with `broadaxe.*` metadata on its layers; the n-th entry of a list belongs to the n-th layer."""
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    for key, values in metadata.items():
        for node, value in zip(layers, values if isinstance(values, list) else [values] * len(layers), strict=True):
            if value is not None:
                node.metadata_props.append(onnx.StringStringEntryProto(key=f"broadaxe.{key}", value=str(value)))
    return model


def layer(op_type: str) -> tuple[onnx.ModelProto, np.ndarray]:
    """One layer of K = 18 products of unsigned 2-bit inputs, and its integer weights in canonical order."""
    rng = np.random.default_rng(1)
    integers = rng.integers(-8, 8, (3, 18))
    if op_type == "Conv":
        net = Network(2, 4, 4)
        kernel = integers.reshape(3, 3, 3, 2).transpose(0, 3, 1, 2)
        y = net.conv(net.quant("x", 0.25, 0, 2, 0), None, weight=net.quant(kernel / 8, 0.125, 0, 4))
    else:
        net = Network(18)
        transposed = {"transB": 1} if op_type == "Gemm" else {}
        weight = net.quant((integers if transposed else integers.T) / 8, 0.125, 0, 4)
        y = net.node(op_type, net.quant("x", 0.25, 0, 2, 0), weight, **transposed)
    return net.finish(net.quant(y, 0.5)), integers


def least_signed(values: list[int]) -> int:
    return next(w for w in range(1, 64) if all(-(1 << (w - 1)) <= v < 1 << (w - 1) for v in values))


def tile_ends(weights: np.ndarray, tile: int, highest: int) -> list[int]:
    """Least and largest sum of every tile and row, for inputs from 0 to `highest`."""
    parts = [row[at : at + tile] for row in weights for at in range(0, len(row), tile)]
    return [int(np.minimum(p, 0).sum()) * highest for p in parts] + [
        int(np.maximum(p, 0).sum()) * highest for p in parts
    ]


# proven widths


@st.composite
def tiny_layers(draw: st.DrawFn) -> tuple[list[list[int]], list[Interval], int]:
    depth = draw(st.integers(1, 5))
    rows = draw(st.lists(st.lists(st.integers(-5, 5), min_size=depth, max_size=depth), min_size=1, max_size=2))
    ends = [sorted(draw(st.tuples(st.integers(-2, 2), st.integers(-2, 2)))) for _ in range(depth)]
    return rows, [Interval(*e) for e in ends], draw(st.integers(1, depth))


@settings(max_examples=100)
@given(tiny_layers())
def test_inner_sums_are_those_of_all_inputs(tiny: tuple[list[list[int]], list[Interval], int]) -> None:
    rows, bounds, tile = tiny
    op = MatVec.of(np.array(rows), tile=tile)
    x = Value("x", (len(bounds),), IntType(3, signed=True), tuple(bounds))
    inputs = list(itertools.product(*(range(b.lo, b.hi + 1) for b in bounds)))
    sums = [
        sum(w * v for w, v in zip(row[at : at + tile], vector[at : at + tile], strict=True))
        for row in rows
        for vector in inputs
        for at in range(0, len(bounds), tile)
    ]
    assert op.tile_sums(x) == Interval(min(sums), max(sums))
    assert op.tile_sums(x).signed_dtype.width == least_signed(sums)


@pytest.mark.parametrize("tile", [1, 4, 6, 17])
@pytest.mark.parametrize("op_type", ["Conv", "Gemm", "MatMul"])
def test_metadata_of_every_layer(op_type: str, tile: int) -> None:
    """Tiles are cut in the order in which inputs stream: kernel row, kernel column, channel."""
    model, weights = layer(op_type)
    shape = (2, 4, 4) if op_type == "Conv" else (18,)
    done = check(asked(model, tile=tile, order="kh,kw,c"), samples(20, *shape, step=0.125), dyadic=True)
    (op,), (entry,) = done.ops(MatVec), accumulators(done.graph)
    np.testing.assert_array_equal(op.weights, weights)
    ends = tile_ends(weights, tile, 3)
    assert (op.tile, entry.tile, entry.inner) == (tile, tile, Interval(min(ends), max(ends)))
    assert entry.inner_bits == least_signed(ends)


@pytest.mark.parametrize("tile", [18, 19, 1000])
def test_one_tile_is_no_stage(tile: int) -> None:
    model, _ = layer("MatMul")
    _, graph, _ = designed(asked(model, tile=tile))
    (entry,) = accumulators(graph)
    assert (entry.tile, entry.inner_bits) == (None, None)


def test_tiles_survive_offsets_and_common_divisors() -> None:
    """A row that is divided needs less within a tile, too; the offset belongs to the outer accumulator alone."""
    net = Network(6, seed=2)
    rows = np.array([[6, 4, 2, 2, 4, 6], [9, 3, 3, 6, 3, 3]])
    y = net.node("MatMul", net.quant("x", 0.25, 0, 3, 0), net.quant(rows.T / 8, 0.125, 0, 5))
    done = check(asked(net.finish(net.quant(y, 0.5)), tile=4), np.abs(samples(40, 6, step=0.125)), dyadic=True)
    (op,), (entry,) = done.ops(MatVec), accumulators(done.graph)
    assert op.weights.tolist() == [[3, 2, 1, 1, 2, 3], [3, 1, 1, 2, 1, 1]]
    assert entry.mode == "offset"
    assert entry.inner == Interval(0, 49)


# promises


def refusal(model: onnx.ModelProto) -> str:
    with pytest.raises(UnsupportedModelError) as error:
        lower(model)
    return str(error.value)


@pytest.mark.parametrize("op_type", ["Conv", "Gemm", "MatMul"])
def test_promised_bits_are_checked(op_type: str) -> None:
    _, weights = layer(op_type)
    inner, outer = tile_ends(weights, 4, 3), tile_ends(weights, 18, 3)
    enough = {"tile": 4, "inner_bits": least_signed(inner), "outer_bits": least_signed(outer)}
    lower(asked(layer(op_type)[0], **enough))
    for key, ends in (("inner_bits", inner), ("outer_bits", outer)):
        bits = least_signed(ends)
        assert refusal(asked(layer(op_type)[0], **(enough | {key: bits - 1}))) == (
            f"{op_type.lower()}1 ({op_type}): broadaxe.{key} is {bits - 1}, but sums reach"
            f" [{min(ends)}, {max(ends)}], {bits} bits; quantize again"
        )


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ({"order": "c,kh,kw"}, "broadaxe.order is 'c,kh,kw'; hardware streams 'kh,kw,c', quantize in that order"),
        ({"tile": 0}, "broadaxe.tile is '0'; a positive integer is needed"),
        ({"tile": "four"}, "broadaxe.tile is 'four'; a positive integer is needed"),
        ({"inner_bits": -1}, "broadaxe.inner_bits is '-1'; a positive integer is needed"),
        ({"outer_bits": 1.5}, "broadaxe.outer_bits is '1.5'; a positive integer is needed"),
        ({"tile": (1 << 20) + 1}, "broadaxe.tile is '1048577'; a positive integer is needed"),
    ],
)
@pytest.mark.parametrize("op_type", ["Conv", "Gemm", "MatMul"])
def test_metadata_that_make_no_sense(op_type: str, metadata: dict[str, object], problem: str) -> None:
    assert refusal(asked(layer(op_type)[0], **metadata)) == f"{op_type.lower()}1 ({op_type}): {problem}"


def test_other_metadata_are_left_alone() -> None:
    model, _ = layer("Conv")
    for node in model.graph.node:
        node.metadata_props.append(onnx.StringStringEntryProto(key="namespace", value="tile"))
    lower(model)


# folding


def test_simd_divides_the_tile() -> None:
    model, _ = layer("MatMul")
    _, graph, _ = designed(asked(model, tile=4))
    for multipliers in (1, 3, 9, 54):
        assert default_folding(graph, multipliers)["matmul0"].simd in (1, 2, 4)
    with pytest.raises(RequestError) as error:
        broadaxe.compile(model, "never_written", folding={"matmul0": {"pe": 1, "simd": 3}})
    assert str(error.value) == ("folding: matmul0: simd 3 does not divide the layer; simd may be 1, 2")
    assert not Path("never_written").exists()


def test_simd_may_hold_several_tiles() -> None:
    op = MatVec.of(np.ones((2, 24), dtype=np.int64), tile=4)
    assert sorted({fold.simd for fold in op.foldings()}) == [1, 2, 4, 8, 12, 24]
    uneven = MatVec.of(np.ones((2, 18), dtype=np.int64), tile=4)
    assert sorted({fold.simd for fold in uneven.foldings()}) == [1, 2]


# in C++

TILES = [5, 4, 8]
FOLDING = {"gemm0": {"pe": 4, "simd": 1}, "conv0": {"pe": 3, "simd": 2}, "matmul0": {"pe": 1, "simd": 4}}


def three_layers() -> onnx.ModelProto:
    """Gemm on the input, K = 12 in tiles of 5; Conv, K = 18 in tiles of 4; MatMul, K = 12 in tiles of 8."""
    net = Network(12, seed=3)
    y = net.node("Gemm", net.quant("x", 0.25, 0, 4), net.weights(12, 32), net.rng.integers(-8, 8, 32) / 4)
    y = net.node("Reshape", net.quant(y, 0.5, 0, 4), np.array([0, 4, 4, 2]))
    y = net.quant(net.conv(net.node("Transpose", y, perm=[0, 3, 1, 2]), (3, 2, 3, 3)), 0.5, 0, 4)
    y = net.node("MatMul", net.node("Flatten", y), net.weights(12, 3))
    return asked(net.finish(y, name="stages"), tile=TILES)


@pytest.fixture(scope="module")
def build(once: Callable[..., Path], unoptimised: None) -> broadaxe.Build:
    folder = once("stages", lambda path: broadaxe.compile(three_layers(), path, folding=FOLDING))
    return broadaxe.load(folder)


def traced(build: broadaxe.Build, folder: Path, codes: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return Simulator.of(folder, build.top, build.graph, build.flow, Mode.NATIVE, traced=True).trace(codes)


def test_every_stream_of_tiled_layers(build: broadaxe.Build) -> None:
    codes = random_codes(build.graph, 20, seed=4)
    expected = run(build.graph, codes, every_value=True)
    streams = traced(build, build.path, codes)
    assert {"gemm0", "conv0", "matmul0"} <= set(streams)
    for name in expected.keys() & streams.keys():
        np.testing.assert_array_equal(streams[name], expected[name], err_msg=name)


def test_the_report_has_tiles_and_inner_bits(build: broadaxe.Build) -> None:
    layers = read_report(build.path).layers
    assert [entry.tile for entry in layers] == TILES
    for entry, node in zip(layers, (n for n in build.graph.nodes if isinstance(n.op, MatVec)), strict=True):
        inner = node.op.tile_sums(build.graph.inputs_of(node)[0])
        assert entry.inner_bits == inner.signed_dtype.width
        assert entry.inner_bits <= entry.width
    assert layers[0].inner_bits < layers[0].width
    model, _ = layer("MatMul")
    (entry,) = accumulators(designed(model)[1])
    assert (entry.tile, entry.inner_bits) == (None, None)


@pytest.fixture(scope="module")
def narrowed(build: broadaxe.Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder whose first layer has one bit less in its inner accumulator."""
    folder = tmp_path_factory.mktemp("narrowed") / "build"
    shutil.copytree(build.path, folder, ignore=lambda at, names: {"sim"} if "firmware" in names else set())
    bits = read_report(build.path).layers[0].inner_bits
    assert bits is not None
    header = folder / "firmware" / "gemm0.hpp"
    text, count = re.subn(
        rf"(matvec_tiled<\w+, [^,]+, )ap_int<{bits}>", rf"\g<1>ap_int<{bits - 1}>", header.read_text()
    )
    assert count == 1
    header.write_text(text)
    return folder


def test_an_inner_accumulator_one_bit_too_narrow_fails_on_its_tile(build: broadaxe.Build, narrowed: Path) -> None:
    """The inputs that take one tile to its end, everything else at 0, and only those that need the bit."""
    node = next(n for n in build.graph.nodes if n.name == "gemm0")
    assert isinstance(node.op, MatVec)
    (x,) = build.graph.inputs_of(node)
    half = 1 << (node.op.tile_sums(x).signed_dtype.width - 2)
    lo, hi = x.ends()
    vectors, wide = [], []
    for row in node.op.weights:
        for at in range(0, 12, 5):
            weights = np.where(np.arange(12) // 5 == at // 5, row, 0)
            for positive, negative in ((hi, lo), (lo, hi)):
                vectors.append(np.where(weights > 0, positive, np.where(weights < 0, negative, 0)))
                wide.append(not -half <= int((weights * vectors[-1]).sum()) < half)
    codes = {x.name: np.array(vectors)}
    assert any(wide)
    right = run(build.graph, codes, every_value=True)["gemm0"]
    np.testing.assert_array_equal(traced(build, build.path, codes)["gemm0"], right)
    wrong = (traced(build, narrowed, codes)["gemm0"] != right).any(axis=1)
    assert wrong[wide].all()
    still = {x.name: np.zeros((3, 12), dtype=np.int64)}
    np.testing.assert_array_equal(
        traced(build, narrowed, still)["gemm0"], run(build.graph, still, every_value=True)["gemm0"]
    )


def test_the_witness_harness_finds_the_narrow_inner_accumulator(narrowed: Path) -> None:
    status, output = run_program(compile_sources(narrowed, Mode.NATIVE, ["tb/witness.cpp"], "witness"))
    assert status == 1
    counts = dict(re.findall(r"^(\w+): \d+ bits, (\d+) mismatches$", output, flags=re.MULTILINE))
    assert [name for name, count in counts.items() if count != "0"] == ["gemm0"], output
