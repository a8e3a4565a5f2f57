"""Backbones of keras-hub: small ones of each architecture, with random weights."""

from typing import Any

import keras_hub.models as hub
import numpy as np

VOCABULARY, WIDTH, LENGTH = 640, 96, 12
ENCODER = {
    "vocabulary_size": VOCABULARY,
    "num_layers": 2,
    "num_heads": 4,
    "hidden_dim": WIDTH,
    "intermediate_dim": 4 * WIDTH,
    "max_sequence_length": LENGTH,
}
# Of models without a table of positions.
DECODER = {
    "vocabulary_size": VOCABULARY,
    "num_layers": 2,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": WIDTH,
    "intermediate_dim": 4 * WIDTH,
}


def tokens(prefix: str = "", segments: bool = False) -> dict[str, np.ndarray]:
    """Ids and a mask, under the names of keras-hub."""
    ids = np.random.default_rng(0).integers(1, VOCABULARY, (4, LENGTH)).astype("int32")
    found = {
        f"{prefix}token_ids": ids,
        f"{prefix}padding_mask": np.ones_like(ids),
    }
    return found | ({"segment_ids": 0 * ids} if segments else {})


def images(size: int) -> np.ndarray:
    """Four images of random numbers."""
    return np.random.default_rng(0).standard_normal((4, size, size, 3)).astype("f4")


def whisper() -> tuple[Any, Any]:
    """Whisper: an encoder of spectra and a decoder of tokens."""
    sizes = {
        **ENCODER,
        "max_encoder_sequence_length": 2 * LENGTH,
        "max_decoder_sequence_length": LENGTH,
    }
    del sizes["max_sequence_length"]
    spectra = np.random.default_rng(0).standard_normal((4, 2 * LENGTH, 80))
    features = {"encoder_features": spectra.astype("f4")}
    return hub.WhisperBackbone(**sizes), features | tokens("decoder_")


def clip() -> tuple[Any, Any]:
    """CLIP: an encoder of images and one of text."""
    vision = hub.CLIPVisionEncoder(
        patch_size=8,
        hidden_dim=WIDTH,
        num_layers=2,
        num_heads=4,
        intermediate_dim=4 * WIDTH,
        image_shape=(16, 16, 3),
    )
    text = hub.CLIPTextEncoder(
        vocabulary_size=VOCABULARY,
        embedding_dim=WIDTH,
        hidden_dim=WIDTH,
        num_layers=2,
        num_heads=4,
        intermediate_dim=4 * WIDTH,
        max_sequence_length=LENGTH,
    )
    model = hub.CLIPBackbone(vision, text, projection_dim=WIDTH)
    return model, {"images": images(16), "token_ids": tokens()["token_ids"]}


def vit() -> tuple[Any, Any]:
    """ViT: an encoder of patches of images."""
    model = hub.ViTBackbone((16, 16, 3), 4, 2, 4, WIDTH, 4 * WIDTH)
    return model, images(16)


FORMATS = ("onnx", "litert")
NETWORKS = {
    "BERT": lambda: (hub.BertBackbone(**ENCODER), tokens(segments=True)),
    "DistilBERT": lambda: (hub.DistilBertBackbone(**ENCODER), tokens()),
    "RoBERTa": lambda: (hub.RobertaBackbone(**ENCODER), tokens()),
    "ALBERT": lambda: (
        hub.AlbertBackbone(**ENCODER, embedding_dim=48),
        tokens(segments=True),
    ),
    "DeBERTaV3": lambda: (
        hub.DebertaV3Backbone(**ENCODER, bucket_size=8),
        tokens(),
    ),
    "T5": lambda: (
        hub.T5Backbone(VOCABULARY, 2, 4, WIDTH, 4 * WIDTH),
        tokens("encoder_") | tokens("decoder_"),
    ),
    "BART": lambda: (
        hub.BartBackbone(**ENCODER),
        tokens("encoder_") | tokens("decoder_"),
    ),
    "GPT-2": lambda: (hub.GPT2Backbone(**ENCODER), tokens()),
    "Gemma": lambda: (hub.GemmaBackbone(**DECODER, head_dim=24), tokens()),
    "Llama": lambda: (hub.LlamaBackbone(**DECODER), tokens()),
    "Mistral": lambda: (hub.MistralBackbone(**DECODER), tokens()),
    "Whisper": whisper,
    "ViT": vit,
    "CLIP": clip,
}
