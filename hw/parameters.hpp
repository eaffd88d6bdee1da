// Weights, starts and thresholds that are written at run time.
//
// A call of the top level computes one frame, and before that, if `load` is set, takes new parameters from an AXI-Stream port: one
// 64-bit beat for each word of each memory. One process deals them out: to every kernel that has memories it sends, in
// every frame, a word that says whether parameters follow, and then those. A kernel reads them before it touches the frame.
// So each kernel works with the old parameters up to and in the frame before, and with the new ones from this frame on, whatever
// frames are still under way: a stream of frames changes its weights between two frames and never within one.
//
// No call is conditional, no memory has two users, and a kernel waits for the dealing process alone, which serves kernels in
// the order of the dataflow: streams of any depth do not deadlock.
//
// Trip counts are those of a frame that loads nothing, so that a tool's latency is that of a frame; one that loads takes a
// cycle more for each word.
#pragma once

#include <hls_stream.h>

#include "arith.hpp"

namespace broadaxe {

typedef ap_uint<64> parameter;

// Says whether parameters follow in this frame, and passes COUNT beats on if they do.
template <int COUNT, typename AxisWord>
void deal_parameters(hls::stream<AxisWord>& in, bool load, hls::stream<parameter>& out) {
#pragma HLS INLINE
  static_assert(COUNT >= 1, "a memory has at least one word");
  out.write(load ? 1 : 0);
  const int count = load ? COUNT : 0;
beats:
  for (int t = 0; t < count; t++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=0 max=1
    const AxisWord beat = in.read();
    const parameter bits = beat.data;
    out.write(bits);
  }
}

inline bool parameters_follow(hls::stream<parameter>& in) {
#pragma HLS INLINE
  const parameter word = in.read();
  return word.to_uint64() != 0;
}

// Fills a memory in the order of its dimensions, the last one fastest; a word's low bits are the element.
template <typename T, int A, int B>
void load_memory(hls::stream<parameter>& in, bool follow, T (&memory)[A][B]) {
#pragma HLS INLINE
  const int count = follow ? A * B : 0;
  int a = 0, b = 0;
words:
  for (int t = 0; t < count; t++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=0 max=1
    const parameter word = in.read();
    memory[a][b] = static_cast<T>(word.to_uint64());
    if (b == B - 1) {
      b = 0;
      a++;
    } else {
      b++;
    }
  }
}

template <typename T, int A, int B, int C>
void load_memory(hls::stream<parameter>& in, bool follow, T (&memory)[A][B][C]) {
#pragma HLS INLINE
  const int count = follow ? A * B * C : 0;
  int a = 0, b = 0, c = 0;
words:
  for (int t = 0; t < count; t++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=0 max=1
    const parameter word = in.read();
    memory[a][b][c] = static_cast<T>(word.to_uint64());
    if (c < C - 1) {
      c++;
    } else {
      c = 0;
      if (b == B - 1) {
        b = 0;
        a++;
      } else {
        b++;
      }
    }
  }
}

}  // namespace broadaxe
