"""Accumulators that other tools declare: proven, or shown to overflow by an input that plain numpy confirms."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import onnx
import pytest
import yaml
from models import Network, small_cnn
from onnx import helper, numpy_helper

import broadaxe
from broadaxe.auditing.declared import finn_type, hls_type
from broadaxe.auditing.table import text
from broadaxe.errors import RequestError
from broadaxe.types import Interval

W1 = np.array([[3.0, -4, 1], [-7, 2, 5], [6, -1, -3], [1, 7, -8]])
W2 = np.array([[5.0, -6], [-3, 7], [2, 4]])
S2 = 8.0


def two_layers(w1=W1, w2=W2, unit=1.0, weight_unit=1.0, names=("fc1", "fc2"), bias=None):
    """x (int4) -> MatMul -> Relu -> Quant (uint4) -> MatMul; `unit` and `weight_unit` are the scales of inputs and weights."""
    net = Network(len(w1), batch=1)
    x = net.quant("x", unit, bits=4, name="qx")
    y = net.node("MatMul", x, net.quant(w1 * weight_unit, weight_unit, bits=4, name="qw1"), name=names[0])
    if bias is not None:
        y = net.node("Add", y, np.asarray(bias), name="badd")
    y = net.quant(net.node("Relu", y, name="relu"), S2 * unit * weight_unit, bits=4, signed=0, name="qy")
    y = net.node("MatMul", y, net.quant(w2 * weight_unit, weight_unit, bits=4, name="qw2"), name=names[1])
    return net.finish(y)


def plain(x, w1=W1, w2=W2):
    """The sums of both layers at unit scales, and the output: numpy alone."""
    first = np.clip(np.rint(x), -8, 7) @ w1
    codes = np.clip(np.rint(np.maximum(first, 0) / S2), 0, 15)
    return first, codes @ w2 * int(S2)


def wrapped(n, bits):
    return (n + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)


def with_types(model, **types):
    """A copy of a model whose nodes have accDataType, by node name."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    for node in out.graph.node:
        if node.name in types:
            node.attribute.append(helper.make_attribute("accDataType", types[node.name]))
    return out


def annotated(model, **types):
    out = onnx.ModelProto()
    out.CopyFrom(model)
    for tensor, kind in types.items():
        entry = out.graph.quantization_annotation.add(tensor_name=tensor)
        entry.quant_parameter_tensor_names.add(key="finn_datatype", value=kind)
    return out


def precisions(**accums):
    names = {name: {"Precision": {"accum": kind, "result": "auto"}} for name, kind in accums.items()}
    return {"Model": {"Precision": {"default": "fixed<16,6>"}, "ReuseFactor": 1}, "LayerName": names}


def by_layer(audit):
    return {entry.layer.split(" ")[0]: entry for entry in audit.accumulators}


def test_an_exact_width_is_proven_and_spare_bits_are_counted():
    lo = np.where(W1 > 0, -8 * W1, 7 * W1).sum(axis=0).min()
    hi = np.where(W1 > 0, 7 * W1, -8 * W1).sum(axis=0).max()
    assert (lo, hi) == (-129, 130)
    audit = broadaxe.interop.audit(with_types(two_layers(), fc1="INT9", fc2="INT20"))
    first, second = audit.accumulators
    assert (first.verdict, first.needed, first.spare_bits, first.least, first.greatest) == ("proven", "INT9", 0, lo, hi)
    assert second.verdict == "proven"
    assert second.spare_bits == 20 - second.needed_bits
    assert audit.ok
    assert not audit.witness


def test_a_narrow_first_layer_is_shown_by_a_network_input():
    """One bit too few for one sum in millions: the witness is that sum, and numpy sees what the audit says."""
    audit = broadaxe.interop.audit(with_types(two_layers(), fc1="INT8", fc2="INT20"))
    entry = audit.accumulators[0]
    assert entry.verdict == "overflows"
    assert not audit.ok
    x = audit.witness["x"]
    assert x.shape == (1, 4)
    sums, out = plain(x)
    found = entry.overflow
    assert sums[0, found.channel] == found.true_sum
    assert found.true_sum not in range(-128, 128)
    assert found.held == wrapped(sums[0, found.channel], 8)
    # the whole network, with that accumulator 8 bits wide
    codes = np.clip(np.rint(np.maximum(wrapped(sums, 8), 0) / S2), 0, 15).astype(int)
    changed = codes @ W2 * int(S2)
    index = tuple(np.argwhere(changed != out)[0])
    assert found.change.index == index
    assert (found.change.was, found.change.becomes) == (out[index], changed[index])
    assert found.operands == tuple(int(v) for v in x[0])


