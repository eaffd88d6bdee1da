"""What a command imports: nothing heavy where nothing heavy is done, so that it answers at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from models import small_cnn

import broadaxe

HEAVY = ("networkx", "numpy", "onnx", "onnxruntime", "scipy", "torch")


def imported(code: str) -> list[str]:
    """Which heavy packages a program has imported when it ends."""
    ending = f"import atexit, sys\natexit.register(lambda: print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr))\n"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", ending + code], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return eval(done.stderr.splitlines()[-1])


def command(*arguments: object) -> str:
    words = [str(argument) for argument in arguments]
    return f"import sys, broadaxe_command\nsys.argv[1:] = {words!r}\nbroadaxe_command.main()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lazy") / "build"
    broadaxe.compile(small_cnn(), path)
    return path


def test_the_package_and_the_help_import_nothing_heavy() -> None:
    assert imported("import broadaxe") == []
    assert imported(command("--help")) == []
    assert imported(command("compile", "--help")) == []
    assert imported(command("--version")) == []


def test_a_name_is_imported_when_it_is_used() -> None:
    assert imported("import broadaxe\nbroadaxe.BroadaxeError, broadaxe.__version__") == []
    assert "onnx" in imported("import broadaxe\nbroadaxe.compile")


@pytest.mark.parametrize("words", [("report",), ("report", "--json"), ("dataflow",)], ids=" ".join)
def test_showing_a_report_imports_nothing_heavy(folder: Path, words: tuple[str, ...]) -> None:
    assert imported(command(words[0], folder, *words[1:])) == []


def test_every_public_name_is_what_it_says() -> None:
    """Also after every submodule has been imported: none stands in a name's place."""
    import pkgutil

    modules = {module.name for module in pkgutil.iter_modules(broadaxe.__path__)}
    assert modules.isdisjoint(broadaxe.__all__)
    for name in broadaxe.__all__:
        thing = getattr(broadaxe, name)
        assert name == "__version__" or callable(thing)
    assert set(broadaxe.__all__) <= set(dir(broadaxe))
    with pytest.raises(AttributeError, match="module 'broadaxe' has no attribute 'nothing'"):
        _ = broadaxe.nothing
