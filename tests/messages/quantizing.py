"""Quantizing: data, settings, budgets, and modules in training."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from brevitas.nn import QuantIdentity, QuantLinear
from brevitas.quant import ShiftedUint8WeightPerTensorFloat
from brevitas.quant.binary import SignedBinaryWeightPerTensorConst
from brevitas.quant.scaled_int import Int8WeightNormL2PerChannelFixedPoint
from models import Network
from onnx import ModelProto, TensorProto, helper
from test_quantize import DATA, NETWORKS, two_inputs
from torch import nn

import broadaxe
from broadaxe.configuration.complaints import SettingsError
from broadaxe.errors import BudgetError, MissingToolError, ProofError, RequestError
from broadaxe.quantization.budget import Budget
from broadaxe.quantization.config import QuantConfig
from broadaxe.quantization.grid import WeightGrid
from broadaxe.quantization.matrices import Matrices
from broadaxe.quantization.moments import Moments, MomentSum
from broadaxe.quantization.optq import Factor
from broadaxe.quantization.projection import Rounding, projected
from broadaxe.quantization.quantize import Quantized
from broadaxe.quantization.recipe import PRESETS
from broadaxe.quantization.solve import solve
from broadaxe.quantization.training import _check_quantizer
from broadaxe.search import diagnose
from broadaxe.training import AccumulatorBudget, load_weights

from . import provokes

COVERS = ("quantization/",)
CALIBRATION = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)


def one_layer(name: str = "fc", **options: object) -> ModelProto:
    """A quantized layer of 4 inputs and 3 outputs."""
    net = Network(4)
    return net.finish(net.node("MatMul", net.quant("x", **options), net.weights(4, 3), name=name))


def float_layer() -> ModelProto:
    net = Network(4)
    return net.finish(net.node("MatMul", "x", net.constant(net.rng.normal(size=(4, 3))), name="fc"))


def quantizing(
    message: str, name: str, model: Callable[[], ModelProto] = one_layer, data: object = CALIBRATION, **options: object
) -> None:
    """A case that quantizes a model."""
    provokes(message, RequestError, name)(lambda tmp: broadaxe.quantize(model(), data, **options))


# calibration data

for _label, (_data, _message) in DATA.items():
    quantizing(_message, f"data: {_label}", NETWORKS["gemm"], _data)
quantizing("data: one array for 2 inputs; give a mapping with x, z", "one array", two_inputs, np.zeros((5, 6)))
quantizing(
    "calibration: inputs have [4, 5] samples; give the same number for each",
    "inputs of other lengths",
    two_inputs,
    {"x": np.zeros((5, 6)), "z": np.zeros((4, 4))},
)
quantizing(
    "fc (MatMul): calibration: the inputs' second moments are not finite; scale the data down",
    "squares that overflow",
    lambda: one_layer(scale=1e20),
    np.full((5, 4), 1e25, np.float32),
)


@provokes("calibration: a module takes one array of inputs, shape (samples, ...); give that", RequestError)
def two_arrays_for_a_module(tmp: Path) -> None:
    broadaxe.quantize(nn.Linear(4, 3), {"x": CALIBRATION, "y": CALIBRATION})


@provokes("model: input x has no type; repair the model", RequestError)
def input_without_a_type(tmp: Path) -> None:
    model = one_layer()
    model.graph.input[0].type.tensor_type.elem_type = 0
    broadaxe.quantize(model, CALIBRATION)


@provokes("calibration: input x holds values that are no uint8; give the model's own codes", RequestError)
def fractions_for_integers(tmp: Path) -> None:
    net = Network(4)
    net.inputs = [helper.make_tensor_value_info("x", TensorProto.UINT8, ["N", 4])]
    y = net.quant(net.node("Cast", "x", to=TensorProto.FLOAT), 1.0, bits=8, signed=0)
    broadaxe.quantize(net.finish(net.node("MatMul", y, net.weights(4, 3))), np.full((8, 4), 0.5, np.float32))


@provokes("calibration: no samples; give at least one", RequestError)
def moments_of_nothing(tmp: Path) -> None:
    MomentSum(1, 4, paired=True).average()


@provokes("calibration: float and quantized inputs belong together; pass both or one throughout", RequestError)
def moments_of_one_network(tmp: Path) -> None:
    MomentSum(1, 4, paired=True).add(torch.zeros(1, 2, 4))


@provokes("calibration: the inputs' second moments cannot be factorized; give more varied data", RequestError)
def moments_that_no_inputs_have(tmp: Path) -> None:
    Factor.of(Matrices(torch.tensor([[1.0, 1e9], [1e9, 1.0]])))


# settings

quantizing(
    "quantize: both a config and acc_bits; give one or the other",
    "config and options",
    config=broadaxe.QuantConfig(),
    acc_bits=4,
)
quantizing(
    "quantize: config is of type str; give broadaxe.QuantConfig(...)",
    "config of another type",
    config="a.yaml",
)
quantizing(
    "settings: search: there are no validation rows to choose by; give some (--val)",
    "search without rows",
    search=True,
    acc_bits=9,
)
quantizing(
    "settings: layers: conv*: no layer has such a name; there are fc",
    "settings of no layer",
    layers={"conv*": {"acc_bits": 8}},
)
quantizing(
    "settings: layers: fc: act_bits: the model has quantizers of its own; leave it out",
    "act_bits of a layer",
    layers={"fc": {"act_bits": 4}},
)
quantizing(
    "settings: act_bits: is for float models, this one has quantizers of its own; leave it out", "act_bits", act_bits=4
)
quantizing(
    "b (MatMul): tile 2 without acc_bits; give both",
    "tile alone",
    lambda: two_layers(),
    layers={"a": {"acc_bits": 9}, "b": {"tile": 2}},
)
quantizing(
    "grouped (Conv): tile is 4, but grouped layers have no tiles; leave it out for this layer",
    "tile of groups",
    NETWORKS["grouped"],
    np.zeros((2, 4, 4, 4)),
    acc_bits=8,
    tile=4,
)
quantizing(
    "fc (MatMul): budget offset with tile 2; accumulators of tiles start at zero, use signed",
    "tiles that start anywhere",
    acc_bits=8,
    tile=2,
    budget="offset",
)
quantizing(
    "model: has no layer whose weights could be quantized; give one with a Conv, Gemm or MatMul",
    "no layer",
    lambda: (net := Network(4)).finish(net.node("Relu", net.quant("x"))),
)
quantizing(
    "fc (MatMul): no bipolar weights fit 2 accumulator bits; give it 6 or more",
    "a budget for no signs",
    acc_bits=2,
    weight_bits=1,
)
quantizing(
    "fc (MatMul): weights are not finite numbers; repair the model",
    "weights without a Quant that are no numbers",
    lambda: (net := Network(4)).finish(
        net.node("MatMul", net.quant("x"), net.constant(np.full((4, 3), np.nan)), name="fc")
    ),
)


def two_layers() -> ModelProto:
    net = Network(4)
    y = net.quant(net.node("MatMul", net.quant("x"), net.weights(4, 4), name="a"))
    return net.finish(net.node("MatMul", y, net.weights(4, 3), name="b"))


@provokes("diagnose: both a config and acc_bits; give one or the other", RequestError)
def diagnosis_with_config_and_options(tmp: Path) -> None:
    diagnose(one_layer(), CALIBRATION, CALIBRATION, broadaxe.QuantConfig(), acc_bits=4)


@provokes("diagnose: search and max_drop choose bits; run quantize first, and give the bits it chose", RequestError)
def diagnosis_of_a_search(tmp: Path) -> None:
    diagnose(one_layer(), CALIBRATION, CALIBRATION, search=True, acc_bits=9)


# searching


@provokes("search: no bits from 2 to 8 fit; fc (MatMul): {...}; give it {...} or more", RequestError)
def search_that_finds_nothing(tmp: Path) -> None:
    with mock.patch("broadaxe.quantization.network._solutions", side_effect=BudgetError(2, 7)):
        broadaxe.quantize(float_layer(), CALIBRATION, validation=CALIBRATION, search=True, acc_bits=2, search_runs=2)


@provokes(
    "max_drop: 0 percent points are not enough, the best of {...} settings loses {...}; allow more, or give more acc_bits or"
    " search_runs",
    RequestError,
)
def drop_that_is_not_met(tmp: Path) -> None:
    options = {"validation": CALIBRATION, "max_drop": 0.0, "acc_bits": 4, "search_runs": 2}
    broadaxe.quantize(float_layer(), CALIBRATION, **options)


# results


@cache
def result() -> Quantized:
    return broadaxe.quantize(one_layer(), CALIBRATION, preset="rtn")


def saving(message: str, name: str, place: str, prepare: Callable[[Path], object] = lambda tmp: None) -> None:
    """A case that saves a quantized model."""

    def provoke(tmp: Path) -> None:
        prepare(tmp)
        result().save(tmp / place)

    provokes(message, RequestError, name)(provoke)


saving("{tmp}/model.json: models are .onnx files; name the output *.onnx", "no onnx file", "model.json")
saving("{tmp}/none/q.onnx: its folder does not exist; create it first", "no folder", "none/q.onnx")
saving(
    "{tmp}/mine.onnx: exists, and quantize did not write it; choose another name",
    "somebody's file",
    "mine.onnx",
    lambda tmp: (tmp / "mine.onnx").write_bytes(b"mine"),
)


@provokes("{tmp}/q.onnx: is a folder; choose another place", RequestError)
def save_over_a_folder(tmp: Path) -> None:
    result().save(tmp / "q.onnx")
    (tmp / "q.onnx").unlink()
    (tmp / "q.onnx").mkdir()
    result().save(tmp / "q.onnx")


@provokes("{tmp}/q.onnx: cannot be written (No space left on device); choose another place", RequestError)
def save_on_a_full_disk(tmp: Path) -> None:
    with mock.patch.object(Path, "write_bytes", side_effect=OSError(28, "No space left on device")):
        result().save(tmp / "q.onnx")


@provokes("quantize: torch is not installed; pip install 'broadaxe[brevitas]'", MissingToolError)
def quantize_without_torch(tmp: Path) -> None:
    gone = {"broadaxe.quantization.network": None}
    with mock.patch.dict(sys.modules, gone), mock.patch("builtins.__import__", side_effect=_without_torch):
        broadaxe.quantize(one_layer(), CALIBRATION)


_importing = __import__


def _without_torch(name: str, *rest: object) -> object:
    if name == "broadaxe.quantization.network":
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
    return _importing(name, *rest)


# solvers that break their promise

GRID = WeightGrid(4, True, False)


def budget(bits: int) -> Budget:
    return Budget(bits, torch.zeros(4, dtype=torch.int64), torch.full((4,), 15))


@provokes("solver: integers exceed 3 accumulator bits, 10 needed; report this as a bug", ProofError)
def solver_out_of_its_budget(tmp: Path) -> None:
    with mock.patch("broadaxe.quantization.solve.round_rows", lambda targets, *_, **__: targets.round()):
        solve(torch.ones(1, 4), Moments.of(torch.eye(4, dtype=torch.float64)), GRID, budget(3), PRESETS["rtn"])


@provokes("projection: left a row outside of 3 bits; report this as a bug", ProofError)
def projection_out_of_its_budget(tmp: Path) -> None:
    with mock.patch("broadaxe.quantization.projection._shrunk", lambda v, *_: v):
        projected(torch.full((1, 4), 7.0), torch.ones(1, 1), Rounding(-8, 7, False), budget(3))


@provokes("fc (MatMul): its Quant gives other integers than the solver's; report this as a bug", ProofError)
def draft_of_other_integers(tmp: Path) -> None:
    with mock.patch("broadaxe.quantization.draft.np.array_equal", return_value=False):
        broadaxe.quantize(one_layer(), CALIBRATION, preset="rtn")


@provokes("fc (MatMul): needs 40 accumulator bits, 12 were asked; report this as a bug", ProofError)
def widths_beyond_the_budget(tmp: Path) -> None:
    with mock.patch("broadaxe.quantization.network._widths", return_value=(40, None)):
        broadaxe.quantize(one_layer(), CALIBRATION, preset="rtn", acc_bits=12)


# modules


def module(*layers: nn.Module) -> nn.Module:
    """Layers behind a quantizer of 12 inputs, calibrated."""
    torch.manual_seed(0)
    made = nn.Sequential(QuantIdentity(bit_width=4), *layers).train()
    made(torch.rand(4, 12))
    return made


def linear(**options: object) -> nn.Module:
    return QuantLinear(12, 12, **{"bias": False, "weight_bit_width": 4, **options})


EXAMPLE = torch.rand(1, 12)


def budgeting(message: str, name: str, make: Callable[[], nn.Module], **options: object) -> None:
    """A case that puts a module under a budget."""
    given = {"acc_bits": 8, **options}
    provokes(message, RequestError, name)(lambda tmp: AccumulatorBudget(make(), EXAMPLE, **given))


EXEMPT = "or exempt it, layers={'1': None}"
budgeting(
    "AccumulatorBudget: budget is 'l1'; use offset or signed", "another budget", lambda: module(linear()), budget="l1"
)
budgeting("AccumulatorBudget: acc_bits: 0; give bits from 1 to 48", "no bits", lambda: module(linear()), acc_bits=0)
budgeting(
    "AccumulatorBudget: layers: fc*: no layer has such a name; there are 1",
    "budget of no layer",
    lambda: module(linear()),
    layers={"fc*": None},
)
budgeting(
    "AccumulatorBudget: no layer has a budget; give acc_bits, or bits by layer",
    "no budget",
    lambda: module(linear()),
    acc_bits=None,
)
budgeting(
    "gemm_0 (Gemm): its input is not quantized; put a QuantIdentity in front of it, or exempt it, layers={'0': None}",
    "float input",
    lambda: nn.Sequential(linear(bias=True)),
)


class Tied(nn.Module):
    """Two layers that share a weight, or one layer that runs twice."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.first, self.second = QuantIdentity(bit_width=4), QuantIdentity(bit_width=4)
        self.one = linear()
        self.two = linear() if layers == 2 else self.one
        self.two.weight = self.one.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(self.second(self.one(self.first(x))))


