"""C simulation with g++: the generated sources, compiled against real ap_int headers (exact) or our native twin (fast)."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np

from broadaxe.emit import Dataflow, Port, Stream
from broadaxe.errors import MissingToolError, RequestError, VerificationError
from broadaxe.ir import Graph, IntArray, carrier
from broadaxe.resources import ap_types

FLAGS = ("-std=c++11", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Wno-unused-label")
MESSAGE_BYTES = 512


class Mode(str, Enum):
    """How the sources are compiled: `native` with built-in integers that wrap, `exact` with vendor ap_int headers."""

    NATIVE = "native"
    EXACT = "exact"


def compiler() -> str:
    """The C++ compiler: $CXX or g++."""
    name = os.environ.get("CXX", "g++")
    if shutil.which(name) is None:
        raise MissingToolError(f"{name}: not found on PATH; install g++ (Debian: apt-get install g++) or set CXX")
    return name


def mode_flags(build: Path, mode: Mode) -> list[str]:
    """Compiler flags of a mode. Our stand-ins for hls_stream.h and ap_axi_sdata.h come before the ap_int headers."""
    flags = [f"-I{build / 'firmware'}", f"-I{build / 'tb'}"]
    if mode is Mode.NATIVE:  # -O3 unrolls the lanes, three times as fast as -O2
        return ["-O3", *flags, "-DBROADAXE_NATIVE", f"-I{build / 'tb' / 'sim' / 'native'}", f"-I{build / 'tb' / 'sim'}"]
    headers = ap_types()
    if headers is None:
        named = os.environ.get("BROADAXE_AP_TYPES")
        if named:
            raise MissingToolError(
                f"BROADAXE_AP_TYPES: {named} holds no ap_int.h; set it to a folder that does, or unset it and pip install"
                " hls4ml==1.3.0"
            )
        raise MissingToolError(
            "ap_int headers: not found, so there is no exact C simulation; pip install hls4ml==1.3.0, or set"
            " BROADAXE_AP_TYPES to a folder with ap_int.h"
        )
    quiet = ["-Wno-maybe-uninitialized", "-Wno-uninitialized"]  # the vendor's headers set these off from -O1 on
    return ["-O2", *quiet, *flags, f"-I{build / 'tb' / 'sim'}", f"-isystem{headers}"]


def compile_sources(build: Path, mode: Mode, sources: Sequence[str], name: str, flags: Sequence[str] = ()) -> Path:
    """Compile sources of a build folder into BUILD/sim, once per content.

    Returns the program or library; VerificationError carries g++'s first complaint.
    """
    command = [compiler(), *FLAGS, *flags, *mode_flags(build, mode)]
    key = hashlib.sha256("\0".join([*command, *sources]).encode())
    for path in sorted([*(build / "firmware").rglob("*"), *(build / "tb").rglob("*")]):
        if path.suffix in (".hpp", ".cpp", ".h"):
            key.update(path.read_bytes())
    target = build / "sim" / f"{name}-{mode.value}-{key.hexdigest()[:16]}"
    if target.is_file():
        return target
    target.parent.mkdir(exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}.partial")
    paths = [str(build / source) for source in sources]
    try:
        done = subprocess.run([*command, *paths, "-o", str(partial)], capture_output=True, text=True, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or ["?"]
            raise VerificationError(
                f"{command[0]}: {name} ({mode.value}) does not compile, {errors[0].strip()}; compile the model again, or set"
                " CXX to another g++"
            )
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def run_program(program: Path, *arguments: str) -> tuple[int, str]:
    """Run a compiled testbench; returns its exit status and output."""
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@dataclass(frozen=True, eq=False)
class Simulator:
    """The design as a shared library; integers in stream order in and out."""

    graph: Graph
    flow: Dataflow
    library: ctypes.CDLL
    mode: Mode
    traced: bool
    parameters: IntArray | None = None

    @classmethod
    def of(
        cls,
        build: Path,
        top: str,
        graph: Graph,
        flow: Dataflow,
        mode: Mode,
        traced: bool = False,
        parameters: IntArray | None = None,
    ) -> Simulator:
        """Compile (or reuse) the library of a build folder.

        Args:
            traced: keep what every stream carries.
            parameters: of a design that loads them; the first frame of every run does.
        """
        flags = [
            "-shared",
            "-fPIC",
            "-fno-gnu-unique",
            "-fvisibility=hidden",
            *(["-DBROADAXE_TRACE"] if traced else []),
        ]
        sources = ["tb/library.cpp", f"firmware/{top}.cpp"]
        path = compile_sources(build, mode, sources, "traced" if traced else "library", flags)
        library = ctypes.CDLL(str(path.resolve()))
        library.broadaxe_run.restype = ctypes.c_int
        library.broadaxe_run_bytes.restype = ctypes.c_int
        if traced:
            library.broadaxe_trace_size.restype = ctypes.c_int64
        return cls(graph, flow, library, mode, traced, parameters)

    def run(self, inputs: Mapping[str, IntArray]) -> dict[str, IntArray]:
        """Outputs of the design, by graph value, shape (batch, *shape)."""
        feeds = [np.ascontiguousarray(inputs[p.value].reshape(-1, p.size), dtype=np.int64) for p in self.flow.inputs]
        frames = len(feeds[0])
        results = [np.zeros((frames, p.size), dtype=np.int64) for p in self.flow.outputs]
        message = ctypes.create_string_buffer(MESSAGE_BYTES)
        if self.parameters is not None:
            words = np.ascontiguousarray(self.parameters, dtype=np.uint64)
            self.library.broadaxe_load(ctypes.c_void_p(words.ctypes.data), ctypes.c_int64(words.size))
        status = self.library.broadaxe_run(
            ctypes.c_int(frames), _pointers(feeds), _pointers(results), message, ctypes.c_int(MESSAGE_BYTES)
        )
        if status:
            raise _abandoned(self.mode, message.value)
        return {p.value: self._shaped(p, r) for p, r in zip(self.flow.outputs, results, strict=True)}

    def run_bytes(self, frames: int, beats: Mapping[str, bytes]) -> dict[str, bytes]:
        """What the output ports send for what the input ports get, by port: the data bytes of every beat, in order."""
        given = []
        for port in self.flow.inputs:
            size = frames * port.beats * port.bits // 8
            if len(beats[port.name]) != size:
                raise RequestError(f"{port.name}: got {len(beats[port.name])} bytes for {frames} frames; give {size}")
            given.append(np.frombuffer(beats[port.name], dtype=np.uint8))
        results = [np.zeros(frames * port.beats * port.bits // 8, dtype=np.uint8) for port in self.flow.outputs]
        message = ctypes.create_string_buffer(MESSAGE_BYTES)
        status = self.library.broadaxe_run_bytes(
            ctypes.c_int(frames), _pointers(given), _pointers(results), message, ctypes.c_int(MESSAGE_BYTES)
        )
        if status:
            raise _abandoned(self.mode, message.value)
        return {port.name: result.tobytes() for port, result in zip(self.flow.outputs, results, strict=True)}

    def _shaped(self, port: Port, flat: IntArray) -> IntArray:
        return flat.reshape(len(flat), *port.shape).astype(carrier(self.graph.values[port.value].dtype))

    def trace(self, inputs: Mapping[str, IntArray]) -> dict[str, IntArray]:
        """Every value that a stream carries, by graph value, shape (batch, *shape)."""
        if not self.traced:
            raise RequestError("simulator: built without tracing; build it with traced=True")
        self.library.broadaxe_trace_clear()
        self.run(inputs)
        frames = len(next(iter(inputs.values())))
        return {
            name: self._history(stream, name).reshape(frames, *self.graph.values[name].shape)
            for name, stream in self.flow.sources.items()
        }

    def _history(self, stream: Stream, value: str) -> IntArray:
        name = stream.name.encode()
        words = np.zeros(int(self.library.broadaxe_trace_size(name)), dtype=np.int64)
        self.library.broadaxe_trace_read(name, words.ctypes.data_as(ctypes.c_void_p))
        dtype = self.graph.values[value].dtype
        if self.mode is Mode.EXACT:
            words = _lanes(words, stream.lanes, dtype.width, dtype.signed)
        return words.astype(carrier(dtype))


def _abandoned(mode: Mode, reason: bytes) -> VerificationError:
    """What the library says of a run that it gave up: kernels that do not agree on how many words a stream carries."""
    text = reason.decode(errors="replace").replace("; ", ", ")
    return VerificationError(f"C simulation ({mode.value}): {text}; compile again, and report it if it fails again")


def _pointers(arrays: Sequence[IntArray]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))


def _lanes(limbs: IntArray, lanes: int, width: int, signed: bool) -> IntArray:
    """Cut packed words, each ceil(lanes * width / 64) limbs from bit 0, into lanes."""
    per_word = -(-lanes * width // 64)
    words = limbs.view(np.uint64).reshape(-1, per_word)
    words = np.concatenate([words, np.zeros((len(words), 1), dtype=np.uint64)], axis=1)
    out = np.empty((len(words), lanes), dtype=np.int64)
    mask = np.uint64((1 << width) - 1)
    for lane in range(lanes):
        limb, bit = divmod(lane * width, 64)
        value = words[:, limb] >> np.uint64(bit)
        if bit + width > 64:
            value = value | (words[:, limb + 1] << np.uint64(64 - bit))
        value = value & mask
        unsigned = value.astype(np.int64)
        out[:, lane] = unsigned - ((unsigned >> (width - 1)) << width) if signed else unsigned
    return out.reshape(-1)
