"""A cycle of beats that wait for each other, searched one beat at a time, and the holdbacks with which it is one.

Written from the definition of rigid pipelines, apart from `broadaxe.schedule.deadlock`, whose least depths it questions: where
that says that a word less locks up, here is which processes have to hold back how much, for the C++ to show it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping

from broadaxe.schedule.network import Network

Need = tuple[str, str]
"""("put", fifo) or ("taken", fifo): that many words of it have to have been."""


def deadlocking(network: Network, depths: Mapping[str, int]) -> dict[str, int] | None:
    """Results that each process holds back, 0 or its most, so that these depths lock up; None if no cycle is found."""
    search = _Search(network, depths)
    for process in network.processes:
        if len(process.reads) > 1:
            for beat in sorted({int(trip) for trips in process.trace.reads for trip in trips}):
                found = search.cycle(process.name, beat)
                if found is not None:
                    return found
    return None


class _Search:
    def __init__(self, network: Network, depths: Mapping[str, int]) -> None:
        self.network, self.depths = network, depths
        self.writer = {f: p for p in network.processes for f in p.writes}
        self.reader = {f: p for p in network.processes for f in p.reads}
        self.reads = {f: p.reads_of(f).tolist() for f, p in self.reader.items()}
        self.writes = {p.name: p.trace.writes.tolist() for p in network.processes}

    def cycle(self, start: str, beat: int) -> dict[str, int] | None:
        """From what a beat needs to what that needs, and so on; a need of the beat itself, or of a later one, closes it."""
        words: dict[Need, int] = {}
        cause: dict[Need, tuple[Need | None, str, str]] = {}
        pending: list[Need] = []

        def need(what: Need, count: int, before: Need | None, process: str, how: str) -> None:
            if count > words.get(what, 0):
                words[what] = count
                cause[what] = (before, process, how)
                pending.append(what)

        for fifo in self.network.named[start].reads:
            need(("put", fifo), bisect_right(self.reads[fifo], beat), None, start, "side")
        while pending:
            at = pending.pop(0)
            kind, fifo = at
            count = words[at]
            process = self.writer[fifo] if kind == "put" else self.reader[fifo]
            if process.name == start:
                if kind == "taken" and self.reads[fifo][count - 1] >= beat:
                    return self._holds(at, cause)
                continue
            if kind == "put":
                last = self.writes[process.name][count - 1]
                inputs, trips, ways = last + process.holds, last, ("up", "side")
            else:
                last = self.reads[fifo][count - 1]
                inputs, trips, ways = last, last, ("side", "down")
            for other in process.reads:
                if other != fifo:
                    need(("put", other), bisect_right(self.reads[other], inputs), at, process.name, ways[0])
            for other in process.writes:
                if other != fifo:
                    room = bisect_right(self.writes[process.name], trips) - self.depths[other]
                    need(("taken", other), room, at, process.name, ways[1])
        return None

    def _holds(self, at: Need | None, cause: Mapping[Need, tuple[Need | None, str, str]]) -> dict[str, int]:
        """On the way, results are held back where words are needed from above, none where they are needed to go on."""
        ways: dict[str, str] = {}
        while at is not None:
            at, process, how = cause[at]
            ways[process] = how
        return {p.name: 0 if ways.get(p.name) == "down" else p.holds for p in self.network.processes}
