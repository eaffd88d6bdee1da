"""The page as text: complete, self-contained, the same every time, and untouched by what names hold."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from models import small_cnn
from page_reports import HOSTILE, report

import broadaxe
from broadaxe.errors import RequestError, VerificationError
from broadaxe.reports.columns import LAYER, shown, tables
from broadaxe.reports.drawing import LEVELS, Drawing, drawing, drawings
from broadaxe.reports.html import MARK, Proof, render_html, write_html
from broadaxe.reports.pareto import read_sweep
from broadaxe.reports.reading import read_report
from broadaxe.reports.schema import Report

SWEEP = Path(__file__).parent.parent / "benchmarks" / "results" / "sweep-digits.json"
ACCEPTED = Proof(True, "certificate: 4 layers, 4 requantizers, 530 comparisons, 31 files: all hold")


class Page(HTMLParser):
    """Elements of a page, their attributes, and the text of tables, scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: dict[str, list[list[str]]] = {}
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self._table, self._open = "", ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag
        if tag == "table":
            self._table = dict(attrs)["id"] or ""
            self.rows[self._table] = []
        elif tag == "tr" and self._table:
            self.rows[self._table].append([])
        elif tag in ("td", "th") and self._table:
            self.rows[self._table][-1].append("")
        elif tag in self.inside:
            self.inside[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""
        if tag == "table":
            self._table = ""

    def handle_data(self, data: str) -> None:
        if self._open in self.inside:
            self.inside[self._open][-1] += data
        elif self._table and self.rows[self._table] and self.rows[self._table][-1]:
            self.rows[self._table][-1][-1] += data.strip("\n")


@pytest.fixture(scope="module")
def made() -> Report:
    return report(7, 6, 20, skips=2)


@pytest.fixture(scope="module")
def build(once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    def compiled(folder: Path) -> None:
        broadaxe.compile(small_cnn(), folder)

    return once("report-page", compiled)


def test_the_same_report_gives_the_same_page(made: Report) -> None:
    again = Report.model_validate_json(made.as_json())
    assert render_html(made, proof=ACCEPTED) == render_html(again, proof=ACCEPTED)


def test_the_page_holds_every_figure_of_the_report(made: Report) -> None:
    data = json.loads(Page(render_html(made, proof=ACCEPTED, build="my build")).inside["script"][0])
    whole = made.model_dump(mode="json")
    for ports in ("inputs", "outputs"):
        for kept, port in zip(data["report"].pop(ports), whole.pop(ports), strict=True):
            assert kept.items() <= port.items()
    assert data["report"] == whole
    assert data["proof"] == {"accepted": True, "says": ACCEPTED.says}
    assert data["sweep"] is None
    assert data["build"] == "'my build'"


def test_tables_stand_in_the_page_without_a_script(made: Report) -> None:
    page = Page(render_html(made, proof=ACCEPTED))
    for name, table in tables(made).items():
        rows = page.rows[f"table-{name}"]
        assert rows[0] == list(dict.fromkeys(column.group for column in table.columns))
        assert rows[1] == [column.label for column in table.columns]
        assert rows[2 : 2 + len(table.rows)] == [[shown(cell) for cell in row] for row in table.rows]
    layers = page.rows["table-layers"]
    column = {c.key: i for i, c in enumerate(LAYER)}
    for row, layer in zip(layers[2:], made.layers, strict=False):
        assert row[column["name"]] == layer.name
        assert row[column["width"]] == str(layer.width)
        assert row[column["lo"]] == f"{min(layer.lo):,}"
        assert row[column["observed_hi"]] == (f"{max(layer.observed.hi):,}" if layer.observed else "")
        assert row[column["budget"]] == (str(layer.budget.bits) if layer.budget else "")
    assert layers[-1][column["macs"]] == f"{made.macs:,}"
    assert layers[-1][column["saved_bits"]] == str(made.saved_bits)


def test_nothing_outside_the_file_is_named(made: Report) -> None:
    sweep = read_sweep(SWEEP)
    text = render_html(made, proof=ACCEPTED, sweep=sweep)
    page = Page(text)
    assert set(re.findall(r"\w+://[^\s\"'<)]+", text)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert "@import" not in text
    assert "url(" not in text
    links = {
        (tag, key, value)
        for tag, attributes in page.tags
        for key, value in attributes.items()
        if key in ("src", "href")
    }
    assert all(value and value.startswith(("#", "data:,")) for _, _, value in links)
    assert not any("style" in attributes for _, attributes in page.tags)


def test_only_the_page_s_own_script_and_style_may_run(made: Report) -> None:
    page = Page(render_html(made, proof=ACCEPTED))
    policy = next(
        a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    digests = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (page.inside["script"][1], page.inside["style"][0])
    ]
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{digests[0]}'; style-src 'sha256-{digests[1]}'; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )


def test_the_script_never_takes_text_as_markup() -> None:
    text = Page(render_html(report(1, 2, 4), proof=None)).inside["script"][1]
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|globalThis|fetch\(", text
    )


def test_names_stay_text(made: Report) -> None:
    hostile = report(7, 6, 20, names=HOSTILE, skips=2)
    tame = report(7, 6, 20, names=tuple(f"name {i}" for i in range(len(HOSTILE))), skips=2)
    page, other = (Page(render_html(r, proof=ACCEPTED, build=HOSTILE[0])) for r in (hostile, tame))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in other.tags]
    assert all(not key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert not set(page.inside["script"][0]) & set("<>&")
    nodes = [row[1] for row in page.rows["table-layers"][2:9]]
    assert nodes == [HOSTILE[i % len(HOSTILE)] for i in range(7)]
    assert [layer["node"] for layer in json.loads(page.inside["script"][0])["report"]["layers"]] == nodes


@pytest.mark.parametrize(
    ("proof", "verdict"),
    [(ACCEPTED, "accepted"), (Proof(False, "conv0: lo: 3 is stored, 4 was found"), "refused"), (None, "not checked")],
)
def test_the_page_says_what_the_checker_said(made: Report, proof: Proof | None, verdict: str) -> None:
    text = render_html(made, proof=proof)
    assert f'<dd data-figure="proof">{verdict}</dd>' in text
    assert [row[-1] for row in Page(text).rows["table-proofs"][1:]] == [verdict] * 7
    assert (proof.says in text) if proof else ("said:" not in text)


def test_a_width_that_was_asked_for_is_not_called_the_least(made: Report) -> None:
    first = made.layers[0].model_copy(update={"mode": "loadable"})
    rows = Page(render_html(made.model_copy(update={"layers": (first, *made.layers[1:])}), proof=ACCEPTED)).rows[
        "table-proofs"
    ]
    assert rows[1][2:4] == [
        "whatever weights are loaded satisfy the inequality of this width",
        "other weights may be loaded: the width was asked for",
    ]
    assert made.layers[1].witness
    assert rows[2][3] == f"inputs lead channel {made.layers[1].witness.channel} to both ends"


def test_no_layers() -> None:
    bare = report(1, 2, 4).model_copy(update={"layers": (), "requantizers": ()})
    page = Page(render_html(bare, proof=ACCEPTED))
    assert len(page.rows["table-layers"]) == 2
    assert ("a", {"href": "#layer"}) not in page.tags


def test_a_hundred_layers_of_a_thousand_channels_fit_in_8_mb() -> None:
    assert len(render_html(report(100, 1000, 144, skips=30), proof=ACCEPTED).encode()) < 8e6


def test_every_word_and_column_is_explained(made: Report) -> None:
    text = render_html(made, proof=ACCEPTED)
    glossary = text[text.index('id="glossary"') :]
    for table in tables(made).values():
        for column in table.columns:
            assert f"<dt>{column.label}</dt>" in glossary
    for word in ("witness", "prefix hull", "margin", "certificate", "requantizer", "tile"):
        assert f"<dt>{word}</dt>" in glossary


# --- the drawing -----------------------------------------------------------------------------------------------------


def holds(drawn: Drawing) -> None:
    """Edges go forward, bends are where they pass, and nothing of a rank overlaps."""
    by_rank: dict[int, list[tuple[float, float]]] = {}
    for rank, y in drawn.boxes.values():
        by_rank.setdefault(rank, []).append((y, 0.5))
    for edge in drawn.edges:
        source, target = drawn.boxes[edge.source][0], drawn.boxes[edge.target][0]
        assert len(edge.bends) == target - source - 1
        for i, y in enumerate(edge.bends):
            by_rank.setdefault(source + 1 + i, []).append((y, 0.25))
    for spots in by_rank.values():
        for (low, room), (high, other) in pairwise(sorted(spots)):
            assert high - low >= room + other - 1e-3
    assert min(y - room for spots in by_rank.values() for y, room in spots) == pytest.approx(0, abs=1e-3)


def test_a_chain_is_drawn_straight() -> None:
    drawn = drawings(report(3, 2, 4))["all processes"]
    assert [rank for rank, _ in drawn.boxes.values()] == list(range(11))
    assert {y for _, y in drawn.boxes.values()} == {0.5}
    holds(drawn)


def test_residual_branches() -> None:
    made = report(12, 2, 4, skips=4)
    for level, drawn in drawings(made).items():
        holds(drawn)
        assert set(drawn.boxes) == {k.name for k in made.kernels if k.kind not in LEVELS[level]}
        into = [edge for edge in drawn.edges if edge.target.startswith("add")]
        assert len(into) == 2 * sum(name.startswith("add") for name in drawn.boxes) > 0
    # In the level of layers a branch jumps its block, by way of the copy that is not drawn.
    layers = drawings(made)["layers"]
    skip = next(edge for edge in layers.edges if edge.target == "add3" and edge.bends)
    assert (skip.source, len(skip.bends)) == ("conv1", 2)
    copy = "s_quant1_to_window2_and_adder"
    names = {fifo.name: fifo for fifo in made.fifos}
    ways = [[(names[n].writer, names[n].reader) for n in edge.fifos] for edge in layers.edges if edge is skip]
    assert ways == [[("conv1", "quant1"), ("quant1", copy), (copy, "add3")]]


def test_random_networks_are_drawn_without_overlaps() -> None:
    rng = np.random.default_rng(0)
    made = report(20, 2, 4)
    kernel, fifo = made.kernels[1], made.fifos[0]
    for _ in range(30):
        count = int(rng.integers(2, 25))
        kernels = [kernel.model_copy(update={"name": f"k{i}"}) for i in range(count)]
        fifos = [
            fifo.model_copy(update={"name": f"f{i}_{j}", "writer": f"k{i}", "reader": f"k{j}"})
            for j in range(1, count)
            for i in rng.choice(j, min(j, int(rng.integers(0, 3))), replace=False)
        ]
        drawn = drawing(kernels, fifos)
        holds(drawn)
        assert [(edge.source, edge.target) for edge in drawn.edges] == sorted(
            ((f.writer, f.reader) for f in fifos), key=lambda ends: (int(ends[0][1:]), int(ends[1][1:]))
        )


# --- sweeps ----------------------------------------------------------------------------------------------------------


def test_a_sweep() -> None:
    sweep = read_sweep(SWEEP)
    assert (sweep.metric, sweep.rows, sweep.as_given, sweep.mine) == ("accuracy", "test", 96.1057, None)
    assert len(sweep.runs) == 58
    assert [(p.method, p.bits, p.score) for p in sweep.frontier][:3] == [
        ("axe", 6, 87.8999),
        ("axe", 7, 92.9068),
        ("axe", 8, 95.1321),
    ]
    page = Page(render_html(report(2, 2, 4), proof=None, sweep=sweep))
    assert [row[0] for row in page.rows["table-frontier"][1:]] == [p.method for p in sweep.frontier]


def test_the_build_is_found_in_a_sweep(tmp_path: Path, build: Path) -> None:
    content = json.loads(SWEEP.read_text())
    for entry in content["frontier"]:
        entry["model"] = "models/other.onnx"
    content["frontier"][2]["model"] = "models/mine.onnx"
    (tmp_path / "models").mkdir()
    (tmp_path / "sweep.json").write_text(json.dumps(content))
    shutil.copy(SWEEP.with_suffix(".csv"), tmp_path / "sweep.csv")
    broadaxe_model = build / "model.onnx"
    shutil.copy(broadaxe_model, tmp_path / "models" / "mine.onnx")
    assert read_sweep(tmp_path, broadaxe_model.read_bytes()).mine == "models/mine.onnx"
    assert read_sweep(tmp_path, b"another").mine is None


NO_SWEEP = {
    "no JSON": "{",
    "other JSON": "[1]",
    "too deep": "[" * 100_000,
    "no score": SWEEP.read_text().replace("96.1057", "NaN"),
}


@pytest.mark.parametrize("damage", ["missing", "no table", "long table", "endless score", *NO_SWEEP])
def test_no_sweep(tmp_path: Path, damage: str) -> None:
    if damage != "missing":
        (tmp_path / "sweep.json").write_text(NO_SWEEP.get(damage) or SWEEP.read_text())
    table = SWEEP.with_suffix(".csv").read_text()
    if damage == "long table":
        table += "x" * 200_000
    elif damage == "endless score":
        table = "method,M,N,P,bits,validation,error\naxe,4,4,14,14,inf,\n"
    if damage not in ("missing", "no table"):
        (tmp_path / "sweep.csv").write_text(table)
    with pytest.raises(RequestError) as refused:
        read_sweep(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path / 'sweep.json'}: is missing or no sweep; give the folder that broadaxe sweep has written"
    )


# --- writing it ------------------------------------------------------------------------------------------------------


def test_report_html(run: Callable[..., tuple[int, str, str]], build: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    code, out, _ = run("report", build, "--html", page)
    assert code == 0
    assert out == f"wrote {page}: {len(page.read_bytes()) / 1e6:.1f} MB, certificate accepted; open it in a browser\n"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    text = page.read_text()
    assert MARK in text
    assert f"broadaxe verify {build}" in text
    data = json.loads(Page(text).inside["script"][0])
    assert data["report"]["layers"] == read_report(build).model_dump(mode="json")["layers"]
    assert re.fullmatch(r"certificate: [\d,]+ layers, .*: all hold", data["proof"]["says"])
    # An earlier page is replaced; --json goes on to standard output alone.
    code, out, _ = run("report", build, "--html", page, "--json", "--sweep", SWEEP)
    assert (code, json.loads(out)["top"]) == (0, read_report(build).top)
    assert '<a href="#pareto">' in page.read_text()


def test_other_files_are_not_overwritten(run: Callable[..., tuple[int, str, str]], build: Path, tmp_path: Path) -> None:
    note = tmp_path / "note.html"
    note.write_text("<!DOCTYPE html><p>mine")
    assert run("report", build, "--html", note) == (
        2,
        "",
        f"error: {note}: exists and is no report of Broadaxe; choose another file\n",
    )
    assert note.read_text() == "<!DOCTYPE html><p>mine"
    assert run("report", build, "--html", tmp_path)[2] == (
        f"error: {tmp_path}: exists and is no report of Broadaxe; choose another file\n"
    )
    away = tmp_path / "away" / "report.html"
    assert (
        run("report", build, "--html", away)[2]
        == f"error: {away.parent}: is no folder; make it, or choose another file\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["note.html"]


def test_a_sweep_needs_a_page(run: Callable[..., tuple[int, str, str]], build: Path) -> None:
    assert run("report", build, "--sweep", SWEEP) == (
        2,
        "",
        "error: --sweep: changes nothing without --html; give --html FILE.html, too\n",
    )


def test_no_page_of_a_certificate_that_does_not_hold(build: Path, tmp_path: Path) -> None:
    broken, page = tmp_path / "build", tmp_path / "report.html"
    shutil.copytree(build, broken)
    content = read_report(broken)
    certificate = broken / "certificate.json"
    certificate.write_text(re.sub(r"\d(?=\D*\Z)", "x", certificate.read_text()))
    with pytest.raises(VerificationError, match=r"^.*build: certificate\.json: .*; compile again$"):
        write_html(broken, page, content)
    assert not page.exists()


@pytest.mark.parametrize("what", ["width", "lo", "hi", "starts", "name", "exact_bits"])
def test_no_page_of_figures_that_the_certificate_does_not_have(build: Path, tmp_path: Path, what: str) -> None:
    content = read_report(build)
    layer = content.layers[1]
    value = getattr(layer, what)
    other = (
        value + (1 if isinstance(value, int) else "x") if not isinstance(value, tuple) else (value[0] + 1, *value[1:])
    )
    layers = (content.layers[0], layer.model_copy(update={what: other}), *content.layers[2:])
    with pytest.raises(VerificationError) as refused:
        write_html(build, tmp_path / "report.html", content.model_copy(update={"layers": layers}))
    assert str(refused.value) == f"{build / 'report.json'}: is not what certificate.json proves; compile again"
    with pytest.raises(VerificationError):
        write_html(build, tmp_path / "report.html", content.model_copy(update={"layers": content.layers[1:]}))
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing(build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_html(build, tmp_path / "report.html", read_report(build))
    assert list(tmp_path.iterdir()) == []
