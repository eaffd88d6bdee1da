"""Settings of a quantization, as given in Python, on the command line or in a YAML file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from broadaxe.configuration.complaints import Complaint
from broadaxe.configuration.settings import Origin, Settings, checked
from broadaxe.quantization.recipe import PRESETS, BudgetKind, Feedback, Method, Preset, Recipe, ScaleKind, Steps

WIDEST_BUDGET = 48
DEFAULT_WEIGHT_BITS = 4
FLOAT_MODEL = {"only": "for a float model; refused for one that has quantizers of its own"}


class LayerSettings(BaseModel):
    """What one layer, or all whose names match a pattern, may have of its own."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [{"acc_bits": 12}]})

    weight_bits: Annotated[int | None, Field(ge=1, le=16, description="bits of its weights")] = None
    act_bits: Annotated[int | None, Field(ge=1, le=16, description="bits of its input, in a float model")] = None
    acc_bits: Annotated[int | None, Field(ge=1, le=WIDEST_BUDGET, description="bits of its accumulator")] = None
    tile: Annotated[int | None, Field(ge=2, description="inputs of one of its inner accumulators")] = None


class QuantConfig(Settings):
    """What `broadaxe quantize` can be told, beside model and calibration data.

    A field that is None follows the preset, or the model where it has quantizers of its own.
    """

    sections = (
        ("Accumulators", ("acc_bits", "tile", "budget")),
        ("Weights and activations", ("weight_bits", "act_bits", "scales", "layers")),
        (
            "Quantizers of a float model",
            ("input_bits", "first_weight_bits", "last_weight_bits", "ranges", "percentile"),
        ),
        ("How layers are solved", ("preset", "method", "steps", "feedback", "descent", "damping")),
        ("What is aimed at", ("target", "bias_correction", "held_out")),
        ("Choosing bits, with --val", ("search", "max_drop", "search_runs")),
        ("Resources of this machine", ("memory_gb",)),
    )

    preset: Annotated[
        Preset,
        Field(
            description="how much is done: best everything; axe as published, axe-search with the step size searched; rtn,"
            " project and project-search are baselines that round each weight by itself"
        ),
    ] = "best"
    weight_bits: Annotated[
        int | None,
        Field(
            ge=1,
            le=16,
            description=f"width of weights; default: the model's own, else {DEFAULT_WEIGHT_BITS}",
            examples=[4],
            json_schema_extra={"unit": "bits"},
        ),
    ] = None
    act_bits: Annotated[
        int,
        Field(
            ge=1,
            le=16,
            description="width of activations",
            json_schema_extra={"unit": "bits", **FLOAT_MODEL},
        ),
    ] = 8
    acc_bits: Annotated[
        int | None,
        Field(
            ge=1,
            le=WIDEST_BUDGET,
            description="width that every accumulator has to fit, whatever the input; of every tile where there are tiles;"
            " default: no limit",
            examples=[16],
            json_schema_extra={"unit": "bits"},
        ),
    ] = None
    tile: Annotated[
        int | None,
        Field(
            ge=2,
            description="inputs of one inner accumulator; layers with no more inputs have one accumulator",
            examples=[64],
            json_schema_extra={"unit": "inputs", "needs": {"acc_bits": 16}},
        ),
    ] = None
    budget: Annotated[
        BudgetKind | None,
        Field(
            description="where sums start: signed at zero, offset at a constant of each channel's own where nothing forbids it;"
            " default: the preset's",
            examples=["signed"],
        ),
    ] = None
    method: Annotated[Method | None, Field(description="base algorithm; default: the preset's", examples=["optq"])] = (
        None
    )
    steps: Annotated[
        Steps | None,
        Field(
            description="step sizes: from the largest weight, of the least error of weights, or searched for the least error of"
            " outputs; default: the preset's",
            examples=["search"],
        ),
    ] = None
    scales: Annotated[
        ScaleKind,
        Field(
            description="what a step size may be: any, a power of two, or a multiplier of 8 bits times a power of two"
        ),
    ] = "float"
    feedback: Annotated[
        Feedback | None,
        Field(
            description="which error OPTQ feeds back: of the weight behind the budget's threshold, or the full one;"
            " default: the preset's",
            examples=["full"],
        ),
    ] = None
    descent: Annotated[
        bool | None, Field(description="coordinate descent afterwards; default: the preset's", examples=[True])
    ] = None
    damping: Annotated[
        float,
        Field(
            gt=0,
            le=10,
            description="added to the diagonal of Hessians",
            json_schema_extra={"unit": "share of the mean diagonal"},
        ),
    ] = 0.01
    bias_correction: Annotated[
        Literal["off", "on", "auto"],
        Field(description="mend mean errors with the bias; auto: where held-out rows are the better for it"),
    ] = "off"
    target: Annotated[
        Literal["float", "quantized"],
        Field(description="aim at the network without any quantizer, or with its activations' and weights' own"),
    ] = "float"
    ranges: Annotated[
        Literal["max", "percentile", "mse"],
        Field(
            description="where ranges of activations come from: the largest, a percentile, or the least squared error",
            json_schema_extra=FLOAT_MODEL,
        ),
    ] = "mse"
    percentile: Annotated[
        float,
        Field(
            gt=50,
            le=100,
            description="of ranges: percentile",
            json_schema_extra={"unit": "percent", **FLOAT_MODEL},
        ),
    ] = 99.99
    input_bits: Annotated[
        int,
        Field(
            ge=1, le=16, description="width of the model's own input", json_schema_extra={"unit": "bits", **FLOAT_MODEL}
        ),
    ] = 8
    first_weight_bits: Annotated[
        int | None,
        Field(
            ge=1,
            le=16,
            description="width of the first layer's weights; default: as the others",
            examples=[8],
            json_schema_extra={"unit": "bits", **FLOAT_MODEL},
        ),
    ] = None
    last_weight_bits: Annotated[
        int | None,
        Field(
            ge=1,
            le=16,
            description="width of the last layer's weights; default: as the others",
            examples=[8],
            json_schema_extra={"unit": "bits", **FLOAT_MODEL},
        ),
    ] = None
    layers: Annotated[
        dict[str, LayerSettings],
        Field(
            description="settings of single layers by name or pattern (* and ?), the last match counts: weight_bits, act_bits,"
            " acc_bits, tile",
            examples=[{"conv1": {"acc_bits": 12}, "fc*": {"weight_bits": 8}}],
            json_schema_extra={"takes": "by name or pattern {acc_bits: ..., ...}"},
        ),
    ] = {}
    search: Annotated[
        bool,
        Field(
            description="choose weight and activation bits, by layer, that lose least on validation rows; needs acc_bits"
        ),
    ] = False
    max_drop: Annotated[
        float | None,
        Field(
            ge=0,
            le=100,
            description="choose the cheapest bits that lose at most so much there, instead of search",
            examples=[1.0],
            json_schema_extra={"unit": "percent points"},
        ),
    ] = None
    search_runs: Annotated[
        int,
        Field(ge=1, description="what choosing bits may take", json_schema_extra={"unit": "quantizations"}),
    ] = 60
    memory_gb: Annotated[
        float,
        Field(gt=0.01, description="activations above this wait on disk", json_schema_extra={"unit": "GB"}),
    ] = 4.0
    held_out: Annotated[
        float,
        Field(
            ge=0,
            lt=0.9,
            description="calibration rows kept for judging",
            json_schema_extra={"unit": "share of all rows"},
        ),
    ] = 0.125

    def contradictions(self, named: Callable[[str], str]) -> list[Complaint]:
        """See `Settings`."""
        acc_bits, out = named("acc_bits"), []
        if self.tile is not None and self.acc_bits is None and not any(s.acc_bits for s in self.layers.values()):
            out.append(
                Complaint(("tile",), f"{self.tile} needs {acc_bits}, the width of a tile's accumulator; give it")
            )
        if self.search and self.max_drop is not None:
            text = f"{self.max_drop:g} beside {named('search')}, which is another goal; give one of both"
            out.append(Complaint(("max_drop",), text))
        if self.search and self.acc_bits is None:
            out.append(Complaint(("search",), f"needs {acc_bits}, the budget under which bits are chosen; give it"))
        return out

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
    """Validated settings; SettingsError names every field that is wrong."""
    return checked(QuantConfig, values, Origin(where))
