"""Two builds side by side, for rich to print: better figures green, worse ones red, a sign always."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from broadaxe.reports.comparison import Comparison, Figure, Pairing, Side, figure

MOST_SETTINGS = 20
DISPENSABLE = ("type", "requantizer", "FF", "BRAM18", "DSP", "fold", "LUT", "WxA")
"""Columns that a narrow terminal goes without, the first ones first."""


class ComparisonTable:
    """Settings, layers and totals of a comparison."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        c = self.comparison
        yield Text(f"A: {c.a.place}, {c.a.top}\nB: {c.b.place}, {c.b.top}")
        yield Text(c.same.why)
        yield from (Text(note) for note in c.notes)
        if c.settings:
            yield _settings(c)
            if len(c.settings) > MOST_SETTINGS:
                yield f"{len(c.settings) - MOST_SETTINGS} more settings differ; --json has them all"
        else:
            yield "settings: the same"
        if c.layers:
            yield from _layers(c.layers, options.max_width)
        yield _totals(c)
        if c.run:
            yield from _run(c)


def _settings(c: Comparison) -> Table:
    table = _table()
    table.add_column("setting", no_wrap=True)
    table.add_column("A", overflow="fold")
    table.add_column("B", overflow="fold")
    for setting in c.settings[:MOST_SETTINGS]:
        table.add_row(Text(setting.name), Text(_value(setting.a)), Text(_value(setting.b)))
    return table


def _value(value: Any) -> str:
    return "default" if value is None else str(value)


def _layers(pairs: Sequence[Pairing], width: int) -> RenderResult:
    """A row a layer, without columns in which no layer differs and those that do not fit."""
    rows = [_row(pair) for pair in pairs]
    names = list(dict.fromkeys(name for row in rows for name in row))
    widest = {name: max(len(name), *(row.get(name, Text()).cell_len for row in rows)) for name in names}
    both = [row for row, pair in zip(rows, pairs, strict=True) if pair.a and pair.b]
    others = [row for row, pair in zip(rows, pairs, strict=True) if not (pair.a and pair.b)]
    alike = [
        name
        for name in names
        if both and name not in ("layer", "width")
        if not any("->" in row[name].plain for row in both) and all(row[name].plain in ("0", "-") for row in others)
    ]
    shown = [name for name in names if name not in alike]
    dropped = []
    for name in DISPENSABLE:
        if name in shown and sum(widest[n] + 2 for n in shown) > width:
            shown.remove(name)
            dropped.append(name)
    table = _table()
    for name in shown:
        if name == "layer":
            table.add_column(name, no_wrap=True, overflow="ellipsis")
        else:
            table.add_column(name, justify="right", no_wrap=True, min_width=widest[name])
    for row in rows:
        table.add_row(*(row.get(name, Text()) for name in shown))
    yield Text("layers, A -> B with the change; bits, cycles and resources (model) of each")
    yield table
    if alike:
        yield Text(f"the same for every layer of both: {', '.join(alike)}")
    if dropped:
        yield Text(f"left out for want of width: {', '.join(dropped)}")
    by_order = [pair for pair in pairs if pair.matched == "order"]
    if by_order:
        yield f"{len(by_order)} layers have other names and are matched by operator and shape, in order"
    for side, name in (("a", "A"), ("b", "B")):
        alone = [pair.node for pair in pairs if pair.matched == "alone" and getattr(pair, side)]
        if alone:
            more = f" and {len(alone) - 8} more" if len(alone) > 8 else ""
            yield Text(f"only in {name}: {', '.join(alone[:8])}{more}")


