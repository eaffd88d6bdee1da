"""`broadaxe doctor`: what it finds, also where packages are missing or tools broken; and that it says nothing of the user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from broadaxe import doctor
from broadaxe.doctor import EXTRAS, REQUIRED, Check, Package, examine, private, satisfies
from broadaxe.version import __version__

ROOT = Path(__file__).resolve().parents[1]
PATHS = os.pathsep.join(sys.path)
BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
sys.argv[1:] = {words!r}
import broadaxe_command
broadaxe_command.main()
"""


def without(names: tuple[str, ...], *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command where some packages cannot be imported (not pydantic: newer versions of typer need it themselves)."""
    program = BLOCKED.format(names=set(names), words=list(words))
    env = os.environ | {"PYTHONPATH": PATHS} | environment
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, check=False)


def row(name: str) -> Check:
    return next(check for check in examine().checks if check.name == name)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No compiler is tried."""
    monkeypatch.setattr(doctor, "_tried", lambda compiler: "")


def script(folder: Path, name: str, text: str) -> Path:
    """A program of a shell script."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_this_environment_can_compile_and_verify(run) -> None:
    code, out, err = run("doctor", "--json")
    content = json.loads(out)
    assert (code, err, content["ok"], content["version"]) == (0, "", True, __version__)
    found = {entry["name"]: entry for entry in content["checks"]}
    needed = {"Python", "g++", *(package.name for package in REQUIRED)}
    assert {name for name, entry in found.items() if entry["needed"]} == needed
    assert all(found[name]["state"] == "ok" for name in needed)
    assert {package.name for _, package in EXTRAS} <= set(found)
    assert all(entry["get"] == "" for entry in found.values() if entry["state"] == "ok")
    assert all(entry["get"] and entry["gives"] for entry in found.values() if entry["state"] != "ok")


def test_every_declared_package_has_a_row() -> None:
    """What pyproject.toml requires, and its extras for users, are what is asked for."""
    tomllib = pytest.importorskip("tomllib", reason="tomllib is of Python 3.11 and newer; run the tests there")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {f.split(">")[0] for f in project["dependencies"]} == {package.name for package in REQUIRED}
    declared = {extra: {f.split(">")[0] for f in some} for extra, some in project["optional-dependencies"].items()}
    for extra, package in EXTRAS:
        assert package.name in declared[extra]
    for extra in ("brevitas", "sweep", "cluster", "demo"):
        own = {name for name in declared[extra] if not name.startswith("broadaxe[")}
        assert own == {package.name for of, package in EXTRAS if of == extra}
    assert declared["exact"] == {"hls4ml"}  # the ap_int headers


def test_the_table(run, quick: None) -> None:
    code, out, _ = run("doctor")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["piece", "found", "for"]
    assert any(line.startswith("ok ") and " numpy " in line for line in lines)
    assert lines[-1] == "compile and verify have what they need"


MISSING = ("numpy", "onnx", "onnxruntime", "scipy", "networkx", "jinja2", "yaml", "torch", "hls4ml")


def test_it_answers_where_packages_are_missing() -> None:
    done = without(MISSING, "doctor")
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.splitlines()[-1] == (
        "compile and verify cannot run: jinja2, networkx, numpy, onnx, onnxruntime, pyyaml, scipy missing or wrong"
    )
    get = next(line for line in done.stdout.splitlines() if line.startswith("  jinja2, networkx"))
    assert get == (
        "  jinja2, networkx, numpy, onnx, onnxruntime, pyyaml, scipy: pip install 'jinja2>=3.1' 'networkx>=3'"
        " 'numpy>=1.26' 'onnx>=1.19,<1.23' 'onnxruntime>=1.20' 'pyyaml>=6' 'scipy>=1.11'"
    )
    assert "\n  torch: pip install 'broadaxe[brevitas]'\n" in done.stdout
    content = json.loads(without(MISSING, "doctor", "--json").stdout)
    assert not content["ok"]
    states = {entry["name"]: entry["state"] for entry in content["checks"]}
    assert {name for name, state in states.items() if state == "missing"} >= {
        *("numpy", "onnx", "pyyaml", "torch", "ap_int headers")
    }


@pytest.mark.parametrize(("blocked", "package"), [("numpy", "numpy"), ("yaml", "pyyaml")])
def test_other_commands_say_which_package_is_missing(blocked: str, package: str, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("clock_ns: 4\n")
    done = without((blocked,), "config", "check", str(tmp_path / "s.yaml"))
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"error: {package}: is not installed; broadaxe doctor says how to get it\n"


def test_nothing_that_is_asked_for_is_imported() -> None:
    code = "import sys\nfrom broadaxe import doctor\ndoctor._tried = lambda c: ''\ndoctor.examine()\n"
    code += (
        f"print([m for m in {[p.module for p in REQUIRED if p.module not in ('rich', 'typer')]} if m in sys.modules])\n"
    )
    code += f"print([m for m in {[p.module for _, p in EXTRAS]} if m in sys.modules])"
    env = os.environ | {"PYTHONPATH": PATHS}
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout == "[]\n[]\n"
    assert time.monotonic() - begun < 10  # some tenths of a second where nothing else runs


RANGES = [
    ("1.22.0", ">=1.19,<1.23", True),
    ("1.23.0", ">=1.19,<1.23", False),
    ("1.18.9", ">=1.19,<1.23", False),
    ("1.19", ">=1.19,<1.23", True),
    ("1.9", ">=1.19", False),
    ("2.13.0+cpu", ">=2.8", True),
    ("3", ">=3.0.0", True),
    ("3.10.0rc1", ">=3.10", True),
    ("2.0", "!=2.0.0", False),
    ("2.0.1", "==2.0.1", True),
    ("5", "", True),
    ("", ">=1", False),
]


@pytest.mark.parametrize(("version", "wanted", "inside"), RANGES)
def test_ranges_of_versions(version: str, wanted: str, inside: bool) -> None:
    assert satisfies(version, wanted) is inside


def test_requirements_are_those_of_the_project() -> None:
    ranges = doctor.requirements()
    assert ranges["onnx"] == ">=1.19,<1.23"
    assert {"torch", "hls4ml", "numpy", "scikit-learn"} <= set(ranges)
    assert "broadaxe" not in ranges


def test_a_source_tree_that_is_not_installed_reads_its_project_file(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tomllib", reason="tomllib is of Python 3.11 and newer; run the tests there")

    def nowhere(name: str) -> None:
        raise doctor.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "requires", nowhere)
    monkeypatch.setattr(doctor.metadata, "metadata", nowhere)
    assert doctor.requirements()["onnx"] == ">=1.19,<1.23"
    assert doctor._python_range() == ">=3.10"


def test_a_version_that_is_too_old(monkeypatch: pytest.MonkeyPatch, quick: None, run) -> None:
    real = doctor.metadata.version
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "1.18.0" if name == "onnx" else real(name))
    check = row("onnx")
    assert (check.state, check.needed) == ("wrong", True)
    assert check.found == "1.18.0, >=1.19,<1.23 is needed"
    assert check.get == "pip install 'onnx>=1.19,<1.23'"
    code, out, _ = run("doctor")
    assert code == 3
    assert out.splitlines()[-1] == "compile and verify cannot run: onnx missing or wrong"


def test_a_python_that_is_too_old(monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.9.7")
    check = row("Python")
    assert (check.state, check.found) == ("wrong", "3.9.7, >=3.10 is needed")


def test_a_package_of_which_only_the_record_is_left() -> None:
    assert doctor._version_of(Package("numpy", "numpy_that_is_gone", "")) is None
    assert doctor._version_of(Package("package-that-never-was", "json", "")) is None


# g++


def test_the_compiler_is_really_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that are no compiler, that fail, and whose programs fail or compute something else."""
    monkeypatch.setenv("CXX", str(tmp_path / "nothing"))
    check = doctor.compiler_check()
    assert (check.name, check.state, check.found, check.needed) == ("nothing", "missing", "", True)
    assert check.get == "apt-get install g++ (Debian, Ubuntu), or set CXX to a C++11 compiler"
    text = 'case "$*" in *dump*) echo 4.2;; *) echo "x.cpp:1: error: old" >&2; exit 1;; esac'
    failing = script(tmp_path, "failing", text)
    monkeypatch.setenv("CXX", str(failing))
    check = doctor.compiler_check()
    assert (check.state, check.found) == ("wrong", "4.2, does not compile C++11: x.cpp:1: error: old")
    output = 'while [ "$1" != -o ]; do shift; done;'
    script(tmp_path, "lying", f'{output} printf "#!/bin/sh\\necho broadaxe 3" > "$2"; chmod +x "$2"')
    assert doctor._tried(str(tmp_path / "lying")) == "its program computes something else"
    script(tmp_path, "empty", f'{output} echo > "$2"')
    assert doctor._tried(str(tmp_path / "empty")) == "its program does not run (Permission denied)"
    monkeypatch.setattr(doctor, "SECONDS_TO_COMPILE", 0.2)
    script(tmp_path, "slow", "exec sleep 5")
    assert doctor._tried(str(tmp_path / "slow")) == "takes more than 0.2 s for a small program"


def test_no_temporary_files_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.tempfile, "tempdir", str(tmp_path))
    assert doctor.compiler_check().state == "ok"
    assert list(tmp_path.iterdir()) == []


