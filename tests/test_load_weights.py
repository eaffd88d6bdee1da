"""Solved weights back in their Brevitas module, bit for bit, or not at all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import broadaxe
from broadaxe.errors import RequestError
from broadaxe.frontend.standard import expand_quant, session

qnn = pytest.importorskip("brevitas.nn", reason="Brevitas is not installed; pip install 'broadaxe[brevitas]'")


class Net(nn.Module):
    """A convolution, a depthwise one and a linear layer without bias."""

    def __init__(self, bits=4):
        super().__init__()
        self.pixels = qnn.QuantIdentity(bit_width=8)
        self.conv = qnn.QuantConv2d(2, 4, 3, padding=1, bias=True, weight_bit_width=bits)
        self.relu = qnn.QuantReLU(bit_width=4)
        self.wise = qnn.QuantConv2d(4, 4, 3, groups=4, bias=False, weight_bit_width=bits)
        self.relu2 = qnn.QuantReLU(bit_width=4)
        self.linear = qnn.QuantLinear(64, 3, bias=False, weight_bit_width=bits)

    def forward(self, x):
        x = self.relu2(self.wise(self.relu(self.conv(self.pixels(x)))))
        return self.linear(x.flatten(1))


def trained(module, x):
    module.train()
    module(torch.from_numpy(x))
    return module.eval()


def outputs(model, x):
    run = session(expand_quant(model))
    return run.run(None, {run.get_inputs()[0].name: x})[0]


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(48, 2, 6, 6)).astype(np.float32)


@pytest.mark.parametrize(
    "options", [{"acc_bits": 9}, {"weight_bits": 3, "bias_correction": "on", "scales": "pow2"}], ids=str
)
def test_the_module_computes_what_the_model_computes(x, options):
    torch.manual_seed(0)
    module = trained(Net(), x)
    result = broadaxe.quantize(module, x, **options)
    assert broadaxe.training.load_weights(module, result) is module
    with torch.no_grad():
        assert np.array_equal(module(torch.from_numpy(x)).numpy(), outputs(result.model, x))


def test_layers_that_share_weights_are_refused_and_left_as_they_were():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.i = qnn.QuantIdentity(bit_width=8)
            self.a = qnn.QuantLinear(8, 8, bias=False, weight_bit_width=4)
            self.r = qnn.QuantReLU(bit_width=4)
            self.b = qnn.QuantLinear(8, 8, bias=False, weight_bit_width=4)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.r(self.a(self.i(x))))

    torch.manual_seed(0)
    x = np.random.default_rng(0).normal(size=(48, 8)).astype(np.float32)
    module = trained(Tied(), x)
    result = broadaxe.quantize(module, x, acc_bits=9)
    with torch.no_grad():
        before = module(torch.from_numpy(x))
        with pytest.raises(RequestError, match="load_weights: a: its quantizer does not give the model's weights"):
            broadaxe.training.load_weights(module, result.model)
        assert torch.equal(module(torch.from_numpy(x)), before)


def test_a_wrong_module_is_named(x):
    torch.manual_seed(0)
    module = trained(Net(), x)
    result = broadaxe.quantize(module, x, acc_bits=9)
    with pytest.raises(RequestError) as error:
        broadaxe.training.load_weights(nn.Sequential(nn.Linear(3, 3)), result)
    assert str(error.value) == "load_weights: conv: the module has no such layer; give the module that was quantized"
    with pytest.raises(RequestError) as error:
        broadaxe.training.load_weights(result, module)
    assert str(error.value) == "load_weights: a Quantized in place of the module; give module, then model"
