"""`broadaxe cosim` with tools that only pretend: shell scripts that print what the real ones do, and leave such reports."""

from __future__ import annotations

import _thread
import os
import shutil
import signal
import stat
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest
import yaml
from models import small_cnn
from vendor_texts import cosim_rpt, csynth_rpt

import broadaxe
from broadaxe.commands import progress
from broadaxe.errors import MissingToolError, VerificationError
from broadaxe.reports.reading import read_report
from broadaxe.vendor import run as running
from broadaxe.vendor.bundle import anonymous, bundle
from broadaxe.vendor.compare import Difference, differences
from broadaxe.vendor.logs import ANSWER_76960, complaint
from broadaxe.vendor.run import run as run_tool
from broadaxe.vendor.tools import find_tool

FRAMES = 8
TOOL = r"""#!/bin/bash
# BEHAVIOUR says what goes wrong, REPORTS where the reports are; run in vendor/.
case "$1" in -version|--version) echo "****** $(basename "$0") v$VERSION (64-bit)"; exit 0;; esac
case "$*" in *csim*) step=csim;; *cosim*) step=cosim;; *--package*|*export*) step=export;; *) step=csynth;; esac
scripted=1; case "$*" in *--config*) scripted=0; root=work/hls/hls;; *) root=work/hls/solution1;; esac
test $scripted = 1 && echo "BROADAXE: $step starts"
echo "INFO: [HLS 200-10] Running '$0 $*' for user 'someone' on host 'machine'"
case "$BEHAVIOUR" in
  hang) echo $$ > "$REPORTS/pid"; trap '' TERM; sleep 100 & echo $! > "$REPORTS/child"; wait; sleep 100;;
  crash) echo "ERROR: [HLS 200-70] Compilation errors found"; exit 1;;
  error0) echo "ERROR: [XFORM 203-103] Cannot partition array 'w'"; echo "BROADAXE: $step done"; exit 0;;
  silent) exit 0;;
  date) echo 'rdi::set_property core_revision 2611221530 {component component_1}'
        echo "ERROR: [IMPL 213-28] Failed to generate IP."; exit 1;;
esac
wrong=0; test "$BEHAVIOUR" = mismatch && wrong=3
test $wrong = 0 || echo "frame 1: out0[2]: got 5, expected 6"
case $step in
  csim) echo "8 frames, $wrong mismatches"; echo "INFO: [SIM 211-1] CSim done with 0 errors.";;
  csynth) mkdir -p $root/syn/report; test "$BEHAVIOUR" = noreport || cp "$REPORTS"/*_csynth.rpt $root/syn/report;;
  cosim) echo "8 frames, $wrong mismatches"; mkdir -p $root/sim/report; cp "$REPORTS"/*_cosim.rpt $root/sim/report
         echo "INFO: [COSIM 212-1000] *** C/RTL co-simulation finished: PASS ***";;
  export) mkdir -p $root/impl/ip; touch $root/impl/ip/component.xml;;
esac
test $scripted = 1 && echo "BROADAXE: $step done"
exit 0
"""


