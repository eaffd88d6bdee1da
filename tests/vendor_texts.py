"""Reports of our own making, in the shapes in which each version of the tools writes them."""

from __future__ import annotations

from collections.abc import Sequence

RULE = "=" * 64


def drawn(columns: Sequence[str], rows: Sequence[Sequence[str] | None], indent: int = 0, pad: str = "") -> str:
    """A table; a row of None is a border."""
    full = [r for r in rows if r is not None]
    widths = [max(len(c) + 2, *(len(r[i]) + 2 for r in full), 3) for i, c in enumerate(columns)]
    margin = " " * indent
    border = margin + "+" + "+".join("-" * w for w in widths) + "+"
    lines = [border, margin + "|" + "|".join(f"{c:^{w}}" for c, w in zip(columns, widths, strict=True)) + "|", border]
    for row in rows:
        if row is None:
            lines.append(border)
        else:
            lines.append(
                margin + "|" + "|".join(f"{pad}{c:<{w - len(pad)}}" for c, w in zip(row, widths, strict=True)) + "|"
            )
    return "\n".join([*lines, border, ""])


LATENCY = """\
    +---------+---------+-----------+-----------+-----+-----+----------+
    |  Latency (cycles) |   Latency (absolute)  |  Interval | Pipeline |
    |   min   |   max   |    min    |    max    | min | max |   Type   |
    +---------+---------+-----------+-----------+-----+-----+----------+
    |{:>9}|{:>9}| 50.000 ns | 50.000 ns |{:>5}|{:>5}| dataflow |
    +---------+---------+-----------+-----------+-----+-----+----------+
"""
LATENCY_2019 = """\
    +---------+---------+-----+-----+----------+
    |      Latency      |  Interval | Pipeline |
    |   min   |   max   | min | max |   Type   |
    +---------+---------+-----+-----+----------+
    |{:>9}|{:>9}|{:>5}|{:>5}| dataflow |
    +---------+---------+-----+-----+----------+
"""
LOOPS = """\
        +------------+---------+---------+----------+-----------+-----------+---------+----------+
        |            |  Latency (cycles) | Iteration|  Initiation Interval  |   Trip  |          |
        |  Loop Name |   min   |   max   |  Latency |  achieved |   target  |  Count  | Pipelined|
        +------------+---------+---------+----------+-----------+-----------+---------+----------+
        |- steps     |       10|      265|        11|          1|          1|  1 ~ 256|       yes|
        | + inner    |        ?|        ?|         ?|          -|          -|        ?|        no|
        +------------+---------+---------+----------+-----------+-----------+---------+----------+
"""


def csynth_rpt(
    name: str = "net_top",
    version: str = "2025.1",
    cells: tuple[str, str, str, str] = ("10", "12", "8", "8"),
    dsp: str = "DSP",
    loops: bool = True,
    instance: str = "conv0",
    total_lut: str = "142",
) -> str:
    tool = "Vivado" if version < "2020.2" else "Vitis"
    old = version == "2019.1"
    latency = (LATENCY_2019 if old else LATENCY).format(*cells)
    unit, ns = (" (ns)", "") if old else ("", " ns")
    timing = drawn(
        ["Clock", "Target", "Estimated", "Uncertainty"], [["ap_clk", f"5.00{ns}", f"4.049{ns}", f"0.62{ns}"]], 4
    )
    columns = ["Name", "BRAM_18K", dsp, "FF", "LUT", "URAM"]
    usage = drawn(
        columns,
        [
            ["Expression", "-", "-", "0", "2", "-"],
            ["Instance", "1", "73", "7944", "140", "-"],
            ["Register", "-", "-", "25", "-", "-"],
            None,
            ["Total", "1", "73", "7969", total_lut, "0"],
            None,
            ["Available", "280", "220", "106400", "53200", "0"],
            None,
            ["Utilization (%)", "~0", "33", "7", "~0", "0"],
        ],
    )
    parts = drawn(
        ["Instance", "Module", "BRAM_18K", dsp, "FF", "LUT", "URAM"],
        [
            [f"{instance}_U0", instance, "1", "73", "7944", "140", "0"],
            None,
            ["Total", "", "1", "73", "7944", "140", "0"],
        ],
        4,
    )
    return f"""

{RULE}
== {tool} HLS Report for '{name}'
{RULE}
* Date:           Sun Nov 22 2026

* Version:        {version} (Build 1 on today)
* Project:        hls
* Solution:       solution1
* Product family: zynq
* Target device:  xc7z020-clg400-1


{RULE}
== Performance Estimates
{RULE}
+ Timing{unit}:
    * Summary:
{timing}
+ Latency{" (clock cycles)" if old else ""}:
    * Summary:
{latency}
    + Detail:
        * Instance:
        N/A

        * Loop:
{LOOPS if loops else "        N/A"}


{RULE}
== Utilization Estimates
{RULE}
* Summary:
{usage}
+ Detail:
    * Instance:
{parts}
    * {dsp}:
    N/A


{RULE}
== Interface
{RULE}
* Summary:
{drawn(["RTL Ports", "Dir", "Bits"], [["ap_clk", "in", "1"]])}
"""


