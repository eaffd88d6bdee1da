"""Data for calibration and tests: files, folders, and iterables of batches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from models import Network, small_cnn

import broadaxe
from broadaxe import data as reading
from broadaxe.data import gathered, read_data, read_labelled
from broadaxe.errors import RequestError

X = np.arange(24, dtype=np.float32).reshape(6, 4)


def refusal_of(function, *arguments, **options):
    with pytest.raises(RequestError) as refusal:
        function(*arguments, **options)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def folder(path, **arrays):
    path.mkdir()
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", array)
    return path


# files and folders


def test_a_large_array_stays_on_disk(tmp_path):
    np.save(tmp_path / "x.npy", X)
    found = read_data(tmp_path / "x.npy", ["x"])["x"]
    assert np.array_equal(found, X)
    assert isinstance(found.base, np.memmap) or isinstance(found, np.memmap)


def test_a_folder_with_a_file_for_each_input(tmp_path):
    place = folder(tmp_path / "d", a=X, b_0=X + 1, labels=np.arange(6))
    found, labels = read_labelled(place, ["a", "b:0"])
    assert np.array_equal(found["a"], X)
    assert np.array_equal(found["b:0"], X + 1)
    assert labels is not None
    assert labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert read_labelled(folder(tmp_path / "e", labels=X), ["labels"])[1] is None  # an input of that name


def test_a_folder_of_batches(tmp_path):
    place = folder(tmp_path / "d", part_2=X[4:], part_0=X[:1], part_1=X[1:4], labels=np.arange(6))
    (place / "notes.txt").write_text("what this is")
    found, labels = read_labelled(place, ["x"])
    assert np.array_equal(found["x"], X)
    assert labels is not None
    assert labels.tolist() == [0, 1, 2, 3, 4, 5]


FOLDERS = {
    "empty": ({}, ["x"], "holds no .npy file with inputs; save one for each input, or batches of one input"),
    "only labels": ({"labels": X}, ["x"], "holds no .npy file with inputs; save one for each input, or batches"),
    "an input and another file": (
        {"x": X, "more": X},
        ["x"],
        "holds x.npy, an input, and more.npy, which is none; take it away, or give all batches other names",
    ),
    "missing": ({"a": X, "c": X}, ["a", "b"], "has no b.npy, it holds a.npy, c.npy; save one file for each input"),
    "batches of two inputs": ({"p": X}, ["a", "b"], "has no a.npy, it holds p.npy; save one file for each input"),
    "a doubtful order": (
        {"b1": X, "b2": X, "b10": X, "labels": X},
        ["x"],
        "b10.npy has another place by name than by number, and labels need one order; write numbers with zeros in front",
    ),
    "one name": ({"a_b": X}, ["a:b", "a/b"], "inputs a:b, a/b would share a file; save one .npz file"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_folders_that_are_refused(case, tmp_path):
    arrays, inputs, message = FOLDERS[case]
    place = folder(tmp_path / "d", **arrays)
    assert refusal_of(read_data, place, inputs).startswith(f"{place}: {message}")


def test_an_order_of_batches_without_labels_is_by_name(tmp_path):
    place = folder(tmp_path / "d", b2=X[3:], b10=X[:3])
    assert np.array_equal(read_data(place, ["x"])["x"], X)


def test_batches_that_do_not_fit(tmp_path):
    place = folder(tmp_path / "d", a=X, b=X[:, :3])
    assert refusal_of(read_data, place, ["x"]) == (
        f"{place / 'b.npy'}: holds float32 of shape (6, 3), a.npy float32 of shape (6, 4); batches of one input differ in"
        " their number of samples only"
    )


def test_batches_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MOST_BYTES", 100)
    place = folder(tmp_path / "d", a=X, b=X)
    message = f"{place}: batches hold 192 bytes; at most 100 are joined, save one .npy"
    assert refusal_of(read_data, place, ["x"]) == message
    message = "calibration: batches hold more than 100 bytes; give max_samples"
    assert refusal_of(gathered, itertools.repeat(X)) == message


def test_nothing_is_unpickled(tmp_path):
    place = tmp_path / "d"
    place.mkdir()
    np.save(place / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    message = f"{place / 'x.npy'}: is not a plain .npz or .npy file; save numbers with numpy.savez"
    assert refusal_of(read_data, place, ["x"]) == message


# iterables


def test_iterables_of_batches():
    tensors = [torch.from_numpy(X[:4]), torch.from_numpy(X[4:])]
    labels = torch.arange(6)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.from_numpy(X), labels), batch_size=4)
    for source in (X, torch.from_numpy(X), tensors, iter(tensors), [X[:4], X[4:]], loader, [(X, 0)]):
        assert np.array_equal(gathered(source), X)
    named = [{"a": X[:4], "b": X[:4] + 1}, {"b": X[4:] + 1, "a": tensors[1]}]
    for source in (named, ((batch, 1) for batch in named)):
        found = gathered(source)
        assert np.array_equal(found["a"], X)
        assert np.array_equal(found["b"], X + 1)
    assert gathered([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]  # numbers are an array
    assert gathered(torch.full((2, 2), 0.5, dtype=torch.bfloat16)).tolist() == [[0.5, 0.5]] * 2


def test_no_more_is_read_than_asked_for():
    read = []

    def batches():
        for k in itertools.count():
            read.append(k)
            yield X + 100 * k

    assert np.array_equal(gathered(batches(), 8), np.concatenate([X, X[:2] + 100]))
    assert read == [0, 1]
    assert np.array_equal(gathered(X, 2), X[:2])
    assert np.array_equal(gathered({"x": X}, 2)["x"], X[:2])


def test_batches_own_their_data():
    """A loader may fill one buffer over and over."""
    buffer = np.zeros((2, 4), dtype=np.float32)

    def batches():
        for k in range(3):
            buffer[:] = k
            yield buffer

    assert gathered(batches())[:, 0].tolist() == [0, 0, 1, 1, 2, 2]


BATCHES = {
    "nothing": (iter(()), "the iterable gives no batch; give one that has not been read to its end"),
    "shapes": (
        [X, X[:, :2]],
        "batch 1 has shape (6, 2), batch 0 (6, 4); batches differ in their number of samples only",
    ),
    "names": ([{"a": X}, {"b": X}], "batch 1 has b, batch 0 has a; give all the same inputs"),
    "lengths": ([{"a": X, "b": X[:2]}], "batch 0 has 2 and 6 samples of its inputs; give the same number for each"),
    "words": (
        iter(["a", "b"]),
        "batch 0 is a str, which holds no numbers; give arrays or tensors of numbers, tuples (x, label) or dicts by input name",
    ),
    "single numbers": (iter([1.0]), "batch 0 is a float without samples; give arrays, batch first"),
}


@pytest.mark.parametrize("case", BATCHES)
def test_batches_that_are_refused(case):
    source, message = BATCHES[case]
    assert refusal_of(gathered, source) == f"calibration: {message}"


def test_max_samples_is_a_number_from_one_up():
    assert refusal_of(gathered, X, 0) == "calibration: max_samples is 0; give a whole number from 1 up"
    assert refusal_of(gathered, X, 2.5) == "calibration: max_samples is 2.5; give a whole number from 1 up"
    assert refusal_of(gathered, [[1, 2], [3]]) == (
        "calibration: rows of a list differ in length; give them all the same shape"
    )


def test_quantize_takes_a_loader():
    x = np.random.default_rng(0).uniform(0, 1, (12, 2, 6, 6)).astype(np.float32)
    wanted = broadaxe.quantize(small_cnn(), x[:8], preset="rtn").model
    batches = ((torch.from_numpy(part), torch.zeros(len(part))) for part in np.split(x, 4))
    assert broadaxe.quantize(small_cnn(), batches, max_samples=8, preset="rtn").model == wanted


def test_the_command_line_reads_a_folder(tmp_path, monkeypatch, capsys):
    net = Network(4)
    y = net.node("MatMul", net.quant("x", 0.5), net.weights(4, 3))
    (tmp_path / "m.onnx").write_bytes(net.finish(y).SerializeToString())
    place = folder(tmp_path / "d", part_0=X[:3], part_1=X[3:], labels=np.arange(6))
    monkeypatch.setattr(
        "sys.argv",
        ["broadaxe", "quantize", str(tmp_path / "m.onnx"), "--calib", str(place), "-o", str(tmp_path / "q.onnx")],
    )
    from broadaxe.cli import main

    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    assert (tmp_path / "q.onnx").is_file()
