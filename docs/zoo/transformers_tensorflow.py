"""Small TensorFlow models of transformers, with random weights."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import transformers

from keras_messi.models.huggingface.inputs import random_inputs

_NUM_INPUTS = 4

# Positions are few, as their tables are small in a model of the usual size.
_BERT = {
    "vocab_size": 500,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "max_position_embeddings": 24,
}
_DISTILBERT = {
    **{"vocab_size": 500, "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 256},
    "max_position_embeddings": 24,
}
_GPT2 = {
    **{"vocab_size": 500, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 24},
    **{"bos_token_id": 1, "eos_token_id": 2},
}
_T5 = {
    **{"vocab_size": 500, "d_model": 64, "d_kv": 16, "d_ff": 256, "num_heads": 4},
    **{"num_layers": 2, "relative_attention_num_buckets": 8},
}
_BART = {
    **{"vocab_size": 500, "d_model": 64, "encoder_layers": 2, "decoder_layers": 2},
    **{"encoder_attention_heads": 4, "decoder_attention_heads": 4},
    **{"encoder_ffn_dim": 256, "decoder_ffn_dim": 256, "max_position_embeddings": 24},
}
_XLNET = {
    **{"vocab_size": 500, "d_model": 64, "n_layer": 2, "n_head": 4, "d_inner": 256},
    "d_head": 16,
}
_MOBILEBERT = {
    **_BERT,
    **{"embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32},
    "num_feedforward_networks": 2,
}

# The class of each model and the arguments of its config.
_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "BERT": ("BertForMaskedLM", _BERT),
    "RoBERTa": ("RobertaForMaskedLM", _BERT),
    "XLM-R": ("XLMRobertaForMaskedLM", _BERT),
    "DistilBERT": ("DistilBertForMaskedLM", _DISTILBERT),
    "ALBERT": ("AlbertForMaskedLM", {**_BERT, "embedding_size": 32}),
    "ELECTRA": ("ElectraForMaskedLM", {**_BERT, "embedding_size": 32}),
    "MPNet": ("MPNetForMaskedLM", {**_BERT, "relative_attention_num_buckets": 32}),
    "MobileBERT": ("MobileBertForMaskedLM", _MOBILEBERT),
    "Longformer": ("LongformerForMaskedLM", {**_BERT, "attention_window": 8}),
    "DeBERTa": ("DebertaForMaskedLM", {**_BERT, "relative_attention": True}),
    "XLNet": ("XLNetLMHeadModel", _XLNET),
    "GPT-2": ("GPT2LMHeadModel", _GPT2),
    "T5": ("T5ForConditionalGeneration", _T5),
    "BART": ("BartForConditionalGeneration", {**_BART, "scale_embedding": True}),
}


def _build(class_name: str, sizes: dict[str, Any]) -> tuple[Any, dict[str, np.ndarray]]:
    model_class = getattr(transformers, f"TF{class_name}")
    model = model_class(model_class.config_class(**sizes))
    model.build_in_name_scope()
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:  # biases and positions may be zeros
        weight.assign_add(0.05 * rng.standard_normal(weight.shape))
    return model, random_inputs(model, _NUM_INPUTS)


NETWORKS: dict[str, Callable[[], tuple[Any, dict[str, np.ndarray]]]] = {
    name: partial(_build, *model) for name, model in _MODELS.items()
}
FORMATS = ("litert", "onnx")
