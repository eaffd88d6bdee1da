"""The report of a build, from its graph and folding."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from fractions import Fraction
from typing import Any

import numpy as np

from broadaxe import emit
from broadaxe.build import Array, Build, Progress, observing, opened
from broadaxe.chain import Affine, Chain, PerChannel, spread
from broadaxe.hardware import Resources
from broadaxe.ir import Graph, IntArray, Node
from broadaxe.ops.costs import total
from broadaxe.ops.importing import Promise, channels_first
from broadaxe.ops.mac import Accumulating, Mac
from broadaxe.ops.requantize import Requantize
from broadaxe.prove.accumulators import Accumulator, accumulators
from broadaxe.prove.certificate import witness_channel
from broadaxe.reports.schema import (
    Amounts,
    Budget,
    End,
    Fifo,
    Histogram,
    Kernel,
    Layer,
    Made,
    Order,
    Packed,
    Port,
    Report,
    Requantizer,
    Witness,
)
from broadaxe.reports.versions import versions
from broadaxe.schedule.dataflow import DEALER
from broadaxe.schedule.folding import cycles_of
from broadaxe.schedule.resources import PARAMETER_BITS, resources_of
from broadaxe.serialize import plain
from broadaxe.types import Interval
from broadaxe.version import __version__

BINS = 64
"""Of a histogram, at most."""


def report_of(
    build: Build | str | os.PathLike[str],
    data: Array | Mapping[str, Array] | str | os.PathLike[str] | None = None,
    *,
    progress: Progress | None = None,
) -> Report:
    """Which accumulator every layer needs and why, and what the design takes.

    Args:
        build: what `compile` or `load` returned, or its folder.
        data: real inputs, batch first, or a file of them: the report then has the sums that they lead to, instead of those
            of the calibration data that `compile` was given.
        progress: called with what is being done.

    Example:
        >>> report = broadaxe.report("build")
        >>> [(layer.name, layer.datatype_bits, layer.width) for layer in report.layers]
        [('conv0', 16, 12), ('conv1', 15, 12), ('gemm0', 17, 12)]

    Returns:
        The report; `layers` has an entry for every accumulator, and `layer(name)` finds one.

    Raises:
        RequestError: no build folder, or data that do not fit the model.
    """
    build = opened(build)
    if data is not None:
        build = observing(build, data, progress)
    spent = resources_of(build.graph, build.lanes, build.flow)
    cycles = cycles_of(build.graph, build.lanes)
    layers = tuple(_layer(build, a, cycles[a.name], spent[a.name]) for a in accumulators(build.graph))
    requantizers = tuple(
        _requantizer(build.graph, node, node.op) for node in build.graph.nodes if isinstance(node.op, Requantize)
    )
    schedule = build.plan.schedule
    return Report(
        broadaxe=__version__,
        top=build.top,
        made=_made(build),
        calibration=None if build.observed is None else build.observed.data,
        inputs=_inputs(build),
        outputs=_outputs(build),
        outputs_of_model=build.lowered.outputs_of_model,
        layers=layers,
        requantizers=requantizers,
        macs=sum(layer.macs for layer in layers),
        interval=schedule.interval,
        slowest=build.plan.network.slowest.name,
        latency=schedule.latency,
        clock_ns=build.settings.clock_ns,
        kernels=tuple(_kernels(build, spent)),
        fifos=tuple(_fifos(build, spent)),
        resources=_amounts(total(spent.values())),
    )


def _amounts(resources: Resources) -> Amounts:
    return Amounts(**asdict(resources))


def _made(build: Build) -> Made:
    return Made(
        command=build.command,
        versions=versions(),
        model_sha256=hashlib.sha256(build.model.SerializeToString()).hexdigest(),
        settings=build.settings.model_dump(mode="json", exclude_defaults=True, exclude={"name"}),
    )


def _layer(build: Build, a: Accumulator, cycles: int, spent: Resources) -> Layer:
    graph = build.graph
    node = graph.node(a.name)
    op, inputs = node.op, graph.inputs_of(node)
    assert isinstance(op, Accumulating)
    inner = a.inner_bits if a.tile else None
    budget = budget_of(build.lowered.promises.get(a.name))
    needed = None if budget is None else inner if budget.of == "tile" else _needed(a)
    prefixes = [p + s for p, s in zip(op.prefix_hull(*inputs), a.starts, strict=True)]
    return Layer(
        name=a.name,
        node=a.origin,
        op=a.op,
        shape=graph.values[node.output].shape,
        macs=a.macs,
        depth=a.depth,
        outputs=a.outputs,
        weight_bits=a.weight_bits,
        input_bits=a.input_bits,
        datatype_bits=a.datatype_bits,
        l1_bits=a.l1_bits,
        exact_bits=a.exact_bits,
        prefix_bits=a.prefix_bits,
        offset_bits=a.offset_bits,
        width=a.width,
        mode=a.mode,
        tile=a.tile,
        inner_bits=a.inner_bits,
        saved_bits=a.datatype_bits - a.width,
        budget=budget,
        margin_bits=None if budget is None or needed is None else budget.bits - needed,
        margin=min(_margin(a.width, a.mode == "offset", *ends) for ends in zip(a.sums, a.starts, strict=True)),
        channel_bits=a.channel_bits,
        lo=tuple(s.lo for s in a.sums),
        hi=tuple(s.hi for s in a.sums),
        starts=a.starts,
        prefix=(min(p.lo for p in prefixes), max(p.hi for p in prefixes)),
        inner=None if a.inner is None else (a.inner.lo, a.inner.hi),
        observed=None if build.observed is None else build.observed.layers.get(a.name),
        weights=_histogram(op.weights) if isinstance(op, Mac) else None,
        witness=_witness(graph, node, op),
        requantizers=tuple(n.name for n in _readers(graph, node) if isinstance(n.op, Requantize)),
        pe=build.folding[a.name].pe,
        simd=build.folding[a.name].simd,
        **_multipliers(build, a.name),
        cycles=cycles,
        resources=_amounts(spent),
    )


def budget_of(promise: Promise | None) -> Budget | None:
    """What a layer's node in the model asks for, if anything."""
    if promise is None or (promise.inner is None and promise.outer is None):
        return None
    if promise.inner is not None:
        return Budget(bits=promise.inner, of="tile")
    assert promise.outer is not None
    return Budget(bits=promise.outer, of="sum")


