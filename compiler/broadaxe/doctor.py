"""What is installed on this machine, and what each missing piece would give.

Imports the standard library alone, so that it answers where a required package is missing; asks packages for their versions
without importing them.
"""

from __future__ import annotations

import getpass
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeAlias

from broadaxe.resources import ap_types, folder
from broadaxe.vendor.versions import FIRST, LAST, PROGRAMS, SUPPORTED, said_version, version_of, written
from broadaxe.version import __version__

State: TypeAlias = Literal["ok", "missing", "wrong"]
SECONDS_TO_COMPILE = 60
SECONDS_TO_SAY_ITS_VERSION = 20
LEAST_GB = 1.0
"""Of free disk and memory: a network of some dozen layers, its simulation and its exact simulation."""
SAID_BY_THE_PROBE = "broadaxe -26"
PROJECT = "broadaxe"


@dataclass(frozen=True)
class Package:
    """A package that is asked for.

    Attributes:
        name: of the distribution.
        module: what Python imports.
        gives: what it is for.
    """

    name: str
    module: str
    gives: str


REQUIRED = (
    Package("jinja2", "jinja2", "compile: C++ from templates"),
    Package("networkx", "networkx", "compile: FIFO depths without deadlock"),
    Package("numpy", "numpy", "everything: integers of a network"),
    Package("onnx", "onnx", "everything: models"),
    Package("onnxruntime", "onnxruntime", "verify: the second opinion"),
    Package("pydantic", "pydantic", "settings and reports"),
    Package("pyyaml", "yaml", "settings files"),
    Package("rich", "rich", "tables"),
    Package("scipy", "scipy", "compile: the cheapest folding for a target"),
    Package("typer", "typer", "the command line"),
)
QUANTIZE = "quantize, diagnose and sweep; torch modules as models"
BREVITAS = "Brevitas modules as models"
EXTRAS: tuple[tuple[str, Package], ...] = (
    ("brevitas", Package("torch", "torch", QUANTIZE)),
    ("brevitas", Package("onnxscript", "onnxscript", "torch and Brevitas modules as models")),
    ("brevitas", Package("brevitas", "brevitas", BREVITAS)),
    ("brevitas", Package("onnxoptimizer", "onnxoptimizer", BREVITAS)),
    ("brevitas", Package("qonnx", "qonnx", BREVITAS)),
    ("sweep", Package("matplotlib", "matplotlib", "sweep: its plots")),
    ("cluster", Package("distributed", "distributed", "sweep --scheduler: many machines")),
    ("cluster", Package("threadpoolctl", "threadpoolctl", "sweep --scheduler: one thread a run")),
    ("demo", Package("scikit-learn", "sklearn", "demo: its handwritten digits")),
)


@dataclass(frozen=True)
class Check:
    """One row.

    Attributes:
        group: packages, extras, tools or machine.
        found: version or amount, and what is wrong with it; without names and folders of a user.
        gives: what it is for.
        get: how to get or mend it, as a command where there is one; empty where nothing has to be done.
        needed: whether compile and verify need it.
    """

    group: str
    name: str
    state: State
    found: str
    gives: str
    get: str = ""
    needed: bool = False


@dataclass(frozen=True)
class Diagnosis:
    """All rows."""

    version: str
    checks: tuple[Check, ...]

    @property
    def lacking(self) -> tuple[Check, ...]:
        """What compile and verify need and do not have."""
        return tuple(check for check in self.checks if check.needed and check.state != "ok")

    def as_json(self) -> str:
        """For machines and bug reports; see `Check`."""
        content = {"version": self.version, "ok": not self.lacking, "checks": [asdict(check) for check in self.checks]}
        return json.dumps(content, indent=1)


def examine(place: Path | None = None) -> Diagnosis:
    """Look at Python, packages, tools and this machine; compiles and runs a C++ program in a temporary folder.

    Args:
        place: the folder where builds are to be written; default: the working folder.
    """
    ranges = requirements()
    checks = (
        _python(),
        Check("packages", PROJECT, "ok", __version__, "this program"),
        *(_package(package, ranges, "") for package in REQUIRED),
        *(_package(package, ranges, extra) for extra, package in EXTRAS),
        compiler_check(),
        _headers(),
        *hls_tools(),
        *_machine(place or Path.cwd()),
    )
    return Diagnosis(__version__, checks)


def needed_package(module: str | None) -> str | None:
    """The package, one of those that are always needed, whose module could not be imported; None for any other."""
    return next((package.name for package in REQUIRED if package.module == (module or "").split(".")[0]), None)


# Python and packages


def _python() -> Check:
    wanted = _python_range()
    right = satisfies(platform.python_version(), wanted)
    found = platform.python_version() if right else f"{platform.python_version()}, {wanted} is needed"
    get = "" if right else f"install Python {wanted} and broadaxe with its pip"
    return Check("packages", "Python", "ok" if right else "wrong", found, "everything", get, needed=True)


