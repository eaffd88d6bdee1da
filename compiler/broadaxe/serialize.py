"""The integer graph as JSON: what the certificate holds. Integers stay integers, rationals become `numerator/denominator`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from broadaxe.chain import Step, Thresholded
from broadaxe.ir import Graph
from broadaxe.ops.forms import Form
from broadaxe.types import Interval, IntType


def graph_json(graph: Graph) -> dict[str, Any]:
    """A graph as plain data."""
    return {
        "name": graph.name,
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "values": {name: plain(value) for name, value in graph.values.items()},
        "nodes": [
            {
                "name": node.name,
                "operator": node.op.kind,
                "inputs": list(node.inputs),
                "output": node.output,
                "origin": node.origin,
                "attributes": plain(node.op),
            }
            for node in graph.nodes
        ],
    }


def plain(value: Any) -> Any:
    """Dataclasses, integers, rationals and arrays as what JSON holds."""
    match value:
        case None | bool() | int() | str():
            return value
        case Interval():
            return [value.lo, value.hi]
        case IntType():
            return f"{'int' if value.signed else 'uint'}{value.width}"
        case Fraction():
            return str(value)
        case np.ndarray():
            return value.tolist()
        case tuple() | list():
            return [plain(v) for v in value]
        case Mapping():
            return {str(k): plain(v) for k, v in value.items()}
    if is_dataclass(value):
        named = {"is": getattr(value, "name", None) or type(value).__name__.lower()} if _is_variant(value) else {}
        return named | {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _is_variant(value: Any) -> bool:
    """Chain steps, requantizer forms and what ends a chain are told apart by a tag; a rounding quantizer has none."""
    return isinstance(value, Step | Thresholded | Form)
