"""Every message of the product: provoked, compared whole, in one form; no place that builds one without a case."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from messages import cases, modules
from messages.page import PAGE, page
from messages.running import run as provoked
from messages.sites import sites

LONGEST = 300

# Places that no input reaches: the file, words of the call, and why.
UNREACHABLE: dict[tuple[str, str], str] = {}

# What the words of Python, numpy, pydantic or onnxruntime look like when they slip through.
FOREIGN = re.compile(
    r"\bNone\b(?!\})|(?:^|[ (=])b'|<class|<function|\barray\(|\bdtype\(|<U\d| object at 0x|Traceback|Errno|torch\.Size"
    r"|PosixPath|defaultdict|ONNXRuntimeError|\[ShapeInferenceError|pydantic|value_error|Input should|Field required"
    r"|Extra inputs"
)


def within(file: str, named: tuple[str, ...]) -> bool:
    """Whether a file is one of those named, or in a folder that is, written with a slash."""
    return any(file == name or (name.endswith("/") and file.startswith(name)) for name in named)


def covered_by(file: str) -> list[str]:
    """The modules of cases that answer for a file of the package."""
    return [name for name, module in modules().items() if within(file, module.COVERS)]


@pytest.mark.parametrize("module", modules())
def test_each_case_provokes_its_message(module, tmp_path):
    """And together they reach every place of the module's files that builds one."""
    wrong, reached = [], set()
    for number, case in enumerate(cases(module)):
        folder = tmp_path / str(number)
        folder.mkdir()
        outcome = provoked(case, folder)
        reached |= outcome.reached
        if outcome.wrong is not None:
            wrong.append(f"{case.name}: {outcome.wrong}")
    missed = [
        f"no case for {site}"
        for site in sites()
        if module in covered_by(site.file) and site not in reached and not unreachable(site)
    ]
    if wrong or missed:
        pytest.fail("\n".join(wrong + missed), pytrace=False)


def unreachable(site):
    return any(site.file == file and words in site.text for file, words in UNREACHABLE)


@pytest.mark.parametrize("module", modules())
def test_each_message_says_where_what_and_what_to_do(module):
    wrong = []
    for case in cases(module):
        text = case.message
        place, colon, rest = text.partition(": ")
        what, semicolon, remedy = rest.rpartition("; ")
        if not (colon and semicolon and place and what and remedy):
            wrong.append(f"{case.name}: is not `<where>: <what>; <what to do>`: {text}")
        if not text.isprintable() or len(text) > LONGEST:
            wrong.append(f"{case.name}: is not one line of at most {LONGEST} characters, {len(text)}: {text}")
        if FOREIGN.search(text):
            wrong.append(f"{case.name}: speaks Python, {FOREIGN.search(text).group()!r}: {text}")
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


def test_names_of_cases_are_unique():
    for module in modules():
        twice = [name for name, count in Counter(case.name for case in cases(module)).items() if count > 1]
        assert not twice, f"{module}: {twice}"


def test_every_file_with_messages_has_one_module_of_cases():
    files = {site.file for site in sites()}
    several = {file: covered_by(file) for file in files if len(covered_by(file)) > 1}
    assert not several
    assert not {file for file in files if not covered_by(file)}


def test_what_cannot_be_reached_is_there():
    for file, words in UNREACHABLE:
        found = [site for site in sites() if site.file == file and words in site.text]
        assert len(found) == 1, (file, words, found)


def test_the_page_of_messages_is_up_to_date():
    assert PAGE.read_text() == page(), "run make errors"
