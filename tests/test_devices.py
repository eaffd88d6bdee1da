"""The device table: what names a part, and what is said of a name that does not."""

from __future__ import annotations

import pytest

from broadaxe.config import settings
from broadaxe.errors import RequestError
from broadaxe.hardware import DSP48E1, DSP48E2, DSP58, Resources
from broadaxe.schedule.devices import DEVICES, device


@pytest.mark.parametrize("entry", DEVICES, ids=lambda entry: entry.name)
def test_every_name_of_a_device_finds_it(entry) -> None:
    for text in (entry.name, entry.name.lower(), entry.part, entry.part.upper(), entry.die):
        assert device(text) is entry or device(text) == entry
    for board, part in entry.boards:
        assert (device(board).name, device(board).part) == (entry.name, part)
        assert device(part).name == entry.name
    assert entry.dsp_block == {"zynq": DSP48E1, "artix7": DSP48E1, "versal": DSP58}.get(entry.family, DSP48E2)
    assert entry.ff == 2 * entry.lut  # of every family here


def test_figures_of_the_product_tables() -> None:
    assert device("pynq-z2").resources == Resources(53200, 106400, 220, 280, 0)
    assert device("U250").resources == Resources(1728000, 3456000, 12288, 5376, 1280)
    assert device("vck190").resources == Resources(899840, 1799680, 1968, 1934, 463)


@pytest.mark.parametrize("text", ["xc7z020clg484-2", "xc7z020-clg400-3", "xczu9eg-ffvc900-1-i", "xc7a35tcpg236-1"])
def test_a_part_in_another_package_keeps_its_number(text: str) -> None:
    assert device(text).part == text
    assert text.startswith(device(text).die)


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("zcu1044", "ZCU104 is nearest"),
        ("xc7z021clg400-1", "xc7z020clg400-1 is nearest"),
        ("xc7z020clg400-1; exec rm", "xc7z020clg400-1 is nearest"),
        (
            "?",
            "known are Zynq-7020, ZU3EG, ZU7EV, ZU9EG, XCZU28DR, Alveo U50, Alveo U200, Alveo U250, Kria K26, Artix-7 35T,"
            " Artix-7 100T, VU9P, VU13P, VC1902",
        ),
    ],
)
def test_an_unknown_part_is_told_the_nearest(text: str, nearest: str) -> None:
    with pytest.raises(RequestError) as refused:
        device(text)
    assert str(refused.value) == f"part: {text!r} is no known device, board or part number; {nearest}"


def test_settings_hold_the_part_number() -> None:
    chosen = settings(part="zedboard", clock_ns=4)
    assert (chosen.part, chosen.clock_ns) == ("xc7z020clg484-1", 4.0)
    assert chosen.device is not None
    assert chosen.device.name == "Zynq-7020"
    assert settings().device is None
    with pytest.raises(RequestError, match=r"^settings: part: 'nonsense' is no known device"):
        settings(part="nonsense")
    with pytest.raises(RequestError) as refused:
        settings(clock_ns=0)
    assert str(refused.value) == "settings: clock_ns: 0 is not allowed; give a number from 0.5 to 1000"
