"""AveragePool and GlobalAveragePool: their import. An average is an integer sum whose divisor goes into the exact chain."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from broadaxe.chain import Affine, spread
from broadaxe.ir import IntArray, Value
from broadaxe.ops.grouped import GroupedMatVec
from broadaxe.ops.importing import (
    GraphBuilder,
    ModelNode,
    Scaled,
    Tensor,
    channels_first,
    image,
    imports,
    integers,
    pair,
    per_tap,
    view,
    window_pads,
)
from broadaxe.ops.window import SlidingWindow

MOST_POSITIONS = 1 << 16
"""Constants that a pool with a divisor per position may need: output positions times channels."""


@imports("ReduceMean")
def import_reduce_mean(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """The mean over height and width of an image, which is what global average pools are exported as."""
    x = node.scaled(0)
    given = node.attribute("axes", None)
    if given is None and len(node.inputs) > 1 and node.inputs[1] is not None:
        given = node.floats(1, "axes").reshape(-1).tolist()
    axes = sorted(int(a) % len(x.shape) for a in given or range(len(x.shape)))
    if len(x.shape) != 4 or axes != [2, 3]:
        raise node.fail(
            f"averages axes {axes} of a tensor of shape {list(x.shape)}; only height and width are supported"
        )
    pooled = import_global_average_pool(graph, node)
    if node.attribute("keepdims", 1):
        return pooled
    assert isinstance(pooled, Scaled)
    return replace(pooled, index=pooled.index.reshape(pooled.index.shape[:2]))


@imports("GlobalAveragePool")
def import_global_average_pool(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """The whole image as one vector of taps."""
    x = node.scaled(0)
    affine = integers(graph, node, x, depthwise=True)
    height, width, channels = image(graph, node, x).shape
    taps = height * width
    vector = view(graph, x.value, (taps * channels,), node.where)
    sums = GroupedMatVec.of(np.ones((channels, taps), dtype=np.int64), channels, taps)
    scale, shift = spread(affine.scale, affine.shift)
    mean = Affine(tuple(s / taps for s in scale), shift)
    out = graph.add(graph.fresh("avgpool"), sums, [vector.name], node.where, mean)
    return Scaled(out.name, np.arange(channels).reshape(1, channels, 1, 1), (mean,))


@imports("AveragePool")
def import_average_pool(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """Sums over a sliding window; where padding makes the divisor depend on the position, constants are per position."""
    x = node.scaled(0)
    affine = integers(graph, node, x, depthwise=True)
    source = image(graph, node, x)
    if node.attribute("ceil_mode", 0):
        raise node.fail("ceil_mode is 1; only ceil_mode = 0 is supported so far")
    kernel = pair(node, node.attribute("kernel_shape", []), "kernel_shape")
    stride = pair(node, node.attribute("strides", [1, 1]), "strides")
    dilation = pair(node, node.attribute("dilations", [1, 1]), "dilations")
    pads = window_pads(node, (source.shape[0], source.shape[1]), kernel, stride, dilation)
    code = 0 if 0 in source.dtype.range else source.dtype.range.lo
    window = SlidingWindow(kernel, stride, pads, dilation, (code,))
    taps, channels = kernel[0] * kernel[1], source.channels
    patches = graph.add(graph.fresh("window"), window, [source.name], node.where, per_tap(affine, kernel))
    sums = GroupedMatVec.of(np.ones((channels, taps), dtype=np.int64), channels, taps)
    out = graph.add(graph.fresh("avgpool"), sums, [patches.name], node.where)
    inside = _taps_inside(window, source)
    whole = bool(node.attribute("count_include_pad", 0))
    height, width, _ = out.shape
    index = channels_first(height, width, channels)
    if (inside == taps).all():
        return Scaled(out.name, index, (_mean(affine, taps, taps, taps, code),))
    if out.size > MOST_POSITIONS:
        raise node.fail(
            f"pads an average over {height} x {width} x {channels}; constants per position are limited to"
            f" {MOST_POSITIONS}, pad with a separate operator"
        )
    scale, shift = spread(affine.scale, affine.shift, (Fraction(0),) * channels)[:2]
    scales: list[Fraction] = []
    shifts: list[Fraction] = []
    for count in inside.reshape(-1).tolist():
        if count == 0:
            raise node.fail("a window lies in the padding alone; shrink the pads")
        part = _mean(Affine(scale, shift), taps, count, taps if whole else count, code)
        scales.extend(part.scale)
        shifts.extend(part.shift)
    flat = graph.add_view(out.name, (out.size,), node.where)
    return Scaled(flat.name, index, (Affine(tuple(scales), tuple(shifts)),))


def _mean(x: Affine, taps: int, inside: int, divisor: int, code: int) -> Affine:
    """sum of real values inside / divisor, from a sum of integers that holds `code` for each tap outside."""
    scale, shift = spread(x.scale, x.shift)
    return Affine(
        tuple(s / divisor for s in scale),
        tuple((t * inside - s * code * (taps - inside)) / divisor for s, t in zip(scale, shift, strict=True)),
    )


def _taps_inside(window: SlidingWindow, source: Value) -> IntArray:
    """Taps that read the image, per output position."""
    height, width, channels = source.shape
    read = window.positions_read(source.shape)[..., 0]
    return np.asarray((read < height * width * channels).sum(axis=(2, 3)))
