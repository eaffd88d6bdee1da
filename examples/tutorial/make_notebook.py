"""Run tutorial.py cell by cell and write it as a notebook with what it printed.

    python examples/tutorial/make_notebook.py [OUT.ipynb]

`tests/test_tutorial.py` does the same in a fresh process and compares with the notebook that is committed.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
VERSION = {"nbformat": 4, "nbformat_minor": 5}
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def cells(source: str) -> list[tuple[str, str]]:
    """(markdown or code, text) of a script whose cells begin with `# %%`."""
    found = []
    for part in source.split("# %%")[1:]:
        head, _, body = part.partition("\n")
        if head.strip() == "[markdown]":
            lines = [line.removeprefix("#").removeprefix(" ") for line in body.strip("\n").split("\n")]
            found.append(("markdown", "\n".join(lines)))
        else:
            found.append(("code", body.strip("\n")))
    return found


def executed(code: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Outputs of a cell: what it prints, and the value of its last line if that is an expression."""
    tree, last = ast.parse(code), None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, f"cell {count}", "exec"), names)
        if last is not None:
            value = eval(compile(last, f"cell {count}", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"name": "stdout", "output_type": "stream", "text": lines(printed.getvalue())})
    if value is not None:
        shown = {"text/plain": lines(repr(value))}
        if hasattr(value, "_repr_html_"):
            shown["text/html"] = lines(value._repr_html_())
        result = {"data": shown, "execution_count": count, "metadata": {}, "output_type": "execute_result"}
        outputs.append(result)
    return outputs


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def notebook(source: str) -> dict[str, Any]:
    """The script, run, in the format of Jupyter."""
    made: list[dict[str, Any]] = []
    names: dict[str, Any] = {"__name__": "__main__"}
    count = 0
    for at, (kind, text) in enumerate(cells(source)):
        cell: dict[str, Any] = {"cell_type": kind, "metadata": {}, "source": lines(text)}
        cell["id"] = hashlib.sha256(f"{at}".encode()).hexdigest()[:8]
        if kind == "code":
            count += 1
            cell |= {"execution_count": count, "outputs": executed(text, names, count)}
        made.append(cell)
    return {"cells": made, "metadata": {"kernelspec": KERNEL, "language_info": {"name": "python"}}, **VERSION}


def main() -> None:
    target = Path(sys.argv[1] if sys.argv[1:] else HERE / "tutorial.ipynb").absolute()
    made = notebook((HERE / "tutorial.py").read_text())
    target.write_text(json.dumps(made, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
