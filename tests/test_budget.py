"""Accumulator budgets against brute force in Python integers: sums, widths, projections, and what is left of a budget."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
import torch

from broadaxe.quantization import signs
from broadaxe.quantization.budget import EXACT, Budget, Room
from broadaxe.quantization.signs import balanced_signs

RANGES = {
    "unsigned": (0, 7),
    "signed": (-4, 3),
    "symmetric": (-3, 3),
    "without zero": (3, 6),
    "below zero": (-9, -2),
    "one point": (5, 5),
    "nothing": (0, 0),
    "up to zero": (-7, 0),
}
KINDS = [("offset", False), ("signed", False), ("signed", True)]
kinds = pytest.mark.parametrize(("kind", "symmetric"), KINDS, ids=["offset", "signed", "published"])


REACH = 15
"""Integers tried on both sides of zero."""


def budget_of(bits, lo, hi, kind="offset", tile=None, symmetric=False):
    return Budget(bits, torch.tensor(lo), torch.tensor(hi), kind, tile, symmetric)


def mixed(rng, inputs):
    """A range for each input, of any kind."""
    return zip(*(rng.choice(list(RANGES.values())) for _ in range(inputs)), strict=True)


def runs(sequence, tile):
    tile = tile or len(sequence)
    return [sequence[at : at + tile] for at in range(0, len(sequence), tile)]


def corners(row, lo, hi, tile):
    """Largest and least sum of each tile, over every corner of its inputs' box."""
    out = []
    for q, a, b in zip(runs(row, tile), runs(lo, tile), runs(hi, tile), strict=True):
        sums = [sum(w * x for w, x in zip(q, xs, strict=True)) for xs in itertools.product(*zip(a, b, strict=True))]
        out.append((max(sums), min(sums)))
    return out


def fits(ends, bits, kind, symmetric):
    high, low = ends
    if kind == "offset":
        return high - low <= 2**bits - 1
    return high <= 2 ** (bits - 1) - 1 and low >= -(2 ** (bits - 1)) + symmetric


def projected(v, r, radius):
    """The threshold t with sum r * max(|v| - t * r, 0) = radius, by bisection; 0 where v fits as it is."""

    def norm(t):
        return sum(b * max(abs(a) - t * b, 0.0) for a, b in zip(v, r, strict=True))

    low, high = 0.0, max((abs(a) / b for a, b in zip(v, r, strict=True) if b), default=0.0)
    if norm(0.0) <= radius:
        return 0.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if norm(middle) > radius else (low, middle)
    return high


@kinds
@pytest.mark.parametrize("tile", [None, 2, 3, 4, 9])
def test_sums_widths_and_verdicts_are_those_of_all_corners(kind, symmetric, tile):
    rng = random.Random(f"{kind} {symmetric} {tile}")
    seen = set()
    for _ in range(40):
        inputs = rng.randint(1, 6)
        lo, hi = map(list, mixed(rng, inputs))
        row = [rng.choice([0, rng.randint(-8, 8)]) for _ in range(inputs)]
        ends = corners(row, lo, hi, tile)
        width = next(b for b in range(1, 64) if all(fits(e, b, kind, symmetric) for e in ends))
        codes = torch.tensor([row])
        high, low = budget_of(8, lo, hi, kind, tile, symmetric).sums(codes)
        assert list(zip(high[0].tolist(), low[0].tolist(), strict=True)) == ends
        for bits in range(1, 11):
            budget = budget_of(bits, lo, hi, kind, tile, symmetric)
            assert budget.tiles == len(ends)
            assert int(budget.width(codes)) == width
            assert bool(budget.holds(codes)) == (bits >= width)
        seen.add(width)
    assert len(seen) > 4


@kinds
def test_edges_of_a_budget(kind, symmetric):
    """The last row that fits and the first that does not, one apart."""
    for bits in (1, 2, 3, 8, 31, 48):
        cap = 2**bits - 1 if kind == "offset" else 2 ** (bits - 1) - 1
        budget = budget_of(bits, [0], [1], kind, None, symmetric)
        assert budget.holds(torch.tensor([[cap], [cap + 1]])).tolist() == [True, False]
        low = -cap if kind == "offset" or symmetric else -cap - 1
        assert budget.holds(torch.tensor([[low], [low - 1]])).tolist() == [True, False]
        assert budget.width(torch.tensor([[cap], [cap + 1], [low - 1]])).tolist() == [bits, bits + 1, bits + 1]


def test_sums_that_int64_may_not_hold_are_refused():
    budget = budget_of(8, [0, 0], [1 << 40, 1 << 40])
    assert int(budget.sums(torch.tensor([[1 << 21, 0]]))[0]) == 1 << 61
    message = f"sums of 2 products of up to {1 << 62} do not fit 64 bits"
    with pytest.raises(OverflowError, match=f"^{message}$"):
        budget.sums(torch.tensor([[1 << 22, 0]]))


