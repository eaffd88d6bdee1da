"""Quantizing QONNX networks end to end: widths that the compiler proves, figures of the record, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from models import Network
from onnx import TensorProto, helper, numpy_helper

import broadaxe
from broadaxe import cli, reference
from broadaxe.configuration.complaints import SettingsError
from broadaxe.errors import RequestError, UnsupportedModelError
from broadaxe.frontend.batch import symbolic_batch
from broadaxe.frontend.standard import expand_quant, is_quantizer, session
from broadaxe.lower import Walk
from broadaxe.ops.mac import Mac
from broadaxe.quantization import network
from broadaxe.quantization.config import QuantConfig
from broadaxe.quantization.layers import layer_of
from broadaxe.quantization.tape import Store, Tape

f32 = np.float32
NETWORKS = {}


def case(*shape, **options):
    """Register a network: a function of a builder and its quantized input that returns the output's name."""

    def register(make):
        def build():
            net = Network(*shape, **options)
            return net.finish(make(net, net.quant("x", 1 / 16, bits=4, signed=0, name="qx")))

        NETWORKS[make.__name__.replace("_", " ")] = build
        return make

    return register


def relu(net, y, **options):
    return net.quant(net.node("Relu", y), 1 / 4, bits=4, signed=0, **options)


def head(net, y, outputs=3):
    """Pool, flatten, and a linear layer with a bias."""
    y = net.node("Flatten", net.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]))
    return net.node("MatMul", y, net.weights(16, outputs), name="fc")


@case(3, 7, 7)
def conv(net, x):
    """Uneven pads, stride and dilation; a pool and the layout change of Flatten behind it."""
    y = net.conv(x, (4, 3, 3, 2), [0.5, -1, 0, 2], name="conv1", pads=[1, 0, 2, 1], strides=[2, 1], dilations=[1, 2])
    return net.node("MatMul", net.node("Flatten", relu(net, y)), net.weights(4 * 4 * 6, 5), name="fc")


@case(4, 4, 4)
def depthwise(net, x):
    return head(net, relu(net, net.depthwise(x, 4, pads=[1, 1, 1, 1], name="dw")))


@case(4, 4, 4)
def grouped(net, x):
    return head(net, relu(net, net.conv(x, (4, 2, 3, 3), group=2, auto_pad="SAME_LOWER", name="grouped")))


@case(4, 4, 4)
def residual(net, x):
    y = relu(net, net.conv(x, (4, 4, 1, 1), name="one"))
    z = relu(net, net.conv(y, (4, 4, 3, 3), pads=[1, 1, 1, 1], name="two"))
    return head(net, net.quant(net.node("Add", y, z), 1 / 2, bits=4, signed=0))


@case(6)
def gemm(net, x):
    y = relu(net, net.node("Gemm", x, net.weights(6, 5), [1.0, -1, 0.5, 0, 0.25], name="first"))
    y = relu(net, net.node("Gemm", y, net.weights(4, 5), transB=1, name="second"))
    return net.node("Gemm", y, net.weights(3, 4), [0.5, 0.5, -2], transB=1, name="third")


@case(4, 4, 4, batch=1)
def fixed_batch(net, x):
    y = relu(net, net.conv(x, (3, 4, 1, 1), name="conv1"))
    y = net.node("Reshape", y, np.array([1, 48], dtype=np.int64))
    return net.node("MatMul", y, net.weights(48, 3), name="fc")


@case(6)
def unnamed_nodes(net, x):
    y = net.node("MatMul", relu(net, net.node("MatMul", x, net.weights(6, 4))), net.weights(4, 3))
    for node in net.nodes:
        node.ClearField("name")
    return y


@case(6)
def shared_weights(net, x):
    weight = net.weights(6, 6)
    y = relu(net, net.node("MatMul", x, weight, name="first"))
    return net.node("MatMul", y, weight, name="second")


@case(6)
def weights_behind_a_transpose(net, x):
    y = relu(net, net.node("MatMul", x, net.node("Transpose", net.weights(4, 6), perm=[1, 0]), name="fc"))
    return net.node("Gemm", y, net.node("Transpose", net.weights(4, 3)), transB=1, name="last")


@case(6)
def signed_codes_with_a_zero_point(net, x):
    """Codes of an activation that straddle zero, and codes that never reach it."""
    y = net.quant(net.node("MatMul", x, net.weights(6, 4), name="fc"), 1 / 4, 3, bits=4)
    y = net.node("Clip", y, np.asarray(0.5), np.asarray(1.0))
    return net.node("MatMul", net.quant(y, 1 / 4, bits=4, signed=0), net.weights(4, 3), name="last")


def two_inputs():
    net = Network(6)
    net.inputs.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 4]))
    y = relu(net, net.node("MatMul", net.quant("x", 1 / 16, bits=4, signed=0), net.weights(6, 5), name="a"))
    z = relu(net, net.node("MatMul", net.quant("z", 1 / 16, bits=3, signed=1), net.weights(4, 5), name="b"))
    return net.finish(net.node("MatMul", net.node("Add", y, z), net.weights(5, 3), name="c"))


NETWORKS["two inputs"] = two_inputs


