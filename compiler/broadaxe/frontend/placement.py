"""Where a float model needs quantizers: on which tensors, for which readers, and which of them share a scale.

An activation is quantized where it comes into being, before operators that only move or select its elements, so that all
its readers share one quantizer. What the host computes from an input before any such reader, the head, stays float.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx

from broadaxe.errors import UnsupportedModelError
from broadaxe.frontend.standard import attribute, is_quantizer
from broadaxe.frontend.wiring import Wiring, shown, standard, where

LINEAR = ("Conv", "Gemm", "MatMul")
POOLS = ("AveragePool", "GlobalAveragePool", "ReduceMean")
MOVERS = ("DepthToSpace", "Dropout", "Flatten", "Identity", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
RISING = ("Clip", "HardSigmoid", "LeakyRelu", "Relu", "Sigmoid", "Tanh")
ONE_OPERAND = ("BatchNormalization", "Neg", *RISING)
CONSTANT_OPERAND = ("Add", "Div", "Mul", "Sub")
MOVERS_IN_HEAD = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
HEAD = (*CONSTANT_OPERAND, *MOVERS_IN_HEAD, "Abs", "Cast", "Clip", "Neg", "Relu")
"""What the compiler leaves to the host before a first quantizer."""


@dataclass
class Site:
    """A tensor that gets a quantizer.

    Attributes:
        tensor: its name.
        head: whether the host quantizes it: it is an input, or computed from one before any quantizer.
        readers: operators that need it quantized.
    """

    tensor: str
    head: bool
    readers: list[onnx.NodeProto] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Placement:
    """Quantizers that a model needs.

    Attributes:
        sites: tensors to quantize, by name, in the model's order.
        groups: tensors that share a scale; each site is in one. A tensor in it that is no site has a Quant already.
        rewired: nodes that read a site's tensor and have to read its quantized twin instead.
        layers: linear operators in order.
        first, last: names of the outputs of linear operators without another one before or behind them.
    """

    sites: dict[str, Site]
    groups: list[list[str]]
    rewired: list[onnx.NodeProto]
    layers: list[onnx.NodeProto]
    first: set[str]
    last: set[str]


def place(wiring: Wiring) -> Placement:
    """Find the tensors that have to be quantized.

    Raises:
        UnsupportedModelError: there is no linear operator, or something that cannot be compiled stands before one.
    """
    heads = _heads(wiring)
    sources = _sources(wiring, heads)
    operands = {id(n): _operands(n, wiring, heads) for n in wiring.model.graph.node if _is_live(n, wiring)}
    inner = _leading_to_readers(wiring, operands)
    for node in inner:
        if node.output[0] not in heads:
            _check_supported(node, wiring)
            operands[id(node)] = operands[id(node)] or [name for name in wiring.live(node) if name in heads]
    layers = [node for node in inner if standard(node, *LINEAR)]
    if not layers:
        raise UnsupportedModelError(
            "model: has no Conv, Gemm or MatMul with constant weights that depends on an input; there is nothing to quantize"
        )

    sites: dict[str, Site] = {}
    shared = _Shared()
    for node in inner:
        if is_quantizer(node):
            continue
        reads = [source for name in operands[id(node)] for source in sources[name]]
        for source in reads:
            if not is_quantizer_output(source, wiring):
                site = sites.setdefault(source, Site(source, source in heads))
                if not any(reader is node for reader in site.readers):
                    site.readers.append(node)
            shared.add(source)
        if standard(node, "Add", "Sub") or (standard(node, "Concat") and _joinable(node, wiring, sources)):
            shared.join(reads)
    order = {name: position for position, name in enumerate((*wiring.inputs, *wiring.producers))}
    sites = dict(sorted(sites.items(), key=lambda item: order[item[0]]))
    rewired = [n for n in inner if not is_quantizer(n) and n.output[0] not in heads]
    first, last = _ends(wiring, layers)
    return Placement(sites, shared.groups(), rewired, layers, first, last)


def is_quantizer_output(tensor: str, wiring: Wiring) -> bool:
    """Whether a quantizer writes the tensor."""
    node = wiring.producers.get(tensor)
    return node is not None and is_quantizer(node)


def _heads(wiring: Wiring) -> set[str]:
    """Tensors that the host computes from one input: the compiler looks for the first quantizer behind them."""
    origin = {name: name for name in wiring.inputs}
    for node in wiring.model.graph.node:
        live = wiring.live(node)
        if live and node.output[0] not in wiring.fixed and standard(node, *HEAD):
            starts = {origin.get(name, "") for name in live}
            if len(starts) == 1 and "" not in starts:
                origin[node.output[0]] = starts.pop()
    return set(origin)


def _sources(wiring: Wiring, heads: set[str]) -> dict[str, tuple[str, ...]]:
    """For each activation the tensors whose quantizers make it quantized: itself, or what movers and Concat take it from."""
    sources: dict[str, tuple[str, ...]] = {name: (name,) for name in wiring.inputs}
    for node in wiring.model.graph.node:
        if not _is_live(node, wiring):
            continue
        out = node.output[0]
        live = wiring.live(node)
        if out not in heads and standard(node, *MOVERS):
            sources[out] = sources[live[0]]
        elif standard(node, "Concat") and _joinable(node, wiring, sources):
            sources[out] = tuple(dict.fromkeys(s for name in live for s in sources[name]))
        else:
            sources[out] = (out,)
        for other in node.output[1:]:
            sources[other] = (other,)
    return sources


def _joinable(node: onnx.NodeProto, wiring: Wiring, sources: dict[str, tuple[str, ...]]) -> bool:
    """Whether the parts of a Concat can share one scale: those that have a Quant already have all the same one."""
    if len(wiring.live(node)) < len(node.input):
        return False
    parts = {source for name in node.input for source in sources[name] if is_quantizer_output(source, wiring)}
    scales = {fixed_scale(part, wiring) for part in parts}
    return len(scales) <= 1 and None not in scales


def fixed_scale(tensor: str, wiring: Wiring) -> float | None:
    """The scale of a tensor that has a Quant, if it is one constant with a zero point of 0 and codes that step by 1."""
    node = wiring.producers[tensor]
    scale, zero, bits = ([wiring.values.get(name) for name in node.input[1:4]] + [None] * 3)[:3]
    if node.op_type not in ("Quant", "IntQuant") or scale is None or zero is None or bits is None:
        return None
    bipolar = attribute(node, "signed", 1) and (bits == 1).any()
    if scale.size != 1 or zero.any() or bipolar or not scale.item() > 0:
        return None
    return float(scale.item())


def _is_live(node: onnx.NodeProto, wiring: Wiring) -> bool:
    return node.output[0] not in wiring.fixed


def _operands(node: onnx.NodeProto, wiring: Wiring, heads: set[str]) -> list[str]:
    """Activations that a node reads and that have to be quantized for it."""
    live = wiring.live(node)
    if node.output[0] in heads:
        return []
    if standard(node, *LINEAR, *POOLS):
        return live[:1]
    if standard(node, "Add", "Sub", "Concat"):
        return live if len(live) > 1 or (node.op_type == "Concat" and live) else []
    if standard(node, "MaxPool"):
        return [] if _pool_can_wait(node, wiring) else live
    return []


def _pool_can_wait(pool: onnx.NodeProto, wiring: Wiring) -> bool:
    """Whether a MaxPool meets a quantizer before anything that may turn its order round, so that it needs none itself."""
    pending, seen = [pool.output[0]], set()
    while pending:
        tensor = pending.pop()
        if tensor in seen:
            continue
        seen.add(tensor)
        readers = [node for node in wiring.consumers.get(tensor, []) if _is_live(node, wiring)]
        if not readers or tensor in wiring.outputs:
            return False
        for node in readers:
            if is_quantizer(node) or standard(node, *LINEAR, *POOLS):
                continue
            if standard(node, "Add", "Sub", "Concat") and len(wiring.live(node)) > 1:
                continue
            if not standard(node, *MOVERS, *RISING):
                return False
            pending.append(node.output[0])
    return True


def _leading_to_readers(wiring: Wiring, operands: dict[int, list[str]]) -> list[onnx.NodeProto]:
    """Nodes that need a quantized operand, and all that computes one, in the model's order."""
    needed: set[str] = set()
    inner = []
    for node in reversed(wiring.model.graph.node):
        if _is_live(node, wiring) and (operands[id(node)] or not needed.isdisjoint(node.output)):
            needed.update(wiring.live(node))
            inner.append(node)
    return inner[::-1]


