"""Conv, MatMul and Gemm with constant weights: their import from ONNX.

A convolution is a sliding window and one matrix-vector product per position; the window is left out where it would copy its
input. Weight scales are per output channel, the input's scale is one, so both stay outside the sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from broadaxe.chain import Affine, PerChannel, spread
from broadaxe.ir import IntArray, Value
from broadaxe.ops.dot import multiply_matrices
from broadaxe.ops.grouped import GroupedMatVec
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
    per_tap,
    view,
    window_pads,
    zero_codes,
)
from broadaxe.ops.mac import Mac
from broadaxe.ops.matvec import MatVec
from broadaxe.ops.window import SlidingWindow
from broadaxe.types import Interval, IntType


@imports("Conv")
def import_conv(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """Conv, with groups and dilation: a sliding window, then one matrix-vector product per position."""
    x = node.scaled(0)
    weight = node.constant(1, "weight")
    if not weight.array.size:
        raise node.fail(f"its weight has shape {weight.array.shape}, which holds nothing; repair the model")
    if weight.array.ndim != 4:
        raise node.fail(f"its weight has shape {weight.array.shape}; only 2-D convolutions are supported")
    source = image(graph, node, x)
    groups, (outputs, per_group, *kernel_shape) = int(node.attribute("group", 1)), weight.array.shape
    if groups < 1 or outputs % groups or per_group * groups != source.channels:
        raise node.fail(
            f"its weight of shape {weight.array.shape} in {groups} groups does not fit {source.channels} input channels"
        )
    affine = integers(graph, node, x, depthwise=per_group == 1 and outputs == groups)
    kernel = pair(node, kernel_shape, "kernel")
    declared = list(node.attribute("kernel_shape", kernel))
    if declared != list(kernel):
        raise node.fail(f"its kernel_shape {declared} is not that of its weight, {list(kernel)}; repair the model")
    stride = pair(node, node.attribute("strides", [1, 1]), "strides")
    dilation = pair(node, node.attribute("dilations", [1, 1]), "dilations")
    pads = window_pads(node, (source.shape[0], source.shape[1]), kernel, stride, dilation)
    window = SlidingWindow(kernel, stride, pads, dilation, zero_codes(node, affine) if any(pads) else (0,))
    rows, scale, dtype = _weights(node, weight, (0, 2, 3, 1))
    vectors = source
    if kernel != (1, 1) or stride != (1, 1) or any(pads):
        vectors = graph.add(graph.fresh("window"), window, [source.name], node.where, per_tap(affine, kernel))
    stages = Stages.of(node)
    if groups == 1:
        op: Mac = MatVec.of(rows, dtype, tile=stages.tile)
    elif stages.tile is None or stages.tile >= rows.shape[1]:
        op = GroupedMatVec.of(rows, groups, kernel[0] * kernel[1], dtype)
    else:
        raise node.fail(f"{TILE} is {stages.tile}; tiles are only supported without groups")
    out = _multiply(graph, node, vectors, affine, op, scale, groups)
    height, width, channels = out.shape
    result = Scaled(out.name, channels_first(height, width, channels), (out.affine,))
    bias = node.floats(2, "bias") if len(node.inputs) > 2 and node.inputs[2] is not None else None
    return _biased(graph, node, result, None if bias is None else along_channels(result, bias))


@imports("MatMul", "Gemm")
def import_matmul(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """MatMul and Gemm with constant weights on the right: one matrix-vector product per row."""
    if isinstance(node.inputs[0], Constant):
        raise node.fail("its weights are on the left; transpose the product so that they are on the right")
    x = node.scaled(0)
    if isinstance(node.inputs[1], Scaled):
        return import_product(graph, node)
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
    out = _multiply(
        graph,
        node,
        source,
        Affine(affine.scale, shift),
        MatVec.of(streamed, dtype, tile=Stages.of(node).tile),
        scale,
        1,
    )
    index = np.arange(out.size).reshape(1, *out.shape)
    result = Scaled(out.name, index, (out.affine,))
    bias = node.floats(2, "bias") if len(node.inputs) > 2 and node.inputs[2] is not None else None
    return _biased(graph, node, result, bias)


def import_product(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """MatMul and Gemm of two activations."""
    if node.op_type == "Gemm":
        raise node.fail(
            "mixes the samples of a batch, both sides are activations; use MatMul with a batch axis in front"
        )
    return multiply_matrices(graph, node)


def _weights(node: ModelNode, constant: Constant, axes: tuple[int, ...]) -> tuple[IntArray, PerChannel, IntType]:
    """Integer weights with `axes` brought to the front as rows, their scale per row, and their declared type."""
    grid = constant.grid
    if grid is None and constant.bits is not None:
        raise node.fail("the zero point of its weights is not an integer; use an integer zero point")
    if grid is None:
        raise node.fail("weights are not quantized; put a Quant on the weight input")
    rows = grid.integers.transpose(axes)
    scale = np.broadcast_to(grid.scale, grid.integers.shape).transpose(axes).reshape(len(rows), -1)
    if (scale != scale[:, :1]).any():
        raise node.fail("its weight scale varies within an output channel; use one scale per output channel or tensor")
    declared = IntType(constant.bits or 1, constant.signed)
    used = Interval(int(rows.min()), int(rows.max()))
    dtype = declared if used in declared.range else used.dtype
    return rows.reshape(len(rows), -1), fractions(scale[:, 0].astype(np.float64)), dtype


def _multiply(
    graph: GraphBuilder, node: ModelNode, vectors: Value, x: Affine, op: Mac, scale: PerChannel, groups: int
) -> Value:
    """Append a product with vectors whose integers mean x.scale * q + x.shift (per channel of a tap).

    real = sum_i s_w * w_i * (s_x * q_i + t_i) = s_w * s_x * sum_i w_i * q_i + s_w * sum_i w_i * t_i
    """
    scale, steps = spread(scale * op.outputs if len(scale) == 1 else scale, x.scale)
    constants = [Fraction(0)] * op.outputs
    if any(x.shift):
        per_tap = len(x.shift) // groups if len(x.shift) > 1 else 1
        sums = op.weights.reshape(op.outputs, -1, per_tap).sum(axis=1)
        for o, row in enumerate(sums.tolist()):
            first = o // (op.outputs // groups) * per_tap if len(x.shift) > 1 else 0
            constants[o] = sum((n * t for n, t in zip(row, x.shift[first : first + per_tap], strict=True)), Fraction(0))
    affine = Affine(
        tuple(s * t for s, t in zip(scale, steps, strict=True)),
        tuple(s * c for s, c in zip(scale, constants, strict=True)),
    )
    prefix = {"Conv": "conv", "Gemm": "gemm"}.get(node.op_type, "matmul")
    Stages.of(node).check(node, op, vectors)
    return graph.add(graph.fresh(prefix), op, [vectors.name], node.where, affine)


TILE, INNER, OUTER, ORDER, START = (f"broadaxe.{key}" for key in ("tile", "inner_bits", "outer_bits", "order", "start"))
CANONICAL = "kh,kw,c"


@dataclass(frozen=True)
class Stages:
    """What a node's metadata ask of its accumulation: tiles of `tile` inputs in canonical order, and widths to keep to.

    `inner` bits have to hold every tile's sum and `outer` bits the whole sum, bias and zero point apart. Without a tile
    there is only the outer accumulator. With `offset` that may start at a constant of each channel's own.
    """

    tile: int | None
    inner: int | None
    outer: int | None
    offset: bool = False

    @classmethod
    def of(cls, node: ModelNode) -> Stages:
        order = node.metadata.get(ORDER, CANONICAL)
        if order != CANONICAL:
            raise node.fail(f"{ORDER} is {order!r}; hardware streams {CANONICAL!r}, quantize in that order")

        def number(key: str) -> int | None:
            text = node.metadata.get(key)
            if text is None:
                return None
            if not text.isdecimal() or not 1 <= int(text) <= 1 << 20:
                raise node.fail(f"{key} is {text!r}; a positive integer is needed")
            return int(text)

        start = node.metadata.get(START, "zero")
        if start not in ("zero", "offset"):
            raise node.fail(f"{START} is {start!r}; zero or offset is needed")
        return cls(number(TILE), number(INNER), number(OUTER), start == "offset")

    def check(self, node: ModelNode, op: Mac, x: Value) -> None:
        """Fail where the proven sums do not fit the widths that the metadata promise."""
        inner = op.tile_sums(x)
        lo, hi = op.sums(x)
        whole = Interval(int(lo.min()), int(hi.max()))
        widest = int((hi - lo).argmax())
        own = Interval(int(lo[widest]), int(hi[widest]))
        outer = (own, own.offset_width) if self.offset else (whole, whole.signed_dtype.width)
        inward = None if inner is None else (inner, inner.signed_dtype.width)
        for key, limit, found in ((INNER, self.inner, inward), (OUTER, self.outer, outer)):
            if limit is not None and found is not None and found[1] > limit:
                raise node.fail(f"{key} is {limit}, but sums reach {found[0]}, {found[1]} bits; quantize again")


def _biased(graph: GraphBuilder, node: ModelNode, out: Scaled, bias: Array | None) -> Scaled:
    if bias is None:
        return out
    shift = per_channel(graph, node, out, bias, "bias")
    return extend(graph, node, out, Affine((Fraction(1),), shift))
