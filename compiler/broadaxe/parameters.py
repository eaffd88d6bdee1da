"""Parameters of a design whose weights are loaded at run time: the words that fill its memories.

A design of `weights: runtime` has memories instead of constants: weights and starts of every layer, thresholds, bases and
directions of every requantizer. One AXI-Stream port, `parameters`, fills them all before a frame that is called with `load`
set (hw/parameters.hpp). parameters.bin holds what to send: 64-bit words, little-endian, one for each beat, kernels in the
order of the dataflow, of each kernel its memories in the order in which its header in firmware/ loads them, of each
memory its elements in the order of its dimensions, the last one fastest. Words are two's complement where the memory's type
is signed. Weights are packed as in a design with fixed ones; a start counts modulo 2**P for an accumulator of P bits.

    words = parameters_of(graph, lanes)     of a graph that `reserve_budgets` has made
    packed(words)                           the bytes of parameters.bin

What may be loaded is decided elsewhere, and twice: `broadaxe.loading` lowers a model and holds every layer against its budget;
`broadaxe.prove.checker` reads the bytes back with code of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from broadaxe.errors import GraphError
from broadaxe.ir import Graph, IntArray, Lanes, Op, constant_array
from broadaxe.ops.budget import Budgeted
from broadaxe.ops.loadable_requantize import LoadableRequantize


def parameters_of(graph: Graph, lanes: Mapping[str, Lanes]) -> IntArray:
    """What a graph's loadable operators hold, as the words that load it: uint64, shape (words,)."""
    parts = [
        node.op.parameters(graph.inputs_of(node), graph.values[node.output], lanes[node.name])
        for node in graph.nodes
        if node.op.loadable
    ]
    return np.concatenate([np.zeros(0, dtype=np.uint64), *parts])


def packed(words: IntArray) -> bytes:
    """Words as the bytes of parameters.bin."""
    return words.astype("<u8").tobytes()


def turned_over(graph: Graph) -> Graph:
    """The graph with the channels of every loadable operator in reverse: other parameters that fit the budgets as well.

    A test loads them: no memory of more than one channel keeps what it held. A layer that its rows do not fit the other way
    round, since its groups read inputs of other intervals, keeps them as they are.
    """
    nodes = []
    for node in graph.nodes:
        op: Op = node.op
        if isinstance(op, Budgeted):
            changes: dict[str, Any] = {
                "weights": constant_array(op.weights[::-1]),
                "start": constant_array(op.start[::-1]),
            }
            op = replace(op, **changes)
        elif isinstance(op, LoadableRequantize):
            form = op.thresholds
            rows: dict[str, Any] = {
                name: constant_array(getattr(form, name)[::-1]) for name in ("base", "direction", "thresholds")
            }
            op = replace(op, form=replace(form, **rows))
        try:
            op.bounds(*graph.inputs_of(node))
        except GraphError:
            op = node.op
        nodes.append(replace(node, op=op))
    return replace(graph, nodes=tuple(nodes))
