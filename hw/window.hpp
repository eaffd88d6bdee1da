// Sliding windows over a channels-last frame (H, W, C; C fastest), with a line buffer.
//
// For each output pixel in row-major order the KH * KW * C inputs under the kernel come out in the order (kh, kw, c), LANES a
// word: the canonical order of a dot product. Taps outside the frame carry the channel's pad code. Padding below and to the
// right is whatever OH and OW reach beyond the frame.
//
// The machine. A frame row has ROW = W * C/LANES words. A ring of R = min(H, KH_EFF + SH) row slots, KH_EFF = (KH - 1)*DH + 1,
// holds row r in slot r mod R. Every trip of the one loop does, on the state before the trip,
//   read:  if words of the frame are left and their row r < limit, store one in the ring;
//   emit:  if outputs are left and the next one's source is padding, or was stored at least LAG trips ago, emit it;
// where limit = max(0, oh*SH - PT) + R while output row oh is being emitted, and H once all outputs are out (the rest of the
// frame is consumed). Row r overwrites row r - R < oh*SH - PT, which no output from row oh on touches: the ring is safe.
// Why R: output row oh needs KH_EFF rows; the SH rows that row oh + 1 needs besides can be read meanwhile. So the rate is one
// word a trip on the busier side, and neither side waits for the other except while the first rows fill.
//
// TRIPS is the exact number of trips until both sides are done. With trips numbered from 0, rs(r) the trip that reads the first word of
// row r, es(oh) and ee(oh) those that could emit the first and do emit the last word of output row oh, N = OW*KH*KW*C/LANES:
//   rs(r)  = max(rs(r-1) + ROW, ee(o - 1) + 1 if o > 0), o the first output row with max(0, o*SH - PT) + R > r;
//            if there is none, ee(OH - 1) + 1
//   es(oh) = ee(oh-1) + 1;   es(0) = 0;   rs(0) = 0
//   ee(oh) = N - 1 + max(es(oh), LAG + M + max over kh with 0 <= ih < H of (rs(ih) - kh*KW*C/LANES)),  ih = oh*SH - PT + kh*DH
//   M      = C/LANES * max of (iw - ow*KH*KW - kw) over ow, kw with 0 <= iw < W,  iw = ow*SW - PL + kw*DW
//   TRIPS  = 1 + max(ee(OH-1), rs(H-1) + ROW - 1)
// (a maximum over nothing drops out). A word that waits delays all after it, hence the maxima; within a row the channel
// position is added on both sides and cancels, hence M.
#pragma once

#include <hls_stream.h>

#include "word.hpp"

namespace broadaxe {

// In is the frame's lane type, T that of the patches: the same, or wider where a pad code does not fit In.
template <typename In, typename T, int LANES, int H, int W, int C, int KH, int KW, int SH, int SW, int DH, int DW, int PT, int PL,
          int OH, int OW, int TRIPS, typename PadT>
void window(hls::stream<typename word<LANES, In>::type>& in, hls::stream<typename word<LANES, T>::type>& out,
            const PadT (&pad)[LANES][C / LANES]) {
  static_assert(C % LANES == 0, "the number of lanes must divide the number of channels");
  static_assert(H >= 1 && W >= 1 && OH >= 1 && OW >= 1, "frame and output have at least one pixel");
  static_assert(KH >= 1 && KW >= 1 && SH >= 1 && SW >= 1 && DH >= 1 && DW >= 1, "kernel, stride and dilation are positive");
  static_assert(PT >= 0 && PL >= 0, "padding is not negative");
#pragma HLS ARRAY_PARTITION variable=pad complete dim=1
  const int GROUPS = C / LANES;
  const int ROW = W * GROUPS;
  const int KH_EFF = (KH - 1) * DH + 1;
  const int R = smaller<H, KH_EFF + SH>::value;
  const int RING = R * ROW;
  const int FIRST_SLOT = (R - PT % R) % R;  // -PT mod R
  static_assert(TRIPS >= H * W * (C / LANES) && TRIPS >= OH * OW * KH * KW * (C / LANES),
                "TRIPS must cover every word read and every word emitted");
  const int LAG = 4;  // also written in the DEPENDENCE pragma

  typename word<LANES, T>::type ring[RING];

  // Reader: the next word goes to row `row`, position x_in, in the slot that starts at slot_in.
  int row = 0, x_in = 0, slot_in = 0;
  int limit = R;
  // What was stored at least LAG trips ago: all words before (row_seen, x_seen). Bit b of recent: trip t - 1 - b stored a word.
  int row_seen = 0, x_seen = 0;
  unsigned recent = 0;
  // Emitter: position in the output, and its source: frame row ih in the slot at slot_out, word x of the row.
  // ih0, slot0 belong to kh = 0; x0 to kw = 0, channel 0.
  int oh = 0, ow = 0, kh = 0, kw = 0, group = 0;
  int ih = -PT, ih0 = -PT, slot_out = FIRST_SLOT * ROW, slot0 = FIRST_SLOT * ROW;
  int x = -PL * GROUPS, x0 = -PL * GROUPS;

trips:
  for (int t = 0; t < TRIPS; t++) {
#pragma HLS PIPELINE II=1
// A word is emitted LAG trips after it was stored, or later: a true distance, so that the schedule may rely on it.
#pragma HLS DEPENDENCE variable=ring inter RAW distance=4 true
    if ((recent >> (LAG - 1)) & 1) {
      if (x_seen == ROW - 1) {
        x_seen = 0;
        row_seen++;
      } else {
        x_seen++;
      }
    }
    const bool reading = row < H && row < limit;
    const bool padding = ih < 0 || ih >= H || x < 0 || x >= ROW;
    const bool stored = ih < row_seen || (ih == row_seen && x < x_seen);
    if (oh < OH && (padding || stored)) {
      if (padding) {
        out.write(constant_word<T, LANES>(pad, group));
      } else {
        out.write(ring[slot_out + x]);
      }

      x++;
      if (group < GROUPS - 1) {
        group++;
      } else {
        group = 0;
        if (kw < KW - 1) {
          kw++;
          x += (DW - 1) * GROUPS;
        } else {
          kw = 0;
          if (kh < KH - 1) {
            kh++;
            ih += DH;
            slot_out += (DH % R) * ROW;
            if (slot_out >= RING) slot_out -= RING;
          } else {
            kh = 0;
            if (ow < OW - 1) {
              ow++;
              x0 += SW * GROUPS;
            } else {
              ow = 0;
              x0 = -PL * GROUPS;
              oh++;
              ih0 += SH;
              slot0 += (SH % R) * ROW;
              if (slot0 >= RING) slot0 -= RING;
              limit = oh == OH ? H : (ih0 > 0 ? ih0 : 0) + R;
            }
            ih = ih0;
            slot_out = slot0;
          }
          x = x0;
        }
      }
    }
    if (reading) {
      ring[slot_in + x_in] = convert_lanes<In, T, LANES>(in.read());
      if (x_in == ROW - 1) {
        x_in = 0;
        row++;
        slot_in = slot_in == RING - ROW ? 0 : slot_in + ROW;
      } else {
        x_in++;
      }
    }
    recent = ((recent << 1) | (reading ? 1u : 0u)) & ((1u << LAG) - 1);
  }
}

}  // namespace broadaxe
