"""Read-only memories as generated C++ holds them: arrays of built-in integers, since large ap_int tables take g++ minutes."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np

from broadaxe.ir import IntArray

SIGNED = ((8, "signed char"), (16, "short"), (32, "int"), (64, "long long"))
UNSIGNED = ((8, "unsigned char"), (16, "unsigned short"), (32, "unsigned int"), (64, "unsigned long long"))

Memory: TypeAlias = Literal["lutram", "bram", "uram"]
"""What a memory is made of, by the names of Vitis HLS (UG1399, BIND_STORAGE): distributed, block and ultra RAM."""

LARGEST_LUTRAM = 4096
"""Bits of a memory beyond which it is no longer distributed: 64 LUTs of 64 bits, about what a block RAM is worth."""
LUT_DEPTH = 64
"""Words of one bit that one LUT holds."""
URAM_DEPTH, URAM_WIDTH = 4096, 72
"""Of an UltraRAM."""


def memory_of(depth: int, width: int, writable: bool = False) -> Memory:
    """What a memory of `depth` words of `width` bits is made of.

    Distributed where it is shallow or small; UltraRAM where it fills at least one, and only if it is written at run time,
    since UltraScale+ cannot give one contents at configuration (UG573); else block RAM.
    """
    if depth <= LUT_DEPTH or depth * width <= LARGEST_LUTRAM:
        return "lutram"
    if writable and depth >= URAM_DEPTH and width >= URAM_WIDTH // 2:
        return "uram"
    return "bram"


def weight_memory(steps: int, lanes: int, bits: int, word_type: str) -> Memory | None:
    """Of the weights of one PE, `lanes` of `bits` bits in each of `steps` steps; None where they are constants.

    A step's weights stand in words of `word_type`, each a memory of its own. A single step leaves nothing to address.
    """
    size = next(s for s, name in UNSIGNED if name == word_type)
    return memory_of(steps, min(lanes, size // bits) * bits) if steps > 1 else None


def builtin(lo: int, hi: int) -> str:
    """The smallest signed built-in type that holds lo..hi."""
    width = max((v if v >= 0 else ~v).bit_length() + 1 for v in (lo, hi))
    return next(name for bits, name in SIGNED if width <= bits)


def fitting(values: IntArray) -> str:
    """The smallest signed built-in type that holds every element."""
    return builtin(int(values.min()), int(values.max()))


def by_lane(values: IntArray, lanes: int) -> list[Any]:
    """Per-channel values as [lane][group]: channel group * lanes + lane."""
    return values.reshape(-1, lanes).T.tolist()  # type: ignore[no-any-return]


def pack(values: IntArray, bits: int) -> tuple[IntArray, str]:
    """Integers of `bits` bits (two's complement or unsigned) packed along the last axis, from bit 0 of each word.

    Returns the words as uint64 with the last axis shortened, and the built-in type of a word: the smallest that holds all
    of a step's values, or unsigned long long with 64 // bits values a word.
    """
    count = values.shape[-1]
    size, word_type = next((s, n) for s, n in UNSIGNED if count * bits <= s or s == 64)
    per_word = size // bits
    words = -(-count // per_word)
    padded = np.zeros((*values.shape[:-1], words * per_word), dtype=np.uint64)
    padded[..., :count] = values.astype(np.int64).astype(np.uint64) & np.uint64((1 << bits) - 1)
    lanes = padded.reshape(*values.shape[:-1], words, per_word)
    shifts = np.arange(per_word, dtype=np.uint64) * np.uint64(bits)
    return np.bitwise_or.reduce(lanes << shifts, axis=-1), word_type
