"""QDQ model -> QONNX model: every pair of QuantizeLinear and DequantizeLinear becomes one Quant.

A pair computes  real = scale * (clamp(round(x / scale) + zero_point, lo, hi) - zero_point),  rounding half to even *before* the
zero point is added. A Quant adds its zero point first, which turns ties round where that is odd and rounds twice in float32.
So the zero point moves into the ends: with a = lo - zero_point, b = hi - zero_point,

    real = scale * clamp(round(x / scale), a, b),

a Quant with zero point 0. Where [a, b] is not the range of a type, the Quant has the smallest type around it and a Clip to
[scale * a, scale * b] stands before it; division and rounding rise, so both clamp alike. Everything holds bit for bit in
float32, and in exact arithmetic. Integer constants become the float32 numbers that DequantizeLinear gives, with a Quant that
leaves them as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from broadaxe.errors import UnsupportedModelError
from broadaxe.frontend.standard import attribute
from broadaxe.frontend.wiring import STANDARD, Array, Wiring, drop_unused, label, shown, where

DOMAIN = "qonnx.custom_op.general"
DOMAINS = (*STANDARD, "com.microsoft")
PAIR = ("QuantizeLinear", "DequantizeLinear")
MOVERS = ("Flatten", "Identity", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that move or select elements, whatever they are: alike on integers and on what they stand for."""
LINEAR = ("Conv", "Gemm", "MatMul")
INTEGER_MATH = (
    *("ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "QGemm", "QLinearAdd", "QLinearAveragePool"),
    *("QLinearConcat", "QLinearConv", "QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearMatMul", "QLinearMul"),
    *("QLinearSigmoid", "QLinearSoftmax"),
)
MOST_BITS = 16
BITS: dict[int, tuple[int, bool]] = {
    TensorProto.INT4: (4, True),
    TensorProto.UINT4: (4, False),
    TensorProto.INT8: (8, True),
    TensorProto.UINT8: (8, False),
    TensorProto.INT16: (16, True),
    TensorProto.UINT16: (16, False),
    TensorProto.INT32: (32, True),
}
if hasattr(TensorProto, "INT2"):
    BITS |= {TensorProto.INT2: (2, True), TensorProto.UINT2: (2, False)}


def quant_from_qdq(model: onnx.ModelProto) -> onnx.ModelProto:
    """A QDQ model as QONNX; a model without QuantizeLinear and DequantizeLinear is returned as it is.

    Tensors that DequantizeLinear wrote keep their names. A pair whose input is on its grid already, as behind a MaxPool or
    another pair, is left out; a Relu between two pairs of one scale goes into the range of one Quant.

    Raises:
        UnsupportedModelError: names the node that no Quant can stand for, why, and what would help.
    """
    nodes = [node for node in model.graph.node if node.domain in DOMAINS]
    for node in nodes:
        if node.op_type in INTEGER_MATH:
            raise UnsupportedModelError(
                f"{where(node)}: computes on integers (operator format), which cannot be read; export the model with"
                " QuantizeLinear and DequantizeLinear (QuantFormat.QDQ)"
            )
        if node.op_type in ("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"):
            raise UnsupportedModelError(
                f"{where(node)}: chooses its scale from each input, which hardware cannot; quantize statically"
            )
    if not any(node.op_type in PAIR for node in nodes):
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    return _Conversion(result).run()


@dataclass(frozen=True, eq=False)
class _Parameters:
    """What a QuantizeLinear or DequantizeLinear says of its integers.

    Attributes:
        scale: float32, shape () or (channels,).
        zero: int64, of the scale's shape.
        axis: of the channels.
        kind: ONNX type of the integers.
    """

    scale: Array
    zero: Array
    axis: int
    kind: int

    @property
    def ends(self) -> tuple[int, int]:
        bits, signed = BITS[self.kind]
        return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Parameters) or self.kind != other.kind or self.scale.shape != other.scale.shape:
            return False
        same = np.array_equal(self.scale, other.scale) and np.array_equal(self.zero, other.zero)
        return same and (self.scale.ndim == 0 or self.axis == other.axis)

    def along(self, values: Array, rank: int) -> Array:
        """One value per channel, shaped to broadcast against a tensor of this rank."""
        if values.ndim == 0:
            return values
        shape = [1] * rank
        shape[self.axis] = -1
        return values.reshape(shape)


