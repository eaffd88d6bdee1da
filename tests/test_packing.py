"""Products that share a DSP block: what is proven of them, in integers, and what is generated, in C++."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Network

import broadaxe
from broadaxe.config import read_folding
from broadaxe.csim import Mode, ap_types, compile_sources, run_program
from broadaxe.errors import RequestError
from broadaxe.hardware import DSP48E1, DSP48E2, DSP58, Dsp
from broadaxe.ir import Fold, Lanes, Value
from broadaxe.ops import GroupedMatVec, MatVec
from broadaxe.ops.packing import Packing, operands_fit
from broadaxe.prove import checker
from broadaxe.reports.reading import read_report
from broadaxe.types import Interval, IntType

SMALL = Dsp("SMALL", 11, 6, 16)


# proofs


@st.composite
def layers(draw: st.DrawFn) -> tuple[MatVec, Value, Dsp, Fold]:
    depth, rows = draw(st.integers(1, 5)), draw(st.integers(2, 5))
    weights = draw(st.lists(st.lists(st.integers(-3, 3), min_size=depth, max_size=depth), min_size=rows, max_size=rows))
    ends = [sorted(draw(st.tuples(st.integers(-3, 3), st.integers(-3, 3)))) for _ in range(depth)]
    start = draw(st.lists(st.integers(-20, 20), min_size=rows, max_size=rows))
    simd = draw(st.sampled_from([d for d in range(1, depth + 1) if depth % d == 0]))
    op = MatVec.of(np.array(weights), start=np.array(start))
    x = Value("x", (depth,), IntType(3, signed=True), tuple(Interval(*e) for e in ends))
    return op, x, draw(st.sampled_from([SMALL, DSP48E1])), Fold(rows, simd, "packed")


def lanes_of_block(
    op: MatVec, rows: list[int], vector: tuple[int, ...], packing: Packing, order: list[int]
) -> list[int]:
    """Sums of rows of one block, each product on its own in the given order, modulo the lanes' total."""
    lane, whole = packing.lane, 1 << (packing.lane * packing.products)
    half, sums = 1 << (lane - 1), [0] * len(rows)
    for at in range(0, op.depth, packing.chunk):
        first = op.start.tolist() if packing.chunk == op.depth else [0] * op.outputs
        packed = sum((first[r] + half) << (lane * k) for k, r in enumerate(rows)) % whole
        for i in (i for i in order if at <= i < at + packing.chunk):
            packed = (packed + sum(int(op.weights[r, i]) << (lane * k) for k, r in enumerate(rows)) * vector[i]) % whole
        sums = [s + (packed >> (lane * k)) % (1 << lane) - half for k, s in enumerate(sums)]
    return [s + (0 if packing.chunk == op.depth else int(op.start[r])) for s, r in zip(sums, rows, strict=True)]


@settings(max_examples=60)
@given(layers(), st.randoms(use_true_random=False))
def test_lanes_hold_every_sum_in_any_order(case: tuple[MatVec, Value, Dsp, Fold], rng: object) -> None:
    op, x, dsp, fold = case
    packing = op.packing((x,), dsp, fold)
    if packing.products < 2:
        return
    assert packing.products <= 4
    assert packing.products * packing.lane <= dsp.accumulator
    assert packing.chunk == op.depth or packing.chunk % fold.simd == 0
    order = list(range(op.depth))
    rng.shuffle(order)  # type: ignore[attr-defined]
    for vector in itertools.product(*(sorted({b.lo, b.hi}) for b in x.bounds)):
        for at in range(0, op.outputs, packing.products):
            rows = list(range(at, min(at + packing.products, op.outputs)))
            exact = [int(op.start[r] + op.weights[r] @ np.array(vector)) for r in rows]
            assert lanes_of_block(op, rows, vector, packing, order) == exact
            for i in range(op.depth):
                operand = sum(int(op.weights[r, i]) << (packing.lane * k) for k, r in enumerate(rows))
                assert -(1 << (dsp.wide - 1)) <= operand < 1 << (dsp.wide - 1)


@settings(max_examples=60)
@given(layers())
def test_a_lane_one_bit_narrower_is_wrong_at_a_witness(case: tuple[MatVec, Value, Dsp, Fold]) -> None:
    """In the row that sets the width; and, where it is not a block's last, in the next row too, whose own sums may be small."""
    op, x, _, fold = case
    packing = op.packing((x,), DSP48E2, fold)
    if packing.products < 2 or packing.lane < 2 or packing.chunk < op.depth:
        return
    bounds = op.bounds(x)
    row = max(range(op.outputs), key=lambda r: bounds[r].signed_dtype.width)
    first = row // packing.products * packing.products
    rows = list(range(first, min(first + packing.products, op.outputs)))
    narrow = replace(packing, lane=packing.lane - 1)
    half, wrong = 1 << (narrow.lane - 1), []
    ends = op.witnesses((x,), row)
    assert ends is not None
    for (vector,) in ends:
        exact = [int(op.start[r] + op.weights[r] @ vector) for r in rows]
        found = lanes_of_block(op, rows, tuple(vector.tolist()), narrow, list(range(op.depth)))
        at = row - first
        if not -half <= exact[at] < half:
            wrong.append(found[at] != exact[at])
            if at + 1 < len(rows) and at == 0 and -half < exact[1] < half - 1:
                assert found[1] - exact[1] == (exact[0] + half) >> narrow.lane
    assert wrong
    assert all(wrong)


