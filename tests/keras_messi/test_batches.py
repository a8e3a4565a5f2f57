"""Batches of inputs from everything that holds data."""

import keras
import numpy as np
import pytest

from keras_messi.calibration.batches import input_batches

X = np.arange(300, dtype="float32").reshape(100, 3)
Y = np.arange(100)
BACKEND = keras.backend.backend()


def joined(data, **options):
    """All batches on top of each other, if each is one array."""
    batches = list(input_batches(data, **options))
    assert all(type(batch) is np.ndarray for batch in batches)
    return np.concatenate(batches)


class Pairs(keras.utils.PyDataset):
    """Inputs and targets in 10 batches."""

    def __init__(self):
        super().__init__()

    def __len__(self):
        return 10

    def __getitem__(self, i):
        return X[10 * i : 10 * i + 10], Y[10 * i : 10 * i + 10]


class Endless(Pairs):
    num_batches = None


def pairs():
    for i in range(len(Pairs())):
        yield Pairs()[i]


@pytest.mark.parametrize(
    "data",
    [
        X,
        keras.ops.convert_to_tensor(X),
        Pairs(),
        pairs(),
        list(pairs()),
        np.split(X, 4).__iter__(),
    ],
    ids=["array", "tensor", "PyDataset", "generator", "list of pairs", "iterator"],
)
def test_all_that_holds_data_gives_all_inputs_in_order(data):
    assert np.array_equal(joined(data), X)


def test_datasets_of_tensorflow_give_the_inputs():
    tf = pytest.importorskip("tensorflow")
    rows = tf.data.Dataset.from_tensor_slices((X, Y))
    assert np.array_equal(joined(rows.batch(7)), X)
    assert np.array_equal(joined(rows.map(lambda x, y: x).batch(7)), X)
    named = rows.map(lambda x, y: ({"x": x}, y)).batch(50)
    assert [list(batch) for batch in input_batches(named)] == [["x"], ["x"]]


@pytest.mark.parametrize("with_targets", [True, False])
def test_loaders_of_torch_give_the_inputs(with_targets):
    data = pytest.importorskip("torch.utils.data")
    torch = pytest.importorskip("torch")
    arrays = (X, Y) if with_targets else (X,)
    dataset = data.TensorDataset(*map(torch.as_tensor, arrays))
    assert np.array_equal(joined(data.DataLoader(dataset, batch_size=7)), X)


def test_arrays_are_cut_into_batches_in_their_structure():
    sizes = [len(batch) for batch in input_batches(X, batch_size=30)]
    assert sizes == [30, 30, 30, 10]
    for structure in ([X, Y], (X, Y), {"x": X, "y": Y}, {"x": X.tolist(), "y": Y}):
        batches = list(input_batches(structure, batch_size=64))
        assert [type(batch) for batch in batches] == [type(structure)] * 2
        assert keras.tree.flatten(batches[1])[0].shape == (36, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("train.tsv", "must be an array, .* Received: <class 'str'>"),
        (3, "must be an array, .* Received: <class 'int'>"),
        (X[:0], "must hold rows. Received: a batch of 0 rows"),
        ([X[:5], X[:0]], r"as many rows each. Received: .*\[\(5, 3\), \(0, 3\)\]"),
        ({"x": X, "y": Y[1:]}, "as many rows each"),
        (np.float32(3), r"as many rows each. Received: arrays of shapes \[\(\)\]"),
        ([], "at least one batch. Received: list that is empty"),
        ({}, "as many rows each"),
        ({"input_ids": [[1, 2, 3], [4, 5]]}, "all rows of each as long: pad them"),
        (iter([]), "an iterator that is used up"),
        ([(X[:0], Y[:0])], "a batch of 0 rows"),
        (Endless(), "must come to an end. Received: an infinite Endless"),
        ([(X, Y), (np.where(X == 4, np.nan, X), Y)], "must be finite. .* 1 NaN"),
        ({"x": X, "y": np.where(X == 4, np.inf, X)}, "must be finite"),
    ],
)
def test_what_gives_no_inputs_is_refused(data, message):
    with pytest.raises(ValueError, match="`images` .*" + message):
        list(input_batches(data, "images"))


def test_an_endless_dataset_is_refused():
    tf = pytest.importorskip("tensorflow")
    with pytest.raises(ValueError, match="`calibration_data` must come to an end"):
        list(input_batches(tf.data.Dataset.from_tensor_slices(X).batch(7).repeat()))


def test_a_generator_gives_its_batches_once():
    data = pairs()
    assert len(joined(data)) == 100
    with pytest.raises(ValueError, match="used up"):
        joined(data)
