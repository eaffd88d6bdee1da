"""Proof that a requantizer form equals the exact staircase of the model's own arithmetic, on the whole proven domain.

Both are monotone. If they agree at both ends of the domain and on both sides of every step of the staircase, they agree
between any two steps as well, because each is squeezed between two equal values. So 2 * steps + 2 exact integer
comparisons per channel are a proof, whatever the size of the domain. A chain that turns is compared at every integer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from broadaxe.chain import Affine, Chain, Clamp, Ending, Ints, Quantizer, codes, spread
from broadaxe.errors import ProofError
from broadaxe.ir import WIDEST, constant_array, hull
from broadaxe.ops.forms import Constant, Form, MultiplyShift, Shift, Table, Thresholds, ThresholdSearch
from broadaxe.prove.multiply_shift import dyadic_candidate, multiply_shift_candidate
from broadaxe.staircase import Staircase
from broadaxe.types import Interval

LARGEST_TABLE = 1 << 12
"""Entries of a channel's table; beyond that a table never is the cheapest form."""


@dataclass(frozen=True)
class RequantizerProof:
    """What was checked: exact comparisons made, all of which held."""

    form: str
    comparisons: int


@dataclass(frozen=True, eq=False)
class Examination:
    """The points that decide whether a form is right, with their exact codes, both of shape (channels, points).

    `everywhere`: they are all integers of the domain, and the form may rise and fall.
    """

    points: Ints
    expected: Ints
    comparisons: int
    everywhere: bool = False

    @classmethod
    def of(cls, chain: Chain, quantizer: Ending, stairs: Staircase) -> Examination:
        points = check_points(stairs)
        comparisons = int(2 * stairs.counts.sum() + 2 * len(stairs.domain))
        return cls(points, codes(chain, quantizer, points.astype(object)), comparisons)

    @classmethod
    def whole(cls, rows: Ints, domain: Sequence[Interval]) -> Examination:
        """Of tabulated codes (see `broadaxe.staircase.tabulate`), each channel inside its own domain."""
        lo, hi = (
            np.array([[end] for end in ends], dtype=np.int64)
            for ends in zip(*((d.lo, d.hi) for d in domain), strict=True)
        )
        points = np.clip(np.arange(lo.min(), hi.max() + 1)[None], lo, hi)
        return cls(points, rows, sum(d.span + 1 for d in domain), everywhere=True)

    def prove(self, form: Form) -> RequantizerProof:
        """Check a form at every point; ProofError names the first channel and input that differ."""
        if isinstance(form, Shift | MultiplyShift) and max(form.sum_dtype.width, form.shift) >= WIDEST:
            raise ProofError(
                f"{form.name} requantizer: its sum needs {form.sum_dtype.width} bits; at most {WIDEST - 1} are possible"
            )
        if isinstance(form, Table) and not self.everywhere:  # the one form that is not monotone by construction
            moves = np.diff(form.rows, axis=1)
            turning = np.flatnonzero((moves < 0).any(axis=1) & (moves > 0).any(axis=1))
            if turning.size:
                raise ProofError(
                    f"table requantizer: channel {turning[0]}: its entries rise and fall; tabulate it again"
                )
        got = np.asarray(form.evaluate(self.points.T)).T.astype(np.int64)
        if not np.array_equal(self.expected, got):
            channel, index = (int(v) for v in np.argwhere(self.expected != got)[0])
            raise ProofError(
                f"{form.name} requantizer: channel {channel}, input {self.points[channel, index]}: gives"
                f" {got[channel, index]}, exactly {self.expected[channel, index]}; choose another form"
            )
        return RequantizerProof(form.name, self.comparisons)


def prove(form: Form, chain: Chain, quantizer: Ending, stairs: Staircase) -> RequantizerProof:
    """Check the form against exact evaluation of the chain; ProofError names the first channel and input that differ."""
    return Examination.of(chain, quantizer, stairs).prove(form)


def check_points(stairs: Staircase) -> Ints:
    """Both ends of each channel's domain and both sides of each step, shape (channels, 2 + 2 * levels)."""
    lo = np.array([d.lo for d in stairs.domain], dtype=np.int64)[:, None]
    hi = np.array([d.hi for d in stairs.domain], dtype=np.int64)[:, None]
    inside = stairs.steps <= hi
    at, before = np.where(inside, stairs.steps, hi), np.where(inside, stairs.steps - 1, hi)
    return np.concatenate([lo, hi, before, at], axis=1)


def candidates(chain: Chain, quantizer: Ending, stairs: Staircase) -> list[Form]:
    """Forms that may compute the staircase; each still has to be proven. Thresholds always can be."""
    if not stairs.counts.any():
        return [Constant(constant_array(stairs.first))]
    forms: list[Form] = []
    forms.extend(shift_candidates(chain, quantizer, stairs))
    for found in (multiply_shift_candidate(chain, quantizer, stairs), dyadic_candidate(chain, quantizer, stairs)):
        if found is not None:
            forms.append(found)
    plain = Thresholds.of(stairs)
    forms.append(ThresholdSearch(plain.base, plain.direction, plain.thresholds, plain.domain))
    span = plain.domain.span + 1
    if span <= LARGEST_TABLE:
        x = np.arange(plain.domain.lo, plain.domain.hi + 1)[:, None]
        rows = plain.evaluate(np.broadcast_to(x, (span, len(stairs.domain)))).T
        forms.append(Table(constant_array(rows), plain.domain))
    forms.append(plain)
    return forms


def shift_candidates(chain: Chain, quantizer: Ending, stairs: Staircase) -> list[Shift]:
    """Shifts that the chain's slope and offset suggest; none unless every channel has the same slope 2**-shift.

    With codes = round((x + B) / 2**shift), rounding is a floor after a bias of floor(B + 2**(shift - 1)) wherever no
    integer x meets a tie. Where B is an integer x does, and half to even needs its own rounding.
    """
    affine = chain[0]
    if not isinstance(quantizer, Quantizer) or quantizer.bipolar:
        return []
    if quantizer.rounding not in ("ROUND", "FLOOR", "HALF_UP"):
        return []
    if not isinstance(affine, Affine) or not all(isinstance(step, Clamp) for step in chain[1:]):
        return []
    scale, shift, step, zero = spread(affine.scale, affine.shift, quantizer.scale, quantizer.zero_point)
    slopes = {a / s for a, s in zip(scale, step, strict=True)}
    slope = slopes.pop()
    if slopes or slope.numerator != 1 or slope.denominator & (slope.denominator - 1):
        return []
    offsets = [(b / s + z) / slope for b, s, z in zip(shift, step, zero, strict=True)]
    offsets = offsets * len(stairs.domain) if len(offsets) == 1 else offsets
    if max(abs(o) for o in offsets) >= 1 << (WIDEST - 2):
        return []
    half = Fraction(0) if quantizer.rounding == "FLOOR" else 1 / slope / 2
    bits, codes_, domain = slope.denominator.bit_length() - 1, hull(stairs.codes), hull(stairs.domain)
    floor = constant_array([(o + half).__floor__() for o in offsets])
    forms = [Shift(floor, bits, False, codes_.lo, codes_.hi, domain)]
    if quantizer.rounding == "ROUND" and all(o.denominator == 1 for o in offsets):
        forms.append(Shift(constant_array([int(o) for o in offsets]), bits, True, codes_.lo, codes_.hi, domain))
    return forms
