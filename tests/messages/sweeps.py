"""Sweeps: the request, the folder, local workers and a cluster."""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from models import Network
from small_builds import layer

import broadaxe
from broadaxe.errors import MissingToolError, RequestError
from broadaxe.sweeps import cluster as clusters
from broadaxe.sweeps import ledger as ledgers
from broadaxe.sweeps import workers
from broadaxe.sweeps.cluster import Cluster
from broadaxe.sweeps.config import Run
from broadaxe.sweeps.ledger import COLUMNS, Ledger, line, make_folder, replace_file
from broadaxe.sweeps.sweep import _Work
from broadaxe.sweeps.workers import local

from . import provokes

COVERS = ("sweeps/cluster.py", "sweeps/ledger.py", "sweeps/sweep.py", "sweeps/workers.py")
X = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
LABELS = np.arange(8) % 3
RUN = Run("axe", 2, 3, 8)
RECORD = {"broadaxe": "0.1.0", "request": {"acc_bits": [6, 7, 8]}, "sessions": []}


def sweep(tmp: Path, **changes: Any) -> None:
    """A sweep of a float classifier into `out`."""
    net = Network(4)
    model = net.finish(net.node("MatMul", "x", np.eye(4, 3, dtype=np.float32), name="fc"))
    given = {"calibration": X, "validation": X, "output": tmp / "out", "jobs": 1, "acc_bits": 8, "methods": "axe"}
    broadaxe.search.sweep(changes.pop("model", model), **given | changes)


# The request


@provokes("sweep: got a config and beside it acc_bits, methods; give one or the other", RequestError)
def config_and_options(tmp: Path) -> None:
    sweep(tmp, config=broadaxe.search.SweepConfig(acc_bits=(8,)))


@provokes("sweep: jobs: 0 is not allowed; give 1 or more", RequestError)
def no_jobs(tmp: Path) -> None:
    sweep(tmp, jobs=0)


@provokes(
    "sweep: got jobs 1 and scheduler tcp://127.0.0.1:8786; jobs are local processes, give one or the other",
    RequestError,
)
def jobs_and_scheduler(tmp: Path) -> None:
    sweep(tmp, scheduler="tcp://127.0.0.1:8786")


@provokes("sweep: matplotlib is not installed; pip install 'broadaxe[sweep]'", MissingToolError)
def without_matplotlib(tmp: Path) -> None:
    with mock.patch.object(importlib.util, "find_spec", lambda name: name != "matplotlib" or None):
        sweep(tmp)


@provokes(
    "settings: act_bits: 4 is for float models, this one has quantizers of its own; leave it out (--act-bits)",
    RequestError,
)
def activation_bits_of_a_quantized_model(tmp: Path) -> None:
    sweep(tmp, model=layer(), act_bits=4)


@provokes("settings: no run is left by apart 0 and headroom 3,4,5; allow more, or widen the ranges", RequestError)
def ranges_that_leave_nothing(tmp: Path) -> None:
    sweep(tmp, apart=0, headroom="3:5")


@provokes("test: has no labels, val has; give both or neither", RequestError)
def rows_to_report_without_labels(tmp: Path) -> None:
    sweep(tmp, validation=(X, LABELS), test=X)


@provokes("{tmp}/test.npz: labels go from 0 to 7, the model has 3 outputs; give classes 0 to 2", RequestError)
def labels_to_report_beyond_the_outputs(tmp: Path) -> None:
    np.savez(tmp / "test.npz", x=X, labels=np.arange(8))
    sweep(tmp, validation=(X, LABELS), test=tmp / "test.npz")


# The folder


@provokes("{tmp}/results/sweep: the folder that would hold it does not exist; create it first", RequestError)
def folder_below_nothing(tmp: Path) -> None:
    sweep(tmp, output=tmp / "results" / "sweep")


@provokes(".: is the current folder; name one in it, such as sweep", RequestError)
def current_folder(tmp: Path) -> None:
    sweep(tmp, output=".")


@provokes("{tmp}/sweep: is a file; choose another folder", RequestError)
def file_as_folder(tmp: Path) -> None:
    (tmp / "sweep").touch()
    sweep(tmp, output=tmp / "sweep")


@provokes("{tmp}/photos: exists, and sweep did not write it; choose another folder", RequestError)
def folder_of_something_else(tmp: Path) -> None:
    (tmp / "photos").mkdir()
    (tmp / "photos" / "cat.png").touch()
    sweep(tmp, output=tmp / "photos")


