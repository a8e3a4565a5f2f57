"""What LeNet-300-100 makes of a codebook for its first layer."""

from functools import cache

import keras
import numpy as np
from codebooks_rows import Scores
from real_data import mnist, trained_lenet

from keras_messi.cli.demo import accuracy, distill
from keras_messi.layers import PQDense
from keras_messi.layers.numbers.codes import pack_codes
from keras_messi.models.keras.surgery import replace_layers

network = cache(trained_lenet)
digits = cache(mnist)


def measure(codebook: np.ndarray, labels: np.ndarray, seed: int) -> Scores:
    """Code the first layer, and let all layers learn from the uncompressed network.

    Args:
        codebook: Array of shape (num_codewords, 8).
        labels: Codeword of each block, unit after unit.
        seed: Seed of the epoch.
    """
    model, data = network(), digits()
    test = data.x_test, data.y_test
    small = replace_layers(model, {model.layers[0]: coded(codebook, labels)})
    at_once = accuracy(small, *test)
    keras.utils.set_random_seed(seed)
    distill(small, model, data, epochs=1)
    return Scores(accuracy(model, *test), at_once, accuracy(small, *test))


def coded(codebook: np.ndarray, labels: np.ndarray) -> PQDense:
    """The first layer in codes."""
    old = network().layers[0]
    num_codewords, block_size = codebook.shape
    new = PQDense(
        old.units, block_size, num_codewords, activation="relu", name=old.name
    )
    new.build((None, old.kernel.shape[0]))
    codes = labels.reshape(old.units, -1)
    new.load_own_variables(
        {
            "codebooks": codebook[np.newaxis],
            "codes": pack_codes(codes, num_codewords),
            "bias": keras.ops.convert_to_numpy(old.bias),
        }
    )
    return new
