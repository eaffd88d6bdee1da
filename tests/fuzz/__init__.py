"""Fuzzing: random valid networks against independent judges, and damaged files against the rule of one line per error.

    generate.py  draft.py  emitters.py   a random network from (seed, index)
    oracle.py                            its exact values, from the ONNX and QONNX texts alone
    check.py                             what every network has to pass
    shrink.py                            a failing network made small
    mutate.py  sandbox.py                damaged files, and what compiling one may do

`python -m tests.fuzz` runs it from the root of the repository; `make fuzz` and `make mutate` call that.
"""

from __future__ import annotations

import sys
from pathlib import Path

# `models`, the builders that all tests share, as pytest finds them
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
