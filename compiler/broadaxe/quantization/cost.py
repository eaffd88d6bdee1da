"""What a quantization costs in hardware, by a model: to compare settings of one network, not to predict a synthesis.

Lanes follow the work: the layer with the most products per sample gets LANES multipliers, every other layer as many as keep
up with it. In LUTs, with weights of M bits, input codes of N and accumulators of P:

    a multiplier and its share of the adder tree     1.1 * (2 ceil((M + N) / 6) + 1) * (M + N)
    an accumulator, one for SIMD multipliers         1.1 * P
    a weight, in distributed memory                  M / 64

Source of the multiplier: Blott et al., FINN-R, TRETS 2018, the matrix-vector unit without DSP blocks. M is what the largest
integer of the layer needs, which may be less than the grid's. Requantizers, windows and streams are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

LANES = 64
SIMD = 8
MEMORY = 64


@dataclass(frozen=True)
class Work:
    """One layer.

    Attributes:
        products: per sample.
        weights: stored.
        weight_bits, act_bits, acc_bits: M, N and P; P of an inner accumulator where there are tiles.
    """

    products: int
    weights: int
    weight_bits: int
    act_bits: int
    acc_bits: int


def luts(layers: Sequence[Work]) -> float:
    """Of all layers together."""
    busiest = max((layer.products for layer in layers), default=0)
    return sum(_luts(layer, LANES * layer.products / busiest if busiest else 0.0) for layer in layers)


def _luts(layer: Work, lanes: float) -> float:
    bits = layer.weight_bits + layer.act_bits
    lane = 1.1 * (2 * ceil(bits / 6) + 1) * bits + 1.1 * layer.acc_bits / SIMD
    return lanes * lane + layer.weights * layer.weight_bits / MEMORY
