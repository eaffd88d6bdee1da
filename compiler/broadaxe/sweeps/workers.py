"""Runs on processes of this machine.

A worker is a fresh interpreter (nothing is forked: torch may be loaded here) that shares a socket with this process. It gets
the material once, says that it is ready, and then a run at a time. Either side notices the end of the other by the end of the
socket, so a killed command leaves no workers behind and a killed worker leaves a run to be given to another.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait
from typing import IO, Any, Protocol

from broadaxe.errors import RequestError
from broadaxe.sweeps.config import Run
from broadaxe.sweeps.job import Result

ATTEMPTS = 2
"""Workers that a run may end before it counts as failed."""
FAILED_STARTS = 3
START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]);"
    " from broadaxe.sweeps import workers; workers.serve(int(sys.argv[1]))"
)
THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class Measuring(Protocol):
    """What measures runs in a worker."""

    def measure(self, run: Run) -> Result: ...


class Benched(Protocol):
    """What a worker gets once; pickled, so models in it are bytes of protobuf."""

    def bench(self) -> Measuring: ...


class _Worker:
    def __init__(self) -> None:
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self.pipe, theirs = Pipe()
        self.run: Run | None = None
        self.ready = False
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, str(theirs.fileno()), json.dumps(sys.path)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.errors,
                env=os.environ | dict.fromkeys(THREADS, "1"),
                start_new_session=True,  # Ctrl-C is for the command, which ends its workers
            )
        finally:
            theirs.close()

    def give(self, run: Run) -> None:
        self.run = run
        self.send(run)

    def send(self, message: Any) -> None:
        with suppress(OSError):  # if it has died, reading says so
            self.pipe.send(message)

    def stop(self, patience: float = 0) -> str:
        """End it, after some seconds in which it may end by itself; how it ended, and its last words."""
        self.pipe.close()
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
        code = self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        self.errors.close()
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        return ended + (f", {lines[-1][:200]}" if lines and code > 0 else "")


def local(material: Benched, runs: Iterable[Run], jobs: int) -> Iterator[tuple[Run, Result]]:
    """Results as they come. A run whose worker dies goes to another once; then its result says so.

    Raises:
        RequestError: workers end before they take a run.
    """
    left = deque(runs)
    attempts: dict[Run, int] = {}
    workers: list[_Worker] = []
    failed_starts = 0
    try:
        while left or any(w.run is not None for w in workers):
            wanted = min(jobs, len(left) + sum(w.run is not None for w in workers))
            new: list[_Worker] = []
            while len(workers) < wanted and (failed_starts < FAILED_STARTS or not workers):
                new.append(_Worker())
                workers.append(new[-1])
            for worker in new:  # once all are starting
                worker.send(material)
            finished: list[tuple[Run, Result]] = []
            for connection in wait([w.pipe for w in workers]):
                worker = next(w for w in workers if w.pipe is connection)
                run, worker.run = worker.run, None
                try:
                    message = worker.pipe.recv()
                    worker.ready = True
                    if run is not None:
                        finished.append((run, message))
                    continue
                except (EOFError, OSError):
                    workers.remove(worker)
                    ended = worker.stop(patience=5)
                if run is None:
                    failed_starts += not worker.ready
                    if failed_starts >= FAILED_STARTS and not any(w.ready for w in workers):
                        raise RequestError(
                            f"sweep: worker processes end before their first run ({ended}); free memory, or use fewer --jobs"
                        )
                elif attempts[run] < ATTEMPTS:
                    left.appendleft(run)
                else:
                    finished.append((run, _died(ended)))
            for worker in workers:
                if left and worker.ready and worker.run is None:
                    run = left.popleft()
                    attempts[run] = attempts.get(run, 0) + 1
                    worker.give(run)
            yield from finished
    finally:
        for worker in workers:
            worker.stop()


class Single:
    """One process beside this one that is kept for many runs: no other thread takes its time, and nothing but it dies."""

    def __init__(self, material: Benched) -> None:
        self.material = material
        self.worker: _Worker | None = None

    def measure(self, run: Run) -> Result:
        """As in `local`, a second attempt in a new process."""
        ended = ""
        for _ in range(ATTEMPTS):
            try:
                if self.worker is None:
                    self.worker = _Worker()
                    self.worker.send(self.material)
                    self.worker.pipe.recv()
                self.worker.give(run)
                result: Result = self.worker.pipe.recv()
                return result
            except (EOFError, OSError):
                if self.worker is not None:
                    ended = self.worker.stop(patience=5)
                self.worker = None
        return _died(ended)

    def close(self) -> None:
        if self.worker is not None:
            self.worker.stop()
            self.worker = None


def _died(ended: str) -> Result:
    text = f"its worker died ({ended}), {ATTEMPTS} times; give it more memory, or use fewer --jobs"
    return Result({"error": text}, None)


def serve(descriptor: int) -> None:
    """The life of a worker."""
    pipe = Connection(descriptor)
    received: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def read() -> None:
        try:
            while True:
                received.put(pipe.recv())
        except (EOFError, OSError):
            os._exit(0)  # the command has ended, whatever is being computed

    threading.Thread(target=read, daemon=True).start()
    bench: Measuring = received.get().bench()
    pipe.send(None)
    while True:
        pipe.send(bench.measure(received.get()))
