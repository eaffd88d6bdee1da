"""<module>_csynth.rpt of Vivado HLS and Vitis HLS.

Every table that is read has to end, the sections have to be there up to the last one, and the parts of each resource have to
add up to its total: a report that is cut or changed is refused.
"""

from __future__ import annotations

import re
from pathlib import Path

from broadaxe.vendor.figures import Table, count, malformed, nanoseconds, ordered, span, table, text_of
from broadaxe.vendor.results import Instance, Loop, Module, Span, Synthesis, Usage

RESOURCES = {"bram18": "BRAM_18K", "dsp": "DSP", "ff": "FF", "lut": "LUT", "uram": "URAM"}


def read_csynth_rpt(path: Path) -> Synthesis:
    """The report of one module; RequestError where it is damaged. Modules that it instantiates are named, not described."""
    return _Report(path).synthesis()


class _Report:
    def __init__(self, path: Path) -> None:
        self.where = str(path)
        self.lines = text_of(path).split("\n")
        titles = {line[3:].strip(): i for i, line in enumerate(self.lines) if line.startswith("== ")}
        self.first = next(iter(titles), "")
        for title in ("Performance Estimates", "Utilization Estimates", "Interface"):
            if title not in titles:
                raise malformed(self.where, f"section {title!r} is missing")
        self.sections = titles

    def synthesis(self) -> Synthesis:
        name = re.fullmatch(r"(?:Vivado|Vitis) HLS Report for '([^']+)'", self.first)
        if name is None:
            raise malformed(self.where, "the first line is not the title of an HLS report")
        timing = self._table("Timing", "Summary")
        latency = self._table("Latency", "Summary")
        if len(timing.rows) < 1 or len(latency.rows) != 1:
            raise malformed(self.where, "the summary of timing or latency has not one row")
        usage = self._after("Utilization Estimates", "* Summary:")
        instances = self._instances()
        self._after("Interface", "* Summary:")  # the last table: the report is whole
        row = latency.rows[0]
        return Synthesis(
            version=self._field("Version").split()[0],
            part=self._field("Target device"),
            family=self._field("Product family"),
            target_ns=nanoseconds(timing.rows[0][timing.column("Target", self.where)], self.where),
            uncertainty_ns=nanoseconds(timing.rows[0][timing.column("Uncertainty", self.where)], self.where),
            top=Module(
                name=name[1],
                latency=self._pair(latency, row, "Latency"),
                interval=self._pair(latency, row, "Interval"),
                pipeline=row[latency.column("Pipeline Type", self.where)],
                depth=None,
                estimated_ns=nanoseconds(timing.rows[0][timing.column("Estimated", self.where)], self.where),
                usage=self._usage(usage, "Total"),
                loops=self._loops(),
                instances=instances,
            ),
            available=self._usage(usage, "Available"),
        )

    def _field(self, name: str) -> str:
        for line in self.lines:
            match = re.fullmatch(rf"\* {name}:\s+(\S.*)", line.rstrip())
            if match:
                return match[1]
        raise malformed(self.where, f"line {name!r} is missing")

    def _line(self, pattern: str, section: str) -> int | None:
        for i in range(self.sections[section], self._end(section)):
            if re.fullmatch(pattern, self.lines[i].rstrip()):
                return i
        return None

    def _end(self, section: str) -> int:
        after = [i for i in self.sections.values() if i > self.sections[section]]
        return min(after, default=len(self.lines))

    def _table(self, group: str, title: str) -> Table:
        """The table below `+ <group>` and `* <title>` in the performance estimates."""
        at = self._line(rf"\+ {group}(| \([a-z ]+\)):", "Performance Estimates")
        if at is None:
            raise malformed(self.where, f"the section has no {group!r}")
        if self.lines[at + 1].strip() != f"* {title}:":
            raise malformed(f"{self.where}, line {at + 2}", f"{title!r} should be here")
        return table(self.lines, at + 2, self.where)[0]

    def _after(self, section: str, title: str) -> Table:
        at = self._line(r"\s*" + re.escape(title), section)
        if at is None:
            raise malformed(self.where, f"section {section!r} has no {title!r}")
        return table(self.lines, at + 1, self.where)[0]

    def _optional(self, section: str, title: str) -> Table | None:
        """A detail table, None where the report says N/A."""
        at = self._line(r"\s*" + re.escape(title), section)
        if at is None or at + 1 >= len(self.lines):
            raise malformed(self.where, f"section {section!r} has no {title!r}")
        if self.lines[at + 1].strip() == "N/A":
            return None
        return table(self.lines, at + 1, self.where)[0]

    def _pair(self, found: Table, row: tuple[str, ...], group: str) -> Span:
        """Columns `<group> (cycles) min` and max; before 2019.2 without the unit."""
        unit = f"{group} (cycles)" if f"{group} (cycles) min" in found.columns else group
        lo, hi = (row[found.column(f"{unit} {end}", self.where)] for end in ("min", "max"))
        return ordered(Span(count(lo, self.where), count(hi, self.where)), self.where)

    def _usage(self, found: Table, name: str) -> Usage:
        rows = {row[0]: row for row in found.rows}
        if name not in rows:
            raise malformed(self.where, f"the utilization has no row {name!r}")
        values: dict[str, int | None] = {}
        block = next((c for c in found.columns if c.startswith("DSP")), "DSP")
        for key, column in RESOURCES.items():
            title = block if key == "dsp" else column
            if key == "uram" and title not in found.columns:  # 2017
                values[key] = None
                continue
            at = found.column(title, self.where)
            values[key] = count(rows[name][at], self.where)
            if name == "Total":
                parts = [count(row[at], self.where) or 0 for row in found.rows[: found.rows.index(rows[name])]]
                if values[key] is None or sum(parts) != values[key]:
                    raise malformed(
                        self.where, f"{title}: the parts add up to {sum(parts)}, the total says {rows[name][at]}"
                    )
        return Usage(**values, dsp_block=block)

    def _instances(self) -> tuple[Instance, ...]:
        """What the module instantiates, of the utilization's details, which close with a total."""
        found = self._optional("Utilization Estimates", "* Instance:")
        timed = self._optional("Performance Estimates", "* Instance:")
        if found is None and timed is None:
            return ()
        if found is not None and (not found.rows or found.rows[-1][0] != "Total"):
            raise malformed(self.where, "the table of instances has no total")
        rows: dict[str, str] = {}
        for part in (timed, found):
            if part is not None:
                name, module = part.column("Instance", self.where), part.column("Module", self.where)
                rows |= {row[name]: row[module] for row in part.rows if row[module]}
        return tuple(Instance(name, module) for name, module in rows.items())

    def _loops(self) -> tuple[Loop, ...]:
        found = self._optional("Performance Estimates", "* Loop:")
        if found is None:
            return ()
        loops = []
        for row in found.rows:
            cells = dict(zip(found.columns, row, strict=True))
            marked = re.fullmatch(r"(-|\++) *(\S.*)", cells.get("Loop Name", ""))
            if marked is None:
                raise malformed(self.where, f"{row[0]!r} is no loop")
            yes = {"yes": True, "no": False}.get(cells.get("Pipelined", ""))
            loops.append(
                Loop(
                    name=marked[2],
                    depth=1 if marked[1] == "-" else len(marked[1]) + 1,
                    trips=span(cells["Trip Count"], self.where),
                    latency=self._pair(found, row, "Latency"),
                    iteration=span(cells["Iteration Latency"], self.where),
                    ii=count(cells["Initiation Interval achieved"], self.where),
                    pipelined=yes,
                )
            )
        return tuple(loops)
