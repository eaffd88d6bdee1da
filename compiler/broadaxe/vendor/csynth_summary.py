"""csynth.rpt of Vitis HLS: one table of all modules and loops, as a tree by indentation.

It says less than the reports of the modules: no clock estimate, one latency instead of two, nothing of the device.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from broadaxe.vendor.figures import Table, count, malformed, span, table, text_of
from broadaxe.vendor.results import Instance, Loop, Module, Span, Synthesis, Usage

TITLE = re.compile(r"^== Synthesis Summary Report of '([^']+)'$", re.MULTILINE)
NOTHING = Usage(None, None, None, None, None)


@dataclass
class _Node:
    """A module while the rows below it are read."""

    name: str
    indent: int
    row: tuple[str, ...]
    loops: list[Loop] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)


def read_csynth_summary(path: Path) -> Synthesis:
    """All modules with their loops; RequestError where the report is damaged."""
    where = str(path)
    text = text_of(path)
    title = TITLE.search(text)
    lines = text.split("\n")
    at = next((i for i, line in enumerate(lines) if line.strip() == "+ Performance & Resource Estimates:"), len(lines))
    if title is None or not any(line.startswith("== HW Interfaces") for line in lines[at:]):
        raise malformed(where, "is no whole summary of synthesis")
    start = next((i for i in range(at, len(lines)) if lines[i].lstrip().startswith("+-")), len(lines))
    found = table(lines, start, where)[0]
    modules = [_module(node, found, where) for node in _nodes(found, lines, start, where)]
    if not modules or modules[0].name != title[1]:
        raise malformed(where, f"the first module is not {title[1]!r}")
    return Synthesis(
        version=_field(lines, "Version", where).split()[0],
        part=_field(lines, "Target device", where),
        family=_field(lines, "Product family", where),
        target_ns=None,
        uncertainty_ns=None,
        top=modules[0],
        available=NOTHING,
        modules=tuple(modules[1:]),
    )


def _field(lines: list[str], name: str, where: str) -> str:
    for line in lines:
        match = re.fullmatch(rf" *\* {name}: +(\S.*)", line.rstrip())
        if match:
            return match[1]
    raise malformed(where, f"line {name!r} is missing")


def _nodes(found: Table, lines: list[str], start: int, where: str) -> list[_Node]:
    """Rows as modules, in order; a loop belongs to the module above it, deeper by its indentation."""
    first = found.column("Modules & Loops", where)
    raw = [line for line in lines[start:] if re.match(r"\s*\|\s*[+o] ", line)][: len(found.rows)]
    if len(raw) != len(found.rows):
        raise malformed(where, "a row names no module and no loop")
    nodes: list[_Node] = []
    above: list[_Node] = []
    for line, row in zip(raw, found.rows, strict=True):
        indent = len(line.split("|")[1]) - len(line.split("|")[1].lstrip())
        mark, _, name = row[first].partition(" ")
        name = name.strip().removesuffix("*")
        while above and above[-1].indent >= indent:
            above.pop()
        if mark == "+":
            node = _Node(name, indent, row)
            if above:
                above[-1].instances.append(Instance(name, name))
            nodes.append(node)
            above.append(node)
        elif above:
            above[-1].loops.append(_loop(name, indent - above[-1].indent, found, row, where))
        else:
            raise malformed(where, f"loop {name!r} is in no module")
    return nodes


def _loop(name: str, depth: int, found: Table, row: tuple[str, ...], where: str) -> Loop:
    pipelined = {"yes": True, "no": False}.get(row[found.column("Pipelined", where)])
    interval = count(row[found.column("Interval", where)], where)
    return Loop(
        name=name,
        depth=depth,
        trips=span(row[found.column("Trip Count", where)], where),
        latency=span(row[found.column("Latency (cycles)", where)], where),
        iteration=span(row[found.column("Iteration Latency", where)], where),
        ii=interval if pipelined else None,
        pipelined=pipelined,
    )


def _module(node: _Node, found: Table, where: str) -> Module:
    def cell(column: str) -> str:
        return node.row[found.column(column, where)]

    def amount(column: str) -> int | None:
        return count(re.sub(r" *\(~?[0-9]+%\)$", "", cell(column)), where)

    def cycles(column: str) -> Span:
        return span(cell(column), where)

    return Module(
        name=node.name,
        latency=cycles("Latency (cycles)"),
        interval=cycles("Interval"),
        pipeline=cell("Pipelined"),
        depth=None,
        estimated_ns=None,
        usage=Usage(amount("LUT"), amount("FF"), amount("DSP"), amount("BRAM"), amount("URAM")),
        loops=tuple(node.loops),
        instances=tuple(node.instances),
    )
