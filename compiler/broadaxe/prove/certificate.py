"""certificate.json: everything that a sceptic needs to check a design without this package.

One line of JSON with the keys, in this order,

    format          version of this layout
    broadaxe        version of the compiler
    graph           the integer graph: values with type, shape, bounds, scale and shift; nodes with all their constants
    layers          per multiply-accumulate layer: input intervals (of both operands in turn where two are activations); per
                    channel the interval of its sum, the hull of its partial sums, its start and its bits; tile and the
                    interval of its sums; widths, those at which each PE wraps among them; what multiplies, and where
                    products share a DSP block how many, in which lanes; and the canonical inputs that take the channel that
                    sets the width to both ends (an input whose weight is 0 stays at its lower end). Of a layer whose
                    weights are loaded at run time all that is said of those it holds at first, `budget` is what any others
                    have to keep to: the grid of the weights, and the intervals that hold start + sum of every channel and
                    the sum of every tile for all inputs; width, pe_bits and inner_bits are those of the budget
    requantizers    per requantizer its form, the comparisons that prove it, and the bits of a shifter's sum
    files           SHA-256 of model.onnx and of every file of firmware/ and tb/
    digest          SHA-256 of the text without this key, so that no character can change unnoticed

Integers stand as they are, weights in nested lists (about 2.5 bytes each at 4 bits); rationals are "numerator/denominator".
`broadaxe.prove.checker` reads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from broadaxe.ir import Bounds, Graph, Lanes, Node
from broadaxe.ops.budget import Budgeted
from broadaxe.ops.forms import MultiplyShift, Shift
from broadaxe.ops.mac import Accumulating
from broadaxe.ops.requantize import Requantize
from broadaxe.prove.accumulators import Accumulator, accumulators
from broadaxe.serialize import graph_json, plain
from broadaxe.version import __version__

FORMAT = 2
CERTIFIED = ("firmware/", "tb/", "model.onnx")
"""Files that the certificate names, by the start of their path."""


def certificate(graph: Graph, files: Mapping[str, bytes], lanes: Mapping[str, Lanes]) -> str:
    """The text of certificate.json for a graph, the files of its build folder and the lanes of its kernels."""
    sizes = {a.name: a for a in accumulators(graph)}
    return seal(
        {
            "format": FORMAT,
            "broadaxe": __version__,
            "graph": graph_json(graph),
            "layers": [
                _layer(graph, n, n.op, sizes[n.name], lanes[n.name])
                for n in graph.nodes
                if isinstance(n.op, Accumulating)
            ],
            "requantizers": [_requantizer(n, n.op) for n in graph.nodes if isinstance(n.op, Requantize)],
            "files": {n: hashlib.sha256(f).hexdigest() for n, f in sorted(files.items()) if n.startswith(CERTIFIED)},
        }
    )


def seal(content: Mapping[str, Any]) -> str:
    """The content as text, with the digest over it as its last key."""
    text = json.dumps(content, separators=(",", ":"))
    return f'{text[:-1]},"digest":"{hashlib.sha256(text.encode()).hexdigest()}"}}\n'


def witness_channel(attained: Bounds, first: int = 0, step: int = 1) -> int:
    """The first channel that sets the width of every `step` from `first` on: of the most bits, with the widest interval."""
    return max(range(first, len(attained), step), key=lambda c: (attained[c].signed_dtype.width, attained[c].span))


def _layer(graph: Graph, node: Node, op: Accumulating, sizes: Accumulator, lanes: Lanes) -> dict[str, Any]:
    inputs, out = graph.inputs_of(node), graph.values[node.output]
    attained = op.attained(*inputs)
    channel = witness_channel(attained)
    witnesses = op.witnesses(inputs, channel)
    assert witnesses is not None
    low, high = (
        [v for part, x in zip(end, inputs, strict=True) for v in part.reshape(-1, x.channels)[0].tolist()]
        for end in witnesses
    )
    packing = op.packed(inputs, lanes)
    return {
        "name": node.name,
        "inputs": [pair for x in inputs for pair in plain(x.bounds)],
        "sums": plain(sizes.sums),
        "prefix": plain(op.prefix_hull(*inputs)),
        "start": op.start.tolist(),
        "mode": sizes.mode,
        "tile": sizes.tile,
        "inner": plain(sizes.inner),
        "inner_bits": sizes.inner_bits,
        "exact_bits": sizes.exact_bits,
        "prefix_bits": sizes.prefix_bits,
        "offset_bits": sizes.offset_bits,
        "channel_bits": [interval.signed_dtype.width for interval in attained],
        "width": sizes.width,
        "multiplier": lanes.multiplier,
        "pe_bits": plain(op.pe_bits(inputs, out, lanes)),
        "packing": None if packing is None else {"dsp": lanes.dsp.name} | plain(packing),
        "channel": channel,
        "low": low,
        "high": high,
    } | ({"budget": _budget(op)} if isinstance(op, Budgeted) else {})


def _budget(op: Budgeted) -> dict[str, Any]:
    """What all weights keep to that may be loaded."""
    inner = op.budget.inner_dtype
    grid, held = op.weight_dtype.range, op.budget.outer_dtype.range
    return {"weights": plain(grid), "sums": plain(held), "tiles": plain(inner and inner.range)}


def _requantizer(node: Node, op: Requantize) -> dict[str, Any]:
    form = op.chosen()
    bits = form.sum_dtype.width if isinstance(form, Shift | MultiplyShift) else None
    return {"name": node.name, "form": form.name, "comparisons": op.comparisons, "sum_bits": bits}