def loop_xml(trips: str = "<range><min>1</min><max>256</max></range>", depth: str = "11", ii: str = "1") -> str:
    return f"""<SummaryOfLoopLatency><steps><Name>steps</Name><Slack>8.61</Slack><TripCount>{trips}</TripCount>
<Latency>10 ~ 265</Latency><AbsoluteTimeLatency>0.1 us</AbsoluteTimeLatency><PipelineII>{ii}</PipelineII>
<PipelineDepth>{depth}</PipelineDepth><InstanceList/></steps></SummaryOfLoopLatency>"""


def csynth_xml(
    name: str = "net_top",
    version: str = "2025.1",
    dsp: str = "DSP",
    latency: tuple[str, str] = ("10", "12"),
    interval: tuple[str, str] = ("8", "8"),
    loops: str = "",
    modules: str = "",
    lut: str = "142",
) -> str:
    return f"""<profile>
<ReportVersion><Version>{version}</Version></ReportVersion>
<UserAssignments><unit>ns</unit><ProductFamily>zynq</ProductFamily><Part>xc7z020-clg400-1</Part>
<TopModelName>{name}</TopModelName><TargetClockPeriod>5.00</TargetClockPeriod><ClockUncertainty>0.62</ClockUncertainty>
</UserAssignments>
<PerformanceEstimates><PipelineType>dataflow</PipelineType>
<SummaryOfTimingAnalysis><unit>ns</unit><EstimatedClockPeriod>4.049</EstimatedClockPeriod></SummaryOfTimingAnalysis>
<SummaryOfOverallLatency><unit>clock cycles</unit><Best-caseLatency>{latency[0]}</Best-caseLatency>
<Worst-caseLatency>{latency[1]}</Worst-caseLatency><Interval-min>{interval[0]}</Interval-min>
<Interval-max>{interval[1]}</Interval-max></SummaryOfOverallLatency>{loops}
</PerformanceEstimates>
<AreaEstimates>
<Resources><FF>7969</FF><LUT>{lut}</LUT><BRAM_18K>1</BRAM_18K><{dsp}>73</{dsp}><URAM>0</URAM></Resources>
<AvailableResources><BRAM_18K>280</BRAM_18K><{dsp}>220</{dsp}><FF>106400</FF><LUT>53200</LUT><URAM>0</URAM>
</AvailableResources></AreaEstimates>
<InterfaceSummary><RtlPorts><name>ap_clk</name><Dir>in</Dir></RtlPorts></InterfaceSummary>{modules}
</profile>
"""


def cosim_rpt(
    status: str = "Pass", figures: Sequence[str] = ("676", "677", "680", "64", "65", "66"), total: str | None = "900"
) -> str:
    wide = "-" * 47
    end = "" if total is None else "-" * 22 + "+"
    names = (
        ["", "", ""]
        if total is None
        else [" Total Execution Time |", "    (Clock Cycles)    +", "                      |"]
    )
    columns = "|".join(f"{c:^15}" for c in ("min", "avg", "max"))

    def row(language: str, state: str, values: Sequence[str]) -> str:
        cells = [f"{language:>10}", f"{state:>10}", *(f"{v:>15}" for v in values[:6])]
        return "|" + "|".join([*cells, *([] if total is None else [f"{values[6]:>22}"])]) + "|"

    border = f"+{'-' * 10}+{'-' * 10}+{wide}+{wide}+{end}"
    return f"""Report time       : Sun Nov 22 2026.
Solution          : solution1.
Simulation tool   : xsim.

{border}
|          |          |{"Latency(Clock Cycles)":^47}|{"Interval(Clock Cycles)":^47}|{names[0]}
+   RTL    +  Status  +{wide}+{wide}+{names[1]}
|          |          |{columns}|{columns}|{names[2]}
{border}
{row("VHDL", "NA", ["NA"] * 7)}
{row("Verilog", status, [*figures, total or ""])}
{border}
"""


