"""What the width of accumulators costs in LUT, flip-flops, block RAM and packed DSP blocks, by model, on whole networks.

    python benchmarks/accumulator_cost.py examples/fashion_mnist_cnn.onnx resnet20.onnx ...     # --json FILE, --multipliers 64

The same integer network at the same folding, its accumulators declared in four ways, with whatever carries them as wide: adder
trees, registers, FIFOs, changes of lanes, comparisons and memories of thresholds.

    data type   any weights and inputs of their types
    AXE         these weights, any input of its type: the two's-complement l1 bound to which AXE (Colbert et al., TMLR 2025) and
                A2Q quantize and by which they declare. The weights are the network's own; nothing is quantized again
    exact       these weights, the proven input intervals, two's complement
    ours        the same from a start of each channel's own, which takes a memory of starts

Every accumulator of a layer has the layer's widest width; multiply-shift forms keep the sums proven for ours. Every figure is a
model: broadaxe.ops.costs says of what and how far off. FIFOs have two words, branches included. LUTs stand for multipliers in
LUTs, and for a DSP each; flip-flops and block RAM are alike. The last column packs as many products into a DSP48E2 as lanes of
the accumulators' width leave room for, whole sums in layers that are not fully unrolled.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "compiler"))

from broadaxe.build import load_model  # noqa: E402
from broadaxe.config import CompileSettings  # noqa: E402
from broadaxe.hardware import DSP48E2  # noqa: E402
from broadaxe.ir import WIDEST, Graph, Lanes, Node, Value  # noqa: E402
from broadaxe.lower import lower  # noqa: E402
from broadaxe.ops import MatVec, Requantize  # noqa: E402
from broadaxe.ops.mac import Accumulating  # noqa: E402
from broadaxe.ops.packing import most_products  # noqa: E402
from broadaxe.passes import pipeline, run_passes  # noqa: E402
from broadaxe.prove.accumulators import Accumulator, accumulators  # noqa: E402
from broadaxe.schedule.dataflow import dataflow  # noqa: E402
from broadaxe.schedule.folding import complete, lanes_of  # noqa: E402
from broadaxe.schedule.resources import total_of  # noqa: E402
from broadaxe.types import IntType  # noqa: E402

WAYS: Mapping[str, Callable[[Accumulator], int]] = {
    "data type": lambda a: a.datatype_bits,
    "AXE": lambda a: a.l1_bits,
    "exact": lambda a: a.exact_bits,
    "ours": lambda a: a.width,
}


COLUMNS = {
    "lut": ("LUT", 14),
    "lut beside dsp": ("LUT beside DSP", 16),
    "ff": ("FF", 14),
    "bram18": ("BRAM18", 12),
    "packed dsp": ("DSP packed", 13),
}


def compiled(path: str) -> Graph:
    model, _ = load_model(path)
    settings = CompileSettings()
    return run_passes(lower(model, settings.input_types).graph, pipeline(settings.requantizers))


def declared(graph: Graph, widths: Mapping[str, int], offset: bool) -> Graph:
    """The network with accumulators of other widths, by node; values computed from them without a quantizer grow by as much.

    Args:
        offset: keep the starts; else every sum starts at zero.
    """
    values, grown, nodes = dict(graph.values), dict.fromkeys(graph.inputs, 0), []
    for node in graph.nodes:
        value = graph.values[node.output]
        wider = 0 if isinstance(node.op, Requantize) else max(grown[name] for name in node.inputs)
        if isinstance(node.op, Accumulating):
            wider = widths[node.name] - value.dtype.width
            if not offset:
                node = replace(node, op=node.op.starting_at(np.zeros_like(node.op.start)))
        grown[node.output] = wider
        values[node.output] = wide(value, wider)
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes), values=values)


def wide(value: Value, bits: int) -> Value:
    width = min(WIDEST, value.dtype.width + bits)
    return replace(value, dtype=IntType(width, value.dtype.signed)) if bits else value


def packed(graph: Graph, node: Node, lanes: Lanes, width: int) -> int:
    """DSP blocks of a layer whose products are packed in lanes that hold a sum of `width` bits."""
    op, (x, *_) = node.op, graph.inputs_of(node)
    steps = (op.outputs // lanes.written) * (op.depth // lanes.read) if isinstance(op, MatVec) else 1
    if not isinstance(op, MatVec) or steps == 1:
        return 0
    products = most_products(op.weight_ends, x.hull, width, DSP48E2, lanes.written)
    return -(-lanes.written // products) * lanes.read


def cost(graph: Graph, lanes: Mapping[str, Lanes], widths: Mapping[str, int], offset: bool) -> dict[str, float]:
    """Resources of the whole design with these accumulators."""
    other = declared(graph, widths, offset)
    flow = dataflow(other, lanes)
    fabric = total_of(other, lanes, flow)
    blocks = {name: replace(own, multiplier="dsp") if name in widths else own for name, own in lanes.items()}
    return {
        "lut": fabric.lut,
        "lut beside dsp": total_of(other, blocks, flow).lut,
        "ff": fabric.ff,
        "bram18": fabric.bram18,
        "packed dsp": sum(packed(graph, graph.node(name), lanes[name], bits) for name, bits in widths.items()),
    }


def rows(path: str, multipliers: int) -> list[dict[str, Any]]:
    """One row a way, for a network."""
    graph = compiled(path)
    lanes = lanes_of(graph, complete(graph, {}, multipliers))
    found = accumulators(graph)
    table = []
    for way, width in WAYS.items():
        widths = {a.name: max(width(a), a.width) for a in found}
        bits = [widths[a.name] for a in found]
        row = {"network": Path(path).stem, "way": way, "mean bits": sum(bits) / len(bits), "widest": max(bits)}
        table.append(row | cost(graph, lanes, widths, way == "ours"))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", help="QONNX files")
    parser.add_argument("--multipliers", type=int, default=64, help="of the layer with most work")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    given = parser.parse_args()
    every = []
    print("all figures are models; change against data type in brackets")
    heads = "".join(f"{head:>{wide}}" for head, wide in COLUMNS.values())
    print(f"{'network':18} {'accumulators':12} {'mean bits':>9}{heads}")
    for path in given.networks:
        table = rows(path, given.multipliers)
        every += table
        for row in table:
            cells = "".join(f"{shown(row, table[0], key):>{wide}}" for key, (_, wide) in COLUMNS.items())
            print(f"{row['network']:18} {row['way']:12} {row['mean bits']:9.1f}{cells}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(every, indent=1) + "\n")


def shown(row: Mapping[str, Any], first: Mapping[str, Any], key: str) -> str:
    change = f" ({row[key] / first[key] - 1:+.0%})" if row is not first and first[key] else ""
    return f"{row[key]:.0f}{change}"


if __name__ == "__main__":
    main()
