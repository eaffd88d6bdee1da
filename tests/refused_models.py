"""Models that compile refuses, and what it says: CASES has a shape, a maker and a message by label.

A maker takes a network and its quantized input, and returns the output's name, or a model.
"""

from __future__ import annotations

import numpy as np
import onnx
from models import QONNX
from onnx import TensorProto, helper, numpy_helper

SUPPORTED = "docs/dialects.md has a table of those that are; replace it, or end the network before it"
NOT_FINITE = "holds values that are not finite numbers; repair the model"
ONE_WIDTH = "one integer from 1 to 16 is supported"
NOT_CONSTANT = "is not a constant; only constants can be compiled into hardware"
NO_SOURCE = "does not come from a quantized tensor; there is nothing to compile"
QUANTIZE_IT = (
    "run broadaxe quantize on a float model first, put a Quant before it, or declare the input's type, as in"
    " --input name:uint8"
)

CASES = {}
IMAGE, VECTOR, TOKENS = (2, 4, 4), (4,), (4, 6)


def refused(label, message, shape=IMAGE):
    """Register a case: a function of a network and its quantized input that returns the output's name, or a model."""

    def register(make):
        CASES[label] = (shape, make, message)
        return make

    return register


def node(op_type, *more, name="it", **attributes):
    """A case that puts one operator behind the quantized input."""
    return lambda net, y: net.node(op_type, y, *more, name=name, **attributes)


def conv(*shape, **attributes):
    return lambda net, y: net.conv(y, shape, name="conv1", **attributes)


def pool(**attributes):
    return lambda net, y: net.node("MaxPool", y, name="pool", **attributes)


def quantizer(**attributes):
    """A case whose only quantizer is that of the input; the tests of weights and of activations are the same code."""
    return lambda net, y: net.quant("x", **({"scale": 0.5} | attributes), name="q1")


def quantizer_of_attribute(value):
    """A case whose first quantizer has something else for `signed`."""
    return changed(
        quantizer(), lambda graph: graph.node[-1].attribute[0].CopyFrom(helper.make_attribute("signed", value))
    )


def weight(array=None, **attributes):
    def make(net, y):
        values = net.rng.normal(size=(4, 3)) if array is None else array
        return net.node("MatMul", y, net.quant(values, **({"scale": 0.25} | attributes), name="w"), name="fc")

    return make


def changed(make, change):
    """A case that is changed after it has been built: what the builder itself would not write."""

    def build(net, y):
        model = net.finish(make(net, y))
        change(model.graph)
        return model

    return build


# operators

refused("unsupported operator", f"act (Det): operator Det is not supported; {SUPPORTED}")(node("Det", name="act"))
refused(
    "unsupported operator on constants", "k (Foo): operator Foo is no standard ONNX operator; fold it before the export"
)(lambda net, y: net.node("Mul", y, net.node("Foo", [1.0], name="k")))
refused(
    "unknown domain", "f (Fancy): domain 'com.example' is unknown; QONNX and standard ONNX operators are supported"
)(node("Fancy", name="f", domain="com.example"))
refused(
    "Quant in the standard domain", "it (Quant): domain '' has no such operator; set it to qonnx.custom_op.general"
)(node("Quant", 0.5, 0.0, 4.0, signed=1, narrow=0, rounding_mode="ROUND"))
refused("Conv in QONNX's domain", f"it (Relu): domain {QONNX!r} has no such operator; set it to '' (standard ONNX)")(
    node("Relu", domain=QONNX)
)


@refused("subgraph", "branch (If): holds a subgraph; control flow cannot be compiled into hardware")
def _subgraph(net, y):
    body = helper.make_graph([helper.make_node("Identity", [y], ["z"])], "b", [], [onnx.ValueInfoProto(name="z")])
    return net.node("If", y, name="branch", then_branch=body, else_branch=body)


# quantizers

