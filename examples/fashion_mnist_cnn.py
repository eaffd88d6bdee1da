"""Fashion-MNIST, end to end: a 4-bit CNN with a residual block and depthwise layers, compiled to HLS C++ and verified.

python examples/fashion_mnist_cnn.py                     compile the trained model beside this file, run 10,000 images
python examples/fashion_mnist_cnn.py --train             train it again first: five to ten minutes on one core
python examples/fashion_mnist_cnn.py --data FOLDER       images elsewhere than where Debian puts them
"""

from __future__ import annotations

import argparse
import gzip
import sys
import time
from pathlib import Path

import numpy as np
import onnx

import broadaxe
from broadaxe import reference
from broadaxe.frontend.standard import session

DATA = Path("/usr/share/datasets/fashion-mnist")
MODEL = Path(__file__).with_suffix(".onnx")
INSTALL = """Fashion-MNIST: {path} is missing
  Debian or Ubuntu: apt-get install dataset-fashion-mnist
  elsewhere: fetch the four *-ubyte.gz files of https://github.com/zalandoresearch/fashion-mnist, then give their folder
  with --data FOLDER"""


def images(part: str, folder: Path = DATA) -> tuple[np.ndarray, np.ndarray]:
    """Pixels in [0, 1], shape (N, 1, 28, 28), and labels of "train" (60,000) or "t10k" (10,000)."""
    arrays = []
    for name, header in ((f"{part}-images-idx3-ubyte.gz", 16), (f"{part}-labels-idx1-ubyte.gz", 8)):
        path = folder / name
        if not path.is_file():
            raise FileNotFoundError(INSTALL.format(path=path))
        arrays.append(np.frombuffer(gzip.decompress(path.read_bytes()), dtype=np.uint8, offset=header))
    pixels, labels = arrays
    return (pixels.reshape(-1, 1, 28, 28) / 255).astype(np.float32), labels.astype(np.int64)


def network():
    """4-bit weights and activations on 8-bit pixels: 1.1 million multiplications and 22,000 weights.

    Both operands of the residual sum have power-of-two scales, so that the hardware adds them after a shift.
    """
    import brevitas.nn as qnn
    from brevitas.quant import Int8ActPerTensorFixedPoint, Uint8ActPerTensorFixedPoint, Uint8ActPerTensorFloat
    from torch import nn

    def relu(**more):
        return qnn.QuantReLU(bit_width=4, **more)

    def conv(inputs, outputs, kernel=3, **more):
        layer = qnn.QuantConv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, weight_bit_width=4, **more)
        return [layer, nn.BatchNorm2d(outputs)]

    class Residual(nn.Module):
        def __init__(self, channels):
            super().__init__()
            signed = qnn.QuantIdentity(bit_width=4, act_quant=Int8ActPerTensorFixedPoint)
            self.body = nn.Sequential(*conv(channels, channels), relu(), *conv(channels, channels), signed)
            self.relu = relu()

        def forward(self, x):
            return self.relu(x + self.body(x))

    return nn.Sequential(
        qnn.QuantIdentity(bit_width=8, act_quant=Uint8ActPerTensorFloat),
        *conv(1, 16, stride=2),
        relu(),
        *conv(16, 16, groups=16),
        relu(),
        *conv(16, 32, kernel=1),
        relu(act_quant=Uint8ActPerTensorFixedPoint),
        nn.MaxPool2d(2),
        Residual(32),
        *conv(32, 32, stride=2, groups=32),
        relu(),
        *conv(32, 64, kernel=1),
        relu(),
        nn.AvgPool2d(4),
        qnn.QuantIdentity(bit_width=8, act_quant=Uint8ActPerTensorFloat),
        nn.Flatten(),
        qnn.QuantLinear(64, 10, bias=True, weight_bit_width=4),
    )


def train(x, y, epochs: int = 6, batch: int = 128):
    """A trained network in evaluation mode; always the same one on the same machine."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    steps = len(x) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=epochs * steps)
    for epoch in range(epochs):
        start, total = time.perf_counter(), 0.0
        order = torch.randperm(len(x))[: steps * batch].reshape(steps, batch)
        for chosen in order:
            pixels = x[chosen]
            flipped = torch.rand(batch, 1, 1, 1) < 0.5
            loss = nn.functional.cross_entropy(model(torch.where(flipped, pixels.flip(3), pixels)), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(
            f"epoch {epoch + 1} of {epochs}: loss {total / steps:.3f}, {time.perf_counter() - start:.0f} s", flush=True
        )
    return model.eval()


def retrain(folder: Path, target: Path, epochs: int) -> None:
    """Train and write the model file."""
    import torch

    from broadaxe.frontend.brevitas import export_brevitas

    torch.set_num_threads(1)  # so small a network trains hardly faster with more
    x, y = images("train", folder)
    model = export_brevitas(train(x, y, epochs), torch.from_numpy(x[:1]))
    onnx.save(model, target)
    print(f"wrote {target}: {target.stat().st_size:,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", action="store_true", help="train and write the model file first")
    parser.add_argument("--epochs", type=int, default=6, help="of training")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the four *-ubyte.gz files")
    parser.add_argument("--model", type=Path, default=MODEL, help="QONNX file to compile, or to write with --train")
    parser.add_argument("--images", type=int, default=10_000, help="test images to run")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/fashion"), help="build folder")
    options = parser.parse_args()
    try:
        if options.train:
            retrain(options.data, options.model, options.epochs)
        x, y = images("t10k", options.data)
    except FileNotFoundError as error:
        sys.exit(str(error))
    x, y = x[: options.images], y[: options.images]

    print(f"compiling {options.model.name} to {options.output}")
    build = broadaxe.compile(options.model, options.output)
    print(f"running {len(x):,} test images: float graph in onnxruntime, integer reference, C simulation")
    run = session(build.host.standard)
    name = run.get_inputs()[0].name
    logits = {
        "float": np.concatenate([run.run(None, {name: part})[0] for part in np.array_split(x, 1 + len(x) // 256)])
    }
    (logits["reference"],) = build.host.reals(reference.run(build.graph, build.codes(x))).values()
    (logits["hardware"],) = broadaxe.simulate(build, x).values()
    scores = (f"{executor} {100 * np.mean(out.argmax(axis=1) == y):.2f} %" for executor, out in logits.items())
    equal = "equals" if np.array_equal(logits["reference"], logits["hardware"]) else "DIFFERS FROM"
    print(f"accuracy: {', '.join(scores)}; hardware {equal} reference")
    print(broadaxe.report(build))
    verification = broadaxe.verify(build, x)
    print(verification)
    sys.exit(0 if verification.ok else 1)


if __name__ == "__main__":
    main()
