"""What is special to the PyTorch models of transformers.

On its torch backend a Keras layer is a `torch.nn.Module`, and stands inside of the one
that it computes for. A layer is named as in `named_modules()`, such as
"bert.encoder.layer.0.output.dense"; a matrix that is read by code of the model, as that
parameter in `named_parameters()`, such as "vit.embeddings.position_embeddings".
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import torch
from safetensors.torch import load_file as load_file
from safetensors.torch import save_file as save_file
from torch import nn

from keras_messi.calibration.observing import Observer, Run, eagerly
from keras_messi.models.huggingface.proxies import (
    as_matrix,
    dense_layer,
    embedding_layer,
    factored_layer,
    is_matrix,
    matrix_layer,
    other_layer,
)
from keras_messi.models.huggingface.torch_modules import (
    INNER,
    Holder,
    change_classes,
    replace_parameter,
    restored,
    told,
)
from keras_messi.models.keras.surgery import NamedLayer

# What the names of classes begin with.
PREFIX = ""
# Between the parts of the name of a weight.
SEPARATOR = "."


def build(model_class: Any, config: Any) -> nn.Module:
    """A new model with random weights, in evaluation mode."""
    return model_class._from_config(config).eval()


def find_layers(model: nn.Module) -> list[NamedLayer]:
    """Proxies of all layers with weights. Shared weights belong to one layer."""
    factored, matrices = _factored_modules(model), _matrices(model)
    seen = {x for holders in matrices.values() for x in _shown(holders[0])}
    places = []
    for path, module in model.named_modules():
        if path in factored:
            places.append(factored_layer(_path_of(path), module))
        if _is_inside(f"{path}.", factored):
            continue
        rest = []
        for name, weight in module.named_parameters(recurse=False):
            holder = Holder(path, module, name)
            holders = matrices.get(holder.layer_path)
            if holders and holders[0] == holder:
                places.append(_proxy(holders))
            elif id(weight) not in seen:
                rest.append(weight)
                seen.add(id(weight))
        if rest:
            places.append(other_layer(path, type(module).__name__, rest))
    return places


def _matrices(model: nn.Module) -> dict[str, list[Holder]]:
    """All holders of each parameter that is a matrix, by the path of its layer."""
    factored = _factored_modules(model)
    holders: dict[int, list[Holder]] = defaultdict(list)
    for path, module in model.named_modules():
        if path in factored or _is_inside(path, factored):
            continue
        for name, weight in module.named_parameters(recurse=False):
            holder = Holder(path, module, name)
            if weight.is_floating_point() and (
                holder.is_layer or is_matrix(weight.shape)
            ):
                holders[id(weight)].append(holder)
    # Tables come first: the layer that takes the place of one serves heads, too.
    ordered = (sorted(x, key=lambda one: not one.is_table) for x in holders.values())
    return {found[0].layer_path: found for found in ordered}


def _shown(holder: Holder) -> set[int]:
    """Parameters that the proxy of a matrix shows, by their ids."""
    bias = holder.module.bias if holder.is_layer and not holder.is_table else None
    return {id(holder.parameter), id(bias)}


def layer_types(model: nn.Module) -> dict[str, type]:
    """Class of each module with weights."""
    return {
        path: type(module)
        for path, module in model.named_modules()
        if list(module.parameters(recurse=False)) or hasattr(module, "replaced")
    }


def _proxy(holders: list[Holder]) -> NamedLayer:
    """A proxy of a matrix, which is held by a first module and maybe by others."""
    first, *others = holders
    path, module = first.layer_path, first.module
    weight, dtype = first.parameter.detach(), _dtype_name(first.parameter)
    if first.is_table:
        obstacle = None if module.max_norm is None else "rescales its rows (max_norm)"
        return embedding_layer(path, weight, dtype, obstacle)
    if not first.is_layer:
        return matrix_layer(path, weight, dtype)
    names = ", ".join(holder.path for holder in others)
    obstacle = f"shares its weights with {names}" if names else None
    bias = None if module.bias is None else module.bias.detach()
    kernel = weight.T if isinstance(module, nn.Linear) else weight
    return dense_layer(path, kernel, bias, dtype, obstacle)


def put(model: nn.Module, layers: Mapping[str, keras.Layer]) -> None:
    """Replace matrices by compressed layers that are not built yet.

    Modules that share a matrix, such as tied heads, share the layer.
    """
    matrices = _matrices(model)
    for path, layer in layers.items():
        layer.build((None, _num_rows(matrices[path][0])))
        replace_parameter(matrices[path], layer)


def _num_rows(holder: Holder) -> int:
    """Number of rows of a matrix as its proxy shows it."""
    if holder.is_layer and isinstance(holder.module, nn.Linear):
        return holder.module.in_features
    return as_matrix(holder.parameter.shape)[0]


@contextmanager
def without_cache(model: nn.Module) -> Iterator[None]:
    """Let a decoder return no keys and values, which are no tensors."""
    # That of an encoder and a decoder has a config of its own.
    configs = [part.config for part in model.modules() if hasattr(part, "config")]
    caching = [x for x in configs if getattr(x, "use_cache", False)]
    for config in caching:
        config.use_cache = False
    try:
        yield
    finally:
        for config in caching:
            config.use_cache = True


@contextmanager
def observe(model: nn.Module, observers: Mapping[str, Observer]) -> Iterator[Run]:
    """Tell observers what layers receive whenever the model is run inside.

    Nothing is known of the inputs of a matrix that is read by code of the model.
    """
    training = [module for module in model.modules() if module.training]
    device, matrices = next(model.parameters()).device, _matrices(model)

    def run(batch: Any) -> Any:
        tensors = keras.tree.map_structure(
            lambda x: torch.tensor(x, device=device), batch
        )
        with eagerly(), without_cache(model):
            if isinstance(tensors, dict):
                return model(**tensors)
            return model(tensors)

    with ExitStack() as stack:
        for path, observer in observers.items():
            for holder in matrices[path]:
                if holder.is_layer and holder.is_table == matrices[path][0].is_table:
                    stack.enter_context(told(holder, observer))
        model.eval()
        try:
            yield run
        finally:
            for module in training:
                module.training = True


@contextmanager
def substitute(model: nn.Module, layers: Mapping[str, keras.Layer]) -> Iterator[None]:
    """Let built layers answer for those of a model whenever it is run inside."""
    matrices = _matrices(model)
    with ExitStack() as stack:
        for path, layer in layers.items():
            stack.enter_context(restored(matrices[path]))
            change_classes(matrices[path], layer)
        yield


def read(weight: Any) -> torch.Tensor:
    """The value of a weight, as it is saved."""
    return torch.as_tensor(getattr(weight, "value", weight)).detach().contiguous()


def write(weight: torch.Tensor, value: torch.Tensor) -> None:
    """Give a weight a copy of a value, with its dtype and device."""
    weight.data = value.clone()


def stock_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers outside of factored layers, each by its first name."""
    factored = _factored_modules(model)
    names: dict[int, str] = {}
    state = model.state_dict(keep_vars=True)
    for name, tensor in state.items():
        if not _is_inside(name, factored):
            names.setdefault(id(tensor), name)
    return {name: state[name] for name in names.values()}


