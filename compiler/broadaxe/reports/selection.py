"""Which layer, and which of its channels, somebody means; and what to say where there is none of that name."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from broadaxe.configuration.settings import brief
from broadaxe.errors import RequestError

LISTED = 8
"""Layers that a message names."""


def layer_of(top: str, layers: Sequence[tuple[str, str]], others: Iterable[tuple[str, str, str]], name: str) -> str:
    """The layer of a name, by its name in the sources.

    Args:
        layers: name in the sources and node of the multiply-accumulate layers.
        others: name, node and kind of what else the design has.
        name: either name; of the node with or without its operator.

    Raises:
        RequestError: there is none; the message has the nearest.
    """
    name = name if isinstance(name, str) else brief(name)  # whatever a program passes
    for own, _ in layers:
        if name == own:
            return own
    for own, node in layers:
        if name in _names(node):
            return own
    if not layers:
        raise RequestError(f"layer {name}: {top} has no multiply-accumulate layer; there is nothing to explain")
    known = [own for own, _ in layers]
    listed = ", ".join(known[:LISTED]) + (f" and {len(known) - LISTED} more" if len(known) > LISTED else "")
    for own, node, kind in others:
        if name in (own, *_names(node)):
            raise RequestError(f"layer {name}: is a {kind}, which has no accumulator; layers are {listed}")
    texts = dict.fromkeys(text for own, node in layers for text in (own, _names(node)[1]))
    near = get_close_matches(name, list(texts), 3, 0.5)
    told = f"did you mean {' or '.join(near)}?" if near else f"layers are {listed}"
    raise RequestError(f"layer {name}: {top} has no multiply-accumulate layer of that name; {told}")


def _names(node: str) -> tuple[str, str]:
    """A node as `name (Operator)`, and by its name alone; neither where it has none."""
    return (node, node.rpartition(" (")[0]) if node else ("\n", "\n")


def check_channel(layer: str, channel: int | None, outputs: int) -> None:
    """RequestError unless a layer of so many outputs has the channel, if one is asked for."""
    whole = isinstance(channel, numbers.Integral) and not isinstance(channel, bool)
    if channel is not None and not (whole and 0 <= channel < outputs):
        last = f"0 to {outputs - 1}" if outputs > 1 else "0"
        raise RequestError(f"{layer}: has no channel {brief(channel)}; its channels are {last}")