def test_a_narrow_deep_layer_is_found_by_search():
    audit = broadaxe.interop.audit(annotated(two_layers(), fc2_out="INT10"))
    (entry,) = audit.accumulators
    assert entry.where == "finn_datatype"
    assert entry.verdict == "overflows"
    _, out = plain(audit.witness["x"])
    found = entry.overflow
    assert out[0, found.channel] == found.true_sum
    assert found.true_sum not in range(-512, 512)
    assert found.held == wrapped(out[0, found.channel], 10)
    assert audit.undeclared == ("fc1 (MatMul)",)


def test_an_end_that_only_the_layer_can_reach_may_overflow():
    """relu(x) and relu(-x) are never both large, but the second layer's bounds do not know."""
    model = two_layers(np.array([[7.0, -7]]), np.array([[7.0], [7]]))
    entry = by_layer(broadaxe.interop.audit(with_types(model, fc2="INT11")))["fc2"]
    every = plain(np.arange(-8, 8).reshape(-1, 1), np.array([[7.0, -7]]), np.array([[7.0], [7]]))[1]
    assert every.max() < 1024
    kind = with_types(model, fc2=f"INT{int(entry.greatest).bit_length()}")
    assert entry.greatest == (6 + 7) * 7 * 8
    assert entry.verdict == "proven"
    audit = broadaxe.interop.audit(kind, seconds=2)
    entry = audit.accumulators[0]
    assert int(entry.greatest).bit_length() == 10
    assert entry.verdict == "may overflow"
    assert entry.overflow.operands == (6, 7)
    assert not entry.overflow.inputs
    assert "inputs were tried" in entry.overflow.remark
    assert not audit.ok
    assert "no input of the network is known to do so" in text(audit)


def test_rows_are_tried_first_and_given_back():
    model = annotated(two_layers(), fc2_out="INT10")
    row = np.array([[-8.0, 7, -8, 7]], dtype=np.float32)
    assert abs(plain(row)[1]).max() > 512
    calm = np.zeros((5, 4), dtype=np.float32)
    audit = broadaxe.interop.audit(model, data=np.concatenate([calm, row]), seconds=0)
    assert audit.accumulators[0].verdict == "overflows"
    np.testing.assert_array_equal(audit.witness["x"], row)


