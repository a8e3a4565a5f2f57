"""Compressed models of transformers: made from a plain one, saved, loaded."""

import copy
import functools
import math
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any

import keras
import numpy as np

from keras_messi.calibration.observing import Observer, Run
from keras_messi.calibration.outputs import float_outputs
from keras_messi.layers import sizes
from keras_messi.layers.replacement import can_merge_lora, with_merged_lora
from keras_messi.models.huggingface import folders
from keras_messi.models.huggingface.frameworks import adapter_for, framework_of
from keras_messi.models.huggingface.inputs import random_inputs, vocabulary_size
from keras_messi.models.huggingface.proxies import path_of
from keras_messi.models.keras.surgery import LayersRefused, NamedLayer, in_one_line

_OWN = __name__.partition(".")[0]

# Inputs that a copy of a model is tried on.
_NUM_TRIED = 2


class CompressedModel:
    """What a model of transformers does otherwise once its layers are factored.

    Its `config.messi` says which compressed layer each path has.
    """

    config: Any

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        max_shard_size: int | str | None = None,
        **options: Any,
    ) -> None:
        """Save the model in a folder, for `keras_messi.huggingface.from_pretrained`.

        An old model in the folder stays intact whatever happens. LoRA weights are
        merged into factors in floating-point numbers, as `layer.merge_lora()` does, in
        the folder only; layers of integers or codes keep them.

        Args:
            save_directory: The folder; it is made if it does not exist.
            max_shard_size: Bytes of weights in one file, or a string such as `"5MB"`.
                What is larger is split as transformers does; one weight is never split.
                By default there is one file.
            options: Others of transformers are taken and have no effect.

        Raises:
            FileExistsError: The folder holds weights of a model that is not compressed.
            ValueError: `push_to_hub` or `saved_model` is set, or `max_shard_size` is
                not as above.
        """
        for name in ("push_to_hub", "saved_model"):
            if options.get(name):
                raise ValueError(
                    f"`{name}` can't be done with a compressed model: save it in a "
                    f"folder. Received: {name}={options[name]!r}"
                )
        folders.write(save_directory, *_contents(self), max_shard_size)

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Refuse to change the number of tokens, which the factors are made for."""
        if new_num_tokens in (None, self.config.vocab_size) and not (args or kwargs):
            return self.get_input_embeddings()  # type: ignore[attr-defined]
        raise ValueError(
            "`resize_token_embeddings` can't change a compressed model: resize the "
            "original and compress that. Received: "
            f"new_num_tokens={new_num_tokens}, vocab_size={self.config.vocab_size}"
        )

    def tie_weights(self, *args: Any, **kwargs: Any) -> None:
        """Tie the weights of a PyTorch model, unless its layers do so by themselves."""
        if not _adapter_of(self).factored_layers(self):
            super().tie_weights(*args, **kwargs)  # type: ignore[misc]


@functools.cache
def _compressed_class(model_class: type) -> type:
    """A class of transformers that does otherwise what CompressedModel does."""
    # By the name, transformers chooses losses, weights and entries of the config.
    members = {"__module__": model_class.__module__, "__doc__": model_class.__doc__}
    return type(model_class.__name__, (CompressedModel, model_class), members)


def _plain_class(model: Any) -> type:
    """The class of transformers that a model is of, compressed or not."""
    classes = type(model).__mro__
    return next(cls for cls in classes if not issubclass(cls, CompressedModel))


def find_layers(model: Any) -> list[NamedLayer]:
    """All layers of a model with weights, each as a proxy of Keras.

    Raises:
        ValueError: The model is not built, or Keras runs on another backend.
    """
    vocabulary = vocabulary_size(model.config)
    return [
        x._replace(is_vocabulary=getattr(x.layer, "input_dim", 0) == vocabulary)
        for x in _adapter_of(model).find_layers(model)
    ]


def replace_layers(model: Any, replacements: Mapping[keras.Layer, keras.Layer]) -> Any:
    """A copy of a model with some layers replaced by compressed ones.

    Args:
        model: A model of transformers. It is left as it is.
        replacements: The new layer for each layer of `find_layers` to be replaced.

    Raises:
        ValueError: The model is not what its class and config build.
        LayersRefused: The model does not run with some of the new layers, or gives
            numbers that are not finite.
    """
    small = _copy_with(model, replacements)
    if replacements and _problem(model, small) is not None:
        raise _refusal(model, replacements)
    return small


def _refusal(
    model: Any, replacements: Mapping[keras.Layer, keras.Layer]
) -> LayersRefused:
    """Which of some layers, each tried alone, a model can't be used with."""
    reasons = {
        old: _problem(model, _copy_with(model, {old: new}))
        for old, new in replacements.items()
    }
    alone = {old: why for old, why in reasons.items() if why is not None}
    together = dict.fromkeys(replacements, "the model fails with all layers together")
    return LayersRefused(alone or together)


