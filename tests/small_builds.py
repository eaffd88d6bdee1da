"""Builds that are compiled once a run and copied for whoever changes them."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import onnx
from models import Network

import broadaxe

_folder = tempfile.TemporaryDirectory(prefix="broadaxe-")


def requantizer() -> onnx.ModelProto:
    """The smallest model there is: four numbers from one quantizer to the next."""
    net = Network(4)
    return net.finish(net.quant(net.quant("x", 0.25), 0.5, bits=3))


def layer() -> onnx.ModelProto:
    """Four inputs, three outputs."""
    net = Network(4)
    return net.finish(net.quant(net.node("MatMul", net.quant("x", 0.25), net.weights(4, 3), name="fc"), 0.5))


@functools.cache
def _compiled(name: str, settings: tuple[tuple[str, Any], ...]) -> broadaxe.Build:
    place = Path(_folder.name) / "-".join([name, *(f"{key}-{value}" for key, value in settings)])
    return broadaxe.compile({"requantizer": requantizer, "layer": layer}[name](), place, **dict(settings))


def compiled(name: str = "layer", **settings: Any) -> broadaxe.Build:
    """The build of a model of this module; not to be changed."""
    return _compiled(name, tuple(sorted(settings.items())))


def copied(folder: Path, name: str = "layer", **settings: Any) -> Path:
    """A copy of it in `folder`."""
    return Path(shutil.copytree(compiled(name, **settings).path, folder / "build"))
