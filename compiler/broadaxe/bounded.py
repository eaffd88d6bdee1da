"""The generated C++ with bounded streams: each process of the dataflow runs by itself and waits for words and for room.

What judges models of the dataflow, because it is made of the sources alone: copies of them in which the condition of every
pipelined loop reports its trips, and each call of the dataflow body is a process. A process is a rigid pipeline that holds
back its writes by a stated number of beats; `hw/sim/bounded/hls_stream.h` says exactly what that means. A deadlock is
found exactly, cycles are counted, and outputs are compared with the reference's.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from broadaxe.build import Build
from broadaxe.csim import Mode, compile_sources, run_program
from broadaxe.emit import Dataflow
from broadaxe.errors import RequestError, VerificationError
from broadaxe.hardware import Trace
from broadaxe.ir import IntArray
from broadaxe.schedule.dataflow import DEALER

LOOP = re.compile(r"for \(int (\w+) = 0; ([^;]+); \1\+\+\) \{(?=\n *#pragma HLS PIPELINE II=1\n)")
PIPELINED = re.compile(r"^ *#pragma HLS PIPELINE\b", re.MULTILINE)
LOADING = "firmware/broadaxe/parameters.hpp"
"""Its loops come before a kernel's own, see `hw/sim/bounded/hls_stream.h`."""
CALL = re.compile(r"^  ((?!hls::stream<)[\w:]+(?:<.*>)?\(.*\));$", re.MULTILINE)


@dataclass(frozen=True)
class Blocked:
    """A process that cannot go on, and why: a stream it reads is empty, or one that it writes is full."""

    process: str
    why: Literal["empty", "full"]
    stream: str

    def __str__(self) -> str:
        return f"{self.process} waits for {'a word of' if self.why == 'empty' else 'room in'} {self.stream}"


@dataclass(frozen=True, eq=False)
class BoundedRun:
    """What came of a run.

    Attributes:
        frames: that were sent.
        completed: whether all of them came out; else `blocked` says who waits for what.
        mismatches: output elements that are not the reference's, over all frames; 0 where it did not complete.
        fill: words in each stream when the run ended.
        beats: per process the cycles of its first and last beat of each frame it began, shape (frames, 2). Cycle 0 is the
            first in which a word may be read.
    """

    frames: int
    completed: bool
    mismatches: int
    blocked: tuple[Blocked, ...]
    fill: Mapping[str, int]
    beats: Mapping[str, IntArray]

    @property
    def exact(self) -> bool:
        """Whether every frame came out and equals the reference."""
        return self.completed and self.mismatches == 0

    @property
    def ends(self) -> IntArray:
        """The cycle of the last beat on any output, of each frame, shape (frames,)."""
        outputs = [cycles[:, 1] for name, cycles in self.beats.items() if name.startswith("write ")]
        return np.asarray(np.max(outputs, axis=0))

    def __str__(self) -> str:
        if self.completed:
            return f"{self.frames} frames in {int(self.ends[-1]) + 1} cycles, {self.mismatches} mismatches"
        return f"deadlock: {'; '.join(map(str, self.blocked))}"


def process_names(flow: Dataflow) -> list[str]:
    """A name for each call of the dataflow body: a kernel's node, `read in0`, `write out0`, else its first output stream.

    What deals parameters out comes first.
    """
    return [*([DEALER] if flow.parameters else []), *(str(call["process"]) for call in flow.calls)]