@pytest.mark.parametrize("products", [2, 3, 4])
def test_operands_fit_up_to_the_last_bit(products: int) -> None:
    """The widest lanes whose extreme operands the port holds, by their own arithmetic."""
    for lo, hi in ((-1, 0), (0, 1), (-2, 1), (-3, 3), (-8, 7), (0, 15)):
        for lane in range(1, 16):
            ends = [sum(v << (lane * k) for k in range(products)) for v in (lo, hi)]
            port = -(1 << 10) <= min(ends) <= max(ends) < 1 << 10
            right = port and products * lane <= 16 and (products - 1) * lane < 11
            assert operands_fit(Interval(lo, hi), Interval(-32, 31), products, lane, SMALL) == right
    assert operands_fit(Interval(-204, 204), Interval(0, 31), 2, 2, SMALL)  # times 5
    assert not operands_fit(Interval(-205, 0), Interval(0, 31), 2, 2, SMALL)
    assert not operands_fit(Interval(0, 205), Interval(0, 31), 2, 2, SMALL)
    assert operands_fit(Interval(-1, 1), Interval(0, 31), 2, 4, SMALL)
    assert not operands_fit(Interval(-1, 1), Interval(0, 32), 2, 4, SMALL)
    assert not operands_fit(Interval(-1, 1), Interval(-33, 0), 2, 4, SMALL)


def rows_of(lo: int, hi: int, rows: int, depth: int) -> MatVec:
    return MatVec.of(np.random.default_rng(1).integers(lo, hi + 1, (rows, depth)))


def codes(depth: int, bits: int, signed: bool = False) -> Value:
    kind = IntType(bits, signed=signed)
    return Value("x", (depth,), kind, (kind.range,) * depth)


def test_a_narrower_accumulator_packs_more_products() -> None:
    """Of the same weights and inputs: what lanes hold decides, and with it the proof."""
    op, x = rows_of(-2, 1, 8, 16), codes(16, 2)
    packing = op.packing((x,), DSP48E2)
    assert packing == Packing(4, 7, 16)
    wide = rows_of(-2, 1, 8, 2000)
    assert wide.packing((codes(2000, 2),), DSP48E2).products == 2


def test_what_decides_on_chunks() -> None:
    op, x = rows_of(-128, 127, 4, 18), codes(18, 8, signed=True)
    found = op.packing((x,), DSP48E1, Fold(4, 2))
    assert (found.products, found.chunk < 18, found.chunk % 2) == (2, True, 0)
    longer = op.packing((x,), DSP48E2, Fold(4, 2))
    assert longer.lane > found.lane
    assert op.packing((x,), DSP48E1, Fold(1, 2)).products == 1
    assert rows_of(-128, 127, 4, 18).packing((codes(18, 18),), DSP48E2).products == 1
    assert rows_of(-128, 127, 4, 18).packing((codes(18, 18),), DSP58).products == 1


def test_a_tile_is_never_cut() -> None:
    op, x = replace(rows_of(-8, 7, 4, 24), tile=8), codes(24, 4)
    assert op.packing((x,), DSP48E2, Fold(4, 8)).chunk == 8
    assert op.packing((x,), DSP48E2, Fold(4, 24)).products == 1  # trees of several tiles have no lanes of their own


def test_blocks() -> None:
    assert Packing(3, 9, 64).blocks(8, 4) == 12
    assert Packing(1, 9, 64).blocks(8, 4) == 32


def test_rows_that_share_no_input_do_not_pack() -> None:
    op = GroupedMatVec.of(np.ones((8, 9), dtype=np.int64), 8, 9)
    assert op.packing((codes(72, 4),), DSP48E2, Fold(8, 1)).products == 1
    assert op.multipliers((codes(72, 4),), Fold(8, 1)) == ("lut", "dsp")


# in C++


def network() -> onnx.ModelProto:
    """A convolution, a layer of eight by eight bits and a small one."""
    net = Network(3, 4, 4, seed=4)
    y = net.quant(net.conv(net.quant("x", 0.25, 0, 4, 0), (8, 3, 3, 3), pads=[1, 1, 1, 1]), 0.5, 0, 8, 1)
    y = net.quant(net.node("MatMul", net.node("Flatten", y), net.weights(128, 4, bits=8)), 0.5, 0, 4)
    return net.finish(net.node("MatMul", y, net.weights(4, 6)), name="packed")


