"""Second moments of a layer's inputs: all that the solvers need to know of calibration data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from broadaxe.errors import RequestError


@dataclass(frozen=True, eq=False)
class Moments:
    """Of float inputs x and the inputs x~ that the network quantized so far gives, as averages over samples.

    Attributes:
        samples: rows seen.
        hessian: E[x~ x~^T], shape (inputs, inputs).
        cross: E[x~ x^T], shape (inputs, inputs); the same tensor as `hessian` where x is x~.
        energy: E[x x^T], likewise.
        mean, float_mean: E[x~] and E[x], shape (inputs,).
    """

    samples: int
    hessian: Tensor
    cross: Tensor
    energy: Tensor
    mean: Tensor
    float_mean: Tensor

    @classmethod
    def of(cls, quantized: Tensor, floats: Tensor | None = None) -> Moments:
        """Moments of rows of inputs, shape (samples, inputs); without `floats` both networks give the same."""
        total = MomentSum(1, quantized.shape[1], paired=floats is not None)
        return total.add(quantized[None], None if floats is None else floats[None]).average()[0]

    @classmethod
    def stack(cls, groups: Sequence[Moments]) -> Moments:
        """Of several groups in one, each tensor with groups as its first axis."""
        hessian, mean, float_mean = (
            torch.stack([getattr(m, n) for m in groups]) for n in ("hessian", "mean", "float_mean")
        )
        cross = energy = hessian
        if any(m.cross is not m.hessian for m in groups):
            cross, energy = (torch.stack([getattr(m, n) for m in groups]) for n in ("cross", "energy"))
        return cls(groups[0].samples, hessian, cross, energy, mean, float_mean)

    def error(self, codes: Tensor, steps: Tensor, weights: Tensor, *, centred: bool = False) -> Tensor:
        """E[(x^T w - x~^T s q)^2] of every row, shape (rows,); `centred` leaves the mean error out, which a bias can mend."""
        w, v = weights.to(self.hessian.dtype), codes.to(self.hessian.dtype) * steps.to(self.hessian.dtype)[:, None]
        total = (w @ self.energy * w).sum(1) - 2 * (v @ self.cross * w).sum(1) + (v @ self.hessian * v).sum(1)
        if centred:
            total = total - self.bias(codes, steps, weights) ** 2
        return total.clamp(min=0)

    def bias(self, codes: Tensor, steps: Tensor, weights: Tensor) -> Tensor:
        """E[x^T w - x~^T s q] of every row: the constant that mends the mean error."""
        v = codes.to(self.mean.dtype) * steps.to(self.mean.dtype)[:, None]
        return weights.to(self.mean.dtype) @ self.float_mean - v @ self.mean

    def power(self, weights: Tensor, *, centred: bool = False) -> Tensor:
        """E[(x^T w)^2] of every row, or its variance."""
        w = weights.to(self.energy.dtype)
        power = (w @ self.energy * w).sum(1)
        return power - (w @ self.float_mean) ** 2 if centred else power


class MomentSum:
    """Moments of the inputs of every group of a layer: within a block in the data's type, over blocks in float64."""

    def __init__(self, groups: int, inputs: int, *, paired: bool) -> None:
        self.samples = 0
        shape, options = (groups, inputs), {"dtype": torch.float64}
        self.squares = [torch.zeros(*shape, inputs, **options) for _ in range(3 if paired else 1)]
        self.sums = [torch.zeros(*shape, **options) for _ in range(2 if paired else 1)]

    def add(self, quantized: Tensor, floats: Tensor | None = None) -> MomentSum:
        """Take rows in, shape (groups, samples, inputs); `floats` exactly where the sum is paired."""
        rows = [quantized] if floats is None else [quantized, floats]
        if len(rows) != len(self.sums):
            raise RequestError("calibration: float and quantized inputs belong together; pass both or one throughout")
        pairs = [(rows[0], rows[0])] if floats is None else [(rows[0], rows[0]), (rows[0], rows[1]), (rows[1], rows[1])]
        self.samples += quantized.shape[1]
        for total, (left, right) in zip(self.squares, pairs, strict=True):
            total += left.transpose(1, 2) @ right
        for total, x in zip(self.sums, rows, strict=True):
            total += x.sum(1)  # of a block, pairwise; asking for float64 here takes ten times as long
        return self

    def average(self) -> list[Moments]:
        """Moments of each group."""
        if not self.samples:
            raise RequestError("calibration: no samples; give at least one")
        squares, sums = [m / self.samples for m in self.squares], [m / self.samples for m in self.sums]
        if len(squares) == 1:
            squares, sums = squares * 3, sums * 2
        out = []
        for g in range(len(sums[0])):
            hessian = squares[0][g]
            cross, energy = (hessian, hessian) if squares[1] is squares[0] else (squares[1][g], squares[2][g])
            out.append(Moments(self.samples, hessian, cross, energy, sums[0][g], sums[1][g]))
        return out