EXPORT_2020 = """

Implementation tool: Xilinx Vivado v.2020.1
Project:             hls
Solution:            solution1
Device target:       xc7z020clg400-1
Report date:         Sun Nov 22 2026

#=== Post-Implementation Resource usage ===
SLICE:          612
LUT:           1478
FF:            2428
DSP:             66
BRAM:             3
SRL:             48
#=== Final timing ===
CP required:    5.000
CP achieved post-synthesis:    3.412
CP achieved post-implementation:    4.311
Timing met
"""
EXPORT_2025 = f"""{RULE}
== Vivado RTL Synthesis Results
{RULE}
+ General Information:
    * Version:         2025.1 (Build 1)
    * Target device:   xc7z020-clg400-1


{RULE}
== RTL Synthesis Resource Summary
{RULE}
LUT:              3254
FF:               3624
DSP:              7
BRAM:             2
URAM:             0
SRL:              266


{RULE}
== RTL Synthesis Timing Summary
{RULE}
* Timing was met
{drawn(["Timing", "Period (ns)"], [["Target", "11.800"], ["Post-Synthesis", "7.744"]], pad=" ")}

{RULE}
== RTL Synthesis Resources
{RULE}
{drawn(["Name", "LUT", "FF"], [["inst", "3254", "3624"]], pad=" ")}
"""


SUMMARY_COLUMNS = (
    *("Modules & Loops", "Issue Type", "Slack", "Latency (cycles)", "Latency (ns)", "Iteration Latency", "Interval"),
    *("Trip Count", "Pipelined", "BRAM", "DSP", "FF", "LUT", "URAM"),
)
SUMMARY_ROWS = [
    [
        "+ net_top*",
        "-",
        "0.40",
        "75",
        "885.000",
        "-",
        "73",
        "-",
        "dataflow",
        "8 (2%)",
        "4 (1%)",
        "18693 (17%)",
        "7780 (4%)",
        "-",
    ],
    [" + conv0", "-", "0.40", "72", "849.600", "-", "72", "-", "no", "-", "4 (1%)", "10165 (9%)", "4958 (9%)", "-"],
    [
        "  + conv0_Pipeline_steps",
        *["-", "0.40", "71", "837.800", "-", "65", "-", "rewind", "-"],
        "4 (1%)",
        "8 (~0%)",
        "4910 (9%)",
        "-",
    ],
    ["   o steps", *["-", "8.61", "69", "814.200", "7", "1", "64", "yes", "-", "-", "-", "-", "-"]],
    [" + quant0", *["-", "1.55", "-", "-", "-", "-", "-", "no", "-", "-"], "8370 (7%)", "2740 (5%)", "-"],
]
SUMMARY = f"""

{RULE}
== Synthesis Summary Report of 'net_top'
{RULE}
+ General Information:
    * Date:           Sun Nov 22 2026
    * Version:        2025.1 (Build 1)
    * Product family: zynq
    * Target device:  xc7z020-clg400-1


+ Performance & Resource Estimates:

    PS: '+' for module; 'o' for loop; '*' for dataflow
{drawn(SUMMARY_COLUMNS, SUMMARY_ROWS, 4)}

{RULE}
== HW Interfaces
{RULE}
"""


UTILIZATION_SITES = {
    "1. Slice Logic": [
        ["Slice LUTs", "120"],
        ["  LUT as Logic", "100"],
        ["  LUT as Memory", "20"],
        ["    LUT as Shift Register", "8"],
        ["Slice Registers", "240"],
    ],
    "2. Memory": [["Block RAM Tile", "1.5"]],
    "3. DSP": [["DSPs", "7"]],
}
UTILIZATION = "\n".join(
    [
        "| Tool Version : Vivado v.2022.2",
        "| Device       : 7z020clg400-1",
        "| Design State : Synthesized",
        "",
        *("Table of Contents", "-----------------", *UTILIZATION_SITES, ""),
        *(f"{title}\n---\n\n{drawn(['Site Type', 'Used'], rows)}" for title, rows in UTILIZATION_SITES.items()),
    ]
)
