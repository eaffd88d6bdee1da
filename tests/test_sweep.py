"""Sweeps: the grid, the folder, who computes what when processes die, and what is refused."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import Network

import broadaxe
from broadaxe import cli
from broadaxe.errors import MissingToolError, RequestError
from broadaxe.evaluation import Judge, read_rows, rows_from, rows_of, shared_rows
from broadaxe.sweeps import sweep as sweeps
from broadaxe.sweeps.config import Run, numbers, sweep_config
from broadaxe.sweeps.frontier import frontier
from broadaxe.sweeps.job import Result
from broadaxe.sweeps.ledger import COLUMNS, Ledger, line, make_folder
from broadaxe.sweeps.workers import Single, local

GRID = {"acc_bits": "6:8", "weight_bits": "2,3", "act_bits": [3], "methods": "axe,axe-search,optq,rtn"}
RUNS = 2 * (2 * 3 + 2)


def float_model():
    net = Network(8, seed=3)
    y = net.node("Relu", net.node("MatMul", "x", net.rng.normal(size=(8, 12)), name="first"))
    return net.finish(net.node("MatMul", y, net.rng.normal(size=(12, 4)), name="second"))


def data(count, seed, labelled=True):
    x = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    (y,) = Judge(rows_of({"x": x}), float_model()).wanted
    return {"x": x} | ({"labels": y.argmax(1)} if labelled else {})


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    onnx.save(float_model(), folder / "model.onnx")
    np.savez(folder / "calib.npz", **data(64, 1, labelled=False))
    np.savez(folder / "val.npz", **data(80, 2))
    np.savez(folder / "test.npz", **data(90, 3))
    return folder


def request(files):
    return {"model": files / "model.onnx", "calibration": files / "calib.npz", "validation": files / "val.npz"} | GRID


@pytest.fixture(scope="module")
def serial(files):
    """What one worker gives."""
    return broadaxe.search.sweep(**request(files), test=files / "test.npz", output=files / "serial", jobs=1)


def read(folder):
    with (folder / "sweep.csv").open() as stream:
        return list(csv.DictReader(stream))


def assert_same(folder, serial):
    """Row for row, in one order; everything but the time."""
    rows, wanted = ([{**row, "seconds": ""} for row in read(path)] for path in (folder, serial.folder))
    assert rows == wanted
    frontiers = [json.loads((path / "sweep.json").read_text())["frontier"] for path in (folder, serial.folder)]
    assert frontiers[0] == frontiers[1]
    for entry in frontiers[0]:
        assert (folder / entry["model"]).read_bytes() == (serial.folder / entry["model"]).read_bytes()


# The grid

RANGES = {
    "8:11": (8, 9, 10, 11),
    "8:20:4": (8, 12, 16, 20),
    "8:11:2": (8, 10),
    "10,8,10": (8, 10),
    "2, 4:6": (2, 4, 5, 6),
    "-1:1": (-1, 0, 1),
}


@pytest.mark.parametrize(("text", "wanted"), RANGES.items(), ids=RANGES)
def test_ranges(text, wanted):
    assert numbers(text) == wanted
    assert sweep_config(acc_bits=[8], headroom=text).headroom == wanted


def test_numbers_from_python():
    assert sweep_config(acc_bits=range(8, 10), weight_bits=3, act_bits=[4, "6:7"]).model_dump(
        exclude_defaults=True
    ) == {
        "acc_bits": (8, 9),
        "weight_bits": (3,),
        "act_bits": (4, 6, 7),
    }


SHAPES = "give a range such as 8:20 or 8:20:2 (both ends are in it), or a list such as 8,10,12"
METHODS = "use axe, axe-search, best, project, project-search, optq, gpfq or rtn"
WRONG = {
    "text": ({"acc_bits": "8-20"}, f"acc_bits: '8-20' is no whole number and no range; {SHAPES}"),
    "empty": ({"acc_bits": "9:8"}, f"acc_bits: 9:8 holds no number; {SHAPES}"),
    "step": ({"acc_bits": "8:9:0"}, f"acc_bits: 8:9:0 holds no number; {SHAPES}"),
    "huge": (
        {"acc_bits": "1:9999"},
        f"acc_bits: 1:9999 holds more than 1000 numbers; {SHAPES}",
    ),
    "wide": ({"acc_bits": "48,49"}, "acc_bits: 49 is not allowed; give a whole number from 1 to 48"),
    "activations": (
        {"acc_bits": 8, "act_bits": "1:3"},
        "act_bits: 1 is not allowed; give a whole number from 2 to 16",
    ),
    "method": ({"acc_bits": 8, "methods": "best,gptq"}, f"methods: 'gptq' is not allowed; {METHODS}"),
    "none": ({"weight_bits": 3}, f"acc_bits: is missing, axe-search needs a budget; {SHAPES}"),
    "taken": ({"acc_bits": 8, "quantize": {"preset": "axe"}}, "quantize.preset: is what a sweep varies; leave it out"),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_settings_that_are_not_allowed(options, message):
    with pytest.raises(RequestError) as refusal:
        sweep_config(**options)
    assert str(refusal.value) == f"settings: {message}"


def test_runs_of_a_grid():
    config = sweep_config(acc_bits="7,8", weight_bits="2,3", act_bits="2,5", methods="best,optq")
    runs = config.runs(floats=True)
    assert len(runs) == len(set(runs)) == 2 * 2 * 3
    assert runs[:3] == (Run("best", 2, 2, 7), Run("best", 2, 2, 8), Run("optq", 2, 2, None))
    assert len(config.model_copy(update={"apart": 2}).runs(floats=True)) == 3 * 3
    near = config.model_copy(update={"headroom": (0, 1)}).runs(floats=True)
    assert [str(run) for run in near] == [
        *("best W2A5 P=7", "best W2A5 P=8", "optq W2A5"),
        *("best W3A5 P=8", "optq W3A5"),
    ]
    own = sweep_config(acc_bits=8, methods="best,gpfq").runs(floats=False)
    assert own == (Run("best", None, None, 8), Run("gpfq", None, None, None))


def test_a_frontier_does_not_depend_on_the_order_of_rows():
    config = sweep_config(acc_bits="6:9", weight_bits="2:5", methods="best")
    runs = config.runs(floats=True)
    rng = np.random.default_rng(1)
    figures = {
        run: {
            "bits": str(rng.integers(5, 11)),
            "validation": str(rng.integers(90, 93)),
            "output_error": "0.1",
            "error": "",
        }
        for run in runs
    }
    wanted = frontier(config, figures, runs)
    for p, point in zip(config.acc_bits, wanted, strict=True):
        fitting = [float(row["validation"]) for row in figures.values() if int(row["bits"]) <= p]
        assert (point.p, point.validation, point.bits <= p) == (p, max(fitting), True)
    for _ in range(5):
        order = rng.permutation(len(runs))
        assert frontier(config, {runs[k]: figures[runs[k]] for k in order}, runs) == wanted


# A sweep


def test_rows_are_what_quantize_gives(serial, files):
    assert len(serial.rows) == RUNS
    validation = Judge(read_rows(files / "val.npz", float_model()), float_model())
    calib = np.load(files / "calib.npz")["x"]
    presets = {"optq": {"preset": "axe"}, "rtn": {"preset": "rtn"}}
    for row in serial.rows:
        m, n = int(row["M"]), int(row["N"])
        options = presets.get(row["method"]) or {"preset": row["method"], "acc_bits": int(row["P"])}
        found = broadaxe.quantize(float_model(), calib, weight_bits=m, act_bits=n, input_bits=n, **options)
        assert row["error"] == ""
        assert row["bits"] == str(max(layer.width for layer in found.record.layers))
        assert int(row["offset_bits"]) <= int(row["signed_bits"])
        assert row["validation"] == f"{validation(found.model):.4f}"
        assert row["output_error"] == f"{found.record.output_error:.5g}"
        assert (row["P"] == "") == (row["method"] in presets)


def test_what_is_in_the_folder(serial):
    folder = serial.folder
    record = json.loads((folder / "sweep.json").read_text())
    assert sorted(p.name for p in folder.iterdir()) == ["models", "pareto.png", "pareto.svg", "sweep.csv", "sweep.json"]
    assert (record["state"], record["runs"], record["warnings"]) == ("complete", RUNS, [])
    assert {role: given["samples"] for role, given in record["rows"].items()} == {"calib": 64, "val": 80, "test": 90}
    assert "after the last choice" in record["rows"]["test"]["does"]
    assert {"models/" + p.name for p in (folder / "models").iterdir()} == {e["model"] for e in record["frontier"]}
    assert record["as_given"] == {"validation": 100.0, "test": 100.0}
    assert [session["rows_before"] for session in record["sessions"]] == [0]
    assert "runs chosen by validation" in (folder / "pareto.svg").read_text() or (folder / "pareto.svg").stat().st_size
    assert f"the model as given: 100.00 / 100.00; {RUNS} runs" in str(serial)
    test = Judge(read_rows(folder.parent / "test.npz", float_model()), float_model())
    for entry in record["frontier"]:
        model = onnx.load(folder / entry["model"])
        assert entry["test"] == round(test(model), 4)
        assert entry["bits"] <= entry["P"]
        assert entry["validation"] == max(
            float(row["validation"])
            for row in serial.rows
            if row["method"] == entry["method"] and int(row["bits"]) <= entry["P"]
        )


def test_test_rows_choose_nothing_and_come_last(serial, files, tmp_path, monkeypatch):
    """Other labels on test rows leave every row and choice as it is; and no network sees a test row while runs are left."""
    other = dict(np.load(files / "test.npz"))
    other["labels"] = (other["labels"] + 1) % 4
    seen = []

    class Watched(Judge):
        def __init__(self, rows, *rest, **options):
            seen.append((rows.source, len(read(tmp_path / "out")) if (tmp_path / "out").exists() else None))
            super().__init__(rows, *rest, **options)

    monkeypatch.setattr(sweeps, "Judge", Watched)
    result = broadaxe.search.sweep(**request(files), test=other, output=tmp_path / "out", jobs=2)
    assert seen == [(str(files / "val.npz"), None), ("test", RUNS)]
    assert result.frontier == serial.frontier
    assert set(result.test) == {point.run for point in result.frontier}
    assert [{**row, "seconds": ""} for row in result.rows] == [{**row, "seconds": ""} for row in serial.rows]


def test_a_run_that_is_refused_is_a_row(files, tmp_path):
    options = request(files) | {"acc_bits": "2,12", "weight_bits": 1, "methods": "best"}
    result = broadaxe.search.sweep(**options, output=tmp_path / "out", jobs=1)
    refused, good = result.rows
    assert refused["error"].startswith("first (MatMul): no bipolar weights fit 2 accumulator bits; give it ")
    assert (refused["bits"], refused["validation"], good["error"]) == ("", "", "")
    assert [(point.p, point.run.p) for point in result.frontier] == [(12, 12)]
    assert str(result).splitlines()[0].startswith("accuracy in % on validation rows")
    assert "2 runs, 1 refused" in str(result)


def test_without_labels_the_score_is_fidelity(files, tmp_path):
    options = request(files) | {"methods": "optq,gpfq", "weight_bits": 4, "acc_bits": None}
    options["validation"] = data(40, 5, labelled=False)["x"]
    result = broadaxe.search.sweep(**options, output=tmp_path / "out", jobs=1)
    assert (result.metric, result.test, result.floats) == ("fidelity", {}, {"validation": 100.0})
    assert all(50 < float(row["validation"]) < 100 for row in result.rows)
    assert {point.p for point in result.frontier} == {int(row["bits"]) for row in result.rows}


def test_rows_with_two_roles_draw_warnings(files, tmp_path):
    calib, val = np.load(files / "calib.npz")["x"], dict(np.load(files / "val.npz"))
    test = {"x": np.concatenate([calib[:3], data(20, 9)["x"]]), "labels": np.zeros(23, int)}
    (files / "link.npz").unlink(missing_ok=True)
    os.link(files / "val.npz", files / "link.npz")
    options = request(files) | {"methods": "rtn", "acc_bits": None, "jobs": 1}
    result = broadaxe.search.sweep(**options, output=tmp_path / "a", test=files / "link.npz")
    same = "val and test share 80 of the 80 rows of test (one file): test figures are not independent of the choice"
    assert result.warnings == (same,)
    assert f"warning: {same}" in str(result)
    assert json.loads((tmp_path / "a" / "sweep.json").read_text())["warnings"] == [same]
    mixed = {"x": np.concatenate([val["x"], calib[:5]]), "labels": np.concatenate([val["labels"], np.zeros(5, int)])}
    rows = {"calib": calib, "val": mixed, "test": test}
    assert tuple(shared_rows({role: rows_from(given, float_model(), role) for role, given in rows.items()})) == (
        "calib and val share 5 of the 85 rows of val: validation knows rows that weights were solved for",
        "val and test share 3 of the 23 rows of test: test figures are not independent of the choice",
        "calib and test share 3 of the 23 rows of test: test figures know rows that weights were solved for",
    )


def test_a_model_with_quantizers_of_its_own(files, tmp_path):
    net = Network(8, seed=3)
    y = net.quant(net.node("Relu", net.node("MatMul", net.quant("x"), net.weights(8, 6), name="a")), signed=0)
    model = net.finish(net.node("MatMul", y, net.weights(6, 4), name="b"))
    options = {"acc_bits": "7,8", "methods": "axe,rtn"}
    x = data(50, 4, labelled=False)["x"]
    with pytest.raises(RequestError) as refusal:
        broadaxe.search.sweep(model, x[:20], x[20:], tmp_path / "out", act_bits=4, **options)
    assert str(refusal.value) == (
        "settings: act_bits: 4 is for float models, this one has quantizers of its own; leave it out (--act-bits)"
    )
    assert not (tmp_path / "out").exists()
    result = broadaxe.search.sweep(model, x[:20], x[20:], tmp_path / "out", jobs=1, **options)
    assert [(r["method"], r["M"], r["N"], r["P"], r["error"]) for r in result.rows] == [
        ("axe", "", "", "7", ""),
        ("axe", "", "", "8", ""),
        ("rtn", "", "", "", ""),
    ]


# Processes that die


@dataclass(frozen=True)
class Fragile:
    """Material whose runs of 7 bits end their worker: those of 2-bit weights once, others always."""

    folder: str

    def bench(self):
        return self

    def measure(self, run):
        with open(f"{self.folder}/{'-'.join(run.key)}", "a") as log:
            log.write("x")
            log.flush()
        if run.p == 7 and (run.m != 2 or Path(log.name).stat().st_size == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        return Result({"bits": str(run.p)}, None)


def test_a_run_that_ends_its_worker_goes_to_another_once(tmp_path):
    runs = [Run("axe", m, 4, p) for m in (2, 3) for p in (6, 7, 8)]
    found = list(local(Fragile(str(tmp_path)), runs, 2))
    assert sorted(run.key for run, _ in found) == sorted(run.key for run in runs)
    cells = {run: result.cells for run, result in found}
    assert cells.pop(Run("axe", 3, 4, 7)) == {
        "error": "its worker died (signal 9), 2 times; give it more memory, or use fewer --jobs"
    }
    assert all(given == {"bits": str(run.p)} for run, given in cells.items())
    counts = {name.name: name.stat().st_size for name in tmp_path.iterdir()}
    assert counts == {"-".join(run.key): 2 if run.p == 7 else 1 for run in runs}


def test_a_process_that_is_kept(tmp_path):
    kept = Single(Fragile(str(tmp_path)))
    cells = [kept.measure(Run("axe", m, 4, p)).cells for m, p in ((2, 6), (2, 7), (3, 7), (3, 8))]
    kept.close()
    died = "its worker died (signal 9), 2 times; give it more memory, or use fewer --jobs"
    assert cells == [{"bits": "6"}, {"bits": "7"}, {"error": died}, {"bits": "8"}]


@dataclass(frozen=True)
class Stillborn:
    def bench(self):
        raise MemoryError("no room")


def test_workers_that_never_start():
    with pytest.raises(RequestError) as refusal:
        list(local(Stillborn(), [Run("axe", 2, 2, 8)], 2))
    assert str(refusal.value) == (
        "sweep: worker processes end before their first run (exit code 1, MemoryError: no room); free memory, or use fewer"
        " --jobs"
    )


def workers_of(pid):
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            if b"workers.serve" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes in /proc; run it on Linux")
def test_a_killed_worker_loses_nothing(serial, files, tmp_path):
    killed = []

    def progress(status):
        if status.done >= 2 and not killed:
            killed.extend(workers_of(os.getpid())[:1])
            os.kill(killed[0], signal.SIGKILL)

    broadaxe.search.sweep(**request(files), test=files / "test.npz", output=tmp_path / "out", jobs=2, progress=progress)
    assert killed
    assert_same(tmp_path / "out", serial)


def words(files, out, *more):
    options = (
        f"--{name.replace('_', '-')}={','.join(map(str, v)) if isinstance(v, list) else v}" for name, v in GRID.items()
    )
    given = (f"--{role}={files / role}.npz" for role in ("calib", "val", "test"))
    return ["sweep", str(files / "model.onnx"), *given, *options, "-o", str(out), *more]


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes in /proc; run it on Linux")
def test_a_killed_command_goes_on(serial, files, tmp_path):
    """kill -9 and a torn line at the end: the same rows as without, none lost, none computed again."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "broadaxe.cli", *words(files, out, "--jobs=2")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as running:
        while running.poll() is None and (not out.exists() or len(read(out)) < 3):
            time.sleep(0.01)
        workers = workers_of(running.pid)
        assert running.poll() is None
        running.kill()
    content = (out / "sweep.csv").read_bytes()
    kept = content[: content.rfind(b"\n") + 1].splitlines()
    assert 4 <= len(kept) <= RUNS
    until = time.monotonic() + 20
    while not all(map(gone, workers)) and time.monotonic() < until:
        time.sleep(0.05)
    assert len(workers) == 2
    assert all(map(gone, workers))
    with (out / "sweep.csv").open("ab") as stream:
        stream.write(b"axe,2,3,")
    (out / ".sweep.json.1.partial").write_text("{")
    said = []
    again = request(files) | {
        "test": files / "test.npz",
        "output": out,
        "progress": lambda status: said.append(str(status)),
    }
    broadaxe.search.sweep(**again, jobs=1)
    assert (
        said[1] == f"{len(kept) - 1} of {RUNS} runs are there already, {RUNS - len(kept) + 1} runs on 1 local process"
    )
    assert len(said) == 2 + RUNS - len(kept) + 1 + 1
    assert set(kept) <= set((out / "sweep.csv").read_bytes().splitlines())  # times too: not run again
    assert_same(out, serial)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    said.clear()
    broadaxe.search.sweep(**again)
    assert said == ["reading model and data"]
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


