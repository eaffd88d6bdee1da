"""Passes: pure functions Graph -> Graph, one per file, run in the order of PIPELINE with the graph checked after each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, update_wrapper
from typing import TypeAlias

from broadaxe.errors import VerificationError
from broadaxe.ir import Graph
from broadaxe.passes.choose_requantizers import choose_requantizers
from broadaxe.passes.divide_rows import divide_rows
from broadaxe.passes.offset_accumulators import offset_accumulators
from broadaxe.passes.reserve_budgets import Reservation, reserve_budgets

Pass: TypeAlias = Callable[[Graph], Graph]

PIPELINE: tuple[Pass, ...] = (divide_rows, offset_accumulators, choose_requantizers)


def pipeline(requantizers: Mapping[str, str]) -> tuple[Pass, ...]:
    """PIPELINE with requantizer forms that the user asks for, by node name or "*"."""
    if not requantizers:
        return PIPELINE
    choose = update_wrapper(partial(choose_requantizers, forced=requantizers), choose_requantizers)
    return tuple(choose if step is choose_requantizers else step for step in PIPELINE)


def loadable_pipeline(wanted: Reservation) -> tuple[Pass, ...]:
    """The passes of a design whose weights are loaded at run time."""
    return divide_rows, update_wrapper(partial(reserve_budgets, wanted=wanted), reserve_budgets)


def run_passes(graph: Graph, pipeline: Sequence[Pass] = PIPELINE) -> Graph:
    """Run the passes in order; a failure, of the pass or of the check behind it, names the pass."""
    for step in pipeline:
        try:
            graph = step(graph)
        except VerificationError as error:
            raise type(error)(f"{step.__name__}: {error}") from error
        graph.check(step.__name__)
    return graph
