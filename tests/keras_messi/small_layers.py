"""A layer of each kind that stores a smaller form, with random numbers in it."""

import keras
import numpy as np

from keras_messi import layers
from keras_messi.methods.rounding import quantized_whole
from tests.keras_messi.factored import drawn, fill_integers

N, D = 24, 16
RANKS = {"num_clusters": 3, "rank": [4, 8, 4], "cluster_sizes": [5, 12, 7]}
CODED = {"block_size": 4, "num_codewords": 10}

# Arguments of our classes by the name of their kind, "Dense" or "Embedding" left out.
ARGUMENTS = {
    "float factors": ("Messi", RANKS),
    "one cluster": ("Messi", {"num_clusters": 1, "rank": 5}),
    "int8 factors": ("Messi", {**RANKS, "quantization": "int8"}),
    "int4 factors": ("Messi", {**RANKS, "quantization": "int4"}),
    "normal coordinates": ("MessiRounded", {**RANKS, "bits": 3}),
    "even coordinates": ("MessiRounded", {**RANKS, "bits": 4, "levels": "uniform"}),
    "coded coordinates": ("MessiPQ", {**RANKS, **CODED}),
    "coded, int8 bases": ("MessiPQ", {**RANKS, **CODED, "quantization": "int8"}),
    "codes": ("PQ", CODED),
    "codes of two books": ("PQ", {**CODED, "num_codewords": 300, "num_codebooks": 2}),
    "4 bits": ("Rounded", {"bits": 4}),
    "4 bits in blocks": ("Rounded", {"bits": 4, "block_size": 8}),
    "3 bits in blocks": ("Rounded", {"bits": 3, "block_size": 8}),
    "8 bits": ("Rounded", {"bits": 8}),
    "2 normal bits": ("Rounded", {"bits": 2, "levels": "normal"}),
    "turned": ("Rounded", {"bits": 4, "rotation": 1}),
    "entropy coded": ("EntropyCoded", {}),
    "wide, entropy coded": ("EntropyCoded", {"integer_dtype": "int16"}),
    "entropy coded factors": ("MessiEntropyCoded", RANKS),
    "with LoRA": ("Messi", {**RANKS, "lora_rank": 2}),
}
KINDS = [*ARGUMENTS, "Keras int8", "Keras int4", "Keras int4 in blocks"]


def small_layer(kind, is_dense, **options):
    """A built layer of a kind, for an (N, D) matrix."""
    keras.utils.set_random_seed(0)
    if kind.startswith("Keras"):
        return _quantized_by_keras(kind, is_dense, options)
    prefix, arguments = ARGUMENTS[kind]
    name, shape = ("Dense", (D,)) if is_dense else ("Embedding", (N, D))
    layer = getattr(layers, prefix + name)(*shape, **{**arguments, **options})
    layer.build((None, N))
    _draw(layer)
    return layer


def _quantized_by_keras(kind, is_dense, options):
    if is_dense:
        layer = keras.layers.Dense(D, bias_initializer="normal", **options)
    else:
        layer = keras.layers.ReversibleEmbedding(N, D, **options)
    layer.build((None, N))
    if kind == "Keras int4 in blocks":
        config = keras.quantizers.Int4QuantizationConfig(
            activation_quantizer=None, block_size=8
        )
        layer.quantize("int4", config=config)
        return layer
    if kind == "Keras int4":
        config = keras.quantizers.Int4QuantizationConfig(
            activation_quantizer=None, block_size=-1
        )
        layer.quantize("int4", config=config)
        return layer
    return quantized_whole(layer, "int8")


def _draw(layer):
    """Fill a layer with random numbers of the size that trained ones have."""
    store = {}
    layer.save_own_variables(store)
    numbers = drawn(store)
    for name, value in numbers.items():
        if "scales" in name:
            numbers[name] = (0.5 + np.abs(value)).astype(value.dtype)
    layer.load_own_variables(numbers)
    if "integer_dtype" in layer.get_config():
        fill_integers(layer.storage)


def matrix_of(layer):
    """The matrix that a layer computes with."""
    if not hasattr(layer, "units"):
        return keras.ops.convert_to_numpy(layer(np.arange(N)))
    x = np.eye(N, dtype="float32")
    activation, layer.activation = layer.activation, None
    outputs = keras.ops.convert_to_numpy(layer(x))
    layer.activation = activation
    return outputs if layer.bias is None else outputs - np.asarray(layer.bias)
