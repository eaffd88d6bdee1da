"""Settings of a compilation, as given in Python or in a YAML file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    field_validator,
)

from broadaxe.configuration.complaints import Complaint
from broadaxe.configuration.document import read_document, values_of
from broadaxe.configuration.settings import Settings, configured
from broadaxe.errors import RequestError
from broadaxe.frontend.annotations import WIDEST_INPUT
from broadaxe.hardware import Multiplier
from broadaxe.schedule.devices import Device, device
from broadaxe.schedule.folding import DEFAULT_MULTIPLIERS, Given
from broadaxe.schedule.targets import Request, budget_of, cycles_for
from broadaxe.types import IntType

RequantizerForm = Literal["constant", "shift", "multiply-shift", "thresholds", "threshold-search", "table"]
_TYPE = re.compile(r"(u?)int([1-9][0-9]?)")
_TYPES = f"int1 to int{WIDEST_INPUT}, uint1 to uint{WIDEST_INPUT} or float32"
MOST = (1 << 31) - 1
"""Of anything that is counted: lanes, cycles, resources, frames a second."""
DEEPEST = 1 << 16
"""Stages of a pipeline."""


class FoldSettings(BaseModel):
    """PE, SIMD and what multiplies of one multiply-accumulate layer."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"pe": 8, "simd": 4}, {"lanes": 4}]}
    )

    pe: Annotated[int, Field(ge=1, le=MOST, description="output channels a cycle; divides the layer's outputs")]
    simd: Annotated[
        int,
        Field(ge=1, le=MOST, description="inputs a cycle, of depthwise layers taps; divides the products of one sum"),
    ]
    multiplier: Annotated[Multiplier | None, Field(description="what multiplies; left out: what is cheapest")] = None


class LaneSettings(BaseModel):
    """Lanes of a kernel that is no layer."""

    model_config = ConfigDict(extra="forbid", strict=True)

    lanes: Annotated[
        int, Field(ge=1, le=MOST, description="elements that the kernel reads or writes a cycle, whichever is more")
    ]


def _kind(given: Any) -> str:
    """The name of the model that a kernel's settings are of; pydantic puts it into the places it names."""
    lanes = isinstance(given, LaneSettings) or (isinstance(given, dict) and "lanes" in given)
    return (LaneSettings if lanes else FoldSettings).__name__


def _input_type(text: str) -> str:
    if text != "float32" and _parsed(text) is None:
        raise ValueError(f"type {text!r} is unknown; use {_TYPES}")
    return text


KernelSettings = Annotated[
    Annotated[FoldSettings, Tag("FoldSettings")] | Annotated[LaneSettings, Tag("LaneSettings")], Discriminator(_kind)
]
BUDGETS = {"max_lut": "lut", "max_ff": "ff", "max_dsp": "dsp", "max_bram": "bram18", "max_uram": "uram"}
"""Settings that bound a resource, by its name in `broadaxe.hardware.Resources`."""
OPTIONS = {"inputs": "--input", "requantizers": "--requantizer"}
"""Options of `broadaxe compile` that are not called like their setting."""


