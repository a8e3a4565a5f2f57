"""Export models to files that run without Keras."""

import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import keras

from keras_messi.exporting.float_twins import float_twin
from keras_messi.exporting.forecast import warn_if_grown
from keras_messi.exporting.litert.messages import explained
from keras_messi.exporting.onnx.tf2onnx_ops import complete_tf2onnx
from keras_messi.files import (
    check_target,
    check_target_folder,
    folder_replaced_atomically,
    replaced_atomically,
)
from keras_messi.layers import static_lookup
from keras_messi.layers._checks import check_choice
from keras_messi.models import huggingface
from keras_messi.models.keras._keras_internals import graph_inputs, is_graph

# Formats by the names that Keras gives them, and how their files end.
_SUFFIXES = {"tf_saved_model": "", "litert": ".tflite", "onnx": ".onnx"}

# Formats whose files are written in floats first, and what then makes them smaller.
_FROM_FLOATS = {
    "litert": "keras_messi.exporting.litert.export",
    "onnx": "keras_messi.exporting.onnx.export",
}


def export(
    model: keras.Model,
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    overwrite: bool = False,
    activations: str = "int8",
    tables: str = "auto",
    **options: Any,
) -> None:
    """Export a model for inference, to a file that runs without Keras.

    Does what `model.export()` of Keras does, with the look-ups of embeddings written in
    the operations that each format has: a `MessiEmbedding` switches to its `"wide"`
    path while the model is traced, and back. The file is complete before it takes its
    place.

    A LiteRT or ONNX file is about as small as what `save_model` writes: it holds the
    integers, factors and codes of the model, though no entropy code, in built-in
    operations of LiteRT or standard operators of ONNX, for ONNX Runtime 1.16 or later.
    It is run on random inputs once it is written, and must give the outputs of the
    model.

    Args:
        model: A model of Keras or of Hugging Face transformers, compressed or not. A
            PyTorch model of transformers is exported to ONNX only.
        path: The file to write, which must end in ".tflite" for LiteRT and in ".onnx"
            for ONNX; for a SavedModel the folder.
        format: `"tf_saved_model"`, `"litert"` or `"onnx"`, by default the one that the
            path ends as.
        overwrite: Whether an existing file or folder may be replaced.
        activations: How such a file multiplies by matrices of integers. With
            `"int8"`, activations are rounded to 8 bits, each token by itself, and
            products are of integers: about twice as fast, and an output changes by some
            percent of its size. With `"float32"`, integers are decoded to floats when
            the file is loaded: the answers are those of the model, and memory and time
            those of the uncompressed one. ONNX decodes small matrices either way.
        tables: How an ONNX file looks up rows. With `"stored"`, they are read from
            integers, factors or codes each. With `"decoded"`, tables are decoded to
            floats when the file is loaded: look-ups are as fast as in the uncompressed
            model, loading takes longer, and memory is that of the uncompressed table.
            `"auto"` decodes tables of up to 8 MiB in floats. LiteRT stores all.
        **options: Passed on to Keras's `model.export()`, such as `input_signature`. A
            model of transformers has its own; they go to the converter.

    Raises:
        ValueError: The format is unknown, does not fit the path or the backend, or has
            no operation for a layer of the model; or a file computes something else
            than the model, and was removed again.
        FileExistsError: The path exists and `overwrite` is False.
        OSError: There is no room for the file, or no right to write it.
        ImportError: A package is missing that the format needs.
    """
    if format is None:
        format = _format_of(Path(path))
    if format not in _SUFFIXES:
        raise ValueError(
            f"`format` must be one of {list(_SUFFIXES)}. Received: format={format!r}"
        )
    check_choice("activations", activations, ("int8", "float32"))
    check_choice("tables", tables, ("auto", "stored", "decoded"))
    write = _writer_for(model)
    target = _target(path, _SUFFIXES[format], overwrite)
    with target as partial, static_lookup(), _in_our_words(format):
        if format not in _FROM_FLOATS:
            write(model, partial, format, options)
            return
        last_steps = import_module(_FROM_FLOATS[format])
        twin = float_twin(model)
        write(twin.model, partial, format, options)
        last_steps.finish(partial, model, twin, activations, tables)
        warn_if_grown(partial.stat().st_size, model, format)


def _format_of(path: Path) -> str:
    for format, suffix in _SUFFIXES.items():
        if path.suffix == suffix:
            return format
    raise ValueError(
        '`format` must be given unless the path ends in ".tflite" or ".onnx", or has '
        f"no suffix, for the folder of a SavedModel. Received: {path}"
    )


def _writer_for(model: Any) -> Callable[[Any, Path, str, dict[str, Any]], None]:
    framework = huggingface.framework_of(model)
    if framework is None:
        return _write_keras
    huggingface.adapter_for(framework)  # says which library is missing
    return import_module(f"keras_messi.exporting.transformers.{framework}").write


def _target(
    path: str | os.PathLike[str], suffix: str, overwrite: bool
) -> AbstractContextManager[Path]:
    if suffix:
        return replaced_atomically(check_target(path, suffix, overwrite=overwrite))
    mark = "saved_model.pb"
    return folder_replaced_atomically(
        check_target_folder(path, mark, overwrite=overwrite)
    )


def _write_keras(
    model: keras.Model, path: Path, format: str, options: dict[str, Any]
) -> None:
    _call_once(model)
    if keras.backend.backend() == "tensorflow":
        if format == "tf_saved_model":
            archive = import_module("keras_messi.exporting.saved_model")
            return archive.write(model, path, **options)
        if format == "litert":
            options = {"target_spec": _BUILTIN_OPERATIONS, **options}
    return model.export(str(path), format=format, verbose=False, **options)


# As LiteRT's OpsSet.TFLITE_BUILTINS spells it.
_BUILTIN_OPERATIONS = {"supported_ops": ["TFLITE_BUILTINS"]}


def _call_once(model: keras.Model) -> None:
    """Call a model whose inputs are known, because Keras exports no uncalled one."""
    if is_graph(model):
        inputs = keras.tree.map_structure(_zeros_like, graph_inputs(model))
        model(inputs, training=False)


def _zeros_like(tensor: keras.KerasTensor) -> Any:
    return keras.ops.zeros([side or 1 for side in tensor.shape], tensor.dtype)


def _about_keras() -> list[type[Warning]]:
    """Warnings about how Keras calls other packages, not about the model."""
    if keras.backend.backend() != "torch":
        return [DeprecationWarning, FutureWarning]
    import torch

    return [DeprecationWarning, FutureWarning, torch.jit.TracerWarning]


_NO_ROOM = "No space left on device|File too large|Disk quota exceeded"


@contextmanager
def _in_our_words(format: str) -> Iterator[None]:
    """Say which package or operation is missing."""
    try:
        with warnings.catch_warnings():
            for category in _about_keras():
                warnings.simplefilter("ignore", category)
            if format == "onnx" and keras.backend.backend() != "torch":
                complete_tf2onnx()
            yield
    except ImportError as error:
        raise ImportError(
            f'format="{format}" needs a package that is not installed '
            f'({error}). Install it with: pip install "kprojclust[export]"'
        ) from error
    except Exception as error:
        full = re.search(_NO_ROOM, str(error))
        if full and not isinstance(error, OSError):  # TensorFlow has errors of its own
            raise OSError(f"the file could not be written: {full[0]}") from error
        explanation = explained(str(error))
        if explanation is None:
            raise
        raise ValueError(explanation) from error