def _row(pair: Pairing) -> dict[str, Text]:
    """Cells of a layer: one figure where both agree or there is one build, else both and the change."""
    one = pair.a or pair.b
    assert one is not None
    a, b = pair.a or one, pair.b or one
    alone = "" if pair.a and pair.b else " (A only)" if pair.a else " (B only)"
    name = a.name if a.name == b.name else f"{a.name} -> {b.name}"
    figures = {f.name: f for f in pair.figures} or {f: figure(f, v, v) for f, v in _alone(one)}
    types = sum(figures[bits].change for bits in ("weight_bits", "input_bits"))
    return {
        "layer": Text(f"{name}{alone}"),
        "WxA": _words(_types(a), _types(b), None if not types else types < 0),
        "type": _cell(figures["datatype_bits"], relative=False),
        "width": _words(_width(a), _width(b), figures["width"].gain, figures["width"]),
        "fold": _words(_fold(a), _fold(b)),
        "cycles": _cell(figures["cycles"]),
        "LUT": _cell(figures["lut"]),
        "FF": _cell(figures["ff"]),
        "DSP": _cell(figures["dsp"], relative=False),
        "BRAM18": _cell(figures["bram18"], relative=False),
        "requantizer": _words(", ".join(a.forms) or "-", ", ".join(b.forms) or "-"),
    }


def _alone(side: Side) -> Iterator[tuple[str, float]]:
    for name in ("weight_bits", "input_bits", "datatype_bits", "width", "cycles"):
        yield name, getattr(side, name)
    yield from side.resources.model_dump().items()


def _width(side: Side) -> str:
    return str(side.width) if side.inner_bits is None else f"{side.inner_bits}+{side.width}"


def _types(side: Side) -> str:
    return f"{side.weight_bits}x{side.input_bits}"


def _fold(side: Side) -> str:
    """Lanes, and what multiplies where that is not the fabric."""
    return f"{side.pe}x{side.simd}{'' if side.multiplier == 'lut' else f' {side.multiplier}'}"


def _words(a: str, b: str, gain: bool | None = None, change: Figure | None = None) -> Text:
    if a == b:
        return Text(a)
    told = f" ({change.change:+})" if change is not None and change.change else ""
    return Text(f"{a} -> {b}{told}", style=_style(gain))


def _cell(f: Figure, relative: bool = True) -> Text:
    """Both numbers and their change, in percent where there is one."""
    if not f.change or _number(f.a) == _number(f.b):
        return Text(_number(f.a))
    told = f"{f.percent:+,.0f} %" if relative and f.percent is not None else _change(f)
    return Text(f"{_number(f.a)} -> {_number(f.b)} ({told})", style=_style(f.gain))


def _style(gain: bool | None) -> str:
    return "" if gain is None else "green" if gain else "red"


def _number(value: float) -> str:
    """As an integer where its decimals mean nothing."""
    if value == int(value) or abs(value) >= 10:
        return f"{value:,.0f}"
    return f"{value:,.3g}"


def _change(f: Figure) -> str:
    return f"+{_number(f.change)}" if f.change > 0 else _number(f.change)


def _totals(c: Comparison) -> Table:
    table = _table()
    table.add_column("in all", no_wrap=True)
    for name in ("A", "B", "change", "%"):
        table.add_column(name, justify="right", no_wrap=True)
    for f in c.figures:
        if f.a or f.b:
            percent = "" if not f.change or f.percent is None else f"{f.percent:+,.1f}"
            change = _change(f) if f.change else "0"
            table.add_row(
                f.name, _number(f.a), _number(f.b), *(Text(t, style=_style(f.gain)) for t in (change, percent))
            )
    if c.run and c.run.accuracy:
        f = c.run.accuracy  # in percent points, to two decimals
        change = f"{f.change:+.2f}" if f.change else "0"
        table.add_row(f.name, f"{f.a:.2f}", f"{f.b:.2f}", Text(change, style=_style(f.gain)), "")
    return table


def _run(c: Comparison) -> Iterator[Text]:
    run = c.run
    assert run is not None
    if run.differing is not None:
        yield Text(
            f"{run.source}: of {run.samples:,} samples {run.differing:,} have other outputs, {run.other_largest:,} another"
            " largest one (reference, exact)"
        )


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