# A cluster


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip(
        "distributed", reason="dask.distributed is missing; pip install 'broadaxe[cluster]'"
    )
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as started:
        yield started


def test_a_cluster_that_loses_a_worker_loses_nothing(cluster, serial, files, tmp_path):
    killed = []

    def progress(status):
        if status.done >= 2 and not killed:
            killed.append(next(iter(cluster.workers.values())).process.pid)
            os.kill(killed[0], signal.SIGKILL)

    broadaxe.search.sweep(
        **request(files),
        test=files / "test.npz",
        output=tmp_path / "out",
        scheduler=cluster.scheduler_address,
        progress=progress,
    )
    assert killed
    assert_same(tmp_path / "out", serial)


def test_a_cluster_that_is_lost_is_said_and_the_sweep_goes_on_elsewhere(serial, files, tmp_path):
    distributed = pytest.importorskip(
        "distributed", reason="dask.distributed is missing; pip install 'broadaxe[cluster]'"
    )
    started = distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=50)
    address = started.scheduler_address

    def progress(status):
        if status.done == 2:
            started.close(timeout=10)

    with pytest.raises(RequestError) as lost:
        broadaxe.search.sweep(
            **request(files), test=files / "test.npz", output=tmp_path / "out", scheduler=address, progress=progress
        )
    assert str(lost.value).startswith(f"--scheduler {address}: is gone, ")
    assert str(lost.value).endswith(f" of {RUNS} runs are left; run the same command again to go on")
    assert 2 <= len(read(tmp_path / "out")) < RUNS
    broadaxe.search.sweep(**request(files), test=files / "test.npz", output=tmp_path / "out", jobs=2)
    assert_same(tmp_path / "out", serial)


