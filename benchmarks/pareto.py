"""`broadaxe sweep` on networks of benchmarks/frontier.py: accuracy against accumulator bits, with M and N free.

    python benchmarks/pareto.py digits fashion [--jobs 2]

Rows, plot and what rows did go to benchmarks/results/sweep-NETWORK.csv, .svg and .json. Interrupted, it goes on.
"""

from __future__ import annotations

import argparse
import shutil
from typing import Any

from frontier import CACHE, RESULTS, task

import broadaxe

GRIDS: dict[str, dict[str, Any]] = {
    "digits": {"acc_bits": "6:10", "weight_bits": "2:4", "act_bits": "2:4", "apart": 1, "headroom": "2:4"},
    "fashion": {"acc_bits": "9:13:2", "weight_bits": "2:5", "act_bits": "2:5", "apart": 1, "headroom": "4:5"},
}
METHODS = "axe,axe-search,best,optq"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="+", choices=list(GRIDS), metavar="NETWORK")
    parser.add_argument("--jobs", type=int)
    options = parser.parse_args()
    for network in options.networks:
        given, folder = task(network, 0), CACHE / f"sweep-{network}"
        done = broadaxe.search.sweep(
            given.model,
            given.calibration,
            given.valid,
            folder,
            test=given.test,
            jobs=options.jobs,
            methods=METHODS,
            **GRIDS[network],
        )
        print(done, flush=True)
        for name in ("sweep.csv", "sweep.json", "pareto.svg"):
            shutil.copyfile(folder / name, RESULTS / f"sweep-{network}{(folder / name).suffix}")


if __name__ == "__main__":
    main()
