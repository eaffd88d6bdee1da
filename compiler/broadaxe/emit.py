"""From the integer graph to HLS C++: one header per kernel, a dataflow top level, a testbench.

All C++ stands in templates/; this module only decides which streams there are, how many lanes each has, and what connects
them. Every identifier is one of the graph's own names, never a name from the model file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import gcd
from typing import Any

import jinja2
import numpy as np

from broadaxe import resources
from broadaxe.ir import Graph, IntArray, Lanes, Node, Value
from broadaxe.ops.mac import Accumulating
from broadaxe.ops.requantize import Requantize
from broadaxe.prove.certificate import witness_channel
from broadaxe.version import __version__

STREAM_DEPTH = 2


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
    depth: int = STREAM_DEPTH


@dataclass
class Dataflow:
    """The top level: ports, streams and the calls between them, in order.

    `sources` names the stream that carries each value with its producer's lanes.
    """

    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    sources: dict[str, Stream] = field(default_factory=dict)


def dataflow(graph: Graph, lanes: Mapping[str, Lanes]) -> Dataflow:
    """Connect the kernels: copies where a value has several readers, lane changers where word sizes differ."""
    return _Wiring(graph, lanes).flow


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
                self.flow.calls.append({"what": "node", "name": node.name, "sources": sources, "out": out.name})
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

    def _reads(self, value: str, reader: str, count: int) -> None:
        self.readers.setdefault(self._stream_of(value), []).append((reader, count))

    def _stream(self, name: str, value: Value, count: int, depth: int = STREAM_DEPTH) -> Stream:
        stream = Stream(name, f"{value.name}_t", count, depth)
        self.flow.streams.append(stream)
        return stream

    def _input(self, position: int, value: Value) -> None:
        count = next((n for _, n in self.readers.get(value.name, []) if n), 1)
        count = gcd(count, value.channels)
        port = Port(
            f"in{position}", value.name, value.shape, count, value.dtype.width, value.size // count, str(value.dtype)
        )
        stream = self._stream(f"s_{value.name}", value, count)
        self.flow.inputs.append(port)
        self.flow.calls.append({"what": "read", "port": port, "type": stream.type, "out": stream.name})
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
        self.flow.calls.append({"what": "write", "port": port, "type": stream.type, "source": at})

    def _produced(self, name: str, stream: Stream) -> None:
        """Give each reader of a value a stream of its own, with the lanes it reads.

        A stream that is one of several copies holds a whole frame: the copier can then always finish a frame, so that a
        join further down, whose other side needs the frame's end first, cannot stall it. No deadlock, whatever the branches.
        """
        self.flow.sources[name] = stream
        value, readers = self.graph.values[name], self.readers.get(name, [])
        current = stream
        for position, (reader, count) in enumerate(readers):
            branch = current
            if position < len(readers) - 1:
                words = value.size // stream.lanes
                branch = self._stream(f"s_{name}_to_{reader}", value, stream.lanes, words)
                rest = self._stream(f"s_{name}_after_{reader}", value, stream.lanes, words)
                self.flow.calls.append(
                    {"what": "copy", "type": stream.type, "lanes": stream.lanes, "count": words}
                    | {"source": current.name, "out": branch.name, "other": rest.name}
                )
                current = rest
            self.waiting[name, reader] = self._with_lanes(branch, value, reader, count or stream.lanes).name

    def _with_lanes(self, stream: Stream, value: Value, reader: str, count: int) -> Stream:
        """The stream in words of `count` lanes, by way of their common divisor where neither divides the other."""
        for target in (gcd(stream.lanes, count), count):
            if target == stream.lanes:
                continue
            changed = self._stream(f"{stream.name}_x{target}_{reader}", value, target)
            self.flow.calls.append(
                {"what": "lanes", "type": stream.type, "read": stream.lanes, "written": target, "count": value.size}
                | {"source": stream.name, "out": changed.name}
            )
            stream = changed
        return stream


def _reader(node: Node, position: int) -> str:
    """A name for one input of a node, unique among readers."""
    return node.name if position == 0 else f"{node.name}_{position}"


def firmware(
    graph: Graph, flow: Dataflow, lanes: Mapping[str, Lanes], top: str, options: Mapping[str, Any]
) -> dict[str, str]:
    """The generated sources, by path inside the build folder; kernel headers are not included.

    Args:
        options: `sideband` (0 for Vitis HLS, 1 for Vivado HLS) and `control` (s_axilite or ap_ctrl_none).
    """
    templates = _environment()
    common = {"top": top, "version": __version__, "inputs": flow.inputs, "outputs": flow.outputs, **options}
    nodes = [node for node in graph.nodes if node.op.hardware]
    files = {
        "firmware/types.hpp": templates.get_template("firmware/types.hpp.jinja").render(values=graph.values.values()),
        f"firmware/{top}.hpp": templates.get_template("firmware/top.hpp.jinja").render(common),
        f"firmware/{top}.cpp": templates.get_template("firmware/top.cpp.jinja").render(
            common, nodes=[node.name for node in nodes], streams=flow.streams, calls=flow.calls
        ),
    }
    for node in nodes:
        inputs, output = graph.inputs_of(node), graph.values[node.output]
        files[f"firmware/{node.name}.hpp"] = templates.get_template("firmware/node.hpp.jinja").render(
            name=node.name,
            kind=node.op.kind,
            version=__version__,
            in_type=f"{inputs[0].name}_t",
            in_types=[f"{value.name}_t" for value in inputs],
            out_type=f"{output.name}_t",
            **node.op.template_context(inputs, output, lanes[node.name]),
        )
    return files


def testbench(
    graph: Graph,
    flow: Dataflow,
    lanes: Mapping[str, Lanes],
    top: str,
    inputs: Mapping[str, IntArray],
    outputs: Mapping[str, IntArray],
) -> dict[str, str]:
    """Testbench, simulation library, witness harness, and test vectors with their expected outputs."""
    templates = _environment()
    common = {"top": top, "inputs": flow.inputs, "outputs": flow.outputs}
    files = {
        f"tb/{name}": templates.get_template(f"tb/{name}.jinja").render(common)
        for name in ("beats.hpp", "testbench.cpp", "library.cpp")
    }
    layers = [_witnesses(graph, node, node.op, lanes) for node in graph.nodes if isinstance(node.op, Accumulating)]
    files["tb/witness.cpp"] = templates.get_template("tb/witness.cpp.jinja").render(layers=layers)
    files["tb/vectors.dat"] = _vectors(graph, inputs, outputs)
    return files


def _vectors(graph: Graph, inputs: Mapping[str, IntArray], outputs: Mapping[str, IntArray]) -> str:
    arrays = [inputs[name] for name in graph.inputs] + [outputs[name] for name in graph.outputs]
    frames = [" ".join(map(str, a[f].reshape(-1).tolist())) for f in range(len(arrays[0])) for a in arrays]
    return "\n".join([str(len(arrays[0])), *frames, ""])


def _witnesses(graph: Graph, node: Node, op: Accumulating, lanes: Mapping[str, Lanes]) -> dict[str, Any]:
    """Inputs that take the layer's widest channel to both ends, and what the layer and its requantizer make of them."""
    inputs, out = graph.inputs_of(node), graph.values[node.output]
    channel = witness_channel(op.attained(*inputs))
    attained = op.witnesses(inputs, channel)
    assert attained is not None
    # of one input each vector is a witness of its own; two inputs meet all over a frame, which then holds one witness
    vectors = {x.name: x.size // x.channels for x in (*inputs, out)}
    alone = len(inputs) == 1
    shared = [
        np.stack([end[i] if not alone else end[i].reshape(-1, x.channels)[:1] for end in attained])
        for i, x in enumerate(inputs)
    ]
    sums = op.reference(*(x.astype(np.int64) for x in shared)).reshape(2, -1, op.outputs)[:, 0]
    layer: dict[str, Any] = {
        "name": node.name,
        "streams": [
            {
                "type": f"{x.name}_t",
                "depth": x.channels,
                "vectors": vectors[x.name],
                "run": 1 if alone else vectors[x.name],
                "rows": rows.reshape(2, -1, x.channels)[:, 0].tolist(),
            }
            for x, rows in zip(inputs, shared, strict=True)
        ],
        "outputs": op.outputs,
        "vectors": vectors[out.name],
        "run": 1 if alone else vectors[out.name],
        "frames": 1 if alone and vectors[out.name] > 1 else 2,  # both witnesses, also where a frame holds one
        "simd": lanes[node.name].read,
        "pe": lanes[node.name].written,
        "out_type": f"{out.name}_t",
        "width": out.dtype.width,
        "sums": sums.tolist(),
        "reader": None,
    }
    for reader in graph.consumers(node.output):
        if isinstance(reader.op, Requantize):
            codes = reader.op.reference(sums.reshape(2, *[1] * (len(out.shape) - 1), op.outputs))
            layer |= {
                "reader": reader.name,
                "reader_lanes": lanes[reader.name].read,
                "code_type": f"{graph.values[reader.output].name}_t",
                "codes": codes.reshape(2, -1).tolist(),
            }
            break
    return layer


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(resources.folder("templates")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # C++, not HTML; no text of the model file reaches a template
    )
    environment.filters["numbers"] = _numbers
    return environment


def _numbers(values: Sequence[Any], suffix: str) -> str:
    """Integers as C++ literals; nested lists as nested braces. The lowest long long has no literal of its own.

    By way of JSON, whose encoder is quick: a memory holds up to millions of words.
    """
    text = json.dumps(values)[1:-1]
    if suffix:
        text = re.sub(r"\d+", rf"\g<0>{suffix}", text)
        text = text.replace("-9223372036854775808LL", "(-9223372036854775807LL - 1)")
    return text.replace("], [", "},\n{").replace("[", "{").replace("]", "}")
