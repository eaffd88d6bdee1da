"""A model with its multiply-accumulate layers: each layer's node in the model and in the integer graph.

The graph is as lowering leaves it, requantizers in their proven forms: its sums are the model's own, without start constants
and with every weight as the model has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import onnx

from broadaxe.frontend.finn import qonnx_from_finn
from broadaxe.host import Host
from broadaxe.ir import Bounds, Graph, Node, Value
from broadaxe.lower import Lowered, Walk
from broadaxe.ops.importing import Array, Constant, printable
from broadaxe.ops.mac import Mac
from broadaxe.passes import run_passes
from broadaxe.passes.choose_requantizers import choose_requantizers
from broadaxe.types import Interval, IntType

POOLS = ("AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", "Pool", "QuantAvgPool2d", "GlobalAccPool")
"""Operators that add without weights of their own."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A multiply-accumulate layer: its node in the integer graph, and the model's node it comes from."""

    node: Node
    op: Mac
    proto: onnx.NodeProto
    x: Value
    out: Value
    position: int
    """Of the node among the model's."""

    @property
    def name(self) -> str:
        """The model's node as messages name it."""
        return f"{printable(self.proto.name or self.proto.output[0])} ({printable(self.proto.op_type)})"

    @property
    def pools(self) -> bool:
        return self.proto.op_type.removesuffix("_hls").removesuffix("_Batch") in POOLS

    @property
    def attributes(self) -> dict[str, object]:
        found = {}
        for attribute in self.proto.attribute:
            value = onnx.helper.get_attribute_value(attribute)
            found[attribute.name] = value.decode(errors="replace") if isinstance(value, bytes) else value
        return found

    @property
    def metadata(self) -> dict[str, str]:
        return {p.key: p.value for p in self.proto.metadata_props}

    @property
    def sums(self) -> Bounds:
        """Exact ends of each channel's sum of integer products, for inputs inside their proven bounds."""
        lo, hi = self.op.sums(self.x)
        return tuple(Interval(a, b) for a, b in zip(lo.tolist(), hi.tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class Design:
    """A lowered model and its layers.

    Attributes:
        model: the model.
        lowered, graph: what it is lowered to; `graph` has its requantizers chosen.
        layers: multiply-accumulate layers in the order of the graph.
        constants: arrays of the model's constant tensors, computed ones included.
    """

    model: onnx.ModelProto
    lowered: Lowered
    graph: Graph
    layers: tuple[Layer, ...]
    constants: Mapping[str, Array]

    @cached_property
    def host(self) -> Host:
        return Host.of(self.model, self.lowered, self.graph)


def design(model: onnx.ModelProto, inputs: Mapping[str, IntType | None], progress: Callable[[str], None]) -> Design:
    """Lower a model, noting which of its nodes makes which layer.

    Raises:
        UnsupportedModelError: as `broadaxe.lower.lower`.
    """
    progress("lowering to integers")
    qonnx = qonnx_from_finn(model)
    walk = Walk(qonnx, dict(inputs))
    made: dict[str, int] = {}
    sources = _sources(model, qonnx)
    for proto, source in zip(qonnx.graph.node, sources, strict=True):
        before = len(walk.builder.nodes)
        walk.take(proto)
        for node in walk.builder.nodes[before:]:
            if isinstance(node.op, Mac) and source is not None:
                made[node.name] = source
    lowered = walk.finish()
    progress("proving requantizers")
    graph = run_passes(lowered.graph, (choose_requantizers,))
    layers = tuple(
        Layer(
            node,
            node.op,
            model.graph.node[made[node.name]],
            graph.values[node.inputs[0]],
            graph.values[node.output],
            made[node.name],
        )
        for node in graph.nodes
        if isinstance(node.op, Mac) and node.name in made
    )
    constants = {name: state.array for name, state in walk.states.items() if isinstance(state, Constant)}
    return Design(model, lowered, graph, layers, constants)


def _sources(model: onnx.ModelProto, qonnx: onnx.ModelProto) -> list[int | None]:
    """For each node of the QONNX model the node of the model that it is or stands for; None for what is new.

    A node that stands for another has its name, and nodes keep their order.
    """
    if qonnx is model:
        return list(range(len(model.graph.node)))
    waiting: dict[str, list[int]] = {}
    for position, node in enumerate(model.graph.node):
        waiting.setdefault(node.name or node.output[0], []).append(position)
    out: list[int | None] = []
    for node in qonnx.graph.node:
        same = waiting.get(node.name or node.output[0], [])
        out.append(same.pop(0) if same else None)
    return out
