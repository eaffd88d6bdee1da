"""MNIST networks that others trained, quantized by onnxruntime's static quantizer to QDQ models: compiled and verified.

    python benchmarks/qdq.py [mnist-conv recognizer ccexam] [--rows 64]

8 bits everywhere, weights per channel, 128 training images to calibrate. Accuracy is that of onnxruntime on the QDQ file and of
the QONNX model that Broadaxe makes of it, on the 10,000 test images; `broadaxe verify` runs on the first of them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from frontier import accuracy, batched, task
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import broadaxe
from broadaxe.build import load_model

NETWORKS = ("mnist-conv", "recognizer", "ccexam")


class Rows(CalibrationDataReader):
    """One image at a time."""

    def __init__(self, name: str, x: np.ndarray) -> None:
        self.feeds: Iterator[dict[str, np.ndarray]] = iter([{name: image[None]} for image in x])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--rows", type=int, default=64)
    options = parser.parse_args()
    failed = False
    print(
        f"{'network':<12}{'activations':<13}{'float %':>9}{'QDQ %':>8}{'QONNX %':>9}{'bits':>18}{'seconds':>9}  verify"
    )
    for network in options.networks:
        given = task(network, 0)
        for kind in (QuantType.QUInt8, QuantType.QInt8):
            with tempfile.TemporaryDirectory() as text:
                folder, model = Path(text), batched(given.model)
                onnx.save(model, folder / "float.onnx")
                quantize_static(
                    folder / "float.onnx",
                    folder / "qdq.onnx",
                    Rows(model.graph.input[0].name, given.calibration[:128]),
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    activation_type=kind,
                    weight_type=QuantType.QInt8,
                )
                started = time.perf_counter()
                build = broadaxe.compile(folder / "qdq.onnx", folder / "build")
                result = broadaxe.verify(build, given.test[0][: options.rows])
                seconds = time.perf_counter() - started
                theirs, ours = onnx.load(folder / "qdq.onnx"), load_model(folder / "qdq.onnx")[0]
                scores = [accuracy(m, given.test) for m in (model, theirs, ours)]
            bits = "/".join(str(layer.width) for layer in broadaxe.report(build).layers)
            failed |= not result.ok
            print(
                f"{network:<12}{kind.name:<13}{scores[0]:>9.2f}{scores[1]:>8.2f}{scores[2]:>9.2f}{bits:>18}{seconds:>9.0f}"
                f"  {str(result).splitlines()[-1]}",
                flush=True,
            )
    sys.exit(failed)


if __name__ == "__main__":
    main()
