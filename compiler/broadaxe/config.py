"""Settings of a compilation, as given in Python or in a YAML file."""

from __future__ import annotations

import re
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from broadaxe.errors import RequestError
from broadaxe.frontend.annotations import WIDEST_INPUT
from broadaxe.hardware import Multiplier
from broadaxe.schedule.devices import Device, device
from broadaxe.schedule.folding import DEFAULT_MULTIPLIERS, Given
from broadaxe.schedule.targets import Request, budget_of, cycles_for
from broadaxe.types import IntType

RequantizerForm = Literal["constant", "shift", "multiply-shift", "thresholds", "threshold-search", "table"]
_TYPE = re.compile(r"(u?)int([1-9][0-9]?)")
REMEDIES = {
    "greater_than_equal": "give {ge} or more",
    "greater_than": "give more than {gt}",
    "less_than_equal": "give {le} or less",
    "literal_error": "use {expected}",
    "int_type": "give a whole number",
    "int_parsing": "give a whole number",
    "int_from_float": "give a whole number",
    "float_type": "give a number",
    "float_parsing": "give a number",
    "string_type": "give text",
    "dict_type": "give a mapping",
    "model_type": "give a mapping, such as {{pe: 8, simd: 4}}",
}
"""What to do about a value, by pydantic's name for what is wrong with it."""


MOST = (1 << 31) - 1
"""Of anything that is counted: lanes, cycles, resources, frames a second."""
DEEPEST = 1 << 16
"""Stages of a pipeline."""


class FoldSettings(BaseModel):
    """PE, SIMD and what multiplies of one multiply-accumulate layer."""

    model_config = ConfigDict(extra="forbid")

    pe: Annotated[int, Field(ge=1, le=MOST, description="output channels a cycle; divides the layer's outputs")]
    simd: Annotated[
        int,
        Field(ge=1, le=MOST, description="inputs a cycle, of depthwise layers taps; divides the products of one sum"),
    ]
    multiplier: Annotated[Multiplier | None, Field(description="what multiplies; left out: what is cheapest")] = None


class LaneSettings(BaseModel):
    """Lanes of a kernel that is no layer."""

    model_config = ConfigDict(extra="forbid")

    lanes: Annotated[
        int, Field(ge=1, le=MOST, description="elements that the kernel reads or writes a cycle, whichever is more")
    ]


def _kind(given: Any) -> str:
    return "lanes" if isinstance(given, LaneSettings) or (isinstance(given, dict) and "lanes" in given) else "fold"


KernelSettings = Annotated[
    Annotated[FoldSettings, Tag("fold")] | Annotated[LaneSettings, Tag("lanes")], Discriminator(_kind)
]
BUDGETS = {"max_lut": "lut", "max_ff": "ff", "max_dsp": "dsp", "max_bram": "bram18", "max_uram": "uram"}
"""Settings that bound a resource, by its name in `broadaxe.hardware.Resources`."""


