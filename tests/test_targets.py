"""Foldings to a target, a budget, a part or a file: what is reached, what is refused, what is written."""

from __future__ import annotations

import re
from dataclasses import replace

import models
import numpy as np
import onnx
import pytest
import yaml

import broadaxe
from broadaxe import build as builds
from broadaxe.config import settings
from broadaxe.errors import RequestError
from broadaxe.hardware import Resources
from broadaxe.ir import Fold, Lanes
from broadaxe.lower import lower
from broadaxe.ops.costs import total
from broadaxe.ops.mac import Accumulating
from broadaxe.ops.window import SlidingWindow
from broadaxe.passes import pipeline, run_passes
from broadaxe.schedule import problem, targets
from broadaxe.schedule.devices import DEVICES
from broadaxe.schedule.folding import Given, complete, folding_entries, lanes_of, pinned
from broadaxe.schedule.network import network_of
from broadaxe.schedule.problem import vector
from broadaxe.schedule.resources import resources_of, total_of
from broadaxe.schedule.targets import Request, Step, amounts, budget_of, cycles_for, evaluated, planned


def stand_in(graph, node, lanes):
    """A price for every kernel, so that tests do not move with the models: a LUT a lane, ten a product, a DSP as asked."""
    if isinstance(node.op, Accumulating):
        return Resources(lut=10 * lanes.read * lanes.written, ff=lanes.written, bram18=1)
    return Resources(lut=lanes.read + lanes.written)


@pytest.fixture
def priced(monkeypatch):
    monkeypatch.setattr(
        targets, "problem_of", lambda graph, fixed, held=None: problem.problem_of(graph, fixed, held, stand_in)
    )


@pytest.fixture(scope="module")
def graph():
    return models.design(models.small_cnn()).graph


def request(cycles=None, device=None, clock_ns=5.0, **budget):
    return Request(cycles, budget, device, clock_ns)


def refusal(call, *arguments, **options):
    with pytest.raises(RequestError) as error:
        call(*arguments, **options)
    return str(error.value)


def test_cycles_of_a_rate_are_exact():
    assert cycles_for(1000, 5) == 200_000
    assert cycles_for(3, 3.1) == 107_526_881
    assert cycles_for(1e9, 0.5) == 2
    assert cycles_for(20_000_000.0, 5.0) == 10
    assert cycles_for(20_000_001, 5.0) == 9
    assert cycles_for(1e9, 5.0) == 1


@pytest.mark.parametrize("seed", range(20))
def test_cycles_of_any_lanes_are_those_of_the_network(graph, seed):
    """Whatever kernels and their words are, and whatever pipelines a tool has reported: slow lane changers and ports, too."""
    rng = np.random.default_rng(seed)
    lanes, held = {}, {}
    for node in graph.nodes:
        if node.op.hardware:
            variants = node.op.variants(graph.inputs_of(node), graph.values[node.output])
            lanes[node.name] = variants[rng.integers(len(variants)) if seed else 0]
            held[node.name] = int(rng.integers(0, 9)) if seed % 2 else 0
    flow = builds.dataflow(graph, lanes)
    assert evaluated(graph, lanes, held).ii == network_of(graph, lanes, flow, held).interval


