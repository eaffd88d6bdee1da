"""Float modules and models become QONNX models that the compiler takes and that compute nearly the same."""

from __future__ import annotations

from fractions import Fraction
from importlib.resources import files

import numpy as np
import onnx
import pytest
import torch
from models import Network
from onnx import numpy_helper
from torch import nn

import broadaxe
from broadaxe.errors import RequestError, UnsupportedModelError
from broadaxe.frontend.calibrate import Observed, calibrate
from broadaxe.frontend.fold_batchnorm import fold_batchnorm
from broadaxe.frontend.insert_quantizers import LayerBits, QuantizerSettings, insert_quantizers
from broadaxe.frontend.scales import Member, group_scale, magnitude, squared_error, weight_scale
from broadaxe.frontend.standard import expand_quant, session
from broadaxe.frontend.torch_float import export_torch
from broadaxe.segments import compare_segments

f32 = np.float32


# networks


def mlp():
    layers = nn.Flatten(), nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)
    return nn.Sequential(*layers), (3, 4)


def cnn():
    first = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)
    second = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6(), nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Dropout(0.2), nn.Linear(8, 4)), (3, 8, 8)


def depthwise():
    first = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU6()
    second = nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=6, bias=False), nn.BatchNorm2d(6), nn.ReLU6()
    return nn.Sequential(*first, *second, nn.Conv2d(6, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)), (
        3,
        8,
        8,
    )


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv0, self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1)
        self.bn1, self.pool, self.fc = nn.BatchNorm2d(6), nn.AvgPool2d(2), nn.Linear(96, 4)

    def forward(self, x):
        y = torch.relu(self.conv0(x))
        y = torch.relu(self.bn1(self.conv1(y)) + y)
        return self.fc(torch.flatten(self.pool(self.conv2(y) + y), 1)).softmax(-1)


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.c, self.d = nn.Conv2d(8, 4, 3, padding=1), nn.Conv2d(12, 4, 1)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        y = torch.cat([torch.relu(self.a(x)), self.b(x)], 1)
        y = torch.cat([y, torch.relu(self.c(y))], 1)
        return self.fc(torch.relu(self.d(y)).mean((2, 3)))


NETWORKS = {
    "mlp": mlp,
    "cnn": cnn,
    "depthwise": depthwise,
    "residual": lambda: (Residual(), (3, 8, 8)),
    "concat": lambda: (Dense(), (3, 8, 8)),
}


def samples(shape, count=48, seed=0):
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(f32)


@pytest.fixture(scope="module", params=[*NETWORKS, "mnist"])
def network(request):
    """(float model, calibration data)."""
    if request.param == "mnist":
        model = onnx.load_from_string(files("qonnx").joinpath("data/onnx/mnist-conv/model.onnx").read_bytes())
        folder = files("qonnx").joinpath("data/onnx/mnist-conv/test_data_set_0/input_0.pb")
        digit = numpy_helper.to_array(onnx.load_tensor_from_string(folder.read_bytes()))
        return model, np.concatenate([digit, digit[..., ::-1], digit / 2])
    torch.manual_seed(0)
    module, shape = NETWORKS[request.param]()
    module.train()
    for _ in range(5):
        module(torch.randn(32, *shape))
    return fold_batchnorm(export_torch(module, np.zeros((1, *shape), f32))), samples(shape)


def run(model, x):
    """Outputs of a model whose batch may be fixed to 1."""
    name = next(i.name for i in model.graph.input if i.name not in {t.name for t in model.graph.initializer})
    quantized = any(node.domain for node in model.graph.node)
    runner = session(expand_quant(model) if quantized else model)
    return np.concatenate([runner.run(None, {name: x[i : i + 1]})[0] for i in range(len(x))])


@pytest.mark.parametrize("options", [{}, {"ranges": "mse", "scales": "pow2"}, {"ranges": "percentile"}], ids=str)
def test_eight_bits_are_close_to_float(network, options):
    model, x = network
    quantized = insert_quantizers(model, x, QuantizerSettings(weight_bits=8, **options))
    onnx.checker.check_model(quantized)
    expected, got = run(model, x), run(quantized, x)
    assert np.abs(got - expected).max() <= 0.25 * expected.std()
    assert np.abs(got - expected).mean() <= 0.06 * expected.std()


