"""A model as a float frontend reads it: who writes and who reads each tensor, and what is constant.

Model files are untrusted: sizes are bounded before anything is computed, data outside the file are refused, and a constant
is only computed by operators whose result is no larger than their operands allow.
"""

from __future__ import annotations

from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter
from onnx.reference import ReferenceEvaluator

from broadaxe.errors import UnsupportedModelError
from broadaxe.frontend.standard import IR_VERSION, LOWEST_OPSET, is_quantizer

Array: TypeAlias = npt.NDArray[Any]

MAX_ELEMENTS = 1 << 27
"""Elements of a tensor: more is a mistake, or an attack on memory."""
CONVERTED_OPSET = 13
STANDARD = ("", "ai.onnx")
RESHAPERS = ("Cast", "CastLike", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
ARITHMETIC = ("Add", "Div", "Mul", "Neg", "Reciprocal", "Sqrt", "Sub")


class Wiring:
    """The graph of a model, read once.

    Attributes:
        model: the model.
        opset: version of the standard operators.
        producers: the node that writes a tensor.
        consumers: the nodes that read a tensor, in order.
        inputs: the model's inputs that are not constants.
        outputs: names of the model's outputs.
        fixed: tensors that no activation changes: constants, what is computed from them, and shapes.
        values: those of them whose value is known here; a quantized constant is not among them.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.model = model
        self.opset = _opset(model)
        self.values = {tensor.name: _initializer(tensor) for tensor in graph.initializer}
        self.fixed = set(self.values)
        self.inputs = {info.name: info for info in graph.input if info.name not in self.values}
        self.outputs = {info.name for info in graph.output}
        self.producers: dict[str, onnx.NodeProto] = {}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        self._names = self.fixed | set(self.inputs)
        for node in graph.node:
            self._add(node)

    def live(self, node: onnx.NodeProto) -> list[str]:
        """Inputs of a node that activations change."""
        return [name for name in node.input if name and name not in self.fixed]

    def fresh(self, stem: str) -> str:
        """A tensor or node name that the model does not have yet."""
        name, count = stem, 1
        while name in self._names:
            count += 1
            name = f"{stem}_{count}"
        self._names.add(name)
        return name

    def _add(self, node: onnx.NodeProto) -> None:
        outputs = [name for name in node.output if name]
        if not outputs:
            raise UnsupportedModelError(f"{where(node)}: writes no tensor; repair the model")
        self._names.add(node.name)
        for name in node.input:
            if name and name not in self.fixed and name not in self.producers and name not in self.inputs:
                raise UnsupportedModelError(
                    f"{where(node)}: reads {shown(name)!r}, which nothing before it computes; sort the model's nodes"
                )
            self.consumers.setdefault(name, []).append(node)
        for name in outputs:
            if name in self._names and (name in self.fixed or name in self.producers or name in self.inputs):
                raise UnsupportedModelError(
                    f"{where(node)}: writes {shown(name)!r}, which is written already; give every tensor one writer"
                )
            self.producers[name] = node
            self._names.add(name)
        if standard(node, "Shape") or not self.live(node):
            self.fixed.update(outputs)
            self._fold(node)

    def _fold(self, node: onnx.NodeProto) -> None:
        """The value of a node that only reads constants, if it is one of the simple operators."""
        names = [name for name in node.input if name]
        if len(node.output) != 1 or any(name not in self.values for name in names):
            return
        operands = [self.values[name] for name in names]
        if standard(node, *ARITHMETIC):
            try:
                size = prod(np.broadcast_shapes(*(value.shape for value in operands)))
            except ValueError:
                return
            if size > MAX_ELEMENTS:
                return
        elif not standard(node, "Constant", *RESHAPERS):
            return
        single = helper.make_graph(
            [node], "one", [onnx.ValueInfoProto(name=n) for n in names], [onnx.ValueInfoProto(name=node.output[0])]
        )
        lone = helper.make_model(single, opset_imports=[helper.make_opsetid("", self.opset)])
        try:
            with np.errstate(all="ignore"):
                (value,) = ReferenceEvaluator(lone).run(None, dict(zip(names, operands, strict=True)))
        except Exception:  # whoever needs the value says that it is not known
            return
        self.values[node.output[0]] = np.asarray(value)


def prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in an operator set that the rest of the frontend reads, with constants that are no inputs."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        check_initializer(tensor)
    opset = _opset(result)
    if opset < LOWEST_OPSET:
        try:
            result = version_converter.convert_version(result, CONVERTED_OPSET)
        except Exception as error:  # a C++ exception of any kind
            raise UnsupportedModelError(
                f"model: operator set {opset} cannot be converted to {CONVERTED_OPSET} ({type(error).__name__});"
                f" export it with operator set {LOWEST_OPSET} or newer"
            ) from None
    constants = {tensor.name for tensor in result.graph.initializer}
    inputs = [info for info in result.graph.input if info.name not in constants]
    del result.graph.input[:]
    result.graph.input.extend(inputs)
    result.ir_version = IR_VERSION
    return result


def standard(node: onnx.NodeProto, *op_types: str) -> bool:
    """Whether a node is one of these standard ONNX operators."""
    return node.domain in STANDARD and node.op_type in op_types and not is_quantizer(node)


def label(node: onnx.NodeProto) -> str:
    """What a node is called: its name, or that of its output."""
    return str(node.name or next((name for name in node.output if name), "unnamed"))


def where(node: onnx.NodeProto) -> str:
    return f"{shown(label(node))} ({shown(node.op_type)})"


def shown(text: str | bytes) -> str:
    """A name from a model file as one safe line."""
    if isinstance(text, bytes):  # what protobuf gives for a name that is not UTF-8
        text = text.decode(errors="replace")
    line = "".join(ch if ch.isprintable() else "?" for ch in text)
    return line if len(line) <= 80 else line[:77] + "..."


def drop_unused(graph: onnx.GraphProto) -> None:
    """Drop initializers that nothing reads any more, and inputs of their names: a file may list its constants there, too."""
    read = {name for node in graph.node for name in node.input} | {info.name for info in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    if len(kept) < len(graph.initializer) and not any(_has_subgraph(node) for node in graph.node):
        dropped = {tensor.name for tensor in graph.initializer} - read
        inputs = [info for info in graph.input if info.name not in dropped]
        del graph.initializer[:], graph.input[:]
        graph.initializer.extend(kept)
        graph.input.extend(inputs)


def _has_subgraph(node: onnx.NodeProto) -> bool:
    return any(entry.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for entry in node.attribute)


def _opset(model: onnx.ModelProto) -> int:
    return next((entry.version for entry in model.opset_import if entry.domain in STANDARD), 1)


def check_initializer(tensor: TensorProto) -> None:
    place = f"initializer {shown(tensor.name)}"
    if tensor.data_location == TensorProto.EXTERNAL:
        raise UnsupportedModelError(f"{place}: its data are in another file; load the model together with its data")
    if any(n < 0 for n in tensor.dims) or prod(tensor.dims) > MAX_ELEMENTS:
        raise UnsupportedModelError(
            f"{place}: has shape {list(tensor.dims)}; at most {MAX_ELEMENTS} elements are supported"
        )


def _initializer(tensor: TensorProto) -> Array:
    check_initializer(tensor)
    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:
        raise UnsupportedModelError(
            f"initializer {shown(tensor.name)}: its data do not fit its shape and type ({type(error).__name__});"
            " repair the model"
        ) from None
