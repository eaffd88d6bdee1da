"""A cycle of beats that wait for each other, searched one beat at a time, and the holdbacks with which it is one.

Written from the definition of rigid pipelines, apart from `broadaxe.schedule.deadlock`, whose least depths it questions: where
that says that a word less locks up, here is which processes have to hold back how much, for the C++ to show it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping

from broadaxe.schedule.network import Network

Need = tuple[str, str]
"""("put", fifo) or ("taken", fifo): that many words of it have to have been."""


def deadlocking(network: Network, depths: Mapping[str, int], fifo: str) -> dict[str, int] | None:
    """Results that each process holds back, 0 or its most, so that these depths lock up with `fifo` full; None if none do.

    A search takes the worst of both for every process: its most where words are needed from above it, none where they are
    needed from it to go on. A cycle that passes a process both ways is none yet; then both of its holdbacks are tried.
    """
    search = _Search(network, depths)
    todo: list[dict[str, int]] = [{}]
    while todo:
        fixed = todo.pop()
        words = range(depths[fifo], network.fifos[fifo].words)
        ways = next((found for word in words if (found := search.cycle(fifo, word, fixed))), None)
        if ways is None:
            continue
        both = next((name for name, way in ways.items() if {"up", "down"} <= way and name not in fixed), None)
        if both is None:
            return {
                p.name: fixed.get(p.name, 0 if "down" in ways.get(p.name, ()) else p.holds) for p in network.processes
            }
        todo += [{**fixed, both: held} for held in (0, network.named[both].holds)]
    return None


class _Search:
    def __init__(self, network: Network, depths: Mapping[str, int]) -> None:
        self.network, self.depths = network, depths
        self.writer = {f: p for p in network.processes for f in p.writes}
        self.reader = {f: p for p in network.processes for f in p.reads}
        self.reads = {f: p.reads_of(f).tolist() for f, p in self.reader.items()}
        self.writes = {p.name: p.trace.writes.tolist() for p in network.processes}

    def cycle(self, full: str, word: int, fixed: Mapping[str, int]) -> dict[str, set[str]] | None:
        """From the room that a word needs to what that needs, and so on; a need of this word's beat, or a later one, closes it.

        Returns which ways the cycle passes each of its processes.
        """
        words: dict[Need, int] = {}
        cause: dict[Need, tuple[Need | None, str, str]] = {}
        pending: deque[Need] = deque()
        start = self.writer[full].name
        trip = self.writes[start][word]

        def need(what: Need, count: int, before: Need | None, process: str, how: str) -> None:
            if count > words.get(what, 0):
                words[what] = count
                cause[what] = (before, process, how)
                pending.append(what)

        need(("taken", full), word + 1 - self.depths[full], None, start, "side")
        while pending:
            at = pending.popleft()
            kind, fifo = at
            count = words[at]
            process = self.writer[fifo] if kind == "put" else self.reader[fifo]
            if process.name == start:
                if kind == "put" and self.writes[start][count - 1] >= trip:
                    return _ways(at, cause)
                if kind == "taken" and self.reads[fifo][count - 1] >= trip + fixed.get(start, 0):
                    return {**(found := _ways(at, cause)), start: found[start] | {"down"}}
                continue
            if kind == "put":
                last = self.writes[process.name][count - 1]
                inputs, trips, ways = last + fixed.get(process.name, process.holds), last, ("up", "side")
            else:
                last = self.reads[fifo][count - 1]
                inputs, trips, ways = last, last - fixed.get(process.name, 0), ("side", "down")
            for other in process.reads:
                if other != fifo:
                    need(("put", other), bisect_right(self.reads[other], inputs), at, process.name, ways[0])
            for other in process.writes:
                if other != fifo:
                    room = bisect_right(self.writes[process.name], trips) - self.depths[other]
                    need(("taken", other), room, at, process.name, ways[1])
        return None


def _ways(at: Need | None, cause: Mapping[Need, tuple[Need | None, str, str]]) -> dict[str, set[str]]:
    ways: dict[str, set[str]] = {}
    while at is not None:
        at, process, how = cause[at]
        ways.setdefault(process, set()).add(how)
    return ways
