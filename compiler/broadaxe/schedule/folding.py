"""PE and SIMD of each multiply-accumulate layer, and the lanes of every kernel and stream that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd, prod

from broadaxe.errors import RequestError
from broadaxe.ir import Graph, Lanes, Node
from broadaxe.ops.matvec import MatVec

WIDEST_WORD = 4096
DEFAULT_MULTIPLIERS = 64


@dataclass(frozen=True)
class Fold:
    """`pe` output channels and `simd` inputs a cycle."""

    pe: int
    simd: int


def divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def default_folding(graph: Graph, multipliers: int = DEFAULT_MULTIPLIERS) -> dict[str, Fold]:
    """A balanced folding: the layer with most work gets about `multipliers` lanes, the others as many as keep up with it.

    Each layer takes the fewest PE * SIMD whose cycles do not pass the target, the squarest among equals.
    """
    layers = [(node, node.op) for node in graph.nodes if isinstance(node.op, MatVec)]
    work = {n.name: prod(graph.values[n.output].shape[:-1]) * op.outputs * op.depth for n, op in layers}
    target = -(-max(work.values(), default=1) // multipliers)
    return {node.name: _smallest(graph, node, op, work[node.name], target) for node, op in layers}


def _smallest(graph: Graph, node: Node, op: MatVec, work: int, target: int) -> Fold:
    read, written = graph.inputs_of(node)[0].dtype.width, graph.values[node.output].dtype.width
    folds = [
        Fold(pe, simd)
        for pe in divisors(op.outputs)
        for simd in divisors(op.depth)
        if pe * written <= WIDEST_WORD and simd * read <= WIDEST_WORD
    ]
    enough = [f for f in folds if work // (f.pe * f.simd) <= target]
    return min(enough or folds, key=lambda f: (f.pe * f.simd if enough else -f.pe * f.simd, abs(f.pe - f.simd)))


def complete(graph: Graph, given: Mapping[str, Fold], multipliers: int = DEFAULT_MULTIPLIERS) -> dict[str, Fold]:
    """The default folding with the given layers replaced; RequestError where one does not fit its layer."""
    folding = default_folding(graph, multipliers)
    for name, fold in given.items():
        if name not in folding:
            raise RequestError(f"folding: there is no layer {name!r}; layers are {', '.join(folding)}")
        op = next(node.op for node in graph.nodes if node.name == name)
        assert isinstance(op, MatVec)
        for label, value, total in (("pe", fold.pe, op.outputs), ("simd", fold.simd, op.depth)):
            if value < 1 or total % value:
                raise RequestError(f"folding: {name}: {label} is {value}; it has to divide {total}")
        folding[name] = fold
    return folding


def lanes_of(graph: Graph, folding: Mapping[str, Fold]) -> dict[str, Lanes]:
    """Lanes of every node that becomes a kernel.

    A layer reads SIMD and writes PE elements a word. Any other kernel has as many lanes as the layer that reads it can take,
    or else as its producer gives, limited to a divisor of its channels.
    """
    lanes: dict[str, Lanes] = {}
    for node in graph.nodes:
        (x, *_), out = graph.inputs_of(node), graph.values[node.output]
        if node.name in folding:
            lanes[node.name] = Lanes(folding[node.name].simd, folding[node.name].pe)
        elif node.op.hardware:
            channels = gcd(x.channels, out.channels)
            wish = _reader_lanes(graph, node, folding) or _producer_lanes(graph, node, lanes) or channels
            count = gcd(channels, wish)
            lanes[node.name] = Lanes(count, count)
        else:
            continue
        for label, value, count in (("reads", x, lanes[node.name].read), ("writes", out, lanes[node.name].written)):
            if count * value.dtype.width > WIDEST_WORD:
                raise RequestError(
                    f"folding: {node.name} {label} words of {count * value.dtype.width} bits; at most {WIDEST_WORD} are"
                    " possible, lower pe or simd"
                )
    return lanes


def _reader_lanes(graph: Graph, node: Node, folding: Mapping[str, Fold]) -> int | None:
    for reader in graph.consumers(node.output):
        if reader.name in folding:
            return folding[reader.name].simd
        if not reader.op.hardware:
            return _reader_lanes(graph, reader, folding)
    return None


def _producer_lanes(graph: Graph, node: Node, lanes: Mapping[str, Lanes]) -> int | None:
    producer = graph.producer(node.inputs[0])
    while producer is not None and not producer.op.hardware:
        producer = graph.producer(producer.inputs[0])
    return lanes[producer.name].written if producer is not None else None


def cycles_of(graph: Graph, lanes: Mapping[str, Lanes]) -> dict[str, int]:
    """Loop trips of each kernel for one frame: cycles at II = 1, pipeline fill apart."""
    return {
        node.name: node.op.cycles(graph.inputs_of(node), graph.values[node.output], lanes[node.name])
        for node in graph.nodes
        if node.name in lanes
    }