def test_a_witness_lies_in_the_patch_that_its_position_reads():
    """Convolution with padding: numpy convolves the witness and finds the sum where the audit says."""
    net = Network(2, 5, 5, batch=1, seed=4)
    w = net.rng.integers(-7, 8, (3, 2, 3, 3)).astype(float)
    y = net.node(
        "Conv", net.quant("x", 1.0, bits=3), net.quant(w, 1.0, bits=4), name="c", pads=[1, 1, 1, 1], strides=[2, 2]
    )
    model = net.finish(y)
    ends = [np.where(w * sign > 0, 3 * w, -4 * w).sum(axis=(1, 2, 3)) for sign in (1, -1)]
    bits = Interval(int(ends[1].min()), int(ends[0].max())).signed_dtype.width - 1
    audit = broadaxe.interop.audit(with_types(model, c=f"INT{bits}"))
    found = audit.accumulators[0].overflow
    x = np.pad(audit.witness["x"][0].astype(int), ((0, 0), (1, 1), (1, 1)))
    row, column = found.position
    patch = x[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
    assert (patch * w[found.channel]).sum() == found.true_sum
    assert found.true_sum not in range(-(2 ** (bits - 1)), 2 ** (bits - 1))
    assert broadaxe.interop.audit(with_types(model, c=f"INT{bits + 1}")).ok


def test_taps_that_always_read_padding_need_no_bits():
    """Every position of a 2x2 image under a 3x3 window reads padding: fewer bits than any tap alone would ask for."""
    net = Network(1, 2, 2, batch=1)
    w = np.full((1, 1, 3, 3), 3.0)
    model = net.finish(
        net.node("Conv", net.quant("x", 1.0, bits=3), net.quant(w, 1.0, bits=4), name="c", pads=[1, 1, 1, 1])
    )
    (entry,) = broadaxe.interop.audit(with_types(model, c="INT7")).accumulators
    assert (entry.least, entry.greatest, entry.needed) == (-4 * 3 * 4, 4 * 3 * 3, "INT7")
    assert broadaxe.interop.audit(with_types(model, c="INT6")).accumulators[0].verdict == "overflows"


def test_the_search_finds_what_no_random_input_shows():
    """Only the last of 15 levels overflows, and only sums near their greatest reach it: 52 inputs have to be nearly right."""
    rng, step = np.random.default_rng(6), 80.0
    w1 = rng.integers(-7, 8, (52, 3)).astype(float)
    net = Network(52, batch=1)
    y = net.node("MatMul", net.quant("x", 1.0, bits=4), net.quant(w1, 1.0, bits=4), name="fc1")
    y = net.quant(net.node("Relu", y), step, bits=4, signed=0)
    model = net.finish(net.node("MatMul", y, net.quant(np.array([[7.0], [0], [0]]), 1.0, bits=4), name="fc2"))
    assert 14 * 7 * step < 2**13 <= 15 * 7 * step
    some = rng.choice([-8.0, 7.0], (100_000, 52)) @ w1
    assert some[:, 0].max() < 14.5 * step <= np.where(w1 > 0, 7 * w1, -8 * w1).sum(axis=0)[0]
    audit = broadaxe.interop.audit(with_types(model, fc2="INT14"))
    (entry,) = audit.accumulators
    assert (entry.verdict, entry.overflow.true_sum) == ("overflows", 15 * 7 * step)
    assert (audit.witness["x"] @ w1)[0, 0] >= 14.5 * step


def test_the_search_is_seeded():
    model = annotated(two_layers(), fc2_out="INT10")
    one, two = (broadaxe.interop.audit(model, seed=3).witness["x"] for _ in range(2))
    np.testing.assert_array_equal(one, two)


# FINN's types


@pytest.mark.parametrize(
    ("text", "least", "greatest"),
    [
        ("INT5", -16, 15),
        ("UINT3", 0, 7),
        ("BINARY", 0, 1),
        ("BIPOLAR", -1, 1),
        ("TERNARY", -1, 1),
        ("FIXED<6,4>", -8, Fraction(31, 4)),
    ],
)
def test_finn_types(text, least, greatest):
    kind = finn_type(text)
    assert (kind.origin + kind.step * kind.allowed.lo, kind.origin + kind.step * kind.allowed.hi) == (least, greatest)


def test_float_declares_nothing_and_nonsense_is_refused():
    assert finn_type("FLOAT32") is None
    with pytest.raises(RequestError) as raised:
        broadaxe.interop.audit(with_types(two_layers(), fc1="INT-3\n[red]"))
    assert str(raised.value) == (
        "fc1 (MatMul): accDataType 'INT-3?[red]' is no data type of FINN; write one such as INT8, UINT8, FIXED<8,4>,"
        " BIPOLAR, TERNARY or BINARY"
    )


def test_an_annotation_of_a_tensor_with_a_scale_is_wrong():
    audit = broadaxe.interop.audit(annotated(two_layers(unit=0.25), fc1_out="INT12"))
    (entry,) = audit.accumulators
    assert entry.rounds == "product 0 of channel 0, 0.75, needs 2 bits behind the point; INT12 has 0"
    assert not audit.ok


def test_an_unsigned_type_cannot_hold_a_negative_sum():
    (entry, _) = broadaxe.interop.audit(with_types(two_layers(), fc1="UINT9", fc2="INT20")).accumulators
    assert entry.verdict == "overflows"
    assert entry.needed == "INT9"
    assert entry.overflow.held == entry.overflow.true_sum % 512


# hls4ml


@pytest.mark.parametrize(
    ("text", "lo", "hi", "step", "saturates"),
    [
        ("fixed<16,6>", -(2**15), 2**15 - 1, Fraction(1, 1024), False),
        ("ap_ufixed<8, 3, AP_RND, AP_SAT, 0>", 0, 255, Fraction(1, 32), True),
        ("fixed<4,4,TRN,SAT_SYM>", -7, 7, 1, True),
        ("int<5>", -16, 15, 1, False),
        ("ap_uint<5>", 0, 31, 1, False),
        ("ac_fixed<8,2,false,AC_TRN,AC_WRAP>", 0, 255, Fraction(1, 64), False),
        ("fixed<4,6>", -8, 7, 4, False),
    ],
)
def test_hls_types(text, lo, hi, step, saturates):
    kind = hls_type(text)
    assert (kind.allowed, kind.step, kind.saturates) == (Interval(lo, hi), step, saturates)


@pytest.mark.parametrize(
    "text",
    ["", "fixed<16>", "fixed<0,0>", "fixed<a,b>", "fixed<16,6,NEAR>", "float<8,2>", "fixed<16,6", "int<4,4,4,4,9>"],
)
def test_what_is_no_hls_type(text):
    with pytest.raises(ValueError, match=r"^is no fixed-point type; "):
        hls_type(text)


def test_products_in_reals_with_the_bias_that_the_accumulator_starts_at():
    """Scales 1/4 and 1/8: the accumulator holds reals in steps of 1/32, and starts at the bias that follows in an Add."""
    bias = [1.5, -2.0, 0.25]
    model = two_layers(unit=0.25, weight_unit=0.125, bias=bias)
    lo, hi = (np.where(W1 * sign > 0, 7 * W1, -8 * W1).sum(axis=0) / 32 + bias for sign in (-1, 1))
    audit = broadaxe.interop.audit(model, precisions(fc1="fixed<9,4>", fc2="fixed<20,12>"))
    entry = audit.accumulators[0]
    assert (entry.least, entry.greatest) == (lo.min(), hi.max())
    assert entry.verdict == "proven"
    assert entry.where == "fc1: accum"
    # a result type of its own keeps the bias out of the accumulator
    config = precisions(fc1="fixed<9,4>", fc2="fixed<20,12>")
    config["LayerName"]["fc1"]["Precision"]["result"] = "fixed<16,6>"
    assert broadaxe.interop.audit(model, config).accumulators[0].greatest == Fraction(130, 32)


def test_a_wrapping_fixed_point_accumulator():
    model = two_layers(unit=0.25, weight_unit=0.125)
    audit = broadaxe.interop.audit(model, precisions(fc1="fixed<8,3>", fc2="fixed<20,12>"))
    found = audit.accumulators[0].overflow
    sums, _ = plain(audit.witness["x"] * 4)
    assert sums[0, found.channel] == found.true_sum * 32
    assert found.held * 32 == wrapped(sums[0, found.channel], 8)


def test_too_few_fraction_bits_are_a_finding_of_their_own():
    model = two_layers(unit=0.25, weight_unit=0.125)
    entry = broadaxe.interop.audit(model, precisions(fc1="fixed<16,12>", fc2="auto")).accumulators[0]
    assert entry.verdict == "proven"
    assert entry.rounds == "product 0 of channel 0, 0.09375, needs 5 bits behind the point; fixed<16,12> has 4"
    assert not entry.ok


def eight_ones(*rest):
    """Eight inputs of 4 bits, weights of 1 in steps of 1/4: products from -2 to 7/4."""
    return two_layers(np.ones((8, 1)), np.array([[1.0]]), weight_unit=0.25), precisions(
        fc1=f"fixed<{','.join(map(str, rest))}>"
    )


def test_rounding_decides_whether_products_fit():
    """8 * 7/4 = 14 fits 5 bits; 7/4 rounded up is 2, and 8 * 2 does not: exact sums alone would have it proven."""
    entry = broadaxe.interop.audit(*eight_ones(5, 5)).accumulators[0]
    assert (entry.verdict, entry.greatest, entry.needed) == ("proven", 14, "fixed<5,5>")  # truncated to 1
    assert entry.rounds == "product 0 of channel 0, 0.25, needs 2 bits behind the point; fixed<5,5> has 0"
    audit = broadaxe.interop.audit(*eight_ones(5, 5, "RND"))
    entry = audit.accumulators[0]
    assert (entry.verdict, entry.needed) == ("overflows", "fixed<6,6>")
    assert (entry.overflow.true_sum, entry.overflow.held) == (16, -16)
    np.testing.assert_array_equal(audit.witness["x"], np.full((1, 8), 7))
    assert broadaxe.interop.audit(*eight_ones(6, 6, "RND")).accumulators[0].verdict == "proven"


@pytest.mark.parametrize(
    ("mode", "rounded"),
    [
        ("TRN", [-2, -2, -1, 0, 0, 1, 1]),
        ("TRN_ZERO", [-1, -1, 0, 0, 0, 1, 1]),
        ("RND", [-2, -1, 0, 0, 1, 2, 2]),
        ("RND_ZERO", [-2, -1, 0, 0, 0, 1, 2]),
        ("RND_INF", [-2, -2, -1, 0, 1, 2, 2]),
        ("RND_MIN_INF", [-2, -2, -1, 0, 0, 1, 2]),
        ("RND_CONV", [-2, -2, 0, 0, 0, 2, 2]),
    ],
)
def test_rounding_modes(mode, rounded):
    """The modes of ap_fixed at -7/4, -3/2, -1/2, 0, 1/2, 3/2 and 7/4."""
    quarters = np.array([-7, -6, -2, 0, 2, 6, 7], dtype=object)
    assert hls_type(f"fixed<8,8,{mode}>").units(quarters, np.full(7, 4, dtype=object)).tolist() == rounded


def test_a_saturating_accumulator():
    net = Network(3, batch=1)
    x = net.quant("x", 1.0, bits=4, signed=0)
    model = net.finish(net.node("MatMul", x, net.quant(np.array([[7.0], [7], [-7]]), 1.0, bits=4), name="fc"))
    entry = broadaxe.interop.audit(model, precisions(fc="fixed<8,8,TRN,SAT>")).accumulators[0]
    assert entry.verdict == "overflows"
    assert (entry.overflow.true_sum, entry.overflow.held) == (210, 127)
    assert broadaxe.interop.audit(model, precisions(fc="fixed<9,9,TRN,SAT>")).ok
    # it stops at 127 on the way: 105, 127, 127 - 35; the end of the sum, 175, is not what counts
    row = np.array([[15.0, 15, 5]])
    entry = broadaxe.interop.audit(model, precisions(fc="fixed<8,8,TRN,SAT>"), data=row).accumulators[0]
    assert (entry.overflow.true_sum, entry.overflow.held) == (175, 92)
    assert (entry.overflow.change.was, entry.overflow.change.becomes) == (175, 92)


def test_partial_sums_count_where_adders_saturate():
    """7 * a - 7 * b for a and b in [8, 15]: the sum fits 7 bits, 7 * a alone does not. Wrapping adders do not mind."""
    net = Network(2, batch=1)
    x = net.quant(net.node("Clip", "x", np.float32(8), np.float32(15)), 1.0, bits=4, signed=0)
    model = net.finish(net.node("MatMul", x, net.quant(np.array([[7.0], [-7]]), 1.0, bits=4), name="fc"))
    assert broadaxe.interop.audit(model, precisions(fc="int<7>")).ok
    entry = broadaxe.interop.audit(model, precisions(fc="fixed<7,7,TRN,SAT>")).accumulators[0]
    assert (entry.verdict, entry.greatest, entry.needed) == ("may overflow", 49, "fixed<8,8>")
    assert (entry.overflow.true_sum, entry.overflow.held) == (105, 63)
    assert entry.overflow.remark == "a partial sum may leave it, in some order of the products"
    assert broadaxe.interop.audit(model, precisions(fc="fixed<8,8,TRN,SAT>")).ok
    # in steps of 4: 7 * 15 = 105 is rounded to 104, 26 steps
    entry = broadaxe.interop.audit(model, precisions(fc="fixed<5,7,RND,SAT>")).accumulators[0]
    assert (entry.verdict, entry.overflow.true_sum, entry.overflow.held) == ("may overflow", 104, 60)
    assert broadaxe.interop.audit(model, precisions(fc="fixed<6,8,RND,SAT>")).accumulators[0].verdict == "proven"


def test_scales_that_are_no_powers_of_two_leave_the_product():
    """hls4ml multiplies the integers and scales the sum: integers, whatever the scale."""
    model = two_layers(weight_unit=0.1)
    audit = broadaxe.interop.audit(model, precisions(fc1="int<9>", fc2="int<12>"))
    assert (audit.accumulators[0].least, audit.accumulators[0].greatest) == (-129, 130)
    assert audit.ok


def test_a_scale_that_cannot_leave_is_inexact():
    net = Network(4, batch=1)
    x = net.node("Reshape", net.quant("x", 0.3, bits=4), np.array([1, 4], dtype=np.int64))
    model = net.finish(net.node("MatMul", x, net.quant(W1, 1.0, bits=4), name="fc"))
    (entry,) = broadaxe.interop.audit(model, precisions(fc="fixed<20,10>")).accumulators
    assert entry.notes[0].startswith("inexact: the scale of its input, 0.3, is no power of two")
    assert not entry.ok
    assert "needs" in entry.rounds


def test_auto_is_what_hls4ml_infers():
    """hls4ml 1.3.0 gives these two layers fixed<16,8> inputs apart: see the conversion in test_export."""
    model = two_layers(unit=0.25, weight_unit=0.125)
    audit = broadaxe.interop.audit(model, precisions(fc1="auto", fc2="auto"))
    assert [entry.declared for entry in audit.accumulators] == ["fixed<17,7>", "fixed<17,7>"]
    assert audit.ok
    config = precisions(fc1="auto", fc2="auto")
    config["Model"]["Precision"]["maximum"] = "fixed<8,3>"
    audit = broadaxe.interop.audit(model, config)
    assert audit.accumulators[0].declared == "fixed<8,3>"
    assert audit.accumulators[0].verdict == "overflows"


def test_where_a_precision_comes_from():
    model = two_layers(unit=0.25, weight_unit=0.125)
    config = {"Model": {"Precision": "fixed<30,15>"}, "LayerType": {"Dense": {"Precision": {"accum": "fixed<31,15>"}}}}
    assert [e.where for e in broadaxe.interop.audit(model, config).accumulators] == ["LayerType Dense: accum"] * 2
    config["LayerName"] = {"FC1": {"Precision": "fixed<32,15>"}}
    found = broadaxe.interop.audit(model, {"HLSConfig": config}).accumulators
    assert [(e.where, e.declared) for e in found] == [
        ("FC1: default", "fixed<32,15>"),
        ("LayerType Dense: accum", "fixed<31,15>"),
    ]
    assert (
        broadaxe.interop.audit(model, {"Model": {"Precision": "fixed<30,15>"}}).accumulators[0].where
        == "Model: default"
    )


def test_names_that_the_cleaning_gives_are_understood():
    model = two_layers(unit=0.25, weight_unit=0.125, names=("a", "2b"))
    cleaned = broadaxe.interop.audit(
        model, precisions(MatMul_0="fixed<9,4>", MatMul_1="fixed<30,15>", Quant_0_param1="auto")
    )
    assert [e.where for e in cleaned.accumulators] == ["MatMul_0: accum", "MatMul_1: accum"]
    own = broadaxe.interop.audit(model, precisions(a="fixed<9,4>", matmul2b="fixed<30,15>"))
    assert [e.where for e in own.accumulators] == ["a: accum", "matmul2b: accum"]
    assert not cleaned.unknown
    assert not own.unknown


def test_entries_without_a_node_and_nodes_without_an_entry_are_listed():
    config = {
        "LayerName": {"fc1": {"Precision": {"accum": "int<9>"}}, "fc9 \x1b[31m": {"Precision": {"accum": "int<9>"}}}
    }
    audit = broadaxe.interop.audit(two_layers(), config)
    assert audit.unknown == ("fc9 ?[31m",)
    assert audit.undeclared == ("fc2 (MatMul)",)
    assert "fc9 ?[31m: is in the configuration, but nothing in the model or in hls4ml has this name" in text(audit)


def test_weights_and_biases_that_their_types_change():
    config = precisions(fc1="int<9>", fc2="int<12>")
    config["LayerName"]["fc1"]["Precision"]["weight"] = "int<3>"
    entry = broadaxe.interop.audit(two_layers(), config).accumulators[0]
    assert entry.notes == ("weight -7 of channel 0 does not fit int<3> (fc1: weight)",)
    assert not entry.ok


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"Modell": {}},
            "hls4ml configuration: has none of Model, LayerName, LayerType; give what hls4ml.utils.config_from_onnx_model"
            " makes",
        ),
        ({"Model": 3}, "hls4ml configuration: Model: is 3; write a mapping, name: value"),
        ({"LayerName": {"fc1": 3}}, "hls4ml configuration: LayerName: fc1: is 3; write a mapping, name: value"),
        (
            {"LayerName": {"fc1": {"Precision": {"accum": 8}}}},
            "hls4ml configuration: LayerName: fc1: Precision: accum: 8 is no type; write one such as fixed<16,6>",
        ),
        (
            {"LayerName": {"fc1": {"Precision": {"accum": "fix<8>"}}}},
            "hls4ml configuration: fc1 (MatMul): fc1: accum: 'fix<8>' is no fixed-point type; write one such as"
            " fixed<16,6>, ufixed<16,6,RND,SAT>, int<16> or auto",
        ),
    ],
)
def test_malformed_configurations(config, message):
    with pytest.raises(RequestError) as raised:
        broadaxe.interop.audit(two_layers(), config)
    assert str(raised.value) == message


