"""The base of all settings: errors in our words, with the place each value comes from."""

from __future__ import annotations

import numbers
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from typing_extensions import Self

from broadaxe.configuration.allowed import Schema, listed, schema_at, words
from broadaxe.configuration.complaints import Complaint, KeyPath, SettingsError
from broadaxe.configuration.document import Document, read_document

DEEPEST_PLAIN = 8
Kind = TypeVar("Kind", bound="Settings")


@dataclass(frozen=True)
class Origin:
    """Where settings come from, as messages say it.

    Attributes:
        where: what stands for settings from Python.
        document: a settings file.
        options: options of the command line, by setting.
        files: files that hold one setting each, such as a folding.
        alone: fields are checked one by one, not what they say together.
    """

    where: str = field(default="settings", compare=False)  # settings are equal wherever they come from
    document: Document | None = field(default=None, compare=False)
    options: Mapping[str, str] = field(default_factory=dict, compare=False)
    files: Mapping[str, Document] = field(default_factory=dict, compare=False)
    alone: bool = field(default=False, compare=False)

    def place(self, path: KeyPath, line: int | None = None) -> str:
        """`settings: tile`, `quant.yaml:3: tile` or `--tile`."""
        head = str(path[0]) if path else ""
        if head in self.files:
            return _in_file(self.files[head], path[1:], line)
        if head in self.options:
            return _dotted((self.options[head], *(part for part in path[1:] if part != "*")))
        if self.document is not None:
            return _in_file(self.document, path, line)
        return f"{self.where}: {_dotted(path)}" if path else self.where

    def name(self, setting: str) -> str:
        """A setting as the user has to write it."""
        return self.options.get(setting, setting)

    def spelled(self, path: KeyPath, value: Any) -> str:
        """A value as the user wrote it, as far as that can be told."""
        head = path[0] if path else ""
        if value is None:
            return "nothing"
        if isinstance(value, bool) and (self.document is not None or head in self.files or head in self.options):
            return str(value).lower()
        return brief(value)

    def refusal(self, complaints: list[Complaint]) -> SettingsError:
        """The complaints as an exception, in the order of the files' lines."""
        return SettingsError([f"{self.place(c.path, c.line)}: {c.text}" for c in self._sorted(complaints)], complaints)

    def _sorted(self, complaints: list[Complaint]) -> list[Complaint]:
        def line(complaint: Complaint) -> int:
            document, path = self.document, complaint.path
            if path and str(path[0]) in self.files:
                document, path = self.files[str(path[0])], path[1:]
            return complaint.line or (document.line(path) if document is not None else 0)

        return sorted(complaints, key=line)


def _in_file(document: Document, path: KeyPath, line: int | None) -> str:
    where = f"{document.path}:{line or document.line(path)}"
    return f"{where}: {_dotted(path)}" if path else where


def _dotted(path: KeyPath) -> str:
    return ".".join(map(str, path))


class _Short(reprlib.Repr):
    """Python's, with nothing inside a list or mapping as YAML writes it."""

    def repr_NoneType(self, value: None, level: int) -> str:  # noqa: N802 - the name that reprlib looks for
        return "null"


def brief(value: Any) -> str:
    """A value as part of a message, however long it is."""
    short = _Short()
    short.maxlevel, short.maxstring, short.maxother = 2, 80, 80
    try:
        return short.repr(value)
    except ValueError:
        return "a number of thousands of digits"


class Settings(BaseModel):
    """Settings whose errors are `SettingsError`, one line a mistake, whether they come from Python, YAML or options."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    sections: ClassVar[tuple[tuple[str, tuple[str, ...]], ...]] = ()
    """Title and settings of each part of a settings file, in the order of use."""
    _origin: Origin = PrivateAttr(default_factory=Origin)

    @model_validator(mode="wrap")
    @classmethod
    def _in_our_words(cls, given: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        origin = info.context if isinstance(info.context, Origin) else Origin()
        if isinstance(given, Mapping):
            given = {str(key): _plain(value) for key, value in given.items() if value is not None}
        try:
            made = handler(given)
        except ValidationError as error:
            raise origin.refusal(complaints_of(cls, error, origin)) from None
        made._origin = origin
        if not origin.alone and (found := made.contradictions(origin.name)):
            raise origin.refusal(found)
        return made

    def place(self, *path: str) -> str:
        """Where a setting was given, to open a message: `quant.yaml:3: layers.conv1`, `--act-bits` or `settings: act_bits`."""
        origin = self._origin
        given = origin.document is not None and path[0] in origin.document.values
        if given or path[0] in origin.options or path[0] in origin.files:
            return origin.place(path)
        return ": ".join(("settings", *path))

    def contradictions(self, named: Callable[[str], str]) -> list[Complaint]:
        """What is wrong with settings that are each allowed.

        Args:
            named: how a message has to write a setting.
        """
        return []


def _plain(value: Any, depth: int = 0) -> Any:
    """Numbers of other packages, such as numpy's, as Python's; everything else as it is."""
    if isinstance(value, bool | int | float | str) or depth > DEEPEST_PLAIN:
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, dict):
        return {key: _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, depth + 1) for item in value]
    return value


def configured(
    kind: type[Kind],
    config: Path | None,
    options: Mapping[str, Any],
    *,
    files: Mapping[str, Path | None] | None = None,
    names: Mapping[str, str] | None = None,
) -> Kind:
    """Settings of a file and of options, which go on top.

    Args:
        config: the settings file, if there is one.
        options: values by setting; those that are None were not given.
        files: files that hold one setting each.
        names: options that are not called --like-their-setting.

    Raises:
        SettingsError: all mistakes of all of them.
    """
    document = None if config is None else read_document(config)
    beside = {name: read_document(path) for name, path in (files or {}).items() if path is not None}
    given = {name: value for name, value in options.items() if value is not None}
    spelled = {name: (names or {}).get(name, f"--{name.replace('_', '-')}") for name in options}
    if document is not None:
        spelled = {name: option for name, option in spelled.items() if name in given or name not in document.values}
    origin = Origin("options", document, spelled, beside)
    values = (document.values if document else {}) | given | {name: d.values for name, d in beside.items()}
    return checked(kind, values, origin)


def checked(kind: type[Kind], values: Mapping[str, Any], origin: Origin) -> Kind:
    """Settings of an origin, whose documents' own complaints are raised with those of the values."""
    own = list(origin.document.complaints) if origin.document else []
    for name, document in origin.files.items():
        own += [Complaint((name, *c.path), c.text, c.line) for c in document.complaints]
    try:
        made = kind.model_validate(dict(values), context=origin)
    except SettingsError as error:
        broken = [c.path for c in own if c.path]  # what is no YAML there need not be missing elsewhere
        others = (c for c in error.complaints if not any(c.path[: len(path)] == path for path in broken))
        raise origin.refusal([*own, *others]) from None
    if own:
        raise origin.refusal(own)
    return made


