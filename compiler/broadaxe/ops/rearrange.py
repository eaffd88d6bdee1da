"""Rearrange: the elements of a stream in another order, some left out, some repeated, some replaced by a pad code.

It stands for whatever only moves integers and cannot be taken into a reader's weights: Transpose, Slice, Split, Gather, Pad,
Resize to nearest, broadcasts, DepthToSpace before a window, the interleaving behind a transposed convolution.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd, prod
from typing import Any

import numpy as np

from broadaxe.errors import GraphError
from broadaxe.hardware import Resources, Trace
from broadaxe.ir import Bounds, Example, IntArray, Lanes, OnnxBuilder, Op, Shape, Value, constant_array
from broadaxe.ops import costs
from broadaxe.ops.memories import builtin, fitting
from broadaxe.types import Interval, IntType

LAG = 4
"""Trips of the kernel between storing a word and emitting it."""


@dataclass(frozen=True, eq=False)
class Rearrange(Op):
    """y[i] = x[outer[a] + middle[b] + inner[c]], or a pad code where one of the three is below 0; all indices flat.

    Output i = (a * len(middle) + b) * len(inner) + c. Three tables, because what networks do with their tensors nearly always
    is a sum of one offset per axis; anything else is one long inner table.

    Attributes:
        to: shape of the output.
        outer, middle, inner: offsets into the flat input; -1 for padding.
        pad_codes: one integer per output channel, or a single one for all.
    """

    kind = "rearrange"
    moves = True
    to: Shape
    outer: IntArray
    middle: IntArray
    inner: IntArray
    pad_codes: tuple[int, ...] = (0,)

    @classmethod
    def of(cls, wanted: IntArray, pad_codes: tuple[int, ...] = (0,)) -> Rearrange:
        """Build from the flat input position of every output element, shape `to`; -1 for padding."""
        shape = wanted.shape
        rows, columns = (prod(shape[:-2]), shape[-2]) if len(shape) > 2 else (prod(shape[:-1]), 1)
        parts = wanted.reshape(rows, columns, shape[-1])
        tables = _tables(parts) or _tables(parts.reshape(1, 1, -1))
        assert tables is not None
        outer, middle, inner = (constant_array(table) for table in tables)
        return cls(shape, outer, middle, inner, pad_codes)

    @cached_property
    def positions(self) -> IntArray:
        """Flat input position of every output element, shape `to`; -1 for padding."""
        parts = (self.outer[:, None, None], self.middle[:, None], self.inner)
        padding = (parts[0] < 0) | (parts[1] < 0) | (parts[2] < 0)
        return np.where(padding, -1, parts[0] + parts[1] + parts[2]).reshape(self.to)

    @property
    def padded(self) -> bool:
        return bool(min(self.outer.min(), self.middle.min(), self.inner.min()) < 0)

    def codes(self) -> tuple[int, ...]:
        """The pad code of each output channel."""
        return self.pad_codes * self.to[-1] if len(self.pad_codes) == 1 else self.pad_codes

    @property
    def granularity(self) -> int:
        """The most elements in a row that always move together; a kernel's lanes divide it."""
        last, channels = self.inner, self.to[-1]
        most = channels
        for table in (self.outer, self.middle):
            most = gcd(most, *table[table >= 0].tolist())
        while most > 1 and not _moves_whole(last, most):
            most = next(d for d in range(most - 1, 0, -1) if most % d == 0)
        return most

    def shape(self, *inputs: Value) -> Shape:
        (x,) = inputs
        highest = int(self.outer.max()) + int(self.middle.max()) + int(self.inner.max())
        if highest >= x.size or prod(self.to) != len(self.outer) * len(self.middle) * len(self.inner):
            raise GraphError(
                f"rearrange: positions up to {highest} of {x.size} elements do not fill {self.to}; give one of these for"
                " each element"
            )
        if len(self.pad_codes) not in (1, self.to[-1]) or len(self.inner) % self.to[-1]:
            raise GraphError(
                f"rearrange: {len(self.pad_codes)} pad codes, {len(self.inner)} offsets for {self.to[-1]} channels; give as"
                " many for each"
            )
        return self.to

    def bounds(self, *inputs: Value) -> Bounds:
        """What a channel's elements read, hulled; which input channels these are follows from sums of residues."""
        (x,) = inputs
        old, new = x.channels, self.to[-1]
        lead, ends = (
            np.zeros(1, dtype=np.int64),
            x.ends(),
        )  # offsets of the first two indices, modulo the input's channels
        for table in (self.outer, self.middle):
            lead = np.unique((lead[:, None] + table[table >= 0] % old) % old)
        pads = bool((self.outer < 0).any() or (self.middle < 0).any())
        out = []
        for column, code in zip(self.inner.reshape(-1, new).T, self.codes(), strict=True):
            taken = column[column >= 0]
            if not (lead.size and taken.size):
                out.append(Interval(code, code))
                continue
            read = np.unique((lead[:, None] + np.unique(taken % old)) % old)
            seen = Interval(int(ends[0][read].min()), int(ends[1][read].max()))
            out.append(seen | code if pads or taken.size < column.size else seen)
        return tuple(out)

    def dtype(self, *inputs: Value) -> IntType:
        """The input's type, widened where a pad code does not fit it."""
        (x,) = inputs
        if not self.padded or all(code in x.dtype.range for code in self.pad_codes):
            return x.dtype
        return (x.dtype.range | Interval(min(self.pad_codes), max(self.pad_codes))).dtype

    def reference(self, *inputs: IntArray) -> IntArray:
        (x,) = inputs
        taken = x.reshape(len(x), -1)[:, self.positions.reshape(-1)].reshape(len(x), *self.to)
        if not self.padded:
            return taken
        codes = np.array(self.codes())
        kind = np.result_type(x.dtype, np.min_scalar_type(int(codes.min())), np.min_scalar_type(int(codes.max())))
        return np.where(self.positions < 0, codes, taken).astype(kind)

    def render(self, builder: OnnxBuilder, inputs: Sequence[str], values: Sequence[Value]) -> str:
        (x,) = values
        flat = builder.node("Reshape", inputs[0], builder.constant(np.array([-1, x.size], dtype=np.int64)))
        at = self.positions.reshape(-1)
        picked = builder.node("Gather", flat, builder.constant(np.maximum(at, 0)), axis=1)
        shaped = builder.node("Reshape", picked, builder.constant(np.array([-1, *self.to], dtype=np.int64)))
        if not self.padded:
            return shaped
        codes = builder.constant(np.array(self.codes(), dtype=builder.kind(shaped)))
        return builder.node("Where", builder.constant(self.positions < 0), codes, shaped)

    def cycles(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> int:
        return self.trace(inputs, output, lanes).trips

    def trace(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Trace:
        """Every word's trip, by the recurrence in hw/rearrange.hpp."""
        (x,) = inputs
        outer, middle, inner = self._words(lanes.read)
        words, ring = x.size // lanes.read, self.ring(x, lanes.read)
        keep = self._keep(x, lanes.read)
        row = np.where((middle[:, None] < 0) | (inner < 0), -1, middle[:, None] + inner).reshape(-1)
        arrived = np.empty(words, dtype=np.int64)
        writes: list[IntArray] = []
        read, start, count = 0, 0, np.arange(len(row))
        for first, kept in zip(outer.tolist(), keep.tolist(), strict=True):
            upto = min(words, kept + ring)
            if upto > read:
                begin = max(start, int(arrived[read - 1]) + 1 if read else 0)
                arrived[read:upto] = np.arange(begin, begin + upto - read)
                read = upto
            ready = np.where((row < 0) | (first < 0), 0, arrived[np.clip(row + first, 0, words - 1)] + LAG)
            emitted = np.maximum.accumulate(np.maximum(ready, start) - count) + count
            writes.append(emitted)
            start = int(emitted[-1]) + 1
        begin = max(start, int(arrived[read - 1]) + 1 if read else 0)
        arrived[read:] = np.arange(begin, begin + words - read)
        return Trace(max(start, int(arrived[-1]) + 1), (arrived,), np.concatenate(writes))

    def _words(self, lanes: int) -> tuple[IntArray, IntArray, IntArray]:
        """The tables in words of `lanes` elements."""
        inner = self.inner.reshape(-1, lanes)[:, 0]
        outer, middle, inner = (np.where(t < 0, -1, t // lanes) for t in (self.outer, self.middle, inner))
        return outer, middle, inner

    def _reach(self, lanes: int) -> tuple[IntArray, IntArray]:
        """First and last word that the outputs of each outer index read, int64; words of padding alone read none."""
        outer, *rest = self._words(lanes)
        ends = [(int(t[t >= 0].min()), int(t.max())) for t in rest]
        low, high = (outer + sum(end[which] for end in ends) for which in (0, 1))
        return np.where(outer < 0, np.iinfo(np.int64).max, low), np.where(outer < 0, -1, high)

    def _keep(self, x: Value, lanes: int) -> IntArray:
        """The first word that an output of each outer index or a later one reads."""
        low, _ = self._reach(lanes)
        return np.minimum(np.minimum.accumulate(low[::-1])[::-1], x.size // lanes)

    def ring(self, x: Value, lanes: int) -> int:
        """Words that the kernel holds: what an outer index reads, and the next one where that is known, as a power of two."""
        _, high = self._reach(lanes)
        keep = self._keep(x, lanes)
        ahead = np.maximum(high, np.append(high[1:], -1))
        most = min(x.size // lanes, max(1, int((ahead + 1 - keep).max())))
        return 1 << (most - 1).bit_length()

    def template_context(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Mapping[str, Any]:
        (x,) = inputs
        tables = dict(zip(("outer", "middle", "inner"), self._words(lanes.read), strict=True))
        tables["keep"] = self._keep(x, lanes.read)
        codes = self.codes()
        return {
            "lanes": lanes.read,
            "tables": [{"name": n, "type": fitting(t), "values": t.tolist()} for n, t in tables.items()],
            "sizes": [len(tables[name]) for name in ("outer", "middle", "inner")],
            "groups": output.channels // lanes.read,
            "words": x.size // lanes.read,
            "ring": self.ring(x, lanes.read),
            "trips": self.cycles(inputs, output, lanes),
            "pad_type": builtin(min(codes), max(codes)),
            "pad": np.array(codes).reshape(-1, lanes.read).T.tolist(),
        }

    def resources(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Resources:
        """The ring, the three tables and those of what is kept, and the sums and comparisons of addresses."""
        (x,) = inputs
        count, bits = lanes.read, output.dtype.width
        sizes, words = (len(self.outer), len(self.middle), max(1, len(self.inner) // count)), x.size // count
        address = max(1, (words - 1).bit_length()) + 1
        tables = costs.total(costs.placed(address, size, rom=True) for size in (*sizes, sizes[0]))
        ring = costs.placed(count * bits, self.ring(x, count))
        sums = Resources(4 * address, 6 * address)
        pads = len(set(self.pad_codes)) > 1 and self.padded
        blocks = output.channels // count
        padding = costs.times(costs.placed(bits, blocks, rom=True), count) if pads else Resources()
        choice = Resources(lut=count * bits if self.padded else 0)
        return tables + ring + sums + padding + choice + costs.counters(output.size // count, *sizes)

    @classmethod
    def examples(cls) -> Iterable[Example]:
        kind = IntType(4, signed=True)
        image = Value("x", (3, 4, 6), kind, tuple(Interval(-c, 7 - c) for c in range(6)))
        at = np.arange(72).reshape(3, 4, 6)
        yield Example("transposed", cls.of(at.transpose(2, 0, 1)), (image,))
        yield Example("cut out", cls.of(at[1:, 1:3, 2:4]), (image,))
        padded = np.pad(at, ((1, 0), (0, 2), (0, 0)), constant_values=-1)
        yield Example("padded", cls.of(padded, (1, 2, -3, -4, 0, 6)), (image,))
        yield Example(
            "wider pad code", cls.of(np.pad(at, ((0, 0), (1, 1), (0, 0)), constant_values=-1), (9,)), (image,)
        )
        yield Example("channels padded", cls.of(np.pad(at, ((0, 0), (0, 0), (0, 2)), constant_values=-1)), (image,))
        yield Example("nearest, twice as large", cls.of(at.repeat(2, axis=0).repeat(2, axis=1)), (image,))
        vector = Value("x", (6,), kind, tuple(Interval(-c, 7 - c) for c in range(6)))
        yield Example("a vector for each pixel", cls.of(np.broadcast_to(np.arange(6), (2, 3, 6))), (vector,))
        yield Example("backwards", cls.of(at[::-1, ::-1]), (image,))
        rng = np.random.default_rng(9)
        yield Example("no pattern", cls.of(rng.permutation(72)[:30].reshape(5, 6)), (image,))
        yield Example("pairs of channels", cls.of(at[:, :, [4, 5, 0, 1]]), (image,))


def _tables(parts: IntArray) -> tuple[IntArray, IntArray, IntArray] | None:
    """Offsets per index of each of three axes that add up to `parts`; None where there are none."""
    padding = parts < 0
    kept = [~padding.all(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    if not all(k.any() for k in kept):  # padding alone
        return tuple(np.full(n, -1 if axis == 0 else 0) for axis, n in enumerate(parts.shape))  # type: ignore[return-value]
    core = parts[np.ix_(*kept)]
    if (core < 0).any():
        return None
    steps = [core[:, 0, 0] - core[0, 0, 0], core[0, :, 0] - core[0, 0, 0], core[0, 0] - core[0, 0, 0]]
    lowest = [int(step.min()) for step in steps]
    steps = [step - low for step, low in zip(steps, lowest, strict=True)]
    base = int(core[0, 0, 0]) + sum(lowest)
    if (core != base + steps[0][:, None, None] + steps[1][:, None] + steps[2]).any():
        return None
    tables = []
    for axis, (mask, step) in enumerate(zip(kept, steps, strict=True)):
        table = np.full(parts.shape[axis], -1, dtype=np.int64)
        table[mask] = step + (base if axis == 0 else 0)
        tables.append(table)
    return tables[0], tables[1], tables[2]


def _moves_whole(table: IntArray, count: int) -> bool:
    """Whether every `count` entries in a row are padding, or neighbours from a multiple of `count` on."""
    if len(table) % count:
        return False
    runs = table.reshape(-1, count)
    padding = runs < 0
    moved = (runs == runs[:, :1] + np.arange(count)).all(axis=1) & (runs[:, 0] % count == 0) & ~padding.any(axis=1)
    return bool((moved | padding.all(axis=1)).all())