# headers and HLS tools


def test_headers_of_a_folder_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROADAXE_AP_TYPES", str(tmp_path))
    check = doctor._headers()
    assert (check.state, check.needed) == ("missing", False)
    assert check.get == "unset BROADAXE_AP_TYPES, or set it to a folder with ap_int.h"
    (tmp_path / "ap_int.h").touch()
    check = doctor._headers()
    assert (check.state, check.found) == ("ok", "of BROADAXE_AP_TYPES")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH without HLS tools."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("XILINX_VITIS", "XILINX_HLS", "XILINX_VIVADO"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_no_hls_tool(bare: Path) -> None:
    (check,) = doctor.hls_tools()
    assert (check.name, check.state, check.needed) == ("Vitis HLS", "missing", False)
    assert check.get == "install Vitis or Vivado of AMD, then source its settings64.sh"


def test_tools_say_their_versions(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(bare / "bin", "vitis_hls", 'echo "Vitis HLS - High-Level Synthesis v2023.2 (64-bit)"')
    script(bare / "bin", "vitis-run", '[ "$1" = --version ] && echo "vitis-run v2029.1 (64-bit)"')
    script(bare / "bin", "vivado_hls", "echo nothing")
    assert [(check.name, check.state, check.found) for check in doctor.hls_tools()] == [
        ("vitis-run", "wrong", "2029.1, 2019.2 to 2025.2 are known"),
        ("vitis_hls", "ok", "2023.2"),
        ("vivado_hls", "ok", "version unknown"),
    ]
    monkeypatch.setattr(doctor, "SECONDS_TO_SAY_ITS_VERSION", 0.2)
    script(bare / "bin", "vivado_hls", "while :; do :; done")
    assert doctor.hls_tools()[-1].found == "version unknown"


def test_a_tool_that_is_installed_but_not_on_path(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bare / "Xilinx" / "Vitis_HLS" / "2022.1"
    script(folder / "bin", "vitis_hls", "exit 1")  # its path says the version, it is not run
    monkeypatch.setenv("XILINX_HLS", str(folder))
    (check,) = doctor.hls_tools()
    assert (check.state, check.found) == ("wrong", "2022.1, in $XILINX_HLS but not on PATH")
    assert check.get == "source the tool's settings64.sh, which puts it on PATH"


# the machine


def test_little_room(monkeypatch: pytest.MonkeyPatch, quick: None, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "_free_memory", lambda: 0.25)
    monkeypatch.setattr(doctor, "_free_disk", lambda place: None)
    checks = {check.name: check for check in examine(tmp_path / "none").checks}
    assert (checks["memory"].state, checks["memory"].found) == ("wrong", "0.2 GB free, 1 GB is little")
    assert (checks["disk"].state, checks["disk"].found) == ("ok", "unknown")
    assert checks["working folder"].found == "not writable (No such file or directory)"
    assert not examine(tmp_path / "none").lacking  # builds can be written elsewhere


def test_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert doctor._colour() == "off: NO_COLOR is set"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    assert doctor._colour() == "off: no terminal"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    assert doctor._colour() == "off: TERM is dumb"
    monkeypatch.setenv("TERM", "xterm-256color")
    assert doctor._colour() == "on"


def test_nothing_of_the_user_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home folder, a user's name, a compiler, headers and tools below both: none of it in what goes into a bug report."""
    home = tmp_path / "home" / "kim.doe"
    text = f'case "$*" in *dump*) echo 9.1;; *) echo "{home}/x:1: error: kim.doe" >&2; exit 1;; esac'
    compiler = script(home / "tools", "my-g++", text)
    script(home / "bin", "vitis_hls", f'echo "{home} v2023.2"')
    (home / "ap_types").mkdir()
    (home / "ap_types" / "ap_int.h").touch()
    monkeypatch.chdir(home)
    for name, value in {
        "HOME": home,
        "USER": "kim.doe",
        "LOGNAME": "kim.doe",
        "CXX": compiler,
        "BROADAXE_AP_TYPES": home / "ap_types",
        "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }.items():
        monkeypatch.setenv(name, str(value))
    text = examine().as_json()
    assert "9.1, does not compile C++11: ~/x:1: error: USER" in text
    assert "2023.2" in text
    for secret in ("kim.doe", str(home), str(tmp_path), "/home"):
        assert secret not in text


def test_the_name_of_a_user_inside_a_word_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.getpass, "getuser", lambda: "root")
    assert private("uprooted root/x, rooted") == "uprooted USER/x, rooted"
