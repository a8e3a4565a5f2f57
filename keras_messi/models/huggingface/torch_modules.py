"""PyTorch modules that compute with a compressed layer in the place of a parameter.

A module stays the object that it is in its model. Its class becomes a subclass of
itself, in which a layer does what `nn.Linear` and the like did with their weight, and
in which the parameter can still be read: it is multiplied out.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from keras_messi.layers.whole_matrix import multiplied_out

# Name of the compressed layer in a module that calls it.
INNER = "factored"


class CompressedLinear(nn.Linear):
    """A Linear layer that is one of Keras, bias included."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Apply the layer."""
        return self.replaced["weight"](input)

    @property
    def weight(self) -> torch.Tensor:
        """The weight, `(out_features, in_features)`, multiplied out."""
        return multiplied_out(self.replaced["weight"]).T

    @property
    def bias(self) -> torch.Tensor | None:
        """The bias of the layer."""
        return _bias_of(self.replaced["weight"])


class CompressedConv1D(Conv1D):
    """The same for the Conv1D of GPT-2, which is linear."""

    forward = CompressedLinear.forward
    bias = CompressedLinear.bias

    @property
    def weight(self) -> torch.Tensor:
        """The weight, `(in_features, out_features)`, multiplied out."""
        return multiplied_out(self.replaced["weight"])


class CompressedEmbedding(nn.Embedding):
    """An Embedding that is one of Keras."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Look rows up."""
        return self.replaced["weight"](input)

    weight = CompressedConv1D.weight


class TiedLinear(nn.Linear):
    """A Linear layer that shares its weight with an Embedding that is one of Keras."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Products of the inputs with all rows of the table, and the bias."""
        logits = self.replaced["weight"](input, reverse=True)  # (..., input_dim)
        return logits if self.bias is None else logits + self.bias

    weight = CompressedConv1D.weight


# Classes that use their weight as a layer of Keras does, and what they become.
_KERNELS: dict[type, type] = {nn.Linear: CompressedLinear, Conv1D: CompressedConv1D}
_TABLES: dict[type, type] = {nn.Embedding: CompressedEmbedding, nn.Linear: TiedLinear}
_LAYERS = (nn.Linear, Conv1D, nn.Embedding)


class Holder(NamedTuple):
    """A module that holds a parameter, and under what name."""

    path: str
    module: nn.Module
    name: str

    @property
    def parameter(self) -> nn.Parameter:
        """The parameter."""
        return self.module._parameters[self.name]

    @property
    def is_layer(self) -> bool:
        """Whether the module is a layer as Keras has it, with nothing of its own."""
        parts = {*self.module._parameters, *self.module._modules}
        is_kind = isinstance(self.module, _LAYERS)
        return is_kind and self.name == "weight" and parts <= {"weight", "bias"}

    @property
    def is_table(self) -> bool:
        """Whether the parameter is the table of an Embedding."""
        return self.is_layer and isinstance(self.module, nn.Embedding)

    @property
    def layer_path(self) -> str:
        """Path of the layer that the parameter is shown as."""
        if self.is_layer:
            return self.path
        return f"{self.path}.{self.name}".removeprefix(".")


def replace_parameter(holders: list[Holder], layer: keras.Layer) -> None:
    """Put a built layer in the place of a parameter, in all modules that hold it.

    The first one lists the weights of the layer among its own. The parameter is filled
    with NaN, which shows in the outputs if code still holds it somewhere.
    """
    first = holders[0]
    with torch.no_grad():
        first.parameter.fill_(torch.nan)
    name = INNER if first.is_layer else first.name
    change_classes(holders, layer)
    first.module._modules[name] = layer


def change_classes(holders: list[Holder], layer: keras.Layer) -> None:
    """Let modules compute with a layer in the place of a parameter that they hold."""
    kinds = _TABLES if holders[0].is_table else _KERNELS
    for holder in holders:
        module, new_class = holder.module, _class_for(holder, kinds)
        for name in (holder.name, "bias"):
            if isinstance(getattr(new_class, name, None), property):
                module._parameters.pop(name, None)
        module.__class__ = new_class
        module.replaced = {**vars(module).get("replaced", {}), holder.name: layer}


def _class_for(holder: Holder, kinds: dict[type, type]) -> type:
    """The class of a module once a layer is in the place of its parameter."""
    cls = type(holder.module)
    for base in kinds if holder.is_layer else ():
        if issubclass(cls, base):
            return _subclass(cls, base, kinds[base])
    return _reading(cls, holder.name, holder.parameter.shape)


def _subclass(cls: type, base: type, new: type) -> type:
    """A subclass of a class in which a subclass of its base stands before the base."""
    bases = (new,) if cls is base else (cls, new)
    return type(cls.__name__, bases, {"__module__": cls.__module__})


def _reading(cls: type, name: str, shape: torch.Size) -> type:
    """A subclass in which an attribute is a matrix, multiplied out, of a shape."""

    def read(self: Any) -> torch.Tensor:
        return multiplied_out(self.replaced[name]).reshape(shape)

    members = {"__module__": cls.__module__, name: property(read)}
    return type(cls.__name__, (cls,), members)


def _bias_of(layer: keras.Layer) -> torch.Tensor | None:
    return None if layer.bias is None else layer.bias.value


@contextmanager
def told(holder: Holder, observer: Callable[[Any], None]) -> Iterator[None]:
    """Tell an observer what the code of a layer receives, of a subclass as well."""
    cls = type(holder.module)
    base = next(base for base in _LAYERS if issubclass(cls, base))

    def forward(self: Any, input: torch.Tensor) -> torch.Tensor:
        observer(input)
        return base.forward(self, input)

    telling = type(base.__name__, (base,), {"forward": forward})
    with restored([holder]):
        holder.module.__class__ = _subclass(cls, base, telling)
        yield


@contextmanager
def restored(holders: list[Holder]) -> Iterator[None]:
    """Give modules their classes, parameters and layers back in the end."""
    modules = {id(x.module): x.module for x in holders}.values()
    before = [
        (x, type(x), dict(x._parameters), vars(x).get("replaced", {})) for x in modules
    ]
    try:
        yield
    finally:
        for module, cls, parameters, replaced in before:
            module.__class__ = cls
            module._parameters = parameters
            module.replaced = replaced