@pytest.mark.parametrize("target", [140, 240, 333, 2000])
def test_a_target_is_met_at_the_interval_that_the_network_has(graph, priced, target):
    """The interval of the cycle-level model is what the folding says it is, ports, copies and lane changers included."""
    plan = planned(graph, request(target), {})
    assert plan.ii <= target
    flow = builds.dataflow(graph, plan.lanes)
    assert network_of(graph, plan.lanes, flow).interval == plan.ii
    assert evaluated(graph, plan.lanes) == targets.FoldingPlan(
        plan.lanes, plan.cycles, plan.resources, plan.total, plan.ii, plan.bottleneck
    )
    assert isinstance(plan.step, Step)
    assert plan.step.cycles < plan.ii
    faster = planned(graph, request(plan.ii * 99 // 100), {})
    assert (faster.ii, faster.total.lut - plan.total.lut) == (plan.step.cycles, plan.step.more.lut)


def test_the_total_is_that_of_the_top_level_before_fifos_are_sized(graph):
    """Ports, copiers, lane changers and FIFOs of two words, each as the model of the whole design has it."""
    plan = planned(graph, request(240), {})
    whole = total_of(graph, plan.lanes, builds.dataflow(graph, plan.lanes))
    assert vector(plan.total) == pytest.approx(vector(whole))
    branched = models.design(branching()).graph
    plan = planned(branched, request(90), {})
    assert vector(plan.total) == pytest.approx(
        vector(total_of(branched, plan.lanes, builds.dataflow(branched, plan.lanes)))
    )


def branching():
    """A value with three readers, one of them an output, and two inputs of one kernel."""
    net = models.Network(2, 4, 4, seed=3)
    x = net.quant("x", scale=0.25, bits=4)
    y = net.quant(net.conv(x, (4, 2, 3, 3), pads=[1, 1, 1, 1]), scale=0.5, bits=3)
    a = net.quant(net.conv(y, (4, 4, 1, 1)), scale=0.5, bits=3)
    return net.finish(net.node("Add", a, y), y)


def test_fifos_count_against_a_budget():
    """Where the FIFOs of the cheapest folding break the budget, another one leaves them room, or the request fails."""
    model, cheap = branching(), settings(target_ii=100).request
    design = models.design(model, target_ii=100)
    deep = total_of(design.graph, design.lanes, design.flow)
    assert deep.lut > design.decided.total.lut
    between = int((deep.lut + design.decided.total.lut) // 2)
    assert planned(design.graph, replace(cheap, budget={"lut": between}), {}).total.lut <= between
    other = models.design(model, target_ii=100, max_lut=between)
    assert other.lanes != design.lanes
    assert total_of(other.graph, other.lanes, other.flow).lut <= between


def test_what_fifos_take_is_part_of_what_is_missed(graph, priced):
    least = planned(graph, request(10**9), {}).total
    alone = request(lut=least.lut + 20)
    assert planned(graph, alone, {}).total.lut <= least.lut + 20
    assert refusal(planned, graph, alone.leaving(Resources(lut=30), 0), {}) == (
        f"folding: the cheapest folding takes {least.lut + 30:,.0f} LUT of {least.lut + 20:,.0f}; give it more, or a"
        " smaller network"
    )
    assert alone.leaving(Resources(lut=30), 0).leaving(Resources(lut=7, ff=2), 0).reserved == {
        "lut": 30, "ff": 2, "dsp": 0, "bram18": 0, "uram": 0
    }  # fmt: skip


def test_the_fastest_folding_names_what_keeps_it_there(graph, priced):
    fastest = planned(graph, request(lut=10**9), {})
    assert fastest.step is None
    assert fastest.limit in fastest.lanes
    assert refusal(planned, graph, request(fastest.ii - 1), {}) == (
        f"folding: {fastest.ii - 1} cycles a frame ({2e8 / (fastest.ii - 1):,.0f} frames/s) cannot be reached,"
        f" {fastest.limit} takes {fastest.ii} cycles at its fastest; ask for {fastest.ii} cycles a frame"
        f" ({2e8 / fastest.ii:,.0f} frames/s) or slower"
    )


def test_lanes_that_were_given_are_what_is_too_slow(graph, priced):
    fastest = planned(graph, request(lut=10**9), {})
    name = next(n for n, cycles in fastest.cycles.items() if cycles == fastest.ii)
    slow = {name: [fastest.lanes[name]]}
    message = refusal(planned, graph, request(fastest.ii - 1), slow, None, [name])
    assert (
        f"cannot be reached, {name} takes {fastest.ii} cycles with the lanes it was given; give it more, or" in message
    )


def test_a_budget_gives_the_fastest_that_fits(graph, priced):
    before = None
    for lut in (1200, 1800, 4000):
        plan = planned(graph, request(lut=lut), {})
        assert plan.total.lut <= lut
        if plan.step is not None:  # one step on costs more than the budget has left
            assert plan.total.lut + plan.step.more.lut > lut
        assert before is None or plan.ii <= before
        before = plan.ii


def test_a_target_and_a_budget_that_do_not_meet(graph, priced):
    within = planned(graph, request(lut=700), {})
    needed = planned(graph, request(80), {}).total.lut
    assert refusal(planned, graph, request(80, lut=700), {}) == (
        f"folding: 80 cycles a frame (2,500,000 frames/s) takes {needed:,.0f} LUT of 700; the fastest within the budget"
        f" is {within.ii:,} cycles a frame ({2e8 / within.ii:,.0f} frames/s)"
    )
    least = planned(graph, request(10**9), {}).total.lut
    assert refusal(planned, graph, request(lut=5), {}) == (
        f"folding: the cheapest folding takes {least:,.0f} LUT of 5; give it more, or a smaller network"
    )


def test_a_target_far_out_of_reach_within_a_budget():
    """Shares of few cycles are tried as well, none of them of no cycle at all."""
    with pytest.raises(RequestError, match=r"^folding: 16 cycles a frame .* cannot be reached, .*; ask for "):
        models.design(models.small_cnn(), target_ii=16, part="xc7z020clg400-1")


def test_kernels_that_are_given_stay(graph, priced):
    pins = {"conv0": [Lanes(2, 4)], "quant0": [Lanes(1, 1)]}
    plan = planned(graph, request(lut=10**9), pins)
    assert (plan.lanes["conv0"], plan.lanes["quant0"]) == (Lanes(2, 4), Lanes(1, 1))
    assert plan.ii > planned(graph, request(lut=10**9), {}).ii


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, None),
        ({"target_ii": 500}, Request(500, {}, None, 5.0)),
        ({"target_fps": 1000, "clock_ns": 4}, Request(250_000, {}, None, 4.0)),
        ({"max_lut": 900, "max_bram": 3}, Request(None, {"lut": 900, "bram18": 3}, None, 5.0)),
        ({"part": "ZCU104", "multipliers": 8}, None),
        ({"part": "ZCU104", "folding": {"conv0": {"pe": 1, "simd": 1}}}, None),
    ],
)
def test_what_settings_ask_for(options, expected):
    assert settings(**options).request == expected


