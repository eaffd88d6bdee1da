"""An explanation in plain language: at most 60 lines, whatever the layer's size."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broadaxe.reports.explanation import Change, Driven, Explanation, OneBitLess, Operand, Over, Reached, Source

WIDTH = 80
ROWS = 6
"""Kinds of products in the table; the others are added up."""
NAMED = 5
"""Weights of a change, and channels beside the explained one, that are named."""
LISTED = 20
"""Channels that are listed by number."""


def text(e: Explanation, width: int = WIDTH) -> str:
    """All sections, wrapped."""
    sections = [
        textwrap.wrap(_title(e), width, subsequent_indent="  "),
        _paragraphs("What it adds up", _operands(e), width),
        [*_products(e), *_paragraphs("", _totals(e), width)[1:]],
        [f"Why {_bits(e.width)}", *_ladder(e), *_paragraphs("", _why(e), width)[1:]],
        _paragraphs("One bit less", _less(e), width),
        [*_paragraphs("Inputs that attain both ends", _witness(e), width), *_run(e, width)],
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def _paragraphs(title: str, sentences: Iterable[str], width: int) -> list[str]:
    lines = [title]
    for sentence in sentences:
        lines += textwrap.wrap(
            sentence,
            width,
            initial_indent="  ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def _title(e: Explanation) -> str:
    widest = ", among the widest" if e.widest else f", which needs {e.channel_bits} of its {_bits(e.width)}"
    of = f" of {e.channels}" if e.channels > 1 else ""
    return f"{e.layer}, {e.node}: channel {e.channel}{of}{widest if e.channels > 1 else ''}, {_bits(e.width)}"


# What it adds up


def _operands(e: Explanation) -> Iterator[str]:
    if e.weight_type is None:
        kinds = " and ".join(o.type for o in e.operands)
        yield f"{e.depth:,} products of two inputs, {kinds}."
    else:
        ones = len({t.weight for t in e.terms}) == 1
        weights = f"weights of {e.terms[0].weight}" if ones else f"{e.weight_type} weights"
        yield f"{_count(e.depth, 'product')} of {weights} and {e.operands[0].type} inputs, in the order {e.order}."
    for number, operand in enumerate(e.operands):
        which = "The inputs" if len(e.operands) == 1 else f"The {('first', 'second')[number]} input's integers"
        yield f"{which} are {'; '.join(map(_source, operand.sources))}."
        if operand.zero:
            yield f"{operand.zero:,}, which stands for the real 0, is taken off each before the product."
        if operand.short and e.weight_type is None:
            yield f"Of them, {_short(operand)}."
    if e.weight_type is not None:
        found = [(t.input, t.count) for t in e.terms]
        counts = {i: sum(n for other, n in found if other == i) for i, _ in found}
        most = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        parts = [f"{n:,} x {_span(i)}" for i, n in most[:NAMED]]
        others = f", {sum(n for _, n in most[NAMED:]):,} others" if len(most) > NAMED else ""
        short = f"; {_short(e.operands[0])}" if e.operands[0].short else ""
        yield f"Proven intervals of the inputs: {', '.join(parts)}{others}{short}."


def _short(operand: Operand) -> str:
    lo, hi = operand.range
    return f"{operand.short:,} stay short of an end of {operand.type}, {lo:,} or {hi:,}"


def _source(source: Source) -> str:
    through = f" through {', '.join(source.through)}" if source.through else ""
    pads = ""
    if source.pad_codes:
        codes = (
            f"{source.pad_codes[0]:,}"
            if len(source.pad_codes) == 1
            else _span((source.pad_codes[0], source.pad_codes[-1]))
        )
        pads = f", where taps outside hold {codes}"
    match source.what:
        case "requantizer":
            return f"the codes of {source.name}, {source.node}{through}{pads}"
        case "input of the network":
            return f"those of the network's input {source.node}{through}{pads}"
    return f"the integers of {source.name}, {source.node or source.what}{through}{pads}"


def _products(e: Explanation) -> list[str]:
    """The table of products by kind; its columns add up."""
    two = e.weight_type is None
    named = [t for t in e.terms if t.weight != 0]
    shown, rest = (named, []) if len(named) <= ROWS + 1 else (named[:ROWS], named[ROWS:])
    rows = [
        (
            f"{t.count:,}",
            _span(t.input) if two else f"{t.weight:,}",
            _span(t.other) if t.other else _span(t.input),
            _span(t.each),
            *_pair(t.together),
        )
        for t in shown
    ]
    if rest:
        ends = [sum(t.together[i] for t in rest) for i in range(2)]
        rows.append((f"{sum(t.count for t in rest):,}", "others", "", "", *_pair(ends)))
    if e.zeros:
        rows.append((f"{e.zeros:,}", "0", "any", "0", "0", "0"))
    rows.append((f"{e.depth:,}", "in all", "", "", *_pair((e.least, e.most))))
    header = ("count", "first" if two else "weight", "second" if two else "input", "each product", "least", "most")
    return _table([header, *rows], "rllrrr" if two else "rrllrr")


def _totals(e: Explanation) -> Iterator[str]:
    """What positive and negative weights add to both ends."""
    up, down = e.positive, e.negative
    if e.weight_type is None or not up.count + down.count:
        return
    for name, total, first, second, a, b in (
        ("most ", e.most, "largest", "least", up.most, down.most),
        ("least", e.least, "least", "largest", up.least, down.least),
    ):
        parts = [f"{up.count:,} positive with {first} inputs"] if up.count else []
        parts += [f"{down.count:,} negative with {second}{'' if up.count else ' inputs'}"] if down.count else []
        yield f"{name} {a:,} {'-' if b < 0 else '+'} {abs(b):,} = {total:,}: {', '.join(parts)}"


# Why so many bits


def _ladder(e: Explanation) -> list[str]:
    """Each bound with the inequality that gives its bits."""
    ladder = e.ladder
    shift = (ladder.datatype_largest // e.depth).bit_length() - 1
    whole = f"{e.depth:,} x 2^{shift} = {ladder.datatype_largest:,}"
    rows = [("data type", ladder.datatype_bits, "any values", _held(whole, ladder.datatype_bits - 1))]
    if ladder.l1_norm:
        shift = (ladder.l1_largest // ladder.l1_norm).bit_length() - 1
        weighed = f"{ladder.l1_norm:,} x 2^{shift} = {ladder.l1_largest:,}"
        rows.append(("l1", ladder.l1_bits, "any inputs", _held(weighed, ladder.l1_bits - 1)))
    half = ladder.exact_bits - 1
    rows.append(("exact", ladder.exact_bits, "as proven", f"-2^{half} <= {e.least:,}, {_held(f'{e.most:,}', half)}"))
    span = f"most - least = {e.most - e.least:,}"
    rows.append(("offset", ladder.offset_bits, "best start", _held(span, ladder.offset_bits)))
    return _table([(name, _bits(bits), what, inequality) for name, bits, what, inequality in rows], "lrll")


def _held(what: str, bits: int) -> str:
    return f"{what} <= 2^{bits} - 1"


def _why(e: Explanation) -> Iterator[str]:
    yield " ".join([*_too_few(e), _declared(e), *_asked(e)])
    yield (
        f"Partial sums, in any order, stay within {_span(e.ladder.prefix)} ({_bits(e.ladder.prefix_bits)}); the adders wrap, so"
        " that only the whole sum has to fit."
    )
    if e.tiles:
        t = e.tiles
        less = f" With one bit less {_count(t.overflowing, 'tile')} would overflow." if t.bits > 1 else ""
        what = "the budget of tiles is" if e.mode == "loadable" else "tiles of all channels stay within"
        yield (
            f"The sum is made in {t.count:,} tiles of {t.size:,} inputs. A tile of this channel reaches {_span(t.widest)};"
            f" {what} {_span(t.layer)}: -2^{t.bits - 1} <= {t.layer[0]:,} and {_held(f'{t.layer[1]:,}', t.bits - 1)},"
            f" {_bits(t.bits)} in the inner accumulator.{less}"
        )


def _too_few(e: Explanation) -> Iterator[str]:
    """Why exact two's complement needs each of its bits."""
    bits = e.ladder.exact_bits - 1
    if bits < 1:
        return
    half = 1 << (bits - 1)
    wrong = [f"{e.least:,} < -2^{bits - 1} = {-half:,}"] if e.least < -half else []
    wrong += [f"{e.most:,} > 2^{bits - 1} - 1 = {half - 1:,}"] if e.most > half - 1 else []
    yield f"{_bits(bits)} from 0 would not do: {' and '.join(wrong)}."