def _check_supported(node: onnx.NodeProto, wiring: Wiring) -> None:
    live = wiring.live(node)
    if is_quantizer(node) or standard(node, *POOLS, *MOVERS, *ONE_OPERAND, "Concat"):
        return
    if standard(node, *LINEAR):
        if len(node.input) < 2 or live != [node.input[0]]:
            raise UnsupportedModelError(
                f"{where(node)}: its right operand is no constant, or its left one is; only constant weights on the right"
                " are supported"
            )
    elif not standard(node, *CONSTANT_OPERAND):
        raise UnsupportedModelError(
            f"{where(node)}: operator {shown(node.op_type)} cannot be compiled; replace it, or put it behind the last"
            " Conv, Gemm or MatMul"
        )
    elif node.op_type in ("Mul", "Div") and len(live) > 1:
        raise UnsupportedModelError(
            f"{where(node)}: combines two activations; only a constant on one side is supported, replace the gate"
        )


def _ends(wiring: Wiring, layers: Sequence[onnx.NodeProto]) -> tuple[set[str], set[str]]:
    """Outputs of the layers without a layer before them, and of those without one behind them."""
    own = {node.output[0] for node in layers}
    behind: set[str] = set()
    for node in wiring.model.graph.node:
        if own.union(behind).intersection(node.input):
            behind.update(node.output)
    before: set[str] = set()
    for node in reversed(wiring.model.graph.node):
        if node.output[0] in own or not before.isdisjoint(node.output):
            before.update(node.input)
    return own - behind, own - before


class _Shared:
    """Disjoint sets of tensors that share a scale."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def add(self, name: str) -> None:
        self._parents.setdefault(name, name)

    def join(self, names: Sequence[str]) -> None:
        for name in names[1:]:
            self._parents[self._root(name)] = self._root(names[0])

    def _root(self, name: str) -> str:
        while self._parents[name] != name:
            self._parents[name] = self._parents[self._parents[name]]
            name = self._parents[name]
        return name

    def groups(self) -> list[list[str]]:
        found: dict[str, list[str]] = {}
        for name in self._parents:
            found.setdefault(self._root(name), []).append(name)
        return list(found.values())
