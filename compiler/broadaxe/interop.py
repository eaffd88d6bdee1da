"""Other tools' designs: accumulators that FINN or hls4ml files declare, and proven widths in the terms of both.

from broadaxe.interop import audit

print(audit("finn.onnx"))
"""

from broadaxe.auditing.audit import Audit, audit
from broadaxe.auditing.export import export_finn, export_hls4ml

__all__ = ["Audit", "audit", "export_finn", "export_hls4ml"]
