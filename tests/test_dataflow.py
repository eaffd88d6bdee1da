"""The dataflow as users meet it: tables, the C++ run with FIFOs of chosen depths, pipeline depths that a tool reported."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import onnx
import pytest
from models import Network, small_cnn

import broadaxe
from broadaxe.build import load
from broadaxe.csim import compiler
from broadaxe.errors import RequestError
from broadaxe.rehearsal import rehearse
from broadaxe.schedule.deadlock import locks_up


def residual() -> onnx.ModelProto:
    """Two convolutions beside a way around them, which needs a FIFO, and a third of the same shape as the second."""
    net = Network(2, 14, 14, seed=4)
    x = net.quant("x", 0.25, bits=4, signed=0)
    y = x
    for _ in range(3):
        y = net.quant(net.conv(y, (2, 2, 3, 3), pads=[1, 1, 1, 1]), 0.5, bits=4)
    return net.finish(net.quant(net.node("Add", x, y), 0.5))


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory, unoptimised: None) -> broadaxe.Build:
    return broadaxe.compile(residual(), tmp_path_factory.mktemp("dataflow") / "build")


def branch(build: broadaxe.Build) -> str:
    """The FIFO around the convolutions."""
    return max(build.plan.least, key=lambda name: build.plan.least[name])


def test_the_report_is_the_plan(build: broadaxe.Build) -> None:
    report, plan = broadaxe.report(build), build.plan
    assert report.interval == plan.network.interval == build.decided.ii
    assert {k.name: (k.trips, k.fill) for k in report.kernels} == {
        p.name: (p.trace.trips, p.holds) for p in plan.network.processes
    }
    assert {f.name: (f.least, f.depth) for f in report.fifos} == {
        name: (least, plan.depths[name]) for name, least in plan.least.items()
    }
    parts = [k.resources for k in report.kernels] + [f.resources for f in report.fifos]
    for kind in ("lut", "ff", "dsp", "bram18", "uram"):
        assert getattr(report.resources, kind) == pytest.approx(sum(getattr(p, kind) for p in parts))
    assert report.frames_per_second == pytest.approx(1e9 / (report.interval * 5.0))


def test_sources_declare_the_depths(build: broadaxe.Build) -> None:
    text = (build.path / "firmware" / f"{build.top}.cpp").read_text()
    declared = dict(re.findall(r"#pragma HLS STREAM variable=(\w+) depth=(\d+)", text))
    assert {name: int(depth) for name, depth in declared.items()} == build.plan.depths


def test_the_cpp_keeps_the_promises(build: broadaxe.Build) -> None:
    done = rehearse(build, frames=4)
    assert done.passed
    assert len(done.ends) == 4
    assert rehearse(build, frames=2, depths="least").passed
    name = branch(build)
    assert build.plan.least[name] > 10
    stuck = rehearse(build, depths="least", changed={name: build.plan.least[name] - 1})
    assert not stuck.passed
    assert name in {blocked.stream for blocked in stuck.circle}
    waits = {blocked.process for blocked in stuck.circle}
    fifos = build.plan.network.fifos
    for blocked in stuck.circle:
        fifo = fifos[blocked.stream]
        assert (fifo.writer if blocked.why == "empty" else fifo.reader) in waits


def test_commands(build: broadaxe.Build, run) -> None:
    code, out, _ = run("dataflow", build.path)
    assert code == 0
    assert re.search(r"^ conv0 +matvec +", out, flags=re.MULTILINE)
    assert re.search(rf"^ {branch(build)} +add0 +", out, flags=re.MULTILINE)
    code, out, _ = run("dataflow", build.path, "--run", "--frames", "2")
    assert code == 0
    latency, interval = build.plan.schedule.latency, build.plan.schedule.interval
    said = r"2 frames, 0 mismatches; latency ([\d,]+) cycles, at most ([\d,]+) from frame to frame"
    found = re.match(rf"{said} \(model: at most {latency:,}, {interval:,}\)\n", out)
    assert found
    assert int(found[1].replace(",", "")) <= latency
    code, out, _ = run("dataflow", build.path, "--run", "--frames", "2", "--json")
    told = json.loads(out)
    assert (code, told["passed"], told["largest_gap"]) == (0, True, int(found[2].replace(",", "")))
    assert [told["frames"], told["mismatches"], told["circle"]] == [2, 0, []]
    less = f"{branch(build)}={build.plan.least[branch(build)] - 1}"
    code, out, _ = run("dataflow", build.path, "--run", "--least", "--depth", less)
    assert code == 1
    assert out.startswith("deadlock, ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--least"], "--least and --depth: change nothing without --run; add --run"),
        (["--run", "--depth", "abc"], "--depth abc: is not FIFO=N; write for example s_quant0=20"),
        (["--run", "--frames", "0"], "frames: is 0; send one at least"),
        (["--run", "--depth", "s_conv0=0"], "depth: s_conv0: is 0; give one word or more"),
    ],
)
def test_what_cannot_be_run(build: broadaxe.Build, run, options: list[str], message: str) -> None:
    code, _, err = run("dataflow", build.path, *options)
    assert code == 2
    assert f"error: {message}" in err


def test_an_unknown_fifo_is_named(build: broadaxe.Build) -> None:
    with pytest.raises(RequestError, match=r"^depth: there is no FIFO 'nosuch'; `broadaxe dataflow .*` lists them$"):
        rehearse(build, changed={"nosuch": 3})


def test_reported_pipelines_replace_assumed_ones(build: broadaxe.Build, run, tmp_path: Path) -> None:
    onnx.save(residual(), tmp_path / "model.onnx")
    (tmp_path / "latencies.yaml").write_text("conv0: 60\nread in0: 2\n")
    code, _, _ = run(
        "compile", tmp_path / "model.onnx", "-o", tmp_path / "build", "--latencies", tmp_path / "latencies.yaml"
    )
    assert code == 0
    made = load(tmp_path / "build")
    assert made.plan.network.named["conv0"].holds == 60
    assert made.plan.network.named["read in0"].holds == 2
    assert made.plan.least[branch(made)] > build.plan.least[branch(build)]
    assert locks_up(made.plan.network, {**made.plan.least, branch(made): build.plan.least[branch(build)]})


def test_unknown_pipelines_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"^latencies: there is no kernel 'conv9'; kernels are conv0, gemm0, "):
        broadaxe.compile(small_cnn(), tmp_path / "build", latencies={"conv9": 3})


def test_equal_kernels_are_compiled_once(tmp_path: Path) -> None:
    """Two layers of one shape and of equal widths are one instance of the kernel's template."""
    net = Network(8, seed=2)
    y = net.quant("x", 0.25, bits=4)
    weights = net.weights(8, 8)
    for _ in range(3):
        y = net.quant(net.node("MatMul", y, weights), 0.5, bits=4)
    build = broadaxe.compile(net.finish(y), tmp_path / "build")
    kept = tmp_path / "top.o"
    include = [f"-I{build.path / folder}" for folder in ("firmware", "tb/sim/native", "tb/sim")]
    source = build.path / "firmware" / f"{build.top}.cpp"
    options = ["-std=c++11", "-O0", "-c", "-DBROADAXE_NATIVE", "-Wno-unknown-pragmas", *include]
    subprocess.run([compiler(), *options, str(source), "-o", str(kept)], check=True)
    symbols = subprocess.run(["nm", "-C", str(kept)], check=True, capture_output=True, text=True).stdout
    found = set(re.findall(r" (?:W|T|t|u) (void broadaxe::matvec<.*)", symbols))
    layers = [node for node in build.graph.nodes if node.op.kind == "matvec"]
    widths = {(build.graph.inputs_of(n)[0].dtype, build.graph.values[n.output].dtype) for n in layers}
    assert len(found) == len(widths) < len(layers) == 3


@pytest.mark.slow
def test_a_target_within_a_budget_may_take_a_faster_folding(tmp_path: Path) -> None:
    """The cheapest folding at the target leaves FIFOs no room; a faster one needs shallower FIFOs and fits."""
    model = Path(__file__).parents[1] / "examples" / "fashion_mnist_cnn.onnx"
    report = broadaxe.report(broadaxe.compile(model, tmp_path / "build", target_ii=10_000, max_bram=10))
    assert report.interval <= 10_000
    assert report.resources.bram18 <= 10