@kinds
@pytest.mark.parametrize("tile", [None, 3, 4])
def test_thresholds_project_onto_the_budgets_radius(kind, symmetric, tile):
    generator = torch.Generator().manual_seed(0)
    rng = random.Random(0)
    shrunk = 0
    for trial in range(30):
        inputs, bits = rng.randint(1, 11), rng.randint(1, 8)
        lo, hi = map(list, mixed(rng, inputs))
        budget = budget_of(bits, lo, hi, kind, tile, symmetric)
        radius = 2**bits - 1 if kind == "offset" else 2**bits - 1 - symmetric
        rows = torch.randn(inputs, 3, generator=generator, dtype=torch.float64) * 10.0 ** (trial % 3 - 1)
        rows[rng.randrange(inputs)] = rows[0]  # ties
        found = budget.thresholds(rows)
        for n in range(3):
            parts = zip(runs(rows[:, n].tolist(), tile), runs(lo, tile), runs(hi, tile), strict=True)
            for t, (v, a, b) in enumerate(parts):
                used = [(x, end - start) for x, start, end in zip(v, a, b, strict=True) if end > start]
                mean = sum(x for x, _ in used) / len(used) if kind == "signed" and used else 0.0
                expected = projected([x - mean for x, _ in used], [r for _, r in used], radius)
                assert float(found[t, n]) == pytest.approx(expected, rel=1e-9, abs=1e-12)
                shrunk += expected > 0
    assert shrunk > 30


@kinds
@pytest.mark.parametrize("resting", [False, True], ids=["from zero", "from codes"])
@pytest.mark.parametrize("own", [False, True], ids=["shared ranges", "ranges by row"])
def test_room_allows_exactly_what_fits(kind, symmetric, resting, own):
    """Limits are the integers that keep the row within the budget while inputs not yet taken stay at rest: no more, no less."""
    rng = random.Random(f"{kind} {symmetric} {resting}")
    bound = moved = 0
    for _ in range(100):
        inputs, bits, tile = rng.randint(1, 5), rng.randint(1, 9), rng.choice([None, 2, 4])
        lo, hi = map(list, mixed(rng, inputs))
        budget = budget_of(bits, lo, hi, kind, tile, symmetric)
        row = [rng.randint(-6, 6) for _ in range(inputs)] if resting else [0] * inputs
        if not bool(budget.holds(torch.tensor([row]))):
            continue
        rest = torch.tensor(row)[:, None] if resting else None
        ranges = replace(budget, lo=budget.lo[None], hi=budget.hi[None]) if own else budget
        room = Room.of(ranges, 1, torch.zeros(1), rest)
        for i in rng.sample(range(inputs), inputs):
            tried = []
            for q in range(-REACH, REACH + 1):
                changed = [*row[:i], q, *row[i + 1 :]]
                if all(fits(e, bits, kind, symmetric) for e in corners(changed, lo, hi, tile)):
                    tried.append(q)
            room.free(i)
            limits = room.limits(i)
            if limits is None:
                assert tried == list(range(-REACH, REACH + 1))
                low, high = -REACH, REACH
            else:
                low, high = (int(side.clamp(-1e6, 1e6)) for side in limits)
                assert tried == [q for q in range(-REACH, REACH + 1) if low <= q <= high]
                bound += high < REACH
            row[i] = rng.choice([max(low, -REACH), min(high, REACH), rng.randint(max(low, -REACH), min(high, REACH))])
            moved += row[i] != 0
            room.take(i, torch.tensor([row[i]]))
        assert bool(budget.holds(torch.tensor([row])))
    assert bound > 40
    assert moved > 40


def test_room_counts_exactly_up_to_its_limit():
    room = Room(budget_of(52, [0, 0], [3, 1]), 1, torch.zeros(1))
    cap = EXACT - 1
    assert int(room.limits(0)[1]) == cap // 3
    room.take(0, torch.tensor([float(cap // 3 - 1)], dtype=torch.float64))
    assert int(room.limits(1)[1]) == cap - 3 * (cap // 3 - 1)
    with pytest.raises(ValueError, match=r"^accumulators of 53 bits need no budget$"):
        Room(budget_of(53, [0], [1]), 1, torch.zeros(1))


@kinds
def test_no_row_of_signs_needs_fewer_bits_than_the_budgets_own(kind, symmetric):
    rng = random.Random(3)
    for _ in range(120):
        inputs, tile = rng.randint(1, 8), rng.choice([None, 3])
        lo = [rng.randint(-9, 9) for _ in range(inputs)]
        hi = [a + rng.choice([0, rng.randint(0, 9)]) for a in lo]
        budget = budget_of(1, lo, hi, kind, tile, symmetric)
        every = torch.tensor(list(itertools.product((-1, 1), repeat=inputs)))
        assert set(budget.signs.tolist()) <= {-1, 1}
        assert int(budget.width(budget.signs[None])) == int(budget.width(every).min())


def test_balanced_signs_come_nearest_to_zero_from_below():
    rng = random.Random(0)
    for _ in range(150):
        centres = [rng.choice([0, 6, -6, rng.randint(-30, 30)]) for _ in range(rng.randint(1, 9))]
        every = itertools.product((-1, 1), repeat=len(centres))
        best = max(s for s in (sum(e * c for e, c in zip(row, centres, strict=True)) for row in every) if s <= 0)
        row = balanced_signs(centres)
        assert set(row) <= {-1, 1}
        assert sum(e * c for e, c in zip(row, centres, strict=True)) == best


def test_signs_of_a_large_layer_are_walked(monkeypatch):
    """Without tables, largest first: what is left is at most the largest centre."""
    centres = [random.Random(i).randint(-4000, 4000) for i in range(101)]
    exact = balanced_signs(centres)
    assert abs(sum(e * c for e, c in zip(exact, centres, strict=True))) == sum(centres) % 2
    monkeypatch.setattr(signs, "TABLE_BITS", 1000)
    walked = balanced_signs(centres)
    assert walked != exact
    assert set(walked) == {-1, 1}
    assert abs(sum(e * c for e, c in zip(walked, centres, strict=True))) <= max(map(abs, centres))
