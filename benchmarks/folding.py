"""Networks folded to several targets: rate, bottleneck, resources and FIFOs by model, and the C++ run that way.

    python benchmarks/folding.py [NAME ...]            fold and print the table; rows are kept in results/folding.json
    python benchmarks/folding.py [NAME ...] --run      also run each design's C++ with its FIFOs: seconds to minutes for each
    python benchmarks/folding.py --table               the rows that are kept

Each network is folded to a rate, to a small part and to a large one (the fastest design that fits). `decided` is the time in
which the folding was chosen and FIFOs were sized, on two cores. Exit code 1 where the C++ of a design locks up, differs from
the reference, or is later than the model says.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

import executors
import networks
import onnx

import broadaxe
from broadaxe.rehearsal import rehearse
from broadaxe.reports.terminal import amounts

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "benchmarks" / "results" / "folding.json"
NAMES = ("digits", "fashion", "cnv_w2a2", "mobilenet_v1", "resnet20")
TARGETS: Mapping[str, Mapping[str, Any]] = {
    "1,000 fps": {"target_fps": 1000.0},
    "XC7Z020": {"part": "xc7z020clg400-1"},
    "ZU9EG": {"part": "xczu9eg-ffvb1156-2-e"},
}
CLOCK_NS = 5.0
FRAMES = 3


@dataclass
class Row:
    """One network under one target."""

    network: str
    target: str
    fps: float
    interval: int
    latency: int
    slowest: str
    spent: str
    fifos: int
    fifo_words: int
    least_words: int
    decided: float
    run: str = ""


def model(name: str) -> onnx.ModelProto:
    if name == "digits":
        return executors.digits(steps=40)[0]
    if name == "fashion":
        return onnx.load(ROOT / "examples" / "fashion_mnist_cnn.onnx")
    return networks.model(name)


def fold(name: str, target: str, run: bool) -> Row:
    source = model(name)
    spent: dict[str, float] = {}
    began, stage = time.perf_counter(), ""

    def said(text: str) -> None:
        nonlocal began, stage
        now = time.perf_counter()
        spent[stage] = spent.get(stage, 0.0) + now - began
        began, stage = now, text

    with tempfile.TemporaryDirectory() as folder:
        build = broadaxe.compile(source, Path(folder) / "build", clock_ns=CLOCK_NS, progress=said, **TARGETS[target])
        report = broadaxe.report(build)
        row = Row(
            network=name,
            target=target,
            fps=report.frames_per_second,
            interval=report.interval,
            latency=report.latency,
            slowest=report.slowest,
            spent=amounts(report.resources),
            fifos=len(report.fifos),
            fifo_words=sum(fifo.depth for fifo in report.fifos),
            least_words=sum(fifo.least for fifo in report.fifos),
            decided=spent.get("choosing a folding", 0.0) + spent["sizing FIFOs"],
        )
        if run:
            results = [rehearse(build, frames=FRAMES), rehearse(build, frames=FRAMES, depths="least")]
            row.run = " / ".join("equal" if result.passed else str(result) for result in results)
    return row


def table(rows: Iterable[Row]) -> str:
    lines = [
        "| network | target | frames/s | II | latency | slowest | resources | FIFOs | words, least | decided | C++ run |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        lines.append(
            f"| {r.network} | {r.target} | {r.fps:,.0f} | {r.interval:,} | {r.latency:,} | {r.slowest} | {r.spent} |"
            f" {r.fifos} | {r.fifo_words:,}, {r.least_words:,} | {r.decided:.1f} s | {r.run or '-'} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument("--run", action="store_true", help="run the C++ of every design with its FIFOs")
    parser.add_argument("--table", action="store_true", help="print the rows that are kept")
    given = parser.parse_args()
    kept = {(r["network"], r["target"]): Row(**r) for r in json.loads(KEPT.read_text())} if KEPT.is_file() else {}
    for name in [] if given.table else given.names or NAMES:
        if name not in NAMES:
            parser.error(f"network {name!r} is unknown; there are {', '.join(NAMES)}")
        for target in TARGETS:
            try:
                kept[name, target] = row = fold(name, target, given.run)
            except broadaxe.BroadaxeError as error:
                kept.pop((name, target), None)
                print(f"{name}, {target}: {error}", flush=True)
                continue
            print(f"{name}, {target}: {row.fps:,.0f} frames/s in {row.decided:.1f} s {row.run}", flush=True)
            KEPT.parent.mkdir(exist_ok=True)
            KEPT.write_text(f"{json.dumps([asdict(r) for r in kept.values()], indent=1)}\n")
    print(table(kept.values()))
    if any(part != "equal" for r in kept.values() if r.run for part in r.run.split(" / ")):
        sys.exit(1)


if __name__ == "__main__":
    main()
