"""How far float32 may be from the exact value that a quantizer rounds or an output shows, whatever the order of its sums.

A segment of the model runs on absolute values: constants become their magnitudes, differences sums, and steps that only pass
values on stay. What comes out is S, in which nothing cancels: sum |w * x| + |b| for a layer. With u = 2**-24 and at most n
roundings on any way from the segment's inputs to the value,

    |float32 - exact| <= gamma(n) * S,   gamma(n) = n*u / (1 - n*u).

n counts 1 for an input, K + 3 for a layer of K products (two for a weight, which may be a product of its own; product, bias),
K + 2 for a mean of K values, 8 for a normalization and 1 for a step with a constant or the sum of two tensors. A product
of two tensors has the roundings of both.
A product of two tensors has the roundings of both.

From the first function that is no straight line on, each tensor is known by float32's own value v and a bound e of its
error: the exact value lies within e of v, and any float32 evaluation within e of the exact value. A function of slope at
most L makes of that an error of L * e and what its own kernel may err (`kernel_error`). A function that has no such L, or
jumps, is bounded by what it does between v - 2e and v + 2e.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from broadaxe.chain import Affine, Snap, Step
from broadaxe.constants import run_float
from broadaxe.functions import COMBINED, KINDS, Combined, Function, Leaky, Power, combined_error
from broadaxe.lower import extract
from broadaxe.ops.importing import ModelNode
from broadaxe.ops.pointwise import POINTWISE, steps_of

Array = npt.NDArray[Any]
UNIT = 2.0**-24
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
PRODUCTS = ("Gemm", "MatMul", "Mul")
TABLES = {"Gather": 0, "OneHot": 2, "Pad": 2}
"""Where operators that only place constants have them."""
JOINTS = ("Max", "Mean", "Min", "Sum")
STEPS = {"Add": 1, "Sub": 1, "Mul": 1, "Div": 1, "BatchNormalization": 8}
OWN_ROUNDING = 1 + 2.0**-10
"""S is computed in float32 itself."""
ERROR = 2.0**-20
"""Of onnxruntime's float32 kernels of functions; tests measure less than half of it."""
LARGEST = 2.0**127
RELATIVE = ("Exp", "Pow", "Reciprocal", "Sqrt")
GATED = ("Gelu", "HardSwish", "Mish")
WIDEST_GATE = 16.0
"""x times a gate whose error is absolute; further out the gate is 0 or 1 in float32."""
Ball: TypeAlias = tuple[Array, Array]
"""A tensor's float32 value and the bound of its error, both float64."""


@dataclass(frozen=True, eq=False)
class FloatBound:
    """Bounds of some tensors of a float model, computed from the tensors that it is cut at.

    Attributes:
        model: the segments on absolute values, None where every tensor is one that the model is cut at.
        roundings: n of each tensor.
        behind: functions, and what follows them in the segments.
    """

    model: onnx.ModelProto | None
    roundings: Mapping[str, int]
    behind: Behind | None = None

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
        behind = Behind.of(part, cuts)
        if behind is not None:
            wanted = sorted({*wanted, *behind.starts} - {*cuts, *behind.written})
            part = extract(standard, list(cuts), wanted)
        roundings = _absolute(part, cuts, shapes) if wanted else dict.fromkeys(cuts, 1)
        known = [*tensors, *(behind.starts if behind else ())]
        return cls(part if wanted else None, {n: roundings[n] for n in known if n in roundings}, behind)

    def errors(self, reals: Mapping[str, Array]) -> dict[str, Array]:
        """The bounds of every tensor, float64, for the reals of the tensors that the model is cut at."""
        sums: dict[str, Array] = {name: np.abs(x) for name, x in reals.items()}
        if self.model is not None:
            sums |= run_float(self.model, {i.name: sums[i.name] for i in self.model.graph.input})
        errors = {name: _gamma(n) * sums[name].astype(np.float64) for name, n in self.roundings.items()}
        return errors | self.behind.errors(reals, errors) if self.behind is not None else errors


