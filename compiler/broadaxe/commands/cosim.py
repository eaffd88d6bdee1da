"""`broadaxe cosim`: a build in the vendor's tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from broadaxe.commands.options import BuildFolder
from broadaxe.commands.output import results, working
from broadaxe.errors import RequestError


def cosim(
    build: BuildFolder,
    step: Annotated[
        Optional[str],
        typer.Option(metavar="STEP", help="csim, csynth, cosim, export, export_xo, or all up to export, the default."),
    ] = None,
    read: Annotated[
        Optional[Path], typer.Option(metavar="DIR", help="Read results that were made elsewhere instead.")
    ] = None,
    bundle: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE.zip", help="Pack logs and reports for a bug report, and run nothing."),
    ] = None,
    timeout: Annotated[
        Optional[float], typer.Option(metavar="SECONDS", min=1, help="Of a step; default 24 hours.")
    ] = None,
) -> None:
    """Run a build in Vitis HLS or Vivado HLS: C simulation, synthesis, co-simulation, export; compare with the model.

    Example: broadaxe cosim build --step csynth
    """
    from broadaxe.vendor import cosim as vendor
    from broadaxe.vendor.bundle import bundle as pack
    from broadaxe.vendor.table import OutcomeTable

    if sum(option is not None for option in (step, read, bundle)) > 1:
        raise RequestError("cosim: give one of --step, --read and --bundle")
    if bundle is not None:
        names = pack(build, bundle)
        typer.echo(
            f"wrote {bundle}: {len(names)} files without paths and names of this machine; look before you send it"
        )
        return
    if read is not None:
        result = vendor.read_back(build, read)
    else:
        with working() as progress:
            result = vendor.cosim(build, step or "all", timeout=timeout or vendor.HOURS * 3600.0, progress=progress)
    results().print(OutcomeTable(result))
    if result.latencies:
        typer.echo(f"wrote {build / vendor.WORK / 'latencies.yaml'}")
