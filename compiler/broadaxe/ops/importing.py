"""What an operator's ONNX import works with: the states a model's tensor can be in, the model's node, the graph being built.

Lowering walks the model once. Each tensor is either a constant, a float tensor that the host computes before the first
quantizer (`Head`) or after the last integer (`Tail`), or `Scaled`: an integer value of the graph, where each element of the
model's tensor sits in the value's stream, and the exact chain that turns its integers into the tensor's reals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import prod
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import onnx

from broadaxe.chain import Affine, Chain, PerChannel, Step, direction, narrowed, on_channels, spread, then
from broadaxe.errors import UnsupportedModelError
from broadaxe.ir import Graph, IntArray, Node, Op, Shape, Value, infer
from broadaxe.ops.rearrange import Rearrange

Array: TypeAlias = npt.NDArray[Any]
MAX_ELEMENTS = 1 << 27
"""Elements of a tensor: more is a mistake, or an attack on memory."""
MAX_CHANNELS = 1 << 20
"""Elements of a vector, and channels of an image: each has bounds of its own."""
LARGEST_EXPONENT = 1000
"""Of two, in reals: reports and hosts hold them as floats."""
MAX_SCALES = 1 << 18
"""Channels that may have a rational of their own."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Integers behind a quantized constant: real = scale * integers, both of the constant's shape."""

    integers: IntArray
    scale: Array


@dataclass(frozen=True, eq=False)
class Constant:
    """A constant tensor as float32 (or integer) arithmetic leaves it, and its grid where a Quant made it."""

    array: Array
    grid: Grid | None = None
    bits: int | None = None
    signed: bool = True


@dataclass(frozen=True)
class Pool:
    """A MaxPool that waits for the next quantizer, so that it can work on codes: max and a rising staircase commute."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilation: tuple[int, int]
    origin: str


@dataclass(frozen=True, eq=False)
class Scaled:
    """An integer value of the graph standing for a tensor of the model.

    Attributes:
        value: name of the graph's value.
        index: of the tensor's shape (batch axis of 1 first); where each element sits in the value's stream (after pools).
            No two elements share a place; there may be places that hold no element of the tensor.
        chain: exact function from the value's integers to the tensor's reals, per channel of the value.
        pools: MaxPools between the chain's steps, to be emitted after the next quantizer.
        kind: element type of the model's tensor, as numpy names it; one that is no float holds integers alone.
    """

    value: str
    index: IntArray
    chain: Chain
    pools: tuple[Pool, ...] = ()
    kind: str = "float32"

    @property
    def shape(self) -> Shape:
        return self.index.shape


@dataclass(frozen=True)
class Head:
    """A float tensor between a model input and the first quantizer: the host computes it."""

    name: str


@dataclass(frozen=True)
class Tail:
    """A float tensor after the last integer value: the host computes it from the tensors it starts at."""

    name: str
    starts: tuple[str, ...]
    origin: str


Tensor: TypeAlias = Constant | Scaled | Head | Tail


@dataclass(frozen=True, eq=False)
class ModelNode:
    """One node of the model with the states of its inputs (None for an input left out)."""

    name: str
    op_type: str
    inputs: tuple[Tensor | None, ...]
    input_names: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any]
    opset: int
    batch: int = 1
    metadata: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    proto: onnx.NodeProto | None = None

    @property
    def where(self) -> str:
        return f"{self.name} ({printable(self.op_type)})"

    def fail(self, problem: str) -> UnsupportedModelError:
        """The error `<node> (<operator>): <problem>`; the problem says what, the value, and what to do."""
        return UnsupportedModelError(f"{self.where}: {problem}")

    def attribute(self, name: str, default: Any) -> Any:
        return self.attributes.get(name, default)

    def constant(self, position: int, role: str) -> Constant:
        """An input that has to be a constant."""
        tensor = self.inputs[position] if position < len(self.inputs) else None
        if tensor is None:
            raise self.fail(f"its {role} is missing; repair the model")
        if not isinstance(tensor, Constant):
            raise self.fail(f"its {role} is not a constant; only constants can be compiled into hardware")
        return tensor

    def floats(self, position: int, role: str) -> Array:
        """A constant input of finite numbers, as float64 (which holds every float32 exactly)."""
        array = self.constant(position, role).array
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise self.fail(f"its {role} holds values that are not finite numbers; repair the model")
        return array.astype(np.float64)

    def scaled(self, position: int) -> Scaled:
        """An input that has to be an integer tensor."""
        tensor = self.inputs[position] if position < len(self.inputs) else None
        match tensor:
            case Scaled():
                return tensor
            case Head(name):
                raise self.fail(
                    f"its input {name!r} is not quantized; run broadaxe quantize on a float model first, put a Quant"
                    " before it, or declare the input's type, as in --input name:uint8"
                )
            case Tail(origin=origin):
                raise self.fail(
                    f"comes after {origin}, which only the host can compute; replace that operator, or end the network"
                    " before it"
                )
            case _:
                raise self.fail("its input is a constant or missing; a tensor that depends on the input is needed")


@dataclass(frozen=True)
class Promise:
    """Widths in bits that a model says its accumulator keeps to: the whole sum, and each tile's; None where it does not."""

    outer: int | None = None
    inner: int | None = None


