import keras
import numpy as np
import pytest
from keras import ops

from keras_messi import MessiConfig, compress, save_model
from keras_messi.layers import CodewordNoise, QuantNoise
from keras_messi.methods.subspaces.clustering import fit_codewords
from keras_messi.models.keras.surgery import find_layers
from keras_messi.report import SkipReason
from keras_messi.training.quant_noise import (
    RefitCodewords,
    add_codeword_noise,
    add_quant_noise,
    refit_codewords,
    remove_quant_noise,
)
from tests.keras_messi import models


def is_even(layer):
    """Whether the weight of a layer can be cut into blocks of 4."""
    if isinstance(layer, keras.layers.Dense):
        return layer.kernel.shape[0] % 4 == 0
    return isinstance(layer, keras.layers.Embedding)


def noise_in(model):
    places = find_layers(model)
    return [x.layer for x in places if isinstance(x.layer, QuantNoise | CodewordNoise)]


@pytest.fixture(params=models.ALL)
def model(request):
    keras.utils.set_random_seed(0)
    return request.param()


def test_noise_goes_into_models_of_any_class_and_out_again(model, tmp_path):
    outputs = models.outputs_of(model)
    before = models.snapshot(model)
    noisy = add_quant_noise(model, is_even, rate=0.3, block_size=4, seed=0)
    assert type(noisy).__name__ == type(model).__name__
    assert noise_in(noisy)
    assert np.array_equal(models.outputs_of(noisy), outputs)
    x = models.inputs_of(noisy)
    noisy.compile("sgd", "mse")
    noisy.fit(x, np.ones_like(outputs), verbose=0)
    models.assert_unchanged(model, before)
    trained = models.outputs_of(noisy)
    assert not np.array_equal(trained, outputs)
    plain = remove_quant_noise(noisy)
    assert not noise_in(plain)
    assert np.array_equal(models.outputs_of(plain), trained)
    paths = [[place.path for place in find_layers(x)] for x in (plain, model)]
    assert paths[0] == paths[1]


def test_a_noisy_model_is_saved_and_loaded(model, tmp_path):
    noisy = add_codeword_noise(model, is_even, num_codewords=8, block_size=4, seed=0)
    outputs = models.outputs_of(noisy)
    save_model(noisy, tmp_path / "noisy.keras")
    loaded = keras.saving.load_model(tmp_path / "noisy.keras", safe_mode=False)
    assert np.array_equal(models.outputs_of(loaded), outputs)
    for old, new in zip(noise_in(noisy), noise_in(loaded), strict=True):
        assert isinstance(new, CodewordNoise)
        assert np.array_equal(*map(ops.convert_to_numpy, (old.codes, new.codes)))


def small_model():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(16, "relu", name="a"), keras.layers.Dense(8, name="b")]
    return keras.Sequential([keras.Input((32,)), *layers])


def test_a_model_without_noise_again_needs_keras_alone(tmp_path):
    plain = remove_quant_noise(add_quant_noise(small_model()))
    assert [type(layer) for layer in plain.layers] == [keras.layers.Dense] * 2
    assert [layer.name for layer in plain.layers] == ["a", "b"]
    plain.save(tmp_path / "plain.keras")
    config = keras.saving.load_model(tmp_path / "plain.keras").to_json()
    assert "keras_messi" not in config


def test_the_optimizer_and_what_is_frozen_come_along():
    model = small_model()
    model.layers[0].trainable = False
    model.compile("adam", "mse")
    noisy = add_quant_noise(model)
    assert noisy.compiled
    assert len(noisy.trainable_weights) == 2
    plain = remove_quant_noise(noisy)
    assert plain.compiled
    assert not plain.layers[0].trainable
    assert plain.layers[1].trainable


def test_training_repeats_with_a_seed_and_not_with_another():
    x = np.random.default_rng(0).standard_normal((64, 32)).astype("float32")
    y = x[:, :8]

    def trained(seed):
        noisy = add_quant_noise(small_model(), rate=0.4, seed=seed)
        noisy.compile("sgd", "mse")
        noisy.fit(x, y, epochs=2, shuffle=False, verbose=0)
        return ops.convert_to_numpy(noisy.layers[0].layer.kernel)

    first = trained(3)
    assert np.array_equal(trained(3), first)
    assert not np.array_equal(trained(4), first)


