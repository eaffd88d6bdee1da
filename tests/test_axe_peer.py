"""AXE here and AXE in Brevitas give the same error on the same layer."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from broadaxe.quantization.budget import Budget
from broadaxe.quantization.grid import WeightGrid
from broadaxe.quantization.moments import Moments
from broadaxe.quantization.recipe import AXE
from broadaxe.quantization.solve import solve

pytest.importorskip(
    "brevitas_examples.common.axe", reason="Brevitas' AXE is not installed: pip install 'broadaxe[brevitas]'"
)
sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
from axe_peer import brevitas_axe, layer


@pytest.mark.slow
@pytest.mark.parametrize("bits", [16, 15])
@pytest.mark.parametrize("method", ["optq", "gpfq"])
def test_same_error(method: str, bits: int) -> None:
    data, _ = layer(256)
    moments, power = Moments.of(data.xq, data.x), float(((data.x @ data.weights.T) ** 2).sum(1).mean())
    lo, hi = torch.zeros(256, dtype=torch.int64), torch.full((256,), 255)
    budget = Budget(bits, lo, hi, "signed", symmetric=True)
    ours = solve(data.weights, moments, WeightGrid(4), budget, replace(AXE, method=method))
    codes, steps, _ = brevitas_axe(data, method, bits)
    assert budget.holds(ours.codes).all()
    assert budget.holds(codes).all()
    theirs = float(moments.error(codes, steps, data.weights).sum()) / power
    assert float(ours.error.sum()) / power == pytest.approx(theirs, rel=0.02)
