"""`broadaxe demo`: the whole way on a small network."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Annotated

import typer

from broadaxe.errors import MissingToolError


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="BUILD", help="Folder to write.")] = Path(
        "build/digits"
    ),
) -> None:
    """Train a small CNN on handwritten digits with Brevitas, compile it, simulate it and verify it: about a minute."""
    from broadaxe.resources import demo_script

    try:
        script = runpy.run_path(str(demo_script()))
    except ModuleNotFoundError as error:
        raise MissingToolError(f"demo: {error.name} is not installed; pip install 'broadaxe[demo]'") from None
    script["main"](str(output))
    typer.echo(f"next: broadaxe report {output}, broadaxe verify {output}")