def _python_range() -> str:
    try:
        return str(metadata.metadata(PROJECT).json.get("requires_python", ""))
    except metadata.PackageNotFoundError:
        return str(_pyproject().get("requires-python", ""))


def requirements() -> dict[str, str]:
    """Version ranges such as `>=1.19,<1.23` by package, as this installation declares them; without any, nothing."""
    try:
        lines = metadata.requires(PROJECT) or []
    except metadata.PackageNotFoundError:
        project = _pyproject()
        lines = list(project.get("dependencies", []))
        for extra in project.get("optional-dependencies", {}).values():
            lines += extra
    out = {}
    for line in lines:
        match = re.match(r"([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*([^;]*)", line)
        if match is not None and _normal(match[1]) != PROJECT:
            limits = match[2].replace(" ", "").split(",")
            out[_normal(match[1])] = ",".join(sorted(limits, key=lambda limit: limit[:1] != ">"))
    return out


def _pyproject() -> dict[str, Any]:
    """The project table of a source tree that was not installed; empty where it cannot be read (tomllib is of 3.11)."""
    if sys.version_info >= (3, 11):
        import tomllib

        try:
            return dict(tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())["project"])
        except (OSError, KeyError, ValueError):
            return {}
    return {}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def satisfies(version: str, wanted: str) -> bool:
    """Whether a version lies in a range such as `>=1.19,<1.23`; of both the numbers of the release count alone."""
    have = _numbers(version)
    for part in filter(None, wanted.split(",")):
        match = re.fullmatch(r"(>=|<=|==|!=|>|<)\s*([\d.]+)", part.strip())
        if match is None:
            continue
        limit = _numbers(match[2])
        size = max(len(have), len(limit))
        a, b = have + (0,) * (size - len(have)), limit + (0,) * (size - len(limit))
        holds = {">=": a >= b, "<=": a <= b, "==": a == b, "!=": a != b, ">": a > b, "<": a < b}
        if not holds[match[1]]:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


def _package(package: Package, ranges: dict[str, str], extra: str) -> Check:
    wanted = ranges.get(_normal(package.name), "")
    group, needed = ("extras", False) if extra else ("packages", True)
    get = f"pip install '{PROJECT}[{extra}]'" if extra else f"pip install '{package.name}{wanted}'"
    version = _version_of(package)
    if version is None:
        return Check(group, package.name, "missing", "", package.gives, get, needed)
    if not satisfies(version, wanted):
        get = f"pip install '{package.name}{wanted}'"
        return Check(group, package.name, "wrong", f"{version}, {wanted} is needed", package.gives, get, needed)
    return Check(group, package.name, "ok", version, package.gives, needed=needed)


def _version_of(package: Package) -> str | None:
    """None also where the files of a package are gone and only its record is left."""
    try:
        if importlib.util.find_spec(package.module) is None:
            return None
        return metadata.version(package.name)
    except (ImportError, ValueError):
        return None


# tools


def compiler_check() -> Check:
    """g++, by compiling and running a C++11 program with our headers."""
    name = os.environ.get("CXX") or "g++"
    label = Path(name).name
    gives = "verify, simulate and dataflow --run: C simulation"
    get = "apt-get install g++ (Debian, Ubuntu), or set CXX to a C++11 compiler"
    if shutil.which(name) is None:
        return Check("tools", label, "missing", "", gives, get, needed=True)
    version = _output([name, "-dumpfullversion", "-dumpversion"], 10).split("\n")[0][:40] or "version unknown"
    wrong = _tried(name)
    if wrong:
        return Check("tools", label, "wrong", private(f"{version}, {wrong}"), gives, get, needed=True)
    return Check("tools", label, "ok", f"{version}, compiles and runs C++11", gives, needed=True)


def _tried(compiler: str) -> str:
    """What is wrong with what the compiler makes of our headers; nothing if all is well."""
    probe, hw = folder("templates") / "doctor" / "probe.cpp", folder("hw")
    with tempfile.TemporaryDirectory(prefix="broadaxe-") as place:
        program = Path(place) / "probe"
        includes = [f"-I{path}" for path in (hw / "sim" / "native", hw / "sim", hw)]
        command = [compiler, "-std=c++11", "-DBROADAXE_NATIVE", *includes, str(probe), "-o", str(program)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=SECONDS_TO_COMPILE, check=False
            )
            if done.returncode:
                errors = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
                said = (errors or ["says nothing"])[0].replace(str(hw.parent), "")
                return f"does not compile C++11: {said[:160]}"
            ran = subprocess.run([str(program)], capture_output=True, text=True, timeout=10, check=False)
        except subprocess.TimeoutExpired:
            return f"takes more than {SECONDS_TO_COMPILE} s for a small program"
        except OSError as error:
            return f"its program does not run ({error.strerror})"
    return "" if ran.stdout.strip() == SAID_BY_THE_PROBE else "its program computes something else"


