"""Show that a build computes its model: reference == integer ONNX == C simulation, on every value, bit for bit.

Three executions that share no arithmetic: our numpy reference, onnxruntime on the graph rendered in standard ONNX, and the
generated C++ compiled by g++. Beside the user's data they run on both extremes of every input and on random integers, and
each layer alone runs on the witnesses that take its accumulator to both proven ends.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from broadaxe.build import Array, Build, Progress, contents, named, opened, random_codes
from broadaxe.csim import Mode, Simulator, compile_sources, run_program
from broadaxe.errors import VerificationError
from broadaxe.ir import Graph, IntArray, Node
from broadaxe.manifest import check_files
from broadaxe.ops.mac import Accumulating
from broadaxe.prove.certificate import certificate
from broadaxe.reference import frames_at_once, run
from broadaxe.render import OnnxRun
from broadaxe.resources import ap_types
from broadaxe.segments import SegmentReport, compare_segments

Codes: TypeAlias = dict[str, IntArray]
SYNTHETIC_FRAMES = 16
EXACT_FRAMES = 4
SIMULATED_MACS = 4_000_000_000
UNHEARD_MACS = 200_000_000
"""Of one call of the C simulation, which hears no Ctrl-C: about a second."""
BLOCK = 64


@dataclass(frozen=True)
class Mismatch:
    """Two executions that differ; `where` names node, input and index, and both values."""

    where: str

    def __str__(self) -> str:
        return self.where


@dataclass(frozen=True)
class Verification:
    """What was compared and what came out.

    Attributes:
        files: files whose hash was checked.
        inputs: inputs that went through reference, integer ONNX and native C simulation.
        nodes: values compared for each of them.
        exact_inputs: inputs that went through the C simulation with vendor ap_int headers, too; 0 without them.
        witnesses: layers driven alone to both ends of their accumulators, per build mode.
        comparisons: exact comparisons that proved the requantizers.
        segments: the comparison of the data with float32 onnxruntime, None without data.
        mismatches: empty where everything is equal.
        notes: checks that could not be made, and why.
    """

    files: int
    inputs: int
    nodes: int
    exact_inputs: int
    witnesses: int
    comparisons: int
    segments: SegmentReport | None
    mismatches: tuple[Mismatch, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether everything agreed."""
        return not self.mismatches

    def __repr__(self) -> str:
        return (
            f"Verification(ok={self.ok}, {self.inputs} inputs, {self.nodes} nodes, {len(self.mismatches)} mismatches)"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"ok": self.ok, **asdict(self), "mismatches": [str(m) for m in self.mismatches]}

    def __str__(self) -> str:
        lines = [*map(str, self.mismatches[:10]), *self.notes]
        lines.append(
            f"requantizers: {self.comparisons:,} exact comparisons; witnesses: {self.witnesses} layers alone at both ends"
        )
        if self.exact_inputs:
            equal = ", every value equal" if self.ok else ""
            lines.append(f"C simulation with ap_int headers: {self.exact_inputs} inputs{equal}")
        if self.segments is not None:
            seen = self.segments
            lines.append(
                f"float32 onnxruntime: {seen.flips:,} of {seen.activations:,} activations round otherwise,"
                f" {seen.flips - len(seen.unexplained):,} explained; end to end {seen.differing:,} of {seen.inputs:,}"
                " inputs differ"
            )
            if seen.outputs:
                lines.append(
                    f"float32 onnxruntime: {seen.outputs:,} outputs in reals, {seen.outputs - len(seen.beyond):,} within their"
                    f" error bounds; the largest difference is {seen.largest:.2g} of its bound"
                )
        state = "verified" if self.ok else "NOT verified"
        lines.append(f"{state}: {self.inputs:,} inputs, {self.nodes} nodes, {len(self.mismatches)} mismatches")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from broadaxe.notebook import html

        return html(self)


@dataclass
class Findings:
    """A verification in the making."""

    files: int = 0
    inputs: int = 0
    nodes: int = 0
    exact_inputs: int = 0
    witnesses: int = 0
    comparisons: int = 0
    segments: SegmentReport | None = None
    mismatches: list[Mismatch] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def settled(self) -> Verification:
        return Verification(**{**vars(self), "mismatches": tuple(self.mismatches), "notes": tuple(self.notes)})


