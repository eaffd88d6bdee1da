"""A failing network made small: whatever can be left out or made simpler while the same check fails is.

Greedy: each step proposes smaller models, the first that still fails in the same way is kept, and the steps start again
until none of them helps. Proposals need not be valid: one that onnxruntime does not load is not kept.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from broadaxe.frontend.standard import expand_quant, session

from . import oracle
from .check import CheckError, check, data
from .draft import Case
from .simulate import compare, simulate_exactly, simulators

REGRESSIONS = Path(__file__).parent / "regressions"
TRIALS = 1500
"""Networks that shrinking one may check."""
Predicate = Callable[[Case], CheckError | None]


def failure_of(case: Case, in_c: bool = True) -> CheckError | None:
    """What fails on a network, C simulation included, or None."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        try:
            outcome = check(case, Path(folder) / "build")
            if outcome.build is not None and in_c:
                (simulator,) = simulators([outcome.build], Path(folder) / "batch")
                compare(outcome.build, simulator)
        except CheckError as failure:
            return failure
    return None


def exactly_simulated(case: Case) -> CheckError | None:
    """What fails in the C simulation with the vendor's headers alone."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        try:
            outcome = check(case, Path(folder) / "build")
            if outcome.build is not None:
                simulate_exactly(outcome.build)
        except CheckError as failure:
            return failure
    return None


def predicate(failure: CheckError) -> Predicate:
    """The cheapest check that can fail like this."""
    if "(exact)" in failure.kind:
        return exactly_simulated
    in_c = failure.kind.startswith(("C simulation", "g++"))
    return lambda case: failure_of(case, in_c)


def shrunk(case: Case, failure: CheckError, fails: Predicate | None = None) -> tuple[Case, CheckError]:
    """The smallest network found that fails like `failure`, and how it fails."""
    fails = fails or predicate(failure)
    trials = TRIALS
    loads = _loads(case.model)
    progress = True
    while progress and trials > 0:
        progress = False
        for step in STEPS:
            position = 0
            while trials > 0:  # a step goes on where it was after each success
                proposals = list(_some(step(case), position))
                for at, smaller in enumerate(proposals):
                    if trials <= 0:
                        break
                    smaller = replace(smaller, model=pruned(smaller.model))
                    if (
                        not smaller.model.graph.node
                        or smaller.model == case.model
                        or (loads and not _loads(smaller.model))
                    ):
                        continue
                    trials -= 1
                    found = fails(smaller)
                    if found is not None and found.kind == failure.kind:
                        case, failure, progress = smaller, found, True
                        position += at
                        break
                else:
                    break
    return _renamed(case, fails, failure), failure


def _some(proposals: Iterator[Case], start: int) -> Iterator[Case]:
    for at, case in enumerate(proposals):
        if at >= start:
            yield case


def keep(case: Case, failure: CheckError) -> Path:
    """Write a network and what fails on it into regressions/."""
    REGRESSIONS.mkdir(exist_ok=True)
    name = re.sub(r"\W+", "-", f"{failure.kind}-{case.name}".lower()).strip("-")
    path = REGRESSIONS / f"{name}.onnx"
    path.write_bytes(case.model.SerializeToString())
    about = {
        "seed": case.seed,
        "index": case.index,
        "types": case.types,
        "failed": failure.kind,
        "detail": failure.detail,
    }
    path.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")
    return path


def kept(path: Path) -> Case:
    """A network of regressions/."""
    about = json.loads(path.with_suffix(".json").read_text())
    return Case(onnx.load(path), about["types"], about["seed"], about["index"])


def _loads(model: onnx.ModelProto) -> bool:
    try:
        session(expand_quant(model))
    except Exception:
        return False
    return True


def pruned(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without what its outputs do not need; one input always stays."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    graph = out.graph
    needed, nodes = {o.name for o in graph.output}, []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            needed.update(node.input)
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(reversed(nodes))
    for group in (graph.initializer, graph.input):
        used = [entry for entry in group if entry.name in needed]
        del group[:]
        group.extend(used)
    return out


# steps


def _edited(case: Case, edit: Callable[[onnx.GraphProto], None]) -> Case:
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    edit(model.graph)
    left = {info.name for info in model.graph.input}
    return replace(case, model=model, types={n: t for n, t in case.types.items() if n in left})


def one_output(case: Case) -> Iterator[Case]:
    """One output alone: one of the model's, or any tensor between."""
    tensors = [o.name for o in case.model.graph.output]
    integral = {o.name: o.type.tensor_type.elem_type for o in case.model.graph.output}
    between = [name for node in case.model.graph.node for name in node.output]
    for name in dict.fromkeys((*(tensors if len(tensors) > 1 else ()), *between)):
        info = helper.make_tensor_value_info(name, integral.get(name, TensorProto.FLOAT), None)
        info.type.tensor_type.ClearField("shape")

        def edit(graph: onnx.GraphProto, info: onnx.ValueInfoProto = info) -> None:
            del graph.output[:]
            graph.output.append(info)

        if [name] != tensors:
            yield _edited(case, edit)


