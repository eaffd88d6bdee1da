"""Lookup: the row of a constant table that an integer names: embeddings (Gather of a table) and OneHot.

Only rows that the proven interval of the index reaches are kept, so a column's bounds are those of what can be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np

from broadaxe.chain import Affine
from broadaxe.errors import GraphError
from broadaxe.hardware import Resources, Trace, repeated
from broadaxe.ir import Bounds, Example, IntArray, Lanes, OnnxBuilder, Op, Shape, Value, constant_array
from broadaxe.ops import costs
from broadaxe.ops.importing import Array, GraphBuilder, ModelNode, Scaled, Tensor, admit, arrange, fractions, imports
from broadaxe.ops.memories import fitting
from broadaxe.types import Interval, IntType

WIDEST_ENTRY = 32
"""Bits of a table's entries; tables of floats without a grid may need more, and are refused."""


@dataclass(frozen=True, eq=False)
class Lookup(Op):
    """y = rows[x - first], one vector for each integer; x has one channel.

    Attributes:
        rows: integers, shape (entries, channels).
        first: the integer that names the first row.
    """

    kind = "lookup"
    rows: IntArray
    first: int = 0

    def shape(self, *inputs: Value) -> Shape:
        (x,) = inputs
        if x.channels != 1 or x.hull not in Interval(self.first, self.first + len(self.rows) - 1):
            raise GraphError(
                f"lookup: {len(self.rows)} rows from {self.first} on for {x.hull} in {x.channels} channels; give a row for"
                " each integer of one channel"
            )
        return (*x.shape[:-1], self.rows.shape[1])

    def reached(self, x: Value) -> IntArray:
        """The rows that x can name."""
        return np.asarray(self.rows[x.hull.lo - self.first : x.hull.hi - self.first + 1])

    def bounds(self, *inputs: Value) -> Bounds:
        rows = self.reached(inputs[0])
        ends = zip(rows.min(axis=0).tolist(), rows.max(axis=0).tolist(), strict=True)
        return tuple(Interval(lo, hi) for lo, hi in ends)

    def reference(self, *inputs: IntArray) -> IntArray:
        return np.asarray(self.rows[inputs[0][..., 0].astype(np.int64) - self.first])

    def render(self, builder: OnnxBuilder, inputs: Sequence[str], values: Sequence[Value]) -> str:
        (x,) = values
        at = builder.node(
            "Sub", builder.cast(inputs[0], np.int64), builder.constant(np.array(self.first, dtype=np.int64))
        )
        rows = builder.node("Gather", builder.constant(self.rows.astype(np.int64)), at, axis=0)
        to = np.array([-1, *x.shape[:-1], self.rows.shape[1]], dtype=np.int64)
        return builder.node("Reshape", rows, builder.constant(to))

    def trace(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Trace:
        """An index is read in front of its row."""
        channels, vectors = output.channels, prod(output.shape[:-1])
        return Trace(vectors * channels, (repeated([0], channels, vectors),), np.arange(vectors * channels))

    def template_context(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Mapping[str, Any]:
        return {
            "entries": len(self.rows),
            "channels": output.channels,
            "vectors": prod(output.shape[:-1]),
            "first": self.first,
            "row_type": fitting(self.rows),
            "rows": [self.rows.tolist()],
        }

    def witnesses(self, inputs: Sequence[Value], channel: int) -> tuple[list[IntArray], list[IntArray]] | None:
        (x,) = inputs
        column = self.reached(x)[:, channel]
        low, high = (np.full(x.shape, x.hull.lo + int(at), dtype=np.int64) for at in (column.argmin(), column.argmax()))
        return [low], [high]

    def resources(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Resources:
        """The table, an element a word."""
        entries, channels = self.rows.shape
        wide = Interval(int(self.rows.min()), int(self.rows.max())).dtype.width
        table = costs.placed(wide, entries * channels, rom=True)
        return table + costs.counters(output.size, channels) + costs.registers(wide + inputs[0].dtype.width)

    @classmethod
    def examples(cls) -> Iterable[Example]:
        rng = np.random.default_rng(12)
        index = Value("x", (3, 1), IntType(3, signed=False), (Interval(1, 6),))
        yield Example("table", cls(constant_array(rng.integers(-9, 10, (8, 4)))), (index,))
        signed = Value("x", (1,), IntType(3, signed=True), (Interval(-3, 2),))
        yield Example("from below 0", cls(constant_array(rng.integers(0, 2, (6, 3))), -3), (signed,))


def look_up(graph: GraphBuilder, node: ModelNode, x: Scaled, table: IntArray, affine: Affine) -> Scaled:
    """A row of `table` for each of x's elements, on a last axis behind x's own; row i belongs to x's real value i.

    Args:
        table: integers; the index wraps around, so that -1 names the last row.
        affine: what the table's integers mean, per column or for all.
    """
    value = graph.values[x.value]
    (step, *rest) = x.chain
    if rest or x.pools or not isinstance(step, Affine) or len(set(step.scale)) > 1 or len(set(step.shift)) > 1:
        raise node.fail(
            "looks up a tensor that is no plain scale of integers; look up what an ArgMax or an integer input gives"
        )
    scale, shift, own = step.scale[0], step.shift[0], value.hull
    if scale.denominator != 1 or shift.denominator != 1:
        raise node.fail(f"looks up a tensor with steps of {scale} from {shift}; an index has to be an integer")
    admit(node.where, (own.span + 1, table.shape[1]))
    named = np.arange(own.lo, own.hi + 1) * int(scale) + int(shift)
    if named.min() < -len(table) or named.max() >= len(table):
        raise node.fail(
            f"its index is {named.min()} to {named.max()}, but its table has {len(table)} rows; narrow the index's type"
        )
    wanted = x.index[0].reshape(*x.shape[1:], 1)
    source = arrange(graph, node, x, wanted)
    op = Lookup(constant_array(table[named]), own.lo)
    out = graph.add(graph.fresh("lookup"), op, [source.name], node.where, affine)
    return Scaled(out.name, np.arange(out.size).reshape(1, *out.shape), (affine,))


def table_of(node: ModelNode, position: int) -> tuple[IntArray, Affine]:
    """A constant table as integers and what they mean: its Quant's grid, or its floats over their common power of two."""
    constant = node.constant(position, "table")
    array = node.floats(position, "table")
    if array.ndim != 2 or not array.size:
        raise node.fail(f"its table has shape {array.shape}; (rows, columns) is supported")
    if constant.grid is not None:
        scale = np.broadcast_to(constant.grid.scale, array.shape).astype(np.float64)
        if (scale != scale[0]).any():
            raise node.fail("its table has a scale per row; use one per column or per table")
        return constant.grid.integers.astype(np.int64), Affine(fractions(scale[0]), (Fraction(0),))
    return _dyadic(node, array)


def _dyadic(node: ModelNode, array: Array) -> tuple[IntArray, Affine]:
    entries = [Fraction(v) for v in array.reshape(-1).tolist()]
    den = max(v.denominator for v in entries)
    most = max(abs(v) for v in entries) * den
    if int(most).bit_length() >= WIDEST_ENTRY:
        raise node.fail(f"its table needs integers of {int(most).bit_length() + 1} bits; put a Quant on it")
    integers = np.array([int(v * den) for v in entries], dtype=np.int64).reshape(array.shape)
    return integers, Affine((Fraction(1, den),), (Fraction(0),))


def gather_rows(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """Gather of a constant table by an activation."""
    x = node.scaled(1)
    if int(node.attribute("axis", 0)) != 0:
        raise node.fail(f"axis is {node.attribute('axis', 0)}; only rows of a constant, axis 0, can be looked up")
    table, affine = table_of(node, 0)
    return look_up(graph, node, x, table, affine)


@imports("OneHot")
def import_one_hot(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """OneHot with constant depth and values."""
    x = node.scaled(0)
    depth, values = node.floats(1, "depth").reshape(-1), node.floats(2, "values").reshape(-1)
    if depth.size != 1 or depth[0] != int(depth[0]) or depth[0] < 1 or values.size != 2:
        raise node.fail(f"its depth {depth.tolist()} or values {values.tolist()} do not fit; repair the model")
    admit(node.where, (int(depth[0]), int(depth[0])))
    table, affine = _dyadic(node, np.where(np.eye(int(depth[0]), dtype=bool), values[1], values[0]))
    out = look_up(graph, node, x, table, affine)
    axis = int(node.attribute("axis", -1)) % len(out.shape)
    if axis == 0:
        raise node.fail("axis is 0, which moves the batch axis; keep it first")
    return Scaled(out.value, np.moveaxis(out.index, -1, axis), out.chain)
