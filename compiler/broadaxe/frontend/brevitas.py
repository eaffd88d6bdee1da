"""Brevitas module -> QONNX model.

torch and brevitas are imported when a module is exported, never before: compiling an ONNX file needs neither of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from broadaxe.errors import MissingToolError
from broadaxe.frontend.exporting import export_module, quiet

if TYPE_CHECKING:
    import torch


def export_brevitas(module: torch.nn.Module, example_input: torch.Tensor | np.ndarray) -> onnx.ModelProto:
    """Export a Brevitas module in evaluation mode as a QONNX model.

    The batch dimension of the result is symbolic (`N`). A module that only runs with one sample at a time (say, one
    that reshapes to a fixed batch of 1) is exported with batch 1 instead. `module` stays as it was: a copy is exported.

    Args:
        module: takes one tensor, batch first.
        example_input: an input of the right shape and type; only its first sample is used.

    Returns:
        The model: nodes carry the names of the modules they came from, constants are initializers and no longer inputs.
    """
    export_qonnx = _import_exporter()

    def export(copied: torch.nn.Module, batch: torch.Tensor, **options: Any) -> onnx.ModelProto:
        _round_weights(copied)
        model: onnx.ModelProto = export_qonnx(copied, batch, verbose=False, **options)
        return model

    return export_module(export, module, example_input, "Brevitas")


def _import_exporter() -> Any:
    try:
        with quiet():
            import onnxoptimizer  # noqa: F401  (the exporter needs both and says so late)
            import onnxscript  # noqa: F401
            from brevitas.export import export_qonnx
    except ImportError as error:
        raise MissingToolError(
            f"export: Brevitas modules need a missing package, {error.name}; pip install 'broadaxe[brevitas]'"
        ) from error
    return export_qonnx


def _round_weights(module: torch.nn.Module) -> None:
    """Put weights that are not rounded to nearest on their grid.

    Brevitas 0.13.4 exports them as they are, with a Quant that rounds to nearest, and so another network.
    """
    import torch
    from brevitas.core.function_wrapper import RoundSte

    class Rounded(torch.nn.Module):  # type: ignore[misc]
        """What a quantizer gave, for weights that lie on its grid."""

        def __init__(self, quantizer: Any, given: tuple[torch.Tensor, ...]) -> None:
            super().__init__()
            self.int_quant, self.given = quantizer.int_quant, given

        def forward(self, *_: object) -> tuple[torch.Tensor, ...]:
            return self.given

    for layer in module.modules():
        proxy = getattr(layer, "weight_quant", None)
        quantizer = getattr(proxy, "tensor_quant", None)
        rounding = getattr(getattr(quantizer, "int_quant", None), "float_to_int_impl", None)
        if rounding is None or isinstance(rounding, RoundSte) or proxy.requires_quant_input:  # type: ignore[union-attr]
            continue
        with torch.no_grad():
            given = quantizer(layer.weight)  # type: ignore[misc]
            layer.weight.copy_(given[0])
            proxy.tensor_quant = Rounded(quantizer, tuple(t.detach() for t in given))  # type: ignore[union-attr]
