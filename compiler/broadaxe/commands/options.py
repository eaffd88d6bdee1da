"""Arguments that several commands take, and what they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from broadaxe.commands.complete import one_of
from broadaxe.errors import RequestError

if TYPE_CHECKING:
    import onnx

    from broadaxe.build import Build, Progress
    from broadaxe.evaluation import Rows

PRESETS = ("axe", "axe-search", "best", "rtn", "project", "project-search")
METHODS = ("optq", "gpfq", "qronos", "rtn")

BuildFolder = Annotated[Path, typer.Argument(metavar="BUILD", help="A folder that `broadaxe compile` wrote.")]
LoadedModel = Annotated[
    Optional[Path],
    typer.Option("--load", metavar="MODEL.onnx", help="With weights that are loaded at run time: those of this model."),
]
InputTypes = Annotated[
    Optional[list[str]],
    typer.Option("--input", metavar="NAME:TYPE", help="An input that carries integers, such as image:uint8."),
]
SettingsFile = Annotated[
    Optional[Path], typer.Option(metavar="FILE.yaml", help="Settings; options of this command line go on top.")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document for machines, and nothing else on standard output.")
]

DATA = ".npz, .npy or a folder of .npy, batch first"
Calibration = Annotated[Path, typer.Option(metavar="DATA", help=f"Some hundred real inputs: {DATA}.")]
AccBits = Annotated[Optional[int], typer.Option(metavar="P", help="Accumulator bits; with --tile, of each tile.")]
Tile = Annotated[Optional[int], typer.Option(metavar="T", help="Inputs of one inner accumulator.")]
WeightBits = Annotated[
    Optional[int],
    typer.Option(metavar="M", help="Weight bits; default: the model's own where it has quantizers, else 4."),
]
ActBits = Annotated[Optional[int], typer.Option(metavar="N", help="Activation bits of a float model; default 8.")]
InputBits = Annotated[Optional[int], typer.Option(metavar="N", help="Bits of a float model's own input; default 8.")]
Preset = Annotated[
    Optional[str],
    typer.Option(metavar="NAME", help=f"{', '.join(PRESETS)}; default best.", **one_of(*PRESETS)),
]
Method = Annotated[
    Optional[str],
    typer.Option(metavar="NAME", help=f"Base algorithm: {', '.join(METHODS)}.", **one_of(*METHODS)),
]
Scales = Annotated[
    Optional[str], typer.Option(metavar="KIND", help="What a step size may be: float, pow2 or dyadic:8.")
]


def opened_rows(model: Path, calib: Path) -> tuple[onnx.ModelProto, Rows]:
    """A model and its calibration rows."""
    from broadaxe.build import load_model
    from broadaxe.data import read_data
    from broadaxe.evaluation import Rows, input_names

    loaded, _ = load_model(model)
    return loaded, Rows(read_data(calib, input_names(loaded)), source=str(calib))


def filled(build: Path, model: Path | None, progress: Progress) -> Build:
    """A build folder's design, with the weights of a model loaded if one is named."""
    from broadaxe.build import load
    from broadaxe.loading import load_parameters

    if model is None:
        return load(build, progress=progress)
    return load_parameters(build, model, progress=progress)


def typed_inputs(inputs: list[str] | None) -> dict[str, str] | None:
    """What --input gives, by name; None without any."""
    return dict(map(_typed, inputs)) if inputs else None


def _typed(text: str) -> tuple[str, str]:
    name, colon, kind = text.rpartition(":")
    if not colon or not name:
        raise RequestError(f"--input {text}: is not NAME:TYPE; write for example image:uint8")
    return name, kind
