"""What every network has to pass, cheapest first; C++ is `simulate`'s, in batches.

A network that the compiler refuses with `UnsupportedModelError` is refused, not wrong. Everything else that goes wrong is a
`CheckError` with a class: the name of the check that failed, or where an exception came from.
"""

from __future__ import annotations

import importlib.util
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

import broadaxe
from broadaxe.build import Build, random_codes
from broadaxe.chain import Affine, Chain, Clamp
from broadaxe.errors import UnsupportedModelError
from broadaxe.host import real, rounding
from broadaxe.ir import Graph
from broadaxe.prove import checker
from broadaxe.reference import run
from broadaxe.render import OnnxRun
from broadaxe.segments import compare_segments

from . import oracle
from .draft import Case
from .oracle import Exact

FRAMES = 8
Codes = dict[str, np.ndarray]


class CheckError(Exception):
    """A check that failed. `kind` stays the same while the network shrinks; `detail` says what was seen."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail = kind, detail


@dataclass
class Outcome:
    """What came of one network.

    Attributes:
        refused: (operator, message without its node) of the refusal, or None.
        operators: nodes of the model, where it was accepted.
        judged, unjudged: tensors compared with the oracle, and those that it has no value for.
        build: the compiled design, folder included, where it was accepted.
    """

    refused: tuple[str, str] | None = None
    operators: Counter[str] = field(default_factory=Counter)
    judged: int = 0
    unjudged: int = 0
    build: Build | None = None


@contextmanager
def stage(kind: str) -> Iterator[None]:
    """An exception inside becomes `CheckError`; its class names the function of ours that raised it."""
    try:
        yield
    except CheckError:
        raise
    except Exception as error:
        if kind == "compile" and isinstance(error, UnsupportedModelError):
            raise
        ours = [f for f in traceback.extract_tb(error.__traceback__) if "broadaxe" in Path(f.filename).parts]
        place = f"{Path(ours[-1].filename).name}:{ours[-1].name}" if ours else "outside"
        line = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        raise CheckError(f"{kind}, {type(error).__name__} in {place}", line) from error


def check(case: Case, folder: Path, frames: int = FRAMES) -> Outcome:
    """Compile a network into `folder` and run everything but C++ on it."""
    try:
        with stage("compile"):
            build = broadaxe.compile(case.model, folder, inputs=case.types)
    except UnsupportedModelError as error:
        return Outcome(refused=_reason(str(error)))
    outcome = Outcome(operators=Counter(node.op_type for node in case.model.graph.node), build=build)
    with stage("graph"):
        build.graph.check("fuzz")
    with stage("certificate"):
        checker.check(build.path)
    with stage("integers"):
        integers(build)
        _witnesses(build.graph)
    feeds = data(case, frames)
    feeds = {name: x for name, x in feeds.items() if name in build.host.inputs}
    with stage("host"):
        codes = build.host.codes(feeds)
        reals = build.host.reals(run(build.graph, codes))
    with stage("driver"):
        _drives(build, feeds, codes, reals)
    with stage("oracle"):
        judge(case, build, feeds, codes, outcome)
    with stage("float32"):
        report = compare_segments(build, feeds, codes)
    for line in (*report.unexplained, *report.beyond):
        raise CheckError("float32", line)
    return outcome


def _drives(build: Build, feeds: Codes, codes: Codes, reals: Codes) -> None:
    """deploy/driver.py of the build makes the same codes, packs and unpacks them, and makes the same reals."""
    spec = importlib.util.spec_from_file_location("driver", build.path / "deploy" / "driver.py")
    assert spec is not None
    assert spec.loader is not None
    driver = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(driver)
    design = driver.Design(build.path / "deploy")
    found = design.codes(feeds)
    for port, facts in zip(build.flow.inputs, design.inputs, strict=True):
        _same(found[port.name], codes[port.value], f"driver, {port.name}")
        _same(facts.unpack(facts.pack(found[port.name])), codes[port.value], f"driver, {port.name} in memory")
    outputs = run(build.graph, codes)
    made = design.reals({port.name: outputs[port.value] for port in build.flow.outputs})
    for name, expected in reals.items():
        _same(made[name], expected, "driver, reals")


def _same(found: np.ndarray, expected: np.ndarray, kind: str) -> None:
    if found.shape != expected.shape or not np.array_equal(found, expected, equal_nan=expected.dtype.kind == "f"):
        raise CheckError(kind, "differs from broadaxe.host")


def passes(case: Case) -> Outcome:
    """`check` in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        return check(case, Path(folder) / "build")


def _reason(message: str) -> tuple[str, str]:
    where, _, why = message.partition(": ")
    operator = where.rpartition("(")[2].rstrip(")")
    if why.startswith("operator "):
        why = why.partition(";")[0]
    return operator, "".join("#" if ch.isdigit() else ch for ch in why)


# inputs


def data(case: Case, frames: int) -> dict[str, np.ndarray]:
    """Real inputs of a model: zeros, numbers on and off a coarse grid, small and large ones; integers over their range."""
    rng = np.random.default_rng([case.seed, case.index, 1])
    feeds = {}
    for info in case.model.graph.input:
        kind = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        shape = (frames, *(d.dim_value for d in info.type.tensor_type.shape.dim[1:]))
        if info.name in case.types:
            text = case.types[info.name]
            bits, signed = int(text.partition("int")[2]), not text.startswith("u")
            lo = -(2 ** (bits - 1)) if signed else 0
            x = rng.integers(lo, lo + 2**bits, shape)
            x[0], x[-1] = lo, lo + 2**bits - 1
        else:
            x = rng.normal(size=shape)
            x[0] = 0
            x[1::3] = np.round(x[1::3] * 8) / 8
            x[2::3] *= 4
        feeds[info.name] = x.astype(kind)
    return feeds


