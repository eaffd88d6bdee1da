"""MatVec: integer weights times a vector of integers, the multiply-accumulate operator behind Conv, MatMul and Gemm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from broadaxe.errors import GraphError
from broadaxe.hardware import Resources, Trace, repeated
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
from broadaxe.ops.memories import builtin, by_lane, pack
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
            raise GraphError(f"matvec: {self.depth} weights per output for vectors of {x.channels}")
        return (*x.shape[:-1], self.outputs)

    def operand_indices(self) -> IntArray:
        return np.arange(self.depth)[None, :]

    def tile_sums(self, *inputs: Value) -> Interval:
        """The hull of every tile's exact sum, in every channel; without tiles the whole sum is one."""
        (x,) = inputs
        lo, hi = self.operands(x)
        starts = np.arange(0, self.depth, self.tile or self.depth)
        low = np.add.reduceat(self._products(lo, hi), starts, axis=1)
        high = np.add.reduceat(self._products(hi, lo), starts, axis=1)
        return Interval(int(low.min()), int(high.max()))

    def foldings(self) -> list[Fold]:
        """PE divides the outputs, SIMD the inputs and the tile."""
        simds = [d for d in divisors(self.depth) if self.tile is None or self.tile % d == 0]
        return [Fold(pe, simd) for pe in divisors(self.outputs) for simd in simds]

    def lanes(self, fold: Fold) -> Lanes:
        return Lanes(fold.simd, fold.pe)

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
        """Row nf * PE + pe is computed by PE pe in its fold nf; step nf * SF + sf reads inputs sf * SIMD and on."""
        pe, simd = lanes.written, lanes.read
        weights, kind, start = self.weights, self.weight_dtype, self.start
        matching = self._matches_bits(inputs[0])
        if matching:
            below = (weights < 0).sum(axis=1)
            weights, kind = (weights + 1) // 2, IntType(1, signed=False)
            start = np.array([output.dtype.wrap(v) for v in (start - below).tolist()])
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
            "start_type": builtin(int(start.min()), int(start.max())),
            "start": by_lane(start, pe),
            "terms": "broadaxe::matches" if matching else None,
            "tile": self.tile,
            "inner_type": str(inner.signed_dtype) if inner else None,
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
