"""What the report says of every layer, against sums that are worked out here one by one in Python's integers."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import Network, design, small_cnn
from test_runtime_weights import cnn
from typer.testing import CliRunner

import broadaxe
from broadaxe.build import Build
from broadaxe.cli import app
from broadaxe.errors import DataWarning, RequestError
from broadaxe.ops.mac import Accumulating, Mac
from broadaxe.printing import plain
from broadaxe.reference import run
from broadaxe.reports.observe import observe
from broadaxe.reports.schema import Layer, Report
from broadaxe.reports.terminal import ReportTable, held


def budgeted() -> onnx.ModelProto:
    """Two layers with budgets: offset bits of the whole sum, and bits of tiles."""
    net = Network(12, seed=8)
    y = net.node("MatMul", net.quant("x", bits=4, signed=0), net.weights(12, 6), name="wide")
    y = net.quant(net.node("Relu", y), 0.5, bits=3, signed=0)
    model = net.finish(net.node("MatMul", y, net.weights(6, 3, bits=3), name="tiled"))
    asked = {"wide": {"outer_bits": "11", "start": "offset"}, "tiled": {"tile": "2", "inner_bits": "8"}}
    for node in model.graph.node:
        for key, value in asked.get(node.name, {}).items():
            node.metadata_props.add(key=f"broadaxe.{key}", value=value)
    return model


def scores() -> onnx.ModelProto:
    """A product of two activations, and a pool."""
    net = Network(2, 4, 4, seed=6)
    y = net.quant("x", bits=4)
    y = net.quant(net.node("AveragePool", y, kernel_shape=[2, 2]), 0.125, bits=4)
    turned = net.quant(net.node("Transpose", y, perm=[0, 1, 3, 2]), 0.125, bits=4)
    return net.finish(net.node("MatMul", y, turned))


MODELS: dict[str, tuple[Callable[[], onnx.ModelProto], dict[str, object]]] = {
    "cnn": (small_cnn, {}),
    "budgets": (budgeted, {}),
    "two activations": (scores, {}),
    "loadable": (small_cnn, {"weights": "runtime"}),
}


@pytest.fixture(params=MODELS)
def build(request: pytest.FixtureRequest) -> Build:
    model, options = MODELS[request.param]
    return design(model(), **options)


def layers(build: Build) -> list[tuple[Layer, Accumulating]]:
    found = []
    for layer in broadaxe.report(build).layers:
        op = build.graph.node(layer.name).op
        assert isinstance(op, Accumulating)
        found.append((layer, op))
    return found


def test_sums_are_those_of_the_weights_one_by_one(build: Build) -> None:
    for layer, op in layers(build):
        if not isinstance(op, Mac):
            continue
        (x,) = build.graph.inputs_of(build.graph.node(layer.name))
        index = np.broadcast_to(op.operand_indices(), op.weights.shape)
        for channel, row in enumerate(op.weights.tolist()):
            ends = [x.bounds[i] for i in index[channel].tolist()]
            products = [sorted((w * end.lo, w * end.hi)) for w, end in zip(row, ends, strict=True)]
            assert layer.lo[channel] == sum(low for low, _ in products)
            assert layer.hi[channel] == sum(high for _, high in products)
        assert layer.starts == tuple(op.start.tolist())
        assert layer.shape == build.graph.values[layer.name].shape or layer.name


def bits(lo: int, hi: int) -> int:
    """The narrowest two's complement that holds both, by trying."""
    return next(n for n in range(1, 64) if -(1 << n - 1) <= lo and hi < 1 << n - 1)


