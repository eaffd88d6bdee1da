"""The integer path against float32 onnxruntime, segment by segment, every difference explained.

A segment is what lies between two quantizers. Each runs in float32 from the integer path's own codes, so that one rounding
flip does not change everything behind it. Where float32 gives another code, the difference is explained only if our code is
the exact one and the exact value before rounding lies no further from a rounding boundary than float32 can err, a rigorous
bound (`broadaxe.float_bound`). Anything else is a mismatch.

An index of a largest element starts a segment of its own, too. Where float32 chooses another one, that is explained only if
ours has the largest exact real and both lie no further apart than float32 can err on them.

The last segments end in reals that no quantizer rounds. What the host makes of the last integers has to lie no further from
float32's result than the same bound and the host's own rounding. Operators behind those reals, such as Softmax, have no
bound; both sides would run them in onnxruntime.
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
from onnx import helper

from broadaxe.build import Array, Build, Progress
from broadaxe.chain import (
    FIRST_PRECISION,
    Affine,
    Chain,
    Ending,
    PerChannel,
    Reals,
    Snap,
    Thresholded,
    codes,
    column,
    points,
    select,
)
from broadaxe.float_bound import FloatBound
from broadaxe.frontend.standard import session, writes_codes
from broadaxe.host import real, rounding
from broadaxe.ir import Graph, IntArray, Node
from broadaxe.lower import HostOutput, extract
from broadaxe.ops.arg_max import ArgMax
from broadaxe.ops.rearrange import Rearrange
from broadaxe.ops.requantize import Requantize
from broadaxe.ops.window import SlidingWindow
from broadaxe.ops.window_max import WindowMax
from broadaxe.reference import frames_at_once, run

UNIT = Fraction(1, 1 << 24)
QUANTIZER_ROUNDINGS = 4
"""x / scale, + zero_point, + 0.5 where a mode rounds by hand; and one to spare."""
CUT = "@codes"
CHOICES = ("ArgMax", "ArgMin", "TopK")
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
        outputs: real numbers compared that no quantizer rounds: the model's outputs, or what they are computed from.
        largest: of all their differences the largest, as a part of what float32 and the host may err.
        beyond: one line for each that is larger: tensor, node, index, both values and the bound.
        uncompared: one line for each output of the model with operators that have no bound: up to where it is checked.
    """

    activations: int = 0
    flips: int = 0
    unexplained: list[str] = field(default_factory=list)
    inputs: int = 0
    differing: int = 0
    outputs: int = 0
    largest: float = 0.0
    beyond: list[str] = field(default_factory=list)
    uncompared: list[str] = field(default_factory=list)


