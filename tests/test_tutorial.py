"""The tutorial: its notebook is what its script says and prints.

BROADAXE_UPDATE_GOLDEN=1 writes the notebook anew; read the difference, and whether the text around it is still true.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pages
import pytest

from broadaxe import csim

FOLDER = pages.ROOT / "examples" / "tutorial"
SCRIPT, NOTEBOOK = FOLDER / "tutorial.py", FOLDER / "tutorial.ipynb"
sys.path.insert(0, str(FOLDER))

import make_notebook  # noqa: E402


def committed() -> dict[str, Any]:
    return json.loads(NOTEBOOK.read_text())


def test_the_notebook_has_the_scripts_cells():
    told = [(cell["cell_type"], "".join(cell["source"])) for cell in committed()["cells"]]
    assert told == make_notebook.cells(SCRIPT.read_text()), "BROADAXE_UPDATE_GOLDEN=1 with the slow test writes it anew"


def test_the_notebook_is_one_that_viewers_open():
    """The parts of the format, 4.5, that they insist on."""
    made = committed()
    assert (made["nbformat"], made["nbformat_minor"]) == (4, 5)
    assert made["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in made["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in made["cells"]:
        assert set(cell) == {"cell_type", "id", "metadata", "source"} | (
            {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        )
        for output in cell.get("outputs", ()):
            assert output["output_type"] in ("stream", "execute_result"), "no cell failed"


def test_every_cell_that_shows_something_shows_it():
    for cell in committed()["cells"]:
        if cell["cell_type"] == "code" and any(line.startswith(("print(", "run(")) for line in cell["source"]):
            assert cell["outputs"], "".join(cell["source"])


def test_the_notebook_names_no_machine():
    text = NOTEBOOK.read_text()
    for name in ("/tmp/", "/home/", "/root/", str(pages.ROOT)):
        assert name not in text


def shown(made: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """For each code cell its first line and the lines that it shows, as they are compared."""
    found = []
    for cell in made["cells"]:
        if cell["cell_type"] == "code":
            texts = []
            for output in cell["outputs"]:
                parts = [output["text"]] if "text" in output else output["data"].values()
                texts += ["".join(part) for part in parts]
            found.append((cell["source"][0], [pages.plain(line) for text in texts for line in text.splitlines()]))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_tutorial_prints_what_its_notebook_shows(threads, tmp_path):
    """In a fresh process, whatever the environment says of threads: the script decides."""
    if csim.ap_types() is None:
        pytest.skip("the notebook shows the C simulation with ap_int headers: pip install hls4ml==1.3.0 brings them")
    if threads == "2" and os.environ.get("BROADAXE_UPDATE_GOLDEN") == "1":
        pytest.skip("the notebook is written by the other run of this test")
    environment = os.environ | {
        "PYTHONPATH": str(pages.ROOT / "compiler"),
        "OMP_NUM_THREADS": threads,
        "TMPDIR": str(tmp_path),
    }
    environment = {k: v for k, v in environment.items() if k not in ("COLUMNS", "FORCE_COLOR")}
    made = tmp_path / "made.ipynb"
    command = [sys.executable, str(FOLDER / "make_notebook.py"), str(made)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-2000:]
    if os.environ.get("BROADAXE_UPDATE_GOLDEN") == "1":
        NOTEBOOK.write_text(made.read_text())
    for (cell, now), (_, then) in zip(shown(json.loads(made.read_text())), shown(committed()), strict=True):
        assert now == then, cell


def test_a_cell_gives_what_jupyter_would_show():
    names: dict[str, Any] = {}
    assert make_notebook.executed("a = 1\nprint('x')\nprint('y')", names, 1) == [
        {"name": "stdout", "output_type": "stream", "text": ["x\n", "y\n"]}
    ]
    class_of = "class Shown:\n    def __repr__(self): return 'r'\n    def _repr_html_(self): return '<p>'\nShown()"
    assert make_notebook.executed(class_of, names, 2) == [
        {
            "data": {"text/plain": ["r"], "text/html": ["<p>"]},
            "execution_count": 2,
            "metadata": {},
            "output_type": "execute_result",
        }
    ]
    assert make_notebook.executed("a", names, 3)[0]["data"] == {"text/plain": ["1"]}
    assert make_notebook.executed("b = a", names, 4) == []


def test_cells_are_told_apart():
    script = "# %% [markdown]\n# # Title\n#\n# text\n\n# %%\nx = 1\n\n\ndef f():\n    pass\n\n\n# %%\nx\n"
    assert make_notebook.cells(script) == [
        ("markdown", "# Title\n\ntext"),
        ("code", "x = 1\n\n\ndef f():\n    pass"),
        ("code", "x"),
    ]


def test_the_script_writes_nothing_beside_itself():
    assert {path.name for path in FOLDER.iterdir()} - {"__pycache__"} == {
        *("make_notebook.py", "tutorial.ipynb", "tutorial.py")
    }
    assert Path(make_notebook.__file__).parent == FOLDER
