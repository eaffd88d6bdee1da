"""Common parts and what they hold, as AMD's product tables state it.

Sources, by table: Zynq-7000 SoC DS190, 7 Series DS180, Zynq UltraScale+ MPSoC DS891, RFSoC DS889, UltraScale overview DS890
(Virtex UltraScale+), Kria K26 SOM DS987, Alveo U50 DS965, Alveo U200 and U250 DS962, Versal overview DS950 and, for its DSP58,
AM004. A platform's shell takes some of what an Alveo card holds; the figures here are of the whole device.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from difflib import get_close_matches

from broadaxe.errors import RequestError
from broadaxe.hardware import DSP48E1, DSP48E2, DSP58, Dsp, Resources


@dataclass(frozen=True)
class Device:
    """One part.

    Attributes:
        part: number as the tools take it.
        family: as the tools' reports name it.
        bram18: block RAMs of 18 Kb, two for each of 36 Kb.
        uram: UltraRAMs of 288 Kb.
        boards: names of boards, each with the part on it.
    """

    name: str
    part: str
    family: str
    lut: int
    ff: int
    dsp: int
    dsp_block: Dsp
    bram18: int
    uram: int
    boards: tuple[tuple[str, str], ...] = ()

    @property
    def die(self) -> str:
        """The part number without package, speed and temperature grade."""
        match = re.match(r"xc(7[az]\d+t?|zu\d+[a-z]{2}|u\d+|k\d+|vu\d+p|vc\d+)", self.part)
        assert match is not None
        return match[0]

    @property
    def resources(self) -> Resources:
        """All that it holds."""
        return Resources(self.lut, self.ff, self.dsp, self.bram18, self.uram)


DEVICES = (
    Device(
        *("Zynq-7020", "xc7z020clg400-1", "zynq", 53_200, 106_400, 220, DSP48E1, 280, 0),
        boards=(("PYNQ-Z1", "xc7z020clg400-1"), ("PYNQ-Z2", "xc7z020clg400-1"), ("ZedBoard", "xc7z020clg484-1")),
    ),
    Device(
        *("ZU3EG", "xczu3eg-sbva484-1-e", "zynquplus", 70_560, 141_120, 360, DSP48E2, 432, 0),
        boards=(("Ultra96", "xczu3eg-sbva484-1-e"), ("Ultra96-V2", "xczu3eg-sbva484-1-i")),
    ),
    Device(
        *("ZU7EV", "xczu7ev-ffvc1156-2-e", "zynquplus", 230_400, 460_800, 1_728, DSP48E2, 624, 96),
        boards=(("ZCU104", "xczu7ev-ffvc1156-2-e"), ("ZCU106", "xczu7ev-ffvc1156-2-e")),
    ),
    Device(
        *("ZU9EG", "xczu9eg-ffvb1156-2-e", "zynquplus", 274_080, 548_160, 2_520, DSP48E2, 1_824, 0),
        boards=(("ZCU102", "xczu9eg-ffvb1156-2-e"),),
    ),
    Device(
        *("XCZU28DR", "xczu28dr-ffvg1517-2-e", "zynquplusRFSOC", 425_280, 850_560, 4_272, DSP48E2, 2_160, 80),
        boards=(("ZCU111", "xczu28dr-ffvg1517-2-e"), ("RFSoC2x2", "xczu28dr-ffvg1517-2-e")),
    ),
    Device("Alveo U50", "xcu50-fsvh2104-2-e", "virtexuplusHBM", 871_680, 1_743_360, 5_952, DSP48E2, 2_688, 640),
    Device("Alveo U200", "xcu200-fsgd2104-2-e", "virtexuplus", 1_182_240, 2_364_480, 6_840, DSP48E2, 4_320, 960),
    Device("Alveo U250", "xcu250-figd2104-2L-e", "virtexuplus", 1_728_000, 3_456_000, 12_288, DSP48E2, 5_376, 1_280),
    Device(
        *("Kria K26", "xck26-sfvc784-2LV-c", "zynquplus", 117_120, 234_240, 1_248, DSP48E2, 288, 64),
        boards=(("KV260", "xck26-sfvc784-2LV-c"), ("KR260", "xck26-sfvc784-2LV-c")),
    ),
    Device(
        *("Artix-7 35T", "xc7a35ticsg324-1L", "artix7", 20_800, 41_600, 90, DSP48E1, 100, 0),
        boards=(("Arty A7-35", "xc7a35ticsg324-1L"), ("Basys 3", "xc7a35tcpg236-1")),
    ),
    Device(
        *("Artix-7 100T", "xc7a100tcsg324-1", "artix7", 63_400, 126_800, 240, DSP48E1, 270, 0),
        boards=(("Arty A7-100", "xc7a100tcsg324-1"), ("Nexys A7-100T", "xc7a100tcsg324-1")),
    ),
    Device(
        *("VU9P", "xcvu9p-flga2104-2L-e", "virtexuplus", 1_182_240, 2_364_480, 6_840, DSP48E2, 4_320, 960),
        boards=(("VCU118", "xcvu9p-flga2104-2L-e"), ("AWS F1", "xcvu9p-flgb2104-2-i")),
    ),
    Device("VU13P", "xcvu13p-flga2577-2-e", "virtexuplus", 1_728_000, 3_456_000, 12_288, DSP48E2, 5_376, 1_280),
    Device(
        *("VC1902", "xcvc1902-vsva2197-2MP-e-S", "versal", 899_840, 1_799_680, 1_968, DSP58, 1_934, 463),
        boards=(("VCK190", "xcvc1902-vsva2197-2MP-e-S"),),
    ),
)
DEFAULT_PART = DEVICES[0].part
"""Of projects whose settings name no part."""
_PACKAGE = r"[il]?-?[a-z]{3,4}\d{3,4}(-\d[a-z]*)(-[a-z])?(-[a-z])?"
"""What follows a die in a part number: package, speed grade, temperature grade, revision."""


def device(text: str, where: str = "part") -> Device:
    """The device of a name, a board or a part number of any package; its `part` is the one that the text names.

    RequestError names the nearest of what there is. `where` opens its message.
    """
    wanted = _plain(text)
    known: dict[str, Device] = {}
    for entry in DEVICES:
        for alias in (entry.name, entry.name.removeprefix("Alveo "), entry.name.removeprefix("Kria "), entry.die):
            known.setdefault(_plain(alias), entry)
        for board, part in entry.boards:
            known.setdefault(_plain(board), replace(entry, part=part))
        known[_plain(entry.part)] = entry
    if wanted in known:
        return known[wanted]
    for entry in DEVICES:
        given = text.strip()
        if re.fullmatch(entry.die + _PACKAGE, given.lower()):
            return replace(entry, part=given)
    names = {_plain(label): label for e in DEVICES for label in (e.name, e.part, *(board for board, _ in e.boards))}
    near = get_close_matches(wanted, names, n=1, cutoff=0.5)
    nearest = f"{names[near[0]]} is nearest" if near else f"known are {', '.join(e.name for e in DEVICES)}"
    raise RequestError(f"{where}: {text[:60]!r} is no known device, board or part number; {nearest}")


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
