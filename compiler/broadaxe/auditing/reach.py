"""Layers that read inputs of the network directly: exact ends of their sums, position by position, and inputs that attain them.

Between such a layer and the inputs there are only operators that move integers. Each position of the layer then reads known
elements of the inputs, which are free of each other, and pad codes, which are fixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from broadaxe.auditing.design import Layer
from broadaxe.ir import Bounds, Graph, IntArray
from broadaxe.ops.concat import Concat
from broadaxe.ops.rearrange import Rearrange
from broadaxe.ops.view import View
from broadaxe.ops.window import SlidingWindow
from broadaxe.types import Interval

MOVERS = (View, SlidingWindow, Rearrange, Concat)
MARK = np.int64(1) << 40
"""Tags start here, far from any pad code."""
MOST = 1 << 28
"""Products over all positions that are looked at one by one."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What a layer reads at each position.

    Attributes:
        sources: index of each operand in the inputs laid end to end, -1 for a pad code; shape (positions, vector).
        codes: the pad codes there, 0 elsewhere.
        starts: where each graph input begins among the inputs laid end to end.
    """

    layer: Layer
    graph: Graph
    sources: IntArray
    codes: IntArray
    starts: Mapping[str, int]
    lo: IntArray
    hi: IntArray

    def ends(self) -> tuple[IntArray, IntArray]:
        """Least and greatest operand at each position, shape (positions, vector)."""
        outside = self.sources < 0
        return np.where(outside, self.codes, self.lo[self.sources]), np.where(
            outside, self.codes, self.hi[self.sources]
        )

    def sums(self) -> tuple[IntArray, IntArray]:
        """Exact ends of each sum, shape (positions, outputs)."""
        lo, hi = self.ends()
        index, weights = self.layer.op.operand_indices(), self.layer.op.weights
        up, down = np.maximum(weights, 0), np.minimum(weights, 0)
        if len(index) == 1:
            low, high = lo[:, index[0]], hi[:, index[0]]
            return low @ up.T + high @ down.T, high @ up.T + low @ down.T
        least, most = np.empty((2, len(lo), len(weights)), dtype=np.int64)
        for output, row in enumerate(index):
            low, high = lo[:, row], hi[:, row]
            least[:, output] = low @ up[output] + high @ down[output]
            most[:, output] = high @ up[output] + low @ down[output]
        return least, most

    def bounds(self) -> Bounds:
        """Exact ends of each channel's sum over all positions and all inputs."""
        least, most = self.sums()
        return tuple(Interval(a, b) for a, b in zip(least.min(axis=0).tolist(), most.max(axis=0).tolist(), strict=True))

    def attaining(self, channel: int, high: bool) -> dict[str, IntArray]:
        """Codes of every graph input, batch of 1, that attain an end of a channel's sum; the rest stays at its least."""
        least, most = self.sums()
        position = int((most if high else -least)[:, channel].argmax())
        index = self.layer.op.operand_indices()
        row = index[channel if len(index) > 1 else 0]
        flat, sources = self.lo.copy(), self.sources[position, row]
        weights = self.layer.op.weights[channel] * (1 if high else -1)
        free = sources >= 0
        flat[sources[free]] = np.where(weights[free] > 0, self.hi[sources[free]], self.lo[sources[free]])
        return self.split(flat)

    def split(self, flat: IntArray) -> dict[str, IntArray]:
        out = {}
        for name, start in self.starts.items():
            value = self.graph.values[name]
            out[name] = flat[start : start + value.size].reshape(1, *value.shape)
        return out


def reading(graph: Graph, layer: Layer) -> Reading | None:
    """What a layer reads of the inputs; None where more than movement stands between, or a sum reads an element twice."""
    positions = layer.out.size // layer.op.outputs
    if positions * layer.op.weights.size > MOST:
        return None
    tags: dict[str, IntArray] = {}
    starts, lows, highs, total = {}, [], [], 0
    for name in graph.inputs:
        value = graph.values[name]
        starts[name] = total
        tags[name] = (MARK + total + np.arange(value.size)).reshape(1, *value.shape)
        lo, hi = value.ends()
        lows.append(np.broadcast_to(lo, value.shape).reshape(-1))
        highs.append(np.broadcast_to(hi, value.shape).reshape(-1))
        total += value.size
    needed = ancestors(graph, layer.node.inputs[0])
    for node in graph.nodes:
        if node.output in needed:
            if not isinstance(node.op, MOVERS):
                return None
            tags[node.output] = node.op.reference(*(tags[name] for name in node.inputs))
    seen = tags[layer.node.inputs[0]].reshape(positions, -1)
    sources = np.where(seen >= MARK, seen - MARK, -1)
    for row in layer.op.operand_indices():
        picked = np.sort(sources[:, row], axis=1)
        if ((picked[:, 1:] == picked[:, :-1]) & (picked[:, 1:] >= 0)).any():
            return None
    return Reading(
        layer, graph, sources, np.where(seen >= MARK, 0, seen), starts, np.concatenate(lows), np.concatenate(highs)
    )


def ancestors(graph: Graph, value: str) -> set[str]:
    """The values that a value is computed from, itself included, inputs left out."""
    needed = {value}
    for node in reversed(graph.nodes):
        if node.output in needed:
            needed.update(node.inputs)
    return needed - set(graph.inputs)


def exact_sums(graph: Graph, layer: Layer) -> Bounds:
    """Ends of each channel's sum: attained by the network's inputs where the layer reads these, else by its own operands."""
    direct = reading(graph, layer)
    return layer.sums if direct is None else direct.bounds()
