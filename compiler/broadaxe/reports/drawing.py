"""Where the boxes of the network graph stand: ranks from left to right, and a height within each rank.

Sugiyama's layered drawing (Sugiyama, Tagawa, Toda: Methods for visual understanding of hierarchical system structures, 1981):
ranks by longest path, a bend in every rank that an edge passes, orders by barycentres, then heights as near to the neighbours'
as the order allows. The page breaks the ranks into lines, as text is broken, for the width that it has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from broadaxe.reports.schema import Fifo, Kernel, Report

SWEEPS = 12
BEND = 0.5
"""Room of a bend, in boxes."""
PLUMBING = frozenset({"lanes", "copy", "deal"})
INSIDE = PLUMBING | {"window", "requantize", "loadable_requantize"}
LEVELS = {"layers": INSIDE, "kernels": PLUMBING, "all processes": frozenset({"deal"})}
"""Kinds that each level of detail leaves out. The parameters' dealer has an edge to every layer and is never drawn."""


@dataclass(frozen=True)
class Edge:
    """A stream from a box to a box: by way of `fifos`, and of processes between that the level leaves out."""

    source: str
    target: str
    fifos: tuple[str, ...]
    bends: tuple[float, ...]
    """Height in every rank between the two."""


@dataclass(frozen=True)
class Drawing:
    """Boxes by name with (rank, height), heights in units of a box, and edges."""

    boxes: dict[str, tuple[int, float]]
    edges: tuple[Edge, ...]


@dataclass
class _Spot:
    """A box or a bend."""

    rank: int
    name: str | None
    before: list[_Spot] = field(default_factory=list)
    after: list[_Spot] = field(default_factory=list)
    y: float = 0.0

    @property
    def room(self) -> float:
        return 1.0 if self.name is not None else BEND


def drawings(report: Report) -> dict[str, Drawing]:
    """The graph at every level of detail."""
    return {level: drawing(report.kernels, report.fifos, left_out) for level, left_out in LEVELS.items()}


def drawing(kernels: Sequence[Kernel], fifos: Sequence[Fifo], left_out: Collection[str] = ()) -> Drawing:
    """Lay out the dataflow; kernels of kinds `left_out` become part of the edges through them."""
    shown = [kernel.name for kernel in kernels if kernel.kind not in left_out]
    links = _links(shown, [kernel.name for kernel in kernels if kernel.kind == "deal"], fifos)
    ranks = _ranks(shown, links)
    spots = {name: _Spot(ranks[name], name) for name in shown}
    rows: list[list[_Spot]] = [[] for _ in range(1 + max(ranks.values(), default=-1))]
    for name in shown:
        rows[ranks[name]].append(spots[name])
    paths = []
    for source, target, _ in links:
        path = [spots[source]]
        for rank in range(ranks[source] + 1, ranks[target]):
            path.append(_Spot(rank, None))
            rows[rank].append(path[-1])
        path.append(spots[target])
        for left, right in pairwise(path):
            left.after.append(right)
            right.before.append(left)
        paths.append(path)
    _order(rows)
    _place(rows)
    top = min((spot.y - spot.room / 2 for row in rows for spot in row), default=0.0)
    for spot in (spot for row in rows for spot in row):
        spot.y = round(spot.y - top, 3)
    return Drawing(
        {name: (spots[name].rank, spots[name].y) for name in shown},
        tuple(
            Edge(source, target, names, tuple(spot.y for spot in path[1:-1]))
            for (source, target, names), path in zip(links, paths, strict=True)
        ),
    )


def _links(shown: list[str], dealers: list[str], fifos: Sequence[Fifo]) -> list[tuple[str, str, tuple[str, ...]]]:
    """Edges between the boxes shown, each with the FIFOs that it goes through."""
    leaving: dict[str, list[Fifo]] = {}
    for fifo in fifos:
        if fifo.writer not in dealers:
            leaving.setdefault(fifo.writer, []).append(fifo)
    known, links = set(shown), []
    for source in shown:
        waiting: list[tuple[Fifo, ...]] = [(fifo,) for fifo in reversed(leaving.get(source, []))]
        while waiting:
            way = waiting.pop()
            if way[-1].reader in known:
                links.append((source, way[-1].reader, tuple(fifo.name for fifo in way)))
            else:
                waiting += [(*way, fifo) for fifo in reversed(leaving.get(way[-1].reader, []))]
    return links