FOLDING = """
conv0: {pe: 8, simd: 3, multiplier: packed}
matmul0: {pe: 4, simd: 4, multiplier: packed}
matmul1: {pe: 3, simd: 2, multiplier: dsp}
"""


@pytest.fixture(scope="module")
def build(once: Callable[..., Path], unoptimised: None, tmp_path_factory: pytest.TempPathFactory) -> broadaxe.Build:
    text = tmp_path_factory.mktemp("folding") / "folding.yaml"
    text.write_text(FOLDING)
    folding = {name: entry.model_dump(exclude_none=True) for name, entry in read_folding(text).items()}
    return broadaxe.load(once("packed", lambda path: broadaxe.compile(network(), path, folding=folding)))


def test_the_folding_file_says_what_multiplies(build: broadaxe.Build) -> None:
    assert build.lanes["conv0"] == Lanes(3, 8, "packed")
    kernels = {
        name: re.findall(r"broadaxe::(\w+)<([^()]*)>\(", (build.path / "firmware" / f"{name}.hpp").read_text())[0]
        for name in ("conv0", "matmul0", "matmul1")
    }
    assert [kernel for kernel, _ in kernels.values()] == ["packed_matvec", "packed_matvec_chunked", "matvec"]
    assert kernels["matmul1"][1].endswith("broadaxe::in_dsp")
    layers = {layer.name: layer for layer in read_report(build.path).layers}
    assert [layers[n].multiplier for n in kernels] == ["packed", "packed", "dsp"]
    conv, wide, plain = (layers[n] for n in kernels)
    assert conv.packing is not None
    assert (conv.packing.products, conv.packing.lane, conv.packing.chunk) == (2, conv.width, conv.depth)
    assert (conv.packing.dsp, conv.pe_bits) == ("DSP48E1", None)
    assert wide.packing is not None
    assert wide.packing.chunk < wide.depth
    assert wide.packing.lane < wide.width
    assert plain.packing is None
    assert plain.pe_bits is not None
    assert max(plain.pe_bits) == plain.width


def test_packed_layers_are_verified(build: broadaxe.Build) -> None:
    result = broadaxe.verify(build)
    assert result.ok, str(result)
    assert checker.check(build.path).endswith("all hold")


def narrowed(build: broadaxe.Build, layer: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same design with one bit less in a layer's lanes, starts and all."""
    rule = MatVec.packing
    node = build.graph.node(layer)

    def narrower(op: MatVec, *given: object) -> Packing:
        found: Packing = rule(op, *given)  # type: ignore[arg-type]
        return replace(found, lane=found.lane - 1) if op is node.op else found

    with monkeypatch.context() as patch:
        patch.setattr(MatVec, "packing", narrower)
        broadaxe.build.write(replace(build, path=folder))
    return folder


@pytest.mark.parametrize("mode", [Mode.NATIVE, Mode.EXACT], ids=lambda mode: mode.value)
@pytest.mark.parametrize("layer", ["conv0", "matmul0"])
def test_a_lane_one_bit_too_narrow_is_found(
    build: broadaxe.Build, layer: str, mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the checker, and, where a lane holds whole sums, by the layer's witnesses in C++: in its row and in its neighbour."""
    if mode is Mode.EXACT and ap_types() is None:
        pytest.skip("exact build: ap_int headers are missing; pip install hls4ml==1.3.0 brings them")
    folder = narrowed(build, layer, tmp_path / "narrow", monkeypatch)
    with pytest.raises(checker.CertificateError, match=rf"^{layer} \(matvec\): packing"):
        checker.check(folder)
    if layer == "matmul0":  # its widest chunk is not its widest row's alone
        return
    status, output = run_program(compile_sources(folder, mode, ["tb/witness.cpp"], "witness"))
    assert status == 1
    counts = dict(re.findall(r"^(\w+): \d+ bits, (\d+) mismatches$", output, flags=re.MULTILINE))
    assert [name for name, count in counts.items() if count != "0"] == [layer], output
    assert int(counts[layer]) >= 2


def test_a_part_brings_its_block(build: broadaxe.Build) -> None:
    folding = {"conv0": {"pe": 8, "simd": 3, "multiplier": "packed"}}
    asked = broadaxe.config.settings(folding=folding, part="ZCU104")
    design = broadaxe.build._design(Path("none"), build.model, asked, "n", lambda _: None)
    assert design.lanes["conv0"].dsp == DSP48E2


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        ({"pe": 1, "simd": 3}, "multiplier packed does not fit the layer; multiplier may be lut, dsp"),
        ({"pe": 5, "simd": 3}, "pe 5 does not divide the layer; pe may be 1, 2, 4, 8"),
    ],
)
def test_what_does_not_pack_is_refused(fold: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as error:
        broadaxe.compile(network(), tmp_path / "never", folding={"conv0": fold | {"multiplier": "packed"}})
    assert str(error.value) == f"folding: conv0: {message}"
    assert not (tmp_path / "never").exists()
