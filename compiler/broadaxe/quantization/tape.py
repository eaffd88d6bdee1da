"""A model run piece by piece on calibration data: what later nodes still read is kept, on disk where memory is short."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from broadaxe.frontend.standard import session
from broadaxe.ops.importing import Array

BATCH_ELEMENTS = 1 << 24
SMALLEST_BATCH, LARGEST_BATCH = 1, 256


class Store:
    """Arrays by name; new ones go to a folder that vanishes with the store once `limit` bytes are in memory."""

    def __init__(self, limit: float) -> None:
        self.limit, self.held = limit, 0
        self.arrays: dict[tuple[int, str], Array] = {}
        self.folder: tempfile.TemporaryDirectory[str] | None = None
        self.count = 0

    def empty(self, key: tuple[int, str], shape: tuple[int, ...], dtype: np.dtype) -> Array:
        size = int(np.prod(shape)) * dtype.itemsize
        if self.held + size <= self.limit:
            self.held += size
            self.arrays[key] = np.empty(shape, dtype)
        else:
            self.folder = self.folder or tempfile.TemporaryDirectory(prefix="broadaxe-")
            path = Path(self.folder.name) / f"{self.count}.bin"
            self.count += 1
            self.arrays[key] = np.memmap(path, dtype=dtype, mode="w+", shape=shape)
        return self.arrays[key]

    def drop(self, key: tuple[int, str]) -> None:
        array = self.arrays.pop(key, None)
        if isinstance(array, np.memmap):
            Path(str(array.filename)).unlink(missing_ok=True)
        elif array is not None and array.base is None:
            self.held -= array.nbytes

    def close(self) -> None:
        self.arrays.clear()
        if self.folder is not None:
            self.folder.cleanup()


class Tape:
    """One network on calibration data, advanced tensor by tensor in the order of its nodes.

    Args:
        model: standard ONNX with an open batch axis.
        data: inputs, shape (samples, ...).
        store: where activations wait.
    """

    def __init__(self, model: onnx.ModelProto, data: Mapping[str, Array], store: Store) -> None:
        self.opsets = list(model.opset_import)
        self.nodes = {str(o): n for n in model.graph.node for o in n.output if o}
        self.order: dict[int, float] = {id(n): k for k, n in enumerate(model.graph.node)}
        self.constants = {t.name: t for t in model.graph.initializer}
        self.store = store
        self.inputs = {i.name: i for i in model.graph.input if i.name not in self.constants}
        self.outputs = [o.name for o in model.graph.output]
        self.done: set[str] = set(self.inputs)
        self.readers: dict[str, int] = {}
        for node in model.graph.node:
            for name in node.input:
                self.readers[name] = self.readers.get(name, 0) + 1
        for name in self.outputs:
            self.readers[name] = self.readers.get(name, 0) + 1
        for name, info in self.inputs.items():
            kind = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
            store.arrays[id(self), name] = np.asarray(data[name], dtype=kind).view()
        self.samples = len(next(iter(data.values())))

    def constant(self, name: str, array: Array) -> None:
        """Exchange a constant, or cut what computes a tensor and put a constant in its place."""
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        self.nodes.pop(name, None)

    def replace(self, output: str, nodes: Sequence[onnx.NodeProto]) -> None:
        """Put other nodes, the last of which writes the same tensor, in a node's place before it has run."""
        position = self.order[id(self.nodes[output])]
        for step, node in enumerate(nodes):
            self.order[id(node)] = position + step / len(nodes)
            for name in node.output:
                self.nodes[name] = node
            if step:
                self.readers[node.input[0]] = 1

    def read(self, name: str) -> Array:
        """A tensor of every sample; whatever it needs is run first. Reading does not count as a node's reading."""
        if name not in self.done:
            self._advance(name)
        return self.store.arrays[id(self), name]

    def close(self) -> None:
        for key in [k for k in self.store.arrays if k[0] == id(self)]:
            self.store.drop(key)

    def _advance(self, target: str) -> None:
        todo: dict[int, onnx.NodeProto] = {}
        feeds, constants, waiting = set(), set(), [target]
        while waiting:
            name = waiting.pop()
            if name in self.constants:
                constants.add(name)
            elif name in self.done:
                feeds.add(name)
            elif name and id(self.nodes[name]) not in todo:
                node = self.nodes[name]
                todo[id(node)] = node
                waiting.extend(node.input)
        nodes = sorted(todo.values(), key=lambda n: self.order[id(n)])
        live = set(feeds)
        for node in nodes:
            if not live.isdisjoint(node.input):
                live.update(node.output)
        for node in nodes:
            for name in node.input:
                self.readers[name] = self.readers.get(name, 0) - 1
        made = {o for n in nodes for o in n.output if o in live}
        kept = sorted({o for o in made if self.readers.get(o, 0) > 0} | {target})
        self._run(nodes, sorted(feeds), constants, kept)
        self.done.update(kept)
        for name in feeds:
            if not self.readers.get(name, 0) and name not in kept:
                self.store.drop((id(self), name))

    def _run(self, nodes: list[onnx.NodeProto], feeds: list[str], constants: set[str], kept: list[str]) -> None:
        arrays = {name: self.store.arrays[id(self), name] for name in feeds}
        infos = [
            helper.make_tensor_value_info(
                n, helper.np_dtype_to_tensor_dtype(a.dtype), ["batch", *map(int, a.shape[1:])]
            )
            for n, a in arrays.items()
        ]
        outputs = [onnx.ValueInfoProto(name=n) for n in kept]
        part = helper.make_graph(nodes, "part", infos, outputs, [self.constants[n] for n in sorted(constants)])
        model = helper.make_model(part, opset_imports=self.opsets, ir_version=10)
        run = session(model, threads=0)
        widest = max((int(np.prod(a.shape[1:])) for a in arrays.values()), default=1)
        step = min(LARGEST_BATCH, max(SMALLEST_BATCH, BATCH_ELEMENTS // (8 * widest)))
        results: dict[str, Array] = {}
        for at in range(0, self.samples, step):
            values = run.run(kept, {n: np.ascontiguousarray(a[at : at + step]) for n, a in arrays.items()})
            for name, value in zip(kept, values, strict=True):
                if name not in results:
                    shape = (self.samples, *value.shape[1:])
                    results[name] = self.store.empty((id(self), name), shape, value.dtype)
                results[name][at : at + step] = value