def data_for(model, count=60, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim][1:] for i in model.graph.input}
    return {name: rng.uniform(0, 1, (count, *shape)).astype(f32) for name, shape in shapes.items()}


def run_of(model, data, outputs=None):
    run = session(expand_quant(symbolic_batch(model)), outputs)
    return run.run(None, data)


def layers_of(model, **options):
    """Every layer of a model."""
    walk, makers = Walk(model, {}), {o: n for n in model.graph.node for o in n.output}
    for node in model.graph.node:
        layer = layer_of(walk, node, makers, **options)
        if layer is not None:
            yield layer
        walk.take(node)


def unbound(model):
    """Without the promises that only the model's own weights keep."""
    free = onnx.ModelProto()
    free.CopyFrom(model)
    return network._stripped(free)


def without_quantizers(model):
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    for node in plain.graph.node:
        if is_quantizer(node):
            node.CopyFrom(helper.make_node("Identity", [node.input[0]], [node.output[0]]))
    return plain


# end to end

BUDGETS = {
    "none": {},
    "offset": {"acc_bits": 8},
    "signed": {"acc_bits": 8, "budget": "signed", "preset": "axe-search"},
    "two bits": {"weight_bits": 2, "acc_bits": 6, "method": "qronos"},
    "bipolar": {"weight_bits": 1, "acc_bits": 11, "method": "gpfq"},
}


@pytest.mark.parametrize("options", BUDGETS.values(), ids=BUDGETS)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_compiler_proves_what_was_asked_and_computes_what_onnxruntime_does(name, options, tmp_path):
    model = NETWORKS[name]()
    before, data = model.SerializeToString(), data_for(model)
    result = broadaxe.quantize(model, data, scales="pow2", **options)
    assert model.SerializeToString() == before
    build = broadaxe.compile(result.model, tmp_path / "build")
    macs = [n for n in build.graph.nodes if isinstance(n.op, Mac)]
    assert len(macs) == len(result.record.layers)
    asked = options.get("acc_bits", 64)
    for node, record in zip(macs, result.record.layers, strict=True):
        assert f"{record.name} ({record.op})" == node.origin
        assert build.graph.values[node.output].dtype.width == record.width <= asked
        assert record.effective_bits <= record.weight_bits == options.get("weight_bits", 4)
    fresh = data_for(model, seed=1)
    mine = build.host.reals(reference.run(build.graph, build.codes(fresh)))
    theirs = run_of(result.model, fresh)
    for output, expected in zip(mine.values(), theirs, strict=True):
        assert np.array_equal(output, expected)
        assert np.ptp(output) > 0
    if not options:
        assert result.record.output_error < 0.1


def test_tiles(tmp_path):
    model = NETWORKS["conv"]()
    result = broadaxe.quantize(model, data_for(model), acc_bits=7, tile=20)
    first, second = result.record.layers
    assert (first.tile, first.inner_width, first.budget) == (None, None, "offset")  # 18 inputs are a single tile
    assert first.width <= 7
    assert (second.tile, second.budget) == (20, "signed")
    assert second.inner_width <= 7 < second.width
    build = broadaxe.compile(result.model, tmp_path / "build")
    (mac,) = [n for n in build.graph.nodes if isinstance(n.op, Mac) and n.op.depth == 96]
    codes = mac.op.weights
    lo, hi = (e.astype(object) for e in mac.op.operands(build.graph.inputs_of(mac)[0]))
    for at in range(0, 96, 20):
        q, a, b = codes[:, at : at + 20].astype(object), lo[:, at : at + 20], hi[:, at : at + 20]
        assert max(np.maximum(q * a, q * b).sum(1)) < 2**6
        assert min(np.minimum(q * a, q * b).sum(1)) >= -(2**6)
    metadata = [{p.key: p.value for p in n.metadata_props} for n in result.model.graph.node if n.name == "fc"]
    assert metadata == [{"broadaxe.tile": "20", "broadaxe.inner_bits": "7", "broadaxe.order": "kh,kw,c"}]
    whole = broadaxe.quantize(model, data_for(model), acc_bits=9, tile=96)
    assert whole.model == broadaxe.quantize(model, data_for(model), acc_bits=9).model


def test_settings_by_layer_name():
    model = NETWORKS["gemm"]()
    config = QuantConfig(acc_bits=9, layers={"*ir*": {"acc_bits": 7}, "third": {"weight_bits": 2, "acc_bits": 5}})
    records = broadaxe.quantize(model, data_for(model)["x"], config).record.layers
    assert [(r.name, r.acc_bits, r.weight_bits) for r in records] == [
        ("first", 7, 4),
        ("second", 9, 4),
        ("third", 5, 2),
    ]
    assert all(r.width <= r.acc_bits for r in records)


def test_a_result_can_be_quantized_again():
    model = NETWORKS["conv"]()
    wide = broadaxe.quantize(model, data_for(model), acc_bits=8)
    again = broadaxe.quantize(wide.model, data_for(model), acc_bits=12)
    assert [r.acc_bits for r in again.record.layers] == [12, 12]
    assert broadaxe.quantize(wide.model, data_for(model), acc_bits=6).record.layers[0].width <= 6


