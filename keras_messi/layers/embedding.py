"""Embedding layers: rows of a stored table, and products with it for tied logits."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, ClassVar

import keras
from keras import ops

from keras_messi._keras_internals import set_mask
from keras_messi.layers._checks import check_positive
from keras_messi.layers.storage.base import Storage
from keras_messi.layers.storage.codewords.codebooks import Codebooks
from keras_messi.layers.storage.codewords.coded_factors import CodedFactors
from keras_messi.layers.storage.factors import Factors
from keras_messi.layers.storage.few_bits.rounded import Rounded
from keras_messi.layers.storage.few_bits.rounded_factors import RoundedFactors
from keras_messi.layers.storage.lookup import is_static
from keras_messi.layers.stored_matrix import StoredMatrix


class StoredEmbedding(StoredMatrix):
    """Looks up rows of a stored table, or in reverse multiplies by its transpose."""

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        mask_zero: bool = False,
        reverse_dtype: str | None = None,
        logit_soft_cap: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive("input_dim", input_dim)
        check_positive("output_dim", output_dim)
        self.input_dim = int(input_dim)
        self.output_dim = int(output_dim)
        self.mask_zero = mask_zero
        self.supports_masking = mask_zero
        self.reverse_dtype = reverse_dtype
        self.logit_soft_cap = logit_soft_cap
        # Rows are gathered first and cast after: autocast would cast the whole table.
        self.autocast = False

    def build(self, input_shape: Sequence[int | None] | None = None) -> None:
        if self.built:  # layers around an embedding build it, whether it is or not
            return
        self._add_weights(self.input_dim)
        self.built: bool = True

    def _add_weights(self, n: int) -> None:
        self.storage.build(self.add_weight, (n, self.output_dim), by_rows=True)

    def call(self, inputs: Any, reverse: bool = False) -> Any:
        if reverse:
            return self._logits(inputs)
        tokens = inputs
        if keras.backend.standardize_dtype(inputs.dtype) not in ("int32", "int64"):
            tokens = ops.cast(inputs, "int32")
        rows = self.storage.rows(tokens, self.compute_dtype, self._is_static())
        if self.mask_zero and not _are_integers(inputs):
            set_mask(rows, ops.not_equal(inputs, 0))
        return rows  # (..., output_dim)

    def _is_static(self) -> bool:
        return is_static()

    def _logits(self, hidden: Any) -> Any:
        """Hidden states times the transposed table."""
        dtype = self._logits_dtype
        states = ops.cast(ops.reshape(hidden, (-1, self.output_dim)), dtype)
        x = self.storage.multiply_transposed(states, dtype)
        x = ops.reshape(x, (*ops.shape(hidden)[:-1], self.input_dim))
        if self.logit_soft_cap is not None:
            x = ops.tanh(x / self.logit_soft_cap) * self.logit_soft_cap
        return x

    @property
    def embeddings(self) -> Any:
        """The dense table `(input_dim, output_dim)`, multiplied out; read-only."""
        return self.storage.matrix(self.variable_dtype)

    lora_embeddings_a = property(attrgetter("storage.a"), doc="`a` of `enable_lora`.")
    lora_embeddings_b = property(attrgetter("storage.b"), doc="`b` of `enable_lora`.")

    @property
    def _logits_dtype(self) -> str:
        return self.reverse_dtype or self.compute_dtype

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        # Floats may be hidden states of a call in reverse: call() marks other floats.
        if not self.mask_zero or not _are_integers(inputs):
            return None
        return ops.not_equal(inputs, 0)

    def compute_output_shape(
        self, input_shape: Sequence[int | None], reverse: bool = False
    ) -> tuple[int | None, ...]:
        if reverse:
            return (*input_shape[:-1], self.input_dim)
        return (*input_shape, self.output_dim)

    def compute_output_spec(self, inputs: Any, reverse: bool = False) -> Any:
        shape = self.compute_output_shape(inputs.shape, reverse)
        dtype = self._logits_dtype if reverse else self.compute_dtype
        return keras.KerasTensor(shape, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "mask_zero": self.mask_zero,
            "reverse_dtype": self.reverse_dtype,
            "logit_soft_cap": self.logit_soft_cap,
        }


@keras.saving.register_keras_serializable(package="keras_messi")
class MessiEmbedding(StoredEmbedding):
    """Embedding layer whose rows lie on k subspaces.

    The vector of token t, in cluster c, is `U_c[position of t in c] @ V_c`, where
    `U_c`, of shape `(n_c, j_c)`, holds coordinates and `V_c`, of shape
    `(j_c, output_dim)`, is the basis of the subspace of cluster c. With one cluster it
    is the factorization by singular value decomposition.

    It stores `sum_c j_c (n_c + output_dim)` numbers and one cluster id per token. On
    TensorFlow and torch a look-up multiplies `j_c * output_dim` times for each
    distinct token of cluster c. On JAX, under XLA and in every export, shapes must not
    depend on the tokens, and it multiplies `output_dim * sum_c j_c` times per token.

    Called with `reverse=True` it turns hidden states into logits over the vocabulary,
    tied to the same factors, in fewer products than the full table takes.

    Args:
        input_dim: Positive integer, size of the vocabulary.
        output_dim: Positive integer, dimension of the embedding.
        num_clusters: Positive integer, number of clusters k.
        rank: Rank j of every cluster, or a list of one rank per cluster.
        cluster_sizes: List of k integers, number of tokens in each cluster. By default
            the tokens are spread evenly.
        mask_zero: Whether the input value 0 is padding that should be masked out.
        lookup: `"auto"`, or `"wide"` for shapes that don't depend on the tokens: XLA
            (`jit_compile=True`) on TensorFlow needs that. See also
            `keras_messi.layers.static_lookup`.
        reverse_dtype: Dtype of the logits, by default the compute dtype.
        logit_soft_cap: If given, logits are
            `tanh(logits / logit_soft_cap) * logit_soft_cap`.
        coordinates_initializer: Initializer for the coordinates `U_c`.
        bases_initializer: Initializer for the bases `V_c`.
        factors_regularizer: Regularizer applied to each `U_c` and to all `V_c`.
        quantization: None, `"int8"` or `"int4"`: whether the factors are stored as
            integers of 8 or 4 bits with a scale for each row, and not trainable. See
            also `layer.quantize(mode)` and `layer.dequantize()`.
        lora_rank: If given, LoRA is enabled with that rank when the layer is built. See
            also `layer.enable_lora(rank)`.
        lora_alpha: The LoRA weights count `lora_alpha / lora_rank` times, by default
            once.

    Call arguments:
        inputs: Token ids, or hidden states if `reverse`.
        reverse: Whether to compute logits from hidden states.

    Input shape:
        Integers of shape `(batch_size, ...)`; in reverse numbers of shape
        `(batch_size, ..., output_dim)`.

    Output shape:
        `(batch_size, ..., output_dim)`; in reverse `(batch_size, ..., input_dim)`.

    An id out of range does what it does in `keras.layers.Embedding`: an error on
    TensorFlow (CPU) and torch, NaN on JAX, and ids from `-input_dim` on count from the
    end of the vocabulary.

    Example:

    >>> import keras_messi, math, numpy as np
    >>> layer = keras_messi.layers.MessiEmbedding(20, 10, num_clusters=2, rank=3)
    >>> layer(np.array([[0, 19, 5]])).shape == (1, 3, 10)
    True
    >>> sum(math.prod(w.shape) for w in layer.trainable_weights)  # 3 (20 + 2 * 10)
    120
    >>> layer(np.ones((1, 3, 10)), reverse=True).shape == (1, 3, 20)
    True

    Reference:
        - [Maalouf et al., 2021](https://arxiv.org/abs/2010.04290), Section 2,
          steps 4 and 5 of the pipeline, and Figure 3.
    """

    storage_class: ClassVar[type[Storage]] = Factors

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        num_clusters: int,
        rank: int | Sequence[int],
        cluster_sizes: Sequence[int] | None = None,
        mask_zero: bool = False,
        lookup: str = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            input_dim=input_dim,
            output_dim=output_dim,
            num_clusters=num_clusters,
            rank=rank,
            cluster_sizes=cluster_sizes,
            mask_zero=mask_zero,
            **kwargs,
        )
        if lookup not in ("auto", "wide"):
            raise ValueError(
                f'`lookup` must be "auto" or "wide". Received: lookup={lookup!r}'
            )
        self.lookup = lookup
        if keras.backend.backend() == "tensorflow" and lookup == "auto":
            # Keeps jit_compile="auto" off: XLA can't compile shapes that it can't know.
            self.supports_jit = self.num_clusters == 1

    def _is_static(self) -> bool:
        return self.lookup == "wide" or super()._is_static()

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "lookup": self.lookup}


@keras.saving.register_keras_serializable(package="keras_messi")
class PQEmbedding(StoredEmbedding):
    """Embedding layer whose rows are codewords, one after another.

    The vector of token t is cut into `output_dim / block_size` blocks. Each is the
    codeword that its code says, in the codebook of that block.

    It stores `num_codebooks * num_codewords * block_size` numbers and a code of
    `ceil(log2(num_codewords))` bits for each block of each token. A look-up gathers the
    codes of the tokens and the codewords of the codes, and multiplies nothing. Training
    moves the codebooks, each codeword by the mean of the gradients of the blocks that
    use it, and leaves the codes.

    Called with `reverse=True` it turns hidden states into logits over the vocabulary,
    tied to the same codebooks.

    Args:
        input_dim: Positive integer, size of the vocabulary.
        output_dim: Positive integer, dimension of the embedding.
        block_size: Positive integer, a divisor of `output_dim`: numbers in a codeword.
        num_codewords: Positive integer up to 65,536, codewords in each codebook.
        num_codebooks: Positive integer, a divisor of the number of blocks: 1 for one
            codebook that all blocks share, as many as blocks for one each, or any
            number in between, for as many groups of consecutive blocks.
        mask_zero: Whether the input value 0 is padding that should be masked out.
        codebooks_initializer: Initializer for the codebooks.
        codebooks_regularizer: Regularizer applied to the codebooks.
        **kwargs: `reverse_dtype`, dtype of the logits, by default the compute dtype;
            `logit_soft_cap`, for logits that are
            `tanh(logits / logit_soft_cap) * logit_soft_cap`; `lora_rank` and
            `lora_alpha`, as `keras.layers.Embedding` has them; and what every layer
            takes, such as `name` and `dtype`.

    Input shape:
        Ids `(batch_size, ...)`; in reverse numbers `(batch_size, ..., output_dim)`.

    Output shape:
        `(batch_size, ..., output_dim)`; in reverse `(batch_size, ..., input_dim)`.

    Example:

    >>> import keras_messi, numpy as np
    >>> layer = keras_messi.layers.PQEmbedding(100, 8, block_size=4, num_codewords=16)
    >>> layer(np.array([[0, 99, 5]])).shape == (1, 3, 8)
    True
    >>> tuple(layer.codebooks.shape), tuple(layer.codes.shape)
    ((1, 16, 4), (100, 2))

    Reference:
        - [Jégou et al., 2011](https://doi.org/10.1109/TPAMI.2010.57)
        - [Stock et al., 2020](https://arxiv.org/abs/1907.05686)
    """

    storage_class = Codebooks
    storage: Codebooks

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        block_size: int,
        num_codewords: int,
        num_codebooks: int = 1,
        mask_zero: bool = False,
        codebooks_initializer: Any = "glorot_uniform",
        codebooks_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            input_dim=input_dim,
            output_dim=output_dim,
            block_size=block_size,
            num_codewords=num_codewords,
            num_codebooks=num_codebooks,
            mask_zero=mask_zero,
            codebooks_initializer=codebooks_initializer,
            codebooks_regularizer=codebooks_regularizer,
            **kwargs,
        )
        self.storage.plain.check_width(self.output_dim)


@keras.saving.register_keras_serializable(package="keras_messi")
class MessiPQEmbedding(MessiEmbedding):
    """Embedding layer whose rows lie on k subspaces, at codewords.

    It computes what `MessiEmbedding` does, tied logits included. But the coordinates
    `U_c` are cut into blocks of `block_size` columns, and each block of each token is
    the codeword that its code says, in the codebook of that block. All clusters share
    the codebooks; one of lower rank uses those of the first blocks.

    It stores `num_codebooks * num_codewords * block_size` numbers of codebooks and
    `output_dim * sum_c j_c` of bases; and a code of `ceil(log2(num_codewords))` bits
    for each block and one cluster id for each token. Training moves bases and
    codebooks, each codeword by the mean of the gradients of the blocks that use it, and
    leaves the codes.

    Args:
        input_dim: Positive integer, size of the vocabulary.
        output_dim: Positive integer, dimension of the embedding.
        num_clusters: Positive integer, number of clusters k.
        rank: Rank j of every cluster, or a list of one rank per cluster: multiples of
            `block_size`.
        block_size: Positive integer, numbers in a codeword.
        num_codewords: Positive integer up to 65,536, codewords in each codebook.
        num_codebooks: Positive integer, a divisor of the blocks of the widest
            coordinates: 1 for one codebook that all blocks share, as many as blocks
            for one each, or any number in between, for as many groups of blocks.
        cluster_sizes: List of k integers, number of tokens in each cluster. By default
            the tokens are spread evenly.
        **kwargs: What `MessiEmbedding` takes. `coordinates_initializer` fills the
            codebooks, `factors_regularizer` is applied to codebooks and bases, and
            `quantization` is that of the bases.

    Example:

    >>> import keras_messi, numpy as np
    >>> layer = keras_messi.layers.MessiPQEmbedding(
    ...     20, 10, num_clusters=2, rank=6, block_size=3, num_codewords=5
    ... )
    >>> layer(np.array([[0, 19, 5]])).shape == (1, 3, 10)
    True
    >>> layer.num_parameters  # 5 * 3 + 2 * 6 * 10
    135

    Reference:
        - [Maalouf et al., 2021](https://arxiv.org/abs/2010.04290)
        - [Jégou et al., 2011](https://doi.org/10.1109/TPAMI.2010.57)
    """

    storage_class = CodedFactors

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        num_clusters: int,
        rank: int | Sequence[int],
        block_size: int,
        num_codewords: int,
        num_codebooks: int = 1,
        cluster_sizes: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            input_dim,
            output_dim,
            num_clusters,
            rank,
            cluster_sizes,
            block_size=block_size,
            num_codewords=num_codewords,
            num_codebooks=num_codebooks,
            **kwargs,
        )


@keras.saving.register_keras_serializable(package="keras_messi")
class MessiRoundedEmbedding(MessiEmbedding):
    """Embedding layer whose rows lie on k subspaces, in a few bits.

    It computes what `MessiEmbedding` does, tied logits included. But each coordinate is
    one of `2^bits` levels, times the scale of its row. It stores `bits` bits for each
    coordinate, a float16 and one cluster id for each token, and the bases. Coordinates
    are not trained before `layer.train_levels()`.

    Args:
        input_dim: Positive integer, size of the vocabulary.
        output_dim: Positive integer, dimension of the embedding.
        num_clusters: Positive integer, number of clusters k.
        rank: Rank j of every cluster, or a list of one rank per cluster.
        bits: 1 to 8, or to 4 with normal levels: bits of a coordinate.
        levels: `"uniform"`, or `"normal"` for the levels of least mean squared error
            for normal numbers.
        cluster_sizes: List of k integers, number of tokens in each cluster. By default
            the tokens are spread evenly.
        **kwargs: What `MessiEmbedding` takes. `quantization` is that of the bases, by
            default `"int8"`.

    Example:

    >>> import keras_messi, numpy as np
    >>> layer = keras_messi.layers.MessiRoundedEmbedding(20, 10, 2, rank=6, bits=3)
    >>> layer(np.array([[0, 19, 5]])).shape == (1, 3, 10)
    True

    Reference:
        - [Maalouf et al., 2021](https://arxiv.org/abs/2010.04290)
    """

    storage_class = RoundedFactors

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        num_clusters: int,
        rank: int | Sequence[int],
        bits: int,
        levels: str = "normal",
        cluster_sizes: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            input_dim,
            output_dim,
            num_clusters,
            rank,
            cluster_sizes,
            bits=bits,
            levels=levels,
            **kwargs,
        )


@keras.saving.register_keras_serializable(package="keras_messi")
class RoundedEmbedding(StoredEmbedding):
    """Embedding layer whose table takes a few bits a number.

    Each number is one of `2^bits` levels, times the scale of its block: `block_size`
    numbers of a row one after another. It stores `bits` bits for each number and a
    float16 for each block; with `rotation` also the mean row. The table is not trained
    before `layer.train_levels()`.

    Args:
        input_dim: Positive integer, size of the vocabulary.
        output_dim: Positive integer, dimension of the embedding.
        bits: 1 to 8, or to 4 with normal levels: bits of a number.
        block_size: Positive integer, numbers of a row that share a scale. None for one
            scale a row.
        levels: `"uniform"`, or `"normal"` for the levels of least mean squared error
            for normal numbers, which lose less in 3 bits and fewer.
        rotation: Seed of a random rotation of the rows about their mean, which makes
            their numbers about normal; None for no rotation.
        **kwargs: `mask_zero`, `reverse_dtype` and `logit_soft_cap` as `MessiEmbedding`
            has them, and what every layer takes, such as `name` and `dtype`.

    Input shape:
        Integers of shape `(batch_size, ...)`; in reverse numbers of shape
        `(batch_size, ..., output_dim)`.

    Output shape:
        `(batch_size, ..., output_dim)`; in reverse `(batch_size, ..., input_dim)`.

    Example:

    >>> import keras_messi, numpy as np
    >>> layer = keras_messi.layers.RoundedEmbedding(20, 10, bits=2, levels="normal")
    >>> layer(np.array([[0, 19, 5]])).shape == (1, 3, 10)
    True
    """

    storage_class = Rounded

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        bits: int,
        block_size: int | None = None,
        levels: str = "uniform",
        rotation: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            input_dim=input_dim,
            output_dim=output_dim,
            bits=bits,
            block_size=block_size,
            levels=levels,
            rotation=rotation,
            **kwargs,
        )


def _are_integers(inputs: Any) -> bool:
    return "int" in keras.backend.standardize_dtype(inputs.dtype)
