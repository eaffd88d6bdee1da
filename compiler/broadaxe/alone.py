"""One layer alone in C++, driven to both ends of a channel's sum: as declared, and recompiled with fewer bits."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from broadaxe.build import Build
from broadaxe.csim import Mode, compile_sources, run_program
from broadaxe.emit import _at_both_ends
from broadaxe.errors import RequestError, VerificationError
from broadaxe.ir import IntArray, Node, Value
from broadaxe.manifest import check_files
from broadaxe.ops.budget import Budgeted, words
from broadaxe.ops.mac import Accumulating
from broadaxe.ops.memories import by_lane
from broadaxe.ops.requantize import Requantize
from broadaxe.templating import templates
from broadaxe.types import IntType
from broadaxe.version import __version__


@dataclass(frozen=True)
class Ends:
    """A channel's accumulator at its low end, then at its high one, and the requantizer's codes of them where one reads it."""

    sums: tuple[int, ...]
    codes: tuple[int, ...] | None


@dataclass(frozen=True)
class Alone:
    """What came of it: by arithmetic, from the declared kernel, and from the narrower one.

    Attributes:
        reader: the requantizer that made the codes.
        bits: of the declared accumulator, and of the narrower one, 0 where there is none.
    """

    reader: str | None
    bits: tuple[int, int]
    expected: Ends
    declared: Ends
    narrower: Ends | None


def run_alone(build: Build, node: Node, op: Accumulating, channel: int, mode: Mode = Mode.NATIVE) -> Alone:
    """Compile a layer's generated kernel beside one whose accumulators have a bit less than a channel needs, and run both.

    Of a layer that loads its weights the channel starts where its present weights fill the accumulator to both ends.

    Raises:
        VerificationError: a file of the folder has changed since it was written, or does not compile.
    """
    check_files(build.path)
    inputs, out = build.graph.inputs_of(node), build.graph.values[node.output]
    needed = (op.dtype(*inputs) if isinstance(op, Budgeted) else op.attained(*inputs)[channel].signed_dtype).width
    narrow = needed - 1
    reader = next((n for n in build.graph.consumers(node.output) if isinstance(n.op, Requantize)), None)
    ends = op.witnesses(inputs, channel)
    assert ends is not None
    rows = [[end[i].reshape(-1, x.channels)[0].astype(np.int64) for i, x in enumerate(inputs)] for end in ends]
    filled: Sequence[Accumulating] = _at_both_ends(op, inputs) if isinstance(op, Budgeted) else (op, op)
    files = _sources(build, node, op, channel, reader, narrow)
    files["given.dat"] = _given(build, node, filled, rows)
    folder, program = _compiled(build, files, mode)
    status, output = run_program(program, str(folder / "given.dat"))
    if status:
        why = (output.strip().splitlines() or [f"status {status}"])[-1].replace("; ", ", ")
        raise VerificationError(
            f"{node.name}: does not run alone, {why}; compile again, and report it if it fails again"
        )
    found = [tuple(map(int, line.split())) for line in output.splitlines()]
    expected = [_expected(build, node, of, reader, channel, row) for of, row in zip(filled, rows, strict=True)]
    return Alone(
        reader=reader.name if reader else None,
        bits=(out.dtype.width, narrow),
        expected=_ends(expected),
        declared=_ends(found[:2]),
        narrower=_ends(found[2:]) if narrow else None,
    )


def _ends(found: Sequence[tuple[int, ...]]) -> Ends:
    sums, *codes = zip(*found, strict=True)
    return Ends(tuple(sums), tuple(codes[0]) if codes else None)


def _expected(
    build: Build, node: Node, op: Accumulating, reader: Node | None, channel: int, row: Sequence[IntArray]
) -> tuple[int, ...]:
    """A channel's sum of one vector, or of equal ones, and its code."""
    values = build.graph.inputs_of(node)
    whole = [np.broadcast_to(v, x.shape)[None] for v, x in zip(row, values, strict=True)]
    if len(row) == 1:  # one vector is enough
        whole = [row[0].reshape(1, *[1] * (len(values[0].shape) - 1), -1)]
    sums = op.reference(*whole)
    found = [int(sums.reshape(-1, op.outputs)[0, channel])]
    if reader is not None:
        found.append(int(reader.op.reference(sums).reshape(-1, op.outputs)[0, channel]))
    return tuple(found)


