"""The integer graph in standard ONNX, so that onnxruntime can compute it independently of our own reference.

Integers travel in float tensors that hold them exactly, float32 up to 24 bits and float64 up to 53, and wider ones in int64.
Every operator renders itself; this module keeps names, initializers and element types.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from broadaxe.ir import Graph, IntArray, Value, carrier

OPSET, IR_VERSION = 18, 10


def kind_of(value: Value) -> np.dtype[Any]:
    """The type that carries a value: float32 holds 24 bits exactly, float64 holds 53."""
    width = value.dtype.width
    return np.dtype(np.float32 if width <= 24 else np.float64 if width <= 53 else np.int64)


class Builder:
    """Collects the nodes and initializers of one ONNX graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.kinds: dict[str, np.dtype[Any]] = {}
        self._count = 0

    def _fresh(self) -> str:
        self._count += 1
        return f"t{self._count}"

    def node(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = self._fresh()
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], **attributes))
        if op_type in ("Shape", "ArgMax"):
            self.kinds[name] = np.dtype(np.int64)
        elif op_type in ("Greater", "GreaterOrEqual", "Less"):
            self.kinds[name] = np.dtype(np.bool_)
        elif op_type == "Cast":
            self.kinds[name] = np.dtype(helper.tensor_dtype_to_np_dtype(attributes["to"]))
        else:
            self.kinds[name] = self.kinds[inputs[0]]
        return name

    def constant(self, array: npt.NDArray[Any]) -> str:
        name = self._fresh()
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        self.kinds[name] = array.dtype
        return name

    def cast(self, name: str, to: npt.DTypeLike) -> str:
        target = np.dtype(to)
        if self.kinds[name] == target:
            return name
        return self.node("Cast", name, to=int(helper.np_dtype_to_tensor_dtype(target)))

    def kind(self, name: str) -> np.dtype[Any]:
        return self.kinds[name]


def render(graph: Graph, every_value: bool = False) -> onnx.ModelProto:
    """The integer graph as standard ONNX.

    Inputs and outputs are named like the graph's values, shape (batch, *shape). With `every_value`, each value of the
    graph is an output.
    """
    builder = Builder()
    tensors: dict[str, str] = {}
    for name in graph.inputs:
        kind = kind_of(graph.values[name])
        builder.kinds[name] = kind
        tensors[name] = name
    for node in graph.nodes:
        values = graph.inputs_of(node)
        out = node.op.render(builder, [tensors[name] for name in node.inputs], values)
        tensors[node.output] = builder.cast(out, kind_of(graph.values[node.output]))
    outputs = [n.output for n in graph.nodes] if every_value else [o for o in graph.outputs if o not in graph.inputs]
    for name in outputs:
        builder.nodes.append(helper.make_node("Identity", [tensors[name]], [name]))
    model = helper.make_model(
        helper.make_graph(
            builder.nodes,
            graph.name,
            [_info(graph.values[name]) for name in graph.inputs],
            [_info(graph.values[name]) for name in outputs],
            builder.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="broadaxe",
    )
    model.ir_version = IR_VERSION
    return model


def _info(value: Value) -> onnx.ValueInfoProto:
    kind = int(helper.np_dtype_to_tensor_dtype(kind_of(value)))
    return helper.make_tensor_value_info(value.name, kind, ["batch", *value.shape])


class OnnxRun:
    """onnxruntime on the rendered graph; integers in and out. A graph without nodes has nothing to compute."""

    def __init__(self, graph: Graph, every_value: bool = True) -> None:
        self.graph = graph
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        model = render(graph, every_value).SerializeToString()
        self.session = (
            onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]) if graph.nodes else None
        )

    def __call__(self, inputs: dict[str, IntArray]) -> dict[str, IntArray]:
        if self.session is None:
            return {}
        feeds = {n: inputs[n].astype(kind_of(self.graph.values[n])) for n in self.graph.inputs}
        names = [o.name for o in self.session.get_outputs()]
        results = self.session.run(names, feeds)
        return {
            n: np.asarray(r).astype(carrier(self.graph.values[n].dtype)) for n, r in zip(names, results, strict=True)
        }
