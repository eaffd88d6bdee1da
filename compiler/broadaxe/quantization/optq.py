"""OPTQ: round input by input, and move each error to the inputs not yet rounded."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from broadaxe.errors import RequestError
from broadaxe.quantization.budget import Budget
from broadaxe.quantization.grid import WeightGrid
from broadaxe.quantization.matrices import Matrices, combined
from broadaxe.quantization.recipe import Feedback
from broadaxe.quantization.rounding import Rounder

BLOCK = 64
"""Inputs whose errors reach each other one by one; further ones wait for a matrix product."""
MOST_DAMPING = 1e4


@dataclass(frozen=True, eq=False)
class Factor:
    """What OPTQ needs of a Hessian.

    Attributes:
        order: inputs by falling diagonal, that of the groups together.
        upper: upper Cholesky factor U of the inverse of the damped Hessian in that order, H^-1 = U^T U.
        dead: inputs that are always zero, bool, shape (inputs,) or (rows, inputs), in their own order.
        damping: share of the mean diagonal that was added; more than asked where the Hessian was too close to singular.
    """

    order: Tensor
    upper: Matrices
    dead: Tensor
    damping: float

    @classmethod
    def of(cls, hessian: Matrices, damping: float = 0.01) -> Factor:
        """Factorize in float64; ten times the damping for matrices where it fails."""
        values = hessian.values.to(torch.float64)
        values = values.reshape(-1, *values.shape[-2:])
        diagonal = values.diagonal(dim1=1, dim2=2)
        dead = diagonal <= 0
        mean = diagonal.clamp(min=0).sum(1) / (~dead).sum(1).clamp(min=1)
        mean = torch.where(mean > 0, mean, 1.0)
        order = (diagonal / mean[:, None]).sum(0).argsort(descending=True, stable=True)
        ordered = values[:, order][:, :, order].contiguous()
        ordered.diagonal(dim1=1, dim2=2)[dead[:, order]] = 1
        upper, left = torch.empty_like(ordered), torch.arange(len(ordered))
        taken = most = damping
        while taken <= MOST_DAMPING:
            most = taken
            damped = ordered[left]
            damped.diagonal(dim1=1, dim2=2).add_(taken * mean[left, None])
            # H = V V^T with V upper triangular is Cholesky from the last input back; then H^-1 = V^-T V^-1, and U = V^-1.
            lower, failed = torch.linalg.cholesky_ex(damped.flip(1, 2))
            eye = torch.eye(lower.shape[-1], dtype=lower.dtype)
            found = torch.linalg.solve_triangular(lower, eye, upper=False).flip(1, 2)
            good = (failed == 0) & torch.isfinite(found.sum((1, 2)))
            upper[left[good]] = found[good]
            left = left[~good]
            if not len(left):
                break
            taken = max(10 * taken, 1e-6)
        else:
            raise RequestError("calibration: the inputs' second moments cannot be factorized; give more varied data")
        own = dead if hessian.owner is None else dead[hessian.owner]
        return cls(order, Matrices(upper.reshape(hessian.values.shape), hessian.owner), own.squeeze(0), most)

    def rows(self, index: Tensor) -> Factor:
        """For some of the rows, or for rows repeated."""
        return replace(self, upper=self.upper.of(index), dead=self.dead if self.dead.dim() == 1 else self.dead[index])


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
    order, scales = factor.order.tolist(), factor.upper.to(w.dtype).pivots()
    u = Matrices(factor.upper.values.mT.to(w.dtype).contiguous(), factor.upper.owner)  # u[j, i] = U_ij
    w = w[factor.order]
    errors = torch.empty_like(w)  # (w - q) / U_jj, in order
    for start in range(0, len(w), BLOCK):
        stop = min(start + BLOCK, len(w))
        if start:
            w[start:stop] -= u.block_times(slice(start, stop), slice(0, start), errors[:start])
        for j in range(start, stop):
            value = w[j].sub_(combined(errors[start:j], u.row(j, start, j))) if j > start else w[j]
            replaced = first is not None and j == 0
            codes, kept = rounder(order[j], first if replaced and first is not None else value)
            torch.sub(value if feedback == "full" or replaced else kept, codes, out=errors[j]).div_(scales[j])
    return rounder.codes.T.contiguous()