@dataclass(frozen=True, eq=False)
class Behind:
    """Functions of a part of a model and what follows them, walked with a value and an error of each tensor.

    Attributes:
        nodes: in order.
        starts: tensors that they read and that nothing but straight lines leads to.
        values: the part that computes these, and constants, in float32.
        constants: that the nodes read.
        imports: operator sets of the model.
    """

    nodes: tuple[onnx.NodeProto, ...]
    starts: tuple[str, ...]
    values: onnx.ModelProto | None
    constants: Mapping[str, Array]
    imports: tuple[onnx.OperatorSetIdProto, ...]

    @classmethod
    def of(cls, part: onnx.ModelProto, cuts: Sequence[str]) -> Behind | None:
        """None where a part has no functions."""
        live, bent, nodes = set(cuts), set[str](), list[onnx.NodeProto]()
        for node in part.graph.node:
            read = [name for name in node.input if name in live]
            if not read or node.op_type == "Shape":
                continue
            live.update(node.output)
            product = node.op_type in ("Mul", "Div") and len(read) > 1
            if node.op_type in POINTWISE or product or bent & set(read):
                bent.update(node.output)
                nodes.append(node)
        if not nodes:
            return None
        read = list(dict.fromkeys(name for node in nodes for name in node.input if name))
        starts = [name for name in read if name in live and name not in bent]
        computed = [name for name in starts if name not in cuts]
        known = {name: x for name, x in _constants(part, cuts).items() if name in read}
        values = extract(part, list(cuts), computed) if computed else None
        if values is not None:
            used = {name for node in values.graph.node for name in node.input}
            for info in [i for i in values.graph.input if i.name not in used]:
                values.graph.input.remove(info)
        return cls(tuple(nodes), tuple(starts), values, known, tuple(part.opset_import))

    @property
    def written(self) -> list[str]:
        return [name for node in self.nodes for name in node.output if name]

    def errors(self, reals: Mapping[str, Array], errors: Mapping[str, Array]) -> dict[str, Array]:
        """Bounds of all tensors that the nodes write, from those of `starts`."""
        floats = dict(reals)
        if self.values is not None:
            floats |= run_float(self.values, {i.name: reals[i.name] for i in self.values.graph.input})
        balls: dict[str, Ball] = {n: (floats[n].astype(np.float64), errors[n]) for n in self.starts}
        with np.errstate(all="ignore"):
            for node in self.nodes:
                operands = [balls.get(name) for name in node.input]
                for name in filter(None, node.output):
                    value, error = self._walk(node, operands, name)
                    # what float32 cannot hold may be infinite there
                    error = np.where(np.abs(value) + error < LARGEST, error, np.inf)
                    balls[name] = value, np.nan_to_num(error, nan=np.inf)
        return {name: balls[name][1] for name in self.written if name in balls}

    def _walk(self, node: onnx.NodeProto, operands: list[Ball | None], output: str) -> Ball:
        known = [
            ball or (self.constants[name].astype(np.float64), np.zeros(())) if name in self.constants or ball else None
            for name, ball in zip(node.input, operands, strict=True)
        ]
        first = next(ball for ball in known if ball is not None)
        others = [ball for ball in known[1:] if ball is not None]
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        match node.op_type:
            case "Add" | "Sub" | "Mul" | "Div":
                (a, left), (b, right) = first, others[0]
                value = COMBINED[node.op_type](a, b)
                nearest = np.abs(b) - right if node.op_type == "Div" else np.abs(b) + right
                return value, combined_error(node.op_type, np.abs(a) + left, left, nearest, right, 2 * UNIT)
            case "Min" | "Max":
                pick = np.minimum if node.op_type == "Min" else np.maximum
                for b, right in others:
                    first = pick(first[0], b), np.maximum(first[1], right)
                return first
            case "Relu":
                return np.maximum(first[0], 0), first[1]
            case "Neg":
                return -first[0], first[1]
            case "PRelu":
                slope = others[0][0]
                value = np.where(first[0] >= 0, first[0], slope * first[0])
                return value, np.maximum(1, np.abs(slope)) * first[1] + 2 * UNIT * (np.abs(value) + first[1])
            case "BatchNormalization":
                shape = (1, -1, *[1] * (first[0].ndim - 2))
                gamma, beta, mean, variance = (ball[0].reshape(shape) for ball in others)
                gain = gamma / np.sqrt(variance + attributes.get("epsilon", 1e-5))
                size = np.abs(gain) * (np.abs(first[0]) + first[1] + np.abs(mean)) + np.abs(beta)
                value = gain * (first[0] - mean) + beta
                return value, np.abs(gain) * first[1] * OWN_ROUNDING + 2 * STEPS["BatchNormalization"] * UNIT * size
            case "Pow":
                exponent = Fraction(others[0][0].reshape(-1)[0].item())
                if exponent in (0, 1):
                    return first[0] ** float(exponent), first[1] * float(exponent)
                return _through(first, (Power(exponent),), node.op_type)
        if node.op_type in POINTWISE:
            made = ModelNode(
                node.name,
                node.op_type,
                (),
                (),
                node.output[0],
                {name: value.decode() if isinstance(value, bytes) else value for name, value in attributes.items()},
                0,
            )
            return _through(first, steps_of(made), node.op_type)
        return self._moved(node, known, output), self._moved(node, known, output, error=True) * OWN_ROUNDING

    def _moved(self, node: onnx.NodeProto, known: Sequence[Ball | None], output: str, error: bool = False) -> Array:
        """An operator that moves or selects elements, on values or on errors."""
        feeds = {
            n: ball[error].astype(np.float32)
            for n, ball in zip(node.input, known, strict=True)
            if ball and n not in self.constants
        }
        graph = helper.make_graph(
            [node],
            "moved",
            [
                helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), None)
                for n, x in feeds.items()
            ],
            [onnx.ValueInfoProto(name=output)],
            [numpy_helper.from_array(self.constants[n], n) for n in node.input if n in self.constants],
        )
        model = helper.make_model(graph, opset_imports=list(self.imports), ir_version=10)
        return np.asarray(run_float(model, feeds)[output], dtype=np.float64)