def test_no_scheduler_there(files, tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="dask.distributed is missing; pip install 'broadaxe[cluster]'")
    from broadaxe.sweeps import cluster

    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    with pytest.raises(RequestError) as refusal:
        broadaxe.search.sweep(**request(files), output=tmp_path / "out", scheduler="tcp://127.0.0.1:1")
    assert str(refusal.value).startswith("--scheduler tcp://127.0.0.1:1: does not answer (")
    assert str(refusal.value).endswith("; start it with `dask scheduler` and give its address, such as tcp://host:8786")
    assert not (tmp_path / "out").exists()


# What is refused


def refusal_of(files, output, **changes):
    with pytest.raises(RequestError) as refusal:
        broadaxe.search.sweep(**request(files) | {"test": files / "test.npz", "output": output, "jobs": 1} | changes)
    return str(refusal.value)


def test_another_request_in_the_same_folder(serial, files):
    folder = serial.folder
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    end = "; choose another folder, or ask for the same"
    changed = {"acc_bits": "6:9"}
    assert refusal_of(files, folder, **changed) == f"{folder}: holds a sweep with acc_bits 6:8, this one has 6:9{end}"
    message = f"{folder}: holds a sweep with methods axe,axe-search,optq,rtn, this one has axe{end}"
    assert refusal_of(files, folder, methods="axe") == message
    other = refusal_of(files, folder, validation=data(30, 8))
    assert other.startswith(f"{folder}: holds a sweep with val ")
    assert other.endswith(end)
    assert refusal_of(files, folder, test=None).startswith(f"{folder}: holds a sweep with test ")
    model = float_model()
    model.producer_name = "another"
    assert refusal_of(files, folder, model=model).startswith(f"{folder}: holds a sweep with model ")
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_folders_that_are_not_ours(files, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "sweep.json").write_text("{}")
    message = f"{tmp_path / 'mine'}: exists, and sweep did not write it; choose another folder"
    assert refusal_of(files, tmp_path / "mine") == message
    (tmp_path / "file").touch()
    assert refusal_of(files, tmp_path / "file") == f"{tmp_path / 'file'}: is a file; choose another folder"
    message = f"{tmp_path / 'a' / 'b'}: the folder that would hold it does not exist; create it first"
    assert refusal_of(files, tmp_path / "a" / "b") == message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "mine"]


