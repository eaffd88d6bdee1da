"""Accumulator widths of every multiply-accumulate layer, from the coarsest bound to the proven one.

All of them come from integers: bit_length, never log2. For channel o, weights w and inputs x_i in [lo_i, hi_i]:

    data type   any weights and inputs of their types:  bit_length(K * 2**(N - s_x + M - s_w)) + 1, s = 1 if signed
    l1          these weights, any input of its type:   bit_length(||w||_1 * 2**(N - s_x)) + 1
    exact       these weights, the proven intervals:    two's complement of [lo, hi], both ends attained
    prefix      the same for every partial sum, any order
    offset      the same when the sum may start at any constant: max(1, bit_length(hi - lo))
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from broadaxe.ir import Graph, Node, Value
from broadaxe.ops.mac import Accumulating
from broadaxe.types import Interval


@dataclass(frozen=True)
class Accumulator:
    """Bounds and widths of one layer's accumulator, in bits; per channel where a tuple.

    `width` is what the hardware declares; `exact` and `offset` are the layer's widest channel.
    """

    name: str
    origin: str
    op: str
    macs: int
    depth: int
    outputs: int
    weight_bits: int
    input_bits: int
    datatype_bits: int
    l1_bits: int
    exact_bits: int
    prefix_bits: int
    offset_bits: int
    width: int
    mode: str
    sums: tuple[Interval, ...]
    starts: tuple[int, ...]
    tile: int | None
    inner: Interval | None

    @property
    def inner_bits(self) -> int | None:
        """Bits of the inner accumulator of a tiled layer."""
        return None if self.inner is None else self.inner.signed_dtype.width

    @property
    def channel_bits(self) -> tuple[int, ...]:
        """Two's-complement bits of each channel's own sum."""
        return tuple(s.signed_dtype.width for s in self.sums)


def accumulators(graph: Graph) -> tuple[Accumulator, ...]:
    """One entry per multiply-accumulate layer, in the order of the graph."""
    return tuple(_accumulator(graph, node, node.op) for node in graph.nodes if isinstance(node.op, Accumulating))


def _accumulator(graph: Graph, node: Node, op: Accumulating) -> Accumulator:
    inputs = graph.inputs_of(node)
    out: Value = graph.values[node.output]
    lo, hi = op.sums(*inputs)
    sums = tuple(Interval(a, b) for a, b in zip(lo.tolist(), hi.tolist(), strict=True))
    sizes, tile = op.sizes(*inputs), getattr(op, "tile", None)
    starts = tuple(op.start.tolist())
    prefixes = tuple(p + s for p, s in zip(op.prefix_hull(*inputs), starts, strict=True))
    return Accumulator(
        name=node.name,
        origin=node.origin,
        op=node.origin.rpartition("(")[2].rstrip(")") or "MAC",
        macs=prod(out.shape) * op.depth,
        depth=op.depth,
        outputs=op.outputs,
        weight_bits=sizes.weight,
        input_bits=sizes.input,
        datatype_bits=sizes.datatype,
        l1_bits=sizes.l1,
        exact_bits=max(s.signed_dtype.width for s in sums),
        prefix_bits=max(p.signed_dtype.width for p in prefixes),
        offset_bits=max(s.offset_width for s in sums),
        width=out.dtype.width,
        mode="loadable" if op.loadable else "offset" if any(starts) else "two's complement",
        sums=sums,
        starts=starts,
        tile=tile,
        inner=op.tile_sums(*inputs) if tile else None,
    )
