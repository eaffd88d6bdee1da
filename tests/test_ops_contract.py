"""The contract that every registered operator fulfils, on every one of its examples:

graph.check() holds; the numpy reference equals onnxruntime on the rendered graph and the C simulation in both builds; the
bounds contain it all, and are attained where the operator claims so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from inspect import isabstract
from pathlib import Path

import numpy as np
import pytest

from broadaxe import emit, resources
from broadaxe.csim import Mode, Simulator, ap_types
from broadaxe.ir import Example, Fold, Graph, IntArray, Lanes, Node, Op, infer
from broadaxe.ops import OPS
from broadaxe.reference import run
from broadaxe.render import OnnxRun
from broadaxe.schedule.folding import complete, cycles_of, lanes_of

EXAMPLES = [(op, example) for op in OPS for example in op.examples()]
FRAMES = 12


def graph_of(examples: list[Example]) -> Graph:
    """All examples side by side in one graph: inputs `x<i>_<j>`, nodes and outputs `y<i>`.

    A value that an example reads twice is one input.
    """
    values, nodes = {}, []
    for i, example in enumerate(examples):
        inputs = [replace(x, name=f"x{i}_{example.inputs.index(x)}") for x in example.inputs]
        out = infer(f"y{i}", example.op, inputs)
        values |= {value.name: value for value in (*inputs, out)}
        nodes.append(Node(out.name, example.op, tuple(x.name for x in inputs), out.name, f"{example.label} (Example)"))
    names = tuple(name for name in values if name.startswith("x"))
    return Graph("contract", names, tuple(nodes), tuple(node.output for node in nodes), values)


def samples(graph: Graph) -> dict[str, IntArray]:
    """Both extremes of every channel, each channel at either end, then seeded integers inside the bounds."""
    rng = np.random.default_rng(11)
    feeds = {}
    for name in graph.inputs:
        lo, hi = graph.values[name].ends()
        x = rng.integers(lo, hi + 1, size=(FRAMES, *graph.values[name].shape))
        x[0], x[1] = lo, hi
        x[2:5] = np.where(rng.integers(0, 2, size=x[2:5].shape), lo, hi)
        feeds[name] = x
    return feeds


def folds_of(examples: list[Example]) -> dict[str, Fold]:
    """The foldings that examples bring."""
    return {f"y{i}": example.fold for i, example in enumerate(examples) if example.fold}


EVERYTHING = graph_of([example for _, example in EXAMPLES])


def label(value: object) -> str:
    return f"{value.op.kind}: {value.label}" if isinstance(value, Example) else ""


each_example = pytest.mark.parametrize("example", [example for _, example in EXAMPLES], ids=label)


def assert_bounded(graph: Graph, values: dict[str, IntArray]) -> None:
    for name, x in values.items():
        lo, hi = graph.values[name].ends()
        assert (x >= lo).all(), name
        assert (x <= hi).all(), name


@each_example
def test_the_graph_checks(example: Example) -> None:
    graph = graph_of([example])
    graph.check()
    out = graph.values["y0"]
    assert out.hull in out.dtype.range
    lanes = lanes_of(graph, complete(graph, {}) | folds_of([example]))
    assert all(count >= 1 for count in cycles_of(graph, lanes).values())
    assert set(lanes) == ({"y0"} if example.op.hardware else set())


@each_example
def test_the_reference_is_onnxruntime_and_stays_in_bounds(example: Example) -> None:
    graph = graph_of([example])
    feeds = samples(graph)
    expected = run(graph, feeds, every_value=True)
    assert expected["y0"].shape == (FRAMES, *graph.values["y0"].shape)
    assert_bounded(graph, expected)
    rendered = OnnxRun(graph)(feeds)
    np.testing.assert_array_equal(rendered["y0"], expected["y0"])


@each_example
def test_a_batch_is_its_samples(example: Example) -> None:
    graph = graph_of([example])
    feeds = samples(graph)
    together = run(graph, feeds)["y0"]
    for i in range(3):
        np.testing.assert_array_equal(run(graph, {n: x[i : i + 1] for n, x in feeds.items()})["y0"][0], together[i])


@each_example
def test_claimed_bounds_are_attained(example: Example) -> None:
    """The witnesses of each channel lie inside the input bounds, and the reference takes them to both ends."""
    graph = graph_of([example])
    for channel, interval in enumerate(graph.values["y0"].bounds):
        attained = example.op.witnesses(example.inputs, channel)
        if attained is None:
            assert example.op.kind in ("rearrange", "window", "view"), (
                "only operators that move integers may claim nothing"
            )
            return
        for end, expected in zip(attained, (interval.lo, interval.hi), strict=True):
            names = graph.nodes[0].inputs
            feeds = {name: np.ascontiguousarray(x)[None] for name, x in zip(names, end, strict=True)}
            assert all(np.array_equal(feeds[name][0], x) for name, x in zip(names, end, strict=True))
            assert (run(graph, feeds)["y0"][..., channel] == expected).all()


def test_bounds_of_moved_integers_are_attained_too() -> None:
    """What only moves integers claims no witnesses; with every input at an end, each channel still meets its bounds."""
    for op, example in EXAMPLES:
        if op.kind not in ("rearrange", "window", "view"):
            continue
        graph = graph_of([example])
        lo, hi = graph.values["x0_0"].ends()
        shape = graph.values["x0_0"].shape
        ends = run(graph, {"x0_0": np.stack([np.broadcast_to(lo, shape), np.broadcast_to(hi, shape)])})["y0"]
        out_lo, out_hi = graph.values["y0"].ends()
        axes = tuple(range(ends.ndim - 1))
        np.testing.assert_array_equal(ends.min(axis=axes), out_lo, err_msg=example.label)
        np.testing.assert_array_equal(ends.max(axis=axes), out_hi, err_msg=example.label)


# C simulation: one design with every example, compiled once per build.


LANES = lanes_of(EVERYTHING, complete(EVERYTHING, {}, multipliers=6) | folds_of([example for _, example in EXAMPLES]))


def write_design(folder: Path, graph: Graph = EVERYTHING, lanes: dict[str, Lanes] = LANES) -> None:
    feeds = samples(graph)
    flow = emit.dataflow(graph, lanes)
    files = emit.firmware(graph, flow, lanes, "contract", {"sideband": 0, "control": "s_axilite"})
    files |= emit.testbench(graph, flow, lanes, "contract", feeds, run(graph, feeds))
    files |= {f"firmware/broadaxe/{p.name}": p.read_text() for p in resources.folder("hw").glob("*.hpp")}
    sim = resources.folder("hw") / "sim"
    files |= {f"tb/sim/{p.relative_to(sim).as_posix()}": p.read_text() for p in sim.rglob("*.h")}
    for name, text in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


@pytest.mark.parametrize("mode", [Mode.EXACT, Mode.NATIVE], ids=lambda mode: mode.value)
def test_c_simulation_equals_the_reference(
    once: Callable[[str, Callable[[Path], None]], Path], unoptimised: None, mode: Mode
) -> None:
    """Every value that a stream carries, and every output, is the reference's."""
    if mode is Mode.EXACT and ap_types() is None:
        pytest.skip("exact build: ap_int headers are missing; pip install hls4ml==1.3.0 brings them")
    graph, folder = EVERYTHING, once("contract", write_design)
    graph.check()
    simulator = Simulator.of(folder, "contract", graph, emit.dataflow(graph, LANES), mode, traced=True)
    feeds = samples(graph)
    expected = run(graph, feeds, every_value=True)
    got = simulator.run(feeds)
    assert set(got) == set(graph.outputs)
    for node in graph.nodes:
        np.testing.assert_array_equal(got[node.output], expected[node.output], err_msg=f"{node.op.kind}: {node.origin}")
    traced = simulator.trace(feeds)
    for name, values in traced.items():
        np.testing.assert_array_equal(values, (expected | feeds)[name], err_msg=name)
    assert set(traced) >= {node.output for node in graph.nodes if node.op.hardware}