def test_accumulators_that_nothing_can_move_start_at_zero():
    """Two sums added before any quantizer: neither may start at a constant of its own."""
    net = Network(6)
    x = net.quant("x", 1 / 16, bits=4, signed=0)
    same = {"scale": 0.125, "bits": 3}
    y = net.node("MatMul", x, net.weights(6, 4, **same), name="a")
    model = net.finish(relu(net, net.node("MatMul", relu(net, y), net.weights(4, 4), name="b")))
    records = broadaxe.quantize(model, data_for(model), acc_bits=7).record.layers
    assert [r.budget for r in records] == ["offset", "offset"]
    constants = network._constants(model)
    nodes = {n.name: n for n in model.graph.node}
    model.graph.node.extend(
        [helper.make_node("Add", [nodes["a"].output[0], nodes["b"].output[0]], ["sum"], name="sum")]
    )
    assert not network.absorbs_offset(model, nodes["a"], constants)
    assert not network.absorbs_offset(model, nodes["b"], constants)


@pytest.mark.parametrize("name", ["conv", "gemm", "weights behind a transpose", "grouped"])
@pytest.mark.parametrize("mode", ["on", "auto"])
def test_bias_correction_removes_mean_errors(name, mode, tmp_path):
    model = NETWORKS[name]()
    data = data_for(model)
    options = {"weight_bits": 2, "preset": "rtn", "held_out": 0.2}
    result = broadaxe.quantize(model, data, bias_correction=mode, **options)
    corrected = [r.bias_corrected for r in result.record.layers]
    assert all(corrected) if mode == "on" else corrected[0]
    cut = result.record.samples
    quantized = {n.name: n.output[0] for n in result.model.graph.node}
    first = result.record.layers[0].name
    place = next((o for n, o in quantized.items() if n.startswith(first) and n.endswith("_add")), quantized[first])
    original = {n.name: n.output[0] for n in model.graph.node}[first]
    (expected,) = run_of(without_quantizers(model), data, [original])
    (found,) = run_of(result.model, data, [place])
    means = [y[:cut].mean(axis=(0, *range(2, y.ndim))) for y in (expected, found)]
    assert np.allclose(*means, atol=1e-5)
    plain = broadaxe.quantize(model, data, **options)
    assert result.record.output_error < plain.record.output_error
    build = broadaxe.compile(result.model, tmp_path / "build")
    mine = build.host.reals(reference.run(build.graph, build.codes(data)))
    for output, theirs in zip(mine.values(), run_of(result.model, data), strict=True):
        assert np.isclose(output, theirs, atol=1e-4).mean() > 0.98


def test_a_bias_with_a_quantizer_is_left_alone():
    net = Network(6)
    x = net.quant("x", 1 / 16, bits=4, signed=0)
    bias = net.quant(np.array([1.0, -1, 0.5]), 1 / 4, bits=4)
    model = net.finish(net.node("Gemm", x, net.weights(6, 3), bias, name="fc"))
    result = broadaxe.quantize(model, data_for(model), weight_bits=2, bias_correction="on")
    assert not result.record.layers[0].bias_corrected


# layers and tapes


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_of_inputs_times_the_matrix_are_the_nodes_output(name, monkeypatch):
    monkeypatch.setattr("broadaxe.quantization.layers.BLOCK_ELEMENTS", 600)
    model = symbolic_batch(NETWORKS[name]())
    for layer in layers_of(model):
        inner = [o for o in [layer.node.input[0]] if o not in data_for(model)]
        (x,) = run_of(model, data_for(model, 11), inner)
        x = x + np.random.default_rng(0).normal(size=x.shape).astype(f32)
        lone = onnx.NodeProto()
        lone.CopyFrom(layer.node)
        del lone.input[2:]
        lone.input[:] = ["x", "w"]
        graph = helper.make_graph(
            [lone],
            "one",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
            [onnx.ValueInfoProto(name=lone.output[0])],
            [numpy_helper.from_array(np.ascontiguousarray(layer.float_weights, f32), "w")],
        )
        imports = [helper.make_opsetid("", 20)]
        (expected,) = session(helper.make_model(graph, opset_imports=imports, ir_version=10)).run(None, {"x": x})
        blocks = list(layer.blocks(x))
        rows = torch.cat(blocks, 1).double()
        assert rows.shape[::2] == (layer.groups, layer.inputs)
        products = rows @ layer.matrix().reshape(layer.groups, -1, layer.inputs).transpose(1, 2)
        found = products.permute(1, 0, 2).reshape(len(x), -1, layer.rows).numpy()
        expected = np.moveaxis(expected, 1, -1) if layer.node.op_type == "Conv" else expected
        assert np.allclose(found, expected.reshape(found.shape), atol=1e-4)
        assert np.array_equal(layer.tensor(layer.matrix().numpy()), layer.float_weights)
        if layer.node.op_type == "Conv":
            assert len(blocks) > 1


