"""QONNX quantizers in standard operators, for onnxruntime."""

from __future__ import annotations

from pathlib import Path

from models import Network
from test_standard import MALFORMED

from broadaxe.errors import UnsupportedModelError
from broadaxe.frontend.standard import expand_quant, session

from . import provokes

COVERS = ("frontend/standard.py",)

for _label, (_model, _message) in MALFORMED.items():
    provokes(_message, UnsupportedModelError, _label)(lambda tmp, model=_model: expand_quant(model))


def quantizing() -> Network:
    net = Network(4)
    net.quant("x")
    return net


@provokes("nowhere: no node writes this tensor; ask for the output of a node", UnsupportedModelError)
def unknown_tensor(tmp: Path) -> None:
    session(expand_quant(quantizing().finish("quant1_out")), ["nowhere"])


@provokes(
    "model: onnxruntime does not load it, {...}; every operator has to be standard ONNX once expand_quant has rewritten the"
    " quantizers",
    UnsupportedModelError,
)
def quantizers_that_are_left(tmp: Path) -> None:
    session(quantizing().finish("quant1_out"))
