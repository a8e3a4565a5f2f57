"""What only TensorFlow models of transformers do."""

import re

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
from transformers import GPT2Config, TFBertModel, TFGPT2LMHeadModel

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


class KeepsVariable(tf_keras.layers.Layer):
    """It holds its weight in a function, too."""

    def build(self, shape):
        self.kernel = kernel = self.add_weight("kernel", (24, 24))
        self.multiply = lambda x: tf.matmul(x, kernel)
        super().build(shape)

    def call(self, inputs):
        return self.multiply(inputs)


class WithInner(tf_keras.layers.Layer):
    """It asks a layer inside for an attribute."""

    attribute = "units"

    def build(self, shape):
        self.inner = tf_keras.layers.Dense(24, name="inner")
        with tf.name_scope("inner"):
            self.inner.build((None, 24))
        super().build(shape)

    def call(self, inputs):
        assert getattr(self.inner, self.attribute) is not None
        return self.inner(inputs)


class WithReadKernel(WithInner):
    attribute = "kernel"


def build_with_last(layer_class):
    """A BERT with one more layer."""

    class WithLast(TFBertModel):
        def __init__(self, config):
            super().__init__(config)
            self.last = layer_class(name="last")

        def build(self, input_shape=None):
            super().build(input_shape)
            with tf.name_scope("last"):
                self.last.build(None)

        def call(self, *args, **kwargs):
            return (self.last(super().call(*args, **kwargs)[0]),)

    model = WithLast(models.build("BertModel").config)
    model.build_in_name_scope()
    return model


def test_the_kernel_of_a_layer_that_is_replaced_can_be_read():
    small, report = compress(build_with_last(WithReadKernel), CONFIG, "last")
    assert [row.path for row in report.replaced] == ["last/inner"]
    layer = small.last.inner
    x = np.eye(24, dtype="float32")
    np.testing.assert_allclose(layer(x), layer.kernel + layer.bias, atol=1e-6)


@pytest.mark.parametrize(
    ("layer_class", "refused", "reason"),
    [
        (KeepsVariable, "last/kernel", "the model then gives no finite numbers"),
        (WithInner, "last/inner", "AttributeError: .* no attribute 'units'"),
    ],
)
def test_layers_that_a_model_can_not_do_without_are_refused(
    layer_class, refused, reason
):
    model = build_with_last(layer_class)
    small, report = compress(model, CONFIG, ["last", "query"])
    (row,) = [row for row in report.skipped if row.detail]
    assert row.path == refused
    assert re.search(reason, row.detail)
    assert len(report.replaced) == 1
    assert np.isfinite(small(models.tokens())[0]).all()


def test_logits_of_a_table_that_is_a_layer_never_form_it(monkeypatch):
    sizes = {"vocab_size": 60, "n_embd": 24, "n_layer": 1, "n_head": 2}
    model = TFGPT2LMHeadModel(GPT2Config(**sizes, n_positions=20))
    model.build_in_name_scope()
    small, _ = compress(model, CONFIG, "wte")
    monkeypatch.setattr(Factors, "matrix", None)
    assert models.outputs_of(small).shape == (2, 7, 60)
