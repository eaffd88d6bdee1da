"""Loading weights on a board: the driver through the same bytes against the C simulation, and what it refuses."""

import ctypes
import json

import numpy as np
import pytest
from test_deploy import Board, Channel, driver_of, pynq, refusal
from test_runtime_weights import mlp

import broadaxe
from broadaxe.loading import load_parameters, write_parameters
from broadaxe.reference import run

__all__ = ["pynq"]
pytestmark = pytest.mark.usefixtures("unoptimised")


class LoadingBoard(Board):
    """A board whose accelerator takes parameters with a frame that is started while its register `load` is set."""

    def __init__(self, build, design):
        super().__init__(build, design)
        self.words, self.load, self.loads = b"", 0, []
        channels = type("Dma", (), {})()
        channels.sendchannel = Parameters(self)
        setattr(self, f"dma{design.parameters['dma']}", channels)

    def write(self, offset, value):
        if offset == 0x10:
            self.load = value
        else:
            super().write(offset, value)

    def step(self):
        before = self.frames
        if self.load and self.register & 1:
            assert len(self.words) == 8 * self.design.parameters["words"]
            words = np.frombuffer(self.words, dtype="<u8")
            self.simulator.library.broadaxe_load(ctypes.c_void_p(words.ctypes.data), ctypes.c_int64(words.size))
        super().step()
        if self.frames > before and self.load:
            self.words = b""
            self.loads.append(before)


class Parameters(Channel):
    def __init__(self, board):
        self.board = board

    def transfer(self, array, start=0, nbytes=0):
        assert not self.board.words
        self.board.words = np.array(array[start : start + nbytes]).tobytes()

    @property
    def idle(self):
        return not self.board.words

    def wait(self):
        assert self.idle


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deploy") / "mlp"
    return broadaxe.compile(mlp(), folder, weights="runtime", accumulators={"*": 11})


@pytest.fixture(scope="module")
def other(build, tmp_path_factory):
    """Other weights and scales for the same design, in a file."""
    path = tmp_path_factory.mktemp("load") / "parameters.bin"
    loaded = load_parameters(build, mlp(3, scale=0.25, step=0.7))
    write_parameters(loaded, path)
    return loaded, path


def test_the_driver_loads_between_two_frames(build, other, pynq):
    """Before it the results are those of the first model, from the next frame on those of the other: its scales too."""
    loaded, path = other
    module = driver_of(build)
    board = LoadingBoard(build, module.Design(build.path / "deploy"))
    x = np.random.default_rng(0).uniform(-2, 2, (5, 6)).astype(np.float32)
    want = {design: design.host.reals(run(design.graph, design.codes(x))) for design in (build, loaded)}
    ((name, first),), ((_, second),) = want[build].items(), want[loaded].items()
    assert not np.array_equal(first, second)
    with module.Accelerator(overlay=board, folder=build.path / "deploy", frames=2, timeout=0.5) as accelerator:
        np.testing.assert_array_equal(accelerator(x)[name], first)
        accelerator.load(path)
        np.testing.assert_array_equal(accelerator(x)[name], second)
        np.testing.assert_array_equal(accelerator(x)[name], second)
        assert board.loads == [5]
        accelerator.load(build_file(build, path))
        np.testing.assert_array_equal(accelerator(x)[name], first)
        assert board.loads == [5, 15]
    assert not pynq.opened
    assert refusal(module, accelerator.load, path) == "accelerator: is closed; make another"


def build_file(build, path):
    """The design's own parameters, as a file."""
    own = path.with_name("own.bin")
    write_parameters(build, own)
    return own


def test_the_driver_takes_no_other_file(build, other, tmp_path):
    _, path = other
    module = driver_of(build)
    design = module.Design(build.path / "deploy")
    content, beside = path.read_bytes(), json.loads(path.with_suffix(".json").read_text())
    file, text = tmp_path / "p.bin", tmp_path / "p.json"
    for at in (0, 8 * 7 + 1, len(content) - 1):  # any one bit
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        text.write_text(json.dumps(beside))
        said = refusal(module, design.loaded, file)
        assert said == f"{file}: is not what p.json vouches for; run broadaxe load again"
    file.write_bytes(content)
    text.write_text(json.dumps(beside | {"ports": beside["ports"] | {"parameters": {"words": 1}}}))
    assert (
        refusal(module, design.loaded, file)
        == f"{file}: was made for another design; run broadaxe load with this build"
    )
    text.unlink()
    assert refusal(module, design.loaded, file).startswith(f"{file}: it or the .json beside it cannot be read (")
    again = broadaxe.compile(mlp(), tmp_path / "wider", weights="runtime", accumulators={"*": 12})
    stranger = build_file(again, tmp_path / "x.bin")
    assert refusal(module, design.loaded, stranger).endswith(
        ": was made for another design; run broadaxe load with this build"
    )
    fixed = broadaxe.compile(mlp(), tmp_path / "fixed")
    alone = driver_of(fixed).Design(fixed.path / "deploy")
    with pytest.raises(ValueError, match=r"this design's weights are fixed; compile it with weights: runtime$"):
        alone.loaded(path)


def test_the_block_design_and_the_readme_know_the_port(build, tmp_path):
    folder = build.path / "deploy"
    words = sum(p.words for p in build.flow.parameters)
    script = (folder / "block_design.tcl").read_text()
    assert "connect $from [first_pin accelerator {parameters parameters_V parameters_V_V}]" in script
    assert "# dma1: parameters from memory" in script
    assert f"the port `parameters`: {words} beats of 64 bits" in (folder / "README.md").read_text()
    assert not (folder / "xrt_host.cpp").exists()
    fixed = broadaxe.compile(mlp(), tmp_path / "fixed").path / "deploy"
    assert "parameters" not in json.loads((fixed / "ports.json").read_text())
    assert "parameters" not in (fixed / "block_design.tcl").read_text()
    assert (fixed / "xrt_host.cpp").exists()
