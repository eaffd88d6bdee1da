"""Random networks: the compiler's integers are the oracle's, and every other judge agrees."""

from __future__ import annotations

from pathlib import Path

import pytest

from .campaign import networks
from .check import CheckError
from .shrink import REGRESSIONS, failure_of, kept


def run(seed: int, count: int, csim: int) -> None:
    report = networks(seed, range(count), csim=csim)
    print(report)
    assert not report.failures, report
    assert report.accepted > count // 10
    assert report.judged > report.accepted


def test_random_networks() -> None:
    run(0, 25, 8)


@pytest.mark.slow
def test_many_random_networks() -> None:
    run(1, 2000, 4)


@pytest.mark.parametrize("path", sorted(REGRESSIONS.glob("*.onnx")), ids=lambda path: path.stem)
def test_what_failed_once(path: Path) -> None:
    failure: CheckError | None = failure_of(kept(path), in_c="simulation" in path.stem)
    assert failure is None, failure
