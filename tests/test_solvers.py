"""Solvers against naive definitions in float64, and the guarantee: integers within the budget, whatever the layer."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from broadaxe.errors import BudgetError, ProofError, RequestError
from broadaxe.quantization import solve as solving
from broadaxe.quantization.budget import Budget
from broadaxe.quantization.descent import descend
from broadaxe.quantization.gpfq import gpfq
from broadaxe.quantization.grid import WeightGrid, allowed, max_abs_steps, mse_steps
from broadaxe.quantization.matrices import Matrices
from broadaxe.quantization.moments import Moments, MomentSum
from broadaxe.quantization.optq import Factor, optq
from broadaxe.quantization.recipe import PRESETS, Recipe
from broadaxe.quantization.rounding import round_rows
from broadaxe.quantization.solve import Loss, corrected, solve

GRID = WeightGrid(4)
BUDGETS = {
    "none": None,
    "offset": ("offset", 11, None, False),
    "tiles": ("signed", 9, 24, False),
    "published": ("signed", 11, None, True),
}
budgets = pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def samples(seed, count, inputs):
    """Inputs of the float and of the quantized network: correlated, of different powers, not negative."""
    x = (normal(seed, count, inputs) @ normal(seed + 1, inputs, inputs) / inputs**0.5).relu()
    x = x * torch.linspace(0.3, 2, inputs, dtype=torch.float64)
    return x, (x * 8).round() / 8 + 0.02 * normal(seed + 2, count, inputs)


def budget_of(spec, inputs, seed=0):
    """Ranges of every sort, one of them a single point."""
    if spec is None:
        return None
    kind, bits, tile, symmetric = spec
    rng = random.Random(seed)
    ends = [rng.choice([(0, 15), (-8, 7), (0, 7), (2, 9), (-5, -1)]) for _ in range(inputs)]
    ends[inputs // 2] = (3, 3)
    return Budget(bits, *(torch.tensor(e) for e in zip(*ends, strict=True)), kind, tile, symmetric)


# naive definitions


class Naive:
    """Rounds one weight of a row at a time: shrink by the tile's threshold, clip to what fits, nearest integer."""

    def __init__(self, row, grid, budget, soft):
        self.grid, self.budget = grid, budget
        self.codes = [0] * len(row)
        if budget is None:
            return
        self.lo, self.hi = budget.lo.tolist(), budget.hi.tolist()
        self.tile = budget.tile or len(row)
        self.shrink = [self._threshold(row, t) if soft else 0.0 for t in range(-(-len(row) // self.tile))]

    def _threshold(self, row, t):
        part = slice(t * self.tile, (t + 1) * self.tile)
        used = [(v, b - a) for v, a, b in zip(row[part], self.lo[part], self.hi[part], strict=True) if b > a]
        if self.budget.kind == "signed":
            mean = sum(v for v, _ in used) / len(used)
            used = [(v - mean, r) for v, r in used]
        radius = 2**self.budget.bits - 1 - self.budget.symmetric

        def norm(cut):
            return sum(r * max(abs(v) - cut * r, 0.0) for v, r in used)

        low, high = 0.0, max(abs(v) / r for v, r in used)
        if norm(0.0) <= radius:
            return 0.0
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if norm(middle) > radius else (low, middle)
        return high

    def fits(self, i, code):
        start = i // self.tile * self.tile
        codes = [*self.codes[:i], code, *self.codes[i + 1 :]][start : start + self.tile]
        return within(codes, self.lo[start : start + self.tile], self.hi[start : start + self.tile], self.budget)

    def round(self, i, value):
        """The integer, and what it was rounded from."""
        low, high = self.grid.low, self.grid.high
        if self.budget is not None:
            r = self.hi[i] - self.lo[i]
            value = np.sign(value) * max(abs(value) - self.shrink[i // self.tile] * r, 0.0)
            fitting = [q for q in range(low, high + 1) if self.fits(i, q)]
            low, high = min(fitting), max(fitting)
        kept = min(max(value, low), high)
        self.codes[i] = round(kept)
        return self.codes[i], kept


def within(codes, lo, hi, budget):
    """Whether one tile is within the budget, in Python integers."""
    high = sum(max(q * a, q * b) for q, a, b in zip(codes, lo, hi, strict=True))
    low = sum(min(q * a, q * b) for q, a, b in zip(codes, lo, hi, strict=True))
    if budget.kind == "offset":
        return high - low <= 2**budget.bits - 1
    return high <= 2 ** (budget.bits - 1) - 1 and low >= -(2 ** (budget.bits - 1)) + budget.symmetric


def naive_optq(row, hessian, damping, grid, budget, feedback, soft, first=None):
    """Optimal brain quantization in the order of the diagonal: the inverse shrinks input by input, nothing is blocked."""
    h, w = hessian.numpy().copy(), row.numpy().copy()
    diagonal = h.diagonal().copy()
    dead = diagonal == 0
    w[dead] = 0
    rounder = Naive(w.tolist(), grid, budget, soft)
    h += damping * diagonal[~dead].mean() * np.eye(len(w))
    h[dead, dead] = 1
    inverse = np.linalg.inv(h)
    for step, i in enumerate(np.argsort(-diagonal, kind="stable")):
        replaced = first is not None and step == 0
        code, kept = rounder.round(int(i), float(first) if replaced else float(w[i]))
        error = (w[i] if feedback == "full" or replaced else kept) - code
        w -= error / inverse[i, i] * inverse[i]
        inverse -= np.outer(inverse[:, i], inverse[i]) / inverse[i, i]
        inverse[i, i] = 1  # done; its row and column are zero
    return rounder.codes


def naive_gpfq(row, x, xq, grid, budget, soft):
    """From the samples: u is the output that the rounded inputs still owe."""
    x, xq, w = x.numpy(), xq.numpy(), row.numpy()
    rounder, u = Naive(w.tolist(), grid, budget, soft), np.zeros(len(x))
    for i in np.argsort(-(xq**2).sum(0), kind="stable"):
        u = u + w[i] * x[:, i]
        power = xq[:, i] @ xq[:, i]
        code, _ = rounder.round(int(i), xq[:, i] @ u / power if power else 0.0)
        u = u - code * xq[:, i]
    return rounder.codes


# solvers


@budgets
@pytest.mark.parametrize("soft", [True, False], ids=["soft", "clip"])
@pytest.mark.parametrize("feedback", ["full", "thresholded"])
def test_optq_is_the_unblocked_definition(budget, feedback, soft):
    inputs = 135  # more than one block
    x, xq = samples(0, 300, inputs)
    xq[:, 7] = 0  # dead
    moments, targets = Moments.of(xq, x), normal(3, 2, inputs) * 3
    limit = budget_of(budget, inputs)
    factor = Factor.of(Matrices(moments.hessian), 0.01)
    codes = optq(targets, factor, GRID, limit, feedback=feedback, soft=soft)
    expected = [naive_optq(row, moments.hessian, 0.01, GRID, limit, feedback, soft) for row in targets]
    assert codes.tolist() == expected
    assert (codes[:, 7] == 0).all()
    assert len(codes.unique()) > 5
    assert limit is None or int(limit.width(codes).max()) == limit.bits


@budgets
@pytest.mark.parametrize("soft", [True, False], ids=["soft", "clip"])
def test_gpfq_is_the_definition_on_samples(budget, soft):
    inputs = 135
    x, xq = samples(5, 400, inputs)
    xq[:, 3] = 0
    moments, targets = Moments.of(xq, x), normal(8, 2, inputs) * 3
    limit = budget_of(budget, inputs)
    order = moments.hessian.diagonal().argsort(descending=True, stable=True)
    codes = gpfq(targets, Matrices(moments.hessian), Matrices(moments.cross), order, GRID, limit, soft=soft)
    assert codes.tolist() == [naive_gpfq(row, x, xq, GRID, limit, soft) for row in targets]
    assert limit is None or int(limit.width(codes).max()) == limit.bits


@budgets
@pytest.mark.parametrize("soft", [True, False], ids=["soft", "clip"])
def test_rounding_alone_is_the_definition(budget, soft):
    inputs = 60
    targets, limit = normal(9, 4, inputs) * 4, budget_of(budget, inputs)
    rounders = [Naive(row.tolist(), GRID, limit, soft) for row in targets]
    expected = [[r.round(i, float(v))[0] for i, v in enumerate(row)] for r, row in zip(rounders, targets, strict=True)]
    assert round_rows(targets, GRID, limit, soft=soft).tolist() == expected


@budgets
def test_qronos_rounds_its_first_weight_from_the_data_and_refits_the_rest(budget):
    """q_1 best while the others stay; then each weight from the least-squares refit of all weights not yet rounded."""
    inputs = 24
    x, xq = samples(20, 500, inputs)
    w, limit = normal(21, 3, inputs), budget_of(budget, inputs)
    moments = Moments.of(xq, x)
    recipe = replace(Recipe(), method="qronos", steps="max-abs", damping=1e-12, descent=False, refit=False)
    found = solve(w, moments, GRID, limit, recipe, dtype=torch.float64)
    order = np.argsort(-moments.hessian.diagonal().numpy(), kind="stable")
    for row, step, codes in zip(w, found.steps, found.codes, strict=True):
        outputs, a = (x @ (row / step)).numpy(), xq.numpy()
        target = np.linalg.lstsq(a, outputs, rcond=None)[0]
        rounder = Naive(target.tolist(), GRID, limit, True)
        left = row.numpy() / float(step)
        for at, i in enumerate(order):
            rest, done = order[at + 1 :], order[:at]
            owed = outputs - a[:, done] @ np.array([rounder.codes[j] for j in done], dtype=float)
            if at == 0:
                value = a[:, i] @ (owed - a[:, rest] @ left[rest]) / (a[:, i] @ a[:, i])
            else:
                free = order[at:]
                value = np.linalg.lstsq(a[:, free], owed, rcond=None)[0][0]
            rounder.round(int(i), float(value))
        assert codes.tolist() == rounder.codes


def test_qronos_aims_at_the_float_outputs_whatever_the_preset():
    x, xq = samples(22, 500, 12)
    w, moments = normal(23, 2, 12), Moments.of(xq, x)
    plain = replace(PRESETS["axe"], method="qronos")
    assert not plain.correct
    codes = [solve(w, moments, GRID, None, replace(plain, correct=c)).codes for c in (False, True)]
    assert torch.equal(*codes)


def test_corrected_weights_are_a_damped_least_squares_fit():
    x, xq = samples(30, 200, 15)
    w, moments = normal(31, 4, 15), Moments.of(xq, x)
    for damping in (1e-9, 0.01, 1.0):
        factor = Factor.of(Matrices(moments.hessian), damping)
        d = damping * float(moments.hessian.diagonal().mean())
        a = torch.cat([xq / 200**0.5, d**0.5 * torch.eye(15, dtype=torch.float64)])
        b = torch.cat([x @ w.T / 200**0.5, d**0.5 * w.T])
        assert torch.allclose(
            corrected(w, w @ (moments.hessian - moments.cross).T, factor),
            torch.linalg.lstsq(a, b).solution.T,
            rtol=1e-7,
            atol=1e-9,
        )


def test_corrected_weights_of_dead_inputs_stay_out():
    x, xq = samples(32, 200, 6)
    xq[:, 2] = 0
    w, moments = normal(33, 2, 6), Moments.of(xq, x)
    live = [0, 1, 3, 4, 5]
    fit = corrected(w, w @ (moments.hessian - moments.cross).T, Factor.of(Matrices(moments.hessian), 1e-9))[:, live]
    assert torch.allclose(fit, torch.linalg.lstsq(xq[:, live], x @ w.T).solution.T, rtol=1e-6)


def quadratic(q, linear, hessian):
    return float(q @ hessian @ q - 2 * q @ linear)


@pytest.mark.parametrize("spec", [*BUDGETS.values(), ("signed", 6, 3, False), ("offset", 6, None, False)])
@pytest.mark.parametrize("grid", [WeightGrid(3), WeightGrid(2, narrow=False), WeightGrid(1)], ids=str)
def test_descent_never_loses_and_no_single_move_is_left(grid, spec):
    gained = 0
    for seed in range(12):
        inputs = 8
        x, _ = samples(seed, 40, inputs)
        h, linear = x.T @ x / 40, normal(seed + 100, 3, inputs) * 2
        budget = budget_of(None if spec is None else (spec[0], min(spec[1], 8), *spec[2:]), inputs, seed)
        try:
            start = round_rows(linear / h.diagonal(), grid, budget)
        except BudgetError:
            assert grid.bipolar
            continue
        codes = descend(start, linear, Matrices(h), grid, budget, sweeps=100)
        moves = [q for q in range(grid.low, grid.high + 1) if q or not grid.bipolar]
        for before, row, b in zip(start, codes, linear, strict=True):
            best = quadratic(row, b, h)
            assert best <= quadratic(before, b, h) + 1e-12
            gained += best < quadratic(before, b, h)
            assert set(row.tolist()) <= set(moves)
            for i, q in itertools.product(range(inputs), moves):
                moved = row.clone()
                moved[i] = q
                if budget is None or bool(budget.holds(moved[None])):
                    assert quadratic(moved, b, h) >= best - 1e-9
            assert budget is None or bool(budget.holds(row[None]))
    assert gained > 5


def test_descent_crosses_blocks():
    x, _ = samples(40, 300, 200)
    h, linear = x.T @ x / 300, normal(41, 2, 200)
    codes = descend(round_rows(linear / h.diagonal(), GRID, None), linear, Matrices(h), GRID, None, sweeps=200)
    best = ((linear - codes @ h + codes * h.diagonal()) / h.diagonal()).round().clamp(GRID.low, GRID.high)
    assert torch.equal(best, codes)


@pytest.mark.parametrize("kind", ["float", "pow2", "dyadic:8"])
def test_refitted_steps_are_the_best_allowed(kind):
    x, xq = samples(50, 100, 6)
    moments, w = Moments.of(xq, x), normal(51, 20, 6)
    w[1] = 0
    codes = (w * 3).round()
    codes[0] = 0
    codes[2] = -codes[2]  # no positive step helps
    linear = w @ moments.cross.T
    steps = allowed(torch.full((20,), 0.2, dtype=torch.float64), kind)
    found, error = Loss(w, moments, torch.float64)(torch.arange(len(w)), codes, steps, kind)
    assert torch.allclose(error, moments.error(codes, found, w))
    assert torch.equal(found[:3], steps[:3])
    for row, b, s in zip(codes[3:], linear[3:], found[3:].tolist(), strict=True):
        at = {k: quadratic(row * k, b, moments.hessian) for k in neighbours(s, kind)}
        assert min(at, key=at.get) == s


def neighbours(step, kind):
    """A scale and the allowed ones on both sides."""
    if kind == "pow2":
        return [step / 2, step, step * 2]
    if kind == "float":
        return [step * (1 - 1e-4), step, step * (1 + 1e-4)]
    ulp = 2.0 ** (np.frexp(step)[1] - 8)
    return [step - ulp, step, step + ulp]


def test_scales_have_the_bits_they_promise():
    steps = torch.exp(normal(60, 2000) * 8)
    steps[:4] = torch.tensor([1.0, 0.75, 1.5 - 2**-40, 255.99])
    for given, power, short, single in zip(
        steps.tolist(), *(allowed(steps, k).tolist() for k in ("pow2", "dyadic:8", "float")), strict=True
    ):
        exact = Fraction(power)
        assert 1 in (exact.numerator, exact.denominator)
        assert (exact.numerator & (exact.numerator - 1), exact.denominator & (exact.denominator - 1)) == (0, 0)
        assert all(abs(Fraction(given) - exact) <= abs(Fraction(given) - exact * k) for k in (2, Fraction(1, 2)))
        exact = Fraction(short)
        odd = exact.numerator // (exact.numerator & -exact.numerator)
        assert odd < 1 << 8
        assert exact.denominator & (exact.denominator - 1) == 0
        assert abs(exact / Fraction(given) - 1) <= Fraction(1, 1 << 8)
        assert single == float(np.float32(given))
        assert all(float(np.float32(s)) == s for s in (power, short))


def test_step_sizes_from_weights():
    w = torch.cat([normal(61, 5, 30), torch.zeros(1, 30, dtype=torch.float64)])
    assert torch.equal(max_abs_steps(w, GRID)[:5], w[:5].abs().amax(1) / 7)
    assert float(max_abs_steps(w, GRID)[5]) == 1.0
    assert torch.equal(max_abs_steps(w, WeightGrid(4, narrow=False))[:5], w[:5].abs().amax(1) / 8)
    assert torch.equal(max_abs_steps(w, WeightGrid(1))[:5], w[:5].abs().amax(1))

    def error(step, row):
        return float((((row / step).round().clamp(-7, 7) * step - row) ** 2).sum())

    for row, step in zip(w[:5], mse_steps(w[:5], GRID).tolist(), strict=True):
        top = float(row.abs().max()) / 7
        assert min(error(top * k / 64, row) for k in range(1, 65)) == pytest.approx(error(step, row), rel=1e-12)


@pytest.mark.parametrize("groups", [1, 3])
def test_moments_are_averages_over_samples(groups):
    x, xq = normal(70, groups, 50, 5), normal(71, groups, 50, 5) + 1
    total = MomentSum(groups, 5, paired=True)
    for part in (slice(0, 20), slice(20, 21), slice(21, 50)):
        total.add(xq[:, part], x[:, part])
    w, codes, steps = normal(72, 4, 5), normal(73, 4, 5).round(), normal(74, 4).abs()
    for g, moments in enumerate(total.average()):
        left, floats = xq[g], x[g]
        assert moments.samples == 50
        assert torch.allclose(moments.hessian, sum(torch.outer(a, a) for a in left) / 50)
        assert torch.allclose(moments.cross, sum(torch.outer(a, b) for a, b in zip(left, floats, strict=True)) / 50)
        assert torch.allclose(moments.energy, sum(torch.outer(b, b) for b in floats) / 50)
        assert torch.allclose(moments.mean, left.mean(0))
        assert torch.allclose(moments.float_mean, floats.mean(0))
        missed = floats @ w.T - left @ (codes * steps[:, None]).T
        assert torch.allclose(moments.error(codes, steps, w), (missed**2).mean(0))
        assert torch.allclose(moments.error(codes, steps, w, centred=True), missed.var(0, correction=0))
        assert torch.allclose(moments.bias(codes, steps, w), missed.mean(0))
        assert torch.allclose(moments.power(w), ((floats @ w.T) ** 2).mean(0))
        assert torch.allclose(moments.power(w, centred=True), (floats @ w.T).var(0, correction=0))


def test_moments_of_one_network():
    x = normal(75, 30, 4)
    moments = Moments.of(x)
    assert moments.cross is moments.hessian
    assert torch.equal(moments.energy, Moments.of(x, x).energy)
    for call, message in (
        (lambda: MomentSum(1, 4, paired=True).average(), "calibration: no samples; give at least one"),
        (
            lambda: MomentSum(1, 4, paired=True).add(x[None]),
            "calibration: float and quantized inputs belong together; pass both or one throughout",
        ),
    ):
        with pytest.raises(RequestError) as caught:
            call()
        assert str(caught.value) == message


def test_a_hessian_that_cannot_be_factorized_gets_more_damping():
    x = normal(80, 40, 1).expand(40, 6)
    hessian = x.T @ x / 40 - 1e-3 * torch.eye(6, dtype=torch.float64)  # not positive
    mean = float(hessian.diagonal().mean())
    factor = Factor.of(Matrices(hessian), 1e-8)
    assert factor.damping == pytest.approx(1e-3, rel=1e-9)
    damped = hessian + factor.damping * mean * torch.eye(6, dtype=torch.float64)
    inverse = factor.upper.values.T @ factor.upper.values
    assert torch.allclose(inverse @ damped[factor.order][:, factor.order], torch.eye(6, dtype=torch.float64), atol=1e-6)
    assert solve(normal(81, 2, 6), Moments.of(x), GRID, None, replace(Recipe(), damping=1e-300)).damping > 1e-300
    with pytest.raises(RequestError) as caught:
        Factor.of(Matrices(torch.tensor([[1.0, 1e9], [1e9, 1.0]])))
    message = "calibration: the inputs' second moments cannot be factorized; give more varied data"
    assert str(caught.value) == message


@pytest.mark.parametrize("method", ["optq", "gpfq", "qronos", "rtn"])
def test_moments_that_overflow_are_refused(method):
    moments = Moments.of(torch.full((4, 3), 1e30, dtype=torch.float32))
    with pytest.raises(RequestError) as caught:
        solve(normal(0, 2, 3), moments, GRID, None, replace(Recipe(), method=method))
    assert str(caught.value) == "calibration: the inputs' second moments are not finite; scale the data down"


def test_a_search_finds_what_its_best_step_gives():
    """Every row has the least error of all its steps solved alone."""
    x, xq = samples(90, 200, 20)
    w, moments, budget = normal(91, 5, 20), Moments.of(xq, x), budget_of(("offset", 10, None, False), 20)
    recipe = replace(Recipe(), descent=False, refine=())
    found = solve(w, moments, GRID, budget, recipe, dtype=torch.float64)
    alone = []
    for multiple in recipe.multiples:
        alone.append(solve(w, moments, GRID, budget, replace(recipe, multiples=(multiple,)), dtype=torch.float64).error)
    assert torch.allclose(found.error, torch.stack(alone).amin(0), rtol=1e-12)
    assert torch.allclose(found.error, moments.error(found.codes, found.steps, w), rtol=1e-12)
    refined = solve(w, moments, GRID, budget, Recipe(), dtype=torch.float64)
    assert (refined.error <= found.error).all()
    assert (refined.error < found.error).any()


def test_a_solver_out_of_budget_is_caught(monkeypatch):
    monkeypatch.setattr(solving, "round_rows", lambda targets, *_, **__: targets.round())
    budget = Budget(3, torch.zeros(4, dtype=torch.int64), torch.full((4,), 15))
    with pytest.raises(ProofError) as caught:
        solve(torch.ones(1, 4), Moments.of(torch.eye(4, dtype=torch.float64)), GRID, budget, PRESETS["rtn"])
    assert str(caught.value) == "solver: integers exceed 3 accumulator bits, 9 needed; report this as a bug"


# the guarantee

METHODS = ("optq", "gpfq", "qronos", "rtn")
ENDS = ((0, 15), (0, 1), (-8, 7), (-7, 7), (-128, 127), (-9, 0), (4, 19), (-6, -3), (5, 5), (0, 0), (-1, 1))


def drawn(seed):
    """A layer, its data and how to solve it."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    inputs, rows, count = rng.randint(1, 9), rng.randint(1, 3), rng.choice([1, 3, 12])
    ends = [rng.choice(ENDS)] * inputs if rng.random() < 0.5 else [rng.choice(ENDS) for _ in range(inputs)]
    lo, hi = (torch.tensor(e) for e in zip(*ends, strict=True))
    scale, zero = 2.0 ** rng.randint(-4, 1), rng.choice([0, 0, 3, -5])
    codes = lo + ((hi - lo + 1) * torch.rand(count, inputs, generator=generator, dtype=torch.float64)).floor()
    xq = ((codes - zero) * scale).float()
    x = xq + scale * torch.randn(count, inputs, generator=generator) if rng.random() < 0.7 else xq.clone()
    for _ in range(rng.choice([0, 0, 1, 2])):
        xq[:, rng.randrange(inputs)] = 0  # dead
    w = torch.randn(rows, inputs, generator=generator) * 10.0 ** rng.randint(-3, 2)
    if rng.random() < 0.3:
        w[rng.randrange(rows)] = 0
    if rng.random() < 0.3:
        w = w.abs()  # all of one sign
    grid = WeightGrid(rng.choice([1, 1, 2, 3, 4, 8, 16]), narrow=rng.random() < 0.5)
    bits = rng.choice([rng.randint(1, 4), rng.randint(1, 16), rng.randint(16, 60)])
    kind = rng.choice(["offset", "signed"])
    tile = rng.choice([None, None, 1, 2, 3, 4, 12])
    budget = Budget(bits, lo, hi, kind, tile, symmetric=kind == "signed" and rng.random() < 0.5)
    recipe = PRESETS[rng.choice(list(PRESETS))]
    if rng.random() < 0.7:
        recipe = replace(
            recipe,
            method=rng.choice(METHODS),
            feedback=rng.choice(["full", "thresholded"]),
            scales=rng.choice(["float", "pow2", "dyadic:8"]),
            steps=rng.choice(["max-abs", "mse", "search"]),
            descent=rng.random() < 0.5,
            soft=rng.random() < 0.7,
        )
    recipe = replace(recipe, multiples=(0.5, 1.0, 2.0, 4.0), refine=(0.95, 1.05))
    if random.Random(-seed).random() < 0.8:
        return w, Moments.of(xq, x), grid, replace(budget, lo=lo.repeat(rows, 1), hi=hi.repeat(rows, 1)), recipe, None
    # a group for every row: its own data, and ranges wider by some codes
    far = hi + torch.arange(rows)[:, None]
    groups = Moments.stack([Moments.of(xq + g * scale, x) for g in range(rows)])
    return w, groups, grid, replace(budget, lo=lo.repeat(rows, 1), hi=far), recipe, torch.arange(rows)


def check(seed):
    """Solve one layer and recompute its accumulators, in Python integers, from the inputs that drive them furthest.

    Returns:
        Whether the budget is met without a bit to spare, or None where no weights fit.
    """
    w, moments, grid, budget, recipe, owner = drawn(seed)
    ranges, bits = list(zip(budget.lo.tolist(), budget.hi.tolist(), strict=True)), budget.bits
    size = budget.tile or budget.inputs
    parts = [slice(at, at + size) for at in range(0, budget.inputs, size)]
    if owner is None:
        budget = replace(budget, lo=budget.lo[0], hi=budget.hi[0])
    if grid.bipolar:
        fewest = max(
            min(needs(q, lo[p], hi[p], budget) for q in itertools.product((-1, 1), repeat=len(lo[p])))
            for lo, hi in (ranges if owner is not None else ranges[:1])
            for p in parts
        )
        if fewest > bits:
            with pytest.raises(BudgetError) as caught:
                solve(w, moments, grid, budget, recipe, owner=owner)
            assert (caught.value.bits, caught.value.needed) == (bits, fewest), seed
            return None
    solution = solve(w, moments, grid, budget, recipe, owner=owner)
    codes = solution.codes.tolist()
    allowed_codes = {-1, 1} if grid.bipolar else set(range(grid.low, grid.high + 1))
    widest = 0
    for row, (lo, hi) in zip(codes, ranges, strict=True):
        assert set(row) <= allowed_codes, seed
        for p in parts:
            width = needs(row[p], lo[p], hi[p], budget)
            assert width <= bits, seed
            widest = max(widest, width)
    assert len(solution.steps) == len(w), seed
    assert (solution.steps > 0).all(), seed
    assert torch.equal(solution.steps.float().double(), solution.steps), seed
    return widest == bits


def needs(row, lo, hi, budget):
    """Bits of one accumulator that is driven to both ends."""
    most = [b if q > 0 else a for q, a, b in zip(row, lo, hi, strict=True)]
    least = [a if q > 0 else b for q, a, b in zip(row, lo, hi, strict=True)]
    high, low = (sum(q * x for q, x in zip(row, xs, strict=True)) for xs in (most, least))
    assert high >= low
    bits = 1
    if budget.kind == "offset":
        while high - low > 2**bits - 1:
            bits += 1
        return bits
    while high > 2 ** (bits - 1) - 1 or low < -(2 ** (bits - 1)) + budget.symmetric:
        bits += 1
    return bits


def summed_up(seeds):
    results = [check(seed) for seed in seeds]
    return results.count(True) / len(results), results.count(None) / len(results)


def test_integers_are_within_the_budget():
    full, impossible = summed_up(range(1000))
    assert full > 0.2
    assert 0.02 < impossible < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("thousand", range(1, 10))
def test_integers_are_within_the_budget_of_many_more_layers(thousand):
    full, _ = summed_up(range(1000 * thousand, 1000 * (thousand + 1)))
    assert full > 0.2


@pytest.mark.parametrize("kind", ["signed", "offset"])
@pytest.mark.parametrize("method", ["optq", "gpfq", "qronos", "rtn"])
@pytest.mark.parametrize("preset", ["axe", "best"])
def test_groups_solved_together_are_the_groups_solved_alone(preset, method, kind):
    """Inputs of every group fall in power alike, so that both have one order, and no row fits; one group has a dead input."""
    recipe = replace(PRESETS[preset], method=method, damping=0.02)
    groups, rows, inputs = 6, 3, 12
    ends = torch.tensor([(0, 15), (-8, 7), (2, 13), (-11, -3), (-1, 9), (-9, 2)])[:, :, None].repeat(1, 1, inputs)
    ends[:, :, 3], ends[1, :, 7] = 0, 4
    own, weights = [], normal(90, groups, rows, inputs)
    fall = torch.linspace(3, 0.2, inputs, dtype=torch.float64)
    for g in range(groups):
        x = normal(7 * g, 200, inputs).abs() * fall + 0.1 * normal(g, 200, 1)
        x[:, 5] *= g != 2
        own.append(Moments.of((8 * x).round() / 8, x))
    alone = [
        solve(w, m, GRID, Budget(7, lo, hi, kind), recipe, dtype=torch.float64)
        for w, m, (lo, hi) in zip(weights, own, ends, strict=True)
    ]
    owner = torch.arange(groups).repeat_interleave(rows)
    budget = Budget(7, ends[owner, 0], ends[owner, 1], kind)
    both = weights.reshape(-1, inputs), Moments.stack(own)
    together = solve(*both, GRID, budget, recipe, owner=owner, dtype=torch.float64)
    assert torch.allclose(together.error, torch.cat([s.error for s in alone]), rtol=1e-9)
    # the same weights: a row whose integers share a divisor may have it in its step instead
    assert torch.allclose(
        together.codes * together.steps[:, None], torch.cat([s.codes * s.steps[:, None] for s in alone]), rtol=1e-6
    )
