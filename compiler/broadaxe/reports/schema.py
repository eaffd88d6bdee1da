"""The schema of report.json, of `broadaxe report --json` and of the page: everything the report says about a build.

Nothing here but pydantic: a report is read and shown without the compiler.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from broadaxe.errors import RequestError
from broadaxe.reports.terminal import text

NUMBERS = re.compile(r"\[\n[\s\d,.eE+\-\[\]]*\]")
"""Lists of numbers, and lists of those, in indented JSON; never inside a string, which has no line break."""


def _in_one_line(found: re.Match[str]) -> str:
    return re.sub(r"\s+", "", found[0]).replace(",", ", ")


def numbers_in_lines(text: str) -> str:
    """Indented JSON with each list of numbers in one line."""
    return NUMBERS.sub(_in_one_line, text) + "\n"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Packed(_Entry):
    """How the products of a layer share DSP blocks; proven to fit, like every width."""

    dsp: Annotated[str, Field(description="the block that the operands fit")]
    products: Annotated[int, Field(description="of a block in a cycle")]
    lane: Annotated[int, Field(description="bits of the block's adder that hold one sum")]
    chunk: Annotated[int, Field(description="inputs that a lane adds up before it is read; all of them where it is K")]


class Amounts(_Entry):
    """Of a device, by model: errors in broadaxe.ops.costs and benchmarks/results/resources.json."""

    lut: Annotated[float, Field(description="look-up tables")]
    ff: Annotated[float, Field(description="flip-flops")]
    dsp: Annotated[int, Field(description="DSP blocks")]
    bram18: Annotated[int, Field(description="block RAMs of 18 Kb")]
    uram: Annotated[int, Field(description="UltraRAMs")]


class Budget(_Entry):
    """What a layer was quantized for, as its node in the model says."""

    bits: Annotated[int, Field(description="of the whole sum, or of every tile's")]
    of: Annotated[Literal["sum", "tile"], Field(description="what has to fit the bits")]


class Observed(_Entry):
    """What data did to an accumulator; it proves nothing, and shows how much of the proven interval is used."""

    samples: Annotated[int, Field(description="inputs of the network that were run")]
    lo: Annotated[tuple[int, ...], Field(description="least sum of each channel, the start left out")]
    hi: Annotated[tuple[int, ...], Field(description="largest sum of each channel")]


class Histogram(_Entry):
    """Integer weights of a layer: bin i counts those from lo + i * step to lo + (i + 1) * step - 1."""

    lo: Annotated[int, Field(description="least weight of the first bin")]
    step: Annotated[int, Field(ge=1, description="integers in a bin")]
    counts: Annotated[tuple[int, ...], Field(min_length=1, description="weights in each bin")]
    zeros: Annotated[int, Field(description="weights that are 0")]


class End(_Entry):
    """An input that takes a channel's sum to one of its proven ends."""

    sum: Annotated[int, Field(description="what the products add up to, the start left out")]
    operands: Annotated[
        tuple[tuple[int, ...], ...],
        Field(
            description="the integers that are multiplied, in the order of the hardware (kh, kw, c); first those of the"
            " layer's input, then its weights, or the second input's integers where the layer has two"
        ),
    ]


class Witness(_Entry):
    """Why the width cannot be less: inputs that take the widest channel to both ends of its proven interval."""

    channel: Annotated[int, Field(description="the output channel that it drives")]
    low: Annotated[End, Field(description="the input that attains the channel's least sum")]
    high: Annotated[End, Field(description="the one that attains its largest")]


