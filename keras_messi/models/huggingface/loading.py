"""Models of transformers from folders, compressed or not."""

import os
from types import ModuleType
from typing import Any

import keras

from keras_messi.models.huggingface import folders
from keras_messi.models.huggingface.frameworks import adapter_for
from keras_messi.models.huggingface.models import assemble


def from_pretrained(folder: str | os.PathLike[str]) -> Any:
    """Load a model of transformers from a folder, compressed or not.

    The class is the one that the folder names under `architectures`, with TensorFlow or
    PyTorch weights as the backend of Keras has it.

    Args:
        folder: What `save_pretrained` wrote.

    Returns:
        The model. A PyTorch model is in evaluation mode, as transformers loads it.

    Raises:
        FileNotFoundError: There is no such folder, or no config.json in it.
        ValueError: The architecture is unknown, weights are missing or damaged, or
            Keras runs on a backend that the model is not for.
        ImportError: transformers is missing, or has no models of the framework.

    Example:

    ```python
    small, report = keras_messi.compress(model, keras_messi.MessiConfig(rate=0.5))
    small.save_pretrained("small")
    small = keras_messi.huggingface.from_pretrained("small")
    ```
    """
    entries = folders.read_config(folder)
    recipe = entries.get("messi")
    framework = recipe["framework"] if recipe else keras.backend.backend()
    adapter = adapter_for(framework)
    model_class = _model_class(folder, entries, adapter)
    if recipe is None:
        return _load_plain(folder, model_class, adapter)
    config = model_class.config_class.from_pretrained(folder)
    tensors = folders.read_weights(folder, adapter.load_file)
    try:
        return assemble(adapter, model_class, config, tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"`folder` holds a model that can't be rebuilt: {folder}. {error}"
        ) from error


def _model_class(folder: Any, entries: dict[str, Any], adapter: ModuleType) -> Any:
    """The class of transformers that a folder names."""
    import transformers

    architectures = entries.get("architectures") or ["AutoModel"]
    model_class = getattr(transformers, adapter.PREFIX + architectures[0], None)
    if model_class is None:
        raise ValueError(
            f"`folder` must hold a model that transformers {transformers.__version__} "
            f"has a class {adapter.PREFIX + architectures[0]} for. Received: {folder}, "
            f"with architectures={architectures}"
        )
    return model_class


def _load_plain(folder: Any, model_class: Any, adapter: ModuleType) -> Any:
    try:
        model, found = model_class.from_pretrained(folder, output_loading_info=True)
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(
            f"`folder` holds no model that transformers can load: {folder}. {error}"
        ) from error
    # Names of weights or of layers, with layers that have none among them.
    missing = sorted(name.removesuffix(":0") for name in found["missing_keys"])
    names = adapter.stock_weights(model)
    missing = [part for part in missing if any(part in name for name in names)]
    if missing:
        raise ValueError(
            f"`folder` must hold all weights of a {type(model).__name__}. Received: "
            f"{folder}, without {missing}"
        )
    return model
