"""FIFO depths and schedules against a simulation of rigid pipelines that goes cycle by cycle and knows nothing of either."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from broadaxe.hardware import Trace
from broadaxe.schedule.deadlock import least_depths, locks_up
from broadaxe.schedule.fifos import plan
from broadaxe.schedule.network import Fifo, Network, Process
from broadaxe.schedule.timing import occupancy, schedule


def run(
    network: Network, depths: Mapping[str, int], holds: Mapping[str, int], frames: int = 1
) -> tuple[list[int], dict[str, int]]:
    """The cycle of the last beat of each frame that came out of every process, and the most words each FIFO held."""
    words = dict.fromkeys(network.fifos, 0)
    most = dict(words)
    beat = {p.name: 0 for p in network.processes}
    frame = dict(beat)
    ends: dict[str, list[int]] = {p.name: [] for p in network.processes}
    read_in = {p.name: [set(trips.tolist()) for trips in p.trace.reads] for p in network.processes}
    written_in = {p.name: set(p.trace.writes.tolist()) for p in network.processes}
    cycle = 0
    while min(frame.values()) < frames:
        pops: list[str] = []
        pushes: list[str] = []
        fired = False
        for p in network.processes:
            if frame[p.name] == frames:
                continue
            b, held = beat[p.name], holds[p.name]
            reads = [f for f, trips in zip(p.reads, read_in[p.name], strict=True) if b in trips]
            writes = p.writes if b - held in written_in[p.name] else ()
            if any(words[f] == 0 for f in reads) or any(words[f] >= depths[f] for f in writes):
                continue
            fired = True
            pops += reads
            pushes += writes
            beat[p.name] += 1
            if beat[p.name] == p.trace.trips + held:
                beat[p.name] = 0
                frame[p.name] += 1
                ends[p.name].append(cycle)
        if not fired:
            return [], most
        for f in pushes:
            words[f] += 1
            most[f] = max(most[f], words[f])
        for f in pops:
            words[f] -= 1
        cycle += 1
    return [max(e[i] for e in ends.values()) for i in range(frames)], most


class Drawn:
    """A random network: chains of processes with random trips, copiers and joins."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.processes: list[Process] = []
        self.open: list[tuple[str, int]] = []  # FIFOs without a reader, and their words

    def words(self, low: int = 2, high: int = 7) -> int:
        return int(self.rng.integers(low, high))

    def trips(self, count: int, words: int) -> np.ndarray:
        return np.sort(self.rng.choice(count, words, replace=False)).astype(np.int64)

    def add(self, sources: Sequence[tuple[str, int]], outputs: int) -> None:
        """A process whose n-th word waits, in a later trip or the same, for some of its inputs."""
        words, name = self.words(), f"p{len(self.processes)}"
        if outputs == 2:
            words = sources[0][1]
        count = max([words, *(n for _, n in sources)]) + (0 if outputs == 2 else int(self.rng.integers(0, 4)))
        reads = tuple(self.trips(count, n) for _, n in sources)
        fifos = tuple(f"{name}_{i}" for i in range(outputs))
        trace = Trace(count, reads, self.trips(count, words))
        self.processes.append(Process(name, tuple(f for f, _ in sources), fifos, trace, int(self.rng.integers(0, 3))))
        self.open += [(fifo, words) for fifo in fifos]

    def take(self) -> tuple[str, int]:
        return self.open.pop(int(self.rng.integers(len(self.open))))

    def network(self, branches: int) -> Network:
        self.add([], 1)
        for _ in range(branches):
            for _ in range(int(self.rng.integers(0, 2))):
                self.add([self.take()], 1)
            self.add([self.take()], 2)
        while len(self.open) > 1:
            if self.rng.random() < 0.4:
                self.add([self.take()], 1)
            else:
                self.add([self.take(), self.take()], 1)
        self.add([self.take()], 1)
        last = self.processes[-1]
        self.processes[-1] = replace(last, writes=())
        writer = {f: p for p in self.processes for f in p.writes}
        reader = {f: p for p in self.processes for f in p.reads}
        fifos = {
            f: Fifo(f, p.name, reader[f].name, len(p.trace.writes), 8, len(p.writes) > 1) for f, p in writer.items()
        }
        return Network(tuple(self.processes), fifos)


