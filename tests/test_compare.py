"""`broadaxe compare`: every figure against both reports, what is claimed of both functions, and what people see."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import Network
from rich.console import Console
from test_lazy import command, imported

import broadaxe
from broadaxe.errors import RequestError
from broadaxe.reference import run as reference
from broadaxe.reports.compare import compare
from broadaxe.reports.comparison import Comparison, Figure
from broadaxe.reports.comparison_table import ComparisonTable
from broadaxe.reports.reading import read_report

Run = Callable[..., tuple[int, str, str]]


def network(
    weight: int = 4, act: int = 3, hidden: int = 6, names: tuple[str, ...] = ("fc1", "fc2"), **more: Any
) -> Any:
    """Two layers; bits, width and node names are free."""
    net = Network(more.get("inputs", 8), seed=1)
    y = net.node("MatMul", net.quant("x", 0.25, bits=4), net.weights(8, hidden, bits=weight), name=names[0])
    y = net.quant(net.node("Relu", y), 0.5, bits=act, signed=0)
    if more.get("deep"):
        y = net.quant(net.node("MatMul", y, net.weights(hidden, hidden), name="between"), 0.5, bits=act)
    return net.finish(net.node("MatMul", y, net.weights(hidden, 4, bits=weight), name=names[1]), name="net")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds: a, and others that differ from it in one way each."""
    path = tmp_path_factory.mktemp("compare")
    broadaxe.compile(network(), path / "a")
    broadaxe.compile(network(), path / "copy")
    broadaxe.compile(network(), path / "folded", target_ii=40, part="xc7z020clg400-1")
    broadaxe.compile(network(), path / "forced", requantizers={"*": "thresholds"})
    broadaxe.compile(network(weight=3, act=2), path / "narrow")
    broadaxe.compile(network(names=("first", "last")), path / "renamed")
    broadaxe.compile(network(deep=True), path / "deep")
    other = Network(5, seed=3)
    y = other.node("MatMul", other.quant("x", 0.25, bits=4), other.weights(5, 3), name="only")
    broadaxe.compile(other.finish(y), path / "other")
    return path


def data(folder: Path, count: int = 40) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(count, 8)).astype(np.float32)


def outputs(path: Path, x: np.ndarray) -> np.ndarray:
    build = broadaxe.load(path)
    (found,) = build.host.reals(reference(build.graph, build.codes(x))).values()
    return found


def test_every_figure_is_the_reports(folder: Path) -> None:
    c = compare(folder / "a", folder / "narrow")
    a, b = read_report(folder / "a"), read_report(folder / "narrow")
    assert [pair.matched for pair in c.layers] == ["name", "name"]
    for pair, one, other in zip(c.layers, a.layers, b.layers, strict=True):
        found = {f.name: (f.a, f.b) for f in pair.figures}
        for name in ("weight_bits", "input_bits", "datatype_bits", "width", "cycles"):
            assert found.pop(name) == (getattr(one, name), getattr(other, name))
        for name in ("lut", "ff", "dsp", "bram18", "uram"):
            assert found.pop(name) == (getattr(one.resources, name), getattr(other.resources, name))
        assert not found
        assert pair.a is not None
        assert pair.b is not None
        assert (pair.a.pe, pair.b.simd, pair.b.mode) == (one.pe, other.simd, other.mode)
    forms = {r.name: r.form for r in a.requantizers}
    assert [pair.a and pair.a.forms for pair in c.layers] == [(forms["quant0"],), ()]
    totals = {f.name: f for f in c.figures}
    assert (totals["cycles a frame"].a, totals["cycles a frame"].b) == (a.interval, b.interval)
    assert (totals["frames/s"].a, totals["frames/s"].b) == (a.frames_per_second, b.frames_per_second)
    assert (totals["latency, cycles"].a, totals["latency, us"].b) == (a.latency, b.latency * b.clock_ns / 1e3)
    assert (totals["LUT"].a, totals["FF"].b, totals["DSP"].b) == (a.resources.lut, b.resources.ff, b.resources.dsp)
    assert totals["accumulator bits"].change == sum(x.width for x in b.layers) - sum(x.width for x in a.layers) < 0
    assert totals["bits saved"].a == a.saved_bits
    assert totals["FIFO words"].b == sum(f.depth for f in b.fifos)