@provokes(
    "{tmp}/sweep: holds a sweep with acc_bits 6:8, this one has 6:9; choose another folder, or ask for the same",
    RequestError,
)
def folder_of_another_sweep(tmp: Path) -> None:
    made(tmp)
    ledgers.check_folder(tmp / "sweep", {"acc_bits": [6, 7, 8, 9]})


@provokes("{tmp}/sweep: cannot be written (Permission denied); choose another folder", RequestError)
def folder_that_may_not_be_made(tmp: Path) -> None:
    with mock.patch.object(Path, "mkdir", side_effect=PermissionError(13, "Permission denied")):
        made(tmp)


def made(tmp: Path, *lines: bytes) -> Path:
    """The folder of a sweep with lines in its sweep.csv."""
    make_folder(tmp / "sweep", RECORD)
    with (tmp / "sweep" / "sweep.csv").open("ab") as file:
        file.writelines(lines)
    return tmp / "sweep"


def row(*key: str, **cells: str) -> bytes:
    return line([*key, *(cells.get(name, "") for name in COLUMNS[4:])])


GOOD = row(*RUN.key, bits="8", offset_bits="8", signed_bits="9", validation="50")


@provokes("{tmp}/sweep: another sweep is at work there; wait for it, or choose another folder", RequestError)
def folder_in_use(tmp: Path) -> None:
    first = Ledger(made(tmp), [RUN])
    try:
        Ledger(tmp / "sweep", [RUN])
    finally:
        first.close()


@provokes("{tmp}/sweep/sweep.csv: is missing; choose another folder, or delete this one", RequestError)
def rows_that_are_missing(tmp: Path) -> None:
    (made(tmp) / "sweep.csv").unlink()
    Ledger(tmp / "sweep", [RUN])


@provokes(
    "{tmp}/sweep/sweep.csv: line 1 is not what sweep writes; choose another folder, or delete this one",
    RequestError,
)
def columns_of_another_file(tmp: Path) -> None:
    (made(tmp) / "sweep.csv").write_text("name,price\n")
    Ledger(tmp / "sweep", [RUN])


@provokes("{tmp}/sweep/sweep.csv: line 3 repeats a run; delete the line", RequestError)
def row_that_is_there_twice(tmp: Path) -> None:
    Ledger(made(tmp, GOOD, GOOD), [RUN])


@provokes("{tmp}/sweep/sweep.csv: line 2 is no run of this sweep; delete the line", RequestError)
def row_of_no_run(tmp: Path) -> None:
    Ledger(made(tmp, row("axe", "9", "9", "9")), [RUN])


@provokes("{tmp}/sweep/sweep.csv: line 2 holds no result; delete the line", RequestError)
def row_without_a_result(tmp: Path) -> None:
    Ledger(made(tmp, row(*RUN.key, bits="8", validation="nan")), [RUN])


@provokes(
    "{tmp}/sweep/sweep.csv: cannot be written (no space left on device); free some space, then run it again",
    RequestError,
)
def no_space_for_a_row(tmp: Path) -> None:
    ledger = Ledger(made(tmp), [RUN])
    try:
        with mock.patch.object(os, "write", return_value=3):
            ledger.append(RUN, {"error": "refused"})
    finally:
        ledger.close()


@provokes(
    "{tmp}/sweep.json: cannot be written (No space left on device); free some space, then run it again",
    RequestError,
)
def no_space_for_a_model(tmp: Path) -> None:
    with mock.patch.object(os, "fsync", side_effect=OSError(28, "No space left on device")):
        replace_file(tmp / "sweep.json", b"{}")


@provokes(
    "{tmp}/sweep/models/axe-W2-A3-P8.onnx: is missing; delete the run's line in {tmp}/sweep/sweep.csv and run it again",
    RequestError,
)
def model_that_was_deleted(tmp: Path) -> None:
    ledger = Ledger(made(tmp, GOOD), [RUN])
    try:
        _Work._model(types.SimpleNamespace(ledger=ledger), RUN)  # type: ignore[arg-type]
    finally:
        ledger.close()


# Workers


@provokes(
    "sweep: worker processes end before their first run (exit code 1, MemoryError: no room); free memory, or use"
    " fewer --jobs",
    RequestError,
)
def workers_that_do_not_start(tmp: Path) -> None:
    with mock.patch.object(workers, "START", "raise MemoryError('no room')"):
        list(local(None, [RUN], 1))  # type: ignore[arg-type]


# A cluster, played


