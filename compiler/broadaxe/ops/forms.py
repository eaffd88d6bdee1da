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
from broadaxe.hardware import Resources
from broadaxe.ir import IntArray, OnnxBuilder, carrier, constant_array
from broadaxe.ops import costs
from broadaxe.ops.memories import builtin, by_lane, fitting
from broadaxe.staircase import Staircase
from broadaxe.types import Interval, IntType

TABLE_ENTRIES = 1 << 22
ROM_BITS_PER_LUT = 64
"""A six-input LUT as memory: 64 x 1 bit."""
DSP_IN_LUTS = 128
"""What a DSP slice is worth: about the LUTs a part has per slice (ZU9EG: 274,080 / 2,520 = 109)."""


def _ends(integers: Ints) -> tuple[int, int]:
    """The least and the largest; 0 and 0 where there are none."""
    return (int(integers.min()), int(integers.max())) if integers.size else (0, 0)


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
    def luts(self, width: int, lanes: int) -> float:
        """Model: LUTs of a kernel that reads accumulators of `width` bits in `lanes` lanes, constants included.

        A comparator or adder takes one LUT a bit, a multiplier the product of its widths or the worth of its DSP slices, a
        memory one LUT for 64 bits. Good for comparing forms with each other, not for sizing a part.
        """

    @abstractmethod
    def resources(self, width: int, code: int, lanes: int) -> Resources:
        """Model: what a kernel takes that reads `width` bits and writes `code` bits in `lanes` lanes, its counters apart."""

    def parameters(self) -> Mapping[str, int]:
        """Its sizes, for people: none where the name says all."""
        return {}

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

    def resources(self, width: int, code: int, lanes: int) -> Resources:
        return costs.times(constants(self.values, lanes, code) + costs.registers(code), lanes)

    def template_context(self, lanes: int) -> Mapping[str, Any]:
        return {"values": by_lane(self.values, lanes), "value_type": fitting(self.values)}

    def luts(self, width: int, lanes: int) -> float:
        return self.values.size * fitting_bits(self.values) / ROM_BITS_PER_LUT

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

    def parameters(self) -> Mapping[str, int]:
        return {"levels": self.levels + 1, "threshold_bits": Interval(*_ends(self.thresholds)).signed_dtype.width}

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

    def luts(self, width: int, lanes: int) -> float:
        return lanes * self.levels * width + self.thresholds.size * width / ROM_BITS_PER_LUT

    def resources(self, width: int, code: int, lanes: int) -> Resources:
        """All comparisons at once; the thresholds of a lane with one channel are constants."""
        channels = len(self.thresholds) // lanes
        lane = costs.thresholds(self.levels, width, code, channels == 1) + self._codes_resources(code, lanes)
        return costs.times(lane, lanes) + costs.parallel_memories(lanes, self.levels, width, channels)

    def _codes_resources(self, code: int, lanes: int) -> Resources:
        """The first code, and the direction where channels fall."""
        first = constants(self.base, lanes, code) + Resources(lut=code if self.base.any() else 0)
        falling = bool((self.direction < 0).any())
        return first + constants(self.direction, lanes, 1) + Resources(lut=code if falling else 0)

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

    def parameters(self) -> Mapping[str, int]:
        return {"shift": self.shift, "sum_bits": self.sum_dtype.width}

    def evaluate(self, x: IntArray) -> IntArray:
        t = x.astype(np.int64) + self.bias
        if self.half_even and self.shift:
            t = t + ((1 << (self.shift - 1)) - 1) + ((t >> self.shift) & 1)
        return np.asarray(np.clip(t >> self.shift, self.lo, self.hi))

    def luts(self, width: int, lanes: int) -> float:
        memory = self.bias.size * fitting_bits(self.bias) / ROM_BITS_PER_LUT
        return lanes * (self.sum_dtype.width + 2 * clamp_bits(self.lo, self.hi)) + memory

    def resources(self, width: int, code: int, lanes: int) -> Resources:
        wide = self.sum_dtype.width
        lane = constants(self.bias, lanes, wide) + costs.scaled_sum(width, 0, wide if self.bias.any() else 0)
        return costs.times(lane + costs.rounding_shift(wide, self.shift, self.half_even, code), lanes)

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
        if self.sum_dtype.width > 53:
            t = builder.node("Add", builder.cast(x, np.int64), builder.constant(self.bias.astype(np.int64)))
            return _shifted(builder, t, self)
        kind = np.float32 if self.sum_dtype.width <= 24 else np.float64
        t = builder.node("Add", builder.cast(x, kind), builder.constant(self.bias.astype(kind)))
        scaled = builder.node("Mul", t, builder.constant(np.array([2.0**-self.shift], dtype=kind)))
        rounded = builder.node("Round" if self.half_even else "Floor", scaled)
        low = builder.constant(np.array(self.lo, dtype=kind))
        high = builder.constant(np.array(self.hi, dtype=kind))
        return builder.node("Min", builder.node("Max", rounded, low), high)


