// Grouped matrix-vector unit: PE rows times SIMD inputs a cycle, every row on the channels of its group alone.
//
// A vector is TAPS * C inputs, tap-major, channels fastest, as window.hpp emits them. Group g has the CG = C/GROUPS channels from
// g*CG and the OG = MH/GROUPS rows from g*OG. Row o has TAPS * CG weights in the same order: input sf*SIMD + j of a row is
// channel g*CG + i of tap k with k*CG + i = sf*SIMD + j.
//
// Invariant: after step (nf, sf), acc[pe] = start[pe][nf] + sum over the first (sf + 1)*SIMD inputs of row nf*PE + pe, modulo
// 2^widths[pe]. weights, start and widths are as matvec.hpp has them, MW being TAPS * CG.
//
// A group's inputs lie all over the vector, so a vector is stored whole and worked on while the next one comes in, in the other
// half of the memory. With FILL = TAPS * C/SIMD words a vector and WORK = MH/PE * TAPS * CG/SIMD steps (WORK >= FILL, since PE
// divides OG), there are exactly
//   FILL + VECTORS * WORK
// trips: one fill, then WORK trips a vector, the first FILL of which also store the next one. So the outputs of every vector but
// the last wait for the inputs of the next: FIFOs around a branch must hold a vector more.
#pragma once

#include <hls_stream.h>

#include "matvec.hpp"
#include "word.hpp"

namespace broadaxe {

template <typename In, typename Weight, typename Acc, int TAPS, int C, int MH, int GROUPS, int SIMD, int PE, int VECTORS,
          typename RomWord, typename StartT, template <typename, typename> class Terms = multiplied>
void grouped_matvec(hls::stream<typename word<SIMD, In>::type>& in, hls::stream<typename word<PE, Acc>::type>& out,
                    const RomWord (&weights)[PE][(MH / PE) * (TAPS * (C / GROUPS) / SIMD)]
                                            [weight_words<Weight, SIMD, RomWord>::value],
                    const StartT (&start)[PE][MH / PE], const unsigned char (&widths)[PE]) {
#pragma HLS INLINE
  static_assert(GROUPS >= 2, "a convolution of one group is a matvec");
  static_assert(C % GROUPS == 0 && MH % GROUPS == 0, "the number of groups must divide the numbers of channels and outputs");
  static_assert((C / GROUPS) % SIMD == 0, "SIMD must divide the number of channels of a group");
  static_assert((MH / GROUPS) % PE == 0, "PE must divide the number of outputs of a group");
  static_assert(TAPS >= 1 && VECTORS >= 1, "a window has at least one tap, a frame at least one vector");
#pragma HLS ARRAY_PARTITION variable=weights complete dim=1
#pragma HLS ARRAY_PARTITION variable=weights complete dim=3
#pragma HLS ARRAY_PARTITION variable=start complete dim=1
#pragma HLS ARRAY_PARTITION variable=widths complete
  const int CF = C / GROUPS / SIMD;     // words of a tap in a group
  const int ROWS = MH / GROUPS / PE;    // row blocks of a group
  const int FILL = TAPS * GROUPS * CF;  // words of a vector
  const int WORK = GROUPS * ROWS * TAPS * CF;
  const int WB = lane<Weight>::width;
  const int PER_WORD = weight_words<Weight, SIMD, RomWord>::PER_WORD;
  const int WORDS = weight_words<Weight, SIMD, RomWord>::value;
  typedef typename dot_type<In, Weight, SIMD>::type Dot;

  typename word<SIMD, In>::type vectors[2 * FILL];
  Acc acc[PE];
#pragma HLS ARRAY_PARTITION variable=acc complete

  // Reader: `filled` words of a vector are stored in the half that starts at half_in; `unread` vectors are not yet stored whole.
  int filled = 0, half_in = 0, unread = VECTORS;
  // Worker: row block `row` of `group` takes its word c of `tap`, which is word x of the half that starts at half_out; x0 is the
  // group's first word. nf = group*ROWS + row, step = (nf*TAPS + tap)*CF + c.
  bool working = false;
  int half_out = FILL, group = 0, row = 0, nf = 0, tap = 0, c = 0, step = 0;
  int x = 0, x0 = 0;
trips:
  for (int t = 0; t < FILL + VECTORS * WORK; t++) {
#pragma HLS PIPELINE II=1
// Word (tap, group, c) is stored in trip (tap*GROUPS + group)*CF + c of a phase of FILL trips or more and first needed in trip
// (group*ROWS*TAPS + tap)*CF + c of the next: at least (TAPS + GROUPS - 1)*CF >= 2 trips later.
#pragma HLS DEPENDENCE variable=vectors inter RAW distance=2 true
    bool swapping = false;
    if (working) {
      const typename word<SIMD, In>::type inputs_word = vectors[half_out + x];
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
              dot += Terms<In, Weight>::of(lane_get<SIMD, In>(inputs_word, k * PER_WORD + j), Weight(packed >> (j * WB)));
            }
          }
        }
        const Acc before = tap == 0 && c == 0 ? Acc(start[pe][nf]) : acc[pe];
        acc[pe] = sign_extended(wrapped_sum(before, dot), widths[pe]);
      }
      if (tap == TAPS - 1 && c == CF - 1) {
        typename word<PE, Acc>::type y;
      emit:
        for (int pe = 0; pe < PE; pe++) {
#pragma HLS UNROLL
          lane_set<PE, Acc>(y, pe, acc[pe]);
        }
        out.write(y);
      }
      step++;
      x++;
      if (c < CF - 1) {
        c++;
      } else {
        c = 0;
        x += (GROUPS - 1) * CF;
        if (tap < TAPS - 1) {
          tap++;
        } else {
          tap = 0;
          nf++;
          if (row < ROWS - 1) {
            row++;
          } else {
            row = 0;
            x0 += CF;
            if (group < GROUPS - 1) {
              group++;
            } else {
              group = 0;
              x0 = 0;
              nf = 0;
              step = 0;
              swapping = true;
            }
          }
          x = x0;
        }
      }
    }
    if (filled < FILL && unread > 0) {
      vectors[half_in + filled] = in.read();
      if (filled == FILL - 1) unread--;
      filled++;
    }
    if (swapping || (!working && filled == FILL)) {
      working = true;
      filled = 0;
      half_out = half_in;
      half_in = FILL - half_in;
    }
  }
}

}  // namespace broadaxe
