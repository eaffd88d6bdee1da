"""Sliding windows that emit several taps a word: every element in order, exact and minimal trips, rate, traces."""

from dataclasses import replace

import numpy as np
import pytest
from hw_harness import HW, Case, ap, by_lane, call, compile_library, program, random_integers, table
from hw_trips import Window
from test_window import NAMED, geometry, random_geometry, window_reference

from broadaxe.ops.window_parallel import LAG, ParallelWindow, Slide


def model(g: Window, taps: int) -> ParallelWindow:
    rows, columns = Slide(g.h, g.kh, g.sh, g.dh, g.pt, g.oh), Slide(g.w, g.kw, g.sw, g.dw, g.pl, g.ow)
    return ParallelWindow(rows, columns, g.kh * g.kw // taps)


def simulated(g: Window, taps: int) -> tuple[list[int], list[int]]:
    """The kernel's state machine: the trips of its reads and of its writes."""
    slots, parts = g.rows, g.kh * g.kw // taps
    extent = (g.kw - 1) * g.dw + 1
    last = (g.ow - 1) * g.sw + extent - 1
    reads: list[int] = []
    writes: list[int] = []
    oh = step = left = trip = 0
    while len(reads) < g.h * g.w or len(writes) < g.oh * g.ow * parts:
        top = oh * g.sh - g.pt
        limit = g.h if oh == g.oh else max(0, top) + slots
        reading = len(reads) < g.h * g.w and len(reads) // g.w < limit
        if left:
            writes.append(trip)
            left -= 1
        if oh < g.oh:
            x = step - g.pl
            inside = [r for r in range(top, top + g.kh * g.dh, g.dh) if 0 <= r < g.h and 0 <= x < g.w]
            words = [r * g.w + x for r in inside]
            stored = all(n < len(reads) and reads[n] + LAG <= trip for n in words)
            completes = step >= extent - 1 and (step - extent + 1) % g.sw == 0
            if stored and not (completes and left):
                assert all(len(reads) <= (r + slots) * g.w for r in inside), "overwritten before its last use"
                left = parts if completes else left
                oh, step = (oh + 1, 0) if step == last else (oh, step + 1)
        if reading:
            reads.append(trip)
        trip += 1
        assert trip < 100_000, "stuck"
    return reads, writes


def several(g: Window) -> list[int]:
    return [n for n in range(2, g.kh * g.kw + 1) if g.kh * g.kw % n == 0]


RNG = np.random.default_rng(17)
GEOMETRIES = {name: g for name, g in NAMED.items() if several(g)}
GEOMETRIES |= {f"random{i}": g for i in range(14) if several(g := random_geometry(RNG, big=False))}


def parallel_case(name: str, g: Window, taps: int, seed: int, fewer: int = 0) -> Case:
    rng = np.random.default_rng(seed)
    width, signed = int(rng.integers(1, 17)), bool(rng.integers(2))
    x, pad = (random_integers(rng, width, signed, shape) for shape in ((g.h, g.w, g.c), (g.c,)))
    dims = ", ".join(str(n) for n in (g.h, g.w, g.c, g.kh, g.kw, g.sh, g.sw, g.dh, g.dw, g.pt, g.pl, g.oh, g.ow))
    lane = ap(width, signed)
    return Case(
        name=f"window_{name}_{taps}",
        tables=table("int", "pad", by_lane(pad, g.c)),
        call=f"window_parallel<{lane}, {lane}, {taps}, {dims}, {model(g, taps).trips() - fewer}>(in, out, pad);",
        lanes_in=g.c, type_in=lane, lanes_out=taps * g.c, type_out=lane,
        inputs=x, expected=window_reference(x, pad, g).reshape(-1),
    )  # fmt: skip


CASES = [
    parallel_case(name, g, taps, seed)
    for seed, (name, g) in enumerate(GEOMETRIES.items())
    for taps in {several(g)[0], several(g)[-1]}
]
SHORT_CASES = [
    parallel_case(f"{name}_short", GEOMETRIES[name], GEOMETRIES[name].kw, 9, 1) for name in ("same3x3", "asymmetric")
]
SOURCE = program(CASES + SHORT_CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_window_matches_numpy(case, build):
    np.testing.assert_array_equal(call(compile_library(SOURCE, build).result(), case), case.expected)


@pytest.mark.parametrize("case", SHORT_CASES, ids=lambda case: case.name)
def test_one_trip_fewer_does_not_finish(case, build):
    got = call(compile_library(SOURCE, build).result(), case)
    np.testing.assert_array_equal(got, case.expected[: -case.lanes_out])


def test_trace_equals_the_state_machine():
    rng = np.random.default_rng(21)
    compared = 0
    for g in [*GEOMETRIES.values(), *(random_geometry(rng, big=True) for _ in range(200))]:
        for taps in several(g):
            reads, writes = simulated(g, taps)
            found = model(g, taps)
            trace = found.trace()
            np.testing.assert_array_equal(trace.reads[0], reads, err_msg=f"{g} {taps}")
            np.testing.assert_array_equal(trace.writes, writes, err_msg=f"{g} {taps}")
            assert trace.trips == found.trips() == 1 + max(reads[-1], writes[-1])
            compared += 1
    assert compared > 200


@pytest.mark.parametrize(("k", "s", "p"), [(3, 1, 1), (3, 2, 1), (2, 2, 0), (7, 2, 3), (5, 1, 2)])
@pytest.mark.parametrize("whole", [False, True])
def test_rate_is_the_busiest_side_plus_fill(k, s, p, whole):
    """Words in including padding, or words out; the first window waits for k - p rows."""
    g = geometry(4, (56, 48, 4), (k, k), (s, s), pad=(p, p, p, p))
    parts = 1 if whole else k
    words_in, words_out = (g.h + 2 * p) * (g.w + 2 * p), g.oh * g.ow * parts
    assert model(g, k * k // parts).trips() <= max(words_in, words_out) + (k - p) * g.w + k + LAG


def test_lag_is_the_same_in_kernel_pragma_and_python():
    text = (HW / "window_parallel.hpp").read_text()
    assert f"const int LAG = {LAG};" in text
    assert f"#pragma HLS DEPENDENCE variable=ring inter RAW distance={LAG} true" in text


def test_a_word_of_one_tap_is_refused():
    case = parallel_case("one", replace(GEOMETRIES["same3x3"], lanes=4), 3, 0)
    wrong = replace(case, call=case.call.replace(", 3, 5, 7, 4", ", 4, 5, 7, 4", 1), lanes_out=16)
    assert wrong.call != case.call
    with pytest.raises(AssertionError, match="the taps of a word, two or more, must divide the kernel's"):
        compile_library(program([wrong]), "native").result()
