"""ReduceSum, ReduceMean and ReduceMax over any axes but the batch: their import.

Reduced elements become the taps of a vector; the fastest axis that is kept, where it is fastest of all, stays its channels.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import prod

import numpy as np

from broadaxe.chain import Affine, direction
from broadaxe.ir import IntArray, Shape
from broadaxe.ops.grouped import GroupedMatVec
from broadaxe.ops.importing import (
    GraphBuilder,
    ModelNode,
    Scaled,
    Tensor,
    arranged,
    gathered_chain,
    imports,
    integers,
    stream_axes,
)
from broadaxe.ops.matvec import MatVec
from broadaxe.ops.window_max import WindowMax, import_global_max_pool, settled


@imports("ReduceSum", "ReduceMean", "ReduceMax")
def import_reduction(graph: GraphBuilder, node: ModelNode) -> Tensor:
    x = node.scaled(0)
    axes, keep = _axes(node, x.shape), bool(node.attribute("keepdims", 1))
    if not axes:
        return x
    if node.op_type != "ReduceMax":
        return reduced_sum(graph, node, x, axes, node.op_type == "ReduceMean", keep)
    if axes == (2, 3) and len(x.shape) == 4:
        return _without(import_global_max_pool(graph, node), axes, keep)
    return _reduced_max(graph, node, settled(graph, node, x), axes, keep)


def _axes(node: ModelNode, shape: Shape) -> tuple[int, ...]:
    """The axes to reduce, ascending; all of them where none are given, none where an empty list is a no-op."""
    given = node.attribute("axes", None)
    if given is None and len(node.inputs) > 1 and node.inputs[1] is not None:
        given = node.floats(1, "axes").reshape(-1).tolist()
    if not given and node.attribute("noop_with_empty_axes", 0):
        return ()
    axes = [int(axis) for axis in given] if given else list(range(len(shape)))
    if any(not -len(shape) <= axis < len(shape) for axis in axes):
        raise node.fail(f"its axes {axes} are not axes of a tensor of shape {list(shape)}; repair the model")
    found = tuple(sorted({axis % len(shape) for axis in axes}))
    if 0 in found:
        raise node.fail(f"reduces axes {list(found)}, the batch axis among them; keep the batch axis")
    return found


def _vectors(x: Scaled, axes: tuple[int, ...]) -> tuple[IntArray, int, tuple[int, ...]]:
    """Positions of x's elements as (..., taps * channels), the channels, and the kept axes in the order of the result."""
    order = [axis + 1 for axis in stream_axes(x.index[0])]
    kept = tuple(axis for axis in order if axis not in axes)
    taps = [axis for axis in order if axis in axes]
    last = kept[-1:] if kept and order[-1] == kept[-1] else ()
    leading = kept[: len(kept) - len(last)]
    index = x.index.transpose(0, *leading, *taps, *last)[0]
    shape = [x.shape[axis] for axis in leading]
    return index.reshape(*shape, -1), prod(x.shape[axis] for axis in last), kept


def _placed(x: Scaled, axes: tuple[int, ...], kept: tuple[int, ...], keep: bool) -> IntArray:
    """Where each element of the result sits, with the kept axes streamed in the order `kept`."""
    shape = [x.shape[axis] for axis in kept]
    stream = np.arange(prod(shape)).reshape(shape).transpose(np.argsort(kept))
    return np.asarray(stream).reshape(
        [1] + [1 if a in axes else n for a, n in enumerate(x.shape) if a and (keep or a not in axes)]
    )


def reduced_sum(
    graph: GraphBuilder, node: ModelNode, x: Scaled, axes: tuple[int, ...], mean: bool, keep: bool
) -> Scaled:
    """The sum or the mean over axes: rows of ones, whose divisor goes into the scale."""
    wanted, channels, kept = _vectors(x, axes)
    taps = wanted.shape[-1] // channels
    affine = integers(graph, node, replace(x, chain=gathered_chain(graph, node, x, wanted.reshape(-1, channels))), True)
    vectors = arranged(graph, node, x, wanted, np.arange(wanted.size).reshape(1, *wanted.shape))
    ones = np.ones((channels, taps), dtype=np.int64)
    op = GroupedMatVec.of(ones, channels, taps) if channels > 1 else MatVec.of(ones)
    divisor = taps if mean else 1
    out_affine = Affine(
        tuple(s / divisor for s in affine.scale), tuple(t * Fraction(taps, divisor) for t in affine.shift)
    )
    out = graph.add(graph.fresh("avgpool" if mean else "sum"), op, [vectors.value], node.where, out_affine)
    return Scaled(out.name, _placed(x, axes, kept, keep), (out_affine,))


def _reduced_max(graph: GraphBuilder, node: ModelNode, x: Scaled, axes: tuple[int, ...], keep: bool) -> Scaled:
    """The largest integer over axes, which is the largest real where all of them share one rising chain."""
    wanted, channels, kept = _vectors(x, axes)
    chain = gathered_chain(graph, node, x, wanted.reshape(-1, channels))
    if min(direction(chain, channels)) <= 0:
        raise node.fail("chooses among values that a constant turns round; put a Quant before it")
    vectors = arranged(graph, node, x, wanted, np.arange(wanted.size).reshape(1, *wanted.shape))
    affine = chain[0] if isinstance(chain[0], Affine) else None
    op = WindowMax(wanted.shape[-1] // channels)
    out = graph.add(graph.fresh("max"), op, [vectors.value], node.where, affine)
    return Scaled(out.name, _placed(x, axes, kept, keep), chain)


def _without(x: Tensor | tuple[Tensor | None, ...], axes: tuple[int, ...], keep: bool) -> Scaled:
    assert isinstance(x, Scaled)
    return x if keep else Scaled(x.value, x.index.reshape(x.shape[: axes[0]]), x.chain, x.pools)
