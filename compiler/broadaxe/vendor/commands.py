"""The Tcl commands and configuration keys that our projects may use, with the versions of the tools that know them.

Sources: UG902 (v2019.2, v2020.1), Vivado HLS Command Reference; UG1399 (2020.2 to 2025.2), Vitis HLS Command Reference, Config
File Commands and Tcl to Config File Command Map. Tests run every script against the commands, and compare every
configuration with the keys.
"""

from __future__ import annotations

from dataclasses import dataclass

from broadaxe.vendor.versions import FIRST, FIRST_WITH_CONFIG, LAST, VIVADO_HLS, Version

VITIS: Version = (2020, 2)
VIVADO = VIVADO_HLS[-1]


@dataclass(frozen=True)
class Option:
    """`-name`, or `-name value`; `value` is a pattern of all that is allowed, empty for an option without one."""

    name: str
    value: str = ""
    since: Version = FIRST
    until: Version = LAST


@dataclass(frozen=True)
class Command:
    """A Tcl command with its least and largest number of words that are no options."""

    name: str
    least: int
    most: int
    options: tuple[Option, ...] = ()
    since: Version = FIRST
    until: Version = LAST


@dataclass(frozen=True)
class Key:
    """A configuration key: above [hls] where `hls` is false. `value` is a pattern of all that is allowed."""

    name: str
    value: str
    hls: bool = True
    repeats: bool = False
    since: Version = FIRST_WITH_CONFIG
    until: Version = LAST


WORD = r"\S+"
NAME = r"[A-Za-z_]\w*"
PERIOD = r"[0-9]+(\.[0-9]{1,3})?"
COMMANDS = (
    Command("open_project", 1, 1, (Option("reset"), Option("upgrade", since=VITIS))),
    Command("close_project", 0, 0),
    Command("set_top", 1, 1),
    Command(
        "add_files", 1, 1, (Option("tb"), Option("cflags", ".*"), Option("csimflags", ".*"), Option("blackbox", WORD))
    ),
    Command("open_solution", 1, 1, (Option("reset"), Option("flow_target", "vivado|vitis", since=VITIS))),
    Command("close_solution", 0, 0),
    Command("set_part", 1, 1),
    Command("create_clock", 0, 0, (Option("period", PERIOD), Option("name", NAME))),
    Command("set_clock_uncertainty", 1, 2),
    Command(
        "config_compile",
        0,
        0,
        (
            Option("name_max_length", r"[0-9]+"),
            Option("pipeline_loops", r"[0-9]+"),
            Option("pipeline_style", "stp|flp", since=VITIS),
            Option("pipeline_style", "frp", since=(2021, 1)),
        ),
    ),
    Command(
        "config_array_partition",
        0,
        0,
        (Option("maximum_size", r"[0-9]+", until=VIVADO), Option("complete_threshold", r"[0-9]+", since=VITIS)),
    ),
    Command("csim_design", 0, 0, (Option("O"), Option("clean"), Option("argv", ".*"), Option("setup"))),
    Command("csynth_design", 0, 0, (Option("dump_post_cfg", since=(2021, 1)),)),
    Command(
        "cosim_design",
        0,
        0,
        (
            Option("rtl", "verilog|vhdl"),
            Option("O"),
            Option("argv", ".*"),
            Option("tool", "auto|xsim|modelsim|vcs|riviera"),
            Option("trace_level", "none|port|all"),
            Option("disable_deadlock_detection", since=VITIS),
            Option("enable_dataflow_profiling", since=VITIS),
        ),
    ),
    Command(
        "export_design",
        0,
        0,
        (
            Option("rtl", "verilog|vhdl"),
            Option("format", "ip_catalog|sysgen|syn_dcp"),
            Option("format", "xo", since=VITIS),
            Option("flow", "syn|impl"),
            Option("version", r"[0-9]+\.[0-9]+\.[0-9]+"),
            Option("vendor", WORD),
            Option("library", WORD),
            Option("ipname", NAME),
            Option("description", ".*"),
            Option("display_name", ".*"),
        ),
    ),
)
KEYS = (
    Key("part", r"xc[0-9a-zA-Z-]+", hls=False),
    Key("flow_target", "vivado|vitis"),
    Key("clock", PERIOD + "ns"),
    Key("clock_uncertainty", PERIOD + "ns"),
    Key("syn.top", NAME),
    Key("syn.file", WORD, repeats=True),
    Key("syn.file_cflags", r"[^,\s]+,\S.*", repeats=True),
    Key("syn.cflags", r"\S.*"),
    Key("syn.compile.pipeline_style", "stp|flp|frp"),
    Key("tb.file", WORD, repeats=True),
    Key("tb.file_cflags", r"[^,\s]+,\S.*", repeats=True),
    Key("tb.cflags", r"\S.*"),
    Key("csim.code_analyzer", "0|1", since=(2024, 1)),
    Key("cosim.rtl", "verilog|vhdl"),
    Key("cosim.trace_level", "none|port|all"),
    Key("package.output.format", "ip_catalog|xo|syn_dcp|sysgen|rtl"),
    Key("package.output.syn", "true|false"),
    Key("package.output.file", WORD),
    Key("package.ip.version", r"[0-9]+\.[0-9]+\.[0-9]+"),
    Key("package.ip.name", NAME),
    Key("vivado.flow", "syn|impl"),
)


def commands(version: Version) -> dict[str, Command]:
    """What Tcl of a version knows, options of other versions left out."""
    return {
        c.name: Command(c.name, c.least, c.most, tuple(o for o in c.options if o.since <= version <= o.until))
        for c in COMMANDS
        if c.since <= version <= c.until
    }


def keys(version: Version) -> dict[str, Key]:
    """What a configuration of a version may hold."""
    return {k.name: k for k in KEYS if k.since <= version <= k.until}
