"""What layers have in common that compute with Dense layers inside them."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import keras

from keras_messi.layers.replacement import copy_layer


class UnfoldedLayer(keras.Layer):
    """A layer whose kernels are those of Dense layers inside it.

    A subclass for one kind of layer takes the Dense layers as arguments, which it names
    in `dense_names`, and implements `unfold`, `rows`, `call` and `get_config`.
    `keras_messi.register_layer` says which kind it is for. Then all that is done with
    Dense layers is done with that kind: compressed by any method, calibrated,
    quantized, saved.

    Attributes:
        dense_names: Attributes, and arguments, that are Dense layers, or an Embedding:
            of Keras, or any that takes the place of one.
    """

    dense_names: ClassVar[tuple[str, ...]] = ("dense",)

    @classmethod
    def obstacle(cls, layer: Any) -> str | None:
        """Why a built layer of the kind can't be unfolded, if there is a reason."""
        return None

    @classmethod
    def unfold(cls, layer: Any) -> Self:
        """A built layer that computes the same, with Dense layers of Keras inside.

        These have the regularizer and constraint of the kernel, and its bias if there
        is one number of that for each unit. The new layer has the name, dtype policy
        and weights of the old one, and shares none with it.

        Args:
            layer: A built layer of the kind, with no `obstacle`. It is left as it is.
        """
        raise NotImplementedError

    def rows(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """What one of the Dense layers multiplies when the layer is called.

        Args:
            name: One of `dense_names`.
            *args: What the layer is called with, as `call` takes it.
            **kwargs: Likewise, by name.

        Returns:
            Tensor of shape `(..., n)`, for a kernel of shape `(n, units)`; ids of any
            shape for an Embedding; None if such a call leaves that layer out.
        """
        raise NotImplementedError

    @property
    def dense_layers(self) -> dict[str, keras.Layer]:
        """The Dense layers by name."""
        return {name: getattr(self, name) for name in self.dense_names}

    def with_dense(self, new: Mapping[str, keras.Layer]) -> Self:
        """The same with some of the Dense layers exchanged, and no weight in common.

        Args:
            new: Built layers, by the names of those that they replace.
        """
        kept = {name: old for name, old in self.dense_layers.items() if name not in new}
        inner = {name: copy_layer(old) for name, old in kept.items()} | dict(new)
        copy = self.from_config({**self.get_config(), **inner})
        copy.build_from_config(self.get_build_config())
        store: dict[str, Any] = {}
        self.save_own_variables(store)
        copy.load_own_variables(
            {name: keras.ops.convert_to_numpy(value) for name, value in store.items()}
        )
        return copy

    def get_config(self) -> dict[str, Any]:
        """The arguments, those of `keras.Layer` and the Dense layers."""
        serialize = keras.saving.serialize_keras_object
        inner = {name: serialize(getattr(self, name)) for name in self.dense_names}
        return {**super().get_config(), **inner}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """A layer of a config, in which Dense layers may stand as they are."""
        config = dict(config)
        for name in cls.dense_names:
            if not isinstance(config[name], keras.Layer):
                config[name] = keras.saving.deserialize_keras_object(config[name])
        return super().from_config(config)


class StandsFor:
    """What a Dense layer stands for that shows an unfolding of another layer.

    Attributes:
        layer: The layer in the model.
        unfolded: A layer that computes the same with the Dense layer inside; the layer
            in the model itself, if it is unfolded.
        name: Name of the Dense layer in it.
    """

    def __init__(self, layer: keras.Layer, unfolded: UnfoldedLayer, name: str) -> None:
        self.layer, self.unfolded, self.name = layer, unfolded, name


def show(layer: keras.Layer, unfolded: UnfoldedLayer) -> dict[str, keras.Layer]:
    """The Dense layers, by name, that stand for a layer of a model."""
    for name, dense in unfolded.dense_layers.items():
        object.__setattr__(dense, "stands_for", StandsFor(layer, unfolded, name))
    return unfolded.dense_layers


def stands_for(layer: keras.Layer) -> StandsFor | None:
    """What a layer stands for, None if for itself."""
    return getattr(layer, "stands_for", None)


def layer_in_model(layer: keras.Layer) -> keras.Layer:
    """The layer of a model that a layer stands for: mostly itself."""
    link = stands_for(layer)
    return layer if link is None else link.layer


def with_unfolded(
    new_layers: Mapping[keras.Layer, keras.Layer],
) -> dict[keras.Layer, keras.Layer]:
    """New layers by the layers in the model that the old ones stand for."""
    plain: dict[keras.Layer, keras.Layer] = {}
    inner: dict[keras.Layer, tuple[UnfoldedLayer, dict[str, keras.Layer]]] = {}
    for old, new in new_layers.items():
        link = stands_for(old)
        if link is None:
            plain[old] = new
        else:
            inner.setdefault(link.layer, (link.unfolded, {}))[1][link.name] = new
    unfolded = {layer: one.with_dense(new) for layer, (one, new) in inner.items()}
    return plain | unfolded
