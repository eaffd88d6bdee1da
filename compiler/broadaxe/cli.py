"""The command line: arguments in, one library call, results out. Exit codes: 0 done, 1 a check failed, 2 the request is
wrong, 3 a needed tool is missing."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, TypeVar

import typer
from rich.console import Console

from broadaxe.errors import BroadaxeError, MissingToolError, RequestError
from broadaxe.version import __version__

if TYPE_CHECKING:
    import onnx

    from broadaxe.build import Build
    from broadaxe.evaluation import Rows

app = typer.Typer(
    name="broadaxe",
    help="Compile quantized neural networks to HLS C++ whose every accumulator is proven wide enough.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
Settings = TypeVar("Settings")
_messages = Console(stderr=True, highlight=False)
WIDTH_OF_A_PIPE = 130
"""Characters of a table that no terminal shows."""


def _results() -> Console:
    """Where tables go: as wide as the terminal, wide enough where there is none."""
    return Console() if sys.stdout.isatty() else Console(width=WIDTH_OF_A_PIPE)


BuildFolder = Annotated[Path, typer.Argument(metavar="BUILD", help="A folder that `broadaxe compile` wrote.")]
LoadedModel = Annotated[
    Optional[Path],
    typer.Option("--load", metavar="MODEL.onnx", help="With weights that are loaded at run time: those of this model."),
]


def _filled(build: Path, model: Path | None) -> Build:
    """A build folder's design, with the weights of a model loaded if one is named."""
    from broadaxe.build import load
    from broadaxe.loading import load_parameters

    return load(build) if model is None else load_parameters(build, model)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """What is being done, on standard error: one line that is rewritten or, where that is no terminal, a line a stage."""
    if _messages.is_terminal:
        with _messages.status("") as status:
            yield lambda text: status.update(f"{text} ...")
        return
    last = ""

    def said(text: str) -> None:
        nonlocal last
        stage = re.sub(r"\d+", "#", text)  # counts that rise within a stage are left out
        if stage != last:
            typer.echo(f"{text} ...", err=True)
        last = stage

    yield said


def _chosen(settings: Callable[..., Settings], config: Path | None, given: dict[str, Any]) -> Settings:
    """Settings of a file and of options, which go on top."""
    from broadaxe.config import read_mapping

    options = {k: v for k, v in given.items() if v is not None}
    return settings(str(config), **read_mapping(config) | options) if config else settings("options", **options)


def _opened(model: Path, calib: Path) -> tuple[onnx.ModelProto, Rows]:
    """A model and its calibration rows."""
    from broadaxe.build import load_model
    from broadaxe.data import read_data
    from broadaxe.evaluation import Rows, input_names

    loaded, _ = load_model(model)
    return loaded, Rows(read_data(calib, input_names(loaded)), source=str(calib))