def _copy_with(model: Any, replacements: Mapping[keras.Layer, keras.Layer]) -> Any:
    """A copy of a model with other layers, not tried."""
    adapter = _adapter_of(model)
    config = copy.deepcopy(model.config)
    factored = adapter.factored_layers(model)
    recipe = {path: _recipe_of(layer) for path, layer in factored.items()}
    tensors, matrices = stored_tensors(model), adapter.matrix_names(model)
    for old, new in replacements.items():
        path = path_of(old)
        recipe[path] = _recipe_of(new)
        tensors.pop(matrices.get(path), None)
        for name in _below(path, tensors, adapter):
            del tensors[path + adapter.SEPARATOR + name]
        tensors |= _stored_by(new, path, adapter)
    config.messi = {"framework": framework_of(model), "layers": recipe}
    small = assemble(adapter, _plain_class(model), config, tensors)
    _check_layer_types(
        adapter.layer_types(model), adapter.layer_types(small), adapter.SEPARATOR
    )
    adapter.copy_training_state(model, small)
    return small


def _problem(model: Any, small: Any) -> str | None:
    """Why a copy of a model can't be used, found out on random inputs if they fit."""
    adapter = _adapter_of(model)
    try:
        inputs = random_inputs(model, _NUM_TRIED)
        expected = _outputs(adapter, model, inputs)
    except Exception:  # the code of any model may refuse what is random
        return None
    try:
        found = _outputs(adapter, small, inputs)
    except Exception as error:
        return f"the model then fails, with {in_one_line(error)}"
    pairs = zip(expected, found, strict=True)
    if all(np.isfinite(y).all() or not np.isfinite(x).all() for x, y in pairs):
        return None
    return "the model then gives no finite numbers, so its code holds the old weight"


def _outputs(adapter: ModuleType, model: Any, inputs: Any) -> list[np.ndarray]:
    with adapter.observe(model, {}) as run:
        return float_outputs(run(inputs))


def assemble(
    adapter: ModuleType, model_class: type, config: Any, tensors: Mapping[str, Any]
) -> Any:
    """A compressed model from what is saved of it.

    Raises:
        ValueError: The recipe or the weights don't fit the model.
    """
    model = adapter.build(_compressed_class(model_class), config)
    adapter.put(
        model,
        {path: _follow(entry) for path, entry in config.messi["layers"].items()},
    )
    weights = adapter.stock_weights(model)
    factored = adapter.factored_layers(model)
    _check_names(
        set(weights).union(*(_stored_by(x, p, adapter) for p, x in factored.items())),
        set(tensors),
    )
    for name, weight in weights.items():
        if tuple(weight.shape) != tuple(tensors[name].shape):
            raise ValueError(
                f"Weight '{name}' must have shape {tuple(weight.shape)}. "
                f"The one that is stored has {tuple(tensors[name].shape)}."
            )
        adapter.write(weight, tensors[name])
    for path, layer in factored.items():
        layer.load_own_variables(_below(path, tensors, adapter))
    return model


def _recipe_of(layer: keras.Layer) -> dict[str, Any]:
    """What to build a layer from, as an entry of config.json."""
    config = layer.get_config()
    # Not as "dtype", which transformers takes for its own at any depth.
    del config["dtype"]
    layer_class = type(layer)
    if layer_class is keras.layers.Embedding:
        # Stores the same, and serves tied logits, too.
        layer_class = keras.layers.ReversibleEmbedding
    return {
        "class_name": keras.saving.get_registered_name(layer_class),
        "config": config,
        "policy": layer.dtype_policy.name,
    }


def _follow(recipe: Mapping[str, Any]) -> keras.Layer:
    """A layer from its recipe, not built."""
    name = recipe["class_name"]
    layer_class = keras.saving.get_registered_object(name)
    layer_class = layer_class or _STOCK.get(name)
    if layer_class is None:
        raise ValueError(f"There is no layer of class {name}.")
    return layer_class.from_config({**recipe["config"], "dtype": recipe["policy"]})


# Layers of Keras, which may be in a model as Keras quantizes them.
_STOCK = {x.__name__: x for x in (keras.layers.Dense, keras.layers.ReversibleEmbedding)}


