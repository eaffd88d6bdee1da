"""One layer: from float weights and moments to integers and steps within the budget."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from broadaxe.errors import ProofError, RequestError
from broadaxe.quantization.budget import EXACT, Budget
from broadaxe.quantization.descent import descend
from broadaxe.quantization.gpfq import gpfq
from broadaxe.quantization.grid import WeightGrid, allowed, max_abs_steps, mse_steps
from broadaxe.quantization.moments import Moments
from broadaxe.quantization.optq import Factor, optq
from broadaxe.quantization.recipe import Recipe, ScaleKind
from broadaxe.quantization.rounding import round_rows

ROWS_ELEMENTS = 1 << 24
"""Weights that are solved for at once: 64 MiB in float32."""


@dataclass(frozen=True, eq=False)
class Solution:
    """Integers and steps of a layer.

    Attributes:
        codes: int32, shape (rows, inputs), within the budget in exact arithmetic.
        steps: float64, shape (rows,); a float32 number each.
        error: E[(x^T w - x~^T s q)^2], shape (rows,).
        damping: what the factorization took.
    """

    codes: Tensor
    steps: Tensor
    error: Tensor
    damping: float


def solve(
    weights: Tensor,
    moments: Moments,
    grid: WeightGrid,
    budget: Budget | None,
    recipe: Recipe,
    *,
    dtype: torch.dtype = torch.float32,
) -> Solution:
    """Quantize a layer's weights.

    Args:
        weights: real, shape (rows, inputs).
        moments: of the layer's inputs.
        grid: integers allowed.
        budget: of every tile's accumulator; None for no limit.
        recipe: how.
        dtype: of the solver; moments and errors are float64.

    Raises:
        BudgetError: no row of the grid fits the budget.
        RequestError: the moments are not finite, or cannot be factorized.
        ProofError: integers out of the budget came out; a bug in Broadaxe.
    """
    w, asked = weights.to(torch.float64), budget
    if budget is not None and max(budget.caps) >= EXACT:
        budget = None
    if not all(bool(torch.isfinite(m).all()) for m in (moments.hessian, moments.cross, moments.energy)):
        raise RequestError("calibration: the inputs' second moments are not finite; scale the data down")
    factor = None
    if recipe.method in ("optq", "qronos"):
        factor = Factor.of(moments.hessian, recipe.damping)
    wanted = w
    if (recipe.correct or recipe.method == "qronos") and moments.cross is not moments.hessian and factor is not None:
        wanted = corrected(w, moments, factor)
    linear = w @ moments.cross.T  # b, (rows, inputs)

    def attempt(rows: Tensor, steps: Tensor) -> Tensor:
        """Integers of some rows at given steps."""
        targets = (wanted[rows] / steps[:, None]).to(dtype)
        if recipe.method == "rtn":
            return round_rows(targets, grid, budget, soft=recipe.soft)
        if recipe.method == "gpfq" or factor is None:
            order = moments.hessian.diagonal().argsort(descending=True, stable=True)
            return gpfq(targets, moments.hessian, moments.cross, order, grid, budget, soft=recipe.soft)
        first = None
        if recipe.method == "qronos":
            first = (_first(w[rows], moments, int(factor.order[0])) / steps).to(dtype)
        return optq(targets, factor, grid, budget, feedback=recipe.feedback, soft=recipe.soft, first=first)

    def finish(rows: Tensor, codes: Tensor, steps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Steps refitted where that is asked for, and the error."""
        if recipe.refit:
            steps = refitted(codes.to(torch.float64), steps, linear[rows], moments.hessian, recipe.scales)
        return codes, steps, moments.error(codes, steps, w[rows])

    everything = torch.arange(len(w))
    base = mse_steps(w, grid) if recipe.steps == "mse" else max_abs_steps(w, grid)
    codes, steps, error = torch.zeros_like(w, dtype=dtype), base, torch.full_like(base, torch.inf)
    best = torch.ones_like(base)
    rounds: list[tuple[float, ...]] = [recipe.multiples, recipe.refine] if recipe.steps == "search" else [(1.0,)]
    for factors in rounds:
        centre = best.clone()
        for some in _chunks(len(factors), max(1, ROWS_ELEMENTS // max(1, w.numel()))):
            tried = torch.tensor([factors[k] for k in some], dtype=torch.float64)
            rows = everything.repeat(len(tried))
            multiples = (tried[:, None] * centre).reshape(-1)
            chosen = allowed(base[rows] * multiples, recipe.scales)
            found = finish(rows, attempt(rows, chosen), chosen)
            errors = found[2].reshape(len(tried), -1)
            least, at = errors.min(0)
            pick = (at * len(w) + everything)[least < error]
            better = least < error
            codes[better], steps[better] = found[0][pick], found[1][pick]
            error[better], best[better] = found[2][pick], multiples[pick]
    if recipe.descent:
        for _ in range(3 if recipe.refit else 1):
            b = (linear / steps[:, None]).to(dtype)
            moved, fitted, after = finish(everything, descend(codes, b, moments.hessian, grid, budget), steps)
            better = after < error
            if not bool(better.any()):
                break
            codes[better], steps[better], error[better] = moved[better], fitted[better], after[better]
    if asked is not None and not bool(asked.holds(codes).all()):
        raise ProofError(
            f"solver: integers exceed {asked.bits} accumulator bits, {int(asked.width(codes).max())} needed"
        )
    return Solution(codes.to(torch.int32), steps, error, factor.damping if factor is not None else 0.0)


def corrected(weights: Tensor, moments: Moments, factor: Factor) -> Tensor:
    """Weights that give the float network's outputs on the quantized network's inputs, as well as a linear map can.

    argmin_v E[(x^T w - x~^T v)^2] + d * |v - w|^2 = (H + d I)^-1 (G + d I) w, with the factor's damping d.
    """
    inverse = factor.upper.T @ factor.upper  # of the damped Hessian, in order
    live = ~factor.dead
    mean = float(moments.hessian.diagonal()[live].mean()) if bool(live.any()) else 1.0
    g = moments.cross.clone()
    g.diagonal().add_(factor.damping * mean)
    right = (weights @ g.T)[:, factor.order]
    out = torch.empty_like(weights)
    out[:, factor.order] = right @ inverse
    return out


def _first(weights: Tensor, moments: Moments, i: int) -> Tensor:
    """Qronos: the best first weight while the others stay as they are, shape (rows,)."""
    h, g = moments.hessian[i], moments.cross[i]
    if h[i] <= 0:
        return torch.zeros_like(weights[:, i])
    return (weights @ g - weights @ h + weights[:, i] * h[i]) / h[i]


def refitted(codes: Tensor, steps: Tensor, linear: Tensor, hessian: Tensor, kind: ScaleKind) -> Tensor:
    """The step that minimizes s^2 q^T H q - 2 s q^T b for given integers, where it is positive and better."""
    square, product = (codes @ hessian * codes).sum(1), (codes * linear).sum(1)
    best = allowed((product / square.clamp(min=1e-300)).clamp(min=0), kind)
    usable = (square > 0) & (product > 0)

    def loss(s: Tensor) -> Tensor:
        return s**2 * square - 2 * s * product

    return torch.where(usable & (loss(best) < loss(steps)), best, steps)


def _chunks(count: int, size: int) -> list[list[int]]:
    return [list(range(start, min(start + size, count))) for start in range(0, count, size)]
