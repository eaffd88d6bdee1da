"""The audit: every accumulator that a model or a configuration declares, proven wide enough or shown to overflow."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import onnx

from broadaxe.auditing import finn, hls4ml
from broadaxe.auditing.declared import fraction_bits, number
from broadaxe.auditing.design import Design, Layer, design
from broadaxe.auditing.execute import Change, shown
from broadaxe.auditing.inputs import model_inputs
from broadaxe.auditing.reach import exact_sums, reading
from broadaxe.auditing.registers import Declaration, inexact, partial_spans, spans
from broadaxe.auditing.search import Limits, search, variants
from broadaxe.build import load_model, named
from broadaxe.config import input_type, read_mapping
from broadaxe.data import gathered, read_data
from broadaxe.errors import RequestError
from broadaxe.ir import Bounds, IntArray
from broadaxe.ops.importing import Array, printable
from broadaxe.reference import run
from broadaxe.types import Interval

if TYPE_CHECKING:
    from torch import nn

Verdict: TypeAlias = Literal["proven", "overflows", "may overflow"]
SECONDS = 10.0
ENDS, VARIANTS = 4, 12
"""Of a direct layer, and of any: inputs that are run to find one whose overflow changes an output."""


@dataclass(frozen=True, eq=False)
class Overflow:
    """A sum that leaves its accumulator.

    Attributes:
        inputs: arrays for the model's inputs, batch of 1; empty where none was found, and then `operands` is the witness.
        operands: the layer's own operands in canonical order (kh, kw, c), one for each product, in codes.
        channel: of the layer's output.
        position: in the layer's output, channel left out; empty for a vector.
        true_sum: real value that the accumulator should have; of products rounded to its step where it rounds.
        held: real value that it has.
        sums: how many sums leave the accumulator for these inputs.
        change: first element of a model output that changes when the accumulator holds what it holds.
        remark: what is not known of this, one sentence, or "".
    """

    inputs: Mapping[str, Array]
    operands: tuple[int, ...]
    channel: int
    position: tuple[int, ...]
    true_sum: Fraction
    held: Fraction
    sums: int
    change: Change | None
    remark: str = ""


@dataclass(frozen=True, eq=False)
class AuditedAccumulator:
    """One declared accumulator and what was found.

    Attributes:
        layer: the model's node, `name (Operator)`.
        declared, bits: its type as declared, and the width of that.
        where: what declares it.
        needed, needed_bits: the narrowest type of the same step that holds every sum.
        least, greatest: exact real ends of the sum, over all channels and all inputs inside their proven bounds.
        verdict: proven; overflows, by an input of the network; or may overflow, by what the layer may read.
        rounds: what the type cannot represent, one sentence; "" where every product and the start are exact in it.
        notes: what is wrong with other parts of the declaration.
        overflow: what leaves the accumulator, unless it is proven.
    """

    layer: str
    declared: str
    bits: int
    where: str
    needed: str
    needed_bits: int
    least: Fraction
    greatest: Fraction
    verdict: Verdict
    rounds: str = ""
    notes: tuple[str, ...] = ()
    overflow: Overflow | None = None

    @property
    def ok(self) -> bool:
        """Proven, and every product exact."""
        return self.verdict == "proven" and not self.rounds and not self.notes

    @property
    def spare_bits(self) -> int:
        """Bits that could be saved; negative where bits are missing."""
        return self.bits - self.needed_bits


@dataclass(frozen=True, eq=False)
class Audit:
    """What was found of every declared accumulator.

    Attributes:
        model: the model's name or file.
        tool: whose declarations were read, FINN or hls4ml.
        accumulators: in the order of the network.
        undeclared: multiply-accumulate nodes that nothing declares an accumulator for.
        unjudged: (node, reason) of declared accumulators that the tool's arithmetic is not known for.
        unknown: entries of the configuration that match no node.
    """

    model: str
    tool: str
    accumulators: tuple[AuditedAccumulator, ...]
    undeclared: tuple[str, ...] = ()
    unjudged: tuple[tuple[str, str], ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every declared accumulator is proven."""
        return all(entry.ok for entry in self.accumulators) and not self.unjudged

    @property
    def witness(self) -> Mapping[str, Array]:
        """Inputs of the first overflow that an input of the network shows; empty if there is none."""
        shows = (entry.overflow.inputs for entry in self.accumulators if entry.overflow is not None)
        return next((inputs for inputs in shows if inputs), {})

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; rationals are text, arrays are left to `witness`."""
        return {
            "model": self.model,
            "tool": self.tool,
            "ok": self.ok,
            "accumulators": [_plain(entry) for entry in self.accumulators],
            "undeclared": list(self.undeclared),
            "unjudged": [{"layer": layer, "reason": reason} for layer, reason in self.unjudged],
            "unknown": list(self.unknown),
        }

    def __str__(self) -> str:
        from broadaxe.auditing.table import text

        return text(self)

    def __repr__(self) -> str:
        proven = sum(entry.ok for entry in self.accumulators)
        return f"Audit({self.tool}, {proven} of {len(self.accumulators)} accumulators proven)"

    def _repr_html_(self) -> str:
        from broadaxe.auditing.table import AuditTable
        from broadaxe.notebook import html

        return html(AuditTable(self))


def _plain(entry: AuditedAccumulator) -> dict[str, Any]:
    out = {name: getattr(entry, name) for name in ("layer", "declared", "bits", "where", "needed", "needed_bits")}
    out |= {"least": str(entry.least), "greatest": str(entry.greatest), "verdict": entry.verdict}
    out |= {"rounds": entry.rounds, "notes": list(entry.notes), "spare_bits": entry.spare_bits, "overflow": None}
    if entry.overflow is not None:
        found = entry.overflow
        change = found.change
        out["overflow"] = {
            "network_input": bool(found.inputs),
            "channel": found.channel,
            "position": list(found.position),
            "true_sum": str(found.true_sum),
            "held": str(found.held),
            "sums": found.sums,
            "operands": list(found.operands),
            "change": None if change is None else {**vars(change), "index": list(change.index)},
            "remark": found.remark,
        }
    return out


@dataclass(frozen=True)
class _Request:
    """How hard to look for inputs, and what to try first."""

    first: Mapping[str, IntArray] | None
    rows: Mapping[str, Array]
    seconds: float
    seed: int
    said: Callable[[str], None] = field(repr=False)


def audit(
    model: onnx.ModelProto | str | os.PathLike[str] | nn.Module,
    hls4ml: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    *,
    inputs: Mapping[str, str] | None = None,
    data: Any = None,
    example_input: object | None = None,
    seconds: float = SECONDS,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Audit:
    """Prove every declared accumulator of a design wide enough, or find an input that overflows it.

    Args:
        model: a QONNX or FINN model or file, or a Brevitas module with an `example_input`.
        hls4ml: an hls4ml configuration or its YAML file; without one, accumulators are what the model declares in FINN's terms.
        inputs: integer types of inputs that carry integers, such as {"image": "uint8"}.
        data: real inputs that are tried first, batch first: an array, arrays by input name, or a .npz, .npy or folder.
        example_input: a tensor of the module's input shape, batch first.
        seconds: for the search of one layer that does not read the network's inputs directly.
        seed: of that search.
        progress: called with what is being done.

    Example:
        >>> found = audit(export_finn("model.onnx"))
        >>> found
        Audit(FINN, 3 of 3 accumulators proven)

    Returns:
        A verdict for every declared accumulator; `ok` tells whether all are proven, `witness` is an input that overflows one.

    Raises:
        RequestError: nothing is declared, or a declaration, file or option is wrong.
        UnsupportedModelError: the model cannot be lowered to integers.
    """
    said = progress or (lambda _: None)
    if not seconds >= 0:
        raise RequestError(f"seconds: is {seconds}; give a number from 0 up")
    said("reading the model")
    loaded, stem = load_model(model, example_input)
    lowered = design(loaded, {name: input_type(name, kind) for name, kind in (inputs or {}).items()}, said)
    rows, first = _first(lowered, data)
    request = _Request(first, rows, seconds, seed, said)
    declared, unjudged, unknown, undeclared = _declared(lowered, hls4ml)
    tool = "FINN" if hls4ml is None else "hls4ml"
    if not declared and not unjudged and hls4ml is not None:
        absent = f", no node of the model has the name {', '.join(unknown)}" if unknown else ""
        raise RequestError(
            f"{printable(stem)}: the hls4ml configuration gives no layer an accumulator{absent}; give Model: Precision, or"
            " Precision: accum to layers in LayerName"
        )
    if not declared and not unjudged:
        raise RequestError(
            f"{printable(stem)}: declares no accumulator; give accDataType to its nodes, finn_datatype to their outputs, or an"
            " hls4ml configuration"
        )
    found = []
    for layer, declaration in declared:
        said(f"auditing {layer.name}")
        found.append(_judged(lowered, layer, declaration, request))
    return Audit(printable(stem), tool, tuple(found), tuple(undeclared), tuple(unjudged), tuple(unknown))


def _first(lowered: Design, data: Any) -> tuple[dict[str, Array], Mapping[str, IntArray] | None]:
    """Rows that are tried first, and their codes."""
    if data is None:
        return {}, None
    names = lowered.host.inputs
    if isinstance(data, str | os.PathLike):
        rows = read_data(Path(data), names)
    else:
        rows = named(gathered(data, what="data"), names)
    codes = lowered.host.codes(rows)
    return lowered.host.feeds(rows), codes


Declared = list[tuple[Layer, Declaration]]


def _declared(
    lowered: Design, given: Mapping[str, Any] | str | os.PathLike[str] | None
) -> tuple[Declared, list[tuple[str, str]], list[str], list[str]]:
    """Declarations by layer; what cannot be judged and why; unknown entries; layers without a declaration."""
    declared: Declared = []
    unjudged: list[tuple[str, str]] = []
    undeclared: list[str] = []
    if given is None:
        tensors = finn.annotated(lowered.model)
        for layer in lowered.layers:
            declaration = finn.declaration(lowered, layer, tensors)
            if declaration is not None:
                declared.append((layer, declaration))
            elif not layer.pools:
                undeclared.append(layer.name)
        return declared, unjudged, [], undeclared
    configuration = configured(given)
    names = hls4ml.Names.of(lowered, configuration)
    for layer in lowered.layers:
        try:
            declaration = hls4ml.declaration(lowered, layer, configuration, names)
        except hls4ml.NotAuditedError as reason:
            unjudged.append((layer.name, str(reason)))
            continue
        if declaration is None:
            undeclared.append(layer.name)
        else:
            declared.append((layer, declaration))
    return declared, unjudged, names.unknown(lowered, configuration), undeclared


def configured(given: Mapping[str, Any] | str | os.PathLike[str]) -> hls4ml.Configuration:
    """An hls4ml configuration, from its YAML file or as a mapping."""
    if isinstance(given, Mapping):
        return hls4ml.Configuration.of(given, "hls4ml configuration")
    return hls4ml.Configuration.of(read_mapping(Path(given)), str(given))


def _judged(lowered: Design, layer: Layer, declared: Declaration, request: _Request) -> AuditedAccumulator:
    """The verdict on one accumulator."""
    kind, register = declared.type, declared.register
    sums = exact_sums(lowered.graph, layer)
    first = inexact(layer, register, kind)
    exact = first is None
    held = spans(layer, declared, sums, exact)
    if kind.saturates:
        held = tuple(a | b for a, b in zip(held, partial_spans(layer, declared, exact), strict=True))
    whole = Interval(min(s.lo for s in held), max(s.hi for s in held))
    ends = [register.gain[c] * q + register.offset[c] for c, s in enumerate(sums) for q in (s.lo, s.hi)]
    bits, needed = kind.narrowest(whole)
    verdict: Verdict = "proven"
    overflow = None
    if whole not in kind.allowed:
        verdict, overflow = _broken(lowered, layer, declared, spans(layer, declared, sums, exact), request)
    return AuditedAccumulator(
        layer.name,
        kind.text,
        kind.adder.width,
        declared.where,
        needed,
        bits,
        min(ends),
        max(ends),
        verdict,
        "" if first is None else _rounds(layer, declared, first.channel, first.product, first.value),
        declared.notes,
        overflow,
    )


def _rounds(layer: Layer, declared: Declaration, channel: int, product: int | None, value: Fraction) -> str:
    what = f"the start of channel {channel}" if product is None else f"product {product} of channel {channel}"
    needed = fraction_bits(value)
    kind = printable(declared.type.text)
    if needed is None:
        return (
            f"{what}, {number(value)}, is no multiple of {number(declared.type.step)} ({kind}) nor of any power of two"
        )
    return (
        f"{what}, {number(value)}, needs {needed} bits behind the point; {kind} has {fraction_bits(declared.type.step)}"
    )


def _broken(
    lowered: Design, layer: Layer, declared: Declaration, reached: Bounds, request: _Request
) -> tuple[Verdict, Overflow]:
    """An input that overflows the accumulator, or the layer's own witness."""
    kind, register = declared.type, declared.register
    risky = sorted(
        (
            (beyond, channel, (register.gain[channel] > 0) == upper)
            for channel, span in enumerate(reached)
            for upper, beyond in ((True, span.hi - kind.allowed.hi), (False, kind.allowed.lo - span.lo))
            if beyond > 0
        ),
        reverse=True,
    )
    if not risky:
        return "may overflow", _on_the_way(layer, declared)
    order = [(channel, high) for _, channel, high in risky]
    remark, silent = "", None
    limits = [register.limits(kind, channel) for channel in range(layer.op.outputs)]
    deadline = time.monotonic() + request.seconds
    for codes, tried in _candidates(lowered, layer, limits, order, request):
        seen = shown(lowered, layer, declared, codes)
        if seen is None:
            remark = remark or f"{tried} inputs were tried"
            continue
        feeds = _rows(lowered, codes, request) or model_inputs(lowered, codes)
        if feeds is None:
            remark = "codes that overflow it were found, but no model input that quantizes to them"
            continue
        found = Overflow(
            feeds,
            _operands(lowered, layer, codes, seen.channel, seen.position),
            seen.channel,
            seen.position,
            kind.origin + kind.step * seen.content,
            kind.origin + kind.step * seen.held,
            seen.overflowing,
            seen.change,
            seen.unknown or "",
        )
        if found.change is not None or found.remark:
            return "overflows", found
        silent = silent or found
        if time.monotonic() > deadline:
            break
    if silent is not None:
        return "overflows", silent
    channel, high = order[0]
    return "may overflow", _local(layer, declared, channel, high, remark)