def test_evaluation_and_prediction_are_those_without_noise():
    model = small_model()
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).standard_normal((40, 32)).astype("float32")
    noisy = add_quant_noise(model, rate=0.9)
    assert np.array_equal(noisy.predict(x, verbose=0), model.predict(x, verbose=0))
    y = x[:, :8]
    assert noisy.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0)


def test_codewords_are_the_means_of_their_blocks():
    noisy = add_codeword_noise(small_model(), "a", num_codewords=4)
    layer = noisy.layers[0]
    blocks = ops.convert_to_numpy(layer.read_blocks())
    codes = ops.convert_to_numpy(layer.codes).ravel()
    words = ops.convert_to_numpy(layer.codebook)
    for code in range(4):
        expected = blocks[codes == code].mean(axis=0)
        np.testing.assert_allclose(words[code], expected, rtol=1e-4, atol=1e-6)


def test_codewords_follow_the_weights_once_an_epoch():
    noisy = add_codeword_noise(small_model(), "a", num_codewords=4, rate=0.5)
    layer = noisy.layers[0]
    noisy.compile(keras.optimizers.SGD(1.0), "mse")
    x = np.random.default_rng(0).standard_normal((64, 32)).astype("float32")
    first = ops.convert_to_numpy(layer.codebook).copy()
    noisy.fit(x, x[:, :8], epochs=2, verbose=0)
    assert np.array_equal(ops.convert_to_numpy(layer.codebook), first)
    blocks = ops.convert_to_numpy(layer.read_blocks())
    noisy.fit(x, x[:, :8], verbose=0, callbacks=[RefitCodewords()])
    expected, _ = fit_codewords(blocks, 4, first)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.codebook), expected, rtol=1e-4, atol=1e-6
    )


def test_the_callback_fits_in_every_epoch():
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(ops.convert_to_numpy(self.model.layers[0].codebook).copy())

    noisy = add_codeword_noise(small_model(), "a", num_codewords=4)
    noisy.compile(keras.optimizers.SGD(0.5), "mse")
    x = np.random.default_rng(0).standard_normal((64, 32)).astype("float32")
    noisy.fit(x, x[:, :8], epochs=3, verbose=0, callbacks=[RefitCodewords(), Watch()])
    assert not np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[1], seen[2])


def test_compression_takes_what_has_no_noise_and_says_why_not_the_rest():
    noisy = add_quant_noise(small_model(), "a")
    config = MessiConfig(rank=2, num_clusters=1, scope="layer")
    small, report = compress(noisy, config)
    assert [row.path for row in report.replaced] == ["b"]
    reasons = {row.path: (row.reason, row.detail) for row in report.skipped}
    reason, detail = reasons["a/layer"]
    assert reason == SkipReason.REFUSED
    assert "its noise must be removed first" in detail
    assert noise_in(small)
    with pytest.raises(ValueError, match="its noise must be removed first"):
        compress(noisy, config, "a")
    _, report = compress(remove_quant_noise(noisy), config)
    assert [row.path for row in report.replaced] == ["a", "b"]


def test_what_can_not_have_noise_is_refused():
    model = small_model()
    with pytest.raises(ValueError, match="`filters` must match a layer"):
        add_quant_noise(model, "c")
    with pytest.raises(ValueError, match=r"'a'.*one of \[1, 2, 4, 8, 16, 32\]"):
        add_quant_noise(model, block_size=5)
    with pytest.raises(ValueError, match="`rate`"):
        add_quant_noise(model, rate=1.0)
    with pytest.raises(ValueError, match="its noise must be removed first"):
        add_quant_noise(add_quant_noise(model))
    with pytest.raises(ValueError, match=r"must be a keras\.Model"):
        add_quant_noise("model")
    with pytest.raises(ValueError, match="`filters` must match a layer"):
        remove_quant_noise(model)
    with pytest.raises(ValueError, match="must have CodewordNoise layers"):
        refit_codewords(add_quant_noise(model))


def test_codewords_of_weights_that_are_not_finite_are_refused():
    model = small_model()
    model.layers[1].kernel.assign(np.full((16, 8), np.nan))
    with pytest.raises(ValueError, match="NaN or infinite ones in layer 'b'"):
        add_codeword_noise(model, num_codewords=4)
