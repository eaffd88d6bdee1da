"""`broadaxe compile`: a model to a folder of HLS C++."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from broadaxe.commands.options import InputTypes, typed_inputs
from broadaxe.commands.output import asked, results, working


def compile(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A QONNX model.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="BUILD", help="Folder to write.")],
    config: Annotated[Optional[Path], typer.Option(help="YAML file with settings; options here go on top.")] = None,
    name: Annotated[
        Optional[str], typer.Option(help="The top-level function is NAME_top; default: the model's file name.")
    ] = None,
    inputs: InputTypes = None,
    folding: Annotated[
        Optional[Path], typer.Option(help="YAML file with lanes of kernels: a build's folding.yaml, edited.")
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
        Optional[str], typer.Option(metavar="FORM", help="Form of every requantizer, where it is proven equal.")
    ] = None,
    tool: Annotated[
        Optional[str], typer.Option(metavar="vitis|vivado", help="HLS tool that reads the sources.")
    ] = None,
    weights: Annotated[
        Optional[str],
        typer.Option(
            metavar="fixed|runtime", help="Hardware for these weights, or for all within budgets (broadaxe load)."
        ),
    ] = None,
    calib: Annotated[
        Optional[Path],
        typer.Option(help="Real inputs, .npz, .npy or a folder of .npy: the report shows the sums they lead to."),
    ] = None,
    part: Annotated[
        Optional[str],
        typer.Option(
            metavar="PART", help="Part number, device or board, such as ZCU104: the fastest folding that fits."
        ),
    ] = None,
    clock_ns: Annotated[Optional[float], typer.Option(metavar="NS", help="Clock period; default 5.")] = None,
    latencies: Annotated[
        Optional[Path], typer.Option(help="YAML file with pipeline stages of kernels, as `broadaxe cosim` writes it.")
    ] = None,
) -> None:
    """Compile a QONNX model to a folder of HLS C++.

    Example: broadaxe compile model.onnx -o build
    """
    from broadaxe import build as builds
    from broadaxe.config import read_folding, read_latencies, read_settings, settings
    from broadaxe.reports.folding import told
    from broadaxe.reports.model import report_of
    from broadaxe.reports.terminal import ReportTable

    given = {
        "name": name,
        "inputs": typed_inputs(inputs),
        "folding": read_folding(folding) if folding else None,
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
        "latencies": read_latencies(latencies) if latencies else None,
    }
    chosen = read_settings(config, **given) if config else settings(**given)
    chosen = chosen.folded_by(folding) if folding else chosen
    with working() as progress:
        build = builds.compile(model, output, calibration=calib, settings=chosen, command=asked(), progress=progress)
    results().print(ReportTable(report_of(build)))
    for line in told(build.decided, chosen.clock_ns):
        typer.echo(line)
    typer.echo(f"wrote {output}: C++ in firmware/ with top function {build.top}, testbench in tb/")
    if build.parameters is not None:
        words = f"{len(build.parameters):,} words of 64 bits"
        typer.echo(f"weights are loaded at run time: parameters.bin has those of this model, {words}")
    typer.echo(f"next: broadaxe verify {output}")
