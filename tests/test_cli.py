"""The command line: what is said where, and exit codes. Commands run in this process; what they call is tested elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import small_cnn

import broadaxe
from broadaxe import verification
from broadaxe.commands import progress


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, unoptimised: None) -> Path:
    path = tmp_path_factory.mktemp("cli")
    onnx.save(small_cnn(), path / "model.onnx")
    np.save(path / "x.npy", np.ones((2, 2, 6, 6), dtype=np.float32))
    broadaxe.compile(path / "model.onnx", path / "build")
    return path


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stage is worth a line, however short."""
    monkeypatch.setattr(progress, "LASTING", 0.0)


LOADING = [
    "reading the build ...",
    "lowering to integers ...",
    "sizing accumulators and proving requantizers ...",
    "sizing FIFOs ...",
]


def test_verify_says_each_stage_once_where_nobody_watches(folder: Path, run, told, monkeypatch) -> None:
    """No terminal: a line a stage on standard error, however many blocks of inputs a stage has; results apart from it."""
    monkeypatch.setenv("BROADAXE_AP_TYPES", "/dev/null")
    monkeypatch.setattr(verification, "BLOCK", 5)
    np.save(folder / "small.npy", np.load(folder / "x.npy") / 64)
    code, out, err = run("verify", folder / "build", "--data", folder / "small.npy")
    assert code == 0
    assert err.splitlines() == [
        *LOADING,
        "checking files and certificate ...",
        "comparing 2 of 2 inputs with float32 onnxruntime ...",
        "compiling the C simulation ...",
        "running 5 of 18 inputs, window0 in numpy ...",
        "driving every layer to both ends of its accumulator, native C simulation ...",
    ]
    assert re.search(r"^verified: 18 inputs, \d+ nodes, 0 mismatches$", out, flags=re.MULTILINE)


def test_compile_says_each_stage(folder: Path, run, told, tmp_path: Path) -> None:
    code, out, err = run("compile", folder / "model.onnx", "-o", tmp_path / "build")
    assert code == 0
    assert err.splitlines() == [
        "reading the model ...",
        "lowering to integers ...",
        "sizing accumulators and proving requantizers ...",
        "sizing FIFOs ...",
        "writing C++ ...",
    ]
    assert f"next: broadaxe verify {tmp_path / 'build'}" in out


def test_a_changed_kernel_stops_report_and_simulate(folder: Path, run, tmp_path: Path) -> None:
    header = folder / "build" / "firmware" / "conv0.hpp"
    text = header.read_text()
    commands = (
        ("report", folder / "build"),
        ("report", folder / "build", "--json"),
        ("simulate", folder / "build", "--data", folder / "x.npy", "-o", tmp_path / "y.npz"),
    )
    assert run(*commands[0])[0] == 0
    try:
        header.write_text(text.replace("conv0_start", "conv0_begin"))
        for command in commands:
            code, out, err = run(*command)
            assert (code, out) == (1, "")
            last = err.splitlines()[-1]
            assert last == f"error: {header}: is missing or was changed after compilation; compile again"
        assert not (tmp_path / "y.npz").exists()
    finally:
        header.write_text(text)
