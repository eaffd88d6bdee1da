"""Audits and exports of FINN and hls4ml designs."""

from __future__ import annotations

from pathlib import Path

import onnx
import yaml
from models import Network
from test_audit import precisions, two_layers, with_types
from test_export import dense

import broadaxe
from broadaxe.auditing.export import write
from broadaxe.errors import RequestError

from . import provokes
from .running import command

COVERS = ("auditing/",)


def configured(tmp: Path, content: object) -> None:
    """Audit a model with an hls4ml configuration in a file."""
    (tmp / "config.yml").write_text(yaml.safe_dump(content))
    broadaxe.interop.audit(two_layers(), tmp / "config.yml")


# What is declared


@provokes("seconds: is -1; give a number from 0 up", RequestError)
def negative_seconds(tmp: Path) -> None:
    broadaxe.interop.audit(two_layers(), seconds=-1)


@provokes(
    "model: declares no accumulator; give accDataType to its nodes, finn_datatype to their outputs, or an hls4ml"
    " configuration",
    RequestError,
)
def nothing_declared(tmp: Path) -> None:
    onnx.save(two_layers(), tmp / "model.onnx")
    command("audit", tmp / "model.onnx")


@provokes(
    "net: the hls4ml configuration gives no layer an accumulator; give Model: Precision, or Precision: accum to"
    " layers in LayerName",
    RequestError,
)
def nothing_configured(tmp: Path) -> None:
    configured(tmp, {"Model": {"ReuseFactor": 1}})


@provokes(
    "net: the hls4ml configuration gives no layer an accumulator, no node of the model has the name dense_1; give"
    " Model: Precision, or Precision: accum to layers in LayerName",
    RequestError,
)
def layers_of_another_model(tmp: Path) -> None:
    configured(tmp, {"LayerName": {"dense_1": {"Precision": {"accum": "fixed<16,6>"}}}})


@provokes(
    "fc1 (MatMul): accDataType 'INT-3' is no data type of FINN; write one such as INT8, UINT8, FIXED<8,4>, BIPOLAR,"
    " TERNARY or BINARY",
    RequestError,
)
def type_of_no_tool(tmp: Path) -> None:
    broadaxe.interop.audit(with_types(two_layers(), fc1="INT-3"))


@provokes("fc1 (MatMul): broadaxe.acc_bits is 'twelve'; write a number of bits from 1 to 64", RequestError)
def bits_in_words(tmp: Path) -> None:
    model = two_layers()
    node = next(node for node in model.graph.node if node.name == "fc1")
    node.metadata_props.append(onnx.StringStringEntryProto(key="broadaxe.acc_bits", value="twelve"))
    broadaxe.interop.audit(model)


# The configuration of hls4ml


@provokes(
    "{tmp}/config.yml: has none of Model, LayerName, LayerType; give what hls4ml.utils.config_from_onnx_model makes",
    RequestError,
)
def configuration_of_something_else(tmp: Path) -> None:
    configured(tmp, {"target_fps": 1000})


@provokes("{tmp}/config.yml: Model: is fixed<16,6>; write a mapping, name: value", RequestError)
def text_for_a_mapping(tmp: Path) -> None:
    configured(tmp, {"Model": "fixed<16,6>"})


@provokes(
    "{tmp}/config.yml: LayerName: fc1: Precision: accum: 16 is no type; write one such as fixed<16,6>",
    RequestError,
)
def bits_for_a_type(tmp: Path) -> None:
    configured(tmp, {"LayerName": {"fc1": {"Precision": {"accum": 16}}}})


@provokes(
    "{tmp}/config.yml: fc1 (MatMul): fc1: accum: 'fix<16,6>' is no fixed-point type; write one such as fixed<16,6>,"
    " ufixed<16,6,RND,SAT>, int<16> or auto",
    RequestError,
)
def type_misspelt(tmp: Path) -> None:
    configured(tmp, precisions(fc1="fix<16,6>"))


@provokes(
    "{tmp}/config.yml: fc1 (MatMul): fc1: accum: 'fixed<16,6,RND,SAT_ZERO>' jumps to 0 on overflow (SAT_ZERO), which"
    " is not supported; use WRAP or SAT",
    RequestError,
)
def type_that_jumps_to_zero(tmp: Path) -> None:
    configured(tmp, precisions(fc1="fixed<16,6,RND,SAT_ZERO>"))


# Exports


@provokes(
    "model: has no multiply-accumulate node; give one with a Conv, Gemm or MatMul of quantized weights",
    RequestError,
)
def nothing_to_export(tmp: Path) -> None:
    net = Network(4, batch=1)
    broadaxe.interop.export_finn(net.finish(net.quant(net.node("Relu", net.quant("x", 1.0)), 1.0)))


@provokes(
    "fc1 (MatMul): its accumulator holds no integers, for which FINN has no type; give its input and weights whole"
    " scales, or export with --hls4ml",
    RequestError,
)
def accumulator_of_fractions(tmp: Path) -> None:
    broadaxe.interop.export_finn(with_types(dense(0.25, 0.125, names=("fc1", "fc2")), fc1="INT12"))


@provokes("FC: two nodes have this name, and hls4ml tells layers by name; rename one", RequestError)
def two_layers_of_one_name(tmp: Path) -> None:
    broadaxe.interop.export_hls4ml(dense(names=("fc", "FC")))


@provokes(
    "{tmp}/configs/config.yml: cannot be written (No such file or directory); choose another output",
    RequestError,
)
def export_into_no_folder(tmp: Path) -> None:
    write(tmp / "configs" / "config.yml", "Model: {}\n")
