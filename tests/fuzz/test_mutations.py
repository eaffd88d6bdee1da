"""Damaged files end in a build or in one line, and leave nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from .mutate import mutations

KEPT = Path("build") / "fuzz"


def run(seed: int, count: int, models: int) -> None:
    report = mutations(seed, count, models=models, keep=KEPT)
    print(report)
    assert not report.failures, report
    assert report.files == count
    assert sum(report.refused.values()) > count // 4
    assert report.compiled > 0


def test_damaged_files() -> None:
    run(0, 300, 8)


@pytest.mark.slow
def test_many_damaged_files() -> None:
    run(1, 10_000, 40)
