"""Where rounding should start from: the real weights of least output error within a budget's ball and the grid's ends."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from broadaxe.quantization.budget import Budget
from broadaxe.quantization.grid import WeightGrid
from broadaxe.quantization.matrices import Matrices

ITERATIONS = 40
NEWTON_STEPS = 3
"""Of each projection, from the last one's thresholds: what is left over the budget, rounding takes off."""


def relax(
    start: Tensor, linear: Tensor, hessian: Matrices, grid: WeightGrid, budget: Budget, *, iterations: int = ITERATIONS
) -> Tensor:
    """Lower v^T H v - 2 v^T b over sum_i r_i * |v_i| <= the budget's radius, in every row and tile.

    A soft threshold takes the same off every weight; this lets correlated inputs make up for what is taken. The ends of the
    grid are clipped to after each projection, which stays inside the ball. The signed budget is a part of its ball: there
    the result may still lie outside, and rounding clips.

    Args:
        start: real weights in steps, shape (rows, inputs).
        linear: b in steps, shape (rows, inputs).
        hessian: H.

    Returns:
        Shape (rows, inputs).

    Source: projected gradient with the momentum of Beck and Teboulle, FISTA, 2009; projection as for the soft threshold.
    """
    ball = replace(budget, kind="offset")
    spread = budget.spread.to(start.dtype)
    size = budget.tile or budget.inputs

    levels = None

    def projected(v: Tensor) -> Tensor:
        nonlocal levels
        levels = ball.thresholds(v.T.contiguous(), levels, NEWTON_STEPS)
        by = levels.T.repeat_interleave(size, 1)[:, : budget.inputs] * spread
        return (v - v.clamp(-by, by)).clamp_(grid.low, grid.high)

    rate = 1 / (1.05 * _largest_eigenvalue(hessian) + 1e-30)
    v, ahead, momentum = start, start, 1.0
    for _ in range(iterations):
        after = projected(ahead - rate * (hessian.left(ahead) - linear))
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = after + (momentum - 1) / following * (after - v)
        v, momentum = after, following
    return v


def _largest_eigenvalue(hessian: Matrices, steps: int = 30) -> Tensor:
    """Of positive semidefinite matrices, nearly: power iteration from a few random directions; shape (1, 1) or (rows, 1)."""
    matrices = hessian.values
    directions = torch.randn(matrices.shape[-1], 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = directions.to(matrices)
    for _ in range(steps):
        x = matrices @ (x / x.norm(dim=-2, keepdim=True).clamp(min=1e-30))
    found = x.norm(dim=-2).amax(-1).reshape(-1, 1)
    return found if hessian.owner is None else found[hessian.owner]