refused("scale of zero", "q1 (Quant): its scale holds 0; scales have to be positive")(quantizer(scale=0.0))
refused("negative scale", "q1 (Quant): its scale holds -0.5; scales have to be positive")(quantizer(scale=[-0.5]))
refused("scale that is no number", f"q1 (Quant): its scale {NOT_FINITE}")(quantizer(scale=np.nan))
refused("infinite scale", f"q1 (Quant): its scale {NOT_FINITE}")(quantizer(scale=np.inf))
refused("scale of zero on weights", "w (Quant): its scale holds 0; scales have to be positive", VECTOR)(weight(scale=0))
refused("computed scale", f"q1 (Quant): its scale {NOT_CONSTANT}")(lambda net, y: net.quant(y, y, name="q1"))
refused("scale per pixel", "q1 (Quant): its scale varies within a channel; give one value per channel or per tensor")(
    quantizer(scale=np.arange(1.0, 17.0).reshape(4, 4))
)
refused(
    "scale of a wrong shape", "q1 (Quant): its scale of shape (3,) does not broadcast to (1, 2, 4, 4); repair the model"
)(quantizer(scale=[1.0, 2.0, 3.0]))
refused("no bits", f"q1 (Quant): its bit width is [0.0]; {ONE_WIDTH}")(quantizer(bits=0))
refused("17 bits", f"q1 (Quant): its bit width is [17.0]; {ONE_WIDTH}")(quantizer(bits=17))
refused("2.5 bits", f"q1 (Quant): its bit width is [2.5]; {ONE_WIDTH}")(quantizer(bits=2.5))
refused("a tensor of bits", f"q1 (Quant): its bit width is [4.0, 8.0]; {ONE_WIDTH}")(quantizer(bits=[4, 8]))
refused("bits that are no number", f"q1 (Quant): its bit width {NOT_FINITE}")(quantizer(bits=np.nan))
refused("huge zero point", "q1 (Quant): its zero point holds 2.09715e+06; magnitudes below 2**20 are supported")(
    quantizer(zero_point=2.0**21)
)
refused(
    "rounding mode",
    "q1 (Quant): its rounding mode 'NEAREST' is unknown; use one of ROUND, CEIL, FLOOR, UP, DOWN, HALF_UP, HALF_DOWN",
)(quantizer(mode="NEAREST"))
refused("signed is 2", "q1 (Quant): attribute signed is neither 0 nor 1, 2; set one of them")(quantizer(signed=2))
refused(
    "signed is a tensor",
    r'q1 (Quant): attribute signed is neither 0 nor 1, dims: 1?data_type: 9?raw_data: "\001"?; set one of them',
)(quantizer_of_attribute(numpy_helper.from_array(np.array([True]))))
refused("Quant without its bit width", "q1 (Quant): its bit width is missing; repair the model")(
    changed(quantizer(), lambda graph: graph.node[-1].input.pop())
)
refused("weights that are no numbers", "w (Quant): its constant input " + NOT_FINITE, VECTOR)(
    weight(np.full((4, 3), np.nan))
)

# products