def _declared(e: Explanation) -> str:
    """What the hardware has, and from where it starts."""
    reached, half = _span((e.least + e.start, e.most + e.start)), e.width - 1
    free = e.less is not None and e.less.free_start
    if e.mode == "loadable":
        return (
            f"{_bits(e.width)} are declared, as a budget: weights may be loaded if start + sum stays within -2^{half} and"
            f" 2^{half} - 1. The present ones start at {e.start:,} and reach {reached}."
        )
    if e.start:
        return (
            f"{_bits(e.width)} are declared: the sum starts at {e.start:,} and so reaches {reached}, within -2^{half} and"
            f" 2^{half} - 1. What reads it takes the start back out, exactly."
        )
    if e.mode == "offset":
        return f"{_bits(e.width)} are declared; others of the layer's channels need a start, this one fits from 0."
    if free or e.less is None:
        return f"{_bits(e.width)} are declared; it starts at 0, a start of its own would save the layer no bit."
    return f"{_bits(e.width)} are declared; it starts at 0, because not all that reads it could take a start back out."


def _asked(e: Explanation) -> Iterator[str]:
    """What the model was quantized for, what is left, and what data have shown."""
    if e.budget:
        what = "each tile" if e.budget.of == "tile" else "the sum"
        yield f"The model was quantized for {_bits(e.budget.bits)} of {what}."
    where = "" if e.mode == "offset" else " at its nearer end"
    yield f"The interval may grow by {_count(e.room, 'count')}{where} before it leaves this accumulator."
    if e.seen:
        seen, span = e.seen, e.most - e.least
        share = 100 * (seen.most - seen.least) / span if span else 100.0
        yield (
            f"Observed on {_count(seen.samples, 'sample')}: {_span((seen.least, seen.most))}, {share:.0f} % of the proven"
            " interval; that proves nothing about other data."
        )


