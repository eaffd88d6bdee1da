"""The public API: what there is, that it says what it does, and that results are values.

BROADAXE_UPDATE_GOLDEN=1 writes tests/api.txt anew; a change there is a change for users and belongs into CHANGELOG.md.
"""

from __future__ import annotations

import copy
import dataclasses
import doctest
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import api
import page_inputs
import pytest
from pydantic import BaseModel

import broadaxe

GOLDEN = Path(__file__).parent / "api.txt"
THINGS = [pytest.param(thing, id=f"{module}.{name}") for module, name, thing in api.public()]
FUNCTIONS = [p for p in THINGS if not inspect.isclass(p.values[0])]
CLASSES = [p for p in THINGS if inspect.isclass(p.values[0])]


def is_result(cls):
    return (dataclasses.is_dataclass(cls) or issubclass(cls, BaseModel)) and cls.__name__ not in api.SETTINGS


RESULTS = [p for p in CLASSES if is_result(p.values[0])]


def test_the_api_is_as_it_is_written_down():
    if os.environ.get("BROADAXE_UPDATE_GOLDEN") == "1":
        GOLDEN.write_text(api.text())
    assert api.text() == GOLDEN.read_text(), "BROADAXE_UPDATE_GOLDEN=1 writes it anew"


def test_eight_functions_are_enough():
    functions = [name for module, name, thing in api.public() if module == "broadaxe" and not inspect.isclass(thing)]
    assert len(functions) <= 8, functions


def test_every_result_is_there():
    assert {p.values[0].__name__ for p in RESULTS} >= {
        *("Audit", "Build", "Diagnosis", "Quantized", "Report", "Sweep", "Verification")
    }


@pytest.mark.parametrize("cls", RESULTS)
def test_a_result_is_a_value(cls):
    """Its fields cannot be set, and it has one line, a text and a table of its own."""
    if dataclasses.is_dataclass(cls):
        assert cls.__dataclass_params__.frozen
    else:
        assert cls.model_config["frozen"]
    for method in ("__repr__", "__str__", "_repr_html_"):
        owner = next(base for base in cls.__mro__ if method in vars(base))
        assert owner.__module__.startswith("broadaxe"), method
        assert method != "__repr__" or not hasattr(vars(owner)[method], "__wrapped__"), (
            "generated: of no use in a notebook"
        )


@pytest.mark.parametrize("cls", CLASSES)
def test_a_class_says_what_its_attributes_are(cls):
    doc = inspect.getdoc(cls) or ""
    assert "__doc__" in vars(cls)
    assert not doc.startswith(f"{cls.__name__}("), "generated"
    for name, member in api.members(cls):
        if not name.startswith("_"):
            function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            assert function.__doc__, f"{cls.__name__}.{name}"
    if issubclass(cls, BaseModel):
        silent = [name for name, info in cls.model_fields.items() if not info.description]
    else:
        silent = [name for name in api.attributes(cls) if f"\n    {name}:" not in doc and f"{name}, " not in doc]
    assert not silent


@pytest.mark.parametrize("cls", api.inner_classes().values(), ids=api.inner_classes())
def test_what_a_result_holds_says_what_its_attributes_are(cls):
    if issubclass(cls, BaseModel):
        assert not [name for name, info in cls.model_fields.items() if not info.description]
    assert "__doc__" in vars(cls)
    assert not (cls.__doc__ or "").startswith(f"{cls.__name__}("), "generated"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_says_what_it_takes_gives_and_raises(function):
    doc = inspect.getdoc(function) or ""
    assert "\nRaises:\n" in doc
    assert "\nReturns:\n" in doc
    for name in inspect.signature(function).parameters:
        assert f" {name}:" in doc or f" {name}, " in doc or f", {name}:" in doc, name


@pytest.mark.slow
@pytest.mark.parametrize("thing", [*FUNCTIONS, *(p for p in CLASSES if ">>> " in (p.values[0].__doc__ or ""))])
def test_an_example_is_right(thing, once, tmp_path, monkeypatch):
    """What docstrings show, run beside the files that pages start from."""
    made = once("page-build", lambda place: (place.mkdir(), page_inputs.build(place)))
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    rows = page_inputs.images()
    own = {name: found for module, name, found in api.public() if module != "broadaxe"}
    names = {"broadaxe": broadaxe, **own, **rows, "model": page_inputs.network()}
    if "brevitas_module" in thing.__doc__:
        names["brevitas_module"] = copy.deepcopy(page_inputs.brevitas_network())
    example = doctest.DocTestParser().get_doctest(thing.__doc__, names, thing.__name__, None, None)
    assert example.examples
    lines: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example, out=lines.append)
    assert not lines, "".join(lines)


def test_a_name_of_another_module_says_where_it_is():
    with pytest.raises(AttributeError) as missing:
        _ = broadaxe.sweep  # type: ignore[attr-defined]
    assert str(missing.value) == "module 'broadaxe' has no attribute 'sweep'; it is broadaxe.search.sweep"
    code = "import broadaxe; print(broadaxe.search.sweep.__name__, broadaxe.interop.audit.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert done.stdout == "sweep audit\n", done.stderr


USER = """
import numpy as np
from pathlib import Path
import broadaxe
from broadaxe.search import sweep

x = np.zeros((4, 1, 8, 8), np.float32)
try:
    quantized = broadaxe.quantize("float.onnx", x, acc_bits=14)
except broadaxe.RequestError as error:
    print(error)
build: broadaxe.Build = broadaxe.compile(quantized.model, "build", target_fps=1000.0)
report: broadaxe.Report = broadaxe.report(build)
width: int = report.layers[0].width
verification: broadaxe.Verification = broadaxe.verify(build, x)
good: bool = verification.ok
outputs = broadaxe.simulate(build, x, exact=True)
logits: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = outputs["y"]
folder: Path = sweep("float.onnx", x, x, "sweep").folder
html: str = broadaxe.search.sweep("float.onnx", x, x, "sweep")._repr_html_()
lost: float | None = quantized.record.output_error
"""


def environment():
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "MYPYPATH": str(Path(broadaxe.__file__).parent.parent),
    }


@pytest.mark.slow
def test_a_users_program_is_checked_against_the_types(tmp_path):
    """Under mypy --strict, with the package on its path: names that are imported when they are used keep their types."""
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text(USER)
    bad.write_text(
        USER.replace("width: int", "width: str")
        .replace("good: bool", "good: list[int]")
        .replace("broadaxe.load(", "broadaxe.loads(")
        .replace("folder: Path", "folder: int")
    )
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--follow-imports=silent",
        "--cache-dir",
        str(tmp_path / "cache"),
    ]
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nignore_missing_imports = True\n[mypy-torch.*,distributed.*,matplotlib.*]\nfollow_imports = skip\n"
    )
    run = [*command, "--config-file", str(tmp_path / "mypy.ini")]
    done = subprocess.run([*run, str(good)], capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stdout
    done = subprocess.run([*run, str(bad)], capture_output=True, text=True, env=environment())
    found = [line.split(": error: ")[1] for line in done.stdout.splitlines() if ": error: " in line]
    assert [line.rpartition("  [")[0] for line in found] == [
        'Incompatible types in assignment (expression has type "int", variable has type "str")',
        'Incompatible types in assignment (expression has type "bool", variable has type "list[int]")',
        'Incompatible types in assignment (expression has type "Path", variable has type "int")',
    ], done.stdout
