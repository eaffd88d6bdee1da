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

from broadaxe.chain import Affine, Chain, PerChannel, Step, direction, spread, then
from broadaxe.errors import UnsupportedModelError
from broadaxe.ir import Graph, IntArray, Node, Op, Shape, Value, infer

Array: TypeAlias = npt.NDArray[Any]
MAX_ELEMENTS = 1 << 27
"""Elements of a tensor: more is a mistake, or an attack on memory."""
MAX_CHANNELS = 1 << 20
"""Elements of a vector, and channels of an image: each has bounds of its own."""
MAX_SCALES = 1 << 18
"""Channels that may have a rational of their own."""
MAX_PAD = 1 << 16


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

    @property
    def where(self) -> str:
        return f"{self.name} ({self.op_type})"

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


@dataclass
class GraphBuilder:
    """The integer graph under construction."""

    name: str
    inputs: list[str] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
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
        raise node.fail(f"its {role} of shape {values.shape} does not broadcast to {x.shape}") from None
    channels = graph.values[x.value].channels
    if channels > MAX_SCALES:
        raise node.fail(f"its input has {channels} channels; at most {MAX_SCALES} can be scaled")
    stream = np.empty(full.size, dtype=np.float64)
    stream[x.index.reshape(-1)] = full.reshape(-1)
    rows = stream.reshape(-1, channels)
    if (rows != rows[0]).any():
        raise node.fail(f"its {role} varies within a channel; give one value per channel or per tensor")
    return fractions(rows[0])


def along_channels(x: Scaled, values: Array) -> Array:
    """A vector of the model's channels (axis 1), shaped to broadcast against x."""
    return values.reshape(1, -1, *[1] * (len(x.shape) - 2))


def extend(graph: GraphBuilder, node: ModelNode, x: Scaled, step: Step) -> Scaled:
    """x followed by one more monotone step."""
    if x.pools:
        signs = step.direction()
        if any(sign < 0 for sign in signs):
            raise node.fail(
                "turns values round after a MaxPool that has no Quant before it; put a Quant before the pool"
            )
    return replace(x, chain=then(x.chain, step))


def integers(graph: GraphBuilder, node: ModelNode, x: Scaled, depthwise: bool = False) -> Affine:
    """The (scale, shift) that turns x's integers into reals; fails where x is not a quantized tensor.

    The scale has to be one for all channels, unless the operator is depthwise and never adds channels.
    """
    (first, *rest) = x.chain
    if rest or x.pools or not isinstance(first, Affine):
        raise node.fail("its input is not quantized; put a Quant between it and the operator before it")
    if _is_accumulator(graph, x.value):
        raise node.fail("its input is not quantized; put a Quant between it and the operator before it")
    if len(set(first.scale)) == 1:
        first = Affine(first.scale[:1], first.shift)
    if len(first.scale) != 1 and not depthwise:
        raise node.fail("its input has a scale per channel, which a sum over channels cannot take out; use one scale")
    return first


def _is_accumulator(graph: GraphBuilder, value: str) -> bool:
    """Whether products make the value that no quantizer follows; operators that only move integers are looked through."""
    makers = {node.output: node for node in graph.nodes}
    while value in makers and not makers[value].op.accumulates and not makers[value].op.hardware:
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


def zero_codes(node: ModelNode, x: Affine) -> tuple[int, ...]:
    """The integers whose real value is exactly 0, per channel or one for all."""
    scale, shift = spread(x.scale, x.shift)
    codes = [-t / s for s, t in zip(scale, shift, strict=True)]
    if any(code.denominator != 1 for code in codes):
        raise node.fail(
            f"pads with zero, which its input cannot represent (code {codes[0]}); use a quantizer with an integer"
            " zero point, or pads of 0"
        )
    return tuple(int(code) for code in codes)


def per_tap(affine: Affine, kernel: tuple[int, int]) -> Affine:
    """The affine map of an image for the patches of its sliding window."""
    taps = kernel[0] * kernel[1]
    return Affine(_repeat(affine.scale, taps), _repeat(affine.shift, taps))


def per_image_channel(graph: GraphBuilder, node: ModelNode, x: Scaled, channels: int) -> None:
    """Fail where x's constants vary within a channel of its image: nothing may be chosen or joined across positions then."""
    if graph.values[x.value].channels != channels:
        raise node.fail("its input has constants per position (an AveragePool with padding); put a Quant in between")


def rises(x: Scaled, channels: int) -> bool:
    """Whether x's reals grow with its integers in every channel."""
    return all(sign > 0 for sign in direction(x.chain, channels))


