"""Exchanges within a full budget: one weight of a row a step towards zero, and another a step to wherever that helps most."""

from __future__ import annotations

import torch
from torch import Tensor

from broadaxe.quantization.budget import Budget
from broadaxe.quantization.grid import WeightGrid

RELEASES = 4
"""Weights of a row whose release is looked at: those that cost least alone."""

ELEMENTS = 1 << 21
"""Exchanges that are compared at once: 8 MiB in float32."""


def swap(codes: Tensor, linear: Tensor, hessian: Tensor, grid: WeightGrid, budget: Budget, *, most: int) -> Tensor:
    """Lower q^T H q - 2 q^T b of every row by its best exchange of two steps, again and again.

    With g = H q - b, a move d of weight i costs 2 d g_i + H_ii for d = +-1. After it g is g + d H_i, and the best move of
    weight j costs H_jj - 2 |g_j + d H_ij|.

    Args:
        codes: integers within grid and budget, shape (rows, inputs), in a float type.
        linear: b in steps, shape (rows, inputs).
        hessian: H, shape (inputs, inputs).
        budget: without tiles.
        most: exchanges a row.

    Returns:
        Integers like `codes`, within grid and budget, no row worse than it was.
    """
    if budget.tile is not None:
        raise ValueError("exchanges know one accumulator a row")
    out = codes.clone()
    size = max(1, ELEMENTS // (RELEASES * codes.shape[1]))
    for part, b in zip(out.split(size), linear.split(size), strict=True):
        _swap(part, b, hessian, grid, budget, most)
    return out


def _swap(out: Tensor, b: Tensor, h: Tensor, grid: WeightGrid, budget: Budget, most: int) -> None:
    """Of rows whose exchanges fit into memory, which are changed."""
    active, q, g, diagonal = torch.arange(len(out)), out.clone(), out @ h - b, h.diagonal()
    caps = torch.tensor(budget.caps, dtype=torch.float64)
    for _ in range(most):
        count = min(RELEASES, q.shape[1])
        move = -q.sign()
        alone, i = torch.where(q != 0, 2 * move * g + diagonal, torch.inf).topk(count, largest=False)  # (rows, count)
        first = move.gather(1, i)
        slope = g[:, None] + first[:, :, None] * h[i]  # (rows, count, inputs)
        cost = alone[:, :, None] + diagonal - 2 * slope.abs()
        second = torch.where(slope > 0, -1, 1).to(q.dtype)
        moved = q[:, None] + second
        loads = _loads(q, budget)
        left = (
            caps[:, None, None]
            - loads.sum(2)[:, :, None]
            - (_loads(q + move, budget) - loads).gather(2, i.expand(2, -1, -1))
        )  # (2, rows, count)
        up, down = _loads(q + 1, budget) - loads, _loads(q - 1, budget) - loads
        fits = (moved >= grid.low) & (moved <= grid.high)
        for side in range(2):
            fits &= torch.where(second > 0, up[side][:, None], down[side][:, None]) <= left[side][:, :, None]
        cost.masked_fill_(~fits, torch.inf).scatter_(2, i[:, :, None], torch.inf)
        least, at = cost.flatten(1).min(1)
        better = least < -1e-5 * diagonal.mean()
        if not bool(better.any()):
            return
        active, q, g, at = active[better], q[better], g[better], at[better]
        rows, k, j = torch.arange(len(q)), at // q.shape[1], at % q.shape[1]
        i, first = i[better][rows, k], first[better][rows, k]
        second = second[better][rows, k, j]
        q[rows, i] += first
        q[rows, j] += second
        g += first[:, None] * h[i] + second[:, None] * h[j]
        out[active] = q


def _loads(q: Tensor, budget: Budget) -> Tensor:
    """What each weight adds to HI and to -LO, or twice to HI - LO; float64, shape (2, rows, inputs)."""
    w = q.to(torch.float64)
    if budget.kind == "offset":
        return (w.abs() * budget.spread).expand(2, -1, -1)
    ends = torch.stack([w * budget.lo, w * budget.hi])
    return torch.stack([ends.amax(0), -ends.amin(0)])
