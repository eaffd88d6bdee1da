"""The report as data: the schema of report.json and of `broadaxe report --json`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from broadaxe.build import Build, read_manifest
from broadaxe.errors import RequestError
from broadaxe.ops.requantize import Requantize
from broadaxe.prove.accumulators import accumulators
from broadaxe.reports.terminal import text
from broadaxe.schedule.folding import cycles_of
from broadaxe.version import __version__


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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
    cycles: Annotated[int, Field(description="model: loop trips per frame at II = 1, pipeline fill apart")]


class Requantizer(_Entry):
    """One requantizer and how it was proven."""

    name: str
    node: str
    form: str
    channels: int
    comparisons: Annotated[int, Field(description="exact integer comparisons that proved the form")]


class Report(_Entry):
    """Everything the report says about a build."""

    broadaxe: str
    top: str
    layers: tuple[Layer, ...]
    requantizers: tuple[Requantizer, ...]
    macs: int
    cycles: Annotated[
        int, Field(description="model: loop trips of the slowest kernel, the network's initiation interval")
    ]
    slowest: str

    def __str__(self) -> str:
        return text(self)


def read_report(folder: Path) -> Report:
    """The report that compilation left in a build folder."""
    read_manifest(folder)
    try:
        return Report.model_validate_json((folder / "report.json").read_text())
    except (OSError, ValidationError):
        raise RequestError(f"{folder / 'report.json'}: is missing or damaged; compile again") from None


def report_of(build: Build) -> Report:
    """The report of a build, from its graph and folding alone."""
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
    slowest = max(cycles, key=lambda name: cycles[name], default="")
    return Report(
        broadaxe=__version__,
        top=build.top,
        layers=layers,
        requantizers=requantizers,
        macs=sum(layer.macs for layer in layers),
        cycles=cycles.get(slowest, 0),
        slowest=slowest,
    )