@dataclass(frozen=True, eq=False)
class ThresholdSearch(Thresholds):
    """The same function as `Thresholds`, by binary search in sorted memories: one comparison a pipeline stage."""

    name = "threshold-search"

    @property
    def depth(self) -> int:
        """Stages: the search tells 2**depth positions apart."""
        return max(1, self.levels.bit_length())

    def luts(self, width: int, lanes: int) -> float:
        return lanes * self.depth * (width + 2) + self.thresholds.size * width / ROM_BITS_PER_LUT

    def resources(self, width: int, code: int, lanes: int) -> Resources:
        lane = costs.threshold_search(self.depth, width, len(self.thresholds) // lanes)
        return costs.times(lane + self._codes_resources(code, lanes), lanes)

    def template_context(self, lanes: int) -> Mapping[str, Any]:
        """Stage d holds, in order, the 2**d thresholds at odd multiples of 2**(depth - 1 - d), counted from 1.

        Rows are padded to 2**depth - 1 thresholds with the domain's maximum, which no accumulator exceeds.
        """
        padded = np.full((len(self.base), (1 << self.depth) - 1), self.domain.hi, dtype=np.int64)
        padded[:, : self.levels] = self.thresholds
        rising = bool((self.direction > 0).all())
        rows = padded.reshape(-1, lanes, padded.shape[1]).transpose(1, 0, 2)
        spans = [1 << (self.depth - 1 - d) for d in range(self.depth)]
        return {
            "depth": self.depth,
            "levels": self.levels,
            "stages": [rows[:, :, span - 1 :: 2 * span].tolist() for span in spans],
            "threshold_type": builtin(min(-1, int(padded.min())), int(padded.max())),
            "base": by_lane(self.base, lanes),
            "base_type": fitting(self.base),
            "direction": None if rising else by_lane(self.direction, lanes),
        }


@dataclass(frozen=True, eq=False)
class MultiplyShift(Form):
    """y = clamp(t >> shift) with t = factor[c] * x + bias[c], rounded down or half to even, clamped before it is narrowed.

    factor[c] is negative where the channel falls. Half to even as in `Shift`.
    """

    name = "multiply-shift"
    factor: Ints
    bias: Ints
    shift: int
    half_even: bool
    lo: int
    hi: int
    domain: Interval

    @property
    def factor_dtype(self) -> IntType:
        return Interval(int(self.factor.min()), int(self.factor.max())).signed_dtype

    @cached_property
    def sum_dtype(self) -> IntType:
        """A signed type that holds t, and t + 2**shift, in every channel."""
        hull: Interval | None = None
        for factor, bias in zip(self.factor.tolist(), self.bias.tolist(), strict=True):
            t = self.domain * factor + bias
            hull = t if hull is None else hull | t
        assert hull is not None
        return (hull | (hull + (1 << self.shift))).signed_dtype

    def parameters(self) -> Mapping[str, int]:
        bits = {"multiplier_bits": self.factor_dtype.width, "sum_bits": self.sum_dtype.width}
        return {**bits, "shift": self.shift}

    def evaluate(self, x: IntArray) -> IntArray:
        t = x.astype(np.int64) * self.factor + self.bias
        if self.half_even and self.shift:
            t = t + ((1 << (self.shift - 1)) - 1) + ((t >> self.shift) & 1)
        return np.asarray(np.clip(t >> self.shift, self.lo, self.hi))

    def luts(self, width: int, lanes: int) -> float:
        bits = self.factor_dtype.width
        product = min(bits * width, DSP_IN_LUTS * -(-bits // 18) * -(-width // 25))
        memory = len(self.factor) * (bits + fitting_bits(self.bias)) / ROM_BITS_PER_LUT
        return lanes * (product + self.sum_dtype.width + 2 * clamp_bits(self.lo, self.hi)) + memory

    def resources(self, width: int, code: int, lanes: int) -> Resources:
        wide, factor = self.sum_dtype.width, self.factor_dtype.width
        if self.factor.min() == self.factor.max():
            product = Resources(lut=costs.constant_multiplier(width, int(self.factor[0])))
        else:
            product = costs.unbound_product(width, factor) + constants(self.factor, lanes, factor)
        lane = product + constants(self.bias, lanes, wide) + costs.scaled_sum(width, factor, wide)
        return costs.times(lane + costs.rounding_shift(wide, self.shift, self.half_even, code), lanes)

    def template_context(self, lanes: int) -> Mapping[str, Any]:
        return {
            "factor": by_lane(self.factor, lanes),
            "factor_type": str(self.factor_dtype),
            "factor_memory": fitting(self.factor),
            "sum_type": str(self.sum_dtype),
            "shift": self.shift,
            "lo": self.lo,
            "hi": self.hi,
            "half_even": self.half_even,
            "bias": by_lane(self.bias, lanes),
            "bias_type": fitting(self.bias),
        }

    def render(self, builder: OnnxBuilder, x: str) -> str:
        """In int64: the product may pass 53 bits. A floor division by 2**shift is exact on the part above the remainder."""
        wide = builder.cast(x, np.int64)
        product = builder.node("Mul", wide, builder.constant(self.factor.astype(np.int64)))
        t = builder.node("Add", product, builder.constant(self.bias.astype(np.int64)))
        return _shifted(builder, t, self)


def _shifted(builder: OnnxBuilder, t: str, form: Shift | MultiplyShift) -> str:
    """The rounding shift and the clamp of a form, on int64."""
    if form.half_even and form.shift:
        odd = builder.node("Sub", _floor_shift(builder, t, form.shift), _twice_half(builder, t, form.shift))
        half = builder.constant(np.array((1 << (form.shift - 1)) - 1, dtype=np.int64))
        t = builder.node("Add", builder.node("Add", t, half), odd)
    q = _floor_shift(builder, t, form.shift)
    low = builder.constant(np.array(form.lo, dtype=np.int64))
    high = builder.constant(np.array(form.hi, dtype=np.int64))
    return builder.node("Min", builder.node("Max", q, low), high)


def _floor_shift(builder: OnnxBuilder, t: str, shift: int) -> str:
    """floor(t / 2**shift) on int64: subtract the remainder of the divisor's sign, then divide exactly."""
    divisor = builder.constant(np.array(1 << shift, dtype=np.int64))
    rest = builder.node("Mod", t, divisor)
    return builder.node("Div", builder.node("Sub", t, rest), divisor)


def _twice_half(builder: OnnxBuilder, t: str, shift: int) -> str:
    """2 * floor(floor(t / 2**shift) / 2): what is left of the quotient without its lowest bit."""
    half = _floor_shift(builder, t, shift + 1)
    return builder.node("Mul", half, builder.constant(np.array(2, dtype=np.int64)))


@dataclass(frozen=True, eq=False)
class Table(Form):
    """y = rows[c, x - domain.lo]: a memory over a small domain."""

    name = "table"
    rows: Ints
    domain: Interval

    def parameters(self) -> Mapping[str, int]:
        return {"entries": int(self.rows.shape[1])}

    def evaluate(self, x: IntArray) -> IntArray:
        channels, span = self.rows.shape
        return np.asarray(self.rows.reshape(-1).take(x + (np.arange(channels) * span - self.domain.lo)))

    def luts(self, width: int, lanes: int) -> float:
        return (
            lanes * width + self.rows.size * clamp_bits(int(self.rows.min()), int(self.rows.max())) / ROM_BITS_PER_LUT
        )

    def resources(self, width: int, code: int, lanes: int) -> Resources:
        entries = self.rows.shape[1] * (len(self.rows) // lanes)
        lane = costs.placed(code, entries, rom=True) + Resources(width if self.domain.lo else 0, width + code)
        return costs.times(lane, lanes)

    def template_context(self, lanes: int) -> Mapping[str, Any]:
        span = self.rows.shape[1]
        return {
            "rows": self.rows.reshape(-1, lanes, span).transpose(1, 0, 2).tolist(),
            "span": span,
            "lowest": self.domain.lo,
            "row_type": fitting(self.rows),
        }

    def render(self, builder: OnnxBuilder, x: str) -> str:
        channels, span = self.rows.shape
        offsets = builder.constant(np.arange(channels, dtype=np.int64) * span - self.domain.lo)
        index = builder.node("Add", builder.cast(x, np.int64), offsets)
        return builder.node("Gather", builder.constant(self.rows.reshape(-1).astype(np.int64)), index, axis=0)


def constants(values: Ints, lanes: int, width: int) -> Resources:
    """Model: the memory of one lane that holds a constant for each channel; none where all are alike."""
    if int(values.min()) == int(values.max()):
        return Resources()
    return costs.placed(min(width, fitting_bits(values)), len(values) // lanes, rom=True)


def clamp_bits(lo: int, hi: int) -> int:
    """Bits of a code between lo and hi."""
    return Interval(lo, hi).dtype.width


def fitting_bits(values: IntArray) -> int:
    """Bits of the narrowest signed type that holds every element."""
    return Interval(int(values.min()), int(values.max())).signed_dtype.width
