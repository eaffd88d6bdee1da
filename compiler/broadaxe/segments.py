"""The integer path against float32 onnxruntime, segment by segment, every difference explained.

A segment is what lies between two quantizers. Each runs in float32 from the integer path's own codes, so that one rounding
flip does not change everything behind it. Where float32 gives another code, the difference is explained only if our code is
the exact one and the exact value before rounding lies no further from a rounding boundary than float32 can err, a rigorous
bound (`broadaxe.float_bound`). Anything else is a mismatch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm
from typing import Any

import numpy as np
import onnx
import onnxruntime

from broadaxe.build import Array, Build
from broadaxe.chain import FIRST_PRECISION, Chain, PerChannel, Quantizer, Reals, Snap, column, select
from broadaxe.float_bound import FloatBound
from broadaxe.frontend.standard import is_quantizer, session
from broadaxe.host import real
from broadaxe.ir import Graph, IntArray, Node
from broadaxe.lower import HostOutput, extract
from broadaxe.ops.requantize import Requantize
from broadaxe.ops.window import SlidingWindow
from broadaxe.ops.window_max import WindowMax
from broadaxe.reference import run

UNIT = Fraction(1, 1 << 24)
QUANTIZER_ROUNDINGS = 4
"""x / scale, + zero_point, + 0.5 where a mode rounds by hand; and one to spare."""
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
    whole = session(extract(build.host.standard, build.host.inputs, names))
    sources = {n.output[0]: n.input[0] for n in build.model.graph.node if n.output[0] in names}
    starts = [*names, *(i.tensor for i in build.lowered.inputs), *(t.tensor for t in _input_tensors(build))]
    shapes = {t.tensor: t.index.shape for t in (*build.lowered.tensors, *_input_tensors(build))}
    bound = FloatBound.of(build.host.standard, starts, list(sources.values()), shapes)
    typed = build.host.feeds(data)
    total = len(next(iter(typed.values())))
    for at in range(0, total, BLOCK):
        floats = {n: x[at : at + BLOCK] for n, x in typed.items()}
        ours = run(build.graph, {n: x[at : at + BLOCK] for n, x in codes.items()}, every_value=True)
        ours |= {n: x[at : at + BLOCK] for n, x in codes.items()}
        mine = {t.tensor: real(t, ours[t.value]) for t in (*tensors, *_input_tensors(build))}
        feeds = floats | {name + CUT: values for name, values in mine.items()}
        theirs = dict(zip(names, cut.run(names, {i.name: feeds[i.name] for i in cut.get_inputs()}), strict=True))
        ends = dict(zip(names, whole.run(names, {i.name: floats[i.name] for i in whole.get_inputs()}), strict=True))
        differs = np.zeros(len(next(iter(floats.values()))), dtype=bool)
        errors: dict[str, Array] = {}
        for tensor in tensors:
            apart = _apart(build, tensor, mine[tensor.tensor], theirs[tensor.tensor])
            report.activations += apart.size
            if apart.any() and not errors:
                errors = bound.errors(floats | mine)
            for place in map(tuple, np.argwhere(apart).tolist()):
                report.flips += 1
                error = Fraction(float(errors[sources[tensor.tensor]][place]))
                problem = _explain(build, tensor, ours, place, error, float(theirs[tensor.tensor][place]))
                if problem is not None:
                    report.unexplained.append(f"{tensor.tensor} {(at + place[0], *place[1:])}: {problem}")
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
    return session(extract(model, [*build.host.inputs, *(name + CUT for name in sorted(read))], names))


def _apart(build: Build, tensor: HostOutput, mine: Array, theirs: Array) -> Any:
    """Where two real tensors on one grid hold different codes."""
    step = min(abs(float(s)) for s in build.graph.values[tensor.value].scale)
    return np.abs(mine - theirs) > step / 2


def _explain(
    build: Build,
    tensor: HostOutput,
    ours: Mapping[str, IntArray],
    index: tuple[int, ...],
    error: Fraction,
    float_value: float,
) -> str | None:
    """None if float32, `error` off before rounding, may give its code; else our code, its value and the exact one."""
    graph = build.graph
    position = int(tensor.index[0].reshape(-1)[np.ravel_multi_index(index[1:], tensor.index.shape[1:])])
    value, channel = graph.values[tensor.value], position % graph.values[tensor.value].channels
    code = int(ours[tensor.value][index[0]].reshape(-1)[position])
    steps, quantizer, exact = None, None, None
    for node, place in _requantized(graph, tensor.value, position):
        assert isinstance(node.op, Requantize)
        (x,) = graph.inputs_of(node)
        integer = int(ours[x.name][index[0]].reshape(-1)[place])
        chain, quantizer = select(node.op.chain, node.op.quantizer, np.array([place % x.channels]))
        steps, reals = _run(chain, Reals(column([integer]), column([integer]), column([1])))
        exact = reals if exact is None else _larger(exact, reals)
    if exact is None or quantizer is None or steps is None:
        return f"float32 gives {float_value:g} for an input code"
    grid = steps[0] if steps else quantizer
    lo, hi = Fraction(exact.lo.item(), exact.den.item()), Fraction(exact.hi.item(), exact.den.item())
    step, zero = grid.scale[0], grid.zero_point[0]
    slack = error + QUANTIZER_ROUNDINGS * UNIT * (max(abs(lo), abs(hi)) + step * (abs(zero) + 1))
    right, _ = _codes(steps, quantizer, lo, hi)
    lower, upper = _codes(steps, quantizer, lo - slack, hi + slack)
    theirs = (Fraction(float_value) - _at(value.shift, channel)) / _at(value.scale, channel)
    if code == right and lower <= round(theirs) <= upper:
        return None
    return f"our code is {code}, float32 gives {float_value:g}, exactly {float(lo):.9g} before rounding"


def _requantized(graph: Graph, name: str, position: int) -> Iterator[tuple[Node, int]]:
    """The requantizers, and the positions in their outputs, whose largest code an element is; a MaxPool may follow them."""
    node = graph.producer(name)
    if node is None or isinstance(node.op, Requantize):
        if node is not None:
            yield node, position
        return
    source = graph.values[node.inputs[0]]
    if isinstance(node.op, WindowMax):
        channels = graph.values[name].channels
        vector, channel = divmod(position, channels)
        for tap in range(node.op.taps):
            yield from _requantized(graph, source.name, vector * source.channels + tap * channels + channel)
    elif isinstance(node.op, SlidingWindow):
        read = int(node.op.positions_read(source.shape).reshape(-1)[position])
        if read < source.size:
            yield from _requantized(graph, source.name, read)
    else:
        yield from _requantized(graph, source.name, position)


def _run(chain: Chain, reals: Reals) -> tuple[tuple[Snap, ...], Reals]:
    """What the chain's steps before a rounding make of an integer, and the rounding steps that are left."""
    steps = [step for step in chain if not isinstance(step, Snap)]
    for step in steps:
        reals = step.exact(reals, FIRST_PRECISION)
    return tuple(step for step in chain if isinstance(step, Snap)), reals


def _larger(a: Reals, b: Reals) -> Reals:
    return a if a.lo.item() * b.den.item() >= b.lo.item() * a.den.item() else b


def _codes(steps: tuple[Snap, ...], quantizer: Quantizer, lo: Fraction, hi: Fraction) -> tuple[int, int]:
    """The codes of both ends of an interval of reals."""
    den = lcm(lo.denominator, hi.denominator)
    ends = [column([int(v * den)]) for v in (lo, hi)]
    reals = Reals(ends[0], ends[1], column([den]))
    for step in steps:
        reals = step.exact(reals, FIRST_PRECISION)
    lower, upper = quantizer.exact(reals)
    return int(lower.item()), int(upper.item())


def _at(column: PerChannel, channel: int) -> Fraction:
    return column[0] if len(column) == 1 else column[channel]