@dataclass
class GraphBuilder:
    """The integer graph under construction; `promises` names its layers that have weights.

    `loadable`: weights and thresholds may be exchanged later, so nothing may follow from the present ones but themselves.
    """

    name: str
    loadable: bool = False
    inputs: list[str] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    promises: dict[str, Promise] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def fresh(self, prefix: str) -> str:
        """`prefix0`, `prefix1`, ...: names that are identifiers whatever the model calls its nodes."""
        count = self._counts.get(prefix, 0)
        self._counts[prefix] = count + 1
        return f"{prefix}{count}"

    def add_input(self, value: Value) -> Value:
        self.inputs.append(value.name)
        self.values[value.name] = value
        return value

    def add(self, name: str, op: Op, inputs: list[str], origin: str, affine: Affine | None = None) -> Value:
        """Append a node; its value has the node's name, and the operator's own shape, type and bounds."""
        read = [self.values[i] for i in inputs]
        admit(origin, op.shape(*read))
        value = infer(name, op, read, affine)
        if self.loadable and (codes := op.codes_of_any) is not None:
            value = replace(value, bounds=(codes,) * value.channels)
        self.values[name] = value
        self.nodes.append(Node(name, op, tuple(inputs), name, origin))
        return value

    def add_view(self, name: str, shape: Shape, origin: str) -> Value:
        """The same stream under another shape, without a scale of its own."""
        from broadaxe.ops.view import View

        return self.add(self.fresh("view"), View(shape), [name], origin)

    def finish(self, outputs: tuple[str, ...]) -> Graph:
        """The graph of the nodes that the outputs need."""
        needed, nodes = set(outputs), []
        for node in reversed(self.nodes):
            if node.output in needed:
                needed.update(node.inputs)
                nodes.append(node)
        inputs = tuple(name for name in self.inputs if name in needed)
        values = {n: v for n, v in self.values.items() if n in needed}
        return Graph(self.name, inputs, tuple(reversed(nodes)), outputs, values)


def admit(where: str, shape: Shape) -> None:
    """Fail where a value of this shape would be too large, before anything is made for it."""
    if prod(shape) > MAX_ELEMENTS:
        raise UnsupportedModelError(f"{where}: makes {prod(shape)} elements; at most {MAX_ELEMENTS} are supported")
    if shape[-1] > MAX_CHANNELS:
        raise UnsupportedModelError(
            f"{where}: makes vectors of {shape[-1]} elements; at most {MAX_CHANNELS} are supported"
        )


Importer: TypeAlias = Callable[[GraphBuilder, ModelNode], Tensor | tuple[Tensor | None, ...]]
"""Lowers a node to its first output, or to all of them by position; None for one that is never computed."""
IMPORTERS: dict[str, Importer] = {}
F = TypeVar("F", bound=Importer)


def imports(*op_types: str) -> Callable[[F], F]:
    """Register a function that lowers these ONNX operators when an input depends on the model's input."""

    def register(function: F) -> F:
        for op_type in op_types:
            if op_type in IMPORTERS:
                raise ValueError(f"{op_type} has an importer already")
            IMPORTERS[op_type] = function
        return function

    return register