def test_a_folder_in_use_and_damaged_rows(serial, files, tmp_path):
    folder = tmp_path / "copy"
    subprocess.run(["cp", "-r", serial.folder, folder], check=True)
    held = os.open(folder, os.O_RDONLY)
    import fcntl

    fcntl.flock(held, fcntl.LOCK_EX)
    message = f"{folder}: another sweep is at work there; wait for it, or choose another folder"
    assert refusal_of(files, folder) == message
    os.close(held)
    content = (folder / "sweep.csv").read_bytes()
    for added, wrong in ((content.splitlines()[1], "repeats a run"), (b"axe,9,9,9", "is no run of this sweep")):
        (folder / "sweep.csv").write_bytes(content + added + b"\n")
        message = f"{folder / 'sweep.csv'}: line {RUNS + 2} {wrong}; delete the line"
        assert refusal_of(files, folder) == message
    cells = content.splitlines()[1].split(b",")
    damaged = b",".join([*cells[:4], b"nan", *cells[5:]])
    (folder / "sweep.csv").write_bytes(content.replace(content.splitlines()[1], damaged))
    assert refusal_of(files, folder) == f"{folder / 'sweep.csv'}: line 2 holds no result; delete the line"
    (folder / "sweep.csv").write_bytes(b"a,b\n")
    message = f"{folder / 'sweep.csv'}: line 1 is not what sweep writes; choose another folder, or delete this one"
    assert refusal_of(files, folder) == message


