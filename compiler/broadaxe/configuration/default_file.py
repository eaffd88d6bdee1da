"""A commented settings file with every setting, its default, what it may be and its unit; made from the pydantic models."""

from __future__ import annotations

import os
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broadaxe.configuration.allowed import Schema, schema_at, schema_of, words
from broadaxe.configuration.kinds import Kind, model_of
from broadaxe.configuration.settings import Settings, flow
from broadaxe.errors import RequestError
from broadaxe.templating import templates
from broadaxe.version import __version__

WIDTH = 110


@dataclass(frozen=True)
class Entry:
    """One setting of a file.

    Attributes:
        comments: lines without their #: what it is, then what is allowed.
        line: setting and value, as YAML.
        active: whether the line counts; else it is an example behind a #.
    """

    name: str
    comments: tuple[str, ...]
    line: str
    active: bool


def default_file(kind: Kind) -> str:
    """The text of a settings file in which everything is as it is by default.

    Settings without a default are examples behind a #, and so are those that some models refuse. What a sweep has to be told
    is an example that counts.
    """
    model = model_of(kind)
    sections = [(title, [_entry(model, name) for name in names]) for title, names in model.sections]
    return templates().get_template("settings.yaml.jinja").render(kind=kind, version=__version__, sections=sections)


def _entry(model: type[Settings], name: str) -> Entry:
    declared: Schema = schema_of(model)["properties"][name]
    schema, _ = schema_at(model, (name,))
    default = declared.get("default")
    asked = bool(declared.get("asked"))
    active = asked or (default not in (None, {}, []) and "only" not in declared)
    value = default if default not in (None, {}, []) else declared["examples"][0]
    description, _, left_out = str(declared["description"]).partition("; default: ")
    facts = [f"Allowed: {words(schema)}."]
    if "unit" in declared:
        facts.append(f"Unit: {declared['unit']}.")
    if "only" in declared:
        facts.append(f"Only {declared['only']}.")
    if not active and default not in (None, {}, []):
        left_out = flow(default)
    if left_out:
        facts.append(f"Default: {left_out}.")
    if asked:
        facts.append("It has no default.")
    if "needs" in declared:
        needed = (f"{key}: {value}" if isinstance(value, str) else key for key, value in declared["needs"].items())
        facts.append(f"Needs {', '.join(needed)}.")
    if "instead_of" in declared:
        facts.append(f"Instead of {declared['instead_of']}.")
    sentence = f"{description[0].upper()}{description[1:]}."
    lines = [
        line for text in (sentence, " ".join(facts)) for line in textwrap.wrap(text, WIDTH, break_on_hyphens=False)
    ]
    return Entry(name, tuple(lines), f"{name}: {flow(_listed(value))}", active)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def write_default(kind: Kind, path: Path, *, force: bool = False) -> None:
    """Write the file whole or not at all.

    Raises:
        RequestError: the file exists, and `force` is not given, or cannot be written.
    """
    if path.is_dir():
        raise RequestError(f"{path}: is a folder; name a file, such as {path / f'{kind}.yaml'}")
    if path.exists() and not force:
        raise RequestError(f"{path}: exists; choose another name, or replace it with --force")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(default_file(kind))
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise RequestError(f"{path}: cannot be written ({error.strerror}); choose another place") from None
