"""ConvTranspose: its import, as one convolution for all phases of the stride and an interleaving of their outputs.

With stride s, output y = s*i + d*k - p takes tap k of input i. Write y + p = s*q + r with 0 <= r < s: only taps with
d*k = s*m + r for some m belong to phase r, and they read input q - m. So each phase is a small convolution over the same
windows of the input, the phases of all output channels are rows of one matrix, and what comes out is interleaved. No zero is
stuffed in and none multiplied; every row has the bounds of its own taps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from broadaxe.ops.geometry import MAX_PAD, Geometry, whole_numbers
from broadaxe.ops.importing import (
    GraphBuilder,
    Grid,
    ModelNode,
    Scaled,
    Tensor,
    image,
    imports,
    like,
)
from broadaxe.ops.linear import bias_of, biased, convolve, quantized_weights, weight_rows

IMAGE = 2
MOST_PIXELS = 1 << 24


@dataclass(frozen=True)
class Axis:
    """One axis of a transposed convolution.

    Attributes:
        size, output: elements before and after.
        kernel, stride, dilation, pad: of the transposed convolution; pad is what is cut before the first output.
    """

    size: int
    output: int
    kernel: int
    stride: int
    dilation: int
    pad: int

    @property
    def taps(self) -> int:
        """Inputs that a window reads: the largest m + 1."""
        return (self.kernel - 1) * self.dilation // self.stride + 1

    @property
    def first(self) -> int:
        """The first q that windows are made for; a window starts inside the image or its padding."""
        return min(self.pad // self.stride, self.taps - 1)

    @property
    def last(self) -> int:
        return max((self.output - 1 + self.pad) // self.stride, self.size - 1)

    @property
    def pads(self) -> tuple[int, int]:
        """Padding of the windows before and after the image."""
        return self.taps - 1 - self.first, self.last - (self.size - 1)

    def places(self) -> tuple[list[int], list[int]]:
        """Window and phase of each output."""
        at = [y + self.pad for y in range(self.output)]
        return [v // self.stride - self.first for v in at], [v % self.stride for v in at]

    def tap(self, k: int) -> tuple[int, int]:
        """Phase of tap k, and its place in the window, which runs from the furthest input to the nearest."""
        m, r = divmod(k * self.dilation, self.stride)
        return r, self.taps - 1 - m


@imports("ConvTranspose")
def import_conv_transpose(graph: GraphBuilder, node: ModelNode) -> Tensor:
    given, weight = node.scaled(0), node.constant(1, "weight")
    axes = weight.array.ndim - 2
    if not weight.array.size or axes not in (1, IMAGE) or len(given.shape) != axes + 2:
        raise node.fail(
            f"its weight has shape {weight.array.shape} for an input of shape {list(given.shape)}; only 1-D and 2-D"
            " transposed convolutions are supported"
        )
    x = image(graph, node, given)
    source = graph.values[x.value]
    groups, (inputs, per_group, *kernel) = int(node.attribute("group", 1)), weight.array.shape
    if groups < 1 or inputs != source.channels or inputs % groups:
        raise node.fail(
            f"its weight of shape {weight.array.shape} in {groups} groups does not fit {source.channels} input channels;"
            " repair the model"
        )
    rows, columns = _axes(node, list(source.shape[:IMAGE][IMAGE - axes :]), list(kernel))
    phases = (rows.stride, columns.stride)
    # the matrix: rows by (group, phases of both axes, output of the group), each over (kh, kw, input of the group)
    grid = quantized_weights(node, weight)
    size = inputs // groups
    shape = (groups, *phases, per_group, rows.taps, columns.taps, size)
    dense, scale = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=grid.scale.dtype)
    taps = grid.integers.reshape(groups, size, per_group, -1, columns.kernel)
    scales = np.broadcast_to(grid.scale, grid.integers.shape).reshape(taps.shape)
    scale[:] = scales[:, :1, :, :1, :1].transpose(0, 3, 4, 2, 1)[:, :, :, :, None, None]
    for kh in range(rows.kernel):
        for kw in range(columns.kernel):
            (ry, my), (rx, mx) = rows.tap(kh), columns.tap(kw)
            dense[:, ry, rx, :, my, mx] = taps[:, :, :, kh, kw].swapaxes(1, 2)
            scale[:, ry, rx, :, my, mx] = scales[:, :, :, kh, kw].swapaxes(1, 2)
    matrix = weight_rows(node, replace(weight, array=dense, grid=Grid(dense, scale)), tuple(range(7)), leading=4)
    pads = (rows.pads[0], columns.pads[0], rows.pads[1], columns.pads[1])
    slides = Geometry((rows.taps, columns.taps), (1, 1), (1, 1), pads, pads)
    phased = convolve(graph, node, x, matrix, slides, groups)
    return like(given, biased(graph, node, _interleaved(graph, phased, rows, columns, groups), bias_of(node)))


def _interleaved(graph: GraphBuilder, phased: Scaled, rows: Axis, columns: Axis, groups: int) -> Scaled:
    """The image that the phases make. Nothing moves before a quantizer: phases may have constants of their own."""
    value = graph.values[phased.value]
    (qy, ry), (qx, rx) = (tuple(np.array(part) for part in axis.places()) for axis in (rows, columns))
    at = np.arange(value.size).reshape(*value.shape[:IMAGE], groups, rows.stride, columns.stride, -1)
    picked = at[qy[:, None], qx, :, ry[:, None], rx].reshape(rows.output, columns.output, -1)
    return replace(phased, index=np.ascontiguousarray(picked.transpose(2, 0, 1)[None]))


def _axes(node: ModelNode, size: list[int], kernel: list[int]) -> tuple[Axis, Axis]:
    """Height and width from the node's attributes; a row is an image of height 1."""
    count = len(kernel)

    def numbers(name: str, default: list[int], least: int) -> list[int]:
        given = whole_numbers(node, node.attribute(name, default), name)
        if len(given) != len(default) or min(given) < least or max(given) > MAX_PAD:
            raise node.fail(
                f"its {name} {given} are not {len(default)} numbers from {least} to {MAX_PAD}; repair the model"
            )
        return given

    if numbers("kernel_shape", kernel, 1) != kernel:
        raise node.fail(f"its kernel_shape is not that of its weight, {kernel}; repair the model")
    stride, dilation = numbers("strides", [1] * count, 1), numbers("dilations", [1] * count, 1)
    pads, added = numbers("pads", [0] * 2 * count, 0), numbers("output_padding", [0] * count, 0)
    auto, wished = node.attribute("auto_pad", "NOTSET"), node.attribute("output_shape", None)
    wished = numbers("output_shape", [1] * count, 1) if wished is not None else None
    axes = [Axis(1, 1, 1, 1, 1, 0)] * (IMAGE - count)
    for i, (n, k, s, d, more) in enumerate(zip(size, kernel, stride, dilation, added, strict=True)):
        whole = s * (n - 1) + more + (k - 1) * d + 1
        before, after = pads[i], pads[count + i]
        if auto == "VALID":
            before = after = 0
        elif auto in ("SAME_UPPER", "SAME_LOWER") or wished is not None:
            target = wished[i] if wished is not None else n * s
            if wished is not None and whole < target < whole + s:  # the rest is as if output_padding asked for it
                whole = target
            if wished is not None and whole < target:
                raise node.fail(
                    f"its output_shape {wished} is more than its input makes; use output_padding below strides"
                )
            total = max(0, whole - target)
            before = total - total // 2 if auto == "SAME_LOWER" or auto == "NOTSET" else total // 2
            after = total - before
        elif auto != "NOTSET":
            raise node.fail(f"its auto_pad {auto!r} is unknown; use explicit pads")
        if whole - before - after < 1:
            raise node.fail(f"its pads {pads} leave nothing of {whole} elements; repair the model")
        axes.append(Axis(n, whole - before - after, k, s, d, before))
    if prod(a.output for a in axes) > MOST_PIXELS:
        raise node.fail(
            f"makes images of {axes[0].output} x {axes[1].output}; at most {MOST_PIXELS} pixels are supported"
        )
    return axes[0], axes[1]
