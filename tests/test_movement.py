"""Operators that move, select, pad, repeat and reduce, and layers over rows, against exact evaluation and onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from math import gcd

import numpy as np
import onnx
import pytest
from models import Network, check, designed, samples
from onnx import helper

import broadaxe
from broadaxe.frontend.standard import expand_quant, session
from broadaxe.ir import Example, Lanes, Value, divisors, infer
from broadaxe.ops import GroupedMatVec, MatVec, Rearrange, WindowMax
from broadaxe.reference import run
from broadaxe.types import Interval, IntType

i64 = np.int64


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=i64)


# each maps a quantized (4, 5, 6) image to one with 4 channels
MOVES: dict[str, Callable[[Network, str], str]] = {
    "slice": lambda n, x: n.node("Slice", x, ints(1, 1), ints(4, 100), ints(2, 3), ints(1, 2)),
    "slice backwards": lambda n, x: n.node("Slice", x, ints(-1), ints(-100), ints(3), ints(-1)),
    "pad": lambda n, x: n.node("Pad", x, ints(0, 0, 1, 2, 0, 0, 0, 1)),
    "pad with a code": lambda n, x: n.node("Pad", x, ints(0, 0, 1, 0, 0, 0, 1, 0), np.array(0.75, np.float32)),
    "reflect": lambda n, x: n.node("Pad", x, ints(0, 0, 2, 1, 0, 0, 1, 2), mode="reflect"),
    "edge": lambda n, x: n.node("Pad", x, ints(0, 0, 0, 1, 0, 0, 2, 0), mode="edge"),
    "gather channels": lambda n, x: n.node("Gather", x, ints(3, 0, 0, 2), axis=1),
    "gather columns": lambda n, x: n.node("Gather", x, ints(5, 1, 1), axis=3),
    "tile": lambda n, x: n.node("Tile", x, ints(1, 1, 2, 1)),
    "nearest, twice": lambda n, x: n.node("Resize", x, "", np.array([1, 1, 2, 2], np.float32), mode="nearest"),
    "nearest, sizes": lambda n, x: n.node(
        "Resize",
        x,
        "",
        "",
        ints(1, 4, 7, 4),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    "transposed twice": lambda n, x: n.node("Transpose", n.node("Transpose", x, perm=[0, 2, 3, 1]), perm=[0, 3, 2, 1]),
    "space to depth and back": lambda n, x: n.node(
        "DepthToSpace", n.node("SpaceToDepth", n.node("Slice", x, ints(0), ints(4), ints(2)), blocksize=2), blocksize=2
    ),
    "channels shuffled": lambda n, x: n.node(
        "Reshape",
        n.node("Transpose", n.node("Reshape", x, ints(0, 2, 2, 5, 6)), perm=[0, 2, 1, 3, 4]),
        ints(0, 4, 5, 6),
    ),
}


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
@pytest.mark.parametrize("zero_point", [0, 3])
def test_what_moves_is_read_in_its_own_order(move: Callable[[Network, str], str], zero_point: int) -> None:
    net = Network(4, 5, 6, seed=1, batch=1)
    y = move(net, net.quant("x", 0.25, zero_point, 5))
    model = net.finish(net.quant(net.conv(y, (3, 4, 1, 1)), 0.5, 0, 6))
    check(model, samples(1, 4, 5, 6, step=0.25, spread=3), dyadic=True)


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_accumulators_move_with_their_constants(move: Callable[[Network, str], str]) -> None:
    """A move between a layer and its quantizer takes scales and biases of channels along, or says that it cannot."""
    net = Network(2, 5, 6, seed=2, batch=1)
    y = net.conv(net.quant("x", 0.25, 0, 5), (4, 2, 1, 1), net.rng.integers(-8, 8, 4) / 8)
    y = move(net, y)
    model = net.finish(net.quant(y, 0.5, 0, 6))
    check(model, samples(1, 2, 5, 6, step=0.25, spread=3), dyadic=True)


def test_zeros_that_no_accumulator_holds_are_refused() -> None:
    net = Network(2, 5, 6, seed=2)
    y = net.conv(net.quant("x", 0.25, 0, 5), (4, 2, 1, 1), [0.3, 0.0, 0.1, 0.2])
    y = net.node("Pad", y, ints(0, 0, 1, 1, 0, 0, 1, 1))
    with pytest.raises(broadaxe.BroadaxeError, match=r"pads with zero, which its input cannot represent \(code "):
        designed(net.finish(net.quant(y, 0.5, 0, 6)))


def test_split_gives_every_reader_its_part() -> None:
    net = Network(6, 4, 4, seed=3)
    x = net.quant("x", 0.25, 0, 4)
    net.nodes.append(helper.make_node("Split", [x, net.constant(ints(2, 3, 1))], ["a", "b", "c"], name="split", axis=1))
    y = net.node("Add", net.conv("a", (4, 2, 1, 1)), [[[[0.5]]]])
    z = net.conv("b", (4, 3, 3, 3), pads=[1, 1, 1, 1])
    y = net.node("Add", net.quant(y, 0.5, 0, 5), net.quant(z, 0.5, 0, 5))
    done = check(net.finish(net.quant(y, 0.5, 0, 5)), samples(4, 6, 4, 4, step=0.25), dyadic=True)
    assert len(done.ops(Rearrange)) == 2, "a part that nobody reads makes nothing"


JOINS = {
    "channels": (1, [(2, 4, 3), (3, 4, 3)]),
    "rows": (2, [(2, 4, 3), (2, 1, 3)]),
    "columns": (3, [(2, 4, 3), (2, 4, 2)]),
}


@pytest.mark.parametrize(("axis", "shapes"), JOINS.values(), ids=JOINS)
def test_concat_on_any_axis(axis: int, shapes: list[tuple[int, ...]]) -> None:
    net = Network(*shapes[0], seed=4)
    x = net.quant("x", 0.25, 0, 5)
    parts = [net.quant(net.conv(x, (shape[0], 2, 1, 1)), 0.5, 0, 5) for shape in shapes]
    if axis > 1:
        parts[1] = net.node("Slice", parts[1], ints(0), ints(shapes[1][axis - 1]), ints(axis))
    y = net.node("Concat", *parts, axis=axis)
    model = net.finish(net.quant(net.conv(y, (3, sum(s[0] for s in shapes) if axis == 1 else 2, 1, 1)), 0.5, 0, 5))
    check(model, samples(4, *shapes[0], step=0.25, spread=2), dyadic=True)


# reductions

REDUCTIONS = {
    "height and width": ((4, 5, 3), (2, 3)),
    "channels": ((4, 5, 3), (1,)),
    "width": ((4, 5, 3), (3,)),
    "all": ((4, 5, 3), (1, 2, 3)),
    "channels and width": ((4, 5, 3), (-3, -1)),
    "tokens": ((5, 6), (1,)),
    "features": ((5, 6), (-1,)),
    "of a vector": ((7,), (1,)),
}


@pytest.mark.parametrize(("shape", "axes"), REDUCTIONS.values(), ids=REDUCTIONS)
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("op_type", ["ReduceSum", "ReduceMean", "ReduceMax"])
def test_reductions(op_type: str, shape: tuple[int, ...], axes: tuple[int, ...], keepdims: int) -> None:
    net = Network(*shape, seed=5)
    y = net.node(op_type, net.quant("x", 0.25, 2, 5), ints(*axes), keepdims=keepdims)
    done = check(net.finish(net.quant(y, 0.5, 0, 8)), samples(4, *shape, step=0.25, spread=3))
    assert len(done.ops(WindowMax)) == (op_type == "ReduceMax")


def test_a_reduction_of_one_scale_per_channel_keeps_them() -> None:
    net = Network(3, 4, 4, seed=6)
    x = net.quant("x", np.array([0.25, 0.5, 0.125]).reshape(1, 3, 1, 1), 0, 4)
    y = net.node("ReduceSum", x, ints(2, 3), keepdims=1)
    check(net.finish(net.quant(y, 0.5, 0, 8)), samples(4, 3, 4, 4, step=0.125), dyadic=True)
    net = Network(3, 4, 4, seed=6)
    x = net.quant("x", np.array([0.25, 0.5, 0.125]).reshape(1, 3, 1, 1), 0, 4)
    with pytest.raises(broadaxe.BroadaxeError, match="different scales"):
        check(net.finish(net.quant(net.node("ReduceSum", x, ints(1)), 0.5)), samples(1, 3, 4, 4))


# rows

ROWS: dict[str, Callable[[Network, str], str]] = {
    "conv": lambda n, x: n.conv(x, (3, 4, 3)),
    "padded on one side": lambda n, x: n.conv(x, (3, 4, 3), pads=[2, 0]),
    "strides and dilation": lambda n, x: n.conv(
        x, (3, 4, 3), [0.5, 0.0, -0.25], strides=[2], dilations=[2], pads=[1, 1]
    ),
    "depthwise": lambda n, x: n.conv(x, (4, 1, 3), group=4, auto_pad="SAME_UPPER"),
    "max": lambda n, x: n.node("MaxPool", x, kernel_shape=[3], strides=[2]),
    "average": lambda n, x: n.node("AveragePool", x, kernel_shape=[2], strides=[2]),
    "global average": lambda n, x: n.node("GlobalAveragePool", x),
    "global max": lambda n, x: n.node("GlobalMaxPool", x),
    "transposed": lambda n, x: n.node("ConvTranspose", x, n.weights(4, 2, 3), strides=[2]),
    "batch norm": lambda n, x: n.norm(x, [1.0, -0.5, 0.25, 2.0], np.zeros(4), np.zeros(4), np.ones(4), epsilon=0.0),
}


@pytest.mark.parametrize("layer", ROWS.values(), ids=ROWS)
def test_layers_over_rows(layer: Callable[[Network, str], str]) -> None:
    net = Network(4, 9, seed=7)
    done = check(
        net.finish(net.quant(layer(net, net.quant("x", 0.25, 0, 5)), 0.5, 0, 6)),
        samples(4, 4, 9, step=0.25, spread=2),
        dyadic=True,
    )
    assert not done.ops(Rearrange) or layer is ROWS["transposed"], "the input already streams its channels last"


def test_rows_all_the_way() -> None:
    """Conv, pool, conv over rows, then a matrix: everything stays in the order in which the first layer streams."""
    net = Network(2, 12, seed=8)
    y = net.quant(net.node("Relu", net.conv(net.quant("x", 0.25, 0, 5), (4, 2, 3), pads=[1, 1])), 0.5, 0, 4, 0)
    y = net.node("MaxPool", y, kernel_shape=[2], strides=[2])
    y = net.quant(net.conv(y, (3, 4, 3)), 0.5, 0, 5)
    y = net.node("Gemm", net.node("Flatten", y), net.weights(12, 5), alpha=0.5, beta=2.0)
    done = check(net.finish(net.quant(y, 0.5, 0, 6)), samples(6, 2, 12, step=0.25, spread=2), dyadic=True)
    assert not done.ops(Rearrange)


# transposed convolution

TRANSPOSED = {
    "stride 2": ((3, 2, 2, 2), {"strides": [2, 2]}),
    "stride 2, kernel 3": ((3, 2, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
    "kernel smaller than the stride": ((3, 2, 1, 2), {"strides": [3, 3]}),
    "stride 1": ((3, 2, 3, 2), {"pads": [1, 0, 0, 1]}),
    "dilated": ((3, 2, 2, 3), {"strides": [2, 1], "dilations": [3, 2]}),
    "uneven": ((3, 2, 4, 3), {"strides": [3, 2], "pads": [2, 0, 1, 3]}),
    "2 groups": ((4, 3, 3, 3), {"strides": [2, 2], "group": 2}),
    "depthwise": ((4, 1, 2, 3), {"strides": [2, 2], "group": 4}),
    "more cut than a tap reaches": ((3, 2, 2, 2), {"strides": [2, 2], "pads": [3, 3, 2, 2]}),
}


@pytest.mark.parametrize(("shape", "attributes"), TRANSPOSED.values(), ids=TRANSPOSED)
def test_conv_transpose(shape: tuple[int, ...], attributes: dict[str, object]) -> None:
    net = Network(shape[0], 4, 3, seed=9)
    outputs = shape[1] * attributes.get("group", 1)
    scale = 0.125 * 2.0 ** net.rng.integers(0, 2, (1, shape[1], 1, 1)) if "group" not in attributes else 0.125
    weight = net.weights(*shape, scale=scale)
    bias = net.rng.integers(-8, 8, outputs) / 8
    y = net.node("ConvTranspose", net.quant("x", 0.25, 1, 4), weight, bias, **attributes)
    done = check(net.finish(net.quant(y, 0.5, 0, 7)), samples(4, shape[0], 4, 3, step=0.25, spread=2), dyadic=True)
    kernel, strides = shape[2:], attributes.get("strides", [1, 1])
    (op,) = [*done.ops(MatVec), *done.ops(GroupedMatVec)]
    if "dilations" not in attributes:
        assert op.depth == (shape[0] // attributes.get("group", 1)) * np.prod(
            [-(-k // s) for k, s in zip(kernel, strides, strict=True)]
        )


def test_conv_transpose_sizes_each_phase_by_its_own_taps() -> None:
    """A kernel of 3 with stride 2 meets one or two inputs at a time, never three: 4 products at most, not 9."""
    net = Network(1, 3, 3, seed=10)
    weight = net.quant(np.full((1, 1, 3, 3), 7.0), 1.0, bits=4)
    y = net.node("ConvTranspose", net.quant("x", 1.0, 0, 4, 0), weight, strides=[2, 2])
    done = check(net.finish(net.quant(y, 1.0, 0, 12, 0)), samples(4, 1, 3, 3, step=1.0, spread=8), dyadic=True)
    (op,) = done.ops(MatVec)
    (value,) = [done.graph.values[n.output] for n in done.graph.nodes if n.op is op]
    assert sorted(b.span for b in value.bounds) == [15, 30, 30, 60], "rows of sevens are divided by 7"


# pools

CEILS = {
    "max": ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "max, padded": ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "max, large stride": ("MaxPool", {"kernel_shape": [2, 1], "strides": [3, 4]}),
    "max, the last window outside": ("MaxPool", {"kernel_shape": [1, 1], "strides": [3, 3]}),
    "average, the last window in padding": (
        "AveragePool",
        {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [0, 0, 1, 1]},
    ),
    "average": ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "average, padded": ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
}


@pytest.mark.parametrize(("op_type", "attributes"), CEILS.values(), ids=CEILS)
def test_ceil_mode(op_type: str, attributes: dict[str, object]) -> None:
    net = Network(2, 7, 5, seed=11)
    y = net.node(op_type, net.quant("x", 0.25, 0, 5), ceil_mode=1, **attributes)
    lowered_like_onnxruntime(net, y, samples(3, 2, 7, 5, step=0.25, spread=2))


def test_negative_pads_cut() -> None:
    net = Network(2, 5, 6, seed=1)
    y = net.node("Pad", net.quant("x", 0.25, 0, 5), ints(0, 0, -1, 0, 0, 0, 1, -2))
    lowered_like_onnxruntime(net, y, samples(3, 2, 5, 6, step=0.25, spread=2))


def test_global_max_pool_waits_for_its_quantizer() -> None:
    net = Network(3, 4, 5, seed=12)
    y = net.node("Relu", net.conv(net.quant("x", 0.25, 0, 5), (4, 3, 3, 3), [0.5, -1.0, 0.25, 0.0]))
    done = check(
        net.finish(net.quant(net.node("GlobalMaxPool", y), 0.5, 0, 4, 0)), samples(4, 3, 4, 5, step=0.25), dyadic=True
    )
    assert [type(n.op).__name__ for n in done.graph.nodes][-3:] == ["Requantize", "SlidingWindow", "WindowMax"]


def lowered_like_onnxruntime(net: Network, y: str, x: np.ndarray) -> None:
    """Where the exact evaluator here knows no ceil_mode, onnxruntime is the judge: dyadic numbers are exact in it."""
    model = net.finish(net.quant(y, 0.0625, 0, 12))
    _, graph, host = designed(model)
    codes = host.codes({"x": x.astype(np.float32)})
    codes |= run(graph, codes, every_value=True)
    mine = host.reals({name: codes[name] for name in graph.outputs})
    (theirs,) = session(expand_quant(model)).run(None, {"x": x.astype(np.float32)})
    np.testing.assert_array_equal(next(iter(mine.values())), theirs)


# products

PRODUCTS: dict[str, tuple[tuple[int, ...], Callable[[Network, str], str]]] = {
    "vector of weights": ((4, 6), lambda n, x: n.node("MatMul", x, n.weights(6))),  # one dot product a token
    "one matrix for all heads": ((2, 4, 6), lambda n, x: n.node("MatMul", x, n.weights(6, 3))),
    "a matrix for each head": ((2, 4, 6), lambda n, x: n.node("MatMul", x, n.weights(2, 6, 3))),
    "a matrix for each head, batched": ((2, 4, 6), lambda n, x: n.node("MatMul", x, n.weights(1, 2, 6, 3))),
    "weights on the left": ((4, 6), lambda n, x: n.node("MatMul", n.weights(3, 4), x)),
    "alpha and beta": (
        (6,),
        lambda n, x: n.node("Gemm", x, n.weights(3, 6), [1.0, 2.0, -1.0], alpha=0.5, beta=-2.0, transB=1),
    ),
    "heads split off": (
        (4, 6),
        lambda n, x: n.node(
            "MatMul", n.node("Transpose", n.node("Reshape", x, ints(0, 4, 2, 3)), perm=[0, 2, 1, 3]), n.weights(3, 5)
        ),
    ),
    "tokens mixed": ((4, 6), lambda n, x: n.node("MatMul", n.node("Transpose", x, perm=[0, 2, 1]), n.weights(4, 5))),
}


@pytest.mark.parametrize(("shape", "product"), PRODUCTS.values(), ids=PRODUCTS)
@pytest.mark.parametrize("zero_point", [0, 2])
def test_products_in_any_layout(
    shape: tuple[int, ...], product: Callable[[Network, str], str], zero_point: int
) -> None:
    net = Network(*shape, seed=13)
    y = product(net, net.quant("x", 0.25, zero_point, 5))
    check(net.finish(net.quant(y, 0.25, 0, 8)), samples(4, *shape, step=0.25, spread=2), dyadic=True)


# the kernel's trips


def state_machine(op: Rearrange, x: Value, lanes: int) -> int:
    """Trips of hw/rearrange.hpp until both sides are done, one by one."""
    outer, middle, inner = (t.tolist() for t in op._words(lanes))
    keep, ring, words = op._keep(x, lanes).tolist(), op.ring(x, lanes), x.size // lanes
    todo = [(a, -1 if min(p, q, r) < 0 else p + q + r) for a, p in enumerate(outer) for q in middle for r in inner]
    read = seen = trips = 0
    recent = [False] * 4
    slots: dict[int, int] = {}
    while todo or read < words:
        seen += recent[3]
        reading = read < words and read < (keep[todo[0][0]] + ring if todo else words)
        if todo and todo[0][1] < seen:
            address = todo.pop(0)[1]
            assert address < 0 or slots[address % ring] == address, "overwritten before its last use"
        if reading:
            slots[read % ring] = read
            read += 1
        recent, trips = [reading, *recent[:3]], trips + 1
        assert trips < 10_000, "stuck"
    return trips


@pytest.mark.parametrize("example", Rearrange.examples(), ids=lambda e: e.label)
def test_trips_of_a_rearrangement_are_exact(example: Example) -> None:
    assert isinstance(example.op, Rearrange)
    x, out = example.inputs[0], infer("y", example.op, example.inputs)
    for lanes in divisors(gcd(example.op.granularity, x.channels, out.channels)):
        assert example.op.cycles([x], out, Lanes(lanes, lanes)) == state_machine(example.op, x, lanes)


def test_a_ring_holds_rows_not_frames() -> None:
    """Cutting, padding and repeating pixels needs a row or two; only transposing needs the frame."""
    image = Value("x", (16, 16, 4), IntType(4, False), (Interval(0, 15),) * 4)
    at = np.arange(1024).reshape(16, 16, 4)
    assert Rearrange.of(at[2:9, 3:]).ring(image, 4) == 32
    assert Rearrange.of(np.pad(at, ((1, 1), (1, 1), (0, 0)), constant_values=-1)).ring(image, 4) == 32
    assert Rearrange.of(at.repeat(2, axis=0).repeat(2, axis=1)).ring(image, 4) == 32
    assert Rearrange.of(at.transpose(1, 0, 2)).ring(image, 4) == 256


OUTPUT_SHAPES: dict[str, dict[str, object]] = {
    "less": {"output_shape": [5, 6]},
    "as much as there is": {"output_shape": [9, 7]},
    "one more": {"output_shape": [10, 8]},
    "upper": {"output_shape": [8, 8], "auto_pad": "SAME_UPPER"},
    "lower": {"output_shape": [6, 4], "auto_pad": "SAME_LOWER"},
}


@pytest.mark.parametrize("attributes", OUTPUT_SHAPES.values(), ids=OUTPUT_SHAPES)
def test_transposed_convolutions_of_a_wished_size(attributes: dict[str, object]) -> None:
    net = Network(2, 4, 3, seed=6, batch=1)
    x = net.quant("x", 0.25, 3, 4, signed=0)
    y = net.node("ConvTranspose", x, net.weights(2, 3, 3, 3), [0.5, -0.25, 0.0], strides=[2, 2], **attributes)
    model, x = net.finish(net.quant(y, 0.5, 0, 6)), samples(1, 2, 4, 3, step=0.25, spread=2).astype(np.float32)
    _, graph, host = designed(model)
    (mine,) = host.reals(run(graph, host.codes({"x": x}))).values()
    np.testing.assert_array_equal(mine, session(expand_quant(model)).run(None, {"x": x})[0])


def test_a_wished_size_beyond_the_last_window_is_refused() -> None:
    net = Network(2, 4, 3, seed=6, batch=1)
    y = net.node("ConvTranspose", net.quant("x"), net.weights(2, 3, 3, 3), strides=[2, 2], output_shape=[14, 14])
    with pytest.raises(broadaxe.BroadaxeError, match=r"its output_shape \[14, 14\] is more than its input makes"):
        designed(net.finish(net.quant(y, 0.5, 0, 6)))


# moves between pools that wait for a quantizer, batches of the model's own, element types of integers


POOLED = {
    "transposed": lambda n, x: n.node("Transpose", x, perm=[0, 1, 3, 2]),
    "channels and rows exchanged": lambda n, x: n.node("Transpose", x, perm=[0, 2, 1, 3]),
    "reshaped": lambda n, x: n.node("Reshape", x, ints(0, 2, 6, 3)),
    "as they are": lambda n, x: n.node("Identity", x),
}


@pytest.mark.parametrize("move", POOLED.values(), ids=POOLED)
@pytest.mark.parametrize("whole", [False, True])
def test_pools_that_wait_see_what_moved_between_them(move: Callable[[Network, str], str], whole: bool) -> None:
    net = Network(2, 4, 4, seed=1, batch=1)
    y = net.node("Relu", net.conv(net.quant("x", 0.25, 0, 5), (4, 2, 1, 1)))
    y = move(net, net.node("MaxPool", y, kernel_shape=[2, 2], strides=[1, 1]))
    y = net.node("ReduceMax", y, ints(2, 3)) if whole else net.node("MaxPool", y, kernel_shape=[2, 1])
    check(net.finish(net.quant(y, 0.5, 0, 5)), samples(1, 2, 4, 4, step=0.25, spread=3), dyadic=True)


# (elements of a sample, a move); each is written for a batch of 4, some with a size that is 4 by chance
IN_BATCHES: dict[str, tuple[tuple[int, ...], Callable[[Network, str], str]]] = {
    "expand, axes left out": ((3, 1, 1), lambda n, x: n.node("Expand", x, ints(4, 5))),
    "expand": ((3, 1, 1), lambda n, x: n.node("Expand", x, ints(4, 3, 2, 2))),
    "resize, some axes": ((3, 2, 2), lambda n, x: n.node("Resize", x, "", "", ints(4, 6), mode="nearest", axes=[2, 3])),
    "resize": ((3, 2, 2), lambda n, x: n.node("Resize", x, "", "", ints(4, 3, 4, 3), mode="nearest")),
    "reshape": ((4, 4), lambda n, x: n.node("Reshape", x, ints(4, -1))),
    "reshape, batch left open": ((4, 4), lambda n, x: n.node("Reshape", x, ints(-1, 8, 2))),
    "reshape to its own shape": (
        (4, 4),
        lambda n, x: n.node(
            "Reshape", x, n.node("Concat", n.node("Slice", n.node("Shape", x), ints(0), ints(1)), ints(-1), axis=0)
        ),
    ),
    "squeeze": ((1, 4), lambda n, x: n.node("Squeeze", x)),
    "pad": ((4,), lambda n, x: n.node("Pad", x, ints(0, 1, 0, 2))),
}


@pytest.mark.parametrize(("shape", "move"), IN_BATCHES.values(), ids=IN_BATCHES)
def test_moves_written_for_a_batch(shape: tuple[int, ...], move: Callable[[Network, str], str]) -> None:
    net = Network(*shape, seed=2, batch=4)
    model = net.finish(net.quant(move(net, net.quant("x", 0.25, 0, 5)), 0.5, 0, 6))
    x = samples(4, *shape, step=0.25, spread=2).astype(np.float32)
    build = designed(model)
    (mine,) = build[2].reals(run(build[1], build[2].codes({"x": x}))).values()
    (theirs,) = session(expand_quant(model)).run(None, {"x": x})
    np.testing.assert_array_equal(mine, theirs)


MIXED: dict[str, Callable[[Network, str], str]] = {
    "reshape": lambda n, x: n.node("Reshape", x, ints(1, -1)),
    "a part": lambda n, x: n.node("Slice", x, ints(0), ints(1), ints(0)),
    "one": lambda n, x: n.node("Gather", x, np.array(0), axis=0),
    "exchanged": lambda n, x: n.node("Gather", x, ints(1, 0, 2), axis=0),
    "unsqueeze": lambda n, x: n.node("Unsqueeze", x, ints(0)),
    "unsqueeze, counted back": lambda n, x: n.node("Unsqueeze", x, ints(-4)),
    "tile": lambda n, x: n.node("Tile", x, ints(2, 1, 1)),
}


@pytest.mark.parametrize("move", MIXED.values(), ids=MIXED)
def test_samples_of_a_batch_stay_apart(move: Callable[[Network, str], str]) -> None:
    net = Network(2, 4, seed=2, batch=3)
    with pytest.raises(broadaxe.BroadaxeError, match=r"batch"):
        designed(net.finish(net.quant(move(net, net.quant("x", 0.25, 0, 5)), 0.5, 0, 6)))


def integer_model(kind: str, make: Callable[[Network], str]) -> onnx.ModelProto:
    net = Network(4, seed=3, batch=1)
    net.inputs[0].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    model = net.finish(make(net))
    model.graph.output[0].type.tensor_type.elem_type = 0
    return model


def _two(net: Network) -> str:
    return net.constant(ints(2))


def turned(net: Network, x: str = "x") -> str:
    return net.node("Slice", x, ints(-1), ints(-100), ints(1), ints(-1))


ROUNDING: dict[str, Callable[[Network], str]] = {
    "Div behind Slice": lambda n: n.node("Div", turned(n), _two(n)),
    "Div behind Add": lambda n: n.node("Div", n.node("Add", "x", turned(n)), _two(n)),
    "Div behind Concat": lambda n: n.node("Div", n.node("Concat", "x", "x", axis=1), _two(n)),
    "Div behind Max": lambda n: n.node("Div", n.node("Max", "x", turned(n)), _two(n)),
    "Div behind ReduceSum": lambda n: n.node("Div", n.node("ReduceSum", "x", ints(1)), _two(n)),
    "Div of itself": lambda n: n.node("Div", "x", n.node("Add", n.node("Abs", "x"), _two(n))),
    "Div of a constant": lambda n: n.node("Div", _two(n), n.node("Add", n.node("Abs", "x"), _two(n))),
    "Div behind a table": lambda n: n.node(
        "Div", n.node("Gather", ints(*range(8)).reshape(4, 2), n.node("ArgMax", "x", axis=1, keepdims=0)), _two(n)
    ),
    "ReduceMean": lambda n: n.node("ReduceMean", "x", ints(1)),
    "Pow": lambda n: n.node("Pow", n.node("Add", n.node("Abs", "x"), _two(n)), ints(-1)),
}


@pytest.mark.parametrize("make", ROUNDING.values(), ids=ROUNDING)
def test_what_rounds_integers_is_refused(make: Callable[[Network], str]) -> None:
    with pytest.raises(broadaxe.BroadaxeError, match=r"(divides|rounds) integers .*cast them to float first"):
        designed(integer_model("int64", make), x="int8")


def test_what_wraps_around_is_refused() -> None:
    with pytest.raises(broadaxe.BroadaxeError, match=r"reaches from -127 to 128, where int8 wraps around"):
        designed(integer_model("int8", lambda n: n.node("Neg", "x")), x="int8")


@pytest.mark.parametrize("kind", ["int32", "int64"])
def test_integers_stay_in_their_type(kind: str) -> None:
    model = integer_model(
        kind, lambda n: n.node("Add", n.node("Concat", "x", turned(n), axis=1), n.node("Tile", "x", ints(1, 2)))
    )
    lowered = designed(model, x="int8")[0]
    assert [tensor.kind for tensor in lowered.outputs] == [kind]
