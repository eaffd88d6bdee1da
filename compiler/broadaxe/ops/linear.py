"""Conv, MatMul and Gemm with constant weights: their import from ONNX.

A convolution is a sliding window and one matrix-vector product per position; the window is left out where it would copy its
input. Weight scales are per output channel, the input's scale is one, so both stay outside the sum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod

import numpy as np

from broadaxe.chain import Affine, PerChannel, spread
from broadaxe.ir import IntArray, Value
from broadaxe.ops.dot import multiply_matrices
from broadaxe.ops.geometry import Geometry
from broadaxe.ops.grids import integer_grid
from broadaxe.ops.grouped import GroupedMatVec
from broadaxe.ops.importing import (
    Array,
    Constant,
    GraphBuilder,
    Grid,
    ModelNode,
    Promise,
    Scaled,
    Tensor,
    along_channels,
    arranged,
    channels_first,
    extend,
    fractions,
    image,
    imports,
    integers,
    like,
    per_channel,
    per_tap,
    zero_codes,
)
from broadaxe.ops.mac import Mac
from broadaxe.ops.matvec import MatVec
from broadaxe.ops.window import SlidingWindow
from broadaxe.types import Interval, IntType


@imports("Conv")
def import_conv(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """Conv over images or rows, with groups and dilation: a sliding window, then one matrix-vector product per position."""
    given = node.scaled(0)
    weight = node.constant(1, "weight")
    if not weight.array.size:
        raise node.fail(f"its weight has shape {weight.array.shape}, which holds nothing; repair the model")
    axes = weight.array.ndim - 2
    if axes not in (1, 2) or len(given.shape) != axes + 2:
        raise node.fail(
            f"its weight has shape {weight.array.shape} for an input of shape {list(given.shape)}; only 1-D and 2-D"
            " convolutions are supported"
        )
    x = image(graph, node, given)
    source = graph.values[x.value]
    groups, (outputs, per_group, *kernel) = int(node.attribute("group", 1)), weight.array.shape
    if groups < 1 or outputs % groups or per_group * groups != source.channels:
        raise node.fail(
            f"its weight of shape {weight.array.shape} in {groups} groups does not fit {source.channels} input channels;"
            " repair the model"
        )
    slides = Geometry.of(node, (source.shape[0], source.shape[1]), axes, kernel)
    rows = weight_rows(node, weight, (0, *range(2, axes + 2), 1))
    out = convolve(graph, node, x, rows, slides, groups)
    return like(given, biased(graph, node, out, bias_of(node)))


def convolve(
    graph: GraphBuilder, node: ModelNode, x: Scaled, weights: WeightRows, slides: Geometry, groups: int
) -> Scaled:
    """Rows of weights in the order (kh, kw, c within the group) over the windows of an image; a channel for each row."""
    source = graph.values[x.value]
    affine = integers(graph, node, x, depthwise=source.channels == groups == len(weights.integers))
    codes = zero_codes(node, affine) if any(slides.pads) else (0,)
    vectors = source
    if not slides.trivial:
        window = SlidingWindow(slides.kernel, slides.stride, slides.pads, slides.dilation, codes)
        vectors = graph.add(graph.fresh("window"), window, [source.name], node.where, per_tap(affine, slides.kernel))
    stages = Stages.of(node)
    rows = weights.integers
    if groups == 1:
        op: Mac = MatVec.of(rows, weights.dtype, tile=stages.tile)
    else:
        if stages.tile is not None and stages.tile < rows.shape[1]:
            stages.check_whole(node)
        op = GroupedMatVec.of(rows, groups, slides.taps, weights.dtype)
    out = multiply(graph, node, vectors, affine, op, weights.scale, groups)
    height, width, channels = out.shape
    return Scaled(out.name, channels_first(height, width, channels), (out.affine,))


@imports("MatMul", "Gemm")
def import_matmul(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """MatMul and Gemm with constant weights on one side: one matrix-vector product per row."""
    if isinstance(node.inputs[0], Constant) and isinstance(node.inputs[1], Scaled):
        return _weights_left(graph, node)
    x = node.scaled(0)
    if isinstance(node.inputs[1], Scaled):
        return import_product(graph, node)
    weight = node.constant(1, "weight")
    if node.attribute("transA", 0):
        raise node.fail("transA is 1, which mixes the batch axis with others; keep the batch axis first")
    if len(x.shape) < 2 or (node.op_type == "Gemm" and len(x.shape) != 2):
        raise node.fail(f"its input has shape {list(x.shape)}; (batch, ..., inputs) is needed")
    turned = node.op_type == "Gemm" and bool(node.attribute("transB", 0))
    shape = weight.array.shape
    if prod(shape[:-2]) == 1 and len(shape) <= len(x.shape):
        flat = reshaped(weight, (shape[-2:] if len(shape) > 1 else (*shape, 1)))
        rows = weight_rows(node, flat, (0, 1) if turned else (1, 0))
        out = _times_matrix(graph, node, x, rows)
        if len(shape) == 1:
            out = replace(out, index=out.index[..., 0])
    else:
        out = _times_matrices(graph, node, x, weight)
    alpha, beta = (_factor(node, name) for name in ("alpha", "beta"))
    if alpha != 1:
        out = extend(graph, node, out, Affine((alpha,), (Fraction(0),)))
    return biased(graph, node, out, bias_of(node), beta)


def _factor(node: ModelNode, name: str) -> Fraction:
    given = node.attribute(name, 1.0) if node.op_type == "Gemm" else 1.0
    if not isinstance(given, int | float) or not np.isfinite(given):
        raise node.fail(f"{name} is {given}; it has to be a finite number")
    return Fraction(float(given))


def _weights_left(graph: GraphBuilder, node: ModelNode) -> Scaled:
    """W x = (x' W')': the transposed product of the transposed input."""
    weight, x = node.constant(0, "weight"), node.scaled(1)
    if node.op_type == "Gemm" or weight.array.ndim != 2 or len(x.shape) < 3:
        raise node.fail(
            f"its weights of shape {weight.array.shape} on the left of an input of shape {list(x.shape)} mix the batch axis"
            " with others; transpose the product so that they are on the right"
        )
    turned = replace(x, index=x.index.swapaxes(-1, -2))
    out = _times_matrix(graph, node, turned, weight_rows(node, weight, (0, 1)))
    return replace(out, index=out.index.swapaxes(-1, -2))


