"""Depthwise, grouped and tiled kernels, joins of two streams, search and table requantizers: both builds against numpy."""

import numpy as np
import pytest
from hw_harness import (
    WARNINGS,
    Case,
    ap,
    by_lane,
    call,
    compile_library,
    flags,
    limits,
    pe_widths,
    program,
    random_integers,
    run_gpp,
    table,
    wrap,
    wrap_rows,
)

U, S = False, True
ROM_BITS = {"unsigned char": 8, "unsigned short": 16, "unsigned int": 32, "unsigned long long": 64}


def pack(values: np.ndarray, bits: int, rom: str) -> np.ndarray:
    """Pack the last axis into memory words, from bit 0 of each."""
    per_word = ROM_BITS[rom] // bits
    *front, count = values.shape
    padded = np.zeros((*front, -(-count // per_word) * per_word), dtype=object)
    padded[..., :count] = values % (1 << bits)
    shifts = np.array([1 << (bits * k) for k in range(per_word)], dtype=object)
    return (padded.reshape(*front, -1, per_word) * shifts).sum(axis=-1)


def rows_of_memory(weights: np.ndarray, bits: int, simd: int, pe: int, rom: str) -> np.ndarray:
    """(MH, MW) weights to [PE][NF*SF][WORDS]."""
    steps = np.swapaxes(weights.reshape(-1, pe, weights.shape[1]), 0, 1).reshape(pe, -1, simd)
    return pack(steps, bits, rom)


def exact_sum(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """x @ weights.T in Python integers."""
    return x.astype(object) @ weights.astype(object).T


def pe_table(widths: np.ndarray) -> str:
    return table("unsigned char", "widths", widths)


def depthwise_case(name, x_type, w_type, acc, c, taps, lanes, pixels, rom, seed, weights=None):
    rng = np.random.default_rng(seed)
    x = random_integers(rng, *x_type, (pixels, taps, c))
    weights = random_integers(rng, *w_type, (taps, c)) if weights is None else weights
    start = rng.integers(*limits(min(acc, 12), True), size=c, endpoint=True)
    total = (x.astype(object) * weights).sum(axis=1) + start
    packed, widths = pack(weights.reshape(-1, lanes), w_type[0], rom), pe_widths(rng, acc, lanes)
    types = f"{ap(*x_type)}, {ap(*w_type)}, ap_int<{acc}>"
    return Case(
        name=f"depthwise_{name}",
        tables=table(rom, "weights", packed) + table("short", "start", by_lane(start, lanes)) + pe_table(widths),
        call=f"depthwise<{types}, {c}, {taps}, {lanes}, {pixels}>(in, out, weights, start, widths);",
        lanes_in=lanes, type_in=ap(*x_type), lanes_out=lanes, type_out=f"ap_int<{acc}>",
        inputs=x, expected=wrap_rows(total, widths),
    )  # fmt: skip


def depthwise_cases():
    return [
        # x, weight, accumulator, C, TAPS, LANES, PIXELS, memory word
        depthwise_case("registers", (8, U), (4, S), 15, 12, 9, 4, 5, "unsigned int", 1),
        depthwise_case("memory", (8, S), (5, S), 16, 24, 4, 2, 3, "unsigned short", 2),
        depthwise_case("memory_one_lane", (16, S), (16, S), 40, 9, 3, 1, 2, "unsigned short", 3),
        depthwise_case("all_lanes_one_pixel", (4, U), (3, S), 9, 21, 9, 21, 1, "unsigned long long", 4),
        depthwise_case("one_tap", (6, S), (6, U), 20, 16, 1, 2, 4, "unsigned char", 5),
        depthwise_case("wraps", (8, U), (8, S), 12, 10, 25, 5, 3, "unsigned char", 6),
        depthwise_case("pool", (8, U), (1, U), 13, 6, 16, 3, 4, "unsigned char", 7, weights=np.ones((16, 6), dtype=int)),
    ]  # fmt: skip


def grouped_case(name, x_type, w_type, acc, taps, c, mh, groups, simd, pe, vectors, rom, seed):
    rng = np.random.default_rng(seed)
    cg, og = c // groups, mh // groups
    x = random_integers(rng, *x_type, (vectors, taps, c))
    weights = random_integers(rng, *w_type, (mh, taps * cg))
    start = rng.integers(*limits(min(acc, 12), True), size=mh, endpoint=True)
    parts = [
        exact_sum(x[:, :, g * cg : (g + 1) * cg].reshape(vectors, -1), weights[g * og : (g + 1) * og])
        for g in range(groups)
    ]
    packed, widths = rows_of_memory(weights, w_type[0], simd, pe, rom), pe_widths(rng, acc, pe)
    types = f"{ap(*x_type)}, {ap(*w_type)}, ap_int<{acc}>"
    return Case(
        name=f"grouped_{name}",
        tables=table(rom, "weights", packed) + table("short", "start", by_lane(start, pe)) + pe_table(widths),
        call=f"grouped_matvec<{types}, {taps}, {c}, {mh}, {groups}, {simd}, {pe}, {vectors}>(in, out, weights, start, widths);",
        lanes_in=simd, type_in=ap(*x_type), lanes_out=pe, type_out=f"ap_int<{acc}>",
        inputs=x, expected=wrap_rows(np.concatenate(parts, axis=1) + start, widths),
    )  # fmt: skip


def grouped_cases():
    return [
        # x, weight, accumulator, TAPS, C, MH, GROUPS, SIMD, PE, VECTORS, memory word
        grouped_case("two", (8, U), (4, S), 18, 9, 8, 12, 2, 2, 3, 3, "unsigned char", 11),
        grouped_case("three_all_parallel", (5, S), (5, S), 16, 4, 9, 6, 3, 3, 2, 4, "unsigned short", 12),
        grouped_case("four_pe_one", (8, S), (8, S), 24, 3, 16, 8, 4, 4, 1, 1, "unsigned long long", 13),
        grouped_case("depth_multiplier", (6, U), (3, S), 9, 9, 5, 10, 5, 1, 1, 2, "unsigned char", 14),
        grouped_case("depthwise_as_groups", (8, U), (4, S), 16, 2, 3, 3, 3, 1, 1, 3, "unsigned char", 15),
        grouped_case("least_distance", (4, U), (4, S), 12, 1, 2, 2, 2, 1, 1, 5, "unsigned char", 16),
        grouped_case("one_tap_wraps", (16, U), (16, S), 31, 1, 12, 4, 2, 6, 1, 2, "unsigned int", 17),
    ]  # fmt: skip


def tiled_case(name, x_type, w_type, widths, mw, mh, simd, pe, tile, vectors, rom, seed, x=None, weights=None):
    rng = np.random.default_rng(seed)
    inner, outer = widths
    x = random_integers(rng, *x_type, (vectors, mw)) if x is None else x
    weights = random_integers(rng, *w_type, (mh, mw)) if weights is None else weights
    start = rng.integers(*limits(min(outer, 12), True), size=mh, endpoint=True)
    total = start.astype(object)
    for first in range(0, mw, tile):
        total = total + wrap(exact_sum(x[:, first : first + tile], weights[:, first : first + tile]), inner)
    packed, widths = rows_of_memory(weights, w_type[0], simd, pe, rom), pe_widths(rng, outer, pe)
    types = f"{ap(*x_type)}, {ap(*w_type)}, ap_int<{inner}>, ap_int<{outer}>"
    return Case(
        name=f"tiled_{name}",
        tables=table(rom, "weights", packed) + table("short", "start", by_lane(start, pe)) + pe_table(widths),
        call=f"matvec_tiled<{types}, {mw}, {mh}, {simd}, {pe}, {tile}, {vectors}>(in, out, weights, start, widths);",
        lanes_in=simd, type_in=ap(*x_type), lanes_out=pe, type_out=f"ap_int<{outer}>",
        inputs=x, expected=wrap_rows(total, widths),
    )  # fmt: skip


def tiled_cases():
    return [
        # x, weight, inner and outer accumulator, MW, MH, SIMD, PE, TILE, VECTORS, memory word
        tiled_case("even", (8, U), (4, S), (14, 17), 32, 6, 4, 3, 8, 3, "unsigned short", 21),
        tiled_case("short_last_tile", (8, S), (4, S), (13, 16), 27, 4, 3, 2, 12, 2, "unsigned short", 22),
        tiled_case("tile_is_simd", (6, U), (3, S), (10, 13), 20, 5, 4, 1, 4, 2, "unsigned char", 23),
        tiled_case("one_input_a_tile", (4, S), (4, S), (8, 11), 7, 2, 1, 2, 1, 2, "unsigned char", 24),
        tiled_case("one_tile", (8, U), (8, S), (20, 21), 10, 3, 5, 3, 10, 1, "unsigned long long", 25),
        tiled_case("tile_beyond_row", (8, U), (8, S), (19, 22), 9, 2, 9, 1, 18, 2, "unsigned char", 26),
        tiled_case("both_wrap", (8, U), (8, S), (11, 13), 50, 4, 5, 2, 20, 2, "unsigned int", 27),
        tiled_case("tree_a_tile", (8, U), (4, S), (13, 17), 24, 4, 12, 2, 3, 2, "unsigned char", 29),
        tiled_case("trees_wrap", (8, S), (8, S), (12, 15), 20, 6, 20, 3, 5, 3, "unsigned long long", 30),
        tiled_case("a_tree_an_input", (4, U), (5, S), (7, 12), 8, 2, 4, 1, 1, 2, "unsigned int", 31),
        tiled_case("wide", (16, U), (16, S), (36, 40), 24, 2, 6, 1, 12, 1, "unsigned long long", 28),
    ]  # fmt: skip


# One row at the top of its second tile's interval, 255 * 15: 13 bits hold it, 12 do not.
TILE_TOP = {
    "x": np.array([[0, 0, 0, 255, 0, 255]]),
    "weights": np.array([[7, -8, 3, 7, -8, 8]]),
}


def witness_pair():
    return [
        tiled_case(name, (8, U), (5, S), (inner, 16), 6, 1, 3, 1, 3, 1, "unsigned short", 5, **TILE_TOP)
        for name, inner in (("witness", 13), ("witness_narrow", 12))
    ]


JOIN = """
    Words<{lanes}, {a} > first("first");
    Words<{lanes}, {b} > second("second");
    while (first.size() < {words}) first.write(convert_lanes<{both}, {a}, {lanes}>(in.read()));
    while (!in.empty()) second.write(convert_lanes<{both}, {b}, {lanes}>(in.read()));
    {kernel}(first, second, out);
    if (!first.empty() || !second.empty()) throw std::runtime_error("words left");
"""


def join_case(name, a_type, b_type, out_type, lanes, a, b, kernel, expected):
    """A kernel of two streams: its inputs travel one after the other through `in`, in a type that holds both."""
    both = ap(max(a_type[0], b_type[0]) + 1, True)
    text = JOIN.format(lanes=lanes, a=ap(*a_type), b=ap(*b_type), both=both, words=a.size // lanes, kernel=kernel)
    x = np.concatenate([a.reshape(-1), b.reshape(-1)])
    return Case(name, "", text, lanes, both, lanes, ap(*out_type), x, expected)


def add_case(name, a_type, b_type, out_type, lanes, count, factors, seed):
    rng = np.random.default_rng(seed)
    a, b = (random_integers(rng, *t, (count * lanes,)) for t in (a_type, b_type))
    fa, fb = factors
    kernel = f"scaled_add<{ap(*a_type)}, {ap(*b_type)}, {ap(*out_type)}, {lanes}, {count}, {fa}, {fb}>"
    expected = wrap(a.astype(object) * fa + b.astype(object) * fb, *out_type).astype(np.int64)
    return join_case(f"add_{name}", a_type, b_type, out_type, lanes, a, b, kernel, expected)


def concat_case(name, a_type, b_type, out_type, channels, lanes, pixels, seed):
    rng = np.random.default_rng(seed)
    a, b = (random_integers(rng, *t, (pixels, c)) for t, c in zip((a_type, b_type), channels, strict=True))
    types = f"{ap(*a_type)}, {ap(*b_type)}, {ap(*out_type)}"
    kernel = f"concat<{types}, {channels[0]}, {channels[1]}, {lanes}, {pixels}>"
    expected = np.concatenate([a, b], axis=1)
    return join_case(f"concat_{name}", a_type, b_type, out_type, lanes, a, b, kernel, expected)


def join_cases():
    return [
        add_case("plain", (8, U), (8, S), (10, S), 4, 7, (1, 1), 31),
        add_case("factors", (8, S), (4, S), (24, S), 3, 9, (-181, 1 << 15), 32),
        add_case("subtract_unsigned", (16, U), (16, U), (17, S), 2, 20, (1, -1), 33),
        add_case("wide_wraps", (31, S), (20, S), (40, S), 1, 30, (123457, -(1 << 30)), 34),
        add_case("narrow_wraps", (6, S), (6, S), (6, S), 5, 8, (3, 0), 35),
        concat_case("mixed", (4, U), (5, S), (5, S), (6, 4), 2, 3, 36),
        concat_case("one_word_each", (8, S), (3, U), (8, S), (3, 3), 3, 4, 37),
        concat_case("one_pixel", (1, U), (7, U), (16, S), (1, 5), 1, 1, 38),
    ]  # fmt: skip


def search_case(name, x_type, out_type, c, lanes, levels, depth, frames, directed, seed):
    rng = np.random.default_rng(seed)
    x = random_integers(rng, *x_type, (frames, c))
    t = np.sort(random_integers(rng, *x_type, (c, levels)), axis=1)
    x[::2] = t[np.arange(c), rng.integers(levels, size=(frames, c))][::2]  # on a threshold: not above it
    x[1::4] = np.minimum(x[::4] + 1, limits(*x_type)[1])[: len(x[1::4])]  # just above it
    direction = rng.choice([-1, 1], size=c) if directed else np.ones(c, dtype=int)
    if directed:
        direction[0] = -1
    low, high = limits(*out_type)
    base = np.where(direction < 0, high, low)
    expected = base + direction * (x[:, :, None] > t).sum(axis=2)
    padded = np.full((c, 2**depth - 1), limits(*x_type)[1])
    padded[:, :levels] = t
    ctype = "signed char" if x_type[0] < 8 else "short" if x_type[0] < 16 else "int" if x_type[0] < 32 else "long long"
    tables = [table("int", "base", by_lane(base, lanes))]
    tables += [table("signed char", "dir", by_lane(direction, lanes))] * directed
    for d in range(depth):
        stage = padded[:, 2 ** (depth - 1 - d) - 1 :: 2 ** (depth - d)]
        tables.append(table(ctype, f"t{d}", by_lane(stage, lanes)))
    stages = ", ".join(f"t{d}" for d in range(depth))
    return Case(
        name=f"search_{name}", tables="\n".join(tables),
        call=f"threshold_search<{ap(*x_type)}, {ap(*out_type)}, {lanes}, {c}, {depth}, {frames * c // lanes}, {ctype}, int>"
        f"(in, out, base{', dir' * directed}, {stages});",
        lanes_in=lanes, type_in=ap(*x_type), lanes_out=lanes, type_out=ap(*out_type),
        inputs=x, expected=expected,
    )  # fmt: skip


def table_case(name, x_type, domain, out_type, c, lanes, frames, shared, seed):
    rng = np.random.default_rng(seed)
    lo, hi = domain
    x = rng.integers(lo, hi, size=(frames, c), endpoint=True)
    x[0], x[-1] = lo, hi
    rows = random_integers(rng, *out_type, (1 if shared else c, hi - lo + 1)).repeat(c if shared else 1, axis=0)
    expected = rows[np.arange(c), x - lo]
    rom = rows[:lanes] if shared else by_lane(rows, lanes)
    types = f"{ap(*x_type)}, {ap(*out_type)}"
    return Case(
        name=f"table_{name}", tables=table("short", "rom", rom),
        call=f"table<{types}, {lanes}, {c}, {lo}, {hi - lo + 1}, {frames * c // lanes}, short>(in, out, rom);",
        lanes_in=lanes, type_in=ap(*x_type), lanes_out=lanes, type_out=ap(*out_type),
        inputs=x, expected=expected,
    )  # fmt: skip


def requantize_cases():
    return [
        search_case("levels255", (17, S), (8, U), 4, 2, 255, 8, 60, False, 41),
        search_case("levels255_mixed", (12, U), (8, S), 3, 1, 255, 8, 60, True, 42),
        search_case("padded", (9, S), (4, U), 6, 6, 11, 4, 40, False, 43),
        search_case("padded_falling", (7, S), (3, S), 4, 2, 5, 4, 40, True, 44),
        search_case("one_stage_wide", (40, S), (1, U), 3, 3, 1, 1, 20, True, 45),
        table_case("per_channel", (8, S), (-128, 127), (5, S), 6, 2, 40, False, 51),
        table_case("far_domain", (32, U), (4_000_000_000, 4_000_000_006), (4, U), 3, 1, 20, False, 52),
        table_case("shared", (6, U), (3, 40), (8, S), 4, 4, 30, True, 53),
        table_case("shared_groups", (10, S), (-300, -299), (16, S), 6, 3, 20, True, 54),
        table_case("one_value", (4, S), (-8, -8), (2, U), 2, 1, 3, False, 55),
    ]  # fmt: skip


KERNELS = ("add", "concat", "depthwise", "grouped_matvec", "matvec_tiled", "requantize_search", "requantize_table")
INCLUDES = "".join(f'#include "{name}.hpp"\n' for name in KERNELS)
WITNESS, NARROW = witness_pair()
SEARCHES_AND_JOINS = requantize_cases() + join_cases()
CASES = [*depthwise_cases(), *grouped_cases(), *tiled_cases(), *SEARCHES_AND_JOINS, WITNESS]
SOURCE = INCLUDES + program([*CASES, NARROW])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_kernel_matches_numpy(case, build):
    np.testing.assert_array_equal(call(compile_library(SOURCE, build).result(), case), case.expected.reshape(-1))


def test_inner_accumulator_one_bit_too_narrow_shows(build):
    library = compile_library(SOURCE, build).result()
    narrow = call(library, NARROW)
    np.testing.assert_array_equal(narrow, NARROW.expected.reshape(-1))
    assert call(library, WITNESS).tolist() == [narrow[0] + (1 << 12)]


def test_optimised_native_build_has_no_warnings(tmp_path):
    # -O3, as the C simulation compiles; the harness's -O0 sees no use of what was not initialised.
    source = tmp_path / "optimised.cpp"
    source.write_text(INCLUDES + program([*depthwise_cases()[:2], grouped_cases()[0], tiled_cases()[1]]))
    done = run_gpp([*flags("native"), *WARNINGS, "-O3", "-c", str(source), "-o", str(tmp_path / "optimised.o")])
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("grouped_matvec<T, T, T, 1, 6, 4, 2, 2, 1, 1>(s2, s1, w4, start4, one);",
         "SIMD must divide the number of channels of a group"),
        ("matvec_tiled<T, T, T, T, 6, 2, 2, 1, 3, 1>(s2, s1, w6, start2, one);",
         "SIMD must divide the tile, or be a multiple of it"),
        ("threshold_search<T, T, 1, 1, 2, 1, int, int>(s1, s1, base, t0, t0);", "stage d has 2^d thresholds a channel"),
        ("threshold_search<T, T, 1, 1, 2, 1, int, int>(s1, s1, base, t0);", "the search has one memory a stage"),
    ],
)  # fmt: skip
def test_misuse_is_refused_with_a_sentence(call, sentence, tmp_path):
    source = tmp_path / "misuse.cpp"
    memories = (
        "const unsigned char w4[1][4][1] = {}, w6[1][6][1] = {}, one[1] = {1};\n"
        "const int start2[1][2] = {}, start4[1][4] = {}, base[1][1] = {}, t0[1][1][1] = {};\n"
    )
    streams = "typedef ap_int<4> T; Words<1, T> s1; Words<2, T> s2;"
    source.write_text(f'{INCLUDES}#include "driver.hpp"\n{memories}int main() {{ {streams} {call} }}\n')
    done = run_gpp([*flags("native"), "-fsyntax-only", str(source)])
    assert done.returncode != 0
    assert sentence in done.stderr
