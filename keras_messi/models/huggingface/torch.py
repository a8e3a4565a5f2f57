"""What is special to the PyTorch models of transformers.

On its torch backend a Keras layer is a `torch.nn.Module` and takes the place of one.
A layer is named as in `named_modules()`, such as "bert.encoder.layer.0.output.dense".
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import keras
import torch
from safetensors.torch import load_file as load_file
from safetensors.torch import save_file as save_file
from torch import nn

from keras_messi.calibration.observing import Observer, Run, eagerly
from keras_messi.models.huggingface.proxies import (
    dense_layer,
    embedding_layer,
    factored_layer,
    other_layer,
)
from keras_messi.models.keras.surgery import NamedLayer

# What the names of classes begin with.
PREFIX = ""
# Between the parts of the name of a weight.
SEPARATOR = "."


class TiedLogits(nn.Module):
    """A Linear layer that shares its weight with a factored embedding."""

    is_tied = True

    def __init__(self, embedding: keras.Layer, bias: nn.Parameter | None) -> None:
        super().__init__()
        # In a tuple, so that the weights of the embedding are not listed here as well.
        self._embedding = (embedding,)
        self.bias = bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Products of the inputs with all rows of the table, and the bias."""
        logits = self._embedding[0](x, reverse=True)  # (..., input_dim)
        return logits if self.bias is None else logits + self.bias


def build(model_class: Any, config: Any) -> nn.Module:
    """A new model with random weights, in evaluation mode."""
    return model_class._from_config(config).eval()


def find_layers(model: nn.Module) -> list[NamedLayer]:
    """Proxies of all layers with weights. Shared weights belong to the first layer."""
    factored = factored_layers(model)
    users: dict[int, list[tuple[str, nn.Module]]] = defaultdict(list)
    for path, module in model.named_modules():
        for weight in module.parameters(recurse=False):
            users[id(weight)].append((path, module))
    places = []
    seen: set[int] = set()
    for path, module in model.named_modules():
        own = [x for x in module.parameters(recurse=False) if id(x) not in seen]
        seen.update(map(id, own))
        if path in factored:
            places.append(factored_layer(path, module))
        elif own and _factored_path(path, factored) is None:
            shared = [user for weight in own for user in users[id(weight)]]
            others = [user for user in shared if user[1] is not module]
            places.append(_proxy(path, module, own, others))
    return places


def layer_types(model: nn.Module) -> dict[str, type]:
    """Class of each module with weights."""
    return {
        path: type(module)
        for path, module in model.named_modules()
        if list(module.parameters(recurse=False))
    }


def _proxy(
    path: str,
    module: nn.Module,
    own: list[nn.Parameter],
    others: list[tuple[str, nn.Module]],
) -> NamedLayer:
    """A proxy with weights of its own; others are the modules that share them."""
    # Exact types: a subclass may compute something else.
    if type(module) is nn.Embedding and len(own) == 1:
        bound = [name for name, user in others if type(user) is not nn.Linear]
        obstacle = f"shares its weight with {', '.join(bound)}" if bound else None
        if module.max_norm is not None:
            obstacle = "rescales its rows (max_norm)"
        dtype = _dtype_name(module.weight)
        return embedding_layer(path, module.weight.detach(), dtype, obstacle)
    if type(module) is nn.Linear and any(x is module.weight for x in own):
        names = ", ".join(name for name, _ in others)
        obstacle = f"shares its weights with {names}" if names else None
        bias = None if module.bias is None else module.bias.detach()
        kernel, dtype = module.weight.detach().T, _dtype_name(module.weight)
        return dense_layer(path, kernel, bias, dtype, obstacle)
    return other_layer(path, type(module).__name__, own)


def put(model: nn.Module, layers: Mapping[str, keras.Layer]) -> None:
    """Replace stock layers by compressed ones that are not built yet.

    A Linear layer that shares its weight with an Embedding follows it.
    """
    for path, layer in layers.items():
        old = model.get_submodule(path)
        layer.build((None, getattr(old, "in_features", None)))
        for parent, name, new in _places_of(old, layer, model):
            setattr(parent, name, new)


def _places_of(
    old: nn.Module, layer: keras.Layer, model: nn.Module
) -> list[tuple[nn.Module, str, nn.Module]]:
    """Where a module stands, or shares its weight, and what takes its place there."""
    places: list[tuple[nn.Module, str, nn.Module]] = []
    for parent in model.modules():
        for name, child in parent._modules.items():
            if child is old:
                places.append((parent, name, layer))
            elif type(child) is nn.Linear and child.weight is old.weight:
                places.append((parent, name, TiedLogits(layer, child.bias)))
    return places


@contextmanager
def observe(model: nn.Module, observers: Mapping[str, Observer]) -> Iterator[Run]:
    """Tell observers what modules receive whenever the model is run inside."""
    training = [module for module in model.modules() if module.training]
    device = next(model.parameters()).device

    def run(batch: Any) -> Any:
        tensors = keras.tree.map_structure(
            lambda x: torch.tensor(x, device=device), batch
        )
        with eagerly():
            if isinstance(tensors, dict):
                return model(**tensors)
            return model(tensors)

    with ExitStack() as stack:
        for path, observer in observers.items():
            hook = model.get_submodule(path).register_forward_pre_hook(
                partial(_tell, observer)
            )
            stack.callback(hook.remove)
        model.eval()
        try:
            yield run
        finally:
            for module in training:
                module.training = True


@contextmanager
def substitute(model: nn.Module, layers: Mapping[str, keras.Layer]) -> Iterator[None]:
    """Let built layers answer for those of a model whenever it is run inside."""
    with ExitStack() as stack:
        for path, layer in layers.items():
            old = model.get_submodule(path)
            for parent, name, new in _places_of(old, layer, model):
                stack.callback(setattr, parent, name, getattr(parent, name))
                setattr(parent, name, new)
        yield


def _tell(observer: Observer, module: nn.Module, inputs: tuple[Any, ...]) -> None:
    observer(inputs[0])


def read(weight: Any) -> torch.Tensor:
    """The value of a weight, as it is saved."""
    return torch.as_tensor(getattr(weight, "value", weight)).detach().contiguous()


def write(weight: torch.Tensor, value: torch.Tensor) -> None:
    """Give a weight a copy of a value, with its dtype and device."""
    weight.data = value.clone()


def stock_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers outside of factored layers, each by its first name."""
    factored = factored_layers(model)
    names: dict[int, str] = {}
    state = model.state_dict(keep_vars=True)
    for name, tensor in state.items():
        if _factored_path(name, factored) is None:
            names.setdefault(id(tensor), name)
    return {name: state[name] for name in names.values()}


def factored_layers(model: nn.Module) -> dict[str, keras.Layer]:
    """The factored layers of a model by path."""
    modules = model.named_modules()
    return {path: layer for path, layer in modules if isinstance(layer, keras.Layer)}


def copy_training_state(model: nn.Module, small: nn.Module) -> None:
    """Freeze what is frozen in the other model, and take its mode."""
    # Codes of a quantized layer are never trained, frozen or not.
    frozen = {
        name
        for name, x in model.named_parameters()
        if not x.requires_grad and x.is_floating_point()
    }
    factored = factored_layers(small)
    for name, tensor in small.named_parameters():
        path = _factored_path(name, factored)
        if name in frozen or f"{path}.weight" in frozen:
            tensor.requires_grad_(False)
    small.train(model.training)


def _factored_path(name: str, factored: Mapping[str, Any]) -> str | None:
    """Path of the factored layer that a name lies in, or None."""
    return next((path for path in factored if name.startswith(f"{path}.")), None)


def _dtype_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