def _candidates(
    lowered: Design, layer: Layer, limits: Limits, order: list[tuple[int, bool]], request: _Request
) -> Iterator[tuple[Mapping[str, IntArray], int]]:
    """Graph inputs, batch of 1, that may overflow a layer, and how many were tried to find them.

    Those that come first overflow it most; the others are for an overflow that changes no output.
    """
    graph, seed = lowered.graph, request.seed
    if request.first is not None:
        found = search(graph, layer, limits, (), request.first, seconds=0, seed=seed)
        yield found.codes, found.tried
    direct = reading(graph, layer)
    if direct is not None:
        ends = [direct.attaining(channel, high) for channel, high in order[:ENDS]]
        yield from ((codes, 1) for codes in ends)
        best: Mapping[str, IntArray] = ends[0]
    else:
        found = search(graph, layer, limits, order, request.first, seconds=request.seconds, seed=seed)
        yield found.codes, found.tried
        best = found.codes
    yield from ((codes, 1) for codes in variants(graph, layer, limits, best, count=VARIANTS, seed=seed))


def _rows(lowered: Design, codes: Mapping[str, IntArray], request: _Request) -> dict[str, Array] | None:
    """The row of the data that has these codes."""
    if request.first is None:
        return None
    same = np.ones(len(next(iter(request.first.values()))), dtype=bool)
    for name, x in request.first.items():
        same &= (x == codes[name]).reshape(len(x), -1).all(axis=1)
    at = np.flatnonzero(same)
    return {name: x[at[0] : at[0] + 1] for name, x in request.rows.items()} if len(at) else None


