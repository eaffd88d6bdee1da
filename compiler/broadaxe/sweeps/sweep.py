"""`broadaxe.search.sweep`: quantize a network in many ways, and show what accuracy each accumulator width buys.

Rows have roles. Calibration rows give ranges and weights, validation rows choose among runs, and test rows are run through
the chosen networks alone, after the last choice: nothing can be chosen by them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy.typing as npt
import onnx

from broadaxe.errors import MissingToolError, RequestError
from broadaxe.evaluation import Data, Judge, Rows, rows_from, shared_rows
from broadaxe.quantization.quantize import loaded_model
from broadaxe.sweeps.config import Run, SweepConfig, sweep_config
from broadaxe.sweeps.frontier import Point, chosen, frontier
from broadaxe.sweeps.job import Bench, Material, Result, has_quantizers, labels_digest
from broadaxe.sweeps.ledger import Ledger, Row, check_folder, make_folder, replace_file
from broadaxe.sweeps.plot import plots
from broadaxe.sweeps.workers import local
from broadaxe.version import __version__

if TYPE_CHECKING:
    from torch import nn

Array: TypeAlias = npt.NDArray[Any]
ROLES = {
    "calib": "calibrates: ranges of activations and weights; its last rows, the share held_out, give output_error",
    "val": "chooses: the best run at every width",
    "test": "reports: run through the chosen networks alone, after the last choice",
}
COLUMNS = {
    "M, N, P": "bits of weights, activations and accumulator asked; empty: the model's own, or no budget",
    "bits": "widest accumulator as the compiler declares it, proven; the frontier counts these",
    "offset_bits": "widest accumulator with a start constant of each channel's own, proven",
    "signed_bits": "widest accumulator in two's complement from zero, proven",
    "validation": "percent on validation rows",
    "output_error": "squared error of the outputs over their power, held-out calibration rows",
    "seconds": "of the run on its worker, one thread",
    "error": "why a run was refused or failed",
}


@dataclass(frozen=True)
class Status:
    """How far a sweep is; `str` is one line."""

    text: str
    done: int
    total: int
    started_with: int = 0
    failed: int = 0

    def __str__(self) -> str:
        return f"{self.done}/{self.total} {self.text}" if self.done > self.started_with else self.text


@dataclass(frozen=True, eq=False)
class Sweep:
    """A finished sweep; `str` is its table.

    Attributes:
        folder: sweep.csv, sweep.json, pareto.svg, pareto.png and the models of the frontier.
        rows: of sweep.csv, in the order of the request.
        frontier: the best run of each method at each width.
        test: percent on test rows of the runs on the frontier; empty without test rows.
        floats: percent of the model as it was given, by kind of rows.
        metric: accuracy where there are labels, else fidelity to the model's own outputs.
        warnings: what a user should look at.
    """

    folder: Path
    rows: tuple[Row, ...]
    frontier: tuple[Point, ...]
    test: dict[Run, float]
    floats: dict[str, float]
    metric: str
    warnings: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Sweep({str(self.folder)!r}, {len(self.rows)} runs)"

    def __str__(self) -> str:
        from broadaxe.sweeps.table import text

        return text(self)

    def _repr_html_(self) -> str:
        from broadaxe.notebook import html
        from broadaxe.sweeps.table import FrontierTable

        return html(FrontierTable(self))


def sweep(
    model: onnx.ModelProto | str | os.PathLike[str] | nn.Module,
    calibration: Data,
    validation: Data,
    output: str | os.PathLike[str],
    *,
    test: Data | None = None,
    config: SweepConfig | None = None,
    jobs: int | None = None,
    scheduler: str | None = None,
    progress: Callable[[Status], None] | None = None,
    **options: Any,
) -> Sweep:
    """Quantize a network with every method, M, N and P that are asked for, and find the best run at every width.

    Killed and called again with the same request, it goes on where it was. A run that is refused, such as for a budget that
    no weights fit, is a row that says why.

    Args:
        model: a float or QONNX file, an ONNX model, or a torch module.
        calibration, validation, test: a .npz or .npy file, inputs, or (inputs, labels); an array `labels` in a file or
            mapping makes the score accuracy, without it is fidelity to the model's outputs.
        output: folder to write, or that of an earlier call with the same request.
        config, options: see `broadaxe.search.SweepConfig`; options are its fields.
        jobs: local processes, of one thread each; default: one for each core.
        scheduler: address of a dask.distributed scheduler to run on instead, such as tcp://host:8786.
        progress: called with what is being done.

    Example:
        >>> found = sweep(model, x_train[:200], (x_test, y_test), "sweep", acc_bits="9:11:2", act_bits=4, methods="axe", jobs=1)
        >>> [(point.p, point.method) for point in found.frontier]
        [(9, 'axe'), (11, 'axe')]

    Returns:
        All runs, and the best one at each width.

    Raises:
        RequestError: request, data or folder are wrong; nothing is written then. Or the cluster is lost.
        UnsupportedModelError: the model cannot be compiled; names the node.
        MissingToolError: torch, matplotlib or dask.distributed is not installed.
    """
    if config is not None and options:
        raise RequestError(f"sweep: got a config and beside it {', '.join(options)}; give one or the other")
    asked = config or sweep_config(**options)
    if jobs is not None and jobs < 1:
        raise RequestError(f"sweep: jobs: {jobs} is not allowed; give 1 or more")
    if jobs is not None and scheduler is not None:
        raise RequestError(
            f"sweep: got jobs {jobs} and scheduler {scheduler}; jobs are local processes, give one or the other"
        )
    said = progress or (lambda _: None)
    for name in ("torch", "matplotlib"):
        if importlib.util.find_spec(name) is None:
            raise MissingToolError(f"sweep: {name} is not installed; pip install 'broadaxe[sweep]'")
    said(Status("reading model and data", 0, 0))
    request = _Request(model, calibration, validation, test, asked)
    folder = Path(output)
    new = check_folder(folder, request.flat)
    if new:
        said(Status("checking that the model compiles", 0, len(request.runs)))
        request.rehearse()
    source = _on_cluster(scheduler) if scheduler is not None else _Local(jobs or _cores())
    with closing(source):
        if new:
            make_folder(folder, request.record())
        with closing(Ledger(folder, request.runs)) as ledger:
            return _Work(request, ledger, source, said).done()


class _Request:
    """What was asked, read and found to fit together."""

    def __init__(self, model: Any, calibration: Data, validation: Data, test: Data | None, config: SweepConfig) -> None:
        self.config = config
        self.source = str(model) if isinstance(model, str | os.PathLike) else "model"
        self.model = loaded_model(model, calibration)  # type: ignore[arg-type]
        floats = not has_quantizers(self.model)
        if config.act_bits is not None and not floats:
            given = ",".join(map(str, config.act_bits))
            raise RequestError(
                f"{config.place('act_bits')}: {given} is for float models, this one has quantizers of its own; leave it out"
                " (--act-bits)"
            )
        self.runs = config.runs(floats=floats)
        if not self.runs:
            limits = {"apart": config.apart, "headroom": config.headroom and ",".join(map(str, config.headroom))}
            said = " and ".join(f"{name} {value}" for name, value in limits.items() if value is not None)
            raise RequestError(f"settings: no run is left by {said}; allow more, or widen the ranges")
        for run in self.runs:
            config.of(run)
        self.rows = {
            role: rows_from(given, self.model, role)
            for role, given in (("calib", calibration), ("val", validation), ("test", test))
            if given is not None
        }
        self.judge = Judge(self.rows["val"], self.model)
        if "test" in self.rows:
            self._check_test()
        self.warnings = tuple(shared_rows(self.rows))
        content = self.model.SerializeToString(deterministic=True)
        self.material = Material(content, self.rows["calib"].inputs, self.rows["val"], config)
        digests = {role: _digest(self.rows[role]) if role in self.rows else None for role in ROLES}
        self.flat: dict[str, Any] = {"model": hashlib.sha256(content).hexdigest(), **digests}
        self.flat |= config.model_dump(mode="json")

    def _check_test(self) -> None:
        """That test rows can be scored at the end, without running them."""
        val, test = self.rows["val"].labels, self.rows["test"].labels
        if (val is None) != (test is None):
            without, having = ("val", "test") if val is None else ("test", "val")
            raise RequestError(f"{without}: has no labels, {having} has; give both or neither")
        if test is None:
            return
        outputs = self.judge.outputs
        if int(test.min()) < 0 or int(test.max()) >= outputs:
            raise RequestError(
                f"{self.rows['test'].source}: labels go from {test.min()} to {test.max()}, the model has {outputs} outputs;"
                f" give classes 0 to {outputs - 1}"
            )

    def rehearse(self) -> None:
        """Whatever every run would be refused for."""
        from broadaxe.quantization.network import rehearsed

        bench, kinds = Bench(self.material), {run.p is None: run for run in self.runs}
        for run in kinds.values():
            settings = self.config.of(run)
            rehearsed(bench.prepared(settings), settings, own_bits=bench.floats)

    def record(self) -> dict[str, Any]:
        """What sweep.json says before there are rows."""
        roles = {
            role: {
                "does": ROLES[role],
                "source": rows.source,
                "samples": len(rows),
                "inputs_sha256": rows.digest,
                "labels_sha256": labels_digest(rows),
            }
            for role, rows in self.rows.items()
        }
        return {
            "broadaxe": __version__,
            "request": self.flat,
            "model": self.source,
            "rows": roles,
            "warnings": list(self.warnings),
            "metric": self.judge.metric,
            "columns": COLUMNS,
            "runs": len(self.runs),
            "state": "running",
            "sessions": [],
        }


class _Local:
    """Processes of this machine."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.name = f"{jobs} local process{'es' if jobs > 1 else ''}"

    def run(self, material: Material, runs: list[Run]) -> Iterator[tuple[Run, Result]]:
        return local(material, runs, self.jobs)

    def close(self) -> None:
        pass


