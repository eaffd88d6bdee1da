"""Broadaxe compiles quantized neural networks to HLS C++ whose every accumulator is proven wide enough.

The public API is what this module exports; everything else may change. A name is imported when it is first used, so that
`import broadaxe` and a command that needs little take little.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from broadaxe.errors import BroadaxeError
from broadaxe.version import __version__

if TYPE_CHECKING:
    from broadaxe.auditing.audit import Audit, audit
    from broadaxe.auditing.export import export_finn, export_hls4ml
    from broadaxe.build import Build, compile, load
    from broadaxe.config import CompileSettings
    from broadaxe.loading import load_parameters, write_parameters
    from broadaxe.quantization.config import QuantConfig
    from broadaxe.quantization.diagnose import Diagnosis, diagnose
    from broadaxe.quantization.load_weights import load_weights
    from broadaxe.quantization.quantize import Quantized, quantize
    from broadaxe.quantization.training import AccumulatorBudget
    from broadaxe.reports.model import report_of as report
    from broadaxe.reports.schema import Report
    from broadaxe.sweeps.config import SweepConfig
    from broadaxe.sweeps.sweep import Sweep, sweep
    from broadaxe.verification import Verification, simulate, verify

__all__ = [
    "AccumulatorBudget",
    "Audit",
    "BroadaxeError",
    "Build",
    "CompileSettings",
    "Diagnosis",
    "QuantConfig",
    "Quantized",
    "Report",
    "Sweep",
    "SweepConfig",
    "Verification",
    "__version__",
    "audit",
    "compile",
    "diagnose",
    "export_finn",
    "export_hls4ml",
    "load",
    "load_parameters",
    "load_weights",
    "quantize",
    "report",
    "simulate",
    "sweep",
    "verify",
    "write_parameters",
]

_PLACES = {
    "auditing.audit": ("Audit", "audit"),
    "auditing.export": ("export_finn", "export_hls4ml"),
    "build": ("Build", "compile", "load"),
    "config": ("CompileSettings",),
    "loading": ("load_parameters", "write_parameters"),
    "quantization.config": ("QuantConfig",),
    "quantization.diagnose": ("Diagnosis", "diagnose"),
    "quantization.load_weights": ("load_weights",),
    "quantization.quantize": ("Quantized", "quantize"),
    "quantization.training": ("AccumulatorBudget",),
    "reports.model": (("report", "report_of"),),
    "reports.schema": ("Report",),
    "sweeps.config": ("SweepConfig",),
    "sweeps.sweep": ("Sweep", "sweep"),
    "verification": ("Verification", "simulate", "verify"),
}
"""Names by the module that has them; a pair is our name and the module's. No module of this package itself may have a name
of ours: once imported, it would stand in its place."""
_SOURCES = {
    (name if isinstance(name, str) else name[0]): (module, name if isinstance(name, str) else name[1])
    for module, names in _PLACES.items()
    for name in names
}


def __getattr__(name: str) -> Any:
    if name not in _SOURCES:
        raise AttributeError(f"module 'broadaxe' has no attribute {name!r}")
    module, original = _SOURCES[name]
    value = getattr(import_module(f"broadaxe.{module}"), original)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
