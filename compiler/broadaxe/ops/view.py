"""View: the same stream of integers under another shape. It costs nothing: no hardware, no reordering."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
from onnx import helper

from broadaxe.chain import Affine, spread
from broadaxe.errors import GraphError
from broadaxe.ir import Bounds, Example, IntArray, OnnxBuilder, Op, Shape, Value
from broadaxe.ops.importing import GraphBuilder, ModelNode, Scaled, Tail, Tensor, imports, refuse_waiting
from broadaxe.types import Interval, IntType


@dataclass(frozen=True)
class View(Op):
    """Reads a stream under shape `to`; the flat order of elements stays."""

    kind = "view"
    moves = True
    hardware = False
    to: Shape

    def shape(self, *inputs: Value) -> Shape:
        if prod(self.to) != inputs[0].size:
            raise GraphError(f"view: {inputs[0].size} elements do not fill shape {self.to}; give a shape of as many")
        return self.to

    def bounds(self, *inputs: Value) -> Bounds:
        """Element i of the stream was channel i mod C before and is channel i mod C' now."""
        old, new = inputs[0].channels, self.to[-1]
        if new % old == 0:
            return inputs[0].bounds * (new // old)
        lo, hi = (np.tile(end, inputs[0].size // old).reshape(-1, new) for end in inputs[0].ends())
        return tuple(Interval(a, b) for a, b in zip(lo.min(axis=0).tolist(), hi.max(axis=0).tolist(), strict=True))

    def dtype(self, *inputs: Value) -> IntType:
        return inputs[0].dtype

    def reference(self, *inputs: IntArray) -> IntArray:
        return inputs[0].reshape(len(inputs[0]), *self.to)

    def render(self, builder: OnnxBuilder, inputs: Sequence[str], values: Sequence[Value]) -> str:
        return builder.node("Reshape", inputs[0], builder.constant(np.array([-1, *self.to], dtype=np.int64)))

    @classmethod
    def examples(cls) -> Iterable[Example]:
        kind = IntType(4, signed=False)
        bounds = tuple(Interval(0, c + 1) for c in range(6))
        image = Value("x", (2, 3, 6), kind, bounds)
        yield Example("flatten", cls((36,)), (image,))
        yield Example("narrower", cls((9, 4)), (image,))


# Operators that only move elements change a tensor's index, never the stream: whoever reads the tensor next takes the
# permutation into its weights, or says that it cannot.


@imports("Reshape")
def import_reshape(graph: GraphBuilder, node: ModelNode) -> Tensor:
    x = node.scaled(0)
    shape = [int(v) for v in node.floats(1, "shape").reshape(-1)]
    keep = not node.attribute("allowzero", 0)
    whole = (node.batch, *x.shape[1:])
    target = [whole[i] if v == 0 and keep and i < len(whole) else v for i, v in enumerate(shape)]
    known = prod(v for v in target if v != -1)
    if target[:1] == [-1] and known and prod(whole) == node.batch * known:
        target[0] = node.batch
    if node.batch > 1 and target[:1] != [node.batch]:
        raise node.fail(
            f"its shape {shape} mixes the samples of a batch of {node.batch}; keep the batch axis first, or export the"
            " model for one sample"
        )
    return _moved(node, x, [1, *target[1:]] if target[:1] == [node.batch] else target)


@imports("Flatten")
def import_flatten(graph: GraphBuilder, node: ModelNode) -> Tensor:
    x = node.scaled(0)
    axis = int(node.attribute("axis", 1))
    if not -len(x.shape) <= axis <= len(x.shape):
        raise node.fail(f"axis is {axis}; its input has {len(x.shape)} axes, repair the model")
    axis %= len(x.shape) if axis < 0 else len(x.shape) + 1
    if axis == 0:
        raise node.fail("axis is 0, which mixes the batch axis with others; keep the batch axis first")
    return _moved(node, x, [prod(x.shape[:axis]), prod(x.shape[axis:])])


@imports("Squeeze", "Unsqueeze")
def import_squeeze(graph: GraphBuilder, node: ModelNode) -> Tensor:
    x = node.scaled(0)
    given = node.attribute("axes", None)
    if given is None and (len(node.inputs) > 1 or node.op_type == "Unsqueeze"):
        given = node.floats(1, "axes").reshape(-1)
    whole = (node.batch, *x.shape[1:])
    axes = [int(a) for a in given] if given is not None else [i for i, n in enumerate(whole) if n == 1]
    add = node.op_type == "Unsqueeze"
    if node.batch > 1 and {0, -len(whole) - add * len(axes)} & set(axes):
        raise node.fail(f"its axes {axes} move a batch of {node.batch}; keep the batch axis first")
    try:
        index = np.expand_dims(x.index, tuple(axes)) if add else np.squeeze(x.index, tuple(axes))
    except ValueError:  # AxisError is one
        what = f"add axes {axes} to" if add else f"remove axes {axes} of"
        raise node.fail(f"cannot {what} a tensor of shape {list(x.shape)}; repair the model") from None
    return _moved(node, x, index.shape)


@imports("Transpose")
def import_transpose(graph: GraphBuilder, node: ModelNode) -> Tensor:
    x = node.scaled(0)
    perm = [int(p) for p in node.attribute("perm", list(range(len(x.shape)))[::-1])]
    if sorted(perm) != list(range(len(x.shape))):
        raise node.fail(f"its perm {perm} is not a permutation of {len(x.shape)} axes; repair the model")
    if perm[0] != 0:
        raise node.fail(f"its perm {perm} moves the batch axis; keep it first")
    return replace(x, index=x.index.transpose(perm))


@imports("DepthToSpace")
def import_depth_to_space(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """Blocks of channels become pixels: another order of the same elements."""
    x = node.scaled(0)
    size, mode = node.attribute("blocksize", 0), node.attribute("mode", "DCR")
    if len(x.shape) != 4 or not isinstance(size, int) or size < 1 or x.shape[1] % (size * size):
        raise node.fail(f"its blocksize {size} does not divide an input of shape {list(x.shape)}; repair the model")
    if mode not in ("DCR", "CRD"):
        raise node.fail(f"its mode {mode!r} is unknown; use DCR or CRD")
    _, channels, height, width = x.shape
    deep = channels // size**2
    parts = (1, size, size, deep, height, width) if mode == "DCR" else (1, deep, size, size, height, width)
    order = (0, 3, 4, 1, 5, 2) if mode == "DCR" else (0, 1, 4, 2, 5, 3)
    index = x.index.reshape(parts).transpose(order).reshape(1, deep, height * size, width * size)
    return replace(x, index=index)


@imports("Identity", "Dropout")
def import_identity(graph: GraphBuilder, node: ModelNode) -> Tensor:
    return node.scaled(0)


@imports("Cast")
def import_cast(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """Nothing, where the new element type holds every value that can occur; the host casts the others."""
    x = node.scaled(0)
    kind = helper.tensor_dtype_to_np_dtype(int(node.attribute("to", 0)))
    if kind in (np.float32, np.float64) or (kind.kind in "iu" and _holds_integers(graph, x, kind)):
        return replace(x, kind=kind.name)
    refuse_waiting(node, x)
    return Tail(node.output, (node.input_names[0],), node.where)


def _holds_integers(graph: GraphBuilder, x: Scaled, kind: np.dtype[Any]) -> bool:
    """Whether x's reals are integers that an integer type of numpy holds."""
    (first, *rest), value = x.chain, graph.values[x.value]
    if (
        rest
        or x.pools
        or not isinstance(first, Affine)
        or any(v.denominator != 1 for v in (*first.scale, *first.shift))
    ):
        return False
    scale, shift, _ = spread(first.scale, first.shift, (Fraction(0),) * value.channels)
    limits = Interval(int(np.iinfo(kind).min), int(np.iinfo(kind).max))
    return all(b * int(s) + int(t) in limits for b, s, t in zip(value.bounds, scale, shift, strict=True))


def _moved(node: ModelNode, x: Scaled, shape: Sequence[int]) -> Scaled:
    try:
        index = x.index.reshape(tuple(shape))
    except ValueError:
        raise node.fail(
            f"cannot give shape {list(shape)} to a tensor of shape {list(x.shape)}; repair the model"
        ) from None
    if not index.shape or index.shape[0] != 1:
        raise node.fail(f"its shape {list(shape)} mixes the batch axis with others; keep the batch axis first")
    return replace(x, index=index)
