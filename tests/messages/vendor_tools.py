"""Vendor's tools: steps, logs, results that are brought back, bundles. The tools are played by a shell script."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
from small_builds import copied
from test_vendor_cosim import Fake
from vendor_texts import cosim_rpt, csynth_rpt

from broadaxe.errors import MissingToolError, RequestError, VerificationError
from broadaxe.vendor import run as running
from broadaxe.vendor.bundle import bundle
from broadaxe.vendor.cosim import cosim, read_back
from broadaxe.vendor.project import cfg, tcl
from broadaxe.vendor.tools import find_tool

from . import provokes

COVERS = ("vendor/bundle.py", "vendor/cosim.py", "vendor/project.py", "vendor/run.py", "vendor/tools.py")


@contextmanager
def tools(tmp: Path, *programs: str, **played: str) -> Iterator[Path]:
    """A folder with reports, and PATH with tools that copy them."""
    with pytest.MonkeyPatch.context() as patch:
        fake = Fake(tmp, patch)
        (fake.reports / "net_top_csynth.rpt").write_text(csynth_rpt(loops=False))
        (fake.reports / "net_top_cosim.rpt").write_text(cosim_rpt())
        fake.install(*programs, **played)
        yield fake.reports


def step_that(tmp: Path, behaviour: str, step: str = "csim") -> None:
    """Run one step of a tool that does something wrong."""
    build = copied(tmp)
    with tools(tmp, "vitis_hls", behaviour=behaviour):
        cosim(build, step)


# Which tool


@provokes("--step synth: is no step of Vitis HLS; use csim, csynth, cosim, export, export_xo, all", RequestError)
def step_misspelt(tmp: Path) -> None:
    cosim(copied(tmp), "synth")


@provokes(
    "vitis-run and vitis_hls: not found on PATH; source the tool's settings64.sh, or run `cd {tmp}/build/vendor &&"
    " vitis_hls -f csim.tcl` (after 2024.1 `vitis-run --mode hls --tcl csim.tcl`) where it is installed and read the"
    " results with `broadaxe cosim {tmp}/build --read DIR`",
    MissingToolError,
)
def no_tool(tmp: Path) -> None:
    with tools(tmp):
        cosim(copied(tmp), "csim")


@provokes(
    "vitis-run and vitis_hls: not found on PATH, vivado_hls is, but this build is for Vitis HLS; compile again with"
    " --tool vivado, or source the settings64.sh of Vitis HLS",
    MissingToolError,
)
def the_other_tool(tmp: Path) -> None:
    with tools(tmp, "vivado_hls", version="2019.2"):
        find_tool("vitis", Path("build"), ["csim"])


@provokes("{tmp}/bin/vitis_hls: is version 2020.1; Vitis HLS 2020.2 or newer is needed", RequestError)
def old_tool(tmp: Path) -> None:
    with tools(tmp, "vitis_hls", version="2020.1"):
        find_tool("vitis", Path("build"), ["csim"])


# Steps that fail


@provokes(
    "csim: vitis_hls 2022.2 ended with status 1, the tool says 'ERROR: [HLS 200-70] Compilation errors found'; look"
    " into its log {tmp}/build/vendor/work/csim.log",
    VerificationError,
)
def step_that_ends_with_an_error(tmp: Path) -> None:
    step_that(tmp, "crash")


@provokes(
    "csynth: failed, the tool says \"ERROR: [XFORM 203-103] Cannot partition array 'w'\"; look into its log"
    " {tmp}/build/vendor/work/csynth.log",
    VerificationError,
)
def step_with_an_error_and_status_0(tmp: Path) -> None:
    step_that(tmp, "error0", "csynth")


@provokes(
    "csim: failed, the script did not reach its end; look into its log {tmp}/build/vendor/work/csim.log",
    VerificationError,
)
def step_that_says_nothing(tmp: Path) -> None:
    step_that(tmp, "silent")


@provokes(
    "csim: failed, the testbench found 3 mismatches, the first is 'frame 1: out0[2]: got 5, expected 6'; look into"
    " its log {tmp}/build/vendor/work/csim.log",
    VerificationError,
)
def simulation_with_other_results(tmp: Path) -> None:
    step_that(tmp, "mismatch")


@provokes(
    "csim: vitis_hls 2022.2 ended with status 1, the core's revision, which is a date, does not fit since 2022 (AMD"
    " answer record 76960); install AMD's patch y2k22 for this version, or use 2022.1 or newer; look into its log"
    " {tmp}/build/vendor/work/csim.log",
    VerificationError,
)
def date_that_does_not_fit(tmp: Path) -> None:
    step_that(tmp, "date")


@provokes(
    "csynth: there is no report net_top_csynth.rpt below {tmp}/build/vendor/work; run it again", VerificationError
)
def synthesis_without_a_report(tmp: Path) -> None:
    step_that(tmp, "noreport", "csynth")


@provokes(
    "csim: did not end within 0.2 s and was stopped; allow more with --timeout, or look into its log"
    " {tmp}/build/vendor/work/csim.log",
    VerificationError,
)
def step_that_hangs(tmp: Path) -> None:
    build = copied(tmp)
    with tools(tmp, "vitis_hls", behaviour="hang"), mock.patch.object(running, "SECONDS_TO_END", 0.1):
        cosim(build, "csim", timeout=0.2)


@provokes(
    "export: left no *.zip or component.xml below {tmp}/build/vendor/work/hls; look into its log"
    " {tmp}/build/vendor/work/export.log",
    VerificationError,
)
def export_without_files(tmp: Path) -> None:
    build = copied(tmp)
    with tools(tmp, "vitis_hls"):
        script = tmp / "bin" / "vitis_hls"
        script.write_text(script.read_text().replace("touch ", ": "))
        cosim(build, "export")


@provokes(
    "cosim: there is no report net_top_cosim.rpt that passed below {tmp}/build/vendor/work; run it again",
    VerificationError,
)
def cosimulation_without_a_report(tmp: Path) -> None:
    build = copied(tmp)
    with tools(tmp, "vitis_hls") as reports:
        (reports / "net_top_cosim.rpt").rename(reports / "other_cosim.rpt")
        cosim(build, "cosim")


@provokes(
    "cosim: Verilog does not agree with the testbench; look into its log below {tmp}/build/vendor/work",
    VerificationError,
)
def cosimulation_that_disagrees(tmp: Path) -> None:
    build = copied(tmp)
    with tools(tmp, "vitis_hls") as reports:
        (reports / "net_top_cosim.rpt").write_text(cosim_rpt("Fail", ["NA"] * 6))
        cosim(build, "cosim")


# Results that were made elsewhere


def brought(tmp: Path, **files: str) -> Path:
    """A folder of results; names are those of files without their dots."""
    place = tmp / "results"
    place.mkdir()
    for name, text in files.items():
        (place / ".".join(name.rsplit("_", 1))).write_text(text)
    return place


@provokes("{tmp}/results: is no folder; name the one that was brought back", RequestError)
def results_that_are_not_there(tmp: Path) -> None:
    read_back(copied(tmp), tmp / "results")


@provokes(
    "{tmp}/results: holds no report of net_top; run what {tmp}/build/vendor/README.txt says where the tool is, then name the"
    " vendor/ that has the results",
    RequestError,
)
def results_of_no_step(tmp: Path) -> None:
    read_back(copied(tmp), brought(tmp, notes_txt="done"))


@provokes(
    "cosim: failed, the testbench ran 7 frames, not 8; look into its log {tmp}/results/vitis_hls.log",
    VerificationError,
)
def results_of_fewer_frames(tmp: Path) -> None:
    log = "BROADAXE: cosim starts\n7 frames, 0 mismatches\nBROADAXE: cosim done\n"
    read_back(copied(tmp), brought(tmp, vitis_hls_log=log))


@provokes(
    "cosim: failed, the log has no line 'C/RTL co-simulation finished: PASS'; look into its log"
    " {tmp}/results/hls_run_cosim.log",
    VerificationError,
)
def log_without_success(tmp: Path) -> None:
    read_back(copied(tmp), brought(tmp, hls_run_cosim_log="16 frames, 0 mismatches\n"))


@provokes(
    "csim: failed, the testbench's result is not in the log; look into its log {tmp}/results/hls_run_csim.log",
    VerificationError,
)
def log_without_the_testbench(tmp: Path) -> None:
    read_back(copied(tmp), brought(tmp, hls_run_csim_log="INFO: CSim done with 0 errors.\n"))


@provokes(
    "{tmp}/results: csynth's report is of xc7z020-clg400-1 at 4.0 ns, the build is for xc7z020clg400-1 at 5.0 ns; run"
    " csynth of this build",
    RequestError,
)
def results_of_another_clock(tmp: Path) -> None:
    read_back(copied(tmp), brought(tmp, net_top_csynth_rpt=csynth_rpt(loops=False).replace("5.00 ns", "4.00 ns")))


# A bundle


@provokes("{tmp}/bug.tar.gz: does not end in .zip; name a .zip file", RequestError)
def bundle_as_tar(tmp: Path) -> None:
    bundle(copied(tmp), tmp / "bug.tar.gz")


@provokes("{tmp}: is not a build folder; make one with `broadaxe compile`", RequestError)
def bundle_of_no_build(tmp: Path) -> None:
    bundle(tmp, tmp / "out.zip")


@provokes("{tmp}/bugs/bug.zip: cannot be written (No such file or directory); choose another file", RequestError)
def bundle_into_no_folder(tmp: Path) -> None:
    bundle(copied(tmp), tmp / "bugs" / "bug.zip")


# Words of scripts


@provokes("vendor: 'my part' cannot stand in a configuration; use letters, digits and ._-", RequestError)
def words_in_a_configuration(tmp: Path) -> None:
    cfg("my part")


@provokes("vendor: 'net\\x1b[31m' holds control characters; use a name without them", RequestError)
def control_characters_in_tcl(tmp: Path) -> None:
    tcl("net\x1b[31m")
