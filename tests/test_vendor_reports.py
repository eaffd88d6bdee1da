"""Reports of the HLS tools: read right, or refused; whatever is cut or changed, never a wrong number."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from vendor_texts import EXPORT_2020, EXPORT_2025, SUMMARY, cosim_rpt, csynth_rpt, csynth_xml, loop_xml

from broadaxe.errors import RequestError
from broadaxe.vendor.cosim_rpt import read_cosim_rpt
from broadaxe.vendor.csynth_rpt import read_csynth_rpt
from broadaxe.vendor.csynth_summary import read_csynth_summary
from broadaxe.vendor.csynth_xml import read_csynth_xml
from broadaxe.vendor.figures import count, nanoseconds, span
from broadaxe.vendor.implementation import read_export, read_utilization
from broadaxe.vendor.reports import latencies, measured, read_report, read_reports
from broadaxe.vendor.results import (
    Average,
    Cosimulation,
    Implementation,
    Instance,
    Loop,
    Module,
    Span,
    Synthesis,
    Usage,
)

USAGE = Usage(lut=142, ff=7969, dsp=73, bram18=1, uram=0, dsp_block="DSP")
STEPS = Loop("steps", 1, Span(1, 256), Span(10, 265), Span(11, 11), 1, True)
INNER = Loop("inner", 2, Span(None, None), Span(None, None), Span(None, None), None, False)
END = "; the file is damaged or of another tool, run the step again"


def written(folder: Path, text: str, name: str = "report") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def refusal(read: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(RequestError) as refused:
        read(path)
    return str(refused.value).replace(str(path), "FILE")


def cuts(text: str, step: int) -> Iterable[str]:
    """What is left of a text that ends too early: after every line, and within lines."""
    ends = {m.start() for m in re.finditer("\n", text)} | set(range(0, len(text), step))
    return (text[:end] for end in sorted(ends))


def check_cuts(read: Callable[[Path], object], text: str, folder: Path, step: int = 5) -> int:
    """Each cut is refused or changes nothing; returns how many were refused."""
    whole = read(written(folder, text))
    refused = 0
    for part in cuts(text, step):
        try:
            assert read(written(folder, part)) == whole, part[-200:]
        except RequestError:
            refused += 1
    return refused


@pytest.mark.parametrize("version", ["2019.1", "2020.1", "2021.2", "2025.1"])
def test_csynth_rpt(version: str, tmp_path: Path) -> None:
    block = "DSP48E" if version < "2020.2" else "DSP"
    text = csynth_rpt(version=version, dsp=block)
    if version == "2019.1":  # its heading says the unit, not its columns
        text = text.replace("|  Latency (cycles) |", "|      Latency      |")
    found = read_csynth_rpt(written(tmp_path, text))
    usage = Usage(142, 7969, 73, 1, 0, block)
    assert found == Synthesis(
        version,
        "xc7z020-clg400-1",
        "zynq",
        5.0,
        0.62,
        Module(
            *("net_top", Span(10, 12), Span(8, 8), "dataflow", None, 4.049, usage),
            *((STEPS, INNER), (Instance("conv0_U0", "conv0"),)),
        ),
        Usage(53200, 106400, 220, 280, 0, block),
    )


def test_a_cut_csynth_rpt_is_refused(tmp_path: Path) -> None:
    text = csynth_rpt()
    assert check_cuts(read_csynth_rpt, text, tmp_path) > len(text.rstrip()) // 5


def test_a_changed_total_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, csynth_rpt(total_lut="141"))
    assert refusal(read_csynth_rpt, path) == f"FILE: LUT: the parts add up to 142, the total says 141{END}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("|        8|", "|       8 |", None),
        ("|       12|", "|       1x|", "FILE: '1x' is not a number"),
        ("|       12|", "|        9|", "FILE: least 10 is above largest 9"),
        ("4.049 ns", "4,049 ns", "FILE: '4,049' is no period in ns"),
        ("== Interface", "== Interfac", "FILE: section 'Interface' is missing"),
        ("Vitis HLS Report", "Vitis Report", "FILE: the first line is not the title of an HLS report"),
        ("|   max   |", "|   mix   |", "FILE: the table has no column 'Latency (cycles) max' but"),
        ("|- steps ", "|~ steps ", "FILE: '~ steps' is no loop"),
        ("* Target device:", "* Device:", "FILE: line 'Target device' is missing"),
    ],
)
def test_a_damaged_csynth_rpt_says_where(old: str, new: str, message: str | None, tmp_path: Path) -> None:
    text = csynth_rpt()
    path = written(tmp_path, text.replace(old, new))
    if message is None:
        assert read_csynth_rpt(path) == read_csynth_rpt(written(tmp_path, text, "whole"))
    else:
        assert refusal(read_csynth_rpt, path).startswith(message)


@pytest.mark.parametrize("text", ["", "-", "?", "undef", "NA", "N/A", " x ", "4294967295", "18446744073709551615"])
def test_an_open_figure_is_none(text: str) -> None:
    assert count(text, "here") is None


@pytest.mark.parametrize("text", ["1e3", "12a", "-5", "1.5", "1,000", "0x10", "１２", "1 2", "~0", "9" * 21])  # noqa: RUF001
def test_no_figure_is_an_error(text: str) -> None:
    with pytest.raises(RequestError) as refused:
        count(text, "here")
    assert str(refused.value) == f"here: {text!r} is not a number{END}"


def test_spans_and_periods() -> None:
    assert [span(t, "") for t in ("8", "1 ~ 256", "? ~ 9", "?")] == [
        Span(8, 8),
        Span(1, 256),
        Span(None, 9),
        Span(None, None),
    ]
    assert [nanoseconds(t, "") for t in ("4.049 ns", "10.00", "NA")] == [4.049, 10.0, None]
    for text in ("inf", "nan", "1e9", "4.049 us"):
        with pytest.raises(RequestError):
            nanoseconds(text, "")


@pytest.mark.parametrize(("version", "block"), [("2020.1", "DSP48E"), ("2025.1", "DSP")])
def test_csynth_xml(version: str, block: str, tmp_path: Path) -> None:
    hierarchy = """<RTLDesignHierarchy><TopModule><ModuleName>net_top</ModuleName><InstancesList><Instance>