# One bit less


def _less(e: Explanation) -> Iterator[str]:
    less = e.less
    if less is None:
        yield "The accumulator has a single bit."
        return
    if not less.channels:
        who = (
            "no channel of the present weights would overflow" if e.mode == "loadable" else "no channel would overflow"
        )
        yield f"With {_bits(less.bits)} {who}."
    else:
        start = ", from whatever start" if less.free_start else ""
        listed = ", ".join(f"{c:,}" for c in less.channels[:LISTED])
        more = f" and {len(less.channels) - LISTED:,} more" if len(less.channels) > LISTED else ""
        of = f"{len(less.channels):,} of {e.channels:,} channels" if e.channels > 1 else "the channel"
        yield f"With {_bits(less.bits)} {of} would overflow{start}{f': {listed}{more}' if e.channels > 1 else ''}."
    own = next((over for over in less.worst if over.channel == e.channel), None)
    if own is not None:
        yield from _over(own, less)
    elif less.channels:
        yield f"Channel {e.channel} would still fit."
    others = [over for over in less.worst if over.channel != e.channel][:NAMED]
    if others:
        parts = [f"{o.channel} by {o.excess:,}{'' if o.steps is None else f' ({_steps(o)})'}" for o in others]
        beyond = len(less.channels) - len(others) - (own is not None)
        yield f"Others are over as well: channel {', '.join(parts)}{f' and {beyond:,} more' if beyond else ''}."
    yield (
        f"It would save {less.saves.lut:,.0f} LUT and {less.saves.ff:,.0f} FF in the kernel, what reads it and FIFOs (model)."
    )


def _over(over: Over, less: OneBitLess) -> Iterator[str]:
    if less.free_start:
        held = f"{over.most - over.least:,} > 2^{less.bits} - 1 = {(1 << less.bits) - 1:,}"
        yield f"Channel {over.channel} is over by {_count(over.excess, 'count')}: most - least = {held}."
    else:
        yield (
            f"Channel {over.channel} is over by {_count(over.excess, 'count')}: it has to stay within"
            f" {_span((-(1 << less.bits - 1), (1 << less.bits - 1) - 1))}."
        )
    if over.steps is None:
        return
    fewer = ", and fewer would not" if over.fewest else ""
    if over.steps == len(over.changes):
        made = f"{_count(over.steps, 'weight')} one step nearer to 0"
    else:
        made = f"{_count(len(over.changes), 'weight')} nearer to 0, by {_count(over.steps, 'step')} in all,"
    yield f"Making {made} would do{fewer}: {_changes(over.changes)}."


