"""Runs on a dask.distributed cluster.

Model and data are scattered once, to every worker; each worker hands them to a process of its own, as local ones are, and
keeps that: threads of a dask worker would take turns with its event loop. A dask worker that dies gives its runs to others:
dask does that, at most as often as its setting distributed.scheduler.allowed-failures says, and then the run is recorded
as failed.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from broadaxe.errors import MissingToolError, RequestError
from broadaxe.sweeps.config import Run
from broadaxe.sweeps.job import Material, Result
from broadaxe.sweeps.workers import Single
from broadaxe.version import __version__

CONNECT_SECONDS = 20
LOST_SECONDS = 60
"""How long a cluster may be without any worker, or without its scheduler."""
POLL_SECONDS = 2
ATTEMPTS = 3
PACKAGES = ("torch", "numpy", "onnx", "onnxruntime")
_kept: dict[str, Single] = {}
_lock = threading.Lock()


def versions() -> dict[str, str]:
    """Of what results may depend on, in this process."""
    found = {"broadaxe": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def measure(material: Material, digest: str, run: Run) -> Result:
    """On a worker: one run at a time, in one process for all of them."""
    with _lock:
        if digest not in _kept:
            for other in _kept.values():
                other.close()
            _kept.clear()
            _kept[digest] = Single(material)
        return _kept[digest].measure(run)


class Cluster:
    """A connection to a scheduler.

    Raises:
        MissingToolError: dask.distributed is not installed.
        RequestError: nobody answers, there are no workers, or they lack this version of Broadaxe.
    """

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
        except ModuleNotFoundError as error:
            raise MissingToolError(
                f"--scheduler: {error.name} is not installed; pip install 'broadaxe[cluster]'"
            ) from None
        self.address = address
        self.name = f"the cluster at {address}"
        try:
            self.client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            reason = str(error).splitlines()[0][:120] or type(error).__name__
            raise RequestError(
                f"--scheduler {address}: does not answer ({reason}); start it with `dask scheduler` and give its address, such"
                " as tcp://host:8786"
            ) from None
        try:
            self._check_workers()
        except BaseException:
            self.close()
            raise

    def _check_workers(self) -> None:
        try:
            self.client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError:
            raise RequestError(
                f"--scheduler {self.address}: has no workers; start some with `dask worker {self.address}`"
            ) from None
        try:
            found = self.client.run(versions)
        except Exception as error:
            raise RequestError(
                f"--scheduler {self.address}: its workers cannot run broadaxe ({type(error).__name__}: {error}); install"
                f" broadaxe[sweep] {__version__} where they run"
            ) from None
        ours = versions()
        for worker, theirs in found.items():
            differing = next((name for name in ours if theirs[name] != ours[name]), None)
            if differing is not None:
                raise RequestError(
                    f"--scheduler {self.address}: worker {worker} has {differing} {theirs[differing]}, this command has"
                    f" {ours[differing]}; install the same, results depend on it"
                )

    def run(self, material: Material, runs: Sequence[Run]) -> Iterator[tuple[Run, Result]]:
        """Results as they come, each once.

        Raises:
            RequestError: the scheduler or all workers are gone for a minute.
        """
        from distributed import Future, KilledWorker

        digest, answers = material.digest, queue.SimpleQueue[tuple[Run, Future]]()
        waiting: dict[Run, Future] = {}
        attempts = dict.fromkeys(runs, 0)
        scattered = self._scatter(material)

        def submit(run: Run) -> None:
            attempts[run] += 1
            future = self.client.submit(measure, scattered, digest, run, pure=False, retries=0)
            waiting[run] = future
            future.add_done_callback(lambda done: answers.put((run, done)))

        for run in runs:
            submit(run)
        healthy = time.monotonic()
        while waiting:
            try:
                run, future = answers.get(timeout=POLL_SECONDS)
            except queue.Empty:
                healthy = self._still(healthy, len(waiting), len(runs))
                continue
            if run not in waiting or waiting[run] is not future:
                continue
            if future.status == "finished":
                try:
                    result = future.result(timeout=LOST_SECONDS)
                except Exception:  # the result went with its worker
                    self._still(healthy, len(waiting), len(runs))
                    result = None
            elif future.status == "error":
                error = future.exception(timeout=LOST_SECONDS)
                text = f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"
                if isinstance(error, KilledWorker):
                    text = "its worker died, again and again; give workers more memory"
                result = Result({"error": text}, None)
            else:  # cancelled: model and data went with the last worker that held them, or the client is closing
                result = None
            if result is None and attempts[run] < ATTEMPTS and self.client.status == "running":
                scattered = self._scatter(material) if scattered.status != "finished" else scattered
                submit(run)
                continue
            if result is None:
                self._still(0.0 if self.client.status != "running" else healthy, len(waiting), len(runs))
                result = Result({"error": f"its result was lost with its worker, {ATTEMPTS} times; run it alone"}, None)
            healthy = time.monotonic()
            del waiting[run]
            yield run, result

    def _scatter(self, material: Material) -> Any:
        try:
            return self.client.scatter(material, broadcast=True, hash=False, timeout=LOST_SECONDS)
        except Exception as error:
            raise RequestError(
                f"--scheduler {self.address}: model and data could not be sent ({type(error).__name__}); check its workers"
            ) from None

    def _still(self, healthy: float, left: int, total: int) -> float:
        """Since when the cluster has been healthy; RequestError when that is too long ago."""
        try:
            alive = self.client.status == "running" and bool(self.client.nthreads())
        except Exception:
            alive = False
        now = time.monotonic()
        if alive:
            return now
        if self.client.status == "closed" or now - healthy > LOST_SECONDS:
            what = "has no workers any more" if self.client.status == "running" else "is gone"
            raise RequestError(
                f"--scheduler {self.address}: {what}, {left} of {total} runs are left; run the same command again to go on"
            )
        return healthy

    def close(self) -> None:
        with suppress(Exception):  # gone already
            self.client.close(timeout=5)
