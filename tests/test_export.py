"""Proven widths in the terms of FINN and hls4ml: what the audit then proves, and where one bit less is noticed."""

from __future__ import annotations

import contextlib
import io
import re

import numpy as np
import onnx
import pytest
import yaml
from models import Network, small_cnn
from onnx import helper

import broadaxe
from broadaxe.errors import RequestError

W1 = np.array([[3.0, -4, 1], [-7, 2, 5], [6, -1, -3], [1, 7, -8]])
W2 = np.array([[5.0, -6], [-3, 7], [2, 4]])


def dense(unit=1.0, weight_unit=1.0, names=("MatMul_0", "MatMul_1"), bias=None):
    """x (int4) -> MatMul (-> Add) -> Relu -> Quant (uint4) -> MatMul."""
    net = Network(4, batch=1)
    x = net.quant("x", unit, bits=4, name="Quant_0")
    y = net.node("MatMul", x, net.quant(W1 * weight_unit, weight_unit, bits=4, name="Quant_1"), name=names[0])
    if bias is not None:
        y = net.node("Add", y, np.asarray(bias), name="Add_0")
    y = net.quant(net.node("Relu", y, name="Relu_0"), 0.25, bits=4, signed=0, name="Quant_3")
    y = net.node("MatMul", y, net.quant(W2 * weight_unit, weight_unit, bits=4, name="Quant_2"), name=names[1])
    return net.finish(y)


def integer_cnn():
    """Scales of 1 everywhere: every tensor holds integers."""
    net = Network(2, 5, 5, batch=1, seed=2)

    def weights(*shape):
        return net.quant(net.rng.integers(-7, 8, shape).astype(float), 1.0, bits=4)

    y = net.node(
        "Conv",
        net.quant("x", 1.0, bits=4),
        weights(4, 2, 3, 3),
        np.array([3.0, 0, -9, 1]),
        name="conv",
        pads=[1, 1, 1, 1],
    )
    y = net.quant(net.node("Relu", y), 1.0, bits=8, signed=0)
    y = net.node("Conv", y, weights(4, 1, 3, 3), name="depthwise", group=4, strides=[2, 2])
    y = net.quant(net.node("Relu", y), 1.0, bits=8, signed=0)
    return net.finish(net.node("Gemm", net.node("Flatten", y), weights(16, 3), np.array([1.0, 2, 3]), name="fc"))


def annotations(model):
    return {
        e.tensor_name: {p.key: p.value for p in e.quant_parameter_tensor_names}
        for e in model.graph.quantization_annotation
    }


def narrower(kind):
    return re.sub(r"\d+", lambda m: str(int(m[0]) - 1), kind)


def test_integer_tensors_are_annotated_and_nothing_else_changes():
    model = integer_cnn()
    made = broadaxe.interop.export_finn(model)
    kinds = annotations(made)
    assert sorted(kinds) == ["conv_out", "depthwise_out", "fc_out"]
    assert all(re.fullmatch(r"INT\d+", entry["finn_datatype"]) for entry in kinds.values())
    del made.graph.quantization_annotation[:]
    assert made.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)
    assert not model.graph.quantization_annotation


def test_a_bias_is_in_the_tensor():
    """The annotation describes the output of the Conv, bias included: numpy's own ends of it."""
    model = integer_cnn()
    entry = broadaxe.interop.audit(broadaxe.interop.export_finn(model)).accumulators[0]
    w = onnx.numpy_helper.to_array(next(t for t in model.graph.initializer if list(t.dims) == [4, 2, 3, 3]))
    bias = np.array([3.0, 0, -9, 1])
    assert entry.greatest == (np.where(w > 0, 7 * w, -8 * w).sum(axis=(1, 2, 3)) + bias).max()
    assert entry.least == (np.where(w > 0, -8 * w, 7 * w).sum(axis=(1, 2, 3)) + bias).min()


@pytest.mark.parametrize("build", [integer_cnn, dense, small_cnn, lambda: dense(0.25, 0.125)])
def test_finn_export_is_proven_and_a_bit_less_is_not(build):
    made = broadaxe.interop.export_finn(build())
    audit = broadaxe.interop.audit(made)
    assert audit.ok
    assert [entry.spare_bits for entry in audit.accumulators] == [0] * len(audit.accumulators)
    assert not audit.undeclared
    pairs = [p for e in made.graph.quantization_annotation for p in e.quant_parameter_tensor_names]
    pairs += [p for node in made.graph.node for p in node.metadata_props]
    assert len(pairs) == len(audit.accumulators)
    seen = set()
    for pair in pairs:
        before, pair.value = pair.value, narrower(pair.value)
        wrong = [entry.layer for entry in broadaxe.interop.audit(made, seconds=0).accumulators if not entry.ok]
        pair.value = before
        assert len(wrong) == 1
        seen.update(wrong)
    assert len(seen) == len(pairs)


