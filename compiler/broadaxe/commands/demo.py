"""`broadaxe demo`: the whole way on a small network."""

from __future__ import annotations

import runpy
from contextlib import nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Annotated

import typer

from broadaxe.commands.output import manner, say, typed
from broadaxe.errors import MissingToolError


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="BUILD", help="Folder to write.")] = Path(
        "build/digits"
    ),
) -> None:
    """Train, compile, simulate and verify a small CNN, in a minute.

    The CNN reads handwritten digits, and Brevitas trains it.

    Examples:
        broadaxe demo
        broadaxe demo -o digits

    Exit codes:
        0 done
        3 a package is missing: pip install 'broadaxe[demo]'

    Next:
        broadaxe report build/digits
        broadaxe verify build/digits
    """
    from broadaxe.build import check_output
    from broadaxe.resources import demo_script

    check_output(output)
    silent = redirect_stdout(StringIO()) if manner().quiet else nullcontext()
    try:
        script = runpy.run_path(str(demo_script()))
    except ModuleNotFoundError as error:
        raise MissingToolError(f"demo: {error.name} is not installed; pip install 'broadaxe[demo]'") from None
    with silent:
        script["main"](str(output))
    say(f"next: broadaxe report {typed(output)}, broadaxe verify {typed(output)}")
