"""What the reports of Vivado HLS, Vitis HLS and Vivado say; None where a report leaves a figure open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """Least and largest value; None where the tool does not know it."""

    lo: int | None
    hi: int | None

    def __str__(self) -> str:
        lo, hi = ("unknown" if v is None else f"{v:,}" for v in (self.lo, self.hi))
        return lo if lo == hi else f"{lo} to {hi}"


@dataclass(frozen=True)
class Usage:
    """Resources used, or there; `dsp_block` is the report's name of a DSP (DSP48E or DSP), bram18 counts 18 Kb."""

    lut: int | None
    ff: int | None
    dsp: int | None
    bram18: int | None
    uram: int | None
    dsp_block: str = "DSP"


@dataclass(frozen=True)
class Loop:
    """One loop. `depth` counts nesting from 1; `iteration` is the latency of one iteration, the depth of its pipeline.

    Latencies in cycles; `ii` is None where the loop is not pipelined.
    """

    name: str
    depth: int
    trips: Span
    latency: Span
    iteration: Span
    ii: int | None
    pipelined: bool | None


@dataclass(frozen=True)
class Instance:
    """One module inside another."""

    name: str
    module: str


@dataclass(frozen=True)
class Module:
    """Estimates of one module; `usage` includes what it instantiates, latency and interval are in cycles.

    Attributes:
        pipeline: as the report names it: none, no, function, dataflow, ...
        depth: of a function's own pipeline.
    """

    name: str
    latency: Span
    interval: Span
    pipeline: str
    depth: int | None
    estimated_ns: float | None
    usage: Usage
    loops: tuple[Loop, ...] = ()
    instances: tuple[Instance, ...] = ()


@dataclass(frozen=True)
class Synthesis:
    """A report of csynth: of the module `top`, and of others where the report holds them."""

    version: str
    part: str
    family: str
    target_ns: float | None
    uncertainty_ns: float | None
    top: Module
    available: Usage
    modules: tuple[Module, ...] = ()

    def below(self, name: str) -> Iterator[Module]:
        """A module and everything it instantiates, each once."""
        known = {m.name: m for m in self.modules} | {self.top.name: self.top}
        waiting, seen = [name], set[str]()
        while waiting:
            current = waiting.pop()
            if current in known and current not in seen:
                seen.add(current)
                yield known[current]
                waiting += [i.module for i in known[current].instances]


@dataclass(frozen=True)
class Average:
    """Least, average and largest number of cycles."""

    lo: int | None
    mean: int | None
    hi: int | None


@dataclass(frozen=True)
class Cosimulation:
    """A report of cosim: one RTL language. `passed` is None where it was not run; `total` is the whole simulation's cycles."""

    rtl: str
    passed: bool | None
    latency: Average
    interval: Average
    total: int | None


@dataclass(frozen=True)
class Implementation:
    """What Vivado made of the design. `stage` is synthesis or implementation; periods in ns.

    Attributes:
        srl: LUTs used as shift registers, which `usage.lut` includes.
    """

    stage: str
    part: str
    usage: Usage
    srl: int | None = None
    required_ns: float | None = None
    achieved_ns: float | None = None
