"""Real inputs from files, and results to files: .npz and .npy, never pickled."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from broadaxe.errors import RequestError

Array: TypeAlias = npt.NDArray[Any]


LABELS = "labels"
"""Array of a file that holds classes, not an input."""


def read_data(path: Path, inputs: list[str]) -> dict[str, Array]:
    """Arrays by model input name. A file with one array serves a model with one input, whatever the array is called."""
    return read_labelled(path, inputs)[0]


def read_labelled(path: Path, inputs: list[str]) -> tuple[dict[str, Array], Array | None]:
    """Inputs as `read_data` gives them, and the array called `labels` where there is one and no input has that name."""
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {"": loaded}
    except OSError as error:
        raise RequestError(
            f"{path}: cannot be read ({error.strerror or 'not a numpy file'}); name a .npz or .npy file"
        ) from None
    except MemoryError:
        raise RequestError(f"{path}: asks for more memory than there is; save fewer samples") from None
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, KeyError, OverflowError, SyntaxError, TypeError):
        raise RequestError(f"{path}: is not a plain .npz or .npy file; save numbers with numpy.savez") from None
    labels = arrays.pop(LABELS, None) if LABELS not in inputs and len(arrays) > 1 else None
    if len(inputs) == 1 and len(arrays) == 1:
        return {inputs[0]: next(iter(arrays.values()))}, labels
    missing = [name for name in inputs if name not in arrays]
    if missing:
        held = ", ".join(sorted(arrays)) or "nothing"
        raise RequestError(f"{path}: has no array {missing[0]!r}, it holds {held}; save one array for each input")
    return {name: arrays[name] for name in inputs}, labels


def write_data(path: Path, arrays: Mapping[str, Array]) -> None:
    """Save arrays as .npz: written beside its place and renamed, so that an interrupted run leaves nothing half-written."""
    if path.suffix != ".npz":
        raise RequestError(f"{path}: results are .npz files; name the output *.npz")
    if not path.absolute().parent.is_dir():
        raise RequestError(f"{path}: its folder does not exist; create it first")
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
