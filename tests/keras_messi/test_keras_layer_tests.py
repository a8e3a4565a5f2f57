"""What Keras asks of its own layers: `run_layer_test`."""

import keras
import pytest
from keras.src.testing import TestCase

from keras_messi import layers

pytestmark = [
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning"),
    pytest.mark.filterwarnings("ignore:The model does not have any:UserWarning"),
]

FACTORS = {"num_clusters": 2, "rank": 3}
DENSE = {
    "MessiDense": FACTORS,
    "MessiDense, int8": {**FACTORS, "quantization": "int8"},
    "MessiDense, int4": {**FACTORS, "quantization": "int4"},
    "MessiPQDense": {**FACTORS, "block_size": 1, "num_codewords": 4},
    "PQDense": {"block_size": 4, "num_codewords": 4},
    "RoundedDense": {"bits": 4},
    "MessiRoundedDense": {**FACTORS, "bits": 4},
}
EMBEDDING = {name.replace("Dense", "Embedding"): x for name, x in DENSE.items()}
UNFOLDED = {
    "CompressedEinsumDense": (
        {
            "dense": lambda: layers.MessiDense(10, **FACTORS),
            "equation": "abc,cde->abde",
            "kernel_shape": [8, 2, 5],
        },
        (3, 4, 8),
        (3, 4, 2, 5),
    ),
    "CompressedRecurrent": (
        {
            "kernel": lambda: layers.MessiDense(20, **FACTORS),
            "recurrent_kernel": lambda: layers.MessiDense(
                20, **FACTORS, use_bias=False
            ),
            "layer": lambda: keras.layers.LSTM(5),
        },
        (3, 4, 8),
        (3, 5),
    ),
    "CompressedConv": (
        {
            "dense": lambda: layers.MessiDense(18, **FACTORS, use_bias=False),
            "layer": lambda: keras.layers.Conv2D(6, 3, use_bias=False),
            "row_axes": [0],
        },
        (3, 7, 7, 4),
        (3, 5, 5, 6),
    ),
    "CompressedGroupedConv": (
        {
            "convolutions": lambda: [
                layers.CompressedConv(
                    layers.MessiDense(3, **FACTORS), keras.layers.Conv2D(3, 3), [0, 1]
                )
                for _ in range(2)
            ],
            "layer": lambda: keras.layers.Conv2D(6, 3, groups=2),
        },
        (3, 7, 7, 4),
        (3, 5, 5, 6),
    ),
    "CompressedSeparableConv": (
        {
            "dense": lambda: layers.MessiDense(6, **FACTORS),
            "layer": lambda: keras.layers.SeparableConv2D(6, 3),
        },
        (3, 7, 7, 4),
        (3, 5, 5, 6),
    ),
}


def run(layer_class, arguments, input_shape, output_shape, **options):
    TestCase().run_layer_test(
        layer_class,
        init_kwargs=arguments,
        input_shape=input_shape,
        expected_output_shape=output_shape,
        **options,
    )


@pytest.mark.parametrize("name", DENSE)
def test_dense_layers(name):
    layer_class = getattr(layers, name.partition(",")[0])
    run(
        layer_class,
        {"units": 8, **DENSE[name]},
        (5, 12),
        (5, 8),
        supports_masking=True,
    )


@pytest.mark.parametrize("name", EMBEDDING)
def test_embedding_layers(name):
    layer_class = getattr(layers, name.partition(",")[0])
    sizes = {"input_dim": 12, "output_dim": 8}
    run(
        layer_class,
        {**sizes, **EMBEDDING[name]},
        (5, 4),
        (5, 4, 8),
        input_dtype="int32",
    )


@pytest.mark.parametrize("name", UNFOLDED)
def test_layers_with_dense_layers_inside(name):
    arguments, input_shape, output_shape = UNFOLDED[name]
    made = {key: x() if callable(x) else x for key, x in arguments.items()}
    run(getattr(layers, name), made, input_shape, output_shape)