def test_changes_have_a_sign_and_a_side(folder: Path) -> None:
    """Fewer is better of all but rates, accuracy and bits saved; turned around, every change turns its sign."""
    there, back = compare(folder / "a", folder / "folded"), compare(folder / "folded", folder / "a")
    better = {f.name for f in there.figures if f.better == "more"}
    assert better == {"bits saved", "frames/s"}
    for f, g in zip(there.figures, back.figures, strict=True):
        assert f.change == pytest.approx(-g.change)
        assert f.percent is None or f.percent == pytest.approx(100 * (f.b - f.a) / f.a, abs=1e-5)
        assert f.gain is None or f.gain is not g.gain
    cycles = next(f for f in there.figures if f.name == "cycles a frame")
    assert cycles.gain is (cycles.b < cycles.a)


def test_settings_that_differ(folder: Path) -> None:
    found = {s.name: (s.a, s.b) for s in compare(folder / "a", folder / "folded").settings}
    assert found == {"target_ii": (None, 40), "part": (None, "xc7z020clg400-1")}
    forced = {s.name: (s.a, s.b) for s in compare(folder / "forced", folder / "a").settings}
    assert forced == {"requantizers.*": ("thresholds", None)}
    narrow = compare(folder / "a", folder / "narrow")
    assert [s.name for s in narrow.settings] == ["model (SHA-256)"]
    assert narrow.settings[0].a == narrow.a.model_sha256[:12]
    assert compare(folder / "a", folder / "copy").settings == ()


# What is claimed of both functions


def test_the_same_function_is_claimed_only_where_it_is_proven(folder: Path, tmp_path: Path) -> None:
    """One model and one integer graph, in whatever folding or form; never from data."""
    for name in ("copy", "folded", "forced"):
        assert compare(folder / "a", folder / name).same.claim == "proven"
    for name in ("narrow", "renamed", "other"):
        assert compare(folder / "a", folder / name).same.claim == "open"
    renamed = compare(folder / "a", folder / "renamed", data(folder))
    assert renamed.same.claim == "equal on data"
    assert renamed.same.why == "equal on these 40 inputs; that both are the same function is not proven"
    assert compare(folder / "a", folder / "narrow", data(folder)).same.claim == "different on data"


def test_another_graph_of_the_same_model_is_not_proven(folder: Path) -> None:
    """Weights that are loaded at run time: another graph, so that data decide."""
    path = folder / "runtime"
    broadaxe.compile(network(), path, weights="runtime")
    assert compare(folder / "a", path).same.claim == "open"
    assert compare(folder / "a", path, data(folder)).same.claim == "equal on data"


