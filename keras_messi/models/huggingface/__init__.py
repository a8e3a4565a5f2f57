"""Models of Hugging Face transformers: TensorFlow and PyTorch ones."""

from keras_messi.models.huggingface.files import check_target, save
from keras_messi.models.huggingface.frameworks import adapter_for, framework_of
from keras_messi.models.huggingface.loading import from_pretrained
from keras_messi.models.huggingface.models import CompressedModel

__all__ = [
    "CompressedModel",
    "adapter_for",
    "check_target",
    "framework_of",
    "from_pretrained",
    "save",
]
