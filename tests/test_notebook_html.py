"""Results in notebooks: tables that say what the result prints, escaped, without scripts, and of bounded size."""

from __future__ import annotations

import inspect
from html.parser import HTMLParser

import api
import numpy as np
import pytest
from models import Network
from rich.table import Table
from rich.text import Text

import broadaxe
from broadaxe import notebook
from broadaxe.quantization.table import RecordTable
from broadaxe.segments import SegmentReport
from broadaxe.verification import Mismatch, Verification

HOSTILE = "<script>alert(1)</script>[/b]&\"'"
EMPTY = ("br", "meta", "input", "img", "link")


class Page(HTMLParser):
    """Tags, attributes and rows of a page; fails where tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.cells: list[list[str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in EMPTY:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1][-1] += data


def harmless(text: str) -> Page:
    """A page without scripts, handlers, links or colours of its own."""
    page = Page(text)
    assert page.tags <= {"div", "style", "p", "br", "pre", "table", "thead", "tbody", "tr", "th", "td"}
    assert page.attributes <= {"class", "scope", "colspan"}
    style = text[text.index("<style>") : text.index("</style>")]
    for line in style.splitlines():
        for found in line.split(";"):
            if "color:" in found:
                assert "color: inherit" in found
            if "background:" in found:
                assert "background: transparent" in found
    assert "url(" not in text
    assert "http" not in text
    return page


@pytest.fixture(scope="module")
def model():
    """A layer whose node has a hostile name."""
    net = Network(4)
    x = net.quant("x", bits=4)
    x = net.node("MatMul", x, net.weights(4, 3), name=HOSTILE)
    return net.finish(net.quant(x, bits=4))


@pytest.fixture(scope="module")
def results(model, tmp_path_factory):
    """One of every result that is made without training or a sweep, by class."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 4)).astype(np.float32)
    build = broadaxe.compile(model, tmp_path_factory.mktemp("notebook") / "build")
    other = broadaxe.compile(model, tmp_path_factory.mktemp("other") / "build", multipliers=1)
    layer = broadaxe.report(build).layers[0].name
    verification = Verification(3, 2, 1, 0, 1, 9, SegmentReport(), (Mismatch(f"{HOSTILE}: 1, 2"),), ("a note",))
    declared = broadaxe.interop.export_finn(model)
    diagnosis = broadaxe.search.diagnose(model, x, x, acc_bits=8, preset="axe", bits=False)
    found = [
        build,
        broadaxe.report(build),
        broadaxe.explain(build, layer),
        broadaxe.quantize(model, x, acc_bits=8, preset="axe"),
        broadaxe.compare(build, other),
        verification,
        broadaxe.interop.audit(declared, seconds=0),
        diagnosis,
    ]
    return {type(result).__name__: result for result in found}


MADE = ("Audit", "Build", "Comparison", "Diagnosis", "Explanation", "Quantized", "Report", "Verification")


def test_every_result_is_looked_at():
    """A sweep needs many runs; its table has no names of a model."""
    classes = {name for _, name, thing in api.public() if inspect.isclass(thing) and hasattr(thing, "_repr_html_")}
    assert classes - {"Sweep"} == set(MADE)


@pytest.mark.parametrize("name", MADE)
def test_a_result_shows_what_it_prints(results, name):
    result = results[name]
    page = harmless(result._repr_html_())
    printed = str(result)
    words = {word for word in page.text.split() if word.isascii()}
    assert words <= set(printed.split()) | {word for row in page.cells for cell in row for word in cell.split()}
    assert len(page.text.strip()) > 40
    for row in page.cells:
        for cell in row:
            assert " ".join(cell.split()) in " ".join(printed.split()), cell


@pytest.mark.parametrize("name", MADE)
def test_a_result_has_one_line_as_well(results, name):
    line = repr(results[name])
    assert line.startswith(f"{name}(")
    assert "\n" not in line
    assert len(line) < 200


@pytest.mark.parametrize("name", ["Audit", "Diagnosis", "Explanation", "Quantized", "Verification"])
def test_names_of_a_model_are_text(results, name):
    """They are printed as they are, too, whatever they would mean as markup."""
    text = results[name]._repr_html_()
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert(1)</script>" in str(results[name])


def test_markup_in_a_name_is_no_markup(results):
    """[/b] closes nothing that was open: rich would refuse the whole table."""
    record = results["Quantized"].record
    assert HOSTILE in str(results["Quantized"])
    assert HOSTILE in harmless(notebook.html(RecordTable(record))).text


def table(rows: int, width: int = 3) -> Table:
    made = Table()
    made.add_column("layer")
    made.add_column("bits", justify="right")
    for row in range(rows):
        made.add_row(f"layer{row}", Text("9" * width))
    return made


class Shown:
    def __init__(self, *content: object) -> None:
        self.content = content

    def __rich_console__(self, console, options):
        yield from self.content


def test_a_hundred_layers_are_all_there():
    page = harmless(notebook.html(Shown("title", table(100), "end")))
    assert [row[0] for row in page.cells[1:]] == [f"layer{i}" for i in range(100)]
    assert page.cells[0] == ["layer", "bits"]
    assert page.text.split() == ["title", *(cell for row in page.cells for cell in row), "end"]


def test_a_thousand_rows_are_cut_in_the_middle():
    text = notebook.html(Shown(table(1000)))
    page = harmless(text)
    assert len(page.cells) == 1 + notebook.ROWS + 1
    assert page.cells[100][0] == "layer99"
    assert page.cells[101] == ["800 more rows"]
    assert page.cells[102][0] == "layer900"
    assert len(text) < 30_000


def test_texts_and_lines_are_bounded():
    lines = [f"line {i}" for i in range(5000)]
    page = harmless(notebook.html(Shown(*lines)))
    assert "line 98" in page.text
    assert "line 99" not in page.text
    assert "4,901 more lines; print shows all of them" in page.text
    assert len(notebook.html("x" * 10**6)) < 3000
    assert len(notebook.html(Shown(table(3, width=10**6)))) < 8000


def test_text_keeps_its_columns():
    assert "<pre>\na   b\n  c\n</pre>" in notebook.html("a   b\n  c")


def test_templates_escape_by_themselves():
    assert "<script>" not in notebook.html(Shown("<script>", table(1)))
