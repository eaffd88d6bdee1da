"""Which tensors of a float model can never be negative, by what their operators are, whatever the weights or the data."""

from __future__ import annotations

from collections.abc import Collection

import onnx
from onnx import TensorProto

from broadaxe.frontend.standard import attribute, is_quantizer
from broadaxe.frontend.wiring import Wiring, standard

NEVER_NEGATIVE = ("Abs", "Exp", "HardSigmoid", "Relu", "Sigmoid", "Softmax", "Softplus")
MOVED = ("DepthToSpace", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
POOLED = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceMax", "ReduceMean", "ReduceSum")
KEEP_SIGN = (*MOVED, *POOLED, "Cast", "Elu", "LeakyRelu", "Sqrt", "Tanh")
UNSIGNED = (TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.BOOL)


def never_negative(wiring: Wiring, unsigned_inputs: Collection[str] = ()) -> set[str]:
    """Tensors whose every element is >= 0, for all inputs of the model.

    Floating point does not spoil it: each rule is about one operator, and rounding a number >= 0 leaves it >= 0.

    Args:
        wiring: the model.
        unsigned_inputs: inputs that somebody promises to be >= 0, beside those of an unsigned type.
    """
    known = {n for n, info in wiring.inputs.items() if info.type.tensor_type.elem_type in UNSIGNED}
    known |= {name for name in unsigned_inputs if name in wiring.inputs}
    known |= {n for n, v in wiring.values.items() if v.dtype.kind in "fiu" and v.size and bool((v >= 0).all())}
    for node in wiring.model.graph.node:
        if node.output[0] not in wiring.fixed and _holds(node, known, wiring):
            known.add(node.output[0])
    return known


def _holds(node: onnx.NodeProto, known: set[str], wiring: Wiring) -> bool:
    """Whether the first output of a node is >= 0, given the tensors that are."""
    operands = [name for name in node.input if name]
    if is_quantizer(node):
        zero = wiring.values.get(node.input[2]) if len(node.input) > 2 else None
        centred = zero is not None and not zero.any()
        return node.op_type != "BipolarQuant" and centred and not attribute(node, "signed", 1)
    if standard(node, *NEVER_NEGATIVE):
        return True
    if standard(node, *KEEP_SIGN):
        return operands[0] in known
    if standard(node, "Add", "Mul", "Concat", "Div"):
        return all(name in known for name in operands)
    if standard(node, "Sub"):
        value = wiring.values.get(operands[1])
        return operands[0] in known and value is not None and bool((value <= 0).all())
    if standard(node, "Clip"):
        lo, hi = (_end(node, wiring, position, name) for position, name in ((1, "min"), (2, "max")))
        if lo is None or hi is None:
            return False
        return hi >= 0 and (lo >= 0 or operands[0] in known)
    return False


def _end(node: onnx.NodeProto, wiring: Wiring, position: int, name: str) -> float | None:
    """One end of a Clip, infinite where it is left out, None where it is not known."""
    if len(node.input) > position and node.input[position]:
        value = wiring.values.get(node.input[position])
        return float(value.item()) if value is not None and value.size == 1 else None
    return float(attribute(node, name, float("-inf") if name == "min" else float("inf")))
