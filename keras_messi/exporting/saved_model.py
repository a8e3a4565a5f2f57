"""SavedModels of Keras models on TensorFlow, which hold each weight once."""

from pathlib import Path
from typing import Any

import keras

from keras_messi.models.keras._keras_internals import (
    archive_of_calls,
    input_signature_of,
)


def write(
    model: keras.Model, path: Path, input_signature: Any = None, **options: Any
) -> None:
    """Write what `model.export()` writes, in half of its bytes."""
    archive = archive_of_calls()
    signature = input_signature or input_signature_of(model)
    archive.track_and_add_endpoint("serve", model, signature, **options)
    archive.write_out(str(path), verbose=False)
