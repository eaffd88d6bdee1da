"""Run a build's project in the vendor's tool, or read what was run elsewhere; compare with the model and the reference."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from broadaxe.errors import RequestError, VerificationError
from broadaxe.manifest import check_files, settings_of
from broadaxe.reports.reading import read_report
from broadaxe.reports.schema import Report
from broadaxe.schedule.devices import DEFAULT_PART
from broadaxe.vendor.compare import Difference, differences
from broadaxe.vendor.figures import text_of
from broadaxe.vendor.logs import complaint
from broadaxe.vendor.project import NAMES, STEPS, steps_of
from broadaxe.vendor.reports import Reports, figures_of, latencies, measured, read_reports
from broadaxe.vendor.results import Synthesis
from broadaxe.vendor.run import run
from broadaxe.vendor.tools import HlsTool, find_tool

HOURS = 24
WORK = "vendor/work"
OUTPUTS = {"export": ("hls", ("*.zip", "component.xml")), "export_xo": ("xo", ("*.xo",))}
"""Where in work/ an export puts which files."""


STARTS = {"csim": "csim", "csynth": "hls", "export_xo": "xo"}
"""Steps that begin a project in work/."""
SYNTHESISED = ("cosim", "export")
"""Steps that need what csynth leaves in work/."""
LOGS = {"hls_run_csim": "csim", "hls_compile": "csynth", "hls_run_cosim": "cosim", "hls_run_package": "export"}
"""The logs that vitis-run and v++ leave in a work folder."""
MODULES = {"read": "axis_read", "write": "axis_write", "lanes": "change_lanes", "copy": "broadcast"}
"""The kernel of a process that is no node, by its kind; several processes are instances of it."""


@dataclass(frozen=True)
class Outcome:
    """What the tool said of a build.

    Attributes:
        steps: that were run here, or whose logs were read, and succeeded.
        figures: model beside measurement, of the whole design and of kernels.
        slow: loops that the tool could not pipeline at II = 1, `module: loop (II)`.
        latencies: pipeline depth of each process in cycles, as written to latencies.yaml.
    """

    top: str
    steps: tuple[str, ...]
    reports: Reports
    figures: tuple[Difference, ...]
    slow: tuple[str, ...] = ()
    latencies: Mapping[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: what passed, and model beside measurement."""
        figures = [{**asdict(one), "ratio": one.ratio} for one in self.figures]
        cosim = [asdict(row) for row in self.reports.cosim]
        said = {"top": self.top, "steps": self.steps, "cosim": cosim, "figures": figures}
        return {**said, "slow": self.slow, "latencies": dict(self.latencies)}


def cosim(
    folder: Path,
    step: str = "all",
    *,
    timeout: float = HOURS * 3600.0,
    progress: Callable[[str], None] | None = None,
) -> Outcome:
    """Run one step of a build, or `all` up to the export. A step that needs a synthesis runs csynth first where there is none.

    Args:
        timeout: seconds that one command of a step may take.

    Raises:
        MissingToolError: no tool that reads the sources is on PATH; says what to run elsewhere.
        VerificationError: a step failed: by its exit status, its log, its missing report, a mismatch or the time it took.
    """
    said = progress or (lambda _: None)
    check_files(folder)
    chosen = settings_of(folder)
    known = (*steps_of(chosen.tool), "all")
    if step not in known:
        raise RequestError(f"--step {step}: is no step of {NAMES[chosen.tool]}; use {', '.join(known)}")
    steps: tuple[str, ...] = STEPS if step == "all" else (step,)
    if step in SYNTHESISED and not any((folder / WORK / "hls").rglob("*_csynth.rpt")):
        steps = ("csynth", step)
    tool = find_tool(chosen.tool, folder, ("all",) if step == "all" else steps)
    for one in steps:
        _run_step(folder, tool, one, timeout, said)
    return outcome(folder, folder / WORK, steps)


def read_back(folder: Path, results: Path) -> Outcome:
    """What was run elsewhere: a build's vendor/ folder, or the work/ in it, with its reports and logs."""
    check_files(folder)
    if not results.is_dir():
        raise RequestError(f"{results}: is no folder; name the one that was brought back")
    done = set()
    for step, text, log in _logs(results):
        why = complaint(step, text, scripted="BROADAXE:" in text, frames=_frames(folder))
        if why:
            raise VerificationError(f"{step}: failed, {why}; look into its log {log}")
        done.add(step)
    found = outcome(folder, results, tuple(step for step in (*STEPS, "export_xo") if step in done))
    if found.reports == Reports():
        raise RequestError(
            f"{results}: holds no report of {found.top}; run what {folder / 'vendor' / 'README.txt'} says where the tool is,"
            " then name the vendor/ that has the results"
        )
    return found


def _logs(results: Path) -> Iterator[tuple[str, str, Path]]:
    """Step, text and file of each log: ours, the tools' own of a configuration, and the parts of one that ran several."""
    for log in sorted(p for p in results.rglob("*.log") if p.is_file()):
        step = LOGS.get(log.stem, log.stem)
        if step in (*STEPS, "export_xo"):
            yield step, text_of(log), log
        elif log.name in ("vitis_hls.log", "vivado_hls.log"):
            parts = re.split(r"^BROADAXE: (\w+) starts$", text_of(log), flags=re.MULTILINE)
            for name, text in zip(parts[1::2], parts[2::2], strict=True):
                yield name, f"BROADAXE: {name} starts{text}", log