def test_the_error_goes_down_with_the_step(network):
    model, x = network
    expected = run(model, x)
    errors = []
    for bits in (8, 12):
        settings = QuantizerSettings(weight_bits=bits, act_bits=bits, input_bits=bits)
        errors.append(np.abs(run(insert_quantizers(model, x, settings), x) - expected).mean())
    assert errors[1] < errors[0] / 8


def test_the_compiler_takes_the_model_and_computes_it(network, tmp_path):
    model, x = network
    build = broadaxe.compile(insert_quantizers(model, x), tmp_path / "build")
    report = compare_segments(build, {build.lowered.inputs[0].tensor: x[:4]}, build.codes(x[:4]))
    assert report.activations > 0
    assert not report.unexplained


@pytest.mark.slow
def test_the_build_verifies(network, tmp_path):
    model, x = network
    result = broadaxe.verify(broadaxe.compile(insert_quantizers(model, x), tmp_path / "build"), x[:4])
    assert result.ok, str(result)


# export


def test_modules_export_under_their_own_names_in_silence(capfd):
    module = Residual().train()
    model = export_torch(module, torch.rand(3, 3, 8, 8))
    assert module.training
    assert capfd.readouterr() == ("", "")
    assert b"site-packages" not in model.SerializeToString()
    assert model.ir_version == 10
    assert {"conv0", "conv1", "conv2", "pool", "fc"} <= {node.name for node in model.graph.node}
    x = samples((3, 8, 8), 5)
    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(x)).numpy()
    for count in (1, 5):
        got = session(model).run(None, {"x": x[:count]})[0]
        np.testing.assert_allclose(got, expected[:count], rtol=0, atol=1e-5)


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum().item() > 0 else -x


@pytest.mark.parametrize(
    ("module", "example", "kind", "message"),
    [
        (
            "net",
            np.ones((1, 2), f32),
            RequestError,
            "export: not a torch.nn.Module, str; pass the trained module itself",
        ),
        (
            nn.ReLU(),
            np.ones(4, f32),
            RequestError,
            "export: the example input needs a batch dimension and one sample, shape (4,); "
            "pass shape (1, ...), as the module takes it",
        ),
    ],
)
def test_wrong_exports(module, example, kind, message):
    with pytest.raises(kind) as refusal:
        export_torch(module, example)
    assert str(refusal.value) == message


def test_a_module_that_cannot_be_traced_is_refused_in_one_line():
    with pytest.raises(UnsupportedModelError, match=r"^Branching: the ONNX export failed, .*; check that") as refusal:
        export_torch(Branching(), np.ones((1, 2), f32))
    assert "\n" not in str(refusal.value)


# BatchNormalization


def folded(net, output):
    model = net.finish(output)
    result = fold_batchnorm(model)
    return model, result, [node.op_type for node in result.graph.node]


def check_same(model, result, shape):
    x = samples(shape, 4)
    np.testing.assert_allclose(run(result, x), run(model, x), rtol=0, atol=2e-5)


GAMMA = [1.0, -0.5, 0.25, 2.0]


@pytest.mark.parametrize("bias", [None, [0.5, 1.0, -1.0, 2.0]], ids=["no bias", "bias"])
@pytest.mark.parametrize("add", [False, True], ids=["alone", "add"])
def test_convolutions_take_their_normalization_in(bias, add):
    net = Network(2, 5, 5, seed=1)
    y = net.conv("x", None, bias, weight=net.constant(net.rng.normal(size=(4, 2, 3, 3))))
    if add:
        y = net.node("Add", net.constant(net.rng.normal(size=(4, 1, 1))), y)
    model, result, kinds = folded(net, net.norm(y, GAMMA, output="y"))
    assert kinds == ["Conv"]
    assert result.graph.node[0].output[0] == "y"
    check_same(model, result, (2, 5, 5))


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_takes_its_normalization_in(transposed):
    net = Network(6, seed=2)
    weight = net.constant(net.rng.normal(size=(4, 6) if transposed else (6, 4)))
    y = net.norm(net.node("Gemm", "x", weight, [[0.5, 1.0, -1.0, 2.0]], transB=transposed), GAMMA)
    model, result, kinds = folded(net, y)
    assert kinds == ["Gemm"]
    check_same(model, result, (6,))


