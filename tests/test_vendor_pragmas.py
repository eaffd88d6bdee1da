"""Every pragma of every source against the table, for each version of the tools; and what the table refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from models import small_cnn
from test_ops_contract import EVERYTHING, LANES

import broadaxe
from broadaxe import emit, resources
from broadaxe.errors import VerificationError
from broadaxe.schedule.dataflow import dataflow
from broadaxe.vendor.patterns import PATTERNS
from broadaxe.vendor.pragmas import PRAGMAS, check
from broadaxe.vendor.versions import SUPPORTED, VITIS_HLS, VIVADO_HLS

FUNCTION = """void f(hls::stream<int>& in, int (&memory)[4]) {
  int held[4], other = 0;
%s
steps:
  for (int t = 0; t < 4; t++) {
%s
  }
}
"""
IN_LOOP = "#pragma HLS PIPELINE II=1"


def source(outside: str = "", inside: str = IN_LOOP) -> str:
    return FUNCTION % (outside, inside)


def written(text: str, version: tuple[int, int]) -> int:
    """Pragmas that a version of the tools reads: of two branches by tool the other one's are not."""
    taken = r"\1" if version >= VITIS_HLS[0] else r"\2"
    text = re.sub(r"#ifdef __VITIS_HLS__\n(.*?)#else\n(.*?)#endif", taken, text, flags=re.DOTALL)
    text = re.sub(
        r"#ifndef __VITIS_HLS__\n(.*?)#endif", r"" if version >= VITIS_HLS[0] else r"\1", text, flags=re.DOTALL
    )
    return text.count("#pragma HLS ")


def test_every_kernel_header_keeps_to_the_table() -> None:
    """For each version; and no pragma is missed."""
    for path in sorted(resources.folder("hw").glob("*.hpp")):
        text = path.read_text()
        for version in SUPPORTED:
            assert len(check(text, path.name, version)) == written(text, version)


@pytest.mark.parametrize("tool", ["vitis", "vivado"])
def test_every_operator_keeps_to_the_table(tool: str) -> None:
    """All examples of the operators' contract in one design."""
    lanes = LANES
    options = {"sideband": int(tool == "vivado"), "control": "s_axilite"}
    files = emit.firmware(EVERYTHING, dataflow(EVERYTHING, lanes), lanes, "net_top", options)
    for name, text in files.items():
        for version in VITIS_HLS if tool == "vitis" else VIVADO_HLS:
            assert len(check(text, name, version)) == written(text, version)


@pytest.mark.parametrize("tool", ["vitis", "vivado"])
@pytest.mark.parametrize("control", ["s_axilite", "ap_ctrl_none"])
def test_every_generated_source_keeps_to_the_table(tool: str, control: str, tmp_path: Path) -> None:
    build = broadaxe.compile(small_cnn(), tmp_path / "build", tool=tool, control=control)
    assert build.top
    everything, pragmas = "", 0
    for path in sorted((tmp_path / "build" / "firmware").rglob("*.[ch]pp")):
        text = path.read_text()
        everything += text
        for version in VITIS_HLS if tool == "vitis" else VIVADO_HLS:
            pragmas = len(check(text, path.name, version))
            assert pragmas == written(text, version)
    for pattern in PATTERNS:
        assert re.search(pattern.regex, everything), pattern.name


@pytest.mark.parametrize("tool", ["vitis", "vivado"])
def test_sources_that_load_their_weights_keep_to_the_table(tool: str, tmp_path: Path) -> None:
    broadaxe.compile(small_cnn(), tmp_path / "build", tool=tool, weights="runtime")
    firmware = tmp_path / "build" / "firmware"
    for path in [*sorted(firmware.glob("*.[ch]pp")), firmware / "broadaxe" / "parameters.hpp"]:
        for version in VITIS_HLS if tool == "vitis" else VIVADO_HLS:
            assert len(check(path.read_text(), path.name, version)) == path.read_text().count("#pragma HLS ")
    top = (firmware / "net_top.cpp").read_text()
    assert "#pragma HLS INTERFACE s_axilite port=load\n#pragma HLS INTERFACE s_axilite port=return\n" in top


