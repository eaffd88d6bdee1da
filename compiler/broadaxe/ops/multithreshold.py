"""MultiThreshold and Sign: quantizers that compare with thresholds, as FINN's models have them. Their import from ONNX."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from broadaxe.chain import Chain, Ending, Quantizer, Thresholded, direction_on
from broadaxe.frontend.standard import LAYOUTS
from broadaxe.ops.importing import GraphBuilder, ModelNode, Scaled, Tensor, imports, per_channel
from broadaxe.ops.requantize import requantized
from broadaxe.staircase import MOST_STEPS, staircase
from broadaxe.types import Interval

ZERO = (Fraction(0),)
SIGN = Thresholded((ZERO,), (ZERO,), shift=Fraction(-1))
"""-1 below 0, 0 at 0, 1 above."""
BIPOLAR = Quantizer((Fraction(1),), ZERO, 0, 1, bipolar=True)
"""-1 below 0, 1 from 0 on."""


@imports("MultiThreshold")
def import_multithreshold(graph: GraphBuilder, node: ModelNode) -> Tensor:
    x = node.scaled(0)
    return requantized(graph, node, x, thresholds_of(graph, node, x))


@imports("Sign")
def import_sign(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """Three levels, or two where no integer of the proven domain has a real value of 0."""
    x = node.scaled(0)
    meets_zero = _meets_zero(x.chain, graph.values[x.value].bounds)
    return requantized(graph, node, x, SIGN if meets_zero else BIPOLAR)


def sign_of(graph: GraphBuilder, node: ModelNode, x: Scaled) -> Ending:
    return SIGN


def _meets_zero(chain: Chain, domain: tuple[Interval, ...]) -> bool:
    """Whether any channel has the middle level: at an end of its domain, or between its two steps; it may where it turns."""
    if None in direction_on(chain, domain):
        return True
    stairs = staircase(chain, SIGN, domain)
    at_ends = [end == 1 for codes in stairs.codes for end in (codes.lo, codes.hi)]
    return any(at_ends) or bool((np.diff(stairs.steps[stairs.counts == SIGN.hi], axis=1) > 0).any())


def thresholds_of(graph: GraphBuilder, node: ModelNode, x: Scaled) -> Thresholded:
    """What a MultiThreshold node compares with: y = out_bias + out_scale * #{k : x >= thresholds[c, k]}."""
    rows = node.floats(1, "thresholds")
    if rows.ndim != 2 or not rows.size:
        raise node.fail(f"its thresholds have shape {rows.shape}; (channels, levels) or (1, levels) is needed")
    rank = len(x.shape)
    layout = str(node.attribute("data_layout", "")) or LAYOUTS.get(rank, "NC")
    axis = layout.index("C") if "C" in layout else 1
    if axis >= rank or len(rows) not in (1, x.shape[axis]):
        raise node.fail(
            f"its thresholds of shape {rows.shape} in data_layout {layout!r} do not fit an input of shape {x.shape};"
            " give a row for each channel, or one for all"
        )
    scale, shift = (Fraction(float(node.attribute(k, d))) for k, d in (("out_scale", 1.0), ("out_bias", 0.0)))
    if not scale:
        raise node.fail("its out_scale is 0, which makes all its outputs equal; repair the model")
    if rows.size > MOST_STEPS:
        raise node.fail(f"has {rows.size} thresholds; at most {MOST_STEPS} are possible")
    exact = tuple(tuple(map(Fraction, row)) for row in rows.tolist())
    if len(rows) > 1:
        numbers = np.arange(len(rows)).reshape([-1 if i == axis else 1 for i in range(rank)])
        owners = per_channel(graph, node, x, numbers, "thresholds")
        exact = tuple(exact[int(owner)] for owner in owners)
    return Thresholded(exact, scale=scale, shift=shift)
