"""Exact values of a QONNX network, from the ONNX and QONNX texts alone: nothing of the compiler is used here.

Every tensor is in one of three states. Before the first quantizer numbers are float32, each operator rounded as IEEE says,
which is what the host computes. Constants too, save that a quantized constant keeps the integers behind it. From the first
quantizer on numbers are exact: integers over one common denominator (`Exact`). Roots and transcendental functions are
rationals `DIGITS` digits off at most, nearer than any float32 constant comes to a rounding boundary that it does not hit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import onnx
from onnx import helper, numpy_helper

DIGITS = 240  # softplus(255) is 255 and 10**-111
QUANTIZERS = ("Quant", "IntQuant", "BipolarQuant")
Array = np.ndarray
f32 = np.float32


@dataclass(frozen=True, eq=False)
class Exact:
    """Rationals num / den: an object array of Python integers over one positive integer."""

    num: Array
    den: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        return self.num.shape

    def over(self, den: int) -> Array:
        """Numerators over another denominator, a multiple of this one."""
        return _objects(self.num * (den // self.den))

    def moved(self, order: Callable[[Array], Array]) -> Exact:
        return Exact(_objects(order(self.num)), self.den)

    def __add__(self, other: Exact) -> Exact:
        den = math.lcm(self.den, other.den)
        return Exact(_objects(self.over(den) + other.over(den)), den)

    def __sub__(self, other: Exact) -> Exact:
        den = math.lcm(self.den, other.den)
        return Exact(_objects(self.over(den) - other.over(den)), den)

    def __mul__(self, other: Exact) -> Exact:
        return Exact(_objects(self.num * other.num), self.den * other.den)

    def __neg__(self) -> Exact:
        return Exact(_objects(-self.num), self.den)

    def inverse(self) -> Exact:
        """1 / x; no number is zero."""
        common = math.lcm(*(abs(int(n)) for n in self.num.reshape(-1)), 1)
        return Exact(_objects(common // self.num * self.den), common)

    def least(self, other: Exact) -> Exact:
        den = math.lcm(self.den, other.den)
        return Exact(_objects(np.minimum(self.over(den), other.over(den))), den)

    def most(self, other: Exact) -> Exact:
        return -((-self).least(-other))

    def where(self, condition: Array, other: Exact) -> Exact:
        """self where the condition holds, other elsewhere."""
        den = math.lcm(self.den, other.den)
        return Exact(_objects(np.where(condition, self.over(den), other.over(den))), den)

    def each(self, function: Callable[[Fraction], Fraction]) -> Exact:
        """A function of every number, computed once for each."""
        known = {int(n): function(Fraction(int(n), self.den)) for n in set(self.num.reshape(-1).tolist())}
        den = math.lcm(*(v.denominator for v in known.values()), 1)
        scaled = {n: v.numerator * (den // v.denominator) for n, v in known.items()}
        return Exact(_objects(np.frompyfunc(scaled.__getitem__, 1, 1)(self.num)), den)

    def floats(self) -> Array:
        """Nearest float64."""
        return np.asarray(np.frompyfunc(lambda n: float(Fraction(int(n), self.den)), 1, 1)(self.num), dtype=np.float64)


def _objects(values: Any) -> Array:
    """An object array even where numpy makes a number of an array without axes."""
    return np.asarray(values, dtype=object)


def lift(values: Any) -> Exact:
    """Floats or integers as they are."""
    array = np.asarray(values)
    ratios = [v.as_integer_ratio() for v in array.reshape(-1).tolist()]
    den = math.lcm(*(d for _, d in ratios), 1)
    flat = np.empty(len(ratios), dtype=object)
    flat[:] = [n * (den // d) for n, d in ratios]
    return Exact(flat.reshape(array.shape), den)


def rational(value: Fraction) -> Exact:
    return Exact(_objects(value.numerator), value.denominator)


ZERO, ONE = rational(Fraction(0)), rational(Fraction(1))


@dataclass(frozen=True, eq=False)
class Constant:
    """A constant in float32 or int64, and the exact numbers behind it where a quantizer made it."""

    array: Array
    behind: Exact | None = None


Tensor = Constant | Array | Exact
"""A constant, float32 before the first quantizer, or exact behind it."""


@dataclass(frozen=True, eq=False)
class Node:
    """A node with its tensors: `exact(i)` and `array(i)` read an input, `get` an attribute."""

    proto: onnx.NodeProto
    inputs: tuple[Tensor | None, ...]
    attributes: Mapping[str, Any]
    opset: int

    def given(self, position: int) -> bool:
        return position < len(self.inputs) and self.inputs[position] is not None

    def exact(self, position: int = 0) -> Exact:
        """An input as exact numbers; a quantized constant counts as float32, save in `weight`."""
        match self.inputs[position]:
            case Exact() as x:
                return x
            case Constant(array):
                return lift(array)
        raise UnknownError

    def weight(self, position: int) -> Exact:
        """The same of an operand of a product, where a quantized constant stands for its integers times its scale."""
        tensor = self.inputs[position]
        return tensor.behind if isinstance(tensor, Constant) and tensor.behind is not None else self.exact(position)

    def array(self, position: int) -> Array:
        """A constant input."""
        tensor = self.inputs[position]
        if not isinstance(tensor, Constant):
            raise UnknownError
        return tensor.array

    def ints(self, position: int) -> list[int]:
        return [int(v) for v in self.array(position).reshape(-1)]

    def get(self, name: str, default: Any = None) -> Any:
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def real(self, name: str, default: float) -> Fraction:
        """A float attribute: ONNX stores float32."""
        return Fraction(float(f32(self.attributes.get(name, default))))

    def axes(self, position: int, rank: int, default: Sequence[int] | None = None) -> list[int]:
        """Axes from an input or an attribute, from 0 up."""
        given = self.get("axes", default)
        if self.given(position):
            given = self.ints(position)
        return [a % rank for a in (range(rank) if given is None else given)]


class UnknownError(Exception):
    """A tensor whose exact value is not defined here: what a float tail makes, and what follows it."""


def evaluate(model: onnx.ModelProto, feeds: Mapping[str, Array], integers: Sequence[str] = ()) -> dict[str, Exact]:
    """Exact tensors of a model by name: all that lie behind a quantizer, or behind an input that holds integers.

    Args:
        feeds: inputs by name, batch first, in their element types.
        integers: inputs that are declared to hold integers.
    """
    versions = {o.domain: o.version for o in model.opset_import}
    state: dict[str, Tensor] = {t.name: Constant(numpy_helper.to_array(t)) for t in model.graph.initializer}
    state |= {name: lift(x) if name in integers else x for name, x in feeds.items()}
    for proto in model.graph.node:
        if not all(name in state for name in proto.input if name):
            continue
        inputs = tuple(state[name] if name else None for name in proto.input)
        attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
        node = Node(proto, inputs, attributes, versions.get(proto.domain, versions.get("", 1)))
        try:
            made = _run(node)
        except UnknownError:
            continue
        state |= dict(zip(proto.output, made if isinstance(made, list) else [made], strict=False))
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, Exact)}


def _run(node: Node) -> Tensor | list[Tensor]:
    op_type, first = node.proto.op_type, node.inputs[0] if node.inputs else None
    if op_type == "Shape":
        shape = first.array.shape if isinstance(first, Constant) else first.shape
        return Constant(np.array(shape, dtype=np.int64))
    live = [t for t in node.inputs if t is not None and not isinstance(t, Constant)]
    if not live:
        return _constant(node)
    if op_type in QUANTIZERS:
        return _quantized(node, first)
    if any(isinstance(t, np.ndarray) for t in live):
        return _float(node)
    if op_type in MOVES:
        if not isinstance(first, Exact):
            raise UnknownError
        parts = MOVES[op_type](node, first.num)
        return (
            [Exact(_objects(p), first.den) for p in parts]
            if isinstance(parts, list)
            else Exact(_objects(parts), first.den)
        )
    if op_type not in EXACT:
        raise UnknownError
    return EXACT[op_type](node)


# quantizers


def _range(node: Node, bits: int) -> tuple[int, int]:
    signed, narrow = node.get("signed", 1), node.get("narrow", 0)
    if signed:
        return -(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1
    return 0, 2**bits - 1 - narrow


def rounded(x: Exact, mode: str) -> Array:
    """Integers: the rounding modes of QONNX; ROUND is half to even, UP and HALF_UP go away from zero."""
    floor = x.num // x.den
    rest = x.num - floor * x.den
    up = floor + (rest > 0)
    below, twice = x.num < 0, 2 * rest
    away = {True: floor, False: up}
    match mode:
        case "FLOOR":
            return _objects(floor)
        case "CEIL":
            return _objects(up)
        case "UP":
            return _objects(np.where(below, away[True], away[False]))
        case "DOWN":
            return _objects(np.where(below, up, floor))
    nearest = np.where(twice > x.den, up, floor)
    match mode:
        case "ROUND" | "HALF_EVEN":
            tie = np.where(floor % 2 == 0, floor, up)
        case "HALF_UP":
            tie = np.where(below, floor, up)
        case "HALF_DOWN":
            tie = np.where(below, up, floor)
        case _:
            raise ValueError(mode)
    return _objects(np.where(twice == x.den, tie, nearest))


def _quantized(node: Node, x: Tensor | None) -> Exact:
    """A quantizer on the model's input in float32, on exact numbers exactly."""
    scale, zero = node.exact(1), ZERO
    if node.proto.op_type == "BipolarQuant":
        bits, signed = 1, 1
    else:
        zero, bits, signed = node.exact(2), int(node.array(3).item()), node.get("signed", 1)
    if isinstance(x, Exact):
        y = x * scale.inverse() + zero
    else:
        assert isinstance(x, np.ndarray)
        with np.errstate(over="ignore"):
            reals = f32(x) / node.array(1)
            y = lift(reals if node.proto.op_type == "BipolarQuant" else reals + node.array(2))
    if bits == 1 and signed:
        codes = _objects(np.where(y.num >= 0, 1, -1))
    else:
        lo, hi = _range(node, bits)
        codes = _objects(np.clip(rounded(y, node.get("rounding_mode", "ROUND")), lo, hi))
    return (Exact(codes) - zero) * scale


