"""Compressed models learn from the original: the lines of the how-to page."""

import keras
import numpy as np
import pytest
from keras.distillation import Distiller, FeatureDistillation, LogitsDistillation

import keras_messi
from keras_messi import MessiConfig, compress
from keras_messi.cli.demo import accuracy
from tests.keras_messi import models, transformer_models

pytestmark = pytest.mark.slow


def logits_loss(temperature=3.0):
    # Given as "kl_divergence", its default, Keras 3.15 compares logits without softmax.
    return LogitsDistillation(temperature, loss=keras.losses.KLDivergence())


def distill(teacher, student, losses, x, y=None, *, share_of_y=0.0, epochs):
    distiller = Distiller(teacher, student, losses, student_loss_weight=share_of_y)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.Adam(1e-3), loss=loss)
    return distiller.fit(x, y, epochs=epochs, verbose=0).history


def softmax(logits, temperature):
    exponentials = np.exp(logits / temperature)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_loss_is_the_divergence_of_softened_predictions(temperature):
    rng = np.random.default_rng(0)
    old, new = rng.standard_normal((2, 16, 10)).astype("float32")
    p, q = softmax(old, temperature), softmax(new, temperature)
    expected = temperature**2 * np.mean(np.sum(p * np.log(p / q), axis=1))
    loss = logits_loss(temperature)
    found = loss.compute_loss(*map(keras.ops.convert_to_tensor, (old, new)))
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_lenet_learns_from_images_without_labels(trained_lenet, mnist):
    config = MessiConfig(rate=0.95, num_clusters=2, ranks="uniform")
    small, _ = compress(trained_lenet, config, ["fc1", "fc2"])
    test = mnist.x_test[:2000], mnist.y_test[:2000]
    before = accuracy(small, *test)
    history = distill(
        trained_lenet, small, logits_loss(), mnist.x_train[:6000], epochs=3
    )
    trained_lenet.trainable = True  # for other tests: the distiller froze it
    assert history["loss"][-1] < history["loss"][0] / 2
    assert accuracy(small, *test) > before + 0.15


@pytest.mark.parametrize("make", [models.sequential, models.siamese, models.subclassed])
def test_any_keras_model_is_distilled_and_saved_alone(make, tmp_path):
    keras.utils.set_random_seed(0)
    model = make()
    small, _ = compress(model, MessiConfig(rate=0.6, num_clusters=2, scope="layer"))
    before = models.outputs_of(small)
    x = models.inputs_of(model, 32)
    distill(model, small, logits_loss(), x, epochs=1)
    assert not np.array_equal(models.outputs_of(small), before)
    keras_messi.save_model(small, tmp_path / "small.keras")
    again = keras_messi.load_model(tmp_path / "small.keras")
    assert np.array_equal(models.outputs_of(again), models.outputs_of(small))


def tokens_to_classes():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            keras.layers.Embedding(50, 24, name="words"),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(10, name="head"),
        ]
    )


def test_an_embedding_learns_its_outputs():
    model = tokens_to_classes()
    small, _ = compress(
        model, MessiConfig(rate=0.6, num_clusters=2, scope="layer"), "words"
    )
    rng = np.random.default_rng(0)
    for weight in small.get_layer("words").trainable_weights:
        weight.assign(weight + rng.normal(0, 0.1, weight.shape))
    x, y = rng.integers(0, 50, (64, 6)), rng.integers(0, 10, 64)

    def distance():
        layers = [one.get_layer("words") for one in (model, small)]
        old, new = (keras.ops.convert_to_numpy(layer(x)) for layer in layers)
        return np.mean((old - new) ** 2)

    before = distance()
    losses = [logits_loss(), FeatureDistillation("mse", "words", "words")]
    distill(model, small, losses, x, y, share_of_y=0.2, epochs=20)
    assert distance() < 0.9 * before


def test_the_original_keeps_its_weights_and_is_frozen():
    model = models.sequential()
    before = models.snapshot(model)
    small, _ = compress(model, MessiConfig(rate=0.6, num_clusters=2, scope="layer"))
    distill(model, small, logits_loss(), models.inputs_of(model, 32), epochs=1)
    assert not model.trainable
    assert small.trainable
    model.trainable = True
    models.assert_unchanged(model, before)


def test_predictions_as_targets_need_nothing_but_fit():
    keras.utils.set_random_seed(0)
    model = models.sequential()
    small, _ = compress(
        model, MessiConfig(rate=0.6, num_clusters=2, scope="layer"), "first"
    )
    x = models.inputs_of(model, 64)
    targets = softmax(model.predict(x, verbose=0), 1.0)
    small.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True))
    losses = small.fit(x, targets, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


# Models of transformers

needs_transformers = pytest.mark.skipif(
    bool(transformer_models.MISSING), reason=str(transformer_models.MISSING)
)


def compressed_bert():
    name = "BertForSequenceClassification"
    model = transformer_models.build(name, **transformer_models.LARGER)
    config = MessiConfig(rate=0.5, num_clusters=3, scope="layer")
    return model, compress(model, config, "word_embeddings")[0]


def texts():
    ids = np.random.default_rng(0).integers(3, 300, (32, 8))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


@needs_transformers
@transformer_models.FILTERS
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf_keras")
def test_a_tensorflow_bert_learns_logits_and_embeddings_with_fit():
    import tensorflow as tf
    import tf_keras

    def outputs(model):
        inputs = {
            name: tf_keras.Input((None,), dtype="int32", name=name)
            for name in ("input_ids", "attention_mask")
        }
        out = model(inputs, output_hidden_states=True)
        return tf_keras.Model(inputs, [out.logits, out.hidden_states[0]])

    model, small = compressed_bert()
    x = texts()
    logits, embeddings = outputs(model).predict(x, verbose=0)
    student = outputs(small)
    student.compile(
        tf_keras.optimizers.Adam(1e-3),
        [tf_keras.losses.CategoricalCrossentropy(from_logits=True), "mse"],
    )
    before = np.mean((student.predict(x, verbose=0)[1] - embeddings) ** 2)
    student.fit(x, [tf.nn.softmax(logits), embeddings], epochs=10, verbose=0)
    after = np.mean((outputs(small).predict(x, verbose=0)[1] - embeddings) ** 2)
    assert after < before


@needs_transformers
@pytest.mark.skipif(keras.backend.backend() != "torch", reason="PyTorch")
def test_a_pytorch_bert_learns_logits_and_embeddings():
    import torch
    from torch.nn import functional as F

    model, small = compressed_bert()
    optimizer = torch.optim.AdamW(small.parameters(), 1e-3)
    x = {name: torch.as_tensor(values) for name, values in texts().items()}

    def loss():
        with torch.no_grad():
            old = model(**x, output_hidden_states=True)
        new = small(**x, output_hidden_states=True)
        classes = F.cross_entropy(new.logits, old.logits.softmax(-1))
        return classes + F.mse_loss(new.hidden_states[0], old.hidden_states[0])

    before = loss().item()
    for _ in range(10):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < before
