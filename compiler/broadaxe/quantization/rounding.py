"""Rounding a layer's weights input by input: soft threshold, strict limits, nearest integer; and whole rows at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from broadaxe.errors import BudgetError
from broadaxe.quantization.budget import Budget, Room
from broadaxe.quantization.grid import WeightGrid


class Rounder:
    """Rounds one input's weight in every row at a time, within the budget whatever comes after.

    Args:
        targets: real weights in steps, shape (inputs, rows); the soft thresholds come from these.
        soft: shrink by the threshold that projects the targets onto the budget; else only clip.

    Raises:
        BudgetError: no row of the grid is within the budget; only grids without zero can meet one.
    """

    def __init__(self, targets: Tensor, grid: WeightGrid, budget: Budget | None, *, soft: bool = True) -> None:
        self.grid = grid
        self.codes = torch.zeros_like(targets)
        self.room = None if budget is None else Room.of(budget, targets.shape[1], targets, _rest(grid, budget))
        self.shrinks = None
        if budget is not None and soft:
            thresholds = budget.thresholds(targets)
            if bool((thresholds > 0).any()):
                self.shrinks = thresholds
        self.spread: list[Any] = []
        if budget is not None:
            self.spread = (
                budget.spread.tolist() if budget.spread.dim() == 1 else list(budget.spread.T.to(targets.dtype))
            )
        self.tile_of = [] if budget is None else budget.tile_of

    def __call__(self, i: int, values: Tensor) -> tuple[Tensor, Tensor]:
        """Round input i.

        Args:
            values: real weights in steps, shape (rows,).

        Returns:
            The integers, and the thresholded and clipped values that they were rounded from, both of shape (rows,).
        """
        kept = values
        if self.shrinks is not None:
            kept = _shrink(kept, self.shrinks[self.tile_of[i]] * self.spread[i])
        limits = None
        if self.room is not None:
            self.room.free(i)
            limits = self.room.limits(i)
        if limits is None:
            kept = kept.clamp(self.grid.low, self.grid.high)
            codes = self.grid.nearest(kept)
        else:
            low, high = (side.to(kept.dtype) for side in limits)
            kept = kept.clamp(low, high).clamp_(self.grid.low, self.grid.high)
            codes = self.grid.nearest(kept, low, high) if self.grid.bipolar else kept.round()  # limits are integers
        if self.room is not None:
            self.room.take(i, codes)
        self.codes[i] = codes
        return codes, kept


def _rest(grid: WeightGrid, budget: Budget) -> Tensor | None:
    """What weights not yet rounded count as: zero, or balanced signs where the grid has no zero; shape (inputs, 1)."""
    if not grid.bipolar:
        return None
    signs = budget.signs.reshape(-1, budget.inputs)
    if not bool(budget.holds(signs).all()):
        raise BudgetError(budget.bits, int(budget.width(signs).max()))
    return signs.T


def _shrink(values: Tensor, by: Tensor) -> Tensor:
    return values - values.clamp(-by, by)


def round_rows(targets: Tensor, grid: WeightGrid, budget: Budget | None, *, soft: bool = True) -> Tensor:
    """Every weight by itself, without feedback: round to nearest, or with a budget the projection of EP-init (A2Q+).

    Args:
        targets: real weights in steps, shape (rows, inputs).

    Returns:
        Integers in the type of `targets`, shape (rows, inputs).
    """
    columns = targets.T.contiguous()
    rounder = Rounder(columns, grid, budget, soft=soft)
    for i in range(len(columns)):
        rounder(i, columns[i])
    return rounder.codes.T.contiguous()