class CompileSettings(Settings):
    """What `broadaxe compile` can be told, beside the model."""

    sections = (
        ("The model", ("name", "inputs")),
        ("What it is built for", ("part", "clock_ns", "tool", "control")),
        ("How fast and how large", ("target_fps", "target_ii", *BUDGETS, "multipliers", "folding")),
        ("Weights and accumulators", ("weights", "accumulators", "requantizers")),
        ("What a tool has reported", ("latencies",)),
    )

    name: Annotated[
        str | None,
        Field(description="the top-level function is NAME_top; default: from the model's file", examples=["digits"]),
    ] = None
    inputs: Annotated[
        dict[
            str,
            Annotated[str, AfterValidator(_input_type), Field(json_schema_extra={"takes": f"a type: {_TYPES}"})],
        ],
        Field(
            description="integer types of inputs that need no quantizer; float32 for one that carries reals although the"
            " model declares integers",
            examples=[{"image": "uint8"}],
            json_schema_extra={"takes": f"by the name of an input {_TYPES}"},
        ),
    ] = {}
    folding: Annotated[
        dict[str, KernelSettings],
        Field(
            description="lanes of single kernels by name, as in a build's folding.yaml: pe (output channels a cycle) and"
            " simd (inputs a cycle) of a layer, which may add multiplier: lut, dsp or packed; lanes of any other kernel",
            examples=[{"conv1": {"pe": 8, "simd": 4}, "window1": {"lanes": 4}}],
            json_schema_extra={"takes": "by the name of a kernel {pe: ..., simd: ...} or {lanes: ...}"},
        ),
    ] = {}
    multipliers: Annotated[
        int | None,
        Field(
            ge=1,
            le=MOST,
            description="lanes of the busiest layer in the default folding; given with a part, that folding is kept instead"
            f" of the fastest that fits; default: {DEFAULT_MULTIPLIERS}",
            examples=[DEFAULT_MULTIPLIERS],
            json_schema_extra={"unit": "multipliers"},
        ),
    ] = None
    target_fps: Annotated[
        float | None,
        Field(
            gt=0,
            le=MOST,
            description="what the folding has to reach, at least cost",
            examples=[1000],
            json_schema_extra={"unit": "frames a second"},
        ),
    ] = None
    target_ii: Annotated[
        int | None,
        Field(
            ge=1,
            le=MOST,
            description="the same as the time from one frame to the next",
            examples=[20000],
            json_schema_extra={"unit": "cycles", "instead_of": "target_fps"},
        ),
    ] = None
    max_lut: Annotated[
        int | None,
        Field(
            ge=0, le=MOST, description="what the design may take", examples=[50000], json_schema_extra={"unit": "LUTs"}
        ),
    ] = None
    max_ff: Annotated[
        int | None,
        Field(
            ge=0,
            le=MOST,
            description="what the design may take",
            examples=[100000],
            json_schema_extra={"unit": "flip-flops"},
        ),
    ] = None
    max_dsp: Annotated[
        int | None,
        Field(
            ge=0,
            le=MOST,
            description="what the design may take",
            examples=[220],
            json_schema_extra={"unit": "DSP blocks"},
        ),
    ] = None
    max_bram: Annotated[
        int | None,
        Field(
            ge=0,
            le=MOST,
            description="what the design may take",
            examples=[280],
            json_schema_extra={"unit": "block RAMs of 18 Kb"},
        ),
    ] = None
    max_uram: Annotated[
        int | None,
        Field(
            ge=0,
            le=MOST,
            description="what the design may take",
            examples=[96],
            json_schema_extra={"unit": "UltraRAMs"},
        ),
    ] = None
    requantizers: Annotated[
        dict[str, RequantizerForm],
        Field(
            description='form by the name of a requantizer, or for all with "*"; one that cannot be proven equal is'
            " refused; default: the cheapest that is proven",
            examples=[{"*": "thresholds"}],
        ),
    ] = {}
    weights: Annotated[
        Literal["fixed", "runtime"],
        Field(
            description="whether hardware is for these weights (fixed) or for all weights within each layer's budget, which are"
            " loaded like data (runtime)"
        ),
    ] = "fixed"
    accumulators: Annotated[
        dict[str, Annotated[int, Field(ge=1)]],
        Field(
            description='widths by layer, or for all with "*", where weights are loaded; default: those that the model'
            " promises, or that its weights need",
            examples=[{"conv1": 14, "*": 16}],
            json_schema_extra={"unit": "bits", "needs": {"weights": "runtime"}},
        ),
    ] = {}
    tool: Annotated[
        Literal["vitis", "vivado"], Field(description="which HLS tool reads the sources: Vitis HLS or Vivado HLS")
    ] = "vitis"
    control: Annotated[
        Literal["s_axilite", "ap_ctrl_none"],
        Field(description="block-level interface of the top function: started by registers, or always running"),
    ] = "s_axilite"
    latencies: Annotated[
        dict[str, Annotated[int, Field(ge=0, le=DEEPEST)]],
        Field(
            description="pipeline stages by kernel as a tool has reported them, instead of the assumed bounds, for FIFO"
            " depths; `broadaxe cosim` writes them to vendor/work/latencies.yaml",
            examples=[{"conv0": 9}],
            json_schema_extra={"unit": "cycles"},
        ),
    ] = {}
    part: Annotated[
        str | None,
        Field(
            description="part number, or the name of a device or board; alone it asks for the fastest folding that fits",
            examples=["ZCU104"],
        ),
    ] = None
    clock_ns: Annotated[
        float,
        Field(
            ge=0.5,
            le=1000,
            description="period that the design is synthesised for",
            json_schema_extra={"unit": "nanoseconds"},
        ),
    ] = 5.0
    _folded_by: str | None = PrivateAttr(None)

    @field_validator("part")
    @classmethod
    def _known_part(cls, part: str | None) -> str | None:
        try:
            return None if part is None else device(part).part
        except RequestError as error:
            raise ValueError(str(error).removeprefix("part: ")) from None

    def contradictions(self, named: Callable[[str], str]) -> list[Complaint]:
        """See `Settings`."""
        out = []
        if self.accumulators and self.weights == "fixed":
            text = f"are sized to fixed weights; give {named('weights')} runtime to choose their widths"
            out.append(Complaint(("accumulators",), text))
        if self.weights == "runtime" and self.control != "s_axilite":
            text = f"{self.control} has no register that starts a load; with {named('weights')} runtime use s_axilite"
            out.append(Complaint(("control",), text))
        if self.target_fps is not None and self.target_ii is not None:
            text = f"{self.target_ii} beside {named('target_fps')} {self.target_fps:g}; give one of both"
            out.append(Complaint(("target_ii",), text))
        return out

    @property
    def device(self) -> Device | None:
        """What `part` names."""
        return None if self.part is None else device(self.part)

    @property
    def input_types(self) -> dict[str, IntType | None]:
        """`inputs`, by name; None for one that carries reals."""
        return {name: input_type(name, text) for name, text in self.inputs.items()}

    def folding_place(self, kernel: str) -> str:
        """Where the folding of a kernel was given, for messages: with its line, if it is in a file."""
        origin = self._origin
        if self._folded_by is not None:
            return f"{self._folded_by}: {kernel}"
        if "folding" in origin.files or (origin.document is not None and "folding" in origin.document.values):
            return origin.place(("folding", kernel))
        return f"folding: {kernel}"

    def folded_by(self, path: Path) -> CompileSettings:
        """The same settings, their folding said to come from a file."""
        copy = self.model_copy()
        copy._folded_by = str(path)
        return copy

    @property
    def given(self) -> dict[str, Given]:
        """The folding, by kernel."""
        return {name: Given(**entry.model_dump()) for name, entry in self.folding.items()}

    @property
    def request(self) -> Request | None:
        """What the folding has to reach; None where a rule does, or where nothing but a folding is given.

        A part alone asks for the fastest design that fits it, unless a folding or a number of multipliers is given.
        """
        budget = {kind: getattr(self, name) for name, kind in BUDGETS.items() if getattr(self, name) is not None}
        held = None if self.device is None else self.device.resources
        ruled = bool(self.folding) or self.multipliers is not None
        if self.target_fps is self.target_ii is None and not budget and (held is None or ruled):
            return None
        cycles = self.target_ii if self.target_fps is None else cycles_for(self.target_fps, self.clock_ns)
        return Request(cycles, (budget_of(held) if held else {}) | budget, held, self.clock_ns)


