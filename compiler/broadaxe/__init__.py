"""Broadaxe compiles quantized neural networks to HLS C++ whose every accumulator is proven wide enough.

    import broadaxe

    quantized = broadaxe.quantize(model, x_train, acc_bits=14)
    build = broadaxe.compile(quantized, "build")
    print(broadaxe.report(build))  # every accumulator; explain(build, "conv0") says why one is as wide as it is
    print(broadaxe.verify(build, x_test))
    outputs = broadaxe.simulate(build, x_test)
    print(broadaxe.compare("earlier", build))  # a folder is as good as a build

Public are the names of this module and those of `broadaxe.search` (sweep, diagnose), `broadaxe.training` (AccumulatorBudget,
load_weights), `broadaxe.interop` (audit, export_finn, export_hls4ml) and `broadaxe.runtime` (load_parameters,
write_parameters); everything else may change. A name is imported when it is first used, so that `import broadaxe` and a
command that needs little take little.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from broadaxe.errors import (
    BroadaxeError,
    MissingToolError,
    RequestError,
    UnsupportedModelError,
    VerificationError,
)
from broadaxe.version import __version__

if TYPE_CHECKING:
    from broadaxe import interop as interop
    from broadaxe import runtime as runtime
    from broadaxe import search as search
    from broadaxe import training as training
    from broadaxe.build import Build, compile, load
    from broadaxe.config import CompileSettings
    from broadaxe.quantization.config import QuantConfig
    from broadaxe.quantization.quantize import Quantized, quantize
    from broadaxe.reports.compare import compare
    from broadaxe.reports.comparison import Comparison
    from broadaxe.reports.explain import explain
    from broadaxe.reports.explanation import Explanation
    from broadaxe.reports.model import report_of as report
    from broadaxe.reports.schema import Report
    from broadaxe.verification import Verification, simulate, verify

__all__ = [
    "BroadaxeError",
    "Build",
    "Comparison",
    "CompileSettings",
    "Explanation",
    "MissingToolError",
    "QuantConfig",
    "Quantized",
    "Report",
    "RequestError",
    "UnsupportedModelError",
    "Verification",
    "VerificationError",
    "__version__",
    "compare",
    "compile",
    "explain",
    "load",
    "quantize",
    "report",
    "simulate",
    "verify",
]

_PLACES = {
    "build": ("Build", "compile", "load"),
    "config": ("CompileSettings",),
    "quantization.config": ("QuantConfig",),
    "quantization.quantize": ("Quantized", "quantize"),
    "reports.compare": ("compare",),
    "reports.comparison": ("Comparison",),
    "reports.explain": ("explain",),
    "reports.explanation": ("Explanation",),
    "reports.model": (("report", "report_of"),),
    "reports.schema": ("Report",),
    "verification": ("Verification", "simulate", "verify"),
}
"""Names by the module that has them; a pair is our name and the module's. No module of this package itself may have a name
of ours: once imported, it would stand in its place."""
_SOURCES = {
    (name if isinstance(name, str) else name[0]): (module, name if isinstance(name, str) else name[1])
    for module, names in _PLACES.items()
    for name in names
}
_MODULES = {
    "interop": ("Audit", "audit", "export_finn", "export_hls4ml"),
    "runtime": ("load_parameters", "write_parameters"),
    "search": ("Diagnosis", "Sweep", "SweepConfig", "diagnose", "sweep"),
    "training": ("AccumulatorBudget", "load_weights"),
}
"""Public modules and their names."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"broadaxe.{name}")
    if name not in _SOURCES:
        places = "".join(f"; it is broadaxe.{module}.{name}" for module, names in _MODULES.items() if name in names)
        raise AttributeError(f"module 'broadaxe' has no attribute {name!r}{places}")
    module, original = _SOURCES[name]
    value = getattr(import_module(f"broadaxe.{module}"), original)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
