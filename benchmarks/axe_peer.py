"""The layer that accumulator-aware solvers are compared on, and Brevitas' AXE (A2GPTQ and A2GPFQ) as the peer.

Brevitas keeps them in `brevitas_examples.common.axe`, which is no stable API: this is written against Brevitas 0.13.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

Method = Literal["optq", "gpfq"]


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear layer and rows of its input.

    Attributes:
        weights: shape (rows, inputs).
        x: float inputs, shape (samples, inputs), not negative.
        step: of their codes, 8 bits unsigned.
    """

    weights: Tensor
    x: Tensor
    step: Tensor

    @property
    def xq(self) -> Tensor:
        return (self.x / self.step).round().clamp(0, 255) * self.step


def layer(size: int, samples: int = 1024, fresh: int = 0) -> tuple[Layer, Layer]:
    """A layer of `size` inputs and rows, whose inputs are correlated; and the same with `fresh` other rows of input."""
    torch.manual_seed(0)
    noise, mix = torch.randn(samples, size), torch.randn(size, size) / (2 * size**0.5)
    more = torch.randn(fresh, size)
    torch.manual_seed(1)
    weights = torch.randn(size, size) / (2 * size**0.5)
    x = torch.relu(noise @ mix)
    seen = Layer(weights, x, x.max() / 255)
    return seen, replace(seen, x=torch.relu(more @ mix))


def brevitas_mlp(weights: Sequence[Tensor], steps: Sequence[float], bits: int = 4) -> torch.nn.Sequential:
    """Linear layers with a ReLU between two; 4-bit weights, scaled by the largest per row; inputs of 8 bits unsigned."""
    import brevitas.nn as qnn
    from brevitas.inject.enum import ScalingImplType
    from brevitas.quant import Int8WeightPerChannelFloat, Uint8ActPerTensorFloat

    layers: list[torch.nn.Module] = []
    for w, step in zip(weights, steps, strict=True):
        if layers:
            layers.append(torch.nn.ReLU())
        linear = qnn.QuantLinear(
            w.shape[1],
            w.shape[0],
            bias=False,
            weight_quant=Int8WeightPerChannelFloat.let(
                bit_width=bits, scaling_impl_type=ScalingImplType.PARAMETER_FROM_STATS
            ),
            input_quant=Uint8ActPerTensorFloat.let(scaling_impl_type=ScalingImplType.CONST, scaling_init=255 * step),
        )
        linear.weight.data.copy_(w)
        layers.append(linear)
    return torch.nn.Sequential(*layers).eval()


def calibrate(model: torch.nn.Sequential, x: Tensor, method: Method, bits: int) -> float:
    """Seconds that Brevitas takes to solve for all layers of a model, for accumulators of so many bits."""
    from brevitas_examples.common.axe import a2gpfq_mode, a2gptq_mode

    mode: Any = a2gptq_mode if method == "optq" else a2gpfq_mode
    with torch.no_grad():
        model(x[:1])  # weight scales are taken here
        start = time.perf_counter()
        with mode(model, act_order=True, max_accumulator_bit_width=bits) as running:
            for _ in range(running.num_layers):
                model(x)
                running.update()
        return time.perf_counter() - start


def brevitas_axe(data: Layer, method: Method, bits: int) -> tuple[Tensor, Tensor, float]:
    """Integers, steps and seconds of Brevitas on one layer with 4-bit weights."""
    model = brevitas_mlp([data.weights], [float(data.step)])
    seconds = calibrate(model, data.x, method, bits)
    with torch.no_grad():
        weight = model[0].quant_weight()
        return weight.int().to(torch.int32), weight.scale.reshape(-1), seconds
