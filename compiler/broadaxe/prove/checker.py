"""Check a build folder's certificate.json. Stands alone: one file, standard library only, no floating point.

Run `python -m broadaxe.prove.checker BUILD` or, copied anywhere, `python checker.py BUILD`. What it establishes, by itself:
  * certificate.json is as it was sealed, and model.onnx and every file of firmware/ and tb/ are those that it names.
  * Bounds: from those of the graph's inputs it computes every other value's shape, type and per-channel bounds. Each
    operator's rule is exact on a box of inputs, so what is stored has to be equal, not only wide enough.
  * Accumulators: each channel's [lo, hi] and prefix hull, starts, every width (the narrowest that holds its interval, those
    of tiles included), and the inputs that attain both ends of the channel that sets the width.
  * Requantizers: the form that hardware computes is constant between its own steps, which follow from its constants. Where
    the exact chain is monotone and both agree at both ends of every such run, they agree on the whole proven domain. Where
    it is not known to be, they are compared at every integer of the domain.
  * Lanes: where products share a DSP block, that its ports hold every operand, and lanes the sums that are read out of them.
  * Budgets, of a design whose weights are loaded at run time: widths are those of the stated inequalities, which the weights
    that it holds at first satisfy; bounds of activations hold for all that may be loaded. With --parameters the bytes of a file
    are taken apart and held against the same inequalities, whatever made them.
  * Sources: declared types, the kernels' own types and parameters, and all constants in their memories are the graph's.
What it does not: that the graph is the model's (`broadaxe verify` derives it again and compares), and what kernels do (held by
hashes; verify runs them). Bounds of inputs and scale and shift of values are statements to the host, not theorems. The digest
finds accidents, not forgers: who rewrites a folder can certify another network, but no width and no requantizer that is wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from functools import cache
from math import gcd, isqrt, lcm, prod
from operator import mul
from pathlib import Path
from struct import unpack
from typing import Any, NamedTuple, TypeAlias

FORMAT, WIDEST, FIRST_PRECISION, LAST_PRECISION = 2, 62, 128, 1 << 13
LAG = 4  # trips of the rearranging kernel between storing a word and emitting it
MOST_LEVELS, MOST_CHANNELS, LARGEST_FILE = 1 << 17, 1 << 26, 1 << 30
STEPS = {"affine": "scale shift", "clamp": "lo hi", "normalize": "gamma mean variance beta", "snap": "scale zero_point"}
STEPS |= {"leaky": "slope", "power": "exponent", "function": "", "combined": ""}
# functions that fall and then rise, and rationals between which they turn; those that only rise
TURNS = {"gelu": ((-752, 1000), (-7517, 10000)), "gelu_tanh": ((-753, 1000), (-752, 1000)), "hardswish": ((-3, 2),) * 2}
RISES = ("exp", "log", "erf", "sigmoid", "tanh", "softplus", "softsign", "elu", "sign")
ROUNDINGS = ("ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN")
MEMORIES = (
    "zeros_a",
    "zeros_b",
    "weights",
    "start",
    "widths",
    "pad",
    "values",
    "rows",
    "thresholds",
    "factor",
    "bias",
    "base",
    "direction",
)
LAYERS = ("matvec", "grouped_matvec", "loadable_matvec", "loadable_grouped")
BUILTIN = {"char": 8, "short": 16, "int": 32, "long long": 64}
DSPS = {"DSP48E1": (25, 18, 48), "DSP48E2": (27, 18, 48), "DSP58": (27, 24, 58)}  # operands, signed, and adder
TERMS = {"lut": "broadaxe::in_fabric", "dsp": "broadaxe::in_dsp"}
PAIRS = ("concat", "dot", "product", "scaled_add", "select")
Pair = tuple[int, int]  # the integers lo .. hi; or a rational, numerator and positive denominator
Ends = tuple[int, int, int]  # lo, hi and their positive denominator: an enclosure


class CertificateError(Exception):
    """The first thing that does not hold, in one line."""


def need(truth: object, message: str) -> None:
    if not truth:
        raise CertificateError(message)


def same(stored: Any, found: Any, field: str) -> None:
    """Equal; of two lists the first entry that differs is named."""
    if isinstance(stored, list) and isinstance(found, list) and len(stored) == len(found):
        unequal = (i for i, (a, b) in enumerate(zip(stored, found, strict=True)) if a != b or type(a) is not type(b))
        if (at := next(unequal, None)) is not None:
            field, stored, found = f"{field}[{at}]", stored[at], found[at]
    if stored != found or type(stored) is not type(found):
        raise CertificateError(f"{field}: stated as {str(stored)[:60]}, but it is {str(found)[:60]}")


def integers(value: Any, count: int | None = None) -> list[int]:
    good = type(value) is list and all(type(v) is int for v in value) and len(value) == (count or len(value))
    need(good, f"{str(value)[:40]} stands where {count or 'a list of'} integers have to")
    return list(value)


def matrix(value: Any, rows: int | None = None) -> list[list[int]]:
    out = [integers(row) for row in value]
    need(len({len(row) for row in out}) == 1 and len(out) == (rows or len(out)), "a matrix has too few or uneven rows")
    return out


def column(value: Any, channels: int) -> list[Pair]:
    """One rational per channel; a single one stands for all, and null, an open end of a clamp, for none."""
    if value is None:
        return []
    texts = [value] if isinstance(value, str) else value
    matches = [re.fullmatch(r"(-?\d{1,4000})(?:/([1-9]\d{0,3999}))?", text) for text in texts]
    need(all(matches) and len(matches) in (1, channels), f"{str(value)[:60]} are no rationals for {channels} channels")
    return [(int(m[1]), int(m[2] or 1)) for m in matches if m] * (channels // len(matches))


def hull(bounds: Iterable[Pair]) -> Pair:
    lows, highs = zip(*bounds, strict=True)
    return min(lows), max(highs)


def signed_bits(bounds: Iterable[int]) -> int:
    """Bits of the narrowest two's complement that holds both ends."""
    return max((v if v >= 0 else ~v).bit_length() + 1 for v in bounds)


def narrowest(bounds: Pair) -> str:
    return f"int{signed_bits(bounds)}" if bounds[0] < 0 else f"uint{max(1, bounds[1].bit_length())}"


