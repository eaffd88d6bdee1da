"""What weights are kept in, and what multiplies them: the rules, and the pragmas that follow them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from broadaxe import emit
from broadaxe.ir import Fold, Graph, Node, Value, infer
from broadaxe.ops import GroupedMatVec, MatVec
from broadaxe.ops.mac import Mac
from broadaxe.ops.memories import memory_of, pack, weight_memory
from broadaxe.schedule.folding import lanes_of
from broadaxe.types import IntType

CODES = IntType(4, signed=True)


@pytest.mark.parametrize(
    ("depth", "width", "writable", "memory"),
    [
        (64, 64, False, "lutram"),
        (64, 500, False, "lutram"),
        (128, 32, False, "lutram"),
        (129, 32, False, "bram"),
        (65, 64, False, "bram"),
        (100_000, 72, False, "bram"),
        (4096, 36, True, "uram"),
        (4096, 35, True, "bram"),
        (4095, 72, True, "bram"),
        (64, 72, True, "lutram"),
    ],
)
def test_memories_by_size(depth: int, width: int, writable: bool, memory: str) -> None:
    assert memory_of(depth, width, writable) == memory


@pytest.mark.parametrize(
    ("lanes", "bits", "memory"), [(8, 4, "lutram"), (9, 4, "bram"), (40, 4, "bram"), (1, 4, "lutram")]
)
def test_weights_of_a_pe(lanes: int, bits: int, memory: str) -> None:
    """128 steps of 8 weights of 4 bits are 4096 bits; more than 64 bits a step are several memories."""
    _, word_type = pack(np.zeros((128, lanes), dtype=np.int64), bits)
    assert weight_memory(128, lanes, bits, word_type) == memory
    assert weight_memory(1, lanes, bits, word_type) is None


def header(op: Mac, fold: Fold, depth: int) -> str:
    """The generated wrapper of one layer."""
    x = Value("x", (2, depth), CODES, (CODES.range,) * depth)
    y = infer("y", op, [x])
    graph = Graph("g", ("x",), (Node("mac", op, ("x",), "y"),), ("y",), {"x": x, "y": y})
    lanes = lanes_of(graph, {"mac": fold})
    flow = emit.dataflow(graph, lanes)
    files = emit.firmware(graph, flow, lanes, "g_top", {"sideband": 0, "control": "s_axilite"})
    return files["firmware/mac.hpp"]


def dense(rows: int, depth: int) -> MatVec:
    return MatVec.of(np.random.default_rng(1).integers(-8, 8, (rows, depth)))


def test_weights_are_bound_by_size() -> None:
    small, large = header(dense(4, 16), Fold(2, 4), 16), header(dense(64, 64), Fold(1, 2), 64)
    for text, vitis, vivado in ((small, "lutram", "ROM_1P_LUTRAM"), (large, "bram", "ROM_1P_BRAM")):
        assert (
            f"""#ifdef __VITIS_HLS__
#pragma HLS BIND_STORAGE variable=mac_weights type=rom_1p impl={vitis}
#else
#pragma HLS RESOURCE variable=mac_weights core={vivado}
#endif
"""
            in text
        )
        assert "ARRAY_PARTITION" not in text


def test_weights_of_a_fully_unrolled_layer_are_constants() -> None:
    text = header(dense(4, 16), Fold(4, 16), 16)
    assert "#pragma HLS ARRAY_PARTITION variable=mac_weights complete dim=0\n" in text
    assert "BIND_STORAGE" not in text
    assert "RESOURCE" not in text
    weights = np.array([[0, 3, 0, -1], [0, 0, 0, 0]])
    assert MatVec.of(weights).nonzero == 2


@pytest.mark.parametrize(
    ("op", "fold", "depth"),
    [
        (dense(4, 16), Fold(2, 4), 16),
        (MatVec.of(np.eye(4, 16, dtype=np.int64) * 3, tile=4), Fold(2, 8), 16),
        (GroupedMatVec.of(np.full((4, 8), 3), 2, 2), Fold(2, 2), 16),
        (GroupedMatVec.of(np.full((4, 4), 3), 4, 4), Fold(2, 1), 16),
    ],
    ids=["dense", "tiles", "groups", "depthwise"],
)
def test_multipliers_are_bound(op: Mac, fold: Fold, depth: int) -> None:
    for multiplier, terms in (("lut", "broadaxe::in_fabric"), ("dsp", "broadaxe::in_dsp")):
        text = header(op, Fold(fold.pe, fold.simd, multiplier), depth)  # type: ignore[arg-type]
        assert re.findall(r", (broadaxe::\w+)>\(", text) == [terms]


def test_bits_against_signs_are_counted_only_in_the_fabric() -> None:
    signs = MatVec.of(2 * np.random.default_rng(2).integers(0, 2, (4, 8)) - 1)
    bits = IntType(1, signed=False)
    x = Value("x", (8,), bits, (bits.range,) * 8)
    out = infer("y", signs, [x])
    found = {
        kind: signs.template_context([x], out, signs.lanes(Fold(2, 4, kind)))["terms"]  # type: ignore[arg-type]
        for kind in ("lut", "dsp")
    }
    assert found == {"lut": "broadaxe::matches", "dsp": "broadaxe::in_dsp"}
