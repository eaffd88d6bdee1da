"""Two builds side by side: `broadaxe compare`. Without data it reads their reports and certificates, and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from broadaxe.errors import RequestError
from broadaxe.reports.comparison import (
    Build,
    Comparison,
    Figure,
    Pairing,
    Run,
    Same,
    Setting,
    Side,
    figure,
)
from broadaxe.reports.reading import read_report
from broadaxe.reports.schema import Layer, Port, Report

if TYPE_CHECKING:
    from broadaxe import build as builds
    from broadaxe.build import Array, Progress


def compare(
    a: builds.Build | str | os.PathLike[str],
    b: builds.Build | str | os.PathLike[str],
    data: Array | Mapping[str, Array] | str | os.PathLike[str] | None = None,
    labels: Array | None = None,
    *,
    progress: Progress | None = None,
) -> Comparison:
    """Say in what two builds differ: settings, bits, cycles and resources layer by layer, and accuracy on data.

    Args:
        a, b: what `compile` or `load` returned, or build folders.
        data: inputs of both, batch first, or a file of them; an array `labels` in it holds classes.
        labels: classes, integers of shape (samples,), where the data have none.
        progress: called with what is being done.

    Example:
        >>> smaller = broadaxe.compile("model.onnx", "smaller", target_fps=50_000)
        >>> comparison = broadaxe.compare("build", smaller)
        >>> comparison.same.claim
        'proven'
        >>> [figure.gain for figure in comparison.figures if figure.name == "LUT"]
        [True]

    Returns:
        What differs; its text is what `broadaxe compare` prints.

    Raises:
        RequestError: there is no such build, or neither takes the data.
        VerificationError: a file of a folder has changed since it was written.
    """
    sides = (_report(a), _report(b))
    first, second = sides
    notes = [*_ports("inputs", first.inputs, second.inputs), *_ports("outputs", first.outputs, second.outputs)]
    ran = None
    if data is not None:
        from broadaxe.reports.compare_data import compared

        ran, more = compared(a, b, data, labels, progress or (lambda _: None))
        notes += more
    elif labels is not None:
        raise RequestError("labels: say nothing without data; give both")
    return Comparison(
        a=_build(a, first),
        b=_build(b, second),
        settings=tuple(_settings(first, second)),
        same=_same(a, b, first, second, ran),
        layers=tuple(_paired(first, second)),
        figures=tuple(_totals(first, second)),
        run=ran,
        notes=tuple(notes),
    )


def _report(build: builds.Build | str | os.PathLike[str]) -> Report:
    if isinstance(build, str | os.PathLike):
        return read_report(Path(build))
    from broadaxe.reports.model import report_of

    return report_of(build)


def place_of(build: builds.Build | str | os.PathLike[str]) -> Path:
    return Path(build) if isinstance(build, str | os.PathLike) else build.path


def _build(build: builds.Build | str | os.PathLike[str], report: Report) -> Build:
    return Build(
        place=str(place_of(build)), top=report.top, broadaxe=report.broadaxe, model_sha256=report.made.model_sha256
    )


# Settings, inputs and outputs


def _settings(a: Report, b: Report) -> Iterator[Setting]:
    """What was asked for in one way in A and in another in B; nested settings as NAME.KEY."""
    if a.made.model_sha256 != b.made.model_sha256:
        yield Setting(name="model (SHA-256)", a=a.made.model_sha256[:12], b=b.made.model_sha256[:12])
    if a.broadaxe != b.broadaxe:
        yield Setting(name="broadaxe", a=a.broadaxe, b=b.broadaxe)
    one, other = dict(_flat(a.made.settings)), dict(_flat(b.made.settings))
    for name in dict.fromkeys([*one, *other]):
        if one.get(name) != other.get(name):
            yield Setting(name=name, a=one.get(name), b=other.get(name))


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _ports(what: str, a: Sequence[Port], b: Sequence[Port]) -> Iterator[str]:
    """Where what goes in, or comes out, is not alike."""
    one, other = ([f"{port.tensor} {list(port.tensor_shape)}" for port in ports] for ports in (a, b))
    if one != other:
        yield f"{what} differ: {', '.join(one)} in A, {', '.join(other)} in B"


# Layers


def _paired(a: Report, b: Report) -> Iterator[Pairing]:
    """Layers of both by their nodes' names, what is left by operator and shape in order; then those of one build.

    In the order of A; layers of B alone stand behind the one that they follow in B.
    """
    found = dict(_by_name(a.layers, b.layers))
    by_name = set(found)
    taken = set(found.values())
    left = [i for i in range(len(a.layers)) if i not in found]
    right = [j for j in range(len(b.layers)) if j not in taken]
    matcher = SequenceMatcher(a=_kinds(a, left), b=_kinds(b, right), autojunk=False)
    for block in matcher.get_matching_blocks():
        found |= {left[block.a + k]: right[block.b + k] for k in range(block.size)}
    order: list[tuple[int | None, int | None]] = [(i, found.get(i)) for i in range(len(a.layers))]
    for alone in range(len(b.layers)):
        if alone not in found.values():
            after = next((at for at, pair in enumerate(order) if alone and pair[1] == alone - 1), -1)
            order.insert(after + 1, (None, alone))
    for i, j in order:
        one, other = None if i is None else a.layers[i], None if j is None else b.layers[j]
        matched: Literal["name", "order", "alone"] = "alone"
        if i is not None and j is not None:
            matched = "name" if i in by_name else "order"
        layer = one or other
        assert layer is not None
        left_side = None if one is None else _side(a, one)
        right_side = None if other is None else _side(b, other)
        yield Pairing(
            node=layer.node,
            matched=matched,
            a=left_side,
            b=right_side,
            figures=tuple(_figures(left_side, right_side)) if left_side and right_side else (),
        )


def _kinds(report: Report, positions: Sequence[int]) -> list[tuple[str, tuple[int, ...], int]]:
    """Operator, shape and depth: what layers of one kind share."""
    return [(layer.op, layer.shape, layer.depth) for layer in (report.layers[i] for i in positions)]


def _by_name(a: Sequence[Layer], b: Sequence[Layer]) -> Iterator[tuple[int, int]]:
    """Layers whose nodes have the same name and operator, once in each build."""
    ours, theirs = ([layer.node for layer in side] for side in (a, b))
    for i, node in enumerate(ours):
        if node and ours.count(node) == theirs.count(node) == 1:
            yield i, theirs.index(node)


def _side(report: Report, layer: Layer) -> Side:
    forms = {r.name: r.form for r in report.requantizers}
    same = {name: getattr(layer, name) for name in Side.model_fields if name != "forms"}
    return Side(**same, forms=tuple(forms[name] for name in layer.requantizers))


def _figures(a: Side, b: Side) -> Iterator[Figure]:
    for name in ("weight_bits", "input_bits", "datatype_bits", "width", "cycles"):
        yield figure(name, getattr(a, name), getattr(b, name))
    for name in ("lut", "ff", "dsp", "bram18", "uram"):
        yield figure(name, getattr(a.resources, name), getattr(b.resources, name))


# The whole


def _totals(a: Report, b: Report) -> Iterator[Figure]:
    def of(name: str, take: Any, better: Literal["less", "more"] = "less") -> Figure:
        return figure(name, take(a), take(b), better)

    yield of("MACs a sample", lambda r: r.macs)
    yield of("accumulator bits", lambda r: sum(layer.width for layer in r.layers))
    yield of("bits saved", lambda r: r.saved_bits, "more")
    yield of("cycles a frame", lambda r: r.interval)
    yield of("frames/s", lambda r: r.frames_per_second, "more")
    yield of("latency, cycles", lambda r: r.latency)
    yield of("latency, us", lambda r: r.latency * r.clock_ns / 1e3)
    for name, key in (("LUT", "lut"), ("FF", "ff"), ("DSP", "dsp"), ("BRAM18", "bram18"), ("URAM", "uram")):
        yield of(name, lambda r, key=key: getattr(r.resources, key))
    yield of("FIFO words", lambda r: sum(fifo.depth for fifo in r.fifos))


# Whether both are the same function


def _same(
    a: builds.Build | str | os.PathLike[str],
    b: builds.Build | str | os.PathLike[str],
    first: Report,
    second: Report,
    ran: Run | None,
) -> Same:
    if first.made.model_sha256 == second.made.model_sha256:
        ours, theirs = _certified(a), _certified(b)
        if ours is not None and ours == theirs:
            return Same(
                claim="proven",
                why="the same function: one model, and in both certificates one integer graph, forms of requantizers apart",
            )
    if ran is None or ran.differing is None:
        return Same(claim="open", why="whether both compute the same is not known; data compare their outputs")
    if ran.differing:
        return Same(
            claim="different on data",
            why=f"not the same function: outputs differ on {ran.differing:,} of {ran.samples:,} inputs",
        )
    return Same(
        claim="equal on data",
        why=f"equal on these {ran.samples:,} inputs; that both are the same function is not proven",
    )


FREE = ("form", "comparisons")
"""What a certificate says of a requantizer that does not change what it computes: every form is proven equal to the chain."""


def _certified(build: builds.Build | str | os.PathLike[str]) -> Any:
    """A build's integer graph without what does not change its function; None where a folder's certificate cannot be read.

    Of a build in memory its own: what stands in its folder may since be another.
    """
    try:
        if isinstance(build, str | os.PathLike):
            graph = json.loads((Path(build) / "certificate.json").read_text())["graph"]
        else:
            from broadaxe.serialize import graph_json

            graph = json.loads(json.dumps(graph_json(build.graph)))
        for node in graph["nodes"]:
            node["attributes"] = {k: v for k, v in node["attributes"].items() if k not in FREE}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return graph
