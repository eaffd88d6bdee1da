"""When hw/window_parallel.hpp reads and writes: the recurrence of its header.

The kernel emits several taps a word, each with all channels of a pixel: a convolution may take one cycle an output pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from broadaxe.hardware import Resources, Trace
from broadaxe.ir import IntArray
from broadaxe.ops import costs

LAG = 4
"""Trips between storing a word in the line buffer and reading it from there."""


@dataclass(frozen=True)
class Slide:
    """One axis of a sliding window: `size` pixels of the frame, `before` of padding in front of them, `outputs` positions."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    outputs: int

    @property
    def extent(self) -> int:
        """Pixels from a window's first to its last."""
        return (self.kernel - 1) * self.dilation + 1


@dataclass(frozen=True)
class ParallelWindow:
    """The kernel for one geometry; patches leave in `parts` words."""

    rows: Slide
    columns: Slide
    parts: int

    @property
    def slots(self) -> int:
        """Rows that the line buffer holds."""
        return min(self.rows.size, self.rows.extent + self.rows.stride)

    @property
    def _apart(self) -> int:
        """Trips from a patch to the next one in a row, without a wait."""
        return max(self.columns.stride, self.parts)

    @property
    def _joins(self) -> int:
        """J, the first patch of a row that holds the frame's first column."""
        return max(0, -(-(self.columns.before - self.columns.extent + 1) // self.columns.stride))

    def _patches(self, starts: list[int]) -> Iterator[tuple[int, int]]:
        """For every output row the trip that would complete its first patch, and the same as patches from J on have it.

        Appends to `starts` the trip that reads the first word of each frame row.
        """
        rows, columns, joins = self.rows, self.columns, self._joins
        lead = LAG - columns.before + columns.extent - 1 + joins * (columns.stride - self._apart)
        end = -1
        for row in range(rows.outputs):
            top = row * rows.stride - rows.before
            self._read(starts, max(0, top) + self.slots, end)
            inside = [r for r in range(top, top + rows.extent, rows.dilation) if 0 <= r < rows.size]
            begin = late = end + max(columns.extent, self.parts if row else 0)
            if inside and joins < columns.outputs:
                late = max(begin, lead + starts[inside[-1]])
            end = late + (columns.outputs - 1) * self._apart
            yield begin, late
        self._read(starts, rows.size, end)

    def _read(self, starts: list[int], limit: int, end: int) -> None:
        """Rows below `limit` follow one another, those that are new no sooner than after trip `end`."""
        while len(starts) < min(limit, self.rows.size):
            starts.append(max(starts[-1] + self.columns.size if starts else 0, end + 1))

    def trips(self) -> int:
        """Of the kernel's one loop for a frame, exactly."""
        starts: list[int] = []
        *_, (_, late) = self._patches(starts)
        end = late + (self.columns.outputs - 1) * self._apart
        return 1 + max(end + self.parts, starts[-1] + self.columns.size - 1)

    def trace(self) -> Trace:
        """In which trips every word is read and written."""
        starts: list[int] = []
        begins = np.array(list(self._patches(starts)), dtype=np.int64)
        position = np.arange(self.columns.outputs)
        complete = np.where(position < self._joins, begins[:, :1], begins[:, 1:]) + position * self._apart
        writes: IntArray = np.add.outer(complete, np.arange(1, self.parts + 1)).reshape(-1)
        reads: IntArray = np.add.outer(np.array(starts, dtype=np.int64), np.arange(self.columns.size)).reshape(-1)
        return Trace(1 + max(int(writes[-1]), int(reads[-1])), (reads,), writes)

    def resources(self, bits: int, padded: bool) -> Resources:
        """Model: a memory a row of the ring, shift registers of columns, a patch that is loaded and moved on, and positions.

        Args:
            bits: of a pixel.
            padded: whether there are pad codes to choose.
        """
        taps, extent = self.rows.kernel, self.columns.extent
        rows = costs.times(costs.placed(bits, self.columns.size), self.slots)
        chosen = costs.multiplexer(self.slots, bits) + (bits if padded else 0)
        columns = Resources(taps * chosen, taps * extent * bits)
        patch = taps * self.columns.kernel * bits
        moved = Resources(patch if self.parts > 1 else 0, patch)
        control = costs.window_control(
            self.rows.size, self.columns.size, self.slots, self.rows.outputs, extent, self.parts
        )
        return rows + columns + moved + control