def kernel_error(op_type: str, x: Array, y: Array, size: float = 1.0) -> Array:
    """What onnxruntime's float32 kernel of a function may err at x, where it is y; `size` of its parameters."""
    if op_type in RELATIVE:
        return np.asarray(ERROR * np.abs(y) + 2.0**-126)
    gate = np.minimum(np.abs(x), WIDEST_GATE) if op_type in GATED else 0.0
    return np.asarray(ERROR * (size + np.abs(y) + gate))


def _through(ball: Ball, steps: Sequence[Step], op_type: str) -> Ball:
    """A function, as steps of a chain of one channel, on a value and its error."""
    x, error = (part.reshape(1, -1) for part in np.broadcast_arrays(*ball))
    value, size = x, 1.0
    for step in steps:
        steep = isinstance(step, Function) and KINDS[step.kind].steepest is None
        if steep or isinstance(step, Combined | Power | Snap):
            error = 2 * step.error(value, 2 * error)
        else:
            error = step.error(value, error)
        value = step.approximate(value)
        if isinstance(step, Affine):
            size = max(size * float(abs(step.scale[0])), float(abs(step.shift[0])), 1.0)
        if isinstance(step, Leaky):
            size = max(size * float(abs(step.slope[0])), 1.0)
    error = error + kernel_error(op_type, x, value, size)
    shape = np.broadcast_shapes(ball[0].shape, ball[1].shape)
    return value.reshape(shape), error.reshape(shape)


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
        most = sum(own) if node.op_type in PRODUCTS else max(own)
        roundings |= dict.fromkeys(filter(None, node.output), most + _cost(node, constants, shapes))
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
            return 3 + int(prod(constants[node.input[1]].shape[1:]))
        case "ConvTranspose":
            weight = constants[node.input[1]].shape
            return 3 + int(weight[0] // attributes.get("group", 1) * prod(weight[2:]))
        case "Gather" | "OneHot":
            return 1
        case "Mean" | "Sum":
            return len(node.input)
        case "MatMul" | "Gemm":
            return 5 + _depth(node, constants, shapes, bool(attributes.get("transB", 0)))  # alpha and beta round, too
        case "AveragePool":
            return 2 + int(prod(attributes["kernel_shape"]))
        case "GlobalAveragePool":
            return 2 + prod(shapes[node.input[0]][2:])
        case "ReduceMean" | "ReduceSum":
            shape, axes = shapes[node.input[0]], attributes.get("axes")
            if axes is None and len(node.input) > 1:
                axes = constants[node.input[1]].reshape(-1).tolist()
            return 2 + prod(shape[axis] for axis in axes or range(1, len(shape)))
    return STEPS.get(node.op_type, 0)


def _depth(
    node: onnx.NodeProto, constants: Mapping[str, Array], shapes: Mapping[str, Sequence[int]], turned: bool
) -> int:
    """Products in one sum of a MatMul or Gemm."""
    left, right = node.input[:2]
    if right in constants:
        shape = constants[right].shape
        return int(shape[-1 if turned or len(shape) == 1 else -2])
    return int((constants[left].shape if left in constants else shapes[left])[-1])


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
    place = TABLES.get(node.op_type, len(node.input))
    if place < len(node.input) and node.input[place] in constants:
        changed.input[place] = constant(np.abs(constants[node.input[place]]))
    for attribute in changed.attribute:
        if (node.op_type, attribute.name) in (("Gemm", "alpha"), ("Gemm", "beta"), ("Pad", "value")):
            attribute.f = abs(attribute.f)
    if node.op_type in (*LAYERS, *STEPS, *JOINTS):
        changed.op_type = {"Sub": "Add", "Min": "Max"}.get(node.op_type, node.op_type)
        for position, name in enumerate(node.input):
            variance = node.op_type == "BatchNormalization" and position == 4
            if name in constants and not variance:
                negative = node.op_type == "BatchNormalization" and position == 3
                changed.input[position] = constant(-np.abs(constants[name]) if negative else np.abs(constants[name]))
    return [changed]
