"""Networks of real size: seconds to compile, to build and to run, and whether every execution agrees.

    python benchmarks/networks.py [NAME ...] [--no-exact] [--images 100] [--simulated 3]

NAME is one of resnet8, resnet20, mobilenet_v1, cnv_w2a2 (of examples/networks.py, exported once into build/networks), or
`depth`: how compile time grows over stacks of 5, 10 and 20 convolutions. Default: all of them.

Every network runs in a process of its own. Seconds are wall / CPU: they differ where g++ or BLAS runs on several cores, and
where the machine is busy with something else. Compile: from the file to the proven graph and the written C++. Builds: g++
on the traced simulation library; memory is the peak of the exact build. A mismatch ends the benchmark with exit code 1.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from os import cpu_count
from pathlib import Path

import numpy as np

import broadaxe
from broadaxe import reference
from broadaxe.build import random_codes
from broadaxe.csim import Mode, Simulator
from broadaxe.ops.mac import Mac
from broadaxe.prove import checker
from broadaxe.render import OnnxRun

ROOT = Path(__file__).parent.parent
MODELS = ("resnet8", "resnet20", "mobilenet_v1", "cnv_w2a2")
STACKS = ("stack5", "stack10", "stack20")
WITH_QONNX = ("mobilenet_v1",)
BLOCK = 10
"""Inputs compared at once: every value of a network of this size takes some megabytes an input."""


@dataclass
class Seconds:
    wall: float = 0.0
    cpu: float = 0.0

    def __str__(self) -> str:
        return f"{self.wall:.1f} / {self.cpu:.1f}"


@dataclass
class Result:
    """One network's figures; `mismatches` is empty where every execution agrees."""

    name: str
    layers: int = 0
    macs: int = 0
    weights: int = 0
    compile: Seconds = field(default_factory=Seconds)
    check: Seconds | None = None
    native: Seconds | None = None
    exact: Seconds | None = None
    exact_megabytes: float = 0.0
    reference: float = 0.0
    qonnx: tuple[float, float, float] | None = None
    values: int = 0
    images: int = 0
    mismatches: list[str] = field(default_factory=list)


def timed(call: Callable[[], object]) -> tuple[object, Seconds]:
    """What a call returns, and its seconds; CPU includes that of finished child processes."""

    def cpu() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime

    wall, used = time.perf_counter(), cpu()
    result = call()
    return result, Seconds(time.perf_counter() - wall, cpu() - used)


def best(call: Callable[[], object], repeats: int) -> Seconds:
    """The least seconds of some calls after a warm-up: the machine's noise only ever adds."""
    call()
    runs = [timed(call)[1] for _ in range(repeats)]
    return Seconds(min(run.wall for run in runs), min(run.cpu for run in runs))


def beside_qonnx(path: Path, build: broadaxe.Build, codes: dict[str, np.ndarray]) -> tuple[float, float, float]:
    """CPU seconds an image on one thread: qonnx's executor, the reference with one image, and with all of them."""
    import onnx
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from threadpoolctl import threadpool_limits

    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:  # qonnx executes static shapes only
                dim.dim_value = 1
    shape = build.lowered.inputs[0].index.shape
    feeds = {model.graph.input[0].name: np.random.default_rng(0).random(shape, dtype=np.float32)}
    wrapper = ModelWrapper(model)
    one = {value: x[-1:] for value, x in codes.items()}
    count = len(next(iter(codes.values())))
    with threadpool_limits(1):
        theirs = best(lambda: execute_onnx(wrapper, feeds), 2).cpu
        alone = best(lambda: reference.run(build.graph, one), 5).cpu
        return theirs, alone, best(lambda: reference.run(build.graph, codes), 3).cpu / count


