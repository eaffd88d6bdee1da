"""PE and SIMD of each multiply-accumulate layer, and the lanes of every kernel and stream that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd, prod

from broadaxe.errors import RequestError
from broadaxe.ir import Fold, Graph, Lanes, Node, divisors
from broadaxe.ops.mac import Accumulating

WIDEST_WORD = 4096
DEFAULT_MULTIPLIERS = 64


def default_folding(graph: Graph, multipliers: int = DEFAULT_MULTIPLIERS) -> dict[str, Fold]:
    """A balanced folding: the layer with most work gets about `multipliers` lanes, the others as many as keep up with it.

    Each layer takes the fewest PE * SIMD with which neither it nor the kernel that feeds it passes the target, the
    squarest among equals.
    """
    layers = [(node, node.op) for node in graph.nodes if isinstance(node.op, Accumulating)]
    work = {n.name: prod(graph.values[n.output].shape[:-1]) * op.outputs * op.depth for n, op in layers}
    target = -(-max(work.values(), default=1) // multipliers)
    return {node.name: _smallest(graph, node, op, work[node.name], target) for node, op in layers}


def _smallest(graph: Graph, node: Node, op: Accumulating, work: int, target: int) -> Fold:
    read, written = max(x.dtype.width for x in graph.inputs_of(node)), graph.values[node.output].dtype.width
    folds = [
        fold
        for fold in op.foldings()
        if op.lanes(fold).written * written <= WIDEST_WORD and op.lanes(fold).read * read <= WIDEST_WORD
    ]
    window = graph.producer(node.inputs[0])
    words = 0
    if (
        window is not None and window.op.hardware
    ):  # what feeds the layer has as many lanes as SIMD and its channels share
        channels = gcd(window.op.granularity, graph.inputs_of(window)[0].channels)
        words = graph.values[window.output].size

    def cycles(fold: Fold) -> int:
        feeding = -(-words // gcd(channels, op.lanes(fold).read)) if words else 0
        return max(work // (fold.pe * fold.simd), feeding)

    reachable = max(target, min(map(cycles, folds)))
    enough = [f for f in folds if cycles(f) <= reachable]
    return min(enough, key=lambda f: (f.pe * f.simd, abs(f.pe - f.simd)))


def complete(
    graph: Graph, given: Mapping[str, Fold], multipliers: int = DEFAULT_MULTIPLIERS, where: str = "folding"
) -> dict[str, Fold]:
    """The default folding with the given layers replaced; RequestError where one does not fit its layer."""
    folding = default_folding(graph, multipliers)
    for name, fold in given.items():
        if name not in folding:
            raise RequestError(f"{where}: there is no layer {name!r}; layers are {', '.join(folding)}")
        node = next(node for node in graph.nodes if node.name == name)
        op = node.op
        assert isinstance(op, Accumulating)
        possible = op.foldings()
        if not any((fold.pe, fold.simd) == (f.pe, f.simd) for f in possible):
            part, value = ("simd", fold.simd) if fold.pe in {f.pe for f in possible} else ("pe", fold.pe)
            allowed = sorted({getattr(f, part) for f in possible})
            raise RequestError(
                f"{where}: {name}: {part} {value} does not divide the layer; {part} may be {_short(allowed)}"
            )
        if fold.multiplier == "packed" and op.packing(graph.inputs_of(node), fold.dsp, fold).products < 2:
            raise RequestError(
                f"{where}: {name}: multiplier packed with pe {fold.pe} and simd {fold.simd}: no two products share a"
                f" {fold.dsp.name}; use dsp or lut"
            )
        folding[name] = fold
    return folding


def lanes_of(graph: Graph, folding: Mapping[str, Fold]) -> dict[str, Lanes]:
    """Lanes of every node that becomes a kernel.

    A layer reads SIMD and writes PE elements a word. Any other kernel has as many lanes as the layer that reads it can take,
    or else as its producer gives, limited to the largest divisor of its channels with which its words are possible.
    """
    lanes: dict[str, Lanes] = {}
    for node in graph.nodes:
        inputs, out = graph.inputs_of(node), graph.values[node.output]
        if node.name in folding:
            assert isinstance(node.op, Accumulating)
            lanes[node.name] = node.op.lanes(folding[node.name])
        elif node.op.hardware:
            channels = gcd(node.op.granularity, out.channels, *(x.channels for x in inputs))
            wish = _reader_lanes(graph, node, folding) or _producer_lanes(graph, node, lanes) or channels
            widest = max(value.dtype.width for value in (*inputs, out))
            count = max(d for d in divisors(gcd(channels, wish)) if d * widest <= WIDEST_WORD)
            lanes[node.name] = Lanes(count, count)
        else:
            continue
        read, written = lanes[node.name].read, lanes[node.name].written
        for label, value, count in (*(("reads", x, read) for x in inputs), ("writes", out, written)):
            if count * value.dtype.width > WIDEST_WORD:
                raise RequestError(
                    f"folding: {node.name} {label} words of {count * value.dtype.width} bits; at most {WIDEST_WORD} are"
                    " possible, lower pe or simd"
                )
    return lanes


def _short(values: list[int]) -> str:
    """Allowed values as text, the middle left out where there are many."""
    return ", ".join(map(str, values if len(values) <= 12 else [*values[:10], "...", values[-1]]))


def _reader_lanes(graph: Graph, node: Node, folding: Mapping[str, Fold]) -> int | None:
    for reader in graph.consumers(node.output):
        if reader.name in folding:
            assert isinstance(reader.op, Accumulating)
            return reader.op.lanes(folding[reader.name]).read
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