@pytest.mark.parametrize("add", [False, True], ids=["alone", "add"])
def test_matmul_takes_its_normalization_in(add):
    net = Network(6, seed=3)
    y = net.node("MatMul", "x", net.constant(net.rng.normal(size=(6, 4))))
    y = net.node("Add", y, [1.0, 2.0, 3.0, 4.0]) if add else y
    model, result, kinds = folded(net, net.norm(y, GAMMA))
    assert kinds == ["MatMul", "Add"]
    check_same(model, result, (6,))


def test_what_cannot_be_folded_stays():
    net = Network(4, 4, seed=4)  # (batch, 4, 4): channels of the product are on axis 2, those of the norm on axis 1
    y = net.norm(net.node("MatMul", "x", net.constant(net.rng.normal(size=(4, 4)))), GAMMA)
    model, result, kinds = folded(net, y)
    assert kinds == ["MatMul", "BatchNormalization"]
    check_same(model, result, (4, 4))

    net = Network(2, 5, 5, seed=5)  # somebody else reads the convolution
    y = net.conv("x", None, weight=net.constant(net.rng.normal(size=(4, 2, 3, 3))))
    model, result, kinds = folded(net, net.node("Add", net.norm(y, GAMMA), y))
    assert kinds == ["Conv", "BatchNormalization", "Add"]

    net = Network(2, 5, 5, seed=5)  # its weights are quantized
    _, _, kinds = folded(net, net.norm(net.conv("x", (4, 2, 3, 3)), GAMMA))
    assert kinds == ["Quant", "Conv", "BatchNormalization"]


def test_a_shared_weight_is_folded_for_its_own_reader_alone():
    net = Network(2, 5, 5, seed=6)
    weight = net.constant(net.rng.normal(size=(4, 2, 3, 3)))
    left = net.norm(net.conv("x", None, weight=weight), GAMMA)
    model, result, kinds = folded(net, net.node("Add", left, net.conv("x", None, weight=weight)))
    assert kinds == ["Conv", "Conv", "Add"]
    check_same(model, result, (2, 5, 5))


def test_a_negative_variance_is_refused():
    net = Network(2, 5, 5)
    y = net.conv("x", None, weight=net.constant(np.ones((1, 2, 1, 1))))
    model = net.finish(net.norm(y, [1.0], [0.0], [0.0], [-1.0]))
    with pytest.raises(UnsupportedModelError) as refusal:
        fold_batchnorm(model)
    assert str(refusal.value) == (
        "batchnormalization1 (BatchNormalization): its statistics cannot be used, variance plus epsilon reaches -0.99999;"
        " finite numbers with a positive variance are needed"
    )


# calibration


@pytest.mark.parametrize("batch", ["N", 1, 3])
def test_what_is_observed_is_what_the_model_computes(batch):
    net = Network(5, batch=batch, seed=7)
    weight = net.rng.normal(size=(5, 4)).astype(f32)
    y = net.node("Relu", net.node("MatMul", "x", net.constant(weight)))
    x = samples((5,), 700)  # several batches, and no multiple of 3
    seen = calibrate(net.finish(y), ["x", y], x, bins=64)
    values = np.maximum(x @ weight, 0)
    assert seen["x"].lo == x.min()
    assert seen["x"].hi == x.max()
    np.testing.assert_allclose(seen[y].hi, values.max(), rtol=1e-6)
    assert seen[y].lo == 0
    assert seen[y].zeros == (values == 0).sum()
    expected, _ = np.histogram(values[values > 0], bins=64, range=(0, seen[y].hi))
    assert np.abs(seen[y].counts - expected).max() <= 2  # values on an edge may differ by a rounding
    assert seen[y].counts.sum() + seen[y].zeros == values.size