def _headers() -> Check:
    gives = "verify and simulate --exact: C simulation with the vendor's own types"
    named = os.environ.get("BROADAXE_AP_TYPES")
    found = ap_types()
    if found is None:
        get = (
            "unset BROADAXE_AP_TYPES, or set it to a folder with ap_int.h"
            if named
            else f"pip install '{PROJECT}[exact]', or set BROADAXE_AP_TYPES to a folder with ap_int.h"
        )
        return Check("tools", "ap_int headers", "missing", "", gives, get)
    version = None if named else _version_of(Package("hls4ml", "hls4ml", ""))
    where = "of BROADAXE_AP_TYPES" if named else f"of hls4ml {version}"
    return Check("tools", "ap_int headers", "ok", where, gives)


def hls_tools() -> list[Check]:
    """The vendor's programs on PATH, or in the folders that its settings64.sh names; versions by path, else by asking."""
    found = [check for program, _ in PROGRAMS if (check := _hls_tool(program)) is not None]
    if found:
        return found
    gives = "cosim: synthesis, co-simulation and export; all else works without"
    get = "install Vitis or Vivado of AMD, then source its settings64.sh"
    return [Check("tools", "Vitis HLS", "missing", "", gives, get)]


def _hls_tool(program: str) -> Check | None:
    gives = "cosim: synthesis, co-simulation and export"
    on_path = shutil.which(program)
    variables = ("XILINX_VITIS", "XILINX_HLS", "XILINX_VIVADO")
    named = {name: os.environ[name] for name in variables if os.environ.get(name)}
    beside = next(((v, w) for v, d in named.items() if (w := shutil.which(program, path=str(Path(d) / "bin")))), None)
    if on_path is None and beside is None:
        return None
    path = on_path or (beside[1] if beside else "")
    version = version_of(str(Path(path).resolve())) or said_version(Path(path), SECONDS_TO_SAY_ITS_VERSION)
    text = written(version) if version else "version unknown"
    if on_path is None and beside is not None:
        get = "source the tool's settings64.sh, which puts it on PATH"
        return Check("tools", program, "wrong", f"{text}, in ${beside[0]} but not on PATH", gives, get)
    if version is not None and version not in SUPPORTED:
        known = f"{written(FIRST)} to {written(LAST)}"
        get = f"use a version from {known}, or try: later ones often work"
        return Check("tools", program, "wrong", f"{text}, {known} are known", gives, get)
    return Check("tools", program, "ok", text, gives)


def _output(command: list[str], seconds: float) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


# the machine


def _machine(place: Path) -> list[Check]:
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [
        Check("machine", "system", "ok", system, "what is known to work: Linux"),
        Check("machine", "processors", "ok", f"{cores} of {os.cpu_count() or cores}", "sweep: runs at a time"),
        _amount("memory", _free_memory(), "compile and verify of large networks", "close other programs"),
        _amount("disk", _free_disk(place), "builds and simulations", "free some of this disk, or work on another"),
        _writable(place),
        Check("machine", "colour", "ok", _colour(), "tables"),
    ]


def _amount(name: str, gigabytes: float | None, gives: str, get: str) -> Check:
    if gigabytes is None:
        return Check("machine", name, "ok", "unknown", gives)
    if gigabytes < LEAST_GB:
        return Check("machine", name, "wrong", f"{gigabytes:.1f} GB free, {LEAST_GB:g} GB is little", gives, get)
    return Check("machine", name, "ok", f"{gigabytes:.1f} GB free", gives)


def _free_memory() -> float | None:
    """GB that programs may still take; what files are cached in is free."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024 / 1e9
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    except (OSError, ValueError, AttributeError):
        return None


def _free_disk(place: Path) -> float | None:
    try:
        return shutil.disk_usage(place).free / 1e9
    except OSError:
        return None


def _writable(place: Path) -> Check:
    gives = "builds, if no other place is named"
    try:
        with tempfile.TemporaryFile(dir=place):
            return Check("machine", "working folder", "ok", "writable", gives)
    except OSError as error:
        get = "go to a folder of yours, or name one with -o"
        return Check("machine", "working folder", "wrong", f"not writable ({error.strerror})", gives, get)


def _colour() -> str:
    if os.environ.get("NO_COLOR"):
        return "off: NO_COLOR is set"
    if not sys.stdout.isatty():
        return "off: no terminal"
    if os.environ.get("TERM", "") in ("", "dumb"):
        return "off: TERM is not set" if not os.environ.get("TERM") else "off: TERM is dumb"
    return "on"


def private(text: str) -> str:
    """A text without the home folder and the name of the user."""
    text = text.replace(str(Path.home()), "~").replace(tempfile.gettempdir(), "TMP")
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        return text
    return re.sub(rf"(?<![\w-]){re.escape(user)}(?![\w-])", "USER", text)
