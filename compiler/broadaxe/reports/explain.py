"""Why one accumulator has the width it has: `broadaxe explain`. All figures are the build's own integers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from broadaxe.build import Build, Progress, opened
from broadaxe.errors import BroadaxeError
from broadaxe.ir import Bounds, Graph, IntArray, Node, Value
from broadaxe.ops.concat import Concat
from broadaxe.ops.dot import Dot
from broadaxe.ops.mac import Accumulating, Mac
from broadaxe.ops.matvec import MatVec
from broadaxe.ops.requantize import Requantize
from broadaxe.ops.view import View
from broadaxe.ops.window import SlidingWindow
from broadaxe.ops.window_max import WindowMax
from broadaxe.prove.accumulators import Accumulator, accumulators
from broadaxe.prove.certificate import witness_channel
from broadaxe.reports.explanation import Explanation, Ladder, Operand, Seen, Share, Source, Term, Tiles
from broadaxe.reports.model import budget_of
from broadaxe.reports.one_bit_less import one_bit_less
from broadaxe.reports.reading import read_report
from broadaxe.reports.selection import check_channel, layer_of
from broadaxe.reports.witness import driven, witness_of
from broadaxe.serialize import plain
from broadaxe.types import Interval, IntType

PASSED = (View, SlidingWindow, Concat, WindowMax)
"""Operators beside those that only move integers whose results are their inputs' integers, or pad codes."""


def explain(
    build: Build | str | os.PathLike[str],
    layer: str,
    channel: int | None = None,
    *,
    witness: str | os.PathLike[str] | None = None,
    run: bool = False,
    progress: Progress | None = None,
) -> Explanation:
    """Say why a layer's accumulator has as many bits as it has, and what one less would cost.

    Args:
        build: what `compile` or `load` returned, or its folder.
        layer: its name in the sources, such as conv0, or the model's node.
        channel: the output channel to explain; by default the widest.
        witness: .npz file to write, with inputs that take the channel to both ends of its sum.
        run: drive the generated C++ of the layer with them, at its width and with one bit less than the channel needs.
        progress: called with what is being done.

    Example:
        >>> found = broadaxe.explain("build", "conv0")
        >>> found.width, found.channel_bits, found.less.bits
        (12, 12, 11)

    Returns:
        The explanation; its text is what `broadaxe explain` prints.

    Raises:
        RequestError: there is no such layer or channel, or the file cannot be written.
    """
    said = progress or (lambda _: None)
    if isinstance(build, str | os.PathLike):
        _check_early(Path(build), layer, channel)
    design = opened(build, said)
    node, op = _layer(design, layer)
    check_channel(node.name, channel, op.outputs)
    sizes = next(a for a in accumulators(design.graph) if a.name == node.name)
    attained = op.attained(*design.graph.inputs_of(node))
    chosen = witness_channel(attained) if channel is None else channel
    said("finding inputs that attain both ends")
    found = witness_of(design, node, op, chosen, None if witness is None else Path(witness))
    said("looking at one bit less")
    less = one_bit_less(design, node, op, chosen, _place(design.graph, node, op, chosen))
    ran = driven(design, node, op, chosen, said) if run else None
    inputs, held = design.graph.inputs_of(node), sizes.sums[chosen]
    return Explanation(
        layer=node.name,
        node=node.origin,
        channel=chosen,
        channels=op.outputs,
        widest=attained[chosen].signed_dtype.width == max(v.signed_dtype.width for v in attained),
        depth=op.depth,
        order="(kh, kw, c)" if isinstance(_window(design.graph, node), SlidingWindow) else "of the inputs",
        operands=tuple(_operands(design, node, op, chosen)),
        weight_type=plain(op.weight_dtype) if isinstance(op, Mac) else None,
        **_terms(op, inputs, chosen),
        least=held.lo,
        most=held.hi,
        start=sizes.starts[chosen],
        mode=sizes.mode,  # type: ignore[arg-type]
        width=sizes.width,
        budget=budget_of(design.lowered.promises.get(node.name)),
        channel_bits=attained[chosen].signed_dtype.width,
        room=_room(sizes, attained[chosen]),
        ladder=_ladder(op, inputs, chosen, held, sizes.starts[chosen]),
        tiles=_tiles(op, inputs, chosen),
        witness=found,
        less=less,
        run=ran,
        seen=_seen(design, node, chosen),
    )


def _seen(build: Build, node: Node, channel: int) -> Seen | None:
    """What data led to, if the build was observed on some."""
    found = None if build.observed is None else build.observed.layers.get(node.name)
    return None if found is None else Seen(samples=found.samples, least=found.lo[channel], most=found.hi[channel])


