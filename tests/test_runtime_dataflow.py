"""The dataflow of designs whose weights are loaded: proven depths, and parameters that come while frames are under way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_runtime_weights import cnn, mlp

import broadaxe
from broadaxe import Build
from broadaxe.bounded import BoundedSimulator, compile_bounded
from broadaxe.errors import RequestError
from broadaxe.rehearsal import rehearse
from broadaxe.reports.model import report_of
from broadaxe.schedule.network import DEAL_CYCLES

pytestmark = pytest.mark.usefixtures("unoptimised")
Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="module")
def build(once: Once) -> Build:
    """A residual sum, tiles, grouped and depthwise layers: every kernel that loads parameters."""
    return broadaxe.load(
        once("runtime_cnn", lambda p: broadaxe.compile(cnn(), p, weights="runtime", accumulators={"*": 14}))
    )


@pytest.fixture(scope="module")
def simulator(build: Build) -> BoundedSimulator:
    return compile_bounded(build)


@pytest.mark.parametrize("depths", ["declared", "least"])
def test_frames_pass_and_are_not_later_than_promised(build: Build, depths: str) -> None:
    done = rehearse(build, frames=4, depths=depths)  # type: ignore[arg-type]
    assert done.passed, str(done)
    assert len(done.promised) == (4 if depths == "declared" else 0)


def test_a_word_less_locks_up(build: Build) -> None:
    """The proof leaves the dealing process out; it holds with that process there."""
    branches = [name for name, fifo in build.plan.network.fifos.items() if fifo.branches and build.plan.least[name] > 1]
    assert branches
    for name in branches:
        done = rehearse(build, depths="least", changed={name: build.plan.least[name] - 1})
        assert done.blocked, name
        assert not any(b.process == "deal" or b.stream.startswith("p_") for b in done.circle)


@pytest.mark.parametrize("load", [0, 1, 3])
@pytest.mark.parametrize("holds", [0, 1])
def test_parameters_change_between_two_frames_in_flight(
    build: Build, simulator: BoundedSimulator, load: int, holds: int
) -> None:
    """Whatever is under way, in the least depths and with one word for each FIFO of parameters."""
    network = build.plan.network
    held = {p.name: holds * p.holds for p in network.processes}
    depths = {**build.plan.least, **dict.fromkeys(build.plan.dealt, 1)}
    run = simulator.run(depths, held, frames=5, load=load)
    assert run.exact, str(run)
    words = sum(p.words for p in build.flow.parameters)
    assert run.beats["deal"][load].tolist()[1] - run.beats["deal"][load].tolist()[0] >= words
    plain = simulator.run(depths, held, frames=5)
    assert plain.exact
    assert int(run.ends[-1]) > int(plain.ends[-1])


def test_weights_that_come_a_frame_early_or_late_are_noticed(build: Build, simulator: BoundedSimulator) -> None:
    """The expected outputs do change with the frame that loads: what makes the test above one."""
    text = simulator.vectors.read_text().splitlines()
    frames = int(text[0])
    first = int(text[1 + frames * (len(build.flow.inputs) + len(build.flow.outputs))])
    assert 0 < first < frames
    wrong = BoundedSimulator(simulator.command, simulator.vectors.parent / "shifted.dat", simulator.flow)
    shifted = [line if at != 1 + frames * 2 else str(first - 1) for at, line in enumerate(text)]
    wrong.vectors.write_text("\n".join([*shifted, ""]))
    try:
        assert wrong.run(frames=frames, load=first - 1).mismatches > 0
    finally:
        wrong.vectors.unlink()


def test_trips_are_those_of_the_model(build: Build, simulator: BoundedSimulator) -> None:
    traces = simulator.traces()
    assert set(traces) == {p.name for p in build.plan.network.processes}
    for process in build.plan.network.processes:
        found = traces[process.name]
        assert found.trips == process.trace.trips
        np.testing.assert_array_equal(found.writes, process.trace.writes)
        reads = found.reads if process.reads else ()  # ports are no FIFOs of the network
        for mine, own in zip(reads, process.trace.reads, strict=True):
            np.testing.assert_array_equal(mine, own)


def test_what_deals_is_in_the_report_and_in_its_sum(build: Build) -> None:
    report = report_of(build)
    names = [p.name for p in build.flow.parameters]
    dealer = next(k for k in report.kernels if k.name == "deal")
    assert (dealer.kind, dealer.trips, dealer.trips + dealer.fill) == ("deal", len(names), DEAL_CYCLES * len(names))
    fifos = {f.name: f for f in report.fifos}
    for parameters in build.flow.parameters:
        row = fifos[parameters.name]
        assert (row.writer, row.reader, row.bits, row.least) == ("deal", parameters.node, 64, 1)
        assert 1 <= row.depth == parameters.depth <= len(build.flow.calls)
    latency, interval = build.plan.schedule.latency, build.plan.schedule.interval
    assert max(build.plan.dealt.values()) <= 1 + -(-latency // interval)


def test_a_small_network_waits_for_what_deals(tmp_path: Path) -> None:
    """Three kernels take parameters; a frame takes twelve cycles at least."""
    build = broadaxe.compile(mlp(), tmp_path / "mlp", weights="runtime", accumulators={"*": 11})
    assert len(build.plan.network.dealt) == 3
    assert build.plan.schedule.interval >= 3 * DEAL_CYCLES
    assert build.decided.ii == build.plan.schedule.interval


def test_fixed_designs_load_nothing(once: Once) -> None:
    fixed = broadaxe.load(once("fixed_mlp", lambda p: broadaxe.compile(mlp(), p)))
    with pytest.raises(RequestError) as refused:
        compile_bounded(fixed).run(load=0)
    assert str(refused.value) == "load: the design's weights are fixed; compile it with weights: runtime"
