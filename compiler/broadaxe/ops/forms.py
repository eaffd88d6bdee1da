"""Forms of a requantizer: the ways hardware can compute an integer staircase. Each is monotone in its input by construction.

That matters for proofs: a monotone form that agrees with a monotone staircase on both sides of every step and at both
ends of the domain agrees everywhere (`broadaxe.prove.requantizers`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from broadaxe.chain import Ints
from broadaxe.ir import IntArray, OnnxBuilder, carrier, constant_array
from broadaxe.ops.memories import builtin, by_lane, fitting
from broadaxe.staircase import Staircase
from broadaxe.types import Interval, IntType

TABLE_ENTRIES = 1 << 22


class Form(ABC):
    """A way to compute an integer staircase of each channel."""

    name: ClassVar[str]

    @abstractmethod
    def evaluate(self, x: IntArray) -> IntArray:
        """Codes of accumulators x, channels on the last axis."""

    @abstractmethod
    def render(self, builder: OnnxBuilder, x: str) -> str:
        """The same in standard ONNX on float tensors that hold integers."""

    @abstractmethod
    def template_context(self, lanes: int) -> Mapping[str, Any]:
        """What the template of the form needs; channel group * lanes + i has its constants at [i][group]."""


@dataclass(frozen=True, eq=False)
class Constant(Form):
    """y = values[c], whatever the input."""

    name = "constant"
    values: Ints

    def evaluate(self, x: IntArray) -> IntArray:
        return np.array(np.broadcast_to(self.values, x.shape))

    def template_context(self, lanes: int) -> Mapping[str, Any]:
        return {"values": by_lane(self.values, lanes), "value_type": fitting(self.values)}

    def render(self, builder: OnnxBuilder, x: str) -> str:
        kind = builder.kind(x)
        zero = builder.node("Mul", x, builder.constant(np.zeros(1, dtype=kind)))
        return builder.node("Add", zero, builder.constant(self.values.astype(kind)))


@dataclass(frozen=True, eq=False)
class Thresholds(Form):
    """y = base[c] + direction[c] * #{k : x > thresholds[c, k]} for x in domain.

    Attributes:
        base, direction: shape (channels,); direction is +1 or -1.
        thresholds: sorted along the second axis, shape (channels, levels); domain.hi where a channel has fewer levels.
        domain: the hull of the proven input bounds.
    """

    name = "thresholds"
    base: Ints
    direction: Ints
    thresholds: Ints
    domain: Interval

    @classmethod
    def of(cls, stairs: Staircase) -> Thresholds:
        domain = stairs.domain[0]
        for interval in stairs.domain[1:]:
            domain = domain | interval
        ends = np.array([d.hi for d in stairs.domain], dtype=np.int64)[:, None]
        thresholds = np.where(stairs.steps <= ends, stairs.steps - 1, domain.hi)
        return cls(constant_array(stairs.first), constant_array(stairs.direction), constant_array(thresholds), domain)

    @property
    def levels(self) -> int:
        return int(self.thresholds.shape[1])

    @cached_property
    def codes(self) -> Interval:
        """The hull of what comes out."""
        last = self.base + self.direction * self.levels
        return Interval(int(min(self.base.min(), last.min())), int(max(self.base.max(), last.max())))

    def evaluate(self, x: IntArray) -> IntArray:
        if self._table is not None:
            table, offsets = self._table
            return np.asarray(table.take(x + offsets))
        out = np.empty(x.shape, dtype=carrier(self.codes.dtype))
        for c, (base, sign, row) in enumerate(zip(self.base, self.direction, self.thresholds, strict=True)):
            out[..., c] = base + sign * np.searchsorted(row, x[..., c], side="left")
        return out

    @cached_property
    def _table(self) -> tuple[IntArray, IntArray] | None:
        """All codes of all channels in one row, and what to add to x to find its own; None where that is too large."""
        span, channels = self.domain.span + 1, len(self.base)
        if span * channels > TABLE_ENTRIES:
            return None
        x = np.arange(self.domain.lo, self.domain.hi + 1)
        table = np.empty((channels, span), dtype=carrier(self.codes.dtype))
        for c, (base, sign, row) in enumerate(zip(self.base, self.direction, self.thresholds, strict=True)):
            table[c] = base + sign * np.searchsorted(row, x, side="left")
        return table.reshape(-1), np.arange(channels) * span - self.domain.lo

    def template_context(self, lanes: int) -> Mapping[str, Any]:
        rising = bool((self.direction > 0).all())
        return {
            "levels": self.levels,
            "thresholds": self.thresholds.reshape(-1, lanes, self.levels).transpose(1, 0, 2).tolist(),
            "threshold_type": builtin(min(-1, int(self.thresholds.min())), int(self.thresholds.max())),
            "base": by_lane(self.base, lanes),
            "base_type": fitting(self.base),
            "direction": None if rising else by_lane(self.direction, lanes),
        }

    def render(self, builder: OnnxBuilder, x: str) -> str:
        """Binary search per element: the position among 2**m - 1 thresholds, m comparisons."""
        kind = builder.kind(x)
        depth = self.levels.bit_length()
        width = (1 << depth) - 1
        padded = np.full((len(self.base), width), self.domain.hi, dtype=np.int64)
        padded[:, : self.levels] = self.thresholds
        flat = builder.constant(padded.reshape(-1).astype(kind))
        zero = builder.cast(builder.node("Mul", x, builder.constant(np.zeros(1, dtype=kind))), np.int64)
        position = builder.node("Add", zero, builder.constant(np.arange(len(self.base), dtype=np.int64) * width))
        count = zero
        for bit in reversed(range(depth)):
            step = builder.constant(np.array([1 << bit], dtype=np.int64))
            probe = builder.node("Add", position, builder.constant(np.array([(1 << bit) - 1], dtype=np.int64)))
            above = builder.cast(builder.node("Greater", x, builder.node("Gather", flat, probe, axis=0)), np.int64)
            move = builder.node("Mul", above, step)
            position, count = builder.node("Add", position, move), builder.node("Add", count, move)
        signed = builder.node("Mul", count, builder.constant(self.direction.astype(np.int64)))
        return builder.node("Add", signed, builder.constant(self.base.astype(np.int64)))


@dataclass(frozen=True, eq=False)
class Shift(Form):
    """y = clamp(t >> shift) with t = x + bias[c], rounded down or half to even, clamped before it is narrowed.

    Half to even: (t + 2**(shift - 1) - 1 + ((t >> shift) & 1)) >> shift; the bias then holds no half of its own.
    """

    name = "shift"
    bias: Ints
    shift: int
    half_even: bool
    lo: int
    hi: int
    domain: Interval

    @property
    def sum_dtype(self) -> IntType:
        """A signed type that holds t, and t + 2**(shift - 1)."""
        t = self.domain + Interval(int(self.bias.min()), int(self.bias.max()))
        return (t | (t + (1 << self.shift))).signed_dtype

    def evaluate(self, x: IntArray) -> IntArray:
        t = x.astype(np.int64) + self.bias
        if self.half_even and self.shift:
            t = t + ((1 << (self.shift - 1)) - 1) + ((t >> self.shift) & 1)
        return np.asarray(np.clip(t >> self.shift, self.lo, self.hi))

    def template_context(self, lanes: int) -> Mapping[str, Any]:
        return {
            "sum_type": str(self.sum_dtype),
            "shift": self.shift,
            "lo": self.lo,
            "hi": self.hi,
            "half_even": self.half_even,
            "bias": by_lane(self.bias, lanes),
            "bias_type": fitting(self.bias),
        }

    def render(self, builder: OnnxBuilder, x: str) -> str:
        kind = np.float32 if self.sum_dtype.width <= 24 else np.float64
        t = builder.node("Add", builder.cast(x, kind), builder.constant(self.bias.astype(kind)))
        scaled = builder.node("Mul", t, builder.constant(np.array([2.0**-self.shift], dtype=kind)))
        rounded = builder.node("Round" if self.half_even else "Floor", scaled)
        low = builder.constant(np.array(self.lo, dtype=kind))
        high = builder.constant(np.array(self.hi, dtype=kind))
        return builder.node("Min", builder.node("Max", rounded, low), high)
