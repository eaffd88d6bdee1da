"""`broadaxe sweep`: accuracy against accumulator width."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from broadaxe.commands.options import DATA, Json, SettingsFile
from broadaxe.commands.output import give, manner, messages, say, watched


def sweep(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A float ONNX model, or a QONNX or QDQ model.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Folder to write, or to go on with.")
    ],
    calib: Annotated[Path, typer.Option(metavar="DATA", help=f"Inputs that calibrate: {DATA}.")],
    val: Annotated[Path, typer.Option(metavar="DATA", help="Inputs that choose, with `labels` where there are some.")],
    test: Annotated[
        Optional[Path],
        typer.Option(metavar="DATA", help="Inputs that only the chosen networks see, at the end; as --val."),
    ] = None,
    acc_bits: Annotated[Optional[str], typer.Option(metavar="P", help="Such as 8:20, 8:20:2 or 8,10,12.")] = None,
    weight_bits: Annotated[
        Optional[str], typer.Option(metavar="M", help="Such as 2:8; default: the model's own, else 4.")
    ] = None,
    act_bits: Annotated[
        Optional[str], typer.Option(metavar="N", help="Such as 2:8, of a float model and its inputs; default 8.")
    ] = None,
    methods: Annotated[
        Optional[str],
        typer.Option(
            metavar="NAMES",
            help="Under the budget: best, axe, axe-search, project, project-search; without: optq, gpfq, rtn."
            " Default: axe-search,best.",
        ),
    ] = None,
    apart: Annotated[
        Optional[int], typer.Option(metavar="D", help="Only where |M - N| is at most D; default: everywhere.")
    ] = None,
    headroom: Annotated[
        Optional[str],
        typer.Option(metavar="BITS", help="Only where P - M - N is in it, such as 2:4; default: everywhere."),
    ] = None,
    config: SettingsFile = None,
    jobs: Annotated[
        Optional[int], typer.Option(metavar="N", help="Local processes; default: one for each core.")
    ] = None,
    scheduler: Annotated[
        Optional[str], typer.Option(metavar="ADDRESS", help="dask.distributed scheduler, such as tcp://host:8786.")
    ] = None,
    json: Json = False,
) -> None:
    """Show what accuracy each accumulator width buys.

    The network is quantized with every method, M, N and P that are asked for. Every run is written down as it ends: killed,
    the same command goes on where it was. FOLDER holds sweep.csv, sweep.json and plots, and in models/ the models of the
    frontier.

    Examples:
        broadaxe sweep float.onnx --calib c.npz --val v.npz --acc-bits 8:16 -o sweep
        broadaxe sweep float.onnx --calib c.npz --val v.npz --test t.npz -o sweep \\
            --acc-bits 8:16 --weight-bits 2:6 --act-bits 2:6 --methods axe,best
        broadaxe sweep float.onnx --calib c.npz --val v.npz -o sweep \\
            --config sweep.yaml --scheduler tcp://host:8786

    Exit codes:
        0   done
        2   the request is wrong
        3   torch, matplotlib or dask.distributed is missing
        130 interrupted; the same command goes on

    Next:
        broadaxe compile sweep/models/MODEL.onnx -o build
    """
    from broadaxe.configuration.settings import configured
    from broadaxe.sweeps.bar import watching
    from broadaxe.sweeps.config import SweepConfig
    from broadaxe.sweeps.sweep import sweep as run
    from broadaxe.sweeps.table import FrontierTable

    given = {
        "acc_bits": acc_bits,
        "weight_bits": weight_bits,
        "act_bits": act_bits,
        "methods": methods,
        "apart": apart,
        "headroom": headroom,
    }
    chosen = configured(SweepConfig, config, given)
    try:
        with watching(messages(), live=watched(), quiet=manner().quiet) as progress:
            result = run(
                model, calib, val, output, test=test, config=chosen, jobs=jobs, scheduler=scheduler, progress=progress
            )
    except KeyboardInterrupt:
        typer.echo(f"{output} holds the runs so far; the same command goes on with the others", err=True)
        raise
    if json:
        give((result.folder / "sweep.json").read_text())
    say(FrontierTable(result))
    say(f"wrote {output}: sweep.csv, sweep.json, pareto.svg, pareto.png, and the models of the frontier in models/")
