"""<top>_cosim.rpt: latency and interval of the transactions that RTL simulation ran, one row for each language."""

from __future__ import annotations

import re
from pathlib import Path

from broadaxe.vendor.figures import count, malformed, text_of
from broadaxe.vendor.results import Average, Cosimulation

LANGUAGES = ("VHDL", "Verilog", "SystemC")
STATUS = {"Pass": True, "Fail": False, "NA": None}


def read_cosim_rpt(path: Path) -> tuple[Cosimulation, ...]:
    """A row for each RTL language; RequestError where the report is damaged."""
    where = str(path)
    lines = [line.rstrip() for line in text_of(path).split("\n")]
    borders = [i for i, line in enumerate(lines) if re.fullmatch(r"\+(-+\+)+", line)]
    title = "".join(lines[borders[0] : borders[-1]]) if len(borders) >= 3 else ""
    for part in ("RTL", "Status", "Latency(Clock Cycles)", "Interval(Clock Cycles)"):
        if part not in title:
            raise malformed(where, "holds no whole table of co-simulation")
    opening, head, end = borders[0], borders[-2], borders[-1]
    if lines[head] != lines[end] or lines[opening] != lines[end] or len(borders) != 3:
        raise malformed(where, "the table's borders differ")
    if re.findall(r"\w+", lines[head - 1]) != ["min", "avg", "max"] * 2:
        raise malformed(where, "the columns are not min, avg and max of latency and interval")
    total = "Total Execution Time" in title  # from Vitis HLS 2021 on
    found = []
    for i in range(head + 1, end):
        place = f"{where}, line {i + 1}"
        cells = [cell.strip() for cell in lines[i].split("|")]
        if len(lines[i]) != len(lines[end]) or len(cells) != 10 + total or cells[0] or cells[-1]:
            raise malformed(place, "the row does not fit its table")
        if cells[1] not in LANGUAGES or cells[2] not in STATUS:
            raise malformed(place, f"{cells[1]!r} with status {cells[2]!r} is no result of co-simulation")
        figures = [count(cell, place) for cell in cells[3:-1]]
        latency, interval = Average(*figures[:3]), Average(*figures[3:6])
        for kind in (latency, interval):
            known = [v for v in (kind.lo, kind.mean, kind.hi) if v is not None]
            if known != sorted(known):
                raise malformed(place, "least, average and largest are not in order")
        found.append(Cosimulation(cells[1], STATUS[cells[2]], latency, interval, figures[6] if total else None))
    if not found:
        raise malformed(where, "the table is empty")
    return tuple(found)
