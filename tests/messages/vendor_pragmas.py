"""Pragmas of the HLS tools in sources."""

from __future__ import annotations

from broadaxe.errors import VerificationError
from broadaxe.vendor.pragmas import check
from broadaxe.vendor.versions import Version

from . import provokes

COVERS = ("vendor/pragmas.py",)
SOURCE = """void f(hls::stream<int>& in) {
  int held[4], other = 0;
%s
steps:
  for (int t = 0; t < 4; t++) {
%s
  }
}
"""
PIPELINE = "#pragma HLS PIPELINE II=1"


def refused(message: str, *, function: str = "", loop: str = PIPELINE, version: Version = (2025, 1), name: str) -> None:
    """A case that checks a source with a line in its function or its loop."""
    provokes(message, VerificationError, name)(lambda tmp: check(SOURCE % (function, loop), "f.hpp", version))


refused(
    "f.hpp:3: _Pragma is not read; write #pragma HLS on a line of its own",
    name="operator_of_c99",
    function='  _Pragma("HLS UNROLL")',
)
refused(
    "f.hpp:3: #pragma GCC ivdep is unknown; use #pragma HLS or #pragma once",
    name="pragma_of_gcc",
    function="#pragma GCC ivdep",
)
refused(
    "f.hpp:3: #pragma HLS STREAM variable=in depth=: 'depth=' is no option; write a word, or key=value",
    name="option_without_a_value",
    function="#pragma HLS STREAM variable=in depth=",
)
refused(
    "f.hpp:6: #pragma HLS PIPLINE: is unknown; use one of PIPELINE, UNROLL, INLINE, ARRAY_PARTITION, ARRAY_RESHAPE,"
    " DEPENDENCE, INTERFACE, DATAFLOW, STREAM, RESOURCE, BIND_STORAGE, BIND_OP, AGGREGATE, DATA_PACK, STABLE, RESET,"
    " LATENCY, EXPRESSION_BALANCE, LOOP_FLATTEN, LOOP_TRIPCOUNT",
    name="pragma_misspelt",
    loop="#pragma HLS PIPLINE II=1",
)
refused(
    "f.hpp:3: #pragma HLS DATA_PACK: is not of version 2025.1; see UG902, pragma HLS data_pack",
    name="pragma_of_another_version",
    function="#pragma HLS DATA_PACK variable=held",
)
refused(
    "f.hpp:3: #pragma HLS UNROLL: stands in a function; put it directly into a loop",
    name="loop_pragma_in_a_function",
    function="#pragma HLS UNROLL",
)
refused(
    "f.hpp:7: #pragma HLS PIPELINE: stands behind statements; put it first in its loop",
    name="pragma_behind_statements",
    loop=f"    other++;\n{PIPELINE}",
)
refused(
    "f.hpp:3: #pragma HLS ARRAY_PARTITION: there is no variable hold here; declare it above",
    name="variable_misspelt",
    function="#pragma HLS ARRAY_PARTITION variable=hold complete",
)
refused(
    "f.hpp:3: #pragma HLS INTERFACE: the function has no argument inn; name one, or return",
    name="argument_misspelt",
    function="#pragma HLS INTERFACE axis port=inn",
)
refused(
    "f.hpp:6: #pragma HLS PIPELINE: has no option I; use II, style",
    name="option_misspelt",
    loop="#pragma HLS PIPELINE I=1",
)
refused(
    "f.hpp:6: #pragma HLS PIPELINE: II=0 is not allowed; see UG902 and UG1399, pragma HLS pipeline",
    name="value_that_is_not_allowed",
    loop="#pragma HLS PIPELINE II=0",
)
refused(
    "f.hpp:6: #pragma HLS PIPELINE: style=flp is not of version 2020.1; see UG902 and UG1399, pragma HLS pipeline",
    name="value_of_another_version",
    loop="#pragma HLS PIPELINE style=flp",
    version=(2020, 1),
)
refused(
    "f.hpp:3: #pragma HLS ARRAY_PARTITION: says dim twice; say it once",
    name="option_twice",
    function="#pragma HLS ARRAY_PARTITION variable=held complete dim=1 dim=2",
)
refused(
    "f.hpp:3: #pragma HLS ARRAY_PARTITION: needs variable; see UG902 and UG1399, pragma HLS array_partition",
    name="option_missing",
    function="#pragma HLS ARRAY_PARTITION complete",
)
