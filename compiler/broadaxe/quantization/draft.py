"""A QONNX model that is written anew node by node, and what the compiler makes of it so far."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from onnx import helper, numpy_helper
from torch import Tensor

from broadaxe.errors import ProofError
from broadaxe.lower import Walk
from broadaxe.ops.importing import Array, Constant
from broadaxe.ops.requantize import Requantize
from broadaxe.quantization.grid import WeightGrid
from broadaxe.quantization.layers import Layer, layer_of
from broadaxe.types import Interval

QONNX_DOMAIN = "qonnx.custom_op.general"


class Draft:
    """Nodes of a model, each lowered as it is written, so that bounds of what comes later are those of the finished model.

    Attributes:
        model: the model it comes from.
        initializers: constants of its own.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.initializers: dict[str, Array] = {}
        self._walk = Walk(model, {})
        self._makers = {str(o): n for n in model.graph.node for o in n.output}
        self._nodes: list[onnx.NodeProto] = []

    def layer(self, node: onnx.NodeProto, *, quantized: bool = False) -> Layer | None:
        """The layer that a node is, as what is written so far feeds it, or None; see `layer_of`."""
        return layer_of(self._walk, node, self._makers, quantized=quantized)

    def keep(self, node: onnx.NodeProto) -> None:
        """Write a node as it is."""
        self._walk.take(node)
        self._nodes.append(node)

    def keep_for_any_weights(self, node: onnx.NodeProto) -> None:
        """Write a node as it is; what a quantizer gives then has the bounds of its codes, whatever comes into it."""
        before = len(self._walk.builder.nodes)
        self.keep(node)
        bounds: Interval | None = None
        for new in self._walk.builder.nodes[before:]:
            value = self._walk.builder.values[new.output]
            if isinstance(new.op, Requantize):
                bounds = Interval(new.op.quantizer.lo, new.op.quantizer.hi)
            if bounds is not None:  # pools that waited for the quantizer give codes of its too
                self._walk.builder.values[new.output] = replace(value, bounds=(bounds,) * len(value.bounds))

    def solved(
        self,
        layer: Layer,
        codes: Tensor,
        steps: Tensor,
        grid: WeightGrid,
        promises: dict[str, str],
        correction: Tensor | None = None,
    ) -> tuple[list[onnx.NodeProto], bool]:
        """Write a layer with new weights on a Quant of their own.

        Args:
            codes, steps: shapes (rows, inputs) and (rows,).
            promises: metadata that the compiler holds the layer to.
            correction: to add to the bias, shape (rows,).

        Returns:
            The nodes, the first of which is the Quant, and whether the correction is among them: a bias with a Quant of
            its own stays as it is.
        """
        nodes = self._layer(layer, codes, steps, grid, promises)
        corrected = correction is not None and self._correct(nodes, correction)
        for node in nodes:
            self.keep(node)
        values = self._walk.states[nodes[0].output[0]]
        integers = values.grid.integers if isinstance(values, Constant) and values.grid is not None else None
        if integers is None or not np.array_equal(integers, layer.tensor(codes.numpy())):
            raise ProofError(f"{layer.where}: its Quant gives other integers than the solver's; report this as a bug")
        return nodes, corrected

    def value(self, name: str) -> Array:
        """Of a constant, after its Quant."""
        state = self._walk.states[name]
        assert isinstance(state, Constant)
        return state.array

    def finished(self) -> onnx.ModelProto:
        """The model of the nodes that its outputs need."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        graph = model.graph
        needed, nodes = {o.name for o in graph.output}, []
        for node in reversed(self._nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                nodes.append(node)
        own = {name: array for name, array in self.initializers.items() if name in needed}
        kept = [t for t in graph.initializer if t.name in needed]
        kept += [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in own.items()]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(reversed(nodes))
        graph.initializer.extend(kept)
        if all(entry.domain != QONNX_DOMAIN for entry in model.opset_import):
            model.opset_import.append(helper.make_opsetid(QONNX_DOMAIN, 1))
        return model

    def _layer(
        self, layer: Layer, codes: Tensor, steps: Tensor, grid: WeightGrid, promises: dict[str, str]
    ) -> list[onnx.NodeProto]:
        stem = f"{layer.name}.weight"
        while stem in self.initializers or stem in self._walk.states:
            stem += "_"
        axis, rank = layer.output_axis, layer.float_weights.ndim
        arrays = {
            stem: layer.tensor((codes.double() * steps[:, None]).float().numpy()),
            f"{stem}_scale": steps.float().numpy().reshape([-1 if a == axis else 1 for a in range(rank)]),
            f"{stem}_zero_point": np.zeros((), dtype=np.float32),
            f"{stem}_bits": np.array(grid.bits, dtype=np.float32),
        }
        for name, array in arrays.items():
            self._enter(name, array)
        quant = helper.make_node(
            "Quant",
            list(arrays),
            [f"{stem}_quantized"],
            name=f"{stem}_quant",
            domain=QONNX_DOMAIN,
            signed=1,
            narrow=int(grid.narrow and not grid.bipolar),
            rounding_mode="ROUND",
        )
        node = onnx.NodeProto()
        node.CopyFrom(layer.node)
        node.input[1] = quant.output[0]
        for key, value in promises.items():
            entry = node.metadata_props.add()
            entry.key, entry.value = key, value
        return [quant, node]

    def _correct(self, nodes: list[onnx.NodeProto], correction: Tensor) -> bool:
        """Add a constant to every output channel of the last node; False where its bias has a Quant of its own."""
        node, values = nodes[-1], correction.float().numpy()
        name = f"{node.input[1].removesuffix('_quantized')}_bias"
        if node.op_type == "MatMul":
            output = node.output[0]
            node.output[0] = f"{name}_free"
            self._enter(name, values)
            nodes.append(helper.make_node("Add", [node.output[0], name], [output], name=f"{name}_add"))
            return True
        if len(node.input) > 2 and node.input[2]:
            old = self._walk.states.get(node.input[2])
            if not isinstance(old, Constant) or old.grid is not None:
                return False
            values = values + np.broadcast_to(old.array.astype(np.float32).reshape(-1), values.shape)
            node.input[2] = name
        else:
            del node.input[2:]
            node.input.append(name)
        self._enter(name, values)
        return True

    def _enter(self, name: str, array: Array) -> None:
        self.initializers[name] = array
        self._walk.states[name] = Constant(array)