def extremes(graph: Graph, count: int, seed: int = 1) -> Codes:
    """Random integers, both ends of all channels, and each channel at an end of its own."""
    rng = np.random.default_rng(seed)
    inputs = random_codes(graph, count, seed)
    for name, x in inputs.items():
        lo, hi = graph.values[name].ends()
        ends = [np.where(rng.random(x.shape[1:][-1:]) < 0.5, lo, hi) for _ in range(count // 2)]
        inputs[name] = np.concatenate([x, [np.broadcast_to(e, x.shape[1:]) for e in ends]]).astype(x.dtype)
    return inputs


# integers


def integers(build: Build) -> None:
    """Reference and integer ONNX agree on every value, and every value lies inside its bounds."""
    inputs = extremes(build.graph, FRAMES)
    ours = run(build.graph, inputs, every_value=True)
    for name, value in build.graph.values.items():
        x = ours.get(name, inputs.get(name))
        if x is None:
            continue
        lo, hi = value.ends()
        if (x < lo).any() or (x > hi).any():
            where = tuple(np.argwhere((x < lo) | (x > hi))[0])
            raise CheckError("bounds", f"{name}{where}: {x[where]} is outside {value.bounds[where[-1]]}")
    for name, theirs in OnnxRun(build.graph)(inputs).items():
        if not np.array_equal(ours[name], theirs):
            where = tuple(np.argwhere(ours[name] != theirs)[0])
            raise CheckError("integer ONNX", f"{name}{where}: reference {ours[name][where]}, ONNX {theirs[where]}")


def _witnesses(graph: Graph) -> None:
    """The bounds that an operator claims to attain are attained by its witnesses, in every channel."""
    for node in graph.nodes:
        out, reads = graph.values[node.output], graph.inputs_of(node)
        for channel in range(min(out.channels, 16)):
            found = node.op.witnesses(reads, channel)
            if found is None:
                break
            for end, inputs in zip(("lo", "hi"), found, strict=True):
                y = node.op.reference(*(np.broadcast_to(x, v.shape)[None] for x, v in zip(inputs, reads, strict=True)))
                column = y.reshape(-1, out.channels)[:, channel]
                wanted = getattr(out.bounds[channel], end)
                if wanted not in column.tolist():
                    raise CheckError(
                        "witness", f"{node.name} channel {channel}: {end} is {wanted}, attained {column.tolist()[:4]}"
                    )


# the oracle


def judge(case: Case, build: Build, feeds: Codes, codes: Codes, outcome: Outcome) -> None:
    """Every tensor of the model that has an integer value stands for exactly the oracle's numbers."""
    expected = oracle.evaluate(case.model, feeds, list(case.types))
    ours = run(build.graph, codes, every_value=True) | codes
    ends = {o.tensor for o in build.lowered.outputs}
    for tensor in dict.fromkeys((*build.lowered.tensors, *build.lowered.outputs)):
        known = expected.get(tensor.tensor)
        if known is None:
            outcome.unjudged += 1
            continue
        codes_here = ours[tensor.value]
        mine = exactly(tensor.chain, codes_here)
        if mine is None and tensor.tensor not in ends:
            continue
        outcome.judged += 1
        if mine is None:  # only the host's floats stand for it
            _close(tensor, codes_here, known)
            continue
        flat = mine.num.reshape(len(codes_here), -1)[:, tensor.index.reshape(-1)]
        picked = Exact(flat.reshape(len(codes_here), *tensor.index.shape[1:]), mine.den)
        if picked.shape != known.shape:
            raise CheckError("oracle shape", f"{tensor.tensor}: {picked.shape}, the oracle has {known.shape}")
        wrong = np.asarray(picked.num * known.den != known.num * picked.den, dtype=bool)
        if wrong.any():
            where = tuple(int(i) for i in np.argwhere(wrong)[0])
            values = (float(Fraction(int(t.num[where]), t.den)) for t in (picked, known))
            raise CheckError("oracle", "{}{}: we have {}, the oracle has {}".format(tensor.tensor, where, *values))


def _close(tensor: Any, integers: np.ndarray, known: Exact) -> None:
    mine, theirs = real(tensor, integers).astype(np.float64), known.floats()
    limit = rounding(tensor, integers) + 1e-12 * np.abs(theirs)
    wrong = ~(np.abs(mine - theirs) <= limit)
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise CheckError("oracle, reals", f"{tensor.tensor}{where}: {mine[where]}, the oracle has {theirs[where]}")


def exactly(chain: Chain, integers: np.ndarray) -> Exact | None:
    """What a chain of rational steps makes of integers (batch, ..., channels); None where a step is of another kind."""
    x = Exact(integers.astype(object))
    for step in chain:
        match step:
            case Affine(scale, shift):
                x = x * _row(scale) + _row(shift)
            case Clamp(lo, hi):
                x = x if lo is None else x.most(_row((lo,)))
                x = x if hi is None else x.least(_row((hi,)))
            case _:
                return None
    return x


def _row(values: tuple[Fraction, ...]) -> Exact:
    parts = [Exact(np.array([v.numerator], dtype=object), v.denominator) for v in values]
    den = int(np.lcm.reduce(np.array([p.den for p in parts], dtype=object)))
    return Exact(np.concatenate([p.over(den) for p in parts]), den)