# pydantic's errors in our words

_NUMERIC = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?")
Wording = Callable[[str, Any, Schema], str]


def _not_allowed(shown: str, value: Any, schema: Schema) -> str:
    return f"{shown} is not allowed; {_verb(schema)} {words(schema)}"


def _verb(schema: Schema) -> str:
    return "use" if {"enum", "const"} & set(schema) or schema.get("type") == "boolean" else "give"


def _no_number(shown: str, value: Any, schema: Schema) -> str:
    if isinstance(value, str) and _NUMERIC.fullmatch(value.strip()):
        return f"{shown} is text, because of its quotes; write {value.strip()}, {words(schema)}"
    if isinstance(value, float) and value.is_integer() and schema.get("type") == "integer":
        return f"{shown} is not allowed; write {int(value)}, {words(schema)}"
    return _not_allowed(shown, value, schema)


def _not_finite(shown: str, value: Any, schema: Schema) -> str:
    return f"{shown} is no finite number; give {words(schema)}"


def _no_text(shown: str, value: Any, schema: Schema) -> str:
    if isinstance(value, bool | int | float):
        return f"{shown} is no text; {_verb(schema)} {words(schema)}, in quotes if it looks like a number"
    return _not_allowed(shown, value, schema)


def _no_mapping(shown: str, value: Any, schema: Schema) -> str:
    examples = schema.get("examples")
    such = f", such as {flow(examples[0])}" if examples else ""
    return f"{shown} is not allowed; give a mapping{such}"


def _missing(shown: str, value: Any, schema: Schema) -> str:
    return f"is missing; give {words(schema)}"


def _empty(shown: str, value: Any, schema: Schema) -> str:
    return f"nothing is not allowed; give at least one of {words(schema.get('items', {}))}"


def _no_unicode(shown: str, value: Any, schema: Schema) -> str:
    return f"{shown} is no Unicode text; {_verb(schema)} {words(schema)}"


WORDINGS: dict[str, Wording] = {
    "bool_type": _not_allowed,
    "dict_type": _no_mapping,
    "finite_number": _not_finite,
    "float_type": _no_number,
    "greater_than": _not_allowed,
    "greater_than_equal": _not_allowed,
    "int_type": _no_number,
    "less_than": _not_allowed,
    "less_than_equal": _not_allowed,
    "literal_error": _not_allowed,
    "missing": _missing,
    "model_type": _no_mapping,
    "string_type": _no_text,
    "string_unicode": _no_unicode,
    "too_short": _empty,
}
"""By pydantic's name for what is wrong: all that our models can give, beside unknown settings and errors of our own."""


def complaints_of(model: type[BaseModel], error: ValidationError, origin: Origin) -> list[Complaint]:
    """What pydantic found, in our words."""
    out: dict[KeyPath, Complaint] = {}
    for entry in error.errors(include_url=False):
        kind, value = entry["type"], entry["input"]
        schema, path = schema_at(model, entry["loc"])
        path = next((path[:at] for at, part in enumerate(path) if isinstance(part, int)), path)  # lists are short
        if kind == "extra_forbidden":
            holder, _ = schema_at(model, entry["loc"][:-1])
            text = unknown(str(path[-1]), list(holder.get("properties", {})))
        elif entry["loc"] and entry["loc"][-1] == "[key]":
            text = f"the key {brief(value)} is no text; write it as text"
        elif kind == "value_error":
            text = str(entry.get("ctx", {})["error"])
        else:
            wording = WORDINGS.get(kind, _not_allowed)
            text = wording(origin.spelled(path, value), value, schema)
        out.setdefault(path, Complaint(path, text))
    return list(out.values())


def unknown(name: str, known: list[str]) -> str:
    """What to say of a setting that there is not."""
    near = get_close_matches(name.lower().replace("-", "_"), known, n=3, cutoff=0.65)
    if near:
        return f"is unknown; the nearest {'is' if len(near) == 1 else 'are'} {listed(near)}"
    return f"is unknown; known settings are {', '.join(known)}"


def flow(value: Any) -> str:
    """A value as YAML on one line."""
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1 << 16, allow_unicode=True)
    return text.removesuffix("...\n").strip()
