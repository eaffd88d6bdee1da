"""Tables and plots from the rows that benchmarks/frontier.py wrote, by the rules of benchmarks/PROTOCOL.md.

    python benchmarks/frontier_report.py [NETWORK ...] [--results benchmarks/results]

Writes NETWORK.md and NETWORK.png beside each NETWORK.csv.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

RESULTS = Path(__file__).parent / "results"
ORDER = (
    *("rtn", "optq", "gpfq", "optq-search", "project", "project-search"),
    *("axe", "axe-mse", "axe-gpfq", "axe-gpfq-search", "axe-search", "best-signed", "best"),
    *("a2q+-signed", "a2q+-offset"),
)
LADDER = (
    *("axe", "axe-bias", "axe-search", "axe-search-bias"),
    *("step1-offset", "step2-feedback", "step3-refit", "step4-descent", "best"),
    *("best-corrected", "best-no-refit", "best-no-descent", "best-thresholded", "best-bias"),
)
PLOTTED = {
    "optq": "#999999",
    "project-search": "#b58900",
    "axe": "#dc322f",
    "axe-search": "#268bd2",
    "best": "#111111",
    "a2q+-offset": "#2aa198",
}
PEERS = ("axe", "axe-search")
BELOW_FLOAT = (5.0, 2.0, 1.0)
DRAWS = 2000
SURE = 0.95

Row = dict[str, Any]
Curve = np.ndarray
"""Test accuracy, shape (seeds, budgets); NaN where a method has no run that fits."""


def read(path: Path) -> list[Row]:
    with path.open() as stream:
        rows: list[Row] = list(csv.DictReader(stream))
    for row in rows:
        for key in ("seed", "M", "N", "P"):
            row[key] = int(row[key])
        for key in ("valid", "test"):
            row[key] = float(row[key] or "nan")
        for kind in ("offset", "signed"):
            row[kind] = max(map(int, row[f"{kind}_bits"].split("/"))) if row[f"{kind}_bits"] else 0
    return rows


def is_frontier(row: Row) -> bool:
    """Part of the grid with M and N free; W4A8 and the corners have tables of their own."""
    return row["method"] in ORDER and (row["M"], row["N"]) != (4, 8)


class Frontier:
    """The chosen run of every method, seed and budget, for one meaning of P: `offset` or `signed`."""

    def __init__(self, rows: Sequence[Row], budgets: Sequence[int], kind: str) -> None:
        self.budgets, self.kind = list(budgets), kind
        self.chosen: dict[tuple[str, int, int], Row] = {}
        self.counts = Counter((row["method"], row["seed"]) for row in rows if is_frontier(row))
        for row in filter(is_frontier, rows):
            for budget in budgets:
                key = (row["method"], row["seed"], budget)
                if row[kind] <= budget and (key not in self.chosen or self._rank(row) > self._rank(self.chosen[key])):
                    self.chosen[key] = row
        self.methods = [m for m in ORDER if any(key[0] == m for key in self.chosen)]

    def _rank(self, row: Row) -> tuple[float, int, int, int]:
        return row["valid"], row[self.kind], row["M"] + row["N"], row["N"]

    def seeds(self, *methods: str) -> list[int]:
        """Seeds that all of these methods were run with, on the whole grid."""
        found = []
        for wanted in methods:
            runs = {seed: count for (method, seed), count in self.counts.items() if method == wanted}
            found.append({seed for seed, count in runs.items() if count >= 0.9 * max(runs.values())})
        return sorted(set.intersection(*found))

    def curve(self, method: str, seeds: Iterable[int]) -> Curve:
        def test(seed: int, budget: int) -> float:
            row = self.chosen.get((method, seed, budget))
            return float("nan") if row is None else row["test"]

        return np.array([[test(seed, budget) for budget in self.budgets] for seed in seeds])

    def pairs(self, method: str, budget: int) -> str:
        """What was chosen, most often first, such as W3A3 x 6."""
        names: dict[str, int] = {}
        for (m, _, b), row in self.chosen.items():
            if (m, b) == (method, budget):
                name = f"W{row['M']}A{row['N']}"
                names[name] = names.get(name, 0) + 1
        ranked = sorted(names.items(), key=lambda item: (-item[1], item[0]))
        return ", ".join(f"{name} x {count}" for name, count in ranked[:2])


def interval(values: np.ndarray) -> float:
    """Half of the 95 % interval of the mean, Student's t; NaN for a single value."""
    if len(values) < 2:
        return float("nan")
    spread = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return float(stats.t.ppf((1 + SURE) / 2, len(values) - 1)) * spread


def shown(values: np.ndarray, *, signed: bool = False) -> str:
    """Mean and half-width; a dash where a seed has nothing."""
    if not len(values) or np.isnan(values).any():
        return "-"
    mean = f"{values.mean():+.1f}" if signed else f"{values.mean():.1f}"
    half = interval(values)
    return mean if np.isnan(half) else f"{mean} ± {half:.1f}"


