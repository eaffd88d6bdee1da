"""GroupedMatVec: grouped and depthwise convolution behind a sliding window; with weights of 1 an average pool's sums."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from broadaxe.errors import GraphError
from broadaxe.hardware import Resources, Trace, repeated
from broadaxe.ir import Example, Fold, IntArray, Lanes, OnnxBuilder, Shape, Value, constant_array, divisors
from broadaxe.ops import costs
from broadaxe.ops.mac import EXACT_FLOAT32, EXACT_FLOAT64, Mac
from broadaxe.ops.memories import builtin, by_lane, pack, weight_memory
from broadaxe.types import Interval, IntType


@dataclass(frozen=True, eq=False)
class GroupedMatVec(Mac):
    """y[o] = start[o] + sum over taps t and channels j of o's group of weights[o, t * CG + j] * x[t * C + g * CG + j].

    The input vector holds `taps` taps of C channels, channels fastest, as a sliding window gives them. Output o belongs to
    group g = o // (outputs / groups); CG = C / groups.
    """

    kind = "grouped_matvec"
    groups: int = 1
    taps: int = 1

    @classmethod
    def of(
        cls, weights: IntArray, groups: int, taps: int, dtype: IntType | None = None, start: IntArray | None = None
    ) -> GroupedMatVec:
        weights = constant_array(weights)
        if dtype is None:
            dtype = Interval(int(weights.min()), int(weights.max())).dtype
        start = constant_array(np.zeros(len(weights)) if start is None else start)
        return cls(weights, dtype, start, groups, taps)

    @property
    def channels(self) -> int:
        """C, channels of each tap."""
        return self.depth // self.taps * self.groups

    @property
    def depthwise(self) -> bool:
        """One input channel and one output for each group."""
        return self.groups == self.channels == self.outputs

    def shape(self, *inputs: Value) -> Shape:
        (x,) = inputs
        if x.channels != self.taps * self.channels or self.outputs % self.groups or self.depth % self.taps:
            raise GraphError(
                f"grouped_matvec: {self.outputs} rows of {self.depth} weights in {self.groups} groups do not fit"
                f" vectors of {x.channels}; divide both evenly among the groups"
            )
        return (*x.shape[:-1], self.outputs)

    def operand_indices(self) -> IntArray:
        size = self.depth // self.taps
        group = np.arange(self.outputs) // (self.outputs // self.groups)
        within = np.arange(self.taps)[:, None] * self.channels + np.arange(size)
        return np.asarray(group[:, None] * size + within.reshape(1, -1))

    def reference(self, *inputs: IntArray) -> IntArray:
        (x,) = inputs
        leading = x.shape[:-1]
        info = np.iinfo(x.dtype)
        largest = int(self.row_norms.max()) * max(-int(info.min), int(info.max)) + self.largest_start
        kind: type[np.signedinteger[Any]] = np.int32 if largest < 1 << 31 else np.int64
        if self.depthwise:
            kind = np.int16 if largest < 1 << 15 else kind
            taps = x.reshape(-1, self.taps, self.channels)
            out = np.broadcast_to(self.start.astype(kind), (len(taps), self.channels)).copy()
            product = np.empty_like(out)
            for tap, row in enumerate(self.weights.T.astype(kind)):
                out += np.multiply(taps[:, tap], row, out=product, dtype=kind)
            return np.asarray(out.reshape(*leading, self.outputs))
        parts = x.reshape(-1, self.taps, self.groups, self.depth // self.taps).transpose(2, 0, 1, 3)
        rows = self.weights.reshape(self.groups, -1, self.depth).transpose(0, 2, 1)
        exact = np.float32 if largest < EXACT_FLOAT32 else np.float64 if largest < EXACT_FLOAT64 else np.int64
        sums = parts.reshape(self.groups, -1, self.depth).astype(exact) @ rows.astype(exact)
        flat = sums.transpose(1, 0, 2).reshape(*leading, self.outputs)
        return np.asarray(flat.astype(kind) + self.start.astype(kind))

    def render(self, builder: OnnxBuilder, inputs: Sequence[str], values: Sequence[Value]) -> str:
        """Products by broadcasting, then a sum over taps and channels of the group; int64 by one product of matrices a
        group, because onnxruntime's ReduceSum of int64 is not exact beyond 2**53."""
        (x,) = values
        largest = self.largest(x)
        kind = np.float32 if largest < EXACT_FLOAT32 else np.float64 if largest < EXACT_FLOAT64 else np.int64
        leading, size = x.shape[:-1], self.depth // self.taps
        rows = self.weights.reshape(self.groups, -1, self.taps, size).astype(kind)
        parts = [self.taps, self.groups, size] if kind is np.int64 else [self.taps, self.groups, 1, size]
        split = builder.constant(np.array([-1, *leading, *parts], dtype=np.int64))
        taps = builder.node("Reshape", builder.cast(inputs[0], kind), split)
        if kind is np.int64:
            axes = len(leading)
            order = [*range(axes + 1), axes + 2, axes + 1, axes + 3]
            grouped = builder.node("Transpose", taps, perm=order)
            vectors = builder.constant(np.array([-1, *leading, self.groups, 1, self.depth], dtype=np.int64))
            matrices = rows.reshape(self.groups, -1, self.depth).transpose(0, 2, 1)
            sums = builder.node("MatMul", builder.node("Reshape", grouped, vectors), builder.constant(matrices))
        else:
            weights = np.ascontiguousarray(rows.transpose(2, 0, 1, 3))
            products = builder.node("Mul", taps, builder.constant(weights))
            sums = builder.node("ReduceSum", products, builder.constant(np.array([-4, -1])), keepdims=0)
        flat = builder.node("Reshape", sums, builder.constant(np.array([-1, *leading, self.outputs], dtype=np.int64)))
        return builder.node("Add", flat, builder.constant(self.start.astype(kind)))

    def foldings(self) -> list[Fold]:
        """Depthwise: PE channels, with one of their taps a cycle or, all channels together, SIMD taps."""
        if self.depthwise:
            several = [Fold(self.channels, taps) for taps in divisors(self.taps)[1:]]
            return [Fold(pe, 1) for pe in divisors(self.channels)] + several
        outputs, inputs = divisors(self.outputs // self.groups), divisors(self.depth // self.taps)
        return [Fold(pe, simd) for pe in outputs for simd in inputs]

    def lanes(self, fold: Fold) -> Lanes:
        read = fold.pe * fold.simd if self.depthwise else fold.simd
        return Lanes(read, fold.pe, fold.multiplier, fold.dsp)

    def stages(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> int:
        """As a MatVec; depthwise, the adder trees are those of a channel's taps."""
        if self.depthwise:
            return super().stages(inputs, output, replace(lanes, read=lanes.read // lanes.written))
        return super().stages(inputs, output, lanes)

    def cycles(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> int:
        """Depthwise: one trip a word. Grouped: a vector is read while the one before it is computed."""
        vectors, words = prod(output.shape[:-1]), inputs[0].channels // lanes.read
        if self.depthwise:
            return vectors * words
        return words + vectors * (self.outputs // lanes.written) * (self.depth // lanes.read)

    def trace(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Trace:
        """Depthwise: words of a pixel's last taps write. Grouped: a vector is read in the trips that work on the one before."""
        vectors, words = prod(output.shape[:-1]), inputs[0].channels // lanes.read
        if self.depthwise:
            last = np.arange(words - self.outputs // lanes.written, words)
            return Trace(vectors * words, (np.arange(vectors * words),), repeated(last, words, vectors))
        steps = self.depth // lanes.read
        work = self.outputs // lanes.written * steps
        first = np.arange(words)
        reads = np.concatenate([first, words + repeated(first, work, vectors - 1)])
        writes = words + repeated([steps - 1], steps, vectors * work // steps)
        return Trace(words + vectors * work, (reads,), writes)

    def template_context(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Mapping[str, Any]:
        bits = self.weight_dtype.width
        common = {
            "depthwise": self.depthwise,
            "taps": self.taps,
            "channels": self.channels,
            "vectors": prod(output.shape[:-1]),
            "weight_type": str(self.weight_dtype),
            "start_type": builtin(int(self.start.min()), int(self.start.max())),
            "start": by_lane(self.start, lanes.written),
            "terms": self.terms(lanes),
            "widths": self.pe_bits(inputs, output, lanes),
        }
        if self.depthwise:
            steps = self.weights.T.reshape(-1, lanes.read)
            words, word_type = pack(steps, bits)
            memory = weight_memory(len(steps), lanes.read, bits, word_type)
            weights = {"weights": words.tolist(), "word_type": word_type, "memory": memory}
            return common | weights | {"lanes": lanes.written, "at_once": lanes.read // lanes.written}
        pe, simd = lanes.written, lanes.read
        rows = self.weights.reshape(self.outputs // pe, pe, self.depth // simd, simd)
        words, word_type = pack(rows.transpose(1, 0, 2, 3).reshape(pe, -1, simd), bits)
        grouped = {"groups": self.groups, "outputs": self.outputs, "pe": pe, "simd": simd}
        memory = weight_memory(words.shape[1], simd, bits, word_type)
        return common | grouped | {"weights": words.tolist(), "word_type": word_type, "memory": memory}

    def resources(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Resources:
        """As a MatVec. Depthwise, the sums of a pixel's groups of channels are kept: as registers where they are few.

        In a single step depthwise too all weights are constants, of rows that share no input.
        """
        (x,) = inputs
        width, bits, vectors = output.dtype.width, x.dtype.width, prod(output.shape[:-1])
        if self.depthwise:
            return self._depthwise_resources(x, width, vectors, lanes)
        pe, simd = lanes.written, lanes.read
        fill, work = x.channels // simd, (self.outputs // pe) * (self.depth // simd)
        control = costs.counters(
            fill + vectors * work, fill, self.groups, self.outputs // pe, self.taps, work, 2 * fill, 2 * fill
        )
        starts = costs.times(costs.placed(self.start_bits, self.outputs // pe, rom=True), pe)
        weights = costs.times(costs.words(simd, self.weight_bits, work), pe)
        sums = costs.mac_array(pe, simd, bits, self.weight_dtype.width, width) + self.products(
            x, pe, simd, lanes.multiplier
        )
        return control + costs.placed(simd * bits, 2 * fill) + starts + weights + sums

    def _depthwise_resources(self, x: Value, width: int, vectors: int, lanes: Lanes) -> Resources:
        count, simd, bits = lanes.written, lanes.read // lanes.written, x.dtype.width
        blocks = self.channels // count
        steps = self.taps // simd * blocks
        if steps == 1 and lanes.multiplier == "lut":
            inputs = costs.registers((self.channels - 1) * self.taps * bits)
            return costs.constant_rows(self.weights, bits, width) + inputs + costs.counters(vectors)
        control = costs.counters(vectors * steps, blocks, self.taps // simd, steps)
        starts = costs.times(costs.placed(self.start_bits, blocks, rom=True), count)
        adders = costs.times(costs.mac_array(1, simd, bits, self.weight_dtype.width, width), count)
        return (
            control
            + starts
            + costs.words(count * simd, self.weight_bits, steps)
            + adders
            + costs.kept(count * width, blocks)
            + self.products(x, count, simd, lanes.multiplier)
        )

    @classmethod
    def examples(cls) -> Iterable[Example]:
        rng = np.random.default_rng(8)
        uneven = tuple(Interval(-int(a), int(b)) for a, b in rng.integers(0, 8, size=(36, 2)))
        image = Value("x", (2, 3, 36), IntType(4, signed=True), uneven)
        start = rng.integers(-99, 99, 6)
        yield Example("depthwise, 6 taps", cls.of(rng.integers(-8, 8, size=(6, 6)), 6, 6, None, start), (image,))
        other = cls.of(rng.integers(-8, 8, size=(6, 6)), 6, 6, None, start)
        yield Example("depthwise, a DSP block each", other, (image,), Fold(2, 1, "dsp"))
        yield Example("depthwise, 3 taps at a time", other, (image,), Fold(6, 3))
        yield Example("depthwise, all taps at a time", other, (image,), Fold(6, 6, "dsp"))
        yield Example("average of 4 taps", cls.of(np.ones((9, 4), dtype=np.int64), 9, 4), (image,))
        yield Example("2 groups", cls.of(rng.integers(-8, 8, size=(4, 18)), 2, 3), (image,))
        yield Example("depth multiplier 2", cls.of(rng.integers(-8, 8, size=(12, 6)), 6, 6), (image,))
        huge = Value("x", (12,), IntType(32, signed=True), (IntType(32, signed=True).range,) * 12)
        yield Example("sums beyond 2**53", cls.of(rng.integers(-(1 << 22), 1 << 22, size=(2, 6)), 2, 3), (huge,))
