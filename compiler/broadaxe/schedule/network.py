"""The design as a network of processes and FIFOs: who reads and writes what, in which trip of its loop.

A process is one call of the dataflow top level: a kernel, a lane changer, a copier, or an end of an AXI port. Its loop is one
flat pipeline at II = 1, which the vendor tools keep rigid: while it waits, it holds back the results of the trips that are
under way. With L trips under way the process does in beat b, for b = 0 .. trips + L - 1, all at once or not at all,

    the reads of trip b, if b < trips,    and    the writes of trip b - L, if b >= L.

Parameters that are loaded at run time come from one more process. Of each frame it writes, kernel after kernel, a word that
says whether any follow, and those; a kernel reads the word with trip 0, and what follows before. It cannot take part in a
deadlock, however deep its FIFOs are. What it waits for is room: that a kernel has read a word of an earlier frame, or one
of this frame before trip 0, for which that kernel waits for the dealing process alone, at a word that comes before this one.
So nothing leads from it to a trip of the same frame, and no cycle (`broadaxe.schedule.deadlock`) goes through it. It is
left out of the network but for its period and for the depths of its FIFOs (`broadaxe.schedule.timing.dealing`).

Which L a tool gives a kernel is known when it has scheduled it. Until then `holds` is an assumed upper bound, and what is
said of FIFOs has to be true for every L from 0 to that bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from broadaxe.errors import RequestError
from broadaxe.hardware import Trace
from broadaxe.ir import Graph, Lanes
from broadaxe.schedule.dataflow import DEALER, Dataflow

EDGE_STAGES = 4
"""Pipeline stages of a lane changer, a copier or an end of an AXI port, at most (assumed)."""


DEAL_CYCLES = 4
"""Of the dealing process for a kernel in a frame that loads nothing: a word, and a loop of no trips (assumed)."""


@dataclass(frozen=True, eq=False)
class Process:
    """One call of the dataflow top level.

    Attributes:
        reads: FIFOs, in the order of `trace.reads`; none for a process that reads an AXI port.
        writes: FIFOs, all written in the trips `trace.writes`; none for a process that writes an AXI port.
        holds: L, results that its pipeline holds back at most.
    """

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    trace: Trace
    holds: int

    @property
    def period(self) -> int:
        """Cycles from one frame's start to the next, at best."""
        return self.trace.trips + self.holds

    def reads_of(self, fifo: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The trip that reads each word of a FIFO."""
        trips: np.ndarray[tuple[int], np.dtype[np.int64]] = self.trace.reads[self.reads.index(fifo)]
        return trips


@dataclass(frozen=True)
class Fifo:
    """A stream between two processes; `words` pass in a frame, each of `bits` bits."""

    name: str
    writer: str
    reader: str
    words: int
    bits: int
    branches: bool
    """Whether its writer is a copier: one of two ways from there."""


@dataclass(frozen=True, eq=False)
class Network:
    """Processes in the order of data, and the FIFOs between them, by name.

    `dealt` are the FIFOs of parameters and their kernels, in the order in which these are served.
    """

    processes: tuple[Process, ...]
    fifos: Mapping[str, Fifo]
    dealt: tuple[tuple[str, str], ...] = ()

    @cached_property
    def named(self) -> Mapping[str, Process]:
        return {process.name: process for process in self.processes}

    @property
    def slowest(self) -> Process:
        """The process that sets the network's initiation interval."""
        return max(*self.processes, self.dealer, key=lambda process: process.period)

    @property
    def dealer(self) -> Process:
        """The process that deals parameters out, without its FIFOs: its period in frames that load nothing."""
        words, nothing = len(self.dealt), np.zeros(0, dtype=np.int64)
        return Process(DEALER, (), (), Trace(words, (), nothing), (DEAL_CYCLES - 1) * words)

    @property
    def interval(self) -> int:
        """Cycles from one frame to the next, all FIFOs deep enough: the longest loop and its pipeline's fill."""
        return self.slowest.period


def network_of(
    graph: Graph, lanes: Mapping[str, Lanes], flow: Dataflow, holds: Mapping[str, int] | None = None
) -> Network:
    """The network of a dataflow top level.

    Args:
        holds: pipeline depths that a tool has reported, by process, instead of the assumed ones.
    """
    known = holds or {}
    kernels = {node.name for node in graph.nodes if node.op.hardware}
    for name in known:  # changes of lanes and copies come and go with the folding, kernels do not
        if name not in kernels and not name.startswith(("s_", "read ", "write ")):
            raise RequestError(f"latencies: there is no kernel {name!r}; kernels are {', '.join(sorted(kernels))}")
    processes: list[Process] = []
    for call in flow.calls:
        name, reads, writes = call["process"], call["reads"], call["writes"]
        if call["what"] == "node":
            node = graph.node(name)
            context = (graph.inputs_of(node), graph.values[node.output], lanes[name])
            trace, assumed = node.op.trace(*context), node.op.stages(*context)
        else:
            trace, assumed = _edge(call), EDGE_STAGES
        processes.append(Process(name, tuple(reads), tuple(writes), trace, known.get(name, assumed)))
    writers = {fifo: p for p in processes for fifo in p.writes}
    readers = {fifo: p for p in processes for fifo in p.reads}
    fifos = {
        s.name: Fifo(
            s.name,
            writers[s.name].name,
            readers[s.name].name,
            len(writers[s.name].trace.writes),
            s.lanes * graph.values[s.type.removesuffix("_t")].dtype.width,
            len(writers[s.name].writes) > 1,
        )
        for s in flow.streams
    }
    return Network(tuple(processes), fifos, tuple((p.name, p.node) for p in flow.parameters))


def _edge(call: Mapping[str, Any]) -> Trace:
    """Trips of a process that is no kernel of the graph."""
    count: int = call["count"]
    if call["what"] != "lanes":
        words = np.arange(count, dtype=np.int64)
        return Trace(count, (words,) * len(call["reads"]), words)
    read, written = call["read"], call["written"]
    trips = np.arange(count // min(read, written), dtype=np.int64)
    if read > written:
        return Trace(len(trips), (trips[:: read // written],), trips)
    parts = written // read
    return Trace(len(trips), (trips,), trips[parts - 1 :: parts])
