"""docs/errors.md, made of the catalogue."""

from __future__ import annotations

import inspect
from pathlib import Path

from . import Case, cases, modules

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
HEAD = """\
# Every message

An error of Broadaxe is one line, `<where>: <what is wrong>, <value>; <what to do>`, printed before anything is written.
The exit code tells the kind: 1, a check failed (`VerificationError` and its subclasses); 2, the request or the model
cannot be used (`RequestError`, `UnsupportedModelError`); 3, a program or package is missing (`MissingToolError`). In
Python each is the exception of that name in `broadaxe.errors`.

Below stand all {count} of them as a small input provokes them: names, shapes and numbers are those of the input.
`{{tmp}}` is the folder of the run and `...` the words of another program. The input of a message is the function named
behind it, in the module of `tests/messages/` that the section names; `make errors` writes this page.
"""


def page() -> str:
    """The text of the page."""
    found = {name: cases(name) for name in modules()}
    parts = [HEAD.format(count=sum(map(len, found.values())))]
    for name, module in modules().items():
        if not found[name]:
            continue
        title = (inspect.getdoc(module) or name).splitlines()[0].rstrip(".")
        rows = "".join(map(_row, found[name]))
        parts.append(f"\n## {title}\n\n`tests/messages/{name}.py`\n\n{TABLE}{rows}")
    return "".join(parts)


TABLE = "| message | error | exit | provoked by |\n|---|---|---|---|\n"


def _row(case: Case) -> str:
    message = _code(case.message.replace("{...}", "..."))
    return f"| {message} | `{case.error.__name__}` | {case.error.exit_code} | {case.name.replace('|', ' ')} |\n"


def _code(text: str) -> str:
    """A code span in a table: a longer fence where the text holds backticks, bars escaped."""
    fence = "``" if "`" in text else "`"
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}".replace("|", r"\|")