refused(
    "unquantized weight",
    "conv2 (Conv): weights are not quantized; put a Quant on the weight input",
)(lambda net, y: net.node("Conv", y, net.rng.normal(size=(3, 2, 2, 2)), name="conv2"))
refused("unquantized input", f"conv1 (Conv): its input 'x' is not quantized; {QUANTIZE_IT}")(
    lambda net, y: net.conv("x", (3, 2, 2, 2), name="conv1")
)
refused(
    "accumulators into Conv",
    "conv2 (Conv): its input is not quantized; put a Quant between it and the operator before it",
)(lambda net, y: net.conv(net.conv(y, (3, 2, 1, 1)), (3, 3, 2, 2), name="conv2"))
refused(
    "unquantized activation",
    "conv2 (Conv): its input is not quantized; put a Quant between it and the operator before it",
)(lambda net, y: net.conv(net.node("Relu", net.conv(y, (3, 2, 1, 1))), (3, 3, 2, 2), name="conv2"))
refused(
    "input with a scale per channel",
    "conv1 (Conv): its input has a scale per channel (its quantizer has, or a Concat joins tensors of different scales),"
    " which a sum over channels cannot take out; use one scale, or a Quant behind the Concat",
)(lambda net, y: net.conv(net.quant("x", np.array([0.1, 0.2]).reshape(1, 2, 1, 1)), (3, 2, 1, 1), name="conv1"))
refused(
    "Conv weights scaled per input channel",
    "conv1 (Conv): its weight scale varies within an output channel; use one scale per output channel or tensor",
)(
    lambda net, y: net.conv(
        y, None, weight=net.weights(3, 2, 2, 2, scale=np.array([0.1, 0.2]).reshape(1, 2, 1, 1)), name="conv1"
    )
)
refused(
    "MatMul weights scaled per input",
    "fc (MatMul): its weight scale varies within an output channel; use one scale per output channel or tensor",
    VECTOR,
)(weight(scale=np.array([[0.1], [0.2], [0.3], [0.4]])))
refused(
    "zero point of weights between integers",
    "fc (MatMul): the zero point of its weights is not an integer; use an integer zero point",
    VECTOR,
)(weight(zero_point=0.5))
refused("Conv with computed weights", f"conv1 (Conv): its weight {NOT_CONSTANT}")(
    lambda net, y: net.node("Conv", y, y, name="conv1")
)
refused(
    "Gemm of activations",
    "fc (Gemm): mixes the samples of a batch, both sides are activations; use MatMul with a batch axis in front",
    (4,),
)(lambda net, y: net.node("Gemm", y, net.quant("x", 0.5), name="fc", transB=1))
refused(
    "MatMul of activations that do not fit",
    "fc (MatMul): multiplies activations of shapes (1, 4, 3) and (1, 4, 3); repair the model",
    (4, 3),
)(lambda net, y: net.node("MatMul", y, net.quant("x", 0.5), name="fc"))
refused(
    "MatMul of activations along the batch",
    "fc (MatMul): multiplies activations of shapes (1, 1) and (1, 1), where a batch axis would meet another axis; give both"
    " the axes (batch, ..., rows, columns)",
    (1,),
)(lambda net, y: net.node("MatMul", y, net.quant("x", 0.5), name="fc"))
refused(
    "stack of weights",
    "fc (MatMul): its weight of shape (2, 6, 4) does not fit an input of shape [1, 4, 6]; one matrix for all, or one for each"
    " index of axis 1 of four is supported",
    TOKENS,
)(lambda net, y: net.node("MatMul", y, net.weights(2, 6, 4), name="fc"))
refused(
    "MatMul of a wrong depth", "fc (MatMul): its weight expects vectors of 5, its input has 4; repair the model", VECTOR
)(lambda net, y: net.node("MatMul", y, net.weights(5, 3), name="fc"))
refused(
    "bias of a wrong shape", "fc (Gemm): its bias of shape (2,) does not broadcast to (1, 3); repair the model", VECTOR
)(lambda net, y: net.node("Gemm", y, net.weights(4, 3), [1.0, 2.0], name="fc"))
refused("bias that is no number", f"conv1 (Conv): its bias {NOT_FINITE}")(conv(3, 2, 1, 1, bias=[1, 2, np.nan]))
refused("Conv without weights", "conv1 (Conv): its weight is missing; repair the model")(
    changed(conv(3, 2, 1, 1), lambda graph: graph.node[-1].input.pop())
)
refused("no weights at all", "conv1 (Conv): its weight has shape (0, 2, 1, 1), which holds nothing; repair the model")(
    conv(0, 2, 1, 1)
)
refused(
    "channels of Conv",
    "conv1 (Conv): its weight of shape (2, 3, 3, 3) in 1 groups does not fit 2 input channels; repair the model",
)(conv(2, 3, 3, 3))
refused(
    "3-D Conv",
    "conv1 (Conv): its weight has shape (3, 4, 2, 2, 2) for an input of shape [1, 4, 6]; only 1-D and 2-D convolutions are"
    " supported",
    TOKENS,
)(conv(3, 4, 2, 2, 2))
refused(
    "groups of Conv",
    "conv1 (Conv): its weight of shape (2, 1, 3, 3) in 3 groups does not fit 2 input channels; repair the model",
)(conv(2, 1, 3, 3, group=3))
refused(
    "kernel beyond the image",
    "conv1 (Conv): its kernel [7, 7] does not fit its input of [4, 4]; pad it or use a smaller kernel",
)(conv(3, 2, 7, 7))
refused("kernel_shape", "conv1 (Conv): its kernel_shape [2, 2] is not that of its weight, [3, 3]; repair the model")(
    conv(3, 2, 3, 3, kernel_shape=[2, 2])
)
refused("strides of zero", "conv1 (Conv): its strides [0, 1] are not numbers from 1 up; repair the model")(
    conv(3, 2, 1, 1, strides=[0, 1])
)
refused("dilations of zero", "conv1 (Conv): its dilations [1, 0] are not numbers from 1 up; repair the model")(
    conv(3, 2, 2, 2, dilations=[1, 0])
)
refused("strides that are no list", "conv1 (Conv): its strides 2 are not a list of integers; repair the model")(
    conv(3, 2, 1, 1, strides=2)
)
refused("strides that are text", "conv1 (Conv): its strides 'ab' are not a list of integers; repair the model")(
    conv(3, 2, 1, 1, strides="ab")
)
refused("negative pads", "conv1 (Conv): its pads [-1, 0, 0, 0] are not 4 numbers from 0 up; only those are supported")(
    conv(3, 2, 1, 1, pads=[-1, 0, 0, 0])
)
refused("three pads", "conv1 (Conv): its pads [0, 0, 0] are not 4 numbers from 0 up; only those are supported")(
    conv(3, 2, 1, 1, pads=[0, 0, 0])
)
refused("endless pads", "conv1 (Conv): its pads [1099511627776, 0, 0, 0] are above 65536; use smaller ones")(
    conv(3, 2, 1, 1, pads=[1 << 40, 0, 0, 0])
)
refused("auto_pad", "conv1 (Conv): its auto_pad 'SAME' is unknown; use explicit pads")(
    conv(3, 2, 1, 1, auto_pad="SAME")
)
CODE = "use a quantizer with an integer zero point, or pads of 0"
refused(
    "padding between two codes", f"conv1 (Conv): pads with zero, which its input cannot represent (code 1/2); {CODE}"
)(lambda net, y: net.conv(net.quant("x", 0.25, 0.5), (3, 2, 3, 3), pads=[1, 1, 1, 1], name="conv1"))
refused(
    "padding of bipolar input", f"conv1 (Conv): pads with zero, which its input cannot represent (code 1/2); {CODE}"
)(lambda net, y: net.conv(net.bipolar("x"), (3, 2, 3, 3), pads=[1, 1, 1, 1], name="conv1"))

