// AXI-Stream at the design's edges: beats to lane words and back. ap_axiu goes no further in than this.
//
// A beat holds LANES lanes packed from bit 0; its data width is LANES * width(T) rounded up to whole bytes.
#pragma once

#include <ap_axi_sdata.h>
#include <hls_stream.h>

#include "word.hpp"

namespace broadaxe {

// user, id and dest: absent from ap_axiu<D, 0, 0, 0> (Vitis HLS), to be driven in ap_axiu<D, 1, 1, 1> (Vivado HLS).
template <bool PRESENT>
struct sideband {
  template <typename AxisWord>
  static void clear(AxisWord&) {}
};
template <>
struct sideband<true> {
  template <typename AxisWord>
  static void clear(AxisWord& beat) {
#pragma HLS INLINE
    beat.user = 0;
    beat.id = 0;
    beat.dest = 0;
  }
};

// COUNT beats a frame. `last` is not looked at: the frame's length is fixed by the design.
template <typename AxisWord, typename T, int LANES, int COUNT>
void axis_read(hls::stream<AxisWord>& in, hls::stream<typename word<LANES, T>::type>& out) {
  static_assert(COUNT >= 1, "a frame has at least one beat");
  const int WIDTH = lane<T>::width;
beats:
  for (int t = 0; t < COUNT; t++) {
#pragma HLS PIPELINE II=1
    const AxisWord beat = in.read();
    typename word<LANES, T>::type w;
  unpack:
    for (int i = 0; i < LANES; i++) {
#pragma HLS UNROLL
      const typename integer<lane<T>::width, false>::type bits = beat.data.range((i + 1) * WIDTH - 1, i * WIDTH);
      lane_set<LANES, T>(w, i, T(bits));
    }
    out.write(w);
  }
}

// COUNT beats a frame; SIDEBAND says whether AxisWord has user, id and dest.
template <typename AxisWord, typename T, int LANES, int COUNT, bool SIDEBAND>
void axis_write(hls::stream<typename word<LANES, T>::type>& in, hls::stream<AxisWord>& out) {
  static_assert(COUNT >= 1, "a frame has at least one beat");
  const int WIDTH = lane<T>::width;
beats:
  for (int t = 0; t < COUNT; t++) {
#pragma HLS PIPELINE II=1
    const typename word<LANES, T>::type w = in.read();
    AxisWord beat;
    sideband<SIDEBAND>::clear(beat);
    beat.data = 0;  // the bits above the last lane
    beat.keep = -1;
    beat.strb = -1;
    beat.last = t == COUNT - 1;
  pack:
    for (int i = 0; i < LANES; i++) {
#pragma HLS UNROLL
      const typename integer<lane<T>::width, false>::type bits = lane_get<LANES, T>(w, i);
      beat.data.range((i + 1) * WIDTH - 1, i * WIDTH) = bits;
    }
    out.write(beat);
  }
}

}  // namespace broadaxe
