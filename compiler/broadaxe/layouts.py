"""In which order a model's inputs should stream: the one in which their first reader wants them.

Convolutions, pools and normalizations read channels last, products of matrices their last axis last. One backward walk asks
every reader; operators that work element by element and transpositions pass the wish on. A wrong guess costs a Rearrange, never
exactness.
"""

from __future__ import annotations

from typing import TypeAlias

import onnx

Axes: TypeAlias = tuple[int, ...]
"""Axes of a tensor without its batch axis, slowest first."""

CHANNELS_LAST = {"AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DepthToSpace", "GlobalAveragePool"}
CHANNELS_LAST |= {"GlobalMaxPool", "InstanceNormalization", "MaxPool", "PRelu", "Resize", "SpaceToDepth", "Upsample"}
AS_THEY_ARE = {"ArgMax", "Gemm", "Im2Col", "MatMul", "TopK"}
PASSING = {"Abs", "Add", "BipolarQuant", "Cast", "Clip", "Concat", "Div", "Dropout", "Elu", "Erf", "Exp", "HardSigmoid"}
PASSING |= {"HardSwish", "Identity", "IntQuant", "LeakyRelu", "Mul", "MultiThreshold", "Neg", "Pad", "Quant", "Relu"}
PASSING |= {"Sigmoid", "Sign", "Slice", "Split", "Sqrt", "Sub", "Tanh", "Trunc"}


def wishes(graph: onnx.GraphProto) -> dict[str, Axes | None]:
    """For every tensor that says so the order in which its readers want it; None stands for channels last."""
    found: dict[str, Axes | None] = {}
    for node in reversed(graph.node):
        if not node.input or not node.input[0]:
            continue
        attributes = {a.name: a for a in node.attribute}
        if node.op_type in AS_THEY_ARE or (
            node.op_type == "MultiThreshold" and "data_layout" in attributes and attributes["data_layout"].s == b"NHWC"
        ):
            found[node.input[0]] = ()
        elif node.op_type in CHANNELS_LAST:
            found[node.input[0]] = None
        elif node.op_type == "Transpose" and node.output and node.output[0] in found and "perm" in attributes:
            wish, perm = found[node.output[0]], list(attributes["perm"].ints)
            order = stream_axes(wish, len(perm))
            if perm and sorted(perm) == list(range(len(perm))) and perm[0] == 0:
                found[node.input[0]] = tuple(perm[axis] for axis in order)
        elif node.op_type in PASSING:
            known = [name for name in node.output if name in found]
            for name in node.input if known else ():
                found.setdefault(name, found[known[0]])
    return found


def stream_axes(wish: Axes | None, rank: int) -> Axes:
    """A wish as the order of the axes of a tensor of `rank` axes, its batch axis left out."""
    if wish is None:
        return (*range(2, rank), 1) if rank > 1 else ()
    return wish if len(wish) == rank - 1 else tuple(range(1, rank))
