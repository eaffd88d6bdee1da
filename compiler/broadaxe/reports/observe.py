"""What data do to the accumulators: the least and the largest sum of each channel.

It proves nothing. Beside the proven interval it shows how much of it data use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from broadaxe.ops.mac import Accumulating
from broadaxe.reference import frames_at_once, run
from broadaxe.reports.schema import Data, Observed

if TYPE_CHECKING:
    from broadaxe.build import Build, Progress
    from broadaxe.ir import IntArray

BLOCK = 64


@dataclass(frozen=True)
class Observation:
    """Observed sums by layer, and the rows that they come from."""

    data: Data
    layers: Mapping[str, Observed]


def observe(build: Build, codes: Mapping[str, IntArray], source: str, progress: Progress) -> Observation:
    """Run the reference on a build's integer inputs, as `Build.codes` gives them; samples must not be 0."""
    graph = build.graph
    total, count = len(next(iter(codes.values()))), frames_at_once(graph, BLOCK)
    layers = [(node, node.op) for node in graph.nodes if isinstance(node.op, Accumulating)]
    ends: dict[str, tuple[IntArray, IntArray]] = {}
    for at in range(0, total, count):
        progress(f"observing accumulators on {min(at + count, total)} of {total} inputs")
        values = run(graph, {name: x[at : at + count] for name, x in codes.items()}, every_value=True)
        for node, op in layers:
            sums = values[node.output].reshape(-1, op.outputs).astype(np.int64) - op.start
            lo, hi = sums.min(axis=0), sums.max(axis=0)
            if node.name in ends:
                lo, hi = np.minimum(lo, ends[node.name][0]), np.maximum(hi, ends[node.name][1])
            ends[node.name] = lo, hi
    observed = {
        name: Observed(samples=total, lo=tuple(lo.tolist()), hi=tuple(hi.tolist())) for name, (lo, hi) in ends.items()
    }
    return Observation(Data(source=source, samples=total), observed)