def _needed(a: Accumulator) -> int:
    """Bits of the present weights: in the mode of the accumulator, or from zero where other weights may be loaded."""
    return a.offset_bits if a.mode == "offset" else a.exact_bits


def _margin(width: int, offset: bool, sums: Interval, start: int) -> int:
    """Counts that a sum may still grow by: see `Layer.margin`."""
    if offset:
        return (1 << width) - 1 - sums.span
    held = 1 << (width - 1)
    return min(held - 1 - (sums.hi + start), held + sums.lo + start)


def _histogram(weights: IntArray) -> Histogram:
    """At most `BINS` bins of whole integers; the first begins at the least weight."""
    lo, hi = int(weights.min()), int(weights.max())
    step = -(-(hi - lo + 1) // BINS)
    counts = np.bincount((weights.reshape(-1) - lo) // step)
    return Histogram(lo=lo, step=step, counts=tuple(counts.tolist()), zeros=int((weights == 0).sum()))


def _witness(graph: Graph, node: Node, op: Accumulating) -> Witness | None:
    inputs = graph.inputs_of(node)
    channel = witness_channel(op.attained(*inputs))
    ends = op.witnesses(inputs, channel)
    if ends is None:
        return None
    low, high = (
        _end(op, [x.reshape(-1, v.channels)[0] for x, v in zip(end, inputs, strict=True)], channel) for end in ends
    )
    return Witness(channel=channel, low=low, high=high)


def _end(op: Accumulating, vectors: list[IntArray], channel: int) -> End:
    left, right = (np.asarray(side, dtype=np.int64) for side in op.factors(vectors, channel))
    return End(sum=int((left * right).sum()), operands=(tuple(left.tolist()), tuple(right.tolist())))


def _readers(graph: Graph, node: Node) -> Iterator[Node]:
    """The kernels that read what a node writes; what only renames a stream is none."""
    for reader in graph.consumers(node.output):
        if reader.op.hardware:
            yield reader
        else:
            yield from _readers(graph, reader)


def _writer(graph: Graph, value: str) -> str:
    """The name of the kernel that writes a value; empty for an input of the network."""
    node = next((n for n in graph.nodes if n.output == value), None)
    if node is None:
        return ""
    return node.name if node.op.hardware else _writer(graph, node.inputs[0])


def _requantizer(graph: Graph, node: Node, op: Requantize) -> Requantizer:
    (x,), output, form = graph.inputs_of(node), graph.values[node.output], op.chosen()
    return Requantizer(
        name=node.name,
        node=node.origin,
        form=form.name,
        channels=output.channels,
        comparisons=op.comparisons,
        reads=_writer(graph, x.name),
        input=plain(x.dtype),
        output=plain(output.dtype),
        parameters=dict(form.parameters()),
    )


def _multipliers(build: Build, name: str) -> dict[str, Any]:
    """What multiplies in a layer, and the widths that follow from its folding."""
    node, lanes = build.graph.node(name), build.lanes[name]
    assert isinstance(node.op, Accumulating)
    inputs, output = build.graph.inputs_of(node), build.graph.values[node.output]
    packing = node.op.packed(inputs, lanes)
    return {
        "multiplier": lanes.multiplier,
        "pe_bits": node.op.pe_bits(inputs, output, lanes),
        "packing": packing
        and Packed(dsp=lanes.dsp.name, products=packing.products, lane=packing.lane, chunk=packing.chunk),
    }


def _kernels(build: Build, spent: Mapping[str, Resources]) -> Iterator[Kernel]:
    kinds = {call["process"]: call["what"] for call in build.flow.calls}
    schedule = build.plan.schedule
    network = build.plan.network
    for process in (*network.processes, *([network.dealer] if network.dealt else [])):
        node = build.graph.node(process.name) if kinds.get(process.name) == "node" else None
        yield Kernel(
            name=process.name,
            kind=node.op.kind if node else kinds.get(process.name, DEALER),
            node=node.origin if node else "",
            trips=process.trace.trips,
            fill=process.holds,
            start=schedule.starts.get(process.name, 0),
            end=schedule.ends.get(process.name, process.period - 1),
            lanes=(build.lanes[process.name].read, build.lanes[process.name].written) if node else None,
            resources=_amounts(spent[process.name]),
        )


def _fifos(build: Build, spent: Mapping[str, Resources]) -> Iterator[Fifo]:
    streams = {stream.name: stream for stream in build.flow.streams}
    for name, fifo in build.plan.network.fifos.items():
        yield Fifo(
            name=name,
            writer=fifo.writer,
            reader=fifo.reader,
            type=plain(build.graph.values[streams[name].type.removesuffix("_t")].dtype),
            lanes=streams[name].lanes,
            bits=fifo.bits,
            words=fifo.words,
            least=build.plan.least[name],
            depth=build.plan.depths[name],
            resources=_amounts(spent[f"fifo {name}"]),
        )
    for parameters in build.flow.parameters:
        yield Fifo(
            name=parameters.name,
            writer=DEALER,
            reader=parameters.node,
            type=f"uint{PARAMETER_BITS}",
            lanes=1,
            bits=PARAMETER_BITS,
            words=1,
            least=1,
            depth=parameters.depth,
            resources=_amounts(spent[f"fifo {parameters.name}"]),
        )


def _inputs(build: Build) -> tuple[Port, ...]:
    ports = {port.value: port for port in build.flow.inputs}
    return tuple(
        _port(build, ports[i.value], i.tensor, i.quantized, i.index, (build.graph.values[i.value].affine,))
        for i in build.lowered.inputs
    )


def _outputs(build: Build) -> tuple[Port, ...]:
    ports = {port.value: port for port in build.flow.outputs}
    return tuple(_port(build, ports[o.value], o.tensor, None, o.index, o.chain) for o in build.lowered.outputs)


def _port(build: Build, port: emit.Port, tensor: str, quantized: str | None, index: IntArray, chain: Chain) -> Port:
    value, affine = build.graph.values[port.value], chain[0]
    assert isinstance(affine, Affine)
    order = order_of(index, port.shape)
    scale, shift = spread(affine.scale, affine.shift)
    zero = tuple(-b / a if a else Fraction(1, 2) for a, b in zip(scale, shift, strict=True))  # a constant has none
    return Port(
        name=port.name,
        tensor=tensor,
        quantized=quantized,
        type=plain(value.dtype),
        lo=value.hull.lo,
        hi=value.hull.hi,
        shape=port.shape,
        lanes=port.lanes,
        bits=port.bits,
        beats=port.beats,
        tensor_shape=index.shape[1:],
        order=order,
        index=tuple(index.reshape(-1).tolist()) if order == "index" else None,
        scale=tuple(map(float, _shared(scale))),
        shift=tuple(map(float, _shared(shift))),
        zero_point=tuple(map(int, _shared(zero))) if all(z.denominator == 1 for z in zero) else None,
        then=tuple(plain(step) for step in chain[1:]),
    )


def order_of(index: IntArray, shape: tuple[int, ...]) -> Order:
    """How the elements of a model tensor, which go to `index` of a stream of this shape, stand there."""
    if (index.reshape(-1) == np.arange(index.size)).all():
        return "tensor"
    if len(shape) == 3 and np.array_equal(index, channels_first(*shape)):
        return "channels-last"
    return "index"


def _shared(column: PerChannel) -> PerChannel:
    """One entry where all are equal."""
    return column[:1] if len(set(column)) == 1 else column
