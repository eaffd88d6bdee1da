// Test driver: feeds integers into a kernel's input stream and drains its output stream.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "axis.hpp"
#include "broadcast.hpp"
#include "lanes.hpp"
#include "matvec.hpp"
#include "requantize.hpp"
#include "window.hpp"
#include "window_max.hpp"
#include "window_parallel.hpp"

using namespace broadaxe;

template <int N, typename T>
using Words = hls::stream<typename word<N, T>::type>;

static std::string last_message;
extern "C" const char* message() { return last_message.c_str(); }

// Returns the number of integers written to y, or -1 with message().
template <int N_IN, typename T_IN, int N_OUT, typename T_OUT, typename Kernel>
int64_t run(const int64_t* x, int64_t n, int64_t* y, Kernel kernel) {
  try {
    Words<N_IN, T_IN> in("in");
    Words<N_OUT, T_OUT> out("out");
    for (int64_t k = 0; k < n; k += N_IN) {
      typename word<N_IN, T_IN>::type w;
      for (int i = 0; i < N_IN; i++) lane_set<N_IN, T_IN>(w, i, T_IN(x[k + i]));
      in.write(w);
    }
    kernel(in, out);
    int64_t count = 0;
    while (!out.empty()) {
      const typename word<N_OUT, T_OUT>::type w = out.read();
      for (int i = 0; i < N_OUT; i++) y[count++] = lane_get<N_OUT, T_OUT>(w, i).to_int64();
    }
    if (!in.empty()) throw std::runtime_error("words left in: " + std::to_string(in.size()));
    return count;
  } catch (const std::exception& error) {
    last_message = error.what();
    return -1;
  }
}
