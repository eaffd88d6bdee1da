"""Load another model's weights into a design that was compiled with `weights: runtime`.

The model is lowered and taken through the same passes, against the budgets that the design has instead of new ones. It has to
be of the design's architecture: the same operators on the same shapes and types, and the same constants where nothing can
be loaded (pad codes, factors of sums). Scales and zero points of inputs and outputs may differ: they are the host's, and are
written beside the parameters. Everything is decided in integers; what does not fit is refused with the layer, the channel
and the bits that it needs, before anything is written.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import onnx

from broadaxe.build import Build, Progress, load_model, opened
from broadaxe.errors import RequestError, VerificationError
from broadaxe.host import Host
from broadaxe.ir import Graph, Node, Value
from broadaxe.lower import lower
from broadaxe.ops.requantize import Requantize
from broadaxe.parameters import packed, parameters_of
from broadaxe.passes import loadable_pipeline, run_passes
from broadaxe.passes.reserve_budgets import Reservation
from broadaxe.serialize import plain
from broadaxe.whole import write_files

LOADED = ("weights", "weight_dtype", "start", "budget")
"""Fields of a layer that loading replaces, or that its budget decides."""


def load_parameters(
    build: Build | str | os.PathLike[str],
    model: onnx.ModelProto | str | os.PathLike[str],
    *,
    progress: Progress | None = None,
) -> Build:
    """The design with the weights of another model of its architecture in its memories.

    Args:
        build: a design of `weights="runtime"`, or its folder.
        model: a QONNX file or model.
        progress: called with what is being done.

    Example:
        >>> design = broadaxe.compile("model.onnx", "loadable", weights="runtime")
        >>> load_parameters(design, "model.onnx")
        Build('loadable', top='model_top', 8 nodes)

    Returns:
        The same hardware with `parameters` that fill it, and the host's side of the new model; `simulate` and `verify` take it
        like any other.

    Raises:
        RequestError: the model is of another architecture, or something of it does not fit: names the layer, the channel,
            what it needs and what there is.
        VerificationError: the stand-alone checker refuses the words that were made.
    """
    from broadaxe.prove import checker  # late, so that `python -m broadaxe.prove.checker` runs it unimported

    said = progress or (lambda _: None)
    design = opened(build, said)
    design = design.resident or design
    if design.parameters is None:
        raise RequestError(f"{design.path}: its weights are fixed; compile it with weights: runtime to load others")
    said("reading the model")
    loaded, _ = load_model(model)
    said("lowering to integers")
    lowered = lower(loaded, design.settings.input_types, loadable=True)
    _same_operators(design.graph, lowered.graph)
    said("holding every layer against its budget")
    held = {node.name: node.op for node in design.graph.nodes}
    graph = run_passes(lowered.graph, loadable_pipeline(Reservation(lowered.promises, held=held)))
    _same_constants(design.graph, graph)
    lowered = lowered.read_from(graph)
    words = parameters_of(graph, design.lanes)
    try:
        checker.check_parameters(design.path, packed(words))
    except checker.CertificateError as error:
        raise VerificationError(f"{design.path}: {error}; compile again") from None
    host = Host.of(loaded, lowered, graph)
    return replace(design, model=loaded, lowered=lowered, graph=graph, host=host, parameters=words, resident=design)


def write_parameters(build: Build, path: str | os.PathLike[str]) -> Path:
    """Write a design's parameters, and beside them as .json which they are and what the ports' integers mean.

    Args:
        build: a design of `weights="runtime"`, as compiled or from `load_parameters`.
        path: file to write, such as PARAMETERS.bin.

    Example:
        >>> design = broadaxe.compile("model.onnx", "loadable", weights="runtime")
        >>> print(write_parameters(design, "parameters.bin"))
        parameters.json

    Returns:
        The place of the .json file.

    Raises:
        RequestError: the design's weights are fixed, or one of both files cannot be written.
    """
    from broadaxe.reports.model import report_of

    if build.parameters is None:
        raise RequestError(
            f"{build.path}: its weights are fixed, there are no parameters; compile it with weights: runtime"
        )
    place, content = Path(path), packed(build.parameters)
    beside = place.with_suffix(".json")
    if beside == place:
        raise RequestError(f"{place}: ends in .json, which describes the parameters; name a .bin file")
    from broadaxe.deploy.ports import port_facts

    report, made = report_of(build), (build.resident or build).path / "certificate.json"
    text = {
        "design": hashlib.sha256(made.read_bytes()).hexdigest(),
        "words": len(build.parameters),
        "sha256": hashlib.sha256(content).hexdigest(),
        "ports": port_facts(build),
        "inputs": [port.model_dump() for port in report.inputs],
        "outputs": [port.model_dump() for port in report.outputs],
    }
    try:
        write_files({place: content, beside: f"{json.dumps(text, indent=1)}\n".encode()})
    except OSError as error:
        refused = beside if beside.is_dir() else place
        raise RequestError(f"{refused}: cannot be written ({error.strerror}); choose another place") from None
    return beside


def _same_operators(design: Graph, graph: Graph) -> None:
    """Fail unless both have the same operators between the same values."""
    for there, here in zip_longest(design.nodes, graph.nodes):
        if there is None or here is None or _place(there) != _place(here):
            raise RequestError(
                f"model: has {_named(here)} where the design has {_named(there)}; only a model of the same architecture"
                " can be loaded"
            )
    _same("outputs of the graph", design.outputs, graph.outputs)
    _same("inputs of the graph", design.inputs, graph.inputs)
    for name in design.inputs:
        _same_value(f"input {name}", design.values[name], graph.values[name])


def _same_constants(design: Graph, graph: Graph) -> None:
    """Fail where an operator has other constants that cannot be loaded, or makes values of another shape or range."""
    for there, here in zip(design.nodes, graph.nodes, strict=True):
        where = f"{here.name}, {here.origin}"
        if not isinstance(here.op, Requantize):  # a staircase is loaded whole
            old, new = _fixed(there), _fixed(here)
            for field in old:
                _same(f"{where}: {field}", old[field], new[field])
        _same_value(where, design.values[there.output], graph.values[here.output])


def _place(node: Node) -> tuple[str, str, tuple[str, ...], str]:
    return node.name, _kind(node), node.inputs, node.output


def _kind(node: Node) -> str:
    """The operator, whether its constants are loaded or fixed."""
    return {"loadable_grouped": "grouped_matvec"}.get(node.op.kind, node.op.kind.removeprefix("loadable_"))


def _named(node: Node | None) -> str:
    return "nothing" if node is None else f"{node.name} ({_kind(node)}) of {', '.join(node.inputs)}"


def _fixed(node: Node) -> dict[str, Any]:
    """Attributes of a node that are the design's own."""
    attributes: dict[str, Any] = plain(node.op)
    return {name: v for name, v in attributes.items() if not (node.op.loadable and name in LOADED)}


def _same_value(where: str, there: Value, here: Value) -> None:
    for field in ("shape", "dtype", "bounds"):
        _same(f"{where}: {field}", getattr(there, field), getattr(here, field))


def _same(what: str, there: object, here: object) -> None:
    if there != here:
        raise RequestError(
            f"{what}: {_short(here)}, the design has {_short(there)}; only weights, starts and thresholds can be loaded"
        )


def _short(value: object) -> str:
    text = str(value) if not isinstance(value, tuple) else f"({', '.join(map(str, value))})"
    return text if len(text) <= 60 else f"{text[:57]}..."
