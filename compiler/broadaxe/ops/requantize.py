"""Requantize: from accumulators to the codes of the next quantizer, exactly as the model's own real arithmetic says.

The operator keeps the exact chain (scales, bias, BatchNormalization, Relu, ...) that it stands for, and the form in which
hardware computes it. Its bounds come from the chain alone, so a form can be exchanged for any other that is proven equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from broadaxe.chain import (
    ROUNDINGS,
    Affine,
    Chain,
    Clamp,
    Ending,
    Ints,
    Normalize,
    PerChannel,
    Quantizer,
    Snap,
    Thresholded,
    codes,
    direction_on,
    read_as,
    spread,
    then,
)
from broadaxe.errors import GraphError, ProofError, UnsupportedModelError
from broadaxe.functions import Combined, Function, Leaky, Power
from broadaxe.hardware import Resources
from broadaxe.ir import WIDEST, Bounds, Example, IntArray, Lanes, OnnxBuilder, Op, Shape, Value, constant_array, hull
from broadaxe.ops import costs
from broadaxe.ops.forms import Constant as ConstantForm
from broadaxe.ops.forms import Form, MultiplyShift, Shift, Table, Thresholds, ThresholdSearch
from broadaxe.ops.importing import (
    Array,
    Constant,
    GraphBuilder,
    Grid,
    ModelNode,
    Scaled,
    Tensor,
    imports,
    per_channel,
    printable,
)
from broadaxe.ops.window_max import emit_pool
from broadaxe.staircase import staircase, tabulate
from broadaxe.types import Interval, IntType

MAX_BITS = 16


@dataclass(frozen=True, eq=False)
class Requantize(Op):
    """y = quantizer(chain(x)) per channel of the last axis.

    Attributes:
        chain: exact function from the input's integers to reals.
        quantizer: from reals to codes.
        form: how hardware computes it; None until one is chosen and proven.
        comparisons: exact comparisons that proved the form, 0 before.
    """

    kind = "requantize"
    chain: Chain
    quantizer: Ending
    form: Form | None = None
    comparisons: int = 0

    def shape(self, *inputs: Value) -> Shape:
        return inputs[0].shape

    def bounds(self, *inputs: Value) -> Bounds:
        """Codes at both ends of each channel, between which everything lies; of all integers where the chain turns."""
        found = self.table(inputs[0].bounds) if self.turns(inputs[0].bounds) else self._at_ends(inputs[0])
        return tuple(map(Interval, found.min(axis=1).tolist(), found.max(axis=1).tolist()))

    def turns(self, domain: Bounds) -> bool:
        """Whether a channel is not known to rise, to fall or to be constant on its domain."""
        return None in direction_on(self.chain, domain)

    def table(self, domain: Bounds) -> Ints:
        """Exact codes on the whole domain; see `tabulate`."""
        return tabulate(self.chain, self.quantizer, domain)

    def _at_ends(self, x: Value) -> Ints:
        return self.codes(np.stack(x.ends(), axis=1))

    def dtype(self, *inputs: Value) -> IntType:
        return self.quantizer.dtype

    @property
    def codes_of_any(self) -> Interval:
        return Interval(self.quantizer.lo, self.quantizer.hi)

    def codes(self, x: Ints) -> Ints:
        """Exact codes of x, shape (channels, points)."""
        return codes(self.chain, self.quantizer, x.astype(object))

    def chosen(self) -> Form:
        if self.form is None:
            raise GraphError("requantize: no form has been chosen; run the pass choose_requantizers")
        return self.form

    def moved(self, offset: Ints) -> Requantize:
        """The same codes for inputs that carry `offset` (shape (channels,)) on top; the form has to be chosen anew."""
        return self.read_as((Fraction(1),), tuple(Fraction(-v) for v in offset.tolist()))

    def read_as(self, scale: PerChannel, shift: PerChannel) -> Requantize:
        """The same codes for inputs y that stand for scale * y + shift; the form has to be chosen anew."""
        return replace(self, chain=read_as(self.chain, scale, shift), form=None, comparisons=0)

    def reference(self, *inputs: IntArray) -> IntArray:
        return self.chosen().evaluate(inputs[0])

    def render(self, builder: OnnxBuilder, inputs: Sequence[str], values: Sequence[Value]) -> str:
        return self.chosen().render(builder, inputs[0])

    def witnesses(self, inputs: Sequence[Value], channel: int) -> tuple[list[IntArray], list[IntArray]] | None:
        (x,) = inputs
        lo, hi = x.ends()
        if self.turns(x.bounds):
            row, inside = self.table(x.bounds)[channel], x.bounds[channel]
            row = row[inside.lo - x.hull.lo : inside.hi - x.hull.lo + 1]
            low, high = (np.full_like(lo, inside.lo + int(at)) for at in (row.argmin(), row.argmax()))
            low, high = (np.clip(end, lo, hi) for end in (low, high))
        else:
            first, last = self._at_ends(x)[channel]
            low, high = (lo, hi) if first <= last else (hi, lo)
        return [np.broadcast_to(low, x.shape)], [np.broadcast_to(high, x.shape)]

    def stages(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> int:
        """A search takes a memory and a comparison for each bit of its codes, the other forms take less."""
        return 12 + 3 * output.dtype.width

    def template_context(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Mapping[str, Any]:
        form = self.chosen()
        return {
            "lanes": lanes.read,
            "channels": output.channels,
            "count": output.size // lanes.read,
            "form": form.name,
            **form.template_context(lanes.read),
        }

    def resources(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Resources:
        """Its form, in each lane, and its counters."""
        (x,) = inputs
        words = output.size // lanes.read
        control = costs.counters(words, output.channels // lanes.read)
        return control + self.chosen().resources(x.dtype.width, output.dtype.width, lanes.read)

    @classmethod
    def examples(cls) -> Iterable[Example]:
        third, half = Fraction(1, 3), Fraction(1, 2)
        x = Value("x", (2, 4), IntType(8, signed=True), tuple(Interval(-90 + 10 * c, 100 - c) for c in range(4)))
        gains = (Affine((third, -half, Fraction(0), Fraction(7, 5)), (Fraction(1), Fraction(-2), third, Fraction(0))),)
        unsigned = Quantizer((Fraction(3, 2),), (Fraction(0),), 0, 15)
        yield _example("thresholds, mixed signs", gains, unsigned, x)
        relu = (*gains, Clamp(Fraction(0), Fraction(20)))
        yield _example("relu, signed codes with a zero point", relu, Quantizer((half,), (Fraction(3),), -8, 7), x)
        norm = (Normalize((half, -third, half, half), (Fraction(3),), (Fraction(2),), (Fraction(1, 7),)),)
        yield _example("normalization", norm, Quantizer((Fraction(3),), (Fraction(0),), -7, 7), x)
        yield _example("bipolar", norm, Quantizer((half,), (Fraction(0),), 0, 1, bipolar=True), x)
        rows = tuple((Fraction(7 - c, 2), Fraction(-3), Fraction(c, 3), Fraction(20)) for c in range(4))
        yield _example("thresholds of the model's own", gains, Thresholded(rows, scale=Fraction(-2), shift=half), x)
        yield _example("sign", gains, Thresholded(((Fraction(0),),), ((Fraction(0),),), shift=Fraction(-1)), x)
        quarter = (Affine((Fraction(1, 4),), (Fraction(1, 2), Fraction(0), Fraction(-3), Fraction(1))),)
        even = Shift(constant_array([2, 0, -12, 4]), 2, True, -8, 7, x.hull)
        yield Example("shift, half to even", cls(quarter, Quantizer((Fraction(1),), (Fraction(0),), -8, 7), even), (x,))
        down = Shift(constant_array([2, 0, -12, 4]), 2, False, 0, 15, x.hull)
        floor = Quantizer((Fraction(1),), (Fraction(0),), 0, 15, "FLOOR")
        yield Example("shift, rounding down", cls(quarter, floor, down), (x,))
        yield from cls._form_examples(gains, unsigned, x)
        yield from cls._turning_examples()
        flat = Quantizer((Fraction(1000),), (Fraction(0),), 0, 15)
        yield Example("constant", cls(gains, flat, ConstantForm(constant_array([0, 0, 0, 0]))), (x,))

    @classmethod
    def _form_examples(cls, chain: Chain, quantizer: Quantizer, x: Value) -> Iterable[Example]:
        """The same staircase in every general form."""
        plain = Thresholds.of(staircase(chain, quantizer, x.bounds))
        search = ThresholdSearch(plain.base, plain.direction, plain.thresholds, plain.domain)
        yield Example("threshold search", cls(chain, quantizer, search), (x,))
        points = np.arange(plain.domain.lo, plain.domain.hi + 1)[:, None] * np.ones(x.channels, dtype=np.int64)
        table = Table(constant_array(plain.evaluate(points).T), plain.domain)
        yield Example("table", cls(chain, quantizer, table), (x,))
        slopes = (Affine((Fraction(3, 8), Fraction(-5, 8), Fraction(0), Fraction(1, 8)), (Fraction(1, 4),)),)
        factors, biases = constant_array([3, -5, 0, 1]), constant_array([2, 2, 2, 2])
        even = MultiplyShift(factors, biases, 3, True, -8, 7, x.hull)
        signed = Quantizer((Fraction(1),), (Fraction(0),), -8, 7)
        yield Example("multiply-shift, half to even", cls(slopes, signed, even), (x,))
        down = MultiplyShift(factors, biases, 3, False, -8, 7, x.hull)
        yield Example("multiply-shift, rounding down", cls(slopes, replace(signed, rounding="FLOOR"), down), (x,))

    @classmethod
    def _turning_examples(cls) -> Iterable[Example]:
        """Chains that rise and fall, so that only a table holds their codes."""
        x = Value("x", (2, 4), IntType(6, signed=True), tuple(Interval(-30 + 3 * c, 31 - c) for c in range(4)))
        start, half = (
            Affine((Fraction(1, 8), Fraction(-1, 5), Fraction(1, 7), Fraction(3)), (Fraction(0),)),
            Fraction(1, 2),
        )
        leaky = Leaky((Fraction(-1), -half, Fraction(1, 10), Fraction(0)))
        silu = Combined("Mul", (), (Function("sigmoid"),))
        quantizer = Quantizer((Fraction(1, 16),), (Fraction(0),), -16, 15)
        for label, step in (
            ("slopes", leaky),
            ("gelu", Function("gelu")),
            ("silu", silu),
            ("square", Power(Fraction(2))),
        ):
            op = cls((start, step), quantizer)
            yield Example(f"{label} that turn", replace(op, form=Table(op.table(x.bounds), x.hull)), (x,))


def _example(label: str, chain: Chain, quantizer: Ending, x: Value) -> Example:
    form = Thresholds.of(staircase(chain, quantizer, x.bounds))
    return Example(label, Requantize(chain, quantizer, form), (x,))


@imports("Quant", "IntQuant", "BipolarQuant")
def import_quant(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """A quantizer on an integer tensor: one Requantize, then the MaxPools that waited for it."""
    x = node.scaled(0)
    return requantized(graph, node, x, quantizer_of(graph, node, x))


def requantized(graph: GraphBuilder, node: ModelNode, x: Scaled, quantizer: Ending) -> Scaled:
    """x behind a quantizer with one row of constants per channel of x's value."""
    op = Requantize(x.chain, quantizer)
    try:
        out = graph.add(graph.fresh("quant"), op, [x.value], node.where, quantizer.affine)
    except (ProofError, UnsupportedModelError) as error:
        raise node.fail(str(error)) from None
    for pool in x.pools:
        out = emit_pool(graph, pool, out)
    return Scaled(out.name, x.index, (quantizer.affine,))