def range_of(kind: str) -> Pair:
    match = re.fullmatch(r"(u?)int([1-9]\d?)", kind)
    if not match or int(match[2]) > WIDEST:
        raise CertificateError(f"{kind!r} is no integer type of at most {WIDEST} bits")
    end = 1 << int(match[2])
    return (0, end - 1) if match[1] else (-end // 2, end // 2 - 1)


class Value(NamedTuple):
    shape: list[int]
    type: str
    bounds: list[Pair]

    @classmethod
    def read(cls, raw: Any, name: str) -> Value:
        shape, bounds = integers(raw["shape"]), [(lo, hi) for lo, hi in matrix(raw["bounds"])]
        same(raw["name"], name, "name")
        need(min(shape) > 0 and len(bounds) == shape[-1], f"shape: {shape} does not have {len(bounds)} channels")
        need(all(lo <= hi for lo, hi in bounds), "bounds: an interval is empty")
        held = hull([*bounds, range_of(raw["dtype"])]) == range_of(raw["dtype"])
        need(held, f"dtype: {raw['dtype']} does not hold {list(hull(bounds))}")
        need(column(raw["scale"], shape[-1]) and column(raw["shift"], shape[-1]), "scale or shift: none")
        return cls(shape, raw["dtype"], bounds)


def view(x: Value, raw: Any, channels: int) -> Value:
    """The same elements under another shape. `channels`, of every operator: what is stored, a limit to what is built."""
    to, old, every = integers(raw["to"]), x.shape[-1], lcm(x.shape[-1], channels)
    need(min(to) > 0 and prod(to) == prod(x.shape) and to[-1] == channels, f"to: {to} does not hold {x.shape}")
    need(every <= MOST_CHANNELS, f"to: {to} mixes too many channels")
    return Value(to, x.type, [hull(x.bounds[i % old] for i in range(c, every, channels)) for c in range(channels)])


def window(x: Value, raw: Any, channels: int) -> Value:
    kernel, stride, dilation = (integers(raw[k], 2) for k in ("kernel", "stride", "dilation"))
    pads, codes = integers(raw["pads"], 4), integers(raw["pad_codes"])
    height, width, depth = x.shape
    need(min(kernel + stride + dilation) > 0 <= min(pads), "kernel, stride, dilation or pads: out of range")
    need(len(codes) in (1, depth), f"pad_codes: {len(codes)} for {depth} channels")
    need(channels == prod(kernel) * depth, f"kernel: {kernel} of {depth} channels do not make {channels}")
    positions, reads = [], []
    for size, k, s, d, before, after in zip((height, width), kernel, stride, dilation, pads, pads[2:], strict=False):
        count = (size + before + after - (k - 1) * d - 1) // s + 1
        need(count > 0, f"kernel: {kernel} does not fit {x.shape}")
        positions.append(count)
        # first and last row or column that each tap reads: is any of those between them inside, are all
        taps = [(at, at + (count - 1) * s) for at in range(-before, k * d - before, d)]
        reads.append([(max(-(a // s), 0) * s + a < min(size, b + 1), 0 <= a <= b < size) for a, b in taps])
    bounds = []
    for some_row, all_rows in reads[0]:
        for some_column, all_columns in reads[1]:
            for pair, code in zip(x.bounds, codes * (depth // len(codes)), strict=True):
                seen = pair if some_row and some_column else (code, code)
                bounds.append(seen if all_rows and all_columns else (min(seen[0], code), max(seen[1], code)))
    padded = narrowest(hull([range_of(x.type), (min(codes), max(codes))]))
    return Value([*positions, channels], padded if any(pads) else x.type, bounds)


def rearrange(x: Value, raw: Any, channels: int) -> Value:
    """Output (a, b, c), flat, is input outer[a] + middle[b] + inner[c], or a pad code where one of them is below 0."""
    to, codes, old = integers(raw["to"]), integers(raw["pad_codes"]), x.shape[-1]
    outer, middle, inner = tables = [integers(raw[name]) for name in ("outer", "middle", "inner")]
    need(min(to) > 0 and prod(to) == prod(map(len, tables)) and to[-1] == channels, f"to: {to} is not what is moved")
    need(len(codes) in (1, channels) and len(inner) % channels == 0, f"pad_codes or inner: not for {channels} channels")
    need(min(map(min, tables)) >= -1 and sum(map(max, tables)) < prod(x.shape), "outer, middle or inner: out of range")
    lead = {(a + b) % old for a in {v % old for v in outer if v >= 0} for b in {v % old for v in middle if v >= 0}}
    pads, bounds = min(*outer, *middle) < 0, []
    for c, code in enumerate(codes * (channels // len(codes))):
        column = inner[c::channels]
        read = {(v % old + at) % old for v in {v for v in column if v >= 0} for at in lead}
        padding = [(code, code)] if pads or min(column) < 0 or not read else []
        bounds.append(hull([x.bounds[i] for i in read] + padding))
    padded = narrowest(hull([range_of(x.type), (min(codes), max(codes))]))
    return Value(to, padded if min(map(min, tables)) < 0 else x.type, bounds)


def window_max(x: Value, raw: Any, channels: int) -> Value:
    need(raw["taps"] * channels == x.shape[-1], f"taps: {raw['taps']} of {channels} are not {x.shape[-1]}")
    taps = [x.bounds[c::channels] for c in range(channels)]
    return Value([*x.shape[:-1], channels], x.type, [(max(lo for lo, _ in t), max(hi for _, hi in t)) for t in taps])


def corners(a: Pair, b: Pair) -> Pair:
    """The product of two intervals."""
    ends = [x * y for x in a for y in b]
    return min(ends), max(ends)


def times(factor: int, x: Pair, more: int = 0) -> Pair:
    low, high = sorted(factor * end + more for end in x)
    return low, high


Joined: TypeAlias = "tuple[Value, list[Any]]"  # and parameters of the kernel behind the output's type; None may be any


def joined(kind: str, a: Value, b: Value, raw: Any, alike: bool) -> Joined:
    """Two tensors, of which `alike` says that they are one, element by element; or concatenation on the channels."""
    if kind == "concat":
        need(a.shape[:-1] == b.shape[:-1], "inputs: positions differ")
        kind = narrowest(hull([range_of(a.type), range_of(b.type)]))
        return Value([*a.shape[:-1], a.shape[-1] + b.shape[-1]], kind, a.bounds + b.bounds), []
    need(a.shape == b.shape, "inputs: shapes differ")
    if kind == "product":
        return product(a, b, raw, alike)
    p, q = integers(raw["factors"], 2)
    pairs, own = list(zip(a.bounds, b.bounds, strict=True)), [None, None, str(p), str(q)]
    if kind == "select":
        r, largest = integers([raw["offset"]])[0], raw["largest"]
        need(type(largest) is bool, "largest: neither true nor false")
        sides = [(times(p, x), times(q, y, r)) for x, y in pairs]
        pick = max if largest else min
        bounds = [(pick(x[0], y[0]), pick(x[1], y[1])) for x, y in sides]
        side = narrowest(hull(pair for both in sides for pair in both))
        own = [side, None, None, str(largest).lower(), str(p), str(q), str(r)]
    else:
        both = [(times(p + q, x), (0, 0)) if alike else (times(p, x), times(q, y)) for x, y in pairs]
        bounds = [(x[0] + y[0], x[1] + y[1]) for x, y in both]
    return Value(a.shape, narrowest(hull(bounds)), bounds), own


def product(a: Value, b: Value, raw: Any, alike: bool) -> Joined:
    """(a - zeros_a) * (b - zeros_b); of one value with itself a parabola, which turns at the mean of its zero codes."""
    count = a.shape[-1]
    zeros = [integers(raw[field]) for field in ("zeros_a", "zeros_b")]
    need(all(len(z) in (1, count) for z in zeros), f"zeros_a or zeros_b: not one, nor {count}")
    wide = [z * (count // len(z)) for z in zeros]
    left, right = (
        [times(1, x, -z) for x, z in zip(v.bounds, w, strict=True)] for v, w in zip((a, b), wide, strict=True)
    )
    bounds = [corners(x, y) for x, y in zip(left, right, strict=True)]
    if alike:
        turns = [min(max((y + z) // 2, lo), hi) for (lo, hi), y, z in zip(a.bounds, *wide, strict=True)]
        points = [(*ends, turn) for ends, turn in zip(a.bounds, turns, strict=True)]
        found = [[(x - y) * (x - z) for x in at] for at, y, z in zip(points, *wide, strict=True)]
        bounds = [(min(values), max(values)) for values in found]
    return Value(a.shape, narrowest(hull(bounds)), bounds), [narrowest(hull(left)), narrowest(hull(right))]


def arg_max(x: Value, raw: Any) -> Joined:
    """The index of the largest factor[c] * x[c] + bias[c]: of a channel that passes all others where they are lowest."""
    count, last = x.shape[-1], raw["last"]
    factor, bias = integers(raw["factor"]), integers(raw["bias"])
    need(len(factor) == len(bias) and len(bias) in (1, count), f"factor or bias: not one, nor {count}")
    need(type(last) is bool, "last: neither true nor false")
    scales = list(zip(factor, bias, strict=True)) * (count // len(bias))
    keys = [times(f, pair, b) for pair, (f, b) in zip(x.bounds, scales, strict=True)]
    order = list(reversed(range(count))) if last else list(range(count))
    passed, tied, most = {}, {}, hull(keys)[0] - 1
    for c in order:  # those before it have to be passed, those behind it equalled
        passed[c], most = keys[c][1] > most, max(most, keys[c][0])
    most = hull(keys)[0] - 1
    for c in reversed(order):
        tied[c], most = keys[c][1] >= most, max(most, keys[c][0])
    winners = [c for c in range(count) if passed[c] and tied[c]]
    own = [narrowest(hull(keys)), f"int{signed_bits(hull([(f, f) for f in factor]))}", count, prod(x.shape) // count]
    bounds = (winners[0], winners[-1])
    return Value([*x.shape[:-1], 1], narrowest(bounds), [bounds]), [*own, str(last).lower(), len(factor)]


def lookup(x: Value, raw: Any) -> Joined:
    """Rows of a table by index; bounds are those of the rows that the index reaches."""
    rows, first = matrix(raw["rows"]), integers([raw["first"]])[0]
    lo, hi = x.bounds[0]
    need(x.shape[-1] == 1 and first <= lo and hi < first + len(rows), f"rows: {len(rows)} from {first} on")
    columns = list(zip(*rows[lo - first : hi - first + 1], strict=True))
    bounds, own = [(min(c), max(c)) for c in columns], [len(rows), len(rows[0]), prod(x.shape), first]
    return Value([*x.shape[:-1], len(bounds)], narrowest(hull(bounds)), bounds), own


def accumulated(
    inputs: list[Pair], sums: list[Pair], prefix: list[Pair], start: list[int], own: Any, width: int | None = None
) -> dict[str, Any]:
    """The entry of a layer, but for its tiles, lanes and witnesses: what follows from the intervals of its sums.

    What multiplies, and how many PEs there are, `own` may choose. `width` is that of a budget; there is room for other
    weights then.
    """
    bounds = [(lo + s, hi + s) for (lo, hi), s in zip(sums, start, strict=True)]
    bits, offset = [signed_bits(pair) for pair in bounds], max(max(1, (hi - lo).bit_length()) for lo, hi in sums)
    need(width or not any(start) or max(bits) == offset, f"start: {max(bits)} bits, where {offset} would do")
    need(not width or max(bits) <= width <= WIDEST, f"budget: {width} bits, of {max(bits)} and at most {WIDEST}")
    entry: dict[str, Any] = {"inputs": inputs, "sums": sums, "prefix": prefix}
    entry = {field: [list(pair) for pair in pairs] for field, pairs in entry.items()}
    mode = "loadable" if width else "offset" if any(start) else "two's complement"
    entry |= {"start": start, "mode": mode, "tile": None}
    entry |= {"inner": None, "inner_bits": None, "offset_bits": offset}
    entry |= {"exact_bits": max(map(signed_bits, sums)), "channel_bits": bits, "width": width or max(bits)}
    entry["prefix_bits"] = max(signed_bits((lo + s, hi + s)) for (lo, hi), s in zip(prefix, start, strict=True))
    need(own["multiplier"] in ("lut", "dsp", "packed"), "multiplier: neither lut, dsp nor packed")
    entry |= {"multiplier": own["multiplier"], "pe_bits": None, "packing": None}
    return entry | {"channel": max(range(len(bits)), key=lambda c: (bits[c], bounds[c][1] - bounds[c][0]))}


def lanes(x: Value, weights: list[list[int]], raw: Any, width: int, sums: Pair) -> dict[str, Any]:
    """How products share a DSP block, which `raw` chooses: `sums` of its chunks fit the lanes, or `width` bits whole ones.

    Operands lie between the least and the largest weight times the lanes' ones.
    """
    need(raw["dsp"] in DSPS, f"packing.dsp: {str(raw['dsp'])[:20]!r} is unknown")
    (products, chunk), (wide, narrow, adder) = integers([raw["products"], raw["chunk"]]), DSPS[raw["dsp"]]
    need(2 <= products <= 4, f"packing.products: {products}")
    lane = signed_bits(sums) if chunk < len(weights[0]) else width
    ones = sum(1 << lane * k for k in range(products))
    low, high = hull([(min(row), max(row)) for row in weights])
    need(products * lane <= adder, f"packing: {products} lanes of {lane} bits in an adder of {adder}")
    need(signed_bits((low * ones, high * ones)) <= wide, f"packing: operands do not fit {wide} bits")
    need(signed_bits(hull(x.bounds)) <= narrow, f"packing: inputs do not fit {narrow} bits")
    return {"dsp": raw["dsp"], "products": products, "lane": lane, "chunk": chunk}


def dot(a: Value, b: Value, raw: Any, own: Any) -> tuple[Value, dict[str, Any], list[Any]]:
    """Output n of row m is start[n] + sum over k of (a[g][m][k] - zeros[0]) * (b[g][n][k] - zeros[1])."""
    zeros, depth, start = integers(raw["zeros"], 2), raw["products"], integers(raw["start"])
    need(len(a.shape) == 3 == len(b.shape), "inputs: not matrices")
    same([a.shape[0], a.shape[2], b.shape[1]], [b.shape[0], b.shape[2], len(start)], "inputs or start")
    same(depth, a.shape[2], "products")
    sides = [[times(1, x, -zero) for x in v.bounds] for v, zero in zip((a, b), zeros, strict=True)]
    parts = [corners(x, y) for x, y in zip(*sides, strict=True)]
    sums = (sum(lo for lo, _ in parts), sum(hi for _, hi in parts))
    prefix = (sum(min(lo, 0) for lo, _ in parts), sum(max(hi, 0) for _, hi in parts))
    entry = accumulated(a.bounds + b.bounds, [sums] * len(start), [prefix] * len(start), start, own)
    for field, sign in (("low", 1), ("high", -1)):
        ends = [[(x, y) for x in p for y in q] for p, q in zip(a.bounds, b.bounds, strict=True)]
        best = [min(e, key=lambda c: (sign * (c[0] - zeros[0]) * (c[1] - zeros[1]), c)) for e in ends]
        entry[field] = [x for x, _ in best] + [y for _, y in best]
        total = sum((x - zeros[0]) * (y - zeros[1]) for x, y in best)
        same(total, sums[0] if sign > 0 else sums[1], "the sum that a witness attains")
    parameters: list[Any] = [narrowest(hull(side)) for side in sides]
    parameters += [depth, len(start), a.shape[1], a.shape[0], None, None]
    bounds = [(sums[0] + s, sums[1] + s) for s in start]
    parameters += [*zeros, None, TERMS[own["multiplier"]]]
    return Value([*a.shape[:2], len(start)], f"int{entry['width']}", bounds), entry, parameters


class Rows(NamedTuple):
    """Rows of weights, and the inputs that each row's products take: row o those of group o * groups // outputs."""

    weights: list[list[int]]
    indices: list[list[int]]

    @classmethod
    def of(cls, weights: list[list[int]], groups: int, taps: int) -> Rows:
        size = len(weights[0]) // taps
        tap = size * groups
        return cls(weights, [[t * tap + g * size + j for t in range(taps) for j in range(size)] for g in range(groups)])

    def ends(self, bounds: list[Pair], first: int = 0, last: int | None = None) -> list[Pair]:
        """Exact ends of each row's sum over products first .. last - 1, for inputs in the bounds."""
        split = [list(zip(*(bounds[i] for i in index[first:last]), strict=True)) for index in self.indices]
        out, groups = [], len(self.indices)
        for o, row in enumerate(self.weights):
            lo, hi = split[o * groups // len(self.weights)]
            up, down = [max(w, 0) for w in row[first:last]], [min(w, 0) for w in row[first:last]]
            least = sum(map(mul, up, lo)) + sum(map(mul, down, hi))
            out.append((least, sum(map(mul, up, hi)) + sum(map(mul, down, lo))))
        return out

    def tiles(self, bounds: list[Pair], tile: int) -> list[list[Pair]]:
        """The same of every tile, row by row."""
        return [self.ends(bounds, at, at + tile) for at in range(0, len(self.weights[0]), tile)]


def layer(kind: str, x: Value, raw: Any, own: Any) -> tuple[Value, dict[str, Any], list[Any]]:
    """A multiply-accumulate layer, its entry, and parameters behind the output's type (None may be any).

    Output o is start[o] + sum over i of weights[o][i] * x[index(o)[i]].
    """
    whole_rows = kind in ("matvec", "loadable_matvec")
    weights, tile = matrix(raw["weights"]), raw["tile"] if whole_rows else None
    outputs, depth, start = len(weights), len(weights[0]), integers(raw["start"], len(weights))
    groups, taps = (1, 1) if whole_rows else integers([raw["groups"], raw["taps"]])
    held = range_of(raw["weight_dtype"])
    need(hull([held, *((min(row), max(row)) for row in weights)]) == held, "weight_dtype: does not hold the weights")
    need(tile is None or 0 < tile < depth, f"tile: {tile} of {depth} products")
    need(min(groups, taps) > 0 == depth % taps == outputs % groups, "groups or taps: not divisors")
    need(x.shape[-1] == depth * groups, f"weights: {outputs} rows of {depth} do not fit {x.shape[-1]} inputs")
    budget = raw["budget"] if kind.startswith("loadable_") else {}
    width = integers([budget["width"]])[0] if budget else None
    rows = Rows.of(weights, groups, taps)
    sums, prefix = rows.ends(x.bounds), rows.ends([(min(lo, 0), max(hi, 0)) for lo, hi in x.bounds])
    bounds = [(lo + s, hi + s) for (lo, hi), s in zip(sums, start, strict=True)]
    entry = accumulated(x.bounds, sums, prefix, start, own, width)
    channel, tiles = entry["channel"], None
    if tile:
        inner = hull(pair for part in rows.tiles(x.bounds, tile) for pair in part)
        if budget:
            bits = integers([budget["inner"]])[0]
            need(signed_bits(inner) <= bits <= WIDEST, f"budget: a tile of {bits} bits needs {signed_bits(inner)}")
            tiles = inner = range_of(f"int{bits}")
        entry |= {"tile": tile, "inner": list(inner), "inner_bits": signed_bits(inner)}
    chunk, vectors = depth, prod(x.shape[:-1])
    parameters: list[Any] = [depth, outputs, None, None]
    if own["multiplier"] == "packed":
        need(not budget, "multiplier: packed, where weights are loaded")
        need(kind == "matvec", "multiplier: packed rows share no input")
        chunk = integers([own["packing"]["chunk"]])[0]
        need(chunk == tile if tile else 0 < chunk <= depth, f"packing.chunk: {chunk} of {depth} products")
        part = hull(pair for ends in rows.tiles(x.bounds, chunk) for pair in ends)
        entry["packing"] = held_lanes = lanes(x, weights, own["packing"], entry["width"], part)
        parameters += [*([chunk] if chunk < depth else []), vectors, f"broadaxe::{held_lanes['dsp'].lower()}"]
        parameters += [held_lanes["products"], held_lanes["lane"], None, None]
    else:
        if whole_rows:
            parameters += [*([tile] if tile else []), vectors]
        elif groups == outputs == depth // taps * groups:
            parameters = [outputs, taps, None, None, vectors]
        else:
            parameters = [taps, depth // taps * groups, outputs, groups, None, None, vectors]
        parameters += [None, None, TERMS[own["multiplier"]]]
    if own["multiplier"] != "packed" or chunk < depth:  # else lanes are alike
        count = len(integers(own["pe_bits"]))
        need(count > 0 == outputs % count, f"pe_bits: {count} PEs for {outputs} outputs")
        entry["pe_bits"] = [width or max(entry["channel_bits"][pe::count]) for pe in range(count)]
        parameters[3 if whole_rows or len(parameters) == 8 else 5] = count
    low, high = [lo for lo, _ in x.bounds], [lo for lo, _ in x.bounds]
    row, index = weights[channel], rows.indices[channel * groups // outputs]
    for w, i in zip(row, index, strict=True):
        low[i], high[i] = x.bounds[i][w < 0], x.bounds[i][w > 0]
    totals = [sum(w * end[i] for w, i in zip(row, index, strict=True)) + start[channel] for end in (low, high)]
    same(totals, list(bounds[channel]), "the sums that the witnesses attain")
    entry |= {"low": low, "high": high}
    if budget:
        need(tile or budget["inner"] is None, "budget: bits of a tile, where there is none")
        whole = range_of(f"int{width}")
        entry |= {"budget": {"weights": list(held), "sums": list(whole), "tiles": list(tiles) if tiles else None}}
        bounds = [whole] * outputs
    return Value([*x.shape[:-1], outputs], f"int{entry['width']}", bounds), entry, parameters


def rounded(num: int, den: int, mode: str) -> int:
    """num / den as an integer; den > 0."""
    down, rest = divmod(num, den)
    if not rest or mode == "FLOOR":
        return down
    if mode in ("UP", "DOWN"):
        return down + ((num < 0) == (mode == "DOWN"))
    if mode == "CEIL" or 2 * rest != den:
        return down + (mode == "CEIL" or 2 * rest > den)
    return down + (down % 2 if mode == "ROUND" else (num >= 0) == (mode == "HALF_UP"))


def ascending(row: Any) -> tuple[list[int], int]:
    """A row of rationals as sorted numerators over one denominator."""
    pairs = column(row, len(row)) if row else []
    common = lcm(*(over for _, over in pairs))
    return sorted(num * (common // over) for num, over in pairs), common


def up(num: int, den: int) -> int:
    """num / den, rounded up."""
    return -(-num // den)


def exp(num: int, den: int, p: int) -> Ends:
    """e**x by Taylor's series at x / 2**k, floors below and ceilings above, squared k times."""
    if num < 0:
        if -num > den * p:  # e**-p < 2**-p
            return 0, 1, 1 << p
        lo, hi, one = exp(-num, den, p)
        return one * one // hi, up(one * one, lo), one
    k = (num // den).bit_length() + 8
    need(k < 24, "chain: an exponent is too large")
    one, n = 1 << (p + k + 16), 0
    lo = hi = low = high = one
    while high > 1:
        n, over = n + 1, (n + 1) * den << k
        low, high = low * num // over, up(high * num, over)
        lo, hi = lo + low, hi + high
    hi += high  # all terms that are left out together
    for _ in range(k):
        lo, hi = lo * lo // one, up(hi * hi, one)
    return lo, hi, one


def log(num: int, den: int, p: int) -> Ends:
    """k * log(2) + log(m), and log(m) = 2 * atanh((m - 1) / (m + 1)) for m between 1/2 and 2."""
    need(num > 0, "chain: the logarithm of a number that is not positive")
    k = num.bit_length() - den.bit_length()
    num, den, one = num << max(-k, 0), den << max(k, 0), 1 << (p + 8 + k.bit_length())

    def series(z: int, over: int) -> Pair:
        if z < 0:
            lo, hi = series(-z, over)
            return -hi, -lo
        low, high, n = 2 * one * z // over, up(2 * one * z, over), 1
        lo, hi = low, high
        while high > 1:
            n, low, high = n + 2, low * z * z // over**2, up(high * z * z, over**2)
            lo, hi = lo + low // n, hi + up(high, n)
        return lo, hi + high

    (lo, hi), two = series(num - den, num + den), [k * end for end in series(1, 3)]
    return lo + min(two), hi + max(two), one


@cache
def root_of_pi(p: int) -> Pair:
    """The square root of pi in units of 2**-p: pi is 6 * arcsin(1/2)."""
    low = high = lo = hi = 3 << (2 * p)
    n = 0
    while high > 1:
        n += 1
        low, high = low * (2 * n - 1) // (8 * n), up(high * (2 * n - 1), 8 * n)
        lo, hi = lo + low // (2 * n + 1), hi + up(high, 2 * n + 1)
    return isqrt(lo), isqrt(hi + 1) + 1


def erf(num: int, den: int, p: int) -> Ends:
    """2 / sqrt(pi) times the alternating sum of x**(2n + 1) / (n! * (2n + 1))."""
    if num < 0:
        lo, hi, one = erf(-num, den, p)
        return -hi, -lo, one
    square, over = num * num, den * den
    if square > p * over:  # 1 - erf(x) <= e**(-x * x) < 2**-p
        return (1 << p) - 1, 1 << p, 1 << p
    if num == 0:
        return 0, 0, 1
    bits, n = p + 3 * (square // over + 1) + 16, 0
    one = 1 << bits
    low, high = one * num // den, up(one * num, den)
    least, most = one * square // over, up(one * square, over)
    lo, hi, term = low, high, high
    while term > 1 or n * over < 2 * square:
        n, low, high = n + 1, low * least // ((n + 1) * one), up(high * most, (n + 1) * one)
        small, term = low // (2 * n + 1), up(high, 2 * n + 1)
        lo, hi = (lo - term, hi - small) if n % 2 else (lo + small, hi + term)
    small, large = root_of_pi(bits)
    return 2 * max(lo - 1, 0) * one // large, up(2 * (hi + 1) * one, small), one


def function(kind: str, num: int, den: int, p: int) -> Ends:
    """A function of a rational."""
    one, size = 1 << p, abs(num)
    match kind:
        case "exp":
            return exp(num, den, p)
        case "log":
            return log(num, den, p)
        case "erf":
            return erf(num, den, p)
        case "sign":
            return (num > 0) - (num < 0), (num > 0) - (num < 0), 1
        case "softsign":
            return num, num, den + size
        case "hardswish":
            value = num * min(max(num + 3 * den, 0), 6 * den)
            return value, value, 6 * den * den
        case "sigmoid" | "tanh":
            lo, hi, unit = exp(-(1 + (kind == "tanh")) * size, den, p + 4)
            tops = (unit, unit) if kind == "sigmoid" else (unit - hi, unit - lo)
            lo, hi = one * tops[0] // (unit + hi), up(one * tops[1], unit + lo)
            if num < 0:
                lo, hi = (one - hi, one - lo) if kind == "sigmoid" else (-hi, -lo)
            return lo, hi, one
        case "softplus":
            lo, hi, unit = exp(-size, den, p + 4)
            least, most = log(unit + lo, unit, p + 4), log(unit + hi, unit, p + 4)
            more = max(num, 0) * least[2]
            return max(least[0], 0) * den + more, most[1] * den + more, den * least[2]
        case "elu":
            lo, hi, unit = exp(min(num, 0), den, p)
            return (lo - unit, hi - unit, unit) if num < 0 else (num, num, den)
    # x / 2 * (1 + g), the gate g between -1 and 1 and of the sign of x
    p += max(0, size.bit_length() - den.bit_length()) + 4
    if kind == "gelu":
        root = isqrt((num * num << (2 * p)) // (2 * den * den))
        gate, top, unit = erf(root, 1 << p, p)
        top += (2 * unit >> p) + 1 if num else 0  # root is rounded down, and erf steeper than 2 nowhere
    else:
        small, large = root_of_pi(p)
        inner, over = size * (10**6 * den * den + 44715 * num * num), 10**6 * den**3
        two = isqrt(2 << (2 * p))
        below, above = ((inner * two, over * large), (inner * (two + 1), over * small))
        gate, top, unit = spanned(function("tanh", *below, p), function("tanh", *above, p))
    ends = (unit + gate, unit + top) if num >= 0 else (unit - gate, unit - top)
    return num * ends[0], num * ends[1], 2 * den * unit


def power(num: int, den: int, exponent: Pair, p: int) -> Ends:
    """x**(a / b) for a rational that is not negative and b > 1."""
    (a, b), common = exponent, gcd(num, den)
    num, den = num // common, den // common
    need(num > 0 or (num == 0 < a), "chain: a root of a number that is too small")
    while b % 2 == 0 and isqrt(num) ** 2 == num and isqrt(den) ** 2 == den:
        num, den, b = isqrt(num), isqrt(den), b >> 1
    num, den = (num, den) if a > 0 else (den, num)
    if num in (0, den):
        return int(num > 0), int(num > 0), 1
    if b == 1:
        return num ** abs(a), num ** abs(a), den ** abs(a)
    if b == 2:
        root = isqrt((num ** abs(a) << (2 * p)) // den ** abs(a))
        return root, root + 1, 1 << p
    bits = abs(a) * (abs(num.bit_length() - den.bit_length()) + 1) // b
    lo, hi, one = log(num, den, p + 2 * bits + 16)
    lower, upper = exp(abs(a) * lo, b * one, p + bits), exp(abs(a) * hi, b * one, p + bits)
    return lower[0] * upper[2], upper[1] * lower[2], lower[2] * upper[2]


def spanned(low: Ends, high: Ends) -> Ends:
    """From the lower end of one enclosure to the upper end of another."""
    return low[0] * high[2], high[1] * low[2], low[2] * high[2]


def inverse(x: Ends) -> Ends:
    lo, hi, den = x
    need(lo > 0 or hi < 0, "chain: a divisor may be 0")
    return den * min(lo, hi), den * max(lo, hi), lo * hi


def integer_power(x: Ends, a: int) -> Ends:
    lo, hi, den = inverse(x) if a < 0 else x
    ends = sorted((lo ** abs(a), hi ** abs(a)))
    return 0 if a % 2 == 0 and lo < 0 < hi else ends[0], ends[1], den ** abs(a)


def operation(op: str, a: Ends, b: Ends) -> Ends:
    """Two enclosures combined."""
    if op in ("Mul", "Div"):
        b = inverse(b) if op == "Div" else b
        corners = [p * q for p in a[:2] for q in b[:2]]
        return min(corners), max(corners), a[2] * b[2]
    left, right = [v * b[2] for v in a[:2]], [v * a[2] for v in b[:2]]
    if op == "Sub":
        right = [-right[1], -right[0]]
    pick: Any = {"Add": sum, "Sub": sum, "Min": min, "Max": max}[op]
    return pick((left[0], right[0])), pick((left[1], right[1])), a[2] * b[2]


def side(low: Ends, high: Ends, left: Pair, right: Pair) -> int | None:
    """1 where two numbers lie above `right`, -1 where they lie below `left`."""
    if all(x[0] * right[1] >= right[0] * x[2] for x in (low, high)):
        return 1
    return -1 if all(x[1] * left[1] <= left[0] * x[2] for x in (low, high)) else None


def turned(before: int | None, after: int | None) -> int | None:
    """How a function of something moves: 1 rises, -1 falls, 0 is constant, None is unknown."""
    return 0 if 0 in (before, after) else None if before is None or after is None else before * after


class Step(NamedTuple):
    """A step of a chain: its rationals by channel, a mode or kind, and the chains that it combines."""

    kind: str
    values: list[list[Pair]]
    mode: str
    left: list[Any]
    right: list[Any]


def read_steps(raw: Any, channels: int, depth: int = 0) -> list[Step]:
    steps = []
    need(depth < 50, "chain: combined too deeply")
    for step in raw:
        kind, mode = step["is"], str(step.get("rounding") or step.get("kind") or step.get("op"))
        values = [column(step[name], channels) for name in STEPS[kind].split()]
        need(kind != "snap" or (min(values[0])[0] > 0 and mode in ROUNDINGS), "chain: a scale or rounding is wrong")
        need(kind != "normalize" or min(values[2])[0] > 0, "chain: a variance is not positive")
        need(kind != "function" or mode in TURNS or mode in RISES, f"chain: function {mode[:20]!r} is unknown")
        need(kind != "power" or len(set(values[0])) == 1, "chain: exponents differ")
        need(kind != "combined" or mode in ("Add", "Sub", "Mul", "Div", "Min", "Max"), "chain: op is unknown")
        left, right = (read_steps(step.get(name, []), channels, depth + 1) for name in ("left", "right"))
        steps.append(Step(kind, values, mode, left, right))
    return steps


class Chain:
    """The exact function of each channel: steps of one real, then a quantizer.

    A quantizer rounds and clamps, or counts thresholds: those that a value reaches, and those that it passes.
    """

    def __init__(self, raw: Any, channels: int) -> None:
        self.rows: list[list[tuple[list[int], int]]] = []
        end = raw["quantizer"]
        counts = end.get("is") == "thresholded"
        self.steps = read_steps((*raw["chain"], *([] if counts else [end | {"is": "snap"}])), channels)
        if counts:
            for rows in (end["reached"], end["passed"]):
                even = len(rows) in (1, channels) and len({len(row) for row in rows}) == 1
                need(even, "quantizer: uneven thresholds")
                self.rows.append([ascending(row) for row in rows] * (channels // len(rows)))
            need(column([end["scale"], end["shift"]], 2)[0][0], "quantizer.scale: is 0")
            self.lo, self.hi = 0, sum(len(rows[0][0]) for rows in self.rows)
            return
        _, (self.scale, self.zero_point), self.mode, _, _ = self.steps.pop()
        self.lo, self.hi = integers([raw["quantizer"]["lo"], raw["quantizer"]["hi"]])
        self.bipolar = raw["quantizer"]["bipolar"]
        good = (self.lo, self.hi) == (0, 1) if self.bipolar is True else self.bipolar is False and self.lo <= self.hi
        need(good, "quantizer.lo, hi or bipolar: wrong")

    def code(self, c: int, x: int, precision: int = FIRST_PRECISION) -> int:
        """The exact code, from enclosures lo/den <= value <= hi/den, narrower until they decide it."""
        need(precision <= LAST_PRECISION, f"chain: channel {c}, input {x}: not decided in {LAST_PRECISION} bits")
        value = values_of(self.steps, c, (x, x, 1), precision)
        if self.rows:
            lo, hi, den = value
            (reached, one), (passed, other) = (rows[c] for rows in self.rows)
            codes = {
                bisect_right(reached, one * v // den) + bisect_left(passed, -(-other * v // den)) for v in {lo, hi}
            }
            return codes.pop() if len(codes) == 1 else self.code(c, x, 2 * precision)
        lo, hi, den = affine(value, self.scale[c][::-1], self.zero_point[c])
        codes = {min(max(rounded(end, den, self.mode), self.lo), self.hi) for end in {lo, hi}}
        codes = {int(lo >= 0), int(hi >= 0)} if self.bipolar else codes
        return codes.pop() if len(codes) == 1 else self.code(c, x, 2 * precision)

    def constants(self, c: int) -> str:
        """All rationals of a channel: where they are equal, so are the functions."""

        def of(steps: list[Step]) -> list[Any]:
            return [[[column[c] for column in step.values if column], of(step.left), of(step.right)] for step in steps]

        end: list[Any] = [rows[c] for rows in self.rows] or [self.scale[c], self.zero_point[c]]
        return repr((of(self.steps), end))

    def turns(self, c: int, lo: int, hi: int) -> bool:
        """Whether a channel is not known to be monotone from lo to hi."""
        return course(self.steps, c, (lo, lo, 1), (hi, hi, 1))[0] is None


def affine(x: Ends, scale: Pair, shift: Pair) -> Ends:
    lo, hi, den = x
    a, b = scale[0] * shift[1], shift[0] * scale[1] * den
    ends = sorted((a * lo + b, a * hi + b))
    return ends[0], ends[1], den * scale[1] * shift[1]


def values_of(steps: list[Step], c: int, x: Ends, precision: int) -> Ends:
    """What a chain makes of an enclosure."""
    for kind, values, mode, left, right in steps:
        lo, hi, den = x
        if kind == "affine":
            x = affine(x, values[0][c], values[1][c])
        elif kind == "clamp":
            for edges, pick in zip(values, (max, min), strict=True):
                if edges:
                    num, over = edges[c]
                    lo, hi, den = pick(lo * over, num * den), pick(hi * over, num * den), den * over
            x = lo, hi, den
        elif kind == "snap":
            (a, b), (z, over) = values[0][c], values[1][c]
            lo, hi, den = affine(x, (b, a), (z, over))
            x = affine((rounded(lo, den, mode), rounded(hi, den, mode), 1), (a, b), (-a * z, b * over))
        elif kind == "normalize":
            gamma, mean, variance, beta = (v[c] for v in values)
            lo, hi, den = affine(x, gamma, (-gamma[0] * mean[0], gamma[1] * mean[1]))
            # small / over <= 1 / sqrt(variance) <= large / over; both are equal where the root is rational
            small, over = isqrt(variance[1]), isqrt(variance[0])
            large = small
            if small * small != variance[1] or over * over != variance[0]:
                small, over = isqrt((variance[1] << (2 * precision)) // variance[0]), 1 << precision
                large = small + 1
            x = lo * (small if lo >= 0 else large), hi * (large if hi >= 0 else small), den * over
            x = affine(x, (1, 1), beta)
        elif kind == "leaky":
            a, over = values[0][c]
            ends = [end * (over if end >= 0 else a) for end in (lo, hi)] + ([0] if lo < 0 < hi else [])
            x = min(ends), max(ends), den * over
        elif kind == "combined":
            x = operation(mode, values_of(left, c, x, precision), values_of(right, c, x, precision))
        elif kind == "power" and values[0][c][1] == 1:
            x = integer_power(x, values[0][c][0])
        elif kind == "power":
            ends_of = [power(end, den, values[0][c], precision) for end in ((lo, hi) if lo < hi else (lo,))]
            x = spanned(*(ends_of * 2)[:2]) if values[0][c][0] > 0 else spanned(*(ends_of * 2)[1::-1])
        else:
            first = function(mode, lo, den, precision)
            if lo == hi:
                x = first
            elif mode in TURNS:  # steeper than 2 nowhere
                wide = 2 * (hi - lo) * first[2]
                x = first[0] * den - wide, first[1] * den + wide, first[2] * den
            else:
                x = spanned(first, function(mode, hi, den, precision))
    return x


def course(steps: list[Step], c: int, low: Ends, high: Ends) -> tuple[int | None, Ends, Ends]:
    """How a chain moves between two numbers, and what it makes of both."""
    total: int | None = 1
    for step in steps:
        sign: int | None = 1
        if step.kind in ("affine", "normalize"):
            first = step.values[0][c][0]
            sign = (first > 0) - (first < 0)
        elif step.kind == "leaky" and step.values[0][c][0] < 0:
            sign = side(low, high, (0, 1), (0, 1))
        elif step.kind == "power":
            a, b = step.values[0][c]
            if b > 1:
                sign = 1 if a > 0 else -1
            elif a < 0 or a % 2 == 0:
                where = side(low, high, (0, 1), (0, 1))
                sign = where if a > 0 or where is None else -1 if a % 2 else -where
        elif step.kind == "function" and step.mode in TURNS:
            sign = side(low, high, *TURNS[step.mode])
        elif step.kind == "combined":
            one, *ones = course(step.left, c, low, high)
            two, *twos = course(step.right, c, low, high)
            two = two if two is None or step.mode not in ("Sub", "Div") else -two
            if step.mode in ("Mul", "Div"):  # each factor's part turns where the other one is negative
                zero = ((0, 1), (0, 1))
                one, two = turned(one, side(twos[0], twos[1], *zero)), turned(two, side(ones[0], ones[1], *zero))
            sign = None if one is None or two is None or one * two < 0 else one or two
        total = turned(total, sign)
        low, high = (values_of([step], c, x, FIRST_PRECISION) for x in (low, high))
    return total, low, high


def check_form(form: Any, bounds: list[Pair]) -> int | None:
    """Constants of the right number and kind; returns the bits of a shifter's sum."""
    kind, count, (low, high) = form["is"], len(bounds), hull(bounds)
    columns = {"constant": "values", "table": "", "shift": "bias", "multiply-shift": "factor bias"}
    known = {name: integers(form[name], count) for name in columns.get(kind, "base direction").split()}
    if kind != "constant":
        same(form["domain"], [low, high], "form.domain")
    if kind in ("thresholds", "threshold-search"):
        need(all(row == sorted(row) for row in matrix(form["thresholds"], count)), "form.thresholds: not sorted")
        need(set(known["direction"]) <= {-1, 1}, "form.direction: neither 1 nor -1")
    elif kind == "table":
        need(len(matrix(form["rows"], count)[0]) == high - low + 1, "form.rows: not one code for each input")
    else:
        need(kind in columns, f"form: {str(kind)[:20]!r} is unknown")
    if "bias" not in known:
        return None
    shift, least, most = integers([form["shift"], form["lo"], form["hi"]])
    need(0 <= shift < WIDEST and least <= most, "form.shift, lo or hi: out of range")
    need(type(form["half_even"]) is bool, "form.half_even: neither true nor false")
    constants = zip(known.get("factor", [1] * count), known["bias"], strict=True)
    sums = [factor * end + bias for factor, bias in constants for end in (low, high)]
    bits = signed_bits((min(sums), max(sums) + (1 << shift)))
    need(bits < WIDEST, f"form: its sum needs {bits} bits; {WIDEST - 1} are possible")
    return bits


def runs(form: Any, c: int, lo: int, hi: int) -> list[tuple[int, int, int]]:
    """(first input, last input, code) of the runs of equal code that a form, as hardware computes it, makes of lo .. hi."""
    kind = form["is"]
    if kind == "constant":
        return [(lo, hi, form["values"][c])]
    if kind == "table":
        row = form["rows"][c][lo - form["domain"][0] :]
        firsts = [lo] + [lo + i for i in range(1, hi - lo + 1) if row[i] != row[i - 1]]
        codes = [row[x - lo] for x in firsts]
    elif kind in ("thresholds", "threshold-search"):
        row = form["thresholds"][c]
        firsts = [lo, *sorted({t + 1 for t in row if lo <= t < hi})]
        codes = [form["base"][c] + form["direction"][c] * bisect_left(row, x) for x in firsts]
    else:
        factor, bias, shift = form["factor"][c] if "factor" in form else 1, form["bias"][c], form["shift"]
        half = (1 << shift) >> 1 if form["half_even"] else 0

        def value(x: int) -> int:
            t = factor * x + bias
            q = (t + half - 1 + ((t >> shift) & 1)) >> shift if half else t >> shift
            return int(min(max(q, form["lo"]), form["hi"]))

        first, last = sorted((value(lo), value(hi)))
        need(last - first <= MOST_LEVELS, f"form: channel {c} has {last - first} levels")
        # the least sum of each level; half to even gives a tie to the level where it is even
        least = [(level << shift) - (half - (level & 1) if half else 0) for level in range(first + 1, last + 1)]
        firsts = [lo, *sorted({-((bias - t) // factor) if factor > 0 else (t - bias) // factor + 1 for t in least})]
        codes = [value(x) for x in firsts]
    return list(zip(firsts, [x - 1 for x in firsts[1:]] + [hi], codes, strict=True))


def requantize(x: Value, raw: Any) -> tuple[Value, int, int]:
    """The output, the comparisons made, and those to be stated (a jump over several codes counts for each of them)."""
    chain, form = Chain(raw, len(x.bounds)), raw["form"]
    bounds, made, stated = [], 0, 0
    turns = any(chain.turns(c, lo, hi) for c, (lo, hi) in enumerate(x.bounds))
    known: dict[tuple[str, int], int] = {}
    for c, (lo, hi) in enumerate(x.bounds):
        need(not turns or hi - lo < MOST_LEVELS, f"chain: channel {c} may turn on {hi - lo + 1} integers")
        found, alike = runs(form, c, lo, hi), chain.constants(c)
        for first, last, code in found:
            for point in range(first, last + 1) if turns else (first, last):
                if (alike, point) not in known:
                    known[alike, point] = chain.code(c, point)
                exact = known[alike, point]
                need(exact == code, f"{form['is']}, channel {c}, input {point}: gives {code}, exactly {exact}")
        bounds.append(hull((code, code) for *_, code in (found if turns else (found[0], found[-1]))))
        made += hi - lo + 1 if turns else 2 * len(found)
        stated += hi - lo + 1 if turns else 2 * (bounds[-1][1] - bounds[-1][0] + 1)
    return Value(x.shape, narrowest((chain.lo, chain.hi)), bounds), made, stated


def loadable_requantize(x: Value, raw: Any) -> tuple[Value, int, int]:
    """A requantizer whose thresholds are loaded: one for each step between codes, any of which may come out."""
    found, made, stated = requantize(x, raw)
    form, chain = raw["form"], Chain(raw, len(x.bounds))
    lo, hi = chain.lo, chain.hi
    need(form["is"] in ("thresholds", "threshold-search"), f"form: {form['is']} is none that is loaded")
    need(len(form["thresholds"][0]) == hi - lo > 0, f"form.thresholds: not {hi - lo} a channel")
    for c in range(len(x.bounds)):
        staircase(c, form["base"][c], form["direction"][c], form["thresholds"][c], hull(x.bounds), (lo, hi))
    return Value(found.shape, found.type, [(lo, hi)] * len(x.bounds)), made, stated


def staircase(c: int, base: int, direction: int, thresholds: list[int], domain: Pair, codes: Pair) -> None:
    """A channel's thresholds are sorted and within the domain, and what they count to is within the codes."""
    need(direction in (-1, 1), f"channel {c}: direction {direction} is neither 1 nor -1")
    outside = [t for t in thresholds if not domain[0] <= t <= domain[1]]
    need(not outside, f"channel {c}: threshold {outside[:1]} lies outside {list(domain)}")
    need(thresholds == sorted(thresholds), f"channel {c}: its thresholds are not sorted")
    for code in (base, base + direction * sum(t < domain[1] for t in thresholds)):
        need(codes[0] <= code <= codes[1], f"channel {c}: code {code} lies outside {list(codes)}")


def sealed(folder: Path) -> Any:
    """What certificate.json says, once its digest is right."""
    path = folder / "certificate.json"
    need(path.is_file() and path.stat().st_size <= LARGEST_FILE, "is missing or too large")
    body, _, seal = path.read_bytes().rpartition(b',"digest":"')
    right = f'{hashlib.sha256(body + b"}").hexdigest()}"}}\n'.encode()
    need(seal == right, "digest: the text was changed after it was written")
    return json.loads(body + b"}", parse_float=integers, parse_constant=integers)  # which refuses them


def check_files(folder: Path, files: Any) -> None:
    need({"model.onnx", "firmware/types.hpp"} <= set(files), "model.onnx or firmware/types.hpp is not named")
    for name, expected in files.items():
        need(re.fullmatch(r"model\.onnx|(firmware|tb)(/\w[\w.-]*)+", name), f"{name[:60]!r} is no place for a file")
        need((folder / name).is_file(), f"{name}: is missing")
        need(hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected, f"{name}: was changed")
    for path in sorted(p for part in ("firmware", "tb") for p in (folder / part).rglob("*")):
        name = path.relative_to(folder).as_posix()
        need(path.is_dir() or name in files, f"{name}: is not of this build")


def check_kernel(header: Path, node: Any, entry: Any, sum_bits: int | None, size: int, fixed: list[Any]) -> None:
    """The types and parameters with which a node's header calls its kernel.

    Its first input holds `size` elements; `fixed` are the parameters behind the output's type.
    """
    text, raw = header.read_text(), node["attributes"]
    form, lanes_of, tile = raw.get("form", {}), entry and entry["packing"], entry and entry["tile"]
    tile = None if lanes_of else tile
    ((kernel, arguments),) = re.findall(r"broadaxe::(\w+)<([^()]*)>\(", text)
    stated = re.sub(r"ap_(u?int)<(\d+)>", r"\1\2", arguments).split(", ")
    found = [f"{value}_t" for value in node["inputs"]]
    if "weight_dtype" in raw:
        found += [raw["weight_dtype"]] + ([f"int{entry['inner_bits']}"] if tile else [])
    found += [f"{node['output']}_t"] if node["operator"] != "window_max" else []
    if entry:
        raw = raw | {"widths": entry["pe_bits"]}
        if lanes_of and lanes_of["chunk"] == len(raw["weights"][0]):
            raw["start"] = packed_starts(raw["start"], int(stated[6]), lanes_of)
        node = node | {"attributes": raw}
    if stated[-1] == "broadaxe::matches":  # weights of -1 and +1 as bits; the start makes up for those of -1
        need(all(abs(w) == 1 for row in raw["weights"] for w in row), f"{header.name}: weights are not -1 and +1")
        need(not node["operator"].startswith("loadable_"), f"{header.name}: other weights may not be -1 and +1")
        need(not tile and fixed.pop() == TERMS["lut"], f"{header.name}: bits that match are not multiplied")
        half, end, start = 1 << entry["width"] - 1, 1 << entry["width"], raw["start"]
        start = [
            (s - sum(w < 0 for w in row) + half) % end - half for s, row in zip(start, raw["weights"], strict=True)
        ]
        bits = {
            "weight_dtype": "uint1",
            "weights": [[(w + 1) // 2 for w in row] for row in raw["weights"]],
            "start": start,
        }
        found[1], node = "uint1", node | {"attributes": raw | bits}
    if tile or (lanes_of and lanes_of["chunk"] < len(raw["weights"][0])):
        part, simd = tile or lanes_of["chunk"], int(stated[6 if tile else 5])
        over = min(part % simd, simd % part) if tile else part % simd
        same(over, 0, f"{header.name}: inputs of a tile or chunk that SIMD leaves over")
    if sum_bits:
        found += [f"int{signed_bits(form['factor'])}"] if "factor" in form else []
        found += [f"int{sum_bits}", *stated[len(found) + 1 : len(found) + 3]]
        found += [str(form[key]) for key in ("shift", "lo", "hi")] + [str(form["half_even"]).lower()]
    if node["operator"] == "rearrange":
        sizes = [len(raw[name]) for name in ("outer", "middle", "inner")]
        lanes, ring = int(stated[2]), int(stated[8])
        found += [
            stated[2],
            *map(str, (*sizes[:2], sizes[2] // lanes, raw["to"][-1] // lanes, size // lanes)),
            stated[8],
        ]
        found += [str(trips(moves(raw, lanes, size), size // lanes, ring))]
    if kernel == "window_max":
        check_taps(header.name, text, node["name"], *map(int, stated[1:5]))
    elif kernel == "depthwise":
        channels, taps, at_once, lanes = map(int, stated[3:7])
        check_taps(header.name, text, node["name"], lanes, channels, taps, at_once)
    at = len(found)
    found += [stated[at + i] if value is None else str(value) for i, value in enumerate(fixed)]
    same([kernel == "matvec_tiled"], [bool(tile)], f"{header.name}: {kernel} adds up tiles")
    own_kernel = {"packed_matvec": [True, False], "packed_matvec_chunked": [True, True]}.get(kernel, [False, False])
    packs = [bool(lanes_of), bool(lanes_of and lanes_of["chunk"] < len(raw["weights"][0]))]
    same(own_kernel, packs, f"{header.name}: {kernel} packs products and reads them in chunks")
    same(stated[: len(found)], found, f"{header.name}: parameters of {kernel}")
    check_memories(header.name, text, node, kernel, size)


def check_taps(header: str, text: str, name: str, lanes: int, channels: int, taps: int, at_once: int) -> None:
    """Words of a kernel over the taps of a window: lanes of one tap, or several taps with all channels, which it reads."""
    need(
        min(lanes, at_once) > 0 == channels % lanes == taps % at_once, f"{header}: {lanes} lanes, {at_once} taps a word"
    )
    need(at_once == 1 or lanes == channels, f"{header}: {at_once} taps a word with {lanes} of {channels} channels")
    words = [int(word) for word in re.findall(r"hls::stream<broadaxe::word<(\d+), ", text)]
    same(words, [at_once * lanes, lanes], f"{header}: lanes of its words")
    for steps in re.findall(rf" {name}_weights\[(\d+)\]", text):
        same(int(steps), taps // at_once * (channels // lanes), f"{header}: steps of its weights")


def packed_starts(start: list[int], pe: int, packing: Any) -> list[int]:
    """What the lanes of each block start at, half their range in each: blocks of a fold in turn, then the next fold's."""
    lane, products = packing["lane"], packing["products"]
    half, whole = 1 << lane - 1, 1 << lane * products
    need(pe > 0 and len(start) % pe == 0 and products <= pe, f"{pe} PEs for {len(start)} outputs")
    blocks = [
        start[f + b : min(f + b + products, f + pe)] for f in range(0, len(start), pe) for b in range(0, pe, products)
    ]
    return [sum((s + half) << lane * k for k, s in enumerate(block)) % whole for block in blocks]


def moves(raw: Any, lanes: int, size: int) -> dict[str, list[int]]:
    """Tables of a rearrangement in words, and the first word that an outer index or a later one still reads."""
    tables = {name: [-1 if v < 0 else v // lanes for v in raw[name]] for name in ("outer", "middle")}
    need(
        all(v < 0 or v % lanes == 0 for v in raw["outer"] + raw["middle"]), f"outer or middle: not in words of {lanes}"
    )
    for first in range(0, len(raw["inner"]), lanes):
        run = raw["inner"][first : first + lanes]
        whole = [run[0] + i for i in range(lanes)] if run[0] >= 0 and run[0] % lanes == 0 else [-1] * lanes
        need(run == whole, f"inner: words of {lanes} elements are torn")
    tables["inner"] = [-1 if v < 0 else v // lanes for v in raw["inner"][::lanes]]
    lowest = sum(min(v for v in tables[name] if v >= 0) for name in ("middle", "inner"))
    keep: list[int] = []
    least = size // lanes
    for first in reversed(tables["outer"]):
        least = min(least, first + lowest) if first >= 0 else least
        keep.insert(0, least)
    return tables | {"keep": keep}


def trips(tables: dict[str, list[int]], words: int, ring: int) -> int:
    """Trips of the kernel that rearranges a frame of words through a ring, by the recurrence that its header states."""
    need(ring > 0, "a ring of no words")
    row = [-1 if b < 0 or c < 0 else b + c for b in tables["middle"] for c in tables["inner"]]
    arrived: list[int] = []
    after = 0  # the last output
    for first, kept in [*zip(tables["outer"], tables["keep"], strict=True), (words, words)]:
        begin = max(after, arrived[-1] + 1 if arrived else 0)
        arrived += range(begin, begin + min(words, kept + ring) - len(arrived))
        for at in row if first < words else []:  # the last read what is left
            if first >= 0 <= at:
                need(first + at < len(arrived), f"a ring of {ring} words is too short")
                after = max(after, arrived[first + at] + LAG)
            after += 1
    return max(after, arrived[-1] + 1)


def check_memories(header: str, text: str, node: Any, kernel: str, size: int) -> None:
    """The constants that a kernel reads, by lanes: lane i of L has those of the channels i, i + L, i + 2 * L, ..."""
    name, known = node["name"], {"pad": node["attributes"].get("pad_codes")} | node["attributes"]
    known |= known.get("form", {})
    loadable = node["operator"].startswith("loadable_")
    rising = min(known.get("direction", [1])) > 0 and not loadable  # then the kernel reads none
    if loadable and "start" in known:  # counts modulo 2**P
        half = 1 << known["budget"]["width"] - 1
        known["start"] = [(s + half) % (2 * half) - half for s in known["start"]]
    held = {key: known[key] for key in MEMORIES if known.get(key) and not (rising and key == "direction")}
    if kernel == "rearrange":  # positions in words of as many lanes as the pad codes have
        lanes = int(re.findall(rf" {name}_pad\[(\d+)\]", text)[0])
        held = moves(known, lanes, size) | held
    if kernel == "threshold_search":  # each stage halves what those before it leave; the domain's end fills the rows up
        spans = [1 << d for d in reversed(range(len(known["thresholds"][0]).bit_length()))]
        rows = [row + [known["domain"][1]] * (2 * spans[0] - 1 - len(row)) for row in held.pop("thresholds")]
        held |= {f"stage{d}": [row[span - 1 :: 2 * span] for row in rows] for d, span in enumerate(spans)}
    same(re.findall(rf"\b{name}_(\w+)", text.split(">(")[1]), [*held], f"{header}: memories")
    for key, values in held.items():
        (parts,) = re.findall(rf" {name}_{key}((?:\[\d+\])+) = \{{([^;]*)\}};", text)
        sizes, rom = ([int(number) for number in re.findall(r"-?\d+", part)] for part in parts)
        rows = [row if isinstance(row, list) else [row] for row in values]
        if kernel == "depthwise" and key == "weights":
            rows, sizes = [list(tap) for tap in zip(*rows, strict=True)], [1, *sizes]
        rows = rows * max(1, len(rom) // sum(map(len, rows)))  # one pad code may stand for all channels
        flat = [v for lane in range(sizes[0]) for row in rows[lane :: sizes[0]] for v in row]
        if key == "weights":  # packed from bit 0 on, each step of SIMD weights in one word or in several of 64 bits
            bits = int(known["weight_dtype"].strip("uint"))
            simd, full = len(flat) // prod(sizes[:-1]), 64 // bits
            ends = [(a, min(a + full, s + simd)) for s in range(0, len(flat), simd) for a in range(s, s + simd, full)]
            flat = [sum(w % (1 << bits) << bits * j for j, w in enumerate(flat[a:b])) for a, b in ends]
        same([prod(sizes), *flat], [len(rom), *rom], f"{header}: memory {key}")


def loaded_memories(text: str, words: list[int]) -> dict[str, tuple[list[int], list[int]]]:
    """Dimensions and elements of the memories that a header's kernel fills from words, which are taken off the front."""
    held = {}
    for name in re.findall(r"broadaxe::load_memory\(parameters, follow, (\w+)\);", text):
        ((sign, kind, sizes),) = re.findall(rf"static (signed |unsigned )?([a-z ]+) {name}((?:\[\d+\])+) = ", text)
        dims = [int(number) for number in re.findall(r"\d+", sizes)]
        part, words[:] = words[: prod(dims)], words[prod(dims) :]
        need(len(part) == prod(dims), f"{name}: {len(part)} words are left of {prod(dims)}")
        end = 1 << BUILTIN[kind] - (sign != "unsigned ")
        values = [w if sign == "unsigned " or w < 1 << 63 else w - (1 << 64) for w in part]
        need(
            all((0 if sign == "unsigned " else -end) <= v < end for v in values), f"{name}: a word does not fit {kind}"
        )
        held[name] = dims, values
    return held


def by_channel(dims: list[int], values: list[int]) -> list[list[int]]:
    """Rows of a memory [lanes][groups]...: channel group * lanes + lane stands at [lane][group]."""
    lanes, groups = dims[:2]
    size = prod(dims[2:])
    rows = [values[at : at + size] for at in range(0, len(values), size)]
    return [rows[lane * groups + group] for group in range(groups) for lane in range(lanes)]


def unpacked(dims: list[int], values: list[int], bits: int, signed: bool, simd: int, word: int) -> list[list[int]]:
    """Weights of every step, `simd` of `bits` bits from bit 0 on, as many a word as it holds."""
    mask, words = (1 << bits) - 1, dims[-1]
    end = 1 << bits - signed
    counts = [min(word // bits, simd - at) for at in range(0, simd, word // bits)]
    shifts = [range(0, bits * count, bits) for count in counts]
    need(len(counts) == words, f"{words} words do not hold {simd} weights of {bits} bits")
    for k, count in enumerate(counts):
        most = max(values[k::words])
        need(most < 1 << bits * count, f"weights: bits beyond {count} weights of {bits} are set in {most:#x}")
    steps = []
    for at in range(0, len(values), words):
        fields = [values[at + k] >> shift & mask for k in range(words) for shift in shifts[k]]
        steps.append([f if f < end else f - 2 * end for f in fields])
    return steps


def loaded_layer(x: Value, raw: Any, held: dict[str, tuple[list[int], list[int]]], text: str) -> None:
    """Weights and starts from memories, against the layer's budget."""
    outputs, depth = len(raw["weights"]), len(raw["weights"][0])
    (dims, values), (lanes, starts) = held.values()
    signed, bits = raw["weight_dtype"][0] == "i", int(raw["weight_dtype"].strip("uint"))
    (kind,) = re.findall(r"static unsigned ([a-z ]+) \w+_weights\[", text)
    steps = unpacked(dims, values, bits, signed, outputs * depth // prod(dims[:-1]), BUILTIN[kind])
    flat = [w for step in steps for w in step]
    if len(dims) == 2:  # depthwise: words of as many channels as there are lanes, tap by tap
        weights = [flat[channel::outputs] for channel in range(outputs)]
    else:
        ordered = [flat[at : at + depth] for at in range(0, len(flat), depth)]
        blocks = len(ordered) // dims[0]
        weights = [ordered[pe * blocks + block] for block in range(blocks) for pe in range(dims[0])]
    rows, width = Rows.of(weights, raw.get("groups", 1), raw.get("taps", 1)), raw["budget"]["width"]
    half = 1 << width - 1
    for c, ((lo, hi), (start,)) in enumerate(zip(rows.ends(x.bounds), by_channel(lanes, starts), strict=True)):
        need(-half <= start < half, f"channel {c}: start {start} does not fit int{width}")
        least = (lo + start + half) % (2 * half) - half  # the adders wrap
        most = least + hi - lo
        need(most < half, f"channel {c}: sums from {least} to {most} do not fit int{width}")
    if raw.get("tile"):
        whole = range_of(f"int{raw['budget']['inner']}")
        for part in rows.tiles(x.bounds, raw["tile"]):
            for c, pair in enumerate(part):
                need(hull([whole, pair]) == whole, f"channel {c}: a tile's sums {list(pair)} lie outside {list(whole)}")


def loaded_requantizer(x: Value, y: Value, held: dict[str, tuple[list[int], list[int]]]) -> None:
    """Thresholds, bases and directions from memories."""
    (base, direction, *stages) = [by_channel(*memory) for memory in held.values()]
    if len(stages) == 1:
        rows = stages[0]
    else:  # each stage holds, in order, the thresholds at odd multiples of half of what the one before it told apart
        size = 1 << len(stages)
        rows = [[0] * (size - 1) for _ in base]
        for d, stage in enumerate(stages):
            span = size >> d + 1
            for row, part in zip(rows, stage, strict=True):
                row[span - 1 :: 2 * span] = part
    for c, row in enumerate(rows):
        staircase(c, base[c][0], direction[c][0], row, hull(x.bounds), y.bounds[c])


def check_parameters(folder: Path, data: bytes) -> str:
    """Check that parameters may be loaded into a design whose certificate holds; CertificateError names what is outside."""
    where = "parameters"
    try:
        content = sealed(folder)
        check_files(folder, content["files"])
        values = {name: Value.read(raw, name) for name, raw in content["graph"]["values"].items()}
        nodes = [node for node in content["graph"]["nodes"] if node["operator"].startswith("loadable_")]
        need(nodes, "the design loads none; compile it with --weights runtime")
        need(len(data) % 8 == 0, f"{len(data)} bytes are not words of 8")
        words = list(unpack(f"<{len(data) // 8}Q", data))
        count = len(words)
        for node in nodes:
            where = f"parameters of {node['name']}"
            text = (folder / f"firmware/{node['name']}.hpp").read_text()
            held, x = loaded_memories(text, words), values[node["inputs"][0]]
            if node["operator"] == "loadable_requantize":
                loaded_requantizer(x, values[node["output"]], held)
            else:
                loaded_layer(x, node["attributes"], held, text)
        where = "parameters"
        need(not words, f"{len(words)} words are left over")
        return f"parameters: {count:,} words for {len(nodes):,} kernels: all within their budgets"
    except Exception as error:
        why = error if isinstance(error, CertificateError) else f"malformed ({type(error).__name__}: {str(error)[:99]})"
        raise CertificateError(f"{where}: {' '.join(str(why).split())}") from None


def check(folder: Path) -> str:
    """Check everything and say how much; CertificateError names the first thing that does not hold."""
    where = "certificate.json"
    try:
        content = sealed(folder)
        same(content["format"], FORMAT, "format")
        where = "files"
        check_files(folder, content["files"])
        graph, values, made = content["graph"], dict[str, Value](), 0
        layers, requantizers = list(content["layers"]), list(content["requantizers"])
        for name, raw in graph["values"].items():
            where = f"value {name}"
            values[name] = Value.read(raw, name)
        known = {*graph["inputs"]}
        for node in graph["nodes"]:
            where = f"{node['name']} ({node['operator']})"
            kind, raw, entry, sum_bits = node["operator"], node["attributes"], None, None
            fixed: list[Any] = []
            need({*node["inputs"]} <= known and node["output"] not in known, "inputs or output: out of order")
            parts, stored = [values[name] for name in node["inputs"]], values[node["output"]]
            need(len(parts) == 1 + (kind in PAIRS), f"inputs: {len(parts)}")
            own = layers[0] if layers else {}
            need(own or kind not in (*LAYERS, "dot"), "its entry in layers: there is none")
            if kind in LAYERS:
                found, entry, fixed = layer(kind, parts[0], raw, own)
            elif kind in ("requantize", "loadable_requantize"):
                sum_bits = check_form(raw["form"], parts[0].bounds)
                found, count, stated = (requantize if kind == "requantize" else loadable_requantize)(parts[0], raw)
                same(raw["comparisons"], stated, "comparisons")
                made += count
                proof = {"name": node["name"], "form": raw["form"]["is"], "comparisons": stated, "sum_bits": sum_bits}
                same(requantizers.pop(0) if requantizers else None, proof, "its entry in requantizers")
            elif kind == "dot":
                found, entry, fixed = dot(parts[0], parts[1], raw, own)
            elif kind == "arg_max":
                found, fixed = arg_max(parts[0], raw)
            elif kind == "lookup":
                found, fixed = lookup(parts[0], raw)
            elif len(parts) == 2:
                found, fixed = joined(kind, parts[0], parts[1], raw, len({*node["inputs"]}) == 1)
            else:
                operator = {"view": view, "rearrange": rearrange, "window": window, "window_max": window_max}[kind]
                found = operator(parts[0], raw, stored.shape[-1])
                if kind == "window_max":
                    fixed = [None, found.shape[-1], raw["taps"], None, prod(found.shape[:-1])]
            for field in Value._fields:
                same(getattr(stored, field), getattr(found, field), f"{field} of {node['output']}")
            if entry:
                own = layers.pop(0) if layers else {}
                same(sorted(own), sorted({"name", *entry}), "fields of its entry in layers")
                for field, right in ({"name": node["name"]} | entry).items():
                    same(own[field], right, field)
            if kind != "view":
                header = f"firmware/{node['name']}.hpp"
                need(header in content["files"], f"{header}: is not named in files")
                check_kernel(folder / header, node, entry, sum_bits, prod(parts[0].shape), fixed)
            known.add(node["output"])
        where = "certificate.json"
        need(not layers and not requantizers, "layers or requantizers: an entry belongs to no node")
        need(known == {*values} and {*graph["outputs"]} <= known, "values, inputs or outputs: not those of nodes")
        where = "firmware/types.hpp"
        declared = re.findall(r"^typedef ap_(u?int)<(\d+)> (\w+)_t;", (folder / where).read_text(), re.MULTILINE)
        same([f"{k}{n} {v}" for k, n, v in declared], [f"{v.type} {name}" for name, v in values.items()], "types")
        n, m, f = (len(content[key]) for key in ("layers", "requantizers", "files"))
        return f"certificate: {n:,} layers, {m:,} requantizers, {made:,} comparisons, {f:,} files: all hold"
    except Exception as error:  # a text that is no certificate may lead to any
        why = error if isinstance(error, CertificateError) else f"malformed ({type(error).__name__}: {str(error)[:99]})"
        raise CertificateError(f"{where}: {' '.join(str(why).split())}") from None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check the certificate of a Broadaxe build folder.")
    parser.add_argument("build", type=Path, help="the build folder")
    parser.add_argument("--parameters", type=Path, metavar="FILE", help="parameters to be loaded into the design")
    given = parser.parse_args(arguments)
    try:
        print(check(given.build))
        if given.parameters:
            print(check_parameters(given.build, given.parameters.read_bytes()))
    except CertificateError as failure:
        print(failure)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
