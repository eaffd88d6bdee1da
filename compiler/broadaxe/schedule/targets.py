"""Folding to a request: a target, a budget, a device, or lanes that a user gives; and what the result comes to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import gcd

import numpy as np

from broadaxe.errors import RequestError
from broadaxe.hardware import Resources
from broadaxe.ir import Graph, Lanes
from broadaxe.schedule.optimize import SLACK, Dead, Goal, Solution, fastest, solution_of, solve
from broadaxe.schedule.problem import KINDS, Problem, problem_of, resources_of, vector

FILLED = {"lut": 0.7, "ff": 0.7, "dsp": 0.9, "bram18": 0.9, "uram": 0.9}
"""How much of a part a design may take; FIFOs, a DMA and room to route come on top."""
UNITS = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram18": "BRAM18", "uram": "URAM"}


@dataclass(frozen=True)
class Request:
    """What a folding has to reach.

    Attributes:
        cycles: a frame may take, or None: as few as the budget allows.
        budget: at most this much of a resource, by its name in `Resources`; empty for any.
        device: what the part holds, for what its resources are worth beside each other.
        clock_ns: period, for messages.
        reserved: what of the budget FIFOs take beyond two words each.
        least: cycles that no folding within the budget is below, where that is known.
    """

    cycles: int | None
    budget: Mapping[str, float]
    device: Resources | None
    clock_ns: float
    reserved: Mapping[str, float] = field(default_factory=dict)
    least: int = 0

    @property
    def left(self) -> dict[str, float]:
        """The budget without what is reserved."""
        return {kind: amount - self.reserved.get(kind, 0) for kind, amount in self.budget.items()}

    def leaving(self, fifos: Resources, cycles: int) -> Request:
        """The same with room for FIFOs that take so much beyond two words each, or for those that it had room for.

        Args:
            cycles: of the folding that was found with the room that there was: with less, none is faster.
        """
        more = dict(zip(KINDS, vector(fifos).tolist(), strict=True))
        return replace(
            self, reserved={kind: max(n, self.reserved.get(kind, 0)) for kind, n in more.items()}, least=cycles
        )


@dataclass(frozen=True)
class Step:
    """The next folding that is a hundredth or more faster: its cycles a frame, and what it takes more than the chosen one."""

    cycles: int
    more: Resources


@dataclass(frozen=True)
class FoldingPlan:
    """A folding and what it comes to, by the models.

    Attributes:
        lanes: of every kernel.
        cycles, resources: of every kernel.
        total: of all kernels and lane changers; FIFOs apart.
        ii: cycles from one frame to the next, the most of any kernel, port, copy or lane changer.
        bottleneck: the first of those that has as many.
        step: the next faster folding; None where it has not been asked for, or there is none.
        limit: the kernel that has no faster choice, where no folding is faster.
        optimal: whether the folding was chosen as the cheapest, or fastest, of all.
    """

    lanes: Mapping[str, Lanes]
    cycles: Mapping[str, int]
    resources: Mapping[str, Resources]
    total: Resources
    ii: int
    bottleneck: str
    step: Step | None = None
    limit: str = ""
    optimal: bool = False

    def frames_per_second(self, clock_ns: float) -> float:
        return rate(self.ii, clock_ns)


def rate(cycles: int, clock_ns: float) -> float:
    """Frames a second at so many cycles a frame."""
    return 1e9 / (cycles * clock_ns)


def cycles_for(target_fps: float, clock_ns: float) -> int:
    """The most cycles a frame may take for a target of frames a second; 1 where it is beyond the clock's own rate."""
    return max(1, int(10**9 / (Fraction(str(target_fps)) * Fraction(str(clock_ns)))))


def beyond(spent: Resources, request: Request) -> bool:
    """Whether a design takes more than its budget."""
    amount = dict(zip(KINDS, vector(spent).tolist(), strict=True))
    return any(amount[kind] > most + SLACK for kind, most in request.budget.items())


def difference(a: Resources, b: Resources) -> Resources:
    """a without b."""
    return resources_of(vector(a) - vector(b))


def amounts(resources: Resources, signed: bool = False) -> str:
    """Resources as text; kinds that are not needed are left out."""
    sign = "+" if signed else ""
    parts = [
        f"{round(n):{sign},} {UNITS[kind]}"
        for kind, n in zip(KINDS, vector(resources).tolist(), strict=True)
        if round(n)
    ]
    return ", ".join(parts) or ("no more" if signed else "nothing")


def budget_of(device: Resources) -> dict[str, float]:
    """What of a part's resources a design may take."""
    return {kind: FILLED[kind] * amount for kind, amount in zip(KINDS, vector(device).tolist(), strict=True)}


def planned(
    graph: Graph,
    request: Request,
    pinned: Mapping[str, Sequence[Lanes]],
    held: Mapping[str, int] | None = None,
    given: Collection[str] = (),
) -> FoldingPlan:
    """The cheapest folding that reaches the target within the budget, or the fastest one of the budget.

    RequestError says by how much a target or a budget is missed, and what is nearest.

    Args:
        pinned: the lanes that some kernels may have, instead of all.
        held: pipeline stages that a tool has reported, by kernel.
        given: kernels whose lanes the user has chosen, for messages.
    """
    problem = problem_of(graph, pinned, held)
    free, goal = Goal.of(request.device, {}), Goal.of(request.device, request.left)
    if request.cycles is None:
        found = fastest(problem, goal, request.least)
        if isinstance(found, Dead):
            raise _dead(found)
    else:
        found = solve(problem, request.cycles, goal)
        if isinstance(found, Dead):
            raise _too_fast(problem, request, goal, given)
    if not isinstance(found, Solution):
        raise _too_dear(problem, request, goal)
    return _plan(problem, found, _next(problem, found, free))


