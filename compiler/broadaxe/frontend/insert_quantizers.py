"""Float ONNX model -> QONNX model: a Quant on every activation and weight that hardware computes with.

Weights are rounded to nearest with a scale per output channel; a solver that reads the result may choose better ones.
Activations get one scale per tensor, from calibration data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import get_args

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from broadaxe.errors import RequestError, UnsupportedModelError
from broadaxe.frontend.calibrate import BINS, Array, Observed, Samples, observe
from broadaxe.frontend.placement import LINEAR, Placement, Site, fixed_scale, is_quantizer_output, place
from broadaxe.frontend.scales import Member, Ranges, Scales, group_scale, weight_scale
from broadaxe.frontend.signs import never_negative
from broadaxe.frontend.standard import attribute
from broadaxe.frontend.wiring import Wiring, drop_unused, label, prepared, shown, where

DOMAIN = "qonnx.custom_op.general"
MOST_BITS = 16


@dataclass(frozen=True)
class LayerBits:
    """Bit widths of the nodes whose name a pattern matches; None keeps what the settings say otherwise.

    Attributes:
        weight_bits: of a linear operator's weights.
        act_bits: of what the node reads. Readers that share an activation get the widest that one of them asks for.
    """

    weight_bits: int | None = None
    act_bits: int | None = None


@dataclass(frozen=True)
class QuantizerSettings:
    """How a float model is quantized.

    Attributes:
        weight_bits: of weights, 1 to 16; 1 means the codes -1 and 1.
        act_bits: of activations, 2 to 16.
        input_bits: of what the host sends, 2 to 16.
        first_weight_bits: weights of linear operators that no other one precedes; None = weight_bits.
        last_bits: weights of linear operators that no other one follows; None = weight_bits.
        ranges: `max` covers everything observed, `percentile` that share of magnitudes, `mse` has least squared error.
        percentile: above 0, up to 100.
        scales: of activations; `pow2` makes them powers of two, rounded up except for `mse`, which tries.
        unsigned_inputs: take an input as never negative where all its calibration data are >= 0. This is the one place
            where data and not the graph decide: later inputs below 0 are clipped to 0. With False, inputs are signed
            unless their type is unsigned.
        layers: bit widths by pattern of node names (fnmatch, as in `block1.*`); of several matches the last one counts.
    """

    weight_bits: int = 4
    act_bits: int = 8
    input_bits: int = 8
    first_weight_bits: int | None = None
    last_bits: int | None = None
    ranges: Ranges = "max"
    percentile: float = 99.99
    scales: Scales = "float"
    unsigned_inputs: bool = True
    layers: Mapping[str, LayerBits] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("weight_bits", "first_weight_bits", "last_bits"):
            _check_bits(name, getattr(self, name), 1, optional=name != "weight_bits")
        for name in ("act_bits", "input_bits"):
            _check_bits(name, getattr(self, name), 2)
        for name, choices in (("ranges", get_args(Ranges)), ("scales", get_args(Scales))):
            if getattr(self, name) not in choices:
                raise RequestError(
                    f"settings: {name}: {getattr(self, name)!r} is not allowed; use one of {', '.join(choices)}"
                )
        if not isinstance(self.percentile, int | float) or not 0 < self.percentile <= 100:
            raise RequestError(
                f"settings: percentile: {self.percentile!r} is not allowed; use a number above 0, up to 100"
            )
        for pattern, bits in self.layers.items():
            if not isinstance(bits, LayerBits):
                raise RequestError(f"settings: layers: {pattern}: {bits!r} is not allowed; give LayerBits")
            _check_bits(f"layers: {pattern}: weight_bits", bits.weight_bits, 1, optional=True)
            _check_bits(f"layers: {pattern}: act_bits", bits.act_bits, 2, optional=True)


def layer_ends(model: onnx.ModelProto) -> tuple[set[str], set[str], set[str]]:
    """Names of a float model's linear operators that read what the host quantizes, of the first ones and of the last ones."""
    placement = place(Wiring(prepared(model)))
    heads = {label(node) for site in placement.sites.values() if site.head for node in site.readers}
    first, last = (
        {label(node) for node in placement.layers if node.output[0] in ends}
        for ends in (placement.first, placement.last)
    )
    return heads, first, last


