"""`broadaxe sweep`: accuracy against accumulator width."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from broadaxe.commands.options import chosen_settings
from broadaxe.commands.output import messages, results


def sweep(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A QONNX model, or a float ONNX model.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Folder to write, or to go on with.")
    ],
    calib: Annotated[Path, typer.Option(help="Inputs that calibrate: .npz, .npy or a folder of .npy.")],
    val: Annotated[Path, typer.Option(help="Inputs that choose, with `labels` where there are some.")],
    test: Annotated[
        Optional[Path], typer.Option(help="Inputs that only the chosen networks see, at the end; as --val.")
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
    config: Annotated[Optional[Path], typer.Option(help="YAML file with settings; options here go on top.")] = None,
    jobs: Annotated[Optional[int], typer.Option(help="Local processes; default: one for each core.")] = None,
    scheduler: Annotated[
        Optional[str], typer.Option(metavar="ADDRESS", help="dask.distributed scheduler, such as tcp://host:8786.")
    ] = None,
) -> None:
    """Quantize in many ways and show what accuracy each accumulator width buys; killed, it goes on when run again.

    Example: broadaxe sweep float.onnx --calib c.npz --val v.npz --test t.npz --acc-bits 8:16 --weight-bits 2:6
    --act-bits 2:6 --methods axe,best,optq -o sweep
    """
    from broadaxe.sweeps.bar import watching
    from broadaxe.sweeps.config import sweep_config
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
    chosen = chosen_settings(sweep_config, config, given)
    try:
        with watching(messages) as progress:
            result = run(
                model, calib, val, output, test=test, config=chosen, jobs=jobs, scheduler=scheduler, progress=progress
            )
    except KeyboardInterrupt:
        typer.echo(f"{output} holds the runs so far; the same command goes on with the others", err=True)
        raise
    results().print(FrontierTable(result))
    typer.echo(
        f"wrote {output}: sweep.csv, sweep.json, pareto.svg, pareto.png, and the models of the frontier in models/"
    )
