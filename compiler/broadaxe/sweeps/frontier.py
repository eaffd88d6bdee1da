"""Which runs are worth having: at every accumulator width, of each method, the one that validates best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from broadaxe.sweeps.config import Run, SweepConfig
from broadaxe.sweeps.ledger import Row


@dataclass(frozen=True)
class Point:
    """At P bits, the best run of a method whose proven widest accumulator has at most P."""

    method: str
    p: int
    run: Run
    bits: int
    validation: float


def axis(config: SweepConfig, rows: Mapping[Run, Row]) -> list[int]:
    """Widths that are looked at: those asked, or, without any budget, those that came out."""
    return list(config.acc_bits) or sorted({int(row["bits"]) for row in rows.values() if not row["error"]})


def frontier(config: SweepConfig, rows: Mapping[Run, Row], order: Sequence[Run]) -> list[Point]:
    """Points by method, then P. Of equal validation the one with fewer bits, less output error, earlier in `order`, so
    that the order in which rows came changes nothing."""
    found: list[Point] = []
    place = {run: k for k, run in enumerate(order)}
    good = {run: row for run, row in rows.items() if not row["error"]}

    def merit(run: Run) -> tuple[float, int, float, int]:
        row = good[run]
        return -float(row["validation"]), int(row["bits"]), float(row["output_error"] or 0), place[run]

    for method in config.methods:
        own = sorted((run for run in good if run.method == method), key=merit)
        for p in axis(config, rows):
            best = next((run for run in own if int(good[run]["bits"]) <= p), None)
            if best is not None:
                row = good[best]
                found.append(Point(method, p, best, int(row["bits"]), float(row["validation"])))
    return found


def chosen(points: Iterable[Point]) -> list[Run]:
    """The runs of a frontier, each once."""
    return list(dict.fromkeys(point.run for point in points))
