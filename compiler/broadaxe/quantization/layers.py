"""The layers of a QONNX model whose weights are solved for: where they stand, and their weights and inputs as matrices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from broadaxe.frontend.standard import attribute, is_quantizer
from broadaxe.ir import IntArray
from broadaxe.lower import Walk
from broadaxe.ops.importing import Array, Constant, Grid, Scaled
from broadaxe.ops.mac import Mac

LINEAR = ("Conv", "Gemm", "MatMul")
SUMS = (*LINEAR, "AveragePool", "GlobalAveragePool", "ReduceMean")
BLOCK_ELEMENTS = 1 << 24


@dataclass(frozen=True, eq=False)
class Layer:
    """A multiply-accumulate node and how its tensors become matrices in the order of the hardware, (kh, kw, c).

    Attributes:
        node: the model's node.
        groups: rows are divided into as many runs, each with inputs of its own.
        places: where each weight of the matrix stands in the flattened weight tensor, shape (rows, inputs).
        lo, hi: proven codes of each input of each group, int64, shape (groups, inputs); pad codes included.
        float_weights: before any Quant, in the weight tensor's shape.
        bits, narrow: of the model's own weight Quant, or None.
        steps: its scale, float64, shape (rows,), or None.
    """

    node: onnx.NodeProto
    groups: int
    places: IntArray
    lo: Tensor
    hi: Tensor
    float_weights: Array
    bits: int | None
    narrow: bool
    steps: Tensor | None

    @property
    def name(self) -> str:
        return str(self.node.name or self.node.output[0])

    @property
    def where(self) -> str:
        return f"{self.name} ({self.node.op_type})"

    @property
    def rows(self) -> int:
        return len(self.places)

    @property
    def inputs(self) -> int:
        return int(self.places.shape[1])

    def matrix(self) -> Tensor:
        """Float weights, float64, shape (rows, inputs)."""
        return torch.from_numpy(self.float_weights.reshape(-1)[self.places].astype(np.float64))

    def tensor(self, matrix: Array) -> Array:
        """A matrix of (rows, inputs) as the weight tensor."""
        out = np.empty(self.float_weights.size, dtype=matrix.dtype)
        out[self.places] = matrix
        return out.reshape(self.float_weights.shape)

    @property
    def output_axis(self) -> int:
        """Axis of the weight tensor that counts rows."""
        if self.node.op_type == "Conv":
            return 0
        return 0 if attribute(self.node, "transB", 0) else 1

    def blocks(self, x: Array) -> Iterator[Tensor]:
        """Rows of inputs of every group from activations, in blocks.

        Args:
            x: float32, shape (samples, ...), the node's input.

        Yields:
            float32, shape (groups, rows, inputs); of a Conv with rows next to each other in memory, which is what sums over
            them are fastest on.
        """
        if self.node.op_type != "Conv":
            order = torch.from_numpy(self._columns())
            rows = x.reshape(-1, self.inputs)
            step = max(1, BLOCK_ELEMENTS // self.inputs)
            for at in range(0, len(rows), step):
                yield torch.from_numpy(np.ascontiguousarray(rows[at : at + step], dtype=np.float32))[None, :, order]
            return
        _, channels, *kernel = self.float_weights.shape
        stride = attribute(self.node, "strides", [1, 1])
        dilation = attribute(self.node, "dilations", [1, 1])
        top, left, bottom, right = self._pads(x.shape[2:], kernel, stride, dilation)
        size = [x.shape[2] + top + bottom, x.shape[3] + left + right]
        out = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(size, kernel, stride, dilation, strict=True)]
        ends = [(n - 1) * s + 1 for n, s in zip(out, stride, strict=True)]
        stacked = np.arange(self.inputs).reshape(channels, -1).T.reshape(-1)
        moved = np.argsort(stacked)[self._columns()]
        step = max(1, BLOCK_ELEMENTS // max(1, self.groups * self.inputs * out[0] * out[1]))
        for at in range(0, len(x), step):
            part = torch.from_numpy(np.ascontiguousarray(x[at : at + step], dtype=np.float32))
            padded = torch.nn.functional.pad(part, (left, right, top, bottom))
            taps = torch.empty(self.groups, int(np.prod(kernel)), channels, len(part), *out)
            for tap, (i, j) in enumerate(np.ndindex(*kernel)):
                row, column = i * dilation[0], j * dilation[1]
                seen = padded[:, :, row : row + ends[0] : stride[0], column : column + ends[1] : stride[1]]
                taps[:, tap] = seen.reshape(len(part), self.groups, channels, *out).permute(1, 2, 0, 3, 4)
            inputs = taps.reshape(self.groups, self.inputs, -1)
            if not np.array_equal(moved, np.arange(self.inputs)):
                inputs = inputs[:, moved]
            yield inputs.transpose(1, 2)

    def _columns(self) -> IntArray:
        """Which input, in the order of the weight tensor, each column of the matrix is."""
        shape, axis = self.float_weights.shape, self.output_axis
        where = list(np.unravel_index(self.places[0], shape))
        rest = [n for i, n in enumerate(shape) if i != axis]
        del where[axis]
        return np.asarray(np.ravel_multi_index(where, rest), dtype=np.int64)

    def _pads(self, size: Any, kernel: Any, stride: Any, dilation: Any) -> tuple[int, int, int, int]:
        auto = attribute(self.node, "auto_pad", b"NOTSET").decode()
        if auto in ("NOTSET", "VALID"):
            pads = attribute(self.node, "pads", [0, 0, 0, 0]) if auto == "NOTSET" else [0, 0, 0, 0]
            return pads[0], pads[1], pads[2], pads[3]
        total = [
            max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
            for n, k, s, d in zip(size, kernel, stride, dilation, strict=True)
        ]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        before, after = (small, large) if auto == "SAME_UPPER" else (large, small)
        return before[0], before[1], after[0], after[1]


def layer_of(
    walk: Walk, node: onnx.NodeProto, makers: dict[str, onnx.NodeProto], *, quantized: bool = False
) -> Layer | None:
    """The layer that a node is, or None; the walk is left as it was before the node.

    `quantized` takes the weights as the model's own Quant leaves them for the float ones.

    The node is lowered with the numbers 0, 1, 2, ... for weights: what comes out tells where each weight goes and which codes
    it meets, for whatever the compiler can lower.
    """
    if node.op_type not in LINEAR or node.domain not in ("", "ai.onnx") or len(node.input) < 2 or not node.output:
        return None
    x, weight = walk.states.get(node.input[0]), walk.states.get(node.input[1])
    if not isinstance(x, Scaled) or not isinstance(weight, Constant):
        return None
    array, quant = _before_quant(walk, node.input[1], makers)
    scale = None if weight.grid is None else np.broadcast_to(weight.grid.scale, array.shape).reshape(-1)
    if quantized:
        array = weight.array
    shape = array.shape
    numbers = Grid(np.arange(array.size, dtype=np.int64).reshape(shape), np.ones((1,) * len(shape), dtype=np.float32))
    walk.states[node.input[1]] = Constant(array, numbers, 32, True)
    before = len(walk.builder.nodes)
    walk.take(node)
    walk.states[node.input[1]] = weight
    del walk.states[node.output[0]]
    mac = next(n for n in walk.builder.nodes[before:] if isinstance(n.op, Mac))
    assert isinstance(mac.op, Mac)
    lo, hi = mac.op.operands(walk.builder.values[mac.inputs[0]])
    groups = int(attribute(node, "group", 1)) if node.op_type == "Conv" else 1
    first = np.arange(groups) * (mac.op.outputs // groups) if len(lo) > 1 else np.zeros(groups, dtype=np.int64)
    return Layer(
        node,
        groups,
        mac.op.weights.astype(np.int64),
        torch.from_numpy(lo[first].astype(np.int64)),
        torch.from_numpy(hi[first].astype(np.int64)),
        array,
        weight.bits,
        bool(attribute(quant, "narrow", 0)) if quant is not None and (weight.bits or 2) > 1 else True,
        None if scale is None else torch.from_numpy(scale[mac.op.weights[:, 0].astype(np.int64)].astype(np.float64)),
    )


def _before_quant(walk: Walk, name: str, makers: dict[str, onnx.NodeProto]) -> tuple[Array, onnx.NodeProto | None]:
    """Float weights behind a tensor, and the Quant they pass through."""
    node, state = makers.get(name), walk.states[name]
    assert isinstance(state, Constant)
    if node is not None and is_quantizer(node):
        source = walk.states[node.input[0]]
        assert isinstance(source, Constant)
        return np.broadcast_to(source.array, state.array.shape), node
    if node is not None and node.op_type in ("Transpose", "Identity"):
        array, quant = _before_quant(walk, node.input[0], makers)
        if node.op_type == "Transpose":
            array = array.transpose(attribute(node, "perm", list(range(array.ndim))[::-1]))
        return array, quant
    return state.array, None


def absorbs_offset(model: onnx.ModelProto, node: onnx.NodeProto, constants: set[str]) -> bool:
    """Whether every path from a layer's output meets a Quant or the model's end before another activation or sum."""
    return all(reader.op_type not in SUMS and not _joins(reader, constants) for reader in _behind(model, node))


def needs_own_steps(model: onnx.ModelProto, node: onnx.NodeProto, constants: set[str]) -> bool:
    """Whether a layer's output meets another activation or layer before a Quant, so that all its channels need the scale
    that they have in the model."""
    return any(reader.op_type in LINEAR or _joins(reader, constants) for reader in _behind(model, node))


def _joins(node: onnx.NodeProto, constants: set[str]) -> bool:
    return sum(i not in constants for i in node.input if i) > 1


def _behind(model: onnx.ModelProto, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """Nodes on the paths from a layer's output to the next quantizers, those left out."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for reader in model.graph.node:
        for name in reader.input:
            readers.setdefault(name, []).append(reader)
    waiting, seen = [str(node.output[0])], set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for reader in readers.get(name, []):
            if not is_quantizer(reader):
                yield reader
                waiting.extend(reader.output)