def _steps(over: Over) -> str:
    return _count(over.steps or 0, "step")


def _changes(changes: Sequence[Change]) -> str:
    """Weights by what they would become, the first of them by place."""
    parts, named = [], 0
    for (before, after), group in groupby(sorted(changes, key=_kind), key=lambda c: (c.before, c.after)):
        same = list(group)
        if named >= NAMED:
            break
        named += 1
        parts.append(f"{len(same):,} from {before:,} to {after:,} ({same[0].place}{', ...' if len(same) > 1 else ''})")
    left = len({(c.before, c.after) for c in changes}) - named
    return ", ".join(parts) + (f", and {_count(left, 'other kind')}" if left else "")


def _kind(change: Change) -> tuple[int, int, int]:
    return -abs(change.before), change.before, change.after


# The witness


def _witness(e: Explanation) -> Iterator[str]:
    w = e.witness
    if e.weight_type is None:
        how = "Each pair of inputs stands where its product is least, or most."
    else:
        how = (
            f"{e.least:,}: inputs at their largest where the weight is negative, at their least elsewhere. {e.most:,}: at their"
            " largest where it is positive."
        )
    if w.network is None:
        whose = (
            "They are inputs of the layer alone: the layers before it may never produce them, and the proof does not count on"
            " that."
        )
    elif w.network == (e.least, e.most):
        whose = "The layer reads the network's input itself, so that inputs of the network attain both."
    else:
        whose = (
            f"The layer reads the network's input itself, and inputs of the network attain {_span(w.network)} at most: a window"
            " at the edge holds pad codes."
        )
    yield f"{how} {whose}"
    if w.file:
        after = f"; broadaxe simulate BUILD --data {w.file} -o y.npz runs them" if w.network is not None else ""
        yield f"Written to {w.file}, the low end first: {', '.join(w.arrays)}{after}."


def _run(e: Explanation, width: int) -> list[str]:
    """What the C++ did at both ends."""
    run = e.run
    if run is None:
        return []
    coded = run.requantizer is not None
    header = ("", "low end", *(["code"] if coded else []), "high end", *(["code"] if coded else []))

    def row(label: str, low: Reached, high: Reached) -> tuple[str, ...]:
        cells = [label]
        for end, right in zip((low, high), run.expected, strict=True):
            cells.append(f"{end.sum:,}{'' if end.sum == right.sum else ' !'}")
            if coded:
                cells.append(f"{end.code:,}{'' if end.code == right.code else ' !'}")
        return tuple(cells)

    def driven(label: str, what: Driven) -> tuple[str, ...]:
        return row(f"{_bits(what.bits)}, {label}", what.low, what.high)

    rows = [header, row("arithmetic", *run.expected), driven("as declared", run.declared)]
    if run.narrower is not None:
        rows.append(driven("recompiled", run.narrower))
    told = f", start included; codes of {run.requantizer}" if coded else ", start included"
    title = f"The generated C++ of {e.layer} alone, channel {e.channel}{told}"
    lines = ["", *textwrap.wrap(title, width, subsequent_indent="  "), *_table(rows, "lrrrr"[: len(header)])]
    if run.narrower is None:
        return [*lines, "  A channel of one bit has no narrower accumulator."]
    told = "as declared it holds both sums, narrower it does not" if run.holds else "NOT as it should be"
    return [*lines, f"  ! differs: {told}."]


# Words and numbers


def _bits(count: int) -> str:
    return _count(count, "bit")


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _span(ends: Sequence[int]) -> str:
    return f"{ends[0]:,}" if ends[0] == ends[1] else f"{ends[0]:,} to {ends[1]:,}"


def _pair(ends: Sequence[int]) -> tuple[str, str]:
    return f"{ends[0]:,}", f"{ends[1]:,}"


def _table(rows: Sequence[Sequence[str]], sides: str) -> list[str]:
    """Columns two spaces apart; `sides` has l or r of each."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(sides))]
    padded = (
        [cell.ljust(w) if side == "l" else cell.rjust(w) for cell, w, side in zip(row, widths, sides, strict=True)]
        for row in rows
    )
    return [("  " + "  ".join(cells)).rstrip() for cells in padded]
