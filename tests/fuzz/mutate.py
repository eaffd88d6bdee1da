"""Damaged files through the compiler: success or one line, in time, in memory, and nothing outside the output folder."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import onnx
from models import small_cnn

from broadaxe.build import load_model
from broadaxe.config import settings
from broadaxe.errors import BroadaxeError
from broadaxe.lower import lower

from .damage import damaged
from .generate import generate
from .sandbox import SECONDS, Answer, serve

PATIENCE = 20 * SECONDS
"""Seconds after which a worker that neither answers nor computes is ended; machines may be busy."""
WORKERS = 2


@dataclass
class Mutations:
    """Statistics of a run; `failures` holds one line each."""

    seed: int
    files: int = 0
    compiled: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0.0, "none")
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}: {self.files} damaged files, {self.compiled} compiled, {sum(self.refused.values())} refused"
            f" in one line; the slowest, {self.slowest[1]}, took {self.slowest[0]:.1f} s"
        ]
        lines += [f"  {n:5}  {kind}" for kind, n in self.refused.most_common()]
        lines += [f"FAILED {line}" for line in self.failures]
        lines.append(f"failures: {len(self.failures)}")
        return "\n".join(lines)


def corpus(seed: int, count: int) -> list[onnx.ModelProto]:
    """Models that the compiler takes: generated ones, and the builder that other tests use."""
    models, index = [small_cnn()], 0
    while len(models) < count:
        case = generate(seed, index)
        index += 1
        try:
            model, _ = load_model(case.model)
            lower(model, settings(inputs=case.types).input_types)
        except BroadaxeError:
            continue
        if not case.types:  # what is declared for an input is no part of a file
            models.append(case.model)
    return models


def file(models: list[onnx.ModelProto], seed: int, index: int) -> tuple[bytes, list[str]]:
    """Damaged file `index` of a seed, and what was done to it."""
    rng = np.random.default_rng([seed, index, 2])
    return damaged(rng, models[int(rng.integers(len(models)))])


class Worker:
    """A process that compiles files, one after the other; started again when one ends it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, str(self.folder)), daemon=True)
        self.process.start()
        other.close()
        if not self.pipe.poll(120):
            raise RuntimeError("a worker does not start")
        self.pipe.recv()

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def answer(self) -> Answer:
        """What came of the file that was sent; the worker is new after it where that ended or stopped it."""
        problem = f"does not answer in {PATIENCE} s"
        try:
            if self.pipe.poll(PATIENCE):
                got: Answer = self.pipe.recv()
                return got
        except EOFError:
            self.process.join()
            slow = self.process.exitcode == -signal.SIGXCPU
            problem = f"takes more than {SECONDS} s" if slow else f"ends the process, exit code {self.process.exitcode}"
        self.stop()
        self.start()
        return Answer(failure=problem)


def mutations(
    seed: int,
    count: int,
    only: int | None = None,
    models: int = 25,
    keep: Path | None = None,
    said: Callable[[str], None] = lambda _: None,
) -> Mutations:
    """Compile damaged files of a seed.

    Args:
        count: how many of them; `only` is one alone.
        models: sound models that they are made of.
        keep: a folder for the files that fail.
        said: called with each failure as it comes.
    """
    report, sound = Mutations(seed), corpus(seed, models)
    indices: Iterable[int] = range(count) if only is None else [only]
    with tempfile.TemporaryDirectory(prefix="mutate") as base:
        workers = [Worker(Path(base) / str(i)) for i in range(min(WORKERS, count))]
        try:
            sent: dict[int, tuple[int, list[str], bytes]] = {}

            def taken(i: int) -> None:
                if _take(report, workers[i].answer(), *sent.pop(i), keep):
                    said(f"FAILED {report.failures[-1]}")

            for index in indices:
                free = next((i for i in range(len(workers)) if i not in sent), None)
                if free is None:
                    ready: list[Connection] = multiprocessing.connection.wait(  # type: ignore[assignment]
                        [workers[i].pipe for i in sent], PATIENCE
                    )
                    free = next((i for i in sent if workers[i].pipe in ready), min(sent))
                    taken(free)
                data, names = file(sound, seed, index)
                sent[free] = (index, names, data)
                workers[free].pipe.send(data)
            for i in list(sent):
                taken(i)
        finally:
            for worker in workers:
                worker.stop()
    return report


def _take(report: Mutations, answer: Answer, index: int, names: list[str], data: bytes, keep: Path | None) -> bool:
    """Count what came of a file; returns whether it failed."""
    report.files += 1
    report.slowest = max(report.slowest, (answer.seconds, f"{index} ({', '.join(names)})"))
    if answer.failure is not None:
        report.failures.append(f"{report.seed} {index} ({', '.join(names)}): {answer.failure}")
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{report.seed}-{index}.onnx").write_bytes(data)
    elif answer.refused is None:
        report.compiled += 1
    else:
        report.refused[answer.refused] += 1
    return answer.failure is not None
