import keras
import numpy as np
import pytest

from keras_messi.surgery import find_layers, matches, replace_layers
from tests.keras_messi import models


@pytest.fixture(params=models.ALL)
def model(request):
    keras.utils.set_random_seed(0)
    return request.param()


def by_path(model):
    return {place.path: place for place in find_layers(model)}


def test_paths_name_nested_layers_and_list_shared_ones_once():
    places = by_path(models.siamese())
    dense = [path for path, place in places.items() if "Dense" in str(place.layer)]
    assert dense == ["encoder/project", "shared", "head"]
    assert all(place.obstacle is None for place in places.values())


def test_layers_inside_other_layers_go_by_the_attribute_that_holds_them():
    paths = by_path(models.composite())
    assert {"each", "each/layer", "attention/query_dense"} <= set(paths)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (None, ["words", "project", "shared", "head"]),
        ("encoder", ["words", "project"]),
        ("^shared$", ["shared"]),
        (["words", "head"], ["words", "head"]),
        (lambda layer: layer.name == "shared", ["shared"]),
    ],
)
def test_filters_are_patterns_lists_and_functions(filters, expected):
    found = [
        place.layer.name
        for place in find_layers(models.siamese())
        if matches(place, filters) and place.layer.weights
    ]
    assert found == expected


@pytest.mark.parametrize("filters", ["(", ["words", "["], [3]], ids=str)
def test_filters_that_are_no_patterns_are_named(filters):
    place = find_layers(models.sequential())[0]
    with pytest.raises(ValueError, match="`filters` must be regular expressions"):
        matches(place, filters)


def test_a_copy_without_replacements_computes_the_same(model):
    before = models.snapshot(model)
    copy = replace_layers(model, {})
    models.assert_unchanged(model, before)
    assert np.array_equal(models.outputs_of(copy), models.outputs_of(model))
    assert type(copy) is type(model)
    assert copy.name == model.name
    for old, new in zip(find_layers(model), find_layers(copy), strict=True):
        if isinstance(old.layer, keras.layers.Dense | keras.layers.Embedding):
            assert new.layer is not old.layer
            assert config_of(new.layer) == config_of(old.layer)


def config_of(layer):
    """Config without the name, which Keras may have counted up."""
    return {**layer.get_config(), "name": None}


def test_a_copy_shares_no_weights(model):
    copy = replace_layers(model, {})
    assert not {id(w) for w in model.variables} & {id(w) for w in copy.variables}
    before = models.snapshot(model)
    for weight in copy.trainable_weights:
        weight.assign(weight + 1.0)
    models.assert_unchanged(model, before)


def twin(layer):
    """A different layer object that computes the same."""
    copy = type(layer).from_config(layer.get_config())
    copy.build((None, layer.kernel.shape[0]))
    copy.set_weights(layer.get_weights())
    return copy


@pytest.mark.parametrize("path", ["encoder/project", "shared", "head"])
def test_replacing_nested_shared_and_last_layers(path):
    model = models.siamese()
    old = by_path(model)[path].layer
    new = twin(old)
    copy = replace_layers(model, {old: new})
    assert by_path(copy)[path].layer is new
    assert np.array_equal(models.outputs_of(copy), models.outputs_of(model))
    new.bias.assign(new.bias + 1.0)
    assert not np.allclose(models.outputs_of(copy), models.outputs_of(model))


def test_old_weights_are_gone_from_the_copy():
    model = models.sequential()
    first = model.get_layer("first")
    new = keras.layers.Dense(30, use_bias=False, name="first")
    new.build((None, 40))
    copy = replace_layers(model, {first: new})
    assert copy.count_params() == model.count_params() - 30


def test_frozen_layers_stay_frozen():
    model = models.siamese()
    model.get_layer("encoder").trainable = False
    copy = replace_layers(model, {})
    names = [w.path for w in model.trainable_weights]
    assert [w.path for w in copy.trainable_weights] == names


def test_a_compiled_model_gives_a_compiled_copy():
    model = models.sequential()
    model.compile("adam", "mse", metrics=["mae"])
    x = models.inputs_of(model)
    model.fit(x, np.zeros((4, 3)), verbose=0)
    copy = replace_layers(model, {})
    assert copy.compiled
    assert copy.optimizer is not model.optimizer
    copy.fit(x, np.zeros((4, 3)), verbose=0)


def test_vocabularies_are_copied():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow models hold strings")
    lookup = keras.layers.TextVectorization(output_sequence_length=3, name="split")
    lookup.adapt(np.array(["a cat and a dog", "a dog"]))
    text = keras.Input((), dtype="string")
    model = keras.Model(text, keras.layers.Embedding(9, 4)(lookup(text)))
    copy = replace_layers(model, {})
    x = np.array(["a dog", "cat and fish"], dtype=object)
    x = keras.ops.convert_to_tensor(x)
    assert np.array_equal(model(x), copy(x))


class Subclassed(keras.Model):
    """A model without get_config, whose __init__ takes no "trainable"."""

    def __init__(self):
        super().__init__(name="own")
        self.dense = keras.layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)


def test_a_model_that_cannot_be_copied_is_named_with_what_to_do():
    model = Subclassed()
    model(np.zeros((1, 4), "float32"))
    message = "'own' of class Subclassed can't be copied.*argument 'trainable' Give the"
    with pytest.raises(ValueError, match=message):
        replace_layers(model, {})


def test_an_unbuilt_model_is_refused():
    model = keras.Sequential([keras.layers.Dense(3)], name="raw")
    with pytest.raises(ValueError, match="`model` must be built.* Received: 'raw'"):
        find_layers(model)


def test_what_is_no_model_is_refused():
    with pytest.raises(ValueError, match="`model` must be a keras.Model"):
        find_layers(keras.layers.Dense(3))


class Careless(keras.layers.Layer):
    """A layer whose config lacks an argument."""

    def __init__(self, units, name=None):
        super().__init__(name=name)
        self.units = units

    def call(self, inputs):
        return inputs * self.units

    def get_config(self):
        return {"name": self.name}


def test_a_layer_that_cannot_be_copied_is_named():
    model = keras.Sequential([keras.Input((4,)), Careless(3, name="mine")])
    with pytest.raises(ValueError, match="Layer 'mine' of class Careless can't be"):
        replace_layers(model, {})