def outcome(folder: Path, results: Path, steps: tuple[str, ...]) -> Outcome:
    """Read the reports below a folder and compare them with the model; latencies.yaml is written into vendor/work."""
    report = read_report(folder)
    reports = read_reports(results, report.top)
    for row in reports.cosim:
        if row.passed is False:
            raise VerificationError(
                f"cosim: {row.rtl} does not agree with the testbench; look into its log below {results}"
            )
    if "cosim" in steps and not any(row.passed for row in reports.cosim):
        raise VerificationError(
            f"cosim: there is no report {report.top}_cosim.rpt that passed below {results}; run it again"
        )
    if "csynth" in steps and reports.synthesis is None:
        raise VerificationError(f"csynth: there is no report {report.top}_csynth.rpt below {results}; run it again")
    if reports.synthesis is not None:
        _check_target(folder, results, reports.synthesis)
    seen: dict[str, Mapping[str, float | None]] = {}
    depths: dict[str, int] = {}
    slow: tuple[str, ...] = ()
    if reports.synthesis is not None:
        own = [k.name for k in report.kernels if k.kind not in MODULES]
        seen = {report.top: figures_of(reports.synthesis.top), **measured(reports.synthesis, own)}
        depths = latencies(reports.synthesis, {k.name: MODULES.get(k.kind, "") for k in report.kernels})
        slow = tuple(
            f"{m.name}: {loop.name} ({loop.ii})"
            for m in reports.synthesis.modules
            for loop in m.loops
            if (loop.ii or 1) > 1
        )
        _write_latencies(folder / WORK / "latencies.yaml", depths)
    for row in reports.cosim:
        if row.passed:
            simulated = {"latency": row.latency.hi, "interval": row.interval.hi}
            seen[report.top] = {**seen.get(report.top, {}), **{k: v for k, v in simulated.items() if v is not None}}
    return Outcome(report.top, steps, reports, differences(_model(report), seen), slow, depths)


def _check_target(folder: Path, results: Path, found: Synthesis) -> None:
    """The report is of the part and the clock that the build is for."""
    chosen = settings_of(folder)
    part = chosen.part or DEFAULT_PART
    same = re.sub(r"\W", "", found.part).lower() == re.sub(r"\W", "", part).lower()
    if not same or (found.target_ns is not None and abs(found.target_ns - chosen.clock_ns) > 0.01):
        raise RequestError(
            f"{results}: csynth's report is of {found.part} at {found.target_ns} ns, the build is for {part} at"
            f" {chosen.clock_ns} ns; run csynth of this build"
        )


def _run_step(folder: Path, tool: HlsTool, step: str, timeout: float, said: Callable[[str], None]) -> None:
    work = folder / WORK
    work.mkdir(parents=True, exist_ok=True)
    log = work / f"{step}.log"
    _clear(work, step)
    said(f"{step} with {tool}")
    for command in tool.commands(step):
        status = run(command, folder / "vendor", log, lambda line: said(f"{step}: {line}"), seconds=timeout, name=step)
        if status:
            why = complaint(step, log.read_text(errors="replace"), scripted=True, frames=_frames(folder))
            raise VerificationError(
                f"{step}: {tool} ended with status {status}, {why or 'it says nothing'}; look into its log {log}"
            )
    text = log.read_text(errors="replace")
    why = complaint(step, text, scripted=tool.program != "vitis-run", frames=_frames(folder))
    if why:
        raise VerificationError(f"{step}: failed, {why}; look into its log {log}")
    if step in OUTPUTS:
        place, names = OUTPUTS[step]
        if not any(p for name in names for p in (work / place).rglob(name)):
            raise VerificationError(
                f"{step}: left no {' or '.join(names)} below {work / place}; look into its log {log}"
            )


def _clear(work: Path, step: str) -> None:
    """Remove what an earlier run of a step has left, so that it is not taken for this one's."""
    (work / f"{step}.log").unlink(missing_ok=True)
    if step in STARTS:
        shutil.rmtree(work / STARTS[step], ignore_errors=True)
    for name in {"cosim": ("*_cosim.rpt",), "export": OUTPUTS["export"][1]}.get(step, ()):
        for path in work.rglob(name):
            path.unlink()


def _frames(folder: Path) -> int:
    with (folder / "tb" / "vectors.dat").open() as file:
        return int(file.readline())


def _model(report: Report) -> dict[str, Mapping[str, float | None]]:
    """The report's figures in the terms of `differences`, the whole design first.

    A kernel starts again when its pipeline has run empty: latency and interval are both its trips and its fill.
    """
    whole: dict[str, float | None] = {"latency": report.latency, "interval": report.interval}
    model: dict[str, Mapping[str, float | None]] = {report.top: whole | report.resources.model_dump()}
    for kernel in report.kernels:
        cycles: dict[str, float | None] = {
            "latency": kernel.trips + kernel.fill,
            "interval": kernel.trips + kernel.fill,
        }
        model[kernel.name] = cycles | kernel.resources.model_dump()
    return model


def _write_latencies(path: Path, depths: Mapping[str, int]) -> None:
    """Cycles by process of the dataflow: what `latencies` of the settings takes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = "# Pipeline depth of each process in cycles, as csynth reports it: the setting `latencies` of compile.\n"
    path.write_text(head + yaml.safe_dump(dict(depths), sort_keys=True) if depths else head + "{}\n")
