"""Export the PyTorch models of transformers."""

import inspect
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers

# Inputs of a text model, those of them that it takes; sequences may have any length.
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_AXES = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}


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
        with warnings.catch_warnings(), torch.no_grad():
            # Two inputs have one length, and one name of it is enough.
            warnings.filterwarnings("ignore", ".*axis name: .* will not be used")
            outputs = list(model(**inputs))
            torch.onnx.export(
                model,
                (),
                path,
                kwargs=inputs,
                output_names=outputs,
                dynamic_shapes=dict.fromkeys(inputs, _AXES),
                dynamo=True,
                external_data=False,
                verbose=False,
                **options,
            )
    finally:
        model.train(was_training)