def test_codes_of_inputs_are_those_that_the_compiler_proves():
    """Pads hold code 0 and the input codes 0 to 15; codes behind a Clip come no lower than it lets them."""
    for layer in layers_of(NETWORKS["signed codes with a zero point"]()):
        ends = (layer.lo.tolist(), layer.hi.tolist())
        assert ends == (([[0] * 6], [[15] * 6]) if layer.name == "fc" else ([[2] * 4], [[4, 4, 4, 3]]))


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("limit", [1e9, 0])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_tape_is_the_whole_model_run_at_once(name, limit, stride, monkeypatch):
    monkeypatch.setattr("broadaxe.quantization.tape.LARGEST_BATCH", 7)
    model = expand_quant(symbolic_batch(NETWORKS[name]()))
    data = data_for(model, 17)
    live = set(data)
    for node in model.graph.node:
        if not live.isdisjoint(node.input):
            live.update(node.output)
    tensors = [o for n in model.graph.node for o in n.output if o in live]
    expected = dict(zip(tensors, session(model, tensors).run(None, data), strict=True))
    store = Store(limit)
    tape = Tape(model, data, store)
    for tensor in [*tensors[::stride], *tape.outputs]:
        if tensor in tape.done and (id(tape), tensor) not in store.arrays:
            continue  # nothing reads it any more
        found = tape.read(tensor)
        assert isinstance(found, np.memmap) == (limit == 0)
        assert np.array_equal(found, expected[tensor])
    folder = store.folder and Path(store.folder.name)
    tape.close()
    assert not store.arrays
    assert store.held == 0
    store.close()
    assert folder is None or not folder.exists()


def test_what_stands_behind_an_exchanged_node_is_kept_for_later_readers():
    net = Network(3)
    y = net.node("Relu", net.node("MatMul", "x", np.eye(3), output="sum"), output="twice")
    model = net.finish(net.node("Neg", y, output="a"), net.node("Abs", y, output="b"))
    x, store = np.ones((2, 3), f32), Store(1e9)
    tape = Tape(model, {"x": x}, store)
    weight = model.graph.node[0].input[1]
    tape.constant("bias", np.array([1, 2, 3], f32))
    product = helper.make_node("MatMul", ["x", weight], ["free"])
    tape.replace("sum", [product, helper.make_node("Add", ["free", "bias"], ["sum"])])
    assert np.array_equal(tape.read("a"), -x * [2, 3, 4])
    assert "twice" in tape.done
    assert np.array_equal(tape.read("b"), x * [2, 3, 4])


def test_activations_on_disk_give_the_same_model(monkeypatch):
    model, config = NETWORKS["residual"](), QuantConfig(acc_bits=8)
    files = []
    memmap = np.memmap
    monkeypatch.setattr(
        np, "memmap", type("M", (memmap,), {"__new__": lambda c, f, **k: files.append(f) or memmap(f, **k)})
    )
    plain = broadaxe.quantize(model, data_for(model), config)
    assert not files
    spilled = broadaxe.quantize(model, data_for(model), config.model_copy(update={"memory_gb": 1e-6}))
    assert len(files) > 5
    assert not any(f.exists() or f.parent.exists() for f in files)
    assert spilled.model == plain.model
    assert spilled.record.output_error == plain.record.output_error


# the record


@pytest.mark.parametrize("target", ["float", "quantized"])
@pytest.mark.parametrize("name", ["conv", "depthwise", "grouped", "residual", "two inputs"])
def test_errors_of_the_record_are_those_of_the_data(name, target):
    model = NETWORKS[name]()
    for node in model.graph.node:
        if node.op_type == "Conv":
            del node.input[2:]
    data = data_for(model)
    result = broadaxe.quantize(model, data, weight_bits=3, acc_bits=8, target=target, held_out=0.25)
    record, cut = result.record, 45
    assert (record.samples, record.held_out_samples) == (cut, 15)
    aim = without_quantizers(model) if target == "float" else model
    places = [n.output[0] for n in model.graph.node if n.op_type in ("Conv", "MatMul")]
    for layer, place in zip(record.layers, places, strict=True):
        (wanted,), (found,) = run_of(aim, data, [place]), run_of(result.model, data, [place])
        for part, centred, plain in (
            (slice(0, cut), layer.error_centred, layer.error),
            (slice(cut, None), layer.held_out_centred, layer.held_out_error),
        ):
            y = np.float64(np.moveaxis(wanted[part], 1, -1).reshape(-1, layer.rows))
            z = np.float64(np.moveaxis(found[part], 1, -1).reshape(-1, layer.rows))
            assert plain == pytest.approx(((y - z) ** 2).sum() / (y**2).sum(), rel=1e-3)
            assert centred == pytest.approx((y - z).var(0).sum() / y.var(0).sum(), rel=1e-3)
    (wanted,), (found,) = run_of(aim, data), run_of(result.model, data)
    lost = ((wanted - found)[cut:].astype(np.float64) ** 2).sum() / (wanted[cut:].astype(np.float64) ** 2).sum()
    assert record.output_error == pytest.approx(lost, rel=1e-5)


