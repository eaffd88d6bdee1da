"""The cheapest folding of a frame rate, and the fastest one of a budget: exact, by mixed integer programming.

Choose lanes x of every kernel so that

    minimise    sum over kernels of cost(x) + sum over links of cost(written lanes of one end, read lanes of the other)
    subject to  cycles(x) <= II for every kernel and link;  resources, summed alike, <= budget

With a binary variable for each choice of a kernel, and for each link one for each pair of words that can meet there, whose
marginals are those of both ends, the program is that of a pairwise Markov network over the graph; on a tree without budgets
its relaxation is integral. Before it is handed to HiGHS, choices that no optimum needs are struck out:

- those over II, those that no partner of a link can meet, until nothing changes;
- b, where some a of the same kernel costs at least as much less, in cost and in every budgeted resource, as any partners' words
  could make a's links dearer than b's (Goldstein's criterion for dead ends). An optimum with b stays one with a.

Sources: Desmet et al., Nature 356 (1992), Goldstein, Biophys. J. 66 (1994), for dead ends; HiGHS by scipy.optimize.milp.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from broadaxe.errors import RequestError
from broadaxe.hardware import Resources
from broadaxe.schedule.problem import KINDS, Floats, Ints, Link, Problem, vector

LUT_EQUIVALENTS = Resources(lut=1, ff=0.5, dsp=100, bram18=150, uram=2400)
"""What the others are worth in LUTs where no part says: about their proportions in UltraScale+ parts of middle size."""
TIE = 1e-3
"""LUTs that a lane costs beside its model: of equal costs, the fewest lanes."""
SLACK = 1e-6
"""Of a resource: what sums of floats may be off by."""
GAP, ANY = 0.01, 1e9
"""Shares of a cost: what is close enough to the cheapest, and any that fits."""
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Goal:
    """What is minimised, and within what.

    Attributes:
        weights: LUT-equivalents of one LUT, flip-flop, DSP, BRAM18 and URAM.
        budget: at most this much of a resource, by its name in `Resources`.
    """

    weights: tuple[float, ...] = tuple(vector(LUT_EQUIVALENTS).tolist())
    budget: tuple[tuple[str, float], ...] = ()

    @staticmethod
    def of(device: Resources | None, budget: Mapping[str, float]) -> Goal:
        """With a device its resources are worth the same share of it; what it lacks stays at its usual worth."""
        weights = vector(LUT_EQUIVALENTS)
        if device is not None:
            held = vector(device)
            weights = np.where(held > 0, held[0] / np.maximum(held, 1), weights)
        return Goal(tuple(weights.tolist()), tuple(sorted(budget.items())))

    def amounts(self, resources: Floats, lanes: Floats | float = 0.0) -> Floats:
        """Cost and budgeted amounts, shape (..., 1 + budgets), of resources, shape (..., 5), and lanes, shape (...)."""
        cost = resources @ np.array(self.weights) + TIE * np.asarray(lanes)
        kept = [KINDS.index(kind) for kind, _ in self.budget]
        return np.concatenate([np.asarray(cost)[..., None], resources[..., kept]], axis=-1)

    @property
    def limits(self) -> Floats:
        return np.array([amount for _, amount in self.budget], dtype=np.float64)


@dataclass(frozen=True)
class Dead:
    """No folding has so few cycles: `kernel` is left without a choice."""

    kernel: str


@dataclass(frozen=True)
class Solution:
    """A choice for each kernel, by position, its network's cycles a frame, its resources and its cost."""

    choices: tuple[int, ...]
    cycles: int
    resources: tuple[float, ...]
    cost: float


