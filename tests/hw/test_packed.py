"""Packed products: both builds against integers that are packed, multiplied and taken apart in Python."""

import numpy as np
import pytest
from hw_harness import (
    WARNINGS,
    Case,
    ap,
    call,
    compile_library,
    flags,
    limits,
    pe_widths,
    program,
    random_integers,
    run_gpp,
    table,
    wrap_rows,
)
from test_kernels import pack_weights

U, S = False, True
BLOCKS = {"dsp48e1": (25, 48), "dsp48e2": (27, 48), "dsp58": (27, 58)}


def digits(totals: np.ndarray, pe: int, products: int, lane: int) -> np.ndarray:
    """What lanes of `lane` bits hold of the sums of every row, (vectors, rows): too narrow, they reach into each other."""
    out = np.empty_like(totals)
    half = 1 << (lane - 1)
    for nf in range(0, totals.shape[1], pe):
        for first in range(0, pe, products):
            rows = range(nf + first, nf + min(first + products, pe))
            for v, row in enumerate(totals):
                packed = sum((int(row[r]) + half) << (lane * k) for k, r in enumerate(rows)) % (1 << (lane * products))
                for k, r in enumerate(rows):
                    out[v, r] = (packed >> (lane * k)) % (1 << lane) - half
    return out


def packed_case(
    name, x_type, w_type, acc, mw, mh, simd, pe, vectors, rom, block, products, lane, seed,
    chunk=None, x=None, weights=None, start=None,
):  # fmt: skip
    rng = np.random.default_rng(seed)
    x = random_integers(rng, *x_type, (vectors, mw)) if x is None else x
    weights = random_integers(rng, *w_type, (mh, mw)) if weights is None else weights
    start = rng.integers(*limits(min(acc, 9), True), size=mh, endpoint=True) if start is None else start
    wide, adder = BLOCKS[block]
    ones = sum(1 << (lane * k) for k in range(products))
    assert -(1 << (wide - 1)) <= int(weights.min()) * ones <= int(weights.max()) * ones < 1 << (wide - 1)
    assert products * lane <= adder
    exact = [x[:, at : at + (chunk or mw)].astype(object) @ weights[:, at : at + (chunk or mw)].T.astype(object)
             for at in range(0, mw, chunk or mw)]  # fmt: skip
    tables = table(rom, "weights", pack_weights(weights, w_type[0], simd, pe, rom))
    more = ""
    if chunk is None:
        half, whole = 1 << (lane - 1), 1 << (lane * products)
        words = [
            [
                sum((int(start[nf + r]) + half) << (lane * k) for k, r in enumerate(range(f, min(f + products, pe))))
                % whole
                for nf in range(0, mh, pe)
            ]
            for f in range(0, pe, products)
        ]
        tables += table("long long", "start", np.array(words, dtype=object))
        expected = digits(exact[0] + start, pe, products, lane)
        kernel = "packed_matvec"
    else:
        widths = pe_widths(rng, acc, pe)
        tables += table("short", "start", np.swapaxes(start.reshape(mh // pe, pe), 0, 1))
        tables += table("unsigned char", "widths", widths)
        expected = wrap_rows(sum(digits(part, pe, products, lane) for part in exact) + start, widths)
        kernel, more = "packed_matvec_chunked", ", widths"
    types = f"{ap(*x_type)}, {ap(*w_type)}, ap_int<{acc}>"
    sizes = f"{mw}, {mh}, {simd}, {pe}, {vectors}" if chunk is None else f"{mw}, {mh}, {simd}, {pe}, {chunk}, {vectors}"
    return Case(
        name=f"packed_{name}", tables=tables,
        call=f"{kernel}<{types}, {sizes}, {block}, {products}, {lane}>(in, out, weights, start{more});",
        lanes_in=simd, type_in=ap(*x_type), lanes_out=pe, type_out=f"ap_int<{acc}>",
        inputs=x, expected=expected.astype(np.int64).reshape(-1),
    )  # fmt: skip


def packed_cases():
    return [
        # x, weight, accumulator, MW, MH, SIMD, PE, vectors, memory word, block, products, lane
        packed_case("two", (4, U), (4, S), 14, 24, 8, 4, 4, 3, "unsigned short", "dsp48e1", 2, 14, 1),
        packed_case("two_signed", (5, S), (4, S), 16, 20, 6, 5, 3, 3, "unsigned int", "dsp48e2", 2, 16, 2),
        packed_case("three", (2, U), (3, S), 9, 16, 6, 8, 6, 4, "unsigned int", "dsp48e2", 3, 9, 3),
        packed_case("three_of_five", (2, S), (2, S), 8, 18, 10, 3, 5, 4, "unsigned char", "dsp48e1", 3, 8, 4),
        packed_case("four", (1, U), (2, S), 6, 12, 8, 4, 8, 6, "unsigned char", "dsp48e1", 4, 6, 5),
        packed_case("four_of_seven", (2, U), (2, S), 8, 9, 7, 9, 7, 4, "unsigned long long", "dsp48e2", 4, 8, 6),
        packed_case("whole_adder", (17, U), (2, S), 24, 10, 4, 2, 2, 3, "unsigned char", "dsp48e2", 2, 24, 7),
        packed_case("wide_x", (23, U), (1, U), 25, 4, 4, 2, 4, 3, "unsigned char", "dsp58", 2, 25, 8),
        packed_case("unsigned_weights", (3, U), (3, U), 11, 14, 4, 7, 2, 3, "unsigned char", "dsp48e2", 2, 11, 9),
        packed_case("lanes_overflow", (8, U), (4, S), 10, 16, 8, 4, 4, 9, "unsigned short", "dsp48e2", 2, 10, 10),
        packed_case("chunks", (8, S), (8, S), 20, 18, 4, 2, 4, 3, "unsigned short", "dsp48e2", 2, 18, 11, chunk=4),
        packed_case("short_chunk", (4, U), (4, S), 15, 14, 6, 2, 3, 3, "unsigned char", "dsp48e2", 3, 11, 12, chunk=4),
        packed_case("chunk_beyond_row", (4, U), (4, S), 15, 6, 2, 3, 2, 3, "unsigned short", "dsp48e1", 2, 13, 13, chunk=12),
        packed_case("chunks_overflow", (8, U), (4, S), 13, 16, 4, 2, 4, 5, "unsigned char", "dsp48e1", 2, 10, 14, chunk=8),
    ]  # fmt: skip


def neighbours(name, lane, row):
    """Three rows of one block, of which `row` is at the top of what lanes of 9 bits hold, or at the bottom, the others at 1."""
    weights = np.array([[0, 0, 0, 1]] * 3)
    weights[row] = [3, 3, 3, 3]
    x = np.array([[63, 7, 7, 8], [-64, -7, -7, -7], [0, 0, 0, 1]])
    zero = np.zeros(3, dtype=int)
    case = packed_case(
        name, (7, S), (3, S), 9, 4, 3, 2, 3, 3, "unsigned char", "dsp48e2", 3, lane, 0, x=x, weights=weights, start=zero
    )
    return case, x @ weights.T


CASES = packed_cases()
PAIRS = [[neighbours(f"row{row}_lane{lane}", lane, row) for lane in (9, 8)] for row in range(3)]
SOURCE = '#include "packed_matvec.hpp"\n' + program([*CASES, *(case for pair in PAIRS for case, _ in pair)])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_kernel_matches_packed_integers(case, build):
    np.testing.assert_array_equal(call(compile_library(SOURCE, build).result(), case), case.expected)


@pytest.mark.parametrize("row", range(3))
def test_a_lane_one_bit_too_narrow_corrupts_its_neighbour(row, build):
    """255 and -255 need 9 bits. In 8, the row itself is wrong, and the next one, whose own sums are small, is one off."""
    library = compile_library(SOURCE, build).result()
    (enough, sums), (narrow, _) = PAIRS[row]
    assert sums[:, row].tolist() == [255, -255, 3]
    np.testing.assert_array_equal(call(library, enough).reshape(-1, 3), sums)
    wrong = call(library, narrow).reshape(-1, 3) - sums
    np.testing.assert_array_equal(wrong, narrow.expected.reshape(-1, 3) - sums)
    assert wrong[:, row].tolist() == [-256, 256, 0]
    for other in range(3):
        if other != row:
            assert wrong[:, other].tolist() == ([1, -1, 0] if other == row + 1 else [0, 0, 0])


def test_optimised_native_build_has_no_warnings(tmp_path):
    source = tmp_path / "optimised.cpp"
    source.write_text('#include "packed_matvec.hpp"\n' + program(CASES[:4] + CASES[-2:]))
    done = run_gpp([*flags("native"), *WARNINGS, "-O3", "-c", str(source), "-o", str(tmp_path / "optimised.o")])
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("packed_matvec<T, T, A, 4, 2, 1, 2, 1, dsp48e1, 2, 25>(s1, s2, w4, start);", "the lanes must fit the block's adder"),
        ("packed_matvec<T, T, A, 4, 2, 1, 2, 1, dsp48e1, 3, 16>(s1, s2, w4, start);",
         "the highest lane must begin inside the wide operand"),
        ("packed_matvec<T, T, A, 4, 2, 1, 2, 1, dsp48e1, 3, 8>(s1, s2, w4, start);", "a block's lanes are rows of one cycle"),
        ("packed_matvec<ap_uint<18>, T, A, 4, 2, 1, 2, 1, dsp48e1, 2, 8>(s18, s2, w4, start);",
         "an input must fit the narrow operand"),
        ("packed_matvec_chunked<T, T, A, 4, 2, 2, 2, 3, 1, dsp48e1, 2, 8>(s22, s2, w2, each, widths);",
         "SIMD must divide a chunk"),
    ],
)  # fmt: skip
def test_misuse_is_refused_with_a_sentence(call, sentence, tmp_path):
    source = tmp_path / "misuse.cpp"
    memories = (
        "const unsigned char w4[2][4][1] = {}, w2[2][2][1] = {}, widths[2] = {8, 8};\n"
        "const int start[1][1] = {}, each[2][1] = {};\n"
    )
    streams = "typedef ap_int<4> T; typedef ap_int<8> A; Words<1, T> s1; Words<2, T> s22; Words<2, A> s2;"
    streams += " Words<1, ap_uint<18> > s18;"
    include = '#include "packed_matvec.hpp"\n#include "driver.hpp"\n'
    source.write_text(f"{include}{memories}int main() {{ {streams} {call} }}\n")
    done = run_gpp([*flags("native"), "-fsyntax-only", str(source)])
    assert done.returncode != 0
    assert sentence in done.stderr
