"""Proven accumulator widths in the terms of FINN and of hls4ml.

Both tools start an accumulator at 0 or at the bias and keep weights as they are, so widths are those of two's complement,
without start constants and without divided rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
import yaml
from onnx import helper

from broadaxe.auditing import finn, hls4ml
from broadaxe.auditing.declared import fixed_text, fraction_bits, hls_type
from broadaxe.auditing.design import Design, Layer, design
from broadaxe.auditing.reach import exact_sums
from broadaxe.auditing.registers import Declaration, Register, spans
from broadaxe.build import load_model
from broadaxe.config import input_type
from broadaxe.errors import RequestError
from broadaxe.frontend.annotations import KEY
from broadaxe.ops.importing import printable
from broadaxe.types import Interval
from broadaxe.whole import write_files

DEFAULT = "fixed<16,6>"
MODEL = {"Precision": {"default": DEFAULT}, "ReuseFactor": 1, "Strategy": "Latency"}
"""What hls4ml.utils.config_from_onnx_model gives to the whole model."""


def export_finn(
    model: onnx.ModelProto | str | os.PathLike[str],
    *,
    inputs: Mapping[str, str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> onnx.ModelProto:
    """A copy of a model with the proven width of every accumulator in FINN's terms.

    FINN's own nodes, and nodes that have the attribute, get accDataType. Other nodes whose output tensor holds integers get the
    annotation finn_datatype on it. Where a scale makes it hold other numbers the annotation would be wrong; such a node gets
    the width of its sum of integer products as metadata broadaxe.acc_bits. Nothing else changes.

    Args:
        model: a QONNX or FINN model or file.
        inputs: integer types of inputs that carry integers, such as {"image": "uint8"}.
        progress: called with what is being done.

    Example:
        >>> sized = export_finn("model.onnx")

    Returns:
        The model with declarations.

    Raises:
        RequestError: the model has no multiply-accumulate node, or one that is not the file's own.
        UnsupportedModelError: the model cannot be lowered to integers.
    """
    source, _ = load_model(model)
    lowered = _design(source, inputs, progress)
    result = onnx.ModelProto()
    result.CopyFrom(source)
    for layer in lowered.layers:
        if not layer.pools:
            _declare(lowered, layer, result, result.graph.node[layer.position])
    return result


def _design(
    source: onnx.ModelProto, inputs: Mapping[str, str] | None, progress: Callable[[str], None] | None
) -> Design:
    types = {name: input_type(name, kind) for name, kind in (inputs or {}).items()}
    lowered = design(source, types, progress or (lambda _: None))
    if all(layer.pools for layer in lowered.layers):
        raise RequestError(
            "model: has no multiply-accumulate node; give one with a Conv, Gemm or MatMul of quantized weights"
        )
    return lowered


def _declare(lowered: Design, layer: Layer, result: onnx.ModelProto, node: onnx.NodeProto) -> None:
    """Put a layer's width on its node or tensor."""
    stale = [pair for pair in node.metadata_props if pair.key in (finn.ACC, finn.ACC_BITS)]
    for pair in stale:
        node.metadata_props.remove(pair)
    existing = next((a for a in node.attribute if a.name == finn.ACC), None)
    if existing is not None or finn.is_unit(node):
        span = _integers(lowered, layer, finn.accumulator(lowered, layer))
        if span is None:
            raise RequestError(
                f"{layer.name}: its accumulator holds no integers, for which FINN has no type; give its input and weights"
                " whole scales, or export with --hls4ml"
            )
        kind = span.dtype if finn.counts_matches(layer) else span.signed_dtype
        if existing is not None:
            node.attribute.remove(existing)
        node.attribute.append(helper.make_attribute(finn.ACC, f"{'INT' if kind.signed else 'UINT'}{kind.width}"))
        return
    tensor = node.output[0]
    span = _integers(lowered, layer, finn.output_tensor(lowered, layer))
    if span is not None:
        _annotate(result, tensor, f"INT{span.signed_dtype.width}")
        return
    codes = _integers(lowered, layer, finn.codes(layer))
    assert codes is not None
    node.metadata_props.append(onnx.StringStringEntryProto(key=finn.ACC_BITS, value=str(codes.signed_dtype.width)))


def _integers(lowered: Design, layer: Layer, register: Register) -> Interval | None:
    """What a register may hold in all channels, if it holds integers alone."""
    if any(v.denominator != 1 for v in (*register.gain, *register.offset)):
        return None
    ends = [
        int(register.gain[c] * q + register.offset[c])
        for c, s in enumerate(exact_sums(lowered.graph, layer))
        for q in (s.lo, s.hi)
    ]
    return Interval(min(ends), max(ends))


def _annotate(model: onnx.ModelProto, tensor: str, kind: str) -> None:
    """Set finn_datatype of a tensor and leave its other annotations."""
    entries = [entry for entry in model.graph.quantization_annotation if entry.tensor_name == tensor]
    entry = entries[0] if entries else model.graph.quantization_annotation.add(tensor_name=tensor)
    for other in entries or [entry]:
        for pair in [pair for pair in other.quant_parameter_tensor_names if pair.key == KEY]:
            other.quant_parameter_tensor_names.remove(pair)
    entry.quant_parameter_tensor_names.add(key=KEY, value=kind)


