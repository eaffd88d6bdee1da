"""Fold BatchNormalization into the linear operator before it.

    gamma * (W x + b - mean) / sqrt(var + eps) + beta = (a W) x + a (b - mean) + beta,  a = gamma / sqrt(var + eps)

a has one entry per output channel. The arithmetic is float64, the new weights and constants are stored as float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from broadaxe.errors import UnsupportedModelError
from broadaxe.frontend.standard import attribute
from broadaxe.frontend.wiring import Array, Wiring, drop_unused, prepared, standard, where


def fold_batchnorm(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold every BatchNormalization in inference form into the Conv, Gemm or MatMul (and constant Add) before it.

    Folded are those whose input nothing else reads, where weights, bias and statistics are float32 constants. All others
    stay as they are, and so does a layer whose weights have a Quant already. The tensor that a folded BatchNormalization
    wrote keeps its name. `model` itself is not changed.
    """
    result = prepared(model)
    wiring = Wiring(result)
    matrices = _matrices(result)
    folder = _Folder(wiring)
    for node in list(result.graph.node):
        if standard(node, "BatchNormalization"):
            layer = _layer_before(node, wiring, matrices)
            if layer is not None:
                folder.fold(node, layer)
    folder.finish()
    return result


@dataclass(frozen=True)
class _Layer:
    """A linear operator with constant weights, and the Add of a constant behind it if there is one.

    Attributes:
        axis: output channels in the weight's shape.
        bias: per output channel, float64, shape (channels,).
    """

    linear: onnx.NodeProto
    add: onnx.NodeProto | None
    weight: Array
    axis: int
    bias: Array


class _Folder:
    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.gone: set[int] = set()

    def fold(self, norm: onnx.NodeProto, layer: _Layer) -> None:
        constants = [self.wiring.values.get(name) for name in norm.input[1:5]]
        channels = layer.weight.shape[layer.axis]
        if len(norm.input) != 5 or any(c is None or c.dtype != np.float32 or c.size != channels for c in constants):
            return
        gamma, beta, mean, variance = (np.asarray(c, dtype=np.float64).reshape(-1) for c in constants)
        shifted = variance + float(np.float32(attribute(norm, "epsilon", 1e-5)))
        finite = all(np.isfinite(v).all() for v in (gamma, beta, mean, shifted))
        if not finite or shifted.min() <= 0:
            raise UnsupportedModelError(
                f"{where(norm)}: its statistics cannot be used, variance plus epsilon reaches {shifted.min():g};"
                " finite numbers with a positive variance are needed"
            )
        gain = gamma / np.sqrt(shifted)
        along = [1] * layer.weight.ndim
        along[layer.axis] = channels
        layer.linear.input[1] = self._store(layer.weight * gain.reshape(along), f"{layer.linear.input[1]}_folded")
        self._set_bias(norm, layer, gain * (layer.bias - mean) + beta)

    def _set_bias(self, norm: onnx.NodeProto, layer: _Layer, bias: Array) -> None:
        """Put the new bias where the operator takes one, and have it write what the BatchNormalization wrote."""
        linear = layer.linear
        name = self._store(bias, f"{linear.output[0]}_bias")
        if linear.op_type == "MatMul":
            source, written = linear.output[0], norm.output[0]
            add = layer.add if layer.add is not None else norm
            if add is norm:
                add.CopyFrom(helper.make_node("Add", [source, name], [written], name=norm.name))
                return
            add.input[:] = [source, name]
            add.output[0] = written
        else:
            linear.input[:] = [linear.input[0], linear.input[1], name]
            linear.output[0] = norm.output[0]
            if layer.add is not None:
                self.gone.add(id(layer.add))
        self.gone.add(id(norm))

    def finish(self) -> None:
        graph = self.wiring.model.graph
        kept = [node for node in graph.node if id(node) not in self.gone]
        copies = []
        for node in kept:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copies.append(copy)
        del graph.node[:]
        graph.node.extend(copies)
        drop_unused(graph)

    def _store(self, value: Array, stem: str) -> str:
        name = self.wiring.fresh(stem)
        self.wiring.model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name


def _layer_before(norm: onnx.NodeProto, wiring: Wiring, matrices: set[str]) -> _Layer | None:
    """The layer that a BatchNormalization can be folded into."""
    if attribute(norm, "training_mode", 0) or len([name for name in norm.output if name]) != 1:
        return None
    before = _only_producer(norm.input[0], norm, wiring)
    add = None
    if before is not None and standard(before, "Add"):
        (operand, *others) = wiring.live(before) or [""]
        if others:
            return None
        add, before = before, _only_producer(operand, before, wiring)
    if before is None or not standard(before, "Conv", "Gemm", "MatMul") or len(before.input) < 2:
        return None
    weight = wiring.values.get(before.input[1])
    if weight is None or weight.dtype != np.float32 or before.input[0] in wiring.fixed:
        return None
    if before.op_type == "Conv":
        axis, rank = 0, weight.ndim
    elif before.op_type == "Gemm":
        if any(attribute(before, name, default) != default for name, default in (("alpha", 1.0), ("beta", 1.0))):
            return None
        axis, rank = (0 if attribute(before, "transB", 0) else 1), 2
    elif before.output[0] in matrices:
        axis, rank = 1, 2
    else:
        return None
    if (before.op_type == "Conv" and weight.ndim < 3) or (before.op_type != "Conv" and weight.ndim != 2):
        return None
    channels = weight.shape[axis]
    bias = np.zeros(channels)
    if len(before.input) > 2 and before.input[2]:
        shape = (1, 0) if before.op_type == "Conv" else (2, 1)
        own = _per_channel(wiring.values.get(before.input[2]), channels, *shape)
        if own is None:
            return None
        bias = bias + own
    if add is not None:
        constant = next(name for name in add.input if name in wiring.fixed)
        own = _per_channel(wiring.values.get(constant), channels, rank, 1)
        if own is None:
            return None
        bias = bias + own
    return _Layer(before, add, weight.astype(np.float64), axis, bias)


def _only_producer(tensor: str, reader: onnx.NodeProto, wiring: Wiring) -> onnx.NodeProto | None:
    """The node that writes a tensor, if `reader` alone reads it."""
    if tensor in wiring.outputs or len(wiring.consumers.get(tensor, [])) != 1:
        return None
    node = wiring.producers.get(tensor)
    return node if node is not None and len([name for name in node.output if name]) == 1 else None


def _per_channel(value: Array | None, channels: int, rank: int, axis: int) -> Array | None:
    """A constant as one float64 per channel, if it broadcasts along `axis` of a tensor of `rank` alone."""
    if value is None or value.dtype != np.float32 or value.ndim > rank:
        return None
    full = value.reshape([1] * (rank - value.ndim) + list(value.shape))
    if full.size != full.shape[axis] or full.size not in (1, channels):
        return None
    return np.broadcast_to(full.reshape(-1).astype(np.float64), (channels,))


def _matrices(model: onnx.ModelProto) -> set[str]:
    """Tensors that MatMul writes and that are known to be (batch, channels): there axis 1 is the output channel."""
    written = {node.output[0] for node in model.graph.node if standard(node, "MatMul")}
    if not written:
        return set()
    try:
        inferred = shape_inference.infer_shapes(model)
    except Exception:  # shapes that contradict each other: nothing is known
        return set()
    infos = (*inferred.graph.value_info, *inferred.graph.output)
    return {i.name for i in infos if i.name in written and len(i.type.tensor_type.shape.dim) == 2}
