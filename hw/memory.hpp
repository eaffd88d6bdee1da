// Frames between memory and an AXI-Stream, for platforms whose accelerators have no DMA of their own (Alveo, Versal).
//
// In memory each beat has a slot of SLOT bytes, a power of two, the beat in its lowest bytes and the rest 0; words of memory have
// WORD bytes. Bytes move through shift registers, as lanes do in lanes.hpp: constant wiring at II=1.
#pragma once

#ifndef AP_INT_MAX_W
#define AP_INT_MAX_W 4096
#endif
#include <ap_axi_sdata.h>
#include <hls_stream.h>


namespace broadaxe {

// Bytes of a word or beat from bit 0, in memory's order.
template <int BYTES, int WIDTH>
void bytes_of(const ap_uint<WIDTH>& word, ap_uint<8> (&bytes)[BYTES]) {
#pragma HLS INLINE
  static_assert(8 * BYTES >= WIDTH && WIDTH % 8 == 0, "a word has no more bytes than their place");
bytes:
  for (int i = 0; i < BYTES; i++) {
#pragma HLS UNROLL
    const int at = 8 * i < WIDTH ? 8 * i : 0;
    const ap_uint<8> byte = word.range(at + 7, at);
    bytes[i] = 8 * i < WIDTH ? byte : ap_uint<8>(0);
  }
}

// One burst from memory: frames of FRAME bytes side by side, the last word filled up.
template <int WORD, int FRAME>
void read_words(const ap_uint<8 * WORD>* memory, hls::stream<ap_uint<8 * WORD> >& words, int frames) {
  const int count = (frames * FRAME + WORD - 1) / WORD;
words:
  for (int t = 0; t < count; t++) {
#pragma HLS PIPELINE II=1
    words.write(memory[t]);
  }
}

// One burst to memory: frames STRIDE bytes apart, a whole number of words.
template <int WORD, int STRIDE>
void write_words(hls::stream<ap_uint<8 * WORD> >& words, ap_uint<8 * WORD>* memory, int frames) {
words:
  for (int t = 0; t < frames * (STRIDE / WORD); t++) {
#pragma HLS PIPELINE II=1
    memory[t] = words.read();
  }
}

template <bool SEVERAL>
struct slots_of_words;

// Several slots in a word. Invariant: before trip t, held[0 ..] are the slots of the last word that are still to be sent.
template <>
struct slots_of_words<true> {
  template <typename AxisWord, int BYTES, int SLOT, int WORD, int BEATS>
  static void send(hls::stream<ap_uint<8 * WORD> >& words, hls::stream<AxisWord>& beats, int frames) {
    const int PARTS = WORD / SLOT;
    ap_uint<8> held[WORD];
#pragma HLS ARRAY_PARTITION variable=held complete
    int part = 0, at = 0;
  cut:
    for (int t = 0; t < frames * BEATS; t++) {
#pragma HLS PIPELINE II=1
      if (part == 0) bytes_of<WORD, 8 * WORD>(words.read(), held);
      AxisWord beat;
      beat.keep = -1;
      beat.strb = -1;
      beat.last = at == BEATS - 1;
    emit:
      for (int i = 0; i < BYTES; i++) {
#pragma HLS UNROLL
        beat.data.range(8 * i + 7, 8 * i) = held[i];
      }
      beats.write(beat);
    shift:
      for (int i = 0; i < WORD - SLOT; i++) {
#pragma HLS UNROLL
        held[i] = held[i + SLOT];
      }
      part = part == PARTS - 1 ? 0 : part + 1;
      at = at == BEATS - 1 ? 0 : at + 1;
    }
  }

