"""Kinds of YAML files that the commands read, and the check of one by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from broadaxe.configuration.document import Document, read_document, values_of
from broadaxe.configuration.settings import Origin, Settings, checked
from broadaxe.errors import RequestError

Kind: TypeAlias = Literal["compile", "quantize", "sweep"]
FileKind: TypeAlias = Literal["compile", "quantize", "sweep", "folding", "latencies", "hls4ml"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FILE_KINDS: tuple[FileKind, ...] = get_args(FileKind)
USED: dict[FileKind, str] = {
    "compile": "broadaxe compile MODEL.onnx -o BUILD --config {}",
    "quantize": "broadaxe quantize MODEL.onnx --calib CALIB.npz -o OUT.onnx --config {}",
    "sweep": "broadaxe sweep MODEL.onnx --calib CALIB.npz --val VAL.npz -o FOLDER --config {}",
    "folding": "broadaxe compile MODEL.onnx -o BUILD --folding {}",
    "latencies": "broadaxe compile MODEL.onnx -o BUILD --latencies {}",
    "hls4ml": "broadaxe audit MODEL.onnx --hls4ml {}",
}
"""The command that takes a file of each kind."""
HLS4ML_KEYS = {"HLSConfig", "Model", "LayerName", "LayerType"}
KERNEL_KEYS = {"pe", "simd", "lanes", "multiplier"}


@dataclass(frozen=True)
class CheckedFile:
    """A settings file that is right.

    Attributes:
        kinds: what it may be: several where all its settings are known to several commands.
        given: its outermost keys.
    """

    path: Path
    kinds: tuple[FileKind, ...]
    given: tuple[str, ...]

    def __str__(self) -> str:
        what = " or ".join(self.kinds)
        if not self.given:
            return f"{self.path}: holds no settings, so that everything has its default"
        if self.kinds[0] in KINDS:
            count = f"{len(self.given)} setting{'s' * (len(self.given) > 1)}"
            return f"{self.path}: {count} of {what}, all allowed"
        if self.kinds[0] == "hls4ml":
            return f"{self.path}: an hls4ml configuration; its layers are looked up when the model is known"
        count = f"{len(self.given)} kernel{'s' * (len(self.given) > 1)}"
        return f"{self.path}: {what} of {count}, all allowed; their names are looked up when the model is known"


def model_of(kind: Kind) -> type[Settings]:
    """The model of a command's settings."""
    if kind == "compile":
        from broadaxe.config import CompileSettings

        return CompileSettings
    if kind == "quantize":
        from broadaxe.quantization.config import QuantConfig

        return QuantConfig
    from broadaxe.sweeps.config import SweepConfig

    return SweepConfig


def known_kind(text: str, kinds: tuple[str, ...]) -> str:
    """A kind by its name; RequestError names the nearest."""
    if text in kinds:
        return text
    near = get_close_matches(text.lower(), kinds, n=1, cutoff=0.5)
    remedy = f"the nearest is {near[0]}" if near else f"kinds are {', '.join(kinds)}"
    raise RequestError(f"config: {text!r} is no kind of settings; {remedy}")


def check_file(path: Path, kind: FileKind | None = None) -> CheckedFile:
    """Check a settings file of any kind; the kind is found by its keys where it is not said.

    Raises:
        SettingsError: all mistakes, each with its line.
        RequestError: it is no YAML, or its kind cannot be told.
    """
    document = read_document(path)
    refusals = []
    right: list[FileKind] = []
    for candidate in (kind,) if kind else _candidates(document):
        try:
            _check(document, candidate)
            right.append(candidate)
        except RequestError as error:
            refusals.append(error)
    if not right:
        raise min(refusals, key=lambda error: len(error.lines))
    return CheckedFile(path, tuple(right), tuple(document.values))


def _check(document: Document, kind: FileKind) -> None:
    if kind == "hls4ml":
        from broadaxe.auditing.hls4ml import Configuration

        Configuration.of(values_of(document), str(document.path))
    elif kind == "folding" or kind == "latencies":
        checked(model_of("compile"), {kind: document.values}, Origin(files={kind: document}))
    else:
        checked(model_of(kind), document.values, Origin(document=document))


def _candidates(document: Document) -> tuple[FileKind, ...]:
    values = document.values
    fields = {kind: list(model_of(kind).model_fields) for kind in KINDS}
    exact = {kind: sum(key in known for key in values) for kind, known in fields.items()}
    if any(exact.values()):
        return _best(exact)
    if HLS4ML_KEYS & set(values):
        return ("hls4ml",)
    if any(isinstance(value, Mapping) and KERNEL_KEYS & set(value) for value in values.values()):
        return ("folding",)
    near = {kind: sum(_near(key, known) for key in values) for kind, known in fields.items()}
    if any(near.values()):
        return _best(near)
    if values and all(_whole(value) for value in values.values()):
        return ("latencies",)
    if not values:
        return ("compile", "quantize")
    if document.complaints:
        values_of(document)
    keys = ", ".join(list(values)[:3])
    raise RequestError(
        f"{document.path}:1: no command has settings such as {keys}; say what the file is for, --for"
        f" {', '.join(FILE_KINDS)}"
    )


def _best(scores: Mapping[Kind, int]) -> tuple[FileKind, ...]:
    return tuple(kind for kind, score in scores.items() if score == max(scores.values()))


def _near(key: str, known: list[str]) -> bool:
    return bool(get_close_matches(key.lower().replace("-", "_"), known, n=1, cutoff=0.75))


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
