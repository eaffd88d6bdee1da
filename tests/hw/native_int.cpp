// Arithmetic of ap_int<W> and ap_uint<W> on pairs of integers, one line of results for each type and pair: run in both
// builds, the outputs must be equal.
#include "driver.hpp"

// Built-in results are wrapped by an assignment to the type, so growth within an expression does not matter.
template <typename A, typename B>
static void exercise(int64_t x, int64_t y, int64_t*& out) {
  const int W = lane<A>::width;
  const A a = x;
  const B b = y;
  A c = a;
  *out++ = a.to_int64();
  *out++ = b.to_int64();
  *out++ = A(b).to_int64();
  *out++ = B(a).to_int64();
  c += b; *out++ = c.to_int64();
  c -= A(x ^ y); *out++ = c.to_int64();
  c *= b; *out++ = c.to_int64();
  c &= A(y); *out++ = c.to_int64();
  c |= A(x >> 1); *out++ = c.to_int64();
  c ^= A(x ^ 0x5555); *out++ = c.to_int64();
  c >>= W / 3; *out++ = c.to_int64();
  c <<= W / 4; *out++ = c.to_int64();
  ++c; *out++ = c.to_int64();
  c--; *out++ = c.to_int64();
  *out++ = a < A(y);
  *out++ = a == A(y);
  *out++ = a[W / 2];
  c = x;
  c.range(W - 1, W / 2) = y;
  *out++ = c.to_int64();
  const ap_uint<W> part = c.range(W / 2, W / 4);
  *out++ = part.to_int64();
  *out++ = wrapped_sum(a, b).to_int64();
  *out++ = static_cast<int64_t>(a >> (W - 1));
}

template <int W, int V>
static void types(int64_t x, int64_t y, int64_t*& out) {
  exercise<ap_int<W>, ap_int<V> >(x, y, out);
  exercise<ap_uint<W>, ap_int<V> >(x, y, out);
  exercise<ap_int<W>, ap_uint<V> >(x, y, out);
  exercise<ap_uint<W>, ap_uint<V> >(x, y, out);
}

// Products up to 63 bits, in the type that holds them.
template <int W, int V>
static void products(int64_t x, int64_t y, int64_t*& out) {
  *out++ = static_cast<int64_t>(product(ap_int<W>(x), ap_int<V>(y)));
  *out++ = static_cast<int64_t>(product(ap_uint<W>(x), ap_int<V>(y)));
  *out++ = static_cast<int64_t>(product(ap_int<W>(x), ap_uint<V>(y)));
  *out++ = static_cast<int64_t>(product(ap_uint<W>(x), ap_uint<V>(y)));
}

extern "C" int64_t arithmetic(const int64_t* x, const int64_t* y, int64_t pairs, int64_t* out) {
  int64_t* place = out;
  for (int64_t k = 0; k < pairs; k++) {
    types<1, 2>(x[k], y[k], place);
    types<2, 1>(x[k], y[k], place);
    types<5, 12>(x[k], y[k], place);
    types<8, 8>(x[k], y[k], place);
    types<9, 3>(x[k], y[k], place);
    types<16, 31>(x[k], y[k], place);
    types<31, 64>(x[k], y[k], place);
    types<32, 32>(x[k], y[k], place);
    types<33, 7>(x[k], y[k], place);
    types<47, 50>(x[k], y[k], place);
    types<63, 17>(x[k], y[k], place);
    types<64, 64>(x[k], y[k], place);
    products<1, 1>(x[k], y[k], place);
    products<16, 16>(x[k], y[k], place);
    products<31, 32>(x[k], y[k], place);
    products<40, 23>(x[k], y[k], place);
    products<8, 4>(x[k], y[k], place);
  }
  return place - out;
}

template <int W>
struct wrapping {
  static void of(int64_t x, int64_t*& out) {
    wrapping<W - 1>::of(x, out);
    *out++ = ap_int<W>(x).to_int64();
    *out++ = ap_uint<W>(x).to_int64();
  }
};
template <>
struct wrapping<0> {
  static void of(int64_t, int64_t*&) {}
};

// x in every type of 1 to 64 bits.
extern "C" void wrapped_everywhere(int64_t x, int64_t* out) { wrapping<64>::of(x, out); }

// A wide word: the bits [lo, lo + 13) replaced, then everything read back in steps of 37 bits.
template <int W>
static void ranges(int64_t x, int64_t*& out) {
  ap_uint<W> wide = x;
  for (int lo = 0; lo + 13 <= W; lo += 29) wide.range(lo + 12, lo) = ap_uint<13>(x >> (lo % 50));
  const ap_uint<W> copy = wide;
  for (int lo = 0; lo < W; lo += 37) {
    const ap_uint<37> part = copy.range(lo + 36 < W ? lo + 36 : W - 1, lo);
    *out++ = part.to_int64();
  }
}
extern "C" int64_t wide_ranges(int64_t x, int64_t* out) {
  int64_t* place = out;
  ranges<65>(x, place);
  ranges<128>(x, place);
  ranges<1000>(x, place);
  ranges<4096>(x, place);
  return place - out;
}

// Streams: leftovers and traces.
extern "C" int64_t stream_reports(char* text) {
  broadaxe_sim::clear_leftovers();
  std::string report;
  {
    Words<2, ap_int<5> > alive("alive");
    {
      Words<2, ap_int<5> > gone("gone"), read("read");
      word<2, ap_int<5> >::type w;
      lane_set<2, ap_int<5> >(w, 0, ap_int<5>(-3));
      lane_set<2, ap_int<5> >(w, 1, ap_int<5>(7));
      gone << w;
      gone << w;
      read << w;
      read >> w;
      alive.write(w);
      if (read.read_nb(w) || !read.empty() || alive.size() != 1) report += "wrong state;";
    }
    for (const broadaxe_sim::Leftover& left : broadaxe_sim::leftovers()) report += left.name + ":" + std::to_string(left.words) + ";";
  }
  broadaxe_sim::clear_leftovers();
  report += std::to_string(broadaxe_sim::leftovers().size()) + ";";
  for (const std::pair<const std::string, broadaxe_trace::History>& stream : broadaxe_trace::histories()) {
    report += stream.first + "=";
    for (int64_t value : stream.second) report += std::to_string(value) + ",";
    report += ";";
  }
  broadaxe_trace::clear();
  return static_cast<int64_t>(report.copy(text, 4096));
}

// A stream whose reader keeps up, for long enough that its storage is moved down.
extern "C" int64_t long_lived_stream() {
  hls::stream<int> s("long");
  int64_t wrong = 0;
  for (int k = 0; k < 3; k++) s.write(k);
  for (int k = 3; k < 50000; k++) {
    s.write(k);
    wrong += s.read() != k - 3;
  }
  for (int k = 0; k < 3; k++) s.read();
  return wrong;
}
