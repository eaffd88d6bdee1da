"""What the exports of torch modules share: checks, silence, an open batch axis, and a model without traces of the machine.

Nothing here imports torch before a module is exported.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx

from broadaxe.errors import RequestError, UnsupportedModelError

if TYPE_CHECKING:
    import torch

IR_VERSION = 10
"""What onnxruntime is sure to read; onnx writes its own newest one unless told."""

Exporter: TypeAlias = Callable[..., onnx.ModelProto]
"""Takes a module in evaluation mode, a batch of samples, and perhaps `dynamic_shapes`."""

LINEAR = ("Conv", "Gemm", "MatMul")

_SCOPES = "pkg.torch.onnx.name_scopes"
_INTERNAL_SCOPES = (".export_handler", ".act_quant.fused_activation_quant_proxy", ".fused_activation_quant_proxy")


def export_module(
    export: Exporter, module: torch.nn.Module, example_input: torch.Tensor | np.ndarray, kind: str
) -> onnx.ModelProto:
    """Export a copy of `module` with a symbolic batch axis `N`, or with a batch of 1 where it runs with no other.

    Args:
        export: turns module and samples into a model.
        module: takes one tensor, batch first.
        example_input: an input of the right shape and type; only its first sample is used.
        kind: what the export is called in messages.
    """
    import torch

    if not isinstance(module, torch.nn.Module):
        raise RequestError(f"export: not a torch.nn.Module, {type(module).__name__}; pass the trained module itself")
    sample = torch.as_tensor(example_input).detach().cpu()
    if sample.ndim < 2 or sample.shape[0] < 1:
        raise RequestError(
            f"export: the example input needs a batch dimension and one sample, shape {tuple(sample.shape)}; "
            "pass shape (1, ...), as the module takes it"
        )
    sample = sample[:1]

    def exported(batch: torch.Tensor, **options: Any) -> onnx.ModelProto:
        return export(copy.deepcopy(module).cpu().eval(), batch, **options)

    with quiet():
        try:  # two samples: torch.export takes a size of 1 for a constant
            model = exported(torch.cat([sample, sample]), dynamic_shapes=({0: torch.export.Dim("N")},))
        except Exception:
            try:
                model = exported(sample)
            except Exception as error:
                raise UnsupportedModelError(
                    f"{type(module).__name__}: the {kind} export failed, {_first_line(error)}; "
                    "check that the module runs on the example input and that torch.export can trace it"
                ) from error
    return _tidy(model)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Swallow the exporter's progress lines, log records and warnings; exceptions pass."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Name nodes after their modules; drop what is no part of the function: constants as inputs, source traces."""
    model.ir_version = IR_VERSION
    graph = model.graph
    constants = {initializer.name for initializer in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    del graph.input[:]
    graph.input.extend(inputs)

    taken: set[str] = set()
    for node in graph.node:
        name = _module_name(node, constants)
        count = 1
        while (unique := name if count == 1 else f"{name}_{count}") in taken:
            count += 1
        taken.add(unique)
        node.name = unique
    for proto in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        proto.doc_string = ""
        del proto.metadata_props[:]  # stack traces with the paths of the machine that exported
    del graph.metadata_props[:]
    return model


def _module_name(node: onnx.NodeProto, constants: set[str]) -> str:
    """The dotted path of the module that a node came from, as `conv1` or `relu1.act_quant`.

    A linear operator is named after its weight, `conv1.weight`: the exporter names it after a BatchNorm that it folds in.
    """
    if node.op_type in LINEAR and len(node.input) > 1 and node.input[1] in constants:
        owner, _, parameter = node.input[1].rpartition(".")
        if owner and parameter == "weight":
            return _readable(owner, node)
    scopes = next((ast.literal_eval(entry.value) for entry in node.metadata_props if entry.key == _SCOPES), None)
    if not scopes:
        return str(node.name or node.output[0])
    path = str(scopes[-2]) if len(scopes) > 1 and scopes[-2] else str(scopes[-1])
    for internal in _INTERNAL_SCOPES:
        path = path.partition(internal)[0]
    return _readable(path, node)


def _readable(path: str, node: onnx.NodeProto) -> str:
    """Children of a Sequential are called 0, 1, ...: put the operator before that."""
    return path if path[:1].isalpha() else f"{node.op_type.lower()}_{path}"


def _first_line(error: BaseException) -> str:
    """The first line of what went wrong at the root, which the exporter wraps in pages of advice."""
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    lines = str(root).strip().splitlines()
    return f"{type(root).__name__}: {lines[0].rstrip('.')}" if lines else type(root).__name__
