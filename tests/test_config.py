"""Settings files: what `broadaxe config` writes and checks, and every message about settings from files, options and Python."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from models import small_cnn
from pydantic import ValidationError

import broadaxe
from broadaxe.config import CompileSettings, compile_settings
from broadaxe.configuration import settings as base
from broadaxe.configuration.allowed import schema_of
from broadaxe.configuration.complaints import MOST_LINES, SettingsError
from broadaxe.configuration.default_file import default_file, write_default
from broadaxe.configuration.document import read_document
from broadaxe.configuration.kinds import FILE_KINDS, KINDS, check_file, model_of
from broadaxe.configuration.settings import WORDINGS, Settings, configured
from broadaxe.errors import RequestError
from broadaxe.quantization.config import QuantConfig
from broadaxe.sweeps.config import SweepConfig

MODELS: dict[str, type[Settings]] = {"compile": CompileSettings, "quantize": QuantConfig, "sweep": SweepConfig}
COUNT = "give a whole number from 1 to 2147483647"
SHAPES = "give a range such as 8:20 or 8:20:2 (both ends are in it), or a list such as 8,10,12"
WRITE = "write {}, a whole number from 1 to 2147483647"
METHODS = "is no list of methods; give names such as [best, axe] or best,axe"
FOLD = "give a mapping, such as {pe: 8, simd: 4}"


def lines_of(call, *arguments: Any, **options: Any) -> list[str]:
    """All lines of a refusal."""
    with pytest.raises(RequestError) as refusal:
        call(*arguments, **options)
    assert refusal.value.lines[0] == str(refusal.value)
    assert refusal.value.exit_code == 2
    return list(refusal.value.lines)


def defaults(kind: str) -> Settings:
    return SweepConfig(acc_bits="8:20") if kind == "sweep" else MODELS[kind]()


def given_in(path: Path, kind: str, text: str) -> Settings:
    path.write_text(text)
    return configured(MODELS[kind], path, {})


# the file that is written


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_file_is_the_default(kind: str, tmp_path: Path) -> None:
    made = given_in(tmp_path / "s.yaml", kind, default_file(kind))
    assert made == defaults(kind)
    assert made.model_dump() == defaults(kind).model_dump()
    only = {name for name, field in schema_of(MODELS[kind])["properties"].items() if "only" in field}
    assert not made.model_fields_set & (only | {"multipliers"})  # to be given at all means something there


@pytest.mark.parametrize("kind", KINDS)
def test_other_readers_of_yaml_see_the_same(kind: str, tmp_path: Path) -> None:
    text = default_file(kind)
    every = re.sub(r"^#(?=\w)", "", text, flags=re.MULTILINE)
    (tmp_path / "s.yaml").write_text(every)
    assert yaml.safe_load(every) == read_document(tmp_path / "s.yaml").values


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_occurs_once_under_a_comment_that_says_what_it_may_be(kind: str) -> None:
    text = default_file(kind)
    written = re.findall(r"^# Allowed: [^\n]*(?:\n# [^\n]*)*\n#?(\w+): \S", text, flags=re.MULTILINE)
    assert sorted(written) == sorted(MODELS[kind].model_fields)
    assert all(field.description for field in MODELS[kind].model_fields.values())
    assert max(len(line) for line in text.splitlines()) <= 120
    assert "\n\n\n" not in text


def examples(kind: str) -> dict[str, str]:
    """Lines that are examples, by setting."""
    return {name: line for line, name in re.findall(r"^#((\w+): .*)$", default_file(kind), flags=re.MULTILINE)}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in examples(kind)])
def test_each_example_is_allowed(kind: str, name: str, tmp_path: Path) -> None:
    """Alone, and with what its comment says that it needs."""
    text = default_file(kind)
    one = text.replace(f"#{examples(kind)[name]}\n", f"{examples(kind)[name]}\n")
    needs = schema_of(MODELS[kind])["properties"][name].get("needs", {})
    if needs:
        with pytest.raises(SettingsError, match=rf":\d+: {name}: .*{next(iter(needs))}"):
            given_in(tmp_path / "s.yaml", kind, one)
    for other, value in needs.items():
        assert f"{other}: {value}" in text.replace("#", "")
        one = re.sub(rf"^#?{other}: .*$", f"{other}: {value}", one, flags=re.MULTILINE)
    made = given_in(tmp_path / "s.yaml", kind, one)
    assert made.model_fields_set >= {name, *needs}


@pytest.mark.parametrize("kind", KINDS)
def test_all_examples_together_are_allowed_but_for_alternatives(kind: str, tmp_path: Path) -> None:
    fields = schema_of(MODELS[kind])["properties"]
    text = default_file(kind)
    for name, line in examples(kind).items():
        if "instead_of" not in fields[name]:
            text = text.replace(f"#{line}\n", f"{line}\n")
    for field in fields.values():
        for other, value in field.get("needs", {}).items():
            text = re.sub(rf"^{other}: .*$", f"{other}: {value}", text, flags=re.MULTILINE)
    made = given_in(tmp_path / "s.yaml", kind, text)
    assert made.model_fields_set == {name for name, field in fields.items() if "instead_of" not in field}


def test_a_new_file_replaces_nothing_unless_told(run, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    code, out, err = run("config", "new", "compile", "-o", path)
    told = f"wrote {path}: every setting of broadaxe compile\nnext: edit it, then broadaxe config check {path}\n"
    assert (code, out, err) == (0, told, "")
    assert path.read_text() == default_file("compile")
    assert run("config", "new", "compile") == (0, default_file("compile"), "")
    path.write_text("clock_ns: 4\n")
    refused = f"error: {path}: exists; choose another name, or replace it with --force\n"
    assert run("config", "new", "compile", "-o", path) == (2, "", refused)
    assert path.read_text() == "clock_ns: 4\n"
    assert run("config", "new", "quantize", "-o", path, "--force")[0] == 0
    assert path.read_text() == default_file("quantize")
    assert [p.name for p in tmp_path.iterdir()] == ["settings.yaml"]


def test_places_where_no_file_can_be(run, tmp_path: Path) -> None:
    assert run("config", "new", "sweep", "-o", tmp_path, "--force") == (
        2,
        "",
        f"error: {tmp_path}: is a folder; name a file, such as {tmp_path / 'sweep.yaml'}\n",
    )
    nowhere = tmp_path / "none" / "s.yaml"
    message = f"{nowhere}: cannot be written (No such file or directory); choose another place"
    assert lines_of(write_default, "sweep", nowhere) == [message]
    assert list(tmp_path.iterdir()) == []


# mistakes in files

MISTAKES: dict[str, tuple[str, str, list[str]]] = {
    # YAML
    "no space": ("compile", "tool:vitis\n", ["1: tool:vitis has no space behind the colon; write tool: vitis"]),
    "no space, then more": (
        "compile",
        "clock_ns: 4\ntool:vitis\n",
        ["2: tool:vitis has no space behind the colon; write tool: vitis"],
    ),
    "no space in braces": (
        "compile",
        "folding:\n  conv0: {pe:2, simd: 2}\n",
        ["2: folding.conv0: pe:2 has no space behind the colon; write pe: 2"],
    ),
    "no colon": ("compile", "tool vitis\n", ["1: holds a single value; write one `setting: value` a line"]),
    "no colon, then more": (
        "compile",
        "clock_ns: 4\ntool vitis\n",
        ["2: is no `setting: value`; write a colon and a space behind the key"],
    ),
    "two colons": ("compile", "name: a: b\n", ["1: a second colon on one line; put text that holds `: ` into quotes"]),
    "too deep": (
        "compile",
        "tool: vitis\n  clock_ns: 4\n",
        ["2: is indented deeper than the line before, which has a value already; align keys of one mapping"],
    ),
    "between": (
        "compile",
        "folding:\n  conv0: {pe: 2, simd: 2}\n conv1: {pe: 1, simd: 1}\n",
        ["3: is indented unlike the lines before it; align keys of one mapping"],
    ),
    "tab": ("compile", "folding:\n\tconv1: {lanes: 1}\n", ["2: a tab cannot indent YAML; use spaces"]),
    "open brace": (
        "compile",
        "folding: {conv0: {pe: 2, simd: 2}\nclock_ns: 5\n",
        ["1: { is opened here, and line 2 has neither , nor }; close it"],
    ),
    "open bracket": (
        "sweep",
        "methods: [axe, best\nacc_bits: 8\n",
        ["1: [ is opened here, and line 2 has neither , nor ]; close it"],
    ),
    "open to the end": ("compile", "a: 1\nname: [x\n", ["2: a bracket is opened here and not closed; close it"]),
    "closed only": (
        "compile",
        "name: x\n]\n",
        ["2: ] closes or separates nothing; open it with [ or {, or leave it out"],
    ),
    "open quote": ("compile", "name: 'x\nclock_ns: 5\n", ["1: the quote that is opened here is not closed; close it"]),
    "backslash": ("compile", 'name: "a\\d"\n', ["1: \\ is special inside double quotes; use single quotes"]),
    "at": ("compile", "name: @x\n", ["1: text cannot start with @ without quotes; put it into quotes"]),
    "star": (
        "compile",
        "clock_ns: 5\nrequantizers: {*: table}\n",
        ["2: text cannot start with * or & without quotes; put it into quotes, such as '*'"],
    ),
    "alias": (
        "compile",
        "name: *x\n",
        ["1: *x stands for nothing, there is no &x before it; put text with * into quotes"],
    ),
    "two documents": (
        "compile",
        "name: x\n---\ntool: vitis\n",
        ["2: a second document starts here; a settings file holds one, without further ---"],
    ),
    "twice": (
        "compile",
        "clock_ns: 5\ntool: vitis\nclock_ns: 6\n",
        ["3: clock_ns: is given twice, on lines 1 and 3; keep one of them"],
    ),
    "twice, inside": (
        "compile",
        "folding:\n  c: {lanes: 1}\n  c: {lanes: 2}\n",
        ["3: folding.c: is given twice, on lines 2 and 3; keep one of them"],
    ),
    "key of a list": ("compile", "? [a]\n: 3\n", ["1: a list or mapping as a key is not allowed; keys are text"]),
    "merge": (
        "compile",
        "<<: {tool: vitis}\n",
        ["1: merge keys, <<, are not supported; write the keys out, or an alias *name"],
    ),
    "tag": ("compile", "name: !!int x\n", ["1: name: the tag !!int is not allowed; leave it out"]),
    "program": (
        "compile",
        "!!python/object/apply:os.system [x]\n",
        ["1: the tag !!python/object/apply:os.system is not allowed; leave it out"],
    ),
    "bell": ("compile", "tool: vitis\nname: x\a\n", ["2: the character '\\x07' is not allowed in YAML; remove it"]),
    "list": ("compile", "- tool: vitis\n", ["1: holds a list; write one `setting: value` a line"]),
    # values that YAML reads in its own way
    "octal": (
        "compile",
        "folding:\n  conv1:\n    pe: 8\n    simd: 012\n",
        [
            "4: folding.conv1.simd: 012 is 10 to some YAML readers (octal) and 12 to others; write 12 or, if it is text, '012'"
        ],
    ),
    "leading zero": (
        "compile",
        "target_ii: 09\n",
        ["1: target_ii: 09 starts with 0; write 9 or, if it is text, '09'"],
    ),
    "true as a count": (
        "compile",
        "folding:\n  conv1: {pe: true, simd: 4}\n",
        [f"2: folding.conv1.pe: true is not allowed; {COUNT}"],
    ),
    "yes": ("quantize", "search: yes\n", ["1: search: 'yes' is not allowed; use true or false"]),
    "float as a count": (
        "compile",
        "target_ii: 64.0\n",
        [f"1: target_ii: 64.0 is not allowed; {WRITE.format(64)}"],
    ),
    "exponent as a count": (
        "compile",
        "target_ii: 1e3\n",
        [f"1: target_ii: 1000.0 is not allowed; {WRITE.format(1000)}"],
    ),
    "number in quotes": (
        "compile",
        'clock_ns: "5"\n',
        ["1: clock_ns: '5' is text, because of its quotes; write 5, a number from 0.5 to 1000"],
    ),
    "unit": ("compile", "clock_ns: 5 ns\n", ["1: clock_ns: '5 ns' is not allowed; give a number from 0.5 to 1000"]),
    "percent": ("quantize", "max_drop: 1%\n", ["1: max_drop: '1%' is not allowed; give a number from 0 to 100"]),
    "not finite": (
        "compile",
        "clock_ns: .nan\ntarget_fps: .inf\n",
        [
            "1: clock_ns: nan is no finite number; give a number from 0.5 to 1000",
            "2: target_fps: inf is no finite number; give a number above 0, up to 2147483647",
        ],
    ),
    "number as a name": (
        "compile",
        "name: 7\n",
        ["1: name: 7 is no text; give text, in quotes if it looks like a number"],
    ),
    # what is no setting
    "misspelt": ("compile", "clok_ns: 5\n", ["1: clok_ns: is unknown; the nearest is clock_ns"]),
    "like an option": ("compile", "# x\nclock-ns: 5\n", ["2: clock-ns: is unknown; the nearest is clock_ns"]),
    "several near": (
        "quantize",
        "layers:\n  conv1:\n    acc_bit: 3\n",
        ["3: layers.conv1.acc_bit: is unknown; the nearest are acc_bits or act_bits"],
    ),
    "nothing near": (
        "compile",
        "folding:\n  conv1: {pe: 1, simd: 1, x: 1}\n",
        ["2: folding.conv1.x: is unknown; known settings are pe, simd, multiplier"],
    ),
    "of another command": (
        "sweep",
        "acc_bits: 8\npreset: best\n",
        [f"2: preset: is unknown; known settings are {', '.join(SweepConfig.model_fields)}"],
    ),
    # values
    "choice": ("compile", "tool: Vitis\n", ["1: tool: 'Vitis' is not allowed; use vitis or vivado"]),
    "part": (
        "compile",
        "tool: vitis\npart: zcu105\n",
        ["2: part: 'zcu105' is no known device, board or part number; ZCU106 is nearest"],
    ),
    "type": (
        "compile",
        "inputs:\n  x: int99\n  y: 8\n",
        [
            "2: inputs.x: type 'int99' is unknown; use int1 to int32, uint1 to uint32 or float32",
            "3: inputs.y: 8 is no text; give a type: int1 to int32, uint1 to uint32 or float32, in quotes if it looks like"
            " a number",
        ],
    ),
    "option's spelling": (
        "compile",
        "inputs: x:uint8\n",
        ["1: inputs: 'x:uint8' is not allowed; give a mapping, such as {image: uint8}"],
    ),
    "kernels": (
        "compile",
        "folding:\n  a: 8\n  b: {pe: 1}\n  c:\n  d: {lanes: 0}\n",
        [
            f"2: folding.a: 8 is not allowed; {FOLD}",
            f"3: folding.b.simd: is missing; {COUNT}",
            f"4: folding.c: nothing is not allowed; {FOLD}",
            f"5: folding.d.lanes: 0 is not allowed; {COUNT}",
        ],
    ),
    "folding": (
        "compile",
        "folding: conv1\n",
        ["1: folding: 'conv1' is not allowed; give a mapping, such as {conv1: {pe: 8, simd: 4}, window1: {lanes: 4}}"],
    ),
    "layer": (
        "quantize",
        "layers: {fc: 4}\n",
        ["1: layers.fc: 4 is not allowed; give a mapping, such as {acc_bits: 12}"],
    ),
    "range": ("sweep", "acc_bits: 8-20\n", [f"1: acc_bits: '8-20' is no whole number and no range; {SHAPES}"]),
    "element": ("sweep", "acc_bits: [8, 9.5]\n", [f"1: acc_bits: 9.5 is no whole number and no range; {SHAPES}"]),
    "end of a range": (
        "sweep",
        "acc_bits: 40:60\n",
        ["1: acc_bits: 49 is not allowed; give a whole number from 1 to 48"],
    ),
    "method": (
        "sweep",
        "acc_bits: 8\nmethods: [axe, gptq]\n",
        [
            "2: methods: 'gptq' is not allowed; use axe, axe-search, best, project, project-search, optq, gpfq or rtn",
        ],
    ),
    "no methods": (
        "sweep",
        "acc_bits: 8\nmethods: []\n",
        [
            "2: methods: nothing is not allowed; give at least one of axe, axe-search, best, project, project-search, optq,"
            " gpfq or rtn"
        ],
    ),
    "methods": (
        "sweep",
        "acc_bits: 8\nmethods: 4\n",
        [f"2: methods: 4 {METHODS}"],
    ),
    "settings of runs": (
        "sweep",
        "acc_bits: 8\nquantize:\n  scales: x\n  preset: best\n  tilee: 3\n",
        [
            "3: quantize.scales: 'x' is not allowed; use float, pow2 or dyadic:8",
            "4: quantize.preset: is what a sweep varies; leave it out",
            "5: quantize.tilee: is unknown; the nearest is tile",
        ],
    ),
    # what settings say together
    "two targets": (
        "compile",
        "target_fps: 10\ntarget_ii: 20\n",
        ["2: target_ii: 20 beside target_fps 10; give one of both"],
    ),
    "fixed weights": (
        "compile",
        "accumulators: {'*': 14}\n",
        ["1: accumulators: are sized to fixed weights; give weights runtime to choose their widths"],
    ),
    "no register": (
        "compile",
        "weights: runtime\ncontrol: ap_ctrl_none\n",
        ["2: control: ap_ctrl_none has no register that starts a load; with weights runtime use s_axilite"],
    ),
    "goals": (
        "quantize",
        "tile: 8\nsearch: true\nmax_drop: 1\n",
        [
            "1: tile: 8 needs acc_bits, the width of a tile's accumulator; give it",
            "2: search: needs acc_bits, the budget under which bits are chosen; give it",
            "3: max_drop: 1 beside search, which is another goal; give one of both",
        ],
    ),
    "no budget": ("sweep", "# x\nweight_bits: 4\n", [f"1: acc_bits: is missing, axe-search needs a budget; {SHAPES}"]),
}


NO_YAML = {
    *("no space", "no space, then more", "no colon", "no colon, then more", "two colons", "too deep", "between", "tab"),
    *("open brace", "open bracket", "open to the end", "closed only", "open quote", "backslash", "at", "star", "alias"),
    *("two documents", "program", "bell", "list"),
}
"""Mistakes behind which a file cannot be read on: there is one line for them, whatever follows."""


@pytest.mark.parametrize(("kind", "text", "wanted"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_has_line_place_value_and_remedy(kind: str, text: str, wanted: list[str], tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    lines = [f"{path}:{line}" for line in wanted]
    assert lines_of(configured, MODELS[kind], path, {}) == lines
    assert lines_of(check_file, path, kind) == lines


@pytest.mark.parametrize("label", MISTAKES)
def test_reading_goes_on_where_it_can(label: str, tmp_path: Path) -> None:
    """Behind a mistake comes another one, which is told as well unless the first left no YAML."""
    kind, text, _ = MISTAKES[label]
    path = tmp_path / "s.yaml"
    path.write_text(f"{text}speed: 3\n")
    lines = lines_of(configured, MODELS[kind], path, {})
    if label in NO_YAML:
        assert len(lines) == 1
    else:
        assert lines[-1].startswith(f"{path}:{len(text.splitlines()) + 1}: speed: is unknown; known settings are ")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(b"tool: vitis\nname: \xff\n")
    assert lines_of(read_document, path) == [f"{path}:2: byte 0xff is not UTF-8; save the file as UTF-8"]
    path.write_bytes(b"\xef\xbb\xbftool: vitis\r\n")  # as some editors of other systems write it
    assert read_document(path).values == {"tool": "vitis"}
    path.write_bytes(b"#" * (1 << 22) + b"\n")
    assert lines_of(read_document, path) == [f"{path}: holds more than 4 MB; name a YAML file with settings"]
    assert lines_of(read_document, tmp_path) == [f"{tmp_path}: cannot be read (Is a directory); name a YAML file"]


def test_aliases_that_are_bounded_and_those_that_are_not(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("folding:\n  conv1: &both {pe: 2, simd: 3}\n  conv2: *both\n")
    assert configured(CompileSettings, path, {}).model_dump()["folding"] == {
        name: {"pe": 2, "simd": 3, "multiplier": None} for name in ("conv1", "conv2")
    }
    path.write_text("name: &a [*a]\n")
    assert lines_of(read_document, path) == [f"{path}:1: is nested deeper than 50; settings are flatter than that"]
    rows = ["a: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    rows += [f"b{n}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]" for n in range(9)]
    path.write_text("\n".join(rows))
    message = "stands for more than 100,000 values by its aliases; write fewer"
    assert lines_of(read_document, path) == [f"{path}:1: {message}"]


def test_values_that_yaml_1_1_would_change(tmp_path: Path) -> None:
    """8:20 is 500 there, off is false, 1e3 is text, a date is a date."""
    path = tmp_path / "s.yaml"
    path.write_text("acc_bits: 8:20\n")
    assert configured(SweepConfig, path, {}).acc_bits == tuple(range(8, 21))
    path.write_text("bias_correction: on\n")
    assert configured(QuantConfig, path, {}).bias_correction == "on"
    path.write_text("target_fps: 1e3\nname: 2026-99-99\nmax_lut: 50_000\nrequantizers: {no: table}\n")
    made = configured(CompileSettings, path, {})
    assert (made.target_fps, made.name, made.max_lut) == (1000.0, "2026-99-99", 50_000)
    assert made.requantizers == {"no": "table"}


def test_what_is_empty_has_its_default(tmp_path: Path) -> None:
    for text in ("", "# nothing\n", "tool:\nclock_ns: ~\nfolding: null\n"):
        assert given_in(tmp_path / "s.yaml", "compile", text) == CompileSettings()


def test_many_mistakes_end(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("folding:\n" + "".join(f"  c{n}: {{lanes: 0}}\n" for n in range(50)))
    lines = lines_of(configured, CompileSettings, path, {})
    assert lines[:-1] == [f"{path}:{n + 2}: folding.c{n}.lanes: 0 is not allowed; {COUNT}" for n in range(MOST_LINES)]
    assert lines[-1] == "... and 30 more mistakes; mend these first"


scalars = st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text("abcdef ghi", max_size=8)
keys = st.text("abcxyz_*", min_size=1)
mappings = st.recursive(
    scalars, lambda inside: st.lists(inside, max_size=3) | st.dictionaries(keys, inside), max_leaves=8
)


@settings(max_examples=60)
@given(values=st.dictionaries(keys, mappings, max_size=4), flow=st.booleans())
def test_what_another_program_wrote_is_read(tmp_path_factory: pytest.TempPathFactory, values: Any, flow: bool) -> None:
    path = tmp_path_factory.mktemp("written") / "s.yaml"
    path.write_text(yaml.safe_dump(values, default_flow_style=flow))
    assert read_document(path).values == values


CHARACTERS = st.text("ab01:-,[]{}&*!|>'\"%@`#?~<. \n\t\\\x00é", max_size=40)


@settings(max_examples=400)
@given(text=CHARACTERS, kind=st.sampled_from(FILE_KINDS))
def test_any_text_is_read_or_refused_in_our_words(
    tmp_path_factory: pytest.TempPathFactory, text: str, kind: str
) -> None:
    path = tmp_path_factory.mktemp("text") / "s.yaml"
    path.write_text(text)
    try:
        check_file(path, kind)
    except RequestError as error:
        for line in error.lines:
            assert re.match(rf"{re.escape(str(path))}(:\d+)?: .+; .+|\.\.\. and", line), line
            assert not FOREIGN.search(line), line


# pydantic's words

FOREIGN = re.compile(
    r"Input should|Extra inputs|Field required|Value error|validation error|[Uu]nable to|valid (integer|number|string"
    r"|dictionary|tuple|boolean)|instance of|found character|expected <|while (parsing|scanning)|mapping values"
)
WRONG: tuple[Any, ...] = (
    *(True, -1, 0, 10**30, 3.5, 4.0, float("nan"), float("inf"), -float("inf"), "", "x", "8", "1e3", "\ud800"),
    *(b"x", [], [1], ["x"], ["\ud800"], (), {}, {"x": 1}, {1: 2}, {"x": {}}, {"x": {"pe": 1, "simd": True, "z": 1}}),
    *({"x": {"lanes": "1"}}, {"x": "y"}, {"x": "\ud800"}, {"x": None}, {"x": float("inf")}, object(), {1, 2}),
    *(datetime.date(2026, 1, 1), {"x": {"acc_bits": 0, "tile": 1}}, {"x": 2.5}, {"x": {"pe": b"1"}}),
)


@pytest.fixture
def kinds_of_error(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Types of all that pydantic found wrong meanwhile."""
    seen: set[str] = set()
    real = base.complaints_of

    def watched(model: Any, error: ValidationError, origin: Any) -> Any:
        seen.update(entry["type"] for entry in error.errors())
        return real(model, error, origin)

    monkeypatch.setattr(base, "complaints_of", watched)
    return seen