def _quantized_constant(node: Node) -> Constant:
    """Float32 step by step, as the qonnx package computes it."""
    x, scale = f32(node.array(0)), node.array(1)
    if node.proto.op_type == "BipolarQuant":
        zero, codes = np.zeros((), f32), np.where(x >= 0, f32(1), f32(-1))
    else:
        zero, bits = node.array(2), int(node.array(3).item())
        y = x / scale + zero
        if bits == 1 and node.get("signed", 1):
            codes = np.where(y >= 0, f32(1), f32(-1))
        else:
            lo, hi = _range(node, bits)
            mode, y = node.get("rounding_mode", "ROUND"), np.clip(y, f32(lo), f32(hi))
            codes = rounded(lift(y), mode).astype(np.float64).astype(f32)
    shifted = f32(codes - zero)
    return Constant(np.asarray(f32(shifted * scale)), lift(shifted) * lift(scale))


def _trunc(node: Node) -> Exact:
    x, scale, zero = node.exact(0), node.exact(1), node.exact(2)
    codes = Exact(rounded(x * scale.inverse() + zero, "ROUND"))
    mode = node.get("rounding_mode", "FLOOR")
    bits_in = int(node.array(3).item())
    if len(node.inputs) == 5:
        factor = Fraction(2) ** (bits_in - int(node.array(4).item()))
        return (Exact(rounded(codes * rational(1 / factor), mode)) - zero) * scale
    ratio = float(node.array(4).item()) / float(node.array(1).item())
    factor = Fraction(2) ** round(math.log2(ratio))
    lo, hi = _range(node, int(node.array(5).item()))
    code = np.clip(rounded(codes * rational(1 / factor), mode), lo, hi)
    return (Exact(_objects(code)) - zero * rational(1 / factor)) * node.exact(4)