def observed(values, bins=4096):
    lo, hi = min(0.0, values.min()), max(0.0, values.max())
    others = values[values != 0]
    return Observed(lo, hi, len(values) - len(others), np.histogram(others, bins=bins, range=(lo, hi))[0])


@pytest.mark.parametrize("wanted", [50, 99, 99.9, 100])
def test_percentiles_are_those_of_the_magnitudes(wanted):
    values = np.random.default_rng(0).laplace(size=20_000)
    seen = observed(values)
    exact = np.percentile(np.abs(values), wanted, method="inverted_cdf")
    width = (seen.hi - seen.lo) / 4096
    assert exact <= magnitude(seen, wanted) <= exact + 2 * width


@pytest.mark.parametrize(("bits", "signed"), [(2, True), (4, True), (4, False), (8, True)])
def test_mse_finds_the_clip_of_least_error(bits, signed):
    values = np.random.default_rng(1).laplace(size=20_000)
    values = values if signed else np.maximum(values, 0)
    member = Member(observed(values), bits, signed)

    def error(scale):
        q = np.clip(np.round(values / scale), -member.top - 1 if signed else 0, member.top)
        return ((values - q * scale) ** 2).sum()

    scale = group_scale([member], "mse", 99.99, "float")
    choices = np.abs(values).max() / member.top * np.linspace(0.03, 1, 400)
    best = min(error(choice) for choice in choices)
    assert error(scale) <= 1.01 * best
    assert error(scale) < error(choices[-1]) or bits == 8
    assert squared_error(member, scale) == pytest.approx(error(scale), rel=0.02)
    power = group_scale([member], "mse", 99.99, "pow2")
    powers = [2.0**k for k in range(-20, 20)]
    assert power == min(powers, key=error)


@pytest.mark.parametrize(("largest", "expected"), [(127, 1.0), (127.5, 2.0), (63.5, 0.5), (100, 1.0), (0, 1.0)])
def test_powers_of_two_are_rounded_up(largest, expected):
    assert group_scale([Member(Observed(-largest, 0), 8, True)], "max", 99.99, "pow2") == expected


def test_dead_and_tiny_activations_have_valid_scales():
    assert group_scale([Member(Observed(0, 0), 8, False)], "max", 99.99, "float") == 1
    dead = Observed(0, 0, 100, np.zeros(64, dtype=np.int64))
    for ranges in ("max", "percentile", "mse"):
        assert group_scale([Member(dead, 8, False)], ranges, 99.99, "float") == 1
    assert group_scale([Member(Observed(0, 1e-45), 8, False)], "max", 99.99, "float") == 2.0**-60


def test_weight_scales_take_the_largest_magnitude_to_the_largest_code():
    weight = np.array([[0.5, -3.5], [0, 0], [7, 1]], dtype=f32)
    np.testing.assert_array_equal(weight_scale(weight, 0, 4), [[0.5], [1], [1]])
    np.testing.assert_array_equal(weight_scale(weight.T, 1, 4), [[0.5, 1, 1]])
    np.testing.assert_array_equal(weight_scale(weight, 0, 1), [[2], [1], [4]])


# placement


def quants(model):
    """Activation quantizers by name: (tensor, bits, signed, scale)."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type == "Quant" and node.input[0] not in constants:
            signed = next(a.i for a in node.attribute if a.name == "signed")
            found[node.name] = node.input[0], int(constants[node.input[3]]), signed, float(constants[node.input[1]])
    return found


def weight_quants(model):
    """Bits of weight quantizers by name."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    quantizers = [n for n in model.graph.node if n.op_type == "Quant" and n.input[0] in constants]
    return {n.name: int(constants[n.input[3]]) for n in quantizers}


def dense(net, x, inputs, outputs, name=None):
    return net.node("Gemm", x, net.constant(net.rng.normal(size=(inputs, outputs))), np.ones(outputs), name=name)


def convolution(net, x, inputs, outputs, name=None, **attributes):
    return net.node("Conv", x, net.constant(net.rng.normal(size=(outputs, inputs, 1, 1))), name=name, **attributes)


