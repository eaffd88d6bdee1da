"""Accumulator budgets kept while a Brevitas module trains, checked on integers that the tests compute themselves."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from torch import nn

import broadaxe
from broadaxe.errors import ProofError, RequestError
from broadaxe.frontend.brevitas import export_brevitas
from broadaxe.frontend.standard import expand_quant, session
from broadaxe.lower import lower
from broadaxe.prove.accumulators import accumulators
from broadaxe.quantization.budget import Budget
from broadaxe.quantization.projection import Rounding, projected

qnn = pytest.importorskip("brevitas.nn", reason="Brevitas is not installed; pip install 'broadaxe[brevitas]'")

from brevitas.quant import (  # noqa: E402  (only where Brevitas is)
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFloat,
    Uint8ActPerTensorFloat,
)
from brevitas.quant.binary import SignedBinaryWeightPerTensorConst  # noqa: E402
from brevitas.quant.fixed_point import Int8WeightPerChannelFixedPoint  # noqa: E402


class Cnn(nn.Module):
    """Padded, depthwise and linear layers; the first reads signed codes, the others unsigned ones."""

    def __init__(self, weight_quant=Int8WeightPerChannelFloat, **options):
        super().__init__()
        more = {"weight_quant": weight_quant, "weight_bit_width": 4, **options}
        self.pixels = qnn.QuantIdentity(bit_width=5)
        self.conv = qnn.QuantConv2d(2, 4, 3, padding=1, bias=True, **more)
        self.norm = nn.BatchNorm2d(4)
        self.relu = qnn.QuantReLU(bit_width=3)
        self.wise = qnn.QuantConv2d(4, 8, 3, groups=4, bias=False, **more)
        self.relu2 = qnn.QuantReLU(bit_width=4)
        self.linear = qnn.QuantLinear(128, 3, bias=True, **more)

    def forward(self, x):
        x = self.relu2(self.wise(self.relu(self.norm(self.conv(self.pixels(x))))))
        return self.linear(x.flatten(1))


RANGES = {"conv": (-16, 15), "wise": (0, 7), "linear": (0, 15)}
"""Least and largest code that each layer of the Cnn may read, padding included."""


def mlp(**options):
    """Without biases; the first layer's codes are unsigned."""
    options = {"bias": False, "weight_bit_width": 3, **options}
    return nn.Sequential(
        qnn.QuantIdentity(bit_width=2, act_quant=Uint8ActPerTensorFloat),
        qnn.QuantLinear(12, 16, **options),
        qnn.QuantReLU(bit_width=2),
        qnn.QuantLinear(16, 4, **options),
    )