# The same for every number of lanes that a kernel can have.


def every_variant(kinds: Callable[[str], bool]) -> tuple[Graph, dict[str, Lanes]]:
    """Each example as often as its kernel has variants, and the lanes of each copy."""
    copies: list[Example] = []
    lanes: list[Lanes] = []
    for op, example in EXAMPLES:
        if op.hardware and kinds(op.kind):
            found = example.op.variants(example.inputs, infer("y", example.op, example.inputs))
            copies += [example] * len(found)
            lanes += found
    return graph_of(copies), {f"y{i}": own for i, own in enumerate(lanes)}


def assert_simulated(folder: Path, graph: Graph, lanes: dict[str, Lanes]) -> None:
    write_design(folder, graph, lanes)
    simulator = Simulator.of(folder, "contract", graph, emit.dataflow(graph, lanes), Mode.NATIVE, traced=True)
    feeds = samples(graph)
    expected, got = run(graph, feeds), simulator.run(feeds)
    for node in graph.nodes:
        message = f"{node.op.kind}: {node.origin}, {lanes[node.name]}"
        np.testing.assert_array_equal(got[node.output], expected[node.output], err_msg=message)


def test_windows_of_every_number_of_lanes(tmp_path: Path, unoptimised: None) -> None:
    """Up to all taps of a patch in one word."""
    graph, lanes = every_variant(lambda kind: kind == "window")
    assert any(own.written > own.read for own in lanes.values())
    assert_simulated(tmp_path, graph, lanes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted({op.kind for op in OPS if op.hardware and op.kind != "window"}))
