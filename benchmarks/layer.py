"""Output error of one 256 x 256 layer under accumulator budgets: every corner of the solver, beside Brevitas' AXE.

    python benchmarks/layer.py [--quick] [--csv FILE] [--threads 2]

Inputs of 8 bits unsigned, weights of 4 bits. Errors are relative: squared output error over squared output, on the 1024
rows that the solver saw and on 4096 fresh rows of the same distribution. "Centred" leaves the mean error of each output
out, which a bias can mend.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from axe_peer import Layer, brevitas_axe, layer
from torch import Tensor

from broadaxe.quantization.budget import Budget
from broadaxe.quantization.grid import WeightGrid
from broadaxe.quantization.moments import Moments
from broadaxe.quantization.recipe import AXE, PRESETS, BudgetKind, Recipe
from broadaxe.quantization.solve import solve

SIZE = 256
FIGURES = ("seen", "fresh", "seen, centred", "fresh, centred")


def budget(bits: int, kind: BudgetKind, symmetric: bool) -> Budget:
    lo, hi = torch.zeros(SIZE, dtype=torch.int64), torch.full((SIZE,), 255)
    return Budget(bits, lo, hi, kind, symmetric=symmetric)


def corners(quick: bool) -> Iterator[tuple[str, Recipe, BudgetKind, bool]]:
    """Name, recipe, kind of budget, and whether -2**(P-1) is left out."""
    yield "axe", AXE, "signed", True
    yield "axe, gpfq", replace(AXE, method="gpfq"), "signed", True
    yield "axe-search", PRESETS["axe-search"], "signed", True
    yield "axe-search, gpfq", replace(PRESETS["axe-search"], method="gpfq"), "signed", True
    yield "best", PRESETS["best"], "offset", False
    yield "best, signed", PRESETS["best"], "signed", False
    yield "best without relaxed start", replace(PRESETS["best"], relax=()), "offset", False
    yield "best without exchanges", replace(PRESETS["best"], swaps=0), "offset", False
    yield "best aiming at float outputs", replace(PRESETS["best"], correct=True), "offset", False
    yield "best without refit", replace(PRESETS["best"], refit=False), "offset", False
    yield "best without descent", replace(PRESETS["best"], descent=False), "offset", False
    if quick:
        return
    kinds: tuple[BudgetKind, ...] = ("signed", "offset")
    for kind, steps, descent in itertools.product(kinds, ("max-abs", "mse", "search"), (False, True)):
        for method, feedback in (("optq", "thresholded"), ("optq", "full"), ("gpfq", "full")):
            recipe = replace(AXE, method=method, steps=steps, feedback=feedback, descent=descent)
            parts = (kind, steps, method, *([feedback] if method == "optq" else []), *(["descent"] if descent else []))
            yield ", ".join(parts), recipe, kind, False


def row(name: str, bits: int | None, weight_bits: int, codes: Tensor, steps: Tensor, data: Layer, moments: Any) -> dict:
    """One line of the table."""
    w, errors = data.weights, []
    for centred, m in itertools.product((False, True), moments):
        errors.append(float(m.error(codes, steps, w, centred=centred).sum() / m.power(w, centred=centred).sum()))
    return {
        "solver": name,
        "P": bits or "",
        "M": weight_bits,
        **dict(zip(FIGURES, errors, strict=True)),
        "largest": int(codes.abs().max()),
        "zeros": float((codes == 0).double().mean()),
    }


def show(entry: dict, reference: float | None) -> None:
    errors = "".join(f"{entry[k]:>15.4f}" for k in FIGURES)
    ratio = f"{entry['seen'] / reference:>10.3f}" if reference else f"{'':>10}"
    print(f"{entry['solver']:<44}{errors}{entry['largest']:>8}{entry['zeros']:>7.0%}{ratio}", flush=True)


def compare(bits: list[int], quick: bool) -> list[dict]:
    data, fresh = layer(SIZE, fresh=4096)
    moments = [Moments.of(d.xq, d.x) for d in (data, fresh)]
    table = []
    print(f"{'solver':<44}" + "".join(f"{k:>15}" for k in FIGURES) + f"{'max |q|':>8}{'zeros':>7}{'/ A2GPTQ':>10}")
    for p in bits:
        print(f"P = {p}, W4A8")
        reference = None
        for method, name in (("optq", "Brevitas A2GPTQ"), ("gpfq", "Brevitas A2GPFQ")):
            codes, steps, _ = brevitas_axe(data, method, p)
            table.append(row(name, p, 4, codes, steps, data, moments))
            reference = reference or table[-1]["seen"]
            show(table[-1], reference)
        for name, recipe, kind, symmetric in corners(quick):
            found = solve(data.weights, moments[0], WeightGrid(4), budget(p, kind, symmetric), recipe)
            table.append(row(name, p, 4, found.codes, found.steps, data, moments))
            show(table[-1], reference)
    print("no budget; the bits that the worst row needs with an accumulator of its own start")
    for m in (2, 3, 4):
        found = solve(data.weights, moments[0], WeightGrid(m), None, PRESETS["best"])
        needed = int(budget(32, "offset", False).width(found.codes).max())
        table.append(row(f"best, W{m}, needs P = {needed}", None, m, found.codes, found.steps, data, moments))
        show(table[-1], None)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="presets only, at 16 and 15 bits")
    parser.add_argument("--csv", type=Path, help="write the table here too")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    table = compare([16, 15] if options.quick else [17, 16, 15, 14], options.quick)
    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, table[0].keys())
            writer.writeheader()
            writer.writerows(table)


if __name__ == "__main__":
    main()
