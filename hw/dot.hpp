// Products of matrices of activations: N*K elements of the right one are kept, then the rows of the left one stream past.
//
// A frame holds MATRICES pairs: N vectors of K from in_b, then M vectors of K from in_a. Each step of a row is one of
// matvec.hpp, with the kept matrix for weights. Zero codes come off on the way in; DA and DB hold what is left.
//
// Invariant: after step (row, nf, sf), acc[pe] = start[pe][nf] + sum over the first (sf + 1)*SIMD products of output
// nf*PE + pe, modulo 2^width(Acc).
#pragma once

#include <hls_stream.h>

#include "word.hpp"

namespace broadaxe {

// The lanes of w without the constant ZERO, in a type that holds them.
template <typename T, typename D, int LANES, long long ZERO>
typename word<LANES, D>::type without(const typename word<LANES, T>::type& w) {
#pragma HLS INLINE
  typename word<LANES, D>::type left;
lanes:
  for (int i = 0; i < LANES; i++) {
#pragma HLS UNROLL
    lane_set<LANES, D>(left, i, wrapped_sum(D(lane_get<LANES, T>(w, i)), -ZERO));
  }
  return left;
}

template <typename A, typename B, typename Acc, typename DA, typename DB, int K, int N, int M, int MATRICES, int SIMD, int PE,
          long long ZERO_A, long long ZERO_B, typename StartT, template <typename, typename> class Terms = multiplied>
void dot(hls::stream<typename word<SIMD, A>::type>& in_a, hls::stream<typename word<SIMD, B>::type>& in_b,
         hls::stream<typename word<PE, Acc>::type>& out, const StartT (&start)[PE][N / PE]) {
  static_assert(K % SIMD == 0, "SIMD must divide the number of products");
  static_assert(N % PE == 0, "PE must divide the number of outputs");
  static_assert(M >= 1 && MATRICES >= 1, "a frame has at least one matrix of at least one row");
#pragma HLS ARRAY_PARTITION variable=start complete dim=1
  const int SF = K / SIMD;
  const int NF = N / PE;
  typedef typename dot_type<DA, DB, SIMD>::type Sum;

  typename word<SIMD, DB>::type kept[PE][NF * SF];
#pragma HLS ARRAY_PARTITION variable=kept complete dim=1
  typename word<SIMD, DA>::type vector[SF];
  Acc acc[PE];
#pragma HLS ARRAY_PARTITION variable=acc complete

  bool filling = true;
  int lane = 0, row = 0, nf = 0, sf = 0, step = 0;  // step = nf*SF + sf
steps:
  for (int t = 0; t < MATRICES * SF * (N + M * NF); t++) {
#pragma HLS PIPELINE II=1
    if (filling) {
      kept[lane][step] = without<B, DB, SIMD, ZERO_B>(in_b.read());
      if (sf < SF - 1) {
        sf++;
        step++;
      } else {
        sf = 0;
        if (lane < PE - 1) {  // vector nf*PE + lane is kept for output lane `lane`
          lane++;
          step -= SF - 1;
        } else {
          lane = 0;
          filling = nf < NF - 1;
          nf = filling ? nf + 1 : 0;
          step = filling ? step + 1 : 0;
        }
      }
    } else {
      typename word<SIMD, DA>::type w;
      if (nf == 0) {
        w = without<A, DA, SIMD, ZERO_A>(in_a.read());
        vector[sf] = w;
      } else {
        w = vector[sf];
      }
    rows:
      for (int pe = 0; pe < PE; pe++) {
#pragma HLS UNROLL
        const typename word<SIMD, DB>::type against = kept[pe][step];
        Sum sum = 0;
      products:
        for (int i = 0; i < SIMD; i++) {
#pragma HLS UNROLL
          sum += Terms<DA, DB>::of(lane_get<SIMD, DA>(w, i), lane_get<SIMD, DB>(against, i));
        }
        const Acc before = sf == 0 ? Acc(start[pe][nf]) : acc[pe];
        acc[pe] = wrapped_sum(before, sum);
      }
      if (sf < SF - 1) {
        sf++;
        step++;
      } else {
        typename word<PE, Acc>::type y;
      emit:
        for (int pe = 0; pe < PE; pe++) {
#pragma HLS UNROLL
          lane_set<PE, Acc>(y, pe, acc[pe]);
        }
        out.write(y);
        sf = 0;
        if (nf < NF - 1) {
          nf++;
          step++;
        } else {
          nf = 0;
          step = 0;
          filling = row == M - 1;
          row = filling ? 0 : row + 1;
        }
      }
    }
  }
}

}  // namespace broadaxe
