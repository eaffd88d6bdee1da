"""The integer path against float32 onnxruntime, segment by segment, every difference explained.

A segment is what lies between two quantizers. Each runs in float32 from the integer path's own codes, so that one rounding
flip does not change everything behind it. Where float32 gives another code than the exact arithmetic, the difference is
explained only if the exact value before rounding lies no further from the rounding boundary than float32 can err:

    gamma(K + 4) * sum |w * x|,   gamma(n) = n*u / (1 - n*u),   u = 2**-24,

whatever the order of the sum (4 for the roundings of weight, input, product and bias), carried through the slopes of what
follows, plus 8 u times the magnitudes that each further step adds up. Anything else is a mismatch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from broadaxe.build import Array, Build
from broadaxe.chain import Affine, Normalize, PerChannel, Snap, codes, column, round_rational, select
from broadaxe.frontend.standard import is_quantizer, session
from broadaxe.host import real
from broadaxe.ir import Graph, IntArray, Node, Value
from broadaxe.lower import HostOutput
from broadaxe.ops.mac import Mac
from broadaxe.ops.requantize import Requantize
from broadaxe.ops.scaled_add import ScaledAdd
from broadaxe.reference import run

UNIT = Fraction(1, 1 << 24)
STEP_ROUNDINGS = 8
CUT = "@codes"
BLOCK = 64


@dataclass
class SegmentReport:
    """Quantized activations of the model in float32 onnxruntime against the integer path.

    Attributes:
        activations: codes compared.
        flips: codes that differ within their segment, all explained unless listed in `unexplained`.
        unexplained: one line each: tensor, index, our code, float32's value and the exact value before rounding.
        inputs: samples compared end to end.
        differing: samples with any different code end to end; each starts at a flip of a segment.
    """

    activations: int = 0
    flips: int = 0
    unexplained: list[str] = field(default_factory=list)
    inputs: int = 0
    differing: int = 0


def compare_segments(build: Build, data: Mapping[str, Array], codes: Mapping[str, IntArray]) -> SegmentReport:
    """Compare every quantizer of the model, segment by segment and end to end.

    Args:
        data: real inputs of the model, batch first.
        codes: the same as the graph's integer inputs.
    """
    report = SegmentReport()
    tensors = _quantized(build)
    if not tensors:
        return report
    names = [t.tensor for t in tensors]
    cut = _cut_session(build, names)
    whole = session(build.host.standard, outputs=names)
    total = len(next(iter(data.values())))
    for at in range(0, total, BLOCK):
        floats = {n: np.asarray(x[at : at + BLOCK], dtype=np.float32) for n, x in data.items()}
        ours = run(build.graph, {n: x[at : at + BLOCK] for n, x in codes.items()}, every_value=True)
        ours |= {n: x[at : at + BLOCK] for n, x in codes.items()}
        mine = {t.tensor: real(t, ours[t.value]) for t in (*tensors, *_input_tensors(build))}
        feeds = floats | {name + CUT: values for name, values in mine.items()}
        theirs = dict(zip(names, cut.run(names, {i.name: feeds[i.name] for i in cut.get_inputs()}), strict=True))
        ends = dict(zip(names, whole.run(names, {i.name: floats[i.name] for i in whole.get_inputs()}), strict=True))
        _compare_block(build, tensors, mine, theirs, ours, at, report)
        differs = np.zeros(len(next(iter(floats.values()))), dtype=bool)
        for tensor in tensors:
            apart = _apart(build, tensor, mine[tensor.tensor], ends[tensor.tensor])
            differs |= apart.reshape(len(differs), -1).any(axis=1)
        report.inputs += len(differs)
        report.differing += int(differs.sum())
    return report


def _quantized(build: Build) -> list[HostOutput]:
    """Tensors that a quantizer of the model writes, with their integer values, in the model's order."""
    writers = {node.output[0] for node in build.model.graph.node if is_quantizer(node)}
    return [t for t in build.lowered.tensors if t.tensor in writers and build.graph.producer(t.value) is not None]


def _input_tensors(build: Build) -> list[HostOutput]:
    """Quantized inputs, which the host computes."""
    return [
        HostOutput(i.quantized, i.value, i.index, (build.graph.values[i.value].affine,))
        for i in build.lowered.inputs
        if i.quantized is not None
    ]


def _cut_session(build: Build, names: list[str]) -> onnxruntime.InferenceSession:
    """The float model with every reader of a quantized tensor reading an input of the session instead."""
    model = onnx.ModelProto()
    model.CopyFrom(build.host.standard)
    cuts = {*names, *(t.tensor for t in _input_tensors(build))}
    read = set()
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name in cuts:
                node.input[position] = name + CUT
                read.add(name)
    del model.graph.value_info[:]
    model.graph.input.extend(helper.make_tensor_value_info(n + CUT, TensorProto.FLOAT, None) for n in sorted(read))
    return session(model, outputs=names)


def _apart(build: Build, tensor: HostOutput, mine: Array, theirs: Array) -> Any:
    """Where two real tensors on one grid hold different codes."""
    step = min(abs(float(s)) for s in build.graph.values[tensor.value].scale)
    return np.abs(mine - theirs) > step / 2


