"""Write a settings file with every setting, or check one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional, cast

import typer

from broadaxe.commands.complete import one_of
from broadaxe.commands.output import say, typed

if TYPE_CHECKING:
    from broadaxe.configuration.kinds import FileKind, Kind


def new(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="compile|quantize|sweep",
            help="Whose settings.",
            autocompletion=one_of("compile", "quantize", "sweep")["autocompletion"],
        ),
    ],
    output: Annotated[
        Optional[Path], typer.Option("-o", "--output", metavar="FILE.yaml", help="Default: standard output.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Write a settings file with every setting, each explained.

    Each has its default, what it may be and its unit as a comment.

    Examples:
        broadaxe config new compile -o settings.yaml
        broadaxe config new quantize

    Next:
        broadaxe config check settings.yaml
    """
    from broadaxe.configuration.default_file import default_file, write_default
    from broadaxe.configuration.kinds import KINDS, known_kind

    wanted = cast("Kind", known_kind(kind, KINDS))
    if output is None:
        typer.echo(default_file(wanted), nl=False)
        return
    write_default(wanted, output, force=force)
    say(f"wrote {output}: every setting of broadaxe {wanted}")
    say(f"next: edit it, then broadaxe config check {typed(output)}")


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="Settings, a folding.yaml or a latencies.yaml.")],
    kind: Annotated[
        Optional[str],
        typer.Option(
            "--for",
            metavar="KIND",
            help="compile, quantize, sweep, folding, latencies or hls4ml; default: found by its keys.",
            autocompletion=one_of("compile", "quantize", "sweep", "folding", "latencies", "hls4ml")["autocompletion"],
        ),
    ] = None,
) -> None:
    """Check a settings file: every mistake with its line.

    Beside each mistake stands what is allowed there.

    Examples:
        broadaxe config check settings.yaml
        broadaxe config check build/folding.yaml --for folding

    Next:
        broadaxe compile model.onnx -o build --config settings.yaml
    """
    from broadaxe.configuration.kinds import FILE_KINDS, USED, check_file, known_kind

    result = check_file(file, cast("FileKind", known_kind(kind, FILE_KINDS)) if kind else None)
    typer.echo(str(result))
    say(f"next: {USED[result.kinds[0]].format(typed(file))}")
