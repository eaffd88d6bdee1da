"""Models in float16, bfloat16 or float64 -> the same network in float32.

Every float16 and bfloat16 number is a float32 number. A float64 constant has to be one, unless all that reads it rounds it to
float32 anyway. What is computed is then computed in float32: that is what the rest of Broadaxe starts from.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from broadaxe.errors import UnsupportedModelError
from broadaxe.frontend.wiring import STANDARD, Array, check_initializer, label, shown

OTHER = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
TYPED = ("to", "dtype", "output_dtype")
"""Attributes that hold a type."""


def as_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with float32 wherever it has another float type; a model without any is returned as it is.

    Casts from one float type to another are left out; one of a constant is carried out first, its rounding included.

    Raises:
        UnsupportedModelError: a float64 constant is no float32 number; names it and the value.
    """
    if not _holds_other(model):
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    kinds = _kinds(result)
    _fold_casts(result, kinds)
    _convert(result)
    _drop_casts(result, kinds)
    return result


def _holds_other(model: onnx.ModelProto) -> bool:
    infos = (*model.graph.input, *model.graph.output)
    return (
        any(tensor.data_type in OTHER for _, tensor in _tensors(model))
        or any(info.type.tensor_type.elem_type in OTHER for info in infos)
        or any(a.name in TYPED and a.i in OTHER for node in model.graph.node for a in node.attribute)
    )


def _tensors(model: onnx.ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """Every tensor of the file with a name for messages: initializers, and what attributes hold."""
    for tensor in model.graph.initializer:
        yield f"initializer {shown(tensor.name)}", tensor
    for node in model.graph.node:
        for entry in node.attribute:
            if entry.type == onnx.AttributeProto.TENSOR:
                yield f"{shown(label(node))} ({shown(node.op_type)})", entry.t


def _kinds(model: onnx.ModelProto) -> dict[str, int]:
    """Element types of tensors, as far as they are known."""
    try:
        graph = shape_inference.infer_shapes(model).graph
    except Exception:  # shapes that contradict each other: nothing but what is declared
        graph = model.graph
    kinds = {i.name: int(i.type.tensor_type.elem_type) for i in (*graph.input, *graph.value_info, *graph.output)}
    kinds |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Cast" and node.domain in STANDARD:
            kinds[node.output[0]] = _target(node)
        elif node.op_type == "Constant":
            kinds.update((node.output[0], a.t.data_type) for a in node.attribute if a.name == "value")
    return kinds


def _fold_casts(model: onnx.ModelProto, kinds: dict[str, int]) -> None:
    """Carry out casts of float constants, which round."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {
        n.output[0]: a.t for n in graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"
    }
    outputs = {info.name for info in graph.output}
    gone = []
    for node in graph.node:
        tensor = constants.get(node.input[0]) if node.op_type == "Cast" and node.domain in STANDARD else None
        if tensor is None or tensor.data_type not in (*OTHER, TensorProto.FLOAT) or node.output[0] in outputs:
            continue
        target = _target(node)
        if target not in (*OTHER, TensorProto.FLOAT):
            continue
        array = _array(f"initializer {shown(tensor.name)}", tensor)
        with np.errstate(over="ignore"):
            rounded = array.astype(helper.tensor_dtype_to_np_dtype(target))
        folded = numpy_helper.from_array(rounded, node.output[0])
        graph.initializer.append(folded)
        constants[node.output[0]] = folded
        gone.append(node)
    for node in gone:
        graph.node.remove(node)
    if gone:  # a constant that only casts read is none of ours
        read = {name for node in graph.node for name in node.input} | outputs
        for tensor in [t for t in graph.initializer if t.name not in read]:
            graph.initializer.remove(tensor)
        unread = [n for n in graph.node if n.op_type == "Constant" and n.output[0] not in read]
        for node in unread:
            graph.node.remove(node)


def _convert(model: onnx.ModelProto) -> None:
    for place, tensor in _tensors(model):
        if tensor.data_type in OTHER:
            array, name = _array(place, tensor), tensor.name
            with np.errstate(over="ignore"):
                single = array.astype(np.float32)
            apart = (single != array) & ~(np.isnan(single) & np.isnan(array)) if array.dtype == np.float64 else None
            if apart is not None and apart.any():
                raise UnsupportedModelError(
                    f"{place}: holds {float(array[apart].flat[0])!r} in float64, which float32 cannot hold; store it as float32"
                )
            tensor.CopyFrom(numpy_helper.from_array(single, name))
    graph = model.graph
    for info in (*graph.input, *graph.output):
        if info.type.tensor_type.elem_type in OTHER:
            info.type.tensor_type.elem_type = TensorProto.FLOAT
    for info in [i for i in graph.value_info if i.type.tensor_type.elem_type in OTHER]:
        info.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        for entry in node.attribute:
            if entry.name in TYPED and entry.i in OTHER:
                entry.i = TensorProto.FLOAT


def _drop_casts(model: onnx.ModelProto, kinds: dict[str, int]) -> None:
    """Leave out casts from float32 to float32; `kinds` are the types before the conversion.

    A cast that writes an output of the model gives its name to what it reads, or becomes an Identity where that has a name
    to keep. Nodes need not be in order.
    """
    graph = model.graph
    outputs = {info.name for info in graph.output}
    fixed = {info.name for info in graph.input} | {tensor.name for tensor in graph.initializer} | outputs
    renamed: dict[str, str] = {}
    kept: list[onnx.NodeProto] = []

    def final(name: str) -> str:
        while name in renamed:
            name = renamed[name]
        return name

    for node in graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        cast = node.op_type == "Cast" and node.domain in STANDARD and _target(node) == TensorProto.FLOAT
        if not cast or kinds.get(node.input[0]) not in (*OTHER, TensorProto.FLOAT):
            kept.append(copy)
            continue
        source, target = final(node.input[0]), final(node.output[0])
        if target not in outputs:
            renamed[target] = source
        elif source not in fixed:
            renamed[source] = target
        else:
            kept.append(helper.make_node("Identity", [source], [target], name=node.name))
    for node in kept:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                names[position] = final(name)
    del graph.node[:]
    graph.node.extend(kept)


def _target(node: onnx.NodeProto) -> int:
    return int(next((a.i for a in node.attribute if a.name == "to"), 0))


def _array(place: str, tensor: TensorProto) -> Array:
    check_initializer(tensor)
    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:
        raise UnsupportedModelError(
            f"{place}: its data do not fit its shape and type ({type(error).__name__}); repair the model"
        ) from None
