"""Settings: of files, of options and in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from small_builds import layer
from test_config import MISTAKES, MODELS, REFUSED

import broadaxe
from broadaxe.config import CompileSettings, input_type
from broadaxe.configuration.complaints import SettingsError
from broadaxe.configuration.default_file import write_default
from broadaxe.configuration.document import read_document
from broadaxe.configuration.kinds import known_kind
from broadaxe.configuration.settings import configured
from broadaxe.errors import RequestError
from broadaxe.quantization.config import QuantConfig
from broadaxe.sweeps.config import SweepConfig

from . import provokes
from .running import command

COVERS = ("config.py", "configuration/", "sweeps/config.py")


def refused(kind: str, content: str | bytes, tmp: Path, mistake: int = 0) -> None:
    """Read a settings file; raises one of its mistakes."""
    path = tmp / "settings.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        configured(MODELS[kind], path, {})
    except SettingsError as error:
        raise SettingsError(error.lines[mistake:]) from None


# Every mistake in a file that the tests of settings know

UNREADABLE = {
    *("no space", "no space, then more", "no colon", "no colon, then more", "two colons", "too deep", "between", "tab"),
    *("open brace", "open bracket", "open to the end", "closed only", "open quote", "backslash", "at", "star", "alias"),
    *("two documents", "program", "bell", "list"),
}
"""Mistakes behind which a file is not read on."""

for _name, (_kind, _text, _lines) in MISTAKES.items():
    for _number, _line in enumerate(_lines):
        provokes(
            f"{{tmp}}/settings.yaml:{_line}",
            RequestError if _name in UNREADABLE else SettingsError,
            f"file: {_name}" + (f", {_number + 1}" if _number else ""),
        )(lambda tmp, kind=_kind, text=_text, number=_number: refused(kind, text, tmp, number))


# Files


@provokes("{tmp}/settings.yaml: cannot be read (No such file or directory); name a YAML file", RequestError)
def settings_file_that_is_not_there(tmp: Path) -> None:
    read_document(tmp / "settings.yaml")


@provokes("{tmp}/settings.yaml: holds more than 4 MB; name a YAML file with settings", RequestError)
def enormous_settings_file(tmp: Path) -> None:
    refused("compile", b"#" * (1 << 22) + b"\n", tmp)


@provokes("{tmp}/settings.yaml:2: byte 0xff is not UTF-8; save the file as UTF-8", RequestError)
def settings_file_of_another_encoding(tmp: Path) -> None:
    refused("compile", b"tool: vitis\nname: \xff\n", tmp)


@provokes("{tmp}/settings.yaml:1: is nested deeper than 50; settings are flatter than that", RequestError)
def alias_of_itself(tmp: Path) -> None:
    refused("compile", "name: &a [*a]\n", tmp)


@provokes("{tmp}/settings.yaml:1: stands for more than 100,000 values by its aliases; write fewer", RequestError)
def aliases_of_aliases(tmp: Path) -> None:
    rows = ["a: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    rows += [f"b{n}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]" for n in range(9)]
    refused("compile", "\n".join(rows), tmp)


@provokes("{tmp}/settings.yaml:1: brackets are nested deeper than 50; settings are flatter than that", RequestError)
def brackets_in_brackets(tmp: Path) -> None:
    refused("compile", "[" * 1000, tmp)


@provokes(
    "{tmp}/settings.yaml:1: target_ii: a number of 200 characters is not allowed; write a shorter one",
    SettingsError,
)
def number_of_many_digits(tmp: Path) -> None:
    refused("compile", f"target_ii: {'9' * 200}\n", tmp)


@provokes("{tmp}/config.yml:3: Model.Precision: is given twice, on lines 2 and 3; keep one of them", SettingsError)
def configuration_of_hls4ml_with_a_mistake(tmp: Path) -> None:
    (tmp / "config.yml").write_text("Model:\n  Precision: fixed<16,6>\n  Precision: fixed<18,8>\n")
    onnx.save(layer(), "model.onnx")
    command("audit", "model.onnx", "--hls4ml", tmp / "config.yml")


@provokes("{tmp}/folding.yaml:2: fc: is given twice, on lines 1 and 2; keep one of them", SettingsError)
def folding_with_a_kernel_twice(tmp: Path) -> None:
    (tmp / "folding.yaml").write_text("fc: {pe: 1, simd: 1}\nfc: {pe: 2, simd: 1}\n")
    command("compile", "model.onnx", "-o", "out", "--folding", tmp / "folding.yaml")


# broadaxe config


@provokes("config: 'compil' is no kind of settings; the nearest is compile", RequestError)
def kind_misspelt(tmp: Path) -> None:
    known_kind("compil", ("compile", "quantize", "sweep"))


@provokes("config: 'colours' is no kind of settings; kinds are compile, quantize, sweep", RequestError)
def kind_of_no_command(tmp: Path) -> None:
    known_kind("colours", ("compile", "quantize", "sweep"))


@provokes(
    "{tmp}/settings.yaml:1: no command has settings such as colour; say what the file is for, --for compile,"
    " quantize, sweep, folding, latencies, hls4ml",
    RequestError,
)
def file_of_nobody(tmp: Path) -> None:
    (tmp / "settings.yaml").write_text(REFUSED["nobody's"][0])
    command("config", "check", tmp / "settings.yaml")


@provokes("{tmp}: is a folder; name a file, such as {tmp}/sweep.yaml", RequestError)
def new_settings_on_a_folder(tmp: Path) -> None:
    write_default("sweep", tmp)


@provokes("{tmp}/settings.yaml: exists; choose another name, or replace it with --force", RequestError)
def new_settings_on_others(tmp: Path) -> None:
    (tmp / "settings.yaml").write_text("clock_ns: 4\n")
    write_default("compile", tmp / "settings.yaml")


@provokes(
    "{tmp}/settings/compile.yaml: cannot be written (No such file or directory); choose another place",
    RequestError,
)
def new_settings_into_no_folder(tmp: Path) -> None:
    write_default("compile", tmp / "settings" / "compile.yaml")


# Options and Python


@provokes("input image: type 'byte' is unknown; use int1 to int32, uint1 to uint32 or float32", RequestError)
def input_of_an_unknown_type(tmp: Path) -> None:
    input_type("image", "byte")


@provokes("--tile: 8 needs --acc-bits, the width of a tile's accumulator; give it", SettingsError)
def option_that_needs_another(tmp: Path) -> None:
    command("quantize", "model.onnx", "--calib", "x.npz", "-o", "out.onnx", "--tile", "8")


@provokes("--clock-ns: 0.0 is not allowed; give a number from 0.5 to 1000", SettingsError)
def option_beyond_its_range(tmp: Path) -> None:
    command("compile", "model.onnx", "-o", "out", "--clock-ns", "0")


@provokes("--part: 'ZCU105' is no known device, board or part number; ZCU106 is nearest", SettingsError)
def part_that_is_not_known(tmp: Path) -> None:
    command("compile", "model.onnx", "-o", "out", "--part", "ZCU105")


@provokes("settings: clock: is unknown; the nearest is clock_ns", SettingsError)
def argument_misspelt(tmp: Path) -> None:
    broadaxe.compile("model.onnx", tmp / "out", clock=4)


@provokes("settings: inputs: the key 1 is no text; write it as text", SettingsError)
def key_that_is_no_text(tmp: Path) -> None:
    CompileSettings(inputs={1: "uint8"})


@provokes("settings: inputs.x: type '\\ud800' is unknown; use int1 to int32, uint1 to uint32 or float32", SettingsError)
def type_that_is_no_text(tmp: Path) -> None:
    CompileSettings(inputs={"x": "\ud800"})


@provokes("settings: max_drop: 1 beside search, which is another goal; give one of both", SettingsError)
def goals_that_differ(tmp: Path) -> None:
    QuantConfig(acc_bits=12, search=True, max_drop=1.0)


def sweeping(message: str, name: str, **values: Any) -> None:
    provokes(message, SettingsError, name)(lambda tmp: SweepConfig(**values))


sweeping(
    "settings: acc_bits: 9:8 holds no number; give a range such as 8:20 or 8:20:2 (both ends are in it), or a list"
    " such as 8,10,12",
    "range_upside_down",
    acc_bits="9:8",
)
sweeping(
    "settings: acc_bits: 1:9999 holds more than 1000 numbers; give a range such as 8:20 or 8:20:2 (both ends are in"
    " it), or a list such as 8,10,12",
    "range_of_thousands",
    acc_bits="1:9999",
)
sweeping(
    "settings: acc_bits: nothing is no whole number and no range; give a range such as 8:20 or 8:20:2 (both ends are"
    " in it), or a list such as 8,10,12",
    "list_with_a_gap",
    acc_bits="8,,9",
)
sweeping(
    "settings: acc_bits: holds no number; give a range such as 8:20 or 8:20:2 (both ends are in it), or a list such"
    " as 8,10,12",
    "no_number",
    acc_bits=[],
)
sweeping(
    "settings: acc_bits: True is no whole number and no range; give a range such as 8:20 or 8:20:2 (both ends are in"
    " it), or a list such as 8,10,12",
    "truth_for_a_range",
    acc_bits=True,
)
sweeping(
    "settings: acc_bits: 8.5 is no whole number and no range; give a range such as 8:20 or 8:20:2 (both ends are in"
    " it), or a list such as 8,10,12",
    "fraction_for_a_range",
    acc_bits=8.5,
)
sweeping(
    "settings: methods: 4 is no list of methods; give names such as [best, axe] or best,axe",
    "number_for_methods",
    acc_bits=8,
    methods=4,
)
sweeping(
    "settings: quantize.preset: is what a sweep varies; leave it out",
    "preset_of_every_run",
    acc_bits=8,
    quantize={"preset": "axe"},
)
