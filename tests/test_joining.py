"""Operators that join or choose activations, against exact rational evaluation and float32 onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import Network, check, design, designed, f32, samples
from onnx import TensorProto, helper

import broadaxe
from broadaxe import segments
from broadaxe.build import Build
from broadaxe.chain import Affine
from broadaxe.errors import UnsupportedModelError
from broadaxe.frontend.batch import symbolic_batch
from broadaxe.frontend.standard import expand_quant, session
from broadaxe.ir import Op, Value
from broadaxe.lower import lower
from broadaxe.ops import ArgMax, Dot, Lookup, Product, Rearrange, ScaledAdd, Select, WindowMax
from broadaxe.ops.arg_max import _keys
from broadaxe.ops.mac import Accumulating
from broadaxe.reference import run
from broadaxe.segments import compare_segments
from broadaxe.types import Interval

INTEGER = TensorProto.INT64


def quant(net: Network, x: str, scale: object = 0.25, zero: object = 0, bits: int = 4, signed: int = 1) -> str:
    return str(net.quant(x, scale, zero, bits, signed))


def column(*values: float) -> np.ndarray:
    return np.array(values).reshape(1, -1, 1, 1)


def other(net: Network, scale: object = 0.5, zero: object = 2) -> str:
    """A second image beside the input, of the same shape."""
    return quant(net, net.conv(quant(net, "x"), (3, 3, 1, 1)), scale, zero, 5)


# element by element

JOINTS: dict[str, tuple[type[Op], Callable[[Network], str]]] = {
    "product": (Product, lambda net: net.node("Mul", quant(net, "x"), other(net))),
    "product of scales per channel": (
        Product,
        lambda net: net.node("Mul", quant(net, "x", column(0.25, 0.5, 1), column(0, 1, -2)), other(net)),
    ),
    "product of a negative scale": (
        Product,
        lambda net: net.node("Mul", net.node("Neg", quant(net, "x", 0.25, 3)), other(net)),
    ),
    "sum of orders": (
        ScaledAdd,
        lambda net: net.node("Add", quant(net, "x"), net.node("Transpose", other(net), perm=[0, 1, 3, 2])),
    ),
    "difference of a row": (
        ScaledAdd,
        lambda net: net.node("Sub", net.node("MaxPool", other(net), kernel_shape=[1, 4]), quant(net, "x")),
    ),
    "sum of three": (ScaledAdd, lambda net: net.node("Sum", quant(net, "x"), other(net), quant(net, "x", 0.5, 1))),
    "sum with a constant": (ScaledAdd, lambda net: net.node("Sum", quant(net, "x"), column(1, 0.5, -2), other(net))),
    "larger": (Select, lambda net: net.node("Max", quant(net, "x", 0.5, 1), other(net, 0.75))),
    "smaller of three": (
        Select,
        lambda net: net.node("Min", quant(net, "x", 0.5, 1), net.node("Neg", other(net, 0.75)), quant(net, "x")),
    ),
    "larger of two and a constant": (Select, lambda net: net.node("Max", quant(net, "x"), np.array(0.375), other(net))),
    "larger of falling scales": (
        Select,
        lambda net: net.node("Max", net.node("Neg", quant(net, "x")), net.node("Neg", other(net))),
    ),
}


@pytest.mark.parametrize("name", JOINTS)
def test_joints_are_exact(name: str) -> None:
    kind, build = JOINTS[name]
    net = Network(3, 4, 4, seed=1)
    out = build(net)
    done = check(net.finish(quant(net, out, 0.25, 1, 6), out), samples(12, 3, 4, 4, step=0.125, spread=2), dyadic=True)
    assert done.ops(kind)


def test_a_mean_of_three() -> None:
    net = Network(3, 4, 4, seed=2)
    out = net.node("Mean", quant(net, "x"), other(net), quant(net, "x", 0.5, 1))
    check(net.finish(quant(net, out, 0.25, 1, 6)), samples(12, 3, 4, 4, spread=2))


def squeeze_excite(net: Network) -> str:
    """An image times what its own means make of it, a factor per channel."""
    image = quant(net, net.conv(quant(net, "x"), (3, 3, 1, 1)), 0.5)
    means = quant(net, net.node("GlobalAveragePool", image), 0.125, 0, 6)
    gate = quant(net, net.node("Relu", net.conv(means, (3, 3, 1, 1))), 0.25, 0, 4, 0)
    return quant(net, net.node("Mul", image, gate), 0.5)


def test_squeeze_and_excite() -> None:
    net = Network(3, 4, 5, seed=3)
    done = check(net.finish(squeeze_excite(net)), samples(12, 3, 4, 5, spread=2))
    assert len(done.ops(Product)) == 1
    assert len(done.ops(Rearrange)) == 1


def test_an_outer_product() -> None:
    """Neither side has the result's shape: both repeat."""
    net = Network(5, seed=4)
    x = quant(net, "x")
    sides = (net.node("Reshape", x, np.array(shape)) for shape in ([0, 5, 1], [0, 1, 5]))
    done = check(net.finish(quant(net, net.node("Mul", *sides), 0.5)), samples(20, 5, step=0.125), dyadic=True)
    assert len(done.ops(Rearrange)) == 2


