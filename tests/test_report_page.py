"""The page in a real browser: what a reader sees, clicks, types and prints.

Every page is watched: a message on its console, an error of its script, or a request for anything but the file fails the test.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from page_reports import HOSTILE, report

from broadaxe.reports.columns import LAYER, Column, elements, shown
from broadaxe.reports.html import Proof, render_html
from broadaxe.reports.pareto import read_sweep
from broadaxe.reports.schema import Layer, Report

pytestmark = pytest.mark.slow

SWEEP = Path(__file__).parent.parent / "benchmarks" / "results" / "sweep-digits.json"
VIEWS = ("overview", "layer", "dataflow", "proof", "pareto", "build")
ACCEPTED = Proof(True, "certificate: all hold")
KEY = {column.key: i for i, column in enumerate(LAYER)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is missing: make setup")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("chromium is missing: apt-get install chromium")
    with sync_api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


def wide_sums() -> Report:
    """Sums of more than 53 bits, of which a script keeps the first digits alone."""
    made = report(2, 3, 4)
    first = made.layers[0].model_copy(update={"lo": (-(2**60) - 1, -3, -4), "width": 62})
    return made.model_copy(update={"layers": (first, made.layers[1])})


MADE: dict[str, Callable[[], Report]] = {
    "wide": wide_sums,
    "small": lambda: report(9, 12, 36, skips=3),
    "hostile": lambda: report(5, 8, 36, names=HOSTILE, skips=1),
    "large": lambda: report(100, 1000, 48, skips=30),
}


@pytest.fixture(scope="module")
def reports() -> dict[str, Report]:
    return {name: make() for name, make in MADE.items()}


@pytest.fixture
def opened(browser: Any, reports: dict[str, Report], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`opened(name, at, width, theme)`: a page, watched until the test ends."""
    contexts, wrong = [], []

    def open_page(name: str = "small", at: str = "", width: int = 1280, theme: str = "light", **more: Any) -> Any:
        file = tmp_path / f"{name}.html"
        if not file.exists():
            sweep = read_sweep(SWEEP).model_copy(update={"mine": "models/axe-W2-A2-P7.onnx"})
            file.write_text(render_html(reports[name], proof=ACCEPTED, sweep=sweep))
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=theme, **more)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda r: None if r.url.split("#")[0] in (file.as_uri(), "data:,") else wrong.append(r.url))
        page.goto(f"{file.as_uri()}{at}")
        if more.get("java_script_enabled", True):
            page.wait_for_selector("body[data-ready]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def visible_view(page: Any) -> str:
    (view,) = page.eval_on_selector_all(".view", "views => views.filter((v) => !v.hidden).map((v) => v.dataset.view)")
    return str(view)


def settle(page: Any) -> None:
    """Charts are drawn in the frame after a view opens."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def rows(page: Any, table: str = "layers") -> list[list[str]]:
    """Text of the rows shown, hidden columns included."""
    cells = "rows => rows.filter((r) => !r.hidden).map((r) => [...r.cells].map((c) => c.textContent))"
    found: list[list[str]] = page.eval_on_selector_all(f"#table-{table} tbody tr[data-row]", cells)
    return found


def wide(page: Any) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))


# --- views -----------------------------------------------------------------------------------------------------------


def test_every_view_opens_by_click_and_back_returns(opened: Callable[..., Any]) -> None:
    page = opened()
    assert visible_view(page) == "overview"
    for view in VIEWS:
        page.click(f".top nav a[href='#{view}']")
        page.wait_for_function(f"!document.getElementById('view-{view}').hidden")
        assert visible_view(page) == view
        assert page.get_attribute(".top nav a[aria-current]", "href") == f"#{view}"
        assert page.evaluate("document.activeElement.tagName") == "H2"
        assert "made_up_top" in page.title()
    page.go_back()
    page.wait_for_function("!document.getElementById('view-pareto').hidden")
    assert visible_view(page) == "pareto"


def test_every_view_opens_by_keyboard(opened: Callable[..., Any]) -> None:
    page = opened()
    for view in VIEWS[::-1]:
        page.focus(f".top nav a[href='#{view}']")
        page.keyboard.press("Enter")
        page.wait_for_function(f"!document.getElementById('view-{view}').hidden")
        assert visible_view(page) == view


@pytest.mark.parametrize("view", [*VIEWS, "layer/conv4"])
def test_every_view_opens_by_its_address(opened: Callable[..., Any], view: str) -> None:
    page = opened(at=f"#{view}")
    assert visible_view(page) == view.split("/")[0]
    if view == "layer/conv4":
        assert page.inner_text(".layerhead h2") == "Layer conv4"


@pytest.mark.parametrize("address", ["#layer/none", "#nowhere", "#layer/%E0%A4%A", "#layer/__proto__"])
def test_an_address_that_is_none_opens_the_overview(opened: Callable[..., Any], address: str) -> None:
    assert visible_view(opened(at=address)) == "overview"


def test_layers_are_reached_from_table_graph_list_and_neighbours(opened: Callable[..., Any]) -> None:
    page = opened()
    page.click("#table-layers tbody tr:nth-child(3) a")
    page.wait_for_selector("[data-layer='conv2']")
    page.click("a[rel=next]")
    page.wait_for_selector("[data-layer='conv3']")
    page.click("a[rel=prev]")
    page.wait_for_selector("[data-layer='conv2']")
    page.select_option(".layerhead select", "conv8")
    page.wait_for_selector("[data-layer='conv8']")
    assert page.locator("a[rel=next]").count() == 0
    page.goto(page.url.split("#")[0] + "#overview")
    page.focus(".network a[href='#layer/conv5']")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-layer='conv5']")


# --- tables ----------------------------------------------------------------------------------------------------------


def test_sorting_by_every_column(opened: Callable[..., Any], reports: dict[str, Report]) -> None:
    page, layers = opened(), reports["small"].layers
    for box in page.query_selector_all("[data-table=layers] fieldset input"):
        box.check()
    order = list(layers)  # rows with equal cells stay as they stand in the model
    for spec in LAYER:
        head = f"#table-layers th[data-key={spec.key}]"

        def key(layer: Layer, spec: Column = spec) -> Any:
            return elements(str(spec.of(layer))) if spec.kind == "shape" else spec.of(layer)

        some = [layer for layer in order if spec.of(layer) is not None]
        none = [layer for layer in order if spec.of(layer) is None]
        page.focus(f"{head} button")
        page.keyboard.press("Enter")
        assert page.get_attribute(head, "aria-sort") == "ascending"
        assert [row[0] for row in rows(page)] == [layer.name for layer in (*sorted(some, key=key), *none)], spec.key
        page.eval_on_selector(f"{head} button", "button => button.click()")
        assert page.get_attribute(head, "aria-sort") == "descending"
        backwards = sorted(some, key=key, reverse=True)
        assert [row[0] for row in rows(page)] == [layer.name for layer in (*backwards, *none)], spec.key
        assert page.locator("#table-layers th[aria-sort]").count() == 1


def test_filters(opened: Callable[..., Any], reports: dict[str, Report]) -> None:
    page = opened()
    layers = reports["small"].layers
    page.fill("input[aria-label='Filter: Layers with an accumulator']", "NODE_3 conv")
    assert [row[0] for row in rows(page)] == ["conv3"]
    assert page.inner_text("[data-table=layers] .count") == "1 of 9"
    page.fill("input[aria-label='Filter: Layers with an accumulator']", "")
    page.select_option("select[aria-label='operator: Layers with an accumulator']", "Gemm")
    assert [row[0] for row in rows(page)] == [layer.name for layer in layers if layer.op == "Gemm"]
    assert page.is_hidden("#table-layers tfoot tr")  # the total is of all rows
    page.fill("input[aria-label='Filter: Layers with an accumulator']", "nothing like it")
    assert rows(page) == []
    assert page.is_visible("#table-layers .empty")


def test_columns_are_hidden_and_shown(opened: Callable[..., Any]) -> None:
    page = opened()
    assert page.is_hidden("#table-layers th[data-key=observed_lo]")
    page.check("[data-table=layers] label:has-text('intervals') input")
    assert page.is_visible("#table-layers th[data-key=observed_lo]")
    page.uncheck("[data-table=layers] label:has-text('bounds') input")
    assert page.is_hidden("#table-layers th[data-key=exact_bits]")
    assert page.is_hidden("#table-layers tbody td:nth-child(10)")


def test_a_table_is_copied_as_csv(opened: Callable[..., Any], reports: dict[str, Report]) -> None:
    page = opened("hostile", permissions=["clipboard-read", "clipboard-write"])
    page.click("#table-layers th[data-key=macs] button")
    page.click("[data-table=layers] button:has-text('Copy CSV')")
    page.wait_for_function("document.querySelector('[data-live]').textContent.endsWith('copied')")
    text = page.evaluate("navigator.clipboard.readText()").replace("\r\n", "\n")
    head, *copied = csv.reader(text.splitlines(keepends=True))
    assert head == [column.key for column in LAYER]
    assert [row[KEY["node"]] for row in copied] == [layer.node for layer in reports["hostile"].layers]
    assert [row[KEY["macs"]] for row in copied] == [str(layer.macs) for layer in reports["hostile"].layers]


def test_every_table_sorts(opened: Callable[..., Any]) -> None:
    page = opened()
    for view in VIEWS:
        page.evaluate(f"location.hash = '#{view}'")
        settle(page)
        kept = page.eval_on_selector_all(
            f"#view-{view} table.data",
            """tables => tables.map((table) => {
              const rows = () => [...table.querySelectorAll("tbody tr[data-row]")].map((r) => Number(r.dataset.row));
              const before = rows();
              for (const button of table.querySelectorAll("thead button")) button.click();
              const sorted = table.querySelector("[aria-sort]") !== null;
              return sorted && String(rows().sort((a, b) => a - b)) === String(before);
            })""",
        )
        assert all(kept)
        assert kept or view in ("layer", "pareto")


# --- the pages of layers ---------------------------------------------------------------------------------------------


def figures(layer: Layer, made: Report) -> dict[str, str]:
    """What the page of a layer says, by key."""
    said = {
        key: shown(getattr(layer, key))
        for key in (
            *(
                "op",
                "mode",
                "multiplier",
                "datatype_bits",
                "l1_bits",
                "exact_bits",
                "prefix_bits",
                "offset_bits",
                "width",
            ),
            *("depth", "outputs", "macs", "margin", "pe", "simd", "cycles"),
        )
    }
    said |= {key: f"{getattr(layer, key)} bits" for key in ("weight_bits", "input_bits", "saved_bits")}
    said |= {"node": layer.node, "shape": "x".join(map(str, layer.shape)), "products": str(layer.pe * layer.simd)}
    said |= {"prefix": f"[{layer.prefix[0]:,}, {layer.prefix[1]:,}]"}
    said |= {key: f"{getattr(layer.resources, key):,.0f}" for key in ("lut", "ff", "dsp", "bram18", "uram")}
    if layer.tile is not None and layer.inner is not None:
        said |= {"tile": f"{layer.tile} inputs", "inner_bits": str(layer.inner_bits)}
        said |= {"inner": f"[{layer.inner[0]:,}, {layer.inner[1]:,}]"}
    if layer.budget:
        said |= {"budget": str(layer.budget.bits), "margin_bits": f"{layer.margin_bits} bits"}
    if layer.witness:
        said |= {"witness-channel": str(layer.witness.channel)}
        said |= {"witness-low": f"{layer.witness.low.sum:,}", "witness-high": f"{layer.witness.high.sum:,}"}
    said |= {f"comparisons-{r.name}": f"{r.comparisons:,}" for r in made.requantizers if r.name in layer.requantizers}
    return said


def test_every_figure_of_every_layer(opened: Callable[..., Any], reports: dict[str, Report]) -> None:
    page, made = opened(), reports["small"]
    for layer in made.layers:
        page.evaluate(f"location.hash = '#layer/{layer.name}'")
        page.wait_for_selector(f"[data-layer='{layer.name}']")
        found = page.eval_on_selector_all("[data-key]:not(th)", "all => all.map((e) => [e.dataset.key, e.textContent])")
        said = {key: text for key, text in found if not page.query_selector(f"table [data-key='{key}'] >> nth=99")}
        expected = figures(layer, made)
        assert {key: said.get(key) for key in expected} == expected
        assert set(said) - set(expected) <= {
            "packing",
            "pe_bits",
            *(c.key for c in LAYER),
            *("name", "because", "tight"),
        }
        # The page adds the witness up by itself.
        assert page.locator("text=This page has added its 36 products up").count() == 2
        assert page.locator("text=that differs").count() == 0


def test_the_table_of_channels(opened: Callable[..., Any], reports: dict[str, Report]) -> None:
    page, layer = opened(at="#layer/conv1"), reports["small"].layers[1]
    page.click("summary:has-text('All 12 channels')")
    page.wait_for_selector("#channels")
    assert layer.observed
    columns = (range(12), layer.channel_bits, layer.lo, layer.hi, layer.starts, layer.observed.lo, layer.observed.hi)
    assert rows(page, "none") == []
    cells = page.eval_on_selector_all(
        "#channels tbody tr", "all => all.map((r) => [...r.cells].map((c) => c.textContent))"
    )
    assert cells == [[f"{value:,}" for value in row] for row in zip(*columns, strict=True)]
    page.click("summary:has-text('All 36 terms') >> nth=0")
    page.wait_for_selector("#terms-low")
    assert page.locator("#terms-low tbody tr").count() == 36


def test_charts_are_read_with_arrow_keys(opened: Callable[..., Any], reports: dict[str, Report]) -> None:
    page, layer = opened(at="#layer/conv1"), reports["small"].layers[1]
    plot = page.locator("[data-chart=intervals]")
    plot.focus()
    said = plot.locator("xpath=following-sibling::p")

    def expected(i: int) -> str:
        start, seen = layer.starts[i], layer.observed
        assert seen
        return (
            f"channel {i}: proven [{layer.lo[i] + start:,}, {layer.hi[i] + start:,}], start {start:,},"
            f" observed [{seen.lo[i] + start:,}, {seen.hi[i] + start:,}]"
        )

    for key, channel in (
        ("ArrowRight", 1),
        ("End", 11),
        ("ArrowRight", 11),
        ("ArrowLeft", 10),
        ("PageUp", 11),
        ("Home", 0),
    ):
        page.keyboard.press(key)
        assert said.inner_text() == expected(channel) == plot.get_attribute("aria-valuetext")
    bits = page.locator("[data-chart=widths]")
    box = bits.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 14, box["y"] + 40)
    assert bits.locator("xpath=following-sibling::p").inner_text() == (
        f"channel 11: {layer.channel_bits[11]} bits by itself from 0, {layer.width} declared, start {layer.starts[11]:,}"
    )


def test_integers_beyond_53_bits_are_marked(opened: Callable[..., Any]) -> None:
    page = opened("wide", at="#layer/conv0")
    page.click("summary:has-text('All 3 channels')")
    page.wait_for_selector("#channels")
    assert page.inner_text("#channels tbody tr:nth-child(1) td:nth-child(3)") == "\u2248 -1.152921505e+18"
    assert [row[KEY["lo"]] for row in rows(page)] == ["-1,152,921,504,606,846,977", rows(page)[1][KEY["lo"]]]


def test_the_command_for_the_witness(opened: Callable[..., Any], reports: dict[str, Report]) -> None:
    page, witness = opened(at="#layer/conv1"), reports["small"].layers[1].witness
    assert witness
    assert f"broadaxe explain BUILD conv1 --channel {witness.channel} --witness conv1.npz --run" in page.inner_text(
        "main"
    )


# --- the graph -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("level", ["layers", "kernels", "all processes"])
def test_boxes_of_the_graph_do_not_overlap(
    opened: Callable[..., Any], reports: dict[str, Report], level: str, width: int
) -> None:
    page = opened(width=width)
    page.click(f"button:has-text('{level}')")
    settle(page)
    boxes = page.eval_on_selector_all(
        ".network .box rect",
        "all => all.map((r) => r.getBoundingClientRect()).map((b) => [b.left, b.top, b.right, b.bottom])",
    )
    kinds = {"layers": ("matvec", "scaled_add", "read", "write")}.get(level)
    kernels = [
        k for k in reports["small"].kernels if (k.kind in kinds if kinds else level != "kernels" or k.kind != "copy")
    ]
    assert len(boxes) == len(kernels)
    frame = page.eval_on_selector(
        ".network svg", "s => (({left, top, right, bottom}) => [left, top, right, bottom])(s.getBoundingClientRect())"
    )
    for i, (left, top, right, bottom) in enumerate(boxes):
        assert frame[0] <= left < right <= frame[2]
        assert frame[1] <= top < bottom <= frame[3]
        for a, b, c, d in boxes[i + 1 :]:
            assert right <= a or c <= left or bottom <= b or d <= top
    texts = """all => all.map((box) => [box.querySelector("rect"), ...box.querySelectorAll("text")]
      .map((e) => e.getBoundingClientRect().right))"""
    for box, *inside in page.eval_on_selector_all(".network .box", texts):
        assert max(inside) < box
    assert page.locator(".network .edge-label").count() == page.locator(".network .edge").count()


def test_zoom(opened: Callable[..., Any]) -> None:
    page = opened()
    size = "document.querySelector('.network .box rect').getBoundingClientRect().width"
    settle(page)
    before = page.evaluate(size)
    page.click("button[aria-label='Zoom in']")
    assert page.evaluate(size) == pytest.approx(before * 1.25, rel=1e-3)
    page.click("button:has-text('Fit')")
    assert page.evaluate(size) == pytest.approx(before)


# --- looks, paper, phone ---------------------------------------------------------------------------------------------


def luminance(color: str) -> float:
    parts = [int(c) / 255 for c in re.findall(r"\d+", color)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


CONTRASTS = """() => {
  const paint = (e) => getComputedStyle(e)[e.namespaceURI.endsWith("svg") ? "fill" : "color"];
  const ground = (e) => {
    for (let at = e; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (color !== "rgba(0, 0, 0, 0)") return color;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll("main *, header *, footer")]
    .filter((e) => e.checkVisibility() && [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()))
    .map((e) => [paint(e), ground(e), e.textContent.slice(0, 40)]);
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast(opened: Callable[..., Any], theme: str) -> None:
    page = opened(theme=theme)
    for view in (*VIEWS, "layer/conv3"):
        page.evaluate(f"location.hash = '#{view}'")
        settle(page)
        found = page.evaluate(CONTRASTS)
        assert len(found) > 20
        for color, ground, text in found:
            low, high = sorted((luminance(color), luminance(ground)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (view, text, color, ground)


def test_the_theme_is_switched_and_kept(opened: Callable[..., Any]) -> None:
    page = opened(theme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    assert luminance(dark) < 0.05
    page.click("button:has-text('Theme: auto')")
    assert luminance(page.evaluate(ground)) > 0.9
    page.click("button:has-text('Theme: light')")
    assert page.evaluate(ground) == dark
    page.reload()
    page.wait_for_selector("button:has-text('Theme: dark')")
    page.emulate_media(color_scheme="light")
    assert page.evaluate(ground) == dark


@pytest.mark.parametrize("name", ["small", "hostile"])
@pytest.mark.parametrize("width", [360, 390, 768, 1280, 1920])
def test_no_view_is_wider_than_the_window(opened: Callable[..., Any], name: str, width: int) -> None:
    page = opened(name, width=width)
    for view in (*VIEWS, *(f"layer/conv{i}" for i in range(5))):
        page.evaluate(f"location.hash = '#{view}'")
        settle(page)
        assert not wide(page), view


def test_print(opened: Callable[..., Any], reports: dict[str, Report], tmp_path: Path) -> None:
    page = opened()
    # What printing shows: every view, every layer, every column.
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.eval_on_selector_all(".view", "views => views.filter((v) => v.checkVisibility()).length") == len(VIEWS)
    assert page.locator("[data-layer]").count() == len(reports["small"].layers)
    # The widest table comes in parts, with every column once and the layers' names in each.
    assert page.is_hidden("#table-layers")
    keys = page.eval_on_selector_all(".printed th[data-key]", "all => all.map((th) => th.dataset.key)")
    assert sorted(set(keys)) == sorted(KEY)
    assert len(keys) - keys.count("name") == len(KEY) - 1
    assert page.locator(".plot svg").count() == page.locator(".plot").count()
    hidden = page.eval_on_selector_all(
        ".scroll:not(.in-parts), .network, .gantt",
        "all => all.filter((e) => getComputedStyle(e).overflow !== 'visible').length",
    )
    assert hidden == 0
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert visible_view(page) == "overview"
    assert page.is_hidden("#table-layers th[data-key=observed_lo]")
    assert page.locator(".printed").count() == 0
    pdf = page.pdf(prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > len(reports["small"].layers)
    assert visible_view(page) == "overview"


@pytest.mark.parametrize("clicks", [0, 2])
def test_paper_is_light(opened: Callable[..., Any], clicks: int) -> None:
    page = opened(theme="dark")
    for _ in range(clicks):
        page.click("button:has-text('Theme')")
    page.emulate_media(media="print", color_scheme="dark")
    assert luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) == 1
    assert luminance(page.evaluate("getComputedStyle(document.body).color")) == 0


def test_without_a_script(opened: Callable[..., Any], reports: dict[str, Report]) -> None:
    page = opened(java_script_enabled=False)
    assert page.locator("#table-layers tbody tr").count() == len(reports["small"].layers)
    assert page.is_visible("#table-fifos")
    assert page.is_visible("noscript")


def test_reduced_motion(opened: Callable[..., Any]) -> None:
    page = opened(reduced_motion="reduce")
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"


# --- accessibility ---------------------------------------------------------------------------------------------------

NAMELESS = """() => [...document.querySelectorAll("a, button, input, select, summary, [role]")]
  .filter((e) => e.checkVisibility() && !e.matches("[role=status]"))
  .filter((e) => !e.getAttribute("aria-label") && !e.textContent.trim())
  .filter((e) => ![...(e.labels ?? [])].some((l) => l.textContent.trim()))
  .map((e) => e.outerHTML.slice(0, 90))"""
FOCUSABLE = """() => [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")]
  .filter((e) => e.checkVisibility()).length"""


@pytest.mark.parametrize("view", [*VIEWS, "layer/conv3"])
def test_controls_have_names_and_tab_reaches_them_all(opened: Callable[..., Any], view: str) -> None:
    page = opened(at=f"#{view}")
    settle(page)
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate("[...document.querySelectorAll('[tabindex]')].every((e) => e.tabIndex <= 0)")
    count = page.evaluate(FOCUSABLE)
    page.evaluate("window.reached = new Set(); addEventListener('focusin', (event) => reached.add(event.target))")
    for _ in range(count + 2):
        page.keyboard.press("Tab")
    assert page.evaluate("reached.size") >= count
    assert (
        page.evaluate(
            "[...document.querySelectorAll('th')].filter((e) => e.closest('thead') && !e.getAttribute('scope')).length"
        )
        == 0
    )
    levels = page.eval_on_selector_all(
        "h1, h2, h3, h4", "all => all.filter((h) => h.checkVisibility()).map((h) => Number(h.tagName[1]))"
    )
    assert levels[:2] == [1, 2]
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_skip_link(opened: Callable[..., Any]) -> None:
    page = opened(at="#proof")
    page.keyboard.press("Tab")
    page.evaluate("document.querySelector('[data-skip]').focus()")
    assert page.evaluate("document.activeElement.getBoundingClientRect().left >= 0")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "h-proof"
    assert visible_view(page) == "proof"


# --- hostile and large -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", [*VIEWS, *(f"layer/conv{i}" for i in range(5))])
def test_names_change_nothing(opened: Callable[..., Any], view: str) -> None:
    page = opened("hostile", at=f"#{view}")
    settle(page)
    assert page.locator("img, iframe, object, embed").count() == 0
    assert page.locator("script").count() == 2
    assert page.evaluate(
        "[...document.querySelectorAll('*')].every((e) => [...e.attributes].every((a) => !a.name.startsWith('on')))"
    )
    if view.startswith("layer/"):
        assert page.text_content("dd[data-key=node]") == HOSTILE[int(view[-1])]


def test_a_hundred_layers_of_a_thousand_channels(opened: Callable[..., Any], reports: dict[str, Report]) -> None:
    page = opened("large")
    assert len(rows(page)) == 100
    for view in (*VIEWS, "layer/conv99"):
        page.evaluate(f"location.hash = '#{view}'")
        page.wait_for_function(f"!document.getElementById('view-{view.split('/')[0]}').hidden")
        settle(page)
        assert not wide(page)
    # A view is built when it opens: only one layer is there, and a chart is few elements however many channels it has.
    assert page.locator("[data-layer]").count() == 1
    assert page.locator("[data-chart=intervals] *").count() < 60
    plot, last = page.locator("[data-chart=widths]"), reports["large"].layers[99]
    plot.focus()
    page.keyboard.press("End")
    assert plot.get_attribute("aria-valuetext") == (
        f"channel 999: {last.channel_bits[999]} bits by itself, {last.width} declared"
    )


def test_the_sweep(opened: Callable[..., Any]) -> None:
    page, sweep = opened(at="#pareto"), json.loads(SWEEP.read_text())
    settle(page)
    distinct = {(entry["method"], entry["model"]) for entry in sweep["frontier"]}
    assert page.locator("#view-pareto [role=img][tabindex='0']").count() == len(distinct)
    page.focus("#view-pareto [role=img][tabindex='0'] >> nth=0")
    first = sweep["frontier"][0]
    assert page.inner_text("#view-pareto .readout") == f"axe: 6 bits, {first['test']:.2f} % (W2 A2, 6 asked)"
    # The build's own model has a ring, and says so.
    assert page.locator("#view-pareto circle").count() == 1
    mine = page.locator("#view-pareto [role=img]:has(circle)")
    assert mine.get_attribute("aria-label") == "axe: 7 bits, 92.91 % (W2 A2, 7 asked); this build"
    assert page.inner_text("#table-frontier tr.mine th") == "axe"