def test_a_tensor_with_a_scale_gets_no_annotation():
    """Reals in steps of 1/32 are no INT9; the sum of integer products is, and says so under our own name."""
    made = broadaxe.interop.export_finn(dense(0.25, 0.125))
    assert not made.graph.quantization_annotation
    assert {n.name: {p.key: p.value for p in n.metadata_props} for n in made.graph.node if n.metadata_props} == {
        "MatMul_0": {"broadaxe.acc_bits": "9"},
        "MatMul_1": {"broadaxe.acc_bits": "9"},
    }


def test_what_a_node_or_tensor_has_is_replaced():
    model = integer_cnn()
    node = next(n for n in model.graph.node if n.name == "depthwise")
    node.attribute.append(helper.make_attribute("accDataType", "INT32"))
    entry = model.graph.quantization_annotation.add(tensor_name="fc_out")
    entry.quant_parameter_tensor_names.add(key="finn_datatype", value="FLOAT32")
    entry.quant_parameter_tensor_names.add(key="tensor_layout", value="['N', 'C']")
    made = broadaxe.interop.export_finn(model)
    (node,) = (n for n in made.graph.node if n.name == "depthwise")
    (kind,) = (helper.get_attribute_value(a) for a in node.attribute if a.name == "accDataType")
    assert re.fullmatch(rb"INT1\d", kind)
    assert annotations(made)["fc_out"]["tensor_layout"] == "['N', 'C']"
    assert annotations(made)["fc_out"]["finn_datatype"].startswith("INT")
    assert sorted(annotations(made)) == ["conv_out", "fc_out"]
    assert broadaxe.interop.export_finn(made) == made


def parsed(model):
    return yaml.safe_load(broadaxe.interop.export_hls4ml(model))


@pytest.mark.parametrize("bias", [None, [0.5, -1.25, 3.0]])
def test_hls4ml_export_is_proven_and_a_bit_less_is_not(bias):
    model = dense(0.25, 0.125, bias=bias)
    config = parsed(model)
    audit = broadaxe.interop.audit(model, config)
    assert audit.ok
    assert [entry.spare_bits for entry in audit.accumulators] == [0, 0]
    assert not audit.unknown
    for name in ("MatMul_0", "MatMul_1"):
        kind = config["LayerName"][name]["Precision"]
        before, kind["accum"] = kind["accum"], narrower(kind["accum"])
        wrong = [entry.layer for entry in broadaxe.interop.audit(model, config, seconds=0).accumulators if not entry.ok]
        kind["accum"] = before
        assert wrong == [f"{name} (MatMul)"]


def test_scales_that_hls4ml_moves_leave_integers():
    config = parsed(dense(0.25, 0.1))["LayerName"]
    assert config["MatMul_0"]["Precision"]["accum"] == "fixed<9,7>"  # steps of 1/4 from the input alone


def test_what_no_fixed_point_type_holds_is_said():
    written = broadaxe.interop.export_hls4ml(small_cnn())
    lines = [line.strip() for line in written.splitlines()]
    at = lines.index("gemm1:")
    assert lines[at - 1].startswith("# inexact: a scale that is no power of two stays in front of the sum")
    kind = yaml.safe_load(written)["LayerName"]["gemm1"]["Precision"]["accum"]
    width, integer = map(int, re.findall(r"\d+", kind))
    assert width - integer == 10  # the fraction bits of fixed<16,6>
    entry = broadaxe.interop.audit(small_cnn(), yaml.safe_load(written)).accumulators[1]
    assert entry.verdict == "proven"  # of the range
    assert not entry.ok
    assert entry.notes[0].startswith("inexact: ")


def test_a_bias_finer_than_the_default_precision_is_said():
    written = broadaxe.interop.export_hls4ml(dense(0.25, 0.125, bias=[0.1, 0, 0]))
    assert "# inexact: its bias has 27 bits behind the point, more than the default precision" in written
    assert yaml.safe_load(written)["LayerName"]["MatMul_0"]["Precision"]["accum"] == "fixed<14,4>"


def test_names_never_break_yaml():
    name = "a: [1]\n# b\"'\x1b{c}"
    config = parsed(dense(0.25, 0.125, names=(name, "fc")))
    assert name in config["LayerName"]
    assert broadaxe.interop.audit(dense(0.25, 0.125, names=(name, "fc")), config).ok


def test_layers_that_hls4ml_could_not_tell_apart():
    with pytest.raises(RequestError) as raised:
        broadaxe.interop.export_hls4ml(dense(names=("fc", "FC")))
    assert str(raised.value) == "FC: two nodes have this name, and hls4ml tells layers by name; rename one"


def test_nodes_without_names_have_those_of_the_cleaning(convert):
    model = dense(0.25, 0.125, names=("fc", "fc2"))
    for node in model.graph.node:
        node.name = ""
    config = parsed(model)
    assert sorted(config["LayerName"]) == ["MatMul_0", "MatMul_1"]
    kinds = {f"Dense_{name}": entry["Precision"]["accum"][:-1] for name, entry in config["LayerName"].items()}
    assert {name: kind[: len(kinds[name])] for name, kind in accums(convert(model, config)).items()} == kinds
    assert broadaxe.interop.audit(model, config).ok