class Client:
    """A scheduler that answers, with one worker that has what we have."""

    status, there = "running", True

    def __init__(self, *_: object, **__: object) -> None: ...

    def wait_for_workers(self, *_: object, **__: object) -> None: ...

    def run(self, function: Callable[[], object]) -> dict[str, object]:
        return {"tcp://10.0.0.2:4567": function()}

    def scatter(self, *_: object, **__: object) -> object:
        return types.SimpleNamespace(status="finished")

    def submit(self, *_: object, **__: object) -> object:
        return types.SimpleNamespace(add_done_callback=lambda _: None)

    def nthreads(self) -> dict[str, int]:
        return {"tcp://10.0.0.2:4567": 1} if self.there else {}

    def close(self, **_: object) -> None: ...


@contextmanager
def cluster(**changes: Any) -> Iterator[Cluster]:
    """A connection to a scheduler that does some things otherwise."""
    played = types.SimpleNamespace(Client=type("Played", (Client,), changes), Future=object, KilledWorker=KeyError)
    with mock.patch.dict(sys.modules, distributed=played):  # type: ignore[dict-item]
        yield Cluster("tcp://10.0.0.1:8786")


def raising(error: Exception) -> Callable[..., object]:
    def refuse(*_: object, **__: object) -> object:
        raise error

    return refuse


@provokes("--scheduler: distributed is not installed; pip install 'broadaxe[cluster]'", MissingToolError)
def without_distributed(tmp: Path) -> None:
    with mock.patch.dict(sys.modules, distributed=None):  # type: ignore[dict-item]
        Cluster("tcp://10.0.0.1:8786")


@provokes(
    "--scheduler tcp://10.0.0.1:8786: does not answer (Timed out trying to connect to tcp://10.0.0.1:8786 after 20"
    " s); start it with `dask scheduler` and give its address, such as tcp://host:8786",
    RequestError,
)
def scheduler_that_does_not_answer(tmp: Path) -> None:
    with cluster(__init__=raising(OSError("Timed out trying to connect to tcp://10.0.0.1:8786 after 20 s"))):
        pass


@provokes(
    "--scheduler tcp://10.0.0.1:8786: has no workers; start some with `dask worker tcp://10.0.0.1:8786`",
    RequestError,
)
def scheduler_without_workers(tmp: Path) -> None:
    with cluster(wait_for_workers=raising(TimeoutError())):
        pass


@provokes(
    "--scheduler tcp://10.0.0.1:8786: its workers cannot run broadaxe (ModuleNotFoundError: No module named"
    " 'broadaxe'); install broadaxe[sweep] 0.1.0 where they run",
    RequestError,
)
def workers_without_broadaxe(tmp: Path) -> None:
    with cluster(run=raising(ModuleNotFoundError("No module named 'broadaxe'"))):
        pass


@provokes(
    "--scheduler tcp://10.0.0.1:8786: worker tcp://10.0.0.2:4567 has broadaxe 0.0.1, this command has 0.1.0; install"
    " the same, results depend on it",
    RequestError,
)
def workers_of_another_version(tmp: Path) -> None:
    theirs = dict.fromkeys(clusters.versions(), "0.0.1")
    with (
        mock.patch.object(clusters, "__version__", "0.1.0"),
        cluster(run=lambda *_: {"tcp://10.0.0.2:4567": theirs}),
    ):
        pass


@provokes(
    "--scheduler tcp://10.0.0.1:8786: model and data could not be sent (TimeoutError); check its workers",
    RequestError,
)
def data_that_does_not_arrive(tmp: Path) -> None:
    with cluster(scatter=raising(TimeoutError())) as connected:
        list(connected.run(types.SimpleNamespace(digest=""), [RUN]))  # type: ignore[arg-type]


@provokes(
    "--scheduler tcp://10.0.0.1:8786: has no workers any more, 1 of 1 runs are left; run the same command again to go"
    " on",
    RequestError,
)
def cluster_that_loses_its_workers(tmp: Path) -> None:
    with (
        mock.patch.object(clusters, "LOST_SECONDS", -1),
        mock.patch.object(clusters, "POLL_SECONDS", 0.01),
        cluster(there=False) as connected,
    ):
        list(connected.run(types.SimpleNamespace(digest=""), [RUN]))  # type: ignore[arg-type]


@provokes(
    "--scheduler tcp://10.0.0.1:8786: is gone, 1 of 1 runs are left; run the same command again to go on",
    RequestError,
)
def scheduler_that_ends(tmp: Path) -> None:
    with mock.patch.object(clusters, "POLL_SECONDS", 0.01), cluster(status="closed") as connected:
        list(connected.run(types.SimpleNamespace(digest=""), [RUN]))  # type: ignore[arg-type]
