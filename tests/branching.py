"""Random branching networks: small integer graphs made of operators directly, with random foldings and lanes.

A draft grows from its inputs by blocks: plain ones, residuals in residuals, branches that meet in a concatenation, U shapes,
gates that need a whole frame before they let anything pass, dot products of two paths, skips to wherever a tensor of the same
shape stands. Values that nothing reads are outputs, and so are some that something reads.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np

from broadaxe import emit, resources
from broadaxe.bounded import BoundedSimulator, instrumented
from broadaxe.chain import Affine, Quantizer
from broadaxe.csim import compiler
from broadaxe.ir import Fold, Graph, Lanes, Node, Op, Value, constant_array, divisors, infer
from broadaxe.ops.arg_max import ArgMax
from broadaxe.ops.concat import Concat
from broadaxe.ops.dot import Dot
from broadaxe.ops.forms import Shift
from broadaxe.ops.grouped import GroupedMatVec
from broadaxe.ops.lookup import Lookup
from broadaxe.ops.mac import Accumulating
from broadaxe.ops.matvec import MatVec
from broadaxe.ops.product import Product
from broadaxe.ops.rearrange import Rearrange
from broadaxe.ops.requantize import Requantize
from broadaxe.ops.scaled_add import ScaledAdd
from broadaxe.ops.select import Select
from broadaxe.ops.view import View
from broadaxe.ops.window import SlidingWindow
from broadaxe.ops.window_max import WindowMax
from broadaxe.reference import run
from broadaxe.schedule.dataflow import Dataflow, dataflow, with_depths
from broadaxe.schedule.fifos import Plan, plan
from broadaxe.schedule.folding import lanes_of
from broadaxe.schedule.network import network_of
from broadaxe.types import Interval

STANDARD = (
    "algorithm",
    "cstdio",
    "cstdlib",
    "cstring",
    "deque",
    "exception",
    "fstream",
    "map",
    "memory",
    "sstream",
    "stdexcept",
    "type_traits",
    "vector",
)
CODES = Interval(-8, 7)
MOST_ELEMENTS = 300
"""Of any image; windows of it are larger."""
ENOUGH_NODES = 14
"""No blocks within blocks are begun behind them: g++ takes 30 ms for each call of the dataflow body."""


@dataclass
class Draft:
    """A graph under construction."""

    rng: np.random.Generator
    nodes: list[Node] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)

    def input(self, shape: tuple[int, ...]) -> Value:
        value = Value(f"x{len(self.inputs)}", shape, CODES.dtype, (CODES,) * shape[-1])
        self.inputs.append(value.name)
        self.values[value.name] = value
        return value

    def add(self, op: Op, *inputs: Value) -> Value:
        value = infer(f"n{len(self.nodes)}", op, inputs)
        self.nodes.append(Node(value.name, op, tuple(x.name for x in inputs), value.name))
        self.values[value.name] = value
        return value

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def codes(self, x: Value) -> Value:
        """x in 4 bits."""
        shift = max(x.hull.dtype.width - 4, 0)
        form = Shift(constant_array(np.zeros(x.channels)), shift, False, CODES.lo, CODES.hi, x.hull)
        chain = (Affine((Fraction(1, 1 << shift),), (Fraction(0),)),)
        return self.add(
            Requantize(chain, Quantizer((Fraction(1),), (Fraction(0),), CODES.lo, CODES.hi, "FLOOR"), form), x
        )

    def narrow(self, x: Value) -> Value:
        """x, in 4 bits if it is wide, or sometimes anyway."""
        return self.codes(x) if x.dtype.width > 8 or self.chance(0.5) else x

    def weights(self, rows: int, columns: int) -> np.ndarray:
        return self.rng.integers(-3, 4, size=(rows, columns))

    # Blocks, from an image to an image. The first group keeps its shape.

    def convolution(self, x: Value, channels: int | None = None) -> Value:
        kernel = (int(self.pick(1, 1, 3, 3, 2)), int(self.pick(1, 3, 3)))
        dilation = 2 if kernel == (3, 3) and self.chance(0.2) else 1
        extent = [(k - 1) * dilation for k in kernel]
        pads = (extent[0] // 2, extent[1] // 2, extent[0] - extent[0] // 2, extent[1] - extent[1] // 2)
        if kernel != (1, 1) or self.chance(0.2):
            x = self.add(SlidingWindow(kernel, (1, 1), pads, (dilation,) * 2), x)
        return self.codes(
            self.add(MatVec.of(self.weights(channels or x.channels // (kernel[0] * kernel[1]), x.channels)), x)
        )

    def grouped(self, x: Value) -> Value:
        if x.channels == 1:  # a convolution of one group is a matvec
            return self.convolution(x)
        groups = int(self.pick(x.channels, *divisors(x.channels)[1:]))
        taps = self.add(SlidingWindow((3, 3), (1, 1), (1, 1, 1, 1)), x)
        weights = self.weights(x.channels, taps.channels // groups)
        return self.codes(self.add(GroupedMatVec.of(weights, groups, 9), taps))

    def pool(self, x: Value) -> Value:
        return self.add(WindowMax(9), self.add(SlidingWindow((3, 3), (1, 1), (1, 1, 1, 1), pad_codes=(CODES.lo,)), x))

    def shuffle(self, x: Value) -> Value:
        """Channels, rows or pixels in another order."""
        index = np.arange(x.size).reshape(x.shape)
        match self.rng.integers(3):
            case 0:
                index = index[..., self.rng.permutation(x.channels)]
            case 1:
                index = index[::-1]
            case _:
                index = index.transpose(1, 0, 2).reshape(x.shape)
        return self.add(Rearrange.of(index), x)

    def residual(self, x: Value, depth: int) -> Value:
        body = self.keeping(x, depth - 1)
        if self.chance(0.3):
            body = self.keeping(body, depth - 1)
        return self.join(x, body) if self.chance(0.5) else self.join(body, x)

    def gate(self, x: Value) -> Value:
        """Every channel times a number that its whole frame decides: squeeze and excitation."""
        height, width, channels = x.shape
        whole = self.add(SlidingWindow((height, width)), x)
        ones = np.ones((channels, height * width))
        pooled = GroupedMatVec.of(ones, channels, height * width) if channels > 1 else MatVec.of(ones)
        means = self.codes(self.add(pooled, whole))
        mixed = self.codes(self.add(MatVec.of(self.weights(channels, channels)), means))
        everywhere = np.broadcast_to(np.arange(channels), x.shape)
        return self.codes(self.add(Product(), x, self.add(Rearrange.of(everywhere), mixed)))

    def attention(self, x: Value) -> Value:
        """Products of every pixel with every pixel, summed over one path's channels, then mixed back to x's."""
        height, width, channels = x.shape
        pixels = height * width
        sides = [self.add(View((1, pixels, channels)), self.convolution(x, channels)) for _ in range(2)]
        scores = self.codes(self.add(Dot.of(pixels, channels), *sides))
        mixed = self.codes(self.add(MatVec.of(self.weights(channels, pixels)), scores))
        return self.add(View(x.shape), mixed)

    def u_shape(self, x: Value, depth: int) -> Value:
        """Half the size and back; x skips to the end."""
        small = self.add(WindowMax(4), self.add(SlidingWindow((2, 2), (2, 2)), x))
        small = self.keeping(small, depth - 1)
        index = np.arange(small.size).reshape(small.shape).repeat(2, axis=0).repeat(2, axis=1)
        large = self.add(Rearrange.of(index), small)
        return self.convolution(self.add(Concat(), x, large), x.channels)

    def branches(self, x: Value, depth: int) -> Value:
        """Two to four paths, whose channels are put together and mixed back to x's."""
        paths = [self.keeping(x, depth - 1) if self.chance(0.8) else x for _ in range(int(self.rng.integers(2, 5)))]
        if self.chance(0.3) and x.channels % 2 == 0:
            half = np.arange(x.size).reshape(x.shape)[..., : x.channels // 2]
            paths[0] = self.add(Rearrange.of(half), x)
        joined = paths[0]
        for path in paths[1:]:
            joined = self.add(Concat(), joined, path)
        return self.codes(self.add(MatVec.of(self.weights(x.channels, joined.channels)), joined))

    def join(self, a: Value, b: Value) -> Value:
        op = self.pick(ScaledAdd(), ScaledAdd((2, -3)), Select(), Select(False), Product())
        return self.narrow(self.add(op, a, b))

    def keeping(self, x: Value, depth: int) -> Value:
        """A block that keeps the shape of its input; with depth there are blocks in it."""
        blocks: list[Callable[[Value], Value]] = [self.convolution, self.grouped, self.pool, self.shuffle]
        height, width, channels = x.shape
        if x.dtype.width > 8:
            x = self.codes(x)
        if depth > 0 and len(self.nodes) < ENOUGH_NODES:
            blocks = [*blocks[:2], *(lambda v: self.residual(v, depth),) * 3, *(lambda v: self.branches(v, depth),) * 2]
            blocks += [self.gate] if height * width * channels <= 100 else []
            blocks += [self.attention] if height * width <= 16 else []
            blocks += [lambda v: self.u_shape(v, depth)] if height % 2 == width % 2 == 0 else []
        return blocks[int(self.rng.integers(len(blocks)))](x)

    def shrinking(self, x: Value) -> Value:
        """A strided convolution to another number of channels."""
        stride = (int(self.pick(1, 2, 2, 3)), int(self.pick(1, 2)))
        taps = self.add(SlidingWindow((3, 3), stride, (1, 1, 1, 1)), x)
        return self.codes(self.add(MatVec.of(self.weights(int(self.pick(2, 3, 4, 6)), taps.channels)), taps))

    def head(self, x: Value) -> Value:
        match self.rng.integers(3):
            case 0:
                flat = self.add(View((x.size,)), x)
                return self.add(MatVec.of(self.weights(int(self.pick(2, 5)), x.size)), flat)
            case 1:
                best = self.add(ArgMax(), x)
                return self.add(Lookup(constant_array(self.weights(x.channels, 3))), best)
            case _:
                return self.add(ArgMax(), x)


@dataclass(frozen=True, eq=False)
class Drawn:
    """A graph, its lanes, its dataflow with the depths that are planned for it, and the plan."""

    graph: Graph
    lanes: Mapping[str, Lanes]
    flow: Dataflow
    plan: Plan


def drawn(seed: int) -> Drawn:
    """A small valid network, the same for the same seed."""
    rng = np.random.default_rng([seed, 1])
    draft = Draft(rng)
    shape = (int(rng.integers(1, 8)), int(rng.integers(1, 8)), int(draft.pick(1, 2, 3, 4, 6, 8)))
    if shape[0] * shape[1] * shape[2] > MOST_ELEMENTS:
        shape = (4, 4, shape[2])
    paths = [draft.input(shape) for _ in range(int(rng.choice([1, 1, 1, 2, 3])))]
    for _ in range(int(rng.integers(1, 3))):
        position = int(rng.integers(len(paths)))
        x = draft.keeping(paths[position], int(rng.integers(1, 4)))
        earlier = [v for v in draft.values.values() if v.shape == x.shape and v.name != x.name and v.dtype.width <= 8]
        if earlier and draft.chance(0.4):  # a skip from anywhere
            x = draft.join(earlier[int(rng.integers(len(earlier)))], x)
        paths[position] = draft.codes(x) if x.dtype.width > 8 else x
        if len(paths) > 1 and draft.chance(0.6):
            other = paths.pop()
            if paths[0].shape == other.shape:
                paths[0] = draft.join(paths[0], other) if draft.chance(0.5) else draft.add(Concat(), paths[0], other)
                paths[0] = draft.codes(paths[0])
            else:
                paths.insert(1, other)
        if draft.chance(0.3):
            paths[0] = draft.shrinking(paths[0])
    if draft.chance(0.5):
        draft.head(paths[0])
    return _finished(draft, seed)


def _finished(draft: Draft, seed: int) -> Drawn:
    read = {name for node in draft.nodes for name in node.inputs}
    produced = [node for node in draft.nodes if node.op.hardware]
    loose = [name for name in draft.values if name not in read and name not in draft.inputs]
    some = [node.output for node in produced if node.output in read and draft.chance(0.04)]
    for name in draft.inputs:
        if name not in read:  # an input that nothing reads would be no network
            loose.append(draft.codes(draft.values[name]).name)
    graph = Graph(f"branching{seed}", tuple(draft.inputs), tuple(draft.nodes), (*loose, *some), draft.values)
    graph.check()
    return planned(graph, _lanes(draft, graph))


def planned(graph: Graph, lanes: Mapping[str, Lanes]) -> Drawn:
    """A graph with given lanes and the depths that the schedule gives its streams."""
    flow = dataflow(graph, lanes)
    depths = plan(network_of(graph, lanes, flow))
    return Drawn(graph, lanes, with_depths(flow, depths.depths), depths)


def _lanes(draft: Draft, graph: Graph) -> dict[str, Lanes]:
    """Random foldings of at most 16 multipliers; any lanes for what has no folding, or those that its reader takes."""
    folding: dict[str, Fold] = {}
    for node in graph.nodes:
        if isinstance(node.op, Accumulating):
            possible = [fold for fold in node.op.foldings() if fold.pe * fold.simd <= 16]
            folding[node.name] = possible[int(draft.rng.integers(len(possible)))]
    lanes = lanes_of(graph, folding)
    for node in graph.nodes:
        if node.name in lanes and node.name not in folding and draft.chance(0.5):
            inputs, out = graph.inputs_of(node), graph.values[node.output]
            channels = gcd(node.op.granularity, out.channels, *(x.channels for x in inputs))
            count = int(draft.rng.choice(divisors(channels)))
            lanes[node.name] = Lanes(count, count)
    return lanes


def sources(made: Drawn, top: str, frames: int = 2, seed: int = 0) -> dict[str, str]:
    """firmware/ and tb/ of a network by path, without the headers that all networks share."""
    rng = np.random.default_rng([seed, 2])
    feeds = {name: _inside(rng, made.graph.values[name], frames) for name in made.graph.inputs}
    files = emit.firmware(made.graph, made.flow, made.lanes, top, {"sideband": 0, "control": "s_axilite"})
    return files | emit.testbench(made.graph, made.flow, made.lanes, top, feeds, run(made.graph, feeds))


def simulators(made: Sequence[Drawn], folder: Path) -> list[BoundedSimulator]:
    """Bounded simulators of networks, from one program in `folder`: g++ reads the headers once.

    Each network stands in a namespace of its own; the program's first argument says whose `main` is to run.
    """
    shared = instrumented(shared_headers() | {"firmware/.cpp": "#pragma HLS DATAFLOW\n}"}, "", Dataflow())
    unit = [f"#include <{name}>" for name in STANDARD]
    unit += [f'#include "tb/sim/{name}"' for name in ("native/ap_int.h", "bounded/hls_stream.h", "ap_axi_sdata.h")]
    unit += [f'#include "{name}"' for name in shared if name.endswith(".hpp")]
    files = {name: text for name, text in shared.items() if name.endswith((".h", ".hpp"))}
    for i, one in enumerate(made):
        top = f"network{i}_top"
        for name, text in instrumented(sources(one, top), top, one.flow).items():
            # a first line of their own: #pragma once takes equal files for one
            files[f"n{i}/{name}"] = text if name.endswith(".dat") else f"// {i}\n{text}"
        unit += [
            f"#define main main_{i}",
            f"namespace n{i} {{",
            f'#include "n{i}/tb/bounded.cpp"',
            f'#include "n{i}/firmware/{top}.cpp"',
        ]
        unit += ["}", "#undef main"]
    cases = "".join(f"    case {i}: return n{i}::main_{i}(argc - 1, argv + 1);\n" for i in range(len(made)))
    unit += [f"int main(int argc, char** argv) {{\n  switch (std::atoi(argv[1])) {{\n{cases}  }}\n  return 2;\n}}\n"]
    for name, text in (files | {"batch.cpp": "\n".join(unit)}).items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    program = folder / "batch"
    includes = [
        folder / "tb" / "sim" / "bounded",
        folder / "tb" / "sim" / "native",
        folder / "tb" / "sim",
        folder / "firmware",
    ]
    options = ["-std=c++11", "-O0", "-w", "-DBROADAXE_NATIVE", *(f"-I{path}" for path in includes)]
    done = subprocess.run(
        [compiler(), *options, str(folder / "batch.cpp"), "-o", str(program)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[:4000]
    return [
        BoundedSimulator((str(program), str(i)), folder / f"n{i}" / "tb" / "vectors.dat", one.flow)
        for i, one in enumerate(made)
    ]


def _inside(rng: np.random.Generator, value: Value, frames: int) -> np.ndarray:
    lo, hi = value.ends()
    return rng.integers(lo, hi + 1, size=(frames, *value.shape))


def shared_headers() -> dict[str, str]:
    """Kernels and stand-ins by path."""
    hw = resources.folder("hw")
    files = {f"firmware/broadaxe/{p.name}": p.read_text() for p in sorted(hw.glob("*.hpp"))}
    return files | {
        f"tb/sim/{p.relative_to(hw / 'sim').as_posix()}": p.read_text() for p in sorted((hw / "sim").rglob("*.h"))
    }
