"""What a setting may be, in words: read off the JSON schema of its model, for messages and for comments in settings files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeAlias

from pydantic import BaseModel

from broadaxe.configuration.complaints import KeyPath

Schema: TypeAlias = Mapping[str, Any]


@cache
def schema_of(model: type[BaseModel]) -> Schema:
    """The JSON schema of a model of settings."""
    return model.model_json_schema()


def schema_at(model: type[BaseModel], location: tuple[str | int, ...]) -> tuple[Schema, KeyPath]:
    """The schema of a place that pydantic names, and the keys that lead there.

    A union of models has the name of one of them in the location, but not among the keys.
    """
    root = schema_of(model)
    at: Schema = root
    path: list[str | int] = []
    for part in location:
        if part == "[key]":
            break
        at = _resolved(root, at)
        if "oneOf" in at:
            named = f"#/$defs/{part}"
            chosen = next((one for one in at["oneOf"] if one.get("$ref") == named), None)
            if chosen is not None:
                at = chosen
                continue
        path.append(part)
        inside = at.get("additionalProperties")
        if part in at.get("properties", {}):
            at = at["properties"][part]
        elif isinstance(part, int) and "items" in at:
            at = at["items"]
        else:
            at = inside if isinstance(inside, Mapping) else {}
    return _resolved(root, at), tuple(path)


def _resolved(root: Schema, schema: Schema) -> Schema:
    """A schema without reference, and without the null of an optional setting."""
    while True:
        if "$ref" in schema:
            schema = {**root["$defs"][schema["$ref"].rsplit("/", 1)[-1]], **_beside(schema)}
        elif "anyOf" in schema and len(some := [s for s in schema["anyOf"] if s.get("type") != "null"]) == 1:
            schema = {**some[0], **{k: v for k, v in schema.items() if k != "anyOf"}}
        else:
            return schema


def _beside(schema: Schema) -> Schema:
    return {k: v for k, v in schema.items() if k != "$ref"}


def words(schema: Schema) -> str:
    """`a whole number from 1 to 48`, `lut, dsp or packed`, ...: what a schema allows."""
    if "takes" in schema:
        return str(schema["takes"])
    if "enum" in schema:
        return listed([str(value) for value in schema["enum"]])
    if "const" in schema:
        return str(schema["const"])
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return _number("a whole number" if kind == "integer" else "a number", schema)
    if kind == "boolean":
        return "true or false"
    if kind == "string":
        return "text"
    if kind == "array":
        return f"a list, each {words(schema.get('items', {}))}"
    inside = schema.get("additionalProperties")
    return f"by name {words(inside)}" if isinstance(inside, Mapping) else "a mapping"


def _number(kind: str, schema: Schema) -> str:
    least, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    most, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if least is not None and most is not None:
        return f"{kind} from {least:.12g} to {most:.12g}"
    if least is not None and below is not None:
        return f"{kind} from {least:.12g} to below {below:.12g}"
    parts = [
        f", {least:.12g} or more" if least is not None else "",
        f" above {above:.12g}" if above is not None else "",
        f", up to {most:.12g}" if most is not None else "",
        f" below {below:.12g}" if below is not None else "",
    ]
    return kind + "".join(parts)


def listed(values: list[str]) -> str:
    """`a, b or c`."""
    return f"{', '.join(values[:-1])} or {values[-1]}" if len(values) > 1 else "".join(values)