def test_figures_of_the_record_are_those_of_the_model():
    model = NETWORKS["gemm"]()
    result = broadaxe.quantize(model, data_for(model), acc_bits=7, preset="axe")
    for record, layer in zip(result.record.layers, layers_of(unbound(result.model), quantized=True), strict=True):
        tensors = {t.name: numpy_helper.to_array(t) for t in result.model.graph.initializer}
        stem = f"{record.name}.weight"
        codes = np.rint(tensors[stem] / tensors[f"{stem}_scale"]).astype(int)
        assert np.array_equal(layer.float_weights, (codes * tensors[f"{stem}_scale"]).astype(f32))
        assert record.largest_code == abs(codes).max()
        assert record.zeros == pytest.approx((codes == 0).mean())
        assert record.distinct_codes == len(np.unique(codes))
        assert record.input_codes == (int(layer.lo.min()), int(layer.hi.max()))
        assert 2 ** (record.effective_bits - 1) > codes.max() >= 0
        assert (record.rows, record.inputs) == layer.matrix().shape
    text = str(result)
    assert all(r.name in text for r in result.record.layers)
    assert f"output error {result.record.output_error:.2e} on 7 held-out samples" in text


# unusual data


@pytest.mark.parametrize("value", [0.0, 0.5])
@pytest.mark.parametrize("preset", ["best", "axe"])
def test_constant_activations(value, preset, tmp_path):
    model = NETWORKS["conv"]()
    data = np.full((20, 3, 7, 7), value, f32)
    result = broadaxe.quantize(model, data, acc_bits=8, preset=preset)
    assert all(r.width <= 8 for r in result.record.layers)
    if value == 0:
        first = result.record.layers[0]
        assert (first.dead_inputs, first.zero_rows) == (18, 4)
        assert first.warnings == ("4 output channels are all zero",)
    build = broadaxe.compile(result.model, tmp_path / "build")
    mine = build.host.reals(reference.run(build.graph, build.codes(data)))
    for output, theirs in zip(mine.values(), run_of(result.model, {"x": data}), strict=True):
        assert np.allclose(output, theirs, atol=1e-5)


def test_few_samples_are_warned_about():
    model = NETWORKS["gemm"]()
    result = broadaxe.quantize(model, data_for(model, 3), acc_bits=8)
    assert (result.record.samples, result.record.held_out_samples, result.record.output_error) == (3, 0, None)
    assert result.record.layers[0].held_out_error is None
    assert result.record.layers[0].warnings == ("3 rows for 6 inputs; give more calibration data",)
    assert "first: 3 rows for 6 inputs; give more calibration data" in str(result)


def test_damping_that_had_to_be_raised_is_said(monkeypatch):
    model = NETWORKS["gemm"]()
    solve = network.solve

    def singular(weights, moments, *rest, **options):
        live = moments.hessian.diagonal() > 0
        least = torch.linalg.eigvalsh(moments.hessian[live][:, live])[0]
        shifted = moments.hessian - torch.diag(live * (least + 1e-5))
        return solve(weights, network.Moments(moments.samples, shifted, shifted, shifted, *[moments.mean] * 2), *rest)

    monkeypatch.setattr(network, "solve", singular)
    result = broadaxe.quantize(model, data_for(model), acc_bits=8, damping=1e-9)
    for record in result.record.layers:
        assert record.damping > 1e-9
        assert f"damping was raised to {record.damping:g} to factorize the Hessian" in record.warnings


# refusals


def refusal_of(call, *arguments, **options):
    with pytest.raises(RequestError) as refusal:
        call(*arguments, **options)
    assert refusal.type in (RequestError, SettingsError)
    assert refusal.value.exit_code == 2
    return str(refusal.value)


def spoilt(value, sample=3):
    data = np.zeros((5, 6), f32)
    data[sample, 1] = value
    return data


DATA = {
    "nan": (spoilt(np.nan), "calibration: input x is not finite in sample 3 as float32; clean the data"),
    "infinity": (spoilt(-np.inf), "calibration: input x is not finite in sample 3 as float32; clean the data"),
    "too large": (
        spoilt(0).astype(np.float64) + 1e300,
        "calibration: input x is not finite in sample 0 as float32; clean the data",
    ),
    "shape": (np.zeros((5, 7)), "calibration: input x has shape (5, 7); give (samples, 6)"),
    "rank": (np.zeros(6), "calibration: input x has shape (6,); give (samples, 6)"),
    "number": (np.float32(1), "calibration: input x has shape (); give (samples, 6)"),
    "empty": (np.zeros((0, 6)), "calibration: input x has no samples; give at least one, some hundred are better"),
    "text": (np.full((5, 6), "a"), "calibration: input x holds text; numbers are needed"),
    "complex": (np.zeros((5, 6), complex), "calibration: input x holds complex128; numbers are needed"),
    "objects": (np.full((5, 6), None), "calibration: input x holds objects; numbers are needed"),
    "other name": ({"y": np.zeros((5, 6))}, "calibration: input x is missing; there are y"),
    "nothing": ({}, "calibration: input x is missing; there are none"),
}


@pytest.mark.parametrize(("data", "message"), DATA.values(), ids=DATA)
def test_calibration_data_that_do_not_fit(data, message):
    assert refusal_of(broadaxe.quantize, NETWORKS["gemm"](), data) == message


