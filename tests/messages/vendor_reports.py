"""Reports of the HLS tools that are damaged, cut or of something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vendor_texts import EXPORT_2020, EXPORT_2025, SUMMARY, UTILIZATION, cosim_rpt, csynth_rpt, csynth_xml

from broadaxe.errors import RequestError
from broadaxe.vendor.cosim_rpt import read_cosim_rpt
from broadaxe.vendor.csynth_rpt import read_csynth_rpt
from broadaxe.vendor.csynth_summary import read_csynth_summary
from broadaxe.vendor.csynth_xml import read_csynth_xml
from broadaxe.vendor.implementation import read_export, read_utilization
from broadaxe.vendor.reports import read_reports

from . import provokes

COVERS = (
    *("vendor/cosim_rpt.py", "vendor/csynth_rpt.py", "vendor/csynth_summary.py", "vendor/csynth_xml.py"),
    *("vendor/figures.py", "vendor/implementation.py", "vendor/reports.py"),
)

Reader = Callable[[Path], object]
Text = Callable[[], str]


def refused(message: str, read: Reader) -> Callable[[Text], Text]:
    """A case that reads the report whose text a function gives."""

    def enter(text: Text) -> Text:
        def provoke(tmp: Path) -> None:
            (tmp / "report").write_text(text())
            read(tmp / "report")

        provokes(message, RequestError, text.__name__)(provoke)
        return text

    return enter


def changed(text: str, old: str, new: str) -> str:
    """The text with one part of it changed."""
    assert old in text, old
    return text.replace(old, new, 1)


# Files


@provokes("{tmp}/csynth.xml: cannot be read (No such file or directory); name a report of the HLS tool", RequestError)
def report_that_is_not_there(tmp: Path) -> None:
    read_csynth_xml(tmp / "csynth.xml")


@provokes(
    "{tmp}/csynth.xml: holds 68157440 bytes, no report has more than 67108864; the file is damaged or of another"
    " tool, run the step again",
    RequestError,
)
def report_of_66_megabytes(tmp: Path) -> None:
    with (tmp / "csynth.xml").open("wb") as file:
        file.truncate(65 << 20)
    read_csynth_xml(tmp / "csynth.xml")


@provokes("{tmp}/net_top_csynth.rpt: is a report on other_top, not on net_top; run csynth of this build", RequestError)
def report_on_another_design(tmp: Path) -> None:
    (tmp / "net_top_csynth.rpt").write_text(csynth_rpt("other_top", loops=False))
    read_reports(tmp, "net_top")


# Tables


@refused(
    "{tmp}/report: '1x' is not a number; the file is damaged or of another tool, run the step again",
    read_csynth_rpt,
)
def figure_that_is_none() -> str:
    return changed(csynth_rpt(), "|       12|", "|       1x|")


@refused(
    "{tmp}/report: least 10 is above largest 9; the file is damaged or of another tool, run the step again",
    read_csynth_rpt,
)
def least_above_largest() -> str:
    return changed(csynth_rpt(), "|       12|", "|        9|")


@refused(
    "{tmp}/report: '4,049' is no period in ns; the file is damaged or of another tool, run the step again",
    read_csynth_rpt,
)
def period_with_a_comma() -> str:
    return changed(csynth_rpt(), "4.049 ns", "4,049 ns")


@refused(
    "{tmp}/report: the table has no column 'Latency (cycles) max' but Latency (cycles) min, Latency (cycles) mix,"
    " Latency (absolute) min, Latency (...; the file is damaged or of another tool, run the step again",
    read_csynth_rpt,
)
def column_of_another_name() -> str:
    return changed(csynth_rpt(), "|   max   |", "|   mix   |")


@refused(
    "{tmp}/report, line 20: a table should be here; the file is damaged or of another tool, run the step again",
    read_csynth_rpt,
)
def text_instead_of_a_table() -> str:
    return changed(csynth_rpt(), "    * Summary:\n    +", "    * Summary:\n    see above\n    +")


@refused(
    "{tmp}/report, line 22: the table's header does not end; the file is damaged or of another tool, run the step"
    " again",
    read_csynth_rpt,
)
def header_that_does_not_end() -> str:
    lines = csynth_rpt().split("\n")
    at = next(i for i, line in enumerate(lines) if line.lstrip().startswith("|") and "Clock" in line)
    return "\n".join([*lines[: at + 1], "", *lines[at + 2 :]])


@refused(
    "{tmp}/report, line 89: the table of line 86 does not end; the file is damaged or of another tool, run the step"
    " again",
    read_csynth_rpt,
)
def table_that_does_not_end() -> str:
    return csynth_rpt().rstrip().rpartition("\n")[0]


@refused(
    "{tmp}/report, line 21: the table's row does not end where its border does; the file is damaged or of another"
    " tool, run the step again",
    read_csynth_rpt,
)
def header_beyond_its_border() -> str:
    return changed(csynth_rpt(), "| Clock  |", "| Clock  ||")


@refused(
    "{tmp}/report, line 23: the table's row does not fit its border; the file is damaged or of another tool, run the"
    " step again",
    read_csynth_rpt,
)
def row_beyond_its_border() -> str:
    return changed(csynth_rpt(), "|ap_clk  |", "|ap_clk    |")


# The text report of csynth


@refused(
    "{tmp}/report: section 'Interface' is missing; the file is damaged or of another tool, run the step again",
    read_csynth_rpt,
)
def section_missing() -> str:
    return changed(csynth_rpt(), "== Interface", "== Interfac")


@refused(
    "{tmp}/report: the first line is not the title of an HLS report; the file is damaged or of another tool, run the"
    " step again",
    read_csynth_rpt,
)
def title_of_another_report() -> str:
    return changed(csynth_rpt(), "Vitis HLS Report", "Vitis Report")


@refused(
    "{tmp}/report: the summary of timing or latency has not one row; the file is damaged or of another tool, run the step"
    " again",
    read_csynth_rpt,
)
def summary_of_two_rows() -> str:
    row = next(line for line in csynth_rpt().split("\n") if "50.000 ns" in line)
    return changed(csynth_rpt(), row, f"{row}\n{row}")


@refused(
    "{tmp}/report: line 'Target device' is missing; the file is damaged or of another tool, run the step again",
    read_csynth_rpt,
)
def part_missing() -> str:
    return changed(csynth_rpt(), "* Target device:", "* Device:")


@refused(
    "{tmp}/report: the section has no 'Latency'; the file is damaged or of another tool, run the step again",
    read_csynth_rpt,
)
def latency_missing() -> str:
    return changed(csynth_rpt(), "+ Latency:", "+ Latencies:")


@refused(
    "{tmp}/report, line 19: 'Summary' should be here; the file is damaged or of another tool, run the step again",
    read_csynth_rpt,
)
def summary_missing() -> str:
    return changed(csynth_rpt(), "    * Summary:", "    * Total:")


@refused(
    "{tmp}/report: section 'Utilization Estimates' has no '* Summary:'; the file is damaged or of another tool, run"
    " the step again",
    read_csynth_rpt,
)
def usage_missing() -> str:
    return changed(csynth_rpt(), "\n* Summary:", "\n* Total:")


@refused(
    "{tmp}/report: section 'Performance Estimates' has no '* Loop:'; the file is damaged or of another tool, run the"
    " step again",
    read_csynth_rpt,
)
def loops_missing() -> str:
    return changed(csynth_rpt(), "        * Loop:", "        * Loops:")


@refused(
    "{tmp}/report: the utilization has no row 'Total'; the file is damaged or of another tool, run the step again",
    read_csynth_rpt,
)
def total_missing() -> str:
    return changed(csynth_rpt(), "|Total ", "|Sum   ")


@refused(
    "{tmp}/report: LUT: the parts add up to 142, the total says 141; the file is damaged or of another tool, run the"
    " step again",
    read_csynth_rpt,
)
def total_of_other_parts() -> str:
    return csynth_rpt(total_lut="141")


@refused(
    "{tmp}/report: the table of instances has no total; the file is damaged or of another tool, run the step again",
    read_csynth_rpt,
)
def instances_without_total() -> str:
    before, total, after = csynth_rpt().rpartition("|Total")
    return f"{before}|Sum  {after}" if total else ""


@refused(
    "{tmp}/report: '~ steps' is no loop; the file is damaged or of another tool, run the step again",
    read_csynth_rpt,
)
def loop_without_a_mark() -> str:
    return changed(csynth_rpt(), "|- steps ", "|~ steps ")


# The XML report of csynth


@refused(
    "{tmp}/report: holds a 'html', not the profile of an HLS report; the file is damaged or of another tool, run the"
    " step again",
    read_csynth_xml,
)
def page_of_the_web() -> str:
    return "<html></html>"


@refused(
    "{tmp}/report: is nested deeper or holds more elements than any report; the file is damaged or of another tool,"
    " run the step again",
    read_csynth_xml,
)
def elements_without_end() -> str:
    return "<profile>" + "<a>" * 70 + "</a>" * 70 + "</profile>"


@refused(
    "{tmp}/report: declares a document type or entities, which no report does; the file is damaged or of another"
    " tool, run the step again",
    read_csynth_xml,
)
def document_type() -> str:
    return f"<!DOCTYPE profile [<!ENTITY a 'b'>]>\n{csynth_xml()}"


@refused(
    "{tmp}/report, line 1: is not XML (undefined entity); the file is damaged or of another tool, run the step again",
    read_csynth_xml,
)
def entity_of_nothing() -> str:
    return "<profile>&a;</profile>"


@refused("{tmp}/report: is not XML; the file is damaged or of another tool, run the step again", read_csynth_xml)
def character_of_no_encoding() -> str:
    return '<?xml version="1.0" encoding="latin-1000"?><profile/>'


@refused(
    "{tmp}/report: Resources holds 0 elements LUT, not one; the file is damaged or of another tool, run the step again",
    read_csynth_xml,
)
def resource_missing() -> str:
    return changed(csynth_xml(), "<LUT>142</LUT>", "")


@refused(
    "{tmp}/report: LUT holds elements, not a value; the file is damaged or of another tool, run the step again",
    read_csynth_xml,
)
def elements_for_a_value() -> str:
    return changed(csynth_xml(), "<LUT>142</LUT>", "<LUT><all>142</all></LUT>")


@refused(
    "{tmp}/report: Resources names 0 kinds of DSP, not one; the file is damaged or of another tool, run the step again",
    read_csynth_xml,
)
def dsp_of_a_kind_to_come() -> str:
    return csynth_xml(dsp="DSP99")


# The summary of csynth


@refused(
    "{tmp}/report: is no whole summary of synthesis; the file is damaged or of another tool, run the step again",
    read_csynth_summary,
)
def cut_summary() -> str:
    return SUMMARY.partition("== HW")[0]


@refused(
    "{tmp}/report: the first module is not 'net_top'; the file is damaged or of another tool, run the step again",
    read_csynth_summary,
)
def summary_of_another_top() -> str:
    return changed(SUMMARY, "|+ net_top*", "|+ top    *")


@refused(
    "{tmp}/report: line 'Version' is missing; the file is damaged or of another tool, run the step again",
    read_csynth_summary,
)
def summary_without_version() -> str:
    return changed(SUMMARY, "* Version:", "* Build:  ")


@refused(
    "{tmp}/report: a row names no module and no loop; the file is damaged or of another tool, run the step again",
    read_csynth_summary,
)
def row_without_a_sign() -> str:
    return changed(SUMMARY, "|+ net_top*", "|* net_top*")


@refused(
    "{tmp}/report: loop 'net_top' is in no module; the file is damaged or of another tool, run the step again",
    read_csynth_summary,
)
def loop_of_no_module() -> str:
    return changed(SUMMARY, "|+ net_top*", "|o net_top*")


# Co-simulation


@refused(
    "{tmp}/report: holds no whole table of co-simulation; the file is damaged or of another tool, run the step again",
    read_cosim_rpt,
)
def cosimulation_without_a_table() -> str:
    return "C/RTL co-simulation"


@refused(
    "{tmp}/report: the table's borders differ; the file is damaged or of another tool, run the step again",
    read_cosim_rpt,
)
def cosimulation_with_another_border() -> str:
    text = cosim_rpt()
    border = text.rstrip().rpartition("\n")[2]
    return text.rstrip().removesuffix(border) + border.replace("+---", "+--+", 1)


@refused(
    "{tmp}/report: the columns are not min, avg and max of latency and interval; the file is damaged or of another"
    " tool, run the step again",
    read_cosim_rpt,
)
def cosimulation_with_other_columns() -> str:
    return changed(cosim_rpt(), "avg", "med")


@refused(
    "{tmp}/report, line 11: the row does not fit its table; the file is damaged or of another tool, run the step again",
    read_cosim_rpt,
)
def cosimulation_with_a_longer_row() -> str:
    return changed(cosim_rpt(), "|   Verilog|", "|   Verilog |")


@refused(
    "{tmp}/report, line 11: 'Verilog' with status 'Done' is no result of co-simulation; the file is damaged or of"
    " another tool, run the step again",
    read_cosim_rpt,
)
def cosimulation_with_another_status() -> str:
    return cosim_rpt("Done")


@refused(
    "{tmp}/report, line 11: least, average and largest are not in order; the file is damaged or of another tool, run"
    " the step again",
    read_cosim_rpt,
)
def cosimulation_out_of_order() -> str:
    return cosim_rpt(figures=("9", "8", "7", "NA", "NA", "NA"))


@refused("{tmp}/report: the table is empty; the file is damaged or of another tool, run the step again", read_cosim_rpt)
def cosimulation_of_nothing() -> str:
    return "\n".join(line for line in cosim_rpt().split("\n") if "VHDL" not in line and "Verilog" not in line)


# Vivado


@refused(
    "{tmp}/report: line 'Device' is missing; the file is damaged or of another tool, run the step again",
    read_utilization,
)
def utilization_without_a_device() -> str:
    return changed(UTILIZATION, "| Device       :", "| Devices      :")


@refused(
    "{tmp}/report: has no table of contents; the file is damaged or of another tool, run the step again",
    read_utilization,
)
def utilization_without_contents() -> str:
    return changed(UTILIZATION, "Table of Contents", "Contents")


@refused(
    "{tmp}/report: section '2. Memory' of the table of contents is missing; the file is damaged or of another tool,"
    " run the step again",
    read_utilization,
)
def utilization_cut() -> str:
    return UTILIZATION.rpartition("2. Memory")[0]


@refused(
    "{tmp}/report: has no row DSPs or DSP Slices; the file is damaged or of another tool, run the step again",
    read_utilization,
)
def utilization_without_dsps() -> str:
    return changed(UTILIZATION, "|DSPs ", "|DPSs ")


@refused(
    "{tmp}/report: LUTs as logic and memory add up to 121, not to 120; the file is damaged or of another tool, run"
    " the step again",
    read_utilization,
)
def utilization_that_does_not_add_up() -> str:
    return changed(UTILIZATION, "|100 ", "|101 ")


@refused("{tmp}/report: says LUT twice; the file is damaged or of another tool, run the step again", read_export)
def export_with_two_counts() -> str:
    return changed(EXPORT_2020, "FF:            2428", "LUT:           2428")


@refused(
    "{tmp}/report: line 'LUT' is missing; the file is damaged or of another tool, run the step again",
    read_export,
)
def export_without_luts() -> str:
    return changed(EXPORT_2020, "LUT:           1478\n", "")


@refused(
    "{tmp}/report: holds no resources and timing of an export; the file is damaged or of another tool, run the step"
    " again",
    read_export,
)
def export_without_timing() -> str:
    return EXPORT_2020.partition("#=== Final timing")[0]


@refused(
    "{tmp}/report: the device or the clock period is missing; the file is damaged or of another tool, run the step"
    " again",
    read_export,
)
def export_without_a_device() -> str:
    return changed(EXPORT_2020, "Device target:", "Device:")


@refused(
    "{tmp}/report: section 'RTL Synthesis Resources' or the device is missing; the file is damaged or of another tool, run"
    " the step again",
    read_export,
)
def newer_export_without_resources() -> str:
    return changed(EXPORT_2025, "== RTL Synthesis Resources", "== RTL Synthesis Rest")


@refused(
    "{tmp}/report: the clock period is missing; the file is damaged or of another tool, run the step again",
    read_export,
)
def newer_export_without_a_period() -> str:
    return changed(EXPORT_2025, "| Target ", "| Wanted ")
