"""Accumulator budgets: which integer rows fit, the projection onto them, and how far the next weight may go.

A row q of integer weights meets inputs whose codes are proven to lie in [lo_i, hi_i]. Its sum spans

    HI = sum_i max(q_i * lo_i, q_i * hi_i)        LO = sum_i min(q_i * lo_i, q_i * hi_i)        r_i = hi_i - lo_i

    signed   HI <= 2**(P-1) - 1 and LO >= -2**(P-1)          the sum starts at zero (two's complement)
    offset   HI - LO = sum_i r_i * |q_i| <= 2**P - 1          the sum starts at a constant that centres it

With tiles every run of T inputs has an accumulator, and so a budget, of its own. Source of the signed budget, its soft
threshold and its strict limits: Colbert et al., AXE, TMLR 2025, sections 3.1 and 3.2, there for one range of all inputs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from broadaxe.quantization.matrices import combined
from broadaxe.quantization.recipe import BudgetKind
from broadaxe.quantization.signs import balanced_signs

NEWTON_STEPS = 60
EXACT = 1 << 52
"""Integers below are exact in float64, and so is the floor of their quotients."""


@dataclass(frozen=True, eq=False)
class Budget:
    """The accumulators of one layer.

    Attributes:
        bits: P, width of the accumulator of every tile.
        lo, hi: int64, shape (inputs,): proven codes of each input, in the order of the hardware (kh, kw, c); of shape
            (rows, inputs) where rows are those of groups with inputs of their own.
        kind: whether the accumulator starts at zero or at a constant of its own.
        tile: inputs per accumulator; None for all of them.
        symmetric: leave -2**(P-1) out, as published.
    """

    bits: int
    lo: Tensor
    hi: Tensor
    kind: BudgetKind = "offset"
    tile: int | None = None
    symmetric: bool = False

    @property
    def inputs(self) -> int:
        return int(self.lo.shape[-1])

    def of(self, rows: Tensor) -> Budget:
        """For some of the rows, or for rows repeated."""
        return self if self.lo.dim() == 1 else replace(self, lo=self.lo[rows], hi=self.hi[rows])

    @property
    def tiles(self) -> int:
        return -(-self.inputs // (self.tile or self.inputs))

    @property
    def tile_of(self) -> list[int]:
        """Tile of each input."""
        size = self.tile or self.inputs
        return [i // size for i in range(self.inputs)]

    @property
    def spread(self) -> Tensor:
        """r_i, int64, in the shape of `lo`."""
        return self.hi - self.lo

    @property
    def caps(self) -> tuple[int, int]:
        """Largest HI and largest -LO; for the offset budget the largest HI - LO, twice."""
        if self.kind == "offset":
            return ((1 << self.bits) - 1,) * 2
        high = (1 << (self.bits - 1)) - 1
        return high, high if self.symmetric else high + 1

    @property
    def radius(self) -> int:
        """Of the ball of the norm sum_i r_i * |q_i| that holds every row within the budget."""
        return sum(self.caps) if self.kind == "signed" else self.caps[0]

    @cached_property
    def signs(self) -> Tensor:
        """A row of -1 and 1 that needs the fewest bits of all such rows; int64, in the shape of `lo`."""
        centres = (self.lo + self.hi).reshape(-1, self.inputs)
        rows = [[s for c in row.split(self.tile or self.inputs) for s in balanced_signs(c.tolist())] for row in centres]
        return torch.tensor(rows).reshape(self.lo.shape)

    def sums(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """HI and LO of every tile of every row, exact.

        Args:
            codes: integers, shape (rows, inputs).

        Returns:
            Two int64 tensors of shape (rows, tiles).
        """
        q = codes.to(torch.int64)
        largest = int(q.abs().max()) * max(int(self.lo.abs().max()), int(self.hi.abs().max())) if q.numel() else 0
        if largest * max(self.inputs, 1) >= 1 << 63:
            raise OverflowError(f"sums of {self.inputs} products of up to {largest} do not fit 64 bits")
        padded = self.tiles * (self.tile or self.inputs) - self.inputs
        ends = q * self.lo, q * self.hi
        sides = [torch.maximum(*ends), torch.minimum(*ends)]
        if padded:
            sides = [torch.nn.functional.pad(side, (0, padded)) for side in sides]
        high, low = (side.reshape(len(q), self.tiles, -1).sum(-1) for side in sides)
        return high, low

    def width(self, codes: Tensor) -> Tensor:
        """Bits that the widest tile of every row needs under this kind of budget, exact; int64, shape (rows,)."""
        high, low = self.sums(codes)
        if self.kind == "offset":
            return _bit_length(high - low).amax(1).clamp(min=1)
        return torch.maximum(_bit_length(high), _bit_length(-low - 1 + self.symmetric * (low < 0))).amax(1) + 1

    def holds(self, codes: Tensor) -> Tensor:
        """Whether every tile of a row fits, exact; bool, shape (rows,)."""
        high, low = self.sums(codes)
        up, down = self.caps
        if self.kind == "offset":
            return (high - low <= up).all(1)
        return ((high <= up) & (-low <= down)).all(1)

    def thresholds(self, rows: Tensor, start: Tensor | None = None, steps: int = NEWTON_STEPS) -> Tensor:
        """Soft thresholds that project real rows onto the radius: |v_i| is shrunk by threshold * r_i.

        The signed budget is that of AXE, which takes each tile's mean off the row first.

        Args:
            rows: real weights in steps, shape (inputs, rows).
            start: a guess, shape (tiles, rows).
            steps: most of Newton's; where they end early, thresholds are too small.

        Returns:
            Shape (tiles, rows), zero where the row fits as it is.
        """
        size = self.tile or self.inputs
        out = rows.new_zeros(self.tiles, rows.shape[1]) if start is None else start.clone()
        spread = self.spread.to(rows.dtype)
        spread = spread[:, None] if spread.dim() == 1 else spread.T
        for t, (part, r) in enumerate(zip(rows.split(size), spread.split(size), strict=True)):
            used = None if bool((r > 0).all()) else r > 0
            if self.kind == "signed":
                mean = part.mean(0) if used is None else (part * used).sum(0) / used.sum(0).clamp(min=1)
                part = part - mean
            sizes = part.abs() if used is None else part.abs() * used
            out[t] = _level(sizes, r, self.radius, out[t], steps)
        return out


def _level(sizes: Tensor, r: Tensor, radius: int, level: Tensor, steps: int) -> Tensor:
    """The x >= 0 with sum_i r_i * max(v_i - x * r_i, 0) = radius, or 0 where the sum at 0 is no larger, for every row.

    Newton's iteration: the sum is convex, falling and piecewise linear in x, so that from anywhere the next x is at or left
    of the root, and from there the steps rise and end once no v_i changes sides: once only rounding errors move them.

    Args:
        sizes: v, shape (inputs, rows); zero where r is.
        r: shape (inputs, 1) or (inputs, rows).
        level: where to start, shape (rows,).
    """
    weigh = partial(combined, coefficients=r.squeeze(1))
    count = partial(combined, coefficients=r.squeeze(1) ** 2)
    noise = 64 * torch.finfo(sizes.dtype).eps * sizes.amax(0) / r.amax(0).clamp(min=1)
    for _ in range(steps):
        excess = torch.addcmul(sizes, r, level, value=-1).clamp_(min=0)
        over = weigh(excess) - radius
        norms = count(excess.sign_())
        after = torch.where(norms > 0, (level + over / norms).clamp_(min=0), 0.0 if radius else level)
        # a guess beyond every v_i starts over
        settled = (after - level).abs_() <= noise
        level = after
        if bool(settled.all()):
            break
    return level


class Room:
    """What is left of a budget while rows are rounded input by input: running integer sums, in floats that hold them exactly.

    Every input starts at its rest code, zero if none is given; `free` takes that back, `take` puts the new one in its place.
    Invariant: with every input at its latest code each tile of each row is within the budget, if the rest codes are.

    In the rows' own float type where that is exact: sums of ranges with zero stay within the caps, and an integer below 2**t
    over an integer step r, rounded to t bits, has the same floor: its distance from the next integer is 1/r or more, half a
    unit in the last place less than that.

    Args:
        rest: integers, shape (inputs, rows) or (inputs, 1).
    """

    def __init__(self, budget: Budget, rows: int, like: Tensor, rest: Tensor | None = None) -> None:
        if max(budget.caps) >= EXACT:
            raise ValueError(f"accumulators of {budget.bits} bits need no budget")
        self.offset = budget.kind == "offset"
        self.tile_of = budget.tile_of
        largest = max(budget.caps) + max((int(n.abs().max()) for n in (budget.lo, budget.hi, budget.spread)), default=0)
        with_zero = bool((budget.lo <= 0).all() & (budget.hi >= 0).all())
        exact = like.dtype if with_zero and largest < 1 / torch.finfo(like.dtype).eps else torch.float64
        options = {"dtype": exact, "device": like.device}
        self.up = torch.full((budget.tiles, rows), float(budget.caps[0]), **options)
        self.down = torch.full((budget.tiles, rows), float(budget.caps[1]), **options)
        self.lo, self.hi = self._ends(budget.lo), self._ends(budget.hi)
        self.rest = rest
        if rest is not None:
            for i in range(budget.inputs):
                self._charge(i, rest[i], 1)

    @staticmethod
    def of(budget: Budget, rows: int, like: Tensor, rest: Tensor | None = None) -> Room:
        """Of rows that share the ranges of their inputs, or have ranges of their own."""
        return (Room if budget.lo.dim() == 1 else _RowRoom)(budget, rows, like, rest)

    def free(self, i: int) -> None:
        """Give the rest code of input i back."""
        if self.rest is not None:
            self._charge(i, self.rest[i], -1)

    def take(self, i: int, codes: Tensor) -> None:
        """Charge integers, shape (rows,), to input i, which is free."""
        self._charge(i, codes, 1)

    def limits(self, i: int) -> tuple[Tensor, Tensor] | None:
        """Least and largest integer that input i, which is free, may get in every row; None where it costs nothing.

        A range without zero gives room on one side while it takes some on the other, so a side may be overdrawn while the
        input is free. Only one sign mends that, and each step of it gives back the end of the range that is nearer to zero.
        """
        tile, lo, hi = self.tile_of[i], self.lo[i], self.hi[i]
        up, down = self.up[tile], self.down[tile]
        if self.offset:
            if hi == lo:
                return None
            most = (up / (hi - lo)).floor_()
            return -most, most
        if lo == 0 == hi:
            return None
        if lo >= 0:
            return -_steps(down, hi, lo), _steps(up, hi, lo)
        if hi <= 0:
            return -_steps(up, -lo, -hi), _steps(down, -lo, -hi)
        return -torch.minimum(up / -lo, down / hi).floor_(), torch.minimum(up / hi, down / -lo).floor_()

    def _ends(self, ends: Tensor) -> list[Any]:
        """Of each input."""
        return list(ends.tolist())

    def _charge(self, i: int, codes: Tensor, sign: int) -> None:
        tile, lo, hi = self.tile_of[i], self.lo[i], self.hi[i]
        q = codes.to(self.up.dtype)
        if self.offset:
            if hi != lo:
                self.up[tile].sub_(q.abs(), alpha=sign * (hi - lo))
            return
        positive, negative = q.clamp(min=0), q.clamp(max=0)
        if hi:
            self.up[tile].sub_(positive, alpha=sign * hi)
            self.down[tile].add_(negative, alpha=sign * hi)
        if lo:
            self.up[tile].sub_(negative, alpha=sign * lo)
            self.down[tile].add_(positive, alpha=sign * lo)


class _RowRoom(Room):
    """Room of rows whose inputs have ranges of their own."""

    def _ends(self, ends: Tensor) -> list[Any]:
        return list(ends.T.to(self.up.dtype).contiguous())

    def limits(self, i: int) -> tuple[Tensor, Tensor]:
        tile, lo, hi = self.tile_of[i], self.lo[i], self.hi[i]
        up, down = self.up[tile], self.down[tile]
        if self.offset:
            most = torch.where(hi > lo, (up / (hi - lo).clamp(min=1)).floor_(), torch.inf)
            return -most, most

        def steps(side: Tensor, far: Tensor, near: Tensor) -> Tensor:
            each = torch.where((side < 0) & (near > 0), near, far)
            return torch.where(each > 0, (side / each.clamp(min=1)).floor_(), torch.inf)

        above, below = (hi, lo.clamp(min=0)), (-lo, (-hi).clamp(min=0))  # far and near ends of either sign
        return (
            -torch.minimum(steps(down, *above), steps(up, *below)),
            torch.minimum(steps(up, *above), steps(down, *below)),
        )

    def _charge(self, i: int, codes: Tensor, sign: int) -> None:
        tile, lo, hi = self.tile_of[i], self.lo[i], self.hi[i]
        q = codes.to(self.up.dtype)
        if self.offset:
            self.up[tile].sub_(q.abs() * (hi - lo), alpha=sign)
            return
        ends = q * lo, q * hi
        self.up[tile].sub_(torch.maximum(*ends), alpha=sign)
        self.down[tile].add_(torch.minimum(*ends), alpha=sign)


def _steps(side: Tensor, far: int, near: int) -> Tensor:
    """Steps that one side has room for, negative where it is overdrawn; 0 <= near <= far are the ends of a range."""
    steps = (side / far).floor_()
    return torch.where(side < 0, (side / near).floor_(), steps) if near else steps


def _bit_length(values: Tensor) -> Tensor:
    """Of non-negative int64; what is negative counts as zero."""
    bits = torch.zeros_like(values)
    left = values.clamp(min=0)
    for shift in (32, 16, 8, 4, 2, 1):
        big = left >= 1 << shift
        bits += big * shift
        left = torch.where(big, left >> shift, left)
    return bits + (left > 0)
