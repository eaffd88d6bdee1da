// Rows of a constant table, by index: embeddings and one-hot codes.
//
// rows[0][i] is the row of the index FIRST + i; entries are built-in integers, as in all memories.
#pragma once

#include <hls_stream.h>

#include "word.hpp"

namespace broadaxe {

// VECTORS indices a frame, each from FIRST to FIRST + ENTRIES - 1, make a vector of C elements: an element a trip.
template <typename In, typename Out, int ENTRIES, int C, int VECTORS, long long FIRST, typename RowT>
void lookup(hls::stream<typename word<1, In>::type>& in, hls::stream<typename word<1, Out>::type>& out,
            const RowT (&rows)[1][ENTRIES][C]) {
  static_assert(ENTRIES >= 1 && C >= 1 && VECTORS >= 1, "a table has at least one element, a frame at least one index");
  int at = 0, c = 0;
elements:
  for (int t = 0; t < VECTORS * C; t++) {
#pragma HLS PIPELINE II=1
    if (c == 0) at = static_cast<int>(static_cast<long long>(lane_get<1, In>(in.read(), 0)) - FIRST);
    typename word<1, Out>::type y;
    lane_set<1, Out>(y, 0, Out(rows[0][at][c]));
    out.write(y);
    c = c == C - 1 ? 0 : c + 1;
  }
}

}  // namespace broadaxe