def tied(layers: int) -> nn.Module:
    torch.manual_seed(0)
    made = Tied(layers).train()
    made(torch.rand(4, 12))
    return made


budgeting(
    "two (Gemm): shares its weights with one; give it weights of its own, or exempt it, layers={'two': None}",
    "tied weights",
    lambda: tied(2),
)
budgeting(
    "two (Gemm): the module has no layer of this name; a layer that runs twice has no budget, or exempt it,"
    " layers={'two': None}",
    "a layer that runs twice",
    lambda: tied(1),
)
budgeting(
    f"gemm_1 (Gemm): its weights are not quantized; use a layer of brevitas.nn, {EXEMPT}",
    "float weights",
    lambda: module(nn.Linear(12, 4)),
)
budgeting(
    f"gemm_1 (Gemm): its weights are bipolar, every one counts in full; give them 2 bits or more, {EXEMPT}",
    "bipolar weights",
    lambda: module(linear(weight_quant=SignedBinaryWeightPerTensorConst)),
)
budgeting(
    f"gemm_1 (Gemm): its weights have a DecoupledRescalingIntQuant; use a plain integer quantizer, {EXEMPT}",
    "decoupled weights",
    lambda: module(linear(weight_quant=Int8WeightNormL2PerChannelFixedPoint)),
)
budgeting(
    f"gemm_1 (Gemm): its weights have a zero point; use a symmetric quantizer, {EXEMPT}",
    "weights with a zero point",
    lambda: module(linear(weight_quant=ShiftedUint8WeightPerTensorFloat)),
)
budgeting(
    f"gemm_1 (Gemm): its weights are rounded by CeilSte; use ROUND or ROUND_TO_ZERO, {EXEMPT}",
    "weights rounded up",
    lambda: module(linear(weight_float_to_int_impl_type="CEIL")),
)


