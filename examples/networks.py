"""Brevitas networks of known structure, with seeded random weights and calibrated scales: what benchmarks compile.

    python examples/networks.py [NAME ...]                   export as QONNX files into build/networks/

Nothing here is trained. One pass over random images in training mode sets every activation scale and normalization, so
that activations use their whole range, as those of a trained network do.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import brevitas.nn as qnn
import onnx
import torch
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    SignedBinaryActPerTensorConst,
    SignedBinaryWeightPerTensorConst,
    Uint8ActPerTensorFloat,
)
from torch import nn

CACHE = Path("build/networks")
CALIBRATION_IMAGES = 8
CALIBRATION_PASSES = 3


def pixels() -> nn.Module:
    return qnn.QuantIdentity(bit_width=8, act_quant=Uint8ActPerTensorFloat)


def relu(bits: int = 4, **more) -> nn.Module:
    return qnn.QuantReLU(bit_width=bits, **more)


def conv(
    inputs: int, outputs: int, kernel: int = 3, bits: int = 4, padding: int | None = None, **more
) -> list[nn.Module]:
    """A convolution without bias and its normalization."""
    padding = kernel // 2 if padding is None else padding
    layer = qnn.QuantConv2d(inputs, outputs, kernel, padding=padding, bias=False, weight_bit_width=bits, **more)
    return [layer, nn.BatchNorm2d(outputs)]


def head(inputs: int, classes: int, size: int) -> list[nn.Module]:
    """Global average of `size` x `size` positions, 8 bits of it, and a linear layer."""
    average = qnn.QuantIdentity(bit_width=8, act_quant=Uint8ActPerTensorFloat)
    return [nn.AvgPool2d(size), average, nn.Flatten(), qnn.QuantLinear(inputs, classes, bias=True, weight_bit_width=4)]


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, both sides of the sum quantized to 4 bits.

    Args:
        shared: one quantizer with a float scale for both sides, so that the sum is one of plain integers; otherwise each
            side has a power-of-two scale of its own.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, shared: bool) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(*conv(inputs, outputs, stride=stride), relu(), *conv(outputs, outputs))
        self.shortcut = nn.Sequential(*(conv(inputs, outputs, 1, stride=stride) if inputs != outputs else []))
        powers = {"act_quant": Int8ActPerTensorFixedPoint}
        self.quant = qnn.QuantIdentity(bit_width=4, **({} if shared else powers))
        self.quant_shortcut = self.quant if shared else qnn.QuantIdentity(bit_width=4, **powers)
        self.relu = relu()

    def forward(self, x):
        return self.relu(self.quant(self.convolutions(x)) + self.quant_shortcut(self.shortcut(x)))


def resnet(blocks: int, shared: bool) -> nn.Module:
    """CIFAR ResNet of 6 * blocks + 2 layers, 16-32-64 channels, W4A4, 1x1 convolutions on the shortcuts that need one."""
    layers, inputs = [pixels(), *conv(3, 16), relu()], 16
    for stage, outputs in enumerate((16, 32, 64)):
        for block in range(blocks):
            layers.append(Residual(inputs, outputs, 2 if stage and block == 0 else 1, shared))
            inputs = outputs
    return nn.Sequential(*layers, *head(64, 10, 8))


def mobilenet_v1() -> nn.Module:
    """MobileNetV1 at a quarter of its width: 28 convolutions, 13 of them depthwise, the last one the classifier; W4A4."""
    layers, inputs = [pixels(), *conv(3, 8, stride=2), relu()], 8
    pairs = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)]
    for outputs, stride in pairs:
        layers += [*conv(inputs, inputs, stride=stride, groups=inputs), relu(), *conv(inputs, outputs, 1), relu()]
        inputs = outputs
    average = [nn.AvgPool2d(3), qnn.QuantIdentity(bit_width=8, act_quant=Uint8ActPerTensorFloat)]
    classifier = qnn.QuantConv2d(inputs, 10, 1, bias=True, weight_bit_width=4)
    return nn.Sequential(*layers, *average, classifier, nn.Flatten())


def cnv_w2a2() -> nn.Module:
    """FINN's CNV: six convolutions without padding, two pools and three linear layers, W2A2."""
    layers, inputs = [pixels()], 3
    for outputs, pool in ((64, False), (64, True), (128, False), (128, True), (256, False), (256, False)):
        layers += [*conv(inputs, outputs, bits=2, padding=0), relu(2), *([nn.MaxPool2d(2)] if pool else [])]
        inputs = outputs
    layers.append(nn.Flatten())
    for outputs in (512, 512):
        linear = qnn.QuantLinear(inputs, outputs, bias=False, weight_bit_width=2)
        layers += [linear, nn.BatchNorm1d(outputs), relu(2)]
        inputs = outputs
    return nn.Sequential(*layers, qnn.QuantLinear(inputs, 10, bias=True, weight_bit_width=2))


