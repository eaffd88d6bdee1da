"""Trip count of hw/window.hpp, by the recurrence in its header, and the same by running its state machine."""

from dataclasses import dataclass

import numpy as np

LAG = 4  # trips between storing a word in the line buffer and emitting it


@dataclass(frozen=True)
class Window:
    """Geometry of a sliding window, in the kernel's template order."""

    lanes: int
    h: int
    w: int
    c: int
    kh: int
    kw: int
    sh: int
    sw: int
    dh: int
    dw: int
    pt: int
    pl: int
    oh: int
    ow: int

    @property
    def rows(self) -> int:
        """Row slots of the line buffer."""
        return min(self.h, (self.kh - 1) * self.dh + 1 + self.sh)


def hw_trips(g: Window) -> int:
    """Exact trips of the window kernel for one frame; O(OH*KH + OW*KW), whatever the number of channels."""
    groups = g.c // g.lanes
    row_words, out_row_words = g.w * groups, g.ow * g.kh * g.kw * groups
    ow, kw = np.arange(g.ow, dtype=np.int64)[:, None], np.arange(g.kw, dtype=np.int64)[None, :]
    iw = ow * g.sw - g.pl + kw * g.dw
    inside = (iw >= 0) & (iw < g.w)
    lead = groups * int((iw - ow * g.kh * g.kw - kw)[inside].max()) if inside.any() else None

    starts: list[int] = []  # starts[r]: the trip that reads the first word of row r
    end = -1  # the trip that emits the last word of the previous output row

    def read_rows(limit: int) -> None:
        while len(starts) < min(limit, g.h):
            follows = starts[-1] + row_words if starts else 0
            # An earlier limit's rows are in `starts` already, so this one waits for the last output row's end.
            starts.append(max(follows, end + 1))

    for oh in range(g.oh):
        top = oh * g.sh - g.pt
        read_rows(max(0, top) + g.rows)
        begin = end + 1
        if lead is not None:
            for kh in range(g.kh):
                if 0 <= top + kh * g.dh < g.h:
                    begin = max(begin, LAG + lead + starts[top + kh * g.dh] - kh * g.kw * groups)
        end = out_row_words - 1 + begin
    read_rows(g.h)
    return 1 + max(end, starts[-1] + row_words - 1)


def simulated_trips(g: Window) -> int:
    """The kernel's state machine, word by word."""
    groups = g.c // g.lanes
    row_words = g.w * groups
    sources = [
        (oh, oh * g.sh - g.pt + kh * g.dh, (ow * g.sw - g.pl + kw * g.dw) * groups + group)
        for oh in range(g.oh)
        for ow in range(g.ow)
        for kh in range(g.kh)
        for kw in range(g.kw)
        for group in range(groups)
    ]
    read_at: list[int] = []
    emitted = trip = 0
    while emitted < len(sources) or len(read_at) < g.h * row_words:
        done = emitted == len(sources)
        limit = g.h if done else max(0, sources[emitted][0] * g.sh - g.pt) + g.rows
        reading = len(read_at) < g.h * row_words and len(read_at) // row_words < limit
        if not done:
            _, ih, x = sources[emitted]
            padding = not (0 <= ih < g.h and 0 <= x < row_words)
            word = ih * row_words + x
            if padding or (word < len(read_at) and read_at[word] + LAG <= trip):
                if not padding:  # the slot still holds this row
                    assert len(read_at) <= (ih + g.rows) * row_words
                emitted += 1
        if reading:
            read_at.append(trip)
        trip += 1
    return trip