class CompileSettings(BaseModel):
    """What `broadaxe compile` can be told, beside the model."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[
        str | None, Field(description="the top-level function is NAME_top; default: from the model's file")
    ] = None
    inputs: Annotated[
        dict[str, str],
        Field(
            description="integer types of inputs that need no quantizer, such as {image: uint8}; float32 for one that"
            " carries reals although the model declares integers"
        ),
    ] = {}
    folding: Annotated[
        dict[str, KernelSettings],
        Field(description="lanes per kernel, such as {conv1: {pe: 8, simd: 4}, window1: {lanes: 4}}"),
    ] = {}
    multipliers: Annotated[
        int, Field(ge=1, le=MOST, description="lanes of the busiest layer in the default folding")
    ] = DEFAULT_MULTIPLIERS
    target_fps: Annotated[
        float | None, Field(gt=0, le=MOST, description="frames a second that the folding has to reach")
    ] = None
    target_ii: Annotated[
        int | None, Field(ge=1, le=MOST, description="cycles that a frame may take, instead of target_fps")
    ] = None
    max_lut: Annotated[int | None, Field(ge=0, le=MOST, description="LUTs that the design may take")] = None
    max_ff: Annotated[int | None, Field(ge=0, le=MOST, description="flip-flops that it may take")] = None
    max_dsp: Annotated[int | None, Field(ge=0, le=MOST, description="DSP blocks that it may take")] = None
    max_bram: Annotated[int | None, Field(ge=0, le=MOST, description="block RAMs of 18 Kb that it may take")] = None
    max_uram: Annotated[int | None, Field(ge=0, le=MOST, description="UltraRAMs that it may take")] = None
    requantizers: Annotated[
        dict[str, RequantizerForm],
        Field(description='form per requantizer, or for all with "*", such as {"*": thresholds}; must be provable'),
    ] = {}
    weights: Annotated[
        Literal["fixed", "runtime"],
        Field(
            description="fixed: hardware for these weights; runtime: for all weights within each layer's budget, which are"
            " loaded like data"
        ),
    ] = "fixed"
    accumulators: Annotated[
        dict[str, Annotated[int, Field(ge=1)]],
        Field(
            description='with runtime weights, accumulator bits per layer, or for all with "*", such as {"*": 14}; default:'
            " those that the model promises, or that its weights need"
        ),
    ] = {}
    tool: Annotated[Literal["vitis", "vivado"], Field(description="which HLS tool reads the sources")] = "vitis"
    control: Annotated[
        Literal["s_axilite", "ap_ctrl_none"], Field(description="block-level interface of the top function")
    ] = "s_axilite"
    latencies: Annotated[
        dict[str, Annotated[int, Field(ge=0, le=DEEPEST)]],
        Field(
            description="pipeline stages of kernels as a tool has reported them, instead of the assumed bounds, for FIFO"
            " depths; such as {conv0: 9}"
        ),
    ] = {}
    part: Annotated[
        str | None,
        Field(description="part number, or the name of a device or board of broadaxe.schedule.devices, such as ZCU104"),
    ] = None
    clock_ns: Annotated[float, Field(ge=0.5, le=1000, description="period that the design is synthesised for")] = 5.0
    _folding_place: str = PrivateAttr("folding")

    @field_validator("inputs")
    @classmethod
    def _known_types(cls, inputs: dict[str, str]) -> dict[str, str]:
        for name, text in inputs.items():
            input_type(name, text)
        return inputs

    @model_validator(mode="after")
    def _loadable(self) -> CompileSettings:
        if self.accumulators and self.weights == "fixed":
            raise RequestError("accumulators: are sized to fixed weights; give weights: runtime to choose their widths")
        if self.weights == "runtime" and self.control != "s_axilite":
            raise RequestError(
                f"control: {self.control} has no register that starts a load; with weights: runtime use s_axilite"
            )
        return self

    @field_validator("part")
    @classmethod
    def _known_part(cls, part: str | None) -> str | None:
        return None if part is None else device(part).part

    @model_validator(mode="after")
    def _one_target(self) -> CompileSettings:
        if self.target_fps is not None and self.target_ii is not None:
            raise RequestError(
                f"settings: target_fps {self.target_fps:g} and target_ii {self.target_ii}: give one of both"
            )
        return self

    @property
    def device(self) -> Device | None:
        """What `part` names."""
        return None if self.part is None else device(self.part)

    @property
    def input_types(self) -> dict[str, IntType | None]:
        return {name: input_type(name, text) for name, text in self.inputs.items()}

    @property
    def folding_place(self) -> str:
        """Where the folding was given, for messages: its file, if one was read."""
        return self._folding_place

    def folded_by(self, path: Path) -> CompileSettings:
        """The same settings, their folding said to come from a file."""
        copy = self.model_copy()
        copy._folding_place = str(path)
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
        ruled = bool(self.folding) or "multipliers" in self.model_fields_set
        if self.target_fps is self.target_ii is None and not budget and (held is None or ruled):
            return None
        cycles = self.target_ii if self.target_fps is None else cycles_for(self.target_fps, self.clock_ns)
        return Request(cycles, (budget_of(held) if held else {}) | budget, held, self.clock_ns)


def input_type(name: str, text: str) -> IntType | None:
    """`uint8`, `int4`, ... as an integer type; None of `float32`."""
    if text == "float32":
        return None
    match = _TYPE.fullmatch(text)
    if match is None or int(match[2]) > WIDEST_INPUT:
        raise RequestError(
            f"input {name}: type {text!r} is unknown; use int1 to int{WIDEST_INPUT}, uint1 to uint{WIDEST_INPUT} or float32"
        )
    return IntType(int(match[2]), signed=not match[1])


def settings(**values: Any) -> CompileSettings:
    """Validated settings; RequestError names the first field that is wrong."""
    return _validated("settings", {k: v for k, v in values.items() if v is not None})


def read_settings(path: Path, **overrides: Any) -> CompileSettings:
    """Settings from a YAML file, with the overrides that are not None on top."""
    given = read_mapping(path)
    made = _validated(str(path), given | {k: v for k, v in overrides.items() if v is not None})
    return made.folded_by(path) if "folding" in given else made


def read_folding(path: Path) -> dict[str, FoldSettings | LaneSettings]:
    """Lanes per kernel from a YAML file."""
    return _validated(str(path), {"folding": read_mapping(path)}).folding


def read_latencies(path: Path) -> dict[str, int]:
    """Pipeline stages per process from a YAML file, as `broadaxe cosim` writes it."""
    return _validated(str(path), {"latencies": read_mapping(path)}).latencies


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping."""
    try:
        loaded = yaml.safe_load(path.read_text())
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror}); name a YAML file") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # dates that there are not, numbers of 4,301 digits
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise RequestError(f"{path}{line}: is not YAML; write one `setting: value` a line") from None
    if loaded is not None and not isinstance(loaded, dict):
        raise RequestError(f"{path}: holds a {type(loaded).__name__}; a mapping is needed")
    return {str(key): value for key, value in (loaded or {}).items()}


def _brief(value: Any) -> str:
    """A value from a file as part of a message: anchors make a few lines of YAML endless, and long numbers have no text."""
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother = 2, 80, 80
    try:
        return short.repr(value)
    except ValueError:
        return "a number of thousands of digits"


def _validated(where: str, values: dict[str, Any]) -> CompileSettings:
    try:
        return CompileSettings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        value = _brief(first["input"])
        inside = first["loc"][0] == "folding" and len(first["loc"]) > 1
        loc = [part for at, part in enumerate(first["loc"]) if not (inside and at == 2)]  # which of both kinds
        place = ".".join(map(str, loc))
        if first["type"] == "missing":
            raise RequestError(f"{where}: {place}: is missing; give it") from None
        kinds: dict[str, type[BaseModel]] = {"fold": FoldSettings, "lanes": LaneSettings}
        fields = kinds[str(first["loc"][2])] if inside and len(first["loc"]) > 2 else CompileSettings
        known = ", ".join(fields.model_fields)
        remedy = REMEDIES.get(first["type"], "").format(**first.get("ctx", {})) or first["msg"]
        if first["type"] == "extra_forbidden":
            remedy = f"known settings are {known}"
        raise RequestError(f"{where}: {place}: {value} is not allowed; {remedy}") from None