# constants and the host's float operators


def _float(node: Node) -> Tensor:
    """An operator before the first quantizer, in float32."""
    tensors = [t.array if isinstance(t, Constant) else t for t in node.inputs]
    if any(isinstance(t, Exact) for t in tensors):
        raise UnknownError
    return np.asarray(_arithmetic(node, tensors))


def _constant(node: Node) -> Tensor | list[Tensor]:
    op_type = node.proto.op_type
    if op_type == "Constant":
        return Constant(numpy_helper.to_array(node.attributes["value"]))
    if op_type in QUANTIZERS:
        return _quantized_constant(node)
    tensors = [t.array if isinstance(t, Constant) else None for t in node.inputs]
    source = node.inputs[0]
    if op_type in MOVES and op_type not in ("Concat", "Gather") and isinstance(source, Constant):
        behind = None if source.behind is None else Exact(MOVES[op_type](node, source.behind.num), source.behind.den)
        return Constant(np.asarray(MOVES[op_type](node, source.array)), behind)
    return Constant(np.asarray(_arithmetic(node, tensors)))


def _arithmetic(node: Node, tensors: Sequence[Any]) -> Array:
    x = tensors[0]
    match node.proto.op_type:
        case "Add":
            return x + tensors[1]
        case "Sub":
            return x - tensors[1]
        case "Mul":
            return x * tensors[1]
        case "Div":
            return x / tensors[1]
        case "Neg":
            return -x
        case "Relu":
            return np.maximum(x, f32(0))
        case "Clip":
            lo = tensors[1] if len(tensors) > 1 else node.get("min")
            hi = tensors[2] if len(tensors) > 2 else node.get("max")
            return np.clip(x, None if lo is None else f32(lo), None if hi is None else f32(hi))
        case "Cast":
            return x.astype(helper.tensor_dtype_to_np_dtype(node.get("to")))
        case "Gather":
            return np.take(x, tensors[1], axis=node.get("axis", 0))
        case "Concat":
            return np.concatenate(tensors, axis=node.get("axis"))
        case op_type if op_type in MOVES:
            return np.asarray(MOVES[op_type](node, x))
    raise UnknownError


