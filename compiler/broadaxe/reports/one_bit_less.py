"""What an accumulator of one bit less would cost: the channels that overflow it, and which weights would have to be smaller.

A step brings a weight w one nearer to 0. With x in [lo, hi] it takes, off the largest sum, hi where w > 0 and -lo where w < 0,
and the other of both off the least sum; where the start is free it takes hi - lo off the difference of the two, and that is
all that counts. Steps on one weight take the same each, so that with one number to bring down the largest steps first are the
fewest; with two numbers a greedy choice is made and compared with what each of them needs alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from broadaxe.build import Build
from broadaxe.hardware import Resources
from broadaxe.ir import Graph, IntArray, Node, Value
from broadaxe.ops import costs
from broadaxe.ops.budget import Budget, Budgeted
from broadaxe.ops.mac import Accumulating, Mac
from broadaxe.passes.offset_accumulators import absorbed
from broadaxe.reports.explanation import Change, OneBitLess, Over, Saving
from broadaxe.types import IntType

MOST_LISTED = 20
WEIGHTED = tuple(f" ({operator})" for operator in ("Conv", "ConvTranspose", "Gemm", "MatMul"))
"""How the nodes end that have weights of their own."""
Place = Callable[[int], str]


def one_bit_less(build: Build, node: Node, op: Accumulating, channel: int, place: Place) -> OneBitLess | None:
    """What a layer's accumulator of one bit less would cost and save; None where it has one bit.

    Args:
        channel: is among those described if it overflows, however little.
        place: what to call a channel's product of some index.
    """
    graph = build.graph
    inputs, out = graph.inputs_of(node), graph.values[node.output]
    bits = out.dtype.width - 1
    if not bits:
        return None
    free = absorbed(graph, node)
    needs = _needs(op, inputs, bits, free)
    excess = np.maximum(needs, 0).max(axis=0)
    over = np.flatnonzero(excess > 0)
    worst = over[np.argsort(-excess[over], kind="stable")][:MOST_LISTED].tolist()
    shown = worst if channel in worst or not excess[channel] else [*worst, channel]
    lo, hi = (end.tolist() for end in op.sums(*inputs))
    described = []
    for c in shown:
        taken, fewest = None, True
        if isinstance(op, Mac) and not _adds(node, op):
            taken, fewest = fewest_steps(op.weights[c], *_row(op, inputs[0], c), needs[:, c].tolist(), free)
        changes = _changes(op, c, taken, place)
        steps = None if taken is None else int(taken.sum())
        described.append(
            Over(
                channel=c,
                least=lo[c],
                most=hi[c],
                excess=int(excess[c]),
                steps=steps,
                fewest=fewest,
                changes=changes,
            )
        )
    return OneBitLess(
        bits=bits,
        free_start=free,
        channels=tuple(over.tolist()),
        worst=tuple(described),
        saves=_saving(build, node, op, bits),
    )


def _needs(op: Accumulating, inputs: Sequence[Value], bits: int, free: bool) -> IntArray:
    """By how much each channel's sum has to shrink to fit: at its largest, then at its least; or between the two.

    int64, shape (2 or 1, outputs); where it fits, 0 less the room that is left.
    """
    lo, hi = op.sums(*inputs)
    if free:
        return np.asarray(hi - lo - ((1 << bits) - 1))[None]
    held = IntType(bits, signed=True).range
    return np.stack([hi + op.start - held.hi, held.lo - lo - op.start])


def _adds(node: Node, op: Mac) -> bool:
    """Whether a layer has no weights of its own: those of a pool are all 1, and its operator takes none."""
    ones = (op.weight_ends.lo, op.weight_ends.hi) == (1, 1)
    return ones and not node.origin.endswith(WEIGHTED)


def _row(op: Mac, x: Value, channel: int) -> tuple[IntArray, IntArray]:
    """Ends of the input of each of a channel's products."""
    lo, hi = op.operands(x)
    at = channel if len(lo) > 1 else 0
    return lo[at], hi[at]