def needed(curve: np.ndarray, budgets: Sequence[int], level: float) -> float:
    """Bits at which a mean curve, shape (budgets,), reaches an accuracy; NaN off the grid."""
    usable = ~np.isnan(curve)
    if not usable.any():
        return float("nan")
    reached, bits = np.maximum.accumulate(curve[usable]), np.asarray(budgets, dtype=float)[usable]
    if level < reached[0] or level > reached[-1]:
        return float("nan")
    at = int(np.argmax(reached >= level))
    if at == 0 or reached[at] == reached[at - 1]:
        return float(bits[at])
    share = (level - reached[at - 1]) / (reached[at] - reached[at - 1])
    return float(bits[at - 1] + share * (bits[at] - bits[at - 1]))


def band_gap(ours: np.ndarray, theirs: np.ndarray, budgets: Sequence[int]) -> float:
    """Bits saved at equal accuracy, on average over the accuracies that both curves reach."""
    if np.isnan(ours).all() or np.isnan(theirs).all():
        return float("nan")
    low = max(ours[~np.isnan(ours)][0], theirs[~np.isnan(theirs)][0])
    high = min(np.nanmax(ours), np.nanmax(theirs))
    if high <= low:
        return float("nan")
    levels = np.linspace(low, high, 101)
    return float(np.nanmean([needed(theirs, budgets, a) - needed(ours, budgets, a) for a in levels]))


def bootstrap(ours: Curve, theirs: Curve, figure: Callable[[np.ndarray, np.ndarray], float]) -> str:
    """A figure of two mean curves with its percentile interval over seeds."""
    value = figure(ours.mean(0), theirs.mean(0))
    if np.isnan(value):
        return "-"
    if len(ours) < 2:
        return f"{value:+.2f}"
    rng = np.random.default_rng(0)
    draws = [rng.integers(len(ours), size=len(ours)) for _ in range(DRAWS)]
    found = np.array([figure(ours[d].mean(0), theirs[d].mean(0)) for d in draws])
    kept = found[~np.isnan(found)]
    low, high = np.percentile(kept, [100 * (1 - SURE) / 2, 100 * (1 + SURE) / 2])
    marked = "" if len(kept) > 0.95 * DRAWS else f", {100 * len(kept) / DRAWS:.0f} % of draws"
    few = ", few seeds" if len(ours) < 5 else ""
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}{marked}{few}]"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---", *(["---:"] * (len(head) - 1))], *rows]
    return [f"| {' | '.join(line)} |" for line in lines] + [""]


def frontier_tables(rows: list[Row], budgets: list[int], floats: dict[int, float], kind: str) -> list[str]:
    found = Frontier(rows, budgets, kind)
    words = {"offset": "with a start constant per channel", "signed": "plain two's complement, from zero"}[kind]
    out = [f"## M and N free, P {words}", "", "Test accuracy in percent, mean over seeds and 95 % interval.", ""]
    body = []
    for method in found.methods:
        seeds = found.seeds(method)
        curve = found.curve(method, seeds)
        body.append([method, str(len(seeds)), *(shown(curve[:, i]) for i in range(len(budgets)))])
    out += table(["method", "seeds", *(f"P={p}" for p in budgets)], body)
    ours = "best" if kind == "offset" else "best-signed"
    if ours not in found.methods:
        return out
    peers = [m for m in found.methods if not m.startswith("best")]
    body = []
    for peer in peers:
        seeds = found.seeds(ours, peer)
        difference = found.curve(ours, seeds) - found.curve(peer, seeds)
        body.append([peer, str(len(seeds)), *(shown(difference[:, i], signed=True) for i in range(len(budgets)))])
    out += [f"{ours} minus each of the others, paired by seed, in points:", ""]
    out += table(["minus", "seeds", *(f"P={p}" for p in budgets)], body)
    level = float(np.mean(list(floats.values())))
    body = []
    for peer in peers:
        seeds = found.seeds(ours, peer)
        mine, their = found.curve(ours, seeds), found.curve(peer, seeds)
        cells = [bootstrap(mine, their, lambda a, b: band_gap(a, b, budgets))]
        for below in BELOW_FLOAT:
            target = level - below
            cells.append(bootstrap(mine, their, lambda a, b, t=target: needed(b, budgets, t) - needed(a, budgets, t)))
        body.append([peer, *cells])
    out += [f"Bits that {ours} saves at equal accuracy, and 95 % interval; a dash where one is off the grid:", ""]
    heads = [f"at {level - below:.1f} %" for below in BELOW_FLOAT]
    out += table(["against", "mean over what both reach", *heads], body)
    out += ["Chosen on validation rows:", ""]
    body = [[m, *(found.pairs(m, p) or "-" for p in budgets)] for m in found.methods if m in (*PLOTTED, ours)]
    return out + table(["method", *(f"P={p}" for p in budgets)], body)


