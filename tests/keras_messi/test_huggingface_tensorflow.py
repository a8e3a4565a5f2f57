"""What only TensorFlow models of transformers do."""

import numpy as np
import pytest

from keras_messi import compress
from keras_messi.layers import static_lookup
from keras_messi.layers.storage.factors import Factors
from keras_messi.models.huggingface import from_pretrained
from keras_messi.models.huggingface import models as hf
from tests.keras_messi import transformer_models as models

if models.MISSING or models.BACKEND != "tensorflow":
    pytest.skip(models.MISSING or "TensorFlow only", allow_module_level=True)

import tensorflow as tf
import tf_keras

from keras_messi.models.huggingface.tensorflow import layers_of

pytestmark = models.FILTERS
CONFIG = models.CONFIG
small = models.small


@pytest.mark.parametrize("jit_compile", [False, True])
def test_compiled_functions_compute_the_same(small, jit_compile):
    compiled = tf.function(lambda x: small(**x)[0], jit_compile=jit_compile)
    with static_lookup() if jit_compile else tf.init_scope():
        outputs = compiled(models.tokens()).numpy()
    np.testing.assert_allclose(outputs, models.outputs_of(small), atol=1e-5)


@pytest.mark.parametrize("name", [x for x in models.CLASSES if "Masked" in x])
def test_all_layers_are_found_once(name):
    model = models.build(name)
    for network in (model, compress(model, CONFIG)[0]):
        network.compile("adam", "mse")
        modules = [network, *network.submodules]
        layers = {id(x) for x in modules if isinstance(x, tf_keras.layers.Layer)}
        assert sorted(map(id, layers_of(network))) == sorted(layers)


def test_tied_logits_never_form_the_table(small, monkeypatch):
    monkeypatch.setattr(Factors, "matrix", None)
    assert models.outputs_of(small).shape == (2, 7, 60)


@pytest.mark.slow
def test_fit_trains_the_factors():
    small, _ = compress(models.build("BertForSequenceClassification"), CONFIG)
    small.compile(tf_keras.optimizers.Adam(1e-3))
    before = [weight.numpy() for weight in small.trainable_weights]
    labels = tf.constant([0, 2])
    small.fit({**models.tokens(), "labels": labels}, epochs=1, verbose=0)
    for weight, value in zip(small.trainable_weights, before, strict=True):
        assert not np.array_equal(weight, value), weight.name


def test_mixed_precision_is_that_of_the_model_around(tmp_path):
    with_halves = tf_keras.mixed_precision.Policy("mixed_float16")
    tf_keras.mixed_precision.set_global_policy(with_halves)
    try:
        small, _ = compress(models.build("BertModel"), CONFIG)
        assert models.outputs_of(small).dtype == np.float16
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    small.save_pretrained(tmp_path)
    assert models.outputs_of(from_pretrained(tmp_path)).dtype == np.float32


def test_weights_have_names_of_their_own(small, tmp_path):
    names = [weight.name for weight in small.weights]
    assert len(set(names)) == len(names)
    path = tmp_path / "weights.h5"
    small.save_weights(path)
    again = hf.replace_layers(small, {})
    for weight in again.trainable_weights:
        weight.assign(tf.zeros_like(weight))
    again.load_weights(path)
    assert np.array_equal(models.outputs_of(again), models.outputs_of(small))


@pytest.mark.slow
def test_a_saved_model_computes_the_same(small, tmp_path):
    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int64)])
    def logits(ids):
        return small(ids)[0]

    ids = models.tokens()["input_ids"]
    tf.saved_model.save(small, tmp_path, {"serving_default": logits})
    serve = tf.saved_model.load(tmp_path).signatures["serving_default"]
    np.testing.assert_allclose(serve(ids=ids)["output_0"], small(ids)[0], atol=1e-5)


def test_a_model_that_is_not_built_is_refused():
    config = models.build("BertModel").config
    with pytest.raises(ValueError, match="Weights .* have not yet been created"):
        compress(models.class_named("BertModel")(config), CONFIG)


def test_a_model_that_its_config_does_not_build_is_refused():
    class Scaled(tf_keras.layers.Dense):
        def call(self, inputs):
            return 2 * super().call(inputs)

    model = models.build("BertForSequenceClassification")
    model.classifier = Scaled(3, name="classifier")
    with tf.name_scope(f"{model.name}/classifier"):
        model.classifier.build((None, 24))
    with pytest.raises(ValueError, match="a Scaled at classifier .* of a Dense"):
        compress(model, CONFIG)