def _check_early(folder: Path, layer: str, channel: int | None) -> None:
    """Refuse what the folder's report knows nothing of, before the model is lowered for it."""
    try:
        report = read_report(folder)
    except BroadaxeError:
        return  # opening the build says what is wrong with it
    layers = [(entry.name, entry.node) for entry in report.layers]
    name = layer_of(report.top, layers, ((k.name, k.node, k.kind) for k in report.kernels), layer)
    check_channel(name, channel, report.layer(name).outputs)


def _layer(build: Build, name: str) -> tuple[Node, Accumulating]:
    """A multiply-accumulate layer by its name or its node's."""
    nodes = build.graph.nodes
    layers = [(node.name, node.origin) for node in nodes if isinstance(node.op, Accumulating)]
    node = build.graph.node(layer_of(build.top, layers, ((n.name, n.origin, n.op.kind) for n in nodes), name))
    assert isinstance(node.op, Accumulating)
    return node, node.op


def _room(sizes: Accumulator, attained: Interval) -> int:
    """Counts by which the interval may grow: at its nearer end, or at both together where its start is free."""
    held = IntType(sizes.width, signed=True).range
    if sizes.mode == "offset":
        return held.span - attained.span
    return min(held.hi - attained.hi, attained.lo - held.lo)


# What is multiplied, and where it comes from


def _window(graph: Graph, node: Node) -> object:
    """The operator that makes a layer's input."""
    producer = graph.producer(node.inputs[0])
    return producer.op if producer else None


def _index(op: Mac, channel: int) -> IntArray:
    """Elements of the input vector that a channel's products take, shape (depth,)."""
    index = op.operand_indices()
    return np.asarray(index[channel if len(index) > 1 else 0])


def _place(graph: Graph, node: Node, op: Accumulating, channel: int) -> Callable[[int], str]:
    """What to call a product: the tap and channel behind a window, else the number of the input."""
    producer = graph.producer(node.inputs[0])
    index = _index(op, channel) if isinstance(op, Mac) else np.arange(op.depth)
    if producer is None or not isinstance(producer.op, SlidingWindow):
        return lambda i: f"input {index[i]}"
    channels, across = graph.values[producer.inputs[0]].channels, producer.op.kernel[1]

    def tap(i: int) -> str:
        at, c = divmod(int(index[i]), channels)
        return f"kh {at // across}, kw {at % across}, c {c}"

    return tap


def _operands(build: Build, node: Node, op: Accumulating, channel: int) -> Iterator[Operand]:
    zeros = op.zeros if isinstance(op, Dot) else (0,)
    for x, zero in zip(build.graph.inputs_of(node), zeros, strict=True):
        index = _index(op, channel) if isinstance(op, Mac) else np.arange(op.depth)
        whole, own = x.dtype.range, [x.bounds[i] for i in index.tolist()]
        yield Operand(
            type=plain(x.dtype),
            range=(whole.lo, whole.hi),
            short=sum(interval != whole for interval in own),
            zero=zero,
            sources=tuple(_sources(build, x.name)),
        )


def _sources(build: Build, value: str, through: tuple[str, ...] = (), pads: Iterable[int] = ()) -> Iterator[Source]:
    """What makes a value's integers, past everything that only moves them."""
    graph = build.graph
    producer, codes = graph.producer(value), set(pads)
    if producer is None:
        tensor = next((i.tensor for i in build.lowered.inputs if i.value == value), value)
        what, name, origin = "input of the network", value, tensor
    elif producer.op.moves or isinstance(producer.op, PASSED):
        if isinstance(producer.op, SlidingWindow) and producer.op.padded:
            codes |= set(producer.op.codes(graph.values[producer.inputs[0]].channels))
        passed = [_passed(producer)] if producer.op.hardware else []
        for name in producer.inputs:
            yield from _sources(build, name, (*passed, *through), codes)
        return
    else:
        what = "requantizer" if isinstance(producer.op, Requantize) else producer.op.kind
        name, origin = producer.name, producer.origin
    yield Source(name=name, what=what, node=origin, through=through, pad_codes=tuple(sorted(codes)))


def _passed(node: Node) -> str:
    """An operator that integers pass, in a few words."""
    match node.op:
        case SlidingWindow():
            return f"{node.name} ({node.op.kernel[0]} x {node.op.kernel[1]})"
        case WindowMax():
            return f"{node.name} (largest of {node.op.taps})"
    return node.name


# The sum


