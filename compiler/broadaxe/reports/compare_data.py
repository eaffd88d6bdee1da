"""What two builds make of the same data, by the bit-accurate reference."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from broadaxe.build import Array, Build, Progress, named, opened
from broadaxe.data import read_labelled
from broadaxe.errors import RequestError
from broadaxe.evaluation import Rows, rows_of
from broadaxe.reference import frames_at_once, run
from broadaxe.reports.comparison import Run, figure

BLOCK = 64
Given = Array | Mapping[str, Array] | str | os.PathLike[str]


def compared(
    a: Build | str | os.PathLike[str],
    b: Build | str | os.PathLike[str],
    data: Given,
    labels: Array | None,
    progress: Progress,
) -> tuple[Run | None, list[str]]:
    """Outputs and accuracy of both builds on data, and what could not be compared.

    Raises:
        RequestError: neither build takes the data, or the labels are no classes of theirs.
    """
    designs = [opened(build, progress) for build in (a, b)]
    rows, refused = [], list[tuple[str, RequestError]]()
    for name, design in zip("AB", designs, strict=True):
        try:
            rows.append(_rows(design, data, labels))
            design.codes({n: x[:1] for n, x in rows[-1].inputs.items()})
        except RequestError as error:
            refused.append((name, error))
    if len(refused) == 2:
        raise refused[0][1]
    if refused:
        return None, [f"data: {name} does not take them, {error}" for name, error in refused]
    count, source = len(rows[0]), rows[0].source
    if len(rows[1]) != count:
        raise RequestError(f"{source}: gives A {count} samples and B {len(rows[1])}; give both the same")
    return _run(designs, rows, progress)


def _rows(design: Build, data: Given, labels: Array | None) -> Rows:
    """Data by the names of a build's inputs, and labels."""
    inputs = list(dict.fromkeys(i.tensor for i in design.lowered.inputs))
    held, source = None, "data"
    if isinstance(data, str | os.PathLike):
        arrays, held = read_labelled(Path(data), inputs)
        source = str(data)
    else:
        arrays = named(data, inputs)
        if isinstance(data, Mapping) and "labels" in data and "labels" not in inputs:
            held = arrays.pop("labels")
    return rows_of(arrays, labels if labels is not None else held, source)


def _run(designs: list[Build], rows: list[Rows], progress: Progress) -> tuple[Run, list[str]]:
    total, block = len(rows[0]), min(frames_at_once(design.graph, BLOCK) for design in designs)
    labels, notes = rows[0].labels, list[str]()
    differing, elsewhere, right = 0, 0, [0, 0]
    comparable = True
    for at in range(0, total, block):
        progress(f"running both on {min(at + block, total)} of {total} inputs")
        part = slice(at, at + block)
        a, b = (_outputs(design, own, part) for design, own in zip(designs, rows, strict=True))
        shapes = [[x.shape[1:] for x in outputs] for outputs in (a, b)]
        if shapes[0] != shapes[1]:
            comparable = False
        else:
            differing += int(np.any([_differs(x, y) for x, y in zip(a, b, strict=True)], axis=0).sum())
            elsewhere += int((_largest(a) != _largest(b)).sum())
        for side, outputs in enumerate((a, b)):
            if labels is not None:
                _check_classes(rows[0], labels, outputs, "AB"[side])
                right[side] += int((_largest(outputs) == labels[part]).sum())
    if not comparable:
        notes.append("outputs: of other shapes in A and B, so that they are not compared")
    scores = [100 * count / total for count in right]
    accuracy = None if labels is None else figure("accuracy, %", scores[0], scores[1], "more")
    return Run(
        source=rows[0].source,
        samples=total,
        differing=differing if comparable else None,
        other_largest=elsewhere if comparable else None,
        accuracy=accuracy,
    ), notes


def _outputs(design: Build, rows: Rows, part: slice) -> list[Array]:
    """The model's outputs in order, batch first, as the bit-accurate reference and the host compute them."""
    codes = design.codes({name: x[part] for name, x in rows.inputs.items()})
    return list(design.host.reals(run(design.graph, codes)).values())


def _differs(x: Array, y: Array) -> Array:
    """Which samples differ somewhere."""
    return np.asarray((x != y).reshape(len(x), -1).any(axis=1))


def _largest(outputs: list[Array]) -> Array:
    """Where each sample's first output is largest."""
    return np.asarray(outputs[0].reshape(len(outputs[0]), -1).argmax(axis=1))


def _check_classes(rows: Rows, labels: Array, outputs: list[Array], side: str) -> None:
    count = outputs[0][0].size
    if int(labels.min()) < 0 or int(labels.max()) >= count:
        raise RequestError(
            f"{rows.source}: labels go from {labels.min()} to {labels.max()}, {side} has {count} outputs; give classes 0 to"
            f" {count - 1}"
        )
