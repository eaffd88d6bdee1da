"""What a kernel takes of a device, and when it reads and writes: the terms in which schedules are made.

Everything here is a model until a vendor tool has measured it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Multiplier: TypeAlias = Literal["lut", "dsp", "packed"]
"""What multiplies: fabric, one DSP a product, or one DSP for several products that share an input."""


@dataclass(frozen=True)
class Dsp:
    """A DSP block: signed multiplier of `wide` x `narrow` bits in front of an adder of `accumulator` bits."""

    name: str
    wide: int
    narrow: int
    accumulator: int


DSP48E1 = Dsp("DSP48E1", 25, 18, 48)
DSP48E2 = Dsp("DSP48E2", 27, 18, 48)
DSP58 = Dsp("DSP58", 27, 24, 58)


@dataclass(frozen=True)
class Resources:
    """LUTs, flip-flops, DSP blocks, block RAMs of 18 Kb and UltraRAMs of 288 Kb."""

    lut: float = 0.0
    ff: float = 0.0
    dsp: int = 0
    bram18: int = 0
    uram: int = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(
            self.lut + other.lut,
            self.ff + other.ff,
            self.dsp + other.dsp,
            self.bram18 + other.bram18,
            self.uram + other.uram,
        )


@dataclass(frozen=True, eq=False)
class Trace:
    """In which trips of its one loop a kernel reads and writes during a frame, trips counted from 0.

    Attributes:
        trips: of the loop.
        reads: for each input the trip that reads its n-th word, shape (words,), int64, ascending.
        writes: the same of the output.
    """

    trips: int
    reads: tuple[npt.NDArray[Any], ...]
    writes: npt.NDArray[Any]


def repeated(trips: npt.ArrayLike, period: int, count: int) -> npt.NDArray[Any]:
    """Trips of one round, and the same `period` later, `count` rounds in all; int64."""
    rounds = period * np.arange(count, dtype=np.int64)
    return np.add.outer(rounds, np.asarray(trips, dtype=np.int64)).reshape(-1)
