"""Real weights moved so that the integers a quantizer makes of them fit an accumulator budget.

With steps s, a row w quantizes to q = round(w / s), to nearest or toward zero. Shrinking |w_i / s| by lambda * c_i never makes
an |q_i| larger nor changes its sign, in floating point too: subtraction, product, quotient and rounding are monotone. So there
is a least lambda from which on the integers fit, and bisection on the integers themselves finds it, to 2**-STEPS of the
lambda that leaves nothing. The last one that was seen to fit is taken: no norm of reals stands in for the sums.

    offset   c_i = r_i                                          until sum_i r_i * |q_i| <= 2**P - 1
    signed   c_i = what a step of q_i adds to HI, then to -LO   until HI and -LO are within their caps, one after the other

Every range has zero in it (codes of quantizers do), so HI and -LO fall with every |q_i|, and the second of them cannot undo the
first. Source: Colbert et al., A2Q+, ICML 2024, which starts from rows projected onto an l1 ball and stays there by weight
normalization and rounding toward zero. Deviations: the projection is repeated after every step of the optimizer; it stops at
the integers' own sums, which leaves more of the weights than the ball does and allows rounding to nearest; rows are not
centred around zero: that their integers would not keep, and HI and -LO have a cap each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from broadaxe.errors import ProofError
from broadaxe.quantization.budget import Budget

STEPS = 16


@dataclass(frozen=True)
class Rounding:
    """How a quantizer rounds: integers from `low` to `high`, half to even or toward zero."""

    low: int
    high: int
    toward_zero: bool

    def codes(self, weights: Tensor, steps: Tensor) -> Tensor:
        """In the weights' own arithmetic, as Brevitas computes them; both of shape (rows, inputs) or (rows, 1)."""
        y = weights / steps
        return (y.trunc() if self.toward_zero else y.round()).clamp(self.low, self.high)


def projected(weights: Tensor, steps: Tensor, rounding: Rounding, budget: Budget) -> Tensor:
    """The weights with every row shrunk that breaks the budget, and no further than it has to be.

    Args:
        weights: finite, shape (rows, inputs).
        steps: positive, of the weights' type, shape (rows, 1).
        rounding: grid and rounding of the quantizer.
        budget: without tiles; every range has zero in it.

    Returns:
        Shape (rows, inputs). Rows that fit come back as they were.
    """
    budget = replace(budget, lo=budget.lo.to(weights.device), hi=budget.hi.to(weights.device))
    broken = ~budget.holds(rounding.codes(weights, steps))
    if not bool(broken.any()):
        return weights
    s = steps[broken]
    v = (weights[broken] / s).clamp(rounding.low, rounding.high)
    for cost, cap in _constraints(budget, v):
        v = _shrunk(v, cost, cap, lambda candidate: rounding.codes(candidate * s, s))
    out = weights.clone()
    out[broken] = v * s
    if not bool(budget.holds(rounding.codes(out, steps)).all()):
        raise ProofError(f"projection: left a row outside of {budget.bits} bits; report this as a bug")
    return out


def _constraints(budget: Budget, v: Tensor) -> list[tuple[Tensor, int]]:
    """What a step of each weight adds to a sum, and that sum's cap, one after the other."""
    up, down = budget.caps
    lo, hi = budget.lo.to(v), budget.hi.to(v)
    if budget.kind == "offset":
        return [((hi - lo).expand_as(v), up)]
    return [(torch.where(v > 0, hi, -lo), up), (torch.where(v > 0, -lo, hi), down)]


def _shrunk(v: Tensor, cost: Tensor, cap: int, codes: Callable[[Tensor], Tensor]) -> Tensor:
    """Rows shrunk by the least lambda * cost after which sum_i cost_i * |q_i| <= cap; weights without cost stay.

    Invariant: rows shrunk by `enough` fit. The sums have integer terms, none negative: in a float type that holds the cap
    exactly, rounding cannot bring one that is larger down to it.
    """
    size, sign = v.abs(), v.sign()
    exact = torch.float64 if cap * torch.finfo(v.dtype).eps > 0.5 else v.dtype

    def at(level: Tensor) -> Tensor:
        return sign * (size - level[:, None] * cost).clamp(min=0)

    def fits(rows: Tensor) -> Tensor:
        return torch.linalg.vecdot(codes(rows).abs().to(exact), cost.to(exact)) <= cap

    nothing = torch.where(cost > 0, size / cost.clamp(min=1), 0.0).amax(1) * 1.001
    enough, too_little = torch.where(fits(v), 0.0, nothing), torch.zeros_like(nothing)
    for _ in range(STEPS if bool(enough.any()) else 0):
        middle = (too_little + enough) / 2
        good = fits(at(middle))
        enough, too_little = torch.where(good, middle, enough), torch.where(good, too_little, middle)
    return at(enough)