def test_a_tensor_meets_itself() -> None:
    """x - x is 0 and x * x no product of two signs: bounds know that both sides are one."""
    net = Network(6, seed=5)
    x = quant(net, "x", 0.25, 0, 4)
    tripled = net.node("Add", net.node("Mul", x, np.array(2.0)), x)
    outs = ((net.node("Sub", x, x), 0.25), (net.node("Mul", x, x), 0.0625), (tripled, 0.25))
    model = net.finish(*(quant(net, y, step, 0, 8) for y, step in outs))
    done = check(model, samples(40, 6, step=0.125), dyadic=True)
    zero, square, threefold = (done.graph.values[o.value].hull for o in done.lowered.outputs)
    assert (zero, square, threefold) == (Interval(0, 0), Interval(0, 64), Interval(-24, 21))


def test_bounds_of_a_value_with_itself_by_brute_force() -> None:
    rng = np.random.default_rng(6)
    for _ in range(200):
        za, zb, lo = (int(v) for v in rng.integers(-9, 10, 3))
        own = Interval(lo, lo + int(rng.integers(0, 12)))
        x = replace(value_in(own), name="x")
        points = np.arange(own.lo, own.hi + 1)
        for op in (Product((za,), (zb,)), ScaledAdd((za, zb))):
            values = op.reference(points, points)
            assert op.bounds(x, x) == (Interval(int(values.min()), int(values.max())),)


def value_in(own: Interval) -> Value:
    return Value("x", (1,), own.dtype, (own,))


# matrices


