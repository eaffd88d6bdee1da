"""Float torch module -> float ONNX model.

torch is imported when a module is exported, never before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from broadaxe.errors import MissingToolError
from broadaxe.frontend.exporting import export_module, quiet

if TYPE_CHECKING:
    import torch

OPSET = 18
"""What torch's exporter writes itself; other operator sets are conversions of it."""


def export_torch(module: torch.nn.Module, example_input: torch.Tensor | np.ndarray) -> onnx.ModelProto:
    """Export a float module in evaluation mode as standard ONNX.

    The batch dimension of the result is symbolic (`N`), or 1 where the module takes one sample at a time only. `module`
    stays as it was: a copy is exported.

    Args:
        module: takes one tensor, batch first.
        example_input: an input of the right shape and type; only its first sample is used.

    Returns:
        The model: nodes carry the names of the modules they came from, constants are initializers.
    """
    exporter = _import_exporter()

    def export(copied: torch.nn.Module, batch: torch.Tensor, **options: Any) -> onnx.ModelProto:
        program = exporter.onnx.export(copied, (batch,), dynamo=True, opset_version=OPSET, verbose=False, **options)
        model: onnx.ModelProto = program.model_proto
        return model

    return export_module(export, module, example_input, "ONNX")


def _import_exporter() -> Any:
    try:
        with quiet():
            import onnxscript  # noqa: F401  (the exporter needs it and says so late)
            import torch
    except ImportError as error:
        raise MissingToolError(
            f"export: torch modules need a missing package, {error.name}; pip install 'broadaxe[brevitas]'"
        ) from error
    return torch