def test_floats_and_zero_points_are_not_judged():
    audit = broadaxe.interop.audit(two_layers(), precisions(fc1="half", fc2="int<12>"))
    assert audit.unjudged == (("fc1 (MatMul)", "fc1: accum: half is a floating-point accumulator"),)
    assert not audit.ok
    net = Network(4, batch=1)
    model = net.finish(
        net.node("MatMul", net.quant("x", 1.0, zero_point=3, bits=4), net.quant(W1, 1.0, bits=4), name="fc")
    )
    assert broadaxe.interop.audit(model, precisions(fc="int<12>")).unjudged[0][0] == "fc (MatMul)"


# the command line


def test_command_finds_writes_and_exits(run, tmp_path):
    path, witness = tmp_path / "m.onnx", tmp_path / "w.npz"
    onnx.save(with_types(two_layers(), fc1="INT8", fc2="INT20"), path)
    code, out, _ = run("audit", path, "-o", witness)
    assert code == 1
    assert "fc1 (MatMul): a network input overflows it." in out
    sums, _ = plain(np.load(witness)["x"])
    assert abs(sums).max() >= 128
    code, out, _ = run("audit", path, "--json")
    assert code == 1
    assert [entry["verdict"] for entry in json.loads(out)["accumulators"]] == ["overflows", "proven"]
    onnx.save(with_types(two_layers(), fc1="INT9", fc2="INT20"), path)
    assert run("audit", path)[0] == 0
    onnx.save(two_layers(), path)
    code, _, err = run("audit", path)
    assert code == 2
    assert err.splitlines()[-1].startswith("error: m: declares no accumulator; give accDataType to its nodes")


