"""A YAML file of settings: plain values, and the line of each.

What is read is YAML 1.2's core schema, because 1.1 turns `off` into false, `8:20` into 500 and leaves `1e3` text. Where both
versions are numbers and differ (012), the file is refused. A mapping with text for keys is needed all the way down.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from broadaxe.configuration.complaints import Complaint, KeyPath, SettingsError
from broadaxe.errors import RequestError

MOST_BYTES = 1 << 22
MOST_VALUES = 100_000
"""Aliases counted as often as they stand for something: a few lines of them can stand for billions of values."""
DEEPEST = 50
LONGEST_NUMBER = 100

_PLAIN = "plain"
_TEXT, _LIST, _MAPPING = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))
_NOTHING = {"", "~", "null", "Null", "NULL"}
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_AMBIGUOUS = re.compile(r"[-+]?0[0-9_]+")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*)|0x_*[0-9a-fA-F][0-9a-fA-F_]*|0o_*[0-7][0-7_]*|0b_*[01][01_]*")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NO_SPACE = re.compile(r"\s*[{,-]?\s*([\w.*]+):([^\s:/\\][^,}\s]*)")


@dataclass(frozen=True)
class Document:
    """A settings file.

    Attributes:
        values: what it holds; keys as they are written.
        lines: line of each key and each element of a list, counted from 1.
        complaints: what is wrong with it as YAML, where reading could go on.
    """

    path: Path
    values: dict[str, Any]
    lines: dict[KeyPath, int] = field(default_factory=dict)
    complaints: tuple[Complaint, ...] = ()

    def line(self, path: KeyPath) -> int:
        """Where something stands or, if it is missing, what it is missing from."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


