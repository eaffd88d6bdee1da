"""GPFQ: round input by input so that each step's output error stays orthogonal to the input just rounded."""

from __future__ import annotations

from torch import Tensor

from broadaxe.quantization.budget import Budget
from broadaxe.quantization.grid import WeightGrid
from broadaxe.quantization.matrices import Matrices, combined
from broadaxe.quantization.optq import BLOCK
from broadaxe.quantization.rounding import Rounder


def gpfq(
    targets: Tensor,
    hessian: Matrices,
    cross: Matrices,
    order: Tensor,
    grid: WeightGrid,
    budget: Budget | None = None,
    *,
    soft: bool = True,
) -> Tensor:
    """Round a layer's weights input by input, against the error of the inputs rounded so far.

    In `order`, with H = E[x~ x~^T] and G = E[x~ x^T], input t rounds

        a_t = (sum_{j <= t} G_tj w_j - sum_{j < t} H_tj q_j) / H_tt

    Args:
        targets: real weights w in steps, shape (rows, inputs).
        hessian, cross: H and G.
        order: inputs, first to last.
        grid: integers allowed.
        budget: of every tile's accumulator, or None.

    Returns:
        Integers in the type of `targets`, shape (rows, inputs); each row within the budget.

    Source: Lybrand and Saab, JMLR 2021; the memory-efficient form and the budget: Colbert et al., AXE, TMLR 2025, section 3.
    An error here is always fed back whole: a_t holds what thresholds and limits took.
    """
    w = targets.T.contiguous()  # (inputs, rows)
    rounder = Rounder(w, grid, budget, soft=soft)
    h = hessian.permuted(order).to(w.dtype)
    a = cross.permuted(order).to(w.dtype).tril().transposed.left(w[order].T).T.contiguous()
    diagonal, inputs = h.pivots(), order.tolist()
    done = w.new_empty(w.shape)  # codes, in order
    for start in range(0, len(w), BLOCK):
        stop = min(start + BLOCK, len(w))
        if start:
            a[start:stop] -= h.block_times(slice(start, stop), slice(0, start), done[:start])
        for t in range(start, stop):
            value = a[t].sub_(combined(done[start:t], h.row(t, start, t))) if t > start else a[t]
            done[t], _ = rounder(inputs[t], value / diagonal[t])
    return rounder.codes.T.contiguous()
