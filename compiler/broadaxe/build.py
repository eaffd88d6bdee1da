"""A build folder: the compiled design on disk, and the same design in memory.

A build keeps its model and its settings. Loading one lowers the model again, so what verification runs is derived from the
model, and the folder's own certificate, sources and hashes are what gets checked.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from broadaxe import resources
from broadaxe.config import CompileSettings, settings
from broadaxe.emit import firmware, loading_vectors, testbench
from broadaxe.errors import RequestError
from broadaxe.frontend.files import external, read_onnx
from broadaxe.frontend.float32 import as_float32
from broadaxe.frontend.qdq import quant_from_qdq
from broadaxe.frontend.wiring import shown
from broadaxe.hardware import DSP48E1, Resources
from broadaxe.host import Host
from broadaxe.ir import Fold, Graph, IntArray, Lanes
from broadaxe.lower import Lowered, lower
from broadaxe.manifest import check_file, read_manifest, settings_of
from broadaxe.ops.mac import Accumulating
from broadaxe.parameters import packed, parameters_of, turned_over
from broadaxe.passes import loadable_pipeline, pipeline, run_passes
from broadaxe.passes.reserve_budgets import Reservation
from broadaxe.prove.certificate import certificate
from broadaxe.reference import run
from broadaxe.schedule.dataflow import Dataflow, dataflow, with_depths
from broadaxe.schedule.fifos import Plan, plan
from broadaxe.schedule.folding import DEFAULT_MULTIPLIERS, Given, complete, fold_of, folding_entries, lanes_of, pinned
from broadaxe.schedule.network import network_of
from broadaxe.schedule.resources import total_of
from broadaxe.schedule.targets import FoldingPlan, Request, beyond, difference, evaluated, planned
from broadaxe.vendor.project import project
from broadaxe.version import __version__
from broadaxe.whole import uninterrupted

if TYPE_CHECKING:
    from torch import nn

    from broadaxe.reports.observe import Observation

Array: TypeAlias = npt.NDArray[Any]
Progress: TypeAlias = Callable[[str], None]
OF_TOOLS = re.compile(r"sim/|deploy/(work|__pycache__)/|vendor/(work|\.Xil|\.ipcache)/|vendor/[^/]*\.(log|jou|str)$")
"""What C simulation, the vendor's tools and the driver leave in a build folder."""
TEST_FRAMES = 8
TEST_ELEMENTS = 1 << 22
"""Of all test vectors; both extremes are among them, whatever their size."""


@dataclass(frozen=True, eq=False)
class Build:
    """A compiled design.

    Attributes:
        path: its folder.
        top: name of the top-level function in C++.
        model: QONNX, as it was compiled.
        settings: what it was compiled with.
        graph: the integer graph behind the C++.
        parameters: of a design whose weights are loaded at run time, the words that fill its memories with the weights of
            `model`; else None.
        resident: of such a design the one that was compiled, where `model` is another; else None.
        command: the command line that asked for it, or None.
        observed: what calibration data did to the accumulators; None where there were none.

    The other fields belong to the compiler and may change.
    """

    path: Path
    top: str
    model: onnx.ModelProto
    settings: CompileSettings
    lowered: Lowered
    graph: Graph
    folding: Mapping[str, Fold]
    lanes: Mapping[str, Lanes]
    decided: FoldingPlan
    flow: Dataflow
    plan: Plan
    host: Host
    parameters: IntArray | None = None
    resident: Build | None = None
    command: str | None = None
    observed: Observation | None = None

    def __repr__(self) -> str:
        return f"Build({str(self.path)!r}, top={self.top!r}, {len(self.graph.nodes)} nodes)"

    def __str__(self) -> str:
        from broadaxe.reports.folding import told
        from broadaxe.reports.model import report_of
        from broadaxe.reports.terminal import text

        return "\n".join([text(report_of(self)), *told(self.decided, self.settings.clock_ns)])

    def _repr_html_(self) -> str:
        from broadaxe.notebook import html
        from broadaxe.reports.model import report_of
        from broadaxe.reports.terminal import ReportTable

        return html(ReportTable(report_of(self)))

    def codes(self, data: Array | Mapping[str, Array]) -> dict[str, IntArray]:
        """Integer inputs in stream order for the model's inputs; a single array stands for a single input."""
        return self.host.codes(named(data, list(dict.fromkeys(i.tensor for i in self.lowered.inputs))))