def cnv_w1a1() -> nn.Module:
    """CNV with weights and activations of -1 and +1; the first layer reads 8-bit pixels."""

    def sign() -> nn.Module:
        return qnn.QuantIdentity(act_quant=SignedBinaryActPerTensorConst, scaling_init=1.0, return_quant_tensor=False)

    binary = {"weight_quant": SignedBinaryWeightPerTensorConst}
    layers, inputs = [pixels()], 3
    for outputs, pool in ((64, False), (64, True), (128, False), (128, True), (256, False), (256, False)):
        layers += [qnn.QuantConv2d(inputs, outputs, 3, bias=False, **binary), nn.BatchNorm2d(outputs), sign()]
        layers += [nn.MaxPool2d(2)] if pool else []
        inputs = outputs
    layers.append(nn.Flatten())
    for outputs in (512, 512):
        layers += [qnn.QuantLinear(inputs, outputs, bias=False, **binary), nn.BatchNorm1d(outputs), sign()]
        inputs = outputs
    return nn.Sequential(*layers, qnn.QuantLinear(inputs, 10, bias=False, **binary))


def keywords() -> nn.Module:
    """One-dimensional convolutions over 40 features of 98 frames, as small keyword spotters have them; W4A4, 12 classes."""
    layers, inputs = [qnn.QuantIdentity(bit_width=8)], 40
    for outputs, stride in ((64, 1), (64, 2), (96, 1), (96, 2)):
        convolution = qnn.QuantConv1d(inputs, outputs, 5, stride=stride, padding=2, bias=False, weight_bit_width=4)
        layers += [convolution, nn.BatchNorm1d(outputs), relu()]
        inputs = outputs
    layers += [nn.MaxPool1d(2), qnn.QuantConv1d(inputs, inputs, 3, groups=inputs, weight_bit_width=4), relu()]
    average = qnn.QuantIdentity(bit_width=8, act_quant=Uint8ActPerTensorFloat)
    return nn.Sequential(
        *layers, nn.AvgPool1d(10), average, nn.Flatten(), qnn.QuantLinear(inputs, 12, weight_bit_width=4)
    )


