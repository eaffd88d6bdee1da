"""Model inputs whose codes are given: the way back through what the host does up to the first quantizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import onnx
from onnx import helper

from broadaxe.errors import BroadaxeError
from broadaxe.host import Host
from broadaxe.ir import Graph, IntArray
from broadaxe.lower import HostInput, Lowered
from broadaxe.ops.importing import Array

HALVINGS = 200
"""Of an interval of floats, until its ends are neighbours: 150 or so."""
LARGEST = 1e30


class Hosted(Protocol):
    """A lowered model and its host's side: an audited design, or a build."""

    @property
    def model(self) -> onnx.ModelProto: ...

    @property
    def lowered(self) -> Lowered: ...

    @property
    def graph(self) -> Graph: ...

    @property
    def host(self) -> Host: ...


def model_inputs(design: Hosted, codes: Mapping[str, IntArray]) -> dict[str, Array] | None:
    """Arrays for the model's inputs, batch of 1, that the host turns into exactly these codes; None where none was found.

    First the codes' own reals are tried. Where something stands before the quantizer, each element is found by halving an
    interval, which works for whatever rises or falls element by element. Both are guesses until the host has confirmed them.
    """
    own = {entry.tensor: _reals(design, entry, codes[entry.value]) for entry in design.lowered.inputs}
    guess = _confirmed(design, own, codes)
    return guess or _confirmed(design, _halved(design, own, codes), codes)


def _reals(design: Hosted, entry: HostInput, stream: IntArray) -> Array:
    """Reals of a quantized tensor (or integers of an input that carries them) in the model's layout."""
    value = design.graph.values[entry.value]
    scale = np.array([float(s) for s in value.scale])
    shift = np.array([float(s) for s in value.shift])
    reals = (stream.reshape(1, *value.shape).astype(np.float64) * scale + shift).reshape(-1)
    return np.asarray(reals[entry.index])


def _codes(design: Hosted, made: Mapping[str, Array]) -> dict[str, IntArray] | None:
    try:
        return design.host.codes(made)
    except BroadaxeError:
        return None


def _confirmed(
    design: Hosted, made: Mapping[str, Array] | None, codes: Mapping[str, IntArray]
) -> dict[str, Array] | None:
    """The inputs as the model takes them, if they have the codes."""
    found = None if made is None else _codes(design, made)
    if made is None or found is None:
        return None
    same = all(np.array_equal(found[name], codes[name]) for name in design.graph.inputs)
    return design.host.feeds(made) if same else None


def _halved(design: Hosted, own: Mapping[str, Array], codes: Mapping[str, IntArray]) -> dict[str, Array] | None:
    """Inputs found by halving, each element by itself; a first guess of the ends decides whether its codes rise or fall."""
    entries = {entry.tensor: entry for entry in design.lowered.inputs}
    kinds = {i.name: helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type) for i in design.model.graph.input}
    whole = {name: kinds[name].kind in "iu" for name in own}
    low, high = {}, {}
    for name, x in own.items():
        limits = np.iinfo(kinds[name]) if whole[name] else None
        low[name] = np.full(x.shape, float(limits.min) if limits else -LARGEST)
        high[name] = np.full(x.shape, float(limits.max) if limits else LARGEST)
    wanted = {name: _laid_out(entry, codes) for name, entry in entries.items()}
    ends = [_codes(design, low), _codes(design, high)]
    if ends[0] is None or ends[1] is None:
        return None
    falls = {name: _laid_out(entry, ends[0]) > _laid_out(entry, ends[1]) for name, entry in entries.items()}
    middle = {name: np.clip(np.rint(x), low[name], high[name]) if whole[name] else x for name, x in own.items()}
    for _ in range(HALVINGS):
        found = _codes(design, middle)
        if found is None:
            return None
        done = True
        for name, entry in entries.items():
            seen = _laid_out(entry, found)
            below = np.where(falls[name], seen > wanted[name], seen < wanted[name])
            above = (seen != wanted[name]) & ~below
            low[name], high[name] = np.where(below, middle[name], low[name]), np.where(above, middle[name], high[name])
            done &= not (below | above).any()
            between = _between(low[name], high[name])
            middle[name] = np.where(below | above, np.rint(between) if whole[name] else between, middle[name])
        if done:
            break
    return middle


def _between(low: Array, high: Array) -> Array:
    """A number between two others: their mean; where they are far apart one between their exponents, or 0."""
    size = np.sqrt(np.maximum(np.abs(low), 1)) * np.sqrt(np.maximum(np.abs(high), 1))
    apart = np.where(low >= 0, size, np.where(high <= 0, -size, 0.0))
    far = np.maximum(np.abs(low), np.abs(high)) > 1e6
    return np.where(far, apart, low / 2 + high / 2)


def _laid_out(entry: HostInput, codes: Mapping[str, IntArray]) -> IntArray:
    """Codes in the layout of the model's tensor."""
    return np.asarray(codes[entry.value].reshape(-1)[entry.index].astype(np.int64))
