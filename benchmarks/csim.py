"""C simulation of one network three ways, in one run: ns per multiply-accumulate and sample, and seconds of g++.

    python benchmarks/csim.py [--steps 100]

native: our sources with built-in integers. exact: the same sources with ap_int. hls4ml: its io_stream project of the same
QONNX model, with ap_fixed. All three run on one core as shared libraries and include every kernel of the network.

hls4ml holds scales as powers of two in its fixed-point types. So the network where all three compute the same function is
the digits CNN with power-of-two scales and no BatchNormalization; its outputs have to be equal. The digits CNN itself
follows, where hls4ml approximates, and then a model that it does not convert.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import tempfile
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import brevitas.nn as qnn
import hls4ml
import numpy as np
import onnx
import torch
from brevitas.quant import (
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFixedPoint,
    Uint8ActPerTensorFixedPoint,
    Uint8ActPerTensorFloat,
)
from executors import best_seconds, digits, digits_cnn, environment
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
from qonnx.transformation.gemm_to_matmul import GemmToMatMul
from qonnx.util.cleanup import cleanup_model
from torch import nn

import broadaxe
from broadaxe import reference
from broadaxe.csim import Mode, Simulator, compiler
from broadaxe.frontend.brevitas import export_brevitas
from broadaxe.ops.matvec import MatVec

SAMPLES, COMPARED = 16, 64

Run = Callable[[int], np.ndarray]
"""The model's outputs for its first samples."""