def measure(name: str, images: int, simulated: int, exact: bool) -> Result:
    """Compile, build and compare one network; runs in a process of its own, so that peak memory is its own."""
    path = ROOT / "build" / "networks" / f"{name}.onnx"
    result = Result(name)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / name
        build, result.compile = timed(lambda: broadaxe.compile(path, target))
        graph = build.graph
        layers = [node for node in graph.nodes if isinstance(node.op, Mac) and "Pool" not in node.origin]
        result.layers = len(layers)
        result.macs = sum(graph.values[node.output].size * node.op.depth for node in layers)
        result.weights = sum(node.op.weights.size for node in layers)
        if name in STACKS:
            return result

        _, result.check = timed(lambda: checker.check(target))
        codes = random_codes(graph, images)
        result.reference = images / best(lambda: reference.run(graph, codes), 3).wall
        onnx_run = OnnxRun(graph)
        for at in range(0, images, BLOCK):
            part = {value: x[at : at + BLOCK] for value, x in codes.items()}
            expected = reference.run(graph, part, every_value=True)
            compare("integer ONNX", expected, onnx_run(part), result)
        result.images, result.values = images, len(expected)

        def simulator(mode: Mode) -> Simulator:
            return Simulator.of(build.path, build.top, graph, build.flow, mode, traced=True)

        few = {value: x[-simulated:] for value, x in codes.items()}
        expected = reference.run(graph, few, every_value=True)
        native, result.native = timed(lambda: simulator(Mode.NATIVE))
        compare("C simulation (native)", expected, native.trace(few), result)
        if exact:
            precise, result.exact = timed(lambda: simulator(Mode.EXACT))
            result.exact_megabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            one = {value: x[-1:] for value, x in codes.items()}
            expected = {value: x[-1:] for value, x in expected.items()}
            compare("C simulation (exact)", expected, precise.trace(one), result)
    if name in WITH_QONNX:
        result.qonnx = beside_qonnx(path, build, codes)
    return result


def compare(source: str, expected: dict[str, np.ndarray], got: dict[str, np.ndarray], result: Result) -> None:
    result.mismatches += [
        f"{result.name}: {source} differs at {value}"
        for value, x in got.items()
        if value in expected and not np.array_equal(x, expected[value])
    ]


def in_own_process(call: Callable[..., Result], *arguments: object) -> Result:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def export(names: list[str]) -> None:
    """Write the QONNX files that are not there yet, in a process of its own: torch takes memory."""
    sys.path.insert(0, str(ROOT / "examples"))
    import networks

    for name in names:
        networks.model(name, ROOT / "build" / "networks")


def table(results: list[Result]) -> str:
    head = (
        "network",
        "layers",
        "MMAC",
        "weights",
        "compile s",
        "check s",
        "native s",
        "exact s",
        "exact MB",
        "images/s",
    )
    rows = [head]
    for r in results:
        size = (str(r.layers), f"{r.macs / 1e6:.1f}", f"{r.weights:,}")
        exact = (str(r.exact), f"{r.exact_megabytes:.0f}") if r.exact else ("-", "-")
        rows.append((r.name, *size, str(r.compile), str(r.check), str(r.native), *exact, f"{r.reference:.1f}"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MODELS)}, depth; default: all")
    parser.add_argument("--images", type=int, default=100, help="inputs for reference and integer ONNX")
    parser.add_argument("--simulated", type=int, default=3, help="inputs for the native C simulation")
    parser.add_argument("--no-exact", action="store_true", help="leave the build with ap_int headers out")
    options = parser.parse_args()
    names = options.names or [*MODELS, "depth"]
    for name in names:
        if name not in (*MODELS, "depth"):
            parser.error(f"network {name!r} is unknown; there are {', '.join(MODELS)} and depth")
    models = [name for name in names if name in MODELS]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(export, models + (list(STACKS) if "depth" in names else [])).result()

    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "onnxruntime", "qonnx"))
    print(f"{cpu_count()} cores, Python {platform.python_version()}, {packages}; seconds are wall / CPU")
    results = []
    for name in models:
        print(f"... {name}", file=sys.stderr)
        results.append(in_own_process(measure, name, options.images, options.simulated, not options.no_exact))
    if results:
        print(table(results))
    for r in results:
        if r.qonnx is not None:
            theirs, alone, many = r.qonnx
            print(
                f"{r.name}, CPU seconds an image on one thread: qonnx execute_onnx {theirs:.2f}, reference {alone:.4f}"
                f" ({theirs / alone:.0f} times faster), in a batch of {options.images} {many:.4f} ({theirs / many:.0f})"
            )
    if results and not any(r.mismatches for r in results):
        print(
            f"equal: reference and integer ONNX on {options.images} inputs, every value; native C simulation on"
            f" {options.simulated}" + ("" if options.no_exact else ", exact on 1")
        )
    if "depth" in names:
        stacks = [in_own_process(measure, name, 0, 0, False) for name in STACKS]
        print("compile seconds by depth (wall / CPU):")
        for r in stacks:
            print(f"  {r.layers:>3} layers  {r.compile}  {1e3 * r.compile.cpu / r.layers:.0f} ms CPU a layer")
    for problem in (line for r in results for line in r.mismatches):
        print(f"MISMATCH {problem}")
    sys.exit(any(r.mismatches for r in results))


if __name__ == "__main__":
    main()
