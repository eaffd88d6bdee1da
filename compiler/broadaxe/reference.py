"""The bit-accurate reference: the integer graph in numpy, batch after batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from broadaxe.errors import RequestError, elements_of
from broadaxe.ir import Graph, IntArray, carrier

WORKING_SET = 1 << 20
"""Elements of the largest value that one block of samples may hold: what stays in a cache is fast."""

KEPT = 1 << 26
"""Elements of all values of all inputs that a comparison may hold at a time, each in several executions."""


def run(
    graph: Graph,
    inputs: Mapping[str, IntArray],
    every_value: bool = False,
    progress: Callable[[str], None] | None = None,
) -> dict[str, IntArray]:
    """Compute the graph's outputs (or every value) on integer inputs of shape (batch, *shape).

    `progress` is called with the name of each node before it is computed.

    Raises RequestError where an input is missing, misshapen, or holds an integer outside its proven bounds.
    """
    feeds = {name: _feed(graph, name, inputs) for name in graph.inputs}
    batches = {len(x) for x in feeds.values()}
    if len(batches) != 1:
        raise RequestError(f"inputs: batch sizes differ, {sorted(batches)}; give as many samples for each input")
    (batch,) = batches
    keep = [v for v in graph.values if v not in graph.inputs] if every_value else list(graph.outputs)
    largest = max(value.size for value in graph.values.values())
    block = max(1, min(batch, WORKING_SET // largest))
    parts = [
        _block(graph, {n: x[at : at + block] for n, x in feeds.items()}, keep, progress)
        for at in range(0, max(batch, 1), block)
    ]
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in keep}


def frames_at_once(graph: Graph, most: int) -> int:
    """How many inputs to keep every value of, `most` or fewer: what they hold together is bounded."""
    return max(1, min(most, KEPT // sum(value.size for value in graph.values.values())))


def _feed(graph: Graph, name: str, inputs: Mapping[str, IntArray]) -> IntArray:
    value = graph.values[name]
    if name not in inputs:
        raise RequestError(f"input {name}: is missing; give {', '.join(graph.inputs)}")
    x = np.asarray(inputs[name])
    if x.dtype.kind not in "iu":
        raise RequestError(f"input {name}: holds {elements_of(x.dtype)}; codes are integers, quantize the data first")
    if x.shape[1:] != value.shape:
        raise RequestError(f"input {name}: shape {x.shape}; give (batch, {', '.join(map(str, value.shape))})")
    lo, hi = value.ends()
    if x.size and ((x < lo).any() or (x > hi).any()):
        raise RequestError(f"input {name}: holds integers outside its bounds {value.hull}; clip or quantize the data")
    return x.astype(carrier(value.dtype))


def _block(
    graph: Graph, feeds: dict[str, IntArray], keep: list[str], progress: Callable[[str], None] | None
) -> dict[str, IntArray]:
    live = dict(feeds)
    last_use = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    wanted = set(keep)
    for i, node in enumerate(graph.nodes):
        if progress is not None:
            progress(node.name)
        out = node.op.reference(*(live[name] for name in node.inputs))
        live[node.output] = out.astype(carrier(graph.values[node.output].dtype), copy=False)
        for name in node.inputs:
            if last_use[name] == i and name not in wanted:
                live.pop(name, None)
    return {name: live[name] for name in keep}