def _compare_block(
    build: Build,
    tensors: list[HostOutput],
    mine: Mapping[str, Array],
    theirs: Mapping[str, Array],
    ours: Mapping[str, IntArray],
    at: int,
    report: SegmentReport,
) -> None:
    for tensor in tensors:
        apart = _apart(build, tensor, mine[tensor.tensor], theirs[tensor.tensor])
        report.activations += apart.size
        if not apart.any():
            continue
        for index in np.argwhere(apart):
            report.flips += 1
            place = tuple(int(i) for i in index)
            problem = _explain(build, tensor, ours, place, float(theirs[tensor.tensor][place]))
            if problem is not None:
                where = (at + place[0], *place[1:])
                report.unexplained.append(f"{tensor.tensor} {where}: {problem}")


def _explain(
    build: Build, tensor: HostOutput, ours: Mapping[str, IntArray], index: tuple[int, ...], float_value: float
) -> str | None:
    """None if float32 may have rounded to its code; else what the exact value, our code and float32's value are."""
    graph = build.graph
    node = graph.producer(tensor.value)
    position = int(tensor.index[0].reshape(-1)[np.ravel_multi_index(index[1:], tensor.index.shape[1:])])
    while node is not None and not isinstance(node.op, Requantize):  # a MaxPool chooses among codes: look before it
        candidates = _largest_source(graph, node, ours, index[0], position)
        if candidates is None:
            return f"float32 gives {float_value:g}, and nothing between quantizers explains it"
        node, position = candidates
    if node is None:
        return f"float32 gives {float_value:g} for an input code"
    assert isinstance(node.op, Requantize)
    (x,) = graph.inputs_of(node)
    channel = position % x.channels
    integer = int(ours[x.name][index[0]].reshape(-1)[position])
    value, error = _exact_with_error(graph, node, node.op, ours, index[0], position, integer, channel)
    scale, zero = _at(node.op.quantizer.scale, channel), _at(node.op.quantizer.zero_point, channel)
    scaled = value / scale + zero
    truncated = isinstance(node.op.chain[-1], Snap)  # Trunc divides an integer by a power of two: nothing to round
    error += 0 if truncated else STEP_ROUNDINGS * UNIT * _reach(build, tensor.tensor)
    slack = error / scale + (0 if truncated else 4 * UNIT * (abs(scaled) + abs(zero) + 1))
    code = int(ours[node.output][index[0]].reshape(-1)[position])
    part, ending = select(node.op.chain, node.op.quantizer, np.array([channel]))
    exact = int(codes(part, ending, column([integer]))[0, 0])
    lower, upper = _code(node.op, scaled - slack), _code(node.op, scaled + slack)
    theirs = Fraction(float_value) / _at(graph.values[tensor.value].scale, channel)
    theirs -= _at(graph.values[tensor.value].shift, channel) / _at(graph.values[tensor.value].scale, channel)
    if lower <= round(theirs) <= upper and code == exact:
        return None
    return f"our code is {code}, float32 gives {float_value:g}, exactly {float(value):.9g} before rounding"


