"""Real inputs from files, folders and iterables, and results to files: .npz and .npy, never pickled.

A folder holds .npy files and is read by one of two rules. Where every input of the model has a file NAME.npy (characters other
than letters, digits, `.`, `_` and `-` written as `_`), each file is one input. A model with one input and no such file has its
batches in the folder, concatenated in the order of their names. In both, labels.npy are labels unless an input has that name.
Anything in between is refused.
"""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from broadaxe.errors import RequestError

Array: TypeAlias = npt.NDArray[Any]


LABELS = "labels"
"""Array of a file that holds classes, not an input."""
MOST_BYTES = 1 << 32
"""Of batches that are joined in memory."""


def read_data(path: Path, inputs: list[str]) -> dict[str, Array]:
    """Arrays by model input name. A file with one array serves a model with one input, whatever the array is called."""
    return read_labelled(path, inputs)[0]


def read_labelled(path: Path, inputs: list[str], *, strict: bool = False) -> tuple[dict[str, Array], Array | None]:
    """Inputs as `read_data` gives them, and the array called `labels` where there is one and no input has that name.

    `strict` refuses other arrays that no input is: they may be labels by another name.
    """
    if path.is_dir():
        return _read_folder(path, inputs)
    loaded = _load(path)
    arrays = loaded if isinstance(loaded, dict) else {"": loaded}
    labels = arrays.pop(LABELS, None) if LABELS not in inputs and len(arrays) > 1 else None
    if len(inputs) == 1 and len(arrays) == 1:
        return {inputs[0]: next(iter(arrays.values()))}, labels
    if strict and len(inputs) == 1 and inputs[0] not in arrays and len(arrays) == 2 and labels is None:
        raise RequestError(
            f"{path}: holds {' and '.join(sorted(arrays))}; call the inputs {inputs[0]!r} and classes {LABELS!r}"
        )
    missing = [name for name in inputs if name not in arrays]
    if missing:
        held = ", ".join(sorted(arrays)) or "nothing"
        raise RequestError(f"{path}: has no array {missing[0]!r}, it holds {held}; save one array for each input")
    spare = sorted(set(arrays) - set(inputs))
    if strict and spare:
        raise RequestError(f"{path}: holds {spare[0]!r}, which is no input; call classes {LABELS!r}, or leave it out")
    return {name: arrays[name] for name in inputs}, labels


def _load(path: Path) -> Array | dict[str, Array]:
    """The array of a .npy file, which stays on disk until it is read, or those of a .npz file."""
    if path.exists() and not path.is_file():
        raise RequestError(
            f"{path}: is neither a file nor a folder; name a .npz or .npy file, or a folder of .npy files"
        )
    try:
        try:
            loaded = np.load(path, allow_pickle=False, mmap_mode="r")
        except (OSError, ValueError, TypeError):  # no array that can be mapped, or none at all
            loaded = np.load(path, allow_pickle=False)
        return dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else np.asarray(loaded)
    except OSError as error:
        raise RequestError(
            f"{path}: cannot be read ({error.strerror or 'not a numpy file'}); name a .npz or .npy file"
        ) from None
    except MemoryError:
        raise RequestError(f"{path}: asks for more memory than there is; save fewer samples") from None
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, KeyError, OverflowError, SyntaxError, TypeError):
        raise RequestError(f"{path}: is not a plain .npz or .npy file; save numbers with numpy.savez") from None


