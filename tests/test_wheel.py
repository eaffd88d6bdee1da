"""The wheel, installed where the source tree is out of reach: sources, templates and headers all come from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import onnx
import pytest
from models import small_cnn

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
COMPILE = """
import broadaxe, json
from broadaxe import resources
build = broadaxe.compile("model.onnx", "build")
print(json.dumps([broadaxe.__file__, *(str(resources.folder(name)) for name in ("templates", "hw")), build.top]))
"""


def run(*command, cwd=None, **options):
    """A command outside the tree: no variable of ours points Python back to it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | {
        "PYTHONUNBUFFERED": "1"
    }
    command = [str(part) for part in command]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A new environment with the wheel in it. Other packages are this environment's own: nothing is downloaded."""
    environment = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    packages = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # a path that a .pth file adds has its own .pth files ignored: the editable install of the tree stays out
    (Path(packages) / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment


@pytest.fixture
def elsewhere(tmp_path):
    onnx.save(small_cnn(), tmp_path / "model.onnx")
    return tmp_path


def test_the_wheel_holds_templates_headers_and_the_demo(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("templates", "hw"):
        tree = {p.relative_to(ROOT).as_posix() for p in (ROOT / folder).rglob("*") if p.is_file()}
        assert tree
        assert {f"broadaxe/{name}" for name in tree} <= names
    assert {"broadaxe/demos/digits_cnn.py", "broadaxe/py.typed"} <= names
    assert not [n for n in names if n.startswith(("tests/", "examples/", "benchmarks/")) or n.endswith(".pyc")]
    assert [n for n in names if n.endswith("licenses/LICENSE")]


def test_the_wheel_compiles_a_model(installed, elsewhere):
    package, templates, headers, top = json.loads(
        run(installed / "bin" / "python", "-c", COMPILE, cwd=elsewhere).splitlines()[-1]
    )
    for place in (package, templates, headers):
        assert Path(place).is_relative_to(installed), place
        assert not Path(place).is_relative_to(ROOT), place
    written = {p.name for p in (elsewhere / "build" / "firmware" / "broadaxe").iterdir()}
    assert written == {p.name for p in Path(headers).glob("*.hpp")} - {"parameters.hpp"}  # weights are fixed
    assert (elsewhere / "build" / "firmware" / f"{top}.cpp").is_file()


def test_the_command_line_of_the_wheel(installed, elsewhere):
    broadaxe = installed / "bin" / "broadaxe"
    assert "compile" in run(broadaxe, "--help", cwd=elsewhere)
    assert "next: broadaxe verify build" in run(broadaxe, "compile", "model.onnx", "-o", "build", cwd=elsewhere)
    layers = json.loads(run(broadaxe, "report", "build", "--json", cwd=elsewhere))["layers"]
    assert [layer["name"] for layer in layers] == ["conv0", "gemm0"]
    assert "certificate accepted" in run(broadaxe, "report", "build", "--html", "page.html", cwd=elsewhere)
    assert run(broadaxe, "config", "new", "compile", cwd=elsewhere).startswith("# Settings of `broadaxe compile`")


def test_the_wheel_simulates(installed, elsewhere):
    """g++ sees the build folder alone."""
    code = "import broadaxe, numpy; print(broadaxe.simulate(broadaxe.compile('model.onnx', 'build'), numpy.ones((2, 2, 6, 6))))"
    assert "gemm1_out" in run(installed / "bin" / "python", "-c", code, cwd=elsewhere)


def test_the_demo_starts(installed, elsewhere):
    command = [installed / "bin" / "broadaxe", "demo", "-o", "digits"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | {
        "PYTHONUNBUFFERED": "1"
    }
    with subprocess.Popen(
        command, cwd=elsewhere, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        try:
            assert demo.stdout is not None
            line = demo.stdout.readline()
        finally:
            demo.kill()
        assert line.startswith("training a 4-bit CNN"), line + demo.stderr.read()
