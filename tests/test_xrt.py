"""deploy/ for Alveo and Versal: data movers, the linked design and both hosts, over the C simulation."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from models import small_cnn
from test_block_design import wide
from test_deploy import NEEDS_HEADERS, by_port, driver_of, many_ports

import broadaxe
from broadaxe.build import random_codes
from broadaxe.csim import FLAGS, Mode, compiler, mode_flags
from broadaxe.reference import run
from broadaxe.vendor.pragmas import check
from broadaxe.vendor.versions import VITIS_HLS

FAKE = Path(__file__).parent / "xrt"
MODELS = {
    "cnn": (small_cnn, {}),
    "ports": (many_ports, {f"matmul{i}": {"pe": 3, "simd": 2} for i in range(6)}),
    "160 bytes": (lambda: wide(160), {"matmul0": {"pe": 160, "simd": 160}}),
    "64 bytes": (lambda: wide(64), {"matmul0": {"pe": 64, "simd": 64}}),
    "256 bytes": (lambda: wide(256), {"matmul0": {"pe": 128, "simd": 256}}),
}


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    made = {}

    def build(name, **options):
        key = (name, *options.items())
        if key not in made:
            model, folding = MODELS[name]
            place = tmp_path_factory.mktemp("builds") / f"x{len(made)}"
            made[key] = broadaxe.compile(model(), place, folding=folding, **options)
        return made[key]

    return build


def linked(build):
    """Streams of link.cfg, `kernel.port` to `kernel.port`, and its kernels."""
    lines = (build.path / "deploy" / "link.cfg").read_text().splitlines()
    entries = [line.partition("=")[::2] for line in lines if line and not line.startswith("#")]
    kernels = {value.split(":")[2]: value.split(":")[0] for key, value in entries if key == "nk"}
    streams = dict(value.split(":") for key, value in entries if key == "stream_connect")
    assert {key for key, _ in entries} == {"[connectivity]", "nk", "stream_connect"}
    return kernels, streams


def board(build, mode, folder):
    """C++ that connects movers and accelerator as link.cfg says; `board_run` runs a kernel by name."""
    kernels, streams = linked(build)
    top = build.top
    ports = (*build.flow.inputs, *build.flow.outputs)
    name_of = {}
    for source, sink in streams.items():
        kernel, _, port = (source if source.startswith(f"{top}_1.") else sink).partition(".")
        mover = (sink if source.startswith(f"{top}_1.") else source).partition(".")[0]
        assert kernels[kernel] == top
        name_of[kernels[mover]] = port
    calls = "".join(
        f'    if (name == "{mover}") {{ {mover}(words.data(), frames, {port}); }}\n' for mover, port in name_of.items()
    )
    declared = "".join(
        f'extern "C" void {mover}({"const " * mover.startswith("mm2s")}ap_uint<512>*, int, hls::stream<{port}_beat>&);\n'
        for mover, port in name_of.items()
    )
    source = f"""
