"""SlidingWindow: the patches of an image that a convolution or a pooling reads, one vector per output position.

A vector has K = kernel height * kernel width * channels elements in the canonical order (kh, kw, c), channels fastest.
Taps that fall outside the image hold the channel's pad code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from broadaxe.errors import GraphError
from broadaxe.hardware import Resources, Trace
from broadaxe.ir import WIDEST_WORD, Bounds, Example, IntArray, Lanes, OnnxBuilder, Op, Shape, Value, divisors
from broadaxe.ops import costs
from broadaxe.ops.memories import builtin
from broadaxe.ops.window_parallel import ParallelWindow, Slide
from broadaxe.types import Interval, IntType

LAG = 4
"""Trips of the window kernel between storing a word in its line buffer and emitting it."""


@dataclass(frozen=True)
class SlidingWindow(Op):
    """im2col of a channels-last image.

    Attributes:
        kernel, stride, dilation: (height, width).
        pads: (top, left, bottom, right).
        pad_codes: one integer per channel, or a single one for all.
    """

    kind = "window"
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    pad_codes: tuple[int, ...] = (0,)

    @property
    def padded(self) -> bool:
        return any(self.pads)

    def shape(self, *inputs: Value) -> Shape:
        (image,) = inputs
        if len(image.shape) != 3:
            raise GraphError(f"window: its input has shape {image.shape}; give an image, (height, width, channels)")
        return (*self.positions(image.shape), self.kernel[0] * self.kernel[1] * image.channels)

    def positions(self, image: Shape) -> tuple[int, int]:
        """Output height and width."""
        top, left, bottom, right = self.pads
        height = _positions(image[0] + top + bottom, self.kernel[0], self.stride[0], self.dilation[0])
        width = _positions(image[1] + left + right, self.kernel[1], self.stride[1], self.dilation[1])
        if height < 1 or width < 1:
            raise GraphError(
                f"window: kernel {self.kernel} does not fit an image of shape {image}; pad it or use a smaller one"
            )
        return height, width

    def reads_image_everywhere(self, image: Shape) -> bool:
        """Whether every output position reads the image at least once, not padding alone."""
        rows, cols = self._rows(image), self._columns(image)
        inside = (rows >= 0) & (rows < image[0]), (cols >= 0) & (cols < image[1])
        return bool(inside[0].any(axis=1).all() and inside[1].any(axis=1).all())

    def codes(self, channels: int) -> tuple[int, ...]:
        """The pad code of each channel."""
        return self.pad_codes * channels if len(self.pad_codes) == 1 else self.pad_codes

    def bounds(self, *inputs: Value) -> Bounds:
        (image,) = inputs
        reached, outside = self._taps(image.shape)
        out: list[Interval] = []
        for inside, padded in zip(reached, outside, strict=True):
            for interval, code in zip(image.bounds, self.codes(image.channels), strict=True):
                if not inside:
                    out.append(Interval(code, code))
                else:
                    out.append(interval | code if padded else interval)
        return tuple(out)

    def dtype(self, *inputs: Value) -> IntType:
        """The image's type, widened where a pad code does not fit it."""
        (image,) = inputs
        if not self.padded or all(code in image.dtype.range for code in self.codes(image.channels)):
            return image.dtype
        return (image.dtype.range | Interval(min(self.pad_codes), max(self.pad_codes))).dtype

    def _taps(self, image: Shape) -> tuple[list[bool], list[bool]]:
        """Per tap (kh, kw): does it ever read the image, does it ever read padding."""
        rows, cols = self._rows(image), self._columns(image)
        inside_row = (rows >= 0) & (rows < image[0])
        inside_col = (cols >= 0) & (cols < image[1])
        reached, outside = [], []
        for kh in range(self.kernel[0]):
            for kw in range(self.kernel[1]):
                reached.append(bool(inside_row[:, kh].any() and inside_col[:, kw].any()))
                outside.append(not (inside_row[:, kh].all() and inside_col[:, kw].all()))
        return reached, outside

    def _rows(self, image: Shape) -> IntArray:
        """Input row of each (output row, kh); outside the image where padded."""
        out = self.positions(image)[0]
        return np.arange(out)[:, None] * self.stride[0] + np.arange(self.kernel[0]) * self.dilation[0] - self.pads[0]

    def _columns(self, image: Shape) -> IntArray:
        out = self.positions(image)[1]
        return np.arange(out)[:, None] * self.stride[1] + np.arange(self.kernel[1]) * self.dilation[1] - self.pads[1]

    def reference(self, *inputs: IntArray) -> IntArray:
        """One copy of a strided view: runs of kernel width times channels are contiguous where the dilation is 1."""
        (x,) = inputs
        out_h, out_w = self.positions(x.shape[1:])
        (step_h, step_w), (apart_h, apart_w) = self.stride, self.dilation
        extent = ((self.kernel[0] - 1) * apart_h + 1, (self.kernel[1] - 1) * apart_w + 1)
        view = np.lib.stride_tricks.sliding_window_view(self._pad(x), extent, axis=(1, 2))
        patches = view[:, ::step_h, ::step_w, :, ::apart_h, ::apart_w]  # (batch, out_h, out_w, c, kh, kw)
        depth = self.kernel[0] * self.kernel[1] * x.shape[-1]
        return np.ascontiguousarray(patches.transpose(0, 1, 2, 4, 5, 3)).reshape(len(x), out_h, out_w, depth)

    def _pad(self, x: IntArray) -> IntArray:
        if not self.padded:
            return x
        top, left, bottom, right = self.pads
        batch, height, width, channels = x.shape
        codes = np.array(self.codes(channels))
        kind = np.result_type(x.dtype, np.min_scalar_type(int(codes.min())), np.min_scalar_type(int(codes.max())))
        out = np.empty((batch, height + top + bottom, width + left + right, channels), dtype=kind)
        out[:] = codes
        out[:, top : top + height, left : left + width] = x
        return out

    @cached_property
    def _gather(self) -> dict[Shape, IntArray]:
        return {}

    def positions_read(self, image: Shape) -> IntArray:
        """Flat input index of every output element; height * width * channels + c stands for the pad code of c."""
        if image not in self._gather:
            height, width, channels = image
            rows, cols = self._rows(image)[:, None, :, None], self._columns(image)[None, :, None, :]
            inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
            pixel = np.where(inside, rows * width + cols, height * width)
            self._gather[image] = (pixel[..., None] * channels + np.arange(channels)).astype(np.int64)
        return self._gather[image]

    def render(self, builder: OnnxBuilder, inputs: Sequence[str], values: Sequence[Value]) -> str:
        (image,) = values
        index = self.positions_read(image.shape)
        flat = builder.node("Reshape", inputs[0], builder.constant(np.array([-1, image.size], dtype=np.int64)))
        if self.padded:
            codes = builder.constant(np.array([self.codes(image.channels)], dtype=builder.kind(flat)))
            batch = builder.node("Shape", flat, start=0, end=1)
            target = builder.node("Concat", batch, builder.constant(np.array([image.channels])), axis=0)
            wide = builder.node("Expand", codes, target)
            flat = builder.node("Concat", flat, wide, axis=1)
        picked = builder.node("Gather", flat, builder.constant(index.reshape(-1)), axis=1)
        return builder.node("Reshape", picked, builder.constant(np.array([-1, *self.shape(image)], dtype=np.int64)))

    def variants(self, inputs: Sequence[Value], output: Value) -> Sequence[Lanes]:
        """Up to all channels of one tap, in and out; or a whole pixel in and several taps of a patch out."""
        channels = inputs[0].channels
        if channels * inputs[0].dtype.width > WIDEST_WORD:
            return super().variants(inputs, output)
        several = [taps * channels for taps in divisors(self.kernel[0] * self.kernel[1])[1:]]
        fitting = [Lanes(channels, n) for n in several if n * output.dtype.width <= WIDEST_WORD]
        return [*super().variants(inputs, output), *fitting]

    def _parallel(self, image: Shape, output: Shape, lanes: Lanes) -> ParallelWindow | None:
        """The kernel that emits several taps a word; None where one tap at most is asked for."""
        if lanes.written <= image[2]:
            return None
        rows, columns = (
            Slide(image[i], self.kernel[i], self.stride[i], self.dilation[i], self.pads[i], output[i]) for i in (0, 1)
        )
        return ParallelWindow(rows, columns, output[2] // lanes.written)

    def cycles(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> int:
        """The kernel's exact trip count, by the recurrence in hw/window.hpp or hw/window_parallel.hpp."""
        parallel = self._parallel(inputs[0].shape, output.shape, lanes)
        if parallel is not None:
            return parallel.trips()
        (height, width, channels), (out_h, out_w) = inputs[0].shape, output.shape[:2]
        groups, (kernel_h, kernel_w) = channels // lanes.read, self.kernel
        row_words, out_row_words = width * groups, out_w * kernel_h * kernel_w * groups
        slots = self._slots(height)
        columns = self._columns(inputs[0].shape)
        ahead = columns - np.arange(out_w)[:, None] * kernel_h * kernel_w - np.arange(kernel_w)
        inside = (columns >= 0) & (columns < width)
        lead = int(ahead[inside].max()) * groups if inside.any() else None
        starts: list[int] = []
        end = -1
        for row in range(out_h):
            top = row * self.stride[0] - self.pads[0]
            _read_rows(starts, min(height, max(0, top) + slots), row_words, end)
            begin = end + 1
            for tap in range(kernel_h if lead is not None else 0):
                source = top + tap * self.dilation[0]
                if 0 <= source < height and lead is not None:
                    begin = max(begin, LAG + lead + starts[source] - tap * kernel_w * groups)
            end = begin + out_row_words - 1
        _read_rows(starts, height, row_words, end)
        return 1 + max(end, starts[-1] + row_words - 1)

    def trace(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Trace:
        """Every word's trip, by the recurrence in hw/window.hpp: a word waits for its source, and all after it with it."""
        parallel = self._parallel(inputs[0].shape, output.shape, lanes)
        if parallel is not None:
            return parallel.trace()
        (height, width, channels), out_h = inputs[0].shape, output.shape[0]
        groups, slots = channels // lanes.read, self._slots(height)
        row_words = width * groups
        rows, columns = self._rows(inputs[0].shape), self._columns(inputs[0].shape)
        inside = (columns >= 0) & (columns < width)
        source = columns[:, None, :, None] * groups + np.arange(groups)  # (OW, 1, KW, C/LANES)
        starts: list[int] = []
        writes: list[IntArray] = []
        end = -1
        for row in range(out_h):
            _read_rows(starts, min(height, max(0, int(rows[row, 0])) + slots), row_words, end)
            begins = np.array([starts[r] if 0 <= r < height else -1 for r in rows[row].tolist()], dtype=np.int64)
            stored = (begins >= 0)[:, None, None] & inside[:, None, :, None]
            ready = np.where(stored, begins[:, None, None] + LAG + source, 0).reshape(-1)
            count = np.arange(len(ready))
            emitted = np.maximum.accumulate(np.maximum(ready, end + 1) - count) + count
            writes.append(emitted)
            end = int(emitted[-1])
        _read_rows(starts, height, row_words, end)
        reads = np.add.outer(np.array(starts, dtype=np.int64), np.arange(row_words)).reshape(-1)
        return Trace(1 + max(end, int(reads[-1])), (reads,), np.concatenate(writes))

    def _slots(self, height: int) -> int:
        """Rows that the line buffer holds."""
        return min(height, (self.kernel[0] - 1) * self.dilation[0] + 1 + self.stride[0])

    def template_context(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Mapping[str, Any]:
        (height, width, channels) = inputs[0].shape
        codes = self.codes(channels)
        return {
            "lanes": lanes.read,
            "taps": lanes.written // channels if lanes.written > channels else None,
            "frame": (height, width, channels),
            "geometry": (*self.kernel, *self.stride, *self.dilation, self.pads[0], self.pads[1], *output.shape[:2]),
            "trips": self.cycles(inputs, output, lanes),
            "pad_type": builtin(min(codes), max(codes)),
            "pad": np.array(codes).reshape(-1, lanes.read).T.tolist(),
        }

    def resources(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Resources:
        """The ring of rows, the counters of reader and emitter, and the choice between the ring and pad codes."""
        parallel = self._parallel(inputs[0].shape, output.shape, lanes)
        if parallel is not None:
            return parallel.resources(inputs[0].channels * output.dtype.width, self.padded)
        (height, width, channels) = inputs[0].shape
        count, bits = lanes.read, output.dtype.width
        blocks, (kernel_h, kernel_w) = channels // count, self.kernel
        slots = min(height, (kernel_h - 1) * self.dilation[0] + 1 + self.stride[0])
        row = width * blocks
        pads = costs.times(costs.placed(bits, blocks, rom=True), count) if len(set(self.pad_codes)) > 1 else Resources()
        choice = Resources(lut=count * bits if self.padded else 0)
        return (
            costs.placed(count * bits, slots * row)
            + costs.window_control(height, row, slots * row, *output.shape[:2], kernel_h, kernel_w, blocks)
            + pads
            + choice
        )

    @classmethod
    def examples(cls) -> Iterable[Example]:
        kind = IntType(4, signed=True)
        bounds = tuple(Interval(-c, 7 - c) for c in range(3))
        image = Value("x", (5, 6, 3), kind, bounds)
        yield Example("3x3 same", cls((3, 3), pads=(1, 1, 1, 1), pad_codes=(0,)), (image,))
        yield Example("3x2 stride 2 uneven pads", cls((3, 2), (2, 2), (1, 0, 2, 1), (1, 1), (1, -1, 2)), (image,))
        yield Example("dilated", cls((2, 3), (1, 1), (0, 2, 0, 2), (3, 2), (-8,)), (image,))
        yield Example("wider pad code", cls((2, 2), (1, 1), (1, 1, 1, 1), (1, 1), (9,)), (image,))
        yield Example("1x1 stride 2", cls((1, 1), (2, 2)), (image,))


def _positions(size: int, kernel: int, stride: int, dilation: int) -> int:
    return (size - (kernel - 1) * dilation - 1) // stride + 1


def _read_rows(starts: list[int], limit: int, row_words: int, end: int) -> None:
    """Append the trips that read the first word of each row below limit; `end` is the last trip of the output so far."""
    while len(starts) < limit:
        starts.append(max(starts[-1] + row_words if starts else 0, end + 1))
