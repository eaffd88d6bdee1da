"""Relaxed starts and exchanges stay within budgets and never make a row worse."""

from __future__ import annotations

import pytest
import torch

from broadaxe.quantization.budget import Budget
from broadaxe.quantization.grid import WeightGrid
from broadaxe.quantization.matrices import Matrices
from broadaxe.quantization.relax import relax
from broadaxe.quantization.rounding import round_rows
from broadaxe.quantization.swap import swap

GRID = WeightGrid(4)


def problem(seed: int, kind: str, tile: int | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Budget]:
    """Weights in steps, b, H and a budget that binds; inputs of different ranges, one of them constant."""
    torch.manual_seed(seed)
    x = torch.randn(64, 12, dtype=torch.float64) @ torch.randn(12, 12, dtype=torch.float64)
    h, w = x.T @ x / 64, 3 * torch.randn(8, 12, dtype=torch.float64)
    lo, hi = torch.randint(-9, 3, (12,)), torch.randint(3, 16, (12,))
    lo[0] = hi[0] = 2
    return w, w @ h, h, Budget(8, lo, hi, kind, tile)


def loss(v: torch.Tensor, b: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    return (v @ h * v).sum(1) - 2 * (v * b).sum(1)


@pytest.mark.parametrize("kind", ["signed", "offset"])
@pytest.mark.parametrize("seed", range(8))
def test_exchanges(seed: int, kind: str) -> None:
    w, b, h, budget = problem(seed, kind)
    before = round_rows(w, GRID, budget)
    after = swap(before, b, Matrices(h), GRID, budget, most=50)
    assert budget.holds(after).all()
    assert after.min() >= GRID.low
    assert after.max() <= GRID.high
    assert (loss(after, b, h) <= loss(before, b, h) + 1e-9).all()
    assert (loss(after, b, h) < loss(before, b, h) - 1e-9).any()


def test_one_exchange_is_the_best() -> None:
    """Of the exchanges that start with a release, by trying them all."""
    w, b, h, budget = problem(3, "offset")
    w, b, h, budget = w[:, :8], b[:, :8], h[:8, :8], Budget(8, budget.lo[:8], budget.hi[:8])
    before = round_rows(w, GRID, budget)
    after = swap(before, b, Matrices(h), GRID, budget, most=1)
    for row in range(len(w)):
        least = float(loss(before[row][None], b[row][None], h)[0])
        for i in range(8):
            for j in range(8):
                for move in (-1, 1):
                    tried = before[row].clone()
                    tried[i] -= tried[i].sign()
                    tried[j] += move
                    if before[row, i] and i != j and budget.holds(tried[None]).all() and tried.abs().max() <= GRID.high:
                        # the sign that is best for j without the budget is the only one tried
                        other = tried.clone()
                        other[j] -= 2 * move
                        if loss(tried[None], b[row][None], h) <= loss(other[None], b[row][None], h):
                            least = min(least, float(loss(tried[None], b[row][None], h)[0]))
        assert float(loss(after[row][None], b[row][None], h)[0]) == pytest.approx(least, abs=1e-3)


@pytest.mark.parametrize("tile", [None, 5])
def test_relaxed_weights_are_in_the_ball(tile: int | None) -> None:
    w, b, h, budget = problem(1, "signed", tile)
    shrunk = round_rows(w, GRID, budget)
    v = relax(w, b, Matrices(h), GRID, budget, iterations=300)
    for part, r in zip(v.split(tile or 12, 1), budget.spread.split(tile or 12), strict=True):
        assert ((part.abs() * r).sum(1) <= budget.radius * (1 + 1e-9)).all()
    assert (loss(v, b, h) <= loss(shrunk, b, h) + 1e-9).all()  # every row within the budget is in the ball
