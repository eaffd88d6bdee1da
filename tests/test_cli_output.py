"""What a command prints, and where: --quiet, --verbose, --json, colours, pipes that close and disks that are full."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import small_cnn

import broadaxe
from broadaxe import verification
from broadaxe.commands import output, progress
from broadaxe.reports.schema import Report

ESCAPE = "\x1b["


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, unoptimised: None) -> Path:
    path = tmp_path_factory.mktemp("output")
    onnx.save(small_cnn(), path / "model.onnx")
    np.save(path / "x.npy", np.random.default_rng(0).normal(size=(4, 2, 6, 6)).astype(np.float32))
    broadaxe.compile(path / "model.onnx", path / "build", weights="runtime")
    return path


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("BROADAXE_AP_TYPES", "/dev/null")


def words(folder: Path, out: Path, *names: str) -> list[str]:
    return [name.format(folder=folder, out=out) for name in names]


COMPILE = ("compile", "{folder}/model.onnx", "-o", "{out}/build")
QUANTIZE = ("quantize", "{folder}/model.onnx", "--calib", "{folder}/x.npy", "--preset", "rtn", "-o", "{out}/q.onnx")
LOAD = ("load", "{folder}/build", "{folder}/model.onnx", "-o", "{out}/parameters.bin")
SIMULATE = ("simulate", "{folder}/build", "--data", "{folder}/x.npy", "-o", "{out}/y.npz")
VERIFY = ("verify", "{folder}/build")
REHEARSE = ("dataflow", "{folder}/build", "--run", "--frames", "2")
BUNDLE = ("cosim", "{folder}/build", "--bundle", "{out}/logs.zip")
SILENT = {"compile": COMPILE, "quantize": QUANTIZE, "load": LOAD, "simulate": SIMULATE}
DATA = SILENT | {"verify": VERIFY, "dataflow": REHEARSE, "bundle": BUNDLE}


@pytest.mark.parametrize("name", SILENT)
def test_quiet_writes_and_says_nothing(name, folder, run, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "LASTING", 0.0)
    assert run(*words(folder, tmp_path, *SILENT[name]), "--quiet") == (0, "", "")
    assert list(tmp_path.iterdir())


def test_quiet_shows_the_results_that_are_asked_for(folder, run):
    """Before the command's name or after it; only what comes next is left out."""
    code, out, err = run("report", folder / "build")
    assert (code, err) == (0, "")
    *lines, last = out.splitlines()
    assert last == f"next: broadaxe verify {folder / 'build'}"
    for given in (("--quiet", "report", folder / "build"), ("report", folder / "build", "-q")):
        assert run(*given) == (0, "\n".join([*lines, ""]), "")
    code, out, err = run("verify", folder / "build", "--quiet")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].startswith("verified: 16 inputs, ")
    assert run("report", folder, "--quiet") == (
        2,
        "",
        f"error: {folder}: is not a build folder; make one with `broadaxe compile`\n",
    )


@pytest.mark.parametrize("where", ["before", "after"])
def test_verbose_logs_stages_versions_and_settings(where, folder, run, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "LASTING", 1e9)
    given = words(folder, tmp_path, *COMPILE)
    code, _, err = run(*(["-v", *given] if where == "before" else [*given, "--verbose"]))
    assert code == 0
    log = [re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} broadaxe: (.*)", line)[1] for line in err.splitlines()]
    assert re.match(r"broadaxe [\d.]+, python [\d.]+, numpy [\d.]+, onnx [\d.]+", log[0])
    settings = f"compile: model={folder / 'model.onnx'}, output={tmp_path / 'build'}, json=False"
    assert log[1] == settings
    stages = [re.fullmatch(r"(.*): \d+\.\d\d s", line)[1] for line in log[2:]]
    assert stages == [
        *("reading the model", "lowering to integers", "sizing accumulators and proving requantizers"),
        *("sizing FIFOs", "writing C++"),
    ]
    assert run(*words(folder, tmp_path, *COMPILE))[2] == ""  # and nothing of it stays for the next command


def test_verbose_says_where_an_error_was_raised(folder, run):
    code, out, err = run("report", folder, "--verbose")
    assert (code, out) == (2, "")
    assert "Traceback" in err
    assert "in read_manifest" in err
    assert err.splitlines()[-1] == f"error: {folder}: is not a build folder; make one with `broadaxe compile`"
    assert "Traceback" not in run("report", folder)[2]


