"""Sliding windows: every element in order, exact and minimal trip counts, full rate."""

import time

import numpy as np
import pytest
from hw_harness import HW, Case, ap, by_lane, call, compile_library, program, random_integers, table
from hw_trips import LAG, Window, hw_trips, simulated_trips


def geometry(lanes, hwc, k, s=(1, 1), d=(1, 1), pad=(0, 0, 0, 0)):
    """pad: top, left, bottom, right; negative bottom or right leaves input pixels unused."""
    (h, w, _), (pt, pl, pb, pr) = hwc, pad
    oh = (h + pt + pb - (k[0] - 1) * d[0] - 1) // s[0] + 1
    ow = (w + pl + pr - (k[1] - 1) * d[1] - 1) // s[1] + 1
    return Window(lanes, *hwc, *k, *s, *d, pt, pl, oh, ow)


NAMED = {
    "same3x3": geometry(2, (5, 7, 4), (3, 3), pad=(1, 1, 1, 1)),
    "valid3x3": geometry(3, (6, 5, 3), (3, 3)),
    "stride_over_kernel": geometry(1, (9, 10, 2), (2, 1), s=(3, 4)),
    "one_by_one_stride2": geometry(2, (7, 6, 4), (1, 1), s=(2, 2)),
    "one_by_one_stride3_tall": geometry(4, (10, 3, 4), (1, 1), s=(3, 1)),
    "asymmetric": geometry(2, (5, 6, 2), (4, 3), s=(2, 1), pad=(0, 2, 3, 1)),
    "dilated": geometry(1, (9, 8, 2), (3, 2), d=(3, 4), pad=(3, 1, 2, 4)),
    "one_pixel": geometry(3, (1, 1, 6), (1, 1)),
    "one_pixel_padded": geometry(1, (1, 1, 3), (3, 3), pad=(1, 1, 1, 1)),
    "one_row": geometry(2, (1, 12, 2), (1, 5), s=(1, 2), pad=(0, 2, 0, 2)),
    "one_column": geometry(2, (12, 1, 2), (5, 1), s=(2, 1), pad=(2, 0, 2, 0)),
    "padding_only_rows": geometry(1, (2, 2, 1), (2, 2), pad=(4, 3, 4, 3)),
    "padding_misses_frame": geometry(1, (3, 3, 2), (2, 1), s=(2, 5), pad=(0, 1, 0, 0)),
    "unused_rows": geometry(2, (9, 9, 2), (2, 2), pad=(0, 0, -4, -5)),
    "whole_frame": geometry(4, (4, 5, 8), (4, 5)),
    "dilation_beyond_frame": geometry(1, (3, 4, 2), (2, 2), d=(5, 6), pad=(4, 4, 4, 4)),
}


def random_geometry(rng, big):
    while True:
        lanes, groups = (int(rng.integers(1, 5)) for _ in range(2))
        hwc = (*(int(n) for n in rng.integers(1, 12 if big else 8, 2)), lanes * groups)
        k, s, d = ([int(n) for n in rng.integers(1, top, 2)] for top in (5, 5, 4))
        pad = [int(n) for n in rng.integers(0, 4, 4)]
        g = geometry(lanes, hwc, k, s, d, pad)
        if g.oh >= 1 and g.ow >= 1:
            return g


RNG = np.random.default_rng(7)
GEOMETRIES = NAMED | {f"random{i}": random_geometry(RNG, big=False) for i in range(12)}


def window_reference(x: np.ndarray, pad: np.ndarray, g: Window) -> np.ndarray:
    """(H, W, C) to (OH, OW, KH, KW, C), taps outside the frame being the channel's pad code."""
    out = np.empty((g.oh, g.ow, g.kh, g.kw, g.c), dtype=np.int64)
    for oh, ow, kh, kw in np.ndindex(out.shape[:4]):
        ih, iw = oh * g.sh - g.pt + kh * g.dh, ow * g.sw - g.pl + kw * g.dw
        out[oh, ow, kh, kw] = x[ih, iw] if 0 <= ih < g.h and 0 <= iw < g.w else pad
    return out


