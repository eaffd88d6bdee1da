"""Arithmetic with constants: it never becomes hardware of its own. Each operator extends the exact chain of its input by one
monotone step, and the next quantizer turns the whole chain into one integer staircase."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from broadaxe.chain import Affine, Clamp, PerChannel, normalize, spread
from broadaxe.ops.importing import (
    Array,
    GraphBuilder,
    ModelNode,
    Scaled,
    Tensor,
    along_channels,
    extend,
    imports,
    per_channel,
)
from broadaxe.ops.pointwise import divided_by, of_one_value
from broadaxe.ops.product import multiply_activations
from broadaxe.ops.scaled_add import add_activations

ONE, ZERO = (Fraction(1),), (Fraction(0),)


@imports("Mul", "Add", "Sub", "Div")
def import_arithmetic(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """x op constant, or constant op x where that is affine in x."""
    left, right = node.inputs[0], node.inputs[1]
    if isinstance(left, Scaled) and isinstance(right, Scaled):
        if (combined := of_one_value(graph, node, left, right)) is not None:
            return combined
        if node.op_type in ("Add", "Sub"):
            return add_activations(graph, node, left, right, 1 if node.op_type == "Add" else -1)
        if node.op_type == "Mul":
            return multiply_activations(graph, node, left, right)
        raise node.fail("divides two activations; only division by a constant is supported")
    position = 0 if isinstance(left, Scaled) else 1
    x = node.scaled(position)
    values = node.floats(1 - position, "constant")
    constant = per_channel(graph, node, x, values, "constant")
    match node.op_type:
        case "Mul":
            step = Affine(constant, ZERO)
        case "Add":
            step = Affine(ONE, constant)
        case "Sub":
            step = Affine(ONE, _negated(constant)) if position == 0 else Affine((Fraction(-1),), constant)
        case _:
            if position == 1:
                return divided_by(graph, node, constant, x)
            if x.kind not in ("float32", "float64"):
                raise node.fail(f"divides integers ({x.kind}), which rounds; cast them to float first")
            if not all(constant):
                raise node.fail("divides by zero; repair the model")
            step = Affine(tuple(1 / c for c in constant), ZERO)
    scale, shift = spread(step.scale, step.shift)
    return extend(graph, node, x, Affine(scale, shift))


def _negated(values: PerChannel) -> PerChannel:
    return tuple(-v for v in values)


@imports("Neg")
def import_neg(graph: GraphBuilder, node: ModelNode) -> Tensor:
    return extend(graph, node, node.scaled(0), Affine((Fraction(-1),), ZERO))


@imports("Relu")
def import_relu(graph: GraphBuilder, node: ModelNode) -> Tensor:
    return extend(graph, node, node.scaled(0), Clamp(Fraction(0), None))


@imports("Clip")
def import_clip(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """Clip with constant ends, as inputs (opset 11 on) or attributes."""
    ends: list[Fraction | None] = []
    for position, name, open_end in ((1, "min", -np.inf), (2, "max", np.inf)):
        if len(node.inputs) > position and node.inputs[position] is not None:
            given = node.constant(position, name).array
        else:
            given = np.array(node.attribute(name, open_end))
        if given.size != 1:
            raise node.fail(f"its {name} holds {given.size} numbers; only one is supported")
        end = given.item()
        if end != open_end and not np.isfinite(end):
            raise node.fail(f"its {name} is {end}; it has to be a number or {open_end}")
        ends.append(None if end == open_end else Fraction(end))
    lo, hi = ends
    if lo is not None and hi is not None and lo > hi:
        raise node.fail(f"its min {float(lo):g} is above its max {float(hi):g}; repair the model")
    return extend(graph, node, node.scaled(0), Clamp(lo, hi))


@imports("BatchNormalization")
def import_batch_normalization(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """gamma * (x - mean) / sqrt(var + epsilon) + beta on axis 1, with the exact square root."""
    x = node.scaled(0)
    if node.attribute("training_mode", 0):
        raise node.fail("is in training mode; export the model in evaluation mode")

    def channels(position: int, role: str) -> Array:
        return along_channels(x, node.floats(position, role).reshape(-1))

    given = float(np.float32(node.attribute("epsilon", 1e-5)))
    if not np.isfinite(given):
        raise node.fail(f"its epsilon is {given}; it has to be a finite number")
    epsilon = Fraction(given)
    gamma, beta, mean, variance = (
        per_channel(graph, node, x, channels(i, role), role)
        for i, role in ((1, "scale"), (2, "bias"), (3, "mean"), (4, "variance"))
    )
    shifted = tuple(v + epsilon for v in variance)
    if min(shifted) <= 0:
        raise node.fail(f"its variance plus epsilon is {float(min(shifted)):g}; it has to be positive")
    return extend(graph, node, x, normalize(gamma, mean, shifted, beta))
