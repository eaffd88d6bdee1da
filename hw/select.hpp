// The larger or the smaller of two streams, element by element, brought to one scale by integer constants.
#pragma once

#include <hls_stream.h>

#include "add.hpp"
#include "word.hpp"

namespace broadaxe {

// max or min of FA*a and FB*b + OFFSET, lane by lane, both held by Side. COUNT words a frame and trips.
template <typename A, typename B, typename Out, typename Side, int LANES, int COUNT, bool LARGEST, long long FA,
          long long FB, long long OFFSET>
void select(hls::stream<typename word<LANES, A>::type>& in_a, hls::stream<typename word<LANES, B>::type>& in_b,
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
      const Side left = Side(constant_factor<FA>::times(lane_get<LANES, A>(a, i)));
      const Side right = wrapped_sum(Side(OFFSET), constant_factor<FB>::times(lane_get<LANES, B>(b, i)));
      lane_set<LANES, Out>(y, i, Out((left > right) == LARGEST ? left : right));
    }
    out.write(y);
  }
}

}  // namespace broadaxe