# pooling

refused(
    "pads of a pool", "pool (MaxPool): its pads [2, 0, 0, 0] reach the kernel [2, 2]; a window would hold padding alone"
)(pool(kernel_shape=[2, 2], pads=[2, 0, 0, 0]))
refused(
    "pool beyond the image",
    "pool (MaxPool): its kernel [7, 7] does not fit its input of [4, 4]; pad it or use a smaller kernel",
)(pool(kernel_shape=[7, 7]))
refused("pool without a kernel", "pool (MaxPool): its kernel_shape [] holds 0 numbers for 2 axes; repair the model")(
    pool()
)
refused("kernel of zero", "pool (MaxPool): its kernel_shape [0, 2] are not numbers from 1 up; repair the model")(
    pool(kernel_shape=[0, 2])
)
refused("strides of zero in a pool", "pool (MaxPool): its strides [0, 1] are not numbers from 1 up; repair the model")(
    pool(kernel_shape=[2, 2], strides=[0, 1])
)
refused("pool before an output", "pool (MaxPool): no Quant follows it before output pool_out; put one there")(
    lambda net, y: net.node("MaxPool", net.node("Relu", net.conv(y, (3, 2, 1, 1))), kernel_shape=[2, 2], name="pool")
)
refused(
    "pool before Neg",
    "neg (Neg): turns values round after a MaxPool that has no Quant before it; put a Quant before the pool",
)(
    lambda net, y: net.quant(
        net.node("Neg", net.node("MaxPool", net.node("Relu", y), kernel_shape=[2, 2], name="pool"), name="neg")
    )
)

