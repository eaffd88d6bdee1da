"""Folding by optimisation: equal to the best of all assignments, on random networks and on graphs of models."""

from __future__ import annotations

import itertools
from dataclasses import replace
from math import prod

import models
import numpy as np
import pytest

from broadaxe.hardware import Resources
from broadaxe.ir import Lanes
from broadaxe.schedule import optimize
from broadaxe.schedule.optimize import Dead, Goal, Solution, fastest, solution_of, solve, within
from broadaxe.schedule.problem import KINDS, Kernel, Link, Problem, problem_of

WEIGHTS = (1.0, 0.0, 10.0, 25.0, 0.0)


def changed(link, written, read):
    """Lane changers dear enough to matter."""
    return Resources(lut=(max(written, read) - min(written, read)) * link.width, ff=int(written != read))


def random_problem(rng, count, choices, trees=False):
    """Kernels in a chain with further streams across it, each with lanes that divide 12 and any cycles and resources."""
    kernels = []
    for at in range(count):
        own = [Lanes(int(r), int(w)) for r, w in rng.choice([1, 2, 3, 4, 6, 12], size=(choices, 2))]
        prices = [Resources(int(a), 0, int(d), int(b)) for a, d, b in rng.integers(0, 60, size=(choices, 3))]
        own = [replace(lanes, multiplier=f"{j}") for j, lanes in enumerate(own)]  # tells equal lanes apart
        price = dict(zip(own, prices, strict=True)).__getitem__
        kernels.append(Kernel(f"k{at}", tuple(own), rng.integers(1, 40, size=choices), price))
    links = [
        Link(f"l{at}", at if trees is False or rng.integers(2) else int(rng.integers(at + 1)), at + 1, 12, 3)
        for at in range(count - 1)
    ]
    for extra in range(0 if trees else 2):
        a, b = sorted(rng.choice(count, size=2, replace=False).tolist())
        links.append(Link(f"e{extra}", a, b, 24, 2))
    return Problem(tuple(kernels), tuple(links), changed)


def every_solution(problem, goal):
    ranges = [range(len(kernel.choices)) for kernel in problem.kernels]
    return [
        solution_of(problem, list(choices), goal)
        for choices in itertools.product(*ranges)
        if all(
            link.changes(
                problem.kernels[link.source].choices[choices[link.source]].written,
                problem.kernels[link.reader].choices[choices[link.reader]].read,
            )
            is not None
            for link in problem.links
        )
    ]


def cheapest(solutions, ii, goal):
    return min((s.cost for s in solutions if s.cycles <= ii and within(s, goal)), default=None)


