// What `broadaxe doctor` compiles and runs: wrapping accumulators and a stream, as generated designs have them, in C++11.
#include <ap_int.h>
#include <hls_stream.h>

#include <cstdio>

#include "arith.hpp"

int main() {
  hls::stream<ap_uint<8> > words;
  for (int i = 0; i < 20; i++) words.write(static_cast<ap_uint<8> >(i * 13));
  ap_int<6> sum = 0;  // wraps at 64
  while (!words.empty()) sum = static_cast<ap_int<6> >(sum + words.read());
  std::printf("broadaxe %d\n", static_cast<int>(sum));
  return 0;
}
