"""No kernel limits a layer more than its products, its words in and its words out do; the slowest sets the network's rate."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest

from broadaxe import build as builds
from broadaxe.lower import lower
from broadaxe.ops.grouped import GroupedMatVec
from broadaxe.ops.matvec import MatVec
from broadaxe.ops.rearrange import Rearrange
from broadaxe.ops.window import LAG, SlidingWindow
from broadaxe.passes import pipeline, run_passes
from broadaxe.schedule.network import EDGE_STAGES, network_of
from broadaxe.schedule.targets import Request, planned

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))
MOST_BYTES = 5_000_000
"""Of the sources of a network like MobileNetV1."""


def integer_graph(model: onnx.ModelProto):
    return run_passes(lower(model, {}).graph, pipeline({}))


def fashion():
    return integer_graph(builds.load_model(EXAMPLES / "fashion_mnist_cnn.onnx")[0])


def allowed(graph, node, lanes):
    """Trips that a kernel may take: the greatest of its products over PE x SIMD, words in with padding, and words out; fill."""
    inputs, out = graph.inputs_of(node), graph.values[node.output]
    written = out.size // lanes.written
    op = node.op
    if isinstance(op, SlidingWindow):
        height, width, channels = inputs[0].shape
        top, left, bottom, right = op.pads
        row = (width + left + right) * channels // lanes.read
        extent = [(k - 1) * d + 1 for k, d in zip(op.kernel, op.dilation, strict=True)]
        return max((height + top + bottom) * row, written) + (extent[0] + 1) * row + extent[1] + LAG
    read = max(x.size // lanes.read for x in inputs)
    if isinstance(op, MatVec):
        vectors = out.size // op.outputs
        return max(op.outputs // lanes.written * (op.depth // lanes.read) * vectors, read, written)
    if isinstance(op, GroupedMatVec) and not op.depthwise:
        vectors = out.size // op.outputs
        products = op.outputs // lanes.written * (op.depth // lanes.read) * vectors
        return max(products, read, written) + inputs[0].channels // lanes.read
    fill = op.ring(inputs[0], lanes.read) + LAG if isinstance(op, Rearrange) else 0
    return max(read, written) + fill


def assert_rates(graph, plan):
    flow = builds.dataflow(graph, plan.lanes)
    network = network_of(graph, plan.lanes, flow)
    assert network.interval == plan.ii == max(p.period for p in network.processes)
    for node in graph.nodes:
        if node.op.hardware:
            inputs, out = graph.inputs_of(node), graph.values[node.output]
            trips = node.op.cycles(inputs, out, plan.lanes[node.name])
            assert trips <= allowed(graph, node, plan.lanes[node.name]), node.name
    for call in flow.calls:  # lane changers: no more than the narrower of both words
        if call["what"] == "lanes":
            process = network.named[call["process"]]
            assert process.period == call["count"] // min(call["read"], call["written"]) + EDGE_STAGES


def test_every_target_of_the_committed_network_is_met_by_every_kernel():
    graph = fashion()
    fastest = folded(graph, None)
    intervals = []
    for plan in (fastest, *(folded(graph, fastest.ii * factor) for factor in (2, 10, 60))):
        assert_rates(graph, plan)
        intervals.append(plan.ii)
    assert intervals == sorted(set(intervals))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cnv_w2a2", "mobilenet_v1", "resnet20", "unet"])
def test_every_target_of_the_example_networks_is_met(name):
    pytest.importorskip("brevitas", reason="brevitas is missing; pip install broadaxe[brevitas]")
    networks = pytest.importorskip("networks")
    graph = integer_graph(builds.load_model(networks.model(name))[0])
    fastest = folded(graph, None)
    assert_rates(graph, fastest)
    for factor in (4, 64):
        plan = folded(graph, fastest.ii * factor)
        assert plan.ii <= fastest.ii * factor
        assert_rates(graph, plan)


@pytest.mark.slow
def test_sources_are_small(tmp_path):
    pytest.importorskip("brevitas", reason="brevitas is missing; pip install broadaxe[brevitas]")
    networks = pytest.importorskip("networks")
    build = builds.compile(networks.model("mobilenet_v1"), tmp_path / "build")
    sources = [p for p in (build.path / "firmware").rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in sources) < MOST_BYTES


def folded(graph, cycles):
    return planned(graph, Request(cycles, {}, None, 5.0), {})
