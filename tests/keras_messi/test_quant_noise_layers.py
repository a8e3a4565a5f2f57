import keras
import numpy as np
import pytest
from keras import ops

from keras_messi.layers import CodewordNoise, QuantNoise

CASES = {
    "dense": (lambda **kw: keras.layers.Dense(6, "tanh", **kw), (None, 12)),
    "embedding": (lambda **kw: keras.layers.Embedding(10, 12, **kw), None),
    "reversible": (lambda **kw: keras.layers.ReversibleEmbedding(10, 12, **kw), None),
}
NOISE = {
    "zeros": lambda layer, **kw: QuantNoise(layer, block_size=4, **kw),
    "codewords": lambda layer, **kw: CodewordNoise(layer, 5, block_size=4, **kw),
}


@pytest.fixture(params=CASES)
def kind(request):
    return request.param


@pytest.fixture(params=NOISE)
def noise(request):
    return NOISE[request.param]


def make(kind, noise=NOISE["zeros"], rate=0.4, seed=0, **options):
    inner, shape = CASES[kind]
    layer = noise(inner(**options), rate=rate, seed=seed)
    layer.build(shape)
    if isinstance(layer, CodewordNoise):
        rng = np.random.default_rng(0)
        layer.codebook.assign(rng.standard_normal(layer.codebook.shape))
        layer.codes.assign(rng.integers(0, 5, layer.codes.shape))
    return layer


def inputs_for(kind):
    rng = np.random.default_rng(1)
    if kind == "dense":
        return rng.standard_normal((7, 12)).astype("float32")
    return rng.integers(0, 10, (7, 3)).astype("int32")


def weight_of(layer):
    inner = layer.layer
    return inner.kernel if isinstance(inner, keras.layers.Dense) else inner.embeddings


def blocks_of(weight, kind):
    """Blocks of an array, cut in loops, in the order of the codes."""
    if kind == "dense":
        n, units = weight.shape
        cuts = [(i, u) for i in range(0, n, 4) for u in range(units)]
        return np.array([weight[i : i + 4, u] for i, u in cuts])
    n, d = weight.shape
    return np.array([weight[r, i : i + 4] for r in range(n) for i in range(0, d, 4)])


def test_blocks_are_left_out_as_a_whole_or_not_at_all(kind):
    layer = make(kind)
    before = blocks_of(ops.convert_to_numpy(weight_of(layer)), kind)
    after = blocks_of(ops.convert_to_numpy(layer.noisy_weight()), kind)
    dropped = (after == 0).all(axis=1)
    assert 0 < dropped.sum() < len(after)
    assert np.array_equal(after[~dropped], before[~dropped])


def test_blocks_get_their_own_codeword(kind):
    layer = make(kind, NOISE["codewords"])
    before = blocks_of(ops.convert_to_numpy(weight_of(layer)), kind)
    after = blocks_of(ops.convert_to_numpy(layer.noisy_weight()), kind)
    codes = ops.convert_to_numpy(layer.codes).ravel()
    words = ops.convert_to_numpy(layer.codebook)[codes]
    replaced = (after != before).any(axis=1)
    assert 0 < replaced.sum() < len(after)
    assert np.array_equal(after[replaced], words[replaced])
    assert np.array_equal(ops.convert_to_numpy(layer.read_blocks()), before)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5])
def test_the_share_of_blocks_is_the_rate(rate):
    layer = QuantNoise(keras.layers.Dense(200), rate=rate, block_size=2, seed=0)
    layer.build((None, 200))
    noisy = ops.convert_to_numpy(layer.noisy_weight())
    spread = 4 * np.sqrt(rate * (1 - rate) / 20000)  # four standard deviations
    assert abs(np.mean(noisy == 0) - rate) <= spread