def test_calibration_data_of_several_inputs():
    model, zeros = two_inputs(), np.zeros((5, 6))
    message = "data: one array for 2 inputs; give a mapping with x, z"
    assert refusal_of(broadaxe.quantize, model, zeros) == message
    message = "calibration: inputs have [4, 5] samples; give the same number for each"
    assert refusal_of(broadaxe.quantize, model, {"x": zeros, "z": np.zeros((4, 4))}) == message
    assert refusal_of(broadaxe.quantize, model, {"x": zeros}) == "calibration: input z is missing; there are x"


def test_data_whose_squares_overflow():
    model, data = NETWORKS["gemm"](), np.full((5, 6), 1e25, f32)
    message = "first (Gemm): calibration: the inputs' second moments are not finite; scale the data down"
    for method in ("optq", "gpfq", "rtn"):
        with np.errstate(over="ignore"):
            assert refusal_of(broadaxe.quantize, model, data, method=method) == message


def test_weights_that_are_not_finite():
    model = NETWORKS["gemm"]()
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        if array.shape == (4, 5):
            array[0, 0] = np.inf
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    with pytest.raises(UnsupportedModelError) as refusal:
        broadaxe.quantize(model, np.ones((5, 6)))
    message = "quant3 (Quant): its constant input holds values that are not finite numbers; repair the model"
    assert str(refusal.value) == message


@pytest.mark.parametrize("budget", ["signed", "offset"])
def test_a_budget_that_no_signs_fit(budget):
    """Six inputs of 0 to 15: signs span 90, or 45 on both sides at best; the message gives the least that does."""
    model, needed = NETWORKS["gemm"](), 7
    options = {"weight_bits": 1, "budget": budget}
    message = f"first (Gemm): no bipolar weights fit {needed - 1} accumulator bits; give it {needed} or more"
    assert refusal_of(broadaxe.quantize, model, data_for(model), acc_bits=needed - 1, **options) == message
    result = broadaxe.quantize(model, data_for(model), acc_bits=needed, **options)
    assert result.record.layers[0].width == needed
    assert all(r.width <= needed for r in result.record.layers)
    assert all(r.distinct_codes <= 2 and r.zeros == 0 for r in result.record.layers)


CHOICES = "use axe, axe-search, best, rtn, project or project-search"
SETTINGS = {
    "no bits": ({"acc_bits": 0}, "acc_bits: 0 is not allowed; give a whole number from 1 to 48"),
    "many bits": ({"acc_bits": 64}, "acc_bits: 64 is not allowed; give a whole number from 1 to 48"),
    "tile of one": ({"acc_bits": 8, "tile": 1}, "tile: 1 is not allowed; give a whole number, 2 or more"),
    "tile alone": ({"tile": 8}, "tile: 8 needs acc_bits, the width of a tile's accumulator; give it"),
    "preset": ({"preset": "good"}, f"preset: 'good' is not allowed; {CHOICES}"),
    "weight bits": ({"weight_bits": 17}, "weight_bits: 17 is not allowed; give a whole number from 1 to 16"),
    "method": ({"method": "x"}, "method: 'x' is not allowed; use optq, gpfq, qronos or rtn"),
    "scales": ({"scales": "x"}, "scales: 'x' is not allowed; use float, pow2 or dyadic:8"),
}


@pytest.mark.parametrize(("options", "message"), SETTINGS.values(), ids=SETTINGS)
def test_settings_that_are_not_allowed(options, message):
    model = NETWORKS["gemm"]()
    assert refusal_of(broadaxe.quantize, model, data_for(model), **options) == f"settings: {message}"


def test_settings_that_are_unknown():
    model = NETWORKS["gemm"]()
    known = ", ".join(QuantConfig.model_fields)
    message = f"settings: speed: is unknown; known settings are {known}"
    assert refusal_of(broadaxe.quantize, model, data_for(model), speed=4) == message
    message = "settings: layers.fc.speed: is unknown; known settings are weight_bits, act_bits, acc_bits, tile"
    assert refusal_of(broadaxe.quantize, model, data_for(model), layers={"fc": {"speed": 4}}) == message
    message = "quantize: both a config and acc_bits; give one or the other"
    assert refusal_of(broadaxe.quantize, model, data_for(model), QuantConfig(), acc_bits=4) == message


def test_tiles_that_cannot_be():
    model = NETWORKS["grouped"]()
    message = "grouped (Conv): tile is 4, but grouped layers have no tiles; leave it out for this layer"
    assert refusal_of(broadaxe.quantize, model, data_for(model), acc_bits=8, tile=4) == message
    model = NETWORKS["gemm"]()
    message = "first (Gemm): budget offset with tile 2; accumulators of tiles start at zero, use signed"
    assert refusal_of(broadaxe.quantize, model, data_for(model), acc_bits=8, tile=2, budget="offset") == message


def test_a_model_without_layers():
    net = Network(4)
    model = net.finish(net.node("Relu", net.quant("x")))
    message = "model: has no layer whose weights could be quantized; give one with a Conv, Gemm or MatMul"
    assert refusal_of(broadaxe.quantize, model, np.zeros((2, 4))) == message