def _largest_source(
    graph: Graph, node: Node, ours: Mapping[str, IntArray], sample: int, position: int
) -> tuple[Node, int] | None:
    """The producer and the position of the element that a view or pooling window took its value from."""
    name = node.inputs[0]
    producer = graph.producer(name)
    if producer is None or len(node.inputs) != 1:
        return None
    if node.op.kind == "view":
        return producer, position
    if node.op.kind == "window_max":
        value, channels = graph.values[name], graph.values[node.output].channels
        vector, channel = divmod(position, channels)
        taps = ours[name][sample].reshape(-1, value.channels // channels, channels)[vector, :, channel]
        return producer, vector * value.channels + int(taps.argmax()) * channels + channel
    if node.op.kind == "window":
        image = graph.values[name]
        source = int(node.op.positions_read(image.shape).reshape(-1)[position])  # type: ignore[attr-defined]
        return (producer, source) if source < image.size else None
    return None


def _exact_with_error(
    graph: Graph,
    node: Node,
    op: Requantize,
    ours: Mapping[str, IntArray],
    sample: int,
    position: int,
    integer: int,
    channel: int,
) -> tuple[Fraction, Fraction]:
    """The exact real value before the quantizer, and how far float32 may be from it."""
    (x,) = graph.inputs_of(node)
    magnitude, terms = _magnitude(graph, x, ours, sample, position)
    value, error = Fraction(integer), Fraction(0)
    for count, step in enumerate(op.chain):
        if isinstance(step, Affine):
            scale, shift = _at(step.scale, channel), _at(step.shift, channel)
            size = abs(scale * value) + abs(shift)
            value, error = scale * value + shift, abs(scale) * error + STEP_ROUNDINGS * UNIT * size
        elif isinstance(step, Normalize):
            gain = Fraction(float(_at(step.gamma, channel)) / float(_at(step.variance, channel)) ** 0.5)
            mean, beta = _at(step.mean, channel), _at(step.beta, channel)
            size = abs(gain) * (abs(value) + abs(mean)) + abs(beta)
            value, error = gain * (value - mean) + beta, abs(gain) * error + STEP_ROUNDINGS * UNIT * size
        elif isinstance(step, Snap):
            value, error = _snapped(step, value, error, channel)
        else:
            low = value if step.lo is None else max(value, step.lo)
            value = low if step.hi is None else min(low, step.hi)
        if count == 0 and isinstance(step, Affine):  # the sum's own error, through the slope of what follows it
            n = terms + 4
            error += n * UNIT / (1 - n * UNIT) * magnitude * abs(_at(step.scale, channel) / _at(x.scale, channel))
    return value, error


def _snapped(step: Snap, value: Fraction, error: Fraction, channel: int) -> tuple[Fraction, Fraction]:
    """A rounding inside the chain: exact again, unless the error reaches another grid point."""
    scale, zero = _at(step.scale, channel), _at(step.zero_point, channel)
    v, slack = value / scale + zero, error / scale + 4 * UNIT * (abs(value / scale) + abs(zero))
    low, code, high = (_rounded(u, step.rounding) for u in (v - slack, v, v + slack))
    snapped = scale * (code - zero)
    return snapped, scale * max(high - code, code - low)


def _reach(build: Build, tensor: str) -> Fraction:
    """How large the constants added on the way to a quantizer may make an intermediate float, seen from the quantizer.

    They may cancel, in which case the exact chain no longer shows them; float32 still rounds with them.
    """
    constants = {t.name: t for t in build.model.graph.initializer}
    writers = {o: n for n in build.model.graph.node for o in n.output}
    total, slope, node = 0.0, 1.0, writers.get(tensor)
    while node is not None:
        values = [np.abs(numpy_helper.to_array(constants[i]).astype(np.float64)) for i in node.input if i in constants]
        largest = max((float(v.max()) for v in values if v.size), default=0.0)
        if node.op_type in ("Add", "Sub"):
            total += slope * largest
        elif node.op_type == "Mul":
            slope *= largest or 1.0
        elif node.op_type == "Div":
            slope /= min((float(v.min()) for v in values if v.size), default=1.0) or 1.0
        elif node.op_type == "BatchNormalization" and len(values) == 4:
            total += slope * float(values[1].max())
            slope *= float((values[0] / np.sqrt(values[3])).max())
            total += slope * float(values[2].max())
        elif node.op_type in ("Conv", "Gemm", "MatMul"):
            break
        live = [i for i in node.input if i not in constants and i in writers]
        following = writers[live[0]] if live else None
        if following is None or is_quantizer(following):
            break
        node = following
    return Fraction(total)


def _magnitude(
    graph: Graph, x: Value, ours: Mapping[str, IntArray], sample: int, position: int
) -> tuple[Fraction, int]:
    """sum |w * x| in reals, and the number of products, behind one element of a value; sums of sums are followed down."""
    producer = graph.producer(x.name)
    while producer is not None and not producer.op.hardware:
        producer = graph.producer(producer.inputs[0])
    channel = position % x.channels
    if producer is None:
        integer = int(ours[x.name][sample].reshape(-1)[position])
        return abs(_at(x.scale, channel) * integer + _at(x.shift, channel)), 1
    total, terms = Fraction(0), 0
    out = graph.values[producer.output]
    if isinstance(producer.op, Mac):
        vector, output = divmod(position, out.channels)
        source = graph.values[producer.inputs[0]]
        index = producer.op.operand_indices()
        index = index[output if len(index) > 1 else 0]
        integers = ours[source.name][sample].reshape(-1, source.channels)[vector][index].astype(np.int64)
        weights = producer.op.weights[output]
        steps, shifts = (np.array([float(v) for v in c]) for c in (source.scale, source.shift))
        steps, shifts = (c if len(c) == 1 else c[index] for c in (steps, shifts))
        terms = len(weights)
        sizes = np.abs(weights) * np.abs(integers * steps + shifts) / steps
        total = abs(_at(out.scale, output)) * Fraction(float(sizes.sum()) * (1 + 1e-9)) + abs(_at(out.shift, output))
    else:
        for name in producer.inputs:
            source = graph.values[name]
            at = position % source.size
            integer = int(ours[name][sample].reshape(-1)[at])
            scale, shift = _at(source.scale, at % source.channels), _at(source.shift, at % source.channels)
            total += abs(scale * integer + shift)
            part, products = abs(scale * integer + shift), 1
            if isinstance(producer.op, ScaledAdd):
                part, products = _magnitude(graph, source, ours, sample, at)
            total += part
            terms += products
    return total, terms


def _code(op: Requantize, scaled: Fraction) -> int:
    """The code of an exact value x / scale + zero_point."""
    if op.quantizer.bipolar:
        return int(scaled >= 0)
    return min(max(_rounded(scaled, op.quantizer.rounding), op.quantizer.lo), op.quantizer.hi)


def _rounded(value: Fraction, rounding: str) -> int:
    return int(round_rational(column([value.numerator]), column([value.denominator]), rounding)[0, 0])


def _at(column: PerChannel, channel: int) -> Fraction:
    return column[0] if len(column) == 1 else column[channel % len(column)]
