"""python -m tests.fuzz [--count N] [--seed S] [--only I] [--csim K] [--mutate]: random networks, or damaged files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .campaign import networks


def flushed(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="networks, or files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="this network of the seed alone")
    parser.add_argument("--csim", type=int, default=4, help="simulate each K-th network in C; 0 for none")
    parser.add_argument("--mutate", action="store_true", help="damage valid files instead")
    parser.add_argument("--no-shrink", action="store_true", help="leave failing networks as they are")
    parser.add_argument("--avoid", default="", help="names of emitters to do without, with commas")
    given = parser.parse_args()
    if given.mutate:
        from .mutate import mutations

        report = mutations(given.seed, given.count, only=given.only, keep=Path("build") / "fuzz", said=flushed)
    else:
        indices = range(given.count) if given.only is None else [given.only]
        report = networks(
            given.seed, indices, csim=given.csim, shrink=not given.no_shrink, avoid=given.avoid.split(","), said=flushed
        )
    print(report)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
