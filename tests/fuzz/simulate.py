"""C simulation of many designs: one translation unit holds a batch of them, so that g++ reads the headers once."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from broadaxe import csim
from broadaxe.build import Build
from broadaxe.csim import Mode, Simulator
from broadaxe.reference import run

from .check import CheckError, extremes, stage

SYMBOLS = ("run", "trace_size", "trace_read", "trace_clear")
STANDARD = ("algorithm", "cstdint", "cstdio", "cstring", "deque", "exception", "map", "stdexcept", "string", "vector")
FRAMES = 4


def simulators(builds: Sequence[Build], folder: Path) -> list[Simulator]:
    """Native simulators of designs, traced, from one library in `folder`.

    Each design stands in a namespace of its own and exports its functions under a number of its own.
    """
    first = builds[0].path
    headers = sorted((first / "firmware" / "broadaxe").glob("*.hpp"))
    unit = [f"#include <{name}>" for name in STANDARD]
    unit += [
        f'#include "{first / "tb" / "sim" / name}"' for name in ("native/ap_int.h", "hls_stream.h", "ap_axi_sdata.h")
    ]
    unit += [f'#include "{path}"' for path in headers]
    for i, build in enumerate(builds):
        place = folder / f"design{i}"
        for path in (*(build.path / "firmware").glob("*"), *(build.path / "tb").glob("*")):
            if path.suffix in (".hpp", ".cpp"):
                copy = place / path.relative_to(build.path)
                copy.parent.mkdir(parents=True, exist_ok=True)
                # the first line keeps equal files of two designs apart, which #pragma once would take for one
                copy.write_text(f"// {i}\n{path.read_text()}")
        unit += [f"#define broadaxe_{name} broadaxe_{name}_{i}" for name in SYMBOLS]
        unit += [
            f"namespace design{i} {{",
            f'#include "design{i}/tb/library.cpp"',
            f'#include "design{i}/firmware/{build.top}.cpp"',
            "}",
        ]
        unit += [f"#undef broadaxe_{name}" for name in SYMBOLS]
    source, target = folder / "batch.cpp", folder / "batch.so"
    source.write_text("\n".join([*unit, ""]))
    includes = [first / "firmware", first / "tb" / "sim" / "native", first / "tb" / "sim", folder]
    flags = ["-shared", "-fPIC", "-fno-gnu-unique", "-O0", "-w", "-std=c++11", "-DBROADAXE_NATIVE", "-DBROADAXE_TRACE"]
    command = [csim.compiler(), *flags, *(f"-I{path}" for path in includes), str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line] or ["?"]
        raise CheckError("g++", errors[0])
    library = ctypes.CDLL(str(target))
    made = []
    for i, build in enumerate(builds):
        own = SimpleNamespace(**{f"broadaxe_{name}": library[f"broadaxe_{name}_{i}"] for name in SYMBOLS})
        own.broadaxe_trace_size.restype = ctypes.c_int64
        made.append(Simulator(build.graph, build.flow, own, Mode.NATIVE, True))
    return made


def compare(build: Build, simulator: Simulator) -> None:
    """Every value that a stream carries, simulated and by the reference."""
    inputs = extremes(build.graph, FRAMES)
    expected = run(build.graph, inputs, every_value=True) | inputs
    with stage(f"C simulation ({simulator.mode.value})"):
        traced = simulator.trace(inputs)
    for name, x in traced.items():
        if not np.array_equal(x, expected[name]):
            where = tuple(int(i) for i in np.argwhere(x != expected[name])[0])
            raise CheckError(
                f"C simulation ({simulator.mode.value})",
                f"{name}{where}: reference {expected[name][where]}, simulated {x[where]}",
            )


def simulate_exactly(build: Build) -> None:
    """The design against the vendor's ap_int headers, unoptimised."""
    flags = [f for f in csim.mode_flags(build.path, Mode.EXACT) if not f.startswith("-O")]
    before = csim.mode_flags
    csim.mode_flags = lambda *given: flags
    try:
        with stage("C simulation (exact)"):
            simulator = Simulator.of(build.path, build.top, build.graph, build.flow, Mode.EXACT, traced=True)
    finally:
        csim.mode_flags = before
    compare(build, simulator)
