"""From a QONNX model to the integer graph, in one forward walk.

Every tensor gets a state (see `broadaxe.ops.importing`): constants are folded with float32 operator semantics; what comes
before the first quantizer stays with the host (`Head`), what follows the last integer value too (`Tail`); everything in
between becomes integers with proven bounds, and chains of exact steps from one integer tensor to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from broadaxe.chain import Affine, Chain, read_as, spread
from broadaxe.constants import NO_NUMBERS, computed, constant, elements, evaluate_all, inferred, stored, type_of
from broadaxe.errors import GraphError, RequestError, UnsupportedModelError
from broadaxe.frontend.annotations import WIDEST_INPUT, Datatype, annotated, declared_layouts
from broadaxe.frontend.finn import qonnx_from_finn
from broadaxe.frontend.standard import CUSTOM, QONNX, REFUSED, operators
from broadaxe.ir import Graph, IntArray, Shape, Value
from broadaxe.kinds import typed
from broadaxe.layouts import Axes, stream_axes, wishes
from broadaxe.ops import importing
from broadaxe.ops.grids import followed, integer_grid
from broadaxe.ops.importing import (
    Constant,
    GraphBuilder,
    Head,
    ModelNode,
    Promise,
    Scaled,
    Tail,
    Tensor,
    printable,
)
from broadaxe.ops.multithreshold import sign_of, thresholds_of
from broadaxe.ops.pointwise import POINTWISE
from broadaxe.ops.requantize import QuantAttributes, quant_attributes, quantize_constant, quantizer_of
from broadaxe.types import Interval, IntType

MALFORMED = (TypeError, ValueError, IndexError, KeyError, AttributeError, ArithmeticError, MemoryError)
MAX_FRAME = 1 << 23
"""Elements of an input: the testbench holds several frames."""
COMPUTED = 1 << 25
"""Elements of all constants that are computed, beyond four times what the file stores."""
QUANTIZERS = ("Quant", "IntQuant", "BipolarQuant")
ENDINGS = dict.fromkeys(QUANTIZERS, quantizer_of) | {"MultiThreshold": thresholds_of, "Sign": sign_of}
"""What quantizes an input that the host sends, by operator."""
HEAD_OPERATORS = {"Abs", "Add", "Cast", "Clip", "Div", "Flatten", "Identity", "Mul", "Neg", "Reshape", "Squeeze", "Sub"}
HEAD_OPERATORS |= {
    "BatchNormalization",
    "DepthToSpace",
    "Expand",
    "Gather",
    "Pad",
    "Relu",
    "Resize",
    "Slice",
    "SpaceToDepth",
}
HEAD_OPERATORS |= {"Tile", "Transpose", "Unsqueeze", "Upsample"}
TAIL_OPERATORS = {"ArgMax", "ArgMin", "Cast", "Identity", "LogSoftmax", "Reshape", "Sigmoid", "Softmax", "Squeeze"}
TAIL_OPERATORS |= {"Tanh", "TopK", "Unsqueeze"}
HEAD_OPERATORS |= {*POINTWISE}
TAIL_OPERATORS |= {*POINTWISE}
MICROSOFT = ("com.microsoft", "Gelu")
"""A domain of onnxruntime, and its operator that is one of later standard sets."""


@dataclass(frozen=True, eq=False)
class HostInput:
    """How a model input becomes one of the graph's integer inputs.

    Attributes:
        tensor: the model's input.
        value: the graph's input.
        index: of the model tensor's shape (batch 1); where each element goes in the value's stream.
        quantized: the model's tensor that holds the quantized input, or None if the input is integer already.
    """

    tensor: str
    value: str
    index: IntArray
    quantized: str | None


@dataclass(frozen=True, eq=False)
class HostOutput:
    """How integers of a graph output become a model tensor: reals = chain(integers), then picked by index.

    Attributes:
        tensor: the model's tensor that the integers stand for.
        value: the graph's output.
        index: of the model tensor's shape (batch 1).
        chain: exact function from integers to reals.
        kind: element type of the model's tensor.
    """

    tensor: str
    value: str
    index: IntArray
    chain: Chain
    kind: str = "float32"


@dataclass(frozen=True, eq=False)
class Lowered:
    """A lowered model: the integer graph and what stays with the host.

    Attributes:
        graph: the integer graph.
        inputs, outputs: the host's side of the graph's inputs and outputs.
        tensors: model tensors that have an integer value of their own, in order: what can be compared node by node.
        outputs_of_model: names of the model's outputs; one that is no HostOutput tensor needs the float tail.
        promises: layers with weights, and the widths that the model says their accumulators keep to.
    """

    graph: Graph
    inputs: tuple[HostInput, ...]
    outputs: tuple[HostOutput, ...]
    tensors: tuple[HostOutput, ...]
    outputs_of_model: tuple[str, ...]
    promises: Mapping[str, Promise]

    def read_from(self, graph: Graph) -> Lowered:
        """The same for the graph that the passes made of `self.graph`: the host undoes start constants and divisors."""

        def settled(tensor: HostOutput) -> HostOutput:
            before, after = self.graph.values[tensor.value], graph.values[tensor.value]
            if before.affine == after.affine:
                return tensor
            a, b, c, d = spread(before.scale, before.shift, after.scale, after.shift)
            scale = tuple(new / old for new, old in zip(c, a, strict=True))
            shift = tuple((new - was) / old for new, was, old in zip(d, b, a, strict=True))
            return replace(tensor, chain=read_as(tensor.chain, scale, shift))

        return replace(self, outputs=tuple(map(settled, self.outputs)), tensors=tuple(map(settled, self.tensors)))


def lower(
    model: onnx.ModelProto,
    input_types: Mapping[str, IntType | None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    loadable: bool = False,
) -> Lowered:
    """Lower a QONNX model.

    Args:
        model: QONNX, or FINN's lowered or hardware operators; shapes are static except for the batch axis.
        input_types: integer types of inputs that carry integers and need no quantizer, by input name; None for one that
            carries reals, whatever the model's annotations say.
        progress: called with (nodes done, nodes in all).
        loadable: for a design whose weights are exchanged later: quantizers give any of their codes.

    Raises:
        UnsupportedModelError: names the node, its operator, why it cannot be lowered and what would help.
    """
    model = qonnx_from_finn(model)
    walk = Walk(model, dict(input_types or {}), loadable)
    for done, proto in enumerate(model.graph.node):
        walk.take(proto)
        if progress is not None:
            progress(done + 1, len(model.graph.node))
    return walk.finish()


class Walk:
    """Lowering node by node: `take` each of the model's nodes in order, then `finish`.

    Attributes:
        states: what each tensor met so far is; a constant may be exchanged before a node reads it.
        builder: the integer graph so far.
    """

    def __init__(
        self, model: onnx.ModelProto, input_types: Mapping[str, IntType | None], loadable: bool = False
    ) -> None:
        self.model = model
        self.opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
        self.builder = GraphBuilder("network", loadable)
        self.states: dict[str, Tensor] = {}
        self.host_inputs: list[HostInput] = []
        self.tensors: list[HostOutput] = []
        self.input_types = input_types
        self.annotated, self.layouts = annotated(model), declared_layouts(model)
        self.batch = 1
        self.heads: dict[str, str] = {}
        self.types: dict[str, onnx.TypeProto] = {}
        self.clips: dict[str, importing.Array] = {}
        self.room = COMPUTED
        self.wishes = wishes(model.graph)
        graph = self.model.graph
        for tensor in graph.initializer:
            self.states[tensor.name] = self._initializer(tensor)
            self.room += 4 * prod(tensor.dims)
        for info in graph.input:
            if info.name not in self.states:
                self._input(info)
        unknown = set(self.input_types) - {i.name for i in graph.input}
        if unknown:
            raise RequestError(
                f"input {printable(sorted(unknown)[0])}: the model has no such input; it has {self._input_names()}"
            )

    def _input_names(self) -> str:
        constants = {t.name for t in self.model.graph.initializer}
        return ", ".join(printable(i.name) for i in self.model.graph.input if i.name not in constants)

    # inputs

    def _input(self, info: onnx.ValueInfoProto) -> None:
        shape = _input_shape(info)
        if not self.host_inputs and not self.heads:
            self.batch = info.type.tensor_type.shape.dim[0].dim_value or 1
        self.heads[info.name] = info.name
        self.types[info.name] = helper.make_tensor_type_proto(info.type.tensor_type.elem_type, shape)
        declared = self.annotated.get(info.name)
        if info.name in self.input_types:
            chosen = self.input_types[info.name]
            declared = None if chosen is None else Datatype(str(chosen), chosen.range)
        elif declared is not None and declared.dtype.width > WIDEST_INPUT:
            declared = None
        if declared is None:
            self.states[info.name] = Head(info.name)
            return
        kind = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        made = self._integer_input(info.name, shape, declared)
        self.states[info.name] = replace(made, kind=kind.name) if kind.kind in "iu" else made

    def _integer_input(self, tensor: str, shape: Shape, declared: Datatype) -> Scaled:
        """An input that carries integers lo, lo + step, ..., hi; those of a step above 1 become the codes 0, 1, ..."""
        stream, index = _stream_order(f"input {printable(tensor)}", shape, self._axes(tensor, shape))
        bounds, affine = declared.allowed, Affine((Fraction(1),), (Fraction(0),))
        if declared.step > 1:
            affine = Affine((Fraction(declared.step),), (Fraction(bounds.lo),))
            bounds = Interval(0, bounds.span // declared.step)
        name = self.builder.fresh("input")
        self.builder.add_input(Value(name, stream, bounds.dtype, (bounds,) * stream[-1], affine.scale, affine.shift))
        self.host_inputs.append(HostInput(tensor, name, index, None))
        return Scaled(name, index, (affine,))

    def _initializer(self, tensor: TensorProto) -> Constant:
        """A constant of the file, with a grid of scale 1 where an annotation declares its integers."""
        where = f"initializer {printable(tensor.name)}"
        array, declared = stored(where, tensor), self.annotated.get(tensor.name)
        if declared is None or array.dtype.kind not in "fiu":
            return Constant(array)
        wrong = declared.refused(array)
        if wrong.size:
            raise UnsupportedModelError(
                f"{where}: is annotated {declared.name} but holds {wrong[0]:g}; correct the annotation or the values"
            )
        return Constant(array, integer_grid(array), declared.dtype.width, declared.dtype.signed)

    def _axes(self, tensor: str, shape: Shape) -> Axes:
        """The order in which a tensor's first reader wants its axes; images stream their channels last, whoever reads them.

        An image that the model declares to have its channels last streams as it is.
        """
        if self.layouts.get(tensor) == "NHWC":
            return stream_axes((), len(shape))
        default = None if len(shape) == 4 else ()
        return stream_axes(self.wishes.get(tensor, default), len(shape))

    def _quantized_input(self, node: ModelNode, head: Head) -> Scaled:
        """The first quantizer on a path: the host quantizes, the hardware starts from its codes."""
        shape = self._head_shape(head.name)
        stream, index = _stream_order(node.where, shape, self._axes(node.output, shape))
        probe = Value("probe", stream, IntType(1, False), (IntType(1, False).range,) * stream[-1])
        builder = GraphBuilder("probe", values={"probe": probe})
        placed = Scaled("probe", index, (probe.affine,))
        quantizer = ENDINGS[node.op_type](builder, node, placed)
        affine, codes = quantizer.affine, Interval(quantizer.lo, quantizer.hi)
        if node.op_type in QUANTIZERS:
            codes = self._head_codes(head, quant_attributes(node))
        bounds = (codes,) * stream[-1]
        name = self.builder.fresh("input")
        value = Value(name, stream, quantizer.dtype, bounds, affine.scale, affine.shift)
        self.builder.add_input(value)
        self.host_inputs.append(HostInput(self.heads[head.name], name, index, node.output))
        return Scaled(name, index, (affine,))

    def _head_codes(self, head: Head, spec: QuantAttributes) -> Interval:
        """Codes that the host can send: those of the ends of a Clip before the quantizer, where there is one.

        The host divides, adds, clamps and rounds in float32, and each of these steps rises with its input.
        """
        ends, full = self.clips.get(head.name), Interval(spec.lo, spec.hi)
        if (
            ends is None
            or spec.bipolar
            or spec.rounding != "ROUND"
            or spec.scale.size != 1
            or spec.zero_point.size != 1
        ):
            return full
        with np.errstate(over="ignore"):
            codes = ends / spec.scale.astype(np.float32).reshape(-1) + spec.zero_point.astype(np.float32).reshape(-1)
        lo, hi = (int(code) for code in np.rint(np.clip(codes, spec.lo, spec.hi)))
        return Interval(lo, hi) if lo <= hi else full

    def _head_shape(self, tensor: str) -> Shape:
        """Shape of a float tensor before the first quantizer, with a batch of 1."""
        return tuple(int(d.dim_value) for d in self.types[tensor].tensor_type.shape.dim)

    # nodes

    def take(self, proto: onnx.NodeProto) -> None:
        """Lower the next node."""
        outputs = [o for o in proto.output if o]
        name = printable(proto.name or (outputs[0] if outputs else "unnamed"))
        where = f"{name} ({printable(proto.op_type)})"
        for tensor in proto.input:
            if tensor and tensor not in self.states:
                raise UnsupportedModelError(
                    f"{where}: reads {printable(tensor)!r}, which nothing before it computes; sort the model's nodes"
                )
        for tensor in outputs:
            if tensor in self.states:
                raise UnsupportedModelError(
                    f"{where}: writes {printable(tensor)!r}, which is written already; give every tensor one writer"
                )
        known = operators(proto.domain)
        if known is None:
            if proto.domain not in ("", "ai.onnx") and (proto.domain, proto.op_type) != MICROSOFT:
                raise UnsupportedModelError(
                    f"{where}: domain {printable(proto.domain)!r} is unknown; QONNX and standard ONNX operators are"
                    " supported"
                )
            if proto.op_type in CUSTOM:
                raise UnsupportedModelError(f"{where}: domain {proto.domain!r} has no such operator; set it to {QONNX}")
        elif proto.op_type in REFUSED:
            raise UnsupportedModelError(f"{where}: {REFUSED[proto.op_type]}")
        elif proto.op_type not in known:
            raise UnsupportedModelError(
                f"{where}: domain {printable(proto.domain)!r} has no such operator; set it to '' (standard ONNX)"
            )
        node = ModelNode(
            name,
            proto.op_type,
            tuple(self.states[i] if i else None for i in proto.input),
            tuple(proto.input),
            outputs[0] if outputs else "",
            {a.name: _attribute(a, where) for a in proto.attribute},
            self.opset,
            self.batch,
            {p.key: p.value for p in proto.metadata_props},
            tuple(proto.output),
            proto,
        )
        made = self._import(node, proto)
        # one tensor alone is the first output; others, such as the indices of a MaxPool, are then never computed
        for name, state in zip(proto.output, made if isinstance(made, tuple) else (made,), strict=False):
            if not name or state is None:
                continue
            if isinstance(state, Scaled):
                state = typed(node, state, self.builder.values[state.value].bounds)
            self.states[name] = state
            if isinstance(state, Scaled) and not state.pools:
                self.tensors.append(HostOutput(name, state.value, state.index, state.chain, state.kind))

    def _import(self, node: ModelNode, proto: onnx.NodeProto) -> Tensor | tuple[Tensor | None, ...]:
        live = [t for t in node.inputs if t is not None]
        if not live and node.op_type in importing.IMPORTERS:
            raise node.fail("has no inputs; repair the model")
        if all(isinstance(t, Constant) for t in live):
            return self._fold(node, proto)
        if node.op_type == "Shape":
            return self._shape(node)
        if node.op_type in ENDINGS and isinstance(live[0], Head):
            return self._quantized_input(node, live[0])
        heads = [t for t in live if isinstance(t, Head)]
        if heads and node.op_type in HEAD_OPERATORS and all(isinstance(t, Head | Constant) for t in live):
            sources = {self.heads[t.name] for t in heads}
            if len(sources) == 1:
                self.heads[node.output] = sources.pop()
                self.types[node.output] = self._head_type(node, proto, heads)
                if node.op_type == "Clip":
                    self._clip(node)
                return Head(node.output)
        ends = [t for t in live if isinstance(t, Tail)]
        importer = importing.IMPORTERS.get(node.op_type)
        if node.op_type in TAIL_OPERATORS and (ends or importer is None) and not heads:
            return self._tail(node, ends)
        if importer is None:
            raise node.fail(
                f"operator {printable(node.op_type)} is not supported; docs/dialects.md has a table of those"
                " that are; replace it, or end the network before it"
            )
        try:
            return importer(self.builder, node)
        except GraphError as error:  # of an integer operator, which knows its own kind only
            raise node.fail(str(error).partition(": ")[2]) from None
        except MALFORMED as error:
            raise node.fail(
                f"has inputs or attributes that do not fit it ({type(error).__name__}); repair the model"
            ) from error

    def _clip(self, node: ModelNode) -> None:
        """Remember the ends of a Clip on the host, where they are constants."""
        ends = []
        if not all(tensor is None or isinstance(tensor, Constant) for tensor in node.inputs[1:]):
            return
        for position, name in ((1, "min"), (2, "max")):
            tensor = node.inputs[position] if position < len(node.inputs) else None
            default = node.attribute(name, -np.inf if name == "min" else np.inf)
            ends.append(tensor.array if isinstance(tensor, Constant) else np.float32(default))
        if all(end.size == 1 and end.dtype == np.float32 and not np.isnan(end).any() for end in ends):
            self.clips[node.output] = np.array([end.item() for end in ends], dtype=np.float32)

    def _head_type(self, node: ModelNode, proto: onnx.NodeProto, heads: list[Head]) -> onnx.TypeProto:
        arrays = _arrays(node)
        types = {t.name: self.types[t.name] for t in heads} | {n: type_of(a) for n, a in arrays.items()}
        made = inferred(node, proto, types, arrays)
        if elements(made) > MAX_FRAME:
            raise node.fail(f"makes {elements(made)} elements; at most {MAX_FRAME} are supported here")
        perm = node.attribute("perm", [-1] if node.op_type == "Transpose" else [0])
        shape = [d.dim_value for d in made.tensor_type.shape.dim]
        if shape[:1] != [1] or perm[:1] != [0]:
            raise node.fail(f"its result of shape {shape} mixes the batch axis with others; keep the batch axis first")
        return made

    def _tail(self, node: ModelNode, ends: list[Tail]) -> tuple[Tail, ...]:
        starts = {s for tail in ends for s in tail.starts}
        origin = ends[0].origin if ends else node.where
        for name, tensor in zip(node.input_names, node.inputs, strict=True):
            if isinstance(tensor, Scaled):
                importing.refuse_waiting(node, tensor)
                starts.add(name)
        return tuple(Tail(name, tuple(sorted(starts)), origin) for name in node.outputs)

    def _fold(self, node: ModelNode, proto: onnx.NodeProto) -> Constant | tuple[Constant, ...]:
        arrays = _arrays(node)
        if node.op_type in QUANTIZERS:
            try:
                self._take(node, prod(np.broadcast_shapes(*(a.shape for a in arrays.values()))))
                return quantize_constant(node)
            except MALFORMED as error:
                raise node.fail(f"has inputs that do not fit it ({type(error).__name__}); repair the model") from error
        if node.op_type == "Identity" and isinstance(node.inputs[0], Constant):
            return node.inputs[0]
        if node.op_type == "Constant":
            array = constant(node)
            self.room += 4 * array.size
            return Constant(array)
        made = computed(node, proto, arrays)
        self._take(node, made)
        return followed(node, arrays, lambda given: list(evaluate_all(node, proto, given).values()))

    def _take(self, node: ModelNode, count: int) -> None:
        """Elements for one more computed constant."""
        if count > self.room:
            raise node.fail(f"makes {count} elements, which is too many with the constants before it; shrink it")
        self.room -= count

    def _shape(self, node: ModelNode) -> Constant:
        x = node.inputs[0]
        shape = (self.batch, *(self._head_shape(x.name) if isinstance(x, Head) else node.scaled(0).shape)[1:])
        start, end = int(node.attribute("start", 0)), node.attribute("end", None)
        return Constant(np.array(shape, dtype=np.int64)[start : None if end is None else int(end)])

    # outputs

    def finish(self) -> Lowered:
        """The graph of everything that the model's outputs need."""
        starts: dict[str, Scaled] = {}
        for info in self.model.graph.output:
            state = self.states.get(info.name)
            match state:
                case Scaled():
                    starts[info.name] = state
                case Tail(starts=names):
                    for name in names:
                        tensor = self.states[name]
                        assert isinstance(tensor, Scaled)
                        starts[name] = tensor
                case _:
                    raise UnsupportedModelError(
                        f"output {printable(info.name)}: does not come from a quantized tensor; there is nothing to compile"
                    )
        if not starts:
            raise UnsupportedModelError("model: has no output; name one")
        for name, tensor in starts.items():
            if tensor.pools:
                raise UnsupportedModelError(
                    f"{tensor.pools[-1].origin}: no Quant follows it before output {printable(name)}; put one there"
                )
        outputs = tuple(HostOutput(n, t.value, t.index, t.chain, t.kind) for n, t in starts.items())
        graph = self.builder.finish(tuple(dict.fromkeys(o.value for o in outputs)))
        graph.check("lower")
        tensors = tuple(t for t in self.tensors if t.value in graph.values)
        names = tuple(info.name for info in self.model.graph.output)
        inputs = tuple(i for i in self.host_inputs if i.value in graph.inputs)
        return Lowered(graph, inputs, outputs, tensors, names, self.builder.promises)