# moving elements: what they do to an array of anything


def _reshape(node: Node, x: Array) -> Array:
    shape = node.ints(1)
    if not node.get("allowzero", 0):
        shape = [x.shape[i] if n == 0 else n for i, n in enumerate(shape)]
    return x.reshape(shape)


def _flatten(node: Node, x: Array) -> Array:
    axis = node.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1)


def _squeeze(node: Node, x: Array) -> Array:
    ones = [i for i, n in enumerate(x.shape) if n == 1]
    return np.squeeze(x, tuple(node.axes(1, x.ndim, ones)))


def _unsqueeze(node: Node, x: Array) -> Array:
    axes = node.ints(1) if node.given(1) else node.get("axes")
    return np.expand_dims(x, tuple(axes))


def _slice(node: Node, x: Array) -> Array:
    if node.given(1):
        starts, ends = node.ints(1), node.ints(2)
        axes = node.ints(3) if node.given(3) else list(range(len(starts)))
        steps = node.ints(4) if node.given(4) else [1] * len(starts)
    else:
        starts, ends = node.get("starts"), node.get("ends")
        axes, steps = node.get("axes", list(range(len(starts)))), [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        x = np.take(x, range(*slice(start, end, step).indices(x.shape[axis])), axis=axis)
    return x


def _split(node: Node, x: Array) -> list[Array]:
    axis, parts = node.get("axis", 0), node.get("split")
    if node.given(1):
        parts = node.ints(1)
    if parts is None:
        count = len(node.proto.output)
        size = -(-x.shape[axis] // count)
        parts = [min(size, x.shape[axis] - size * i) for i in range(count)]
    return np.split(x, np.cumsum(parts)[:-1], axis=axis)


def _depth_to_space(node: Node, x: Array) -> Array:
    b, (n, c, h, w) = node.get("blocksize"), x.shape
    if node.get("mode", "DCR") == "DCR":
        return x.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)
    return x.reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, c // b**2, h * b, w * b)


def _space_to_depth(node: Node, x: Array) -> Array:
    b, (n, c, h, w) = node.get("blocksize"), x.shape
    return x.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4).reshape(n, c * b**2, h // b, w // b)


def _resize(node: Node, x: Array) -> Array:
    """Nearest neighbours by whole factors, where all the ways of counting that are used here agree."""
    if node.get("mode", "nearest") != "nearest":
        raise UnknownError
    scales = node.array(1) if node.proto.op_type == "Upsample" or len(node.inputs) == 2 else None
    if scales is None and len(node.inputs) == 4:
        factors = [b // a for a, b in zip(x.shape[1:], node.ints(3)[1:], strict=True)]
    else:
        factors = [round(float(s)) for s in (node.array(2) if scales is None else scales)[1:]]
    for axis, factor in enumerate(factors):
        x = np.repeat(x, factor, axis=axis + 1)
    return x


MOVES: dict[str, Callable[[Node, Array], Any]] = {
    "Identity": lambda node, x: x,
    "Dropout": lambda node, x: x,
    "Cast": lambda node, x: x,
    "Transpose": lambda node, x: x.transpose(node.get("perm", list(range(x.ndim))[::-1])),
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Slice": _slice,
    "Split": _split,
    "Gather": lambda node, x: np.take(x, node.array(1), axis=node.get("axis", 0)),
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Resize": _resize,
    "Upsample": _resize,
}


# arithmetic


def _filled(x: Array, widths: Sequence[tuple[int, int]], fill: int) -> Array:
    """x with a border of one integer; np.pad would make it a numpy number, which overflows."""
    out = np.full([n + a + b for n, (a, b) in zip(x.shape, widths, strict=True)], fill, dtype=object)
    out[tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, widths, strict=True))] = x
    return out