def test_each_kind_of_error_has_words_of_ours(kinds_of_error: set[str]) -> None:
    """Every setting of every model with every kind of wrong value: what pydantic says of it is known, and not repeated."""
    refused = 0
    for model in MODELS.values():
        for name in [*model.model_fields, "speed"]:
            for value in WRONG:
                try:
                    model(**{name: value})
                except RequestError as error:
                    refused += 1
                    for line in error.lines:
                        assert not FOREIGN.search(line), line
                        assert re.fullmatch(r"settings: [^;]+; [^\n]+", line), line
                        assert line.isprintable()
    assert refused > 1000
    assert kinds_of_error == {*WORDINGS, "extra_forbidden", "value_error"}


def test_an_error_that_is_not_known_keeps_our_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer pydantic may have new names for what is wrong."""
    monkeypatch.setattr(base, "WORDINGS", {})
    assert lines_of(CompileSettings, clock_ns=0) == [
        "settings: clock_ns: 0 is not allowed; give a number from 0.5 to 1000"
    ]


# Python and options


def test_settings_from_python_name_all_mistakes() -> None:
    assert lines_of(QuantConfig, acc_bits=99, preset="good", bits=3) == [
        "settings: preset: 'good' is not allowed; use axe, axe-search, best, rtn, project or project-search",
        "settings: acc_bits: 99 is not allowed; give a whole number from 1 to 48",
        "settings: bits: is unknown; the nearest are act_bits or acc_bits",
    ]
    assert lines_of(QuantConfig, acc_bits=True) == [
        "settings: acc_bits: True is not allowed; give a whole number from 1 to 48"
    ]
    assert lines_of(CompileSettings, requantizers={3: "table"}) == [
        "settings: requantizers: the key 3 is no text; write it as text"
    ]


def test_numbers_of_numpy_are_numbers() -> None:
    made = QuantConfig(acc_bits=np.int64(12), damping=np.float32(0.5), layers={"a": {"tile": np.uint8(8)}})
    assert (made.acc_bits, made.damping, made.layers["a"].tile) == (12, 0.5, 8)
    assert type(made.acc_bits) is int


def test_options_are_named_as_they_are_written(tmp_path: Path) -> None:
    options = {"acc_bits": 99, "tile": None, "max_drop": -1.0, "preset": None}
    assert lines_of(configured, QuantConfig, None, options) == [
        "--acc-bits: 99 is not allowed; give a whole number from 1 to 48",
        "--max-drop: -1.0 is not allowed; give a number from 0 to 100",
    ]
    assert lines_of(configured, QuantConfig, None, {"tile": 8, "acc_bits": None}) == [
        "--tile: 8 needs --acc-bits, the width of a tile's accumulator; give it"
    ]
    given = {"inputs": {"x": "uint99"}, "requantizers": {"*": "magic"}}
    assert lines_of(compile_settings, options=given) == [
        "--input.x: type 'uint99' is unknown; use int1 to int32, uint1 to uint32 or float32",
        "--requantizer: 'magic' is not allowed; use constant, shift, multiply-shift, thresholds, threshold-search or table",
    ]
    path = tmp_path / "s.yaml"
    path.write_text("max_drop: 200\nacc_bits: 99\nsearch: true\n")
    assert lines_of(configured, QuantConfig, path, {"acc_bits": 8, "tile": None, "scales": "x"}) == [
        "--scales: 'x' is not allowed; use float, pow2 or dyadic:8",
        f"{path}:1: max_drop: 200 is not allowed; give a number from 0 to 100",
    ]
    path.write_text("max_drop: 2\nacc_bits: 9\n")
    assert lines_of(configured, QuantConfig, path, {"acc_bits": 8, "search": True}) == [
        f"{path}:1: max_drop: 2 beside --search, which is another goal; give one of both"
    ]


def test_what_only_the_model_shows_is_placed_as_well(tmp_path: Path) -> None:
    """A model with quantizers of its own: settings of float models are refused where they were given."""
    model = small_cnn()
    rows = np.zeros((4, 2, 6, 6), np.float32)
    path = tmp_path / "s.yaml"
    cases = {
        "acc_bits: 12\nact_bits: 4\n": f"{path}:2: act_bits: is for float models, this one has quantizers of its own;"
        " leave it out",
        "layers:\n  none*: {acc_bits: 12}\n": f"{path}:2: layers.none*: no layer has such a name; there are conv1, gemm1",
        "acc_bits: 12\nsearch: true\n": f"{path}:2: search: there are no validation rows to choose by; give some (--val)",
    }
    for text, message in cases.items():
        config = given_in(path, "quantize", text)
        assert isinstance(config, QuantConfig)
        assert lines_of(broadaxe.quantize, model, rows, config) == [message]
    option = configured(QuantConfig, None, {"act_bits": 4})
    (line,) = lines_of(broadaxe.quantize, model, rows, option)
    assert line.startswith("--act-bits: is for float models")
    path.write_text("# lanes\nconv0: {pe: 3, simd: 1}\n")
    (line,) = lines_of(broadaxe.compile, model, tmp_path / "build", settings=compile_settings(folding=path))
    assert line == f"{path}:2: conv0: pe 3 does not divide the layer; pe may be 1, 2, 4"
    path.write_text("tool: vitis\nfolding:\n  conv9: {pe: 1, simd: 1}\n")
    (line,) = lines_of(broadaxe.compile, model, tmp_path / "build", settings=compile_settings(path))
    assert line == f"{path}:3: folding.conv9: there is no such layer; layers are conv0, gemm0"


def test_the_command_prints_a_line_for_each_mistake(run, tmp_path: Path) -> None:
    config, folding, latencies = (tmp_path / f"{name}.yaml" for name in ("s", "f", "l"))
    config.write_text("clok_ns: 4\ntool: quartus\n")
    folding.write_text("conv0:\n  pe: 0\n  simd: 1\n")
    latencies.write_text("conv0: 9\nconv1: 1.5\n")
    code, out, err = run(
        *("compile", tmp_path / "m.onnx", "-o", tmp_path / "build", "--config", config, "--folding", folding),
        *("--latencies", latencies, "--clock-ns", "0"),
    )
    assert (code, out) == (2, "")
    assert sorted(err.splitlines()) == sorted(
        [
            "error: --clock-ns: 0.0 is not allowed; give a number from 0.5 to 1000",
            f"error: {config}:1: clok_ns: is unknown; the nearest is clock_ns",
            f"error: {config}:2: tool: 'quartus' is not allowed; use vitis or vivado",
            f"error: {folding}:2: conv0.pe: 0 is not allowed; {COUNT}",
            f"error: {latencies}:2: conv1: 1.5 is not allowed; give a whole number from 0 to 65536",
        ]
    )
    assert not (tmp_path / "build").exists()


# the check

FILES = {
    "compile": (
        "clock_ns: 4\npart: ZCU104\n",
        "2 settings of compile, all allowed",
        "broadaxe compile MODEL.onnx -o BUILD --config",
    ),
    "quantize": ("acc_bits: 12\ntile: 64\n", "2 settings of quantize, all allowed", None),
    "sweep": ("acc_bits: 8:12\nmethods: axe\n", "2 settings of sweep, all allowed", None),
    "either": ("acc_bits: 12\n", "1 setting of quantize or sweep, all allowed", None),
    "empty": ("", "holds no settings, so that everything has its default", None),
    "folding": (
        "conv1: {pe: 8, simd: 4}\nwindow1: {lanes: 4}\n",
        "folding of 2 kernels, all allowed; their names are looked up when the model is known",
        "broadaxe compile MODEL.onnx -o BUILD --folding",
    ),
    "latencies": (
        "conv1: 9\n",
        "latencies of 1 kernel, all allowed; their names are looked up when the model is known",
        "broadaxe compile MODEL.onnx -o BUILD --latencies",
    ),
    "hls4ml": (
        "Model: {Precision: {default: 'fixed<16,6>'}}\n",
        "an hls4ml configuration; its layers are looked up when the model is known",
        "broadaxe audit MODEL.onnx --hls4ml",
    ),
}


@pytest.mark.parametrize(("text", "told", "use"), FILES.values(), ids=FILES)
def test_the_kind_is_found_by_its_keys(text: str, told: str, use: str | None, run, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    code, out, err = run("config", "check", path)
    assert (code, out.splitlines()[0], err) == (0, f"{path}: {told}", "")
    if use is not None:
        assert out.splitlines()[1:] == [f"next: {use} {path}"]


REFUSED = {
    "misspelt only": ("clok_ns: 4\n", [], ["{}:1: clok_ns: is unknown; the nearest is clock_ns"]),
    "said otherwise": (
        "clock_ns: 4\n",
        ["--for", "quantize"],
        [f"{{}}:1: clock_ns: is unknown; known settings are {', '.join(QuantConfig.model_fields)}"],
    ),
    "kernels": ("conv1: {pe: 8, simd: x}\n", [], [f"{{}}:1: conv1.simd: 'x' is not allowed; {COUNT}"]),
    "several": (
        "tool: x\nclock_ns: 0\n",
        [],
        [
            "{}:1: tool: 'x' is not allowed; use vitis or vivado",
            "{}:2: clock_ns: 0 is not allowed; give a number from 0.5 to 1000",
        ],
    ),
    "nobody's": (
        "colour: red\n",
        [],
        [
            "{}:1: no command has settings such as colour; say what the file is for, --for compile, quantize, sweep, folding,"
            " latencies, hls4ml"
        ],
    ),
    "unknown kind": ("", ["--for", "compil"], ["config: 'compil' is no kind of settings; the nearest is compile"]),
}


@pytest.mark.parametrize(("text", "options", "wanted"), REFUSED.values(), ids=REFUSED)
def test_what_the_check_refuses(text: str, options: list[str], wanted: list[str], run, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    code, out, err = run("config", "check", path, *options)
    assert (code, out) == (2, "")
    assert err.splitlines() == [f"error: {line.format(path)}" for line in wanted]


def test_models_of_kinds_have_every_setting_in_one_section() -> None:
    for kind in KINDS:
        model = model_of(kind)
        assert model is MODELS[kind]
        assert sorted(name for _, names in model.sections for name in names) == sorted(model.model_fields)


@pytest.mark.parametrize("text", ["0x", "0x_", "0o_", "0b", "0b__"])
def test_a_base_without_digits_is_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.yaml").write_text(f"name: {text}\n")
    assert read_document(tmp_path / "s.yaml").values == {"name": text}


def test_nothing_inside_a_value_is_shown_as_yaml_has_it(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("max_dsp: {x: null}\n")
    message = f"{tmp_path}/s.yaml:1: max_dsp: {{'x': null}} is not allowed; give a whole number from 0 to 2147483647"
    assert lines_of(check_file, tmp_path / "s.yaml") == [message]
