"""What a folding decides: for every kernel a choice of lanes, and for every stream what joins the words of both ends.

A graph becomes kernels with choices, each with its cycles and its resources, and links between a kernel that writes words of w
lanes and one that reads words of r. A link costs nothing where w = r, else lane changers. Ports and copies belong to a
kernel: a copy and an output port have the words of what they read, an input port those that its first reader shares with
a pixel.

Cycles are those of `broadaxe.schedule.network`, from a frame's first beat to that of the next one at best: the trips of a
kernel's one loop and the stages of its pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import gcd

import numpy as np
import numpy.typing as npt

from broadaxe.hardware import Resources
from broadaxe.ir import WIDEST_WORD, Graph, Lanes, Node, Value, divisors
from broadaxe.schedule.network import EDGE_STAGES

KINDS = ("lut", "ff", "dsp", "bram18", "uram")
"""Fields of `Resources`, in the order in which arrays hold them."""
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def vector(resources: Resources) -> Floats:
    """Resources as an array, shape (5,)."""
    return np.array([getattr(resources, kind) for kind in KINDS], dtype=np.float64)


def resources_of(amounts: Floats) -> Resources:
    """The reverse of `vector`."""
    lut, ff, dsp, bram18, uram = amounts.tolist()
    return Resources(lut, ff, round(dsp), round(bram18), round(uram))


@dataclass(frozen=True, eq=False)
class Kernel:
    """One kernel, or the port of an input, and the choices that it has.

    Attributes:
        name: of the node, or of the port.
        choices: lanes.
        cycles: of each choice, shape (choices,).
        price: resources of a choice.
        node: whether it is a node's, not a port.
    """

    name: str
    choices: tuple[Lanes, ...]
    cycles: Ints
    price: Callable[[Lanes], Resources]
    node: bool = True
    _prices: dict[int, Floats] = field(default_factory=dict)

    @property
    def read(self) -> Ints:
        return np.array([lanes.read for lanes in self.choices], dtype=np.int64)

    @property
    def written(self) -> Ints:
        return np.array([lanes.written for lanes in self.choices], dtype=np.int64)

    def resources(self, choice: int) -> Floats:
        """Resources of a choice, shape (5,); models may take their time, so each is asked for once."""
        if choice not in self._prices:
            self._prices[choice] = vector(self.price(self.choices[choice]))
        return self._prices[choice]


@dataclass(frozen=True)
class Link:
    """A stream of `size` elements of `width` bits a frame, from kernel `source` to kernel `reader` by position.

    `port` says that the source is an input port, whose words are what this, its first reader, shares with `pixel` channels.
    """

    name: str
    source: int
    reader: int
    size: int
    width: int
    port: bool = False
    pixel: int = 0

    def changes(self, written: int, read: int) -> tuple[tuple[int, int], ...] | None:
        """Lane changers on the way, each (from, to) lanes; None where these words cannot meet."""
        if self.port and written != gcd(read, self.pixel):
            return None
        common = gcd(written, read)
        return tuple((a, b) for a, b in ((written, common), (common, read)) if a != b)

    def cycles(self, written: int, read: int) -> int | None:
        """Of the slowest lane changer, 0 without any."""
        steps = self.changes(written, read)
        return None if steps is None else max((self.size // min(step) + EDGE_STAGES for step in steps), default=0)


@dataclass(frozen=True)
class Problem:
    """Kernels and links, in the order of the graph."""

    kernels: tuple[Kernel, ...]
    links: tuple[Link, ...]
    change: Callable[[int, int, int], Resources]

    def join(self, link: Link, written: int, read: int) -> Floats:
        """Resources of a link's lane changers, shape (5,)."""
        steps = link.changes(written, read) or ()
        return sum((vector(self.change(a, b, link.width)) for a, b in steps), np.zeros(len(KINDS)))

    def candidates(self) -> Ints:
        """Every number of cycles that a kernel or a lane changer can have, ascending: the network's II is one of them."""
        found = {int(count) for kernel in self.kernels for count in kernel.cycles}
        for link in self.links:
            writes, reads = (
                set(self.kernels[link.source].written.tolist()),
                set(self.kernels[link.reader].read.tolist()),
            )
            found |= {count for w in writes for r in reads if (count := link.cycles(w, r))}
        return np.array(sorted(found), dtype=np.int64)