def test_a_torn_line_is_cut_off(tmp_path):
    runs = [Run("axe", 2, 3, 8), Run("axe", 2, 3, 9)]
    make_folder(tmp_path / "a", {"broadaxe": "", "request": {}})
    path = tmp_path / "a" / "sweep.csv"
    with path.open("ab") as stream:
        stream.write(line(["axe", "2", "3", "8"])[:-3])
    for known, run in enumerate(runs):
        ledger = Ledger(tmp_path / "a", runs)
        assert list(ledger.rows) == runs[:known]
        ledger.append(run, {"bits": "8", "error": "a, b"})
        ledger.close()
    wanted = [COLUMNS, *(line([*run.key, "8", *[""] * 5, "a, b"]) for run in runs)]
    assert path.read_bytes() == line(wanted[0]) + b"".join(wanted[1:])


def test_a_line_survives_commas_and_quotes():
    cells = ["axe", "2", "", "8", *[""] * 6, 'a "b", c']
    assert list(csv.reader([line(cells).decode()])) == [cells]
    assert len(cells) == len(COLUMNS)


def test_missing_packages(files, tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps.importlib.util, "find_spec", lambda name: name != "matplotlib" or None)
    with pytest.raises(MissingToolError) as missing:
        broadaxe.search.sweep(**request(files), output=tmp_path / "out")
    assert str(missing.value) == "sweep: matplotlib is not installed; pip install 'broadaxe[sweep]'"
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingToolError) as missing:
        broadaxe.search.sweep(**request(files), output=tmp_path / "out", scheduler="tcp://127.0.0.1:1")
    assert str(missing.value) == "--scheduler: distributed is not installed; pip install 'broadaxe[cluster]'"
    assert not (tmp_path / "out").exists()


