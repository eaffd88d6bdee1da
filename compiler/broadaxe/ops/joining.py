"""Operands of operators that join activations element by element: brought to one shape and one order in the stream.

Shapes broadcast as numpy's do, batch axis apart. The result streams in the order of an operand that has its shape already; an
operand in another order, or one that repeats along an axis, goes through `arrange`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from broadaxe.chain import Affine, PerChannel
from broadaxe.ir import IntArray, Shape, Value
from broadaxe.ops.importing import MAX_SCALES, GraphBuilder, ModelNode, Scaled, arrange, channels_first


@dataclass(frozen=True)
class Operand:
    """A value in the order of the result, and what its integers mean, per channel of the result or one for all."""

    value: Value
    affine: Affine


def operands(
    graph: GraphBuilder, node: ModelNode, verb: str, noun: str, *tensors: Scaled
) -> tuple[tuple[Operand, ...], IntArray]:
    """The tensors as values of one shape, in one order, and the index of what an operator makes of them.

    Args:
        verb, noun: what the operator does, for errors: adds, addition.
    """
    for x in tensors:
        if x.pools or len(x.chain) != 1 or not isinstance(x.chain[0], Affine):
            raise node.fail(
                f"{verb} a tensor that is not a plain scale of integers (a BatchNormalization, Relu or MaxPool comes"
                f" between); put a Quant on both sides of the {noun}"
            )
    shapes = " and ".join(str(x.shape) for x in tensors)
    if len({len(x.shape) for x in tensors}) > 1:
        raise node.fail(
            f"{verb} tensors of shapes {shapes}, where a batch axis would meet another axis; reshape them to one number of"
            " axes"
        )
    try:
        shape = np.broadcast_shapes(*(x.shape for x in tensors))
    except ValueError:
        raise node.fail(f"{verb} tensors of shapes {shapes} in different orders; make them alike") from None
    index, stream = _order(graph, shape, tensors)
    size = prod(shape)
    for to in dict.fromkeys((stream, (size,))):
        wanted = []
        for x in tensors:
            places = np.empty(size, dtype=np.int64)
            places[index.reshape(-1)] = np.broadcast_to(x.index, shape).reshape(-1)
            wanted.append(places.reshape(to))
        affines = [by_channel(graph, x, places) for x, places in zip(tensors, wanted, strict=True)]
        if all(affine is not None for affine in affines):
            made = [arrange(graph, node, x, places) for x, places in zip(tensors, wanted, strict=True)]
            return tuple(Operand(v, a) for v, a in zip(made, affines, strict=True) if a is not None), index
    raise node.fail(f"{verb} tensors with more scales than can be kept apart; put a Quant on both sides of the {noun}")


def by_channel(graph: GraphBuilder, x: Scaled, wanted: IntArray) -> Affine | None:
    """x's first step for the elements of its stream at `wanted`, by their last axis; None where it varies along others."""
    first = x.chain[0]
    if not isinstance(first, Affine):
        return None
    channels = graph.values[x.value].channels
    columns: list[PerChannel] = []
    for column in (first.scale, first.shift):
        if len(column) == 1 or len(set(column)) == 1:
            columns.append(column[:1])
            continue
        if wanted.shape[-1] > MAX_SCALES:
            return None
        numbers = {value: number for number, value in enumerate(dict.fromkeys(column))}
        kinds = np.array([numbers[value] for value in column])[wanted.reshape(-1, wanted.shape[-1]) % channels]
        if (kinds != kinds[0]).any():
            return None
        known = list(numbers)
        columns.append(tuple(known[kind] for kind in kinds[0].tolist()))
    return Affine(columns[0], columns[1])


def _order(graph: GraphBuilder, shape: Shape, tensors: Sequence[Scaled]) -> tuple[IntArray, Shape]:
    """Where each element of the result goes in its stream, and that stream's shape."""
    whole = [x for x in tensors if x.shape == shape and _every_element(graph, x)]
    if whole:  # the one with most axes: its channels are those of an image where another was flat for a while
        first = max(whole, key=lambda x: len(graph.values[x.value].shape))
        return first.index, graph.values[first.value].shape
    if len(shape) == 4:
        _, channels, height, width = shape
        return channels_first(height, width, channels), (height, width, channels)
    return np.arange(prod(shape)).reshape(shape), shape[1:] or (1,)


def _every_element(graph: GraphBuilder, x: Scaled) -> bool:
    """Whether x holds each element of its stream once."""
    size = graph.values[x.value].size
    return x.index.size == size and bool((np.bincount(x.index.reshape(-1), minlength=size) == 1).all())
