"""Where a quantized network loses: each layer's noise, the score with it alone in float, and what one more bit there gives."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Mapping
from math import inf, log10
from typing import Annotated, Any, Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper
from pydantic import BaseModel, ConfigDict, Field

from broadaxe.errors import BudgetError, RequestError
from broadaxe.evaluation import Data, Judge, Rows
from broadaxe.frontend.batch import symbolic_batch
from broadaxe.frontend.standard import expand_quant, is_quantizer, session
from broadaxe.quantization.config import LayerSettings, QuantConfig, quant_config
from broadaxe.quantization.quantize import Calibration, Source
from broadaxe.quantization.record import LayerRecord, QuantizationRecord, act_bits
from broadaxe.quantization.search import Quick

Progress = Callable[[str], None]
MOST_BITS = 16


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MoreBits(_Entry):
    """What one more bit in one layer changes, everything else as it is."""

    of: Annotated[Literal["P", "M", "N"], Field(description="accumulator, weights, or the layer's input")]
    bits: Annotated[int, Field(description="with one more")]
    score: Annotated[float | None, Field(description="percent on validation rows; none where it was refused")]
    refused: Annotated[str | None, Field(description="why it cannot be had, if so")] = None


class LayerDiagnosis(_Entry):
    """One layer, on validation rows."""

    name: Annotated[str, Field(description="of the model's node")]
    op: Annotated[str, Field(description="operator of the model")]
    weight_bits: Annotated[int, Field(description="M")]
    act_bits: Annotated[int, Field(description="N of the layer's input")]
    acc_bits: Annotated[int | None, Field(description="P asked; none: no budget")]
    snr: Annotated[
        float | None, Field(description="power of the float network's output here over that of the difference, in dB")
    ]
    restored: Annotated[float, Field(description="percent with this layer's weights and input alone in float")]
    more: Annotated[
        tuple[MoreBits, ...], Field(description="what one more bit changes, of each kind that the layer has")
    ]


class Diagnosis(_Entry):
    """Layers in the order of the network."""

    metric: Annotated[
        str, Field(description="accuracy where there are labels, else fidelity to the float network's outputs")
    ]
    float_score: Annotated[float, Field(description="percent of the float network on validation rows")]
    score: Annotated[float, Field(description="percent of the quantized network")]
    layers: Annotated[tuple[LayerDiagnosis, ...], Field(description="in the order of the network")]

    def __str__(self) -> str:
        from broadaxe.quantization.table import diagnosis_text

        return diagnosis_text(self)

    def __repr__(self) -> str:
        return f"Diagnosis({len(self.layers)} layers, {self.metric} {self.score:.2f} % of {self.float_score:.2f} %)"

    def _repr_html_(self) -> str:
        from broadaxe.notebook import html
        from broadaxe.quantization.table import DiagnosisTable

        return html(DiagnosisTable(self))


def diagnose(
    model: Any,
    calibration: Calibration,
    validation: Data,
    config: QuantConfig | None = None,
    *,
    bits: bool = True,
    progress: Progress | None = None,
    **options: Any,
) -> Diagnosis:
    """Quantize a model as `quantize` does and say where it loses.

    Args:
        model, calibration, config, options: as for `broadaxe.quantize`.
        validation: rows to score on, with labels or without.
        bits: also try one more bit of P, M and N in every layer: up to three quantizations a layer.
        progress: called with what is being done.

    Example:
        >>> diagnosis = diagnose(model, x_train[:200], (x_test, y_test), acc_bits=10, weight_bits=3, preset="axe", bits=False)
        >>> [(layer.name, layer.weight_bits, layer.acc_bits) for layer in diagnosis.layers]
        [('conv_0', 3, 10), ('conv_3', 3, 10), ('gemm_7', 3, 10)]

    Returns:
        Scores of the network, and noise and scores of every layer.

    Raises:
        RequestError: settings or data are wrong.
        UnsupportedModelError: names the node that cannot be compiled.
    """
    if config is not None and options:
        raise RequestError(f"diagnose: both a config and {', '.join(options)}; give one or the other")
    chosen, said = config or quant_config(**options), progress or (lambda _: None)
    if chosen.search or chosen.max_drop is not None:
        raise RequestError("diagnose: search and max_drop choose bits; run quantize first, and give the bits it chose")
    source = Source.of(model, calibration)
    rows = source.rows(validation)
    judge = Judge(rows, source.model)
    result, record = source.quantized(chosen, said)
    said("measuring noise")
    noise = _snr(source.model, result, rows, record)
    score, layers = judge(result), []
    quick = _score(source, chosen, {}, judge) if bits else score
    for count, layer in enumerate(record.layers):
        said(f"{layer.name}: layer {count + 1} of {len(record.layers)}, in float")
        restored = judge(_restored(source.model, result, layer.name)) if layer.width else score
        more = []
        for kind, own in _one_more(layer, chosen, source.is_float) if bits else ():
            said(f"{layer.name}: layer {count + 1} of {len(record.layers)}, one more bit of {kind}")
            found = _score(source, chosen, {layer.name: own}, judge)
            value = next(v for v in own.model_dump().values() if v is not None)
            gained = None if isinstance(found, str) or isinstance(quick, str) else score + found - quick
            more.append(MoreBits(of=kind, bits=value, score=gained, refused=found if isinstance(found, str) else None))
        layers.append(
            LayerDiagnosis(
                name=layer.name,
                op=layer.op,
                weight_bits=layer.weight_bits,
                act_bits=act_bits(layer.input_codes),
                acc_bits=layer.acc_bits,
                snr=noise[layer.name],
                restored=restored,
                more=tuple(more),
            )
        )
    return Diagnosis(metric=judge.metric, float_score=judge.float_score, score=score, layers=tuple(layers))


def _one_more(
    layer: LayerRecord, config: QuantConfig, is_float: bool
) -> Iterator[tuple[Literal["P", "M", "N"], LayerSettings]]:
    if layer.acc_bits is not None:
        yield "P", LayerSettings(acc_bits=layer.acc_bits + 1)
    if layer.weight_bits < MOST_BITS:
        yield "M", LayerSettings(weight_bits=layer.weight_bits + 1)
    bits = act_bits(layer.input_codes)
    if is_float and bits < MOST_BITS:
        yield "N", LayerSettings(act_bits=bits + 1)


def _score(source: Source, config: QuantConfig, own: Mapping[str, LayerSettings], judge: Judge) -> float | str:
    """Of the network with other bits in some layers, solved without the slowest steps; or why there is none."""
    given = {name: getattr(config, name) for name in config.model_fields_set}
    layers = dict(config.layers)
    for name, settings in own.items():
        merged = config.of(name).model_dump() | {k: v for k, v in settings.model_dump().items() if v is not None}
        layers.pop(glob.escape(name), None)  # to come last
        layers[glob.escape(name)] = LayerSettings(**merged)
    try:
        return judge(source.quantized(Quick(**given | {"layers": layers}))[0])
    except RequestError as error:
        if not isinstance(error.__cause__, BudgetError):
            raise
        return str(error)


def _snr(
    reference: onnx.ModelProto, quantized: onnx.ModelProto, rows: Rows, record: QuantizationRecord
) -> dict[str, float | None]:
    """Of each layer's output, in dB; None where one of the networks does not have it any more."""
    outputs = {str(node.name or node.output[0]): str(node.output[0]) for node in reference.graph.node}
    written = {o for node in quantized.graph.node for o in node.output}
    wanted = {layer.name: outputs[layer.name] for layer in record.layers if outputs.get(layer.name) in written}
    tensors = list(dict.fromkeys(wanted.values()))
    if not tensors:
        return dict.fromkeys((layer.name for layer in record.layers), None)
    both = [session(expand_quant(symbolic_batch(m)), outputs=tensors, threads=0) for m in (reference, quantized)]
    power, noise = dict.fromkeys(tensors, 0.0), dict.fromkeys(tensors, 0.0)
    for at in range(0, len(rows), 64):
        feeds = {i.name: np.ascontiguousarray(rows.inputs[i.name][at : at + 64]) for i in both[0].get_inputs()}
        for tensor, f, q in zip(tensors, *(opened.run(tensors, feeds) for opened in both), strict=True):
            power[tensor] += float((f.astype(np.float64) ** 2).sum())
            noise[tensor] += float(((f.astype(np.float64) - q) ** 2).sum())
    found: dict[str, float | None] = {layer.name: None for layer in record.layers}
    for name, tensor in wanted.items():
        if power[tensor]:
            found[name] = 10 * log10(power[tensor] / noise[tensor]) if noise[tensor] else inf
    return found


