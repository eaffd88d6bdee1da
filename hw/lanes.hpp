// Change the number of lanes a word between a producer and a consumer.
//
// The lanes move through a shift register rather than an indexed one: constant wiring instead of a barrel shifter.
#pragma once

#include <hls_stream.h>

#include "word.hpp"

namespace broadaxe {

template <bool NARROWING>
struct lane_changer;

// Invariant: before trip t, held[0 ..] are the lanes of the word being cut that are still to be emitted.
template <>
struct lane_changer<true> {
  template <typename T, int N_IN, int N_OUT, int COUNT>
  static void run(hls::stream<typename word<N_IN, T>::type>& in, hls::stream<typename word<N_OUT, T>::type>& out) {
    const int PARTS = N_IN / N_OUT;
    T held[N_IN];
#pragma HLS ARRAY_PARTITION variable=held complete
    int part = 0;
  cut:
    for (int t = 0; t < COUNT / N_OUT; t++) {
#pragma HLS PIPELINE II=1
      if (part == 0) {
        const typename word<N_IN, T>::type w = in.read();
      load:
        for (int i = 0; i < N_IN; i++) {
#pragma HLS UNROLL
          held[i] = lane_get<N_IN, T>(w, i);
        }
      }
      typename word<N_OUT, T>::type w;
    emit:
      for (int i = 0; i < N_OUT; i++) {
#pragma HLS UNROLL
        lane_set<N_OUT, T>(w, i, held[i]);
      }
      out.write(w);
    shift:
      for (int i = 0; i < N_IN - N_OUT; i++) {
#pragma HLS UNROLL
        held[i] = held[i + N_OUT];
      }
      part = part == PARTS - 1 ? 0 : part + 1;
    }
  }
};

// Invariant: before trip t, the highest part * N_IN lanes of held are the first lanes of the word being gathered.
template <>
struct lane_changer<false> {
  template <typename T, int N_IN, int N_OUT, int COUNT>
  static void run(hls::stream<typename word<N_IN, T>::type>& in, hls::stream<typename word<N_OUT, T>::type>& out) {
    const int PARTS = N_OUT / N_IN;
    T held[N_OUT];
#pragma HLS ARRAY_PARTITION variable=held complete
  clear:
    for (int i = 0; i < N_OUT; i++) {
#pragma HLS UNROLL
      held[i] = 0;
    }
    int part = 0;
  gather:
    for (int t = 0; t < COUNT / N_IN; t++) {
#pragma HLS PIPELINE II=1
      const typename word<N_IN, T>::type w = in.read();
    shift:
      for (int i = 0; i < N_OUT - N_IN; i++) {
#pragma HLS UNROLL
        held[i] = held[i + N_IN];
      }
    load:
      for (int i = 0; i < N_IN; i++) {
#pragma HLS UNROLL
        held[N_OUT - N_IN + i] = lane_get<N_IN, T>(w, i);
      }
      if (part == PARTS - 1) {
        typename word<N_OUT, T>::type gathered;
      emit:
        for (int i = 0; i < N_OUT; i++) {
#pragma HLS UNROLL
          lane_set<N_OUT, T>(gathered, i, held[i]);
        }
        out.write(gathered);
        part = 0;
      } else {
        part++;
      }
    }
  }
};

// COUNT elements (not words) a frame.
template <typename T, int N_IN, int N_OUT, int COUNT>
void change_lanes(hls::stream<typename word<N_IN, T>::type>& in, hls::stream<typename word<N_OUT, T>::type>& out) {
#pragma HLS INLINE
  static_assert(N_IN % N_OUT == 0 || N_OUT % N_IN == 0, "one number of lanes must divide the other");
  static_assert(COUNT % N_IN == 0 && COUNT % N_OUT == 0, "a frame must be a whole number of words on both sides");
  lane_changer<(N_IN > N_OUT)>::template run<T, N_IN, N_OUT, COUNT>(in, out);
}

}  // namespace broadaxe
