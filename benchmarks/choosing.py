"""Bits chosen on validation rows, for a network of benchmarks/frontier.py: what they cost, and what they score on test rows.

    python benchmarks/choosing.py fashion --max-drop 1.0
    python benchmarks/choosing.py digits --acc-bits 8

The test rows are read once, for the setting that was chosen and for the float network.
"""

from __future__ import annotations

import argparse
import time

import torch
from frontier import PLANS, accuracy, batched, task
from threadpoolctl import threadpool_limits

import broadaxe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=list(PLANS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-drop", type=float)
    parser.add_argument("--acc-bits", type=int)
    options = parser.parse_args()
    torch.set_num_threads(1)
    given = task(options.network, options.seed)
    goal = {"max_drop": options.max_drop} if options.max_drop is not None else {"search": True}
    started = time.process_time()
    with threadpool_limits(1):
        done = broadaxe.quantize(
            given.model,
            given.calibration,
            validation=given.valid,
            acc_bits=options.acc_bits,
            progress=print,
            **goal,
        )
    print(done)
    print(
        f"test rows: {accuracy(done.model, given.test):.2f} %, of the float network"
        f" {accuracy(batched(given.model), given.test):.2f} %; {time.process_time() - started:.0f} CPU seconds"
    )


if __name__ == "__main__":
    main()