def verify(
    build: Build | str | os.PathLike[str],
    data: Array | Mapping[str, Array] | None = None,
    *,
    progress: Progress | None = None,
) -> Verification:
    """Verify a build folder.

    Args:
        build: what `compile` or `load` returned, or its folder.
        data: real inputs of the model, one array or a mapping, batch first; without it, synthetic integers only.
        progress: called with what is being done.

    Example:
        >>> verification = broadaxe.verify("build", x_test[:50])
        >>> verification.ok
        True

    Returns:
        The verification; `ok` tells whether everything agreed. A mismatch names node, index and values.

    Raises:
        RequestError: no build folder, or data that do not fit the model.
        MissingToolError: there is no g++.
    """
    said = progress or (lambda _: None)
    build = opened(build, said)
    result = Findings()
    said("checking files and certificate")
    _check_folder(build.resident or build, result)
    inputs = random_codes(build.graph, SYNTHETIC_FRAMES, seed=1)
    if data is not None:
        given = named(data, list(dict.fromkeys(i.tensor for i in build.lowered.inputs)))
        codes = build.codes(given)
        segments = compare_segments(build, given, codes, said)
        result.segments = segments
        result.notes.extend(segments.uncompared)
        lines = (*segments.unexplained, *segments.beyond)
        result.mismatches.extend(Mismatch(f"float32 onnxruntime: {line}") for line in lines)
        inputs = {name: np.concatenate([x, codes[name]]) for name, x in inputs.items()}
    said("compiling the C simulation")
    simulators = _simulators(build, result)
    total = len(next(iter(inputs.values())))
    macs = sum(_macs(build.graph, node) for node in build.graph.nodes)
    limit = min(total, max(SYNTHETIC_FRAMES, SIMULATED_MACS // max(macs, 1)))
    if limit < total:
        result.notes.append(f"C simulation: {limit} of {total} inputs (a limit of {SIMULATED_MACS:,} MACs)")
    onnx_run = OnnxRun(build.graph)
    count = frames_at_once(build.graph, min(BLOCK, max(1, UNHEARD_MACS // max(macs, 1))))
    for at in range(0, total, count):
        block = {name: x[at : at + count] for name, x in inputs.items()}
        stage = f"running {min(at + count, total)} of {total} inputs"
        _compare_block(build, block, at, limit, onnx_run, simulators, result, lambda what: said(f"{stage}, {what}"))  # noqa: B023
        if result.mismatches:
            break
    for simulator in simulators:
        said(f"driving every layer to both ends of its accumulator, {simulator.mode.value} C simulation")
        _harness(build, simulator.mode, result)
    return result.settled()


def _check_folder(build: Build, result: Findings) -> None:
    """The certificate holds by itself; hashes of all files; it is the one that the folder's own model gives.

    What the stand-alone checker finds is a line of its own unless it only repeats that a file has changed.
    """
    failure = None
    from broadaxe.prove import checker  # late, so that `python -m broadaxe.prove.checker` runs it unimported

    try:
        checker.check(build.path)
    except checker.CertificateError as error:
        failure = Mismatch(f"{build.path}: {error}")
    files = contents(build)
    expected = certificate(build.graph, files, build.lanes).encode()
    try:
        result.files = check_files(build.path, {*files, "certificate.json", "folding.yaml", "report.json"})
    except VerificationError as error:
        result.mismatches.append(Mismatch(str(error)))
    else:
        result.mismatches.extend([failure] if failure else [])
    place = build.path / "certificate.json"
    if not place.is_file() or place.read_bytes() != expected:
        result.mismatches.append(Mismatch(f"{place}: is not what model.onnx gives; compile again"))
    result.comparisons = sum(getattr(node.op, "comparisons", 0) for node in build.graph.nodes)


def _simulators(build: Build, result: Findings) -> list[Simulator]:
    modes = [Mode.NATIVE]
    if ap_types() is not None:
        modes.append(Mode.EXACT)
    else:
        result.notes.append("no exact C simulation: ap_int headers are missing; pip install hls4ml==1.3.0 brings them")
    design = (build.path, build.top, build.graph, build.flow)
    return [Simulator.of(*design, mode, traced=True, parameters=build.parameters) for mode in modes]


def _compare_block(
    build: Build,
    block: Codes,
    at: int,
    limit: int,
    onnx_run: OnnxRun,
    simulators: list[Simulator],
    result: Findings,
    said: Progress,
) -> None:
    expected = run(build.graph, block, every_value=True, progress=lambda node: said(f"{node} in numpy"))
    said("onnxruntime")
    _compare(build.graph, expected, onnx_run(block), "integer ONNX", at, result)
    for simulator in simulators:
        last = limit if simulator.mode is Mode.NATIVE else EXACT_FRAMES
        part = {name: x[: max(0, last - at)] for name, x in block.items()}
        count = len(next(iter(part.values())))
        if count == 0:
            continue
        said(f"{simulator.mode.value} C simulation")
        try:
            traced = simulator.trace(part)
        except VerificationError as error:
            result.mismatches.append(Mismatch(str(error)))
            continue
        traced = {name: values for name, values in traced.items() if name in expected}
        source = f"C simulation ({simulator.mode.value})"
        _compare(build.graph, {n: expected[n][:count] for n in traced}, traced, source, at, result)
        if simulator.mode is Mode.NATIVE:
            result.inputs += count
        else:
            result.exact_inputs += count
    result.nodes = len(expected)


def _compare(graph: Graph, expected: Codes, got: Codes, source: str, at: int, result: Findings) -> None:
    """Record the first difference of each value, in the order of the graph."""
    for node in graph.nodes:
        if node.output not in got:
            continue
        left, right = expected[node.output], got[node.output]
        if np.array_equal(left, right):
            continue
        index = tuple(int(i) for i in np.argwhere(left != right)[0])
        result.mismatches.append(
            Mismatch(
                f"{node.name}, {node.origin}: input {at + index[0]}, index {index[1:]}: reference {left[index]},"
                f" {source} {right[index]}"
            )
        )
        return


def _harness(build: Build, mode: Mode, result: Findings) -> None:
    """Testbench with back-to-back frames, and every layer alone on its witnesses."""
    layers = sum(isinstance(node.op, Accumulating) for node in build.graph.nodes)
    programs = {
        "testbench": (["tb/testbench.cpp", f"firmware/{build.top}.cpp"], [str(build.path / "tb" / "vectors.dat")]),
        "witness": (["tb/witness.cpp"], [str(build.path / "tb" / "witness.dat")]),
    }
    for name, (sources, arguments) in programs.items():
        program = compile_sources(build.path, mode, sources, name)
        status, output = run_program(program, *arguments)
        if status:
            lines = [line for line in output.splitlines() if "got" in line or "stream" in line] or [
                f"exit status {status}"
            ]
            result.mismatches.append(Mismatch(f"{name} ({mode.value}): {lines[0]}"))
        elif name == "witness":
            result.witnesses = layers


def _macs(graph: Graph, node: Node) -> int:
    if not isinstance(node.op, Accumulating):
        return 0
    return graph.values[node.output].size * node.op.depth


def simulate(
    build: Build | str | os.PathLike[str],
    data: Array | Mapping[str, Array],
    *,
    exact: bool = False,
    progress: Progress | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """Run the generated C++ on real inputs.

    Args:
        build: what `compile` or `load` returned, or its folder.
        data: real inputs of the model, one array or a mapping, batch first.
        exact: compile against the vendor's ap_int headers instead of native integers: slower, the same result.
        progress: called with what is being done.

    Example:
        >>> (logits,) = broadaxe.simulate("build", x_test[:50]).values()
        >>> logits.shape
        (50, 10)

    Returns:
        The model's outputs by name, float32, batch first.

    Raises:
        VerificationError: names a file of the folder that has changed since it was written.
        RequestError: data do not fit the model.
        MissingToolError: there is no g++, or with `exact` no ap_int headers.
    """
    build = opened(build)
    check_files(build.path)
    said, mode = progress or (lambda _: None), Mode.EXACT if exact else Mode.NATIVE
    said("compiling the C simulation")
    simulator = Simulator.of(build.path, build.top, build.graph, build.flow, mode, parameters=build.parameters)
    codes = build.codes(data)
    total = len(next(iter(codes.values())))
    macs = sum(_macs(build.graph, node) for node in build.graph.nodes)
    count, parts = max(1, UNHEARD_MACS // max(macs, 1)), []
    for at in range(0, max(total, 1), count):
        said(f"simulating {min(at + count, total)} of {total} inputs")
        parts.append(simulator.run({name: x[at : at + count] for name, x in codes.items()}))
    return build.host.reals({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
