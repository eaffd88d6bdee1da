"""AveragePool and GlobalAveragePool: their import. An average is an integer sum whose divisor goes into the exact chain."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from broadaxe.chain import Affine, spread
from broadaxe.ir import IntArray
from broadaxe.ops.geometry import Geometry
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
    like,
    per_tap,
)
from broadaxe.ops.reductions import reduced_sum
from broadaxe.ops.window import SlidingWindow

MOST_POSITIONS = 1 << 16
"""Constants that a pool with a divisor per position may need: output positions times channels."""


@imports("GlobalAveragePool")
def import_global_average_pool(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """The mean over all positions of each channel."""
    x = node.scaled(0)
    if len(x.shape) < 3:
        raise node.fail(f"its input has shape {list(x.shape)}; (batch, channels, ...) is needed")
    return reduced_sum(graph, node, x, tuple(range(2, len(x.shape))), mean=True, keep=True)


@imports("AveragePool")
def import_average_pool(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """Sums over a sliding window; where padding makes the divisor depend on the position, constants are per position."""
    given = node.scaled(0)
    integers(graph, node, given, depthwise=True)
    x = image(graph, node, given)
    return like(given, _average(graph, node, x, len(given.shape) - 2))


def _average(graph: GraphBuilder, node: ModelNode, x: Scaled, axes: int) -> Scaled:
    affine = integers(graph, node, x, depthwise=True)
    source = graph.values[x.value]
    slides = Geometry.of(node, (source.shape[0], source.shape[1]), axes)
    code = 0 if 0 in source.dtype.range else source.dtype.range.lo
    window = SlidingWindow(slides.kernel, slides.stride, slides.pads, slides.dilation, (code,))
    taps, channels = slides.taps, source.channels
    patches = graph.add(graph.fresh("window"), window, [source.name], node.where, per_tap(affine, slides.kernel))
    sums = GroupedMatVec.of(np.ones((channels, taps), dtype=np.int64), channels, taps)
    out = graph.add(graph.fresh("avgpool"), sums, [patches.name], node.where)
    inside = _taps_inside(window, source.shape[:2])
    divisors = (
        _taps_inside(window, source.shape[:2], slides.declared) if node.attribute("count_include_pad", 0) else inside
    )
    height, width, _ = out.shape
    index = channels_first(height, width, channels)
    if (inside == taps).all() and (divisors == taps).all():
        return Scaled(out.name, index, (_mean(affine, taps, taps, taps, code),))
    if out.size > MOST_POSITIONS:
        raise node.fail(
            f"pads an average over {height} x {width} x {channels}; constants per position are limited to"
            f" {MOST_POSITIONS}, pad with a separate operator"
        )
    scale, shift = spread(affine.scale, affine.shift, (Fraction(0),) * channels)[:2]
    scales: list[Fraction] = []
    shifts: list[Fraction] = []
    for count, divisor in zip(inside.reshape(-1).tolist(), divisors.reshape(-1).tolist(), strict=True):
        if count == 0:
            raise node.fail("a window lies in the padding alone; shrink the pads")
        part = _mean(Affine(scale, shift), taps, count, divisor, code)
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


def _taps_inside(
    window: SlidingWindow, size: tuple[int, ...], pads: tuple[int, int, int, int] = (0, 0, 0, 0)
) -> IntArray:
    """Taps that read the image, or `pads` around it, per output position."""
    inside = []
    for axis, n in enumerate(size):
        steps = np.arange(window.positions((size[0], size[1], 1))[axis])[:, None] * window.stride[axis]
        at = steps + np.arange(window.kernel[axis]) * window.dilation[axis] - window.pads[axis]
        inside.append(((at >= -pads[axis]) & (at < n + pads[axis + 2])).sum(axis=1))
    return np.asarray(inside[0][:, None] * inside[1])