def _windows(node: Node, x: Array, kernel: Sequence[int], fill: Any) -> Any:
    """(position in the kernel, every window's element there) of an image or a row, padded with `fill`.

    Windows that start behind image and leading pad (ceil_mode) are left out; what lies further is `fill` too.
    """
    dims = len(kernel)
    size = x.shape[2:]
    strides = node.get("strides", [1] * dims)
    steps = node.get("dilations", [1] * dims)
    pads = node.get("pads", [0] * (2 * dims))
    auto = node.get("auto_pad", "NOTSET")
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, steps, strict=True)]
    begin, end = list(pads[:dims]), list(pads[dims:])
    if auto != "NOTSET":
        begin, end = [0] * dims, [0] * dims
    if auto.startswith("SAME"):
        for i in range(dims):
            total = max((math.ceil(size[i] / strides[i]) - 1) * strides[i] + extent[i] - size[i], 0)
            small, large = total // 2, total - total // 2
            begin[i], end[i] = (small, large) if auto == "SAME_UPPER" else (large, small)
    out = []
    for i in range(dims):
        room = size[i] + begin[i] + end[i] - extent[i]
        count = (-(-room // strides[i]) if node.get("ceil_mode", 0) else room // strides[i]) + 1
        if node.get("ceil_mode", 0) and (count - 1) * strides[i] >= size[i] + begin[i]:
            count -= 1
        out.append(count)
        end[i] = max(end[i], (count - 1) * strides[i] + extent[i] - size[i] - begin[i])
    x = _filled(x, [(0, 0), (0, 0), *zip(begin, end, strict=True)], fill)
    for place in np.ndindex(*kernel):
        rows = tuple(
            slice(p * d, p * d + (o - 1) * s + 1, s) for p, d, o, s in zip(place, steps, out, strides, strict=True)
        )
        yield place, x[(slice(None), slice(None), *rows)]


def _conv(node: Node) -> Exact:
    x, w = node.exact(0), node.weight(1)
    groups, (outputs, per_group, *kernel) = node.get("group", 1), w.shape
    rows, parts = outputs // groups, []
    for g in range(groups):
        mine, total = w.num[g * rows : (g + 1) * rows], 0
        source = x.num[:, g * per_group : (g + 1) * per_group]
        for place, tap in _windows(node, source, kernel, 0):
            total = total + np.moveaxis(np.tensordot(mine[(slice(None), slice(None), *place)], tap, (1, 1)), 0, 1)
        parts.append(total)
    y = Exact(_objects(np.concatenate(parts, axis=1)), x.den * w.den)
    return _biased(node, y, len(kernel))


def _biased(node: Node, y: Exact, dims: int) -> Exact:
    if not node.given(2):
        return y
    return y + node.exact(2).moved(lambda b: b.reshape(1, -1, *[1] * dims))


def _conv_transpose(node: Node) -> Exact:
    """Every input number adds its multiple of the kernel to the output."""
    if node.get("auto_pad", "NOTSET") != "NOTSET" or node.given(3):
        raise UnknownError
    x, w = node.exact(0), node.weight(1)
    (n, channels, *size), (_, per_group, *kernel) = x.shape, w.shape
    dims, groups = len(kernel), node.get("group", 1)
    strides, steps = node.get("strides", [1] * dims), node.get("dilations", [1] * dims)
    pads, extra = node.get("pads", [0] * (2 * dims)), node.get("output_padding", [0] * dims)
    full = [
        (s - 1) * t + (k - 1) * d + 1 + e for s, t, k, d, e in zip(size, strides, kernel, steps, extra, strict=True)
    ]
    y = np.zeros((n, per_group * groups, *full), dtype=object)
    deep = channels // groups
    for g in range(groups):
        source, mine = x.num[:, g * deep : (g + 1) * deep], w.num[g * deep : (g + 1) * deep]
        for place in np.ndindex(*kernel):
            part = np.moveaxis(np.tensordot(mine[(slice(None), slice(None), *place)], source, (0, 1)), 0, 1)
            rows = tuple(
                slice(p * d, p * d + (s - 1) * t + 1, t) for p, d, s, t in zip(place, steps, size, strides, strict=True)
            )
            y[(slice(None), slice(g * per_group, (g + 1) * per_group), *rows)] += part
    cut = tuple(slice(pads[i], full[i] - pads[i + dims]) for i in range(dims))
    return _biased(node, Exact(y[(slice(None), slice(None), *cut)], x.den * w.den), dims)


def _matmul(node: Node) -> Exact:
    a, b = node.weight(0), node.weight(1)
    return Exact(_objects(np.matmul(a.num, b.num)), a.den * b.den)


def _gemm(node: Node) -> Exact:
    a, b = node.exact(0), node.weight(1)
    a = a.moved(np.transpose) if node.get("transA", 0) else a
    b = b.moved(np.transpose) if node.get("transB", 0) else b
    y = Exact(_objects(a.num.dot(b.num)), a.den * b.den) * rational(node.real("alpha", 1.0))
    return y + node.exact(2) * rational(node.real("beta", 1.0)) if node.given(2) else y


def _max_pool(node: Node) -> Exact:
    x = node.exact(0)
    low = min(x.num.reshape(-1).tolist()) - 1
    return Exact(
        _objects(np.maximum.reduce([t for _, t in _windows(node, x.num, node.get("kernel_shape"), low)])), x.den
    )


def _average_pool(node: Node) -> Exact:
    """The divisor counts taps inside the image, with count_include_pad those in the declared padding too."""
    x, kernel = node.exact(0), node.get("kernel_shape")
    total = sum(t for _, t in _windows(node, x.num, kernel, 0))
    inside = np.full(x.shape, 1, dtype=object)
    count = sum(t for _, t in _windows(node, inside, kernel, 0))
    if node.get("count_include_pad", 0):
        dims, pads = len(kernel), node.get("pads", [0] * (2 * len(kernel)))
        padded = _filled(inside, [(0, 0), (0, 0), *zip(pads[:dims], pads[dims:], strict=True)], 1)
        bare = {**node.attributes, "pads": [0] * (2 * dims)}
        if node.get("auto_pad", "NOTSET").startswith("SAME"):
            count = np.full(count.shape, math.prod(kernel), dtype=object)
        else:
            count = sum(t for _, t in _windows(Node(node.proto, node.inputs, bare, node.opset), padded, kernel, 0))
            if (
                count.shape != total.shape
            ):  # a last window that ceil_mode gives to the bare image and not to the padded one
                count = count[..., : total.shape[-2], : total.shape[-1]]
    return Exact(_objects(total), x.den) * Exact(_objects(count)).inverse()


def _reduced(node: Node, function: Callable[..., Any], mean: bool = False) -> Exact:
    x = node.exact(0)
    axes = tuple(node.axes(1, x.num.ndim))
    y = Exact(_objects(function(x.num, axis=axes, keepdims=bool(node.get("keepdims", 1)))), x.den)
    return y * rational(Fraction(1, math.prod(x.shape[a] for a in axes))) if mean else y


def _pooled(node: Node, function: Callable[..., Any], mean: bool = False) -> Exact:
    x = node.exact(0)
    axes = tuple(range(2, x.num.ndim))
    y = Exact(_objects(function(x.num, axis=axes, keepdims=True)), x.den)
    return y * rational(Fraction(1, math.prod(x.shape[2:]))) if mean else y


def _normalized(node: Node) -> Exact:
    x = node.exact(0)
    epsilon = node.real("epsilon", 1e-5)
    around = (1, -1, *[1] * (x.num.ndim - 2))
    gamma, beta, mean, variance = (node.exact(i).moved(lambda v: v.reshape(around)) for i in range(1, 5))
    return (x - mean) * gamma * variance.each(lambda v: 1 / _root(v + epsilon)) + beta


def _root(v: Fraction) -> Fraction:
    """The square root: exact where it is rational, else DIGITS digits of it and more."""
    exact = Fraction(math.isqrt(v.numerator), math.isqrt(v.denominator))
    return exact if exact * exact == v else Fraction(math.isqrt((v.numerator << 600) // v.denominator), 1 << 300)


def _padded(node: Node) -> Exact:
    x = node.exact(0)
    pads = node.ints(1) if node.given(1) else node.get("pads")
    value = node.exact(2) if node.given(2) else lift(f32(node.get("value", 0.0)))
    rank = x.num.ndim
    if node.given(3):
        axes = [a % rank for a in node.ints(3)]
        full = [0] * (2 * rank)
        for i, a in enumerate(axes):
            full[a], full[a + rank] = pads[i], pads[i + len(axes)]
        pads = full
    widths = list(zip(pads[:rank], pads[rank:], strict=True))
    if any(min(w) < 0 for w in widths):
        raise UnknownError
    mode = node.get("mode", "constant")
    if mode != "constant":
        return Exact(_objects(np.pad(x.num, widths, mode=mode)), x.den)
    den = math.lcm(x.den, value.den)
    (fill,) = value.over(den).reshape(-1).tolist()
    return Exact(_objects(_filled(x.over(den), widths, fill)), den)


def _concat(node: Node) -> Exact:
    parts = [node.exact(i) for i in range(len(node.inputs))]
    den = math.lcm(*(p.den for p in parts))
    return Exact(_objects(np.concatenate([p.over(den) for p in parts], axis=node.get("axis"))), den)


def _clip(node: Node) -> Exact:
    x = node.exact(0)
    ends = [node.exact(i) if node.given(i) else None for i in (1, 2)]
    for i, name in enumerate(("min", "max")):
        if name in node.attributes:
            ends[i] = lift(f32(node.attributes[name]))
    x = x if ends[0] is None else x.most(ends[0])
    return x if ends[1] is None else x.least(ends[1])


def _extreme(node: Node, largest: bool) -> Exact:
    """Index of the first, or the last, of the extreme numbers."""
    x, axis = node.exact(0), node.get("axis", 0)
    values = x.num if largest else -x.num
    if node.get("select_last_index", 0):
        index = values.shape[axis] - 1 - np.argmax(np.flip(values, axis), axis=axis)
    else:
        index = np.argmax(values, axis=axis)
    return Exact(
        np.expand_dims(index, axis).astype(object) if node.get("keepdims", 1) else _objects(index.astype(object))
    )


def _thresholds(node: Node) -> Exact:
    """Thresholds that a number reaches, counted."""
    x, steps = node.exact(0), node.exact(1)
    den = math.lcm(x.den, steps.den)
    values, limits = x.over(den), steps.over(den)
    around = (1, -1, *[1] * (values.ndim - 2))
    count = sum((values >= limits[:, i].reshape(around)).astype(object) for i in range(limits.shape[1]))
    return Exact(_objects(count)) * rational(node.real("out_scale", 1.0)) + rational(node.real("out_bias", 0.0))


# functions of one number


def _function(compute: Callable[[Any, Node], Any]) -> Callable[[Node], Exact]:
    """A transcendental function to DIGITS digits; `compute` works on mpmath numbers."""

    def run(node: Node) -> Exact:
        def value(v: Fraction) -> Fraction:
            with mpmath.workdps(DIGITS + 20):
                y = compute(mpmath.mpf(v.numerator) / v.denominator, node)
                return y if isinstance(y, Fraction) else Fraction(*_ratio(mpmath.mpf(y)))

        return node.exact(0).each(value)

    return run


def _ratio(y: Any) -> tuple[int, int]:
    sign, mantissa, exponent, _ = y._mpf_
    whole = -int(mantissa) if sign else int(mantissa)
    return (whole << exponent, 1) if exponent >= 0 else (whole, 1 << -exponent)


def _real(node: Node, name: str, default: float) -> Any:
    v = node.real(name, default)
    return mpmath.mpf(v.numerator) / v.denominator


def _gelu(x: Any, node: Node) -> Any:
    if node.get("approximate", "none") == "tanh":
        return x / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3)))
    return x / 2 * (1 + mpmath.erf(x / mpmath.sqrt(2)))


def _leaky(node: Node) -> Exact:
    x = node.exact(0)
    slope = node.exact(1) if node.given(1) else rational(node.real("alpha", 0.01))
    if node.given(1) and slope.num.ndim < x.num.ndim:  # unidirectional broadcasting, as for Mul
        slope = slope.moved(lambda s: s.reshape(*[1] * (x.num.ndim - s.ndim), *s.shape))
    return x.where(np.asarray(x.num >= 0, dtype=bool), x * slope)


def _hard_sigmoid(node: Node) -> Exact:
    x = node.exact(0) * rational(node.real("alpha", 0.2)) + rational(node.real("beta", 0.5))
    return x.most(ZERO).least(ONE)


def _hard_swish(node: Node) -> Exact:
    x = node.exact(0)
    return x * (x * rational(Fraction(1, 6)) + rational(Fraction(1, 2))).most(ZERO).least(ONE)


def _power(node: Node) -> Exact:
    (exponent,) = node.array(1).reshape(-1).tolist()
    if exponent != int(exponent) or exponent < 0:
        raise UnknownError
    x = node.exact(0)
    return Exact(_objects(x.num ** int(exponent)), x.den ** int(exponent))


def _pairwise(function: Callable[[Exact, Exact], Exact]) -> Callable[[Node], Exact]:
    def run(node: Node) -> Exact:
        out = node.exact(0)
        for i in range(1, len(node.inputs)):
            out = function(out, node.exact(i))
        return out

    return run


EXACT: dict[str, Callable[[Node], Any]] = {
    "Add": _pairwise(Exact.__add__),
    "Sub": _pairwise(Exact.__sub__),
    "Mul": _pairwise(Exact.__mul__),
    "Div": lambda node: node.exact(0) * node.exact(1).inverse(),
    "Max": _pairwise(Exact.most),
    "Min": _pairwise(Exact.least),
    "Sum": _pairwise(Exact.__add__),
    "Neg": lambda node: -node.exact(0),
    "Abs": lambda node: node.exact(0).most(-node.exact(0)),
    "Sign": lambda node: Exact(_objects(np.sign(node.exact(0).num))),
    "Relu": lambda node: node.exact(0).most(ZERO),
    "Clip": _clip,
    "BatchNormalization": _normalized,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": lambda node: _pooled(node, np.sum, mean=True),
    "GlobalMaxPool": lambda node: _pooled(node, np.max),
    "ReduceMean": lambda node: _reduced(node, np.sum, mean=True),
    "ReduceSum": lambda node: _reduced(node, np.sum),
    "ReduceMax": lambda node: _reduced(node, np.max),
    "ReduceMin": lambda node: _reduced(node, np.min),
    "Pad": _padded,
    "Concat": _concat,
    "Trunc": _trunc,
    "MultiThreshold": _thresholds,
    "ArgMax": lambda node: _extreme(node, True),
    "ArgMin": lambda node: _extreme(node, False),
    "LeakyRelu": _leaky,
    "PRelu": _leaky,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Pow": _power,
    "Sqrt": lambda node: node.exact(0).each(_root),
    "Sigmoid": _function(lambda x, node: 1 / (1 + mpmath.exp(-x))),
    "Tanh": _function(lambda x, node: mpmath.tanh(x)),
    "Erf": _function(lambda x, node: mpmath.erf(x)),
    "Exp": _function(lambda x, node: mpmath.exp(x)),
    "Softplus": _function(lambda x, node: mpmath.log1p(mpmath.exp(x))),
    "Elu": _function(lambda x, node: x if x >= 0 else _real(node, "alpha", 1.0) * mpmath.expm1(x)),
    "Gelu": _function(_gelu),
}
