"""What the demo does to networks beside printing tables."""

from dataclasses import replace

import keras
import numpy as np

from keras_messi import MessiConfig, compress, load_model, save_model
from keras_messi.cli.demo import HIDDEN_LAYERS, Digits, accuracy, distill, lenet_300_100


def test_distill_learns_from_the_network_and_not_from_labels(tmp_path):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 784)).astype("float32")
    model = lenet_300_100()
    answers = np.argmax(model.predict(x, verbose=0), axis=1)
    data = Digits(x[:1500], answers[:1500], x[1500:], answers[1500:], batch_size=32)
    small, _ = compress(model, MessiConfig(rate=0.8, scope="layer"), HIDDEN_LAYERS)
    before = accuracy(small, data.x_test, data.y_test)
    weights = model.get_weights()
    distill(small, model, replace(data, y_train=None), epochs=3)
    assert accuracy(small, data.x_test, data.y_test) > before + 0.1
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)
    assert model.trainable
    save_model(small, tmp_path / "small.keras")
    loaded = load_model(tmp_path / "small.keras")
    np.testing.assert_array_equal(
        loaded.predict(x[:9], verbose=0), small.predict(x[:9], verbose=0)
    )
