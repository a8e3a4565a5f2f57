"""Models of Hugging Face transformers: TensorFlow and PyTorch ones."""

from keras_messi.huggingface._frameworks import export_writer, framework_of
from keras_messi.huggingface.files import check_target, save
from keras_messi.huggingface.loading import from_pretrained
from keras_messi.huggingface.models import SURGERY

__all__ = [
    "SURGERY",
    "check_target",
    "export_writer",
    "framework_of",
    "from_pretrained",
    "save",
]
