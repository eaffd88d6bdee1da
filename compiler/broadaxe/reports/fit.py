"""How much of a part a design takes, by model, and whether it fits at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from broadaxe.config import CompileSettings
from broadaxe.schedule.devices import DEFAULT_PART, Device, device

if TYPE_CHECKING:
    from broadaxe.reports.schema import Amounts

KINDS = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram18": "BRAM18", "uram": "URAM"}


@dataclass(frozen=True)
class Fit:
    """A design beside a part.

    Attributes:
        named: the settings name the part; else it is the default of the vendor's projects.
        taken: amounts of the kinds that the design takes.
        held: how many of each the part holds.
    """

    device: Device
    named: bool
    taken: Mapping[str, float]
    held: Mapping[str, int]

    @property
    def beyond(self) -> list[str]:
        """Kinds of which the part has fewer than the design takes."""
        return [kind for kind, amount in self.taken.items() if amount > self.held[kind]]

    @property
    def warning(self) -> str:
        """What is too much, and what to do; empty where the design fits."""
        if not self.beyond:
            return ""
        missed = ", ".join(f"{self.taken[kind]:,.0f} of {self.held[kind]:,} {KINDS[kind]}" for kind in self.beyond)
        default = "it is the default of vendor/, give yours with --part"
        remedy = "choose a larger part, or leave the folding to --part" if self.named else default
        return f"{self.device.part}: the design takes {missed} (model); {remedy}"

    def __str__(self) -> str:
        shares = (
            f"{100 * self.taken[kind] / self.held[kind]:.0f} % {KINDS[kind]}" for kind in self.taken if self.held[kind]
        )
        return f"of {self.device.part}: {', '.join(shares)} (model)"


def fit_of(spent: Amounts, settings: CompileSettings) -> Fit:
    """The resources of a design beside the part that it is for."""
    part = settings.device or device(DEFAULT_PART)
    taken = {kind: getattr(spent, kind) for kind in KINDS if getattr(spent, kind)}
    return Fit(part, settings.device is not None, taken, {kind: getattr(part, kind) for kind in KINDS})
