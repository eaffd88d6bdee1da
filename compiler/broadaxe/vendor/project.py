"""The vendor/ folder of a build: scripts and configurations that run csim, csynth, cosim and export in the vendor's tools.

The tools see firmware/, tb/testbench.cpp and tb/vectors.dat. They are given no include path, so that our stand-ins for
their headers in tb/sim cannot be found; every include is relative to the file that holds it.
"""

from __future__ import annotations

import re

from broadaxe.errors import RequestError
from broadaxe.schedule.devices import DEFAULT_PART
from broadaxe.templating import templates
from broadaxe.vendor.versions import FIRST_WITH_CONFIG, LAST_WITH_VITIS_HLS, VITIS_HLS, VIVADO_HLS, Tool, written
from broadaxe.version import __version__

STEPS = ("csim", "csynth", "cosim", "export")
WITH_XO = (*STEPS, "export_xo")
WHAT = {
    "csim": "C simulation",
    "csynth": "C synthesis",
    "cosim": "C/RTL co-simulation",
    "export": "export as IP",
    "export_xo": "export as kernel object",
    "all": "all steps up to the export as IP",
}
UNCERTAINTY = {"vivado": 0.125, "vitis": 0.27}
"""Part of the clock period that synthesis leaves to routing: each tool's own default, said so that versions agree."""
NAMES: dict[Tool, str] = {"vivado": "Vivado HLS", "vitis": "Vitis HLS"}
FLAGS: dict[Tool, str] = {"vivado": "-std=c++11", "vitis": "-std=c++14"}


def steps_of(tool: Tool) -> tuple[str, ...]:
    """The steps that a tool knows: a kernel object is Vitis HLS's alone."""
    return WITH_XO if tool == "vitis" else STEPS


def project(top: str, tool: Tool, part: str | None, clock_ns: float) -> dict[str, str]:
    """The files of vendor/, by path inside the build folder.

    Args:
        part: number of the part; None is broadaxe.schedule.devices.DEFAULT_PART.
        clock_ns: clock period.
    """
    environment = templates()
    environment.filters |= {"tcl": tcl, "cfg": cfg}
    versions = VITIS_HLS if tool == "vitis" else VIVADO_HLS
    common = {
        "top": top,
        "tool": tool,
        "tool_name": NAMES[tool],
        "versions": f"{written(versions[0])} to {written(versions[-1])}",
        "version": __version__,
        "part": part or DEFAULT_PART,
        "clock_ns": _decimal(clock_ns),
        "uncertainty_ns": _decimal(clock_ns * UNCERTAINTY[tool]),
        "flags": FLAGS[tool],
        "xo": tool == "vitis",
    }
    above = {
        "sources": [f"../../firmware/{top}.cpp"],
        "testbench": "../../tb/testbench.cpp",
        "vectors": "../../tb/vectors.dat",
    }
    beside = {"sources": [f"../firmware/{top}.cpp"], "testbench": "../tb/testbench.cpp", "vectors": "../tb/vectors.dat"}
    files = {"vendor/project.tcl": environment.get_template("vendor/project.tcl.jinja").render(common, **above)}
    for step in (*steps_of(tool), "all"):
        files[f"vendor/{step}.tcl"] = environment.get_template("vendor/step.tcl.jinja").render(
            common,
            what=WHAT[step],
            after="csynth" if step in ("cosim", "export") else "",
            steps=STEPS if step == "all" else (step,),
            command=f"vivado_hls -f {step}.tcl" if tool == "vivado" else f"vitis_hls -f {step}.tcl",
        )
    if tool == "vitis":
        for name, flow, output in (("hls.cfg", "vivado", "ip_catalog"), ("hls_xo.cfg", "vitis", "xo")):
            files[f"vendor/{name}"] = environment.get_template("vendor/hls.cfg.jinja").render(
                common,
                **beside,
                what=WHAT["export" if output == "ip_catalog" else "export_xo"],
                flow=flow,
                format=output,
            )
    files["vendor/README.txt"] = environment.get_template("vendor/README.txt.jinja").render(
        common, commands=_by_hand(tool)
    )
    return files


def arguments(program: str, step: str) -> list[list[str]]:
    """The commands of one step, run in vendor/, one after the other. `program` is vivado_hls, vitis_hls, vitis-run, or
    vitis-run --tcl, which is vitis-run before it took configurations."""
    if program in ("vivado_hls", "vitis_hls"):
        return [[program, "-f", f"{step}.tcl"]]
    if program == "vitis-run --tcl":
        return [["vitis-run", "--mode", "hls", "--tcl", f"{step}.tcl"]]
    if step == "export_xo":
        return [_compile("hls_xo.cfg", "work/xo"), _run("--package", "hls_xo.cfg", "work/xo")]
    if step == "csynth":
        return [_compile("hls.cfg", "work/hls")]
    kind, folder = {"csim": ("--csim", "csim"), "cosim": ("--cosim", "hls"), "export": ("--package", "hls")}[step]
    return [_run(kind, "hls.cfg", f"work/{folder}")]


def _compile(config: str, folder: str) -> list[str]:
    return ["v++", "-c", "--mode", "hls", "--config", config, "--work_dir", folder]


def _run(kind: str, config: str, folder: str) -> list[str]:
    return ["vitis-run", "--mode", "hls", kind, "--config", config, "--work_dir", folder]


def _by_hand(tool: Tool) -> list[tuple[str, list[str]]]:
    if tool == "vivado":
        return [("vivado_hls", ["vivado_hls -f all.tcl"])]
    lines = [" ".join(command) for step in WITH_XO for command in arguments("vitis-run", step)]
    return [
        (f"vitis_hls, up to {written(LAST_WITH_VITIS_HLS)}", ["vitis_hls -f all.tcl", "vitis_hls -f export_xo.tcl"]),
        (f"vitis-run, from {written(FIRST_WITH_CONFIG)} on", ["mkdir -p work", *lines]),
    ]


def tcl(text: str) -> str:
    """One Tcl word that is the text, whatever is in it."""
    _printable(text)
    if re.fullmatch(r"[\w./+=,:@%-]+", text, flags=re.ASCII):
        return text
    return "".join(ch if ch.isalnum() and ch.isascii() else f"\\{ch}" for ch in text) or "{}"


def cfg(text: str) -> str:
    """A value of a configuration, which has no quotes: a text that needs some is refused."""
    _printable(text)
    if not re.fullmatch(r"[\w./+=:@%-]+", text, flags=re.ASCII):
        raise RequestError(f"vendor: {text!r} cannot stand in a configuration; use letters, digits and ._-")
    return text


def _printable(text: str) -> None:
    if not text.isprintable():
        raise RequestError(f"vendor: {text!r} holds control characters; use a name without them")


def _decimal(value: float) -> str:
    """At most three digits behind the point, none for nothing."""
    return f"{value:.3f}".rstrip("0").rstrip(".")