class Fake:
    """A folder that is all of PATH but the system's, with pretended tools."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.bin, self.reports, self.patch = folder / "bin", folder / "reports", patch
        self.bin.mkdir()
        self.reports.mkdir()
        patch.setenv("PATH", f"{self.bin}{os.pathsep}/usr/bin{os.pathsep}/bin")
        patch.setenv("REPORTS", str(self.reports))

    def install(self, *programs: str, version: str = "2022.2", behaviour: str = "") -> None:
        for program in programs:
            (self.bin / program).write_text(TOOL)
            (self.bin / program).chmod(stat.S_IRWXU)
        self.patch.setenv("VERSION", version)
        self.patch.setenv("BEHAVIOUR", behaviour)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cosim")
    broadaxe.compile(small_cnn(), folder / "build")
    return folder / "build"


@pytest.fixture
def build(compiled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(compiled, tmp_path / "build"))


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake(tmp_path, monkeypatch)
    (made.reports / "net_top_csynth.rpt").write_text(csynth_rpt(instance="conv0", loops=False))
    (made.reports / "conv0_csynth.rpt").write_text(csynth_rpt("conv0", instance="mul_3s_4s_7_1_1"))
    (made.reports / "net_top_cosim.rpt").write_text(cosim_rpt())
    return made


def last(err: str) -> str:
    return err.splitlines()[-1]


@pytest.mark.parametrize(
    ("programs", "version", "first"),
    [
        (("vitis_hls",), "2020.2", "$ {bin}/vitis_hls -f csim.tcl"),
        (("vitis-run",), "2023.1", "$ {bin}/vitis-run --mode hls --tcl csim.tcl"),
        (
            ("vitis-run", "v++", "vitis_hls"),
            "2025.1",
            "$ {bin}/vitis-run --mode hls --csim --config hls.cfg --work_dir work/csim",
        ),
    ],
)
def test_all_steps(programs, version, first, fake: Fake, build: Path, run, monkeypatch) -> None:
    monkeypatch.setattr(progress, "LASTING", 0.0)
    fake.install(*programs, version=version)
    code, out, err = run("cosim", build)
    assert code == 0, err
    assert "net_top: csim, csynth, cosim, export passed" in out
    assert "co-simulation (Verilog): equals the reference; latency 680 cycles, interval 66 cycles" in out
    assert "LUT 142 (0 %)" in out
    assert "csim with" in err.splitlines()[0]
    log = (build / "vendor" / "work" / "csim.log").read_text()
    assert log.splitlines()[0] == first.format(bin=fake.bin)
    report = read_report(build)
    assert f"{report.interval:,}" in next(
        line for line in out.splitlines() if "net_top interval" in " ".join(line.split())
    )
    depths = yaml.safe_load((build / "vendor" / "work" / "latencies.yaml").read_text())
    assert depths == {"conv0": 11}
    assert out.splitlines()[-1] == f"wrote {build / 'vendor' / 'work' / 'latencies.yaml'}"


def test_the_latencies_are_settings_of_a_compilation(fake: Fake, build: Path, run, tmp_path: Path) -> None:
    fake.install("vitis_hls")
    assert run("cosim", build, "--step", "csynth")[0] == 0
    depths = yaml.safe_load((build / "vendor" / "work" / "latencies.yaml").read_text())
    assert broadaxe.compile(small_cnn(), tmp_path / "again", latencies=depths).settings.latencies == {"conv0": 11}


@pytest.mark.parametrize(
    ("behaviour", "step", "message"),
    [
        (
            "crash",
            "csim",
            "csim: vitis_hls 2022.2 ended with status 1, the tool says 'ERROR: [HLS 200-70] Compilation errors found'; look",
        ),
        (
            "error0",
            "csynth",
            "csynth: failed, the tool says \"ERROR: [XFORM 203-103] Cannot partition array 'w'\"; look into its log",
        ),
        ("silent", "csynth", "csynth: failed, the script did not reach its end; look into its log"),
        ("noreport", "csynth", "csynth: there is no report net_top_csynth.rpt below"),
        (
            "mismatch",
            "csim",
            "csim: failed, the testbench found 3 mismatches, the first is 'frame 1: out0[2]: got 5, expected 6'; look into",
        ),
        ("date", "export", f"export: vitis_hls 2022.2 ended with status 1, {ANSWER_76960}; look into its log"),
    ],
)
def test_a_step_that_fails(behaviour: str, step: str, message: str, fake: Fake, build: Path, run) -> None:
    fake.install("vitis_hls")
    if step == "export":
        assert run("cosim", build, "--step", "csynth")[0] == 0
    fake.install("vitis_hls", behaviour=behaviour)
    code, _, err = run("cosim", build, "--step", step)
    assert code == 1
    assert last(err).startswith(f"error: {message}")


def test_a_failed_cosimulation_is_no_success(fake: Fake, build: Path, run) -> None:
    fake.install("vitis_hls")
    (fake.reports / "net_top_cosim.rpt").write_text(cosim_rpt("Fail", ["NA"] * 6))
    code, _, err = run("cosim", build, "--step", "cosim")
    work = build / "vendor" / "work"
    assert (code, last(err)) == (
        1,
        f"error: cosim: Verilog does not agree with the testbench; look into its log below {work}",
    )


def test_nothing_of_an_earlier_run_is_taken_for_this_ones(fake: Fake, build: Path, run) -> None:
    fake.install("vitis_hls")
    assert run("cosim", build)[0] == 0
    fake.install("vitis_hls", behaviour="noreport")
    assert run("cosim", build, "--step", "csynth")[0] == 1
    fake.install("vitis_hls")
    assert run("cosim", build, "--step", "csynth")[0] == 0
    (fake.reports / "net_top_cosim.rpt").rename(fake.reports / "other_cosim.rpt")
    code, _, err = run("cosim", build, "--step", "cosim")
    work = build / "vendor" / "work"
    said = f"error: cosim: there is no report net_top_cosim.rpt that passed below {work}; run it again"
    assert (code, last(err)) == (1, said)


def test_a_report_of_another_part_is_refused(fake: Fake, build: Path, run) -> None:
    (fake.reports / "net_top_csynth.rpt").write_text(csynth_rpt().replace("5.00 ns", "4.00 ns"))
    code, _, err = run("cosim", build, "--read", fake.reports)
    assert (code, err) == (
        2,
        f"error: {fake.reports}: csynth's report is of xc7z020-clg400-1 at 4.0 ns, the build is for xc7z020clg400-1 at 5.0 ns;"
        " run csynth of this build\n",
    )


def test_a_damaged_report_is_an_error(fake: Fake, build: Path, run) -> None:
    fake.install("vitis_hls")
    (fake.reports / "net_top_csynth.rpt").write_text(csynth_rpt()[:1500])
    code, _, err = run("cosim", build, "--step", "csynth")
    assert code == 2
    assert "section 'Utilization Estimates' is missing; the file is damaged or of another tool" in last(err)


def alive(path: Path) -> bool:
    pid = int(path.read_text())
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


def gone(path: Path) -> bool:
    deadline = time.monotonic() + 10
    while alive(path) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(path)


def test_a_tool_that_hangs_is_ended_with_its_children(
    fake: Fake, build: Path, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are deaf to SIGTERM."""
    monkeypatch.setattr(running, "SECONDS_TO_END", 0.2)
    fake.install("vitis_hls", behaviour="hang")
    code, _, err = run("cosim", build, "--step", "csim", "--timeout", "1")
    log = build / "vendor" / "work" / "csim.log"
    assert code == 1
    assert (
        last(err)
        == f"error: csim: did not end within 1 s and was stopped; allow more with --timeout, or look into its log {log}"
    )
    assert gone(fake.reports / "pid")
    assert gone(fake.reports / "child")