# moving elements

refused(
    "Reshape mixing the batch",
    "it (Reshape): its shape [-1, 6] mixes the batch axis with others; keep the batch axis first",
    TOKENS,
)(node("Reshape", np.array([-1, 6])))
refused(
    "Reshape to another size",
    "it (Reshape): cannot give shape [1, 5] to a tensor of shape [1, 4, 6]; repair the model",
    TOKENS,
)(node("Reshape", np.array([0, 5])))
refused("computed shape", f"it (Reshape): its shape {NOT_CONSTANT}")(
    lambda net, y: net.node("Reshape", y, y, name="it")
)
refused(
    "Flatten mixing the batch",
    "it (Flatten): its shape [4, 6] mixes the batch axis with others; keep the batch axis first",
    TOKENS,
)(node("Flatten", axis=2))
refused(
    "Flatten of everything",
    "it (Flatten): axis is 0, which mixes the batch axis with others; keep the batch axis first",
)(node("Flatten", axis=0))
refused("Flatten outside the tensor", "it (Flatten): axis is 9; its input has 3 axes, repair the model", TOKENS)(
    node("Flatten", axis=9)
)
refused("Transpose of the batch", "it (Transpose): its perm [1, 0, 2] moves the batch axis; keep it first", TOKENS)(
    node("Transpose", perm=[1, 0, 2])
)
refused("perm", "it (Transpose): its perm [0, 1] is not a permutation of 3 axes; repair the model", TOKENS)(
    node("Transpose", perm=[0, 1])
)
refused(
    "Squeeze of a wide axis",
    "it (Squeeze): cannot remove axes [1] of a tensor of shape [1, 4, 6]; repair the model",
    TOKENS,
)(node("Squeeze", np.array([1])))
refused(
    "Unsqueeze outside the tensor",
    "it (Unsqueeze): cannot add axes [9] to a tensor of shape [1, 4, 6]; repair the model",
    TOKENS,
)(node("Unsqueeze", np.array([9])))
refused("Unsqueeze without axes", "it (Unsqueeze): its axes is missing; repair the model")(node("Unsqueeze"))

# steps