def test_configuration_without_an_accumulator_is_what_the_error_names(run, tmp_path):
    path, config = tmp_path / "m.onnx", tmp_path / "c.yml"
    onnx.save(two_layers(), path)
    config.write_text("LayerName: {nosuch: {Precision: {accum: 'fixed<8,4>'}}}\n")
    code, _, err = run("audit", path, "--hls4ml", config)
    assert code == 2
    assert err.splitlines()[-1] == (
        "error: m: the hls4ml configuration gives no layer an accumulator, no node of the model has the name nosuch; give"
        " Model: Precision, or Precision: accum to layers in LayerName"
    )


def test_command_reads_a_configuration(run, tmp_path):
    path, config = tmp_path / "m.onnx", tmp_path / "c.yml"
    onnx.save(two_layers(), path)
    config.write_text(yaml.safe_dump(precisions(fc1="int<8>", fc2="int<14>")))
    assert run("audit", path, "--hls4ml", config)[0] == 1
    config.write_text("Model: [\n")
    code, _, err = run("audit", path, "--hls4ml", config)
    assert code == 2
    assert err.splitlines()[-1] == f"error: {config}:1: a bracket is opened here and not closed; close it"


def test_integer_inputs(run, tmp_path):
    net = Network(4, batch=1)
    model = net.finish(net.node("MatMul", "x", net.quant(W1, 1.0, bits=4), name="fc"))
    onnx.save(with_types(model, fc="INT13"), tmp_path / "m.onnx")
    code, out, _ = run("audit", tmp_path / "m.onnx", "--input", "x:uint8", "-o", tmp_path / "w.npz")
    assert code == 0
    assert "not written: no input is known to overflow" in out
    onnx.save(with_types(model, fc="INT12"), tmp_path / "m.onnx")
    assert run("audit", tmp_path / "m.onnx", "--input", "x:uint8", "-o", tmp_path / "w.npz")[0] == 1
    x = np.load(tmp_path / "w.npz")["x"]
    assert set(x.ravel()) == {0, 255}
    assert abs(x.astype(int) @ W1).max() >= 2048


