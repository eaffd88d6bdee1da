"""What is wrong with a command line, as errors of ours: a line that names the place and the remedy.

Typer reads command lines with click, its own or the package, whichever version; what they raise has the same names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import typer

from broadaxe.errors import RequestError

USAGE: type[Exception] = typer.BadParameter.__mro__[2]
"""What every error of click is."""
_KINDS = {"integer": "a whole number", "int": "a whole number", "number": "a number", "float": "a number"}


def placed(error: Any, context: Any) -> Any:
    """An error that knows which command it is of; some are raised without."""
    if getattr(error, "ctx", None) is None:
        error.ctx = context
    return error


def nearest(text: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant."""
    names = {name.lower(): name for name in known}
    begun = [name for name in names if len(text) > 2 and name.startswith(text.lower())]
    found = begun or get_close_matches(text.lower(), names, n=3, cutoff=0.6)
    return names[max(found, key=lambda name: _shared(name, text.lower()))] if found else None


def _shared(one: str, other: str) -> int:
    """Characters that two names begin with."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def no_command(path: str, given: str, known: Iterable[str]) -> RequestError:
    near = nearest(given, known)
    meant = f"did you mean `{path} {near}`? " if near else ""
    return RequestError(f"{path}: no command {given!r}; {meant}`{path} --help` lists them")


def not_allowed(option: str, given: str, allowed: Iterable[str]) -> RequestError:
    names = [*allowed]
    near = nearest(given, names)
    meant = f"did you mean {near}? " if near else ""
    return RequestError(f"{option}: {given!r} is not allowed; {meant}use {' or '.join(_listed(names))}")


def _listed(names: list[str]) -> list[str]:
    return [", ".join(names[:-1]), names[-1]] if len(names) > 1 else names


def translated(error: Any) -> RequestError:
    """An error of click in our words."""
    path = error.ctx.command_path if getattr(error, "ctx", None) is not None else "broadaxe"
    kinds = {kind.__name__ for kind in type(error).__mro__}
    remedy = f"see `{path} --help`"
    if "NoSuchOption" in kinds:
        near = nearest(error.option_name, _options(error.ctx))
        meant = f"did you mean {near}? " if near else ""
        return RequestError(f"{path}: no option {error.option_name!r}; {meant}`{path} --help` lists them")
    if "BadOptionUsage" in kinds:
        parameter = next((p for p in _parameters(error.ctx) if error.option_name in p.opts), None)
        if parameter is None or getattr(parameter, "is_flag", False):
            return RequestError(f"{path}: {error.option_name}: takes no value; give it alone")
        shown = f"{error.option_name} {parameter.metavar or parameter.name.upper()}"
        return RequestError(f"{path}: {error.option_name}: has no value; give one, {shown}")
    if "MissingParameter" in kinds and getattr(error, "param", None) is not None:
        name, example = _name(error.param), _example(error.ctx)
        return RequestError(f"{path}: {name} is missing; {f'for example `{example}`' if example else remedy}")
    if "BadParameter" in kinds and getattr(error, "param", None) is not None:
        return RequestError(f"{path}: {_name(error.param)}: {_wrong(error)}")
    found = re.search(r"unexpected extra argument(?:s|\(s\))? \((.*)\)", error.format_message())
    if found:
        return RequestError(f"{path}: {found[1]!r} is more than it takes; {remedy}")
    message = error.format_message().rstrip(".")
    return RequestError(f"{path}: {message[:1].lower()}{message[1:]}; {remedy}")


def _wrong(error: Any) -> str:
    """What is wrong with a value, and what would be right."""
    value, parameter, message = _value(error), error.param, error.message.rstrip(".")
    least, most = _ends(parameter)
    beyond = "range" in message or "greater than" in message or "less than" in message
    if value is not None and beyond and (least is not None or most is not None):
        if most is None:
            return f"{value} is too small; give {least:g} or more"
        return f"{value} is out of range; give {least:g} to {most:g}" if least is not None else f"give {most:g} or less"
    kind = next((ours for theirs, ours in _KINDS.items() if re.search(rf"valid {theirs}\b", message)), None)
    if value is not None and kind is not None:
        return f"{value!r} is not {kind}; give one"
    return f"{message[:1].lower()}{message[1:]}; see `{error.ctx.command_path} --help`"


def _value(error: Any) -> Any:
    """What was given: pydantic has it, click has it in its text."""
    cause = error.__cause__
    if hasattr(cause, "errors"):
        return cause.errors()[0]["input"]
    found = re.match(r"'(.*)' is not a valid|(\S+) is not in the range", error.message)
    return next(text for text in found.groups() if text is not None) if found else None


def _ends(parameter: Any) -> tuple[float | None, float | None]:
    """The range of a number, which some versions keep in its type."""
    kind = getattr(parameter, "type", None)
    return tuple(  # type: ignore[return-value]
        getattr(parameter, end, None) if getattr(parameter, end, None) is not None else getattr(kind, end, None)
        for end in ("min", "max")
    )


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    return str(max(parameter.opts, key=len))


def _parameters(context: Any) -> list[Any]:
    return [] if context is None else context.command.get_params(context)


def _options(context: Any) -> list[str]:
    return [
        name for p in _parameters(context) if p.param_type_name == "option" for name in (*p.opts, *p.secondary_opts)
    ]


def _example(context: Any) -> str:
    from broadaxe.commands.page import examples

    found = examples(context.command) if context is not None else []
    return found[0] if found else ""