def test_every_number_of_lanes(tmp_path: Path, unoptimised: None, kind: str) -> None:
    assert_simulated(tmp_path, *every_variant(lambda own: own == kind))


@each_example
def test_cycles_are_those_of_the_trace(example: Example) -> None:
    """In every variant: the loop's trips, and the words of a frame on either side in ascending trips."""
    if not example.op.hardware:
        return
    out = infer("y", example.op, example.inputs)
    for lanes in example.op.variants(example.inputs, out):
        trace = example.op.trace(example.inputs, out, lanes)
        assert trace.trips == example.op.cycles(example.inputs, out, lanes)
        assert len(trace.writes) == out.size // lanes.written
        for x, reads in zip(example.inputs, trace.reads, strict=True):
            assert len(reads) == x.size // lanes.read
            assert (np.diff(reads) > 0).all()
        assert (np.diff(trace.writes) > 0).all()


# Registration


def test_every_operator_is_registered_once_with_its_file_template_and_examples() -> None:
    kinds, homes = [op.kind for op in OPS], [op.__module__ for op in OPS]
    assert len(set(kinds)) == len(kinds)
    assert len(set(homes)) == len(homes)
    assert all(home.startswith("broadaxe.ops.") for home in homes)
    assert all(list(op.examples()) for op in OPS)
    templates = resources.folder("templates") / "ops"
    assert {p.name.removesuffix(".cpp.jinja") for p in templates.iterdir()} == {op.kind for op in OPS if op.hardware}


def test_generated_sources_include_kernels_that_exist() -> None:
    flow = emit.dataflow(EVERYTHING, LANES)
    files = emit.firmware(EVERYTHING, flow, LANES, "contract", {"sideband": 0, "control": "s_axilite"})
    kernels = {p.name for p in resources.folder("hw").glob("*.hpp")}
    for node in EVERYTHING.nodes:
        if node.op.hardware:
            included = set(re.findall(r'#include "broadaxe/(.*)"', files[f"firmware/{node.name}.hpp"]))
            assert included, node.origin
            assert included <= kernels, node.origin


def test_every_operator_class_is_registered() -> None:
    def concrete(cls: type) -> set[type]:
        below = set().union(*map(concrete, cls.__subclasses__()))
        return below if isabstract(cls) else {cls, *below}

    assert {cls for cls in concrete(Op) if cls.__module__.startswith("broadaxe.")} == set(OPS)


def test_example_labels_are_unique() -> None:
    labels = [(op.kind, example.label) for op, example in EXAMPLES]
    assert len(set(labels)) == len(labels)
