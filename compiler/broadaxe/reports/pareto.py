"""What the page shows of a sweep: accuracy against proven accumulator bits."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from broadaxe.errors import RequestError


class Point(BaseModel):
    """A run of the sweep: the widest accumulator that its network needs, proven, and its score in percent."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    method: str
    weight_bits: int | None
    input_bits: int | None
    asked: int | None
    bits: int
    score: float
    model: str | None = None


class Pareto(BaseModel):
    """Runs, frontier and the model as given; scores of `rows`, those of the runs always of validation rows."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    metric: str
    rows: str
    runs: tuple[Point, ...]
    frontier: tuple[Point, ...]
    as_given: float | None
    mine: str | None
    """The frontier's model that this build was compiled from."""


def read_sweep(folder: Path, model: bytes | None = None) -> Pareto:
    """The sweep in a folder, or beside and in a file such as sweep.json; `model` is the build's, to be found in it.

    Raises:
        RequestError: it is no sweep, or a damaged one.
    """
    file = folder / "sweep.json" if folder.is_dir() else folder
    try:
        content = json.loads(file.read_text())
        with file.with_suffix(".csv").open(newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if row["bits"] and not row["error"]]
        tested = "test" in content["as_given"]
        frontier = tuple(_frontier(content["frontier"], "test" if tested else "validation"))
        return Pareto(
            metric=content["metric"],
            rows="test" if tested else "validation",
            runs=tuple(
                Point(
                    method=row["method"],
                    weight_bits=_whole(row["M"]),
                    input_bits=_whole(row["N"]),
                    asked=_whole(row["P"]),
                    bits=int(row["bits"]),
                    score=float(row["validation"]),
                )
                for row in rows
            ),
            frontier=frontier,
            as_given=content["as_given"].get("test" if tested else "validation"),
            mine=_mine(file.parent, frontier, model),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, csv.Error):
        raise RequestError(f"{file}: is missing or no sweep; give the folder that broadaxe sweep has written") from None


def _whole(text: str) -> int | None:
    return int(text) if text else None


def _frontier(entries: Iterable[dict[str, Any]], rows: str) -> Iterable[Point]:
    seen = set()
    for entry in entries:
        if (entry["method"], entry["model"]) in seen:
            continue  # the best run within P bits may stay the same when P grows
        seen.add((entry["method"], entry["model"]))
        yield Point(
            method=entry["method"],
            weight_bits=entry["M"],
            input_bits=entry["N"],
            asked=entry["P_asked"],
            bits=entry["bits"],
            score=entry[rows],
            model=entry["model"],
        )


def _mine(folder: Path, frontier: Iterable[Point], model: bytes | None) -> str | None:
    """A build holds the model as it was read, so both are read alike."""
    if model is None:
        return None
    from broadaxe.build import load_model

    names = dict.fromkeys(point.model for point in frontier if point.model)
    files = {name: folder / name for name in names if (folder / name).is_file()}
    return next((name for name, file in files.items() if load_model(file)[0].SerializeToString() == model), None)
