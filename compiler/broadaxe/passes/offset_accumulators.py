"""Start every accumulator at a constant that centres its interval."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from broadaxe.chain import spread
from broadaxe.ir import Graph, Node, Value, constant_array, infer
from broadaxe.ops.mac import Accumulating
from broadaxe.ops.requantize import Requantize


def offset_accumulators(graph: Graph) -> Graph:
    """Start every accumulator at a constant that puts its interval where the fewest bits hold it.

    Requires: every accumulator has bounds and starts at 0.
    Ensures: an accumulator whose only readers are requantizers, or the host, has max(1, bit_length(hi - lo)) bits in its
    widest channel wherever that is fewer than two's complement needs; the graph's integer function is unchanged up to
    that start, which the requantizer takes back out of its chain, and the host out of its own.

    With the sum in [lo, hi] and P = bit_length(hi - lo), start = -(lo + 2**(P - 1)) puts sum + start into
    [-2**(P - 1), 2**(P - 1) - 1]. Channels that fit the layer's width as they are keep start = 0.
    """
    values, nodes = dict(graph.values), list(graph.nodes)
    for position, node in enumerate(graph.nodes):
        if not isinstance(node.op, Accumulating) or not absorbed(graph, node):
            continue
        op, value = node.op, graph.values[node.output]
        width = max(interval.offset_width for interval in value.bounds)
        if width >= value.dtype.width:
            continue
        half = 1 << (width - 1)
        starts = [
            0 if -half <= interval.lo and interval.hi < half else -(interval.lo + half) for interval in value.bounds
        ]
        centred = op.starting_at(constant_array(starts))
        values[value.name] = moved(infer(value.name, centred, graph.inputs_of(node)), value, starts)
        nodes[position] = replace(node, op=centred)
        for reader in graph.consumers(node.output):
            assert isinstance(reader.op, Requantize)
            at = graph.nodes.index(reader)
            nodes[at] = replace(reader, op=reader.op.moved(np.array(starts, dtype=np.int64)))
    return replace(graph, values=values, nodes=tuple(nodes))


def absorbed(graph: Graph, node: Node) -> bool:
    """Whether everything that reads the accumulator can take a constant per channel back out."""
    return all(isinstance(reader.op, Requantize) for reader in graph.consumers(node.output))


def moved(value: Value, before: Value, starts: list[int]) -> Value:
    """The same reals: real = scale * (q - start) + shift."""
    scale, shift, back = spread(before.scale, before.shift, tuple(Fraction(s) for s in starts))
    return replace(value, scale=scale, shift=tuple(b - a * s for a, b, s in zip(scale, shift, back, strict=True)))
