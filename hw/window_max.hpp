// Maximum over the taps of a window: max pooling behind window.hpp.
//
// Invariant: after tap k of a pixel, best[g] holds, lane by lane, the maximum of the pixel's first k + 1 words of group g.
#pragma once

#include <hls_stream.h>

#include "word.hpp"

namespace broadaxe {

template <typename T, int LANES>
typename word<LANES, T>::type lane_max(const typename word<LANES, T>::type& a, const typename word<LANES, T>::type& b) {
#pragma HLS INLINE
  typename word<LANES, T>::type w;
lanes:
  for (int i = 0; i < LANES; i++) {
#pragma HLS UNROLL
    const T x = lane_get<LANES, T>(a, i), y = lane_get<LANES, T>(b, i);
    lane_set<LANES, T>(w, i, x > y ? x : y);
  }
  return w;
}

// best[g] is read GROUPS trips after it was written. Few groups are registers, which forward in one cycle; many are a memory,
// and the distance is what lets it be read one trip apart.
template <bool MEMORY>
struct window_maximum;

template <>
struct window_maximum<false> {
  template <typename T, int LANES, int GROUPS, int TAPS, int PIXELS>
  static void run(hls::stream<typename word<LANES, T>::type>& in, hls::stream<typename word<LANES, T>::type>& out) {
    typename word<LANES, T>::type best[GROUPS];
#pragma HLS ARRAY_PARTITION variable=best complete
    int group = 0, tap = 0;
  taps:
    for (int t = 0; t < PIXELS * TAPS * GROUPS; t++) {
#pragma HLS PIPELINE II=1
      typename word<LANES, T>::type w = in.read();
      if (tap > 0) w = lane_max<T, LANES>(w, best[group]);
      best[group] = w;
      if (tap == TAPS - 1) out.write(w);
      if (group == GROUPS - 1) {
        group = 0;
        tap = tap == TAPS - 1 ? 0 : tap + 1;
      } else {
        group++;
      }
    }
  }
};

template <>
struct window_maximum<true> {
  template <typename T, int LANES, int GROUPS, int TAPS, int PIXELS>
  static void run(hls::stream<typename word<LANES, T>::type>& in, hls::stream<typename word<LANES, T>::type>& out) {
    static_assert(GROUPS >= 8, "the distance stated below is the number of groups at least");
    typename word<LANES, T>::type best[GROUPS];
    int group = 0, tap = 0;
  taps:
    for (int t = 0; t < PIXELS * TAPS * GROUPS; t++) {
#pragma HLS PIPELINE II=1
#pragma HLS DEPENDENCE variable=best inter RAW distance=8 true
      typename word<LANES, T>::type w = in.read();
      if (tap > 0) w = lane_max<T, LANES>(w, best[group]);
      best[group] = w;
      if (tap == TAPS - 1) out.write(w);
      if (group == GROUPS - 1) {
        group = 0;
        tap = tap == TAPS - 1 ? 0 : tap + 1;
      } else {
        group++;
      }
    }
  }
};

// PIXELS output pixels of C channels a frame, each from TAPS * C inputs, channels fastest.
template <typename T, int LANES, int C, int TAPS, int PIXELS>
void window_max(hls::stream<typename word<LANES, T>::type>& in, hls::stream<typename word<LANES, T>::type>& out) {
#pragma HLS INLINE
  static_assert(C % LANES == 0, "the number of lanes must divide the number of channels");
  static_assert(TAPS >= 1 && PIXELS >= 1, "a window has at least one tap, a frame at least one pixel");
  window_maximum<(C / LANES >= 8)>::template run<T, LANES, C / LANES, TAPS, PIXELS>(in, out);
}

}  // namespace broadaxe
