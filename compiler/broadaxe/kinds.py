"""Element types of the model's tensors: what an operator makes of integers stays in their type, or is refused.

Integer operators round and wrap around; the exact chain does neither. So a tensor of an integer type is one only while each of
its reals is an integer that this type holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from broadaxe.chain import Affine, Chain, Clamp
from broadaxe.errors import ProofError, UnsupportedModelError
from broadaxe.functions import Combined, Function, Leaky, Power, reach
from broadaxe.ops.importing import Constant, ModelNode, Scaled
from broadaxe.types import Interval

OWN = {"ArgMax", "ArgMin", "BipolarQuant", "Cast", "IntQuant", "MultiThreshold", "Quant", "TopK", "Trunc"}
"""Operators whose importers say what they make."""
FLOAT_SIZES = {"Resize", "Upsample"}
"""Operators whose constants are floats whatever they move."""


def typed(node: ModelNode, made: Scaled, bounds: Sequence[Interval]) -> Scaled:
    """The tensor with the element type that the operator gives it.

    Args:
        bounds: of the tensor's value, per channel.
    """
    if node.op_type not in OWN:
        made = replace(made, kind=_kind(node))
    if not made.kind.startswith(("int", "uint")):
        return made
    limits, whole = np.iinfo(made.kind), _whole(made.chain)
    try:
        lo, hi = reach(made.chain, bounds) if whole else (Fraction(0), Fraction(0))
    except (ProofError, UnsupportedModelError):
        whole, lo, hi = False, Fraction(0), Fraction(0)
    if not whole or lo < int(limits.min) or hi > int(limits.max):
        what = (
            f"reaches from {lo} to {hi}, where {made.kind} wraps around" if whole else f"rounds integers ({made.kind})"
        )
        raise node.fail(f"{what}; cast them to float first")
    return made


def _kind(node: ModelNode) -> str:
    """That of the activation it reads, unless it joins it with floats, or reads a table by it."""
    if node.op_type in ("Gather", "OneHot"):
        table = node.inputs[0 if node.op_type == "Gather" else 2]
        if isinstance(table, Constant):
            return str(table.array.dtype)
    kind = next((t.kind for t in node.inputs if isinstance(t, Scaled)), "float32")
    floats = any(isinstance(t, Constant) and t.array.dtype.kind == "f" for t in node.inputs)
    return "float32" if floats and kind[:5] != "float" and node.op_type not in FLOAT_SIZES else kind


def _whole(chain: Chain) -> bool:
    """Whether each step takes integers to integers."""
    for step in chain:
        match step:
            case Affine():
                numbers = [*step.scale, *step.shift]
            case Clamp():
                numbers = [end for end in (step.lo, step.hi) if end is not None]
            case Leaky():
                numbers = [*step.slope]
            case Power() if step.exponent > 0:
                numbers = [step.exponent]
            case Function(kind="sign"):
                numbers = []
            case Combined() if step.op != "Div" and _whole(step.left) and _whole(step.right):
                numbers = []
            case _:
                return False
        if any(number.denominator != 1 for number in numbers):
            return False
    return True
