"""Numbers of .tflite files without TensorFlow: enough of the flatbuffer to read operators and quantized constants.

A table starts with the distance to its vtable, which holds the offset of every field or 0; strings, vectors and tables
behind a field are distances again. Field numbers below are those of TensorFlow's schema.fbs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

OPERATORS = {3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 9: "FULLY_CONNECTED"}
TYPES = {0: np.float32, 2: np.int32, 9: np.int8}


@dataclass(frozen=True)
class _Table:
    data: bytes
    at: int

    def field(self, number: int) -> int | None:
        vtable = self.at - struct.unpack_from("<i", self.data, self.at)[0]
        (size,) = struct.unpack_from("<H", self.data, vtable)
        place = 4 + 2 * number
        (offset,) = struct.unpack_from("<H", self.data, vtable + place) if place < size else (0,)
        return self.at + offset if offset else None

    def number(self, field: int, kind: str) -> int:
        at = self.field(field)
        return 0 if at is None else int(struct.unpack_from(f"<{kind}", self.data, at)[0])

    def vector(self, field: int, kind: type) -> np.ndarray:
        at = self.field(field)
        if at is None:
            return np.zeros(0, dtype=kind)
        at += struct.unpack_from("<I", self.data, at)[0]
        return np.frombuffer(
            self.data, np.dtype(kind).newbyteorder("<"), struct.unpack_from("<I", self.data, at)[0], at + 4
        )

    def table(self, field: int) -> _Table:
        at = self.field(field)
        assert at is not None
        return _Table(self.data, at + struct.unpack_from("<I", self.data, at)[0])

    def tables(self, field: int) -> list[_Table]:
        at = self.field(field)
        assert at is not None
        at += struct.unpack_from("<I", self.data, at)[0]
        (count,) = struct.unpack_from("<I", self.data, at)
        places = range(at + 4, at + 4 + 4 * count, 4)
        return [_Table(self.data, place + struct.unpack_from("<I", self.data, place)[0]) for place in places]


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor; real = scale * (value - zero_point), per tensor or along `axis`."""

    shape: tuple[int, ...]
    values: np.ndarray | None
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int

    @property
    def range(self) -> tuple[float, float]:
        """Reals that 8 bits of it hold."""
        scale, zero = float(self.scale[0]), int(self.zero_point[0])
        return (-128 - zero) * scale, (127 - zero) * scale


@dataclass(frozen=True, eq=False)
class Linear:
    """A layer with weights: (out, kh, kw, in), (1, kh, kw, channels) where depthwise, or (out, in)."""

    operator: str
    source: Tensor
    weight: Tensor
    bias: Tensor


def linear_layers(content: bytes) -> Iterator[Linear]:
    """Convolutions and fully connected layers of a file, in its order."""
    model = _Table(content, struct.unpack_from("<I", content)[0])
    kinds = [max(code.number(0, "b"), code.number(3, "i")) for code in model.tables(1)]
    buffers = model.tables(4)
    graph = model.tables(2)[0]
    tensors = [_tensor(table, buffers) for table in graph.tables(0)]
    for operator in graph.tables(3):
        kind = OPERATORS.get(kinds[operator.number(0, "I")])
        if kind is not None:
            source, weight, bias = (tensors[i] for i in operator.vector(1, np.int32))
            yield Linear(kind, source, weight, bias)


def _tensor(table: _Table, buffers: list[_Table]) -> Tensor:
    shape = tuple(int(n) for n in table.vector(0, np.int32))
    kind, raw = TYPES.get(table.number(1, "b")), buffers[table.number(2, "I")].vector(0, np.uint8)
    values = raw.view(kind).reshape(shape) if kind is not None and len(raw) else None
    if table.field(4) is None:
        return Tensor(shape, values, np.ones(1), np.zeros(1, dtype=np.int64), 0)
    quantization = table.table(4)
    scale, zero = quantization.vector(2, np.float32), quantization.vector(3, np.int64)
    return Tensor(shape, values, scale, zero, quantization.number(6, "i"))
