"""Two depths of every FIFO: without deadlock, and without a stall at full rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broadaxe.schedule.deadlock import least_depths
from broadaxe.schedule.network import Network
from broadaxe.schedule.timing import Schedule, schedule


@dataclass(frozen=True, eq=False)
class Plan:
    """When everything happens, and what FIFOs have to hold.

    Attributes:
        network: processes with the pipeline depths that are assumed, or that a tool has reported.
        schedule: of back-to-back frames.
        least: depths without deadlock, for every number of results held back up to the assumed one.
        depths: those with which the schedule runs, too; what the sources declare.
    """

    network: Network
    schedule: Schedule
    least: Mapping[str, int]

    @property
    def depths(self) -> dict[str, int]:
        return {name: max(least, self.schedule.depths[name]) for name, least in self.least.items()}

    @property
    def dealt(self) -> dict[str, int]:
        """Depths of the FIFOs of parameters; one word is enough not to lock up."""
        return {name: self.schedule.depths[name] for name, _ in self.network.dealt}


def plan(network: Network, interval: int | None = None) -> Plan:
    """Depths of all FIFOs, for one frame every `interval` cycles; default: as often as the slowest process allows."""
    return Plan(network, schedule(network, interval), least_depths(network))
