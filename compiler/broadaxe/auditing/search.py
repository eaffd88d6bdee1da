"""Search for network inputs that drive a deep layer's sum out of its accumulator.

Hill climbing on the integer reference. Candidates are evaluated in batches; the best one is changed element by element towards
what a linear estimate of the network says would help, taken at that candidate and back from the sum nearest to leaving.
Nothing here proves that there is no such input.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from broadaxe.auditing.design import Layer
from broadaxe.auditing.reach import ancestors
from broadaxe.ir import WIDEST, Graph, IntArray
from broadaxe.ops.concat import Concat
from broadaxe.ops.mac import Mac
from broadaxe.ops.rearrange import Rearrange
from broadaxe.ops.requantize import Requantize
from broadaxe.ops.scaled_add import ScaledAdd
from broadaxe.ops.view import View
from broadaxe.ops.window import SlidingWindow
from broadaxe.ops.window_max import WindowMax
from broadaxe.reference import run

BATCH = 48
MOST_ELEMENTS = 1 << 24
"""Elements of the largest value in a batch."""
ROUNDS = 80
PAIRS = 16
"""Ends of channels that a first candidate is made for."""

Limits = Sequence[tuple[int, int] | None]
Codes = dict[str, IntArray]


@dataclass(frozen=True, eq=False)
class Found:
    """The candidate that came nearest.

    Attributes:
        codes: graph inputs, batch of 1.
        excess: by how much its sum leaves the limits; 0 or less where it does not.
        tried: candidates evaluated.
    """

    codes: Codes
    excess: int
    tried: int


def search(
    graph: Graph,
    layer: Layer,
    limits: Limits,
    risky: Sequence[tuple[int, bool]],
    first: Mapping[str, IntArray] | None = None,
    *,
    seconds: float,
    seed: int,
) -> Found:
    """Look for inputs whose sum leaves a layer's limits.

    Args:
        limits: least and greatest sum that the accumulator of each channel holds.
        risky: (channel, upper end) of the sums that may leave them, the worst first.
        first: graph inputs that are tried before any other, batch first.
        seconds: time after which no further round starts.
    """
    return _Climb(graph, layer, limits, risky, seed).run(first, time.monotonic() + seconds)


def variants(
    graph: Graph, layer: Layer, limits: Limits, codes: Mapping[str, IntArray], *, count: int, seed: int
) -> list[Codes]:
    """Other inputs whose sums leave the limits too: some of the elements of one that does are moved to an end or anywhere."""
    climb = _Climb(graph, layer, limits, (), seed)
    share = np.geomspace(1 / 2, 1 / 256, climb.batch)
    moved: Codes = {}
    for name, (lo, hi) in climb.ends.items():
        shape = (climb.batch, *lo.shape)
        flips = climb.rng.random(shape) < share.reshape(-1, *[1] * lo.ndim)
        anywhere = climb.rng.integers(lo, hi + 1, size=shape)
        moved[name] = np.where(flips, anywhere, codes[name])
    at = np.flatnonzero(climb.beyond(moved) > 0)[:count]
    return [
        {name: moved[name][i : i + 1] if name in moved else codes[name] for name in graph.inputs} for i in at.tolist()
    ]


class _Climb:
    def __init__(
        self, graph: Graph, layer: Layer, limits: Limits, risky: Sequence[tuple[int, bool]], seed: int
    ) -> None:
        self.layer, self.risky, self.rng = layer, risky, np.random.default_rng(seed)
        needed = ancestors(graph, layer.node.output)
        nodes = tuple(node for node in graph.nodes if node.output in needed)
        read = {name for node in nodes for name in node.inputs}
        self.all_inputs = graph.inputs
        inputs = tuple(name for name in graph.inputs if name in read)
        values = {name: graph.values[name] for name in (*inputs, *needed)}
        self.graph = Graph("part", inputs, nodes, (layer.node.output,), values)
        self.values = graph.values
        big = 1 << WIDEST
        held = [(-big, big) if pair is None else pair for pair in limits]
        self.low = np.array([max(-big, min(big, lo)) for lo, _ in held], dtype=np.int64)
        self.high = np.array([max(-big, min(big, hi)) for _, hi in held], dtype=np.int64)
        self.ends = {
            name: tuple(np.broadcast_to(e, graph.values[name].shape) for e in graph.values[name].ends())
            for name in inputs
        }
        largest = max(graph.values[name].size for name in read | {layer.node.output})
        self.batch = max(4, min(BATCH, MOST_ELEMENTS // largest))
        self.best: tuple[int, Codes] | None = None
        self.tried = 0

    def run(self, first: Mapping[str, IntArray] | None, deadline: float) -> Found:
        if first is not None:
            count = len(next(iter(first.values())))
            for at in range(0, count, self.batch):
                self.look({name: first[name][at : at + self.batch] for name in self.graph.inputs})
        if self.best is None or self.excess <= 0:
            self.look(self.extremes())
        for number in range(ROUNDS):
            if self.excess > 0 or time.monotonic() > deadline:
                break
            if number == 0:
                self.look(self.aimed())
            else:
                self.look(self.neighbours(number))
        assert self.best is not None
        codes = dict(self.best[1])
        for name in self.all_inputs:
            value = self.values[name]
            codes.setdefault(name, np.broadcast_to(value.ends()[0], value.shape)[None].copy())
        return Found(codes, self.excess, self.tried)

    @property
    def excess(self) -> int:
        assert self.best is not None
        return self.best[0]

    def look(self, codes: Codes) -> None:
        """Evaluate candidates and keep the one whose sum leaves its limits most, or stays inside them least."""
        beyond = self.beyond(codes)
        index = int(beyond.argmax())
        self.tried += len(beyond)
        if self.best is None or int(beyond[index]) > self.best[0]:
            self.best = int(beyond[index]), {name: x[index : index + 1].copy() for name, x in codes.items()}

    def beyond(self, codes: Codes) -> IntArray:
        """By how much the worst sum of each candidate leaves its limits, shape (batch,)."""
        sums = run(self.graph, codes)[self.layer.node.output].astype(np.int64)
        return np.asarray(np.maximum(sums - self.high, self.low - sums).reshape(len(sums), -1).max(axis=1))

    def extremes(self) -> Codes:
        """Both constants, elements at either end with every probability between, and uniform integers."""
        out = {}
        share = np.linspace(0, 1, self.batch // 2)
        for name, (lo, hi) in self.ends.items():
            flips = self.rng.random((len(share), *lo.shape)) < share.reshape(-1, *[1] * lo.ndim)
            uniform = self.rng.integers(lo, hi + 1, size=(self.batch - len(share), *lo.shape))
            out[name] = np.concatenate([np.where(flips, hi, lo), uniform])
        return out

    def aimed(self) -> Codes:
        """For each risky end of a channel: every input element where the estimate wants it."""
        every = self.everything()
        out: dict[str, list[IntArray]] = {name: [] for name in self.graph.inputs}
        for channel, high in self.risky[: min(PAIRS, self.batch)]:
            rows = every[self.layer.node.output][0].reshape(-1, self.layer.op.outputs)
            position = int((rows if high else -rows)[:, channel].argmax())
            for name, g in self.estimate(every, position, channel, high).items():
                lo, hi = self.ends[name]
                assert self.best is not None
                out[name].append(np.where(g > 0, hi, np.where(g < 0, lo, self.best[1][name][0])))
        return {name: np.stack(x) for name, x in out.items()}

    def neighbours(self, number: int) -> Codes:
        """The best candidate with some elements moved: towards the estimate, or anywhere."""
        assert self.best is not None
        every = self.everything()
        sums = every[self.layer.node.output][0].reshape(-1, self.layer.op.outputs).astype(np.int64)
        over, under = sums - self.high, self.low - sums
        position, channel = divmod(int(np.maximum(over, under).argmax()), self.layer.op.outputs)
        high = bool(over[position, channel] >= under[position, channel])
        if number % 4 == 3 and self.risky:  # another end now and then
            channel, high = self.risky[int(self.rng.integers(len(self.risky)))]
            position = int((sums if high else -sums)[:, channel].argmax())
        wanted = self.estimate(every, int(position), int(channel), high)
        share = np.geomspace(1, 1 / 64, self.batch)
        self.rng.shuffle(share)
        blind = self.rng.random(self.batch) < 0.3
        out = {}
        for name, (lo, hi) in self.ends.items():
            now, g = self.best[1][name][0], wanted[name]
            shape = (self.batch, *[1] * lo.ndim)
            target = np.where(g > 0, hi, np.where(g < 0, lo, now))
            anywhere = np.where(self.rng.random((self.batch, *lo.shape)) < 0.5, lo, hi)
            goal = np.where(blind.reshape(shape), anywhere, target)
            moved = self.rng.random((self.batch, *lo.shape)) < np.where(blind, share / 8, share).reshape(shape)
            out[name] = np.where(moved, goal, now)
        return out

    def everything(self) -> dict[str, IntArray]:
        assert self.best is not None
        return {**self.best[1], **run(self.graph, self.best[1], every_value=True)} if self.graph.nodes else self.best[1]

    def estimate(self, every: Mapping[str, IntArray], position: int, channel: int, high: bool) -> dict[str, Any]:
        """How much each input element adds to one sum, by a linear estimate at a candidate; shape of each input."""
        out = self.graph.values[self.layer.node.output]
        seed = np.zeros(out.shape)
        seed.reshape(-1, out.channels)[position, channel] = 1.0 if high else -1.0
        grads: dict[str, Any] = {self.layer.node.output: seed}
        for node in reversed(self.graph.nodes):
            if node.output not in grads:
                continue
            arrays = [every[name][0] for name in node.inputs]
            for name, g in zip(node.inputs, backward(node.op, arrays, grads.pop(node.output)), strict=True):
                grads[name] = grads.get(name, 0.0) + g
        return {name: grads.get(name, np.zeros(self.graph.values[name].shape)) for name in self.graph.inputs}


def backward(op: Any, inputs: Sequence[IntArray], g: Any) -> list[Any]:
    """The estimate of an operator's inputs from that of its output; zeros where nothing better is known."""
    match op:
        case Mac():
            rows, index = g.reshape(-1, op.outputs), op.operand_indices()
            out = np.zeros((len(rows), inputs[0].shape[-1]))
            if len(index) == 1:
                out[:, index[0]] += rows @ op.weights
            else:
                for output in np.flatnonzero(rows.any(axis=0)):
                    out[:, index[output]] += rows[:, output, None] * op.weights[output]
            return [out.reshape(inputs[0].shape)]
        case Requantize():
            return [g * _slopes(op, inputs[0])]
        case View():
            return [g.reshape(inputs[0].shape)]
        case SlidingWindow():
            flat = np.zeros(inputs[0].size + inputs[0].shape[-1])
            np.add.at(flat, op.positions_read(inputs[0].shape).reshape(-1), g.reshape(-1))
            return [flat[: inputs[0].size].reshape(inputs[0].shape)]
        case Rearrange():
            flat = np.zeros(inputs[0].size + 1)
            np.add.at(flat, op.positions.reshape(-1), g.reshape(-1))  # a pad is -1: the last
            return [flat[:-1].reshape(inputs[0].shape)]
        case WindowMax():
            taps = inputs[0].reshape(*inputs[0].shape[:-1], op.taps, -1)
            chosen = taps == taps.max(axis=-2, keepdims=True)
            return [(chosen * g[..., None, :]).reshape(inputs[0].shape)]
        case ScaledAdd():
            return [g * factor for factor in op.factors]
        case Concat():
            return [g[..., : inputs[0].shape[-1]], g[..., inputs[0].shape[-1] :]]
    return [np.zeros(x.shape) for x in inputs]


def _slopes(op: Requantize, x: IntArray) -> Any:
    """Rise of the staircase around each element; a hundredth of the usual rise where the quantizer clamps."""
    flat = x.reshape(-1, x.shape[-1]).astype(np.int64)
    lo, hi = flat.min(axis=0), flat.max(axis=0)
    wide = np.maximum(hi - lo, 1 << 6)
    around = op.codes(np.stack([lo - wide, hi + wide], axis=1)).astype(np.float64)
    rise = (around[:, 1] - around[:, 0]) / (hi - lo + 2 * wide)
    codes = op.reference(x)
    clamped = (codes <= op.quantizer.lo) | (codes >= op.quantizer.hi)
    return np.where(clamped, 0.1, 1.0) * rise
