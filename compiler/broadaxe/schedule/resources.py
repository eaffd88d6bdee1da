"""What every process of a design takes of a device, by model: kernels, and what the top level adds between and around them.

The figures are those of `broadaxe.ops.costs`, with what it says of their error. Of what an HLS tool adds to a dataflow region
(channels that start processes, state machines) nothing is in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broadaxe.hardware import Resources
from broadaxe.ir import Graph, Lanes
from broadaxe.ops import costs
from broadaxe.schedule.dataflow import DEALER, Dataflow, Stream

PARAMETER_BITS = 64
"""Of a word of parameters."""


def resources_of(graph: Graph, lanes: Mapping[str, Lanes], flow: Dataflow) -> dict[str, Resources]:
    """Resources of each process and FIFO, in the order of the top level; their sum is the design's.

    Args:
        lanes: of every node that is a kernel.
        flow: the top level, its streams at their final depths.

    Returns:
        By the name that the top level gives a process; of a FIFO by `fifo` and the stream's name.
    """
    widths = {stream.name: _width(graph, stream) for stream in flow.streams}
    found = {call["process"]: _process(graph, lanes, widths, call) for call in flow.calls}
    for p in flow.parameters:
        found[DEALER] = found.get(DEALER, Resources()) + dealt(p.words)
    fifos = {s.name: costs.fifo(s.lanes * widths[s.name], s.depth) for s in flow.streams}
    fifos |= {p.name: costs.fifo(PARAMETER_BITS, p.depth) for p in flow.parameters}
    return found | {f"fifo {name}": spent for name, spent in fifos.items()}


def dealt(words: int) -> Resources:
    """Model: what the dealing process takes for one kernel, a register in front of its FIFO and a counter of words."""
    return costs.registers(PARAMETER_BITS) + costs.counter(words)


def total_of(graph: Graph, lanes: Mapping[str, Lanes], flow: Dataflow) -> Resources:
    """Resources of the whole design."""
    return costs.total(resources_of(graph, lanes, flow).values())


def _process(graph: Graph, lanes: Mapping[str, Lanes], widths: Mapping[str, int], call: Mapping[str, Any]) -> Resources:
    match call["what"]:
        case "read":
            return reader(call["port"].bits, call["port"].beats)
        case "write":
            return writer(call["port"].bits, call["port"].beats)
        case "lanes":
            words = (call["read"], call["written"])
            return costs.lane_changer(*words, widths[call["writes"][0]], call["count"] // min(words))
        case "copy":
            return copier(call["lanes"] * widths[call["writes"][0]], call["count"])
    node = graph.node(call["process"])
    return node.op.resources(graph.inputs_of(node), graph.values[node.output], lanes[node.name])


def reader(bits: int, beats: int) -> Resources:
    """The two registers of an AXI-Stream port's slice, with the choice between them, and the count of beats."""
    return Resources(bits, 2 * bits) + costs.counter(beats)


def writer(bits: int, beats: int) -> Resources:
    """The same with TLAST; what keeps and strobes bytes is constant."""
    return Resources(bits + 1, 2 * (bits + 1)) + costs.counter(beats)


def copier(bits: int, words: int) -> Resources:
    """One word for two readers."""
    return costs.registers(bits) + costs.counter(words)


def _width(graph: Graph, stream: Stream) -> int:
    """Bits of a lane; a stream's type is named after its value."""
    return graph.values[stream.type.removesuffix("_t")].dtype.width