def _parsed(text: str) -> IntType | None:
    match = _TYPE.fullmatch(text)
    return None if match is None or int(match[2]) > WIDEST_INPUT else IntType(int(match[2]), signed=not match[1])


def input_type(name: str, text: str) -> IntType | None:
    """`uint8`, `int4`, ... as an integer type; None of `float32`."""
    try:
        return _parsed(_input_type(text))
    except ValueError as error:
        raise RequestError(f"input {name}: {error}") from None


def settings(**values: Any) -> CompileSettings:
    """Validated settings; SettingsError names every field that is wrong."""
    return CompileSettings(**values)


def compile_settings(
    config: Path | None = None,
    *,
    folding: Path | None = None,
    latencies: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> CompileSettings:
    """Settings of a file, of a folding's and a latencies' own, and of options, which go on top.

    Raises:
        SettingsError: all mistakes of all of them, each with file and line or with its option.
    """
    files = {"folding": folding, "latencies": latencies}
    return configured(CompileSettings, config, options or {}, files=files, names=OPTIONS)


def read_settings(path: Path, **overrides: Any) -> CompileSettings:
    """Settings from a YAML file, with the overrides that are not None on top."""
    return configured(CompileSettings, path, overrides, names={name: name for name in overrides})


def read_folding(path: Path) -> dict[str, FoldSettings | LaneSettings]:
    """Lanes per kernel from a YAML file."""
    return compile_settings(folding=path).folding


def read_latencies(path: Path) -> dict[str, int]:
    """Pipeline stages per process from a YAML file, as `broadaxe cosim` writes it."""
    return compile_settings(latencies=path).latencies


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping, of another program's settings."""
    return values_of(read_document(path))
