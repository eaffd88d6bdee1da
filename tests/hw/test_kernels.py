"""Every kernel but the window, in both g++ builds, against numpy."""

import numpy as np
import pytest
from hw_harness import (
    Case,
    ap,
    by_lane,
    call,
    compile_library,
    limits,
    pe_widths,
    program,
    random_integers,
    table,
    wrap_rows,
)

ROM_BITS = {"unsigned char": 8, "unsigned short": 16, "unsigned int": 32, "unsigned long long": 64}


def pack_weights(weights: np.ndarray, bits: int, simd: int, pe: int, rom: str) -> np.ndarray:
    """(MH, MW) weights to [PE][NF*SF][WORDS] memory words."""
    mh, mw = weights.shape
    per_word = ROM_BITS[rom] // bits
    words = -(-simd // per_word)
    packed = np.zeros((pe, (mh // pe) * (mw // simd), words), dtype=object)
    for row, col in np.ndindex(weights.shape):
        step, lane = (row // pe) * (mw // simd) + col // simd, col % simd
        packed[row % pe, step, lane // per_word] += (int(weights[row, col]) % (1 << bits)) << (lane % per_word * bits)
    return packed


def matvec_case(name, x_type, w_type, acc, mw, mh, simd, pe, vectors, rom, seed, x=None, weights=None, start=None):
    rng = np.random.default_rng(seed)
    x = random_integers(rng, *x_type, (vectors, mw)) if x is None else x
    weights = random_integers(rng, *w_type, (mh, mw)) if weights is None else weights
    start = rng.integers(*limits(min(acc, 12), True), size=mh, endpoint=True) if start is None else start
    total = x.astype(object) @ weights.T.astype(object) + start
    start_table = np.swapaxes(start.reshape(mh // pe, pe), 0, 1)
    packed, widths = pack_weights(weights, w_type[0], simd, pe, rom), pe_widths(rng, acc, pe)
    types = f"{ap(*x_type)}, {ap(*w_type)}, ap_int<{acc}>"
    return Case(
        name=f"matvec_{name}",
        tables=table(rom, "weights", packed) + table("short", "start", start_table) + table("unsigned char", "widths", widths),
        call=f"matvec<{types}, {mw}, {mh}, {simd}, {pe}, {vectors}>(in, out, weights, start, widths);",
        lanes_in=simd, type_in=ap(*x_type), lanes_out=pe, type_out=f"ap_int<{acc}>",
        inputs=x, expected=wrap_rows(total, widths).reshape(-1),
    )  # fmt: skip


def matvec_cases():
    u, s = False, True
    shapes = [
        # x, weight, accumulator, MW, MH, SIMD, PE, vectors, memory word
        ((8, u), (4, s), 20, 64, 16, 8, 8, 3, "unsigned int"),
        ((8, u), (4, s), 13, 27, 6, 9, 3, 2, "unsigned long long"),
        ((16, s), (8, s), 40, 12, 4, 3, 2, 2, "unsigned int"),
        ((16, u), (8, s), 31, 10, 5, 5, 5, 2, "unsigned long long"),
        ((16, u), (16, s), 40, 20, 2, 20, 1, 2, "unsigned long long"),
        ((16, u), (16, u), 36, 6, 2, 6, 2, 2, "unsigned short"),
        ((1, u), (1, u), 6, 33, 4, 11, 2, 3, "unsigned short"),
        ((1, u), (1, s), 7, 40, 4, 20, 4, 2, "unsigned char"),
        ((1, s), (2, s), 5, 9, 3, 1, 1, 2, "unsigned char"),
        ((2, u), (2, s), 1, 8, 8, 4, 8, 2, "unsigned char"),
        ((3, s), (3, s), 11, 50, 7, 25, 7, 1, "unsigned long long"),
        ((4, u), (5, s), 33, 7, 1, 7, 1, 1, "unsigned long long"),
        ((8, s), (8, s), 32, 1, 1, 1, 1, 4, "unsigned char"),
        ((13, s), (7, u), 24, 30, 6, 6, 2, 2, "unsigned long long"),
    ]
    return [matvec_case(str(i), *shape, seed=100 + i) for i, shape in enumerate(shapes)]


def witness_pair():
    """A row at the top of its proven interval, in the accumulator that just holds it and in one a bit narrower."""
    weights = np.array([[7, -8, 3, 5, -1, 6]])
    x = np.where(weights > 0, 255, 0)
    top = int((weights * x).sum())
    needed = top.bit_length() + 1
    start = np.zeros(1, dtype=int)
    return [
        matvec_case(
            name, (8, False), (4, True), width, 6, 1, 3, 1, 1, "unsigned short", 5, x=x, weights=weights, start=start
        )
        for name, width in (("witness", needed), ("witness_narrow", needed - 1))
    ]


def thresholds_case(name, x_type, out_type, c, lanes, levels, frames, directed, seed):
    rng = np.random.default_rng(seed)
    x = random_integers(rng, *x_type, (frames, c))
    t = np.sort(random_integers(rng, *x_type, (c, levels)), axis=1)
    x[:, 0] = t[0, rng.integers(levels, size=frames)]  # exactly on a threshold: not above it
    direction = rng.choice([-1, 1], size=c) if directed else np.ones(c, dtype=int)
    low, high = limits(*out_type)
    base = np.where(direction < 0, high, low)
    expected = base + direction * (x[:, :, None] > t).sum(axis=2)
    ctype = "signed char" if x_type[0] < 8 else "int" if x_type[0] < 32 else "long long"
    tables = [table(ctype, "t", by_lane(t, lanes)), table("int", "base", by_lane(base, lanes))]
    tables += [table("signed char", "dir", by_lane(direction, lanes))] * directed
    return Case(
        name=f"thresholds_{name}", tables="\n".join(tables),
        call=f"thresholds<{ap(*x_type)}, {ap(*out_type)}, {lanes}, {c}, {levels}, {frames * c // lanes}>"
        f"(in, out, t, base{', dir' * directed});",
        lanes_in=lanes, type_in=ap(*x_type), lanes_out=lanes, type_out=ap(*out_type),
        inputs=x, expected=expected.reshape(-1),
    )  # fmt: skip


def rounded(t, shift, half_even):
    """t / 2**shift on Python integers: floor, or nearest with ties to even."""
    quotient, rest = t >> shift, t & ((1 << shift) - 1)
    if half_even and shift:
        half = 1 << (shift - 1)
        quotient += rest > half or (rest == half and quotient & 1)
    return quotient


def shift_case(name, x_type, out_type, sum_width, c, lanes, s, half_even, seed, factor_bits=0):
    rng = np.random.default_rng(seed)
    frames = 40
    x = random_integers(rng, *x_type, (frames, c))
    bias = rng.integers(-(1 << (x_type[0] - 2)), 1 << (x_type[0] - 2), size=c)
    factor = random_integers(rng, factor_bits, True, (c,)) if factor_bits else np.ones(c, dtype=int)
    if not factor_bits and s:
        ties = (np.arange(-frames // 2, frames // 2)[:, None] << s) + (1 << (s - 1)) - bias
        low, high = limits(*x_type)
        x[:, 0::2] = np.where((ties >= low) & (ties <= high), ties, x)[:, 0::2]
    low, high = limits(*out_type)
    t = x.astype(object) * factor.astype(object) + bias.astype(object)
    expected = np.vectorize(lambda v: min(max(rounded(int(v), s, half_even), low), high))(t).astype(np.int64)
    tables = table("long long", "bias", by_lane(bias, lanes)) + table("int", "factor", by_lane(factor, lanes))
    kernel, more, arguments = "shift", "", "bias"
    if factor_bits:
        kernel, more, arguments = "multiply_shift", f"ap_int<{factor_bits}>, ", "factor, bias"
    return Case(
        name=f"shift_{name}", tables=tables,
        call=f"{kernel}<{ap(*x_type)}, {ap(*out_type)}, {more}ap_int<{sum_width}>, {lanes}, {c}, {s}, {low}, {high}, "
        f"{str(half_even).lower()}, {frames * c // lanes}>(in, out, {arguments});",
        lanes_in=lanes, type_in=ap(*x_type), lanes_out=lanes, type_out=ap(*out_type),
        inputs=x, expected=expected.reshape(-1),
    )  # fmt: skip


def requantize_cases():
    u, s = False, True
    rng = np.random.default_rng(3)
    x, value = random_integers(rng, 9, s, (5, 6)), random_integers(rng, 4, s, (6,))
    return [
        thresholds_case("rising", (14, s), (4, u), 6, 2, 15, 20, False, 20),
        thresholds_case("mixed", (20, s), (3, s), 4, 4, 7, 30, True, 21),
        thresholds_case("unsigned_narrow", (6, u), (2, u), 3, 1, 3, 30, True, 22),
        thresholds_case("one_level_wide", (40, s), (1, u), 5, 5, 1, 20, False, 23),
        shift_case("floor", (16, s), (8, u), 17, 6, 3, 5, False, 30),
        shift_case("even", (16, s), (8, s), 17, 6, 2, 6, True, 31),
        shift_case("even_by_one", (9, s), (4, s), 10, 4, 4, 1, True, 32),
        shift_case("none", (10, s), (6, s), 11, 2, 1, 0, True, 33),
        shift_case("unsigned_in", (12, u), (5, u), 14, 4, 2, 7, True, 34),
        shift_case("wide", (40, s), (8, s), 41, 4, 2, 33, True, 35),
        shift_case("beyond_width", (6, s), (3, s), 7, 2, 2, 12, True, 36),
        shift_case("multiply", (13, s), (8, s), 22, 6, 3, 14, True, 37, factor_bits=9),
        shift_case("multiply_floor", (20, s), (4, u), 44, 4, 4, 30, False, 38, factor_bits=23),
        Case("constant", table("int", "value", by_lane(value, 2)),
             "constant<ap_int<9>, ap_int<4>, 2, 6, 15>(in, out, value);",
             2, "ap_int<9>", 2, "ap_int<4>", x, np.tile(value, 5)),
    ]  # fmt: skip


LANE_CHANGES = [(6, 2, 5, True), (2, 6, 16, False), (4, 4, 1, False), (1, 8, 7, True), (12, 1, 3, True)]
POOLS = [(6, 2, 4, 8, True), (3, 3, 9, 5, False), (16, 1, 6, 7, True), (4, 4, 1, 16, True), (24, 2, 3, 1, False)]
BEATS = [(1, 8, False, True), (3, 5, True, False), (17, 4, True, True), (7, 20, True, False), (512, 8, False, False)]

# Out through axis_write, every beat checked, and back in through axis_read.
AXIS_ROUND_TRIP = """
    hls::stream<BEAT> beats("beats"), checked("checked");
    axis_write<BEAT, LANE, LANES, 4, SIDEBAND>(in, beats);
    for (int t = 0; t < 4; t++) {
      const BEAT b = beats.read();
      const ap_uint<BYTES> ones = -1;
      if (b.last != (t == 3) || b.keep != ones || b.strb != ones) throw std::runtime_error("bad beat");
      checked.write(b);
    }
    axis_read<BEAT, LANE, LANES, 4>(checked, out);
"""

BROADCAST = """
    Words<2, ap_int<6> > a("a"), b("b");
    broadcast<ap_int<6>, 2, 5>(in, a, b);
    while (!a.empty()) out.write(a.read());
    while (!b.empty()) out.write(b.read());
"""


def stream_cases():
    rng = np.random.default_rng(4)
    cases = []
    for n_in, n_out, *type_ in LANE_CHANGES:
        x, lane = random_integers(rng, *type_, (48,)), ap(*type_)
        kernel = f"change_lanes<{lane}, {n_in}, {n_out}, 48>(in, out);"
        cases.append(Case(f"lanes_{n_in}_{n_out}", "", kernel, n_in, lane, n_out, lane, x, x))
    for c, lanes, taps, *type_ in POOLS:
        x, lane = random_integers(rng, *type_, (5, taps, c)), ap(*type_)
        kernel, expected = f"window_max<{lane}, {lanes}, {c}, {taps}, 5>(in, out);", x.max(axis=1)
        cases.append(Case(f"window_max_{c}_{lanes}_{taps}", "", kernel, lanes, lane, lanes, lane, x, expected))
    for lanes, width, signed, sideband in BEATS:
        x, lane = random_integers(rng, width, signed, (4, lanes)), ap(width, signed)
        size, side = -(-lanes * width // 8), int(sideband)
        kernel = AXIS_ROUND_TRIP.replace("BEAT", f"ap_axiu<{8 * size}, {side}, {side}, {side}>")
        for word, text in {"LANES": lanes, "LANE": lane, "SIDEBAND": str(sideband).lower(), "BYTES": size}.items():
            kernel = kernel.replace(word, str(text))
        cases.append(Case(f"axis_{lanes}_{width}", "", kernel, lanes, lane, lanes, lane, x, x))
    x, lane = random_integers(rng, 6, True, (10,)), "ap_int<6>"
    cases.append(Case("broadcast_2", "", BROADCAST, 2, lane, 2, lane, x, np.tile(x, 2)))
    hungry = Case("too_few_words", "", "window_max<ap_int<6>, 1, 2, 2, 2>(in, out);", 1, lane, 1, lane, x[:7], x)
    return cases, hungry


STREAM_CASES, HUNGRY = stream_cases()
WITNESS, NARROW = witness_pair()
CASES = matvec_cases() + requantize_cases() + STREAM_CASES + [WITNESS]
SOURCE = program([*CASES, NARROW, HUNGRY])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_kernel_matches_numpy(case, build):
    np.testing.assert_array_equal(call(compile_library(SOURCE, build).result(), case), case.expected.reshape(-1))


def test_accumulator_one_bit_too_narrow_shows(build):
    library = compile_library(SOURCE, build).result()
    narrow = call(library, NARROW)
    np.testing.assert_array_equal(narrow, NARROW.expected)
    top = 255 * (7 + 3 + 5 + 6)
    assert call(library, WITNESS).tolist() == [top]
    assert narrow.tolist() == [top - (1 << (top.bit_length()))]


def test_reading_an_empty_stream_throws(build):
    with pytest.raises(RuntimeError) as error:
        call(compile_library(SOURCE, build).result(), HUNGRY)
    assert str(error.value) == "stream in: read while empty; its producer wrote too few words"
