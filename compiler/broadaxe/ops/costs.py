"""Resource models: what the parts of our kernels take of an AMD/Xilinx device. Every figure is a model, not a measurement.

Parts are modelled as the generated sources describe them: operands at their proven widths, one register behind each stage.
What an HLS tool adds is not in it: handshakes, the state machine of a pipeline, counters that it keeps wider than their
values, registers of a finer pipeline.

Sources. Formulas of multipliers, trees and memories: Blott et al., FINN-R, ACM TRETS 2018, but an array of partial products
for its (2*ceil((a + b)/6) - 1)*(a + b) LUTs a product. Shapes of block RAM, UltraRAM, LUT memories and shift registers: AMD
UG473, UG573, UG474, UG574. Signed digits: Avizienis, IRE Trans. on Electronic Computers, 1961.

Error, against yosys 0.70 synth_xilinx -nodsp (benchmarks/resources.py): LUTs of the 29 datapaths that no constant was fitted
to, median 9 % on 7 series and 10 % on UltraScale+, worst 36 %; flip-flops of 30, median 0 %, worst 19 %; block RAMs alike in
all. By kind it stands at each function, for 7 series, fitted or not. The constants in capitals that say "fitted" were fitted
to the other half of the datapaths, for 7 series; the shapes of the formulas were chosen with all of them in view. yosys is
not Vivado, which packs pairs of small LUTs into one and adds up with fewer: its figures are likely to be lower. Beside
csynth's reports of hls4ml's unrolled dense layers (reuse 1, no DSP) `constant_rows` gives 0.6 of its LUTs at 2 bits, 0.8 at
4, 0.9 at 6.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from math import ceil, exp
from typing import Literal, TypeAlias

import numpy as np

from broadaxe.hardware import DSP48E1, Dsp, Multiplier, Resources
from broadaxe.ir import IntArray
from broadaxe.ops.memories import Memory, memory_of
from broadaxe.ops.packing import Packing

Store: TypeAlias = Literal["distributed", "block", "ultra"]
"""LUTs, block RAM, or UltraRAM."""

STORES: dict[Memory, Store] = {"lutram": "distributed", "bram": "block", "uram": "ultra"}
BLOCK_SHAPES = ((1, 16384), (2, 8192), (4, 4096), (9, 2048), (18, 1024), (36, 512))
"""Width and depth of a block RAM of 18 Kb; the last has one port that reads and one that writes."""
ULTRA_SHAPE = (72, 4096)
SMALL_MEMORY = 1024
"""Bits up to which an HLS tool puts a memory or FIFO that nothing binds into LUTs, as users of these tools report."""
SHIFT_REGISTER = 32
"""Bits of a LUT as shift register."""
DSP_OPERAND = 6
"""Bits of the narrower operand from which a multiplier that nothing binds becomes a DSP. In csynth's reports of 906 dense
layers (Dendendelen/wa-hls4ml-search) products of 4 bits never did, of 6 bits in 124 of 129 layers, of 8 bits always."""

MULTIPLIER = 2.1
"""LUTs a bit of an addition of two rows of partial products; fitted."""
COMPARATOR = 0.7
"""LUTs a bit of a comparison of two variables; fitted."""
COMPARATOR_CONSTANT = 0.2
"""The same against a constant; fitted."""
COUNT = 1.0
"""LUTs a bit of a count of ones: a full adder for each bit but the last."""
COUNTER = 1.65
"""LUTs a bit of a counter that wraps: its adder, the comparison with its end, the reset; fitted."""
FIFO_FLAGS = 10.5
"""LUTs of a FIFO's full and empty; fitted."""
ADDRESS = 1.9
"""LUTs a bit of a window's state; fitted."""


def multiplier(a: int, b: int) -> float:
    """LUTs of a product of two variables of a and b bits: as many rows of partial products as the shorter has bits, added up.

    One row is an AND in the adder behind it. FINN-R has (2*ceil((a + b)/6) - 1)*(a + b): alike up to 4 x 4 bits, 36 against 48
    at 8 x 4 and 80 against 112 at 8 x 8. yosys makes compressors of two LUTs a bit where carry chains take one, so that Vivado
    may well need less than this.
    """
    return MULTIPLIER * (min(a, b) - 1) * max(a, b)


def dsp_blocks(a: int, b: int, dsp: Dsp = DSP48E1) -> int:
    """DSP blocks of a product of signed operands: one where they fit, else one for each pair of parts, the longer operand on
    the wider port. The default is the narrowest block there is, so that the figure holds on every family."""
    long, short = max(a, b), min(a, b)
    return _parts(long, dsp.wide) * _parts(short, dsp.narrow)


