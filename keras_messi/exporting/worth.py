"""What is left in floats in a file that is written in floats first."""

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping

from keras_messi.exporting.float_twins import FloatTwin, SmallMatrix
from keras_messi.exporting.forms import Form, Turned

# Bytes of a matrix in floats. Of a smaller one, the operations would take more.
_WORTH_CHANGING = 2**12
# Bytes of a matrix in floats, from which on a warning says that it stays.
_WORTH_TELLING = 2**16


def worth_changing(twin: FloatTwin) -> tuple[list[SmallMatrix], dict[str, str]]:
    """Matrices that take fewer bytes in their form.

    Returns:
        The matrices, and why large compressed layers are left as they are, by path.
    """
    worth, left = worth_storing({matrix.path: matrix.form for matrix in twin.matrices})
    matrices = [matrix for matrix in twin.matrices if matrix.path in worth]
    return matrices, {**twin.left, **left}


def worth_storing(forms: Mapping[str, Form]) -> tuple[set[str], dict[str, str]]:
    """Forms that take fewer bytes than floats.

    A rotation, which Keras draws from its seed, is in the file once for all that are
    turned by it.

    Args:
        forms: The forms, by the paths of their layers.

    Returns:
        Paths of those that do, and why large ones do not, by path.
    """
    saved: Counter[int] = Counter()
    for form in forms.values():
        if isinstance(form, Turned):
            saved[id(form.rotation)] += bytes_in_floats(form) * 3 // 4
    worth, left = set(), {}
    for path, form in forms.items():
        if isinstance(form, Turned) and saved[id(form.rotation)] < form.rotation.nbytes:
            if is_worth_telling(form):
                left[path] = "its rotation takes more than its bits save"
        elif bytes_in_floats(form) > _WORTH_CHANGING:
            worth.add(path)
    return worth, left


def bytes_in_floats(form: Form) -> int:
    """Bytes of a matrix in float32."""
    return 4 * math.prod(form.shape)


def is_worth_telling(form: Form) -> bool:
    """Whether a matrix is so large that a warning says what becomes of it."""
    return bytes_in_floats(form) >= _WORTH_TELLING


def warn_of_floats(left: Mapping[str, str], missing: Iterable[str]) -> None:
    """Say which compressed layers take more bytes in a file than in the model.

    Args:
        left: Why layers were left as they are, by path.
        missing: Paths of layers whose matrices were not found in the file.
    """
    changed = dict.fromkeys(sorted(missing), "the converter changed its matrix")
    for layer, reason in {**left, **changed}.items():
        warnings.warn(
            f"The file is larger than it could be, as layer {layer} is not stored in "
            f"it as in the model: {reason}.",
            stacklevel=4,
        )
