"""Constants of the model: tensors that its file stores, and single standard operators on them, by onnxruntime.

What an operator makes is known before it runs: a few bytes in a file can ask for any number of elements.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, defs, helper, numpy_helper, shape_inference

from broadaxe.errors import UnsupportedModelError, said_by
from broadaxe.ops.importing import MAX_ELEMENTS, Array, ModelNode, printable

FOLDED = {
    *(
        "Abs",
        "Add",
        "And",
        "ArgMax",
        "ArgMin",
        "Cast",
        "CastLike",
        "Ceil",
        "Clip",
        "Concat",
        "ConstantOfShape",
        "CumSum",
    ),
    *("DequantizeLinear", "Div", "Equal", "Erf", "Exp", "Expand", "EyeLike", "Flatten", "Floor", "Gather", "Gemm"),
    *(
        "GatherElements",
        "GatherND",
        "Greater",
        "GreaterOrEqual",
        "HardSigmoid",
        "Identity",
        "IsInf",
        "IsNaN",
        "LeakyRelu",
    ),
    *(
        "Less",
        "LessOrEqual",
        "Log",
        "MatMul",
        "Max",
        "Mean",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "NonZero",
        "Not",
        "OneHot",
        "Or",
    ),
    *("Pad", "Pow", "QuantizeLinear", "Range", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp"),
    *("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Round"),
    *(
        "ScatterElements",
        "ScatterND",
        "Shape",
        "Sigmoid",
        "Sign",
        "Size",
        "Slice",
        "Softmax",
        "Softplus",
        "Split",
        "Sqrt",
    ),
    *("Squeeze", "Sub", "Sum", "Tanh", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where", "Xor"),
}
"""Operators that are computed on constants: their work is in proportion to what they read and write."""
GROWTH = 1 << 22
"""Elements that an operator may make of constants that hold fewer."""
SHAPE_DATA = 1 << 10
"""Elements of an operand that can decide a shape: axes, pads, sizes."""
NO_NUMBERS = (TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.COMPLEX128, TensorProto.UNDEFINED)


def run_float(model: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, Any]:
    """Run a float model in onnxruntime, graph optimizations off."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def stored(where: str, tensor: onnx.TensorProto) -> Array:
    """A tensor of the file."""
    if tensor.data_type in NO_NUMBERS:
        kind = TensorProto.DataType.Name(tensor.data_type)
        raise UnsupportedModelError(f"{where}: holds {kind}; only numbers are supported")
    if prod(tensor.dims) > MAX_ELEMENTS and min(tensor.dims) > 0:
        raise UnsupportedModelError(
            f"{where}: holds {prod(tensor.dims)} elements; at most {MAX_ELEMENTS} are supported"
        )
    try:
        if any(n < 0 for n in tensor.dims):
            raise ValueError
        return numpy_helper.to_array(tensor)
    except Exception as error:
        raise UnsupportedModelError(
            f"{where}: its data do not fit its shape and type ({type(error).__name__}); repair the model"
        ) from None


def constant(node: ModelNode) -> Array:
    """What a Constant node holds."""
    match [(name, value) for name, value in node.attributes.items() if name.startswith("value")]:
        case [("value", onnx.TensorProto() as tensor)]:
            return stored(node.where, tensor)
        case [(("value_float" | "value_floats"), value)]:
            return np.asarray(value, dtype=np.float32)
        case [(("value_int" | "value_ints"), value)]:
            return np.asarray(value, dtype=np.int64)
    raise node.fail("holds no tensor of numbers; only numbers are supported")


def type_of(array: Array) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


def inferred(
    node: ModelNode, proto: onnx.NodeProto, types: Mapping[str, onnx.TypeProto], arrays: Mapping[str, Array]
) -> onnx.TypeProto:
    """The type and shape of what a standard operator with one output makes; see `all_inferred`."""
    made = all_inferred(node, proto, types, arrays)
    if len(made) != 1:
        raise node.fail("has several outputs; only one is supported here")
    return next(iter(made.values()))


def all_inferred(
    node: ModelNode, proto: onnx.NodeProto, types: Mapping[str, onnx.TypeProto], arrays: Mapping[str, Array]
) -> dict[str, onnx.TypeProto]:
    """Type and shape of each output of a standard operator, without running it; fails where the file does not tell."""
    data = {n: numpy_helper.from_array(a, n) for n, a in arrays.items() if a.size <= SHAPE_DATA}
    plain = onnx.NodeProto()
    plain.CopyFrom(proto)
    plain.domain = ""
    try:
        schema = defs.get_schema(node.op_type, node.opset, "")
        made = shape_inference.infer_node_outputs(
            schema, plain, dict(types), data, opset_imports=[helper.make_opsetid("", node.opset)]
        )
    except Exception as error:
        raise node.fail(f"has inputs or attributes that do not fit it, {said_by(error)}; repair the model") from None
    for name, kind in made.items():
        shape = kind.tensor_type.shape
        if kind.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in shape.dim):
            continue
        if node.op_type != "NonZero":
            raise node.fail("has a shape that only running it would tell; fold it before the export")
        # no more than an index for each element that it reads
        made[name] = type_of(np.broadcast_to(np.int64(0), (len(shape.dim), *(a.size for a in arrays.values()))))
    return made


def elements(made: onnx.TypeProto) -> int:
    return prod(d.dim_value for d in made.tensor_type.shape.dim)


def computed(node: ModelNode, proto: onnx.NodeProto, arrays: Mapping[str, Array]) -> int:
    """How many elements one operator makes of constants; fails where it may not be computed."""
    if not defs.has(node.op_type):
        raise node.fail(f"operator {printable(node.op_type)} is no standard ONNX operator; fold it before the export")
    if proto.domain not in ("", "ai.onnx") or node.op_type not in FOLDED:
        raise node.fail("is not supported on constants; fold it before the export")
    if len(proto.output) != 1 and node.op_type != "Split":
        raise node.fail("has several outputs; only one is supported on constants")
    made = all_inferred(node, proto, {n: type_of(a) for n, a in arrays.items()}, arrays)
    count = sum(map(elements, made.values()))
    most = max(GROWTH, sum(a.size for a in arrays.values()))
    if count > most:
        raise node.fail(f"makes {count} elements of constants; at most {most} are possible here, shrink it")
    return count


def evaluate(node: ModelNode, proto: onnx.NodeProto, arrays: Mapping[str, Array]) -> Array:
    """One standard operator with one output on constants, in onnxruntime; see `computed`."""
    return evaluate_all(node, proto, arrays)[proto.output[0]]


def evaluate_all(node: ModelNode, proto: onnx.NodeProto, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """All outputs of one standard operator on constants, in onnxruntime."""
    kinds = {n: helper.np_dtype_to_tensor_dtype(a.dtype) for n, a in arrays.items()}
    graph = helper.make_graph(
        [proto],
        "constant",
        [helper.make_tensor_value_info(n, kinds[n], a.shape) for n, a in arrays.items()],
        [onnx.ValueInfoProto(name=name) for name in proto.output if name],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", node.opset)])
    model.ir_version = 10
    try:
        results = run_float(model, dict(arrays))
    except Exception as error:
        raise node.fail(f"cannot be computed from its constants, {said_by(error)}; repair the model") from None
    return {name: np.asarray(result) for name, result in results.items()}
