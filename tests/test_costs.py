"""Resource models: exact where a data sheet is, and what has to hold of any of them."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import astuple, replace
from math import isfinite
from pathlib import Path
from statistics import median
from types import ModuleType

import numpy as np
import pytest

from broadaxe.hardware import DSP48E2, DSP58, Resources
from broadaxe.ir import Example, Fold, Graph, Lanes, Node, Value, infer
from broadaxe.ops import OPS, MatVec, Requantize, View, costs
from broadaxe.ops.mac import Accumulating
from broadaxe.schedule.dataflow import Dataflow, dataflow
from broadaxe.schedule.folding import lanes_of
from broadaxe.schedule.resources import resources_of, total_of
from broadaxe.types import Interval, IntType

EXAMPLES = [(op, example) for op in OPS for example in op.examples()]
VECTOR = Value("x", (3, 24), IntType(4, signed=False), (Interval(0, 15),) * 24)
IDS = [f"{op.kind}: {example.label}" for op, example in EXAMPLES]


def layer(seed: int = 5, rows: int = 12) -> MatVec:
    return MatVec.of(np.random.default_rng(seed).integers(-7, 8, (rows, 24)))


def spent(op: MatVec, pe: int, simd: int, multiplier: str = "lut", width: int | None = None) -> Resources:
    out = infer("y", op, [VECTOR])
    if width is not None:
        out = replace(out, dtype=IntType(width, signed=True))
    return op.resources([VECTOR], out, Lanes(simd, pe, multiplier))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("width", "depth", "ports", "expected"),
    [
        (1, 16384, 1, 1),
        (1, 16385, 1, 2),
        (2, 8192, 1, 1),
        (3, 8192, 1, 2),
        (4, 4096, 1, 1),
        (9, 2048, 1, 1),
        (9, 2049, 1, 2),
        (10, 2048, 1, 2),
        (18, 1024, 1, 1),
        (19, 1024, 1, 2),
        (36, 512, 1, 1),
        (36, 513, 1, 2),
        (37, 512, 1, 2),
        (36, 512, 2, 2),
        (64, 600, 1, 4),
        (72, 4096, 1, 16),
        (8, 3000, 1, 2),
    ],
)
def test_block_rams_by_the_best_shape(width: int, depth: int, ports: int, expected: int) -> None:
    assert costs.block_rams(width, depth, ports) == expected


def test_block_rams_never_shrink() -> None:
    for width in (1, 2, 5, 9, 17, 36, 80):
        counts = [costs.block_rams(width, depth) for depth in range(1, 20000, 37)]
        assert counts == sorted(counts)
    for depth in (16, 512, 513, 2048, 9000):
        counts = [costs.block_rams(width, depth) for width in range(1, 200)]
        assert counts == sorted(counts)


def test_ultra_rams() -> None:
    assert [costs.ultra_rams(*shape) for shape in ((72, 4096), (73, 4096), (72, 4097), (1, 1))] == [1, 2, 2, 1]


def test_memories_in_luts() -> None:
    assert costs.distributed(8, 64, rom=True) == 8
    assert costs.distributed(24, 100, rom=True) == 48
    assert costs.distributed(16, 256, rom=True) == 64
    assert costs.distributed(16, 64, rom=False) == 24
    assert costs.distributed(12, 32, rom=False) == 8
    assert costs.distributed(40, 2, rom=True) == pytest.approx(
        4, rel=1e-3
    )  # a column of 2 is 0, 1, the address or its inverse


def test_where_memories_and_fifos_go() -> None:
    assert costs.memory(8, 1, "block", rom=True) == Resources()
    assert costs.memory(8, 1, "block") == Resources(ff=8)
    assert costs.placed(31, 33, rom=True).bram18 == 0
    assert costs.placed(32, 32, rom=True).bram18 == 1
    assert costs.memory(72, 8192, "ultra") == Resources(uram=2)
    assert costs.fifo(4096, 2).bram18 == 0
    assert costs.fifo(8, 128).bram18 == 0
    assert costs.fifo(8, 129).bram18 == 1
    assert costs.shift_register(8, 33) == Resources(lut=16)


def test_trees_are_no_wider_than_the_accumulator() -> None:
    assert costs.tree(4, 8, 99) == Resources(2 * 9 + 10, 2 * 9 + 10)
    assert costs.tree(5, 8, 99) == Resources(2 * 9 + 10 + 11, 3 * 9 + 2 * 10 + 11)
    assert costs.tree(4, 8, 8) == Resources(24, 24)
    assert costs.tree(1, 8, 8) == Resources()


def test_dsp_blocks() -> None:
    assert costs.dsp_blocks(25, 18) == costs.dsp_blocks(18, 25) == 1
    assert costs.dsp_blocks(26, 18) == 2
    assert costs.dsp_blocks(27, 18, DSP48E2) == 1
    assert costs.dsp_blocks(27, 19, DSP48E2) == 2
    assert costs.dsp_blocks(27, 24, DSP58) == 1
    assert costs.dsp_blocks(49, 35) == 4


def test_signed_digits_are_the_fewest() -> None:
    fewest = {0: 0}
    for digits in (1, 2, 3, 4):
        for n in list(fewest):
            if fewest[n] == digits - 1:
                for shift in range(9):
                    for m in (n + (1 << shift), n - (1 << shift)):
                        fewest.setdefault(m, digits)
    values = np.arange(-128, 128)
    assert costs.signed_digits(values).tolist() == [fewest[n] for n in values.tolist()]


def test_zero_weights_and_powers_of_two_of_unrolled_rows_cost_nothing() -> None:
    assert costs.constant_multiplier(8, 0) == costs.constant_multiplier(8, -64) == 0
    assert costs.constant_multiplier(8, 3) > 0
    weights = np.array([[3, 0, -2, 5, 0], [1, 1, 0, 0, 7]])
    wide = np.insert(weights, 2, 0, axis=1)
    assert costs.constant_rows(wide, 4, 12).lut == costs.constant_rows(weights, 4, 12).lut
    assert costs.constant_rows(np.zeros((4, 9), dtype=np.int64), 4, 12) == Resources()
    dense = costs.constant_rows(np.where(weights == 0, 1, weights), 4, 12)
    assert dense.lut > costs.constant_rows(weights, 4, 12).lut
    sparse, full = layer(), MatVec.of(np.where(layer().weights == 0, 1, layer().weights))
    assert spent(sparse, 12, 24).lut < spent(full, 12, 24).lut


@pytest.mark.parametrize(("op", "example"), EXAMPLES, ids=IDS)
def test_every_operator_takes_something_finite(op: type, example: Example) -> None:
    out = infer("y", example.op, example.inputs)
    values = {v.name: v for v in (*example.inputs, out)}
    names = tuple(dict.fromkeys(x.name for x in example.inputs))
    node = Node("n", example.op, tuple(x.name for x in example.inputs), "y")
    graph = Graph("g", names, (node,), ("y",), values)
    folds = example.op.foldings() if isinstance(example.op, Accumulating) else [None]
    for fold in folds:
        for multiplier in ("lut", "dsp", "packed"):
            lanes = lanes_of(graph, {} if fold is None else {"n": fold})
            given = replace(lanes["n"], multiplier=multiplier) if lanes else Lanes(1, 1)
            found = example.op.resources(example.inputs, out, given)
            assert all(isfinite(n) and n >= 0 for n in astuple(found)), (fold, found)
            assert all(isinstance(n, int) for n in (found.dsp, found.bram18, found.uram))
            assert found == Resources() or not isinstance(example.op, View)


def test_more_lanes_are_never_cheaper_in_dsp() -> None:
    op = layer()
    for multiplier in ("dsp", "packed"):
        for simd in (1, 2, 4, 24):
            used = [spent(op, pe, simd, multiplier).dsp for pe in (1, 2, 3, 4, 6, 12)]
            assert used == sorted(used)
        for pe in (1, 3, 12):
            used = [spent(op, pe, simd, multiplier).dsp for simd in (1, 2, 3, 4, 6, 8, 12, 24)]
            assert used == sorted(used)
    assert spent(op, 4, 6, "dsp").dsp == 24
    assert spent(op, 4, 6, "lut").dsp == 0
    assert spent(op, 6, 6, "packed").dsp == 18


def test_more_lanes_are_never_cheaper_in_lut_until_weights_are_constants() -> None:
    op = layer()
    assert [spent(op, pe, 4).lut for pe in (1, 2, 3, 4, 6)] == sorted(spent(op, pe, 4).lut for pe in (1, 2, 3, 4, 6))
    assert spent(op, 12, 24).lut < 2 * spent(op, 6, 24).lut


@pytest.mark.parametrize("multiplier", ["lut", "dsp"])
def test_narrower_accumulators_cost_less(multiplier: str) -> None:
    op = layer()
    used = [spent(op, 4, 8, multiplier, width).lut for width in range(8, 20)]
    assert used == sorted(used)
    assert used[0] < used[-1]


def test_requantizers_narrow_with_their_input() -> None:
    for example in Requantize.examples():
        form = example.op.chosen()  # type: ignore[attr-defined]
        used = [form.resources(width, 4, 2).lut for width in (6, 9, 12)]
        assert used == sorted(used)


def design(seed: int = 3) -> tuple[Graph, dict[str, Lanes], Dataflow]:
    """A layer with two readers: a copy, changes of lanes, ports."""
    first, second = layer(seed), MatVec.of(np.random.default_rng(seed + 1).integers(-3, 4, (8, 12)))
    a = infer("a", first, [VECTOR])
    values = {v.name: v for v in (VECTOR, a, infer("b", second, [a]), infer("c", second, [a]))}
    nodes = (Node("a", first, ("x",), "a"), Node("b", second, ("a",), "b"), Node("c", second, ("a",), "c"))
    graph = Graph("g", ("x",), nodes, ("b", "c"), values)
    lanes = lanes_of(graph, {"a": Fold(2, 4), "b": Fold(2, 4), "c": Fold(4, 2)})
    return graph, lanes, dataflow(graph, lanes)


def test_a_design_is_the_sum_of_its_processes_and_fifos() -> None:
    graph, lanes, flow = design()
    found = resources_of(graph, lanes, flow)
    assert list(found) == [
        "read in0",
        "a",
        "s_a_to_b",
        "s_a_to_b_x4_b",
        "b",
        "c",
        "write out0",
        "write out1",
        *(f"fifo {stream.name}" for stream in flow.streams),
    ]
    sums = [sum(parts) for parts in zip(*map(astuple, found.values()), strict=True)]
    assert astuple(total_of(graph, lanes, flow)) == pytest.approx(sums)
    for node in graph.nodes:
        value = graph.values[node.output]
        assert found[node.name] == node.op.resources(graph.inputs_of(node), value, lanes[node.name])


def test_fifos_cost_by_their_depth() -> None:
    graph, lanes, flow = design()
    stream = flow.streams[-1]
    before = resources_of(graph, lanes, flow)
    flow.streams[-1] = replace(stream, depth=5000)
    after = resources_of(graph, lanes, flow)
    changed = [name for name in after if after[name] != before[name]]
    assert changed == [f"fifo {stream.name}"]
    assert after[changed[0]].bram18 > before[changed[0]].bram18 == 0


def benchmark() -> ModuleType:
    """benchmarks/resources.py, which is no package."""
    path = Path(__file__).resolve().parent.parent / "benchmarks" / "resources.py"
    spec = importlib.util.spec_from_file_location("resource_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_models_are_as_near_to_what_yosys_gave_as_they_say() -> None:
    bench = benchmark()
    results = json.loads(bench.RESULTS.read_text())
    assert results["yosys"] == "0.70"
    assert set(results["datapaths"]) == {datapath.name for datapath in bench.datapaths()}
    for family, lut in (("xc7", 9), ("xcup", 10)):
        for kind, count, middle, worst in (("lut", 29, lut, 36), ("ff", 30, 0, 19)):
            off = [abs(e) for e in bench.errors(results, family, kind, fit=False).values()]
            assert (len(off), round(100 * median(off)), round(100 * max(off))) == (count, middle, worst)
        assert not bench.errors(results, family, "bram18")
        for datapath in bench.datapaths():
            assert datapath.model().bram18 == results["datapaths"][datapath.name][family]["bram18"]


def test_the_benchmark_without_yosys_exits_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = benchmark()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit) as ended:
        bench.yosys("/nonexistent/python")
    assert ended.value.code == 3
    said = "resources: yosys is missing; see the first lines of this file for how to get it, or use --read\n"
    assert capsys.readouterr().err == said


def test_datapaths_render() -> None:
    for datapath in benchmark().datapaths():
        text = datapath.verilog()
        assert text.count("module top(") == text.count("endmodule") == 1
