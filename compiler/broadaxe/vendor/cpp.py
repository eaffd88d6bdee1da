"""Where in a C++ source a line stands: in a loop, a function, a class, and which names are declared there.

Enough for the sources of hw/ and templates/, which have no macros with braces; no parser of C++.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum


class Scope(str, Enum):
    """What the innermost braces around a line belong to."""

    FILE = "file"
    NAMESPACE = "namespace"
    CLASS = "class"
    FUNCTION = "function"
    LOOP = "loop"
    BLOCK = "block"


@dataclass(frozen=True)
class Place:
    """A line's surroundings. `leading`: nothing but pragmas between the innermost brace and the line.

    Attributes:
        declared: names that are declared above, in the scopes that are open.
        arguments: names of the function's arguments.
    """

    scope: Scope
    leading: bool
    declared: frozenset[str]
    arguments: frozenset[str]


@dataclass
class _Open:
    scope: Scope
    names: set[str] = field(default_factory=set)
    arguments: frozenset[str] = frozenset()
    leading: bool = True


_LOOP = re.compile(r"(^|[\s:;{}])(for|while|do)\b")
_BLOCK = re.compile(r"(^|[\s:;{}])(if|else|switch|try|catch)\b")
_DECLARED = re.compile(r"(?:[\w>\]]\s*[\s&*]\s*|,\s*|\(\s*[&*]\s*)([A-Za-z_]\w*)\s*(?=[\[;=,)({]|$)")
_KEYWORDS = frozenset(
    [
        "return",
        "if",
        "else",
        "for",
        "while",
        "do",
        "switch",
        "case",
        "break",
        "continue",
        "const",
        "typename",
        "template",
        "sizeof",
        "new",
    ]
)


_VALUES = re.compile(r"=\s*\{")


def scopes(text: str, vitis: bool) -> dict[int, Place]:
    """The place of each pragma line, by line from 1; lines that the preprocessor leaves out for the tool are not there."""
    places: dict[int, Place] = {}
    opened = [_Open(Scope.FILE)]
    statement = ""
    parentheses = 0
    for number, line in _lines(text, vitis):
        if line.lstrip().startswith("#"):
            if re.match(r"\s*#\s*pragma\s+HLS\b", line, flags=re.IGNORECASE):
                inner = opened[-1]
                arguments = next((o.arguments for o in reversed(opened) if o.scope is Scope.FUNCTION), frozenset())
                declared = frozenset().union(*(o.names for o in opened))
                places[number] = Place(inner.scope, inner.leading, declared, arguments)
            continue
        for ch in f"{line}\n":
            if ch == "(":
                parentheses += 1
            elif ch == ")":
                parentheses -= 1
            if ch in "{}" and parentheses == 0 and _is_initializer(statement):
                continue
            if ch == "{" and parentheses == 0 and not re.search(r"=\s*$", statement):
                opened[-1].leading = False
                opened.append(_opening(statement))
                statement = ""
            elif ch == "}" and parentheses == 0:
                if len(opened) > 1:
                    opened.pop()
                statement = ""
            elif ch == ";" and parentheses == 0:
                opened[-1].names |= _names(_VALUES.split(statement)[0])
                opened[-1].leading = False
                statement = ""
            else:
                statement += ch
    return places


def _is_initializer(statement: str) -> bool:
    """Whether a brace is one of the values of `T x[] = {...`, whose first brace is part of the statement."""
    return _VALUES.search(statement) is not None


def _opening(statement: str) -> _Open:
    head = " ".join(statement.split())
    if re.search(r"\bnamespace\b", head):
        return _Open(Scope.NAMESPACE)
    if re.search(r"(^|\s|>)(struct|class|union|enum)\s+[A-Za-z_:]", head) and not head.endswith(")"):
        return _Open(Scope.CLASS)
    if (_LOOP.search(head) and "(" in head) or re.search(r"\bdo$", head):
        return _Open(Scope.LOOP, _names(head[head.index("(") + 1 :]) if "(" in head else set())
    if _BLOCK.search(head) or not head:
        return _Open(Scope.BLOCK)
    if "(" in head:
        names = _names(head[head.index("(") :])
        return _Open(Scope.FUNCTION, set(names), frozenset(names))
    return _Open(Scope.BLOCK)


def _names(statement: str) -> set[str]:
    return {name for name in _DECLARED.findall(statement) if name not in _KEYWORDS}


def _lines(text: str, vitis: bool) -> list[tuple[int, str]]:
    """Lines without comments and strings that the tool's preprocessor keeps: conditions on __VITIS_HLS__ are decided."""
    blank = re.sub(
        r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'',
        lambda m: re.sub(r"[^\n]", " ", m[0]) if m[0][0] == "/" else '""',
        text,
        flags=re.DOTALL,
    )
    kept = []
    conditions: list[bool | None] = []
    for number, line in enumerate(blank.split("\n"), 1):
        match = re.match(r"\s*#\s*(ifdef|ifndef|if|else|endif)\b\s*(.*)", line)
        if match:
            kind, rest = match[1], match[2].strip()
            if kind == "endif" and conditions:
                conditions.pop()
            elif kind == "else" and conditions:
                last = conditions.pop()
                conditions.append(None if last is None else not last)
            elif kind != "else":
                asked = rest in ("__VITIS_HLS__", "defined(__VITIS_HLS__)")
                conditions.append((vitis if kind != "ifndef" else not vitis) if asked else None)
            continue
        if False not in conditions:
            kept.append((number, line))
    return kept
