"""Choosing widths by trying them: many quantizations of one network, and where one of them loses.

from broadaxe.search import sweep

result = sweep("float.onnx", "calib.npz", "val.npz", "sweep", acc_bits="8:12", weight_bits="3:4", act_bits=4)
"""

from broadaxe.quantization.diagnose import Diagnosis, diagnose
from broadaxe.sweeps.config import SweepConfig
from broadaxe.sweeps.sweep import Sweep, sweep

__all__ = ["Diagnosis", "Sweep", "SweepConfig", "diagnose", "sweep"]
