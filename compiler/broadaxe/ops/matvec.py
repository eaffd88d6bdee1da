"""MatVec: integer weights times a vector of integers, the multiply-accumulate operator behind Conv, MatMul and Gemm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from broadaxe.errors import GraphError
from broadaxe.hardware import DSP48E1, DSP48E2, DSP58, Dsp, Resources, Trace, repeated
from broadaxe.ir import (
    Bounds,
    Example,
    Fold,
    IntArray,
    Lanes,
    OnnxBuilder,
    Shape,
    Value,
    carrier,
    constant_array,
    divisors,
)
from broadaxe.ops import costs
from broadaxe.ops.mac import EXACT_FLOAT32, EXACT_FLOAT64, Mac
from broadaxe.ops.memories import builtin, by_lane, pack, weight_memory
from broadaxe.ops.packing import MOST_PRODUCTS, Packing, most_products, widest_lane
from broadaxe.types import Interval, IntType


@dataclass(frozen=True, eq=False)
class MatVec(Mac):
    """y[o] = start[o] + sum over i of weights[o, i] * x[i], on the last axis.

    With a `tile`, the sum is made in stages: an inner accumulator adds the products of `tile` inputs in a row, an outer one
    adds the tiles' sums. The value is the same; the inner accumulator only has to hold one tile.
    """

    kind = "matvec"
    tile: int | None = None

    @classmethod
    def of(
        cls,
        weights: IntArray,
        weight_dtype: IntType | None = None,
        start: IntArray | None = None,
        tile: int | None = None,
    ) -> MatVec:
        """Build from any integer arrays; the weight type defaults to the narrowest that holds the weights."""
        weights = constant_array(weights)
        if weight_dtype is None:
            weight_dtype = Interval(int(weights.min()), int(weights.max())).dtype
        start = constant_array(np.zeros(len(weights)) if start is None else start)
        return cls(weights, weight_dtype, start, None if tile is None or tile >= weights.shape[1] else tile)

    def shape(self, *inputs: Value) -> Shape:
        (x,) = inputs
        if x.channels != self.depth:
            raise GraphError(f"matvec: {self.depth} weights per output for vectors of {x.channels}; give as many")
        return (*x.shape[:-1], self.outputs)

    def operand_indices(self) -> IntArray:
        return np.arange(self.depth)[None, :]

    def tile_sums(self, *inputs: Value) -> Interval:
        """The hull of every tile's exact sum, in every channel; without tiles the whole sum is one."""
        (x,) = inputs
        return self._chunk_sums(*self._running(x), self.tile or self.depth)

    def _running(self, x: Value) -> tuple[IntArray, IntArray]:
        """Ends of the sums of each row's first products, shape (outputs, depth + 1)."""
        lo, hi = self.operands(x)
        ends = (self._products(lo, hi), self._products(hi, lo))
        low, high = (np.pad(np.cumsum(end, axis=1), ((0, 0), (1, 0))) for end in ends)
        return low, high

    def _chunk_sums(self, low: IntArray, high: IntArray, chunk: int) -> Interval:
        """The hull of the sums of every `chunk` products in a row, of all channels."""
        cuts = np.append(np.arange(0, self.depth, chunk), self.depth)
        return Interval(int(np.diff(low[:, cuts]).min()), int(np.diff(high[:, cuts]).max()))

    def packing(self, inputs: Sequence[Value], dsp: Dsp, fold: Fold | None = None) -> Packing:
        """Lanes hold whole sums if two or more of them fit; of a layer with tiles, the sums of tiles; or else those of the
        longest chunk with which two lanes fit."""
        (x,) = inputs
        pe, simd = (fold.pe, fold.simd) if fold else (self.outputs, 1)
        if self._packings.get("bounds") is not x.bounds:  # kept for the bounds seen last: foldings are many
            self._packings.clear()
            self._packings["bounds"] = x.bounds
        key = (dsp, min(pe, MOST_PRODUCTS), simd)
        if key not in self._packings:
            self._packings[key] = self._best_packing(x, *key)
        found: Packing = self._packings[key]
        return found

    @cached_property
    def _packings(self) -> dict[Any, Any]:
        return {}

    def _best_packing(self, x: Value, dsp: Dsp, rows: int, simd: int) -> Packing:
        known = self._packings
        if "whole" not in known:
            known["whole"] = self.dtype(x).width
        alone = Packing(1, known["whole"], self.depth)
        if self.tile:
            if "inner" not in known:
                known["inner"] = self.tile_sums(x).signed_dtype.width
            products = most_products(self.weight_ends, x.hull, known["inner"], dsp, rows)
            fits = products > 1 and self.tile % simd == 0
            return Packing(products, known["inner"], self.tile) if fits else alone
        products = most_products(self.weight_ends, x.hull, alone.lane, dsp, rows)
        if products > 1 or rows < 2:
            return replace(alone, products=products)
        room = widest_lane(self.weight_ends, x.hull, 2, dsp)
        if "running" not in known:
            known["running"] = self._running(x)
        low, high = known["running"]
        for chunk in range(self.depth - simd, 0, -simd):
            if (chunk, "bits") not in known:
                known[chunk, "bits"] = self._chunk_sums(low, high, chunk).signed_dtype.width
            if known[chunk, "bits"] <= room:
                return Packing(2, known[chunk, "bits"], chunk)
        return alone

    def pe_bits(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> tuple[int, ...] | None:
        """Lanes that hold whole sums are all as wide as the widest."""
        packing = self.packed(inputs, lanes)
        return super().pe_bits(inputs, output, lanes) if packing is None or packing.chunk < self.depth else None

    def foldings(self) -> list[Fold]:
        """PE divides the outputs, SIMD the inputs; SIMD divides the tile, or is a multiple of it."""
        simds = [d for d in divisors(self.depth) if not self.tile or self.tile % d == 0 or d % self.tile == 0]
        return [Fold(pe, simd) for pe in divisors(self.outputs) for simd in simds]

    def lanes(self, fold: Fold) -> Lanes:
        return Lanes(fold.simd, fold.pe, fold.multiplier, fold.dsp)

    @cached_property
    def _columns(self) -> dict[type, IntArray]:
        """Weights as (inputs, outputs) in each float type that has been asked for."""
        return {}

    def _blas(self, kind: type) -> IntArray:
        if kind not in self._columns:
            self._columns[kind] = np.ascontiguousarray(self.weights.T.astype(kind))
        return self._columns[kind]

    def reference(self, *inputs: IntArray) -> IntArray:
        """Exact matrix product: BLAS where every partial sum is an integer that the float type holds, else int64."""
        (x,) = inputs
        info = np.iinfo(x.dtype)
        norm, start = int(self.row_norms.max()), int(np.abs(self.start).max())
        largest = norm * max(-int(info.min), int(info.max)) + start
        if largest >= EXACT_FLOAT32 and x.size:
            largest = norm * max(-int(x.min()), int(x.max())) + start
        out = carrier(IntType(largest.bit_length() + 1, signed=True))
        if largest < EXACT_FLOAT64:
            kind = np.float32 if largest < EXACT_FLOAT32 else np.float64
            rows = x.reshape(-1, self.depth).astype(kind) @ self._blas(kind)
            rows = rows.astype(np.int32 if out.itemsize <= 4 else out)
        else:
            rows = x.reshape(-1, self.depth).astype(np.int64) @ self.weights.T
        if start:
            rows += self.start.astype(rows.dtype)
        return rows.reshape(*x.shape[:-1], self.outputs)

    def render(self, builder: OnnxBuilder, inputs: Sequence[str], values: Sequence[Value]) -> str:
        largest = self.largest(values[0])
        kind = np.float32 if largest < EXACT_FLOAT32 else np.float64 if largest < EXACT_FLOAT64 else np.int64
        product = builder.node("MatMul", builder.cast(inputs[0], kind), builder.constant(self._blas(kind)))
        return builder.node("Add", product, builder.constant(self.start.astype(kind)))

    def cycles(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> int:
        return prod(output.shape[:-1]) * (self.outputs // lanes.written) * (self.depth // lanes.read)

    def trace(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Trace:
        """A vector is read during its first block of rows; each block writes in its last step."""
        vectors, blocks, steps = prod(output.shape[:-1]), self.outputs // lanes.written, self.depth // lanes.read
        reads = repeated(np.arange(steps), blocks * steps, vectors)
        return Trace(vectors * blocks * steps, (reads,), repeated([steps - 1], steps, vectors * blocks))

    def template_context(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Mapping[str, Any]:
        """Row nf * PE + pe is computed by PE pe in its fold nf; step nf * SF + sf reads inputs sf * SIMD and on.

        Packed, it is lane pe % products of block pe // products.
        """
        pe, simd = lanes.written, lanes.read
        weights, kind, start = self.weights, self.weight_dtype, self.start
        packing, terms = self.packed(inputs, lanes), self.terms(lanes)
        if lanes.multiplier == "lut" and self._matches_bits(inputs[0]):
            below = (weights < 0).sum(axis=1)
            weights, kind, terms = (weights + 1) // 2, IntType(1, signed=False), "broadaxe::matches"
            start = np.array([output.dtype.wrap(v) for v in (start - below).tolist()])
        starts = by_lane(start, pe)
        if packing and packing.chunk == self.depth:
            starts = _packed_starts(start, pe, packing)
        steps = (self.outputs // pe) * (self.depth // simd)
        rows = weights.reshape(self.outputs // pe, pe, self.depth // simd, simd)
        inner = self.tile_sums(*inputs) if self.tile else None
        words, word_type = pack(rows.transpose(1, 0, 2, 3).reshape(pe, steps, simd), kind.width)
        return {
            "mw": self.depth,
            "mh": self.outputs,
            "simd": simd,
            "pe": pe,
            "vectors": prod(output.shape[:-1]),
            "weight_type": str(kind),
            "word_type": word_type,
            "weights": words.tolist(),
            "memory": weight_memory(steps, simd, kind.width, word_type),
            "start_type": builtin(min(map(min, starts)), max(map(max, starts))),
            "start": starts,
            "terms": terms,
            "widths": self.pe_bits(inputs, output, lanes),
            "tile": self.tile,
            "inner_type": str(inner.signed_dtype) if inner else None,
            "packing": packing,
            "dsp": lanes.dsp.name,
        }

    def _matches_bits(self, x: Value) -> bool:
        """Whether weights are -1 and +1 and inputs bits: the kernel then counts bits that match (XNOR)."""
        return self.tile is None and x.dtype == IntType(1, signed=False) and self._of_signs

    @cached_property
    def _of_signs(self) -> bool:
        return bool((np.abs(self.weights) == 1).all())

    def resources(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Resources:
        """Multipliers, trees and accumulators, the memories of weights, starts and the vector, and counters.

        Without more than one step all weights are constants: rows of adders, in which a zero costs nothing.
        """
        (x,) = inputs
        pe, simd, width = lanes.written, lanes.read, output.dtype.width
        row_blocks, words = self.outputs // pe, self.depth // simd
        steps, vectors = row_blocks * words, prod(output.shape[:-1])
        if steps == 1 and lanes.multiplier == "lut":
            return self._unrolled(x.dtype.width, width) + costs.counters(vectors)
        control = costs.counters(vectors * steps, words, row_blocks, steps)
        vector = costs.placed(simd * x.dtype.width, words) if row_blocks > 1 else Resources()
        starts = costs.times(costs.placed(self.start_bits, row_blocks, rom=True), pe)
        return control + vector + starts + self._array(x, output, lanes) + self._weight_memories(x, pe, simd, steps)

    def _array(self, x: Value, output: Value, lanes: Lanes) -> Resources:
        pe, simd, width = lanes.written, lanes.read, output.dtype.width
        packing = self.packed((x,), lanes)
        if packing:
            outer = costs.times(costs.accumulator(width), pe) if packing.chunk < self.depth else Resources()
            return outer + costs.packed_array(pe, simd, x.dtype.width, self.weight_dtype.width, packing)
        if self._matches_bits(x) and lanes.multiplier == "lut":
            return costs.match_array(pe, simd, width)
        inner = self._inner_width(x) if self.tile else width
        sums = costs.mac_array(pe, simd, x.dtype.width, self.weight_dtype.width, inner)
        outer = costs.times(costs.accumulator(width), pe) if self.tile else Resources()
        return sums + outer + self.products(x, pe, simd, lanes.multiplier)

    def _weight_memories(self, x: Value, pe: int, simd: int, steps: int) -> Resources:
        """A memory for each PE and each 64 bits of a step's weights, as `pack` lays them out."""
        bits = 1 if self._matches_bits(x) else self.weight_bits
        return costs.times(costs.words(simd, bits, steps), pe)

    def _inner_width(self, x: Value) -> int:
        """Bits of a tile's sum; kept for the bounds seen last."""
        found = self._inner.get(id(x.bounds))
        if found is None:
            self._inner.clear()
            found = self._inner[id(x.bounds)] = (x.bounds, self.tile_sums(x).signed_dtype.width)
        return found[1]

    @cached_property
    def _inner(self) -> dict[int, tuple[Bounds, int]]:
        return {}

    def _unrolled(self, bits: int, width: int) -> Resources:
        if (bits, width) not in self._rows:
            self._rows[bits, width] = costs.constant_rows(self.weights, bits, width)
        return self._rows[bits, width]

    @cached_property
    def _rows(self) -> dict[tuple[int, int], Resources]:
        return {}

    @classmethod
    def examples(cls) -> Iterable[Example]:
        rng = np.random.default_rng(7)
        vector = Value("x", (12,), IntType(4, signed=False), (Interval(0, 15),) * 12)
        uneven = tuple(Interval(-int(a), int(b)) for a, b in rng.integers(0, 8, size=(18, 2)))
        image = Value("x", (3, 2, 18), IntType(4, signed=True), uneven)
        yield Example("dense 4x4 bit", cls.of(rng.integers(-7, 8, size=(10, 12))), (vector,))
        yield Example(
            "image with a start", cls.of(rng.integers(-8, 8, size=(6, 18)), None, rng.integers(-99, 99, 6)), (image,)
        )
        yield Example("binary weights", cls.of(rng.integers(0, 2, size=(4, 12))), (vector,))
        bits = Value("x", (3, 12), IntType(1, signed=False), (Interval(0, 1),) * 12)
        signs = 2 * rng.integers(0, 2, size=(6, 12)) - 1
        yield Example("bits against signs", cls.of(signs, None, rng.integers(-3, 4, 6)), (bits,))
        wide = Value("x", (4, 12), IntType(16, signed=True), (Interval(-32768, 32767),) * 12)
        yield Example("8x16 bit", cls.of(rng.integers(-128, 128, size=(8, 12))), (wide,))
        huge = Value("x", (12,), IntType(32, signed=True), (IntType(32, signed=True).range,) * 12)
        yield Example("sums beyond 2**53", cls.of(rng.integers(-(1 << 22), 1 << 22, size=(4, 12))), (huge,))
        tiled = cls.of(rng.integers(-8, 8, size=(4, 18)), None, rng.integers(-99, 99, 4), tile=6)
        yield Example("tiles of 6", tiled, (image,))
        uneven_tiles = cls.of(rng.integers(-8, 8, size=(4, 18)), tile=4)
        yield Example("tiles that do not divide", uneven_tiles, (image,))
        yield Example("all weights zero", cls.of(np.zeros((2, 12), dtype=np.int64)), (vector,))
        trees = cls.of(rng.integers(-8, 8, size=(4, 18)), None, rng.integers(-99, 99, 4), tile=3)
        yield Example("a tree for each of two tiles", trees, (image,), Fold(2, 6))
        yield Example("one product a block", cls.of(rng.integers(-8, 8, size=(6, 18))), (image,), Fold(3, 3, "dsp"))
        yield from cls._packed_examples(rng, vector, image)

    @classmethod
    def _packed_examples(cls, rng: np.random.Generator, vector: Value, image: Value) -> Iterable[Example]:
        def packed(label: str, op: MatVec, x: Value, pe: int, simd: int, dsp: Dsp = DSP48E1) -> Example:
            return Example(f"packed: {label}", op, (x,), Fold(pe, simd, "packed", dsp))

        starts = rng.integers(-500, 500, 6)
        yield packed("unsigned inputs", cls.of(rng.integers(-8, 8, size=(4, 12))), vector, 4, 3)
        yield packed("a block that is not full", cls.of(rng.integers(-8, 8, size=(6, 18)), None, starts), image, 3, 2)
        bits = Value("x", (3, 12), IntType(1, signed=False), (Interval(0, 1),) * 12)
        yield packed("four products", cls.of(rng.integers(-1, 2, size=(8, 12))), bits, 8, 4)
        yield packed("three products", cls.of(rng.integers(-2, 2, size=(6, 12))), vector, 6, 12, DSP48E2)
        long = Value("x", (2, 12), IntType(21, signed=False), (IntType(21, signed=False).range,) * 12)
        yield packed(
            "50 bits of a DSP58", cls.of(rng.integers(0, 2, size=(4, 12)) | (np.arange(12) < 8)), long, 2, 3, DSP58
        )
        byte = Value("x", (2, 18), IntType(8, signed=True), (IntType(8, signed=True).range,) * 18)
        wide = cls.of(rng.integers(-128, 128, size=(4, 18)), None, rng.integers(-99, 99, 4))
        yield packed("chunks", wide, byte, 4, 2)
        tiled = cls.of(rng.integers(-8, 8, size=(4, 18)), None, rng.integers(-99, 99, 4), tile=4)
        yield packed("tiles", tiled, image, 4, 2)


def _packed_starts(start: IntArray, pe: int, packing: Packing) -> list[list[int]]:
    """What the lanes of each block start at, as one integer for each fold, with half a lane's range in every lane."""
    lane, products = packing.lane, packing.products
    whole, half = 1 << (lane * products), 1 << (lane - 1)
    digits = [[value + half for value in row] for row in start.reshape(-1, pe).tolist()]
    blocks = [range(first, min(first + products, pe)) for first in range(0, pe, products)]
    return [[sum(row[p] << (lane * (p - block[0])) for p in block) % whole for row in digits] for block in blocks]
