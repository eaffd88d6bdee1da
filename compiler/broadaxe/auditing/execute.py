"""The reference run in which one accumulator is as wide as declared, beside the run in which it is wide enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from broadaxe.auditing.design import Design, Layer
from broadaxe.auditing.registers import Declaration, inexact, start
from broadaxe.errors import BroadaxeError
from broadaxe.host import Host
from broadaxe.ir import Graph, IntArray, Value, hull, infer
from broadaxe.ops.requantize import Requantize
from broadaxe.passes.choose_requantizers import choose_requantizers
from broadaxe.reference import run
from broadaxe.types import Interval

MOST_STEPS = 1 << 28
"""Additions of a saturating accumulator that are carried out one by one."""


@dataclass(frozen=True)
class Change:
    """The first element of a model output that the overflow changes; `index` in the model's tensor, batch axis included."""

    output: str
    index: tuple[int, ...]
    was: float
    becomes: float


@dataclass(frozen=True, eq=False)
class Shown:
    """What one input does to a declared accumulator.

    Attributes:
        channel, position: of the sum that leaves the type most; position in the layer's output, channel left out.
        content, held: n of the true sum, and what the accumulator has instead.
        overflowing: sums that leave the type.
        change: first output that changes; None where none does, or where `unknown` says why that is not known.
    """

    channel: int
    position: tuple[int, ...]
    content: int
    held: int
    overflowing: int
    change: Change | None
    unknown: str | None = None


def shown(design: Design, layer: Layer, declared: Declaration, codes: Mapping[str, IntArray]) -> Shown | None:
    """Run a network input twice, with the accumulator wide enough and as declared; None if nothing leaves the type.

    Args:
        codes: graph inputs, batch of 1.
    """
    every = {**codes, **run(design.graph, codes, every_value=True)}
    sums = every[layer.node.output][0].reshape(-1, layer.op.outputs)
    kind = declared.type
    exact = inexact(layer, declared.register, kind) is None
    vectors = every[layer.node.inputs[0]][0].reshape(-1, layer.x.channels)
    stepwise = kind.saturates or not exact
    if stepwise and len(vectors) * layer.op.weights.size > MOST_STEPS:
        return None
    content = _content(declared, sums) if exact else _added(layer, declared, vectors, saturating=False)
    beyond = np.maximum(content - kind.allowed.hi, kind.allowed.lo - content)
    row, channel = divmod(int(np.argmax(beyond)), layer.op.outputs)
    if beyond[row, channel] <= 0:
        return None
    if kind.saturates:
        held = _added(layer, declared, vectors, saturating=True)
    else:
        held = np.vectorize(kind.hold, otypes=[object])(content)
    place = np.unravel_index(int(row), layer.out.shape[:-1]) if len(layer.out.shape) > 1 else ()
    change, unknown = _change(design, layer, declared, codes, every, held)
    return Shown(
        channel,
        tuple(int(i) for i in place),
        int(content[row, channel]),
        int(held[row, channel]),
        int((beyond > 0).sum()),
        change,
        unknown,
    )


