"""Ways to damage a model file: each takes a random generator and a model and changes it, or gives the bytes of a file.

Names that are put in carry MARK and fragments of every language that a build folder holds, so that what reaches one is found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from models import QONNX
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, helper, numpy_helper

Rng = np.random.Generator
Damage = Callable[[Rng, ModelProto], bytes | None]
DAMAGES: dict[str, Damage] = {}
MARK = "BXMARK"
HOSTILE = (
    f"{MARK}[exec touch pwned]",
    f'{MARK}"); system("touch pwned',
    f"{MARK} */ int {MARK}; /*",
    f"{MARK}\n#include </etc/passwd>\n",
    f"../../../{MARK}",
    f"/tmp/{MARK}",
    f"{MARK}\0{MARK}",
    f"{MARK}$(touch pwned)`touch pwned`",
    f"{MARK}{{{{ 7 * 7 }}}}{{% raw %}}",
    f"{MARK}%s%n\r\x1b[31m",
    f"{MARK}'; DROP TABLE x; --",
    f"</script><script>{MARK}</script>",
    MARK + "\u202e\u0000\ud7ff",
    MARK * 2000,
    "",
)


def damage(function: Damage) -> Damage:
    DAMAGES[function.__name__] = function
    return function


def _node(rng: Rng, model: ModelProto) -> onnx.NodeProto:
    return model.graph.node[int(rng.integers(len(model.graph.node)))]


def _initializer(rng: Rng, model: ModelProto) -> TensorProto:
    return model.graph.initializer[int(rng.integers(len(model.graph.initializer)))]


def _pick(rng: Rng, options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


def _tensor_names(model: ModelProto) -> list[str]:
    names = [t.name for t in (*model.graph.initializer, *model.graph.input)]
    return [*names, *(n for node in model.graph.node for n in node.output)]


# bytes


def _raw(model: ModelProto) -> bytearray:
    return bytearray(model.SerializeToString())


@damage
def flip_bytes(rng: Rng, model: ModelProto) -> bytes:
    data = _raw(model)
    for _ in range(int(rng.integers(1, 9))):
        data[int(rng.integers(len(data)))] = int(rng.integers(256))
    return bytes(data)


@damage
def flip_a_bit(rng: Rng, model: ModelProto) -> bytes:
    data = _raw(model)
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return bytes(data)


@damage
def delete_bytes(rng: Rng, model: ModelProto) -> bytes:
    data = _raw(model)
    at = int(rng.integers(len(data)))
    del data[at : at + int(rng.integers(1, 20))]
    return bytes(data)


@damage
def insert_bytes(rng: Rng, model: ModelProto) -> bytes:
    data = _raw(model)
    at = int(rng.integers(len(data)))
    data[at:at] = rng.bytes(int(rng.integers(1, 20)))
    return bytes(data)


@damage
def cut_short(rng: Rng, model: ModelProto) -> bytes:
    data = _raw(model)
    return bytes(data[: int(rng.integers(len(data)))])


@damage
def repeat_bytes(rng: Rng, model: ModelProto) -> bytes:
    data = _raw(model)
    a, b = sorted(rng.integers(0, len(data), 2).tolist())
    return bytes(data[:b] + data[a:b] + data[b:])


# nodes


@damage
def drop_node(rng: Rng, model: ModelProto) -> None:
    del model.graph.node[int(rng.integers(len(model.graph.node)))]


@damage
def repeat_node(rng: Rng, model: ModelProto) -> None:
    node = onnx.NodeProto()
    node.CopyFrom(_node(rng, model))
    if rng.random() < 0.5:
        for i in range(len(node.output)):
            node.output[i] += "_again"
    model.graph.node.append(node)


@damage
def reorder_nodes(rng: Rng, model: ModelProto) -> None:
    nodes = list(model.graph.node)
    rng.shuffle(nodes)  # type: ignore[arg-type]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


@damage
def cycle(rng: Rng, model: ModelProto) -> None:
    node, later = _node(rng, model), model.graph.node[-1]
    if node.input and later.output:
        node.input[0] = later.output[0]


@damage
def rewire(rng: Rng, model: ModelProto) -> None:
    node = _node(rng, model)
    if node.input:
        node.input[int(rng.integers(len(node.input)))] = _pick(rng, _tensor_names(model))


@damage
def drop_an_input(rng: Rng, model: ModelProto) -> None:
    node = _node(rng, model)
    if node.input:
        at = int(rng.integers(len(node.input)))
        if rng.random() < 0.5:
            node.input[at] = ""
        else:
            del node.input[at]


@damage
def add_an_input(rng: Rng, model: ModelProto) -> None:
    _node(rng, model).input.append(_pick(rng, [*_tensor_names(model), "", "nowhere"]))


@damage
def change_outputs_of_a_node(rng: Rng, model: ModelProto) -> None:
    node = _node(rng, model)
    match int(rng.integers(4)):
        case 0:
            del node.output[:]
        case 1:
            node.output.append(f"{node.output[0] if node.output else ''}_more")
        case 2 if node.output:
            node.output.append(node.output[0])
        case _ if node.output:
            node.output[0] = ""


@damage
def other_operator(rng: Rng, model: ModelProto) -> None:
    node = _node(rng, model)
    others = [s.name for s in onnx.defs.get_all_schemas()] + [
        "Quant",
        "BipolarQuant",
        "Trunc",
        "MultiThreshold",
        "Nothing",
    ]
    node.op_type = _pick(rng, others)


@damage
def other_domain(rng: Rng, model: ModelProto) -> None:
    _node(rng, model).domain = _pick(rng, ["", "ai.onnx", "ai.onnx.ml", "com.microsoft", "onnx.brevitas", QONNX, MARK])


@damage
def deep(rng: Rng, model: ModelProto) -> None:
    """Thousands of operators in a row behind the first output."""
    if not model.graph.output:
        return
    name, op_type = model.graph.output[0].name, _pick(rng, ["Relu", "Identity", "Neg", "Mul"])
    more = [_pick(rng, _tensor_names(model))] if op_type == "Mul" else []
    for i in range(int(rng.integers(300, 3000))):
        model.graph.node.append(helper.make_node(op_type, [name, *more], [f"deep{i}"]))
        name = f"deep{i}"
    model.graph.output[0].name = name


@damage
def subgraph(rng: Rng, model: ModelProto) -> None:
    """Control flow, or subgraphs within subgraphs."""
    body = GraphProto(name="body")
    body.node.append(helper.make_node("Identity", [_pick(rng, _tensor_names(model))], ["inner"]))
    body.output.append(onnx.ValueInfoProto(name="inner"))
    for level in range(int(_pick(rng, [0, 0, 1, 40]))):
        outer = GraphProto(name=f"level{level}")
        branches = {"then_branch": body} | ({"else_branch": body} if level < 4 else {})
        outer.node.append(helper.make_node("If", ["condition"], ["inner"], **branches))
        outer.output.append(onnx.ValueInfoProto(name="inner"))
        body = outer
    node = helper.make_node(_pick(rng, ["If", "Loop", "Scan", "Relu"]), [_pick(rng, _tensor_names(model))], ["branch"])
    node.attribute.append(helper.make_attribute(_pick(rng, ["then_branch", "body"]), body))
    model.graph.node.insert(int(rng.integers(len(model.graph.node) + 1)), node)


# attributes


@damage
def drop_attribute(rng: Rng, model: ModelProto) -> None:
    node = _node(rng, model)
    if node.attribute:
        del node.attribute[int(rng.integers(len(node.attribute)))]


@damage
def other_attribute_type(rng: Rng, model: ModelProto) -> None:
    node = _node(rng, model)
    if node.attribute:
        at = int(rng.integers(len(node.attribute)))
        name = node.attribute[at].name
        values = [
            1,
            -1,
            0.5,
            "text",
            b"\xff\xfe",
            [1, 2],
            [0.5],
            ["a", "b"],
            numpy_helper.from_array(np.ones(2)),
            [2**62],
        ]
        node.attribute[at].CopyFrom(helper.make_attribute(name, _pick(rng, values)))


@damage
def attribute_type_alone(rng: Rng, model: ModelProto) -> None:
    node = _node(rng, model)
    if node.attribute:
        node.attribute[int(rng.integers(len(node.attribute)))].type = int(rng.integers(0, 15))


@damage
def extreme_attribute(rng: Rng, model: ModelProto) -> None:
    """An integer of an attribute far out, or a float that is no number."""
    entries = [a for node in model.graph.node for a in node.attribute]
    if not entries:
        return
    entry = _pick(rng, entries)
    extreme = int(_pick(rng, [0, -1, -(2**63), 2**63 - 1, 2**31, 2**20, 100_000, 1000, 7]))
    if entry.type == AttributeProto.INTS and entry.ints:
        entry.ints[int(rng.integers(len(entry.ints)))] = extreme
    elif entry.type == AttributeProto.INT:
        entry.i = extreme
    elif entry.type == AttributeProto.FLOAT:
        entry.f = float(_pick(rng, [np.nan, np.inf, -np.inf, 1e38, -1e38, 0.0, 1e-45]))
    elif entry.type == AttributeProto.STRING:
        entry.s = _pick(rng, [*(h.encode() for h in HOSTILE), b"\xff\xfe", b"ROUND", b"SAME_UPPER"])


@damage
def add_attribute(rng: Rng, model: ModelProto) -> None:
    name = _pick(
        rng, ["axis", "axes", "perm", "pads", "group", "kernel_shape", "mode", "to", "alpha", "keepdims", MARK]
    )
    _node(rng, model).attribute.append(helper.make_attribute(name, _pick(rng, [0, 1, 5, -3, [1, 0], "text", 0.5])))


# tensors


@damage
def special_numbers(rng: Rng, model: ModelProto) -> None:
    """NaN, infinities, zeros, negative and denormal numbers in a constant."""
    tensor = _initializer(rng, model)
    try:
        array = numpy_helper.to_array(tensor).copy()
    except Exception:
        return
    if array.dtype != np.float32:
        return
    values = [np.nan, np.inf, -np.inf, 0.0, -0.5, 1e38, -1e38, 1e-45, 2.0**24 + 1, 0.3]
    if array.ndim and rng.random() < 0.7:
        array.reshape(-1)[int(rng.integers(array.size)) if array.size else 0 : None][:1] = _pick(rng, values)
    else:
        array = np.full_like(array, _pick(rng, values))
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


@damage
def other_element_type(rng: Rng, model: ModelProto) -> None:
    """The declared type alone, or the numbers converted to it."""
    tensor = _initializer(rng, model)
    if rng.random() < 0.5:
        tensor.data_type = int(rng.integers(0, 30))
        return
    kind = _pick(rng, [np.float16, np.float64, np.int32, np.int64, np.int8, np.uint8, np.bool_, np.complex64])
    try:
        array = numpy_helper.to_array(tensor)
        with np.errstate(all="ignore"):
            tensor.CopyFrom(numpy_helper.from_array(array.astype(kind), tensor.name))
    except Exception:
        return


@damage
def other_input_type(rng: Rng, model: ModelProto) -> None:
    if model.graph.input:
        _pick(rng, model.graph.input).type.tensor_type.elem_type = int(rng.integers(0, 24))


@damage
def text_tensor(rng: Rng, model: ModelProto) -> None:
    tensor = _initializer(rng, model)
    tensor.CopyFrom(helper.make_tensor(tensor.name, TensorProto.STRING, [1], [MARK.encode()]))


@damage
def cut_data(rng: Rng, model: ModelProto) -> None:
    tensor = _initializer(rng, model)
    if tensor.raw_data:
        tensor.raw_data = tensor.raw_data[: int(rng.integers(len(tensor.raw_data)))]


@damage
def other_dims(rng: Rng, model: ModelProto) -> None:
    """A huge, negative, zero, missing or further axis of a constant."""
    tensor = _initializer(rng, model)
    match int(rng.integers(4)):
        case 0:
            tensor.dims.append(int(_pick(rng, [0, 1, 2, 2**40, -1])))
        case 1 if tensor.dims:
            del tensor.dims[-1]
        case 2 if len(tensor.dims) > 1:
            turned = list(tensor.dims)[::-1]
            del tensor.dims[:]
            tensor.dims.extend(turned)
        case _ if tensor.dims:
            tensor.dims[int(rng.integers(len(tensor.dims)))] = int(_pick(rng, [0, -1, 2**62, 2**31, 10**6]))


@damage
def empty_tensor(rng: Rng, model: ModelProto) -> None:
    tensor = _initializer(rng, model)
    try:
        array = numpy_helper.to_array(tensor)
        axis = int(rng.integers(max(array.ndim, 1)))
        empty = np.take(array, [], axis=axis) if array.ndim else array.reshape(1)[:0]
    except Exception:
        return
    tensor.CopyFrom(numpy_helper.from_array(empty, tensor.name))


@damage
def other_shape(rng: Rng, model: ModelProto) -> None:
    """Numbers kept, broadcast another way."""
    tensor = _initializer(rng, model)
    try:
        array = numpy_helper.to_array(tensor)
        n = array.size
        shape = _pick(rng, [(n,), (1, n), (n, 1), (1, n, 1, 1), (1, 1, *array.shape), array.shape[::-1]])
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array.reshape(shape)), tensor.name))
    except Exception:
        return


@damage
def external_data(rng: Rng, model: ModelProto) -> None:
    tensor = _initializer(rng, model)
    tensor.data_location = TensorProto.EXTERNAL
    places = ["/etc/passwd", "../model.onnx", "model.onnx", "", ".", "/dev/zero", "nothing.bin", "a/../../b"]
    places += [f"{MARK}\0", "/proc/self/mem"]
    tensor.external_data.append(onnx.StringStringEntryProto(key="location", value=_pick(rng, places)))
    if rng.random() < 0.6:
        key = _pick(rng, ["offset", "length"])
        value = _pick(rng, ["0", "-1", "99999999999999999999", "1e9", MARK, "16", str(len(tensor.raw_data))])
        tensor.external_data.append(onnx.StringStringEntryProto(key=key, value=value))


@damage
def sparse(rng: Rng, model: ModelProto) -> None:
    """A constant in sparse form, indices in range or not."""
    tensor = _initializer(rng, model)
    count = int(rng.integers(0, 4))
    entry = model.graph.sparse_initializer.add()
    entry.values.CopyFrom(numpy_helper.from_array(rng.normal(size=count).astype(np.float32), tensor.name))
    entry.indices.CopyFrom(
        numpy_helper.from_array(rng.integers(0, 2**40 if rng.random() < 0.3 else 3, count), "indices")
    )
    entry.dims.extend(tensor.dims)
    if rng.random() < 0.7:
        model.graph.initializer.remove(tensor)


@damage
def repeat_initializer(rng: Rng, model: ModelProto) -> None:
    model.graph.initializer.append(_initializer(rng, model))


@damage
def drop_initializer(rng: Rng, model: ModelProto) -> None:
    model.graph.initializer.remove(_initializer(rng, model))


# inputs and outputs


@damage
def other_input_shape(rng: Rng, model: ModelProto) -> None:
    if not model.graph.input:
        return
    dims = _pick(rng, model.graph.input).type.tensor_type.shape.dim
    match int(rng.integers(5)):
        case 0 if dims:
            dims[int(rng.integers(len(dims)))].dim_value = int(_pick(rng, [0, -1, 2**40, 2**62, 10**5, 3000, 17, 5, 2]))
        case 1 if dims:
            dims[int(rng.integers(len(dims)))].dim_param = MARK
        case 2 if dims:
            del dims[-1]
        case 3:
            dims.add().dim_value = int(rng.integers(1, 5))
        case _:
            del dims[:]


@damage
def other_outputs(rng: Rng, model: ModelProto) -> None:
    outputs = model.graph.output
    match int(rng.integers(5)):
        case 0:
            del outputs[:]
        case 1:
            outputs.append(outputs[0])
        case 2:
            outputs.append(onnx.ValueInfoProto(name=_pick(rng, _tensor_names(model))))
        case 3:
            outputs[0].name = _pick(rng, [*_tensor_names(model), "nowhere", ""])
        case _:
            outputs[0].CopyFrom(helper.make_tensor_value_info(outputs[0].name, int(rng.integers(1, 16)), [2**40, 7]))


@damage
def other_inputs(rng: Rng, model: ModelProto) -> None:
    inputs = model.graph.input
    match int(rng.integers(4)):
        case 0:
            del inputs[int(rng.integers(len(inputs)))]
        case 1:
            inputs.append(inputs[0])
        case 2:
            inputs.append(onnx.ValueInfoProto(name="bare"))
        case _:
            inputs[0].type.Clear()
            if rng.random() < 0.5:
                inputs[0].type.sequence_type.elem_type.tensor_type.elem_type = 1


# the model around the graph


@damage
def other_opsets(rng: Rng, model: ModelProto) -> None:
    match int(rng.integers(5)):
        case 0:
            del model.opset_import[:]
        case 1:
            model.opset_import.append(helper.make_opsetid("", int(rng.integers(1, 30))))
        case 2:
            model.opset_import.append(helper.make_opsetid(MARK, 1))
        case 3:
            for entry in model.opset_import:
                if entry.domain == "":
                    entry.version = int(_pick(rng, [0, -1, 1, 6, 8, 9, 11, 13, 18, 21, 23, 26, 10**6, 2**62]))
        case _:
            model.ir_version = int(_pick(rng, [0, 1, 3, 13, 14, 10**6, -1, 2**62]))


@damage
def function(rng: Rng, model: ModelProto) -> None:
    """A local function, one that calls itself or one in the place of an operator that is used."""
    used = _node(rng, model)
    domain = _pick(rng, ["", "local", QONNX, used.domain])
    name = _pick(rng, [used.op_type, "Own", "Quant"])
    inner = helper.make_node(_pick(rng, ["Identity", name]), ["a"], ["b"], domain=_pick(rng, ["", domain]))
    made = helper.make_function(domain, name, ["a"], ["b"], [inner], [helper.make_opsetid("", 18)])
    model.functions.append(made)
    if rng.random() < 0.5:
        used.domain, used.op_type = domain, name


@damage
def quantize_linear(rng: Rng, model: ModelProto) -> None:
    """A pair of the other way to write quantizers, with constants that may not fit."""
    node = _node(rng, model)
    if not node.input:
        return
    scale = np.asarray(_pick(rng, [0.5, 0.0, -1.0, np.nan, [0.5, 0.25], 1e-40]), np.float32)
    zero = np.asarray(_pick(rng, [0, 3, [0, 1]]), _pick(rng, [np.int8, np.uint8, np.int32, np.float32]))
    model.graph.initializer.extend(
        [numpy_helper.from_array(scale, "qdq_scale"), numpy_helper.from_array(zero, "qdq_zero")]
    )
    x = node.input[0]
    pair = [
        helper.make_node("QuantizeLinear", [x, "qdq_scale", "qdq_zero"], ["qdq_codes"]),
        helper.make_node("DequantizeLinear", ["qdq_codes", "qdq_scale", "qdq_zero"], ["qdq_reals"]),
    ]
    at = list(model.graph.node).index(node)
    node.input[0] = "qdq_reals"
    for i, entry in enumerate(pair):
        model.graph.node.insert(at + i, entry)


@damage
def metadata(rng: Rng, model: ModelProto) -> None:
    """What the quantizer writes to nodes, wrong."""
    keys = ["broadaxe.tile", "broadaxe.inner_bits", "broadaxe.outer_bits", "broadaxe.order", "broadaxe.start", MARK]
    values = ["0", "-1", "1", "4", "99999999999999999999", "c,kh,kw", "offset", *HOSTILE, "²"]
    entry = onnx.StringStringEntryProto(key=_pick(rng, keys), value=_pick(rng, values))
    _pick(rng, [model, model.graph, _node(rng, model)]).metadata_props.append(entry)


@damage
def hostile_names(rng: Rng, model: ModelProto) -> None:
    """Names of nodes, tensors, the graph, and every free text, that other languages would read."""
    for node in model.graph.node:
        if rng.random() < 0.5:
            node.name = _pick(rng, HOSTILE)
        if rng.random() < 0.2:
            node.doc_string = _pick(rng, HOSTILE)
    chosen = [n for n in dict.fromkeys(_tensor_names(model)) if n and rng.random() < 0.5]
    names = {n: f"{_pick(rng, HOSTILE)}{i}" for i, n in enumerate(chosen)}
    for node in model.graph.node:
        for group in (node.input, node.output):
            for i, n in enumerate(group):
                group[i] = names.get(n, n)
    for entry in (*model.graph.initializer, *model.graph.input, *model.graph.output):
        entry.name = names.get(entry.name, entry.name)
    model.graph.name = _pick(rng, HOSTILE)
    model.producer_name = model.graph.doc_string = model.doc_string = model.domain = _pick(rng, HOSTILE)


@damage
def hostile_name(rng: Rng, model: ModelProto) -> None:
    """One name alone, its readers left behind."""
    node = _node(rng, model)
    match int(rng.integers(4)):
        case 0:
            node.name = _pick(rng, HOSTILE)
        case 1 if node.output:
            node.output[0] = _pick(rng, HOSTILE)
        case 2:
            node.op_type = _pick(rng, HOSTILE)
        case _ if node.attribute:
            _pick(rng, node.attribute).name = _pick(rng, HOSTILE)


def damaged(rng: Rng, model: ModelProto) -> tuple[bytes, list[str]]:
    """A file with one to three damages, and their names."""
    copy = ModelProto()
    copy.CopyFrom(model)
    names = []
    for _ in range(int(rng.choice([1, 1, 1, 2, 2, 3]))):
        name = _pick(rng, list(DAMAGES))
        if (name == "hostile_names" and names) or not copy.graph.node or not copy.graph.initializer:
            continue
        names.append(name)
        try:
            data = DAMAGES[name](rng, copy)
        except (IndexError, ValueError, UnicodeError, DecodeError):  # damaged too much for one more
            break
        if data is not None:
            return data, names
    return copy.SerializeToString(), names
