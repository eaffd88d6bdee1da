"""Inputs that take a channel's sum to both of its proven ends: of the layer alone and, for a first layer, of the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from broadaxe.alone import Ends, run_alone
from broadaxe.auditing.design import Layer
from broadaxe.auditing.inputs import model_inputs
from broadaxe.auditing.reach import Reading, ancestors, reading
from broadaxe.build import Array, Build, Progress
from broadaxe.data import write_data
from broadaxe.errors import VerificationError
from broadaxe.ir import Graph, IntArray, Node
from broadaxe.ops.mac import Accumulating, Mac
from broadaxe.reference import run
from broadaxe.reports.explanation import Driven, Reached, Run, Witness
from broadaxe.reports.schema import End


def witness_of(build: Build, node: Node, op: Accumulating, channel: int, file: Path | None) -> Witness:
    """Both ends' inputs, written to a file if one is named.

    The file holds, low end first, the layer's own vectors as LAYER.INPUT, shape (2, channels), and where the layer reads the
    network's inputs directly the model's inputs under their own names, shape (2, ...), as `broadaxe simulate` takes them.

    Raises:
        RequestError: the file cannot be written.
        VerificationError: an input does not attain what it should: a bug.
    """
    inputs = build.graph.inputs_of(node)
    found = op.witnesses(inputs, channel)
    assert found is not None
    rows = [[end[i].reshape(-1, x.channels)[0].astype(np.int64) for i, x in enumerate(inputs)] for end in found]
    ends = [_end(op, channel, row) for row in rows]
    lo, hi = (int(end[channel]) for end in op.sums(*inputs))
    if [end.sum for end in ends] != [lo, hi]:
        raise VerificationError(
            f"{node.name}: its witnesses give {' and '.join(str(end.sum) for end in ends)}, not {lo} and {hi}; report it"
        )
    arrays: dict[str, Array] = {
        f"{node.name}.{x.name}": np.stack([row[i] for row in rows]) for i, x in enumerate(inputs)
    }
    network, reached = _of_network(build, node, op, channel)
    if file is not None:
        write_data(file, network | arrays)
    return Witness(
        low=ends[0],
        high=ends[1],
        network=reached,
        file=None if file is None else str(file),
        arrays=() if file is None else (*network, *arrays),
    )


def _end(op: Accumulating, channel: int, row: list[IntArray]) -> End:
    """What is multiplied at one end, and what it adds up to without the start."""
    left, right = (np.asarray(side, dtype=np.int64) for side in op.factors(row, channel))
    return End(sum=int((left * right).sum()), operands=(tuple(left.tolist()), tuple(right.tolist())))


def _of_network(
    build: Build, node: Node, op: Accumulating, channel: int
) -> tuple[dict[str, Array], tuple[int, int] | None]:
    """Inputs of the model that take the channel as far as any, and how far; nothing where they are not known."""
    direct = _reading(build.graph, node, op)
    if direct is None:
        return {}, None
    reached, rows = [], []
    for high in (False, True):
        codes = direct.attaining(channel, high)
        made = model_inputs(build, codes)
        if made is None:
            return {}, None
        part = _down_to(build.graph, node)
        sums = run(part, build.codes(made))[node.output].reshape(-1, op.outputs)[:, channel]
        reached.append(int(sums.max() if high else sums.min()) - int(op.start[channel]))
        rows.append(made)
    bound = direct.bounds()[channel]
    if reached != [bound.lo, bound.hi]:
        raise VerificationError(
            f"{node.name}: inputs of the network give {' and '.join(map(str, reached))}, not {bound.lo} and {bound.hi};"
            " report it"
        )
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}, (bound.lo, bound.hi)


def _reading(graph: Graph, node: Node, op: Accumulating) -> Reading | None:
    """What a layer reads of the network's inputs; None where an operator in between computes."""
    if not isinstance(op, Mac):
        return None
    x, out = graph.values[node.inputs[0]], graph.values[node.output]
    return reading(graph, Layer(node, op, onnx.NodeProto(), x, out, 0))


def _down_to(graph: Graph, node: Node) -> Graph:
    """The graph as far as a node."""
    needed = ancestors(graph, node.output)
    nodes = tuple(n for n in graph.nodes if n.output in needed)
    values = {name: value for name, value in graph.values.items() if name in needed or name in graph.inputs}
    return Graph(graph.name, graph.inputs, nodes, (node.output,), values)


def driven(build: Build, node: Node, op: Accumulating, channel: int, said: Progress) -> Run:
    """The layer's C++ alone at both ends, as declared and with one bit less than the channel needs."""
    said("compiling the layer, and once more with one bit less")
    result = run_alone(build, node, op, channel)
    width, narrow = result.bits
    return Run(
        requantizer=result.reader,
        expected=(_reached(result.expected, 0), _reached(result.expected, 1)),
        declared=_driven(width, result.declared),
        narrower=None if result.narrower is None else _driven(narrow, result.narrower),
    )


def _driven(bits: int, ends: Ends) -> Driven:
    return Driven(bits=bits, low=_reached(ends, 0), high=_reached(ends, 1))


def _reached(ends: Ends, at: int) -> Reached:
    return Reached(sum=ends.sums[at], code=None if ends.codes is None else ends.codes[at])
