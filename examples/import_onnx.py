"""A file not made by us: the 4-bit super-resolution network (ESPCN) that the qonnx package ships, compiled and verified.

    python examples/import_onnx.py [--size 32] [-o build/espcn]

The network doubles an image's height and width. Its images have 8-bit pixels, but its file starts with a convolution on
floats: a Quant in front of it says what the pixels are.
"""

from __future__ import annotations

import argparse
import importlib.resources
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

import broadaxe
from broadaxe.frontend.standard import session

ESPCN = ("data", "onnx", "bsd300x3-espcn")


def packaged(*names: str) -> bytes:
    """A file of the qonnx package."""
    return importlib.resources.files("qonnx").joinpath(*ESPCN, *names).read_bytes()


def photograph() -> np.ndarray:
    """The image that comes with the network: (1, 3, 128, 128), multiples of 1/255."""
    return numpy_helper.to_array(onnx.TensorProto.FromString(packaged("test_data", "input_0.pb")))


def network(size: int) -> onnx.ModelProto:
    """The network for images of `size` x `size` pixels of 8 bits."""
    model = onnx.load_from_string(packaged("subpixel", "quant_model.onnx"))
    graph = model.graph
    image = graph.input[0]
    for axis in (2, 3):  # a convolutional network takes any size; hardware is built for one
        image.type.tensor_type.shape.dim[axis].dim_value = size
    del graph.value_info[:]  # these hold the shapes of the old size

    def constant(name: str, value: object, dtype: type) -> str:
        graph.initializer.append(numpy_helper.from_array(np.array(value, dtype=dtype), name))
        return name

    quantizer = [constant(*c, np.float32) for c in (("pixel_scale", 1 / 255), ("pixel_zero", 0), ("pixel_bits", 8))]
    nodes = [
        helper.make_node(
            "Quant", [image.name, *quantizer], ["pixels"], "pixels", domain="onnx.brevitas",
            signed=0, narrow=0, rounding_mode="ROUND",
        )
    ]  # fmt: skip
    for node in graph.node:
        node.input[:] = ["pixels" if name == image.name else name for name in node.input]
    nodes += list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.name = "espcn"
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=32, help="height and width of the input, up to 128")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/espcn"), help="build folder")
    options = parser.parse_args()
    if not 4 <= options.size <= 128:
        parser.error(
            f"--size {options.size}: the image that comes with the network has 128 x 128 pixels; give 4 to 128"
        )

    image = photograph()[:, :, -options.size :, -options.size :]
    print(f"compiling the network for {options.size} x {options.size} pixels to {options.output}")
    build = broadaxe.compile(network(options.size), options.output)
    print("running one image: C simulation, and the float graph in onnxruntime")
    (hardware,) = broadaxe.simulate(build, image).values()
    run = session(build.host.standard)
    (floats,) = run.run(None, {run.get_inputs()[0].name: image})
    print(f"{np.sum(hardware == floats):,} of {hardware.size:,} output pixels equal those of float32")
    print(broadaxe.report(build))
    verification = broadaxe.verify(build, image)
    print(verification)
    raise SystemExit(0 if verification.ok else 1)


if __name__ == "__main__":
    main()