def _read_folder(folder: Path, inputs: list[str]) -> tuple[dict[str, Array], Array | None]:
    try:
        files = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix == ".npy" and not p.name.startswith(".")}
    except OSError as error:
        raise RequestError(f"{folder}: cannot be read ({error.strerror}); name a folder of .npy files") from None
    stems = {name: re.sub(r"[^A-Za-z0-9._-]", "_", name) for name in inputs}
    place = files.pop(LABELS, None) if LABELS not in stems.values() else None
    if not files:
        raise RequestError(
            f"{folder}: holds no .npy file with inputs; save one for each input, or batches of one input"
        )
    given = [name for name, stem in stems.items() if stem in files]
    labels = None if place is None else _array(place)
    if len(set(stems.values())) < len(stems):
        raise RequestError(f"{folder}: inputs {', '.join(inputs)} would share a file; save one .npz file")
    if not given and len(inputs) == 1:
        return {inputs[0]: _joined(list(files.values()), numbered=labels is not None)}, labels
    missing = next((name for name in inputs if name not in given), None)
    if missing is not None:
        held = ", ".join(p.name for p in files.values())
        raise RequestError(f"{folder}: has no {stems[missing]}.npy, it holds {held}; save one file for each input")
    spare = next((p.name for stem, p in files.items() if stem not in stems.values()), None)
    if spare is not None:
        first = f"{stems[inputs[0]]}.npy"
        raise RequestError(
            f"{folder}: holds {first}, an input, and {spare}, which is none; take it away, or give all batches other names"
        )
    return {name: _array(files[stem]) for name, stem in stems.items()}, labels


def _array(path: Path) -> Array:
    loaded = _load(path)
    if isinstance(loaded, dict):
        raise RequestError(f"{path}: is a .npz file by another name; call it *.npz and give it alone")
    return loaded


def _joined(paths: list[Path], *, numbered: bool) -> Array:
    """Batches in the order of their files; `numbered` asks for an order that leaves no doubt."""
    by_number = sorted(paths, key=lambda p: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", p.name)])
    if numbered and by_number != paths:
        first = next(a.name for a, b in zip(paths, by_number, strict=True) if a != b)
        raise RequestError(
            f"{paths[0].parent}: {first} has another place by name than by number, and labels need one order; write"
            " numbers with zeros in front"
        )
    arrays = [_array(path) for path in paths]
    for path, array in zip(paths, arrays, strict=True):
        if array.ndim < 1 or array.shape[1:] != arrays[0].shape[1:] or array.dtype != arrays[0].dtype:
            raise RequestError(
                f"{path}: holds {array.dtype} of shape {array.shape}, {paths[0].name} {arrays[0].dtype} of shape"
                f" {arrays[0].shape}; batches of one input differ in their number of samples only"
            )
    size = sum(array.nbytes for array in arrays)
    if len(arrays) > 1 and size > MOST_BYTES:
        raise RequestError(
            f"{paths[0].parent}: batches hold {size} bytes; at most {MOST_BYTES} are joined, save one .npy"
        )
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def gathered(data: Any, max_samples: int | None = None, *, what: str = "calibration") -> Array | dict[str, Array]:
    """Arrays of anything that holds samples: arrays and tensors, alone or by input name, and iterables of batches.

    A batch is an array or a torch tensor, a tuple or list of which the first counts, as in (x, label), or a mapping by input
    name. An iterable is read until `max_samples` are there, and may hold MOST_BYTES at most. A list of numbers is an array.

    Raises:
        RequestError: a batch is none, batches do not fit together, or there are too many of them.
    """
    if max_samples is not None and (type(max_samples) is not int or max_samples < 1):
        raise RequestError(f"{what}: max_samples is {max_samples!r}; give a whole number from 1 up")
    if isinstance(data, Mapping):
        return {str(name): _first(_plain(value), max_samples) for name, value in data.items()}
    if isinstance(data, list | tuple) and (not data or not _holds_batches(data[0])):
        try:
            return _first(np.asarray(data), max_samples)
        except ValueError:
            raise RequestError(f"{what}: rows of a list differ in length; give them all the same shape") from None
    if hasattr(data, "__array__") or np.isscalar(data) or not isinstance(data, Iterable):
        return _first(_plain(data), max_samples)
    parts: dict[str, list[Array]] = {}
    count = size = 0
    for number, batch in enumerate(data):
        named = _batch(batch, f"{what}: batch {number}")
        if parts and set(named) != set(parts):
            raise RequestError(
                f"{what}: batch {number} has {_listed(named)}, batch 0 has {_listed(parts)}; give all the same inputs"
            )
        for name, array in named.items():
            before = parts.setdefault(name, [])
            if before and array.shape[1:] != before[0].shape[1:]:
                raise RequestError(
                    f"{what}: batch {number} has shape {array.shape}, batch 0 {before[0].shape}; batches differ in their"
                    " number of samples only"
                )
            before.append(np.array(array[: None if max_samples is None else max_samples - count]))
            size += before[-1].nbytes
        count += len(next(iter(named.values())))
        if size > MOST_BYTES:
            raise RequestError(f"{what}: batches hold more than {MOST_BYTES} bytes; give max_samples")
        if max_samples is not None and count >= max_samples:
            break
    if not parts:
        raise RequestError(f"{what}: the iterable gives no batch; give one that has not been read to its end")
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return joined[""] if set(joined) == {""} else joined


def _holds_batches(first: Any) -> bool:
    return (
        isinstance(first, Mapping)
        or (hasattr(first, "__array__") and np.ndim(first) > 0)
        or (
            isinstance(first, tuple | list)
            and len(first) > 0
            and hasattr(first[0], "__array__")
            and np.ndim(first[0]) > 0
        )
    )


def _batch(batch: Any, where: str) -> dict[str, Array]:
    """A batch's arrays by input name, `` for one without a name."""
    if isinstance(batch, tuple | list) and batch and _holds_batches(batch[0]):
        batch = batch[0]
    named = batch if isinstance(batch, Mapping) else {"": batch}
    arrays = {str(name): _numbers(value, where) for name, value in named.items()}
    for array in arrays.values():
        if not array.ndim:
            raise RequestError(f"{where} is a {type(batch).__name__} without samples; give arrays, batch first")
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) != 1:
        raise RequestError(
            f"{where} has {' and '.join(map(str, sorted(lengths)))} samples of its inputs; give the same number for each"
        )
    return arrays


