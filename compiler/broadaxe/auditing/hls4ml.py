"""Accumulators as an hls4ml configuration declares them, by the rules of hls4ml 1.3.0.

How hls4ml's ONNX frontend computes a layer (parse_qonnx, fuse_batch_normalization, infer_precision, nnet_dense_latency.h):

- An operand quantized with one power-of-two scale and no zero point keeps its reals in a fixed-point type. Any other scale is
  taken out of the operand, whose integers are multiplied, and applied to the finished sum. A zero point cannot be moved so.
- The accumulator starts at the bias; every product is cast to its type, and added with wrapping or saturating adders.
- A constant that an Add node puts on a MatMul becomes that bias, unless a scale stands between or the result has a type given.
- `auto` is the width that the operands' types and the number of products may need, cut at Model: Precision: maximum.

Precisions of a layer are looked up as hls4ml does: by name, then by type, then the model's; the variable before `default`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from typing import Any

import numpy as np
import onnx

from broadaxe.auditing.declared import AccumulatorType, fixed_text, fraction_bits, hls_type, number, power_of_two
from broadaxe.auditing.design import Design, Layer
from broadaxe.auditing.registers import Declaration, Register
from broadaxe.chain import PerChannel, spread
from broadaxe.errors import RequestError
from broadaxe.ops.importing import fractions, printable

CLASSES = {"Conv": ("Conv2D", "DepthwiseConv2D", "Conv"), "MatMul": ("Dense", "MatMul"), "Gemm": ("Dense", "MatMul")}
"""hls4ml's layer classes for an operator: prefixes of its names, and keys of LayerType."""
QUANTIZERS = ("Quant", "IntQuant")
SUFFIX = re.compile(r"_(param|out|act|scale|rescale)\d*")


class NotAuditedError(Exception):
    """Why hls4ml's accumulator of a layer cannot be judged."""


VARIABLES = ("default", "maximum", "accum", "weight", "bias", "result", "scale", "table")
"""Variables of a layer that carry a precision, by the names that users write most."""


@dataclass(frozen=True)
class Configuration:
    """Precisions of an hls4ml configuration, keys as hls4ml makes them: lower-case, `name_variable`.

    Attributes:
        source: the file, or what stands for it in messages.
        model: by variable; `default`, and `maximum` where given.
        types, names: by layer class or layer name, then by variable.
    """

    source: str
    model: Mapping[str, str]
    types: Mapping[str, Mapping[str, str]]
    names: Mapping[str, Mapping[str, str]]
    spelled: Mapping[str, str]

    @classmethod
    def of(cls, given: Mapping[str, Any], source: str) -> Configuration:
        """Read what hls4ml.utils.config_from_onnx_model returns, or a whole configuration that holds it in HLSConfig.

        Raises:
            RequestError: a part of it has the wrong kind.
        """
        config = _mapping(source, "HLSConfig", given["HLSConfig"]) if "HLSConfig" in given else given
        known = ("Model", "LayerName", "LayerType")
        if not any(key in config for key in known):
            raise RequestError(
                f"{source}: has none of {', '.join(known)}; give what hls4ml.utils.config_from_onnx_model makes"
            )
        model = _precision(source, "Model", _mapping(source, "Model", config.get("Model")))
        layers = {key: _mapping(source, key, config.get(key)) for key in known[1:]}
        parts = {
            key: {
                str(name).lower(): _precision(
                    source, f"{key}: {printable(str(name))}", _mapping(source, f"{key}: {name}", entry)
                )
                for name, entry in layers[key].items()
            }
            for key in layers
        }
        spelled = {str(name).lower(): str(name) for name in layers["LayerName"]}
        return cls(source, model, parts["LayerType"], parts["LayerName"], spelled)

    def precision(self, names: tuple[str, ...], classes: tuple[str, ...], variable: str) -> tuple[str, str] | None:
        """(type, where) of a variable of a layer; None where nothing declares it."""
        for name in names:
            for key in (variable, "default"):
                if key in self.names.get(name, {}):
                    return self.names[name][key], f"{printable(self.spelled[name])}: {key}"
        for kind in classes:
            for key in (variable, "default"):
                if key in self.types.get(kind.lower(), {}):
                    return self.types[kind.lower()][key], f"LayerType {kind}: {key}"
        for key in (variable, "default"):
            if key in self.model:
                return self.model[key], f"Model: {key}"
        return None


