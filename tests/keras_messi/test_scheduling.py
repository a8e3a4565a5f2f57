import keras
import numpy as np
import pytest
from keras import ops
from sklearn.datasets import load_digits

from keras_messi import MessiConfig, calibrate, compress, compress_in_groups
from keras_messi.layers import MessiDense
from keras_messi.models.keras.surgery import find_layers
from tests.keras_messi import models

CONFIG = MessiConfig(rate=0.5, num_clusters=2, scope="layer")


class Recorder:
    """A fine_tune that writes down what it is given and does nothing else."""

    def __init__(self):
        self.compressed = []
        self.models = []

    def __call__(self, model):
        self.models.append(model)
        places = find_layers(model)
        self.compressed.append(
            {x.path for x in places if isinstance(x.layer, MessiDense)}
        )


def test_groups_come_in_order_and_what_is_compressed_stays():
    model, recorder = models.sequential(), Recorder()
    groups = ["second", ["first", "no such layer"]]
    small, reports = compress_in_groups(model, CONFIG, groups, recorder)
    assert recorder.compressed == [{"second"}, {"first", "second"}]
    assert small is recorder.models[-1]
    assert [[row.path for row in x.replaced] for x in reports] == [
        ["second"],
        ["first"],
    ]
    assert reports[0].bytes_after == reports[1].bytes_before


def test_without_training_it_is_compress_one_layer_at_a_time():
    keras.utils.set_random_seed(0)
    model = models.sequential()
    groups = ["first", "second"]
    small, _ = compress_in_groups(model, CONFIG, groups, lambda model: None)
    expected, _ = compress(model, CONFIG, groups)
    np.testing.assert_allclose(
        models.outputs_of(small), models.outputs_of(expected), rtol=1e-5, atol=1e-6
    )


def test_later_groups_are_fitted_to_what_training_made_of_them():
    model = models.sequential()

    def fine_tune(model):
        for place in find_layers(model):
            if type(place.layer) is keras.layers.Dense and place.path == "second":
                kernel = place.layer.kernel
                kernel.assign(ops.zeros(kernel.shape))

    small, _ = compress_in_groups(model, CONFIG, ["first", "second"], fine_tune)
    assert not ops.convert_to_numpy(small.get_layer("second").kernel).any()
    assert ops.convert_to_numpy(model.get_layer("second").kernel).any()


def test_each_group_may_have_a_config_of_its_own():
    configs = [MessiConfig(rank=2, num_clusters=1), MessiConfig(rank=3, num_clusters=2)]
    small, _ = compress_in_groups(
        models.sequential(), configs, ["first", "second"], lambda model: None
    )
    assert small.get_layer("first").ranks == [2]
    assert small.get_layer("second").ranks == [3, 3]


@pytest.mark.parametrize("make", [models.subclassed, models.siamese])
def test_models_of_other_classes_go_group_after_group(make):
    keras.utils.set_random_seed(0)
    model = make()
    outputs = models.outputs_of(model)
    before = models.snapshot(model)
    small, reports = compress_in_groups(
        model,
        CONFIG,
        ["words", lambda x: isinstance(x, keras.layers.Dense)],
        Recorder(),
    )
    assert len(reports) == 2
    assert models.outputs_of(small).shape == outputs.shape
    models.assert_unchanged(model, before)


def test_calibration_data_are_run_through_the_model_for_each_group():
    model = models.sequential()
    x = models.inputs_of(model, 64)
    _, reports = compress_in_groups(
        model, CONFIG, ["first", "second"], lambda model: None, calibration_data=x
    )
    assert all(report.replaced[0].output_error is not None for report in reports)
    with pytest.raises(ValueError, match="`calibration_data` must be inputs"):
        compress_in_groups(
            model, CONFIG, ["first"], Recorder(), calibration_data=calibrate(model, x)
        )


def test_an_error_in_training_passes_and_leaves_the_model_as_it_is():
    model = models.sequential()
    before = models.snapshot(model)

    def fine_tune(model):
        for weight in model.trainable_weights:
            weight.assign(ops.zeros(weight.shape))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress_in_groups(model, CONFIG, ["first", "second"], fine_tune)
    models.assert_unchanged(model, before)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["first", "third"], "`filters` must match a layer"),
        (["first", "norm"], "No layer can be compressed"),
        (["first", "first|second"], "`groups` must not share a layer.*'first'"),
        (["first", None], "`groups` must not share a layer"),
        ([], "`groups` must be a list"),
        ("first", "`groups` must be a list"),
        (["first", "["], "`filters` must be regular expressions"),
    ],
)
def test_bad_groups_are_refused_before_anything_is_done(groups, message):
    recorder = Recorder()
    with pytest.raises(ValueError, match=message):
        compress_in_groups(models.sequential(), CONFIG, groups, recorder)
    assert not recorder.models


def test_bad_configs_and_functions_are_refused():
    with pytest.raises(ValueError, match="`config` must be one config or as many"):
        compress_in_groups(models.sequential(), [CONFIG], ["first", "second"], print)
    with pytest.raises(ValueError, match="`fine_tune` must be a function"):
        compress_in_groups(models.sequential(), CONFIG, ["first"], None)


@pytest.mark.slow
def test_training_between_groups_saves_a_real_network():
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(64, "relu", name=name) for name in ("a", "b")]
    model = keras.Sequential([keras.Input((64,)), *layers, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.003), loss, metrics=["accuracy"])
    model.fit(x[:1200], y[:1200], epochs=15, verbose=0)

    def fine_tune(model):
        assert model.compiled
        model.fit(x[:1200], y[:1200], epochs=10, verbose=0)

    def accuracy(model):
        outputs = model.predict(x[1200:], verbose=0)
        return np.mean(outputs.argmax(axis=1) == y[1200:])

    config = MessiConfig(rate=0.8, num_clusters=1, scope="layer")
    bare, _ = compress(model, config, ["a", "b"])
    small, _ = compress_in_groups(model, config, ["a", "b"], fine_tune)
    assert accuracy(model) > 0.9
    assert accuracy(bare) < accuracy(small)
    assert accuracy(small) > accuracy(model) - 0.05
