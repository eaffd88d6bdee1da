"""`broadaxe verify`: everything about a build, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from broadaxe.commands.options import DATA, BuildFolder, Json, LoadedModel, filled
from broadaxe.commands.output import give, say, show, typed, working


def verify(
    build: BuildFolder,
    data: Annotated[Optional[Path], typer.Option(metavar="DATA", help=f"Real inputs: {DATA}.")] = None,
    loaded: LoadedModel = None,
    json: Json = False,
) -> None:
    """Prove a build, and compare every value of it bit for bit.

    Proofs, certificate and the hashes of all files are checked; then reference, onnxruntime and C simulation have to agree on
    every node. They run on integers made for it, both ends of every input and random ones, on inputs that take each
    accumulator to both proven ends, and with --data on real inputs, where the model in float32 is compared as well.

    Examples:
        broadaxe verify build
        broadaxe verify build --data test.npz
        broadaxe verify build --load retrained.onnx --data test.npz

    Exit codes:
        0 verified
        1 something differs; the first of it is named
        2 the request is wrong
        3 g++ is missing

    Next:
        broadaxe simulate build --data x.npz -o y.npz
        broadaxe cosim build
    """
    from json import dumps

    from broadaxe.reports.verified import VerificationLines

    with working() as progress:
        progress("reading the build")
        from broadaxe.data import read_data
        from broadaxe.verification import verify as run

        design = filled(build, loaded, progress)
        arrays = read_data(data, list(dict.fromkeys(i.tensor for i in design.lowered.inputs))) if data else None
        result = run(design, arrays, progress=progress)
    if json:
        give(dumps(result.as_dict(), indent=1))
    else:
        show(VerificationLines(result))
    if not result.ok:
        raise typer.Exit(1)
    say(f"next: broadaxe simulate {typed(build)} --data x.npz -o y.npz")
