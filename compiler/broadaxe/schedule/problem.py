"""What a folding decides: for every kernel a choice of lanes, and for every stream what joins the words of both ends.

A graph becomes kernels with choices, each with its cycles and its resources, and links between a kernel that writes words of w
lanes and one that reads words of r. A link costs nothing where w = r, else lane changers. Ports and copies belong to a
kernel: a copy and an output port have the words of what they read, an input port those that its first reader shares with
a pixel.

Cycles are those of `broadaxe.schedule.network`, from a frame's first beat to that of the next one at best: the trips of a
kernel's one loop and the stages of its pipeline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from math import gcd

import numpy as np
import numpy.typing as npt

from broadaxe.hardware import Resources
from broadaxe.ir import WIDEST_WORD, Graph, Lanes, Node, Value, divisors
from broadaxe.ops import costs
from broadaxe.schedule.dataflow import DEALER
from broadaxe.schedule.network import DEAL_CYCLES, EDGE_STAGES
from broadaxe.schedule.resources import PARAMETER_BITS, copier, dealt, reader, writer

KINDS = ("lut", "ff", "dsp", "bram18", "uram")
"""Fields of `Resources`, in the order in which arrays hold them."""
STREAM_DEPTH = 2
"""Words of a FIFO before its depth is known: how deep it has to be follows from the folding."""
NEVER = 1 << 62
"""Cycles of words that cannot meet."""
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


@dataclass(frozen=True, eq=False)
class Table:
    """A link for all words of both ends.

    Attributes:
        writes, reads: distinct lanes, ascending.
        cycles: shape (writes, reads); NEVER where the words cannot meet.
        resources: shape (writes, reads, 5).
    """

    writes: Ints
    reads: Ints
    cycles: Ints
    resources: Floats


@dataclass(frozen=True)
class Problem:
    """Kernels and links, in the order of the graph; `join` gives the resources of a link under lanes written and read."""

    kernels: tuple[Kernel, ...]
    links: tuple[Link, ...]
    join: Callable[[Link, int, int], Resources]

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        return tuple(map(self._table, self.links))

    def _table(self, link: Link) -> Table:
        writes, reads = np.unique(self.kernels[link.source].written), np.unique(self.kernels[link.reader].read)
        cycles = np.full((len(writes), len(reads)), NEVER, dtype=np.int64)
        amounts = np.zeros((len(writes), len(reads), len(KINDS)))
        for i, j in np.ndindex(*cycles.shape):
            written, read = int(writes[i]), int(reads[j])
            count = link.cycles(written, read)
            if count is not None:
                cycles[i, j], amounts[i, j] = count, vector(self.join(link, written, read))
        return Table(writes, reads, cycles, amounts)

    def candidates(self) -> Ints:
        """Every number of cycles that a kernel or a lane changer can have, ascending: the network's II is one of them."""
        found = np.unique(np.concatenate([*(k.cycles for k in self.kernels), *(t.cycles.ravel() for t in self.tables)]))
        return np.asarray(found[(found > 0) & (found < NEVER)])


def join_resources(link: Link, written: int, read: int) -> Resources:
    """The FIFO that a link is, of two words, and the lane changers on the way with theirs."""
    return _joined(link.width, link.size, written, link.changes(written, read) or ())


