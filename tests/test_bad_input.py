"""What a user gets wrong: one clear line for each mistake, exit code 2, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from itertools import pairwise

import numpy as np
import onnx
import pytest
from models import small_cnn

import broadaxe
from broadaxe.cli import main
from broadaxe.config import read_settings
from broadaxe.configuration.complaints import SettingsError
from broadaxe.data import read_data
from broadaxe.errors import BroadaxeError, RequestError
from broadaxe.verification import Findings, _check_folder

PATHS = {"PYTHONPATH": os.pathsep.join(sys.path)}

# files and folders


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(small_cnn(), path)
    return path


def refusal_of(call, *arguments, **options):
    with pytest.raises(BroadaxeError) as refusal:
        call(*arguments, **options)
    assert refusal.type in (RequestError, SettingsError)
    assert refusal.value.exit_code == 2
    return str(refusal.value)


def test_a_name_that_is_not_utf_8(model_file, tmp_path):
    model_file.write_bytes(model_file.read_bytes().replace(b"quant1_out", b"quant\xff_out"))
    message = f"{model_file}: holds the name 'quant\ufffd_out', which is not UTF-8; repair the model"
    assert refusal_of(broadaxe.compile, model_file, tmp_path / "build") == message


@pytest.mark.parametrize("kept", [10, 1000, -1])
def test_a_truncated_file(model_file, kept, tmp_path):
    model_file.write_bytes(model_file.read_bytes()[:kept])
    message = f"{model_file}: is not an ONNX file, or only a part of one (DecodeError); name a complete .onnx file"
    assert refusal_of(broadaxe.compile, model_file, tmp_path / "build") == message
    assert list(tmp_path.iterdir()) == [model_file]


FILES = {
    "empty": (b"", "model.onnx", "holds no network; name a complete .onnx file"),
    "an empty model": (b"\x08\x0a", "model.onnx", "holds no network; name a complete .onnx file"),
    "text": (
        b"hello, this is no model\n",
        "model.onnx",
        "is not an ONNX file, or only a part of one (DecodeError); name a complete .onnx file",
    ),
    "json": (b"{}", "model.json", "holds no network; name a complete .onnx file"),
    "broken json": (
        b"{{",
        "model.json",
        "is not an ONNX file, or only a part of one (ParseError); name a complete .onnx file",
    ),
}


@pytest.mark.parametrize(("content", "name", "message"), FILES.values(), ids=FILES)
def test_a_file_that_is_no_model(content, name, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    assert refusal_of(broadaxe.compile, path, tmp_path / "build") == f"{path}: {message}"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_and_a_folder(tmp_path):
    path = tmp_path / "none.onnx"
    message = f"{path}: cannot be read (No such file or directory); name a complete .onnx file"
    assert refusal_of(broadaxe.compile, path, tmp_path / "build") == message
    message = f"{tmp_path}: cannot be read (Is a directory); name a complete .onnx file"
    assert refusal_of(broadaxe.compile, tmp_path, tmp_path / "build") == message
    assert not list(tmp_path.iterdir())


def test_missing_external_data(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(small_cnn(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    reason = "its data in weights.bin cannot be read (No such file or directory); put the data file beside the model"
    message = refusal_of(broadaxe.compile, path, tmp_path / "build")
    assert re.fullmatch(f"{re.escape(str(path))}: initializer \\w+: {re.escape(reason)}", message)


def test_an_object_that_is_no_model(tmp_path):
    message = "model: is a list; give a file, an ONNX model, or a Brevitas module with an example_input"
    assert refusal_of(broadaxe.compile, [], tmp_path / "build") == message


def test_an_output_folder_with_other_things_is_left_alone(model_file, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("precious")
    message = f"{other}: exists and is not a build folder; choose another output"
    assert refusal_of(broadaxe.compile, model_file, other) == message
    message = f"{other / 'thesis.tex'}: exists and is not a build folder; choose another output"
    assert refusal_of(broadaxe.compile, model_file, other / "thesis.tex") == message
    message = f"{other / 'thesis.tex'}: is not a folder; choose another output"
    assert refusal_of(broadaxe.compile, model_file, other / "thesis.tex" / "build") == message
    assert [p.read_text() for p in other.iterdir()] == ["precious"]


def test_an_earlier_build_survives_a_refusal(model_file, tmp_path):
    build = tmp_path / "build"
    broadaxe.compile(model_file, build)
    before = {p: p.read_bytes() for p in build.rglob("*") if p.is_file()}
    refusal_of(broadaxe.compile, model_file, build, folding={"conv0": {"pe": 3, "simd": 1}})
    assert {p: p.read_bytes() for p in build.rglob("*") if p.is_file()} == before
    assert sorted(tmp_path.iterdir()) == [build, model_file]


def test_a_folder_that_is_no_build(tmp_path):
    message = f"{tmp_path}: is not a build folder; make one with `broadaxe compile`"
    assert refusal_of(broadaxe.load, tmp_path) == message


@pytest.mark.parametrize(
    ("output", "reason"), [("/proc/x", "No such file or directory"), ("n" * 300, "File name too long")]
)
def test_a_folder_that_cannot_be_made(output, reason, model_file, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    message = f"{output}: cannot be written ({reason}); choose another output"
    assert refusal_of(broadaxe.compile, model_file, output) == message


def test_a_link_to_a_folder_is_followed(model_file, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "build", target_is_directory=True)
    for _ in range(2):  # a new folder, then an earlier build
        broadaxe.compile(model_file, tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "build" / "build.json").is_file()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert refusal_of(broadaxe.compile, model_file, tmp_path / "loop").startswith(
        f"{tmp_path / 'loop'}: cannot be written"
    )


MANIFESTS = {
    "not a mapping": lambda manifest: [1],
    "top": lambda manifest: manifest | {"top": 3},
    "settings": lambda manifest: manifest | {"settings": [1]},
    "files": lambda manifest: manifest | {"files": ["a"]},
    "hashes": lambda manifest: manifest | {"files": {"model.onnx": 3}},
}


@pytest.mark.parametrize("change", MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_of_wrong_types(change, small_build, tmp_path):
    manifest = json.loads((small_build.path / "build.json").read_text())
    (tmp_path / "build.json").write_text(json.dumps(change(manifest)))
    message = f"{tmp_path}: is not a build folder; make one with `broadaxe compile`"
    assert refusal_of(broadaxe.load, tmp_path) == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: {}, "does not list certificate.json"),
        (lambda files: files | {"../model.onnx": "0"}, "lists ../model.onnx"),
        (lambda files: {n: h for n, h in files.items() if n != "model.onnx"}, "does not list model.onnx"),
    ],
)
def test_a_manifest_lists_what_a_build_holds(change, message, small_build, tmp_path):
    build = tmp_path / "build"
    shutil.copytree(small_build.path, build)
    manifest = json.loads((build / "build.json").read_text())
    (build / "build.json").write_text(json.dumps(manifest | {"files": change(manifest["files"])}))
    result = Findings()
    _check_folder(broadaxe.load(build), result)
    assert [str(m) for m in result.mismatches] == [f"{build / 'build.json'}: {message}; compile again"]


def test_a_binary_certificate(small_build, tmp_path):
    build = tmp_path / "build"
    shutil.copytree(small_build.path, build)
    (build / "certificate.json").write_bytes(b"\xff\x00\xfe")
    result = Findings()
    _check_folder(broadaxe.load(build), result)
    place = build / "certificate.json"
    assert [str(m) for m in result.mismatches] == [
        f"{place}: is missing or was changed after compilation; compile again",
        f"{place}: is not what model.onnx gives; compile again",
    ]


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_data_that_claim_endless_samples(suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 36), }"
    header += b" " * (117 - len(header)) + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 64
    if suffix == ".npy":
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("x.npy", content)
    message = f"{path}: asks for more memory than there is; save fewer samples"
    assert refusal_of(read_data, path, ["x"]) == message


# settings


def run_cli(monkeypatch, *arguments):
    """The exit code of the command line."""
    monkeypatch.setattr("sys.argv", ["broadaxe", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code


def test_an_interrupt_while_the_package_is_imported(tmp_path):
    """Ctrl-C in the first second: the imports raise it before the command line has started."""
    script = "import builtins\nreal = builtins.__import__\ndef interrupted(name, *rest):\n"
    script += "    if name == 'typer':\n        raise KeyboardInterrupt\n    return real(name, *rest)\n"
    script += "builtins.__import__ = interrupted\nimport broadaxe_command\nbroadaxe_command.main()\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ | PATHS)
    assert (done.returncode, done.stderr) == (130, "interrupted; nothing was left half-written\n")


KNOWN = f"known settings are {', '.join(broadaxe.CompileSettings.model_fields)}"
LANES = "give a whole number from 1 to 2147483647"
MAPPING = "give a mapping, such as {conv1: {pe: 8, simd: 4}, window1: {lanes: 4}}"
SETTINGS = {
    "unknown": ({"speed": 3}, f"settings: speed: is unknown; {KNOWN}"),
    "pe": (
        {"folding": {"conv0": {"pe": 3, "simd": 2}}},
        "folding: conv0: pe 3 does not divide the layer; pe may be 1, 2, 4",
    ),
    "simd": (
        {"folding": {"conv0": {"pe": 2, "simd": 4}}},
        "folding: conv0: simd 4 does not divide the layer; simd may be 1, 2, 3, 6, 9, 18",
    ),
    "unknown layer": (
        {"folding": {"conv9": {"pe": 2, "simd": 4}}},
        "folding: conv9: there is no such layer; layers are conv0, gemm0",
    ),
    "no lanes": (
        {"folding": {"conv0": {"pe": 0, "simd": 1}}},
        f"settings: folding.conv0.pe: 0 is not allowed; {LANES}",
    ),
    "lanes that are no number": (
        {"folding": {"conv0": {"pe": "many", "simd": 1}}},
        f"settings: folding.conv0.pe: 'many' is not allowed; {LANES}",
    ),
    "lanes that are no mapping": (
        {"folding": {"conv0": 4}},
        "settings: folding.conv0: 4 is not allowed; give a mapping, such as {pe: 8, simd: 4}",
    ),
    "folding that is no mapping": ({"folding": [1]}, f"settings: folding: [1] is not allowed; {MAPPING}"),
    "simd left out": ({"folding": {"conv0": {"pe": 2}}}, f"settings: folding.conv0.simd: is missing; {LANES}"),
    "a rate that is no number": (
        {"target_fps": float("inf")},
        "settings: target_fps: inf is no finite number; give a number above 0, up to 2147483647",
    ),
    "a pipeline without an end": (
        {"latencies": {"conv0": 1 << 62}},
        "settings: latencies.conv0: 4611686018427387904 is not allowed; give a whole number from 0 to 65536",
    ),
    "unknown tool": (
        {"tool": "quartus"},
        "settings: tool: 'quartus' is not allowed; use vitis or vivado",
    ),
    "unknown type": (
        {"inputs": {"x": "float"}},
        "settings: inputs.x: type 'float' is unknown; use int1 to int32, uint1 to uint32 or float32",
    ),
    "unknown input": ({"inputs": {"y": "uint8"}}, "input y: the model has no such input; it has x"),
    "an input's name that breaks lines": (
        {"inputs": {"y\n": "uint8"}},
        "input y?: the model has no such input; it has x",
    ),
}


@pytest.mark.parametrize(("options", "message"), SETTINGS.values(), ids=SETTINGS)
def test_settings_that_do_not_fit(options, message, model_file, tmp_path):
    assert refusal_of(broadaxe.compile, model_file, tmp_path / "build", **options) == message
    assert list(tmp_path.iterdir()) == [model_file]


YAML = {
    "unknown setting": ("tool: vitis\nspeed: 3\n", f":2: speed: is unknown; {KNOWN}"),
    "unknown lanes": (
        "folding:\n  conv0: {pe: 2, simd: 2, tile: 1}\n",
        ":2: folding.conv0.tile: is unknown; known settings are pe, simd, multiplier",
    ),
    "syntax": ("tool: vitis\nfolding: {conv0: [\n", ":2: a bracket is opened here and not closed; close it"),
    "tab": ("tool: vitis\n\tname: x\n", ":2: a tab cannot indent YAML; use spaces"),
    "code": (
        "!!python/object/apply:os.system ['ls']\n",
        ":1: the tag !!python/object/apply:os.system is not allowed; leave it out",
    ),
    "list": ("- a\n", ":1: holds a list; write one `setting: value` a line"),
    "a number without an end": (
        f"multipliers: {'9' * 5000}\n",
        ":1: multipliers: a number of 5000 characters is not allowed; write a shorter one",
    ),
    "hexadecimal without an end": (
        f"folding:\n  conv0: {{pe: 0x{'f' * 5000}, simd: 1}}\n",
        ":2: folding.conv0.pe: a number of 5002 characters is not allowed; write a shorter one",
    ),
    "brackets without an end": (
        "name: " + "[" * 3000 + "]" * 3000 + "\n",
        ":1: brackets are nested deeper than 50; settings are flatter than that",
    ),
    "anchors of anchors": (
        "multipliers: [&a [1,1], &b [*a,*a]"
        + "".join(f", &{y} [*{x},*{x}]" for x, y in pairwise("bcdefghijklmnopqrstuvwxyz"))
        + "]\n",
        ":1: stands for more than 100,000 values by its aliases; write fewer",
    ),
    "bytes": ("\x00", ":1: the character '\\x00' is not allowed in YAML; remove it"),
}


@pytest.mark.parametrize(("text", "message"), YAML.values(), ids=YAML)
def test_yaml_files(text, message, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    assert refusal_of(read_settings, path) == f"{path}{message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("conv0: {pe: 3, simd: 1}\n", ":1: conv0: pe 3 does not divide the layer; pe may be 1, 2, 4"),
        ("conv0: {pe: 0, simd: 1}\n", f":1: conv0.pe: 0 is not allowed; {LANES}"),
        ("conv0: {pe: x, simd: 1}\n", f":1: conv0.pe: 'x' is not allowed; {LANES}"),
        ("conv9: {pe: 1, simd: 1}\n", ":1: conv9: there is no such layer; layers are conv0, gemm0"),
    ],
)
def test_a_folding_file_is_named(text, message, model_file, tmp_path, capsys, monkeypatch):
    path = tmp_path / "folding.yaml"
    path.write_text(text)
    assert run_cli(monkeypatch, "compile", model_file, "-o", tmp_path / "build", "--folding", path) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {path}{message}"


def test_a_missing_yaml_file(tmp_path):
    path = tmp_path / "none.yaml"
    message = f"{path}: cannot be read (No such file or directory); name a YAML file"
    assert refusal_of(read_settings, path) == message


# data

DATA = {
    "shape": (np.zeros((3, 2, 6)), "input x: shape (3, 2, 6); give (samples, 2, 6, 6)"),
    "no samples": (np.zeros((0, 2, 6, 6)), "input x: shape (0, 2, 6, 6); give (samples, 2, 6, 6)"),
    "not finite": (np.full((1, 2, 6, 6), np.nan), "input x: holds values that are not finite numbers; clean the data"),
    "text": (np.array(["a"]), "input x: holds text; numbers are needed"),
    "another name": ({"y": np.zeros(3)}, "input x: is missing, the data hold y; name it"),
}


@pytest.fixture(scope="module")
def small_build(tmp_path_factory):
    return broadaxe.compile(small_cnn(), tmp_path_factory.mktemp("small") / "build")


@pytest.mark.parametrize(("data", "message"), DATA.values(), ids=DATA)
def test_data_that_do_not_fit(small_build, data, message):
    assert refusal_of(small_build.codes, data) == message


# names

HOSTILE = [
    '"; system("x',
    "*/ int evil;",
    "../../evil",
    'new\nline "quoted"',
    "while",
    "int",
    "\\",
    "evil%s\x00{{7*7}}",
]


def with_hostile_names():
    """A network whose every name would do harm in C++, in a path or in a template."""
    model = small_cnn(name='net */ "../evil\n{{ 7*7 }}')
    names = {n for node in model.graph.node for n in (*node.input, *node.output)}
    renamed = {n: f"{HOSTILE[i % len(HOSTILE)]}{i}" for i, n in enumerate(sorted(names))}
    for position, proto in enumerate(model.graph.node):
        proto.name = HOSTILE[position % len(HOSTILE)]
        for tensors in (proto.input, proto.output):
            tensors[:] = [renamed[n] for n in tensors]
    for named in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        named.name = renamed[named.name]
    return model


@pytest.fixture(scope="module")
def hostile_build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    build = broadaxe.compile(with_hostile_names(), folder / "build")
    assert [p.name for p in folder.iterdir()] == ["build"]
    return build


def test_names_of_the_model_reach_neither_sources_nor_file_names(hostile_build, small_build):
    """Sources are those of the same network with harmless names, but for the name of the top function."""
    sources = {}
    for build in (hostile_build, small_build):
        files = [p for p in build.path.rglob("*") if p.is_file() and p.suffix in (".cpp", ".hpp", ".h", ".dat")]
        assert len(files) > 15
        texts = {p.relative_to(build.path).as_posix(): p.read_text() for p in files}
        sources[build] = {
            re.sub(rf"\b{build.top}\b", "top", n): re.sub(rf"{build.top}", "top", t, flags=re.I)
            for n, t in texts.items()
        }
    assert sources[hostile_build] == sources[small_build]
    for path in hostile_build.path.rglob("*"):
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.]*", path.name), path
    assert re.fullmatch(r"[a-z][a-z0-9_]*", hostile_build.top)


def test_names_of_the_model_survive_loading(hostile_build):
    loaded = broadaxe.load(hostile_build.path)
    x = np.random.default_rng(0).normal(size=(4, 2, 6, 6))
    (name,) = (i.tensor for i in loaded.lowered.inputs)
    assert all(np.array_equal(loaded.codes({name: x})[v], q) for v, q in hostile_build.codes(x).items())


@pytest.mark.slow
def test_hostile_names_verify(hostile_build):
    result = broadaxe.verify(hostile_build, np.random.default_rng(0).normal(size=(4, 2, 6, 6)))
    assert result.ok, str(result)


@pytest.mark.parametrize(
    "name", ["int", "main", "std", 'a"; system("x', "../../x", "\n", "0", "types", "conv0", "struct", "_"]
)
def test_the_top_function_has_a_legal_name(name, model_file, tmp_path):
    build = broadaxe.compile(model_file, tmp_path / "build", name=name)
    assert re.fullmatch(r"[a-z][a-z0-9_]*", build.top)
    assert build.top not in ("int", "main", "std", "types", "conv0", "struct")
    assert (tmp_path / "build" / "firmware" / f"{build.top}.cpp").is_file()