def test_inputs_behind_an_affine_head():
    """The host halves and shifts the input before the quantizer: the witness is what the model takes, not its codes."""
    net = Network(4, batch=1)
    x = net.node("Sub", net.node("Mul", "x", np.float32(0.5)), np.float32(3))
    model = net.finish(net.node("MatMul", net.quant(x, 1.0, bits=4), net.quant(W1, 1.0, bits=4), name="fc"))
    audit = broadaxe.interop.audit(with_types(model, fc="INT8"))
    sums, _ = plain(audit.witness["x"] / 2 - 3)
    assert sums[0, audit.accumulators[0].overflow.channel] == audit.accumulators[0].overflow.true_sum


def test_codes_that_no_input_has_only_may_overflow():
    """Behind x * x no input gives negative codes; the audit does not claim one."""
    net = Network(4, batch=1)
    x = net.node("Mul", "x", "x")
    model = net.finish(net.node("MatMul", net.quant(x, 1.0, bits=4), net.quant(W1, 1.0, bits=4), name="fc"))
    (entry,) = broadaxe.interop.audit(with_types(model, fc="INT8")).accumulators
    assert entry.verdict == "may overflow"
    assert entry.overflow.remark == "codes that overflow it were found, but no model input that quantizes to them"


def test_names_never_break_the_terminal_or_json(run, tmp_path):
    name = "f\"c'\n[bold]1: {x}\x1b[31m"
    model = with_types(two_layers(names=(name, "fc2")), **{name: "INT8"})
    onnx.save(model, tmp_path / "m.onnx")
    code, out, _ = run("audit", tmp_path / "m.onnx")
    assert code == 1
    assert "\x1b" not in out
    assert "[bold]1: {x}?[31m (MatMul): a network input overflows it." in out
    code, out, _ = run("audit", tmp_path / "m.onnx", "--json")
    assert json.loads(out)["accumulators"][0]["layer"] == "f\"c'?[bold]1: {x}?[31m (MatMul)"


