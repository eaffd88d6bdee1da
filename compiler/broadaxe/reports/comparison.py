"""The schema of `broadaxe compare --json`: two builds side by side. Nothing here but pydantic."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from broadaxe.reports.schema import Amounts, numbers_in_lines


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Entry):
    """One number of both builds."""

    name: Annotated[str, Field(description="what it is")]
    better: Annotated[Literal["less", "more"], Field(description="which way is better")]
    a: Annotated[float | int, Field(description="of A")]
    b: Annotated[float | int, Field(description="of B")]
    change: Annotated[float | int, Field(description="b - a")]
    percent: Annotated[float | None, Field(description="change in percent of a; none where a is 0")]

    @property
    def gain(self) -> bool | None:
        """Whether b is the better one; None where both are alike."""
        if not self.change:
            return None
        return (self.change < 0) == (self.better == "less")


def figure(name: str, a: float, b: float, better: Literal["less", "more"] = "less") -> Figure:
    """A figure with its change; changes of floats are rounded where their digits mean nothing."""
    change = b - a if isinstance(a, int) and isinstance(b, int) else round(b - a, 9)
    return Figure(name=name, better=better, a=a, b=b, change=change, percent=round(100 * change / a, 6) if a else None)


class Setting(_Entry):
    """A setting of `broadaxe compile`, or what was compiled, in which the builds differ; none stands for the default."""

    name: Annotated[str, Field(description="as in the settings of compile")]
    a: Annotated[Any, Field(description="of A")]
    b: Annotated[Any, Field(description="of B")]


class Side(_Entry):
    """A layer in one of the builds; see `broadaxe.reports.schema.Layer`."""

    name: Annotated[str, Field(description="in the generated sources")]
    shape: Annotated[tuple[int, ...], Field(description="of the outputs")]
    depth: Annotated[int, Field(description="K, products in one sum")]
    weight_bits: Annotated[int, Field(description="of the weights' type")]
    input_bits: Annotated[int, Field(description="of the inputs' type")]
    datatype_bits: Annotated[int, Field(description="what any weights and inputs of these types may need")]
    inner_bits: Annotated[int | None, Field(description="of the inner accumulator of a layer with tiles")]
    width: Annotated[int, Field(description="of the accumulator, as declared")]
    mode: Annotated[str, Field(description="offset, or two's complement")]
    pe: Annotated[int, Field(description="output channels a cycle")]
    simd: Annotated[int, Field(description="inputs of each sum a cycle")]
    multiplier: Annotated[str, Field(description="lut, dsp or packed")]
    cycles: Annotated[int, Field(description="model: loop trips per frame")]
    resources: Annotated[Amounts, Field(description="model: of the kernel alone")]
    forms: Annotated[tuple[str, ...], Field(description="of the requantizers that read its sums")]


class Pairing(_Entry):
    """A layer of both builds, or of one."""

    node: Annotated[str, Field(description="the model's node, of A where there are two")]
    matched: Annotated[
        Literal["name", "order", "alone"],
        Field(description="by the node's name, by operator and shape in the order of the layers, or not at all"),
    ]
    a: Annotated[Side | None, Field(description="the layer in A, if it is there")]
    b: Annotated[Side | None, Field(description="the layer in B, if it is there")]
    figures: Annotated[tuple[Figure, ...], Field(description="of a layer of both: bits, cycles, resources")]


class Same(_Entry):
    """Whether both builds are known to compute the same."""

    claim: Annotated[
        Literal["proven", "equal on data", "different on data", "open"],
        Field(description="proven only of the same model and the same integer graph in both certificates"),
    ]
    why: Annotated[str, Field(description="what the claim rests on")]


class Run(_Entry):
    """Both builds on data, by the bit-accurate reference."""

    source: Annotated[str, Field(description="the file, or what the data are called where there is none")]
    samples: Annotated[int, Field(description="rows")]
    differing: Annotated[int | None, Field(description="samples with another output somewhere; none: not comparable")]
    other_largest: Annotated[
        int | None, Field(description="samples whose first output is largest elsewhere; none: not comparable")
    ]
    accuracy: Annotated[Figure | None, Field(description="percent of samples whose largest output is at the label")]


class Build(_Entry):
    """One of the builds."""

    place: Annotated[str, Field(description="folder")]
    top: Annotated[str, Field(description="name of the top-level function")]
    broadaxe: Annotated[str, Field(description="version that made it")]
    model_sha256: Annotated[str, Field(description="of model.onnx")]


class Comparison(_Entry):
    """Two builds side by side: A, from which changes count, and B. `str()` is the tables of `broadaxe compare`."""

    a: Annotated[Build, Field(description="the first build")]
    b: Annotated[Build, Field(description="the second")]
    settings: Annotated[tuple[Setting, ...], Field(description="that differ")]
    same: Annotated[Same, Field(description="whether both compute the same")]
    layers: Annotated[tuple[Pairing, ...], Field(description="in the order of the network")]
    figures: Annotated[tuple[Figure, ...], Field(description="of the whole designs; all but MACs are models")]
    run: Annotated[Run | None, Field(description="with data")]
    notes: Annotated[tuple[str, ...], Field(description="what could not be compared, and why")]

    def as_json(self) -> str:
        """Indented, with lists of numbers in one line."""
        return numbers_in_lines(self.model_dump_json(indent=1))

    def __repr__(self) -> str:
        return f"Comparison({self.a.place!r}, {self.b.place!r}, {self.same.claim})"

    def __str__(self) -> str:
        from broadaxe.printing import plain
        from broadaxe.reports.comparison_table import ComparisonTable

        return plain(ComparisonTable(self), 120)

    def _repr_html_(self) -> str:
        from broadaxe.notebook import html
        from broadaxe.reports.comparison_table import ComparisonTable

        return html(ComparisonTable(self))
