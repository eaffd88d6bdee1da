"""csynth.xml, and <module>_csynth.xml, of Vivado HLS and Vitis HLS.

A report has no document type: one that has is refused, so that no entity is ever expanded. Size, depth and number of elements
are bounded. Elements come in any order, DSP48E became DSP, and summaries have more elements than modules.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from broadaxe.errors import RequestError
from broadaxe.vendor.figures import count, malformed, nanoseconds, ordered, span, text_of
from broadaxe.vendor.results import Instance, Loop, Module, Span, Synthesis, Usage

DEEPEST = 64
MOST_ELEMENTS = 2_000_000
LOOP_FIELDS = frozenset(
    (
        *("Name", "Slack", "TripCount", "Latency", "AbsoluteTimeLatency", "IterationLatency", "PipelineII"),
        *("PipelineDepth", "PipelineType", "isPerfectNested", "InstanceList", "PerformancePragma"),
        *("IssueType", "ViolationType", "SourceLocation"),
    )
)
"""Elements of a loop that are no loops inside it."""


def read_csynth_xml(path: Path) -> Synthesis:
    """The report as data; RequestError where it is damaged."""
    where = str(path)
    root = _parse(text_of(path), where)
    if root.tag != "profile":
        raise malformed(where, f"holds a {root.tag!r}, not the profile of an HLS report")
    assigned = _one(root, "UserAssignments", where)
    top = _module(root, _text(assigned, "TopModelName", where), where)
    hierarchy: dict[str, tuple[Instance, ...]] = {}
    design = root.find("RTLDesignHierarchy/TopModule")
    if design is not None:
        _hierarchy(design, hierarchy, where)
    modules = []
    for entry in root.iterfind("ModuleInformation/Module"):
        name = _text(entry, "Name", where)
        modules.append(_module(entry, name, where, hierarchy.get(name, ())))
    if hierarchy.get(top.name):
        top = _module(root, top.name, where, hierarchy[top.name])
    return Synthesis(
        version=_text(_one(root, "ReportVersion", where), "Version", where),
        part=_text(assigned, "Part", where),
        family=_text(assigned, "ProductFamily", where),
        target_ns=nanoseconds(_text(assigned, "TargetClockPeriod", where), where),
        uncertainty_ns=nanoseconds(_text(assigned, "ClockUncertainty", where), where),
        top=top,
        available=_usage(_one(root, "AreaEstimates", where), "AvailableResources", where),
        modules=tuple(m for m in modules if m.name != top.name),
    )


def _parse(text: str, where: str) -> Element:
    builder, parser = TreeBuilder(), expat.ParserCreate()
    depth = elements = 0

    def opened(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, elements
        depth, elements = depth + 1, elements + 1
        if depth > DEEPEST or elements > MOST_ELEMENTS:
            raise malformed(where, "is nested deeper or holds more elements than any report")
        builder.start(tag, attributes)

    def closed(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def declared(*_: object) -> None:
        raise malformed(where, "declares a document type or entities, which no report does")

    parser.StartElementHandler, parser.EndElementHandler = opened, closed
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = declared
    parser.buffer_text = True
    try:
        parser.Parse(text.encode(), True)
        return builder.close()
    except expat.ExpatError as error:
        raise malformed(f"{where}, line {error.lineno}", f"is not XML ({expat.errors.messages[error.code]})") from None
    except (AssertionError, LookupError, ValueError) as error:  # LookupError: an encoding that there is not
        if isinstance(error, RequestError):
            raise
        raise malformed(where, "is not XML") from None


def _one(parent: Element, tag: str, where: str) -> Element:
    found = parent.findall(tag)
    if len(found) != 1:
        raise malformed(where, f"{parent.tag} holds {len(found)} elements {tag}, not one")
    return found[0]


def _text(parent: Element, tag: str, where: str) -> str:
    element = _one(parent, tag, where)
    if len(element):
        raise malformed(where, f"{tag} holds elements, not a value")
    return (element.text or "").strip()


def _module(entry: Element, name: str, where: str, instances: tuple[Instance, ...] = ()) -> Module:
    performance = _one(entry, "PerformanceEstimates", where)
    overall = _one(performance, "SummaryOfOverallLatency", where)
    if overall.find("Interval-min") is not None:
        lo, hi = (count(_text(overall, f"Interval-{end}", where), where) for end in ("min", "max"))
        interval = ordered(Span(lo, hi), where)
    else:
        interval = span(_text(overall, "PipelineInitiationInterval", where), where)
    lo, hi = (count(_text(overall, f"{end}-caseLatency", where), where) for end in ("Best", "Worst"))
    kinds = [e.text or "" for e in (performance.find("PipelineType"), overall.find("PipelineType")) if e is not None]
    depth = overall.find("PipelineDepth")
    loops = performance.find("SummaryOfLoopLatency")
    clock = _one(performance, "SummaryOfTimingAnalysis", where)
    return Module(
        name=name,
        latency=ordered(Span(lo, hi), where),
        interval=interval,
        pipeline=kinds[0].strip() if kinds else "",
        depth=None if depth is None else count(depth.text or "", where),
        estimated_ns=nanoseconds(_text(clock, "EstimatedClockPeriod", where), where),
        usage=_usage(_one(entry, "AreaEstimates", where), "Resources", where),
        loops=() if loops is None else _loops(loops, 1, where),
        instances=instances,
    )


def _usage(area: Element, tag: str, where: str) -> Usage:
    found = _one(area, tag, where)
    blocks = [e.tag for e in found if e.tag in ("DSP", "DSP48E")]
    if len(blocks) != 1:
        raise malformed(where, f"{tag} names {len(blocks)} kinds of DSP, not one")
    uram = found.find("URAM")  # not before 2018
    return Usage(
        lut=count(_text(found, "LUT", where), where),
        ff=count(_text(found, "FF", where), where),
        dsp=count(_text(found, blocks[0], where), where),
        bram18=count(_text(found, "BRAM_18K", where), where),
        uram=None if uram is None else count(_text(found, "URAM", where), where),
        dsp_block=blocks[0],
    )


def _loops(parent: Element, depth: int, where: str) -> tuple[Loop, ...]:
    loops: list[Loop] = []
    for entry in parent:
        if entry.tag in LOOP_FIELDS:
            continue
        name = entry.find("Name")
        pipelined = entry.find("PipelineII") is not None
        length = "PipelineDepth" if pipelined else "IterationLatency"
        loops.append(
            Loop(
                name=entry.tag if name is None else (name.text or "").strip(),
                depth=depth,
                trips=_span(entry, "TripCount", where),
                latency=_span(entry, "Latency", where),
                iteration=_span(entry, length, where) if entry.find(length) is not None else Span(None, None),
                ii=count(_text(entry, "PipelineII", where), where) if pipelined else None,
                pipelined=pipelined,
            )
        )
        loops += _loops(entry, depth + 1, where)
    return tuple(loops)


def _span(parent: Element, tag: str, where: str) -> Span:
    """`<range><min/><max/></range>`, or text."""
    element = _one(parent, tag, where)
    limits = element.find("range")
    if limits is None:
        return span(_text(parent, tag, where), where)
    lo, hi = (count(_text(limits, end, where), where) for end in ("min", "max"))
    return ordered(Span(lo, hi), where)


def _hierarchy(node: Element, found: dict[str, tuple[Instance, ...]], where: str) -> str:
    """What each module instantiates; returns the module of a node."""
    name = _text(node, "ModuleName", where)
    inner = [
        Instance(_text(child, "InstName", where), _hierarchy(child, found, where))
        for child in node.iterfind("InstancesList/Instance")
    ]
    if inner:
        found[name] = tuple(inner)
    return name