class Layer(_Entry):
    """One multiply-accumulate layer; widths in bits."""

    name: Annotated[str, Field(description="name in the generated sources")]
    node: Annotated[str, Field(description="the model's node, `name (Operator)`")]
    op: Annotated[str, Field(description="operator of the model")]
    shape: Annotated[tuple[int, ...], Field(description="of its output for one sample, channels last")]
    macs: Annotated[int, Field(description="products per sample")]
    depth: Annotated[int, Field(description="K, products in one sum")]
    outputs: Annotated[int, Field(description="output channels")]
    weight_bits: Annotated[int, Field(description="of the weights' type")]
    input_bits: Annotated[int, Field(description="of the inputs' type")]
    datatype_bits: Annotated[int, Field(description="what any weights and inputs of these types may need")]
    l1_bits: Annotated[int, Field(description="what these weights and any input of its type may need")]
    exact_bits: Annotated[int, Field(description="two's complement of the proven interval")]
    prefix_bits: Annotated[int, Field(description="the same for every partial sum in any order, from the start on")]
    offset_bits: Annotated[int, Field(description="the proven interval when the sum may start at any constant")]
    width: Annotated[int, Field(description="declared in hardware")]
    mode: Annotated[str, Field(description="offset, two's complement, or loadable: for all weights within the width")]
    tile: Annotated[int | None, Field(description="inputs per inner sum, where the layer accumulates in stages")]
    inner_bits: Annotated[
        int | None, Field(description="inner accumulator of a layer with tiles; width is the outer one")
    ]
    saved_bits: Annotated[int, Field(description="datatype_bits - width")]
    budget: Annotated[Budget | None, Field(description="what was asked; none where the model asks for nothing")]
    margin_bits: Annotated[
        int | None, Field(description="budget less the width that it is about, as proven; none without a budget")
    ]
    margin: Annotated[
        int,
        Field(
            description="counts that the proven interval may still grow before the accumulator is too narrow, in its"
            " fullest channel: at the nearer end, or at both together where the start is free (offset)"
        ),
    ]
    channel_bits: Annotated[tuple[int, ...], Field(description="two's-complement bits of each channel's own sum")]
    lo: Annotated[tuple[int, ...], Field(description="least sum of each channel, proven and attained; without start")]
    hi: Annotated[tuple[int, ...], Field(description="largest sum of each channel, likewise")]
    starts: Annotated[tuple[int, ...], Field(description="constant that each channel's accumulator starts at")]
    prefix: Annotated[
        tuple[int, int], Field(description="hull of all partial sums of all channels, in any order, start included")
    ]
    inner: Annotated[tuple[int, int] | None, Field(description="hull of all tiles' sums")]
    observed: Annotated[Observed | None, Field(description="on calibration data, where some was given")]
    weights: Annotated[Histogram | None, Field(description="none where both operands are activations")]
    witness: Annotated[Witness | None, Field(description="none where an operator has none of its own")]
    requantizers: Annotated[tuple[str, ...], Field(description="names of the requantizers that read the sum")]
    pe: Annotated[int, Field(description="output channels a cycle")]
    simd: Annotated[int, Field(description="inputs of each sum a cycle")]
    multiplier: Annotated[str, Field(description="lut (fabric), dsp, or packed: a DSP for several products")]
    pe_bits: Annotated[
        tuple[int, ...] | None,
        Field(description="bits at which each PE's accumulator wraps; none where all are as wide as declared"),
    ]
    packing: Annotated[Packed | None, Field(description="how products share a DSP block, where they do")]
    cycles: Annotated[int, Field(description="model: loop trips per frame at II = 1, pipeline fill apart")]
    resources: Annotated[Amounts, Field(description="model: of this layer's kernel alone")]

    @model_validator(mode="after")
    def _every_channel(self) -> Layer:
        """Tables and pages count on a figure for each channel and each product."""
        columns = [self.lo, self.hi, self.starts, self.channel_bits]
        columns += [] if self.observed is None else [self.observed.lo, self.observed.hi]
        if self.outputs < 1 or any(len(column) != self.outputs for column in columns):
            raise ValueError("there is a figure for each output channel")
        if self.witness is not None:
            sides = [*self.witness.low.operands, *self.witness.high.operands]
            known = 0 <= self.witness.channel < self.outputs
            if not known or len(sides) != 4 or any(len(side) != self.depth for side in sides):
                raise ValueError("a witness has two factors for each product of one of the channels")
        return self


class Requantizer(_Entry):
    """One requantizer and how it was proven."""

    name: Annotated[str, Field(description="in the generated sources")]
    node: Annotated[str, Field(description="the model's node, `name (Operator)`")]
    form: Annotated[str, Field(description="what computes it: threshold-search, multiply-shift, ...")]
    channels: Annotated[int, Field(description="that it has constants for")]
    comparisons: Annotated[int, Field(description="exact integer comparisons that proved the form")]
    reads: Annotated[str, Field(description="name of the kernel whose integers it reads; empty where that is an input")]
    input: Annotated[str, Field(description="their type, such as int14")]
    output: Annotated[str, Field(description="type of its codes, such as uint4")]
    parameters: Annotated[
        dict[str, int], Field(description="of the form: levels, multiplier_bits, shift, entries ... as it has them")
    ]


class Kernel(_Entry):
    """One process of the dataflow: a kernel, a change of lanes, a copy, or an end of an AXI port; all figures are models."""

    name: Annotated[str, Field(description="of the process in the generated sources")]
    kind: Annotated[str, Field(description="operator; read and write of AXI ports, lanes, copy, deal (parameters)")]
    node: Annotated[str, Field(description="the model's node, where it stands for one")]
    trips: Annotated[int, Field(description="of its one loop for a frame, at II = 1: exact")]
    fill: Annotated[int, Field(description="pipeline stages: as a tool has reported them, else an assumed bound")]
    start: Annotated[
        int, Field(description="cycle of its first beat in a frame that finds the design empty, at the latest")
    ]
    end: Annotated[int, Field(description="of its last beat")]
    lanes: Annotated[
        tuple[int, int] | None, Field(description="integers read and written a cycle, where it is a kernel of its own")
    ]
    resources: Annotated[Amounts, Field(description="model: of this process alone")]