def networks(count: int, branches: int = 2) -> Iterator[Network]:
    for seed in range(count):
        yield Drawn(seed).network(1 + seed % branches)


def every_holdback(network: Network) -> Iterator[dict[str, int]]:
    for chosen in product(*(range(p.holds + 1) for p in network.processes)):
        yield dict(zip(network.named, chosen, strict=True))


def test_depths_lock_up_exactly_if_some_number_of_held_results_does() -> None:
    """Random depths, every holdback up to the bounds: no deadlock is missed, and none is claimed that cannot happen."""
    rng = np.random.default_rng(1)
    seen = {True: 0, False: 0}
    for network in networks(120):
        if np.prod([p.holds + 1 for p in network.processes]) > 300:
            continue
        depths = {name: int(rng.integers(1, fifo.words + 1)) for name, fifo in network.fifos.items()}
        stuck = any(not run(network, depths, holds)[0] for holds in every_holdback(network))
        found = locks_up(network, depths)
        assert (found is not None) == stuck
        assert found is None or not run(network, depths, found)[0]
        seen[stuck] += 1
    assert min(seen.values()) > 5, seen


def test_least_depths_are_least() -> None:
    tight = 0
    for network in networks(150, branches=3):
        least = least_depths(network)
        assert not locks_up(network, least)
        held = {p.name: p.holds for p in network.processes}
        for holds in (held, dict.fromkeys(held, 0)):
            assert run(network, least, holds, frames=2)[0]
        for name in least:
            shallower = {**least, name: least[name] - 1}
            found = locks_up(network, shallower)
            assert found
            assert not run(network, shallower, found)[0]
            tight += least[name] > 1
    assert tight > 30


def test_schedules_run_at_full_rate_in_their_depths() -> None:
    for network in networks(150, branches=3):
        planned = plan(network)
        held = {p.name: p.holds for p in network.processes}
        ends, most = run(network, planned.depths, held, frames=5)
        assert ends
        assert all(end < planned.schedule.latency + i * network.interval for i, end in enumerate(ends))
        assert all(most[name] <= planned.depths[name] for name in most)


def test_pipelines_that_hold_back_less_keep_up_too() -> None:
    """Results that a shallower pipeline does not hold back are in its FIFOs instead."""
    rng = np.random.default_rng(4)
    for network in networks(150, branches=3):
        processes = tuple(replace(p, holds=p.holds * 4) for p in network.processes)
        deep = Network(processes, network.fifos)
        planned = plan(deep)
        for _ in range(4):
            holds = {p.name: int(rng.choice([0, p.holds, rng.integers(p.holds + 1)])) for p in processes}
            ends, most = run(deep, planned.depths, holds, frames=5)
            assert ends
            assert all(end < planned.schedule.latency + i * deep.interval for i, end in enumerate(ends))
            assert all(most[name] <= planned.depths[name] for name in most)


def test_a_longer_interval_is_a_schedule_too() -> None:
    for network in networks(40, branches=3):
        found = schedule(network, 2 * network.interval)
        assert found.interval == 2 * network.interval
        depths = {name: max(2, depth, least_depths(network)[name]) for name, depth in found.depths.items()}
        ends, _ = run(network, depths, {p.name: p.holds for p in network.processes}, frames=4)
        assert all(ends[i] <= found.latency - 1 + i * found.interval for i in range(4))


@pytest.mark.parametrize("seed", range(20))
def test_occupancy_counts_words(seed: int) -> None:
    rng = np.random.default_rng(seed)
    period, words = 12, int(rng.integers(1, 8))
    written = np.sort(rng.choice(period, words, replace=False)) + int(rng.integers(0, 30))
    read = np.sort(rng.choice(period, words, replace=False))
    read += int((written - read).max()) + int(rng.integers(1, 40))
    times = [(w + f * period, r + f * period) for f in range(12) for w, r in zip(written, read, strict=True)]
    held = [sum(w <= t <= r for w, r in times) for t in range(6 * period, 8 * period)]
    assert occupancy(written, read, period) == max(held)
