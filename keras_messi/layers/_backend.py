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
    """Cut an axis into stretches of sizes that are known.

    The gradient of as many slices would be as many tensors as large as x, and a sum;
    and ops.split reads the sizes from a tensor, which no export of torch can follow.
    """
    sizes = list(sizes)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.split(x, sizes, axis=axis)
    if keras.backend.backend() == "torch":
        import torch

        return torch.split(ops.convert_to_tensor(x), sizes, dim=axis)
    return ops.split(x, [stop for _, stop in spans(sizes)][:-1], axis=axis)


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


def take_rows(x: Tensor, rows: Tensor) -> Tensor:
    """Rows of x that are known to be there."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # ops.take would look for negative numbers first.
        return tf.gather(ops.convert_to_tensor(x), rows)
    return ops.take(x, rows, axis=0)


def repeat_rows(rows: Tensor, places: Tensor) -> Tensor:
    """Rows at the given places, among which each row is at least once."""
    if keras.backend.backend() != "tensorflow":
        return take_rows(rows, places)
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
