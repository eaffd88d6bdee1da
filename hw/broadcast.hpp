// Copy a stream to two consumers, where the graph branches.
#pragma once

#include <hls_stream.h>

#include "word.hpp"

namespace broadaxe {

// COUNT words a frame.
template <typename T, int LANES, int COUNT>
void broadcast(hls::stream<typename word<LANES, T>::type>& in, hls::stream<typename word<LANES, T>::type>& out0,
               hls::stream<typename word<LANES, T>::type>& out1) {
copies:
  for (int t = 0; t < COUNT; t++) {
#pragma HLS PIPELINE II=1
    const typename word<LANES, T>::type w = in.read();
    out0.write(w);
    out1.write(w);
  }
}

}  // namespace broadaxe
