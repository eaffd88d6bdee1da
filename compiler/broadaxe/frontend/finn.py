"""FINN's lowered and hardware operators -> the QONNX and standard ONNX operators that they stand for.

    MVAU, StreamingFCLayer     MatMul, then MultiThreshold unless noActivation
    VVAU                       depthwise Conv, then MultiThreshold unless noActivation
    XnorPopcountMatMul         sum_i [x_i = w_i] = sum_i (2 w_i - 1) x_i + sum_i (1 - w_i) of {0, 1}; of {-1, 1}: (x w + K) / 2
    Im2Col and a product       Conv between Transposes: these tensors are channels-last
    Pool, MaxPoolNHWC ...      the pool between Transposes
    Thresholding               MultiThreshold on the last axis
    QuantAvgPool2d             sums, rounded down to multiples of a power of two
    FIFOs, width converters    Identity

Folding (PE, SIMD), memories and declared accumulators change no number. The node that multiplies keeps the name of the one it
stands for, and every tensor that remains keeps its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from broadaxe.errors import UnsupportedModelError
from broadaxe.frontend.annotations import KEY, annotated, datatype

Array = npt.NDArray[Any]
GENERAL = ("qonnx.custom_op.general", "finn.custom_op.general")
HARDWARE = ("finn.custom_op.fpgadataflow", "finn.custom_op.fpgadataflow.hls", "finn.custom_op.fpgadataflow.rtl")
CHANNELS_LAST = "qonnx.custom_op.channels_last"
SUFFIXES = ("_hls", "_rtl", "_Batch")
FIRST, LAST = [0, 3, 1, 2], [0, 2, 3, 1]
"""Permutations to channels first, and back."""
BEHIND_LAYOUT = {2: "NC", 3: "NWC", 4: "NHWC"}
"""Layouts with the channels on the last axis, by rank."""


def qonnx_from_finn(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without FINN's own operators; one that has none is returned as it is.

    Raises:
        UnsupportedModelError: names the node that no QONNX operator stands for, why, and what would help.
    """
    if not any(_converter(node) or node.domain in HARDWARE for node in model.graph.node):
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _Conversion(result).run()
    return result


@dataclass(frozen=True)
class Patches:
    """An image tensor, channels-last, whose patches a product or a pool reads."""

    image: str
    origin: str
    pads: tuple[int, ...] = (0, 0, 0, 0)
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = (1, 1)
    dilations: tuple[int, ...] = (1, 1)
    pad_value: float = 0
    depthwise: bool = False


