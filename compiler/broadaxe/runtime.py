"""Designs whose weights are loaded at run time, `compile(..., weights="runtime")`: other weights of the same architecture.

from broadaxe.runtime import load_parameters, write_parameters

loaded = load_parameters("build", "retrained.onnx")
write_parameters(loaded, "retrained.bin")
"""

from broadaxe.loading import load_parameters, write_parameters

__all__ = ["load_parameters", "write_parameters"]
