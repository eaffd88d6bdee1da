// Sliding windows as in window.hpp, several taps a word: from two up to the whole patch, each with all channels of a pixel.
//
// The machine. A ring of R = min(H, KH_EFF + SH) frame rows as in window.hpp, each row in a memory of its own, so that a column
// of KH taps is read in one cycle. Columns of the padded frame pass through shift registers KW_EFF = (KW - 1)*DW + 1 deep;
// where these hold a patch it is copied, and leaves the copy in PARTS = KH*KW/TAPS words while the next columns come in. For
// output row oh there are columns i = 0 .. (OW - 1)*SW + KW_EFF - 1, frame column i - PL each; column KW_EFF - 1 + ow*SW completes
// patch ow.
// Every trip of the one loop does, on the state before the trip,
//   read:  if words of the frame are left and their row r < limit, store one in the ring;
//   emit:  if words of a patch are left, emit one;
//   step:  if columns are left, the next one is padding or was stored at least LAG trips ago, and it either completes no patch
//          or no word of the one before is left after this trip's, shift it in;
// where limit = max(0, oh*SH - PT) + R while columns of row oh are left, and H once all are through.
// So neither reading nor emitting waits for the other except while the first rows fill: the rate is that of the busiest of
// H*W words in, OH*OW*PARTS words out, and OH*(padded width) columns.
//
// TRIPS is the exact number of trips until all is read and emitted. With rs(r) the trip that reads the first word of row r and
// ce(oh) the one of row oh's last column, D = max(SW, PARTS), b(oh) the last row inside the frame under output row oh:
//   rs(r)  = max(rs(r-1) + W, ce(o - 1) + 1 if o > 0), o the first output row with max(0, o*SH - PT) + R > r;
//            if there is none, ce(OH - 1) + 1
//   ce(oh) = max(ce(oh-1) + KW_EFF, ce(oh-1) + PARTS if oh > 0, LAG - PL + KW_EFF - 1 + J*SW + rs(b(oh)) - J*D) + (OW - 1)*D
//   TRIPS  = 1 + max(ce(OH-1) + PARTS, rs(H-1) + W - 1)
// with ce(-1) = -1 and J = max(0, ceil((PL - KW_EFF + 1) / SW)), the first patch that the frame's first column is part of. The
// third part drops out where b(oh) does not exist or J >= OW. (A column that waits delays all after it, and a frame row arrives
// a word a trip, no slower than columns leave, so that the first column decides.)
#pragma once

#include <hls_stream.h>

#include "word.hpp"