def heads(net: Network, x: str, tokens: int, count: int, width: int, perm: list[int]) -> str:
    split = net.node("Reshape", x, np.array([0, tokens, count, width // count]))
    return str(net.node("Transpose", split, perm=perm))


def attention(
    net: Network, tokens: int = 3, width: int = 4, count: int = 2, zeros: tuple[int, int, int] = (0, 1, -1)
) -> str:
    """Scores of queries and keys, and the values they mix, without the softmax."""
    x = quant(net, "x")
    q, k, v = (quant(net, net.node("MatMul", x, net.weights(width, width)), 0.5, z) for z in zeros)
    left, right = heads(net, q, tokens, count, width, [0, 2, 1, 3]), heads(net, k, tokens, count, width, [0, 2, 3, 1])
    scores = quant(net, net.node("MatMul", left, right), 1.0, 0, 4, 0)
    mixed = net.node("MatMul", scores, heads(net, v, tokens, count, width, [0, 2, 1, 3]))
    return str(quant(net, mixed, 2.0))


@pytest.mark.parametrize("count", [1, 2])
def test_attention(count: int) -> None:
    net = Network(3, 4, seed=7)
    done = check(net.finish(attention(net, count=count)), samples(20, 3, 4, step=0.125, spread=2), dyadic=True)
    scores, mixed = done.ops(Dot)
    assert (scores.zeros, scores.outputs, scores.depth) == ((0, 1), 3, 4 // count)
    assert (mixed.zeros, mixed.outputs, mixed.depth) == ((0, -1), 4 // count, 3)


def test_heads_that_share_their_keys() -> None:
    net = Network(2, 3, 4, seed=8)
    x = quant(net, "x")
    keys = net.node("MaxPool", quant(net, "x", 0.5, 1), kernel_shape=[2, 1])
    shared = net.node("Transpose", net.node("Reshape", keys, np.array([0, 1, 4, 4])), perm=[0, 1, 3, 2])
    check(net.finish(quant(net, net.node("MatMul", x, shared), 2.0)), samples(12, 2, 3, 4, step=0.125), dyadic=True)


def test_a_tensor_times_its_transpose() -> None:
    net = Network(3, 4, seed=9)
    x = quant(net, "x", 0.25, 1)
    y = net.node("MatMul", x, net.node("Transpose", x, perm=[0, 2, 1]))
    check(net.finish(quant(net, y, 2.0), y), samples(20, 3, 4, step=0.125), dyadic=True)


def test_sums_of_a_dot_are_attained_and_start_where_fewest_bits_do() -> None:
    """Unsigned operands: an offset saves the sign; every sum of the narrowed accumulator is that of the wide one."""
    net = Network(2, 4, seed=10)
    x = quant(net, "x", 0.25, 0, 3, 0)
    y = net.node("MatMul", x, net.node("Transpose", x, perm=[0, 2, 1]))
    lowered, graph, _ = designed(net.finish(quant(net, y, 2.0)))
    (node,) = [n for n in graph.nodes if isinstance(n.op, Dot)]
    value, before = graph.values[node.output], lowered.graph.values[node.output]
    assert (before.hull, before.dtype.width) == (Interval(0, 4 * 49), 9)
    assert (value.dtype.width, set(node.op.start.tolist())) == (8, {-128})


# indices


def logits(net: Network, bias: bool = True, scales: object = 0.125) -> str:
    constants = [net.rng.normal(size=5)] if bias else []
    return str(net.node("Gemm", quant(net, "x", 0.25, 0, 5), net.weights(6, 5, scale=scales), *constants))


def typed(net: Network, *outputs: tuple[str, int]) -> onnx.ModelProto:
    model = net.finish(*(name for name, _ in outputs))
    for info, (_, kind) in zip(model.graph.output, outputs, strict=True):
        info.type.tensor_type.elem_type = kind
    return model


def top(net: Network, y: str, k: int = 1, **attributes: int) -> tuple[str, str]:
    net.nodes.append(
        helper.make_node("TopK", [y, net.constant(np.array([k]))], ["best", "at"], name="top", **attributes)
    )
    return "best", "at"


def agree(model: onnx.ModelProto, x: np.ndarray) -> Build:
    """The integer path's outputs are onnxruntime's, in its types, and every segment is explained."""
    build, feeds = design(model), {"x": np.asarray(x, f32)}
    codes = build.host.codes(feeds)
    ours = build.host.reals(run(build.graph, codes))
    theirs = session(symbolic_batch(expand_quant(model))).run(None, feeds)
    for (name, mine), expected in zip(ours.items(), theirs, strict=True):
        assert mine.dtype == expected.dtype, name
        if mine.dtype.kind == "i":
            np.testing.assert_array_equal(mine, expected, err_msg=name)
        else:
            np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-5, err_msg=name)
    report = compare_segments(build, feeds, codes)
    assert (report.unexplained, report.beyond) == ([], [])
    return build


def ops_of(build: Build, kind: type[Op]) -> list[Op]:
    return [node.op for node in build.graph.nodes if isinstance(node.op, kind)]


SCALES = 2.0 ** -np.arange(2.0, 7).reshape(1, 5)
CHOICES: dict[str, Callable[[Network], str]] = {
    "one scale": lambda net: net.node("ArgMax", logits(net, False), axis=1, keepdims=0),
    "biases": lambda net: net.node("ArgMax", logits(net), axis=-1),
    "a scale per channel": lambda net: net.node("ArgMax", logits(net, True, SCALES), axis=1),
    "least, last of equals": lambda net: net.node("ArgMin", logits(net, False), axis=1, select_last_index=1),
    "falling": lambda net: net.node("ArgMax", net.node("Neg", logits(net)), axis=1),
    "squeezed": lambda net: net.node("Squeeze", net.node("ArgMax", logits(net), axis=1), np.array([1])),
    "index of the best": lambda net: top(net, logits(net))[1],
    "index of the least": lambda net: top(net, logits(net), largest=0)[1],
}


@pytest.mark.parametrize("name", CHOICES)
def test_choices(name: str) -> None:
    net = Network(6, seed=11)
    out = CHOICES[name](net)
    build = agree(typed(net, (out, INTEGER)), samples(80, 6, step=0.125))
    assert len(ops_of(build, ArgMax)) == 1


def test_equals_are_decided_as_the_model_does() -> None:
    """Few codes, so that most vectors have several largest elements."""
    for op_type in ("ArgMax", "ArgMin"):
        for last in (0, 1):
            net = Network(9, seed=12)
            out = net.node(op_type, quant(net, quant(net, "x", 1.0, 0, 2), 2.0, 0, 2), axis=1, select_last_index=last)
            agree(typed(net, (out, INTEGER)), samples(60, 9, step=0.125))


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_the_best_channel_of_every_pixel(axis: int) -> None:
    net = Network(3, 4, 5, seed=13)
    y = net.conv(quant(net, "x"), (4, 3, 1, 1), bias=[0.5, 0.25, 0.0, -0.5])
    build = agree(typed(net, (net.node("ArgMax", y, axis=axis, keepdims=0), INTEGER)), samples(12, 3, 4, 5))
    assert len(ops_of(build, Rearrange)) == (axis != 1)


def test_top_1_gives_value_and_index() -> None:
    net = Network(6, seed=14)
    outs = top(net, logits(net, False))
    build = agree(typed(net, (outs[0], TensorProto.FLOAT), (outs[1], INTEGER)), samples(40, 6))
    assert [len(ops_of(build, kind)) for kind in (ArgMax, WindowMax)] == [1, 1]


HOSTED: dict[str, Callable[[Network], tuple[str, ...]]] = {
    "of equals behind a Relu": lambda net: (net.node("ArgMax", net.node("Relu", logits(net)), axis=1),),
    "best three": lambda net: top(net, logits(net), 3)[::-1],
    "of a Softmax": lambda net: (net.node("ArgMax", net.node("Softmax", logits(net)), axis=1),),
}


@pytest.mark.parametrize("name", HOSTED)
def test_what_integers_cannot_tell_the_host_decides(name: str) -> None:
    net = Network(6, seed=15)
    first, *rest = HOSTED[name](net)
    model = typed(net, (first, INTEGER), *((out, TensorProto.FLOAT) for out in rest))
    assert ops_of(agree(model, samples(40, 6)), ArgMax) == []


@pytest.mark.parametrize("kind", [TensorProto.INT32, TensorProto.UINT8, TensorProto.FLOAT])
def test_a_cast_of_an_index(kind: int) -> None:
    net = Network(6, seed=16)
    out = net.node("Cast", net.node("ArgMax", logits(net), axis=1), to=kind)
    assert len(ops_of(agree(typed(net, (out, kind)), samples(40, 6)), ArgMax)) == 1


def test_a_cast_that_truncates_stays_with_the_host() -> None:
    net = Network(6, seed=17)
    agree(typed(net, (net.node("Cast", logits(net), to=TensorProto.INT32), TensorProto.INT32)), samples(40, 6))
    net = Network(6, seed=17)
    cast = net.node("Cast", logits(net), to=TensorProto.INT32, name="cut")
    with pytest.raises(UnsupportedModelError, match=r"comes after cut \(Cast\), which only the host can compute"):
        lower(net.finish(quant(net, net.node("Cast", cast, to=TensorProto.FLOAT))))


def test_who_can_win_by_brute_force() -> None:
    """The bounds of an index are those of all vectors inside the bounds, for either rule of equals."""
    rng = np.random.default_rng(18)
    for _ in range(150):
        lows = rng.integers(-2, 3, 4)
        own = tuple(Interval(int(lo), int(lo + more)) for lo, more in zip(lows, rng.integers(0, 3, 4), strict=True))
        factor, bias = tuple(rng.integers(-2, 3, 4).tolist()), tuple(rng.integers(-3, 4, 4).tolist())
        grid = np.stack(np.meshgrid(*(np.arange(b.lo, b.hi + 1) for b in own)), axis=-1).reshape(-1, 4)
        x = replace(value_in(Interval(-9, 9)), shape=(4,), bounds=own)
        for last in (False, True):
            op = ArgMax(factor, bias, last)
            found = op.reference(grid)
            assert op.bounds(x) == (Interval(int(found.min()), int(found.max())),)


@pytest.mark.parametrize("uniform", [True, False])
def test_keys_have_the_order_of_reals(uniform: bool) -> None:
    """Any rationals: equals are equal, and one scale for all channels needs few bits whatever it is."""
    rng = np.random.default_rng(19)
    for _ in range(200):
        scale = [Fraction(int(n), int(d)) for n, d in zip(rng.integers(-3, 4, 4), rng.integers(1, 5, 4), strict=True)]
        shift = tuple(
            Fraction(int(n), int(d)) for n, d in zip(rng.integers(-9, 9, 4), rng.integers(1, 5, 4), strict=True)
        )
        scale = scale[:1] * 4 if uniform else scale
        for sign in (1, -1):
            factor, bias = _keys(Affine(tuple(scale), shift), sign)
            wide = 4 // len(factor)
            keys = [(f * q + b, sign * (s * q + t)) for f, b, s, t in zip(factor * wide, bias * wide, scale, shift, strict=True)
                    for q in range(-6, 7)]  # fmt: skip
            for key, real in keys:
                assert all((key < k, key == k) == (real < r, real == r) for k, r in keys)
            assert not uniform or not scale[0] or max(map(abs, factor)) <= 4


def test_another_index_in_float32_is_explained_only_where_it_may_err(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two channels of nearly one value: float32 may take either; a third far below them it may not."""
    net = Network(2, seed=19)
    weight = net.quant(np.ones((2, 3)), 0.1, 0, 8)
    y = net.node("Gemm", quant(net, "x", 0.1, 0, 8), weight, [0.3, 0.3 + 2.0**-25, -50.0])
    model = typed(net, (net.node("ArgMax", y, axis=1), INTEGER))
    build, feeds = design(model), {"x": samples(200, 2, spread=3).astype(f32)}
    codes = build.host.codes(feeds)
    plain = compare_segments(build, feeds, codes)
    assert plain.unexplained == []
    right = segments._run_session

    def wrong(*given):
        found = right(*given)
        return found | {name: np.full_like(index, 2) for name, index in found.items() if name == "argmax1_out"}

    monkeypatch.setattr(segments, "_run_session", wrong)
    report = compare_segments(build, feeds, codes)
    assert len(report.unexplained) == 200
    assert "float32 chooses 2, " in report.unexplained[0]


# rows by index


def index_of(net: Network) -> str:
    return str(net.node("ArgMax", quant(net, "x"), axis=1, keepdims=0))


TABLES: dict[str, Callable[[Network, str], str]] = {
    "a quantized table": lambda net, at: net.node("Gather", net.weights(6, 4), at),
    "a scale per column": lambda net, at: net.node("Gather", net.weights(6, 4, scale=2.0 ** -np.arange(1.0, 5)), at),
    "a table of floats": lambda net, at: net.node("Gather", net.rng.integers(-99, 99, (6, 4)) / 64, at),
    "one hot": lambda net, at: net.node("OneHot", at, np.array([6]), np.array([0.0, 1.0])),
    "one hot, some never": lambda net, at: net.node("OneHot", at, np.array([9]), np.array([-1.0, 0.5])),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables(name: str) -> None:
    net = Network(6, seed=22)
    out = TABLES[name](net, index_of(net))
    build = agree(net.finish(out, quant(net, out, 0.25)), samples(40, 6))
    assert len(ops_of(build, Lookup)) == 1


def test_rows_that_no_index_names_are_left_out() -> None:
    """An integer input of 2 bits reads 4 of 9 rows, and bounds are theirs."""
    net = Network(3, seed=23)
    table = np.array([[v, -v] for v in (1, 2, 3, 4, 90, 91, 92, 93, 94)]) * 1.0
    net.inputs[0].type.tensor_type.elem_type = INTEGER
    graph = designed(net.finish(net.node("Gather", table, "x")), x="uint2")[1]
    (node,) = graph.nodes[-1:]
    assert isinstance(node.op, Lookup)
    assert node.op.rows.tolist() == [[1, -1], [2, -2], [3, -3], [4, -4]]
    assert graph.values[node.output].bounds == (Interval(1, 4), Interval(-4, -1))


def test_a_product_with_one_hot_codes() -> None:
    net = Network(6, seed=24)
    codes = net.node("OneHot", index_of(net), np.array([6]), np.array([0.0, 1.0]))
    agree(net.finish(quant(net, net.node("MatMul", codes, net.weights(6, 3)), 0.25)), samples(40, 6))


# what is refused


def row_beyond_the_table(net: Network) -> str:
    best = net.node("ArgMax", net.node("Flatten", quant(net, "x")), axis=1)
    return net.node("Gather", np.zeros((9, 2)), best)


def row_of_a_fraction(net: Network) -> str:
    return net.node("Gather", np.zeros((9, 2)), quant(net, "x"))


def bipolar_product(net: Network) -> str:
    return net.node("Mul", net.bipolar("x"), other(net))


def product_of_unquantized(net: Network) -> str:
    return net.node("Mul", net.norm(net.conv(quant(net, "x"), (3, 3, 1, 1)), [1.0, 2.0, 3.0]), other(net))


def ranks(net: Network) -> str:
    return net.node(
        "Add", quant(net, "x"), net.node("Squeeze", net.node("MaxPool", other(net), kernel_shape=[4, 1]), np.array([2]))
    )


def layer_behind_a_product(net: Network) -> str:
    return net.conv(net.node("Mul", quant(net, "x"), other(net)), (2, 3, 1, 1))


def choice_of_ratios(net: Network) -> str:
    return net.node("Max", quant(net, "x", column(0.25, 0.5, 1)), other(net))


def best_sample(net: Network) -> str:
    return net.node("ArgMax", quant(net, "x"), axis=0)


REFUSED = {
    bipolar_product: (
        "mul1 (Mul): multiplies an activation whose 0 is no integer code but 1/2; use a quantizer with an integer zero point"
    ),
    product_of_unquantized: (
        "mul1 (Mul): multiplies a tensor that is not a plain scale of integers (a BatchNormalization, Relu or MaxPool comes"
        " between); put a Quant on both sides of the product"
    ),
    ranks: (
        "add1 (Add): adds tensors of shapes (1, 3, 4, 4) and (1, 3, 4), where a batch axis would meet another axis; reshape"
        " them to one number of axes"
    ),
    layer_behind_a_product: (
        "conv2 (Conv): its input is not quantized; put a Quant between it and the operator before it"
    ),
    choice_of_ratios: (
        "max1 (Max): chooses from tensors whose scales have no one ratio in all channels; put a Quant on both sides of it"
    ),
    row_beyond_the_table: ("gather1 (Gather): its index is 0 to 47, but its table has 9 rows; narrow the index's type"),
    row_of_a_fraction: ("gather1 (Gather): looks up a tensor with steps of 1/4 from 0; an index has to be an integer"),
    best_sample: "argmax1 (ArgMax): axis is 0, which mixes the samples of a batch; keep the batch axis first",
}


@pytest.mark.parametrize("build", REFUSED, ids=lambda build: build.__name__)
def test_refusals(build: Callable[[Network], str]) -> None:
    net = Network(3, 4, 4, seed=20)
    with pytest.raises(UnsupportedModelError) as error:
        lower(net.finish(build(net)))
    assert str(error.value) == REFUSED[build]


# compiled


def classifier(net: Network) -> onnx.ModelProto:
    return typed(net, (net.node("ArgMax", logits(net), axis=1), INTEGER))


def best_and_index(net: Network) -> onnx.ModelProto:
    outs = top(net, logits(net, False))
    return typed(net, (outs[0], TensorProto.FLOAT), (outs[1], INTEGER))


BUILDS: dict[str, tuple[tuple[int, ...], Callable[[Network], onnx.ModelProto]]] = {
    "attention": ((3, 4), lambda net: net.finish(attention(net))),
    "squeeze and excite": ((3, 4, 4), lambda net: net.finish(squeeze_excite(net))),
    "choices": ((3, 4, 4), lambda net: net.finish(quant(net, JOINTS["smaller of three"][1](net), 0.5))),
    "classifier": ((6,), classifier),
    "top 1": ((6,), best_and_index),
}


@pytest.mark.parametrize("name", BUILDS)
def test_compiled_networks_verify(name: str, tmp_path: Path, unoptimised: None) -> None:
    shape, make = BUILDS[name]
    net = Network(*shape, seed=21)
    model, x = make(net), samples(8, *shape).astype(f32)
    build = broadaxe.compile(model, tmp_path / "build")
    result = broadaxe.verify(build, x)
    assert result.ok, str(result)
    assert result.witnesses == sum(isinstance(node.op, Accumulating) for node in build.graph.nodes)
    outputs = broadaxe.simulate(build, x)
    expected = session(symbolic_batch(expand_quant(model))).run(None, {"x": x})
    for mine, theirs in zip(outputs.values(), expected, strict=True):
        assert mine.dtype == theirs.dtype
