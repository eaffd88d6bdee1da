"""Accuracy against accumulator bits, a line for each method."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from broadaxe.sweeps.config import Run
from broadaxe.sweeps.frontier import Point

STYLE = {
    "best": ("#c1272d", "o"),
    "axe-search": ("#0000a7", "s"),
    "axe": ("#008176", "^"),
    "project-search": ("#b38600", "D"),
    "project": ("#8b5a2b", "v"),
    "optq": ("#7b3294", "x"),
    "gpfq": ("#4d4d4d", "+"),
    "rtn": ("#999999", "1"),
}


def plots(
    points: Sequence[Point],
    *,
    title: str,
    metric: str,
    floats: dict[str, float],
    tested: dict[Run, float],
    warnings: Sequence[str],
) -> dict[str, bytes]:
    """pareto.svg and pareto.png: test scores of the runs that validation chose, or, without test rows, validation scores."""
    import matplotlib
    from matplotlib.figure import Figure

    rows = "test" if tested else "validation"
    figure = Figure(figsize=(6.4, 4.4), dpi=110)
    axes: Any = figure.add_subplot()
    lowest, reference = 100.0, floats[rows]
    for method in dict.fromkeys(point.method for point in points):
        own = [p for p in points if p.method == method]
        scores = [tested.get(p.run, p.validation) for p in own]
        color, marker = STYLE.get(method, ("#000000", "."))
        axes.plot([p.p for p in own], scores, color=color, marker=marker, ms=5, lw=1.5, label=method)
        lowest = min(lowest, *scores)
    axes.axhline(reference, color="#777777", lw=1, ls=":", label="as given")
    widths = sorted({p.p for p in points})
    if 0 < len(widths) <= 24:
        axes.set_xticks(widths)
    axes.set_xlabel("accumulator bits P (proven, widest layer)")
    axes.set_ylabel(f"{rows} {metric} [%]")
    chosen = ", runs chosen by validation" if tested else ""
    axes.set_title(f"{title}: {rows} {metric}{chosen}", fontsize=10)
    axes.set_ylim(max(0.0, max(lowest, reference - 40) - 1), min(101.0, max(reference, 0.0) + 2))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    for k, warning in enumerate(warnings):
        figure.text(0.01, 0.01 + 0.03 * k, f"warning: {warning}", fontsize=6.5, color="#c1272d")
    figure.tight_layout(rect=(0, 0.03 * len(warnings), 1, 1))
    files = {}
    with matplotlib.rc_context({"svg.hashsalt": "broadaxe"}):
        for kind in ("svg", "png"):
            stream = io.BytesIO()
            figure.savefig(stream, format=kind, metadata={"Date": None} if kind == "svg" else {"Software": None})
            files[f"pareto.{kind}"] = stream.getvalue()
    return files
