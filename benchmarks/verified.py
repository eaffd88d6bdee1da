"""Networks of benchmarks/frontier.py quantized, compiled and verified: the widths in the C++ against those that were asked.

    python benchmarks/verified.py digits fashion mnist-conv recognizer ccexam [--rows 64]

One accumulator a channel at W4A8, P = 14, of `best` and of `axe`; and tiles of 64 inputs with inner accumulators of 12 bits.
`broadaxe verify` runs on test rows; the script fails where a value differs or a width is above the one that was asked.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch
from frontier import PLANS, task

import broadaxe
from broadaxe.ops.mac import Mac
from broadaxe.ops.matvec import MatVec

POINTS = {
    "best": {"acc_bits": 14},
    "axe": {"acc_bits": 14, "preset": "axe"},
    "best, tiles": {"acc_bits": 12, "tile": 64},
    "best, dyadic": {"acc_bits": 14, "scales": "dyadic:8"},
}


def declared(build: broadaxe.Build) -> list[int]:
    """Bits of every accumulator in the C++; of the inner one where there are tiles."""
    found = []
    for node in build.graph.nodes:
        if isinstance(node.op, Mac):
            width = build.graph.values[node.output].dtype.width
            if isinstance(node.op, MatVec) and node.op.tile is not None:
                width = node.op.tile_sums(build.graph.inputs_of(node)[0]).signed_dtype.width
            found.append(width)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="+", choices=list(PLANS), metavar="NETWORK")
    parser.add_argument("--how", choices=list(POINTS), action="append", help="default: all of them")
    parser.add_argument("--rows", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    failed = False
    print(f"{'network':<12}{'how':<15}{'asked':>6}  {'declared':<18}{'seconds':>8}  verify")
    for network in options.networks:
        given = task(network, 0)
        for name in options.how or POINTS:
            settings = POINTS[name]
            started = time.perf_counter()
            quantized = broadaxe.quantize(given.model, given.calibration, weight_bits=4, act_bits=8, **settings)
            with tempfile.TemporaryDirectory() as folder:
                build = broadaxe.compile(quantized.model, Path(folder) / "build")
                result = broadaxe.verify(build, given.test[0][: options.rows])
            widths, asked = declared(build), settings["acc_bits"]
            held = max(widths) <= asked and widths == [r.inner_width or r.width for r in quantized.record.layers]
            failed |= not (held and result.ok)
            print(
                f"{network:<12}{name:<15}{asked:>6}  {'/'.join(map(str, widths)):<18}{time.perf_counter() - started:>8.0f}"
                f"  {str(result).splitlines()[-1]}{'' if held else '  TOO WIDE'}",
                flush=True,
            )
    sys.exit(failed)


if __name__ == "__main__":
    main()
