"""Time per sample of the ways to run one network: the reference executor, onnxruntime and qonnx, in one run.

    python benchmarks/executors.py [--batch 256] [--steps 100]

The network is the one of examples/digits_cnn.py; its weights do not matter here, so few training steps do. Before
anything is timed, the executors are compared: a fast executor of another function would be no news.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx

import broadaxe
from broadaxe import reference
from broadaxe.frontend.brevitas import export_brevitas
from broadaxe.frontend.standard import expand_quant, session

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import digits_cnn

QONNX_SAMPLES = 16
"""qonnx runs sample by sample, some ten milliseconds each: a few of them are enough."""


def seconds(call: Callable[[], object], repeats: int = 5) -> float:
    """The best of some runs after a warm-up: the machine's noise only ever adds."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def with_batch_of_one(model: onnx.ModelProto) -> onnx.ModelProto:
    """qonnx executes static shapes only."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in (*fixed.graph.input, *fixed.graph.output, *fixed.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = 1
    return fixed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()

    torch.set_num_threads(1)
    x_train, y_train, x_test, _ = digits_cnn.images()
    x = x_test[: options.batch].numpy()
    model = export_brevitas(digits_cnn.train(True, x_train, y_train, options.steps), x[:1])
    name = model.graph.input[0].name

    with tempfile.TemporaryDirectory() as folder:
        build = broadaxe.compile(model, Path(folder) / "digits")
    graph, codes = build.graph, build.encode(x)  # the integer graph and its inputs; see Build

    one = ModelWrapper(with_batch_of_one(model))
    expanded = session(expand_quant(model))

    def run_qonnx(count: int = QONNX_SAMPLES) -> list[np.ndarray]:
        return [next(iter(execute_onnx(one, {name: sample[None]}).values())) for sample in x[:count]]

    def run_onnxruntime() -> np.ndarray:
        return expanded.run(None, {name: x})[0]

    def run_reference() -> object:
        return reference.run(graph, codes)

    (real,) = build.decode(run_reference()).values()  # output codes as real numbers
    np.testing.assert_array_equal(np.concatenate(run_qonnx()).argmax(1), real[:QONNX_SAMPLES].argmax(1))
    np.testing.assert_array_equal(run_onnxruntime().argmax(1), real.argmax(1))

    batch = len(x)
    reference_time = seconds(run_reference) / batch
    rows = [
        ("reference executor, integers", batch, reference_time),
        ("onnxruntime, float graph in standard operators, 1 thread", batch, seconds(run_onnxruntime) / batch),
        ("qonnx execute_onnx", 1, seconds(run_qonnx, repeats=2) / QONNX_SAMPLES),
    ]
    print(f"digits CNN, {os.cpu_count()} cores; time per sample, and as a multiple of the reference executor's")
    print(f"{'executor':<58}{'batch':>6}{'us/sample':>12}{'ratio':>9}")
    for executor, size, duration in rows:
        print(f"{executor:<58}{size:>6}{1e6 * duration:>12.1f}{duration / reference_time:>9.2f}")


if __name__ == "__main__":
    main()
