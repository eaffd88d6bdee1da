"""A random valid network: one to eight layers over everything that the compiler supports, from a seed and an index."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto

from .draft import Case, Draft, Grid, Shape, Wire
from .emitters import EMITTERS, ENDS, LARGEST

OPSETS = range(9, 21)


def generate(seed: int, index: int, avoid: Collection[str] = ()) -> Case:
    """Network `index` of a seed, without the emitters to avoid; the same for the same arguments, whatever was made before."""
    rng = np.random.default_rng([seed, index])
    net = Draft(
        rng,
        opset=int(rng.choice(OPSETS)) if rng.random() < 0.6 else int(rng.choice([13, 17, 18, 20])),
        trunc_version=int(rng.integers(1, 3)),
        batch="N" if rng.random() < 0.7 else 1,
    )
    for _ in range(net.choose((1, 2, 3), (16, 4, 1))):
        net.wires.append(_entry(net, _shape(net)))
    for _ in range(net.choose(range(1, 9))):
        _layer(net, avoid)
    return net.case(_outputs(net), seed, index)


def _shape(net: Draft) -> Shape:
    if net.wires and net.chance(0.6):  # so that inputs can meet
        return net.wires[0].shape
    match net.choose(("image", "vector", "tokens"), (6, 2, 2)):
        case "image":
            return (net.whole(1, 12 if net.chance(0.3) else 4), net.whole(1, 9), net.whole(1, 9))
        case "vector":
            return (net.whole(1, 24),)
        case _:
            return (net.whole(1, 6), net.whole(1, 8))


def _entry(net: Draft, shape: Shape) -> Wire:
    """A model input as the first tensor of codes: quantized at once, behind float operators, or integer as it comes."""
    match net.choose(("quantized", "head", "integer", "cast"), (12, 4, 4, 1)):
        case "quantized":
            return net.quantize(Wire(net.input(shape), shape, False, 1.0))
        case "head":
            x = Wire(net.input(shape), shape, False, 1.0)
            for _ in range(net.whole(1, 3)):
                x = _head(net, x)
            return net.quantize(x)
        case kind:
            bits, signed = net.whole(1, 8), net.chance(0.4)
            bits += signed and bits == 1
            lo = -(2 ** (bits - 1)) if signed else 0
            element = TensorProto.FLOAT
            if kind == "cast":
                element = TensorProto.INT8 if signed else TensorProto.UINT8
            name = net.input(shape, element)
            net.types[name] = f"{'' if signed else 'u'}int{bits}"
            if kind == "cast":
                name = net.node("Cast", name, to=TensorProto.FLOAT)
            return Wire(name, shape, True, float(max(-lo, 2**bits + lo - 1)), not signed, Grid(1.0, 0.0, bits, signed))


def _head(net: Draft, x: Wire) -> Wire:
    """A float operator before the first quantizer."""
    match net.choose(("Mul", "Sub", "Add", "Div", "Clip", "Relu", "Transpose", "Neg")):
        case "Clip" if net.opset >= 11:
            name = net.node("Clip", x.name, np.float32(-0.5), np.float32(0.75))
        case "Clip":
            name = net.node("Clip", x.name, min=-0.5, max=0.75)
        case "Relu" | "Neg" as op_type:
            name = net.node(op_type, x.name)
        case "Transpose":
            perm = net.rng.permutation(len(x.shape)).tolist()
            name = net.node("Transpose", x.name, perm=[0, *(p + 1 for p in perm)])
            return Wire(name, tuple(x.shape[p] for p in perm), False, x.size)
        case op_type:
            constant = net.per_channel(x, net.numbers(1.0, signed=op_type in ("Add", "Sub")))
            name = net.node(op_type, x.name, constant)
    return Wire(name, x.shape, False, x.size)


def _layer(net: Draft, avoid: Collection[str]) -> None:
    """One more operator behind a tensor, most often the last one, and most often a quantizer behind that."""
    recent = len(net.wires) - 1
    x = net.wires[recent if net.chance(0.75) else net.whole(0, recent)]
    fitting = [e for e in EMITTERS.values() if net.opset >= e.opset and e.fits(x) and e.name not in avoid]
    emitter = net.choose(fitting, [e.weight for e in fitting])
    for wire in emitter.emit(net, x):
        if not wire.codes and net.chance(0.6):
            wire = net.quantize(wire)
            while net.chance(0.08):
                wire = net.quantize(wire)
        if 0 < wire.elements <= LARGEST:
            net.wires.append(wire)


def _outputs(net: Draft) -> list[str]:
    """Every tensor that nothing reads, and now and then one that something does."""
    read = {name for node in net.nodes for name in node.input}
    leaves = [w for w in net.wires if w.name not in read]
    names: list[str] = []
    for wire in leaves:
        if net.chance(0.12):
            names.extend(net.choose(list(ENDS.values()))(net, wire))
        elif not wire.codes and net.chance(0.8):
            names.append(net.quantize(wire).name)
        else:
            names.append(wire.name)
    inner = [w for w in net.wires if w not in leaves]
    if inner and net.chance(0.15):
        names.append(net.choose(inner).name)
    net.rng.shuffle(names)
    # an input without a reader has nothing to say
    return list(dict.fromkeys(names))


def operators(model: onnx.ModelProto) -> list[str]:
    """The operators of a model's nodes."""
    return [node.op_type for node in model.graph.node]