class _Composer(Reader, Scanner, Parser, Composer, BaseResolver):
    """YAML to nodes: what has no tag of its own gets none, scalars without quotes are told apart."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:
        if kind is yaml.ScalarNode and implicit[0]:
            return _PLAIN
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]


def read_document(path: Path) -> Document:
    """Read a YAML file that holds a mapping.

    Raises:
        RequestError: it cannot be read, or is no YAML; with the line. Mistakes behind which reading can go on are
            `complaints` of what is returned.
    """
    text = _text(path)
    try:
        root = _Composer(text).get_single_node()
    except ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise _refused(
            path, line, f"the character {chr(error.character)!a} is not allowed in YAML; remove it"
        ) from None
    except yaml.MarkedYAMLError as error:
        raise _refused(path, *_explained(error, text.splitlines())) from None
    except RecursionError:
        raise _refused(path, 1, f"brackets are nested deeper than {DEEPEST}; settings are flatter than that") from None
    if root is None:
        return Document(path, {})
    line = root.start_mark.line + 1
    reading = _Reading(path)
    if not isinstance(root, yaml.MappingNode):
        reading.check_tag(root, (), _LIST if isinstance(root, yaml.SequenceNode) else _TEXT)
        if reading.complaints:
            raise _refused(path, line, reading.complaints[0].text)
        if isinstance(root, yaml.ScalarNode) and root.tag == _PLAIN:
            if root.value in _NOTHING:
                return Document(path, {})
            if (joined := _NO_SPACE.match(root.value)) is not None:
                raise _refused(path, line, _spaced(joined))
        kind = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
        raise _refused(path, line, f"holds {kind}; write one `setting: value` a line")
    try:
        values = reading.mapping(root, ())
    except _EndlessError as error:
        raise _refused(path, error.line, str(error)) from None
    return Document(path, values, reading.lines, tuple(reading.complaints))


def _refused(path: Path, line: int, what: str) -> RequestError:
    return RequestError(f"{path}:{line}: {what}")


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"{path}: cannot be read ({reason}); name a YAML file") from None
    if len(content) > MOST_BYTES:
        raise RequestError(f"{path}: holds more than {MOST_BYTES >> 20} MB; name a YAML file with settings")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _refused(path, line, f"byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8") from None


class _EndlessError(Exception):
    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


class _Reading:
    """Turns nodes into values."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[KeyPath, int] = {}
        self.complaints: list[Complaint] = []
        self._count = 0

    def _complain(self, path: KeyPath, node: yaml.Node, what: str) -> None:
        self.complaints.append(Complaint(path, what, node.start_mark.line + 1))

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self._count += 1
        line = node.start_mark.line + 1
        if self._count > MOST_VALUES:
            raise _EndlessError(line, f"stands for more than {MOST_VALUES:,} values by its aliases; write fewer")
        if len(path) > DEEPEST:
            raise _EndlessError(line, f"is nested deeper than {DEEPEST}; settings are flatter than that")
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            self.check_tag(node, path, _LIST)
            out = []
            for index, item in enumerate(node.value):
                inside = (*path, index)
                self.lines[inside] = item.start_mark.line + 1
                out.append(self.value(item, inside))
            return out
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, path)

    def mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        self.check_tag(node, path, _MAPPING)
        out: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._complain(path, key_node, "a list or mapping as a key is not allowed; keys are text")
                continue
            key = str(key_node.value)
            if key == "<<" and key_node.tag == _PLAIN:
                self._complain(
                    path, key_node, "merge keys, <<, are not supported; write the keys out, or an alias *name"
                )
                continue
            empty = isinstance(value_node, yaml.ScalarNode) and value_node.value == "" and value_node.tag == _PLAIN
            if empty and key_node.tag == _PLAIN and (joined := _NO_SPACE.fullmatch(key)) is not None:
                self._complain(path, key_node, _spaced(joined))
                continue
            if key in first:
                again = f"is given twice, on lines {first[key]} and {line}; keep one of them"
                self._complain((*path, key), key_node, again)
                continue
            at = (*path, key)
            first[key] = self.lines[at] = line
            out[key] = self.value(value_node, at)
        return out

    def check_tag(self, node: yaml.Node, path: KeyPath, own: str) -> None:
        if node.tag not in (own, _PLAIN, _TEXT):
            name = node.tag.removeprefix("tag:yaml.org,2002:")
            self._complain(path, node, f"the tag !!{name} is not allowed; leave it out")

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        text = str(node.value)
        self.check_tag(node, path, _TEXT)
        if node.tag != _PLAIN:
            return text
        if text in _NOTHING:
            return None
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if (special := _SPECIAL.fullmatch(text)) is not None:
            return float(special[1] + "inf" if special[2] else "nan")
        if _AMBIGUOUS.fullmatch(text) is not None:
            self._complain(path, node, _two_readings(text))
            return text
        whole = _INTEGER.fullmatch(text) is not None
        if not whole and _FLOAT.fullmatch(text) is None:
            return text
        if len(text) > LONGEST_NUMBER:
            self._complain(path, node, f"a number of {len(text)} characters is not allowed; write a shorter one")
            return text
        plain = text.replace("_", "")
        return int(plain, 0) if whole else float(plain)


def _spaced(joined: re.Match[str]) -> str:
    return f"{joined[1]}:{joined[2]} has no space behind the colon; write {joined[1]}: {joined[2]}"


def _two_readings(text: str) -> str:
    digits = text.replace("_", "").lstrip("+-")
    decimal, sign = int(digits), "-" if text.startswith("-") else ""
    if set(digits) <= set("01234567") and int(digits, 8) != decimal:
        return (
            f"{text} is {sign}{int(digits, 8)} to some YAML readers (octal) and {sign}{decimal} to others;"
            f" write {sign}{decimal} or, if it is text, '{text}'"
        )
    return f"{text} starts with 0; write {sign}{decimal} or, if it is text, '{text}'"


