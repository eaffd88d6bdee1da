"""Everything under deploy/ of a build folder: a function of the build alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from broadaxe import resources
from broadaxe.build import Build
from broadaxe.deploy.guide import rows
from broadaxe.deploy.layout import MOVER_BYTES, Layout
from broadaxe.deploy.ports import parameters_port, port_facts, ports_files
from broadaxe.templating import templates
from broadaxe.version import __version__

COPIED, RENDERED = ("driver.py",), ("README.md", "block_design.tcl")
XRT_COPIED, XRT_RENDERED = ("xrt_host.py",), ("movers.cpp", "link.cfg", "xrt_host.cpp")
"""Beside them for Alveo and Versal, whose tools take sources for Vitis HLS alone, where weights are fixed."""
MOST_CONNECTED = 16
"""Ports of one side of a SmartConnect (PG247)."""


@dataclass(frozen=True)
class Dma:
    """An AXI DMA of the block design and what it serves."""

    number: int
    input: Layout | None
    output: Layout | None


def deployment(build: Build) -> dict[str, bytes]:
    """The files of deploy/, by path inside the build folder."""
    known = port_facts(build)
    files = ports_files(build, known)
    facts, environment = _facts(build), templates()
    facts |= {"rows": rows(build, known), "head": known["head"], "tail": known["tail"]}
    vitis = facts["xrt"]
    for name in COPIED + (XRT_COPIED if vitis else ()):
        files[name] = (resources.folder("templates") / "deploy" / name).read_bytes()
    for name in RENDERED + (XRT_RENDERED if vitis else ()):
        files[name] = environment.get_template(f"deploy/{name}.jinja").render(facts).encode()
    return {f"deploy/{name}": content for name, content in files.items()}


def _facts(build: Build) -> dict[str, Any]:
    """What the templates of deploy/ need; nothing of it is text of the model."""
    inputs, outputs = ([Layout(p) for p in ports] for ports in (build.flow.inputs, build.flow.outputs))
    loaded = parameters_port(build)
    ends: list[tuple[Layout | None, Layout | None]] = [*zip_longest(inputs, outputs)]
    ends += [(Layout(loaded), None)] if loaded else []
    dmas = [Dma(at, *pair) for at, pair in enumerate(ends)]
    slaves = [f"dma{dma.number}/S_AXI_LITE" for dma in dmas]
    masters = [
        f"dma{dma.number}/{side}"
        for dma in dmas
        for side, used in (("M_AXI_MM2S", dma.input), ("M_AXI_S2MM", dma.output))
        if used
    ]
    if build.settings.control == "s_axilite":
        slaves.append("accelerator")
    return {
        "top": build.top,
        "version": __version__,
        "control": build.settings.control,
        "tool": build.settings.tool,
        "xrt": build.settings.tool == "vitis" and loaded is None,
        "parameters": loaded,
        "part": build.settings.part,
        "clock_mhz": f"{1000 / build.settings.clock_ns:g}",
        "inputs": inputs,
        "outputs": outputs,
        "dmas": dmas,
        "masters": masters,
        "slaves": slaves,
        "word": MOVER_BYTES,
        "connectable": max(len(masters), len(slaves)) <= MOST_CONNECTED,
    }
