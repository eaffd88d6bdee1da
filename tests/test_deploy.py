"""deploy/: the driver's bytes are the accelerator's bytes. What driver.py packs goes as beats into the C simulation, and what
comes out of it, unpacked by driver.py, is the reference."""

from __future__ import annotations

import importlib.util
import re
import sys
import types
from fractions import Fraction

import numpy as np
import pytest
from models import MODES, Network, small_cnn
from onnx import TensorProto, helper
from test_bad_input import with_hostile_names

import broadaxe
from broadaxe.build import random_codes
from broadaxe.chain import ROUNDINGS, Affine, Clamp, Normalize, Snap, Step
from broadaxe.csim import Mode, Simulator, ap_types
from broadaxe.errors import RequestError
from broadaxe.functions import COMBINED, KINDS, Combined, Function, Leaky, Power
from broadaxe.reference import run
from broadaxe.serialize import plain

pytestmark = pytest.mark.usefixtures("unoptimised")
NEEDS_HEADERS = pytest.mark.skipif(ap_types() is None, reason="no ap_int headers; pip install hls4ml==1.3.0")
WIDTHS = {"x": (3, 1), "y": (5, 0), "z": (13, 1), "w": (1, 1), "v": (1, 0), "u": (8, 1)}


def many_ports():
    """Six inputs of odd widths, signed and not, each through a matrix to another width; one sum with all its bits."""
    net = Network(2, 3, batch=1, seed=3)
    net.inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 12]) for name in WIDTHS]
    outputs = []
    for (name, (bits, signed)), (out_bits, out_signed) in zip(WIDTHS.items(), list(WIDTHS.values())[::-1], strict=True):
        q = net.quant(name, 0.25, bits=bits, signed=signed)
        y = net.node("MatMul", q, net.weights(12, 6))
        outputs.append(net.quant(y, 0.5, bits=out_bits, signed=out_signed))
        if name == "y":
            outputs.append(y)
    return net.finish(*outputs)


