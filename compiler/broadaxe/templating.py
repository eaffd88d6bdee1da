"""The templates: one environment for all text that is generated, C++, Tcl, YAML and HTML alike."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import jinja2

from broadaxe import resources


@cache
def templates() -> jinja2.Environment:
    """The environment of templates/.

    What a template does not get is an error. Text is escaped in HTML alone: no text of a model file reaches C++ or Tcl.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(resources.folder("templates")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=jinja2.select_autoescape(enabled_extensions=("html.jinja",), default=False),
    )
    environment.filters["numbers"] = _numbers
    return environment


def _numbers(values: Sequence[Any], suffix: str) -> str:
    """Integers as C++ literals; nested lists as nested braces. The lowest long long has no literal of its own.

    By way of JSON, whose encoder is quick: a memory holds up to millions of words.
    """
    text = json.dumps(values)[1:-1]
    if suffix:
        text = re.sub(r"\d+", rf"\g<0>{suffix}", text)
        text = text.replace("-9223372036854775808LL", "(-9223372036854775807LL - 1)")
    return text.replace("], [", "},\n{").replace("[", "{").replace("]", "}")
