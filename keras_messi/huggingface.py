"""Models of Hugging Face transformers, in TensorFlow and PyTorch, from folders."""

from keras_messi.models.huggingface import CompressedModel, from_pretrained

__all__ = ["CompressedModel", "from_pretrained"]