refused(
    "constant divided by activations",
    "it (Div): its input reaches from -2 to 1.75; 0 has no reciprocal, put a Clip or a Quant before it",
)(lambda net, y: net.quant(net.node("Div", 1.0, y, name="it")))
refused("division by zero", "it (Div): divides by zero; repair the model")(node("Div", [0.0]))
refused(
    "constant per pixel", "it (Mul): its constant varies within a channel; give one value per channel or per tensor"
)(node("Mul", np.arange(1.0, 17.0).reshape(4, 4)))
refused(
    "constant of a wrong shape",
    "it (Add): its constant of shape (3, 1, 1) does not broadcast to (1, 2, 4, 4); repair the model",
)(node("Add", np.arange(3.0).reshape(3, 1, 1)))
refused("negative variance", "bn (BatchNormalization): its variance plus epsilon is -0.99999; it has to be positive")(
    lambda net, y: net.norm(y, [1.0, 1.0], variance=[-1.0, 1.0], name="bn")
)
refused("epsilon that is no number", "bn (BatchNormalization): its epsilon is nan; it has to be a finite number")(
    lambda net, y: net.norm(y, [1.0, 1.0], epsilon=np.nan, name="bn")
)
refused(
    "normalization of a wrong size",
    "bn (BatchNormalization): its scale of shape (1, 3, 1, 1) does not broadcast to (1, 2, 4, 4); repair the model",
)(lambda net, y: net.norm(y, [1.0, 1.0, 1.0], name="bn"))
refused("training mode", "bn (BatchNormalization): is in training mode; export the model in evaluation mode")(
    lambda net, y: net.norm(y, [1.0, 1.0], training_mode=1, name="bn")
)
refused("Clip upside down", "it (Clip): its min 3 is above its max 1; repair the model")(node("Clip", 3.0, 1.0))
refused("Clip above everything", "it (Clip): its min is inf; it has to be a number or -inf")(node("Clip", np.inf))
refused("Clip to no number", "it (Clip): its max is nan; it has to be a number or inf")(node("Clip", 0.0, np.nan))
refused("Clip per channel", "it (Clip): its min holds 2 numbers; only one is supported")(node("Clip", [1.0, 2.0]))
refused("Relu of nothing", "it (Relu): has no inputs; repair the model")(
    changed(node("Relu"), lambda graph: graph.node[-1].input.pop())
)
refused(
    "quantizer behind a float operator",
    "q1 (Quant): comes after it (Softmax), which only the host can compute; replace that operator, or end the network"
    " before it",
    VECTOR,
)(lambda net, y: net.quant(net.node("Softmax", y, name="it"), name="q1"))


# constants that a few bytes ask for


def folded(op_type, *inputs, **attributes):
    """A case that multiplies by what one operator makes of constants."""
    return lambda net, y: net.node("Mul", y, net.node(op_type, *inputs, name="k", **attributes))


def quantized_outer(net, y):
    return net.node("MatMul", y, net.quant(np.zeros((1, 1 << 16)), np.ones((1 << 16, 1)), name="k"))


def doubled(net, y):
    k = net.constant(np.zeros(4))
    for _ in range(50):
        k = net.node("Concat", k, k, axis=0)
    return net.node("Mul", y, k)


def repeated(net, y):
    k = net.node("ConstantOfShape", np.array([1 << 22]))
    for _ in range(50):
        k = net.node("Neg", k)
    return net.node("Mul", y, k)


LIMIT = "at most 4194304 are possible here, shrink it"
HUGE = np.array([1 << 15, 1 << 15])
refused("Expand bomb", f"k (Expand): makes 1073741824 elements of constants; {LIMIT}")(folded("Expand", [1.0], HUGE))
refused("Tile bomb", f"k (Tile): makes 1073741824 elements of constants; {LIMIT}")(folded("Tile", [[1.0]], HUGE))
refused("ConstantOfShape bomb", f"k (ConstantOfShape): makes 1073741824 elements of constants; {LIMIT}")(
    folded("ConstantOfShape", HUGE)
)
refused("Pad bomb", f"k (Pad): makes 1073807361 elements of constants; {LIMIT}")(
    folded("Pad", [[1.0]], np.array([0, 0, *HUGE]))
)
refused("Range bomb", f"k (Range): makes 1099511627776 elements of constants; {LIMIT}")(
    folded("Range", *(np.array(v, np.int64) for v in (0, 1 << 40, 1)))
)
refused("broadcast bomb", f"k (Add): makes 4294967296 elements of constants; {LIMIT}")(
    folded("Add", np.zeros((1 << 16, 1)), np.zeros((1, 1 << 16)))
)
refused("Concat bomb", f"concat21 (Concat): makes 8388608 elements of constants; {LIMIT}")(doubled)
refused(
    "broadcast of a quantizer",
    "k (Quant): makes 4294967296 elements, which is too many with the constants before it; shrink it",
    VECTOR,
)(quantized_outer)
refused(
    "many constants", "neg8 (Neg): makes 4194304 elements, which is too many with the constants before it; shrink it"
)(repeated)
refused("broadcast before the quantizer", "it (Add): makes 268435456 elements; at most 8388608 are supported here")(
    lambda net, y: net.quant(net.node("Add", "x", np.zeros((1 << 23, 1, 1, 1)), name="it"))
)
for random in ("RandomNormal", "RandomUniform"):
    refused(random, f"k ({random}): is not supported on constants; fold it before the export")(
        folded(random, shape=[2, 1, 1])
    )
