// Depthwise convolution behind window.hpp: every channel is filtered by itself, LANES channels a cycle.
//
//   y[c] = start[c] + sum over tap of w[c][tap] * x[tap*C + c]       modulo 2^widths[c % LANES]
//
// Invariant: after step (tap, group), sums[group] holds, lane by lane, start plus the pixel's first tap + 1 products of the
// group's channels, wrapped after each addition: a width that holds the final sum gives the final sum.
//
// weights[tap*C/LANES + group] holds the weights of a step, lane 0 first, bits(RomWord) / width(Weight) in each word from bit 0:
// matvec.hpp's layout of one row of TAPS * C weights, tap-major, SIMD being LANES. The memory is as wide as a step's weights,
// plus the bits of its words that they leave unused.
#pragma once

#include <hls_stream.h>

#include "matvec.hpp"
#include "word.hpp"

namespace broadaxe {

// Adds the products of one step to a group's sums.
template <typename In, typename Weight, typename Acc, int LANES, template <typename, typename> class Terms, typename RomWord>
typename word<LANES, Acc>::type depthwise_step(const typename word<LANES, Acc>::type& before,
                                               const typename word<LANES, In>::type& x,
                                               const RomWord (&weights)[weight_words<Weight, LANES, RomWord>::value],
                                               const unsigned char (&widths)[LANES]) {
#pragma HLS INLINE
  const int WB = lane<Weight>::width;
  const int PER_WORD = weight_words<Weight, LANES, RomWord>::PER_WORD;
  const int WORDS = weight_words<Weight, LANES, RomWord>::value;
  Weight w[LANES];  // unpacked first: the loop over lanes is then one that g++ vectorises
#pragma HLS ARRAY_PARTITION variable=w complete
words:
  for (int k = 0; k < WORDS; k++) {
#pragma HLS UNROLL
    const RomWord packed = weights[k];
  unpack:
    for (int j = 0; j < PER_WORD; j++) {
#pragma HLS UNROLL
      if (k * PER_WORD + j < LANES) w[k * PER_WORD + j] = Weight(packed >> (j * WB));
    }
  }
  typename word<LANES, Acc>::type after;
lanes:
  for (int i = 0; i < LANES; i++) {
#pragma HLS UNROLL
    const Acc sum = wrapped_sum(lane_get<LANES, Acc>(before, i), Terms<In, Weight>::of(lane_get<LANES, In>(x, i), w[i]));
    lane_set<LANES, Acc>(after, i, sign_extended(sum, widths[i]));
  }
  return after;
}

// start[.][group] as a word.
template <typename Acc, int LANES, int GROUPS, typename StartT>
typename word<LANES, Acc>::type depthwise_start(const StartT (&start)[LANES][GROUPS], int group) {
#pragma HLS INLINE
  typename word<LANES, Acc>::type w;
lanes:
  for (int i = 0; i < LANES; i++) {
#pragma HLS UNROLL
    lane_set<LANES, Acc>(w, i, Acc(start[i][group]));
  }
  return w;
}

// sums[group] is read GROUPS trips after it was written. Few groups are registers, which forward in one cycle; many are a memory,
// and the distance is what lets it be read one trip apart.
template <bool MEMORY>
struct depthwise_sums;

template <>
struct depthwise_sums<false> {
  template <typename In, typename Weight, typename Acc, int LANES, int GROUPS, int TAPS, int PIXELS,
            template <typename, typename> class Terms, typename RomWord, typename StartT>
  static void run(hls::stream<typename word<LANES, In>::type>& in, hls::stream<typename word<LANES, Acc>::type>& out,
                  const RomWord (&weights)[TAPS * GROUPS][weight_words<Weight, LANES, RomWord>::value],
                  const StartT (&start)[LANES][GROUPS], const unsigned char (&widths)[LANES]) {
#pragma HLS INLINE
    typename word<LANES, Acc>::type sums[GROUPS];
#pragma HLS ARRAY_PARTITION variable=sums complete
    int group = 0, tap = 0, step = 0;  // step = tap*GROUPS + group
  taps:
    for (int t = 0; t < PIXELS * TAPS * GROUPS; t++) {
#pragma HLS PIPELINE II=1
      const typename word<LANES, In>::type x = in.read();
      typename word<LANES, Acc>::type before;
      if (tap == 0) {
        before = depthwise_start<Acc, LANES, GROUPS>(start, group);
      } else {
        before = sums[group];
      }
      const typename word<LANES, Acc>::type after = depthwise_step<In, Weight, Acc, LANES, Terms>(before, x, weights[step], widths);
      sums[group] = after;
      if (tap == TAPS - 1) out.write(after);
      step = step == TAPS * GROUPS - 1 ? 0 : step + 1;
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
struct depthwise_sums<true> {
  template <typename In, typename Weight, typename Acc, int LANES, int GROUPS, int TAPS, int PIXELS,
            template <typename, typename> class Terms, typename RomWord, typename StartT>
  static void run(hls::stream<typename word<LANES, In>::type>& in, hls::stream<typename word<LANES, Acc>::type>& out,
                  const RomWord (&weights)[TAPS * GROUPS][weight_words<Weight, LANES, RomWord>::value],
                  const StartT (&start)[LANES][GROUPS], const unsigned char (&widths)[LANES]) {
#pragma HLS INLINE
    static_assert(GROUPS >= 8, "the distance stated below is the number of groups at least");
    typename word<LANES, Acc>::type sums[GROUPS];
    int group = 0, tap = 0, step = 0;  // step = tap*GROUPS + group
  taps:
    for (int t = 0; t < PIXELS * TAPS * GROUPS; t++) {
#pragma HLS PIPELINE II=1
#pragma HLS DEPENDENCE variable=sums inter RAW distance=8 true
      const typename word<LANES, In>::type x = in.read();
      typename word<LANES, Acc>::type before;
      if (tap == 0) {
        before = depthwise_start<Acc, LANES, GROUPS>(start, group);
      } else {
        before = sums[group];
      }
      const typename word<LANES, Acc>::type after = depthwise_step<In, Weight, Acc, LANES, Terms>(before, x, weights[step], widths);
      sums[group] = after;
      if (tap == TAPS - 1) out.write(after);
      step = step == TAPS * GROUPS - 1 ? 0 : step + 1;
      if (group == GROUPS - 1) {
        group = 0;
        tap = tap == TAPS - 1 ? 0 : tap + 1;
      } else {
        group++;
      }
    }
  }
};

// PIXELS output pixels of C channels a frame, each from TAPS * C inputs, channels fastest; PIXELS * TAPS * C/LANES trips.
template <typename In, typename Weight, typename Acc, int C, int TAPS, int LANES, int PIXELS, typename RomWord, typename StartT,
          template <typename, typename> class Terms = multiplied>
void depthwise(hls::stream<typename word<LANES, In>::type>& in, hls::stream<typename word<LANES, Acc>::type>& out,
               const RomWord (&weights)[TAPS * (C / LANES)][weight_words<Weight, LANES, RomWord>::value],
               const StartT (&start)[LANES][C / LANES], const unsigned char (&widths)[LANES]) {
#pragma HLS INLINE
  static_assert(C % LANES == 0, "the number of lanes must divide the number of channels");
  static_assert(TAPS >= 1 && PIXELS >= 1, "a window has at least one tap, a frame at least one pixel");
#pragma HLS ARRAY_PARTITION variable=weights complete dim=2
#pragma HLS ARRAY_PARTITION variable=start complete dim=1
#pragma HLS ARRAY_PARTITION variable=widths complete
  depthwise_sums<(C / LANES >= 8)>::template run<In, Weight, Acc, LANES, C / LANES, TAPS, PIXELS, Terms>(in, out, weights, start,
                                                                                                           widths);
}

}  // namespace broadaxe
