// Channel concatenation: for each pixel the channels of one stream, then those of the other.
#pragma once

#include <hls_stream.h>

#include "word.hpp"

namespace broadaxe {

// PIXELS pixels a frame of CA and CB channels; PIXELS * (CA + CB)/LANES trips.
template <typename A, typename B, typename Out, int CA, int CB, int LANES, int PIXELS>
void concat(hls::stream<typename word<LANES, A>::type>& in_a, hls::stream<typename word<LANES, B>::type>& in_b,
            hls::stream<typename word<LANES, Out>::type>& out) {
  static_assert(CA % LANES == 0 && CB % LANES == 0, "the number of lanes must divide both numbers of channels");
  static_assert(CA >= 1 && CB >= 1 && PIXELS >= 1, "both inputs have channels, a frame at least one pixel");
  const int GROUPS_A = CA / LANES;
  const int GROUPS = GROUPS_A + CB / LANES;
  int group = 0;
words:
  for (int t = 0; t < PIXELS * GROUPS; t++) {
#pragma HLS PIPELINE II=1
    if (group < GROUPS_A) {
      out.write(convert_lanes<A, Out, LANES>(in_a.read()));
    } else {
      out.write(convert_lanes<B, Out, LANES>(in_b.read()));
    }
    group = group == GROUPS - 1 ? 0 : group + 1;
  }
}

}  // namespace broadaxe
