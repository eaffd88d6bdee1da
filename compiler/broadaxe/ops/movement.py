"""Slice, Split, Gather, Pad, Tile, Expand, Resize, Upsample, SpaceToDepth: operators that select and repeat elements.

What they do to a tensor's elements they do to the positions of these elements, too: onnxruntime runs the operator itself on
the tensor's index, so that every attribute of every operator set means what it means there.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from onnx import NodeProto

from broadaxe import constants as folded  # which imports this package
from broadaxe.ir import IntArray
from broadaxe.ops.importing import (
    MAX_ELEMENTS,
    Array,
    Constant,
    GraphBuilder,
    ModelNode,
    Tensor,
    admit,
    imports,
    moved,
)
from broadaxe.ops.lookup import gather_rows
from broadaxe.ops.window_max import settled

EXACT_FLOAT32 = 1 << 24
MOST_MOVED = 1 << 24
"""Elements that an operator may make: each has a position while it is lowered."""


@imports("Slice", "Split", "Gather", "Tile", "Expand")
def import_selection(graph: GraphBuilder, node: ModelNode) -> tuple[Tensor | None, ...]:
    if node.op_type == "Gather" and isinstance(node.inputs[0], Constant):
        return (gather_rows(graph, node),)
    return _tensors(graph, node, np.int64)


@imports("SpaceToDepth")
def import_space_to_depth(graph: GraphBuilder, node: ModelNode) -> tuple[Tensor | None, ...]:
    return _tensors(graph, node, np.float32)


@imports("Resize", "Upsample")
def import_resize(graph: GraphBuilder, node: ModelNode) -> tuple[Tensor | None, ...]:
    """To the nearest element; other modes mix elements."""
    mode = node.attribute("mode", "nearest")
    if mode != "nearest":
        raise node.fail(
            f"its mode is {mode!r}; only nearest is supported, use it or a ConvTranspose with fixed weights"
        )
    if node.attribute("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise node.fail("its coordinate_transformation_mode is tf_crop_and_resize; use Slice and Resize")
    return _tensors(graph, node, np.float32)


@imports("Pad")
def import_pad(graph: GraphBuilder, node: ModelNode) -> tuple[Tensor | None, ...]:
    """Constant, reflect, edge and wrap; negative pads cut. A constant has to be a code of the input."""
    given = node.constant(2, "value").array if len(node.inputs) > 2 and node.inputs[2] is not None else None
    value = np.asarray(node.attribute("value", 0.0) if given is None else given)
    if value.size != 1 or not np.isfinite(value).all():
        raise node.fail(f"its value is {value.reshape(-1)[:3].tolist()}; one finite number is needed")
    kind = np.int64 if node.opset >= 11 else np.float32
    return _tensors(graph, node, kind, Fraction(value.item()))


def _tensors(
    graph: GraphBuilder, node: ModelNode, kind: type[np.generic], fill: Fraction = Fraction(0)
) -> tuple[Tensor | None, ...]:
    """Run the node on the positions of its input, counted from 1 so that 0 is padding, for the model's whole batch."""
    x = settled(graph, node, node.scaled(0))
    for position in range(1, len(node.inputs)):
        if node.inputs[position] is not None:
            node.constant(position, f"input {position}")
    if kind is np.float32 and x.index.size >= EXACT_FLOAT32:
        raise node.fail(f"its input holds {x.index.size} elements; fewer than {EXACT_FLOAT32} are supported")
    proto = _with_zero(node)
    arrays: dict[str, Array] = {}
    for name, tensor in zip(proto.input, node.inputs, strict=True):
        if isinstance(tensor, Constant):
            arrays[name] = tensor.array
    if node.op_type == "Pad" and len(proto.input) > 2 and proto.input[2]:
        arrays[proto.input[2]] = np.zeros((), dtype=kind)
    # samples that a float32 could not tell apart are counted alike
    apart = 0 if kind is np.float32 else int(x.index.max()) + 1
    admit(node.where, (node.batch, *x.shape))
    samples = np.arange(node.batch).reshape(-1, *[1] * (len(x.shape) - 1)) * apart
    arrays[proto.input[0]] = (x.index + 1 + samples).astype(kind)
    constants = {name: array for name, array in arrays.items() if name != proto.input[0]}
    made = folded.all_inferred(node, proto, {n: folded.type_of(a) for n, a in arrays.items()}, constants)
    most = min(MOST_MOVED * node.batch, MAX_ELEMENTS)
    if (count := sum(map(folded.elements, made.values()))) > most:
        raise node.fail(f"makes {count} elements; at most {most} are supported")
    results = folded.evaluate_all(node, proto, arrays)
    return tuple(
        moved(graph, node, x, _of_one_sample(node, results[name], apart), fill) if name else None
        for name in proto.output
    )


def _of_one_sample(node: ModelNode, numbers: Array, apart: int) -> IntArray:
    """Positions in each sample, -1 for padding, of numbers for the whole batch, in which no sample may read another."""
    found = np.rint(numbers).astype(np.int64)
    if node.batch == 1:
        return found - 1
    if found.ndim and len(found) == node.batch:
        samples = np.arange(node.batch).reshape(-1, *[1] * (found.ndim - 1)) * apart
        own = np.where(found > 0, found - samples, 0)
        if (own == own[0]).all():
            return own[:1] - 1
    raise node.fail("mixes the samples of a batch; keep the batch axis first, or export the model for one sample")


def _with_zero(node: ModelNode) -> NodeProto:
    """The node in the standard domain; padding is 0 whatever the model pads with, and an input has a name of its own."""
    proto = NodeProto()
    assert node.proto is not None
    proto.CopyFrom(node.proto)
    proto.domain = ""
    for position, name in enumerate(proto.input):
        proto.input[position] = f"in{position}" if name else ""
    for attribute in proto.attribute:
        if node.op_type == "Pad" and attribute.name == "value":
            attribute.f = 0.0
    return proto
