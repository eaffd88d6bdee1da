// Requantizers: integer staircases from accumulators to activation codes, one channel a lane.
//
// Words of LANES lanes, channels fastest, COUNT words a frame. Channel group*LANES + i has its constants at [i][group].
#pragma once

#include <hls_stream.h>

#include "word.hpp"

namespace broadaxe {

// base[c] + dir[c] * #{k : x > t[c][k]}, all comparisons at once.
template <typename In, typename Out, int LANES, int C, int LEVELS, int COUNT, typename ThrT, typename BaseT>
void thresholds(hls::stream<typename word<LANES, In>::type>& in, hls::stream<typename word<LANES, Out>::type>& out,
                const ThrT (&t)[LANES][C / LANES][LEVELS], const BaseT (&base)[LANES][C / LANES],
                const signed char (&dir)[LANES][C / LANES]) {
  static_assert(C % LANES == 0, "the number of lanes must divide the number of channels");
  static_assert(static_cast<ThrT>(-1) < 0, "thresholds are signed");
#pragma HLS ARRAY_PARTITION variable=t complete dim=1
#pragma HLS ARRAY_PARTITION variable=t complete dim=3
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
      const typename intermediate<lane<In>::width, lane<In>::is_signed>::type x = lane_get<LANES, In>(w, i);
      int above = 0;
    levels:
      for (int k = 0; k < LEVELS; k++) {
#pragma HLS UNROLL
        above += x > t[i][group][k] ? 1 : 0;
      }
      lane_set<LANES, Out>(y, i, Out(base[i][group] + (dir[i][group] < 0 ? -above : above)));
    }
    out.write(y);
    group = group == C / LANES - 1 ? 0 : group + 1;
  }
}

// The same where every channel rises: base[c] + #{k : x > t[c][k]}.
template <typename In, typename Out, int LANES, int C, int LEVELS, int COUNT, typename ThrT, typename BaseT>
void thresholds(hls::stream<typename word<LANES, In>::type>& in, hls::stream<typename word<LANES, Out>::type>& out,
                const ThrT (&t)[LANES][C / LANES][LEVELS], const BaseT (&base)[LANES][C / LANES]) {
  static_assert(C % LANES == 0, "the number of lanes must divide the number of channels");
  static_assert(static_cast<ThrT>(-1) < 0, "thresholds are signed");
#pragma HLS ARRAY_PARTITION variable=t complete dim=1
#pragma HLS ARRAY_PARTITION variable=t complete dim=3
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
      const typename intermediate<lane<In>::width, lane<In>::is_signed>::type x = lane_get<LANES, In>(w, i);
      int above = 0;
    levels:
      for (int k = 0; k < LEVELS; k++) {
#pragma HLS UNROLL
        above += x > t[i][group][k] ? 1 : 0;
      }
      lane_set<LANES, Out>(y, i, Out(base[i][group] + above));
    }
    out.write(y);
    group = group == C / LANES - 1 ? 0 : group + 1;
  }
}

// t / 2^S rounded down, or to the nearest with ties to even, then clamped to [LO, HI].
//
// Half-even: with t = q*2^S + r, adding 2^(S-1) - 1 carries into q when r > 2^(S-1), and the lowest bit of q added on top
// carries at r = 2^(S-1) too when q is odd. The sum needs one bit more than t and 2^(S-1) do.
template <int S, long long LO, long long HI, bool HALF_EVEN, typename Sum>
struct rounding_shift {
  static_assert(S >= 0 && S < 62, "the shift is 0 to 61 bits");
  static_assert(LO <= HI, "the clamp is an interval");
  static const int WIDTH = larger<lane<Sum>::width + (lane<Sum>::is_signed ? 0 : 1), S + 1>::value + 1;
  typedef typename intermediate<WIDTH, true>::type Wide;

