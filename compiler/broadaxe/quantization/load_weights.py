"""Solved weights back into the Brevitas module that they were solved for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from broadaxe.build import load_model
from broadaxe.errors import RequestError
from broadaxe.frontend.standard import is_quantizer
from broadaxe.ops.importing import Array

if TYPE_CHECKING:
    import torch
    from torch import nn

    from broadaxe.quantization.quantize import Quantized

LAYERS = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True, eq=False)
class _Weights:
    """Of one layer, as its module holds them: rows first."""

    values: Array
    scale: Array
    bits: int
    narrow: bool
    bias: Array | None


def load_weights(module: nn.Module, model: onnx.ModelProto | Quantized | str | os.PathLike[str]) -> nn.Module:
    """Put the weights of a quantized model into the Brevitas module it was quantized from.

    Every layer's weight quantizer gets the model's scales and bits as constants, so that it gives exactly the model's
    weights; activation quantizers stay as they are. The module is changed and returned; on an error it is not changed.

    Args:
        module: a Brevitas module; layers are found by the names that its export gave the model's nodes.
        model: from `broadaxe.quantize(module, ...)`, or its file.

    Example:
        >>> quantized = broadaxe.quantize(brevitas_module, x_train[:100], acc_bits=12, preset="axe")
        >>> load_weights(brevitas_module, quantized) is brevitas_module
        True

    Returns:
        The module.

    Raises:
        RequestError: names the first layer that the module lacks, or whose shape or weight quantizer does not fit.
    """
    import torch

    if not isinstance(module, torch.nn.Module):
        raise RequestError(f"load_weights: a {type(module).__name__} in place of the module; give module, then model")
    found = _weights(load_model(model)[0])
    if not found:
        raise RequestError(
            "load_weights: the model has no layer with quantized weights; give one from broadaxe.quantize"
        )
    layers = {name: _layer(module, name, weights) for name, weights in found.items()}
    kept = {name: _Kept.of(layer) for name, layer in layers.items()}
    try:
        for name, weights in found.items():
            _put(layers[name], weights)
        for name, weights in found.items():
            given = layers[name].quant_weight().value.detach().cpu()
            if not torch.equal(given, torch.from_numpy(weights.values.copy())):
                raise RequestError(
                    f"load_weights: {name}: its quantizer does not give the model's weights; give it an integer quantizer"
                    " and weights that no other layer shares"
                )
    except BaseException:
        for name, state in kept.items():
            state.restore(layers[name])
        raise
    return module


@dataclass(frozen=True, eq=False)
class _Kept:
    """What a layer was like."""

    weight: Any
    bias: Any
    values: Any
    offsets: Any
    quantizer: dict[str, Any]
    narrow: bool | None

    @classmethod
    def of(cls, layer: Any) -> _Kept:
        quantizer = layer.weight_quant.tensor_quant
        return cls(
            layer.weight,
            layer.bias,
            layer.weight.data,
            None if layer.bias is None else layer.bias.data,
            {k: getattr(quantizer, k) for k in ("scaling_impl", "msb_clamp_bit_width_impl") if hasattr(quantizer, k)},
            quantizer.int_quant.narrow_range if hasattr(quantizer, "int_quant") else None,
        )

    def restore(self, layer: Any) -> None:
        layer.weight, layer.bias = self.weight, self.bias
        layer.weight.data = self.values
        if self.bias is not None:
            layer.bias.data = self.offsets
        quantizer = layer.weight_quant.tensor_quant
        for key, value in self.quantizer.items():
            setattr(quantizer, key, value)
        if self.narrow is not None:
            quantizer.int_quant.narrow_range = self.narrow


def _put(layer: Any, weights: _Weights) -> None:
    import torch

    with torch.no_grad():
        layer.weight.data = torch.from_numpy(weights.values.copy()).to(layer.weight)
        if weights.bias is not None:
            bias = torch.from_numpy(weights.bias.copy()).to(layer.weight)
            if layer.bias is None:
                layer.bias = torch.nn.Parameter(bias)
            else:
                layer.bias.data = bias
        _fix_quantizer(layer.weight_quant.tensor_quant, weights)


def _weights(model: onnx.ModelProto) -> dict[str, _Weights]:
    constants = {t.name: t for t in model.graph.initializer}
    makers = {o: n for n in model.graph.node for o in n.output}

    def array(name: str) -> Array:
        return numpy_helper.to_array(constants[name])

    out = {}
    for node in model.graph.node:
        quant = makers.get(node.input[1]) if node.op_type in LAYERS and len(node.input) > 1 else None
        if quant is None or not is_quantizer(quant) or any(i not in constants for i in quant.input):
            continue
        values, scale = array(quant.input[0]), array(quant.input[1])
        attributes = {a.name: helper.get_attribute_value(a) for a in (*node.attribute, *quant.attribute)}
        if node.op_type == "MatMul" or (node.op_type == "Gemm" and not attributes.get("transB", 0)):
            values, scale = values.T, scale.T
        has_bias = len(node.input) > 2 and node.input[2] in constants
        out[node.name] = _Weights(
            np.ascontiguousarray(values),
            np.ascontiguousarray(scale),
            int(array(quant.input[3]).item()),
            bool(attributes.get("narrow", 0)),
            array(node.input[2]).reshape(-1) if has_bias else None,
        )
    return out


def _layer(module: nn.Module, name: str, weights: _Weights) -> Any:
    for path, layer in module.named_modules():
        if name in (path, f"conv_{path}", f"gemm_{path}", f"matmul_{path}") and hasattr(layer, "weight"):
            if getattr(getattr(layer, "weight_quant", None), "tensor_quant", None) is None:
                raise RequestError(
                    f"load_weights: {name}: the module's layer has no weight quantizer; give a Brevitas module"
                )
            if tuple(layer.weight.shape) != weights.values.shape:
                raise RequestError(
                    f"load_weights: {name}: weights of shape {weights.values.shape} for a layer of"
                    f" {tuple(layer.weight.shape)}; give the module that was quantized"
                )
            return layer
    raise RequestError(f"load_weights: {name}: the module has no such layer; give the module that was quantized")


def _fix_quantizer(quantizer: Any, weights: _Weights) -> None:
    """Constant scale, bits and range in place of what the quantizer derives from its weights."""
    import torch
    from brevitas.core.bit_width import BitWidthConst

    class FixedScale(torch.nn.Module):  # type: ignore[misc]
        """The same scale whatever the weights are."""

        value: torch.Tensor

        def __init__(self, scale: torch.Tensor) -> None:
            super().__init__()
            self.register_buffer("value", scale)

        def forward(self, x: torch.Tensor, threshold: torch.Tensor | None = None) -> torch.Tensor:
            return self.value

    quantizer.scaling_impl = FixedScale(torch.from_numpy(weights.scale.copy()))
    if hasattr(quantizer, "int_quant"):
        quantizer.msb_clamp_bit_width_impl = BitWidthConst(weights.bits)
        quantizer.int_quant.narrow_range = weights.narrow