class UNet(nn.Module):
    """A U-Net of three levels: nearest upsampling, skips joined to what comes up, one class map for each of 4 classes; W4A4.

    Both sides of a join share a quantizer, since the convolution behind it adds their channels up.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.pixels = pixels()
        self.joins = nn.ModuleList(qnn.QuantIdentity(bit_width=4, act_quant=Uint8ActPerTensorFloat) for _ in range(2))
        self.down = nn.ModuleList([self.block(3, width), self.block(width, 2 * width)])
        self.bottom = self.block(2 * width, 4 * width)
        self.up = nn.ModuleList([self.block(6 * width, 2 * width), self.block(3 * width, width)])
        self.classes = qnn.QuantConv2d(width, 4, 1, bias=True, weight_bit_width=4)
        self.pool, self.nearest = nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="nearest")

    @staticmethod
    def block(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(*conv(inputs, outputs), relu(), *conv(outputs, outputs), relu())

    def forward(self, x):
        first = self.joins[1](self.down[0](self.pixels(x)))
        second = self.joins[0](self.down[1](self.pool(first)))
        y = self.joins[0](self.nearest(self.bottom(self.pool(second))))
        y = self.up[0](torch.cat([y, second], dim=1))
        y = self.joins[1](self.nearest(y))
        return self.classes(self.up[1](torch.cat([y, first], dim=1)))


def autoencoder() -> nn.Module:
    """A separable autoencoder: strided depthwise convolutions down, depthwise transposed convolutions up; W4A4."""
    layers, inputs = [pixels(), *conv(1, 16), relu()], 16
    for outputs in (32, 48):
        layers += [*conv(inputs, inputs, stride=2, groups=inputs), relu(), *conv(inputs, outputs, 1), relu()]
        inputs = outputs
    for outputs in (32, 16):
        transposed = {"stride": 2, "padding": 1, "groups": inputs, "bias": False, "weight_bit_width": 4}
        layers += [qnn.QuantConvTranspose2d(inputs, inputs, 4, **transposed), nn.BatchNorm2d(inputs), relu()]
        layers += [*conv(inputs, outputs, 1), relu()]
        inputs = outputs
    return nn.Sequential(*layers, qnn.QuantConv2d(inputs, 1, 3, padding=1, bias=True, weight_bit_width=4))


def stack(depth: int) -> nn.Module:
    """`depth` equal convolutions, to see how time grows with depth."""
    layers = [pixels(), *conv(3, 32), relu()]
    for _ in range(depth - 1):
        layers += [*conv(32, 32), relu()]
    return nn.Sequential(*layers, *head(32, 10, 16))


@dataclass(frozen=True)
class Network:
    """A network by its builder and the shape of one input."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]


NETWORKS = {
    "resnet8": Network(lambda: resnet(1, shared=False), (3, 32, 32)),
    "resnet20": Network(lambda: resnet(3, shared=True), (3, 32, 32)),
    "mobilenet_v1": Network(mobilenet_v1, (3, 96, 96)),
    "cnv_w2a2": Network(cnv_w2a2, (3, 32, 32)),
    "cnv_w1a1": Network(cnv_w1a1, (3, 32, 32)),
    "keywords": Network(keywords, (40, 98)),
    "unet": Network(UNet, (3, 32, 32)),
    "autoencoder": Network(autoencoder, (1, 28, 28)),
} | {f"stack{depth}": Network(lambda depth=depth: stack(depth), (3, 16, 16)) for depth in (5, 10, 20)}


def calibrated(network: Network, seed: int = 0) -> nn.Module:
    """The network in evaluation mode, scales and statistics from random images in [0, 1]."""
    torch.manual_seed(seed)
    module = network.build().train()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.momentum = None  # the plain average over all passes
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.3)
    with torch.no_grad():
        for _ in range(CALIBRATION_PASSES):
            module(torch.rand(CALIBRATION_IMAGES, *network.shape))
    return module.eval()


def model(name: str, cache: Path = CACHE) -> onnx.ModelProto:
    """The network as a QONNX model, from the cache where an earlier call put it."""
    from broadaxe.frontend.brevitas import export_brevitas

    path = cache / f"{name}.onnx"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        network = NETWORKS[name]
        onnx.save(export_brevitas(calibrated(network), torch.zeros(1, *network.shape)), path)
    return onnx.load(path)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NETWORKS)}; default: all")
    for name in parser.parse_args(arguments).names or NETWORKS:
        if name not in NETWORKS:
            parser.error(f"network {name!r} is unknown; there are {', '.join(NETWORKS)}")
        exported = model(name)
        weights = sum(len(t.raw_data) // 4 for t in exported.graph.initializer if len(t.dims) > 1)
        print(f"{CACHE / name}.onnx: {len(exported.graph.node)} nodes, {weights:,} weights")


if __name__ == "__main__":
    main()
