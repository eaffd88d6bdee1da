"""FIFO depths without deadlock: for each FIFO the least depth, the others given, with which the network cannot lock up.

The argument. Between beats of processes there are three orders: beats of a process follow each other; word n of a FIFO is
read in a later beat than it is written in; and it is written in a later beat than word n - depth is read in. A network of
blocking reads and writes locks up exactly if these orders hold a cycle. All of them lead from a frame to itself or to an
earlier one, so one frame is enough, and a shortest cycle visits each process once. It passes a process in one of four ways:

    it has to write a word, so it has to have read:     the inputs of beats up to trip + L. Worst: the largest L.
    it has to have read a word, so it has to have written:    the outputs of trips up to beat - L. Worst: L = 0.
    it has to write a word, so there has to be room:    the other outputs of trips up to this one.
    it has to have read a word, so it has to have:      the other inputs of beats up to this one.

Here these four maps are followed from every beat of a process with several inputs, through the whole network, never back
through the FIFO they came by, with L at the worse end at each step; where a process is taken both ways, with L fixed at one
end, then at the other. Nothing leads back to that beat: no deadlock for any L from 0 to the bounds. Every cycle holds a
copier, and goes backwards out of one of its two FIFOs; so these two are made as deep as needed, and one word is enough for all
others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import networkx as nx
import numpy as np
import numpy.typing as npt

from broadaxe.schedule.network import Network, Process

UP, DOWN, ACROSS = "up", "down", "across"
SPLITS = 64

Counts = npt.NDArray[np.int64]
"""Words of a FIFO, one number for each beat of a process that is looked at."""


def least_depths(network: Network) -> dict[str, int]:
    """The least depths, in words, found for one FIFO after the other, those nearest to the outputs first.

    No FIFO can have a word less while the others keep theirs.
    """
    components = _components(network)
    inside = {name for component in components for name in component.fifos}  # elsewhere branches never meet again
    depths = {name: fifo.words if fifo.branches and name in inside else 1 for name, fifo in network.fifos.items()}
    for component in components:
        chosen = [fifo for p in reversed(component.processes) for fifo in p.writes if fifo in component.fifos]
        for fifo in chosen:
            if network.fifos[fifo].branches:
                depths[fifo] = _least(component, depths, fifo)
    return depths


def locks_up(network: Network, depths: Mapping[str, int]) -> dict[str, int] | None:
    """Results that processes hold back, each 0 or its bound, with which these depths lock up; None if none do."""
    if any(depths[name] < 1 for name in network.fifos):
        return {p.name: p.holds for p in network.processes}
    for part in _components(network):
        for join, beats in part.joins():
            held = _locking(part, depths, join, beats, {}, [SPLITS])
            if held is not None:
                return {p.name: held.get(p.name, p.holds) for p in network.processes}
    return None


@dataclass(frozen=True, eq=False)
class _Component:
    """Processes and FIFOs that lie on common undirected cycles; two components share one process at most."""

    processes: tuple[Process, ...]
    fifos: frozenset[str]
    writers: Mapping[str, Process]
    readers: Mapping[str, Process]

    def joins(self) -> Iterable[tuple[Process, Counts]]:
        """Processes with several inputs in here, and their beats that read."""
        for process in self.processes:
            inside = [fifo for fifo in process.reads if fifo in self.fifos]
            if len(inside) > 1:
                yield process, np.unique(np.concatenate([process.reads_of(fifo) for fifo in inside]))


def _components(network: Network) -> list[_Component]:
    """Where the network branches and joins again; chains are left out."""
    undirected = nx.Graph()
    between: dict[tuple[str, str], list[str]] = {}
    for fifo in network.fifos.values():
        undirected.add_edge(fifo.writer, fifo.reader)
        between.setdefault((fifo.writer, fifo.reader), []).append(fifo.name)
    found = []
    for edges in nx.biconnected_component_edges(undirected):
        ends = {end for edge in edges for end in edge}
        pairs = [pair for a, b in edges for pair in ((a, b), (b, a)) if pair in between]
        fifos = frozenset(fifo for pair in pairs for fifo in between[pair])
        if len(fifos) > 1:
            inside = tuple(p for p in network.processes if p.name in ends)
            writers = {fifo: p for p in inside for fifo in p.writes}
            readers = {fifo: p for p in inside for fifo in p.reads}
            found.append(_Component(inside, fifos, writers, readers))
    return found


def _least(part: _Component, depths: Mapping[str, int], fifo: str) -> int:
    """The least depth of one FIFO, the others given, by bisection; a beat that is safe with a depth is so with a larger one."""
    targets = list(part.joins())
    low, high = 0, depths[fifo]  # `low` locks up, `high` does not
    while high - low > 1:
        middle = (low + high) // 2
        tried = {**depths, fifo: middle}
        suspects = [(join, beats[_stuck(part, tried, join, beats, {})]) for join, beats in targets]
        suspects = [(join, beats) for join, beats in suspects if len(beats)]
        if any(_locking(part, tried, join, beats, {}, [SPLITS]) is not None for join, beats in suspects):
            low, targets = middle, suspects
        else:
            high = middle
    return high


def _locking(
    part: _Component,
    depths: Mapping[str, int],
    join: Process,
    beats: Counts,
    held: Mapping[str, int],
    splits: list[int],
) -> dict[str, int] | None:
    """Held results with which one of the beats is part of a cycle; None if there are none.

    A walk that takes a process both ways, with L at both of its ends, is no cycle: then L is fixed at either. `splits` is
    how often that may happen; after that what looks like a deadlock counts as one.
    """
    beats = beats[_stuck(part, depths, join, beats, held)]
    if not len(beats):
        return None
    ways: dict[str, set[str]] = {}
    _stuck(part, depths, join, beats[:1], held, ways)
    free = (p for p in part.processes if p.holds and p.name not in held)
    both = next((p for p in free if {UP, DOWN} <= ways.get(p.name, set())), None)
    if both is None or splits[0] == 0:
        worst = {p.name: 0 if DOWN in ways.get(p.name, ()) else p.holds for p in part.processes}
        return {**worst, **held}
    splits[0] -= 1
    for holds in (0, both.holds):
        found = _locking(part, depths, join, beats, {**held, both.name: holds}, splits)
        if found is not None:
            return found
    return None


def _stuck(
    part: _Component,
    depths: Mapping[str, int],
    join: Process,
    beats: Counts,
    held: Mapping[str, int],
    ways: dict[str, set[str]] | None = None,
) -> npt.NDArray[np.bool_]:
    """For each beat of a process, whether something that it waits for waits for it.

    Args:
        held: L of processes for which it is fixed.
        ways: of a single beat that is stuck, where to put the ways in which the walk back to it takes processes.
    """
    none = np.zeros(len(beats), dtype=np.int64)
    # words of each FIFO that have to be written for its reader, and those that have to be read for its writer
    needs = {(fifo, way): none for fifo in part.fifos for way in (UP, DOWN)}
    steps: list[tuple[int, str, str]] = [(-1, "", "")]  # the step before, the process that it takes, and how
    last = dict.fromkeys(needs, 0)
    first = {fifo for fifo in join.reads if fifo in part.fifos}
    for fifo in first:
        needs[fifo, UP] = _count(join.reads_of(fifo), beats)
    stuck = np.zeros(len(beats), dtype=bool)
    pending = {part.writers[fifo].name for fifo in first}
    upwards = True
    while pending:
        order = reversed(part.processes) if upwards else part.processes
        upwards = not upwards
        for process in order:
            if process.name not in pending:
                continue
            pending.discard(process.name)
            for before, after, way, count in _follows(part, process, needs, depths, held):
                if not (count > needs[after]).any():
                    continue
                needs[after] = np.maximum(needs[after], count)
                if ways is not None:
                    steps.append((last[before], process.name, way))
                    last[after] = len(steps) - 1
                fifo, goes = after
                reader = part.writers[fifo] if goes == UP else part.readers[fifo]
                if reader is not join:
                    pending.add(reader.name)
                elif goes == DOWN:
                    stuck |= _reached(join, fifo, needs[after]) >= beats
                    if ways is not None and stuck.any():
                        at = last[after]
                        while at > 0:
                            at, name, way = steps[at]
                            ways.setdefault(name, set()).add(way)
                        return stuck
    return stuck


def _follows(
    part: _Component,
    process: Process,
    needs: Mapping[tuple[str, str], Counts],
    depths: Mapping[str, int],
    held: Mapping[str, int],
) -> Iterable[tuple[tuple[str, str], tuple[str, str], str, Counts]]:
    """What a process asks of its other FIFOs: words of inputs that have to be written, of outputs that have to be read.

    Each with the need that it follows from, and the way through the process.
    """
    writes = process.trace.writes
    outputs = [fifo for fifo in process.writes if fifo in part.fifos]
    inputs = [fifo for fifo in process.reads if fifo in part.fifos]
    for fifo in outputs:
        words = needs[fifo, UP]
        if not words.any():
            continue
        trip = np.where(words > 0, writes[words - 1], -1)
        beat = np.where(words > 0, trip + held.get(process.name, process.holds), -1)
        for other in inputs:
            yield (fifo, UP), (other, UP), UP, _count(process.reads_of(other), beat)
        for other in outputs:
            if other != fifo:
                yield (fifo, UP), (other, DOWN), ACROSS, np.maximum(_count(writes, trip) - depths[other], 0)
    for fifo in inputs:
        words = needs[fifo, DOWN]
        if not words.any():
            continue
        beat = _reached(process, fifo, words)
        trip = beat - held.get(process.name, 0)
        for other in outputs:
            yield (fifo, DOWN), (other, DOWN), DOWN, np.maximum(_count(writes, trip) - depths[other], 0)
        for other in inputs:
            if other != fifo:
                yield (fifo, DOWN), (other, UP), ACROSS, _count(process.reads_of(other), beat)


def _reached(process: Process, fifo: str, words: Counts) -> Counts:
    """The beat that reads the last of so many words of a FIFO; -1 for none."""
    return np.where(words > 0, process.reads_of(fifo)[words - 1], -1)


def _count(trips: Counts, upto: Counts) -> Counts:
    """How many of the trips are at most `upto`."""
    return np.asarray(np.searchsorted(trips, upto, side="right"))