def _terms(op: Accumulating, inputs: Sequence[Value], channel: int) -> dict[str, Any]:
    """Kinds of products, and what each sign adds up to."""
    if isinstance(op, Dot):
        left, right = op.differences(*inputs)
        kinds = _kinds([(*p, *q, *(p_q.lo, p_q.hi)) for p, q, p_q in _pairs(left, right)])
        terms = tuple(
            Term(count=n, weight=None, input=k[:2], other=k[2:4], each=k[4:], together=(n * k[4], n * k[5]))
            for k, n in kinds
        )
        every = Share(count=op.depth, least=sum(t.together[0] for t in terms), most=sum(t.together[1] for t in terms))
        return {"terms": _largest(terms), "positive": every, "negative": Share(count=0, least=0, most=0), "zeros": 0}
    assert isinstance(op, Mac)
    lo, hi = (end[channel if len(end) > 1 else 0] for end in op.operands(inputs[0]))
    row = op.weights[channel]
    least, most = np.minimum(row * lo, row * hi), np.maximum(row * lo, row * hi)
    kinds = _kinds(np.stack([row, lo, hi, least, most], axis=1).tolist())
    terms = tuple(
        Term(count=n, weight=k[0], input=k[1:3], other=None, each=k[3:], together=(n * k[3], n * k[4]))
        for k, n in kinds
    )
    shares = (
        Share(count=int(part.sum()), least=int(least[part].sum()), most=int(most[part].sum()))
        for part in (row > 0, row < 0)
    )
    positive, negative = shares
    return {"terms": _largest(terms), "positive": positive, "negative": negative, "zeros": int((row == 0).sum())}


def _pairs(left: Bounds, right: Bounds) -> Iterator[tuple[tuple[int, int], tuple[int, int], Interval]]:
    for p, q in zip(left, right, strict=True):
        yield (p.lo, p.hi), (q.lo, q.hi), p * q


def _kinds(rows: Sequence[Any]) -> list[tuple[Any, int]]:
    """Rows that differ, and how often each is there."""
    counts: dict[tuple[int, ...], int] = {}
    for row in rows:
        counts[tuple(row)] = counts.get(tuple(row), 0) + 1
    return sorted(counts.items())


def _largest(terms: Iterable[Term]) -> tuple[Term, ...]:
    """Those first that add most to the difference of both ends, of one difference those that add most at all."""
    return tuple(sorted(terms, key=lambda t: (t.together[0] - t.together[1], -max(map(abs, t.together)))))


def _ladder(op: Accumulating, inputs: Sequence[Value], channel: int, held: Interval, start: int) -> Ladder:
    if isinstance(op, Dot):
        left, right = ((x.dtype.range + -zero).dtype for x, zero in zip(inputs, op.zeros, strict=True))
        norm = sum(max(abs(q.lo), abs(q.hi)) for q in op.differences(*inputs)[1])
    else:
        assert isinstance(op, Mac)
        left, right, norm = inputs[0].dtype, op.weight_dtype, int(op.row_norms[channel])
    magnitude = left.width - int(left.signed)
    largest = op.depth << (magnitude + right.width - int(right.signed))
    prefix = op.prefix_hull(*inputs)[channel] + start
    return Ladder(
        datatype_largest=largest,
        datatype_bits=largest.bit_length() + 1,
        l1_norm=norm,
        l1_largest=norm << magnitude,
        l1_bits=(norm << magnitude).bit_length() + 1,
        exact_bits=held.signed_dtype.width,
        offset_bits=held.offset_width,
        prefix=(prefix.lo, prefix.hi),
        prefix_bits=prefix.signed_dtype.width,
    )


def _tiles(op: Accumulating, inputs: Sequence[Value], channel: int) -> Tiles | None:
    """Both stages of a layer that adds up tiles."""
    if not isinstance(op, MatVec) or not op.tile:
        return None
    hull_of_all = op.tile_sums(*inputs)
    bits = hull_of_all.signed_dtype.width
    lo, hi = op.operands(inputs[0])
    cuts = np.arange(0, op.depth, op.tile)
    least, most = (np.add.reduceat(end, cuts, axis=1) for end in (_ends(op, lo, hi), _ends(op, hi, lo)))
    own = list(map(Interval, least[channel].tolist(), most[channel].tolist()))
    narrow = IntType(bits - 1, signed=True).range if bits > 1 else Interval(0, 0)
    widest = max(own, key=lambda v: (v.signed_dtype.width, v.span))
    return Tiles(
        size=op.tile,
        count=len(cuts),
        bits=bits,
        layer=(hull_of_all.lo, hull_of_all.hi),
        widest=(widest.lo, widest.hi),
        overflowing=int(((least < narrow.lo) | (most > narrow.hi)).sum()),
    )


def _ends(op: Mac, for_positive: IntArray, for_negative: IntArray) -> IntArray:
    return np.asarray(op.weights * np.where(op.weights > 0, for_positive, for_negative))