def test_movers_are_looked_through_and_readers_share_a_quantizer():
    net = Network(2, 4, 4)
    y = net.node("Relu", convolution(net, "x", 2, 4, name="first"), name="relu")
    pooled = net.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    left = dense(net, net.node("Flatten", pooled), 16, 3, name="left")
    right = dense(net, net.node("Flatten", y), 64, 3, name="right")
    model = insert_quantizers(net.finish(left, right), samples((2, 4, 4)))
    found = quants(model)
    assert {name: q[:3] for name, q in found.items()} == {"x.act_quant": ("x", 8, 1), "relu.act_quant": (y, 8, 0)}
    readers = {node.op_type for node in model.graph.node if f"{y}_quantized" in node.input}
    assert readers == {"MaxPool", "Flatten"}
    assert [info.name for info in model.graph.output] == [left, right]


def test_what_is_joined_from_quantized_parts_needs_no_quantizer_of_its_own():
    net = Network(2, 4, 4)
    parts = [net.node("Relu", convolution(net, "x", 2, n), name=f"relu{n}") for n in (3, 4, 5)]
    both = net.node("Concat", *parts[:2], axis=1)
    y = net.node("Concat", convolution(net, both, 7, 2, name="mixed"), both, parts[2], axis=1)
    found = quants(insert_quantizers(net.finish(convolution(net, y, 14, 2)), samples((2, 4, 4))))
    assert set(found) == {"x.act_quant", "relu3.act_quant", "relu4.act_quant", "relu5.act_quant", "mixed.act_quant"}
    assert len({scale for name, (_, _, _, scale) in found.items() if name != "x.act_quant"}) == 1


def test_a_shape_is_no_activation():
    net = Network(2, 4, 4)
    y = net.node("Relu", convolution(net, "x", 2, 4), name="relu")
    batch = net.node("Gather", net.node("Shape", y), net.constant(np.array([0]), "zero"), axis=0)
    y = net.node("Reshape", y, net.node("Concat", batch, net.constant(np.array([64]), "width"), axis=0))
    model = insert_quantizers(net.finish(dense(net, y, 64, 3)), samples((2, 4, 4)))
    assert list(quants(model)) == ["x.act_quant", "relu.act_quant"]


def test_the_ends_have_bit_widths_of_their_own():
    net = Network(6, seed=14)
    y = net.node("Relu", dense(net, dense(net, "x", 6, 6, name="a"), 6, 6, name="b"))
    result = insert_quantizers(
        net.finish(dense(net, y, 6, 2, name="c")), samples((6,)), QuantizerSettings(first_weight_bits=8, last_bits=6)
    )
    assert weight_quants(result) == {"a.weight_quant": 8, "b.weight_quant": 4, "c.weight_quant": 6}


def test_the_head_stays_float_and_is_proven_signed():
    net = Network(4, 4, 2)
    y = net.node("Transpose", net.node("Div", net.node("Sub", "x", 3.0), 2.0), perm=[0, 3, 1, 2])
    y = convolution(net, y, 2, 3)
    model = insert_quantizers(net.finish(y), np.abs(samples((4, 4, 2))) + 4)
    assert [node.op_type for node in model.graph.node] == ["Sub", "Div", "Transpose", "Quant", "Quant", "Conv"]
    assert quants(model)["transpose1.act_quant"][2] == 1  # its data are all positive, its operators do not promise it


def test_inputs_count_as_unsigned_where_their_data_are_unless_told_otherwise():
    net = Network(6)
    model = net.finish(dense(net, net.node("Mul", "x", 0.5), 6, 2))
    x = np.abs(samples((6,)))

    def signed(data, **options):
        (entry,) = quants(insert_quantizers(model, data, QuantizerSettings(**options))).values()
        return entry[2]

    assert signed(x) == 0
    assert signed(x - 0.5) == 1
    assert signed(x, unsigned_inputs=False) == 1


def clip(net, x, lo, hi):
    return net.node("Clip", x, np.asarray(lo, f32), np.asarray(hi, f32))


