"""The record of a quantization: what was asked, chosen and reached, for every layer; the schema of MODEL.json."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from broadaxe.quantization.config import QuantConfig


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LayerRecord(_Entry):
    """One layer; widths in bits, errors relative to the power of the float output, on calibration rows."""

    name: str
    op: str
    rows: Annotated[int, Field(description="output channels")]
    inputs: Annotated[int, Field(description="K, products in one sum")]
    groups: int
    weight_bits: Annotated[int, Field(description="M of the grid")]
    input_codes: Annotated[tuple[int, int], Field(description="least and largest code of any input, as proven")]
    budget: Annotated[str | None, Field(description="signed, offset, or none")]
    acc_bits: Annotated[int | None, Field(description="P asked, of every tile where there are tiles")]
    tile: int | None
    width: Annotated[
        int, Field(description="of the whole sum as the compiler proves and declares it; 0: nothing reads it")
    ]
    inner_width: Annotated[int | None, Field(description="of the widest tile's sum, likewise")]
    error: Annotated[float, Field(description="E[(x.w - x~.sq)^2] / E[(x.w)^2]")]
    error_centred: Annotated[float, Field(description="the same without the mean error")]
    held_out_error: Annotated[float | None, Field(description="the same as error, on rows that no solver saw")]
    held_out_centred: float | None
    step_multiple: Annotated[float, Field(description="step over max-abs step, median of channels")]
    largest_code: int
    effective_bits: Annotated[int, Field(description="bits that the largest code needs, sign included")]
    zeros: Annotated[float, Field(description="share of weights that are zero")]
    distinct_codes: int
    zero_rows: Annotated[int, Field(description="output channels whose weights are all zero")]
    dead_inputs: Annotated[int, Field(description="inputs that calibration data leave at zero")]
    damping: Annotated[float, Field(description="share of the mean diagonal that the Hessian got")]
    bias_corrected: bool
    seconds: float
    warnings: tuple[str, ...] = ()


class QuantizationRecord(_Entry):
    """Everything there is to say about a quantization."""

    broadaxe: str
    settings: QuantConfig
    samples: Annotated[int, Field(description="calibration rows that solvers saw")]
    held_out_samples: Annotated[int, Field(description="calibration rows kept for judging")]
    layers: tuple[LayerRecord, ...]
    warnings: tuple[str, ...] = ()
    output_error: Annotated[
        float | None, Field(description="squared error of the network's outputs over their power, held-out rows")
    ]
    seconds: float