def test_pools_are_no_accumulators_of_finn():
    audit = broadaxe.interop.audit(with_types(small_cnn(), conv1="INT40"))
    assert [entry.layer for entry in audit.accumulators] == ["conv1 (Conv)"]
    assert audit.undeclared == ("gemm1 (Gemm)",)


# FINN's own nodes


def mvau(weights, thresholds, x_type, w_type, name="mv", **attributes):
    """One matrix-vector unit: x of `x_type`, weights (inputs, outputs), thresholds (outputs, steps) to UINT2 or none."""
    depth, outputs = weights.shape
    constants = [numpy_helper.from_array(weights.astype(np.float32), "w")]
    reads = ["x", "w"]
    if thresholds is not None:
        constants.append(numpy_helper.from_array(thresholds.astype(np.float32), "t"))
        reads.append("t")
    node = helper.make_node(
        "MVAU_hls",
        reads,
        ["y"],
        name=name,
        domain="finn.custom_op.fpgadataflow.hls",
        MW=depth,
        MH=outputs,
        PE=1,
        SIMD=1,
        inputDataType=x_type,
        weightDataType=w_type,
        outputDataType="UINT2" if thresholds is not None else attributes.get("accDataType", "INT32"),
        noActivation=int(thresholds is None),
        ActVal=0,
        numInputVectors=[1],
        **attributes,
    )
    infos = [
        helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, d]) for n, d in (("x", depth), ("y", outputs))
    ]
    graph = helper.make_graph([node], "finn", infos[:1], infos[1:], constants)
    imports = [helper.make_opsetid("", 13), helper.make_opsetid("finn.custom_op.fpgadataflow.hls", 1)]
    return annotated(helper.make_model(graph, opset_imports=imports, ir_version=8), x=x_type, w=w_type)


