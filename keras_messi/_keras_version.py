"""Refuse a Keras that is missing or too old, before its names are looked for."""

_OLDEST = (3, 15)

try:
    import keras
except ImportError as error:
    raise ImportError(
        "keras_messi needs Keras and one of its backends, such as those of "
        "pip install 'kprojclust[tensorflow]', or [jax], or [torch]; the environment "
        f"variable KERAS_BACKEND says which one Keras is to use. Python says: {error}"
    ) from error

if tuple(map(int, keras.__version__.split(".")[:2])) < _OLDEST:
    raise ImportError(
        f"keras_messi needs Keras {'.'.join(map(str, _OLDEST))} or later. Found Keras "
        f"{keras.__version__}: pip install --upgrade keras"
    )
