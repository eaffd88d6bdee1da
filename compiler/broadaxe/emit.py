"""From the integer graph to HLS C++: one header per kernel, a dataflow top level, a testbench.

All C++ stands in templates/. Every identifier is one of the graph's own names, never a name from the model file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from broadaxe.ir import Graph, IntArray, Lanes, Node, Value, constant_array
from broadaxe.ops.budget import Budgeted, words
from broadaxe.ops.mac import Accumulating
from broadaxe.ops.memories import by_lane
from broadaxe.ops.requantize import Requantize
from broadaxe.prove.certificate import witness_channel
from broadaxe.schedule.dataflow import Dataflow, Parameters, Port, Stream, dataflow
from broadaxe.templating import templates
from broadaxe.version import __version__

__all__ = ["Dataflow", "Parameters", "Port", "Stream", "dataflow", "firmware", "loading_vectors", "testbench"]


def firmware(
    graph: Graph, flow: Dataflow, lanes: Mapping[str, Lanes], top: str, options: Mapping[str, Any]
) -> dict[str, str]:
    """The generated sources, by path inside the build folder; kernel headers are not included.

    Args:
        options: `sideband` (0 for Vitis HLS, 1 for Vivado HLS) and `control` (s_axilite or ap_ctrl_none).
    """
    environment = templates()
    ports = {"inputs": flow.inputs, "outputs": flow.outputs, "parameters": flow.parameters}
    common = {"top": top, "version": __version__, **ports, **options}
    nodes = [node for node in graph.nodes if node.op.hardware]
    files = {
        "firmware/types.hpp": environment.get_template("firmware/types.hpp.jinja").render(values=graph.values.values()),
        f"firmware/{top}.hpp": environment.get_template("firmware/top.hpp.jinja").render(common),
        f"firmware/{top}.cpp": environment.get_template("firmware/top.cpp.jinja").render(
            common, nodes=[node.name for node in nodes], streams=flow.streams, calls=flow.calls
        ),
    }
    for node in nodes:
        inputs, output = graph.inputs_of(node), graph.values[node.output]
        files[f"firmware/{node.name}.hpp"] = environment.get_template("firmware/node.hpp.jinja").render(
            name=node.name,
            kind=node.op.kind,
            version=__version__,
            in_type=f"{inputs[0].name}_t",
            in_types=[f"{value.name}_t" for value in inputs],
            out_type=f"{output.name}_t",
            **node.op.template_context(inputs, output, lanes[node.name]),
        )
    return files


def testbench(
    graph: Graph,
    flow: Dataflow,
    lanes: Mapping[str, Lanes],
    top: str,
    inputs: Mapping[str, IntArray],
    outputs: Mapping[str, IntArray],
) -> dict[str, str]:
    """Testbench, simulation library, witness harness, and test vectors with their expected outputs.

    Vectors of a design that loads parameters have `loading_vectors` behind them.
    """
    environment = templates()
    common = {"top": top, "inputs": flow.inputs, "outputs": flow.outputs, "parameters": flow.parameters}
    files = {
        f"tb/{name}": environment.get_template(f"tb/{name}.jinja").render(common)
        for name in ("beats.hpp", "testbench.cpp", "library.cpp", "bounded.cpp")
    }
    layers = [_witnesses(graph, node, node.op, lanes) for node in graph.nodes if isinstance(node.op, Accumulating)]
    loads = [layer["words"] for layer in layers if layer["parameters"]]
    files["tb/witness.cpp"] = environment.get_template("tb/witness.cpp.jinja").render(layers=layers, loads=bool(loads))
    if loads:
        files["tb/witness.dat"] = "\n".join(" ".join(map(str, row)) for part in loads for row in part.tolist()) + "\n"
    files["tb/vectors.dat"] = _vectors(graph, inputs, outputs)
    return files


def loading_vectors(frame: int, words: IntArray) -> str:
    """The end of the test vectors of a design that loads parameters: the frame that loads these words."""
    return "\n".join(map(str, [frame, *words.tolist(), ""]))


def _vectors(graph: Graph, inputs: Mapping[str, IntArray], outputs: Mapping[str, IntArray]) -> str:
    arrays = [inputs[name] for name in graph.inputs] + [outputs[name] for name in graph.outputs]
    frames = [" ".join(map(str, a[f].reshape(-1).tolist())) for f in range(len(arrays[0])) for a in arrays]
    return "\n".join([str(len(arrays[0])), *frames, ""])


def _witnesses(graph: Graph, node: Node, op: Accumulating, lanes: Mapping[str, Lanes]) -> dict[str, Any]:
    """Inputs that take channels to both ends, and what the layer and its requantizer make of them.

    The widest channel, and where PEs are narrower than it the widest of the first PE of each width.
    """
    inputs, out = graph.inputs_of(node), graph.values[node.output]
    bits, reached = op.pe_bits(inputs, out, lanes[node.name]) or (out.dtype.width,), op.attained(*inputs)
    channels = {out.dtype.width: witness_channel(reached)}
    for pe, width in enumerate(bits):
        channels.setdefault(width, witness_channel(reached, pe, len(bits)))
    attained = [end for channel in channels.values() for end in op.witnesses(inputs, channel) or ()]
    count = len(attained)
    # of one input each vector is a witness of its own; two inputs meet all over a frame, which then holds one witness
    vectors = {x.name: x.size // x.channels for x in (*inputs, out)}
    alone = len(inputs) == 1
    shared = [
        np.stack([end[i] if not alone else end[i].reshape(-1, x.channels)[:1] for end in attained])
        for i, x in enumerate(inputs)
    ]
    filled = _at_both_ends(op, inputs) if isinstance(op, Budgeted) else (op,) * count
    rows = [[x[end : end + 1].astype(np.int64) for x in shared] for end in range(count)]
    sums = np.stack([of.reference(*row).reshape(-1, op.outputs)[0] for of, row in zip(filled, rows, strict=True)])
    layer: dict[str, Any] = {
        "name": node.name,
        "streams": [
            {
                "type": f"{x.name}_t",
                "depth": x.channels,
                "vectors": vectors[x.name],
                "run": 1 if alone else vectors[x.name],
                "rows": rows.reshape(count, -1, x.channels)[:, 0].tolist(),
            }
            for x, rows in zip(inputs, shared, strict=True)
        ],
        "outputs": op.outputs,
        "vectors": vectors[out.name],
        "run": 1 if alone else vectors[out.name],
        "count": count,
        "frames": -(-count // vectors[out.name]) if alone else count,  # all witnesses, also where a frame holds one
        "simd": lanes[node.name].read,
        "pe": lanes[node.name].written,
        "out_type": f"{out.name}_t",
        "width": out.dtype.width,
        "sums": sums.tolist(),
        "reader": None,
        "parameters": 0,
        "reader_parameters": False,
    }
    if isinstance(op, Budgeted):  # every frame is at one end of the accumulators, with the starts that take them there
        filling = np.stack([op.parameters(inputs, out, lanes[node.name])] * 2)
        for row, of in zip(filling, filled, strict=True):
            assert isinstance(of, Budgeted)
            row[-op.outputs :] = words(by_lane(of.held_start, lanes[node.name].written))
        layer |= {"parameters": filling.shape[1], "words": filling, "run": vectors[out.name], "frames": 2}
        layer["streams"][0]["run"] = layer["streams"][0]["vectors"]
    for reader in graph.consumers(node.output):
        if isinstance(reader.op, Requantize):
            codes = reader.op.reference(sums.reshape(count, *[1] * (len(out.shape) - 1), op.outputs))
            layer |= {
                "reader": reader.name,
                "reader_lanes": lanes[reader.name].read,
                "code_type": f"{graph.values[reader.output].name}_t",
                "codes": codes.reshape(count, -1).tolist(),
                "reader_parameters": reader.op.loadable,
            }
            break
    return layer


def _at_both_ends(op: Budgeted, inputs: Sequence[Value]) -> tuple[Budgeted, Budgeted]:
    """The same weights from the starts with which each channel's least sum, or its largest, is the accumulator's."""
    (lo, hi), held = op.sums(*inputs), op.budget.outer_dtype.range
    return op.starting_at(constant_array(held.lo - lo)), op.starting_at(constant_array(held.hi - hi))