def compile(
    model: onnx.ModelProto | str | os.PathLike[str] | nn.Module,
    output: str | os.PathLike[str],
    *,
    example_input: object | None = None,
    calibration: Array | Mapping[str, Array] | str | os.PathLike[str] | None = None,
    settings: CompileSettings | None = None,
    command: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Build:
    """Compile a quantized model into a folder of HLS C++ whose every accumulator is proven wide enough.

    Args:
        model: a QONNX file or model, or a Brevitas module with an `example_input`.
        output: the build folder. An earlier build there is replaced, anything else is not touched.
        example_input: a tensor of the module's input shape, batch first.
        calibration: real inputs, batch first: one array, a mapping, or a file as for `verify --data`. The report then shows
            which sums they lead to, beside the proven ones; nothing else depends on them.
        command: what the report gives as the command line.
        settings, options: see `broadaxe.config.CompileSettings`; options are its fields.
        progress: called with what is being done.

    Example:
        >>> build = broadaxe.compile("model.onnx", "build", target_fps=100_000)
        >>> build
        Build('build', top='model_top', 8 nodes)

    Returns:
        The build, which `report`, `verify` and `simulate` take as they take its folder.

    Raises:
        UnsupportedModelError: names the node that cannot be compiled, why, and what would help.
        RequestError: a file, folder or option is wrong. Nothing is written then.
    """
    from broadaxe.config import CompileSettings as Known
    from broadaxe.config import settings as validated

    said = progress or (lambda _: None)
    if settings is not None and options:
        raise RequestError(f"compile: both settings and {', '.join(options)}; give one or the other")
    if settings is not None and not isinstance(settings, Known):
        raise RequestError(f"settings: are of type {type(settings).__name__}; give broadaxe.CompileSettings(...)")
    chosen = settings or validated(**options)
    with _writing(Path(output)):
        target = _target(Path(output))
    said("reading the model")
    loaded, stem = load_model(model, example_input)
    design = replace(_design(target, loaded, chosen, stem, said), command=command)
    if calibration is not None:
        design = observing(design, calibration, said)
    said("writing C++")
    with _writing(target):
        write(design)
    return design


def load(path: str | os.PathLike[str], *, progress: Progress | None = None) -> Build:
    """Open a build folder: its model is lowered again with its settings.

    Args:
        path: a folder that `compile` wrote.
        progress: called with what is being done.

    Example:
        >>> broadaxe.load("build").top
        'model_top'

    Returns:
        The build as `compile` returned it.

    Raises:
        RequestError: it is no build folder, or one of another version.
        VerificationError: its model is missing or was changed.
    """
    folder = Path(path)
    manifest, said = read_manifest(folder), progress or (lambda _: None)
    said("reading the build")
    chosen = settings_of(folder, name=manifest["top"].removesuffix("_top"))
    try:
        model, _ = load_model(folder / "model.onnx")
    except RequestError:
        check_file(folder, "model.onnx", manifest["files"])
        raise
    decided = settings(folding=manifest.get("folding", {})).folded_by(folder / "build.json")
    design = _design(folder, model, chosen, "", said, decided.given)
    return _as_reported(design)


def observing(
    design: Build, data: Array | Mapping[str, Array] | str | os.PathLike[str], progress: Progress | None = None
) -> Build:
    """The same build with what data, or those of a file, do to its accumulators."""
    from broadaxe.data import read_data
    from broadaxe.reports.observe import observe

    source = "data"
    if isinstance(data, str | os.PathLike):
        source = Path(data).name
        data = read_data(Path(data), list(dict.fromkeys(i.tensor for i in design.lowered.inputs)))
    codes = design.codes(data)
    return replace(design, observed=observe(design, codes, source, progress or (lambda _: None)))


def _as_reported(design: Build) -> Build:
    """With what only the folder's report.json knows; `check_files` is what tells whether that has changed."""
    from broadaxe.reports.observe import Observation
    from broadaxe.reports.schema import Report

    try:
        report = Report.model_validate_json((design.path / "report.json").read_bytes())
    except (OSError, ValueError):
        return design
    seen = {layer.name: layer.observed for layer in report.layers if layer.observed is not None}
    observed = None if report.calibration is None else Observation(report.calibration, seen)
    return replace(design, command=report.made.command, observed=observed)


def load_model(source: object, example_input: object | None = None) -> tuple[onnx.ModelProto, str]:
    """The QONNX model of a file, a ModelProto or a Brevitas module, and a name for it.

    Data in other files are read, QDQ becomes QONNX, and float16, bfloat16 and float64 become float32.
    """
    place = "model"
    held = getattr(source, "model", None)
    if isinstance(held, onnx.ModelProto):  # a Build, or what quantize returns
        source = held
    if isinstance(source, onnx.ModelProto):
        model, name = source, source.graph.name or "network"
        for tensor, _ in external(model):
            raise RequestError(
                f"model: {tensor}: its data are in another file; give the model's file, not what it holds"
            )
    elif isinstance(source, str | os.PathLike):
        path = Path(source)
        place = str(path)
        model, name = read_onnx(path), path.stem
    else:
        from broadaxe.frontend.brevitas import export_brevitas

        if not hasattr(source, "state_dict"):
            raise RequestError(
                f"model: is a {type(source).__name__}; give a file, an ONNX model, or a Brevitas module with an"
                " example_input"
            )
        if example_input is None:
            raise RequestError("model: a module needs example_input, a tensor of its input's shape; give one")
        model, name = export_brevitas(source, example_input), type(source).__name__
    if not model.graph.node or not model.graph.output:
        raise RequestError(f"{place}: holds no network; name a complete .onnx file")
    for text in _texts(model.graph):
        if isinstance(text, bytes):  # what protobuf gives for one that is not UTF-8
            raise RequestError(f"{place}: holds the name {shown(text)!r}, which is not UTF-8; repair the model")
    return quant_from_qdq(as_float32(model)), name


def _texts(graph: onnx.GraphProto) -> Iterator[str | bytes]:
    """Every name of a graph that the compiler reads."""
    for entry in (*graph.initializer, *graph.input, *graph.output):
        yield entry.name
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)


