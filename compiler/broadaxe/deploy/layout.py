"""How the beats of a port lie in memory, and which widths that takes on the way.

A beat has any whole number of bytes, memory and the stream side of an AXI DMA have powers of two. So each beat gets a slot of
its own in memory, the next power of two in bytes, little-endian, its upper bytes 0. Between slot and beat there is then only
wiring, one transfer for one beat: no partial word, no TKEEP that matters, and TLAST stays where it is. The price is memory
traffic of slot / beat, below 2.

    port        bytes of a beat   slot   AXI DMA stream
    8 bits      1                 1      1
    24 bits     3                 4      4
    2000 bits   250               256    128, the widest there is: a slot is two words
"""

from __future__ import annotations

from dataclasses import dataclass

from broadaxe.emit import Port

WIDEST_STREAM = 128
"""Bytes of the stream side of an AXI DMA (PG021: 8 to 1024 bits)."""
NARROWEST_MEMORY = 4
"""Bytes of the memory side of an AXI DMA (PG021: 32 to 1024 bits)."""
ALIGNMENT = 128
"""Bytes to which received frames are aligned: a whole word of every memory interface used here."""
MOVER_BYTES = 64
"""Bytes of a memory word of the data movers, the widest that every Alveo and Versal memory takes."""


@dataclass(frozen=True)
class Layout:
    """A port's frames in memory, in bytes."""

    port: Port

    @property
    def beat(self) -> int:
        """A beat on the stream."""
        return self.port.bits // 8

    @property
    def slot(self) -> int:
        """A beat in memory: the next power of two."""
        return 1 << (self.beat - 1).bit_length()

    @property
    def frame(self) -> int:
        return self.port.beats * self.slot

    @property
    def stride(self) -> int:
        """From one received frame to the next; frames to send lie side by side."""
        return -(-self.frame // ALIGNMENT) * ALIGNMENT

    @property
    def stream(self) -> int:
        """A word on the stream side of an AXI DMA."""
        return min(self.slot, WIDEST_STREAM)

    @property
    def memory(self) -> int:
        """A word on the memory side of an AXI DMA."""
        return max(self.stream, NARROWEST_MEMORY)

    @property
    def resized(self) -> bool:
        """Whether a slot is several words of the DMA."""
        return self.slot > self.stream

    @property
    def padded(self) -> bool:
        """Whether a slot has bytes that the beat has not."""
        return self.slot > self.beat