def cut_inputs(case: Case) -> Iterator[Case]:
    """What a quantizer reads as an input of the model, so that nothing is left before it."""
    try:
        tensors = oracle.evaluate(case.model, data(case, 1), list(case.types))
    except Exception:
        return
    inputs = {info.name for info in case.model.graph.input}
    for at, node in reversed(list(enumerate(case.model.graph.node))):
        if node.op_type not in oracle.QUANTIZERS or node.input[0] in inputs or node.input[0] not in tensors:
            continue
        shape = tensors[node.input[0]].shape[1:]

        def edit(graph: onnx.GraphProto, at: int = at, shape: tuple[int, ...] = shape) -> None:
            info = helper.make_tensor_value_info(f"cut{at}", TensorProto.FLOAT, ["N", *shape])
            graph.input.append(info)
            graph.node[at].input[0] = info.name

        yield _edited(case, edit)


def bypass(case: Case) -> Iterator[Case]:
    """A node left out: what reads it reads one of its inputs."""
    for at, node in reversed(list(enumerate(case.model.graph.node))):
        for source in dict.fromkeys(node.input):

            def edit(graph: onnx.GraphProto, at: int = at, source: str = source) -> None:
                gone = graph.node[at].output[0]
                for reader in graph.node:
                    for i, name in enumerate(reader.input):
                        if name == gone:
                            reader.input[i] = source
                for info in graph.output:
                    if info.name == gone:
                        info.name = source
                del graph.node[at]

            if source:
                yield _edited(case, edit)


def fewer_inputs(case: Case) -> Iterator[Case]:
    """An operator without its last input (a bias), or a Concat of fewer parts."""
    for at, node in enumerate(case.model.graph.node):
        if len(node.input) > 1:
            yield _edited(case, lambda graph, at=at: graph.node[at].input.pop())


def plain_attributes(case: Case) -> Iterator[Case]:
    """An attribute left out, or with simpler numbers."""
    for at, node in enumerate(case.model.graph.node):
        for i, attribute in enumerate(node.attribute):
            if node.op_type in oracle.QUANTIZERS and attribute.name == "signed":
                continue
            yield _edited(case, lambda graph, at=at, i=i: graph.node[at].attribute.pop(i))
            if attribute.name == "rounding_mode" and attribute.s != b"ROUND":
                yield _edited(case, lambda graph, at=at, i=i: setattr(graph.node[at].attribute[i], "s", b"ROUND"))
            if attribute.type == AttributeProto.INTS:
                for place, value in enumerate(attribute.ints):
                    for less in {0, 1, value - 1} - {value}:
                        if 0 <= less < value:
                            yield _edited(
                                case,
                                lambda graph, at=at, i=i, place=place, less=less: (
                                    graph.node[at].attribute[i].ints.__setitem__(place, less)
                                ),
                            )