@dataclass(frozen=True, eq=False)
class BoundedSimulator:
    """The design as a program whose streams are bounded as a run says.

    Attributes:
        command: the program, and what it takes before all else.
        vectors: inputs and expected outputs, as tb/vectors.dat has them.
    """

    command: tuple[str, ...]
    vectors: Path
    flow: Dataflow

    @classmethod
    def of(cls, folder: Path, top: str, flow: Dataflow) -> BoundedSimulator:
        """Compile (or reuse) the program of a build folder, in its `sim/`.

        Raises:
            VerificationError: a kernel is not one loop of the form that this understands, or g++ refuses a source.
        """
        copies = folder / "sim" / "bounded"
        files = {
            path.relative_to(folder).as_posix(): path.read_text()
            for path in sorted([*(folder / "firmware").rglob("*"), *(folder / "tb").rglob("*")])
            if path.suffix in (".hpp", ".cpp", ".h")
        }
        _write(copies, instrumented(files, top, flow))
        flags = [f"-I{copies / 'tb' / 'sim' / 'bounded'}"]
        sources = ["tb/bounded.cpp", f"firmware/{top}.cpp"]
        program = compile_sources(copies, Mode.NATIVE, sources, "bounded", flags)
        return cls((str(program),), folder / "tb" / "vectors.dat", flow)

    def run(
        self,
        depths: Mapping[str, int | None] | None = None,
        holdback: Mapping[str, int] | None = None,
        frames: int = 2,
        load: int | None = None,
    ) -> BoundedRun:
        """Send frames through, back to back, as fast as there is room; outputs always leave.

        Args:
            depths: words that each stream holds, at least 1; None for any number. A stream that is not named has the depth
                that its pragma says.
            holdback: beats by which each process' writes come later; 0 where it is not named.
            frames: of tb/vectors.dat, in turn.
            load: the frame that loads parameters, those of tb/vectors.dat, where the design has any to load.
        """
        return self._run(depths or {}, holdback or {}, frames, load=load)[0]

    def traces(self) -> dict[str, Trace]:
        """In which trips each process reads and writes during a frame, as its C++ does; inputs as its call has them."""
        unbounded: dict[str, int | None] = {s.name: None for s in self.flow.streams}
        unbounded |= {p.name: None for p in self.flow.parameters}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "trips"
            run, lines = self._run(unbounded, {}, 1, file)
            values = np.fromfile(file, dtype=np.int64)
        if not run.completed:
            raise VerificationError(f"bounded simulation: {run}; have each kernel read as many words as are written")
        trips: dict[str, int] = {}
        parts: dict[tuple[str, str], IntArray] = {}
        at = 0
        for what, process, *rest in lines:
            if what == "trips":
                trips[process] = int(rest[0])
            elif what in ("reads", "writes"):
                parts[process, rest[0]] = values[at : at + int(rest[1])]
                at += int(rest[1])
        found = {}
        for call in self.flow.calls:
            name = call["process"]
            read, written = _ends(call)
            nothing = np.zeros(0, dtype=np.int64)
            reads, writes = ([parts.get((name, s), nothing) for s in streams] for streams in (read, written))
            if any(not np.array_equal(w, writes[0]) for w in writes):
                raise VerificationError(
                    f"{name}: writes its outputs in different trips; a copy has to write both at once"
                )
            found[name] = Trace(trips[name], tuple(reads), writes[0])
        return found

    def _run(
        self,
        depths: Mapping[str, int | None],
        holdback: Mapping[str, int],
        frames: int,
        trips: Path | None = None,
        load: int | None = None,
    ) -> tuple[BoundedRun, list[list[str]]]:
        with tempfile.TemporaryDirectory() as folder:
            settings = Path(folder) / "settings"
            lines_given = [*self._settings(depths, holdback), *self._loading(load)]
            settings.write_text("".join(f"{line}\n" for line in lines_given))
            extra = [] if trips is None else [str(trips)]
            status, text = run_program(
                Path(self.command[0]), *self.command[1:], str(self.vectors), str(settings), str(frames), *extra
            )
        lines = [line.split("\t") for line in text.splitlines()]
        kinds = {line[0] for line in lines}
        if status not in (0, 1) or not kinds & {"frames", "blocked"}:
            why = (text.strip().splitlines() or [f"ended with status {status}"])[-1].replace("; ", ", ")
            raise VerificationError(f"bounded simulation: {why}; compile again, and report it if it fails again")
        beats: dict[str, list[tuple[int, int]]] = {name: [] for name in process_names(self.flow)}
        blocked: list[Blocked] = []
        fill = {stream.name: 0 for stream in self.flow.streams}
        mismatches = 0
        for line in lines:
            match line:
                case ["blocked", process, ("empty" | "full") as why, stream]:
                    blocked.append(Blocked(process, why, stream))
                case ["fill", stream, words, _] if stream in fill:  # ports are none of ours
                    fill[stream] = int(words)
                case ["beats", process, _, first, last]:
                    beats[process].append((int(first), int(last)))
                case ["frames", _, count]:
                    mismatches = int(count)
        cycles = {name: np.array(rows, dtype=np.int64).reshape(-1, 2) for name, rows in beats.items()}
        return BoundedRun(frames, not blocked, mismatches, tuple(blocked), fill, cycles), lines

    def _settings(self, depths: Mapping[str, int | None], holdback: Mapping[str, int]) -> Iterator[str]:
        """Lines of the program's settings: every stream that has a bound, every process that holds back."""
        known: dict[str, int | None] = {s.name: s.depth for s in self.flow.streams}
        known |= {p.name: p.depth for p in self.flow.parameters}
        for name in depths:
            if name not in known:
                raise RequestError(f"depths: there is no stream {name!r}; streams are {', '.join(known)}")
        processes = process_names(self.flow)
        for name in holdback:
            if name not in processes:
                raise RequestError(f"holdback: there is no process {name!r}; processes are {', '.join(processes)}")
        for name, depth in (known | dict(depths)).items():
            if depth is not None and depth < 1:
                raise RequestError(f"depths: {name}: is {depth}; give one word or more")
            if depth is not None:
                yield f"fifo\t{name}\t{depth}"
        for name, beats in holdback.items():
            if beats < 0:
                raise RequestError(f"holdback: {name}: is {beats}; give 0 beats or more")
            yield f"process\t{name}\t{beats}"

    def _loading(self, load: int | None) -> Iterator[str]:
        """Lines that name the streams of parameters, and the frame that loads."""
        if load is not None and not self.flow.parameters:
            raise RequestError("load: the design's weights are fixed; compile it with weights: runtime")
        if self.flow.parameters:
            yield "outside\tparameters\t1"
        for parameters in self.flow.parameters:
            yield f"outside\t{parameters.name}\t1"
        if load is not None:
            yield f"loads\tparameters\t{load}"


