"""The reference run in which one accumulator is as wide as declared, beside the run in which it is wide enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from broadaxe.auditing.design import Design, Layer
from broadaxe.auditing.registers import Declaration
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
    content = _content(declared, sums)
    beyond = np.maximum(content - kind.allowed.hi, kind.allowed.lo - content)
    row, channel = np.unravel_index(int(np.argmax(beyond)), beyond.shape)
    if beyond[row, channel] <= 0:
        return None
    if kind.saturates:
        held = _saturated(layer, declared, every[layer.node.inputs[0]][0])
    else:
        held = np.vectorize(kind.hold, otypes=[object])(content)
    place = np.unravel_index(int(row), layer.out.shape[:-1]) if len(layer.out.shape) > 1 else ()
    change: Change | None = None
    unknown: str | None = "its run takes too many steps"
    if held is not None:
        change, unknown = _change(design, layer, declared, codes, every, held)
    first = kind.hold(int(content[row, channel])) if held is None else int(held[row, channel])
    return Shown(
        int(channel),
        tuple(int(i) for i in place),
        int(content[row, channel]),
        first,
        int((beyond > 0).sum()),
        change,
        unknown,
    )


def _content(declared: Declaration, sums: IntArray) -> IntArray:
    """n of every sum, Python integers, shape (positions, channels); rounded down where the type does not represent it."""
    register, kind = declared.register, declared.type
    out = np.empty(sums.shape, dtype=object)
    for channel in range(sums.shape[1]):
        gain = register.gain[channel] / kind.step
        start = register.content(kind, channel, 0)
        common = gain.denominator * start.denominator
        a, b = int(gain * common), int(start * common)
        out[:, channel] = (sums[:, channel].astype(object) * a + b) // common
    return out


def _saturated(layer: Layer, declared: Declaration, x: IntArray) -> IntArray | None:
    """What saturating adders hold in the end: from the start on, products in canonical order; None if that takes too long."""
    op, kind, register = layer.op, declared.type, declared.register
    vectors = x.reshape(-1, x.shape[-1])
    if len(vectors) * op.weights.size > MOST_STEPS:
        return None
    zero = np.zeros((len(vectors), op.outputs), dtype=np.int64)
    held = np.clip(_content(declared, zero), kind.allowed.lo, kind.allowed.hi)
    gains = [gain / kind.step for gain in register.gain]
    if any(gain.denominator != 1 for gain in gains):
        return None
    column = np.array([int(gain) for gain in gains], dtype=object)
    index = op.operand_indices()
    for product in range(op.depth):
        operand = vectors[:, index[:, product]].astype(object)
        held = np.clip(
            held + operand * op.weights[:, product].astype(object) * column, kind.allowed.lo, kind.allowed.hi
        )
    return held


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
