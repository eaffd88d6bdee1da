"""What a wrong command line is told: one line that names the place, and the nearest of what there is; exit code 2."""

from __future__ import annotations

import pytest

COMPILE = ("compile", "m.onnx", "-o", "build")
WRONG = {
    "a command": (
        ["compil"],
        "broadaxe: no command 'compil'; did you mean `broadaxe compile`? `broadaxe --help` lists them",
    ),
    "a command like no other": (["zzz"], "broadaxe: no command 'zzz'; `broadaxe --help` lists them"),
    "a command below another": (
        ["config", "chek"],
        "broadaxe config: no command 'chek'; did you mean `broadaxe config check`? `broadaxe config --help` lists them",
    ),
    "an option of all": (
        ["--verson"],
        "broadaxe: no option '--verson'; did you mean --version? `broadaxe --help` lists them",
    ),
    "an option": (
        [*COMPILE, "--targt-fps", "3"],
        "broadaxe compile: no option '--targt-fps'; did you mean --target-fps? `broadaxe compile --help` lists them",
    ),
    "an option like no other": (
        [*COMPILE, "--zzz"],
        "broadaxe compile: no option '--zzz'; `broadaxe compile --help` lists them",
    ),
    "a short option": (
        ["report", "build", "-j"],
        "broadaxe report: no option '-j'; `broadaxe report --help` lists them",
    ),
    "no argument": (
        ["compile"],
        "broadaxe compile: MODEL.onnx is missing; for example `broadaxe compile model.onnx -o build`",
    ),
    "no option that is needed": (
        ["compile", "m.onnx"],
        "broadaxe compile: --output is missing; for example `broadaxe compile model.onnx -o build`",
    ),
    "no value": (["compile", "m.onnx", "-o"], "broadaxe compile: -o: has no value; give one, -o BUILD"),
    "a value of a flag": (["report", "build", "--json=3"], "broadaxe report: --json: takes no value; give it alone"),
    "an argument too many": (
        ["report", "build", "other"],
        "broadaxe report: 'other' is more than it takes; see `broadaxe report --help`",
    ),
    "two arguments too many": (
        ["report", "build", "other", "one"],
        "broadaxe report: 'other one' is more than it takes; see `broadaxe report --help`",
    ),
    "no whole number": (
        [*COMPILE, "--target-ii", "1.5"],
        "broadaxe compile: --target-ii: '1.5' is not a whole number; give one",
    ),
    "no number": ([*COMPILE, "--clock-ns", "fast"], "broadaxe compile: --clock-ns: 'fast' is not a number; give one"),
    "a number too small": (
        ["cosim", "build", "--timeout", "0.5"],
        "broadaxe cosim: --timeout: 0.5 is too small; give 1 or more",
    ),
    "a choice": (
        [*COMPILE, "--tool", "viti"],
        "--tool: 'viti' is not allowed; did you mean vitis? use vitis or vivado",
    ),
    "a choice like no other": (
        [*COMPILE, "--weights", "zzz"],
        "--weights: 'zzz' is not allowed; use fixed or runtime",
    ),
    "quiet and verbose": (
        ["--quiet", "report", "build", "--verbose"],
        "broadaxe: --quiet and --verbose are opposites; give one of both",
    ),
    "a missing folder": (["report", "nowhere"], "nowhere: is not a build folder; make one with `broadaxe compile`"),
    "a missing model": (
        ["compile", "nowhere.onnx", "-o", "build"],
        "nowhere.onnx: cannot be read (No such file or directory); name a complete .onnx file",
    ),
}


@pytest.mark.parametrize(("words", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_command_line_is_one_line(words, message, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*words) == (2, "", f"error: {message}\n")
    assert list(tmp_path.iterdir()) == []