def _times_matrix(graph: GraphBuilder, node: ModelNode, x: Scaled, weights: WeightRows) -> Scaled:
    """Every vector on x's last axis times the same rows. An order that all vectors share goes into the weights."""
    depth = weights.integers.shape[1]
    _check_depth(node, x, depth)
    integers(graph, node, x)
    order = x.index.reshape(-1, depth)[0]
    rows, place = weights.integers, x.index[0]
    if order.min() == 0 and order.max() == depth - 1:
        rows = np.empty_like(rows)
        rows[:, order] = weights.integers
        place = place[..., np.argsort(order)]
    source = arranged(graph, node, x, place, np.arange(place.size).reshape(1, *place.shape))
    affine = integers(graph, node, source)
    op = MatVec.of(rows, weights.dtype, tile=Stages.of(node).tile)
    out = multiply(graph, node, graph.values[source.value], affine, op, weights.scale, 1)
    return Scaled(out.name, np.arange(out.size).reshape(1, *out.shape), (out.affine,))


def _check_depth(node: ModelNode, x: Scaled, depth: int) -> None:
    if x.shape[-1] != depth:
        raise node.fail(f"its weight expects vectors of {depth}, its input has {x.shape[-1]}; repair the model")


def _times_matrices(graph: GraphBuilder, node: ModelNode, x: Scaled, weight: Constant) -> Scaled:
    """A matrix of weights for each index of the axis before the last two: a product in groups."""
    shape = weight.array.shape
    if len(x.shape) != 4 or len(shape) not in (3, 4) or prod(shape[:-3]) != 1 or shape[-3] != x.shape[1]:
        raise node.fail(
            f"its weight of shape {shape} does not fit an input of shape {list(x.shape)}; one matrix for all, or one for"
            " each index of axis 1 of four is supported"
        )
    groups, depth, outputs = shape[-3:]
    _check_depth(node, x, depth)
    rows = weight_rows(node, reshaped(weight, (groups, depth, outputs)), (0, 2, 1), leading=2)
    wanted = x.index[0].transpose(1, 0, 2).reshape(x.shape[2], groups * depth)
    source = arranged(graph, node, x, wanted, np.arange(wanted.size).reshape(1, *wanted.shape))
    Stages.of(node).check_whole(node)
    op = GroupedMatVec.of(rows.integers, groups, 1, rows.dtype)
    out = multiply(graph, node, graph.values[source.value], integers(graph, node, source), op, rows.scale, groups)
    index = np.arange(out.size).reshape(1, x.shape[2], groups, outputs).transpose(0, 2, 1, 3)
    return Scaled(out.name, index, (out.affine,))


