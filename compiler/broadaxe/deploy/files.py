"""Everything under deploy/ of a build folder: a function of the build alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from broadaxe import resources
from broadaxe.build import Build
from broadaxe.deploy.layout import Layout
from broadaxe.deploy.ports import ports_json
from broadaxe.emit import _environment
from broadaxe.version import __version__

COPIED = ("driver.py",)
RENDERED = ("block_design.tcl",)
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
    files = ports_json(build)
    files |= {name: (resources.folder("templates") / "deploy" / name).read_text() for name in COPIED}
    facts, templates = _facts(build), _environment()
    for name in RENDERED:
        files[name] = templates.get_template(f"deploy/{name}.jinja").render(facts)
    return {
        f"deploy/{name}": content if isinstance(content, bytes) else content.encode() for name, content in files.items()
    }


def _facts(build: Build) -> dict[str, Any]:
    """What the templates of deploy/ need; nothing of it is text of the model."""
    inputs, outputs = ([Layout(p) for p in ports] for ports in (build.flow.inputs, build.flow.outputs))
    dmas = [Dma(at, *pair) for at, pair in enumerate(zip_longest(inputs, outputs))]
    slaves = [f"dma{dma.number}/S_AXI_LITE" for dma in dmas]
    masters = [
        f"dma{dma.number}/{side}"
        for dma in dmas
        for side, used in (("M_AXI_MM2S", dma.input), ("M_AXI_S2MM", dma.output))
        if used
    ]
    if build.settings.control == "s_axilite":
        slaves.append("accelerator")
    clock_ns = build.settings.clock_ns if hasattr(build.settings, "clock_ns") else 5.0
    return {
        "top": build.top,
        "version": __version__,
        "control": build.settings.control,
        "tool": build.settings.tool,
        "part": getattr(build.settings, "part", None),
        "clock_mhz": f"{1000 / clock_ns:g}",
        "inputs": inputs,
        "outputs": outputs,
        "dmas": dmas,
        "masters": masters,
        "slaves": slaves,
        "connectable": max(len(masters), len(slaves)) <= MOST_CONNECTED,
    }