def window_case(name: str, g: Window, seed: int, fewer: int = 0) -> Case:
    rng = np.random.default_rng(seed)
    width, signed = int(rng.integers(1, 17)), bool(rng.integers(2))
    x = random_integers(rng, width, signed, (g.h, g.w, g.c))
    pad = random_integers(rng, width, signed, (g.c,))
    dims = ", ".join(str(n) for n in (g.h, g.w, g.c, g.kh, g.kw, g.sh, g.sw, g.dh, g.dw, g.pt, g.pl, g.oh, g.ow))
    lane = ap(width, signed)
    return Case(
        name=f"window_{name}",
        tables=table("int", "pad", by_lane(pad, g.lanes)),
        call=f"window<{lane}, {lane}, {g.lanes}, {dims}, {hw_trips(g) - fewer}>(in, out, pad);",
        lanes_in=g.lanes, type_in=lane, lanes_out=g.lanes, type_out=lane,
        inputs=x, expected=window_reference(x, pad, g).reshape(-1),
    )  # fmt: skip


# One trip too few must show: cases in which the last trip emits the last word, or consumes the last input.
SHORT = ["same3x3", "asymmetric", "one_by_one_stride2", "unused_rows"]
CASES = [window_case(name, g, seed) for seed, (name, g) in enumerate(GEOMETRIES.items())]
SHORT_CASES = [window_case(f"{name}_short", GEOMETRIES[name], 99, fewer=1) for name in SHORT]
SOURCE = program(CASES + SHORT_CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_window_matches_numpy(case, build):
    np.testing.assert_array_equal(call(compile_library(SOURCE, build).result(), case), case.expected)


@pytest.mark.parametrize("case", SHORT_CASES, ids=lambda case: case.name)
def test_one_trip_fewer_does_not_finish(case, build):
    library = compile_library(SOURCE, build).result()
    if case.name == "window_unused_rows_short":  # the last trip reads an input that no output needs
        with pytest.raises(RuntimeError, match=r"^words left in: 1$"):
            call(library, case)
    else:
        np.testing.assert_array_equal(call(library, case), case.expected[: -case.lanes_out])


def test_trips_formula_equals_state_machine():
    rng = np.random.default_rng(11)
    for g in [*GEOMETRIES.values(), *(random_geometry(rng, big=True) for _ in range(300))]:
        assert hw_trips(g) == simulated_trips(g), g


@pytest.mark.parametrize("lanes", [1, 16])
@pytest.mark.parametrize(("k", "s", "p"), [(3, 1, 1), (3, 2, 1), (1, 2, 0), (2, 2, 0), (7, 2, 3), (5, 1, 2)])
def test_rate_is_the_busier_side_plus_fill(k, s, p, lanes):
    g = geometry(lanes, (56, 48, 32), (k, k), (s, s), pad=(p, p, p, p))
    row = g.w * g.c // lanes
    words_in, words_out = g.h * row, g.oh * g.ow * k * k * g.c // lanes
    # The first window needs k - p rows before the rate is reached, the last ones need no more input.
    assert hw_trips(g) <= max(words_in, words_out) + (k - p) * row + LAG


def test_trips_are_quick_to_compute():
    started = time.perf_counter()
    assert hw_trips(geometry(1, (224, 224, 64), (3, 3), pad=(1, 1, 1, 1))) > 224 * 224 * 64 * 9
    assert time.perf_counter() - started < 0.5


def test_lag_is_the_same_in_kernel_pragma_and_python():
    text = (HW / "window.hpp").read_text()
    assert f"const int LAG = {LAG};" in text
    assert f"#pragma HLS DEPENDENCE variable=ring inter RAW distance={LAG} true" in text
