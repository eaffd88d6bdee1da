"""deploy/ports.json: what a host needs to know of a build to send it frames and to read what comes back.

Names of the model's tensors stand here and nowhere else under deploy/, escaped by JSON.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from broadaxe.build import Build
from broadaxe.chain import Affine, spread
from broadaxe.deploy.layout import Layout
from broadaxe.emit import Port
from broadaxe.frontend.standard import attribute, code_range, is_quantizer, rounding_mode
from broadaxe.ir import IntArray
from broadaxe.lower import HostInput, HostOutput, extract
from broadaxe.reports.model import order_of
from broadaxe.serialize import plain
from broadaxe.version import __version__


def port_facts(build: Build) -> dict[str, Any]:
    """What ports.json holds."""
    sent = [_sent(build, host) for host in build.lowered.inputs]
    received = [_received(build, host) for host in build.lowered.outputs]
    quantizers = {
        host.quantized: found
        for host in build.lowered.inputs
        if host.quantized is not None and (found := _quantizer(build.host.qonnx, host)) is not None
    }
    tensors = {host.tensor for host in build.lowered.outputs}
    wanted = list(build.lowered.outputs_of_model)
    rest = [name for name in wanted if name not in tensors]
    head = any(host.quantized is not None and host.quantized not in quantizers for host in build.lowered.inputs)
    return {
        "broadaxe": __version__,
        "top": build.top,
        "control": build.settings.control,
        "inputs": [_port(build, port) for port in build.flow.inputs],
        "outputs": [_port(build, port) for port in build.flow.outputs],
        "sent": sent,
        "received": received,
        "quantizers": quantizers,
        "outputs_of_model": wanted,
        "head": "head.onnx" if head else None,
        "tail": "tail.onnx" if rest else None,
        **_parameters(build),
    }


def parameters_port(build: Build) -> Port | None:
    """The port that parameters come through, one frame of which is a load; None where weights are fixed."""
    words = sum(p.words for p in build.flow.parameters)
    return Port("parameters", "", (words,), 1, 64, words, "uint64") if words else None


def layout_digest(build: Build) -> str:
    """SHA-256 of what decides where each word of parameters goes: kernels, their folding and their budgets."""
    text = [
        [node.name, node.op.kind, lanes.read, lanes.written, plain(getattr(node.op, "budget", None)), parameters.words]
        for parameters in build.flow.parameters
        for node, lanes in ((build.graph.node(parameters.node), build.lanes[parameters.node]),)
    ]
    values = [[v.name, list(v.shape), str(v.dtype), plain(v.bounds)] for v in build.graph.values.values()]
    return hashlib.sha256(json.dumps([build.top, text, values]).encode()).hexdigest()


def _parameters(build: Build) -> dict[str, Any]:
    port = parameters_port(build)
    if port is None:
        return {}
    at = max(len(build.flow.inputs), len(build.flow.outputs))
    return {"parameters": {"words": port.beats, "dma": at, "layout": layout_digest(build)}}


def ports_files(build: Build, facts: dict[str, Any]) -> dict[str, bytes]:
    """ports.json, and head.onnx and tail.onnx where the model has float operators that ports.json cannot express."""
    files = {"ports.json": f"{json.dumps(facts, indent=1)}\n".encode()}
    if facts["head"]:
        files["head.onnx"] = build.host.head.SerializeToString(deterministic=True)
    if facts["tail"]:
        tensors = sorted({host.tensor for host in build.lowered.outputs})
        rest = [name for name in build.lowered.outputs_of_model if name not in tensors]
        files["tail.onnx"] = extract(build.host.standard, tensors, rest).SerializeToString(deterministic=True)
    return files


def _port(build: Build, port: Port) -> dict[str, Any]:
    value, layout = build.graph.values[port.value], Layout(port)
    bounds = value.bounds if len(set(value.bounds)) > 1 else value.bounds[:1]
    return {
        "name": port.name,
        "width": value.dtype.width,
        "signed": value.dtype.signed,
        "lo": [b.lo for b in bounds],
        "hi": [b.hi for b in bounds],
        "shape": port.shape,
        "lanes": port.lanes,
        "beats": port.beats,
        "bits": port.bits,
        "slot": layout.slot,
        "frame": layout.frame,
        "stride": layout.stride,
    }


def _sent(build: Build, host: HostInput) -> dict[str, Any]:
    port = next(p for p in build.flow.inputs if p.value == host.value)
    value = build.graph.values[host.value]
    scale, shift = spread(value.scale, value.shift)
    return {
        "port": port.name,
        "source": host.tensor,
        "tensor": host.tensor,
        "quantized": host.quantized,
        "shape": port.shape,
        **_placing(host.index, port),
        "scale": [float(s) for s in scale],
        "shift": [float(s) for s in shift],
    }


def _received(build: Build, host: HostOutput) -> dict[str, Any]:
    port = next(p for p in build.flow.outputs if p.value == host.value)
    affine = host.chain[0]
    assert isinstance(affine, Affine)
    scale, shift = spread(affine.scale, affine.shift)
    return {
        "port": port.name,
        "tensor": host.tensor,
        "quantized": None,
        "shape": port.shape,
        **_placing(host.index, port),
        "kind": host.kind,
        "scale": [float(s) for s in scale],
        "shift": [float(s) for s in shift],
        "chain": [plain(step) for step in host.chain],
    }


def _placing(index: IntArray, port: Port) -> dict[str, Any]:
    order = order_of(index, port.shape)
    listed = index.reshape(-1).tolist() if order == "index" else None
    return {"tensor_shape": list(index.shape[1:]), "order": order, "index": listed}


def _quantizer(model: onnx.ModelProto, host: HostInput) -> dict[str, Any] | None:
    """The one quantizer between a model input and its integers; None where there is more than that."""
    node = next((n for n in model.graph.node if host.quantized in n.output), None)
    if node is None or not is_quantizer(node) or node.op_type == "Trunc" or node.input[0] != host.tensor:
        return None
    held = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    if not all(name in held for name in node.input[1:]):
        return None
    constants = [np.asarray(held[name], dtype=np.float32) for name in node.input[1:]]
    if any(c.ndim > 0 and c.shape[0] != 1 and c.ndim >= host.index.ndim for c in constants):
        return None  # one for each frame of a batch
    if node.op_type == "BipolarQuant":
        return {"scale": constants[0].tolist(), "zero_point": 0.0, "bipolar": True, "scaled": False}
    scale, zero_point, bits = constants
    signed, narrow = (bool(attribute(node, name, 0)) for name in ("signed", "narrow"))
    lo, hi = code_range(bits, signed, narrow)
    return {
        "scale": scale.tolist(),
        "zero_point": zero_point.tolist(),
        "bipolar": signed and bool(np.all(bits == 1)),
        "scaled": True,
        "lo": np.asarray(lo).tolist(),
        "hi": np.asarray(hi).tolist(),
        "mode": rounding_mode(node, "ROUND"),
    }