def fractions(values: Array) -> PerChannel:
    """Exact rationals of finite floats; one entry if all are equal."""
    flat = [Fraction(v) for v in values.reshape(-1).tolist()]
    return (flat[0],) if all(v == flat[0] for v in flat) else tuple(flat)


def per_channel(graph: GraphBuilder, node: ModelNode, x: Scaled, values: Array, role: str) -> PerChannel:
    """A constant that broadcasts against x, as one rational per channel of x's value."""
    try:
        full = np.broadcast_to(values, x.shape)
    except ValueError:
        raise node.fail(
            f"its {role} of shape {values.shape} does not broadcast to {x.shape}; repair the model"
        ) from None
    value = graph.values[x.value]
    if value.channels > MAX_SCALES:
        raise node.fail(f"its input has {value.channels} channels; at most {MAX_SCALES} can be scaled")
    stream = np.full(value.size, np.nan)  # what the tensor leaves out of the stream may have any constant
    stream[x.index.reshape(-1)] = full.reshape(-1)
    rows = stream.reshape(-1, value.channels)
    first = np.fmax.reduce(rows, axis=0)
    if ((rows != first) & ~np.isnan(rows)).any():
        raise node.fail(f"its {role} varies within a channel; give one value per channel or per tensor")
    return fractions(np.where(np.isnan(first), full.reshape(-1)[0], first))


def along_channels(x: Scaled, values: Array) -> Array:
    """A vector of the model's channels (axis 1), shaped to broadcast against x."""
    return values.reshape(1, -1, *[1] * (len(x.shape) - 2))


def extend(graph: GraphBuilder, node: ModelNode, x: Scaled, step: Step) -> Scaled:
    """x followed by one more step; behind a MaxPool that waits only one that rises."""
    if x.pools and any(sign is None or sign < 0 for sign in step.direction()):
        raise node.fail("turns values round after a MaxPool that has no Quant before it; put a Quant before the pool")
    chain = then(x.chain, step)
    if isinstance(last := chain[-1], Affine) and any(_beyond_floats(v) for v in (*last.scale, *last.shift)):
        raise node.fail("takes its reals beyond 2**1000, which no float holds; repair the model's constants")
    return replace(x, chain=chain)


def refuse_waiting(node: ModelNode, x: Scaled) -> None:
    """Fail where x is a MaxPool's that waits for a quantizer."""
    if x.pools:
        raise node.fail("reads a MaxPool that no Quant follows; put a Quant behind the pool")


def _beyond_floats(value: Fraction) -> bool:
    return value.numerator.bit_length() - value.denominator.bit_length() > LARGEST_EXPONENT


def integers(graph: GraphBuilder, node: ModelNode, x: Scaled, depthwise: bool = False) -> Affine:
    """The (scale, shift) that turns x's integers into reals; fails where x is not a quantized tensor.

    The scale has to be one for all channels, unless the operator is depthwise and never adds channels.
    """
    (first, *rest) = x.chain
    if rest or x.pools or not isinstance(first, Affine) or _is_accumulator(graph, x.value):
        raise node.fail("its input is not quantized; put a Quant between it and the operator before it")
    if len(set(first.scale)) == 1:
        first = Affine(first.scale[:1], first.shift)
    if len(first.scale) != 1 and not depthwise:
        raise node.fail(
            "its input has a scale per channel (its quantizer has, or a Concat joins tensors of different scales), which a"
            " sum over channels cannot take out; use one scale, or a Quant behind the Concat"
        )
    return first


def _is_accumulator(graph: GraphBuilder, value: str) -> bool:
    """Whether products make the value that no quantizer follows; operators that only move integers are looked through."""
    makers = {node.output: node for node in graph.nodes}
    while value in makers and makers[value].op.moves:
        value = makers[value].inputs[0]
    return value in makers and makers[value].op.accumulates


def real_scales(left: PerChannel, right: PerChannel) -> tuple[int, int] | None:
    """Integers p, q in lowest terms with left : right = p : q in every channel; None if the ratio varies."""
    left, right = spread(left, right)
    ratios = {a / b for a, b in zip(left, right, strict=True)} if all((*left, *right)) else set()
    if len(ratios) != 1:
        return None
    ratio = ratios.pop()
    return ratio.numerator, ratio.denominator