def _arrays(node: ModelNode) -> dict[str, importing.Array]:
    """The constants that a node reads."""
    return {n: t.array for n, t in zip(node.input_names, node.inputs, strict=True) if isinstance(t, Constant)}


def extract(model: onnx.ModelProto, inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    """The part of a model that computes `outputs` from `inputs`, with every dimension of them left open."""
    graph = model.graph
    needed, nodes = set(outputs), []
    for node in reversed(graph.node):
        made = set(node.output) & needed
        if made and not made <= set(inputs):
            nodes.append(_without(node, inputs))
            needed.update(i for i in node.input if i not in inputs)
    kinds = {i.name: i.type.tensor_type.elem_type for i in (*graph.input, *graph.value_info, *graph.output)}
    part = helper.make_model(
        helper.make_graph(
            list(reversed(nodes)),
            "part",
            [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), None) for n in inputs],
            [onnx.ValueInfoProto(name=n) for n in outputs],
            [t for t in graph.initializer if t.name in needed],
        ),
        opset_imports=list(model.opset_import),
    )
    part.ir_version = min(model.ir_version, 10)
    return part


def _without(node: onnx.NodeProto, inputs: list[str]) -> onnx.NodeProto:
    """The node, with those of its outputs renamed that are inputs of the part."""
    if not set(node.output) & set(inputs):
        return node
    renamed = onnx.NodeProto()
    renamed.CopyFrom(node)
    for position, name in enumerate(node.output):
        if name in inputs:
            renamed.output[position] = f"{name}@computed"
    return renamed