def _on_cluster(address: str) -> Any:
    from broadaxe.sweeps.cluster import Cluster

    return Cluster(address)


class _Work:
    """What happens in the folder."""

    def __init__(self, request: _Request, ledger: Ledger, source: Any, said: Callable[[Status], None]) -> None:
        self.request, self.ledger, self.source, self.said = request, ledger, source, said
        before = ledger.record()
        self.record = before | {k: v for k, v in request.record().items() if k not in ("sessions", "state")}
        self.before = before

    def done(self) -> Sweep:
        request, ledger = self.request, self.ledger
        left = [run for run in request.runs if run not in ledger.rows]
        if left:
            self._measure(left)
            ledger.sort()
        points = frontier(request.config, ledger.rows, request.runs)
        ledger.drop_models_but(chosen(points))
        tested = self._tested(points) if "test" in request.rows else {}
        floats = {"validation": request.judge.float_score} | ({"test": self.test_float} if tested else {})
        warnings = (*request.warnings, *self._version_warning())
        if points:
            files = plots(
                points,
                title=Path(request.source).stem,
                metric=request.judge.metric,
                floats=floats,
                tested=tested,
                warnings=warnings,
            )
            for name, content in files.items():
                replace_file(ledger.folder / name, content)
        self.record |= {
            "state": "complete",
            "warnings": list(warnings),
            "refused_runs": sum(bool(row["error"]) for row in ledger.rows.values()),
            "as_given": {name: round(score, 4) for name, score in floats.items()},
            "frontier": [self._entry(point, tested) for point in points],
        }
        ledger.write_record(self.record)
        rows = tuple(ledger.rows[run] for run in request.runs)
        return Sweep(ledger.folder, rows, tuple(points), tested, floats, request.judge.metric, warnings)

    def _measure(self, left: list[Run]) -> None:
        from broadaxe.sweeps.cluster import versions

        request, ledger = self.request, self.ledger
        total, started_with = len(request.runs), len(ledger.rows)
        session = {"where": self.source.name, "rows_before": started_with, "versions": versions()}
        self.record = self.record | {"sessions": [*self.before["sessions"], session], "state": "running"}
        ledger.write_record(self.record)
        failed = sum(bool(row["error"]) for row in ledger.rows.values())

        def say(text: str) -> None:
            self.said(Status(text, len(ledger.rows), total, started_with, failed))

        kept = f"{started_with} of {total} runs are there already, " if started_with else ""
        say(f"{kept}{len(left)} runs on {self.source.name}")
        with closing(self.source.run(request.material, left)) as results:
            for run, result in results:
                if run in ledger.rows:
                    continue
                error = result.cells.get("error")
                if result.model is not None and self._on_frontier(run, result.cells):
                    ledger.keep(run, result.model)
                ledger.append(run, result.cells)
                failed += bool(error)
                score = error or f"{float(result.cells['validation']):.2f} % at {result.cells['bits']} bits"
                say(f"{run}: {score}")

    def _on_frontier(self, run: Run, cells: Mapping[str, str]) -> bool:
        """Whether it is the best so far at some width: what is best of all runs is best of any part of them."""
        row = dict.fromkeys(("bits", "validation", "output_error", "error"), "") | dict(cells)
        rows = {other: known for other, known in self.ledger.rows.items() if other.method == run.method} | {run: row}
        return run in chosen(frontier(self.request.config, rows, self.request.runs))

    def _tested(self, points: list[Point]) -> dict[Run, float]:
        """Scores of the chosen runs on test rows; those that a finished sweep has recorded are not computed again."""
        runs = chosen(points)
        known = {
            (e["method"], e["M"], e["N"], e["P_asked"]): e["test"]
            for e in self.before.get("frontier", ())
            if "test" in e
        }
        self.test_float = self.before.get("as_given", {}).get("test")
        wanted = [(run.method, run.m, run.n, run.p) for run in runs]
        if self.test_float is not None and set(wanted) <= set(known):
            return {run: known[key] for run, key in zip(runs, wanted, strict=True)}
        self.said(
            Status(f"scoring {len(runs)} chosen networks on test rows", len(self.ledger.rows), len(self.request.runs))
        )
        judge = Judge(self.request.rows["test"], self.request.model)
        self.test_float = judge.float_score
        return {run: round(judge(onnx.load(self._model(run))), 4) for run in runs}

    def _model(self, run: Run) -> Path:
        path = self.ledger.model_path(run)
        if not path.is_file():
            raise RequestError(f"{path}: is missing; delete the run's line in {self.ledger.csv} and run it again")
        return path

    def _entry(self, point: Point, tested: Mapping[Run, float]) -> dict[str, Any]:
        run = point.run
        entry = {"method": run.method, "P": point.p, "M": run.m, "N": run.n, "P_asked": run.p, "bits": point.bits}
        entry |= {"validation": point.validation} | ({"test": tested[run]} if run in tested else {})
        return entry | {"model": str(self.ledger.model_path(run).relative_to(self.ledger.folder))}

    def _version_warning(self) -> Iterator[str]:
        sessions = [session["versions"] for session in self.record["sessions"]]
        for name in sessions[-1] if sessions else ():
            found = sorted({session[name] for session in sessions})
            if len(found) > 1:
                yield f"rows were computed with {name} {' and '.join(found)}"


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _digest(rows: Rows) -> str:
    return hashlib.sha256(f"{rows.digest} {labels_digest(rows)}".encode()).hexdigest()
