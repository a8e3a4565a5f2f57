"""Networks of keras.applications, with random weights, on small images."""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import applications


def _network(make: Callable[..., keras.Model], size: int, **options: Any) -> Any:
    model = make(weights=None, input_shape=(size, size, 3), classes=10, **options)
    # Noise of each pixel by itself averages out: to a deep network with random weights,
    # such images are all alike.
    patches = np.random.default_rng(0).uniform(0, 255, (4, 2, 2, 3))
    images = patches.repeat(size // 2 + 1, 1).repeat(size // 2 + 1, 2)
    return model, images[:, :size, :size].astype("float32")


FORMATS = ("onnx", "litert")
NETWORKS = {
    "MobileNetV2": partial(_network, applications.MobileNetV2, 32, alpha=0.35),
    "MobileNetV3Small": partial(_network, applications.MobileNetV3Small, 32),
    "EfficientNetB0": partial(_network, applications.EfficientNetB0, 32),
    "ResNet50": partial(_network, applications.ResNet50, 32),
    # Without its dense layers of 4096 units, which are reached as any are.
    "VGG19": partial(
        _network, applications.VGG19, 32, include_top=False, pooling="avg"
    ),
    "DenseNet121": partial(_network, applications.DenseNet121, 32),
    "ConvNeXtTiny": partial(_network, applications.ConvNeXtTiny, 32),
    "InceptionV3": partial(_network, applications.InceptionV3, 75),
    "Xception": partial(_network, applications.Xception, 71),
}
