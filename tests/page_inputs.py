"""What pages of the documentation start from: a digits network, rows of images, a quantized model, a build.

Each makes files in a folder (`python tests/page_inputs.py NAME`: in this one); `DIGITS` also names its rows in a session.
Trained in float64 and rounded to multiples of 1/4096, so that every processor and every number of threads gives the same
weights, and pages the same figures.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from sklearn.datasets import load_digits
from torch import nn

import broadaxe
from broadaxe.frontend.torch_float import export_torch

ROOT = Path(__file__).parent.parent


def images() -> dict[str, np.ndarray[Any, Any]]:
    """1,197 rows to train on, 150 to choose by, 450 to test on: 8 x 8 pixels in [0, 1]."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x, y = (digits.images[order, None] / 16).astype(np.float32), digits.target[order]
    parts = {"test": slice(0, 450), "val": slice(450, 600), "train": slice(600, None)}
    return {f"{n}_{part}": a[where] for part, where in parts.items() for n, a in (("x", x), ("y", y))}


@cache
def network() -> nn.Module:
    """Two convolutions and a linear layer, trained."""
    rows = images()
    x, y = torch.tensor(rows["x_train"], dtype=torch.float64), torch.tensor(rows["y_train"])
    torch.manual_seed(0)
    first = [nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    second = [nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    model = nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(256, 10)).double()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for _ in range(150):
        batch = torch.randint(len(x), (128,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_((tensor * 4096).round() / 4096)
    return model.float().eval()


@cache
def brevitas_network() -> nn.Module:
    """The same shapes in Brevitas, 4 bits, with activation ranges of some images; untrained."""
    import brevitas.nn as qnn
    from brevitas.graph.calibrate import calibration_mode
    from brevitas.quant import Uint8ActPerTensorFloat

    torch.manual_seed(0)
    layers = [qnn.QuantIdentity(bit_width=8, act_quant=Uint8ActPerTensorFloat)]
    for inputs, outputs, stride in ((1, 8, 1), (8, 16, 2)):
        conv = qnn.QuantConv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False, weight_bit_width=4)
        layers += [conv, nn.BatchNorm2d(outputs), qnn.QuantReLU(bit_width=4)]
    module = nn.Sequential(*layers, nn.Flatten(), qnn.QuantLinear(256, 10, bias=True, weight_bit_width=4)).eval()
    with torch.no_grad(), calibration_mode(module):
        module(torch.tensor(images()["x_train"][:100]))
    return module


def digits(folder: Path) -> None:
    """float.onnx, and rows: calib.npz, x.npz, and with labels val.npz and test.npz."""
    rows = images()
    model = export_torch(network(), rows["x_train"][:1])
    model.graph.name = "digits"
    onnx.save(model, folder / "float.onnx")
    name = model.graph.input[0].name
    np.savez(folder / "calib.npz", **{name: rows["x_train"][:400]})
    np.savez(folder / "x.npz", **{name: rows["x_test"][:20]})
    for part in ("val", "test"):
        np.savez(folder / f"{part}.npz", **{name: rows[f"x_{part}"], "labels": rows[f"y_{part}"]})


def quantized(folder: Path) -> None:
    """model.onnx, quantized to 4 bits under a budget of 12, and its record model.json; with the files of `digits`."""
    digits(folder)
    made = broadaxe.quantize(folder / "float.onnx", images()["x_train"], acc_bits=12, weight_bits=4, act_bits=4)
    made.save(folder / "model.onnx")


def build(folder: Path) -> None:
    """build/, compiled from model.onnx; with the files of `quantized`."""
    quantized(folder)
    broadaxe.compile(folder / "model.onnx", folder / "build")


def examples(folder: Path) -> None:
    """examples/, as in the repository."""
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))


@dataclass(frozen=True)
class Prepared:
    """Files of a page's folder, and source that a page's Python session starts with."""

    files: Callable[[Path], None]
    names: str = ""


DIGITS = """
import torch
from page_inputs import images, network
torch.set_num_threads(1)
model, rows = network(), images()
x_train, y_train, x_test, y_test = (rows[name] for name in ("x_train", "y_train", "x_test", "y_test"))
del images, network, rows
"""
PREPARED = {
    "digits": Prepared(digits, DIGITS),
    "quantized": Prepared(quantized, DIGITS),
    "build": Prepared(build, DIGITS),
    "examples": Prepared(examples),
}

if __name__ == "__main__":
    if sys.argv[1:] not in [[name] for name in PREPARED]:
        sys.exit(
            f"give one of {', '.join(PREPARED)}: the files that pages with `<!-- needs: ... -->` start from, made here"
        )
    PREPARED[sys.argv[1]].files(Path.cwd())
    print("\n".join(sorted(path.name for path in Path.cwd().iterdir())))
