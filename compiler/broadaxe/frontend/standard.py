"""QONNX model -> standard ONNX, so that one onnxruntime session runs the whole graph.

Each quantizer becomes the chain of float32 operators that the qonnx package executes, in its order:

    Quant         clamp and round x/s + z, then (q - z)*s; signed 1-bit is bipolar, whatever the rounding mode
    BipolarQuant  x >= 0 ? s : -s
    Trunc v1      round to even x/s + z, divide by 2**(input bits - output bits), round by mode, (q - z)*s
    Trunc v2      round to even x/s + z, divide by t = 2**round(log2(s_out/s)), clamp, round by mode, (q - z/t)*s_out
    MultiThreshold  out_scale * #{k : x >= thresholds[c, k]} + out_bias

The result is the same float32 number bit for bit, save that a zero may change its sign (Max(-0, 0) is either).
Nothing here is newer than operator set 9, except Round (11), which has an exact substitute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from broadaxe.errors import UnsupportedModelError, said_by
from broadaxe.frontend.finn import qonnx_from_finn

QONNX = "qonnx.custom_op.general"
QUANTIZERS = ("Quant", "IntQuant", "BipolarQuant", "Trunc")
CUSTOM = (*QUANTIZERS, "MultiThreshold")
"""Operators that `expand_quant` rewrites; each makes a tensor of its first input's shape."""
DOMAINS: dict[str, tuple[str, ...]] = {QONNX: CUSTOM, "finn.custom_op.general": CUSTOM, "onnx.brevitas": QUANTIZERS}
"""The domains of these operators, and which each has. A domain may end in a name of its own behind a dot."""
REFUSED = {
    "FloatQuant": "rounds to floating-point numbers, which have no integers behind them; quantize to integers with Quant",
    "GenericPartition": "stands for a network in another file; put that network's nodes in its place",
}
"""Operators of these domains that nothing here can compile, and what to do."""
ROUNDING_MODES = ("ROUND", "HALF_EVEN", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN")

IR_VERSION = 10
LOWEST_OPSET = 9  # Where and Sign
ROUND_OPSET = 11
LAYOUTS = {2: "NC", 3: "NWC", 4: "NCHW"}
"""What the empty data_layout of a MultiThreshold stands for, by rank."""
SUMMED = 16
"""Comparisons that are added up at a time: what bounds the memory that many thresholds take."""

Array = npt.NDArray[Any]


def operators(domain: str) -> tuple[str, ...] | None:
    """The operators of a custom domain; None of a domain that is none of these."""
    return next((known for name, known in DOMAINS.items() if f"{domain}.".startswith(f"{name}.")), None)


def is_quantizer(node: onnx.NodeProto) -> bool:
    """Whether the node rounds to a grid that its own inputs describe: Quant, IntQuant, BipolarQuant or Trunc."""
    return node.op_type in QUANTIZERS and node.op_type in (operators(node.domain) or ())


def is_custom(node: onnx.NodeProto) -> bool:
    """Whether `expand_quant` rewrites this node."""
    return node.op_type in (operators(node.domain) or ())


def writes_codes(node: onnx.NodeProto) -> bool:
    """Whether what the node writes are integers on a grid, whatever it reads."""
    return is_custom(node) or (node.op_type == "Sign" and node.domain in ("", "ai.onnx"))


def expand_quant(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite every Quant, IntQuant, BipolarQuant, Trunc and MultiThreshold node, and FINN's, into standard operators.

    Scales and zero points may be any tensor, bit widths must be constants. Every tensor of `model` keeps its name, its
    value and its place in the order of nodes; `model` itself is not changed.
    """
    model = qonnx_from_finn(model)
    versions = {entry.domain: entry.version for entry in model.opset_import}
    opset = versions.get("", versions.get("ai.onnx", 1))
    if opset < LOWEST_OPSET:
        raise UnsupportedModelError(
            f"model: operator set too old, {opset}; convert it to {LOWEST_OPSET} or newer with onnx.version_converter"
        )
    for node in model.graph.node:
        _refuse_subgraphs(node)

    expanded = onnx.ModelProto()
    expanded.CopyFrom(model)
    expanded.ir_version = IR_VERSION
    writer = _NodeWriter(expanded.graph, opset)
    for node in model.graph.node:
        if not is_custom(node):
            writer.nodes.append(node)
        elif node.op_type == "MultiThreshold":
            _expand_thresholds(node, writer)
        elif node.op_type == "BipolarQuant":
            _expand_bipolar(node, writer)
        elif node.op_type == "Trunc":
            _expand_trunc(node, writer, versions.get(node.domain, 1))
        else:
            _expand_quant(node, writer)

    del expanded.graph.node[:]
    expanded.graph.node.extend(writer.nodes)
    expanded.graph.initializer.extend(writer.new_constants)
    _drop_unused(expanded)
    return expanded


def session(
    model: onnx.ModelProto, outputs: Sequence[str] | None = None, *, threads: int = 1
) -> onnxruntime.InferenceSession:
    """Open an onnxruntime session that runs the graph as it is written: no graph optimization.

    Args:
        model: standard ONNX (see `expand_quant`).
        outputs: tensors to return instead of the model's outputs, in this order; any tensor that a node writes.
        threads: threads within an operator. One, the default, keeps the order of a sum the same from run to run.
    """
    if outputs is not None:
        written = {name for node in model.graph.node for name in node.output if name}
        known = {value.name: value for value in (*model.graph.output, *model.graph.value_info)}
        for name in outputs:
            if name not in written:
                raise UnsupportedModelError(f"{name}: no node writes this tensor; ask for the output of a node")
        chosen = [known.get(name, onnx.ValueInfoProto(name=name)) for name in outputs]
        model_with_outputs = onnx.ModelProto()
        model_with_outputs.CopyFrom(model)
        model = model_with_outputs
        del model.graph.output[:]
        model.graph.output.extend(chosen)

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what fails becomes an error of ours
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exception classes share no base
        raise UnsupportedModelError(
            f"model: onnxruntime does not load it, {said_by(error)}; "
            "every operator has to be standard ONNX once expand_quant has rewritten the quantizers"
        ) from error


def _expand_quant(node: onnx.NodeProto, writer: _NodeWriter) -> None:
    x, scale, zero_point = _inputs(node, 4, writer)[:3]
    signed, narrow = bool(_flag(node, "signed")), bool(_flag(node, "narrow"))
    mode = rounding_mode(node, "ROUND")
    bits = writer.bit_width(node, 3)
    writer.begin(node)
    y = writer.op("Add", writer.op("Div", x, scale), zero_point)
    if signed and np.any(bits == 1):
        if not np.all(bits == 1):
            raise UnsupportedModelError(
                f"{_where(node)}: only some channels are bipolar, bit widths {bits.ravel().tolist()}; "
                "give every channel 1 bit or none"
            )
        y = writer.op("Where", writer.op("Less", y, writer.constant(0)), writer.constant(-1), writer.constant(1))
    else:
        y = writer.round(writer.clamp(y, *code_range(bits, signed, narrow)), mode)
    y = writer.op("Sub", y, zero_point)
    writer.op("Mul", y, scale, output=node.output[0])


def _expand_bipolar(node: onnx.NodeProto, writer: _NodeWriter) -> None:
    x, scale = _inputs(node, 2, writer)
    writer.begin(node)
    y = writer.op("Where", writer.op("Less", x, writer.constant(0)), writer.constant(-1), writer.constant(1))
    writer.op("Mul", y, scale, output=node.output[0])


def _expand_trunc(node: onnx.NodeProto, writer: _NodeWriter, version: int) -> None:
    x, scale, zero_point, _, *rest = _inputs(node, 5 if version < 2 else 6, writer)
    mode = rounding_mode(node, None)
    writer.begin(node)
    if version < 2:
        shift = writer.bit_width(node, 3) - writer.bit_width(node, 4)
        divisor = writer.constant(2.0**shift)
    else:
        signed, narrow = bool(_flag(node, "signed", 1)), bool(_flag(node, "narrow", 0))
        ratio = writer.known(node, 4, "output scale") / writer.known(node, 1, "scale")
        divisor = writer.constant(2 ** np.round(np.log2(ratio)))
    y = writer.op("Add", writer.op("Div", x, scale), zero_point)
    y = writer.op("Div", writer.round(y, "ROUND"), divisor)
    if version < 2:
        y = writer.op("Sub", writer.round(y, mode), zero_point)
        writer.op("Mul", y, scale, output=node.output[0])
    else:
        y = writer.round(writer.clamp(y, *code_range(writer.bit_width(node, 5), signed, narrow)), mode)
        y = writer.op("Sub", y, writer.op("Div", zero_point, divisor))
        writer.op("Mul", y, rest[0], output=node.output[0])


def _expand_thresholds(node: onnx.NodeProto, writer: _NodeWriter) -> None:
    """Count the thresholds that x stays below; what is left of them is reached."""
    x, _ = _inputs(node, 2, writer)
    rows = writer.known(node, 1, "thresholds")
    writer.begin(node)
    rows = rows.reshape(len(rows), -1)
    if len(rows) > 1:
        layout = _layout(node, lambda: writer.rank(x))
        behind = len(layout) - 1 - layout.index("C") if "C" in layout else len(layout) - 2
        rows = rows.reshape(len(rows), *[1] * behind, -1)
    below, levels = writer.constant(0), rows.shape[-1]
    for at in range(0, levels, SUMMED):
        tests = [writer.op("Less", x, writer.constant(rows[..., k])) for k in range(at, min(at + SUMMED, levels))]
        below = writer.op("Sum", below, *(writer.op("Cast", test, to=onnx.TensorProto.FLOAT) for test in tests))
    scale, bias = (float(attribute(node, name, default)) for name, default in (("out_scale", 1.0), ("out_bias", 0.0)))
    y = writer.op("Mul", writer.op("Sub", writer.constant(levels), below), writer.constant(scale))
    writer.op("Add", y, writer.constant(bias), output=node.output[0])


def _layout(node: onnx.NodeProto, rank: Callable[[], int]) -> str:
    """The data layout of a MultiThreshold; without one it follows from the rank."""
    given = attribute(node, "data_layout", b"")
    text = given.decode() if isinstance(given, bytes) else str(given)
    return text or LAYOUTS.get(rank(), "NC")


class _NodeWriter:
    """The nodes and constants of an expanded graph, in the making."""

    def __init__(self, graph: onnx.GraphProto, opset: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.new_constants: list[onnx.TensorProto] = []
        self._graph, self._opset = graph, opset
        self._ranks: dict[str, int] | None = None
        self._constants = _constants(graph)
        self._names = {name for node in graph.node for name in (*node.input, *node.output)}
        self._names |= set(self._constants) | {value.name for value in (*graph.input, *graph.output)}
        self._shared: dict[tuple[tuple[int, ...], bytes], str] = {}
        self._prefix = ""

    def begin(self, node: onnx.NodeProto) -> None:
        """What follows takes the place of `node`."""
        self._prefix = node.output[0]

    def op(self, op_type: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append a node; returns the name of its output."""
        output = output or self._fresh(f"{self._prefix}/{op_type}")
        self.nodes.append(helper.make_node(op_type, inputs, [output], **attributes))
        return output

    def constant(self, value: float | Array) -> str:
        """The name of a float32 initializer; equal ones are shared."""
        array = np.asarray(value, dtype=np.float32)
        key = (array.shape, array.tobytes())
        if key not in self._shared:
            self._shared[key] = self._fresh(f"quant_constant_{len(self._shared)}")
            self.new_constants.append(numpy_helper.from_array(array, self._shared[key]))
        return self._shared[key]

    def clamp(self, x: str, lowest: Array, highest: Array) -> str:
        return self.op("Max", self.op("Min", x, self.constant(highest)), self.constant(lowest))

    def round(self, x: str, mode: str) -> str:
        """Round by the formulas of the qonnx package, the additions of 0.5 in float32 included."""
        if mode in ("ROUND", "HALF_EVEN"):
            return self.op("Round", x) if self._opset >= ROUND_OPSET else self._round_half_even(x)
        if mode in ("CEIL", "FLOOR"):
            return self.op(mode.capitalize(), x)
        size = self.op("Abs", x)
        half = self.constant(0.5)
        if mode == "UP":
            size = self.op("Ceil", size)
        elif mode == "DOWN":
            size = self.op("Floor", size)
        elif mode == "HALF_UP":
            size = self.op("Floor", self.op("Add", size, half))
        else:
            size = self.op("Ceil", self.op("Sub", size, half))
        return self.op("Mul", self.op("Sign", x), size)

    def _round_half_even(self, x: str) -> str:
        """Round without Round: |x| - floor(|x|) and the parity of the floor are exact in float32."""
        half, one = self.constant(0.5), self.constant(1)
        size = self.op("Abs", x)
        floor = self.op("Floor", size)
        fraction = self.op("Sub", size, floor)
        parity = self.op("Sub", floor, self.op("Mul", self.constant(2), self.op("Floor", self.op("Mul", floor, half))))
        above = self.op("Greater", fraction, half)
        tie_of_odd = self.op("And", self.op("Not", self.op("Less", fraction, half)), self.op("Greater", parity, half))
        step = self.op("Where", self.op("Or", above, tie_of_odd), one, self.constant(0))
        return self.op("Mul", self.op("Sign", x), self.op("Add", floor, step))

    def rank(self, name: str) -> int:
        """How many axes a tensor of the model has; 0 where its shape cannot be inferred."""
        if self._ranks is None:
            plain = onnx.ModelProto(ir_version=IR_VERSION, opset_import=[helper.make_opsetid("", self._opset)])
            plain.graph.CopyFrom(self._graph)
            for node in plain.graph.node:
                if is_custom(node):
                    node.CopyFrom(helper.make_node("Identity", node.input[:1], node.output))
            graph = onnx.shape_inference.infer_shapes(plain).graph
            infos = (*graph.input, *graph.value_info, *graph.output)
            self._ranks = {
                i.name: len(i.type.tensor_type.shape.dim) for i in infos if i.type.tensor_type.HasField("shape")
            }
        return self._ranks.get(name, 0)

    def known(self, node: onnx.NodeProto, index: int, what: str) -> Array:
        """The value of a constant input."""
        value = self._constants.get(node.input[index])
        if value is None:
            raise UnsupportedModelError(
                f"{_where(node)}: {what} is not a constant, {node.input[index]}; make it an initializer or a Constant"
            )
        return value

    def bit_width(self, node: onnx.NodeProto, index: int) -> Array:
        bits = self.known(node, index, "bit width")
        if bits.size == 0 or not np.all(np.isfinite(bits)) or np.any(bits <= 0):
            raise UnsupportedModelError(
                f"{_where(node)}: bit width is not a positive number, {bits.tolist()}; give it 1 bit or more"
            )
        return bits

    def check_float32(self, node: onnx.NodeProto) -> None:
        """Refuse constants that would have qonnx compute in another type than float32."""
        widths = {"Trunc": (3, 4) if len(node.input) == 5 else (3, 5)}.get(node.op_type, (3,))
        for index, name in enumerate(node.input):
            value = self._constants.get(name)
            if index not in widths and value is not None and value.dtype != np.float32:
                raise UnsupportedModelError(
                    f"{_where(node)}: input {index} is not float32, {value.dtype}; store {name} as float32"
                )

    def _fresh(self, stem: str) -> str:
        name, count = stem, 1
        while name in self._names:
            count += 1
            name = f"{stem}_{count}"
        self._names.add(name)
        return name


def code_range(bits: Array, signed: bool, narrow: bool) -> tuple[Array, Array]:
    """The lowest and the highest code, computed in the type of `bits` as qonnx does and used as float32."""
    if signed:
        return -(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1
    return 0 * bits, 2**bits - 1 - narrow


def _inputs(node: onnx.NodeProto, count: int, writer: _NodeWriter) -> list[str]:
    if len(node.input) != count or not all(node.input) or len(node.output) != 1:
        raise UnsupportedModelError(
            f"{_where(node)}: wrong number of tensors, {len(node.input)} inputs and {len(node.output)} outputs; "
            f"this version has {count} inputs and 1 output"
        )
    writer.check_float32(node)
    return list(node.input)


def _flag(node: onnx.NodeProto, name: str, default: int | None = None) -> int:
    value = attribute(node, name, default)
    if value not in (0, 1):
        found = "missing" if value is None else str(value)[:80]
        raise UnsupportedModelError(f"{_where(node)}: attribute {name} is neither 0 nor 1, {found}; set one of them")
    return int(value)


def rounding_mode(node: onnx.NodeProto, default: str | None) -> str:
    """The node's rounding mode in capitals, one of ROUNDING_MODES."""
    value = attribute(node, "rounding_mode", default)
    mode = value.decode() if isinstance(value, bytes) else str(value)
    if mode.upper() not in ROUNDING_MODES:
        found = "missing" if value is None else mode
        raise UnsupportedModelError(
            f"{_where(node)}: rounding mode is unknown, {found}; use one of {', '.join(ROUNDING_MODES)}"
        )
    return mode.upper()


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Of a node; bytes where it is text."""
    return next((helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), default)


def _constants(graph: onnx.GraphProto) -> dict[str, Array]:
    """The values of all initializers and Constant nodes."""
    values = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            (entry,) = node.attribute
            value = helper.get_attribute_value(entry)
            if isinstance(value, onnx.TensorProto):
                values[node.output[0]] = numpy_helper.to_array(value)
            elif entry.name in ("value_float", "value_floats"):
                values[node.output[0]] = np.asarray(value, dtype=np.float32)
            elif entry.name in ("value_int", "value_ints"):
                values[node.output[0]] = np.asarray(value, dtype=np.int64)
    return values


def _refuse_subgraphs(node: onnx.NodeProto) -> None:
    for entry in node.attribute:
        bodies = [entry.g] if entry.type == onnx.AttributeProto.GRAPH else list(entry.graphs)
        for inner in (inner for body in bodies for inner in body.node):
            if is_custom(inner):
                raise UnsupportedModelError(
                    f"{_where(node)}: a quantizer stands in its subgraph, {_where(inner)}; unroll the control flow"
                )
            _refuse_subgraphs(inner)


def _drop_unused(model: onnx.ModelProto) -> None:
    """Drop what only the quantizers needed: their local functions and their operator sets."""
    functions = [entry for entry in model.functions if entry.name not in (operators(entry.domain) or ())]
    del model.functions[:]
    model.functions.extend(functions)
    domains = {node.domain for node in model.graph.node} | {entry.domain for entry in functions} | {"", "ai.onnx"}
    imports = [entry for entry in model.opset_import if entry.domain in domains]
    del model.opset_import[:]
    model.opset_import.extend(imports)


def _where(node: onnx.NodeProto) -> str:
    name = node.name or (node.output[0] if node.output else "?")
    shown = "".join(ch if ch.isprintable() else "?" for ch in f"{name} ({node.op_type})")
    return shown