def test_partial_sums_and_widths_one_by_one(build: Build) -> None:
    for layer, op in layers(build):
        ends = list(zip(layer.lo, layer.hi, layer.starts, strict=True))
        assert layer.channel_bits == tuple(bits(lo, hi) for lo, hi, _ in ends)
        assert layer.exact_bits == max(layer.channel_bits)
        assert layer.offset_bits == max(max(1, (hi - lo).bit_length()) for lo, hi, _ in ends)
        if layer.mode != "loadable":
            assert layer.width == max(bits(lo + start, hi + start) for lo, hi, start in ends)
        if not isinstance(op, Mac):
            continue
        (x,) = build.graph.inputs_of(build.graph.node(layer.name))
        index = np.broadcast_to(op.operand_indices(), op.weights.shape)
        hulls = []
        for row, at, start in zip(op.weights.tolist(), index.tolist(), layer.starts, strict=True):
            products = [(w * x.bounds[i].lo, w * x.bounds[i].hi, 0) for w, i in zip(row, at, strict=True)]
            hulls.append((start + sum(map(min, products)), start + sum(map(max, products))))
        assert layer.prefix == (min(lo for lo, _ in hulls), max(hi for _, hi in hulls))
        assert layer.prefix_bits == max(bits(*hull) for hull in hulls)


def fits(layer: Layer, width: int, more: int) -> bool:
    """Whether every channel's sum, `more` counts longer, fits: at either end, or in all where the start is free."""
    if layer.mode == "offset":
        return all(hi - lo + more < 1 << width for lo, hi in zip(layer.lo, layer.hi, strict=True))
    held = 1 << (width - 1)
    ends = zip(layer.lo, layer.hi, layer.starts, strict=True)
    return all(-held <= lo + s - more and hi + s + more < held for lo, hi, s in ends)


def test_a_margin_is_what_the_width_still_holds_and_no_more(build: Build) -> None:
    for layer, _ in layers(build):
        assert fits(layer, layer.width, layer.margin)
        assert not fits(layer, layer.width, layer.margin + 1)
        if layer.mode != "loadable":
            assert not fits(layer, layer.width - 1, 0)


def test_a_witness_attains_both_ends(build: Build) -> None:
    for layer, op in layers(build):
        witness = layer.witness
        assert witness is not None
        for end, reached in ((witness.low, layer.lo), (witness.high, layer.hi)):
            left, right = end.operands
            assert len(left) == len(right) == layer.depth
            assert sum(a * b for a, b in zip(left, right, strict=True)) == end.sum == reached[witness.channel]
            if isinstance(op, Mac):
                assert right == tuple(op.weights[witness.channel].tolist())
                bounds = build.graph.inputs_of(build.graph.node(layer.name))[0].bounds
                index = np.broadcast_to(op.operand_indices(), op.weights.shape)[witness.channel].tolist()
                assert all(bounds[i].lo <= code <= bounds[i].hi for i, code in zip(index, left, strict=True))


def test_histograms_count_every_weight(build: Build) -> None:
    for layer, op in layers(build):
        if not isinstance(op, Mac):
            assert layer.weights is None
            continue
        assert layer.weights is not None
        found = Counter(op.weights.reshape(-1).tolist())
        assert layer.weights.zeros == found[0]
        for position, count in enumerate(layer.weights.counts):
            first = layer.weights.lo + position * layer.weights.step
            assert count == sum(found[w] for w in range(first, first + layer.weights.step))
        assert sum(layer.weights.counts) == op.weights.size


def test_wide_weights_go_into_at_most_64_bins() -> None:
    net = Network(40, seed=7)
    model = net.finish(net.node("MatMul", net.quant("x"), net.weights(40, 50, bits=9)))
    (layer,) = broadaxe.report(design(model)).layers
    assert layer.weights is not None
    assert len(layer.weights.counts) <= 64
    assert layer.weights.step == 8
    assert sum(layer.weights.counts) == 2000