def test_an_interrupt_ends_the_tool(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "SECONDS_TO_END", 0.2)
    fake.install("vitis_hls", behaviour="hang")

    def interrupt() -> None:
        while not (fake.reports / "child").is_file():
            time.sleep(0.01)
        time.sleep(0.1)
        _thread.interrupt_main()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker of a parallel run may ignore it
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            run_tool([str(fake.bin / "vitis_hls"), "-f", "csim.tcl"], tmp_path, tmp_path / "log", print, seconds=60)
    finally:
        signal.signal(signal.SIGINT, before)
    assert gone(fake.reports / "pid")
    assert gone(fake.reports / "child")


def test_a_child_that_holds_the_output_does_not_hang_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "SECONDS_OF_SILENCE", 0.2)
    lines: list[str] = []
    command = ["/bin/sh", "-c", "echo 'INFO: [HLS 200-10] started'; sleep 30 & exit 4"]
    begun = time.monotonic()
    assert run_tool(command, tmp_path, tmp_path / "log", lines.append, seconds=20) == 4
    assert time.monotonic() - begun < 15
    assert lines == ["started"]


def test_without_a_tool(fake: Fake, build: Path, run) -> None:
    code, _, err = run("cosim", build, "--step", "csynth")
    assert (code, err) == (
        3,
        "error: vitis-run and vitis_hls: not found on PATH; source the tool's settings64.sh, or run"
        f" `cd {build}/vendor && vitis_hls -f csynth.tcl` (after 2024.1 `vitis-run --mode hls --tcl csynth.tcl`) where it is"
        " installed and read the results with"
        f" `broadaxe cosim {build} --read DIR`\n",
    )
    fake.install("vivado_hls", version="2019.2")
    with pytest.raises(
        MissingToolError, match="vivado_hls is, but this build is for Vitis HLS; compile again with --tool vivado"
    ):
        find_tool("vitis", build, ["csim"])
    assert str(find_tool("vivado", build, ["csim"])) == "vivado_hls 2019.2"


@pytest.mark.parametrize(("programs", "version"), [(("vitis_hls",), "2022.2"), (("vitis-run", "v++"), "2024.2")])
def test_a_step_runs_the_synthesis_that_it_needs(programs, version: str, fake: Fake, build: Path, run) -> None:
    code, _, err = run("cosim", build, "--step", "export")
    assert (code, err) == (
        3,
        "error: vitis-run and vitis_hls: not found on PATH; source the tool's settings64.sh, or run"
        f" `cd {build}/vendor && vitis_hls -f csynth.tcl && vitis_hls -f export.tcl` (after 2024.1"
        " `vitis-run --mode hls --tcl csynth.tcl && vitis-run --mode hls --tcl export.tcl`) where it is"
        f" installed and read the results with `broadaxe cosim {build} --read DIR`\n",
    )
    fake.install(*programs, version=version)
    code, out, err = run("cosim", build, "--step", "export")
    assert code == 0, err
    assert "net_top: csynth, export passed" in out
    code, out, err = run("cosim", build, "--step", "cosim")
    assert code == 0, err
    assert "net_top: cosim passed" in out


