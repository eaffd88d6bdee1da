"""The integers behind constant weights, and how they follow the operators that exporters put between a Quant and a layer.

An operator that only moves elements moves integers and scales alike. A product with a constant changes the scales: the
array is what float32 makes of it, and its grid is kept only where every element is integer * scale up to float32 rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from onnx import TensorProto

from broadaxe.ops.importing import Array, Constant, Grid, ModelNode

MOVERS = (
    *("Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile"),
    *("Transpose", "Unsqueeze"),
)
MOST = 1 << 16
"""Integers of a constant that nothing quantizes stay below it in magnitude."""
TWO_ROUNDINGS = 2.0**-23
"""Relative error of integer * scale and of one product with it, both rounded to float32."""
Evaluation = Callable[[Mapping[str, Array]], Sequence[Array]]


def followed(node: ModelNode, arrays: Mapping[str, Array], run: Evaluation) -> tuple[Constant, ...]:
    """What an operator makes of constants, with their grids where it keeps them.

    Args:
        arrays: the constants by name.
        run: the operator on constants of any element type.
    """
    made = [Constant(array) for array in run(arrays)]
    gridded = [t for t in node.inputs if isinstance(t, Constant) and t.grid is not None]
    if not gridded:
        return tuple(made)
    if node.op_type in MOVERS:
        return _moved(node, arrays, run, made)
    if node.op_type in ("Mul", "Div") and len(made) == 1:
        return (_multiplied(node, made[0].array),)
    if node.op_type == "Neg" and gridded[0].grid is not None:
        source, grid = gridded[0], gridded[0].grid
        return (Constant(made[0].array, Grid(-grid.integers, grid.scale)),) if source is node.inputs[0] else tuple(made)
    return tuple(made)


def _moved(
    node: ModelNode, arrays: Mapping[str, Array], run: Evaluation, made: Sequence[Constant]
) -> tuple[Constant, ...]:
    """Integers and scales through the operator that moved the constants."""
    count = len(node.inputs) if node.op_type == "Concat" else 1
    sources = [tensor for tensor in node.inputs[:count] if isinstance(tensor, Constant)]
    grids = [tensor.grid or integer_grid(tensor.array) for tensor in sources]
    to_float = node.op_type != "Cast" or node.attribute("to", 0) == TensorProto.FLOAT
    if not to_float or not all(grids):
        return tuple(made)
    names, parts = node.input_names[:count], [grid for grid in grids if grid is not None]
    if node.op_type == "Cast":
        return (Constant(made[0].array, parts[0], sources[0].bits, sources[0].signed),)
    integers = run({**arrays, **{n: g.integers for n, g in zip(names, parts, strict=True)}})
    scales = run({**arrays, **{n: np.array(g.scale, dtype=np.float64) for n, g in zip(names, parts, strict=True)}})
    types = {(source.bits, source.signed) for source in sources}
    bits, signed = types.pop() if len(types) == 1 else (None, True)
    return tuple(
        Constant(constant.array, Grid(q, s), bits, signed)
        for constant, q, s in zip(made, integers, scales, strict=True)
    )


def _multiplied(node: ModelNode, array: Array) -> Constant:
    """A product or quotient with constants other than 0 on one side."""
    sides = [tensor for tensor in node.inputs if isinstance(tensor, Constant)]
    held = max(range(2), key=lambda i: (sides[i].grid is not None, sides[i].array.size))
    grid, factor = sides[held].grid, sides[1 - held].array.astype(np.float64)
    if grid is None or not factor.all() or (node.op_type == "Div" and held == 1):
        return Constant(array)
    scale = grid.scale * np.abs(factor) if node.op_type == "Mul" else grid.scale / np.abs(factor)
    integers = grid.integers * np.sign(factor).astype(np.int64)
    exact = integers * scale
    on_grid = np.abs(array - exact) <= TWO_ROUNDINGS * np.abs(exact)
    return Constant(array, Grid(integers, np.broadcast_to(scale, array.shape))) if on_grid.all() else Constant(array)


def integer_grid(array: Array) -> Grid | None:
    """The grid of scale 1 of a constant that holds small integers alone."""
    if array.dtype.kind not in "fiu" or not array.size:
        return None
    if not (np.abs(array.astype(np.float64)) < MOST).all() or not (array == np.rint(array)).all():
        return None
    return Grid(array.astype(np.int64), np.broadcast_to(np.float64(1), array.shape))