@app.command()
def quantize(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A QONNX model, or a float ONNX model.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT.onnx", help="Model to write; OUT.json says how.")
    ],
    calib: Annotated[Path, typer.Option(help=".npz, .npy or folder of .npy: some hundred real inputs, batch first.")],
    acc_bits: Annotated[Optional[int], typer.Option(help="Accumulator bits; with --tile, of each tile.")] = None,
    tile: Annotated[Optional[int], typer.Option(help="Inputs of one inner accumulator.")] = None,
    weight_bits: Annotated[
        Optional[int], typer.Option(help="Default: the model's own where it has quantizers, else 4.")
    ] = None,
    act_bits: Annotated[Optional[int], typer.Option(help="Of a float model; default 8.")] = None,
    input_bits: Annotated[Optional[int], typer.Option(help="Of a float model's own input; default 8.")] = None,
    preset: Annotated[
        Optional[str], typer.Option(metavar="NAME", help="best, axe, axe-search, rtn, project, project-search.")
    ] = None,
    method: Annotated[Optional[str], typer.Option(metavar="NAME", help="optq, gpfq, qronos or rtn.")] = None,
    scales: Annotated[Optional[str], typer.Option(metavar="KIND", help="float, pow2 or dyadic:8.")] = None,
    val: Annotated[
        Optional[Path],
        typer.Option(help="Rows to choose by, like --calib; with an array `labels` they are scored by accuracy."),
    ] = None,
    search: Annotated[
        bool, typer.Option("--search", help="Choose weight and activation bits that lose least on --val.")
    ] = False,
    max_drop: Annotated[
        Optional[float],
        typer.Option(help="Choose the cheapest bits that lose at most so many percent points on --val."),
    ] = None,
    config: Annotated[Optional[Path], typer.Option(help="YAML file with settings; options here go on top.")] = None,
) -> None:
    """Quantize weights so that no accumulator can overflow the bits it is given.

    Example: broadaxe quantize model.onnx --calib calib.npz --weight-bits 4 --acc-bits 14 -o model_q.onnx
    """
    from broadaxe.evaluation import read_rows
    from broadaxe.quantization.config import quant_config
    from broadaxe.quantization.quantize import check_target
    from broadaxe.quantization.quantize import quantize as run
    from broadaxe.quantization.table import RecordTable

    given = {
        "acc_bits": acc_bits,
        "tile": tile,
        "weight_bits": weight_bits,
        "act_bits": act_bits,
        "input_bits": input_bits,
        "preset": preset,
        "method": method,
        "scales": scales,
        "search": search or None,
        "max_drop": max_drop,
    }
    chosen = _chosen(quant_config, config, given)
    check_target(output)
    loaded, rows = _opened(model, calib)
    with _progress() as progress:
        validation = read_rows(val, loaded) if val else None
        result = run(model, rows, chosen, validation=validation, progress=progress)
    result.save(output)
    _results().print(RecordTable(result.record))
    typer.echo(f"wrote {output} and {output.with_suffix('.json')}")
    typer.echo(f"next: broadaxe compile {output} -o build")


