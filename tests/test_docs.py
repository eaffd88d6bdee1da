"""What README, CONTRIBUTING and docs/ name is there: links, anchors, files, commands, options, targets, functions, settings.

`test_pages.py` runs what they show; here nothing is run but the command line's own parser.
"""

from __future__ import annotations

import importlib
import json
import re
import shlex
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import typer

import broadaxe
from broadaxe.cli import app
from broadaxe.frontend import finn
from broadaxe.ops import importing

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/PROTOCOL.md")]
PAGES += sorted(DOCS.rglob("*.md"))
FENCE = re.compile(r"^(```+)([^\n`]*)\n(.*?)^\1 *$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
PLACEHOLDER = re.compile(r"[<>*{}]|\.\.\.|(?<![A-Za-z])[A-Z]{2,}(?![A-Za-z])|NAME|KERNEL|KIND")
FOLDERS = ("benchmarks", "compiler", "docs", "examples", "hw", "templates", "tests")
OF_OTHERS = {"--link"}
"""Options of other programs that pages name alone."""


def pages(*names: str) -> list[pytest.ParameterSet]:
    return [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in PAGES if page.name not in names]


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", text)


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """(language, content) of every block of code."""
    for match in FENCE.finditer(text):
        yield match[2].strip(), match[3]


def anchors(text: str) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    names = set()
    for heading in HEADING.findall(prose(text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        count = found.get(name, 0)
        found[name] = count + 1
        names.add(name if not count else f"{name}-{count}")
    return names


def commands(text: str) -> Iterator[str]:
    """Command lines of blocks, and those in the text."""
    for language, content in blocks(text):
        if language in ("", "sh", "bash", "console", "text"):
            for line in re.sub(r"\\\n\s*", "", content).splitlines():
                yield line.removeprefix("$ ").strip()
    for span in SPAN.findall(prose(text)):
        yield span.strip()


def parsed(line: str) -> list[str]:
    """The words of a command line; a comment behind it, and where its output goes, left out."""
    line = re.sub(r" (>|\|) .*$", "", line)
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return line.split()


def below(command: Any) -> dict[str, Any]:
    """The commands of a command that has some. Typer brings a click of its own or uses the package: no type is named."""
    return getattr(command, "commands", {})


def options_of(command: Any) -> set[str]:
    """Of a command and of those below it."""
    own = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return own | {"--help"} | {option for part in below(command).values() for option in options_of(part)}


GROUP: Any = typer.main.get_command(app)
OPTIONS = options_of(GROUP)


@pytest.mark.parametrize("page", pages())
def test_links_and_anchors(page: Path) -> None:
    text = page.read_text()
    missing = []
    for target in LINK.findall(re.sub(r"`[^`\n]*`", "", prose(text))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        there = place.exists() and ROOT in place.parents
        if not there or (anchor and anchor not in anchors(place.read_text())):
            missing.append(target)
    assert not missing


@pytest.mark.parametrize("page", pages("CHANGELOG.md", "errors.md"))
def test_files_in_the_text_are_there(page: Path) -> None:
    """A path that begins in a folder of the repository; `*` and capital letters stand for any name."""
    spans = [word for span in SPAN.findall(prose(page.read_text())) for word in span.split()]
    paths = [word.split("#")[0].split(":")[0] for word in spans if word.startswith(tuple(f"{f}/" for f in FOLDERS))]
    assert not [path for path in paths if not PLACEHOLDER.search(path) and not (ROOT / path).exists()]


@pytest.mark.parametrize("page", pages("CHANGELOG.md", "errors.md"))
def test_command_lines_fit_the_command_line(page: Path) -> None:
    wrong = []
    for line in commands(page.read_text()):
        words = parsed(line)
        if len(words) < 2 or words[0] != "broadaxe" or not re.fullmatch(r"[a-z][a-z-]*", words[1]):
            continue
        command = GROUP.commands.get(words[1])
        words = words[1:]
        while below(command) and len(words) > 1 and not words[1].startswith("-"):
            command, words = below(command).get(words[1]), words[1:]
        if command is None:
            wrong.append(f"{line}: no command {words[0]}")
            continue
        rest = [word.split("|")[0] for word in words[1:] if word not in ("...", "[...]")]
        known = options_of(command)
        wrong += [f"{line}: no option {w}" for w in rest if w.startswith("--") and w.split("=")[0] not in known]
        if words[-1].startswith("--") or "..." in line:
            continue  # an option is named without its value
        try:
            _, excess, _ = command.make_parser(command.context_class(command)).parse_args(rest)
            wrong += [f"{line}: excess {word}" for word in excess]
        except Exception as error:  # a UsageError of that click
            wrong.append(f"{line}: {error}")
    assert not wrong


@pytest.mark.parametrize("page", pages("CHANGELOG.md", "errors.md"))
def test_options_in_the_text_exist(page: Path) -> None:
    """Of some command, or of a script that the same page names."""
    text = page.read_text()
    sources = [(ROOT / script).read_text() for script in set(re.findall(r"(?:benchmarks|examples)/\w+\.py", text))]
    sources += [path.read_text() for path in (ROOT / "tests" / "fuzz" / "__main__.py", ROOT / "docs" / "generate.py")]
    named = [word for span in SPAN.findall(prose(text)) for word in re.findall(r"(?<!\S)--[a-z][a-z0-9-]+", span)]
    unknown = {o for o in named if o not in OPTIONS | OF_OTHERS and not any(f'"{o}"' in source for source in sources)}
    assert not {o for o in unknown if f'"{o}"' not in (ROOT / "compiler/broadaxe/prove/checker.py").read_text()}


@pytest.mark.parametrize("page", pages("CHANGELOG.md", "errors.md"))
def test_targets_and_scripts_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wrong = []
    for line in commands(page.read_text()):
        words = parsed(line)
        if words[:1] == ["make"] and len(words) > 1 and words[1] not in targets and "=" not in words[1]:
            wrong.append(line)
        if words[:1] == ["python"] and len(words) > 1:
            script = words[2] if words[1] == "-m" and len(words) > 2 else words[1]
            module = script.replace(".", "/") + ".py"
            if words[1] == "-m" and script.startswith(("tests", "broadaxe")):
                places = (ROOT / module, ROOT / "compiler" / module, ROOT / script.replace(".", "/"))
                wrong += [] if any(place.exists() for place in places) else [line]
            elif script.startswith(tuple(f"{folder}/" for folder in FOLDERS)) and not (ROOT / script).exists():
                wrong.append(line)
    assert not wrong


@pytest.mark.parametrize("page", pages("CHANGELOG.md", "errors.md"))
def test_names_of_the_package_exist(page: Path) -> None:
    """`broadaxe.compile` and the like, in the text and in blocks of Python."""
    text = page.read_text()
    code = [*SPAN.findall(prose(text)), *(content for language, content in blocks(text) if language == "python")]
    names = {name for part in code for name in re.findall(r"(?<![\w./-])broadaxe((?:\.[A-Za-z_]\w*)+)", part)}
    missing = [name for name in names if PLACEHOLDER.search(name) is None and not _resolves(name[1:].split("."))]
    # keys of a model's metadata, and names of files
    assert not [name for name in missing if name not in (".acc_bits", ".tile", ".order", ".start")]


def _resolves(parts: list[str]) -> bool:
    found: object = broadaxe
    path = "broadaxe"
    for part in parts:
        path = f"{path}.{part}"
        try:
            found = getattr(found, part)
        except AttributeError:
            try:
                found = importlib.import_module(path)
            except ImportError:
                return False
    return True


def test_every_operator_that_is_read_has_its_row() -> None:
    text = (DOCS / "dialects.md").read_text()
    table = text[text.index("## Operators") :]
    rows = {name for row in re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE) for name in SPAN.findall(row)}
    rows |= {"Quant", "IntQuant", "BipolarQuant", "Trunc", "MultiThreshold"}
    assert rows == set(importing.IMPORTERS)


def test_every_operator_of_finn_has_its_row() -> None:
    text = (DOCS / "dialects.md").read_text()
    section = text[text.index("## FINN") : text.index("## Operators")]
    assert {*finn.CONVERTERS, *finn.LOWERED} <= set(SPAN.findall(section))


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network of lowering.md, compiled."""
    folder = tmp_path_factory.mktemp("docs")
    model = next(content for _, content in blocks((DOCS / "lowering.md").read_text()) if "TINY = " in content)
    place = folder / "tiny.onnx"
    exec(model.replace('"tiny.onnx"', repr(str(place))), {})
    broadaxe.compile(place, folder / "build")
    return folder / "build"


def rows(text: str, heading: str, ending: str) -> list[list[str]]:
    """The words in code of the first column of the tables between two places of a text."""
    part = text[text.index(heading) : text.index(ending)]
    return [SPAN.findall(row) for row in re.findall(r"^\| (`[^|]*) \|", part, re.MULTILINE)]


def test_every_file_of_a_build_has_its_row(build: Path) -> None:
    named = [
        name for row in rows((DOCS / "build-folder.md").read_text(), "# The build", "## Who checks") for name in row
    ]
    patterns = [re.sub(r"NAME|KERNEL", "*", name) + ("*" if name.endswith("/") else "") for name in named]
    files = [path.relative_to(build).as_posix() for path in build.rglob("*") if path.is_file()]
    assert files
    assert not [name for name in files if not any(fnmatch(name, pattern) for pattern in patterns)]


def test_keys_of_certificate_and_manifest_have_their_rows(build: Path) -> None:
    text = (DOCS / "build-folder.md").read_text()
    certificate = json.loads((build / "certificate.json").read_text())
    whole = [key for row in rows(text, "## certificate.json", "Of a layer:") for key in row]
    assert whole == list(certificate)
    layer = [key for row in rows(text, "Of a layer:", "## build.json") for key in row]
    assert sorted(layer) == sorted([*certificate["layers"][0], "budget"])
    manifest = [key for row in rows(text, "## build.json", "## folding.yaml") for key in row]
    assert set(manifest) <= set(json.loads((build / "build.json").read_text()))


def test_generated_parts_are_up_to_date() -> None:
    sys.path.insert(0, str(DOCS))
    try:
        found = importlib.import_module("generate").pages()
    finally:
        sys.path.remove(str(DOCS))
    old = [page.relative_to(ROOT).as_posix() for page, text in found.items() if page.read_text() != text]
    assert not old, "run `make docs`"


def test_every_page_is_in_the_index() -> None:
    linked = set(LINK.findall((DOCS / "README.md").read_text()))
    assert {page.relative_to(DOCS).as_posix() for page in sorted(DOCS.rglob("*.md"))} - {"README.md"} <= linked


def test_the_front_page_is_one() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200
