// Requantizer by lookup: any function, rising or not, of an input proven to lie in [LO, LO + SIZE - 1].
//
// Words of LANES lanes, channels fastest, COUNT words a frame and trips.
#pragma once

#include <hls_stream.h>

#include "word.hpp"

namespace broadaxe {

// rom[i][group][x - LO] for channel group*LANES + i.
template <typename In, typename Out, int LANES, int C, long long LO, int SIZE, int COUNT, typename OutT>
void table(hls::stream<typename word<LANES, In>::type>& in, hls::stream<typename word<LANES, Out>::type>& out,
           const OutT (&rom)[LANES][C / LANES][SIZE]) {
  static_assert(C % LANES == 0, "the number of lanes must divide the number of channels");
#pragma HLS ARRAY_PARTITION variable=rom complete dim=1
  int group = 0;
words:
  for (int n = 0; n < COUNT; n++) {
#pragma HLS PIPELINE II=1
    const typename word<LANES, In>::type w = in.read();
    typename word<LANES, Out>::type y;
  lanes:
    for (int i = 0; i < LANES; i++) {
#pragma HLS UNROLL
      const typename intermediate<lane<In>::width, lane<In>::is_signed>::type x = lane_get<LANES, In>(w, i);
      const int at = static_cast<int>(x - LO);
      lane_set<LANES, Out>(y, i, Out(rom[i][group][at]));
    }
    out.write(y);
    group = group == C / LANES - 1 ? 0 : group + 1;
  }
}

// The same where all channels share one function: rom[i][x - LO], the row once a lane, so that the lanes read at the same time.
template <typename In, typename Out, int LANES, int C, long long LO, int SIZE, int COUNT, typename OutT>
void table(hls::stream<typename word<LANES, In>::type>& in, hls::stream<typename word<LANES, Out>::type>& out,
           const OutT (&rom)[LANES][SIZE]) {
  static_assert(C % LANES == 0, "the number of lanes must divide the number of channels");
#pragma HLS ARRAY_PARTITION variable=rom complete dim=1
words:
  for (int n = 0; n < COUNT; n++) {
#pragma HLS PIPELINE II=1
    const typename word<LANES, In>::type w = in.read();
    typename word<LANES, Out>::type y;
  lanes:
    for (int i = 0; i < LANES; i++) {
#pragma HLS UNROLL
      const typename intermediate<lane<In>::width, lane<In>::is_signed>::type x = lane_get<LANES, In>(w, i);
      const int at = static_cast<int>(x - LO);
      lane_set<LANES, Out>(y, i, Out(rom[i][at]));
    }
    out.write(y);
  }
}

}  // namespace broadaxe