def insert_quantizers(
    model: onnx.ModelProto, calibration: Mapping[str, Array] | Array, settings: QuantizerSettings | None = None
) -> onnx.ModelProto:
    """Quantize a float model as `settings` say.

    Quantized is what a Conv, Gemm, MatMul, Add or Sub of two activations, Concat, AveragePool, GlobalAveragePool or
    ReduceMean reads and what has no Quant yet, at the earliest tensor that only movers (MaxPool, Flatten, Transpose, ...)
    separate from the reader. Operators between an input and the first reader (Sub, Div, Transpose, Cast, ...) stay before
    the first Quant, and what follows the last reader stays float. A tensor is unsigned where its operators prove that it
    is never negative, else signed. Operands of an Add, Sub or Concat share one scale: the largest that one of them needs,
    or that of a Quant which one of them has.

    Args:
        model: float ONNX, or QONNX whose Quant nodes are kept. Not changed.
        calibration: samples by input name, batch first, real units; a single array for a single input.
        settings: default QuantizerSettings().

    Returns:
        The QONNX model. Nodes keep their names; a Quant is called `<node>.weight_quant` or `<node>.act_quant` after the
        node that it quantizes, `<input>.act_quant` for an input.

    Raises:
        RequestError: settings or calibration data do not fit the model.
        UnsupportedModelError: names what cannot be quantized. Both before anything is computed.
    """
    chosen = settings or QuantizerSettings()
    result = prepared(model)
    wiring = Wiring(result)
    samples = Samples(wiring.inputs, calibration)
    placement = place(wiring)
    _check_patterns(chosen, placement)
    weights = [layer for layer in (_weight(n, wiring) for n in placement.layers) if layer is not None]
    bins = 0 if chosen.ranges == "max" else BINS
    observed = observe(result, list(placement.sites), samples, bins=bins)

    unsigned = {name for name, lowest in samples.lowest.items() if chosen.unsigned_inputs and lowest >= 0}
    members = _members(placement, observed, never_negative(wiring, unsigned), chosen)
    writer = _Writer(wiring)
    for tensor, scale in _scales(placement, members, wiring, chosen).items():
        member = members[tensor]
        writer.quantize_activation(tensor, scale, member.bits, member.signed)
    for weight in weights:
        writer.quantize_weight(weight, _weight_bits(weight.node, placement, chosen))
    writer.finish(placement)
    return result


@dataclass(frozen=True, eq=False)
class _Weight:
    """A float weight: its reader, its tensor and the axis of its output channels."""

    node: onnx.NodeProto
    value: Array
    axis: int


def _weight(node: onnx.NodeProto, wiring: Wiring) -> _Weight | None:
    """The weight of a linear operator; None where it has a Quant already."""
    name = node.input[1]
    value = wiring.values.get(name)
    if value is None:
        if _is_quantized(name, wiring):
            return None
        raise UnsupportedModelError(
            f"{where(node)}: its weight {shown(name)!r} is computed in a way that is not understood; store it as an initializer"
        )
    if value.dtype != np.float32 or not value.size or not np.isfinite(value).all():
        kind = "values that are not finite numbers" if value.dtype == np.float32 and value.size else str(value.dtype)
        raise UnsupportedModelError(f"{where(node)}: its weight holds {kind}; finite float32 numbers are needed")
    if node.op_type == "Conv":
        axis, fits = 0, value.ndim >= 3
    else:
        axis, fits = (0 if node.op_type == "Gemm" and attribute(node, "transB", 0) else 1), value.ndim == 2
    if not fits:
        raise UnsupportedModelError(
            f"{where(node)}: its weight has shape {value.shape}; a matrix, or a kernel of a convolution, is needed"
        )
    return _Weight(node, value, axis)


def _is_quantized(tensor: str, wiring: Wiring) -> bool:
    """Whether a constant comes from a Quant, perhaps through operators that only move its elements."""
    while tensor in wiring.producers and not is_quantizer_output(tensor, wiring):
        tensor = next(iter(wiring.producers[tensor].input), "")
    return is_quantizer_output(tensor, wiring)


def _members(
    placement: Placement, observed: Mapping[str, Observed], positive: set[str], settings: QuantizerSettings
) -> dict[str, Member]:
    return {
        site.tensor: Member(observed[site.tensor], _act_bits(site, settings), site.tensor not in positive)
        for site in placement.sites.values()
    }


def _scales(
    placement: Placement, members: Mapping[str, Member], wiring: Wiring, settings: QuantizerSettings
) -> dict[str, float]:
    """Scale of each tensor to quantize, in the order of the sites."""
    scales: dict[str, float] = {}
    for group in placement.groups:
        mine = [members[name] for name in group if name in members]
        given = [fixed_scale(name, wiring) for name in group if name not in members]
        known = [scale for scale in given if scale is not None]
        if mine:
            scale = max(known) if known else group_scale(mine, settings.ranges, settings.percentile, settings.scales)
            scales |= {name: scale for name in group if name in members}
    return {name: scales[name] for name in placement.sites}


