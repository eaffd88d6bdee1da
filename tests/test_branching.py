"""Random branching networks with bounded streams: what the schedule says of them against the C++ itself."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from branching import Drawn, drawn, simulators
from deadlocks import deadlocking

from broadaxe.bounded import BoundedSimulator

NETWORKS = 300
BATCH = 20


def assert_traces(made: Drawn, simulator: BoundedSimulator) -> None:
    recorded = simulator.traces()
    for process in made.plan.network.processes:
        got, own = recorded[process.name], process.trace
        assert got.trips == own.trips, process.name
        np.testing.assert_array_equal(got.writes, own.writes, err_msg=process.name)
        for fifo, trips in zip(
            process.reads, got.reads, strict=False
        ):  # an end of a port has a trace, but no stream there
            np.testing.assert_array_equal(trips, process.reads_of(fifo), err_msg=f"{process.name} {fifo}")


def check(seed: int, made: Drawn, simulator: BoundedSimulator) -> Counter[str]:
    """Depths hold whatever is held back up to the assumed bound, the planned ones at full rate; counts of one word less."""
    network, least = made.plan.network, dict(made.plan.least)
    assert_traces(made, simulator)
    rng = np.random.default_rng([seed, 3])
    most = {process.name: process.holds for process in network.processes}
    anything = {name: int(rng.integers(held + 1)) for name, held in most.items()}
    either = {name: held * int(rng.integers(2)) for name, held in most.items()}
    for holdback in ({}, most, anything, either):
        done = simulator.run(least, holdback, frames=2)
        assert done.exact, f"network {seed}, least depths: {done}"
    full = simulator.run({}, most, frames=6)
    assert full.exact, f"network {seed}, planned depths: {full}"
    schedule = made.plan.schedule
    assert (full.ends < schedule.latency + np.arange(6) * schedule.interval).all(), seed

    found: Counter[str] = Counter(networks=1, processes=len(network.processes))
    for name, depth in least.items():
        if depth == 1:
            continue
        less = {**least, name: depth - 1}
        witness = deadlocking(network, less, name)
        if witness is None:  # no deadlock: the least depth is a word or more too large
            found["spare"] += 1
        else:
            found["tight"] += 1
            stuck = simulator.run(less, witness)
            assert not stuck.completed, f"network {seed}: {name} of {depth - 1} words does not lock up"
            assert any(blocked == (name, "full") for blocked in ((b.stream, b.why) for b in stuck.blocked)), (
                seed,
                name,
            )
    return found


def check_all(seeds: range, folder: Path) -> Counter[str]:
    made = [drawn(seed) for seed in seeds]
    together = simulators(made, folder)
    return sum(map(check, seeds, made, together), Counter())


def test_a_dozen_networks(tmp_path: Path) -> None:
    found = check_all(range(12), tmp_path)
    assert found["networks"] == 12
    assert found["tight"] >= 20


@pytest.mark.slow
def test_three_hundred_networks(tmp_path: Path) -> None:
    found: Counter[str] = Counter()
    for start in range(0, NETWORKS, BATCH):
        found += check_all(range(start, start + BATCH), tmp_path / str(start))
    print(dict(found))
    assert found["networks"] == NETWORKS
    assert found["spare"] == 0
