"""The integer graph: values with proven bounds, nodes whose operators know their own mathematics, and the check of both.

Tensors are channels-last and without a batch axis: shape (height, width, channels), (tokens, channels) or (channels,).
That is the order in which hardware streams them, channels fastest. Every pass is a pure function Graph -> Graph.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import gcd, prod
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from broadaxe.chain import Affine, PerChannel
from broadaxe.errors import GraphError
from broadaxe.hardware import DSP48E1, Dsp, Multiplier, Resources, Trace
from broadaxe.types import Interval, IntType

IntArray: TypeAlias = npt.NDArray[Any]
"""Integer array; the executor uses the narrowest numpy type that holds the value's dtype."""
Shape: TypeAlias = tuple[int, ...]
Bounds: TypeAlias = tuple[Interval, ...]
"""One proven interval per channel."""

WIDEST = 62
"""Widest value in bits; int64 arithmetic on two of them cannot overflow unnoticed."""
WIDEST_WORD = 4096
"""Widest word of a stream in bits."""


@dataclass(frozen=True)
class Value:
    """One integer tensor: real = scale * q + shift, per channel of its last axis (or one pair for all channels)."""

    name: str
    shape: Shape
    dtype: IntType
    bounds: Bounds
    scale: PerChannel = (Fraction(1),)
    shift: PerChannel = (Fraction(0),)

    @property
    def channels(self) -> int:
        return self.shape[-1]

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def hull(self) -> Interval:
        """The interval that holds every channel."""
        return hull(self.bounds)

    @property
    def affine(self) -> Affine:
        """The map from this value's integers to reals."""
        return Affine(self.scale, self.shift)

    def ends(self) -> tuple[IntArray, IntArray]:
        """Lower and upper bounds as int64 arrays, shape (channels,)."""
        return (
            np.array([b.lo for b in self.bounds], dtype=np.int64),
            np.array([b.hi for b in self.bounds], dtype=np.int64),
        )


