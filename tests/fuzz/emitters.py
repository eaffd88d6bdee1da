"""The operators of random networks: each emitter appends one operator, or a small pattern, to a draft.

An emitter is registered with what it can stand behind; it returns the tensors that it makes, or none where the draw does
not fit after all. It writes the form that the draft's operator set has: attributes before, inputs after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod, sqrt
from typing import Any

import numpy as np
from models import QONNX
from onnx import TensorProto

from .draft import Draft, Wire

Made = list[Wire]
LARGEST = 1000
"""Elements of a tensor that stays small enough for exact arithmetic."""


@dataclass(frozen=True)
class Emitter:
    """`emit` appends to a draft behind a wire that `fits`."""

    name: str
    emit: Callable[[Draft, Wire], Made]
    fits: Callable[[Wire], bool]
    weight: float
    opset: int


EMITTERS: dict[str, Emitter] = {}


def anything(x: Wire) -> bool:
    return True


def image(x: Wire) -> bool:
    return x.image


def vector(x: Wire) -> bool:
    return len(x.shape) <= 2


def tokens(x: Wire) -> bool:
    return len(x.shape) == 2


def emitter(
    name: str, fits: Callable[[Wire], bool] = anything, weight: float = 1.0, opset: int = 9
) -> Callable[[Callable[[Draft, Wire], Made]], Callable[[Draft, Wire], Made]]:
    """Register an emitter; `opset` is the first operator set that has the operator."""

    def register(function: Callable[[Draft, Wire], Made]) -> Callable[[Draft, Wire], Made]:
        EMITTERS[name] = Emitter(name, function, fits, weight, opset)
        return function

    return register


def reals(x: Wire, name: str, **changes: Any) -> Made:
    """x after a step that leaves no codes."""
    return [replace(x, **({"name": name, "codes": False, "grid": None, "positive": False} | changes))]


# windows


def _window(net: Draft, x: Wire, dims: int, dilations: bool = True) -> tuple[list[int], dict[str, Any], list[int]]:
    """A kernel, attributes and output size that fit the last `dims` axes of x."""
    kernel, strides, steps, pads, out = [], [], [], [0] * (2 * dims), []
    auto = net.choose(("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"), (8, 1, 1, 1))
    padded = net.chance(0.5) and auto == "NOTSET"
    for axis, n in enumerate(x.shape[-dims:]):
        if padded:
            pads[axis], pads[axis + dims] = net.whole(0, 2), net.whole(0, 2)
        room = n + pads[axis] + pads[axis + dims]
        k = net.whole(1, min(4, room))
        d = net.choose((1, 2, 3), (8, 2, 1)) if dilations and auto in ("NOTSET", "VALID") else 1
        while (k - 1) * d + 1 > room:
            d -= 1
        s = net.choose((1, 2, 3), (6, 3, 1))
        if auto.startswith("SAME"):  # a stride beyond the kernel would make onnxruntime's padding negative
            s = min(s, k)
        pads[axis], pads[axis + dims] = min(pads[axis], k - 1), min(pads[axis + dims], k - 1)
        room = n + pads[axis] + pads[axis + dims]
        while (k - 1) * d + 1 > room:
            k -= 1
        kernel.append(k)
        strides.append(s)
        steps.append(d)
        out.append(-(-n // s) if auto.startswith("SAME") else (room - (k - 1) * d - 1) // s + 1)
    attributes: dict[str, Any] = {}
    if any(pads):
        attributes["pads"] = pads
    if auto != "NOTSET":
        attributes["auto_pad"] = auto
    if max(strides) > 1 or net.chance(0.3):
        attributes["strides"] = strides
    if max(steps) > 1 or (dilations and net.chance(0.2)):
        attributes["dilations"] = steps
    return kernel, attributes, out


def _conv(net: Draft, x: Wire, dims: int, depthwise: bool) -> Made:
    channels = x.shape[0]
    x = net.codes(x, plain=not depthwise or net.chance(0.5))
    kernel, attributes, out = _window(net, x, dims)
    if depthwise:
        groups, outputs = channels, channels * (2 if channels <= 4 and net.chance(0.2) else 1)
    else:
        groups = net.choose([g for g in range(1, channels + 1) if channels % g == 0], None) if net.chance(0.25) else 1
        outputs = groups * net.whole(1, max(1, min(6, 12 // groups)))
    shape = (outputs, channels // groups, *kernel)
    if prod(shape) * prod(out) > 60_000:
        return []
    if groups > 1 or net.chance(0.1):
        attributes["group"] = groups
    if net.chance(0.4):
        attributes["kernel_shape"] = kernel
    size = x.size * sqrt(prod(shape[1:])) * 0.6
    name = net.node("Conv", x.name, net.weight(shape, 0, groups), *net.bias((outputs,), size / 2), **attributes)
    return reals(x, name, shape=(outputs, *out), size=size)


@emitter("Conv", image, 8)
def conv(net: Draft, x: Wire) -> Made:
    return _conv(net, x, 2, False)


@emitter("Conv depthwise", image, 2)
def depthwise(net: Draft, x: Wire) -> Made:
    return _conv(net, x, 2, True)


@emitter("Conv 1-D", tokens, 2)
def conv_1d(net: Draft, x: Wire) -> Made:
    return _conv(net, x, 1, net.chance(0.2))


@emitter("ConvTranspose", image, 0.7)
def conv_transpose(net: Draft, x: Wire) -> Made:
    channels, height, width = x.shape
    x = net.codes(x, plain=True)
    kernel = [net.whole(1, 3), net.whole(1, 3)]
    strides = [net.whole(1, 2), net.whole(1, 2)]
    groups = channels if net.chance(0.15) else 1
    outputs = net.whole(1, max(1, 6 // groups))
    pads = [net.whole(0, (k - 1) // 2) for k in (*kernel, *kernel)] if net.chance(0.4) else [0] * 4
    extra = [net.whole(0, s - 1) if net.chance(0.3) else 0 for s in strides]
    dims = zip((height, width), strides, kernel, extra, strict=True)
    out = [(n - 1) * s + k - pads[i] - pads[i + 2] + e for i, (n, s, k, e) in enumerate(dims)]
    if min(out) < 1 or prod(out) * outputs * groups > LARGEST:
        return []
    attributes = {"strides": strides} | ({"pads": pads} if any(pads) else {})
    attributes |= {"output_padding": extra} if any(extra) else {}
    attributes |= {"group": groups} if groups > 1 else {}
    weight = net.weight((channels, outputs, *kernel), None)
    size = x.size * sqrt(channels * prod(kernel)) * 0.6
    name = net.node("ConvTranspose", x.name, weight, *net.bias((outputs * groups,), size / 2), **attributes)
    return reals(x, name, shape=(outputs * groups, *out), size=size)


def _ceiling(net: Draft, x: Wire, kernel: list[int], attributes: dict[str, Any]) -> list[int]:
    """The output size with ceil_mode: no window starts in the padding behind the image."""
    out = []
    for axis, (n, k) in enumerate(zip(x.shape[-2:], kernel, strict=True)):
        pads = attributes.get("pads", [0] * 4)
        s, d = attributes.get("strides", [1, 1])[axis], attributes.get("dilations", [1, 1])[axis]
        size = -(-(n + pads[axis] + pads[axis + 2] - (k - 1) * d - 1) // s) + 1
        out.append(size - ((size - 1) * s >= n + pads[axis]))
    return out


@emitter("MaxPool", image, 2)
def max_pool(net: Draft, x: Wire) -> Made:
    kernel, attributes, out = _window(net, x, 2, dilations=net.opset >= 10)
    if net.opset >= 10 and net.chance(0.25) and "auto_pad" not in attributes:
        attributes["ceil_mode"] = 1
        out = _ceiling(net, x, kernel, attributes)
    name = net.node("MaxPool", x.name, kernel_shape=kernel, **attributes)
    return [replace(x, name=name, shape=(x.shape[0], *out))]


@emitter("AveragePool", image, 2)
def average_pool(net: Draft, x: Wire) -> Made:
    x = net.codes(x)
    kernel, attributes, out = _window(net, x, 2, dilations=net.opset >= 19 and net.chance(0.3))
    if net.opset >= 19 and net.chance(0.25) and "auto_pad" not in attributes:
        attributes["ceil_mode"] = 1
        out = _ceiling(net, x, kernel, attributes)
    if net.chance(0.4):
        attributes["count_include_pad"] = 1
    name = net.node("AveragePool", x.name, kernel_shape=kernel, **attributes)
    return reals(x, name, shape=(x.shape[0], *out), positive=x.positive)


@emitter("GlobalAveragePool", image, 1)
def global_average_pool(net: Draft, x: Wire) -> Made:
    x = net.codes(x)
    name = net.node("GlobalAveragePool", x.name)
    return reals(x, name, shape=(x.shape[0], 1, 1), positive=x.positive, size=x.size / 2)


@emitter("GlobalMaxPool", image, 0.7)
def global_max_pool(net: Draft, x: Wire) -> Made:
    x = net.codes(x)
    return [replace(x, name=net.node("GlobalMaxPool", x.name), shape=(x.shape[0], 1, 1))]


@emitter("Reduce", anything, 1.2)
def reduce(net: Draft, x: Wire) -> Made:
    x = net.codes(x)
    op_type = net.choose(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"), (3, 2, 2, 1))
    rank = len(x.shape)
    axes = sorted(net.rng.choice(rank, net.whole(1, rank), replace=False).tolist())
    if x.image and net.chance(0.6):
        axes = [1, 2]
    keep = int(net.chance(0.5) or len(axes) == rank)
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape) if keep or i not in axes)
    since = 13 if op_type == "ReduceSum" else 18
    shown = [a + 1 if net.chance(0.7) else a - rank for a in axes]
    name = net.axes(op_type, x.name, shown, since, keepdims=keep)
    taps = prod(x.shape[a] for a in axes)
    size = x.size * (sqrt(taps) if op_type == "ReduceSum" else 1)
    selects = op_type in ("ReduceMax", "ReduceMin")
    return reals(x, name, shape=shape, size=size, positive=x.positive, codes=selects, grid=x.grid if selects else None)


# products


@emitter("MatMul", vector, 4)
def matmul(net: Draft, x: Wire) -> Made:
    x = net.codes(x, plain=True)
    outputs = net.whole(1, 12)
    size = x.size * sqrt(x.shape[-1]) * 0.6
    name = net.node("MatMul", x.name, net.weight((x.shape[-1], outputs), 1))
    made = reals(x, name, shape=(*x.shape[:-1], outputs), size=size)
    return [*made[:-1], *_added(net, made[-1])] if net.chance(0.4) else made


def _added(net: Draft, x: Wire) -> Made:
    return reals(x, net.node("Add", x.name, net.numbers(x.size / 2)((x.shape[-1],))))


@emitter("Gemm", lambda x: len(x.shape) == 1, 4)
def gemm(net: Draft, x: Wire) -> Made:
    x = net.codes(x, plain=True)
    outputs = net.whole(1, 12)
    turned = net.chance(0.5)
    shape = (outputs, x.shape[0]) if turned else (x.shape[0], outputs)
    size = x.size * sqrt(x.shape[0]) * 0.6
    bias = net.bias(net.choose([(outputs,), (1, outputs), ()]) if net.opset >= 9 else (outputs,), size / 2)
    if not bias and net.opset < 11:
        bias = [net.numbers(size / 2)((outputs,))]
    attributes: dict[str, Any] = {"transB": 1} if turned else {}
    if net.chance(0.25):
        attributes["alpha"] = float(net.numbers()(()))
    if net.chance(0.25):
        attributes["beta"] = float(net.numbers()(()))
    name = net.node("Gemm", x.name, net.weight(shape, 0 if turned else 1), *bias, **attributes)
    return reals(x, name, shape=(outputs,), size=size)


@emitter("MatMul of activations", tokens, 0.8)
def matmul_activations(net: Draft, x: Wire) -> Made:
    x = net.codes(x, plain=True)
    if net.chance(0.6):
        turned = net.node("Transpose", x.name, perm=[0, 2, 1])
        pair, shape, depth = (x.name, turned), (x.shape[0], x.shape[0]), x.shape[1]
    else:
        turned = net.node("Transpose", x.name, perm=[0, 2, 1])
        pair, shape, depth = (turned, x.name), (x.shape[1], x.shape[1]), x.shape[0]
    return reals(x, net.node("MatMul", *pair), shape=shape, size=x.size**2 * sqrt(depth))


@emitter("Mul of activations", anything, 0.8)
def mul_activations(net: Draft, x: Wire) -> Made:
    x = net.codes(x, plain=True)
    y = net.codes(_other(net, x), plain=True)
    name = net.node("Mul", x.name, y.name)
    return reals(x, name, size=x.size * y.size, positive=x.positive and y.positive)


def _other(net: Draft, x: Wire) -> Wire:
    """An earlier tensor of the same shape, or x itself through another quantizer."""
    same = [w for w in net.wires if w.shape == x.shape and w.name != x.name]
    return net.choose(same) if same and net.chance(0.8) else net.quantize(x, plain=True)


# sums


@emitter("Add of activations", anything, 3)
def add_activations(net: Draft, x: Wire) -> Made:
    x = net.codes(x)
    y = net.codes(_other(net, x))
    if x.grid is not None and net.chance(0.6):  # one scale on both sides, or a simple ratio
        ratio = net.choose((1, 1, 2, 0.5, 3))
        signed, bits = net.chance(0.6), net.whole(2, 8)
        name = net.quant(y.name, x.grid.scale * ratio, net.whole(-1, 2), bits, signed)
        y = replace(y, name=name, grid=None)
    pair = (x.name, y.name) if net.chance(0.7) else (y.name, x.name)
    name = net.node("Add" if net.chance(0.75) else "Sub", *pair)
    return reals(x, name, size=max(x.size, y.size) * 1.4)


@emitter("Concat", anything, 1.5)
def concat(net: Draft, x: Wire) -> Made:
    x = net.codes(x, plain=net.chance(0.7))
    axis = 0 if x.image and net.chance(0.75) else net.whole(0, len(x.shape) - 1)
    same = [
        w
        for w in net.wires
        if len(w.shape) == len(x.shape)
        and all(a == b for i, (a, b) in enumerate(zip(w.shape, x.shape, strict=True)) if i != axis)
    ]
    parts = [x, *(net.choose(same) if same else x for _ in range(net.whole(1, 2)))]
    if sum(p.elements for p in parts) > LARGEST:
        return []
    names = [x.name]
    for part in parts[1:]:
        if x.grid is not None and net.chance(0.6):
            g = x.grid
            names.append(net.quant(part.name, g.scale, g.zero_point, g.bits, g.signed))
        else:
            names.append(net.codes(part).name)
    shape = tuple(sum(p.shape[i] for p in parts) if i == axis else n for i, n in enumerate(x.shape))
    shown = axis + 1 if net.chance(0.7) else axis - len(x.shape)
    return [replace(x, name=net.node("Concat", *names, axis=shown), shape=shape, grid=None, positive=False)]


# steps with constants


@emitter("BatchNormalization", lambda x: len(x.shape) != 2, 3)
def batch_normalization(net: Draft, x: Wire) -> Made:
    count = x.shape[0]
    gamma = net.rng.normal(size=count) + (1.0 if net.chance(0.6) else 0.0)
    gamma[net.rng.random(count) < 0.1] = 0.0
    variance = x.size**2 * net.choose((net.rng.uniform(0.2, 2, count), np.full(count, 0.25)))
    attributes: dict[str, Any] = {}
    if net.chance(0.5):
        attributes["epsilon"] = float(net.choose((0.0, 1e-3, 0.5)))
    name = net.norm(x.name, gamma, mean=net.rng.normal(size=count) * x.size / 4, variance=variance, **attributes)
    return reals(x, name, size=2.0)


@emitter("Relu", anything, 4)
def relu(net: Draft, x: Wire) -> Made:
    return reals(x, net.node("Relu", x.name), positive=True)


@emitter("Clip", anything, 1)
def clip(net: Draft, x: Wire) -> Made:
    lo = float(np.float32(-net.rng.uniform(0, 0.8) * x.size)) if net.chance(0.6) else 0.0
    hi = float(np.float32(net.rng.uniform(0.1, 0.8) * x.size))
    ends: dict[str, float] = {}
    if net.chance(0.85):
        ends["min"] = lo
    if net.chance(0.85) or not ends:
        ends["max"] = hi
    if net.opset < 11:
        name = net.node("Clip", x.name, **ends)
    else:
        given = [np.float32(ends[e]) if e in ends else "" for e in ("min", "max")]
        name = net.node("Clip", x.name, *(given if given[1] != "" else given[:1]))
    return reals(x, name, positive=ends.get("min", -1.0) >= 0)


@emitter("Min or Max", anything, 0.4)
def min_max(net: Draft, x: Wire) -> Made:
    operator, bound = net.choose((("Max", -0.3), ("Max", 0.0), ("Min", 0.5)))
    pair = [x.name, np.float32(bound * x.size)]
    return reals(
        x, net.node(operator, *(pair if net.chance(0.7) else pair[::-1])), positive=operator == "Max" and not bound
    )


@emitter("Affine", anything, 4)
def affine(net: Draft, x: Wire) -> Made:
    op_type = net.choose(("Mul", "Add", "Sub", "Div"))
    size = 1.0 if op_type in ("Mul", "Div") else x.size / 2
    constant: Any = net.per_channel(x, net.numbers(size))
    if net.chance(0.1):
        constant = net.quant(constant, net.step(2 * size, 5), 0, 5)
        if op_type == "Div":
            op_type = "Mul"
    pair = [x.name, constant]
    if op_type != "Div" and net.chance(0.3):
        pair = pair[::-1]
    return reals(x, net.node(op_type, *pair), size=x.size * 1.5)


@emitter("Neg", anything, 0.7)
def neg(net: Draft, x: Wire) -> Made:
    return reals(x, net.node("Neg", x.name))


# functions of one number


def _at_most(net: Draft, x: Wire, end: float) -> Wire:
    """x cut off, so that an exponential of it stays small."""
    if net.opset < 11:
        return replace(x, name=net.node("Clip", x.name, max=end))
    return replace(x, name=net.node("Clip", x.name, "", np.float32(end)))


def _function(op_type: str, weight: float = 0.5, opset: int = 9, **ranges: tuple[float, float]) -> None:
    """An emitter of an elementwise function with random attributes."""

    @emitter(op_type, anything, weight, opset)
    def emit(net: Draft, x: Wire) -> Made:
        given = {name: float(np.float32(net.rng.uniform(*ends))) for name, ends in ranges.items()}
        positive = op_type in ("Abs", "Sigmoid", "HardSigmoid", "Exp")
        if op_type == "Exp":
            x = _at_most(net, x, 2.0)
        size = {"Sigmoid": 1, "HardSigmoid": 1, "Tanh": 1, "Erf": 1, "Sign": 1, "Exp": 8}.get(op_type, x.size)
        return reals(x, net.node(op_type, x.name, **given), positive=positive, size=float(size))


_function("LeakyRelu", 1.0, alpha=(0.01, 0.9))
_function("Sigmoid", 0.8)
_function("Tanh", 0.8)
_function("HardSigmoid", 0.6, alpha=(0.1, 0.4), beta=(0.2, 0.6))
_function("HardSwish", 0.6, 14)
_function("Elu", 0.5, alpha=(0.3, 1.5))
_function("Selu", 0.2)
_function("Softplus", 0.2)
_function("Erf", 0.4)
_function("Abs", 0.7)
_function("Sign", 0.4)
_function("Exp", 0.4)


@emitter("Gelu", anything, 0.5, 20)
def gelu(net: Draft, x: Wire) -> Made:
    return reals(x, net.node("Gelu", x.name, **({"approximate": "tanh"} if net.chance(0.3) else {})))


@emitter("PRelu", anything, 0.8)
def prelu(net: Draft, x: Wire) -> Made:
    slope = net.per_channel(x, net.numbers(0.4, signed=net.chance(0.3)))
    return reals(x, net.node("PRelu", x.name, slope))


@emitter("Sqrt", anything, 0.4)
def square_root(net: Draft, x: Wire) -> Made:
    if not x.positive:
        x = reals(x, net.node("Relu", x.name), positive=True)[0]
    return reals(x, net.node("Sqrt", x.name), positive=True, size=sqrt(max(x.size, 1e-6)))


@emitter("Pow", anything, 0.4)
def power(net: Draft, x: Wire) -> Made:
    exponent = net.choose((2.0, 3.0))
    return reals(x, net.node("Pow", x.name, np.float32(exponent)), size=x.size**exponent, positive=exponent == 2.0)


@emitter("MultiThreshold", lambda x: len(x.shape) != 2, 0.7)
def multi_threshold(net: Draft, x: Wire) -> Made:
    steps = net.choose((1, 3, 7))
    rows = x.shape[0] if net.chance(0.6) else 1
    thresholds = np.sort(net.rng.uniform(-x.size, x.size, (rows, steps)), axis=1).astype(np.float32)
    attributes: dict[str, Any] = {"out_dtype": f"UINT{steps.bit_length()}"}
    if net.chance(0.3):
        bias = -float(2 ** (steps.bit_length() - 1))
        attributes |= {"out_scale": 1.0, "out_bias": bias, "out_dtype": f"INT{steps.bit_length()}"}
        if steps == 1:
            attributes |= {"out_scale": 2.0, "out_bias": -1.0, "out_dtype": "BIPOLAR"}
    name = net.node("MultiThreshold", x.name, thresholds, domain=QONNX, **attributes)
    return [replace(x, name=name, codes=True, size=float(steps), grid=None, positive="out_bias" not in attributes)]


@emitter("Trunc", lambda x: x.grid is not None and x.grid.bits > 2 and x.codes, 1)
def trunc(net: Draft, x: Wire) -> Made:
    assert x.grid is not None
    g = x.grid
    drop = net.whole(1, g.bits - 1)
    mode = net.choose(("FLOOR", "ROUND", "CEIL", "HALF_UP"), (3, 2, 1, 1))
    if net.trunc_version == 1:
        name = net.trunc(x.name, g.scale, g.zero_point, g.bits, g.bits - drop, mode=mode)
    else:
        scale = float(np.float32(g.scale * 2.0**drop))
        attributes = {"signed": int(g.signed), "narrow": 0}
        name = net.trunc(x.name, g.scale, g.zero_point, g.bits, scale, g.bits - drop, mode=mode, **attributes)
    return [replace(x, name=name, grid=None, positive=False)]


# moving elements


@emitter("Reshape", anything, 1.5)
def reshape(net: Draft, x: Wire) -> Made:
    n = x.elements
    if x.image and net.chance(0.6):
        shape: tuple[int, ...] = (n,)
    elif x.image:
        shape = (x.shape[0], x.shape[1] * x.shape[2])
    else:
        a = net.choose([d for d in range(1, n + 1) if n % d == 0])
        shape = net.choose(((n,), (a, n // a), (a, n // a, 1), (a, 1, n // a)))
    made = replace(x, shape=shape, grid=x.grid)
    if len(shape) == 1 and net.chance(0.5):
        return [replace(made, name=net.node("Flatten", x.name, **({"axis": 1} if net.chance(0.5) else {})))]
    match net.choose(("zero", "minus", "dynamic", "batch"), (3, 3, 1, 1)):
        case "zero":
            target: Any = net.ints(0, *shape)
        case "minus":
            target = net.ints(-1, *shape)
        case "dynamic":
            size = net.node("Gather", net.node("Shape", x.name), net.ints(0), axis=0)
            target = net.node("Concat", size, net.ints(*shape), axis=0)
        case _:
            target = net.ints(0, *shape[:-1], -1)
    return [replace(made, name=net.node("Reshape", x.name, target))]


@emitter("Unsqueeze and Squeeze", anything, 0.5)
def unsqueeze(net: Draft, x: Wire) -> Made:
    if len(x.shape) < 3:
        at = net.whole(0, len(x.shape))
        name = net.axes("Unsqueeze", x.name, [at + 1], 13)
        return [replace(x, name=name, shape=(*x.shape[:at], 1, *x.shape[at:]))]
    ones = [i for i, n in enumerate(x.shape) if n == 1]
    if not ones or len(ones) == len(x.shape):
        return []
    at = net.choose(ones)
    positive = net.opset < 11 or net.chance(0.5)  # older operator sets count axes from the front alone
    name = net.axes("Squeeze", x.name, [at + 1 if positive else at - len(x.shape)], 13)
    return [replace(x, name=name, shape=(*x.shape[:at], *x.shape[at + 1 :]))]


@emitter("Transpose", lambda x: len(x.shape) > 1, 1)
def transpose(net: Draft, x: Wire) -> Made:
    perm = net.rng.permutation(len(x.shape)).tolist()
    name = net.node("Transpose", x.name, perm=[0, *(p + 1 for p in perm)])
    return [replace(x, name=name, shape=tuple(x.shape[p] for p in perm))]


@emitter("Identity", anything, 0.5)
def identity(net: Draft, x: Wire) -> Made:
    op_type = net.choose(("Identity", "Dropout", "Cast"), (3, 2, 1))
    attributes = {"to": TensorProto.FLOAT} if op_type == "Cast" else {}
    return [replace(x, name=net.node(op_type, x.name, **attributes))]


@emitter("Slice", anything, 1)
def slice_(net: Draft, x: Wire) -> Made:
    axis = net.whole(0, len(x.shape) - 1)
    n = x.shape[axis]
    start = net.whole(0, n - 1)
    stop = net.whole(start + 1, n)
    step = net.choose((1, 2), (4, 1)) if net.opset >= 10 else 1
    shape = (*x.shape[:axis], len(range(start, stop, step)), *x.shape[axis + 1 :])
    first = start if net.chance(0.7) else start - n
    last = stop if stop < n or net.chance(0.5) else 2**31 - 1
    if net.opset < 10:
        name = net.node("Slice", x.name, starts=[first], ends=[last], axes=[axis + 1])
    else:
        more = [net.ints(step)] if step > 1 or net.chance(0.3) else []
        name = net.node("Slice", x.name, net.ints(first), net.ints(last), net.ints(axis + 1), *more)
    return [replace(x, name=name, shape=shape)]


@emitter("Gather", anything, 0.7)
def gather(net: Draft, x: Wire) -> Made:
    axis = net.whole(0, len(x.shape) - 1)
    n = x.shape[axis]
    if len(x.shape) > 1 and net.chance(0.25):
        indices: Any = np.array(net.whole(0, n - 1), dtype=np.int64)
        shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    else:
        indices = net.rng.integers(0, n, net.whole(1, n)).astype(np.int64)
        shape = (*x.shape[:axis], len(indices), *x.shape[axis + 1 :])
    return [replace(x, name=net.node("Gather", x.name, indices, axis=axis + 1), shape=shape)]


@emitter("Split", lambda x: max(x.shape) > 1, 1)
def split(net: Draft, x: Wire) -> Made:
    axis = net.choose([i for i, n in enumerate(x.shape) if n > 1])
    n = x.shape[axis]
    if n % 2 == 0 and net.chance(0.5):
        parts, more = [n // 2, n // 2], {"num_outputs": 2} if net.opset >= 18 else {}
        names = net.outputs("Split", [x.name], 2, axis=axis + 1, **more)
    else:
        cut = net.whole(1, n - 1)
        parts = [cut, n - cut]
        if net.opset < 13:
            names = net.outputs("Split", [x.name], 2, axis=axis + 1, split=parts)
        else:
            names = net.outputs("Split", [x.name, net.ints(*parts)], 2, axis=axis + 1)
    shapes = [(*x.shape[:axis], p, *x.shape[axis + 1 :]) for p in parts]
    return [replace(x, name=name, shape=shape) for name, shape in zip(names, shapes, strict=True)]


@emitter("Pad", lambda x: len(x.shape) > 1, 0.8)
def pad(net: Draft, x: Wire) -> Made:
    x = net.codes(x, plain=net.chance(0.8))
    mode = net.choose(("constant", "edge", "reflect"), (4, 1, 1))
    begin, end = [0] * len(x.shape), [0] * len(x.shape)
    for axis in range(1 if x.image else 0, len(x.shape)):
        most = 2 if mode != "reflect" else min(2, x.shape[axis] - 1)
        begin[axis], end[axis] = net.whole(0, most), net.whole(0, most)
    pads = [0, *begin, 0, *end]
    shape = tuple(n + b + e for n, b, e in zip(x.shape, begin, end, strict=True))
    if prod(shape) > LARGEST:
        return []
    value = 0.0
    if mode == "constant" and x.grid is not None and net.chance(0.3):
        value = float(np.float32(x.grid.scale))
    attributes = {"mode": mode} if mode != "constant" or net.chance(0.5) else {}
    if net.opset < 11:
        name = net.node("Pad", x.name, pads=pads, **attributes, **({"value": value} if value else {}))
    else:
        more = [np.float32(value)] if value or net.chance(0.3) else []
        name = net.node("Pad", x.name, net.ints(*pads), *more, **attributes)
    return [replace(x, name=name, shape=shape, grid=x.grid if not value else None)]


@emitter("Resize", lambda x: x.image and x.elements <= LARGEST // 4, 1)
def resize(net: Draft, x: Wire) -> Made:
    factors = [net.choose((1, 2, 3), (2, 4, 1)), net.choose((1, 2, 3), (2, 4, 1))]
    shape = (x.shape[0], x.shape[1] * factors[0], x.shape[2] * factors[1])
    if prod(shape) > LARGEST:
        return []
    scales = np.array([1, 1, *factors], np.float32)
    if net.opset == 9:
        name = net.node("Upsample", x.name, scales, mode="nearest")
    elif net.opset == 10:
        name = net.node("Resize", x.name, scales, mode="nearest")
    else:
        attributes: dict[str, Any] = {"mode": "nearest"}
        if net.chance(0.7):
            attributes |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        roi: Any = "" if net.opset >= 13 else np.zeros(0, np.float32)
        if net.chance(0.3):
            none: Any = "" if net.opset >= 13 else np.zeros(0, np.float32)
            sizes = net.ints(1, *shape) if isinstance(net.batch, int) else None
            inputs = [roi, scales] if sizes is None else [roi, none, sizes]
        else:
            inputs = [roi, scales]
        name = net.node("Resize", x.name, *inputs, **attributes)
    return [replace(x, name=name, shape=shape)]


@emitter("DepthToSpace", lambda x: x.image and any(x.shape[0] % (s * s) == 0 for s in (2, 3)), 0.8)
def depth_to_space(net: Draft, x: Wire) -> Made:
    size = 2 if x.shape[0] % 4 == 0 else 3
    mode = {"mode": net.choose(("DCR", "CRD"))} if net.opset >= 11 else {}
    shape = (x.shape[0] // size**2, x.shape[1] * size, x.shape[2] * size)
    return [replace(x, name=net.node("DepthToSpace", x.name, blocksize=size, **mode), shape=shape)]


@emitter("SpaceToDepth", lambda x: x.image and x.shape[1] % 2 == 0 and x.shape[2] % 2 == 0, 0.4)
def space_to_depth(net: Draft, x: Wire) -> Made:
    shape = (x.shape[0] * 4, x.shape[1] // 2, x.shape[2] // 2)
    return [replace(x, name=net.node("SpaceToDepth", x.name, blocksize=2), shape=shape)]


# ends: what only an output may be


def arg_max(net: Draft, x: Wire) -> list[str]:
    x = net.codes(x, plain=True)
    axis = net.whole(0, len(x.shape) - 1)
    keep = {"keepdims": int(net.chance(0.5))} if len(x.shape) > 1 else {}
    last = {"select_last_index": 1} if net.opset >= 12 and net.chance(0.15) else {}
    name = net.node("ArgMax" if net.chance(0.8) else "ArgMin", x.name, axis=axis + 1, **keep, **last)
    net.indices.add(name)
    return [name]


def top_k(net: Draft, x: Wire) -> list[str]:
    x = net.codes(x, plain=True)
    k = net.whole(1, x.shape[-1])
    if net.opset < 10:
        names = net.outputs("TopK", [x.name], 2, k=k, axis=len(x.shape))
    else:
        largest = {"largest": int(net.chance(0.8))} if net.opset >= 11 else {}
        names = net.outputs("TopK", [x.name, net.ints(k)], 2, axis=len(x.shape), **largest)
    net.indices.add(names[1])
    return names


def softmax(net: Draft, x: Wire) -> list[str]:
    axis = len(x.shape) if net.opset < 13 or net.chance(0.5) else -1
    return [net.node("Softmax" if net.chance(0.8) else "LogSoftmax", x.name, axis=axis)]


ENDS: dict[str, Callable[[Draft, Wire], list[str]]] = {"ArgMax": arg_max, "TopK": top_k, "Softmax": softmax}
