"""Shell completion, by the protocol that shells speak: variables in, names out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from models import small_cnn

import broadaxe
from broadaxe.schedule.devices import DEVICES


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "build"
    broadaxe.compile(small_cnn(), path)
    return path


@pytest.fixture
def offered(run, monkeypatch):
    """What bash is offered for the last of some words."""

    def complete(*words: object) -> list[str]:
        monkeypatch.setenv("_BROADAXE_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(map(str, ("broadaxe", *words))))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        code, out, err = run()
        assert (code, err) == (0, "")
        return out.split()

    return complete


def test_commands_and_options(offered):
    assert offered("rep") == ["report"]
    assert sorted(offered("co")) == ["compare", "compile", "config", "cosim"]
    assert offered("compile", "m.onnx", "--targ") == ["--target-fps", "--target-ii"]
    assert offered("--ver") == ["--version", "--verbose"]


def test_choices(offered):
    assert offered("compile", "m.onnx", "--tool", "v") == ["vitis", "vivado"]
    assert offered("compile", "m.onnx", "--requantizer", "thr") == ["thresholds", "threshold-search"]
    assert offered("quantize", "m.onnx", "--preset", "axe") == ["axe", "axe-search"]
    boards = [board for device in DEVICES for board, _ in device.boards if board.startswith("ZCU10")]
    assert sorted(offered("compile", "m.onnx", "--part", "ZCU10")) == sorted(boards)


def test_names_of_a_build(build, offered):
    assert offered("explain", build, "con") == ["conv0"]
    assert offered("dataflow", build, "--run", "--depth", "s_conv") == ["s_conv0="]
    assert offered("dataflow", build.parent, "--run", "--depth", "s_conv") == []
    assert offered("explain", build.parent / "nowhere", "con") == []


@pytest.mark.parametrize(
    ("shell", "says"),
    [
        ("bash", "complete -o default -F _broadaxe_completion broadaxe"),
        ("zsh", "#compdef broadaxe"),
        ("fish", "complete "),
    ],
)
def test_the_script_of_each_shell(shell, says, run, monkeypatch):
    """What --show-completion prints and --install-completion writes."""
    monkeypatch.setenv("_BROADAXE_COMPLETE", f"source_{shell}")
    code, out, _ = run()
    assert code == 0
    assert says in out
    assert "_BROADAXE_COMPLETE=complete_" in out


def test_zsh_and_fish_are_told_what_a_command_does(run, monkeypatch):
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "broadaxe rep")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    for shell in ("zsh", "fish"):
        monkeypatch.setenv("_BROADAXE_COMPLETE", f"complete_{shell}")
        assert "Show the accumulator of every layer, and why it is so wide" in run()[1]


def test_completion_is_installed(tmp_path):
    """In a home of its own: bash reads a file that ~/.bashrc names."""
    (tmp_path / ".bashrc").write_text("# mine\n")
    command = "import broadaxe_command; broadaxe_command.main()"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(tmp_path)}
    env["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
    words = ["--install-completion", "bash"]
    done = subprocess.run([sys.executable, "-c", command, *words], capture_output=True, text=True, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "bash completion installed in" in done.stdout
    assert (tmp_path / ".bashrc").read_text().startswith("# mine\n")
    (script,) = (p for p in tmp_path.rglob("*.sh"))
    assert "_BROADAXE_COMPLETE=complete_bash" in script.read_text()