def compare_segments(
    build: Build, data: Mapping[str, Array], codes: Mapping[str, IntArray], progress: Progress | None = None
) -> SegmentReport:
    """Compare every quantizer and every real output of the model, segment by segment, and quantizers end to end.

    Args:
        data: real inputs of the model, batch first.
        codes: the same as the graph's integer inputs.
        progress: called with what is being done.
    """
    report = SegmentReport(uncompared=_uncompared(build))
    tensors, choices = _quantized(build), _choices(build)
    outputs = [o for o in _reals(build) if o.tensor not in choices]
    if not tensors and not outputs and not choices:
        return report
    names = [*(t.tensor for t in tensors), *choices]
    compared = [*names, *(o.tensor for o in outputs)]
    cut = _cut_session(build, names, compared)
    whole = session(extract(build.host.standard, build.host.inputs, compared))
    sources = {n: node.input[0] for node in build.host.qonnx.graph.node for n in node.output if n in names}
    starts = [*names, *(i.tensor for i in build.lowered.inputs), *(t.tensor for t in _input_tensors(build))]
    shapes = {i.tensor: i.index.shape for i in build.lowered.inputs}
    shapes |= {t.tensor: t.index.shape for t in (*build.lowered.tensors, *_input_tensors(build))}
    bound = FloatBound.of(build.host.standard, starts, list(sources.values()), shapes)
    last_bound = FloatBound.of(build.host.standard, starts, [o.tensor for o in outputs], shapes)
    typed = build.host.feeds(data)
    total = len(next(iter(typed.values())))
    count = frames_at_once(build.graph, BLOCK)
    for at in range(0, total, count):
        if progress is not None:
            progress(f"comparing {min(at + count, total)} of {total} inputs with float32 onnxruntime")
        floats = {n: x[at : at + count] for n, x in typed.items()}
        part = {n: x[at : at + count] for n, x in codes.items()}
        ours = run(build.graph, part, every_value=True) | part
        chosen = [choice.tensor for choice in choices.values()]
        mine = {t.tensor: real(t, ours[t.value]) for t in (*tensors, *chosen, *_input_tensors(build))}
        feeds = floats | {name + CUT: values for name, values in mine.items()}
        theirs = _run_session(cut, compared, feeds)
        ends = _run_session(whole, compared, floats)
        differs = np.zeros(len(next(iter(floats.values()))), dtype=bool)
        errors: dict[str, Array] = {}
        for tensor in tensors:
            apart = _apart(build, tensor, mine[tensor.tensor], theirs[tensor.tensor])
            report.activations += apart.size
            if apart.any() and not errors:
                errors = bound.errors(floats | mine)
            for place in map(tuple, np.argwhere(apart).tolist()):
                report.flips += 1
                error = float(errors[sources[tensor.tensor]][place])
                problem = _explain(build, tensor, ours, place, error, float(theirs[tensor.tensor][place]))
                if problem is not None:
                    report.unexplained.append(f"{tensor.tensor} {(at + place[0], *place[1:])}: {problem}")
            apart = _apart(build, tensor, mine[tensor.tensor], ends[tensor.tensor])
            differs |= apart.reshape(len(differs), -1).any(axis=1)
        for name, choice in choices.items():
            apart = mine[name] != theirs[name]
            report.activations += apart.size
            if apart.any() and not errors:
                errors = bound.errors(floats | mine)
            for place in map(tuple, np.argwhere(apart).tolist()):
                report.flips += 1
                problem = choice.explain(ours, place, int(theirs[name][place]), errors[sources[name]])
                if problem is not None:
                    report.unexplained.append(f"{name} {(at + place[0], *place[1:])}: {problem}")
            differs |= (mine[name] != ends[name]).reshape(len(differs), -1).any(axis=1)
        errors = last_bound.errors(floats | mine)
        for output in outputs:
            _compare_reals(build, output, ours[output.value], theirs[output.tensor], errors[output.tensor], at, report)
        report.inputs += len(differs)
        report.differing += int(differs.sum())
    return report


def _quantized(build: Build) -> list[HostOutput]:
    """Tensors that a quantizer of the model writes, with their integer values, in the model's order."""
    writers = {node.output[0] for node in build.host.qonnx.graph.node if writes_codes(node)}
    return [t for t in build.lowered.tensors if t.tensor in writers and build.graph.producer(t.value) is not None]


def _input_tensors(build: Build) -> list[HostOutput]:
    """Quantized inputs, which the host computes."""
    return [
        HostOutput(i.quantized, i.value, i.index, (build.graph.values[i.value].affine,))
        for i in build.lowered.inputs
        if i.quantized is not None
    ]


def _reals(build: Build) -> list[HostOutput]:
    """Tensors that the host makes of the last integers and no quantizer writes."""
    writers = _writers(build)
    return [o for o in build.lowered.outputs if o.tensor in writers and not writes_codes(writers[o.tensor])]


def _writers(build: Build) -> dict[str, onnx.NodeProto]:
    return {name: node for node in build.host.qonnx.graph.node for name in node.output if name}


