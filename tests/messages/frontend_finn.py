"""FINN's models: its hardware operators and lowered convolutions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from test_finn import GENERAL, HARD, HARDWARE, Finn, generator, image

from broadaxe.errors import UnsupportedModelError
from broadaxe.lower import lower

from . import provokes

COVERS = ("frontend/finn.py",)
F32 = np.float32
Making = Callable[[], tuple[Finn, str]]


def refused(message: str, name: str | None = None) -> Callable[[Making], Making]:
    """A case that lowers a network up to the tensor that is named."""

    def enter(make: Making) -> Making:
        def provoke(tmp: Path) -> object:
            net, output = make()
            return lower(net.finish(output))

        provokes(message, UnsupportedModelError, name or make.__name__)(provoke)
        return make

    return enter


def vector() -> Finn:
    return Finn((4,), "UINT4")


def vvau(net: Finn, patches: str, weights: np.ndarray, kernel: int = 2) -> str:
    attributes = {"Channels": 3, "Dim": [4, 4], "Kernel": [kernel, kernel], "noActivation": 1}
    return str(net.node("VVAU", patches, net.constant(weights), domain=HARDWARE, **attributes))


def patches_of(net: Finn, op_type: str = "Im2Col", **more: object) -> str:
    attributes = {"kernel_size": [2, 2], "stride": [1, 1], "input_shape": "(1,5,5,3)"} | more
    return str(net.node(op_type, "x", domain=GENERAL, **attributes))


for _name in ("weights", "folded", "no window", "attribute", "comparison"):
    _make, _message = HARD[_name]
    refused(_message, _name)(lambda make=_make: (net := vector(), make(net)))


@refused("lookup0 (Lookup): FINN's operator Lookup is not supported; lower it to standard ONNX before the export")
def unknown_operator() -> tuple[Finn, str]:
    net = vector()
    return net, str(net.node("Lookup", "x", domain=HARDWARE))


@refused("mvau0 (MVAU): its attribute MH is missing; a whole number is needed")
def missing_attribute() -> tuple[Finn, str]:
    net = vector()
    return net, str(net.node("MVAU", "x", np.ones((4, 2), F32), domain=HARDWARE, MW=4))


@refused("im2col0 (Im2Col): its attribute stride is 'ab'; a list of whole numbers is needed")
def list_of_text() -> tuple[Finn, str]:
    net = image((5, 5, 3))
    return net, patches_of(net, stride="ab")


@refused("im2col0 (Im2Col): its attribute stride is [1, 1, 1]; 2 numbers are needed")
def list_of_three() -> tuple[Finn, str]:
    net = image((5, 5, 3))
    return net, patches_of(net, stride=[1, 1, 1])


@refused("im2col0 (Im2Col): is not read by a product, a pool or a sliding window alone; put one behind it")
def patches_that_are_compared() -> tuple[Finn, str]:
    net = image((5, 5, 3))
    return net, net.thresholds(patches_of(net), [[0.0]], out_dtype="BINARY")


@refused("im2col0 (Im2Col): nothing reads it; end the network before it")
def patches_that_nothing_reads() -> tuple[Finn, str]:
    net = image((5, 5, 3))
    return net, patches_of(net)


@refused("globalaccpool0 (GlobalAccPool): has inputs or attributes that do not fit it (IndexError); repair the model")
def operator_without_inputs() -> tuple[Finn, str]:
    net = image((5, 5, 3))
    return net, str(net.node("GlobalAccPool", domain=HARDWARE, numInputVectors=[1, 5, 5]))


@refused("mvau0 (MVAU): its weights are not stored in the model; only constants can be compiled into hardware")
def computed_weights() -> tuple[Finn, str]:
    net = vector()
    return net, str(net.node("MVAU", "x", "x", domain=HARDWARE, MW=4, MH=4))


@refused("matmul1 (MatMul): its 7 weights per output do not fit patches of [2, 2]; repair the model")
def weights_of_other_patches() -> tuple[Finn, str]:
    net = image((5, 5, 3))
    return net, str(net.node("MatMul", patches_of(net), np.ones((7, 2), F32)))


@refused("vvau1 (VVAU): its weights have shape (3, 2, 2); (3, 1, 2, 2) is needed")
def depthwise_weights() -> tuple[Finn, str]:
    net = image((5, 5, 3))
    return net, vvau(net, generator(net, "x", 2, (5, 5), 3, 1, depthwise=1), np.ones((3, 2, 2), F32))


@refused("xnorpopcountmatmul0 (XnorPopcountMatMul): its weights are not a matrix of 0 and 1; repair the model")
def xnor_of_other_weights() -> tuple[Finn, str]:
    net = Finn((4,), "BINARY")
    return net, str(net.node("XnorPopcountMatMul", "x", np.full((4, 2), 3, F32), domain=GENERAL))


@refused("matmul1 (MatMul): its weights have shape (1, 12, 2); only matrices are supported behind an Im2Col")
def stack_behind_patches() -> tuple[Finn, str]:
    net = image((5, 5, 3))
    return net, str(net.node("MatMul", patches_of(net), np.ones((1, 12, 2), F32)))


@refused("im2col1 (Im2Col): reads the patches of another sliding window; only images are supported")
def patches_of_patches() -> tuple[Finn, str]:
    net = image((5, 5, 3))
    attributes = {"kernel_size": [2, 2], "stride": [1, 1], "input_shape": "(1,4,4,12)"}
    return net, str(net.node("Im2Col", patches_of(net), domain=GENERAL, **attributes))


@refused("pool0 (Pool): is not behind a ConvolutionInputGenerator of its KernelSize; put one before it")
def pool_without_a_window() -> tuple[Finn, str]:
    net = image((4, 4, 3))
    return net, pool(net, "x")


@refused("pool1 (Pool): pools a padded or dilated image; only plain windows are supported")
def pool_of_a_dilated_image() -> tuple[Finn, str]:
    net = image((5, 5, 3))
    return net, pool(net, patches_of(net, dilations=[2, 2]))


@refused("pool1 (Pool): its Function 'Median' is unknown; use MaxPool, AvgPool, AccPool or QuantAvgPool")
def pool_of_another_function() -> tuple[Finn, str]:
    net = image((5, 5, 3))
    return net, pool(net, patches_of(net), "Median")


def pool(net: Finn, patches: str, function: str = "MaxPool") -> str:
    return str(net.node("Pool", patches, domain=HARDWARE, Function=function, KernelSize=[2, 2]))


@refused("globalaccpool0 (GlobalAccPool): its numInputVectors [1] are not those of an image; only images are supported")
def sums_of_vectors() -> tuple[Finn, str]:
    net = vector()
    return net, str(net.node("GlobalAccPool", "x", domain=HARDWARE, numInputVectors=[1]))


CHANNELS_LAST = "qonnx.custom_op.channels_last"


@refused("gemm0 (Gemm): domain 'qonnx.custom_op.channels_last' has no such operator; set it to '' (standard ONNX)")
def channels_last_of_vectors() -> tuple[Finn, str]:
    net = vector()
    return net, str(net.node("Gemm", "x", np.ones((4, 2), F32), domain=CHANNELS_LAST))


@refused("maxpool0 (MaxPool): its input has shape [1, 4]; only 2-D images are supported")
def channels_last_of_no_image() -> tuple[Finn, str]:
    net = vector()
    return net, str(net.node("MaxPool", "x", domain=CHANNELS_LAST, kernel_shape=[2, 2]))
