"""A periodic schedule of back-to-back frames, and the FIFO depths with which it runs without a stall.

Every process is given an integer time for each of its beats, the same in every frame but for the period P, the interval of the
slowest process. The times respect the data (a word is read after it was written) and the process (a beat a cycle, a frame
after the frame before). The largest number of words that a FIFO holds in the schedule is a depth with which the schedule is
possible; a network of blocking reads and writes that starts every beat as soon as it can is never later than any possible
schedule, so with these depths it keeps up the rate of one frame every P cycles, and a frame is never later than here.

That is true of every number of results held back, from none to the bound: a pipeline that holds back fewer may read when it
reads here, and writes a word that much sooner. So room is counted from the trip that makes a word, not from where it leaves.

Three passes, each linear in the words of a frame. Forward: every beat as early as the data allow. Backward: a beat waits while
its output FIFO would hold more than EASY words, unless a reader needs the word: fast producers do not run ahead. Forward again:
what makes fewer bits than it takes, as a requantizer does, is early once more, so that what has to wait does so in few bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from broadaxe.schedule.network import DEAL_CYCLES, Network, Process

EASY = 2
"""Words that a FIFO may hold at no price."""

Times = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Schedule:
    """Cycles, counted from the first beat of a frame that finds the design empty.

    Attributes:
        interval: P, between the starts of frames.
        latency: from a frame's first input beat to its last output beat, at most, in cycles.
        depths: words that each FIFO has to hold, those of parameters among them.
        starts, ends: cycle of each process' first and last beat of the first frame.
    """

    interval: int
    latency: int
    depths: Mapping[str, int]
    starts: Mapping[str, int]
    ends: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class _Beats:
    """When a process' beats happen: beat b in cycle b + offset, the offset a rising staircase over beats.

    `at` are beats, ascending; from at[i] on, and before at[i + 1], the offset is offsets[i + 1]; before at[0] offsets[0].
    """

    at: Times
    offsets: Times

    def cycles(self, beats: Times) -> Times:
        return np.asarray(beats + self.offsets[np.searchsorted(self.at, beats, side="right")])


def schedule(network: Network, interval: int | None = None) -> Schedule:
    """The schedule described above.

    Args:
        interval: P; the network's own, or longer: FIFOs may then be smaller.
    """
    period = interval or network.interval
    written: dict[str, Times] = {}
    early: dict[str, _Beats] = {}
    for process in network.processes:
        early[process.name] = beats = _earliest(process, written, period)
        for fifo in process.writes:
            written[fifo] = beats.cycles(process.trace.writes + process.holds)
    read: dict[str, Times] = {}
    starts, ends = {}, {}
    settled: dict[str, _Beats] = {}

    def settle(process: Process, beats: _Beats) -> None:
        for fifo, trips in zip(process.reads, process.trace.reads, strict=True):
            read[fifo] = beats.cycles(trips)
        for fifo in process.writes:
            written[fifo] = beats.cycles(process.trace.writes + process.holds)
        settled[process.name] = beats
        starts[process.name], ends[process.name] = beats.cycles(np.array([0, process.period - 1])).tolist()

    for process in reversed(network.processes):
        settle(process, _delayed(process, early[process.name], read, period))
    for process in network.processes:
        if process.writes and _bits(network, process.reads) > _bits(network, process.writes):
            settle(process, _earliest(process, written, period))
    origin = min(starts.values())
    soonest = {fifo: settled[p.name].cycles(p.trace.writes) for p in network.processes for fifo in p.writes}
    ahead = dealing(network, {name: at - origin for name, at in starts.items()})
    late = -min([0, *ahead.values()])
    waiting = {fifo: occupancy(np.array([-1]), np.array([cycles + late]), period) for fifo, cycles in ahead.items()}
    return Schedule(
        interval=period,
        latency=late + max(ends.values()) - origin + 1,
        depths={name: occupancy(soonest[name], read[name], period) for name in network.fifos} | waiting,
        starts={name: late + at - origin for name, at in starts.items()},
        ends={name: late + at - origin for name, at in ends.items()},
    )


def dealing(network: Network, starts: Mapping[str, int]) -> dict[str, int]:
    """Cycles that each FIFO of parameters has its frame's word before the kernel starts that reads it.

    The dealing process is DEAL_CYCLES at each kernel, and starts with the design.
    """
    return {fifo: starts[kernel] - DEAL_CYCLES * (at + 1) for at, (fifo, kernel) in enumerate(network.dealt)}


def occupancy(written: Times, read: Times, period: int) -> int:
    """Words that a FIFO holds at most, when word n of frame f is written in cycle written[n] + f * period and read likewise.

    A slot is free again in the cycle after its word was read. Neither side's frames overlap in time.
    """
    frames = (written - read[0] - 1) // period  # the last frame of which a word was read before
    seen = frames * len(read) + np.searchsorted(read, written - frames * period, side="left")
    return int((np.arange(1, len(written) + 1) - seen).max())


def _earliest(process: Process, written: Mapping[str, Times], period: int) -> _Beats:
    """Every beat as soon as its words are there, but the first not so soon that the last would meet the next frame's first."""
    if not process.reads:
        return _Beats(np.zeros(0, dtype=np.int64), np.zeros(1, dtype=np.int64))
    beats = np.concatenate(process.trace.reads)
    waits = np.concatenate([written[fifo] + 1 for fifo in process.reads]) - beats
    order = np.argsort(beats, kind="stable")
    offsets = np.maximum.accumulate(waits[order])
    floor = offsets[-1] - (period - process.period)
    return _Beats(beats[order], np.maximum(np.concatenate([[floor], offsets]), floor))


def _bits(network: Network, fifos: Iterable[str]) -> int:
    """Of a frame in all of them."""
    return sum(network.fifos[name].words * network.fifos[name].bits for name in fifos)


def _delayed(process: Process, early: _Beats, read: Mapping[str, Times], period: int) -> _Beats:
    """Beats that wait for room among EASY words of each output, as long as no reader has to wait for them."""
    if not process.writes:
        return early
    trips, slack = process.trace.writes, period - process.period
    written = trips + process.holds
    at = np.sort(np.concatenate([np.zeros(1, dtype=np.int64), *process.trace.reads, trips, written]), kind="stable")
    at = at[np.append(True, at[1:] > at[:-1])]
    wished, latest = early.cycles(at) - at, np.full(len(at), np.iinfo(np.int64).max)
    begun, done = np.searchsorted(at, trips), np.searchsorted(at, written)
    frames, before = np.divmod(np.arange(len(written)) - EASY, len(written))
    for fifo in process.writes:  # it waits in front of the trip, not with results held back
        wished[begun] = np.maximum(wished[begun], read[fifo][before] + frames * period + 1 - trips)
        latest[done] = np.minimum(latest[done], read[fifo] - 1 - written)
    latest = np.minimum.accumulate(latest[::-1])[::-1]
    wished = np.maximum.accumulate(wished)
    offsets = np.minimum(np.maximum(wished, wished[-1] - slack), latest)
    offsets = np.minimum(offsets, offsets[0] + slack)
    return _Beats(at, np.concatenate([offsets[:1], offsets]))
