"""Training under the accumulator budget beside post-training quantization: rows of benchmarks/PROTOCOL.md, "Training".

    python benchmarks/training.py [--seeds 0-2] [--results benchmarks/results]

A run starts from the float network of benchmarks/frontier.py and the activation quantizers that all methods have, trains
with labels under `broadaxe.training.AccumulatorBudget`, and is scored as every other run is. Rows go to
benchmarks/results/digits.csv as they come, what is there is not run again; benchmarks/frontier_report.py shows them
beside the others.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import brevitas.nn as qnn
import numpy as np
import onnx
import torch
from brevitas.quant import (
    Int8ActPerTensorFloatMinMaxInit,
    Int8WeightPerChannelFloat,
    Uint8ActPerTensorFloatMaxInit,
)
from frontier import KEY, RESULTS, accuracy, append, read, seed_range, task, widths, with_quantizers
from onnx import helper, numpy_helper
from threadpoolctl import threadpool_limits
from torch import nn

import broadaxe
from broadaxe.frontend.standard import is_quantizer
from broadaxe.lower import lower
from broadaxe.ops.mac import Mac
from broadaxe.quantization.layers import LINEAR

NETWORK = "digits"
METHODS = {"a2q+-offset": "offset", "a2q+-signed": "signed"}
PAIRS = {6: (2, 2), 7: (2, 3), 8: (3, 3), 9: (3, 4), 10: (4, 4)}
"""(M, N) by P: one each, among those that post-training methods chose most often."""
EPOCHS, BATCH, RATE = 15, 64, 3e-3


def network(seed: int, m: int, n: int) -> nn.Sequential:
    """The float network in Brevitas' layers: M-bit weights per channel, activation scales as the other methods have them."""
    model = with_quantizers(NETWORK, seed, n)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    makers = {o: node for node in model.graph.node for o in node.output}
    layers: list[nn.Module] = []
    for node in model.graph.node:
        if node.op_type not in LINEAR:
            continue
        quant = makers[node.input[0]]
        scale, zero, bits = (float(constants[name]) for name in quant.input[1:])
        signed = bool(_attribute(quant, "signed"))
        assert (zero, bits) == (0, n)
        largest = scale * (2 ** (n - signed) - signed)
        options: dict[str, Any] = {"bit_width": n, "scaling_impl_type": "parameter"}
        if layers:
            assert not signed
            layers.append(qnn.QuantReLU(act_quant=Uint8ActPerTensorFloatMaxInit, max_val=largest, **options))
        elif signed:
            least = -scale * 2 ** (n - 1)
            options |= {"act_quant": Int8ActPerTensorFloatMinMaxInit, "min_val": least, "max_val": largest}
            layers.append(qnn.QuantIdentity(**options))
        else:
            layers.append(qnn.QuantIdentity(act_quant=Uint8ActPerTensorFloatMaxInit, max_val=largest, **options))
        weights = _weights(node, makers, constants)
        linear = qnn.QuantLinear(
            weights.shape[1],
            weights.shape[0],
            bias=True,
            weight_quant=Int8WeightPerChannelFloat,
            weight_bit_width=m,
        )
        linear.weight.data = torch.from_numpy(weights.copy())
        linear.bias.data = torch.from_numpy(constants[node.input[2]].copy())
        layers.append(linear)
    return nn.Sequential(*layers)


def _weights(node: onnx.NodeProto, makers: dict[str, onnx.NodeProto], constants: dict[str, np.ndarray]) -> np.ndarray:
    name = node.input[1]
    while name in makers and is_quantizer(makers[name]):
        name = makers[name].input[0]
    array = constants[name]
    return array if _attribute(node, "transB") else array.T


def _attribute(node: onnx.NodeProto, name: str) -> int:
    return next((int(helper.get_attribute_value(a)) for a in node.attribute if a.name == name), 0)


def trained(
    module: nn.Module, budget: broadaxe.training.AccumulatorBudget, x: np.ndarray, y: np.ndarray, seed: int
) -> None:
    """Adam with a one-cycle rate, the budget kept after every step."""
    torch.manual_seed(seed)
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    optimizer = torch.optim.Adam(module.parameters(), RATE)
    optimizer.register_step_post_hook(budget)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * -(-len(x) // BATCH))
    module.train()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(BATCH):
            loss = nn.functional.cross_entropy(module(inputs[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def measure(seed: int, method: str, m: int, n: int, bits: int) -> dict[str, Any]:
    """One row of the results."""
    given, labels = task(NETWORK, seed), training_labels(seed)
    row: dict[str, Any] = dict(zip(KEY, (NETWORK, seed, method, m, n, bits), strict=True))
    started = time.process_time()
    module = network(seed, m, n)
    x = given.calibration
    budget = broadaxe.training.AccumulatorBudget(module, x[:1], acc_bits=bits, budget=METHODS[method])
    trained(module, budget, x, labels, seed)
    model = budget.export()
    row["seconds"] = round(time.process_time() - started, 2)
    offset, signed = widths(model)
    row["offset_bits"], row["signed_bits"] = ["/".join(map(str, b)) for b in (offset, signed)]
    codes = [n.op.weights for n in lower(model).graph.nodes if isinstance(n.op, Mac)]
    row["codes"] = "/".join(str(int(np.abs(q).max())) for q in codes)
    row["zeros"] = "/".join(f"{float((q == 0).mean()):.2f}" for q in codes)
    row["valid"] = f"{accuracy(model, given.valid):.3f}"
    row["test"] = f"{accuracy(model, given.test):.3f}"
    return row


def training_labels(seed: int) -> np.ndarray:
    """Of the rows that calibrate, which are the float network's training rows."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    rest = order[round(0.4 * len(x)) :]
    rows = rest[round(0.2 * len(rest)) :]
    assert np.array_equal((x[rows] / 16).astype(np.float32), task(NETWORK, seed).calibration)
    return y[rows]


def rows(seeds: range, done: set[tuple[str, ...]]) -> Iterator[dict[str, Any]]:
    torch.set_num_threads(1)
    with threadpool_limits(1):
        for seed in seeds:
            for bits, (m, n) in PAIRS.items():
                for method in METHODS:
                    if tuple(map(str, (NETWORK, seed, method, m, n, bits))) not in done:
                        yield measure(seed, method, m, n, bits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=seed_range, default=range(3), help="such as 0-2, the default")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the CSV files")
    options = parser.parse_args()
    path = options.results / f"{NETWORK}.csv"
    append(path, rows(options.seeds, {tuple(row[k] for k in KEY) for row in read(path)}))


if __name__ == "__main__":
    main()