def test_what_was_asked_and_what_is_left_of_it() -> None:
    wide, tiled = broadaxe.report(design(budgeted())).layers
    assert wide.budget is not None
    assert (wide.budget.bits, wide.budget.of) == (11, "sum")
    assert wide.margin_bits == 11 - wide.offset_bits
    assert wide.mode == "offset"
    assert tiled.budget is not None
    assert (tiled.budget.bits, tiled.budget.of) == (8, "tile")
    assert tiled.inner_bits is not None
    assert tiled.margin_bits == 8 - tiled.inner_bits
    (first, *_) = broadaxe.report(design(small_cnn())).layers
    assert (first.budget, first.margin_bits) == (None, None)


def test_observed_sums_are_those_of_every_input_and_stay_inside(build: Build) -> None:
    rng = np.random.default_rng(3)
    values = [build.graph.values[name] for name in build.graph.inputs]
    codes = {v.name: rng.integers(v.ends()[0], v.ends()[1] + 1, (70, *v.shape)) for v in values}
    seen = observe(build, codes, "rows.npz", lambda _: None)
    report = broadaxe.report(replace(build, observed=seen))
    assert report.calibration is not None
    assert (report.calibration.source, report.calibration.samples) == ("rows.npz", 70)
    all_values = run(build.graph, codes, every_value=True)
    for layer in report.layers:
        sums = all_values[build.graph.node(layer.name).output].reshape(-1, layer.outputs) - np.array(layer.starts)
        assert layer.observed is not None
        assert layer.observed.lo == tuple(sums.min(axis=0).tolist())
        assert layer.observed.hi == tuple(sums.max(axis=0).tolist())
        assert all(a <= b for a, b in zip(layer.lo, layer.observed.lo, strict=True))
        assert all(a >= b for a, b in zip(layer.hi, layer.observed.hi, strict=True))


def test_requantizers_name_what_they_read_and_their_form() -> None:
    report = broadaxe.report(design(small_cnn()))
    names = {r.name for r in report.requantizers}
    for layer in report.layers:
        assert set(layer.requantizers) <= names
        assert all(r.reads == layer.name for r in report.requantizers if r.name in layer.requantizers)
    for r in report.requantizers:
        widths = {
            "threshold-search": {"levels", "threshold_bits"},
            "multiply-shift": {"multiplier_bits", "sum_bits", "shift"},
        }
        assert set(r.parameters) == widths.get(r.form, set(r.parameters))


def test_a_view_between_a_layer_and_its_requantizer_is_no_kernel() -> None:
    report = broadaxe.report(design(cnn(), weights="runtime", accumulators={"*": 14}))
    processes = {kernel.name for kernel in report.kernels}
    assert all(r.reads in {*processes, ""} for r in report.requantizers)
    (reader,) = report.layer("avgpool0").requantizers
    assert next(r for r in report.requantizers if r.name == reader).reads == "avgpool0"


def test_words_of_fifos_are_lanes_of_their_type(build: Build) -> None:
    for fifo in broadaxe.report(build).fifos:
        assert fifo.bits == fifo.lanes * int(fifo.type.lstrip("uint"))


def test_names_that_look_like_lists_stay_as_they_are() -> None:
    """The text is indented, lists of numbers stand in one line, and the numbers and names are those of the report."""
    net = Network(4, seed=1)
    name = 'odd [ 1, 2 ]  "quoted" [\\n 3 ]'
    report = broadaxe.report(design(net.finish(net.node("MatMul", net.quant("x"), net.weights(4, 2), name=name))))
    written = report.as_json()
    assert report.layers[0].node.startswith("odd [ 1, 2 ]  ")
    assert Report.model_validate_json(written) == report
    assert json.loads(written) == json.loads(report.model_dump_json())
    assert f'"lo": [{", ".join(map(str, report.layers[0].lo))}],' in written


def test_a_layer_by_any_of_its_names() -> None:
    report = broadaxe.report(design(budgeted()))
    assert report.layer("matmul0") is report.layer("wide") is report.layer("wide (MatMul)") is report.layers[0]
    with pytest.raises(RequestError) as error:
        report.layer("matmull")
    expected = "layer matmull: net_top has no multiply-accumulate layer of that name; did you mean matmul1 or matmul0?"
    assert str(error.value) == expected