class _Search:
    """Choices that are left at one II, and the tables of links over their words."""

    def __init__(self, problem: Problem, ii: int, goal: Goal) -> None:
        self.problem, self.goal, self.ii = problem, goal, ii
        self.left: list[Ints] = [np.flatnonzero(kernel.cycles <= ii) for kernel in problem.kernels]
        self.own: list[Floats] = []
        self.around: list[list[int]] = [[] for _ in problem.kernels]
        for at, link in enumerate(problem.links):
            self.around[link.source].append(at)
            self.around[link.reader].append(at)
        self._amounts = [
            np.where((t.cycles <= ii)[..., None], goal.amounts(t.resources), np.inf) for t in problem.tables
        ]

    def words(self, at: int) -> tuple[Ints, Ints]:
        """Rows and columns of a link's table that are left."""
        link, table = self.problem.links[at], self.problem.tables[at]
        writes = self.problem.kernels[link.source].written[self.left[link.source]]
        reads = self.problem.kernels[link.reader].read[self.left[link.reader]]
        return np.searchsorted(table.writes, np.unique(writes)), np.searchsorted(table.reads, np.unique(reads))

    def consistent(self) -> Dead | None:
        """Strike out what no partner can meet, until nothing changes."""
        changed = True
        while changed:
            changed = False
            for index, left in enumerate(self.left):
                if not len(left):
                    return Dead(self.problem.kernels[index].name)
            for at, link in enumerate(self.problem.links):
                rows, columns = self.words(at)
                table = self.problem.tables[at]
                fits = table.cycles[np.ix_(rows, columns)] <= self.ii
                for end, words, good, own in (
                    (link.source, table.writes[rows], fits.any(axis=1), self.problem.kernels[link.source].written),
                    (link.reader, table.reads[columns], fits.any(axis=0), self.problem.kernels[link.reader].read),
                ):
                    if not good.all():
                        self.left[end] = self.left[end][np.isin(own[self.left[end]], words[good])]
                        changed = True
        return None

    def table(self, at: int) -> tuple[Ints, Ints, Floats]:
        """Amounts of a link for each pair of words, shape (writes, reads, 1 + budgets); infinite where they cannot meet."""
        rows, columns = self.words(at)
        table = self.problem.tables[at]
        return table.writes[rows], table.reads[columns], self._amounts[at][np.ix_(rows, columns)]

    def price(self) -> None:
        self.own = [self._own(index) for index in range(len(self.left))]

    def _own(self, index: int) -> Floats:
        kernel, left = self.problem.kernels[index], self.left[index]
        lanes = (kernel.read + kernel.written)[left].astype(np.float64)
        return self.goal.amounts(np.stack([kernel.resources(int(c)) for c in left]), lanes)

    def keep(self, index: int, kept: Mask) -> None:
        self.left[index], self.own[index] = self.left[index][kept], self.own[index][kept]

    def strike(self) -> None:
        """Strike out dead ends, kernel by kernel, until nothing changes."""
        self._strike_twins()
        waiting = set(range(len(self.left)))
        while waiting:
            index = min(waiting)
            waiting.remove(index)
            if self._strike(index):
                links = [self.problem.links[at] for at in self.around[index]]
                waiting |= {end for link in links for end in (link.source, link.reader)}

    def _strike_twins(self) -> None:
        """Choices of equal words differ in their own amounts alone; quick, and it leaves far fewer to compare."""
        for index, kernel in enumerate(self.problem.kernels):
            left, own = self.left[index], self.own[index]
            same = (kernel.read[left][:, None] == kernel.read[left]) & (
                kernel.written[left][:, None] == kernel.written[left]
            )
            self.keep(
                index, _undominated(np.where(same, np.float64(0), np.inf)[..., None] + np.zeros(own.shape[1]), own)
            )

    def _strike(self, index: int) -> bool:
        kernel, left, own = self.problem.kernels[index], self.left[index], self.own[index]
        if len(left) == 1:
            return False
        dearer = np.zeros((len(left), len(left), own.shape[1]))
        for at in self.around[index]:
            link = self.problem.links[at]
            writes, reads, amounts = self.table(at)
            if index == link.source:
                dearer += _dearest(amounts)[_pairs(writes, kernel.written[left])]
            if index == link.reader:
                dearer += _dearest(amounts.swapaxes(0, 1))[_pairs(reads, kernel.read[left])]
        kept = _undominated(dearer, own)
        self.keep(index, kept)
        return not bool(kept.all())


def _pairs(words: Ints, lanes: Ints) -> tuple[Ints, Ints]:
    at = np.searchsorted(words, lanes)
    return at[:, None], at[None, :]


def _dearest(amounts: Floats) -> Floats:
    """By how much words a can be dearer than words b, over all partners that b can meet, shape (a, b, amounts)."""
    out = np.empty((len(amounts), *amounts.shape[::2]))
    for b, other in enumerate(amounts):
        met = np.isfinite(other[:, 0])
        out[:, b] = (amounts[:, met] - other[met]).max(axis=1)
    return out


def _undominated(dearer: Floats, own: Floats) -> Mask:
    """Which choices stay: b goes where an a exists with own[a] + dearer[a, b] <= own[b]; of two that match the first stays."""
    beats = np.all(own[:, None] + dearer <= own[None, :], axis=-1)
    order = np.arange(len(own))
    return np.asarray(~(beats & np.where(beats.T, order[:, None] < order, True)).any(axis=0))


def solve(problem: Problem, ii: int, goal: Goal, gap: float = 0.0) -> Solution | Dead | None:
    """The cheapest folding of at most `ii` cycles; Dead where there is none, None where none is within the budget.

    Args:
        gap: by what share of its cost it may be dearer than the cheapest.
    """
    search = _Search(problem, ii, goal)
    dead = search.consistent()
    if dead is not None:
        return dead
    search.price()
    search.strike()
    if all(len(left) == 1 for left in search.left):
        found = solution_of(problem, [int(left[0]) for left in search.left], goal)
        return found if within(found, goal) else None
    picked = _program(search, gap)
    if picked is None:
        return None
    return solution_of(problem, [int(left[at]) for left, at in zip(search.left, picked, strict=True)], goal)