#include <cstdio>
#include <exception>
#include <string>
#include <vector>
#include "beats.hpp"
{declared}
{"".join(f'static hls::stream<{p.name}_beat> {p.name}("{p.name}");' for p in ports)}
extern "C" int board_run(const char* kernel, uint8_t* memory, int64_t size, int frames) {{
  const std::string name(kernel);
  try {{
    std::vector<ap_uint<512> > words(size / 64);
    for (int64_t i = 0; i < size; i++) words[i / 64].range(8 * (i % 64) + 7, 8 * (i % 64)) = memory[i];
    const bool free_running = {str(build.settings.control == "ap_ctrl_none").lower()};
    if (free_running && name.compare(0, 4, "s2mm") == 0) {{
      while (!{build.flow.inputs[0].name}.empty()) {top}({", ".join(p.name for p in ports)});
    }}
    if (!free_running && name == "{top}") {top}({", ".join(p.name for p in ports)});
{calls}
    for (int64_t i = 0; i < size; i++) {{
      const ap_uint<8> byte = words[i / 64].range(8 * (i % 64) + 7, 8 * (i % 64));
      memory[i] = (uint8_t)byte;
    }}
  }} catch (const std::exception& error) {{
    std::printf("%s\\n", error.what());
    return 1;
  }}
  return 0;
}}
extern "C" int board_left() {{ return {" + ".join(f"(int){p.name}.size()" for p in ports)}; }}
"""
    place = folder / "board.cpp"
    place.write_text(source)
    return [place, build.path / "deploy" / "movers.cpp", build.path / "firmware" / f"{top}.cpp"]


def gxx(build, mode, sources, target, *flags):
    warnings = [f for f in FLAGS if not f.startswith("-std")]
    options = [f for f in mode_flags(build.path, mode) if not f.startswith("-O")]
    done = subprocess.run(
        [compiler(), *warnings, *options, *flags, *map(str, sources), "-o", target],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr or mode is Mode.EXACT, done.stderr
    return target


SIMULATED = [
    ("160 bytes", Mode.NATIVE, {}),
    ("cnn", Mode.NATIVE, {"control": "ap_ctrl_none"}),
    *(pytest.param(name, Mode.NATIVE, {}, marks=pytest.mark.slow) for name in ("ports", "64 bytes", "256 bytes")),
    *(pytest.param(name, Mode.EXACT, {}, marks=[pytest.mark.slow, NEEDS_HEADERS]) for name in ("ports", "160 bytes")),
]


@pytest.fixture
def pyxrt(monkeypatch):
    """A module pyxrt over a board; memory that was not synchronised holds something else."""
    module = types.ModuleType("pyxrt")

    class Bo:
        normal = object()

        def __init__(self, device, size, flags, group):
            assert flags is Bo.normal
            assert group == 7
            self.host, self.card = np.full(size, 0xA5, np.uint8), np.full(size, 0x5A, np.uint8)

        def write(self, data, seek):
            data = np.frombuffer(data, dtype=np.uint8)
            self.host[seek : seek + len(data)] = data

        def read(self, size, skip):
            return self.host[skip : skip + size].view(np.int8).copy()

        def sync(self, direction, size, offset):
            source, target = (self.host, self.card) if direction == "to" else (self.card, self.host)
            target[offset : offset + size] = source[offset : offset + size]

    class Kernel:
        shared = object()

        def __init__(self, device, uuid, name, mode):
            assert mode is Kernel.shared
            self.name = name

        def group_id(self, argument):
            assert argument == 0
            return 7

        def __call__(self, buffer, frames):
            made = Run(self)
            made.buffer, made.frames = buffer, frames
            made.start()
            return made

    class Run:
        def __init__(self, kernel):
            self.kernel, self.buffer, self.frames, self.status = kernel, None, 1, None

        def start(self):
            if not self.kernel.name.startswith("s2mm"):
                self._execute()

        def wait(self, milliseconds):
            if self.kernel.name.startswith("s2mm"):
                self._execute()
            return "completed" if self.status == 0 else "error"

        def _execute(self):
            card = np.zeros(0, np.uint8) if self.buffer is None else self.buffer.card
            self.status = module.board.board_run(
                self.kernel.name.encode(), ctypes.c_void_p(card.ctypes.data), ctypes.c_int64(len(card)), self.frames
            )

    module.device = lambda index: types.SimpleNamespace(load_xclbin=lambda xclbin: "uuid")
    module.xclbin, module.bo, module.kernel, module.run = str, Bo, Kernel, Run
    module.xclBOSyncDirection = types.SimpleNamespace(XCL_BO_SYNC_BO_TO_DEVICE="to", XCL_BO_SYNC_BO_FROM_DEVICE="from")
    module.ert_cmd_state = types.SimpleNamespace(ERT_CMD_STATE_COMPLETED="completed")
    monkeypatch.setitem(sys.modules, "pyxrt", module)
    return module


def host_of(build, monkeypatch):
    monkeypatch.setitem(sys.modules, "driver", driver_of(build))
    return driver_of(build, "xrt_host")


@pytest.mark.parametrize(("name", "mode", "options"), SIMULATED)
def test_the_linked_design_under_the_python_host(builds, pyxrt, monkeypatch, tmp_path, name, mode, options):
    build = builds(name, **options)
    flags = ["-std=c++11", "-shared", "-fPIC", "-fno-gnu-unique", "-fvisibility=default"]
    pyxrt.board = ctypes.CDLL(str(gxx(build, mode, board(build, mode, tmp_path), tmp_path / "board.so", *flags)))
    accelerator = host_of(build, monkeypatch).Accelerator("x.xclbin", folder=build.path / "deploy", frames=3)
    values = random_codes(build.graph, 5)  # in turns of three and two
    found = accelerator.run(by_port(build, values, build.flow.inputs))
    for port, codes in by_port(build, run(build.graph, values), build.flow.outputs).items():
        np.testing.assert_array_equal(found[port], codes)
    assert pyxrt.board.board_left() == 0


def test_a_kernel_that_is_not_done(builds, pyxrt, monkeypatch):
    build = builds("cnn", control="ap_ctrl_none")
    pyxrt.board = types.SimpleNamespace(board_run=lambda *_: 1)
    host = host_of(build, monkeypatch)
    accelerator = host.Accelerator("x.xclbin", folder=build.path / "deploy")
    with pytest.raises(host.PortError) as refused:
        accelerator.run(accelerator.design.random_codes(1))
    assert str(refused.value) == "mm2s_in0: is not done; check that the xclbin is this build's"


@pytest.mark.parametrize(
    ("name", "options"),
    [("ports", {}), pytest.param("cnn", {"control": "ap_ctrl_none"}, marks=pytest.mark.slow)],
)
def test_the_cpp_host_moves_the_same_bytes(builds, tmp_path, name, options):
    build = builds(name, **options)
    sources = [*board(build, Mode.NATIVE, tmp_path), build.path / "deploy" / "xrt_host.cpp"]
    program = gxx(build, Mode.NATIVE, sources, tmp_path / "host", "-std=c++17", f"-I{FAKE}")
    design = driver_of(build).Design(build.path / "deploy")
    values = random_codes(build.graph, 3)
    inputs, outputs = [], []
    for port in design.inputs:
        inputs.append(tmp_path / f"{port.name}.bin")
        codes = by_port(build, values, build.flow.inputs)[port.name]
        inputs[-1].write_bytes(port.pack(codes).tobytes())
    outputs = [tmp_path / f"{port.name}.bin" for port in design.outputs]
    command = [program, "x.xclbin", "3", *inputs, *outputs]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("3 frames in ")
    expected = by_port(build, run(build.graph, values), build.flow.outputs)
    for port, path in zip(design.outputs, outputs, strict=True):
        memory = np.frombuffer(path.read_bytes(), dtype=np.uint8).reshape(3, port.frame)
        np.testing.assert_array_equal(port.unpack(memory), expected[port.name])
    inputs[0].write_bytes(b"\0")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    needed = 3 * design.inputs[0].frame
    assert (done.returncode, done.stderr) == (1, f"{inputs[0]}: holds 1 bytes; {needed} are needed\n")
    done = subprocess.run(command[:3], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: xrt_host XCLBIN FRAMES")


@pytest.mark.parametrize("name", ["cnn", "ports"])
def test_every_stream_is_linked_once(builds, name):
    build = builds(name)
    kernels, streams = linked(build)
    movers = (build.path / "deploy" / "movers.cpp").read_text()
    made = re.findall(r"^void ((?:mm2s|s2mm)_\w+)\(", movers, flags=re.MULTILINE)
    assert sorted(kernels.values()) == sorted([build.top, *made])
    ends = [end for pair in streams.items() for end in pair]
    ports = [p.name for p in (*build.flow.inputs, *build.flow.outputs)]
    assert sorted(ends) == sorted([f"{m}_1.beats" for m in made] + [f"{build.top}_1.{p}" for p in ports])


@pytest.mark.parametrize("name", ["cnn", "160 bytes"])
def test_pragmas_of_the_movers(builds, name):
    text = (builds(name).path / "deploy" / "movers.cpp").read_text()
    for version in VITIS_HLS:
        assert len(check(text, "movers.cpp", version)) == text.count("#pragma HLS ") > 0


def test_vivado_hls_has_no_such_platforms(builds):
    names = {p.name for p in (builds("cnn", tool="vivado").path / "deploy").iterdir()}
    assert "driver.py" in names
    assert not names & {"movers.cpp", "link.cfg", "xrt_host.cpp", "xrt_host.py"}
