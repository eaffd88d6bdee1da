"""Time and memory of solving for a layer under an accumulator budget, and of whole MLPs, beside Brevitas' AXE.

    python benchmarks/solve_time.py [--sizes 256,512,1024,2048] [--depths 5,10,20] [--threads 2]

Layers are square, seen on the same 1024 rows in float32; the time is that of second moments and solver. Each solver runs
in a process of its own, whose peak memory stands beside. Brevitas takes minutes for 2048 inputs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import onnx
import torch
from axe_peer import Layer, brevitas_axe, brevitas_mlp, calibrate, layer
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from broadaxe.quantization.budget import Budget
from broadaxe.quantization.config import QuantConfig
from broadaxe.quantization.grid import WeightGrid
from broadaxe.quantization.moments import Moments
from broadaxe.quantization.network import quantize_model
from broadaxe.quantization.recipe import AXE, PRESETS, Recipe
from broadaxe.quantization.solve import solve

BEST = PRESETS["best"]
SINGLE: dict[str, Recipe] = {
    "axe, optq": AXE,
    "axe, gpfq": replace(AXE, method="gpfq"),
    "best, one step": replace(BEST, steps="max-abs", relax=()),
}
SEARCHED: dict[str, Recipe] = {"axe-search": PRESETS["axe-search"], "best": BEST}
PEERS = {"Brevitas A2GPTQ": "optq", "Brevitas A2GPFQ": "gpfq"}
SCALES = len(BEST.multiples) + len(BEST.refine)


def bits_of(size: int) -> int:
    """A budget that binds: one bit more each time that the inputs double."""
    return 16 + (size // 256).bit_length() - 1


def ours(data: Layer, recipe: Recipe) -> float:
    size = data.weights.shape[1]
    kind = "signed" if recipe.published else "offset"
    lo, hi = torch.zeros(size, dtype=torch.int64), torch.full((size,), 255)
    budget = Budget(bits_of(size), lo, hi, kind, symmetric=recipe.published)
    xq = data.xq
    start = time.perf_counter()
    found = solve(data.weights, Moments.of(xq, data.x), WeightGrid(4), budget, recipe)
    seconds = time.perf_counter() - start
    assert bool(budget.holds(found.codes).all())
    return seconds


def one(name: str, size: int, threads: int) -> tuple[float, float]:
    """Seconds, the best of up to three, and peak memory in MiB."""
    torch.set_num_threads(threads)
    warm, _ = layer(32)
    data, _ = layer(size)
    recipes = SINGLE | SEARCHED
    if name in recipes:
        ours(warm, recipes[name])
        seconds = min(ours(data, recipes[name]) for _ in range(3 if size < 1024 else 1))
    else:
        brevitas_axe(warm, PEERS[name], 16)
        seconds = brevitas_axe(data, PEERS[name], bits_of(size))[2]
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def apart(call: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a call in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(call, arguments)


def layers(sizes: list[int], threads: int) -> None:
    head = f"{'inputs = rows':<16}{'solver':<20}{'seconds':>10}{'A2GPFQ / it':>13}{'A2GPTQ / it':>13}{'MiB':>8}"
    print(
        f"one layer; {threads} threads; axe-search and best try {SCALES} scales: they stand against so many runs of Brevitas"
    )
    print(head, flush=True)
    for size in sizes:
        found = {name: apart(one, name, size, threads) for name in (*PEERS, *SINGLE, *SEARCHED)}
        for name, (seconds, memory) in found.items():
            runs = SCALES if name in SEARCHED else 1
            ratios = [runs * found[peer][0] / seconds for peer in ("Brevitas A2GPFQ", "Brevitas A2GPTQ")]
            print(
                f"{size:<16}{name:<20}{seconds:>10.2f}" + "".join(f"{r:>13.1f}" for r in ratios) + f"{memory:>8.0f}",
                flush=True,
            )


def mlp(weights: list[Tensor], steps: list[float]) -> onnx.ModelProto:
    """The QONNX model of `brevitas_mlp`."""
    nodes, constants, tensor = [], [], "x"

    def constant(name: str, value: Tensor) -> str:
        constants.append(numpy_helper.from_array(value.float().numpy(), name))
        return name

    for i, (w, step) in enumerate(zip(weights, steps, strict=True)):
        for kind, source, scale, bits, signed in (
            ("a", tensor, torch.tensor(step), 8, 0),
            ("w", constant(f"w{i}", w.T.contiguous()), w.abs().amax(1) / 7, 4, 1),
        ):
            names = [constant(f"{kind}{i}_{key}", v) for key, v in (("scale", scale), ("zero", torch.zeros(())))]
            names.append(constant(f"{kind}{i}_bits", torch.tensor(bits)))
            nodes.append(
                helper.make_node(
                    "Quant",
                    [source, *names],
                    [f"{kind}{i}_quantized"],
                    domain="qonnx.custom_op.general",
                    signed=signed,
                    narrow=signed,
                    rounding_mode="ROUND",
                )
            )
        nodes.append(helper.make_node("MatMul", [f"a{i}_quantized", f"w{i}_quantized"], [f"y{i}"], name=f"fc{i}"))
        tensor = f"y{i}"
        if i < len(weights) - 1:
            nodes.append(helper.make_node("Relu", [tensor], [f"r{i}"]))
            tensor = f"r{i}"
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", w])
        for name, w in (("x", weights[0].shape[1]), (tensor, len(weights[-1])))
    ]
    graph = helper.make_graph(nodes, "mlp", ends[:1], ends[1:], constants)
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("qonnx.custom_op.general", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def depth(solver: str, count: int, threads: int) -> float:
    """Seconds for an MLP of so many layers."""
    torch.set_num_threads(threads)
    data, _ = layer(256)
    torch.manual_seed(2)
    weights = [torch.randn(256, 256) * (2 / 256) ** 0.5 for _ in range(count)]
    x, steps = data.x, []
    for w in weights:
        steps.append(float(x.max() / 255))
        x = torch.relu(x @ w.T)
    if solver in PEERS:
        return calibrate(brevitas_mlp(weights, steps), data.x, PEERS[solver], 16)
    config = QuantConfig(preset="axe" if solver == "axe" else "best", acc_bits=16, held_out=0)
    start = time.perf_counter()
    quantize_model(mlp(weights, steps), {"x": data.x.numpy()}, config)
    return time.perf_counter() - start


def depths(counts: list[int], threads: int) -> None:
    print("MLP of 256 x 256 layers; seconds, and per layer")
    print(f"{'layers':<8}" + "".join(f"{name:>26}" for name in ("axe", "best", *PEERS)))
    for count in counts:
        seconds = [apart(depth, name, count, threads) for name in ("axe", "best", *PEERS)]
        print(f"{count:<8}" + "".join(f"{s:>17.2f}{s / count:>9.3f}" for s in seconds), flush=True)


def numbers(text: str) -> list[int]:
    return [int(n) for n in text.split(",") if n]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=numbers, default=[256, 512, 1024, 2048])
    parser.add_argument("--depths", type=numbers, default=[5, 10, 20])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.sizes:
        layers(options.sizes, options.threads)
    if options.depths:
        depths(options.depths, options.threads)


if __name__ == "__main__":
    main()