@provokes(
    f"gemm_1 (Gemm): its weights have scales of shape (12, 12); use one per tensor or per output channel, {EXEMPT}",
    RequestError,
)
def scale_per_weight(tmp: Path) -> None:
    """A quantizer of the user's own."""
    made = module(linear())
    quantizer = made[1].weight_quant.tensor_quant
    plain = type(quantizer).forward
    scales = lambda self, x: (lambda y, s, z, b: (y, torch.ones(12, 12), z, b))(*plain(self, x))  # noqa: E731
    with mock.patch.object(type(quantizer), "forward", scales):
        _check_quantizer("gemm_1 (Gemm)", made[1], EXEMPT)


@provokes(
    "gemm_1 (Gemm): weights are not finite numbers, 1 of 144; load weights from before that step, and lower the learning"
    " rate",
    RequestError,
)
def weights_that_have_left(tmp: Path) -> None:
    made = module(linear())
    kept = AccumulatorBudget(made, EXAMPLE, acc_bits=8)
    with torch.no_grad():
        made[1].weight[0, 0] = float("nan")
    kept.check()


@provokes(
    "gemm_1 (Gemm): 12 of 12 channels are over the budget, width 10 for 6 bits; call project() after every step of the"
    " optimizer",
    ProofError,
)
def weights_over_the_budget(tmp: Path) -> None:
    made = module(linear())
    kept = AccumulatorBudget(made, EXAMPLE, acc_bits=6)
    with torch.no_grad():
        made[1].weight.fill_(1.0)
    kept.export()