@imports("Trunc")
def import_trunc(graph: GraphBuilder, node: ModelNode) -> Tensor:
    """Trunc: round to the input's grid, half to even, then round again to a grid 2**k times as coarse.

    Version 1 (inputs x, scale, zero point, input bits, output bits) keeps the scale and does not clamp; version 2 (x, scale,
    zero point, input bits, output scale, output bits) has a scale of its own for the output and clamps.
    """
    x = node.scaled(0)
    if x.pools:
        raise node.fail("follows a MaxPool that has no Quant; put a Quant in between")
    scale = per_channel(graph, node, x, _positive(node, 1, "scale"), "scale")
    zero = per_channel(graph, node, x, node.floats(2, "zero point"), "zero point")
    rounding = _rounding(node, "FLOOR")
    bits_in, version = _bits(node, 3, 2 * MAX_BITS), 1 if len(node.inputs) < 6 else 2
    if version == 1:
        factor = Fraction(2) ** (bits_in - _bits(node, 4, 2 * MAX_BITS))
        out_scale, lo, hi = scale, -(1 << WIDEST - 2), 1 << WIDEST - 2
    else:
        ratio = _positive(node, 4, "output scale") / _positive(node, 1, "scale")
        exponents = np.round(np.log2(ratio))
        if (exponents != exponents.reshape(-1)[0]).any():
            raise node.fail("its scales have no one ratio; use one truncation for all channels")
        factor = Fraction(2) ** int(exponents.reshape(-1)[0])
        out_scale = per_channel(graph, node, x, _positive(node, 4, "output scale"), "output scale")
        full = IntType(_bits(node, 5, MAX_BITS), signed := bool(node.attribute("signed", 1))).range
        narrow = bool(node.attribute("narrow", 0))
        lo, hi = full.lo + (signed and narrow), full.hi - (narrow and not signed)
    coarse = Quantizer(tuple(s * factor for s in scale), tuple(z / factor for z in zero), lo, hi, rounding)
    chain = then(x.chain, Snap(scale, zero, "ROUND"))
    source = graph.values[x.value]
    if version == 1:  # nothing clamps, so the codes' range is what the proven bounds give
        made = hull(Requantize(chain, coarse).bounds(source))
        coarse = replace(coarse, lo=made.lo, hi=made.hi)
    s, z = spread(out_scale, coarse.zero_point if version == 2 else zero)
    affine = Affine(s, tuple(-a * b for a, b in zip(s, z, strict=True)))
    out = graph.add(graph.fresh("quant"), Requantize(chain, coarse), [source.name], node.where, affine)
    return Scaled(out.name, x.index, (affine,))