def test_the_layer_computes_with_the_noisy_weight(kind, noise):
    layer, twin = make(kind, noise), make(kind, noise)
    for variable, value in zip(twin.variables, layer.variables, strict=True):
        variable.assign(ops.convert_to_numpy(value))
    x = inputs_for(kind)
    noisy = layer.noisy_weight()
    outputs = twin(x, training=True)
    weight_of(layer).assign(noisy)
    expected = layer.layer(x)
    np.testing.assert_allclose(
        *map(ops.convert_to_numpy, (outputs, expected)), rtol=1e-5, atol=1e-6
    )


def test_the_stored_weights_stay_bit_for_bit(kind, noise):
    layer = make(kind, noise)
    before = [ops.convert_to_numpy(w).copy() for w in layer.weights]
    for _ in range(3):
        layer(inputs_for(kind), training=True)
    for now, then in zip(layer.weights, before, strict=True):
        assert np.array_equal(ops.convert_to_numpy(now), then)


def test_inference_is_that_of_the_layer_inside_bit_for_bit(kind, noise):
    layer, x = make(kind, noise), inputs_for(kind)
    expected = ops.convert_to_numpy(layer.layer(x))
    assert np.array_equal(ops.convert_to_numpy(layer(x)), expected)
    assert np.array_equal(ops.convert_to_numpy(layer(x, training=False)), expected)
    assert not np.array_equal(ops.convert_to_numpy(layer(x, training=True)), expected)


def test_logits_of_a_reversible_embedding_are_noisy_too():
    layer = make("reversible")
    hidden = np.random.default_rng(0).standard_normal((2, 12)).astype("float32")
    plain = ops.convert_to_numpy(layer(hidden, reverse=True))
    assert np.array_equal(
        plain, ops.convert_to_numpy(layer.layer(hidden, reverse=True))
    )
    noisy = ops.convert_to_numpy(layer(hidden, reverse=True, training=True))
    assert noisy.shape == (2, 10)
    assert not np.array_equal(noisy, plain)


def test_one_step_moves_the_weight_by_the_gradient_of_the_noisy_product(noise):
    layer = make("dense", noise)
    layer.layer.activation = keras.activations.linear
    twin = make("dense", noise)
    for variable, value in zip(twin.variables, layer.variables, strict=True):
        variable.assign(ops.convert_to_numpy(value))
    noisy = ops.convert_to_numpy(twin.noisy_weight())
    before = ops.convert_to_numpy(layer.layer.kernel).copy()
    model = keras.Sequential([keras.Input((12,)), layer])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    x = inputs_for("dense")
    y = np.ones((7, 6), "float32")
    model.train_on_batch(x, y)
    gradient = 2 * x.T @ (x @ noisy - y) / y.size
    after = ops.convert_to_numpy(layer.layer.kernel)
    np.testing.assert_allclose(before - after, gradient, rtol=1e-4, atol=1e-6)


def test_the_gradient_reaches_blocks_that_were_left_out():
    layer = make("embedding", rate=0.9)
    before = ops.convert_to_numpy(layer.layer.embeddings).copy()
    model = keras.Sequential([keras.Input((3,), dtype="int32"), layer])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.train_on_batch(np.array([[0, 1, 2]]), np.ones((1, 3, 12)))
    moved = ops.convert_to_numpy(layer.layer.embeddings) != before
    assert moved[:3].all()
    assert not moved[3:].any()