def data(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def calibrated(module, *shape):
    module.train()
    for seed in range(3):
        module(data(16, *shape, seed=seed).abs())
    return module


def train(module, shape, *, hook=None, steps=6, rate=0.05, seed=0):
    """Steps down a random loss."""
    optimizer = torch.optim.SGD(module.parameters(), rate, momentum=0.9)
    if hook is not None:
        optimizer.register_step_post_hook(hook)
    module.train()
    for step in range(steps):
        x = data(16, *shape, seed=100 * seed + step)
        loss = nn.functional.cross_entropy(module(x), torch.arange(16) % 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def widest(layer, lo, hi, kind):
    """Bits that a layer's widest channel needs, from its quantizer's output and nothing else, in Python's integers."""
    with torch.no_grad():
        given = layer.quant_weight()
    codes = (given.value / given.scale).round().reshape(len(layer.weight), -1).to(torch.int64).tolist()
    found = []
    for row in codes:
        top, bottom = sum(max(q * lo, q * hi) for q in row), sum(min(q * lo, q * hi) for q in row)
        if kind == "offset":
            found.append(max(1, (top - bottom).bit_length()))
        else:
            found.append(next(p for p in range(1, 64) if -(2 ** (p - 1)) <= bottom and top < 2 ** (p - 1)))
    return max(found)


def proven(model, kind):
    """Widths by layer that the compiler proves."""
    found = accumulators(lower(model).graph)
    return {a.origin.split(" ")[0]: a.offset_bits if kind == "offset" else a.exact_bits for a in found}


@pytest.mark.parametrize(
    ("kind", "quant", "options"),
    [
        ("offset", Int8WeightPerChannelFloat, {}),
        ("signed", Int8WeightPerTensorFloat, {"weight_float_to_int_impl_type": "ROUND_TO_ZERO"}),
        ("signed", Int8WeightPerChannelFixedPoint, {}),
    ],
    ids=["offset, per channel", "signed, per tensor, toward zero", "signed, powers of two"],
)
def test_every_layer_keeps_its_budget_after_every_step(kind, quant, options):
    torch.manual_seed(0)
    module = calibrated(Cnn(quant, **options), 2, 6, 6)
    budget = broadaxe.training.AccumulatorBudget(module, data(1, 2, 6, 6), acc_bits=9, budget=kind, layers={"wise": 6})
    bits = {"conv": 9, "wise": 6, "linear": 9}

    def widths():
        return {name: widest(getattr(module, name), *RANGES[name], kind) for name in RANGES}

    def after_every_step(*_):
        budget.project()
        assert all(widths()[name] <= bits[name] for name in bits)

    train(module, (2, 6, 6), hook=after_every_step)
    found = budget.check()
    assert {name: layer.width for name, layer in found.items()} == widths()
    assert {name: layer.acc_bits for name, layer in found.items()} == bits
    assert all(layer.holds for layer in found.values())
    model = budget.export()
    assert all(width <= bits[name] for name, width in proven(model, kind).items())

    train(module, (2, 6, 6), steps=3, rate=0.5)  # without projecting
    assert any(widths()[name] > bits[name] for name in bits)
    assert not all(layer.holds for layer in budget.check().values())
    with pytest.raises(
        ProofError, match=r"channels are over the budget, width \d+ for \d+ bits; call project\(\) after"
    ):
        budget.export()


@pytest.mark.slow
def test_the_exported_model_compiles_within_the_budget_and_verifies(tmp_path):
    torch.manual_seed(0)
    module = calibrated(mlp(), 12)
    budget = broadaxe.training.AccumulatorBudget(module, data(1, 12), acc_bits=6)
    train(module, (12,), hook=budget)
    build = broadaxe.compile(budget.export(), tmp_path / "build")
    assert all(a.width <= 6 for a in accumulators(build.graph))
    assert len(accumulators(build.graph)) == 2
    x = data(20, 12, seed=9).numpy()
    assert broadaxe.verify(build, x).ok
    assert all(width <= 6 for width in proven(export_brevitas(module, data(1, 12)), "offset").values())
    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(x)).numpy()
    (ours,) = broadaxe.simulate(build, x).values()
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    bits=st.integers(2, 14),
    kind=st.sampled_from(["offset", "signed"]),
    grid=st.sampled_from([(-1, 1), (-8, 7), (-7, 7), (-127, 127)]),
    toward_zero=st.booleans(),
    one_step=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    size=st.sampled_from([1e-3, 1.0, 100.0, 1e30]),
)
def test_projected_rows_fit_and_no_more_is_taken_than_needed(
    seed, bits, kind, grid, toward_zero, one_step, dtype, size
):
    rng = np.random.default_rng(seed)
    rows, inputs = 5, int(rng.integers(1, 40))
    weights = torch.from_numpy(rng.laplace(size=(rows, inputs)) * size).to(dtype)
    weights[0] = 0
    steps = torch.from_numpy(rng.uniform(0.01, 2, size=(rows, 1))).to(dtype)
    if one_step:
        steps = steps[:1].expand(rows, 1)
    lo, hi = -rng.integers(0, 9, inputs), rng.integers(0, 16, inputs)
    rounding = Rounding(*grid, toward_zero)
    budget = Budget(bits, torch.from_numpy(lo), torch.from_numpy(hi), kind)
    moved = projected(weights, steps, rounding, budget)

    def fits(row, step):
        quotients = (row / step).double().tolist()
        codes = [min(max(math.trunc(v) if toward_zero else round(v), grid[0]), grid[1]) for v in quotients]
        ends = list(zip(codes, lo.tolist(), hi.tolist(), strict=True))
        top, bottom = sum(max(q * a, q * b) for q, a, b in ends), sum(min(q * a, q * b) for q, a, b in ends)
        if kind == "offset":
            return top - bottom <= 2**bits - 1
        return top <= 2 ** (bits - 1) - 1 and bottom >= -(2 ** (bits - 1))

    for before, after, step in zip(weights, moved, steps, strict=True):
        assert fits(after, step)
        if fits(before, step):
            assert torch.equal(before, after)
        assert bool((after.sign() * before.sign() >= 0).all())
        assert bool((after.abs() <= before.abs() * 1.01 + 1e-30).all())


def test_rows_are_shrunk_by_the_least_threshold():
    weights = torch.tensor([[3.2, -2.6, 1.4, 0.2]], dtype=torch.float64)
    budget = Budget(4, torch.zeros(4, dtype=torch.int64), torch.full((4,), 3), "offset")  # sum |q| <= 5
    moved = projected(weights, torch.ones(1, 1, dtype=torch.float64), Rounding(-7, 7, False), budget)
    # 3, 3, 1 is 7; less 0.1: 3, 2 (2.5 to even), 1; less 0.7: 2 (2.5), 2 (1.9), 1; less 0.9: 2, 2, 0 (0.5 to even), 4
    np.testing.assert_allclose(moved, weights.sign() * (weights.abs() - 0.7).clamp(min=0), atol=1e-3)
    assert moved.round().tolist() == [[2, -2, 1, 0]]