def _numbers(value: Any, where: str) -> Array:
    """An array of anything that holds numbers."""
    try:
        array = _plain(value)
    except ValueError:
        raise RequestError(f"{where} is a {type(value).__name__} of uneven shape; give arrays, batch first") from None
    if array.dtype.kind not in "fiub":
        raise RequestError(
            f"{where} is a {type(value).__name__}, which holds no numbers; give arrays or tensors of numbers, tuples"
            " (x, label) or dicts by input name"
        )
    return array


def _plain(value: Any) -> Array:
    """An array of anything; torch is not needed for its tensors."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        try:
            value = value.numpy()
        except TypeError:  # bfloat16
            value = value.float().numpy()
    array: Array = np.asarray(value)
    return array


def _first(array: Array, count: int | None) -> Array:
    return array[:count] if array.ndim else array


def _listed(names: Iterable[str]) -> str:
    return ", ".join(name or "an array without a name" for name in names)


def check_output(path: Path, *read: Path | None) -> None:
    """Before the work: results can be a file of this name, and it is none of those that are read."""
    if path.suffix != ".npz":
        raise RequestError(f"{path}: results are .npz files; name the output *.npz")
    if not path.absolute().parent.is_dir():
        raise RequestError(f"{path}: its folder does not exist; create it first")
    check_apart(path, *read)


def check_apart(path: Path, *read: Path | None) -> None:
    """An output is none of the files that are read."""
    if any(place is not None and os.path.realpath(place) == os.path.realpath(path) for place in read):
        raise RequestError(f"{path}: is read, and the output would replace it; choose another output")


def write_data(path: Path, arrays: Mapping[str, Array]) -> None:
    """Save arrays as .npz: written beside its place and renamed, so that an interrupted run leaves nothing half-written."""
    check_output(path)
    final = Path(os.path.realpath(path))
    partial = final.with_name(f".{os.getpid()}.partial.npz")
    try:
        with partial.open("wb") as file:
            np.savez(file, **dict(arrays))  # type: ignore[arg-type]
        partial.replace(final)
    except OSError as error:
        raise RequestError(f"{path}: cannot be written ({error.strerror}); choose another output") from None
    finally:
        partial.unlink(missing_ok=True)
