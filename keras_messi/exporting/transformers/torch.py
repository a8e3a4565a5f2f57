"""Export the PyTorch models of transformers."""

import inspect
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers

from keras_messi.models.huggingface.torch import without_cache

# Inputs of a text model, those of them that it takes, and what their length is called.
_INPUTS = {
    "input_ids": "sequence",
    "attention_mask": "sequence",
    "token_type_ids": "sequence",
    "decoder_input_ids": "decoder_sequence",
}


def _axes(length: str) -> dict[int, Any]:
    """Axes of any size, by what they are called."""
    return {0: torch.export.Dim("batch"), 1: torch.export.Dim(length)}


def write(
    model: transformers.PreTrainedModel,
    path: Path,
    format: str,
    options: dict[str, Any],
) -> None:
    """Write a model as a function of its own inputs, in a format of `export`."""
    if format != "onnx":
        raise ValueError(
            'a PyTorch model of transformers is exported with format="onnx". '
            f"Received: format={format!r}"
        )
    taken = inspect.signature(model.forward).parameters
    inputs = {
        # A tensor each: one that comes in twice would be one input.
        name: torch.ones((2, 8), dtype=torch.long, device=model.device)
        for name in _INPUTS
        if name in taken
    }
    was_training = model.training
    model.eval()
    try:
        with warnings.catch_warnings(), torch.no_grad(), without_cache(model):
            # Two inputs have one length, and one name of it is enough.
            warnings.filterwarnings("ignore", ".*axis name: .* will not be used")
            outputs = list(model(**inputs))
            torch.onnx.export(
                model,
                (),
                path,
                kwargs=inputs,
                output_names=outputs,
                dynamic_shapes={name: _axes(_INPUTS[name]) for name in inputs},
                dynamo=True,
                external_data=False,
                verbose=False,
                **options,
            )
    finally:
        model.train(was_training)
