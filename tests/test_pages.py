"""README.md and docs/: every command and Python block of a page gives what the page shows. `pages.py` has the convention.

BROADAXE_UPDATE_GOLDEN=1 writes into the pages what was printed instead; read the difference before you commit it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import page_inputs
import pages
import pytest
from pages import Page, PageError, Ran, Runner, Step, differences, read

PATHS = (pages.ROOT / "README.md", pages.ROOT / "CONTRIBUTING.md", *sorted((pages.ROOT / "docs").rglob("*.md")))
PAGES = [read(path) for path in PATHS if path.read_text().startswith("<!-- needs:")]
OTHERS = [path for path in PATHS if not path.read_text().startswith("<!-- needs:")]


@pytest.mark.parametrize(
    "page", [pytest.param(p, id=p.name, marks=[pytest.mark.slow] if p.slow else []) for p in PAGES]
)
def test_a_page_shows_what_its_commands_print(page: Page, once, tmp_path):
    folder = tmp_path / "page"
    folder.mkdir()
    for name in page.needs or ():
        made = once(f"page-{name}", lambda place, name=name: filled(place, name))
        shutil.copytree(made, folder, dirs_exist_ok=True)
    names = "".join(page_inputs.PREPARED[name].names for name in (page.needs or ())[:1])
    with Runner(folder, names) as runner:
        found, mended = differences(page, runner.run)
    if os.environ.get("BROADAXE_UPDATE_GOLDEN") == "1":
        page.path.write_text(mended)
    else:
        assert not found, "\n\n".join(found)


def filled(place: Path, name: str) -> None:
    place.mkdir()
    page_inputs.PREPARED[name].files(place)


@pytest.mark.parametrize("page", PAGES, ids=[p.name for p in PAGES])
def test_a_page_needs_what_there_is_and_gives_reasons(page: Page):
    assert set(page.needs or ()) <= set(page_inputs.PREPARED)
    for line, reason in page.exempt:
        assert len(reason.split()) > 2, f"{page.name}:{line}: {reason!r} is no reason"


@pytest.mark.parametrize("path", OTHERS, ids=[path.name for path in OTHERS])
def test_a_page_that_is_not_run_has_nothing_to_run(path: Path):
    assert read(path).steps == ()


# The convention itself


def page_of(tmp_path, text):
    path = tmp_path / "page.md"
    path.write_text(text)
    return read(path)


def ran(page, folder, names=""):
    with Runner(folder, names) as runner:
        return differences(page, runner.run)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


GOOD = """<!-- needs: digits, examples -->
# A page

```console
$ echo one; echo "two  "
one
two
$ printf 'a\\n\\nb\\n' \\
    | cat
a

b
$ seq 9
1
...
9
```

<!-- not run: needs a licence of the vendor's -->
```console
$ vitis_hls
never
```

```sh
echo kept > file
```

```python
count = 1
print(open("file").read().strip(), count)
```

<!-- printed -->
```
kept 1
```

```python
count += 1
assert count == start + 1
```

```cpp
int main;
```

```console
$ python -c "raise SystemExit('error: x: no; do')"
error: x: no; do
$ echo "took 1.5 s, broadaxe 9.9.9"
took 0.2 s, broadaxe 0.1.0
```
"""


def test_a_page_is_taken_apart_and_run(tmp_path, folder):
    page = page_of(tmp_path, GOOD)
    assert page.needs == ("digits", "examples")
    assert page.exempt == ((20, "needs a licence of the vendor's"),)
    assert [(s.line, s.language) for s in page.steps] == [
        *((5, "console"), (8, "console"), (13, "console"), (26, "sh"), (30, "python"), (40, "python")),
        *((49, "console"), (51, "console")),
    ]
    assert ran(page, folder, "start = 1") == ([], GOOD)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("\ntwo\n", "\nthree\n", ['page.md:5: echo one; echo "two  "', "three"]),
        ("\n9\n", "\n8\n", ["page.md:13: seq 9"]),
        ("kept 1", "kept 2", ["page.md:30: count = 1", "kept 2"]),
        ("start + 1", "start + 2", ["page.md:40: count += 1\n  failed: AssertionError"]),
        ("x: no; do')", "')", ["page.md:49:"]),
        ("SystemExit('error: x: no; do')", "SystemExit", ["page.md:49:", "did not fail"]),
        ("echo kept > file", "false", ["page.md:26: false\n  failed: exit code 1", "page.md:30:", "FileNotFoundError"]),
    ],
)
def test_whatever_differs_is_found(tmp_path, folder, before, after, expected):
    assert GOOD.count(before) == 1
    found, _ = ran(page_of(tmp_path, GOOD.replace(before, after)), folder, "start = 1")
    assert found
    for text in expected:
        assert any(text in difference for difference in found), found


def test_an_update_writes_what_was_printed(tmp_path, folder):
    stale = GOOD.replace("\ntwo\n", "\nthree\nfour\n").replace("kept 1\n", "")
    _, mended = ran(page_of(tmp_path, stale), folder, "start = 1")
    assert mended == GOOD


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```console\nout\n```", "page.md:2: console: output without a command; start the block with `$ command`"),
        (
            "text\n\n```\n$ ls\n```",
            "page.md:3: a block of commands has the language ''; use console or sh, or <!-- not run: REASON -->",
        ),
        ("<!-- not run -->\n```sh\nls\n```", "page.md:1: not run: gives no reason; write <!-- not run: REASON -->"),
        ("<!-- printed -->\n```\n1\n```", "page.md:2: printed: no Python block stands before it; put it behind one"),
        ("```sh\nls\n", "page.md:1: a block is not closed; close it"),
    ],
)
def test_a_page_that_breaks_the_convention_is_refused(tmp_path, text, message):
    with pytest.raises(PageError) as refused:
        page_of(tmp_path, text)
    assert str(refused.value) == message


def test_a_comment_counts_for_the_block_right_behind_it_alone(tmp_path):
    page = page_of(tmp_path, "<!-- not run: takes an hour -->\n\nSome text.\n\n```sh\nls\n```\n")
    assert [step.source for step in page.steps] == ["ls"]
    assert page.exempt == ()


def test_blocks_may_fail_where_the_page_says_so(tmp_path):
    page = page_of(tmp_path, "<!-- fails: a check that does not hold -->\n```console\n$ x\nno\n```\n")
    assert differences(page, lambda step: Ran(["no"], "exit code 1"))[0] == []
    assert len(differences(page, lambda step: Ran(["no"], ""))[0]) == 1
    assert page.steps == (Step(3, "console", "x", ("no",), (3, 4), fails=True),)