@provokes(
    "gemm_1 (Gemm): needs {...} accumulator bits, 8 were asked; its input quantizer changed, make a new AccumulatorBudget",
    ProofError,
)
def input_that_has_changed(tmp: Path) -> None:
    made = module(linear())
    kept = AccumulatorBudget(made, EXAMPLE, acc_bits=8)
    made[0] = QuantIdentity(bit_width=8).train()
    made(torch.rand(4, 12))
    kept.export()


# weights back into a module


def loading(message: str, name: str, into: Callable[[], object], model: Callable[[], object]) -> None:
    """A case that loads the weights of a model into a module."""
    provokes(f"load_weights: {message}", RequestError, name)(lambda tmp: load_weights(into(), model()))


loading("a str in place of the module; give module, then model", "a name", lambda: "module", one_layer)
loading(
    "the model has no layer with quantized weights; give one from broadaxe.quantize",
    "a float model",
    lambda: nn.Linear(4, 3),
    float_layer,
)
loading(
    "fc: the module has no such layer; give the module that was quantized",
    "another module",
    lambda: nn.Linear(4, 3),
    one_layer,
)


class Net(nn.Module):
    def __init__(self, fc: nn.Module) -> None:
        super().__init__()
        self.fc = fc


loading(
    "fc: the module's layer has no weight quantizer; give a Brevitas module",
    "a float module",
    lambda: Net(nn.Linear(4, 3)),
    one_layer,
)
loading(
    "fc: weights of shape (3, 4) for a layer of (12, 12); give the module that was quantized",
    "a larger module",
    lambda: Net(linear()),
    one_layer,
)
loading(
    "fc: its quantizer does not give the model's weights; give it an integer quantizer and weights that no other layer"
    " shares",
    "bipolar weights of a module",
    lambda: Net(QuantLinear(4, 3, bias=False, weight_quant=SignedBinaryWeightPerTensorConst)),
    one_layer,
)


# settings that contradict each other


def contradicting(message: str, name: str, **values: object) -> None:
    provokes(message, SettingsError, name)(lambda tmp: QuantConfig(**values))


contradicting(
    "settings: tile: 8 needs acc_bits, the width of a tile's accumulator; give it", "tile_without_a_budget", tile=8
)
contradicting(
    "settings: search: needs acc_bits, the budget under which bits are chosen; give it",
    "search_without_a_budget",
    search=True,
)
contradicting(
    "settings: max_drop: 1 beside search, which is another goal; give one of both",
    "two_goals",
    acc_bits=12,
    search=True,
    max_drop=1.0,
)