@pytest.mark.parametrize(
    ("text", "version", "message"),
    [
        (
            source(inside="#pragma HLS PIPLINE II=1"),
            (2025, 1),
            "f.hpp:6: #pragma HLS PIPLINE: is unknown; use one of PIPELINE,",
        ),
        (
            source(inside="#pragma HLS PIPELINE I=1"),
            (2025, 1),
            "f.hpp:6: #pragma HLS PIPELINE: has no option I; use II, style",
        ),
        (
            source(inside="#pragma HLS PIPELINE II=0"),
            (2025, 1),
            "f.hpp:6: #pragma HLS PIPELINE: II=0 is not allowed; see UG902 and UG1399, pragma HLS pipeline",
        ),
        (
            source(inside="#pragma HLS PIPELINE II=LAG"),
            (2025, 1),
            "f.hpp:6: #pragma HLS PIPELINE: II=LAG is not allowed",
        ),
        (source(inside="#pragma HLS PIPELINE rewnd"), (2025, 1), "f.hpp:6: #pragma HLS PIPELINE: rewnd is not allowed"),
        (
            source(inside="#pragma HLS PIPELINE style=flp"),
            (2020, 1),
            "f.hpp:6: #pragma HLS PIPELINE: style=flp is not of version 2020.1",
        ),
        (
            source(inside="#pragma HLS PIPELINE style=frp"),
            (2020, 2),
            "f.hpp:6: #pragma HLS PIPELINE: style=frp is not of version",
        ),
        (
            source("#pragma HLS UNROLL"),
            (2025, 1),
            "f.hpp:3: #pragma HLS UNROLL: stands in a function; put it directly into a loop",
        ),
        (
            source(inside="    other++;\n#pragma HLS PIPELINE II=1"),
            (2025, 1),
            "f.hpp:7: #pragma HLS PIPELINE: stands behind statements; put it first in its loop",
        ),
        (
            source("#pragma HLS ARRAY_PARTITION variable=hold complete"),
            (2025, 1),
            "f.hpp:3: #pragma HLS ARRAY_PARTITION: there is no variable hold here; declare it above",
        ),
        (
            source("#pragma HLS ARRAY_PARTITION complete"),
            (2025, 1),
            "f.hpp:3: #pragma HLS ARRAY_PARTITION: needs variable; see",
        ),
        (
            source("#pragma HLS ARRAY_PARTITION variable=held complete dim=1 dim=2"),
            (2025, 1),
            "f.hpp:3: #pragma HLS ARRAY_PARTITION: says dim twice; say it once",
        ),
        (
            source("#pragma HLS INTERFACE axis port=inn"),
            (2025, 1),
            "f.hpp:3: #pragma HLS INTERFACE: the function has no argument inn; name one, or return",
        ),
        (
            source("#pragma HLS RESOURCE variable=held core=RAM_1P_BRAM"),
            (2020, 2),
            "f.hpp:3: #pragma HLS RESOURCE: is not of version 2020.2; see UG902, pragma HLS resource with its table of cores",
        ),
        (
            source("#pragma HLS BIND_STORAGE variable=held type=rom_1p impl=bram"),
            (2020, 1),
            "f.hpp:3: #pragma HLS BIND_STORAGE: is not of version 2020.1; see UG1399, pragma HLS bind_storage",
        ),
        (
            source("#pragma GCC ivdep"),
            (2025, 1),
            "f.hpp:3: #pragma GCC ivdep is unknown; use #pragma HLS or #pragma once",
        ),
        (
            source('  _Pragma("HLS UNROLL")'),
            (2025, 1),
            "f.hpp:3: _Pragma is not read; write #pragma HLS on a line of its own",
        ),
        (
            source("#pragma HLS STREAM variable=in depth="),
            (2025, 1),
            "f.hpp:3: #pragma HLS STREAM variable=in depth=: 'depth=' is no",
        ),
    ],
)
def test_what_the_table_refuses(text: str, version: tuple[int, int], message: str) -> None:
    with pytest.raises(VerificationError) as refused:
        check(text, "f.hpp", version)
    assert str(refused.value).startswith(message)


def test_names_of_pragmas_and_words_are_read_whatever_their_case() -> None:
    text = source("#pragma HLS array_partition variable = held COMPLETE dim = 1", "#pragma HLS pipeline II=1 // always")
    found = check(text, "f.hpp", (2020, 1))
    assert [(f.line, f.name, f.options) for f in found] == [
        (3, "ARRAY_PARTITION", (("variable", "held"), ("", "COMPLETE"), ("dim", "1"))),
        (6, "PIPELINE", (("II", "1"),)),
    ]


def test_lines_for_one_tool_are_compared_with_its_versions() -> None:
    text = source(
        "#ifdef __VITIS_HLS__\n#pragma HLS BIND_OP variable=other op=mul impl=dsp\n#else\n"
        "#pragma HLS RESOURCE variable=other core=DSP48\n#endif"
    )
    assert [f.name for f in check(text, "f.hpp", (2025, 1))] == ["BIND_OP", "PIPELINE"]
    assert [f.name for f in check(text, "f.hpp", (2020, 1))] == ["RESOURCE", "PIPELINE"]


def test_each_entry_of_the_table_names_its_source() -> None:
    for entry in PRAGMAS:
        assert re.match(r"UG(902|1399)( and UG1399)?, pragma HLS \w+", entry.source), entry.name
        assert entry.since <= entry.until