for random in ("Bernoulli", "Multinomial", "RandomNormalLike", "RandomUniformLike"):
    refused(random, f"k ({random}): is not supported on constants; fold it before the export")(
        folded(random, np.full((2, 1), 0.5))
    )
refused("a shape that the data decide", "k (Compress): is not supported on constants; fold it before the export")(
    folded("Compress", [1.0, 2.0], np.ones(2, np.int64))
)
refused("complex constants", "initializer k: holds COMPLEX64; only numbers are supported")(
    changed(
        node("Mul", "k"), lambda graph: graph.initializer.append(numpy_helper.from_array(np.ones(2, np.complex64), "k"))
    )
)
refused("text as a constant", "initializer k: holds STRING; only numbers are supported")(
    changed(node("Mul", "k"), lambda graph: graph.initializer.append(helper.make_tensor("k", 8, [1], [b"a"])))
)
refused("text in a Constant", "k (Constant): holds no tensor of numbers; only numbers are supported")(
    folded("Constant", value_string="a")
)
refused("complex numbers in a Constant", "k (Constant): holds COMPLEX64; only numbers are supported")(
    folded("Constant", value=numpy_helper.from_array(np.ones(2, np.complex64)))
)

# sizes

refused(
    "a requantizer of endless steps",
    "q1 (Quant): has 65535 steps in 512 channels; at most 4194304 together are possible, quantize to fewer bits",
    (512,),
)(
    lambda net, y: net.quant(
        net.node("Mul", net.quant("x", 0.5, bits=16), np.linspace(1, 2, 512)), 0.5, bits=16, name="q1"
    )
)
refused(
    "a truncation of endless steps",
    "trunc1 (Trunc): has 1073725440 steps in 3 channels; at most 4194304 together are possible, quantize to fewer bits",
    VECTOR,
)(
    lambda net, y: net.trunc(
        net.node("MatMul", net.quant("x", 2**-16, 0, 16), net.quant(np.ones((4, 3)), 2**-12, bits=14)),
        2.0**-28,
        0,
        32,
        32,
    )
)
refused("endless channels", "q (Quant): its input has 524288 channels; at most 262144 can be scaled", (1 << 19,))(
    node("Relu")
)
refused("endless vectors", "q (Quant): makes vectors of 2097152 elements; at most 1048576 are supported", (1 << 21,))(
    node("Relu")
)
refused(
    "a pool of endless taps",
    "it (GlobalAveragePool): makes vectors of 4194304 elements; at most 1048576 are supported",
    (1, 1 << 11, 1 << 11),
)(node("GlobalAveragePool"))
for operator in ("MaxPool", "AveragePool"):
    refused(
        f"{operator} of an endless kernel",
        f"it ({operator}): makes 32096072000000 elements; at most 134217728 are supported",
    )(node(operator, kernel_shape=[2000, 2000], pads=[1999] * 4))
refused("Conv with endless pads", "conv1 (Conv): makes 28801920032 elements; at most 134217728 are supported")(
    conv(3, 2, 1, 1, pads=[60000] * 4)
)
refused(
    "a dilation beyond everything",
    "conv1 (Conv): its auto_pad asks for pads of 1099511627776; at most 65536 are supported",
)(conv(3, 2, 3, 3, auto_pad="SAME_UPPER", dilations=[1 << 40, 1]))

# graphs


def _input(graph):
    return graph.input[0].type.tensor_type


def _weights_of(graph):
    return next(t for t in graph.initializer if list(t.dims) == [3, 2, 1, 1])


def _reverse(graph):
    nodes = list(graph.node)[::-1]
    del graph.node[:]
    graph.node.extend(nodes)


