"""LoadableRequantize: a requantizer whose thresholds are written at run time, so that it can be any monotone staircase.

It reads whatever its input may hold under other weights, and gives any code of its quantizer's range. For each channel it
keeps a base, a direction and one threshold for every step from one code to the next:

    y = base + direction * #{k : x > thresholds[k]}

which is every monotone function from the domain to the codes. Thresholds that a staircase has no use for stand at the
domain's upper end, which nothing exceeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from broadaxe.chain import Affine, Quantizer
from broadaxe.errors import GraphError
from broadaxe.hardware import Resources
from broadaxe.ir import Bounds, Example, IntArray, Lanes, Value, constant_array, hull
from broadaxe.ops import costs
from broadaxe.ops.budget import load_cycles, words
from broadaxe.ops.forms import Thresholds, ThresholdSearch
from broadaxe.ops.memories import SIGNED, builtin, by_lane
from broadaxe.ops.requantize import Requantize
from broadaxe.staircase import Staircase, staircase
from broadaxe.types import Interval, IntType


@dataclass(frozen=True, eq=False)
class LoadableRequantize(Requantize):
    """y = quantizer(chain(x)) for any monotone chain; the present one is what its thresholds hold at first."""

    kind = "loadable_requantize"
    loadable = True

    @classmethod
    def of(cls, op: Requantize, stairs: Staircase, search: bool) -> LoadableRequantize:
        """`op` by its exact staircase on its domain, in memories for as many thresholds as there are steps between codes."""
        found, end = Thresholds.of(stairs), hull(stairs.domain)
        rows = np.full((len(stairs.domain), op.quantizer.hi - op.quantizer.lo), end.hi, dtype=np.int64)
        rows[:, : found.levels] = found.thresholds
        form = (ThresholdSearch if search else Thresholds)(found.base, found.direction, constant_array(rows), end)
        return cls(op.chain, op.quantizer, form)

    @property
    def thresholds(self) -> Thresholds:
        form = self.chosen()
        if not isinstance(form, Thresholds):
            raise GraphError(f"{self.kind}: its form is {form.name}; only thresholds can be loaded")
        return form

    def bounds(self, *inputs: Value) -> Bounds:
        return (self.codes_of_any,) * inputs[0].channels

    def template_context(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Mapping[str, Any]:
        """As with fixed thresholds, but that the types of memories do not depend on what they hold."""
        form, codes = self.thresholds, self.bounds(*inputs)[0]
        return {
            **super().template_context(inputs, output, lanes),
            "threshold_type": builtin(min(-1, form.domain.lo), max(0, form.domain.hi)),
            "base_type": builtin(codes.lo, codes.hi),
            "direction": by_lane(form.direction, lanes.read),
        }

    def stages(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> int:
        form = self.thresholds
        memories = 2 + (form.depth if isinstance(form, ThresholdSearch) else 1)
        return super().stages(inputs, output, lanes) + load_cycles(memories)

    def parameters(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> IntArray:
        """Base, direction and thresholds, those of a search stage by stage; each memory in the order of its dimensions."""
        context = self.template_context(inputs, output, lanes)
        rows = context["stages"] if "stages" in context else [context["thresholds"]]
        return words(context["base"], context["direction"], *rows)

    def resources(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Resources:
        """The form with its constants, and the memories that are written in their place: a little too much."""
        form, groups = self.thresholds, output.channels // lanes.read
        size = next(size for size, _ in SIGNED if form.domain.signed_dtype.width <= size)
        if isinstance(form, ThresholdSearch):
            rows = [costs.placed(size, groups << stage) for stage in range(form.depth)]
        else:
            rows = [costs.placed(size, groups)] * form.levels
        ends = costs.placed(8, groups) + costs.placed(8, groups)  # base and direction
        return super().resources(inputs, output, lanes) + costs.times(sum(rows, ends), lanes.read)

    @classmethod
    def examples(cls) -> Iterable[Example]:
        x = Value("x", (2, 4), IntType(8, signed=True), (Interval(-128, 127),) * 4)
        third, zero = Fraction(1, 3), (Fraction(0),)
        gains = (Affine((third, -third, Fraction(7, 5), Fraction(-1)), (Fraction(1), Fraction(-2), third, zero[0])),)
        for label, quantizer in (
            ("unsigned", Quantizer((Fraction(3, 2),), zero, 0, 15)),
            ("narrow", Quantizer((Fraction(4),), zero, -7, 7)),
        ):
            for search in (False, True):
                op = cls.of(Requantize(gains, quantizer), staircase(gains, quantizer, x.bounds), search)
                yield Example(f"{label}, {op.chosen().name}", op, (x,))
