"""`broadaxe export`: proven widths for FINN and hls4ml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broadaxe.commands.options import InputTypes, typed_inputs
from broadaxe.commands.output import say, typed, working
from broadaxe.errors import RequestError


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A QONNX or FINN model.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT", help="Model or configuration to write.")],
    finn: Annotated[bool, typer.Option("--finn", help="Write a model with widths in FINN's terms.")] = False,
    hls4ml: Annotated[bool, typer.Option("--hls4ml", help="Write an hls4ml configuration.")] = False,
    inputs: InputTypes = None,
) -> None:
    """Write proven accumulator widths for FINN or for hls4ml.

    FINN reads them as annotations of a model, hls4ml as a configuration. Comments in the configuration say where a width
    cannot be stated exactly.

    Examples:
        broadaxe export model.onnx --finn -o sized.onnx
        broadaxe export model.onnx --hls4ml -o config.yml
        broadaxe export model.onnx --hls4ml --input image:uint8 -o config.yml

    Next:
        broadaxe audit model.onnx --hls4ml config.yml
    """
    from broadaxe.auditing.export import export_finn, export_hls4ml, write
    from broadaxe.data import check_apart

    if finn == hls4ml:
        given = "both --finn and --hls4ml are" if finn else "neither --finn nor --hls4ml is"
        raise RequestError(f"broadaxe export: {given} given; give one of them")
    check_apart(output, model)
    types = typed_inputs(inputs)
    with working() as progress:
        made = (export_finn if finn else export_hls4ml)(model, inputs=types, progress=progress)
    write(output, made)
    say(f"wrote {output}")
    if isinstance(made, str) and (remarked := made.count("\n  # ")):
        say(f"{remarked} layers are sized inexactly or not at all; comments in the file say why")
    say(f"next: broadaxe audit {typed(output) if finn else f'{typed(model)} --hls4ml {typed(output)}'}")
