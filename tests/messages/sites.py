"""Where the product builds its messages: every call of an error class, or of a function that returns an error.

A `Complaint` is what one setting is told, and becomes a line of an error.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import broadaxe
from broadaxe import errors
from broadaxe.configuration.complaints import Complaint, SettingsError

PACKAGE = Path(broadaxe.__file__).parent
CLASSES = {n for n, found in vars(errors).items() if isinstance(found, type) and issubclass(found, BaseException)}
CLASSES |= {SettingsError.__name__, Complaint.__name__}


@dataclass(frozen=True)
class Site:
    """A call that makes an error.

    Attributes:
        file: below the package.
        function: that it stands in.
        first, last: its lines.
        text: its source in one line.
    """

    file: str
    function: str
    first: int
    last: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.first} {self.function}: {self.text[:160]}"


@functools.cache
def sites() -> tuple[Site, ...]:
    """All of them, in the order of files and lines."""
    trees = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py")) if path.name != "errors.py"}
    public = CLASSES | {name for tree in trees.values() for name in _makers(tree) if not name.startswith("_")}
    return tuple(site for path, tree in trees.items() for site in _calls(path, tree, public | {*_makers(tree)}))


@functools.cache
def makers() -> frozenset[tuple[str, str]]:
    """File and name of the functions that return an error for their caller to raise."""
    return frozenset(
        (path.relative_to(PACKAGE).as_posix(), name)
        for path in PACKAGE.rglob("*.py")
        for name in _makers(ast.parse(path.read_text()))
    )


def _makers(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and isinstance(node.returns, ast.Name) and node.returns.id in CLASSES:
            yield node.name


def _calls(path: Path, tree: ast.Module, wanted: set[str]) -> list[Site]:
    file, source = path.relative_to(PACKAGE).as_posix(), path.read_text().splitlines()
    found: list[Site] = []

    def walk(node: ast.AST, function: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Call):
                called = child.func
                name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
                if name in wanted:
                    last = child.end_lineno or child.lineno
                    text = " ".join(" ".join(source[child.lineno - 1 : last]).split())
                    found.append(Site(file, function, child.lineno, last, text))
            walk(child, child.name if isinstance(child, ast.FunctionDef | ast.ClassDef) else function)

    walk(tree, "")
    return sorted(found, key=lambda site: site.first)
