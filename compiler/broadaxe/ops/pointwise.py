"""Functions of one activation: they never become hardware of their own. Each extends the exact chain of its input, and the
next quantizer turns the whole chain into one integer staircase, or into a table where the chain rises and falls."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from broadaxe.chain import Affine, Clamp, PerChannel, Snap, Step, then
from broadaxe.errors import ProofError, UnsupportedModelError
from broadaxe.functions import (
    COMBINED,
    HIGHEST_DEGREE,
    MOST_STEPS,
    Combined,
    Function,
    Leaky,
    Power,
    combine,
    reach,
    work,
)
from broadaxe.ops.importing import GraphBuilder, ModelNode, Scaled, Tensor, extend, imports, per_channel
from broadaxe.ops.select import select_activations

ONE, ZERO = (Fraction(1),), (Fraction(0),)
PLAIN = {
    "Abs": Leaky((Fraction(-1),)),
    "Ceil": Snap(ONE, ZERO, "CEIL"),
    "Erf": Function("erf"),
    "Floor": Snap(ONE, ZERO, "FLOOR"),
    "HardSwish": Function("hardswish"),
    "Round": Snap(ONE, ZERO, "ROUND"),
    "Sigmoid": Function("sigmoid"),
    "Softplus": Function("softplus"),
    "Softsign": Function("softsign"),
    "Tanh": Function("tanh"),
}
"""Functions without parameters, on all reals."""
WITH_PARAMETERS = ("Celu", "Elu", "Gelu", "HardSigmoid", "LeakyRelu", "Mish", "PRelu", "Selu", "ThresholdedRelu")
ON_PART = ("Exp", "Log", "Pow", "Reciprocal", "Sqrt")
POINTWISE = (*PLAIN, *WITH_PARAMETERS, *ON_PART, "Max", "Min")
LARGEST_ARGUMENT = 1 << 10
"""Of Exp; float32 ends near e**88."""
LARGEST_POWER = 64


@imports(*PLAIN)
def import_plain(graph: GraphBuilder, node: ModelNode) -> Tensor:
    return extend(graph, node, node.scaled(0), PLAIN[node.op_type])


def _number(node: ModelNode, name: str, default: float) -> Fraction:
    """An attribute, which float32 holds."""
    given = float(np.float32(node.attribute(name, default)))
    if not np.isfinite(given):
        raise node.fail(f"its {name} is {given}; it has to be a finite number")
    return Fraction(given)


def _scaled_by(factor: Fraction) -> Affine:
    return Affine((factor,), ZERO)


@imports(*(name for name in WITH_PARAMETERS if name != "PRelu"))
def import_with_attributes(graph: GraphBuilder, node: ModelNode) -> Tensor:
    return _extended(graph, node, node.scaled(0), *steps_of(node))


def steps_of(node: ModelNode) -> tuple[Step, ...]:
    """The steps of a function whose parameters are attributes, or that has none."""
    match node.op_type:
        case "LeakyRelu":
            return (Leaky((_number(node, "alpha", 0.01),)),)
        case "HardSigmoid":
            line = Affine((_number(node, "alpha", 0.2),), (_number(node, "beta", 0.5),))
            return line, Clamp(Fraction(0), Fraction(1))
        case "Elu":
            return Function("elu"), Leaky((_number(node, "alpha", 1.0),))
        case "Selu":
            alpha, gamma = _number(node, "alpha", 1.67326319217681884765625), _number(node, "gamma", 1.0507010221481323)
            return Function("elu"), Leaky((alpha,)), _scaled_by(gamma)
        case "Celu":
            alpha = _number(node, "alpha", 1.0)
            if alpha <= 0:
                raise node.fail(f"its alpha is {float(alpha):g}; only a positive one is supported")
            return _scaled_by(1 / alpha), Function("elu"), _scaled_by(alpha)
        case "ThresholdedRelu":
            alpha = _number(node, "alpha", 1.0)
            above = (Affine(ONE, (-alpha,)), Function("sign"), Clamp(Fraction(0), None))
            # a number that passes is not negative where alpha is not; two factors from 0 up rise together
            return (Combined("Mul", (Clamp(Fraction(0), None),) if alpha >= 0 else (), above),)
        case "Gelu":
            kind = str(node.attribute("approximate", "none"))
            if kind not in ("none", "tanh"):
                raise node.fail(f"its approximate {kind!r} is unknown; use none or tanh")
            return (Function("gelu" if kind == "none" else "gelu_tanh"),)
        case "Mish":
            return (Combined("Mul", (), (Function("softplus"), Function("tanh"))),)
        case "Exp" | "Log":
            return (Function(node.op_type.lower()),)
        case "Sqrt" | "Reciprocal":
            return (Power(Fraction(1, 2) if node.op_type == "Sqrt" else Fraction(-1)),)
    return (PLAIN[node.op_type],)


def _extended(graph: GraphBuilder, node: ModelNode, x: Scaled, *steps: Step) -> Scaled:
    for step in steps:
        x = extend(graph, node, x, step)
    return x


@imports("PRelu")
def import_prelu(graph: GraphBuilder, node: ModelNode) -> Tensor:
    x = node.scaled(0)
    slope = per_channel(graph, node, x, node.floats(1, "slope"), "slope")
    return extend(graph, node, x, Leaky(slope))


# Functions that not every real has


def _range(graph: GraphBuilder, node: ModelNode, x: Scaled) -> tuple[Fraction, Fraction]:
    """The least and the greatest real of a tensor that can occur."""
    try:
        return reach(x.chain, graph.values[x.value].bounds)
    except (ProofError, UnsupportedModelError) as error:
        raise node.fail(str(error)) from None


def _need(node: ModelNode, ends: tuple[Fraction, Fraction], allowed: bool, what: str) -> None:
    if not allowed:
        raise node.fail(
            f"its input reaches from {float(ends[0]):g} to {float(ends[1]):g}; {what}, put a Clip or a Quant before it"
        )


@imports("Exp", "Log", "Sqrt", "Reciprocal")
def import_on_part(graph: GraphBuilder, node: ModelNode) -> Tensor:
    x = node.scaled(0)
    ends = _range(graph, node, x)
    match node.op_type:
        case "Exp":
            _need(node, ends, ends[1] <= LARGEST_ARGUMENT, f"only up to {LARGEST_ARGUMENT} is supported")
            return extend(graph, node, x, Function("exp"))
        case "Log":
            _need(node, ends, ends[0] > 0, "only numbers above 0 have a logarithm")
            return extend(graph, node, x, Function("log"))
        case "Sqrt":
            return extend(graph, node, x, _power(node, ends, Fraction(1, 2)))
    return extend(graph, node, x, _power(node, ends, Fraction(-1)))


def _power(node: ModelNode, ends: tuple[Fraction, Fraction], exponent: Fraction) -> Step:
    """x ** exponent on reals between two ends."""
    if exponent < 0:
        _need(node, ends, not ends[0] <= 0 <= ends[1], "0 has no reciprocal")
    if exponent.denominator > 1:
        _need(node, ends, ends[0] >= 0, "only numbers from 0 up have a root")
    return Power(exponent)


@imports("Pow")
def import_pow(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """x ** constant."""
    if len(node.inputs) > 1 and isinstance(node.inputs[1], Scaled):
        raise node.fail("has an activation as its exponent; only a constant exponent is supported")
    x, values = node.scaled(0), node.floats(1, "exponent")
    if values.size == 0 or (values != values.reshape(-1)[0]).any():
        raise node.fail(f"its exponents are {values.reshape(-1)[:3].tolist()}; only one for all elements is supported")
    per_channel(graph, node, x, values, "exponent")
    exponent = Fraction(values.reshape(-1)[0].item())
    if abs(exponent) > LARGEST_POWER:
        raise node.fail(f"its exponent is {float(exponent):g}; only magnitudes up to {LARGEST_POWER} are supported")
    if exponent == 0:
        return extend(graph, node, x, Affine(ZERO, ONE))
    if exponent == 1:
        return x
    _bearable(node, replace(x, chain=then(x.chain, Power(exponent))))
    return extend(graph, node, x, _power(node, _range(graph, node, x), exponent))


def divided_by(graph: GraphBuilder, node: ModelNode, constant: PerChannel, x: Scaled) -> Scaled:
    """constant / x, exact; x never is 0."""
    reciprocal = _power(node, _range(graph, node, x), Fraction(-1))
    return _extended(graph, node, x, reciprocal, Affine(constant, ZERO * len(constant)))


# Several operands


@imports("Max", "Min")
def import_extreme(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """The maximum or minimum of activations, or functions of one, and of constants, one for each channel."""
    live = [position for position, tensor in enumerate(node.inputs) if isinstance(tensor, Scaled)]
    x = node.scaled(live[0] if live else 0)
    for position in live[1:]:
        y = node.scaled(position)
        combined = of_one_value(graph, node, x, y)
        x = select_activations(graph, node, x, y, node.op_type == "Max") if combined is None else combined
    for position in range(len(node.inputs)):
        if position not in live:
            x = _bounded(graph, node, x, per_channel(graph, node, x, node.floats(position, "constant"), "constant"))
    return x


def _bounded(graph: GraphBuilder, node: ModelNode, x: Scaled, ends: PerChannel) -> Scaled:
    """Clamped at one end, which may vary with the channel: max(x, c) = max(x - c, 0) + c."""

    def clamp(end: Fraction) -> Clamp:
        return Clamp(end, None) if node.op_type == "Max" else Clamp(None, end)

    if len(ends) == 1:
        return extend(graph, node, x, clamp(ends[0]))
    ones = ONE * len(ends)
    down, up = Affine(ones, tuple(-end for end in ends)), Affine(ones, ends)
    return _extended(graph, node, x, down, clamp(Fraction(0)), up)


def of_one_value(graph: GraphBuilder, node: ModelNode, x: Scaled, y: Scaled) -> Scaled | None:
    """x op y where both are functions of one integer tensor, element by element; None where they are not."""
    if x.value != y.value or node.op_type not in COMBINED or not np.array_equal(x.index, y.index):
        return None
    if x.pools or y.pools:
        raise node.fail("combines what comes out of a MaxPool that has no Quant before it; put a Quant before the pool")
    if node.op_type == "Div":
        ends = _range(graph, node, y)
        if ends[0] <= 0 <= ends[1]:
            raise node.fail(
                f"divides by an activation that reaches from {float(ends[0]):g} to {float(ends[1]):g}; 0 has no"
                " reciprocal, put a Clip or a Quant before it"
            )
    return _bearable(node, Scaled(x.value, x.index, combine(node.op_type, x.chain, y.chain)))


def _bearable(node: ModelNode, x: Scaled) -> Scaled:
    """x, unless its exact chain would take too long: chains that combine chains grow as fast as they like."""
    steps, degree = work(x.chain)
    if steps > MOST_STEPS or degree > HIGHEST_DEGREE:
        raise node.fail(
            f"makes a function of {steps} steps and degree {degree} of one quantized tensor; at most {MOST_STEPS} and"
            f" {HIGHEST_DEGREE} are supported, put a Quant before it"
        )
    return x
