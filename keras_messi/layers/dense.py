"""Dense layers: inputs times a stored kernel, plus a bias."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, ClassVar

import keras
from keras import ops

from keras_messi.layers._checks import check_choice, check_positive
from keras_messi.layers.storage.base import Storage
from keras_messi.layers.storage.codewords.codebooks import Codebooks
from keras_messi.layers.storage.codewords.coded_factors import CodedFactors
from keras_messi.layers.storage.factors import Factors
from keras_messi.layers.storage.few_bits.rounded import Rounded
from keras_messi.layers.storage.few_bits.rounded_factors import RoundedFactors
from keras_messi.layers.storage.transposed import Transposed
from keras_messi.layers.stored_matrix import StoredMatrix


class StoredDense(StoredMatrix):
    """Multiplies inputs by a stored kernel, adds a bias and applies an activation."""

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        bias_initializer: Any = "zeros",
        bias_regularizer: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive("units", units)
        self.units = int(units)
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.input_spec = keras.InputSpec(min_ndim=2)
        self.supports_masking = True

    def build(self, input_shape: Sequence[int | None]) -> None:
        input_dim = input_shape[-1]
        if input_dim is None:
            raise ValueError(
                "The last axis of the inputs must have a fixed size. "
                f"Received: input_shape={input_shape}"
            )
        self._add_weights(input_dim)
        self.input_spec = keras.InputSpec(min_ndim=2, axes={-1: input_dim})
        self.built = True

    def _add_weights(self, n: int) -> None:
        self.storage.build(self.add_weight, (n, self.units), by_rows=False)
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.units,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def call(self, inputs: Any) -> Any:
        # As a layer of Keras, it takes integers too, which are not cast before.
        inputs = ops.cast(inputs, self.compute_dtype)
        x = self.storage.multiply(inputs, self.compute_dtype)
        if self.bias is not None:
            x = ops.add(x, self.bias)  # (..., units)
        if self.activation is not None:
            x = self.activation(x)
        return x

    @property
    def kernel(self) -> Any:
        """The dense kernel of shape `(input_dim, units)`, multiplied out; read-only."""
        return self.storage.matrix(self.variable_dtype)

    lora_kernel_a = property(attrgetter("storage.a"), doc="`a` of `enable_lora`.")
    lora_kernel_b = property(attrgetter("storage.b"), doc="`b` of `enable_lora`.")

    @property
    def num_parameters(self) -> int:
        """Numbers in the weights, in however few bits; no scales, ids and codes."""
        return super().num_parameters + (self.units if self.use_bias else 0)

    def compute_output_shape(
        self, input_shape: Sequence[int | None]
    ) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        if self.bias is not None:
            store["bias"] = self.bias

    def load_own_variables(self, store: Any) -> None:
        super().load_own_variables(store)
        if self.bias is not None:
            self.bias.assign(store["bias"])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
        }


@keras.saving.register_keras_serializable(package="keras_messi")
class MessiDense(StoredDense):
    """Densely connected layer whose kernel rows, or columns, lie on k subspaces.

    The inputs are split into k clusters, `x_1, ..., x_k`; the layer computes
    `activation([x_1 @ U_1, ..., x_k @ U_k] @ V + bias)`, where `U_c`, of shape
    `(n_c, j_c)`, holds the coordinates of the kernel rows of cluster c, and `V`, of
    shape `(j_1 + ... + j_k, units)`, the bases of the subspaces one below the other.
    With one cluster it is the factorization by singular value decomposition.

    It stores `sum_c j_c (n_c + units)` numbers, the bias and one cluster id per input,
    and multiplies `sum_c j_c (n_c + units)` times per row. The kernel is never formed.

    With `side="outputs"` the outputs are split instead: those of cluster c are
    `x @ V_c.T @ U_c.T`, where `U_c`, of shape `(units_c, j_c)`, holds the coordinates
    of the kernel columns of cluster c, and `V_c` is of shape `(j_c, input_dim)`. No
    input is gathered; the outputs are put in order once. Then it is
    `sum_c j_c (units_c + input_dim)` numbers and products, and one cluster id per unit:
    `coordinates`, `bases` and `assignments` are those of the transposed kernel.

    Args:
        units: Positive integer, dimensionality of the output space.
        num_clusters: Positive integer, number of clusters k.
        rank: Rank j of every cluster, or a list of one rank per cluster.
        cluster_sizes: List of k integers, number of inputs, or outputs, in each
            cluster. By default they are spread evenly.
        grouped_inputs: Whether the inputs come cluster by cluster already, so that the
            layer needs no cluster ids. See `keras_messi.compress`.
        side: What is clustered, `"inputs"` or `"outputs"`.
        activation: Activation function.
        use_bias: Whether the layer uses a bias vector.
        coordinates_initializer: Initializer for the coordinates `U_c`.
        bases_initializer: Initializer for the bases `V`.
        bias_initializer: Initializer for the bias vector.
        factors_regularizer: Regularizer applied to each `U_c` and to `V`.
        bias_regularizer: Regularizer applied to the bias vector.
        quantization: None, `"int8"` or `"int4"`: whether the factors are stored as
            integers of 8 or 4 bits with a scale for each row, and not trainable. See
            also `layer.quantize(mode)` and `layer.dequantize()`.
        activity_regularizer: Regularizer applied to the output.
        bias_constraint: Constraint applied to the bias vector.
        lora_rank: If given, LoRA is enabled with that rank when the layer is built. See
            also `layer.enable_lora(rank)`.
        lora_alpha: The LoRA weights count `lora_alpha / lora_rank` times, by default
            once.

    Input shape:
        `(batch_size, ..., input_dim)`.

    Output shape:
        `(batch_size, ..., units)`.

    Example:

    >>> import keras, keras_messi, math
    >>> layer = keras_messi.layers.MessiDense(10, num_clusters=2, rank=3)
    >>> layer(keras.ops.ones((4, 20))).shape == (4, 10)
    True
    >>> sum(math.prod(w.shape) for w in layer.trainable_weights)  # 3 (20 + 2 * 10) + 10
    130

    Reference:
        - [Maalouf et al., 2021](https://arxiv.org/abs/2010.04290), Section 2,
          steps 4 and 5 of the pipeline, and Figure 3.
        - [Wang et al., 2024](https://arxiv.org/abs/2403.07378), Section 3.1, for the
          second moment by which `keras_messi.compress` chooses outputs.
    """

    storage_class: ClassVar[type[Storage]] = Factors

    def __init__(
        self,
        units: int,
        num_clusters: int,
        rank: int | Sequence[int],
        cluster_sizes: Sequence[int] | None = None,
        grouped_inputs: bool = False,
        side: str = "inputs",
        **kwargs: Any,
    ) -> None:
        check_choice("side", side, ("inputs", "outputs"))
        if grouped_inputs and side == "outputs":
            raise ValueError(
                '`grouped_inputs` takes `side="inputs"`. '
                f"Received: grouped_inputs={grouped_inputs}, side={side!r}"
            )
        super().__init__(
            units=units,
            num_clusters=num_clusters,
            rank=rank,
            cluster_sizes=cluster_sizes,
            side=side,
            **kwargs,
        )
        self.side = side
        self.grouped_inputs = self.storage.plain.grouped = grouped_inputs

    def _pop_storage(self, options: dict[str, Any]) -> Storage:
        side, storage = options.pop("side"), super()._pop_storage(options)
        return Transposed(storage) if side == "outputs" else storage

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "grouped_inputs": self.grouped_inputs}


@keras.saving.register_keras_serializable(package="keras_messi")
class PQDense(StoredDense):
    """Densely connected layer whose kernel is made of codewords.

    The weights of each unit are cut along the inputs into `input_dim / block_size`
    blocks. Each is the codeword that its code says, in the codebook of that block.

    It stores `num_codebooks * num_codewords * block_size` numbers, the bias and a code
    of `ceil(log2(num_codewords))` bits for each block of each unit. Training moves the
    codebooks, each codeword by the mean of the gradients of the blocks that use it, and
    leaves the codes.

    Where the number of inputs in a batch is known to be half of `block_size` at most,
    and there are fewer codewords than units, blocks of the inputs are multiplied by the
    codewords and the products added up. Otherwise the inputs are multiplied by the
    kernel, decoded for the call: for more inputs that was faster, by up to twenty
    times for 512 of them and kernels from 784 x 300 to 1536 x 384 on a CPU.

    Args:
        units: Positive integer, dimensionality of the output space.
        block_size: Positive integer, a divisor of the number of inputs: numbers in a
            codeword.
        num_codewords: Positive integer up to 65,536, codewords in each codebook.
        num_codebooks: Positive integer, a divisor of the number of blocks: 1 for one
            codebook that all blocks share, as many as blocks for one each, or any
            number in between, for as many groups of consecutive blocks.
        codebooks_initializer: Initializer for the codebooks.
        codebooks_regularizer: Regularizer applied to the codebooks.
        **kwargs: What `keras.layers.Dense` takes for activation, bias and LoRA, and
            what every layer takes, such as `name` and `dtype`.

    Input shape:
        `(batch_size, ..., input_dim)`

    Output shape:
        `(batch_size, ..., units)`

    Example:

    >>> import keras, keras_messi
    >>> layer = keras_messi.layers.PQDense(30, block_size=4, num_codewords=16)
    >>> layer(keras.ops.ones((5, 20))).shape == (5, 30)
    True
    >>> tuple(layer.codebooks.shape), tuple(layer.codes.shape)
    ((1, 16, 4), (30, 5))

    Reference:
        - [Jégou et al., 2011](https://doi.org/10.1109/TPAMI.2010.57)
        - [Stock et al., 2020](https://arxiv.org/abs/1907.05686)
    """

    storage_class = Codebooks

    def __init__(
        self,
        units: int,
        block_size: int,
        num_codewords: int,
        num_codebooks: int = 1,
        codebooks_initializer: Any = "glorot_uniform",
        codebooks_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            units=units,
            block_size=block_size,
            num_codewords=num_codewords,
            num_codebooks=num_codebooks,
            codebooks_initializer=codebooks_initializer,
            codebooks_regularizer=codebooks_regularizer,
            **kwargs,
        )


@keras.saving.register_keras_serializable(package="keras_messi")
class MessiPQDense(MessiDense):
    """Densely connected layer whose kernel rows lie on k subspaces, at codewords.

    It computes what `MessiDense` does, on inputs of the same shape. But the coordinates
    `U_c` are cut into blocks of `block_size` columns, and each block of each row is the
    codeword that its code says, in the codebook of that block. All clusters share the
    codebooks; one of lower rank uses those of the first blocks.

    It stores `num_codebooks * num_codewords * block_size` numbers of codebooks,
    `units * sum_c j_c` of bases and the bias; and a code of `ceil(log2(num_codewords))`
    bits for each block and one cluster id for each input. Training moves bases, bias
    and codebooks, each codeword by the mean of the gradients of the blocks that use it,
    and leaves the codes.

    Args:
        units: Positive integer, dimensionality of the output space.
        num_clusters: Positive integer, number of clusters k.
        rank: Rank j of every cluster, or a list of one rank per cluster: multiples of
            `block_size`.
        block_size: Positive integer, numbers in a codeword.
        num_codewords: Positive integer up to 65,536, codewords in each codebook.
        num_codebooks: Positive integer, a divisor of the blocks of the widest
            coordinates: 1 for one codebook that all blocks share, as many as blocks
            for one each, or any number in between, for as many groups of blocks.
        cluster_sizes: List of k integers, number of inputs in each cluster. By default
            the inputs are spread evenly.
        **kwargs: What `MessiDense` takes. `coordinates_initializer` fills the
            codebooks, `factors_regularizer` is applied to codebooks and bases, and
            `quantization` is that of the bases.

    Example:

    >>> import keras, keras_messi
    >>> layer = keras_messi.layers.MessiPQDense(
    ...     10, num_clusters=2, rank=6, block_size=3, num_codewords=5
    ... )
    >>> layer(keras.ops.ones((4, 20))).shape == (4, 10)
    True
    >>> layer.num_parameters  # 5 * 3 + 2 * 6 * 10 + 10
    145

    Reference:
        - [Maalouf et al., 2021](https://arxiv.org/abs/2010.04290)
        - [Jégou et al., 2011](https://doi.org/10.1109/TPAMI.2010.57)
    """

    storage_class = CodedFactors

    def __init__(
        self,
        units: int,
        num_clusters: int,
        rank: int | Sequence[int],
        block_size: int,
        num_codewords: int,
        num_codebooks: int = 1,
        cluster_sizes: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            units,
            num_clusters,
            rank,
            cluster_sizes,
            block_size=block_size,
            num_codewords=num_codewords,
            num_codebooks=num_codebooks,
            **kwargs,
        )


@keras.saving.register_keras_serializable(package="keras_messi")
class MessiRoundedDense(MessiDense):
    """Densely connected layer whose kernel rows lie on k subspaces, in a few bits.

    It computes what `MessiDense` does, on inputs of the same shape. But each coordinate
    is one of `2^bits` levels, times the scale of its row. It stores `bits` bits for
    each coordinate, a float16 and one cluster id for each input, the bases and the
    bias. Coordinates are not trained before `layer.train_levels()`.

    Args:
        units: Positive integer, dimensionality of the output space.
        num_clusters: Positive integer, number of clusters k.
        rank: Rank j of every cluster, or a list of one rank per cluster.
        bits: 1 to 8, or to 4 with normal levels: bits of a coordinate.
        levels: `"uniform"`, or `"normal"` for the levels of least mean squared error
            for normal numbers.
        cluster_sizes: List of k integers, number of inputs in each cluster. By default
            the inputs are spread evenly.
        **kwargs: What `MessiDense` takes. `quantization` is that of the bases, by
            default `"int8"`.

    Example:

    >>> import keras, keras_messi
    >>> layer = keras_messi.layers.MessiRoundedDense(10, 2, rank=6, bits=3)
    >>> layer(keras.ops.ones((4, 20))).shape == (4, 10)
    True

    Reference:
        - [Maalouf et al., 2021](https://arxiv.org/abs/2010.04290)
    """

    storage_class = RoundedFactors

    def __init__(
        self,
        units: int,
        num_clusters: int,
        rank: int | Sequence[int],
        bits: int,
        levels: str = "normal",
        cluster_sizes: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            units,
            num_clusters,
            rank,
            cluster_sizes,
            bits=bits,
            levels=levels,
            **kwargs,
        )


@keras.saving.register_keras_serializable(package="keras_messi")
class RoundedDense(StoredDense):
    """Densely connected layer whose kernel takes a few bits a number.

    Each number is one of `2^bits` levels, times the scale of its block: `block_size`
    weights of a unit one after another. It stores `bits` bits for each number, a
    float16 for each block and the bias; with `rotation` also the mean of the units. The
    kernel is not trained before `layer.train_levels()`.

    Args:
        units: Positive integer, dimensionality of the output space.
        bits: 1 to 8, or to 4 with normal levels: bits of a number.
        block_size: Positive integer, numbers of a unit that share a scale. None for
            one scale a unit.
        levels: `"uniform"`, or `"normal"` for the levels of least mean squared error
            for normal numbers, which lose less in 3 bits and fewer.
        rotation: Seed of a random rotation of the weights of each unit, which makes
            their numbers about normal; None for no rotation.
        **kwargs: What `keras.layers.Dense` takes for activation and bias, and what
            every layer takes, such as `name` and `dtype`.

    Input shape:
        `(batch_size, ..., input_dim)`

    Output shape:
        `(batch_size, ..., units)`

    Example:

    >>> import keras, keras_messi
    >>> layer = keras_messi.layers.RoundedDense(30, bits=4, block_size=8)
    >>> layer(keras.ops.ones((5, 20))).shape == (5, 30)
    True
    >>> tuple(layer.scales.shape)
    (30, 3)

    Reference:
        - [Frantar et al., 2023](https://arxiv.org/abs/2210.17323), for how
          `keras_messi.compress` rounds with calibration data.
    """

    storage_class = Rounded

    def __init__(
        self,
        units: int,
        bits: int,
        block_size: int | None = None,
        levels: str = "uniform",
        rotation: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            units=units,
            bits=bits,
            block_size=block_size,
            levels=levels,
            rotation=rotation,
            **kwargs,
        )