def assert_optimal(problem, solutions, ii, goal):
    found, best = solve(problem, ii, goal), cheapest(solutions, ii, goal)
    if isinstance(found, Solution):
        again = solution_of(problem, list(found.choices), goal)
        assert again == found
        assert found.cycles <= ii
        assert within(found, goal)
        assert found.cost == pytest.approx(best, abs=1e-9)
    else:
        assert best is None
        assert (found is None) or all(s.cycles > ii for s in solutions)
    return found


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_equal_all_assignments(seed):
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, 5, 4, trees=seed % 3 == 0)
    free = Goal(WEIGHTS)
    solutions = every_solution(problem, free)
    counts = sorted({s.cycles for s in solutions})
    for ii in {counts[0] - 1, counts[0], counts[len(counts) // 2], counts[-1]}:
        assert_optimal(problem, solutions, ii, free)


@pytest.mark.parametrize("seed", range(12))
def test_budgets_that_bind(seed):
    """Each budget lies below what the cheapest folding takes, so that it decides, or leaves nothing."""
    rng = np.random.default_rng(100 + seed)
    problem = random_problem(rng, 5, 4)
    free = Goal(WEIGHTS)
    solutions = every_solution(problem, free)
    ii = int(np.median([s.cycles for s in solutions]))
    best = solve(problem, ii, free)
    assert isinstance(best, Solution)
    binding = 0
    for kinds in (("lut",), ("dsp",), ("bram18",), ("lut", "dsp", "bram18")):
        limits = {
            kind: best.resources[KINDS.index(kind)] * share for kind, share in zip(kinds, (0.9, 0.8, 1.1), strict=False)
        }
        goal = Goal(WEIGHTS, tuple(sorted(limits.items())))
        found = assert_optimal(problem, solutions, ii, goal)
        binding += not isinstance(found, Solution) or found.cost > best.cost
        quickest = fastest(problem, goal)
        fitting = [s for s in solutions if within(s, goal)]
        if not fitting:
            assert quickest is None
            continue
        assert quickest.cycles == min(s.cycles for s in fitting)
        assert quickest.cost == pytest.approx(cheapest(solutions, quickest.cycles, goal), abs=1e-9)
    assert binding >= 3


def branching(channels=4):
    """Two branches from one value that meet again, a pool and a dense layer; the image has one channel."""
    net = models.Network(1, 4, 4, seed=3)
    x = net.quant("x", scale=0.25, bits=4)
    y = net.quant(net.conv(x, (channels, 1, 1, 1)), scale=0.5, bits=3)
    a = net.quant(net.conv(y, (channels, channels, 1, 1)), scale=0.5, bits=3)
    return net.finish(net.node("Add", a, y))


def stand_in(graph, node, lanes):
    """Integer prices that pull both ways: memories make few lanes dear, multipliers many."""
    width = graph.values[node.output].dtype.width
    block = 7 if lanes.read * lanes.written > 4 else 1
    return Resources(lut=3 * lanes.read * lanes.written + width, ff=lanes.read, dsp=lanes.written, bram18=block)


def test_a_branching_graph_equals_all_assignments():
    graph = models.design(branching(4)).graph
    problem = problem_of(graph, {}, None, stand_in, changed)
    free = Goal(WEIGHTS)
    assert 500 < prod(len(kernel.choices) for kernel in problem.kernels) < 200_000
    solutions = every_solution(problem, free)
    for ii in (*sorted({s.cycles for s in solutions})[:3], max(s.cycles for s in solutions)):
        best = assert_optimal(problem, solutions, ii, free)
        for kind, share in (("lut", 0.95), ("bram18", 0.8), ("lut", 1.0)):
            limit = best.resources[KINDS.index(kind)] * share
            assert_optimal(problem, solutions, ii, Goal(WEIGHTS, ((kind, limit),)))


def test_of_equal_costs_the_fewest_lanes():
    graph = models.design(branching()).graph
    problem = problem_of(graph, {}, None, lambda *_: Resources(), lambda *_: Resources())
    found = solve(problem, 10**9, Goal())
    assert isinstance(found, Solution)
    assert all(problem.kernels[at].choices[c] == Lanes(1, 1) for at, c in enumerate(found.choices))


def test_a_kernel_without_a_choice_is_named():
    problem = random_problem(np.random.default_rng(5), 4, 3)
    slow = replace_cycles(problem, 2, 99)
    assert solve(slow, 98, Goal()) == Dead("k2")


def replace_cycles(problem, index, cycles):
    kernels = list(problem.kernels)
    kernels[index] = replace(kernels[index], cycles=np.full(len(kernels[index].choices), cycles))
    return replace(problem, kernels=tuple(kernels))


def test_dead_ends_are_struck_out_before_the_program(monkeypatch):
    """What is left is far less than what there was, so that HiGHS has little to do; and its answer is the same without."""
    graph = models.design(branching(8)).graph
    problem = problem_of(graph, {}, None, stand_in, changed)
    sizes = []
    program = optimize._program
    monkeypatch.setattr(optimize, "_program", lambda s, gap: (sizes.append(sum(map(len, s.left))), program(s, gap))[1])
    best = solve(problem, 1000, Goal(WEIGHTS))
    monkeypatch.setattr(optimize._Search, "strike", lambda self: None)
    whole = solve(problem, 1000, Goal(WEIGHTS))
    assert best.cost == pytest.approx(whole.cost, abs=1e-9)
    assert len(sizes) <= 2
    assert sizes[-1] > 2 * (sizes[0] if len(sizes) == 2 else len(problem.kernels))