def _sources(
    build: Build, node: Node, op: Accumulating, channel: int, reader: Node | None, narrow: int
) -> dict[str, str]:
    """The harness, and the narrower kernel if there is one, by name."""
    graph, lanes, environment = build.graph, build.lanes, templates()
    inputs, out = graph.inputs_of(node), graph.values[node.output]
    words_of = op.parameters(inputs, out, lanes[node.name])
    context: dict[str, Any] = {
        "name": node.name,
        "kernels": [node.name, *([f"{node.name}_narrow"] if narrow else [])],
        "channel": channel,
        "narrow_bits": narrow,
        "streams": [{"type": f"{x.name}_t", "depth": x.channels, "vectors": x.size // x.channels} for x in inputs],
        "frames": 2,
        "vectors": out.size // out.channels,
        "outputs": op.outputs,
        "out_type": f"{out.name}_t",
        "simd": lanes[node.name].read,
        "pe": lanes[node.name].written,
        "parameters": len(words_of),
        "reader": reader.name if reader else None,
        "reader_lanes": lanes[reader.name].read if reader else 0,
        "code_type": f"{graph.values[reader.output].name}_t" if reader else "",
        "reader_parameters": bool(reader and reader.op.loadable),
    }
    files = {"alone.cpp": environment.get_template("tb/alone.cpp.jinja").render(context)}
    if narrow:
        files[f"{node.name}_narrow.hpp"] = environment.get_template("firmware/node.hpp.jinja").render(
            name=f"{node.name}_narrow",
            kind=op.kind,
            version=__version__,
            in_type=f"{inputs[0].name}_t",
            in_types=[f"{x.name}_t" for x in inputs],
            out_type=f"{node.name}_narrow_t",
            **_narrowed(build, node, op, inputs, out, narrow),
        )
    return files


def _narrowed(
    build: Build, node: Node, op: Accumulating, inputs: Sequence[Value], out: Value, bits: int
) -> dict[str, Any]:
    """What the kernel's template needs, with accumulators of so many bits at most; packed sums get multipliers of their own."""
    lanes = build.lanes[node.name]
    packing = op.packed(inputs, lanes)
    if packing is not None and packing.chunk == op.depth:  # a lane too narrow would spoil its neighbours as well
        lanes = replace(lanes, multiplier="lut")
    narrow = replace(out, dtype=IntType(bits, signed=True))
    context = dict(op.template_context(inputs, narrow, lanes))
    if context.get("widths"):
        context["widths"] = tuple(min(width, bits) for width in context["widths"])
    return context


def _given(build: Build, node: Node, filled: Sequence[Accumulating], rows: Sequence[Sequence[IntArray]]) -> str:
    """The file that the harness reads: of each frame one vector of every input, then the words that are loaded."""
    graph, lanes = build.graph, build.lanes[node.name]
    lines = []
    for op, row in zip(filled, rows, strict=True):
        lines += [" ".join(map(str, vector.tolist())) for vector in row]
        if isinstance(op, Budgeted):
            loaded = op.parameters(graph.inputs_of(node), graph.values[node.output], lanes).copy()
            loaded[-op.outputs :] = words(by_lane(op.held_start, lanes.written))
            lines.append(" ".join(map(str, loaded.tolist())))
    return "\n".join([*lines, ""])


def _compiled(build: Build, files: dict[str, str], mode: Mode) -> tuple[Path, Path]:
    """Write what was rendered into BUILD/sim, once per content, and compile it there; returns its folder and the program."""
    key = hashlib.sha256("\0".join(text for pair in sorted(files.items()) for text in pair).encode())
    folder = build.path / "sim" / f"alone-{key.hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise RequestError(
            f"{folder}: cannot be written ({error.strerror}); copy the build to a folder of yours"
        ) from None
    source = (folder / "alone.cpp").relative_to(build.path)
    return folder, compile_sources(build.path, mode, [str(source)], "alone", [f"-I{folder}"])
