"""Divide every row of weights by what its weights have in common."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from broadaxe.chain import spread
from broadaxe.ir import Graph, constant_array, infer
from broadaxe.ops.mac import Mac
from broadaxe.ops.requantize import Requantize


def divide_rows(graph: Graph) -> Graph:
    """Divide each row of a multiply-accumulate layer by the greatest common divisor of its weights.

    Requires: every accumulator starts at 0.
    Ensures: the weights of a row share no divisor above 1 wherever only requantizers read the accumulator; they take the
    divisor into their chains, so the graph's integer function is unchanged up to that factor. Rows of zeros stay.

    sum_i (g * w_i) * x_i = g * sum_i w_i * x_i: the accumulator needs floor(log2 g) fewer bits or one less than that saved.
    """
    values, nodes = dict(graph.values), list(graph.nodes)
    for position, node in enumerate(graph.nodes):
        readers = graph.consumers(node.output)
        if not isinstance(node.op, Mac) or node.output in graph.outputs:
            continue
        if not readers or not all(isinstance(reader.op, Requantize) for reader in readers):
            continue
        divisors = np.gcd.reduce(node.op.weights, axis=1)
        divisors[divisors == 0] = 1
        if (divisors == 1).all():
            continue
        changes: dict[str, Any] = {"weights": constant_array(node.op.weights // divisors[:, None])}
        op = replace(node.op, **changes)
        value = graph.values[node.output]
        factors = tuple(Fraction(int(d)) for d in divisors)
        scale, shift, factor = spread(value.scale, value.shift, factors)
        divided = infer(value.name, op, graph.inputs_of(node))
        scales = tuple(s * g for s, g in zip(scale, factor, strict=True))
        values[value.name] = replace(divided, scale=scales, shift=shift)
        nodes[position] = replace(node, op=op)
        for reader in readers:
            assert isinstance(reader.op, Requantize)
            at = next(i for i, other in enumerate(nodes) if other.name == reader.name)
            nodes[at] = replace(nodes[at], op=reader.op.read_as(factors, (Fraction(0),)))
    return replace(graph, values=values, nodes=tuple(nodes))
