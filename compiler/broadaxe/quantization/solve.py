"""One layer: from float weights and moments to integers and steps within the budget."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from broadaxe.errors import ProofError, RequestError
from broadaxe.quantization.budget import EXACT, Budget
from broadaxe.quantization.descent import descend
from broadaxe.quantization.gpfq import gpfq
from broadaxe.quantization.grid import WeightGrid, allowed, max_abs_steps, mse_steps
from broadaxe.quantization.matrices import Matrices
from broadaxe.quantization.moments import Moments
from broadaxe.quantization.optq import Factor, optq
from broadaxe.quantization.recipe import Recipe, ScaleKind
from broadaxe.quantization.relax import relax
from broadaxe.quantization.rounding import round_rows
from broadaxe.quantization.swap import swap

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

    def part(self, rows: Tensor) -> Solution:
        """Some of the rows."""
        return Solution(self.codes[rows], self.steps[rows], self.error[rows], self.damping)


def solve(
    weights: Tensor,
    moments: Moments,
    grid: WeightGrid,
    budget: Budget | None,
    recipe: Recipe,
    *,
    owner: Tensor | None = None,
    steps: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Solution:
    """Quantize a layer's weights.

    Args:
        weights: real, shape (rows, inputs).
        moments: of the layer's inputs, or of several groups' inputs.
        grid: integers allowed.
        budget: of every tile's accumulator; None for no limit.
        recipe: how.
        owner: group of each row, shape (rows,), where moments are those of groups, of at most `optq.BLOCK` inputs.
        steps: to be kept as they are, float64, shape (rows,); for a layer whose scale others share.
        dtype: of the solver; moments and errors are float64.

    Raises:
        BudgetError: no row of the grid fits the budget.
        RequestError: the moments are not finite, or cannot be factorized.
        ProofError: integers out of the budget came out; a bug in Broadaxe.
    """
    w, asked = weights.to(torch.float64), budget
    if budget is not None and max(budget.caps) >= EXACT:
        budget = None
    if not all(bool(torch.isfinite(m.sum())) for m in {moments.hessian, moments.cross, moments.energy}):
        raise RequestError("calibration: the inputs' second moments are not finite; scale the data down")
    factor = None
    if recipe.method in ("optq", "qronos"):
        factor = Factor.of(Matrices(moments.hessian, owner), recipe.damping)
    loss = Loss(w, moments, dtype, owner)
    wanted = w
    if (recipe.correct or recipe.method == "qronos") and factor is not None and loss.mismatch is not None:
        wanted = corrected(w, loss.mismatch, factor)

    def attempt(rows: Tensor, steps: Tensor) -> Tensor:
        """Integers of some rows at given steps."""
        targets = (wanted[rows] / steps[:, None]).to(dtype)
        limit = None if budget is None else budget.of(rows)
        if recipe.method == "rtn":
            return round_rows(targets, grid, limit, soft=recipe.soft)
        if recipe.method == "gpfq" or factor is None:
            hessian, cross = (Matrices(m, owner).of(rows) for m in (moments.hessian, moments.cross))
            diagonal = moments.hessian.diagonal(dim1=-2, dim2=-1).reshape(-1, w.shape[1])
            order = diagonal.sum(0).argsort(descending=True, stable=True)
            return gpfq(targets, hessian, cross, order, grid, limit, soft=recipe.soft)
        first = None
        if recipe.method == "qronos":
            first = (_first(w, loss, int(factor.order[0]))[rows] / steps).to(dtype)
        return optq(targets, factor.rows(rows), grid, limit, feedback=recipe.feedback, soft=recipe.soft, first=first)

    everything = torch.arange(len(w))
    if steps is not None:
        recipe = replace(recipe, steps="max-abs", refit=False, relax=recipe.relax and (1.0,), scales="float")
        base = steps
    else:
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
            found = attempt(rows, chosen)
            fitted, after = loss(rows, found, chosen, recipe.scales if recipe.refit else None)
            least, at = after.reshape(len(tried), -1).min(0)
            better = least < error
            pick = (at * len(w) + everything)[better]
            codes[better], steps[better] = found[pick], fitted[pick]
            error[better], best[better] = after[pick], multiples[pick]
    if recipe.relax and budget is not None and factor is not None and not grid.bipolar:
        centre = steps.clone()
        for multiple in recipe.relax:
            chosen = allowed(centre * multiple, recipe.scales)
            start, b = (wanted / chosen[:, None]).to(dtype), (loss.linear / chosen[:, None]).to(dtype)
            if not bool((budget.thresholds(start.T.contiguous()) > 0).any()):
                continue  # nothing to take off any row
            targets = relax(start, b, loss.hessian, grid, budget)
            found = optq(targets, factor, grid, budget, feedback="full")
            if recipe.descent:
                found = descend(found, b, loss.hessian, grid, budget)
            fitted, after = loss(everything, found, chosen, recipe.scales if recipe.refit else None)
            better = after < error
            codes[better], steps[better], error[better] = found[better], fitted[better], after[better]
    if recipe.descent:
        for _ in range(3 if recipe.refit else 1):
            b = (loss.linear / steps[:, None]).to(dtype)
            moved = descend(codes, b, loss.hessian, grid, budget)
            if recipe.swaps and budget is not None and budget.tile is None and not grid.bipolar:
                moved = swap(moved, b, loss.hessian, grid, budget, most=recipe.swaps)
            fitted, after = loss(everything, moved, steps, recipe.scales if recipe.refit else None)
            better = after < error
            if not bool(better.any()):
                break
            codes[better], steps[better], error[better] = moved[better], fitted[better], after[better]
    if asked is not None and not bool(asked.holds(codes).all()):
        raise ProofError(
            f"solver: integers exceed {asked.bits} accumulator bits, {int(asked.width(codes).max())} needed;"
            " report this as a bug"
        )
    return Solution(codes.to(torch.int32), steps, error, factor.damping if factor is not None else 0.0)


class Loss:
    """E[(x^T w - x~^T s q)^2] of rows, one matrix product each time it is asked.

    With d = s q - w it is E[(x^T w - x~^T w)^2] + 2 d^T (H - G) w + d^T H d, whose terms are as small as the error
    itself: nothing cancels, float32 does.

    Attributes:
        hessian: H in the solver's type.
        mismatch: (H - G) w, shape (rows, inputs); None where x is x~.
    """

    def __init__(self, weights: Tensor, moments: Moments, dtype: torch.dtype, owner: Tensor | None = None) -> None:
        self.weights, self.hessian = weights, Matrices(moments.hessian.to(dtype), owner)
        w = weights.to(dtype)
        self.mismatch: Tensor | None = None
        self.constant = torch.zeros(len(w), dtype=torch.float64)
        if moments.cross is not moments.hessian:
            gap = moments.hessian - moments.cross
            self.mismatch = Matrices(gap.to(dtype), owner).transposed.left(w)
            gap += moments.energy
            gap -= moments.cross.mT
            self.constant = _dot(Matrices(gap.to(dtype), owner).left(w), w)

    @cached_property
    def product(self) -> Tensor:
        """H w, shape (rows, inputs)."""
        return self.hessian.left(self.weights.to(self.hessian.values.dtype))

    @property
    def linear(self) -> Tensor:
        """G w, shape (rows, inputs)."""
        return self.product if self.mismatch is None else self.product - self.mismatch

    def __call__(self, rows: Tensor, codes: Tensor, steps: Tensor, kind: ScaleKind | None) -> tuple[Tensor, Tensor]:
        """Steps, refitted to the integers where a kind is given, and the error; both of shape (rows,), float64."""
        d = (codes.to(torch.float64) * steps[:, None] - self.weights[rows]).to(codes.dtype)
        pulled = self.hessian.of(rows).left(d)
        error = _dot(d, pulled)
        slope = pulled  # H s q - G w, half the gradient
        if self.mismatch is not None:
            mismatch = self.mismatch[rows]
            error += 2 * _dot(d, mismatch) + self.constant[rows]
            slope = pulled + mismatch
        if kind is not None:
            # error(s + t) = error(s) + 2 t q^T slope + t^2 q^T H q
            down, curve = _dot(codes, slope), _dot(codes, pulled + self.product[rows]) / steps
            fitted = allowed((steps - down / curve.clamp(min=1e-300)).clamp(min=0), kind)
            t = fitted - steps
            change = 2 * t * down + t**2 * curve
            usable = (curve > 0) & (steps * curve > down) & (change < 0)
            steps, error = torch.where(usable, fitted, steps), torch.where(usable, error + change, error)
        return steps, error.clamp(min=0)


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Of rows; float64."""
    return torch.linalg.vecdot(left, right).to(torch.float64)


def corrected(weights: Tensor, mismatch: Tensor, factor: Factor) -> Tensor:
    """Weights that give the float network's outputs on the quantized network's inputs, as well as a linear map can.

    argmin_v E[(x^T w - x~^T v)^2] + d * |v - w|^2 = w - (H + d I)^-1 (H - G) w, with the factor's damping d.
    """
    upper = factor.upper.to(mismatch.dtype)  # of the inverse of the damped Hessian, in order
    out = weights.clone()
    out[:, factor.order] -= upper.left(upper.transposed.left(mismatch[:, factor.order]))
    return out


def _first(weights: Tensor, loss: Loss, i: int) -> Tensor:
    """Qronos: the best first weight while the others stay as they are, shape (rows,)."""
    own = loss.hessian.diagonal().to(torch.float64)[..., i]
    off = 0 if loss.mismatch is None else loss.mismatch[:, i].to(torch.float64)
    return torch.where(own > 0, weights[:, i] - off / own, 0.0)


def _chunks(count: int, size: int) -> list[list[int]]:
    return [list(range(start, min(start + size, count))) for start in range(0, count, size)]