@pytest.mark.parametrize("name", DATA)
def test_json_is_one_document_and_nothing_else(name, folder, run, tmp_path):
    code, out, _ = run(*words(folder, tmp_path, *DATA[name]), "--json")
    told = json.loads(out)
    assert code == 0
    expected = {
        "compile": lambda: Report.model_validate_json(out) == Report.model_validate_json(made("build/report.json")),
        "quantize": lambda: told == json.loads(made("q.json")),
        "load": lambda: told["wrote"] == [str(tmp_path / "parameters.bin"), str(tmp_path / "parameters.json")],
        "simulate": lambda: told["outputs"] == shapes("y.npz"),
        "verify": lambda: [told[k] for k in ("ok", "inputs", "exact_inputs", "mismatches")] == [True, 16, 0, []],
        "dataflow": lambda: [told[k] for k in ("passed", "frames", "mismatches", "blocked")] == [True, 2, 0, []],
        "bundle": lambda: "report.json" in told["files"] and told["wrote"] == str(tmp_path / "logs.zip"),
    }

    def made(path: str) -> str:
        return (tmp_path / path).read_text()

    def shapes(path: str) -> dict[str, object]:
        arrays = np.load(tmp_path / path)
        assert [len(arrays[name]) for name in arrays] == [4]
        return {name: {"shape": [*arrays[name].shape], "type": "float32"} for name in arrays}

    assert expected[name]()


def test_a_mismatch_is_in_the_document_and_in_the_exit_code(folder, run, monkeypatch):
    monkeypatch.setattr(verification, "_compare_block", lambda *given: given[6].mismatches.append("conv0: differs"))
    code, out, _ = run("verify", folder / "build", "--json")
    assert code == 1
    assert json.loads(out)["ok"] is False
    assert json.loads(out)["mismatches"] == ["conv0: differs"]
    code, out, _ = run("verify", folder / "build")
    assert code == 1
    assert out.splitlines()[-1].startswith("NOT verified: ")


def test_logs_that_are_not_there_are_missed(folder, run, tmp_path):
    code, _, err = run(*words(folder, tmp_path, *BUNDLE))
    place = folder / "build" / "vendor"
    said = f"warning: {place}: holds no log and no report, as no tool has run there; run `broadaxe cosim {folder / 'build'}`"
    assert (code, err) == (0, f"{said} first\n")


def test_a_part_that_is_too_small_is_said(folder, run, tmp_path):
    given = words(folder, tmp_path, *COMPILE)
    code, out, err = run(*given, "--part", "ZCU104")
    assert code == 0
    assert "warning" not in err
    assert re.search(r"^of xczu7ev-ffvc1156-2-e: \d % LUT, \d % FF.* \(model\)$", out, flags=re.MULTILINE)
    (tmp_path / "folding.yaml").write_text("conv0: {pe: 4, simd: 18}\n")
    assert "warning" not in run(*given, "--folding", tmp_path / "folding.yaml")[2]


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({}, "it is the default of vendor/, give yours with --part"),
        ({"part": "PYNQ-Z2"}, "choose a larger part, or leave the folding to --part"),
    ],
)
def test_a_design_beyond_its_part(settings, remedy):
    from broadaxe.config import settings as made
    from broadaxe.reports.fit import fit_of
    from broadaxe.reports.schema import Amounts

    fit = fit_of(Amounts(lut=53_201, ff=53_200, dsp=0, bram18=28, uram=1), made(**settings))
    assert fit.named is bool(settings)
    assert str(fit) == "of xc7z020clg400-1: 100 % LUT, 50 % FF, 10 % BRAM18 (model)"
    assert fit.warning == (f"xc7z020clg400-1: the design takes 53,201 of 53,200 LUT, 1 of 0 URAM (model); {remedy}")
    assert fit_of(Amounts(lut=53_200, ff=0, dsp=220, bram18=0, uram=0), made(**settings)).warning == ""


# colours


def test_colours_are_for_terminals(folder, run, monkeypatch):
    """None in a pipe, unless FORCE_COLOR asks for them; none with NO_COLOR or on a terminal that has none."""
    bad = ("report", folder)
    wanted = "error: "
    assert run(*bad)[2].startswith(wanted)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run(*bad)[2].startswith(f"{ESCAPE}1;31merror:{ESCAPE}0m ")
    assert f"{ESCAPE}1m" in run("report", folder / "build")[1]
    assert f"{ESCAPE}32mverified: 16 inputs" in run("verify", folder / "build", "--quiet")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert run(*bad)[2].startswith(wanted)
    assert ESCAPE not in run("report", folder / "build")[1]
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert run(*bad)[2].startswith(wanted)
    assert ESCAPE not in run("report", folder / "build")[1]


