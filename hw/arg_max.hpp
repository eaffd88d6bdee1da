// Index of the largest element of a vector, each brought to one scale by a factor and a bias of its channel.
//
// Invariant: after element c of a vector, best is the largest of the keys 0 .. c and at the first (LAST: the last) c that has it.
#pragma once

#include <hls_stream.h>

#include "word.hpp"

namespace broadaxe {

// VECTORS vectors of C elements a frame, an element a trip. Key holds every factor * x + bias, Factor every factor.
// SCALES is C, or 1 where all channels share one factor and one bias.
template <typename In, typename Out, typename Key, typename Factor, int C, int VECTORS, bool LAST, int SCALES, typename FactorT,
          typename BiasT>
void arg_max(hls::stream<typename word<1, In>::type>& in, hls::stream<typename word<1, Out>::type>& out,
             const FactorT (&factor)[1][SCALES], const BiasT (&bias)[1][SCALES]) {
  static_assert(SCALES == C || SCALES == 1, "channels have a scale each, or all the same one");
  static_assert(C >= 1 && VECTORS >= 1, "a vector has at least one element, a frame at least one vector");
  Key best = 0;
  int at = 0, c = 0;
elements:
  for (int t = 0; t < VECTORS * C; t++) {
#pragma HLS PIPELINE II=1
    const In x = lane_get<1, In>(in.read(), 0);
    const int scale = SCALES == 1 ? 0 : c;
    const Key key = wrapped_sum(Key(product(x, Factor(factor[0][scale]))), bias[0][scale]);
    if (c == 0 || key > best || (LAST && key == best)) {
      best = key;
      at = c;
    }
    if (c == C - 1) {
      typename word<1, Out>::type y;
      lane_set<1, Out>(y, 0, Out(at));
      out.write(y);
      c = 0;
    } else {
      c++;
    }
  }
}

}  // namespace broadaxe