def _positive(node: ModelNode, position: int, role: str) -> Array:
    values = node.floats(position, role)
    if (values <= 0).any():
        raise node.fail(f"its {role} holds {values.min():g}; scales have to be positive")
    return values


def _bits(node: ModelNode, position: int, most: int) -> int:
    width = node.floats(position, "bit width")
    if width.size != 1 or float(width.item()) not in range(1, most + 1):
        raise node.fail(f"its bit width is {width.reshape(-1)[:3].tolist()}; one integer from 1 to {most} is supported")
    return int(width.item())


def _rounding(node: ModelNode, default: str) -> str:
    mode = str(node.attribute("rounding_mode", default)).upper()
    mode = {"HALF_EVEN": "ROUND"}.get(mode, mode)
    if mode not in ROUNDINGS:
        raise node.fail(f"its rounding mode {printable(mode)!r} is unknown; use one of {', '.join(ROUNDINGS)}")
    return mode


def quantizer_of(graph: GraphBuilder, node: ModelNode, x: Scaled) -> Quantizer:
    """The quantizer that a Quant node describes, with one scale and zero point per channel of x's value."""
    spec = quant_attributes(node)
    scale = per_channel(graph, node, x, spec.scale, "scale")
    zero_point = per_channel(graph, node, x, spec.zero_point, "zero point")
    return Quantizer(scale, zero_point, spec.lo, spec.hi, spec.rounding, spec.bipolar)