def _ranks(shown: list[str], links: Iterable[tuple[str, str, tuple[str, ...]]]) -> dict[str, int]:
    """Longest path from a source; a source itself stands just before its first reader."""
    before: dict[str, set[str]] = {name: set() for name in shown}
    after: dict[str, set[str]] = {name: set() for name in shown}
    for source, target, _ in links:
        before[target].add(source)
        after[source].add(target)
    missing = {name: len(sources) for name, sources in before.items()}
    ready, ranks = [name for name in shown if not missing[name]], dict.fromkeys(shown, 0)
    for name in ready:
        for target in sorted(after[name]):
            ranks[target] = max(ranks[target], ranks[name] + 1)
            missing[target] -= 1
            if not missing[target]:
                ready.append(target)
    for name in shown:
        if not before[name] and after[name]:
            ranks[name] = min(ranks[target] for target in after[name]) - 1
    return ranks


def _order(rows: list[list[_Spot]]) -> None:
    """Sort every rank by the mean position of its neighbours, to and fro; the order with the fewest crossings stays."""
    best, fewest = [list(row) for row in rows], _crossings(rows)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        forth = sweep % 2 == 0
        for near, row in pairwise(rows if forth else rows[::-1]):
            place = {id(spot): i for i, spot in enumerate(near)}
            mean = {}
            for i, spot in enumerate(row):
                neighbours = spot.before if forth else spot.after
                mean[id(spot)] = sum(place[id(n)] for n in neighbours) / len(neighbours) if neighbours else float(i)
            row.sort(key=lambda spot: mean[id(spot)])
        count = _crossings(rows)
        if count < fewest:
            best, fewest = [list(row) for row in rows], count
    rows[:] = best


def _crossings(rows: list[list[_Spot]]) -> int:
    total = 0
    for left, right in pairwise(rows):
        place = {id(spot): i for i, spot in enumerate(right)}
        ends = [place[id(spot)] for start in left for spot in sorted(start.after, key=lambda s: place[id(s)])]
        total += sum(a > b for i, a in enumerate(ends) for b in ends[i + 1 :])
    return total


def _place(rows: list[list[_Spot]]) -> None:
    """Heights: near the neighbours', long edges straight, spots of a rank apart by the room they need."""
    for row in rows:
        for i, spot in enumerate(row):
            spot.y = float(i)
    for sweep in range(SWEEPS):
        forth = sweep % 2 == 0
        for row in rows if forth else rows[::-1]:
            wished = []
            for spot in row:
                neighbours = spot.before if forth else spot.after
                weights = [_pull(spot, n) for n in neighbours]
                pulls = sum(w * n.y for w, n in zip(weights, neighbours, strict=True))
                wished.append(pulls / sum(weights) if neighbours else spot.y)
            for spot, y in zip(row, _apart(row, wished), strict=True):
                spot.y = y


def _pull(a: _Spot, b: _Spot) -> float:
    """Bends of one edge pull each other straight, and boxes in a chain stand in line, whatever leaves or joins it."""
    if a.name is None and b.name is None:
        return 8.0
    return 4.0 if a.name is not None and b.name is not None else 1.0


def _apart(row: list[_Spot], wished: list[float]) -> list[float]:
    """The heights nearest to those wished, by least squares, that keep the order and the room (pool adjacent violators)."""
    offsets = [0.0]
    for left, right in pairwise(row):
        offsets.append(offsets[-1] + (left.room + right.room) / 2)
    pools: list[tuple[float, int]] = []
    for wish, offset in zip(wished, offsets, strict=True):
        mean, count = wish - offset, 1
        while pools and pools[-1][0] > mean:
            other, more = pools.pop()
            mean, count = (mean * count + other * more) / (count + more), count + more
        pools.append((mean, count))
    means = [mean for mean, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]