def evaluated(graph: Graph, lanes: Mapping[str, Lanes], held: Mapping[str, int] | None = None) -> FoldingPlan:
    """What given lanes come to."""
    problem = problem_of(graph, {name: [own] for name, own in lanes.items()}, held)
    choices = [0] * len(problem.kernels)
    for link in problem.links:
        if link.port:
            port = problem.kernels[link.source]
            count = gcd(problem.kernels[link.reader].choices[0].read, link.pixel)
            choices[link.source] = port.written.tolist().index(count)
    return _plan(problem, solution_of(problem, choices, Goal()), None)


def _next(problem: Problem, found: Solution, goal: Goal) -> Step | str:
    """The next faster folding, whatever the budget, or the kernel that keeps it from being any faster.

    Pipelines of one stage more or less make steps of single cycles; one that is less than a hundredth faster is named
    only where there is no other.
    """
    for most in (found.cycles * 99 // 100, found.cycles - 1):
        faster = solve(problem, most, goal)
        if isinstance(faster, Solution):
            return Step(faster.cycles, resources_of(np.array(faster.resources) - np.array(found.resources)))
    return faster.kernel if isinstance(faster, Dead) else ""


def _plan(problem: Problem, found: Solution, after: Step | str | None) -> FoldingPlan:
    cycles, resources, lanes = {}, {}, {}
    for kernel, choice in zip(problem.kernels, found.choices, strict=True):
        cycles[kernel.name] = int(kernel.cycles[choice])
        if kernel.node:
            lanes[kernel.name] = kernel.choices[choice]
            resources[kernel.name] = resources_of(kernel.resources(choice))
    changers = {}
    for link in problem.links:
        ends = [problem.kernels[end].choices[found.choices[end]] for end in (link.source, link.reader)]
        changers[link.name] = link.cycles(ends[0].written, ends[1].read) or 0
    slowest = (name for name, count in (cycles | changers).items() if count == found.cycles)
    return FoldingPlan(
        lanes=lanes,
        cycles={name: cycles[name] for name in lanes},
        resources=resources,
        total=resources_of(np.array(found.resources)),
        ii=found.cycles,
        bottleneck=next(slowest),
        step=after if isinstance(after, Step) else None,
        limit=after if isinstance(after, str) else "",
        optimal=after is not None,
    )


def _dead(found: Dead) -> RequestError:
    return RequestError(f"folding: no words fit the streams of {found.kernel}; leave more of the folding open")


def _too_fast(problem: Problem, request: Request, goal: Goal, given: Collection[str]) -> RequestError:
    """No folding is as fast, whatever it takes: which kernel is at its end or was given its lanes, and the fastest there is."""
    assert request.cycles is not None
    best = fastest(problem, Goal(goal.weights))
    if not isinstance(best, Solution):
        return _dead(best or Dead(problem.kernels[-1].name))
    after = _next(problem, best, Goal(goal.weights))
    limit = after if isinstance(after, str) and after else _plan(problem, best, None).bottleneck
    asked, fastest_there_is = (_speed(cycles, request.clock_ns) for cycles in (request.cycles, best.cycles))
    how, more = ("with the lanes it was given", "give it more, or ") if limit in given else ("at its fastest", "")
    return RequestError(
        f"folding: {asked} cannot be reached, {limit} takes {best.cycles:,} cycles {how}; {more}ask for {fastest_there_is}"
        " or slower"
    )


def _too_dear(problem: Problem, request: Request, goal: Goal) -> RequestError:
    """Nothing of the speed is within the budget: by how much it is missed, and the fastest that is within it."""
    slowest = int(problem.candidates()[-1])
    cheapest = solve(problem, request.cycles or slowest, Goal(goal.weights))
    assert isinstance(cheapest, Solution)
    taken = {k: n + request.reserved.get(k, 0) for k, n in zip(KINDS, cheapest.resources, strict=True)}
    missed = ", ".join(
        f"{taken[kind]:,.0f} {UNITS[kind]} of {amount:,.0f}"
        for kind, amount in request.budget.items()
        if taken[kind] > amount
    )
    speed = "the cheapest folding" if request.cycles is None else _speed(request.cycles, request.clock_ns)
    best = None if request.cycles is None else fastest(problem, goal)
    if not isinstance(best, Solution):
        return RequestError(f"folding: {speed} takes {missed}; give it more, or a smaller network")
    return RequestError(
        f"folding: {speed} takes {missed}; the fastest within the budget is {_speed(best.cycles, request.clock_ns)}"
    )


def _speed(cycles: int, clock_ns: float) -> str:
    frames = rate(cycles, clock_ns)
    return f"{cycles:,} cycles a frame ({frames:,.{0 if frames >= 100 else 2}f} frames/s)"