SIGNS = {
    "Relu": (lambda net, x: net.node("Relu", x), 0),
    "Sigmoid": (lambda net, x: net.node("Sigmoid", x), 0),
    "Tanh": (lambda net, x: net.node("Tanh", x), 1),
    "Tanh of Relu": (lambda net, x: net.node("Tanh", net.node("Relu", x)), 0),
    "Clip from 0": (lambda net, x: clip(net, x, 0, 6), 0),
    "Clip from -1": (lambda net, x: clip(net, x, -1, 6), 1),
    "Relu times 2": (lambda net, x: net.node("Mul", net.node("Relu", x), 2.0), 0),
    "Relu times -2": (lambda net, x: net.node("Mul", net.node("Relu", x), -2.0), 1),
    "Relu plus 1": (lambda net, x: net.node("Add", net.node("Relu", x), 1.0), 0),
    "Relu minus 1": (lambda net, x: net.node("Sub", net.node("Relu", x), 1.0), 1),
    "Relu minus -1": (lambda net, x: net.node("Sub", net.node("Relu", x), -1.0), 0),
    "1 minus Relu": (lambda net, x: net.node("Sub", 1.0, net.node("Relu", x)), 1),
}


@pytest.mark.parametrize("case", SIGNS)
def test_signs_are_proven_by_operators(case):
    step, expected = SIGNS[case]
    net = Network(6, seed=8)
    y = step(net, dense(net, "x", 6, 4))
    model = insert_quantizers(net.finish(dense(net, y, 4, 2)), samples((6,)))
    assert quants(model)[f"{y.removesuffix('_out')}.act_quant"][2] == expected


def test_a_pool_before_a_normalization_gets_its_quantizer_first(tmp_path):
    net = Network(2, 4, 4)
    y = net.node("Relu", convolution(net, "x", 2, 4), name="relu")
    y = net.norm(net.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]), GAMMA)
    model = insert_quantizers(net.finish(convolution(net, y, 4, 2)), samples((2, 4, 4)))
    assert list(quants(model)) == ["x.act_quant", "relu.act_quant", "batchnormalization1.act_quant"]
    broadaxe.compile(model, tmp_path / "build")


def test_a_normalized_input_is_quantized_before_its_normalization(tmp_path):
    net = Network(4, 3, 3)
    model = insert_quantizers(net.finish(convolution(net, net.norm("x", GAMMA), 4, 2)), samples((4, 3, 3)))
    assert list(quants(model)) == ["x.act_quant", "batchnormalization1.act_quant"]
    broadaxe.compile(model, tmp_path / "build")


@pytest.mark.parametrize("options", [{}, {"ranges": "mse"}, {"scales": "pow2"}], ids=str)
def test_operands_of_a_sum_share_one_scale(options):
    net = Network(6, seed=9)
    left, right = dense(net, "x", 6, 4, name="left"), net.node("Relu", dense(net, "x", 6, 4), name="right")
    both = net.node("Add", left, right, name="sum")
    last = net.node("Sub", both, dense(net, net.node("Mul", both, 100.0), 4, 4, name="wide"))
    model = insert_quantizers(net.finish(last), samples((6,)), QuantizerSettings(**options))
    found = quants(model)
    assert found["left.act_quant"][3] == found["right.act_quant"][3]
    assert found["sum.act_quant"][3] == found["wide.act_quant"][3] != found["left.act_quant"][3]
    assert (found["left.act_quant"][2], found["right.act_quant"][2]) == (1, 0)
    if options.get("scales") == "pow2":
        for _, _, _, scale in found.values():
            ratio = Fraction(scale)
            assert 1 in (ratio.numerator, ratio.denominator)
            assert (ratio.numerator * ratio.denominator).bit_count() == 1


def test_a_quantizer_that_is_there_stays_and_gives_its_scale():
    net = Network(6, seed=10)
    y = net.quant(dense(net, net.quant("x", 0.125, bits=6), 6, 4), 0.25, bits=5, name="mine")
    other = dense(net, y, 4, 4, name="other")
    model = insert_quantizers(net.finish(net.node("Add", y, other)), samples((6,)))
    found = quants(model)
    assert {name: (q[1], q[3]) for name, q in found.items()} == {
        "quant1": (6, 0.125),
        "mine": (5, 0.25),
        "other.act_quant": (8, 0.25),
    }