class _Node:
    """A node of the model with its attributes."""

    def __init__(self, proto: onnx.NodeProto) -> None:
        self.proto = proto
        self.name = proto.name or (proto.output[0] if proto.output else "unnamed")
        self.attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}

    @property
    def where(self) -> str:
        shown = "".join(ch if ch.isprintable() else "?" for ch in f"{self.name} ({self.proto.op_type})")
        return shown if len(shown) <= 120 else f"{shown[:117]}..."

    def fail(self, problem: str) -> UnsupportedModelError:
        return UnsupportedModelError(f"{self.where}: {problem}")

    def text(self, name: str, default: str = "") -> str:
        value = self.attributes.get(name, default)
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

    def _shown(self, name: str) -> str:
        value = self.attributes.get(name, "missing")
        return repr(self.text(name)) if isinstance(value, bytes) else str(value)

    def number(self, name: str, default: int | None = None) -> int:
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise self.fail(f"its attribute {name} is {self._shown(name)}; a whole number is needed")
        return value

    def numbers(self, name: str, count: int | None = None, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """A list of integers; a single one stands for all of them."""
        value = self.attributes.get(name, default)
        value = [value] * (count or 1) if isinstance(value, int) else value
        if not isinstance(value, list | tuple) or not all(isinstance(v, int) for v in value):
            raise self.fail(f"its attribute {name} is {self._shown(name)}; a list of whole numbers is needed")
        if count is not None and len(value) != count:
            raise self.fail(f"its attribute {name} is {list(value)}; {count} numbers are needed")
        return tuple(value)


class _Conversion:
    """Writes the nodes anew, in order. Patches are kept back until a product or a pool reads them."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.constants = {t.name: t for t in self.graph.initializer}
        self.declared = annotated(model)
        self.shapes = {
            i.name: tuple(int(d.dim_value) for d in i.type.tensor_type.shape.dim)
            for i in (*self.graph.input, *self.graph.value_info, *self.graph.output)
            if i.type.tensor_type.HasField("shape")
        }
        self.names = {name for node in self.graph.node for name in (*node.input, *node.output)} | set(self.constants)
        self.patches: dict[str, Patches] = {}
        self.nodes: list[onnx.NodeProto] = []

    def run(self) -> None:
        for proto in self.graph.node:
            node, convert = _Node(proto), _converter(proto)
            if proto.op_type == "MatMul" and not proto.domain and self.patches.keys() & set(proto.input[:1]):
                convert = _matmul
            if convert is None and proto.domain in HARDWARE:
                raise node.fail(
                    f"FINN's operator {_base(proto)[:40]} is not supported; lower it to standard ONNX before the export"
                )
            held = [self.patches[name] for name in proto.input if name in self.patches]
            if held and (convert is None or convert not in ABSORBING):
                raise UnsupportedModelError(
                    f"{held[0].origin}: is not read by a product, a pool or a sliding window alone; put one behind it"
                )
            if convert is None:
                self.nodes.append(proto)
            else:
                try:
                    convert(self, node)
                except (IndexError, KeyError, ValueError) as error:
                    raise node.fail(
                        f"has inputs or attributes that do not fit it ({type(error).__name__}); repair the model"
                    ) from None
        for info in self.graph.output:
            if info.name in self.patches:
                raise UnsupportedModelError(
                    f"{self.patches[info.name].origin}: nothing reads it; end the network before it"
                )
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in self.nodes]
        del self.graph.node[:]
        self.graph.node.extend(nodes)

    # what conversions are made of

    def emit(
        self,
        op_type: str,
        inputs: Sequence[str],
        output: str | None = None,
        *,
        name: str = "",
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """Append a node; returns the name of its output."""
        made: str = output or self.fresh(f"{inputs[0]}/{op_type}")
        self.nodes.append(helper.make_node(op_type, inputs, [made], name or made, domain=domain, **attributes))
        return made

    def fresh(self, stem: str) -> str:
        name, count = stem, 1
        while name in self.names:
            count += 1
            name = f"{stem}_{count}"
        self.names.add(name)
        return name

    def store(self, array: Array, stem: str) -> str:
        """A new initializer: int64 of integers, float32 of anything else."""
        name = self.fresh(stem)
        kind = array.dtype if array.dtype == np.int64 else np.float32
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array, dtype=kind), name))
        return name

    def constant(self, node: _Node, position: int, role: str) -> Array:
        names = node.proto.input
        if position >= len(names) or names[position] not in self.constants:
            raise node.fail(f"its {role} are not stored in the model; only constants can be compiled into hardware")
        return numpy_helper.to_array(self.constants[names[position]])

    def input(self, node: _Node, shape: Sequence[int]) -> str:
        """The first input under a shape that holds as many elements."""
        name = node.proto.input[0]
        found = self.shapes.get(name)
        if found is None or found[1:] == tuple(shape[1:]):
            return str(name)
        if prod(found[1:]) != prod(shape[1:]):
            raise node.fail(f"its input has shape {list(found)}, not {list(shape)}; folded shapes are not supported")
        return self.emit("Reshape", [name, self.store(np.array(shape, dtype=np.int64), f"{node.name}/shape")])

    def weights(self, node: _Node, array: Array) -> str:
        """The weights of a node in another order, with the type that they are declared to have, if it holds them."""
        name = self.store(array, f"{node.name}/weights")
        declared = datatype(node.text("weightDataType")) or self.declared.get(node.proto.input[1])
        if declared is not None and not declared.refused(array).size:
            entry = onnx.StringStringEntryProto(key=KEY, value=declared.name)
            self.graph.quantization_annotation.add(tensor_name=name, quant_parameter_tensor_names=[entry])
        return name

    def product(self, node: _Node, weights: Array, x: str, output: str | None = None) -> str:
        """x times weights of shape (inputs, outputs), or a convolution where x are patches."""
        held = self.patches.get(x)
        if held is None:
            return self.emit("MatMul", [x, self.weights(node, weights)], output, name=node.name)
        depth, outputs = weights.shape
        if not held.kernel or depth % prod(held.kernel):
            raise node.fail(
                f"its {depth} weights per output do not fit patches of {list(held.kernel)}; repair the model"
            )
        channels = depth // prod(held.kernel)
        kernels = weights.reshape(*held.kernel, channels, outputs).transpose(3, 2, 0, 1)
        own = np.eye(channels, dtype=bool)[:, :, None, None]
        if held.depthwise and outputs == channels and not kernels[~np.broadcast_to(own, kernels.shape)].any():
            return self.convolution(node, held, kernels[range(channels), range(channels)][:, None], channels, output)
        return self.convolution(node, held, kernels, 1, output)

    def convolution(self, node: _Node, held: Patches, kernels: Array, group: int, output: str | None = None) -> str:
        """Conv of a channels-last image; padding by v is padding of x - v by 0."""
        x, value = held.image, float(held.pad_value) if any(held.pads) else 0.0
        if value:
            x = self.emit("Sub", [x, self.store(np.array(value), f"{node.name}/pad")])
        x = self.emit("Transpose", [x], perm=FIRST)
        y = self.emit(
            "Conv",
            [x, self.weights(node, kernels)],
            name=node.name,
            group=group,
            kernel_shape=list(held.kernel),
            strides=list(held.strides),
            pads=list(held.pads),
            dilations=list(held.dilations),
        )
        if not value:
            return self.emit("Transpose", [y], output, perm=LAST)
        sums = self.store(value * kernels.astype(np.float64).sum(axis=(1, 2, 3)), f"{node.name}/padded")
        return self.emit("Add", [self.emit("Transpose", [y], perm=LAST), sums], output)

    def matches(
        self, node: _Node, product: Callable[[Array, str | None], str], weights: Array, output: str | None
    ) -> str:
        """How many operands of {0, 1} are alike; `weights` with the outputs on the last axis, as `product` takes them."""
        zeros = (1 - weights).reshape(-1, weights.shape[-1]).sum(axis=0)
        y = product(2 * weights - 1, None)
        return self.emit("Add", [y, self.store(zeros.astype(np.float32), f"{node.name}/zeros")], output)

    def pooled(self, node: _Node, x: str, op_type: str, output: str | None = None, **attributes: Any) -> str:
        """A pool of a channels-last image."""
        first = self.emit("Transpose", [x], perm=FIRST)
        return self.emit("Transpose", [self.emit(op_type, [first], name=node.name, **attributes)], output, perm=LAST)

    def activated(self, node: _Node, y: str, rank: int) -> None:
        """The thresholds of an MVAU or VVAU, on the last axis."""
        if node.number("noActivation", 0):
            return
        bipolar = node.text("outputDataType") == "BIPOLAR"
        scale, bias = (2.0, -1.0) if bipolar else (1.0, float(node.number("ActVal", 0)))
        self.constant(node, 2, "thresholds")
        self.threshold(node, y, node.proto.input[2], rank, scale, bias)

    def threshold(self, node: _Node, x: str, rows: str, rank: int, scale: float, bias: float) -> None:
        self.emit(
            "MultiThreshold",
            [x, rows],
            node.proto.output[0],
            name=f"{node.name}/thresholds",
            domain=GENERAL[0],
            out_dtype=node.text("outputDataType"),
            out_scale=scale,
            out_bias=bias,
            data_layout=BEHIND_LAYOUT.get(rank, "NHWC"),
        )


# the operators


def _mvau(writer: _Conversion, node: _Node) -> None:
    weights = writer.constant(node, 1, "weights")
    depth, outputs = node.number("MW"), node.number("MH")
    vectors = node.numbers("numInputVectors", default=[1])
    if weights.shape != (depth, outputs):
        raise node.fail(f"its weights have shape {weights.shape}; MW and MH say {(depth, outputs)}")
    x = node.proto.input[0]
    if x not in writer.patches:
        x = writer.input(node, (*vectors, depth))
    last = node.proto.output[0] if node.number("noActivation", 0) else None

    def product(rows: Array, output: str | None) -> str:
        return writer.product(node, rows, x, output)

    if node.number("binaryXnorMode", 0):
        y = writer.matches(node, product, weights, last)
    elif node.text("inputDataType") == node.text("weightDataType") == "BIPOLAR":
        y = _half(writer, node, product(weights, None), depth, last)
    else:
        y = product(weights, last)
    writer.activated(node, y, len(vectors) + 1)


def _half(writer: _Conversion, node: _Node, y: str, depth: int, output: str | None) -> str:
    """How many of {-1, 1} are alike, from their product: (y + depth) / 2."""
    y = writer.emit("Add", [y, writer.store(np.array(float(depth)), f"{node.name}/depth")])
    return writer.emit("Mul", [y, writer.store(np.array(0.5), f"{node.name}/half")], output)


def _vvau(writer: _Conversion, node: _Node) -> None:
    weights, channels = writer.constant(node, 1, "weights"), node.number("Channels")
    kernel, held = node.numbers("Kernel", 2), writer.patches.get(node.proto.input[0])
    if held is None or held.kernel != kernel:
        raise node.fail(f"is not behind a ConvolutionInputGenerator of kernel {list(kernel)}; put one before it")
    if weights.shape != (channels, 1, *kernel):
        raise node.fail(f"its weights have shape {weights.shape}; {(channels, 1, *kernel)} is needed")
    last = node.proto.output[0] if node.number("noActivation", 0) else None
    if node.text("inputDataType") == node.text("weightDataType") == "BIPOLAR":
        y = _half(writer, node, writer.convolution(node, held, weights, channels), prod(kernel), last)
    else:
        y = writer.convolution(node, held, weights, channels, last)
    writer.activated(node, y, 4)


def _xnor(writer: _Conversion, node: _Node) -> None:
    weights = writer.constant(node, 1, "weights")
    if weights.ndim != 2 or not np.isin(weights, (0, 1)).all():
        raise node.fail("its weights are not a matrix of 0 and 1; repair the model")
    writer.matches(node, lambda w, o: writer.product(node, w, node.proto.input[0], o), weights, node.proto.output[0])


def _matmul(writer: _Conversion, node: _Node) -> None:
    """A standard MatMul that reads patches."""
    weights = writer.constant(node, 1, "weights behind an Im2Col")
    if weights.ndim != 2:
        raise node.fail(f"its weights have shape {weights.shape}; only matrices are supported behind an Im2Col")
    writer.product(node, weights, node.proto.input[0], node.proto.output[0])


def _im2col(writer: _Conversion, node: _Node) -> None:
    writer.patches[node.proto.output[0]] = replace(
        _source(writer, node),
        origin=node.where,
        kernel=node.numbers("kernel_size", 2),
        strides=node.numbers("stride", 2),
        dilations=node.numbers("dilations", 2, [1, 1]),
        pads=node.numbers("pad_amount", 4, [0, 0, 0, 0]),
        pad_value=node.number("pad_value", 0),
        depthwise=bool(node.number("depthwise", 0)),
    )


def _input_generator(writer: _Conversion, node: _Node) -> None:
    writer.patches[node.proto.output[0]] = replace(
        _source(writer, node),
        origin=node.where,
        kernel=node.numbers("ConvKernelDim", 2),
        strides=node.numbers("Stride", 2, [1, 1]),
        dilations=node.numbers("Dilation", 2, [1, 1]),
        depthwise=bool(node.number("depthwise", 0)),
    )


def _source(writer: _Conversion, node: _Node) -> Patches:
    """The image that a sliding window reads, with the padding before it."""
    name = node.proto.input[0]
    held = writer.patches.get(name, Patches(name, node.where))
    if held.kernel:
        raise node.fail("reads the patches of another sliding window; only images are supported")
    return held


def _padding(writer: _Conversion, node: _Node) -> None:
    pads = node.numbers("Padding", 4)
    writer.patches[node.proto.output[0]] = replace(_source(writer, node), origin=node.where, pads=pads)


def _max_pool(writer: _Conversion, node: _Node) -> None:
    """MaxPoolNHWC."""
    attributes: dict[str, Any] = {
        "kernel_shape": node.numbers("kernel_shape", 2),
        "strides": node.numbers("strides", 2),
        "pads": node.numbers("pads", 4, [0, 0, 0, 0]),
    }
    if node.number("ceil_mode", 0):
        attributes["ceil_mode"] = 1
    writer.pooled(node, node.proto.input[0], "MaxPool", node.proto.output[0], **attributes)


def _streaming_max_pool(writer: _Conversion, node: _Node) -> None:
    size = node.numbers("PoolDim", 2)
    attributes: dict[str, Any] = {"kernel_shape": size, "strides": size}
    if node.number("CeilMode", 0):
        attributes["ceil_mode"] = 1
    writer.pooled(node, node.proto.input[0], "MaxPool", node.proto.output[0], **attributes)


def _pool(writer: _Conversion, node: _Node) -> None:
    """FINN's Pool reads the patches of a sliding window."""
    held, function = writer.patches.get(node.proto.input[0]), node.text("Function")
    if held is None or held.kernel != node.numbers("KernelSize", 2):
        raise node.fail("is not behind a ConvolutionInputGenerator of its KernelSize; put one before it")
    if held.dilations != (1, 1) or any(held.pads):
        raise node.fail("pools a padded or dilated image; only plain windows are supported")
    shape: dict[str, Any] = {"kernel_shape": held.kernel, "strides": held.strides}
    output = node.proto.output[0]
    taps = prod(held.kernel)
    match function:
        case "MaxPool":
            writer.pooled(node, held.image, "MaxPool", output, **shape)
        case "AvgPool":
            writer.pooled(node, held.image, "AveragePool", output, **shape)
        case "AccPool":
            mean = writer.pooled(node, held.image, "AveragePool", **shape)
            writer.emit("Mul", [mean, writer.store(np.array(float(taps)), f"{node.name}/taps")], output)
        case "QuantAvgPool":
            kinds = [node.text(key) for key in ("InputDataType", "OutputDataType")]
            bits = [int("".join(ch for ch in kind if ch.isdigit()) or "1") for kind in kinds]
            _truncated_sums(writer, node, held.image, shape, bits[0], bits[1], not kinds[0].startswith("U"))
        case _:
            raise node.fail(f"its Function {function!r} is unknown; use MaxPool, AvgPool, AccPool or QuantAvgPool")


def _average_pool(writer: _Conversion, node: _Node) -> None:
    """QuantAvgPool2d, of either layout."""
    size, step = node.number("kernel"), node.number("stride")
    last = node.text("data_layout", "NCHW") == "NHWC"
    shape: dict[str, Any] = {"kernel_shape": (size, size), "strides": (step, step)}
    bits, signed = (node.number("ibits"), node.number("obits")), bool(node.number("signed"))
    _truncated_sums(writer, node, node.proto.input[0], shape, *bits, signed, last)


def _truncated_sums(
    writer: _Conversion,
    node: _Node,
    x: str,
    shape: dict[str, Any],
    bits_in: int,
    bits_out: int,
    signed: bool,
    last: bool = True,
) -> None:
    """Sums of integers, their low bits cut off: floor(sum / 2**shift) = floor((sum + 1/2) / 2**shift).

    With the half no sum lies on a boundary, and float32 gives the same integers.
    """
    taps = prod(shape["kernel_shape"])
    shift = max(0, (((1 << bits_in) - 1) * taps).bit_length() - bits_out)
    step = 2.0**shift
    # sums of the declared inputs; those that are signed may need one code more than bits_out has
    lowest = -((taps << bits_in - 1) >> shift) if signed else 0
    bits = bits_out + int(signed and lowest < -(1 << bits_out - 1))
    if last:
        mean = writer.pooled(node, x, "AveragePool", **shape)
    else:
        mean = writer.emit("AveragePool", [x], name=node.name, **shape)
    y = writer.emit("Mul", [mean, writer.store(np.array(float(taps)), f"{node.name}/taps")])
    y = writer.emit("Add", [y, writer.store(np.array(0.5), f"{node.name}/half")])
    parameters = [writer.store(np.array(v), f"{node.name}/quant") for v in (step, 0.0, float(bits))]
    y = writer.emit("Quant", [y, *parameters], domain=GENERAL[0], signed=int(signed), narrow=0, rounding_mode="FLOOR")
    writer.emit("Mul", [y, writer.store(np.array(1 / step), f"{node.name}/unit")], node.proto.output[0])


def _sums(writer: _Conversion, node: _Node) -> None:
    """GlobalAccPool: sums over height and width."""
    vectors = node.numbers("numInputVectors")
    if len(vectors) != 3:
        raise node.fail(f"its numInputVectors {list(vectors)} are not those of an image; only images are supported")
    mean = writer.pooled(node, node.proto.input[0], "GlobalAveragePool")
    taps = writer.store(np.array(float(vectors[1] * vectors[2])), f"{node.name}/taps")
    writer.emit("Mul", [mean, taps], node.proto.output[0])


def _thresholding(writer: _Conversion, node: _Node) -> None:
    bias, rank = float(node.number("ActVal", 0)), len(node.numbers("numInputVectors", default=[1])) + 1
    writer.constant(node, 1, "thresholds")
    scale, shift = (2.0, 2 * bias - 1) if node.text("outputDataType") == "BIPOLAR" else (1.0, bias)
    writer.threshold(node, node.proto.input[0], node.proto.input[1], rank, scale, shift)


def _identity(writer: _Conversion, node: _Node) -> None:
    for output in node.proto.output:
        writer.emit("Identity", node.proto.input[:1], output)


def _width_converter(writer: _Conversion, node: _Node) -> None:
    to = node.attributes.get("outShape", node.attributes.get("shape"))
    if to is None or list(to) == list(node.attributes.get("inShape", to)):
        _identity(writer, node)
        return
    shape = writer.store(np.array(node.numbers("outShape"), dtype=np.int64), f"{node.name}/shape")
    writer.emit("Reshape", [node.proto.input[0], shape], node.proto.output[0], name=node.name)


def _standard(op_type: str) -> Callable[[_Conversion, _Node], None]:
    def convert(writer: _Conversion, node: _Node) -> None:
        writer.emit(op_type, node.proto.input[:2], node.proto.output[0], name=node.name)

    return convert


def _channelwise(writer: _Conversion, node: _Node) -> None:
    function = node.text("Func")
    if function not in ("add", "mul"):
        raise node.fail(f"its Func {function!r} is not supported; only add and mul are, use Thresholding to compare")
    values = writer.store(writer.constant(node, 1, "parameters").reshape(-1), f"{node.name}/parameters")
    writer.emit(function.capitalize(), [node.proto.input[0], values], node.proto.output[0], name=node.name)


def _label_select(writer: _Conversion, node: _Node) -> None:
    """Indices of the largest, as floats."""
    count = writer.store(np.array([node.number("K", 1)], dtype=np.int64), f"{node.name}/k")
    values, indices = (writer.fresh(f"{node.name}/{part}") for part in ("values", "indices"))
    writer.nodes.append(helper.make_node("TopK", [node.proto.input[0], count], [values, indices], node.name))
    writer.emit("Cast", [indices], node.proto.output[0], to=onnx.TensorProto.FLOAT)


def _down_sampler(writer: _Conversion, node: _Node) -> None:
    """Every `Stride`-th pixel: a pool of one tap."""
    step = node.number("Stride")
    writer.pooled(node, node.proto.input[0], "MaxPool", node.proto.output[0], kernel_shape=(1, 1), strides=(step, step))


def _channels_last(writer: _Conversion, node: _Node) -> None:
    """Conv, MaxPool and BatchNormalization of qonnx that read channels-last images."""
    if node.proto.op_type not in ("Conv", "MaxPool", "BatchNormalization"):
        raise node.fail(f"domain {CHANNELS_LAST!r} has no such operator; set it to '' (standard ONNX)")
    found = writer.shapes.get(node.proto.input[0])
    if found is not None and len(found) != 4:
        raise node.fail(f"its input has shape {list(found)}; only 2-D images are supported")
    first = writer.emit("Transpose", [node.proto.input[0]], perm=FIRST)
    y = writer.emit(node.proto.op_type, [first, *node.proto.input[1:]], name=node.name, **node.attributes)
    writer.emit("Transpose", [y], node.proto.output[0], perm=LAST)


Converter = Callable[[_Conversion, _Node], None]
CONVERTERS: dict[str, Converter] = {
    "AddStreams": _standard("Add"),
    "ChannelwiseOp": _channelwise,
    "ConvolutionInputGenerator": _input_generator,
    "DownSampler": _down_sampler,
    "DuplicateStreams": _identity,
    "ElementwiseAdd": _standard("Add"),
    "ElementwiseMul": _standard("Mul"),
    "ElementwiseSub": _standard("Sub"),
    "FMPadding": _padding,
    "GlobalAccPool": _sums,
    "LabelSelect": _label_select,
    "MVAU": _mvau,
    "MatrixVectorActivation": _mvau,
    "Pool": _pool,
    "StreamingDataWidthConverter": _width_converter,
    "StreamingFCLayer": _mvau,
    "StreamingFIFO": _identity,
    "StreamingMaxPool": _streaming_max_pool,
    "TLastMarker": _identity,
    "Thresholding": _thresholding,
    "VVAU": _vvau,
    "VectorVectorActivation": _vvau,
}
"""FINN's hardware operators, without the ending that tells how they are built."""
LOWERED: dict[str, Converter] = {
    "DebugMarker": _identity,
    "Im2Col": _im2col,
    "MaxPoolNHWC": _max_pool,
    "QuantAvgPool2d": _average_pool,
    "XnorPopcountMatMul": _xnor,
}
"""Operators of qonnx's general domain that are not quantizers."""
ABSORBING = (_mvau, _vvau, _xnor, _matmul, _pool, _im2col, _input_generator, _padding)


def _base(proto: onnx.NodeProto) -> str:
    name = proto.op_type
    while name.endswith(SUFFIXES):
        name = next(name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix))
    return name


def _converter(proto: onnx.NodeProto) -> Converter | None:
    """What rewrites a node; None of one that stays as it is."""
    if proto.domain in HARDWARE:
        return CONVERTERS.get(_base(proto))
    if proto.domain == CHANNELS_LAST:
        return _channels_last
    return LOWERED.get(proto.op_type) if proto.domain.startswith(GENERAL) else None
