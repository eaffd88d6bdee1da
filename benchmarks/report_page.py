"""The page of a report: how long it takes to make, its size, and how long a browser takes to open it.

    python benchmarks/report_page.py [BUILD | MODEL.onnx ...]                    # default: examples' MobileNetV1-like network
    python benchmarks/report_page.py MODEL.onnx --picture docs/images/report.png   # a picture of its first view, too

Models are compiled first, which is not counted. A made-up report of 100 layers with 1,000 channels each comes last. Times are
the best of three: `made` is the command's, `CPU` its part on a processor; `open` is from navigation until the first view
stands, `views` the slowest of the others. Needs chromium and playwright.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import broadaxe
from broadaxe.reports.html import Proof, render_html
from broadaxe.reports.reading import read_report

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
TIMES = 3
VIEWS = ("layer", "dataflow", "proof", "build")
OPENED = """async () => {
  while (!document.querySelector("body[data-ready]")) await new Promise((done) => setTimeout(done, 5));
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return performance.now() / 1000;
}"""
TURNED = """async (view) => {
  const before = performance.now();
  location.hash = `#${view}`;
  while (document.getElementById(`view-${view}`).hidden) await new Promise((done) => setTimeout(done));
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return (performance.now() - before) / 1000;
}"""


def made(build: Path, page: Path) -> tuple[float, float]:
    """Seconds of the command, and of its processor."""
    before, spent = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "broadaxe.cli", "report", str(build), "--html", str(page)]
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - before, after.ru_utime + after.ru_stime - spent.ru_utime - spent.ru_stime


def opened(browser: Any, file: Path) -> tuple[float, float]:
    """Seconds until the first view stands, and of the slowest other view."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(file.as_uri(), wait_until="commit")
    first = float(page.evaluate(OPENED))
    others = [float(page.evaluate(TURNED, view)) for view in VIEWS]
    page.close()
    return first, max(others)


def picture(browser: Any, file: Path, target: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 1130}, color_scheme="light")
    page.goto(file.as_uri())
    page.wait_for_selector("body[data-ready]")
    page.wait_for_timeout(500)
    target.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=target)
    page.close()


def main() -> None:
    from page_reports import report
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", type=Path, nargs="*", default=[ROOT / "build" / "networks" / "mobilenet_v1.onnx"])
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or sys.exit("apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        print(
            "| report of | layers | made [s] | CPU [s] | size [MB] | open [s] | views [s] |\n|---|--:|--:|--:|--:|--:|--:|"
        )
        for what in given.what:
            build = what
            if what.suffix == ".onnx":
                build = Path(folder) / what.stem
                broadaxe.compile(what, build)
            page = Path(folder) / f"{what.stem}.html"
            times = [made(build, page) for _ in range(TIMES)]
            seconds = " | ".join(f"{min(column):.1f}" for column in zip(*times, strict=True))
            row(browser, what.stem, len(read_report(build).layers), seconds, page)
            if given.picture:
                picture(browser, page, given.picture)
        page = Path(folder) / "made-up.html"
        page.write_text(render_html(report(100, 1000, 288, skips=30), proof=Proof(True, "made up")))
        row(browser, "100 layers of 1,000 channels", 100, "|", page)
        browser.close()


def row(browser: Any, name: str, layers: int, figures: str, page: Path) -> None:
    times = [opened(browser, page) for _ in range(TIMES)]
    first, views = min(first for first, _ in times), min(views for _, views in times)
    print(f"| {name} | {layers} | {figures} | {page.stat().st_size / 1e6:.2f} | {first:.2f} | {views:.2f} |")


if __name__ == "__main__":
    main()