def _restored(reference: onnx.ModelProto, quantized: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The quantized network with one layer's weights, and its input's last quantizer, as in the float network."""
    model = onnx.ModelProto()
    model.CopyFrom(quantized)
    makers = {str(o): n for n in model.graph.node for o in n.output}
    node = next(n for n in model.graph.node if str(n.name or n.output[0]) == name)
    weights = next(n for n in reference.graph.node if str(n.name or n.output[0]) == name).input[1]
    node.input[1] = _float_weights(reference, weights, model)
    chain, tensor = list[onnx.NodeProto](), node.input[0]
    while tensor in makers and not is_quantizer(makers[tensor]) and makers[tensor].op_type in MOVERS:
        chain.append(makers[tensor])
        tensor = makers[tensor].input[0]
    if tensor not in makers or not is_quantizer(makers[tensor]):
        return model
    tensor = makers[tensor].input[0]
    position = next(k for k, n in enumerate(model.graph.node) if n.output[0] == node.output[0])
    copies = []
    for step, moved in enumerate(reversed(chain)):
        copy = onnx.NodeProto()
        copy.CopyFrom(moved)
        copy.input[0], copy.output[0], copy.name = tensor, f"{name}.restored_{step}", f"{name}.restored_{step}"
        copies.append(copy)
        tensor = copy.output[0]
    node.input[0] = tensor
    nodes = list(model.graph.node)
    nodes[position:position] = copies
    rebuilt = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del model.graph.node[:]
    model.graph.node.extend(rebuilt)
    return model


MOVERS = ("Flatten", "Identity", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def _float_weights(reference: onnx.ModelProto, name: str, model: onnx.ModelProto) -> str:
    """Weights before any Quant, entered into a model."""
    makers = {str(o): n for n in reference.graph.node for o in n.output}
    part, waiting, nodes = onnx.ModelProto(), [name], list[onnx.NodeProto]()
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None:
            nodes.insert(0, node)
            waiting.extend(node.input)
    if not nodes:
        tensor = next(t for t in reference.graph.initializer if t.name == name)
        array = numpy_helper.to_array(tensor)
    else:
        part.CopyFrom(reference)
        del part.graph.node[:], part.graph.input[:], part.graph.output[:], part.graph.value_info[:]
        for node in nodes:
            plain = onnx.NodeProto()
            plain.CopyFrom(node)
            if is_quantizer(node):
                plain = helper.make_node("Identity", [node.input[0]], [node.output[0]])
            part.graph.node.append(plain)
        part.graph.output.append(onnx.ValueInfoProto(name=name))
        (array,) = session(expand_quant(part)).run([name], {})
    entered = f"{name}.in_float"
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), entered))
    return entered
