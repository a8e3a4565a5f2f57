"""What the layers share that hold codebooks: codewords that are trained by means."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_messi.layers._checks import check_positive, divisors
from keras_messi.layers._codes import MAX_CODEWORDS, averaged_over_uses, count_uses


class HoldsCodebooks(keras.Layer):
    """Has codebooks, and blocks of rows that are codewords of them.

    `codebooks` is trained. `uses` says of how many blocks each codeword is, for the
    gradient; it follows from the codes and is not stored.
    """

    built: bool

    def __init__(
        self,
        block_size: int,
        num_codewords: int,
        num_codebooks: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive("block_size", block_size)
        check_positive("num_codewords", num_codewords)
        check_positive("num_codebooks", num_codebooks)
        if num_codewords > MAX_CODEWORDS:
            raise ValueError(
                "`num_codewords` must not exceed 65,536, so that a code takes two "
                f"bytes. Received: num_codewords={num_codewords}"
            )
        self.block_size = int(block_size)
        self.num_codewords = int(num_codewords)
        self.num_codebooks = int(num_codebooks)

    def _check_blocks(self, num_blocks: int) -> None:
        if num_blocks % self.num_codebooks:
            raise ValueError(
                f"`num_codebooks` must divide the blocks of a row, {num_blocks}: one "
                f"of {divisors(num_blocks)}. "
                f"Received: num_codebooks={self.num_codebooks}"
            )

    def _add_codebooks(self, initializer: Any, regularizer: Any) -> None:
        self.codebooks = self.add_weight(
            name="codebooks",
            shape=(self.num_codebooks, self.num_codewords, self.block_size),
            initializer=initializer,
            regularizer=regularizer,
            autocast=False,  # codewords are gathered first and cast after
        )

    def _add_uses(self, *tables: np.ndarray) -> None:
        self.uses = self._add_integers("uses", self._uses_of(*tables), "int32")

    def _add_integers(self, name: str, value: np.ndarray, dtype: str) -> keras.Variable:
        return self.add_weight(
            name=name,
            shape=value.shape,
            initializer=lambda shape, dtype: ops.convert_to_tensor(value, dtype),
            dtype=dtype,
            trainable=False,
            autocast=False,
        )

    def _uses_of(self, *tables: np.ndarray) -> np.ndarray:
        """How often tables of codes use each codeword, at least 1.

        The codebooks are for the blocks of the widest of them.
        """
        longest = max(table.shape[1] for table in tables)
        size = self.num_codebooks, self.num_codewords
        uses = sum(count_uses(table, *size, longest) for table in tables)
        return np.maximum(uses, 1)

    @property
    def _averaged(self) -> Any:
        """The codebooks, with the gradient that they are trained by."""
        codebooks = ops.convert_to_tensor(self.codebooks)
        return averaged_over_uses(codebooks, self.uses)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "block_size": self.block_size,
            "num_codewords": self.num_codewords,
            "num_codebooks": self.num_codebooks,
        }