def named(data: Array | Mapping[str, Array], inputs: list[str]) -> dict[str, Array]:
    """Data by input name."""
    if isinstance(data, Mapping):
        return dict(data)
    if len(inputs) != 1:
        raise RequestError(f"data: one array for {len(inputs)} inputs; give a mapping with {', '.join(inputs)}")
    try:
        return {inputs[0]: np.asarray(data)}
    except ValueError:
        raise RequestError(
            f"input {inputs[0]}: is no array, its rows differ in shape; give numbers of one shape a sample"
        ) from None


def _design(
    path: Path,
    model: onnx.ModelProto,
    chosen: CompileSettings,
    stem: str,
    said: Progress,
    given: Mapping[str, Given] | None = None,
) -> Build:
    """`given` is a folding that was decided before, instead of what the settings ask for."""
    said("lowering to integers")
    lowered = lower(model, chosen.input_types, loadable=chosen.weights == "runtime")
    said("sizing accumulators and proving requantizers")
    passes = pipeline(chosen.requantizers)
    if chosen.weights == "runtime":
        wanted = Reservation(lowered.promises, chosen.accumulators, chosen.requantizers)
        passes = loadable_pipeline(wanted)
    graph = run_passes(lowered.graph, passes)
    lowered = lowered.read_from(graph)
    decided, flow, fifos = _scheduled(graph, chosen, given, said)
    lanes = decided.lanes
    return Build(
        path=path,
        top=_identifier(chosen.name or stem),
        model=model,
        settings=chosen,
        lowered=lowered,
        graph=graph,
        folding={n.name: fold_of(n.op, lanes[n.name]) for n in graph.nodes if isinstance(n.op, Accumulating)},
        lanes=lanes,
        decided=decided,
        flow=flow,
        plan=fifos,
        host=Host.of(model, lowered, graph),
        parameters=parameters_of(graph, lanes) if chosen.weights == "runtime" else None,
    )


Scheduled: TypeAlias = tuple[FoldingPlan, Dataflow, Plan]
FASTER = (0.8, 0.6, 0.45, 0.3, 0.2, 0.1, 0.05)
"""Shares of a target's cycles to try where its own foldings leave FIFOs no room: faster ones may need shallower FIFOs."""


