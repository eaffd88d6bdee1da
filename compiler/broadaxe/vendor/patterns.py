"""The constructs of which generated sources are made, each with the public text that says the tools take it.

`regex` finds the construct in the sources of a build; a test finds each of them, so that nothing stays here that is gone.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pattern:
    """One construct. UG902 and UG1399 as in `broadaxe.vendor.pragmas`; a source names the heading there."""

    name: str
    regex: str
    source: str


PATTERNS = (
    Pattern(
        "top function of streams, with a block-level protocol",
        r"#pragma HLS INTERFACE (s_axilite|ap_ctrl_none) port=return",
        "UG902, Interface Synthesis Reference; UG1399, pragma HLS interface",
    ),
    Pattern(
        "AXI-Stream arguments by reference",
        r"#pragma HLS INTERFACE axis port=\w+",
        "UG902, Using AXI4-Stream Interfaces; UG1399, AXI4-Stream Interfaces; Xilinx/Vitis-HLS-Introductory-Examples,"
        " Interface/Streaming",
    ),
    Pattern(
        "ap_axiu at the top alone",
        r"typedef ap_axiu<\d+, [01], [01], [01]> \w+_beat;",
        "UG902, AXI4-Stream with side channels; UG1399, AXI4-Stream Interfaces with Side-Channels: widths of 0 from"
        " Vitis HLS on",
    ),
    Pattern(
        "dataflow of calls that are joined by local streams",
        r"#pragma HLS DATAFLOW\n(  hls::stream<[^\n]*\n#pragma HLS STREAM [^\n]*\n)+\n(  [\w:]+(<.*>)?\([^\n]*\);\n)+\}",
        "UG902, Dataflow Optimization, canonical bodies; UG1399, Canonical Forms",
    ),
    Pattern(
        "stream with a name and a depth by pragma",
        r'hls::stream<[^\n]*> (\w+)\("\1"\);\n#pragma HLS STREAM variable=\1 depth=\d+',
        "UG902, Specifying FIFO depth; UG1399, pragma HLS stream",
    ),
    Pattern(
        "one flat loop at II=1 with constant trips",
        r"\w+:\n  for \(int \w+ = 0; [^;]*; \w+\+\+\) \{\n#pragma HLS PIPELINE II=1",
        "UG902, Loop Pipelining; UG1399, Pipelining Loops",
    ),
    Pattern(
        "lanes unrolled inside",
        r"\{\n#pragma HLS UNROLL",
        "UG902, Loop Unrolling; UG1399, Unrolling Loops",
    ),
    Pattern(
        "ROM: constants of built-in type, partitioned along lanes",
        r"#pragma HLS ARRAY_PARTITION variable=weights complete dim=1",
        "UG902, Arrays, ROMs; UG1399, ROMs and pragma HLS array_partition",
    ),
    Pattern(
        "ring buffer that is read later than it is written",
        r"#pragma HLS DEPENDENCE variable=\w+ inter RAW distance=\d+ true",
        "UG902, Removing False Dependencies; UG1399, pragma HLS dependence",
    ),
    Pattern(
        "widths above 1024 bits",
        r"#define AP_INT_MAX_W 4096\n#endif\n#include <ap_axi_sdata.h>",
        "UG902 and UG1399, C++ arbitrary precision: AP_INT_MAX_W before the first include",
    ),
)
