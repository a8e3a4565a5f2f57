import keras
import numpy as np
import pytest

from keras_messi.models.keras.surgery import (
    LayersRefused,
    find_layers,
    matches,
    replace_layers,
)
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
    new.kernel.assign(2.0 * new.kernel)
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


# Models with code of their own


def dense_twins(model):
    """A twin for each Dense layer of a model."""
    return {
        place.layer: twin(place.layer)
        for place in find_layers(model)
        if type(place.layer) is keras.layers.Dense
    }


def test_paths_of_a_subclassed_model_are_its_attributes():
    places = by_path(models.subclassed())
    assert {
        "words",
        "blocks/0/steps/1",
        "each/layer",
        "heads/left",
        "heads/right/0",
    } <= (set(places))
    assert len({id(place.layer) for place in places.values()}) == len(places)


@pytest.mark.parametrize("make", [models.subclassed, models.with_blocks])
def test_layers_inside_layers_are_replaced_wherever_they_are_held(make):
    model = make()
    new = dense_twins(model)
    copy = replace_layers(model, new)
    held = [place.layer for place in find_layers(copy)]
    assert {id(x) for x in new.values()} <= {id(x) for x in held}
    assert copy.count_params() == model.count_params()
    assert np.array_equal(models.outputs_of(copy), models.outputs_of(model))
    for layer in new.values():
        layer.bias.assign(layer.bias + 1.0)
        changed = models.outputs_of(copy)
        layer.bias.assign(layer.bias - 1.0)
        assert not np.allclose(changed, models.outputs_of(copy))


def test_one_layer_in_two_attributes_is_replaced_in_both():
    model = models.subclassed()
    old = model.blocks[0].steps[0]
    copy = replace_layers(model, {old: twin(old)})
    assert copy.again is copy.blocks[0]
    assert isinstance(copy, models.Tower)
    assert [type(block).__name__ for block in copy.blocks] == ["Block", "Block"]


@pytest.mark.parametrize("make", [models.subclassed, models.with_blocks])
def test_training_moves_all_that_is_trainable_and_nothing_else(make):
    model = make()
    frozen = model.get_layer("block") if make is models.with_blocks else model.blocks[0]
    frozen.steps[1].trainable = False
    copy = replace_layers(model, dense_twins(model))
    copy.compile("sgd", "mse")
    before = [keras.ops.convert_to_numpy(w).copy() for w in copy.weights]
    x = models.inputs_of(copy)
    copy.fit(x, 1 + models.outputs_of(copy), verbose=0)
    still = [
        id(w)
        for w, old in zip(copy.weights, before, strict=True)
        if np.array_equal(keras.ops.convert_to_numpy(w), old)
    ]
    assert len(copy.non_trainable_weights) == 2
    assert still == [id(w) for w in copy.non_trainable_weights]


def test_a_weight_that_another_layer_holds_is_an_obstacle():
    first, alias = (
        keras.layers.Dense(4, name="first"),
        keras.layers.Dense(4, name="alias"),
    )
    first.build((None, 4))
    alias.also = first.kernel
    model = keras.Sequential([keras.Input((4,)), first, alias])
    assert by_path(model)["first"].obstacle == "its kernel is also held by 'alias'"


class Sharing(keras.Model):
    """A model that calls a layer which it holds where nothing finds it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(4)
        self.steps = lambda inputs, dense=self.dense: dense(inputs)

    def call(self, inputs):
        return self.steps(inputs)


def test_a_layer_that_something_hidden_still_calls_is_refused():
    model = Sharing()
    model(np.zeros((2, 4), "float32"))
    new = twin(model.dense)
    with pytest.raises(LayersRefused, match="still held and called") as caught:
        replace_layers(model, {model.dense: new})
    assert list(caught.value.reasons) == [model.dense]


def test_a_head_that_reads_weights_can_follow_where_the_new_layer_has_them():
    model = models.tied("embeddings")
    words = keras.layers.Embedding(50, 24, name="new")
    words.build()
    words.set_weights(model.words.get_weights())
    copy = replace_layers(model, {model.words: words})
    assert copy.head.embedding is copy.words is words
    assert np.array_equal(models.outputs_of(copy), models.outputs_of(model))


def test_compiled_classes_that_compile_themselves_are_left_to_the_user():
    class Own(models.Tower):
        def compile(self, rate=0.1):
            super().compile(keras.optimizers.SGD(rate), "mse")

    model = Own()
    model(models.inputs_of(model))
    model.compile()
    assert not replace_layers(model, {}).compiled


class Forgetful(keras.Model):
    """A model whose config lacks an argument that has a default."""

    def __init__(self, depth=1, **kwargs):
        super().__init__(**kwargs)
        self.steps = [keras.layers.Dense(4) for _ in range(depth)]

    def call(self, inputs):
        for step in self.steps:
            inputs = step(inputs)
        return inputs

    def get_config(self):
        return {"name": self.name}


def test_a_copy_with_other_layers_is_no_copy():
    model = Forgetful(depth=2, name="deep")
    model(np.zeros((1, 4), "float32"))
    with pytest.raises(ValueError, match="'deep' can't be copied: .* other layers"):
        replace_layers(model, {})


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


SHIFT = 3.0


def shifted(x, mask=None):
    return keras.ops.relu(x) + SHIFT


@pytest.mark.parametrize("output_shape", [(20,), None], ids=["shape", "no shape"])
@pytest.mark.parametrize(
    "function",
    [shifted, lambda x: keras.ops.relu(x) + SHIFT],
    ids=["function", "lambda"],
)
def test_functions_that_use_names_of_their_module_are_kept(function, output_shape):
    keras.utils.set_random_seed(0)
    options = {} if output_shape is None else {"output_shape": output_shape}
    name = function.__name__
    model = keras.Sequential(
        [
            keras.Input((12,)),
            keras.layers.Dense(20, activation=lambda x: x / SHIFT),
            keras.layers.Lambda(function, **options),
            keras.layers.Dense(4, activation=lambda x: SHIFT - x, name="head"),
        ]
    )
    x = np.random.default_rng(0).standard_normal((3, 12)).astype("float32")
    places = by_path(model)
    new = keras.layers.Dense(4, activation=lambda x: SHIFT - x, name="head")
    new.build((None, 20))
    new.set_weights(places["head"].layer.get_weights())
    copy = replace_layers(model, {places["head"].layer: new})
    got, want = (keras.ops.convert_to_numpy(y(x)) for y in (copy, model))
    assert np.array_equal(got, want)
    assert copy.layers[1].function is function
    assert function.__name__ == name