def image(graph: GraphBuilder, node: ModelNode, x: Scaled) -> Value:
    """The value under a channels-last image shape; x's tensor is (1, channels, height, width)."""
    if len(x.shape) != 4:
        raise node.fail(
            f"its input has shape {x.shape}; only 2-D images, (batch, channels, height, width), are supported"
        )
    _, channels, height, width = x.shape
    if not np.array_equal(x.index, channels_first(height, width, channels)):
        raise node.fail(
            "its input would have to be reordered in memory first; remove the Transpose or Reshape before it"
        )
    return view(graph, x.value, (height, width, channels), node.where)


def arrange(graph: GraphBuilder, node: ModelNode, x: Scaled, wanted: IntArray) -> Value:
    """A value of shape `wanted.shape` whose stream holds the elements of x's stream at `wanted`, in that order.

    Args:
        x: a tensor without pools that wait.
        wanted: positions in x's stream, an element's channel last; any may repeat or be left out.

    Returns:
        x's own value under a view where `wanted` only counts up, else one that a Rearrange node makes. Its scale and shift
        are those of x's first step, by channel.
    """
    if wanted.size == graph.values[x.value].size and (wanted.reshape(-1) == np.arange(wanted.size)).all():
        return view(graph, x.value, wanted.shape, node.where)
    from broadaxe.ops.joining import by_channel
    from broadaxe.ops.rearrange import Rearrange

    return graph.add(
        graph.fresh("rearrange"), Rearrange.of(wanted), [x.value], node.where, by_channel(graph, x, wanted)
    )


def view(graph: GraphBuilder, name: str, shape: Shape, origin: str) -> Value:
    """The value under another shape of the same stream."""
    from broadaxe.ops.view import View

    value = graph.values[name]
    if value.shape == shape:
        return value
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


def pair(node: ModelNode, values: Any, role: str) -> tuple[int, int]:
    """Two integers of an attribute for height and width."""
    if not isinstance(values, list | tuple) or not all(isinstance(v, int) for v in values):
        raise node.fail(f"its {role} {values!r} are not a list of integers; repair the model")
    if len(values) != 2:
        raise node.fail(f"its {role} {list(values)} is not two-dimensional; only 2-D is supported")
    if min(values) < 1:
        raise node.fail(f"its {role} {list(values)} are not numbers from 1 up; repair the model")
    return values[0], values[1]


def _fits(
    node: ModelNode, padded: tuple[int, int], size: tuple[int, int], kernel: tuple[int, int], dilation: tuple[int, int]
) -> None:
    if any((k - 1) * d + 1 > n for n, k, d in zip(padded, kernel, dilation, strict=True)):
        raise node.fail(
            f"its kernel {list(kernel)} does not fit its input of {list(size)}; pad it or use a smaller kernel"
        )


def window_pads(
    node: ModelNode, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) from pads and auto_pad."""
    auto = node.attribute("auto_pad", "NOTSET")
    if auto in ("NOTSET", "VALID"):
        pads = node.attribute("pads", [0, 0, 0, 0]) if auto == "NOTSET" else [0, 0, 0, 0]
        if len(pads) != 4 or min(pads) < 0:
            raise node.fail(f"its pads {list(pads)} are not four numbers from 0 up; only those are supported")
        if max(pads) > MAX_PAD:
            raise node.fail(f"its pads {list(pads)} are above {MAX_PAD}; use smaller ones")
        _fits(node, (size[0] + pads[0] + pads[2], size[1] + pads[1] + pads[3]), size, kernel, dilation)
        return int(pads[0]), int(pads[1]), int(pads[2]), int(pads[3])
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise node.fail(f"its auto_pad {auto!r} is unknown; use explicit pads")
    before, after = [], []
    for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        total = max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
        small, large = total // 2, total - total // 2
        before.append(small if auto == "SAME_UPPER" else large)
        after.append(large if auto == "SAME_UPPER" else small)
    if max(*before, *after) > MAX_PAD:
        raise node.fail(f"its auto_pad asks for pads of {max(*before, *after)}; at most {MAX_PAD} are supported")
    return before[0], before[1], after[0], after[1]


def printable(text: str | bytes) -> str:
    """Names from a model file as one safe line: nothing that is not printable, at most 80 characters."""
    if isinstance(text, bytes):  # what protobuf gives for a name that is not UTF-8
        text = text.decode(errors="replace")
    shown = "".join(ch if ch.isprintable() else "?" for ch in text)
    return shown if len(shown) <= 80 else shown[:77] + "..."