def _mapping(source: str, place: str, value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise RequestError(f"{source}: {printable(place)}: is {_brief(value)}; write a mapping, name: value")
    return value


def _brief(value: Any) -> str:
    """A value of a configuration as its file has it."""
    text = "nothing" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return printable(text if len(text) <= 60 else f"{text[:57]}...")


def _precision(source: str, place: str, entry: Mapping[str, Any]) -> dict[str, str]:
    given = entry.get("Precision")
    given = {} if given is None else given if isinstance(given, Mapping) else {"default": given}
    for variable, text in given.items():
        if not isinstance(text, str):
            raise RequestError(
                f"{source}: {place}: Precision: {printable(str(variable))}: {_brief(text)} is no type; write one"
                " such as fixed<16,6>"
            )
    return {str(variable): text for variable, text in given.items()}


# names


def layer_name(proto: onnx.NodeProto) -> str:
    """The name hls4ml gives to the layer of a node."""
    return f"{proto.op_type.lower()}{proto.name}" if proto.name[:1].isdigit() else proto.name


@dataclass(frozen=True)
class Names:
    """Which names of a configuration stand for which node.

    hls4ml names layers after the nodes of the model that it is given. Its guide has that model cleaned by qonnx first, which
    renames every node to its operator and a number and makes a Gemm a MatMul; such names are understood where no node of the
    model has them.
    """

    own: frozenset[str]
    cleaned: Mapping[str, str]
    configured: frozenset[str]

    @classmethod
    def of(cls, design: Design, configuration: Configuration) -> Names:
        own = frozenset(layer_name(proto).lower() for proto in design.model.graph.node if proto.name)
        cleaned = {tensor: name.lower() for tensor, name in cleaned_names(design).items()}
        return cls(own, cleaned, frozenset(configuration.names))

    def candidates(self, proto: onnx.NodeProto) -> tuple[str, ...]:
        """Names of a layer's entries, the one that counts first."""
        stems = [layer_name(proto).lower()] if proto.name else []
        alias = self.cleaned.get(proto.output[0])
        if alias is not None and alias not in self.own:
            stems.append(alias)
        prefixes = ("", *(f"{kind.lower()}_" for kind in CLASSES.get(proto.op_type, ())))
        found = [f"{prefix}{stem}" for stem in stems for prefix in prefixes]
        return tuple(name for name in dict.fromkeys(found) if name in self.configured)

    def unknown(self, design: Design, configuration: Configuration) -> list[str]:
        """Entries of LayerName that no node, input or constant of the model stands for, and variables that look misspelt."""
        graph = design.model.graph
        tensors = [*graph.input, *graph.initializer]
        known = {layer_name(p).lower() for p in graph.node} | {t.name.replace(".", "_").lower() for t in tensors}
        known |= {f"{kind.lower()}_{name}" for name in known for kinds in CLASSES.values() for kind in kinds}
        known |= {"global_in", "global_out"} | set(self.cleaned.values())
        known |= {p.name.lower() for p in graph.node if p.name[:1].isdigit()}
        absent = [
            printable(configuration.spelled[name])
            for name in configuration.names
            if name not in known
            and SUFFIX.sub("", name) not in known
            and not any(name.endswith(k) for k in known if k[:1].isdigit())
        ]
        misspelt = [
            f"{printable(configuration.spelled[name])}: Precision: {printable(variable)}"
            for name, variables in configuration.names.items()
            for variable in variables
            if variable not in VARIABLES and get_close_matches(variable, VARIABLES)
        ]
        return absent + misspelt


def cleaned_names(design: Design) -> dict[str, str]:
    """The names that qonnx's cleaning gives to nodes, by their first output: operator and number, constants computed before."""
    counts: dict[str, int] = {}
    out = {}
    for proto in design.model.graph.node:
        if all(name in design.constants for name in proto.output) and proto.op_type not in QUANTIZERS:
            continue
        kind = "MatMul" if proto.op_type == "Gemm" else proto.op_type
        out[proto.output[0]] = f"{kind}_{counts.get(kind, 0)}"
        counts[kind] = counts.get(kind, 0) + 1
    return out


# what the accumulator holds


@dataclass(frozen=True)
class Operand:
    """One factor of a layer's products as hls4ml keeps it.

    Attributes:
        units: real value of one code in the product, one for all or per output channel.
        bits, signed: of the codes.
    """

    units: PerChannel
    bits: int
    signed: bool

    @property
    def exact(self) -> bool:
        """Whether a fixed-point type holds the operand."""
        return len(set(self.units)) == 1 and power_of_two(self.units[0])

    @property
    def integer(self) -> int:
        """Bits in front of the point of an exact operand."""
        fraction = fraction_bits(self.units[0])
        assert fraction is not None
        return self.bits - fraction


def operands(design: Design, layer: Layer) -> tuple[Operand, Operand]:
    """Input and weight of a layer as hls4ml multiplies them.

    Raises:
        NotAuditedError: a zero point or a bipolar operand.
    """
    x, out, proto = layer.x, layer.out, layer.proto
    if any(x.shift):
        raise NotAuditedError("its input has a zero point or is bipolar, which hls4ml adds up in another way")
    if any(out.shift):
        raise NotAuditedError("its weights have a zero point or are bipolar, which hls4ml adds up in another way")
    index = layer.op.operand_indices()
    steps = x.scale if len(x.scale) == 1 else tuple(x.scale[row[0]] for row in index.tolist())
    gains, inputs = spread(out.scale * layer.op.outputs if len(out.scale) == 1 else out.scale, steps)
    weights = tuple(gain / step for gain, step in zip(gains, inputs, strict=True))
    with_bias = proto.op_type == "Conv" and len(proto.input) > 2 and np.any(design.constants[proto.input[2]])
    along = proto.op_type == "Conv" and not with_bias
    return (
        Operand(_units(steps, _from_quantizer(design, proto.input[0]), along), x.dtype.width, x.dtype.signed),
        Operand(
            _units(weights, _from_quantizer(design, proto.input[1]), along),
            layer.op.weight_dtype.width,
            layer.op.weight_dtype.signed,
        ),
    )


def _units(scales: PerChannel, movable: bool, per_channel: bool) -> PerChannel:
    """A power-of-two scale stays inside the product; another one is 1 there where hls4ml can move it behind the sum."""
    same = len(set(scales)) == 1
    if same and power_of_two(scales[0]):
        return scales[:1]
    return (Fraction(1),) if movable and (same or per_channel) else scales


def _from_quantizer(design: Design, tensor: str) -> bool:
    """Whether a quantizer writes a tensor, so that its scale can be moved behind the layer that reads it."""
    writers = {name: node for node in design.model.graph.node for name in node.output}
    while tensor in writers and writers[tensor].op_type in ("Identity", "Dropout"):
        tensor = writers[tensor].input[0]
    return tensor in writers and writers[tensor].op_type in QUANTIZERS


@dataclass(frozen=True)
class Start:
    """What the accumulator starts at, per channel, and the type that the bias has from its own quantizer."""

    values: tuple[Fraction, ...]
    kind: AccumulatorType | None


def start(design: Design, layer: Layer, scaled: bool, result: str) -> Start:
    """The bias that hls4ml starts the accumulator at.

    Args:
        scaled: whether a scale is applied between the sum and what follows.
        result: type of the layer's result in the configuration.
    """
    proto, nothing = layer.proto, Start((Fraction(0),) * layer.op.outputs, None)
    if proto.op_type == "Conv" and len(proto.input) > 2 and proto.input[2]:
        return _bias(design, layer, proto.input[2])
    tensor = proto.output[0]
    if proto.op_type == "Gemm" and len(proto.input) > 2 and proto.input[2]:
        # becomes MatMul and Add
        return nothing if scaled or result != "auto" else _bias(design, layer, proto.input[2])
    readers = [node for node in design.model.graph.node if tensor in node.input]
    if scaled or result != "auto" or len(readers) != 1 or any(o.name == tensor for o in design.model.graph.output):
        return nothing
    (reader,) = readers
    other = [name for name in reader.input if name != tensor]
    if reader.op_type != "Add" or len(other) != 1 or other[0] not in design.constants:
        return nothing
    return _bias(design, layer, other[0])


def _bias(design: Design, layer: Layer, tensor: str) -> Start:
    flat = np.asarray(design.constants[tensor]).reshape(-1)
    if flat.size not in (1, layer.op.outputs):
        raise NotAuditedError(
            f"its bias {printable(tensor)!r} has {flat.size} elements for {layer.op.outputs} channels"
        )
    column, _ = spread(fractions(flat), (Fraction(0),) * layer.op.outputs)
    return Start(column, _quantized(design, tensor))


def _quantized(design: Design, tensor: str) -> AccumulatorType | None:
    """The fixed-point type of a constant that a Quant with one power-of-two scale made."""
    producer = next((node for node in design.model.graph.node if tensor in node.output), None)
    if producer is None or producer.op_type not in QUANTIZERS:
        return None
    scale, zero, bits = (np.asarray(design.constants[name]).reshape(-1) for name in producer.input[1:4])
    steps = fractions(scale)
    if len(steps) > 1 or not power_of_two(steps[0]) or zero.any():
        raise NotAuditedError("its bias has a scale that is no power of two, which hls4ml adds up in another way")
    signed = next((a.i for a in producer.attribute if a.name == "signed"), 1)
    width, fraction = int(bits[0]), fraction_bits(steps[0])
    assert fraction is not None
    return hls_type(fixed_text(width, width - fraction, bool(signed)))


def register(design: Design, layer: Layer, x: Operand, w: Operand, result: str) -> tuple[Register, Start]:
    """What the accumulator stands for, and what it starts at; `result` is the type given to the layer's result."""
    left, right, real, _ = spread(x.units, w.units, layer.out.scale, (Fraction(0),) * layer.op.outputs)
    gain = tuple(a * b for a, b in zip(left, right, strict=True))
    begin = start(design, layer, gain != real, result)
    return Register.of(gain, begin.values, layer.op.outputs), begin


def declaration(design: Design, layer: Layer, configuration: Configuration, names: Names) -> Declaration | None:
    """What a configuration declares of a layer's accumulator; None if nothing does.

    Raises:
        NotAuditedError: hls4ml computes the layer in a way that is not known here.
        RequestError: a declared type is none.
    """
    entries, classes = names.candidates(layer.proto), CLASSES.get(layer.proto.op_type)
    if classes is None:
        raise NotAuditedError(f"hls4ml's {layer.proto.op_type} is not audited")

    def look(variable: str) -> tuple[str, str] | None:
        return configuration.precision(entries, classes, variable)

    found = look("accum")
    if found is None:
        return None
    text, where = found
    x, w = operands(design, layer)
    result = look("result")
    held, begin = register(design, layer, x, w, result[0] if result else "auto")
    notes = (*scales_in_front(x, w), *_narrowed(configuration, layer, w, begin, look))
    if text.lower() == "auto":
        if not (x.exact and w.exact):
            raise NotAuditedError("a scale that is no power of two stays in front of the sum, and accum is auto")
        chosen, origin = _inferred(configuration, layer, x, w, begin, look), f"{where} auto"
        return Declaration(chosen, origin, held, notes)
    return Declaration(_type(configuration, layer, where, text), where, held, notes)


def scales_in_front(x: Operand, w: Operand) -> tuple[str, ...]:
    """What makes every product inexact: a scale that no fixed-point type has, and that hls4ml cannot move behind the sum."""
    return tuple(
        f"inexact: the scale of its {role}, {number(operand.units[0])}, is no power of two (or differs between channels) and"
        " stays in front of the sum, where hls4ml rounds it"
        for role, operand in (("input", x), ("weights", w))
        if not operand.exact
    )


def _type(configuration: Configuration, layer: Layer, where: str, text: str) -> AccumulatorType:
    if re.match(r"(ap_float|ac_float|ac_std_float|std_float|float|double|half|bfloat16)", text):
        raise NotAuditedError(f"{where}: {printable(text)} is a floating-point accumulator")
    try:
        return hls_type(text)
    except ValueError as error:
        raise RequestError(f"{configuration.source}: {layer.name}: {where}: {printable(text)!r} {error}") from None


Look = Any


def _narrowed(configuration: Configuration, layer: Layer, w: Operand, begin: Start, look: Look) -> tuple[str, ...]:
    """Weights and biases that the configuration gives a type which does not hold them."""
    notes = []
    units, _ = spread(w.units, (Fraction(0),) * layer.op.outputs)
    weights = [(c, units[c] * int(v)) for c, row in enumerate(layer.op.weights) for v in np.unique(row)]
    for variable, values in (("weight", weights), ("bias", list(enumerate(begin.values)))):
        found = look(variable)
        default = configuration.model.get("default", "auto")
        kind = found[0] if found and not found[1].startswith("Model:") else "auto"
        if kind.lower() == "auto":
            if variable == "weight" or begin.kind is not None or default.lower() == "auto" or not any(begin.values):
                continue
            kind, found = default, (default, "Model: default")
        held = _type(configuration, layer, found[1] if found else "", kind)
        for channel, value in values:
            n = value / held.step
            if n.denominator != 1 or int(n) not in held.allowed:
                notes.append(
                    f"{variable} {number(value)} of channel {channel} does not fit {printable(kind)} ({found[1]})"
                )
                break
    return tuple(notes)


def _inferred(
    configuration: Configuration, layer: Layer, x: Operand, w: Operand, begin: Start, look: Look
) -> AccumulatorType:
    """The accumulator that hls4ml makes of `auto`: infer_precision.InferPrecisionTypes._infer_common_precision."""
    grow = (layer.op.depth - 1).bit_length()
    width, integer, signed = w.bits + x.bits + grow, w.integer + x.integer + grow, w.signed or x.signed
    fraction = width - integer
    declared = look("bias")
    default = configuration.model.get("default")
    bias = begin.kind
    if declared is not None and declared[0].lower() != "auto" and not declared[1].startswith("Model:"):
        bias = _type(configuration, layer, declared[1], declared[0])
    elif bias is None:
        if default is None or default.lower() == "auto":
            raise NotAuditedError("auto needs Model: Precision: default, which has no type")
        bias = _type(configuration, layer, "Model: default", default)
    bias_fraction = fraction_bits(bias.step)
    assert bias_fraction is not None
    bias_integer, bias_signed = bias.adder.width - bias_fraction, bias.adder.signed
    integer = max(integer + (bias_signed and not signed), bias_integer + (signed and not bias_signed)) + 1
    width, signed = integer + max(fraction, bias_fraction), signed or bias_signed
    if "maximum" in configuration.model:
        most = _type(configuration, layer, "Model: maximum", configuration.model["maximum"])
        most_fraction = fraction_bits(most.step)
        assert most_fraction is not None
        width, integer = min(width, most.adder.width), min(integer, most.adder.width - most_fraction)
    return hls_type(fixed_text(width, integer, signed))