class Fifo(_Entry):
    """A stream between two processes."""

    name: Annotated[str, Field(description="of the stream in the generated sources")]
    writer: Annotated[str, Field(description="the process that writes it")]
    reader: Annotated[str, Field(description="the process that reads it")]
    type: Annotated[str, Field(description="of an integer in it, such as int14")]
    lanes: Annotated[int, Field(description="integers in a word")]
    bits: Annotated[int, Field(description="of a word")]
    words: Annotated[int, Field(description="in a frame")]
    least: Annotated[
        int, Field(description="depth without deadlock, whatever the pipelines hold back up to their `fill`")
    ]
    depth: Annotated[int, Field(description="declared: frames come at full rate, too")]
    resources: Annotated[Amounts, Field(description="model: of this FIFO alone")]


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
    scale: Annotated[
        tuple[float, ...],
        Field(min_length=1, description="one, or one for each channel, the last axis of the stream"),
    ]
    shift: Annotated[tuple[float, ...], Field(min_length=1, description="as scale")]
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


class Made(_Entry):
    """How a build came about."""

    command: Annotated[str | None, Field(description="the command line; none where a program called the library")]
    versions: Annotated[dict[str, str], Field(description="of Python and of the packages that took part")]
    model_sha256: Annotated[str, Field(description="of the folder's model.onnx")]
    settings: Annotated[
        dict[str, Any], Field(description="of `broadaxe compile`, as in build.json; defaults and the name left out")
    ]


class Data(_Entry):
    """Rows that the observed ranges come from."""

    source: Annotated[str, Field(description="the file, or what it is called where there is none")]
    samples: Annotated[int, Field(description="rows")]


class Report(_Entry):
    """Everything the report says about a build."""

    broadaxe: Annotated[str, Field(description="version that made it")]
    top: Annotated[str, Field(description="name of the top-level function")]
    made: Annotated[Made, Field(description="from what and how")]
    calibration: Annotated[Data | None, Field(description="what the observed ranges come from, where there are some")]
    inputs: Annotated[tuple[Port, ...], Field(description="ports that frames come in at")]
    outputs: Annotated[tuple[Port, ...], Field(description="a port may stand for several tensors, in one entry each")]
    outputs_of_model: Annotated[
        tuple[str, ...],
        Field(
            description="the model's outputs; what no port stands for the host computes with the last part of model.onnx"
        ),
    ]
    layers: Annotated[tuple[Layer, ...], Field(description="multiply-accumulate layers, in the order of the network")]
    requantizers: Annotated[tuple[Requantizer, ...], Field(description="in the order of the network")]
    macs: Annotated[int, Field(description="products per sample")]
    interval: Annotated[
        int,
        Field(
            ge=1,
            description="model: cycles from one frame to the next: loop trips and pipeline fill of the slowest process",
        ),
    ]
    slowest: Annotated[str, Field(description="the process that sets the interval")]
    latency: Annotated[
        int, Field(description="model: cycles from a frame's first beat in to its last beat out, at most, design empty")
    ]
    clock_ns: Annotated[float, Field(gt=0, description="clock period that rates are counted with")]
    kernels: Annotated[tuple[Kernel, ...], Field(description="processes of the dataflow")]
    fifos: Annotated[tuple[Fifo, ...], Field(description="streams between them")]
    resources: Annotated[Amounts, Field(description="model: of all kernels and FIFOs")]

    @property
    def frames_per_second(self) -> float:
        """Of back-to-back frames, by model."""
        return 1e9 / (self.interval * self.clock_ns)

    @property
    def saved_bits(self) -> int:
        """Accumulator bits of all layers against the data-type bound."""
        return sum(layer.saved_bits for layer in self.layers)

    def layer(self, name: str) -> Layer:
        """A layer by its name in the sources, or by its node in the model.

        Raises:
            RequestError: there is none of that name; the message has the nearest.
        """
        for layer in self.layers:
            if name in (layer.name, layer.node, layer.node.rpartition(" (")[0]):
                return layer
        near = get_close_matches(name, [layer.name for layer in self.layers], 3, 0.5)
        known = f"did you mean {' or '.join(near)}?" if near else "`broadaxe report` lists those that there are"
        raise RequestError(f"layer {name}: {self.top} has no multiply-accumulate layer of that name; {known}")

    def as_json(self) -> str:
        """The text of report.json: indented, with lists of numbers in one line."""
        return numbers_in_lines(self.model_dump_json(indent=1))

    def __repr__(self) -> str:
        return f"Report({self.top!r}, {len(self.layers)} layers, {self.saved_bits} accumulator bits saved)"

    def __str__(self) -> str:
        return text(self, full=True)

    def _repr_html_(self) -> str:
        from broadaxe.notebook import html
        from broadaxe.reports.terminal import ReportTable

        return html(ReportTable(self, full=True))
