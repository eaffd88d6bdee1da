// Sum of two streams, each times an integer constant: residual additions, brought to one scale by the factors.
#pragma once

#include <hls_stream.h>

#include "word.hpp"

namespace broadaxe {

// Bits of N in base 2; 0 has none.
template <unsigned long long N>
struct bit_length {
  static const int value = 1 + bit_length<(N >> 1)>::value;
};
template <>
struct bit_length<0> {
  static const int value = 0;
};

// F * x in the type that holds it: constant wiring and adders, and nothing at all for 1.
template <long long F>
struct constant_factor {
  typedef ap_int<1 + bit_length<static_cast<unsigned long long>(F < 0 ? -(F + 1) : F)>::value> Factor;

  template <typename T>
  static typename product_type<T, Factor>::type times(T x) {
#pragma HLS INLINE
    return product(x, Factor(F));
  }
};

// FA*a + FB*b, lane by lane, modulo 2^width(Out): an Out that holds the sum gives it. COUNT words a frame and trips.
template <typename A, typename B, typename Out, int LANES, int COUNT, long long FA, long long FB>
void scaled_add(hls::stream<typename word<LANES, A>::type>& in_a, hls::stream<typename word<LANES, B>::type>& in_b,
                hls::stream<typename word<LANES, Out>::type>& out) {
  static_assert(COUNT >= 1, "a frame has at least one word");
words:
  for (int t = 0; t < COUNT; t++) {
#pragma HLS PIPELINE II=1
    const typename word<LANES, A>::type a = in_a.read();
    const typename word<LANES, B>::type b = in_b.read();
    typename word<LANES, Out>::type y;
  lanes:
    for (int i = 0; i < LANES; i++) {
#pragma HLS UNROLL
      const Out first = Out(constant_factor<FA>::times(lane_get<LANES, A>(a, i)));
      lane_set<LANES, Out>(y, i, wrapped_sum(first, constant_factor<FB>::times(lane_get<LANES, B>(b, i))));
    }
    out.write(y);
  }
}

}  // namespace broadaxe
