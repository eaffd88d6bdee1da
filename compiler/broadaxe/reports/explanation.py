"""The schema of `broadaxe explain --json`: why one accumulator has the width it has, in integers. Nothing here but pydantic."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from broadaxe.reports.explanation_text import text
from broadaxe.reports.schema import Budget, End, numbers_in_lines


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Entry):
    """Where inputs of a layer come from."""

    name: Annotated[str, Field(description="of the kernel that makes them, or of the port's value")]
    what: Annotated[str, Field(description="requantizer, input of the network, or the operator's kind")]
    node: Annotated[str, Field(description="the model's node or input tensor")]
    through: Annotated[tuple[str, ...], Field(description="operators that only move them, from the source on")]
    pad_codes: Annotated[
        tuple[int, ...], Field(description="that stand for taps outside an image; sorted, all different")
    ]


class Operand(_Entry):
    """One of the two things that are multiplied."""

    type: Annotated[str, Field(description="such as uint4")]
    range: Annotated[tuple[int, int], Field(description="of the type")]
    short: Annotated[int, Field(description="of the channel's inputs, those proven not to reach an end of the type")]
    zero: Annotated[int, Field(description="taken off before the product, so that it means the real 0")]
    sources: Annotated[tuple[Source, ...], Field(description="where it comes from")]


class Term(_Entry):
    """Products of one kind: the same weight and the same proven interval."""

    count: Annotated[int, Field(description="products of this kind")]
    weight: Annotated[int | None, Field(description="none where both operands are activations")]
    input: Annotated[tuple[int, int], Field(description="interval of the input, or of the left operand")]
    other: Annotated[tuple[int, int] | None, Field(description="interval of the right operand, where there are two")]
    each: Annotated[tuple[int, int], Field(description="interval of one product")]
    together: Annotated[tuple[int, int], Field(description="count times each")]


class Share(_Entry):
    """What the weights of one sign add to both ends of the sum."""

    count: Annotated[int, Field(description="products")]
    least: Annotated[int, Field(description="what they add at the least end")]
    most: Annotated[int, Field(description="at the largest end")]


class Ladder(_Entry):
    """Widths of the channel from the coarsest bound to the one in hardware, each with the integer that it has to hold."""

    datatype_largest: Annotated[int, Field(description="no sum of K products of these types is larger in magnitude")]
    datatype_bits: Annotated[int, Field(description="that hold datatype_largest")]
    l1_norm: Annotated[int | None, Field(description="||w||_1 of the channel; none without weights")]
    l1_largest: Annotated[int, Field(description="no sum of these weights and any inputs of the type is larger")]
    l1_bits: Annotated[int, Field(description="that hold l1_largest")]
    exact_bits: Annotated[int, Field(description="two's complement of [least, most]")]
    offset_bits: Annotated[int, Field(description="bit_length(most - least), or 1")]
    prefix: Annotated[tuple[int, int], Field(description="hull of the partial sums in any order, from the start on")]
    prefix_bits: Annotated[int, Field(description="that hold the prefix")]


class Tiles(_Entry):
    """The two stages of a sum in tiles."""

    size: Annotated[int, Field(description="inputs of a tile")]
    count: Annotated[int, Field(description="of tiles")]
    bits: Annotated[int, Field(description="of the inner accumulator, for all channels")]
    layer: Annotated[tuple[int, int], Field(description="hull of all tiles' sums of all channels, or the budget")]
    widest: Annotated[tuple[int, int], Field(description="sum of this channel's widest tile")]
    overflowing: Annotated[int, Field(description="tiles, of all channels, that do not fit one bit less")]


class Change(_Entry):
    """A weight that would have to be smaller."""

    product: Annotated[int, Field(description="index of the product, in the order of the hardware")]
    place: Annotated[str, Field(description="kh, kw and c of a window's tap, or the input's index")]
    before: Annotated[int, Field(description="the weight as it is")]
    after: Annotated[int, Field(description="the nearest to it that would do")]


class Over(_Entry):
    """A channel that does not fit one bit less."""

    channel: Annotated[int, Field(description="the output channel")]
    least: Annotated[int, Field(description="proven end of its sum")]
    most: Annotated[int, Field(description="the other end")]
    excess: Annotated[
        int,
        Field(description="counts beyond what fits: at the worse end, or of most - least where the start is free"),
    ]
    steps: Annotated[int | None, Field(description="one-step changes of weights that would do; none without weights")]
    fewest: Annotated[bool, Field(description="whether fewer are proven not to do")]
    changes: Annotated[tuple[Change, ...], Field(description="weights that would have to be smaller, the first ones")]


class Saving(_Entry):
    """Of a device, by model."""

    lut: Annotated[float, Field(description="look-up tables")]
    ff: Annotated[float, Field(description="flip-flops")]


class OneBitLess(_Entry):
    """What an accumulator of one bit less would cost and save."""

    bits: Annotated[int, Field(description="one less than declared")]
    free_start: Annotated[bool, Field(description="whether each channel may start where it fits best")]
    channels: Annotated[tuple[int, ...], Field(description="all that do not fit")]
    worst: Annotated[tuple[Over, ...], Field(description="the 20 that are over by most, and the explained one")]
    saves: Annotated[Saving, Field(description="in kernel, requantizers and FIFOs of the sum, folding unchanged")]


class Reached(_Entry):
    """What an execution of the C++ gave at one end."""

    sum: Annotated[int, Field(description="what the accumulator held")]
    code: Annotated[int | None, Field(description="the requantizer's; none where none reads the sum directly")]


class Driven(_Entry):
    """The layer alone in C++ with accumulators of some width, at both ends of the channel."""

    bits: Annotated[int, Field(description="of the accumulators")]
    low: Annotated[Reached, Field(description="at the least end")]
    high: Annotated[Reached, Field(description="at the largest end")]


class Run(_Entry):
    """The generated C++ of the layer, as declared and recompiled with fewer bits."""

    requantizer: Annotated[str | None, Field(description="that made the codes")]
    expected: Annotated[tuple[Reached, Reached], Field(description="at the low and the high end, by arithmetic")]
    declared: Annotated[Driven, Field(description="with accumulators as declared")]
    narrower: Annotated[Driven | None, Field(description="one bit less than the channel needs; none below 1 bit")]

    @property
    def holds(self) -> bool:
        """Whether the declared accumulator gives the sums and the narrower one does not."""
        right = (self.declared.low, self.declared.high) == self.expected
        return right and (self.narrower is None or (self.narrower.low, self.narrower.high) != self.expected)


class Witness(_Entry):
    """Inputs that attain both ends; an input whose weight is 0 stays at its lower bound."""

    low: Annotated[End, Field(description="the input that attains the least sum")]
    high: Annotated[End, Field(description="the one that attains the largest")]
    network: Annotated[
        tuple[int, int] | None,
        Field(
            description="ends that inputs of the network itself attain, where the layer reads them without an operator in"
            " between that computes; none elsewhere: inputs of the layer alone"
        ),
    ]
    file: Annotated[str | None, Field(description="where they were written")]
    arrays: Annotated[tuple[str, ...], Field(description="in that file; low end first, then the high one")]


class Seen(_Entry):
    """The sums of the channel on data; they prove nothing."""

    samples: Annotated[int, Field(description="inputs of the network that were run")]
    least: Annotated[int, Field(description="least sum on them")]
    most: Annotated[int, Field(description="largest sum on them")]


class Explanation(_Entry):
    """Why an accumulator has its width. All integers are exact; `str()` is the text that `broadaxe explain` prints.

    `least` and `most` are the proven ends of the channel's sum without its start, both attained.
    """

    layer: Annotated[str, Field(description="name in the generated sources")]
    node: Annotated[str, Field(description="the model's node, `name (Operator)`")]
    channel: Annotated[int, Field(description="that is explained")]
    channels: Annotated[int, Field(description="outputs of the layer")]
    widest: Annotated[bool, Field(description="whether no channel is wider")]
    depth: Annotated[int, Field(description="K, products in the sum")]
    order: Annotated[str, Field(description="of the products: (kh, kw, c) behind a window")]
    operands: Annotated[tuple[Operand, ...], Field(description="the inputs, or both sides of a product of activations")]
    weight_type: Annotated[str | None, Field(description="such as int4; none without weights")]
    terms: Annotated[tuple[Term, ...], Field(description="kinds of products, those that add most to either end first")]
    positive: Annotated[
        Share, Field(description="of positive weights; without weights, of products that may be positive")
    ]
    negative: Annotated[Share, Field(description="of negative weights")]
    zeros: Annotated[int, Field(description="weights that are 0")]
    least: Annotated[int, Field(description="proven end of the sum, its start left out")]
    most: Annotated[int, Field(description="the other end")]
    start: Annotated[int, Field(description="what the accumulator starts at")]
    mode: Annotated[Literal["offset", "two's complement", "loadable"], Field(description="of the layer")]
    width: Annotated[int, Field(description="bits declared in hardware, of all channels")]
    budget: Annotated[Budget | None, Field(description="what the model's node was quantized for")]
    channel_bits: Annotated[int, Field(description="that this channel needs, its start included")]
    room: Annotated[int, Field(description="counts by which the interval may still grow: at the nearer end, or both")]
    ladder: Annotated[Ladder, Field(description="bounds from the coarsest to the one in hardware")]
    tiles: Annotated[Tiles | None, Field(description="of a sum in two stages")]
    witness: Annotated[Witness, Field(description="inputs that attain both ends")]
    less: Annotated[OneBitLess | None, Field(description="none where the accumulator has 1 bit")]
    run: Annotated[Run | None, Field(description="with --run")]
    seen: Annotated[Seen | None, Field(description="where the build was observed on data")]

    def as_json(self) -> str:
        """Indented, with lists of numbers in one line."""
        return numbers_in_lines(self.model_dump_json(indent=1))

    def __repr__(self) -> str:
        return f"Explanation({self.layer!r}, channel {self.channel}, {self.width} bits for {self.least} to {self.most})"

    def __str__(self) -> str:
        return text(self)

    def _repr_html_(self) -> str:
        from broadaxe.notebook import html

        return html(self)
