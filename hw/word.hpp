// A stream word: N lanes of type T, lane 0 in the lowest bits.
//
// ap_uint<N * width> in the vendor tool and the exact build; an array of lanes in the native build, where packing would cost
// more than the arithmetic. lane_get and lane_set hide the difference.
#pragma once

#include "arith.hpp"

namespace broadaxe {

#ifdef BROADAXE_NATIVE
template <int N, typename T>
struct lanes {
  T lane[N];
};
#endif

template <int N, typename T>
struct word {
  static_assert(N >= 1, "a stream word has at least one lane");
  static_assert(N * lane<T>::width <= 4096, "a stream word has at most 4096 bits");
#ifdef BROADAXE_NATIVE
  typedef lanes<N, T> type;
#else
  typedef ap_uint<N * lane<T>::width> type;
#endif
};

template <int N, typename T>
T lane_get(const typename word<N, T>::type& w, int i) {
#pragma HLS INLINE
#ifdef BROADAXE_NATIVE
  return w.lane[i];
#else
  typename integer<lane<T>::width, false>::type bits = w.range((i + 1) * lane<T>::width - 1, i * lane<T>::width);
  return T(bits);
#endif
}

template <int N, typename T>
void lane_set(typename word<N, T>::type& w, int i, T x) {
#pragma HLS INLINE
#ifdef BROADAXE_NATIVE
  w.lane[i] = x;
#else
  typename integer<lane<T>::width, false>::type bits = x;
  w.range((i + 1) * lane<T>::width - 1, i * lane<T>::width) = bits;
#endif
}

// The lanes of w in another type, which must hold them.
template <typename T, typename Out, int LANES>
typename word<LANES, Out>::type convert_lanes(const typename word<LANES, T>::type& w) {
#pragma HLS INLINE
  typename word<LANES, Out>::type converted;
lanes:
  for (int i = 0; i < LANES; i++) {
#pragma HLS UNROLL
    lane_set<LANES, Out>(converted, i, Out(lane_get<LANES, T>(w, i)));
  }
  return converted;
}

// Constants of channels group*LANES and on, as a word: rom[lane][group].
template <typename T, int LANES, typename RomT, int GROUPS>
typename word<LANES, T>::type constant_word(const RomT (&rom)[LANES][GROUPS], int group) {
#pragma HLS INLINE
  typename word<LANES, T>::type w;
lanes:
  for (int i = 0; i < LANES; i++) {
#pragma HLS UNROLL
    lane_set<LANES, T>(w, i, T(rom[i][group]));
  }
  return w;
}

}  // namespace broadaxe

#if defined(BROADAXE_NATIVE) && defined(BROADAXE_TRACE)
#include <hls_stream.h>
namespace broadaxe_trace {
template <int N, typename T>
struct split<broadaxe::lanes<N, T> > {
  static void append(History& history, const broadaxe::lanes<N, T>& word) {
    for (int i = 0; i < N; i++) history.push_back(word.lane[i].to_int64());
  }
};
}  // namespace broadaxe_trace
#endif
