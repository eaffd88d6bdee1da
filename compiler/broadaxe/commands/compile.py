"""`broadaxe compile`: a model to a folder of HLS C++."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from broadaxe.commands import complete
from broadaxe.commands.complete import one_of
from broadaxe.commands.options import DATA, InputTypes, Json, SettingsFile, typed_inputs
from broadaxe.commands.output import asked, give, say, typed, warn, working

TOOLS = ("vitis", "vivado")
WEIGHTS = ("fixed", "runtime")
FORMS = ("constant", "shift", "multiply-shift", "thresholds", "threshold-search", "table")


def compile(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A QONNX model.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="BUILD", help="Folder to write.")],
    config: SettingsFile = None,
    name: Annotated[
        Optional[str],
        typer.Option(metavar="NAME", help="The top-level function is NAME_top; default: the model's file name."),
    ] = None,
    inputs: InputTypes = None,
    folding: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE.yaml", help="Lanes of kernels: a build's folding.yaml, edited."),
    ] = None,
    target_fps: Annotated[
        Optional[float], typer.Option(metavar="N", help="Frames a second: the cheapest folding that reaches them.")
    ] = None,
    target_ii: Annotated[
        Optional[int], typer.Option(metavar="N", help="The same in cycles from frame to frame.")
    ] = None,
    max_lut: Annotated[
        Optional[int], typer.Option(metavar="N", help="LUTs at most: without a target the fastest folding that fits.")
    ] = None,
    max_ff: Annotated[Optional[int], typer.Option(metavar="N", help="Flip-flops at most.")] = None,
    max_dsp: Annotated[Optional[int], typer.Option(metavar="N", help="DSP blocks at most.")] = None,
    max_bram: Annotated[Optional[int], typer.Option(metavar="N", help="Block RAMs of 18 Kb at most.")] = None,
    max_uram: Annotated[Optional[int], typer.Option(metavar="N", help="UltraRAMs at most.")] = None,
    requantizer: Annotated[
        Optional[str],
        typer.Option(
            metavar="FORM",
            help=f"Form of every requantizer, where it is proven equal: {', '.join(FORMS)}.",
            **one_of(*FORMS),
        ),
    ] = None,
    tool: Annotated[
        Optional[str],
        typer.Option(
            metavar="TOOL", help="HLS tool that reads the sources: vitis (default) or vivado.", **one_of(*TOOLS)
        ),
    ] = None,
    weights: Annotated[
        Optional[str],
        typer.Option(
            metavar="KIND",
            help="fixed (default): hardware for these weights; runtime: for all within budgets, see `broadaxe load`.",
            **one_of(*WEIGHTS),
        ),
    ] = None,
    calib: Annotated[
        Optional[Path],
        typer.Option(metavar="DATA", help=f"Real inputs, whose sums the report shows: {DATA}."),
    ] = None,
    part: Annotated[
        Optional[str],
        typer.Option(
            metavar="PART",
            help="Part number, device or board, such as ZCU104: the fastest folding that fits.",
            autocompletion=complete.parts,
        ),
    ] = None,
    clock_ns: Annotated[Optional[float], typer.Option(metavar="NS", help="Clock period; default 5.")] = None,
    latencies: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE.yaml", help="Pipeline stages of kernels, as `broadaxe cosim` writes them."),
    ] = None,
    json: Json = False,
) -> None:
    """Compile a QONNX model to a folder of HLS C++.

    Every accumulator is as wide as its proof says it has to be, and the folder holds the proof: C++ in firmware/, a testbench
    in tb/, projects of the vendor's tools in vendor/, driver and block design in deploy/, and the report. An earlier build in
    its place is replaced when the new one is whole.

    Examples:
        broadaxe compile model.onnx -o build
        broadaxe compile model.onnx -o build --calib c.npz --part ZCU104
        broadaxe compile model.onnx -o build --target-fps 10000 --part PYNQ-Z2
        broadaxe compile model.onnx -o build --input image:uint8
        broadaxe compile model.onnx -o build --folding build/folding.yaml

    Exit codes:
        0 done
        2 the model or the request cannot be compiled; the message names the node

    Next:
        broadaxe verify build --data test.npz
        broadaxe report build
    """
    from broadaxe.config import compile_settings
    from broadaxe.reports.fit import fit_of
    from broadaxe.reports.folding import told
    from broadaxe.reports.reading import read_report
    from broadaxe.reports.terminal import ReportTable

    given = {
        "name": name,
        "inputs": typed_inputs(inputs),
        "target_fps": target_fps,
        "target_ii": target_ii,
        "max_lut": max_lut,
        "max_ff": max_ff,
        "max_dsp": max_dsp,
        "max_bram": max_bram,
        "max_uram": max_uram,
        "requantizers": {"*": requantizer} if requantizer else None,
        "tool": tool,
        "weights": weights,
        "part": part,
        "clock_ns": clock_ns,
    }
    chosen = compile_settings(config, folding=folding, latencies=latencies, options=given)
    with working() as progress:
        progress("reading the model")
        from broadaxe import build as builds

        build = builds.compile(model, output, calibration=calib, settings=chosen, command=asked(), progress=progress)
    content = read_report(build.path)
    if json:
        give(content.as_json())
    say(ReportTable(content))
    fit = fit_of(content.resources, chosen)
    if fit.named:
        say(str(fit))
    if fit.warning:
        warn(fit.warning)
    for line in told(build.decided, chosen.clock_ns):
        say(line)
    say(f"wrote {output}: C++ in firmware/ with top function {build.top}, testbench in tb/")
    if build.parameters is not None:
        words = f"{len(build.parameters):,} words of 64 bits"
        say(f"weights are loaded at run time: parameters.bin has those of this model, {words}")
    say(f"next: broadaxe verify {typed(output)}")
