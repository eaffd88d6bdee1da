"""Projects for the vendor's tools: every version knows every command, option and key, wherever the folder lies."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from models import small_cnn
from vendor_recorder import record, tclsh

import broadaxe
from broadaxe.csim import FLAGS
from broadaxe.errors import RequestError
from broadaxe.manifest import read_manifest
from broadaxe.vendor.commands import keys
from broadaxe.vendor.project import STEPS, arguments, cfg, project, steps_of, tcl
from broadaxe.vendor.versions import FIRST_WITH_CONFIG, VITIS_HLS, VIVADO_HLS, version_of


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A build for each tool, moved to a folder whose name needs quotes."""
    folders = {}
    for tool in ("vitis", "vivado"):
        folder = tmp_path_factory.mktemp(tool)
        broadaxe.compile(small_cnn(), folder / "build", tool=tool, part="zcu104", clock_ns=3.333)
        folders[tool] = (folder / "build").rename(folder / "moved [build] $x {")
    return folders


def project_commands(tool: str, name: str, flow: str) -> list[str]:
    flags = "-std=c++14" if tool == "vitis" else "-std=c++11"
    target = f" -flow_target {flow}" if tool == "vitis" else ""
    return [
        f"open_project -reset {name}",
        "set_top net_top",
        f"add_files ../../firmware/net_top.cpp -cflags {flags}",
        f"add_files -tb ../../tb/testbench.cpp -cflags {flags}",
        "add_files -tb ../../tb/vectors.dat",
        f"open_solution -reset solution1{target}",
        "set_part xczu7ev-ffvc1156-2-e",
        "create_clock -period 3.333 -name default",
        f"set_clock_uncertainty {'0.9' if tool == 'vitis' else '0.417'} default",
        "config_compile -pipeline_style stp" if tool == "vitis" else "config_array_partition -maximum_size 4096",
    ]


def expected(tool: str, step: str) -> list[str]:
    reopened = ["open_project hls", "open_solution solution1"]
    return {
        "csim": [*project_commands(tool, "csim", "vivado"), "csim_design"],
        "csynth": [*project_commands(tool, "hls", "vivado"), "csynth_design"],
        "cosim": [*reopened, "cosim_design -rtl verilog"],
        "export": [*reopened, "export_design -format ip_catalog -version 1.0.0"],
        "export_xo": [*project_commands(tool, "xo", "vitis"), "csynth_design", "export_design -format xo"],
    }[step] + ["close_project"]


@pytest.mark.parametrize(
    ("tool", "version"), [("vivado", v) for v in VIVADO_HLS] + [("vitis", v) for v in VITIS_HLS], ids=str
)
def test_every_script_runs_in_every_version(tool: str, version: tuple[int, int], moved, tmp_path: Path) -> None:
    """From another folder, and where the path has blanks, brackets, dollars and braces."""
    vendor = moved[tool] / "vendor"
    for script, steps in {**{s: (s,) for s in steps_of(tool)}, "all": STEPS}.items():  # type: ignore[arg-type]
        called, others, status = record(version, vendor / f"{script}.tcl", tmp_path)
        assert called == [command for step in steps for command in expected(tool, step)]
        said = [f"BROADAXE: {step} {what}" for step in steps for what in ("starts", "done")]
        assert (others, status) == ([*said, "EXIT 0"], 0)


def test_a_step_that_fails_says_so_and_ends(moved, tmp_path: Path) -> None:
    shutil.rmtree(moved["vitis"] / "vendor" / "work", ignore_errors=True)
    called, others, status = record((2022, 1), moved["vitis"] / "vendor" / "cosim.tcl", tmp_path)
    assert called == []
    said = "ERROR: BROADAXE: cosim failed: there is no synthesis in work/hls; run csynth first"
    assert (others, status) == (["BROADAXE: cosim starts", said, "EXIT 1"], 1)


@pytest.mark.parametrize(
    ("version", "line", "message"),
    [
        ((2022, 1), "csynth_desing", 'invalid command name "csynth_desing"'),
        ((2020, 1), "open_solution -flow_target vitis s", "WRONG open_solution has no option -flow_target"),
        (
            (2021, 1),
            "config_array_partition -maximum_size 4096",
            "WRONG config_array_partition has no option -maximum_size",
        ),
        ((2020, 2), "config_compile -pipeline_style frp", "WRONG config_compile -pipeline_style does not take 'frp'"),
        ((2020, 1), "export_design -format xo", "WRONG export_design -format does not take 'xo'"),
        ((2022, 1), "create_clock 5", "WRONG create_clock takes 0 to 0 words, not '5'"),
        ((2022, 1), "add_files nowhere.cpp", "WRONG add_files: there is no file nowhere.cpp in"),
        ((2022, 1), "exec ls", 'invalid command name "exec"'),
    ],
)
def test_the_recorder_refuses(version: tuple[int, int], line: str, message: str, tmp_path: Path) -> None:
    script = tmp_path / "script.tcl"
    script.write_text(f"{line}\n")
    _, others, status = record(version, script, tmp_path)
    assert status != 0
    assert any(other.startswith(message) for other in others)