def _check_layer_types(
    expected: dict[str, type], found: dict[str, type], separator: str
) -> None:
    """Raise ValueError if a copy of a model has a layer of another class somewhere."""
    for path, kind in expected.items():
        has_parts = any(name.startswith(path + separator) for name in found)
        layer_type = found.get(path, kind if has_parts else None)
        if layer_type is None or _is_other(kind, layer_type):
            instead = f"a {layer_type.__name__}" if layer_type else "no layer"
            raise ValueError(
                "`model` must be what its class and config build. Received: a model "
                f"with a {kind.__name__} at {path} instead of {instead}"
            )


def _is_other(kind: type, layer_type: type) -> bool:
    is_ours = layer_type.__module__.startswith(_OWN)
    return layer_type.__name__ != kind.__name__ and not is_ours


def _check_names(expected: set[str], found: set[str]) -> None:
    if expected != found:
        raise ValueError(
            "The weights must be those of a model of this class and config. Missing: "
            f"{sorted(expected - found)}, not expected: {sorted(found - expected)}"
        )


def stored_tensors(model: Any) -> dict[str, Any]:
    """All weights of a model by name, those of factored layers as these store them."""
    adapter = _adapter_of(model)
    return _tensors(adapter, model, adapter.factored_layers(model))


def _tensors(
    adapter: ModuleType, model: Any, factored: Mapping[str, keras.Layer]
) -> dict[str, Any]:
    weights = adapter.stock_weights(model)
    tensors = {name: adapter.read(weight) for name, weight in weights.items()}
    for path, layer in factored.items():
        tensors |= _stored_by(layer, path, adapter)
    return tensors


def _stored_by(layer: keras.Layer, path: str, adapter: ModuleType) -> dict[str, Any]:
    """What a factored layer stores, under names that begin with its path."""
    store: dict[str, Any] = {}
    layer.save_own_variables(store)
    start = path + adapter.SEPARATOR
    return {start + key: adapter.read(value) for key, value in store.items()}


def _below(
    path: str, tensors: Mapping[str, Any], adapter: ModuleType
) -> dict[str, Any]:
    """The tensors of one layer, under their names in it."""
    start = path + adapter.SEPARATOR
    return {
        name.removeprefix(start): tensor
        for name, tensor in tensors.items()
        if name.startswith(start)
    }


def count_parameters(model: Any) -> int:
    """Numbers in the weights of a model, in however few bits, other integers aside."""
    adapter = _adapter_of(model)
    stock = adapter.stock_weights(model).values()
    numbers = sum(math.prod(x.shape) for x in stock if "int" not in str(x.dtype))
    return numbers + sum(
        map(sizes.count_own_parameters, adapter.factored_layers(model).values())
    )


def stored_bytes(model: Any) -> int:
    """Bytes of all weights of a model as stored on disk."""
    return sum(tensor.nbytes for tensor in stored_tensors(model).values())


def saved_size(model: Any) -> int:
    """Size in bytes of the files that a model is saved in."""
    return folders.size(*_contents(model))


def observe(
    model: Any, observers: Mapping[keras.Layer, Observer]
) -> AbstractContextManager[Run]:
    """Tell observers what layers receive whenever the model is run inside.

    Args:
        model: A model of transformers. It is left as it is.
        observers: What to call for each layer of `find_layers`.

    Returns:
        A context with a function that runs the model on a batch: token ids, or a dict
        of all that the model takes.
    """
    by_path = {path_of(layer): observer for layer, observer in observers.items()}
    return _adapter_of(model).observe(model, by_path)


def substitute(
    model: Any, new_layers: Mapping[keras.Layer, keras.Layer]
) -> AbstractContextManager[None]:
    """Let other layers answer for some of a model whenever it is run inside.

    Args:
        model: A model of transformers. It is left as it is.
        new_layers: A built layer for each layer of `find_layers` that it answers for.
    """
    by_path = {path_of(layer): new for layer, new in new_layers.items()}
    return _adapter_of(model).substitute(model, by_path)


def _contents(model: Any) -> tuple[Any, dict[str, Any], Any]:
    """What `folders.write` writes for a model."""
    adapter, config = _adapter_of(model), copy.deepcopy(model.config)
    config.architectures = [_plain_class(model).__name__.removeprefix(adapter.PREFIX)]
    factored = {
        path: with_merged_lora(layer) if can_merge_lora(layer) else layer
        for path, layer in adapter.factored_layers(model).items()
    }
    if factored:  # whose arguments may not be those that the model was made with
        recipe = {path: _recipe_of(layer) for path, layer in factored.items()}
        config.messi = {**config.messi, "layers": recipe}
    return config, _tensors(adapter, model, factored), adapter.save_file


def _adapter_of(model: Any) -> ModuleType:
    return adapter_for(framework_of(model))
