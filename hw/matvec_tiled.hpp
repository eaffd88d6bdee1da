// Matrix-vector unit with two stages of accumulation: a narrow accumulator within a tile of inputs, a wide one over the tiles.
//
// Tile k of a row is its inputs k*TILE .. k*TILE + TILE - 1 in the order in which they stream; the last tile is shorter where
// TILE does not divide MW. A step adds up SIMD inputs in trees: one of SIMD inputs where tiles are longer, SIMD/TILE of a tile each
// where they are not. Everything else is as in matvec.hpp.
//
// Invariant: after step (nf, sf), inner[pe] = sum over the inputs of row nf*PE + pe from the last tile's first to (sf + 1)*SIMD - 1,
// modulo 2^width(Inner); after a tile's last step, outer[pe] = start[pe][nf] + the row's inner sums so far, modulo 2^widths[pe].
// Inner wraps once a tree: a width that holds every tile's sum gives it, and one that is a bit too narrow gives a wrong one.
#pragma once

#include <hls_stream.h>

#include "matvec.hpp"
#include "word.hpp"

namespace broadaxe {

// VECTORS * MH/PE * MW/SIMD trips.
template <typename In, typename Weight, typename Inner, typename Outer, int MW, int MH, int SIMD, int PE, int TILE, int VECTORS,
          typename RomWord, typename StartT, template <typename, typename> class Terms = multiplied>
void matvec_tiled(hls::stream<typename word<SIMD, In>::type>& in, hls::stream<typename word<PE, Outer>::type>& out,
                  const RomWord (&weights)[PE][(MH / PE) * (MW / SIMD)][weight_words<Weight, SIMD, RomWord>::value],
                  const StartT (&start)[PE][MH / PE], const unsigned char (&widths)[PE]) {
#pragma HLS INLINE
  static_assert(MW % SIMD == 0, "SIMD must divide the number of inputs");
  static_assert(MH % PE == 0, "PE must divide the number of outputs");
  static_assert(TILE >= 1 && (TILE % SIMD == 0 || SIMD % TILE == 0), "SIMD must divide the tile, or be a multiple of it");
  static_assert(VECTORS >= 1, "a frame has at least one vector");
#pragma HLS ARRAY_PARTITION variable=weights complete dim=1
#pragma HLS ARRAY_PARTITION variable=weights complete dim=3
#pragma HLS ARRAY_PARTITION variable=start complete dim=1
#pragma HLS ARRAY_PARTITION variable=widths complete
  const int SF = MW / SIMD;
  const int TREE = smaller<TILE, SIMD>::value;  // inputs of a tree
  const int TREES = SIMD / TREE;
  const int TF = larger<1, TILE / SIMD>::value;  // steps of a tile
  const int NF = MH / PE;
  const int WB = lane<Weight>::width;
  const int PER_WORD = weight_words<Weight, SIMD, RomWord>::PER_WORD;
  const int WORDS = weight_words<Weight, SIMD, RomWord>::value;
  typedef typename dot_type<In, Weight, TREE>::type Dot;
  typedef typename intermediate<lane<Inner>::width + clog2<TREES>::value, true>::type Tiles;

  typename word<SIMD, In>::type vector[SF];
  Inner inner[PE];
  Outer outer[PE];
#pragma HLS ARRAY_PARTITION variable=inner complete
#pragma HLS ARRAY_PARTITION variable=outer complete

  int nf = 0, sf = 0, step = 0;  // step = nf*SF + sf
  int tf = 0;                    // sf - TF * tile
  bool first_tile = true;
steps:
  for (int t = 0; t < VECTORS * NF * SF; t++) {
#pragma HLS PIPELINE II=1
    typename word<SIMD, In>::type x;
    if (nf == 0) {
      x = in.read();
      vector[sf] = x;
    } else {
      x = vector[sf];
    }
    const bool tile_ends = tf == TF - 1 || sf == SF - 1;
  rows:
    for (int pe = 0; pe < PE; pe++) {
#pragma HLS UNROLL
      Dot dots[TREES];
#pragma HLS ARRAY_PARTITION variable=dots complete
    clear:
      for (int tree = 0; tree < TREES; tree++) {
#pragma HLS UNROLL
        dots[tree] = 0;
      }
    words:
      for (int k = 0; k < WORDS; k++) {
#pragma HLS UNROLL
        const RomWord packed = weights[pe][step][k];
      inputs:
        for (int j = 0; j < PER_WORD; j++) {
#pragma HLS UNROLL
          const int i = k * PER_WORD + j;
          if (i < SIMD) dots[i / TREE] += Terms<In, Weight>::of(lane_get<SIMD, In>(x, i), Weight(packed >> (j * WB)));
        }
      }
      Tiles tiles = 0;
    trees:
      for (int tree = 0; tree < TREES; tree++) {  // of several, each is a tile
#pragma HLS UNROLL
        const Inner before = tf == 0 ? Inner(0) : inner[pe];
        inner[pe] = wrapped_sum(before, dots[tree]);
        tiles += inner[pe];
      }
      if (tile_ends) {
        const Outer tiles_before = first_tile ? Outer(start[pe][nf]) : outer[pe];
        outer[pe] = sign_extended(wrapped_sum(tiles_before, tiles), widths[pe]);
      }
    }
    if (tile_ends) {
      tf = 0;
      first_tile = false;
    } else {
      tf++;
    }
    if (sf == SF - 1) {
      typename word<PE, Outer>::type y;
    emit:
      for (int pe = 0; pe < PE; pe++) {
#pragma HLS UNROLL
        lane_set<PE, Outer>(y, pe, outer[pe]);
      }
      out.write(y);
      first_tile = true;
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
