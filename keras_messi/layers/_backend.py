"""Operations that the layers need and `keras.ops` has no fast form of."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import keras
from keras import ops

Tensor = Any


def spans(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Start and stop of consecutive stretches of the given sizes."""
    return list(pairwise(accumulate(sizes, initial=0)))


def split(x: Tensor, sizes: Sequence[int], axis: int = 0) -> list[Tensor]:
    """Cut the first or the last axis into stretches of sizes that are known."""
    if len(sizes) == 1:
        return [x]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # The gradient of k slices would be k tensors as large as x, and their sum.
        return tf.split(x, sizes, axis=axis)
    # ops.split reads sizes from a tensor, which no export of torch can follow.
    if axis == 0:
        return [x[start:stop] for start, stop in spans(sizes)]
    return [x[..., start:stop] for start, stop in spans(sizes)]


def transposed_matmul(a: Tensor, b: Tensor) -> Tensor:
    """Product of the transpose of a and b, both of two axes."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Eagerly, and in gradients, TensorFlow would write a transpose out.
        return tf.matmul(a, b, transpose_a=True)
    return ops.matmul(ops.transpose(a), b)


def sorted_unique(values: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct integers in order, and the place of each value among them.

    TensorFlow and torch only: the shape of the result depends on the values.
    """
    if keras.backend.backend() == "torch":
        import torch

        return torch.unique(values, return_inverse=True)
    import tensorflow as tf

    distinct, places = tf.unique(values)
    order = tf.argsort(distinct)
    ranks = tf.math.invert_permutation(order)
    return tf.gather(distinct, order), tf.gather(ranks, places)


def repeat_rows(rows: Tensor, places: Tensor) -> Tensor:
    """Rows at the given places, among which each row is at least once."""
    if keras.backend.backend() != "tensorflow":
        return ops.take(rows, places, axis=0)
    import tensorflow as tf

    @tf.custom_gradient
    def gather(rows: Tensor) -> tuple[Tensor, Any]:
        def gradient(upstream: Tensor) -> Tensor:
            # TensorFlow sums faster into rows that come in order.
            order = tf.argsort(places)
            return tf.math.segment_sum(
                tf.gather(upstream, order), tf.gather(places, order)
            )

        return tf.gather(rows, places), gradient

    return gather(rows)