def smaller_sizes(case: Case) -> Iterator[Case]:
    """One number of channels, pixels or tokens made smaller wherever it stands: inputs, constants, shapes, groups."""
    graph = case.model.graph
    sizes = {d.dim_value for info in graph.input for d in info.type.tensor_type.shape.dim[1:]}
    sizes |= {n for tensor in graph.initializer for n in tensor.dims}
    for size in sorted(sizes, reverse=True):
        for less in sorted({1, size // 2, size - 1} - {0, size}):
            if less < size:
                yield _edited(case, lambda graph, size=size, less=less: _resized(graph, size, less, True))
                yield _edited(case, lambda graph, size=size, less=less: _resized(graph, size, less, False))
    for info in graph.input:  # one axis of one input alone: an image made smaller
        for axis, dim in list(enumerate(info.type.tensor_type.shape.dim))[1:]:
            for less in sorted({1, dim.dim_value // 2, dim.dim_value - 1}):
                if 0 < less < dim.dim_value:
                    yield _edited(case, lambda graph, n=info.name, axis=axis, less=less: _axis(graph, n, axis, less))
    for tensor in graph.initializer:  # one axis of one constant alone: outputs of a layer
        for axis, n in enumerate(tensor.dims):
            if n > 1 and tensor.data_type == TensorProto.FLOAT:
                yield _edited(case, lambda graph, n=tensor.name, axis=axis: _first(graph, n, axis))


def _axis(graph: onnx.GraphProto, name: str, axis: int, less: int) -> None:
    info = next(i for i in graph.input if i.name == name)
    info.type.tensor_type.shape.dim[axis].dim_value = less


def _first(graph: onnx.GraphProto, name: str, axis: int) -> None:
    tensor = next(t for t in graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.take(numpy_helper.to_array(tensor), [0], axis=axis), name))


def _resized(graph: onnx.GraphProto, size: int, less: int, everywhere: bool) -> None:
    for info in graph.input:
        for dim in info.type.tensor_type.shape.dim[1:]:
            if dim.dim_value == size:
                dim.dim_value = less
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.int64 and everywhere:
            array = np.where(array == size, less, array)
        for axis, n in enumerate(array.shape):
            if n == size:
                array = np.take(array, range(less), axis=axis)
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "group" and attribute.i == size:
                attribute.i = less


def plain_constants(case: Case) -> Iterator[Case]:
    """A constant of equal or of rounder numbers."""
    for at, tensor in enumerate(case.model.graph.initializer):
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or not array.size:
            continue
        simpler = [
            np.zeros_like(array),
            np.ones_like(array),
            np.full_like(array, array.reshape(-1)[0]),
            np.round(array),
        ]
        with np.errstate(divide="ignore"):
            powers = np.where(array == 0, 0, np.sign(array) * np.exp2(np.round(np.log2(np.abs(array)))))
        simpler += [np.round(array * 4) / 4, powers.astype(np.float32)]
        simpler += [
            np.where(np.arange(array.size).reshape(array.shape) == i, 0, array) for i in range(min(array.size, 8))
        ]
        if array.ndim and array.size == 1:
            simpler.append(array.reshape(()))
        for values in simpler:
            if values.shape == array.shape and _plainness(values) >= _plainness(array):
                continue

            def edit(graph: onnx.GraphProto, at: int = at, values: np.ndarray = values) -> None:
                name = graph.initializer[at].name
                graph.initializer[at].CopyFrom(numpy_helper.from_array(np.asarray(values, np.float32), name))

            yield _edited(case, edit)


def _plainness(array: np.ndarray) -> tuple[int, int]:
    """Different numbers and their significant bits: what a simpler constant has fewer of."""
    values = np.unique(array)
    bits = sum(abs(n).bit_length() for v in values.tolist() for n in v.as_integer_ratio() if np.isfinite(v))
    return len(values) + int(np.count_nonzero(array)), bits


STEPS = (one_output, cut_inputs, bypass, fewer_inputs, smaller_sizes, plain_attributes, plain_constants)


def _renamed(case: Case, fails: Predicate, failure: CheckError) -> Case:
    """The same with an open batch and a newer operator set, where it fails there too."""
    for version in (20, 13):
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        for entry in model.opset_import:
            if entry.domain == "":
                entry.version = version
        if model != case.model and _loads(model):
            found = fails(replace(case, model=model))
            if found is not None and found.kind == failure.kind:
                return replace(case, model=model)
    return case