def test_losses_of_the_layer_inside_are_counted_once(noise):
    options = {"activity_regularizer": "l2", "kernel_regularizer": "l2"}
    layer = make("dense", noise, rate=0.0, **options)
    plain = keras.layers.Dense(6, "tanh", **options)
    plain.build((None, 12))
    for target, source in zip(plain.weights, layer.layer.weights, strict=True):
        target.assign(ops.convert_to_numpy(source))
    x, y = inputs_for("dense"), np.ones((7, 6), "float32")
    losses = []
    for inner in (layer, plain):
        model = keras.Sequential([keras.Input((12,)), inner])
        model.compile("sgd", "mse")
        losses.append(model.fit(x, y, epochs=2, verbose=0).history["loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_only_the_weight_of_the_layer_inside_is_noisy():
    layer = make("dense", rate=0.9)
    layer.layer.bias.assign(np.arange(6))
    layer.layer.activation = keras.activations.linear
    zeros = np.zeros((1, 12), "float32")
    outputs = ops.convert_to_numpy(layer(zeros, training=True))
    assert np.array_equal(outputs, [np.arange(6)])


def test_the_seed_decides_and_each_call_draws_anew(kind):
    first, second, other = make(kind), make(kind), make(kind, seed=1)
    for layer in (second, other):
        weight_of(layer).assign(ops.convert_to_numpy(weight_of(first)))
    a, b, c = (ops.convert_to_numpy(x.noisy_weight()) for x in (first, second, other))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert not np.array_equal(a, ops.convert_to_numpy(first.noisy_weight()))


def test_masks_pass_through():
    words = make("embedding", mask_zero=True)
    head = QuantNoise(keras.layers.Dense(5), block_size=4)
    tokens = ops.convert_to_tensor([[1, 2, 0]])
    means = []
    for ids in (tokens, tokens[:, :2]):
        x = head(words(ids))
        means.append(keras.layers.GlobalAveragePooling1D()(x))
    np.testing.assert_allclose(*map(ops.convert_to_numpy, means), rtol=1e-5)


def test_it_trains_in_mixed_precision(kind, noise):
    layer = make(kind, noise, dtype="mixed_bfloat16")
    outputs = layer(inputs_for(kind), training=True)
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    model = keras.Sequential([layer])
    model.compile("sgd", "mse")
    before = ops.convert_to_numpy(weight_of(layer)).copy()
    model.train_on_batch(inputs_for(kind), np.ones(outputs.shape))
    assert not np.array_equal(ops.convert_to_numpy(weight_of(layer)), before)


def test_saved_layers_compute_the_same(kind, noise, tmp_path):
    layer, x = make(kind, noise), inputs_for(kind)
    shape = (12,) if kind == "dense" else (3,)
    model = keras.Sequential([keras.Input(shape, dtype=x.dtype.name), layer])
    model.save(tmp_path / "noisy.keras")
    loaded = keras.saving.load_model(tmp_path / "noisy.keras")
    assert loaded.layers[0].layer.get_config() == layer.layer.get_config()
    assert (loaded.layers[0].rate, loaded.layers[0].block_size) == (0.4, 4)
    for training in (False, True):  # the state of the seed is saved, too
        old, new = (m(x, training=training) for m in (model, loaded))
        assert np.array_equal(*map(ops.convert_to_numpy, (old, new)))


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, "0.1", True, float("nan")])
def test_bad_rates_are_refused(rate):
    with pytest.raises(ValueError, match="`rate` is the chance of a block"):
        QuantNoise(keras.layers.Dense(4), rate=rate)


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_bad_block_sizes_are_refused(size):
    with pytest.raises(ValueError, match="`block_size` must be a positive integer"):
        QuantNoise(keras.layers.Dense(4), block_size=size)


def test_the_allowed_block_sizes_are_told():
    layer = QuantNoise(keras.layers.Dense(4, name="fc2"), block_size=8)
    with pytest.raises(ValueError, match=r"'fc2'.*one of \[1, 2, 3, 4, 5, 6, 10, 12"):
        layer.build((None, 300))


def test_other_layers_are_refused():
    with pytest.raises(ValueError, match="`layer` must be a Dense or Embedding"):
        QuantNoise(keras.layers.Dropout(0.1))
    dense = keras.layers.Dense(8)
    dense.build((None, 8))
    dense.enable_lora(2)
    with pytest.raises(ValueError, match="must not be quantized and have no LoRA"):
        QuantNoise(dense).build((None, 8))


def test_more_codewords_than_blocks_are_refused():
    layer = CodewordNoise(keras.layers.Dense(2), num_codewords=5)
    with pytest.raises(ValueError, match="`num_codewords` must be at most 4"):
        layer.build((None, 16))