def test_an_old_tool_is_refused(fake: Fake, build: Path, run) -> None:
    fake.install("vitis_hls", version="2020.1")
    code, _, err = run("cosim", build)
    assert (code, err) == (2, f"error: {fake.bin}/vitis_hls: is version 2020.1; Vitis HLS 2020.2 or newer is needed\n")


def test_a_step_that_there_is_not(build: Path, run) -> None:
    code, _, err = run("cosim", build, "--step", "synth")
    known = "csim, csynth, cosim, export, export_xo, all"
    assert (code, err) == (2, f"error: --step synth: is no step of Vitis HLS; use {known}\n")
    code, _, err = run("cosim", build, "--step", "csim", "--read", build)
    assert (code, err) == (2, "error: broadaxe cosim: --step and --read are different requests; give one of them\n")


def test_results_that_were_brought_back(fake: Fake, build: Path, run, tmp_path: Path) -> None:
    """From a run by hand, whose log is the tool's own; and a failure in it is found."""
    brought = tmp_path / "brought"
    shutil.copytree(fake.reports, brought / "work" / "hls")
    log = "BROADAXE: cosim starts\n8 frames, 0 mismatches\nBROADAXE: cosim done\n"
    (brought / "vitis_hls.log").write_text(log)
    code, out, err = run("cosim", build, "--read", brought)
    assert code == 0, err
    assert "net_top: cosim passed" in out
    (brought / "vitis_hls.log").write_text(log.replace("8 frames", "7 frames"))
    code, _, err = run("cosim", build, "--read", brought)
    why = f"error: cosim: failed, the testbench ran 7 frames, not 8; look into its log {brought / 'vitis_hls.log'}\n"
    assert (code, err) == (1, why)
    code, _, err = run("cosim", build, "--read", build / "tb")
    said = f"holds no report of net_top; run what {build / 'vendor' / 'README.txt'} says where the tool is"
    assert (code, err) == (2, f"error: {build / 'tb'}: {said}, then name the vendor/ that has the results\n")


def test_what_is_no_log_is_not_read(fake: Fake, build: Path, run, tmp_path: Path) -> None:
    """Folders, links to nothing and to themselves, pipes and devices, whatever their names; and logs that are too large."""
    brought = tmp_path / "brought"
    shutil.copytree(fake.reports, brought / "work" / "hls")
    for name, place in (("csim.log", "none"), ("csynth.log", "csynth.log"), ("export.log", "/dev/zero")):
        (brought / name).symlink_to(place)
    (brought / "cosim.log").mkdir()
    os.mkfifo(brought / "vitis_hls.log")
    code, _, err = run("cosim", build, "--read", brought)
    assert code == 0, err
    with (brought / "work" / "csim.log").open("wb") as file:
        file.truncate(65 << 20)
    code, _, err = run("cosim", build, "--read", brought)
    assert code == 2
    assert err.startswith(f"error: {brought / 'work' / 'csim.log'}: holds {65 << 20} bytes, no report has more than")


def test_a_report_of_another_design_is_refused(fake: Fake, build: Path, run, tmp_path: Path) -> None:
    """Whatever its file is called."""
    brought = tmp_path / "brought"
    brought.mkdir()
    path = brought / "net_top_csynth.rpt"
    path.write_text(csynth_rpt("another_top", loops=False))
    code, _, err = run("cosim", build, "--read", brought)
    assert (code, err) == (
        2,
        f"error: {path}: is a report on another_top, not on net_top; run csynth of this build\n",
    )


def test_a_bundle_names_nothing_of_the_machine(fake: Fake, build: Path, run, tmp_path: Path) -> None:
    fake.install("vitis_hls")
    assert run("cosim", build, "--step", "csynth")[0] == 0
    (build / "vendor" / "work" / "hls" / "solution1" / "secret.cpp").write_text("int x;")
    code, out, _ = run("cosim", build, "--bundle", tmp_path / "bug.zip")
    assert code == 0
    with zipfile.ZipFile(tmp_path / "bug.zip") as archive:
        names = archive.namelist()
        everything = "".join(archive.read(name).decode() for name in names)
    assert {
        "build.json",
        "vendor/work/csynth.log",
        "vendor/hls.cfg",
        "vendor/work/hls/solution1/syn/report/conv0_csynth.rpt",
    } <= {*names}
    assert not any(name.startswith("/") or ".." in name or name.endswith(".cpp") for name in names)
    assert out == (
        f"wrote {tmp_path / 'bug.zip'}: {len(names)} files without paths and names of this machine; look before you send it\n"
    )
    for private in (str(tmp_path), "someone", "'machine'", str(Path.home()) + "/"):
        assert private not in everything


