"""Permutations folded into the layer before."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from numpy.testing import assert_allclose

from keras_messi.layers import MessiDense
from keras_messi.models.keras.folding import fold_permutations
from keras_messi.report import FoldedLayer

from .factored import stored

WIDTH = 12
X = np.random.default_rng(0).standard_normal((4, 5)).astype("float32")


def messi(name, units=WIDTH, **arguments):
    return MessiDense(units, 3, [2, 1, 2], name=name, **arguments)


def built(outputs_of, shape=(5,)):
    """A model of random weights and clusters."""
    inputs = keras.Input(shape)
    model = keras.Model(inputs, outputs_of(inputs))
    rng = np.random.default_rng(1)
    for weight in model.weights:
        values = rng.permutation(weight.shape[0])
        if weight.dtype != "int32":
            values = rng.standard_normal(weight.shape)
        weight.assign(values)
    return model


def chain(*members):
    def outputs_of(x):
        for member in members:
            x = member(x)
        return x

    return outputs_of


def outputs(model, x=X):
    return [ops.convert_to_numpy(y) for y in keras.tree.flatten(model(x))]


def check(model, *expected, x=X):
    """What is folded is what is expected, and changes no outputs."""
    before = outputs(model, x)
    new, folded = fold_permutations(model)
    assert folded == [FoldedLayer(*pair) for pair in expected]
    for y, old in zip(outputs(new, x), before, strict=True):
        assert_allclose(y, old, rtol=1e-6, atol=1e-5)
    for y, old in zip(outputs(model, x), before, strict=True):
        assert np.array_equal(y, old)
    routed = [w for w in new.weights if w.name == "routing"]
    assert len(routed) == len([w for w in model.weights if w.name == "routing"]) - len(
        folded
    )
    assert (new is model) == (not folded)
    return new


@pytest.mark.parametrize("activation", ["relu", "gelu", None])
@pytest.mark.parametrize("use_bias", [True, False])
def test_dense_before(activation, use_bias):
    first = layers.Dense(WIDTH, activation, use_bias, name="first")
    check(built(chain(first, messi("second"))), ("second", "first"))


def test_row_of_messi_dense_layers():
    first = layers.Dense(WIDTH, "relu", name="first")
    second = messi("second", activation="tanh")
    model = built(chain(first, second, messi("third", units=7)))
    check(model, ("second", "first"), ("third", "second"))


@pytest.mark.parametrize("num_clusters", [1, 3])
def test_clusters_of_outputs_before(num_clusters):
    first = MessiDense(WIDTH, num_clusters, 2, side="outputs", name="first")
    model = built(chain(first, layers.ReLU(), messi("second")))
    first.load_own_variables(stored(first))  # as a file has it, in order of outputs
    check(model, ("second", "first"))


def test_clusters_of_outputs_have_nothing_to_fold():
    first = layers.Dense(5, name="first")
    check(built(chain(first, messi("second", side="outputs"))))


def test_dropout_and_activations_between():
    between = [layers.Dropout(0.5), layers.Activation("silu"), layers.LeakyReLU()]
    first = layers.Dense(WIDTH, kernel_regularizer="l2", name="first")
    check(built(chain(first, *between, messi("second"))), ("second", "first"))


def test_any_number_of_axes():
    first = layers.Dense(WIDTH, name="first")
    model = built(chain(first, messi("second")), shape=(None, 5))
    check(model, ("second", "first"), x=np.stack([X, 2 * X]))


def test_models_inside_models():
    inner = keras.Sequential(
        [keras.Input((5,)), layers.Dense(WIDTH, name="first"), messi("second", 5)],
        name="inner",
    )
    model = built(lambda x: inner(inner(x)))
    check(model, ("inner/second", "inner/first"))


def test_saved_model_is_the_same_after_loading(tmp_path):
    first = layers.Dense(WIDTH, name="first")
    new = check(built(chain(first, messi("second"))), ("second", "first"))
    new.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert "assignments" not in stored(loaded.get_layer("second"))
    assert np.array_equal(outputs(loaded)[0], outputs(new)[0])


def test_compiled_model_still_trains():
    first = layers.Dense(WIDTH, "relu", name="first")
    model = built(chain(first, messi("second", units=2)))
    model.compile("adam", "mse")
    new = check(model, ("second", "first"))
    losses = new.fit(X, np.ones((4, 2)), epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def branch(x):
    y = layers.Dense(WIDTH, name="first")(x)
    return messi("second")(y) + y


def two_outputs(x):
    y = layers.Dense(WIDTH, name="first")(x)
    return [messi("second")(y), y]


def shared_producer(x):
    first = layers.Dense(WIDTH, name="first")
    return [messi("second")(first(x)), first(2 * x)]


def shared_consumer(x):
    second = messi("second")
    return [second(layers.Dense(WIDTH)(x)), second(layers.Dense(WIDTH)(2 * x))]


def shared_dropout(x):
    dropout = layers.Dropout(0.1)
    y = dropout(layers.Dense(WIDTH, name="first")(x))
    return [messi("second")(y), dropout(x)]


def producer_inside_another_layer(x):
    first = layers.Dense(WIDTH, name="first")
    again = layers.TimeDistributed(first)(layers.Reshape((1, 5))(x))
    return [messi("second")(first(x)), again]


class OwnRegularizer(keras.regularizers.Regularizer):
    """The first column weighs more than the others."""

    def __call__(self, x):
        return ops.sum(x[..., 0] ** 2)


@pytest.mark.parametrize(
    "outputs_of",
    [
        branch,
        two_outputs,
        shared_producer,
        shared_consumer,
        shared_dropout,
        producer_inside_another_layer,
        chain(messi("second")),
        chain(layers.Dense(6), layers.Reshape((2, 3)), messi("second")),
        chain(layers.Dense(WIDTH), layers.LayerNormalization(), messi("second")),
        chain(layers.Dense(WIDTH), layers.PReLU(), messi("second")),
        chain(layers.Dense(WIDTH, "softmax"), messi("second")),
        chain(layers.Dense(WIDTH), layers.Activation("softmax"), messi("second")),
        chain(layers.Dense(WIDTH, kernel_constraint="max_norm"), messi("second")),
        chain(
            layers.Dense(WIDTH, activity_regularizer=OwnRegularizer()), messi("second")
        ),
        chain(layers.Reshape((5, 1)), layers.Conv1D(WIDTH, 2), messi("second")),
    ],
)
def test_what_can_not_be_folded_is_left_alone(outputs_of):
    check(built(outputs_of))


def test_subclassed_model_is_left_alone():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = layers.Dense(WIDTH), messi("second")

        def call(self, x):
            return self.second(self.first(x))

    model = Own()
    model(X)
    assert fold_permutations(model) == (model, [])
