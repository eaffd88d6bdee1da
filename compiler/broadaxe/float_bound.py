"""How far float32 may be from the exact value that a quantizer rounds or an output shows, whatever the order of its sums.

A segment of the model runs on absolute values: constants become their magnitudes, differences sums, and steps that only pass
values on stay. What comes out is S, in which nothing cancels: sum |w * x| + |b| for a layer. With u = 2**-24 and at most n
roundings on any way from the segment's inputs to the value,

    |float32 - exact| <= gamma(n) * S,   gamma(n) = n*u / (1 - n*u).

n counts 1 for an input, K + 2 for a layer of K products (weight, product, bias), as many for a mean of K values, 8 for a
normalization and 1 for a step with a constant or the sum of two tensors. A product of two tensors has the roundings of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from broadaxe.constants import run_float
from broadaxe.lower import extract

Array = npt.NDArray[Any]
UNIT = 2.0**-24
LAYERS = ("Conv", "Gemm", "MatMul")
PRODUCTS = ("Gemm", "MatMul", "Mul")
TABLES = {"Gather": 0, "OneHot": 2}
"""Where operators that look up constants have them."""
JOINTS = ("Max", "Mean", "Min", "Sum")
STEPS = {"Add": 1, "Sub": 1, "Mul": 1, "Div": 1, "BatchNormalization": 8}
OWN_ROUNDING = 1 + 2.0**-10
"""S is computed in float32 itself."""


@dataclass(frozen=True, eq=False)
class FloatBound:
    """Bounds of some tensors of a float model, computed from the tensors that it is cut at.

    Attributes:
        model: the segments on absolute values, None where every tensor is one that the model is cut at.
        roundings: n of each tensor.
    """

    model: onnx.ModelProto | None
    roundings: Mapping[str, int]

    @classmethod
    def of(
        cls,
        standard: onnx.ModelProto,
        cuts: Sequence[str],
        tensors: Sequence[str],
        shapes: Mapping[str, Sequence[int]],
    ) -> FloatBound:
        """Prepare the bounds.

        Args:
            standard: the model in standard operators.
            cuts: tensors where segments start.
            tensors: whose bounds are asked for.
            shapes: of every tensor whose height and width are averaged, batch first.
        """
        wanted = sorted(set(tensors) - set(cuts))
        if not wanted:
            return cls(None, dict.fromkeys(tensors, 1))
        part = extract(standard, list(cuts), wanted)
        roundings = _absolute(part, cuts, shapes)
        return cls(part, {name: roundings[name] for name in tensors})

    def errors(self, reals: Mapping[str, Array]) -> dict[str, Array]:
        """gamma(n) * S of every tensor, float64, for the reals of the tensors that the model is cut at."""
        sums: dict[str, Array] = {name: np.abs(x) for name, x in reals.items()}
        if self.model is not None:
            sums |= run_float(self.model, {i.name: sums[i.name] for i in self.model.graph.input})
        return {name: _gamma(n) * sums[name].astype(np.float64) for name, n in self.roundings.items()}


def _gamma(roundings: int) -> float:
    return roundings * UNIT / (1 - roundings * UNIT) * OWN_ROUNDING


def _absolute(part: onnx.ModelProto, cuts: Sequence[str], shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Rewrite a part of a model to work on absolute values; returns the roundings of each tensor that depends on a cut."""
    graph = part.graph
    roundings = dict.fromkeys(cuts, 1)
    constants = _constants(part, cuts)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        live = [name for name in node.input if name in roundings]
        if not live or node.op_type == "Shape":
            nodes.append(node)
            continue
        own = [roundings[name] for name in live]
        made = sum(own) if node.op_type in PRODUCTS else max(own)
        roundings[node.output[0]] = made + _cost(node, constants, shapes)
        nodes.extend(_on_absolutes(graph, node, constants))
    del graph.node[:]
    graph.node.extend(nodes)
    for info in [i for i in graph.input if not any(i.name in node.input for node in nodes)]:
        graph.input.remove(info)
    return roundings


def _cost(node: onnx.NodeProto, constants: Mapping[str, Array], shapes: Mapping[str, Sequence[int]]) -> int:
    """Roundings that a node puts on top of those of its inputs."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    match node.op_type:
        case "Conv":
            return 2 + int(prod(constants[node.input[1]].shape[1:]))
        case "MatMul" if node.input[1] not in constants:
            return 2 + shapes[node.input[0]][-1]
        case "Gather" | "OneHot":
            return 1
        case "Mean" | "Sum":
            return len(node.input)
        case "MatMul" | "Gemm":
            return 2 + int(constants[node.input[1]].shape[1 if attributes.get("transB", 0) else 0])
        case "AveragePool":
            return 2 + int(prod(attributes["kernel_shape"]))
        case "GlobalAveragePool" | "ReduceMean":
            return 2 + prod(shapes[node.input[0]][2:])
    return STEPS.get(node.op_type, 0)


def _constants(part: onnx.ModelProto, cuts: Sequence[str]) -> dict[str, Array]:
    """Every constant that a live node reads."""
    live, read = set(cuts), set[str]()
    for node in part.graph.node:
        if live & set(node.input) and node.op_type != "Shape":
            live.update(node.output)
            read.update(name for name in node.input if name)
    constants = {t.name: numpy_helper.to_array(t) for t in part.graph.initializer}
    folded = sorted(read - live - set(constants))
    shaped = [n for n in folded if not _reads(part, n, live)]
    return constants | (run_float(extract(part, [], shaped), {}) if shaped else {})


def _reads(part: onnx.ModelProto, name: str, live: set[str]) -> bool:
    """Whether a tensor depends on the shape of a live one."""
    return any(live & set(node.input) for node in extract(part, [], [name]).graph.node)


def _on_absolutes(graph: onnx.GraphProto, node: onnx.NodeProto, constants: Mapping[str, Array]) -> list[onnx.NodeProto]:
    """A live node on absolute values, its constants replaced by their magnitudes."""
    out = node.output[0]

    def constant(array: Array) -> str:
        name = f"{out}@{len(graph.initializer)}"
        graph.initializer.append(numpy_helper.from_array(np.asarray(array, dtype=np.float32), name))
        return name

    if node.op_type in ("Relu", "Neg"):
        return [helper.make_node("Identity", node.input[:1], [out])]
    if node.op_type == "Clip":  # an end beyond 0 has a magnitude of its own
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        ends = [constants[name] for name in node.input[1:] if name] + list(attributes.values())
        reach = max([abs(float(e)) for e in ends if np.isfinite(e) and abs(float(e)) < 1e30], default=0.0)
        return [helper.make_node("Add", [node.input[0], constant(np.array(reach))], [out])]
    changed = onnx.NodeProto()
    changed.CopyFrom(node)
    table = node.input[TABLES[node.op_type]] if node.op_type in TABLES else ""
    if table in constants:
        changed.input[TABLES[node.op_type]] = constant(np.abs(constants[table]))
    if node.op_type in (*LAYERS, *STEPS, *JOINTS):
        changed.op_type = {"Sub": "Add", "Min": "Max"}.get(node.op_type, node.op_type)
        for position, name in enumerate(node.input):
            variance = node.op_type == "BatchNormalization" and position == 4
            if name in constants and not variance:
                negative = node.op_type == "BatchNormalization" and position == 3
                changed.input[position] = constant(-np.abs(constants[name]) if negative else np.abs(constants[name]))
    return [changed]
