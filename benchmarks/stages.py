"""Multi-stage accumulators, and kinds of scales: the secondary runs of benchmarks/PROTOCOL.md.

    python benchmarks/stages.py tiles|scales [NETWORK ...] [--seeds 0-1]

`tiles` solves W4A8 with inner accumulators of P_I bits over T inputs each. `scales` solves with float, power-of-two and dyadic
steps, and compiles: which requantizers `broadaxe.compile` chooses and how wide their multipliers are. Rows go to
benchmarks/results/stages-PART.csv; both print means over seeds as markdown tables.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from frontier import METHODS, RESULTS, Variant, accuracy, seed_range, task, with_quantizers
from threadpoolctl import threadpool_limits

import broadaxe
from broadaxe.ops.forms import MultiplyShift
from broadaxe.ops.requantize import Requantize

TILES = (16, 32, 64, 128)
INNER = {16: (9, 10, 11, 12), 32: (10, 11, 12, 13), 64: (10, 11, 12, 13), 128: (11, 12, 13, 14)}
TILED = ("axe", "axe-search", "best")
SCALES = ("float", "dyadic:8", "pow2")
POINTS = ((4, 4, None), (4, 4, 10), (4, 8, None), (4, 8, 14))
TILE_COLUMNS = ("network", "seed", "method", "T", "P_I", "inner_bits", "outer_bits", "valid", "test", "seconds")
SCALE_COLUMNS = (
    *("network", "seed", "scales", "M", "N", "P", "valid", "test", "bits", "forms", "factor_bits", "requantizer_luts"),
)


def tile_runs(network: str, seeds: Iterable[int]) -> Iterator[tuple[Any, ...]]:
    for seed in seeds:
        for tile in TILES:
            for inner in INNER[tile]:
                yield from ((network, seed, method, tile, inner) for method in TILED)


def tiled(network: str, seed: int, name: str, tile: int, inner: int) -> dict[str, Any]:
    """W4A8 with inner accumulators of so many bits; the outer ones are as wide as they need to be."""
    given, started = task(network, seed), time.process_time()
    settings = Variant(weight_bits=4, acc_bits=inner, tile=tile, exact_recipe=METHODS[name].recipe)
    done = broadaxe.quantize(with_quantizers(network, seed, 8), given.calibration, settings)
    row: dict[str, Any] = dict(zip(TILE_COLUMNS, (network, seed, name, tile, inner), strict=False))
    layers = done.record.layers
    row["inner_bits"] = "/".join(str(layer.inner_width or layer.width) for layer in layers)
    row["outer_bits"] = "/".join(str(layer.width) for layer in layers)
    row["seconds"] = round(time.process_time() - started, 2)
    row["valid"], row["test"] = (f"{accuracy(done.model, rows):.3f}" for rows in (given.valid, given.test))
    return row


def scale_runs(network: str, seeds: Iterable[int]) -> Iterator[tuple[Any, ...]]:
    for seed in seeds:
        for m, n, budget in POINTS:
            yield from ((network, seed, scales, m, n, budget or 0) for scales in SCALES)


def scaled(network: str, seed: int, scales: str, m: int, n: int, budget: int) -> dict[str, Any]:
    """The whole way from the float network with one kind of scale, as `broadaxe quantize` and `broadaxe compile` do it."""
    given = task(network, seed)
    options = {"acc_bits": budget} if budget else {}
    done = broadaxe.quantize(
        given.model, given.calibration, weight_bits=m, act_bits=n, input_bits=n, scales=scales, **options
    )
    row: dict[str, Any] = dict(zip(SCALE_COLUMNS, (network, seed, scales, m, n, budget), strict=False))
    with tempfile.TemporaryDirectory() as folder:
        build = broadaxe.compile(done.model, Path(folder) / "build")
    found = [
        (node.op.chosen(), build.graph.inputs_of(node)[0])
        for node in build.graph.nodes
        if isinstance(node.op, Requantize)
    ]
    row["bits"] = "/".join(str(layer.width) for layer in done.record.layers)
    row["forms"] = "/".join(form.name for form, _ in found)
    factors = [str(f.factor_dtype.width) if isinstance(f, MultiplyShift) else "-" for f, _ in found]
    row["factor_bits"] = "/".join(factors)
    row["requantizer_luts"] = round(sum(form.luts(x.dtype.width, 4) for form, x in found))
    row["valid"], row["test"] = (f"{accuracy(done.model, rows):.3f}" for rows in (given.valid, given.test))
    return row


PARTS = {"tiles": (tile_runs, tiled, TILE_COLUMNS, 5), "scales": (scale_runs, scaled, SCALE_COLUMNS, 6)}


def run(part: str, networks: list[str], seeds: Iterable[int]) -> None:
    plan, measure, columns, keys = PARTS[part]
    path = RESULTS / f"stages-{part}.csv"
    rows = read(path)
    done = {tuple(row[k] for k in columns[:keys]) for row in rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as stream, threadpool_limits(1):
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        if not rows:
            writer.writeheader()
        for network in networks:
            for item in plan(network, seeds):
                if tuple(map(str, item)) not in done:
                    try:
                        row = measure(*item)
                    except broadaxe.BroadaxeError as error:  # a row without figures, and no mean for its cell
                        print(f"{item}: {error}", flush=True)
                        row = dict.fromkeys(columns, "") | dict(zip(columns, item, strict=False))
                    writer.writerow(row)
                    stream.flush()
                    print(" ".join(str(row[k]) for k in columns), flush=True)
    rows = read(path)
    print("\n".join(tile_table(rows) if part == "tiles" else scale_table(rows)))


def read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open() as stream:
        return list(csv.DictReader(stream))


def tile_table(rows: list[dict[str, str]]) -> list[str]:
    out = []
    for network in dict.fromkeys(row["network"] for row in rows):
        mine = [row for row in rows if row["network"] == network]
        inner = sorted({int(row["P_I"]) for row in mine})
        out += [f"{network}, W4A8, test accuracy by inner bits P_I, {len({r['seed'] for r in mine})} seeds", ""]
        out += [f"| method | T | {' | '.join(f'P_I={p}' for p in inner)} |", f"| --- | ---: |{' ---: |' * len(inner)}"]
        for tile in TILES:
            for method in TILED:
                cells = []
                for p in inner:
                    tests = [
                        float(r["test"] or "nan")
                        for r in mine
                        if (r["method"], r["T"], r["P_I"]) == (method, str(tile), str(p))
                    ]
                    cells.append(
                        f"{np.mean(tests):.1f}" if tests and not np.isnan(tests).any() else "failed" if tests else ""
                    )
                out.append(f"| {method} | {tile} | {' | '.join(cells)} |")
        out.append("")
    return out


def scale_table(rows: list[dict[str, str]]) -> list[str]:
    out = ["| network | W A | P | scales | seeds | test | requantizers | factor bits | requantizer LUT (model) |"]
    out.append("| --- | --- | ---: | --- | ---: | ---: | --- | --- | ---: |")
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault((row["network"], f"W{row['M']}A{row['N']}", row["P"], row["scales"]), []).append(row)
    for (network, pair, budget, scales), some in groups.items():
        test, luts = np.mean([float(r["test"]) for r in some]), np.mean([float(r["requantizer_luts"]) for r in some])
        forms, factors = some[0]["forms"], some[0]["factor_bits"]
        cells = [network, pair, "-" if budget == "0" else budget, scales, str(len(some)), f"{test:.1f}"]
        out.append(f"| {' | '.join([*cells, forms, factors, f'{luts:.0f}'])} |")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="default: digits")
    parser.add_argument("--seeds", type=seed_range, default=range(2), help="such as 0-1, the default")
    options = parser.parse_args()
    torch.set_num_threads(1)
    run(options.part, options.networks or ["digits"], options.seeds)


if __name__ == "__main__":
    main()