BROKEN = "its data do not fit its shape and type"
refused(
    "dynamic height",
    "input x: dimension 2 is 'H'; only the batch (dimension 0) may be dynamic, export the model with a fixed shape",
)(changed(conv(3, 2, 1, 1), lambda graph: setattr(_input(graph).shape.dim[2], "dim_param", "H")))
refused("input without a shape", "input x: has no shape (batch, ...); give it a static one")(
    changed(conv(3, 2, 1, 1), lambda graph: _input(graph).ClearField("shape"))
)
refused("input of text", "input x: holds STRING; only numbers are supported")(
    changed(conv(3, 2, 1, 1), lambda graph: setattr(_input(graph), "elem_type", TensorProto.STRING))
)
refused("endless input", "input x: holds 1099511627776 elements; at most 8388608 are supported", (1 << 20, 1 << 20))(
    node("Relu")
)
refused("unsorted nodes", "conv1 (Conv): reads 'q_out', which nothing before it computes; sort the model's nodes")(
    changed(conv(3, 2, 1, 1), _reverse)
)
refused("a cycle", "r1 (Relu): reads 'b', which nothing before it computes; sort the model's nodes")(
    lambda net, y: (net.node("Relu", "b", name="r1", output="a"), net.node("Relu", "a", output="b"))[1]
)
refused("a tensor written twice", "it (Relu): writes 'q_out', which is written already; give every tensor one writer")(
    node("Relu", output="q_out")
)
refused("data shorter than their shape", f"initializer c4: {BROKEN} (ValueError); repair the model")(
    changed(conv(3, 2, 1, 1), lambda graph: setattr(_weights_of(graph), "raw_data", b"short"))
)
refused("data of an unknown type", f"initializer c4: {BROKEN} (KeyError); repair the model")(
    changed(conv(3, 2, 1, 1), lambda graph: setattr(_weights_of(graph), "data_type", 99))
)
refused("a negative dimension", f"initializer c4: {BROKEN} (ValueError); repair the model")(
    changed(conv(3, 2, 1, 1), lambda graph: _weights_of(graph).dims.__setitem__(0, -3))
)
refused("output that nothing computes", f"output nowhere: {NO_SOURCE}")(lambda net, y: "nowhere")
refused("output that is an input", f"output x: {NO_SOURCE}")(lambda net, y: "x")
refused("output that is not quantized", f"output it_out: {NO_SOURCE}")(
    lambda net, y: net.node("Mul", "x", 0.5, name="it")
)
refused("names that break lines", f'co?[31mnv"? (Det): operator Det is not supported; {SUPPORTED}')(
    node("Det", name='co\x1b[31mnv"\n', output="out")
)
refused(
    "names that break lines, in a quantizer", 'q"?*/ (Quant): attribute signed is neither 0 nor 1, 2; set one of them'
)(lambda net, y: net.quant(y, signed=2, name='q"\n*/'))
refused(
    "a tensor's name that breaks lines",
    "it (Add): reads 'a?b', which nothing before it computes; sort the model's nodes",
)(node("Add", "a\nb"))
refused("an operator's name that breaks lines", "it (Er?f): operator Er?f is not supported; " + SUPPORTED)(
    node("Er\nf", name="it")
)
refused(
    "a head that moves the batch",
    "it (Transpose): its result of shape [2, 1, 4, 4] mixes the batch axis with others; keep the batch axis first",
)(lambda net, y: net.quant(net.node("Transpose", "x", perm=[1, 0, 2, 3], name="it")))
refused(
    "a perm that is no list of integers",
    "it (Transpose): has inputs or attributes that do not fit it (TypeError); repair the model",
)(lambda net, y: net.conv(net.node("Transpose", y, perm=numpy_helper.from_array(np.ones(4)), name="it"), (3, 2, 1, 1)))
refused("a long name", f"{'n' * 77}... (Det): operator Det is not supported; {SUPPORTED}")(node("Det", name="n" * 200))