def matrix_names(model: nn.Module) -> dict[str, str]:
    """Names of the stock weights that are matrices, by the paths of their layers."""
    names = {id(tensor): name for name, tensor in stock_weights(model).items()}
    return {path: names[id(x[0].parameter)] for path, x in _matrices(model).items()}


def factored_layers(model: nn.Module) -> dict[str, keras.Layer]:
    """The factored layers of a model by path."""
    return {_path_of(path): layer for path, layer in _factored_modules(model).items()}


def copy_training_state(model: nn.Module, small: nn.Module) -> None:
    """Freeze what is frozen in the other model, and take its mode."""
    # Codes of a quantized layer are never trained, frozen or not.
    frozen = {
        name
        for name, x in model.named_parameters()
        if not x.requires_grad and x.is_floating_point()
    }
    for path, layer in factored_layers(small).items():
        if frozen & {path, f"{path}.weight"}:
            layer.requires_grad_(False)
    for name, tensor in small.named_parameters():
        if name in frozen:
            tensor.requires_grad_(False)
    small.train(model.training)


def _factored_modules(model: nn.Module) -> dict[str, keras.Layer]:
    """The factored layers of a model by their names as modules."""
    modules = model.named_modules()
    return {path: layer for path, layer in modules if isinstance(layer, keras.Layer)}


def _path_of(name: str) -> str:
    """Path of a factored layer of some name."""
    return name.removesuffix(f".{INNER}")


def _is_inside(name: str, factored: Iterable[str]) -> bool:
    """Whether a name is that of something in a factored layer."""
    return any(name.startswith(f"{path}.") for path in factored)


def _dtype_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
