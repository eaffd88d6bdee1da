"""`broadaxe cosim`: a build in the vendor's tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from broadaxe.commands.options import BuildFolder, Json
from broadaxe.commands.output import give, say, show, warn, working
from broadaxe.errors import RequestError


def cosim(
    build: BuildFolder,
    step: Annotated[
        Optional[str],
        typer.Option(
            metavar="STEP",
            help="csim, csynth, cosim, export, export_xo, or all up to export, the default.",
            autocompletion=lambda: ["csim", "csynth", "cosim", "export", "export_xo", "all"],
        ),
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
    json: Json = False,
) -> None:
    """Run a build in the vendor's HLS tool, and compare with the model.

    C simulation, synthesis, co-simulation and export by Vitis HLS or Vivado HLS. Where neither is installed, the build's
    vendor/ folder has what runs elsewhere, and --read takes what came of it.

    Examples:
        broadaxe cosim build
        broadaxe cosim build --step csynth
        broadaxe cosim build --read results/vendor
        broadaxe cosim build --bundle logs.zip

    Exit codes:
        0 done
        1 a step failed, or differs from the reference
        2 the request is wrong
        3 the tool is missing; the message says what to run elsewhere

    Next:
        broadaxe compile model.onnx -o build \\
            --latencies build/vendor/work/latencies.yaml
    """
    from json import dumps

    from broadaxe.vendor import cosim as vendor
    from broadaxe.vendor.bundle import bundle as pack
    from broadaxe.vendor.table import OutcomeTable

    given = [name for name, value in (("--step", step), ("--read", read), ("--bundle", bundle)) if value is not None]
    if len(given) > 1:
        raise RequestError(f"broadaxe cosim: {' and '.join(given)} are different requests; give one of them")
    if bundle is not None:
        names = pack(build, bundle)
        if not any(name.endswith((".log", ".rpt")) for name in names):
            warn(
                f"{build / 'vendor'}: holds no log and no report, as no tool has run there; run `broadaxe cosim {build}` first"
            )
        if json:
            give(dumps({"wrote": str(bundle), "files": names}, indent=1))
        say(f"wrote {bundle}: {len(names)} files without paths and names of this machine; look before you send it")
        return
    if read is not None:
        result = vendor.read_back(build, read)
    else:
        with working() as progress:
            result = vendor.cosim(build, step or "all", timeout=timeout or vendor.HOURS * 3600.0, progress=progress)
    if json:
        give(dumps(result.as_dict(), indent=1))
    else:
        show(OutcomeTable(result))
    if result.latencies:
        say(f"wrote {build / vendor.WORK / 'latencies.yaml'}")