namespace broadaxe {

// In is the frame's lane type, T that of the patches: the same, or wider where a pad code does not fit In.
template <typename In, typename T, int TAPS, int H, int W, int C, int KH, int KW, int SH, int SW, int DH, int DW, int PT, int PL,
          int OH, int OW, int TRIPS, typename PadT>
void window_parallel(hls::stream<typename word<C, In>::type>& in, hls::stream<typename word<TAPS * C, T>::type>& out,
                     const PadT (&pad)[C][1]) {
  static_assert(TAPS >= 2 && (KH * KW) % TAPS == 0, "the taps of a word, two or more, must divide the kernel's");
  static_assert(H >= 1 && W >= 1 && OH >= 1 && OW >= 1, "frame and output have at least one pixel");
  static_assert(KH >= 1 && KW >= 1 && SH >= 1 && SW >= 1 && DH >= 1 && DW >= 1, "kernel, stride and dilation are positive");
  static_assert(PT >= 0 && PL >= 0, "padding is not negative");
#pragma HLS ARRAY_PARTITION variable=pad complete dim=0
  const int KH_EFF = (KH - 1) * DH + 1;
  const int KW_EFF = (KW - 1) * DW + 1;
  const int R = smaller<H, KH_EFF + SH>::value;
  const int FIRST_SLOT = (R - PT % R) % R;  // -PT mod R
  const int PARTS = KH * KW / TAPS;
  const int LAST_COLUMN = (OW - 1) * SW + KW_EFF - 1 - PL;
  static_assert(TRIPS >= H * W && TRIPS >= OH * OW * (KH * KW / TAPS), "TRIPS must cover every word read and every word emitted");
  const int LAG = 4;  // also written in the DEPENDENCE pragma

  typedef typename word<C, T>::type Pixel;
  Pixel ring[R][W];
#pragma HLS ARRAY_PARTITION variable=ring complete dim=1
  Pixel columns[KH][KW_EFF];
#pragma HLS ARRAY_PARTITION variable=columns complete dim=0
  Pixel patch[KH * KW];
#pragma HLS ARRAY_PARTITION variable=patch complete dim=0
clear:
  for (int kh = 0; kh < KH; kh++) {
#pragma HLS UNROLL
  clear_columns:
    for (int j = 0; j < KW_EFF; j++) {
#pragma HLS UNROLL
      columns[kh][j] = constant_word<T, C>(pad, 0);
    }
  clear_patch:
    for (int kw = 0; kw < KW; kw++) {
#pragma HLS UNROLL
      patch[kh * KW + kw] = constant_word<T, C>(pad, 0);
    }
  }

  // Reader: the next word goes to row `row`, position x_in, in slot slot_in.
  int row = 0, x_in = 0, slot_in = 0;
  int limit = R;
  // What was stored at least LAG trips ago: all words before (row_seen, x_seen). Bit b of recent: trip t - 1 - b stored a word.
  int row_seen = 0, x_seen = 0;
  unsigned recent = 0;
  // Columns: the next one is x of output row oh, whose tap kh = 0 lies on frame row ih0 in slot slot0; it completes a patch if none
  // is to pass before.
  int oh = 0, x = -PL, ih0 = -PT, slot0 = FIRST_SLOT, before = KW_EFF - 1;
  // Words of the copied patch that are left, the next TAPS taps first.
  int left = 0;

trips:
  for (int t = 0; t < TRIPS; t++) {
#pragma HLS PIPELINE II=1
// A word is read LAG trips after it was stored, or later: a true distance, so that the schedule may rely on it.
#pragma HLS DEPENDENCE variable=ring inter RAW distance=4 true
    if ((recent >> (LAG - 1)) & 1) {
      if (x_seen == W - 1) {
        x_seen = 0;
        row_seen++;
      } else {
        x_seen++;
      }
    }
    const bool reading = row < H && row < limit;
    if (left > 0) {
      typename word<TAPS * C, T>::type taps;
    emit:
      for (int i = 0; i < TAPS; i++) {
#pragma HLS UNROLL
      channels:
        for (int c = 0; c < C; c++) {
#pragma HLS UNROLL
          lane_set<TAPS * C, T>(taps, i * C + c, lane_get<C, T>(patch[i], c));
        }
      }
      out.write(taps);
    pass:
      for (int i = 0; i + TAPS < KH * KW; i++) {
#pragma HLS UNROLL
        patch[i] = patch[i + TAPS];
      }
      left--;
    }
    int bottom = -1;  // the last row inside the frame
  rows:
    for (int kh = 0; kh < KH; kh++) {
#pragma HLS UNROLL
      const int ih = ih0 + kh * DH;
      if (ih >= 0 && ih < H) bottom = ih;
    }
    const bool inside = x >= 0 && x < W;
    const bool stored = !inside || bottom < row_seen || (bottom == row_seen && x < x_seen);
    if (oh < OH && stored && (before > 0 || left == 0)) {
      Pixel under[R];
#pragma HLS ARRAY_PARTITION variable=under complete
    load:
      for (int s = 0; s < R; s++) {
#pragma HLS UNROLL
        under[s] = ring[s][inside ? x : 0];
      }
    shift:
      for (int kh = 0; kh < KH; kh++) {
#pragma HLS UNROLL
        const int ih = ih0 + kh * DH;
        const int slot = slot0 + (kh * DH) % R;
      along:
        for (int j = 0; j < KW_EFF - 1; j++) {
#pragma HLS UNROLL
          columns[kh][j] = columns[kh][j + 1];
        }
        if (inside && ih >= 0 && ih < H) {
          columns[kh][KW_EFF - 1] = under[slot >= R ? slot - R : slot];
        } else {
          columns[kh][KW_EFF - 1] = constant_word<T, C>(pad, 0);
        }
      }
      if (before == 0) {
      copy:
        for (int kh = 0; kh < KH; kh++) {
#pragma HLS UNROLL
        across:
          for (int kw = 0; kw < KW; kw++) {
#pragma HLS UNROLL
            patch[kh * KW + kw] = columns[kh][kw * DW];
          }
        }
        left = PARTS;
        before = SW - 1;
      } else {
        before--;
      }
      if (x == LAST_COLUMN) {
        x = -PL;
        before = KW_EFF - 1;
        oh++;
        ih0 += SH;
        slot0 += SH % R;
        if (slot0 >= R) slot0 -= R;
        limit = oh == OH ? H : (ih0 > 0 ? ih0 : 0) + R;
      } else {
        x++;
      }
    }
    if (reading) {
      ring[slot_in][x_in] = convert_lanes<In, T, C>(in.read());
      if (x_in == W - 1) {
        x_in = 0;
        row++;
        slot_in = slot_in == R - 1 ? 0 : slot_in + 1;
      } else {
        x_in++;
      }
    }
    recent = ((recent << 1) | (reading ? 1u : 0u)) & ((1u << LAG) - 1);
  }
}

}  // namespace broadaxe