<InstName>conv0_U0</InstName><ModuleName>conv0</ModuleName></Instance></InstancesList></TopModule></RTLDesignHierarchy>"""
    inner = csynth_xml("conv0", version, block, ("?", "undef"), loops=loop_xml())
    inner = re.sub(r"<(\w+)>\s*<unit>ns</unit>.*?</UserAssignments>", "", inner, flags=re.DOTALL)
    inner = re.search(r"<PerformanceEstimates>.*</AreaEstimates>", inner, re.DOTALL)[0]  # type: ignore[index]
    modules = f"{hierarchy}<ModuleInformation><Module><Name>conv0</Name>{inner}</Module></ModuleInformation>"
    found = read_csynth_xml(written(tmp_path, csynth_xml(version=version, dsp=block, modules=modules)))
    usage = Usage(142, 7969, 73, 1, 0, block)
    conv = Module("conv0", Span(None, None), Span(8, 8), "dataflow", None, 4.049, usage, (STEPS,))
    assert found == Synthesis(
        version,
        "xc7z020-clg400-1",
        "zynq",
        5.0,
        0.62,
        Module(
            *("net_top", Span(10, 12), Span(8, 8), "dataflow", None, 4.049, usage), (), (Instance("conv0_U0", "conv0"),)
        ),
        Usage(53200, 106400, 220, 280, 0, block),
        (conv,),
    )
    assert latencies(found, {"conv0": "", "conv1": ""}) == {"conv0": 11}
    assert measured(found, ["conv0", "conv1"]) == {
        "conv0": {"latency": None, "interval": 8, "lut": 142, "ff": 7969, "dsp": 73, "bram18": 1, "uram": 0}
    }


def test_a_cut_csynth_xml_is_refused(tmp_path: Path) -> None:
    text = csynth_xml(loops=loop_xml()).rstrip()
    assert check_cuts(read_csynth_xml, text, tmp_path, 3) == len(set(range(0, len(text), 3)) | set(_line_ends(text)))


def _line_ends(text: str) -> list[int]:
    return [m.start() for m in re.finditer("\n", text)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!DOCTYPE profile [<!ENTITY a 'b'>]>\n" + csynth_xml(), "FILE: declares a document type or entities"),
        ("<!DOCTYPE profile SYSTEM 'http://example.invalid/a.dtd'>\n<profile/>", "FILE: declares a document type"),
        ("<profile>" + "<a>" * 70 + "</a>" * 70 + "</profile>", "FILE: is nested deeper or holds more elements"),
        ("<html></html>", "FILE: holds a 'html', not the profile of an HLS report"),
        ("<profile>&a;</profile>", "FILE, line 1: is not XML (undefined entity)"),
        (csynth_xml().replace("<LUT>142</LUT>", ""), "FILE: Resources holds 0 elements LUT, not one"),
        (csynth_xml().replace("<FF>", "<LUT>9</LUT><FF>"), "FILE: Resources holds 2 elements LUT, not one"),
        (csynth_xml(lut="14 2"), "FILE: '14 2' is not a number"),
        (csynth_xml(latency=("13", "12")), "FILE: least 13 is above largest 12"),
        (csynth_xml(dsp="DSP99"), "FILE: Resources names 0 kinds of DSP, not one"),
        ("", "FILE, line 1: is not XML (no element found)"),
    ],
)
def test_a_damaged_csynth_xml_says_why(text: str, message: str, tmp_path: Path) -> None:
    assert refusal(read_csynth_xml, written(tmp_path, text)).startswith(message)


@pytest.mark.parametrize("total", ["900", None])
def test_cosim_rpt(total: str | None, tmp_path: Path) -> None:
    none = Average(None, None, None)
    expected = (
        Cosimulation("VHDL", None, none, none, None),
        Cosimulation("Verilog", True, Average(676, 677, 680), Average(64, 65, 66), int(total) if total else None),
    )
    text = cosim_rpt(total=total)
    assert read_cosim_rpt(written(tmp_path, text)) == expected
    assert check_cuts(read_cosim_rpt, text, tmp_path, 3) > len(text.rstrip()) // 3
    assert read_cosim_rpt(written(tmp_path, cosim_rpt("Fail", ["NA"] * 6, total)))[1].passed is False


def test_a_damaged_cosim_rpt_says_why(tmp_path: Path) -> None:
    path = written(tmp_path, cosim_rpt(figures=("9", "8", "7", "NA", "NA", "NA")))
    assert refusal(read_cosim_rpt, path) == f"FILE, line 11: least, average and largest are not in order{END}"
    path = written(tmp_path, cosim_rpt("Done"))
    assert (
        refusal(read_cosim_rpt, path)
        == f"FILE, line 11: 'Verilog' with status 'Done' is no result of co-simulation{END}"
    )
    path = written(tmp_path, "C/RTL co-simulation")
    assert refusal(read_cosim_rpt, path) == f"FILE: holds no whole table of co-simulation{END}"


def test_export_rpt(tmp_path: Path) -> None:
    older = Implementation(
        "implementation", "xc7z020clg400-1", Usage(1478, 2428, 66, 3, None), srl=48, required_ns=5.0, achieved_ns=4.311
    )
    newer = Implementation(
        "synthesis", "xc7z020-clg400-1", Usage(3254, 3624, 7, 2, 0), srl=266, required_ns=11.8, achieved_ns=7.744
    )
    assert read_report(written(tmp_path, EXPORT_2020, "net_top_export.rpt")) == older
    assert read_report(written(tmp_path, EXPORT_2025, "export_syn.rpt")) == newer
    for text in (EXPORT_2020, EXPORT_2025):
        assert check_cuts(read_export, text, tmp_path, 3) > len(text.rstrip()) // 4


def test_the_summary_of_synthesis(tmp_path: Path) -> None:
    found = read_report(written(tmp_path, SUMMARY, "csynth.rpt"))
    assert isinstance(found, Synthesis)
    assert (found.version, found.part, found.top.pipeline) == ("2025.1", "xc7z020-clg400-1", "dataflow")
    assert found.top.usage == Usage(7780, 18693, 4, 8, None)
    assert [(m.name, m.latency.hi, m.usage.ff) for m in found.below("net_top")] == [
        ("net_top", 75, 18693),
        ("quant0", None, 8370),
        ("conv0", 72, 10165),
        ("conv0_Pipeline_steps", 71, 8),
    ]
    assert found.modules[1].loops == (Loop("steps", 1, Span(64, 64), Span(69, 69), Span(7, 7), 1, True),)
    assert latencies(found, {"conv0": "", "quant0": ""}) == {"conv0": 7}
    assert check_cuts(read_csynth_summary, SUMMARY, tmp_path) > len(SUMMARY) // 6
    path = written(tmp_path, SUMMARY.replace("|+ net_top*", "|+ top    *"))
    assert refusal(read_csynth_summary, path) == f"FILE: the first module is not 'net_top'{END}"


def test_a_folder_of_reports_is_put_together(tmp_path: Path) -> None:
    """The top's instances come from its text, each module's loops from its own report; cosim and export where they lie."""
    place = tmp_path / "hls" / "solution1" / "syn" / "report"
    place.mkdir(parents=True)
    written(place, csynth_rpt(loops=False), "net_top_csynth.rpt")
    written(place, csynth_rpt("conv0", loops=False, instance="conv0_Pipeline_steps"), "conv0_csynth.rpt")
    written(place, csynth_rpt("conv0_Pipeline_steps", instance="mul_3s_4s_7_1_1"), "conv0_Pipeline_steps_csynth.rpt")
    written(place, csynth_rpt("axis_read_ap_axiu_8_0_0_0_s"), "axis_read_ap_axiu_8_0_0_0_s_csynth.rpt")
    written(place, cosim_rpt(), "net_top_cosim.rpt")
    found = read_reports(tmp_path, "net_top")
    assert found.synthesis is not None
    assert [m.name for m in found.synthesis.below("net_top")] == ["net_top", "conv0", "conv0_Pipeline_steps"]
    processes = {"conv0": "", "conv1": "", "in0": "axis_read", "out0": "axis_write"}
    assert latencies(found.synthesis, processes) == {"conv0": 11, "in0": 11}
    assert found.cosim[1].latency.hi == 680
    assert found.implementation is None
    (tmp_path / "brief").mkdir()
    written(tmp_path / "brief", SUMMARY, "csynth.rpt")
    brief = read_reports(tmp_path / "brief", "net_top").synthesis
    assert brief is not None
    assert [m.name for m in brief.modules] == ["conv0", "conv0_Pipeline_steps", "quant0"]


def test_an_enormous_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "report"
    with path.open("wb") as file:
        file.truncate(65 << 20)
    assert refusal(read_csynth_xml, path) == f"FILE: holds {65 << 20} bytes, no report has more than {64 << 20}{END}"


def real() -> Path:
    folder = os.environ.get("BROADAXE_REPORTS", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip(
            "no real reports; set BROADAXE_REPORTS to a folder of *_csynth.rpt, .xml and vivado_synth.rpt files"
        )
    return Path(folder)


def test_real_reports_agree_and_do_not_survive_cuts(tmp_path: Path) -> None:
    """Text and XML of one synthesis say the same; a real report cut anywhere is refused or says the same."""
    pairs = 0
    for path in sorted(real().rglob("*_csynth.rpt")):
        text, twin = read_csynth_rpt(path), path.with_suffix(".xml")
        if twin.is_file():
            xml, pairs = read_csynth_xml(twin), pairs + 1
            for name in ("version", "part", "family", "target_ns", "uncertainty_ns", "available"):
                assert getattr(text, name) == getattr(xml, name), name
            for name in ("name", "latency", "interval", "pipeline", "estimated_ns", "usage"):
                assert getattr(text.top, name) == getattr(xml.top, name), name
            content = twin.read_text()
            assert check_cuts(read_csynth_xml, content, tmp_path, 997) > len(content) // 1000
        content = path.read_text()
        assert check_cuts(read_csynth_rpt, content, tmp_path, 97) > 100
    assert pairs
    for path in sorted(real().rglob("*vivado_synth.rpt")):
        content = path.read_text()
        assert read_utilization(path).usage.lut
        assert check_cuts(read_utilization, content, tmp_path, 23) > 200