def change_resources(written: int, read: int, width: int) -> Resources:
    """A lane changer's model: its shift register, and in front of each bit that is loaded or shifted a multiplexer."""
    wide, narrow = max(written, read), min(written, read)
    return Resources(lut=(wide - narrow) * width + 8, ff=wide * width + 8)


def kernel_resources(graph: Graph, node: Node, lanes: Lanes) -> Resources:
    """What the model of a node's operator says."""
    return node.op.resources(graph.inputs_of(node), graph.values[node.output], lanes)


def problem_of(
    graph: Graph,
    fixed: Mapping[str, Sequence[Lanes]],
    held: Mapping[str, int] | None = None,
    price: Callable[[Graph, Node, Lanes], Resources] = kernel_resources,
    change: Callable[[int, int, int], Resources] = change_resources,
) -> Problem:
    """The choices of a graph.

    Args:
        fixed: the choices of nodes that are not free.
        held: pipeline stages that a tool has reported, by node, instead of the assumed ones.
        price: resources of a node's kernel under given lanes.
        change: resources of a lane changer, given lanes on both sides and the width of one.
    """
    held = held or {}
    outputs = {source_of(graph, name) for name in graph.outputs}
    kernels: list[Kernel] = []
    links: list[Link] = []
    at: dict[str, int] = {}
    readers: dict[str, int] = dict.fromkeys(graph.values, 0)
    for name in (*(v for node in graph.nodes if node.op.hardware for v in node.inputs), *graph.outputs):
        readers[source_of(graph, name)] += 1
    for position, name in enumerate(graph.inputs):
        at[name] = len(kernels)
        kernels.append(_port(f"in{position}", graph.values[name], read=bool(readers[name])))
    for node in graph.nodes:
        if not node.op.hardware:
            continue
        inputs, out = graph.inputs_of(node), graph.values[node.output]
        choices = tuple(fixed.get(node.name) or node.op.variants(inputs, out))
        cycles = []
        for lanes in choices:
            stages = held.get(node.name, node.op.stages(inputs, out, lanes))
            cycles.append(node.op.cycles(inputs, out, lanes) + stages)
            if node.output in outputs or readers[node.output] > 1:  # an output port, or copies
                cycles[-1] = max(cycles[-1], out.size // lanes.written + EDGE_STAGES)
        links += _links(graph, node, len(kernels), at, {link.source for link in links})
        at[node.output] = len(kernels)
        kernels.append(Kernel(node.name, choices, np.array(cycles, dtype=np.int64), partial(price, graph, node)))
    return Problem(tuple(kernels), tuple(links), change)


def source_of(graph: Graph, value: str) -> str:
    """The value whose stream this is: a view is another name for its input's."""
    producer = graph.producer(value)
    while producer is not None and not producer.op.hardware:
        value = producer.inputs[0]
        producer = graph.producer(value)
    return value


def _port(name: str, value: Value, read: bool) -> Kernel:
    """An input port; one that no kernel reads has words of one lane."""
    counts = [d for d in divisors(value.channels) if d * value.dtype.width <= WIDEST_WORD and (read or d == 1)]
    cycles = np.array([value.size // d + EDGE_STAGES for d in counts], dtype=np.int64)
    return Kernel(name, tuple(Lanes(d, d) for d in counts), cycles, lambda _: Resources(), node=False)


def _links(graph: Graph, node: Node, reader: int, at: Mapping[str, int], read: set[int]) -> Iterator[Link]:
    """The streams that a node reads; `read` are the kernels that others read before it."""
    for position, name in enumerate(node.inputs):
        source = source_of(graph, name)
        value, earlier = graph.values[source], {source_of(graph, n) for n in node.inputs[:position]}
        first = source in graph.inputs and at[source] not in read and source not in earlier
        yield Link(f"{source} to {node.name}", at[source], reader, value.size, value.dtype.width, first, value.channels)
