"""An ONNX file, and the data that it keeps in other files of its folder.

A model file is untrusted: what it names outside its own folder is not read, directly, by `..` or through a link, and nothing is
read beyond the end of a file or beyond what a tensor's shape and type ask for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
from google.protobuf.json_format import ParseError  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, helper

from broadaxe.errors import RequestError
from broadaxe.frontend.wiring import MAX_ELEMENTS, label, shown

MAX_BYTES = (1 << 31) - (1 << 20)
"""What one model may weigh: a model is written and run as one protobuf message, which holds less than 2 GiB."""
PACKED = {"INT4": 2, "UINT4": 2, "FLOAT4E2M1": 2, "INT2": 4, "UINT2": 4}
"""Elements in one byte."""


def read_onnx(path: Path) -> onnx.ModelProto:
    """The model of a file, with data that lie in other files of its folder.

    Raises:
        RequestError: the file is no model, or its data cannot be read.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError, ParseError, ValueError) as error:
        reason = "cannot be read" if isinstance(error, OSError) else "is not an ONNX file, or only a part of one"
        detail = getattr(error, "strerror", None) or type(error).__name__
        raise RequestError(f"{path}: {reason} ({detail}); name a complete .onnx file") from None
    total = 0
    for place, tensor in external(model):
        total += _read(path, place, tensor)
        if total > MAX_BYTES:
            raise RequestError(f"{path}: has more than {MAX_BYTES} bytes of data; only models below 2 GiB can be used")
    return model


def external(model: onnx.ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """Tensors whose data lie in other files, with names for messages."""
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            yield f"initializer {shown(tensor.name)}", tensor
    for node in model.graph.node:
        for entry in node.attribute:
            for tensor in (*([entry.t] if entry.HasField("t") else []), *entry.tensors):
                if tensor.data_location == TensorProto.EXTERNAL:
                    yield f"{shown(label(node))} ({shown(node.op_type)})", tensor


def _read(path: Path, place: str, tensor: TensorProto) -> int:
    """Put a tensor's data into the tensor; returns how many bytes they are."""
    where = f"{path}: {place}"
    if any(n < 0 for n in tensor.dims) or prod(tensor.dims) > MAX_ELEMENTS:
        raise RequestError(f"{where}: has shape {list(tensor.dims)}; at most {MAX_ELEMENTS} elements are supported")
    needed = _bytes(where, tensor)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    file = _inside(path, where, entries.get("location", ""))
    offset = _number(where, "offset", entries.get("offset", "0"))
    length = _number(where, "length", entries.get("length", str(needed)))
    if length != needed:
        raise RequestError(f"{where}: gives {length} bytes of data; its shape and type need {needed}, repair the model")
    try:
        with open(os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise RequestError(f"{where}: its data are in {shown(file.name)}, which is no file; put a file there")
            if offset + needed > status.st_size:
                raise RequestError(
                    f"{where}: its data are bytes {offset} to {offset + needed} of {shown(file.name)}, which has"
                    f" {status.st_size}; put the complete file there"
                )
            opened.seek(offset)
            data = opened.read(needed)
    except OSError as error:
        raise RequestError(
            f"{where}: its data in {shown(file.name)} cannot be read ({error.strerror}); put the data file beside the model"
        ) from None
    tensor.raw_data = data
    del tensor.external_data[:]
    tensor.ClearField("data_location")
    return needed


def _inside(path: Path, where: str, location: str) -> Path:
    """A file that a model names, if it lies in the model's own folder."""
    parts = (*PurePosixPath(location).parts, *PureWindowsPath(location).parts)
    rooted = location.startswith(("/", "\\")) or bool(PureWindowsPath(location).drive)
    if not parts or rooted or ".." in parts or "\0" in location:
        raise RequestError(
            f"{where}: its data are in {shown(location)!r}; only files in the model's own folder are read, name one"
        )
    folder = Path(os.path.realpath(path.parent))
    file = Path(os.path.realpath(folder / location))
    if folder not in file.parents:
        raise RequestError(
            f"{where}: its data are in {shown(location)!r}, a link out of the model's folder; copy the file into it"
        )
    return file


def _number(where: str, key: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 15:
        raise RequestError(
            f"{where}: {key} of its data is {shown(text)!r}; a number of bytes is needed, repair the model"
        )
    return int(text)


def _bytes(where: str, tensor: TensorProto) -> int:
    """Size of a tensor's data."""
    known: dict[int, str] = {number: name for name, number in TensorProto.DataType.items()}
    name, count = known.get(tensor.data_type, str(tensor.data_type)), int(prod(tensor.dims))
    if name in ("UNDEFINED", "STRING") or tensor.data_type not in known:
        raise RequestError(f"{where}: holds {name}; only numbers can lie in another file")
    if name in PACKED:
        return -(-count // PACKED[name])
    return count * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