COMMANDS = {
    "range": (["--acc-bits=8-9"], f"--acc-bits: '8-9' is no whole number and no range; {SHAPES}"),
    "jobs": (["--jobs=0"], "sweep: jobs: 0 is not allowed; give 1 or more"),
    "both": (
        ["--jobs=1", "--scheduler=tcp://a:1"],
        "sweep: got jobs 1 and scheduler tcp://a:1; jobs are local processes, give one or the other",
    ),
    "data": (["--val=wrong.npz"], "{dir}/wrong.npz: input x has shape (5, 7); give (samples, 8)"),
    "test labels": (
        ["--test=labels.npz"],
        "{dir}/labels.npz: labels go from 0 to 4, the model has 4 outputs; give classes 0 to 3",
    ),
    "no labels": (["--test=calib.npz"], "test: has no labels, val has; give both or neither"),
    "pruned": (["--headroom=40"], "settings: no run is left by headroom 40; allow more, or widen the ranges"),
    "setting": (
        ["--config=bad.yaml"],
        "{dir}/bad.yaml:1: speed: is unknown; known settings are acc_bits, weight_bits, act_bits, methods, apart, headroom,"
        " quantize",
    ),
    "common setting": (
        ["--config=common.yaml"],
        "{dir}/common.yaml:1: quantize.scales: 'x' is not allowed; use float, pow2 or dyadic:8",
    ),
}


@pytest.mark.parametrize(("given", "message"), COMMANDS.values(), ids=COMMANDS)
def test_a_wrong_command_is_one_line_and_leaves_nothing(given, message, files, tmp_path, monkeypatch, capsys):
    np.savez(files / "wrong.npz", x=np.zeros((5, 7)), labels=np.zeros(5, int))
    np.savez(files / "labels.npz", x=np.zeros((5, 8)), labels=np.arange(5))
    (files / "bad.yaml").write_text("speed: 8\n")
    (files / "common.yaml").write_text("quantize: {scales: x}\n")
    given = [
        f"{w.partition('=')[0]}={files / w.partition('=')[2]}" if w.endswith(("npz", "yaml")) else w for w in given
    ]
    monkeypatch.setattr(sys, "argv", ["broadaxe", *words(files, tmp_path / "out"), *given])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    printed = capsys.readouterr()
    assert (stop.value.code, printed.out) == (2, "")
    assert printed.err.splitlines()[-1] == f"error: {message.format(dir=files)}"
    assert list(tmp_path.iterdir()) == []