@dataclass(frozen=True, eq=False)
class _Codes:
    """An integer tensor of the model.

    Attributes:
        node: the QuantizeLinear it comes from.
        lo, hi: its ends, zero point included; a Clip on integers narrows them.
        source: the float tensor that is quantized.
        values: the integers of a constant.
        reals: the tensor that holds scale * (code - zero_point), once there is one.
    """

    node: onnx.NodeProto
    parameters: _Parameters
    lo: int
    hi: int
    source: str
    values: Array | None = None
    reals: str | None = None


@dataclass(eq=False)
class _Step:
    """A Quant with zero point 0 in the making: y = scale * clamp(round(x / scale), lo, hi)."""

    node: onnx.NodeProto
    source: str
    target: str
    scale: Array
    lo: int
    hi: int


@dataclass(frozen=True, eq=False)
class _Grid:
    """A tensor whose elements are scale * k, lo <= k <= hi."""

    scale: Array
    lo: int
    hi: int


class _Conversion:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.wiring = Wiring(model)
        self.model = model
        self.items: list[onnx.NodeProto | _Step] = []
        self.codes: dict[str, _Codes] = {}
        self.clipped: dict[str, tuple[Array, int, int]] = {}
        self.grids: dict[str, _Grid] = {}
        self.steps: dict[str, _Step] = {}
        self.alias: dict[str, str] = {}
        self.shared: dict[str, str] = {}
        self.ranks: dict[str, int] | None = None

    def run(self) -> onnx.ModelProto:
        for node in self.model.graph.node:
            try:
                self._take(node)
            except (IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
                raise UnsupportedModelError(
                    f"{where(node)}: its inputs or attributes fit no model ({type(error).__name__}); repair the model"
                ) from None
        for name in self.wiring.outputs:
            if name in self.codes:
                raise UnsupportedModelError(
                    f"output {shown(name)}: holds integers of {where(self.codes[name].node)}; put a DequantizeLinear behind it"
                )
        self._write()
        return self.model

    def _take(self, node: onnx.NodeProto) -> None:
        read = [name for name in node.input if name in self.codes]
        if node.domain in DOMAINS and node.op_type == "QuantizeLinear":
            if read:
                raise UnsupportedModelError(f"{where(node)}: quantizes integers; put a DequantizeLinear before it")
            self.codes[node.output[0]] = self._quantized(node)
        elif node.domain in DOMAINS and node.op_type == "DequantizeLinear":
            self._dequantize(node)
        elif not read and self._clips_constant(node):
            lo, hi = (-(1 << 32), 1 << 32) if node.input[0] not in self.clipped else self.clipped[node.input[0]][1:]
            lo, hi = self._narrow(node, lo, hi)
            self.clipped[node.output[0]] = (np.clip(self._integers(node.input[0]), lo, hi), lo, hi)
        elif not read:
            self._copy(node)
        elif node.op_type == "Clip" and node.domain in STANDARD and list(node.input[:1]) == read:
            self.codes[node.output[0]] = self._narrowed(node, self.codes[read[0]])
        elif node.op_type in MOVERS and node.domain in STANDARD and list(node.input[:1]) == read:
            self._move(node, self.codes[read[0]])
        else:
            raise _reads(node, self.codes[read[0]])

    # pairs

    def _quantized(self, node: onnx.NodeProto) -> _Codes:
        parameters = self._parameters(node)
        lo, hi = parameters.ends
        value = self.wiring.values.get(node.input[0])
        if value is None and node.input[0] in self.wiring.fixed:
            raise UnsupportedModelError(
                f"{where(node)}: quantizes a constant that is computed in a way that is not understood; store it as an"
                " initializer"
            )
        if value is None:
            return _Codes(node, parameters, lo, hi, self.alias.get(node.input[0], node.input[0]))
        if value.dtype != np.float32 or not np.isfinite(value).all():
            raise UnsupportedModelError(
                f"{where(node)}: its constant holds no finite float32 numbers; repair the model"
            )
        scale, zero = (parameters.along(v, value.ndim) for v in (parameters.scale, parameters.zero))
        with np.errstate(over="ignore"):
            steps = np.clip(np.rint(value / scale).astype(np.float64), -(2.0**40), 2.0**40)
        integers = np.clip(steps.astype(np.int64) + zero, lo, hi)
        return _Codes(node, parameters, lo, hi, node.input[0], integers)

    def _dequantize(self, node: onnx.NodeProto) -> None:
        name, parameters = node.input[0], self._parameters(node)
        codes = self.codes.get(name)
        if codes is None and (name in self.wiring.values or name in self.clipped):
            (lo, hi), (_, first, last) = parameters.ends, self.clipped.get(name, (None, *parameters.ends))
            codes = _Codes(node, parameters, max(lo, first), min(hi, last), "", self._integers(name))
        if codes is None:
            self._start(node, parameters)
            return
        if codes.parameters != parameters:
            raise UnsupportedModelError(
                f"{where(node)}: its scale, zero point or type is not that of {where(codes.node)}; give both the same"
            )
        if codes.values is not None:
            self._constant(node, codes)
            return
        if codes.reals is not None:
            self._same(node.output[0], codes.reals)
            return
        scale, lo, hi = self._range(codes)
        self._quant(_Step(codes.node, codes.source, node.output[0], scale, lo, hi))
        self.codes[name] = replace(codes, reals=self.alias.get(node.output[0], node.output[0]))

    def _start(self, node: onnx.NodeProto, parameters: _Parameters) -> None:
        """DequantizeLinear on an input of the model that holds integers: the host computes the reals."""
        name = node.input[0]
        if name not in self.wiring.inputs:
            source = self.wiring.producers.get(name)
            maker = where(source) if source is not None else shown(name)
            raise UnsupportedModelError(
                f"{where(node)}: reads integers that {maker} computes; only those of QuantizeLinear, constants and inputs"
                " can be read"
            )
        if self.wiring.inputs[name].type.tensor_type.elem_type != parameters.kind:
            raise UnsupportedModelError(f"{where(node)}: its input and its zero point differ in type; repair the model")
        rank = self._rank(node, name) if parameters.scale.ndim else 0
        scale, zero = (parameters.along(v, rank) for v in (parameters.scale, parameters.zero))
        stem = label(node)
        cast, centred, reals = (self.wiring.fresh(f"{node.output[0]}_{n}") for n in ("cast", "centred", "reals"))
        self.items.append(helper.make_node("Cast", [name], [cast], name=f"{stem}.cast", to=TensorProto.FLOAT))
        inputs = [cast, self._store(zero.astype(np.float32), f"{stem}_zero_point")]
        self.items.append(helper.make_node("Sub", inputs, [centred], name=f"{stem}.centre"))
        inputs = [centred, self._store(scale, f"{stem}_scale")]
        self.items.append(helper.make_node("Mul", inputs, [reals], name=f"{stem}.scale"))
        codes = _Codes(node, parameters, *parameters.ends, reals)
        scale, lo, hi = self._range(codes, rank)
        self._quant(_Step(node, reals, node.output[0], scale, lo, hi))

    def _clips_constant(self, node: onnx.NodeProto) -> bool:
        """Whether a node is a Clip of stored integers that only DequantizeLinear reads."""
        if node.op_type != "Clip" or node.domain not in STANDARD:
            return False
        value, name = self.wiring.values.get(node.input[0]), node.output[0]
        stored = value is not None and int(helper.np_dtype_to_tensor_dtype(value.dtype)) in BITS
        readers = self.wiring.consumers.get(name, [])
        only = all(r.op_type in ("DequantizeLinear", "Clip") for r in readers) and name not in self.wiring.outputs
        return only and (stored or node.input[0] in self.clipped)

    def _integers(self, name: str) -> Array:
        return self.clipped[name][0] if name in self.clipped else self.wiring.values[name].astype(np.int64)

    def _narrow(self, node: onnx.NodeProto, lo: int, hi: int) -> tuple[int, int]:
        """Ends of integers behind a Clip."""
        ends = [self._end(node, 1, "min"), self._end(node, 2, "max")]
        lo = lo if ends[0] is None else max(lo, int(ends[0]))
        hi = hi if ends[1] is None else min(hi, int(ends[1]))
        if lo > hi:
            raise UnsupportedModelError(f"{where(node)}: leaves no code, {lo} to {hi}; repair its ends")
        return lo, hi

    def _narrowed(self, node: onnx.NodeProto, codes: _Codes) -> _Codes:
        lo, hi = self._narrow(node, codes.lo, codes.hi)
        values = None if codes.values is None else np.clip(codes.values, lo, hi)
        if codes.reals is None:
            return replace(codes, lo=lo, hi=hi, values=values)
        raise UnsupportedModelError(
            f"{where(node)}: clips integers that have been read before; put it right behind {where(codes.node)}"
        )

    def _move(self, node: onnx.NodeProto, codes: _Codes) -> None:
        """An operator that moves integers moves what they stand for instead."""
        if codes.values is not None or codes.parameters.scale.ndim or len([n for n in node.output if n]) != 1:
            raise _reads(node, codes)
        if codes.reals is None:
            target = self.wiring.fresh(f"{node.input[0]}_reals")
            scale, lo, hi = self._range(codes)
            self._quant(_Step(codes.node, codes.source, target, scale, lo, hi))
            codes = replace(codes, reals=self.alias.get(target, target))
            self.codes[node.input[0]] = codes
        assert codes.reals is not None
        moved = onnx.NodeProto()
        moved.CopyFrom(node)
        moved.input[0] = codes.reals
        moved.output[0] = self.wiring.fresh(f"{node.output[0]}_reals")
        self._copy(moved)
        self.codes[node.output[0]] = replace(codes, reals=moved.output[0])

    def _constant(self, node: onnx.NodeProto, codes: _Codes) -> None:
        """A constant as the floats that DequantizeLinear gives, with a Quant that changes none of them."""
        assert codes.values is not None
        parameters, out = codes.parameters, node.output[0]
        scale, zero = (parameters.along(v, codes.values.ndim) for v in (parameters.scale, parameters.zero))
        steps = codes.values - zero
        with np.errstate(over="ignore"):
            reals = (steps.astype(np.float32) * scale).astype(np.float32)
        if not np.isfinite(reals).all():
            raise UnsupportedModelError(f"{where(node)}: its constant overflows float32; use a smaller scale")
        bits, signed, narrow = _around(*self._used(codes, steps, zero))
        linear = any(r.op_type in LINEAR and list(r.input)[1:2] == [out] for r in self.wiring.consumers.get(out, []))
        if parameters.kind == TensorProto.INT32 or (bits > MOST_BITS and not linear):
            name = self._store(reals, f"{out}_value")
            self._same(out, name)
            self.wiring.values[out] = reals
            return
        if bits > MOST_BITS:
            raise UnsupportedModelError(
                f"{where(node)}: its weights minus their zero point need {bits} bits; at most {MOST_BITS} are supported, use"
                " a zero point of 0"
            )
        lo, hi = _ends(bits, signed, narrow)
        floats = self.wiring.values.get(codes.source)
        # The reals always quantize to their codes: those of a normal scale are off by 2**-24 of themselves at most, multiples
        # of a subnormal one are exact.
        stored = floats if floats is not None and _quantize(floats, scale, lo, hi, reals) else reals
        name = self._store(stored, f"{out}_value")
        self._write_quant(self.items.append, node, name, out, scale, bits, signed, narrow)

    def _used(self, codes: _Codes, steps: Array, zero: Array) -> tuple[int, int]:
        """Ends of a constant, the zero point taken off: its type's where those are a type's again, else the ends in use."""
        lo, hi = (int(steps.min()), int(steps.max())) if steps.size else (0, 0)
        own = codes.lo - int(zero.min()), codes.hi - int(zero.min())
        if zero.min() != zero.max() or _ends(*_around(*own)) != own:
            return min(lo, 0), max(hi, 0)
        return (own[0] + 1, own[1]) if own[0] == -own[1] - 1 and lo > own[0] else own

    def _range(self, codes: _Codes, rank: int | None = None) -> tuple[Array, int, int]:
        """The scale, shaped to broadcast, and the ends of the codes, the zero point taken off."""
        zero, scale = codes.parameters.zero, codes.parameters.scale
        if zero.min() != zero.max():
            raise UnsupportedModelError(
                f"{where(codes.node)}: its zero points differ from channel to channel, {zero.min()} to {zero.max()}; an"
                " activation needs one for all"
            )
        if scale.ndim:
            scale = codes.parameters.along(scale, self._rank(codes.node, codes.node.input[0]) if rank is None else rank)
        return scale, codes.lo - int(zero.min()), codes.hi - int(zero.min())

    def _quant(self, step: _Step) -> None:
        """Append a Quant, unless what it reads is on its grid already."""
        grid = self.grids.get(step.source)
        same = grid is not None and step.scale.ndim == 0 and grid.scale == step.scale
        if grid is not None and same and step.lo <= grid.lo and grid.hi <= step.hi:
            self._same(step.target, step.source)
            return
        step = self._through_relu(step)
        self.items.append(step)
        self.steps[step.target] = step
        if step.scale.ndim == 0:
            self.grids[step.target] = _Grid(step.scale, step.lo, step.hi)

    def _through_relu(self, step: _Step) -> _Step:
        """Quant, Relu, Quant of one scale are one Quant whose codes start at 0."""
        relu = self.wiring.producers.get(step.source)
        if relu is None or relu.op_type != "Relu" or not self._alone(step.source):
            return step
        before = self.steps.get(self.alias.get(relu.input[0], relu.input[0]))
        if before is None or step.scale.ndim or before.scale.ndim or before.scale != step.scale:
            return step
        if before.target != relu.input[0] or not self._alone(before.target) or not self._alone(before.node.output[0]):
            return step
        self.items = [
            item for item in self.items if item is not before and not _writes(item, step.source)
        ]  # neither is read by anything else
        lo, hi = (min(max(end, 0, step.lo), step.hi) for end in (before.lo, before.hi))
        return replace(step, source=before.source, lo=lo, hi=hi)

    def _alone(self, tensor: str) -> bool:
        return len(self.wiring.consumers.get(tensor, [])) == 1 and tensor not in self.wiring.outputs

    def _copy(self, node: onnx.NodeProto) -> None:
        """Write a node as it is, and carry on what is known of its input where it only moves elements."""
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        for position, name in enumerate(copied.input):
            copied.input[position] = self.alias.get(name, name)
        self.items.append(copied)
        if node.op_type in MOVERS and node.domain in STANDARD and copied.input[0] in self.grids:
            self.grids[copied.output[0]] = self.grids[copied.input[0]]

    def _same(self, name: str, other: str) -> None:
        """Have readers of `name` read `other`; an output of the model keeps its name."""
        self.alias[name] = other
        if name in self.wiring.outputs:
            self.items.append(helper.make_node("Identity", [other], [name], name=self.wiring.fresh(f"{name}.same")))

    # parameters

    def _parameters(self, node: onnx.NodeProto) -> _Parameters:
        scale = self._known(node, 1, "scale")
        zero = self._known(node, 2, "zero point") if len(node.input) > 2 and node.input[2] else None
        kind = self._kind(node, zero)
        if kind not in BITS:
            name = TensorProto.DataType.Name(kind) if kind in TensorProto.DataType.values() else str(kind)
            raise UnsupportedModelError(f"{where(node)}: its codes are {name}; integers of 2 to 32 bits are supported")
        if attribute(node, "block_size", 0) or scale.ndim > 1:
            raise UnsupportedModelError(
                f"{where(node)}: its scale varies within a channel (blocks); use one scale per channel or tensor"
            )
        if not scale.size or scale.dtype != np.float32 or not np.isfinite(scale).all() or not (scale > 0).all():
            bad = scale[~(np.isfinite(scale) & (scale > 0))] if scale.size else scale
            found = f"{float(bad.flat[0]):g}" if bad.size else f"{scale.dtype} of shape {scale.shape}"
            raise UnsupportedModelError(f"{where(node)}: its scale holds {found}; positive float32 numbers are needed")
        zeros = np.zeros(scale.shape, np.int64) if zero is None else np.asarray(zero).astype(np.int64)
        if zeros.size not in (1, scale.size):
            raise UnsupportedModelError(
                f"{where(node)}: has {scale.size} scales and {zeros.size} zero points; give as many of each"
            )
        if scale.size == 1:
            return _Parameters(scale.reshape(()), zeros.reshape(()), 0, kind)
        zeros = np.broadcast_to(zeros.reshape(-1), scale.shape)
        return _Parameters(scale, zeros, int(attribute(node, "axis", 1)), kind)

    def _kind(self, node: onnx.NodeProto, zero: Array | None) -> int:
        if zero is not None:
            return int(helper.np_dtype_to_tensor_dtype(zero.dtype))
        if node.op_type == "QuantizeLinear":
            return int(attribute(node, "output_dtype", 0)) or int(TensorProto.UINT8)
        name = node.input[0]
        while name in self.clipped and name not in self.wiring.values:
            name = self.wiring.producers[name].input[0]
        if name in self.codes:
            return self.codes[name].parameters.kind
        if name in self.wiring.values:
            return int(helper.np_dtype_to_tensor_dtype(self.wiring.values[name].dtype))
        info = self.wiring.inputs.get(name)
        return int(info.type.tensor_type.elem_type) if info is not None else int(TensorProto.UINT8)

    def _known(self, node: onnx.NodeProto, position: int, role: str) -> Array:
        name = node.input[position] if len(node.input) > position else ""
        value = self.wiring.values.get(name)
        if value is None:
            raise UnsupportedModelError(f"{where(node)}: its {role} is no constant; store it as an initializer")
        return value

    def _end(self, node: onnx.NodeProto, position: int, name: str) -> float | None:
        """One end of a Clip, None where there is none."""
        if len(node.input) > position and node.input[position]:
            return float(self._known(node, position, name).item())
        value = attribute(node, name, None)
        return None if value is None else float(value)

    def _rank(self, node: onnx.NodeProto, name: str) -> int:
        """How many axes a tensor has."""
        if self.ranks is None:
            try:
                graph = shape_inference.infer_shapes(self.model).graph
            except Exception:  # shapes that contradict each other: nothing is known
                graph = self.model.graph
            infos = (*graph.input, *graph.value_info, *graph.output)
            shaped = [i for i in infos if i.type.tensor_type.HasField("shape")]
            self.ranks = {i.name: len(i.type.tensor_type.shape.dim) for i in shaped}
        if name not in self.ranks:
            raise UnsupportedModelError(
                f"{where(node)}: has a scale per channel, but the shape of {shown(name)} is not known; run"
                " onnx.shape_inference, or give inputs shapes"
            )
        return self.ranks[name]

    # writing

    def _write(self) -> None:
        graph = self.model.graph
        nodes: list[onnx.NodeProto] = []
        for item in self.items:
            if isinstance(item, _Step):
                self._write_step(nodes.append, item)
            else:
                nodes.append(item)
        for node in nodes:
            for position, name in enumerate(node.input):
                node.input[position] = self.alias.get(name, name)
        written = {name for node in nodes for name in node.output}
        infos = [info for info in graph.value_info if info.name in written and info.name not in self.codes]
        del graph.node[:], graph.value_info[:]
        graph.node.extend(nodes)
        graph.value_info.extend(infos)
        drop_unused(graph)
        domains = {node.domain for node in nodes} | set(STANDARD) | {DOMAIN}
        imports = [entry for entry in self.model.opset_import if entry.domain in domains]
        if all(entry.domain != DOMAIN for entry in imports):
            imports.append(helper.make_opsetid(DOMAIN, 1))
        del self.model.opset_import[:]
        self.model.opset_import.extend(imports)

    def _write_step(self, append: Callable[[onnx.NodeProto], None], step: _Step) -> None:
        bits, signed, narrow = _around(step.lo, step.hi)
        source, reach = step.source, self._clipped(step)
        inside = reach is not None and step.lo <= reach[0] and reach[1] <= step.hi
        if reach is not None and inside:
            bits, signed, narrow = _around(*reach)
        if bits > MOST_BITS:
            raise UnsupportedModelError(
                f"{where(step.node)}: its codes minus their zero point go from {step.lo} to {step.hi}, {bits} bits; at most"
                f" {MOST_BITS} are supported, use a symmetric range or fewer bits"
            )
        if not inside and _ends(bits, signed, narrow) != (step.lo, step.hi):
            source = self._clip(append, step)
        self._write_quant(append, step.node, source, step.target, step.scale, bits, signed, narrow)

    def _clip(self, append: Callable[[onnx.NodeProto], None], step: _Step) -> str:
        """The tensor that a Quant reads, clipped to what its codes stand for; returns its name."""
        with np.errstate(over="ignore"):
            ends = [np.float32(end) * np.float32(step.scale.reshape(-1)[0]) for end in (step.lo, step.hi)]
        if step.scale.ndim:
            raise UnsupportedModelError(
                f"{where(step.node)}: has a scale per channel, and its codes minus their zero point go from {step.lo} to"
                f" {step.hi}, which is no integer type; use a zero point of 0"
            )
        found = [float(np.rint(end / np.float32(step.scale))) for end in ends]
        if found != [step.lo, step.hi]:
            raise UnsupportedModelError(
                f"{where(step.node)}: its scale of {float(step.scale):g} takes its codes beyond float32; use a smaller one"
            )
        target, name = self.wiring.fresh(f"{step.target}_clipped"), self.wiring.fresh(f"{label(step.node)}.clip")
        if self.wiring.opset < 11:
            append(helper.make_node("Clip", [step.source], [target], name=name, min=float(ends[0]), max=float(ends[1])))
        else:
            stored = [self._store(np.array(end), f"{target}_{n}") for end, n in zip(ends, ("min", "max"), strict=True)]
            append(helper.make_node("Clip", [step.source, *stored], [target], name=name))
        return target

    def _clipped(self, step: _Step) -> tuple[int, int] | None:
        """Codes at both ends of a Clip of the model's own before a Quant, if one stands there."""
        clip = self.wiring.producers.get(step.source)
        if clip is None or clip.op_type != "Clip" or clip.domain not in STANDARD or step.scale.ndim:
            return None
        codes = []
        for position, name in ((1, "min"), (2, "max")):
            end = self._end(clip, position, name)
            if end is None or not abs(end) < 2.0**30 * float(step.scale):
                return None
            codes.append(int(np.rint(np.float32(end) / np.float32(step.scale))))
        return (codes[0], codes[1]) if codes[0] <= codes[1] else None

    def _write_quant(
        self,
        append: Callable[[onnx.NodeProto], None],
        node: onnx.NodeProto,
        source: str,
        target: str,
        scale: Array,
        bits: int,
        signed: bool,
        narrow: bool,
    ) -> None:
        inputs = [source, self._store(scale, f"{target}_scale")]
        inputs += [self._shared(0.0, "zero_point"), self._shared(float(bits), f"bits_{bits}")]
        append(
            helper.make_node(
                "Quant",
                inputs,
                [target],
                name=label(node),
                domain=DOMAIN,
                signed=int(signed),
                narrow=int(narrow),
                rounding_mode="ROUND",
            )
        )

    def _shared(self, value: float, stem: str) -> str:
        """A float32 number as an initializer; equal ones are shared."""
        if stem not in self.shared:
            self.shared[stem] = self._store(np.array(value, dtype=np.float32), stem)
        return self.shared[stem]

    def _store(self, value: Array, stem: str) -> str:
        name = self.wiring.fresh(stem)
        array = np.ascontiguousarray(value).reshape(value.shape)
        self.model.graph.initializer.append(numpy_helper.from_array(array, name))
        return name


def _reads(node: onnx.NodeProto, codes: _Codes) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{where(node)}: reads the integers of {where(codes.node)}; put a DequantizeLinear before it"
    )