def zero_codes(node: ModelNode, x: Affine, real: Fraction = Fraction(0)) -> tuple[int, ...]:
    """The integers whose real value is exactly 0 (or another one), per channel or one for all."""
    scale, shift = spread(x.scale, x.shift)
    if not all(scale):
        raise node.fail("pads a tensor with a scale of zero; repair the model")
    codes = [(real - t) / s for s, t in zip(scale, shift, strict=True)]
    wrong = next((code for code in codes if code.denominator != 1), None)
    if wrong is not None:
        raise node.fail(
            f"pads with {'zero' if not real else float(real)}, which its input cannot represent (code {wrong}); use a"
            " quantizer with an integer zero point, or pads of 0"
        )
    return tuple(int(code) for code in codes)


def per_tap(affine: Affine, kernel: tuple[int, int]) -> Affine:
    """The affine map of an image for the patches of its sliding window."""
    taps = kernel[0] * kernel[1]
    return Affine(_repeat(affine.scale, taps), _repeat(affine.shift, taps))


def rises(x: Scaled, channels: int) -> bool:
    """Whether x's reals grow with its integers in every channel."""
    return all(sign is not None and sign > 0 for sign in direction(x.chain, channels))


def image(graph: GraphBuilder, node: ModelNode, x: Scaled) -> Scaled:
    """x with a channels-last image, shape (height, width, channels), as its value; x is (1, channels, height, width).

    A row, (1, channels, length), is an image of height 1.
    """
    if len(x.shape) not in (3, 4):
        raise node.fail(
            f"its input has shape {list(x.shape)}; only (batch, channels, length) and (batch, channels, height, width)"
            " are supported"
        )
    index = x.index[0] if len(x.shape) == 4 else x.index[0][:, None]
    wanted = index.transpose(1, 2, 0)
    return arranged(graph, node, x, wanted, channels_first(*wanted.shape))


def like(x: Scaled, result: Scaled) -> Scaled:
    """An image as a row again, where x is one."""
    return result if len(x.shape) == 4 else replace(result, index=result.index[:, :, 0])


def arrange(graph: GraphBuilder, node: ModelNode, x: Scaled, wanted: IntArray) -> Value:
    """The value of `arranged`; its scale and shift are those of x's first step, by channel."""
    return graph.values[arranged(graph, node, x, wanted, wanted[None]).value]


def arranged(
    graph: GraphBuilder, node: ModelNode, x: Scaled, wanted: IntArray, index: IntArray, fill: Fraction = Fraction(0)
) -> Scaled:
    """A tensor whose value has shape `wanted.shape` and holds the elements of x's stream at `wanted`, in that order.

    Args:
        x: a tensor without pools that wait.
        wanted: positions in x's stream, an element's channel last; any may repeat or be left out; -1 for padding.
        index: of the tensor's shape; where each of its elements sits in the new stream.
        fill: the real value of padding.

    Returns:
        x's own value under a view where `wanted` only counts up, else one that a Rearrange node makes. The chain is x's, its
        columns those of the new channels.
    """
    admit(node.where, wanted.shape)
    source = graph.values[x.value]
    chain = gathered_chain(graph, node, x, wanted)
    affine = chain[0] if isinstance(chain[0], Affine) else None
    padded = bool((wanted < 0).any())
    if not padded and wanted.size == source.size and (wanted.reshape(-1) == np.arange(wanted.size)).all():
        same = view(graph, x.value, wanted.shape, node.where, affine)
        return Scaled(same.name, index, chain)
    codes: tuple[int, ...] = (0,)
    if padded:
        if len(chain) > 1 or affine is None:
            raise node.fail(
                "pads a tensor that is not a plain scale of integers; put a Quant between it and the operator before"
            )
        codes = zero_codes(node, affine, fill)
    out = graph.add(graph.fresh("rearrange"), Rearrange.of(wanted, codes), [x.value], node.where, affine)
    return Scaled(out.name, index, chain)