  // Slots behind a frame's last beat are 0, up to STRIDE bytes: a frame starts in a word of its own.
  template <typename AxisWord, int BYTES, int SLOT, int WORD, int BEATS, int STRIDE>
  static void receive(hls::stream<AxisWord>& beats, hls::stream<ap_uint<8 * WORD> >& words, int frames) {
    const int PARTS = WORD / SLOT;
    const int SLOTS = STRIDE / SLOT;
    ap_uint<8> held[WORD];
#pragma HLS ARRAY_PARTITION variable=held complete
  clear:
    for (int i = 0; i < WORD; i++) {
#pragma HLS UNROLL
      held[i] = 0;
    }
    int part = 0, at = 0;
  gather:
    for (int t = 0; t < frames * SLOTS; t++) {
#pragma HLS PIPELINE II=1
    shift:
      for (int i = 0; i < WORD - SLOT; i++) {
#pragma HLS UNROLL
        held[i] = held[i + SLOT];
      }
      ap_uint<8> slot[SLOT];
#pragma HLS ARRAY_PARTITION variable=slot complete
      AxisWord beat;
      beat.data = 0;
      if (at < BEATS) beat = beats.read();
      bytes_of<SLOT, 8 * BYTES>(beat.data, slot);
    load:
      for (int i = 0; i < SLOT; i++) {
#pragma HLS UNROLL
        held[WORD - SLOT + i] = slot[i];
      }
      if (part == PARTS - 1) {
        ap_uint<8 * WORD> word = 0;
      emit:
        for (int i = 0; i < WORD; i++) {
#pragma HLS UNROLL
          word.range(8 * i + 7, 8 * i) = held[i];
        }
        words.write(word);
        part = 0;
      } else {
        part++;
      }
      at = at == SLOTS - 1 ? 0 : at + 1;
    }
  }
};

// Several words in a slot.
template <>
struct slots_of_words<false> {
  // Invariant: before trip t, the highest part * WORD bytes of held are the first words of the slot being gathered.
  template <typename AxisWord, int BYTES, int SLOT, int WORD, int BEATS>
  static void send(hls::stream<ap_uint<8 * WORD> >& words, hls::stream<AxisWord>& beats, int frames) {
    const int PARTS = SLOT / WORD;
    ap_uint<8> held[SLOT];
#pragma HLS ARRAY_PARTITION variable=held complete
  clear:
    for (int i = 0; i < SLOT; i++) {
#pragma HLS UNROLL
      held[i] = 0;
    }
    int part = 0, at = 0;
  gather:
    for (int t = 0; t < frames * BEATS * PARTS; t++) {
#pragma HLS PIPELINE II=1
      ap_uint<8> word[WORD];
#pragma HLS ARRAY_PARTITION variable=word complete
      bytes_of<WORD, 8 * WORD>(words.read(), word);
    shift:
      for (int i = 0; i < SLOT - WORD; i++) {
#pragma HLS UNROLL
        held[i] = held[i + WORD];
      }
    load:
      for (int i = 0; i < WORD; i++) {
#pragma HLS UNROLL
        held[SLOT - WORD + i] = word[i];
      }
      if (part == PARTS - 1) {
        AxisWord beat;
        beat.keep = -1;
        beat.strb = -1;
        beat.last = at == BEATS - 1;
      emit:
        for (int i = 0; i < BYTES; i++) {
#pragma HLS UNROLL
          beat.data.range(8 * i + 7, 8 * i) = held[i];
        }
        beats.write(beat);
        part = 0;
        at = at == BEATS - 1 ? 0 : at + 1;
      } else {
        part++;
      }
    }
  }

  // Invariant: before trip t, held[0 ..] are the words of the last beat's slot that are still to be written.
  template <typename AxisWord, int BYTES, int SLOT, int WORD, int BEATS, int STRIDE>
  static void receive(hls::stream<AxisWord>& beats, hls::stream<ap_uint<8 * WORD> >& words, int frames) {
    static_assert(STRIDE == BEATS * SLOT, "frames of whole words need no padding");
    const int PARTS = SLOT / WORD;
    ap_uint<8> held[SLOT];
#pragma HLS ARRAY_PARTITION variable=held complete
    int part = 0;
  cut:
    for (int t = 0; t < frames * BEATS * PARTS; t++) {
#pragma HLS PIPELINE II=1
      if (part == 0) {
        const AxisWord beat = beats.read();
        bytes_of<SLOT, 8 * BYTES>(beat.data, held);
      }
      ap_uint<8 * WORD> word = 0;
    emit:
      for (int i = 0; i < WORD; i++) {
#pragma HLS UNROLL
        word.range(8 * i + 7, 8 * i) = held[i];
      }
      words.write(word);
    shift:
      for (int i = 0; i < SLOT - WORD; i++) {
#pragma HLS UNROLL
        held[i] = held[i + WORD];
      }
      part = part == PARTS - 1 ? 0 : part + 1;
    }
  }
};

// Frames side by side in words -> beats of BYTES bytes, BEATS a frame, `last` on a frame's final one.
template <typename AxisWord, int BYTES, int SLOT, int WORD, int BEATS>
void words_to_beats(hls::stream<ap_uint<8 * WORD> >& words, hls::stream<AxisWord>& beats, int frames) {
#pragma HLS INLINE
  static_assert(SLOT % WORD == 0 || WORD % SLOT == 0, "slots and words are powers of two");
  static_assert(SLOT >= BYTES && BYTES >= 1, "a slot holds a beat");
  slots_of_words<(SLOT <= WORD)>::template send<AxisWord, BYTES, SLOT, WORD, BEATS>(words, beats, frames);
}

// Beats -> frames in words, each STRIDE bytes, a whole number of words.
template <typename AxisWord, int BYTES, int SLOT, int WORD, int BEATS, int STRIDE>
void beats_to_words(hls::stream<AxisWord>& beats, hls::stream<ap_uint<8 * WORD> >& words, int frames) {
#pragma HLS INLINE
  static_assert(SLOT % WORD == 0 || WORD % SLOT == 0, "slots and words are powers of two");
  static_assert(STRIDE % WORD == 0 && STRIDE >= BEATS * SLOT, "a frame starts in a word of its own");
  slots_of_words<(SLOT <= WORD)>::template receive<AxisWord, BYTES, SLOT, WORD, BEATS, STRIDE>(beats, words, frames);
}

}  // namespace broadaxe
