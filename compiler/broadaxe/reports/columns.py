"""Columns of the page's tables and the words that it uses, each with what it means.

A table is the same list of columns whether it is shown, sorted, filtered, copied or printed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, TypeAlias

from broadaxe.reports.schema import Report

Cell: TypeAlias = str | int | float | None
Kind: TypeAlias = Literal["text", "number", "shape"]


@dataclass(frozen=True)
class Column:
    """A column: `of` gives an entry's cell, None where it has none; columns of one group are shown and hidden together."""

    key: str
    label: str
    group: str
    help: str
    of: Callable[[Any], Cell]
    kind: Kind = "number"


@dataclass(frozen=True)
class Table:
    """A table of the page: its rows are entries of the report, `hidden` the groups that a screen shows only on request."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    hidden: tuple[str, ...] = ()
    total: tuple[Cell, ...] | None = None

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Groups in order, and how many columns each has."""
        names = list(dict.fromkeys(column.group for column in self.columns))
        return [(name, sum(column.group == name for column in self.columns)) for name in names]


def shape(sizes: Sequence[int]) -> str:
    """Such as 8x8x32."""
    return "x".join(map(str, sizes))


def shown(cell: Cell) -> str:
    """A cell as text: thousands have commas, model figures no decimals unless they are small."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:,.0f}" if cell == int(cell) or abs(cell) >= 10 else f"{cell:,.1f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def _amounts(group: str) -> tuple[Column, ...]:
    return (
        Column("lut", "LUT", group, "look-up tables, by model", lambda e: e.resources.lut),
        Column("ff", "FF", group, "flip-flops, by model", lambda e: e.resources.ff),
        Column("dsp", "DSP", group, "DSP blocks, by model", lambda e: e.resources.dsp),
        Column("bram18", "BRAM18", group, "block RAMs of 18 kbit, by model", lambda e: e.resources.bram18),
        Column("uram", "URAM", group, "UltraRAM blocks, by model", lambda e: e.resources.uram),
    )


LAYER = (
    Column("name", "layer", "layer", "name in the generated sources; opens the layer's page", lambda e: e.name, "text"),
    Column("node", "node", "layer", "the model's node, with its operator", lambda e: e.node, "text"),
    Column("op", "operator", "layer", "operator of the model", lambda e: e.op, "text"),
    Column(
        "shape", "output", "shape", "shape for one sample, channels last", lambda e: shape(e.shape) or "scalar", "shape"
    ),
    Column("depth", "K", "shape", "products in one sum", lambda e: e.depth),
    Column("outputs", "channels", "shape", "output channels, each with an accumulator of its own", lambda e: e.outputs),
    Column("macs", "MACs", "shape", "products per sample", lambda e: e.macs),
    Column("weight_bits", "W", "types", "bits of a weight", lambda e: e.weight_bits),
    Column("input_bits", "A", "types", "bits of an activation", lambda e: e.input_bits),
    Column(
        "datatype_bits",
        "data type",
        "bounds [bits]",
        "accumulator for any weights and inputs of these types",
        lambda e: e.datatype_bits,
    ),
    Column(
        "l1_bits", "l1", "bounds [bits]", "accumulator for these weights and any input of its type", lambda e: e.l1_bits
    ),
    Column(
        "exact_bits",
        "exact",
        "bounds [bits]",
        "two's complement of the proven interval, whose ends are attained",
        lambda e: e.exact_bits,
    ),
    Column(
        "prefix_bits",
        "prefix",
        "bounds [bits]",
        "two's complement of every partial sum in any order, start included",
        lambda e: e.prefix_bits,
    ),
    Column(
        "offset_bits",
        "offset",
        "bounds [bits]",
        "the proven interval where the sum may start at any constant",
        lambda e: e.offset_bits,
    ),
    Column(
        "width",
        "width P",
        "accumulator",
        "bits declared in hardware; with tiles, the outer one's (P_O)",
        lambda e: e.width,
    ),
    Column(
        "saved_bits", "saved", "accumulator", "data type bound less declared width, in bits", lambda e: e.saved_bits
    ),
    Column(
        "tile", "tile T", "accumulator", "inputs per inner sum, where a layer accumulates in stages", lambda e: e.tile
    ),
    Column("inner_bits", "P_I", "accumulator", "bits of the inner accumulator, of one tile", lambda e: e.inner_bits),
    Column(
        "mode",
        "mode",
        "accumulator",
        "offset, two's complement, or loadable: for all weights within the width",
        lambda e: e.mode,
        "text",
    ),
    Column(
        "budget",
        "asked",
        "budget",
        "accumulator bits that the layer was quantized for",
        lambda e: e.budget and e.budget.bits,
    ),
    Column(
        "budget_of",
        "of",
        "budget",
        "what has to fit: the whole sum, or every tile's",
        lambda e: e.budget and e.budget.of,
        "text",
    ),
    Column(
        "margin_bits",
        "margin [bits]",
        "budget",
        "bits asked less bits proven; empty where nothing was asked",
        lambda e: e.margin_bits,
    ),
    Column(
        "margin",
        "margin [counts]",
        "budget",
        "how far the proven interval may still grow before the accumulator is too narrow",
        lambda e: e.margin,
    ),
    Column("lo", "least sum", "intervals", "least proven sum of all channels, start left out", lambda e: min(e.lo)),
    Column("hi", "largest sum", "intervals", "largest proven sum of all channels, start left out", lambda e: max(e.hi)),
    Column(
        "prefix_lo",
        "prefix least",
        "intervals",
        "least partial sum in any order, start included",
        lambda e: e.prefix[0],
    ),
    Column(
        "prefix_hi",
        "prefix largest",
        "intervals",
        "largest partial sum in any order, start included",
        lambda e: e.prefix[1],
    ),
    Column(
        "observed_lo",
        "observed min",
        "intervals",
        "least sum that calibration data led to, start left out",
        lambda e: e.observed and min(e.observed.lo),
    ),
    Column(
        "observed_hi",
        "observed max",
        "intervals",
        "largest sum that calibration data led to, start left out",
        lambda e: e.observed and max(e.observed.hi),
    ),
    Column("pe", "PE", "folding", "output channels computed at once", lambda e: e.pe),
    Column("simd", "SIMD", "folding", "inputs taken at once", lambda e: e.simd),
    Column(
        "multiplier",
        "multiplier",
        "folding",
        "lut (fabric), dsp, or packed: one DSP block for several products",
        lambda e: e.multiplier,
        "text",
    ),
    Column(
        "cycles",
        "cycles",
        "folding",
        "loop trips per frame at II = 1, by model; pipeline fill apart",
        lambda e: e.cycles,
    ),
    *_amounts("resources"),
    Column(
        "requantizers",
        "requantizers",
        "proof",
        "those that read the sum, each proven equal to the model's exact arithmetic",
        lambda e: ", ".join(e.requantizers),
        "text",
    ),
)

REQUANTIZER = (
    Column("name", "requantizer", "requantizer", "name in the generated sources", lambda e: e.name, "text"),
    Column("node", "node", "requantizer", "the model's node", lambda e: e.node, "text"),
    Column("reads", "reads", "requantizer", "the kernel whose integers it reads", lambda e: e.reads, "text"),
    Column("channels", "channels", "requantizer", "each has parameters of its own", lambda e: e.channels),
    Column("input", "from", "types", "type of the integers that it reads", lambda e: e.input, "text"),
    Column("output", "to", "types", "type of its codes", lambda e: e.output, "text"),
    Column("form", "form", "form", "how hardware computes it", lambda e: e.form, "text"),
    Column(
        "parameters",
        "parameters",
        "form",
        "of the form, as it has them",
        lambda e: ", ".join(f"{name} {value:,}" for name, value in e.parameters.items()),
        "text",
    ),
    Column("comparisons", "comparisons", "proof", "exact integer comparisons that proved it", lambda e: e.comparisons),
)

KERNEL = (
    Column("name", "process", "process", "name in the generated sources", lambda e: e.name, "text"),
    Column(
        "kind", "kind", "process", "operator; read, write: AXI ports; lanes, copy: of streams", lambda e: e.kind, "text"
    ),
    Column("node", "node", "process", "the model's node, where it stands for one", lambda e: e.node, "text"),
    Column("lanes_in", "read", "lanes", "integers read a cycle", lambda e: e.lanes and e.lanes[0]),
    Column("lanes_out", "written", "lanes", "integers written a cycle", lambda e: e.lanes and e.lanes[1]),
    Column("trips", "trips", "cycles of a frame", "of its one loop at II = 1: exact", lambda e: e.trips),
    Column(
        "fill",
        "fill",
        "cycles of a frame",
        "pipeline stages: as a tool has reported them, else an assumed bound",
        lambda e: e.fill,
    ),
    Column(
        "start", "start", "cycles of a frame", "cycle of its first beat, design empty, at the latest", lambda e: e.start
    ),
    Column("end", "end", "cycles of a frame", "cycle of its last beat", lambda e: e.end),
    *_amounts("resources"),
)

FIFO = (
    Column("name", "FIFO", "FIFO", "name in the generated sources", lambda e: e.name, "text"),
    Column("writer", "from", "FIFO", "the process that writes it", lambda e: e.writer, "text"),
    Column("reader", "to", "FIFO", "the process that reads it", lambda e: e.reader, "text"),
    Column("type", "type", "word", "of an integer in it", lambda e: e.type, "text"),
    Column("lanes", "lanes", "word", "integers in a word", lambda e: e.lanes),
    Column("bits", "bits", "word", "of a word", lambda e: e.bits),
    Column("words", "words", "depth", "in a frame", lambda e: e.words),
    Column("least", "least", "depth", "without deadlock, whatever the pipelines hold back", lambda e: e.least),
    Column("depth", "declared", "depth", "frames come at full rate, too", lambda e: e.depth),
    Column("store", "store [bits]", "depth", "declared depth x bits of a word", lambda e: e.depth * e.bits),
    *_amounts("resources"),
)

PORT = (
    Column("name", "port", "port", "of the top-level function", lambda e: e.name, "text"),
    Column("tensor", "tensor", "port", "the model's tensor that its integers stand for", lambda e: e.tensor, "text"),
    Column("type", "type", "integers", "int5: 5 bits of two's complement; uint5: unsigned", lambda e: e.type, "text"),
    Column("lo", "least", "integers", "least integer; of an input, the least that may be sent", lambda e: e.lo),
    Column("hi", "largest", "integers", "largest integer", lambda e: e.hi),
    Column(
        "shape", "frame", "stream", "shape of a frame, last axis fastest", lambda e: shape(e.shape) or "scalar", "shape"
    ),
    Column("lanes", "lanes", "stream", "integers in a beat", lambda e: e.lanes),
    Column("bits", "bits", "stream", "data bits of a beat", lambda e: e.bits),
    Column("beats", "beats", "stream", "in a frame", lambda e: e.beats),
    Column("order", "order", "stream", "of the stream against the tensor", lambda e: e.order, "text"),
    Column("scale", "scale", "meaning", "real = scale x integer + shift", lambda e: span(e.scale), "text"),
    Column("shift", "shift", "meaning", "real = scale x integer + shift", lambda e: span(e.shift), "text"),
    Column(
        "then",
        "then",
        "meaning",
        "outputs: steps that the host does behind scale and shift",
        lambda e: len(e.then) or None,
    ),
)


def span(values: Sequence[float]) -> str:
    """One value, or the least and the largest of several."""
    low, high = min(values), max(values)
    return f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g} ({len(values):,})"


def tables(report: Report) -> dict[str, Table]:
    """Every table of the page, by name."""

    def table(name: str, caption: str, columns: tuple[Column, ...], entries: Sequence[Any], *hidden: str) -> Table:
        rows = tuple(tuple(column.of(entry) for column in columns) for entry in entries)
        summed = {"macs", "saved_bits", "lut", "ff", "dsp", "bram18", "uram", "comparisons", "store"}
        totals: tuple[Cell, ...] = tuple(
            sum(row[i] for row in rows) if column.key in summed else None  # type: ignore[misc]
            for i, column in enumerate(columns)
        )
        some = len(rows) > 1 and any(total is not None for total in totals)
        return Table(name, caption, columns, rows, hidden, ("total", *totals[1:]) if some else None)

    return {
        "layers": table("layers", "Layers with an accumulator", LAYER, report.layers, "intervals", "resources"),
        "requantizers": table("requantizers", "Requantizers", REQUANTIZER, report.requantizers),
        "kernels": table("kernels", "Processes", KERNEL, report.kernels),
        "fifos": table("fifos", "FIFOs", FIFO, report.fifos, "resources"),
        "inputs": table("inputs", "Input ports", PORT, report.inputs),
        "outputs": table("outputs", "Output ports", PORT, report.outputs),
    }


def elements(sizes: str) -> int:
    """Of a shape as shown; tables sort by it."""
    return prod(map(int, sizes.split("x"))) if sizes[0].isdigit() else 1
