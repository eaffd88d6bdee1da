"""Digits, end to end: train a 4-bit CNN with Brevitas, compile it to HLS C++, simulate and verify it."""

import sys

import brevitas.nn as qnn
import numpy as np
import torch
from brevitas.quant import Uint8ActPerTensorFloat
from sklearn.datasets import load_digits
from torch import nn

import broadaxe


def images():
    """1347 training and 450 test images of 8x8 pixels in [0, 1], always the same ones."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x, y = torch.tensor(digits.images[order, None] / 16, dtype=torch.float32), torch.tensor(digits.target[order])
    return x[450:], y[450:], x[:450], y[:450]


def network(quantized):
    """Three convolutions and a linear head: 4-bit weights and activations on 8-bit pixels, or the float twin."""

    def conv(inputs, outputs):
        if not quantized:
            return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        layer = qnn.QuantConv2d(inputs, outputs, 3, padding=1, bias=False, weight_bit_width=4)
        return [layer, nn.BatchNorm2d(outputs), qnn.QuantReLU(bit_width=4)]

    pixels = qnn.QuantIdentity(bit_width=8, act_quant=Uint8ActPerTensorFloat) if quantized else nn.Identity()
    head = qnn.QuantLinear(128, 10, bias=True, weight_bit_width=4) if quantized else nn.Linear(128, 10)
    pool = nn.MaxPool2d(2)
    return nn.Sequential(pixels, *conv(1, 8), *conv(8, 16), pool, *conv(16, 32), pool, nn.Flatten(), head)


def train(quantized, x, y, steps=400):
    torch.manual_seed(0)
    model = network(quantized)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        batch = torch.randint(len(x), (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def main(folder="build/digits", steps=400):
    torch.set_num_threads(1)  # so small a network trains no faster with more
    x, y, x_test, y_test = images()
    print(f"training a 4-bit CNN and its float twin, {steps} steps on {len(x)} digits each")
    model, twin = train(True, x, y, steps), train(False, x, y, steps)
    print(f"compiling to {folder}")
    build = broadaxe.compile(model, folder, example_input=x_test[:1])
    print(f"simulating the C++ on {len(x_test)} test images")
    (hardware,) = broadaxe.simulate(build, x_test.numpy()).values()
    print("verifying: compiling two C simulations and comparing every value, about half a minute")
    verification = broadaxe.verify(build, x_test.numpy())

    with torch.no_grad():
        logits = {"float": twin(x_test).numpy(), "quantized": model(x_test).numpy(), "hardware": hardware}
    scores = (f"{name} {100 * np.mean(out.argmax(axis=1) == y_test.numpy()):.1f} %" for name, out in logits.items())
    print(f"accuracy: {', '.join(scores)}")
    print(build)
    print(verification)


if __name__ == "__main__":
    main(*sys.argv[1:2])
