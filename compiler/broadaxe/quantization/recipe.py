"""How a layer is solved for: the words of the settings, the recipe they add up to, and the presets. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Method = Literal["optq", "gpfq", "qronos", "rtn"]
Steps = Literal["max-abs", "mse", "search"]
ScaleKind = Literal["float", "pow2", "dyadic:8"]
Feedback = Literal["thresholded", "full"]
BudgetKind = Literal["signed", "offset"]
Preset = Literal["axe", "axe-search", "best", "rtn", "project", "project-search"]


@dataclass(frozen=True)
class Recipe:
    """How a layer is solved; PRESETS has the named ones.

    Attributes:
        method: `qronos` is OPTQ towards the float outputs with the first-step correction; `rtn` rounds without feedback.
        steps: step sizes from the largest weight, from the least weight error, or searched for the least output error.
        scales: what a step may be.
        feedback: see `optq`; GPFQ always feeds back the full error.
        correct: OPTQ aims at the float network's outputs, not at the same weights on quantized inputs.
        soft: shrink weights by the projection's threshold before rounding.
        descent: coordinate descent afterwards.
        swaps: exchanges between two weights of a row that follow each descent, at most; of budgets without tiles.
        refit: the step that suits the integers best, afterwards.
        damping: share of the mean diagonal added to the Hessian.
        published: budgets as AXE states them: from zero, -2**(P-1) left out.
        multiples: step sizes searched, as multiples of max-abs.
        refine: finer multiples tried around the best.
        relax: multiples of the step found so far at which OPTQ also rounds the best real weights within the budget's
            ball; none for not at all. Rows keep whichever is better.
    """

    method: Method = "optq"
    steps: Steps = "search"
    scales: ScaleKind = "float"
    feedback: Feedback = "full"
    correct: bool = False
    soft: bool = True
    descent: bool = True
    swaps: int = 32
    refit: bool = True
    damping: float = 0.01
    published: bool = False
    multiples: tuple[float, ...] = (0.35, 0.5, 0.7, 0.85, 1.0, 1.2, 1.45, 1.75, 2.1, 2.55, 3.1, 3.8, 4.6, 5.6, 6.8, 8.2)
    refine: tuple[float, ...] = (0.92, 0.96, 1.04, 1.08)
    relax: tuple[float, ...] = (0.85, 1.0, 1.15)


AXE = Recipe(
    method="optq",
    steps="max-abs",
    feedback="thresholded",
    correct=False,
    descent=False,
    refit=False,
    published=True,
    relax=(),
    swaps=0,
)
_ALONE = Recipe(method="rtn", steps="max-abs", correct=False, descent=False, refit=False, relax=(), swaps=0)
PRESETS: dict[Preset, Recipe] = {
    "axe": AXE,
    "axe-search": replace(AXE, steps="search"),
    "best": Recipe(),
    "rtn": replace(_ALONE, soft=False),
    "project": _ALONE,
    "project-search": replace(_ALONE, steps="search"),
}
"""`axe` as published, `axe-search` with the step size searched, `best` everything. The baselines round every weight by
itself: `rtn` clips at the budget, `project` shrinks onto it first, as A2Q+ initializes."""