def test_a_huge_step_and_rows_of_zeros_stay_within_the_budget():
    torch.manual_seed(0)
    module = calibrated(mlp(), 12)
    with torch.no_grad():
        module[1].weight[2:5] = 0
        module[3].weight.zero_()
    budget = broadaxe.training.AccumulatorBudget(module, data(1, 12), acc_bits=5)
    assert bool((module[1].weight[2:5] == 0).all())
    with torch.no_grad():
        for layer in (module[1], module[3]):
            layer.weight.add_(torch.randn(layer.weight.shape) * 1e30)
    assert not budget.check()["1"].holds
    budget.project()
    assert all(widest(module[i], 0, 3, "offset") <= 5 for i in (1, 3))
    assert bool(module[1].weight.isfinite().all())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_and_nothing_is_changed(value):
    torch.manual_seed(0)
    module = calibrated(mlp(), 12)
    budget = broadaxe.training.AccumulatorBudget(module, data(1, 12), acc_bits=5)
    with torch.no_grad():
        module[1].weight.mul_(50)
        module[3].weight[1, 2] = value
    before = module[1].weight.clone()
    for refused in (budget.project, budget.check, budget.export):
        with pytest.raises(RequestError) as error:
            refused()
        assert str(error.value) == (
            "gemm_3 (Gemm): weights are not finite numbers, 1 of 64; load weights from before that step, and lower the"
            " learning rate"
        )
    assert torch.equal(module[1].weight, before)


def test_steps_that_are_no_numbers_are_refused():
    torch.manual_seed(0)
    module = calibrated(mlp(), 12)
    budget = broadaxe.training.AccumulatorBudget(module, data(1, 12), acc_bits=5)
    with torch.no_grad():
        module[1].weight_quant.tensor_quant.scaling_impl.log2.fill_(500.0)
    with pytest.raises(RequestError, match="weight scales are not positive numbers, 1 of 1"):
        budget.project()


def test_learned_steps_move_only_when_settled_and_survive_a_state_dict():
    torch.manual_seed(0)
    module = calibrated(mlp(), 12)
    budget = broadaxe.training.AccumulatorBudget(module, data(1, 12), acc_bits=6)
    step = module[1].weight_quant.tensor_quant.scaling_impl
    assert step.log2 in set(module.parameters())
    kept = {k: v.clone() for k, v in module.state_dict().items()}
    was = step.step.clone()
    train(module, (12,), steps=1, rate=0.5)
    assert torch.equal(step.step, was)
    budget.project()
    assert not torch.equal(step.step, was)
    module.load_state_dict(kept)
    assert module[1].weight_quant.tensor_quant.scaling_impl is step
    assert torch.equal(step.step, was)
    assert all(layer.holds for layer in budget.check().values())


def test_scales_from_post_training_quantization_stay_and_training_starts_there():
    torch.manual_seed(0)
    x = data(64, 12).abs().numpy()
    module = calibrated(mlp(), 12).eval()
    broadaxe.training.load_weights(module, broadaxe.quantize(module, x, acc_bits=6))
    with torch.no_grad():
        before = [layer.quant_weight().value.clone() for layer in (module[1], module[3])]
    budget = broadaxe.training.AccumulatorBudget(module, x[:1], acc_bits=6)
    with torch.no_grad():
        after = [layer.quant_weight().value for layer in (module[1], module[3])]
    assert all(layer.holds for layer in budget.check().values())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_layers_are_exempt_by_name_and_patterns_have_to_match():
    torch.manual_seed(0)
    module = calibrated(mlp(), 12)
    with torch.no_grad():
        before = module[3].quant_weight().value.clone()
    budget = broadaxe.training.AccumulatorBudget(module, data(1, 12), acc_bits=4, layers={"3": None})
    assert set(budget.check()) == {"1"}
    with torch.no_grad():
        assert torch.equal(module[3].quant_weight().value, before)
    with pytest.raises(RequestError) as error:
        broadaxe.training.AccumulatorBudget(module, data(1, 12), acc_bits=4, layers={"fc*": None})
    assert str(error.value) == "AccumulatorBudget: layers: fc*: no layer has such a name; there are 1, 3"
    with pytest.raises(RequestError) as error:
        broadaxe.training.AccumulatorBudget(module, data(1, 12))
    assert str(error.value) == "AccumulatorBudget: no layer has a budget; give acc_bits, or bits by layer"