def test_a_part_is_a_budget_and_its_own_limits_go_on_top():
    held = next(d for d in DEVICES if d.name == "ZU7EV").resources
    assert settings(part="ZCU104").request == Request(None, budget_of(held), held, 5.0)
    asked = settings(part="ZCU104", target_ii=9, max_dsp=4).request
    assert asked == Request(9, budget_of(held) | {"dsp": 4}, held, 5.0)
    assert budget_of(Resources(100, 200, 10, 20, 0)) == {"lut": 70, "ff": 140, "dsp": 9, "bram18": 18, "uram": 0}


def test_two_targets_are_refused():
    assert refusal(settings, target_fps=10, target_ii=500) == (
        "settings: target_ii: 500 beside target_fps 10; give one of both"
    )


def test_amounts_as_text():
    assert amounts(Resources(1234.4, 0, 5, 0, 0)) == "1,234 LUT, 5 DSP"
    assert amounts(Resources(-3, 0, 5), signed=True) == "-3 LUT, +5 DSP"
    assert (amounts(Resources()), amounts(Resources(), signed=True)) == ("nothing", "no more")


LANES = {"quant0": {"lanes": 3}}


@pytest.mark.parametrize(
    ("folding", "message"),
    [
        (LANES, "folding: quant0: lanes 3 are not possible; lanes may be 1, 2, 4"),
        ({"conv0": {"lanes": 2}}, "folding: conv0: is a layer, lanes 2 do not say enough; give pe and simd"),
        (
            {"conv0": {"pe": 1, "simd": 2, "multiplier": "packed"}},
            "folding: conv0: multiplier packed does not fit the layer; multiplier may be lut, dsp",
        ),
        (
            {"conv0": {"pe": 2, "simd": 2, "multiplier": "abacus"}},
            "settings: folding.conv0.multiplier: 'abacus' is not allowed; use lut, dsp or packed",
        ),
        (
            {"quant0": {"lanes": 0}},
            "settings: folding.quant0.lanes: 0 is not allowed; give a whole number from 1 to 2147483647",
        ),
        (
            {"quant0": {"lanes": 1, "pe": 2}},
            "settings: folding.quant0.pe: is unknown; known settings are lanes",
        ),
        ({"window9": {"lanes": 1}}, "folding: window9: there is no such kernel; kernels are "),
    ],
)
def test_a_folding_that_does_not_fit_is_refused(folding, message):
    said = refusal(models.design, models.small_cnn(), folding=folding)
    assert said == message or (message.endswith("are ") and said.startswith(message))