def fewest_steps(
    weights: IntArray, lo: IntArray, hi: IntArray, needs: Sequence[int], free: bool
) -> tuple[IntArray | None, bool]:
    """How many steps towards 0 each weight has to take so that the sum shrinks as needed.

    Args:
        weights: of one channel, shape (depth,).
        lo, hi: ends of the inputs.
        needs: what has to come off the largest sum and the least one, or off their difference where the start is free.

    Returns:
        Steps, shape (depth,), and whether fewer are known not to do. None where weights alone cannot do it.
    """
    up, down = np.where(weights > 0, hi, -lo), np.where(weights > 0, -lo, hi)
    gains = (hi - lo)[None] if free else np.stack([up, down])
    left, taken, limits = np.array(needs, dtype=np.int64), np.zeros_like(weights), np.abs(weights)
    order = np.argsort(-limits * (hi - lo), kind="stable")  # of steps that do as much, those at the largest products
    while (left > 0).any():
        useful = np.maximum(left, 0).sum() - np.maximum(left[:, None] - gains, 0).sum(axis=0)
        useful[taken >= limits] = 0
        best = int(useful.max(initial=0))
        if best <= 0:
            return None, False
        candidates = order[useful[order] == best]
        candidates = candidates[taken[candidates] == taken[candidates].min()]
        most = gains[:, candidates].max(axis=1)
        at_once = min((int(n) // int(g) for n, g in zip(left, most, strict=True) if n > 0 and g > 0), default=1)
        chosen = candidates[: max(at_once, 1)]  # as many as all do their full part
        taken[chosen] += 1
        left -= gains[:, chosen].sum(axis=1)
    alone = max(_alone(gain, limits, need) for gain, need in zip(gains, needs, strict=True))
    return taken, int(taken.sum()) == alone


def _alone(gains: IntArray, limits: IntArray, need: int) -> int:
    """The fewest steps that bring one number down by `need`; there are enough of them."""
    order = np.argsort(-gains)
    steps = 0
    for gain, limit in zip(gains[order].tolist(), limits[order].tolist(), strict=True):
        if need <= 0:
            break
        count = min(limit, -(-need // gain))
        steps, need = steps + count, need - count * gain
    return steps


def _changes(op: Accumulating, channel: int, taken: IntArray | None, place: Place) -> tuple[Change, ...]:
    """Weights that take steps, those of most steps first."""
    if taken is None or not isinstance(op, Mac):
        return ()
    row = op.weights[channel]
    moved = np.flatnonzero(taken)
    moved = moved[np.argsort(-taken[moved], kind="stable")]
    return tuple(
        Change(product=i, place=place(i), before=int(row[i]), after=int(row[i] - np.sign(row[i]) * taken[i]))
        for i in moved.tolist()
    )


def _saving(build: Build, node: Node, op: Accumulating, bits: int) -> Saving:
    """What a sum of fewer bits saves in its kernel, in those that read it, and in FIFOs; the folding stays."""
    graph, out = build.graph, build.graph.values[node.output]
    narrow = replace(out, dtype=IntType(bits, signed=True))
    changes: dict[str, Any] = {"budget": Budget(bits, op.budget.inner)} if isinstance(op, Budgeted) else {}
    narrow_op = replace(op, **changes)  # type: ignore[type-var]
    before, after = _spent(build, node, op, out), _spent(build, node, narrow_op, narrow)
    for stream in build.flow.streams:
        if stream.type == f"{out.name}_t":
            before += costs.fifo(stream.lanes * out.dtype.width, stream.depth)
            after += costs.fifo(stream.lanes * bits, stream.depth)
    for reader in graph.consumers(node.output):
        if reader.op.hardware:
            before += _reading(build, graph, reader, out)
            after += _reading(build, graph, reader, narrow)
    return Saving(lut=before.lut - after.lut, ff=before.ff - after.ff)


def _spent(build: Build, node: Node, op: Accumulating, out: Value) -> Resources:
    return op.resources(build.graph.inputs_of(node), out, build.lanes[node.name])


def _reading(build: Build, graph: Graph, reader: Node, x: Value) -> Resources:
    inputs = tuple(x if value.name == x.name else value for value in graph.inputs_of(reader))
    return reader.op.resources(inputs, graph.values[reader.output], build.lanes[reader.name])
