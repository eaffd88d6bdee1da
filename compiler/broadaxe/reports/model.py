"""The report as data: the schema of report.json and of `broadaxe report --json`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from broadaxe import emit
from broadaxe.build import Build, check_files, opened
from broadaxe.chain import Affine, Chain, PerChannel, spread
from broadaxe.errors import RequestError
from broadaxe.hardware import Resources
from broadaxe.ir import IntArray
from broadaxe.ops.costs import total
from broadaxe.ops.importing import channels_first
from broadaxe.ops.mac import Accumulating
from broadaxe.ops.requantize import Requantize
from broadaxe.prove.accumulators import accumulators
from broadaxe.reports.terminal import text
from broadaxe.schedule.dataflow import DEALER
from broadaxe.schedule.folding import cycles_of
from broadaxe.schedule.resources import PARAMETER_BITS, resources_of
from broadaxe.serialize import plain
from broadaxe.version import __version__


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Packed(_Entry):
    """How the products of a layer share DSP blocks; proven to fit, like every width."""

    dsp: Annotated[str, Field(description="the block that the operands fit")]
    products: Annotated[int, Field(description="of a block in a cycle")]
    lane: Annotated[int, Field(description="bits of the block's adder that hold one sum")]
    chunk: Annotated[int, Field(description="inputs that a lane adds up before it is read; all of them where it is K")]


class Layer(_Entry):
    """One multiply-accumulate layer; widths in bits."""

    name: Annotated[str, Field(description="name in the generated sources")]
    node: Annotated[str, Field(description="the model's node, `name (Operator)`")]
    op: Annotated[str, Field(description="operator of the model")]
    macs: Annotated[int, Field(description="products per sample")]
    depth: Annotated[int, Field(description="K, products in one sum")]
    outputs: Annotated[int, Field(description="output channels")]
    weight_bits: int
    input_bits: int
    datatype_bits: Annotated[int, Field(description="what any weights and inputs of these types may need")]
    l1_bits: Annotated[int, Field(description="what these weights and any input of its type may need")]
    exact_bits: Annotated[int, Field(description="two's complement of the proven interval")]
    prefix_bits: Annotated[int, Field(description="the same for every partial sum in any order, from the start on")]
    offset_bits: Annotated[int, Field(description="the proven interval when the sum may start at any constant")]
    width: Annotated[int, Field(description="declared in hardware")]
    mode: Annotated[str, Field(description="offset, or two's complement")]
    tile: Annotated[int | None, Field(description="inputs per inner sum, where the layer accumulates in stages")]
    inner_bits: Annotated[
        int | None, Field(description="inner accumulator of a layer with tiles; width is the outer one")
    ]
    saved_bits: Annotated[int, Field(description="datatype_bits - width")]
    channel_bits: Annotated[tuple[int, ...], Field(description="two's-complement bits of each channel's own sum")]
    pe: int
    simd: int
    multiplier: Annotated[str, Field(description="lut (fabric), dsp, or packed: a DSP for several products")]
    pe_bits: Annotated[
        tuple[int, ...] | None,
        Field(description="bits at which each PE's accumulator wraps; none where all are as wide as declared"),
    ]
    packing: Annotated[Packed | None, Field(description="how products share a DSP block, where they do")]
    cycles: Annotated[int, Field(description="model: loop trips per frame at II = 1, pipeline fill apart")]


class Requantizer(_Entry):
    """One requantizer and how it was proven."""

    name: str
    node: str
    form: str
    channels: int
    comparisons: Annotated[int, Field(description="exact integer comparisons that proved the form")]


class Amounts(_Entry):
    """Of a device, by model: errors in broadaxe.ops.costs and benchmarks/results/resources.json."""

    lut: float
    ff: float
    dsp: int
    bram18: int
    uram: int

    @classmethod
    def of(cls, resources: Resources) -> Amounts:
        return cls(**asdict(resources))


class Kernel(_Entry):
    """One process of the dataflow: a kernel, a change of lanes, a copy, or an end of an AXI port; all figures are models."""

    name: str
    kind: Annotated[str, Field(description="operator; read and write of AXI ports, lanes, copy, deal (parameters)")]
    node: Annotated[str, Field(description="the model's node, where it stands for one")]
    trips: Annotated[int, Field(description="of its one loop for a frame, at II = 1: exact")]
    fill: Annotated[int, Field(description="pipeline stages: as a tool has reported them, else an assumed bound")]
    start: Annotated[
        int, Field(description="cycle of its first beat in a frame that finds the design empty, at the latest")
    ]
    end: Annotated[int, Field(description="of its last beat")]
    resources: Amounts


class Fifo(_Entry):
    """A stream between two processes."""

    name: str
    writer: str
    reader: str
    bits: Annotated[int, Field(description="of a word")]
    words: Annotated[int, Field(description="in a frame")]
    least: Annotated[
        int, Field(description="depth without deadlock, whatever the pipelines hold back up to their `fill`")
    ]
    depth: Annotated[int, Field(description="declared: frames come at full rate, too")]
    resources: Amounts


Order: TypeAlias = Literal["tensor", "channels-last", "index"]


class Port(_Entry):
    """One AXI-Stream port of the top-level function, and what its integers mean: real = scale * integer + shift.

    A frame is `beats` beats of `bits` bits; each holds `lanes` integers of type `type`, from bit 0 on, in the order of the
    stream, whose shape is `shape`, last axis fastest. Into an input goes the integer nearest to (real - shift) / scale for each
    real of `quantized`, which the model's own quantizer has put on that grid.
    """

    name: Annotated[str, Field(description="of the port: in0, out0, ...")]
    tensor: Annotated[
        str, Field(description="the model's input, or the model's tensor that an output's integers stand for")
    ]
    quantized: Annotated[
        str | None,
        Field(
            description="inputs: the model's quantized tensor, which holds the reals; null where the input is integer"
        ),
    ]
    type: Annotated[str, Field(description="int5: 5 bits of two's complement; uint5: unsigned")]
    lo: Annotated[int, Field(description="least integer; inputs: the least that may be sent")]
    hi: Annotated[int, Field(description="largest integer")]
    shape: Annotated[tuple[int, ...], Field(description="of a frame of the stream, last axis fastest")]
    lanes: Annotated[int, Field(description="integers in a beat")]
    bits: Annotated[int, Field(description="data bits of a beat; those above its lanes are 0")]
    beats: Annotated[int, Field(description="in a frame")]
    tensor_shape: Annotated[
        tuple[int, ...], Field(description="of the model's tensor (inputs: `quantized`), batch axis left out")
    ]
    order: Annotated[
        Order,
        Field(
            description="tensor: the stream's integers are the tensor's elements in their own order; channels-last: the tensor"
            " is (channels, height, width), the stream (height, width, channels); index: see there"
        ),
    ]
    index: Annotated[
        tuple[int, ...] | None,
        Field(description="where in the stream each element of the tensor stands; null unless order says so"),
    ]
    scale: Annotated[tuple[float, ...], Field(description="one, or one for each channel, the last axis of the stream")]
    shift: Annotated[tuple[float, ...], Field(description="as scale")]
    zero_point: Annotated[
        tuple[int, ...] | None, Field(description="-shift / scale, as scale; null where that is no integer")
    ]
    then: Annotated[
        tuple[dict[str, Any], ...],
        Field(
            description="outputs: steps behind scale and shift, rationals as in certificate.json: affine (scale, shift),"
            " clamp (lo, hi; null: open), normalize (gamma * (x - mean) / sqrt(variance) + beta)"
        ),
    ]


class Report(_Entry):
    """Everything the report says about a build."""

    broadaxe: str
    top: str
    inputs: tuple[Port, ...]
    outputs: Annotated[tuple[Port, ...], Field(description="a port may stand for several tensors, in one entry each")]
    outputs_of_model: Annotated[
        tuple[str, ...],
        Field(
            description="the model's outputs; what no port stands for the host computes with the last part of model.onnx"
        ),
    ]
    layers: tuple[Layer, ...]
    requantizers: tuple[Requantizer, ...]
    macs: int
    interval: Annotated[
        int,
        Field(
            description="model: cycles from one frame to the next: loop trips and pipeline fill of the slowest process"
        ),
    ]
    slowest: Annotated[str, Field(description="the process that sets the interval")]
    latency: Annotated[
        int, Field(description="model: cycles from a frame's first beat in to its last beat out, at most, design empty")
    ]
    clock_ns: float
    kernels: tuple[Kernel, ...]
    fifos: tuple[Fifo, ...]
    resources: Annotated[Amounts, Field(description="model: of all kernels and FIFOs")]

    @property
    def frames_per_second(self) -> float:
        """Of back-to-back frames, by model."""
        return 1e9 / (self.interval * self.clock_ns)

    def __str__(self) -> str:
        return text(self)


def read_report(folder: Path) -> Report:
    """The report that compilation left in a build folder; VerificationError where a file there has changed since."""
    check_files(folder)
    try:
        return Report.model_validate_json((folder / "report.json").read_text())
    except (OSError, ValidationError):
        raise RequestError(f"{folder / 'report.json'}: is missing or damaged; compile again") from None


def report_of(build: Build | str | os.PathLike[str]) -> Report:
    """The report of a build, or of the one in a folder, from its graph and folding alone."""
    build = opened(build)
    cycles = cycles_of(build.graph, build.lanes)
    layers = tuple(
        Layer(
            name=a.name,
            node=a.origin,
            op=a.op,
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
            channel_bits=a.channel_bits,
            pe=build.folding[a.name].pe,
            simd=build.folding[a.name].simd,
            **_multipliers(build, a.name),
            cycles=cycles[a.name],
        )
        for a in accumulators(build.graph)
    )
    requantizers = tuple(
        Requantizer(
            name=node.name,
            node=node.origin,
            form=node.op.chosen().name,
            channels=build.graph.values[node.output].channels,
            comparisons=node.op.comparisons,
        )
        for node in build.graph.nodes
        if isinstance(node.op, Requantize)
    )
    spent = resources_of(build.graph, build.lanes, build.flow)
    schedule = build.plan.schedule
    return Report(
        broadaxe=__version__,
        top=build.top,
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
        resources=Amounts.of(total(spent.values())),
    )


def _multipliers(build: Build, name: str) -> dict[str, Any]:
    """What multiplies in a layer, and the widths that follow from its folding."""
    node, lanes = next(n for n in build.graph.nodes if n.name == name), build.lanes[name]
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
            resources=Amounts.of(spent[process.name]),
        )


def _fifos(build: Build, spent: Mapping[str, Resources]) -> Iterator[Fifo]:
    for name, fifo in build.plan.network.fifos.items():
        yield Fifo(
            name=name,
            writer=fifo.writer,
            reader=fifo.reader,
            bits=fifo.bits,
            words=fifo.words,
            least=build.plan.least[name],
            depth=build.plan.depths[name],
            resources=Amounts.of(spent[f"fifo {name}"]),
        )
    for parameters in build.flow.parameters:
        yield Fifo(
            name=parameters.name,
            writer=DEALER,
            reader=parameters.node,
            bits=PARAMETER_BITS,
            words=1,
            least=1,
            depth=parameters.depth,
            resources=Amounts.of(spent[f"fifo {parameters.name}"]),
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
