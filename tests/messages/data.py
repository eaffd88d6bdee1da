"""Data: files, folders, batches, labels and results."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
from models import Network

from broadaxe import data as reading
from broadaxe.data import check_output, gathered, read_data, read_labelled, write_data
from broadaxe.errors import RequestError
from broadaxe.evaluation import Judge, read_rows, rows_from, rows_of
from broadaxe.frontend.standard import expand_quant

from . import provokes

COVERS = ("data.py", "evaluation.py")
X = np.arange(24, dtype=np.float32).reshape(6, 4)


def folder(tmp: Path, **arrays: np.ndarray) -> Path:
    """A folder with a .npy file for each array."""
    place = tmp / "data"
    place.mkdir()
    for name, array in arrays.items():
        np.save(place / f"{name}.npy", array)
    return place


def archive(tmp: Path, **arrays: np.ndarray) -> Path:
    np.savez(tmp / "data.npz", **arrays)
    return tmp / "data.npz"


@contextmanager
def at_most(count: int) -> Iterator[None]:
    """Fewer bytes of batches than there are for real."""
    with mock.patch.object(reading, "MOST_BYTES", count):
        yield


# Files


@provokes("{tmp}/test.npz: cannot be read (No such file or directory); name a .npz or .npy file", RequestError)
def missing_file(tmp: Path) -> None:
    read_data(tmp / "test.npz", ["x"])


@provokes("{tmp}/model.onnx: is not a plain .npz or .npy file; save numbers with numpy.savez", RequestError)
def model_instead_of_data(tmp: Path) -> None:
    (tmp / "model.onnx").write_bytes(b"\x08\x0aonnx")
    read_data(tmp / "model.onnx", ["x"])


@provokes("{tmp}/x.npy: is not a plain .npz or .npy file; save numbers with numpy.savez", RequestError)
def pickled_objects(tmp: Path) -> None:
    np.save(tmp / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    read_data(tmp / "x.npy", ["x"])


@provokes(
    "/dev/null: is neither a file nor a folder; name a .npz or .npy file, or a folder of .npy files", RequestError
)
def device_as_data(tmp: Path) -> None:
    read_data(Path("/dev/null"), ["x"])


@provokes("{tmp}/x.npy: asks for more memory than there is; save fewer samples", RequestError)
def more_than_memory(tmp: Path) -> None:
    np.save(tmp / "x.npy", X)
    with mock.patch.object(np, "load", side_effect=MemoryError):
        read_data(tmp / "x.npy", ["x"])


@provokes("{tmp}/data.npz: has no array 'x', it holds images, more; save one array for each input", RequestError)
def array_of_another_name(tmp: Path) -> None:
    read_data(archive(tmp, images=X, more=X), ["x"])


@provokes("{tmp}/data.npz: has no array 'right', it holds left; save one array for each input", RequestError)
def one_of_two_inputs(tmp: Path) -> None:
    read_data(archive(tmp, left=X), ["left", "right"])


@provokes("{tmp}/data.npz: holds classes and images; call the inputs 'x' and classes 'labels'", RequestError)
def labels_of_another_name(tmp: Path) -> None:
    read_labelled(archive(tmp, images=X, classes=np.arange(6)), ["x"], strict=True)


@provokes("{tmp}/data.npz: holds 'classes', which is no input; call classes 'labels', or leave it out", RequestError)
def labels_beside_the_input(tmp: Path) -> None:
    read_labelled(archive(tmp, x=X, classes=np.arange(6)), ["x"], strict=True)


# Folders


@provokes("{tmp}/data: holds no .npy file with inputs; save one for each input, or batches of one input", RequestError)
def folder_without_arrays(tmp: Path) -> None:
    read_data(folder(tmp, labels=np.arange(6)), ["x"])


@provokes("{tmp}/data: cannot be read (Permission denied); name a folder of .npy files", RequestError)
def folder_that_may_not_be_read(tmp: Path) -> None:
    place = folder(tmp, x=X)
    with mock.patch.object(Path, "iterdir", side_effect=PermissionError(13, "Permission denied")):
        read_data(place, ["x"])


@provokes("{tmp}/data: inputs a:b, a/b would share a file; save one .npz file", RequestError)
def inputs_of_one_file_name(tmp: Path) -> None:
    read_data(folder(tmp, a_b=X), ["a:b", "a/b"])


@provokes("{tmp}/data: has no right.npy, it holds left.npy, other.npy; save one file for each input", RequestError)
def folder_without_an_input(tmp: Path) -> None:
    read_data(folder(tmp, left=X, other=X), ["left", "right"])


@provokes(
    "{tmp}/data: holds x.npy, an input, and part_1.npy, which is none; take it away, or give all batches other names",
    RequestError,
)
def input_among_batches(tmp: Path) -> None:
    read_data(folder(tmp, x=X, part_1=X), ["x"])


@provokes("{tmp}/data/x.npy: is a .npz file by another name; call it *.npz and give it alone", RequestError)
def archive_called_npy(tmp: Path) -> None:
    place = folder(tmp)
    with (place / "x.npy").open("wb") as file:
        np.savez(file, x=X)
    read_data(place, ["x"])


@provokes(
    "{tmp}/data: b10.npy has another place by name than by number, and labels need one order; write numbers with"
    " zeros in front",
    RequestError,
)
def batches_in_a_doubtful_order(tmp: Path) -> None:
    read_labelled(folder(tmp, b1=X, b2=X, b10=X, labels=np.arange(18)), ["x"])


@provokes(
    "{tmp}/data/b.npy: holds float32 of shape (6, 3), a.npy float32 of shape (6, 4); batches of one input differ in"
    " their number of samples only",
    RequestError,
)
def batches_of_two_shapes(tmp: Path) -> None:
    read_data(folder(tmp, a=X, b=X[:, :3]), ["x"])


@provokes("{tmp}/data: batches hold 192 bytes; at most 100 are joined, save one .npy", RequestError)
def batches_beyond_memory(tmp: Path) -> None:
    with at_most(100):
        read_data(folder(tmp, a=X, b=X), ["x"])


# Iterables, in Python


@provokes("calibration: max_samples is 0; give a whole number from 1 up", RequestError)
def no_samples_asked(tmp: Path) -> None:
    gathered(X, 0)


@provokes("calibration: rows of a list differ in length; give them all the same shape", RequestError)
def rows_of_two_lengths(tmp: Path) -> None:
    gathered([[1, 2], [3]])


@provokes("calibration: batch 1 has b, batch 0 has a; give all the same inputs", RequestError)
def batches_of_two_inputs(tmp: Path) -> None:
    gathered([{"a": X}, {"b": X}])


@provokes(
    "calibration: batch 1 has shape (6, 2), batch 0 (6, 4); batches differ in their number of samples only",
    RequestError,
)
def batches_that_differ_in_shape(tmp: Path) -> None:
    gathered([X, X[:, :2]])


@provokes("calibration: batches hold more than 100 bytes; give max_samples", RequestError)
def endless_batches(tmp: Path) -> None:
    with at_most(100):
        gathered(itertools.repeat(X))


@provokes("calibration: the iterable gives no batch; give one that has not been read to its end", RequestError)
def loader_at_its_end(tmp: Path) -> None:
    gathered(iter(()))


@provokes("calibration: batch 0 is a float without samples; give arrays, batch first", RequestError)
def single_numbers(tmp: Path) -> None:
    gathered(iter([1.0]))


@provokes("calibration: batch 0 has 2 and 6 samples of its inputs; give the same number for each", RequestError)
def inputs_of_two_lengths(tmp: Path) -> None:
    gathered([{"a": X, "b": X[:2]}])


@provokes("calibration: batch 0 is a list of uneven shape; give arrays, batch first", RequestError)
def batch_of_uneven_rows(tmp: Path) -> None:
    gathered(iter([[[1, 2], [3]]]))


@provokes(
    "calibration: batch 0 is a str, which holds no numbers; give arrays or tensors of numbers, tuples (x, label) or"
    " dicts by input name",
    RequestError,
)
def file_names_as_batches(tmp: Path) -> None:
    gathered(iter(["a.png", "b.png"]))


# Results


@provokes("{tmp}/out.txt: results are .npz files; name the output *.npz", RequestError)
def results_as_text(tmp: Path) -> None:
    write_data(tmp / "out.txt", {"y": X})


@provokes("{tmp}/results/out.npz: its folder does not exist; create it first", RequestError)
def results_into_no_folder(tmp: Path) -> None:
    write_data(tmp / "results" / "out.npz", {"y": X})


@provokes("{tmp}/x.npz: is read, and the output would replace it; choose another output", RequestError)
def results_over_their_data(tmp: Path) -> None:
    check_output(tmp / "x.npz", None, tmp / "." / "x.npz")


@provokes("{tmp}/y.npz: cannot be written (Is a directory); choose another output", RequestError)
def results_on_a_folder(tmp: Path) -> None:
    (tmp / "y.npz").mkdir()
    write_data(tmp / "y.npz", {"y": X})


# Rows with labels


def classifier() -> Network:
    net = Network(4, batch=1)
    return net.finish(net.node("MatMul", "x", np.eye(4, 3, dtype=np.float32)))


@provokes("test: is a tuple of 3 parts; give two, (inputs, labels)", RequestError)
def three_parts_of_rows(tmp: Path) -> None:
    rows_from((X, np.arange(6), X), classifier(), "test")


@provokes(
    "{tmp}/data.npz: labels have type int64 and shape (5,); give one integer for each of the 6 samples", RequestError
)
def labels_of_another_length(tmp: Path) -> None:
    read_rows(archive(tmp, x=X, labels=np.arange(5)), classifier())


@provokes(
    "{tmp}/data.npz: labels have type float64 and shape (6, 3); give one integer for each of the 6 samples",
    RequestError,
)
def one_hot_labels(tmp: Path) -> None:
    read_rows(archive(tmp, x=X, labels=np.eye(6, 3)), classifier())


@provokes("test.npz: labels go from 1 to 3, the model has 3 outputs; give classes 0 to 2", RequestError)
def labels_from_one_up(tmp: Path) -> None:
    Judge(rows_of({"x": X}, np.array([1, 2, 3, 1, 2, 3]), "test.npz"), expand_quant(classifier()))
