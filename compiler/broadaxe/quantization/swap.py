"""Exchanges within a full budget: one weight of a row a step towards zero, and another a step to wherever that helps most."""

from __future__ import annotations

import torch
from torch import Tensor

from broadaxe.quantization.budget import Budget
from broadaxe.quantization.grid import WeightGrid
from broadaxe.quantization.matrices import Matrices

RELEASES = 4
"""Weights of a row whose release is looked at: those that cost least alone."""

ELEMENTS = 1 << 21
"""Exchanges that are compared at once: 8 MiB in float32."""


def swap(codes: Tensor, linear: Tensor, hessian: Matrices, grid: WeightGrid, budget: Budget, *, most: int) -> Tensor:
    """Lower q^T H q - 2 q^T b of every row by its best exchange of two steps, again and again.

    With g = H q - b, a move d of weight i costs 2 d g_i + H_ii for d = +-1. After it g is g + d H_i, and the best move of
    weight j costs H_jj - 2 |g_j + d H_ij|.

    Args:
        codes: integers within grid and budget, shape (rows, inputs), in a float type.
        linear: b in steps, shape (rows, inputs).
        hessian: H.
        budget: without tiles.
        most: exchanges a row.

    Returns:
        Integers like `codes`, within grid and budget, no row worse than it was.
    """
    if budget.tile is not None:
        raise ValueError("exchanges know one accumulator a row")
    out = codes.clone()
    size = max(1, ELEMENTS // (RELEASES * codes.shape[1]))
    everything = torch.arange(len(out))
    for part, b, rows in zip(out.split(size), linear.split(size), everything.split(size), strict=True):
        _swap(part, b, hessian.of(rows), grid, budget.of(rows), most)
    return out


def _swap(out: Tensor, b: Tensor, h: Matrices, grid: WeightGrid, budget: Budget, most: int) -> None:
    """Of rows whose exchanges fit into memory, which are changed."""
    active, q, g = torch.arange(len(out)), out.clone(), h.left(out) - b
    high, low = budget.sums(q)
    spans = [high - low] if budget.kind == "offset" else [high, -low]
    room = torch.stack([cap - span[:, 0] for cap, span in zip(budget.caps, spans, strict=False)]).to(torch.float64)

    def charges(codes: Tensor, step: int) -> list[Tensor]:
        """What a step of each weight takes of each side's room, shape (rows, inputs)."""
        outward = codes >= 0 if step > 0 else codes <= 0
        lo, hi = limits.lo.to(q.dtype), limits.hi.to(q.dtype)
        up = torch.where(outward, hi if step > 0 else -lo, lo if step > 0 else -hi)
        down = torch.where(outward, -lo if step > 0 else hi, -hi if step > 0 else lo)
        return [up + down] if budget.kind == "offset" else [up, down]

    limits = budget
    for _ in range(most):
        diagonal = h.diagonal()
        count = min(RELEASES, q.shape[1])
        move = -q.sign()
        alone, i = torch.where(q != 0, 2 * move * g + diagonal, torch.inf).topk(count, largest=False)  # (rows, count)
        first = move.gather(1, i)
        slope = g[:, None] + first[:, :, None] * h.rows_at(i)  # (rows, count, inputs)
        cost = alone[:, :, None] + (diagonal if diagonal.dim() == 1 else diagonal[:, None]) - 2 * slope.abs()
        rising, up, down = slope < 0, charges(q, 1), charges(q, -1)
        fits = torch.where(rising, (q < grid.high)[:, None], (q > grid.low)[:, None])
        for side, (more, less) in enumerate(zip(up, down, strict=True)):
            freed = torch.where(first > 0, more.gather(1, i), less.gather(1, i))
            left = (room[side][:, None] - freed).to(q.dtype)
            fits &= torch.where(rising, more[:, None], less[:, None]) <= left[:, :, None]
        cost.masked_fill_(~fits, torch.inf).scatter_(2, i[:, :, None], torch.inf)
        least, at = cost.flatten(1).min(1)
        better = least < -1e-5 * diagonal.mean(-1)
        if not bool(better.any()):
            return
        active, q, g, at, room = active[better], q[better], g[better], at[better], room[:, better]
        left_rows = better.nonzero()[:, 0]
        h, limits = h.of(left_rows), limits.of(left_rows)
        rows, k, j = torch.arange(len(q)), at // q.shape[1], at % q.shape[1]
        i, first = i[better][rows, k], first[better][rows, k]
        second = torch.where(rising[better][rows, k, j], 1, -1).to(q.dtype)
        for chosen, step in ((i, first), (j, second)):
            taken = [
                torch.where(step > 0, a[rows, chosen], b[rows, chosen])
                for a, b in zip(charges(q, 1), charges(q, -1), strict=True)
            ]
            room = room - torch.stack(taken)
            q[rows, chosen] += step
        g += first[:, None] * h.rows_at(i[:, None])[:, 0] + second[:, None] * h.rows_at(j[:, None])[:, 0]
        out[active] = q
