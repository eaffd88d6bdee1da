"""The record of a quantization: what was asked, chosen and reached, for every layer; the schema of MODEL.json."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from broadaxe.quantization.config import QuantConfig
from broadaxe.quantization.cost import Work, luts


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LayerRecord(_Entry):
    """One layer; widths in bits, errors relative to the power of the float output, on calibration rows."""

    name: Annotated[str, Field(description="of the model's node")]
    op: Annotated[str, Field(description="operator of the model")]
    rows: Annotated[int, Field(description="output channels")]
    inputs: Annotated[int, Field(description="K, products in one sum")]
    groups: Annotated[int, Field(description="of a grouped convolution, else 1")]
    products: Annotated[int, Field(description="multiplications per sample")]
    weight_bits: Annotated[int, Field(description="M of the grid")]
    input_codes: Annotated[tuple[int, int], Field(description="least and largest code of any input, as proven")]
    budget: Annotated[str | None, Field(description="signed, offset, or none")]
    acc_bits: Annotated[int | None, Field(description="P asked, of every tile where there are tiles")]
    tile: Annotated[int | None, Field(description="T, inputs of one inner accumulator; none: one accumulator")]
    width: Annotated[
        int, Field(description="of the whole sum as the compiler proves and declares it; 0: nothing reads it")
    ]
    inner_width: Annotated[int | None, Field(description="of the widest tile's sum, likewise")]
    error: Annotated[float, Field(description="E[(x.w - x~.sq)^2] / E[(x.w)^2]")]
    error_centred: Annotated[float, Field(description="the same without the mean error")]
    held_out_error: Annotated[float | None, Field(description="the same as error, on rows that no solver saw")]
    held_out_centred: Annotated[
        float | None, Field(description="the same as error_centred, on rows that no solver saw")
    ]
    step_multiple: Annotated[float, Field(description="step over max-abs step, median of channels")]
    largest_code: Annotated[int, Field(description="largest absolute integer weight")]
    effective_bits: Annotated[int, Field(description="bits that the largest code needs, sign included")]
    zeros: Annotated[float, Field(description="share of weights that are zero")]
    distinct_codes: Annotated[int, Field(description="different integers among the weights")]
    zero_rows: Annotated[int, Field(description="output channels whose weights are all zero")]
    dead_inputs: Annotated[int, Field(description="inputs that calibration data leave at zero")]
    damping: Annotated[float, Field(description="share of the mean diagonal that the Hessian got")]
    bias_corrected: Annotated[bool, Field(description="whether mean errors went into the bias")]
    seconds: Annotated[float, Field(description="that the layer took")]
    warnings: Annotated[tuple[str, ...], Field(description="what a user should look at")] = ()


class RowsRecord(_Entry):
    """What some rows did."""

    role: Annotated[Literal["calibration", "validation", "test"], Field(description="what they were used for")]
    source: Annotated[str, Field(description="file, or what they are called where there is none")]
    samples: Annotated[int, Field(description="rows")]
    sha256: Annotated[str, Field(description="of the rows")]


class ScoreRecord(_Entry):
    """Percent on validation rows."""

    metric: Annotated[str, Field(description="accuracy, or fidelity to the float network's outputs")]
    float_network: Annotated[float, Field(description="of the float network")]
    quantized: Annotated[float, Field(description="of the quantized network")]


class TrialRecord(_Entry):
    """One setting that was tried while bits were chosen."""

    what: Annotated[str, Field(description="the change that was tried")]
    bits: Annotated[dict[str, tuple[int, int, int | None]], Field(description="M, N and P asked, by layer")]
    score: Annotated[float | None, Field(description="percent on validation rows; none where it was refused")]
    error: Annotated[float | None, Field(description="of the outputs on held-out calibration rows")]
    cost: Annotated[float | None, Field(description="LUTs, by the model of quantization/cost.py")]
    refused: Annotated[str | None, Field(description="why the setting cannot be had, if so")] = None
    chosen: Annotated[bool, Field(description="whether the search went on from it")] = False


class ChoiceRecord(_Entry):
    """How bits were chosen."""

    goal: Annotated[str, Field(description="what was asked for")]
    metric: Annotated[str, Field(description="accuracy, or fidelity to the float network's outputs")]
    float_score: Annotated[float, Field(description="percent of the float network")]
    score: Annotated[float, Field(description="percent of what was chosen")]
    cost: Annotated[float, Field(description="of what was chosen: LUTs, by the model of quantization/cost.py")]
    best_uniform_cost: Annotated[
        float | None, Field(description="of the cheapest trial within the drop whose layers all had the same bits")
    ]
    trials: Annotated[tuple[TrialRecord, ...], Field(description="in the order in which they were made")]


class QuantizationRecord(_Entry):
    """Everything there is to say about a quantization."""

    broadaxe: Annotated[str, Field(description="version that made it")]
    model: Annotated[str | None, Field(description="the file it was made from")] = None
    settings: Annotated[QuantConfig, Field(description="as asked")]
    samples: Annotated[int, Field(description="calibration rows that solvers saw")]
    held_out_samples: Annotated[int, Field(description="calibration rows kept for judging")]
    layers: Annotated[tuple[LayerRecord, ...], Field(description="in the order of the network")]
    rows: Annotated[tuple[RowsRecord, ...], Field(description="which rows did what")] = ()
    scores: Annotated[ScoreRecord | None, Field(description="on validation rows, where there are some")] = None
    choice: Annotated[ChoiceRecord | None, Field(description="how bits were chosen, where they were")] = None
    warnings: Annotated[tuple[str, ...], Field(description="what a user should look at")] = ()
    output_error: Annotated[
        float | None, Field(description="squared error of the network's outputs over their power, held-out rows")
    ]
    seconds: Annotated[float, Field(description="of the whole quantization")]

    @property
    def cost(self) -> float:
        """LUTs, by the model of `broadaxe.quantization.cost`."""
        return luts(
            [
                Work(
                    layer.products,
                    layer.rows * layer.inputs,
                    layer.effective_bits,
                    act_bits(layer.input_codes),
                    layer.width if layer.inner_width is None else layer.inner_width,
                )
                for layer in self.layers
            ]
        )


def act_bits(codes: tuple[int, int]) -> int:
    """N that holds codes between two ends."""
    low, high = codes
    return max(1, high.bit_length() if low >= 0 else max(high.bit_length(), (-low - 1).bit_length()) + 1)
