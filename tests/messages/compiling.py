"""Compiling: what is given, the folding, the build folder, and parameters to load."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import onnx
import torch
from models import Network, design, small_cnn
from onnx import TensorProto, helper

import broadaxe
from broadaxe.build import Build
from broadaxe.errors import MissingToolError, RequestError, UnsupportedModelError, VerificationError
from broadaxe.loading import load_parameters, write_parameters
from broadaxe.manifest import check_files, read_manifest
from broadaxe.reference import run
from broadaxe.schedule.devices import device
from broadaxe.schedule.optimize import Dead
from broadaxe.version import __version__

from . import provokes

COVERS = (
    "build.py",
    "host.py",
    "loading.py",
    "manifest.py",
    "passes/reserve_budgets.py",
    "reference.py",
    "resources.py",
    "schedule/",
)


def saved(tmp: Path) -> Path:
    path = tmp / "model.onnx"
    onnx.save(layer(), path)
    return path


def layer(
    *weights: float, bits: int = 4, zero: float = 0, name: str = "fc", tile: int | None = None
) -> onnx.ModelProto:
    """One layer of 2 inputs and a requantizer, compiled in a moment."""
    net = Network(2)
    weight = net.quant(np.array([weights or (3.0, -2.0)]).T, 1.0, bits=bits)
    y = net.node("MatMul", net.quant("x", 1.0, zero, bits=4), weight, name=name)
    model = net.finish(net.quant(y, 2.0, bits=4), name="net")
    for node in model.graph.node:
        if node.name == name and tile is not None:
            node.metadata_props.add(key="broadaxe.tile", value=str(tile))
    return model


def inputs_of_two() -> onnx.ModelProto:
    net = Network(4)
    net.inputs.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4]))
    return net.finish(net.node("Add", net.quant("x"), net.quant("y")))


# what is compiled


@provokes("model: is a list; give a file, an ONNX model, or a Brevitas module with an example_input", RequestError)
def model_that_is_a_list(tmp: Path) -> None:
    broadaxe.compile([], tmp / "out")


@provokes("model: a module needs example_input, a tensor of its input's shape; give one", RequestError)
def module_without_an_example(tmp: Path) -> None:
    broadaxe.compile(torch.nn.ReLU(), tmp / "out")


@provokes("model: initializer w: its data are in another file; give the model's file, not what it holds", RequestError)
def model_without_its_data(tmp: Path) -> None:
    model = layer()
    model.graph.initializer.add(name="w", data_location=TensorProto.EXTERNAL)
    broadaxe.compile(model, tmp / "out")


@provokes("{tmp}/model.onnx: holds no network; name a complete .onnx file", RequestError)
def empty_file(tmp: Path) -> None:
    (tmp / "model.onnx").write_bytes(b"")
    broadaxe.compile(tmp / "model.onnx", tmp / "out")


@provokes("{tmp}/model.onnx: holds the name 'quant\ufffd_out', which is not UTF-8; repair the model", RequestError)
def name_that_is_not_utf_8(tmp: Path) -> None:
    path = saved(tmp)
    path.write_bytes(path.read_bytes().replace(b"quant1_out", b"quant\xff_out"))
    broadaxe.compile(path, tmp / "out")


# where it goes


@provokes("{tmp}/thesis: exists and is not a build folder; choose another output", RequestError)
def folder_of_somebody(tmp: Path) -> None:
    (tmp / "thesis").mkdir()
    (tmp / "thesis" / "thesis.tex").write_text("precious")
    broadaxe.compile(layer(), tmp / "thesis")


@provokes("{tmp}/build: holds notes.txt, which compile did not write; move it or choose another output", RequestError)
def build_folder_with_notes(tmp: Path) -> None:
    broadaxe.compile(layer(), tmp / "build")
    (tmp / "build" / "notes.txt").write_text("precious")
    broadaxe.compile(layer(), tmp / "build")


@provokes("{tmp}/file: is not a folder; choose another output", RequestError)
def output_below_a_file(tmp: Path) -> None:
    (tmp / "file").write_text("precious")
    broadaxe.compile(layer(), tmp / "file" / "build")


@provokes("/proc/out: cannot be written (No such file or directory); choose another output", RequestError)
def folder_that_cannot_be_made(tmp: Path) -> None:
    broadaxe.compile(layer(), "/proc/out")


# build folders


def compiled(tmp: Path) -> Build:
    return broadaxe.compile(layer(), tmp / "build")


@provokes("build: is a int; give what compile returned, or its folder", RequestError)
def build_that_is_a_number(tmp: Path) -> None:
    broadaxe.verify(7)


@provokes("{tmp}: is not a build folder; make one with `broadaxe compile`", RequestError)
def folder_without_a_build(tmp: Path) -> None:
    broadaxe.load(tmp)


@provokes("{tmp}/build/build.json: does not list other.hpp; compile again", VerificationError)
def file_that_is_not_listed(tmp: Path) -> None:
    folder = compiled(tmp).path
    check_files(folder, [*read_manifest(folder)["files"], "other.hpp"])


@provokes("{tmp}/build/model.onnx: is missing or was changed after compilation; compile again", VerificationError)
def file_that_was_changed(tmp: Path) -> None:
    folder = compiled(tmp).path
    (folder / "model.onnx").write_bytes(b"")
    check_files(folder)


@provokes(
    f"{{tmp}}/build/build.json: was written by broadaxe 0.0.1, and {__version__} cannot read its settings; compile again",
    RequestError,
)
def settings_of_another_version(tmp: Path) -> None:
    place = compiled(tmp).path / "build.json"
    manifest = json.loads(place.read_text()) | {"broadaxe": "0.0.1"}
    manifest["settings"]["unheard_of"] = 1
    place.write_text(json.dumps(manifest))
    broadaxe.load(tmp / "build")


# data for a build


@cache
def small() -> Build:
    return design(layer())


@provokes("data: one array for 2 inputs; give a mapping with x, y", RequestError)
def one_array_for_two_inputs(tmp: Path) -> None:
    design(inputs_of_two()).codes(np.zeros((1, 4)))


@provokes("input x: is no array, its rows differ in shape; give numbers of one shape a sample", RequestError)
def rows_of_different_lengths(tmp: Path) -> None:
    small().codes([[1, 2, 3, 4], [5]])


@provokes("input x: is missing, the data hold 5, y; name it", RequestError)
def names_that_are_no_text(tmp: Path) -> None:
    small().codes({"y": 1, 5: 2})


@provokes("compile: both settings and clock_ns; give one or the other", RequestError)
def settings_and_options(tmp: Path) -> None:
    broadaxe.compile(layer(), tmp / "out", settings=broadaxe.CompileSettings(), clock_ns=4)


@provokes("settings: are of type dict; give broadaxe.CompileSettings(...)", RequestError)
def settings_of_another_type(tmp: Path) -> None:
    broadaxe.compile(layer(), tmp / "out", settings={})


def feeding(message: str, data: object) -> None:
    """A case that gives the build of a layer some data."""
    provokes(message, RequestError, f"data: {message.partition(': ')[2].partition(';')[0]}")(
        lambda tmp: small().codes(data)
    )


feeding("input x: is missing, the data hold y; name it", {"y": np.zeros((1, 2))})
feeding("input x: holds text; numbers are needed", np.array([["a", "b"]]))
feeding("input x: shape (3, 5); give (samples, 2)", np.zeros((3, 5)))
feeding("input x: holds values that are not finite numbers; clean the data", np.full((1, 2), np.nan))


@provokes("input x: holds 300; it was declared to hold integers 0 to 255, clip or round the data", RequestError)
def integers_beyond_their_type(tmp: Path) -> None:
    net = Network(2)
    model = net.finish(net.node("MatMul", "x", net.quant(np.ones((2, 1)), 1.0)))
    design(model, inputs={"x": "uint8"}).codes(np.full((1, 2), 300))


@provokes("data: onnxruntime cannot compute the quantized inputs, {...}; check the model", RequestError)
def head_that_does_not_run(tmp: Path) -> None:
    net = Network(2, 3)
    y = net.quant(net.node("Gather", "x", np.array([9]), axis=1, name="part"))
    design(net.finish(net.node("MatMul", y, net.weights(3, 1)))).codes(np.zeros((1, 2, 3)))


def running(message: str, **inputs: object) -> None:
    """A case that runs the reference of a layer on integers."""
    provokes(message, RequestError, f"reference: {message.partition(': ')[2].partition(';')[0]}")(
        lambda tmp: run(small().graph, inputs)
    )


running("input input0: is missing; give input0")
running("input input0: holds float64; codes are integers, quantize the data first", input0=np.zeros((1, 2)))
running("input input0: shape (1, 5); give (batch, 2)", input0=np.zeros((1, 5), np.int64))
running("input input0: holds integers outside its bounds [-8, 7]; clip or quantize the data", input0=np.full((1, 2), 9))


@provokes("inputs: batch sizes differ, [1, 2]; give as many samples for each input", RequestError)
def batches_of_other_sizes(tmp: Path) -> None:
    run(design(inputs_of_two()).graph, {f"input{i}": np.zeros((i + 1, 4), np.int64) for i in range(2)})


# installation


@provokes("kernels: the folder is missing from this installation; install broadaxe again", MissingToolError)
def folder_that_is_not_installed(tmp: Path) -> None:
    broadaxe.resources.folder("kernels")


@provokes("demo: the script is missing from this installation; install broadaxe again", MissingToolError)
def demo_that_is_not_installed(tmp: Path) -> None:
    with mock.patch.object(broadaxe.resources, "__file__", str(tmp / "package" / "resources.py")):
        broadaxe.resources.demo_script()


# parts


@provokes("part: 'zedbord' is no known device, board or part number; ZedBoard is nearest", RequestError)
def part_that_is_misspelt(tmp: Path) -> None:
    device("zedbord")


# folding


def folded(message: str, name: str, **options: object) -> None:
    """A case that compiles the small network with a folding or a target."""
    provokes(message, RequestError, name)(lambda tmp: broadaxe.compile(small_cnn(), tmp / "out", **options))


folded(
    "folding: conv9: there is no such layer; layers are conv0, gemm0",
    "folding of no layer",
    folding={"conv9": {"pe": 1, "simd": 1}},
)
folded(
    "folding: conv0: is a layer, lanes 2 do not say enough; give pe and simd",
    "lanes of a layer",
    folding={"conv0": {"lanes": 2}},
)
folded("folding: quant0: lanes 3 are not possible; lanes may be 1, 2, 4", "odd lanes", folding={"quant0": {"lanes": 3}})
folded(
    "folding: conv0: pe 3 does not divide the layer; pe may be 1, 2, 4",
    "odd pe",
    folding={"conv0": {"pe": 3, "simd": 2}},
)
folded(
    "folding: conv0: multiplier packed does not fit the layer; multiplier may be lut, dsp",
    "packed products of one channel",
    folding={"conv0": {"pe": 1, "simd": 2, "multiplier": "packed"}},
)
folded(
    "latencies: there is no kernel 'conv9'; kernels are conv0, gemm0, maxpool0, maxpool0_window, quant0, window0",
    "latency of no kernel",
    latencies={"conv9": 3},
)
folded(
    "folding: 2 cycles a frame (100,000,000 frames/s) cannot be reached, window0 takes {...} cycles at its fastest; ask for"
    " {...} cycles a frame ({...} frames/s) or slower",
    "a target that is too fast",
    target_ii=2,
)
folded(
    "folding: the cheapest folding takes {...} LUT of 5; give it more, or a smaller network",
    "a budget that is too small",
    max_lut=5,
)
folded(
    "folding: 80 cycles a frame (2,500,000 frames/s) takes {...} LUT of 800; the fastest within the budget is"
    " {...} cycles a frame ({...} frames/s)",
    "a target beyond the budget",
    target_ii=80,
    max_lut=800,
)


@provokes("folding: matmul0 reads words of 8192 bits; at most 4096 are possible, lower pe or simd", RequestError)
def words_without_end(tmp: Path) -> None:
    net = Network(2048)
    model = net.finish(net.node("MatMul", net.quant("x"), net.weights(2048, 1)))
    broadaxe.compile(model, tmp / "out", folding={"matmul0": {"pe": 1, "simd": 2048}})


NO_WORDS = "folding: no words fit the streams of conv0; leave more of the folding open"


def dead(name: str, **options: object) -> None:
    """A search in which a kernel has no folding left, which its inputs do not bring about."""

    def provoke(tmp: Path) -> None:
        found = {"return_value": Dead("conv0")}
        with mock.patch("broadaxe.schedule.targets.fastest", **found):
            if name.endswith("of a target"):
                with mock.patch("broadaxe.schedule.targets.solve", **found):
                    broadaxe.compile(small_cnn(), tmp / "out", **options)
            broadaxe.compile(small_cnn(), tmp / "out", **options)

    provokes(NO_WORDS, RequestError, name)(provoke)


dead("no words at all", max_lut=5000)
dead("no words of a target", target_ii=300)
dead("no words beyond a target", target_ii=2)


@provokes("folding: HiGHS gave up (time limit reached); give a folding, or another target", RequestError)
def solver_that_gives_up(tmp: Path) -> None:
    gone = SimpleNamespace(status=1, message="time limit reached")
    with mock.patch("scipy.optimize.milp", return_value=gone):
        broadaxe.compile(small_cnn(), tmp / "out", target_ii=300)


# weights at run time


def loadable(
    message: str, name: str, model: Callable[[], onnx.ModelProto], error: type = RequestError, **options: object
):
    """A case that compiles a model for weights that are loaded."""
    provokes(message, error, name)(lambda tmp: broadaxe.compile(model(), tmp / "out", weights="runtime", **options))


loadable("accumulators: there is no 'conv9'; there are matmul0", "budget of no layer", layer, accumulators={"conv9": 9})
loadable(
    "matmul0 channel 0, fc (MatMul): 7 bits needed, the accumulator has 5; quantize to that budget, or compile with a larger"
    " one",
    "a budget of accumulators that is too small",
    layer,
    accumulators={"*": 5},
)
loadable(
    "matmul0, fc (MatMul): an accumulator of 63 bits; at most 62 are possible",
    "a budget of accumulators without end",
    layer,
    accumulators={"*": 63},
)
loadable(
    "quant0: a table requantizer cannot be loaded; use thresholds or threshold-search",
    "table to load",
    layer,
    requantizers={"*": "table"},
)


def turning() -> onnx.ModelProto:
    net = Network(2)
    y = net.node("Gelu", net.node("MatMul", net.quant("x"), net.weights(2, 1)))
    return net.finish(net.quant(y, name="f"))


def constant() -> onnx.ModelProto:
    net = Network(2)
    y = net.node("MatMul", net.quant("x"), net.weights(2, 1))
    return net.finish(net.quant(y, bits=1, signed=0, narrow=1, name="f"))


loadable(
    "f (Quant): with loadable weights: its function rises and falls, and thresholds hold monotone ones; put a Relu before its"
    " Quant",
    "a function that turns",
    turning,
    UnsupportedModelError,
)
loadable(
    "f (Quant): with loadable weights: it has one code only, so that there is nothing to load; remove it",
    "one code",
    constant,
    UnsupportedModelError,
)


def design_of(tmp: Path, model: onnx.ModelProto, **options: object) -> Build:
    return broadaxe.compile(model, tmp / "design", weights="runtime", **options)


@provokes("{tmp}/build: its weights are fixed; compile it with weights: runtime to load others", RequestError)
def load_into_fixed_weights(tmp: Path) -> None:
    load_parameters(compiled(tmp), layer())


@provokes("{tmp}/design: parameters: is missing or too large; compile again", VerificationError)
def load_without_a_certificate(tmp: Path) -> None:
    built = design_of(tmp, layer())
    (built.path / "certificate.json").unlink()
    load_parameters(built, layer())


@provokes(
    "model: has matmul0 (matvec) of input0 where the design has window0 (window) of input0; only a model of the same"
    " architecture can be loaded",
    RequestError,
)
def load_another_architecture(tmp: Path) -> None:
    load_parameters(design_of(tmp, small_cnn()), layer())


@provokes(
    "input input0: dtype: ap_int<8>, the design has ap_int<4>; only weights, starts and thresholds can be loaded",
    RequestError,
)
def load_for_another_input(tmp: Path) -> None:
    built = design_of(tmp, layer())
    net = Network(2)
    y = net.node("MatMul", net.quant("x", bits=8), net.weights(2, 1))
    load_parameters(built, net.finish(net.quant(y)))


@provokes(
    "matmul0 channel 0, fc (MatMul): weight 100, memories hold -8 to 7; quantize to that budget, or compile with a larger one",
    RequestError,
)
def load_a_weight_off_the_grid(tmp: Path) -> None:
    load_parameters(design_of(tmp, layer()), layer(100.0, 3.0, bits=8))


@provokes(
    "matmul0 channel 0, fc (MatMul): a tile needs 7 bits, the inner accumulator has 6; quantize to that budget, or compile with"
    " a larger one",
    RequestError,
)
def load_a_tile_that_is_too_large(tmp: Path) -> None:
    load_parameters(design_of(tmp, layer(3.0, -2.0, tile=1), accumulators={"*": 12}), layer(7.0, -2.0, tile=1))


@provokes("quant0, quant3 (Quant): codes -128 to 127, the design has -8 to 7; quantize to the same type", RequestError)
def load_another_type(tmp: Path) -> None:
    net = Network(2)
    y = net.node("MatMul", net.quant("x", 1.0), net.quant(np.array([[3.0], [-2.0]]), 1.0), name="fc")
    load_parameters(design_of(tmp, layer()), net.finish(net.quant(y, 2.0, bits=8)))


@provokes("{tmp}/build: its weights are fixed, there are no parameters; compile it with weights: runtime", RequestError)
def parameters_of_fixed_weights(tmp: Path) -> None:
    write_parameters(compiled(tmp), tmp / "out.bin")


@provokes("{tmp}/out.json: ends in .json, which describes the parameters; name a .bin file", RequestError)
def parameters_into_json(tmp: Path) -> None:
    write_parameters(load_parameters(design_of(tmp, layer()), layer()), tmp / "out.json")


@provokes("{tmp}/none/p.bin: cannot be written (No such file or directory); choose another place", RequestError)
def parameters_into_no_folder(tmp: Path) -> None:
    write_parameters(load_parameters(design_of(tmp, layer()), layer()), tmp / "none" / "p.bin")
