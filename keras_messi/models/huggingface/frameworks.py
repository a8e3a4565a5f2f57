"""Which framework a model of transformers is of, and what must be there for it."""

from importlib import import_module
from types import ModuleType
from typing import Any

import keras

# The base class of the models of each framework in transformers, and what to install.
_BASES = {"TFPreTrainedModel": "tensorflow", "PreTrainedModel": "torch"}
_EXTRAS = {"tensorflow": "hf-tf", "torch": "hf"}


def framework_of(model: Any) -> str | None:
    """Framework of a model of transformers, or None if it is no such model."""
    for base in type(model).__mro__:
        if base.__module__.partition(".")[0] == "transformers":
            framework = _BASES.get(base.__name__)
            if framework:
                return framework
    return None


def adapter_for(framework: str | None) -> ModuleType:
    """The module that knows the models of a framework.

    Raises:
        ValueError: Keras runs on another backend.
        ImportError: A library is missing, or of a version without such models.
    """
    if framework not in _EXTRAS:
        raise ValueError(
            "Models of transformers need Keras on tensorflow or torch: set "
            "KERAS_BACKEND in the environment of the process. Received: backend "
            f"{framework}"
        )
    if framework != keras.backend.backend():
        raise ValueError(
            f"A {framework} model of transformers needs Keras on {framework}: set "
            f"KERAS_BACKEND={framework} in the environment of the process. Received: "
            f"backend {keras.backend.backend()}"
        )
    extra = f'pip install "kprojclust[{_EXTRAS[framework]}]"'
    try:
        import transformers

        if (
            framework == "tensorflow"
            and int(transformers.__version__.split(".")[0]) > 4
        ):
            raise ImportError(
                f"transformers {transformers.__version__} has no TensorFlow models; "
                "the last that reads all files is 4.54"
            )
        return import_module(f"keras_messi.models.huggingface.{framework}")
    except ImportError as error:
        raise ImportError(
            f"For {framework} models of transformers, {extra}: {error}"
        ) from error
