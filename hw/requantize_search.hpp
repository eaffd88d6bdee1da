// Requantizer for many levels: #{k : x > t[c][k]} by binary search, one comparison a stage instead of one a level.
//
// Channel c's thresholds are sorted and padded at the end to 2^DEPTH - 1 with values that no x exceeds (the domain's
// maximum); call them s. The search finds the binary digits of the count, highest first: x > s[m - 1] says that the count is m or
// more. Invariant: before stage d, `count` is the count's d highest digits, 2^(DEPTH-d) * count <= #{k : x > s[k]}.
//
// Stage d has a memory of its own, so that the stages pipeline: stages[d], dimensions [LANES][C/LANES][2^d], in which channel
// group*LANES + i has at [i][group][p] the threshold that decides digit d behind the digits p,
//   s[p * 2^(DEPTH-d) + 2^(DEPTH-1-d) - 1],        in numpy: s[:, 2**(DEPTH-1-d) - 1 :: 2**(DEPTH-d)]
// All stages together hold each s once.
#pragma once

#include <hls_stream.h>

#include "word.hpp"

namespace broadaxe {

// All digits are found.
template <int LANES, int GROUPS, typename ThrT, typename X>
int search_count(const X&, int, int, int count) {
#pragma HLS INLINE
  return count;
}

// The next digit from this stage's memory, the rest from those after it: the recursion unrolls into a chain of stages.
template <int LANES, int GROUPS, typename ThrT, typename X, int NODES, int... MORE>
int search_count(const X& x, int i, int group, int count, const ThrT (&stage)[LANES][GROUPS][NODES],
                 const ThrT (&... stages)[LANES][GROUPS][MORE]) {
#pragma HLS INLINE
#pragma HLS ARRAY_PARTITION variable=stage complete dim=1
  const int digit = x > stage[i][group][count] ? 1 : 0;
  return search_count<LANES, GROUPS, ThrT, X>(x, i, group, 2 * count + digit, stages...);
}

// Whether NODES... is 1, 2, 4, ... from FIRST.
template <int FIRST, int... NODES>
struct doubling {
  static const bool value = true;
};
template <int FIRST, int NEXT, int... NODES>
struct doubling<FIRST, NEXT, NODES...> {
  static const bool value = NEXT == FIRST && doubling<2 * FIRST, NODES...>::value;
};

// base[c] + dir[c] * #{k : x > t[c][k]}. COUNT words a frame and trips.
template <typename In, typename Out, int LANES, int C, int DEPTH, int COUNT, typename ThrT, typename BaseT, int... NODES>
void threshold_search(hls::stream<typename word<LANES, In>::type>& in, hls::stream<typename word<LANES, Out>::type>& out,
                      const BaseT (&base)[LANES][C / LANES], const signed char (&dir)[LANES][C / LANES],
                      const ThrT (&... stages)[LANES][C / LANES][NODES]) {
  static_assert(C % LANES == 0, "the number of lanes must divide the number of channels");
  static_assert(static_cast<ThrT>(-1) < 0, "thresholds are signed");
  static_assert(DEPTH >= 1 && sizeof...(NODES) == DEPTH, "the search has one memory a stage");
  static_assert(doubling<1, NODES...>::value, "stage d has 2^d thresholds a channel");
#pragma HLS ARRAY_PARTITION variable=base complete dim=1
#pragma HLS ARRAY_PARTITION variable=dir complete dim=1
  int group = 0;
words:
  for (int n = 0; n < COUNT; n++) {
#pragma HLS PIPELINE II=1
    const typename word<LANES, In>::type w = in.read();
    typename word<LANES, Out>::type y;
  lanes:
    for (int i = 0; i < LANES; i++) {
#pragma HLS UNROLL
      typedef typename intermediate<lane<In>::width, lane<In>::is_signed>::type X;
      const X x = lane_get<LANES, In>(w, i);
      const int above = search_count<LANES, C / LANES, ThrT, X>(x, i, group, 0, stages...);
      lane_set<LANES, Out>(y, i, Out(base[i][group] + (dir[i][group] < 0 ? -above : above)));
    }
    out.write(y);
    group = group == C / LANES - 1 ? 0 : group + 1;
  }
}

// The same where every channel rises: base[c] + #{k : x > t[c][k]}.
template <typename In, typename Out, int LANES, int C, int DEPTH, int COUNT, typename ThrT, typename BaseT, int... NODES>
void threshold_search(hls::stream<typename word<LANES, In>::type>& in, hls::stream<typename word<LANES, Out>::type>& out,
                      const BaseT (&base)[LANES][C / LANES], const ThrT (&... stages)[LANES][C / LANES][NODES]) {
  static_assert(C % LANES == 0, "the number of lanes must divide the number of channels");
  static_assert(static_cast<ThrT>(-1) < 0, "thresholds are signed");
  static_assert(DEPTH >= 1 && sizeof...(NODES) == DEPTH, "the search has one memory a stage");
  static_assert(doubling<1, NODES...>::value, "stage d has 2^d thresholds a channel");
#pragma HLS ARRAY_PARTITION variable=base complete dim=1
  int group = 0;
words:
  for (int n = 0; n < COUNT; n++) {
#pragma HLS PIPELINE II=1
    const typename word<LANES, In>::type w = in.read();
    typename word<LANES, Out>::type y;
  lanes:
    for (int i = 0; i < LANES; i++) {
#pragma HLS UNROLL
      typedef typename intermediate<lane<In>::width, lane<In>::is_signed>::type X;
      const X x = lane_get<LANES, In>(w, i);
      const int above = search_count<LANES, C / LANES, ThrT, X>(x, i, group, 0, stages...);
      lane_set<LANES, Out>(y, i, Out(base[i][group] + above));
    }
    out.write(y);
    group = group == C / LANES - 1 ? 0 : group + 1;
  }
}

}  // namespace broadaxe
