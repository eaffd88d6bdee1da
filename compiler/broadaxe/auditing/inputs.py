"""Model inputs whose codes are given: the way back through what the host does in front of the first quantizer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from broadaxe.auditing.design import Design
from broadaxe.constants import run_float
from broadaxe.errors import BroadaxeError
from broadaxe.host import Host
from broadaxe.ir import IntArray
from broadaxe.lower import HostInput, extract
from broadaxe.ops.importing import Array


def model_inputs(design: Design, codes: Mapping[str, IntArray]) -> dict[str, Array] | None:
    """Arrays for the model's inputs, batch of 1, that quantize to exactly these codes; None where none was found.

    The way back is guessed (codes to reals, then the inverse of an element-wise affine head) and always checked.
    """
    host = design.host
    made: dict[str, Array] = {}
    for entry in design.lowered.inputs:
        x = _wanted(design, entry, codes[entry.value])
        if entry.quantized is not None and entry.quantized in _heads(design):
            back = _through_head(host, design, entry, x)
            if back is None:
                return None
            x = back
        if entry.tensor in made and not np.array_equal(made[entry.tensor], x):
            return None
        made[entry.tensor] = x
    try:
        found = host.codes(made)
    except BroadaxeError:
        return None
    same = all(np.array_equal(found[name], codes[name]) for name in design.graph.inputs)
    return host.feeds(made) if same else None


def _wanted(design: Design, entry: HostInput, stream: IntArray) -> Array:
    """Reals of a quantized tensor (or integers of an input that carries them) in the model's layout."""
    value = design.graph.values[entry.value]
    scale = np.array([float(s) for s in value.scale])
    shift = np.array([float(s) for s in value.shift])
    reals = (stream.reshape(1, *value.shape).astype(np.float64) * scale + shift).reshape(-1)
    return np.asarray(reals[entry.index], dtype=np.float32)


def _heads(design: Design) -> dict[str, str]:
    """Quantized tensors that do not read a model input directly, and what they read."""
    names = {info.name for info in design.model.graph.input}
    writers = {node.output[0]: node for node in design.model.graph.node if node.output}
    out = {}
    for entry in design.lowered.inputs:
        writer = writers.get(entry.quantized or "")
        if writer is not None and writer.input[0] not in names:
            out[entry.quantized or ""] = writer.input[0]
    return out


def _through_head(host: Host, design: Design, entry: HostInput, wanted: Array) -> Array | None:
    """The input that an element-wise affine head maps to `wanted`: y = a * x + b, with a and b from two runs."""
    tensor = _heads(design)[entry.quantized or ""]
    info = next(i for i in host.standard.graph.input if i.name == entry.tensor)
    shape = (1, *(int(d.dim_value) for d in info.type.tensor_type.shape.dim[1:]))
    kind = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
    try:
        head = extract(host.standard, [entry.tensor], [tensor])
        at = [run_float(head, {entry.tensor: np.full(shape, v, dtype=kind)})[tensor].astype(np.float64) for v in (0, 1)]
    except Exception:  # onnxruntime's exceptions share no base of their own
        return None
    slope = at[1] - at[0]
    if at[0].shape != wanted.shape or shape != wanted.shape or not slope.all():
        return None
    back = (wanted - at[0]) / slope
    return np.asarray(np.rint(back) if kind.kind in "iu" else back, dtype=kind)