def _content(declared: Declaration, sums: IntArray) -> IntArray:
    """n of every sum, Python integers, shape (positions, channels); for types that represent every product."""
    register, kind = declared.register, declared.type
    columns = []
    for channel, column in enumerate(sums.T):
        num, den = (register.gain[channel] / kind.step).as_integer_ratio()
        columns.append(column.astype(object) * num // den + int(register.content(kind, channel, 0)))
    return np.stack(columns, axis=1)


def _added(layer: Layer, declared: Declaration, vectors: IntArray, *, saturating: bool) -> IntArray:
    """n of every sum, product after product in canonical order, each rounded to the step; shape (positions, channels)."""
    op, kind, gains = layer.op, declared.type, declared.register.gain
    ratios = [(gain / kind.step).as_integer_ratio() for gain in gains]
    num, den = (np.array(column, dtype=object) for column in zip(*ratios, strict=True))
    held = np.broadcast_to(
        np.array([start(declared, channel) for channel in range(op.outputs)], dtype=object), (len(vectors), op.outputs)
    )
    index = op.operand_indices()
    for product in range(op.depth):
        if saturating:
            held = np.clip(held, kind.allowed.lo, kind.allowed.hi)
        exact = vectors[:, index[:, product]].astype(object) * (op.weights[:, product].astype(object) * num)
        units = kind.units(exact, np.broadcast_to(den, exact.shape))
        held = held + (np.clip(units, kind.allowed.lo, kind.allowed.hi) if saturating else units)
    return np.clip(held, kind.allowed.lo, kind.allowed.hi) if saturating else held


def _change(
    design: Design,
    layer: Layer,
    declared: Declaration,
    codes: Mapping[str, IntArray],
    every: Mapping[str, IntArray],
    held: IntArray,
) -> tuple[Change | None, str | None]:
    """The first model output that differs when the layer's register holds `held`, or why that is not known."""
    register, kind = declared.register, declared.type
    q = np.zeros(held.shape, dtype=object)
    for channel in range(held.shape[1]):
        gain = register.gain[channel]
        if gain == 0:
            continue
        value = (kind.origin + kind.step * held[:, channel] - register.offset[channel]) / gain
        if any(v.denominator != 1 for v in value):
            return None, "what it holds is no sum of integer products"
        q[:, channel] = [int(v) for v in value]
    try:
        graph = _widened(design.graph, layer, Interval(int(q.min()), int(q.max())))
        changed = _from(graph, layer, {**every}, q.astype(np.int64).reshape(1, *layer.out.shape))
        wide = run(design.graph, codes)
        before, after = design.host.reals(wide), Host.of(design.model, design.lowered, graph).reals(changed)
    except (BroadaxeError, OverflowError) as error:
        return None, f"the run cannot be carried on ({error})"
    for name in design.lowered.outputs_of_model:
        differing = np.argwhere(before[name] != after[name])
        if len(differing):
            index = tuple(int(i) for i in differing[0])
            return Change(name, index, float(before[name][index]), float(after[name][index])), None
    return None, None


def _widened(graph: Graph, layer: Layer, reached: Interval) -> Graph:
    """The graph with bounds that admit what the accumulator holds, and requantizers that are exact there."""
    values = dict(graph.values)
    out = values[layer.node.output]
    bounds = tuple(interval | reached for interval in out.bounds)
    values[out.name] = replace(out, bounds=bounds, dtype=hull(bounds).signed_dtype)
    touched, nodes = {out.name}, []
    for node in graph.nodes:
        if node.output == out.name or not touched & set(node.inputs):
            nodes.append(node)
            continue
        op = replace(node.op, form=None, comparisons=0) if isinstance(node.op, Requantize) else node.op
        old = values[node.output]
        made = infer(old.name, op, [values[name] for name in node.inputs], old.affine)
        values[old.name] = _joined(made, old)
        touched.add(old.name)
        nodes.append(replace(node, op=op))
    return choose_requantizers(replace(graph, nodes=tuple(nodes), values=values))


def _joined(made: Value, old: Value) -> Value:
    return replace(made, bounds=tuple(a | b for a, b in zip(made.bounds, old.bounds, strict=True)))


def _from(graph: Graph, layer: Layer, live: dict[str, IntArray], replaced: IntArray) -> dict[str, IntArray]:
    """The graph's outputs when the layer's value is replaced."""
    live[layer.node.output] = replaced
    touched = {layer.node.output}
    for node in graph.nodes:
        if node.output != layer.node.output and touched & set(node.inputs):
            live[node.output] = node.op.reference(*(live[name] for name in node.inputs)).astype(np.int64)
            touched.add(node.output)
    return {name: live[name] for name in graph.outputs}