def test_a_bundle_is_bounded(build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["broadaxe.vendor.bundle"]
    monkeypatch.setattr(module, "LARGEST_FILE", 100)
    (build / "vendor" / "work").mkdir()
    (build / "vendor" / "work" / "csim.log").write_text("a" * 150 + "the end")
    bundle(build, tmp_path / "bug.zip")
    with zipfile.ZipFile(tmp_path / "bug.zip") as archive:
        log = archive.read("vendor/work/csim.log").decode()
    assert log == "[the first 57 bytes are left out]\n" + "a" * 93 + "the end"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/home/me/project/firmware/conv0.hpp:12: error", "conv0.hpp:12: error"),
        (r"C:\Xilinx\Vitis\bin\vitis_hls.exe", "vitis_hls.exe"),
        ("../firmware/net_top.cpp and 3/4 of 10 ns", "../firmware/net_top.cpp and 3/4 of 10 ns"),
        ("g++ -I/home/me/include -L/home/me/lib", "g++ -Iinclude -Llib"),
        ("PATH=/opt/x:/home/me/bin:/usr/bin", "PATH=x:bin:bin"),
        ("file:///home/me/page.html of https://docs.xilinx.com/r", "file://page.html of https://docs.xilinx.com/r"),
        ("For user 'Admin' on host 'desk' (Linux)", "For user ... on host ... (Linux)"),
        ("| Host         : box.example running", "| Host         : ... running"),
        ("see docs.xilinx.com/access/sources", "see docs.xilinx.com/access/sources"),
    ],
)
def test_what_a_bundle_leaves_of_a_line(text: str, left: str) -> None:
    assert anonymous(text) == left


@pytest.mark.parametrize(
    ("step", "text", "said"),
    [
        ("csim", "8 frames, 0 mismatches\nINFO: CSim done with 0 errors.", None),
        ("csim", "8 frames, 0 mismatches\nCSim failed with errors.", "the tool says 'CSim failed with errors.'"),
        ("csim", "INFO: CSim done with 0 errors.", "the testbench's result is not in the log"),
        ("cosim", "8 frames, 0 mismatches\n", "the log has no line 'C/RTL co-simulation finished: PASS'"),
        (
            "cosim",
            "*** C/RTL co-simulation finished: FAIL ***",
            "the tool says '*** C/RTL co-simulation finished: FAIL ***'",
        ),
        ("csynth", "WARNING: [HLS 200-880] The II Violation in module", None),
        ("csynth", "Segmentation fault (core dumped)", "the tool says 'Segmentation fault (core dumped)'"),
        ("export", "bad lexical cast: source type value could not be interpreted as target", ANSWER_76960),
        ("export", "ERROR: '2201251806' is an invalid argument. Please specify an integer value.", ANSWER_76960),
    ],
)
def test_what_a_log_says(step: str, text: str, said: str | None) -> None:
    assert complaint(step, text, scripted=False, frames=FRAMES) == said


def test_differences_of_two_mappings() -> None:
    model = {"net": {"interval": 64, "lut": 0.0, "dsp": None}, "conv0": {"interval": 64, "ff": 10}, "conv1": {"lut": 1}}
    measured = {"conv0": {"interval": 66, "ff": None}, "net": {"interval": 64, "lut": 5, "dsp": 3}, "other": {"lut": 9}}
    found = differences(model, measured)
    assert found == (
        Difference("net", "interval", 64, 64),
        Difference("net", "lut", 0.0, 5),
        Difference("conv0", "interval", 64, 66),
    )
    assert [str(d) for d in found] == [
        "net: interval 64, model 64, 1.00 of it",
        "net: lut 5, model 0",
        "conv0: interval 66, model 64, 1.03 of it",
    ]


def test_a_changed_build_is_not_run(fake: Fake, build: Path) -> None:
    fake.install("vitis_hls")
    from broadaxe.vendor.cosim import cosim

    (build / "firmware" / "net_top.cpp").write_text("")
    with pytest.raises(
        VerificationError, match=r"net_top\.cpp: is missing or was changed after compilation; compile again"
    ):
        cosim(build)
