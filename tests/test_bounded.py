"""The bounded simulation against a slow one of its own definition; operators' traces and planned depths against it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from branching import Draft, Drawn, planned, shared_headers, sources
from test_ops_contract import EXAMPLES, graph_of, samples

from broadaxe import emit
from broadaxe.bounded import Blocked, BoundedSimulator, reporting_trips, with_processes
from broadaxe.csim import run_program
from broadaxe.errors import RequestError, VerificationError
from broadaxe.hardware import Trace
from broadaxe.ir import Example, Fold, Graph, Lanes, Value, infer
from broadaxe.ops.mac import Accumulating
from broadaxe.ops.matvec import MatVec
from broadaxe.ops.scaled_add import ScaledAdd
from broadaxe.ops.window import SlidingWindow
from broadaxe.parameters import parameters_of
from broadaxe.reference import run
from broadaxe.schedule.dataflow import dataflow
from broadaxe.schedule.folding import cycles_of, lanes_of
from broadaxe.types import IntType

NEVER = np.zeros(0, dtype=np.int64)


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


# A residual block: x + conv(x)


def residual_block() -> Drawn:
    """Three rows of words have to be in before the convolution gives its first; the skip has to hold what comes meanwhile."""
    draft = Draft(np.random.default_rng(3))
    x = draft.input((10, 3, 2))
    taps = draft.add(SlidingWindow((3, 3), (1, 1), (1, 1, 1, 1)), x)
    conv = draft.codes(draft.add(MatVec.of(draft.weights(2, 18)), taps))
    out = draft.add(ScaledAdd(), x, conv)
    graph = Graph("block", ("x0",), tuple(draft.nodes), (out.name,), draft.values)
    return planned(graph, lanes_of(graph, {"n1": Fold(2, 2)}))


BLOCK = residual_block()
SKIP = "s_x0_after_n0"


@pytest.fixture
def block(once: Callable[[str, Callable[[Path], None]], Path], unoptimised: None) -> BoundedSimulator:
    def make(folder: Path) -> None:
        write_files(folder, sources(BLOCK, "block_top") | shared_headers())
        BoundedSimulator.of(folder, "block_top", BLOCK.flow)

    return BoundedSimulator.of(once("bounded_block", make), "block_top", BLOCK.flow)


def least_skip(block: BoundedSimulator, holdback: Mapping[str, int]) -> int:
    return next(depth for depth in range(1, 100) if block.run({SKIP: depth}, holdback).completed)


def test_a_frame_deep_skip_completes_and_equals_the_reference(block: BoundedSimulator) -> None:
    done = block.run({stream.name: 40 for stream in BLOCK.flow.streams}, frames=5)
    assert done.exact
    assert done.blocked == ()
    assert set(done.fill.values()) == {0}
    assert str(done) == f"5 frames in {done.ends[-1] + 1} cycles, 0 mismatches"


def test_a_short_skip_deadlocks_and_says_who_waits_for_what(block: BoundedSimulator) -> None:
    stuck = block.run(dict.fromkeys((s.name for s in BLOCK.flow.streams), 1))
    assert not stuck.completed
    assert not stuck.exact
    waits = {blocked.process: blocked for blocked in stuck.blocked}
    assert waits["s_x0_to_n0"] == Blocked("s_x0_to_n0", "full", SKIP)
    assert str(waits["s_x0_to_n0"]) == f"s_x0_to_n0 waits for room in {SKIP}"
    assert str(waits["n3"]) == "n3 waits for a word of s_n2"
    assert stuck.fill[SKIP] == 1
    assert str(stuck) == "deadlock: " + "; ".join(map(str, stuck.blocked))
    assert len(stuck.beats["write out0"]) == 0


def test_results_held_back_need_a_deeper_skip(block: BoundedSimulator) -> None:
    depths = [least_skip(block, {"n0": held}) for held in (0, 4, 40)]
    assert depths == [11, 12, 14]
    needed = depths[0]
    assert not block.run({SKIP: needed - 1}).completed
    assert block.run({SKIP: needed}).exact


def test_a_wrong_output_is_counted(block: BoundedSimulator, tmp_path: Path) -> None:
    lines = block.vectors.read_text().splitlines()
    values = lines[-1].split()
    values[7] = str(int(values[7]) + 1)
    wrong = tmp_path / "vectors.dat"
    wrong.write_text("\n".join([*lines[:-1], " ".join(values), ""]))
    done = BoundedSimulator(block.command, wrong, block.flow).run(frames=4)  # of two that are stored
    assert done.completed
    assert not done.exact
    assert done.mismatches == 2


def test_exit_statuses(block: BoundedSimulator, tmp_path: Path) -> None:
    settings = tmp_path / "settings"
    program, vectors = Path(block.command[0]), str(block.vectors)
    for text, status in ((f"fifo\t{SKIP}\t1\n", 1), ("process\tn1\t2\n", 0), ("fifo s 3\n", 2), ("fifo\ts\t-1\n", 2)):
        settings.write_text(text)
        assert run_program(program, vectors, str(settings), "1")[0] == status, text
    assert run_program(program, vectors, str(settings)) == (2, "usage: bounded VECTORS SETTINGS FRAMES [TRIPS]\n")
    assert run_program(program, "nothing", str(settings), "1") == (2, "nothing: cannot be read; name the vectors\n")


def test_requests_that_name_nothing_are_refused(block: BoundedSimulator) -> None:
    streams, processes = (
        ", ".join(s.name for s in BLOCK.flow.streams),
        ", ".join(c["process"] for c in BLOCK.flow.calls),
    )
    with pytest.raises(RequestError, match=re.escape(f"depths: there is no stream 'a'; streams are {streams}")):
        block.run({"a": 1})
    with pytest.raises(RequestError, match=re.escape(f"holdback: there is no process 'b'; processes are {processes}")):
        block.run({}, {"b": 1})
    with pytest.raises(RequestError, match=f"depths: {SKIP}: is 0; give one word or more"):
        block.run({SKIP: 0})
    with pytest.raises(RequestError, match="holdback: n1: is -1; give 0 beats or more"):
        block.run({}, {"n1": -1})


# Cycles, by the definition and nothing else: every process is looked at in every cycle


def polled(
    flow: emit.Dataflow, traces: Mapping[str, Trace], depths: Mapping[str, int], held: Mapping[str, int], frames: int
) -> dict[str, list[tuple[int, int]]]:
    """First and last cycle of every frame of every process; a run that stops ends early."""
    fill = {stream.name: 0 for stream in flow.streams}
    at = {call["process"]: (0, 0) for call in flow.calls}  # frame and beat to be done
    beats: dict[str, list[tuple[int, int]]] = {name: [] for name in at}
    cycle = 0
    while True:
        firing = []
        for call in flow.calls:
            name, trace = call["process"], traces[call["process"]]
            frame, beat = at[name]
            if frame == frames:
                continue
            lag = held.get(name, 0)
            takes = Counter(
                {s: int((trips == beat).sum()) for s, trips in zip(call["reads"], trace.reads, strict=False)}
            )
            puts = Counter({s: int((trace.writes == beat - lag).sum()) for s in call["writes"]})
            if all(fill[s] >= n for s, n in takes.items()) and all(
                not n or fill[s] + n <= depths[s] for s, n in puts.items()
            ):
                firing.append((name, takes, puts, beat == trace.trips + lag - 1))
        if not firing:
            return beats
        for name, takes, puts, last in firing:
            for s, n in takes.items():
                fill[s] -= n
            for s, n in puts.items():
                fill[s] += n
            frame, beat = at[name]
            if beat == 0:
                beats[name].append((cycle, cycle))
            beats[name][-1] = (beats[name][-1][0], cycle)
            at[name] = (frame + 1, 0) if last else (frame, beat + 1)
        cycle += 1


@pytest.mark.parametrize("skip", [100, 17, 1])
@pytest.mark.parametrize(
    "held", [{}, {"n0": 3, "n1": 7, "s_x0_to_n0": 2, "n3": 1, "write out0": 4}], ids=["no", "held"]
)
def test_cycles_are_those_of_the_definition(block: BoundedSimulator, skip: int, held: dict[str, int]) -> None:
    depths = {stream.name: 1 + i % 3 for i, stream in enumerate(BLOCK.flow.streams)} | {SKIP: skip}
    expected = polled(BLOCK.flow, block.traces(), depths, held, 3)
    got = block.run(depths, held, frames=3)
    assert {name: [tuple(row) for row in cycles.tolist()] for name, cycles in got.beats.items()} == expected
    assert not got.completed or skip > 1


# What is put into the sources


def test_only_the_one_loop_of_a_kernel_is_followed() -> None:
    text = "  for (int t = 0; t < A * B<C, D>::value; t++) {\n#pragma HLS PIPELINE II=1\n    work(t);\n  }\n"
    followed = "  for (int t = 0; BROADAXE_ANOTHER(t, t < A * B<C, D>::value); t++) {\n#pragma HLS PIPELINE II=1\n"
    assert reporting_trips(text, "k.hpp") == f"{followed}    work(t);\n  }}\n"
    with pytest.raises(
        VerificationError, match=r"^k.hpp: a pipelined loop cannot be followed; write it as for \(int t = 0;"
    ):
        reporting_trips(text.replace("t++", "t += 2"), "k.hpp")
    with pytest.raises(VerificationError, match="its dataflow body makes 0 of 1 calls; compile again"):
        with_processes("#pragma HLS DATAFLOW\n  hls::stream<int> a(3);\n}\n", ["a"], "top.cpp")


def sum_of_two() -> Drawn:
    draft = Draft(np.random.default_rng(3))
    out = draft.add(ScaledAdd(), draft.input((4, 1)), draft.input((4, 1)))
    graph = Graph("two", ("x0", "x1"), tuple(draft.nodes), (out.name,), draft.values)
    return planned(graph, lanes_of(graph, {}))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("words:\n", "words: for (int again = 0; again < 2; again++)\n", "n0: its loop runs more than once"),
        ("II=1\n", "II=1\n    if (t == 3) return;\n", "n0: has no loop, or leaves it early"),
        ("  }\n}\n\n}", "  }\n  in_a.read();\n}\n\n}", "n0: uses s_x0 outside its loop"),
    ],
    ids=["twice", "early", "behind"],
)
def test_a_kernel_that_is_not_one_loop_is_found(
    before: str, after: str, message: str, tmp_path: Path, unoptimised: None
) -> None:
    two = sum_of_two()
    files = sources(two, "two_top") | shared_headers()
    kernel = files["firmware/broadaxe/add.hpp"]
    assert before in kernel
    write_files(tmp_path, files | {"firmware/broadaxe/add.hpp": kernel.replace(before, after)})
    with pytest.raises(
        VerificationError, match=f"^bounded simulation: {message}; compile again, and report it if it fails again$"
    ):
        BoundedSimulator.of(tmp_path, "two_top", two.flow).run()


# Traces of operators


def lanes_choices(example: Example) -> list[Lanes]:
    """Every number of lanes that the kernel of an example can have."""
    if isinstance(example.op, Accumulating):
        return list(dict.fromkeys(example.op.lanes(fold) for fold in example.op.foldings()))
    out = infer("y", example.op, example.inputs)
    return list(example.op.variants(example.inputs, out))


def assert_traces(cases: list[tuple[Example, Lanes]], folder: Path) -> None:
    """Recorded trips are those that the operator says, in design with a kernel for each case."""
    graph = graph_of([example for example, _ in cases])
    lanes = {f"y{i}": chosen for i, (_, chosen) in enumerate(cases)}
    flow = dataflow(graph, lanes)
    feeds = {name: x[:2] for name, x in samples(graph).items()}
    files = emit.firmware(graph, flow, lanes, "traces_top", {"sideband": 0, "control": "s_axilite"})
    files |= emit.testbench(graph, flow, lanes, "traces_top", feeds, run(graph, feeds)) | shared_headers()
    loaded = parameters_of(graph, lanes)  # which no frame loads here
    files["tb/vectors.dat"] += emit.loading_vectors(len(next(iter(feeds.values()))), loaded)
    write_files(folder, files)
    simulator = BoundedSimulator.of(folder, "traces_top", flow)
    recorded, cycles = simulator.traces(), cycles_of(graph, lanes)
    for i, (example, chosen) in enumerate(cases):
        own = example.op.trace(graph.inputs_of(graph.nodes[i]), graph.values[f"y{i}"], chosen)
        got, label = recorded[f"y{i}"], f"{example.op.kind}: {example.label}, {chosen}"
        assert got.trips == own.trips == cycles[f"y{i}"], label
        np.testing.assert_array_equal(got.writes, own.writes, err_msg=label)
        assert len(got.reads) == len(own.reads), label
        for a, b in zip(got.reads, own.reads, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=label)
    assert simulator.run({stream.name: None for stream in flow.streams}).exact


KERNELS = [example for _, example in EXAMPLES if example.op.hardware]


def test_windows_of_several_taps_know_their_trips(tmp_path: Path, unoptimised: None) -> None:
    """Patches of more words than a frame has columns, and first patches that wait for nothing but the padding."""
    cases = []
    for shape, kernel, pads in (((1, 1, 2), (3, 2), (3, 1, 3, 1)), ((2, 3, 2), (3, 2), (2, 1, 0, 1))):
        kind = IntType(4, signed=False)
        window = SlidingWindow(kernel, pads=pads, pad_codes=(0,))
        x = Value("x", shape, kind, (kind.range,) * shape[-1])
        example = Example(f"{shape} by {kernel}", window, (x,))
        choices = window.variants((x,), infer("y", window, (x,)))
        cases += [(example, lanes) for lanes in choices if lanes.written > lanes.read]
    assert len(cases) > 3
    assert_traces(cases, tmp_path)


def test_operators_know_their_trips(tmp_path: Path, unoptimised: None) -> None:
    """Every example with one choice of lanes."""
    rng = np.random.default_rng(1)
    picked = [(example, lanes_choices(example)) for example in KERNELS]
    assert_traces([(example, choices[int(rng.integers(len(choices)))]) for example, choices in picked], tmp_path)


@pytest.mark.slow
def test_operators_know_their_trips_with_any_lanes(tmp_path: Path, unoptimised: None) -> None:
    assert_traces([(example, chosen) for example in KERNELS for chosen in lanes_choices(example)], tmp_path)
