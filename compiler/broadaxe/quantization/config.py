"""Settings of a quantization, as given in Python, on the command line or in a YAML file."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from broadaxe.errors import RequestError
from broadaxe.quantization.recipe import PRESETS, BudgetKind, Feedback, Method, Preset, Recipe, ScaleKind, Steps

WIDEST_BUDGET = 48
DEFAULT_WEIGHT_BITS = 4


class LayerSettings(BaseModel):
    """What one layer, or all whose names match a pattern, may have of its own."""

    model_config = ConfigDict(extra="forbid")

    weight_bits: Annotated[int | None, Field(ge=1, le=16)] = None
    act_bits: Annotated[int | None, Field(ge=1, le=16, description="of the layer's input, in a float model")] = None
    acc_bits: Annotated[int | None, Field(ge=1, le=WIDEST_BUDGET)] = None
    tile: Annotated[int | None, Field(ge=2)] = None


class QuantConfig(BaseModel):
    """What `broadaxe quantize` can be told, beside model and calibration data.

    A field that is None follows the preset, or the model where it has quantizers of its own.
    """

    model_config = ConfigDict(extra="forbid")

    preset: Annotated[Preset, Field(description="where fields below that are not given come from")] = "best"
    weight_bits: Annotated[int | None, Field(ge=1, le=16, description="M; default: the model's own, else 4")] = None
    act_bits: Annotated[int, Field(ge=1, le=16, description="N, in a float model")] = 8
    acc_bits: Annotated[
        int | None, Field(ge=1, le=WIDEST_BUDGET, description="P; of every tile where there are tiles; none: no limit")
    ] = None
    tile: Annotated[
        int | None,
        Field(ge=2, description="T, inputs of one inner accumulator; layers with no more inputs have one accumulator"),
    ] = None
    budget: Annotated[
        BudgetKind | None,
        Field(description="sums counted from zero, or from a constant of each channel's own where nothing forbids it"),
    ] = None
    method: Annotated[Method | None, Field(description="base algorithm")] = None
    steps: Annotated[Steps | None, Field(description="where step sizes come from")] = None
    scales: Annotated[ScaleKind, Field(description="what a step size may be")] = "float"
    feedback: Annotated[Feedback | None, Field(description="OPTQ: which error is fed back")] = None
    descent: Annotated[bool | None, Field(description="coordinate descent afterwards")] = None
    damping: Annotated[float, Field(gt=0, le=10, description="share of the mean diagonal added to Hessians")] = 0.01
    bias_correction: Annotated[
        Literal["off", "on", "auto"],
        Field(description="mend mean errors; auto: where held-out rows are the better for it"),
    ] = "off"
    target: Annotated[
        Literal["float", "quantized"],
        Field(description="aim at the network without any quantizer, or with its activations' and weights' own"),
    ] = "float"
    ranges: Annotated[Literal["max", "percentile", "mse"], Field(description="activation ranges of a float model")] = (
        "mse"
    )
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    input_bits: Annotated[int, Field(ge=1, le=16, description="of a float model's input")] = 8
    first_weight_bits: Annotated[int | None, Field(ge=1, le=16)] = None
    last_weight_bits: Annotated[int | None, Field(ge=1, le=16)] = None
    layers: Annotated[
        dict[str, LayerSettings],
        Field(description="by name or pattern, such as {conv1: {acc_bits: 12}}; last match wins"),
    ] = {}
    search: Annotated[
        bool, Field(description="choose weight and activation bits, by layer, that lose least on validation rows")
    ] = False
    max_drop: Annotated[
        float | None,
        Field(ge=0, le=100, description="choose the cheapest bits that lose at most so many percent points there"),
    ] = None
    search_runs: Annotated[int, Field(ge=1, description="quantizations that choosing bits may take")] = 60
    memory_gb: Annotated[float, Field(gt=0.01, description="activations above this wait on disk")] = 4.0
    held_out: Annotated[float, Field(ge=0, lt=0.9, description="share of calibration rows kept for judging")] = 0.125

    @model_validator(mode="after")
    def _tile_needs_budget(self) -> QuantConfig:
        if self.tile is not None and self.acc_bits is None and not any(s.acc_bits for s in self.layers.values()):
            raise ValueError("tile needs acc_bits, the width of a tile's accumulator")
        if self.search and self.max_drop is not None:
            raise ValueError("search and max_drop are two goals; give one of them")
        if self.search and self.acc_bits is None:
            raise ValueError("search needs acc_bits, the budget under which bits are chosen")
        return self

    def recipe(self) -> Recipe:
        """How layers are solved: the preset, and on top what is given."""
        given: dict[str, Any] = {
            k: getattr(self, k) for k in ("method", "steps", "feedback", "descent") if getattr(self, k) is not None
        }
        return replace(PRESETS[self.preset], scales=self.scales, damping=self.damping, **given)

    def of(self, name: str) -> LayerSettings:
        """The settings of one layer."""
        found: dict[str, Any] = {"weight_bits": self.weight_bits, "acc_bits": self.acc_bits, "tile": self.tile}
        for pattern, layer in self.layers.items():
            if fnmatchcase(name, pattern):
                found |= {k: v for k, v in layer.model_dump().items() if v is not None}
        return LayerSettings(**found)


def quant_config(where: str = "settings", **values: Any) -> QuantConfig:
    """Validated settings; RequestError names the first field that is wrong."""
    try:
        return QuantConfig(**{k: v for k, v in values.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join(LayerSettings.model_fields if first["loc"][0] == "layers" else QuantConfig.model_fields)
            raise RequestError(f"{where}: {place}: is unknown; known settings are {known}") from None
        if first["type"] in ("model_type", "dict_type", "model_attributes_type"):
            raise RequestError(
                f"{where}: {place}: {first['input']!r} is not allowed; give a mapping, such as {{acc_bits: 12}}"
            ) from None
        reason = first["msg"].removeprefix("Value error, ").replace("Input should", "it should")
        shown = f"{place}: {first['input']!r} is not allowed; " if place else ""
        raise RequestError(f"{where}: {shown}{reason}") from None
