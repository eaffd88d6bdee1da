"""QDQ models (QuantizeLinear and DequantizeLinear)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper
from test_qdq import REFUSED, Model

from broadaxe.errors import UnsupportedModelError
from broadaxe.frontend.qdq import quant_from_qdq

from . import provokes

COVERS = ("frontend/qdq.py",)

Making = Callable[[Model], str]


def converting(make: Making) -> Callable[[Path], object]:
    return lambda tmp: quant_from_qdq((model := Model(2)).finish(make(model)))


def refused(message: str) -> Callable[[Making], Making]:
    """A case that converts the model whose output a function makes."""

    def enter(make: Making) -> Making:
        provokes(message, UnsupportedModelError, make.__name__)(converting(make))
        return make

    return enter


for _make, _message in REFUSED.values():
    refused(_message)(_make)


def quantized(model: Model, *inputs: str, **attributes: object) -> str:
    """A QuantizeLinear with a scale of 1 and 8 bits."""
    return model.node("QuantizeLinear", *inputs, model.constant(1.0), model.constant(0, "uint8"), **attributes)


def dequantized(model: Model, *inputs: str) -> str:
    return model.node("DequantizeLinear", *inputs, model.constant(1.0), model.constant(0, "uint8"))


@refused("dequantizelinear0 (DequantizeLinear): its inputs or attributes fit no model (IndexError); repair the model")
def axis_beyond_the_tensor(model: Model) -> str:
    return model.stored([1, 2], [1.0, 2.0], axis=7)


@refused("quantizelinear1 (QuantizeLinear): quantizes integers; put a DequantizeLinear before it")
def twice_quantized(model: Model) -> str:
    return quantized(model, quantized(model, "x"))


@refused(
    "quantizelinear1 (QuantizeLinear): quantizes a constant that is computed in a way that is not understood; store it as"
    " an initializer"
)
def computed_constant(model: Model) -> str:
    return quantized(model, model.node("Sin", model.constant(1.0)))


@refused("quantizelinear0 (QuantizeLinear): its constant holds no finite float32 numbers; repair the model")
def constant_without_numbers(model: Model) -> str:
    return quantized(model, model.constant([np.inf]))


@refused(
    "dequantizelinear1 (DequantizeLinear): reads integers that cast0 (Cast) computes; only those of QuantizeLinear,"
    " constants and inputs can be read"
)
def computed_integers(model: Model) -> str:
    return dequantized(model, model.node("Cast", "x", to=TensorProto.UINT8))


@refused("dequantizelinear0 (DequantizeLinear): its input and its zero point differ in type; repair the model")
def input_of_another_type(model: Model) -> str:
    return dequantized(model, "x")


@refused("clip1 (Clip): leaves no code, 9 to 3; repair its ends")
def clip_upside_down(model: Model) -> str:
    return dequantized(
        model, model.node("Clip", quantized(model, "x"), model.constant(9, "uint8"), model.constant(3, "uint8"))
    )


@refused(
    "clip2 (Clip): clips integers that have been read before; put it right behind quantizelinear0 (QuantizeLinear)"
)
def clip_of_integers_in_use(model: Model) -> str:
    codes = quantized(model, "x")
    dequantized(model, codes)
    return dequantized(model, model.node("Clip", codes, model.constant(3, "uint8")))


@refused("flatten1 (Flatten): reads the integers of quantizelinear0 (QuantizeLinear); put a DequantizeLinear before it")
def moved_constant(model: Model) -> str:
    return dequantized(model, model.node("Flatten", quantized(model, model.constant([[1.0]]))))


@refused("dequantizelinear0 (DequantizeLinear): its constant overflows float32; use a smaller scale")
def overflowing_constant(model: Model) -> str:
    return model.stored([100], 1e38)


@refused("quantizelinear0 (QuantizeLinear): its codes are FLOAT; integers of 2 to 32 bits are supported")
def codes_of_floats(model: Model) -> str:
    return model.node("QuantizeLinear", "x", model.constant(1.0), model.constant(0.0))


@refused("quantizelinear0 (QuantizeLinear): has 2 scales and 3 zero points; give as many of each")
def more_zero_points_than_scales(model: Model) -> str:
    return model.node("QuantizeLinear", "x", model.constant([1.0, 2.0]), model.constant([0, 0, 0], "uint8"))


@refused(
    "quantizelinear1 (QuantizeLinear): has a scale per channel, but the shape of secret0_out is not known; run"
    " onnx.shape_inference, or give inputs shapes"
)
def scales_of_unknown_channels(model: Model) -> str:
    model.nodes.append(helper.make_node("Secret", ["x"], ["secret0_out"], name="secret0", domain="com.example"))
    return model.pair("secret0_out", [1.0, 2.0])


@refused("quantizelinear0 (QuantizeLinear): its scale of 1e+37 takes its codes beyond float32; use a smaller one")
def huge_scale(model: Model) -> str:
    return model.pair("x", 1e37, 1)
