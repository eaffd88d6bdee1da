"""Open the batch axis of a model that was exported with a fixed one, so that many samples run in one call."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper


def symbolic_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a symbolic first axis on every input and output.

    Reshape nodes whose constant shape, and Resize nodes whose constant sizes start with the fixed batch copy that axis from
    their input instead. Only tensors that depend on an input are touched.
    """
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    graph = opened.graph
    constants = {t.name: t for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    constants[node.output[0]] = attribute.t
    live, batches = set(), {1}
    for info in graph.input:
        if info.name in constants:
            continue
        live.add(info.name)
        batches.add(_open(info))
    for info in graph.output:
        _open(info)
    del graph.value_info[:]
    nodes: list[onnx.NodeProto] = []
    for count, node in enumerate(graph.node):
        nodes.append(node)
        if live.isdisjoint(node.input):
            continue
        live.update(node.output)
        if node.op_type == "Reshape" and node.input[0] in live and node.input[1] in constants:
            shape = numpy_helper.to_array(constants[node.input[1]]).astype(np.int64).reshape(-1)
            if len(shape) and int(shape[0]) in batches and not (shape == 0).any():
                name = f"{node.output[0]}_shape_{count}"
                graph.initializer.append(numpy_helper.from_array(np.array([0, *shape[1:]], dtype=np.int64), name))
                node.input[1] = name
                for attribute in [a for a in node.attribute if a.name == "allowzero"]:
                    node.attribute.remove(attribute)
        if node.op_type == "Resize" and len(node.input) > 3 and node.input[0] in live and node.input[3] in constants:
            sizes = numpy_helper.to_array(constants[node.input[3]]).astype(np.int64).reshape(-1)
            if len(sizes) and int(sizes[0]) in batches and not any(a.name == "axes" for a in node.attribute):
                nodes[-1:-1] = _sizes(graph, node, sizes, f"{node.output[0]}_sizes_{count}")
    del graph.node[:]
    graph.node.extend(nodes)
    return opened


def _sizes(
    graph: onnx.GraphProto, node: onnx.NodeProto, sizes: npt.NDArray[np.int64], name: str
) -> list[onnx.NodeProto]:
    """Nodes that compute the sizes of a Resize with the batch of its input; the node reads them from here on."""
    constants = {f"{name}_first": np.zeros(1, dtype=np.int64), f"{name}_rest": sizes[1:]}
    graph.initializer.extend(numpy_helper.from_array(array, key) for key, array in constants.items())
    first, rest = constants
    shape, batch = f"{name}_shape", f"{name}_batch"
    made = [
        helper.make_node("Shape", [node.input[0]], [shape]),
        helper.make_node("Gather", [shape, first], [batch], axis=0),
        helper.make_node("Concat", [batch, rest], [name], axis=0),
    ]
    node.input[3] = name
    return made


def _open(info: onnx.ValueInfoProto) -> int:
    """Make the first dimension symbolic; returns what it was, or 1."""
    shape = info.type.tensor_type.shape
    if not info.type.HasField("tensor_type") or not shape.dim:
        return 1
    fixed = int(shape.dim[0].dim_value)
    shape.dim[0].Clear()
    shape.dim[0].dim_param = "batch"
    return fixed or 1
