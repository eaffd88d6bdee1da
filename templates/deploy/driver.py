"""Drives the accelerator of this build folder from Python: reals to codes, codes to beats in memory, and back.

Everything about this build stands in ports.json beside this file, everything about the layout in README.md. Packing needs
numpy alone; `Accelerator` runs on a Zynq board and imports pynq (2.6 or newer) when it is made:

    with Accelerator("design.bit") as accelerator:
        results = accelerator(images)              # the model's outputs by name
        codes = accelerator.run({"in0": integers})  # integers in, integers out
        print(accelerator.measure(1000))

As a program it times random codes: python driver.py design.bit --frames 1000
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
OFF_GRID = 1 / 256
"""How far, in steps, a real may lie from the grid of an input whose quantizer runs elsewhere."""


class PortError(ValueError):
    """Data that this accelerator does not take, or a beat that it cannot have sent."""


class Port:
    """One AXI-Stream port; `facts` is its entry in ports.json.

    A frame is `beats` beats. Beat t holds elements t*lanes to (t + 1)*lanes - 1 of the stream, the first in the lowest bits,
    each `width` bits wide. In memory a beat takes `slot` bytes, little-endian; bits above its lanes are 0.
    """

    def __init__(self, facts):
        self.name = facts["name"]
        self.width, self.signed = facts["width"], facts["signed"]
        self.lanes, self.beats, self.bits = facts["lanes"], facts["beats"], facts["bits"]
        self.slot, self.frame, self.stride = facts["slot"], facts["frame"], facts["stride"]
        self.shape = tuple(facts["shape"])
        self.lo = np.array(facts["lo"], dtype=np.int64)
        self.hi = np.array(facts["hi"], dtype=np.int64)

    @property
    def _whole_bytes(self):
        """The little-endian numpy type of an element that has one."""
        return np.dtype(f"<{'i' if self.signed else 'u'}{self.width // 8}") if self.width in (8, 16, 32) else None

    def checked(self, codes):
        """Integers in the order of the stream, shape (frames, *shape), each inside its channel's bounds."""
        codes = np.asarray(codes)
        if codes.dtype.kind not in "iu":
            raise PortError(f"{self.name}: codes are integers, not {codes.dtype}; quantize the data first")
        if codes.shape[1:] != self.shape or codes.ndim == 0 or len(codes) == 0:
            raise PortError(f"{self.name}: shape {codes.shape}; give (frames, {', '.join(map(str, self.shape))})")
        wrong = (codes < self.lo) | (codes > self.hi)
        if wrong.any():
            at = tuple(np.argwhere(wrong)[0])
            channel = at[-1] if self.lo.size > 1 else 0
            raise PortError(
                f"{self.name}: holds {codes[at]} at {list(map(int, at))}; codes there lie in {self.lo[channel]} to"
                f" {self.hi[channel]}, clip or quantize the data"
            )
        return codes.astype(np.int64)

    def pack(self, codes):
        """Frames as they lie in memory, uint8, shape (frames, frame)."""
        codes = self.checked(codes).reshape(-1, self.beats, self.lanes)
        packed = np.zeros((len(codes), self.beats, self.slot), dtype=np.uint8)
        used = -(-self.lanes * self.width // 8)
        for frame in range(len(codes)):  # one at a time: bits take eight times the memory of bytes
            packed[frame, :, :used] = self._beats_of(codes[frame])
        return packed.reshape(len(codes), self.frame)

    def _beats_of(self, codes):
        whole = self._whole_bytes
        if whole is not None:
            return codes.astype(whole).view(np.uint8).reshape(self.beats, -1)
        bits = (codes[..., None] >> np.arange(self.width)) & 1
        return np.packbits(bits.astype(np.uint8).reshape(self.beats, -1), axis=1, bitorder="little")

    def unpack(self, memory):
        """Codes, int64, shape (frames, *shape), of frames in memory, shape (frames, frame).

        Raises PortError where a bit above the lanes, or a code, is none that the accelerator sends.
        """
        memory = np.ascontiguousarray(memory, dtype=np.uint8)
        if memory.shape[1:] != (self.frame,):
            raise PortError(f"{self.name}: memory of shape {memory.shape}; give (frames, {self.frame})")
        codes = np.empty((len(memory), self.beats, self.lanes), dtype=np.int64)
        for frame in range(len(memory)):
            codes[frame] = self._codes_of(memory[frame].reshape(self.beats, self.slot))
        codes = codes.reshape(len(memory), *self.shape)
        if ((codes < self.lo) | (codes > self.hi)).any():
            raise PortError(f"{self.name}: received a code outside its proven bounds; the transfer is damaged")
        return codes

    def _codes_of(self, beats):
        used = self.lanes * self.width
        whole = self._whole_bytes
        if whole is not None:
            if beats[:, used // 8 :].any():
                raise PortError(f"{self.name}: received bits above its lanes; the transfer is damaged")
            return np.ascontiguousarray(beats[:, : used // 8]).view(whole).reshape(self.beats, self.lanes)
        bits = np.unpackbits(beats, axis=1, bitorder="little")
        if bits[:, used:].any():
            raise PortError(f"{self.name}: received bits above its lanes; the transfer is damaged")
        bits = bits[:, :used].reshape(self.beats, self.lanes, self.width).astype(np.int64)
        codes = bits @ (np.int64(1) << np.arange(self.width, dtype=np.int64))
        return codes - ((codes >> (self.width - 1)) << self.width) if self.signed else codes


class Tensor:
    """A tensor of the model that a port carries; `facts` is its entry in ports.json."""

    def __init__(self, facts):
        self.facts, self.port, self.name = facts, facts["port"], facts["tensor"]
        self.shape = tuple(facts["tensor_shape"])
        self.stream_shape = tuple(facts["shape"])
        size = int(np.prod(self.shape))
        self.index = np.arange(size)
        if facts["order"] == "channels-last":
            height, width, channels = self.stream_shape
            self.index = np.arange(size).reshape(height, width, channels).transpose(2, 0, 1).reshape(-1)
        elif facts["order"] == "index":
            self.index = np.array(facts["index"])

    def to_stream(self, x):
        """Elements where the stream has them, float64, shape (frames, *stream shape)."""
        stream = np.zeros((len(x), int(np.prod(self.stream_shape))), dtype=np.float64)
        stream[:, self.index] = x.reshape(len(x), -1)
        return stream.reshape(len(x), *self.stream_shape)

    def codes(self, x):
        """The integers that stand for reals on the grid, in the order of the stream."""
        x = np.asarray(x)
        if x.dtype.kind not in "fiub" or x.shape[1:] != self.shape or x.ndim == 0 or len(x) == 0:
            wanted = ", ".join(map(str, self.shape))
            raise PortError(f"{self.port}: {x.dtype} of shape {x.shape}; give numbers of shape (frames, {wanted})")
        steps = (self.to_stream(x) - np.array(self.facts["shift"])) / np.array(self.facts["scale"])
        codes = np.rint(steps)
        far = ~(np.abs(steps - codes) <= (OFF_GRID if self.facts["quantized"] is not None else 0))
        if far.any():
            at = tuple(np.argwhere(far)[0])
            raise PortError(
                f"{self.port}: element {list(map(int, at))} lies {steps[at]:g} steps from zero, which is no whole number;"
                " give integers, or reals that the model's quantizer has put on its grid"
            )
        return codes.astype(np.int64)

    def reals(self, codes):
        """Reals of the model's tensor for integers in the order of the stream."""
        x = np.asarray(codes, dtype=np.float64).reshape(-1, self.stream_shape[-1]).T
        with np.errstate(all="ignore"):
            x = _through(self.facts["chain"], x)
        placed = x.T.reshape(len(codes), -1)[:, self.index].reshape(len(codes), *self.shape)
        kind = np.dtype(self.facts["kind"])
        return np.rint(placed).astype(kind) if kind.kind in "iu" else placed.astype(kind)


# the exact chain behind the last integers, in float64; x has a row for each channel


def _through(chain, x):
    for step in chain:
        x = _STEPS[step["is"]](step, x)
    return x


def _column(values):
    return np.array([float(Fraction(v)) for v in values])[:, None]


def _affine(step, x):
    return _column(step["scale"]) * x + _column(step["shift"])


def _clamp(step, x):
    lo = -np.inf if step["lo"] is None else float(Fraction(step["lo"]))
    hi = np.inf if step["hi"] is None else float(Fraction(step["hi"]))
    return np.clip(x, lo, hi)


def _normalize(step, x):
    gain = _column(step["gamma"]) / np.sqrt(_column(step["variance"]))
    return gain * (x - _column(step["mean"])) + _column(step["beta"])


def _snap(step, x):
    """One rounding, no clamp."""
    scale, zero_point = _column(step["scale"]), _column(step["zero_point"])
    return scale * (_rounded(x / scale + zero_point, step["rounding"]) - zero_point)


def _rounded(x, rounding):
    size = np.abs(x)
    if rounding in ("FLOOR", "CEIL", "ROUND"):
        return {"FLOOR": np.floor, "CEIL": np.ceil, "ROUND": np.rint}[rounding](x)
    if rounding in ("UP", "DOWN"):
        size = np.ceil(size) if rounding == "UP" else np.floor(size)
    elif rounding == "HALF_UP":
        size = np.floor(size) + (size - np.floor(size) >= 0.5)
    else:
        size = np.ceil(size) - (np.ceil(size) - size >= 0.5)
    return np.copysign(size, x)


def _logistic(x):
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1 + small)


_FUNCTIONS = {
    "exp": np.exp,
    "log": np.log,
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
    "sigmoid": _logistic,
    "tanh": np.tanh,
    "softplus": lambda x: np.logaddexp(0, x),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "elu": lambda x: np.where(x >= 0, x, np.expm1(np.minimum(x, 0))),
    "sign": np.sign,
    "hardswish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "gelu": lambda x: x / 2 * np.vectorize(math.erfc, otypes=[np.float64])(-x / math.sqrt(2)),
    "gelu_tanh": lambda x: x * _logistic(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)),
}
_COMBINED = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.true_divide,
    "Min": np.minimum,
    "Max": np.maximum,
}
_STEPS = {
    "affine": _affine,
    "clamp": _clamp,
    "normalize": _normalize,
    "snap": _snap,
    "leaky": lambda step, x: np.where(x >= 0, x, _column(step["slope"]) * x),
    "power": lambda step, x: np.power(x, float(Fraction(step["exponent"]))),
    "function": lambda step, x: _FUNCTIONS[step["kind"]](x),
    "combined": lambda step, x: _COMBINED[step["op"]](_through(step["left"], x), _through(step["right"], x)),
}


def _quantize(quantizer, x):
    """The model's first quantizer, float32 operation by operation as QONNX runs it; reals on its grid."""
    x = np.asarray(x, dtype=np.float32)
    if not np.isfinite(x).all():
        raise PortError("input: holds values that are not finite numbers; clean the data")
    scale = np.array(quantizer["scale"], dtype=np.float32)
    zero_point = np.array(quantizer["zero_point"], dtype=np.float32)
    q = x / scale + zero_point if quantizer["scaled"] else x
    if quantizer["bipolar"]:
        q = np.where(q < 0, np.float32(-1), np.float32(1))
    else:
        lo, hi = (np.array(quantizer[end], dtype=np.float32) for end in ("lo", "hi"))
        q = _ROUNDINGS[quantizer["mode"]](np.maximum(np.minimum(q, hi), lo))
    return (q - zero_point) * scale


_HALF = np.float32(0.5)
_ROUNDINGS = {
    "ROUND": np.rint,
    "HALF_EVEN": np.rint,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": lambda q: np.sign(q) * np.ceil(np.abs(q)),
    "DOWN": lambda q: np.sign(q) * np.floor(np.abs(q)),
    "HALF_UP": lambda q: np.sign(q) * np.floor(np.abs(q) + _HALF),
    "HALF_DOWN": lambda q: np.sign(q) * np.ceil(np.abs(q) - _HALF),
}


class Design:
    """The host's side of the accelerator: its ports, and what the model does before the first and behind the last integer."""

    def __init__(self, folder=HERE):
        self.folder = Path(folder)
        self._take(json.loads((self.folder / "ports.json").read_text(encoding="utf-8")))

    def _take(self, facts):
        self.top, self.control, self.parameters = facts["top"], facts["control"], facts.get("parameters")
        self.inputs = [Port(port) for port in facts["inputs"]]
        self.outputs = [Port(port) for port in facts["outputs"]]
        self.sent = [Tensor(tensor) for tensor in facts["sent"]]
        self.received = [Tensor(tensor) for tensor in facts["received"]]
        self.quantizers, self.results = facts["quantizers"], facts["outputs_of_model"]
        self.head, self.tail = facts["head"], facts["tail"]

    def codes(self, data):
        """Codes by port for arrays by model input, batch first; one array stands for a single input.

        Instead of a model input its quantized tensor may be given, as reals on the quantizer's grid.
        """
        names = list(dict.fromkeys(tensor.facts["source"] for tensor in self.sent))
        if not isinstance(data, dict):
            if len(names) != 1:
                raise PortError(f"data: one array for {len(names)} inputs; give a dict with {', '.join(names)}")
            data = {names[0]: data}
        data = {name: np.asarray(x) for name, x in data.items()}
        open_ends = [t.facts["quantized"] for t in self.sent if t.facts["quantized"] is not None]
        if self.head and not all(name in data or name in self.quantizers for name in open_ends):
            data = {**data, **_run_onnx(self.folder / self.head, data)}
        return {tensor.port: self._codes_of(tensor, data) for tensor in self.sent}

    def _codes_of(self, tensor, data):
        quantized, source = tensor.facts["quantized"], tensor.facts["source"]
        if quantized in data:
            return tensor.codes(data[quantized])
        if source not in data:
            raise PortError(f"{tensor.port}: {json.dumps(source)} is missing; give its data")
        x = data[source]
        if quantized is not None and x.shape[1:] == tensor.shape:
            x = _quantize(self.quantizers[quantized], x)
        return tensor.codes(x)

    def reals(self, codes):
        """The model's outputs for codes by port; where the model ends in float operators, tail.onnx computes them."""
        found = {tensor.name: tensor.reals(codes[tensor.port]) for tensor in self.received}
        if self.tail:
            found = {**found, **_run_onnx(self.folder / self.tail, found)}
        return {name: found[name] for name in self.results}

    def loaded(self, path):
        """The words of a file that `broadaxe load` wrote, and the design with its model's meaning of integers.

        Refused is every file that the .json beside it does not vouch for, or that was made for another design: nothing here
        asks whether weights keep to their budgets, `broadaxe load` did.
        """
        path = Path(path)
        if self.parameters is None:
            raise PortError(f"{path}: this design's weights are fixed; compile it with weights: runtime")
        try:
            content = path.read_bytes()
            beside = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            vouched, facts = beside["sha256"], beside["ports"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PortError(f"{path}: it or the .json beside it cannot be read ({error}); run broadaxe load") from None
        if hashlib.sha256(content).hexdigest() != vouched:
            raise PortError(
                f"{path}: is not what {path.with_suffix('.json').name} vouches for; run broadaxe load again"
            )
        if facts.get("parameters") != self.parameters or len(content) != 8 * self.parameters["words"]:
            raise PortError(f"{path}: was made for another design; run broadaxe load with this build")
        if facts["head"] or facts["tail"]:
            raise PortError(f"{path}: its model has float operators around its integers, which a load does not replace")
        other = Design.__new__(Design)
        other.folder = self.folder
        other._take(facts)
        return np.frombuffer(content, dtype=np.uint8), other

    def random_codes(self, frames, seed=0):
        """Seeded codes inside the bounds, by port."""
        rng = np.random.default_rng(seed)
        return {p.name: rng.integers(p.lo, p.hi + 1, size=(frames, *p.shape)) for p in self.inputs}

    def frames_of(self, codes):
        """How many frames codes by port hold, once every port's are checked."""
        missing = [port.name for port in self.inputs if port.name not in codes]
        if missing:
            raise PortError(f"{missing[0]}: is missing; give codes for {', '.join(p.name for p in self.inputs)}")
        counts = {port.name: len(port.checked(codes[port.name])) for port in self.inputs}
        if len(set(counts.values())) > 1:
            raise PortError(f"codes: numbers of frames differ, {counts}; give as many for each port")
        return next(iter(counts.values()))


def _run_onnx(model, data):
    """Float operators around the integers: a part of the user's model, as it stands there."""
    try:
        import onnxruntime
    except ImportError:
        raise PortError(
            f"{model.name}: this part of the model runs in onnxruntime, which is not installed; pip install onnxruntime"
        ) from None
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1  # keeps the order of a sum
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    kinds = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}
    feeds = {}
    for entry in session.get_inputs():
        if entry.name not in data:
            raise PortError(f"{model.name}: {json.dumps(entry.name)} is missing; give its data")
        x = np.asarray(data[entry.name])
        feeds[entry.name] = x.astype(kinds[entry.type]) if entry.type in kinds else x
    names = [entry.name for entry in session.get_outputs()]
    results = session.run(names, feeds)
    return {name: results[at] for at, name in enumerate(names)}


class Accelerator:
    """The accelerator on a Zynq board under PYNQ: one AXI DMA for each pair of ports, as block_design.tcl connects them.

    Args:
        bitstream: the .bit file, its .hwh beside it.
        overlay: a pynq.Overlay that is loaded already, instead of `bitstream`.
        folder: where ports.json is.
        frames: that the buffers hold; more are sent in turns.
        auto_restart: the accelerator starts itself for every frame; else the driver starts each. Not with ap_ctrl_none, nor
            where parameters can be loaded: which frame does is decided when it starts.
        timeout: seconds for a frame.
    """

    START, IDLE, AUTO_RESTART = 0x01, 0x04, 0x80  # of the control register at offset 0
    LOAD = 0x10  # the register whose bit 0 has a frame load parameters
    LARGEST = (1 << 26) - 1  # bytes of a transfer: c_sg_length_width is 26

    def __init__(self, bitstream=None, *, overlay=None, folder=HERE, frames=16, auto_restart=True, timeout=10.0):
        import pynq

        self.design = Design(folder)
        for port in (*self.design.inputs, *self.design.outputs):
            if port.frame > self.LARGEST:
                raise PortError(f"{port.name}: a frame has {port.frame} bytes; a transfer has at most {self.LARGEST}")
        largest = max(port.frame for port in self.design.inputs)
        self.frames = max(1, min(frames, self.LARGEST // largest))
        self.timeout = timeout
        self._overlay = overlay if overlay is not None else pynq.Overlay(str(bitstream))
        self._buffers, self._control, self._waiting = {}, None, None
        auto_restart = auto_restart and self.design.parameters is None
        try:
            for at, port in enumerate(self.design.inputs):
                buffer = pynq.allocate(shape=(self.frames * port.frame,), dtype=np.uint8)
                self._buffers[port.name] = (buffer, getattr(self._overlay, f"dma{at}").sendchannel)
            for at, port in enumerate(self.design.outputs):
                buffer = pynq.allocate(shape=(self.frames * port.stride,), dtype=np.uint8)
                self._buffers[port.name] = (buffer, getattr(self._overlay, f"dma{at}").recvchannel)
            if self.design.parameters is not None:
                facts = self.design.parameters
                if 8 * facts["words"] > self.LARGEST:
                    raise PortError(f"parameters: {facts['words']} words; a transfer has at most {self.LARGEST} bytes")
                buffer = pynq.allocate(shape=(8 * facts["words"],), dtype=np.uint8)
                self._buffers["parameters"] = (buffer, getattr(self._overlay, f"dma{facts['dma']}").sendchannel)
            self._each = self.design.control != "ap_ctrl_none" and not auto_restart
            if self.design.control != "ap_ctrl_none":
                self._control = self._overlay.accelerator
                if auto_restart:
                    self._control.write(0, self.START | self.AUTO_RESTART)
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        """Stop the accelerator behind its current frame and free the buffers."""
        if self._control is not None:
            self._control.write(0, 0)
            self._control = None
        for buffer, _ in self._buffers.values():
            buffer.freebuffer()
        self._buffers = {}

    def __call__(self, data):
        """The model's outputs by name, for arrays by model input, batch first."""
        return self.design.reals(self.run(self.design.codes(data)))

    def load(self, path):
        """Load the parameters in a file that `broadaxe load` wrote, with the next frame; PortError for any other file."""
        if not self._buffers:
            raise PortError("accelerator: is closed; make another")
        self._waiting, self.design = self.design.loaded(path)

    def run(self, codes):
        """Codes by output port for codes by input port, shape (frames, *shape of the stream)."""
        count = self.design.frames_of(codes)
        parts = []
        for at in range(0, count, self.frames):
            memory = {port.name: port.pack(codes[port.name][at : at + self.frames]) for port in self.design.inputs}
            received = self.transfer(memory)
            parts.append({port.name: port.unpack(received[port.name]) for port in self.design.outputs})
        return {port.name: np.concatenate([part[port.name] for part in parts]) for port in self.design.outputs}

    def transfer(self, memory):
        """Frames in memory by output port for those by input port, shape (frames, frame); at most `self.frames`."""
        if not self._buffers:
            raise PortError("accelerator: is closed; make another")
        count = len(next(iter(memory.values())))
        for port in self.design.inputs:
            self._buffers[port.name][0][: count * port.frame] = memory[port.name].reshape(-1)
        for frame in range(count):
            # receivers first: a DMA that is not waiting would stall the accelerator, never lose a beat
            for port in self.design.outputs:
                buffer, channel = self._buffers[port.name]
                channel.transfer(buffer, start=frame * port.stride, nbytes=port.frame)
            if self._waiting is not None:
                buffer, channel = self._buffers["parameters"]
                buffer[:] = self._waiting
                channel.transfer(buffer, start=0, nbytes=len(self._waiting))
                self._control.write(self.LOAD, 1)
            if self._each:
                self._control.write(0, self.START)
            if frame == 0:  # all frames in one transfer; TLAST of an input is not looked at
                for port in self.design.inputs:
                    buffer, channel = self._buffers[port.name]
                    channel.transfer(buffer, start=0, nbytes=count * port.frame)
            for port in self.design.outputs:
                self._wait(port.name)
            if self._each:
                self._until(lambda: self._control.read(0) & self.IDLE, "accelerator: is not idle behind a frame")
            if self._waiting is not None:
                self._wait("parameters")
                self._control.write(self.LOAD, 0)
                self._waiting = None
        for port in self.design.inputs:
            self._wait(port.name)
        return {
            port.name: np.array(self._buffers[port.name][0][: count * port.stride]).reshape(count, port.stride)[
                :, : port.frame
            ]
            for port in self.design.outputs
        }

    def _wait(self, name):
        channel = self._buffers[name][1]
        self._until(lambda: channel.idle, f"{name}: its DMA is not done")
        channel.wait()  # reports errors of the DMA, and makes what it wrote visible to the processor

    def _until(self, done, what):
        end = time.monotonic() + self.timeout
        while not done():
            if time.monotonic() > end:
                raise PortError(
                    f"{what} after {self.timeout:g} s; check the clock and that the bitstream is this build's"
                )

    def measure(self, frames=1000, seed=0):
        """Seconds to pack, transfer and unpack `frames` random frames, and frames a second of the transfers alone."""
        codes = self.design.random_codes(min(frames, self.frames), seed)
        spent = {"pack": 0.0, "transfer": 0.0, "unpack": 0.0}
        done = 0
        while done < frames:
            count = min(self.frames, frames - done)
            t0 = time.perf_counter()
            memory = {port.name: port.pack(codes[port.name][:count]) for port in self.design.inputs}
            t1 = time.perf_counter()
            received = self.transfer(memory)
            t2 = time.perf_counter()
            for port in self.design.outputs:
                port.unpack(received[port.name])
            t3 = time.perf_counter()
            spent = {
                "pack": spent["pack"] + t1 - t0,
                "transfer": spent["transfer"] + t2 - t1,
                "unpack": spent["unpack"] + t3 - t2,
            }
            done += count
        return {"frames": frames, **spent, "frames_per_second": frames / spent["transfer"]}


def main():
    parser = argparse.ArgumentParser(description="Time random codes through the accelerator.")
    parser.add_argument("bitstream")
    parser.add_argument("--frames", type=int, default=1000)
    arguments = parser.parse_args()
    with Accelerator(arguments.bitstream) as accelerator:
        for name, value in accelerator.measure(arguments.frames).items():
            print(f"{name}: {value:g}")


if __name__ == "__main__":
    main()
