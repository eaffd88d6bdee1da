"""Integer grids of weights and the scales that may carry them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from broadaxe.quantization.recipe import ScaleKind

DYADIC_BITS = 8
TINY = 2.0**-100


@dataclass(frozen=True)
class WeightGrid:
    """Integers that a weight of so many bits may be, symmetric around zero unless told.

    One bit is bipolar, -1 or 1, as in QONNX.
    """

    bits: int
    narrow: bool = True
    signed: bool = True

    @property
    def bipolar(self) -> bool:
        return self.signed and self.bits == 1

    @property
    def low(self) -> int:
        if not self.signed:
            return 0
        return -1 if self.bipolar else -(1 << (self.bits - 1)) + self.narrow

    @property
    def high(self) -> int:
        if not self.signed:
            return (1 << self.bits) - 1 - self.narrow
        return 1 if self.bipolar else (1 << (self.bits - 1)) - 1

    def nearest(self, values: Tensor, low: Tensor | float | None = None, high: Tensor | float | None = None) -> Tensor:
        """Round to the grid, half to even, within limits that are integers."""
        if self.bipolar:
            codes = torch.where(values >= 0, 1.0, -1.0).to(values.dtype)
            if low is not None and high is not None:
                codes = torch.where(torch.as_tensor(high) < 1, -1.0, torch.where(torch.as_tensor(low) > -1, 1.0, codes))
            return codes.to(values.dtype)
        codes = values.round().clamp_(self.low, self.high)
        return codes if low is None else codes.clamp_(low, high).clamp_(self.low, self.high)


def max_abs_steps(weights: Tensor, grid: WeightGrid) -> Tensor:
    """The step per row that puts its largest weight on the end of the grid; 1 for rows of zeros; shape (rows,)."""
    largest = weights.abs().amax(1)
    return torch.where(largest > 0, largest / max(grid.high, -grid.low), 1.0).clamp(min=TINY)


def mse_steps(weights: Tensor, grid: WeightGrid, candidates: int = 64) -> Tensor:
    """The step per row, out of so many fractions of max-abs, with the least squared rounding error of the weights."""
    top = max_abs_steps(weights, grid)
    best, least = top, torch.full_like(top, torch.inf)
    for factor in torch.linspace(1 / candidates, 1, candidates).tolist():
        step = top * factor
        error = ((grid.nearest(weights / step[:, None]) * step[:, None] - weights) ** 2).sum(1)
        best, least = torch.where(error < least, step, best), torch.minimum(error, least)
    return best


def allowed(steps: Tensor, kind: ScaleKind) -> Tensor:
    """The nearest scales that the hardware multiplies by cheaply.

    `float` are float32 numbers, `pow2` powers of two, `dyadic` have at most 8 significant bits, so that the ratio of such
    scales and power-of-two activation scales is an integer of 8 bits over a power of two.
    """
    if kind == "float":
        return steps.to(torch.float32).to(steps.dtype).clamp(min=TINY)
    if kind == "pow2":
        mantissa, exponent = torch.frexp(steps)
        return torch.ldexp(torch.ones_like(steps), exponent - (mantissa < 0.75).to(exponent.dtype))
    mantissa, exponent = torch.frexp(steps.to(torch.float64))
    return torch.ldexp((mantissa * (1 << DYADIC_BITS)).round(), exponent - DYADIC_BITS).to(steps.dtype)
