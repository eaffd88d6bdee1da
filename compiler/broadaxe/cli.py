"""The command line: arguments in, one library call, results out. Exit codes: 0 done, 1 a check failed, 2 the request is
wrong, 3 a needed tool is missing."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from broadaxe.commands.audit import audit
from broadaxe.commands.compile import compile
from broadaxe.commands.cosim import cosim
from broadaxe.commands.dataflow import dataflow
from broadaxe.commands.demo import demo
from broadaxe.commands.diagnose import diagnose
from broadaxe.commands.export import export
from broadaxe.commands.load import load
from broadaxe.commands.output import messages
from broadaxe.commands.quantize import quantize
from broadaxe.commands.report import report
from broadaxe.commands.simulate import simulate
from broadaxe.commands.sweep import sweep
from broadaxe.commands.verify import verify
from broadaxe.errors import BroadaxeError
from broadaxe.version import __version__

COMMANDS = (
    *(quantize, diagnose, sweep),
    *(compile, verify, simulate, dataflow),
    *(report,),
    *(cosim, load, export, audit),
    *(demo,),
)
"""In the order of the work."""

app = typer.Typer(
    name="broadaxe",
    help="Compile quantized neural networks to HLS C++ whose every accumulator is proven wide enough.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in COMMANDS:
    app.command()(command)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        typer.echo(f"broadaxe {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; an error of ours is one line on standard error and its exit code.

    `broadaxe_command` imports this module, so that an interrupt meanwhile is caught as well.
    """
    try:
        app()
    except BroadaxeError as error:
        messages.print(f"error: {error}", markup=False, soft_wrap=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
