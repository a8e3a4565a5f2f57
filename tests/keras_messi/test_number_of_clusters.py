"""What `num_clusters="auto"` chooses: few clusters, unless more are worth it."""

import keras
import numpy as np
import pytest

from keras_messi import MessiConfig, compress
from keras_messi.methods.subspaces import messi

# As much of a table is removed.
pytestmark = pytest.mark.filterwarnings("ignore:The outputs of the new model differ")

N, D = 1200, 16


def chosen(rows, **arguments):
    """The number of clusters that is chosen for a table of rows."""
    table = keras.layers.Embedding(*rows.shape, name="words")
    model = keras.Sequential([keras.Input((1,), dtype="int32"), table])
    table.set_weights([rows])
    config = MessiConfig(num_clusters="auto", **arguments)
    small, _ = compress(model, config, "words")
    return getattr(small.get_layer("words"), "num_clusters", None)


@pytest.fixture(scope="module")
def planted():
    """Rows on three subspaces of two dimensions, with noise."""
    rng = np.random.default_rng(0)
    bases = rng.standard_normal((3, 2, D))
    rows = np.concatenate([rng.standard_normal((N // 3, 2)) @ x for x in bases])
    return (rows + 0.1 * rng.standard_normal(rows.shape)).astype("float32")


def test_the_planted_clusters_are_chosen(planted):
    assert chosen(planted, rate=0.85) == 3


def test_no_more_than_allowed_are_chosen(planted):
    assert chosen(planted, rate=0.85, max_clusters=2) == 2
    assert chosen(planted, rate=0.85, max_clusters=1) == 1


def test_clusters_that_take_little_of_the_error_are_not_worth_it(monkeypatch):
    rows = np.random.default_rng(0).standard_normal((N, D)).astype("float32")
    few = chosen(rows, rank=4)
    monkeypatch.setattr(messi, "CLUSTER_PRICE", 0)
    assert few < chosen(rows, rank=4)
