// Maximum over the taps of a window: max pooling behind window.hpp, LANES channels of a tap a word; or, behind
// window_parallel.hpp, AT_ONCE taps with all channels each.
//
// Invariant: after word k of a pixel's group g, best[g] holds, lane by lane, the maximum of the first (k + 1)*AT_ONCE taps.
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

// The largest of AT_ONCE taps in each of LANES channels.
template <typename T, int LANES, int AT_ONCE>
typename word<LANES, T>::type taps_max(const typename word<AT_ONCE * LANES, T>::type& taps) {
#pragma HLS INLINE
  typename word<LANES, T>::type w;
lanes:
  for (int i = 0; i < LANES; i++) {
#pragma HLS UNROLL
    T best = lane_get<AT_ONCE * LANES, T>(taps, i);
  taps:
    for (int k = 1; k < AT_ONCE; k++) {
#pragma HLS UNROLL
      const T x = lane_get<AT_ONCE * LANES, T>(taps, k * LANES + i);
      if (x > best) best = x;
    }
    lane_set<LANES, T>(w, i, best);
  }
  return w;
}

// best[g] is read GROUPS trips after it was written. Few groups are registers, which forward in one cycle; many are a memory,
// and the distance is what lets it be read one trip apart.
template <bool MEMORY>
struct window_maximum;

template <>
struct window_maximum<false> {
  template <typename T, int LANES, int AT_ONCE, int GROUPS, int PARTS, int PIXELS>
  static void run(hls::stream<typename word<AT_ONCE * LANES, T>::type>& in, hls::stream<typename word<LANES, T>::type>& out) {
    typename word<LANES, T>::type best[GROUPS];
#pragma HLS ARRAY_PARTITION variable=best complete
    int group = 0, part = 0;
  steps:
    for (int t = 0; t < PIXELS * PARTS * GROUPS; t++) {
#pragma HLS PIPELINE II=1
      typename word<LANES, T>::type w = taps_max<T, LANES, AT_ONCE>(in.read());
      if (part > 0) w = lane_max<T, LANES>(w, best[group]);
      best[group] = w;
      if (part == PARTS - 1) out.write(w);
      if (group == GROUPS - 1) {
        group = 0;
        part = part == PARTS - 1 ? 0 : part + 1;
      } else {
        group++;
      }
    }
  }
};

template <>
struct window_maximum<true> {
  template <typename T, int LANES, int AT_ONCE, int GROUPS, int PARTS, int PIXELS>
  static void run(hls::stream<typename word<AT_ONCE * LANES, T>::type>& in, hls::stream<typename word<LANES, T>::type>& out) {
    static_assert(GROUPS >= 8, "the distance stated below is the number of groups at least");
    typename word<LANES, T>::type best[GROUPS];
    int group = 0, part = 0;
  steps:
    for (int t = 0; t < PIXELS * PARTS * GROUPS; t++) {
#pragma HLS PIPELINE II=1
#pragma HLS DEPENDENCE variable=best inter RAW distance=8 true
      typename word<LANES, T>::type w = taps_max<T, LANES, AT_ONCE>(in.read());
      if (part > 0) w = lane_max<T, LANES>(w, best[group]);
      best[group] = w;
      if (part == PARTS - 1) out.write(w);
      if (group == GROUPS - 1) {
        group = 0;
        part = part == PARTS - 1 ? 0 : part + 1;
      } else {
        group++;
      }
    }
  }
};

// PIXELS output pixels of C channels a frame, each from TAPS * C inputs, channels fastest, AT_ONCE * LANES of them a word.
template <typename T, int LANES, int C, int TAPS, int AT_ONCE, int PIXELS>
void window_max(hls::stream<typename word<AT_ONCE * LANES, T>::type>& in, hls::stream<typename word<LANES, T>::type>& out) {
#pragma HLS INLINE
  static_assert(C % LANES == 0, "the number of lanes must divide the number of channels");
  static_assert(TAPS >= 1 && PIXELS >= 1, "a window has at least one tap, a frame at least one pixel");
  static_assert(AT_ONCE >= 1 && TAPS % AT_ONCE == 0, "the taps of a word must divide those of a window");
  static_assert(AT_ONCE == 1 || LANES == C, "a word of several taps has all channels of each");
  window_maximum<(C / LANES >= 8)>::template run<T, LANES, AT_ONCE, C / LANES, TAPS / AT_ONCE, PIXELS>(in, out);
}

}  // namespace broadaxe
