"""Simulation: g++, ap_int headers, the C simulation, and the dataflow with FIFOs of stated depths."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

from small_builds import compiled, copied
from test_bounded import BLOCK, SKIP

import broadaxe
from broadaxe import csim
from broadaxe.bounded import BoundedSimulator, process_names, reporting_trips, with_processes
from broadaxe.csim import Mode, Simulator, compile_sources, compiler, mode_flags
from broadaxe.errors import MissingToolError, RequestError, VerificationError
from broadaxe.rehearsal import rehearse

from . import provokes

COVERS = ("bounded.py", "csim.py", "rehearsal.py")


def flags_without_optimising(*given: object) -> list[str]:
    return [flag for flag in mode_flags(*given) if not flag.startswith("-O")]


# What is missing


@provokes("g++: not found on PATH; install g++ (Debian: apt-get install g++) or set CXX", MissingToolError)
def no_compiler(tmp: Path) -> None:
    with mock.patch.dict(os.environ, PATH=str(tmp)):
        os.environ.pop("CXX", None)
        compiler()


@provokes("g++-99: not found on PATH; install g++ (Debian: apt-get install g++) or set CXX", MissingToolError)
def wrong_compiler(tmp: Path) -> None:
    with mock.patch.dict(os.environ, CXX="g++-99"):
        compiler()


@provokes(
    "ap_int headers: not found, so there is no exact C simulation; pip install hls4ml==1.3.0, or set"
    " BROADAXE_AP_TYPES to a folder with ap_int.h",
    MissingToolError,
)
def no_headers(tmp: Path) -> None:
    with mock.patch.dict(os.environ), mock.patch("importlib.util.find_spec", return_value=None):
        os.environ.pop("BROADAXE_AP_TYPES", None)
        mode_flags(tmp, Mode.EXACT)


@provokes(
    "BROADAXE_AP_TYPES: {tmp} holds no ap_int.h; set it to a folder that does, or unset it and pip install"
    " hls4ml==1.3.0",
    MissingToolError,
)
def folder_without_headers(tmp: Path) -> None:
    with mock.patch.dict(os.environ, BROADAXE_AP_TYPES=str(tmp)):
        mode_flags(tmp, Mode.EXACT)


# C simulation


@provokes(
    'g++: library (native) does not compile, {tmp}/firmware/net_top.cpp:1:2: error: #error "edited"; compile the'
    " model again, or set CXX to another g++",
    VerificationError,
)
def sources_that_do_not_compile(tmp: Path) -> None:
    (tmp / "firmware").mkdir()
    (tmp / "firmware" / "net_top.cpp").write_text('#error "edited"\n')
    compile_sources(tmp, Mode.NATIVE, ["firmware/net_top.cpp"], "library")


_folder = tempfile.TemporaryDirectory(prefix="broadaxe-")


@functools.cache
def starved() -> Simulator:
    """A design that reads more words than a frame has."""
    made = compiled("requantizer")
    place = Path(shutil.copytree(made.path, Path(_folder.name) / "starved"))
    source = place / "firmware" / "net_top.cpp"
    text = source.read_text()
    assert "design::input0_t, 4, 1>" in text
    source.write_text(text.replace("design::input0_t, 4, 1>", "design::input0_t, 4, 2>"))
    with mock.patch.object(csim, "mode_flags", flags_without_optimising):
        return Simulator.of(place, made.top, made.graph, made.flow, Mode.NATIVE)


@provokes(
    "C simulation (native): stream in0: read while empty, its producer wrote too few words; compile again, and report"
    " it if it fails again",
    VerificationError,
)
def kernel_that_reads_too_much(tmp: Path) -> None:
    simulator = starved()
    simulator.run(broadaxe.build.random_codes(simulator.graph, 1))


@provokes(
    "C simulation (native): stream in0: read while empty, its producer wrote too few words; compile again, and report"
    " it if it fails again",
    VerificationError,
)
def beats_for_a_kernel_that_reads_too_much(tmp: Path) -> None:
    starved().run_bytes(1, {"in0": bytes(2)})


@provokes("in0: got 3 bytes for 2 frames; give 4", RequestError)
def beats_of_another_size(tmp: Path) -> None:
    starved().run_bytes(2, {"in0": bytes(3)})


@provokes("simulator: built without tracing; build it with traced=True", RequestError)
def trace_without_tracing(tmp: Path) -> None:
    starved().trace({})


# Bounded streams


def played(script: str) -> BoundedSimulator:
    """The program of a bounded simulation played by a shell script; $3 is where it leaves trips."""
    return BoundedSimulator(("/bin/sh", "-c", script), Path("vectors.dat"), BLOCK.flow)


@provokes(
    "bounded simulation: n0: has no loop, or leaves it early; compile again, and report it if it fails again",
    VerificationError,
)
def bounded_run_that_fails(tmp: Path) -> None:
    played("echo 'n0: has no loop, or leaves it early'; exit 2").run()


@provokes(
    "bounded simulation: ended with status 137; compile again, and report it if it fails again", VerificationError
)
def bounded_run_that_is_killed(tmp: Path) -> None:
    played("exit 137").run()


@provokes(
    "bounded simulation: deadlock: n1 waits for a word of s_n0; have each kernel read as many words as are written",
    VerificationError,
)
def kernel_that_waits_alone(tmp: Path) -> None:
    played(r"printf 'blocked\tn1\tempty\ts_n0\n'; : > $3; exit 1").traces()


@provokes("s_x0_to_n0: writes its outputs in different trips; a copy has to write both at once", VerificationError)
def copies_in_different_trips(tmp: Path) -> None:
    split = next(call for call in BLOCK.flow.calls if len(call["writes"]) > 1)
    lines = [f"trips\\t{name}\\t1\\n" for name in process_names(BLOCK.flow)]
    lines += [f"writes\\t{split['process']}\\t{split['writes'][0]}\\t1\\n", "frames\\t1\\t0\\n"]
    lines += [f"beats\\twrite {p.name}\\t0\\t0\\t0\\n" for p in BLOCK.flow.outputs]
    played(f"printf '{''.join(lines)}'; head -c 8 /dev/zero > $3").traces()


@provokes(
    "depths: there is no stream 'a'; streams are s_x0, s_x0_to_n0, s_x0_after_n0, s_n0, s_n1, s_n2, s_n3", RequestError
)
def depth_of_no_stream(tmp: Path) -> None:
    played("exit 1").run({"a": 1})


@provokes("depths: s_x0_after_n0: is 0; give one word or more", RequestError)
def stream_of_no_words(tmp: Path) -> None:
    played("exit 1").run({SKIP: 0})


@provokes(
    "holdback: there is no process 'b'; processes are read in0, s_x0_to_n0, n0, n1, n2, n3, write out0", RequestError
)
def holdback_of_no_process(tmp: Path) -> None:
    played("exit 1").run({}, {"b": 1})


@provokes("holdback: n1: is -1; give 0 beats or more", RequestError)
def negative_holdback(tmp: Path) -> None:
    played("exit 1").run({}, {"n1": -1})


@provokes("load: the design's weights are fixed; compile it with weights: runtime", RequestError)
def load_into_fixed_weights(tmp: Path) -> None:
    played("exit 1").run(load=0)


@provokes(
    "firmware/own.hpp: a pipelined loop cannot be followed; write it as for (int t = 0; t < TRIPS; t++) { with"
    " #pragma HLS PIPELINE II=1 below",
    VerificationError,
)
def loop_of_another_form(tmp: Path) -> None:
    reporting_trips("while (true) {\n#pragma HLS PIPELINE II=1\n}\n", "firmware/own.hpp")


@provokes("firmware/net_top.cpp: its dataflow body makes 1 of 2 calls; compile again", VerificationError)
def dataflow_of_another_design(tmp: Path) -> None:
    with_processes("#pragma HLS DATAFLOW\n  design::quant0(a, b);\n}\n", ["n0", "n1"], "firmware/net_top.cpp")


# Rehearsal


@provokes("depth: there is no FIFO 's_conv9'; `broadaxe dataflow {tmp}/build` lists them", RequestError)
def depth_of_no_fifo(tmp: Path) -> None:
    rehearse(broadaxe.load(copied(tmp)), changed={"s_conv9": 4})


@provokes("depth: s_input0: is 0; give one word or more", RequestError)
def fifo_of_no_words(tmp: Path) -> None:
    rehearse(compiled(), changed={next(iter(compiled().plan.network.fifos)): 0})


@provokes("frames: is 0; send one at least", RequestError)
def no_frames(tmp: Path) -> None:
    rehearse(compiled(), frames=0)
