"""Accumulators as FINN and QONNX models declare them.

A node's attribute accDataType is the type of its accumulator; without one, FINN's matrix-vector units take INT32. Where a node
has none, the annotation finn_datatype of its output tensor is what that tensor's values have to fit.
"""

from __future__ import annotations

from fractions import Fraction

import onnx

from broadaxe.auditing.declared import finn_type, integers
from broadaxe.auditing.design import Design, Layer
from broadaxe.auditing.registers import Declaration, Register
from broadaxe.chain import spread
from broadaxe.errors import RequestError
from broadaxe.frontend.annotations import KEY
from broadaxe.ops.importing import fractions, printable

ACC = "accDataType"
ACC_BITS = "broadaxe.acc_bits"
UNITS = (
    "MVAU",
    "VVAU",
    "MatrixVectorActivation",
    "VectorVectorActivation",
    "StreamingFCLayer_Batch",
    "Vector_Vector_Activate",
)
DEFAULT = "INT32"


def is_unit(proto: onnx.NodeProto) -> bool:
    """Whether a node is one of FINN's matrix-vector units, of any backend."""
    return (
        proto.op_type.removesuffix("_hls").removesuffix("_rtl").removesuffix("_Batch") in UNITS
        or proto.op_type in UNITS
    )


def annotated(model: onnx.ModelProto) -> dict[str, str]:
    """finn_datatype by tensor, as it is written: types that only accumulators have too."""
    return {
        entry.tensor_name: pair.value
        for entry in model.graph.quantization_annotation
        for pair in entry.quant_parameter_tensor_names
        if pair.key == KEY
    }


def declaration(design: Design, layer: Layer, tensors: dict[str, str]) -> Declaration | None:
    """What a FINN or QONNX model declares of a layer's accumulator; None if nothing.

    Raises:
        RequestError: the declaration is no type.
    """
    attributes, metadata = layer.attributes, layer.metadata
    for place, text in ((ACC, attributes.get(ACC)), (f"metadata {ACC}", metadata.get(ACC))):
        if text is not None:
            return _typed(layer, str(text), place, accumulator(design, layer))
    if ACC_BITS in metadata:
        text = metadata[ACC_BITS]
        if not text.isdecimal() or not 1 <= int(text) <= 64:
            raise RequestError(f"{layer.name}: {ACC_BITS} is {printable(text)!r}; write a number of bits from 1 to 64")
        return Declaration(integers(int(text), True, f"INT{int(text)}"), ACC_BITS, codes(layer))
    if is_unit(layer.proto):
        return _typed(layer, DEFAULT, "FINN's default", accumulator(design, layer))
    tensor = layer.proto.output[0]
    if tensor in tensors and not layer.pools:
        return _typed(layer, tensors[tensor], KEY, output_tensor(design, layer))
    return None


def codes(layer: Layer) -> Register:
    """The sum of the products of codes itself."""
    return Register.of((Fraction(1),), (Fraction(0),), layer.op.outputs)


def counts_matches(layer: Layer) -> bool:
    """Whether FINN counts matching bits instead of adding products of -1 and 1."""
    attributes = layer.attributes
    both = attributes.get("inputDataType") == attributes.get("weightDataType") == "BIPOLAR"
    return layer.proto.op_type == "XnorPopcountMatMul" or attributes.get("binaryXnorMode") == 1 or both


def accumulator(design: Design, layer: Layer) -> Register:
    """What FINN adds up: products of the tensors' own integers; matches of bits where the unit counts those."""
    register = Register.tensor(layer)
    if not counts_matches(layer):
        return register
    if layer.attributes.get("inputDataType") == "BIPOLAR":
        # with matches m of K bits, the sum of products of -1 and 1 is 2 * m - K
        half = Fraction(1, 2)
        offset = tuple(half * (b + layer.op.depth) for b in register.offset)
        return Register(tuple(half * a for a in register.gain), offset)
    # of 0 and 1: matches of x and w are x where w is 1 and 1 - x where it is 0, and (2 * w - 1) * x is what is multiplied
    weights = design.constants[layer.proto.input[1]]
    zeros = (1 - weights).sum(axis=0 if weights.ndim == 2 else (1, 2, 3))
    return Register(register.gain, tuple(b + Fraction(int(z)) for b, z in zip(register.offset, zeros, strict=True)))


def output_tensor(design: Design, layer: Layer) -> Register:
    """The reals of the node's output tensor: with its bias, where the node has one."""
    register, proto = accumulator(design, layer), layer.proto
    if proto.op_type not in ("Conv", "Gemm") or len(proto.input) < 3 or not proto.input[2]:
        return register
    bias, offset = spread(fractions(design.constants[proto.input[2]].reshape(-1)), register.offset)
    return Register(register.gain, tuple(a + b for a, b in zip(bias, offset, strict=True)))


def _typed(layer: Layer, text: str, where: str, register: Register) -> Declaration | None:
    try:
        kind = finn_type(text)
    except ValueError as error:
        raise RequestError(f"{layer.name}: {where} {printable(text)!r} {error}") from None
    return None if kind is None else Declaration(kind, where, register)
