"""Models: operators, constants and shapes that cannot be lowered exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import test_joining
import test_movement
import test_operators
from models import QONNX, Network
from onnx import TensorProto, helper, numpy_helper
from refused_models import CASES
from test_finn import Finn

import broadaxe
from broadaxe.chain import Affine, Quantizer, codes
from broadaxe.errors import GraphError, ProofError, RequestError, UnsupportedModelError
from broadaxe.functions import Function, Power
from broadaxe.ir import Op, Value
from broadaxe.lower import lower
from broadaxe.ops import (
    ArgMax,
    Concat,
    Dot,
    GroupedMatVec,
    Lookup,
    MatVec,
    Product,
    Rearrange,
    Requantize,
    ScaledAdd,
    Select,
    SlidingWindow,
    View,
    WindowMax,
)
from broadaxe.ops.budget import Budget
from broadaxe.ops.forms import Constant
from broadaxe.ops.importing import GraphBuilder, view
from broadaxe.ops.loadable_matvec import LoadableMatVec
from broadaxe.ops.loadable_requantize import LoadableRequantize
from broadaxe.staircase import staircase
from broadaxe.types import Interval, IntType

from . import provokes

COVERS = ("ops/", "chain.py", "constants.py", "functions.py", "kinds.py", "lower.py", "staircase.py")

Making = Callable[[Network, str], "str | onnx.ModelProto"]
ONE, ZERO = (Fraction(1),), (Fraction(0),)
CODES = Quantizer(ONE, ZERO, 0, 15)
IMAGE = (2, 4, 4)


def compiling(shape: tuple[int, ...], make: Making, batch: object = "N") -> Callable[[Path], None]:
    def provoke(tmp: Path) -> None:
        net = Network(*shape, batch=batch)
        made = make(net, net.quant("x", name="q"))
        broadaxe.compile(net.finish(made) if isinstance(made, str) else made, tmp / "out")

    return provoke


def refused(message: str, *shape: int, batch: object = "N") -> Callable[[Making], Making]:
    """A case that compiles what a function makes of a network and its quantized input: its output, or a model."""

    def enter(make: Making) -> Making:
        provokes(message, UnsupportedModelError, make.__name__)(compiling(shape or IMAGE, make, batch))
        return make

    return enter


def lowering(
    make: Callable[[Network], str], seed: int, shape: tuple[int, ...], ending: bool
) -> Callable[[Path], object]:
    def provoke(tmp: Path) -> object:
        net = Network(*shape, seed=seed)
        made = make(net)
        return lower(net.finish(net.quant(made) if ending else made))

    return provoke


for _label, (_shape, _make, _message) in CASES.items():
    provokes(_message, UnsupportedModelError, _label)(compiling(_shape, _make))
for _build, _message in test_operators.REFUSALS.items():
    provokes(_message, UnsupportedModelError, _build.__name__)(lowering(_build, 29, IMAGE, True))
for _build, _message in test_joining.REFUSED.items():
    provokes(_message, UnsupportedModelError, _build.__name__)(lowering(_build, 20, (3, 4, 4), False))


def accumulators(net: Network, y: str) -> str:
    """Sums of y's two channels that nothing quantizes."""
    return net.conv(y, (2, 2, 1, 1))


def waiting(net: Network, y: str, gamma: float = 1.0) -> str:
    """A MaxPool on accumulators: it waits for a Quant."""
    y = net.norm(accumulators(net, y), [gamma, 0.5], mean=[0, 0])
    return net.node("MaxPool", y, kernel_shape=[2, 2], name="pool")


def scales(*values: float) -> np.ndarray:
    return np.array(values).reshape(1, -1, 1, 1)


# whole models


@provokes("input y: the model has no such input; it has x", RequestError)
def input_of_no_model(tmp: Path) -> None:
    net = Network(4)
    model = net.finish(net.node("MatMul", net.quant("x"), net.weights(4, 2)))
    broadaxe.compile(model, tmp / "out", inputs={"y": "uint8"})


@refused("initializer c0: is annotated INT2 but holds 3; correct the annotation or the values")
def annotation_of_other_values(net: Network, y: str) -> onnx.ModelProto:
    finn = Finn((2,), "INT4")
    return finn.finish(finn.node("MatMul", "x", finn.constant([[1.0], [3.0]], "INT2")))


@refused(
    "it (FloatQuant): rounds to floating-point numbers, which have no integers behind them; quantize to integers with Quant"
)
def floating_point_quantizer(net: Network, y: str) -> str:
    return net.node("FloatQuant", y, name="it", domain=QONNX)


@refused("it (Softmax): reads a MaxPool that no Quant follows; put a Quant behind the pool")
def tail_behind_a_pool(net: Network, y: str) -> str:
    return net.node("Softmax", waiting(net, y), name="it")