def test_force_color_makes_no_terminal_of_a_pipe(folder, run, tmp_path, monkeypatch):
    """Progress in a pipe is lines, never a line that is rewritten."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(progress, "LASTING", 0.0)
    err = run(*words(folder, tmp_path, *COMPILE))[2]
    assert err.splitlines()[0] == "reading the model ..."
    assert ESCAPE not in err
    assert "\r" not in err


# progress


def test_only_what_lasts_is_told_in_a_pipe(monkeypatch):
    """A stage that is over soon is not worth a line; one that goes on is told again with its count."""
    monkeypatch.setattr(progress, "LASTING", 0.3)
    monkeypatch.setattr(progress, "AGAIN", 0.3)
    said: list[str] = []
    with progress.lines(said.append) as tell:
        tell("short")
        tell("running 1 of 9 inputs, conv0 in numpy")
        until = time.monotonic() + 20
        while not said and time.monotonic() < until:
            time.sleep(0.02)
        tell("running 2 of 9 inputs, onnxruntime")
        while len(said) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        tell("short as well")
    assert said == ["running 1 of 9 inputs, conv0 in numpy ...", "running 2 of 9 inputs, onnxruntime ..."]


def test_what_counts_is_one_stage():
    stage, counts = progress.stage_of, progress.counts_in
    assert stage("running 1 of 9 inputs, conv0 in numpy") == stage("running 3 of 9 inputs, onnxruntime")
    assert stage("features.0: layer 1 of 12, 8 x 9 weights") == stage("head: layer 12 of 12, error 0.1")
    assert stage("csynth: a line") == stage("csynth: another line") != stage("cosim: a line")
    assert stage("sizing FIFOs") != stage("writing C++")
    assert counts("running 1,024 of 2,048 inputs, conv0") == (1024, 2048)
    assert counts("run 3 of at most 40: 4 bits") == (3, 40)
    assert counts("sizing FIFOs") is None


def test_a_terminal_sees_a_bar(monkeypatch):
    """A line that is rewritten, with a bar where something is counted; nothing of it stays."""
    from io import StringIO

    from rich.console import Console

    stream = StringIO()
    console = Console(file=stream, force_terminal=True, width=100, color_system=None, legacy_windows=False)
    with progress.live(console) as tell:
        tell("lowering to [integers]")
        tell("running 3 of 9 inputs, conv0 in numpy")
        time.sleep(0.3)
    shown = stream.getvalue()
    assert "running 3 of 9 inputs, conv0 in numpy" in shown
    assert "\u2501" in shown
    assert re.search(r"0:00:0\d", shown)
    assert shown.endswith(f"{ESCAPE}2K")


# the other end of a pipe


def started(folder: Path, *given: object, **streams: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "broadaxe.cli", *map(str, given)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, env=env, text=True, stderr=subprocess.PIPE, **streams)


def test_a_reader_that_has_seen_enough_is_no_error(folder):
    reading, writing = os.pipe()
    os.close(reading)
    with started(folder, "report", folder / "build", "--json", stdout=writing) as running:
        os.close(writing)
        assert running.stderr.read() == ""
        assert running.wait() == 141


def test_help_that_nobody_reads(folder):
    reading, writing = os.pipe()
    os.close(reading)
    with started(folder, "--help", stdout=writing) as running:
        os.close(writing)
        assert running.stderr.read() == ""
        assert running.wait() == 141


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_as_if_nobody_reads(folder, closed):
    words = [sys.executable, "-m", "broadaxe.cli", "report", str(folder / "build")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *words], env=env, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("model_top: ") == (closed == "2>&-")


def test_commands_to_type_hold_any_path(folder, run, tmp_path):
    place = tmp_path / "my $HOME's build"
    shutil.copytree(folder / "build", place)
    assert run("report", place)[1].splitlines()[-1] == f"next: broadaxe verify {shlex.quote(str(place))}"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full; run it on Linux")
def test_a_full_disk_is_one_line(folder):
    with Path("/dev/full").open("w") as full, started(folder, "report", folder / "build", stdout=full) as running:
        assert running.stderr.read() == (
            "error: standard output: No space left on device; make room there, or name another place\n"
        )
        assert running.wait() == 2


def test_a_file_is_as_wide_as_the_table(folder, run):
    """No column is cut where no terminal sets a width."""
    out = run("report", folder / "build")[1]
    assert "\u2026" not in out
    assert max(map(len, out.splitlines())) < output.WIDTH_OF_A_PIPE