def test_a_weight_in_the_certificate_decides(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from broadaxe.reports import compare as module

    place = folder / "copy" / "certificate.json"
    text = place.read_text()
    graph = json.loads(text)
    graph["graph"]["nodes"][0]["attributes"]["weights"][0][0] += 1
    monkeypatch.setattr("broadaxe.reports.reading.check_files", lambda folder: 0)
    try:
        place.write_text(json.dumps(graph))
        assert module.compare(folder / "a", folder / "copy").same.claim == "open"
        place.write_text("{")
        assert module.compare(folder / "a", folder / "copy").same.claim == "open"
    finally:
        place.write_text(text)


def test_a_build_in_memory_is_itself_whatever_its_folder_holds_now(tmp_path: Path) -> None:
    net = Network(4)
    model = net.finish(net.node("MatMul", "x", net.weights(4, 3), name="fc"))
    a, b = (broadaxe.compile(model, tmp_path / "build", inputs={"x": kind}) for kind in ("uint4", "int8"))
    assert compare(a, b).same.claim == "open"
    assert compare(a, tmp_path / "build").same.claim == "open"
    assert compare(b, tmp_path / "build").same.claim == compare(a, a).same.claim == "proven"


# Layers that are not alike


def test_layers_of_one_build(folder: Path) -> None:
    found = [(pair.node, pair.matched) for pair in compare(folder / "a", folder / "deep").layers]
    assert found == [("fc1 (MatMul)", "name"), ("between (MatMul)", "alone"), ("fc2 (MatMul)", "name")]
    back = [(pair.node, pair.matched) for pair in compare(folder / "deep", folder / "a").layers]
    assert back == found
    assert "only in B: between (MatMul)" in str(compare(folder / "a", folder / "deep"))
    only = compare(folder / "a", folder / "deep").layers[1]
    assert only.a is None
    assert only.figures == ()


def test_layers_of_other_names_are_matched_in_order(folder: Path) -> None:
    c = compare(folder / "a", folder / "renamed")
    assert [(pair.node, pair.matched) for pair in c.layers] == [("fc1 (MatMul)", "order"), ("fc2 (MatMul)", "order")]
    assert all(not f.change for pair in c.layers for f in pair.figures if f.name in ("width", "cycles"))
    assert "2 layers have other names and are matched by operator and shape, in order" in str(c)


# Data


def test_accuracy_and_outputs_are_the_references(folder: Path, tmp_path: Path) -> None:
    x = data(folder)
    ours, theirs = outputs(folder / "a", x), outputs(folder / "narrow", x)
    labels = ours.argmax(axis=1)
    labels[:10] = (labels[:10] + 1) % 4
    np.savez(tmp_path / "test.npz", x=x, labels=labels)
    for given in ({"data": tmp_path / "test.npz"}, {"data": x, "labels": labels}, {"data": {"x": x, "labels": labels}}):
        run = compare(folder / "a", folder / "narrow", **given).run  # type: ignore[arg-type]
        assert run is not None
        assert run.accuracy is not None
        assert run.samples == 40
        assert run.differing == int((ours != theirs).any(axis=1).sum())
        assert run.other_largest == int((ours.argmax(axis=1) != theirs.argmax(axis=1)).sum()) > 0
        assert run.accuracy.a == 75.0
        assert run.accuracy.b == pytest.approx(100 * (theirs.argmax(axis=1) == labels).mean())
    without = compare(folder / "a", folder / "narrow", x).run
    assert without is not None
    assert without.accuracy is None


def test_builds_of_other_inputs_and_outputs(folder: Path) -> None:
    c = compare(folder / "a", folder / "other")
    assert c.notes == (
        "inputs differ: x [8] in A, x [5] in B",
        f"outputs differ: {c.notes[1].partition(': ')[2]}",
    )
    assert c.notes[1].endswith("[3] in B")
    with_data = compare(folder / "a", folder / "other", data(folder))
    assert with_data.run is None
    assert with_data.notes[2] == "data: B does not take them, input x: shape (1, 8); give (samples, 5)"
    assert with_data.same.claim == "open"


def test_refusals(folder: Path, tmp_path: Path, run: Run) -> None:
    x = data(folder)
    for given, message in (
        ({"data": x[:, :3]}, "input x: shape (1, 3); give (samples, 8)"),
        ({"data": x, "labels": np.full(40, 4)}, "data: labels go from 4 to 4, A has 4 outputs; give classes 0 to 3"),
        ({"labels": np.zeros(40, int)}, "labels: say nothing without data; give both"),
    ):
        with pytest.raises(RequestError) as error:
            compare(folder / "a", folder / "narrow", **given)  # type: ignore[arg-type]
        assert str(error.value) == message
    code, out, err = run("compare", folder / "a", tmp_path)
    assert (code, out) == (2, "")
    assert err == f"error: {tmp_path}: is not a build folder; make one with `broadaxe compile`\n"


# What people see


def test_the_text(folder: Path) -> None:
    c = compare(folder / "a", folder / "narrow", data(folder))
    text = str(c).replace(str(folder), "BUILDS")
    text = re.sub(r"[0-9a-f]{12}", "#" * 12, text)
    assert text == TEXT.strip("\n")


TEXT = """
A: BUILDS/a, net_top
B: BUILDS/narrow, net_top
not the same function: outputs differ on 40 of 40 inputs

 setting          A             B
 ───────────────────────────────────────────
 model (SHA-256)  ############  ############

layers, A -> B with the change; bits, cycles and resources (model) of each

 layer           WxA           type         width                 LUT                  FF
 ────────────────────────────────────────────────────────────────────────────────────────
 matmul0  4x4 -> 3x4  11 -> 10 (-1)  10 -> 8 (-2)  478 -> 344 (-28 %)  708 -> 581 (-18 %)
 matmul1  4x3 -> 3x2   10 -> 8 (-2)   8 -> 6 (-2)  240 -> 148 (-38 %)  336 -> 237 (-29 %)

the same for every layer of both: fold, cycles, DSP, BRAM18, requantizer

 in all                    A           B    change      %
 ────────────────────────────────────────────────────────
 MACs a sample            72          72         0
 accumulator bits         18          14        -4  -22.2
 bits saved                3           4        +1  +33.3
 cycles a frame           22          20        -2   -9.1
 frames/s          9,090,909  10,000,000  +909,091  +10.0
 latency, cycles          72          69        -3   -4.2
 latency, us            0.36       0.345    -0.015   -4.2
 LUT                     918         781      -137  -15.0
 FF                    1,459       1,276      -183  -12.5
 FIFO words                5           6        +1  +20.0

data: of 40 samples 40 have other outputs, 10 another largest one (reference, exact)
"""


def colours(c: Comparison, width: int = 200, **more: Any) -> str:
    console = Console(width=width, force_terminal=True, color_system="standard", highlight=False, **more)
    with console.capture() as capture:
        console.print(ComparisonTable(c))
    return capture.get()


def test_better_is_green_worse_is_red(folder: Path) -> None:
    """The sign is there whatever the colour; a figure that stays has none."""
    c = compare(folder / "a", folder / "narrow")
    told = colours(c)
    for f in c.figures:
        if f.a or f.b:
            line = next(line for line in told.splitlines() if line.strip("\x1b[0m ").startswith(f.name))
            assert ("\x1b[32m" in line) == (f.gain is True)
            assert ("\x1b[31m" in line) == (f.gain is False)
    assert "\x1b[3" not in str(c)


def test_any_width(folder: Path) -> None:
    for name in ("narrow", "deep", "folded", "other"):
        c = compare(folder / "a", folder / name)
        for width in (80, 100, 160):
            shown = re.sub(r"\x1b\[[\d;]*m", "", colours(c, width))
            assert max(map(len, shown.splitlines())) <= width
            table = [line for line in shown.splitlines() if "->" in line and "A -> B" not in line]
            assert not any("…" in line for line in table)
        assert "width" in re.sub(r"\x1b\[[\d;]*m", "", colours(c, 80))


def test_command(folder: Path, run: Run) -> None:
    code, out, _ = run("compare", folder / "a", folder / "folded")
    assert code == 0
    assert "the same function: one model, and in both certificates one integer graph" in out
    code, out, _ = run("compare", folder / "a", folder / "folded", "--json")
    assert code == 0
    assert Comparison.model_validate_json(out) == compare(folder / "a", folder / "folded")
    assert Figure.model_validate(json.loads(out)["figures"][0]).name == "MACs a sample"


def test_reports_alone_need_nothing_heavy(folder: Path) -> None:
    assert imported(command("compare", folder / "a", folder / "folded")) == []


@pytest.fixture(autouse=True)
def no_colour_variables() -> Iterator[None]:
    """Colours are asked for where they are tested."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("NO_COLOR", "FORCE_COLOR"):
            patch.delenv(name, raising=False)
        assert "NO_COLOR" not in os.environ
        yield
