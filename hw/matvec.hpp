// Matrix-vector unit: PE rows times SIMD inputs a cycle.
//
// Invariant: after step (nf, sf), acc[pe] = start[pe][nf] + sum over the first (sf + 1)*SIMD inputs of row nf*PE + pe, modulo
// 2^widths[pe], the widest of the rows that share PE pe. The dot product of a step is exact; the accumulator wraps once a step, so a width
// that holds the final sum gives the final sum, and one that is a bit too narrow gives a wrong one. Acc is the widest of them all.
//
// With Terms = matches, weights of -1 and +1 are the bits 0 and 1 and inputs one bit: XNOR and a count of ones. start then holds
// each row's start less its number of weights -1, modulo 2^width(Acc).
//
// weights[pe][nf*SF + sf] holds the SIMD weights of a step, bits(RomWord) / width(Weight) in each word from bit 0; they are
// built-in integers because large ap_int tables take g++ minutes.
#pragma once

#include <hls_stream.h>

#include "word.hpp"

namespace broadaxe {

// Words of type RomWord that SIMD weights take.
template <typename Weight, int SIMD, typename RomWord>
struct weight_words {
  static const int PER_WORD = 8 * static_cast<int>(sizeof(RomWord)) / lane<Weight>::width;
  static_assert(PER_WORD >= 1, "a weight must fit one memory word");
  static const int value = (SIMD + PER_WORD - 1) / PER_WORD;
};

template <typename In, typename Weight, typename Acc, int MW, int MH, int SIMD, int PE, int VECTORS, typename RomWord,
          typename StartT, template <typename, typename> class Terms = multiplied>
void matvec(hls::stream<typename word<SIMD, In>::type>& in, hls::stream<typename word<PE, Acc>::type>& out,
            const RomWord (&weights)[PE][(MH / PE) * (MW / SIMD)][weight_words<Weight, SIMD, RomWord>::value],
            const StartT (&start)[PE][MH / PE], const unsigned char (&widths)[PE]) {
#pragma HLS INLINE
  static_assert(MW % SIMD == 0, "SIMD must divide the number of inputs");
  static_assert(MH % PE == 0, "PE must divide the number of outputs");
  static_assert(VECTORS >= 1, "a frame has at least one vector");
#pragma HLS ARRAY_PARTITION variable=weights complete dim=1
#pragma HLS ARRAY_PARTITION variable=weights complete dim=3
#pragma HLS ARRAY_PARTITION variable=start complete dim=1
#pragma HLS ARRAY_PARTITION variable=widths complete
  const int SF = MW / SIMD;
  const int NF = MH / PE;
  const int WB = lane<Weight>::width;
  const int PER_WORD = weight_words<Weight, SIMD, RomWord>::PER_WORD;
  const int WORDS = weight_words<Weight, SIMD, RomWord>::value;
  typedef typename dot_type<In, Weight, SIMD>::type Dot;

  typename word<SIMD, In>::type vector[SF];
  Acc acc[PE];
#pragma HLS ARRAY_PARTITION variable=acc complete

  int nf = 0, sf = 0, step = 0;  // step = nf*SF + sf
steps:
  for (int t = 0; t < VECTORS * NF * SF; t++) {
#pragma HLS PIPELINE II=1
    typename word<SIMD, In>::type w;
    if (nf == 0) {
      w = in.read();
      vector[sf] = w;
    } else {
      w = vector[sf];
    }
    In x[SIMD];
#pragma HLS ARRAY_PARTITION variable=x complete
  unpack:
    for (int i = 0; i < SIMD; i++) {
#pragma HLS UNROLL
      x[i] = lane_get<SIMD, In>(w, i);
    }
  rows:
    for (int pe = 0; pe < PE; pe++) {
#pragma HLS UNROLL
      Dot dot = 0;
    words:
      for (int k = 0; k < WORDS; k++) {
#pragma HLS UNROLL
        const RomWord packed = weights[pe][step][k];
      inputs:
        for (int j = 0; j < PER_WORD; j++) {
#pragma HLS UNROLL
          if (k * PER_WORD + j < SIMD) {
            dot += Terms<In, Weight>::of(x[k * PER_WORD + j], Weight(packed >> (j * WB)));
          }
        }
      }
      const Acc before = sf == 0 ? Acc(start[pe][nf]) : acc[pe];
      acc[pe] = sign_extended(wrapped_sum(before, dot), widths[pe]);
    }
    if (sf == SF - 1) {
      typename word<PE, Acc>::type y;
    emit:
      for (int pe = 0; pe < PE; pe++) {
#pragma HLS UNROLL
        lane_set<PE, Acc>(y, pe, acc[pe]);
      }
      out.write(y);
      sf = 0;
      if (nf == NF - 1) {
        nf = 0;
        step = 0;
      } else {
        nf++;
        step++;
      }
    } else {
      sf++;
      step++;
    }
  }
}

}  // namespace broadaxe
