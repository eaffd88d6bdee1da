// A frame's words in another order: words may repeat, be left out, and stand between words of padding.
//
// Output word (a, b, c), counted with c fastest, is input word outer[a] + middle[b] + inner[c], or padding where one of the three is
// negative. That covers transposed, cut, padded, repeated and interleaved frames with three short tables.
//
// The machine. A ring of D words, D a power of two, holds input word i in slot i mod D. Every trip of the one loop does, on the state
// before the trip,
//   read:  if words of the frame are left and fewer than limit were read, store one in the ring;
//   emit:  if outputs are left and the next one is padding, or its word was stored at least LAG trips ago, emit it;
// where limit = keep[a] + D while outputs of outer index a are emitted, and no limit once all are out (the rest of the frame is
// consumed). keep[a] is the first word that an output of outer index a or later reads, so no word is overwritten before its last use.
// D has to reach from keep[a] to the last word that outer index a reads; what it reaches further is read ahead.
//
// TRIPS is the exact number of trips until both sides are done. With trips numbered from 0, r(i) the trip that reads word i, e(j) the one
// that emits output j, es(a) the first after the last output of outer index a - 1 (es(0) = 0), and l(i) the least a with keep[a] + D > i:
//   r(i) = max(r(i-1) + 1, es(l(i)))
//   e(j) = max(e(j-1) + 1, LAG + r(its word))      (the first part alone for padding)
//   TRIPS = 1 + max(e(last), r(last))
#pragma once

#include <hls_stream.h>

#include "word.hpp"

namespace broadaxe {

// In is the lane type of the words read, T of those written: the same, or wider where a pad code does not fit In.
template <typename In, typename T, int LANES, int A, int B, int C, int GROUPS, int WORDS, int D, int TRIPS, typename OuterT,
          typename MiddleT, typename InnerT, typename KeepT, typename PadT>
void rearrange(hls::stream<typename word<LANES, In>::type>& in, hls::stream<typename word<LANES, T>::type>& out,
               const OuterT (&outer)[A], const MiddleT (&middle)[B], const InnerT (&inner)[C], const KeepT (&keep)[A],
               const PadT (&pad)[LANES][GROUPS]) {
  static_assert(A >= 1 && B >= 1 && C >= 1 && WORDS >= 1, "frames have at least one word");
  static_assert((B * C) % GROUPS == 0 || (A * B * C) % GROUPS == 0, "the words of a pixel must divide the frame");
  static_assert(D >= 1 && (D & (D - 1)) == 0, "the ring is a power of two");
  static_assert(TRIPS >= A * B * C && TRIPS >= WORDS, "TRIPS must cover every word read and every word emitted");
#pragma HLS ARRAY_PARTITION variable=pad complete dim=1
  const int LAG = 4;  // also written in the DEPENDENCE pragma

  typename word<LANES, T>::type ring[D];

  int read = 0, seen = 0;
  unsigned recent = 0;  // bit b: trip t - 1 - b stored a word
  int a = 0, b = 0, c = 0, group = 0;
  int outer_at = outer[0], middle_at = middle[0];
  int limit = keep[0] + D;

trips:
  for (int t = 0; t < TRIPS; t++) {
#pragma HLS PIPELINE II=1
// A word is emitted LAG trips after it was stored, or later: a true distance, so that the schedule may rely on it.
#pragma HLS DEPENDENCE variable=ring inter RAW distance=4 true
    if ((recent >> (LAG - 1)) & 1) seen++;
    const bool reading = read < WORDS && read < limit;
    const int inner_at = inner[c];
    const int address = outer_at + middle_at + inner_at;
    const bool padding = outer_at < 0 || middle_at < 0 || inner_at < 0;
    if (a < A && (padding || address < seen)) {
      if (padding) {
        out.write(constant_word<T, LANES>(pad, group));
      } else {
        out.write(ring[address & (D - 1)]);
      }
      group = group == GROUPS - 1 ? 0 : group + 1;
      if (c < C - 1) {
        c++;
      } else {
        c = 0;
        if (b < B - 1) {
          b++;
        } else {
          b = 0;
          a++;
          outer_at = a == A ? 0 : outer[a];
          limit = a == A ? WORDS : keep[a] + D;
        }
        middle_at = middle[b];
      }
    }
    if (reading) {
      ring[read & (D - 1)] = convert_lanes<In, T, LANES>(in.read());
      read++;
    }
    recent = ((recent << 1) | (reading ? 1u : 0u)) & ((1u << LAG) - 1);
  }
}

}  // namespace broadaxe
