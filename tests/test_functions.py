"""Pointwise functions: exact codes against 60-digit mpmath, directions, refusals, onnxruntime's errors, whole networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np
import onnx
import pytest
from models import Network, design, f32
from onnx import helper, numpy_helper

import broadaxe
from broadaxe import enclosures, functions
from broadaxe.build import Build
from broadaxe.chain import ROUNDINGS, Affine, Chain, Clamp, Normalize, Quantizer, Step, codes, direction_on
from broadaxe.constants import run_float
from broadaxe.errors import ProofError, UnsupportedModelError
from broadaxe.float_bound import RELATIVE, kernel_error
from broadaxe.functions import KINDS, Combined, Function, Leaky, Power, combine, reach
from broadaxe.ops.forms import Table
from broadaxe.ops.requantize import Requantize
from broadaxe.prove import checker
from broadaxe.segments import compare_segments
from broadaxe.staircase import staircase, stairs_of, tabulate
from broadaxe.types import Interval

F = Fraction
ONE, ZERO = (F(1),), (F(0),)
mp = mpmath.mp.clone()
mp.dps = 60


def logistic(x):
    return 1 / (1 + mp.exp(-x))


ORACLES: dict[str, Callable] = {
    "exp": mp.exp,
    "log": mp.log,
    "erf": mp.erf,
    "sigmoid": logistic,
    "tanh": mp.tanh,
    "softplus": lambda x: mp.log(1 + mp.exp(x)),
    "softsign": lambda x: x / (1 + abs(x)),
    "elu": lambda x: x if x >= 0 else mp.expm1(x),
    "sign": mp.sign,
    "hardswish": lambda x: x * min(max(x / 6 + mp.mpf(1) / 2, 0), 1),
    "gelu": lambda x: x / 2 * mp.erfc(-x / mp.sqrt(2)),
    "gelu_tanh": lambda x: x * logistic(2 * mp.sqrt(2 / mp.pi) * (x + mp.mpf(44715) / 10**6 * x**3)),
}


def real(x: Fraction) -> mpmath.mpf:
    return mp.mpf(x.numerator) / x.denominator


def rational(value: mpmath.mpf) -> Fraction:
    """The number, or the short rational that it is to 45 digits."""
    found = F(int(mp.nint(value * mp.mpf(2) ** 180)), 1 << 180)
    short = found.limit_denominator(10**9)
    return short if abs(found - short) < F(1, 10**45) else found


def away(x: Fraction, up_from: Callable[[Fraction], bool]) -> int:
    whole = math.floor(abs(x))
    code = whole + up_from(abs(x) - whole)
    return code if x >= 0 else -code


ROUND = {
    "ROUND": round,
    "FLOOR": math.floor,
    "CEIL": math.ceil,
    "UP": lambda x: away(x, lambda part: part > 0),
    "DOWN": lambda x: away(x, lambda part: False),
    "HALF_UP": lambda x: away(x, lambda part: part >= F(1, 2)),
    "HALF_DOWN": lambda x: away(x, lambda part: part > F(1, 2)),
}


def expected(f: Callable, affine: Affine, quantizer: Quantizer, c: int, x: int) -> int:
    def at(column):
        return column[0] if len(column) == 1 else column[c]

    value = rational(f(real(at(affine.scale) * x + at(affine.shift))))
    scaled = value / at(quantizer.scale) + at(quantizer.zero_point)
    return min(max(ROUND[quantizer.rounding](scaled), quantizer.lo), quantizer.hi)


def assert_exact(step: Step, f: Callable, domain: list[Interval], affine: Affine) -> None:
    """Codes of the whole domain, the staircase or table of them, and the direction that is claimed."""
    chain: Chain = (affine, step)
    for number, rounding in enumerate(ROUNDINGS):
        grid = (F(1, 8),) if number % 2 else (F(3, 50), F(1, 16), F(7, 3))
        quantizer = Quantizer(grid, (F(number % 3),), -40, 60, rounding)
        rows = tabulate(chain, quantizer, tuple(domain))
        least = min(d.lo for d in domain)
        signs = direction_on(chain, domain)
        for c, d in enumerate(domain):
            inside = range(d.lo, d.hi + 1)
            right = [expected(f, affine, quantizer, c, x) for x in inside]
            assert rows[c, d.lo - least : d.hi - least + 1].tolist() == right
            if signs[c] is not None:
                assert right == sorted(right, reverse=signs[c] < 0)
        if None not in signs:
            exact, found = staircase(chain, quantizer, domain), stairs_of(rows, domain)
            assert found is not None
            np.testing.assert_array_equal(exact.first, found.first)
            np.testing.assert_array_equal(exact.steps, found.steps)


@pytest.mark.parametrize("kind", KINDS)
def test_functions_are_exact(kind: str) -> None:
    positive = kind == "log"
    domain = (
        [Interval(1, 60), Interval(1, 90), Interval(5, 20)]
        if positive
        else [Interval(-40, 40), Interval(-9, 50), Interval(-33, 0)]
    )
    affine = Affine((F(1, 8), F(1, 10), F(2, 7)), ZERO if positive else (F(0), F(1, 4), F(0)))
    assert_exact(Function(kind), ORACLES[kind], domain, affine)


@pytest.mark.parametrize("exponent", ["2", "3", "-1", "-2", "1/2", "-1/2", "3/4", "9227469/4194304", "-5/4"])
def test_powers_are_exact(exponent: str) -> None:
    """Perfect squares and fourth powers, whose roots meet ties, among them; both signs where the exponent is whole."""
    e = F(exponent)
    domain = [Interval(1, 82), Interval(1, 64), Interval(1, 81)]
    affine = Affine((F(1, 4), F(1), F(1, 81)), ZERO)
    assert_exact(Power(e), lambda x: mp.power(x, real(e)), domain, affine)
    if e.denominator == 1:
        domain = [Interval(-40, -1)] * 3
        assert_exact(Power(e), lambda x: x ** int(e), domain, affine)
    if e in (2, 3):
        assert_exact(Power(e), lambda x: x ** int(e), [Interval(-9, 9), Interval(-3, 12), Interval(-20, 20)], affine)


def test_slopes_of_mixed_signs_are_exact() -> None:
    slopes = (F(1, 10), F(-1, 3), F(0))
    affine = Affine((F(1, 4), F(-1, 4), F(1, 3)), (F(0), F(1, 8), F(-1)))
    for c, slope in enumerate(slopes):
        rows = [Interval(-30, 30)] * 3
        one = Leaky((slope,))
        assert_exact(one, lambda x, s=slope: x if x >= 0 else real(s) * x, rows, affine)
        chain = (affine, Leaky(slopes))
        quantizer = Quantizer((F(1, 8),), ZERO, -8, 7)
        alone = tabulate((affine, one), quantizer, tuple(rows))
        np.testing.assert_array_equal(tabulate(chain, quantizer, tuple(rows))[c], alone[c])
    signs = direction_on((affine, Leaky(slopes)), rows)
    assert signs == (1, None, 1)
    assert direction_on((affine, Leaky(slopes)), [Interval(-30, 30), Interval(1, 9), Interval(0, 9)]) == (1, 1, 1)


COMBINATIONS = {
    "silu": (Combined("Mul", (), (Function("sigmoid"),)), lambda x: x * logistic(x)),
    "mish": (
        Combined("Mul", (), (Function("softplus"), Function("tanh"))),
        lambda x: x * mp.tanh(mp.log(1 + mp.exp(x))),
    ),
    "sum": (Combined("Add", (Clamp(F(0), None),), (Function("tanh"),)), lambda x: max(x, 0) + mp.tanh(x)),
    "difference": (Combined("Sub", (Function("erf"),), (Power(F(2)),)), lambda x: mp.erf(x) - x * x),
    "ratio": (Combined("Div", (Function("elu"),), (Function("exp"),)), lambda x: ORACLES["elu"](x) / mp.exp(x)),
    "least": (Combined("Min", (), (Affine((F(-1),), (F(1),)),)), lambda x: min(x, 1 - x)),
    "greatest": (Combined("Max", (Function("tanh"),), (Affine((F(1, 2),), ZERO),)), lambda x: max(mp.tanh(x), x / 2)),
}


@pytest.mark.parametrize("name", COMBINATIONS)
def test_combinations_are_exact(name: str) -> None:
    step, f = COMBINATIONS[name]
    assert_exact(
        step, f, [Interval(-40, 40), Interval(-9, 30), Interval(0, 33)], Affine((F(1, 8), F(-1, 10), F(2, 7)), ZERO)
    )


def test_a_product_of_what_rises_above_zero_rises() -> None:
    chain = (Affine((F(1, 8),), ZERO), COMBINATIONS["silu"][0])
    assert direction_on(chain, [Interval(0, 9), Interval(-1, 9), Interval(-9, 0)]) == (1, None, None)


def test_combining() -> None:
    x: Chain = (Affine((F(1, 4),), (F(3),)),)
    tanh = (*x, Function("tanh"))
    assert combine("Add", x, x) == (Affine((F(1, 2),), (F(6),)),)
    assert combine("Sub", x, x) == (Affine((F(0),), (F(0),)),)
    assert combine("Sub", tanh, tanh) == (*tanh, Affine((F(0),), (F(0),)))
    assert combine("Mul", x, x) == (*x, Power(F(2)))
    assert combine("Max", tanh, tanh) == tanh
    assert combine("Div", tanh, tanh) == (*tanh, Affine((F(0),), (F(1),)))
    assert combine("Mul", x, tanh) == (*x, Combined("Mul", (), (Function("tanh"),)))
    moved: Chain = (Affine((F(1, 8),), (F(0),)), Function("tanh"))
    assert combine("Mul", x, moved) == (Affine(ONE, ZERO), Combined("Mul", x, moved))


@pytest.mark.parametrize("kind", [k for k in KINDS if KINDS[k].turn is not None])
def test_functions_turn_where_they_are_said_to(kind: str) -> None:
    left, right = KINDS[kind].turn
    slope = [
        mp.diff(ORACLES[kind], real(end) + shift)
        for end, shift in ((left, -mp.mpf(1) / 10**9), (right, mp.mpf(1) / 10**9))
    ]
    assert slope[0] < 0 < slope[1]
    assert max(abs(mp.diff(ORACLES[kind], mp.mpf(v) / 64)) for v in range(-640, 641, 3)) < KINDS[kind].steepest
    step = Affine(ONE, ZERO)
    scaled = Affine((F(1, 1000),), ZERO)
    assert direction_on((scaled, Function(kind)), [Interval(-9000, -1600), Interval(-700, 9000), Interval(-800, -700)])[
        :2
    ] == (-1, 1)
    assert direction_on((step, Function(kind)), [Interval(-2, 0)]) == (None,)


def test_precision_rises_until_a_function_is_decided() -> None:
    """1 - tanh(100) is about 2**-288: below 1 at any precision, but far under the first one."""
    chain = (Affine((F(1),), ZERO), Function("tanh"))
    floor = Quantizer((F(1, 4),), ZERO, -8, 8, "FLOOR")
    assert codes(chain, floor, np.array([[-100, 0, 100]], dtype=object)).tolist() == [[-4, 0, 3]]


def test_exact_points_are_ties_that_are_met() -> None:
    x = np.array([[0, 4, 9, 1]], dtype=object)
    for step, values in (
        (Function("sigmoid"), {0: F(1, 2)}),
        (Power(F(1, 2)), {0: F(0), 4: F(2, 3), 9: F(1), 1: F(1, 3)}),
    ):
        chain = (Affine((F(1, 9),) if isinstance(step, Power) else ONE, ZERO), step)
        for rounding in ROUNDINGS:
            quantizer = Quantizer((F(1, 3),) if isinstance(step, Power) else ONE, (F(1, 2),), -8, 8, rounding)
            got = codes(chain, quantizer, x)[0]
            for i, point in enumerate(x[0]):
                if point in values:
                    assert got[i] == ROUND[rounding](values[point] / quantizer.scale[0] + F(1, 2)), (rounding, point)


def test_a_wrong_enclosure_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def off(num: int, den: int, p: int) -> tuple[int, int, int]:
        lo, hi = enclosures.erf(num, den, p)
        return lo + (1 << (p - 9)), hi + (1 << (p - 9)), 1 << p

    monkeypatch.setitem(functions.KINDS, "erf", replace(KINDS["erf"], enclose=off))
    with pytest.raises(AssertionError):
        assert_exact(Function("erf"), ORACLES["erf"], [Interval(-31, 40)] * 3, Affine((F(1, 11),), ZERO))


def test_inexact_arguments_stay_enclosed() -> None:
    """Behind a square root of 2: every function of an irrational number."""
    norm = Normalize(ONE, ZERO, (F(2),), ZERO)
    for kind, f in ORACLES.items():
        domain = Interval(1, 40) if kind == "log" else Interval(-40, 40)
        quantizer = Quantizer((F(3, 50),), ZERO, -100, 100)
        row = list(range(domain.lo, domain.hi + 1))
        got = codes((Affine((F(1, 8),), ZERO), norm, Function(kind)), quantizer, np.array([row], dtype=object))[0]
        right = [expected(lambda x, f=f: f(x / mp.sqrt(2)), Affine((F(1, 8),), ZERO), quantizer, 0, x) for x in row]
        assert got.tolist() == right, kind


def test_float64_stays_within_its_own_bound() -> None:
    """What the host computes of every function, against mpmath, and its error where its argument is off."""
    x = np.concatenate([np.linspace(-20, 20, 401), [1e-9, -1e-9, 0.0]])
    steps = {kind: (Function(kind), f) for kind, f in ORACLES.items()}
    steps |= COMBINATIONS | {"slope": (Leaky((F(-1, 3),)), lambda v: v if v >= 0 else -v / 3)}
    steps |= {
        str(e): (Power(F(*e)), lambda v, e=e: mp.power(v, mp.mpf(e[0]) / e[1])) for e in ((1, 2), (3, 4), (-1, 1))
    }
    for name, (step, f) in steps.items():
        mine = x[x > 0.01] if name == "log" or isinstance(step, Power) else x
        for off in (0.0, 1e-6):
            y, error = step.approximate(mine[None])[0], step.error(mine[None], np.full((1, len(mine)), off))[0]
            assert np.isfinite(error).all(), name
            for point, value, bound in zip(mine.tolist(), y.tolist(), error.tolist(), strict=True):
                for moved in (-off, off):
                    assert abs(mp.mpf(value) - f(mp.mpf(point) + mp.mpf(moved))) <= bound * (1 + 1e-12), (name, point)


# onnxruntime's kernels


def kernel(op_type: str, x: np.ndarray, exponent: float | None = None, **attributes: object) -> np.ndarray:
    more = [] if exponent is None else [numpy_helper.from_array(f32(exponent), "e")]
    node = helper.make_node(op_type, ["x", *(t.name for t in more)], ["y"], **attributes)
    infos = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [None]) for n in "xy"]
    graph = helper.make_graph([node], "one", infos[:1], infos[1:], more)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return run_float(model, {"x": x})["y"].astype(np.float64)


GRID = np.concatenate([np.linspace(-40, 40, 160001), np.geomspace(1e-30, 1e3, 9001), -np.geomspace(1e-30, 1e3, 9001)])
GRID = np.unique(GRID.astype(f32))
SELU = float(f32(1.0507010221481323)), float(f32(1.6732631921768188))
KERNELS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], dict[str, object]]] = {
    "Sigmoid": (KINDS["sigmoid"].floats, {}),
    "Tanh": (np.tanh, {}),
    "Erf": (KINDS["erf"].floats, {}),
    "Exp": (np.exp, {}),
    "Softplus": (KINDS["softplus"].floats, {}),
    "Softsign": (KINDS["softsign"].floats, {}),
    "Elu": (KINDS["elu"].floats, {}),
    "Selu": (lambda x: SELU[0] * np.where(x > 0, x, SELU[1] * np.expm1(np.minimum(x, 0))), {}),
    "Celu": (lambda x: np.where(x > 0, x, 0.75 * np.expm1(np.minimum(x, 0) / 0.75)), {"alpha": 0.75}),
    "HardSwish": (KINDS["hardswish"].floats, {}),
    "Mish": (lambda x: x * np.tanh(np.logaddexp(0, x)), {}),
    "Gelu": (KINDS["gelu"].floats, {}),
    "Gelu tanh": (KINDS["gelu_tanh"].floats, {"approximate": "tanh"}),
    "Log": (np.log, {}),
    "Sqrt": (np.sqrt, {}),
    "Reciprocal": (lambda x: 1 / x, {}),
    **{f"Pow {e}": (lambda x, e=e: x ** float(f32(e)), {"exponent": e}) for e in (2, 3, 0.5, 1.5, -1, -2, 2.2, 7)},
}


@pytest.mark.parametrize("name", KERNELS)
def test_errors_of_float32_kernels_are_less_than_half_of_what_is_allowed(name: str) -> None:
    f, attributes = KERNELS[name]
    op_type = name.split()[0]
    x = GRID[GRID > 0] if op_type in ("Log", "Sqrt", "Reciprocal", "Pow") else GRID[np.abs(GRID) < 80]
    with np.errstate(all="ignore"):
        exact, got = f(x.astype(np.float64)), kernel(op_type, x, **attributes)
    held = (np.abs(exact) < 1e37) & (np.abs(exact) > 1e-36)
    held |= op_type not in RELATIVE
    assert held.sum() > 1000
    allowed = kernel_error(op_type, x.astype(np.float64), exact)
    assert (np.abs(got - exact)[held] <= allowed[held] / 2).all()


# Networks


def through(
    f: Callable[[Network, str], str], *, bits: int = 5, seed: int = 1, quantized: bool = True
) -> onnx.ModelProto:
    net = Network(6, seed=seed)
    y = net.node("MatMul", net.quant("x", 1 / 16, bits=5), net.weights(6, 4, scale=0.06, bits=3))
    y = f(net, y)
    return net.finish(net.quant(y, 0.06, bits=bits) if quantized else y)


def gelu(net: Network, y: str) -> str:
    """As torch decomposes it."""
    gate = net.node("Add", net.node("Erf", net.node("Div", y, f32(math.sqrt(2)))), f32(1))
    return net.node("Mul", net.node("Mul", y, gate), f32(0.5))


def gelu_tanh(net: Network, y: str) -> str:
    cubed = net.node("Mul", net.node("Pow", y, f32(3)), f32(0.044715))
    inner = net.node("Mul", net.node("Add", y, cubed), f32(math.sqrt(2 / math.pi)))
    return net.node("Mul", net.node("Mul", y, f32(0.5)), net.node("Add", net.node("Tanh", inner), f32(1)))


def hardswish(net: Network, y: str) -> str:
    gate = net.node("Clip", net.node("Add", y, f32(3)), f32(0), f32(6))
    return net.node("Div", net.node("Mul", y, gate), f32(6))


NETWORKS: dict[str, Callable[[Network, str], str]] = {
    **{op: lambda n, y, op=op: n.node(op, y) for op in ("Abs", "Ceil", "Erf", "Exp", "Floor", "Gelu", "HardSwish")},
    **{
        op: lambda n, y, op=op: n.node(op, y) for op in ("HardSigmoid", "LeakyRelu", "Mish", "Round", "Selu", "Sigmoid")
    },
    **{op: lambda n, y, op=op: n.node(op, y) for op in ("Softplus", "Softsign", "Tanh", "Elu", "Celu")},
    "negative slope": lambda n, y: n.node("LeakyRelu", y, alpha=-0.3),
    "gelu tanh": lambda n, y: n.node("Gelu", y, approximate="tanh"),
    "slopes": lambda n, y: n.node("PRelu", y, [0.25, -0.2, 1.5, -1.0]),
    "a falling elu": lambda n, y: n.node("Elu", y, alpha=-0.7),
    "threshold": lambda n, y: n.node("ThresholdedRelu", y, alpha=0.4),
    "negative threshold": lambda n, y: n.node("ThresholdedRelu", y, alpha=-0.4),
    "square": lambda n, y: n.node("Pow", y, f32(2)),
    "root": lambda n, y: n.node("Sqrt", n.node("Relu", y)),
    "logarithm": lambda n, y: n.node("Log", n.node("Clip", y, f32(0.1), f32(9))),
    "reciprocal": lambda n, y: n.node("Div", [1.0, -2.0, 3.0, 0.1], n.node("Add", n.node("Abs", y), f32(0.5))),
    "root of a reciprocal": lambda n, y: n.node("Pow", n.node("Add", n.node("Abs", y), f32(0.5)), f32(-0.5)),
    "maximum": lambda n, y: n.node("Min", n.node("Max", y, [0.1, -0.2, 0.3, 0.0]), f32(0.7)),
    "extremes of functions": lambda n, y: n.node("Max", n.node("Tanh", y), n.node("Mul", y, f32(0.5)), f32(-0.4)),
    "silu": lambda n, y: n.node("Mul", y, n.node("Sigmoid", y)),
    "gated hard": lambda n, y: n.node("Mul", n.node("HardSigmoid", y, alpha=1 / 6), y),
    "decomposed gelu": gelu,
    "decomposed gelu tanh": gelu_tanh,
    "decomposed hardswish": hardswish,
    "x * x": lambda n, y: n.node("Mul", y, y),
    "x - x": lambda n, y: n.node("Sub", y, y),
    "x + x": lambda n, y: n.node("Add", y, y),
    "skip": lambda n, y: n.node("Add", n.node("Relu", y), n.node("Sigmoid", n.norm(y, [1.0, -2.0, 0.5, 0.1]))),
    "ratio": lambda n, y: n.node("Div", y, n.node("Add", n.node("Exp", n.node("Neg", y)), f32(1))),
}
DATA = np.random.default_rng(3).normal(size=(400, 6)).astype(f32)


def codes_by_fractions(build: Build) -> None:
    """No integer of any requantizer's domain is wrong by the checker's own arithmetic."""
    from broadaxe.serialize import plain

    for node in build.graph.nodes:
        if isinstance(node.op, Requantize):
            (x,) = build.graph.inputs_of(node)
            theirs = checker.Chain({"chain": plain(node.op.chain), "quantizer": plain(node.op.quantizer)}, x.channels)
            for c, d in enumerate(x.bounds):
                inside = np.arange(d.lo, d.hi + 1, 7)
                mine = node.op.chosen().evaluate(np.repeat(inside[:, None], x.channels, axis=1))[:, c]
                assert mine.tolist() == [theirs.code(c, int(v)) for v in inside]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_compute_what_float32_computes(name: str) -> None:
    """Codes flip only within the bound, and reals lie within it."""
    build = design(through(NETWORKS[name]))
    report = compare_segments(build, {"x": DATA}, build.codes({"x": DATA}))
    assert report.unexplained == []
    assert report.flips < 0.05 * report.activations
    codes_by_fractions(build)
    build = design(through(NETWORKS[name], quantized=False))
    report = compare_segments(build, {"x": DATA}, build.codes({"x": DATA}))
    assert report.beyond == []
    assert report.outputs == DATA.shape[0] * 4
    assert report.uncompared == []
    assert report.largest > 1e-4 or name in ("x - x", "Round", "Floor", "Ceil")


def test_the_difference_of_a_tensor_and_itself_is_the_constant_0() -> None:
    build = design(through(NETWORKS["x - x"]))
    (node,) = [n for n in build.graph.nodes if isinstance(n.op, Requantize)]
    assert build.graph.values[node.output].bounds == (Interval(0, 0),) * 4
    assert node.op.chosen().name == "constant"


def test_levels_and_signs_behind_a_function_that_turns(tmp_path: Path) -> None:
    """Quantizers of other dialects: all thresholds of a table, and the middle level of a Sign that only its inside meets."""
    for end, levels in (("MultiThreshold", 4), ("Sign", 3)):
        net = Network(3, seed=2)
        y = net.node("MatMul", net.quant("x", 1 / 8, bits=4), net.weights(3, 3, scale=0.25, bits=3))
        y = net.node("Sub", net.node("Mul", y, y), f32(0.25))
        more = [[[-0.1, 0.3, 0.8]]] if end == "MultiThreshold" else []
        domain = {"domain": "qonnx.custom_op.general", "out_dtype": "UINT2"} if more else {}
        y = net.node(end, y, *map(np.array, more), **domain)
        path = tmp_path / end
        build = broadaxe.compile(net.finish(net.node("MatMul", y, net.weights(3, 2))), path)
        (node,) = [n for n in build.graph.nodes if isinstance(n.op, Requantize)]
        form = node.op.chosen()
        assert isinstance(form, Table)
        assert len(np.unique(form.rows)) == levels
        checker.check(path)
        report = compare_segments(build, {"x": DATA[:, :3]}, build.codes({"x": DATA[:, :3]}))
        assert (report.unexplained, report.beyond) == ([], [])


def test_no_staircase_is_made_of_what_may_turn() -> None:
    with pytest.raises(ProofError, match="not known to be monotone"):
        staircase((Affine(ONE, ZERO), Function("gelu")), Quantizer(ONE, ZERO, -8, 7), [Interval(-9, 9)])


def test_a_function_that_is_off_is_unexplained() -> None:
    """A table entry off by one: verification names it."""
    build = design(through(NETWORKS["silu"]))
    (node,) = [n for n in build.graph.nodes if isinstance(n.op, Requantize)]
    form = node.op.chosen()
    assert isinstance(form, Table)
    wrong = replace(node, op=replace(node.op, form=replace(form, rows=form.rows + 1)))
    broken = replace(
        build, graph=replace(build.graph, nodes=tuple(wrong if n is node else n for n in build.graph.nodes))
    )
    assert compare_segments(broken, {"x": DATA}, broken.codes({"x": DATA})).unexplained


def everything() -> onnx.ModelProto:
    """Functions of every kind behind convolutions, a MaxPool behind one that turns, another one at the end."""
    net = Network(2, 5, 5, seed=7)
    x = net.quant("x", 1 / 8, bits=4)

    def layer(y: str, inputs: int) -> str:
        return net.conv(y, (4, inputs, 1, 1), weight=net.weights(4, inputs, 1, 1, scale=0.1, bits=3))

    y = layer(x, 2)
    a = net.quant(net.node("Mul", y, net.node("Sigmoid", y)), 0.1, bits=4)
    b = net.quant(gelu(net, layer(a, 4)), 0.1, bits=4)
    c = net.quant(net.node("PRelu", layer(b, 4), np.array([0.2, -0.5, 1.0, -1.0]).reshape(4, 1, 1)), 0.07, bits=4)
    d = net.node("MaxPool", net.node("HardSwish", layer(c, 4)), kernel_shape=[2, 2], strides=[2, 2])
    d = net.quant(net.node("Tanh", d), 0.05, bits=5)
    e = net.quant(net.node("Round", net.node("Mul", layer(d, 4), f32(3))), 0.5, bits=4)
    return net.finish(net.node("Softplus", layer(e, 4)))


def test_a_network_of_functions_compiles_and_is_verified(tmp_path: Path, unoptimised: None) -> None:
    x = np.random.default_rng(5).normal(size=(40, 2, 5, 5)).astype(f32)
    result = broadaxe.verify(broadaxe.compile(everything(), tmp_path / "build"), x)
    assert result.ok, str(result)
    assert result.segments is not None
    assert result.segments.outputs > 0


# Refusals


def refusal(f: Callable[[Network, str], str]) -> str:
    with pytest.raises(UnsupportedModelError) as error:
        design(through(f))
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


def test_functions_outside_their_domain_are_refused() -> None:
    for op_type, what in (
        ("Log", "only numbers above 0 have a logarithm"),
        ("Sqrt", "only numbers from 0 up have a root"),
        ("Reciprocal", "0 has no reciprocal"),
    ):
        said = refusal(lambda n, y, op=op_type: n.node(op, y, name="f"))
        assert said.startswith(f"f ({op_type}): its input reaches from -")
        assert said.endswith(f"; {what}, put a Clip or a Quant before it")
    said = refusal(lambda n, y: n.node("Div", y, n.node("Tanh", y), name="f"))
    assert said.startswith("f (Div): divides by an activation that reaches from -")
    said = refusal(lambda n, y: n.node("Exp", n.node("Mul", y, f32(5000)), name="f"))
    assert said.endswith("; only up to 1024 is supported, put a Clip or a Quant before it")
    said = refusal(lambda n, y: n.node("Pow", y, f32(100), name="f"))
    assert said == "f (Pow): its exponent is 100; only magnitudes up to 64 are supported"
    assert refusal(lambda n, y: n.node("Pow", y, y, name="f")).startswith("f (Pow): has an activation as its exponent;")


def test_a_function_that_turns_on_a_large_domain_is_refused() -> None:
    net = Network(64, seed=0)
    y = net.node("MatMul", net.quant("x", 1 / 16, bits=12), net.weights(64, 4, scale=0.01, bits=8))
    with pytest.raises(UnsupportedModelError) as error:
        design(net.finish(net.quant(net.node("Gelu", y), 0.1, bits=4, name="q")))
    assert str(error.value).startswith("q (Quant): the function before it rises and falls on its ")
    assert str(error.value).endswith("put a Quant before the function so that it reads few codes")


def test_a_function_between_layers_needs_a_quantizer() -> None:
    """One message for all functions."""
    for op_type in ("LeakyRelu", "Sigmoid", "Erf", "Gelu", "Relu"):
        said = refusal(lambda n, y, op=op_type: n.node("MatMul", n.node(op, y), n.weights(4, 3), name="m"))
        assert said == "m (MatMul): its input is not quantized; put a Quant between it and the operator before it"


def test_a_max_pool_that_waits_is_passed_only_by_what_rises() -> None:
    for op_type, refused in (("Abs", True), ("Gelu", True), ("Sigmoid", False)):
        net = Network(2, 4, 4, seed=0)
        y = net.node("Relu", net.conv(net.quant("x", 0.1), (2, 2, 1, 1)))
        y = net.node("MaxPool", y, kernel_shape=[2, 2])
        model = net.finish(net.quant(net.node(op_type, y, name="f"), 0.1))
        if not refused:
            design(model)
            continue
        with pytest.raises(UnsupportedModelError) as error:
            design(model)
        assert str(error.value) == (
            f"f ({op_type}): turns values round after a MaxPool that has no Quant before it; put a Quant before the pool"
        )


def test_an_undecided_code_names_its_node() -> None:
    """tanh(x) and 2 * sigmoid(2x) - 1 are equal, which no precision shows."""

    def same(net: Network, y: str) -> str:
        other = net.node("Sub", net.node("Mul", net.node("Sigmoid", net.node("Mul", y, f32(2))), f32(2)), f32(1))
        y = net.node("Sub", net.node("Tanh", y), other)
        return net.quant(y, 0.1, mode="FLOOR", name="f")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("broadaxe.chain.LAST_PRECISION", 512)
        assert refusal(same).startswith("f (Quant): channel 0: a value stays within 2**-512 of a rounding boundary;")


def test_what_reaches_how_far() -> None:
    chain = (Affine((F(1, 4),), ZERO), Function("hardswish"))
    assert reach(chain, [Interval(-16, 8)]) == (F(-3, 8), F(5, 3))
    with pytest.raises(ProofError, match=r"^log: is taken of a number that may be 0; clip it before$"):
        codes((Affine(ONE, ZERO), Function("log")), Quantizer(ONE, ZERO, 0, 1), np.array([[0]], dtype=object))


def _powers(net: Network, y: str) -> str:
    for _ in range(60):
        y = net.node("Mul", y, net.node("Add", y, np.array(1.0, np.float32)))
    return y


def _tree(net: Network, y: str) -> str:
    a, b = net.node("Abs", y), net.node("Relu", y)
    for _ in range(40):
        a, b = net.node("Max", a, b), net.node("Add", a, b)
    return a


def _powers_of_powers(net: Network, y: str) -> str:
    for _ in range(5):
        y = net.node("Pow", y, np.array(64.0, np.float32))
    return y


@pytest.mark.parametrize("make", [_powers, _tree, _powers_of_powers])
def test_functions_that_would_take_forever_are_refused(make):
    net = Network(4, seed=1)
    y = make(net, net.quant("x", 0.25, 0, 4))
    with pytest.raises(
        broadaxe.BroadaxeError, match=r"of one quantized tensor; at most 512 and 4096|takes its reals beyond"
    ):
        design(net.finish(net.quant(y, 0.5, 0, 4)))
