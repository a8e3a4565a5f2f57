"""Export the PyTorch models of transformers."""

import inspect
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers

from keras_messi.models.huggingface.inputs import random_inputs
from keras_messi.models.huggingface.torch import without_cache

# Inputs of tokens, and what their length is called.
_LENGTHS = {
    "input_ids": "sequence",
    "attention_mask": "sequence",
    "token_type_ids": "sequence",
    "decoder_input_ids": "decoder_sequence",
}


def _inputs(model: transformers.PreTrainedModel) -> dict[str, torch.Tensor]:
    """A tensor for each input: one that comes in twice would be one input."""
    drawn = random_inputs(model, 2)
    taken = set(inspect.signature(model.forward).parameters)
    if "input_ids" not in drawn:
        taken.discard("attention_mask")  # of pictures or spectra
    tokens = {
        name: torch.ones((2, 8), dtype=torch.long) for name in _LENGTHS if name in taken
    }
    others = {
        name: torch.from_numpy(x) for name, x in drawn.items() if name not in _LENGTHS
    }
    return {name: x.to(model.device) for name, x in {**tokens, **others}.items()}


def _axes(name: str) -> dict[int, Any]:
    """Axes of any size, by what they are called."""
    batch = {0: torch.export.Dim("batch")}
    if name not in _LENGTHS:
        return batch
    return {**batch, 1: torch.export.Dim(_LENGTHS[name])}


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
    inputs = _inputs(model)
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
                dynamic_shapes={name: _axes(name) for name in inputs},
                dynamo=True,
                external_data=False,
                verbose=False,
                **options,
            )
    finally:
        model.train(was_training)
