"""Coordinate descent on integers within the budget: what is left to gain once a solver is done."""

from __future__ import annotations

import torch
from torch import Tensor

from broadaxe.quantization.budget import Budget, Room
from broadaxe.quantization.grid import WeightGrid
from broadaxe.quantization.matrices import Matrices, spread
from broadaxe.quantization.optq import BLOCK

SWEEPS = 6


def descend(
    codes: Tensor, linear: Tensor, hessian: Matrices, grid: WeightGrid, budget: Budget | None, *, sweeps: int = SWEEPS
) -> Tensor:
    """Lower q^T H q - 2 q^T b of every row, one weight at a time to its best integer, until nothing moves.

    Args:
        codes: integers within grid and budget, shape (rows, inputs), in a float type.
        linear: b in steps, shape (rows, inputs).
        hessian: H.
        sweeps: most passes over all inputs.

    Returns:
        Integers like `codes`, within grid and budget, no row worse than it was.
    """
    out, h = codes.clone(), hessian.to(codes.dtype)
    active = torch.arange(len(codes))
    for _ in range(sweeps):
        if not len(active):
            break
        before = out[active]
        columns = before.T.clone(memory_format=torch.contiguous_format)
        after = _sweep(columns, linear[active].T, h.of(active), grid, None if budget is None else budget.of(active)).T
        out[active] = after
        active = active[(after != before).any(1)]
    return out


def _sweep(q: Tensor, b: Tensor, h: Matrices, grid: WeightGrid, budget: Budget | None) -> Tensor:
    """One pass over the inputs of q, shape (inputs, rows), which is changed and returned."""
    gradient = h.left(q.T).T.contiguous() - b  # half of it; H is symmetric
    room = None if budget is None else Room.of(budget, q.shape[1], q, q.clone())
    diagonal = h.pivots()
    for start in range(0, len(q), BLOCK):
        block = gradient[start : start + BLOCK].clone()
        stop, moves = start + len(block), torch.zeros_like(block)
        for j in range(len(block)):
            i = start + j
            new = grid.nearest(q[i] - block[j] / diagonal[i])
            if torch.equal(new, q[i]):  # free to move, no row would
                continue
            if room is not None:
                room.free(i)
                limits = room.limits(i)
                if limits is not None:
                    low, high = (side.to(q.dtype) for side in limits)
                    new = grid.nearest(new, low, high)
                room.take(i, new)
            torch.sub(new, q[i], out=moves[j])
            q[i] = new
            spread(h.row(i, i + 1, stop), moves[j], block[j + 1 :])
        if stop < len(q):
            gradient[stop:] += h.block_times(slice(stop, len(q)), slice(start, stop), moves)
    return q