def _around(lo: int, hi: int) -> tuple[int, bool, bool]:
    """The smallest (bits, signed, narrow) whose range holds [lo, hi]; one signed bit would be bipolar and is no choice."""
    signed = lo < 0
    bits = max(2, (-lo - 1).bit_length() + 1, max(hi, 0).bit_length() + 1) if signed else max(1, hi.bit_length())
    narrow = bits > 1 and _ends(bits, signed, True) == (lo, hi)
    return bits, signed, narrow


def _ends(bits: int, signed: bool, narrow: bool) -> tuple[int, int]:
    if signed:
        return -(1 << bits - 1) + narrow, (1 << bits - 1) - 1
    return 0, (1 << bits) - 1 - narrow


def _quantize(x: Array, scale: Array, lo: int, hi: int, expected: Array) -> bool:
    """Whether a Quant makes of x exactly what is expected, in float32."""
    with np.errstate(all="ignore"):
        codes = np.rint(np.clip(x / scale, np.float32(lo), np.float32(hi)))
        return np.array_equal((codes * scale).astype(np.float32), expected)


def _writes(item: onnx.NodeProto | _Step, tensor: str) -> bool:
    return isinstance(item, onnx.NodeProto) and _first(item.output) == tensor


def _first(names: Sequence[str]) -> str:
    return names[0] if len(names) else ""
