"""PE and SIMD of each multiply-accumulate layer, and the lanes of every kernel and stream that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd, prod
from typing import Any

from broadaxe.errors import RequestError
from broadaxe.hardware import DSP48E1, Dsp, Multiplier
from broadaxe.ir import WIDEST_WORD, Fold, Graph, Lanes, Node, Value, divisors
from broadaxe.ops.mac import Accumulating

DEFAULT_MULTIPLIERS = 64


@dataclass(frozen=True)
class Given:
    """What a user says of a kernel: PE, SIMD and, unless that is left open, what multiplies, or the lanes of its wider word."""

    pe: int = 0
    simd: int = 0
    multiplier: Multiplier | None = None
    lanes: int = 0


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
    graph: Graph,
    given: Mapping[str, Given],
    multipliers: int = DEFAULT_MULTIPLIERS,
    where: Callable[[str], str] = "folding: {}".format,
    dsp: Dsp = DSP48E1,
) -> dict[str, Fold]:
    """The default folding with the given layers replaced; RequestError where one does not fit its layer."""
    folding = default_folding(graph, multipliers)
    ops = {node.name: node.op for node in graph.nodes}
    for name, lanes in pinned(graph, given, where, dsp).items():
        op = ops[name]
        if isinstance(op, Accumulating):
            folding[name] = fold_of(op, lanes[0])
    return folding


def pinned(
    graph: Graph,
    given: Mapping[str, Given],
    where: Callable[[str], str] = "folding: {}".format,
    dsp: Dsp = DSP48E1,
) -> dict[str, list[Lanes]]:
    """The lanes that each of the given kernels may still have; RequestError where what is given does not fit it.

    Args:
        where: what a message opens with, by kernel.
    """
    kernels = {node.name: node for node in graph.nodes if node.op.hardware}
    layers = {name: node.op for name, node in kernels.items() if isinstance(node.op, Accumulating)}
    out: dict[str, list[Lanes]] = {}
    for name, choice in given.items():
        kind, known = ("kernel", list(kernels)) if choice.lanes else ("layer", list(layers))
        if name not in known:
            raise RequestError(f"{where(name)}: there is no such {kind}; {kind}s are {', '.join(known)}")
        if not choice.lanes:
            inputs = graph.inputs_of(kernels[name])
            out[name] = _pinned_layer(layers[name], inputs, choice, dsp, where(name))
            continue
        if name in layers:
            raise RequestError(f"{where(name)}: is a layer, lanes {choice.lanes} do not say enough; give pe and simd")
        possible = kernels[name].op.variants(graph.inputs_of(kernels[name]), graph.values[kernels[name].output])
        out[name] = [lanes for lanes in possible if lanes.wider == choice.lanes]
        if not out[name]:
            allowed = _short(sorted({lanes.wider for lanes in possible}))
            raise RequestError(f"{where(name)}: lanes {choice.lanes} are not possible; lanes may be {allowed}")
    return out


def _pinned_layer(op: Accumulating, inputs: Sequence[Value], given: Given, dsp: Dsp, where: str) -> list[Lanes]:
    possible = op.foldings()
    alike = [f for f in possible if (f.pe, f.simd) == (given.pe, given.simd)]
    if not alike:
        part, value = ("simd", given.simd) if given.pe in {f.pe for f in possible} else ("pe", given.pe)
        alike = [f for f in possible if part == "pe" or f.pe == given.pe]
        allowed = _short(sorted({getattr(f, part) for f in alike}))
        raise RequestError(f"{where}: {part} {value} does not divide the layer; {part} may be {allowed}")
    offered = op.multipliers(inputs, alike[0], dsp)
    kept = [m for m in offered if given.multiplier in (None, m)]
    if not kept:
        raise RequestError(
            f"{where}: multiplier {given.multiplier} does not fit the layer; multiplier may be {', '.join(offered)}"
        )
    return [op.lanes(replace(alike[0], multiplier=m, dsp=dsp)) for m in kept]


def fold_of(op: Accumulating, lanes: Lanes) -> Fold:
    """The folding of a layer that has these lanes."""
    folds = (replace(fold, multiplier=lanes.multiplier, dsp=lanes.dsp) for fold in op.foldings())
    return next(fold for fold in folds if op.lanes(fold) == lanes)


def lanes_of(
    graph: Graph, folding: Mapping[str, Fold], given: Mapping[str, Sequence[Lanes]] | None = None
) -> dict[str, Lanes]:
    """Lanes of every node that becomes a kernel, by rule where they are not given.

    A layer reads SIMD and writes PE elements a word. Any other kernel has as many lanes as the layer that reads it can take,
    or else as its producer gives, limited to the largest divisor of its channels with which its words are possible.
    """
    lanes: dict[str, Lanes] = {}
    for node in graph.nodes:
        inputs, out = graph.inputs_of(node), graph.values[node.output]
        if node.name in folding:
            assert isinstance(node.op, Accumulating)
            lanes[node.name] = node.op.lanes(folding[node.name])
        elif given and node.name in given:
            lanes[node.name] = given[node.name][0]
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


def folding_entries(folding: Mapping[str, Fold], lanes: Mapping[str, Lanes]) -> dict[str, dict[str, Any]]:
    """A folding as the settings take it, every kernel."""
    return {
        name: {"pe": fold.pe, "simd": fold.simd, "multiplier": fold.multiplier}
        if (fold := folding.get(name)) is not None
        else {"lanes": own.wider}
        for name, own in lanes.items()
    }