@dataclass(frozen=True, eq=False)
class _Choice:
    """The index of a largest (or least) element that the hardware computes, and the tensor that it chooses from."""

    tensor: HostOutput
    source: HostOutput
    axis: int
    least: bool

    def explain(self, ours: Mapping[str, IntArray], place: tuple[int, ...], theirs: int, errors: Array) -> str | None:
        """None if float32, as far off as `errors` tells, may choose the element `theirs`; else both elements."""
        mine = int(self._index(ours)[place])
        frame, *rest = place if len(place) == errors.ndim else (*place[: self.axis], 0, *place[self.axis :])
        found = []
        for index in (mine, theirs):
            if not 0 <= index < errors.shape[self.axis]:
                return f"we choose {mine}, float32 chooses {theirs}"
            at = (*rest[: self.axis - 1], index, *rest[self.axis :])
            found.append((self._exact(ours, frame, at), Fraction(float(errors[frame][at]))))
        (value, slack), (other, more) = found
        lead = other - value if self.least else value - other
        if 0 <= lead <= slack + more:
            return None
        return f"we choose {mine}, {float(value):.9g}, float32 chooses {theirs}, {float(other):.9g}"

    def _index(self, ours: Mapping[str, IntArray]) -> Array:
        return real(self.tensor, ours[self.tensor.value])

    def _exact(self, ours: Mapping[str, IntArray], frame: int, at: tuple[int, ...]) -> Fraction:
        (affine,) = self.source.chain
        assert isinstance(affine, Affine)
        integers = ours[self.source.value]
        position = int(self.source.index[0][at])
        channel = position % integers.shape[-1]
        return _at(affine.scale, channel) * int(integers[frame].reshape(-1)[position]) + _at(affine.shift, channel)


def _choices(build: Build) -> dict[str, _Choice]:
    """Indices of largest elements, by the model's tensor that an ArgMax, ArgMin or TopK of the model writes."""
    affine = {i.value: build.graph.values[i.value].affine for i in build.lowered.inputs}
    known = {i.tensor: HostOutput(i.tensor, i.value, i.index, (affine[i.value],)) for i in build.lowered.inputs}
    known |= {t.tensor: t for t in build.lowered.tensors}
    found = {}
    for name, node in _writers(build).items():
        maker = build.graph.producer(known[name].value) if name in known and node.op_type in CHOICES else None
        if maker is None or not isinstance(maker.op, ArgMax):
            continue
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        source = known[node.input[0]]
        axis = int(attributes.get("axis", -1 if node.op_type == "TopK" else 0)) % source.index.ndim
        least = node.op_type == "ArgMin" or not attributes.get("largest", 1)
        found[name] = _Choice(known[name], source, axis, least)
    return found


def _uncompared(build: Build) -> list[str]:
    """Outputs of the model that float operators with no bound compute from what the integers give."""
    known = sorted(o.tensor for o in build.lowered.outputs)
    lines = []
    for name in build.lowered.outputs_of_model:
        if name not in known:
            tail = extract(build.host.qonnx, known, [name]).graph.node
            operators = dict.fromkeys(node.op_type for node in tail)
            starts = [s for s in known if any(s in node.input for node in tail)]
            lines.append(
                f"output {name}: {', '.join(operators)} has no float32 bound; checked up to {', '.join(starts)}"
            )
    return lines


def _run_session(
    floats: onnxruntime.InferenceSession, names: list[str], feeds: Mapping[str, Array]
) -> dict[str, Array]:
    return dict(zip(names, floats.run(names, {i.name: feeds[i.name] for i in floats.get_inputs()}), strict=True))


def _cut_session(build: Build, quantized: list[str], outputs: list[str]) -> onnxruntime.InferenceSession:
    """The float model with every reader of a quantized tensor reading an input of the session instead."""
    model = onnx.ModelProto()
    model.CopyFrom(build.host.standard)
    cuts = {*quantized, *(t.tensor for t in _input_tensors(build))}
    kinds = {i.name: i.type.tensor_type.elem_type for i in (*model.graph.value_info, *model.graph.output)}
    model.graph.value_info.extend(
        helper.make_tensor_value_info(name + CUT, kinds[name], None) for name in sorted(cuts & set(kinds))
    )
    read = set()
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name in cuts:
                node.input[position] = name + CUT
                read.add(name)
    return session(extract(model, [*build.host.inputs, *(name + CUT for name in sorted(read))], outputs))


def _apart(build: Build, tensor: HostOutput, mine: Array, theirs: Array) -> Any:
    """Where two real tensors on one grid hold different codes."""
    step = min(abs(float(s)) for s in build.graph.values[tensor.value].scale)
    return np.abs(mine - theirs) > step / 2