class _Writer:
    """Puts quantizers into a model."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.before: dict[str, list[onnx.NodeProto]] = {}
        self.after: dict[str, list[onnx.NodeProto]] = {}
        self.twins: dict[str, str] = {}
        self._weights: dict[tuple[str, int, int], str] = {}
        self._constants: dict[bytes, str] = {}

    def quantize_activation(self, tensor: str, scale: float, bits: int, signed: bool) -> None:
        producer = self.wiring.producers.get(tensor)
        owner = label(producer) if producer is not None else tensor
        quant = self._quant(tensor, np.array(scale, dtype=np.float32), bits, signed, False, f"{owner}.act_quant")
        self.after.setdefault(tensor if producer is not None else "", []).append(quant)
        self.twins[tensor] = quant.output[0]

    def quantize_weight(self, weight: _Weight, bits: int) -> None:
        """Quantize a layer's weight; layers that share one share its Quant where they agree on it."""
        name = weight.node.input[1]
        key = (name, weight.axis, bits)
        if key not in self._weights:
            if name in self.wiring.producers:  # computed from constants: store what was computed
                name = self.wiring.fresh(f"{name}_value")
                self.wiring.model.graph.initializer.append(numpy_helper.from_array(weight.value, name))
            scale = weight_scale(weight.value, weight.axis, bits)
            quant = self._quant(name, scale, bits, True, bits > 1, f"{label(weight.node)}.weight_quant")
            self.before.setdefault(weight.node.output[0], []).append(quant)
            self._weights[key] = quant.output[0]
        weight.node.input[1] = self._weights[key]

    def finish(self, placement: Placement) -> None:
        """Have the readers read quantized tensors, and put every Quant in its place."""
        for node in placement.rewired:
            for position, name in enumerate(node.input):
                if name in self.twins:
                    node.input[position] = self.twins[name]
        graph = self.wiring.model.graph
        nodes = list(self.after.get("", []))
        for node in graph.node:
            nodes.extend(self.before.get(node.output[0], []))
            nodes.append(node)
            for name in node.output:
                nodes.extend(self.after.get(name, []) if name else [])
        copies = []
        for node in nodes:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copies.append(copy)
        del graph.node[:]
        graph.node.extend(copies)
        drop_unused(graph)
        if not any(entry.domain == DOMAIN for entry in self.wiring.model.opset_import):
            self.wiring.model.opset_import.append(helper.make_opsetid(DOMAIN, 1))

    def _quant(self, tensor: str, scale: Array, bits: int, signed: bool, narrow: bool, name: str) -> onnx.NodeProto:
        inputs = [tensor, self._store(scale, f"{tensor}_scale")]
        inputs += [self._shared(0.0, "zero_point"), self._shared(float(bits), f"bits_{bits}")]
        return helper.make_node(
            "Quant",
            inputs,
            [self.wiring.fresh(f"{tensor}_quantized")],
            name=self.wiring.fresh(name),
            domain=DOMAIN,
            signed=int(signed),
            narrow=int(narrow),
            rounding_mode="ROUND",
        )

    def _shared(self, value: float, stem: str) -> str:
        array = np.array(value, dtype=np.float32)
        if array.tobytes() not in self._constants:
            self._constants[array.tobytes()] = self._store(array, stem)
        return self._constants[array.tobytes()]

    def _store(self, value: Array, stem: str) -> str:
        name = self.wiring.fresh(stem)
        tensor: TensorProto = numpy_helper.from_array(value, name)
        self.wiring.model.graph.initializer.append(tensor)
        return name


def _act_bits(site: Site, settings: QuantizerSettings) -> int:
    plain = settings.input_bits if site.head else settings.act_bits
    return max(_override(label(node), "act_bits", settings) or plain for node in site.readers)


def _weight_bits(node: onnx.NodeProto, placement: Placement, settings: QuantizerSettings) -> int:
    out = node.output[0]
    chosen = _override(label(node), "weight_bits", settings)
    if chosen is None and out in placement.last:
        chosen = settings.last_bits
    if chosen is None and out in placement.first:
        chosen = settings.first_weight_bits
    return chosen or settings.weight_bits


def _override(name: str, what: str, settings: QuantizerSettings) -> int | None:
    found = [getattr(bits, what) for pattern, bits in settings.layers.items() if fnmatchcase(name, pattern)]
    return next((bits for bits in reversed(found) if bits is not None), None)


def _check_patterns(settings: QuantizerSettings, placement: Placement) -> None:
    layers = [label(node) for node in placement.layers]
    readers = {label(node) for site in placement.sites.values() for node in site.readers}
    for pattern, bits in settings.layers.items():
        found = [name for name in {*layers, *readers} if fnmatchcase(name, pattern)]
        if not found:
            raise RequestError(
                f"settings: layers: {pattern}: no quantized node has such a name; linear ones are"
                f" {', '.join(map(shown, layers))}"
            )
        if bits.weight_bits is not None and not any(name in layers for name in found):
            raise RequestError(
                f"settings: layers: {pattern}: weight_bits is {bits.weight_bits}, but it matches no"
                f" {', '.join(LINEAR)}; linear ones are {', '.join(map(shown, layers))}"
            )


def _check_bits(name: str, bits: object, least: int, optional: bool = False) -> None:
    if optional and bits is None:
        return
    if not isinstance(bits, int) or isinstance(bits, bool) or not least <= bits <= MOST_BITS:
        raise RequestError(f"settings: {name}: {bits!r} is not allowed; use {least} to {MOST_BITS} bits")
