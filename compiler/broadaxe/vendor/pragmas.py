"""The HLS pragmas that generated sources may use: names, options, values, scope and tool versions, each with its source.

No C++ compiler notices a pragma that is misspelt, and the HLS tools only warn. So sources are parsed again and compared
with this table. UG902 is the Vivado Design Suite User Guide: High-Level Synthesis (v2019.2, v2020.1), UG1399 the Vitis
High-Level Synthesis User Guide (2020.2 to 2025.2); a source names the heading there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from broadaxe.errors import VerificationError
from broadaxe.vendor.cpp import Scope, scopes
from broadaxe.vendor.versions import FIRST, LAST, VIVADO_HLS, Version, written

VITIS = (2020, 2)
VIVADO = VIVADO_HLS[-1]
NUMBER = r"[1-9][0-9]*"
NAME = r"[A-Za-z_]\w*"


@dataclass(frozen=True)
class Option:
    """`key=value`, or a bare word where `key` is empty. `value` is a pattern of all that is allowed."""

    key: str
    value: str
    since: Version = FIRST
    until: Version = LAST
    required: bool = False
    names: str = ""
    """What the value has to be a name of: a variable, or a port."""


@dataclass(frozen=True)
class Pragma:
    """One pragma. `scopes` says directly in what it may stand."""

    name: str
    options: tuple[Option, ...]
    scopes: frozenset[Scope]
    source: str
    since: Version = FIRST
    until: Version = LAST


@dataclass(frozen=True)
class Found:
    """A pragma of a source: options in their order, bare words with an empty key."""

    line: int
    name: str
    options: tuple[tuple[str, str], ...]


BODY = frozenset((Scope.FUNCTION,))
LOOP = frozenset((Scope.LOOP,))
EITHER = BODY | LOOP
INSIDE = EITHER | frozenset((Scope.BLOCK,))
"""Anywhere in the function that declares the variable."""
VARIABLE = Option("variable", NAME, required=True, names="variable")
SHAPE = (
    VARIABLE,
    Option("", "(?i:complete|block|cyclic)"),
    Option("type", "(?i:complete|block|cyclic)", since=VITIS),
    Option("factor", NUMBER),
    Option("dim", "0|" + NUMBER),
)
OFF = Option("", "(?i:off)")
PRAGMAS = (
    Pragma(
        "PIPELINE",
        (
            Option("II", NUMBER),
            Option("", "(?i:rewind|off)"),
            Option("", "(?i:enable_flush)", until=VIVADO),
            Option("style", "(?i:stp|flp)", since=VITIS),
            Option("style", "(?i:frp)", since=(2021, 1)),
        ),
        EITHER,
        "UG902 and UG1399, pragma HLS pipeline",
    ),
    Pragma(
        "UNROLL",
        (Option("factor", NUMBER), Option("", "(?i:skip_exit_check)"), Option("", "(?i:region)", until=VIVADO)),
        LOOP,
        "UG902 and UG1399, pragma HLS unroll",
    ),
    Pragma(
        "INLINE",
        (Option("", "(?i:off|recursive)"), Option("", "(?i:region)", until=VIVADO)),
        BODY,
        "UG902 and UG1399, pragma HLS inline",
    ),
    Pragma("ARRAY_PARTITION", SHAPE, INSIDE, "UG902 and UG1399, pragma HLS array_partition"),
    Pragma("ARRAY_RESHAPE", SHAPE, INSIDE, "UG902 and UG1399, pragma HLS array_reshape"),
    Pragma(
        "DEPENDENCE",
        (
            VARIABLE,
            Option("", "(?i:array|pointer|inter|intra|RAW|WAR|WAW|true|false)"),
            Option("distance", NUMBER),
            Option("class", "(?i:array|pointer)", since=VITIS),
            Option("type", "(?i:inter|intra)", since=VITIS),
            Option("direction", "(?i:RAW|WAR|WAW)", since=VITIS),
            Option("dependent", "(?i:true|false)", since=VITIS),
        ),
        INSIDE,
        "UG902 and UG1399, pragma HLS dependence",
    ),
    Pragma(
        "INTERFACE",
        (
            Option("", "(?i:axis|s_axilite|m_axi|ap_ctrl_none|ap_ctrl_hs|ap_none)"),
            Option("", "(?i:ap_ctrl_chain)"),
            Option("mode", "(?i:axis|s_axilite|m_axi|ap_ctrl_none|ap_ctrl_hs|ap_ctrl_chain|ap_none)", since=VITIS),
            Option("port", NAME, required=True, names="port"),
            Option("bundle", NAME),
            Option("depth", NUMBER),
            Option("offset", "(?i:off|direct|slave)"),
            Option("", "(?i:register)"),
            Option("register_mode", "(?i:forward|reverse|both|off)"),
        ),
        BODY,
        "UG902 and UG1399, pragma HLS interface",
    ),
    Pragma(
        "DATAFLOW",
        (Option("", "(?i:disable_start_propagation)"),),
        EITHER,
        "UG902 and UG1399, pragma HLS dataflow",
    ),
    Pragma(
        "STREAM",
        (
            VARIABLE,
            Option("depth", NUMBER),
            Option("dim", NUMBER, until=VIVADO),
            Option("", "(?i:off)", until=VIVADO),
            Option("type", "(?i:fifo|pipo|shared|unsync)", since=VITIS),
        ),
        BODY,
        "UG902 and UG1399, pragma HLS stream",
    ),
    Pragma(
        "RESOURCE",
        (
            VARIABLE,
            Option(
                "core", r"(RAM_(1P|2P|S2P|T2P)|ROM_(1P|2P|NP))(_BRAM|_LUTRAM)?|XPM_MEMORY|FIFO(_BRAM|_LUTRAM|_SRL)?"
            ),
            Option("core", r"(RAM|ROM)_(1P|2P|S2P)_URAM|RAM_T2P_URAM"),
            Option("core", "Mul_LUT|Mul|MulnS|Mul2S|DSP48|AddSub_DSP|AddSubnS|AddSub"),
            Option("latency", "0|" + NUMBER),
            Option("", "(?i:uram)"),
        ),
        INSIDE,
        "UG902, pragma HLS resource with its table of cores",
        until=VIVADO,
    ),
    Pragma(
        "BIND_STORAGE",
        (
            VARIABLE,
            Option("type", "(?i:fifo|ram_1p|ram_1wnr|ram_2p|ram_s2p|ram_t2p|rom_1p|rom_2p|rom_np)", required=True),
            Option("impl", "(?i:auto|bram|bram_ecc|lutram|uram|uram_ecc|srl|memory)"),
            Option("latency", "0|" + NUMBER),
        ),
        INSIDE,
        "UG1399, pragma HLS bind_storage",
        since=VITIS,
    ),
    Pragma(
        "BIND_OP",
        (
            VARIABLE,
            Option("op", "(?i:mul|add|sub|mac)", required=True),
            Option("impl", "(?i:dsp|fabric|auto)"),
            Option("latency", "0|" + NUMBER),
        ),
        INSIDE,
        "UG1399, pragma HLS bind_op",
        since=VITIS,
    ),
    Pragma("AGGREGATE", (VARIABLE,), BODY, "UG1399, pragma HLS aggregate", since=VITIS),
    Pragma("DATA_PACK", (VARIABLE,), BODY, "UG902, pragma HLS data_pack", until=VIVADO),
    Pragma("STABLE", (VARIABLE,), BODY, "UG902 and UG1399, pragma HLS stable"),
    Pragma("RESET", (VARIABLE, OFF), BODY, "UG902 and UG1399, pragma HLS reset"),
    Pragma(
        "LATENCY", (Option("min", "0|" + NUMBER), Option("max", NUMBER)), EITHER, "UG902 and UG1399, pragma HLS latency"
    ),
    Pragma("EXPRESSION_BALANCE", (OFF,), EITHER, "UG902 and UG1399, pragma HLS expression_balance"),
    Pragma("LOOP_FLATTEN", (OFF,), LOOP, "UG902 and UG1399, pragma HLS loop_flatten"),
    Pragma(
        "LOOP_TRIPCOUNT",
        (Option("min", "0|" + NUMBER), Option("max", NUMBER), Option("avg", NUMBER)),
        LOOP,
        "UG902 and UG1399, pragma HLS loop_tripcount",
    ),
)
TABLE = {pragma.name: pragma for pragma in PRAGMAS}


def parse(text: str, where: str) -> Iterator[Found]:
    """The `#pragma HLS` lines of a source. VerificationError where one is no list of words and key=value."""
    for number, line in enumerate(text.split("\n"), 1):
        if "_Pragma" in line:
            raise VerificationError(f"{where}:{number}: _Pragma is not read; write #pragma HLS on a line of its own")
        match = re.fullmatch(r"\s*#\s*pragma\s+HLS\s+(\w+)(.*)", line, flags=re.IGNORECASE)
        if match is None:
            if re.match(r"\s*#\s*pragma(?!\s+once\s*$)", line):
                raise VerificationError(f"{where}:{number}: {line.strip()} is unknown; use #pragma HLS or #pragma once")
            continue
        rest = re.sub(r"\s*=\s*", "=", match[2].split("//")[0]).split()
        options = []
        for word in rest:
            key, equals, value = word.partition("=")
            if equals and (not re.fullmatch(NAME, key) or not value):
                raise VerificationError(
                    f"{where}:{number}: {line.strip()}: {word!r} is no option; write a word, or key=value"
                )
            options.append((key, value) if equals else ("", word))
        yield Found(number, match[1].upper(), tuple(options))


def check(text: str, where: str, version: Version) -> list[Found]:
    """Compare every pragma of a source with the table, for one version of the tools; returns them.

    Lines between `#ifdef __VITIS_HLS__` and its `#else` are Vitis HLS's alone, those behind it Vivado HLS's.
    VerificationError names the first that is unknown, has an option, value or place that it may not have, or names what
    does not exist.
    """
    checked = []
    places = scopes(text, version >= VITIS)
    for found in parse(text, where):
        place = places.get(found.line)
        if place is None:  # of the other tool
            continue
        said = f"{where}:{found.line}: #pragma HLS {found.name}"
        pragma = TABLE.get(found.name)
        if pragma is None:
            raise VerificationError(f"{said}: is unknown; use one of {', '.join(TABLE)}")
        if not pragma.since <= version <= pragma.until:
            raise VerificationError(f"{said}: is not of version {written(version)}; see {pragma.source}")
        if place.scope not in pragma.scopes:
            allowed = " or ".join(sorted(s.value for s in pragma.scopes))
            raise VerificationError(f"{said}: stands in a {place.scope.value}; put it directly into a {allowed}")
        if place.scope is Scope.LOOP and pragma.name in ("PIPELINE", "UNROLL") and not place.leading:
            raise VerificationError(f"{said}: stands behind statements; put it first in its loop")
        _check_options(found, pragma, version, said)
        for key, value in found.options:
            kind = next((o.names for o in pragma.options if o.key == key and o.names), "")
            if kind == "variable" and value not in place.declared:
                raise VerificationError(f"{said}: there is no variable {value} here; declare it above")
            if kind == "port" and value != "return" and value not in place.arguments:
                raise VerificationError(f"{said}: the function has no argument {value}; name one, or return")
        checked.append(found)
    return checked


def _check_options(found: Found, pragma: Pragma, version: Version, said: str) -> None:
    seen: set[str] = set()
    for key, value in found.options:
        alike = [o for o in pragma.options if o.key.lower() == key.lower()]
        if key and not alike:
            known = ", ".join(sorted({o.key for o in pragma.options if o.key}))
            raise VerificationError(f"{said}: has no option {key}; use {known or 'none'}")
        fitting = [o for o in alike if re.fullmatch(o.value, value)]
        if not fitting:
            raise VerificationError(f"{said}: {f'{key}={value}' if key else value} is not allowed; see {pragma.source}")
        if not any(o.since <= version <= o.until for o in fitting):
            raise VerificationError(
                f"{said}: {f'{key}={value}' if key else value} is not of version {written(version)}; see {pragma.source}"
            )
        if key and key.lower() in seen:
            raise VerificationError(f"{said}: says {key} twice; say it once")
        seen.add(key.lower())
    for option in pragma.options:
        if option.required and option.key.lower() not in seen:
            raise VerificationError(f"{said}: needs {option.key}; see {pragma.source}")
