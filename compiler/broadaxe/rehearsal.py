"""The generated C++ as a dataflow, with FIFOs of stated depths, beside what the models say of it.

Every process runs as a rigid pipeline that holds back its results for as many beats as the model assumes. What comes of it is
compared with the reference, and cycles with the schedule: in the declared depths no frame may be later than there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

from broadaxe.bounded import Blocked, compile_bounded
from broadaxe.build import Build, Progress
from broadaxe.errors import RequestError
from broadaxe.schedule.dataflow import DEALER
from broadaxe.schedule.deadlock import locks_up
from broadaxe.schedule.network import Network


@dataclass(frozen=True)
class Rehearsal:
    """What came of a run.

    Attributes:
        frames: sent back to back.
        blocked: who waits for what, where the network locked up; empty where every frame came out.
        mismatches: output integers that are not the reference's.
        ends: cycle of each frame's last output beat.
        promised: the cycles by which the schedule has them out; none where depths are not the declared ones.
    """

    frames: int
    blocked: tuple[Blocked, ...]
    mismatches: int
    ends: tuple[int, ...]
    promised: tuple[int, ...]
    network: Network

    @property
    def circle(self) -> list[Blocked]:
        """Processes of a deadlock of which each waits for the next one, and the last for the first."""
        waits = {b.process: b for b in self.blocked}
        at, seen = self.blocked[0].process, list[str]()
        while at in waits and at not in seen:
            seen.append(at)
            empty, name = waits[at].why == "empty", waits[at].stream
            dealt = dict(self.network.dealt)
            if name in dealt:
                at = DEALER if empty else dealt[name]
            else:
                at = self.network.fifos[name].writer if empty else self.network.fifos[name].reader
        return [waits[name] for name in seen[seen.index(at) if at in seen else 0 :]]

    @property
    def passed(self) -> bool:
        """Every frame came out, equals the reference, and is not later than promised."""
        late = any(end > promise for end, promise in zip(self.ends, self.promised, strict=False))
        return not self.blocked and self.mismatches == 0 and not late

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; a deadlock as who waits for what."""
        waits = [asdict(one) for one in self.blocked]
        circle = [asdict(one) for one in self.circle] if self.blocked else []
        seen = {"frames": self.frames, "mismatches": self.mismatches, "ends": self.ends, "promised": self.promised}
        return {"passed": self.passed, **seen, "largest_gap": self.largest_gap, "blocked": waits, "circle": circle}

    @property
    def largest_gap(self) -> int | None:
        """The most cycles from one frame's end to the next one's; None of fewer than two frames."""
        return max((b - a for a, b in pairwise(self.ends)), default=None)

    def __str__(self) -> str:
        if self.blocked:
            circle = "\n  ".join(map(str, self.circle))
            return f"deadlock, {len(self.blocked)} processes wait; these for each other:\n  {circle}"
        lines = [f"{self.frames} frames, {self.mismatches} mismatches; latency {self.ends[0] + 1:,} cycles"]
        if self.largest_gap is not None:
            lines.append(f"at most {self.largest_gap:,} from frame to frame")
        text = ", ".join(lines)
        if self.promised:
            text += f" (model: at most {self.promised[0] + 1:,}"
            text += f", {self.promised[1] - self.promised[0]:,})" if len(self.promised) > 1 else ")"
        return text


def rehearse(
    build: Build,
    *,
    frames: int = 3,
    depths: Literal["declared", "least"] = "declared",
    changed: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> Rehearsal:
    """Run frames back to back through the C++ with bounded FIFOs.

    Args:
        depths: declared, or the least without deadlock.
        changed: other depths of some FIFOs, in words. Pipelines then hold back what locks these depths up, if anything does.

    Raises:
        RequestError: a FIFO is unknown, or a depth is below one word.
        MissingToolError: there is no g++.
    """
    said = progress or (lambda _: None)
    network, plan = build.plan.network, build.plan
    other = dict(changed or {})
    for name, words in other.items():
        if name not in network.fifos:
            raise RequestError(f"depth: there is no FIFO {name!r}; `broadaxe dataflow {build.path}` lists them")
        if words < 1:
            raise RequestError(f"depth: {name}: is {words}; give one word or more")
    if frames < 1:
        raise RequestError(f"frames: is {frames}; send one at least")
    given = {**plan.least, **dict.fromkeys(plan.dealt, 1)} if depths == "least" else plan.depths | plan.dealt
    chosen = {**given, **other}
    holds = {process.name: process.holds for process in network.processes}
    if other:
        holds = locks_up(network, chosen) or holds
    said("compiling the dataflow")
    simulator = compile_bounded(build)
    said(f"running {frames} frames through bounded FIFOs")
    run = simulator.run(chosen, holds, frames)
    exact = depths == "declared" and not other
    latency, interval = plan.schedule.latency, plan.schedule.interval
    return Rehearsal(
        frames=frames,
        blocked=run.blocked,
        mismatches=run.mismatches,
        ends=tuple(run.ends.tolist()) if run.completed else (),
        promised=tuple(latency - 1 + i * interval for i in range(frames)) if exact else (),
        network=network,
    )
