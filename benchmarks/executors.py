"""Time per sample of the ways to run one network: the reference executor, onnxruntime and qonnx, in one run.

    python benchmarks/executors.py [--batch 256] [--steps 100] [--threads 1]

The network is the one of examples/digits_cnn.py; its weights do not matter here, so few training steps do. Before
anything is timed, the executors are compared: a fast executor of another function would be no news.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from threadpoolctl import threadpool_limits

import broadaxe
from broadaxe import reference
from broadaxe.frontend.brevitas import export_brevitas
from broadaxe.frontend.standard import session

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import digits_cnn

QONNX_SAMPLES = 4
"""qonnx runs sample by sample, some ten milliseconds each: a few of them are enough."""


def best_seconds(calls: Mapping[str, Callable[[], object]], rounds: int = 20) -> dict[str, float]:
    """The best of some rounds through all calls, after a warm-up: noise only ever adds, and meets all of them alike."""
    best = dict.fromkeys(calls, float("inf"))
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def environment(*packages: str) -> str:
    """What a figure depends on, beside the processor."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


def digits(steps: int) -> tuple[onnx.ModelProto, np.ndarray]:
    """The network of examples/digits_cnn.py after some steps of training, and its test images."""
    x_train, y_train, x_test, _ = digits_cnn.images()
    model = export_brevitas(digits_cnn.train(True, x_train, y_train, steps), x_test[:1])
    return model, x_test.numpy()


def optimized(model: onnx.ModelProto, threads: int) -> onnxruntime.InferenceSession:
    """A session as onnxruntime opens it by default, graph optimizations on."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # it reports every constant that it folds
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def with_batch_of_one(model: onnx.ModelProto) -> onnx.ModelProto:
    """qonnx executes static shapes only."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in (*fixed.graph.input, *fixed.graph.output, *fixed.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = 1
    return fixed


def compare(batch: int, steps: int, threads: int) -> None:
    model, x = digits(steps)
    x = x[:batch]
    name = model.graph.input[0].name
    with tempfile.TemporaryDirectory() as folder:
        build = broadaxe.compile(model, Path(folder) / "digits")
    codes = build.codes(x)
    plain, tuned = session(build.host.standard, threads=threads), optimized(build.host.standard, threads)
    one = ModelWrapper(with_batch_of_one(model))

    def run_reference() -> dict[str, np.ndarray]:
        return reference.run(build.graph, codes)

    def run_qonnx() -> list[np.ndarray]:
        return [next(iter(execute_onnx(one, {name: sample[None]}).values())) for sample in x[:QONNX_SAMPLES]]

    (real,) = build.host.reals(run_reference()).values()
    for other in (plain.run(None, {name: x})[0], tuned.run(None, {name: x})[0], np.concatenate(run_qonnx())):
        np.testing.assert_array_equal(other.argmax(1), real[: len(other)].argmax(1))

    calls = {
        "reference executor, integers": run_reference,
        "onnxruntime, float graph as written": lambda: plain.run(None, {name: x}),
        "onnxruntime, float graph optimized": lambda: tuned.run(None, {name: x}),
        "qonnx execute_onnx": run_qonnx,
    }
    samples = dict.fromkeys(calls, len(x)) | {"qonnx execute_onnx": QONNX_SAMPLES}
    times = {executor: duration / samples[executor] for executor, duration in best_seconds(calls).items()}
    ours = times["reference executor, integers"]
    print(f"digits CNN; threads for BLAS and for onnxruntime: {threads}")
    print(environment("numpy", "onnxruntime", "qonnx"))
    print(f"batch {len(x)}; qonnx takes one sample at a time")
    print(f"{'executor':<40}{'time / ours':>12}{'us/sample':>12}")
    for executor, duration in times.items():
        print(f"{executor:<40}{duration / ours:>12.2f}{1e6 * duration:>12.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=256, help="at most 450, the test images there are")
    parser.add_argument("--steps", type=int, default=100, help="training steps")
    parser.add_argument("--threads", type=int, default=1, help="threads of each executor")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with threadpool_limits(options.threads):
        compare(options.batch, options.steps, options.threads)


if __name__ == "__main__":
    main()