def import_product(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """MatMul and Gemm of two activations."""
    if node.op_type == "Gemm":
        raise node.fail(
            "mixes the samples of a batch, both sides are activations; use MatMul with a batch axis in front"
        )
    return multiply_matrices(graph, node)


@dataclass(frozen=True, eq=False)
class WeightRows:
    """Integer weights as rows, shape (outputs, depth), with the scale of each row and their declared type."""

    integers: IntArray
    scale: PerChannel
    dtype: IntType


def weight_rows(node: ModelNode, constant: Constant, axes: tuple[int, ...], leading: int = 1) -> WeightRows:
    """Weights with `axes` in this order: the first `leading` of them number the rows, the others make a row."""
    grid = quantized_weights(node, constant)
    rows = grid.integers.transpose(axes)
    outputs = prod(rows.shape[:leading])
    scale = np.broadcast_to(grid.scale, grid.integers.shape).transpose(axes).reshape(outputs, -1)
    if (scale != scale[:, :1]).any():
        raise node.fail("its weight scale varies within an output channel; use one scale per output channel or tensor")
    rows = rows.reshape(outputs, -1)
    return WeightRows(rows, fractions(scale[:, 0].astype(np.float64)), declared(constant, rows))


def quantized_weights(node: ModelNode, constant: Constant) -> Grid:
    """The integers behind weights; fails where no Quant made them and they are none themselves."""
    if constant.grid is None and constant.bits is not None:
        raise node.fail("the zero point of its weights is not an integer; use an integer zero point")
    grid = constant.grid or integer_grid(constant.array)
    if grid is None:
        raise node.fail("weights are not quantized; put a Quant on the weight input")
    return grid


def declared(constant: Constant, integers: IntArray) -> IntType:
    """The type that the weights' Quant declares, or the narrowest where they do not fit it."""
    kind = IntType(constant.bits or 1, constant.signed)
    used = Interval(int(integers.min()), int(integers.max()))
    return kind if used in kind.range else used.dtype


def reshaped(constant: Constant, shape: tuple[int, ...]) -> Constant:
    """The constant under another shape, its grid with it."""
    grid = constant.grid
    if grid is not None:
        scale = np.broadcast_to(grid.scale, grid.integers.shape).reshape(shape)
        grid = Grid(grid.integers.reshape(shape), scale)
    return replace(constant, array=constant.array.reshape(shape), grid=grid)


def multiply(
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
    prefix = {"Conv": "conv", "ConvTranspose": "convtranspose", "Gemm": "gemm"}.get(node.op_type, "matmul")
    stages = Stages.of(node)
    if not graph.loadable:  # widths are the budget's then, on whatever the inputs may become
        stages.check(node, op, vectors)
    out = graph.add(graph.fresh(prefix), op, [vectors.name], node.where, affine)
    graph.promises[out.name] = Promise(stages.outer, stages.inner)
    return out


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

    def check_whole(self, node: ModelNode) -> None:
        """Fail where there are tiles."""
        if self.tile is not None:
            raise node.fail(f"{TILE} is {self.tile}; tiles are only supported without groups")

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


def bias_of(node: ModelNode) -> Array | None:
    return node.floats(2, "bias") if len(node.inputs) > 2 and node.inputs[2] is not None else None


def biased(
    graph: GraphBuilder, node: ModelNode, out: Scaled, bias: Array | None, factor: Fraction = Fraction(1)
) -> Scaled:
    """out + factor * bias; the bias of a convolution stands along the channels."""
    if bias is None:
        return out
    if node.op_type not in ("MatMul", "Gemm"):
        bias = along_channels(out, bias)
    shift = per_channel(graph, node, out, bias, "bias")
    return extend(graph, node, out, Affine((Fraction(1),), tuple(factor * s for s in shift)))