@refused("it (Quant): has inputs that do not fit it (ValueError); repair the model")
def constant_quantizer_of_other_shapes(net: Network, y: str) -> str:
    return net.node("Mul", y, net.quant([1.0, 2.0, 3.0], [1.0, 2.0], name="it"))


@provokes("model: has no output; name one", UnsupportedModelError)
def no_output(tmp: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(Network(4).finish())
    lower(model)


# constants


@refused("initializer big: holds 268435456 elements; at most 134217728 are supported")
def huge_initializer(net: Network, y: str) -> str:
    net.initializers.append(TensorProto(name="big", data_type=TensorProto.FLOAT, dims=[1 << 28]))
    return net.node("Mul", y, "big")


@refused("it (BatchNormalization): has several outputs; only one is supported here")
def several_outputs_before_the_quantizer(net: Network, y: str) -> str:
    ones = [net.constant([1.0, 1.0]) for _ in range(4)]
    node = helper.make_node("BatchNormalization", ["x", *ones], ["a", "b", "c"], name="it", training_mode=1)
    net.nodes.append(node)
    return net.quant("a")


@refused("k (Concat): has inputs or attributes that do not fit it, {...}; repair the model")
def constants_that_do_not_fit(net: Network, y: str) -> str:
    return net.node("Mul", y, net.node("Concat", [1.0], [[1.0]], axis=0, name="k"))


@refused("k (Range): has a shape that only running it would tell; fold it before the export")
def shape_that_nothing_tells(net: Network, y: str) -> str:
    numbers = []
    for number in (0, 2, 1):
        net.initializers.append(numpy_helper.from_array(np.array(number, np.int16), f"n{number}"))
        numbers.append(f"n{number}")
    return net.node("Mul", y, net.node("Range", *numbers, name="k"))


@refused("k (Neg): has several outputs; only one is supported on constants")
def several_outputs_of_constants(net: Network, y: str) -> str:
    net.nodes.append(helper.make_node("Neg", [net.constant([1.0])], ["a", "b"], name="k"))
    return net.node("Mul", y, "a")


@refused("k (Gather): cannot be computed from its constants, {...}; repair the model")
def index_beyond_constants(net: Network, y: str) -> str:
    return net.node("Mul", y, net.node("Gather", [1.0], np.array([7]), name="k"))


# element types


def typed(message: str, kind: str) -> Callable[[Callable[[Network], str]], object]:
    """A case with an input of an integer type."""

    def enter(make: Callable[[Network], str]) -> object:
        def provoke(tmp: Path) -> None:
            broadaxe.compile(test_movement.integer_model(kind, make), tmp / "out", inputs={"x": "int8"})

        return provokes(message, UnsupportedModelError, make.__name__)(provoke)

    return enter


@typed("it (Neg): reaches from -127 to 128, where int8 wraps around; cast them to float first", "int8")
def integers_that_wrap_around(net: Network) -> str:
    return net.node("Neg", "x", name="it")


@typed("it (Div): divides integers (int64), which rounds; cast them to float first", "int64")
def division_of_integers(net: Network) -> str:
    return net.node("Div", "x", np.array(2), name="it")


# choosing


@refused("it (ArgMax): reads a MaxPool that no Quant follows; put a Quant behind the pool")
def index_behind_a_pool(net: Network, y: str) -> str:
    return net.node("ArgMax", waiting(net, y), axis=1, name="it")


@refused("it (ArgMax): axis is 7; its input has 4 axes, repair the model")
def axis_beyond_the_tensor(net: Network, y: str) -> str:
    return net.node("ArgMax", y, axis=7, name="it")


@refused("it (TopK): its k is [9.0]; one number from 1 to 2 is possible, repair the model")
def more_than_there_are(net: Network, y: str) -> str:
    net.nodes.append(helper.make_node("TopK", [y, net.constant(np.array([9]))], ["a", "b"], name="it", axis=1))
    return "a"


@refused("it (ReduceMax): chooses among values that a constant turns round; put a Quant before it")
def maximum_of_falling_values(net: Network, y: str) -> str:
    return net.node("ReduceMax", net.node("Neg", y), np.array([1]), name="it")


@refused("it (ReduceSum): its axes [9] are not axes of a tensor of shape [1, 2, 4, 4]; repair the model")
def sum_over_no_axis(net: Network, y: str) -> str:
    return net.node("ReduceSum", y, np.array([9]), name="it")


@refused("it (ReduceSum): reduces axes [0, 1], the batch axis among them; keep the batch axis")
def sum_over_the_batch(net: Network, y: str) -> str:
    return net.node("ReduceSum", y, np.array([0, 1]), name="it")


@refused("it (Max): chooses from tensors whose scales need 72 bits together; use scales with a simpler ratio", *IMAGE)
def choice_of_far_scales(net: Network, y: str) -> str:
    return net.node("Max", y, net.quant("x", 2.0**-70), name="it")


# joining


@refused("it (Concat): axis is 9; its inputs have 4 axes, repair the model")
def concat_on_no_axis(net: Network, y: str) -> str:
    return net.node("Concat", y, y, axis=9, name="it")


@refused("it (Concat): joins the batch axis; keep the batch axis first")
def concat_on_the_batch(net: Network, y: str) -> str:
    return net.node("Concat", y, y, axis=0, name="it")


@refused(
    "it (Concat): joins a tensor that is not a plain scale of integers (a BatchNormalization, Relu or MaxPool comes"
    " between); put a Quant on every part"
)
def concat_of_relu(net: Network, y: str) -> str:
    return net.node("Concat", y, net.node("Relu", accumulators(net, y)), axis=1, name="it")


@provokes(
    "it (Add): adds tensors with more scales than can be kept apart; put a Quant on both sides of the addition",
    UnsupportedModelError,
)
def sum_of_many_scales(tmp: Path) -> None:
    """Rows and columns have scales of their own: one for each element, of which there may be 2**18."""
    net = Network(4, 4, 4)
    turned = net.node("Transpose", net.quant("x", scales(1, 2, 3, 4)), perm=[0, 2, 1, 3])
    model = net.finish(net.node("Add", net.quant("x", scales(1, 2, 3, 4)), turned, name="it"))
    with mock.patch("broadaxe.ops.joining.MAX_SCALES", 8):
        broadaxe.compile(model, tmp / "out")


@refused("it (Mul): multiplies activations of 66 bits together; at most 62 are possible, quantize them")
def product_of_wide_activations(net: Network, y: str) -> str:
    sides = [net.node("MatMul", net.quant("x", bits=16), net.weights(4, 4, bits=16)) for _ in range(2)]
    return net.node("Mul", *sides, name="it")


@refused("it (Mul): multiplies an activation whose scale is 0; repair the model")
def product_of_a_zero_scale(net: Network, y: str) -> str:
    return net.node("Mul", net.node("Mul", y, [0.0]), net.quant("x"), name="it")


@refused("it (MatMul): multiplies activations of shapes (1, 2, 4, 4) and (1, 3, 4, 4); repair the model")
def product_of_other_groups(net: Network, y: str) -> str:
    return net.node("MatMul", y, net.quant(net.conv(y, (3, 2, 1, 1))), name="it")


@refused("it (MatMul): multiplies activations with a zero point per channel; use one zero point per tensor")
def product_of_zero_points(net: Network, y: str) -> str:
    return net.node("MatMul", y, net.quant("x", 0.25, np.arange(2.0).reshape(1, 2, 1, 1)), name="it")


# weights


@refused("conv1 (Conv): broadaxe.tile is 4; tiles are only supported without groups", 4, 4, 4)
def tiles_of_groups(net: Network, y: str) -> onnx.ModelProto:
    return with_metadata(net.finish(net.conv(y, (4, 2, 2, 2), group=2, name="conv1")), tile="4")


@refused("fc (MatMul): broadaxe.tile is 4; tiles are only supported without groups")
def tiles_of_a_stack(net: Network, y: str) -> onnx.ModelProto:
    return with_metadata(net.finish(net.node("MatMul", y, net.weights(2, 4, 4), name="fc")), tile="4")


@refused("fc (MatMul): broadaxe.tile is '0'; a positive integer is needed", 4)
def tile_of_nothing(net: Network, y: str) -> onnx.ModelProto:
    return with_metadata(net.finish(net.node("MatMul", y, net.weights(4, 4), name="fc")), tile="0")


@refused("fc (MatMul): broadaxe.start is 'middle'; zero or offset is needed", 4)
def start_of_no_kind(net: Network, y: str) -> onnx.ModelProto:
    return with_metadata(net.finish(net.node("MatMul", y, net.weights(4, 4), name="fc")), start="middle")


@refused("fc (MatMul): broadaxe.order is 'c,kh,kw'; hardware streams 'kh,kw,c', quantize in that order", 4)
def order_of_another_hardware(net: Network, y: str) -> onnx.ModelProto:
    return with_metadata(net.finish(net.node("MatMul", y, net.weights(4, 4), name="fc")), order="c,kh,kw")


@refused("fc (MatMul): broadaxe.outer_bits is 4, but sums reach [-224, 196], 9 bits; quantize again", 4)
def promise_that_is_not_kept(net: Network, y: str) -> onnx.ModelProto:
    weight = net.quant(np.full((4, 1), 0.875), 0.125)
    return with_metadata(net.finish(net.node("MatMul", y, weight, name="fc")), outer_bits="4")


def with_metadata(model: onnx.ModelProto, **entries: str) -> onnx.ModelProto:
    """The model whose last node has metadata of broadaxe's."""
    for key, text in entries.items():
        entry = onnx.StringStringEntryProto(key=f"broadaxe.{key}", value=text)
        model.graph.node[-1].metadata_props.append(entry)
    return model


@refused("fc (Gemm): transA is 1, which mixes the batch axis with others; keep the batch axis first", 4)
def turned_input(net: Network, y: str) -> str:
    return net.node("Gemm", y, net.weights(4, 4), transA=1, name="fc")


@refused("fc (Gemm): its input has shape [1, 2, 4, 4]; (batch, ..., inputs) is needed")
def gemm_of_an_image(net: Network, y: str) -> str:
    return net.node("Gemm", y, net.weights(4, 4), name="fc")


@refused("fc (Gemm): alpha is inf; it has to be a finite number", 4)
def infinite_factor(net: Network, y: str) -> str:
    return net.node("Gemm", y, net.weights(4, 4), alpha=np.inf, name="fc")


@refused(
    "fc (MatMul): its weights of shape (4, 4) on the left of an input of shape [1, 4] mix the batch axis with others;"
    " transpose the product so that they are on the right",
    4,
)
def weights_on_the_left(net: Network, y: str) -> str:
    return net.node("MatMul", net.weights(4, 4), y, name="fc")


@refused("fc (MatMul): its weight expects vectors of 5, its input has 4; repair the model")
def stack_of_another_depth(net: Network, y: str) -> str:
    return net.node("MatMul", y, net.weights(2, 5, 4), name="fc")


@provokes("fc (MatMul): an accumulator may pass 62 bits; quantize its inputs more coarsely", UnsupportedModelError)
def accumulators_without_end(tmp: Path) -> None:
    net = Network(1 << 17)
    model = net.finish(net.node("MatMul", "x", net.quant(np.ones((1 << 17, 1)), 2.0**-15, bits=16), name="fc"))
    broadaxe.compile(model, tmp / "out", inputs={"x": "int32"})


# transposed convolutions


@refused(
    "up (ConvTranspose): its weight has shape (2, 2) for an input of shape [1, 2, 4, 4]; only 1-D and 2-D transposed"
    " convolutions are supported"
)
def transposed_matrix(net: Network, y: str) -> str:
    return up(net, y, shape=(2, 2))


@refused(
    "up (ConvTranspose): its weight of shape (3, 2, 2, 2) in 1 groups does not fit 2 input channels; repair the model"
)
def transposed_channels(net: Network, y: str) -> str:
    return up(net, y, shape=(3, 2, 2, 2))


@refused("up (ConvTranspose): its strides 2 are not a list of integers; repair the model")
def transposed_strides_of_one(net: Network, y: str) -> str:
    return up(net, y, strides=2)


@refused("up (ConvTranspose): its strides [0, 1] are not 2 numbers from 1 to 65536; repair the model")
def transposed_strides_of_zero(net: Network, y: str) -> str:
    return up(net, y, strides=[0, 1])


@refused("up (ConvTranspose): its kernel_shape is not that of its weight, [2, 2]; repair the model")
def transposed_kernel(net: Network, y: str) -> str:
    return up(net, y, kernel_shape=[3, 3])


@refused("up (ConvTranspose): its output_shape [9, 9] is more than its input makes; use output_padding below strides")
def transposed_output(net: Network, y: str) -> str:
    return up(net, y, output_shape=[9, 9])


@refused("up (ConvTranspose): its auto_pad 'SAME' is unknown; use explicit pads")
def transposed_auto_pad(net: Network, y: str) -> str:
    return up(net, y, auto_pad="SAME")


@refused("up (ConvTranspose): its pads [9, 0, 9, 0] leave nothing of 5 elements; repair the model")
def transposed_pads(net: Network, y: str) -> str:
    return up(net, y, pads=[9, 0, 9, 0])


@refused("up (ConvTranspose): makes images of 12002 x 12002; at most 16777216 pixels are supported")
def transposed_strides_without_end(net: Network, y: str) -> str:
    return up(net, y, strides=[4000, 4000])


def up(net: Network, y: str, shape: tuple[int, ...] = (2, 2, 2, 2), **attributes: object) -> str:
    return net.node("ConvTranspose", y, net.weights(*shape), name="up", **attributes)


# moving and padding


@refused("it (Pad): pads a tensor with a scale of zero; repair the model")
def padded_zero_scale(net: Network, y: str) -> str:
    return net.node("Pad", net.node("Mul", y, [0.0]), np.array([0, 0, 1, 1, 0, 0, 1, 1]), name="it")


@refused(
    "it (Pad): pads a tensor that is not a plain scale of integers; put a Quant between it and the operator before"
)
def padded_relu(net: Network, y: str) -> str:
    return net.node("Pad", net.node("Relu", y), np.array([0, 0, 1, 1, 0, 0, 1, 1]), name="it")


@refused("it (Pad): its value is [nan]; one finite number is needed")
def padded_with_nothing(net: Network, y: str) -> str:
    return net.node("Pad", y, np.array([0, 0, 1, 1, 0, 0, 1, 1]), np.nan, name="it")


@refused(
    "it (MaxPool): its input has shape [1, 4]; only (batch, channels, length) and (batch, channels, height, width) are"
    " supported",
    4,
)
def pool_of_vectors(net: Network, y: str) -> str:
    return net.node("MaxPool", y, kernel_shape=[2], name="it")


@refused("it (Tile): makes 524288 channels; at most 262144 are possible here", 2)
def channels_without_end(net: Network, y: str) -> str:
    return net.node("Tile", y, np.array([1, 1 << 18]), name="it")


@refused("it (Slice): makes a tensor of shape [1, 0, 4, 4], which holds nothing; repair the model")
def slice_of_nothing(net: Network, y: str) -> str:
    return net.node("Slice", y, np.array([1]), np.array([1]), np.array([1]), name="it")


@refused("it (Tile): its shape [2, 2, 4, 4] mixes the batch axis with others; keep the batch axis first")
def tiled_batch(net: Network, y: str) -> str:
    return net.node("Tile", y, np.array([2, 1, 1, 1]), name="it")


@refused("it (Resize): its mode is 'linear'; only nearest is supported, use it or a ConvTranspose with fixed weights")
def linear_resize(net: Network, y: str) -> str:
    return net.node("Resize", y, "", np.array([1, 1, 2, 2], np.float32), mode="linear", name="it")


@refused("it (Resize): its coordinate_transformation_mode is tf_crop_and_resize; use Slice and Resize")
def cropping_resize(net: Network, y: str) -> str:
    mode = {"mode": "nearest", "coordinate_transformation_mode": "tf_crop_and_resize"}
    return net.node("Resize", y, "", np.array([1, 1, 2, 2], np.float32), name="it", **mode)


@provokes("it (SpaceToDepth): its input holds 32 elements; fewer than 32 are supported", UnsupportedModelError)
def move_of_too_much(tmp: Path) -> None:
    """float32 counts to 2**24, which takes long to reach."""
    with mock.patch("broadaxe.ops.movement.EXACT_FLOAT32", 32):
        compiling(IMAGE, lambda net, y: net.node("SpaceToDepth", y, blocksize=2, name="it"))(tmp)


@refused("it (Tile): makes 33554432 elements; at most 16777216 are supported")
def tiled_without_end(net: Network, y: str) -> str:
    return net.node("Tile", y, np.array([1, 1, 1 << 10, 1 << 10]), name="it")


@refused(
    "it (Slice): mixes the samples of a batch; keep the batch axis first, or export the model for one sample",
    4,
    batch=2,
)
def sliced_batch(net: Network, y: str) -> str:
    return net.node("Slice", y, np.array([1]), np.array([2]), np.array([0]), name="it")


@refused(
    "it (Reshape): its shape [4, 2] mixes the samples of a batch of 2; keep the batch axis first, or export the model for"
    " one sample",
    4,
    batch=2,
)
def reshaped_batch(net: Network, y: str) -> str:
    return net.node("Reshape", y, np.array([4, 2]), name="it")


@refused("it (Unsqueeze): its axes [0] move a batch of 2; keep the batch axis first", 4, batch=2)
def moved_batch(net: Network, y: str) -> str:
    return net.node("Unsqueeze", y, np.array([0]), name="it")


@refused("it (DepthToSpace): its blocksize 3 does not divide an input of shape [1, 2, 4, 4]; repair the model")
def blocks_of_another_size(net: Network, y: str) -> str:
    return net.node("DepthToSpace", y, blocksize=3, name="it")


@refused("it (DepthToSpace): its mode 'ABC' is unknown; use DCR or CRD", 4, 4, 4)
def blocks_of_another_order(net: Network, y: str) -> str:
    return net.node("DepthToSpace", y, blocksize=2, mode="ABC", name="it")


@refused("it (Cast): reads a MaxPool that no Quant follows; put a Quant behind the pool")
def cast_behind_a_pool(net: Network, y: str) -> str:
    return net.node("Cast", waiting(net, y), to=TensorProto.INT8, name="it")


@provokes("it (View): a view splits channels of different scales; use one scale", UnsupportedModelError)
def split_scales(tmp: Path) -> None:
    builder = GraphBuilder("net")
    builder.add_input(replace(value(4), scale=tuple(map(Fraction, (1, 2, 3, 4)))))
    view(builder, "x", (2, 2), "it (View)")


# tables


@refused(
    "it (Gather): looks up a tensor that is no plain scale of integers; look up what an ArgMax or an integer input gives"
)
def row_of_relu(net: Network, y: str) -> str:
    return net.node("Gather", np.zeros((9, 2)), net.node("Relu", accumulators(net, y)), name="it")


@refused("it (Gather): its table has shape (9,); (rows, columns) is supported")
def table_of_one_column(net: Network, y: str) -> str:
    return net.node("Gather", np.zeros(9), net.node("ArgMax", y, axis=1), name="it")


@refused("it (Gather): its table has a scale per row; use one per column or per table")
def table_of_scales(net: Network, y: str) -> str:
    table = net.quant(np.zeros((2, 2)), np.array([[0.5], [0.25]]))
    return net.node("Gather", table, net.node("ArgMax", y, axis=1), name="it")


@refused("it (Gather): its table needs integers of 62 bits; put a Quant on it")
def table_of_far_numbers(net: Network, y: str) -> str:
    return net.node("Gather", np.array([[2.0**-30, 2.0**30]] * 2), net.node("ArgMax", y, axis=1), name="it")


@refused("it (Gather): axis is 1; only rows of a constant, axis 0, can be looked up")
def columns_of_a_table(net: Network, y: str) -> str:
    return net.node("Gather", np.zeros((2, 2)), net.node("ArgMax", y, axis=1), axis=1, name="it")


@refused("it (OneHot): its depth [0.5] or values [0.0, 1.0] do not fit; repair the model")
def depth_of_a_half(net: Network, y: str) -> str:
    return net.node("OneHot", net.node("ArgMax", y, axis=1), [0.5], [0.0, 1.0], name="it")


@refused("it (OneHot): axis is 0, which moves the batch axis; keep it first")
def one_hot_before_the_batch(net: Network, y: str) -> str:
    return net.node("OneHot", net.node("ArgMax", y, axis=1), [2.0], [0.0, 1.0], axis=0, name="it")


# thresholds


def thresholds(message: str) -> Callable[[Making], Making]:
    return refused(message, 4)


@thresholds("it (MultiThreshold): its thresholds have shape (2,); (channels, levels) or (1, levels) is needed")
def thresholds_in_a_row(net: Network, y: str) -> str:
    return compared(net, y, np.zeros(2))


@thresholds(
    "it (MultiThreshold): its thresholds of shape (2, 1) in data_layout 'NC' do not fit an input of shape (1, 4); give a"
    " row for each channel, or one for all"
)
def thresholds_of_other_channels(net: Network, y: str) -> str:
    return compared(net, y, np.zeros((2, 1)))


@thresholds("it (MultiThreshold): its out_scale is 0, which makes all its outputs equal; repair the model")
def thresholds_of_no_scale(net: Network, y: str) -> str:
    return compared(net, y, np.zeros((1, 1)), out_scale=0.0)


@thresholds("it (MultiThreshold): has 4194305 thresholds; at most 4194304 are possible")
def thresholds_without_end(net: Network, y: str) -> str:
    return compared(net, y, np.zeros((1, (1 << 22) + 1)))


def compared(net: Network, y: str, rows: np.ndarray, **attributes: object) -> str:
    return net.node("MultiThreshold", y, rows, domain=QONNX, name="it", out_dtype="UINT2", **attributes)


# functions


@refused("it (LeakyRelu): its alpha is nan; it has to be a finite number")
def slope_of_nothing(net: Network, y: str) -> str:
    return net.node("LeakyRelu", y, alpha=np.nan, name="it")


@refused("it (Celu): its alpha is -1; only a positive one is supported")
def falling_celu(net: Network, y: str) -> str:
    return net.node("Celu", y, alpha=-1.0, name="it")


@refused("it (Gelu): its approximate 'cubic' is unknown; use none or tanh")
def gelu_of_another_kind(net: Network, y: str) -> str:
    return net.node("Gelu", y, approximate="cubic", name="it")


@refused("it (Pow): has an activation as its exponent; only a constant exponent is supported")
def power_of_activations(net: Network, y: str) -> str:
    return net.node("Pow", y, y, name="it")


@refused("it (Pow): its exponents are [1.0, 2.0]; only one for all elements is supported", 2)
def powers(net: Network, y: str) -> str:
    return net.node("Pow", y, [1.0, 2.0], name="it")


@refused("it (Pow): its exponent is 100; only magnitudes up to 64 are supported")
def large_power(net: Network, y: str) -> str:
    return net.node("Pow", y, 100.0, name="it")


@refused("it (Mul): combines what comes out of a MaxPool that has no Quant before it; put a Quant before the pool")
def square_of_a_pool(net: Network, y: str) -> str:
    pooled = waiting(net, y)
    return net.node("Mul", pooled, pooled, name="it")


@refused(
    "it (Div): divides by an activation that reaches from -0.964028 to 0.941376; 0 has no reciprocal, put a Clip or a Quant"
    " before it"
)
def division_by_zero_maybe(net: Network, y: str) -> str:
    return net.node("Div", y, net.node("Tanh", y), name="it")


@refused(
    "mul13 (Mul): makes a function of 14 steps and degree 8192 of one quantized tensor; at most 512 and 4096 are supported,"
    " put a Quant before it"
)
def function_of_functions(net: Network, y: str) -> str:
    for _ in range(13):
        y = net.node("Mul", y, y)
    return y


@refused("it (Mul): takes its reals beyond 2**1000, which no float holds; repair the model's constants")
def reals_beyond_floats(net: Network, y: str) -> str:
    for _ in range(9):
        y = net.node("Mul", y, [2.0**120], name="it" if len(net.nodes) > 8 else None)
    return y


@refused(
    "f (Quant): the function before it rises and falls on its 2096641 integers in 4 channels; a table holds at most 65536 a"
    " channel and 4194304 in all, put a Quant before the function so that it reads few codes",
    64,
)
def function_that_turns(net: Network, y: str) -> str:
    y = net.node("MatMul", net.quant("x", 1 / 16, bits=12), net.quant(np.full((64, 4), 1.0), 1 / 8, bits=5))
    return net.quant(net.node("Gelu", y), name="f")


@provokes(
    "f (Quant): channel 0: a value stays within 2**-512 of a rounding boundary; change the scale or the normalization by one"
    " unit in the last place",
    UnsupportedModelError,
)
def undecided_code(tmp: Path) -> None:
    """tanh(x) and 2 * sigmoid(2x) - 1 are equal, which no precision shows."""
    net = Network(4)
    y = net.quant("x")
    other = net.node("Sub", net.node("Mul", net.node("Sigmoid", net.node("Mul", y, 2.0)), 2.0), 1.0)
    model = net.finish(net.quant(net.node("Sub", net.node("Tanh", y), other), 0.1, mode="FLOOR", name="f"))
    with mock.patch("broadaxe.chain.LAST_PRECISION", 512):
        broadaxe.compile(model, tmp / "out")


@refused(
    "it (Exp): the function before it rises and falls on its 2096641 integers in 4 channels; a table holds at most 65536 a"
    " channel and 4194304 in all, put a Quant before the function so that it reads few codes",
    64,
)
def function_of_one_that_turns(net: Network, y: str) -> str:
    y = net.node("MatMul", net.quant("x", 1 / 16, bits=12), net.quant(np.full((64, 4), 1.0), 1 / 8, bits=5))
    return net.quant(net.node("Exp", net.node("Gelu", y), name="it"))


@provokes("x ** 1/2: is taken of a number that may be too small; clip it before", ProofError)
def root_below_zero(tmp: Path) -> None:
    coded(Power(Fraction(1, 2)), -1)


@provokes("division: its divisor may be 0; clip it before", ProofError)
def reciprocal_of_zero(tmp: Path) -> None:
    coded(Power(Fraction(-1)), 0)


@provokes("log: is taken of a number that may be 0; clip it before", ProofError)
def logarithm_of_zero(tmp: Path) -> None:
    coded(Function("log"), 0)


def coded(step: Power | Function, x: int) -> None:
    """Codes of a function outside its domain, which lowering never asks for."""
    codes((Affine(ONE, ZERO), step), CODES, np.array([[x]], dtype=object))


@provokes("staircase: its chain is not known to be monotone; tabulate it", ProofError)
def staircase_that_turns(tmp: Path) -> None:
    staircase((Affine(ONE, ZERO), Function("gelu")), CODES, [Interval(-9, 9)])


# pools


@refused("it (GlobalAveragePool): its input has shape [1, 4]; (batch, channels, ...) is needed", 4)
def average_of_vectors(net: Network, y: str) -> str:
    return net.node("GlobalAveragePool", y, name="it")


@refused(
    "it (AveragePool): pads an average over 257 x 257 x 1; constants per position are limited to 65536, pad with a separate"
    " operator",
    1,
    256,
    256,
)
def padded_average_of_much(net: Network, y: str) -> str:
    return net.node("AveragePool", y, kernel_shape=[2, 2], pads=[1, 1, 1, 1], name="it")


@refused("it (MaxPool): a window lies in the padding alone; shrink the pads", 1, 3, 3)
def window_in_the_padding(net: Network, y: str) -> str:
    return net.node("MaxPool", y, kernel_shape=[2, 2], dilations=[4, 4], pads=[1, 1, 1, 1], name="it")


@refused(
    "it (Concat): comes after pool (MaxPool), which waits for a Quant because a constant before it turns values round; put a"
    " Quant in between"
)
def joined_behind_a_pool_that_waits(net: Network, y: str) -> str:
    return net.node("Concat", waiting(net, y, -1.0), y, axis=1, name="it")


# graphs that break the contracts of their operators


def value(*shape: int, bits: int = 4) -> Value:
    kind = IntType(bits, signed=True)
    return Value("x", shape, kind, (kind.range,) * shape[-1])


def misfit(message: str, op: Op, *inputs: Value) -> None:
    """A case that asks an operator for the shape it makes of inputs that do not fit it."""
    provokes(message, GraphError, f"{op.kind} of {' and '.join(str(x.shape) for x in inputs)}")(
        lambda tmp: op.shape(*inputs)
    )


misfit("arg_max: 2 factors, 2 biases for 3 channels; give one each, or one for all", ArgMax((1, 1), (0, 0)), value(3))
misfit("concat: positions (2,) and (3,) differ; make them alike", Concat(), value(2, 4), value(3, 4))
misfit(
    "dot: shapes (2, 4) and (3, 4) are not (G, M, K) and (G, N, K); make G and K alike",
    Dot.of(3, 4, (0, 0)),
    value(2, 4),
    value(3, 4),
)
misfit(
    "dot: 3 outputs of 4 products for (1, 2, 4); give as many as it has",
    Dot.of(3, 4, (0, 0)),
    value(1, 2, 4),
    value(1, 2, 4),
)
misfit(
    "grouped_matvec: 4 rows of 2 weights in 2 groups do not fit vectors of 3; divide both evenly among the groups",
    GroupedMatVec.of(np.ones((4, 2), dtype=np.int64), 2, 1),
    value(3),
)
misfit(
    "lookup: 2 rows from 0 on for [-8, 7] in 1 channels; give a row for each integer of one channel",
    Lookup(np.zeros((2, 2), dtype=np.int64)),
    value(1),
)
misfit(
    "matvec: 2 weights per output for vectors of 3; give as many", MatVec.of(np.ones((1, 2), dtype=np.int64)), value(3)
)
misfit("product: shapes (2,) and (3,) differ; make them alike", Product(), value(2), value(3))
misfit("product: 3 zero codes for 2 channels; give one each, or one for all", Product((0, 0, 0)), value(2), value(2))
misfit(
    "rearrange: positions up to 3 of 2 elements do not fill (4,); give one of these for each element",
    Rearrange.of(np.arange(4)),
    value(2),
)
misfit(
    "rearrange: 3 pad codes, 4 offsets for 4 channels; give as many for each",
    Rearrange.of(np.arange(4), (0, 0, 0)),
    value(4),
)
misfit("scaled_add: shapes (2,) and (3,) differ; make them alike", ScaledAdd(), value(2), value(3))
misfit("select: shapes (2,) and (3,) differ; make them alike", Select(), value(2), value(3))
misfit("view: 2 elements do not fill shape (3,); give a shape of as many", View((3,)), value(2))
misfit("window: its input has shape (4,); give an image, (height, width, channels)", SlidingWindow((2, 2)), value(4))
misfit(
    "window: kernel (2, 2) does not fit an image of shape (1, 1, 1); pad it or use a smaller one",
    SlidingWindow((2, 2)),
    value(1, 1, 1),
)
misfit("window_max: 3 elements are not 2 taps of equal size; give a multiple", WindowMax(2), value(3))


@provokes("dot: an accumulator may pass 62 bits; quantize its inputs more coarsely", GraphError)
def product_without_end(tmp: Path) -> None:
    Dot.of(1, 1, (0, 0)).bounds(value(1, 1, 1, bits=40), value(1, 1, 1, bits=40))


@provokes("loadable_matvec: channel 0 reaches [-16, 14], its budget is [-2, 1]; give it more bits", GraphError)
def budget_that_is_too_small(tmp: Path) -> None:
    LoadableMatVec.within(MatVec.of(np.ones((1, 2), dtype=np.int64)), Budget(2)).bounds(value(2))


@provokes("loadable_matvec: a tile reaches [-8, 7], its budget is [-2, 1]; give it more bits", GraphError)
def budget_of_a_tile_that_is_too_small(tmp: Path) -> None:
    LoadableMatVec.within(MatVec.of(np.ones((1, 2), dtype=np.int64), tile=1), Budget(8, 2)).bounds(value(2))


@provokes("requantize: no form has been chosen; run the pass choose_requantizers", GraphError)
def form_that_is_not_chosen(tmp: Path) -> None:
    Requantize((Affine(ONE, ZERO),), CODES).chosen()


@provokes("loadable_requantize: its form is constant; only thresholds can be loaded", GraphError)
def form_that_cannot_be_loaded(tmp: Path) -> None:
    assert LoadableRequantize((Affine(ONE, ZERO),), CODES, Constant(np.zeros(1, dtype=np.int64))).thresholds