def test_a_model_without_products():
    net = Network(4, batch=1)
    model = net.finish(net.quant(net.node("Relu", net.quant("x", 1.0)), 1.0))
    for made in (broadaxe.interop.export_finn, broadaxe.interop.export_hls4ml):
        with pytest.raises(RequestError) as raised:
            made(model)
        assert (
            str(raised.value)
            == "model: has no multiply-accumulate node; give one with a Conv, Gemm or MatMul of quantized weights"
        )


def test_commands(run, tmp_path):
    model, config, finn = tmp_path / "m.onnx", tmp_path / "c.yml", tmp_path / "finn.onnx"
    onnx.save(dense(0.25, 0.125), model)
    code, out, _ = run("export", model, "--hls4ml", "-o", config)
    assert code == 0
    assert out.splitlines()[-1] == f"next: broadaxe audit {model} --hls4ml {config}"
    assert run("audit", model, "--hls4ml", config)[0] == 0
    assert run("export", model, "--finn", "-o", finn)[0] == 0
    assert run("audit", finn)[0] == 0
    code, _, err = run("export", model, "--finn", "-o", tmp_path / "no" / "m.onnx")
    assert code == 2
    assert err.splitlines()[-1].endswith("cannot be written (No such file or directory); choose another output")
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx", "c.yml", "finn.onnx"}


# hls4ml itself


@pytest.fixture(scope="module")
def hls4ml():
    return pytest.importorskip("hls4ml", reason="hls4ml is not installed; pip install 'broadaxe[exact]'")


@pytest.fixture
def convert(hls4ml, tmp_path):
    """hls4ml's own model of ours, cleaned as its guide says, under a configuration."""

    def converted(model, config):
        wrapper = pytest.importorskip("qonnx.core.modelwrapper", reason="qonnx is not installed; pip install qonnx")
        from qonnx.util.cleanup import cleanup_model

        with contextlib.redirect_stdout(io.StringIO()):
            cleaned = cleanup_model(wrapper.ModelWrapper(model))
            return hls4ml.converters.convert_from_onnx_model(
                cleaned, hls_config=config, output_dir=str(tmp_path / "prj"), backend="Vitis", io_type="io_parallel"
            )

    return converted


def accums(converted):
    return {
        layer.name: str(layer.types["accum_t"].precision)
        for layer in converted.get_layers()
        if "accum_t" in layer.types
    }


CASES = {
    "powers of two": dense(0.25, 0.125),
    "bias": dense(0.25, 0.125, bias=[0.5, -1.25, 3.0]),
    "weight scale 0.1": dense(0.25, 0.1),
    "input scale 0.3": dense(0.3, 0.125),
    "both, bias": dense(0.3, 0.1, bias=[0.5, -1.25, 3.0]),
}


@pytest.mark.parametrize("case", CASES)
def test_hls4ml_takes_the_types_and_infers_those_that_we_say(case, convert):
    """Exported types arrive; what `auto` becomes is what the audit says it does; weights and biases are where it takes them."""
    model = CASES[case]
    config = parsed(model)
    converted = convert(model, config)
    for name, kind in accums(converted).items():
        assert kind.startswith(config["LayerName"][name.removeprefix("Dense_")]["Precision"]["accum"][:-1] + ",")
    first = next(layer for layer in converted.get_layers() if layer.name == "Dense_MatMul_0")
    held = np.asarray(first.weights["weight"].data)
    scaled = "0.1" in case or case == "both, bias"
    np.testing.assert_array_equal(held, W1 * (1 if scaled else 0.125))
    starts = [0.5, -1.25, 3.0] if case == "bias" else [0, 0, 0]
    np.testing.assert_array_equal(np.asarray(first.weights["bias"].data), starts)
    for entry in config["LayerName"].values():
        if "accum" in entry["Precision"]:
            entry["Precision"]["accum"] = "auto"
    inferred = accums(convert(model, config))
    said = {
        f"Dense_{entry.layer.split()[0]}": entry.declared
        for entry in broadaxe.interop.audit(model, config).accumulators
    }
    assert {name: re.sub(r",TRN.*", ">", kind) for name, kind in inferred.items()} == said


@pytest.mark.slow
@pytest.mark.parametrize("case", ["bias", "both, bias"])
def test_hls4ml_computes_what_the_audit_says(case, convert):
    """An accumulator one bit too narrow, and the exported one: hls4ml's C++ gives both outputs, to the bit."""
    model = CASES[case]
    config = parsed(model)
    right = convert(model, config)
    kind = config["LayerName"]["MatMul_0"]["Precision"]
    kind["accum"] = narrower(kind["accum"])
    audit = broadaxe.interop.audit(model, config)
    found = audit.accumulators[0].overflow
    wrong = convert(model, config)
    outputs = []
    for converted in (right, wrong):
        with contextlib.redirect_stdout(io.StringIO()):
            converted.compile()
        outputs.append(np.asarray(converted.predict(np.ascontiguousarray(audit.witness["x"]))).reshape(1, -1))
    if case == "bias":
        assert outputs[0][found.change.index] == found.change.was
        assert outputs[1][found.change.index] == found.change.becomes
    assert outputs[0][found.change.index] != outputs[1][found.change.index]