def test_the_file_that_is_written_gives_the_same_folding(tmp_path):
    """Every kernel stands in folding.yaml; given back it decides everything, and an edit of one line that line alone."""
    first = broadaxe.compile(models.small_cnn(), tmp_path / "a", target_ii=300)
    text = (tmp_path / "a" / "folding.yaml").read_text()
    written = yaml.safe_load(text)
    assert set(written) == set(first.lanes)
    assert f"# All: {first.decided.ii:,} cycles, set by {first.decided.bottleneck};" in text
    spent = resources_of(first.graph, first.lanes, first.flow)  # what `broadaxe dataflow` shows
    assert f" at 5.0 ns; {amounts(total(spent.values()))}\n" in text
    for name in first.lanes:
        assert re.search(rf"^{name}: .* cycles, {amounts(spent[name])}$", text, re.MULTILINE), name
    again = broadaxe.compile(models.small_cnn(), tmp_path / "b", folding=written)
    assert (again.lanes, again.folding) == (first.lanes, first.folding)
    loaded = builds.load(tmp_path / "a")
    assert (loaded.lanes, loaded.folding) == (first.lanes, first.folding)
    assert loaded.settings.target_ii == 300
    edited = written | {"conv0": written["conv0"] | {"pe": 1, "simd": 1}}
    other = broadaxe.compile(models.small_cnn(), tmp_path / "c", folding=edited)
    assert other.folding["conv0"] == Fold(1, 1, first.folding["conv0"].multiplier)
    assert {n: v for n, v in other.lanes.items() if n != "conv0"} == {
        n: v for n, v in first.lanes.items() if n != "conv0"
    }


def test_the_command_line_says_what_it_chose(tmp_path, run):
    onnx.save(models.small_cnn(), tmp_path / "net.onnx")
    code, said, _ = run("compile", tmp_path / "net.onnx", "-o", tmp_path / "build", "--target-fps", 500_000)
    assert code == 0
    design = builds.load(tmp_path / "build")
    assert design.decided.ii <= 400
    assert "next faster folding: " in said


def test_windows_of_several_taps_are_compiled_and_checked(tmp_path):
    """At its fastest the convolution takes a cycle a pixel, which no window of one tap a cycle allows."""
    design = broadaxe.compile(models.small_cnn(), tmp_path / "build", target_ii=90)
    (window,) = [n for n in design.graph.nodes if isinstance(n.op, SlidingWindow) and n.op.kernel == (3, 3)]
    assert design.lanes[window.name].written > design.lanes[window.name].read == 2
    assert "window_parallel<" in (tmp_path / "build" / "firmware" / f"{window.name}.hpp").read_text()
    result = broadaxe.verify(tmp_path / "build")
    assert not result.mismatches


def test_taps_at_a_time_are_for_all_channels_together():
    """A depthwise layer's simd, and lanes of a maximum, beyond one tap; each is given back as it was asked for."""
    net = models.Network(4, 6, 6, seed=3)
    y = net.quant(net.depthwise(net.quant("x", bits=3), 4), 0.5, bits=3)
    model = net.finish(net.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]))
    graph = run_passes(lower(model, {}).graph, pipeline({}))
    given = {"conv0": Given(pe=4, simd=3), "maxpool0": Given(lanes=8)}
    found = pinned(graph, given)
    assert [(lanes.read, lanes.written) for lanes in found["conv0"]] == [(12, 4), (12, 4)]
    assert found["maxpool0"] == [Lanes(8, 4)]
    folding = complete(graph, given)
    assert (folding["conv0"].pe, folding["conv0"].simd) == (4, 3)
    entries = folding_entries(folding, lanes_of(graph, folding, found))
    assert entries["conv0"] == {"pe": 4, "simd": 3, "multiplier": "lut"}
    assert entries["maxpool0"] == {"lanes": 8}
    for wrong, message in (
        ({"conv0": Given(pe=2, simd=3)}, "folding: conv0: simd 3 does not divide the layer; simd may be 1"),
        ({"conv0": Given(pe=4, simd=2)}, "folding: conv0: simd 2 does not divide the layer; simd may be 1, 3, 9"),
        ({"maxpool0": Given(lanes=12)}, "folding: maxpool0: lanes 12 are not possible; lanes may be 1, 2, 4, 8, 16"),
    ):
        with pytest.raises(RequestError) as refused:
            pinned(graph, wrong)
        assert str(refused.value) == message
