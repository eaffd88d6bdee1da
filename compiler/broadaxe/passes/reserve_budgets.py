"""Size a graph for every network of its architecture that fits its budgets, not for the weights that it happens to hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from broadaxe.errors import GraphError, ProofError, RequestError, UnsupportedModelError
from broadaxe.ir import WIDEST, Graph, IntArray, Node, Op, Value, constant_array, infer
from broadaxe.ops.budget import Budget, Budgeted
from broadaxe.ops.grouped import GroupedMatVec
from broadaxe.ops.importing import Promise
from broadaxe.ops.loadable_grouped import LoadableGroupedMatVec
from broadaxe.ops.loadable_matvec import LoadableMatVec
from broadaxe.ops.loadable_requantize import LoadableRequantize
from broadaxe.ops.mac import Mac
from broadaxe.ops.matvec import MatVec
from broadaxe.ops.requantize import Requantize
from broadaxe.passes.choose_requantizers import NOMINAL_LANES
from broadaxe.passes.offset_accumulators import absorbed, moved
from broadaxe.prove.requantizers import Examination
from broadaxe.staircase import staircase
from broadaxe.types import Interval

SEARCH = {"thresholds": False, "threshold-search": True}


@dataclass(frozen=True)
class Reservation:
    """What is to be reserved.

    Attributes:
        promises: layers with weights, and the widths that their model says they keep to.
        widths: accumulators in bits that the user asks for, by layer, or "*" for all others.
        requantizers: forms that the user asks for, by requantizer, or "*".
        held: operators of a design that is there already, by node; the graph then has to fit what it has.
    """

    promises: Mapping[str, Promise]
    widths: Mapping[str, int] = field(default_factory=dict)
    requantizers: Mapping[str, str] = field(default_factory=dict)
    held: Mapping[str, Op] | None = None


def reserve_budgets(graph: Graph, wanted: Reservation) -> Graph:
    """Make every layer with weights, and every requantizer, loadable.

    Requires: every accumulator starts at 0; no requantizer has a form.
    Ensures: the bounds of every value hold for all parameters that may be loaded. A layer's accumulator has the width that is
    asked for, or promised, or that its present weights need on such inputs, whichever comes first and is enough; a channel
    that does not fit it as it is starts at the constant that centres it. A requantizer has one threshold for each step
    between codes. The graph's integer function is unchanged up to those starts, which requantizers take back out, and the
    host. RequestError names the layer, channel and bits where the present weights do not fit.
    """
    _known(graph, wanted)
    values, nodes, starts = dict(graph.values), [], dict[str, IntArray]()
    for node in graph.nodes:
        op, inputs, before = node.op, tuple(values[name] for name in node.inputs), graph.values[node.output]
        offset = None
        try:
            if isinstance(op, MatVec | GroupedMatVec) and node.name in wanted.promises:
                op = _budgeted(node, op, inputs[0], absorbed(graph, node), wanted)
                offset = op.start if op.start.any() else None
            elif isinstance(op, Requantize):
                op = op if (by := starts.get(node.inputs[0])) is None else op.moved(by)
                op = _loadable(node, op, inputs[0], wanted)
            value = infer(before.name, op, inputs)
        except (GraphError, ProofError) as error:
            raise UnsupportedModelError(f"{node.origin}: with loadable weights: {error}") from None
        values[before.name] = replace(value, scale=before.scale, shift=before.shift)
        if offset is not None:
            starts[before.name] = offset
            values[before.name] = moved(value, before, offset.tolist())
        nodes.append(replace(node, op=op))
    return replace(graph, values=values, nodes=tuple(nodes))


def _known(graph: Graph, wanted: Reservation) -> None:
    """Fail where a wish is for a layer or a requantizer that is not there."""
    layers = [node.name for node in graph.nodes if node.name in wanted.promises]
    requantizers = [node.name for node in graph.nodes if isinstance(node.op, Requantize)]
    for what, wishes, there in (
        ("accumulators", wanted.widths, layers),
        ("requantizers", wanted.requantizers, requantizers),
    ):
        for name in wishes:
            if name != "*" and name not in there:
                raise RequestError(f"{what}: there is no {name!r}; there are {', '.join(there)}")


def _budgeted(node: Node, op: MatVec | GroupedMatVec, x: Value, centred: bool, wanted: Reservation) -> Budgeted:
    """The layer in its budget, its channels started where they fit it; `centred` says that they may start anywhere."""
    lo, hi = op.sums(x)
    sums = [Interval(a, b) for a, b in zip(lo.tolist(), hi.tolist(), strict=True)]
    needs = [min(s.offset_width, s.signed_dtype.width) if centred else s.signed_dtype.width for s in sums]
    tiles = _tile_sums(op, x)
    budget = _budget(node, op, needs, tiles, wanted)
    for channel, need in enumerate(needs):
        if need > budget.width:
            raise RequestError(_over(node, channel, f"{need} bits needed, the accumulator has {budget.width}"))
    for channel, tile in enumerate(tiles):
        if budget.inner is not None and tile > budget.inner:
            raise RequestError(
                _over(node, channel, f"a tile needs {tile} bits, the inner accumulator has {budget.inner}")
            )
    held = budget.outer_dtype.range
    started = op.starting_at(constant_array([0 if s in held else held.lo - s.lo for s in sums]))
    if isinstance(started, MatVec):
        return LoadableMatVec.within(started, budget)
    assert isinstance(started, GroupedMatVec)
    return LoadableGroupedMatVec.within(started, budget)


def _over(node: Node, channel: int, what: str) -> str:
    return (
        f"{node.name} channel {channel}, {node.origin}: {what}; quantize to that budget, or compile with a larger one"
    )


def _budget(node: Node, op: Mac, needs: list[int], tiles: list[int], wanted: Reservation) -> Budget:
    """The budget that the layer has already, or the one to give it."""
    if wanted.held is not None:
        there = wanted.held[node.name]
        assert isinstance(there, Budgeted)
        grid = there.weight_dtype.range
        outside = np.argwhere((op.weights < grid.lo) | (op.weights > grid.hi))
        if outside.size:
            channel, place = outside[0]
            weight = int(op.weights[channel, place])
            raise RequestError(_over(node, int(channel), f"weight {weight}, memories hold {grid.lo} to {grid.hi}"))
        return there.budget
    promise = wanted.promises[node.name]
    width = wanted.widths.get(node.name, wanted.widths.get("*"))
    if width is None:
        width = max(promise.outer or 0, *needs)
    if width > WIDEST:
        raise RequestError(f"{node.name}, {node.origin}: an accumulator of {width} bits; at most {WIDEST} are possible")
    return Budget(width, max(promise.inner or 0, *tiles) if tiles else None)


def _tile_sums(op: Mac, x: Value) -> list[int]:
    """Bits that the tiles of each channel need; empty without tiles."""
    if not isinstance(op, MatVec) or op.tile is None:
        return []
    bits = []
    for channel in range(op.outputs):
        inner = MatVec.of(op.weights[channel : channel + 1], op.weight_dtype, tile=op.tile).tile_sums(x)
        assert inner is not None
        bits.append(inner.signed_dtype.width)
    return bits


def _loadable(node: Node, op: Requantize, x: Value, wanted: Reservation) -> Requantize:
    """The requantizer with loadable thresholds, in the form that the design has, that is asked for, or that is cheaper."""
    if op.quantizer.lo == op.quantizer.hi:
        raise ProofError("it has one code only, so that there is nothing to load; remove it")
    if op.turns(x.bounds):
        raise ProofError("its function rises and falls, and thresholds hold monotone ones; put a Relu before its Quant")
    wish = wanted.requantizers.get(node.name, wanted.requantizers.get("*"))
    if wanted.held is not None:
        there = wanted.held[node.name]
        assert isinstance(there, LoadableRequantize)
        wish, codes, own = there.chosen().name, there.quantizer, op.quantizer
        if (own.lo, own.hi) != (codes.lo, codes.hi):
            raise RequestError(
                f"{node.name}, {node.origin}: codes {own.lo} to {own.hi}, the design has {codes.lo} to {codes.hi};"
                " quantize to the same type"
            )
    if wish is not None and wish not in SEARCH:
        raise RequestError(f"{node.name}: a {wish} requantizer cannot be loaded; use {' or '.join(SEARCH)}")
    stairs = staircase(op.chain, op.quantizer, x.bounds)
    examination = Examination.of(op.chain, op.quantizer, stairs)
    searches = SEARCH.values() if wish is None else (SEARCH[wish],)
    forms = [LoadableRequantize.of(op, stairs, search) for search in searches]
    best = min(forms, key=lambda form: form.chosen().luts(x.dtype.width, NOMINAL_LANES))
    return replace(best, comparisons=examination.prove(best.chosen()).comparisons)