def compile_bounded(build: Build) -> BoundedSimulator:
    """The bounded simulation of a build, compiled once per content."""
    return BoundedSimulator.of(build.path, build.top, build.flow)


def _ends(call: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Streams that a call reads and writes; at the design's edges the port."""
    port = [call["port"].name] if "port" in call else []
    return call["reads"] or port, call["writes"] or port


def instrumented(files: Mapping[str, str], top: str, flow: Dataflow) -> dict[str, str]:
    """Sources of a design by path, its own with hooks: trips are reported, and calls of the top level are processes."""
    names = process_names(flow)
    kernels = {name for name in files if name.startswith("firmware/") and name != LOADING}
    changed = {name: reporting_trips(text, name) if name in kernels else text for name, text in files.items()}
    main = f"firmware/{top}.cpp"
    return changed | {main: with_processes(changed[main], names, main)}


def reporting_trips(text: str, where: str) -> str:
    """A kernel's source whose pipelined loops report every trip, by way of their condition."""
    changed, count = LOOP.subn(r"for (int \1 = 0; BROADAXE_ANOTHER(\1, \2); \1++) {", text)
    if count != len(PIPELINED.findall(text)):
        raise VerificationError(
            f"{where}: a pipelined loop cannot be followed; write it as for (int t = 0; t < TRIPS; t++) {{ with"
            " #pragma HLS PIPELINE II=1 below"
        )
    return changed


def with_processes(text: str, names: list[str], where: str) -> str:
    """The top level with a process for each call of its dataflow body; they run before the streams are gone."""
    head, _, body = text.partition("#pragma HLS DATAFLOW\n")
    calls = CALL.findall(body)
    if len(calls) != len(names):
        raise VerificationError(f"{where}: its dataflow body makes {len(calls)} of {len(names)} calls; compile again")
    numbered = enumerate(names)
    body = CALL.sub(lambda found: '  BROADAXE_PROCESS(process{}, "{}", {});'.format(*next(numbered), found[1]), body)
    body = body.replace("design::deal(parameters, load,", "design::deal(parameters, BROADAXE_LOADS(),")
    body, end, _ = body.rpartition("}")
    return f"{head}#pragma HLS DATAFLOW\n{body}  BROADAXE_RUN_PROCESSES();\n{end}\n"


def _write(folder: Path, files: Mapping[str, str]) -> None:
    """Write files that differ, each at once; remove what an earlier design left."""
    for path in [*(folder / "firmware").rglob("*"), *(folder / "tb").rglob("*")]:
        if path.is_file() and path.relative_to(folder).as_posix() not in files:
            path.unlink()
    for name, text in files.items():
        place = folder / name
        if place.is_file() and place.read_text() == text:
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
        partial.write_text(text)
        partial.replace(place)
