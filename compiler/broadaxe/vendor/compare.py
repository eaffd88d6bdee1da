"""The model beside what a tool measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FIGURES = ("latency", "interval", "lut", "ff", "dsp", "bram18", "uram")
"""Cycles, then resources; the order of columns."""


@dataclass(frozen=True)
class Difference:
    """One figure of one kernel, or of the whole design."""

    kernel: str
    figure: str
    model: float
    measured: float

    @property
    def ratio(self) -> float | None:
        """Measured to model; None where the model says 0 and the tool does not."""
        if self.model:
            return self.measured / self.model
        return None if self.measured else 1.0

    def __str__(self) -> str:
        ratio = "" if self.ratio is None else f", {self.ratio:.2f} of it"
        return f"{self.kernel}: {self.figure} {self.measured:,g}, model {self.model:,g}{ratio}"


def differences(
    model: Mapping[str, Mapping[str, float | None]], measured: Mapping[str, Mapping[str, float | None]]
) -> tuple[Difference, ...]:
    """Every figure that both have, by kernel in the model's order. Equal ones are among them: they agree."""
    found = []
    for kernel, expected in model.items():
        seen = measured.get(kernel, {})
        for figure in FIGURES:
            left, right = expected.get(figure), seen.get(figure)
            if left is not None and right is not None:
                found.append(Difference(kernel, figure, left, right))
    return tuple(found)