class OnnxBuilder(Protocol):
    """What an operator needs to render itself in standard ONNX (see `broadaxe.render`)."""

    def node(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return the name of its output."""

    def constant(self, array: npt.NDArray[Any]) -> str:
        """Add an initializer and return its name."""

    def cast(self, name: str, to: npt.DTypeLike) -> str:
        """The tensor in another element type; no node if it has it already."""

    def kind(self, name: str) -> np.dtype[Any]:
        """The element type of a tensor."""


@dataclass(frozen=True)
class Fold:
    """`pe` output channels and `simd` inputs a cycle, and what multiplies them.

    `dsp` is the block that packed products have to fit; the smallest one fits every part.
    """

    pe: int
    simd: int
    multiplier: Multiplier = "lut"
    dsp: Dsp = DSP48E1


@dataclass(frozen=True)
class Lanes:
    """Elements a kernel reads and writes per stream word, and what multiplies where it does."""

    read: int
    written: int
    multiplier: Multiplier = "lut"
    dsp: Dsp = DSP48E1

    @property
    def wider(self) -> int:
        """Elements of the wider word: what tells apart the lanes that a kernel without PE and SIMD can have."""
        return max(self.read, self.written)


class Op(ABC):
    """An operator of the integer graph. Subclasses are frozen dataclasses; one file of `broadaxe.ops` holds each.

    `folds` says whether the operator has a folding of its own (PE x SIMD); others take their lanes from a neighbour.
    `hardware` says whether it becomes a kernel; one that does not only renames a stream. `moves` says that it only moves
    elements: what comes out is what came in. `accumulates` says whether its output is a sum of products, or a
    product, that no quantizer has brought to codes yet. `loadable` says that its constants lie in memories that are
    written at run time, from a stream of parameters that the kernel reads first.
    """

    kind: ClassVar[str]
    folds: ClassVar[bool] = False
    hardware: ClassVar[bool] = True
    accumulates: ClassVar[bool] = False
    moves: ClassVar[bool] = False
    loadable: ClassVar[bool] = False

    @abstractmethod
    def shape(self, *inputs: Value) -> Shape:
        """Shape of the output; raises GraphError where the inputs do not fit."""

    @abstractmethod
    def bounds(self, *inputs: Value) -> Bounds:
        """Proven output interval of each channel, from the input bounds."""

    def dtype(self, *inputs: Value) -> IntType:
        """Type of the output: the narrowest that holds its bounds unless the operator fixes one."""
        return hull(self.bounds(*inputs)).dtype

    @abstractmethod
    def reference(self, *inputs: IntArray) -> IntArray:
        """The exact function, numpy, shape (batch, *shape) in and out."""

    @abstractmethod
    def render(self, builder: OnnxBuilder, inputs: Sequence[str], values: Sequence[Value]) -> str:
        """The exact function in standard ONNX on float tensors that hold integers; returns the output's name."""

    @classmethod
    @abstractmethod
    def examples(cls) -> Iterable[Example]:
        """Small instances, seeded, that the shared contract test runs every way there is."""

    def template_context(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Mapping[str, Any]:
        """What templates/ops/<kind>.cpp.jinja needs: template parameters and read-only memories, built-in integers."""
        return {}

    def parameters(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> IntArray:
        """The words that fill a loadable kernel's memories, in the order in which it writes them: uint64, shape (words,)."""
        return np.zeros(0, dtype=np.uint64)

    @property
    def granularity(self) -> int:
        """A number that a kernel's lanes have to divide, beside the channels it reads and writes; 0 where there is none."""
        return 0

    def variants(self, inputs: Sequence[Value], output: Value) -> Sequence[Lanes]:
        """Every number of lanes that the kernel can have with words of at most 4096 bits; `wider` tells them apart."""
        channels = gcd(self.granularity, output.channels, *(x.channels for x in inputs))
        widest = max(value.dtype.width for value in (*inputs, output))
        return [Lanes(d, d) for d in divisors(channels) if d * widest <= WIDEST_WORD]

    def cycles(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> int:
        """Trips of the kernel's one loop for a frame: its cycles at II = 1, pipeline fill apart."""
        return max(sum(x.size for x in inputs) // lanes.read, output.size // lanes.written)

    def trace(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Trace:
        """In which trips the kernel reads each input and writes; here one word of each a trip."""
        trips = np.arange(output.size // lanes.written, dtype=np.int64)
        return Trace(len(trips), (trips,) * len(inputs), trips)

    def stages(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> int:
        """Pipeline stages between a read and the write that depends on it, at most: an assumption until a tool has scheduled
        the kernel. Twice what reading a stream, a memory and a multiplier takes at usual clocks.
        """
        return 12

    def resources(self, inputs: Sequence[Value], output: Value, lanes: Lanes) -> Resources:
        """What the kernel takes of a device, by the model in `broadaxe.ops.costs`, which states the error; its FIFOs apart."""
        return Resources()

    @property
    def codes_of_any(self) -> Interval | None:
        """What comes out of a quantizer at most, whatever stands before it; None of other operators."""
        return None

    def witnesses(self, inputs: Sequence[Value], channel: int) -> tuple[list[IntArray], list[IntArray]] | None:
        """Inputs (shape of each input value) that attain the lower and the upper bound of an output channel.

        None where the operator does not claim that its bounds are attained.
        """
        return None


@dataclass(frozen=True)
class Example:
    """An operator instance with input values, for the shared contract test; the default folding unless it has its own."""

    label: str
    op: Op
    inputs: tuple[Value, ...]
    fold: Fold | None = None


@dataclass(frozen=True)
class Node:
    """One operator application; `origin` names the model's node it stands for, as `name (Operator)`."""

    name: str
    op: Op
    inputs: tuple[str, ...]
    output: str
    origin: str = ""


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order over named values."""

    name: str
    inputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    values: Mapping[str, Value]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", MappingProxyType(dict(self.values)))

    def inputs_of(self, node: Node) -> tuple[Value, ...]:
        return tuple(self.values[name] for name in node.inputs)

    @cached_property
    def _producers(self) -> dict[str, Node]:
        return {node.output: node for node in self.nodes}

    @cached_property
    def _consumers(self) -> dict[str, tuple[Node, ...]]:
        found: dict[str, tuple[Node, ...]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                found[value] = (*found.get(value, ()), node)
        return found

    def node(self, name: str) -> Node:
        return self._named[name]

    @cached_property
    def _named(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    def producer(self, value: str) -> Node | None:
        """The node that computes a value; None for a graph input."""
        return self._producers.get(value)

    def consumers(self, value: str) -> tuple[Node, ...]:
        return self._consumers.get(value, ())

    def check(self, after: str = "construction") -> None:
        """Raise GraphError, naming the pass, unless every node's shape, bounds and type follow from its inputs."""
        known = set(self.inputs)
        for name in (*self.inputs, *(node.output for node in self.nodes)):
            if name not in self.values:
                raise GraphError(f"after {after}: value {name} is missing from the graph's values; add it")
        for name in self.inputs:
            _check_value(self.values[name], f"after {after}: input {name}")
        for node in self.nodes:
            where = f"after {after}: {node.name} ({node.op.kind})"
            missing = [name for name in node.inputs if name not in known]
            if missing:
                raise GraphError(f"{where}: reads {missing[0]} before it is computed; order the nodes")
            if node.output in known:
                raise GraphError(f"{where}: writes {node.output}, which is written already; rename it")
            value, inputs = self.values[node.output], self.inputs_of(node)
            with _naming(where, node.op):
                shape = node.op.shape(*inputs)
            if shape != value.shape:
                raise GraphError(f"{where}: shape is {value.shape}, its inputs give {shape}; infer it again")
            _check_bounds_length(value, where)
            with _naming(where, node.op):
                bounds = node.op.bounds(*inputs)
            for channel, (proven, stored) in enumerate(zip(bounds, value.bounds, strict=True)):
                if proven not in stored:
                    raise GraphError(
                        f"{where}: channel {channel} is bounded by {stored}, its inputs allow {proven}; infer it again"
                    )
            _check_value(value, where)
            known.add(node.output)
        for name in self.outputs:
            if name not in known:
                raise GraphError(f"after {after}: output {name} is never computed; remove it")


@contextmanager
def _naming(where: str, op: Op) -> Iterator[None]:
    """What an operator refuses, with its node."""
    try:
        yield
    except GraphError as error:
        raise GraphError(f"{where}: {str(error).removeprefix(f'{op.kind}: ')}") from None


def _check_bounds_length(value: Value, where: str) -> None:
    if len(value.bounds) != value.channels:
        raise GraphError(f"{where}: {len(value.bounds)} bounds for {value.channels} channels; give one each")


def _check_value(value: Value, where: str) -> None:
    _check_bounds_length(value, where)
    if value.hull not in value.dtype.range:
        raise GraphError(f"{where}: bounds {value.hull} do not fit {value.dtype}; widen the type")
    if value.dtype.width > WIDEST:
        raise GraphError(f"{where}: {value.dtype} is wider than {WIDEST} bits; quantize its inputs more coarsely")
    for label, column in (("scale", value.scale), ("shift", value.shift)):
        if len(column) not in (1, value.channels):
            raise GraphError(f"{where}: {len(column)} entries of {label} for {value.channels} channels; give one each")


def hull(bounds: Bounds) -> Interval:
    return Interval(min(b.lo for b in bounds), max(b.hi for b in bounds))


def infer(name: str, op: Op, inputs: Sequence[Value], affine: Affine | None = None) -> Value:
    """The value an operator computes, typed and bounded by its own rules."""
    value = Value(name, op.shape(*inputs), op.dtype(*inputs), op.bounds(*inputs))
    return value if affine is None else replace(value, scale=affine.scale, shift=affine.shift)


def carrier(dtype: IntType) -> np.dtype[Any]:
    """The narrowest numpy integer type that holds an integer type."""
    for width in (8, 16, 32, 64):
        if dtype.width <= width:
            return np.dtype(f"{'int' if dtype.signed else 'uint'}{width}")
    raise GraphError(f"type {dtype}: is wider than 64 bits; quantize its inputs more coarsely")


def divisors(n: int) -> list[int]:
    """Divisors of a positive integer, ascending."""
    return [d for d in range(1, n + 1) if n % d == 0]


def constant_array(values: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> IntArray:
    """A read-only array for a frozen dataclass."""
    array = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array
