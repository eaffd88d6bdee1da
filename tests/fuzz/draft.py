"""A random network in the making: its tensors with what is known of each, and how quantizers and weights are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
import onnx
from models import QONNX, Network
from onnx import TensorProto, helper

MODES = ("ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN")
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Grid:
    """One scale and zero point of a whole tensor, and the quantizer's bits."""

    scale: float
    zero_point: float
    bits: int
    signed: bool


@dataclass(frozen=True)
class Wire:
    """A tensor of the network.

    Attributes:
        shape: without the batch axis; (channels, height, width), (tokens, channels) or (channels,).
        codes: a quantizer made its numbers, and they were at most moved since.
        size: magnitude that its numbers reach, roughly.
        positive: no number is below zero.
        grid: where one scale and zero point hold for all of it.
    """

    name: str
    shape: Shape
    codes: bool
    size: float
    positive: bool = False
    grid: Grid | None = None

    @property
    def image(self) -> bool:
        return len(self.shape) == 3

    @property
    def elements(self) -> int:
        return prod(self.shape)


@dataclass
class Case:
    """A network to check: the model, the integer types of its inputs, and where it comes from."""

    model: onnx.ModelProto
    types: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    index: int = 0

    @property
    def name(self) -> str:
        return f"seed{self.seed}-{self.index}"


