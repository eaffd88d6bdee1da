"""Model files, and tensors whose data lie in other files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import broadaxe
from broadaxe.errors import RequestError
from broadaxe.frontend.files import read_onnx

from . import provokes

COVERS = ("frontend/files.py",)

Change = Callable[[Path, TensorProto], object]


def split(folder: Path, change: Change = lambda folder, tensor: None) -> Path:
    """A model with one initializer, `w`, whose 24 bytes of data are in weights.bin; its file, once changed."""
    path = folder / "model.onnx"
    weights = numpy_helper.from_array(np.ones((2, 3), np.float32), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", n]) for name, n in (("x", 2), ("y", 3))]
    model = helper.make_model(helper.make_graph([node], "net", ends[:1], ends[1:], [weights]), ir_version=10)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    change(folder, model.graph.initializer[0])
    path.write_bytes(model.SerializeToString())
    return path


def said(**entries: str) -> Change:
    """The initializer says something else of its data."""

    def change(folder: Path, tensor: TensorProto) -> None:
        kept = {e.key: e.value for e in tensor.external_data} | entries
        del tensor.external_data[:]
        for key, value in kept.items():
            tensor.external_data.add(key=key, value=value)

    return change


def reading(message: str) -> Callable[[Change], Change]:
    """A case that compiles the model once a function has changed it."""

    def enter(change: Change) -> Change:
        def provoke(tmp: Path) -> None:
            broadaxe.compile(split(tmp, change), tmp / "out")

        provokes(f"{{tmp}}/model.onnx: {message}", RequestError, change.__name__)(provoke)
        return change

    return enter


@provokes("{tmp}/none.onnx: cannot be read (No such file or directory); name a complete .onnx file", RequestError)
def missing_file(tmp: Path) -> None:
    broadaxe.compile(tmp / "none.onnx", tmp / "out")


@provokes(
    "{tmp}/model.onnx: is not an ONNX file, or only a part of one (DecodeError); name a complete .onnx file",
    RequestError,
)
def cut_file(tmp: Path) -> None:
    path = split(tmp)
    path.write_bytes(path.read_bytes()[:50])
    broadaxe.compile(path, tmp / "out")


@provokes("{tmp}/model.onnx: has more than 20 bytes of data; only models below 2 GiB can be used", RequestError)
def heavy_data(tmp: Path) -> None:
    """2 GiB, with a lower limit."""
    with mock.patch("broadaxe.frontend.files.MAX_BYTES", 20):
        read_onnx(split(tmp))


@reading("initializer w: has shape [1099511627776]; at most 134217728 elements are supported")
def endless_shape(folder: Path, tensor: TensorProto) -> None:
    tensor.dims[:] = [1 << 40]


@reading("initializer w: gives 4 bytes of data; its shape and type need 24, repair the model")
def short_data(folder: Path, tensor: TensorProto) -> None:
    said(length="4")(folder, tensor)


@reading("initializer w: its data are in pipe, which is no file; put a file there")
def data_in_a_pipe(folder: Path, tensor: TensorProto) -> None:
    os.mkfifo(folder / "pipe")
    said(location="pipe")(folder, tensor)


@reading("initializer w: its data are bytes 100 to 124 of weights.bin, which has 24; put the complete file there")
def data_behind_the_end(folder: Path, tensor: TensorProto) -> None:
    said(offset="100")(folder, tensor)


@reading(
    "initializer w: its data in none.bin cannot be read (No such file or directory); put the data file beside the model"
)
def missing_data(folder: Path, tensor: TensorProto) -> None:
    said(location="none.bin")(folder, tensor)


@reading("initializer w: its data are in '../secret.bin'; only files in the model's own folder are read, name one")
def data_above_the_folder(folder: Path, tensor: TensorProto) -> None:
    said(location="../secret.bin")(folder, tensor)


@reading("initializer w: its data are in 'link.bin', a link out of the model's folder; copy the file into it")
def data_behind_a_link(folder: Path, tensor: TensorProto) -> None:
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    said(location="link.bin")(folder, tensor)


@reading("initializer w: offset of its data is '0x10'; a number of bytes is needed, repair the model")
def offset_that_is_no_number(folder: Path, tensor: TensorProto) -> None:
    said(offset="0x10")(folder, tensor)


@reading("initializer w: holds STRING; only numbers can lie in another file")
def text_in_another_file(folder: Path, tensor: TensorProto) -> None:
    tensor.data_type = TensorProto.STRING