def _operands(
    lowered: Design, layer: Layer, codes: Mapping[str, IntArray], channel: int, position: tuple[int, ...]
) -> tuple[int, ...]:
    """What the layer multiplies at a position."""
    source = layer.node.inputs[0]
    x = codes[source] if source in codes else run(lowered.graph, codes, every_value=True)[source]
    index = layer.op.operand_indices()
    return tuple(int(v) for v in x[0][position][index[channel if len(index) > 1 else 0]])


def _local(layer: Layer, declared: Declaration, channel: int, high: bool, remark: str) -> Overflow:
    """The layer's own witness: operands inside their proven bounds that attain an end of a channel's sum."""
    kind, register = declared.type, declared.register
    lo, hi = layer.op.operands(layer.x)
    row = channel if len(lo) > 1 else 0
    weights = layer.op.weights[channel] * (1 if high else -1)
    operands = np.where(weights > 0, hi[row], lo[row])
    q = int((layer.op.weights[channel] * operands).sum())
    true = register.gain[channel] * q + register.offset[channel]
    held = kind.origin + kind.step * kind.hold(int(register.content(kind, channel, q) // 1))
    return Overflow({}, tuple(operands.tolist()), channel, (), true, held, 1, None, remark)


def _on_the_way(layer: Layer, declared: Declaration) -> Overflow:
    """No final sum leaves the type, but a partial sum of a saturating accumulator may."""
    kind = declared.type
    reached = partial_spans(layer, declared, inexact(layer, declared.register, kind) is None)
    beyond = [max(s.hi - kind.allowed.hi, kind.allowed.lo - s.lo) for s in reached]
    channel = beyond.index(max(beyond))
    high = reached[channel].hi > kind.allowed.hi
    n = reached[channel].hi if high else reached[channel].lo
    upwards = high == (declared.register.gain[channel] > 0)
    local = _local(layer, declared, channel, upwards, "a partial sum may leave it, in some order of the products")
    return replace(local, true_sum=kind.origin + kind.step * n, held=kind.origin + kind.step * kind.hold(n))
