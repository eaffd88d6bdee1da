// Matrix-vector unit whose DSP blocks each make LANES products a cycle: rows of a PE group share an input, so their weights stand
// side by side in one wide operand, and their sums side by side in the block's adder.
//
// With weights w_k of a group's rows and LANE bits a lane, the operand is sum_k w_k * 2^(LANE*k). Times x, summed over a row's
// inputs and started at B + sum_k start_k * 2^(LANE*k), with B = sum_k 2^(LANE - 1) * 2^(LANE*k), this is the integer
//   sum_k (S_k + 2^(LANE - 1)) * 2^(LANE*k),     S_k = start_k + the sum of row k.
// Where every S_k fits LANE bits in two's complement, every bracket lies in 0 .. 2^LANE - 1: the brackets are the integer's digits,
// so that a lane is read as it stands and its highest bit inverted. No borrow is left to undo, and no bit is needed to guard one.
// All of it is arithmetic of integers modulo 2^(LANES*LANE): what partial sums do to their neighbours is undone by the end,
// whatever the order of the additions, as in any wrapping accumulator. One lane too narrow for its S_k carries into the next.
//
// weights are as in matvec.hpp. Lanes of a last group that PE does not fill hold 0.
#pragma once

#include <hls_stream.h>

#include "matvec.hpp"
#include "word.hpp"

namespace broadaxe {

// A block's multiplier of WIDE x NARROW bits, signed, and its adder.
struct dsp48e1 {
  static const int WIDE = 25, NARROW = 18, ACCUMULATOR = 48;
};
struct dsp48e2 {
  static const int WIDE = 27, NARROW = 18, ACCUMULATOR = 48;
};
struct dsp58 {
  static const int WIDE = 27, NARROW = 24, ACCUMULATOR = 58;
};

template <typename Dsp, typename In, int LANES, int LANE>
struct packed {
  static_assert(LANES >= 2 && LANES <= 4, "a block makes two to four products");
  static_assert(LANES * LANE <= Dsp::ACCUMULATOR, "the lanes must fit the block's adder");
  static_assert((LANES - 1) * LANE < Dsp::WIDE, "the highest lane must begin inside the wide operand");
  static_assert(lane<In>::width + (lane<In>::is_signed ? 0 : 1) <= Dsp::NARROW, "an input must fit the narrow operand");
  typedef ap_int<Dsp::WIDE> operand;
  typedef ap_uint<LANES * LANE> sums;
  static const unsigned long long HALF = 1ULL << (LANE - 1);
  // HALF in every lane
  static const unsigned long long HALVES =
      HALF | (HALF << LANE) | (LANES > 2 ? HALF << (LANES > 2 ? 2 * LANE : 0) : 0) | (LANES > 3 ? HALF << (LANES > 3 ? 3 * LANE : 0) : 0);

  // Lane k, HALF taken off.
  static ap_int<LANE> get(const sums& s, int k) {
#pragma HLS INLINE
    const ap_uint<LANE> digit = s.range((k + 1) * LANE - 1, k * LANE);
    return wrapped_sum(ap_int<LANE>(digit), static_cast<long long>(HALF));
  }

  // In the Vivado HLS core that takes the adder behind the multiplier with it. Vitis HLS matches the two by itself, as long as
  // neither is bound (UG1399 on BIND_OP).
  static typename product_type<In, operand>::type product_of(In x, operand a) {
#pragma HLS INLINE
    const typename product_type<In, operand>::type p = product(x, a);
#ifndef __VITIS_HLS__
#pragma HLS RESOURCE variable=p core=DSP48
#endif
    return p;
  }

