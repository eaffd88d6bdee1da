"""All reports of a vendor's work folder, found by their names, and what they say of each kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from broadaxe.errors import RequestError
from broadaxe.frontend.wiring import shown
from broadaxe.vendor.cosim_rpt import read_cosim_rpt
from broadaxe.vendor.csynth_rpt import read_csynth_rpt
from broadaxe.vendor.csynth_summary import read_csynth_summary
from broadaxe.vendor.csynth_xml import read_csynth_xml
from broadaxe.vendor.implementation import read_export, read_utilization
from broadaxe.vendor.results import Cosimulation, Implementation, Module, Synthesis

Report: TypeAlias = "Synthesis | tuple[Cosimulation, ...] | Implementation"
READERS: tuple[tuple[str, Callable[[Path], Any]], ...] = (
    ("csynth.xml", read_csynth_xml),
    ("_csynth.rpt", read_csynth_rpt),
    ("csynth.rpt", read_csynth_summary),
    ("_cosim.rpt", read_cosim_rpt),
    ("_export.rpt", read_export),
    ("export_syn.rpt", read_export),
    ("export_impl.rpt", read_export),
    ("vivado_synth.rpt", read_utilization),
    ("utilization_synth.rpt", read_utilization),
)
"""How a report's name ends, and who reads it."""


@dataclass(frozen=True)
class Reports:
    """What a work folder holds; None or nothing where a step was not run."""

    synthesis: Synthesis | None = None
    cosim: tuple[Cosimulation, ...] = ()
    implementation: Implementation | None = None


def read_report(path: Path) -> Report | None:
    """One report, by its name; None for a file that is none of those."""
    for ending, reader in READERS:
        if path.name.endswith(ending):
            found: Report = reader(path)
            return found
    return None


def read_reports(folder: Path, top: str) -> Reports:
    """The reports on `top` below a folder, the newest of each kind; modules of csynth are put together from theirs."""
    files = sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_mtime)

    def named(*names: str) -> Path | None:
        return next((p for name in names for p in reversed(files) if p.name == name), None)

    synthesis = None
    if (path := named(f"{top}_csynth.rpt", f"{top}_csynth.xml", "csynth.xml", "csynth.rpt")) is not None:
        synthesis = _whole(path, top)
    cosim = named(f"{top}_cosim.rpt")
    built = named("export_impl.rpt", f"{top}_export.rpt", "export_syn.rpt")
    return Reports(
        synthesis=synthesis,
        cosim=read_cosim_rpt(cosim) if cosim else (),
        implementation=read_export(built) if built else None,
    )


def _whole(path: Path, top: str) -> Synthesis:
    """csynth's report on the top with those on all modules beside it, text before XML: it alone names instances."""
    found = next(reader(path) for ending, reader in READERS if path.name.endswith(ending))
    assert isinstance(found, Synthesis)
    if found.top.name != top:
        raise RequestError(f"{path}: is a report on {shown(found.top.name)}, not on {top}; run csynth of this build")
    modules = {m.name: m for m in found.modules}
    for ending, reader in (("_csynth.xml", read_csynth_xml), ("_csynth.rpt", read_csynth_rpt)):
        for other in sorted(path.parent.glob(f"*{ending}")):
            module = reader(other).top
            held = modules.get(module.name)
            modules[module.name] = replace(module, depth=held.depth if held else module.depth)
    modules.pop(top, None)
    return replace(found, modules=tuple(modules.values()))


def module_of(synthesis: Synthesis, kernel: str) -> Module | None:
    """The module of a kernel: its name, which the tools extend by _s for a template's instance."""
    known = {m.name: m for m in synthesis.modules}
    return known.get(kernel) or known.get(f"{kernel}_s")


def pipeline_depth(synthesis: Synthesis, module: Module) -> int | None:
    """The most cycles from a read of a module to the write that it causes: the longest iteration in it and below it."""
    depths = [
        v
        for m in synthesis.below(module.name)
        for v in (m.depth, *(loop.iteration.hi for loop in m.loops))
        if v is not None
    ]
    return max(depths, default=None)


def latencies(synthesis: Synthesis, processes: Mapping[str, str]) -> dict[str, int]:
    """Pipeline depth of each process in cycles, as far as the reports have them.

    Args:
        processes: by name the kernel that a process is an instance of, whose deepest instance counts then; empty for a
            process that is a kernel of its own, of the same name.
    """
    found: dict[str, int] = {}
    for process, kernel in processes.items():
        modules = [m for m in synthesis.modules if m.name.startswith(kernel)] if kernel else []
        own = None if kernel else module_of(synthesis, process)
        depths = [pipeline_depth(synthesis, m) for m in ([own] if own else modules)]
        known = [d for d in depths if d is not None]
        if known:
            found[process] = max(known)
    return found


def measured(synthesis: Synthesis, kernels: Iterable[str]) -> dict[str, Mapping[str, int | None]]:
    """csynth's figures of each kernel, in the terms of `broadaxe.vendor.compare`."""
    found: dict[str, Mapping[str, int | None]] = {}
    for kernel in kernels:
        module = module_of(synthesis, kernel)
        if module is not None:
            found[kernel] = figures_of(module)
    return found


def figures_of(module: Module) -> dict[str, int | None]:
    """Latency, interval and resources of one module, worst case."""
    used = module.usage
    return {
        "latency": module.latency.hi,
        "interval": module.interval.hi,
        "lut": used.lut,
        "ff": used.ff,
        "dsp": used.dsp,
        "bram18": used.bram18,
        "uram": used.uram,
    }