def _compare_reals(
    build: Build, output: HostOutput, integers: IntArray, theirs: Array, error: Array, at: int, report: SegmentReport
) -> None:
    """Record how far float32 is from the host's reals, and where that is further than `error` and the host's rounding."""
    mine = real(output, integers)
    limit = error + rounding(output, integers)
    with np.errstate(invalid="ignore"):  # float32 may overflow: what is not a number lies within no bound
        parts = np.abs(mine.astype(np.float64) - theirs) / limit
    report.outputs += mine.size
    report.largest = max(report.largest, float(np.nan_to_num(parts, nan=np.inf).max()))
    writer = _writers(build)[output.tensor]
    for place in map(tuple, np.argwhere(~(parts <= 1)).tolist()):
        report.beyond.append(
            f"{output.tensor} {(at + place[0], *place[1:])}, {writer.name or output.tensor} ({writer.op_type}): our integers"
            f" give {mine[place]:.9g}, float32 gives {theirs[place]:.9g}, apart by more than {limit[place]:.3g}"
        )


def _explain(
    build: Build,
    tensor: HostOutput,
    ours: Mapping[str, IntArray],
    index: tuple[int, ...],
    error: float,
    float_value: float,
) -> str | None:
    """None if float32, `error` off before rounding, may give its code; else our code, its value and the exact one."""
    graph = build.graph
    position = int(tensor.index[0].reshape(-1)[np.ravel_multi_index(index[1:], tensor.index.shape[1:])])
    value, channel = graph.values[tensor.value], position % graph.values[tensor.value].channels
    code = int(ours[tensor.value][index[0]].reshape(-1)[position])
    writer = next(node for node in build.model.graph.node if tensor.tensor in node.output)
    steps, quantizer, exact, right = None, None, None, None
    for node, place in _requantized(graph, tensor.value, position):
        assert isinstance(node.op, Requantize)
        (x,) = graph.inputs_of(node)
        integer = int(ours[x.name][index[0]].reshape(-1)[place])
        chain, quantizer = select(node.op.chain, node.op.quantizer, np.array([place % x.channels]))
        decided = int(codes(chain, quantizer, column([integer])).item())
        right = decided if right is None else max(right, decided)
        steps, reals = _run(chain, integer, writer.op_type == "Trunc")
        exact = reals if exact is None else _larger(exact, reals)
    if exact is None or quantizer is None or steps is None:
        return f"float32 gives {float_value:g} for an input code"
    lo, hi = Fraction(exact.lo.item(), exact.den.item()), Fraction(exact.hi.item(), exact.den.item())
    if not np.isfinite(error):  # float32 overflows
        return None if code == right else f"our code is {code}, exactly {float(lo):.9g} before rounding"
    grid, slack = steps[0] if steps else quantizer, Fraction(error)
    if not isinstance(grid, Thresholded):  # a comparison with a threshold does not round
        step, zero = grid.scale[0], grid.zero_point[0]
        slack += QUANTIZER_ROUNDINGS * UNIT * (max(abs(lo), abs(hi)) + step * (abs(zero) + 1))
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
    elif isinstance(node.op, Rearrange):
        read = int(node.op.positions.reshape(-1)[position])
        if read >= 0:
            yield from _requantized(graph, source.name, read)
    elif isinstance(node.op, SlidingWindow):
        read = int(node.op.positions_read(source.shape).reshape(-1)[position])
        if read < source.size:
            yield from _requantized(graph, source.name, read)
    else:
        yield from _requantized(graph, source.name, position)


def _run(chain: Chain, integer: int, truncates: bool) -> tuple[tuple[Snap, ...], Reals]:
    """What a chain makes of an integer before its quantizer rounds; the first rounding of a Trunc is left over."""
    last = chain[-1]
    left = (last,) if truncates and isinstance(last, Snap) else ()
    reals = points([[integer]])
    for step in chain[: len(chain) - len(left)]:
        reals = step.exact(reals, FIRST_PRECISION)
    return left, reals


def _larger(a: Reals, b: Reals) -> Reals:
    return a if a.lo.item() * b.den.item() >= b.lo.item() * a.den.item() else b


def _codes(steps: tuple[Snap, ...], quantizer: Ending, lo: Fraction, hi: Fraction) -> tuple[int, int]:
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
