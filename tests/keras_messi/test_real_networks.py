"""The trained LeNet on MNIST and the word table of MiniLM."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_messi import MessiConfig, compress, save_model
from keras_messi.cli.demo import accuracy, run_trial
from keras_messi.layers import MessiDense, MessiEmbedding
from keras_messi.models.keras.surgery import replace_layers
from keras_messi.report import FoldedLayer
from tests.keras_messi.test_saving import run_python

pytestmark = pytest.mark.slow


def test_lenet_has_the_parameters_and_the_accuracy_that_are_known(trained_lenet, mnist):
    assert trained_lenet.count_params() == 266_610
    found = accuracy(trained_lenet, mnist.x_test, mnist.y_test)
    assert found == pytest.approx(0.9816, abs=2e-4)


def test_the_dense_part_of_vgg19_has_the_parameters_that_the_paper_says():
    layers = [keras.layers.Dense(units) for units in (512, 512, 10)]
    assert keras.Sequential([keras.Input((512,)), *layers]).count_params() == 530_442


def test_lenet_keeps_its_accuracy_better_with_several_subspaces(trained_lenet, mnist):
    options = {"epochs": 1, "seed": 0}
    svd, _, _ = run_trial(trained_lenet, mnist, 0.95, 1, **options)
    several, small, report = run_trial(trained_lenet, mnist, 0.95, 5, **options)
    assert several.accuracy_after > svd.accuracy_after + 0.01
    assert several.accuracy_after > 0.94
    assert [row.path for row in report.replaced] == ["fc1", "fc2"]
    assert small.count_params() < 0.06 * trained_lenet.count_params()


def test_word_table_error_against_svd_with_as_many_numbers(word_table):
    from word_table import measured_error

    error, numbers = measured_error(word_table, MessiConfig(rank=128, num_clusters=5))
    svd_error, svd_numbers = measured_error(
        word_table, MessiConfig(rank=134, num_clusters=1)
    )
    assert numbers == 128 * (30522 + 5 * 384)
    assert svd_numbers == pytest.approx(numbers, rel=0.005)
    assert svd_error == pytest.approx(0.324, abs=1e-3)
    assert error <= 0.290


def test_looking_words_up_gives_rows_of_the_table(word_table):
    from word_table import embedding_model

    small, _ = compress(
        embedding_model(word_table), MessiConfig(0.5, num_clusters=1, scope="layer")
    )
    layer = small.get_layer("words")
    assert isinstance(layer, MessiEmbedding)
    words = np.random.default_rng(0).integers(0, len(word_table), (8, 32))
    table = ops.convert_to_numpy(layer.embeddings)
    np.testing.assert_allclose(
        ops.convert_to_numpy(small(words)), table[words], atol=1e-6
    )


@pytest.fixture(scope="module")
def vgg19():
    """VGG-19 with random weights, its dense part as wide as it is, on small images."""
    keras.utils.set_random_seed(0)
    return keras.applications.VGG19(weights=None, input_shape=(64, 64, 3))


@pytest.fixture(scope="module")
def small_vgg19(vgg19):
    """The same with two of its layers factored, and the report."""
    config = MessiConfig(rank=64, num_clusters=2)
    return compress(vgg19, config, filters=["fc1", "predictions"])


def test_vgg19_loses_the_parameters_that_the_formula_says(small_vgg19):
    small, report = small_vgg19
    shapes = [(2048, 4096), (4096, 1000)]
    assert [row.shape for row in report.replaced] == shapes
    removed = sum(n * d - 64 * (n + 2 * d) for n, d in shapes)
    assert report.parameters_before - report.parameters_after == removed
    # The ids of fc1 remain; fc2 hands its outputs on in the order of the predictions.
    assert small.count_params() == report.parameters_after + 2048
    assert report.folded == [FoldedLayer("predictions", "fc2")]


def test_vgg19_reloads_in_a_fresh_process_bit_for_bit(small_vgg19, tmp_path):
    small, report = small_vgg19
    save_model(small, tmp_path / "vgg19.keras")
    assert (tmp_path / "vgg19.keras").stat().st_size == report.file_bytes_after
    images = np.random.default_rng(0).standard_normal((2, 64, 64, 3)).astype("float32")
    np.save(tmp_path / "x.npy", images)
    np.save(tmp_path / "y.npy", small.predict(images, verbose=0))
    script = """
        import sys, numpy as np, keras_messi
        model = keras_messi.load_model(sys.argv[1] + "/vgg19.keras")
        y = model.predict(np.load(sys.argv[1] + "/x.npy"), verbose=0)
        assert np.array_equal(y, np.load(sys.argv[1] + "/y.npy"))
    """
    done = run_python(script, tmp_path)
    assert done.returncode == 0, done.stderr


def test_vgg19_with_an_exact_factorization_computes_the_same(vgg19):
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((2, 4096, 16)).astype("float32") / 16
    vgg19.get_layer("fc2").kernel.assign(left @ right.T)
    new = MessiDense(4096, num_clusters=1, rank=16, activation="relu", name="fc2")
    new.build((None, 4096))
    new.coordinates[0].assign(left)
    new.bases.assign(right.T)
    small = replace_layers(vgg19, {vgg19.get_layer("fc2"): new})
    images = rng.standard_normal((2, 64, 64, 3)).astype("float32")
    found = ops.convert_to_numpy(small(images))
    np.testing.assert_allclose(found, ops.convert_to_numpy(vgg19(images)), atol=1e-6)