def _scheduled(graph: Graph, chosen: CompileSettings, given: Mapping[str, Given] | None, said: Progress) -> Scheduled:
    """The lanes of every kernel, to the target or the budget that is asked for or else by rule, and the FIFOs for them.

    How deep FIFOs have to be follows from the folding; where they break the budget, the folding is chosen again and
    leaves them room, or is a faster one.
    """
    dsp = chosen.device.dsp_block if chosen.device else DSP48E1
    free = pinned(graph, chosen.given if given is None else given, chosen.folding_place, dsp)
    request = chosen.request if given is None else None
    if request is None:
        lanes = chosen.multipliers or DEFAULT_MULTIPLIERS
        folding = complete(graph, given or chosen.given, lanes, chosen.folding_place, dsp)
        return _with_fifos(graph, evaluated(graph, lanes_of(graph, folding, free), chosen.latencies), chosen, said)
    layers = {node.name: (node, node.op) for node in graph.nodes if isinstance(node.op, Accumulating)}
    own = [*free]
    free = {n: [*op.variants(graph.inputs_of(v), graph.values[v.output], dsp)] for n, (v, op) in layers.items()} | free

    def fitting(request: Request) -> tuple[Scheduled, Resources | None]:
        """A folding and its FIFOs, and what it takes if that is beyond the budget."""
        said("choosing a folding")
        made = _with_fifos(graph, planned(graph, request, free, chosen.latencies, own), chosen, said)
        spent = total_of(graph, made[0].lanes, made[1])
        return made, spent if beyond(spent, request) else None

    def settled(request: Request) -> Scheduled:
        made, spent = fitting(request)
        while spent is not None:
            request = request.leaving(difference(spent, made[0].total), made[0].ii)
            made, spent = fitting(request)
        return made

    try:
        return settled(request)
    except RequestError:
        faster = _faster(request, fitting, settled) if request.cycles is not None and request.budget else None
        if faster is None:
            raise
        return faster


def _faster(
    asked: Request,
    fitting: Callable[[Request], tuple[Scheduled, Resources | None]],
    settled: Callable[[Request], Scheduled],
) -> Scheduled | None:
    """A faster folding than asked that fits with its FIFOs, the slowest of some that do; None if there is none."""
    assert asked.cycles is not None
    for share in FASTER:
        with suppress(RequestError):
            made, spent = fitting(replace(asked, cycles=max(1, int(share * asked.cycles))))
            if spent is None:
                return made
    with suppress(RequestError):
        made = settled(replace(asked, cycles=None))
        if made[0].ii <= asked.cycles:
            return made
    return None


def _with_fifos(graph: Graph, decided: FoldingPlan, chosen: CompileSettings, said: Progress) -> Scheduled:
    said("sizing FIFOs")
    flow = dataflow(graph, decided.lanes)
    fifos = plan(network_of(graph, decided.lanes, flow, chosen.latencies))
    return decided, with_depths(flow, fifos.depths | fifos.dealt), fifos


def _identifier(name: str) -> str:
    """A C++ identifier close to the name; its ending keeps it apart from keywords, libraries and our own functions."""
    cleaned = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_").lower()[:40]
    return f"{cleaned}_top" if cleaned[:1].isalpha() else f"net_{cleaned}_top"


