"""MatVec: integer weights times a vector of integers, the multiply-accumulate operator behind Conv, MatMul and Gemm.

Its accumulator of output channel o holds start[o] + sum_i weights[o, i] * x[i]. With x[i] anywhere in [lo_i, hi_i] the sum
lies between sum_i min(w*lo_i, w*hi_i) and sum_i max(w*lo_i, w*hi_i), and both ends are attained by a witness, so the width
that holds the two is the narrowest that is always right for these bounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from broadaxe.chain import Affine, PerChannel
from broadaxe.errors import GraphError
from broadaxe.ir import WIDEST, Bounds, Example, IntArray, Lanes, OnnxBuilder, Op, Shape, Value, carrier, constant_array
from broadaxe.ops.importing import (
    Array,
    Constant,
    GraphBuilder,
    ModelNode,
    Scaled,
    Tensor,
    along_channels,
    channels_first,
    extend,
    fractions,
    image,
    imports,
    integers,
    pair,
    per_channel,
    view,
    window_pads,
)
from broadaxe.ops.memories import builtin, pack
from broadaxe.ops.window import SlidingWindow
from broadaxe.types import Interval, IntType

EXACT_FLOAT32 = 1 << 24
EXACT_FLOAT64 = 1 << 53


@dataclass(frozen=True, eq=False)
class MatVec(Op):
    """y[o] = start[o] + sum over i of weights[o, i] * x[i], on the last axis.

    Attributes:
        weights: integers, shape (outputs, inputs); inputs in canonical order (kh, kw, c).
        weight_dtype: declared type of the weights, for the data-type bound.
        start: where each accumulator starts, shape (outputs,).
    """

    kind = "matvec"
    folds = True
    weights: IntArray
    weight_dtype: IntType
    start: IntArray

    @classmethod
    def of(cls, weights: IntArray, weight_dtype: IntType | None = None, start: IntArray | None = None) -> MatVec:
        """Build from any integer arrays; the weight type defaults to the narrowest that holds the weights."""
        weights = constant_array(weights)
        if weight_dtype is None:
            weight_dtype = Interval(int(weights.min()), int(weights.max())).dtype
        return cls(weights, weight_dtype, constant_array(np.zeros(len(weights)) if start is None else start))

    @property
    def outputs(self) -> int:
        return int(self.weights.shape[0])

    @property
    def depth(self) -> int:
        """K, the number of products in one sum."""
        return int(self.weights.shape[1])

    def shape(self, *inputs: Value) -> Shape:
        (x,) = inputs
        if x.channels != self.depth:
            raise GraphError(f"matvec: {self.depth} weights per output for vectors of {x.channels}")
        return (*x.shape[:-1], self.outputs)

    def bounds(self, *inputs: Value) -> Bounds:
        lo, hi = self.sums(inputs[0])
        return tuple(
            Interval(a, b) for a, b in zip((lo + self.start).tolist(), (hi + self.start).tolist(), strict=True)
        )

    def dtype(self, *inputs: Value) -> IntType:
        """The narrowest signed type that holds every channel: the accumulator as hardware declares it."""
        bounds = self.bounds(*inputs)
        return Interval(min(b.lo for b in bounds), max(b.hi for b in bounds)).signed_dtype

    def sums(self, x: Value) -> tuple[IntArray, IntArray]:
        """Exact ends of each row's sum, int64, shape (outputs,); the start is not included."""
        self._guard(x)
        lo, hi = x.ends()
        positive, negative = np.maximum(self.weights, 0), np.minimum(self.weights, 0)
        return positive @ lo + negative @ hi, positive @ hi + negative @ lo

    def prefix_hull(self, x: Value) -> Bounds:
        """What every partial sum stays inside, whatever the order of the products; the start is not included."""
        self._guard(x)
        lo, hi = x.ends()
        positive, negative = np.maximum(self.weights, 0), np.minimum(self.weights, 0)
        low = positive @ np.minimum(lo, 0) + negative @ np.maximum(hi, 0)
        high = positive @ np.maximum(hi, 0) + negative @ np.minimum(lo, 0)
        return tuple(Interval(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))

    def _guard(self, x: Value) -> None:
        """int64 sums cannot overflow: K * max|w| * max|x| + max|start| stays below 2**62."""
        largest = max(abs(x.hull.lo), abs(x.hull.hi), 1)
        start = int(np.abs(self.start).max()) if self.start.size else 0
        if int(self.row_norms.max()) * largest + start >= 1 << WIDEST:
            raise GraphError(f"matvec: an accumulator may pass {WIDEST} bits; quantize its inputs more coarsely")

    @cached_property
    def row_norms(self) -> IntArray:
        """sum_i |w_i| of each row."""
        return np.asarray(np.abs(self.weights).sum(axis=1))

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
        largest = int(self.row_norms.max()) * max(abs(values[0].hull.lo), abs(values[0].hull.hi))
        kind = np.float32 if largest + int(np.abs(self.start).max()) < EXACT_FLOAT32 else np.float64
        if largest + int(np.abs(self.start).max()) >= EXACT_FLOAT64:
            raise GraphError("matvec: a sum passes 2**53, which standard ONNX on floats cannot hold")
        product = builder.node("MatMul", builder.cast(inputs[0], kind), builder.constant(self._blas(kind)))
        return builder.node("Add", product, builder.constant(self.start.astype(kind)))

    def witnesses(self, inputs: Sequence[Value], channel: int) -> tuple[list[IntArray], list[IntArray]] | None:
        """The canonical inputs that attain both ends; an input whose weight is 0 stays at its lower bound."""
        (x,) = inputs
        lo, hi = x.ends()
        row = self.weights[channel]
        low, high = np.where(row < 0, hi, lo), np.where(row > 0, hi, lo)
        return [np.broadcast_to(low, x.shape)], [np.broadcast_to(high, x.shape)]

    def cycles(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> int:
        return prod(output.shape[:-1]) * (self.outputs // lanes.written) * (self.depth // lanes.read)

    def template_context(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Mapping[str, Any]:
        """Row nf * PE + pe is computed by PE pe in its fold nf; step nf * SF + sf reads inputs sf * SIMD and on."""
        pe, simd, bits = lanes.written, lanes.read, self.weight_dtype.width
        steps = (self.outputs // pe) * (self.depth // simd)
        rows = self.weights.reshape(self.outputs // pe, pe, self.depth // simd, simd)
        words, word_type = pack(rows.transpose(1, 0, 2, 3).reshape(pe, steps, simd), bits)
        return {
            "mw": self.depth,
            "mh": self.outputs,
            "simd": simd,
            "pe": pe,
            "vectors": prod(output.shape[:-1]),
            "weight_type": str(self.weight_dtype),
            "word_type": word_type,
            "weights": words.tolist(),
            "start_type": builtin(int(self.start.min()), int(self.start.max())),
            "start": self.start.reshape(-1, pe).T.tolist(),
        }

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
        wide = Value("x", (4, 12), IntType(16, signed=True), (Interval(-32768, 32767),) * 12)
        yield Example("8x16 bit", cls.of(rng.integers(-128, 128, size=(8, 12))), (wide,))
        yield Example("all weights zero", cls.of(np.zeros((2, 12), dtype=np.int64)), (vector,))


def _weights(node: ModelNode, constant: Constant, axes: tuple[int, ...]) -> tuple[IntArray, PerChannel, IntType]:
    """Integer weights with `axes` brought to the front as rows, their scale per row, and their declared type."""
    grid = constant.grid
    if grid is None:
        raise node.fail("weights are not quantized; put a Quant on the weight input, or run broadaxe quantize first")
    rows = grid.integers.transpose(axes)
    scale = np.broadcast_to(grid.scale, grid.integers.shape).transpose(axes).reshape(len(rows), -1)
    if (scale != scale[:, :1]).any():
        raise node.fail("its weight scale varies within an output channel; use one scale per output channel or tensor")
    declared = IntType(constant.bits or 1, constant.signed)
    used = Interval(int(rows.min()), int(rows.max()))
    dtype = declared if used in declared.range else used.dtype
    return rows.reshape(len(rows), -1), fractions(scale[:, 0].astype(np.float64)), dtype


def _multiply(
    graph: GraphBuilder,
    node: ModelNode,
    vectors: Value,
    x: Affine,
    weights: IntArray,
    scale: PerChannel,
    dtype: IntType,
) -> Value:
    """Append the MatVec on vectors whose integers mean x.scale * q + x.shift."""
    op = MatVec.of(weights, dtype)
    (step,) = x.scale
    sums = weights.reshape(op.outputs, -1, len(x.shift)).sum(axis=1)
    constant = [sum((int(n) * t for n, t in zip(row, x.shift, strict=True)), Fraction(0)) for row in sums]
    scale = scale * op.outputs if len(scale) == 1 else scale
    affine = Affine(tuple(s * step for s in scale), tuple(s * c for s, c in zip(scale, constant, strict=True)))
    prefix = {"Conv": "conv", "Gemm": "gemm"}.get(node.op_type, "matmul")
    return graph.add(graph.fresh(prefix), op, [vectors.name], node.where, affine)


def _biased(graph: GraphBuilder, node: ModelNode, out: Scaled, bias: Array | None) -> Scaled:
    if bias is None:
        return out
    shift = per_channel(graph, node, out, bias, "bias")
    return extend(graph, node, out, Affine((Fraction(1),), shift))


@imports("Conv")
def import_conv(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """Conv: a sliding window, then one matrix-vector product per position."""
    x = node.scaled(0)
    weight = node.constant(1, "weight")
    affine = integers(graph, node, x)
    source = image(graph, node, x)
    if weight.array.ndim != 4:
        raise node.fail(f"its weight has shape {weight.array.shape}; only 2-D convolutions are supported")
    if node.attribute("group", 1) != 1:
        raise node.fail(f"group is {node.attribute('group', 1)}; only group = 1 is supported so far")
    if weight.array.shape[1] != source.channels:
        raise node.fail(f"its weight expects {weight.array.shape[1]} channels, its input has {source.channels}")
    kernel = (int(weight.array.shape[2]), int(weight.array.shape[3]))
    stride = pair(node, node.attribute("strides", [1, 1]), "strides")
    dilation = pair(node, node.attribute("dilations", [1, 1]), "dilations")
    pads = window_pads(node, (source.shape[0], source.shape[1]), kernel, stride, dilation)
    window = SlidingWindow(kernel, stride, pads, dilation, _pad_codes(node, affine) if any(pads) else (0,))
    rows, scale, dtype = _weights(node, weight, (0, 2, 3, 1))
    vectors = source
    if kernel != (1, 1) or stride != (1, 1) or any(pads):
        vectors = graph.add(graph.fresh("window"), window, [source.name], node.where)
    out = _multiply(graph, node, vectors, affine, rows, scale, dtype)
    height, width, channels = out.shape
    result = Scaled(out.name, channels_first(height, width, channels), (out.affine,))
    bias = node.floats(2, "bias") if len(node.inputs) > 2 and node.inputs[2] is not None else None
    return _biased(graph, node, result, None if bias is None else along_channels(result, bias))


def _pad_codes(node: ModelNode, x: Affine) -> tuple[int, ...]:
    """The integers whose real value is exactly 0."""
    codes = [-shift / x.scale[0] for shift in x.shift]
    if any(code.denominator != 1 for code in codes):
        raise node.fail(
            f"pads with zero, which its input cannot represent (code {codes[0]}); use a quantizer with an integer"
            " zero point, or pads of 0"
        )
    return tuple(int(code) for code in codes)


@imports("MatMul", "Gemm")
def import_matmul(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """MatMul and Gemm with constant weights on the right: one matrix-vector product per row."""
    if isinstance(node.inputs[0], Constant):
        raise node.fail("its weights are on the left; transpose the product so that they are on the right")
    x = node.scaled(0)
    if isinstance(node.inputs[1], Scaled):
        raise node.fail("multiplies two activations; only constant weights are supported so far")
    weight = node.constant(1, "weight")
    affine = integers(graph, node, x)
    if node.op_type == "Gemm":
        for name, default in (("alpha", 1.0), ("beta", 1.0), ("transA", 0)):
            if node.attribute(name, default) != default:
                raise node.fail(f"{name} is {node.attribute(name, default)}; only {default} is supported so far")
    if weight.array.ndim != 2:
        raise node.fail(f"its weight has shape {weight.array.shape}; only matrices are supported")
    axes = (0, 1) if node.attribute("transB", 0) else (1, 0)
    rows, scale, dtype = _weights(node, weight, axes)
    depth = rows.shape[1]
    if x.shape[-1] != depth:
        raise node.fail(f"its weight expects vectors of {depth}, its input has {x.shape[-1]}")
    vectors = x.index.reshape(-1, depth)
    order = vectors[0]
    if (
        sorted(order.tolist()) != list(range(depth))
        or (vectors != order + depth * np.arange(len(vectors))[:, None]).any()
    ):
        raise node.fail(
            "its input would have to be reordered in memory first; remove the Transpose or Reshape before it"
        )
    streamed = np.empty_like(rows)
    streamed[:, order] = rows
    leading = x.shape[1:-1]
    source = view(graph, x.value, (*leading, depth), node.where)
    shift = affine.shift if len(affine.shift) == 1 else affine.shift * (depth // len(affine.shift))
    out = _multiply(graph, node, source, Affine(affine.scale, shift), streamed, scale, dtype)
    index = np.arange(out.size).reshape(1, *out.shape)
    result = Scaled(out.name, index, (out.affine,))
    bias = node.floats(2, "bias") if len(node.inputs) > 2 and node.inputs[2] is not None else None
    return _biased(graph, node, result, bias)