def scaled(weights: type, activations: type, steps: int) -> onnx.ModelProto:
    """The layers of the digits CNN without BatchNormalization, with the given quantizers of weights and activations."""

    def conv(inputs: int, outputs: int) -> list[nn.Module]:
        layer = qnn.QuantConv2d(inputs, outputs, 3, padding=1, bias=False, weight_bit_width=4, weight_quant=weights)
        return [layer, qnn.QuantReLU(bit_width=4, act_quant=activations)]

    torch.manual_seed(0)
    pixels, pool = qnn.QuantIdentity(bit_width=8, act_quant=activations), nn.MaxPool2d(2)
    head = qnn.QuantLinear(128, 10, bias=True, weight_bit_width=4, weight_quant=weights)
    network = nn.Sequential(pixels, *conv(1, 8), *conv(8, 16), pool, *conv(16, 32), pool, nn.Flatten(), head)
    x, y, x_test, _ = digits_cnn.images()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(steps):
        batch = torch.randint(len(x), (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
        optimizer.step()
    head.bias.data = torch.round(head.bias.data * 256) / 256  # what hls4ml's default type for a float bias holds
    return export_brevitas(network.eval(), x_test[:1])


def converted(model: onnx.ModelProto, folder: Path, precision: str) -> tuple[Any, list[str]]:
    """hls4ml's io_stream project of a QONNX model, and what hls4ml warned of; `precision` is for what QONNX leaves open."""
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        clean = cleanup_model(ModelWrapper(model)).transform(ConvertToChannelsLastAndClean())
        clean = cleanup_model(clean.transform(GemmToMatMul()))
        config = hls4ml.utils.config_from_onnx_model(
            clean, granularity="name", backend="Vitis", default_precision=precision
        )
        project = hls4ml.converters.convert_from_onnx_model(
            clean, output_dir=str(folder), io_type="io_stream", backend="Vitis", hls_config=config
        )
    messages = dict.fromkeys(str(w.message) for w in caught if "hls4ml" in Path(w.filename).parts)
    return project, [f"warns: {message}" for message in messages]


def complaint(error: Exception) -> str:
    """An error with the place that raised it: hls4ml's own messages rarely name one."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).parent.name}/{Path(last.filename).name}, line {last.lineno}, {last.name}"
    return f"not converted: {type(error).__name__}: {error} ({place})"


def cpu_seconds(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and the processor time of the g++ processes that it starts."""
    before = os.times()
    result = call()
    after = os.times()
    return result, after.children_user + after.children_system - before.children_user - before.children_system


def difference(got: np.ndarray, expected: np.ndarray) -> str:
    expected = expected[: len(got)]
    if np.array_equal(got, expected):
        return "equal"
    same = 100 * np.mean(got.argmax(1) == expected.argmax(1))
    return f"off by up to {np.abs(got - expected).max():.2g}, {same:.0f} % same class"


def simulation(build: broadaxe.Build, codes: dict[str, np.ndarray], mode: Mode) -> Run:
    simulator = Simulator.of(build.path, build.top, build.graph, build.flow, mode)

    def run(count: int) -> np.ndarray:
        outputs = simulator.run({name: values[:count] for name, values in codes.items()})
        return next(iter(build.host.reals(outputs).values()))

    return run


def compiled(project: Any, x: np.ndarray) -> Run:
    project.compile()
    return lambda count: project.predict(np.ascontiguousarray(x[:count]))


def compare(title: str, model: onnx.ModelProto, x: np.ndarray, precision: str, folder: Path) -> None:
    build = broadaxe.compile(model, folder / "ours")
    codes = build.codes(x)
    (expected,) = build.host.reals(reference.run(build.graph, codes)).values()
    macs = sum(build.graph.values[n.output].size * n.op.depth for n in build.graph.nodes if isinstance(n.op, MatVec))
    builds = {
        "broadaxe native, built-in integers": cpu_seconds(lambda: simulation(build, codes, Mode.NATIVE)),
        "broadaxe exact, ap_int": cpu_seconds(lambda: simulation(build, codes, Mode.EXACT)),
    }
    try:
        project, notes = converted(model, folder / "hls4ml", precision)
        builds["hls4ml io_stream, ap_fixed"] = cpu_seconds(lambda: compiled(project, x))
    except Exception as error:
        notes = [complaint(error)]
    times = best_seconds({name: partial(run, SAMPLES) for name, (run, _) in builds.items()})
    ns = {name: 1e9 * duration / SAMPLES / macs for name, duration in times.items()}
    native = ns["broadaxe native, built-in integers"]

    print(f"\n{title}: {macs:,} MACs")
    print(f"{'build':<36}{'time / native':>14}{'ns/MAC/sample':>15}{'g++ CPU s':>11}  outputs against the reference")
    for name, (run, compilation) in builds.items():
        equal = difference(run(COMPARED), expected)
        print(f"{name:<36}{ns[name] / native:>14.1f}{ns[name]:>15.2f}{compilation:>11.1f}  {equal}")
    print(f"hls4ml uses {precision} where QONNX gives no type")
    for note in notes:
        print(f"hls4ml {note}")


def try_per_channel(folder: Path, steps: int) -> None:
    print("\ndigits CNN with a float scale for each output channel's weights, conversion alone")
    try:
        converted(scaled(Int8WeightPerChannelFloat, Uint8ActPerTensorFloat, steps), folder, "fixed<32,16>")
        print("hls4ml converted it")
    except Exception as error:
        print(f"hls4ml {complaint(error)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100, help="training steps")
    steps = parser.parse_args().steps

    torch.set_num_threads(1)
    gpp = subprocess.run([compiler(), "-dumpfullversion"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"C simulation, one core; {environment('hls4ml', 'qonnx')}, {compiler()} {gpp}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, x = digits(steps)
        powers = scaled(Int8WeightPerTensorFixedPoint, Uint8ActPerTensorFixedPoint, steps)
        for part in ("powers", "digits"):
            (folder / part).mkdir()
        compare("digits CNN, power-of-two scales, no BatchNormalization", powers, x, "fixed<16,6>", folder / "powers")
        compare("digits CNN as in examples/", model, x, "fixed<32,16>", folder / "digits")
        try_per_channel(folder / "per_channel", min(steps, 5))


if __name__ == "__main__":
    main()
