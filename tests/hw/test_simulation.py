"""The stand-ins in hw/sim: the native ap_int against the real one and against Python, streams, traces; warnings."""

import ctypes

import numpy as np
import pytest
from hw_harness import HERE, HW, WARNINGS, compile_library, flags, missing, run_gpp, wrap

SOURCE = (HERE / "native_int.cpp").read_text()
EXTRA = ("-DBROADAXE_TRACE",)
POINTER = ctypes.POINTER(ctypes.c_int64)


@pytest.fixture
def library(build):
    return load(build)


def load(build):
    lib = ctypes.CDLL(str(compile_library(SOURCE, build, EXTRA).result()))
    for name in ("arithmetic", "wide_ranges", "stream_reports", "long_lived_stream"):
        getattr(lib, name).restype = ctypes.c_int64
    return lib


def integers(count: int) -> np.ndarray:
    """64-bit integers of every magnitude, both signs, with the corners."""
    rng = np.random.default_rng(8)
    values = rng.integers(-(1 << 63), (1 << 63) - 1, size=count, endpoint=True) >> rng.integers(0, 63, size=count)
    values[:6] = [0, -1, 1, -(1 << 63), (1 << 63) - 1, 1 << 31]
    return values


def test_wrapping_in_every_width(library):
    for x in integers(200):
        out = np.zeros(128, dtype=np.int64)
        library.wrapped_everywhere(ctypes.c_int64(x), out.ctypes.data_as(POINTER))
        value = np.array(int(x), dtype=object)
        expected = [int(wrap(value, width, signed)) for width in range(1, 65) for signed in (True, False)]
        assert out.tolist() == [v if v < 1 << 63 else v - (1 << 64) for v in expected]


def both(function) -> tuple[np.ndarray, np.ndarray]:
    reason = missing("exact")
    if reason:
        pytest.skip(reason)
    return function(load("exact")), function(load("native"))


def test_arithmetic_equals_ap_int():
    x, y = integers(600), np.random.default_rng(9).permutation(integers(600))

    def run(lib):
        out = np.zeros(600 * 1500, dtype=np.int64)
        xs, ys, outs = (v.ctypes.data_as(POINTER) for v in (x, y, out))
        count = lib.arithmetic(xs, ys, ctypes.c_int64(x.size), outs)
        return out[:count]

    exact, native = both(run)
    np.testing.assert_array_equal(native, exact)


def test_wide_words_equal_ap_uint():
    def run(lib):
        results = []
        for x in integers(50):
            out = np.zeros(1000, dtype=np.int64)
            results.append(out[: lib.wide_ranges(ctypes.c_int64(x), out.ctypes.data_as(POINTER))])
        return np.concatenate(results)

    exact, native = both(run)
    np.testing.assert_array_equal(native, exact)


def test_leftovers_and_trace(build, library):
    text = ctypes.create_string_buffer(4096)
    size = library.stream_reports(text)
    report = text.raw[:size].decode()
    # Lanes -3 and 7; the exact build traces the packed word, 7 * 32 + 29.
    one = {"native": "-3,7,", "exact": "253,"}[build]
    assert report == f"gone:2;alive:1;0;alive={one};gone={one}{one};read={one};"


def test_long_lived_stream_keeps_order(library):
    assert library.long_lived_stream() == 0


@pytest.mark.parametrize("header", sorted(path.name for path in HW.glob("*.hpp")))
def test_header_stands_alone_without_warnings(header, tmp_path):
    source = tmp_path / "alone.cpp"
    source.write_text(f'#include "{header}"\n#include "{header}"\nint main() {{ return 0; }}\n')
    done = run_gpp([*flags("native"), *WARNINGS, "-fsyntax-only", str(source)])
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("hls::stream<word<3, ap_int<4> >::type> s; change_lanes<ap_int<4>, 3, 2, 6>(s, *(Words<2, ap_int<4> >*)0);",
         "one number of lanes must divide the other"),
        ("word<513, ap_int<8> >::type w; (void)w;", "a stream word has at most 4096 bits"),
        ("Words<2, ap_int<4> > s; window_max<ap_int<4>, 2, 3, 1, 1, 1>(s, s);",
         "the number of lanes must divide the number of channels"),
        ("Words<4, ap_int<4> > s; Words<2, ap_int<4> > m; window_max<ap_int<4>, 2, 4, 2, 2, 1>(s, m);",
         "a word of several taps has all channels of each"),
        ("Words<4, ap_int<4> > s; Words<2, ap_int<4> > m; window_max<ap_int<4>, 2, 2, 3, 2, 1>(s, m);",
         "the taps of a word must divide those of a window"),
    ],
)  # fmt: skip
def test_misuse_is_refused_with_a_sentence(call, sentence, tmp_path):
    source = tmp_path / "misuse.cpp"
    source.write_text(f'#include "driver.hpp"\nint main() {{ {call} }}\n')
    done = run_gpp([*flags("native"), "-fsyntax-only", str(source)])
    assert done.returncode != 0
    assert sentence in done.stderr
