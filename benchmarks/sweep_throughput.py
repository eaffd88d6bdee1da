"""Runs a minute of `broadaxe sweep` on the digits MLP: one and two local workers, and a dask cluster of two.

    python benchmarks/sweep_throughput.py [--methods axe,best] [--acc-bits 8,9] [--weight-bits 2:4] [--act-bits 3,4]

`start` is the time to the first row: reading, checking that the model compiles, and the start of local workers, which
import torch; the cluster is up already, but its workers import torch as well. The rate is that of all further rows. Rows are
compared: wherever they are computed they have to be the same in everything but seconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from distributed import LocalCluster
from frontier import task

import broadaxe


def measure(name: str, grid: dict[str, Any], folder: Path, **where: Any) -> list[dict[str, str]]:
    """Sweep, and print a line of the table."""
    given, times = task("digits", 0), list[float]()

    def progress(status: Any) -> None:
        if status.done > len(times):
            times.append(time.perf_counter())

    began = time.perf_counter()
    done = broadaxe.search.sweep(
        given.model, given.calibration, given.valid, folder, progress=progress, **where, **grid
    )
    rate = 60 * (len(times) - 1) / (times[-1] - times[0])
    busy = sum(float(row["seconds"]) for row in done.rows)
    print(
        f"| {name} | {len(done.rows)} | {times[0] - began:.1f} s | {rate:.1f} | {busy / len(done.rows):.2f} s |",
        flush=True,
    )
    return [row | {"seconds": ""} for row in done.rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("methods", "axe,best"), ("acc-bits", "8,9"), ("weight-bits", "2:4"), ("act-bits", "3,4")):
        parser.add_argument(f"--{name}", default=default)
    grid = vars(parser.parse_args())
    print("| workers | runs | start | runs a minute | mean time of a run |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        rows = [measure(f"{jobs} local", grid, folder / str(jobs), jobs=jobs) for jobs in (1, 2)]
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
            address = cluster.scheduler_address
            rows.append(measure("2 of a dask cluster", grid, folder / "cluster", scheduler=address))
    print("rows are the same" if rows[0] == rows[1] == rows[2] else "rows differ")


if __name__ == "__main__":
    main()