@pytest.mark.parametrize("version", [v for v in VITIS_HLS if v >= FIRST_WITH_CONFIG], ids=str)
def test_every_key_is_of_every_version(version: tuple[int, int], moved) -> None:
    vendor = moved["vitis"] / "vendor"
    for name, flow, output in (("hls.cfg", "vivado", "ip_catalog"), ("hls_xo.cfg", "vitis", "xo")):
        known, seen, inside = keys(version), [], False
        for line in (vendor / name).read_text().splitlines():
            if not line or line.startswith("#"):
                continue
            if line == "[hls]":
                inside = True
                continue
            key, equals, value = line.partition("=")
            assert equals
            assert known[key].hls == inside, key
            assert re.fullmatch(known[key].value, value), line
            assert known[key].repeats or key not in [k for k, _ in seen], key
            if key in ("syn.file", "tb.file"):
                assert (vendor / value).is_file()
            if key.endswith("file_cflags"):
                assert (key.removesuffix("_cflags"), value.split(",")[0]) in seen
            seen.append((key, value))
        assert {("flow_target", flow), ("package.output.format", output), ("clock", "3.333ns")} <= set(seen)


def test_no_stand_in_can_be_found_by_the_tools(moved) -> None:
    """No include path, no name of a vendor's header outside tb/sim, and every include found beside the file that names it."""
    vendors = {"ap_int.h", "hls_stream.h", "ap_axi_sdata.h"}
    for folder in moved.values():
        for path in (folder / "vendor").iterdir():
            if path.is_file():
                assert not re.search(r"-I|tb/sim|sim/native", path.read_text())
        waiting, seen = [folder / "firmware" / "net_top.cpp", folder / "tb" / "testbench.cpp"], set()
        while waiting:
            path = waiting.pop().resolve()
            if path in seen:
                continue
            seen.add(path)
            assert "sim" not in path.relative_to(folder.resolve()).parts
            assert path.name not in vendors
            waiting += [path.parent / name for name in re.findall(r'#include "([^"]+)"', path.read_text())]
        assert len(seen) > 10


def test_sources_compile_as_the_project_has_them(moved, tmp_path: Path) -> None:
    """Without -I: our stand-ins as system headers, where the tool has its own."""
    sim = moved["vitis"] / "tb" / "sim"
    for source in ("firmware/net_top.cpp", "tb/testbench.cpp"):
        command = [
            "g++",
            *FLAGS,
            "-fsyntax-only",
            "-DBROADAXE_NATIVE",
            "-isystem",
            str(sim / "native"),
            "-isystem",
            str(sim),
        ]
        done = subprocess.run([*command, str(moved["vitis"] / source)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:500]


def test_the_folder_is_part_of_the_build(moved) -> None:
    for tool, folder in moved.items():
        names = {name for name in read_manifest(folder)["files"] if name.startswith("vendor/")}
        assert names == {f"vendor/{s}.tcl" for s in (*steps_of(tool), "all", "project")} | {"vendor/README.txt"} | (  # type: ignore[arg-type]
            {"vendor/hls.cfg", "vendor/hls_xo.cfg"} if tool == "vitis" else set()
        )
        assert "vitis-run" in (folder / "vendor" / "README.txt").read_text() or tool == "vivado"


def test_what_tools_leave_there_does_not_stop_a_second_compilation(tmp_path: Path) -> None:
    broadaxe.compile(small_cnn(), tmp_path / "build")
    for name in ("vendor/work/hls/report.rpt", "vendor/vitis_hls.log", "vendor/.Xil/x"):
        (tmp_path / "build" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "build" / name).touch()
    broadaxe.compile(small_cnn(), tmp_path / "build")
    (tmp_path / "build" / "vendor" / "notes.txt").touch()
    with pytest.raises(RequestError) as refused:
        broadaxe.compile(small_cnn(), tmp_path / "build")
    left = (
        f"{tmp_path / 'build'}: holds vendor/notes.txt, which compile did not write; move it or choose another output"
    )
    assert str(refused.value) == left


@pytest.mark.parametrize(
    "text", ["net_top", "a b", "[exit]", "$x", 'quo"te', "br{ace", "back\\slash", "semi;colon", "#c", "é", ""]
)
def test_a_word_of_tcl_is_the_text(text: str, tmp_path: Path) -> None:
    script = tmp_path / "script.tcl"
    script.write_text(f"fconfigure stdout -encoding utf-8\nputs -nonewline {tcl(text)}", encoding="utf-8")
    done = subprocess.run([tclsh(), "-encoding", "utf-8", str(script)], capture_output=True, check=True)
    assert done.stdout.decode() == text


def test_names_that_no_configuration_can_hold_are_refused() -> None:
    assert cfg("../firmware/net_top.cpp") == "../firmware/net_top.cpp"
    with pytest.raises(RequestError) as refused:
        cfg("a b")
    assert str(refused.value) == "vendor: 'a b' cannot stand in a configuration; use letters, digits and ._-"
    with pytest.raises(RequestError) as refused:
        project("net\n_top", "vitis", None, 5)
    assert str(refused.value) == r"vendor: 'net\n_top' holds control characters; use a name without them"


def test_commands_of_each_program() -> None:
    assert arguments("vivado_hls", "csim") == [["vivado_hls", "-f", "csim.tcl"]]
    assert arguments("vitis-run --tcl", "cosim") == [["vitis-run", "--mode", "hls", "--tcl", "cosim.tcl"]]
    assert arguments("vitis-run", "csynth") == [
        ["v++", "-c", "--mode", "hls", "--config", "hls.cfg", "--work_dir", "work/hls"]
    ]
    assert [c[3] for c in arguments("vitis-run", "export_xo")] == ["hls", "--package"]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Vivado(TM) HLS - High-Level Synthesis from C, C++ and OpenCL v2019.2 (64-bit)", (2019, 2)),
        ("****** vitis-run v2025.1 (64-bit)", (2025, 1)),
        ("/tools/Xilinx/Vitis_HLS/2022.2/bin/vitis_hls", (2022, 2)),
        ("Vitis HLS", None),
    ],
)
def test_versions_are_read(text: str, version: tuple[int, int] | None) -> None:
    assert version_of(text) == version