@cache
def _joined(width: int, size: int, written: int, steps: tuple[tuple[int, int], ...]) -> Resources:
    found = costs.fifo(written * width, STREAM_DEPTH)
    for a, b in steps:
        found = found + costs.lane_changer(a, b, width, size // min(a, b)) + costs.fifo(b * width, STREAM_DEPTH)
    return found


def kernel_resources(graph: Graph, node: Node, lanes: Lanes) -> Resources:
    """What the model of a node's operator says."""
    return node.op.resources(graph.inputs_of(node), graph.values[node.output], lanes)


def _outlets(value: Value, lanes: int, readers: int, ports: int) -> Resources:
    """Output ports with their FIFOs, and a copier with one more FIFO for each reader but one."""
    bits, words = lanes * value.dtype.width, value.size // lanes
    fifo = costs.fifo(bits, STREAM_DEPTH)
    found = Resources()
    for _ in range(ports):
        found = found + writer(-(-bits // 8) * 8, words) + fifo
    for _ in range(readers + ports - 1):
        found = found + copier(bits, words) + fifo
    return found


def problem_of(
    graph: Graph,
    fixed: Mapping[str, Sequence[Lanes]],
    held: Mapping[str, int] | None = None,
    price: Callable[[Graph, Node, Lanes], Resources] = kernel_resources,
    join: Callable[[Link, int, int], Resources] = join_resources,
) -> Problem:
    """The choices of a graph.

    Args:
        fixed: the choices of nodes that are not free.
        held: pipeline stages that a tool has reported, by node, instead of the assumed ones.
        price: resources of a node's kernel under given lanes.
        join: resources of a link, given lanes written and read.
    """
    held = held or {}
    ports = Counter(source_of(graph, name) for name in graph.outputs)
    readers = Counter(source_of(graph, name) for n in graph.nodes if n.op.hardware for name in n.inputs)
    kernels: list[Kernel] = []
    links: list[Link] = []
    at: dict[str, int] = {}
    for position, name in enumerate(graph.inputs):
        at[name] = len(kernels)
        kernels.append(_port(f"in{position}", graph.values[name], readers[name], ports[name]))
    for node in graph.nodes:
        if not node.op.hardware:
            continue
        inputs, out = graph.inputs_of(node), graph.values[node.output]
        around = (readers[out.name], ports[out.name])
        choices = tuple(fixed.get(node.name) or node.op.variants(inputs, out))
        cycles = []
        for lanes in choices:
            stages = held.get(node.name, node.op.stages(inputs, out, lanes))
            cycles.append(node.op.cycles(inputs, out, lanes) + stages)
            if sum(around) > 1 or around[1]:  # copiers or ports
                cycles[-1] = max(cycles[-1], out.size // lanes.written + EDGE_STAGES)
        links += _links(graph, node, len(kernels), at, {link.source for link in links})
        at[node.output] = len(kernels)
        with_ports = partial(_priced, partial(price, graph, node), out, *around)
        kernels.append(Kernel(node.name, choices, np.array(cycles, dtype=np.int64), with_ports))
    words = sum(n.op.loadable for n in graph.nodes)
    if words:
        spent = costs.times(costs.fifo(PARAMETER_BITS, STREAM_DEPTH) + dealt(1), words)
        dealing = np.array([DEAL_CYCLES * words], dtype=np.int64)
        kernels.append(Kernel(DEALER, (Lanes(1, 1),), dealing, lambda _: spent, node=False))
    return Problem(tuple(kernels), tuple(links), join)


def _priced(own: Callable[[Lanes], Resources], value: Value, readers: int, ports: int, lanes: Lanes) -> Resources:
    return own(lanes) + _outlets(value, lanes.written, readers, ports)


def source_of(graph: Graph, value: str) -> str:
    """The value whose stream this is: a view is another name for its input's."""
    producer = graph.producer(value)
    while producer is not None and not producer.op.hardware:
        value = producer.inputs[0]
        producer = graph.producer(value)
    return value


def _port(name: str, value: Value, readers: int, outputs: int) -> Kernel:
    """An input port; one that no kernel reads has words of one lane."""

    def price(lanes: Lanes) -> Resources:
        bits = -(-lanes.written * value.dtype.width // 8) * 8
        return reader(bits, value.size // lanes.written) + _outlets(value, lanes.written, readers, outputs)

    counts = [d for d in divisors(value.channels) if d * value.dtype.width <= WIDEST_WORD and (readers or d == 1)]
    cycles = np.array([value.size // d + EDGE_STAGES for d in counts], dtype=np.int64)
    return Kernel(name, tuple(Lanes(d, d) for d in counts), cycles, price, node=False)


def _links(graph: Graph, node: Node, reader: int, at: Mapping[str, int], read: set[int]) -> Iterator[Link]:
    """The streams that a node reads; `read` are the kernels that others read before it."""
    for position, name in enumerate(node.inputs):
        source = source_of(graph, name)
        value, earlier = graph.values[source], {source_of(graph, n) for n in node.inputs[:position]}
        first = source in graph.inputs and at[source] not in read and source not in earlier
        yield Link(f"{source} to {node.name}", at[source], reader, value.size, value.dtype.width, first, value.channels)