def test_quantizing_twice_changes_nothing():
    net = Network(6, seed=11)
    y = net.node("Relu", dense(net, "x", 6, 4))
    once = insert_quantizers(net.finish(dense(net, y, 4, 2)), samples((6,)))
    assert insert_quantizers(once, samples((6,))).graph == once.graph


def test_weights_are_rounded_to_nearest_and_shared_ones_once():
    net = Network(4, seed=12)
    weight = net.rng.normal(size=(4, 4)).astype(f32)
    name = net.constant(weight)
    y = net.node("MatMul", net.node("Relu", net.node("MatMul", "x", name)), name)
    original = net.finish(y)
    before = original.SerializeToString()
    model = insert_quantizers(original, samples((4,)))
    assert original.SerializeToString() == before
    assert weight_quants(model) == {"matmul1.weight_quant": 4}
    (quantized,) = {node.input[1] for node in model.graph.node if node.op_type == "MatMul"}
    (quant,) = (node for node in model.graph.node if node.name == "matmul1.weight_quant")
    assert {a.name: a.i for a in quant.attribute if a.name != "rounding_mode"} == {"signed": 1, "narrow": 1}
    scale = np.abs(weight).max(axis=0) / f32(7)
    got = session(expand_quant(model), outputs=[quantized]).run(None, {"x": samples((4,), 1)})[0]
    np.testing.assert_allclose(got, np.round(weight / scale) * scale, rtol=1e-6)


def test_one_bit_weights_are_bipolar(tmp_path):
    net = Network(4, seed=13)
    weight = net.rng.normal(size=(4, 3)).astype(f32)
    model = insert_quantizers(
        net.finish(net.node("MatMul", "x", net.constant(weight))), samples((4,)), QuantizerSettings(weight_bits=1)
    )
    (quantized,) = {node.input[1] for node in model.graph.node if node.op_type == "MatMul"}
    got = session(expand_quant(model), outputs=[quantized]).run(None, {"x": samples((4,), 1)})[0]
    np.testing.assert_allclose(got, np.where(weight >= 0, 1, -1) * np.abs(weight).mean(axis=0), rtol=1e-6)
    broadaxe.compile(model, tmp_path / "build")


def test_bit_widths_of_ends_and_of_single_layers():
    net = Network(6, seed=14)
    y = net.node("Relu", dense(net, "x", 6, 6, name="block.first"), name="relu1")
    y = net.node("Relu", dense(net, y, 6, 6, name="block.second"), name="relu2")
    model = net.finish(dense(net, y, 6, 2, name="head"))
    chosen = QuantizerSettings(
        first_weight_bits=8,
        last_bits=6,
        input_bits=7,
        act_bits=5,
        layers={"block.*": LayerBits(weight_bits=3, act_bits=3), "*.second": LayerBits(weight_bits=2)},
    )
    result = insert_quantizers(model, samples((6,)), chosen)
    assert weight_quants(result) == {
        "block.first.weight_quant": 3,
        "block.second.weight_quant": 2,
        "head.weight_quant": 6,
    }
    assert {name: q[1] for name, q in quants(result).items()} == {
        "x.act_quant": 3,
        "relu1.act_quant": 3,
        "relu2.act_quant": 5,
    }


# wrong requests


def linear_model():
    net = Network(6)
    return net.finish(dense(net, "x", 6, 2, name="fc"))


def hole(value):
    x = samples((6,), 4)
    x[3, 2] = value
    return x


DATA_ERRORS = {
    "nan": (hole(np.nan), "calibration x: holds nan at (3, 2); only finite numbers can be used"),
    "inf": (hole(-np.inf), "calibration x: holds -inf at (3, 2); only finite numbers can be used"),
    "shape": (samples((5,), 4), "calibration x: has shape (4, 5); the model takes (samples, 6)"),
    "rank": (np.ones(6, f32), "calibration x: has shape (6,); the model takes (samples, 6)"),
    "empty": (np.ones((0, 6), f32), "calibration x: holds no sample, shape (0, 6); give at least one"),
    "name": ({"y": samples((6,))}, "calibration y: the model has no such input; it has x"),
    "none": ({}, "calibration x: has no data; give samples for x"),
    "text": (np.full((2, 6), "a"), "calibration x: holds text; numbers are needed, give a numeric array"),
}