def solution_of(problem: Problem, choices: list[int], goal: Goal) -> Solution:
    """What a choice for each kernel comes to."""
    kernels, total, cycles = problem.kernels, np.zeros(len(KINDS)), 0
    lanes = 0
    for kernel, choice in zip(kernels, choices, strict=True):
        total = total + kernel.resources(choice)
        cycles = max(cycles, int(kernel.cycles[choice]))
        lanes += kernel.choices[choice].read + kernel.choices[choice].written
    for link in problem.links:
        written = kernels[link.source].choices[choices[link.source]].written
        read = kernels[link.reader].choices[choices[link.reader]].read
        total = total + vector(problem.join(link, written, read))
        cycles = max(cycles, link.cycles(written, read) or 0)
    cost = float(goal.amounts(total, float(lanes))[0])
    return Solution(tuple(choices), cycles, tuple(total.tolist()), cost)


def within(solution: Solution, goal: Goal) -> bool:
    """Whether a solution keeps to the budget."""
    return all(solution.resources[KINDS.index(kind)] <= amount + SLACK for kind, amount in goal.budget)


def _program(search: _Search, gap: float) -> list[int] | None:
    """The program of what is left, solved: a position among those of each kernel; None where it has no solution."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    problem = search.problem
    first = np.cumsum([0, *map(len, search.left)])
    columns, rows = int(first[-1]), 0
    entries: list[tuple[int, int, float]] = []
    right: list[float] = []
    amounts = [*search.own]
    for index, left in enumerate(search.left):
        entries += [(rows, int(first[index]) + j, 1.0) for j in range(len(left))]
        right.append(1.0)
        rows += 1
    for number, link in enumerate(problem.links):
        writes, reads, table = search.table(number)
        if len(writes) == 1 or len(reads) == 1:  # a sum over one end alone
            end, lanes = _free_end(problem, link, len(writes) == 1)
            at = np.searchsorted(reads if len(writes) == 1 else writes, lanes[search.left[end]])
            amounts[end] = amounts[end] + table.reshape(-1, table.shape[-1])[at]
            continue
        pairs = np.argwhere(np.isfinite(table[..., 0]))
        for end, words, lanes, axis in (
            (link.source, writes, problem.kernels[link.source].written, 0),
            (link.reader, reads, problem.kernels[link.reader].read, 1),
        ):
            at = np.searchsorted(words, lanes[search.left[end]])
            entries += [(rows + int(word), int(first[end]) + j, 1.0) for j, word in enumerate(at)]
            entries += [(rows + int(pair[axis]), columns + k, -1.0) for k, pair in enumerate(pairs)]
            right += [0.0] * len(words)
            rows += len(words)
        amounts.append(table[pairs[:, 0], pairs[:, 1]])
        columns += len(pairs)
    every = np.concatenate(amounts)
    row, column, value = zip(*entries, strict=True)
    equal = coo_array((value, (row, column)), shape=(rows, columns)).tocsr()
    constraints = [LinearConstraint(equal, right, right)]
    if search.goal.budget:
        constraints.append(LinearConstraint(every[:, 1:].T, -np.inf, search.goal.limits))
    binary = (np.arange(columns) < first[-1]).astype(np.int64)
    result = milp(
        every[:, 0], integrality=binary, bounds=Bounds(0, 1), constraints=constraints, options={"mip_rel_gap": gap}
    )
    if result.status == 2:
        return None
    if result.status != 0:
        raise RequestError(f"folding: HiGHS gave up ({result.message}); give a folding, or another target")
    chosen = result.x[: first[-1]]
    return [int(chosen[a:b].argmax()) for a, b in pairwise(first.tolist())]


def _free_end(problem: Problem, link: Link, written: bool) -> tuple[int, Ints]:
    """The end of a link that still has a choice of words, and the lanes of its choices."""
    if written:
        return link.reader, problem.kernels[link.reader].read
    return link.source, problem.kernels[link.source].written


def fastest(problem: Problem, goal: Goal, least: int = 0) -> Solution | Dead | None:
    """The folding of fewest cycles within the budget; Dead or None where there is none at all.

    The cycles are the fewest. Of foldings with as many it is one whose cost is within GAP of the cheapest: which of the last
    ones that fill a part is the cheapest takes a minute to prove, and says nothing to its user.

    Args:
        least: cycles that no folding within the budget can be below, where that is known.
    """
    counts = problem.candidates()
    low, high = int(np.searchsorted(counts, least)), len(counts)
    step = 1 if least else high - low  # with a bound known, the answer is near it
    best: Solution | Dead | None = None
    while low < high:
        middle = min((low + high) // 2, low + step - 1)
        step *= 2
        found = solve(problem, int(counts[middle]), goal, ANY)
        if isinstance(found, Solution):
            best, high = found, int(np.searchsorted(counts, found.cycles))
        else:
            low = middle + 1
            best = best if isinstance(best, Solution) else found
    return solve(problem, best.cycles, goal, GAP) if isinstance(best, Solution) else best