def test_a_matrix_vector_unit():
    rng = np.random.default_rng(0)
    weights = rng.integers(-2, 2, (40, 3))
    steps = np.sort(rng.integers(-90, 90, (3, 3)), axis=1)
    hi = np.where(weights > 0, 3 * weights, 0).sum(axis=0).max()
    lo = np.where(weights < 0, 3 * weights, 0).sum(axis=0).min()
    bits = Interval(int(lo), int(hi)).signed_dtype.width
    entry = broadaxe.interop.audit(mvau(weights, steps, "UINT2", "INT2")).accumulators[0]
    assert (entry.layer, entry.where, entry.declared) == ("mv (MVAU_hls)", "FINN's default", "INT32")
    assert (entry.least, entry.greatest, entry.needed) == (lo, hi, f"INT{bits}")
    audit = broadaxe.interop.audit(mvau(weights, steps, "UINT2", "INT2", accDataType=f"INT{bits - 1}"))
    found = audit.accumulators[0].overflow
    sums = audit.witness["x"].astype(int) @ weights
    assert sums[0, found.channel] == found.true_sum
    codes = (wrapped(sums, bits - 1)[..., None] >= steps).sum(axis=-1)
    right = (sums[..., None] >= steps).sum(axis=-1)
    assert found.change.becomes == codes[found.change.index]
    assert found.change.was == right[found.change.index]


@pytest.mark.parametrize("xnor", [0, 1])
def test_units_that_count_matching_bits(xnor):
    """FINN counts matches of K bits: 0 to K whatever the weights, one bit more than the bits of K - 1."""
    rng = np.random.default_rng(1)
    weights = rng.integers(0, 2, (32, 3))
    given = weights if xnor else 2 * weights - 1
    kind = "BINARY" if xnor else "BIPOLAR"
    steps = np.sort(rng.integers(5, 28, (3, 3)), axis=1)
    model = mvau(given, steps, kind, kind, binaryXnorMode=xnor, accDataType="UINT6")
    (entry,) = broadaxe.interop.audit(model).accumulators
    assert (entry.least, entry.greatest, entry.verdict, entry.needed) == (0, 32, "proven", "UINT6")
    audit = broadaxe.interop.audit(mvau(given, steps, kind, kind, binaryXnorMode=xnor, accDataType="UINT5"))
    found = audit.accumulators[0].overflow
    x = audit.witness["x"].astype(int)
    matches = (x[0][:, None] == given).sum(axis=0)
    assert (matches[found.channel], found.true_sum, found.held) == (32, 32, 0)


def test_units_are_exported_with_their_own_attribute():
    weights = np.random.default_rng(2).integers(-2, 2, (40, 3))
    model = mvau(weights, np.array([[0, 5, 9]] * 3), "UINT2", "INT2")
    made = broadaxe.interop.export_finn(model)
    (node,) = made.graph.node
    kind = next(helper.get_attribute_value(a).decode() for a in node.attribute if a.name == "accDataType")
    assert broadaxe.interop.audit(made).accumulators[0].spare_bits == 0
    node.attribute.remove(next(a for a in node.attribute if a.name == "accDataType"))
    assert made == model
    narrow = with_types(model, mv=f"INT{int(kind[3:]) - 1}")
    assert broadaxe.interop.audit(narrow).accumulators[0].verdict == "overflows"
    matching = mvau(np.ones((8, 2)), np.array([[1, 2, 3]] * 2), "BIPOLAR", "BIPOLAR", binaryXnorMode=0)
    (node,) = broadaxe.interop.export_finn(matching).graph.node
    assert [a.s for a in node.attribute if a.name == "accDataType"] == [b"UINT4"]


def test_a_model_that_starts_with_thresholds():
    """The host finds the level of each threshold; the witness is what the model takes."""
    net = Network(4, batch=1)
    steps = np.array([[-1.5, 0.25, 7.0]])
    x = net.node("MultiThreshold", "x", steps, domain="qonnx.custom_op.general", out_dtype="UINT2")
    model = net.finish(net.node("MatMul", x, net.quant(W1, 1.0, bits=4), name="fc"))
    audit = broadaxe.interop.audit(with_types(model, fc="INT5"))
    found = audit.accumulators[0].overflow
    codes = (audit.witness["x"][..., None] >= steps[0]).sum(axis=-1)
    assert (codes @ W1)[0, found.channel] == found.true_sum


def test_a_misspelt_variable_is_named():
    net = Network(4)
    model = net.finish(net.node("MatMul", net.quant("x", 0.25), net.weights(4, 3), name="fc"))
    config = {"Model": {"Precision": "fixed<32,16>"}, "LayerName": {"fc": {"Precision": {"acum": "fixed<8,4>"}}}}
    assert broadaxe.interop.audit(model, hls4ml=config).unknown == ("fc: Precision: acum",)