def _input_shape(info: onnx.ValueInfoProto) -> Shape:
    """The shape of an input with a batch of 1; every other dimension has to be fixed."""
    name = printable(info.name)
    dims = info.type.tensor_type.shape.dim
    if not info.type.HasField("tensor_type") or not info.type.tensor_type.HasField("shape") or len(dims) < 2:
        raise UnsupportedModelError(f"input {name}: has no shape (batch, ...); give it a static one")
    kind = info.type.tensor_type.elem_type
    if kind in NO_NUMBERS:
        raise UnsupportedModelError(
            f"input {name}: holds {TensorProto.DataType.Name(kind)}; only numbers are supported"
        )
    for axis, dim in enumerate(dims):
        if axis and dim.dim_value < 1:
            shown = dim.dim_param or "unknown"
            raise UnsupportedModelError(
                f"input {name}: dimension {axis} is {printable(shown)!r}; only the batch (dimension 0) may be"
                " dynamic, export the model with a fixed shape"
            )
    shape = (1, *(int(d.dim_value) for d in dims[1:]))
    if prod(shape) > MAX_FRAME:
        raise UnsupportedModelError(f"input {name}: holds {prod(shape)} elements; at most {MAX_FRAME} are supported")
    return shape


def _stream_order(where: str, shape: Shape, axes: Axes) -> tuple[Shape, IntArray]:
    """The stream shape of a model tensor (batch 1) whose axes stream in this order, and where each of its elements goes."""
    stream = tuple(shape[axis] for axis in axes)
    importing.admit(where, stream)
    places = np.arange(prod(shape), dtype=np.int64).reshape(stream)
    return stream, np.ascontiguousarray(places.transpose(np.argsort(axes))[None])


def _attribute(attribute: onnx.AttributeProto, where: str) -> Any:
    if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
        raise UnsupportedModelError(f"{where}: holds a subgraph; control flow cannot be compiled into hardware")
    value = helper.get_attribute_value(attribute)
    return value.decode(errors="replace") if isinstance(value, bytes) else value
