"""Models of Hugging Face transformers: TensorFlow and PyTorch ones."""

from keras_messi.huggingface._frameworks import framework_of
from keras_messi.huggingface.loading import from_pretrained
from keras_messi.huggingface.models import SURGERY

__all__ = ["SURGERY", "framework_of", "from_pretrained"]