  template <typename Out>
  static Out of(Sum sum) {
#pragma HLS INLINE
    const Wide t = sum;
    const int HALF = S > 0 ? S - 1 : 0;
    Wide q = t;
    if (HALF_EVEN && S > 0) {
      const Wide half = (1LL << HALF) - 1;
      const Wide odd = (t >> S) & 1;
      q = t + half + odd;
    }
    q = q >> S;
    const Wide lo = LO, hi = HI;
    if (q < lo) return Out(LO);
    if (q > hi) return Out(HI);
    return Out(q);
  }
};

// (x + bias[c]) / 2^S, rounded and clamped. Sum is the type proven to hold x + bias[c].
template <typename In, typename Out, typename Sum, int LANES, int C, int S, long long LO, long long HI, bool HALF_EVEN, int COUNT,
          typename BiasT>
void shift(hls::stream<typename word<LANES, In>::type>& in, hls::stream<typename word<LANES, Out>::type>& out,
           const BiasT (&bias)[LANES][C / LANES]) {
  static_assert(C % LANES == 0, "the number of lanes must divide the number of channels");
#pragma HLS ARRAY_PARTITION variable=bias complete dim=1
  int group = 0;
words:
  for (int n = 0; n < COUNT; n++) {
#pragma HLS PIPELINE II=1
    const typename word<LANES, In>::type w = in.read();
    typename word<LANES, Out>::type y;
  lanes:
    for (int i = 0; i < LANES; i++) {
#pragma HLS UNROLL
      const Sum sum = wrapped_sum(Sum(lane_get<LANES, In>(w, i)), Sum(bias[i][group]));
      lane_set<LANES, Out>(y, i, rounding_shift<S, LO, HI, HALF_EVEN, Sum>::template of<Out>(sum));
    }
    out.write(y);
    group = group == C / LANES - 1 ? 0 : group + 1;
  }
}

// (m[c]*x + bias[c]) / 2^S, rounded and clamped. Factor holds m[c]; Sum is the type proven to hold m[c]*x + bias[c].
template <typename In, typename Out, typename Factor, typename Sum, int LANES, int C, int S, long long LO, long long HI,
          bool HALF_EVEN, int COUNT, typename FactorT, typename BiasT>
void multiply_shift(hls::stream<typename word<LANES, In>::type>& in, hls::stream<typename word<LANES, Out>::type>& out,
                    const FactorT (&factor)[LANES][C / LANES], const BiasT (&bias)[LANES][C / LANES]) {
  static_assert(C % LANES == 0, "the number of lanes must divide the number of channels");
#pragma HLS ARRAY_PARTITION variable=factor complete dim=1
#pragma HLS ARRAY_PARTITION variable=bias complete dim=1
  int group = 0;
words:
  for (int n = 0; n < COUNT; n++) {
#pragma HLS PIPELINE II=1
    const typename word<LANES, In>::type w = in.read();
    typename word<LANES, Out>::type y;
  lanes:
    for (int i = 0; i < LANES; i++) {
#pragma HLS UNROLL
      const Sum sum = wrapped_sum(Sum(bias[i][group]), product(lane_get<LANES, In>(w, i), Factor(factor[i][group])));
      lane_set<LANES, Out>(y, i, rounding_shift<S, LO, HI, HALF_EVEN, Sum>::template of<Out>(sum));
    }
    out.write(y);
    group = group == C / LANES - 1 ? 0 : group + 1;
  }
}

// value[c], whatever comes in; the input is still consumed.
template <typename In, typename Out, int LANES, int C, int COUNT, typename ValueT>
void constant(hls::stream<typename word<LANES, In>::type>& in, hls::stream<typename word<LANES, Out>::type>& out,
              const ValueT (&value)[LANES][C / LANES]) {
  static_assert(C % LANES == 0, "the number of lanes must divide the number of channels");
#pragma HLS ARRAY_PARTITION variable=value complete dim=1
  int group = 0;
words:
  for (int n = 0; n < COUNT; n++) {
#pragma HLS PIPELINE II=1
    in.read();
    out.write(constant_word<Out, LANES>(value, group));
    group = group == C / LANES - 1 ? 0 : group + 1;
  }
}

}  // namespace broadaxe
