"""What Vivado made of a design: report_utilization, and the summaries that HLS writes after export or --impl."""

from __future__ import annotations

import re
from pathlib import Path

from broadaxe.vendor.figures import Table, count, malformed, nanoseconds, table, text_of
from broadaxe.vendor.results import Implementation, Usage

SITES = {
    "lut": ("Slice LUTs", "CLB LUTs"),
    "ff": ("Slice Registers", "CLB Registers"),
    "dsp": ("DSPs", "DSP Slices"),
    "tiles": ("Block RAM Tile",),
    "uram": ("URAM",),
}
"""Rows of report_utilization, 7 series first. A tile holds two block RAMs of 18 Kb."""


def read_utilization(path: Path) -> Implementation:
    """vivado_synth.rpt, as `report_utilization -file` writes it; RequestError where it is damaged."""
    where = str(path)
    lines = text_of(path).split("\n")
    head = {m[1]: m[2].strip() for line in lines if (m := re.fullmatch(r"\| (\w[\w ]*\w) *: (.*)", line.rstrip()))}
    for name in ("Tool Version", "Device", "Design State"):
        if name not in head:
            raise malformed(where, f"line {name!r} is missing")
    try:
        start = lines.index("Table of Contents")
    except ValueError:
        raise malformed(where, "has no table of contents") from None
    titles = []
    for line in lines[start + 2 :]:
        if not re.match(r"[0-9]", line):
            break
        titles.append(line.rstrip())
    rows: dict[str, tuple[str, ...]] = {}
    columns: dict[str, Table] = {}
    for title in titles:
        headings = [i for i in range(start + 2 + len(titles), len(lines)) if lines[i].rstrip() == title]
        if len(headings) != 1:
            raise malformed(where, f"section {title!r} of the table of contents is missing")
        found = table(lines, headings[0] + 2, where)[0]
        for row in found.rows:
            if found.columns[:2] == ("Site Type", "Used"):
                rows.setdefault(row[0].rstrip("*"), row)
                columns.setdefault(row[0].rstrip("*"), found)
    used: dict[str, int | None] = {}
    for key, names in SITES.items():
        site = next((n for n in names if n in rows), None)
        if site is None:
            if key == "uram":  # 7 series have none
                used[key] = 0
                continue
            raise malformed(where, f"has no row {' or '.join(names)}")
        text = rows[site][columns[site].column("Used", where)]
        used[key] = _halves(text, where) if key == "tiles" else count(text, where)
    lut, parts = used["lut"], [rows.get(f"LUT as {kind}") for kind in ("Logic", "Memory")]
    sums = [count(part[1], where) for part in parts if part is not None]
    if len(sums) == 2 and None not in (lut, *sums) and sum(s or 0 for s in sums) != lut:
        raise malformed(where, f"LUTs as logic and memory add up to {sum(s or 0 for s in sums)}, not to {lut}")
    shift = rows.get("LUT as Shift Register")
    return Implementation(
        stage="synthesis" if head["Design State"] == "Synthesized" else "implementation",
        part=head["Device"],
        usage=Usage(lut, used["ff"], used["dsp"], used["tiles"], used["uram"]),
        srl=None if shift is None else count(shift[1], where),
    )


def _halves(text: str, where: str) -> int | None:
    """Block RAMs of 18 Kb in a number of tiles such as `2.5`."""
    match = re.fullmatch(r"([0-9]{1,7})(\.[05])?", text)
    if match is None:
        return count(text, where)
    return 2 * int(match[1]) + (match[2] == ".5")


def read_export(path: Path) -> Implementation:
    """<top>_export.rpt, or export_syn.rpt and export_impl.rpt of newer tools; RequestError where it is damaged."""
    where = str(path)
    text = text_of(path)
    return _newer(text, where) if "Timing Summary" in text else _older(text, where)


def _figures(lines: list[str], where: str) -> dict[str, int | None]:
    """Lines `LUT:   1234`."""
    found: dict[str, int | None] = {}
    for line in lines:
        match = re.fullmatch(r"(SLICE|CLB|LUT|FF|DSP|BRAM|URAM|LATCH|SRL):\s+(\S+)", line.strip())
        if match and match[1] in found:
            raise malformed(where, f"says {match[1]} twice")
        if match:
            found[match[1]] = count(match[2], where)
    for name in ("LUT", "FF", "DSP", "BRAM"):
        if name not in found:
            raise malformed(where, f"line {name!r} is missing")
    return found


def _usage(found: dict[str, int | None]) -> Usage:
    return Usage(found["LUT"], found["FF"], found["DSP"], found["BRAM"], found.get("URAM"))


def _older(text: str, where: str) -> Implementation:
    """`#=== Post-Synthesis Resource usage ===`, then `#=== Final timing ===` with a verdict or `Timing not checked`."""
    parts = re.split(r"^#=== (.*) ===\n", text, flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    stage = next((s for s in ("Synthesis", "Implementation") if f"Post-{s} Resource usage" in sections), None)
    if stage is None or "Final timing" not in sections:
        raise malformed(where, "holds no resources and timing of an export")
    device = re.search(r"^Device target: +(\S+)$", text, flags=re.MULTILINE)
    timing = {m[1]: m[2] for m in re.finditer(r"^CP (required|achieved \S+): +(\S+)\n", sections["Final timing"], re.M)}
    if device is None or "required" not in timing or f"achieved post-{stage.lower()}" not in timing:
        raise malformed(where, "the device or the clock period is missing")
    found = _figures(sections[f"Post-{stage} Resource usage"].splitlines(), where)
    return Implementation(
        stage=stage.lower(),
        part=device[1],
        usage=_usage(found),
        srl=found.get("SRL"),
        required_ns=nanoseconds(timing["required"], where),
        achieved_ns=nanoseconds(timing[f"achieved post-{stage.lower()}"], where),
    )


def _newer(text: str, where: str) -> Implementation:
    """Vitis HLS: sections `RTL Synthesis` or `Place & Route`, with a table of periods."""
    lines = text.split("\n")
    titles = {line[3:].strip(): i for i, line in enumerate(lines) if line.startswith("== ")}
    stage, prefix = next(
        (
            (s, p)
            for s, p in (("implementation", "Place & Route"), ("synthesis", "RTL Synthesis"))
            if f"{p} Resources" in titles
        ),
        ("synthesis", "RTL Synthesis"),
    )
    device = re.search(r"^ *\* Target device: +(\S+)$", text, flags=re.MULTILINE)
    for title in (f"{prefix} Resource Summary", f"{prefix} Timing Summary", f"{prefix} Resources"):
        if title not in titles or device is None:
            raise malformed(where, f"section {title!r} or the device is missing")
    begin, timing = titles[f"{prefix} Resource Summary"], titles[f"{prefix} Timing Summary"]
    found = _figures(lines[begin:timing], where)
    at = next((i for i in range(timing, len(lines)) if lines[i].startswith("+-")), len(lines))
    periods = {row[0]: row[1] for row in table(lines, at, where)[0].rows}
    table(lines, titles[f"{prefix} Resources"] + 2, where)  # whole up to here
    achieved = next((v for k, v in reversed(periods.items()) if k.startswith("Post-")), None)
    if "Target" not in periods or achieved is None:
        raise malformed(where, "the clock period is missing")
    assert device is not None
    return Implementation(
        stage=stage,
        part=device[1],
        usage=_usage(found),
        srl=found.get("SRL"),
        required_ns=nanoseconds(periods["Target"], where),
        achieved_ns=nanoseconds(achieved, where),
    )