@dataclass(frozen=True, eq=False)
class QuantAttributes:
    """Inputs and attributes of a Quant or BipolarQuant node, checked; scale and zero point as float64 arrays."""

    scale: Array
    zero_point: Array
    bits: int
    signed: bool
    lo: int
    hi: int
    rounding: str
    bipolar: bool


def quant_attributes(node: ModelNode) -> QuantAttributes:
    """Read and check a Quant node (QONNX: y = round(clip(x / scale + zero_point)), real = (y - zero_point) * scale)."""
    scale = _positive(node, 1, "scale")
    if node.op_type == "BipolarQuant":
        return QuantAttributes(scale, np.zeros(()), 1, True, 0, 1, "ROUND", True)
    zero_point, bits = node.floats(2, "zero point"), _bits(node, 3, MAX_BITS)
    if (np.abs(zero_point) >= 1 << 20).any():
        raise node.fail(f"its zero point holds {np.abs(zero_point).max():g}; magnitudes below 2**20 are supported")
    signed, narrow = bool(node.attribute("signed", 1)), bool(node.attribute("narrow", 0))
    rounding = _rounding(node, "ROUND")
    if signed and bits == 1:
        return QuantAttributes(scale, zero_point, 1, True, 0, 1, rounding, True)
    full = IntType(bits, signed).range
    lo, hi = (full.lo + (signed and narrow), full.hi - (narrow and not signed))
    return QuantAttributes(scale, zero_point, bits, signed, lo, hi, rounding, False)


def quantize_constant(node: ModelNode) -> Constant:
    """A Quant on a constant, in the float32 arithmetic that onnxruntime and qonnx use; keeps the integers behind it."""
    spec = quant_attributes(node)
    x = node.constant(0, "input").array.astype(np.float32)
    if not np.isfinite(x).all():
        raise node.fail("its constant input holds values that are not finite numbers; repair the model")
    scale, zero = spec.scale.astype(np.float32), spec.zero_point.astype(np.float32)
    y = x / scale + zero
    codes = np.where(y >= 0, 1.0, -1.0) if spec.bipolar else _round(np.clip(y, spec.lo, spec.hi), spec.rounding)
    shifted = codes.astype(np.float32) - zero
    integers = shifted.astype(np.int64)
    grid = Grid(integers, np.broadcast_to(scale, integers.shape)) if (integers == shifted).all() else None
    return Constant((shifted * scale).astype(np.float32), grid, spec.bits, spec.signed)


def _round(y: Array, mode: str) -> Array:
    match mode:
        case "ROUND":
            return np.asarray(np.round(y))
        case "CEIL":
            return np.asarray(np.ceil(y))
        case "FLOOR":
            return np.asarray(np.floor(y))
        case "DOWN":
            return np.asarray(np.trunc(y))
        case "UP":
            return np.asarray(np.sign(y) * np.ceil(np.abs(y)))
        case "HALF_UP":
            return np.asarray(np.sign(y) * np.floor(np.abs(y) + np.float32(0.5)))
        case _:
            return np.asarray(np.sign(y) * np.ceil(np.abs(y) - np.float32(0.5)))
