"""The command line: slips in commands, options and values, and requests that contradict themselves."""

from __future__ import annotations

import io
import re
import runpy
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
from small_builds import copied, layer
from test_cli_usage import WRONG

from broadaxe.commands.usage import USAGE, translated
from broadaxe.errors import MissingToolError, RequestError

from . import provokes
from .running import command

COVERS = ("cli.py", "commands/")


def slip(message: str, *words: str, name: str | None = None) -> None:
    """A case of a command line that is refused before anything is read."""
    provokes(message, RequestError, name or " ".join(words))(lambda tmp: command(*words))


for _name, (_words, _message) in WRONG.items():
    if "is not a build folder" not in _message and "cannot be read" not in _message:
        slip(_message, *_words, name=_name)

# Slips as people make them

SLIPS = """
Compile model.onnx -o build
    broadaxe: no command 'Compile'; did you mean `broadaxe compile`? `broadaxe --help` lists them
quantise model.onnx
    broadaxe: no command 'quantise'; did you mean `broadaxe quantize`? `broadaxe --help` lists them
complie model.onnx
    broadaxe: no command 'complie'; did you mean `broadaxe compile`? `broadaxe --help` lists them
sim build
    broadaxe: no command 'sim'; did you mean `broadaxe simulate`? `broadaxe --help` lists them
synth build
    broadaxe: no command 'synth'; `broadaxe --help` lists them
help
    broadaxe: no command 'help'; `broadaxe --help` lists them
verify build --dat x.npz
    broadaxe verify: no option '--dat'; did you mean --data? `broadaxe verify --help` lists them
quantize model.onnx --acc_bits 12
    broadaxe quantize: no option '--acc_bits'; did you mean --acc-bits? `broadaxe quantize --help` lists them
quantize model.onnx --accumulator-bits 12
    broadaxe quantize: no option '--accumulator-bits'; did you mean --acc-bits? `broadaxe quantize --help` lists them
compile model.onnx --out build
    broadaxe compile: no option '--out'; did you mean --output? `broadaxe compile --help` lists them
compile model.onnx -out build
    broadaxe compile: 'build' is more than it takes; see `broadaxe compile --help`
report build --JSON
    broadaxe report: no option '--JSON'; did you mean --json? `broadaxe report --help` lists them
report
    broadaxe report: BUILD is missing; for example `broadaxe report build`
simulate build x.npz -o y.npz
    broadaxe simulate: --data is missing; for example `broadaxe simulate build --data x.npz -o y.npz`
explain build conv0 --channel first
    broadaxe explain: --channel: 'first' is not a whole number; give one
quantize model.onnx --acc-bits 12b
    broadaxe quantize: --acc-bits: '12b' is not a whole number; give one
"""
for _line, _message in re.findall(r"^(\S.*)\n    (.*)$", SLIPS, re.MULTILINE):
    slip(_message, *_line.split())


@provokes("broadaxe: something is odd; see `broadaxe --help`", RequestError)
def usage_of_another_kind(tmp: Path) -> None:
    raise translated(USAGE("Something is odd."))


# Options that contradict each other, or say nothing


@provokes("broadaxe cosim: --step and --read are different requests; give one of them", RequestError)
def two_requests_of_cosim(tmp: Path) -> None:
    command("cosim", "build", "--step", "csim", "--read", "results")


@provokes("--least and --depth: change nothing without --run; add --run", RequestError)
def depths_without_a_run(tmp: Path) -> None:
    command("dataflow", copied(tmp), "--least")


@provokes("--depth 20: is not FIFO=N; write for example s_quant0=20", RequestError)
def depth_without_a_fifo(tmp: Path) -> None:
    command("dataflow", copied(tmp), "--run", "--depth", "20")


@provokes("broadaxe export: neither --finn nor --hls4ml is given; give one of them", RequestError)
def export_to_nobody(tmp: Path) -> None:
    command("export", "model.onnx", "-o", "config.yml")


@provokes("broadaxe export: both --finn and --hls4ml are given; give one of them", RequestError)
def export_to_both(tmp: Path) -> None:
    command("export", "model.onnx", "--finn", "--hls4ml", "-o", "config.yml")


@provokes("--input uint8: is not NAME:TYPE; write for example image:uint8", RequestError)
def input_without_a_type(tmp: Path) -> None:
    command("compile", "model.onnx", "-o", "build", "--input", "uint8")


@provokes("--sweep: changes nothing without --html; give --html FILE.html, too", RequestError)
def sweep_without_a_page(tmp: Path) -> None:
    command("report", copied(tmp), "--sweep", "sweep")


# Outputs over inputs


@provokes("{tmp}/x.npz: is read, and the output would replace it; choose another output", RequestError)
def results_over_their_data(tmp: Path) -> None:
    np.savez("x.npz", x=np.zeros((1, 4), np.float32))
    command("simulate", copied(tmp), "--data", "x.npz", "-o", tmp / "x.npz")


@provokes("model.onnx: is read, and the output would replace it; choose another output", RequestError)
def export_over_its_model(tmp: Path) -> None:
    onnx.save(layer(), "model.onnx")
    command("export", "model.onnx", "--finn", "-o", "model.onnx")


@provokes("model.onnx: is read, and the output would replace it; choose another output", RequestError)
def parameters_over_their_model(tmp: Path) -> None:
    onnx.save(layer(), "model.onnx")
    command("load", copied(tmp, weights="runtime"), "model.onnx", "-o", "model.onnx")


# What the system refuses


@provokes("demo: brevitas is not installed; pip install 'broadaxe[demo]'", MissingToolError)
def demo_without_brevitas(tmp: Path) -> None:
    missing = ModuleNotFoundError("No module named 'brevitas'", name="brevitas")
    with mock.patch.object(runpy, "run_path", side_effect=missing):
        command("demo", "-o", tmp / "out")


@provokes("/tmp/scratch: No space left on device; make room there, or name another place", RequestError)
def place_that_is_full(tmp: Path) -> None:
    full = OSError(28, "No space left on device", "/tmp/scratch")
    with mock.patch.object(runpy, "run_path", side_effect=full):
        command("demo", "-o", tmp / "out")


class Full(io.StringIO):
    """Standard output on a disk that is full."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file.open("w")

    def flush(self) -> None:
        raise OSError(28, "No space left on device")

    def fileno(self) -> int:
        return self.file.fileno()


@provokes("onnx: is not installed; broadaxe doctor says how to get it", MissingToolError)
def package_that_is_missing(tmp: Path) -> None:
    missing = ModuleNotFoundError("No module named 'onnx'", name="onnx")
    with mock.patch("broadaxe.reports.reading.read_report", side_effect=missing):
        command("report", "build")


@provokes("standard output: No space left on device; make room there, or name another place", RequestError)
def output_that_is_full(tmp: Path) -> None:
    with mock.patch.object(sys, "stdout", Full(tmp / "file")):
        command("--version")
