"""Planted faults: the checks find them, and what is left of the network is one operator and its quantizers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from models import design

from broadaxe.build import Build
from broadaxe.errors import UnsupportedModelError
from broadaxe.frontend.standard import _NodeWriter
from broadaxe.ops import MatVec, Requantize, requantize

from .check import CheckError, Outcome, data, integers, judge, passes
from .draft import Case
from .generate import generate, operators
from .shrink import Predicate, failure_of, keep, kept, shrunk


def first_failure(seed: int, limit: int = 60) -> tuple[Case, CheckError]:
    for index in range(limit):
        case = generate(seed, index)
        try:
            passes(case)
        except CheckError as failure:
            return case, failure
    raise AssertionError("no network meets the fault")


def fails(stage: Callable[[Case, Build], None]) -> Predicate:
    """A quick predicate: nothing is written, and one check runs."""

    def found(case: Case) -> CheckError | None:
        try:
            stage(case, design(case.model, inputs=case.types))
        except CheckError as failure:
            return failure
        except UnsupportedModelError:
            pass
        return None

    return found


def judged(case: Case, build: Build) -> None:
    feeds = {name: x for name, x in data(case, 4).items() if name in build.host.inputs}
    judge(case, build, feeds, build.host.codes(feeds), Outcome())


def live(case: Case) -> list[str]:
    """Operators of a network without the quantizers of its weights."""
    constants = {t.name for t in case.model.graph.initializer}
    return [node.op_type for node in case.model.graph.node if not constants.issuperset(node.input)]


def test_a_wrong_reference_shrinks_to_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    right = MatVec.reference
    monkeypatch.setattr(MatVec, "reference", lambda op, x: right(op, x) + (op.outputs > 1))
    case, failure = first_failure(3)
    small, left = shrunk(case, failure, fails(lambda _, build: integers(build)))
    assert left.kind == failure.kind
    assert len(live(small)) <= 3, operators(small.model)
    assert {"MatMul", "Gemm", "Conv"} & set(live(small))


def test_the_oracle_sees_a_fault_that_both_ways_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """CEIL taken for FLOOR in the integer path and in the float graph alike: only the oracle can tell."""
    rounding, in_floats = requantize._rounding, _NodeWriter.round
    monkeypatch.setattr(requantize, "_rounding", lambda *given: rounding(*given).replace("CEIL", "FLOOR"))
    monkeypatch.setattr(
        _NodeWriter, "round", lambda writer, x, mode: in_floats(writer, x, mode.replace("CEIL", "FLOOR"))
    )
    case, failure = first_failure(4)
    assert failure.kind == "oracle"
    small, left = shrunk(case, failure, fails(judged))
    assert left.kind == "oracle"
    assert len(live(small)) <= 2, operators(small.model)
    assert b"CEIL" in {a.s for node in small.model.graph.node for a in node.attribute}


def test_an_exception_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(op: Requantize, *inputs: object) -> object:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(Requantize, "render", fails)
    _, failure = first_failure(5)
    assert failure.kind.startswith("integers, ZeroDivisionError in")


def test_what_is_kept_can_be_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from . import shrink

    monkeypatch.setattr(shrink, "REGRESSIONS", tmp_path)
    case = generate(0, 1)
    path = keep(case, CheckError("integer ONNX", "a detail"))
    again = kept(path)
    assert again.model == case.model
    assert (again.types, again.seed, again.index) == (case.types, case.seed, case.index)


def test_the_same_numbers_give_the_same_network() -> None:
    assert generate(7, 5).model == generate(7, 5).model
    assert generate(7, 5).model != generate(7, 6).model


def test_a_sound_network_does_not_fail() -> None:
    assert failure_of(generate(0, 0), in_c=False) is None