class Draft(Network):
    """A network with several inputs, and operators in the form of its operator set."""

    def __init__(self, rng: np.random.Generator, opset: int, trunc_version: int, batch: str | int) -> None:
        super().__init__(opset=opset, batch=batch)
        self.rng, self.trunc_version = rng, trunc_version
        self.inputs: list[onnx.ValueInfoProto] = []
        self.types: dict[str, str] = {}
        self.wires: list[Wire] = []
        self.indices: set[str] = set()

    # chance

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def choose(self, options: Sequence[Any], weights: Sequence[float] | None = None) -> Any:
        p = None if weights is None else np.array(weights) / sum(weights)
        return options[int(self.rng.choice(len(options), p=p))]

    def whole(self, lo: int, hi: int) -> int:
        """An integer from lo to hi, both included."""
        return int(self.rng.integers(lo, hi + 1))

    # nodes

    def input(self, shape: Shape, kind: int = TensorProto.FLOAT) -> str:
        name = self.fresh("in")
        self.inputs.append(helper.make_tensor_value_info(name, kind, [self.batch, *shape]))
        return name

    def outputs(self, op_type: str, inputs: Sequence[Any], count: int, **attributes: Any) -> list[str]:
        """Append a node of several outputs; returns their names."""
        first = self.node(op_type, *inputs, **attributes)
        names = [first, *(f"{first}_{i}" for i in range(1, count))]
        self.nodes[-1].output.extend(names[1:])
        return names

    def ints(self, *values: int) -> np.ndarray:
        return np.array(values, dtype=np.int64)

    def axes(self, op_type: str, x: str, axes: Sequence[int], since: int, **attributes: Any) -> str:
        """An operator whose axes are an attribute before operator set `since` and an input from there on."""
        if self.opset < since:
            return self.node(op_type, x, axes=list(axes), **attributes)
        return self.node(op_type, x, self.ints(*axes), **attributes)

    # constants that broadcast

    def per_channel(self, x: Wire, draw: Callable[[Any], np.ndarray]) -> np.ndarray:
        """A constant for all of x, or for each of its channels; `draw` makes an array of a shape."""
        if self.chance(0.4):
            return np.asarray(draw(self.choose([(), (1,)])))
        if x.image:
            shape = (x.shape[0], 1, 1)
            return np.asarray(draw((1, *shape) if self.chance(0.5) else shape))
        return np.asarray(draw((x.shape[-1],)))

    def numbers(self, size: float = 1.0, signed: bool = True) -> Callable[[Any], np.ndarray]:
        """Draws constants: short binary fractions, or any float32."""
        short = self.chance(0.4)

        def draw(shape: Any) -> np.ndarray:
            values = size * self.rng.uniform(0.1, 2.0, shape)
            if signed:
                values = values * self.rng.choice([-1, 1, 1], shape)
            if short:
                step = 2.0 ** np.floor(np.log2(size) - 2)
                values = np.rint(values / step) * step
                values = np.where(values == 0, step, values)
            return np.asarray(values, np.float32)

        return draw

    # quantizers

    def step(self, size: float, bits: int) -> float:
        """A scale that suits numbers of a size: a power of two, one of few significant bits, or any float32."""
        scale = max(size, 1e-6) / 2 ** (bits - 1) * float(np.exp2(self.rng.uniform(-1.5, 1.0)))
        match self.choose(("power", "short", "any"), (3, 2, 3)):
            case "power":
                return float(np.exp2(np.round(np.log2(scale))))
            case "short":
                return float(np.exp2(np.round(np.log2(scale))) * self.choose((3, 5, 7)) / 4)
            case _:
                return float(np.float32(scale))

    def bits(self) -> int:
        return self.whole(1, 8) if self.chance(0.92) else self.whole(9, 12)

    def quantize(self, x: Wire, most: int = 12, plain: bool = False) -> Wire:
        """A Quant or BipolarQuant behind x; `plain` keeps one scale and an integer zero point."""
        if self.chance(0.06):
            scale = self.step(x.size, 2)
            return replace(x, name=self.bipolar(x.name, scale), codes=True, size=scale, positive=False, grid=None)
        bits = min(self.bits(), most)
        signed = not self.chance(0.7 if x.positive else 0.25)
        mode = self.choose(MODES, (8, 1, 2, 1, 1, 1, 1))
        narrow = int(self.chance(0.2) and (bits > 2 or (bits > 1 and signed)))
        scale: Any = self.step(x.size, bits)
        zero: Any = self.choose((0, self.whole(-3, 3), self.rng.uniform(-2, 2)), (6, 3, 0 if plain else 1))
        zero = float(np.float32(np.round(zero * 4) / 4 if self.chance(0.5) else zero))
        grid: Grid | None = Grid(scale, zero, bits, signed)
        scale_array, zero_array = np.asarray(scale, np.float32), np.asarray(zero, np.float32)
        if x.image and not plain and self.chance(0.2):
            spread = self.choose((np.exp2(self.rng.integers(-2, 2, x.shape[0])), self.rng.uniform(0.3, 2, x.shape[0])))
            scale_array, grid = (scale * spread).astype(np.float32).reshape(1, -1, 1, 1), None
            if self.chance(0.3):
                zero_array = self.rng.integers(-2, 3, (1, x.shape[0], 1, 1)).astype(np.float32)
        if bits == 1 and signed:
            grid = None
        name = self.quant(
            x.name,
            scale_array,
            zero_array,
            bits,
            signed,
            narrow,
            mode,
            op_type="IntQuant" if self.chance(0.1) else "Quant",
        )
        positive = (x.positive and signed) or (not signed and float(zero_array.max()) <= 0)
        reach = float(scale_array.max()) * 2.0**bits
        return Wire(name, x.shape, True, min(max(x.size, 1e-6), reach), bool(positive) and bits > 1, grid)

    def codes(self, x: Wire, plain: bool = False) -> Wire:
        """x, quantized if it is not; with `plain`, on one grid whose zero is a code."""
        fits = x.codes and (not plain or (x.grid is not None and x.grid.zero_point == round(x.grid.zero_point)))
        return x if fits else self.quantize(x, plain=plain)

    def weight(self, shape: Shape, channel: int | None, groups: int = 1) -> str:
        """Quantized weights; `channel` is the axis that may have a scale for each index."""
        behind = self.choose(("", "Transpose", "Reshape", "Identity"), (14, 2, 1, 1))
        turned = shape[::-1] if behind == "Transpose" else shape
        at = None if channel is None else (len(shape) - 1 - channel if behind == "Transpose" else channel)
        bits = self.whole(1, 6) if self.chance(0.9) else self.whole(7, 10)
        scale = np.float32(self.step(1.0, bits))
        if at is not None and self.chance(0.35):
            around = [1] * len(turned)
            around[at] = turned[at]
            scale = (scale * np.exp2(self.rng.integers(-2, 2, turned[at])).reshape(around)).astype(np.float32)
        values = self.rng.uniform(-1, 1, turned)
        if self.chance(0.1):
            values[self.rng.random(turned) < 0.7] = 0.0
        source: Any = values
        if self.chance(0.15):
            source = self.node("Mul", values.astype(np.float32), np.float32(1.5))
        if self.chance(0.08):
            name = self.bipolar(source, scale)
        else:
            signed = self.chance(0.85)
            zero = self.whole(-2, 3) if self.chance(0.12) else 0
            mode = self.choose(MODES, (8, 1, 1, 1, 1, 1, 1))
            narrow = self.chance(0.4) and (bits > 2 or (bits > 1 and signed))
            name = self.quant(source, scale, zero, bits, signed, narrow, mode)
        match behind:
            case "Transpose":
                return self.node("Transpose", name, perm=list(range(len(shape)))[::-1])
            case "Reshape":
                return self.node("Reshape", name, self.ints(*shape))
            case "Identity":
                return self.node("Identity", name)
        return name

    def bias(self, shape: Shape, size: float) -> list[Any]:
        """No bias, a float one, or a quantized one."""
        match self.choose(("none", "float", "quantized"), (2, 2, 1)):
            case "none":
                return []
            case "float":
                return [self.numbers(size)(shape)]
            case _:
                return [self.quant(self.numbers(size)(shape), self.step(size, 8), 0, 8)]

    # the end

    def case(self, outputs: Sequence[str], seed: int, index: int) -> Case:
        model = self.finish(*outputs, name="fuzz")
        for info in model.graph.output:
            if info.name in self.indices:
                info.type.tensor_type.elem_type = TensorProto.INT64
        del model.opset_import[:]
        model.opset_import.extend([helper.make_opsetid("", self.opset), helper.make_opsetid(QONNX, self.trunc_version)])
        return Case(model, dict(self.types), seed, index)