  // The products of a step for the rows first .. first + LANES - 1 of the PE rows: a chain, one block a link.
  template <typename Weight, int SIMD, int PE, int STEPS, typename RomWord>
  static sums step(const In (&x)[SIMD], const RomWord (&weights)[PE][STEPS][weight_words<Weight, SIMD, RomWord>::value],
                   int first, int at) {
#pragma HLS INLINE
#pragma HLS EXPRESSION_BALANCE off
    const int WB = lane<Weight>::width;
    const int PER_WORD = weight_words<Weight, SIMD, RomWord>::PER_WORD;
    const int WORDS = weight_words<Weight, SIMD, RomWord>::value;
    sums total = 0;
  words:
    for (int k = 0; k < WORDS; k++) {
#pragma HLS UNROLL
    inputs:
      for (int j = 0; j < PER_WORD; j++) {
#pragma HLS UNROLL
        if (k * PER_WORD + j < SIMD) {
          operand a = 0;
        lanes:
          for (int l = 0; l < LANES; l++) {
#pragma HLS UNROLL
            if (first + l < PE) a = wrapped_sum(a, operand(Weight(weights[first + l][at][k] >> (j * WB))) << (l * LANE));
          }
          total = wrapped_sum(total, product_of(x[k * PER_WORD + j], a));
        }
      }
    }
    return total;
  }
};

// Lanes hold whole sums. start[group][nf] holds what the group's lanes start at, HALVES included, modulo 2^(LANES*LANE).
// Invariant: after step (nf, sf), digit k of acc[group] = 2^(LANE - 1) + the start of row nf*PE + group*LANES + k and the sum over
// its first (sf + 1)*SIMD inputs, wherever that fits. VECTORS * MH/PE * MW/SIMD trips.
template <typename In, typename Weight, typename Acc, int MW, int MH, int SIMD, int PE, int VECTORS, typename Dsp, int LANES, int LANE,
          typename RomWord, typename StartT>
void packed_matvec(hls::stream<typename word<SIMD, In>::type>& in, hls::stream<typename word<PE, Acc>::type>& out,
                   const RomWord (&weights)[PE][(MH / PE) * (MW / SIMD)][weight_words<Weight, SIMD, RomWord>::value],
                   const StartT (&start)[(PE + LANES - 1) / LANES][MH / PE]) {
#pragma HLS INLINE
  static_assert(MW % SIMD == 0, "SIMD must divide the number of inputs");
  static_assert(MH % PE == 0, "PE must divide the number of outputs");
  static_assert(LANES <= PE, "a block's lanes are rows of one cycle");
  static_assert(VECTORS >= 1, "a frame has at least one vector");
#pragma HLS ARRAY_PARTITION variable=weights complete dim=1
#pragma HLS ARRAY_PARTITION variable=weights complete dim=3
#pragma HLS ARRAY_PARTITION variable=start complete dim=1
  const int SF = MW / SIMD;
  const int NF = MH / PE;
  const int GROUPS = (PE + LANES - 1) / LANES;
  typedef packed<Dsp, In, LANES, LANE> Packed;

  typename word<SIMD, In>::type vector[SF];
  typename Packed::sums acc[GROUPS];
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
  blocks:
    for (int g = 0; g < GROUPS; g++) {
#pragma HLS UNROLL
      const typename Packed::sums before = sf == 0 ? typename Packed::sums(start[g][nf]) : acc[g];
      acc[g] = wrapped_sum(before, Packed::template step<Weight>(x, weights, g * LANES, step));
    }
    if (sf == SF - 1) {
      typename word<PE, Acc>::type y;
    emit_blocks:
      for (int g = 0; g < GROUPS; g++) {
#pragma HLS UNROLL
      emit:
        for (int l = 0; l < LANES; l++) {
#pragma HLS UNROLL
          if (g * LANES + l < PE) lane_set<PE, Acc>(y, g * LANES + l, Acc(Packed::get(acc[g], l)));
        }
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

// Lanes hold the sums of CHUNK inputs in a row, as the inner accumulators of matvec_tiled.hpp do; the last chunk is shorter where
// CHUNK does not divide MW. Outer accumulators of fabric, PE pe's of widths[pe] bits, start at start[pe][nf] and add them up.
// VECTORS * MH/PE * MW/SIMD trips.
template <typename In, typename Weight, typename Acc, int MW, int MH, int SIMD, int PE, int CHUNK, int VECTORS, typename Dsp, int LANES,
          int LANE, typename RomWord, typename StartT>
void packed_matvec_chunked(hls::stream<typename word<SIMD, In>::type>& in, hls::stream<typename word<PE, Acc>::type>& out,
                           const RomWord (&weights)[PE][(MH / PE) * (MW / SIMD)][weight_words<Weight, SIMD, RomWord>::value],
                           const StartT (&start)[PE][MH / PE], const unsigned char (&widths)[PE]) {
#pragma HLS INLINE
  static_assert(MW % SIMD == 0, "SIMD must divide the number of inputs");
  static_assert(MH % PE == 0, "PE must divide the number of outputs");
  static_assert(CHUNK >= 1 && CHUNK % SIMD == 0, "SIMD must divide a chunk");
  static_assert(LANES <= PE, "a block's lanes are rows of one cycle");
  static_assert(VECTORS >= 1, "a frame has at least one vector");
#pragma HLS ARRAY_PARTITION variable=weights complete dim=1
#pragma HLS ARRAY_PARTITION variable=weights complete dim=3
#pragma HLS ARRAY_PARTITION variable=start complete dim=1
#pragma HLS ARRAY_PARTITION variable=widths complete
  const int SF = MW / SIMD;
  const int CF = CHUNK / SIMD;
  const int NF = MH / PE;
  const int GROUPS = (PE + LANES - 1) / LANES;
  typedef packed<Dsp, In, LANES, LANE> Packed;

  typename word<SIMD, In>::type vector[SF];
  typename Packed::sums inner[GROUPS];
  Acc outer[PE];
#pragma HLS ARRAY_PARTITION variable=inner complete
#pragma HLS ARRAY_PARTITION variable=outer complete

  int nf = 0, sf = 0, step = 0;  // step = nf*SF + sf
  int cf = 0;                    // sf - CF * chunk
  bool first_chunk = true;
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
    const bool chunk_ends = cf == CF - 1 || sf == SF - 1;
  blocks:
    for (int g = 0; g < GROUPS; g++) {
#pragma HLS UNROLL
      const typename Packed::sums before = cf == 0 ? typename Packed::sums(Packed::HALVES) : inner[g];
      inner[g] = wrapped_sum(before, Packed::template step<Weight>(x, weights, g * LANES, step));
    rows:
      for (int l = 0; l < LANES; l++) {
#pragma HLS UNROLL
        if (chunk_ends && g * LANES + l < PE) {
          const int pe = g * LANES + l;
          const Acc chunks_before = first_chunk ? Acc(start[pe][nf]) : outer[pe];
          outer[pe] = sign_extended(wrapped_sum(chunks_before, Packed::get(inner[g], l)), widths[pe]);
        }
      }
    }
    if (chunk_ends) {
      cf = 0;
      first_chunk = false;
    } else {
      cf++;
    }
    if (sf == SF - 1) {
      typename word<PE, Acc>::type y;
    emit:
      for (int pe = 0; pe < PE; pe++) {
#pragma HLS UNROLL
        lane_set<PE, Acc>(y, pe, outer[pe]);
      }
      out.write(y);
      first_chunk = true;
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