@pytest.mark.parametrize("case", DATA_ERRORS)
def test_wrong_data_are_refused(case):
    data, message = DATA_ERRORS[case]
    with pytest.raises(RequestError) as refusal:
        insert_quantizers(linear_model(), data)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_bits": 0}, "settings: weight_bits: 0 is not allowed; use 1 to 16 bits"),
        ({"act_bits": 1}, "settings: act_bits: 1 is not allowed; use 2 to 16 bits"),
        ({"last_bits": 17}, "settings: last_bits: 17 is not allowed; use 1 to 16 bits"),
        ({"ranges": "min"}, "settings: ranges: 'min' is not allowed; use one of max, percentile, mse"),
        ({"scales": "int"}, "settings: scales: 'int' is not allowed; use one of float, pow2"),
        ({"percentile": 0}, "settings: percentile: 0 is not allowed; use a number above 0, up to 100"),
        (
            {"layers": {"conv*": LayerBits(4)}},
            "settings: layers: conv*: no quantized node has such a name; linear ones are fc",
        ),
        ({"layers": {"fc": LayerBits(0)}}, "settings: layers: fc: weight_bits: 0 is not allowed; use 1 to 16 bits"),
    ],
)
def test_wrong_settings_are_refused(options, message):
    with pytest.raises(RequestError) as refusal:
        insert_quantizers(linear_model(), samples((6,)), QuantizerSettings(**options))
    assert str(refusal.value) == message


def no_layer(net):
    return net.node("Relu", "x")


def gate(net):
    y = dense(net, "x", 6, 6)
    return dense(net, net.node("Mul", y, net.node("Sigmoid", y), name="gate"), 6, 2)


def normalized(net):
    y = net.node("LpNormalization", dense(net, "x", 6, 6), name="unit")
    return dense(net, y, 6, 2)


def attention(net):
    y = dense(net, "x", 6, 6)
    return net.node("MatMul", y, net.node("Transpose", y, perm=[1, 0]), name="scores")


def infinite(net):
    return net.node("MatMul", "x", net.constant(np.full((6, 2), np.inf)), name="fc")


def overflow(net):
    y = net.node("MatMul", "x", net.constant(np.full((6, 6), 3e38)), name="fc")
    return dense(net, y, 6, 2)


MODEL_ERRORS = {
    no_layer: "model: has no Conv, Gemm or MatMul with constant weights that depends on an input; there is nothing to"
    " quantize",
    gate: "gate (Mul): combines two activations; only a constant on one side is supported, replace the gate",
    normalized: "unit (LpNormalization): operator LpNormalization cannot be compiled; replace it, or put it behind the last"
    " Conv, Gemm or MatMul",
    attention: "scores (MatMul): its right operand is no constant, or its left one is; only constant weights on the right"
    " are supported",
    infinite: "fc (MatMul): its weight holds values that are not finite numbers; finite float32 numbers are needed",
    overflow: "fc_out: the float model computes values that are not finite numbers on the calibration data; repair the"
    " model or the data",
}


@pytest.mark.parametrize("build", MODEL_ERRORS, ids=lambda build: build.__name__)
def test_models_that_cannot_be_quantized_are_refused(build):
    net = Network(6)
    model = net.finish(build(net))
    with pytest.raises(UnsupportedModelError) as refusal:
        insert_quantizers(model, samples((6,)) * 1000)
    assert str(refusal.value).startswith(MODEL_ERRORS[build])
    assert "\n" not in str(refusal.value)


def test_data_in_other_files_are_refused():
    model = linear_model()
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    with pytest.raises(UnsupportedModelError) as refusal:
        insert_quantizers(model, samples((6,)))
    assert str(refusal.value) == (
        f"initializer {tensor.name}: its data are in another file; load the model together with its data"
    )
