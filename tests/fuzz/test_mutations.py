"""Damaged files end in a build or in one line, and leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from models import small_cnn

import broadaxe
from broadaxe.errors import GraphError, RequestError

from .damage import MARK
from .mutate import mutations
from .sandbox import attempt

KEPT = Path("build") / "fuzz"


def run(seed: int, count: int, models: int) -> None:
    report = mutations(seed, count, models=models, keep=KEPT)
    print(report)
    assert not report.failures, report
    assert report.files == count
    assert sum(report.refused.values()) > count // 4
    assert report.compiled > 0


def test_damaged_files() -> None:
    run(0, 100, 8)


@pytest.mark.slow
def test_many_damaged_files() -> None:
    run(1, 10_000, 40)


def test_a_sound_file_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcome(tmp_path, monkeypatch) == (None, None)


def outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str | None, str | None]:
    monkeypatch.chdir(tmp_path)  # attempt goes elsewhere
    answer = attempt(small_cnn().SerializeToString(), tmp_path / "sandbox")
    return answer.refused, answer.failure


def leaves_half(model: Path, output: Path) -> None:
    output.mkdir()
    raise RequestError("model: is refused; but late")


def writes_outside(model: Path, output: Path) -> None:
    Path("pwned").touch()
    raise RequestError("model: is refused; but it wrote")


def text_reaches_the_source(model: Path, output: Path) -> None:
    COMPILE(model, output)
    next((output / "firmware").glob("*_top.cpp")).write_text(f"// {MARK}")


def raises(error: BaseException) -> Callable[[Path, Path], None]:
    def compile(model: Path, output: Path) -> None:
        raise error

    return compile


COMPILE = broadaxe.compile
WRONG = {
    "another exception": (raises(KeyError("k")), "KeyError: \"'k'\""),
    "a broken contract": (raises(GraphError("lower: a width is wrong")), "GraphError: lower: a width is wrong"),
    "half an output": (leaves_half, "left build behind"),
    "a file outside": (writes_outside, "wrote cwd/pwned"),
    "text of the model": (text_reaches_the_source, "text of the model in firmware/model_top.cpp"),
}


@pytest.mark.parametrize(("compile", "found"), WRONG.values(), ids=WRONG)
def test_what_goes_wrong_is_seen(
    compile: Callable[[Path, Path], None], found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadaxe, "compile", compile)
    monkeypatch.setattr(broadaxe, "load", lambda folder: None)
    monkeypatch.setattr(broadaxe, "report", lambda build: None)
    assert outcome(tmp_path, monkeypatch)[1] == found