def _check_foreign(folder: Path) -> None:
    """Refuse to replace a build folder that holds files of somebody else."""
    if not (folder / "build.json").is_file():
        return
    ours = {*read_manifest(folder)["files"], "build.json"}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_dir() and name not in ours and not OF_TOOLS.match(name):
            raise RequestError(f"{folder}: holds {name}, which compile did not write; move it or choose another output")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """What the file system refuses, as an error of ours."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL in the name
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise RequestError(f"{path}: cannot be written ({reason}); choose another output") from None


def check_output(path: Path) -> None:
    """Before the work: a build may be written to this folder."""
    with _writing(path):
        _target(path)


def _target(path: Path) -> Path:
    """The output folder, if it may be written: new, empty, or an earlier build. A link to a folder is followed."""
    path = path.resolve() if path.is_symlink() else path
    if path.exists() and (not path.is_dir() or (any(path.iterdir()) and not (path / "build.json").is_file())):
        raise RequestError(f"{path}: exists and is not a build folder; choose another output")
    if path.is_dir():
        _check_foreign(path)
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise RequestError(f"{above}: is not a folder; choose another output")
    return path


def write(build: Build) -> None:
    """Write the whole folder beside its place and rename it: an interrupted run leaves the old one whole."""
    from broadaxe.reports.folding import folding_file
    from broadaxe.reports.model import report_of

    files = contents(build)
    files["certificate.json"] = certificate(build.graph, files, build.lanes).encode()
    files["folding.yaml"] = folding_file(build.graph, build.decided, build.flow, build.settings.clock_ns).encode()
    files["report.json"] = report_of(build).as_json().encode()
    manifest = {
        "broadaxe": __version__,
        "top": build.top,
        "settings": build.settings.model_dump(),
        "folding": folding_entries(build.folding, build.lanes),
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    files["build.json"] = f"{json.dumps(manifest, indent=1)}\n".encode()
    final = build.path.absolute()
    partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
    try:
        for name, content in files.items():
            place = partial / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        _replace(partial, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def contents(build: Build) -> dict[str, bytes]:
    """The model and every file of firmware/, tb/, vendor/ and deploy/, by path: a function of model and settings alone."""
    from broadaxe.deploy.files import deployment

    size = sum(build.graph.values[name].size for name in (*build.graph.inputs, *build.graph.outputs))
    inputs = random_codes(build.graph, max(2, min(TEST_FRAMES, TEST_ELEMENTS // size)))
    files = firmware(
        build.graph,
        build.flow,
        build.lanes,
        build.top,
        {"sideband": int(build.settings.tool == "vivado"), "control": build.settings.control},
    )
    outputs, loading = run(build.graph, inputs), ""
    if build.parameters is not None:
        other, at = turned_over(build.graph), len(next(iter(inputs.values()))) // 2
        after = run(other, inputs)
        outputs = {name: np.concatenate([x[:at], after[name][at:]]) for name, x in outputs.items()}
        loading = loading_vectors(at, parameters_of(other, build.lanes))
    files |= testbench(build.graph, build.flow, build.lanes, build.top, inputs, outputs)
    files["tb/vectors.dat"] += loading
    kernels = {f"firmware/broadaxe/{p.name}": p.read_text() for p in sorted(resources.folder("hw").glob("*.hpp"))}
    if build.parameters is None:
        del kernels["firmware/broadaxe/parameters.hpp"]
    files |= kernels
    sim = resources.folder("hw") / "sim"
    files |= {f"tb/sim/{p.relative_to(sim).as_posix()}": p.read_text() for p in sorted(sim.rglob("*.h"))}
    files |= project(build.top, build.settings.tool, build.settings.part, build.settings.clock_ns)
    made = {"model.onnx": build.model.SerializeToString()} | {name: text.encode() for name, text in files.items()}
    made |= deployment(build)
    return made if build.parameters is None else made | {"parameters.bin": packed(build.parameters)}


def _replace(partial: Path, final: Path) -> None:
    old = final.with_name(f".{final.name}.{os.getpid()}.old")
    with uninterrupted():
        if final.exists():
            final.rename(old)
        try:
            partial.rename(final)
        except OSError:
            if old.exists():
                old.rename(final)
            raise
        shutil.rmtree(old, ignore_errors=True)


def certificate_text(build: Build) -> str:
    """certificate.json as the build's model and settings give it; see `broadaxe.prove.certificate`."""
    return certificate(build.graph, contents(build), build.lanes)


def opened(build: object, progress: Progress | None = None) -> Build:
    """A build, or the one in a folder that is named."""
    if isinstance(build, str | os.PathLike):
        return load(build, progress=progress)
    if not isinstance(build, Build):
        raise RequestError(f"build: is a {type(build).__name__}; give what compile returned, or its folder")
    return build


def random_codes(graph: Graph, count: int, seed: int = 0) -> dict[str, IntArray]:
    """Inputs that exercise a design: both extremes of every channel, then seeded integers inside the bounds."""
    rng = np.random.default_rng(seed)
    inputs = {}
    for name in graph.inputs:
        value = graph.values[name]
        lo, hi = value.ends()
        x = rng.integers(lo, hi + 1, size=(max(count, 2), *value.shape))
        x[0], x[1] = lo, hi
        inputs[name] = x[:count]
    return inputs
