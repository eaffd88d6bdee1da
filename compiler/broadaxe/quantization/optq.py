"""OPTQ: round input by input, and move each error to the inputs not yet rounded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from broadaxe.errors import RequestError
from broadaxe.quantization.budget import Budget
from broadaxe.quantization.grid import WeightGrid
from broadaxe.quantization.recipe import Feedback
from broadaxe.quantization.rounding import Rounder

BLOCK = 64
"""Inputs whose errors reach each other one by one; further ones wait for a matrix product."""
MOST_DAMPING = 1e4


@dataclass(frozen=True, eq=False)
class Factor:
    """What OPTQ needs of a Hessian.

    Attributes:
        order: inputs by falling diagonal.
        upper: upper Cholesky factor U of the inverse of the damped Hessian in that order, H^-1 = U^T U.
        dead: inputs that are always zero, bool, shape (inputs,), in their own order.
        damping: share of the mean diagonal that was added; more than asked where the Hessian was too close to singular.
    """

    order: Tensor
    upper: Tensor
    dead: Tensor
    damping: float

    @classmethod
    def of(cls, hessian: Tensor, damping: float = 0.01, *, by_activation: bool = True) -> Factor:
        """Factorize in float64; ten times the damping as long as it fails."""
        diagonal = hessian.diagonal()
        dead = diagonal <= 0
        order = diagonal.argsort(descending=True, stable=True) if by_activation else torch.arange(len(diagonal))
        ordered = hessian.to(torch.float64)[order][:, order].clone()
        ordered.diagonal()[dead[order]] = 1
        mean = float(diagonal[~dead].mean()) if not bool(dead.all()) else 1.0
        while damping <= MOST_DAMPING:
            damped = ordered.clone()
            damped.diagonal().add_(damping * mean)
            # H = V V^T with V upper triangular is Cholesky from the last input back; then H^-1 = V^-T V^-1, and U = V^-1.
            lower, failed = torch.linalg.cholesky_ex(damped.flip(0, 1))
            if not failed:
                upper = torch.linalg.solve_triangular(lower, torch.eye(len(lower), dtype=lower.dtype), upper=False)
                upper = upper.flip(0, 1)
                if bool(torch.isfinite(upper).all()):
                    return cls(order, upper, dead, damping)
            damping = max(10 * damping, 1e-6)
        raise RequestError("calibration: the inputs' second moments cannot be factorized; give more varied data")


def optq(
    targets: Tensor,
    factor: Factor,
    grid: WeightGrid,
    budget: Budget | None = None,
    *,
    feedback: Feedback = "full",
    soft: bool = True,
    first: Tensor | None = None,
) -> Tensor:
    """Round a layer's weights input by input, moving each error to the inputs not yet rounded.

    Args:
        targets: real weights in steps, shape (rows, inputs).
        factor: of the Hessian E[x~ x~^T].
        grid: integers allowed.
        budget: of every tile's accumulator, or None.
        feedback: whether an error counts from the thresholded and clipped weight, as published, or from the weight itself.
        first: what to round in place of the first input in order, shape (rows,): the correction of Qronos.

    Returns:
        Integers in the type of `targets`, shape (rows, inputs); each row within the budget.

    Source: Frantar et al., OPTQ, ICLR 2023, algorithm 1, here with each input collecting the errors before it, in blocks;
    threshold and limits: Colbert et al., AXE, TMLR 2025, algorithm 2; first step: Zhang et al., Qronos, arXiv 2505.11695.
    """
    w = targets.masked_fill(factor.dead, 0.0).T.contiguous()  # (inputs, rows)
    rounder = Rounder(w, grid, budget, soft=soft)
    order, u = factor.order.tolist(), factor.upper.T.to(w.dtype).contiguous()  # u[j, i] = U_ij
    w, scales = w[factor.order], factor.upper.diagonal().tolist()
    errors = torch.empty_like(w)  # (w - q) / U_jj, in order
    for start in range(0, len(w), BLOCK):
        stop = min(start + BLOCK, len(w))
        w[start:stop].addmm_(u[start:stop, :start], errors[:start], alpha=-1)
        for j in range(start, stop):
            value = w[j].addmv_(errors[start:j].T, u[j, start:j], alpha=-1) if j > start else w[j]
            replaced = first is not None and j == 0
            codes, kept = rounder(order[j], first if replaced and first is not None else value)
            torch.sub(value if feedback == "full" or replaced else kept, codes, out=errors[j]).div_(scales[j])
    return rounder.codes.T.contiguous()