# the command


@pytest.fixture
def files(tmp_path):
    model = NETWORKS["gemm"]()
    onnx.save(model, tmp_path / "model.onnx")
    np.savez(tmp_path / "calib.npz", **data_for(model))
    return tmp_path


def command(monkeypatch, capsys, *words):
    """Exit code, standard output and standard error of `broadaxe quantize`."""
    monkeypatch.setattr(sys, "argv", ["broadaxe", "quantize", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    printed = capsys.readouterr()
    return stop.value.code, printed.out, printed.err


def test_the_command_writes_model_and_record(files, monkeypatch, capsys):
    out = files / "out.onnx"
    words = [files / "model.onnx", "--calib", files / "calib.npz", "--acc-bits", 7, "-o", out]
    code, printed, errors = command(monkeypatch, capsys, *words)
    assert (code, "error" in errors) == (0, False)
    assert f"wrote {out} and {files / 'out.json'}\nnext: broadaxe compile {out} -o build\n" in printed.replace(
        "\n ", " "
    )
    record = json.loads((files / "out.json").read_text())
    assert [layer["width"] <= 7 for layer in record["layers"]] == [True] * 3
    assert record["settings"]["acc_bits"] == 7
    assert sorted(p.name for p in files.iterdir()) == ["calib.npz", "model.onnx", "out.json", "out.onnx"]
    broadaxe.compile(out, files / "build")


COMMANDS = {
    "output": (["-o", "out.bin"], "{dir}/out.bin: models are .onnx files; name the output *.onnx"),
    "folder": (["-o", "none/out.onnx"], "{dir}/none/out.onnx: its folder does not exist; create it first"),
    "budget": (["--acc-bits", 0], "--acc-bits: 0 is not allowed; give a whole number from 1 to 48"),
    "bipolar": (
        ["--weight-bits", 1, "--acc-bits", 3],
        "first (Gemm): no bipolar weights fit 3 accumulator bits; give it 7 or more",
    ),
    "preset": (
        ["--preset", "good"],
        "--preset: 'good' is not allowed; use axe, axe-search, best, rtn, project or project-search",
    ),
    "data": (["--calib", "wrong.npz"], "calibration: input x has shape (5, 7); give (samples, 6)"),
    "no data": (
        ["--calib", "none.npz"],
        "{dir}/none.npz: cannot be read (No such file or directory); name a .npz or .npy file",
    ),
    "settings": (
        ["--config", "bad.yaml"],
        "{dir}/bad.yaml:2: tile: 1 is not allowed; give a whole number, 2 or more",
    ),
}


@pytest.mark.parametrize(("words", "message"), COMMANDS.values(), ids=COMMANDS)
def test_a_wrong_command_is_one_line_and_leaves_nothing(words, message, files, monkeypatch, capsys):
    np.savez(files / "wrong.npz", x=np.zeros((5, 7)))
    (files / "bad.yaml").write_text("acc_bits: 8\ntile: 1\n")
    before = sorted(p.name for p in files.iterdir())
    words = [files / w if isinstance(w, str) and "." in w else w for w in words]
    given = {"--calib": files / "calib.npz", "-o": files / "out.onnx"} | dict(zip(words[::2], words[1::2], strict=True))
    code, printed, errors = command(
        monkeypatch, capsys, files / "model.onnx", *(w for pair in given.items() for w in pair)
    )
    assert (code, printed) == (2, "")
    assert errors.splitlines()[-1] == f"error: {message.format(dir=files)}"
    assert sorted(p.name for p in files.iterdir()) == before


def test_what_cannot_be_written_leaves_nothing(files, monkeypatch):
    model = NETWORKS["gemm"]()
    result = broadaxe.quantize(model, data_for(model))
    message = f"{files / 'model.json'}: models are .onnx files; name the output *.onnx"
    assert refusal_of(result.save, files / "model.json") == message
    (files / "out.json").mkdir()
    before = sorted(p.name for p in files.iterdir())
    message = f"{files / 'out.json'}: exists, and quantize did not write it; choose another name"
    assert refusal_of(result.save, files / "out.onnx") == message
    assert sorted(p.name for p in files.iterdir()) == before


def test_calibration_of_an_integer_input_holds_its_integers():
    net = Network(4)
    net.inputs = [helper.make_tensor_value_info("x", TensorProto.UINT8, ["N", 4])]
    y = net.quant(net.node("Cast", "x", to=TensorProto.FLOAT), 1.0, bits=8, signed=0)
    model = net.finish(net.node("MatMul", y, net.weights(4, 3)))
    broadaxe.quantize(model, np.arange(32, dtype=np.float32).reshape(8, 4))
    with pytest.raises(broadaxe.BroadaxeError) as error:
        broadaxe.quantize(model, np.full((8, 4), 0.5, np.float32))
    assert str(error.value) == "calibration: input x holds values that are no uint8; give the model's own codes"


def test_settings_that_would_do_nothing_are_refused():
    net = Network(4)
    model = net.finish(net.node("MatMul", net.quant("x"), net.weights(4, 3), name="fc"))
    x = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    refused = {
        "settings: layers: conv*: no layer has such a name; there are fc": {"layers": {"conv*": {"acc_bits": 8}}},
        "settings: act_bits: is for float models, this one has quantizers of its own; leave it out": {"act_bits": 4},
        "fc (MatMul): tile 2 without acc_bits; give both": {"layers": {"fc": {"tile": 2}, "f*": {"weight_bits": 4}}},
    }
    for message, options in refused.items():
        if "tile" in message:
            options["layers"]["none"] = {"acc_bits": 9}
            message = "settings: layers: none: no layer has such a name; there are fc"
        with pytest.raises(broadaxe.BroadaxeError) as error:
            broadaxe.quantize(model, x, **options)
        assert str(error.value) == message


def test_a_tile_without_a_width_is_refused():
    net = Network(4)
    y = net.quant(net.node("MatMul", net.quant("x"), net.weights(4, 4), name="a"))
    model = net.finish(net.node("MatMul", y, net.weights(4, 3), name="b"))
    with pytest.raises(broadaxe.BroadaxeError) as error:
        broadaxe.quantize(model, np.ones((8, 4), np.float32), layers={"a": {"acc_bits": 9}, "b": {"tile": 2}})
    assert str(error.value) == "b (MatMul): tile 2 without acc_bits; give both"


def test_results_that_are_far_off_come_with_a_warning():
    net = Network(16)
    model = net.finish(net.node("MatMul", net.quant("x", bits=8), net.weights(16, 3, bits=8), name="fc"))
    x = np.random.default_rng(0).normal(size=(64, 16)).astype(np.float32)
    (warning,) = broadaxe.quantize(model, x, acc_bits=7, preset="axe").record.warnings
    assert "of their power on held-out rows, most in fc" in warning
    assert broadaxe.quantize(model, x).record.warnings == ()


def test_nothing_that_quantize_did_not_write_is_replaced(tmp_path):
    net = Network(4)
    result = broadaxe.quantize(
        net.finish(net.node("MatMul", net.quant("x"), net.weights(4, 3))), np.ones((8, 4), np.float32)
    )
    result.save(tmp_path / "q.onnx")
    result.save(tmp_path / "q.onnx")
    (tmp_path / "float.onnx").write_bytes(b"mine")
    (tmp_path / "data.json").write_text("{}")
    for taken, given in (("float.onnx", "float.onnx"), ("data.json", "data.onnx")):
        with pytest.raises(RequestError) as error:
            result.save(tmp_path / given)
        assert str(error.value) == f"{tmp_path / taken}: exists, and quantize did not write it; choose another name"
    assert (tmp_path / "float.onnx").read_bytes() == b"mine"


def test_held_out_rows_choose_nothing_in_a_float_model():
    """Not the ranges of activations, not the weights."""
    weights = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    net = Network(4)
    model = net.finish(net.node("MatMul", "x", weights))
    x = np.random.default_rng(1).normal(size=(64, 4)).astype(np.float32)
    other = x.copy()
    other[-8:] *= -20
    a, b = (broadaxe.quantize(model, rows).model.SerializeToString() for rows in (x, other))
    assert a == b


def test_layers_whose_sums_are_added_keep_their_scale(tmp_path):
    net = Network(8, seed=1)
    x = net.quant("x", 0.05, 0, 8, 0)
    left, right = (net.node("MatMul", x, net.weights(8, 6), name=name) for name in ("left", "right"))
    hidden = net.quant(net.node("Relu", net.node("Add", left, right, name="sum")), 0.1, 0, 8, 0)
    model = net.finish(net.node("MatMul", hidden, net.weights(6, 4)))
    samples = np.random.default_rng(0).random((50, 8), dtype=np.float32)
    found = broadaxe.quantize(model, samples, acc_bits=12)
    scales = {t.name: numpy_helper.to_array(t) for t in found.model.graph.initializer if t.name.endswith("_scale")}
    assert (scales["left.weight_scale"] == np.float32(0.125)).all()
    assert (scales["right.weight_scale"] == np.float32(0.125)).all()
    assert [len(layer.warnings) for layer in found.record.layers] == [1, 1, 0]
    assert found.record.layers[0].warnings[0].startswith("keeps the model's own scale")
    build = broadaxe.compile(found.model, tmp_path / "build")
    assert [layer.width for layer in broadaxe.report(build).layers] == [layer.width for layer in found.record.layers]


def test_a_quantizer_that_stands_for_a_relu_does_so_in_the_float_network_too():
    net = Network(8, seed=2)
    hidden = net.node("MatMul", net.quant("x", 1 / 255, 0, 8, 0), net.weights(8, 16, scale=0.05, bits=8))
    model = net.finish(net.node("MatMul", net.quant(hidden, 0.1, 0, 8, 0), net.weights(16, 4, scale=0.05, bits=8)))
    samples = np.random.default_rng(0).random((200, 8), dtype=np.float32)
    found = broadaxe.quantize(model, samples, validation=samples[100:])
    assert found.record.output_error is not None
    assert found.record.output_error < 1e-3
    assert found.record.scores is not None
    assert found.record.scores.quantized > 99.9
