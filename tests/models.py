"""QONNX models for tests, their exact evaluation, and the comparison of what the compiler makes of them with it.

`Network` writes a model node by node. `evaluate`, an interpreter that shares no code with the compiler, runs it in rational
arithmetic: constants and whatever stands before the first quantizer in float32, as onnxruntime computes it; everything
behind that quantizer exactly. `check` lowers a model and compares every tensor with it, and with float32 onnxruntime.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from broadaxe.build import _design
from broadaxe.chain import Affine, Clamp
from broadaxe.config import settings
from broadaxe.frontend.batch import symbolic_batch
from broadaxe.frontend.standard import expand_quant, session
from broadaxe.ir import Graph
from broadaxe.lower import Lowered, extract
from broadaxe.reference import run

QONNX = "qonnx.custom_op.general"
f32 = np.float32
MODES = ("ROUND", "HALF_EVEN", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN")


class Network:
    """A QONNX model in the making. Inputs of a node are tensor names, or arrays that become float32 initializers.

    Args:
        shape: of the input `x` without the batch axis.
        batch: first dimension of the input and of the outputs, a number or the name of an open axis.
    """

    def __init__(self, *shape, batch="N", seed=0, opset=20):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.initializers, self.counts = [], [], {}
        self.opset, self.batch = opset, batch
        self.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])]

    def fresh(self, stem):
        self.counts[stem] = self.counts.get(stem, 0) + 1
        return f"{stem}{self.counts[stem]}"

    def constant(self, array, name=None):
        """An initializer: int64 of an array of integers, float32 of anything else."""
        integers = isinstance(array, np.ndarray) and array.dtype == np.int64
        array = array if integers else np.asarray(array, f32)
        name = name or self.fresh("c")
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op_type, *inputs, name=None, domain="", output=None, **attributes):
        """Append a node; returns its output's name."""
        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        name = name or self.fresh(op_type.lower())
        output = output or f"{name}_out"
        self.nodes.append(helper.make_node(op_type, names, [output], name=name, domain=domain, **attributes))
        return output

    def quant(
        self, x, scale=0.25, zero_point=0, bits=4, signed=1, narrow=0, mode="ROUND", name=None, op_type="Quant", **more
    ):
        attributes = {"signed": int(signed), "narrow": int(narrow), "rounding_mode": mode} | more
        arrays = [v if isinstance(v, str) else np.asarray(v, f32) for v in (scale, zero_point, bits)]
        return self.node(op_type, x, *arrays, name=name, domain=QONNX, **attributes)

    def bipolar(self, x, scale=0.5):
        return self.node("BipolarQuant", x, np.asarray(scale, f32), domain=QONNX)

    def weights(self, *shape, scale=0.125, bits=4, **attributes):
        """Random quantized weights that use the whole range of their codes."""
        spread = np.max(scale) * 2.0 ** (bits - 1)
        return self.quant(self.rng.uniform(-spread, spread, shape), scale, bits=bits, **attributes)

    def conv(self, x, shape, bias=None, weight=None, **attributes):
        """Conv with quantized weights of `shape`, (outputs, inputs, height, width)."""
        weight = self.weights(*shape) if weight is None else weight
        return self.node("Conv", x, weight, *([] if bias is None else [bias]), **attributes)

    def depthwise(self, x, channels, kernel=(3, 3), multiplier=1, **attributes):
        """Conv with one input channel a group."""
        return self.conv(x, (channels * multiplier, 1, *kernel), group=channels, **attributes)

    def trunc(self, x, scale, zero_point, *rest, mode="FLOOR", **more):
        """Trunc; `rest` is input and output bits (version 1), or input bits, output scale and bits (version 2)."""
        arrays = [np.asarray(v, f32) for v in (scale, zero_point, *rest)]
        return self.node("Trunc", x, *arrays, domain=QONNX, rounding_mode=mode, **more)

    def norm(self, x, gamma, beta=None, mean=None, variance=None, **attributes):
        """BatchNormalization; what is not given is random."""
        count = len(gamma)
        beta = self.rng.normal(size=count) if beta is None else beta
        mean = self.rng.normal(size=count) if mean is None else mean
        variance = self.rng.uniform(0.5, 2, size=count) if variance is None else variance
        return self.node("BatchNormalization", x, gamma, beta, mean, variance, **attributes)

    def finish(self, *outputs, name="net"):
        infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
        for info in infos:
            info.type.tensor_type.ClearField("shape")
        graph = helper.make_graph(self.nodes, name, self.inputs, infos, self.initializers)
        imports = [helper.make_opsetid("", self.opset), helper.make_opsetid(QONNX, 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=10)


def small_cnn(name="net"):
    """Two convolutions, a pool and a linear layer: something of everything, compiled in a moment."""
    net = Network(2, 6, 6, seed=1)
    y = net.conv(net.quant("x", 1 / 16, bits=4, signed=0), (4, 2, 3, 3), pads=[1, 1, 1, 1])
    y = net.norm(y, [1.0, -0.5, 0.25, 2.0])
    y = net.node("MaxPool", net.quant(net.node("Relu", y), 0.1, bits=3, signed=0), kernel_shape=[2, 2], strides=[2, 2])
    y = net.node("Gemm", net.node("Flatten", y), net.weights(36, 3), [0.5, -1.0, 0.0])
    return net.finish(y, name=name)


# exact evaluation

MOVING = ("DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Resize", "Slice")
MOVING += ("SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Upsample")
LOWEST = Fraction(-(10**12))
exactly = np.frompyfunc(lambda v: Fraction(float(v)), 1, 1)


def evaluate(model, feeds, integer_inputs=()):
    """Every tensor of a model: float32 arrays before the first quantizer, arrays of Fraction behind it.

    Args:
        feeds: inputs by name, batch first.
        integer_inputs: names of inputs that are integers, exact from the start.

    Returns:
        (tensors, scaled): tensors by name, and for each quantizer behind the first one, by its output's name, the exact
        x / scale + zero_point that it rounds. Tensors of operators that have no exact result are left out.
    """
    opset = next(o.version for o in model.opset_import if o.domain == "")
    tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    grids, scaled, constant = {}, {}, set(tensors)
    tensors |= {n: exactly(x).astype(object) if n in integer_inputs else x for n, x in feeds.items()}
    for node in model.graph.node:
        if not all(name in tensors for name in node.input if name):
            continue  # behind an operator without an exact result
        inputs = [tensors[name] if name else None for name in node.input]
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        out = node.output[0]
        if all(name in constant for name in node.input):
            constant.add(out)
        live = any(i is not None and i.dtype == object for i in inputs)
        if node.op_type in ("Quant", "IntQuant", "BipolarQuant"):
            codes, y = _codes(node, inputs, attributes)
            scale, zero = exactly(inputs[1]), exactly(inputs[2]) if len(inputs) > 2 else Fraction(0)
            result = (codes - zero) * scale
            if out in constant:
                grids[out] = result
                result = (f32(codes.astype(np.float64)) - f32(inputs[2] if len(inputs) > 2 else 0)) * inputs[1]
            elif live:
                scaled[out] = y
            tensors[out] = result
        elif node.op_type == "Trunc" and live:
            tensors[out], scaled[out] = _truncated(inputs, attributes)
        elif node.op_type == "Shape":
            tensors[out] = np.array(inputs[0].shape, dtype=np.int64)
        elif not live:
            single = helper.make_model(
                helper.make_graph(
                    [node],
                    "one",
                    [onnx.ValueInfoProto(name=i) for i in node.input if i],
                    [onnx.ValueInfoProto(name=out)],
                ),
                opset_imports=[helper.make_opsetid("", opset)],
            )
            tensors[out] = ReferenceEvaluator(single).run(None, {n: tensors[n] for n in node.input if n})[0]
            if node.op_type in ("Identity", "Transpose") and node.input[0] in grids:
                (grids[out],) = _moved(node, [grids[node.input[0]]], opset)
        elif node.op_type in MOVING:
            tensors |= dict(zip([o for o in node.output if o], _moved(node, inputs, opset), strict=True))
        elif node.op_type in EXACT:
            weights = {1: grids.get(node.input[1])} if node.op_type in LAYERS else {}
            operands = [weights.get(i) if weights.get(i) is not None else _exact(t) for i, t in enumerate(inputs)]
            tensors[out] = EXACT[node.op_type](attributes, *operands)
    return tensors, scaled


def _exact(tensor):
    return tensor if tensor is None or tensor.dtype == object else np.asarray(exactly(tensor), dtype=object)


def _moved(node, inputs, opset):
    """An operator that only moves elements, by where it moves their numbers; 0 is padding. One result for each output."""
    numbers = (np.arange(inputs[0].size) + 1.0).reshape(inputs[0].shape)
    single = onnx.NodeProto()
    single.CopyFrom(node)
    single.input[0] = "numbers"
    feeds = {n: x for n, x in zip(single.input[1:], inputs[1:], strict=True) if n} | {"numbers": numbers}
    fill = Fraction(0)
    if node.op_type == "Pad" and len(inputs) > 2:
        fill, feeds[node.input[2]] = _exact(inputs[2]).item(), np.zeros(())
    graph = helper.make_graph(
        [single],
        "one",
        [onnx.ValueInfoProto(name=i) for i in feeds],
        [onnx.ValueInfoProto(name=o) for o in node.output if o],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    known = np.append(np.array([fill], dtype=object), inputs[0].reshape(-1))
    return [known[np.rint(at).astype(int)] for at in ReferenceEvaluator(model).run(None, feeds)]


def _codes(node, inputs, attributes):
    """Integer codes (as objects) of a quantizer, and what it rounds."""
    x, scale = inputs[0], inputs[1]
    zero = inputs[2] if len(inputs) > 2 else np.asarray(0, f32)
    live = x.dtype == object
    y = x / _exact(scale) + _exact(zero) if live else _exact(f32(f32(x) / scale) + zero)
    bits, signed = int(inputs[3]) if len(inputs) > 3 else 1, attributes.get("signed", 1)
    if bits == 1 and signed:
        return np.where(y >= 0, 1, -1).astype(object), y
    lo, hi = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if attributes.get("narrow", 0):
        lo, hi = (lo + 1, hi) if signed else (lo, hi - 1)
    rounded = np.frompyfunc(ROUND[attributes.get("rounding_mode", b"ROUND").decode()], 1, 1)(y)
    return np.clip(rounded, lo, hi).astype(object), y


def _truncated(inputs, attributes):
    """Trunc in version 1 (five inputs) and 2 (six): its reals, and what its second rounding sees."""
    x, scale, zero = (_exact(tensor) for tensor in inputs[:3])
    first = np.frompyfunc(round, 1, 1)(x / scale + zero)
    second = np.frompyfunc(ROUND[attributes["rounding_mode"].decode()], 1, 1)
    if len(inputs) == 5:
        y = first / Fraction(2) ** int(inputs[3] - inputs[4])
        return (second(y) - zero) * scale, y
    factor = Fraction(2) ** int(np.round(np.log2(inputs[4] / inputs[1])).reshape(-1)[0])
    y, bits = first / factor, int(inputs[5])
    lo, hi = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if attributes.get("signed", 1) else (0, 2**bits - 1)
    return (np.clip(second(y), lo, hi) - zero / factor) * _exact(inputs[4]), y


def _away(y, up_from):
    """Round the magnitude up where its fraction reaches `up_from`, keep the sign."""
    size = abs(y)
    whole = math.floor(size)
    code = whole + (1 if up_from(size - whole) else 0)
    return code if y >= 0 else -code


ROUND = {
    "ROUND": round,  # of a Fraction: half to even
    "HALF_EVEN": round,
    "FLOOR": math.floor,
    "CEIL": math.ceil,
    "UP": lambda y: _away(y, lambda part: part > 0),
    "DOWN": lambda y: _away(y, lambda part: False),
    "HALF_UP": lambda y: _away(y, lambda part: part >= Fraction(1, 2)),
    "HALF_DOWN": lambda y: _away(y, lambda part: part > Fraction(1, 2)),
}


def _matmul(_, a, b):
    """numpy's matmul, which takes no objects in stacks."""
    a, b = (a[None, :] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
    return (a[..., :, :, None] * b[..., None, :, :]).sum(axis=-2)


def _gemm(attributes, a, b, c=None):
    alpha, beta = (Fraction(float(attributes.get(name, 1.0))) for name in ("alpha", "beta"))
    product = alpha * a.dot(b.T if attributes.get("transB", 0) else b)
    return product if c is None else product + beta * c


def _of_images(function):
    """The function of images for rows, too, which are images of height 1."""

    def rows(attributes, x, *rest):
        if x.ndim == 4:
            return function(attributes, x, *rest)
        given = {"pads": lambda v: [0, v[0], 0, v[1]]} | dict.fromkeys(
            ("strides", "dilations", "kernel_shape"), lambda v: [1, *v]
        )
        wide = {k: given.get(k, lambda v: v)(v) for k, v in attributes.items()}
        return function(wide, x[:, :, None], *(r[:, :, None] if r.ndim == 3 else r for r in rest))[:, :, 0]

    return rows


def _windows(attributes, x, kernel, padding):
    """Shifted views of a padded image, one per tap, as the ONNX text defines pads and auto_pad."""
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    auto = attributes.get("auto_pad", b"NOTSET").decode()
    begin, end = np.array(attributes.get("pads", [0, 0, 0, 0])).reshape(2, 2).tolist()
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if auto.startswith("SAME"):
        for axis in range(2):
            size = x.shape[2 + axis]
            total = max((math.ceil(size / strides[axis]) - 1) * strides[axis] + extent[axis] - size, 0)
            extra = (total + 1) // 2
            begin[axis], end[axis] = (total - extra, extra) if auto == "SAME_UPPER" else (extra, total - extra)
    elif auto == "VALID":
        begin, end = [0, 0], [0, 0]
    widths = [(0, 0), (0, 0), (begin[0], end[0]), (begin[1], end[1])]
    x = np.pad(x, widths, constant_values=padding)
    out = [(n - e) // s + 1 for n, e, s in zip(x.shape[2:], extent, strides, strict=True)]
    for kh in range(kernel[0]):
        for kw in range(kernel[1]):
            rows = slice(kh * dilations[0], kh * dilations[0] + (out[0] - 1) * strides[0] + 1, strides[0])
            cols = slice(kw * dilations[1], kw * dilations[1] + (out[1] - 1) * strides[1] + 1, strides[1])
            yield kh, kw, x[:, :, rows, cols]


def _conv(attributes, x, w, bias=None):
    groups = attributes.get("group", 1)
    rows, columns = len(w) // groups, w.shape[1]
    parts = []
    for group in range(groups):
        mine, y = w[group * rows : (group + 1) * rows], 0
        source = x[:, group * columns : (group + 1) * columns]
        for kh, kw, tap in _windows(attributes, source, w.shape[2:], Fraction(0)):
            y = y + np.moveaxis(np.tensordot(mine[:, :, kh, kw], tap, axes=(1, 1)), 0, 1)
        parts.append(y)
    y = np.concatenate(parts, axis=1)
    return y if bias is None else y + bias.reshape(1, -1, 1, 1)


def _max_pool(attributes, x):
    taps = [tap for _, _, tap in _windows(attributes, x, attributes["kernel_shape"], LOWEST)]
    return np.maximum.reduce(taps)


def _average_pool(attributes, x):
    """The mean over the taps inside the image; with count_include_pad over all taps, padding being 0."""
    kernel = attributes["kernel_shape"]
    total = sum(tap for _, _, tap in _windows(attributes, x, kernel, Fraction(0)))
    ones = np.full_like(x, Fraction(1))
    inside = sum(tap for _, _, tap in _windows(attributes, ones, kernel, Fraction(0)))
    return total / (math.prod(kernel) if attributes.get("count_include_pad", 0) else inside)


def _conv_transpose(attributes, x, w, bias=None):
    """Every input adds its kernel to the output, as the ONNX text defines it; explicit pads."""
    rows = x.ndim == 3
    x, w = (x[:, :, None], w[:, :, None]) if rows else (x, w)
    strides, dilations = ([1] * rows + attributes.get(k, [1] * (2 - rows)) for k in ("strides", "dilations"))
    pads, more = attributes.get("pads", [0] * (4 - 2 * rows)), attributes.get("output_padding", [0] * (2 - rows))
    begin, end = ([0] * rows + list(part) for part in (pads[: len(pads) // 2], pads[len(pads) // 2 :]))
    more = [0] * rows + list(more)
    groups, deep, kernel = attributes.get("group", 1), w.shape[1], w.shape[2:]
    size = [
        s * (n - 1) + (k - 1) * d + 1 + m
        for s, n, k, d, m in zip(strides, x.shape[2:], kernel, dilations, more, strict=True)
    ]
    out = np.full((len(x), deep * groups, *size), Fraction(0), dtype=object)
    for c in range(x.shape[1]):
        group = c // (x.shape[1] // groups)
        part = out[:, group * deep : (group + 1) * deep]
        for i, j in np.ndindex(*x.shape[2:]):
            for kh, kw in np.ndindex(*kernel):
                at = (slice(None), slice(None), i * strides[0] + kh * dilations[0], j * strides[1] + kw * dilations[1])
                part[at] += x[:, c, i, j, None] * w[c, :, kh, kw]
    out = out[:, :, begin[0] : size[0] - end[0], begin[1] : size[1] - end[1]]
    out = out if bias is None else out + bias.reshape(1, -1, 1, 1)
    return out[:, :, 0] if rows else out


def _mean(x, axis, keepdims):
    return x.sum(axis=axis, keepdims=keepdims) / math.prod(x.shape[a] for a in axis)


def _reduced(function, attributes, x, axes=None):
    """One number for all elements along the axes, which stand in an attribute or an input."""
    axes = attributes.get("axes") if axes is None else [int(a) for a in axes]
    axes = tuple(axes) if axes is not None else tuple(range(1, x.ndim))
    return function(x, axis=axes, keepdims=bool(attributes.get("keepdims", 1)))


def _batch_norm(attributes, x, gamma, beta, mean, variance):
    """With 1/sqrt to 300 bits, nearer than these tests come to a rounding boundary, and exactly where it is rational."""
    epsilon = Fraction(float(f32(attributes.get("epsilon", 1e-5))))
    shape = (1, -1, *[1] * (x.ndim - 2))

    def reciprocal_root(v):
        v += epsilon
        rational = Fraction(math.isqrt(v.denominator), math.isqrt(v.numerator))
        if rational * rational * v == 1:
            return rational
        return Fraction(math.isqrt((v.denominator << 600) // v.numerator), 1 << 300)

    gain = gamma * np.frompyfunc(reciprocal_root, 1, 1)(variance)
    return (x - mean.reshape(shape)) * gain.reshape(shape) + beta.reshape(shape)


LAYERS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
EXACT = {
    "Add": lambda _, a, b: a + b,
    "Sub": lambda _, a, b: a - b,
    "Mul": lambda _, a, b: a * b,
    "Div": lambda _, a, b: a / b,
    "Neg": lambda _, a: -a,
    "Relu": lambda _, a: np.maximum(a, Fraction(0)),
    "Clip": lambda _, a, lo, hi: np.minimum(np.maximum(a, lo), hi),
    "Max": lambda _, *parts: functools.reduce(np.maximum, parts),
    "Min": lambda _, *parts: functools.reduce(np.minimum, parts),
    "Sum": lambda _, *parts: sum(parts[1:], parts[0]),
    "Mean": lambda _, *parts: sum(parts[1:], parts[0]) / len(parts),
    "MatMul": lambda _, a, b: a.dot(b) if b.ndim < 3 and a.ndim > 1 and a.shape[-1] == b.shape[0] else _matmul(_, a, b),
    "Gemm": _gemm,
    "Conv": _of_images(_conv),
    "MaxPool": _of_images(_max_pool),
    "AveragePool": _of_images(_average_pool),
    "GlobalAveragePool": lambda _, x: _reduced(_mean, {"axes": range(2, x.ndim)}, x),
    "GlobalMaxPool": lambda _, x: _reduced(np.max, {"axes": range(2, x.ndim)}, x),
    "ReduceMean": lambda attributes, *x: _reduced(_mean, attributes, *x),
    "ReduceSum": lambda attributes, *x: _reduced(np.sum, attributes, *x),
    "ReduceMax": lambda attributes, *x: _reduced(np.max, attributes, *x),
    "ConvTranspose": _conv_transpose,
    "Concat": lambda attributes, *parts: np.concatenate(parts, axis=attributes["axis"]),
    "BatchNormalization": _batch_norm,
}


# the compiler against exact evaluation and onnxruntime


@dataclass
class Checked:
    """What was lowered, and in how many codes onnxruntime's float32 rounds otherwise."""

    lowered: Lowered
    graph: Graph
    flips: int
    codes: int

    def ops(self, kind):
        return [node.op for node in self.graph.nodes if isinstance(node.op, kind)]


def check(model, x, *, integers=None, dyadic=False):
    """Lower a model, run the passes and compare all of its tensors with both judges.

    Args:
        x: the input, or a dictionary of inputs.
        integers: types of inputs that are integers.
        dyadic: all numbers are short binary fractions; float32 is exact then, and onnxruntime has to agree.
    """
    feeds = x if isinstance(x, dict) else {"x": x}
    feeds = {name: np.asarray(data, f32) for name, data in feeds.items()}
    lowered, graph, host = designed(model, **(integers or {}))
    ours = host.codes(feeds)
    ours |= run(graph, ours, every_value=True)
    for name, value in graph.values.items():
        lo, hi = value.ends()
        assert (ours[name] >= lo).all(), name
        assert (ours[name] <= hi).all(), name

    exact, scaled = evaluate(model, feeds, integers or ())
    for tensor in lowered.tensors:
        if all(isinstance(step, Affine | Clamp) for step in tensor.chain):
            mine = reals(tensor, graph.values[tensor.value].channels, ours[tensor.value])
            differ = np.argwhere(mine != exact[tensor.tensor])
            assert not len(differ), f"{tensor.tensor}{differ[0]}: {mine[tuple(differ[0])]}"

    standard = symbolic_batch(expand_quant(model))
    quantized = [i.quantized for i in lowered.inputs if i.quantized] + [t for t in exact if t in scaled]
    known = {name: exact[name].astype(np.float64).astype(f32) for name in quantized} | feeds
    flips = 0
    for name in quantized[len([i for i in lowered.inputs if i.quantized]) :]:
        theirs = segment(standard, {n: known[n] for n in known if n != name}, name)
        node = next(node for node in model.graph.node if name in node.output)
        step, bits = exact[node.input[1]].min(), int(exact[node.input[-1]].min())
        flipped = np.abs(theirs - known[name]) > step / 4
        flips += int(flipped.sum())
        assert not (dyadic and flipped.any()), f"{name}{np.argwhere(flipped)[0]}"
        for y in scaled[name][flipped]:
            assert nearest_boundary(y, node, bits) < 1e-5 * (1 + abs(y)), f"{name}: {float(y)}"
    for name, mine in host.reals({v: ours[v] for v in graph.outputs}).items():
        theirs = segment(standard, {n: known[n] for n in known if n != name}, name)
        if name in quantized:
            assert (mine == known[name]).all(), name
        else:
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4, err_msg=name)
    return Checked(lowered, graph, flips, sum(s.size for s in scaled.values()))


def design(model, **options):
    """A compiled model, nothing written; options as in `broadaxe.compile`."""
    return _design(Path("build"), model, settings(**options), "net", lambda _: None)


def designed(model, **types):
    """A model lowered and through all passes: what lowering gave, the graph, and the host's side."""
    build = design(model, inputs=types)
    return build.lowered, build.graph, build.host


def reals(tensor, channels, codes):
    """Exact reals of a model tensor, by the chain that lowering gave it."""
    flat = codes.reshape(len(codes), -1).astype(object) * Fraction(1)
    channel = np.arange(flat.shape[1]) % channels

    def spread(values):
        return np.array(values * channels if len(values) == 1 else values, dtype=object)[channel]

    for step in tensor.chain:
        if isinstance(step, Affine):
            flat = flat * spread(step.scale) + spread(step.shift)
        else:
            flat = flat if step.lo is None else np.maximum(flat, step.lo)
            flat = flat if step.hi is None else np.minimum(flat, step.hi)
    return flat[:, tensor.index.reshape(-1)].reshape(len(codes), *tensor.index.shape[1:])


def segment(standard, known, name):
    """onnxruntime on the part of a model from the nearest known tensors to the one asked for."""
    part = extract(standard, sorted(known), [name])
    used = {i for node in part.graph.node for i in node.input}
    for info in [i for i in part.graph.input if i.name not in used]:
        part.graph.input.remove(info)
    return session(part).run([name], {i.name: known[i.name] for i in part.graph.input})[0]


def nearest_boundary(y, node, bits):
    """Distance of an exact value from the nearest place where its quantizer's code changes."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "BipolarQuant" or (attributes["signed"] and bits == 1):
        return abs(y)
    mode = attributes["rounding_mode"].decode()
    offset = Fraction(1, 2) if mode.endswith(("ROUND", "EVEN", "HALF_UP", "HALF_DOWN")) else Fraction(0)
    return abs(y - offset - round(y - offset))


def samples(*shape, seed=0, step=None, spread=1.0):
    """Seeded normal data; with `step`, multiples of it."""
    x = np.random.default_rng(seed).normal(scale=spread, size=shape)
    return x if step is None else np.round(x / step) * step


def exactly_same(first, second, feeds):
    """Whether two sessions give the same numbers."""
    return all(map(np.array_equal, first.run(None, feeds), second.run(None, feeds)))