class Residual(nn.Module):
    """A sum of two activations: the second layer's sum has no room for a constant of its own."""

    def __init__(self):
        super().__init__()
        self.a = qnn.QuantIdentity(bit_width=4)
        self.one = qnn.QuantLinear(8, 8, bias=False, weight_bit_width=4)
        self.r = qnn.QuantIdentity(bit_width=4)
        self.two = qnn.QuantLinear(8, 8, bias=False, weight_bit_width=4)
        self.out = qnn.QuantIdentity(bit_width=4)

    def forward(self, x):
        y = self.r(self.one(self.a(x)))
        return self.out(self.two(y) + y)


def test_layers_before_an_addition_are_counted_from_zero():
    torch.manual_seed(0)
    module = calibrated(Residual(), 8)
    budget = broadaxe.training.AccumulatorBudget(module, data(1, 8), acc_bits=6)
    assert widest(module.one, -8, 7, "offset") <= 6
    assert widest(module.two, -8, 7, "signed") <= 6
    model = budget.export()
    starts = [p.value for n in model.graph.node for p in n.metadata_props if p.key == "broadaxe.start"]
    assert starts == ["offset", "zero"]


def unquantized():
    return nn.Sequential(qnn.QuantIdentity(bit_width=4), nn.Linear(12, 4))


def float_input():
    return nn.Sequential(qnn.QuantLinear(12, 4, bias=True, weight_bit_width=4))


def tied():
    module = nn.Sequential(qnn.QuantIdentity(bit_width=4), linear(), qnn.QuantReLU(bit_width=4), linear())
    module[3].weight = module[1].weight
    return module


def linear(**options):
    return qnn.QuantLinear(12, 12, bias=True, **{"weight_bit_width": 4, **options})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: nn.Sequential(
                qnn.QuantIdentity(bit_width=4), linear(weight_quant=SignedBinaryWeightPerTensorConst)
            ),
            "gemm_1 (Gemm): its weights are bipolar, every one counts in full; give them 2 bits or more,"
            " or exempt it, layers={'1': None}",
        ),
        (
            unquantized,
            "gemm_1 (Gemm): its weights are not quantized; use a layer of brevitas.nn, or exempt it, layers={'1': None}",
        ),
        (
            float_input,
            "gemm_0 (Gemm): its input is not quantized; put a QuantIdentity in front of it, or exempt it,"
            " layers={'0': None}",
        ),
        (
            tied,
            "gemm_3 (Gemm): shares its weights with 1; give it weights of its own, or exempt it, layers={'3': None}",
        ),
        (
            lambda: nn.Sequential(qnn.QuantIdentity(bit_width=4), linear(weight_float_to_int_impl_type="CEIL")),
            "gemm_1 (Gemm): its weights are rounded by CeilSte; use ROUND or ROUND_TO_ZERO,"
            " or exempt it, layers={'1': None}",
        ),
    ],
    ids=["bipolar", "float weights", "float input", "tied", "rounded up"],
)
def test_layers_that_cannot_have_a_budget_are_named(build, message):
    torch.manual_seed(0)
    with pytest.raises(RequestError) as error:
        broadaxe.training.AccumulatorBudget(calibrated(build(), 12), data(1, 12), acc_bits=8)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"acc_bits": 0}, "AccumulatorBudget: acc_bits: 0; give bits from 1 to 48"),
        ({"layers": {"1": 8.0}}, "AccumulatorBudget: layers: 1: 8.0; give bits from 1 to 48"),
        ({"acc_bits": 8, "budget": "l1"}, "AccumulatorBudget: budget is 'l1'; use offset or signed"),
    ],
)
def test_wrong_requests(options, message):
    with pytest.raises(RequestError) as error:
        broadaxe.training.AccumulatorBudget(mlp(), data(1, 12), **options)
    assert str(error.value) == message


@pytest.mark.parametrize("mode", ["ROUND", "ROUND_TO_ZERO", "FLOOR", "CEIL"])
def test_weights_are_exported_as_they_are_rounded(mode):
    torch.manual_seed(0)
    module = calibrated(mlp(weight_float_to_int_impl_type=mode), 12).eval()
    model = export_brevitas(module, data(1, 12))
    x = data(30, 12, seed=5)
    with torch.no_grad():
        expected = module(x).numpy()
    run = session(expand_quant(model))
    np.testing.assert_allclose(run.run(None, {run.get_inputs()[0].name: x.numpy()})[0], expected, atol=1e-5)
    grids = integers(model)
    for layer, codes in zip((module[1], module[3]), grids, strict=True):
        with torch.no_grad():
            given = layer.quant_weight()
        assert np.array_equal((given.value / given.scale).round().numpy(), codes)


def integers(model: onnx.ModelProto):
    """Of the weight quantizers, from the file."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    out = []
    for node in model.graph.node:
        if node.op_type == "Quant" and node.input[0] in constants:
            weights, scale = constants[node.input[0]], constants[node.input[1]]
            out.append(np.round(weights / scale).clip(-3, 3))
    return out
