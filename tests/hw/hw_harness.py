"""Compile the kernel headers with g++ in their two simulation builds and call them on numpy arrays."""

import ctypes
import hashlib
import importlib.util
import subprocess
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
HW = HERE.parents[1] / "hw"
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-label", "-Wno-unknown-pragmas"]


def _ap_types() -> Path | None:
    spec = importlib.util.find_spec("hls4ml")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "templates" / "vivado" / "ap_types"
    return folder if (folder / "ap_int.h").is_file() else None


AP_TYPES = _ap_types()

# hw/sim stands before ap_types, whose hls_stream.h must lose; -isystem because that code is not ours to mend.
BUILDS = {
    "native": ["-DBROADAXE_NATIVE", f"-I{HW / 'sim' / 'native'}", f"-I{HW / 'sim'}", f"-I{HW}", f"-I{HERE}"],
    "exact": [f"-I{HW / 'sim'}", f"-I{HW}", f"-I{HERE}", "-isystem", str(AP_TYPES)],
}


def missing(build: str) -> str:
    """Why this build cannot run here, or nothing."""
    if build == "exact" and AP_TYPES is None:
        return (
            "exact build: no hls4ml/templates/vivado/ap_types here; pip install hls4ml==1.3.0 brings the ap_int headers"
        )
    return ""


def flags(build: str) -> list[str]:
    return ["-std=c++11", *BUILDS[build]]


def run_gpp(arguments: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(["g++", *arguments], capture_output=True, text=True, check=False)


_POOL = ThreadPoolExecutor(2)
_FOLDER = tempfile.TemporaryDirectory(prefix="broadaxe_hw_")
_LIBRARIES: dict[tuple, Future] = {}


# Undefined behaviour is reported on stderr, where conftest.py looks: overflow and bounds above all. g++ defines shifts
# of negative integers; the pointer checks cost half the compile time and there are no pointers.
SANITIZE = {"native": ["-fsanitize=undefined", "-fno-sanitize=shift,vptr,null,alignment,object-size"], "exact": []}


def compile_library(source: str, build: str, extra: tuple[str, ...] = ()) -> Future:
    """Start compiling a shared library (once per source, build and flags); the future holds its path."""
    key = (hashlib.sha256(source.encode()).hexdigest()[:16], build, extra)
    if key not in _LIBRARIES:
        _LIBRARIES[key] = _POOL.submit(_compile, source, build, extra, "_".join([key[0], build, str(len(_LIBRARIES))]))
    return _LIBRARIES[key]


def _compile(source: str, build: str, extra: tuple[str, ...], stem: str) -> Path:
    cpp, library = (Path(_FOLDER.name) / f"{stem}{end}" for end in (".cpp", ".so"))
    cpp.write_text(source)
    options = [*flags(build), *WARNINGS, *SANITIZE[build], "-O0", "-fPIC", "-shared", "-fno-gnu-unique", *extra]
    done = run_gpp([*options, str(cpp), "-o", str(library)])
    assert done.returncode == 0, done.stderr[-4000:]
    return library


@dataclass(frozen=True)
class Case:
    """One kernel instance: tables and a call between stream `in` and stream `out`, its input and expected output."""

    name: str
    tables: str
    call: str
    lanes_in: int
    type_in: str
    lanes_out: int
    type_out: str
    inputs: np.ndarray
    expected: np.ndarray

    def source(self) -> str:
        return (
            f"namespace tables_{self.name} {{\n{self.tables}\n}}\n"
            f'extern "C" int64_t {self.name}(const int64_t* x, int64_t n, int64_t* y) {{\n'
            f"  using namespace tables_{self.name};\n"
            f"  return run<{self.lanes_in}, {self.type_in}, {self.lanes_out}, {self.type_out}>(x, n, y,\n"
            f"      [](Words<{self.lanes_in}, {self.type_in}>& in, Words<{self.lanes_out}, {self.type_out}>& out) {{\n"
            f"    {self.call}\n  }});\n}}\n"
        )


def program(cases: list[Case]) -> str:
    return '#include "driver.hpp"\n' + "\n".join(case.source() for case in cases)


def call(library: Path, case: Case) -> np.ndarray:
    """Run a case; what came out, or RuntimeError with the simulation's message. No input may be left over."""
    lib = ctypes.CDLL(str(library))
    function = getattr(lib, case.name)
    function.restype = ctypes.c_int64
    lib.message.restype = ctypes.c_char_p
    x = np.ascontiguousarray(case.inputs, dtype=np.int64)
    y = np.zeros(case.expected.size + 4096, dtype=np.int64)
    count = function(x.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(x.size), y.ctypes.data_as(ctypes.c_void_p))
    if count < 0:
        raise RuntimeError(lib.message().decode())
    return y[:count]


def table(ctype: str, name: str, values: np.ndarray) -> str:
    """A namespace-scope constant array of built-in integers."""
    suffix = "ULL" if ctype == "unsigned long long" else "LL" if ctype == "long long" else ""

    def text(part) -> str:
        return "{" + ", ".join(map(text, part)) + "}" if isinstance(part, np.ndarray) else f"{int(part)}{suffix}"

    dims = "".join(f"[{n}]" for n in values.shape)
    return f"const {ctype} {name}{dims} = {text(values)};"


def by_lane(per_channel: np.ndarray, lanes: int) -> np.ndarray:
    """(C, ...) to [LANES][C/LANES]...: the layout of every per-channel table."""
    return np.swapaxes(per_channel.reshape(-1, lanes, *per_channel.shape[1:]), 0, 1)


def ap(width: int, signed: bool) -> str:
    return f"ap_int<{width}>" if signed else f"ap_uint<{width}>"


def limits(width: int, signed: bool) -> tuple[int, int]:
    return (-(1 << (width - 1)), (1 << (width - 1)) - 1) if signed else (0, (1 << width) - 1)


def wrap(values: np.ndarray, width: int, signed: bool = True) -> np.ndarray:
    """Two's-complement wrap to `width` bits."""
    low, _ = limits(width, signed)
    return (values - low) % (1 << width) + low


def random_integers(rng: np.random.Generator, width: int, signed: bool, shape) -> np.ndarray:
    """Uniform, with both ends of the range always among the values of a larger draw."""
    low, high = limits(width, signed)
    values = rng.integers(low, high, size=shape, endpoint=True)
    if values.size > 2:
        values.flat[0], values.flat[-1] = low, high
    return values


def pe_widths(rng: np.random.Generator, acc: int, pe: int) -> np.ndarray:
    """A width for each PE, the widest that of the type."""
    widths = rng.integers(max(1, acc - 3), acc, size=pe, endpoint=True)
    widths[rng.integers(pe)] = acc
    return widths


def wrap_rows(totals: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Channels (last axis) at the width of the PE that computes them."""
    columns = [wrap(totals[..., c], int(widths[c % len(widths)])) for c in range(totals.shape[-1])]
    return np.stack(columns, axis=-1).astype(np.int64)
