"""The command line: which commands there are, and how each of them ends.

Exit codes: 0 done, 1 a check failed, 2 the request is wrong, 3 a needed tool is missing, 130 interrupted, 141 nobody read
the results to their end.
"""

from __future__ import annotations

import errno
import inspect
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

from broadaxe.commands import config, output
from broadaxe.commands.audit import audit
from broadaxe.commands.compare import compare
from broadaxe.commands.compile import compile
from broadaxe.commands.cosim import cosim
from broadaxe.commands.dataflow import dataflow
from broadaxe.commands.demo import demo
from broadaxe.commands.diagnose import diagnose
from broadaxe.commands.doctor import doctor
from broadaxe.commands.explain import explain
from broadaxe.commands.export import export
from broadaxe.commands.load import load
from broadaxe.commands.page import Command, Commands
from broadaxe.commands.progress import logger
from broadaxe.commands.quantize import quantize
from broadaxe.commands.report import report
from broadaxe.commands.simulate import simulate
from broadaxe.commands.sweep import sweep
from broadaxe.commands.usage import USAGE, translated
from broadaxe.commands.verify import verify
from broadaxe.errors import BroadaxeError, MissingToolError, RequestError, interrupted
from broadaxe.version import __version__

GROUPS: dict[str, tuple[Callable[..., None], ...]] = {
    "Quantize a network": (quantize, diagnose, sweep),
    "Compile it and check what came of it": (compile, verify, simulate, dataflow),
    "Read the accumulator report": (report, explain, compare),
    "Hand it over": (cosim, load, export, audit),
    "Begin": (demo, doctor),
}
"""In the order of the work."""
SETTINGS: tuple[Callable[..., None], ...] = (config.new, config.check)
"""Below `config`."""
INTERRUPTED, UNREAD = 130, 141
"""Exit codes as a shell gives them for SIGINT and SIGPIPE."""

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors, and results that are asked for.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log stages with seconds, versions and settings.")]

app = typer.Typer(
    name=output.PROGRAM,
    cls=Commands,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def spoken(command: Callable[..., None]) -> Callable[..., None]:
    """A command that takes --quiet and --verbose as well, which mean the same in front of its name."""
    hints = get_type_hints(command, include_extras=True)
    given = inspect.signature(command).parameters.values()
    kinds = {"quiet": Quiet, "verbose": Verbose}
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [p.replace(annotation=hints[p.name]) for p in given]
    parameters += [inspect.Parameter(name, keyword, default=False, annotation=kind) for name, kind in kinds.items()]

    @wraps(command)
    def run(*, quiet: bool = False, verbose: bool = False, **values: Any) -> None:
        output.begin(quiet, verbose, json=bool(values.get("json")), more=True)
        with output.logging_to_stderr(), output.warnings_as_lines():
            _log_request(command.__name__, values)
            try:
                command(**values)
            except KeyboardInterrupt:
                raise typer.Exit(INTERRUPTED) from None
            except BrokenPipeError:
                raise typer.Exit(UNREAD) from None
            except BroadaxeError:
                logger.info("where it came to an error", exc_info=True)
                raise

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = hints | kinds
    return run


def _log_request(name: str, values: dict[str, Any]) -> None:
    from broadaxe.reports.versions import versions

    logger.info("%s", ", ".join(f"{package} {version}" for package, version in versions().items()))
    logger.info("%s: %s", name, ", ".join(f"{k}={v}" for k, v in values.items() if v is not None))


for title, commands in GROUPS.items():
    for one in commands:
        app.command(cls=Command, rich_help_panel=title)(spoken(one))
settings = typer.Typer(name="config", cls=Commands, help=config.__doc__, no_args_is_help=True, rich_markup_mode=None)
for one in SETTINGS:
    settings.command(cls=Command)(spoken(one))
app.add_typer(settings, rich_help_panel="Begin")


@app.callback(invoke_without_command=True)
def _program(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Compile quantized neural networks to HLS C++ whose every accumulator is proven wide enough.

    Results go to standard output, errors and progress to standard error. With --json results are one JSON document; errors
    stay one line, and the exit code says what they are. NO_COLOR and FORCE_COLOR are honoured.

    Examples:
        broadaxe demo
        broadaxe quantize float.onnx --calib calib.npz --acc-bits 16 -o model.onnx
        broadaxe compile model.onnx -o build
        broadaxe compile --help

    Exit codes:
        0   done
        1   a check failed
        2   the request or the model is wrong
        3   a needed tool is missing
        130 interrupted
    """
    output.begin(quiet, verbose)
    if version:
        typer.echo(f"{output.PROGRAM} {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run the command line; an error is one line on standard error and its exit code.

    `broadaxe_command` imports this module, so that an interrupt meanwhile is caught as well.
    """
    if sys.stdout is None or sys.stderr is None:  # closed by whoever started this: nobody reads
        nobody = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
        sys.stdout, sys.stderr = sys.stdout or nobody, sys.stderr or nobody
    sys.exit(_flushed(_status()))


def _status() -> int:
    try:
        return int(app(prog_name=output.PROGRAM, standalone_mode=False) or 0)
    except BroadaxeError as error:
        return _failed(error)
    except USAGE as error:
        return _failed(translated(error))
    except ModuleNotFoundError as error:
        from broadaxe.doctor import needed_package

        package = needed_package(error.name)
        if package is None:
            raise
        return _failed(MissingToolError(f"{package}: is not installed; broadaxe doctor says how to get it"))
    except ImportError as error:
        if not interrupted(error):
            raise
        return INTERRUPTED
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except SystemExit as stop:  # click's, where nobody reads its help
        if not isinstance(stop.__context__, BrokenPipeError):
            raise
        return UNREAD
    except OSError as error:
        return UNREAD if error.errno == errno.EPIPE else _failed(_refused(error))


def _failed(error: BroadaxeError) -> int:
    for line in error.lines:
        output.print_error(line)
    return error.exit_code


def _refused(error: OSError) -> RequestError:
    """What the operating system says of a place that no message of ours names."""
    place = error.filename if isinstance(error.filename, str) else "standard output"
    return RequestError(f"{place}: {error.strerror or type(error).__name__}; make room there, or name another place")


def _flushed(status: int) -> int:
    """The status when all that was printed has arrived; what has not would be a traceback when Python ends."""
    if status == INTERRUPTED:
        typer.echo("interrupted; nothing was left half-written", err=True)
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD if error.errno == errno.EPIPE else _failed(_refused(error))
    return status


if __name__ == "__main__":
    main()
