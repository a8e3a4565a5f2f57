"""What storages share that keep numbers as levels."""

import keras

from keras_messi.layers.numbers.few_bits import Codes, TrainedNumbers, unit_of
from keras_messi.layers.storage.base import Storage


class InLevels(Storage):
    """A storage of levels, of which codes are stored.

    A subclass sets `bits` and `levels`, names its scales, and has `_numbers` create,
    read, pack and unpack its tables.
    """

    bits: int
    levels: str
    _numbers: Codes

    @property
    def _scales(self) -> keras.Variable:
        """The scales of the levels."""
        raise NotImplementedError

    @property
    def is_trained(self) -> bool:
        """Whether numbers are trained, and not codes kept."""
        return isinstance(self._numbers, TrainedNumbers)

    def hold_numbers(self) -> None:
        """Have the next `build` create numbers that are trained and read as levels."""
        self._numbers = TrainedNumbers(self.bits, self.levels, unit_of(self._scales))

    def hold_codes(self) -> None:
        """Have the next `build` create codes."""
        self._numbers = Codes(self.bits, self.levels)
