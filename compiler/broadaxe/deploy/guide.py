"""What deploy/README.md says of each port. No text of the model stands there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from broadaxe.build import Build
from broadaxe.deploy.layout import Layout
from broadaxe.emit import Port

MOST_SHOWN = 16
"""Integers of the example beat that are written out."""
PLACES = {
    "tensor": "Elements are those of the model's tensor in its own order.",
    "channels-last": "The model's tensor is (channels, height, width), the frame (height, width, channels).",
    "index": "Where each element of the model's tensor stands in the frame is listed in ports.json (`index`).",
}


@dataclass(frozen=True)
class Row:
    """One port. `example` are its first beat's integers, or the first of them."""

    layout: Layout
    received: bool
    signed: bool
    lo: int
    hi: int
    meaning: str
    order: str
    example: list[int]
    cut: bool
    tdata: str
    memory: str


def rows(build: Build, facts: dict[str, Any]) -> list[Row]:
    """The ports in order; `facts` is what ports.json holds."""
    tensors = {"inputs": facts["sent"], "outputs": facts["received"]}
    made = []
    for side, ports in (("inputs", build.flow.inputs), ("outputs", build.flow.outputs)):
        for port in ports:
            carried = [tensor for tensor in tensors[side] if tensor["port"] == port.name]
            made.append(_row(build, port, carried, side == "outputs"))
    return made


def _row(build: Build, port: Port, carried: list[dict[str, Any]], received: bool) -> Row:
    value, layout = build.graph.values[port.value], Layout(port)
    codes = example_codes(build, port)
    word = sum((code & ((1 << port.width) - 1)) << (i * port.width) for i, code in enumerate(codes))
    in_memory = word.to_bytes(layout.slot, "little")
    shown = in_memory[:MOST_SHOWN].hex(" ") + (f" ... ({layout.slot} bytes)" if layout.slot > MOST_SHOWN else "")
    return Row(
        layout=layout,
        received=received,
        signed=value.dtype.signed,
        lo=value.hull.lo,
        hi=value.hull.hi,
        meaning=_meaning(carried),
        order=" ".join(dict.fromkeys(PLACES[tensor["order"]] for tensor in carried)),
        example=codes[:MOST_SHOWN],
        cut=port.lanes > MOST_SHOWN,
        tdata=f"{word:0{port.bits // 4}x}",
        memory=shown,
    )


def example_codes(build: Build, port: Port) -> list[int]:
    """The integers of the example beat: each lane's bounds run through from their lower end, one further for each lane."""
    value = build.graph.values[port.value]
    bounds = [value.bounds[lane % len(value.bounds)] for lane in range(port.lanes)]
    return [b.lo + lane % (b.hi - b.lo + 1) for lane, b in enumerate(bounds)]


def _meaning(carried: list[dict[str, Any]]) -> str:
    if len(carried) != 1:
        return f"{len(carried)} tensors, see ports.json"
    (tensor,) = carried
    scale, shift = tensor["scale"], tensor["shift"]
    if len(set(zip(scale, shift, strict=True))) > 1:
        return "for each channel its own, see ports.json"
    zero_point = -shift[0] / scale[0] if scale[0] else 0.5
    zero = f" (zero point {zero_point:.0f})" if shift[0] and zero_point.is_integer() else ""
    rest = ", then see ports.json" if len(tensor.get("chain", ())) > 1 else ""
    return f"{scale[0]!r} x integer + {shift[0]!r}{zero}{rest}"
