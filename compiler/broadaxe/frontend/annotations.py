"""What FINN's and QONNX's models declare for their tensors in quantization annotations: integer types, and layouts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from broadaxe.types import Interval, IntType

Array: TypeAlias = npt.NDArray[Any]
WIDEST_INPUT = 32
"""Bits of an input that carries integers."""
KEY, LAYOUT_KEY = "finn_datatype", "tensor_layout"
_TYPE = re.compile(r"(U?)INT([1-9][0-9]?)")
_NAMED = {"BINARY": (0, 1), "BIPOLAR": (-1, 1), "TERNARY": (-1, 1)}


@dataclass(frozen=True)
class Datatype:
    """The integers lo, lo + step, ..., hi that an annotation allows."""

    name: str
    allowed: Interval
    step: int = 1

    @property
    def dtype(self) -> IntType:
        return self.allowed.dtype

    def refused(self, array: Array) -> Array:
        """The elements that are none of these integers."""
        values = array.astype(np.float64)
        inside = (values >= self.allowed.lo) & (values <= self.allowed.hi)
        return np.asarray(array[~(inside & ((values - self.allowed.lo) % self.step == 0))])


def datatype(name: str) -> Datatype | None:
    """The integers of a type name, such as UINT8, INT2, BIPOLAR; None for a type that is not one of integers."""
    if name in _NAMED:
        return Datatype(name, Interval(*_NAMED[name]), 2 if name == "BIPOLAR" else 1)
    match = _TYPE.fullmatch(name)
    if match is None or int(match[2]) > 64:
        return None
    return Datatype(name, IntType(int(match[2]), signed=not match[1]).range)


def annotated(model: onnx.ModelProto) -> dict[str, Datatype]:
    """Integer types by tensor name."""
    found = {name: datatype(text) for name, text in _entries(model, KEY)}
    return {name: kind for name, kind in found.items() if kind is not None}


def declared_layouts(model: onnx.ModelProto) -> dict[str, str]:
    """Layouts by tensor name, such as NHWC."""
    return {name: "".join(re.findall(r"[A-Za-z]", text)) for name, text in _entries(model, LAYOUT_KEY)}


def _entries(model: onnx.ModelProto, key: str) -> Iterator[tuple[str, str]]:
    """(tensor, text) of every annotation of a key."""
    for annotation in model.graph.quantization_annotation:
        for entry in annotation.quant_parameter_tensor_names:
            if entry.key == key:
                yield annotation.tensor_name, entry.value
