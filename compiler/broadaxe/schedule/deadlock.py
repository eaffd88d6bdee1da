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
through the FIFO they came by, with L at the worse end at each step. Nothing leads back to that beat: no deadlock for any L from
0 to the bounds. Every cycle holds a copier, and goes backwards out of one of its two FIFOs; so these two are made as deep as
needed, and one word is enough for all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import networkx as nx
import numpy as np
import numpy.typing as npt

from broadaxe.schedule.network import Network, Process

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


def locks_up(network: Network, depths: Mapping[str, int]) -> bool:
    """Whether these depths allow a deadlock for some number of results held back, from 0 to each process' bound."""
    if any(depths[name] < 1 for name in network.fifos):
        return True
    return any(_stuck(part, depths, join, beats).any() for part in _components(network) for join, beats in part.joins())


def worst_holds(network: Network, fifo: str) -> dict[str, int]:
    """Results held back with which a FIFO out of a copier needs its least depth: none where only it leads to, L elsewhere."""
    flow = nx.DiGraph([(f.writer, f.reader) for f in network.fifos.values()])
    reached = {
        name: {network.fifos[name].reader} | nx.descendants(flow, network.fifos[name].reader)
        for name in network.named[network.fifos[fifo].writer].writes
    }
    alone = reached.pop(fifo).difference(*reached.values())
    return {p.name: 0 if p.name in alone else p.holds for p in network.processes}


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
        stuck = [(join, beats, _stuck(part, {**depths, fifo: middle}, join, beats)) for join, beats in targets]
        if any(found.any() for _, _, found in stuck):
            low = middle
            targets = [(join, beats[found]) for join, beats, found in stuck if found.any()]
        else:
            high = middle
    return high


def _stuck(part: _Component, depths: Mapping[str, int], join: Process, beats: Counts) -> npt.NDArray[np.bool_]:
    """For each beat of a process, whether something that it waits for waits for it."""
    none = np.zeros(len(beats), dtype=np.int64)
    # words of each FIFO that have to be written for its reader, and those that have to be read for its writer
    wanted = dict.fromkeys(part.fifos, none)
    drained = dict.fromkeys(part.fifos, none)
    first = {fifo for fifo in join.reads if fifo in part.fifos}
    for fifo in first:
        wanted[fifo] = _count(join.reads_of(fifo), beats)
    stuck = np.zeros(len(beats), dtype=bool)
    pending = {part.writers[fifo].name for fifo in first}
    downwards = True
    while pending:
        order = reversed(part.processes) if downwards else part.processes
        downwards = not downwards
        for process in order:
            if process.name not in pending:
                continue
            pending.discard(process.name)
            for fifo, count in _follows(part, process, wanted, drained, depths):
                upwards = fifo in process.reads
                known = wanted if upwards else drained
                if (count > known[fifo]).any():
                    known[fifo] = np.maximum(known[fifo], count)
                    next_one = part.writers[fifo] if upwards else part.readers[fifo]
                    if next_one is join and not upwards:
                        stuck |= _reached(join, fifo, known[fifo]) >= beats
                    elif next_one is not join:
                        pending.add(next_one.name)
    return stuck


def _follows(
    part: _Component,
    process: Process,
    wanted: Mapping[str, Counts],
    drained: Mapping[str, Counts],
    depths: Mapping[str, int],
) -> Iterable[tuple[str, Counts]]:
    """What a process asks of its other FIFOs: words of inputs that have to be written, of outputs that have to be read."""
    writes = process.trace.writes
    outputs = [fifo for fifo in process.writes if fifo in part.fifos]
    inputs = [fifo for fifo in process.reads if fifo in part.fifos]
    for fifo in outputs:
        if not wanted[fifo].any():
            continue
        trip = np.where(wanted[fifo] > 0, writes[wanted[fifo] - 1], -1)
        for other in inputs:
            beat = np.where(trip >= 0, trip + process.holds, -1)
            yield other, _count(process.reads_of(other), beat)
        for other in outputs:
            if other != fifo:
                yield other, np.maximum(_count(writes, trip) - depths[other], 0)
    for fifo in inputs:
        if not drained[fifo].any():
            continue
        beat = _reached(process, fifo, drained[fifo])
        for other in outputs:
            yield other, np.maximum(_count(writes, beat) - depths[other], 0)
        for other in inputs:
            if other != fifo:
                yield other, _count(process.reads_of(other), beat)


def _reached(process: Process, fifo: str, words: Counts) -> Counts:
    """The beat that reads the last of so many words of a FIFO; -1 for none."""
    return np.where(words > 0, process.reads_of(fifo)[words - 1], -1)


def _count(trips: Counts, upto: Counts) -> Counts:
    """How many of the trips are at most `upto`."""
    return np.asarray(np.searchsorted(trips, upto, side="right"))
