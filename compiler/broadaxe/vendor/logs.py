"""What a step's log says: the tools end with status 0 after some failures, so that the log has to show success itself."""

from __future__ import annotations

import re

ERRORS = (
    re.compile(r"^\s*(ERROR|FATAL|FATAL_ERROR): ?.*|^@E .*"),
    re.compile(r"^.*\*\*\* C/RTL co-simulation (finished: FAIL|file generation failed).*"),
    re.compile(r"^.*CSim (done|failed) with (?!0 errors)\S.*", re.IGNORECASE),
    re.compile(r"^CRITICAL WARNING: \[IMPL 213-28\].*"),
    re.compile(r"^.*(Abnormal program termination|Segmentation fault|terminate called after).*"),
    re.compile(r"^bad lexical cast.*"),
)
OVERFLOW = re.compile(r"core_revision\s+\d+|bad lexical cast|'2[2-9]\d{8}' is an invalid argument")
ANSWER_76960 = (
    "the core's revision, which is a date, does not fit since 2022 (AMD answer record 76960); install AMD's patch y2k22 for"
    " this version, or use 2022.1 or newer"
)
SUCCESS = {
    "csim": re.compile(r"CSim done with 0 errors"),
    "cosim": re.compile(r"C/RTL co-simulation finished: PASS"),
}
"""What the tools themselves print."""
FRAMES = re.compile(r"^(\d+) frames, (\d+) mismatches$", re.MULTILINE)
"""The last line of tb/testbench.cpp."""


def complaint(step: str, text: str, *, scripted: bool, frames: int) -> str | None:
    """Why a step failed by its log; None where the log shows success.

    Args:
        scripted: the step was run by our Tcl, which prints a line at its end.
        frames: that the testbench sends; in csim and cosim it has to say that all of them are right.
    """
    if OVERFLOW.search(text):
        return ANSWER_76960
    lines = text.splitlines()
    wrong = next((line.strip() for line in lines for pattern in ERRORS if pattern.match(line)), None)
    counted = [(int(n), int(m)) for n, m in FRAMES.findall(text)]
    if any(m for _, m in counted):
        first = next((line.strip() for line in lines if re.match(r"frame \d+: ", line)), wrong)
        return f"the testbench found {max(m for _, m in counted)} mismatches, the first is {first!r}"
    if wrong is not None:
        return f"the tool says {wrong[:300]!r}"
    if scripted and f"BROADAXE: {step} done" not in lines:
        return "the script did not reach its end"
    if not scripted and step in SUCCESS and not SUCCESS[step].search(text):
        return f"the log has no line {SUCCESS[step].pattern!r}"
    if step in ("csim", "cosim"):
        if not counted:
            return "the testbench's result is not in the log"
        if any(n != frames for n, _ in counted):
            return f"the testbench ran {counted[0][0]} frames, not {frames}"
    return None
