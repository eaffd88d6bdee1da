"""Brevitas modules become QONNX models that compute what the module computes."""

from __future__ import annotations

import brevitas.nn as qnn
import numpy as np
import onnx
import pytest
import torch
from brevitas.quant import Int16Bias, Uint8ActPerTensorFloat
from torch import nn

from broadaxe.errors import RequestError, UnsupportedModelError
from broadaxe.frontend.brevitas import export_brevitas
from broadaxe.frontend.standard import expand_quant, session


class Net(nn.Module):
    def __init__(self, bias_quant=None):
        super().__init__()
        torch.manual_seed(0)
        self.pixels = qnn.QuantIdentity(bit_width=8, act_quant=Uint8ActPerTensorFloat, return_quant_tensor=True)
        self.conv1 = qnn.QuantConv2d(1, 4, 3, padding=1, bias=True, bias_quant=bias_quant, weight_bit_width=4)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu1 = qnn.QuantReLU(bit_width=4)
        self.pool = nn.MaxPool2d(2)
        self.fc = qnn.QuantLinear(16, 3, bias=True, weight_bit_width=4)

    def forward(self, x):
        y = self.pool(self.relu1(self.bn1(self.conv1(self.pixels(x)))))
        return self.fc(torch.flatten(y, 1))


def images(count, seed=0):
    return torch.rand((count, 1, 4, 4), generator=torch.Generator().manual_seed(seed))


def trained(module):
    """The module with scales and statistics from some batches, left in training mode."""
    module.train()
    for seed in range(4):
        module(images(32, seed))
    return module


def run(model, x):
    return session(expand_quant(model)).run(None, {model.graph.input[0].name: x.numpy()})[0]


@pytest.fixture(scope="module", params=[None, Int16Bias], ids=["float bias", "quantized bias"])
def exported(request):
    module = trained(Net(request.param))
    return module, export_brevitas(module, images(3).numpy())


def test_the_model_computes_what_the_module_computes(exported):
    module, model = exported
    x = images(50, seed=9)
    with torch.no_grad():
        expected = module.eval()(x).numpy()
    module.train()
    np.testing.assert_allclose(run(model, x), expected, rtol=0, atol=1e-5)


def test_the_batch_is_symbolic_and_constants_are_no_inputs(exported):
    _, model = exported
    onnx.checker.check_model(model)
    assert model.ir_version == 10
    assert [value.name for value in model.graph.input] == ["x"]
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["N", 1, 4, 4]
    assert {run(model, images(count)).shape for count in (1, 2, 7)} == {(1, 3), (2, 3), (7, 3)}


def test_nodes_carry_the_names_of_their_modules(exported):
    _, model = exported
    names = [node.name for node in model.graph.node]
    assert len(names) == len(set(names))
    assert {"pixels.act_quant", "conv1.weight_quant", "conv1", "bn1", "relu1", "relu1.act_quant", "fc"} <= set(names)


def test_the_export_says_nothing_and_leaves_no_trace_of_the_machine(capfd):
    module = trained(Net())
    first = export_brevitas(module, images(1))
    assert module.training
    assert capfd.readouterr() == ("", "")
    assert b"site-packages" not in first.SerializeToString()
    assert export_brevitas(module, images(1, seed=5)).SerializeToString() == first.SerializeToString()


class OneSample(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = qnn.QuantLinear(16, 3, bias=False, weight_bit_width=4)

    def forward(self, x):
        return self.fc(x.view(1, 16))


def test_a_module_for_one_sample_keeps_its_batch_of_one():
    model = export_brevitas(OneSample(), images(1))
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [1, 1, 4, 4]


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum().item() > 0 else -x


def test_a_module_that_cannot_be_traced_is_refused_in_one_line():
    with pytest.raises(
        UnsupportedModelError, match=r"^Branching: the Brevitas export failed, .*; check that"
    ) as refusal:
        export_brevitas(Branching(), images(1))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("module", "example", "message"),
    [
        ("net.pt", images(1), "export: not a torch.nn.Module, str; pass the trained module itself"),
        (
            OneSample(),
            torch.rand(16),
            "export: the example input needs a batch dimension and one sample, shape (16,); "
            "pass shape (1, ...), as the module takes it",
        ),
    ],
)
def test_wrong_requests(module, example, message):
    with pytest.raises(RequestError) as refusal:
        export_brevitas(module, example)
    assert str(refusal.value) == message