@app.command()
def diagnose(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="What `broadaxe quantize` takes.")],
    calib: Annotated[Path, typer.Option(help="Some hundred real inputs, batch first: .npz, .npy or a folder of .npy.")],
    val: Annotated[Path, typer.Option(help="Rows to score on; with an array `labels` by accuracy.")],
    acc_bits: Annotated[Optional[int], typer.Option(help="Accumulator bits.")] = None,
    weight_bits: Annotated[Optional[int], typer.Option(help="As for quantize.")] = None,
    act_bits: Annotated[Optional[int], typer.Option(help="As for quantize.")] = None,
    input_bits: Annotated[Optional[int], typer.Option(help="As for quantize.")] = None,
    tile: Annotated[Optional[int], typer.Option(help="As for quantize.")] = None,
    preset: Annotated[Optional[str], typer.Option(metavar="NAME", help="As for quantize.")] = None,
    method: Annotated[Optional[str], typer.Option(metavar="NAME", help="As for quantize.")] = None,
    scales: Annotated[Optional[str], typer.Option(metavar="KIND", help="As for quantize.")] = None,
    config: Annotated[Optional[Path], typer.Option(help="YAML file with settings of quantize.")] = None,
    bits: Annotated[bool, typer.Option(help="Try one more bit of P, M and N in every layer.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Quantize a model and show where it loses: noise and score of every layer, and what one more bit there gives.

    Example: broadaxe diagnose model.onnx --calib calib.npz --val val.npz --weight-bits 4 --acc-bits 12
    """
    from broadaxe.evaluation import read_rows
    from broadaxe.quantization.config import quant_config
    from broadaxe.quantization.diagnose import diagnose as run
    from broadaxe.quantization.table import DiagnosisTable

    given = {
        "acc_bits": acc_bits,
        "weight_bits": weight_bits,
        "act_bits": act_bits,
        "input_bits": input_bits,
        "tile": tile,
        "preset": preset,
        "method": method,
        "scales": scales,
    }
    chosen = _chosen(quant_config, config, given)
    loaded, rows = _opened(model, calib)
    with _progress() as progress:
        result = run(model, rows, read_rows(val, loaded), chosen, bits=bits, progress=progress)
    if json:
        typer.echo(result.model_dump_json(indent=1))
        return
    _results().print(DiagnosisTable(result))


@app.command()
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
    chosen = _chosen(sweep_config, config, given)
    try:
        with watching(_messages) as progress:
            result = run(
                model, calib, val, output, test=test, config=chosen, jobs=jobs, scheduler=scheduler, progress=progress
            )
    except KeyboardInterrupt:
        typer.echo(f"{output} holds the runs so far; the same command goes on with the others", err=True)
        raise
    _results().print(FrontierTable(result))
    typer.echo(
        f"wrote {output}: sweep.csv, sweep.json, pareto.svg, pareto.png, and the models of the frontier in models/"
    )


@app.command()
def compile(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A QONNX model.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="BUILD", help="Folder to write.")],
    config: Annotated[Optional[Path], typer.Option(help="YAML file with settings; options here go on top.")] = None,
    name: Annotated[
        Optional[str], typer.Option(help="The top-level function is NAME_top; default: the model's file name.")
    ] = None,
    inputs: Annotated[
        Optional[list[str]],
        typer.Option("--input", metavar="NAME:TYPE", help="An input that carries integers, such as image:uint8."),
    ] = None,
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
        "inputs": dict(_typed(text) for text in inputs) if inputs else None,
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
    with _progress() as progress:
        build = builds.compile(model, output, settings=chosen, progress=progress)
    _results().print(ReportTable(report_of(build)))
    for line in told(build.decided, chosen.clock_ns):
        typer.echo(line)
    typer.echo(f"wrote {output}: C++ in firmware/ with top function {build.top}, testbench in tb/")
    if build.parameters is not None:
        typer.echo(f"weights are loaded at run time: parameters.bin has those of this model, {_amount(build)}")
    typer.echo(f"next: broadaxe verify {output}")


def _amount(build: Build) -> str:
    count = 0 if build.parameters is None else len(build.parameters)
    return f"{count:,} words of 64 bits"


@app.command()
def load(
    build: BuildFolder,
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A QONNX model of the same architecture.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PARAMETERS.bin", help="File to write.")],
) -> None:
    """Check another model against a design's budgets and write the parameters that load it.

    Example: broadaxe load build retrained.onnx -o parameters.bin
    """
    from broadaxe.loading import load_parameters, write_parameters

    with _progress() as progress:
        loaded = load_parameters(build, model, progress=progress)
    beside = write_parameters(loaded, output)
    typer.echo(f"wrote {output}: {_amount(loaded)}, all within the budgets; {beside}: what the ports' integers mean")
    typer.echo(f"next: broadaxe simulate {build} --load {model} --data x.npz -o y.npz")


def _typed(text: str) -> tuple[str, str]:
    name, colon, kind = text.rpartition(":")
    if not colon or not name:
        raise RequestError(f"--input {text}: is not NAME:TYPE; write for example image:uint8")
    return name, kind


@app.command()
def report(
    build: BuildFolder,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Show the accumulator of every layer: bounds, proven width, bits saved.

    Example: broadaxe report build --json
    """
    from broadaxe.reports.model import read_report
    from broadaxe.reports.terminal import ReportTable

    content = read_report(build)
    if json:
        typer.echo(content.model_dump_json(indent=1))
        return
    _results().print(ReportTable(content))
    typer.echo(f"next: broadaxe verify {build}")


@app.command()
def dataflow(
    build: BuildFolder,
    run: Annotated[
        bool, typer.Option("--run", help="Run the C++ with FIFOs of these depths, and compare cycles and results.")
    ] = False,
    least: Annotated[bool, typer.Option("--least", help="With --run: depths that are just deep enough.")] = False,
    depth: Annotated[
        Optional[list[str]], typer.Option("--depth", metavar="FIFO=N", help="With --run: another depth of a FIFO.")
    ] = None,
    frames: Annotated[int, typer.Option(help="With --run: frames, back to back.")] = 3,
    json: Annotated[bool, typer.Option("--json", help="Print the report, which holds both tables, as JSON.")] = False,
) -> None:
    """Show every kernel's cycles and resources and every FIFO's depths; --run runs the C++ that way.

    Example: broadaxe dataflow build --run --least --depth s_quant0=20
    """
    from broadaxe.build import load
    from broadaxe.rehearsal import rehearse
    from broadaxe.reports.dataflow import DataflowTable
    from broadaxe.reports.model import read_report

    content = read_report(build)
    if json and run:
        raise RequestError("--json: prints the report, --run what came of a run; give one of both")
    if (least or depth) and not run:
        raise RequestError("--least and --depth: change nothing without --run; add --run")
    if not run:
        if json:
            typer.echo(content.model_dump_json(indent=1))
        else:
            _results().print(DataflowTable(content))
            typer.echo(f"next: broadaxe dataflow {build} --run")
        return
    with _progress() as progress:
        result = rehearse(
            load(build),
            frames=frames,
            depths="least" if least else "declared",
            changed=dict(_depth(text) for text in depth or []),
            progress=progress,
        )
    typer.echo(str(result))
    if not result.passed:
        raise typer.Exit(1)
    typer.echo(f"next: broadaxe verify {build}")


def _depth(text: str) -> tuple[str, int]:
    name, _, count = text.rpartition("=")
    if not name or not count.isdecimal():
        raise RequestError(f"--depth {text}: is not FIFO=N; write for example s_quant0=20")
    return name, int(count)


@app.command()
def verify(
    build: BuildFolder,
    data: Annotated[
        Optional[Path], typer.Option(help=".npz, .npy or folder of .npy: real inputs, batch first.")
    ] = None,
    loaded: LoadedModel = None,
) -> None:
    """Check proofs and certificate, then that reference, onnxruntime and C simulation agree bit for bit on every node.

    Example: broadaxe verify build --data test.npz
    """
    from broadaxe.data import read_data
    from broadaxe.verify import verify as run

    design = _filled(build, loaded)
    arrays = read_data(data, list(dict.fromkeys(i.tensor for i in design.lowered.inputs))) if data else None
    with _progress() as progress:
        result = run(design, arrays, progress=progress)
    typer.echo(str(result))
    if not result.ok:
        raise typer.Exit(1)
    typer.echo(f"next: broadaxe simulate {build} --data x.npz -o y.npz")


@app.command()
def simulate(
    build: BuildFolder,
    data: Annotated[Path, typer.Option(help=".npz, .npy or folder of .npy: real inputs, batch first.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT.npz", help="File for the outputs.")],
    exact: Annotated[
        bool, typer.Option("--exact", help="Use the vendor's ap_int headers: slower, same result.")
    ] = False,
    loaded: LoadedModel = None,
) -> None:
    """Run the generated C++ on real inputs.

    Example: broadaxe simulate build --data x.npz -o y.npz
    """
    from broadaxe.csim import Mode
    from broadaxe.data import read_data, write_data
    from broadaxe.verify import simulate as run

    design = _filled(build, loaded)
    arrays = read_data(data, list(dict.fromkeys(i.tensor for i in design.lowered.inputs)))
    with _progress() as progress:
        progress("compiling and running the C simulation")
        outputs = run(design, arrays, mode=Mode.EXACT if exact else Mode.NATIVE)
    write_data(output, outputs)
    shapes = ", ".join(f"{name} {value.shape}" for name, value in outputs.items())
    typer.echo(f"wrote {output}: {shapes}")
    typer.echo(f"next: broadaxe report {build}")


@app.command()
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
        with _progress() as progress:
            result = vendor.cosim(build, step or "all", timeout=timeout or vendor.HOURS * 3600.0, progress=progress)
    _results().print(OutcomeTable(result))
    if result.latencies:
        typer.echo(f"wrote {build / vendor.WORK / 'latencies.yaml'}")


@app.command()
def audit(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A QONNX or FINN model.")],
    hls4ml: Annotated[
        Optional[Path],
        typer.Option(metavar="CONFIG.yml", help="hls4ml configuration; default: what the model declares."),
    ] = None,
    inputs: Annotated[
        Optional[list[str]],
        typer.Option("--input", metavar="NAME:TYPE", help="An input that carries integers, such as image:uint8."),
    ] = None,
    data: Annotated[Optional[Path], typer.Option(help="Real inputs that are tried first; as for verify.")] = None,
    output: Annotated[
        Optional[Path], typer.Option("-o", "--output", metavar="WITNESS.npz", help="File for an input that overflows.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0, help="Of the search for inputs, for each layer behind the first.")
    ] = 10.0,
    seed: Annotated[int, typer.Option(min=0, help="Of that search.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Prove the accumulators that a FINN or hls4ml design declares wide enough, or show an input that overflows one.

    Example: broadaxe audit model.onnx --hls4ml config.yml -o witness.npz
    """
    from json import dumps

    from broadaxe.auditing.audit import audit as run
    from broadaxe.auditing.table import AuditTable
    from broadaxe.data import write_data

    types = dict(_typed(text) for text in inputs) if inputs else None
    with _progress() as progress:
        result = run(model, hls4ml, inputs=types, data=data, seconds=seconds, seed=seed, progress=progress)
    if output is not None and result.witness:
        write_data(output, result.witness)
    if json:
        typer.echo(dumps(result.as_dict(), indent=1))
    else:
        _results().print(AuditTable(result))
        if output is not None:
            typer.echo(f"wrote {output}" if result.witness else f"{output} not written: no input is known to overflow")
    if not result.ok:
        raise typer.Exit(1)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A QONNX or FINN model.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT", help="Model or configuration to write.")],
    finn: Annotated[bool, typer.Option("--finn", help="Write a model with widths in FINN's terms.")] = False,
    hls4ml: Annotated[bool, typer.Option("--hls4ml", help="Write an hls4ml configuration.")] = False,
    inputs: Annotated[
        Optional[list[str]],
        typer.Option("--input", metavar="NAME:TYPE", help="An input that carries integers, such as image:uint8."),
    ] = None,
) -> None:
    """Write proven accumulator widths in the terms of FINN or of hls4ml.

    Example: broadaxe export model.onnx --hls4ml -o config.yml
    """
    from broadaxe.auditing.export import export_finn, export_hls4ml, write

    if finn == hls4ml:
        raise RequestError("export: give either --finn or --hls4ml")
    types = dict(_typed(text) for text in inputs) if inputs else None
    with _progress() as progress:
        made = (export_finn if finn else export_hls4ml)(model, inputs=types, progress=progress)
    write(output, made)
    typer.echo(f"wrote {output}")
    if isinstance(made, str) and (remarked := made.count("\n  # ")):
        typer.echo(f"{remarked} layers are sized inexactly or not at all; comments in the file say why")
    typer.echo(f"next: broadaxe audit {output if finn else f'{model} --hls4ml {output}'}")


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="BUILD", help="Folder to write.")] = Path(
        "build/digits"
    ),
) -> None:
    """Train a small CNN on handwritten digits with Brevitas, compile it, simulate it and verify it: about a minute."""
    from broadaxe.resources import demo_script

    try:
        script = runpy.run_path(str(demo_script()))
    except ModuleNotFoundError as error:
        raise MissingToolError(f"demo: {error.name} is not installed; pip install 'broadaxe[demo]'") from None
    script["main"](str(output))
    typer.echo(f"next: broadaxe report {output}, broadaxe verify {output}")


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        typer.echo(f"broadaxe {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; an error of ours is one line on standard error and its exit code.

    `broadaxe_command` imports this module, so that an interrupt meanwhile is caught as well.
    """
    try:
        app()
    except BroadaxeError as error:
        _messages.print(f"error: {error}", markup=False, soft_wrap=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