# on the command line


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layers")
    onnx.save(budgeted(), folder / "net.onnx")
    np.savez(folder / "rows.npz", x=np.random.default_rng(0).uniform(0, 4, (9, 12)).astype(np.float32))
    options = ["-o", str(folder / "build"), "--calib", str(folder / "rows.npz")]
    result = CliRunner().invoke(app, ["compile", str(folder / "net.onnx"), *options])
    assert result.exit_code == 0, result.output
    return folder


def test_calibration_of_the_compiler_stays_in_the_folder(folder: Path) -> None:
    report = Report.model_validate_json((folder / "build" / "report.json").read_text())
    assert report.calibration is not None
    assert (report.calibration.source, report.calibration.samples) == ("rows.npz", 9)
    assert broadaxe.report(folder / "build") == report
    assert broadaxe.report(folder / "build", folder / "rows.npz") == report
    fewer = broadaxe.report(folder / "build", np.zeros((2, 12), np.float32))
    assert fewer.calibration is not None
    assert (fewer.calibration.source, fewer.calibration.samples) == ("data", 2)


def test_the_command_prints_both_tables(folder: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(folder / "build")])
    report = broadaxe.report(folder / "build")
    assert result.exit_code == 0
    first = report.layers[0]
    assert first.observed is not None
    starts = np.array(first.starts)
    for lo, hi in ((first.lo, first.hi), (first.observed.lo, first.observed.hi)):
        expected = f"{(np.array(lo) + starts).min():,} .. {(np.array(hi) + starts).max():,}"
        assert held(first, lo, hi) == expected  # beside it stand partial sums, which may be the same
        assert expected in result.stdout
    assert any(starts)
    assert "observed on 9 inputs of rows.npz" in result.stdout
    asked = CliRunner().invoke(app, ["report", str(folder / "build"), "--json"])
    assert asked.stdout == (folder / "build" / "report.json").read_text()


@pytest.mark.parametrize("width", [60, 80, 100, 130])
def test_a_table_has_the_columns_that_fit(folder: Path, width: int) -> None:
    report = broadaxe.report(folder / "build")
    shown = plain(ReportTable(report), width)
    assert all(len(line) <= width for line in shown.splitlines())
    assert "width" in shown
    assert ("left out for want of width" in shown) == (width < 82)
    assert ReportTable(report).full is False


def test_data_that_were_not_scaled_draw_a_warning(folder: Path) -> None:
    build, rows = broadaxe.load(folder / "build"), np.random.default_rng(0).uniform(0, 3.75, (40, 12))
    x = rows.astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build.codes(x)
    with pytest.warns(DataWarning) as seen:
        build.codes(4 * x)
    share = float(np.mean(4 * x > 3.875))
    expected = (
        f"input x: {share:.0%} of its values are beyond what its quantizer represents, 0 to 3.75; scale data as for"
    )
    assert [str(w.message) for w in seen] == [f"{expected} calibration"]
    np.savez(folder / "unscaled.npz", x=4 * x)
    result = CliRunner().invoke(app, ["report", str(folder / "build"), "--data", str(folder / "unscaled.npz")])
    assert result.exit_code == 0
    assert "".join(result.stderr.split()).count("".join(f"warning: {expected} calibration".split())) == 1


def test_what_accumulators_hold_begins_at_their_starts(folder: Path) -> None:
    first = broadaxe.report(folder / "build").layers[0]
    moved = first.model_copy(update={"starts": tuple(1000 * (c + 1) for c in range(first.outputs))})
    least = min(lo + 1000 * (c + 1) for c, lo in enumerate(first.lo))
    assert (
        held(moved, first.lo, first.hi) == f"{least:,} .. {max(hi + 1000 * (c + 1) for c, hi in enumerate(first.hi)):,}"
    )
