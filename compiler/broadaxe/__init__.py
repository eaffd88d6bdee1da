"""Broadaxe compiles quantized neural networks to HLS C++ whose every accumulator is proven wide enough.

The public API is what this module exports; everything else may change.
"""

from __future__ import annotations

from broadaxe.auditing.audit import Audit, audit
from broadaxe.auditing.export import export_finn, export_hls4ml
from broadaxe.build import Build, compile, load
from broadaxe.config import CompileSettings
from broadaxe.errors import BroadaxeError
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
from broadaxe.verify import Verification, simulate, verify
from broadaxe.version import __version__

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