def gathered_chain(graph: GraphBuilder, node: ModelNode, x: Scaled, wanted: IntArray) -> Chain:
    """x's chain by the channels of `wanted`, positions in its stream; fails where elements of unlike channels come into one."""
    chain, channels = x.chain, graph.values[x.value].channels
    if wanted.shape[-1] > MAX_SCALES and channels > 1:
        raise node.fail(f"makes {wanted.shape[-1]} channels; at most {MAX_SCALES} are possible here")
    rows = np.where(wanted < 0, -1, wanted % channels).reshape(-1, wanted.shape[-1])
    first = rows.max(axis=0)
    mixed = ((rows != first) & (rows >= 0)).any(axis=0)
    if mixed.any():
        kinds = [on_channels(chain, np.array([c])) for c in range(channels)]
        names: dict[Chain, int] = {}
        kind = np.array([names.setdefault(k, len(names)) for k in kinds])
        if len(names) > 1 and ((kind[rows] != kind[first]) & (rows >= 0)).any():
            raise node.fail(
                "brings elements of different scales or constants into one channel (per channel, or by an AveragePool with"
                " padding); put a Quant with one scale before it"
            )
    return narrowed(on_channels(chain, np.maximum(first, 0)))


def moved(graph: GraphBuilder, node: ModelNode, x: Scaled, index: IntArray, fill: Fraction = Fraction(0)) -> Scaled:
    """A tensor of some of x's elements: `index` has its shape (batch axis of 1 first) and positions in x's stream, or -1.

    Where every element is there once nothing moves yet: whoever reads the tensor next may take the order into its weights.
    """
    if not index.size:
        raise node.fail(f"makes a tensor of shape {list(index.shape)}, which holds nothing; repair the model")
    if not index.shape or index.shape[0] != 1:
        raise node.fail(f"its shape {list(index.shape)} mixes the batch axis with others; keep the batch axis first")
    size = graph.values[x.value].size
    if index.size == size and index.min() >= 0 and (np.bincount(index.reshape(-1), minlength=size) == 1).all():
        return replace(x, index=index)
    order = stream_axes(index[0])
    wanted = index[0].transpose(order)
    place = np.arange(wanted.size, dtype=np.int64).reshape(wanted.shape).transpose(np.argsort(order))[None]
    if wanted.ndim == 0:
        wanted, place = wanted.reshape(1), place.reshape(1)
    return arranged(graph, node, x, wanted, place, fill)


def stream_axes(index: IntArray) -> tuple[int, ...]:
    """The order of a tensor's axes, slowest first, that moves its elements least; images stream their channels last."""
    if index.ndim == 3:
        return (1, 2, 0)
    far = [
        float(np.median(np.abs(np.diff(index, axis=axis)))) if n > 1 else np.inf for axis, n in enumerate(index.shape)
    ]
    return tuple(sorted(range(index.ndim), key=lambda axis: -far[axis]))


def view(graph: GraphBuilder, name: str, shape: Shape, origin: str, affine: Affine | None = None) -> Value:
    """The value under another shape of the same stream; `affine` where its new channels' own is known."""
    from broadaxe.ops.view import View

    value = graph.values[name]
    if value.shape == shape:
        return value
    if affine is not None:
        return graph.add(graph.fresh("view"), View(shape), [name], origin, affine)
    if len(value.scale) != 1 or len(value.shift) != 1:
        wide = shape[-1] // value.channels if shape[-1] % value.channels == 0 else 0
        if not wide:
            raise UnsupportedModelError(f"{origin}: a view splits channels of different scales; use one scale")
        affine = Affine(_repeat(value.scale, wide), _repeat(value.shift, wide))
    else:
        affine = value.affine
    return graph.add(graph.fresh("view"), View(shape), [name], origin, affine)


def _repeat(column: PerChannel, times: int) -> PerChannel:
    return column if len(column) == 1 else column * times


def channels_first(height: int, width: int, channels: int) -> IntArray:
    """The index of a (1, channels, height, width) tensor that streams channels-last."""
    stream = np.arange(height * width * channels, dtype=np.int32).reshape(height, width, channels)
    return np.ascontiguousarray(stream.transpose(2, 0, 1)[None])


def printable(text: str | bytes) -> str:
    """Names from a model file as one safe line: nothing that is not printable, at most 80 characters."""
    if isinstance(text, bytes):  # what protobuf gives for a name that is not UTF-8
        text = text.decode(errors="replace")
    shown = "".join(ch if ch.isprintable() else "?" for ch in text)
    return shown if len(shown) <= 80 else shown[:77] + "..."
