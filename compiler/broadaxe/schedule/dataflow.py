"""The dataflow top level: ports, streams and the calls between them.

Every identifier is one of the graph's own names, never a name from the model file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import gcd
from typing import Any

from broadaxe.ir import Graph, Lanes, Node, Value


@dataclass(frozen=True)
class Port:
    """An AXI-Stream port: `beats` a frame, each of `lanes` elements packed from bit 0 into `bits` bits."""

    name: str
    value: str
    shape: tuple[int, ...]
    lanes: int
    width: int
    beats: int
    type: str

    @property
    def bits(self) -> int:
        """Data width of a beat, whole bytes."""
        return -(-self.lanes * self.width // 8) * 8

    @property
    def size(self) -> int:
        """Elements in a frame."""
        return self.lanes * self.beats


@dataclass(frozen=True)
class Stream:
    """A FIFO between two processes; `type` is the lane type's name."""

    name: str
    type: str
    lanes: int
    depth: int = 2


DEALER = "deal"
"""The process that deals parameters out."""


@dataclass(frozen=True)
class Parameters:
    """The FIFO that brings a loadable kernel its parameters: one word in every frame, and `words` in one that loads."""

    name: str
    node: str
    words: int
    depth: int = 2


@dataclass
class Dataflow:
    """The top level: ports, streams and the calls between them, in order.

    `sources` names the stream that carries each value with its producer's lanes; `parameters` are there if weights can be
    loaded, in the order in which the kernels take them from the one port.
    """

    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    sources: dict[str, Stream] = field(default_factory=dict)
    parameters: list[Parameters] = field(default_factory=list)


def dataflow(graph: Graph, lanes: Mapping[str, Lanes]) -> Dataflow:
    """Connect the kernels: copies where a value has several readers, lane changers where word sizes differ."""
    return _Wiring(graph, lanes).flow


def with_depths(flow: Dataflow, depths: Mapping[str, int]) -> Dataflow:
    """The same top level with other FIFO depths, in words; those of parameters are named as far as there are any."""
    streams = {s.name: replace(s, depth=depths[s.name]) for s in flow.streams}
    sources = {value: streams[s.name] for value, s in flow.sources.items()}
    parameters = [replace(p, depth=depths[p.name]) for p in flow.parameters]
    return replace(flow, streams=list(streams.values()), sources=sources, parameters=parameters)


class _Wiring:
    def __init__(self, graph: Graph, lanes: Mapping[str, Lanes]) -> None:
        self.graph, self.lanes, self.flow = graph, lanes, Dataflow()
        self.readers: dict[str, list[tuple[str, int]]] = {}
        self.waiting: dict[tuple[str, str], str] = {}
        for node in graph.nodes:
            if node.op.hardware:
                for position, value in enumerate(node.inputs):
                    self._reads(value, _reader(node, position), lanes[node.name].read)
        for position, name in enumerate(graph.outputs):
            self._reads(name, f"out{position}", 0)
        for position, name in enumerate(graph.inputs):
            self._input(position, graph.values[name])
        for node in graph.nodes:
            if node.op.hardware:
                sources = [self.waiting[self._stream_of(v), _reader(node, i)] for i, v in enumerate(node.inputs)]
                out = self._stream(f"s_{node.name}", graph.values[node.output], lanes[node.name].written)
                self._call("node", node.name, sources, [out.name], name=node.name, parameters=self._parameters(node))
                self._produced(node.output, out)
        for position, name in enumerate(graph.outputs):
            self._output(position, self._stream_of(name), graph.values[name])

    def _stream_of(self, value: str) -> str:
        """The value whose stream this is: views are another name for their input's."""
        producer = self.graph.producer(value)
        while producer is not None and not producer.op.hardware:
            value = producer.inputs[0]
            producer = self.graph.producer(value)
        return value

    def _parameters(self, node: Node) -> str | None:
        """The stream of a loadable node's parameters, None of others."""
        if not node.op.loadable:
            return None
        inputs, out = self.graph.inputs_of(node), self.graph.values[node.output]
        words = node.op.parameters(inputs, out, self.lanes[node.name]).size
        self.flow.parameters.append(Parameters(f"p_{node.name}", node.name, words))
        return self.flow.parameters[-1].name

    def _reads(self, value: str, reader: str, count: int) -> None:
        self.readers.setdefault(self._stream_of(value), []).append((reader, count))

    def _stream(self, name: str, value: Value, count: int) -> Stream:
        stream = Stream(name, f"{value.name}_t", count)
        self.flow.streams.append(stream)
        return stream

    def _call(self, what: str, process: str, reads: list[str], writes: list[str], **sizes: Any) -> None:
        """A call of the top level: what the template needs, its process' name, and the streams it reads and writes."""
        self.flow.calls.append({"what": what, "process": process, "reads": reads, "writes": writes, **sizes})

    def _input(self, position: int, value: Value) -> None:
        count = next((n for _, n in self.readers.get(value.name, []) if n), 1)
        count = gcd(count, value.channels)
        port = Port(
            f"in{position}", value.name, value.shape, count, value.dtype.width, value.size // count, str(value.dtype)
        )
        stream = self._stream(f"s_{value.name}", value, count)
        self.flow.inputs.append(port)
        self._call("read", f"read {port.name}", [], [stream.name], port=port, type=stream.type, count=port.beats)
        self._produced(value.name, stream)

    def _output(self, position: int, source: str, value: Value) -> None:
        stream = self.flow.sources[source]
        port = Port(
            f"out{position}",
            value.name,
            value.shape,
            stream.lanes,
            value.dtype.width,
            value.size // stream.lanes,
            str(value.dtype),
        )
        self.flow.outputs.append(port)
        at = self.waiting[source, f"out{position}"]
        self._call("write", f"write {port.name}", [at], [], port=port, type=stream.type, count=port.beats)

    def _produced(self, name: str, stream: Stream) -> None:
        """Give each reader of a value a stream of its own, with the lanes it reads."""
        self.flow.sources[name] = stream
        value, readers = self.graph.values[name], self.readers.get(name, [])
        current = stream
        for position, (reader, count) in enumerate(readers):
            branch = current
            if position < len(readers) - 1:
                words = value.size // stream.lanes
                branch = self._stream(f"s_{name}_to_{reader}", value, stream.lanes)
                rest = self._stream(f"s_{name}_after_{reader}", value, stream.lanes)
                copies = [branch.name, rest.name]
                self._call(
                    "copy", branch.name, [current.name], copies, type=stream.type, lanes=stream.lanes, count=words
                )
                current = rest
            self.waiting[name, reader] = self._with_lanes(branch, value, reader, count or stream.lanes).name

    def _with_lanes(self, stream: Stream, value: Value, reader: str, count: int) -> Stream:
        """The stream in words of `count` lanes, by way of their common divisor where neither divides the other."""
        for target in (gcd(stream.lanes, count), count):
            if target == stream.lanes:
                continue
            changed = self._stream(f"{stream.name}_x{target}_{reader}", value, target)
            sizes = {"type": stream.type, "read": stream.lanes, "written": target, "count": value.size}
            self._call("lanes", changed.name, [stream.name], [changed.name], **sizes)
            stream = changed
        return stream


def _reader(node: Node, position: int) -> str:
    """A name for one input of a node, unique among readers."""
    return node.name if position == 0 else f"{node.name}_{position}"