def fixed_table(rows: list[Row]) -> list[str]:
    some = [r for r in rows if (r["M"], r["N"]) == (4, 8) and r["method"] in ORDER and r["P"]]
    if not some:
        return []
    budgets = sorted({r["P"] for r in some})
    body = []
    for method in ORDER:
        mine = [r for r in some if r["method"] == method]
        if not mine:
            continue
        seeds = len({r["seed"] for r in mine})
        cells = [shown(np.array([r["test"] for r in mine if r["P"] == p])) for p in budgets]
        zeros = [r["zeros"] for r in mine if r["P"] == budgets[0] and r["seed"] == min(q["seed"] for q in mine)]
        codes = [r["codes"] for r in mine if r["P"] == budgets[0] and r["seed"] == min(q["seed"] for q in mine)]
        body.append([method, str(seeds), *cells, codes[0] if codes else "-", zeros[0] if zeros else "-"])
    out = [
        "## W4A8",
        "",
        "P as solved for; largest |q| and share of zeros per layer at the narrowest P, first seed.",
        "",
    ]
    return out + table(["method", "seeds", *(f"P={p}" for p in budgets), "largest q", "zeros"], body)


def ladder_table(rows: list[Row]) -> list[str]:
    names = [m for m in LADDER if m not in ORDER]
    points = sorted({(r["P"], r["M"], r["N"]) for r in rows if r["method"] in names})
    if not points:
        return []
    runs = {(r["method"], r["P"], r["M"], r["N"], r["seed"]): r["test"] for r in rows}
    body = []
    for method in LADDER:
        cells = []
        for point in points:
            seeds = [k[-1] for k in runs if k[0] == method and k[1:4] == point]
            both = sorted(s for s in seeds if ("best-corrected", *point, s) in runs)
            cells.append(shown(np.array([runs[(method, *point, s)] for s in both])))
        body.append([method, *cells])
    out = ["## Corners at fixed M, N and P", "", "Test accuracy; `best-x` is best with x taken away or added.", ""]
    return out + table(["method", *(f"W{m}A{n} P={p}" for p, m, n in points)], body)


def plot(path: Path, network: str, rows: list[Row], budgets: list[int], floats: dict[int, float]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = Frontier(rows, budgets, "offset")
    figure, axes = pyplot.subplots(figsize=(6, 4), dpi=110)
    lowest = 100.0
    for shift, (method, color) in enumerate(PLOTTED.items()):
        if method not in found.methods:
            continue
        seeds = found.seeds(method)
        curve = found.curve(method, seeds)
        keep = ~np.isnan(curve).any(0)
        if not keep.any():
            continue
        mean = curve.mean(0)[keep]
        half = np.array([interval(curve[:, i]) for i in np.flatnonzero(keep)])
        at = np.array(budgets)[keep] + 0.04 * (shift - 2)
        label = f"{method} ({len(seeds)} seeds)"
        axes.errorbar(at, mean, yerr=np.nan_to_num(half), color=color, marker="o", ms=4, lw=1.5, capsize=2, label=label)
        lowest = min(lowest, float(mean.min()))
    mean = float(np.mean(list(floats.values())))
    axes.axhline(mean, color="#777777", lw=1, ls=":", label="float")
    axes.set(xlabel="accumulator bits P (with start constants)", ylabel="test accuracy [%]", xticks=budgets)
    axes.set_title(f"{network}: accuracy with M and N free")
    axes.set_ylim(max(0.0, max(lowest, mean - 40) - 1), min(100.0, mean + 2))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})
    pyplot.close(figure)


def report(path: Path) -> None:
    rows = read(path)
    floats = {r["seed"]: r["test"] for r in rows if r["method"] == "float"}
    budgets = sorted({r["P"] for r in rows if r["P"] and r["method"] in PEERS and (r["M"], r["N"]) != (4, 8)})
    lines = [
        f"# {path.stem}",
        "",
        f"`python benchmarks/frontier_report.py {path.stem}`; rules: benchmarks/PROTOCOL.md.",
        "",
    ]
    lines += [f"Float network: {shown(np.array(list(floats.values())))} % ({len(floats)} seeds). {len(rows)} runs.", ""]
    for kind in ("offset", "signed"):
        lines += frontier_tables(rows, budgets, floats, kind)
    lines += fixed_table(rows) + ladder_table(rows)
    path.with_suffix(".md").write_text("\n".join(lines).rstrip() + "\n")
    plot(path.with_suffix(".png"), path.stem, rows, budgets, floats)
    print("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="default: every CSV file there is")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the CSV files")
    options = parser.parse_args()
    paths = [options.results / f"{name}.csv" for name in options.networks]
    for path in paths or sorted(options.results.glob("*.csv")):
        if not path.is_file():
            sys.exit(f"{path} is missing; run benchmarks/frontier.py {path.stem} first")
        if not path.stem.startswith("stages"):
            report(path)


if __name__ == "__main__":
    main()
