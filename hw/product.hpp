// Product of two streams, element by element, each without its zero code: gates.
//
// zeros_a[lane][group] is the zero code of channel group*LANES + lane; they are built-in integers, constants to the tool.
#pragma once

#include <hls_stream.h>

#include "word.hpp"

namespace broadaxe {

// (a - zeros_a) * (b - zeros_b), lane by lane. DA and DB hold the differences, Out the product. VECTORS * GROUPS trips.
template <typename A, typename B, typename Out, typename DA, typename DB, int LANES, int GROUPS, int VECTORS,
          typename ZeroA, typename ZeroB>
void multiply(hls::stream<typename word<LANES, A>::type>& in_a, hls::stream<typename word<LANES, B>::type>& in_b,
              hls::stream<typename word<LANES, Out>::type>& out, const ZeroA (&zeros_a)[LANES][GROUPS],
              const ZeroB (&zeros_b)[LANES][GROUPS]) {
  static_assert(GROUPS >= 1 && VECTORS >= 1, "a vector has at least one word, a frame at least one vector");
#pragma HLS ARRAY_PARTITION variable=zeros_a complete dim=1
#pragma HLS ARRAY_PARTITION variable=zeros_b complete dim=1
  int group = 0;
words:
  for (int t = 0; t < VECTORS * GROUPS; t++) {
#pragma HLS PIPELINE II=1
    const typename word<LANES, A>::type a = in_a.read();
    const typename word<LANES, B>::type b = in_b.read();
    typename word<LANES, Out>::type y;
  lanes:
    for (int i = 0; i < LANES; i++) {
#pragma HLS UNROLL
      const DA left = wrapped_sum(DA(lane_get<LANES, A>(a, i)), -zeros_a[i][group]);
      const DB right = wrapped_sum(DB(lane_get<LANES, B>(b, i)), -zeros_b[i][group]);
      lane_set<LANES, Out>(y, i, Out(product(left, right)));
    }
    out.write(y);
    group = group == GROUPS - 1 ? 0 : group + 1;
  }
}

}  // namespace broadaxe