def export_hls4ml(
    model: onnx.ModelProto | str | os.PathLike[str],
    *,
    inputs: Mapping[str, str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> str:
    """An hls4ml configuration (YAML) with an accum type for every multiply-accumulate layer that holds each of its sums.

    Every other precision is `auto`, as hls4ml.utils.config_from_onnx_model has it. Where a product is no multiple of any power
    of two the type has the fraction bits of the model's default precision, and a comment says `inexact`. Layers whose
    arithmetic in hls4ml is not known stay at `auto`, with the reason in a comment. A node without a name has the one that
    qonnx's cleaning gives it, which hls4ml's guide asks for.

    Args:
        model: a QONNX or FINN model or file.
        inputs: integer types of inputs that carry integers, such as {"image": "uint8"}.
        progress: called with what is being done.

    Example:
        >>> configuration = export_hls4ml("model.onnx")
        >>> "accum: " in configuration
        True

    Returns:
        The text of a configuration file.

    Raises:
        RequestError: the model has no multiply-accumulate node, or two of its nodes have one name.
        UnsupportedModelError: the model cannot be lowered to integers.
    """
    source, stem = load_model(model)
    lowered = _design(source, inputs, progress)
    lines = [
        f"# accumulators of {printable(stem)!a}, sized by broadaxe export --hls4ml",
        "# layers have the names of the model's nodes: export from the model that hls4ml is given, after qonnx has cleaned it",
        yaml.safe_dump({"Model": MODEL}, sort_keys=False, allow_unicode=False).rstrip(),
        "LayerName:",
    ]
    layers = {layer.position: layer for layer in lowered.layers}
    seen: set[str] = set()
    cleaned = hls4ml.cleaned_names(lowered)
    for position, proto in enumerate(source.graph.node):
        layer = layers.get(position)
        multiplies = layer is not None and not layer.pools
        if not multiplies and (not proto.name or _constant(lowered, proto)):
            continue
        name = hls4ml.layer_name(proto) if proto.name else cleaned[proto.output[0]]
        if name.lower() in seen:
            raise RequestError(
                f"{printable(name)}: two nodes have this name, and hls4ml tells layers by name; rename one"
            )
        seen.add(name.lower())
        entry = {"result": "auto"}
        comment = ""
        if layer is not None and multiplies:
            entry, comment = _accum(lowered, layer)
        body = yaml.safe_dump({name: {"Precision": entry}}, sort_keys=False, allow_unicode=False, width=1 << 16)
        lines += [f"  {line}" for line in ([f"# {comment}"] if comment else []) + body.rstrip().split("\n")]
    return "\n".join(lines) + "\n"


def _constant(lowered: Design, proto: onnx.NodeProto) -> bool:
    return all(name in lowered.constants for name in proto.output) and proto.op_type not in hls4ml.QUANTIZERS


def _accum(lowered: Design, layer: Layer) -> tuple[dict[str, str], str]:
    """Precisions of a layer, and what a comment says of them."""
    entry = {"accum": "auto", "result": "auto"}
    if layer.proto.op_type not in hls4ml.CLASSES:
        return entry, f"not sized: hls4ml's {layer.proto.op_type} is not audited"
    try:
        x, w = hls4ml.operands(lowered, layer)
        register, _ = hls4ml.register(lowered, layer, x, w, "auto")
    except hls4ml.NotAuditedError as reason:
        return entry, f"not sized: {printable(str(reason))}"
    usual = fraction_bits(hls_type(DEFAULT).step) or 0
    starts = max((bits for v in register.offset if (bits := fraction_bits(v)) is not None), default=0)
    comment = ""
    if hls4ml.scales_in_front(x, w):
        fraction = usual
        comment = (
            "inexact: a scale that is no power of two stays in front of the sum; fraction bits of the default precision"
        )
    else:
        products = max((bits for v in register.gain if (bits := fraction_bits(v)) is not None), default=0)
        fraction = max(0, products, min(starts, usual))
        if starts > fraction:
            comment = f"inexact: its bias has {starts} bits behind the point, more than the default precision"
    step = hls_type(fixed_text(64, 64 - fraction))
    reached = spans(layer, Declaration(step, "", register), exact_sums(lowered.graph, layer), not comment)
    whole = Interval(min(s.lo for s in reached), max(s.hi for s in reached))
    width = whole.signed_dtype.width
    return {"accum": fixed_text(width, width - fraction), "result": "auto"}, comment


def write(path: Path, made: onnx.ModelProto | str) -> None:
    """Write an exported model or configuration: beside its place, then renamed."""
    content = made.encode() if isinstance(made, str) else made.SerializeToString()
    try:
        write_files({path: content})
    except OSError as error:
        raise RequestError(f"{path}: cannot be written ({error.strerror}); choose another output") from None