def _parts(bits: int, port: int) -> int:
    """Parts of an operand at a signed port: all but the highest are unsigned and leave the sign bit unused."""
    return 1 if bits <= port else 1 + -(-(bits - port) // (port - 1))


def unbound_product(a: int, b: int) -> Resources:
    """A multiplier that the tool places as it likes."""
    return Resources(dsp=dsp_blocks(a, b)) if min(a, b) >= DSP_OPERAND else Resources(lut=multiplier(a, b))


@lru_cache(maxsize=4096)
def tree(terms: int, width: int, limit: int) -> Resources:
    """The sum of `terms` numbers of `width` bits modulo 2^limit: an adder a LUT a bit, each level a bit wider and registered.

    Narrow accumulators are felt here: no level is wider than `limit`.
    """
    lut = ff = 0
    while terms > 1:
        width = min(width + 1, limit)
        lut += terms // 2 * width
        terms = -(-terms // 2)
        ff += terms * width
    return Resources(lut, ff)


def count_ones(bits: int) -> Resources:
    """How many of `bits` bits are set, by compressors; a register behind it."""
    return Resources(COUNT * max(0, bits - 1), bits.bit_length())


def accumulator(width: int) -> Resources:
    """A register that adds modulo 2^width, with a start that takes its place at a sum's beginning (a LUT a bit for both)."""
    return Resources(width, width)


def comparator(width: int, constant: bool = False) -> float:
    """LUTs of x > t."""
    return (COMPARATOR_CONSTANT if constant else COMPARATOR) * width


def multiplexer(inputs: int, width: int) -> float:
    """LUTs of a choice of one of `inputs` words: a LUT takes four."""
    return float(width * -(-(inputs - 1) // 3)) if inputs > 1 else 0.0


def counter(values: int) -> Resources:
    """A counter from 0 to values - 1 and the comparison with its end."""
    bits = (values - 1).bit_length() if values > 1 else 0
    return Resources(COUNTER * bits, bits)


def counters(*extents: int) -> Resources:
    """The counters of a flat loop, one for each extent.

    LUTs against yosys on 4 datapaths: median 3 %, worst 4 %.
    """
    return sum((counter(n) for n in extents), Resources())


def registers(bits: int) -> Resources:
    return Resources(ff=bits)


def shift_register(width: int, depth: int) -> Resources:
    """`width` bits delayed by `depth`, in LUTs of 32 bits each."""
    return Resources(lut=width * -(-depth // SHIFT_REGISTER))


@lru_cache(maxsize=4096)
def block_rams(width: int, depth: int, ports: int = 1) -> int:
    """Block RAMs of 18 Kb that hold `depth` words of `width` bits, by the best of their shapes.

    Args:
        ports: that both read and write. Two cannot have the widest shape.
    """
    shapes = BLOCK_SHAPES if ports == 1 else BLOCK_SHAPES[:-1]
    return min(-(-width // w) * -(-depth // d) for w, d in shapes)


def ultra_rams(width: int, depth: int) -> int:
    """UltraRAMs of 288 Kb, all of 4096 words of 72 bits."""
    return -(-width // ULTRA_SHAPE[0]) * -(-depth // ULTRA_SHAPE[1])


def distributed(width: int, depth: int, rom: bool) -> float:
    """LUTs of a memory in LUTs. Constants take a LUT for 64 bits of each column that differs from the others.

    To be written and read at the same time 3 columns of 64 bits, or 6 of 32, take 4 LUTs. Above 256 words choosing costs
    LUTs; below the slice's own multiplexers do.
    """
    choices = multiplexer(-(-depth // 256), 1)
    if rom:
        return columns(width, depth) * (-(-depth // 64) + choices)
    if depth <= 32:
        return 4.0 * -(-width // 6)
    banks = -(-depth // 64)
    return 4.0 * -(-width // 3) * banks + multiplexer(banks, width)


def columns(width: int, depth: int) -> float:
    """How many of `width` columns of `depth` arbitrary bits differ: of the 2^depth there are, `width` draws hit so many."""
    if depth > 16:
        return width
    kinds = 1 << depth
    return kinds * (1 - exp(-width / kinds))


def memory(width: int, depth: int, store: Store, rom: bool = False, ports: int = 1) -> Resources:
    """A memory of `depth` words of `width` bits in one kind of store, with a register behind it.

    One word is no memory: a constant or a register.

    Against yosys: LUTs of 7 memories median 0 %, worst 11 % too few; block RAMs of 4 alike.
    """
    if depth <= 1 or width < 1:
        return registers(0 if rom else width)
    if store == "distributed":
        return Resources(distributed(width, depth, rom) * ports, columns(width, depth) if rom else width)
    if store == "block":
        return Resources(bram18=block_rams(width, depth, ports))
    return Resources(uram=ultra_rams(width, depth))


def placed(width: int, depth: int, rom: bool = False, ports: int = 1) -> Resources:
    """A memory that nothing binds, where an HLS tool puts it: LUTs below `SMALL_MEMORY` bits, else block RAM."""
    return memory(width, depth, "distributed" if width * depth < SMALL_MEMORY else "block", rom, ports)


def words(count: int, width: int, depth: int) -> Resources:
    """The read-only memories of `depth` steps of `count` weights of `width` bits each, cut into words of 64 bits at most, and
    bound as the generated sources bind them."""
    if not width:
        return Resources()
    per_word = max(1, 64 // width)
    whole, rest = divmod(count, per_word)
    store = STORES[memory_of(depth, min(count, per_word) * width)]
    return times(memory(per_word * width, depth, store, rom=True), whole) + memory(rest * width, depth, store, rom=True)


def kept(width: int, depth: int) -> Resources:
    """`depth` sums or maxima of `width` bits in turn: registers below 8, as hw/window_max.hpp has them, else a memory."""
    if depth < 8:
        return Resources(multiplexer(depth, width), width * depth)
    return placed(width, depth)


def lane_changer(read: int, written: int, width: int, trips: int) -> Resources:
    """Words of `read` lanes to words of `written`: a register that shifts, and is loaded where words are cut.

    LUTs against yosys on 4 datapaths: within a LUT or two.
    """
    held = max(read, written) * width
    loaded = held - written * width if read > written else 0
    return Resources(loaded, held) + counters(max(read, written) // min(read, written), trips)


def maximum(lanes: int, width: int) -> Resources:
    """The larger of each of two lanes, registered: a comparison that enables the register. What was kept of it apart.

    LUTs against yosys on 4 datapaths: median 26 %, worst 38 % too few, of some ten.
    """
    return Resources(lanes * comparator(width), lanes * width)


def window_control(rows: int, row: int, ring: int, out_rows: int, out_columns: int, *taps: int) -> Resources:
    """State of hw/window.hpp: a reader's and an emitter's positions in the frame and in a ring of `ring` words, and loops.

    LUTs with the choice of pad codes, against yosys on 4 datapaths: median 16 %, worst 22 % too many.
    """
    high, wide, slot = (n.bit_length() + 1 for n in (rows, row, ring))
    bits = 5 * high + 4 * wide + 3 * slot + sum((n - 1).bit_length() for n in (out_rows, out_columns, *taps)) + 4
    return Resources(ADDRESS * bits, bits)


def fifo(width: int, depth: int) -> Resources:
    """A FIFO as HLS tools make it: a shift register up to 32 words or 1024 bits, else block RAM behind two pointers.

    Two words are registers. Chains of up to four shift registers are chosen from by the slice's own multiplexers.

    LUTs against yosys on 6 datapaths: median 12 %, worst 36 % too many; block RAMs alike.
    """
    bits = max(1, depth.bit_length())
    flags = Resources(COUNTER * bits + FIFO_FLAGS, bits)
    if depth <= 2:
        return Resources(width if depth == 2 else 0, width * depth) + flags
    if depth <= SHIFT_REGISTER or width * depth <= SMALL_MEMORY:
        chains = -(-depth // SHIFT_REGISTER)
        return shift_register(width, depth) + Resources(lut=multiplexer(-(-chains // 4), width)) + flags
    return memory(width, depth, "block") + counter(depth) + counter(depth) + flags


def products(pe: int, simd: int, a: int, signed: bool, w: int, how: Multiplier, dsp: Dsp = DSP48E1) -> Resources:
    """PE x SIMD multipliers of inputs of a bits with signed weights of w: in LUTs, or a DSP each.

    Args:
        signed: whether the inputs are; unsigned ones take a bit more of a DSP's signed port.
    """
    if how == "lut":
        return Resources(lut=pe * simd * multiplier(a, w))
    return Resources(dsp=pe * simd * dsp_blocks(a + (not signed), w, dsp))


def packed_array(pe: int, simd: int, a: int, w: int, packing: Packing) -> Resources:
    """PE x SIMD products of inputs of a bits with weights of w, several rows to a DSP block, and their sums; not measured.

    Each weight but the lowest of an operand is added to those below it, a bit more than itself; the chain of a step's blocks
    ends in an accumulator of all lanes. Registers of a chain are the blocks' own.
    """
    groups = packing.groups(pe)
    joined = (pe - groups) * simd * (w + 1)
    sums = times(accumulator(packing.products * packing.lane), groups)
    return Resources(lut=joined, ff=simd * a + pe * simd * w, dsp=packing.blocks(pe, simd)) + sums


def mac_array(pe: int, simd: int, a: int, w: int, p: int) -> Resources:
    """What stands around PE x SIMD products of a x w bits: a tree and an accumulator of p bits for each PE, and registers.

    Registers hold the inputs, each product, each level of the tree and the sums; a memory of weights brings its own.

    LUTs with multipliers in LUTs, against yosys on 12 datapaths: median 4 %, worst 8 %.
    """
    narrow = min(a + w, p)
    one = tree(simd, narrow, p) + accumulator(p)
    return Resources(pe * one.lut, simd * a + pe * (simd * narrow + one.ff))


def match_array(pe: int, simd: int, p: int) -> Resources:
    """The same of bits that match: XNOR goes into the count of ones."""
    count = count_ones(simd)
    return Resources(
        pe * (count.lut + simd / 2 + p),
        simd + pe * (simd + count.ff + p),
    )


def signed_digits(values: IntArray) -> IntArray:
    """Non-zero digits -1, +1 in the shortest signed binary form of each integer: popcount of n xor 3n."""
    n = np.abs(values.astype(np.int64))
    rest = (n ^ (3 * n)).astype(np.uint64)
    return np.asarray(np.unpackbits(rest[..., None].view(np.uint8), axis=-1).sum(axis=-1), dtype=np.int64)


def constant_multiplier(a: int, value: int) -> float:
    """LUTs of a product of a bits with a constant: an adder between two of its signed digits; powers of two are wiring."""
    digits = int(signed_digits(np.array([value]))[0])
    return max(0, digits - 1) * (a + abs(value).bit_length() / 2)


def constant_rows(weights: IntArray, a: int, p: int) -> Resources:
    """Rows of constant weights, shape (rows, depth), each unrolled on a-bit inputs into sums of p bits.

    A zero weight costs nothing. Weights of one row are numbers of different widths; trees start at their mean.

    LUTs against yosys on 4 datapaths: median 15 %, worst 20 % too few.
    """
    taken = weights != 0
    counts = taken.sum(axis=1)
    many = int(counts.sum())
    if not many:
        return Resources()
    digits = signed_digits(weights)[taken]
    bits = np.frexp(np.abs(weights[taken]).astype(np.float64))[1].astype(np.int64)  # bit lengths
    adders = float(((digits - 1) * (a + bits / 2)).sum())
    width = min(a + ceil(float(bits.mean())), p)
    total = Resources(lut=adders, ff=weights.shape[1] * a + int(np.minimum(a + bits, p).sum()))
    for terms, rows in zip(*np.unique(counts[counts > 0], return_counts=True), strict=True):
        row = tree(int(terms), width, p)
        total += Resources(int(rows) * (row.lut + p), int(rows) * (row.ff + p))
    return total


def thresholds(levels: int, width: int, code: int, constant: bool) -> Resources:
    """One lane of parallel comparisons of x with `levels` thresholds, counted; memories of thresholds apart.

    LUTs against yosys on 6 datapaths: median 9 %, worst 36 % too few (constant thresholds).
    """
    count = count_ones(levels)
    return Resources(
        levels * comparator(width, constant) + count.lut,
        width + levels + code,
    )


def parallel_memories(lanes: int, levels: int, width: int, channels: int) -> Resources:
    """Thresholds of `channels` channels a lane, all levels at once: a memory each; columns in LUTs are shared where alike."""
    if channels <= 1:
        return Resources()
    if width * channels < SMALL_MEMORY:
        return memory(lanes * levels * width, channels, "distributed", rom=True)
    return times(memory(width, channels, "block", rom=True), lanes * levels)


def threshold_search(depth: int, width: int, channels: int) -> Resources:
    """One lane of a binary search in `depth` stages; stage d reads one of 2^d thresholds a channel, then compares.

    LUTs against yosys on 4 datapaths: median 17 %, worst 28 % too many.
    """
    spent = registers(width)
    for d in range(depth):
        words = channels << d
        spent += placed(width, words, rom=True) + Resources(comparator(width, words == 1), 2 * width + 2 * d + 1)
    return spent


def scaled_sum(width: int, factor: int, wide: int) -> Resources:
    """What stands around a product with a factor: its sum of `wide` bits with a bias, and registers."""
    return Resources(wide, width + (width + factor if factor else 0) + wide)


def rounding_shift(width: int, shift: int, half_even: bool, code: int) -> Resources:
    """A sum of `width` bits rounded by a shift and clamped into `code` bits; where ties go to even an adder before that.

    LUTs with its sum and product, against yosys on 6 datapaths: median 11 %, worst 16 % too few.
    """
    left = width + 1 - shift
    rounding = Resources(left, left) if half_even and shift else Resources()
    return rounding + Resources(max(0, width - shift - code) / 3 + code, code)


def times(part: Resources, count: int) -> Resources:
    """`count` of a part."""
    return Resources(part.lut * count, part.ff * count, part.dsp * count, part.bram18 * count, part.uram * count)


def total(parts: Iterable[Resources]) -> Resources:
    return sum(parts, Resources())
