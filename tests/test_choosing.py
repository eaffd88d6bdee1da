"""Bits chosen on validation rows, what is said about where a network loses, and the rows' roles."""

import json
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from models import Network
from onnx import TensorProto, helper, numpy_helper

import broadaxe
from broadaxe.cli import main
from broadaxe.errors import RequestError
from broadaxe.evaluation import Judge, rows_of
from broadaxe.quantization import search
from broadaxe.quantization.cost import Work, luts
from broadaxe.quantization.search import Bits


def classifier(seed=0, widths=(12, 24, 16, 4), count=300):
    """A float MLP whose own answers are the labels, and rows for it."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    nodes, constants, tensor = [], [], "x"
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        w = rng.normal(size=(inputs, outputs)).astype(np.float32) / inputs**0.5
        constants.append(numpy_helper.from_array(w, f"w{i}"))
        nodes.append(helper.make_node("MatMul", [tensor, f"w{i}"], [f"y{i}"], name=f"fc{i}"))
        tensor = f"y{i}"
        if i < len(widths) - 2:
            nodes.append(helper.make_node("Relu", [tensor], [f"r{i}"]))
            tensor = f"r{i}"
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", k])
        for n, k in (("x", widths[0]), (tensor, widths[-1]))
    ]
    graph = helper.make_graph(nodes, "mlp", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    x = rng.random((count, widths[0]), dtype=np.float32)
    judge = Judge(rows_of({"x": x}), model)
    return model, x, judge.wanted[0].argmax(1)


@pytest.fixture(scope="module")
def task():
    model, x, y = classifier()
    return SimpleNamespace(model=model, calib=x[:150], val=(x[150:], y[150:]))


def test_accuracy_and_fidelity_are_their_definitions(task):
    inputs, labels = task.val
    shuffled = np.where(np.arange(150) < 30, (labels + 1) % 4, labels)
    assert Judge(rows_of({"x": inputs}, shuffled), task.model).float_score == 80.0
    other, _, _ = classifier(seed=1)
    fidelity = Judge(rows_of({"x": inputs}), task.model)
    f, y = (Judge(rows_of({"x": inputs}), m).wanted[0].astype(float) for m in (task.model, other))
    assert fidelity.float_score == 100.0
    assert fidelity(other) == pytest.approx(100 * (1 - ((f - y) ** 2).sum() / (f**2).sum()))


def test_search_ends_where_no_neighbour_is_better(task):
    q = broadaxe.quantize(task.model, task.calib, validation=task.val, acc_bits=9, search=True, search_runs=200)
    choice = q.record.choice
    assert choice is not None
    chosen = next(t for t in choice.trials if t.chosen)
    scores = {tuple(sorted(t.bits.items())): (t.score, -t.error) for t in choice.trials if t.score is not None}
    assert max(scores.values()) == (chosen.score, -chosen.error)
    assert all(layer.width <= 9 for layer in q.record.layers)
    assert choice.score >= chosen.score
    assert q.record.scores.quantized == choice.score
    assert [r.role for r in q.record.rows] == ["calibration", "validation"]


def test_the_cheapest_within_a_drop_is_cheaper_than_the_cheapest_uniform():
    model, x, y = classifier(seed=1)
    q = broadaxe.quantize(model, x[:150], validation=(x[150:], y[150:]), max_drop=4.0)
    choice = q.record.choice
    assert choice is not None
    floor = choice.float_score - 4.0
    assert choice.score >= floor
    chosen = next(t for t in choice.trials if t.chosen)
    assert chosen.cost == min(t.cost for t in choice.trials if t.score is not None and t.score >= floor)
    uniform = [
        t.cost for t in choice.trials if len(set(t.bits.values())) == 1 and t.score is not None and t.score >= floor
    ]
    assert choice.best_uniform_cost == min(uniform)
    assert chosen.cost < min(uniform)


def test_a_drop_that_no_bits_keep_is_refused(task):
    shuffled = task.val[0], (task.val[1] + 1) % 4
    wrong = broadaxe.quantize(task.model, task.calib, validation=shuffled, max_drop=1.0, search_runs=2)
    assert wrong.record.choice.float_score == 0.0
    with pytest.raises(RequestError) as caught:
        broadaxe.quantize(task.model, task.calib, validation=task.val, max_drop=0.0, acc_bits=2)
    assert str(caught.value).startswith("max_drop: 0 percent points are not enough, the best of ")
    assert str(caught.value).endswith("; allow more, or give more acc_bits or search_runs")


def test_layers_that_the_user_set_stay(task):
    layers = {"fc1": {"weight_bits": 6, "act_bits": 6}}
    options = {"search_runs": 16, "layers": layers, "input_bits": 7, "last_weight_bits": 5}
    q = broadaxe.quantize(task.model, task.calib, validation=task.val, acc_bits=9, search=True, **options)
    assert [layer.weight_bits for layer in q.record.layers[1:]] == [6, 5]
    assert [layer.input_codes[1] for layer in q.record.layers[:2]] == [127, 63]
    for trial in q.record.choice.trials:
        assert trial.bits["fc0"][1] == 7
        assert trial.bits["fc1"] == (6, 6, 9)
        assert trial.bits["fc2"][0] == 5
    q = broadaxe.quantize(
        task.model,
        task.calib,
        validation=task.val,
        acc_bits=9,
        search=True,
        search_runs=9,
        layers={"fc1": {"acc_bits": 12}},
    )
    assert {t.bits["fc1"][2] for t in q.record.choice.trials} == {12}
    assert q.record.layers[1].acc_bits == 12


def test_bits_that_all_layers_share_are_those_of_the_input_too(task):
    q = broadaxe.quantize(task.model, task.calib, validation=task.val, acc_bits=9, search=True, search_runs=1)
    (trial,) = q.record.choice.trials
    assert len(set(trial.bits.values())) == 1
    assert {layer.input_codes[1] for layer in q.record.layers} == {2 ** trial.bits["fc0"][1] - 1}


def test_a_drop_under_a_tight_budget_starts_from_few_bits(task):
    q = broadaxe.quantize(task.model, task.calib, validation=task.val, acc_bits=9, max_drop=12.0)
    assert q.record.choice.score >= q.record.choice.float_score - 12.0
    assert all(layer.width <= 9 for layer in q.record.layers)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"search": True, "acc_bits": 9},
            "settings: search: there are no validation rows to choose by; give some (--val)",
        ),
        ({"max_drop": 1.0}, "settings: max_drop: there are no validation rows to choose by; give some (--val)"),
        ({"search": True}, "settings: search: needs acc_bits, the budget under which bits are chosen; give it"),
        (
            {"search": True, "max_drop": 1.0},
            "settings: max_drop: 1 beside search, which is another goal; give one of both",
        ),
    ],
)
def test_goals_that_cannot_be(task, options, message):
    with pytest.raises(RequestError) as caught:
        broadaxe.quantize(task.model, task.calib, **options)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            np.zeros(150),
            "validation: labels have type float64 and shape (150,); give one integer for each of the 150 samples",
        ),
        (
            np.zeros(3, int),
            "validation: labels have type int64 and shape (3,); give one integer for each of the 150 samples",
        ),
        (np.full(150, 4), "validation: labels go from 4 to 4, the model has 4 outputs; give classes 0 to 3"),
    ],
)
def test_labels_that_are_no_classes(task, labels, message):
    with pytest.raises(RequestError) as caught:
        broadaxe.quantize(task.model, task.calib, validation=(task.val[0], labels))
    assert str(caught.value) == message


def test_the_same_rows_twice_are_warned_about(task):
    q = broadaxe.quantize(task.model, np.concatenate([task.calib, task.val[0][:40]]), validation=task.val)
    assert q.record.warnings[-1] == (
        "calib and val share 40 of the 150 rows of val: validation knows rows that weights were solved for"
    )


def test_labels_in_a_mapping_and_files_that_may_mean_labels(task, tmp_path):
    q = broadaxe.quantize(task.model, task.calib, validation={"x": task.val[0], "labels": task.val[1]})
    assert q.record.scores.metric == "accuracy"
    np.savez(tmp_path / "val.npz", x=task.val[0], y=task.val[1])
    with pytest.raises(RequestError) as caught:
        broadaxe.quantize(task.model, task.calib, validation=tmp_path / "val.npz")
    assert (
        str(caught.value) == f"{tmp_path}/val.npz: holds 'y', which is no input; call classes 'labels', or leave it out"
    )


def test_steps_of_the_search_change_one_thing():
    bits = Bits(2, 8, 5)
    assert set(search._around(bits)) == {Bits(3, 8, 5), Bits(3, 7, 5), Bits(2, 7, 5)}
    assert list(search._less(bits)) == [Bits(2, 7, 5), Bits(2, 8, 4)]
    assert list(search._less(Bits(4, None, None))) == [Bits(3, None, None)]


def test_cost_is_its_formula():
    small, large = Work(10, 10, 4, 8, 14), Work(40, 20, 2, 3, 9)
    # lanes 16 and 64; (2 * 2 + 1) * 12 and (2 * 1 + 1) * 5
    expected = 16 * (1.1 * 60 + 1.1 * 14 / 8) + 10 * 4 / 64 + 64 * (1.1 * 15 + 1.1 * 9 / 8) + 20 * 2 / 64
    assert luts([small, large]) == pytest.approx(expected)
    assert luts([]) == 0


def test_diagnosis(task):
    d = broadaxe.search.diagnose(task.model, task.calib, task.val, acc_bits=9, weight_bits=3, act_bits=3)
    assert [layer.name for layer in d.layers] == ["fc0", "fc1", "fc2"]
    assert [m.of for m in d.layers[1].more] == ["P", "M", "N"]
    assert [m.bits for m in d.layers[1].more] == [10, 4, 4]
    assert d.layers[0].more[2].bits == 9
    q = broadaxe.quantize(task.model, task.calib, validation=task.val, acc_bits=9, weight_bits=3, act_bits=3)
    assert d.score == q.record.scores.quantized
    # noise, from the definition
    outputs = {}
    for name, model in (("float", task.model), ("quantized", q.model)):
        probe = onnx.ModelProto()
        probe.CopyFrom(model)
        node = next(n for n in probe.graph.node if n.name == "fc1")
        del probe.graph.output[:]
        probe.graph.output.append(helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None))
        outputs[name] = Judge(rows_of({"x": task.val[0]}), probe).wanted[0].astype(float)
    noise = outputs["float"] - outputs["quantized"]
    assert d.layers[1].snr == pytest.approx(10 * np.log10((outputs["float"] ** 2).sum() / (noise**2).sum()))


def test_all_layers_in_float_are_the_float_network(task):
    from broadaxe.quantization.diagnose import _restored

    model = broadaxe.quantize(task.model, task.calib, acc_bits=9).model
    for name in ("fc0", "fc1", "fc2"):
        model = _restored(task.model, model, name)
    judge = Judge(rows_of({"x": task.val[0]}), task.model)
    assert judge(model) == pytest.approx(100.0, abs=1e-9)


def test_the_commands(task, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    onnx.save(task.model, "model.onnx")
    np.savez("calib.npz", x=task.calib)
    np.savez("val.npz", x=task.val[0], labels=task.val[1])
    words = ["--calib", "calib.npz", "--val", "val.npz", "--acc-bits", "9"]
    monkeypatch.setattr("sys.argv", ["broadaxe", "quantize", "model.onnx", *words, "-o", "q.onnx", "--search"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    assert "bits chosen for least loss with 9 accumulator bits" in capsys.readouterr().out
    assert json.loads((tmp_path / "q.json").read_text())["rows"][1]["source"] == "val.npz"
    monkeypatch.setattr("sys.argv", ["broadaxe", "diagnose", "model.onnx", *words, "--no-bits", "--json"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    assert len(json.loads(capsys.readouterr().out)["layers"]) == 3


def test_quantized_weights_alone_leave_a_model_a_float_one():
    net = Network(8, seed=1)
    hidden = net.node("Relu", net.node("MatMul", "x", net.weights(8, 6)))
    model = net.finish(net.node("MatMul", hidden, net.weights(6, 4)))
    x = np.random.default_rng(0).random((40, 8), dtype=np.float32)
    q = broadaxe.quantize(model, x, acc_bits=12, act_bits=5)
    assert [layer.input_codes[1] for layer in q.record.layers] == [255, 31]
    assert all(layer.width <= 12 for layer in q.record.layers)


def test_a_setting_that_no_signs_fit_is_a_trial_that_was_refused(task):
    """24 signs times codes of up to 2^N - 1 need 5 + N bits; the search goes on with fewer activation bits."""
    layers = {"fc1": {"weight_bits": 1}}
    q = broadaxe.quantize(
        task.model, task.calib, validation=task.val, acc_bits=8, search=True, search_runs=12, layers=layers
    )
    refused = [t.refused for t in q.record.choice.trials if t.refused]
    assert refused
    assert refused[0].startswith("fc1 (MatMul): no bipolar weights fit 8 accumulator bits; give it ")
    assert all(layer.width <= 8 for layer in q.record.layers)