def driver_of(build, name="driver"):
    """A module of the build's own folder, imported by path."""
    spec = importlib.util.spec_from_file_location(f"{name}_{build.path.name}", build.path / "deploy" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    made = {}

    def build(kind, fold=None, **options):
        key = (kind, fold, *options.items())
        if key not in made:
            model = {"ports": many_ports, "cnn": small_cnn}[kind]()
            place = tmp_path_factory.mktemp("builds") / f"b{len(made)}"
            if fold is not None:
                options["folding"] = {f"matmul{i}": {"pe": fold[0], "simd": fold[1]} for i in range(len(WIDTHS))}
            made[key] = broadaxe.compile(model, place, **options)
        return made[key]

    return build


def through(simulator, design, codes):
    """Codes by port through the C simulation as bytes: slots lose their padding, as in the block design, and get it back."""
    frames = len(next(iter(codes.values())))
    beats = {}
    for port in design.inputs:
        slots = port.pack(codes[port.name]).reshape(-1, port.slot)
        assert not slots[:, port.bits // 8 :].any()
        beats[port.name] = slots[:, : port.bits // 8].tobytes()
    memory = {}
    for port in design.outputs:
        sent = np.frombuffer(simulator.run_bytes(frames, beats)[port.name], dtype=np.uint8).reshape(-1, port.bits // 8)
        slots = np.zeros((len(sent), port.slot), dtype=np.uint8)
        slots[:, : port.bits // 8] = sent
        memory[port.name] = slots.reshape(frames, port.frame)
    return memory


def by_port(build, values, ports):
    return {port.name: values[port.value] for port in ports}


SIMULATED = [
    ("ports", (3, 2), Mode.NATIVE),
    *(
        pytest.param(kind, fold, mode, marks=[pytest.mark.slow, *([NEEDS_HEADERS] if mode is Mode.EXACT else [])])
        for kind, fold in (("ports", (1, 1)), ("ports", (2, 4)), ("ports", (6, 12)), ("cnn", None))
        for mode in Mode
    ),
]


@pytest.mark.parametrize(("kind", "fold", "mode"), SIMULATED)
def test_packed_bytes_through_the_simulation_are_the_reference(builds, kind, fold, mode):
    build = builds(kind, fold)
    design = driver_of(build).Design(build.path / "deploy")
    simulator = Simulator.of(build.path, build.top, build.graph, build.flow, mode)
    values = random_codes(build.graph, 4)
    expected = by_port(build, run(build.graph, values), build.flow.outputs)
    memory = through(simulator, design, by_port(build, values, build.flow.inputs))
    for port in design.outputs:
        np.testing.assert_array_equal(port.unpack(memory[port.name]), expected[port.name])


def test_every_flipped_bit_is_noticed(builds):
    """A bit of a lane changes a code or leaves its bounds, a bit above the lanes is refused: on the way back none is lost."""
    build = builds("ports", (2, 4))
    module = driver_of(build)
    design = module.Design(build.path / "deploy")
    values = random_codes(build.graph, 2)
    expected = by_port(build, run(build.graph, values), build.flow.outputs)
    noticed = set()
    for port in design.outputs:
        packed = port.pack(expected[port.name][1:])
        for bit in range(8 * port.frame):
            damaged = packed.copy()
            damaged[0, bit // 8] ^= 1 << bit % 8
            try:
                assert (port.unpack(damaged) != expected[port.name][1:]).any()
                noticed.add("code")
            except module.PortError as error:
                noticed.add(str(error).partition(": ")[2])
    assert noticed == {
        "code",
        "received a code outside its proven bounds; the transfer is damaged",
        "received bits above its lanes; the transfer is damaged",
    }


def test_the_examples_of_the_readme(builds):
    """The first beat of each port, as README.md has it, is what driver.py packs."""
    build = builds("ports", (3, 2))
    design = driver_of(build).Design(build.path / "deploy")
    text = (build.path / "deploy" / "README.md").read_text()
    for port in (*design.inputs, *design.outputs):
        part = text[text.index(f"### {port.name}\n") :]
        first = [int(code) for code in re.search(r"first integers are ([-\d, ]+)", part)[1].split(",")[: port.lanes]]
        frame = np.broadcast_to(port.lo, port.shape).reshape(1, -1).copy()
        frame[0, : len(first)] = first
        assert len(first) == port.lanes
        slot = port.pack(frame.reshape(1, *port.shape))[0, : port.slot].tobytes()
        assert re.search(r"memory  ([0-9a-f ]+)\n", part)[1] == slot[:16].hex(" ") + " ..." * (port.slot > 16)
        assert re.search(r"TDATA   0x([0-9a-f]+)\n", part)[1] == slot[: port.bits // 8][::-1].hex()
        (row,) = (line for line in text.splitlines() if line.startswith(f"| `{port.name}` | {port.beats} |"))
        sign = "signed" if port.signed else "unsigned"
        assert f"| {port.bits} | {port.lanes} x {port.width} | {sign}, {port.lo.min()} to {port.hi.max()} |" in row


def test_names_of_the_model_stand_in_json_alone(builds, tmp_path):
    harmless = builds("cnn", None)
    hostile = broadaxe.compile(with_hostile_names(), tmp_path / "build")
    texts = [
        {
            path.name: path.read_text().replace(build.top, "top")
            for path in (build.path / "deploy").iterdir()
            if path.suffix not in (".json", ".onnx")
        }
        for build in (harmless, hostile)
    ]
    assert texts[0] == texts[1]
    facts = (hostile.path / "deploy" / "ports.json").read_bytes()
    assert all(byte < 128 and (byte >= 32 or byte == 10) for byte in facts)
    design = driver_of(hostile).Design(hostile.path / "deploy")
    (name,) = {i.tensor for i in hostile.lowered.inputs}
    x = np.random.default_rng(0).uniform(0, 1, (2, 2, 6, 6)).astype(np.float32)
    codes = by_port(hostile, hostile.codes({name: x}), hostile.flow.inputs)
    np.testing.assert_array_equal(design.codes({name: x})["in0"], codes["in0"])


# the host's arithmetic


@pytest.mark.parametrize("mode", MODES)
def test_the_driver_quantizes_as_the_model_does(tmp_path, mode):
    """float32 operation by operation, ties included, for every rounding mode; scales for each channel."""
    net = Network(2, 4, 3, batch=1, seed=5)
    scale = np.array([0.25, 0.3]).reshape(1, 2, 1, 1)
    y = net.quant("x", scale, zero_point=1, bits=4, signed=0, mode=mode)
    build = broadaxe.compile(net.finish(net.depthwise(y, 2, (2, 2))), tmp_path / "build")
    design = driver_of(build).Design(build.path / "deploy")
    x = np.random.default_rng(0).integers(-40, 120, (50, 2, 4, 3)).astype(np.float32) * scale.astype(np.float32) / 8
    expected = by_port(build, build.codes(x), build.flow.inputs)
    assert len(np.unique(expected["in0"])) == 16
    np.testing.assert_array_equal(design.codes(x)["in0"], expected["in0"])


@pytest.mark.parametrize("kind", ["ports", "cnn"])
def test_the_driver_gives_the_reals_of_the_model(builds, kind):
    build = builds(kind, (3, 2) if kind == "ports" else None)
    design = driver_of(build).Design(build.path / "deploy")
    integers = run(build.graph, random_codes(build.graph, 5))
    found = design.reals(by_port(build, integers, build.flow.outputs))
    expected = build.host.reals(integers)
    assert list(found) == list(expected)
    for name, reals in expected.items():
        np.testing.assert_array_equal(found[name], reals)
        assert found[name].dtype == reals.dtype


def steps_of_every_kind():
    """Chains with each step there is, two channels."""
    one, half = Fraction(1), Fraction(1, 2)
    start = Affine((Fraction(1, 4), Fraction(-1, 3)), (Fraction(1, 8), Fraction(2)))
    yield from ((start, Function(kind)) for kind in KINDS if kind != "log")
    yield start, Clamp(Fraction(1, 4), None), Function("log")
    yield start, Clamp(Fraction(1, 4), Fraction(3)), Power(half)
    yield start, Leaky((Fraction(1, 10),))
    yield start, Normalize((one, -half), (half, one), (Fraction(3), Fraction(2)), (one, Fraction(-1)))
    yield from ((start, Snap((half, one), (Fraction(0), one), mode)) for mode in ROUNDINGS)
    yield from ((start, Combined(op, (Function("exp"),), (Clamp(one, None), start))) for op in COMBINED)


def subclasses(kind):
    return {kind, *(found for below in kind.__subclasses__() for found in subclasses(below))} - {Step}


def test_every_step_of_a_chain(builds):
    """As `broadaxe.host` computes them, to the bit."""
    module = driver_of(builds("cnn"))
    x = np.random.default_rng(0).integers(-60, 60, (2, 40)).astype(np.float64)
    seen = set()
    for chain in steps_of_every_kind():
        expected = x
        for step in chain:
            expected = step.approximate(expected)
            seen.add(type(step))
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(module._through([plain(step) for step in chain], x), expected)
    assert seen == subclasses(Step)


def test_float_parts_of_the_model_run_beside_the_accelerator(tmp_path):
    """A head that is more than one quantizer, and a Softmax behind the integers."""
    net = Network(6, batch=1, seed=2)
    y = net.quant(net.node("Mul", net.node("Sigmoid", "x"), [1.5]), 0.25, bits=3, signed=0)
    model = net.finish(net.node("Softmax", net.node("MatMul", y, net.weights(6, 3)), axis=1))
    build = broadaxe.compile(model, tmp_path / "build")
    assert {p.name for p in (build.path / "deploy").glob("*.onnx")} == {"head.onnx", "tail.onnx"}
    design = driver_of(build).Design(build.path / "deploy")
    x = np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32)
    codes = by_port(build, build.codes(x), build.flow.inputs)
    np.testing.assert_array_equal(design.codes(x)["in0"], codes["in0"])
    integers = run(build.graph, build.codes(x))
    (expected,), (found,) = (
        design.reals(by_port(build, integers, build.flow.outputs)).values(),
        build.host.reals(integers).values(),
    )
    np.testing.assert_array_equal(found, expected)
    quantized = design.sent[0].facts["quantized"]
    grid = design.sent[0].facts["scale"][0] * codes["in0"].astype(np.float32)
    np.testing.assert_array_equal(design.codes({quantized: grid})["in0"], codes["in0"])


def refusal(module, function, *arguments):
    with pytest.raises(module.PortError) as refused:
        function(*arguments)
    return str(refused.value)


def test_what_the_driver_refuses(builds):
    build = builds("ports", (3, 2))
    module = driver_of(build)
    design = module.Design(build.path / "deploy")
    port = next(p for p in design.inputs if p.width == 5)
    codes = np.zeros((2, *port.shape), dtype=np.int16)
    codes[1, 0, 7] = 32
    assert refusal(module, port.pack, codes) == (
        f"{port.name}: holds 32 at [1, 0, 7]; codes there lie in 0 to 31, clip or quantize the data"
    )
    codes[1, 0, 7] = 31
    assert port.pack(codes).shape == (2, port.frame)
    assert refusal(module, port.pack, codes[0]) == f"{port.name}: shape (2, 12); give (frames, 2, 12)"
    assert refusal(module, port.pack, codes * 1.0) == (
        f"{port.name}: codes are integers, not float64; quantize the data first"
    )
    everything = design.random_codes(2)
    assert refusal(module, design.frames_of, everything | {"in3": everything["in3"][:1]}) == (
        "codes: numbers of frames differ, {'in0': 2, 'in1': 2, 'in2': 2, 'in3': 1, 'in4': 2, 'in5': 2};"
        " give as many for each port"
    )
    del everything["in3"]
    assert refusal(module, design.frames_of, everything) == (
        "in3: is missing; give codes for in0, in1, in2, in3, in4, in5"
    )
    assert refusal(module, design.codes, np.zeros((1, 2, 12))) == (
        "data: one array for 6 inputs; give a dict with x, y, z, w, v, u"
    )
    data = {name: np.zeros((1, 2, 12)) for name in WIDTHS}
    assert refusal(module, design.codes, data | {"y": np.full((1, 2, 12), np.nan)}) == (
        "input: holds values that are not finite numbers; clean the data"
    )
    quantized = next(t.facts["quantized"] for t in design.sent if t.facts["source"] == "y")
    assert refusal(module, design.codes, data | {quantized: np.full((1, 2, 12), 0.3)}).startswith(
        f"{port.name}: element [0, 0, 0] lies 1.2 steps from zero, which is no whole number; give integers"
    )


def test_what_using_the_driver_leaves_is_ours(tmp_path):
    """Importing it, and working in deploy/work, does not keep compile from replacing the folder; other files do."""
    build = broadaxe.compile(small_cnn(), tmp_path / "build")
    for name in ("__pycache__/driver.cpython-311.pyc", "work/net_top_vivado/net_top.bit"):
        (build.path / "deploy" / name).parent.mkdir(parents=True, exist_ok=True)
        (build.path / "deploy" / name).touch()
    broadaxe.compile(small_cnn(), tmp_path / "build")
    (build.path / "deploy" / "notes.txt").touch()
    with pytest.raises(RequestError) as refused:
        broadaxe.compile(small_cnn(), tmp_path / "build")
    assert str(refused.value) == (
        f"{tmp_path / 'build'}: holds deploy/notes.txt, which compile did not write; move it or choose another output"
    )


# PYNQ


class Channel:
    """One direction of an AXI DMA without scatter-gather, as PYNQ drives it."""

    def __init__(self, board, port, sends):
        self.board, self.port, self.sends = board, port, sends
        self.pending = None

    def transfer(self, array, start=0, nbytes=0):
        assert self.idle, "DMA channel not idle"
        assert 0 < nbytes < 1 << 26
        assert start + nbytes <= array.nbytes
        assert not array.freed
        width = max(4, min(self.port.slot, 128))
        assert start % width == 0, "DMA does not support unaligned transfers"
        if self.sends:
            self.board.receive(self.port, array[start : start + nbytes])
        else:
            self.pending = array[start : start + nbytes]

    @property
    def idle(self):
        if self.pending is not None:
            self.board.step()
            frame = self.board.sent(self.port)
            if frame is not None:
                assert len(frame) == len(self.pending), "TLAST ends the transfer"
                self.pending[:] = frame
                self.pending = None
        return self.pending is None

    def wait(self):
        assert self.idle


class Board:
    """Block design and accelerator: slots lose their padding, the C simulation computes a frame, beats get slots again."""

    def __init__(self, build, design):
        self.simulator = Simulator.of(build.path, build.top, build.graph, build.flow, Mode.NATIVE)
        self.design, self.register, self.frames, self.freed = design, 0, 0, 0
        self.beats = {port.name: b"" for port in design.inputs}
        self.waiting = {port.name: [] for port in design.outputs}
        pairs = max(len(design.inputs), len(design.outputs))
        for at in range(pairs):
            channels = type("Dma", (), {})()
            if at < len(design.inputs):
                channels.sendchannel = Channel(self, design.inputs[at], True)
            if at < len(design.outputs):
                channels.recvchannel = Channel(self, design.outputs[at], False)
            setattr(self, f"dma{at}", channels)
        if design.control == "s_axilite":
            self.accelerator = self

    def write(self, offset, value):
        assert offset == 0
        self.register = value

    def read(self, offset):
        return 0x04 if not self.register & 1 else 0

    def receive(self, port, memory):
        self.beats[port.name] += np.array(memory).reshape(-1, port.slot)[:, : port.bits // 8].tobytes()

    def step(self):
        sizes = {port.name: port.beats * port.bits // 8 for port in self.design.inputs}
        running = self.design.control == "ap_ctrl_none" or self.register & 1
        if not running or any(len(self.beats[name]) < size for name, size in sizes.items()):
            return
        outputs = self.simulator.run_bytes(1, {name: self.beats[name][:size] for name, size in sizes.items()})
        self.beats = {name: self.beats[name][size:] for name, size in sizes.items()}
        for name, beats in outputs.items():
            self.waiting[name].append(beats)
        self.frames += 1
        if not self.register & 0x80:
            self.register = 0

    def sent(self, port):
        if not self.waiting[port.name]:
            return None
        beats = np.frombuffer(self.waiting[port.name].pop(0), dtype=np.uint8).reshape(-1, port.bits // 8)
        slots = np.zeros((len(beats), port.slot), dtype=np.uint8)
        slots[:, : port.bits // 8] = beats
        return slots.reshape(-1)


@pytest.fixture
def pynq(monkeypatch):
    """A module pynq that knows buffers; `opened` are those that are not freed."""

    class Buffer(np.ndarray):
        freed = False

        def freebuffer(self):
            assert not self.freed
            self.freed = True
            module.opened.remove(id(self))

    def allocate(shape, dtype):
        buffer = np.zeros(shape, dtype=dtype).view(Buffer)
        module.opened.append(id(buffer))
        return buffer

    module = types.ModuleType("pynq")
    module.allocate, module.opened = allocate, []
    monkeypatch.setitem(sys.modules, "pynq", module)
    return module


@pytest.mark.parametrize(
    ("options", "settings"),
    [({}, {}), ({"auto_restart": False}, {}), ({}, {"control": "ap_ctrl_none"}), ({}, {"tool": "vivado"})],
)
def test_pynq(builds, pynq, options, settings):
    """Frames in turns of three, through DMAs to the C simulation and back."""
    build = builds("cnn", None, **settings)
    module = driver_of(build)
    board = Board(build, module.Design(build.path / "deploy"))
    x = np.random.default_rng(0).uniform(0, 1, (7, 2, 6, 6)).astype(np.float32)
    expected = build.host.reals(run(build.graph, build.codes(x)))
    folder = build.path / "deploy"
    with module.Accelerator(overlay=board, folder=folder, frames=3, timeout=0.5, **options) as accelerator:
        assert pynq.opened
        found = accelerator(x)
        assert list(found) == list(expected)
        for name, reals in expected.items():
            np.testing.assert_array_equal(found[name], reals)
        assert board.frames == 7
        assert accelerator.measure(4)["frames"] == 4
    assert not pynq.opened
    assert board.register == 0
    assert refusal(module, accelerator.run, board.design.random_codes(1)) == "accelerator: is closed; make another"


def test_pynq_with_a_design_that_never_answers(builds, pynq):
    build = builds("ports", (3, 2))
    module = driver_of(build)
    board = Board(build, module.Design(build.path / "deploy"))
    board.write = lambda offset, value: None
    codes = board.design.random_codes(2)
    with module.Accelerator(overlay=board, folder=build.path / "deploy", timeout=0.05) as accelerator:
        assert refusal(module, accelerator.run, codes) == (
            "out0: its DMA is not done after 0.05 s; check the clock and that the bitstream is this build's"
        )
    assert not pynq.opened
