"""Many random networks, one after the other, and what came of them."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from broadaxe.build import Build
from broadaxe.csim import Simulator, ap_types

from .check import CheckError, check
from .draft import Case
from .generate import generate
from .simulate import compare, simulate_exactly, simulators

BATCH = 10
"""Designs that g++ compiles at once."""
EXACT_EACH = 10
"""Of the designs simulated in C each so many is compiled with the vendor's headers, too."""


@dataclass
class Campaign:
    """Statistics of a run; `failures` holds one line each."""

    seed: int
    networks: int = 0
    accepted: int = 0
    simulated: int = 0
    exact: int = 0
    judged: int = 0
    unjudged: int = 0
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    operators: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}: {self.networks} networks, {self.accepted} accepted, {sum(self.refused.values())} refused"
        ]
        lines.append(
            f"tensors equal to the oracle: {self.judged}, without a value there: {self.unjudged};"
            f" C simulation: {self.simulated} networks, {self.exact} of them with ap_int headers"
        )
        lines += [f"  refused {n:5}  {operator}: {why}" for (operator, why), n in self.refused.most_common(25)]
        lines.append("nodes of accepted networks: " + ", ".join(f"{k} {n}" for k, n in self.operators.most_common()))
        lines += [f"FAILED {line}" for line in self.failures]
        lines.append(f"failures: {len(self.failures)}")
        return "\n".join(lines)


def networks(
    seed: int,
    indices: Iterable[int],
    csim: int = 4,
    shrink: bool = False,
    avoid: Collection[str] = (),
    said: Callable[[str], None] = lambda _: None,
) -> Campaign:
    """Check networks of a seed.

    Args:
        indices: which of them.
        csim: each so many accepted ones are simulated in C; 0 for none.
        avoid: emitters to do without.
        said: called with each failure as it comes.
        shrink: write a small network of each failure's kind into regressions/.
    """
    report = Campaign(seed)
    kinds: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="fuzz") as base:
        waiting: list[tuple[Case, Build]] = []

        def failed(case: Case, failure: CheckError) -> None:
            report.failures.append(f"{case.seed} {case.index}: {failure}")
            said(f"FAILED {report.failures[-1]}")
            if shrink and failure.kind not in kinds:
                from .shrink import keep, shrunk

                keep(*shrunk(case, failure))
            kinds.add(failure.kind)

        for index in indices:
            case, folder = generate(seed, index, avoid), Path(base) / str(index)
            report.networks += 1
            try:
                outcome = check(case, folder)
            except CheckError as failure:
                failed(case, failure)
                continue
            if outcome.build is None:
                assert outcome.refused is not None
                report.refused[outcome.refused] += 1
                continue
            report.accepted += 1
            report.operators += outcome.operators
            report.judged, report.unjudged = report.judged + outcome.judged, report.unjudged + outcome.unjudged
            if csim and (report.accepted - 1) % csim == 0:
                waiting.append((case, outcome.build))
            else:
                shutil.rmtree(folder)
            if len(waiting) == BATCH:
                _simulate(waiting, Path(base), report, failed)
        _simulate(waiting, Path(base), report, failed)
    return report


def _simulate(
    waiting: list[tuple[Case, Build]], base: Path, report: Campaign, failed: Callable[[Case, CheckError], None]
) -> None:
    """The designs that wait, in C: all native at once, some with the vendor's headers."""
    if not waiting:
        return
    folder = base / f"batch{report.networks}"  # a name of its own: the loader takes the same name for the same library
    try:
        made: list[Simulator | None] = [*simulators([build for _, build in waiting], folder)]
    except CheckError:  # one of them: each alone
        made = [None] * len(waiting)
    for (case, build), simulator in zip(waiting, made, strict=True):
        try:
            compare(build, simulator or simulators([build], base / f"alone{case.index}")[0])
            report.simulated += 1
            if (report.simulated - 1) % EXACT_EACH == 0 and ap_types() is not None:
                simulate_exactly(build)
                report.exact += 1
        except CheckError as failure:
            failed(case, failure)
        shutil.rmtree(build.path, ignore_errors=True)
        shutil.rmtree(base / f"alone{case.index}", ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    waiting.clear()