def _explained(error: yaml.MarkedYAMLError, lines: list[str]) -> tuple[int, str]:
    """The line of a YAML mistake and what to do about it.

    The texts looked for are PyYAML's; one that is not known is said to be no YAML, without them.
    """
    problem, context = str(error.problem or ""), str(error.context or "")
    mark, opened = error.problem_mark or error.context_mark, error.context_mark
    at = mark.line if mark else 0
    line, first = at + 1, (opened.line + 1 if opened else at + 1)
    here = lines[at] if at < len(lines) else ""
    if "\t" in here[: len(here) - len(here.lstrip())]:
        return line, "a tab cannot indent YAML; use spaces"
    if "'\\t'" in problem:
        return line, "a tab cannot stand here; use spaces"
    if problem.startswith("found character"):
        character = problem.split("'")[1] if "'" in problem else "?"
        return line, f"text cannot start with {character} without quotes; put it into quotes"
    if "quoted scalar" in context and "unexpected end" in problem:
        return first, "the quote that is opened here is not closed; close it"
    if "escape" in problem or "escape" in context:
        return line, "\\ is special inside double quotes; use single quotes"
    if "scanning an alias" in context or "scanning an anchor" in context:
        return line, "text cannot start with * or & without quotes; put it into quotes, such as '*'"
    if "stream end" in problem and "flow" in context:
        opened_at = next((n for n in range(len(lines), 0, -1) if re.search(r"[\[{]", lines[n - 1])), line)
        return opened_at, "a bracket is opened here and not closed; close it"
    if "flow" in context:
        bracket = "]" if "sequence" in context else "}"
        kind = "[" if bracket == "]" else "{"
        return first, f"{kind} is opened here, and line {line} has neither , nor {bracket}; close it"
    missing = next(((n, j) for n, j in _joined(lines, max(0, first - 2), line)), None)
    if missing is not None and ("mapping values" in problem or "could not find" in problem):
        return missing[0], _spaced(missing[1])
    if "mapping values" in problem:
        if re.match(r"\s*[^\s'\"#][^'\"]*?:\s.*:(\s|$)", here):
            return line, "a second colon on one line; put text that holds `: ` into quotes"
        return line, "is indented deeper than the line before, which has a value already; align keys of one mapping"
    if "could not find expected ':'" in problem:
        return first, "is no `setting: value`; write a colon and a space behind the key"
    if "expected <block end>" in problem or "expected the node content" in problem:
        if here.lstrip().startswith((",", "]", "}")):
            return line, f"{here.lstrip()[0]} closes or separates nothing; open it with [ or {{, or leave it out"
        return line, "is indented unlike the lines before it; align keys of one mapping"
    if "unindent" in problem or "indentation" in problem:
        return line, "is indented unlike the lines before it; align keys of one mapping"
    if problem.startswith("found undefined alias"):
        name = problem.split("'")[1] if "'" in problem else problem.rsplit(" ", 1)[-1]
        return line, f"*{name} stands for nothing, there is no &{name} before it; put text with * into quotes"
    if "another document" in problem:
        return line, "a second document starts here; a settings file holds one, without further ---"
    if "document start" in problem:
        return line, "is no `setting: value`; write a colon and a space behind the key"
    return line, "is not YAML; write one `setting: value` a line"


def _joined(lines: list[str], first: int, last: int) -> list[tuple[int, re.Match[str]]]:
    """Lines such as `pe:8` in some range, counted from 1."""
    found = ((n + 1, _NO_SPACE.fullmatch(lines[n].rstrip())) for n in range(first, min(last, len(lines))))
    return [(n, match) for n, match in found if match is not None]


def values_of(document: Document) -> dict[str, Any]:
    """The values of a document that is right as YAML; else all its mistakes are raised."""
    if document.complaints:
        raise SettingsError(
            tuple(
                f"{document.path}:{c.line}: {'.'.join(map(str, c.path))}{': ' if c.path else ''}{c.text}"
                for c in document.complaints
            )
        )
    return document.values
