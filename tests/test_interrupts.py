"""Ctrl-C at any moment: what was there before is there, or what was asked for, whole; and no file beside it."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import small_cnn

import broadaxe
import broadaxe_command
from broadaxe.whole import write_files

LINE = "interrupted; nothing was left half-written"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, unoptimised: None) -> Path:
    """A model, data, and a build that loads its weights."""
    path = tmp_path_factory.mktemp("interrupts")
    onnx.save(small_cnn(), path / "model.onnx")
    np.save(path / "x.npy", np.random.default_rng(0).normal(size=(8, 2, 6, 6)).astype(np.float32))
    broadaxe.compile(path / "model.onnx", path / "build", weights="runtime")
    broadaxe.simulate(path / "build", np.ones((1, 2, 6, 6)))  # compiled once
    return path


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], list[str]]]:
    """`interrupt(k)`: SIGINT behind the k-th thing that is done to the disk; gives the list of what was done."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker of a parallel run may ignore it

    def arm(moment: int) -> list[str]:
        done: list[str] = []

        def watch(owner: type, name: str) -> None:
            real = getattr(owner, name)

            def watched(self: Path, *arguments: object, **named: object) -> object:
                result = real(self, *arguments, **named)
                done.append(f"{name} {self.name}")
                if len(done) == moment:
                    os.kill(os.getpid(), signal.SIGINT)
                return result

            monkeypatch.setattr(owner, name, watched)

        monkeypatch.undo()
        for name in ("write_bytes", "rename", "replace", "mkdir"):
            watch(Path, name)
        return done

    yield arm
    monkeypatch.undo()
    signal.signal(signal.SIGINT, before)


def state(folder: Path) -> dict[str, str]:
    """Every file, by its content."""
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    timeless = {name: re.sub(rb'"seconds": [\d.e-]+', b"", content) for name, content in files.items()}
    return {name: hashlib.sha256(content).hexdigest() for name, content in timeless.items()}


COMMANDS = {
    "compile": ("compile", "{inputs}/model.onnx", "-o", "{out}/build", "--clock-ns", "{n}"),
    "quantize": (
        *("quantize", "{inputs}/model.onnx", "--calib", "{inputs}/x.npy", "-o", "{out}/model.onnx"),
        *("--preset", "rtn", "--acc-bits", "1{n}"),
    ),
    # of these the place comes last, and an earlier file may be any
    "simulate": ("simulate", "{inputs}/build", "--data", "{inputs}/x.npy", "-o", "{out}/y.npz"),
    "load": ("load", "{inputs}/build", "{inputs}/model.onnx", "-o", "{out}/parameters.bin"),
    "export": ("export", "{inputs}/model.onnx", "--hls4ml", "-o", "{out}/config.yml"),
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("again", [False, True], ids=["new", "in the place of an earlier one"])
def test_an_interrupt_leaves_the_old_or_nothing(name, again, inputs, interrupt, run, tmp_path):
    out = tmp_path / "out"
    out.mkdir()

    def asked(n: int) -> tuple[int, str, str]:
        return run(*(word.format(inputs=inputs, out=out, n=n) for word in COMMANDS[name]))

    def prepared() -> dict[str, str]:
        """What is there before."""
        interrupt(0)
        for path in sorted(out.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        if again and name in ("compile", "quantize"):
            assert asked(5)[0] == 0
        elif again:
            Path(COMMANDS[name][-1].format(out=out)).write_bytes(b"old")
        return state(out)

    prepared()
    assert asked(6)[0] == 0  # and what it compiles is kept
    before = prepared()
    done = interrupt(0)
    assert asked(6)[0] == 0
    after, count = state(out), len(done)
    assert after != before
    for moment in sorted({1, 2, count // 2, count - 2, count - 1, count} & {*range(1, count + 1)}):
        prepared()
        done = interrupt(moment)
        code, _, err = asked(6)
        assert (code, err.splitlines()[-1:]) == (130, [LINE]), (moment, done)
        assert state(out) in (before, after), (moment, done)


def test_renames_that_belong_together_are_not_torn_apart(interrupt, tmp_path):
    """An interrupt between them comes when all are done."""
    pair = {tmp_path / "a": b"new", tmp_path / "b": b"new"}
    for path in pair:
        path.write_bytes(b"old")
    done = interrupt(3)  # two writes, and the first rename
    with pytest.raises(KeyboardInterrupt):
        write_files(pair)
    assert [what.split()[0] for what in done] == ["write_bytes"] * 2 + ["replace"] * 2
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == pair


def test_a_command_on_its_own(inputs, tmp_path):
    """A process as a shell starts it: SIGINT while it works, one line and 130; nothing is left."""
    words = ["-m", "broadaxe.cli", "compile", str(inputs / "model.onnx"), "-o", str(tmp_path / "build"), "--verbose"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    reset = "import signal, runpy, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    reset += f"sys.argv = {['broadaxe', *words[2:]]!r}; runpy.run_module('broadaxe.cli', run_name='__main__')"
    with subprocess.Popen(
        [sys.executable, "-c", reset], env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if "reading the model:" in line:
                break
        running.send_signal(signal.SIGINT)
        until = time.monotonic() + 60
        rest = running.stderr.read()
        assert running.wait(max(1, until - time.monotonic())) == 130
    assert rest.splitlines()[-1] == LINE
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("cause", "code"), [(KeyboardInterrupt(), 130), (None, None)])
def test_an_interrupt_that_a_module_in_c_makes_an_import_error(cause, code, monkeypatch, capsys):
    def broken(**_: object) -> int:
        raise ImportError("initialization failed") from cause

    monkeypatch.setattr("broadaxe.cli.app", broken)
    with pytest.raises(SystemExit if code else ImportError) as stopped:
        broadaxe_command.main()
    assert getattr(stopped.value, "code", None) == code
    assert capsys.readouterr().err == (f"{LINE}\n" if code else "")
